"""How fast this machine writes and reads, beside a plain program over the same weights.

    python bench/speed.py --depth 12           a random model of nanochat's newest shape
    python bench/speed.py -g d20 -d float32    a checkpoint, by chat_web.py's -g, -i, -s and --device-type

Without -d both dtypes run. All programs take turns within one run. The plain program does it nanochat's way:
a matrix each for q, k and v, float32 matrices that are cast for every product, logits of all positions,
torch.multinomial. In the rows with nine zeros in ten, the activations of a random model are as sparse as
trained ones. The time to load a random model includes making its numbers up. The last line is one JSON
document.
"""

import argparse
import copy
import json
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from common import TABLES, NoTokenizer, random_checkpoint
from timing import PROMPT, READ, WRITTEN, random_prompt, tokens_per_second

import chat_web
import checkpoint
import engine


class PlainGPT(engine.GPT):
    """GPT in nanochat's precision: float32 matrices, and all else in the dtype of the computation."""

    def __init__(self, config: engine.Config, weights: dict, device: torch.device, dtype: torch.dtype):
        small = (*TABLES, "smear_gate.")
        kept = {name: w.to(dtype) if name.startswith(small) or "ve_gate" in name else w.float()
                for name, w in weights.items()}  # fmt: skip
        super().__init__(config, {name: weight.to(device) for name, weight in kept.items()})

    def linear(self, x, name, sparse=False):
        return F.linear(x, self.weights[name + ".weight"].to(x.dtype))


class PlainWriter:
    """As much of Engine as is timed here."""

    def __init__(self, model: PlainGPT):
        self.model, self.context = model, model.config.sequence_len

    @torch.inference_mode()
    def generate(self, prompt, max_tokens, temperature, top_k, seed):
        device, dtype = self.model.device, self.model.dtype
        cache = engine.KVCache(self.model.config, device, dtype)
        cache.dtype, cache.keys, cache.values = dtype, cache.keys.to(dtype), cache.values.to(dtype)
        cache.layers = list(zip(cache.keys.unbind(), cache.values.unbind()))
        rng, ids = torch.Generator(device).manual_seed(seed), torch.tensor([prompt], device=device)
        for _ in range(max_tokens):
            logits, tokens = self.model(ids, cache)[0, -1].topk(top_k)
            chosen = torch.multinomial(torch.softmax(logits / temperature, dim=-1), 1, generator=rng)
            ids = tokens[chosen][None]
            yield int(ids)


def with_sparse_activations(model: engine.GPT) -> engine.GPT:
    """The same random model, where one activation in ten is not zero, and not every second one."""
    sparse, threshold = copy.copy(model), 1.28 * 0.02 * model.config.n_embd**0.5

    def linear(x: torch.Tensor, name: str, sparse: bool = False) -> torch.Tensor:
        y = model.linear(x, name, sparse)
        return y - threshold if name.endswith("c_fc") else y

    sparse.linear = linear
    return sparse


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def bandwidth(numbers: torch.Tensor) -> float:
    """Bytes per second that this machine reads from memory, by summing more than its caches hold."""
    return numbers.nbytes / statistics.median(seconds(lambda: float(numbers.sum())) for _ in range(5))


def step_bytes(writer: engine.Engine, length: int) -> int:
    """What one decode step must read: every matrix, and the cached keys and values that its query sees."""
    c, weights = writer.model.config, writer.model.weights
    matrices = sum(weight.nbytes for name, weight in weights.items() if not name.startswith(TABLES))
    seen = sum(length if window is None else min(length, window + 1) for window in c.windows)
    return matrices + seen * 2 * c.n_kv_head * c.head_dim * writer.cache.keys.element_size()


