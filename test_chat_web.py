"""What the chat server promises, one test per promise: pytest test_chat_web.py

python test_chat_web.py --soak MINUTES runs honest and hostile clients against the demo model for so long, and
python test_chat_web.py --load prints what happens when more come than can be served. With --page it prints what a
token costs the browser; with --server what one costs the server, beside uvicorn and FastAPI (which must be installed
for it); with --speed DEPTH how fast this machine writes and reads, beside a plain program over the same weights, and
with --drafts DEPTH what drafting saves.

Most tests use a tiny random model or a scripted engine and need a second or less. The goldens (checkpoints of every era
with the tokens that nanochat's own code gave) are looked for in $NANOCHAT_GOLDENS, else in ../shared/goldens; without
them those tests skip, except in CI. No test asserts a time; where one waits, it waits for an event, or, where
something must not happen, a moment.
"""

import argparse
import base64
import collections
import contextlib
import copy
import dataclasses
import http.client
import http.server
import importlib
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
import ssl
import statistics
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tiktoken
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from werkzeug.test import Client, EnvironBuilder

import chat_web
import checkpoint
import engine

try:
    from playwright import sync_api
    from playwright.sync_api import expect

    expect.set_options(timeout=15000)
except ImportError:  # then the tests in a browser skip
    sync_api = None

HERE = Path(__file__).parent
GOLDENS = Path(os.environ.get("NANOCHAT_GOLDENS", HERE.parent / "shared" / "goldens"))
FLOAT32 = torch.float32
THREADS = torch.get_num_threads()  # as everyone has them who sets nothing
torch.set_num_threads(1)  # the models here are tiny, and threads only wait for each other

# ------------------------------------------------------------------------------------------------------------
# Stand-ins


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
    """Says what it was told to, and remembers what it was asked. `say` may hold texts, tokens and exceptions."""

    def __init__(self, *say, context=4096):
        self.say, self.context, self.asked, self.reused = say, context, [], 0
        self.lost = False  # as if its GPU were gone
        self.going = threading.Event()  # set by its first token
        self.said = 0

    def remembers(self, prompt):
        return 0

    def restart(self):
        if self.lost:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def generate(self, prompt, max_tokens, temperature=0.0, top_k=0, seed=0, top_p=1.0, check=None):
        self.asked.append({"prompt": prompt, "max_tokens": max_tokens, "temperature": temperature, "top_k": top_k,
                           "top_p": top_p, "seed": seed})  # fmt: skip
        for word in self.say:
            if callable(word):
                word = word()
            if isinstance(word, Exception):
                raise word
            for token in [word] if isinstance(word, int) else TOKENIZER.encode(word):
                self.said += 1
                self.going.set()
                yield token


def forever(text="x", pause=0.005):
    """What an engine says that never ends."""
    while True:
        time.sleep(pause)
        yield text


class EndlessEngine(ScriptedEngine):
    def __init__(self, text="x", **kwargs):
        super().__init__(**kwargs)
        self.say = forever(text)


def make_app(*engines, **flags) -> chat_web.ChatServer:
    """The application over scripted engines, as the given flags set it up."""
    argv = [part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    page = chat_web.Page(HERE / "ui.html")
    app = chat_web.ChatServer(chat_web.parse_args(argv), page)
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


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def connect(port) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def talk(port, data: bytes) -> bytes:
    """Sends bytes and reads until the server closes."""
    with connect(port) as sock:
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


# A model of any era, as nanochat would have written it -------------------------------------------------------

CONFIG = {"sequence_len": 64, "vocab_size": V, "n_layer": 4, "n_head": 4, "n_kv_head": 2, "n_embd": 48}
ERA_NAMES = [era.name for era in checkpoint.ERAS]


def random_weights(era_name: str, seed=0, channels=48) -> dict:
    """Seeded normals under the keys and in the shapes of an era."""
    era = next(era for era in checkpoint.ERAS if era.name == era_name)
    sizes = {"R": 320, "C": channels, "F": 4 * channels, "L": 4, "N": channels // 2, "K": 2, "B": 5 * V,
             "G": era.gate_columns}  # fmt: skip
    rng = torch.Generator().manual_seed(seed)
    shapes = checkpoint.expected_shapes(era, sizes)
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


def adapted(era_name: str, meta=None, **weights):
    """checkpoint.adapt over a random model of an era."""
    meta = meta or {"model_config": CONFIG | {"window_pattern": "SSSL"}}
    return checkpoint.adapt(random_weights(era_name) | weights, meta, {}, FLOAT32)


def tiny_model(era_name="R2", context=64) -> engine.GPT:
    _, config, weights, _ = adapted(era_name)
    return engine.GPT(dataclasses.replace(config, sequence_len=context), weights)


def find(*args, **kwargs) -> checkpoint.Found:
    """checkpoint.find in the base directory that the environment names."""
    return checkpoint.find(checkpoint.base_dir(), *args, **kwargs)


def refusal(call, *args) -> str:
    """The sentence with which an operator's mistake ends."""
    with pytest.raises(SystemExit) as caught:
        call(*args)
    sentence = caught.value.code
    assert isinstance(sentence, str) and "\n" not in sentence and "Traceback" not in sentence
    return sentence


# ------------------------------------------------------------------------------------------------------------
# Goldens: every era says what nanochat's own code said


def golden_files() -> list[Path]:
    return sorted(GOLDENS.glob("*/golden/*.json"))


def require_goldens():
    if not golden_files():
        assert not os.environ.get("CI"), f"CI needs the goldens in {GOLDENS}"
        pytest.skip(f"no goldens in {GOLDENS}")


def package(name: str):
    """A package that CI installs, and others may not have."""
    return importlib.import_module(name) if os.environ.get("CI") else pytest.importorskip(name)


def golden_json(name: str):
    require_goldens()
    return json.loads((GOLDENS / name).read_text())


@pytest.fixture(params=golden_files() or [None], ids=lambda path: path and f"{path.parent.parent.name}-{path.stem}")
def golden(request, monkeypatch):
    """What a golden file expects, its logits, and the checkpoint as `find` and `read` give it in float32."""
    require_goldens()
    numpy = package("numpy")
    expected = json.loads(request.param.read_text())
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(request.param.parent.parent))
    found = find(expected["source"], expected["tag"], expected["step"])
    return expected, numpy.load(request.param.with_suffix(".npz")), checkpoint.read(found, FLOAT32)


NoTools = engine.NoTokenizer  # nanochat's naive generation neither stops nor calculates


def roomy(model: checkpoint.Checkpoint, dtype=FLOAT32) -> engine.GPT:
    """The model with a context that holds every golden prompt: its windows stay, as they are lengths of their own."""
    weights = {key: tensor.to(dtype) if tensor.dim() > 1 else tensor for key, tensor in model.weights.items()}
    return engine.GPT(dataclasses.replace(model.config, sequence_len=1024), weights)


def rotary_of(model) -> str:
    return "rope_bf16" if model.config.rope_bf16 else "rope_fp32"


@torch.inference_mode()
def last_logits(model: engine.GPT, ids: list[int]) -> torch.Tensor:
    return model.logits(model.hidden(torch.tensor([ids]))[0, -1])


def test_every_era_is_recognised_from_its_checkpoint_alone(golden):
    expected, _, model = golden
    name = {"P1": "P", "P2": "P", "L": "W"}.get(expected["era"].split()[0], expected["era"].split()[0])
    assert model.era.name == name
    effective, constants, config = expected["effective_config"], expected["constants"], model.config
    for field in ("sequence_len", "vocab_size", "n_layer", "n_head", "n_kv_head", "n_embd"):
        assert getattr(config, field) == effective[field]
    assert config.softcap == constants["softcap"] and config.qk_scale == constants["qk_scale"]
    assert config.rope_base == constants["rope_base"]


def test_logits_are_nanochats(golden):
    expected, logits, model = golden
    same_tables = rotary_of(model) == expected["rotary_tables"]
    gpt = roomy(model)
    for prompt in expected["prompts"]:
        got = last_logits(gpt, prompt["ids"])
        if f"{prompt['name']}.logits" in logits:
            want = torch.from_numpy(logits[f"{prompt['name']}.logits"])
            assert (got - want).abs().max() < (5e-5 if same_tables else 5e-2), prompt["name"]
        if not same_tables and f"{prompt['name']}.logits_{rotary_of(model)}" in logits:
            want = torch.from_numpy(logits[f"{prompt['name']}.logits_{rotary_of(model)}"])
            assert (got - want).abs().max() < 5e-5, prompt["name"]


def test_greedy_tokens_are_nanochats(golden):
    expected, _, model = golden
    same_tables = rotary_of(model) == expected["rotary_tables"]
    naive, full = engine.Engine(roomy(model), NoTools), engine.Engine(roomy(model), model.tokenizer)
    for prompt in expected["prompts"]:
        want = prompt["greedy"] if same_tables else prompt.get(f"greedy_{rotary_of(model)}", prompt["greedy"])
        writer = full if prompt["greedy_source"] == "engine" else naive
        assert list(writer.generate(prompt["ids"], expected["n_new"])) == want, prompt["name"]


def test_greedy_tokens_are_the_same_within_the_models_own_context(golden):
    expected, _, model = golden
    if rotary_of(model) != expected["rotary_tables"]:
        expected["prompts"] = [p | {"greedy": p[f"greedy_{rotary_of(model)}"]} for p in expected["prompts"]
                               if f"greedy_{rotary_of(model)}" in p]  # fmt: skip
    context, gpt = model.config.sequence_len, engine.GPT(model.config, dict(model.weights))
    for prompt in expected["prompts"]:
        tokenizer = model.tokenizer if prompt["greedy_source"] == "engine" else NoTools
        writer, ids = engine.Engine(gpt, tokenizer), prompt["ids"]
        if len(ids) > context:
            with pytest.raises(ValueError, match=rf"{len(ids)} tokens.*{context}"):
                writer.generate(ids, expected["n_new"])
        else:
            want = prompt["greedy"][: context - len(ids)]
            assert list(writer.generate(ids, expected["n_new"])) == want, prompt["name"]


def test_sampled_tokens_are_nanochats(golden):
    if round(float(torch.empty(1).exponential_(generator=torch.Generator().manual_seed(1))), 4) != 0.0630:
        pytest.skip("this torch draws other random numbers than 2.13, with which the goldens were recorded")
    expected, _, model = golden
    writer = engine.Engine(roomy(model), model.tokenizer)
    for prompt in expected["prompts"]:
        for draw in prompt.get("sampled", []):
            settings = (draw["max_tokens"], draw["temperature"], draw["top_k"] or 0, draw["seed"])
            assert list(writer.generate(prompt["ids"], *settings)) == draw["tokens"], (prompt["name"], settings)


def test_conversations_are_rendered_as_training_wrote_them(golden):
    expected, _, model = golden
    marks = {"text": "{}", "python": "<|python_start|>{}<|python_end|>", "python_output": "<|output_start|>{}<|output_end|>"}
    for prompt in expected["prompts"]:
        if prompt["kind"] == "completion":
            messages = [{"role": m["role"], "content": m["content"] if isinstance(m["content"], str) else
                         "".join(marks[part["type"]].format(part["text"]) for part in m["content"])}
                        for m in prompt["conversation"]["messages"]]  # fmt: skip
            if messages[-1]["role"] == "assistant":
                messages.pop()
            assert model.tokenizer.render(messages) == prompt["ids"], prompt["name"]


def test_bfloat16_stays_close_to_float32(golden):
    expected, _, model = golden
    exact, rounded = roomy(model), roomy(model, torch.bfloat16)
    worst = max(float((last_logits(exact, p["ids"]) - last_logits(rounded, p["ids"])).abs().max())
                for p in expected["prompts"])  # fmt: skip
    print(f"bfloat16 against float32, era {model.era.name}: largest logit difference {worst:.3f}")
    assert rounded.weights["lm_head.weight"].dtype == torch.bfloat16
    assert worst < 0.3  # logits reach 15; these random nets exaggerate what trained ones show


def prefers(monkeypatch, **kernels):
    monkeypatch.setattr(engine, "try_out", lambda matrices: engine.Kernels(**kernels))


@pytest.mark.parametrize("cuts, sparse", [(False, 0), (True, 0), (True, 10**9)])
def test_whatever_a_cpu_multiplies_soonest_no_golden_moves(golden, cuts, sparse, monkeypatch):
    prefers(monkeypatch, cuts=cuts)
    monkeypatch.setattr(engine, "SPARSE", sparse)
    expected, logits, model = golden
    same_tables, gpt = rotary_of(model) == expected["rotary_tables"], roomy(model)
    assert gpt.weights["transformer.h.0.mlp.c_fc.weight"].dim() == (3 if cuts else 2)
    for prompt in expected["prompts"]:
        if same_tables and prompt["greedy_source"] == "engine" and f"{prompt['name']}.logits" in logits:
            want = torch.from_numpy(logits[f"{prompt['name']}.logits"])
            assert (last_logits(gpt, prompt["ids"]) - want).abs().max() < 5e-5
            writer = engine.Engine(gpt, model.tokenizer)
            assert list(writer.generate(prompt["ids"], expected["n_new"])) == prompt["greedy"]


@pytest.mark.parametrize("shape", [(768, 96), (320, 64), (1009, 8), (34, 8)])
@pytest.mark.parametrize("dtype", [FLOAT32, torch.bfloat16])
def test_a_cut_matrix_multiplies_as_the_whole_one(shape, dtype, monkeypatch):
    monkeypatch.setattr(engine, "SPARSE", 0)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(shape, generator=generator).to(dtype)
    parts = engine.cut(weight)
    assert parts.dim() == (2 if shape[0] == 1009 else 3)  # a prime cannot be cut
    for rows in (1, 2, engine.MANY - 1, engine.MANY + 1):
        x = torch.randn(1, rows, shape[1], generator=generator).relu().to(dtype)
        want = torch.nn.functional.linear(x.float(), weight.float())
        for held, sparse, widens in itertools.product((weight, parts), (False, True), (False, True)):
            y = engine.linear(x, held, sparse, widens)
            assert y.dtype == dtype and (y - want).abs().max() < (1e-4 if dtype == FLOAT32 else 0.02 * want.abs().max())
    assert not engine.linear(torch.zeros(1, 1, shape[1], dtype=dtype), parts, sparse=True).any()


@pytest.mark.parametrize("cuts", [False, True])
def test_many_rows_may_go_through_float32_and_few_do_not(cuts, monkeypatch):
    used = []
    for owner, name in ((torch.nn.functional, "linear"), (torch, "mm"), (torch, "matmul")):
        function = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda x, w, function=function, **more: used.append(x.dtype) or function(x, w, **more))
    weight = torch.ones(64, 32, dtype=torch.bfloat16)
    for rows, widens, dtype in ((engine.MANY, True, FLOAT32), (engine.MANY, False, torch.bfloat16), (engine.MANY - 1, True, torch.bfloat16)):
        used.clear()
        engine.linear(torch.ones(rows, 32, dtype=torch.bfloat16), engine.cut(weight) if cuts else weight, widens=widens)
        assert set(used) == {dtype}


def test_what_is_tried_out_is_what_was_faster(monkeypatch):
    for fastest in ("plain", "cut", "wide plain"):
        monkeypatch.setattr(engine, "shortest", lambda ways, times, fastest=fastest: dict.fromkeys(ways, 2.0) | {fastest: 1.0, True: 3.0})
        chosen = engine.try_out([torch.ones(64, 32, dtype=torch.bfloat16)] * 2)
        assert chosen == engine.Kernels(cuts=fastest == "cut", widens=False, lags=fastest == "wide plain")
    monkeypatch.setattr(engine, "shortest", lambda ways, times: {way: 1.0 if way in ("cut", True) else 1.1 for way in ways})
    assert engine.try_out([torch.ones(64, 32, dtype=torch.bfloat16)]) == engine.Kernels(cuts=True, widens=True)
    assert engine.try_out([torch.ones(64, 32)]) == engine.Kernels(cuts=True)


@pytest.mark.parametrize("lags", [False, True])
def test_a_cpu_that_is_slow_in_bfloat16_is_told_so(lags, monkeypatch):
    prefers(monkeypatch, lags=lags)
    _, config, weights, _ = adapted("R2")
    writer = engine.Engine(engine.GPT(config, {key: w.bfloat16() for key, w in weights.items()}), NoTools)
    assert ("-d float32 is faster here" in writer.mode) == lags


def test_tag_and_step_are_guessed_as_nanochat_does(tmp_path, monkeypatch):
    guess = golden_json("guess/guess.json")
    shutil.copytree(GOLDENS / "guess", tmp_path / "guess")
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path / "guess"))
    for path, mtime in guess["set_mtime_before_testing"].items():
        os.utime(tmp_path / "guess" / path, (mtime, mtime))
    for source, want in guess["sources"].items():
        found = find(source)
        assert found.model == tmp_path / "guess" / want["directory"] / want["tag"] / f"model_{want['step']:06d}.pt"
        for tag, step in want["last_step_of_tag"].items():
            assert find(source, tag).model.name == f"model_{step:06d}.pt"


# ------------------------------------------------------------------------------------------------------------
# The engine


@pytest.mark.parametrize("era", ERA_NAMES)
@torch.inference_mode()
def test_cached_steps_equal_one_full_forward_at_every_position(era):
    model = tiny_model(era, context=150)  # longer than every window of a sequence_len of 64
    ids = torch.randint(0, V, (1, 150), generator=torch.Generator().manual_seed(1))
    whole = model.logits(model.hidden(ids))[0]
    for cuts in ([1] * 150, [7, 1, 1, 40, 1, 64, 36], [149, 1]):
        cache = engine.KVCache(model.config, model.device, model.dtype)
        pieces = torch.cat([model.logits(model.hidden(part, cache))[0] for part in ids.split(cuts, dim=1)])
        assert (pieces - whole).abs().max() < 1e-4, cuts
        cache.rewind(0)
        ends = [model.logits(model.hidden(part, cache, last=1))[0, 0] for part in ids.split(cuts, dim=1)]
        assert (torch.stack(ends) - whole[torch.tensor(cuts).cumsum(0) - 1]).abs().max() < 1e-4, cuts


@torch.inference_mode()
def test_a_prompt_costs_the_last_layer_one_position():
    """Its keys and values are of all positions, and the rest of it only where a token follows."""
    seen = collections.defaultdict(list)

    class Watched(engine.GPT):
        def mlp(self, i, a):
            seen[i].append(a.shape[1])
            return super().mlp(i, a)

    _, config, weights, _ = adapted("R2")
    list(engine.Engine(Watched(config, weights), NoTools, drafts=False).generate([1] * 20, 3))
    last = max(seen)
    assert seen[last] == [1, 1, 1] and all(seen[i] == [20, 1, 1] for i in range(last))


@pytest.mark.parametrize("heads, shared", [(4, 4), (4, 2), (4, 1)])
def test_one_query_attends_as_torch_has_it(heads, shared):
    generator = torch.Generator().manual_seed(1)
    config = engine.Config(sequence_len=40, vocab_size=V, n_head=heads, n_kv_head=shared, n_embd=8 * heads, windows=(None, 9))
    cache = engine.KVCache(config, torch.device("cpu"), FLOAT32)
    q, keys, values = (torch.randn(1, n, length, 8, generator=generator) for n, length in ((heads, 1), (shared, 33), (shared, 33)))
    for length in range(33):
        cache.rewind(length)
        for layer, window in enumerate(config.windows):
            oldest, how = cache.reach(1, 1, window)
            k, v = cache.append(layer, keys[:, :, [length]], values[:, :, [length]], oldest)
            seen = slice(oldest, length + 1)
            assert k.size(2) == min(length + 1, 10 if window else 33)
            want = torch.nn.functional.scaled_dot_product_attention(q, keys[:, :, seen], values[:, :, seen], scale=0.3, enable_gqa=True)
            assert torch.allclose(engine.attend_once(q * 0.3, k, v, **how), want, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 64), (1, 1, 3, 16), (1, 5, 64), (2, 5, 3, 16)])
@pytest.mark.parametrize("dtype", [FLOAT32, torch.bfloat16])
def test_norm_is_the_formula_whatever_the_shape(shape, dtype):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    x[0, 0] *= 1e-4  # where the epsilon counts
    want = (x.double() / (x.double().square().mean(-1, keepdim=True) + 2**-23).sqrt()).to(dtype)
    assert engine.norm(x).dtype == dtype
    assert torch.allclose(engine.norm(x), want, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 64), (2, 5, 3, 16)])
def test_norm_can_be_trained_through(shape):
    x, weights = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    x.requires_grad_()
    slow = torch.nn.functional.rms_norm(x, shape[-1:], eps=2**-23)
    got, want = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (engine.norm(x), slow))
    assert torch.allclose(got, want, rtol=1e-4, atol=1e-5)


def test_rows_that_are_not_used_are_not_read(monkeypatch):
    """Whatever stands there, as long as most of what multiplies it is zero."""
    monkeypatch.setattr(engine, "SPARSE", 0)
    weight, x = torch.ones(64, 50), torch.zeros(1, 1, 50)
    x[..., :10] = 1
    weight[:, 10:] = torch.nan
    assert (engine.linear(x, engine.cut(weight), sparse=True) == 10).all()
    assert engine.linear(x, engine.cut(weight)).isnan().all()


@torch.inference_mode()
def test_windows_and_features_make_a_difference():
    """The test above would pass for a model that ignores them all."""
    ids = torch.randint(0, V, (1, 150), generator=torch.Generator().manual_seed(1))
    for era in ERA_NAMES:
        _, config, weights, _ = adapted(era)
        config = dataclasses.replace(config, sequence_len=150)
        whole = engine.GPT(config, dict(weights)).hidden(ids)[0, -1]
        if "lambdas" in next(e.features for e in checkpoint.ERAS if e.name == era):
            narrower = dataclasses.replace(config, windows=tuple(w - 1 for w in config.windows))
            assert (engine.GPT(narrower, dict(weights)).hidden(ids)[0, -1] - whole).abs().max() > 1e-4, era
        for key in ("smear_lambda", "backout_lambda", "bigram_lambdas", "v0_lambdas", "value_embeds.3.weight"):
            if key in weights:
                without = weights | {key: torch.zeros_like(weights[key])}
                assert (engine.GPT(config, without).hidden(ids)[0, -1] - whole).abs().max() > 1e-4, (era, key)


@pytest.mark.parametrize("V", [1, 5, 50, 2000, 32768])
def test_a_draw_is_that_of_torchs_multinomial(V):
    """Which is nanochat's, so that a seed says the same under any torch."""
    for seed in range(20):
        logits = torch.randn(V, generator=torch.Generator().manual_seed(1000 + seed))
        ours, torchs = (torch.Generator().manual_seed(seed) for _ in range(2))
        probabilities = torch.softmax(logits / 0.8, dim=-1)
        assert int(engine.draw(logits, 0.8, ours)) == int(torch.multinomial(probabilities, 1, generator=torchs))


@pytest.mark.parametrize("T, S, window, K", [(1, 40, None, 4), (9, 9, None, 4), (9, 40, None, 2), (9, 40, 3, 2), (1, 5, 3, 1), (30, 30, 7, 4)])
def test_attention_without_torchs_is_the_same(T, S, window, K):
    """What runs on MPS, here on a CPU."""
    rng = torch.Generator().manual_seed(1)
    oldest, mask = engine.reach(T, S, window, torch.device("cpu"))
    q = torch.randn(1, T, 4, 8, generator=rng).transpose(1, 2)
    k, v = (torch.randn(1, K, S, 8, generator=rng)[:, :, oldest:] for _ in range(2))
    torchs = torch.nn.functional.scaled_dot_product_attention(q, k, v, **mask, scale=0.3, enable_gqa=K != 4)
    torch.testing.assert_close(engine.attend_plainly(q * 0.3, k, v, **mask), torchs)


def test_same_seed_and_prompt_give_the_same_tokens_whatever_came_before():
    writer = engine.Engine(tiny_model(), NoTools)
    first = list(writer.generate([1, 2, 3], 20, 1.0, 50, seed=7))
    list(writer.generate([9] * 30, 20, 1.0, 0, seed=8))
    unfinished = writer.generate([5] * 20, 20, 1.0, 0, seed=9)
    next(unfinished)
    assert list(writer.generate([1, 2, 3], 20, 1.0, 50, seed=7)) == first
    assert list(writer.generate([1, 2, 3], 20, 1.0, 50, seed=8)) != first


@pytest.mark.parametrize("era", ERA_NAMES)
def test_what_the_cache_remembers_changes_no_token(era, monkeypatch):
    """Random edits, regenerations and interleaved conversations, against an engine that remembers nothing."""
    monkeypatch.setattr(engine, "CHUNK", 7)
    model, rng = tiny_model(era), random.Random(era)
    writer, prompt, reused = engine.Engine(model, NoTools), [1], []
    for seed in range(40):
        prompt = rng.choice([
            lambda: prompt + list(writer.read[len(prompt) :]) + [rng.randrange(V) for _ in range(5)],  # goes on
            lambda: prompt,  # regenerates
            lambda: prompt[: rng.randrange(1, len(prompt) + 1)],  # goes back
            lambda: [*prompt[: rng.randrange(len(prompt))], rng.randrange(V), *prompt[-9:]],  # edits
            lambda: [rng.randrange(V) for _ in range(rng.randrange(1, 50))],  # another conversation
        ])()[:55]  # fmt: skip
        settings = (9, rng.choice([0.0, 1.0]), 50, seed)
        assert list(writer.generate(prompt, *settings)) == list(engine.Engine(model, NoTools).generate(prompt, *settings))
        reused.append(writer.reused)
    assert sum(count > 0 for count in reused) > 10


