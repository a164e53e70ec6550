"""This checkout against another one, in turns within one run, so that a busy machine slows both.

    git worktree add ../before COMMIT
    python bench/paired.py ../before --depth 12 --dtype both

Both load the same random model. Each round times both at writing 24 tokens after a prompt of 256
(temperature 0.8, top-k 50) and at reading 1,024 tokens. At the end both servers start, in turns, up to their
"Server ready" line. A ratio above 1 says that this checkout is faster.
"""

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import ROOT, started, write_checkpoint

WORK = ("decode", "prefill")


class Side:
    """A process in a checkout, which has loaded the model."""

    def __init__(self, checkout: Path, *arguments: str):
        command = [sys.executable, str(Path(__file__).with_name("side.py")), *arguments]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=checkout, stdin=pipe, stdout=pipe, text=True, bufsize=1)
        self.mode = self.answer()

    def answer(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a side of the comparison failed; its traceback is above")
        return line.strip()

    def ask(self, work: str) -> float:
        self.process.stdin.write(work + "\n")
        return float(self.answer())

    def close(self) -> None:
        self.process.communicate()


def take_turns(checkouts: list[Path], rounds: int, *arguments: str) -> None:
    """Prints the speed of each checkout, and the median and spread of the rounds' ratios."""
    sides = [Side(checkout, *arguments) for checkout in checkouts]
    try:
        print(f"this decodes with {sides[0].mode}, the other with {sides[1].mode}\n")
        print("| | this checkout | the other | ratio |\n| --- | --- | --- | --- |", flush=True)
        for work in WORK:
            speeds = [[side.ask(work) for side in sides] for _ in range(rounds + 1)][1:]  # one warms up
            report(work, "tokens/s", speeds, [this / other for this, other in speeds])
    finally:
        for side in sides:
            side.close()


def report(work: str, unit: str, pairs: list[list[float]], ratios: list[float]) -> None:
    this, other = (statistics.median(numbers) for numbers in zip(*pairs))
    several = ratios if len(ratios) > 1 else ratios * 2
    low, ratio, high = statistics.quantiles(several, n=4, method="inclusive")
    spread = f"(half of {len(ratios)} within {low:.3f} to {high:.3f})"
    print(f"| {work} | {this:.4g} {unit} | {other:.4g} {unit} | {ratio:.3f} {spread} |", flush=True)


def seconds_to_ready(checkout: Path, *flags: str) -> float:
    began = time.perf_counter()
    with started(*flags, checkout=checkout):
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("other", type=Path, help="the other checkout's folder")
    parser.add_argument("--depth", type=int, default=12)
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "both"), default="both")
    parser.add_argument("--device-type", choices=("cpu", "cuda", "mps"), default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--starts", type=int, default=3, help="of each server")
    args = parser.parse_args()
    checkouts = [ROOT, args.other.resolve()]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # the servers and the files go too
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), args.depth)
        for dtype in ("float32", "bfloat16") if args.dtype == "both" else (args.dtype,):
            print(f"\nd{args.depth}, {dtype}, {args.device_type}:", end=" ")
            take_turns(checkouts, args.rounds, folder, dtype, args.device_type)
            flags = ("-g", folder, "-d", dtype, "--device-type", args.device_type)
            starts = range(args.starts)
            spent = [[seconds_to_ready(checkout, *flags) for checkout in checkouts] for _ in starts]
            report("start to ready", "s", spent, [other / this for this, other in spent])


if __name__ == "__main__":
    main()
