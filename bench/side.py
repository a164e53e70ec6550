"""One side of paired.py: times the checkout in the current directory with the model in a folder.

Each line of its input, "decode" or "prefill", is answered by a line of tokens per second.
"""

import os
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, os.getcwd())

import chat_web

if hasattr(chat_web, "import_torch"):  # older checkouts prepare torch there
    chat_web.import_torch()

import checkpoint
import engine
import torch

WRITTEN, PROMPT, READ = 24, 256, 1024  # tokens


def tokens_per_second(writer, rng: random.Random, what: str) -> float:
    """Of one fresh prompt, or of the reply after its first token."""
    length, count = (PROMPT, WRITTEN) if what == "decode" else (READ, 0)
    prompt = [rng.randrange(32_000) for _ in range(length)]
    reply = writer.generate(prompt, count + 1, temperature=0.8, top_k=50, seed=1)
    began = time.perf_counter()
    next(reply)
    if what == "prefill":
        return length / (time.perf_counter() - began)
    began = time.perf_counter()
    written = len(list(reply))
    assert written == WRITTEN, f"the reply ended after {written} tokens"
    return written / (time.perf_counter() - began)


def load(folder: str, dtype: str, device: str):
    """The engine, without what older checkouts would leave to chance or guess."""
    if hasattr(engine, "try_out"):  # times kernels, and takes the slow ones when others are busy
        engine.try_out = lambda matrices: engine.Kernels(cuts=True)
    found = checkpoint.find(Path(folder).parent, "sft", folder)
    writer = checkpoint.read(found, getattr(torch, dtype)).engine(torch.device(device))
    writer.drafts = False  # of which random weights say nothing
    writer.stops = writer.tokenizer.stops = frozenset()
    return writer


def main() -> None:
    writer = load(*sys.argv[1:])
    print(writer.mode, flush=True)
    rng = random.Random(1)
    for line in sys.stdin:
        print(tokens_per_second(writer, rng, line.strip()), flush=True)


if __name__ == "__main__":
    main()
