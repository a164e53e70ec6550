"""What the chat server promises, one test per promise. Beside the requirements it needs pytest only.

Most tests use a tiny random model or a scripted engine and need a second or less. The goldens (checkpoints of
every era with the tokens that nanochat's own code gave) are looked for in $NANOCHAT_GOLDENS, else in
../shared/goldens; without them those tests skip, except in CI. No test asserts a time; where one waits, it
waits for an event, or, where something must not happen, a moment.
"""

import ast
import collections
import contextlib
import dataclasses
import http.client
import inspect
import itertools
import json
import os
import pickle
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tiktoken
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from werkzeug.test import Client, EnvironBuilder

import chat_web
import checkpoint
import engine

HERE = Path(__file__).parent
GOLDENS = Path(os.environ.get("NANOCHAT_GOLDENS", HERE.parent / "shared" / "goldens"))
FLOAT32 = torch.float32
THREADS = torch.get_num_threads()  # as everyone has them who sets nothing
torch.set_num_threads(1)  # the models here are tiny, and threads only wait for each other

# ---- Stand-ins ---------------------------------------------------------------------------------------------


def byte_encoding() -> tiktoken.Encoding:
    """A tokenizer in nanochat's layout whose every token is one byte, so that an emoji is four."""
    specials = {name: 256 + number for number, name in enumerate(checkpoint.SPECIALS)}
    ranks = {bytes([byte]): byte for byte in range(256)}
    return tiktoken.Encoding("rustbpe", pat_str=r"\s+|\S+", mergeable_ranks=ranks, special_tokens=specials)


def byte_tokenizer() -> checkpoint.Tokenizer:
    encoding = byte_encoding()
    return checkpoint.Tokenizer(encoding, encoding._special_tokens)


TOKENIZER = byte_tokenizer()
SPECIAL = TOKENIZER.special
END = SPECIAL["<|assistant_end|>"]
V = TOKENIZER.size


class ScriptedEngine:
    """Says what it was told to: texts, tokens, exceptions, what gives them. Remembers what it was asked."""

    def __init__(self, *say, context=4096, lost=False):
        self.say, self.context, self.asked, self.reused, self.seed = say, context, [], 0, 1
        self.lost, self.mode = lost, "scripted"  # lost: as if its GPU were gone
        self.going = threading.Event()  # set by its first token
        self.said = 0

    def shared_prefix(self, prompt):
        return 0

    def restart(self):
        if self.lost:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def generate(self, prompt, max_tokens, temperature=0.0, top_k=0, seed=0, top_p=1.0, **_):
        sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        self.asked.append({"prompt": prompt, "max_tokens": max_tokens} | sampling)
        for word in self.say:
            if callable(word):
                word = word()
            if isinstance(word, Exception):
                raise word
            for token in [word] if isinstance(word, int) else TOKENIZER.encode(word):
                self.said += 1
                self.going.set()
                yield token


class EndlessEngine(ScriptedEngine):
    def __init__(self):
        super().__init__()
        self.say = itertools.repeat(lambda: time.sleep(0.005) or "x")


def make_app(*engines, **flags) -> chat_web.ChatServer:
    """The application over scripted engines, as the given flags set it up."""
    argv = [part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    app = chat_web.ChatServer(chat_web.parse_args(argv), chat_web.Page(HERE / "ui.html"))
    for number, scripted in enumerate(engines):
        app.pool.add(chat_web.Worker(number, f"cuda:{number}", scripted))
    app.open("d4, sft, step 7", TOKENIZER)
    return app


def take(app, check=lambda: None, address="here") -> chat_web.Worker:
    return app.pool.take(address, lambda worker: 0, check)


@contextlib.contextmanager
def serving(app):
    """The application behind a real socket; yields the port."""
    server = chat_web.Server(chat_web.listen("127.0.0.1", 0), app)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.port
    finally:
        server.shutdown()
        thread.join()


def body(content="Hi", **fields) -> dict:
    return {"messages": [{"role": "user", "content": content}], **fields}


def post(app, json_body, **kwargs):
    """The reply of the in-process client, read to its end and closed."""
    with Client(app).post("/chat/completions", json=json_body, **kwargs) as response:
        response.get_data()
        return response


def events(raw: bytes) -> list[dict]:
    """What an SSE client reads."""
    blocks = raw.decode().split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") for block in blocks)
    return [json.loads(block[6:]) for block in blocks]


def text_of(raw: bytes) -> str:
    return "".join(item.get("token", "") for item in events(raw))


def until(condition, seconds=20):
    """Waits for a condition; the clock only bounds a failure."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def request_bytes(json_body, path="/chat/completions", head="") -> bytes:
    data = json.dumps(json_body).encode()
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def together(*works) -> list:
    """What these give, each in a thread of its own."""
    with ThreadPoolExecutor(len(works)) as threads:
        return [future.result() for future in [threads.submit(work) for work in works]]


def connect(port, address="127.0.0.1") -> socket.socket:
    """A connection to the server from an address of this machine."""
    return socket.create_connection(("127.0.0.1", port), 20, (address, 0))


def talk(port, data: bytes, address="127.0.0.1") -> bytes:
    """Sends bytes and reads until the server closes."""
    with connect(port, address) as sock:
        sock.sendall(data)
        return read_all(sock)


def read_all(sock) -> bytes:
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


def read_until(sock, marker: bytes) -> bytes:
    data = b""
    while marker not in data:
        part = sock.recv(4096)
        assert part, f"the connection ended before {marker}: {data}"
        data += part
    return data


@contextlib.contextmanager
def asking(app, json_body=None, path="/chat/completions"):
    """A connection to the application over which a request has been sent."""
    with serving(app) as port, connect(port) as sock:
        sock.sendall(request_bytes(json_body or body(), path))
        yield sock


# A model of any era, as nanochat would have written it ------------------------------------------------------

CONFIG = {"sequence_len": 64, "vocab_size": V, "n_layer": 4, "n_head": 4, "n_kv_head": 2, "n_embd": 48}
ERA_NAMES = "R2 R1 E G VA VB VC W P".split()  # as the goldens call them


def random_weights(era_name: str, channels=48) -> dict:
    """Seeded normals under the keys and in the shapes of an era."""
    era = checkpoint.ERAS[ERA_NAMES.index(era_name)]
    sizes = {"R": 320, "C": channels, "F": 4 * channels, "L": 4, "N": channels // 2, "K": 2, "B": 5 * V}
    rng = torch.Generator().manual_seed(0)
    shapes = checkpoint.expected_shapes(era, sizes | {"G": era.gate_columns})
    return {key: torch.randn(shape, generator=rng) * 0.3 for key, shape in shapes.items()}


def write_tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.pkl").write_bytes(pickle.dumps(byte_encoding(), protocol=4))


def write_pair(folder: Path, step=1, weights=None, meta=None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(random_weights("R2") if weights is None else weights, folder / f"model_{step:06d}.pt")
    meta = {"model_config": CONFIG | {"window_pattern": "SSSL"}} if meta is None else meta
    (folder / f"meta_{step:06d}.json").write_text(json.dumps(meta))


@pytest.fixture
def base(tmp_path, monkeypatch) -> Path:
    """An empty base directory of nanochat's, with a tokenizer."""
    write_tokenizer(tmp_path / "base" / "tokenizer")
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path / "base"))
    return tmp_path / "base"


def adapted(era_name: str, meta=None, context=None):
    """checkpoint.adapt over a random model of an era: its config, with this context, and its weights."""
    meta = meta or {"model_config": CONFIG | {"window_pattern": "SSSL"}}
    _, config, weights, _ = checkpoint.adapt(random_weights(era_name), meta, {})
    return dataclasses.replace(config, sequence_len=context or config.sequence_len), weights


def tiny_model(era_name="R2", context=64, device="cpu", kind=engine.FastGPT) -> engine.GPT:
    config, weights = adapted(era_name, context=context)
    return kind(config, {key: tensor.to(device) for key, tensor in weights.items()})


class NoTools:
    """A tokenizer to which no token is special: a reply neither stops nor calculates."""

    special, stops = dict.fromkeys(checkpoint.SPECIALS, -1), frozenset()


def replied(model, prompt, *settings) -> list[int]:
    """What an engine says that has read nothing before."""
    return list(engine.Engine(model, NoTools).generate(prompt, *settings))


def find(*args, **kwargs) -> checkpoint.Found:
    """checkpoint.find in the base directory that the environment names."""
    return checkpoint.find(checkpoint.base_dir(), *args, **kwargs)


def refusal(call, *args) -> str:
    """The sentence with which an operator's mistake ends."""
    with pytest.raises((SystemExit, checkpoint.CheckpointError)) as caught:
        call(*args)
    sentence = caught.value.args[0]
    assert isinstance(sentence, str) and "\n" not in sentence and "Traceback" not in sentence
    return sentence


# ---- Goldens: every era says what nanochat's own code said -------------------------------------------------


GOLDEN_FILES = sorted(GOLDENS.glob("*/golden/*.json"))


def require_goldens():
    if not GOLDEN_FILES:
        assert not os.environ.get("CI"), f"CI needs the goldens in {GOLDENS}"
        pytest.skip(f"no goldens in {GOLDENS}")


def read_npz(path: Path) -> dict[str, torch.Tensor]:
    """The float32 vectors of a numpy archive: a zip file in which each one stands behind a header."""
    vectors = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            data = archive.read(name)
            start = 10 + int.from_bytes(data[8:10], "little")
            assert data.startswith(b"\x93NUMPY\x01") and b"'descr': '<f4'" in data[:start]
            vectors[name.removesuffix(".npy")] = torch.frombuffer(bytearray(data[start:]), dtype=FLOAT32)
    return vectors


def golden_json(name: str):
    require_goldens()
    return json.loads((GOLDENS / name).read_text())


@pytest.fixture(params=GOLDEN_FILES or [None], ids=lambda path: path and f"{path.parts[-3]}-{path.stem}")
def golden(request, monkeypatch):
    """What a golden file expects, its logits, and the checkpoint as `find` and `read` give it in float32."""
    require_goldens()
    expected = json.loads(request.param.read_text())
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(request.param.parent.parent))
    found = find(expected["source"], expected["tag"], expected["step"])
    return expected, read_npz(request.param.with_suffix(".npz")), checkpoint.read(found, FLOAT32)


def roomy(model: checkpoint.Checkpoint, dtype=FLOAT32, kind=engine.FastGPT) -> engine.GPT:
    """The model with a context that holds every golden prompt; its windows have lengths of their own."""
    weights = {key: tensor.to(dtype) if tensor.dim() > 1 else tensor for key, tensor in model.weights.items()}
    return kind(dataclasses.replace(model.config, sequence_len=1024), weights)


def tables_of(expected, model) -> tuple[str, bool]:
    """The precision of this model's rotary tables, and whether its golden was computed with the same."""
    name = "rope_bf16" if model.config.rope_bf16 else "rope_fp32"
    return name, name == expected["rotary_tables"]


@torch.inference_mode()
def last_logits(model: engine.GPT, ids: list[int]) -> torch.Tensor:
    return model.logits(model.hidden(torch.tensor([ids]))[0, -1])


def test_every_era_is_recognised_from_its_checkpoint_alone(golden):
    expected, _, model = golden
    name = {"P1": "P", "P2": "P", "L": "W"}.get(expected["era"].split()[0], expected["era"].split()[0])
    assert model.era == checkpoint.ERAS[ERA_NAMES.index(name)]
    effective, constants, config = expected["effective_config"], expected["constants"], model.config
    for field in ("sequence_len", "vocab_size", "n_layer", "n_head", "n_kv_head", "n_embd"):
        assert getattr(config, field) == effective[field]
    assert config.softcap == constants["softcap"] and config.qk_scale == constants["qk_scale"]
    assert config.rope_base == constants["rope_base"]


def test_logits_are_nanochats(golden):
    expected, logits, model = golden
    tables, same = tables_of(expected, model)
    gpt = roomy(model)
    for prompt in expected["prompts"]:
        got, name = last_logits(gpt, prompt["ids"]), prompt["name"]
        if f"{name}.logits" in logits:
            assert (got - logits[f"{name}.logits"]).abs().max() < (5e-5 if same else 5e-2), name
        if not same and f"{name}.logits_{tables}" in logits:
            assert (got - logits[f"{name}.logits_{tables}"]).abs().max() < 5e-5, name


def test_greedy_tokens_are_nanochats(golden):
    expected, _, model = golden
    tables, same = tables_of(expected, model)
    naive, full = engine.Engine(roomy(model), NoTools), engine.Engine(roomy(model), model.tokenizer)
    for prompt in expected["prompts"]:
        want = prompt["greedy"] if same else prompt.get(f"greedy_{tables}", prompt["greedy"])
        writer = full if prompt["greedy_source"] == "engine" else naive
        assert list(writer.generate(prompt["ids"], expected["n_new"])) == want, prompt["name"]


def test_greedy_tokens_are_the_same_within_the_models_own_context(golden):
    expected, _, model = golden
    tables, same = tables_of(expected, model)
    context, gpt = model.config.sequence_len, engine.GPT(model.config, dict(model.weights))
    for prompt in expected["prompts"]:
        greedy, ids = prompt.get("greedy" if same else f"greedy_{tables}"), prompt["ids"]
        writer = engine.Engine(gpt, model.tokenizer if prompt["greedy_source"] == "engine" else NoTools)
        if greedy is not None and len(ids) > context:
            with pytest.raises(ValueError, match=rf"{len(ids)} tokens.*{context}"):
                writer.generate(ids, expected["n_new"])
        elif greedy is not None:
            said = list(writer.generate(ids, expected["n_new"]))
            assert said == greedy[: context - len(ids)], prompt["name"]


def test_sampled_tokens_are_nanochats(golden):
    drawn = float(torch.empty(1).exponential_(generator=torch.Generator().manual_seed(1)))
    if round(drawn, 4) != 0.0630:
        pytest.skip("this torch draws other random numbers than 2.13, with which the goldens were recorded")
    expected, _, model = golden
    writer = engine.Engine(roomy(model), model.tokenizer)
    for prompt in expected["prompts"]:
        for draw in prompt.get("sampled", []):
            settings = (draw["max_tokens"], draw["temperature"], draw["top_k"] or 0, draw["seed"])
            said = list(writer.generate(prompt["ids"], *settings))
            assert said == draw["tokens"], (prompt["name"], settings)


def as_text(content: str | list[dict]) -> str:
    """The content of a golden's message, as this server has it."""
    if isinstance(content, str):
        return content
    calls = {"text": "{}", "python": "<|python_start|>{}<|python_end|>"}
    calls["python_output"] = "<|output_start|>{}<|output_end|>"
    return "".join(calls[part["type"]].format(part["text"]) for part in content)


def test_conversations_are_rendered_as_training_wrote_them(golden):
    expected, _, model = golden
    for prompt in expected["prompts"]:
        if prompt["kind"] == "completion":
            messages = [m | {"content": as_text(m["content"])} for m in prompt["conversation"]["messages"]]
            if messages[-1]["role"] == "assistant":
                messages.pop()
            assert model.tokenizer.render(messages) == prompt["ids"], prompt["name"]


