"""One side of paired.py: times the checkout in the current directory with the model in a folder.

Each line of its input, "decode" or "prefill", is answered by a line of tokens per second.
"""

import os
import random
import sys
from pathlib import Path

sys.path.insert(0, os.getcwd())

import torch
from timing import tokens_per_second

import chat_web
import checkpoint
import engine


def load(folder: str, dtype: str, device: str):
    """An engine that stops nowhere, without what older checkouts would leave to chance or guess."""
    (getattr(chat_web, "import_torch", None) or checkpoint.prepare_torch)()
    if hasattr(engine, "try_out"):  # times kernels, and takes the slow ones when others are busy
        engine.try_out = lambda matrices: engine.Kernels(cuts=True)
    found = checkpoint.find(Path(folder).parent, "sft", folder)
    writer = checkpoint.read(found, getattr(torch, dtype)).engine(torch.device(device))
    writer.drafts = False  # random weights say nothing of what drafts save
    writer.stops = writer.tokenizer.stops = frozenset()
    return writer


def main() -> None:
    writer, rng = load(*sys.argv[1:]), random.Random(1)
    vocabulary = writer.tokenizer.size - len(writer.tokenizer.special)
    print(writer.mode, flush=True)
    for line in sys.stdin:
        print(tokens_per_second(writer, rng, line.strip(), vocabulary), flush=True)


if __name__ == "__main__":
    main()
