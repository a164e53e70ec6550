"""What the server holds in bad times: memory, threads and descriptors, as Linux tells them."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from standins import (
    HERE,
    ask,
    body,
    change,
    connect,
    events,
    fetch,
    random_weights,
    request_bytes,
    run,
    started,
    until,
    write_pair,
)


def footprint(pid: int) -> dict:
    """What a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    threads, kilobytes = (int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in ("Threads", "VmRSS"))
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    return {"threads": threads, "descriptors": descriptors, "MB": kilobytes // 1024}


MEASURED_LOAD = """
import pathlib, re, sys, torch, checkpoint
def kilobytes(name):
    return int(re.search(name + r":\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
found = checkpoint.find(checkpoint.base_dir(), "sft")
before = kilobytes("VmRSS")
engine = checkpoint.read(found, getattr(torch, sys.argv[1])).engine(torch.device("cpu"))
print((kilobytes("VmHWM") - before) * 1024 / found.model.stat().st_size)
"""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loading_takes_no_more_memory_than_the_file_and_a_little(base, dtype):
    write_pair(base / "chatsft_checkpoints" / "d4", 1, random_weights("R2", channels=1536))  # half a gigabyte
    done = run("-c", MEASURED_LOAD, dtype, cwd=HERE)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1.3


POOR = """
import resource, chat_web
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
chat_web.main()
"""


def test_a_server_out_of_file_descriptors_recovers(base):
    write_pair(base / "chatsft_checkpoints" / "d4")
    with started("-c", POOR) as (process, port, _):
        idle = [connect(port) for _ in range(150)]
        until(lambda: footprint(process.pid)["descriptors"] >= 60)
        for sock in idle:
            sock.close()
        assert json.loads(fetch(port, "/health"))["ready"]
        assert events(ask(port, body("Hello", max_tokens=3)))[-1] == {"done": True}
        process.send_signal(signal.SIGTERM)
        assert "Traceback" not in process.communicate(timeout=30)[1]


# Honest and hostile clients together, for a while -----------------------------------------------------------
def attack_slowly(sock, rng):
    for byte in request_bytes(body())[: rng.randrange(60)]:
        sock.sendall(bytes([byte]))
        time.sleep(0.05)


def attack_and_leave(sock, rng):
    sock.sendall(request_bytes(body("Tell me a long story.", max_tokens=4096)))
    sock.recv(rng.randrange(1, 400))


def attack_by_waiting(sock, rng):
    time.sleep(rng.random() * 3)


def attack_with(*choices):
    def attack(sock, rng):
        sock.sendall(rng.choice(choices))
        sock.settimeout(3)
        sock.recv(rng.randrange(1, 4096))

    return attack


CHAT = b"POST /chat/completions HTTP/1.1\r\n"
ATTACKS = [
    attack_slowly,
    attack_and_leave,
    attack_and_leave,
    attack_by_waiting,
    attack_with(
        b"\x16\x03\x01\x02\0",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        b"A" * 70_000,
        b"\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n" * 50,
    ),
    attack_with(
        CHAT + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n",
        CHAT + b"Content-Length: 99999999999\r\n\r\n",
        CHAT + b"Content-Length: 1000\r\n\r\n{",
        b"HEAD /chat/completions HTTP/1.1\r\n\r\n",
    ),
    attack_with(
        request_bytes({"messages": "x" * 900_000}),
        request_bytes(body("\x1b[31m\u2028")),
        request_bytes(body(top_k=-5)) + b"more",
        CHAT + b"Content-Length: 100000\r\n\r\n" + b"[" * 100_000,
    ),
]


def soak(port: int, pid: int, seconds: float, questions: list[dict], honest=3, hostile=6) -> Counter:
    """Asks and attacks for some seconds; asserts that nothing was lost, and returns how often."""
    alone = [ask(port, question) for question in questions]
    assert all(events(reply)[-1] == {"done": True} for reply in alone)
    before, end = footprint(pid), time.monotonic() + seconds
    counts, wrong = Counter(), []

    def honest_client(number):
        rng = random.Random(number)
        while time.monotonic() < end:
            chosen = rng.randrange(len(questions))
            reply = ask(port, questions[chosen])
            counts["honest replies"] += 1
            if reply != alone[chosen]:
                wrong.append((questions[chosen], reply))

    def hostile_client(number):
        rng = random.Random(-number)
        while time.monotonic() < end:
            attack = rng.choice(ATTACKS)
            with contextlib.suppress(OSError), connect(port) as sock:
                counts["attacks"] += 1
                attack(sock, rng)
                if rng.random() < 0.5:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    threads = [threading.Thread(target=honest_client, args=(number,)) for number in range(honest)]
    threads += [threading.Thread(target=hostile_client, args=(number,)) for number in range(hostile)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    workers = json.loads(fetch(port, "/stats"))["total_workers"]
    until(lambda: json.loads(fetch(port, "/health"))["available_workers"] == workers, 60)
    until(lambda: footprint(pid)["threads"] <= before["threads"] + 1, 60)  # the one that answered /health
    until(
        lambda: footprint(pid)["descriptors"] <= before["descriptors"] + 2, 60
    )  # the last ones are being closed
    assert not wrong, wrong[0]
    assert footprint(pid)["MB"] <= before["MB"] + 100
    return counts


def test_honest_clients_lose_nothing_among_hostile_ones(base):
    write_pair(base / "chatsft_checkpoints" / "d4", meta=change(sequence_len=256))
    questions = [
        body(text, temperature=0, max_tokens=20) for text in ("Hello", "What is this?", "Hello, who are you?")
    ]
    with started(HERE / "chat_web.py", "-d", "float32") as (process, port, _):
        log = []
        reader = threading.Thread(
            target=lambda: log.extend(process.stderr)
        )  # a full pipe would halt the server
        reader.start()
        counted = soak(port, process.pid, 10, questions)
        assert counted["honest replies"] > 5 and counted["attacks"] > 5
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        reader.join()
        assert "Traceback" not in "".join(log)