def test_bfloat16_stays_close_to_float32(golden):
    expected, _, model = golden
    exact, rounded = roomy(model), roomy(model, torch.bfloat16)
    assert rounded.weights["lm_head.weight"].dtype == torch.bfloat16
    for prompt in expected["prompts"]:
        off = last_logits(exact, prompt["ids"]) - last_logits(rounded, prompt["ids"])
        assert off.abs().max() < 0.3  # logits reach 15; these random nets exaggerate what trained ones show


def cpu(monkeypatch, machine="x86_64", bfloat16=True):
    """As if the CPU were another one."""
    monkeypatch.setattr(engine.platform, "machine", lambda: machine)
    monkeypatch.setattr(engine, "native_bfloat16", lambda: bfloat16)


@pytest.mark.parametrize("machine, sparse", [("aarch64", 0), ("x86_64", 0), ("x86_64", 10**9)])
def test_however_a_cpu_multiplies_no_golden_moves(golden, machine, sparse, monkeypatch):
    cpu(monkeypatch, machine)
    monkeypatch.setattr(engine, "MIN_SPARSE_BYTES", sparse)
    expected, logits, model = golden
    (_, same), gpt = tables_of(expected, model), roomy(model)
    assert gpt.weights["transformer.h.0.mlp.c_fc.weight"].dim() == (3 if machine == "x86_64" else 2)
    for prompt in expected["prompts"]:
        if same and prompt["greedy_source"] == "engine" and f"{prompt['name']}.logits" in logits:
            want = logits[f"{prompt['name']}.logits"]
            assert (last_logits(gpt, prompt["ids"]) - want).abs().max() < 5e-5
            writer = engine.Engine(gpt, model.tokenizer)
            assert list(writer.generate(prompt["ids"], expected["n_new"])) == prompt["greedy"]


def test_the_plain_model_says_what_nanochat_says_too(golden):
    expected, logits, model = golden
    gpt = roomy(model, kind=engine.GPT)
    for prompt in expected["prompts"]:
        if tables_of(expected, model)[1] and f"{prompt['name']}.logits" in logits:
            assert (last_logits(gpt, prompt["ids"]) - logits[f"{prompt['name']}.logits"]).abs().max() < 5e-5
    assert all(f"transformer.h.0.attn.c_{part}.weight" in gpt.weights for part in "qkv")


@pytest.mark.parametrize("shape", [(768, 96), (320, 64), (1009, 8), (34, 8), (64, 3001)])
@pytest.mark.parametrize("dtype", [FLOAT32, torch.bfloat16])
def test_tiles_multiply_as_the_whole_matrix(shape, dtype, monkeypatch):
    monkeypatch.setattr(engine, "MIN_SPARSE_BYTES", 0)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(shape, generator=generator).to(dtype)
    tiles = engine.tile_rows(weight)
    if shape[0] == 1009:  # a prime
        assert tiles is weight
        return
    for rows in (1, 2, engine.PREFILL_ROWS - 1, engine.PREFILL_ROWS + 1):
        x = torch.randn(1, rows, shape[1], generator=generator).relu().to(dtype)
        want = torch.nn.functional.linear(x.float(), weight.float())
        most = 1e-3 if dtype == FLOAT32 else 0.02 * want.abs().max()
        for sparse, prefill_dtype in itertools.product((False, True), (FLOAT32, dtype)):
            y = engine.tiled_linear(x, tiles, sparse, prefill_dtype)
            assert (y - want).abs().max() < most
    for threshold in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 2):  # more and more zeros
        x = (torch.randn(1, 1, shape[1], generator=generator) - threshold).relu().to(dtype)
        want = torch.nn.functional.linear(x.float(), weight.float())
        y = engine.tiled_linear(x, tiles, sparse=True, prefill_dtype=dtype)
        assert (y - want).abs().max() < (1e-3 if dtype == FLOAT32 else 0.02 * want.abs().max() + 0.01)
    zeros = torch.zeros(1, 1, shape[1], dtype=dtype)
    assert not engine.tiled_linear(zeros, tiles, sparse=True, prefill_dtype=dtype).any()


@pytest.mark.parametrize("machine", ["x86_64", "AMD64", "aarch64", "arm64"])
@pytest.mark.parametrize("dtype", [FLOAT32, torch.bfloat16])
@pytest.mark.parametrize("native", [False, True])
def test_how_a_cpu_multiplies_follows_from_what_it_is(machine, dtype, native, monkeypatch):
    cpu(monkeypatch, machine, native)
    config, weights = adapted("R2")
    weights = {key: tensor.to(dtype) if tensor.dim() > 1 else tensor for key, tensor in weights.items()}
    writer = engine.Engine(engine.FastGPT(config, weights), NoTools)
    tiles = machine in ("x86_64", "AMD64")
    emulated = dtype == torch.bfloat16 and not native
    hint = "; -d float32 is faster here" if emulated and not tiles else ""
    assert writer.mode == ("tiled matrices" if tiles else "plain matrices") and writer.model.hint == hint
    assert writer.model.prefill_dtype == (FLOAT32 if emulated else dtype)


def test_a_cpus_flags_say_whether_it_has_bfloat16(monkeypatch):
    known = [({}, False), ({"avx2": 1}, False), ({}, True), ({"amx_bf16": 1}, False), ({"bf16": 1}, False)]
    for (flags, one_flag), native in zip(known, (False, False, True, True, True), strict=True):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda flags=flags: flags, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda one=one_flag: one, raising=False)
        assert engine.native_bfloat16() is native
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")  # torch 2.5
    assert engine.native_bfloat16() is False


def test_tag_and_step_are_guessed_as_nanochat_does(tmp_path, monkeypatch):
    guess, copy = golden_json("guess/guess.json"), tmp_path / "guess"
    shutil.copytree(GOLDENS / "guess", copy)
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(copy))
    for path, mtime in guess["set_mtime_before_testing"].items():
        os.utime(copy / path, (mtime, mtime))
    for source, want in guess["sources"].items():
        folder = copy / want["directory"] / want["tag"]
        assert find(source).model == folder / f"model_{want['step']:06d}.pt"
        for tag, step in want["last_step_of_tag"].items():
            assert find(source, tag).model.name == f"model_{step:06d}.pt"


# ---- The engine --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERA_NAMES)
@torch.inference_mode()
def test_cached_steps_equal_one_full_forward_at_every_position(era):
    model = tiny_model(era, context=150)  # longer than every window of a sequence_len of 64
    ids = torch.randint(0, V, (1, 150), generator=torch.Generator().manual_seed(1))
    whole = tiny_model(era, context=150, kind=engine.GPT)(ids)[0]
    for cuts in ([1] * 150, [7, 1, 1, 40, 1, 64, 36], [149, 1]):
        cache = engine.KVCache(model.config, model.device, model.dtype)
        pieces = torch.cat([model(part, cache)[0] for part in ids.split(cuts, dim=1)])
        assert (pieces - whole).abs().max() < 1e-4, cuts
        cache.rewind(0)
        ends = [model(part, cache, last=1)[0, 0] for part in ids.split(cuts, dim=1)]
        assert (torch.stack(ends) - whole[torch.tensor(cuts).cumsum(0) - 1]).abs().max() < 1e-4, cuts


@torch.inference_mode()
def test_a_prompt_costs_the_last_layer_one_position():
    """Its keys and values are of all positions, and the rest of it only where a token follows."""
    seen = collections.defaultdict(list)

    class Watched(engine.GPT):
        def linear(self, x, name, sparse=False):
            seen[name].append(x.shape[1] if x.dim() == 3 else 1)
            return super().linear(x, name, sparse)

    list(engine.Engine(Watched(*adapted("R2")), NoTools).generate([1] * 20, 3))
    *earlier, last = [counts for name, counts in seen.items() if name.endswith(".c_fc")]
    assert last == [1, 1, 1] and len(earlier) == 3 and all(counts == [20, 1, 1] for counts in earlier)


@pytest.mark.parametrize("heads, shared", [(4, 4), (4, 2), (4, 1)])
def test_one_query_attends_as_torch_has_it(heads, shared):
    rng = torch.Generator().manual_seed(1)
    config = engine.Config(40, V, n_head=heads, n_kv_head=shared, n_embd=8 * heads, windows=(None, 9))
    cache = engine.KVCache(config, torch.device("cpu"), FLOAT32)
    q = torch.randn(1, heads, 1, 8, generator=rng)
    keys, values = (torch.randn(1, shared, 33, 8, generator=rng) for _ in range(2))
    for length, (layer, window) in itertools.product(range(33), enumerate(config.windows)):
        cache.rewind(length)
        oldest, mask = cache.keys_and_mask(1, 1, window)
        k, v = cache.append(layer, keys[:, :, [length]], values[:, :, [length]], oldest)
        assert k.size(2) == min(length + 1, 10 if window else 33)
        seen = (each[:, :, oldest : length + 1] for each in (keys, values))
        want = torch.nn.functional.scaled_dot_product_attention(q, *seen, scale=0.3, enable_gqa=True)
        got = engine.attend_one(q.view(1, shared, heads // shared, 8), k, v, 0.3)
        assert not mask and torch.allclose(got, want.view(-1, 8), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 64), (1, 1, 3, 16), (1, 5, 64), (2, 5, 3, 16)])
@pytest.mark.parametrize("dtype", [FLOAT32, torch.bfloat16])
def test_norm_is_the_formula_whatever_the_shape(shape, dtype):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    x[0, 0] *= 1e-4  # where the epsilon counts
    want = (x.double() / (x.double().square().mean(-1, keepdim=True) + 2**-23).sqrt()).to(dtype)
    for model in (tiny_model(), tiny_model(kind=engine.GPT)):
        assert model.norm(x).dtype == dtype
        assert torch.allclose(model.norm(x), want, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-6)


def test_the_plain_model_can_be_trained():
    model, ids = tiny_model(kind=engine.GPT), torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8, 9]])
    for weight in model.weights.values():
        weight.requires_grad_()

    def loss():
        return torch.nn.functional.cross_entropy(model(ids)[0, :-1], ids[0, 1:])

    before = loss()
    before.backward()
    with torch.no_grad():
        for weight in model.weights.values():
            assert weight.grad.isfinite().all() and weight.grad.any()
            weight -= 1e-3 * weight.grad
    assert loss() < before


def test_rows_that_are_not_used_are_not_read(monkeypatch):
    """Whatever stands there, as long as most of what multiplies it is zero."""
    monkeypatch.setattr(engine, "MIN_SPARSE_BYTES", 0)
    weight, x = torch.ones(64, 50), torch.zeros(1, 1, 50)
    x[..., :10] = 1
    weight[:, 10:] = torch.nan
    tiles = engine.tile_rows(weight)
    assert (engine.tiled_linear(x, tiles, sparse=True, prefill_dtype=FLOAT32) == 10).all()
    assert engine.tiled_linear(x, tiles, sparse=False, prefill_dtype=FLOAT32).isnan().all()


@torch.inference_mode()
def test_windows_and_features_make_a_difference():
    """Cached steps would equal one forward pass in a model that ignores them all, too."""
    ids = torch.randint(0, V, (1, 150), generator=torch.Generator().manual_seed(1))
    features = ("smear_lambda", "backout_lambda", "bigram_lambdas", "v0_lambdas", "value_embeds.3.weight")
    for era in checkpoint.ERAS:
        config, weights = adapted(ERA_NAMES[checkpoint.ERAS.index(era)], context=150)
        others = [(config, weights | {key: 0 * weights[key]}) for key in features if key in weights]
        if "lambdas" in era.features:
            narrower = dataclasses.replace(config, windows=tuple(window - 1 for window in config.windows))
            others.append((narrower, dict(weights)))
        whole = engine.GPT(config, weights).hidden(ids)[0, -1]
        for other in others:
            assert (engine.GPT(*other).hidden(ids)[0, -1] - whole).abs().max() > 1e-4, era.name


@pytest.mark.parametrize("V", [1, 5, 50, 2000, 32768])
def test_a_draw_is_that_of_torchs_multinomial(V):
    """Which is nanochat's, so that a seed says the same under any torch."""
    for seed in range(20):
        logits = torch.randn(V, generator=torch.Generator().manual_seed(1000 + seed))
        ours, torchs = (torch.Generator().manual_seed(seed) for _ in range(2))
        drawn = torch.multinomial(torch.softmax(logits / 0.8, dim=-1), 1, generator=torchs)
        assert int(engine.draw(logits, 0.8, ours)) == int(drawn)


@pytest.mark.parametrize("T, S, window, K", [
    (1, 40, None, 4), (9, 9, None, 4), (9, 40, None, 2), (9, 40, 3, 2), (1, 5, 3, 1), (30, 30, 7, 4)
])  # fmt: skip
def test_attention_without_torchs_is_the_same(T, S, window, K):
    """What runs on MPS, here on a CPU."""
    rng = torch.Generator().manual_seed(1)
    oldest, mask = engine.keys_and_mask(T, S, window, torch.device("cpu"))
    q = torch.randn(1, T, 4, 8, generator=rng).transpose(1, 2)
    k, v = (torch.randn(1, K, S, 8, generator=rng)[:, :, oldest:] for _ in range(2))
    torchs = torch.nn.functional.scaled_dot_product_attention(q, k, v, **mask, scale=0.3, enable_gqa=K != 4)
    torch.testing.assert_close(engine.attend_on_mps(q * 0.3, k, v, **mask), torchs)


@pytest.mark.parametrize("dtype", [FLOAT32, torch.bfloat16])
def test_a_seed_gives_the_same_tokens_whatever_came_before(dtype):
    config, weights = adapted("R2", context=300)
    model = engine.FastGPT(config, {key: tensor.to(dtype) for key, tensor in weights.items()})
    writer, prompt = engine.Engine(model, NoTools), [number % 200 for number in range(150)]
    for seed in range(20):
        list(writer.generate(prompt[: 7 * seed] + [9] * 30, 20, 1.0))  # leaves a part of it in the cache
        settings = (60, 1.0, 50, seed)
        assert list(writer.generate(prompt, *settings)) == replied(model, prompt, *settings)
        assert writer.reused == 0
    assert replied(model, prompt, 20, 1.0, 50, 1) != replied(model, prompt, 20, 1.0, 50, 2)
    assert replied(model, prompt, 20, 1.0, 50) != replied(model, prompt, 20, 1.0, 50)


def test_a_generator_is_one_reply_or_an_error():
    writer, one, two = engine.Engine(tiny_model(), NoTools), [1] * 20, [2] * 20
    first, second = writer.generate(one, 9), writer.generate(two, 9)
    want = replied(tiny_model(), one, 9), replied(tiny_model(), two, 9)
    assert (list(first), list(second)) == want  # made side by side, read one after the other
    first, second = writer.generate(one, 9), writer.generate(two, 9)
    assert next(first) == want[0][0] and list(second) == want[1]
    with pytest.raises(RuntimeError, match="overtaken"):
        next(first)


