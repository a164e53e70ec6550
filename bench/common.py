"""What the benchmarks share: a random model, and the server as a process of its own."""

import contextlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import checkpoint  # first, since it sets what torch reads at its import

import tiktoken
import torch
from torch import Tensor

VOCABULARY = 32768
TABLES = ("transformer.wte.", "value_embeds.", "bigram_embed.")  # a step reads one row of each


class NoTokenizer:
    """No token is special: a reply goes on for as long as it is timed."""

    special, stops, size = dict.fromkeys(checkpoint.SPECIALS, -1), frozenset(), VOCABULARY


def random_weights(depth: int, device: str = "cpu") -> dict[str, Tensor]:
    """The newest shape at nanochat's sizes for a depth, in the dtypes that nanochat stores."""
    era, C = checkpoint.ERAS[0], channels(depth)
    sizes = {"R": VOCABULARY, "C": C, "F": 4 * C, "L": depth, "N": C, "K": C // 128, "G": era.gate_columns}
    weights = {}
    for name, shape in checkpoint.expected_shapes(era, sizes).items():
        dtype = torch.bfloat16 if name.startswith(TABLES) else torch.float32
        weights[name] = torch.randn(shape, device=device, dtype=dtype) * 0.02
    return weights


def channels(depth: int) -> int:
    return -(-depth * 64 // 128) * 128


def random_meta(depth: int) -> dict:
    sizes = {"sequence_len": 2048, "vocab_size": VOCABULARY, "n_head": channels(depth) // 128}
    return {"model_config": sizes | {"window_pattern": "SSSL"}}


def random_checkpoint(depth: int, dtype: torch.dtype, device: str = "cpu") -> checkpoint.Checkpoint:
    """A random model as `checkpoint.read` gives one, without a file."""
    adapted = checkpoint.adapt(random_weights(depth, device), random_meta(depth), {}, dtype)
    era, config, weights, notes = adapted
    return checkpoint.Checkpoint(f"random d{depth}", era, config, weights, NoTokenizer, 0, tuple(notes))


def write_checkpoint(folder: Path, depth: int) -> None:
    """A random model's files, as nanochat leaves them."""
    torch.save(random_weights(depth), folder / "model_000001.pt")
    (folder / "meta_000001.json").write_text(json.dumps(random_meta(depth)))
    tokens = [bytes([byte]) for byte in range(256)]
    pairs = VOCABULARY - len(tokens) - len(checkpoint.SPECIALS)
    tokens += [number.to_bytes(2, "big") for number in range(pairs)]
    special = {name: len(tokens) + number for number, name in enumerate(checkpoint.SPECIALS)}
    ranks = {token: rank for rank, token in enumerate(tokens)}
    encoding = tiktoken.Encoding("random", pat_str=r"\s+|\S+", mergeable_ranks=ranks, special_tokens=special)
    (folder / "tokenizer.pkl").write_bytes(pickle.dumps(encoding, protocol=4))


@contextlib.contextmanager
def started(*flags: str, checkout: Path = ROOT, **variables: str) -> Iterator[tuple]:
    """A checkout's server on a free port, from when it is ready: the process, the port and the log file."""
    command = [sys.executable, "chat_web.py", "--host", "127.0.0.1", "-p", "0", *map(str, flags)]
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(
        command, cwd=checkout, env=os.environ | variables, stdout=subprocess.PIPE, stderr=log, text=True
    ) as process:
        try:
            line = next((line for line in process.stdout if line.startswith("Server ready at ")), None)
            if line is None:
                log.seek(0)
                raise SystemExit(f"the server in {checkout} did not start:\n{log.read()}")
            yield process, int(line.rpartition(":")[2]), log
        finally:
            process.kill()
