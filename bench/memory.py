"""What loading a checkpoint takes of memory at its peak, beside the size of its file. On Linux."""

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

from common import ROOT, channels, checkpoint, make_tokenizer, torch

LOAD = """
import re, sys, checkpoint
def megabytes(name):
    return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024 / 1e6
found = checkpoint.find(checkpoint.base_dir(), None, sys.argv[1])
before = megabytes("VmRSS")
model = checkpoint.read(found, checkpoint.DTYPES[sys.argv[2]])
print(found.model.stat().st_size / 1e6, before, megabytes("VmHWM"), megabytes("VmRSS"))
"""


def write_float32(folder: Path, depth: int, vocabulary: int = 65536) -> None:
    """Random weights of nanochat's first architecture as a CPU trains them: all are float32."""
    C = channels(depth)
    sizes = {"R": vocabulary, "C": C, "F": 4 * C, "L": depth, "N": C}
    shapes = checkpoint.expected_shapes(checkpoint.ERAS[-1], sizes)
    torch.save({key: torch.rand(shape) for key, shape in shapes.items()}, folder / "model_000001.pt")
    config = {"sequence_len": 2048, "vocab_size": vocabulary, "n_head": C // 128}
    (folder / "meta_000001.json").write_text(json.dumps({"model_config": config}))
    longer = (number.to_bytes(2, "big") for number in range(vocabulary - 256 - len(checkpoint.SPECIALS)))
    (folder / "tokenizer.pkl").write_bytes(pickle.dumps(make_tokenizer(longer).encoding, protocol=4))


def measure(path: Path, dtype: str) -> list[float]:
    """In MB, of a process of its own: the file, the memory before, at the peak of loading, and after it."""
    command = [sys.executable, "-c", LOAD, path, dtype]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return [float(word) for word in subprocess.check_output(command, text=True, env=environment).split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "-g", "--model-tag", help="tag or path of a checkpoint (default: random float32 weights)"
    )
    parser.add_argument("--depth", type=int, default=12)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not args.model_tag:
            write_float32(Path(folder), args.depth)
        print("| dtype | file | before | peak | after | (peak - before) / file |\n" + "| --- " * 6 + "|")
        for dtype in checkpoint.DTYPES:
            size, before, peak, after = measure(args.model_tag or folder, dtype)
            share = (peak - before) / size
            sizes = " | ".join(f"{each:.0f} MB" for each in (size, before, peak, after))
            print(f"| {dtype} | {sizes} | {share:.2f} |")


if __name__ == "__main__":
    main()