@pytest.mark.parametrize("era", ERA_NAMES)
def test_what_is_cached_changes_no_token(era, monkeypatch):
    """Random edits, regenerations and other conversations, against an engine that has cached nothing."""
    monkeypatch.setattr(engine, "CHUNK", 7)
    monkeypatch.setattr(engine.random, "getrandbits", lambda bits: seed)
    model, rng = tiny_model(era), random.Random(era)
    writer, prompt, reused = engine.Engine(model, NoTools), [1], []
    for seed in range(40):
        prompt = rng.choice([
            lambda: prompt + writer.cached[len(prompt) :] + [rng.randrange(V) for _ in range(5)],  # goes on
            lambda: prompt,  # regenerates
            lambda: prompt[: rng.randrange(1, len(prompt) + 1)],  # goes back
            lambda: [*prompt[: rng.randrange(len(prompt))], rng.randrange(V), *prompt[-9:]],  # edits
            lambda: rng.choices(range(V), k=rng.randrange(1, 50)),  # another conversation
        ])()[:55]  # fmt: skip
        settings = (9, rng.choice([0.0, 1.0]), 50)
        assert list(writer.generate(prompt, *settings)) == replied(model, prompt, *settings, seed)
        reused.append(writer.reused)
    assert sum(count > 0 for count in reused) > 10


SAMPLINGS = [(0.0, 0), (1.0, 0), (1.0, 5), (0.7, 1), (1.0, 999), (1.0, 0, 0.5), (2.0, 5, 0.5)]


def same_replies(one, two, prompt, rng, seed, *lengths) -> None:
    """Asserts that two engines say the same, for some setting."""
    temperature, top_k, *top_p = rng.choice(SAMPLINGS)
    settings = (rng.choice(lengths), temperature, top_k, seed, *top_p)
    with pytest.MonkeyPatch.context() as patch:  # the same numbers, whether from a seed or at random
        patch.setattr(engine.random, "getrandbits", lambda bits: 7)
        assert list(one.generate(prompt, *settings)) == list(two.generate(prompt, *settings)), settings


@pytest.mark.parametrize("era", ERA_NAMES)
def test_decoding_ahead_changes_no_token(era, monkeypatch):
    """The steps that CUDA records, here unrecorded: over strides and windows, with what was remembered."""
    monkeypatch.setattr(engine, "STRIDE", 16)
    monkeypatch.setattr(engine, "SORTED_LOGITS", 5)
    model, rng = tiny_model(era, context=300), random.Random(era)
    one, two = engine.Engine(model, NoTools, graphs=True), engine.Engine(model, NoTools, graphs=False)
    assert one.graphs.stride == 18 and len(one.graphs.steps) == 17 and not two.graphs
    prompt = [1]
    for seed in range(16):
        more = [rng.randrange(V) for _ in range(rng.randrange(1, 60))]
        prompt = rng.choice([[*one.cached, *more], prompt, prompt[: len(prompt) // 2 + 1]])[:280]
        same_replies(one, two, prompt, rng, rng.choice([seed, None]), 3, 40)
        assert one.cached == two.cached and one.reused == two.reused


class Operations(TorchDispatchMode):
    """Notes the devices of all tensors that operations take or give."""

    def __init__(self):
        super().__init__()
        self.devices = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        leaves = torch.utils._pytree.tree_leaves((args, kwargs, result))
        self.devices |= {leaf.device.type for leaf in leaves if isinstance(leaf, torch.Tensor)}
        return result


@pytest.mark.parametrize("era", ERA_NAMES)
def test_what_is_recorded_stays_on_its_device(era, monkeypatch):
    """A graph cannot wait for a number or use the host's memory. This device has none, and asking fails."""
    monkeypatch.setattr(engine.GraphDecoder, "compare", lambda self: None)
    config, weights = adapted(era, context=600)
    model = engine.FastGPT(config, {key: tensor.bfloat16().to("meta") for key, tensor in weights.items()})
    graphs = engine.GraphDecoder(model, engine.KVCache(config, model.device, model.dtype), None)
    with torch.no_grad(), Operations() as seen:
        for work in [*graphs.steps, *graphs.draws.values()]:
            work()
    assert len(graphs.steps) == 3 and len(graphs.draws) == 4 and seen.devices == {"meta"}


def test_no_step_is_recorded_where_a_query_sees_no_key(monkeypatch):
    """Its answer depends on the kernel and would stay in the cache: CUDA runs a step before it records it."""
    unseen, attend, record = [], engine.GPT.attend, engine.GraphDecoder.record

    def watched(self, q, k, v, mask):
        unseen.append("attn_mask" in mask and bool(mask["attn_mask"].isinf().all()))
        return attend(self, q, k, v, mask)

    monkeypatch.setattr(engine.GPT, "attend", watched)
    monkeypatch.setattr(engine.GraphDecoder, "record", lambda self, work: work() or record(self, work))
    config, weights = adapted("R2", change(sequence_len=4096))
    model = engine.GPT(config, weights)
    engine.GraphDecoder(model, engine.KVCache(config, model.device, model.dtype), torch.Generator())
    assert len(unseen) > 4 * 16 and not any(unseen)


def test_a_step_ahead_that_did_not_count_draws_no_token():
    """What the calculator forces comes instead of a token that was already drawn."""
    require_goldens()
    model = checkpoint.read(checkpoint.find(GOLDENS / "tooluse", "sft"), FLOAT32)
    gpt, forced = engine.FastGPT(model.config, model.weights), []
    one, two = (engine.Engine(gpt, model.tokenizer, graphs) for graphs in (True, False))
    prompt = model.tokenizer.render(body("What is 12 * 34?")["messages"])
    for seed in range(12):
        first, second = (list(writer.generate(prompt, 60, 1.0, 0, seed)) for writer in (one, two))
        assert first == second
        forced.append(model.tokenizer.special["<|output_start|>"] in first)
    assert any(forced)


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@needs_cuda
@pytest.mark.parametrize("era", ERA_NAMES)
def test_recorded_steps_change_no_token_on_cuda(era):
    model, rng = tiny_model(era, context=600, device="cuda"), random.Random(era)
    one, two = engine.Engine(model, NoTools), engine.Engine(model, NoTools, graphs=False)
    assert one.mode == "3 CUDA graphs" and two.mode == "eager"
    for seed in range(16):
        prompt = [rng.randrange(V) for _ in range(rng.randrange(1, 500))]
        same_replies(one, two, prompt, rng, seed, 3, 99)


@needs_cuda
def test_two_replicas_on_one_gpu_say_what_one_says():
    model = tiny_model(context=600, device="cuda")
    one, two = (engine.Engine(model, NoTools) for _ in range(2))

    def replies(writer):
        return [list(writer.generate([seed] * 40, 200, 1.0, 50, seed)) for seed in range(40)]

    want = replies(one)
    assert together(lambda: replies(one), lambda: replies(two)) == [want, want]


def test_what_cannot_be_recorded_is_decoded_without_it(monkeypatch):
    monkeypatch.setattr(engine.GraphDecoder, "step", lambda self, end: self.logits.add_(1))
    writer = engine.Engine(tiny_model(), NoTools, graphs=True)
    assert writer.mode.startswith("eager, since CUDA graphs failed: ") and "something else" in writer.mode
    assert list(writer.generate([1, 2], 9)) == replied(tiny_model(), [1, 2], 9)


def test_a_conversation_is_read_once():
    model = CountingModel([65, 66, END], [1, 2, 3])
    writer = engine.Engine(model, TOKENIZER)
    first = list(writer.generate([1, 2, 3], 50))
    model.calls.clear()
    list(writer.generate([1, 2, 3, *first, 7, 8, 9], 1))
    assert sum(model.calls) == 4 and writer.reused == 5  # the end token and what is new
    assert writer.shared_prefix([1, 2, 9]) == 2 and writer.shared_prefix([1]) == 0


def test_a_long_prompt_can_be_given_up_between_its_chunks(monkeypatch):
    monkeypatch.setattr(engine, "CHUNK", 10)
    writer = engine.Engine(tiny_model(), NoTools)

    def give_up():
        raise chat_web.ClientGone

    with pytest.raises(chat_web.ClientGone):
        next(writer.generate([1] * 30, 5, check=give_up))
    assert writer.cached == [1] * 10  # and what was read is not read again
    assert list(writer.generate([1] * 30, 5)) == replied(tiny_model(), [1] * 30, 5)


def test_a_reply_ends_when_the_context_is_full():
    writer = engine.Engine(tiny_model(), NoTools)
    assert len(list(writer.generate([1] * 60, 500))) == 4
    assert list(writer.generate([1] * 64, 500)) == []
    for prompt in ([], [1] * 65):
        with pytest.raises(ValueError, match=f"{len(prompt)} tokens.*64"):
            writer.generate(prompt, 5)


class CountingModel:
    """Picks script[n] after n tokens of reply have been read, whatever they are; counts what it computes."""

    device, dtype, mode = torch.device("cpu"), FLOAT32, "counting"
    config = engine.Config(4096, 569, 1, 1, 2, (None,))

    def __init__(self, script, prompt):
        self.script, self.prompt, self.calls = script, prompt, []

    def hidden(self, ids, cache, last):
        self.calls.append(ids.shape[1])
        cache.advance(ids)
        return torch.tensor([[self.script[min(cache.length - len(self.prompt), len(self.script) - 1)]]])

    def logits(self, token):
        return torch.nn.functional.one_hot(token, 569).float()


def test_the_tool_state_machine_is_nanochats():
    cases = golden_json("tool_state_machine.json")
    tokenizer = checkpoint.read_tokenizer(GOLDENS / cases["tokenizer"])
    assert len(cases["cases"]) > 15
    for case in cases["cases"]:
        model = CountingModel(case["sampled"], case["prompt"])
        emitted = list(engine.Engine(model, tokenizer).generate(case["prompt"], case["max_tokens"]))
        assert emitted == case["head"]["emitted"], case["name"]


def test_no_forward_pass_is_run_whose_result_nobody_reads():
    tokens = TOKENIZER.encode_reply("<|python_start|>12*34<|python_end|>") + [0] * 5 + [65, END]
    model = CountingModel(tokens, [1, 2, 3])
    reply = list(engine.Engine(model, TOKENIZER).generate([1, 2, 3], 50))
    text = TOKENIZER.decode(reply)
    assert text == "<|python_start|>12*34<|python_end|><|output_start|>408<|output_end|>A<|assistant_end|>"
    forced = len(TOKENIZER.encode_reply("<|output_start|>408<|output_end|>"))
    assert len(model.calls) == len(reply) - forced  # one for each sampled token; forced ones are read at once
    assert sum(model.calls) == 3 + len(reply) - 1  # and the last token is never read


def test_top_k_and_temperature_are_what_they_say():
    logits, rng = torch.tensor([0.0, 3.0, 1.0, 2.0]), torch.Generator().manual_seed(0)

    def drawn(*settings):
        return torch.tensor([engine.sample(logits, *settings, rng) for _ in range(4000)])

    for settings, kept in (
        ((0.0, 0), {1}), ((1.0, 1), {1}), ((1.0, 2), {1, 3}), ((1.0, 0), {0, 1, 2, 3}),
        ((1.0, 200), {0, 1, 2, 3}), ((1e-300, 0), {1}),  # no infinity on the way
    ):  # fmt: skip
        assert set(drawn(*settings).tolist()) == kept
    share = torch.bincount(drawn(2.0, 0), minlength=4) / 4000
    assert torch.allclose(share, torch.softmax(logits / 2.0, 0), atol=0.03)


@pytest.mark.parametrize("top_p, top_k, temperature", [
    (0.5, 0, 1.0), (0.9, 0, 0.7), (0.9, 5, 1.3), (0.0, 0, 1.0), (1.0, 3, 1.0)
])  # fmt: skip
def test_top_p_keeps_the_fewest_likeliest_tokens_with_that_share(top_p, top_k, temperature):
    rng = torch.Generator().manual_seed(0)
    for seed in range(20):
        logits = torch.randn(30, generator=torch.Generator().manual_seed(seed)) * 3
        shares, order = torch.softmax(logits / temperature, 0).sort(descending=True)
        shares = shares[: top_k or 30] / shares[: top_k or 30].sum()
        kept = (shares.cumsum(0) - shares < top_p).sum().clamp(min=1)  # those before it have less than that
        drawn = {engine.sample(logits, temperature, top_k, rng, top_p) for _ in range(300)}
        assert drawn <= set(order[:kept].tolist()) and order[0].item() in drawn
        assert set(order[:kept][shares[:kept] / shares[:kept].sum() > 0.05].tolist()) <= drawn


# What the calculator answers other than nanochat, and why ---------------------------------------------------

CALCULATOR_EXCEPTIONS = {
    # artefacts of evaluating with Python: no result
    **dict.fromkeys([
        "...", "()", "1" + "0" * 400 + ".0", "'x'.count('x').real", "'ABC'.lower().count('b')", "'.count('",
        "not 'abc'.count('z')", "'abc'.count('a') and 'yes'", "'a'.count('a') if True else 0",
    ]),
    # the comma inside a string is what is counted
    "'a,b,c'.count(',')": "2",
    # harmless words that hold a forbidden one (profile: file), and harmless characters
    "'profile'.count('f')": "1", "'directory'.count('r')": "2", "'opener'.count('e')": "2",
    "'evaluate'.count('a')": "2", "'inputs'.count('s')": "1", "'Files'.count('s')": "1",
    "'imports'.count('s')": "1", "'a__b'.count('_')": "2", "'café'.count('é')": "1",
    "'a-b'.count('a')": "1", "'how many?'.count('m')": "1",
}  # fmt: skip


def test_calculator_answers_as_nanochat_but_for_the_listed_exceptions():
    rows = golden_json("calculator.json")["rows"]
    exceptions = {row["expr"] for row in rows if engine.calculate(row["expr"]) != row["head"]}
    assert {expr: engine.calculate(expr) for expr in exceptions} == CALCULATOR_EXCEPTIONS


@pytest.mark.parametrize("expression", [
    "__import__('os').system('true')", "().__class__", "'a'*10**9", "9**9**9", "2 **3", "'a'.count(b'a')",
    "(" * 400 + "1" + ")" * 400, "-" * 999 + "1", "1" * 5000, "1+" * 499 + "x", "'a'.count('a')*10**9",
    "f'{1}'.count('1')", "'\\x41'.count('A')", "1e400", "1_0", "0x1", "1j", "\x00", "1if 1else 2",
    "'a\x00'.count('a').count", "\u00b2", "1=1", "lambda:1", "x:=1",
])  # fmt: skip
def test_calculator_refuses_everything_else(expression):
    assert engine.calculate(expression) is None


def test_calculator_works_off_the_main_thread():
    assert together(lambda: engine.calculate("12*34")) == ["408"]


def test_calculator_stays_small_at_its_longest():
    longest = "9" * 499 + "*" + "9" * 499
    assert engine.calculate(longest) == str(int("9" * 499) ** 2)
    assert engine.calculate("1+" * 300 + "1") == "301"
    assert engine.calculate(longest + "9" * 2) is None


# ---- Finding a checkpoint ----------------------------------------------------------------------------------


def test_base_directory_is_the_variable_else_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path))
    assert checkpoint.base_dir() == tmp_path
    monkeypatch.delenv("NANOCHAT_BASE_DIR")
    assert checkpoint.base_dir() == Path.home() / ".cache" / "nanochat"


@pytest.mark.parametrize("sft", ["chatsft_checkpoints", "sft_checkpoints"])  # the second for one day
def test_sources_are_nanochats_folders(base, sft):
    folders = {"sft": sft, "rl": "chatrl_checkpoints", "mid": "mid_checkpoints", "base": "base_checkpoints"}
    for folder in folders.values():
        write_pair(base / folder / "d4")
    for source, folder in folders.items():
        assert find(source).model == base / folder / "d4" / "model_000001.pt"
        assert find(source).tokenizer == base / "tokenizer" / "tokenizer.pkl"


def test_largest_depth_wins_then_the_last_step(base):
    for tag, step in (("d9", 5), ("d10", 2), ("d10", 1_000_000), ("d10", 999_999), ("dense", 3), ("xd99", 4)):
        write_pair(base / "chatsft_checkpoints" / tag, step)
    assert find("sft").name == "d10, sft, step 1000000"
    assert find("sft", step=2).name == "d10, sft, step 2"
    assert find("sft", "d9").name == "d9, sft, step 5"


def test_without_a_depth_the_most_recently_changed_tag_wins(base):
    for age, tag in enumerate(("zeta", "alpha", "mike")):
        write_pair(base / "chatsft_checkpoints" / tag)
        os.utime(base / "chatsft_checkpoints" / tag, (1000 * age, 1000 * (age == 1)))
    assert find("sft").name.startswith("alpha")


def test_only_complete_pairs_count_and_a_lonely_model_is_noted(base):
    folder = base / "chatsft_checkpoints" / "d4"
    write_pair(folder, 100)
    odd = "model_000200_backup.pt model_best.pt model_000300.pt.tmp meta_000400.json model_000500.pt"
    for name in odd.split():
        (folder / name).touch()
    found = find("sft")
    assert found.model.name == "model_000100.pt"
    assert len(found.notes) == 1 and "model_000500.pt" in found.notes[0]


def test_a_tag_without_a_complete_pair_is_passed_over_with_a_note(base):
    write_pair(base / "chatsft_checkpoints" / "d4")
    (base / "chatsft_checkpoints" / "d32").mkdir()
    found = find("sft")
    assert found.name.startswith("d4,") and "d32" in found.notes[0]


@pytest.mark.parametrize("place", [".", "tokenizer"])
def test_a_path_may_be_a_folder_as_people_download_it(tmp_path, monkeypatch, place):
    write_pair(tmp_path / "nanochat-d32")
    write_tokenizer(tmp_path / "nanochat-d32" / place)
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path / "nowhere"))
    found = find("sft", str(tmp_path / "nanochat-d32"))
    assert checkpoint.read(found, FLOAT32).name == "nanochat-d32, step 1"
    monkeypatch.chdir(tmp_path)
    assert find("sft", "nanochat-d32").model.exists()
    assert find("sft", "./nanochat-d32").model.exists()


