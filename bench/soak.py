"""Honest and hostile clients together, for a while, against the demo model: python bench/soak.py MINUTES

Honest clients must get the same replies as when they were alone, and at the end the server must hold no more
threads, file descriptors and memory than before. Linux only: it reads them from /proc.
"""

import argparse
import contextlib
import json
import os
import random
import re
import socket
import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import ROOT, connect, fetch, question, request_bytes, started

CHAT = b"POST /chat/completions HTTP/1.1\r\n"
QUESTIONS = ("What is 12*34?", "Hello!", "How many r are in strawberry?", "Who are you?",
             "What is the capital of France?")  # fmt: skip


def attack_slowly(sock, rng):
    for byte in request_bytes(question())[: rng.randrange(60)]:
        sock.sendall(bytes([byte]))
        time.sleep(0.05)


def attack_and_leave(sock, rng):
    sock.sendall(request_bytes(question("Tell me a long story.", max_tokens=4096)))
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
    attack_with(b"\x16\x03\x01\x02\0", b"GET http://[ HTTP/1.1\r\n\r\n", b"A" * 70_000, b"\r\n\r\n",
                b"GET / HTTP/1.0\r\n\r\n" * 50),
    attack_with(CHAT + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n",
                CHAT + b"Content-Length: 99999999999\r\n\r\n", CHAT + b"Content-Length: 1000\r\n\r\n{",
                b"HEAD /chat/completions HTTP/1.1\r\n\r\n"),
    attack_with(request_bytes({"messages": "x" * 900_000}), request_bytes(question("\x1b[31m\u2028")),
                request_bytes(question(top_k=-5)) + b"more",
                CHAT + b"Content-Length: 100000\r\n\r\n" + b"[" * 100_000),
]  # fmt: skip


def footprint(pid: int) -> dict[str, int]:
    """What a process holds, on Linux."""
    status = Path(f"/proc/{pid}/status").read_text()
    threads, kilobytes = (int(re.search(name + r":\s+(\d+)", status)[1]) for name in ("Threads", "VmRSS"))
    return {"threads": threads, "descriptors": len(os.listdir(f"/proc/{pid}/fd")), "MB": kilobytes // 1024}


def soak(port: int, pid: int, seconds: float, questions: list[dict], honest=3, hostile=6) -> dict:
    """Asks and attacks for some seconds; asserts that nothing was lost, and returns what was counted."""
    alone = [fetch(port, "/chat/completions", asked) for asked in questions]
    assert all(reply.endswith(b'data: {"done": true}\n\n') for reply in alone), alone
    before, end, counts, waits = footprint(pid), time.monotonic() + seconds, Counter(), []

    def honest_client(number):
        rng = random.Random(number)
        while time.monotonic() < end:
            chosen, began = rng.randrange(len(questions)), time.monotonic()
            reply = fetch(port, "/chat/completions", questions[chosen])
            waits.append(time.monotonic() - began)
            counts["honest replies"] += 1
            assert reply == alone[chosen], (questions[chosen], reply)

    def hostile_client(number):
        rng = random.Random(-number)
        while time.monotonic() < end:
            with contextlib.suppress(OSError), connect(port) as sock:
                counts["attacks"] += 1
                rng.choice(ATTACKS)(sock, rng)
                if rng.random() < 0.5:  # leaves with a reset
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with ThreadPoolExecutor(honest + hostile) as threads:
        clients = [threads.submit(honest_client, number) for number in range(honest)]
        clients += [threads.submit(hostile_client, number) for number in range(hostile)]
    for client in clients:
        client.result()  # raises what the client raised
    after = at_rest(port, pid, before)
    assert after["MB"] <= before["MB"] + 100, (before, after)
    wait = round(statistics.median(waits), 3)
    return counts | {"seconds": seconds, "median wait": wait, "before": before, "after": after}


def at_rest(port: int, pid: int, before: dict[str, int]) -> dict[str, int]:
    """What the server holds once the last connections have ended, which must be no more than before."""
    deadline = time.monotonic() + 60
    while True:
        health, stats = (json.loads(fetch(port, path)) for path in ("/health", "/stats"))
        now = footprint(pid)
        few = now["threads"] <= before["threads"] + 1  # the one that answered
        few = few and now["descriptors"] <= before["descriptors"] + 2  # of connections that are being closed
        if few and health["available_workers"] == stats["total_workers"]:
            return now
        assert time.monotonic() < deadline, f"not given back: {before}, {now}, {health}"
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("minutes", type=float)
    seconds = 60 * parser.parse_args().minutes
    asked = [question(text, temperature=0, max_tokens=60) for text in QUESTIONS]
    with started("-d", "float32", NANOCHAT_BASE_DIR=str(ROOT / "demo")) as (process, port, log):
        print(json.dumps(soak(port, process.pid, seconds, asked)))
        log.seek(0)
        assert "Traceback" not in (said := log.read()), said


if __name__ == "__main__":
    main()
