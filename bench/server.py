"""What HTTP costs beside a model: python bench/server.py (pip install fastapi uvicorn httptools)

This server streams a reply, and so does the shape of nanochat's last one, FastAPI on uvicorn, with engines
that cost nothing, each in a process of its own. Then workers that sleep 1 ms for each token show how many of
them one process keeps busy. Linux only: it reads CPU time from /proc.
"""

import contextlib
import importlib.util
import itertools
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import ScriptedEngine, connect, make_tokenizer, question, scripted_app, stream

import chat_web

TOKENS, ROUNDS, WORKERS = 20_000, 5, (1, 2, 4, 8)


def serve_this(tokens: int, pause: float, ports) -> None:
    """This server; `ports` is the way back for its port."""
    tokenizer = make_tokenizer()
    engine = ScriptedEngine([*[ord("w")] * tokens, tokenizer.special["<|assistant_end|>"]], pause)
    listener = chat_web.listen("127.0.0.1", 0)
    ports.put(listener.getsockname()[1])
    chat_web.Server(listener, scripted_app(max(WORKERS), tokenizer, engine)).serve_forever()


def serve_fastapi(tokens: int, parser: str, ports) -> None:
    import uvicorn
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse

    async def events():
        for _ in range(tokens):
            yield f"data: {json.dumps({'token': 'w', 'gpu': 0}, ensure_ascii=False)}\n\n"
        yield f"data: {json.dumps({'done': True})}\n\n"

    app, listener = FastAPI(), chat_web.listen("127.0.0.1", 0)

    @app.post("/chat/completions")
    async def chat(body: dict):
        return StreamingResponse(events(), media_type="text/event-stream")

    ports.put(listener.getsockname()[1])
    config = uvicorn.Config(app, log_level="error", http=parser)
    uvicorn.Server(config).run([listener])


@contextlib.contextmanager
def running(serve: Callable, *arguments) -> Iterator[tuple[int, int]]:
    """A server in a new process: its process id and port."""
    context = multiprocessing.get_context("spawn")
    ports = context.Queue()
    process = context.Process(target=serve, args=(*arguments, ports), daemon=True)
    process.start()
    try:
        port = ports.get(timeout=60)
        connect(port).close()
        yield process.pid, port
    finally:
        process.kill()
        process.join()


def tokens_per_second(port: int, streams: int, tokens: int) -> float:
    """Of so many replies at once, each of so many tokens."""

    def client(_) -> None:
        _, received = stream(port, question())
        assert b'"done"' in received[-200:], received[:500]

    began = time.perf_counter()
    with ThreadPoolExecutor(streams) as threads:
        list(threads.map(client, range(streams)))
    return streams * tokens / (time.perf_counter() - began)


def cpu_seconds(pid: int) -> float:
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def row(name: str, serve: Callable, option) -> str:
    with running(serve, TOKENS, option) as (pid, port):
        tokens_per_second(port, 1, TOKENS)
        before = cpu_seconds(pid)
        one, eight = ([tokens_per_second(port, streams, TOKENS) for _ in range(ROUNDS)] for streams in (1, 8))
        spent = (cpu_seconds(pid) - before) / (9 * ROUNDS * TOKENS)
    return f"| {name} | {statistics.median(one):.0f} | {statistics.median(eight):.0f} | {1e6 * spent:.1f} |"


def main() -> None:
    print("| server | tokens/s, 1 reply | tokens/s, 8 replies | CPU us/token |\n| --- | --- | --- | --- |")
    print(row("this one", serve_this, 0.0), flush=True)
    for parser in ("h11", "httptools"):
        if all(map(importlib.util.find_spec, ("fastapi", "uvicorn", parser))):
            print(row(f"FastAPI, uvicorn, {parser}", serve_fastapi, parser), flush=True)
    speeds = {workers: [] for workers in WORKERS}
    with running(serve_this, TOKENS // 10, 0.001) as (_, port):
        for _, workers in itertools.product(range(ROUNDS), WORKERS):
            speeds[workers].append(tokens_per_second(port, workers, TOKENS // 10))
    medians = {workers: statistics.median(found) for workers, found in speeds.items()}
    print("\n| workers that sleep 1 ms for each token | tokens/s | of so many times one worker's |")
    print("| --- | --- | --- |")
    for workers, speed in medians.items():
        print(f"| {workers} | {speed:.0f} | {speed / workers / medians[1]:.3f} |")


if __name__ == "__main__":
    main()