@pytest.mark.parametrize("era", ERA_NAMES)
def test_decoding_ahead_changes_no_token(era, monkeypatch):
    """The steps that CUDA records, here unrecorded: over several strides and windows, with what was remembered."""
    monkeypatch.setattr(engine, "STRIDE", 16)
    monkeypatch.setattr(engine, "WIDEST", 5)
    model, rng = tiny_model(era, context=300), random.Random(era)
    one, two = engine.Engine(model, NoTools, ahead=True), engine.Engine(model, NoTools, ahead=False)
    assert one.ahead.stride == 18 and len(one.ahead.steps) == 17 and not two.ahead
    prompt = [1]
    for seed in range(16):
        more = [rng.randrange(V) for _ in range(rng.randrange(1, 60))]
        prompt = rng.choice([[*one.read, *more], prompt, prompt[: len(prompt) // 2 + 1]])[:280]
        settings = rng.choice([(0.0, 0), (1.0, 0), (1.0, 5), (0.7, 1), (1.0, 999), (1.0, 0, 0.5), (2.0, 5, 0.5)])
        settings = (rng.choice([3, 40]), *settings[:2], seed, *settings[2:])
        assert list(one.generate(prompt, *settings)) == list(two.generate(prompt, *settings)), settings
        assert one.read == two.read and one.reused == two.reused


class Operations(TorchDispatchMode):
    """Notes the device of whatever tensor an operation takes or gives."""

    def __init__(self):
        super().__init__()
        self.devices = Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        tensors = [x for x in torch.utils._pytree.tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        self.devices.update((str(operation), x.device.type) for x in tensors)
        return result


@pytest.mark.parametrize("era", ERA_NAMES)
def test_what_is_recorded_stays_on_its_device(era, monkeypatch):
    """A graph cannot wait for a number or use the host's memory: here the device has none, and to ask for a number raises."""
    monkeypatch.setattr(engine.Ahead, "compare", lambda self: None)
    _, config, weights, _ = adapted(era)
    model = engine.GPT(dataclasses.replace(config, sequence_len=600), {key: w.bfloat16().to("meta") for key, w in weights.items()})
    ahead = engine.Ahead(model, engine.KVCache(model.config, model.device, model.dtype), None)
    with torch.no_grad(), Operations() as seen:
        for work in [*ahead.steps, *ahead.draws.values()]:
            work()
    assert len(ahead.steps) == 3 and len(ahead.draws) == 4
    assert {device for _, device in seen.devices} == {"meta"}, seen.devices


def test_no_step_is_recorded_where_a_query_sees_no_key(monkeypatch):
    """The answer of such a query depends on the kernel, and would stay in the cache. On CUDA a step runs before it is recorded."""
    unseen, attend, record = [], engine.GPT.attend, engine.Ahead.record

    def watched(self, q, k, v, mask):
        unseen.append("attn_mask" in mask and bool(mask["attn_mask"].isinf().all()))
        return attend(self, q, k, v, mask)

    monkeypatch.setattr(engine.GPT, "attend", watched)
    monkeypatch.setattr(engine.Ahead, "record", lambda self, work: work() or record(self, work))
    _, config, weights, _ = adapted("R2", {"model_config": CONFIG | {"window_pattern": "SSSL", "sequence_len": 4096}})
    model = engine.GPT(config, weights)
    engine.Ahead(model, engine.KVCache(config, model.device, model.dtype), torch.Generator())
    assert len(unseen) > 4 * 16 and not any(unseen)


def test_a_step_ahead_that_did_not_count_draws_no_token():
    """What the calculator forces comes instead of a token that was already drawn."""
    require_goldens()
    model = checkpoint.read(checkpoint.find(GOLDENS / "tooluse", "sft"), FLOAT32)
    gpt, lengths = engine.GPT(model.config, model.weights), []
    one, two = (engine.Engine(gpt, model.tokenizer, ahead=ahead) for ahead in (True, False))
    for seed in range(12):
        prompt = model.tokenizer.render(body("What is 12 * 34?")["messages"])
        first, second = (list(writer.generate(prompt, 60, 1.0, 0, seed)) for writer in (one, two))
        assert first == second
        lengths.append(model.tokenizer.special["<|output_start|>"] in first)
    assert any(lengths)


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@needs_cuda
@pytest.mark.parametrize("era", ERA_NAMES)
def test_recorded_steps_change_no_token_on_cuda(era):
    _, config, weights, _ = adapted(era)
    weights = {key: tensor.cuda() for key, tensor in weights.items()}
    model, rng = engine.GPT(dataclasses.replace(config, sequence_len=600), weights), random.Random(era)
    one, two = engine.Engine(model, NoTools), engine.Engine(model, NoTools, ahead=False)
    assert one.mode == "3 CUDA graphs" and two.mode == "eager"
    for seed in range(16):
        prompt = [rng.randrange(V) for _ in range(rng.randrange(1, 500))]
        settings = rng.choice([(0.0, 0), (1.0, 0), (1.0, 50), (0.7, 1), (1.0, 0, 0.5), (2.0, 50, 0.5)])
        settings = (rng.choice([3, 99]), *settings[:2], seed, *settings[2:])
        assert list(one.generate(prompt, *settings)) == list(two.generate(prompt, *settings)), settings


@needs_cuda
def test_two_replicas_on_one_gpu_say_what_one_says():
    _, config, weights, _ = adapted("R2")
    weights = {key: tensor.cuda() for key, tensor in weights.items()}
    model = engine.GPT(dataclasses.replace(config, sequence_len=600), weights)
    writers, prompts = [engine.Engine(model, NoTools) for _ in range(2)], [[seed] * 40 for seed in range(40)]

    def replies(writer):
        return [list(writer.generate(prompt, 200, 1.0, 50, seed)) for seed, prompt in enumerate(prompts)]

    want = replies(writers[0])
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(replies, writers)) == [want, want]


def test_what_cannot_be_recorded_is_decoded_without_it(monkeypatch):
    monkeypatch.setattr(engine.Ahead, "step", lambda self, end: self.logits.add_(1))
    model = tiny_model()
    writer = engine.Engine(model, NoTools, ahead=True)
    assert writer.mode.startswith("eager, since CUDA graphs failed: ") and "something else" in writer.mode
    assert list(writer.generate([1, 2], 9)) == list(engine.Engine(model, NoTools).generate([1, 2], 9))


class Forwards(engine.GPT):
    """Counts its forward passes."""

    count = 0

    def hidden(self, ids, cache=None, last=0):
        self.count += 1
        return super().hidden(ids, cache, last)


@pytest.mark.parametrize("era", ERA_NAMES)
def test_drafts_change_no_token_and_save_passes(era):
    """Over prompts full of repetition, whose drafts are right, half right and wrong."""
    _, config, weights, _ = adapted(era)
    model, rng = Forwards(dataclasses.replace(config, sequence_len=200), weights), random.Random(era)
    drafting, plain = (engine.Engine(model, NoTools, drafts=drafts) for drafts in (True, False))
    saved, prompt = 0, [1]
    for seed in range(15):
        phrase = [rng.randrange(V) for _ in range(rng.randrange(3, 12))]
        prompt = rng.choice([prompt + phrase * 3, list(drafting.read) + phrase, phrase * 5])[:190]
        settings = (60, rng.choice([0.0, 0.0, 0.05, 0.3, 1.0]), 0, seed)
        before = model.count
        first = list(drafting.generate(prompt, *settings))
        passes, before = model.count - before, model.count
        assert first == list(plain.generate(prompt, *settings)), settings
        assert drafting.read == plain.read and drafting.reused == plain.reused
        saved += model.count - before - passes
    assert saved > 30


def test_a_new_reply_uses_no_draft_of_the_last_one():
    writer = engine.Engine(tiny_model(), NoTools)
    first = list(writer.generate([1, 2, 3], 9))
    writer.drafted.append((3, torch.zeros(V)))  # as a reply leaves it that ends in the middle of a draft
    assert list(writer.generate([1, 2, 3], 9)) == first and writer.reused == 2


def test_drafts_that_are_always_wrong_become_rare():
    tokens = [1, 2, 3, 4] * 100
    lookup = engine.Lookup(tokens)
    sizes = []
    for _ in range(500):
        sizes.append(len(lookup.draft(1, wrong=sizes[-1] if sizes else 0, room=99)))
        tokens += [1, 2, 3, 4]
    assert sizes[0] == engine.SHORTEST and sum(map(bool, sizes)) < 15
    lookup = engine.Lookup(tokens)
    assert [len(lookup.draft(1, wrong=0, room=room)) for room in (99, 99, 99, 99, 5, 0)] == [7, 14, 15, 15, 5, 0]
    assert lookup.draft(1, wrong=0, room=9) == [2, 3, 4, 1, 2, 3, 4, 1, 2]


def test_a_conversation_is_read_once():
    model = CountingModel([65, 66, END], [1, 2, 3])
    writer = engine.Engine(model, TOKENIZER)
    first = list(writer.generate([1, 2, 3], 50))
    model.calls.clear()
    list(writer.generate([1, 2, 3, *first, 7, 8, 9], 1))
    assert sum(model.calls) == 4 and writer.reused == 5  # the end token and what is new
    assert writer.remembers([1, 2, 9]) == 2 and writer.remembers([1]) == 0


def test_a_long_prompt_can_be_given_up_between_its_chunks(monkeypatch):
    monkeypatch.setattr(engine, "CHUNK", 10)
    writer = engine.Engine(tiny_model(), NoTools)

    def give_up():
        raise chat_web.ClientGone

    with pytest.raises(chat_web.ClientGone):
        next(writer.generate([1] * 30, 5, check=give_up))
    assert writer.read == [1] * 10  # and what was read is not read again
    assert list(writer.generate([1] * 30, 5)) == list(engine.Engine(tiny_model(), NoTools).generate([1] * 30, 5))


def test_a_reply_ends_when_the_context_is_full():
    writer = engine.Engine(tiny_model(), NoTools)
    assert len(list(writer.generate([1] * 60, 500))) == 4
    assert list(writer.generate([1] * 64, 500)) == []
    for prompt in ([], [1] * 65):
        with pytest.raises(ValueError, match=f"{len(prompt)} tokens.*64"):
            writer.generate(prompt, 5)


class CountingModel:
    """Ignores its input and picks script[n] after n tokens of reply have been read; counts what it computes."""

    device, dtype = torch.device("cpu"), FLOAT32
    config, kernels = engine.Config(4096, 569, 1, 1, 2, (None,)), engine.Kernels()

    def __init__(self, script, prompt):
        self.script, self.prompt, self.calls = script, prompt, []

    def hidden(self, ids, cache, last):
        self.calls.append(ids.shape[1])
        cache.advance(ids)
        self.length = cache.length
        return torch.zeros(1, last, 2)

    def logits(self, x):
        steps = range(self.length - len(x) + 1 - len(self.prompt), self.length + 1 - len(self.prompt))
        tokens = [self.script[min(step, len(self.script) - 1)] for step in steps]
        return torch.nn.functional.one_hot(torch.tensor(tokens), 569).float()


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
    assert len(model.calls) == len(reply) - forced  # one pass per sampled token, the forced ones read in one go
    assert sum(model.calls) == 3 + len(reply) - 1  # and the last token is never read


def test_top_k_and_temperature_are_what_they_say():
    logits = torch.tensor([0.0, 3.0, 1.0, 2.0])
    rng = torch.Generator().manual_seed(0)
    draw = lambda *settings: [engine.sample(logits, *settings, rng) for _ in range(4000)]  # noqa: E731
    assert set(draw(0.0, 0)) == {1}
    assert set(draw(1.0, 1)) == {1}
    assert set(draw(1.0, 2)) == {1, 3}
    assert set(draw(1.0, 0)) == set(draw(1.0, 200)) == {0, 1, 2, 3}
    assert set(draw(1e-300, 0)) == {1}  # no infinity on the way
    share = torch.bincount(torch.tensor(draw(2.0, 0)), minlength=4) / 4000
    assert torch.allclose(share, torch.softmax(logits / 2.0, 0), atol=0.03)


# What the calculator answers other than nanochat, and why ---------------------------------------------------

CALCULATOR_EXCEPTIONS = {
    # artefacts of evaluating with Python: no result
    "...": None,
    "()": None,
    "1" + "0" * 400 + ".0": None,
    "'x'.count('x').real": None,
    "'ABC'.lower().count('b')": None,
    "'.count('": None,
    "not 'abc'.count('z')": None,
    "'abc'.count('a') and 'yes'": None,
    "'a'.count('a') if True else 0": None,
    # the comma inside a string is what is counted
    "'a,b,c'.count(',')": "2",
    # harmless words that hold a forbidden one (profile: file), and harmless characters
    "'profile'.count('f')": "1",
    "'directory'.count('r')": "2",
    "'opener'.count('e')": "2",
    "'evaluate'.count('a')": "2",
    "'inputs'.count('s')": "1",
    "'Files'.count('s')": "1",
    "'imports'.count('s')": "1",
    "'a__b'.count('_')": "2",
    "'café'.count('é')": "1",
    "'a-b'.count('a')": "1",
    "'how many?'.count('m')": "1",
}


def test_calculator_answers_as_nanochat_but_for_the_listed_exceptions():
    rows = golden_json("calculator.json")["rows"]
    exceptions = {row["expr"] for row in rows if engine.calculate(row["expr"]) != row["head"]}
    assert {expr: engine.calculate(expr) for expr in exceptions} == CALCULATOR_EXCEPTIONS


@pytest.mark.parametrize("expression", [
    "__import__('os').system('true')", "().__class__", "'a'*10**9", "9**9**9", "2 **3", "'a'.count('a')*10**9", "1if 1else 2",
    "(" * 400 + "1" + ")" * 400, "-" * 999 + "1", "1" * 5000, "1+" * 499 + "x", "'a'.count(b'a')", "f'{1}'.count('1')",
    "'\\x41'.count('A')", "1e400", "1_0", "0x1", "1j", "\x00", "'a\x00'.count('a').count", "\u00b2", "1=1", "lambda:1", "x:=1",
])  # fmt: skip
def test_calculator_refuses_everything_else(expression):
    assert engine.calculate(expression) is None


def test_calculator_works_off_the_main_thread():
    answers = []
    thread = threading.Thread(target=lambda: answers.append(engine.calculate("12*34")))
    thread.start()
    thread.join()
    assert answers == ["408"]


def test_calculator_stays_small_at_its_longest():
    longest = "9" * 499 + "*" + "9" * 499
    assert engine.calculate(longest) == str(int("9" * 499) ** 2)
    assert engine.calculate("1+" * 300 + "1") == "301"
    assert engine.calculate(longest + "9" * 2) is None


# ------------------------------------------------------------------------------------------------------------
# Finding a checkpoint


def test_base_directory_is_the_variable_else_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path))
    assert checkpoint.base_dir() == tmp_path
    monkeypatch.delenv("NANOCHAT_BASE_DIR")
    assert checkpoint.base_dir() == Path.home() / ".cache" / "nanochat"


def test_sources_are_nanochats_folders(base):
    for folder in ("chatsft_checkpoints", "chatrl_checkpoints", "mid_checkpoints", "base_checkpoints"):
        write_pair(base / folder / "d4")
    for source in ("sft", "rl", "mid", "base"):
        assert find(source).model.parent.parent.name in checkpoint.SOURCES[source]
        assert find(source).tokenizer == base / "tokenizer" / "tokenizer.pkl"


def test_sft_is_also_found_where_one_day_of_nanochat_put_it(base):
    write_pair(base / "sft_checkpoints" / "d4")
    assert find("sft").model == base / "sft_checkpoints" / "d4" / "model_000001.pt"


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
    for name in ("model_000200_backup.pt", "model_best.pt", "model_000300.pt.tmp", "meta_000400.json", "model_000500.pt"):
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
    assert find("sft").tokenizer == base / "tokenizer" / "tokenizer.pkl" and find("sft").name == "d4, sft, step 1"
    snapshot, blobs = tmp_path / "cache" / "snapshot", tmp_path / "cache" / "blobs"
    write_tokenizer(snapshot)
    write_pair(blobs)
    for blob in blobs.iterdir():
        (snapshot / blob.name).symlink_to(blob)
    assert checkpoint.read(find("sft", str(snapshot)), FLOAT32).name == "snapshot, step 1"


def test_what_is_not_found_is_told_with_where_what_was_there_and_what_to_pass(base, monkeypatch):
    write_pair(base / "base_checkpoints" / "d4", 7)
    sentence = refusal(find, "sft")
    assert str(base / "chatsft_checkpoints") in sentence and "base_checkpoints" in sentence and "-i base" in sentence
    sentence = refusal(find, "base", "d20")
    assert "d20" in sentence and "d4" in sentence and "-g" in sentence
    sentence = refusal(find, "base", "d4", 8)
    assert "8" in sentence and "7" in sentence and "-s" in sentence
    assert "/no/where" in refusal(find, "base", "/no/where")
    assert "meta" in refusal(find, "base", str(base))
    (base / "tokenizer" / "tokenizer.pkl").unlink()
    assert "tokenizer.pkl" in refusal(find, "base")
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(base / "gone"))
    sentence = refusal(find, "sft")
    assert str(base / "gone") in sentence and "does not exist" in sentence and "NANOCHAT_BASE_DIR" in sentence


# Reading ------------------------------------------------------------------------------------------------------


def change(**changes):
    """A meta whose model_config differs; None removes an entry."""
    given = {name: value for name, value in (CONFIG | {"window_pattern": "SSSL"} | changes).items() if value is not None}
    return {"model_config": given}


def without(key):
    return {name: tensor for name, tensor in random_weights("R2").items() if name != key}


def extended(**extra):
    return random_weights("R2") | {name.replace("__", "."): value for name, value in extra.items()}


GATE_OF_THE_LAST = checkpoint.GATE.format(last=CONFIG["n_layer"] - 1)
MISFITS = {
    "missing key": (without("transformer.h.2.mlp.c_fc.weight"), None, ["transformer.h.2.mlp.c_fc.weight", "missing"]),
    "unknown key": (extended(surprise=torch.ones(2)), None, ["surprise", "unknown"]),
    "wrong shape": (extended(lm_head__weight=torch.ones(320, 40)), None, ["lm_head.weight", "(320, 40)", "(320, 48)"]),
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
    "vocabulary of another tokenizer": (None, change(vocab_size=V - 1), [str(V), str(V - 1), "tokenizer.pkl"]),
    "window pattern": (None, change(window_pattern="SXL"), ["window_pattern", "SXL"]),
    "softcap": (None, change(softcap=-1), ["softcap", "-1"]),
    "experts": (extended(transformer__h__0__mlp__router__gate__weight=torch.ones(4, 48)), None, ["mixture-of-experts"]),
    "experts in the meta": (None, change(num_experts=8), ["mixture-of-experts"]),
    "no room for a reply": (None, change(sequence_len=1), ["sequence_len is 1"]),
    "no channels": (extended(transformer__wte__weight=torch.ones(320, 0)), None, ["0 channels"]),
    "fewer channels than smear reads": (random_weights("R2", channels=16), None, ["16 channels", "R2"]),
    "a gate without columns": (random_weights("R1") | {GATE_OF_THE_LAST: torch.ones(())}, None, ["ve_gate.weight", "unknown"]),
}  # fmt: skip


@pytest.mark.parametrize("weights, meta, words", MISFITS.values(), ids=MISFITS)
def test_a_checkpoint_that_does_not_fit_ends_in_a_sentence_with_file_and_reason(base, weights, meta, words):
    write_pair(base / "chatsft_checkpoints" / "d4", weights=weights, meta=meta)
    sentence = refusal(checkpoint.read, find("sft"), FLOAT32)
    for word in [str(base), *words]:
        assert word in sentence


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused(base):
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    write_pair(base / "chatsft_checkpoints" / "d4", weights=extended(lm_head__weight=nested))
    assert "dict of tensors" in refusal(checkpoint.read, find("sft"), FLOAT32)


def test_a_model_file_in_torchs_older_forms_is_refused(base):
    """They take other ways through torch, one of which has run code in releases that are allowed here."""
    write_pair(base / "chatsft_checkpoints" / "d4")
    torch.save(random_weights("R2"), find("sft").model, _use_new_zipfile_serialization=False)
    assert "no zip archive" in refusal(checkpoint.read, find("sft"), FLOAT32)


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "json"])
def test_a_damaged_file_ends_in_a_sentence_with_its_name(base, damage):
    folder = base / "chatsft_checkpoints" / "d4"
    write_pair(folder)
    model, meta = folder / "model_000001.pt", folder / "meta_000001.json"
    victim = meta if damage == "json" else model
    whole = victim.read_bytes()
    victim.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"hello", "json": b'{"model_config": '}[damage])
    assert str(victim) in refusal(checkpoint.read, find("sft"), FLOAT32)


class Attack:
    """Unpickling this creates a file: the code of a hostile checkpoint."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_hostile_model_file_is_refused_and_its_code_has_not_run(base, tmp_path):
    write_pair(base / "chatsft_checkpoints" / "d4", weights={"transformer.wte.weight": Attack(tmp_path / "ran")})
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


def test_a_tokenizer_that_cannot_chat_is_refused_by_the_token_it_lacks(tmp_path):
    ranks = {bytes([byte]): byte for byte in range(256)}
    encoding = tiktoken.Encoding("x", pat_str=r"\S+", mergeable_ranks=ranks, special_tokens={"<|bos|>": 256})
    (tmp_path / "tokenizer.pkl").write_bytes(pickle.dumps(encoding, protocol=4))
    assert "<|user_start|>" in refusal(checkpoint.read_tokenizer, tmp_path / "tokenizer.pkl")


@pytest.mark.parametrize("pattern", ["", "x*", "(?!)", r"\S+", "("])
def test_a_tokenizer_whose_pattern_leaves_out_text_is_refused(tmp_path, pattern):
    odd = byte_encoding()
    odd._pat_str = pattern
    (tmp_path / "tokenizer.pkl").write_bytes(pickle.dumps(odd, protocol=4))
    assert "tokenizer.pkl" in refusal(checkpoint.read_tokenizer, tmp_path / "tokenizer.pkl")


def test_compiled_models_prefix_is_dropped(base):
    plain, prefixed = random_weights("R2"), {f"_orig_mod.{k}": v for k, v in random_weights("R2").items()}
    write_pair(base / "chatsft_checkpoints" / "d4", 1, plain)
    write_pair(base / "chatsft_checkpoints" / "d4", 2, prefixed)
    one, two = (checkpoint.read(find("sft", step=step), FLOAT32) for step in (1, 2))
    assert one.weights.keys() == two.weights.keys()
    assert all(torch.equal(one.weights[key], two.weights[key]) for key in one.weights)


def test_shapes_win_over_the_meta(base):
    write_pair(base / "chatsft_checkpoints" / "d4", meta=change(n_embd=999, n_layer=77, n_kv_head=4))
    config = checkpoint.read(find("sft"), FLOAT32).config
    assert (config.n_embd, config.n_layer, config.n_kv_head) == (48, 4, 2)


def test_matrices_are_held_in_the_dtype_asked_for_and_lambdas_in_float32(base):
    write_pair(base / "chatsft_checkpoints" / "d4")
    weights = checkpoint.read(find("sft"), torch.bfloat16).engine(torch.device("cpu")).model.weights
    assert {tensor.dtype for tensor in weights.values() if tensor.dim() > 1} == {torch.bfloat16}
    assert {tensor.dtype for tensor in weights.values() if tensor.dim() == 1} == {FLOAT32}


def test_missing_windows_follow_nanochats_three_rules():
    bare = {name: value for name, value in CONFIG.items() if name != "window_pattern"}
    assert adapted("P", {"model_config": bare})[1].windows == (None,) * 4
    assert adapted("W", {"model_config": bare, "device_batch_size": 32})[1].windows == (None,) * 4  # base
    _, config, _, notes = adapted("W", {"model_config": bare})  # mid or sft
    assert config.windows == (64,) * 4 and "window_pattern" in notes[0]


def test_short_windows_are_each_eras_own():
    for era, want in (("W", [32, 128, 256, 512, 1024]), ("G", [32, 128, 256, 512, 1024]),
                      ("R1", [128, 128, 256, 384, 768]), ("R2", [128, 128, 128, 256, 512])):  # fmt: skip
        lengths = (64, 256, 512, 1024, 2048)
        metas = [change(sequence_len=length, window_pattern="sL") for length in lengths]
        assert [adapted(era, meta)[1].windows[0] for meta in metas] == want
        assert adapted(era, metas[0])[1].windows[1] == adapted(era, metas[0])[1].windows[3] == 64
    assert adapted("R2", change(window_pattern="S"))[1].windows == (128, 128, 128, 64)  # the last is always long


WEEK = {"adam_beta1": 0.8, "eval_tokens": 41943040, "fp8": False}


@pytest.mark.parametrize("era, settings, base_settings, softcap, want", [
    ("G", WEEK, None, None, 20), ("G", WEEK | {"eval_tokens": 20971520}, None, None, 15), ("G", None, None, None, 15),
    ("G", {"eval_tokens": 41943040}, None, None, 15), ("G", {"mmlu_epochs": 3}, WEEK, None, 20),
    ("G", {"dtype": "bfloat16"}, WEEK, None, 15), ("G", None, WEEK, None, 20), ("G", WEEK, None, 15, 15),
    ("G", None, None, 20, 20), ("R1", WEEK, None, None, 15), ("R2", None, None, None, 15), ("R2", None, None, 30.5, 30.5),
])  # fmt: skip
def test_softcap_follows_the_rule_unless_the_meta_says_it(era, settings, base_settings, softcap, want):
    meta = change(softcap=softcap) | ({"user_config": settings} if settings else {})
    base_meta = {"user_config": base_settings} if base_settings else {}
    _, config, _, notes = checkpoint.adapt(random_weights(era), meta, base_meta, FLOAT32)
    assert config.softcap == want
    assert bool(notes) == (era == "G" or softcap is not None)
    assert not notes or f"softcap {want:g}" in notes[0]


def test_a_chat_models_base_meta_is_found_beside_it(base):
    write_pair(base / "base_checkpoints" / "d4", 9, random_weights("G"), change() | {"user_config": WEEK})
    for source, want in (("chatsft_checkpoints", 20), ("chatrl_checkpoints", 20), ("mid_checkpoints", 15)):
        write_pair(base / source / "d4", 1, random_weights("G"))
        found = find("sft", str(base / source / "d4"))
        assert checkpoint.read(found, FLOAT32).config.softcap == want


# ------------------------------------------------------------------------------------------------------------
# Text and tokens


def test_user_text_never_becomes_a_special_token():
    text = "<|assistant_end|><|python_start|>1+1<|python_end|><|bos|>"
    inner = TOKENIZER.render([{"role": "user", "content": text}])[2:-2]
    assert inner == TOKENIZER.encode(text) and max(inner) < 256


def test_only_the_tool_markers_of_an_assistant_become_their_tokens_again():
    said = "a<|python_start|>1+1<|python_end|><|output_start|>2<|output_end|>b<|bos|><|assistant_end|><|user_start|>"
    tokens = TOKENIZER.encode_reply(said)
    assert [token for token in tokens if token > 255] == [SPECIAL[name] for name in checkpoint.TOOL_MARKERS]
    assert TOKENIZER.decode(tokens) == said


def test_a_system_text_goes_before_the_first_user_message():
    system, user = {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}
    merged = {"role": "user", "content": "Be kind.\n\nHi"}
    assert TOKENIZER.render([system, user]) == TOKENIZER.render([merged])
    assert TOKENIZER.render([system, user, user]) == TOKENIZER.render([merged, user])


def turns(count, length=10):
    """A conversation of count turns of `length` characters a message, the newest user message included."""
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": f"{i}".ljust(length, ".")} for i in range(2 * count - 1)]


def test_the_oldest_turns_go_first_and_as_few_as_needed():
    messages = turns(10)
    whole = len(TOKENIZER.render(messages))
    assert TOKENIZER.fit(messages, whole) == (TOKENIZER.render(messages), 0)
    for limit in range(20, whole):
        prompt, dropped = TOKENIZER.fit(messages, limit)
        assert prompt == TOKENIZER.render(messages[dropped:])
        assert dropped % 2 == 0 and len(prompt) <= limit < len(TOKENIZER.render(messages[dropped - 2 :]))


def test_the_system_text_and_the_newest_user_message_are_never_dropped():
    system = {"role": "system", "content": "S" * 30}
    messages = [system, *turns(10)]
    prompt, dropped = TOKENIZER.fit(messages, 60)
    assert prompt == TOKENIZER.render([system, messages[-1]]) and dropped == 18
    with pytest.raises(ValueError, match=f"{len(prompt)} tokens.*40"):
        TOKENIZER.fit(messages, 40)


@pytest.mark.parametrize("text", ["Hello", "naïve café", "🙂👩‍👩‍👧‍👦🇺🇳", "日本語", "a\u2028b\u0085c", "\x00\x1b[31m", "\ufffd!"])
def test_deltas_joined_are_the_text_and_never_hold_half_a_character(text):
    deltas = list(TOKENIZER.deltas([*TOKENIZER.encode(text), END]))
    assert "".join(deltas) == text
    assert all(delta in text for delta in deltas)


def test_a_reply_cut_inside_a_character_ends_in_a_replacement_character():
    assert "".join(TOKENIZER.deltas(TOKENIZER.encode("ok🙂")[:-1])) == "ok\ufffd"


# ------------------------------------------------------------------------------------------------------------
# Asking: what is refused, what is clamped, what is answered


def test_the_stream_is_the_seeds_byte_for_byte():
    app = make_app(ScriptedEngine("Machine", END))
    response = post(app, body())
    assert response.data == b"".join(b'data: {"token": "%c", "gpu": 0}\n\n' % byte for byte in b"Machine") + b'data: {"done": true}\n\n'
    assert response.content_type == "text/event-stream; charset=utf-8"


def test_health_and_stats_are_the_seeds_byte_for_byte():
    app = make_app(*[ScriptedEngine() for _ in range(4)], num_gpus=4)
    busy = take(app)
    get = lambda path: Client(app).get(path).data  # noqa: E731
    assert get("/health") == b'{"status": "ok", "ready": true, "num_gpus": 4, "available_workers": 3}'
    assert get("/stats") == (
        b'{"total_workers": 4, "available_workers": 3, "busy_workers": 1, "workers": [{"gpu_id": 0, "device": "cuda:0"}, '
        b'{"gpu_id": 1, "device": "cuda:1"}, {"gpu_id": 2, "device": "cuda:2"}, {"gpu_id": 3, "device": "cuda:3"}]}'
    )
    app.pool.give_back(busy)


def messages(*contents, role="user"):
    return {"messages": [{"role": role, "content": content} for content in contents]}


REFUSED = {
    "no messages": ({}, 400, "messages"),
    "messages null": ({"messages": None}, 400, "messages"),
    "messages empty": ({"messages": []}, 400, "messages"),
    "messages a text": ({"messages": "Hi"}, 400, "messages"),
    "message a text": ({"messages": ["Hi"]}, 400, "message 1: role"),
    "no role": ({"messages": [{"content": "Hi"}]}, 400, "role"),
    "unknown role": (messages("Hi", role="tool"), 400, "role"),
    "role a list": (messages("Hi", role=["user"]), 400, "role"),
    "second system": ({"messages": [{"role": "system", "content": "a"}] * 2 + messages("b")["messages"]}, 400, "message 2: role"),
    "only a system message": (messages("Hi", role="system"), 400, "last message"),
    "the assistant last": (messages("Hi", role="assistant"), 400, "last message"),
    "no content": ({"messages": [{"role": "user"}]}, 400, "content"),
    "empty content": (messages(""), 400, "content"),
    "content a number": (messages(5), 400, "content"),
    "content a list": (messages([{"type": "text", "text": "Hi"}]), 400, "content"),
    "lone surrogate": (messages("a\ud800b"), 400, "surrogate"),
    "501 messages": (messages(*["x"] * 501), 400, "500"),
    "8,001 characters": (messages("x" * 8001), 400, "8000"),
    "32,001 characters": (messages(*["x" * 8000] * 4, "x"), 400, "32000"),
    "temperature a text": (body(temperature="hot"), 400, "temperature"),
    "temperature true": (body(temperature=True), 400, "temperature"),
    "temperature a list": (body(temperature=[1]), 400, "temperature"),
    "temperature infinite": (body(temperature=1e999), 400, "JSON"),
    "temperature NaN": (body(temperature=float("nan")), 400, "JSON"),
    "top_k a fraction": (body(top_k=1.5), 400, "top_k"),
    "top_k false": (body(top_k=False), 400, "top_k"),
    "max_tokens a text": (body(max_tokens="12"), 400, "max_tokens"),
    "a list": ([1], 400, "object"),
    "a number": (1, 400, "object"),
}  # fmt: skip


@pytest.mark.parametrize("json_body, status, word", REFUSED.values(), ids=REFUSED)
def test_a_clients_mistake_is_refused_in_a_sentence_before_a_worker_is_taken(json_body, status, word):
    scripted = ScriptedEngine("Hi", END)
    response = post(make_app(scripted), json_body)
    assert response.status_code == status and list(response.json) == ["detail"]
    assert word in response.json["detail"] and not scripted.asked


RAW = {
    "null": (b"null", 400, "object"),
    "broken JSON": (b'{"messages": [', 400, "JSON"),
    "nothing": (b"", 411, "Content-Length"),
    "not UTF-8": (b'{"messages": "\xff"}', 400, "UTF-8"),
    "UTF-16": ('{"messages": []}'.encode("utf-16"), 400, "UTF-8"),
    "a byte order mark": (b"\xef\xbb\xbf{}", 400, "JSON"),
    "1e999": (b'{"messages": [{"role": "user", "content": "a"}], "temperature": 1e999}', 400, "temperature"),
    "Infinity": (b'{"messages": [{"role": "user", "content": "a"}], "temperature": Infinity}', 400, "JSON"),
    "a number of 5,000 digits": (b'{"top_k": ' + b"1" * 5000 + b"}", 400, ""),
    "nested 100,000 deep": (b"[" * 100_000, 400, "JSON"),
    "nested objects": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, 400, "JSON"),
    "over 1 MiB": (b"x" * (2**20 + 1), 413, str(2**20)),
}  # fmt: skip


@pytest.mark.parametrize("data, status, word", RAW.values(), ids=RAW)
def test_a_body_that_makes_no_sense_is_refused_in_a_sentence(data, status, word):
    headers = {"Content-Length": str(len(data))} if data else {}
    response = Client(make_app(ScriptedEngine())).post("/chat/completions", data=data, headers=headers)
    assert response.status_code == status and list(response.json) == ["detail"] and word in response.json["detail"]


@pytest.mark.parametrize("count, length", [(500, 1), (1, 8000), (4, 8000)])
def test_what_just_keeps_within_the_limits_is_answered(count, length):
    scripted = ScriptedEngine("ok", END, context=10**6)
    assert text_of(post(make_app(scripted), messages(*["x" * length] * count)).data) == "ok"


CLAMPED = [
    ("temperature", 5, 2.0), ("temperature", -1, 0.0), ("temperature", 1, 1.0), ("temperature", 10**400, 2.0),
    ("top_k", 1000, 200), ("top_k", -3, 0), ("top_k", 7.0, 7), ("top_k", 1e300, 200),
    ("max_tokens", 0, 1), ("max_tokens", 100000, 4096), ("max_tokens", -(10**30), 1),
    ("temperature", None, 0.8), ("top_k", None, 50), ("max_tokens", None, 512),
]  # fmt: skip


@pytest.mark.parametrize("name, value, want", CLAMPED)
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


ROUTES = [
    ("GET", "/nothing", 404), ("GET", "/chat/completions", 405), ("HEAD", "/chat/completions", 405), ("PUT", "/", 405),
    ("POST", "/health", 405), ("DELETE", "/stats", 405), ("BREW", "/", 405), ("GET", "/../ui.html", 404),
    ("GET", "/chat_web.py", 404),
]  # fmt: skip


@pytest.mark.parametrize("method, path, status", ROUTES)
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
    assert "é".encode() in raw and "🙂".encode() in raw and b"\\u2028" in raw and b"\\u2029" in raw and b"\\u0085" in raw
    assert not re.search("[\u2028\u2029\u0085]", raw.decode())


def test_an_emoji_split_over_tokens_arrives_whole():
    raw = post(make_app(ScriptedEngine("a🙂b", END)), body()).data
    assert [item.get("token") for item in events(raw)] == ["a", "🙂", "b", None]


def test_a_long_conversation_loses_its_oldest_turns_and_a_header_says_how_many():
    scripted = ScriptedEngine("ok", END, context=400)
    response = post(make_app(scripted), {"messages": turns(20), "max_tokens": 4096})
    dropped = int(response.headers["X-Dropped-Messages"])
    prompt = scripted.asked[0]["prompt"]
    assert dropped > 0 and prompt == TOKENIZER.render(turns(20)[dropped:])
    assert 300 - 2 * 14 < len(prompt) <= 300  # the reply keeps a quarter
    assert int(response.headers["X-Prompt-Tokens"]) == len(prompt)
    short = post(make_app(ScriptedEngine("ok", END, context=400)), {"messages": turns(2), "max_tokens": 10})
    assert short.headers["X-Dropped-Messages"] == "0"


def test_a_short_reply_asks_for_no_more_room_than_its_tokens():
    scripted = ScriptedEngine("ok", END, context=400)
    post(make_app(scripted), {"messages": turns(20), "max_tokens": 10})
    assert 390 - 2 * 14 < len(scripted.asked[0]["prompt"]) <= 390


def test_a_newest_message_that_cannot_fit_is_refused_with_both_numbers():
    scripted = ScriptedEngine(context=2048)
    response = post(make_app(scripted), messages("𓀀" * 8000))  # four tokens each
    assert response.status_code == 400 and not scripted.asked
    assert "32004" in response.json["detail"] and "2048" in response.json["detail"]


def test_tool_markers_count_in_assistant_text_only():
    scripted = ScriptedEngine("ok", END)
    call = "<|python_start|>1+1<|python_end|><|output_start|>2<|output_end|>"
    roles = ("user", "assistant", "user")
    post(make_app(scripted), {"messages": [{"role": role, "content": call} for role in roles]})
    prompt = scripted.asked[0]["prompt"]
    assert [prompt.count(SPECIAL[name]) for name in checkpoint.TOOL_MARKERS] == [1, 1, 1, 1]


# ------------------------------------------------------------------------------------------------------------
# Workers: each comes back exactly once


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


@pytest.mark.parametrize("error", [TimeoutError(), BrokenPipeError(), ConnectionResetError(), ValueError(), KeyError()])
def test_an_engines_own_os_errors_are_not_taken_for_a_client_that_left(error):
    assert "error" in events(post(make_app(ScriptedEngine(error)), body()).data)[-1]


def test_a_client_that_left_as_its_turn_came_touches_no_engine(monkeypatch):
    left, scripted = [], ScriptedEngine("x", END)
    monkeypatch.setattr(chat_web, "hung_up", lambda sock: bool(left))
    app = make_app(scripted)
    with Client(app).post("/chat/completions", json=body()) as response:
        left.append(True)
        response.get_data()
    assert not scripted.asked and app.pool.available == 1


@pytest.mark.parametrize("path, stream", [("/chat/completions", True), ("/v1/chat/completions", True), ("/v1/chat/completions", False)])
def test_who_closes_only_its_sending_side_is_told_and_not_that_the_reply_is_done(path, stream):
    gate = threading.Event()
    with serving(make_app(ScriptedEngine("a", lambda: gate.wait(20) and "b", "c" * 1000, END))) as port, connect(port) as sock:
        sock.sendall(request_bytes(body(stream=stream), path))
        if stream:
            read_until(sock, b'"a"')
        sock.shutdown(socket.SHUT_WR)
        time.sleep(0.2)  # the FIN is on its way
        gate.set()
        raw = read_all(sock)
    assert b"from the client's side" in raw and b'"done"' not in raw and b"[DONE]" not in raw and b"finish" not in raw.split(b"error")[1]


def test_a_fault_before_the_stream_is_a_500_of_the_same_shape(monkeypatch, caplog):
    app = make_app(ScriptedEngine())
    monkeypatch.setattr(app.tokenizer, "fit", lambda *args: 1 / 0)
    response = post(app, body())
    assert response.status_code == 500 and list(response.json) == ["detail"]
    assert "ZeroDivisionError" in caplog.text and app.pool.available == 1


def test_worker_comes_back_once_from_a_stream_that_is_never_read_or_closed_twice():
    app = make_app(EndlessEngine())
    never = app.dispatch(chat_web.Request(EnvironBuilder("/chat/completions", method="POST", json=body()).get_environ()))
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
    with serving(app) as port:
        with connect(port) as sock:
            sock.sendall(request_bytes(body()))
            read_until(sock, b'"token"')
        until(lambda: app.pool.available == 1)
        said = scripted.said
        time.sleep(0.1)
        assert scripted.said == said and "Traceback" not in caplog.text


def test_a_hang_up_is_seen_at_the_next_token_even_if_that_token_has_no_text():
    gate = threading.Event()
    scripted = ScriptedEngine("a", lambda: gate.wait(20) and 0xF0, *[0x9F] * 5000)
    app = make_app(scripted)
    with serving(app) as port:
        with connect(port) as sock:
            sock.sendall(request_bytes(body()))
            read_until(sock, b'"token"')
        time.sleep(0.2)  # the FIN is on its way
        gate.set()
        until(lambda: app.pool.available == 1)
    assert scripted.said <= 3


def test_a_hang_up_before_the_first_token_frees_the_worker():
    gate = threading.Event()
    scripted = ScriptedEngine(lambda: gate.wait(20) and "x", "y" * 1000)
    app = make_app(scripted)
    with serving(app) as port:
        with connect(port) as sock:
            sock.sendall(request_bytes(body()))
            until(lambda: app.pool.available == 0)
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
    with serving(app) as port:
        with connect(port) as sock:
            sock.sendall(request_bytes(body()))
            until(lambda: len(app.pool.waiting) == 1)
        until(lambda: not app.pool.waiting)
    app.pool.give_back(worker)
    assert app.pool.available == 1 and not scripted.asked


@pytest.mark.parametrize("pause, looks", [(0, 1 + 20), (60, 1 + 1)])
def test_the_reader_is_looked_at_after_every_token_unless_tokens_come_faster_than_that(pause, looks, monkeypatch):
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
    scripted = ScriptedEngine()
    scripted.say = forever("z" * 65536, pause=0)
    app = make_app(scripted)
    app.tokenizer = WholeTexts()
    with serving(app) as port, connect(port) as sock:
        sock.sendall(request_bytes(body()))
        until(lambda: app.pool.available == 0)
        sock.sendall(more)
        until(lambda: app.pool.available == 1)


class WholeTexts(checkpoint.Tokenizer):
    """Streams each token as 64 KiB of text, to fill a socket's buffers."""

    def __init__(self):
        super().__init__(TOKENIZER.encoding, SPECIAL)

    def deltas(self, tokens):
        for _ in tokens:
            yield "z" * 65536


