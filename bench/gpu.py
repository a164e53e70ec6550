"""What only a GPU can tell, in one go: python bench/gpu.py

For random models of depth 12, 20 and 32: how long they load from files just written, their memory, tokens per
second and share of the bandwidth with CUDA graphs and without, by how much logits of recorded steps differ
from the model's own, and how many of 300 tokens are the same both ways: greedy, drawn from all, from the
likeliest 50 and 300. With -d float32 all must be. d32 needs 10 GB of disk. The last line is JSON.

    python bench/gpu.py --device-type cpu --depths 2 --rounds 1

shows that it runs, on any machine. A CPU's steps are not recorded, and draw otherwise from the likeliest.
"""

import argparse
import gc
import json
import random
import tempfile
import time
from pathlib import Path

import torch
from common import NoTokenizer, write_checkpoint
from speed import Program, measure, summarise
from timing import READ, random_prompt

import chat_web
import checkpoint
import engine

PLACES = 0, 1, 2, 255, 256, 257, 700, 1500, 2047  # of the steps that are compared
REPLY, DRAWS = 300, ((0.0, 0), (1.0, 0), (1.0, 50), (1.0, 300))  # temperatures and top-k


def load(depth: int, dtype: torch.dtype, device: torch.device) -> tuple[engine.Engine, dict]:
    """A random model from files that have just been written, and what it took."""
    gc.collect()  # of the last one's steps, which refer to themselves
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), depth)
        began = time.perf_counter()
        model = checkpoint.read(checkpoint.find(checkpoint.base_dir(), None, folder), dtype)
        model.tokenizer = NoTokenizer
        writer = model.engine(device)
        seconds = time.perf_counter() - began
    return writer, {"seconds": seconds, "memory": torch.cuda.memory_reserved() - before}  # 0 without CUDA


@torch.inference_mode()
def largest_difference(writer: engine.Engine) -> float:
    """Of a logit, between recorded steps and the model's own forward pass behind the same prefix."""
    return max(map(writer.graphs.difference, PLACES))


def alike(writers: list[engine.Engine]) -> list[int]:
    """How many tokens of a reply are the same, up to the first that is not, for each kind of draw."""
    prompt, found = random_prompt(random.Random(2), 100, writers[0].model.config.vocab_size), []
    for temperature, top_k in DRAWS:
        pairs = zip(*(writer.generate(prompt, REPLY, temperature, top_k, seed=1) for writer in writers))
        found.append(next((n for n, (one, other) in enumerate(pairs) if one != other), REPLY))
    return found


def examine(depth: int, dtype: torch.dtype, device: torch.device, rounds: int) -> dict:
    """All that is told of one depth."""
    writer, facts = load(depth, dtype, device)
    eager = engine.Engine(writer.model, NoTokenizer, graphs=False)
    recorded = writer if writer.graphs else engine.Engine(writer.model, NoTokenizer, graphs=True)
    if not recorded.graphs:
        raise SystemExit(f"d{depth}: {recorded.mode}")
    facts |= {"difference": largest_difference(recorded), "alike": alike([recorded, eager])}
    programs = {"recorded": Program(recorded), "eager": Program(eager)}
    measure(programs, device, rounds)
    return facts | {name: summarise(program) for name, program in programs.items()}


def row(depth: int, facts: dict) -> str:
    wrote, eager, alike = facts["recorded"], facts["eager"], ", ".join(map(str, facts["alike"]))
    return (f"| d{depth} | {facts['seconds']:.1f} | {facts['memory'] / 1e9:.2f} | {wrote['decode']:.1f} "
            f"| {wrote['share']:.0%} | {eager['decode']:.1f} | {eager['share']:.0%} "
            f"| {wrote['decode'] / eager['decode']:.2f} | {wrote['prefill']:.0f} "
            f"| {facts['difference']:.4f} | {alike} |")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-d", "--dtype", choices=checkpoint.DTYPES, default="bfloat16")
    parser.add_argument("--device-type", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--depths", type=int, nargs="+", default=[12, 20, 32])
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    checkpoint.prepare_torch()
    device = chat_web.pick_devices(chat_web.parse_args(["--device-type", args.device_type]))[0]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"torch {torch.__version__} on {name}, {args.dtype}\n")
    print("| | loaded, s | memory, GB | written, tokens/s | share | eager, tokens/s | share | times "
          f"| {READ:,} read, tokens/s | logits differ by | alike of {REPLY} |")  # fmt: skip
    print("| --- " * 11 + "|", flush=True)
    found = {}
    for depth in args.depths:
        found[depth] = examine(depth, checkpoint.DTYPES[args.dtype], device, args.rounds)
        print(row(depth, found[depth]), flush=True)
    print(json.dumps({"torch": torch.__version__, "device": name, "dtype": args.dtype, "depths": found}))


if __name__ == "__main__":
    main()
