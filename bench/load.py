"""What happens when more clients come than can be served: python bench/load.py

Clients ask again and again, over four workers that take 10 ms for each of a reply's 50 tokens, as a GPU
would. They come from ten addresses, as one address may not have all places in line. Who is refused waits a
second. Linux only: other systems have one loopback address.
"""

import logging
import statistics
import threading
import time

from common import ScriptedEngine, make_tokenizer, question, scripted_app, serving, stream

WORKERS, TOKENS, SECONDS = 4, 50, 20.0


def measure(clients: int) -> str:
    """A row of the table."""
    tokenizer = make_tokenizer()
    engine = ScriptedEngine([*[ord("x")] * TOKENS, tokenizer.special["<|assistant_end|>"]], 0.01)
    first, refused, began = [], [], time.monotonic()

    def client(number: int, port: int) -> None:
        while time.monotonic() < began + SECONDS:
            waited, received = stream(port, question(), f"127.0.0.{1 + number % 10}")
            if received.startswith(b"HTTP/1.1 503 "):
                refused.append(number)
                time.sleep(1)  # politer clients wait the five seconds of Retry-After
            else:
                assert b'"done"' in received, received
                first.append(1000 * waited)

    with serving(scripted_app(WORKERS, tokenizer, engine)) as port:
        threads = [threading.Thread(target=client, args=(number, port)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    replies = 60 * len(first) / (time.monotonic() - began)
    late = statistics.quantiles(first, n=100, method="inclusive")[98]
    return f"| {clients} | {replies:.0f} | {statistics.median(first):.0f} | {late:.0f} | {len(refused)} |"


def main() -> None:
    logging.disable()  # of connections that are refused
    print(f"| clients, for {WORKERS} workers | replies/min | ms to the first token, median | p99 | refused |")
    print("| --- | --- | --- | --- | --- |")
    for clients in (1, 4, 40, 200):
        print(measure(clients), flush=True)


if __name__ == "__main__":
    main()