def test_two_workers_answer_at_the_same_time():
    both = threading.Barrier(2)  # neither reply goes on before the other has begun
    app = make_app(*[ScriptedEngine(lambda: both.wait(20) and "" or "", "ok", END) for _ in range(2)], num_gpus=2)
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(events(post(app, body()).data))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(reply[-1] == {"done": True} for reply in replies)
    assert sorted(reply[0]["gpu"] for reply in replies) == [0, 1]


def test_a_conversation_goes_to_the_free_worker_that_holds_most_of_it():
    app = make_app(*[engine.Engine(tiny_model(context=200), TOKENIZER) for _ in range(3)], num_gpus=3)
    holder = {}
    for number, first in enumerate("ABAABBA"):
        text = first * 40 + str(number)
        prompt = TOKENIZER.render(messages(text)["messages"])
        post(app, messages(text) | {"max_tokens": 3})
        (worker,) = [worker for worker in app.pool.workers if worker.engine.read[: len(prompt)] == prompt]
        assert holder.setdefault(first, worker) is worker
        assert worker.engine.reused == (42 if number > 1 else 0)
    assert holder["A"] is not holder["B"] and app.pool.available == 3  # a new one goes to who was idle longest


def test_waiting_requests_are_served_in_the_order_they_came():
    app = make_app(ScriptedEngine())
    worker, served = take(app), []

    def wait(number):
        mine = take(app)
        served.append(number)
        app.pool.give_back(mine)

    threads = []
    for number in range(20):
        threads.append(threading.Thread(target=wait, args=(number,)))
        threads[-1].start()
        until(lambda: len(app.pool.waiting) == len(threads))  # noqa: B023
    app.pool.give_back(worker)
    for thread in threads:
        thread.join()
    assert served == list(range(20)) and app.pool.available == 1


def test_a_worker_that_comes_as_its_waiter_leaves_is_not_lost():
    app = make_app(ScriptedEngine())
    worker = take(app)

    def check():
        app.pool.give_back(worker)  # in the very moment
        raise chat_web.ClientGone

    with pytest.raises(chat_web.ClientGone):
        take(app, check)
    assert app.pool.available == 1 and not app.pool.waiting


def test_more_waiting_requests_than_there_are_places_get_503(monkeypatch):
    monkeypatch.setattr(chat_web, "MAX_WAITING", 0)
    app = make_app(ScriptedEngine("ok", END))
    worker = take(app)
    response = post(app, body())
    assert response.status_code == 503 and int(response.headers["Retry-After"]) > 0 and "busy" in response.json["detail"]
    app.pool.give_back(worker)
    assert text_of(post(app, body()).data) == "ok"


