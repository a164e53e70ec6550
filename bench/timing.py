"""What paired.py and speed.py time. It imports nothing of the product, which may be an older one's."""

import random
import time

WRITTEN, PROMPT, READ = 24, 256, 1024  # tokens; less where a context is short


def tokens_per_second(writer, rng: random.Random, work: str, vocabulary: int) -> float:
    """Of "prefill", a fresh prompt, or of "decode", the reply to one after its first token."""
    length, count = (PROMPT, WRITTEN) if work == "decode" else (READ, 0)
    prompt = random_prompt(rng, min(length, writer.context - 1 - count), vocabulary)
    reply = writer.generate(prompt, count + 1, temperature=0.8, top_k=50, seed=1)
    began = time.perf_counter()
    next(reply)
    if work == "prefill":
        return len(prompt) / (time.perf_counter() - began)
    began = time.perf_counter()
    written = len(list(reply))
    assert written == count, f"the reply ended after {written} tokens"
    return written / (time.perf_counter() - began)


def random_prompt(rng: random.Random, length: int, vocabulary: int) -> list[int]:
    return [rng.randrange(vocabulary) for _ in range(length)]