def first_token_seconds(writer: engine.Engine, turns=10) -> list[float]:
    """Of each turn of a conversation that grows by a sixteenth of the context."""
    rng, conversation, spent = random.Random(1), [], []
    for _ in range(turns):
        conversation += random_prompt(rng, writer.context // 32, writer.model.config.vocab_size)
        reply = writer.generate(conversation, writer.context // 32)
        spent.append(seconds(lambda: conversation.append(next(reply))))  # noqa: B023
        conversation += reply
    return [round(seconds, 4) for seconds in spent]


@dataclass
class Program:
    writer: engine.Engine | PlainWriter
    facts: dict = field(default_factory=dict)
    speeds: dict = field(default_factory=lambda: {"bandwidth": [], "decode": [], "prefill": []})


def engines(model: checkpoint.Checkpoint, device: torch.device, began: float) -> dict[str, Program]:
    """This engine over a model that began to load then, and variants of it. Prints what it took."""
    model.tokenizer = NoTokenizer
    fast = model.engine(device)
    facts = {"load_seconds": round(time.perf_counter() - began, 2), "mode": fast.mode}
    facts["memory_bytes"] = sum(w.nbytes for w in fast.model.weights.values()) + 2 * fast.cache.keys.nbytes
    facts["first_token_seconds"] = first_token_seconds(fast)
    print(f"{fast.model.dtype}, {fast.mode}: ready in {facts['load_seconds']:.1f} s, "
          f"{facts['memory_bytes'] / 1e6:.0f} MB of weights and cache; to the first token of turns 1 to 10:",
          *(f"{1000 * spent:.0f}" for spent in facts["first_token_seconds"]), "ms", flush=True)  # fmt: skip
    programs = {"this engine": Program(fast, facts)}
    if fast.graphs:
        programs["without graphs"] = Program(engine.Engine(fast.model, NoTokenizer, graphs=False))
    if model.name.startswith("random"):
        sparse = with_sparse_activations(fast.model)
        programs["nine zeros in ten"] = Program(engine.Engine(sparse, NoTokenizer))
    return programs


def measure(programs: dict[str, Program], device: torch.device, rounds: int) -> None:
    """Each round runs all programs, one after the other, so that a busy machine slows them all."""
    numbers = torch.ones(2**30 if device.type == "cuda" else 2**27, device=device)
    rng = random.Random(1)
    for number in range(rounds + 1):
        for program in programs.values():
            writer, speeds = program.writer, program.speeds
            found = {"bandwidth": bandwidth(numbers)}  # a shared memory's changes by the second
            for work in ("decode", "prefill"):
                found[work] = tokens_per_second(writer, rng, work, writer.model.config.vocab_size)
            if number:  # the first round warms up
                for what, speed in found.items():
                    speeds[what].append(speed)


def summarise(program: Program) -> dict:
    """The medians, and the share of the bandwidth that decoding reaches."""
    medians = {what: round(statistics.median(found), 1) for what, found in program.speeds.items()}
    summary = program.facts | medians
    if isinstance(program.writer, engine.Engine):
        size = step_bytes(program.writer, PROMPT + WRITTEN // 2)
        pairs = zip(program.speeds["decode"], program.speeds["bandwidth"])
        summary["step_bytes"] = size
        summary["share"] = round(statistics.median(size * speed / reads for speed, reads in pairs), 3)
    return summary


def print_table(summaries: dict[str, dict]) -> None:
    read = f"{READ:,} read, tokens/s"
    print(f"| | written, tokens/s | against plain float32 | share of the bandwidth | {read} | against it |")
    print("| --- " * 6 + "|")
    plain = summaries["plain, float32"]
    for name, each in summaries.items():
        share = f"{each['share']:.0%}" if "share" in each else ""
        wrote, read = each["decode"], each["prefill"]
        print(f"| {name} | {wrote:.1f} | {wrote / plain['decode']:.2f} | {share} "
              f"| {read:.0f} | {read / plain['prefill']:.2f} |")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Times a model. Other flags choose it, as chat_web.py's do.")
    parser.add_argument("--depth", type=int, help="a random model of this depth instead of a checkpoint")
    parser.add_argument("-d", "--dtype", choices=checkpoint.DTYPES, help="only this one (default: both)")
    parser.add_argument("--rounds", type=int, default=7)
    own, rest = parser.parse_known_args()
    checkpoint.prepare_torch()
    flags = chat_web.parse_args(rest)
    device = chat_web.pick_devices(flags)[0]
    found = None if own.depth else chat_web.pick_checkpoint(flags)[0]

    def load(dtype: torch.dtype) -> checkpoint.Checkpoint:
        return random_checkpoint(own.depth, dtype) if own.depth else checkpoint.read(found, dtype)

    plain, programs = load(torch.float32), {}
    for name, dtype in checkpoint.DTYPES.items():
        if own.dtype in (name, None):
            began = time.perf_counter()
            variants = engines(load(dtype), device, began)
            programs |= {f"{variant}, {name}": program for variant, program in variants.items()}
        if own.dtype in (name, None) or name == "float32":
            model = PlainGPT(plain.config, plain.weights, device, dtype)
            programs[f"plain, {name}"] = Program(PlainWriter(model))
    measure(programs, device, own.rounds)
    reads = [speed / 1e9 for program in programs.values() for speed in program.speeds["bandwidth"]]
    print(f"{plain.name} on {device}, {torch.get_num_threads()} threads, medians of {own.rounds}; "
          f"memory reads {min(reads):.0f} to {max(reads):.0f} GB/s, mostly {statistics.median(reads):.0f}\n")
    summaries = {name: summarise(program) for name, program in programs.items()}
    print_table(summaries)
    print(json.dumps({"model": plain.name, "device": str(device), "programs": summaries}))


if __name__ == "__main__":
    main()
