"""What the benchmarks share: random models, servers over real and scripted engines, clients, a browser."""

import contextlib
import http.client
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import tiktoken
import torch
from torch import Tensor

import chat_web
import checkpoint

# ---- A random model ----------------------------------------------------------------------------------------

VOCABULARY = 32768
TABLES = ("transformer.wte.", "value_embeds.", "bigram_embed.")  # a step reads one row of each


class NoTokenizer:
    """No token is special: a reply goes on for as long as it is timed."""

    special, stops, size = dict.fromkeys(checkpoint.SPECIALS, -1), frozenset(), VOCABULARY


def channels(depth: int) -> int:
    return -(-depth * 64 // 128) * 128


def random_weights(depth: int, device: str = "cpu") -> dict[str, Tensor]:
    """The newest shape at nanochat's sizes for a depth, in the dtypes that nanochat stores."""
    era, C, weights = checkpoint.ERAS[0], channels(depth), {}
    sizes = {"R": VOCABULARY, "C": C, "F": 4 * C, "L": depth, "N": C, "K": C // 128, "G": era.gate_columns}
    torch.manual_seed(1)
    for name, shape in checkpoint.expected_shapes(era, sizes).items():
        dtype = torch.bfloat16 if name.startswith(TABLES) else torch.float32
        weights[name] = torch.randn(shape, device=device, dtype=dtype) * 0.02
    return weights


def random_meta(depth: int) -> dict:
    sizes = {"sequence_len": 2048, "vocab_size": VOCABULARY, "n_head": channels(depth) // 128}
    return {"model_config": sizes | {"window_pattern": "SSSL"}}


def random_checkpoint(depth: int, dtype: torch.dtype, device: str = "cpu") -> checkpoint.Checkpoint:
    """A random model as `checkpoint.read` gives one, without a file."""
    weights = random_weights(depth, device)
    for name, tensor in weights.items():
        weights[name] = tensor.to(dtype if tensor.dim() > 1 else torch.float32)
    era, config, weights, notes = checkpoint.adapt(weights, random_meta(depth), {})
    return checkpoint.Checkpoint(f"random d{depth}", era, config, weights, NoTokenizer, 0, tuple(notes))


def write_checkpoint(folder: Path, depth: int) -> None:
    """A random model's files, as nanochat leaves them."""
    torch.save(random_weights(depth), folder / "model_000001.pt")
    (folder / "meta_000001.json").write_text(json.dumps(random_meta(depth)))
    pairs = VOCABULARY - 256 - len(checkpoint.SPECIALS)
    tokenizer = make_tokenizer(number.to_bytes(2, "big") for number in range(pairs))
    (folder / "tokenizer.pkl").write_bytes(pickle.dumps(tokenizer.encoding, protocol=4))


def make_tokenizer(longer=()) -> checkpoint.Tokenizer:
    """Its tokens are the 256 bytes, then these longer ones, then nanochat's special tokens."""
    tokens = [*(bytes([byte]) for byte in range(256)), *longer]
    special = {name: len(tokens) + number for number, name in enumerate(checkpoint.SPECIALS)}
    ranks = {token: rank for rank, token in enumerate(tokens)}
    encoding = tiktoken.Encoding("bench", pat_str=r"\s+|\S+", mergeable_ranks=ranks, special_tokens=special)
    return checkpoint.Tokenizer(encoding, special)


# ---- Servers -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def started(*flags: str, checkout: Path = ROOT, **variables: str) -> Iterator[tuple]:
    """A checkout's server on a free port, from when it is ready: the process, the port and the log file."""
    command = [sys.executable, "chat_web.py", "--host", "127.0.0.1", "-p", "0", *flags]
    pipes = {"stdout": subprocess.PIPE, "text": True, "cwd": checkout, "env": os.environ | variables}
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(command, stderr=log, **pipes) as process:
        try:
            line = next((line for line in process.stdout if line.startswith("Server ready at ")), None)
            if line is None:
                log.seek(0)
                raise SystemExit(f"the server in {checkout} did not start:\n{log.read()}")
            yield process, int(line.rpartition(":")[2]), log
        finally:
            process.kill()


class ScriptedEngine:
    """Says the same tokens each time, with a pause before each that stands for a GPU's work."""

    context, reused, seed = 4096, 0, 0

    def __init__(self, tokens: list[int], pause: float = 0.0):
        self.tokens, self.pause = tokens, pause

    def shared_prefix(self, prompt: list[int]) -> int:
        return 0

    def generate(self, *_, **__) -> Iterator[int]:
        for token in self.tokens:
            if self.pause:
                time.sleep(self.pause)
            yield token


def scripted_app(workers: int, tokenizer, engine: ScriptedEngine) -> chat_web.ChatServer:
    app = chat_web.ChatServer(chat_web.parse_args(["-n", str(workers)]), chat_web.Page(ROOT / "ui.html"))
    for number in range(workers):
        app.pool.add(chat_web.Worker(number, f"cuda:{number}", engine))
    app.open("scripted", tokenizer)
    return app


@contextlib.contextmanager
def serving(app: chat_web.ChatServer) -> Iterator[int]:
    """The application behind a socket, in a thread; yields the port."""
    server = chat_web.Server(chat_web.listen("127.0.0.1", 0), app)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.port
    finally:
        server.shutdown()


# ---- Clients -----------------------------------------------------------------------------------------------


def question(content: str = "Hi", **fields) -> dict:
    return {"messages": [{"role": "user", "content": content}], **fields}


def request_bytes(body: dict) -> bytes:
    data = json.dumps(body).encode()
    head = f"Content-Type: application/json\r\nConnection: close\r\nContent-Length: {len(data)}"
    return f"POST /chat/completions HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + data


def connect(port: int, address: str = "127.0.0.1") -> socket.socket:
    """From one of this machine's own addresses: Linux has all of 127.0.0.0/8."""
    return socket.create_connection(("127.0.0.1", port), 120, (address, 0))


def stream(port: int, body: dict, address: str = "127.0.0.1") -> tuple[float, bytes]:
    """Asks for a reply: the seconds to its first token, and all bytes that came."""
    began, first, received = time.perf_counter(), 0.0, []
    with connect(port, address) as sock:
        sock.sendall(request_bytes(body))
        while data := sock.recv(2**20):
            received.append(data)
            first = first or b'"token"' in data and time.perf_counter() - began
    return first, b"".join(received)


def fetch(port: int, path: str, body: dict | None = None) -> bytes:
    """The body of a response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST" if body else "GET", path, body and json.dumps(body))
    return connection.getresponse().read()


@contextlib.contextmanager
def browser() -> Iterator:
    """Chromium by playwright: Debian's, or the one that playwright has downloaded."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu"]
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        yield chromium
        chromium.close()
