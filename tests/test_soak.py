"""What the server holds in bad times: memory, threads and descriptors, as Linux tells them."""

import json
import signal
import sys
import threading

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
    run,
    started,
    until,
    with_descriptors,
    write_pair,
)

sys.path.append(str(HERE / "bench"))

from memory import measure, write_float32  # noqa: E402
from soak import footprint, soak  # noqa: E402

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


def test_a_float32_file_in_bfloat16_never_lies_in_memory_as_a_whole(tmp_path):
    write_float32(tmp_path, 12, vocabulary=8192)
    size, before, peak, _ = measure(tmp_path, "bfloat16")
    assert peak - before < 0.75 * size


def test_a_server_out_of_file_descriptors_recovers(base):
    write_pair(base / "chatsft_checkpoints" / "d4")
    with started("-c", with_descriptors(60)) as (process, port, _):
        idle = [connect(port) for _ in range(150)]
        until(lambda: footprint(process.pid)["descriptors"] >= 24)
        for sock in idle:
            sock.close()
        assert json.loads(fetch(port, "/health"))["ready"]
        assert events(ask(port, body("Hello", max_tokens=3)))[-1] == {"done": True}
        process.send_signal(signal.SIGTERM)
        assert "Traceback" not in process.communicate(timeout=30)[1]


# Honest and hostile clients together, for a while -----------------------------------------------------------
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
