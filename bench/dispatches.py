"""Counts what one step, from token to token, asks of torch: python bench/dispatches.py

On the CPU the profiler counts every operation of a d12 step after a prompt of 256 tokens, those within
others too. The kernels of a step as CUDA records it are counted on torch's meta device, which computes
nothing: each operation that is no view, and each cast to another dtype. A norm counts as one kernel, which it
is on CUDA from torch 2.9 on.
"""

from collections import Counter

import torch
from common import random_checkpoint
from torch.utils._python_dispatch import TorchDispatchMode

import engine

DTYPES = (torch.bfloat16, torch.float32)


def cpu_operations(depth: int, dtype: torch.dtype) -> Counter:
    writer = random_checkpoint(depth, dtype).engine(torch.device("cpu"))
    reply = writer.generate(list(range(256)), 10, temperature=0.8, top_k=50, seed=1)
    for _ in range(4):
        next(reply)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        next(reply)
    return Counter({operation.key: operation.count for operation in profile.key_averages()})


class Kernels(TorchDispatchMode):
    """Counts operations, as far as a device would run a kernel for them."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        casts = operation.name() == "aten::to.dtype" and result.dtype != args[0].dtype
        self.counts[operation.name().partition(".")[0]] += casts or not operation.is_view
        return result


@torch.inference_mode()
def recorded_kernels(depth: int) -> Counter:
    """Of the first of the steps that CUDA would record, without the draw."""
    model = random_checkpoint(depth, torch.bfloat16, "meta")
    model = engine.FastGPT(model.config, model.weights)
    engine.GraphDecoder.compare = lambda self: None  # a device without numbers has none to compare
    decoder = engine.GraphDecoder(model, engine.KVCache(model.config, model.device, model.dtype), None)
    with Kernels() as kernels:
        decoder.steps[0]()
    return kernels.counts


def print_table(title: str, columns: dict[str, Counter], most: int = 25) -> None:
    """The most frequent operations first."""
    sums = sum(columns.values(), Counter())
    frequent = [name for name, _ in sums.most_common(most)]
    rows = {"all": [count.total() for count in columns.values()]}
    rows |= {name: [count[name] for count in columns.values()] for name in frequent}
    rest = [count.total() - sum(count[name] for name in frequent) for count in columns.values()]
    print(f"| {title} |", " | ".join(columns), "|")
    print("| --- " * (1 + len(columns)) + "|")
    for name, counts in (rows | {"others": rest}).items():
        print(f"| {name} |", " | ".join(map(str, counts)), "|", flush=True)


def main() -> None:
    columns = {f"d12, {str(dtype).removeprefix('torch.')}": cpu_operations(12, dtype) for dtype in DTYPES}
    print_table("operations of a CPU step", columns)
    print()
    columns = {f"d{depth}": recorded_kernels(depth) for depth in (12, 20, 32)}
    print_table("kernels of a recorded step", columns)


if __name__ == "__main__":
    main()