def test_a_path_may_be_a_tag_folder_in_a_base_directory(base, monkeypatch):
    write_pair(base / "chatrl_checkpoints" / "d4")
    monkeypatch.delenv("NANOCHAT_BASE_DIR")
    found = find("sft", str(base / "chatrl_checkpoints" / "d4"))
    assert found.tokenizer == base / "tokenizer" / "tokenizer.pkl" and found.name == "d4, rl, step 1"


def test_links_are_followed_as_disks_and_download_caches_have_them(base, tmp_path):
    write_pair(tmp_path / "big-disk" / "models" / "d4")
    (base / "chatsft_checkpoints").mkdir()
    (base / "chatsft_checkpoints" / "d4").symlink_to(tmp_path / "big-disk" / "models" / "d4")
    found = find("sft")
    assert (found.tokenizer, found.name) == (base / "tokenizer" / "tokenizer.pkl", "d4, sft, step 1")
    snapshot, blobs = tmp_path / "cache" / "snapshot", tmp_path / "cache" / "blobs"
    write_tokenizer(snapshot)
    write_pair(blobs)
    for blob in blobs.iterdir():
        (snapshot / blob.name).symlink_to(blob)
    assert checkpoint.read(find("sft", str(snapshot)), FLOAT32).name == "snapshot, step 1"


def test_what_is_not_found_is_told_with_where_what_was_there_and_what_to_pass(base, monkeypatch):
    def told(asked, *words):
        sentence = refusal(find, *asked)
        assert all(word in sentence for word in words), sentence

    write_pair(base / "base_checkpoints" / "d4", 7)
    told(["sft"], str(base), "base_checkpoints", "-i base")
    told(["base", "d20"], "d20", "d4", "-g")
    told(["base", "d4", 8], "8", "7", "-s")
    told(["base", "/no/where"], "/no/where")
    told(["sft", str(base)], "-i base", "model_000007.pt")
    (base / "tokenizer" / "tokenizer.pkl").unlink()
    told(["base"], "tokenizer.pkl")
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(base / "gone"))
    told(["sft"], str(base / "gone"), "does not exist", "NANOCHAT_BASE_DIR")


# Reading ----------------------------------------------------------------------------------------------------


def change(**changes):
    """A meta whose model_config differs; None removes an entry."""
    entries = CONFIG | {"window_pattern": "SSSL"} | changes
    return {"model_config": {name: value for name, value in entries.items() if value is not None}}


def without(key):
    return {name: tensor for name, tensor in random_weights("R2").items() if name != key}


def extended(**extra):
    return random_weights("R2") | {name.replace("__", "."): value for name, value in extra.items()}


GATE, HEAD = checkpoint.GATE.format(last=CONFIG["n_layer"] - 1), "transformer.h.2.mlp.c_fc.weight"
ROUTER = {"transformer__h__0__mlp__router__gate__weight": torch.ones(4, 48)}
NARROW = extended(lm_head__weight=torch.ones(320, 40))
MISFITS = {
    "missing key": (without(HEAD), None, [HEAD, "missing"]),
    "unknown key": (extended(surprise=torch.ones(2)), None, ["surprise", "unknown"]),
    "wrong shape": (NARROW, None, ["lm_head.weight", "(320, 40)", "(320, 48)"]),
    "integers": (extended(smear_lambda=torch.ones(1, dtype=torch.int64)), None, ["smear_lambda", "int64"]),
    "no model": ({"weight": torch.ones(2, 2)}, None, ["missing"]),
    "not tensors": ({"a": 1}, None, ["dict of tensors"]),
    "not a dict": ([torch.ones(2)], None, ["dict of tensors"]),
    "no config": (None, {"step": 1}, ["model_config"]),
    "meta is a list": (None, [1], ["JSON object"]),
    "missing number": (None, change(n_head=None), ["n_head", "None"]),
    "absurd number": (None, change(sequence_len=10**12), ["sequence_len"]),
    "text for a number": (None, change(vocab_size="many"), ["vocab_size", "many"]),
    "heads": (None, change(n_head=5), ["n_head = 5", "48"]),
    "vocabulary beyond the rows": (None, change(vocab_size=10_000), ["320 rows", "10000"]),
    "another tokenizer": (None, change(vocab_size=V - 1), [str(V), str(V - 1), "tokenizer.pkl"]),
    "window pattern": (None, change(window_pattern="SXL"), ["window_pattern", "SXL"]),
    "softcap": (None, change(softcap=-1), ["softcap", "-1"]),
    "experts": (extended(**ROUTER), None, ["mixture-of-experts"]),
    "experts in the meta": (None, change(num_experts=8), ["mixture-of-experts"]),
    "no room for a reply": (None, change(sequence_len=1), ["sequence_len is 1"]),
    "no channels": (extended(transformer__wte__weight=torch.ones(320, 0)), None, ["0 channels"]),
    "fewer channels than smear reads": (random_weights("R2", channels=16), None, ["16 channels", "smear"]),
    "a flat gate": (random_weights("R1") | {GATE: torch.ones(())}, None, ["ve_gate.weight", "unknown"]),
}


@pytest.mark.parametrize("weights, meta, words", MISFITS.values(), ids=MISFITS)
def test_a_checkpoint_that_does_not_fit_ends_in_a_sentence_with_file_and_reason(base, weights, meta, words):
    write_pair(base / "chatsft_checkpoints" / "d4", weights=weights, meta=meta)
    sentence = refusal(checkpoint.read, find("sft"), FLOAT32)
    for word in [str(base), *words]:
        assert word in sentence


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused(base):
    """By torch itself from 2.15 on."""
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    write_pair(base / "chatsft_checkpoints" / "d4", weights=extended(lm_head__weight=nested))
    assert re.search("dict of tensors|Weights only load", refusal(checkpoint.read, find("sft"), FLOAT32))