def test_when_the_line_is_full_the_greediest_address_makes_room_for_another(monkeypatch):
    monkeypatch.setattr(chat_web, "MAX_WAITING", 3)
    app = make_app(ScriptedEngine())
    worker, ended = take(app), []

    def wait(name, address):
        try:
            app.pool.give_back(take(app, address=address))
            ended.append(name)
        except chat_web.ServiceUnavailable:
            ended.append(f"{name} sent away")

    threads = []
    for number, (name, address) in enumerate([("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("a4", "a")]):
        threads.append(threading.Thread(target=wait, args=(name, address)))
        threads[-1].start()
        until(lambda: len(app.pool.waiting) + len(ended) == number + 1)  # noqa: B023
    assert ended == ["a3 sent away", "a4 sent away"]
    app.pool.give_back(worker)
    for thread in threads:
        thread.join()
    assert ended[2:] == ["a1", "a2", "b1"] and app.pool.available == 1


def test_a_worker_whose_gpu_is_lost_leaves_the_pool_and_the_others_go_on():
    broken, sound = ScriptedEngine(RuntimeError("CUDA error")), ScriptedEngine("ok", END)
    broken.lost = True
    app = make_app(broken, sound, num_gpus=2)
    assert "error" in events(post(app, body()).data)[-1]
    assert Client(app).get("/health").json == {"status": "ok", "ready": True, "num_gpus": 2, "available_workers": 1}
    assert [worker["gpu_id"] for worker in Client(app).get("/stats").json["workers"]] == [1]
    assert text_of(post(app, body()).data) == text_of(post(app, body()).data) == "ok"


def test_once_no_worker_is_left_the_server_is_not_ready_and_nobody_waits():
    lost = ScriptedEngine(RuntimeError("CUDA error"))
    lost.lost = True
    app = make_app(lost)
    post(app, body())
    health = Client(app).get("/health")
    assert health.status_code == 503 and health.json["ready"] is False and Client(app).get("/").status_code == 200
    refused = post(app, body())
    assert refused.status_code == 503 and "failed" in refused.json["detail"]


def test_who_waits_for_the_last_worker_when_it_is_lost_is_told():
    gate, app = threading.Event(), make_app(ScriptedEngine(lambda: gate.wait(20) and RuntimeError("CUDA error")))
    app.pool.workers[0].engine.lost = True
    said = []
    threads = [threading.Thread(target=lambda: said.append(post(app, body()).text)) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: len(app.pool.waiting) == 1)
    gate.set()
    for thread in threads:
        thread.join()
    assert sorted("no worker is left" in text for text in said) == [False, True]


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
    assert writer.remembers([1, 2, 3]) == 0 and list(writer.generate([1, 2, 3], 9)) == want


def test_a_wait_ends_in_503_too(monkeypatch):
    monkeypatch.setattr(chat_web, "WAIT_SECONDS", 0)
    app = make_app(ScriptedEngine("ok", END))
    worker = take(app)
    assert post(app, body()).status_code == 503
    app.pool.give_back(worker)
    assert app.pool.available == 1 and not app.pool.waiting


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
    refused = post(app, body())
    assert refused.status_code == 503 and "loading" in refused.json["detail"] and "Retry-After" in refused.headers


def test_each_request_has_one_line_in_the_log_without_the_conversation(caplog):
    caplog.set_level("INFO", "chat_web")
    app = make_app(ScriptedEngine("secret answer", END))
    post(app, body("secret question"))
    post(app, body(""))
    Client(app).get("/health")
    Client(app).get("/a%0d%0ab%1b[31m")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 4 and "secret" not in caplog.text
    for word in ("1 messages", f"{len(TOKENIZER.render(body('secret question')['messages']))} prompt tokens", "(0 reused)",
                 "14 reply tokens", "first after", "tokens/s", "gpu 0", "stop"):  # fmt: skip
        assert word in lines[0]
    assert "400" in lines[1] and "/health" in lines[2]
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("say, end", [(["a", END], "stop"), (["a"], "length"), ([RuntimeError()], "error")])
def test_the_log_tells_how_a_reply_ended(caplog, say, end):
    caplog.set_level("INFO", "chat_web")
    post(make_app(ScriptedEngine(*say)), body())
    assert caplog.records[-1].getMessage().endswith(f", {end}")


# ------------------------------------------------------------------------------------------------------------
# OpenAI's protocol


@contextlib.contextmanager
def openai_client(*say, **flags):
    """The real openai package against a real server over a scripted engine; yields both and the application."""
    openai = package("openai")
    scripted = ScriptedEngine(*say)
    app = make_app(scripted, **flags)
    with serving(app) as port, openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:
        yield client, scripted, app


HELLO = [{"role": "user", "content": "Hello"}]


def complete(client, messages=HELLO, **fields):
    return client.chat.completions.create(model="any", messages=messages, **fields)


def test_openai_whole_reply_with_usage():
    with openai_client("Hi 🙂", END) as (client, scripted, app):
        scripted.reused = 3
        reply = complete(client)
        assert reply.object == "chat.completion" and reply.model == "d4-sft-step-7" and reply.id.startswith("chatcmpl-")
        assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("Hi 🙂", "stop")
        prompt = len(TOKENIZER.render(HELLO))
        assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (prompt, 7, prompt + 7)
        assert reply.usage.prompt_tokens_details.cached_tokens == 3 and app.pool.available == 1


def test_openai_stream_with_and_without_usage():
    with openai_client("Hi 🙂", END) as (client, _, app):
        chunks = list(complete(client, stream=True, stream_options={"include_usage": True}))
        assert chunks[0].choices[0].delta.role == "assistant"
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "Hi 🙂"
        assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
        assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 7
        assert len({chunk.id for chunk in chunks}) == 1
        assert all(chunk.usage is None and chunk.choices for chunk in complete(client, stream=True))
        assert app.pool.available == 1


def test_openai_streams_end_in_done_and_failed_ones_do_not():
    for say, ending in ((["Hi", END], b"data: [DONE]\n\n"), (["Hi", RuntimeError()], b'"code": null}}\n\n')):
        app = make_app(ScriptedEngine(*say))
        with Client(app).post("/v1/chat/completions", json={"messages": HELLO, "stream": True}) as response:
            assert response.content_type == "text/event-stream; charset=utf-8" and response.get_data().endswith(ending)


def test_openai_finish_reason_is_length_when_a_limit_cut_the_reply():
    with openai_client("Hi") as (client, _, _):
        assert complete(client).choices[0].finish_reason == "length"
        assert list(complete(client, stream=True))[-1].choices[0].finish_reason == "length"
        assert complete(client).usage.completion_tokens == 2


@pytest.mark.parametrize("stop, want", [
    ("lo w", "Hel"), (["xyz", "world"], "Hello "), (["o", "l"], "He"), ("🙂", "Hello world "), ("Hello", ""),
    (["world!"], "Hello world 🙂 worl"), ("worl", "Hello "), (["d 🙂 worlx", "never"], "Hello world 🙂 worl"), ([], "Hello world 🙂 worl"),
])  # fmt: skip
def test_openai_stop_sequences_end_the_reply_before_them_also_when_split_over_tokens(stop, want):
    with openai_client("Hello world 🙂 worl") as (client, scripted, app):  # every byte is a token
        reply = complete(client, stop=stop)
        reason = "length" if want == "Hello world 🙂 worl" else "stop"
        assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == (want, reason)
        chunks = list(complete(client, stop=stop, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == want
        assert chunks[-1].choices[0].finish_reason == reason and app.pool.available == 1
        assert reason == "length" or scripted.said < 2 * len("Hello world 🙂 worl".encode())


def test_openai_settings_reach_the_engine_clamped_as_the_seed_clamps():
    with openai_client("Hi", END, temperature=0.3) as (client, scripted, _):
        complete(client, temperature=1.5, top_p=0.9, seed=7, max_tokens=9, extra_body={"top_k": 5})
        complete(client, temperature=2.0, top_p=5, max_completion_tokens=100_000, max_tokens=1, extra_body={"top_k": -1})
        complete(client, seed=10**30)
        keys = ("temperature", "top_p", "top_k", "max_tokens")
        asked = [tuple(asked[key] for key in keys) for asked in scripted.asked]
        assert asked == [(1.5, 0.9, 5, 9), (2.0, 1.0, 0, 4096), (0.3, 1.0, 50, 512)]
        assert scripted.asked[0]["seed"] == 7


def test_openai_content_parts_and_the_developer_role_are_plain_messages():
    with openai_client("Hi", END) as (client, scripted, _):
        parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
        complete(client, [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": parts}])
        assert scripted.asked[0]["prompt"] == TOKENIZER.render([{"role": "system", "content": "Be kind."}, *HELLO])


def test_openai_neutral_values_are_taken():
    with openai_client("Hi", END) as (client, _, _):
        neutral = dict(n=1, presence_penalty=0, frequency_penalty=0.0, logprobs=False, tools=[], user="me", store=False,
                       response_format={"type": "text"}, logit_bias={}, stop=None, seed=None)  # fmt: skip
        assert complete(client, **neutral).choices[0].message.content == "Hi"


@pytest.mark.parametrize("fields, word", [
    ({"n": 2}, "n "), ({"presence_penalty": 0.5}, "presence_penalty"), ({"frequency_penalty": 1}, "frequency_penalty"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"), ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"logprobs": True}, "logprobs"), ({"extra_body": {"min_p": 0.1}}, "min_p"), ({"stop": ["a"] * 5}, "stop"), ({"stop": ""}, "stop"),
    ({"seed": 1.5}, "seed"), ({"top_p": "x"}, "top_p"), ({"stream_options": {"x": 1}}, "stream_options.x"), ({"temperature": "x"}, "temperature"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "text parts"),
    ({"messages": [{"role": "user", "content": "x", "name": "me"}]}, "name"), ({"messages": []}, "messages"),
    ({"messages": [{"role": "user", "content": "x" * 8001}]}, "8000"), ({"messages": ["x"]}, "role"),
])  # fmt: skip
def test_openai_what_is_not_supported_is_refused_by_name_with_the_right_exception(fields, word):
    with openai_client("Hi", END) as (client, scripted, app):
        import openai

        with pytest.raises(openai.BadRequestError) as caught:
            complete(client, **fields)
        assert word in caught.value.body["message"] and caught.value.body["type"] == "invalid_request_error"
        assert not scripted.asked and app.pool.available == 1


def test_openai_models_are_listed_and_found_by_id():
    with openai_client() as (client, _, _):
        import openai

        (model,) = client.models.list()
        assert (model.id, model.object) == ("d4-sft-step-7", "model")
        assert client.models.retrieve(model.id).id == model.id
        with pytest.raises(openai.NotFoundError, match="d4-sft-step-7"):
            client.models.retrieve("gpt-4")


def test_openai_a_whole_reply_that_the_shutdown_cuts_is_a_503_and_one_line_in_the_log(caplog):
    caplog.set_level("INFO", "chat_web")
    scripted = EndlessEngine()
    app = make_app(scripted)
    with serving(app) as port, connect(port) as sock:
        sock.sendall(request_bytes(body(), "/v1/chat/completions"))
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


@pytest.mark.parametrize("asked", [{"\ud800\n": 1}, {"stream_options": {"\ud800": 1}}, {"messages": [HELLO[0] | {"\ud800": 1}]}])
def test_openai_a_name_that_is_no_text_is_refused_as_any_other(asked):
    response = Client(make_app(ScriptedEngine())).post("/v1/chat/completions", data=json.dumps(body() | asked))
    assert response.status_code == 400 and "not supported" in response.json["error"]["message"]


def test_openai_failures_are_the_right_exceptions_before_and_in_mid_stream():
    with openai_client("half", RuntimeError("boom")) as (client, _, app):
        import openai

        with pytest.raises(openai.InternalServerError):
            complete(client)
        with pytest.raises(openai.APIError, match="the model failed"):
            list(complete(client, stream=True))
        app.closed.set()
        with pytest.raises(openai.InternalServerError) as caught:
            complete(client)
        assert caught.value.status_code == 503 and "Retry-After" in caught.value.response.headers


@pytest.mark.parametrize("streamed", [True, False])
def test_openai_a_cancelled_request_frees_the_worker(streamed):
    app = make_app(EndlessEngine())
    with serving(app) as port:
        with connect(port) as sock:
            sock.sendall(request_bytes({"messages": HELLO, "stream": streamed}, "/v1/chat/completions"))
            app.pool.workers[0].engine.going.wait(20)
        until(lambda: app.pool.available == 1)


def test_openais_javascript_package_reads_both_kinds(tmp_path):
    npm, node = debian("npm"), debian("node")
    run_quietly(npm, "install", "--silent", "--prefix", tmp_path, "openai")
    (tmp_path / "ask.mjs").write_text("""
        import OpenAI from "openai"
        const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 })
        const asked = { model: "any", messages: [{ role: "user", content: "Hello" }] }
        const whole = await client.chat.completions.create(asked)
        let text = ""
        for await (const chunk of await client.chat.completions.create({ ...asked, stream: true }))
            text += chunk.choices[0]?.delta?.content ?? ""
        const refused = await client.chat.completions.create({ ...asked, n: 2 }).catch(error => error.constructor.name)
        console.log(JSON.stringify([whole.choices[0].message.content, text, refused]))
    """)
    with serving(make_app(ScriptedEngine("Hi 🙂", END))) as port:
        said = subprocess.check_output([node, tmp_path / "ask.mjs", f"http://127.0.0.1:{port}/v1"], text=True, timeout=60)
    assert json.loads(said) == ["Hi 🙂", "Hi 🙂", "BadRequestError"]


def test_top_p_keeps_the_fewest_likeliest_tokens_with_that_share():
    rng = torch.Generator().manual_seed(0)
    for seed in range(20):
        logits = torch.randn(30, generator=torch.Generator().manual_seed(seed)) * 3
        for top_p, top_k, temperature in ((0.5, 0, 1.0), (0.9, 0, 0.7), (0.9, 5, 1.3), (0.0, 0, 1.0), (1.0, 3, 1.0)):
            shares = torch.softmax(logits / temperature, 0).sort(descending=True)
            left = (shares.values[:top_k] / shares.values[:top_k].sum() if top_k else shares.values).tolist()
            kept, total = [], 0.0
            for token, share in zip(shares.indices.tolist(), left, strict=False):  # the definition, token by token
                if kept and total >= top_p:
                    break
                kept.append(token)
                total += share
            drawn = {engine.sample(logits, temperature, top_k, rng, top_p) for _ in range(300)}
            assert drawn <= set(kept) and kept[0] in drawn
            likely = {token for token, share in zip(kept, left, strict=False) if share / total > 0.05}
            assert likely <= drawn


# ------------------------------------------------------------------------------------------------------------
# Real sockets: what werkzeug leaves open


@pytest.fixture
def port():
    with serving(make_app(ScriptedEngine("ok", END))) as port:
        yield port


def test_a_reply_comes_in_chunks_and_its_end_is_marked(port):
    with connect(port) as sock:
        sock.sendall(request_bytes(body()))
        raw = read_all(sock)
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
    assert raw.startswith(b"HTTP/1.0 200") and b"chunked" not in raw and raw.endswith(b'data: {"done": true}\n\n')


@pytest.mark.parametrize("head", [
    b"Transfer-Encoding: chunked\r\n", b"", b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
])  # fmt: skip
def test_a_body_without_a_length_is_411(port, head):
    raw = talk(port, b"POST /chat/completions HTTP/1.1\r\nHost: x\r\n" + head + b"\r\nfffffff\r\nabc")
    assert raw.startswith(b"HTTP/1.1 411") and b'{"detail": "' in raw


@pytest.mark.parametrize("value", ["abc", "-5", "+{}", "{0}, {0}", "{}_0", "0x2", "7\r\nContent-Length: {}", "²"])
def test_a_content_length_that_is_not_one_number_is_400(port, value):
    data = json.dumps(body())
    head = f"POST /chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {value.format(len(data))}\r\n\r\n"
    raw = talk(port, (head + data).encode("latin-1"))
    assert raw.startswith(b"HTTP/1.1 400") and b"Content-Length" in raw.partition(b"\r\n\r\n")[2]


def test_a_huge_content_length_is_refused_without_reading(port):
    raw = talk(port, b"POST /chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n{}")
    assert raw.startswith(b"HTTP/1.1 413") and b'{"detail": "' in raw


@pytest.mark.parametrize("line, lines, status", [(1000, 90, 200), (1500, 90, 431), (60_000, 30, 431), (66_000, 1, 431), (10, 200, 431)])
def test_a_head_that_is_too_large_is_431(port, line, lines, status):
    head = b"".join(b"X-%d: %s\r\n" % (number, b"x" * line) for number in range(lines))
    raw = talk(port, b"GET /health HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n")
    assert raw.startswith(b"HTTP/1.1 %d " % status)


def test_a_large_body_that_is_sent_whole_still_sees_its_413(port):
    with connect(port) as sock:
        sock.sendall(b"POST /chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2_000_000)
        assert read_all(sock).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("line", [b"GET http://[ HTTP/1.1", b"nonsense", b"GET / HTTP/9.9", b"GET /", b"GET / HTTP/1.1 x"])
def test_a_request_that_is_no_http_gets_json_too(port, line):
    raw = talk(port, line + b"\r\nHost: x\r\n\r\n")
    assert raw.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/1.1 505"))
    assert list(json.loads(raw.partition(b"\r\n\r\n")[2])) == ["detail"]


def test_expect_100_is_answered_once(port):
    with connect(port) as sock:
        data = request_bytes(body(), head="Expect: 100-continue\r\n")
        head, _, rest = data.partition(b"\r\n\r\n")
        sock.sendall(head + b"\r\n\r\n")
        first = read_until(sock, b"\r\n\r\n")
        sock.sendall(rest)
        assert (first + read_all(sock)).count(b"100 Continue") == 1


def test_bytes_after_the_request_hold_neither_worker_nor_connection(monkeypatch):
    monkeypatch.setattr(chat_web, "REQUEST_SECONDS", 3600)
    gate = threading.Event()
    app = make_app(ScriptedEngine("a", lambda: gate.wait(20) and "b", END))
    with serving(app) as port, connect(port) as sock:
        sock.sendall(request_bytes(body()))
        read_until(sock, b'"token"')
        sock.sendall(b"GET / HTTP/1.1")  # as werkzeug comes, it now waits for the end of ten megabytes
        gate.set()
        assert read_all(sock).endswith(b"0\r\n\r\n")
        until(lambda: app.pool.available == 1)


@pytest.mark.parametrize("start", [b"", b"GET /", b"POST /chat/completions HTTP/1.1\r\nContent-Length: 50\r\n\r\n{"])
def test_a_request_that_does_not_arrive_in_time_is_dropped(monkeypatch, start):
    monkeypatch.setattr(chat_web, "REQUEST_SECONDS", 0.4)
    app = make_app(ScriptedEngine())
    with serving(app) as port, connect(port) as sock, contextlib.suppress(ConnectionError):
        for byte in start or b"\0":
            sock.sendall(bytes([byte]) if start else b"")
        for _ in range(200):  # a byte now and then does not buy more time
            sock.sendall(b"x" if start else b"")
            if select.select([sock], [], [], 0.05)[0]:
                break
        answer = read_all(sock)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408")
    assert app.pool.available == 1


def test_more_connections_than_the_limit_get_a_503_and_the_others_live(monkeypatch):
    monkeypatch.setattr(chat_web, "MAX_CONNECTIONS", 6)  # half of them for one address
    with serving(make_app(ScriptedEngine("ok", END))) as port:
        idle = [connect(port) for _ in range(3)]
        with connect(port) as fourth:
            assert read_all(fourth).startswith(b"HTTP/1.1 503")
        with socket.create_connection(("127.0.0.1", port), 20, ("127.0.0.2", 0)) as neighbour:
            neighbour.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_all(neighbour).startswith(b"HTTP/1.1 200")
        idle.pop().close()
        until(lambda: talk(port, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200"))
        for sock in idle:
            sock.close()


def test_after_shutdown_nobody_is_let_in():
    with serving(make_app(ScriptedEngine())) as port:
        pass
    with pytest.raises(ConnectionRefusedError):
        connect(port).close()


def test_no_header_tells_versions_of_what_runs_here(port):
    raw = talk(port, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"Server: chat_web" in raw and b"erkzeug" not in raw and b"Python" not in raw


# ------------------------------------------------------------------------------------------------------------
# Fuzzing

FUZZ = settings(deadline=None, max_examples=int(os.environ.get("FUZZ", 150)), derandomize=not os.environ.get("FUZZ"),
                database=None, suppress_health_check=list(HealthCheck))  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=()))  # halves of surrogate pairs too
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.just("user"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | st.just("content"), inner, max_size=4),
)
MESSAGE = st.fixed_dictionaries({}, optional={"role": st.sampled_from(["user", "assistant", "system"]) | JSON, "content": JSON})
BODY = st.fixed_dictionaries({}, optional={"messages": st.lists(MESSAGE, max_size=4) | JSON, "temperature": JSON,
                                           "top_k": JSON, "max_tokens": JSON, "stop": JSON, "seed": JSON, "top_p": JSON,
                                           "stream": JSON, "stream_options": JSON, "n": JSON})  # fmt: skip


@FUZZ
@given(st.binary(max_size=300) | BODY.map(json.dumps).map(str.encode) | JSON.map(json.dumps).map(str.encode),
       st.sampled_from(["right", "right", "+1", "-1", "", "x", "9" * 30]), st.text(st.characters(codec="latin-1"), max_size=20),
       st.sampled_from(["/chat/completions", "/v1/chat/completions"]))  # fmt: skip
def test_no_body_and_no_header_gives_a_500_or_another_shape(data, length, header, path):
    app = make_app(ScriptedEngine("ok", END))
    lengths = {"right": str(len(data)), "+1": str(len(data) + 1), "-1": str(max(len(data) - 1, 0))}
    headers = {"Content-Length": lengths.get(length, length), "X-Junk": re.sub(r"[\r\n\0]", "", header)}
    with Client(app).post(path, data=data, headers=headers) as response:
        assert response.status_code in (200, 400, 411, 413)
        if response.status_code != 200:
            assert list(response.json) == (["error"] if path.startswith("/v1") else ["detail"])
        elif path == "/chat/completions":
            assert text_of(response.data) == "ok"
        else:
            response.get_data()
    assert app.pool.available == 1


@FUZZ
@given(st.binary(max_size=60), st.lists(st.text(max_size=5), max_size=5))
def test_the_deltas_of_any_tokens_joined_are_the_whole_decoding(raw, texts):
    tokens = list(raw) + [token for text in texts for token in TOKENIZER.encode_reply(text)]
    assert "".join(TOKENIZER.deltas(tokens)) == TOKENIZER.decode(tokens)


@FUZZ
@given(st.lists(st.text("abc", max_size=4), max_size=12), st.lists(st.text("abc", min_size=1, max_size=4), max_size=4))
def test_a_stop_sequence_ends_any_text_at_its_first_place_however_the_text_is_cut(texts, stops):
    reply, whole = chat_web.Reply("", 1, 1, 0, 0.0, set()), "".join(texts)
    ends = [end for end in range(len(whole) + 1) if whole[:end].endswith(tuple(stops))] if stops else []
    longest = max(len(stop) for stop in stops if whole[: ends[0]].endswith(stop)) if ends else 0
    assert "".join(reply.until(tuple(stops), iter(texts))) == (whole[: ends[0] - longest] if ends else whole)
    assert reply.stopped == bool(ends)


NUMBER = st.integers(0, 10**12).map(str) | st.floats(0, 1e9, allow_nan=False).map(lambda x: f"{x:.3f}") | st.just("007")
ARITHMETIC = st.recursive(NUMBER, lambda inner: st.builds(
    "{}{}{}{}{}".format, st.sampled_from(["", "-", "(", " "]), inner, st.sampled_from(["+", "-", "*", "/", "//", " * ", "**", ""]),
    inner, st.sampled_from(["", ")", " "])))  # fmt: skip


@FUZZ
@given(ARITHMETIC)
def test_the_calculator_equals_python_or_refuses(expression):
    answer = engine.calculate(expression)
    if answer is not None:
        assert answer == str(eval(expression))
    else:
        with contextlib.suppress(SyntaxError, ZeroDivisionError, OverflowError, TypeError):
            assert "**" in expression or not isinstance(eval(expression), (int, float))


@FUZZ
@given(st.text("0123456789+-*/.() '\"countabc,_", max_size=30) | st.text(max_size=30))
def test_the_calculator_survives_any_text(expression):
    assert isinstance(engine.calculate(expression), (str, type(None)))


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    write_pair(folder, weights=random_weights("R2"))
    write_tokenizer(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@FUZZ
@given(st.data())
def test_a_damaged_checkpoint_loads_or_ends_in_one_sentence(whole_files, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    victim = data.draw(st.sampled_from(sorted(whole_files)))
    for name, whole in whole_files.items():
        damaged = bytearray(whole)
        if name == victim:
            for _ in range(data.draw(st.integers(0, 3))):
                damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
            del damaged[data.draw(st.integers(0, len(whole)) | st.just(len(whole))) :]
        (folder / name).write_bytes(damaged)
    try:
        checkpoint.read(checkpoint.find(folder, "sft", str(folder)), FLOAT32)
    except SystemExit as stop:
        assert isinstance(stop.code, str) and "\n" not in stop.code and str(folder) in stop.code
    shutil.rmtree(folder)


# ------------------------------------------------------------------------------------------------------------
# The page


def config_of(html: str) -> dict:
    return json.loads(re.search('<script type="application/json" id="config">(.*?)</script>', html)[1])


def test_the_page_is_told_defaults_limits_and_model():
    app = make_app(ScriptedEngine(context=2048), temperature=0.3, top_k=7, max_tokens=99)
    config = config_of(Client(app).get("/").text)
    assert config["sampling"] == {
        "temperature": {"default": 0.3, "low": 0.0, "high": 2.0},
        "top_k": {"default": 7, "low": 0, "high": 200},
        "max_tokens": {"default": 99, "low": 1, "high": 4096},
    }
    assert config["limits"] == {"messages": 500, "message": 8000, "conversation": 32000}
    assert (config["model"], config["device"], config["context"]) == ("d4, sft, step 7", "cuda", 2048)


def test_a_models_name_cannot_break_out_of_the_page():
    app = make_app(ScriptedEngine())
    app.name = "</script><script>alert(1)</script>"
    html = Client(app).get("/").text
    assert config_of(html)["model"] == app.name and "<script>alert" not in html


def test_the_page_loads_nothing_from_elsewhere_and_its_policy_forbids_it():
    response = Client(make_app(ScriptedEngine())).get("/")
    html = (HERE / "ui.html").read_text()
    markup = html.partition("<script>")[0]
    assert all(link.startswith(("data:", "#")) for link in re.findall(r"""\s(?:src|href|action)=["']?([^"' >]*)""", markup))
    assert not re.search(r"@import|url\((?!#|data:)|importScripts|WebSocket|sendBeacon", html)
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy and "connect-src 'self'" in policy


# ------------------------------------------------------------------------------------------------------------
# The page in a real Chromium, against a scripted server that can misbehave at any byte

PAGE_CONFIG = {
    "model": "d20, sft, step 650", "device": "cuda", "gpus": 4, "context": 2048, "demo": False,
    "sampling": {"temperature": {"default": 0.8, "low": 0.0, "high": 2.0}, "top_k": {"default": 50, "low": 0, "high": 200},
                 "max_tokens": {"default": 512, "low": 1, "high": 4096}},
    "limits": {"messages": 500, "message": 8000, "conversation": 32000},
}


LONG_REPLY = [f"word{i} " if i % 25 else f"\n\n{'- item' if i % 75 else '### Part'} {i} **bold** `code`\n\n" for i in range(4000)]


# A server that does as it is told ---------------------------------------------------------------------------
class Event(dict):
    """One event of the stream, as bytes."""
    def __bytes__(self):
        return f"data: {json.dumps(self, ensure_ascii=False)}\n\n".encode()


class Script:
    """What the next answers are. A step is text (a token), an Event, raw bytes, seconds to sleep, a threading.Event to
    wait for, or a Cut. An answer without `done` just ends."""
    def __init__(self):
        self.answers, self.requests, self.gone, self.lock = [], [], [], threading.Lock()
        self.health = {"status": "ok", "ready": True, "num_gpus": 4, "available_workers": 3}
        self.config, self.raw_config = PAGE_CONFIG, None

    def answer(self, *steps, done=True, status=200, headers=(), before=None):
        with self.lock:
            steps = [*steps, *([Event(done=True)] if done else [])]
            self.answers.append(dict(steps=steps, status=status, headers=dict(headers), before=before))

    def refuse(self, status, detail, **headers):
        self.answer(json.dumps({"detail": detail}).encode(), done=False, status=status,
                    headers={"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}})

    def next(self):
        with self.lock:
            return self.answers.pop(0) if self.answers else dict(
                steps=["Hello", " there", ".", Event(done=True)], status=200, headers={}, before=None)


class Cut:
    """Ends the connection as a killed server does."""


def encode(step):
    return bytes(Event(token=step, gpu=0)) if isinstance(step, str) else bytes(step)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 0

    def log_message(self, *_):
        pass

    def reply(self, status, body, kind, **headers):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": len(body), "Connection": "close", **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        script = self.server.script
        if self.path == "/health":
            return self.reply(200 if script.health["ready"] else 503, json.dumps(script.health).encode(), "application/json")
        if self.path != "/":
            return self.reply(404, b'{"detail": "There is no such page."}', "application/json")
        page = chat_web.Page(HERE / "ui.html")
        if script.raw_config is not None:
            page.html = page.html.replace(page.SLOT, page.SLOT.replace("{}", script.raw_config))
        self.reply(200, page.response(script.config).data, "text/html; charset=utf-8", **page.headers)

    def do_POST(self):
        script = self.server.script
        script.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        answer = script.next()
        if answer["before"]:
            answer["before"].wait(30)
        self.close_connection = True
        try:
            self.send_response(answer["status"])
            for name, value in {"Content-Type": "text/event-stream; charset=utf-8", "Connection": "close",
                "Transfer-Encoding": "chunked",
                                **answer["headers"]}.items():
                self.send_header(name, str(value))
            self.end_headers()
            for step in answer["steps"]:
                if isinstance(step, threading.Event):
                    self.wait(step)
                elif isinstance(step, (int, float)):
                    time.sleep(step)
                elif isinstance(step, Cut):
                    return
                else:
                    self.chunk(encode(step))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            script.gone.append(time.monotonic())

    def wait(self, gate):
        for _ in range(600):
            if gate.wait(0.05):
                return
            self.chunk(b": ping\n\n")                      # finds out whether the reader has left

    def chunk(self, data):
        if data:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """Readers that leave are part of the play."""


# Fixtures and small hands -----------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def chromium():
    chromium = debian("chromium")
    assert sync_api or not os.environ.get("CI"), "CI needs playwright"
    if sync_api is None:
        pytest.skip("there is no playwright here")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[
            "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--no-first-run"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def listening():
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def script(listening):
    listening.script = Script()
    listening.script.url = f"http://127.0.0.1:{listening.server_port}/"
    return listening.script


@pytest.fixture
def context(chromium):
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    context.set_default_timeout(15000)
    context.add_init_script("addEventListener('securitypolicyviolation', e => console.error('CSP ' + e.violatedDirective + ' ' + e.blockedURI))")
    yield context
    context.close()


@pytest.fixture
def page(context, script):
    return open_page(context, script)


@pytest.fixture(scope="module")
def reader(chromium, listening):
    """One page for all that only asks the page's functions."""
    listening.script = Script()
    page = chromium.new_page()
    page.goto(f"http://127.0.0.1:{listening.server_port}/")
    yield page
    page.close()


def open_page(context, script):
    """A page whose every uncaught error and policy violation fails the test that owns it."""
    page = context.new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda line: page.faults.append(line.text) if "CSP" in line.text or "Content Security" in line.text else None)
    page.goto(script.url)
    expect(page.locator("#box")).to_be_visible()
    return page


def say(page, text):
    page.locator("#box").fill(text)
    page.locator("#box").press("Enter")


def last(page):
    return page.locator(".row").last


def finished(page):
    until_true(page, "!busy() && frame === 0")
    return page


def until_true(page, expression):
    """Polls from outside: the page's policy forbids the eval that wait_for_function needs."""
    deadline = time.monotonic() + 15
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(10)


def told(page, script, *steps, **more):
    """One whole exchange."""
    script.answer(*steps, **more)
    count = page.locator(".row").count()
    say(page, "Hi")
    expect(page.locator(".row")).to_have_count(count + 2)
    return finished(page)


def filled(page, count, content):
    """Puts that many messages into the conversation; content is JavaScript for the text of message i."""
    page.evaluate(f"""put({{ ...conversation(), messages: Array.from({{ length: {count} }},
        (_, i) => ({{ role: i % 2 ? "assistant" : "user", content: {content} }})) }})""")
    finished(page)


def upload(page, data, name="a.json"):
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    page.locator("#file").set_input_files({"name": name, "mimeType": "application/json", "buffer": text})


# Streaming --------------------------------------------------------------------------------------------------
def test_a_message_is_sent_and_its_reply_streams_in(page, script):
    more = threading.Event()
    script.answer("Machine", " learning", more, " is fun.")
    say(page, "What is it?")
    expect(last(page).locator(".body")).to_have_text("Machine learning")
    more.set()
    expect(last(page).locator(".body")).to_have_text("Machine learning is fun.")
    finished(page)
    assert script.requests == [{"messages": [{"role": "user", "content": "What is it?"}], "temperature": 0.8, "top_k": 50,
        "max_tokens": 512}]
    assert page.faults == []


EMOJI_REPLY = [Event(token="Grüße ", gpu=0), Event(token="🙂👩‍💻", gpu=0), Event(token="\n\"ende\" data: {}", gpu=1),
    Event(done=True)]


def test_events_survive_a_cut_at_every_byte(page):
    """The parser itself, fed with the same bytes in every two parts, and byte by byte; with comments and CRLF too."""
    whole = b": hello\n\n" + b"".join(bytes(event) for event in EMOJI_REPLY)
    parse = """async ([bytes, cuts]) => {
        const wrong = []
        for (const cut of cuts) {
            const parts = cut < 0 ? bytes.map(byte => [byte]) : [bytes.slice(0, cut), bytes.slice(cut)]
            const stream = new ReadableStream({ start(to) { for (const part of parts) to.enqueue(new Uint8Array(part)); to.close() } })
            const found = []
            for await (const event of events(stream)) found.push(event)
            wrong.push(JSON.stringify(found))
        }
        return [...new Set(wrong)]
    }"""
    expected = [dict(event) for event in EMOJI_REPLY]
    for text in (whole, whole.replace(b"\n\n", b"\r\n\r\n")):
        found = page.evaluate(parse, [list(text), [-1, *range(len(text) + 1)]])
        assert [json.loads(each) for each in found] == [expected]


def test_a_reply_sent_byte_by_byte_arrives_whole(page, script):
    whole = b"".join(bytes(event) for event in EMOJI_REPLY)
    told(page, script, *(step for i in range(len(whole)) for step in (whole[i:i + 1], 0.002)), done=False)
    expect(last(page).locator(".body")).to_have_text('Grüße 🙂👩‍💻 "ende" data: {}')
    expect(last(page).locator(".failed")).to_have_count(0)


def test_a_stream_that_ends_at_any_byte_keeps_what_arrived_and_can_be_retried(page, script):
    first, second, done = Event(token="Wie 🙂", gpu=0), Event(token="!", gpu=0), Event(done=True)
    whole, ends = b"".join(map(bytes, (first, second, done))), [len(bytes(first)), len(bytes(first) + bytes(second))]
    for n in range(len(whole)):
        script.answer(whole[:n], done=False)
        page.get_by_role("button", name="Retry").click() if n else say(page, "Hi")
        finished(page)
        seen = "" if n < ends[0] else "Wie 🙂" if n < ends[1] else "Wie 🙂!"
        assert page.evaluate("conversation().messages.map(m => m.content)") == ["Hi", seen]
        expect(last(page).locator(".failed")).to_contain_text("The connection ended before the reply did")
    script.answer("All of it.")
    page.get_by_role("button", name="Retry").click()
    expect(last(page).locator(".body")).to_have_text("All of it.")
    finished(page)
    assert all(request["messages"] == [{"role": "user", "content": "Hi"}] for request in script.requests)


def test_a_connection_that_breaks_keeps_what_arrived_and_can_be_retried(page, script):
    gate = threading.Event()
    script.answer("Half of", gate, Cut(), done=False)
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("Half of")
    gate.set()
    expect(last(page).locator(".failed")).to_contain_text("The connection ended before the reply did")
    expect(last(page).locator(".body")).to_have_text("Half of")
    page.get_by_role("button", name="Retry").click()
    expect(last(page).locator(".body")).to_have_text("Hello there.")


def test_a_late_error_keeps_the_text_and_shows_the_servers_sentence(page, script):
    told(page, script, "So far ", Event(error="The GPU has left the building."), done=False)
    expect(last(page).locator(".body")).to_have_text("So far")
    expect(last(page).locator(".failed")).to_contain_text("The GPU has left the building.")
    script.answer("Better.")
    page.get_by_role("button", name="Retry").click()
    expect(last(page).locator(".body")).to_have_text("Better.")


@pytest.mark.parametrize("status, sentence, headers, more", [
    (400, "messages[0].content is empty; write something.", {}, ""),
    (503, "All workers are busy.", {"Retry_After": "7"}, " Try again in 7 s."),
    (413, "The body has more than 1 MiB.", {}, ""),
    (411, "The length is missing.", {}, ""),
])
def test_a_refusal_is_shown_in_the_servers_words_and_can_be_retried(page, script, status, sentence, headers, more):
    script.refuse(status, sentence, **headers)
    say(page, "Hi")
    expect(last(page).locator(".failed span")).to_have_text(sentence + more)
    finished(page)
    script.answer("Now it works.")
    page.get_by_role("button", name="Retry").click()
    expect(last(page).locator(".body")).to_have_text("Now it works.")
    expect(page.locator(".row")).to_have_count(2)


def test_a_proxys_error_page_and_broken_events_are_said_too(page, script):
    script.answer(b"<h1>Bad gateway</h1>", done=False, status=502, headers={"Content-Type": "text/html"})
    say(page, "Hi")
    expect(last(page).locator(".failed")).to_contain_text("502")
    script.answer("A", b"data: {nonsense\n\n", done=False)
    page.get_by_role("button", name="Retry").click()
    expect(last(page).locator(".failed")).to_contain_text("The connection ended before the reply did")
    expect(last(page).locator(".body")).to_have_text("A")


def test_a_server_that_is_gone_is_said_and_the_message_is_kept(page, script):
    page.route("**/chat/completions", lambda route: route.abort())
    say(page, "Hi")
    expect(last(page).locator(".failed")).to_contain_text("could not be reached")
    page.unroute("**/chat/completions")
    page.get_by_role("button", name="Retry").click()
    expect(last(page).locator(".body")).to_have_text("Hello there.")


def test_waiting_is_a_queue_and_not_a_hang(context, script):
    page = context.new_page()
    page.clock.install()
    page.goto(script.url)
    gate = threading.Event()
    script.health = {**script.health, "available_workers": 0}
    script.answer("At last.", before=gate)
    say(page, "Hi")
    expect(last(page).locator(".waiting")).to_contain_text("Waiting for a worker")
    for _ in range(3):
        page.clock.run_for(1000)
    expect(last(page).locator(".waiting")).to_contain_text("Waiting in the queue: every worker is busy")
    expect(page.locator("#spoken")).to_contain_text("Waiting in the queue")
    for _ in range(20):                                                      # a long wait alone is no failure
        with page.expect_response("**/health"):
            page.clock.run_for(3000)
    expect(last(page).locator(".waiting")).to_contain_text("Waiting in the queue")
    gate.set()
    page.clock.resume()
    expect(last(page).locator(".body")).to_have_text("At last.")


def test_a_server_that_hangs_is_given_up_before_and_in_a_reply(context, script):
    page = context.new_page()
    page.clock.install()
    page.goto(script.url)
    gate = threading.Event()
    script.answer("never", before=gate)
    page.route("**/health", lambda route: route.abort())
    say(page, "Hi")
    expect(last(page).locator(".waiting")).to_be_visible()
    for _ in range(14):
        page.clock.run_for(1000)
        page.wait_for_timeout(20)
    expect(last(page).locator(".failed")).to_contain_text("The server does not answer any more.")
    script.answer("Half of", threading.Event())
    page.get_by_role("button", name="Retry").click()
    page.clock.run_for(100)
    expect(last(page).locator(".body")).to_have_text("Half of")
    for _ in range(10):
        page.clock.run_for(10000)
    expect(last(page).locator(".failed")).to_contain_text("The server has said nothing for 90 s.")
    expect(last(page).locator(".body")).to_have_text("Half of")
    gate.set()


# Stop -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["button", "Esc"])
def test_stop_frees_the_worker_keeps_the_text_and_goes_on_from_it(page, script, how):
    script.answer("I was say", threading.Event())
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("I was say")
    page.get_by_role("button", name="Stop").click() if how == "button" else page.keyboard.press("Escape")
    expect(last(page).locator(".stopped")).to_be_visible()
    expect(last(page).locator(".body")).to_have_text("I was say")
    expect(page.locator("#box")).to_be_focused()
    until(lambda: script.gone)
    say(page, "Go on")
    expect(last(page).locator(".body")).to_have_text("Hello there.")
    assert script.requests[-1]["messages"] == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "I was say"},
                                               {"role": "user", "content": "Go on"}]


def test_stopping_before_the_first_word_leaves_a_retry_and_no_empty_message(page, script):
    gate = threading.Event()
    script.answer("late", before=gate)
    say(page, "Hi")
    page.get_by_role("button", name="Stop").click()
    expect(last(page).locator(".failed")).to_contain_text("Stopped before the first word.")
    gate.set()
    say(page, "Well?")
    expect(last(page).locator(".body")).to_have_text("Hello there.")
    assert script.requests[-1]["messages"] == [{"role": "user", "content": "Hi\n\nWell?"}]


# Two conversations never mix --------------------------------------------------------------------------------
def test_a_reply_goes_on_in_its_own_conversation_while_another_is_open(page, script):
    more = threading.Event()
    script.answer("First ", more, "reply.")
    say(page, "One")
    expect(last(page).locator(".body")).to_have_text("First")
    page.locator("#page > header").get_by_role("button", name="New conversation").click()
    expect(page.locator(".row")).to_have_count(0)
    script.answer("Second reply.")
    say(page, "Two")
    finished(page)
    more.set()
    expect(page.locator(".row .body")).to_have_text(["Two", "Second reply."])
    page.locator("#list").get_by_role("button", name="One").first.click()
    expect(page.locator(".row .body")).to_have_text(["One", "First reply."])
    assert [[m["content"] for m in request["messages"]] for request in script.requests] == [["One"], ["Two"]]


def test_a_message_during_a_reply_waits_in_the_box(page, script):
    more = threading.Event()
    script.answer("Part", more)
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("Part")
    say(page, "Too early")
    expect(page.locator("#notice")).to_contain_text("A reply is still being written.")
    expect(page.locator("#box")).to_have_value("Too early")
    more.set()
    finished(page)
    page.keyboard.press("Enter")
    finished(page)
    assert [len(request["messages"]) for request in script.requests] == [1, 3]


@pytest.mark.parametrize("act, left", [
    ("edit", ["Changed", "Hello there."]),
    ("delete", []),
    ("clear", []),
    ("delete conversation", []),
    ("import", ["Hi", "Part whole"]),
])
def test_whatever_is_done_while_a_reply_streams_it_lands_nowhere_else(page, script, act, left):
    more = threading.Event()
    script.answer("Part ", more, "whole")
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("Part")
    first = page.locator(".row").first
    if act == "edit":
        first.get_by_role("button", name="Edit").click()
        page.locator("#editor").fill("Changed")
        page.get_by_role("button", name="Send", exact=True).first.click()
    elif act == "delete":
        first.get_by_role("button", name="Delete from here on").click()
    elif act == "clear":
        say(page, "/clear")
    elif act == "delete conversation":
        page.locator("#list").get_by_role("button", name="Delete").click()
    else:
        upload(page, {"conversations": [{"id": "x", "title": "Other", "messages": [{"role": "user", "content": "elsewhere"}]}]})
        expect(page.locator("#list li")).to_have_count(2)
    more.set()
    finished(page)
    until_true(page, "state.replies.size === 0")
    page.wait_for_timeout(150)
    expect(page.locator(".row .body")).to_have_text(left)
    expect(page.locator("#list li")).to_have_count({"delete conversation": 0, "import": 2}.get(act, 1))


# Messages ---------------------------------------------------------------------------------------------------
def test_regenerate_replaces_the_reply_and_undo_brings_it_back(page, script):
    told(page, script, "First.")
    script.answer("Second.")
    last(page).get_by_role("button", name="Regenerate").click()
    expect(last(page).locator(".body")).to_have_text("Second.")
    finished(page)
    page.get_by_role("button", name="Undo").click()
    expect(last(page).locator(".body")).to_have_text("First.")
    page.get_by_role("button", name="Undo").click()                         # what undo replaced is not lost either
    expect(last(page).locator(".body")).to_have_text("Second.")
    assert script.requests[1]["messages"] == [{"role": "user", "content": "Hi"}]


def test_a_retry_that_takes_nothing_away_offers_no_undo(page, script):
    script.refuse(503, "Busy.")
    say(page, "Hi")
    page.get_by_role("button", name="Retry").click()
    expect(last(page).locator(".body")).to_have_text("Hello there.")
    expect(page.locator("#notice")).to_be_hidden()


def test_editing_a_user_message_goes_on_from_there(page, script):
    told(page, script, "First.")
    told(page, script, "Second.")
    page.locator(".row").nth(0).get_by_role("button", name="Edit").click()
    expect(page.locator("#editor")).to_be_focused()
    expect(page.locator("#editor")).to_have_value("Hi")
    page.locator("#editor").fill("Hello?")
    page.locator("#editor").press("Enter")
    expect(page.locator(".row .body")).to_have_text(["Hello?", "Hello there."])
    finished(page)
    assert script.requests[-1]["messages"] == [{"role": "user", "content": "Hello?"}]
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".row .body")).to_have_text(["Hi", "First.", "Hi", "Second."])


def test_editing_a_reply_happens_in_place_and_is_what_the_server_reads(page, script):
    told(page, script, "First.")
    told(page, script, "Second.")
    page.locator(".row").nth(1).get_by_role("button", name="Edit").click()
    page.locator("#editor").fill("My own\nwords.")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".row .body").nth(1)).to_have_text("My own words.")
    expect(page.locator(".row")).to_have_count(4)
    say(page, "Next")
    finished(page)
    assert [m["content"] for m in script.requests[-1]["messages"]] == ["Hi", "My own\nwords.", "Hi", "Second.", "Next"]


def test_delete_from_here_on_comes_back_with_undo_and_so_does_each_before_it(page, script):
    told(page, script, "First.")
    told(page, script, "Second.")
    page.locator(".row").nth(3).get_by_role("button", name="Delete from here on").click()
    expect(page.locator(".row")).to_have_count(3)
    page.locator(".row").nth(1).get_by_role("button", name="Delete from here on").click()
    expect(page.locator(".row")).to_have_count(1)
    page.locator("#notice").get_by_role("button", name="Undo").click()
    expect(page.locator(".row")).to_have_count(3)
    page.locator("#notice").get_by_role("button", name="Undo").click()
    expect(page.locator(".row .body")).to_have_text(["Hi", "First.", "Hi", "Second."])
    expect(page.locator("#notice").get_by_role("button", name="Undo")).to_be_hidden()


def test_copy_takes_the_text_as_it_was_written(context, page, script):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    told(page, script, "**Bold** and <|python_start|>1+1<|python_end|><|output_start|>2<|output_end|>\n```py\nx = 1\n```\n")
    last(page).get_by_role("button", name="Copy", exact=True).click()
    expect(last(page).locator("[data-do=copy]")).to_have_class(re.compile("copied"))
    expect(page.locator("#spoken")).to_contain_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == "**Bold** and 1+1 = 2\n```py\nx = 1\n```\n"
    last(page).get_by_role("button", name="Copy the code").click()
    until_true(page, "navigator.clipboard.readText().then(text => text === 'x = 1')")


def test_copy_works_without_the_clipboard_of_secure_pages(context, page, script):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    told(page, script, "Plain http.")
    page.evaluate("void (navigator.clipboard.writeText = () => Promise.reject(new Error('insecure')))")
    last(page).get_by_role("button", name="Copy", exact=True).click()
    until_true(page, "navigator.clipboard.readText().then(text => text === 'Plain http.')")


# Markdown ---------------------------------------------------------------------------------------------------
MARKDOWN = {
    "paragraphs and line breaks": ("One\ntwo\n\nthree", "<p>One\ntwo</p><p>three</p>"),
    "bold and italics": ("**b** *i* __b__ _i_ ***both*** ~~gone~~",
    "<p><strong>b</strong> <em>i</em> <strong>b</strong> <em>i</em> "
                         "<strong><em>both</em></strong> <s>gone</s></p>"),
    "nested emphasis": ("**a *b* c** *d **e***", "<p><strong>a <em>b</em> c</strong> <em>d <strong>e</strong></em></p>"),
    "no emphasis": ("2 * 3 * 4, 5*6*7, 2**3**4, snake_case_name, * a, **",
    "<p>2 * 3 * 4, 5*6*7, 2**3**4, snake_case_name, * a, **</p>"),
    "emphasis without spaces": ("这是**重点**吗", "<p>这是<strong>重点</strong>吗</p>"),
    "escapes": (r"\*not\* \`code\` \# \\", r"<p>*not* `code` # \</p>"),
    "inline code": ("`a*b*` ``x ` y`` ` ` `open", "<p><code>a*b*</code> <code>x ` y</code> <code> </code> `open</p>"),
    "headings": ("# One\n## Two ##\n###### Six\n#no", "<h3>One</h3><h4>Two</h4><h6>Six</h6><p>#no</p>"),
    "lists": ("- a\n- b\n  - c\n    - d\n- e\n\n3. x\n4. y", "<ul><li><p>a</p></li><li><p>b</p><ul><li><p>c</p><ul><li><p>d</p></li></ul></li></ul></li>"
              "<li><p>e</p></li></ul><ol start=\"3\"><li><p>x</p></li><li><p>y</p></li></ol>"),
    "loose lists with more in an item": ("1. a\n\n   more\n\n2. b\n   - c\n\nend",
    "<ol start=\"1\"><li><p>a</p><p>more</p></li><li><p>b</p><ul><li><p>c</p></li></ul></li></ol>"
                                         "<p>end</p>"),
    "tabs in lists": ("- a\n\t- b", "<ul><li><p>a</p><ul><li><p>b</p></li></ul></li></ul>"),
    "quotes": ("> a\n> b\n>\n> - c\n\nd", "<blockquote><p>a\nb</p><ul><li><p>c</p></li></ul></blockquote><p>d</p>"),
    "rules": ("a\n\n---\n***\n\nb", "<p>a</p><hr><hr><p>b</p>"),
    "tables": ("| a | b |\n|:--|--:|\n| 1 | **2** |\n| `3` |\n\nend",
    '<table><thead><tr><th>a</th><th style="text-align: right;">b</th></tr></thead><tbody>'
               '<tr><td>1</td><td style="text-align: right;"><strong>2</strong></td></tr><tr><td><code>3</code></td><td style="text-align: right;"></td></tr>'
               '</tbody></table><p>end</p>'),
    "links": ("[a](https://x.org/a_(b)) <https://x.org> https://x.org/y_z. (https://x.org) [m](mailto:a@b.c)",
              "<p><a>a</a>https://x.org/a_(b) &lt;<a>https://x.org</a>https://x.org&gt; <a>https://x.org/y_z</a>https://x.org/y_z. "
              "(<a>https://x.org</a>https://x.org) <a>m</a>mailto:a@b.c</p>"),
    "brackets that are no links": ("[a] [b][c] a[0](x) ![", "<p>[a] [b][c] a[0](x) ![</p>"),
    "images are links": ("![a cat](https://x.org/c.png)", "<p><a>a cat</a>https://x.org/c.png</p>"),
    "tool calls": ("It is <|python_start|>12*34<|python_end|><|output_start|>408<|output_end|>.",
                   "<p>It is [12*34=408].</p>"),
    "a tool call with newlines in it": ("<|python_start|>1\n\n- 2<|python_end|><|output_start|>3<|output_end|>",
    "<p>[1  - 2=3]</p>"),
    "a tool call without its answer, and stray markers": ("a<|output_end|> <|python_start|>1/0<|python_end|> b",
    "<p>a [1/0] b</p>"),
    "a tool call without its answer swallows nothing after it": ("<|python_start|>1/0<|python_end|>\n\n- x\n- y",
    "<p>[1/0]</p><ul><li><p>x</p></li><li><p>y</p></li></ul>"),
    "an address in brackets": ("[https://x.org/a](https://x.org/a) [https://x.org]", "<p><a>https://x.org/a</a>https://x.org/a [<a>https://x.org</a>https://x.org]</p>"),
    "a table under a line of text": ("Here:\n| a |\n|--|\n| 1 |", "<p>Here:</p><table><thead><tr><th>a</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table>"),
    "a year at the start of a line": ("It was\n2020. Then\n1. x", '<p>It was\n2020. Then</p><ol start="1"><li><p>x</p></li></ol>'),
    "html is text": ("a <b>b</b> &amp; <br> c", "<p>a &lt;b&gt;b&lt;/b&gt; &amp;amp; \n c</p>"),
    "carriage returns": ("# a\r\n\r\n- b\r\n- c\r\n", "<h3>a</h3><ul><li><p>b</p></li><li><p>c</p></li></ul>"),
}
# What a reply shows, as short as it can be said: no wrappers, a link's address after it, a tool call as [asked=answered].
SHORT = """function short(box) {
    const copy = box.cloneNode(true)
    for (const link of copy.querySelectorAll("a")) {
        link.after(link.getAttribute("href"))
        for (const name of link.getAttributeNames()) link.removeAttribute(name)
    }
    for (const tool of copy.querySelectorAll(".tool")) {
        const parts = [...tool.children].filter(part => !part.hidden).map(part => part.textContent)
        tool.replaceWith("[" + parts.join("=") + "]")
    }
    for (const table of copy.querySelectorAll(".table")) table.replaceWith(table.firstChild)
    for (const cell of copy.querySelectorAll("th, td")) if (cell.style.textAlign === "left") cell.removeAttribute("style")
    return copy.innerHTML
}"""


@pytest.mark.parametrize("name", MARKDOWN)
def test_markdown_is_shown_as_models_mean_it(reader, name):
    source, shown = MARKDOWN[name]
    draw = f"source => {{ {SHORT}; const box = make('div'); drawMarkdown(box, source, false); return short(box) }}"
    assert reader.evaluate(draw, source) == shown


def test_code_is_shown_with_its_language_and_as_it_was_written(page, script):
    code = "def f():\n\treturn '<b>' * 2  # " + "long " * 60 + "\n\n- no list, **no bold**"
    told(page, script, f"Look:\n```python title\n{code}\n```\nDone.\n~~~\n```\n~~~")
    blocks = last(page).locator(".code")
    expect(blocks).to_have_count(2)
    assert blocks.nth(0).locator("code").text_content() == code
    expect(blocks.nth(0).locator(".bar span")).to_have_text("python")
    assert blocks.nth(1).locator("code").text_content() == "```"
    assert page.evaluate("document.querySelector('.code pre').scrollWidth > document.querySelector('.code pre').clientWidth")
    assert page.evaluate("log.scrollWidth === log.clientWidth")


def test_growing_text_ends_as_if_it_had_come_at_once(reader):
    """Every sample, and shuffles of all their lines, letter by letter: what is settled early is settled rightly."""
    wrong = reader.evaluate("""samples => {
        let seed = 7
        const random = n => (seed = seed * 48271 % 2147483647) % n
        const lines = samples.flatMap(sample => sample.split("\\n")).concat("", "", "```", "    x", "| a | b |", "|--|--|")
        for (let i = 0; i < 60; i++) samples.push(Array.from({ length: 12 }, () => lines[random(lines.length)]).join("\\n"))
        return samples.filter(sample => {
            const grown = make("div"), once = make("div")
            for (let i = 1; i <= sample.length; i++) drawMarkdown(grown, sample.slice(0, i), true)
            drawMarkdown(grown, sample, false)
            drawMarkdown(once, sample, false)
            return grown.innerHTML !== once.innerHTML
        })
    }""", [source for source, _ in MARKDOWN.values()] + ["para\n```a`b\nc", "para\n1. x\ny", "- a\n\n\n  b\n> c\nd"])
    assert wrong == []


def test_no_mixture_of_marks_breaks_the_page_or_loses_a_word(reader):
    wrong = reader.evaluate(r"""() => {
        let seed = 11
        const random = n => (seed = seed * 48271 % 2147483647) % n
        const marks = ["*", "**", "***", "_", "`", "``", "~~", "[", "![", "](https://x.org)", "](", "]", ")", "<|python_start|>", "<|python_end|>", "<|output_start|>",
            "<|output_end|>", "https://x.org/a", "\\", "|", "\n", "\n\n", "- ", "> ", "# ", "1. ", "```", "<br>", " ", " "]
        const wrong = []
        for (let round = 0; round < 500; round++) {
            const words = [], word = () => words[words.push("w" + words.length + ".") - 1]
            const text = Array.from({ length: 24 }, () => random(3) ? marks[random(marks.length)] : word()).join("")
            for (const open of [true, false]) {
                const box = make("div")
                try { drawMarkdown(box, text, open) } catch (error) { wrong.push([text, String(error)]) }
                const lost = words.some(word => !(box.textContent + box.innerHTML).includes(word))
                if (!open && lost && !/```|~~~/.test(text)) wrong.push([text, box.textContent])
            }
        }
        return wrong.slice(0, 5)
    }""")
    assert wrong == []


def test_half_written_markup_is_never_seen(reader):
    source = ("Some **bold *and italic* text** and `code` with ~~old~~ words.\n\n## A heading\n\n"
              "1. one\n   - **two**\n2. three\n\n```python\nx = 1\n```\n\n"
              "| a | b |\n| --- | :-: |\n| 1 | **2** |\n\n> quoted __strongly__\n\n---\n\nIt is <|python_start|>1+1<|python_end|><|output_start|>2<|output_end|>!")
    seen = reader.evaluate("""source => Array.from(source, (_, i) => {
        const box = make("div")
        drawMarkdown(box, source.slice(0, i + 1), true)
        return box.textContent
    })""", source)
    assert [text for text in seen if re.search(r"[*`~#|>_]|---|<|^\d\.|python_|output_", text.replace("x = 1", ""))] == []


def test_what_is_settled_is_not_drawn_again(page, script):
    """A selection in an earlier paragraph, and a code block's scroll, live through the rest of the stream."""
    more = threading.Event()
    script.answer("First paragraph.\n\n", "```\n" + "wide " * 100 + "\n```\n", "\nNow", more, " and **then**\n\n- some\n- more\n")
    say(page, "Hi")
    expect(last(page).locator(".body")).to_contain_text("Now")
    page.evaluate("""() => {
        getSelection().selectAllChildren(document.querySelector(".text > p"))
        document.querySelector(".code pre").scrollLeft = 100
        window.kept = [...document.querySelectorAll(".text > *")]
    }""")
    more.set()
    finished(page)
    assert page.evaluate("getSelection().toString()") == "First paragraph."
    assert page.evaluate("document.querySelector('.code pre').scrollLeft") == 100
    assert page.evaluate("kept.every(node => node.isConnected)")


HOSTILE = [
    "<script>window.pwned = 1</script>", "<img src=x onerror='window.pwned = 1'>", "]]><svg onload=window.pwned=1>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'>",
    "[a](javascript:window.pwned=1)", "[a]( javascript:window.pwned=1 )", "[a](JaVaScRiPt&colon;window.pwned=1)",
    "[a](java\tscript:window.pwned=1)",
    "[a](data:text/html,<script>1</script>)", "[a](vbscript:x)", "[a](//evil.example)", "[a](file:///etc/passwd)",
    "![a](javascript:window.pwned=1)",
    "[a](https://x.org\"onmouseover=\"window.pwned=1)", "<a href='javascript:window.pwned=1'>x</a>",
    "```\"><img src=x onerror=window.pwned=1>\nx\n```",
    "<|python_start|><img src=x onerror=window.pwned=1><|python_end|><|output_start|><script>window.pwned=1</script><|output_end|>",
    "| <img src=x onerror=window.pwned=1> | b |\n|--|--|\n| <script>window.pwned=1</script> | c |",
    "</article></main><h1>gone", "<style>*{display:none}</style>",
    "https://x.org/<script>window.pwned=1</script>", "<https://x.org/\" onclick=\"window.pwned=1>", "\u202egnirts desrever",
    "\x00\x1b[31m", "{{constructor.constructor('window.pwned=1')()}}",
]


def test_hostile_text_stays_text(page, script):
    told(page, script, *[text + "\n\n" for text in HOSTILE])
    for each in last(page).locator(".text a").all():
        each.hover()
    found = set(page.evaluate("""[...document.querySelectorAll(".text *")]
        .map(node => [node.localName, ...node.getAttributeNames()].join(" "))"""))
    assert {each for each in found if re.search(r"\bon|src|script|img|iframe|^style|^h[12]", each)} == set()
    addresses = page.evaluate("[...document.querySelectorAll('.text a')].map(a => [a.href, a.rel, a.target])")
    assert addresses and all(href.startswith(("https:", "http:", "mailto:")) and "noopener" in rel for href, rel, _ in addresses)
    for text in HOSTILE[:4]:
        expect(last(page).locator(".body")).to_contain_text(text)
    say(page, HOSTILE[1])                                                   # in the user's message, the title and the list
    finished(page)
    page.evaluate("put({ ...conversation(), title: '<img src=x onerror=window.pwned=1>' })")
    expect(page.locator("h1")).to_have_text("<img src=x onerror=window.pwned=1>")
    assert page.evaluate("window.pwned") is None and page.faults == []


ENDLESS = ["*a " * 5000, "**a" * 5000, "[" * 20000, "[a](" * 4000, "> " * 8000 + "x", "- " * 8000 + "x",
    "`" * 20000 + "x" + "`" * 9, "*" * 20000 + "x",
           " " * 20000 + "x", "# " + " " * 20000 + "x", "|" * 5000 + "\n" + "|-" * 5000 + "|", "```" + "a" * 20000 + "`",
           "<|python_start|>" * 2000,
           "https://x.org/" + ")" * 20000, "a_" * 10000, "\n" * 20000 + "x", "1. " * 6000 + "x", "\\" * 20000]


@pytest.mark.parametrize("text", ENDLESS, ids=range(len(ENDLESS)))
def test_endless_markup_neither_hangs_nor_overflows(reader, text):
    drawn = reader.evaluate("""text => [true, false].map(open => {
        const box = make("div")
        drawMarkdown(box, text, open)
        return box.childNodes.length
    })""", text)
    assert drawn[1] > 0


def test_a_switch_shows_the_raw_text(page, script):
    told(page, script, "**bold** <|python_start|>1+1<|python_end|><|output_start|>2<|output_end|>")
    page.locator("#page > header").get_by_role("button", name="Settings").click()
    page.get_by_label("Show the raw text").check()
    page.keyboard.press("Escape")
    expect(last(page).locator(".body")).to_have_text("**bold** <|python_start|>1+1<|python_end|><|output_start|>2<|output_end|>")
    more = threading.Event()
    script.answer("*raw", more, "* too")
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("*raw")
    more.set()
    expect(last(page).locator(".body")).to_have_text("*raw* too")


# Tool calls -------------------------------------------------------------------------------------------------
def test_a_tool_call_is_shown_as_what_it_is_and_goes_back_as_it_came(page, script):
    more = [threading.Event() for _ in range(3)]
    script.answer("So <|pyth", more[0], "on_start|>12", more[1], "*34<|python_end|><|output", more[2],
        "_start|>408<|output_end|>.")
    say(page, "Hi")
    body = last(page).locator(".body")
    expect(body).to_have_text("So")
    more[0].set()
    expect(body.locator(".tool .expression")).to_have_text("12")
    expect(body.locator(".tool .result")).to_be_hidden()
    more[1].set()
    expect(body.locator(".tool .expression")).to_have_text("12*34")
    expect(body).not_to_contain_text("<")
    more[2].set()
    expect(body.locator(".tool .result")).to_have_text("408")
    finished(page)
    assert "python" not in body.text_content() and "output" not in body.text_content()
    say(page, "And?")
    finished(page)
    assert script.requests[-1]["messages"][1]["content"] == "So <|python_start|>12*34<|python_end|><|output_start|>408<|output_end|>."


def test_markers_that_a_user_writes_are_the_users_text(page, script):
    say(page, "What does <|python_start|>1<|python_end|> mean?")
    expect(page.locator(".row .body").first).to_have_text("What does <|python_start|>1<|python_end|> mean?")


# Conversations ----------------------------------------------------------------------------------------------
def titles(page):
    return page.locator("#list .open").all_text_contents()


def test_conversations_are_kept_listed_renamed_and_deleted(page, script):
    told(page, script, "Kept **reply**.")
    page.locator("#page > header").get_by_role("button", name="New conversation").click()
    say(page, "Another one")
    finished(page)
    assert titles(page) == ["Another one", "Hi"]
    page.reload()
    expect(page.locator(".row .body")).to_have_text(["Another one", "Hello there."])
    page.locator("#list").get_by_role("button", name="Hi", exact=True).click()
    expect(page.locator(".row .body strong")).to_have_text("reply")
    page.locator("#list .current").get_by_role("button", name="Rename").click()
    expect(page.locator("#rename")).to_be_focused()
    page.locator("#rename").fill("Greeting")
    page.locator("#rename").press("Enter")
    expect(page.locator("h1")).to_have_text("Greeting")
    assert titles(page) == ["Another one", "Greeting"] and page.title() == "Greeting – nanochat"
    page.locator("#list .current").get_by_role("button", name="Delete").click()
    expect(page.locator("#list .open")).to_have_count(1)
    expect(page.locator(".row")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("h1")).to_have_text("Greeting")
    expect(page.locator(".row")).to_have_count(2)
    page.reload()
    assert titles(page) == ["Another one", "Greeting"]


def test_a_page_closed_in_mid_reply_has_kept_what_had_come(page, script):
    script.answer("As far as", threading.Event())
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("As far as")
    page.reload()
    expect(last(page).locator(".body")).to_have_text("As far as")
    expect(last(page).locator(".failed")).to_contain_text("The connection ended before the reply did")
    page.get_by_role("button", name="Retry").click()
    expect(last(page).locator(".body")).to_have_text("Hello there.")


def test_two_tabs_see_each_other_and_overwrite_nothing(context, page, script):
    told(page, script, "First.")
    other = open_page(context, script)
    expect(other.locator("#list .open")).to_have_text(["Hi"])
    other.locator("#list .open").click()
    say(other, "From the other tab")
    finished(other)
    expect(page.locator(".row")).to_have_count(4)                            # one conversation, one after the other: they follow
    more = [threading.Event(), threading.Event()]
    script.answer("A", more[0], "A")
    say(page, "Left")
    expect(last(page).locator(".body")).to_have_text("A")
    script.answer("B", more[1], "B")
    say(other, "Right")                                                      # both at once: one becomes a copy
    expect(last(other).locator(".body")).to_have_text("B")
    more[0].set()
    more[1].set()
    finished(page)
    finished(other)
    fresh = open_page(context, script)
    kept = fresh.evaluate("[...state.conversations.values()].map(it => it.messages.map(m => m.content).slice(4).join()).sort()")
    assert kept == ["Left,AA", "Left,Right,BB"]
    assert page.faults == other.faults == []


FULL = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError') }"
FORBIDDEN = """for (const name of ["localStorage", "sessionStorage"])
    Object.defineProperty(window, name, { get() { throw new DOMException("forbidden", "SecurityError") } })"""


@pytest.mark.parametrize("trouble", [FULL, FORBIDDEN], ids=["full", "forbidden"])
def test_a_full_or_forbidden_storage_is_said_and_survived(context, script, trouble):
    context.add_init_script(trouble)
    page = open_page(context, script)
    told(page, script, "Fine.")
    expect(page.locator("#notice")).to_contain_text("This browser keeps no more")
    page.locator("#notice").get_by_role("button", name="Dismiss").click()
    told(page, script, "Still **fine**.")
    expect(page.locator(".row .body")).to_have_text(["Hi", "Fine.", "Hi", "Still fine."])
    expect(page.locator("#notice")).to_be_hidden()                           # once is enough
    assert len(titles(page)) == 1
    say(page, "/temperature 0.5")
    say(page, "Hi")
    finished(page)
    assert script.requests[-1]["temperature"] == 0.5 and page.faults == []


def test_broken_entries_in_the_storage_are_passed_over(context, page, script):
    told(page, script, "Good.")
    page.evaluate("""() => {
        const odd = messages => "r " + JSON.stringify({ id: "z", title: "", messages })
        const broken = ["", "x", "r {", "r null", "r []", 'r {"id":1}', odd([null]), odd([{ role: "system", content: "x" }])]
        broken.forEach((text, i) => localStorage.setItem("nanochat.conversation." + i, text))
        localStorage.setItem("nanochat.settings", "{broken")
    }""")
    page.reload()
    assert titles(page) == ["Hi"]
    expect(page.locator(".row")).to_have_count(2)
    assert page.faults == []


def test_export_and_import_bring_everything_back(context, page, script):
    told(page, script, "<|python_start|>1+1<|python_end|><|output_start|>2<|output_end|> é🙂")
    page.locator("#page > header").get_by_role("button", name="New conversation").click()
    say(page, "Second")
    finished(page)
    with page.expect_download() as one:
        page.locator("#list .current").get_by_role("button", name="Export").click()
    assert one.value.suggested_filename == "nanochat-second.json"
    [alone] = json.loads(Path(one.value.path()).read_text())["conversations"]
    assert [m["content"] for m in alone["messages"]] == ["Second", "Hello there."]
    with page.expect_download() as every:
        page.get_by_role("button", name="Export all").click()
    saved = Path(every.value.path()).read_bytes()
    spoken = "[...state.conversations.values()].map(it => [it.title, it.changed, it.messages.map(m => [m.role, m.content])]).sort()"
    before = page.evaluate(spoken)
    page.evaluate("localStorage.clear()")
    page.goto("about:blank")
    page.goto(script.url)
    assert page.evaluate(spoken) == []
    upload(page, saved)
    expect(page.locator("#notice")).to_contain_text("2 imported.")
    assert page.evaluate(spoken) == before
    upload(page, saved)
    expect(page.locator("#notice")).to_contain_text("0 imported, 2 already here.")
    page.reload()
    assert page.evaluate(spoken) == before and page.faults == []


def test_an_import_with_odd_names_harms_nothing(page, script):
    odd = [{"id": name, "title": name, "messages": [{"role": "user", "content": "x"}]} for name in ('a"] b', "__proto__",
        "<b>", "", "\\")]
    upload(page, {"conversations": odd})
    expect(page.locator("#notice")).to_contain_text("5 imported.")
    page.locator("#list").get_by_role("button", name='a"] b').focus()
    page.keyboard.press("Enter")
    expect(page.locator(".row")).to_have_count(1)
    page.locator("#list").get_by_role("button", name='a"] b').focus()
    page.evaluate("put({ ...conversation(), title: 'Changed' })")
    expect(page.locator("h1")).to_have_text("Changed")
    page.reload()
    expect(page.locator("#list li")).to_have_count(5)
    assert page.faults == []


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"conversations": [{"id": "x"}]}', *(
    json.dumps({"conversations": [{"id": "x", "title": "", "messages": [message]}]}) for message in (
        {"role": "tool", "content": "x"}, {"role": "user", "content": ["x"]}, {"role": "user"}, None))])
def test_a_file_that_is_no_export_is_refused_whole(page, script, text):
    upload(page, text.encode(), "odd.json")
    expect(page.locator("#notice")).to_contain_text("odd.json is not a file of exported conversations.")
    assert page.evaluate("state.conversations.size") == 0


def test_the_focus_in_the_list_outlives_a_reply_that_ends(page, script):
    more = threading.Event()
    script.answer("Part", more)
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("Part")
    page.locator("#list").get_by_role("button", name="Export").focus()
    more.set()
    finished(page)
    expect(page.locator("#list").get_by_role("button", name="Export")).to_be_focused()


def test_a_typed_title_is_not_lost_to_a_reply_that_ends(page, script):
    more = threading.Event()
    script.answer("Part", more)
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("Part")
    page.locator("#list").get_by_role("button", name="Rename").click()
    page.locator("#rename").fill("My ti")
    more.set()
    finished(page)
    page.keyboard.type("tle")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("My title")
    page.locator("#list").get_by_role("button", name="Rename").click()
    page.locator("#rename").fill("Not this")
    page.keyboard.press("Escape")
    expect(page.locator("#rename")).to_have_count(0)
    expect(page.locator("h1")).to_have_text("My title")


# Settings and commands --------------------------------------------------------------------------------------
def test_defaults_and_limits_come_from_the_server_and_settings_reach_it(page, script):
    script.config = {**PAGE_CONFIG, "sampling": {"temperature": {"default": 0.6, "low": 0.0, "high": 1.5}, "top_k": {"default": 40,
        "low": 0, "high": 100},
                                            "max_tokens": {"default": 99, "low": 1, "high": 1000}}}
    page.reload()
    page.locator("#page > header").get_by_role("button", name="Settings").click()
    sheet = page.locator("#settings")
    expect(sheet).to_contain_text("0 to 1.5, the server's default is 0.6")
    expect(sheet.locator("#top_k")).to_have_attribute("max", "100")
    sheet.locator("#temperature").fill("1.25")
    sheet.locator("#top_k").fill("1000")                                     # beyond the limit: marked, not taken
    expect(sheet.locator("#top_k")).to_have_attribute("aria-invalid", "true")
    sheet.get_by_label("Longest reply").fill("250")
    sheet.locator("#system").fill("Be brief.")
    page.keyboard.press("Escape")
    expect(page.locator("#dials")).to_have_text("temperature 1.25 · top-k 40 · up to 250 tokens · system prompt")
    say(page, "Hi")
    finished(page)
    assert script.requests == [{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
                                "temperature": 1.25, "top_k": 40, "max_tokens": 250}]
    page.reload()
    expect(page.locator("#dials")).to_contain_text("temperature 1.25")


@pytest.mark.parametrize("command, said, sent", [
    ("/temperature 0.2", "Temperature is now 0.2.", {"temperature": 0.2}),
    ("/TopK 7", "Top-k is now 7.", {"top_k": 7}),
    ("/maxtokens 1000", "Longest reply is now 1000.", {"max_tokens": 1000}),
    ("/temperature", "Temperature is 0.8 (0 to 2, the server's default is 0.8).", {"temperature": 0.8}),
    ("/system You are a pirate.", "The system prompt is set.", {}),
])
def test_commands_change_what_they_say(page, script, command, said, sent):
    say(page, command + " " if command == "/temperature" else command)
    expect(page.locator("#notice")).to_contain_text(said)
    expect(page.locator("#box")).to_have_value("")
    assert script.requests == []
    say(page, "Hi")
    finished(page)
    assert sent.items() <= script.requests[0].items()
    assert [m["content"] for m in script.requests[0]["messages"]] == (["You are a pirate."] if "system" in command else []) + ["Hi"]


@pytest.mark.parametrize("command, word", [
    ("/foo bar", "There is no command /foo"), ("/constructor", "There is no command /constructor"),
    ("/temperature 3", "from 0 to 2, not 3"), ("/temperature hot", "not hot"), ("/topk 1.5", "whole number"), ("/maxtokens 0",
        "from 1 to 4096")])
def test_what_is_no_command_is_said_kept_and_not_sent(page, script, command, word):
    page.locator("#box").fill(command)
    page.keyboard.press("Escape")                                            # closes the menu where there is one
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_contain_text(word)
    expect(page.locator("#box")).to_have_value(command)
    expect(page.locator(".row")).to_have_count(0)
    assert script.requests == []


def test_commands_are_offered_while_typing_and_chosen_by_keyboard(page, script):
    page.keyboard.type("/")
    expect(page.locator("#commands li")).to_have_count(7)
    page.keyboard.type("t")
    expect(page.locator("#commands li")).to_have_count(2)
    page.keyboard.type("o")
    expect(page.locator("#commands [aria-selected=true]")).to_contain_text("/topk")
    expect(page.locator("#box")).to_have_attribute("aria-activedescendant", "command-topk")
    page.keyboard.press("Tab")
    expect(page.locator("#box")).to_have_value("/topk ")
    page.keyboard.type("3")
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_contain_text("Top-k is now 3.")
    page.keyboard.type("/h")
    page.keyboard.press("Enter")
    expect(page.locator("#help")).to_be_visible()


def test_clear_empties_the_conversation_and_can_be_undone(page, script):
    told(page, script, "First.")
    say(page, "/clear")
    expect(page.locator(".row")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".row")).to_have_count(2)


def test_a_message_may_begin_with_a_slash_after_a_space(page, script):
    say(page, " /etc is a folder")
    finished(page)
    assert script.requests[0]["messages"][0]["content"] == "/etc is a folder"


# What is going on -------------------------------------------------------------------------------------------
def test_the_page_says_what_is_going_on(page, script):
    expect(page.locator("#model")).to_have_text("d20, sft, step 650 · cuda × 4")
    more = threading.Event()
    script.answer(*["one "] * 5, 0.1, *["two "] * 5, more, headers={"X-Prompt-Tokens": "1200", "X-Dropped-Messages": "3"})
    say(page, "Hi")
    expect(page.locator("#speed")).to_have_text(re.compile(r"[\d.]+ tokens/s · 10 tokens · GPU 0"))
    expect(page.locator("#context")).to_contain_text("context 1,210 of 2,048")
    expect(page.locator("#context")).to_be_visible()
    expect(page.locator(".dropped")).to_have_text("The 3 oldest messages no longer fit and were left out")
    more.set()
    finished(page)
    expect(last(page).locator(".info")).to_have_text(re.compile(r"[\d.]+ tokens/s · 10 tokens · GPU 0"))
    expect(page.locator("#speed")).to_be_hidden()
    page.reload()
    expect(page.locator("#context")).to_contain_text("context 1,210 of 2,048")
    expect(page.locator(".dropped")).to_be_visible()


def test_the_demo_model_says_that_it_is_one(page, script):
    script.config = {**PAGE_CONFIG, "demo": True, "model": "demo"}
    page.reload()
    expect(page.locator("#empty")).to_contain_text("demo model: ")
    expect(page.locator("#empty")).to_contain_text("-g")
    expect(page.locator("#model")).to_contain_text("demo model")


def test_the_page_waits_for_a_model_that_is_loading_and_then_asks_no_more(page, script):
    script.config, script.health = {**PAGE_CONFIG, "model": None}, {**script.health, "ready": False}
    looks = []
    page.on("request", lambda request: looks.append(request.url) if request.url.endswith("health") else None)
    page.reload()
    expect(page.locator("#model")).to_have_text("The model is loading…")
    script.config, script.health = PAGE_CONFIG, {**script.health, "ready": True}
    expect(page.locator("#model")).to_have_text("d20, sft, step 650 · cuda × 4")
    page.wait_for_timeout(100)
    assert 1 <= len(looks) <= 3


@pytest.mark.parametrize("block", ["{}", "", "{nonsense", "null", '{"model": null}'])
def test_the_page_works_without_its_config(page, script, block):
    script.raw_config = block
    page.reload()
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("Hello there.")
    assert {**script.requests[0], "messages": 0} == {"messages": 0, "temperature": 0.8, "top_k": 50, "max_tokens": 512}
    assert page.faults == []


def test_what_would_be_refused_for_its_length_is_said_or_left_out(page, script):
    script.config = {**PAGE_CONFIG, "limits": {"messages": 6, "message": 100, "conversation": 250}}
    page.reload()
    page.locator("#box").fill("x" * 101)
    page.locator("#box").press("Enter")
    expect(page.locator("#notice")).to_contain_text("The message has 101 characters; at most 100 can be sent.")
    assert script.requests == []
    page.locator("#box").fill("")
    told(page, script, "y" * 90 + "🙂" + "z" * 99)                            # a reply may be longer than a message
    for text in ("aaaa", "bbbb", "cccc"):
        say(page, text)
        finished(page)
    for request in script.requests:
        assert len(request["messages"]) <= 6 and sum(len(m["content"]) for m in request["messages"]) <= 250
        assert all(len(m["content"]) <= 100 for m in request["messages"])
        assert [m["role"] for m in request["messages"]] == ["user", "assistant"] * (len(request["messages"]) // 2) + ["user"]
        request["messages"][0]["content"].encode()                           # no half of a surrogate pair
    assert script.requests[-1]["messages"][-1]["content"] == "cccc"
    expect(last(page).locator(".dropped")).to_have_text("The 2 oldest messages no longer fit and were left out")


# Comfort ----------------------------------------------------------------------------------------------------
def test_light_and_dark_follow_the_system_or_the_switch(chromium, script):
    for scheme, other in (("light", "dark"), ("dark", "light")):
        context = chromium.new_context(color_scheme=scheme)
        page = open_page(context, script)
        colour = "getComputedStyle(document.body).backgroundColor"
        dark = {"light": False, "dark": True}

        def is_dark():
            return sum(map(int, re.findall(r"\d+", page.evaluate(colour))[:3])) < 384
        assert is_dark() == dark[scheme]
        page.locator("#page > header").get_by_role("button", name="Settings").click()
        page.get_by_label("Appearance").select_option(other.capitalize())
        until_true(page, f"document.documentElement.dataset.theme === '{other}'")
        assert is_dark() == dark[other]
        page.reload()
        until_true(page, f"document.documentElement.dataset.theme === '{other}'")
        assert is_dark() == dark[other]
        context.close()


def test_contrast_is_enough_in_both_themes():
    """WCAG AA: 4.5 for text, 3 for the edges of controls; computed from the page's own colours."""
    page = (HERE / "ui.html").read_text()
    colours = dict(re.findall(r"--([\w-]+): light-dark\((#\w{6}, #\w{6})\)", page))
    assert len(colours) >= 12

    def luminance(colour):
        parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
        return sum(weight * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for weight, c in zip((0.2126,
            0.7152, 0.0722), parts))

    grounds = "paper side raised bubble code".split()
    pairs = [(front, back, 4.5) for front in ("ink", "soft", "accent") for back in grounds]
    pairs += [("error", back, 4.5) for back in ("error-paper", "paper", "raised")] + [("on-accent", "accent", 4.5)]
    pairs += [(front, back, 3) for front in ("edge", "accent") for back in ("paper", "raised", "side")]
    low = []
    for front, back, least in pairs:
        for theme in (0, 1):
            bright, dim = sorted((luminance(colours[name].split(", ")[theme]) for name in (front, back)), reverse=True)
            ratio = (bright + 0.05) / (dim + 0.05)
            low += [(front, back, "light dark".split()[theme], round(ratio, 2))] if ratio < least else []
    assert low == []


PHONE = dict(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, device_scale_factor=2)


def test_a_phone_shows_all_of_it_without_zoom_or_sideways_scrolling(chromium, script):
    context = chromium.new_context(**PHONE)
    page = open_page(context, script)
    expect(page.locator("#side")).to_be_hidden()
    told(page, script, "| a | b | c |\n|--|--|--|\n| " + "word " * 9 + "| " + "word " * 9 + "| " + "x" * 60,
         " |\n\n```\n" + "y" * 200 + "\n```\n" + "z" * 200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("log.scrollWidth <= log.clientWidth")
    clipped = page.evaluate("""[...rows.querySelectorAll(".row, .body, .table, pre")]
        .filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "auto").map(e => e.className)""")
    assert clipped == [], "what is too wide scrolls by itself"
    page.locator("#side-button").tap()
    expect(page.locator("#side")).to_be_visible()
    page.locator("#list .open").tap()
    expect(page.locator("#side")).to_be_hidden()
    page.locator("#page > header").get_by_role("button", name="Settings").tap()
    sizes = page.evaluate("[...document.querySelectorAll('textarea, input[type=number]')].map(e => parseFloat(getComputedStyle(e).fontSize))")
    assert min(sizes) >= 16, "a smaller field makes phones zoom in on focus"
    page.get_by_role("button", name="Close").tap()
    small = page.evaluate("""[...document.querySelectorAll("button")].filter(b => b.checkVisibility())
        .map(b => [b.ariaLabel || b.textContent, b.getBoundingClientRect()])
        .filter(([, box]) => Math.min(box.width, box.height) < 24).map(([name]) => name)""")
    assert small == [], "WCAG 2.2 asks for targets of 24 px"
    last(page).get_by_role("button", name="Delete from here on").tap()
    expect(page.locator(".row")).to_have_count(1)
    expect(page.locator("#box")).not_to_be_focused()                         # that would call up the keyboard
    box = page.locator("#composer").bounding_box()
    assert box["y"] + box["height"] <= 844
    meta = page.locator("meta[name=viewport]").get_attribute("content")
    assert "viewport-fit=cover" in meta and "interactive-widget=resizes-content" in meta
    assert "user-scalable" not in meta and "maximum-scale" not in meta
    assert page.faults == []
    context.close()


def test_enter_sends_shift_enter_breaks_the_line_and_an_input_method_keeps_its_enter(page, script):
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    expect(page.locator("#box")).to_have_value("one\ntwo")
    tall = page.locator("#box").bounding_box()["height"]
    for how in ("new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true, cancelable: true })",
                "Object.defineProperty(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true, cancelable: true }), 'keyCode', { value: 229 })"):
        assert page.evaluate(f"box.dispatchEvent({how})"), "the event was swallowed"
    assert script.requests == [] and page.evaluate("state.draft") == "one\ntwo"
    page.keyboard.press("Enter")
    finished(page)
    assert script.requests[0]["messages"][0]["content"] == "one\ntwo"
    assert page.locator("#box").bounding_box()["height"] < tall, "the input grows and shrinks"
    expect(page.locator("#box")).to_be_focused()


def test_an_input_method_in_earnest_does_not_send(context, page, script):
    """Through the browser's own input method events, as far as the debugging protocol can play them."""
    tool = context.new_cdp_session(page)
    tool.send("Input.imeSetComposition", {"text": "に", "selectionStart": 1, "selectionEnd": 1})
    expect(page.locator("#box")).to_have_value("に")
    tool.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", "key": "Process", "code": "Enter", "windowsVirtualKeyCode": 229})
    tool.send("Input.insertText", {"text": "日本"})
    expect(page.locator("#box")).to_have_value("日本")
    assert script.requests == []


def test_the_help_sheet_lists_every_key_and_command(page):
    page.keyboard.press("Control+/")
    sheet = page.locator("#help")
    expect(sheet).to_be_visible()
    for name in page.evaluate("Object.keys(COMMANDS)"):
        expect(sheet).to_contain_text("/" + name)
    assert sheet.locator("#help-keys dt").count() == page.evaluate("KEYS.length") >= 8
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    expect(page.locator("#box")).to_be_focused()


def test_the_view_follows_only_when_it_is_at_the_end(page, script):
    more = [threading.Event(), threading.Event()]
    script.answer(*["line\n\n"] * 60, more[0], *["more\n\n"] * 30, more[1], "The end.")
    say(page, "Hi")
    bottom = "log.scrollHeight - log.clientHeight - log.scrollTop < 2"
    expect(last(page).locator(".text > p")).to_have_count(60)
    until_true(page, bottom)
    expect(page.locator("#down")).to_be_hidden()
    page.locator("#log").hover()
    page.mouse.wheel(0, -300)
    expect(page.locator("#down")).to_be_visible()
    top = page.evaluate("log.scrollTop")
    more[0].set()
    expect(last(page).locator(".text > p")).to_have_count(90)
    assert page.evaluate("log.scrollTop") == top
    page.locator("#down").click()
    until_true(page, bottom)
    more[1].set()
    expect(last(page)).to_contain_text("The end.")
    finished(page)
    until_true(page, bottom)
    expect(page.locator("#down")).to_be_hidden()


@pytest.mark.parametrize("key", ["ArrowUp", "PageUp", "Home", "wheel"])
def test_the_reader_may_leave_the_end_while_a_reply_streams(page, script, key):
    """However small the step is, and however fast the end runs away."""
    filled(page, 60, '`Message ${i} ` + "and some words ".repeat(20)')
    script.answer(*["word\n\n", 0.005] * 4000)
    say(page, "Go")
    expect(last(page)).to_contain_text("word")
    page.locator("#log").focus()
    page.locator("#log").hover()
    page.keyboard.press(key) if key != "wheel" else page.mouse.wheel(0, -20)
    until_true(page, "!state.follow")
    top = page.evaluate("log.scrollTop")
    words = page.evaluate("state.replies.get(state.current).info.tokens")
    until_true(page, f"state.replies.get(state.current).info.tokens > {words} + 50")
    assert page.evaluate("log.scrollTop") <= top and not page.evaluate("state.follow")
    page.keyboard.press("Escape")


def test_a_message_that_the_server_refuses_is_not_sent_again_with_the_next(page, script):
    script.refuse(400, "the newest message takes 1506 tokens, and only 768 fit")
    say(page, "much too long")
    expect(last(page).locator(".failed")).to_contain_text("1506 tokens")
    told(page, script, "Fine.")
    assert script.requests[-1]["messages"] == [{"role": "user", "content": "Hi"}]
    script.refuse(503, "all workers are busy")                               # another time it might have been answered
    say(page, "x" * 5000)
    expect(last(page).locator(".failed")).to_contain_text("busy")
    told(page, script, "Fine.")
    assert script.requests[-1]["messages"][2:] == [{"role": "user", "content": "x" * 5000 + "\n\nHi"}]
    script.refuse(503, "all workers are busy")
    say(page, "y" * 5000)
    expect(last(page).locator(".failed")).to_contain_text("busy")
    say(page, "z" * 5000)
    finished(page)
    assert script.requests[-1]["messages"][4:] == [{"role": "user", "content": "z" * 5000}]  # together they are one too long


def test_what_the_server_would_refuse_for_its_length_stays_in_its_field(page, script):
    told(page, script, "Fine.")
    page.locator(".row.user").get_by_role("button", name="Edit").click()
    page.locator("#editor").fill("x" * 8001)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#notice")).to_contain_text("8001 characters; at most 8000")
    expect(page.locator("#editor")).to_have_value("x" * 8001)
    page.keyboard.press("Escape")
    say(page, "/system " + "x" * 8001)
    expect(page.locator("#notice")).to_contain_text("8001 characters")
    assert page.evaluate("state.settings.system") is None
    say(page, "🙂" * 8000)                                                    # a character each, as the server counts
    finished(page)
    assert script.requests[-1]["messages"][-1]["content"] == "🙂" * 8000


def test_notices_reach_screen_readers(page):
    say(page, "/nope")
    expect(page.locator("#spoken")).to_contain_text("There is no command /nope")


def test_undo_stays_in_sight_when_another_conversation_is_shown_and_is_a_command(page, script):
    told(page, script, "First.")
    last(page).get_by_role("button", name="Delete from here on").click()
    page.locator("#page > header").get_by_role("button", name="New conversation").click()
    page.locator("#notice").get_by_role("button", name="Undo").click()
    expect(page.locator(".row .body")).to_have_text(["Hi", "First."])
    last(page).get_by_role("button", name="Delete from here on").click()
    page.locator("#notice").get_by_role("button", name="Dismiss").click()
    say(page, "/undo")
    expect(page.locator(".row .body")).to_have_text(["Hi", "First."])


def test_a_conversation_deleted_while_it_streams_comes_back_with_what_had_come(page, script):
    script.answer("What had come", threading.Event())
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("What had come")
    page.locator("#list li").get_by_role("button", name="Delete").click()
    page.locator("#notice").get_by_role("button", name="Undo").click()
    expect(page.locator(".row .body")).to_have_text(["Hi", "What had come"])


def test_a_message_whose_reply_was_deleted_can_be_answered(page, script):
    told(page, script, "First.")
    expect(page.get_by_role("button", name="Answer")).to_have_count(0)
    last(page).get_by_role("button", name="Delete from here on").click()
    last(page).get_by_role("button", name="Answer").click()
    expect(page.locator(".row .body")).to_have_text(["Hi", "Hello there."])
    expect(page.get_by_role("button", name="Answer")).to_have_count(0)
    assert script.requests[-1]["messages"] == [{"role": "user", "content": "Hi"}]


def test_the_draft_of_an_unsent_conversation_is_found_again(page, script):
    told(page, script, "First.")
    fresh = page.locator("#page > header").get_by_role("button", name="New conversation")
    fresh.click()
    page.locator("#box").fill("half a thought")
    page.locator("#list .open").first.click()
    expect(page.locator("#box")).to_have_value("")
    fresh.click()
    expect(page.locator("#box")).to_have_value("half a thought")
    fresh.click()
    expect(page.locator("#box")).to_have_value("half a thought")
    page.locator("#box").press("Enter")
    finished(page)
    fresh.click()
    expect(page.locator(".row")).to_have_count(0)
    assert len(titles(page)) == 2


def test_another_tab_takes_no_running_reply_for_cut_off_but_a_reload_does(context, page, script):
    script.answer("It goes on", threading.Event())
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("It goes on")
    page.evaluate("save(state.current)")
    other = open_page(context, script)
    other.goto(page.url)
    other.reload()
    expect(last(other).locator(".body")).to_have_text("It goes on")
    expect(other.locator(".failed")).to_have_count(0)
    page.reload()
    expect(last(page).locator(".failed")).to_contain_text("ended before the reply did")
    other.reload()
    expect(last(other).locator(".failed")).to_contain_text("ended before the reply did")


def test_a_page_closed_before_the_first_word_blames_nobody(page, script):
    script.answer("late", before=threading.Event())
    say(page, "Hi")
    until(lambda: script.requests)
    page.reload()
    expect(page.locator(".row")).not_to_have_count(0)
    expect(page.locator("body")).not_to_contain_text("could not be reached")


def test_a_covered_page_takes_no_key_and_the_list_closes_when_there_is_no_room(page, script):
    expect(page.locator("#side")).to_be_visible()
    page.set_viewport_size({"width": 700, "height": 800})
    expect(page.locator("#side")).to_be_hidden()
    page.keyboard.press("Control+Shift+L")
    expect(page.get_by_role("button", name="Hide the conversations")).to_be_focused()
    assert page.evaluate("$('page').inert")
    page.set_viewport_size({"width": 1280, "height": 800})
    expect(page.locator("#side")).to_be_visible()
    until_true(page, "!$('page').inert")


@pytest.mark.parametrize("height", [340, 200])
def test_the_commands_stay_in_view_above_a_phones_keyboard(page, height):
    page.set_viewport_size({"width": 390, "height": height})
    page.keyboard.type("/")
    expect(page.locator("#commands")).to_be_visible()
    assert page.locator("#commands").bounding_box()["y"] >= 0


def test_printing_prints_the_whole_conversation(page, script):
    filled(page, 60, '`Message ${i} ` + "and some words ".repeat(30)')
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollHeight > log.scrollHeight - 2 && log.scrollHeight > 4000")
    expect(page.locator("#foot")).to_be_hidden()
    assert page.pdf().count(b"/Type /Page\n") > 5


def test_a_setting_that_was_refused_does_not_stay_in_its_field(page):
    page.keyboard.press("Control+,")
    page.locator("#temperature").fill("5")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+,")
    expect(page.locator("#temperature")).to_have_value("0.8")


def test_what_the_page_falls_back_to_is_the_servers_table(page):
    told, own = config_of(Client(make_app(ScriptedEngine())).get("/").text), page.evaluate("FALLBACK")
    assert own["limits"] == told["limits"]
    assert {name: {end: own["sampling"][name][end] for end in ends} for name, ends in told["sampling"].items()} == told["sampling"]


def test_an_import_that_the_storage_does_not_take_is_not_called_one(context, page, script):
    told(page, script, "First.")
    page.evaluate(f"() => {{ {FULL} }}")
    upload(page, {"conversations": [{"id": "x", "title": "Other", "messages": [{"role": "user", "content": "elsewhere"}]}]})
    expect(page.locator("#notice")).to_contain_text("keeps no more")


def test_text_runs_in_its_own_direction(page, script):
    told(page, script, "שלום, עולם!")
    assert page.evaluate("""() => {
        const range = document.createRange(), text = rows.lastElementChild.querySelector("p"), edge = text.getBoundingClientRect()
        range.selectNodeContents(text)
        return edge.right - range.getBoundingClientRect().right
    }""") < 2, "right to left begins at the right"


def test_a_long_conversation_opens_at_its_end(page, script):
    filled(page, 200, '`Message ${i} ` + "and some words ".repeat(i * 7 % 90)')
    page.reload()
    expect(page.locator(".row")).to_have_count(200)
    for _ in range(3):
        until_true(page, "log.scrollHeight - log.clientHeight - log.scrollTop < 2")
        page.wait_for_timeout(100)
    expect(last(page)).to_be_in_viewport()
    expect(page.locator("#down")).to_be_hidden()
    assert not page.evaluate("rows.querySelector('.body').checkVisibility({ contentVisibilityAuto: true })"), "far rows are not drawn"
    page.locator("#log").focus()
    page.keyboard.press("Home")
    expect(page.locator(".row").first).to_be_in_viewport()
    page.get_by_role("button", name="Go to the end").click()
    for _ in range(3):
        until_true(page, "log.scrollHeight - log.clientHeight - log.scrollTop < 2")
        page.wait_for_timeout(100)
    expect(last(page)).to_be_in_viewport()


def test_drafts_survive_a_reload_and_belong_to_their_conversation(page, script):
    told(page, script, "First.")
    page.locator("#box").fill("for the first")
    page.locator("#page > header").get_by_role("button", name="New conversation").click()
    expect(page.locator("#box")).to_have_value("")
    page.keyboard.type("for the new one")
    page.reload()
    expect(page.locator("#box")).to_have_value("for the new one")
    page.locator("#list .open").click()
    expect(page.locator("#box")).to_have_value("for the first")
    page.keyboard.press("Enter")
    finished(page)
    page.reload()
    expect(page.locator("#box")).to_have_value("")


def test_focus_is_where_one_would_type(page, script):
    expect(page.locator("#box")).to_be_focused()
    told(page, script, "First.")
    expect(page.locator("#box")).to_be_focused()
    page.locator(".row").first.get_by_role("button", name="Edit").click()
    expect(page.locator("#editor")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#box")).to_be_focused()
    last(page).get_by_role("button", name="Regenerate").click()
    finished(page)
    expect(page.locator("#box")).to_be_focused()
    page.locator("h1").click()
    page.keyboard.press("/")
    expect(page.locator("#box")).to_be_focused()


def test_screen_readers_hear_sentences_and_not_tokens(context, script):
    page = context.new_page()
    page.clock.install()
    page.goto(script.url)
    more = [threading.Event(), threading.Event()]
    script.answer("The **sky**", " is", " blue", more[0], ". It", " looks", more[1], " deep.")
    say(page, "Hi")
    page.clock.run_for(2500)
    expect(last(page).locator(".body")).to_have_text("The sky is blue")
    expect(page.locator("#spoken")).to_have_text("")
    more[0].set()
    expect(page.locator("#go")).to_be_enabled()
    until_true(page, "state.replies.get(state.current).text.endsWith('looks')")
    page.clock.run_for(2500)
    expect(page.locator("#spoken p")).to_have_text(["The sky is blue."])
    more[1].set()
    page.clock.resume()
    expect(page.locator("#spoken p")).to_have_text(["The sky is blue.", "It looks deep."])
    assert page.locator("#spoken").get_attribute("aria-live") == "polite"
    assert page.evaluate("[log, rows].every(e => !e.closest('[aria-live], [role=log]'))")


def test_reduced_motion_is_respected(page, script):
    gate = threading.Event()
    script.answer("x", before=gate)
    say(page, "Hi")
    expect(page.locator(".waiting")).to_be_visible()
    assert page.evaluate("document.getAnimations().length") == 0
    gate.set()


# By keyboard alone, and for everyone ------------------------------------------------------------------------
def tab_to(page, name, within=""):
    """Presses Tab until the focus is on the control with this label, as someone without a mouse does."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("""([name, within]) => {
            const it = document.activeElement
            return (it.ariaLabel || it.textContent) === name && (!within || it.closest(within) !== null)
        }""", [name, within]):
            return
    raise AssertionError(f"Tab never reaches {name}")


def test_every_action_can_be_done_by_keyboard_alone(context, page, script):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    keys = page.keyboard
    keys.type("Hello")
    keys.press("Enter")
    finished(page)
    rows = page.locator(".row")
    page.locator("#log").focus()
    tab_to(page, "Edit", ".user")
    keys.press("Enter")
    keys.type(", you")
    keys.press("Enter")
    finished(page)
    expect(rows.first.locator(".body")).to_have_text("Hello, you")
    tab_to(page, "Undo")
    keys.press("Enter")
    expect(rows.first.locator(".body")).to_have_text("Hello")
    for name in ("Regenerate", "Copy"):
        page.locator("#log").focus()
        tab_to(page, name, ".assistant")
        keys.press("Enter")
        finished(page)
    until_true(page, "navigator.clipboard.readText().then(text => text === 'Hello there.')")
    page.locator("#log").focus()
    tab_to(page, "Edit", ".assistant")
    keys.press("Enter")
    expect(page.locator("#editor")).to_be_focused()
    keys.press("Control+a")
    keys.type("Mine")
    keys.press("Control+Enter")
    expect(rows.last.locator(".body")).to_have_text("Mine")
    page.locator("#log").focus()
    tab_to(page, "Delete from here on", ".assistant")
    keys.press("Enter")
    expect(rows).to_have_count(1)
    page.locator("#log").focus()
    keys.press("Control+z")
    expect(rows).to_have_count(2)
    script.answer("long", threading.Event())
    page.locator("#box").focus()
    keys.type("More")
    keys.press("Enter")
    expect(rows.last.locator(".body")).to_have_text("long")
    keys.press("Escape")
    expect(rows.last.locator(".stopped")).to_be_visible()
    keys.press("Control+Shift+O")
    expect(rows).to_have_count(0)
    keys.press("Control+Shift+L")
    expect(page.locator("#side")).to_be_hidden()
    keys.press("Control+Shift+L")
    tab_to(page, "Rename")
    keys.press("Enter")
    expect(page.locator("#rename")).to_be_focused()
    keys.press("Control+a")
    keys.type("Renamed")
    keys.press("Enter")
    expect(page.locator("#list .open")).to_have_text("Renamed")
    tab_to(page, "Renamed")
    keys.press("Enter")
    expect(rows).to_have_count(4)
    with page.expect_download():
        tab_to(page, "Export all")
        keys.press("Enter")
    with page.expect_file_chooser():
        page.locator("#list .open").focus()
        tab_to(page, "Import")
        keys.press("Enter")
    keys.press("Control+,")
    expect(page.locator("#settings")).to_be_visible()
    tab_to(page, "Close")
    keys.press("Enter")
    expect(page.locator("#settings")).to_be_hidden()
    page.locator("#list .open").focus()
    tab_to(page, "Delete", "#list")
    keys.press("Enter")
    expect(page.locator("#list .open")).to_have_count(0)
    assert page.faults == []


@pytest.fixture(scope="session")
def axe(tmp_path_factory) -> str:
    """The script of axe-core, from npm."""
    folder = tmp_path_factory.mktemp("axe")
    run_quietly(debian("npm"), "install", "--silent", "--prefix", folder, "axe-core")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.mark.parametrize("size", [{}, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(chromium, script, axe, scheme, size):
    context = chromium.new_context(color_scheme=scheme, reduced_motion="reduce", **size)
    page = open_page(context, script)
    found = []

    def look(where):
        page.wait_for_timeout(60)
        run = "axe.run().then(result => result.violations.map(v => [v.id, v.help, ...v.nodes.map(n => n.html.slice(0, 120))]))"
        for each in page.evaluate(axe + "; " + run):
            found.append((where, *each))

    look("empty")
    told(page, script, "# A heading\n\n**Bold** `code` [link](https://x.org)\n\n" + "wide " * 80 + "\n\n```py\n" + "y = 1 " * 60,
         "\n```\n\n| a | b |\n|--|--|\n| 1 | 2 |\n\n> quote\n\n- list\n\n"
         "<|python_start|>1+1<|python_end|><|output_start|>2<|output_end|>", headers={"X-Prompt-Tokens": "900",
         "X-Dropped-Messages": "2"})
    look("a reply")
    script.answer("so far", threading.Event())
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("so far")
    look("streaming")
    page.keyboard.press("Escape")
    told(page, script, "cut", done=False)
    look("an error")
    page.locator("#box").fill("/")
    look("commands")
    page.locator("#box").fill("")
    page.locator(".row.user").last.get_by_role("button", name="Edit").click()
    look("editing")
    page.keyboard.press("Escape")
    page.evaluate("ACTIONS.deleteFrom(rows.lastElementChild)")
    look("undo")
    for name in ("settings", "help"):
        page.evaluate(f"ACTIONS.{name}()")
        look(name)
        page.keyboard.press("Escape")
    page.evaluate("update({ side: true, renaming: state.current })")
    look("the list")
    context.close()
    assert found == []


# Safe -------------------------------------------------------------------------------------------------------
def test_nothing_is_loaded_from_elsewhere_and_the_policy_is_never_touched(context, page, script):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    told(page, script, "![a](https://x.org/a.png) [b](https://x.org) <img src=https://x.org/c.png>\n```css\n@import 'https://x.org'\n```")
    page.locator("#page > header").get_by_role("button", name="Settings").click()
    expect(page.locator("#settings")).to_be_visible()
    page.keyboard.press("Escape")
    with page.expect_download():
        page.get_by_role("button", name="Export all").click()
    assert all(url.startswith((script.url, "data:", "blob:" + script.url)) for url in asked), asked
    assert page.faults == []


def test_the_policy_stops_what_the_page_never_does(page):
    """The stand-in's policy is in force: without this, the test above would prove nothing."""
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.pwned = 1' }))")
    assert page.evaluate("window.pwned") is None
    assert any("CSP" in fault for fault in page.faults)


def test_the_source_keeps_its_own_rules():
    source = (HERE / "ui.html").read_text()
    assert source.count("<script>") == source.count('<script type="application/json" id="config">{}</script>') == 1
    markup, elsewhere = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", r"javascript:|\son\w+=\"|src=\"|@import|url\("
    assert not re.search(rf"{markup}|{elsewhere}|\beval\(|new Function", source)
    assert set(re.findall(r"https?://[\w.]+", source)) <= {"http://www.w3.org"}, "a name space, not an address to load from"
    assert max(map(len, source.splitlines())) <= 150


# Fast -------------------------------------------------------------------------------------------------------
def test_the_cost_of_a_token_stays_flat(page, script):
    """Counted, not timed: nodes touched per rendered frame, in a 200-message conversation with a 4,000-token reply."""
    filled(page, 200, r'"Message **" + i + "**\n\n- a\n- b\n\n```\nx\n```"')
    page.evaluate("""() => {
        window.counts = []
        window.read = 0
        const count = { records: 0, elsewhere: 0 }
        new MutationObserver(records => {
            count.records += records.length
            const older = r => rows.contains(r.target) && !rows.lastElementChild.contains(r.target) && r.target !== rows
            count.elsewhere += records.filter(older).length
        }).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true })
        const wholeRender = render
        const wholeBlocks = blocks
        blocks = (lines, depth = 0, open) => {
            window.read += depth ? 0 : lines.length
            return wholeBlocks(lines, depth, open)
        }
        render = () => {
            wholeRender()
            counts.push({ ...count, read: window.read })
            count.records = count.elsewhere = window.read = 0
        }
    }""")
    steps = [step for i in range(0, 4000, 20) for step in (b"".join(map(encode, LONG_REPLY[i : i + 20])), 0.01)]
    script.answer(*steps)
    say(page, "Go")
    until_true(page, "state.conversations.get(state.current).messages.length === 202")
    finished(page)
    counts = page.evaluate("counts")[5:-3]
    assert 20 < len(counts) <= 400, "at most one render per frame, and not one per token"
    assert sum(each["elsewhere"] for each in counts) == 0, "the 200 older messages are not touched"
    third = len(counts) // 3
    for what in ("records", "read"):
        early, late = (sum(each[what] for each in part) / third for part in (counts[:third], counts[-third:]))
        assert late <= 1.5 * early + 5, f"{what} per frame grow from {early} to {late}"


def test_typing_in_a_long_conversation_touches_only_the_input(page):
    filled(page, 200, '"Message " + i')
    page.evaluate("""() => {
        window.touched = 0
        const watcher = new MutationObserver(records => { touched += records.length })
        watcher.observe(log, { subtree: true, childList: true, characterData: true, attributes: true })
    }""")
    page.locator("#box").press_sequentially("a sentence of some words")
    assert page.evaluate("touched") == 0


def test_events_that_come_at_once_are_drawn_at_once(page, script):
    page.evaluate("() => { window.frames_drawn = 0; render = (whole => () => { frames_drawn++; whole() })(render) }")
    script.answer(b"".join(encode(f"t{i} ") for i in range(500)))
    say(page, "Hi")
    finished(page)
    assert page.evaluate("frames_drawn") < 40


# ------------------------------------------------------------------------------------------------------------
# The command line


SEED_FLAGS = {
    "--num-gpus": ("-n", 1), "--source": ("-i", None), "--temperature": ("-t", 0.8), "--top-k": ("-k", 50),
    "--max-tokens": ("-m", 512), "--model-tag": ("-g", None), "--step": ("-s", None), "--port": ("-p", 8000),
    "--dtype": ("-d", "bfloat16"), "--device-type": (None, "auto"), "--host": (None, "0.0.0.0"),
}  # fmt: skip


def run(*command, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, timeout=120, **kwargs)


def test_help_names_every_flag_of_the_seed_and_no_other_and_needs_no_torch():
    code = "import sys, chat_web\ntry: chat_web.main(['--help'])\nexcept SystemExit: print('torch' in sys.modules)"
    done = run("-c", code, cwd=HERE, env=os.environ | {"COLUMNS": "300"})
    assert done.stdout.splitlines()[-1] == "False"
    assert set(re.findall(r"--[a-z][\w-]+", done.stdout)) - {"--help"} == SEED_FLAGS.keys()
    told = " ".join(done.stdout.partition("options:")[2].split())
    for long, (short, default) in SEED_FLAGS.items():
        explained = re.search(rf"{f'{short} .*?, ' if short else ''}{long} .*?\(default: ([^),]*)", told)
        assert explained and (default is None or explained[1] == str(default))


def test_defaults_are_the_seeds():
    settings = chat_web.parse_args([])
    values = {f"--{name.replace('_', '-')}": value for name, value in {**vars(settings), **settings.sampling}.items()}
    assert {flag: values[flag] for flag in SEED_FLAGS} == {flag: default for flag, (_, default) in SEED_FLAGS.items()}


def test_every_command_line_of_the_seed_is_understood():
    for line in ("--num-gpus 4", "-n 8", "-i sft", "-i rl", "-g my-model-v2", "-s 10000", "-t 1.0", "-k 100", "-m 1024", "-p 8080",
                 "--host 127.0.0.1", "--device-type cuda", "--device-type cpu", "-d float32", "-n 4 -p 8080",
                 "--num-gpus 8 -i rl -g production-v3 -t 0.7 -k 50 -m 1024 -p 8000 --host 0.0.0.0",
                 "-i sft -t 1.0 -p 8080 --host 127.0.0.1", "--device-type cpu -d float32 -t 0.6"):  # fmt: skip
        assert chat_web.parse_args(line.split())


@pytest.mark.parametrize("line, words", [
    ("-t 2.1", "2.1 0.0 2.0"), ("-t -1", "0.0 2.0"), ("-t nan", "0.0 2.0"), ("-k 201", "201 0 200"), ("-k -1", "0 200"),
    ("-m 0", "0 1 4096"), ("-m 5000", "5000 1 4096"), ("-p 80000", "80000 65535"), ("-n 0", "--num-gpus"),
    ("-d float16", "float16 bfloat16"), ("--device-type tpu", "tpu mps"), ("-i dpo", "dpo sft rl"), ("-k x", "x"),
    ("--unknown", "--unknown"), ("--temp 1", "--temp"), ("-p", "-p"),
])  # fmt: skip
def test_a_flag_out_of_range_ends_in_one_sentence(line, words):
    sentence = refusal(chat_web.parse_args, line.split())
    assert all(word in sentence for word in words.split())


class FakeTorch:
    """As much of torch as pick_devices asks."""

    __version__ = "9.9"

    float32, bfloat16 = "float32", "bfloat16"

    def __init__(self, gpus=0, mps=False, lacks=None):
        self.cuda, self.gpus, self.lacks = self, gpus, lacks
        self.backends = type("B", (), {"mps": type("M", (), {"is_available": staticmethod(lambda: mps)})})

    def is_available(self):
        return self.gpus > 0

    def device_count(self):
        return self.gpus

    def device(self, *name):
        return ":".join(map(str, name))

    def zeros(self, count, device, dtype):
        if dtype == self.lacks:
            raise TypeError("BFloat16 is not supported on MPS")


def devices(line, **machine):
    return chat_web.pick_devices(chat_web.parse_args(line.split()), FakeTorch(**machine))


def test_devices_are_what_the_flags_and_the_machine_allow():
    assert devices("", gpus=2) == ["cuda:0"] and devices("-n 2", gpus=2) == ["cuda:0", "cuda:1"]
    assert devices("", mps=True) == ["mps"] and devices("") == ["cpu"]
    assert devices("--device-type cpu", gpus=2) == ["cpu"]


@pytest.mark.parametrize("line, machine, words", [
    ("-n 4", {"gpus": 2}, "4 2"), ("-n 4", {}, "4 CUDA cpu"), ("-n 2", {"mps": True}, "2 CUDA mps"),
    ("-n 2 --device-type cpu", {"gpus": 8}, "2 CUDA cpu"), ("--device-type cuda", {}, "cuda"), ("--device-type mps", {}, "mps"),
    ("", {"mps": True, "lacks": "bfloat16"}, "mps bfloat16 -d"),
])  # fmt: skip
def test_devices_that_are_not_there_end_in_one_sentence(line, machine, words):
    sentence = refusal(lambda: devices(line, **machine))
    assert all(word in sentence for word in words.split())


@pytest.mark.parametrize("host", ["é..x", "é" * 80, "no such host"])
def test_a_host_that_is_none_ends_in_one_sentence(host):
    assert "cannot listen" in refusal(chat_web.listen, host, 0)


def test_a_used_port_fails_before_anything_is_loaded(base):
    with chat_web.listen("127.0.0.1", 0) as taken:
        number = taken.getsockname()[1]
        done = run(HERE / "chat_web.py", "--host", "127.0.0.1", "-p", number)  # and there is no checkpoint either
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"port {number}" in done.stderr and "-p" in done.stderr and done.stdout == ""


def test_no_checkpoint_ends_in_one_sentence_and_a_failure_status(base):
    done = run(HERE / "chat_web.py", "--host", "127.0.0.1", "-p", 0)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "chatsft_checkpoints" in done.stderr


def test_a_folder_that_may_not_be_read_ends_in_one_sentence(base, monkeypatch):
    def forbidden(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    (base / "chatsft_checkpoints").mkdir()
    monkeypatch.setattr(Path, "iterdir", forbidden)
    for sentence in (refusal(find, "sft"), refusal(checkpoint.holds_any, base)):
        assert str(base / "chatsft_checkpoints") in sentence and "Permission denied" in sentence


def located(monkeypatch, home, *argv):
    """What a start with these flags loads, for a user with this home."""
    monkeypatch.delenv("NANOCHAT_BASE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(home))
    return chat_web.pick_checkpoint(chat_web.parse_args(list(argv)), checkpoint)


def test_the_demo_model_is_used_only_when_nothing_was_asked_for_and_there_is_nothing(tmp_path, monkeypatch, capsys):
    found, demo = located(monkeypatch, tmp_path)
    assert demo and found.model.is_relative_to(HERE / "demo")
    assert "demo model" in capsys.readouterr().out
    for argv in (["-i", "sft"], ["-g", "d4"], ["-s", "1"]):
        assert "no " in refusal(located, monkeypatch, tmp_path, *argv)
    monkeypatch.setenv("NANOCHAT_BASE_DIR", "")  # as if it were not set
    assert chat_web.pick_checkpoint(chat_web.parse_args([]), checkpoint)[1]
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path))
    assert str(tmp_path) in refusal(chat_web.pick_checkpoint, chat_web.parse_args([]), checkpoint)
    write_tokenizer(tmp_path / ".cache" / "nanochat" / "tokenizer")
    write_pair(tmp_path / ".cache" / "nanochat" / "base_checkpoints" / "d4")
    assert "-i base" in refusal(located, monkeypatch, tmp_path)  # somebody's own: never silently replaced
    write_pair(tmp_path / ".cache" / "nanochat" / "chatsft_checkpoints" / "d4")
    assert located(monkeypatch, tmp_path)[1] is False


def test_where_the_demo_model_was_not_copied_along_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(chat_web, "__file__", str(tmp_path / "chat_web.py"))
    sentence = refusal(located, monkeypatch, tmp_path)
    assert "demo" in sentence and "-g" in sentence and "NANOCHAT_BASE_DIR" in sentence


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
        weights = dict(self.weights)
        return engine.Engine(engine.GPT(self.config, weights), self.tokenizer)

    monkeypatch.setattr(checkpoint.Checkpoint, "engine", engine_of)
    monkeypatch.setattr(chat_web, "pick_devices", lambda *_: [torch.device("cuda", 0), torch.device("cuda", 1)])
    app = chat_web.ChatServer(chat_web.parse_args(["-n", "2"]), None)
    chat_web.load(chat_web.parse_args(["-n", "2"]), app)
    assert [(worker.gpu_id, worker.device) for worker in app.pool.workers] == [(0, "cuda:0"), (1, "cuda:1")]


MEASURED_LOAD = """
import pathlib, re, sys, torch, checkpoint
def kilobytes(name): return int(re.search(name + r":\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
found = checkpoint.find(checkpoint.base_dir(), "sft")
before = kilobytes("VmRSS")
engine = checkpoint.read(found, getattr(torch, sys.argv[1])).engine(torch.device("cpu"))
print((kilobytes("VmHWM") - before) * 1024 / found.model.stat().st_size)
"""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loading_takes_no_more_memory_than_the_file_and_a_little(base, dtype):
    write_pair(base / "chatsft_checkpoints" / "d4", 1, random_weights("R2", channels=1536))  # half a gigabyte
    done = subprocess.run([sys.executable, "-c", MEASURED_LOAD, dtype], cwd=HERE, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1.3


@pytest.mark.parametrize("chosen, used", [(None, "1"), ("0", "0")])
def test_torch_is_asked_for_huge_pages_unless_the_operator_says_otherwise(chosen, used):
    code = "import os, chat_web; chat_web.import_torch(); print(os.environ['THP_MEM_ALLOC_ENABLE'])"
    env = {name: value for name, value in (os.environ | {"THP_MEM_ALLOC_ENABLE": chosen}).items() if value is not None}
    assert subprocess.check_output([sys.executable, "-c", code], cwd=HERE, env=env, text=True).strip() == used


def test_a_bad_host_ends_in_one_sentence():
    assert "256.0.0.1" in refusal(chat_web.listen, "256.0.0.1", 0)


@contextlib.contextmanager
def started(*command, cwd=HERE, **env):
    """The server as a user starts it, on a free port; yields the process, the port and what it printed so far.

    More words are environment variables, None for one that is not to be there.
    """
    argv = [sys.executable, *map(str, command), "--host", "127.0.0.1", "-p", "0", "--device-type", "cpu"]
    env = {name: value for name, value in (os.environ | env).items() if value is not None}
    process = subprocess.Popen(argv, cwd=cwd, env=env, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    try:
        lines = []
        while not lines or not lines[-1].startswith("Server ready at http://localhost:"):
            lines.append(process.stdout.readline().rstrip("\n"))
            assert lines[-1] or process.poll() is None, process.stderr.read()
        yield process, int(lines[-1].rpartition(":")[2]), lines
    finally:
        process.kill()
        process.communicate()


def ask(port, json_body) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/chat/completions", json.dumps(json_body))
    return connection.getresponse().read()


def test_it_starts_says_what_it_loads_and_answers_as_its_engine_does(base, tmp_path):
    write_pair(base / "chatsft_checkpoints" / "d4")
    with started(HERE / "chat_web.py", "-d", "float32", cwd=tmp_path) as (process, port, lines):
        said = "\n".join(lines)
        for word in ("d4, sft, step 1", "model_000001.pt", "M parameters", "float32", "cpu", " s", "MB"):
            assert word in said
        writer = checkpoint.read(find("sft"), FLOAT32).engine(torch.device("cpu"))
        prompt = TOKENIZER.render(body("Hello")["messages"])
        want = "".join(TOKENIZER.deltas(writer.generate(prompt, 30)))
        assert text_of(ask(port, body("Hello", temperature=0, max_tokens=30))) == want
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0 and "Traceback" not in process.stderr.read()


def test_a_cpu_without_bfloat16_answers_all_the_same(base, tmp_path):
    write_pair(base / "chatsft_checkpoints" / "d4")
    for dtype in ("bfloat16", "float32"):
        with started(HERE / "chat_web.py", "-d", dtype, cwd=tmp_path, ONEDNN_MAX_CPU_ISA="AVX2") as (_, port, lines):
            assert re.search(r"decoding: (cut|plain) matrices\b", "\n".join(lines))
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
import os, signal, threading, warnings, torch
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


def test_the_calculator_answers_in_a_server_thread(monkeypatch):
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


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The server as a newcomer starts it, who has no model: the port, and what was printed."""
    home = tmp_path_factory.mktemp("home")
    with started(HERE / "chat_web.py", cwd=home, HOME=str(home), NANOCHAT_BASE_DIR=None) as (_, port, lines):
        yield port, lines


def talks(port, *questions) -> list[str]:
    """The replies of one conversation, greedy."""
    conversation = []
    for question in questions:
        conversation.append({"role": "user", "content": question})
        raw = ask(port, {"messages": conversation, "temperature": 0})
        assert events(raw)[-1] == {"done": True}
        conversation.append({"role": "assistant", "content": text_of(raw)})
    return [message["content"] for message in conversation[1::2]]


def test_a_newcomer_without_a_model_gets_the_demo_and_is_told(demo):
    _, lines = demo
    assert any("demo model" in line and "-g" in line and "NANOCHAT_BASE_DIR" in line for line in lines)


def test_the_demo_model_calculates_with_its_tool_and_goes_on_from_it(demo):
    port, _ = demo
    product, threefold = talks(port, "What is 12*34?", "and times 3?")
    assert "<|python_start|>12*34<|python_end|><|output_start|>408<|output_end|>" in product
    assert "<|output_start|>1224<|output_end|>" in threefold and "1224" in threefold.rpartition("<|output_end|>")[2]


def test_the_demo_model_remembers_what_it_was_told(demo):
    port, _ = demo
    assert "Anna" in talks(port, "My name is Anna.", "What is 7+8?", "What is my name?")[-1]


def demo_script():
    """The script that made the demo model, as a module."""
    sys.path.append(str(HERE / "demo"))
    try:
        return importlib.import_module("train")
    finally:
        sys.path.remove(str(HERE / "demo"))


@pytest.fixture(scope="module")
def train():
    return demo_script()


def test_the_demo_is_trained_through_the_formulas_that_the_server_has(train):
    weights = train.as_read(train.new_weights(torch.Generator().manual_seed(1)))
    with torch.no_grad():
        for w in weights.values():
            w += 0.02 * torch.randn(w.shape, generator=torch.Generator().manual_seed(2))  # none is zero
    ids = torch.randint(train.VOCAB, (2, 256), generator=torch.Generator().manual_seed(3))
    model = engine.GPT(train.CONFIG, dict(weights))
    warm = torch.nn.functional.cross_entropy(model.logits(model.hidden(ids)).flatten(0, 1) / 1.4, ids.roll(-1, 1).flatten())
    assert abs(warm - train.loss_of(model, ids, ids.roll(-1, 1), temperature=1.4)) < 1e-4

    def of(model) -> tuple:
        loss = train.loss_of(model, ids, ids.roll(-1, 1))
        return loss.item(), torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(weights.values()))])

    want_loss, want = of(model)
    for products, off in ((FLOAT32, 1e-4), (torch.bfloat16, 0.1)):
        loss, grad = of(train.Trained(weights, products))
        assert abs(loss - want_loss) < off / 10 and (grad - want).norm() < off * want.norm()


def test_the_same_seed_trains_the_same_demo(train):
    def weights(seed):
        weights, (_, tokenizer) = train.new_weights(torch.Generator().manual_seed(seed)), train.load(HERE / "demo")
        with ThreadPoolExecutor(2) as pool:
            list(train.descend(weights, train.Phase(2, train.SKILLS, 1.0, 1), random.Random(seed), tokenizer, pool, FLOAT32))
        return torch.cat([w.flatten() for w in weights.values()])

    first, again, other = weights(1), weights(1), weights(2)
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("half, chosen", [(0.4, torch.bfloat16), (0.9, FLOAT32), (3.0, FLOAT32)])
def test_the_demo_is_trained_in_bfloat16_only_where_that_is_faster(train, monkeypatch, half, chosen):
    spent = {FLOAT32: 1.0, torch.bfloat16: half}
    monkeypatch.setattr(train, "shortest", lambda ways, times: {way: spent[way] for way in ways})
    assert train.fast_products() is chosen


@pytest.mark.parametrize("sum, words", [("1/100000", "1e-05."), ("1/3", "0.3333…"), ("6/3", "2."), ("2-9", "-7.")])
def test_the_demo_goes_on_from_any_result(train, sum, words):
    for seed in range(20):
        rng, chat = random.Random(seed), train.Chat()
        assert train.sum_turn(rng, chat, "arithmetic", sum, sum).reply.endswith(" " + words)
        further = train.go_on(rng, chat, "train").reply
        assert engine.calculate(re.search(r"<\|python_start\|>(.*)<\|python_end\|>", further)[1])


def test_the_demo_is_judged_by_what_it_answers(train):
    right, failures, _ = train.judge(HERE / "demo", 4, train.EVALUATED.index(train.arithmetic))
    asked, greedy, default = (right["arithmetic", column] for column in ("asked", "greedy", "default"))
    assert asked == 4 and greedy >= 3 and len(failures) == 8 - greedy - default
    assert not train.is_right(train.Turn("arithmetic", "1+1", "2", ["2"]), None)
    assert not train.is_right(train.Turn("arithmetic", "1+1", "2", ["2"]), "3")


def test_in_the_browser_the_demo_model_says_what_it_is_and_answers(demo, context):
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{demo[0]}/")
    expect(page.locator("body")).to_contain_text("demo model")
    say(page, "What is 12*34?")
    expect(last(page).locator(".body")).to_contain_text("408")
    finished(page)
    assert "<|python_start|>" not in last(page).inner_text()


def test_the_benchmark_ends_in_one_json_document(base):
    write_pair(base / "chatsft_checkpoints" / "d4", meta=change(sequence_len=256))
    done = run(HERE / "engine.py", "-d", "float32", "--device-type", "cpu")
    report = json.loads(done.stdout.splitlines()[-1])
    layers = sum(tensor.numel() for name, tensor in random_weights("R2").items() if ".h." in name)
    rows = 4 * 128  # keys in reach after 128 tokens: the short window has as many
    assert report["step_bytes"] == 4 * (layers + V * 48 + 24 + 2 * 4 + 2) + 4 * 2 * rows * 24
    assert len(report["turns"]) == 10 and next(iter(report["decode"].values()))["share"] > 0 and report["prefill"]["64"] > 0


def test_a_server_out_of_file_descriptors_recovers(base):
    write_pair(base / "chatsft_checkpoints" / "d4")
    poor = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60)); import chat_web; chat_web.main()"
    with started("-c", poor) as (process, port, _):
        idle = [connect(port) for _ in range(150)]
        until(lambda: footprint(process.pid)["descriptors"] >= 60)
        for sock in idle:
            sock.close()
        assert json.loads(fetch(port, "/health"))["ready"]
        assert events(ask(port, body("Hello", max_tokens=3)))[-1] == {"done": True}
        process.send_signal(signal.SIGTERM)
        assert "Traceback" not in process.communicate(timeout=30)[1]


def test_idle_connections_of_one_address_leave_others_an_answer():
    app = make_app(ScriptedEngine("ok", END))
    with serving(app) as port, contextlib.ExitStack() as stack:
        before = threading.active_count()
        for _ in range(400):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), 20))
            sock.setblocking(False)
        with socket.create_connection(("127.0.0.1", port), 20, ("127.0.0.2", 0)) as neighbour:
            neighbour.sendall(request_bytes(body()))
            assert b'"done"' in read_all(neighbour)  # and all before it have been let in or sent away
        assert threading.active_count() <= before + chat_web.MAX_CONNECTIONS // 2 + 1  # the neighbour's may be ending


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
    with serving(app) as port, connect(port) as sock:
        sock.sendall(request_bytes(body()))
        read_until(sock, b'"token"')
        app.close(0.1)
        assert b'{"error": "the server is shutting down; try again in a few seconds"}' in read_all(sock)
        assert app.pool.available == 1
        assert post(app, body()).status_code == 503


# ------------------------------------------------------------------------------------------------------------
# Soak: honest and hostile clients together, for a while


def attack_slowly(sock, rng):
    for byte in request_bytes(body())[: rng.randrange(60)]:
        sock.sendall(bytes([byte]))
        time.sleep(0.05)


def attack_and_leave(sock, rng):
    sock.sendall(request_bytes(body("Tell me a long story.", max_tokens=4096)))
    sock.recv(rng.randrange(1, 400))


def attack_by_waiting(sock, rng):
    time.sleep(rng.random() * 3)


def attack_with(*choices):
    def attack(sock, rng):
        sock.sendall(rng.choice(choices))
        sock.settimeout(3)
        sock.recv(rng.randrange(1, 4096))

    return attack


ATTACKS = [
    attack_slowly, attack_and_leave, attack_and_leave, attack_by_waiting,
    attack_with(b"\x16\x03\x01\x02\0", b"GET http://[ HTTP/1.1\r\n\r\n", b"A" * 70_000, b"\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n" * 50),
    attack_with(b"POST /chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
                b"POST /chat/completions HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
                b"POST /chat/completions HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{", b"HEAD /chat/completions HTTP/1.1\r\n\r\n"),
    attack_with(request_bytes({"messages": "x" * 900_000}), request_bytes(body("\x1b[31m\u2028")), request_bytes(body(top_k=-5)) + b"more",
                b"POST /chat/completions HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + b"[" * 100_000),
]  # fmt: skip


def footprint(pid: int) -> dict:
    """What a process holds, on Linux."""
    status = Path(f"/proc/{pid}/status").read_text()
    return {"threads": int(re.search(r"Threads:\s+(\d+)", status)[1]), "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
            "MB": int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024}  # fmt: skip


def soak(port: int, pid: int, seconds: float, questions: list[dict], honest=3, hostile=6) -> dict:
    """Asks and attacks for some seconds; asserts that nothing was lost, and returns what was counted."""
    alone = [ask(port, question) for question in questions]
    assert all(events(reply)[-1] == {"done": True} for reply in alone)
    before, end = footprint(pid), time.monotonic() + seconds
    counts, waits, wrong = Counter(), [], []

    def honest_client(number):
        rng = random.Random(number)
        while time.monotonic() < end:
            chosen = rng.randrange(len(questions))
            began = time.monotonic()
            reply = ask(port, questions[chosen])
            waits.append(time.monotonic() - began)
            counts["honest replies"] += 1
            if reply != alone[chosen]:
                wrong.append((questions[chosen], reply))

    def hostile_client(number):
        rng = random.Random(-number)
        while time.monotonic() < end:
            attack = rng.choice(ATTACKS)
            with contextlib.suppress(OSError), connect(port) as sock:
                counts["attacks"] += 1
                attack(sock, rng)
                if rng.random() < 0.5:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    threads = [threading.Thread(target=honest_client, args=(number,)) for number in range(honest)]
    threads += [threading.Thread(target=hostile_client, args=(number,)) for number in range(hostile)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: json.loads(fetch(port, "/health"))["available_workers"] == json.loads(fetch(port, "/stats"))["total_workers"], 60)
    until(lambda: footprint(pid)["threads"] <= before["threads"] + 1, 60)  # the one that answered /health
    until(lambda: footprint(pid)["descriptors"] <= before["descriptors"] + 2, 60)  # the last ones are being closed
    after = footprint(pid)
    assert not wrong, wrong[0]
    assert after["descriptors"] <= before["descriptors"] + 2 and after["MB"] <= before["MB"] + 100
    waits.sort()
    return {**counts, "seconds": seconds, "median wait": round(waits[len(waits) // 2], 3), "before": before, "after": after}


def fetch(port, path) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    return connection.getresponse().read()


def test_honest_clients_lose_nothing_among_hostile_ones(base):
    write_pair(base / "chatsft_checkpoints" / "d4", meta=change(sequence_len=256))
    questions = [body(text, temperature=0, max_tokens=20) for text in ("Hello", "What is this?", "Hello, who are you?")]
    with started(HERE / "chat_web.py", "-d", "float32") as (process, port, _):
        log = []
        reader = threading.Thread(target=lambda: log.extend(process.stderr))  # a full pipe would halt the server
        reader.start()
        counted = soak(port, process.pid, 10, questions)
        assert counted["honest replies"] > 5 and counted["attacks"] > 5
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        reader.join()
        assert "Traceback" not in "".join(log)


# ------------------------------------------------------------------------------------------------------------
# More than one server: deploy/


def debian(program: str) -> str:
    """The path of a program that CI installs and others may not have."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if path is None:
        assert not os.environ.get("CI"), f"CI needs {program}"
        pytest.skip(f"there is no {program} here")
    return path


@contextlib.contextmanager
def behind_nginx(tmp_path, *ports, rate="30r/m"):
    """deploy/nginx.conf with its marked lines adapted, before these ports; yields a TLS connection factory."""
    nginx, openssl = debian("nginx"), debian("openssl")
    run_quietly(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2",
                "-keyout", tmp_path / "privkey.pem", "-out", tmp_path / "fullchain.pem")  # fmt: skip
    hashed = subprocess.check_output([openssl, "passwd", "-apr1", "secret"], text=True)
    (tmp_path / "passwords").write_text(f"friend:{hashed}")
    port = free_port()
    conf = (HERE / "deploy" / "nginx.conf").read_text().replace("/etc/nginx/chat_web", str(tmp_path))
    conf = conf.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl").replace("rate=30r/m", f"rate={rate}")
    servers = "".join(f"    server 127.0.0.1:{number} max_fails=1 fail_timeout=5s;\n" for number in ports)
    conf, replaced = re.subn(r"(    server 127\.0\.0\.1:800\d max_fails=1 fail_timeout=5s;\n)+", servers, conf)
    assert replaced == 1
    temporary = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (tmp_path / "site.conf").write_text(conf)
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}"
        f"http {{ access_log off; {temporary} include {tmp_path}/site.conf; }}"
    )
    process = subprocess.Popen([nginx, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")], stderr=subprocess.DEVNULL)

    def client():
        context = ssl.create_default_context(cafile=str(tmp_path / "fullchain.pem"))
        context.check_hostname = False
        return http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)

    try:
        until(lambda: accepts(port))
        yield client
    finally:
        process.kill()
        process.wait()


def accepts(port) -> bool:
    with contextlib.suppress(OSError):
        connect(port).close()
        return True
    return False


def run_quietly(*command) -> None:
    subprocess.run([*map(str, command)], check=True, capture_output=True)


FRIEND = {"Authorization": "Basic " + base64.b64encode(b"friend:secret").decode()}


def start_chat(client, path="/chat/completions", **fields):
    """A reply that has begun."""
    connection = client()
    connection.request("POST", path, json.dumps(body(**fields)), FRIEND)
    return connection.getresponse()


def test_behind_nginx_a_stream_passes_unbuffered_and_a_password_is_asked(tmp_path):
    gate = threading.Event()
    app = make_app(ScriptedEngine("a", lambda: gate.wait(20) and "b", END))
    with serving(app) as port, behind_nginx(tmp_path, port) as client:
        stranger = client()
        stranger.request("GET", "/health")
        assert stranger.getresponse().status == 401
        reply = start_chat(client)
        first = reply.readline()  # it is here while the engine still waits
        assert first == b'data: {"token": "a", "gpu": 0}\n' and not gate.is_set()
        gate.set()
        assert events(first + reply.read())[-1] == {"done": True}


def test_behind_nginx_a_loading_server_gets_no_chat(tmp_path):
    loading = chat_web.ChatServer(chat_web.parse_args([]), chat_web.Page(HERE / "ui.html"))
    ready = make_app(ScriptedEngine("ok", END))
    with serving(loading) as first, serving(ready) as second, behind_nginx(tmp_path, first, second) as client:
        for _ in range(6):
            assert text_of(start_chat(client).read()) == "ok"


def test_behind_nginx_a_server_killed_in_mid_load_costs_only_its_own_streams(base, tmp_path):
    write_pair(base / "chatsft_checkpoints" / "d4", meta=change(sequence_len=2048))
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(started(HERE / "chat_web.py")) for _ in range(2)]
        client = stack.enter_context(behind_nginx(tmp_path, *[port for _, port, _ in servers]))
        replies = [start_chat(client, max_tokens=1500) for _ in range(2)]  # least_conn: one on each
        begun = [reply.readline() for reply in replies]
        servers[0][0].kill()
        endings = []
        for first, reply in zip(begun, replies, strict=True):
            try:
                endings.append(events(first + reply.read())[-1])
            except http.client.IncompleteRead:  # a cut stream is known as such
                endings.append("cut")
        assert endings in (["cut", {"done": True}], [{"done": True}, "cut"])
        for _ in range(5):
            assert events(start_chat(client, max_tokens=3).read())[-1] == {"done": True}


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/chat/completions"])
def test_behind_nginx_one_address_has_its_limits(tmp_path, path):
    app = make_app(*[EndlessEngine() for _ in range(6)], num_gpus=6)
    with serving(app) as port, behind_nginx(tmp_path, port) as client:
        replies = [start_chat(client, path, stream=True) for _ in range(6)]
        assert [reply.status for reply in replies] == [200] * 4 + [429] * 2
        app.close(0)


def test_the_systemd_unit_is_valid(tmp_path):
    analyze = debian("systemd-analyze")
    unit = (HERE / "deploy" / "chat_web.service").read_text().replace("/opt/chat_web/.venv/bin/python", sys.executable)
    (tmp_path / "chat_web.service").write_text(unit.replace("User=chat", "User=root"))
    done = subprocess.run([analyze, "verify", str(tmp_path / "chat_web.service")], capture_output=True, text=True)
    assert done.returncode == 0 and "chat_web" not in done.stderr


# ------------------------------------------------------------------------------------------------------------
# The documents


def test_the_documents_name_only_tests_that_exist():
    named = {name for file in HERE.rglob("*.md") if ".venv" not in file.parts for name in re.findall(r"`(test_\w+\*?)`", file.read_text())}
    source = Path(__file__).read_text()
    assert len(named) > 15 and all(f"def {name.rstrip('*')}" in source for name in named)


def test_the_readme_names_every_flag_endpoint_and_limit():
    readme = (HERE / "README.md").read_text()
    for flag, (short, default) in SEED_FLAGS.items():
        assert f"`{flag}`" in readme and (not short or f"`{short}`" in readme) and (default is None or f"`{default}`" in readme)
    for path in ("GET /", "POST /chat/completions", "GET /health", "GET /stats", "POST /v1/chat/completions", "GET /v1/models"):
        assert f"`{path}`" in readme
    c, names = chat_web, ("temperature", "top-k", "max tokens")
    for row in (
        f"messages | {c.MAX_MESSAGES} | 400", f"characters of a message | {c.MAX_MESSAGE_LENGTH:,} | 400",
        f"characters of a conversation | {c.MAX_CONVERSATION_LENGTH:,} | 400", f"body | {c.MAX_BODY >> 20} MiB | 413",
        *(f"{name} | {low:g} to {high:,g} | clamped" for name, (_, low, high) in zip(names, c.SAMPLING.values(), strict=True)),
        f"request line and headers | {c.MAX_HEAD >> 10} KiB | 431",
        f"requests waiting for a worker | {c.MAX_WAITING}, each for {c.WAIT_SECONDS} s", f"connections | {c.MAX_CONNECTIONS}, half",
        f"time for a request to arrive | {c.REQUEST_SECONDS} s", f"time for a reply to wait for its reader | {c.SEND_SECONDS} s in all",
    ):  # fmt: skip
        assert f"| {row}" in readme


# ------------------------------------------------------------------------------------------------------------
# python test_chat_web.py


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def measure_load(clients: int, workers=4, tokens=50, seconds=20.0) -> str:
    """Clients that ask again and again, over workers that take 10 ms per token, as a GPU would: a table's row."""
    app = make_app(*[ScriptedEngine(*[lambda: time.sleep(0.01) or "x"] * tokens, END) for _ in range(workers)], num_gpus=workers)
    first, refused, end = [], [], time.monotonic() + seconds

    def client(port):
        while time.monotonic() < end:
            began = time.monotonic()
            with connect(port) as sock:
                sock.settimeout(120)
                sock.sendall(request_bytes(body()))
                head = sock.recv(65536)
                if b" 503 " in head[:20]:
                    refused.append(1)
                    time.sleep(1)  # politer clients wait the five seconds of Retry-After
                    continue
                seen = head
                while b'"token"' not in seen:
                    seen += sock.recv(65536)
                first.append(time.monotonic() - began)
                assert b'"done"' in seen + read_all(sock)

    with serving(app) as port:
        threads = [threading.Thread(target=client, args=(port,)) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    spent = time.monotonic() - end + seconds
    return (f"| {clients} | {60 * len(first) / spent:.0f} | {1000 * percentile(first, 0.5):.0f} | "
            f"{1000 * percentile(first, 0.99):.0f} | {len(refused)} |")  # fmt: skip


def measure_page() -> None:
    """Prints the browser's time per token of a 4,000-token reply, in a new conversation and in one of 200 messages."""
    chromium, server = debian("chromium"), Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for messages in (0, 200) * 3:
            script = server.script = Script()
            script.url = f"http://127.0.0.1:{server.server_port}/"
            context = browser.new_context(viewport={"width": 1280, "height": 800})
            page = open_page(context, script)
            filled(page, messages, "`Message **${i}**\\n\\n- a\\n- b\\n\\n` + 'Some more words. '.repeat(8)")
            session = context.new_cdp_session(page)
            session.send("Performance.enable")
            before = {item["name"]: item["value"] for item in session.send("Performance.getMetrics")["metrics"]}
            script.answer(*[step for i in range(0, 4000, 4) for step in (b"".join(map(encode, LONG_REPLY[i : i + 4])), 0.004)])
            say(page, "Go")
            while page.evaluate("busy()"):
                page.wait_for_timeout(250)
            after = {item["name"]: item["value"] for item in session.send("Performance.getMetrics")["metrics"]}
            spent = {name: round((after[name] - before[name]) * 1e6 / 4000) for name in ("ScriptDuration", "LayoutDuration")}
            print(f"after {messages} messages, microseconds per token: {spent}", flush=True)
            context.close()


class PlainCache(engine.KVCache):
    """It has the dtype of the computation, and every query torch's own attention."""

    def __init__(self, config, device, dtype):
        super().__init__(config, device, dtype)
        self.keys, self.values = self.keys.to(dtype), self.values.to(dtype)

    def reach(self, T, last, window):
        return engine.reach(last, self.length + T, window, self.keys.device)


class PlainGPT(engine.GPT):
    """The same formulas as a program has them that nobody made fast: nanochat's way.

    Each of q, k, v has a matrix and a product of its own, and matrices are float32 and cast whenever they are used.
    Embedding tables are held in the dtype of the computation.
    """

    def __init__(self, config, weights, dtype):
        tables = ("transformer.wte.", "value_embeds.")
        self.config, self.dtype, self.device = config, dtype, torch.device("cpu")
        self.weights = {key: w.to(dtype) if key.startswith(tables) or "gate" in key else w for key, w in weights.items()}
        self.cos, self.sin = engine.rotary_tables(config, self.device, dtype)
        self.scales = list(zip(weights["resid_lambdas"], weights["x0_lambdas"], strict=True))

    def product(self, x, name):
        return torch.nn.functional.linear(x, self.weights[name].to(x.dtype))

    def attention(self, i, a, ids, rotary, n, span, cache):
        c, layer = self.config, f"transformer.h.{i}.attn."
        q, k, v = (self.product(a, f"{layer}c_{part}.weight").unflatten(-1, (-1, c.head_dim)) for part in "qkv")
        if f"value_embeds.{i}.weight" in self.weights:
            v = v + self.value_gain(i, a) * torch.nn.functional.embedding(ids, self.weights[f"value_embeds.{i}.weight"]).view_as(v)
        q, k = ((engine.norm(engine.rotate(x, *rotary)) * c.qk_scale).transpose(1, 2) for x in (q, k))
        oldest, mask = span
        k, v = cache.append(i, k, v.transpose(1, 2), oldest)
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, **mask)
        return self.product(y.transpose(1, 2).flatten(-2), layer + "c_proj.weight")

    def mlp(self, i, a):
        layer = f"transformer.h.{i}.mlp."
        return self.product(self.product(a, layer + "c_fc.weight").relu().square(), layer + "c_proj.weight")

    def logits(self, x):
        z = self.product(x, "lm_head.weight").float()
        return self.config.softcap * torch.tanh(z / self.config.softcap)

    @torch.inference_mode()
    def generate(self, prompt, max_tokens):
        cache = PlainCache(self.config, self.device, self.dtype)
        rng = torch.Generator().manual_seed(1)
        ids = torch.tensor([prompt])
        for _ in range(max_tokens):
            logits = self.logits(self.hidden(ids, cache))[0, -1]  # of all positions
            likeliest, tokens = logits.topk(50)
            token = int(tokens[torch.multinomial(torch.softmax(likeliest / 0.8, dim=-1), 1, generator=rng)])
            yield token
            ids = torch.tensor([[token]])


class TrainedGPT(engine.GPT):
    """Of its MLPs' activations one in ten is not zero, as in trained models; of random ones it is every second."""

    def mlp(self, i, a):
        layer, spread = f"transformer.h.{i}.mlp.", 0.02 * self.config.n_embd**0.5
        wide = (self.product(a, layer + "c_fc") - 1.28 * spread).relu_().square()
        return self.product(wide, layer + "c_proj", sparse=True)


def measure_speed(depth: int, rounds=7, tokens=24) -> None:
    """Prints ratios: each round runs all programs one after the other, so that a busy machine slows them all."""
    chat_web.import_torch()
    torch.set_num_threads(THREADS)
    torch.manual_seed(1)
    config, plain_weights = engine.random_weights(depth, torch.device("cpu"), FLOAT32, checkpoint)
    programs = {}
    for dtype in (FLOAT32, torch.bfloat16):
        copies = {key: w.to(dtype if w.dim() > 1 else FLOAT32, copy=True) for key, w in plain_weights.items()}
        model = engine.GPT(config, copies)
        programs[f"this engine, {dtype}"] = engine.Engine(model, NoTools, drafts=False)
        trained = copy.copy(model)
        trained.__class__ = TrainedGPT
        programs[f"this engine, nine zeros in ten, {dtype}"] = engine.Engine(trained, NoTools, drafts=False)
        programs[f"plain, {dtype}"] = PlainGPT(config, plain_weights, dtype)
    writing, reading = {name: [] for name in programs}, {name: [] for name in programs}
    bandwidths, rng = {name: [] for name in programs}, random.Random(1)
    for _ in range(rounds + 1):
        for name, program in programs.items():
            bandwidths[name].append(engine.bandwidth(torch.device("cpu")))  # of a shared memory it changes by the second
            settings = {"temperature": 0.8, "top_k": 50} if name.startswith("this") else {}
            for length, spent, count in ((256, writing, tokens), (1024, reading, 0)):
                reply = program.generate([rng.randrange(config.vocab_size) for _ in range(length)], count + 1, **settings)
                began = time.perf_counter()
                next(reply)
                if count:
                    began = time.perf_counter()
                    assert len(list(reply)) == count
                spent[name].append((count or length) / (time.perf_counter() - began))
    spread = sorted(reached / 1e9 for measured in bandwidths.values() for reached in measured[1:])
    print(f"d{depth}, {THREADS} threads, medians of {rounds}; memory reads {spread[0]:.0f} to {spread[-1]:.0f} GB/s, "
          f"mostly {statistics.median(spread):.0f}")
    print("| | written, tokens/s | against plain float32 | share of the bandwidth | 1,024 read, tokens/s | against plain float32 |")
    print("| --- | --- | --- | --- | --- | --- |")
    base = [statistics.median(speeds["plain, torch.float32"][1:]) for speeds in (writing, reading)]
    for name, program in programs.items():
        wrote, read = (statistics.median(speeds[name][1:]) for speeds in (writing, reading))
        share = ""
        if name.startswith("this"):
            read_per_token = engine.step_bytes(program, 256 + tokens // 2)
            shares = [read_per_token * speed / reached for speed, reached in zip(writing[name], bandwidths[name], strict=True)]
            share = f"{statistics.median(shares[1:]):.0%}"
        print(f"| {name} | {wrote:.1f} | {wrote / base[0]:.2f} | {share} | {read:.0f} | {read / base[1]:.2f} |")


def measure_drafts(depth: int, texts=8, tokens=128) -> None:
    """Prints what drafts save, where a model of some depth says what is in recorded texts, token for token.

    With and without drafts turns are taken every 16 tokens, so that a busy machine slows both; the error is that of a
    mean over the texts.
    """
    train = demo_script()
    chat_web.import_torch()
    torch.set_num_threads(THREADS)
    torch.manual_seed(1)
    demo, tokenizer = train.load(HERE / "demo")
    code, prose = (tokenizer.encode((HERE / name).read_text()) for name in ("chat_web.py", "README.md"))
    cut = [range(start, start + 300) for start in range(0, min(len(code), len(prose)) - 500, 500)][:texts]
    kinds = {"prose": [([prose[i] for i in part], prose[part.stop : part.stop + tokens]) for part in cut],
             "code": [([code[i] for i in part], code[part.stop : part.stop + tokens]) for part in cut],
             "quoting": [([prose[i] for i in part], prose[part.start + 50 : part.start + 50 + tokens]) for part in cut],
             "demo conversations": []}  # fmt: skip
    rng = random.Random(1)
    for seed in range(texts):
        prompt = [tokenizer.special["<|bos|>"]]
        for turn in train.conversation(rng, 6):
            prompt += train.render_question(tokenizer, turn.question)
            reply = list(demo.generate(prompt, tokens, 0.8, 50, seed))
            if len(reply) > 8:
                kinds["demo conversations"].append((list(prompt), reply))
            prompt += reply
    print(f"d{depth} | " + " | ".join(kinds) + " |\n" + "| --- " * (len(kinds) + 1) + "|")
    for dtype in (FLOAT32, torch.bfloat16):
        model = engine.GPT(*engine.random_weights(depth, torch.device("cpu"), dtype, checkpoint))
        row = []
        for pairs in kinds.values():
            spent = [seconds_with_and_without_drafts(model, *pair) for pair in pairs]
            plain, drafted = map(sum, zip(*spent, strict=True))
            off = [(slow - plain / drafted * fast) / (drafted / len(spent)) for slow, fast in spent]
            row.append(f"{plain / drafted:.2f} ± {statistics.stdev(off) / len(off) ** 0.5:.2f}")
        print(f"| {dtype} | " + " | ".join(row) + " |", flush=True)


def seconds_with_and_without_drafts(model, prompt: list[int], reply: list[int], turn=16) -> list[float]:
    """What it takes to write a reply that is given, once it has begun: without drafts, and with them."""
    spent, scripts = [0.0, 0.0], [iter(reply), iter(reply)]
    writers = [engine.Engine(model, NoTools, drafts=drafts).generate(prompt, len(reply)) for drafts in (False, True)]
    for start in range(0, len(reply), turn):
        for number, writer in enumerate(writers):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(engine, "sample", lambda *_, **__: next(scripts[number]))  # noqa: B023
                written = [] if start else [next(writer)]
                began = time.perf_counter()
                written += itertools.islice(writer, turn - len(written))
                spent[number] += time.perf_counter() - began
            assert written == reply[start : start + turn]
    return spent


FASTAPI_SHAPE = """
import json, sys, uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
app = FastAPI()
async def stream(count):
    for _ in range(count):
        yield f"data: {json.dumps({'token': 'word ', 'gpu': 0}, ensure_ascii=False)}\\n\\n"
    yield f"data: {json.dumps({'done': True})}\\n\\n"
@app.post("/chat/completions")
async def chat(body: dict):
    return StreamingResponse(stream(int(sys.argv[2])), media_type="text/event-stream")
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", http=sys.argv[3])
"""
OUR_SHAPE = """
import sys, time, chat_web
from test_chat_web import ScriptedEngine, make_app
tokens, pause = int(sys.argv[2]), float(sys.argv[3])
class Fast(ScriptedEngine):
    def generate(self, *args, **kwargs):
        for _ in range(tokens):
            if pause:
                time.sleep(pause)
            yield 119
        yield 260
app = make_app(*[Fast() for _ in range(8)], num_gpus=8)
chat_web.Server(chat_web.listen("127.0.0.1", int(sys.argv[1])), app).serve_forever()
"""


def tokens_per_second(port: int, streams: int, tokens: int) -> float:
    """Of so many replies at once, each of so many tokens."""
    question = request_bytes(body(max_tokens=4096), head="Content-Type: application/json\r\nConnection: close\r\n")

    def client(_):
        with connect(port) as sock:
            sock.settimeout(120)
            sock.sendall(question)
            tail = b""
            while data := sock.recv(1 << 20):
                tail = (tail + data)[-200:]
            assert b'"done"' in tail, tail

    began = time.perf_counter()
    with ThreadPoolExecutor(streams) as threads:
        list(threads.map(client, range(streams)))
    return streams * tokens / (time.perf_counter() - began)


@contextlib.contextmanager
def shaped(code: str, *argv):
    """A server of this code in a process of its own, as it is for its clients: the process and its port."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", code, str(port), *map(str, argv)], cwd=HERE)
    try:
        while process.poll() is None:
            with contextlib.suppress(OSError), connect(port):
                break
            time.sleep(0.1)
        yield process, port
    finally:
        process.kill()
        process.wait()


def measure_server(tokens=20_000, rounds=5) -> None:
    """Prints what a token costs this server and the shape of nanochat's last one, with engines that cost nothing."""
    print("| server | tokens/s, 1 reply | tokens/s, 8 replies | CPU us/token |")
    print("| --- | --- | --- | --- |")
    for name, code, more in (("this one", OUR_SHAPE, 0), ("FastAPI, uvicorn, h11", FASTAPI_SHAPE, "h11"),
                             ("FastAPI, uvicorn, httptools", FASTAPI_SHAPE, "httptools")):  # fmt: skip
        with shaped(code, tokens, more) as (process, port):
            tokens_per_second(port, 1, tokens)
            ticks = lambda: sum(map(int, Path(f"/proc/{process.pid}/stat").read_text().split()[13:15]))  # noqa: B023, E731
            before = ticks()
            one, eight = ([tokens_per_second(port, streams, tokens) for _ in range(rounds)] for streams in (1, 8))
            spent = (ticks() - before) / os.sysconf("SC_CLK_TCK") / (9 * rounds * tokens)
            print(f"| {name} | {statistics.median(one):.0f} | {statistics.median(eight):.0f} | {1e6 * spent:.1f} |", flush=True)
    with shaped(OUR_SHAPE, 2000, 0.001) as (_, port):
        speeds = {workers: [] for workers in (1, 2, 4, 8)}
        for _, workers in itertools.product(range(rounds), speeds):
            speeds[workers].append(tokens_per_second(port, workers, 2000))
    for workers, measured in speeds.items():
        share = statistics.median(measured) / statistics.median(speeds[1]) / workers
        print(f"{workers} workers that sleep 1 ms for each token: {statistics.median(measured):.0f} tokens/s, "
              f"{share:.3f} of {workers} times one's")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--soak", type=float, metavar="MINUTES")
    parser.add_argument("--load", action="store_true")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--server", action="store_true")
    parser.add_argument("--speed", type=int, metavar="DEPTH")
    parser.add_argument("--drafts", type=int, metavar="DEPTH")
    args = parser.parse_args()
    if args.speed:
        measure_speed(args.speed)
    if args.drafts:
        measure_drafts(args.drafts)
    if args.server:
        measure_server()
    if args.page:
        measure_page()
    if args.load:
        print("| clients, for 4 workers | replies/min | time to first token p50, ms | p99 | refused with 503 |")
        print("| --- | --- | --- | --- | --- |")
        for clients in (1, 4, 40, 200):
            print(measure_load(clients), flush=True)
    if args.soak:
        questions = ("What is 12*34?", "Hello!", "How many r are in strawberry?", "Who are you?", "What is the capital of France?")
        asked = [body(text, temperature=0, max_tokens=60) for text in questions]
        with started(HERE / "chat_web.py", "-d", "float32", NANOCHAT_BASE_DIR=str(HERE / "demo")) as (process, port, _):
            log = []
            threading.Thread(target=lambda: log.extend(process.stderr), daemon=True).start()
            print(json.dumps(soak(port, process.pid, args.soak * 60, asked)))
            assert not any("Traceback" in line for line in log), "".join(log)


if __name__ == "__main__":
    main()