def test_a_model_file_in_torchs_older_forms_is_refused(base):
    """They take other ways through torch, one of which has run code in releases that are allowed here."""
    write_pair(base / "chatsft_checkpoints" / "d4")
    torch.save(random_weights("R2"), find("sft").model, _use_new_zipfile_serialization=False)
    assert "no zip archive" in refusal(checkpoint.read, find("sft"), FLOAT32)


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "json"])
def test_a_damaged_file_ends_in_a_sentence_with_its_name(base, damage):
    folder = base / "chatsft_checkpoints" / "d4"
    write_pair(folder)
    victim = folder / ("meta_000001.json" if damage == "json" else "model_000001.pt")
    whole = victim.read_bytes()
    damaged = {"empty": b"", "cut": whole[: len(whole) // 2], "text": b"hello", "json": b'{"model_config": '}
    victim.write_bytes(damaged[damage])
    assert str(victim) in refusal(checkpoint.read, find("sft"), FLOAT32)


class Attack:
    """Unpickling this creates a file: the code of a hostile checkpoint."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_hostile_model_file_is_refused_and_its_code_has_not_run(base, tmp_path):
    hostile = {"transformer.wte.weight": Attack(tmp_path / "ran")}
    write_pair(base / "chatsft_checkpoints" / "d4", weights=hostile)
    assert "model_000001.pt" in refusal(checkpoint.read, find("sft"), FLOAT32)
    assert not (tmp_path / "ran").exists()


class HostileName:
    """A tiktoken Encoding whose state is a name: tiktoken would download what the name stands for."""

    def __reduce__(self):
        return (tiktoken.core.Encoding.__new__, (tiktoken.core.Encoding,), "gpt2")


@pytest.mark.parametrize("make", [
    lambda path: pickle.dumps(Attack(path), protocol=4),
    lambda path: pickle.dumps([byte_encoding(), Attack(path)], protocol=4),
    lambda path: pickle.dumps(HostileName(), protocol=4),
    lambda path: b"cos\nsystem\n(S'touch " + str(path).encode() + b"'\ntR.",
    lambda path: b"",
    lambda path: pickle.dumps({"mergeable_ranks": {}}),
])  # fmt: skip
def test_a_hostile_tokenizer_is_refused_and_its_code_has_not_run(tmp_path, make):
    (tmp_path / "tokenizer.pkl").write_bytes(make(tmp_path / "ran"))
    assert "tokenizer.pkl" in refusal(checkpoint.read_tokenizer, tmp_path / "tokenizer.pkl")
    assert not (tmp_path / "ran").exists()


def test_an_interrupt_while_the_tokenizer_is_read_is_an_interrupt(base, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "check_vocabulary", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.read_tokenizer(base / "tokenizer" / "tokenizer.pkl")


def test_a_tokenizer_that_cannot_chat_is_refused_by_the_token_it_lacks(tmp_path):
    lacking = byte_encoding()
    del lacking._special_tokens["<|user_start|>"]
    (tmp_path / "tokenizer.pkl").write_bytes(pickle.dumps(lacking, protocol=4))
    assert "<|user_start|>" in refusal(checkpoint.read_tokenizer, tmp_path / "tokenizer.pkl")


@pytest.mark.parametrize("pattern", ["", "x*", "(?!)", r"\S+", "("])
def test_a_tokenizer_whose_pattern_leaves_out_text_is_refused(tmp_path, pattern):
    odd = byte_encoding()
    odd._pat_str = pattern
    (tmp_path / "tokenizer.pkl").write_bytes(pickle.dumps(odd, protocol=4))
    assert "tokenizer.pkl" in refusal(checkpoint.read_tokenizer, tmp_path / "tokenizer.pkl")


def test_compiled_models_prefix_is_dropped(base):
    prefixed = {f"_orig_mod.{key}": tensor for key, tensor in random_weights("R2").items()}
    write_pair(base / "chatsft_checkpoints" / "d4", weights=prefixed)
    weights, want = checkpoint.read(find("sft"), FLOAT32).weights, adapted("R2")[1]
    assert weights.keys() == want.keys() and all(torch.equal(weights[key], want[key]) for key in want)


def test_shapes_win_over_the_meta(base):
    write_pair(base / "chatsft_checkpoints" / "d4", meta=change(n_embd=999, n_layer=77, n_kv_head=4))
    config = checkpoint.read(find("sft"), FLOAT32).config
    assert (config.n_embd, config.n_layer, config.n_kv_head) == (48, 4, 2)


def test_matrices_are_held_in_the_dtype_asked_for_and_lambdas_in_float32(base):
    write_pair(base / "chatsft_checkpoints" / "d4")
    weights = checkpoint.read(find("sft"), torch.bfloat16).engine(torch.device("cpu")).model.weights
    small = {name for name, tensor in weights.items() if tensor.dim() == 1 or "_gate" in name}
    assert {weights[name].dtype for name in weights.keys() - small} == {torch.bfloat16}
    assert {weights[name].dtype for name in small} == {FLOAT32}


def test_missing_windows_follow_nanochats_three_rules():
    bare = {"model_config": CONFIG}
    assert adapted("P", bare)[0].windows == (None,) * 4
    assert adapted("W", bare | {"device_batch_size": 32})[0].windows == (None,) * 4  # base
    _, config, _, notes = checkpoint.adapt(random_weights("W"), bare, {})  # mid or sft
    assert config.windows == (64,) * 4 and "window_pattern" in notes[0]


@pytest.mark.parametrize("era, shortest", [
    ("W", [32, 128, 256, 512, 1024]), ("G", [32, 128, 256, 512, 1024]),
    ("R1", [128, 128, 256, 384, 768]), ("R2", [128, 128, 128, 256, 512]),
])  # fmt: skip
def test_short_windows_are_each_eras_own(era, shortest):
    metas = [change(sequence_len=n, window_pattern="sL") for n in (64, 256, 512, 1024, 2048)]
    windows = [adapted(era, meta)[0].windows for meta in metas]
    assert [short for short, *_ in windows] == shortest
    assert windows[0][1] == windows[0][3] == 64
    want = (shortest[0],) * 3 + (64,)  # the last is always long
    assert adapted(era, change(window_pattern="S"))[0].windows == want


WEEK = {"adam_beta1": 0.8, "eval_tokens": 41943040, "fp8": False}


@pytest.mark.parametrize("era, settings, base_settings, softcap, want", [
    ("G", WEEK, None, None, 20), ("G", WEEK | {"eval_tokens": 20971520}, None, None, 15),
    ("G", {"eval_tokens": 41943040}, None, None, 15), ("G", {"mmlu_epochs": 3}, WEEK, None, 20),
    ("G", {"dtype": "bfloat16"}, WEEK, None, 15), ("G", None, WEEK, None, 20), ("G", WEEK, None, 15, 15),
    ("G", None, None, None, 15), ("G", None, None, 20, 20), ("R1", WEEK, None, None, 15),
    ("R2", None, None, None, 15), ("R2", None, None, 30.5, 30.5),
])  # fmt: skip
def test_softcap_follows_the_rule_unless_the_meta_says_it(era, settings, base_settings, softcap, want):
    meta = change(softcap=softcap) | ({"user_config": settings} if settings else {})
    base_meta = {"user_config": base_settings} if base_settings else {}
    _, config, _, notes = checkpoint.adapt(random_weights(era), meta, base_meta)
    assert config.softcap == want
    assert bool(notes) == (era == "G" or softcap is not None)
    assert not notes or f"softcap {want:g}" in notes[0]


def test_a_chat_models_base_meta_is_found_beside_it(base):
    write_pair(base / "base_checkpoints" / "d4", 9, random_weights("G"), change() | {"user_config": WEEK})
    for source, want in (("chatsft_checkpoints", 20), ("chatrl_checkpoints", 20), ("mid_checkpoints", 15)):
        write_pair(base / source / "d4", 1, random_weights("G"))
        found = find("sft", str(base / source / "d4"))
        assert checkpoint.read(found, FLOAT32).config.softcap == want


# ---- One door for Python -----------------------------------------------------------------------------------


def test_a_notebook_loads_a_model_and_chats(base):
    write_pair(base / "chatsft_checkpoints" / "d4", 1)
    write_pair(base / "chatrl_checkpoints" / "d4", 2)
    writer = checkpoint.load_model("sft", tag=None, step=None, device="auto", dtype="float32")
    said = "".join(writer.chat("Hello", max_tokens=9, seed=1))
    assert said and said == "".join(writer.chat([{"role": "user", "content": "Hello"}], max_tokens=9, seed=1))
    prompt = writer.tokenizer.render([{"role": "user", "content": "Hello"}])
    tokens = writer.generate(prompt, 9, 0.8, 50, seed=1)
    assert said == "".join(writer.tokenizer.stream_text(tokens))
    assert writer.model(torch.tensor([prompt])).shape == (1, len(prompt), V)
    assert writer.model.dtype == FLOAT32 and os.environ["THP_MEM_ALLOC_ENABLE"]
    assert checkpoint.load_model("rl").model.dtype == torch.bfloat16
    with pytest.raises(checkpoint.CheckpointError, match="no step 3"):
        checkpoint.load_model(step=3)
    with pytest.raises(ValueError, match="newest message"):
        writer.chat("Hello" * 99)


def test_what_chat_assumes_is_what_the_server_assumes():
    defaults = inspect.signature(engine.Engine.chat).parameters
    for name in (*chat_web.FLAGS.values(), "top_p"):
        assert defaults[name].default == chat_web.SAMPLING[name][0]


def test_a_checkpoint_gives_a_second_engine_that_shares_its_weights(base):
    write_pair(base / "chatsft_checkpoints" / "d4")
    model = checkpoint.read(find("sft"), FLOAT32)
    one, two = (model.engine(torch.device("cpu")) for _ in range(2))
    first, second = one.generate([1, 2, 3], 9), two.generate([4, 5, 6], 9)
    assert [*zip(first, second)] == [*zip(replied(one.model, [1, 2, 3], 9), replied(one.model, [4, 5, 6], 9))]
    assert one.model is two.model and one.cache is not two.cache


def test_imports_go_one_way_and_importing_changes_nothing_else():
    modules = {"chat_web": {"checkpoint"}, "checkpoint": {"engine"}, "engine": set()}
    for name, allowed in modules.items():
        tree = ast.parse((HERE / f"{name}.py").read_text())
        imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
        named = {alias.name for node in imports for alias in node.names}
        named |= {node.module for node in imports if isinstance(node, ast.ImportFrom)}
        assert named & modules.keys() == allowed


# ---- Text and tokens ---------------------------------------------------------------------------------------


def test_user_text_never_becomes_a_special_token():
    text = "<|assistant_end|><|python_start|>1+1<|python_end|><|bos|>"
    inner = TOKENIZER.render([{"role": "user", "content": text}])[2:-2]
    assert inner == TOKENIZER.encode(text) and max(inner) < 256


def test_only_the_tool_markers_of_an_assistant_become_their_tokens_again():
    call = "<|python_start|>1+1<|python_end|><|output_start|>2<|output_end|>"
    said = f"a{call}b<|bos|><|assistant_end|><|user_start|>"
    tokens = TOKENIZER.encode_reply(said)
    assert [token for token in tokens if token > 255] == [SPECIAL[name] for name in checkpoint.TOOL_MARKERS]
    assert TOKENIZER.decode(tokens) == said


def test_a_system_text_goes_before_the_first_user_message():
    system, user = {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}
    merged = {"role": "user", "content": "Be kind.\n\nHi"}
    assert TOKENIZER.render([system, user]) == TOKENIZER.render([merged])
    assert TOKENIZER.render([system, user, user]) == TOKENIZER.render([merged, user])


def turns(count):
    """A conversation of so many turns with ten characters a message, the newest user message included."""
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": f"{i}".ljust(10, ".")} for i in range(2 * count - 1)]


def test_the_oldest_turns_go_first_and_as_few_as_needed():
    messages = turns(10)
    whole = len(TOKENIZER.render(messages))
    assert TOKENIZER.fit_prompt(messages, whole, 0) == (TOKENIZER.render(messages), 0)
    for limit in range(20, whole):
        prompt, dropped = TOKENIZER.fit_prompt(messages, limit, 0)
        assert prompt == TOKENIZER.render(messages[dropped:])
        assert dropped % 2 == 0 and len(prompt) <= limit < len(TOKENIZER.render(messages[dropped - 2 :]))


def test_the_system_text_and_the_newest_user_message_are_never_dropped():
    system = {"role": "system", "content": "S" * 30}
    messages = [system, *turns(10)]
    prompt, dropped = TOKENIZER.fit_prompt(messages, 80, 512)  # a quarter is the reply's
    assert prompt == TOKENIZER.render([system, messages[-1]]) and dropped == 18
    with pytest.raises(ValueError, match=f"{len(prompt)} tokens.*40"):
        TOKENIZER.fit_prompt(messages, 50, 10)


@pytest.mark.parametrize(
    "text", ["Hello", "naïve", "🙂👩‍👩‍👧‍👦🇺🇳", "日本語", "a\u2028b\u0085c", "\x00\x1b[31m", "\ufffd!"]
)
def test_deltas_joined_are_the_text_and_never_hold_half_a_character(text):
    deltas = list(TOKENIZER.stream_text([*TOKENIZER.encode(text), END]))
    assert "".join(deltas) == text
    assert all(delta in text for delta in deltas)


def test_a_reply_cut_inside_a_character_ends_in_a_replacement_character():
    assert "".join(TOKENIZER.stream_text(TOKENIZER.encode("ok🙂")[:-1])) == "ok\ufffd"


# ---- Asking: what is refused, what is clamped, what is answered --------------------------------------------


def test_the_stream_is_the_seeds_byte_for_byte():
    response = post(make_app(ScriptedEngine("Hey", END)), body())
    tokens = b"".join(b'data: {"token": "%c", "gpu": 0}\n\n' % byte for byte in b"Hey")
    assert response.data == tokens + b'data: {"done": true}\n\n'
    assert response.content_type == "text/event-stream; charset=utf-8"


def test_health_and_stats_are_the_seeds_byte_for_byte():
    app = make_app(*[ScriptedEngine() for _ in range(4)], num_gpus=4)
    busy, client = take(app), Client(app)
    health = b'{"status": "ok", "ready": true, "num_gpus": 4, "available_workers": 3}'
    assert client.get("/health").data == health
    workers = b", ".join(b'{"gpu_id": %d, "device": "cuda:%d"}' % (number, number) for number in range(4))
    counts = b'"total_workers": 4, "available_workers": 3, "busy_workers": 1'
    assert client.get("/stats").data == b'{%s, "workers": [%s]}' % (counts, workers)
    app.pool.give_back(busy)


def messages(*contents, role="user"):
    return {"messages": [{"role": role, "content": content} for content in contents]}


SYSTEM, PARTS = {"role": "system", "content": "a"}, [{"type": "text", "text": "Hi"}]
MISTAKES = {  # the word in the refusal -> requests
    "messages": [{}, {"messages": None}, {"messages": []}, {"messages": "Hi"}],
    "message 1: role": [{"messages": ["Hi"]}],
    "message 2: role": [{"messages": [SYSTEM, SYSTEM, *body()["messages"]]}],
    "role": [{"messages": [{"content": "Hi"}]}, messages("Hi", role="tool"), messages("Hi", role=["user"])],
    "last message": [messages("Hi", role="system")],
    "content": [{"messages": [{"role": "user"}]}, messages(""), messages(5), messages(PARTS)],
    "surrogate": [messages("a\ud800b")],
    "500": [messages(*["x"] * 501)],
    "8000": [messages("x" * 8001)],
    "32000": [messages(*["x" * 8000] * 4, "x")],
    "temperature": [body(temperature="hot"), body(temperature=True), body(temperature=[1])],
    "JSON": [body(temperature=1e999), body(temperature=float("nan"))],
    "top_k": [body(top_k=1.5), body(top_k=False)],
    "max_tokens": [body(max_tokens="12")],
    "object": [[1], 1],
}


def is_refusal(response, status, *words) -> bool:
    """Whether this is an error of the one shape, whose sentence has these words."""
    assert (response.status_code, list(response.json)) == (status, ["detail"])
    return all(word in response.json["detail"] for word in words)


@pytest.mark.parametrize("word, json_body", [(word, each) for word in MISTAKES for each in MISTAKES[word]])
def test_a_clients_mistake_is_refused_in_a_sentence_before_a_worker_is_taken(word, json_body):
    scripted = ScriptedEngine("Hi", END)
    assert is_refusal(post(make_app(scripted), json_body), 400, word) and not scripted.asked


RAW = {
    "null": (b"null", 400, "object"),
    "broken JSON": (b'{"messages": [', 400, "JSON"),
    "nothing": (b"", 411, "Content-Length"),
    "not UTF-8": (b'{"messages": "\xff"}', 400, "UTF-8"),
    "UTF-16": ('{"messages": []}'.encode("utf-16"), 400, "UTF-8"),
    "a byte order mark": (b"\xef\xbb\xbf{}", 400, "JSON"),
    "1e999": (b'{"messages": [{"role": "user", "content": "a"}], "temperature": 1e999}', 400, "temperature"),
    "Infinity": (b'{"messages": [{"role": "user", "content": "a"}], "temperature": Infinity}', 400, "JSON"),
    "a number of 5,000 digits": (b'{"top_k": ' + b"1" * 5000 + b"}", 400, "5000 digits"),
    "nested 100,000 deep": (b"[" * 100_000, 400, "JSON"),
    "nested objects": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, 400, "JSON"),
    "over 1 MiB": (b"x" * (2**20 + 1), 413, str(2**20)),
}  # fmt: skip


@pytest.mark.parametrize("data, status, word", RAW.values(), ids=RAW)
def test_a_body_that_makes_no_sense_is_refused_in_a_sentence(data, status, word):
    headers = {"Content-Length": str(len(data))} if data else {}
    client = Client(make_app(ScriptedEngine()))
    assert is_refusal(client.post("/chat/completions", data=data, headers=headers), status, word)


@pytest.mark.parametrize("count, length", [(500, 1), (1, 8000), (4, 8000)])
def test_what_just_keeps_within_the_limits_is_answered(count, length):
    scripted = ScriptedEngine("ok", END, context=10**6)
    assert text_of(post(make_app(scripted), messages(*["x" * length] * count)).data) == "ok"


@pytest.mark.parametrize("name, value, want", [
    ("temperature", 5, 2.0), ("temperature", -1, 0.0), ("temperature", 1, 1.0), ("temperature", 10**400, 2.0),
    ("top_k", 1000, 200), ("top_k", -3, 0), ("top_k", 7.0, 7), ("top_k", 1e300, 200), ("max_tokens", 0, 1),
    ("max_tokens", 100000, 4096), ("max_tokens", -(10**30), 1),
    ("temperature", None, 0.8), ("top_k", None, 50), ("max_tokens", None, 512),
])  # fmt: skip
def test_sampling_values_out_of_range_are_clamped_and_answered(name, value, want):
    scripted = ScriptedEngine("ok", END)
    assert text_of(post(make_app(scripted), body(**{name: value})).data) == "ok"
    assert scripted.asked[0][name] == want and type(scripted.asked[0][name]) is type(want)


def test_the_command_lines_defaults_hold_where_a_request_says_nothing():
    scripted = ScriptedEngine("ok", END)
    app = make_app(scripted, temperature=0.3, top_k=7, max_tokens=99)
    post(app, body())
    post(app, body(temperature=1.0))
    assert [asked["temperature"] for asked in scripted.asked] == [0.3, 1.0]
    assert (scripted.asked[0]["top_k"], scripted.asked[0]["max_tokens"]) == (7, 99)


def test_a_body_is_json_whatever_its_content_type_says():
    app = make_app(ScriptedEngine("ok", END))
    with Client(app).post("/chat/completions", data=json.dumps(body())) as response:  # as curl -d sends it
        assert text_of(response.data) == "ok"


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/nothing", 404), ("GET", "/chat/completions", 405), ("HEAD", "/chat/completions", 405),
    ("PUT", "/", 405), ("POST", "/health", 405), ("DELETE", "/stats", 405), ("BREW", "/", 405),
    ("GET", "/../ui.html", 404), ("GET", "/chat_web.py", 404),
])  # fmt: skip
def test_every_error_is_json_of_one_shape_and_any_origin_may_read_it(method, path, status):
    response = Client(make_app(ScriptedEngine())).open(path, method=method)
    assert response.status_code == status
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in response.headers
    if method != "HEAD":
        assert list(response.json) == ["detail"] and len(response.json["detail"]) > 10
    if status == 405:
        assert "OPTIONS" in response.headers["Allow"]


@pytest.mark.parametrize("path", ["/", "/health", "/stats", "/chat/completions"])
def test_any_origin_may_call_preflight_included(path):
    asked = {"Origin": "http://example.org", "Access-Control-Request-Headers": "content-type"}
    response = Client(make_app(ScriptedEngine())).options(path, headers=asked)
    assert response.status_code == 204 and response.headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    assert "X-Dropped-Messages" in response.headers["Access-Control-Expose-Headers"]


def test_three_line_breaking_characters_are_escaped_and_other_text_is_not():
    text = "é🙂\u2028\u2029\u0085\n"
    raw = post(make_app(ScriptedEngine(text, END)), body()).data
    assert text_of(raw) == text
    assert all(part in raw.decode() for part in ("é", "🙂", r"\u2028", r"\u2029", r"\u0085"))
    assert not re.search("[\u2028\u2029\u0085]", raw.decode())


def test_an_emoji_split_over_tokens_arrives_whole():
    raw = post(make_app(ScriptedEngine("a🙂b", END)), body()).data
    assert [item.get("token") for item in events(raw)] == ["a", "🙂", "b", None]


@pytest.mark.parametrize(
    "max_tokens, room", [(4096, 300), (10, 390)]
)  # the reply keeps a quarter, or its tokens
def test_a_long_conversation_loses_its_oldest_turns_and_a_header_says_how_many(max_tokens, room):
    scripted = ScriptedEngine("ok", END, context=400)
    app = make_app(scripted)
    response = post(app, {"messages": turns(20), "max_tokens": max_tokens})
    dropped = int(response.headers["X-Dropped-Messages"])
    prompt = scripted.asked[0]["prompt"]
    assert dropped > 0 and prompt == TOKENIZER.render(turns(20)[dropped:])
    assert room - 2 * 14 < len(prompt) <= room
    assert int(response.headers["X-Prompt-Tokens"]) == len(prompt)
    short = post(app, {"messages": turns(2), "max_tokens": 10})
    assert short.headers["X-Dropped-Messages"] == "0"


def test_a_newest_message_that_cannot_fit_is_refused_with_both_numbers():
    scripted = ScriptedEngine(context=2048)
    response = post(make_app(scripted), messages("𓀀" * 8000))  # four tokens each
    assert is_refusal(response, 400, "32004", "2048") and not scripted.asked


def test_tool_markers_count_in_assistant_text_only():
    scripted = ScriptedEngine("ok", END)
    call = "<|python_start|>1+1<|python_end|><|output_start|>2<|output_end|>"
    roles = ("user", "assistant", "user")
    post(make_app(scripted), {"messages": [{"role": role, "content": call} for role in roles]})
    prompt = scripted.asked[0]["prompt"]
    assert [prompt.count(SPECIAL[name]) for name in checkpoint.TOOL_MARKERS] == [1, 1, 1, 1]


# ---- Workers: each comes back exactly once -----------------------------------------------------------------


def test_worker_comes_back_after_an_engines_failure_and_the_client_is_told():
    app = make_app(ScriptedEngine("half", RuntimeError("boom")))
    got = events(post(app, body()).data)
    assert "".join(item.get("token", "") for item in got) == "half"
    assert list(got[-1]) == ["error"] and "boom" not in got[-1]["error"] and {"done": True} not in got
    assert app.pool.available == 1


def test_after_an_engines_failure_its_tensors_are_gone_before_it_restarts(monkeypatch):
    """Or what ran out of memory would still have it."""
    held, seen = [], []

    def run_out():
        activations = torch.zeros(9)
        held.append(weakref.ref(activations))
        raise torch.OutOfMemoryError(f"no room beside {activations.numel()}")

    monkeypatch.setattr(ScriptedEngine, "restart", lambda self: seen.append(held[0]()))
    assert "error" in events(post(make_app(ScriptedEngine(run_out)), body()).data)[-1]
    assert seen == [None]


@pytest.mark.parametrize("error", [TimeoutError, BrokenPipeError, ConnectionResetError, ValueError, KeyError])
def test_an_engines_own_os_errors_are_not_taken_for_a_client_that_left(error):
    assert "error" in events(post(make_app(ScriptedEngine(error())), body()).data)[-1]


def test_a_client_that_left_as_its_turn_came_touches_no_engine(monkeypatch):
    left, scripted = [], ScriptedEngine("x", END)
    monkeypatch.setattr(chat_web, "hung_up", lambda sock: bool(left))
    app = make_app(scripted)
    with Client(app).post("/chat/completions", json=body()) as response:
        left.append(True)
        response.get_data()
    assert not scripted.asked and app.pool.available == 1


@pytest.mark.parametrize("path, stream", [("", True), ("/v1", True), ("/v1", False)])
def test_who_closes_only_its_sending_side_is_told_and_not_that_the_reply_is_done(path, stream):
    gate = threading.Event()
    app = make_app(ScriptedEngine("a", lambda: gate.wait(20) and "b", "c" * 1000, END))
    with asking(app, body(stream=stream), f"{path}/chat/completions") as sock:
        if stream:
            read_until(sock, b'"a"')
        sock.shutdown(socket.SHUT_WR)
        time.sleep(0.2)  # the FIN is on its way
        gate.set()
        raw = read_all(sock)
    assert b"from the client's side" in raw and b"finish" not in raw.split(b"error")[1]
    assert b'"done"' not in raw and b"[DONE]" not in raw


def test_a_fault_before_the_stream_is_a_500_of_the_same_shape(monkeypatch, caplog):
    app = make_app(ScriptedEngine())
    monkeypatch.setattr(app.tokenizer, "fit_prompt", lambda *args: 1 / 0)
    assert is_refusal(post(app, body()), 500)
    assert "ZeroDivisionError" in caplog.text and app.pool.available == 1


def test_worker_comes_back_once_from_a_stream_that_is_never_read_or_closed_twice():
    app = make_app(EndlessEngine())
    environ = EnvironBuilder("/chat/completions", method="POST", json=body()).get_environ()
    never = app.dispatch(chat_web.Request(environ))
    assert app.pool.available == 0
    never.close()
    never.close()
    assert app.pool.available == 1
    with Client(app).post("/chat/completions", json=body()) as response:
        assert app.pool.available == 0
        response.close()
    response.close()
    assert app.pool.available == 1


def test_a_head_request_takes_no_worker():
    app = make_app(ScriptedEngine("ok", END))
    with serving(app) as port:
        for path in ("/", "/health", "/stats", "/chat/completions"):
            answer = talk(port, f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert answer.partition(b"\r\n\r\n")[2] == b""
    assert app.pool.available == 1


def test_a_hang_up_in_mid_stream_frees_the_worker_within_a_token(caplog):
    scripted = EndlessEngine()
    app = make_app(scripted)
    with asking(app) as sock:
        read_until(sock, b'"token"')
        sock.close()
        until(lambda: app.pool.available == 1)
        said = scripted.said
        time.sleep(0.1)
        assert scripted.said == said and "Traceback" not in caplog.text


def test_a_hang_up_is_seen_at_the_next_token_even_if_that_token_has_no_text():
    gate = threading.Event()
    scripted = ScriptedEngine("a", lambda: gate.wait(20) and 0xF0, *[0x9F] * 5000)
    app = make_app(scripted)
    with asking(app) as sock:
        read_until(sock, b'"token"')
        sock.close()
        time.sleep(0.2)  # the FIN is on its way
        gate.set()
        until(lambda: app.pool.available == 1)
    assert scripted.said <= 3


def test_a_hang_up_before_the_first_token_frees_the_worker():
    gate = threading.Event()
    scripted = ScriptedEngine(lambda: gate.wait(20) and "x", "y" * 1000)
    app = make_app(scripted)
    with asking(app) as sock:
        until(lambda: app.pool.available == 0)
        sock.close()
        gate.set()
        until(lambda: app.pool.available == 1)
    assert scripted.said <= 2


def test_a_client_that_resets_in_its_body_leaves_no_trace_but_a_line(caplog):
    caplog.set_level("INFO", "chat_web")
    with serving(make_app(ScriptedEngine())) as port:
        with connect(port) as sock:
            sock.sendall(request_bytes(body())[:-5])
            time.sleep(0.1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close sends a reset
        until(lambda: caplog.records)
    assert "499" in caplog.text and "Traceback" not in caplog.text


def test_a_hang_up_while_waiting_leaves_the_line_and_touches_no_worker():
    scripted = ScriptedEngine("ok", END)
    app = make_app(scripted)
    worker = take(app)
    with asking(app) as sock:
        until(lambda: len(app.pool.line) == 1)
        sock.close()
        until(lambda: not app.pool.line)
    app.pool.give_back(worker)
    assert app.pool.available == 1 and not scripted.asked


@pytest.mark.parametrize("pause, looks", [(0, 1 + 20), (60, 1 + 1)])
def test_the_reader_is_looked_at_after_every_token_unless_tokens_come_faster_than_that(
    pause, looks, monkeypatch
):
    seen = []
    monkeypatch.setattr(chat_web, "LOOK_SECONDS", pause)
    monkeypatch.setattr(chat_web, "hung_up", lambda sock: seen.append(sock) or False)
    post(make_app(ScriptedEngine(*["x"] * 20, END)), body())
    assert looks <= len(seen) <= looks + 1


def test_hang_ups_are_seen_without_pollrdhup_too(monkeypatch):
    monkeypatch.delattr(select, "POLLRDHUP")
    here, there = socket.socketpair()
    with here, there:
        assert not chat_web.hung_up(here)
        there.close()
        assert chat_web.hung_up(here)
    assert chat_web.hung_up(here)


@pytest.mark.parametrize("more", [b"", b"x"])  # the second leaves werkzeug something to drain
def test_a_reader_that_stops_loses_its_worker(monkeypatch, more):
    monkeypatch.setattr(chat_web, "SEND_SECONDS", 0.5)
    app = make_app(EndlessEngine())
    app.tokenizer = byte_tokenizer()
    app.tokenizer.stream_text = lambda tokens, _: ("z" * 65536 for _ in tokens)  # they fill a socket's buffers
    with asking(app) as sock:
        until(lambda: app.pool.available == 0)
        sock.sendall(more)
        until(lambda: app.pool.available == 1)


def test_two_workers_answer_at_the_same_time():
    both = threading.Barrier(2)  # neither reply goes on before the other has begun
    engines = [ScriptedEngine(lambda: both.wait(20) and "" or "", "ok", END) for _ in range(2)]
    app = make_app(*engines, num_gpus=2)
    replies = together(*[lambda: events(post(app, body()).data)] * 2)
    assert all(reply[-1] == {"done": True} for reply in replies)
    assert sorted(reply[0]["gpu"] for reply in replies) == [0, 1]


def test_a_conversation_goes_to_the_free_worker_that_holds_most_of_it():
    app = make_app(*[engine.Engine(tiny_model(context=200), TOKENIZER) for _ in range(3)], num_gpus=3)
    holder = {}
    for number, first in enumerate("ABAABBA"):
        asked = messages(first * 40 + str(number))
        prompt = TOKENIZER.render(asked["messages"])
        post(app, asked | {"max_tokens": 3})
        (worker,) = [worker for worker in app.pool.workers if worker.engine.cached[: len(prompt)] == prompt]
        assert holder.setdefault(first, worker) is worker
        assert worker.engine.reused == (42 if number > 1 else 0)
    assert holder["A"] is not holder["B"]  # a new one goes to who was idle longest
    assert app.pool.available == 3


@contextlib.contextmanager
def waiting_in_line(app, *names_and_addresses):
    """Requests that come one by one while the only worker is busy; yields who has left the line, and how."""
    worker, left, threads = take(app), [], []

    def wait(name, address):
        try:
            mine = take(app, address=address)
            left.append(name)
            app.pool.give_back(mine)
        except chat_web.ServiceUnavailable:
            left.append(f"{name} sent away")

    for come in names_and_addresses:
        threads.append(threading.Thread(target=wait, args=come))
        threads[-1].start()
        until(lambda: len(app.pool.line) + len(left) == len(threads))
    yield left
    app.pool.give_back(worker)
    for thread in threads:
        thread.join()
    assert app.pool.available == 1


def test_waiting_requests_are_served_in_the_order_they_came():
    with waiting_in_line(make_app(ScriptedEngine()), *[(number, "here") for number in range(20)]) as left:
        assert left == []
    assert left == list(range(20))


def test_a_worker_that_comes_as_its_waiter_leaves_is_not_lost():
    app = make_app(ScriptedEngine())
    worker = take(app)

    def check():
        app.pool.give_back(worker)  # in the very moment
        raise chat_web.ClientGone

    with pytest.raises(chat_web.ClientGone):
        take(app, check)
    assert app.pool.available == 1 and not app.pool.line


@pytest.mark.parametrize("limit", ["MAX_WAITING", "WAIT_SECONDS"])
def test_more_waiting_requests_than_there_are_places_get_503_and_a_wait_ends_in_503_too(monkeypatch, limit):
    monkeypatch.setattr(chat_web, limit, 0)
    app = make_app(ScriptedEngine("ok", END))
    worker = take(app)
    response = post(app, body())
    assert is_refusal(response, 503, "busy" if limit == "MAX_WAITING" else "free")
    assert int(response.headers["Retry-After"]) > 0
    app.pool.give_back(worker)
    assert text_of(post(app, body()).data) == "ok"
    assert app.pool.available == 1 and not app.pool.line


def test_one_address_never_has_more_than_half_of_the_places_in_line(monkeypatch):
    monkeypatch.setattr(chat_web, "MAX_WAITING", 4)
    come = [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("c1", "c"), ("d1", "d")]
    with waiting_in_line(make_app(ScriptedEngine()), *come) as left:
        assert left == ["a3 sent away", "d1 sent away"]
    assert left[2:] == ["a1", "a2", "b1", "c1"]


def test_a_worker_whose_gpu_is_lost_leaves_the_pool_and_the_others_go_on():
    broken = ScriptedEngine(RuntimeError("CUDA error"), lost=True)
    app = make_app(broken, ScriptedEngine("ok", END), num_gpus=2)
    assert "error" in events(post(app, body()).data)[-1]
    health = {"status": "ok", "ready": True, "num_gpus": 2, "available_workers": 1}
    assert Client(app).get("/health").json == health
    assert [worker["gpu_id"] for worker in Client(app).get("/stats").json["workers"]] == [1]
    assert text_of(post(app, body()).data) == text_of(post(app, body()).data) == "ok"


def test_once_no_worker_is_left_the_server_is_not_ready_and_nobody_waits():
    app = make_app(ScriptedEngine(RuntimeError("CUDA error"), lost=True))
    post(app, body())
    health = Client(app).get("/health")
    assert health.status_code == 503 and health.json["ready"] is False
    assert Client(app).get("/").status_code == 200
    assert is_refusal(post(app, body()), 503, "failed")


def test_who_waits_for_the_last_worker_when_it_is_lost_is_told():
    gate = threading.Event()
    app = make_app(ScriptedEngine(lambda: gate.wait(20) and RuntimeError("CUDA error"), lost=True))
    work = [lambda: post(app, body()).text] * 2
    said = together(*work, lambda: until(lambda: len(app.pool.line) == 1) or gate.set() or "")
    assert sorted("no worker is left" in text for text in said[:2]) == [False, True]


def test_an_engine_that_failed_forgets_what_it_read_and_says_the_same_afterwards(monkeypatch):
    writer = engine.Engine(tiny_model(), NoTools)
    want = list(writer.generate([1, 2, 3], 9))
    with monkeypatch.context() as patch:
        patch.setattr(writer.model, "logits", lambda x: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(writer.generate([1, 2, 3, 4], 9))
        with pytest.raises(ZeroDivisionError):
            writer.restart()
    writer.restart()
    assert writer.shared_prefix([1, 2, 3]) == 0 and list(writer.generate([1, 2, 3], 9)) == want


def test_a_chat_that_takes_its_worker_as_the_shutdown_begins_is_refused_and_not_cut(monkeypatch, caplog):
    app = make_app(ScriptedEngine("ok", END))
    taken = app.pool.take

    def take_late(*args):
        app.close(0)  # it sees every worker idle
        return taken(*args)

    monkeypatch.setattr(app.pool, "take", take_late)
    with caplog.at_level("INFO"):
        assert is_refusal(post(app, body()), 503, "shutting down")
    assert app.pool.available == 1 and len(caplog.messages) == 1


def test_page_health_and_stats_answer_while_all_workers_are_busy():
    app = make_app(ScriptedEngine())
    take(app)
    for path in ("/", "/health", "/stats"):
        assert Client(app).get(path).status_code == 200
    assert Client(app).get("/health").json["available_workers"] == 0


def test_while_the_model_loads_health_says_so_and_the_page_is_served():
    app = chat_web.ChatServer(chat_web.parse_args(["-n", "2"]), chat_web.Page(HERE / "ui.html"))
    health = Client(app).get("/health")
    assert health.status_code == 503
    assert health.data == b'{"status": "ok", "ready": false, "num_gpus": 2, "available_workers": 0}'
    assert Client(app).get("/").status_code == Client(app).get("/stats").status_code == 200
    response = post(app, body())
    assert is_refusal(response, 503, "loading") and "Retry-After" in response.headers


def test_each_request_has_one_line_in_the_log_without_the_conversation(caplog):
    caplog.set_level("INFO", "chat_web")
    app = make_app(ScriptedEngine("secret answer", END))
    post(app, body("secret question"))
    post(app, body(""))
    Client(app).get("/health")
    Client(app).get("/a%0d%0ab%1b[31m")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 4 and "secret" not in caplog.text
    read = f"{len(TOKENIZER.render(body('secret question')['messages']))} prompt tokens"
    said = ("14 reply tokens", "first after", "tokens/s", "gpu 0", "stop")
    assert all(word in lines[0] for word in ("1 messages", read, "(0 reused)", *said)), lines[0]
    assert "400" in lines[1] and "/health" in lines[2]
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("say, end", [(["a", END], "stop"), (["a"], "length"), ([RuntimeError()], "error")])
def test_the_log_tells_how_a_reply_ended(caplog, say, end):
    caplog.set_level("INFO", "chat_web")
    post(make_app(ScriptedEngine(*say)), body())
    assert caplog.records[-1].getMessage().endswith(f", {end}")


# ---- OpenAI's protocol -------------------------------------------------------------------------------------


@pytest.mark.parametrize("say, ending", [
    (["Hi", END], b"data: [DONE]\n\n"), (["Hi", RuntimeError()], b'"code": null}}\n\n')
])  # fmt: skip
def test_openai_streams_end_in_done_and_failed_ones_do_not(say, ending):
    client = Client(make_app(ScriptedEngine(*say)))
    with client.post("/v1/chat/completions", json=body(stream=True)) as response:
        assert response.content_type == "text/event-stream; charset=utf-8"
        assert response.get_data().endswith(ending)


def test_openai_a_whole_reply_that_the_shutdown_cuts_is_a_503_and_one_line_in_the_log(caplog):
    caplog.set_level("INFO", "chat_web")
    scripted = EndlessEngine()
    app = make_app(scripted)
    with asking(app, path="/v1/chat/completions") as sock:
        assert scripted.going.wait(20)
        app.close(0)
        raw = read_all(sock)
    assert raw.startswith(b"HTTP/1.1 503") and b"Retry-After" in raw and b"shutting down" in raw
    assert len(caplog.records) == 1 and caplog.records[0].getMessage().endswith("shutdown")


def test_openai_who_leaves_at_the_first_chunk_is_in_the_log_too(caplog):
    caplog.set_level("INFO", "chat_web")
    app = make_app(ScriptedEngine("x" * 100, END))
    response = Client(app).post("/v1/chat/completions", json=body(stream=True))
    next(response.iter_encoded())
    response.close()
    assert "client left" in caplog.text and app.pool.available == 1


@pytest.mark.parametrize("asked", [
    {"\ud800\n": 1}, {"stream_options": {"\ud800": 1}},
    {"messages": [SYSTEM | {"\ud800": 1}, *body()["messages"]]},
])  # fmt: skip
def test_openai_a_name_that_is_no_text_is_ignored_as_any_other(asked):
    client, data = Client(make_app(ScriptedEngine("Hi", END))), json.dumps(body() | asked)
    assert client.post("/v1/chat/completions", data=data).json["choices"][0]["message"]["content"] == "Hi"


@pytest.mark.parametrize("streamed", [True, False])
def test_openai_a_cancelled_request_frees_the_worker(streamed):
    scripted = EndlessEngine()
    app = make_app(scripted)
    with asking(app, body(stream=streamed), "/v1/chat/completions") as sock:
        assert scripted.going.wait(20)
        sock.close()
        until(lambda: app.pool.available == 1)


# ---- Real sockets: what werkzeug leaves open ---------------------------------------------------------------


POST, HEALTH = b"POST /chat/completions HTTP/1.1\r\nHost: x\r\n", b"GET /health HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def port():
    with serving(make_app(ScriptedEngine("ok", END))) as port:
        yield port


def test_a_reply_comes_in_chunks_and_its_end_is_marked(port):
    raw = talk(port, request_bytes(body()))
    assert b"Transfer-Encoding: chunked" in raw and raw.endswith(b"0\r\n\r\n") and b'{"done": true}' in raw


class Sends:
    """A socket that remembers what is sent. Without waiting it takes `room` bytes at a time."""

    def __init__(self, room=1000):
        self.sent, self.timeout, self.room = [], 7, room

    def gettimeout(self):
        return self.timeout

    def settimeout(self, seconds):
        self.timeout = seconds

    def send(self, data):
        assert self.timeout == 0, "it would wait"
        if not self.room:
            raise BlockingIOError
        self.sent.append(data[: self.room])
        return len(self.sent[-1])

    def sendall(self, data):
        self.sent.append(data)


def test_the_time_that_a_reader_has_is_its_own_whatever_reading_the_request_left(monkeypatch):
    sock, now = Sends(room=0), [0.0]
    monkeypatch.setattr(chat_web.time, "monotonic", lambda: now[0])
    writer = chat_web.ResponseWriter(sock, 30)
    sock.timeout = 0.001  # of what read the rest of the body
    for spent, left in ((0, 30), (10, 30), (25, 20), (0, 0.001)):
        monkeypatch.setattr(sock, "sendall", lambda data, spent=spent: now.__setitem__(0, now[0] + spent))
        writer.write(b"event")
        writer.flush()
        assert sock.timeout == left


@pytest.mark.parametrize("room, parts", [(0, [b"event"]), (2, [b"ev", b"ent"]), (5, [b"event"])])
def test_only_what_the_system_does_not_take_at_once_is_waited_for(room, parts):
    sock = Sends(room)
    writer = chat_web.ResponseWriter(sock, 30)
    for _ in range(2):
        writer.write(b"event")
        writer.flush()
    assert sock.sent == parts + parts and (sock.timeout == 0 if room == 5 else 29 < sock.timeout <= 30)


def test_pieces_of_a_chunk_are_sent_together_and_the_last_chunk_at_once():
    sock = Sends()
    writer = chat_web.ResponseWriter(sock, 1)
    for piece in (b"2", b"\r\n", b"ab", b"\r\n"):
        writer.write(piece)
    assert sock.sent == []
    writer.flush()
    writer.write(b"0\r\n\r\n")
    assert sock.sent == [b"2\r\nab\r\n", b"0\r\n\r\n"]


def test_an_http_1_0_client_gets_no_chunks(port):
    raw = talk(port, request_bytes(body()).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert raw.startswith(b"HTTP/1.0 200") and raw.endswith(b'data: {"done": true}\n\n')
    assert b"chunked" not in raw


@pytest.mark.parametrize("head, status", [
    (b"", 411), (b"Transfer-Encoding: gzip, chunked\r\n", 400), (b"Transfer-Encoding: identity\r\n", 400),
    (b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", 400),
])  # fmt: skip
def test_a_body_without_a_length_is_411_and_one_of_two_lengths_400(port, head, status):
    raw = talk(port, POST + head + b"\r\nfffffff\r\nabc")
    assert raw.startswith(b"HTTP/1.1 %d" % status) and b'{"detail": "' in raw


@pytest.mark.parametrize("n", ["abc", "-5", "+{}", "{0}, {0}", "{}_0", "0x2", "7\r\nContent-Length: {}", "²"])
def test_a_content_length_that_is_not_one_number_is_400(port, n):
    data = json.dumps(body()).encode()
    head = f"Content-Length: {n.format(len(data))}\r\n\r\n".encode("latin-1")
    raw = talk(port, POST + head + data)
    assert raw.startswith(b"HTTP/1.1 400") and b"Content-Length" in raw.partition(b"\r\n\r\n")[2]


def test_a_huge_content_length_is_refused_without_reading(port):
    raw = talk(port, POST + b"Content-Length: 10000000000\r\n\r\n{}")
    assert raw.startswith(b"HTTP/1.1 413") and b'{"detail": "' in raw


@pytest.mark.parametrize("line, lines, status", [
    (1000, 90, 200), (1500, 90, 431), (60_000, 30, 431), (66_000, 1, 431), (10, 200, 431)
])  # fmt: skip
def test_a_head_that_is_too_large_is_431(port, line, lines, status):
    head = b"".join(b"X-%d: %s\r\n" % (number, b"x" * line) for number in range(lines))
    assert talk(port, HEALTH + head + b"\r\n").startswith(b"HTTP/1.1 %d " % status)


def test_a_large_body_that_is_sent_whole_still_sees_its_413(port):
    raw = talk(port, POST + b"Content-Length: 2000000\r\n\r\n" + b"x" * 2_000_000)
    assert raw.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "line", ["GET http://[ HTTP/1.1", "no", "GET / HTTP/9.9", "GET /", "GET / HTTP/1.1 x"]
)
def test_a_request_that_is_no_http_gets_json_too(port, line):
    raw = talk(port, line.encode() + b"\r\nHost: x\r\n\r\n")
    assert raw.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/1.1 505"))
    assert list(json.loads(raw.partition(b"\r\n\r\n")[2])) == ["detail"]


def test_expect_100_is_answered_once(port):
    with connect(port) as sock:
        head, _, rest = request_bytes(body(), head="Expect: 100-continue\r\n").partition(b"\r\n\r\n")
        sock.sendall(head + b"\r\n\r\n")
        first = read_until(sock, b"\r\n\r\n")
        sock.sendall(rest)
        assert (first + read_all(sock)).count(b"100 Continue") == 1


def test_bytes_after_the_request_hold_neither_worker_nor_connection(monkeypatch):
    monkeypatch.setattr(chat_web, "REQUEST_SECONDS", 3600)
    gate = threading.Event()
    app = make_app(ScriptedEngine("a", lambda: gate.wait(20) and "b", END))
    with asking(app) as sock:
        read_until(sock, b'"token"')
        sock.sendall(b"GET / HTTP/1.1")  # as werkzeug comes, it now waits for the end of ten megabytes
        gate.set()
        assert read_all(sock).endswith(b"0\r\n\r\n")
        until(lambda: app.pool.available == 1)


@pytest.mark.parametrize("start", [b"", b"GET /", POST + b"Content-Length: 50\r\n\r\n{"])
def test_a_request_that_does_not_arrive_in_time_is_dropped(monkeypatch, start):
    monkeypatch.setattr(chat_web, "REQUEST_SECONDS", 0.4)
    app = make_app(ScriptedEngine())
    with serving(app) as port, connect(port) as sock, contextlib.suppress(ConnectionError):
        for byte in start:
            sock.sendall(bytes([byte]))
        for _ in range(200):  # a byte now and then does not buy more time
            sock.sendall(b"x" if start else b"")
            if select.select([sock], [], [], 0.05)[0]:
                break
        answer = read_all(sock)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408")
    assert app.pool.available == 1


def test_more_connections_than_the_limit_get_a_503_and_the_others_live(monkeypatch):
    monkeypatch.setattr(chat_web, "MAX_CONNECTIONS", 6)  # half of them for one address
    with serving(make_app(ScriptedEngine("ok", END))) as port, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(port)) for _ in range(3)]
        with connect(port) as fourth:
            assert read_all(fourth).startswith(b"HTTP/1.1 503")
        assert talk(port, HEALTH + b"\r\n", "127.0.0.2").startswith(b"HTTP/1.1 200")
        idle[0].close()
        until(lambda: talk(port, HEALTH + b"\r\n").startswith(b"HTTP/1.1 200"))


def test_after_shutdown_nobody_is_let_in():
    with serving(make_app(ScriptedEngine())) as port:
        pass
    with pytest.raises(ConnectionRefusedError):
        connect(port).close()


def test_no_header_tells_versions_of_what_runs_here(port):
    raw = talk(port, HEALTH + b"\r\n")
    assert b"Server: chat_web" in raw and b"erkzeug" not in raw and b"Python" not in raw


# ---- The page ----------------------------------------------------------------------------------------------


def config_of(html: str) -> dict:
    return json.loads(re.search('<script type="application/json" id="config">(.*?)</script>', html)[1])


def test_the_page_is_told_defaults_limits_and_model():
    app = make_app(ScriptedEngine(context=2048), temperature=0.3, top_k=7, max_tokens=99)
    config = config_of(Client(app).get("/").text)
    assert config["sampling"] == {
        "temperature": {"default": 0.3, "low": 0.0, "high": 2.0},
        "top_k": {"default": 7, "low": 0, "high": 200},
        "max_tokens": {"default": 99, "low": 1, "high": 4096},
        "top_p": {"default": 1.0, "low": 0.0, "high": 1.0},
        "repetition_penalty": {"default": 1.0, "low": 1.0, "high": 2.0},
        "seed": {"default": None, "low": 0, "high": 2**31 - 1},
    }
    assert config["limits"] == {"messages": 500, "message": 8000, "conversation": 32000}
    assert (config["model"], config["device"], config["context"]) == ("d4, sft, step 7", "cuda", 2048)


def test_the_pages_endpoint_takes_seed_and_top_p_and_says_why_a_reply_ended_when_it_is_asked():
    app = make_app(scripted := ScriptedEngine("ok", END))
    post(app, body(seed=7, top_p=0.5))
    post(app, body())
    assert [(each["seed"], each["top_p"]) for each in scripted.asked] == [(7, 0.5), (None, 1.0)]
    assert events(post(app, body(details=True)).data)[-1] == {"done": True, "finish": "stop", "seed": 1}
    assert events(post(make_app(ScriptedEngine("ok")), body(details=True)).data)[-1]["finish"] == "length"
    assert events(post(app, body(details=False)).data)[-1] == {"done": True}
    for field in ({"seed": "x"}, {"top_p": True}, {"details": 1}):
        assert post(app, body(**field)).status_code == 400


def test_a_models_name_cannot_break_out_of_the_page():
    app = make_app(ScriptedEngine())
    app.name = "</script><script>alert(1)</script>"
    html = Client(app).get("/").text
    assert config_of(html)["model"] == app.name and "<script>alert" not in html


# ---- The command line --------------------------------------------------------------------------------------


SEED_FLAGS = {
    "--num-gpus": ("-n", 1), "--source": ("-i", None), "--temperature": ("-t", 0.8), "--top-k": ("-k", 50),
    "--max-tokens": ("-m", 512), "--model-tag": ("-g", None), "--step": ("-s", None), "--port": ("-p", 8000),
    "--dtype": ("-d", "bfloat16"), "--device-type": (None, "auto"), "--host": (None, "0.0.0.0"),
}  # fmt: skip


def run(*command, **kwargs) -> subprocess.CompletedProcess:
    command = [sys.executable, *map(str, command)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **kwargs)


def environment(**variables) -> dict:
    """The environment with these variables; None is for one that is not to be there."""
    return {name: value for name, value in (os.environ | variables).items() if value is not None}


def test_help_names_every_flag_of_the_seed_and_no_other_and_needs_no_torch():
    code = "import atexit, sys, chat_web; atexit.register(lambda: print('torch' in sys.modules))"
    done = run("-c", code + "; chat_web.main(['--help'])", cwd=HERE, env=environment(COLUMNS="300"))
    assert done.stdout.splitlines()[-1] == "False"
    assert set(re.findall(r"--[a-z][\w-]+", done.stdout)) - {"--help"} == SEED_FLAGS.keys()
    told = " ".join(done.stdout.partition("options:")[2].split())
    for long, (short, default) in SEED_FLAGS.items():
        explained = re.search(rf"{f'{short} .*?, ' if short else ''}{long} .*?\(default: ([^),]*)", told)
        assert explained and (default is None or explained[1] == str(default))


def test_defaults_are_the_seeds():
    settings = chat_web.parse_args([])
    values = vars(settings) | settings.sampling
    for flag, (_, default) in SEED_FLAGS.items():
        assert values[flag.removeprefix("--").replace("-", "_")] == default


@pytest.mark.parametrize("line", [
    "--num-gpus 4", "-n 8", "-i sft", "-i rl", "-g my-model-v2", "-s 10000", "-t 1.0", "-k 100", "-m 1024",
    "-p 8080", "--host 127.0.0.1", "--device-type cuda", "--device-type cpu", "-d float32", "-n 4 -p 8080",
    "--num-gpus 8 -i rl -g production-v3 -t 0.7 -k 50 -m 1024 -p 8000 --host 0.0.0.0",
    "-i sft -t 1.0 -p 8080 --host 127.0.0.1", "--device-type cpu -d float32 -t 0.6",
])  # fmt: skip
def test_every_command_line_of_the_seed_is_understood(line):
    assert chat_web.parse_args(line.split())


@pytest.mark.parametrize("line, words", [
    ("-t 2.1", "2.1 0.0 2.0"), ("-t -1", "0.0 2.0"), ("-t nan", "0.0 2.0"), ("-k 201", "201 0 200"),
    ("-k -1", "0 200"), ("-m 0", "0 1 4096"), ("-m 5000", "5000 1 4096"), ("-p 80000", "80000 65535"),
    ("-n 0", "--num-gpus"), ("-d float16", "float16 bfloat16"), ("--device-type tpu", "tpu mps"),
    ("-i dpo", "dpo sft rl"), ("-k x", "x"), ("--unknown", "--unknown"), ("--temp 1", "--temp"), ("-p", "-p"),
])  # fmt: skip
def test_a_flag_out_of_range_ends_in_one_sentence(line, words):
    sentence = refusal(chat_web.parse_args, line.split())
    assert all(word in sentence for word in words.split())


def devices(line, gpus=0, mps=False, lacks=None):
    """What pick_devices says on a machine with these; `lacks` is a dtype that it cannot hold."""

    def zeros(count, device, dtype):
        if dtype == lacks:
            raise TypeError("BFloat16 is not supported on MPS")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "zeros", zeros)
        patch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        patch.setattr(torch.cuda, "device_count", lambda: gpus)
        patch.setattr(torch.backends.mps, "is_available", lambda: mps)
        return [str(device) for device in chat_web.pick_devices(chat_web.parse_args(line.split()))]


def test_devices_are_what_the_flags_and_the_machine_allow():
    assert devices("", gpus=2) == ["cuda:0"] and devices("-n 2", gpus=2) == ["cuda:0", "cuda:1"]
    assert devices("", mps=True) == ["mps"] and devices("") == ["cpu"]
    assert devices("--device-type cpu", gpus=2) == ["cpu"]


@pytest.mark.parametrize("line, machine, words", [
    ("-n 4", {"gpus": 2}, "4 2"), ("-n 4", {}, "4 CUDA cpu"), ("-n 2", {"mps": True}, "2 CUDA mps"),
    ("-n 2 --device-type cpu", {"gpus": 8}, "2 CUDA cpu"), ("--device-type cuda", {}, "cuda"),
    ("--device-type mps", {}, "mps"), ("", {"mps": True, "lacks": torch.bfloat16}, "mps bfloat16 -d"),
])  # fmt: skip
def test_devices_that_are_not_there_end_in_one_sentence(line, machine, words):
    sentence = refusal(lambda: devices(line, **machine))
    assert all(word in sentence for word in words.split())


@pytest.mark.parametrize("host", ["é..x", "é" * 80, "no such host", "256.0.0.1"])
def test_a_host_that_is_none_ends_in_one_sentence(host):
    sentence = refusal(chat_web.listen, host, 0)
    assert "cannot listen" in sentence and host in sentence


def test_a_used_port_fails_before_anything_is_loaded(base):  # where there is no checkpoint either
    with chat_web.listen("127.0.0.1", 0) as taken:
        number = taken.getsockname()[1]
        done = run(HERE / "chat_web.py", "--host", "127.0.0.1", "-p", number)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"port {number}" in done.stderr and "-p" in done.stderr and done.stdout == ""


def test_no_checkpoint_ends_in_one_sentence_and_a_failure_status(base):
    done = run(HERE / "chat_web.py", "--host", "127.0.0.1", "-p", 0)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "chatsft_checkpoints" in done.stderr


def test_a_folder_that_may_not_be_read_ends_in_one_sentence(base, monkeypatch):
    forbidden, scandir = base / "chatsft_checkpoints", os.scandir
    forbidden.mkdir()

    def guarded(folder):
        if Path(folder) == forbidden:
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    sentence = refusal(find)
    assert str(forbidden) in sentence and "Permission denied" in sentence


def test_all_gpus_are_filled_side_by_side_and_keep_their_numbers(base, monkeypatch):
    """Each waits for the others in the middle of its filling, and the first is the last to be done."""
    write_pair(base / "chatsft_checkpoints" / "d4")
    all_there, second_done = threading.Barrier(2, timeout=20), threading.Event()

    def engine_of(self, device):
        all_there.wait()
        if device.index == 0:
            assert second_done.wait(20)
        else:
            second_done.set()
        return engine.Engine(engine.GPT(self.config, dict(self.weights)), self.tokenizer)

    gpus = [torch.device("cuda", number) for number in (0, 1)]
    monkeypatch.setattr(checkpoint.Checkpoint, "engine", engine_of)
    monkeypatch.setattr(chat_web, "pick_devices", lambda *_: gpus)
    app = chat_web.ChatServer(chat_web.parse_args(["-n", "2"]), None)
    chat_web.load(chat_web.parse_args(["-n", "2"]), app)
    assert [(worker.gpu_id, worker.device) for worker in app.pool.workers] == [(0, "cuda:0"), (1, "cuda:1")]


@pytest.mark.parametrize("chosen, used", [(None, "1"), ("0", "0")])
def test_torch_is_asked_for_huge_pages_unless_the_operator_says_otherwise(chosen, used):
    code = "import os, checkpoint; checkpoint.prepare_torch(); print(os.environ['THP_MEM_ALLOC_ENABLE'])"
    assert run("-c", code, cwd=HERE, env=environment(THP_MEM_ALLOC_ENABLE=chosen)).stdout.strip() == used


@contextlib.contextmanager
def started(*command, cwd=HERE, port=0, **variables):
    """The server as a user starts it, on a free port; yields the process, the port and what it said."""
    argv = [sys.executable, *map(str, command), "--host", "127.0.0.1", "-p", str(port)]
    argv += ["--device-type", "cpu"]
    env = environment(**{"OMP_NUM_THREADS": "1"} | variables)  # as here, so that busy neighbours slow it less
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(argv, cwd=cwd, env=env, text=True, **pipes)
    try:
        lines = []
        while not lines or not lines[-1].startswith("Server ready at http://localhost:"):
            lines.append(process.stdout.readline().rstrip("\n"))
            assert lines[-1] or process.poll() is None, process.stderr.read()
        yield process, int(lines[-1].rpartition(":")[2]), lines
    finally:
        process.kill()
        process.communicate()


def fetch(port, path, method="GET", data=None) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, data)
    return connection.getresponse().read()


def ask(port, json_body) -> bytes:
    return fetch(port, "/chat/completions", "POST", json.dumps(json_body))


def test_it_starts_says_what_it_loads_and_answers_as_its_engine_does(base, tmp_path):
    write_pair(base / "chatsft_checkpoints" / "d4")
    with started(HERE / "chat_web.py", "-d", "float32", cwd=tmp_path) as (process, port, lines):
        said = "\n".join(lines)
        for word in ("d4, sft, step 1", "model_000001.pt", "M parameters", "float32", "cpu", " s", "MB"):
            assert word in said
        writer = checkpoint.read(find("sft"), FLOAT32).engine(torch.device("cpu"))
        prompt = TOKENIZER.render(body("Hello")["messages"])
        want = "".join(TOKENIZER.stream_text(writer.generate(prompt, 30)))
        assert text_of(ask(port, body("Hello", temperature=0, max_tokens=30))) == want
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0 and "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_cpu_without_bfloat16_answers_all_the_same(base, tmp_path, dtype):
    write_pair(base / "chatsft_checkpoints" / "d4")
    command = [HERE / "chat_web.py", "-d", dtype]
    with started(*command, cwd=tmp_path, ONEDNN_MAX_CPU_ISA="AVX2") as (_, port, lines):
        assert re.search(r"decoding: tiled matrices\b", "\n".join(lines))
        assert events(ask(port, body("Hello", max_tokens=5)))[-1] == {"done": True}


@pytest.mark.parametrize("place, command", [
    (".", ["-m", "scripts.chat_web"]), (".", ["scripts/chat_web.py"]), ("scripts", ["-m", "chat_web"]),
])  # fmt: skip
def test_the_four_files_work_from_a_scripts_folder(base, tmp_path, place, command):
    write_pair(base / "chatsft_checkpoints" / "d4")
    (tmp_path / "scripts").mkdir()
    for name in ("chat_web.py", "engine.py", "checkpoint.py", "ui.html"):
        shutil.copy(HERE / name, tmp_path / "scripts")
    with started(*command, cwd=tmp_path / place, PYTHONPATH="") as (_, port, _):
        assert events(ask(port, body("Hello", max_tokens=5)))[-1] == {"done": True}


UNCHANGED = """
import os, signal, threading, warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch misses numpy
    import torch
def state():
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    return dict(os.environ), warnings.filters[:], torch.get_num_threads(), threading.active_count(), handlers
os.environ.clear()  # what the tests themselves have imported is inherited
before = state()
import chat_web, checkpoint, engine
print(state() == before)
"""


def test_importing_the_modules_changes_nothing():
    done = run("-c", UNCHANGED, cwd=HERE)
    assert done.stdout == "True\n" and done.stderr == ""


def test_the_calculator_answers_in_a_server_thread():
    expected = golden_json("tooluse/golden/chatsft_checkpoints__d2__000300.json")
    model = checkpoint.read(checkpoint.find(GOLDENS / "tooluse", "sft"), FLOAT32)
    app = make_app(model.engine(torch.device("cpu")))
    app.open(model.name, model.tokenizer)
    with serving(app) as port:
        for prompt in expected["prompts"]:
            asked = {"messages": prompt["conversation"]["messages"][:1], "temperature": 0}
            assert text_of(ask(port, asked)) == prompt["decoded"].removesuffix("<|assistant_end|>")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_replies_end_and_exits_with_0(base, number):
    write_pair(base / "chatsft_checkpoints" / "d4", meta=change(sequence_len=1024))
    with started(HERE / "chat_web.py") as (process, port, _), connect(port) as sock:
        sock.sendall(request_bytes(body("Hello", max_tokens=100)))
        read_until(sock, b'"token"')
        process.send_signal(number)
        assert read_all(sock).endswith(b'data: {"done": true}\n\n\r\n0\r\n\r\n')
        assert process.wait(30) == 0
        log = process.stderr.read()
        assert "Traceback" not in log and "shutting down" in log
        with pytest.raises(ConnectionError):
            connect(port).close()


def test_idle_connections_of_one_address_leave_others_an_answer():
    app = make_app(ScriptedEngine("ok", END))
    with serving(app) as port, contextlib.ExitStack() as stack:
        before = threading.active_count()
        for _ in range(320):
            stack.enter_context(connect(port)).setblocking(False)
        assert b'"done"' in talk(port, request_bytes(body()), "127.0.0.2")
        most = chat_web.MAX_CONNECTIONS // 2 + 1  # the neighbour's may be ending
        assert threading.active_count() <= before + most  # all before it have been let in or sent away


def test_a_second_signal_ends_at_once(base):
    write_pair(base / "chatsft_checkpoints" / "d4", meta=change(sequence_len=8192))
    with started(HERE / "chat_web.py") as (process, port, _), connect(port) as sock:
        sock.sendall(request_bytes(body("Hello", max_tokens=4096)))
        read_until(sock, b'"token"')
        process.send_signal(signal.SIGINT)
        until(lambda: b"shutting down" in os.read(process.stderr.fileno(), 4096))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 1
        assert b'"done"' not in read_all(sock) and "Traceback" not in process.stderr.read()


def test_replies_that_outlast_the_shutdown_end_in_an_error_event():
    app = make_app(EndlessEngine())
    with asking(app) as sock:
        read_until(sock, b'"token"')
        app.close(0.1)
        assert b'{"error": "the server is shutting down; try again in a few seconds"}' in read_all(sock)
        assert app.pool.available == 1
        assert post(app, body()).status_code == 503
