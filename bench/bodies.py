"""What the worst request body costs beside a harmless one of its size: python bench/bodies.py [SECONDS]

Random search over structures, texts, sizes and chunks. It counts processor time from the body's first byte to
the end of its answer, without the model, and prints the worst ratio of each structure.
"""

import io
import json
import logging
import random
import sys
import time
from collections.abc import Iterator

from common import ROOT, ScriptedEngine, scripted_app

import tiktoken

import chat_web
import checkpoint

PATTERN = (  # nanochat's newest; the demo's own is older
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|"""
    r"\s+(?!\S)|\s+"
)
PROSE = "The quick brown fox jumps over the lazy dog; then it sleeps, says the hound. " * 500
PIECES = ["a", "A", "1", " ", "\n", " \n", "!", "'s", "\r", "é", "ก", "a\u0301", "𓀀", "🙂", "\u200d", "\0",
          "\\", '"', "[", "{", ",", ":", "a1 ", "x\u2028", "<|python_start|>", " the"]  # fmt: skip
LARGEST = chat_web.MAX_BODY


def texts(rng: random.Random, characters: int) -> str:
    """Text of few kinds of pieces, as what is repeated is what is worst."""
    kinds = rng.sample(PIECES, rng.choice((1, 1, 1, 2, 3)))
    return "".join(rng.choices(kinds, k=characters) if len(kinds) > 1 else kinds * characters)[:characters]


def conversation(rng: random.Random, size: int) -> bytes:
    count = rng.choice((1, 4, 20, 100, 250, 499, 500))
    each = max(1, min(size, chat_web.MAX_CONVERSATION_LENGTH) // count - rng.choice((0, 0, 60)))
    text = texts(rng, min(each, chat_web.MAX_MESSAGE_LENGTH))
    other = rng.choice(("user", "assistant"))
    messages = [{"role": ("user", other)[number % 2], "content": text} for number in range(count)]
    stops = {"stop": [text[:255] + kind for kind in "abcd"]} if rng.random() < 0.3 else {}
    return json.dumps({"messages": messages} | stops, ensure_ascii=rng.random() < 0.5).encode("utf-8")


def parts(rng: random.Random, size: int) -> bytes:
    many = [{"type": "text", "text": texts(rng, rng.choice((0, 1, 3)))}] * (size // 40)
    return json.dumps({"messages": [{"role": "user", "content": many}] * rng.choice((1, 10))}).encode()


def tokens(rng: random.Random, size: int) -> bytes:
    """Tokens to go on with, or to begin the reply with."""
    given = [rng.choice((0, 70, 10**6))] * (min(size, rng.choice((600, 90_000))) // 3)
    text = {"messages": [{"role": "user", "content": "x"}]}
    fields = rng.choice((text | {"begin": given}, {"prompt": given}, {"prompt": [given]}))
    return json.dumps(fields | {"details": rng.random() < 0.5}, separators=(",", ":")).encode()


def values(rng: random.Random, size: int) -> bytes:
    """A list of one kind of value, again and again."""
    digits = str(rng.getrandbits(rng.choice((3, 60, 900, 3000))))
    value = rng.choice((digits, digits[:18] + "e200", "-0.0", '""', '"ab"', "null", "true", "[]", "{}",
                        '{"a":1}', json.dumps(texts(rng, rng.choice((2, 30, 3000))))))  # fmt: skip
    return b'{"x":[' + f"{value},".encode() * (size // (len(value) + 1)) + b"1]}"


def keys(rng: random.Random, size: int) -> bytes:
    value, width = rng.choice(("0", "null", '""', "[]")), rng.choice((1, 8, 40))
    names = (f"{number:x}".rjust(width, "k") for number in range(size // (width + len(value) + 4)))
    return b"{" + ",".join(f'"{name}":{value}' for name in names).encode() + b"}"


def nested(rng: random.Random, size: int) -> bytes:
    depth = rng.choice((2, 10, 300, 900, size // 2))
    opened, closed = rng.choice((("[", "]"), ('{"a":', "1}")))
    one = opened * depth + ("" if closed == "]" else "1") + closed[-1] * depth
    return b'{"x":[' + f"{one},".encode() * (size // (len(one) + 1)) + b"1]}"


def strings(rng: random.Random, size: int) -> bytes:
    piece = rng.choice((r"\n", r"\u00e9", r"\ud83d\ude42", r"\ud83d", "é", "🙂", "a", "\\\\", " "))
    return b'{"x":"' + piece.encode("utf-8") * (size // len(piece.encode())) + b'"}'


def blanks(rng: random.Random, size: int) -> bytes:
    return rng.choice((b" ", b"\n", b"\t")) * size + b"{}"


def bytes_of_any_kind(rng: random.Random, size: int) -> bytes:
    return rng.choice((rng.randbytes(size), b"\xff" * size, b"\0" * size, b"-" * size, b"1" * size))


STRUCTURES = [conversation, parts, tokens, values, keys, nested, strings, blanks, bytes_of_any_kind]


def chunks(rng: random.Random, body: bytes) -> bytes:
    """The body in chunks, small ones as far as they are allowed."""
    size, more = max(1, -(-len(body) // rng.choice((1, chat_web.MAX_CHUNKS - 100)))), rng.choice((b"", b";" + b"x" * 200))
    cut = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x%s\r\n%s\r\n" % (len(part), more, part) for part in cut) + b"0\r\n\r\n"


def harmless(size: int) -> bytes:
    """A conversation in prose, as long as it may be, in as many bytes."""
    length = min(max(size - 200, 1), chat_web.MAX_CONVERSATION_LENGTH) // 4
    messages = [{"role": "user", "content": PROSE[: max(length, 1)]}] * 4
    body = json.dumps({"messages": messages, "note": ""})
    return body.replace('""', '"' + "x" * (size - len(body)) + '"').encode()[:size]


class Costs:
    """Answers bodies in this process, and counts the processor's milliseconds for each."""

    def __init__(self):
        demo = checkpoint.read_tokenizer(ROOT / "demo" / "tokenizer" / "tokenizer.pkl")
        text = demo.encoding.decode_single_token_bytes
        ranks = {text(rank): rank for rank in range(demo.size - len(demo.special))}
        tables = {"mergeable_ranks": ranks, "special_tokens": demo.special}
        encoding = tiktoken.Encoding("bodies", pat_str=PATTERN, **tables)
        said = [*encoding.encode_ordinary("a" * 40), demo.special["<|assistant_end|>"]]
        tokenizer = checkpoint.Tokenizer(encoding, demo.special)
        self.app = scripted_app(1, tokenizer, ScriptedEngine(said))
        self.known: dict[int, float] = {}  # size -> what a harmless body costs

    def of(self, data: bytes, path: str = "/chat/completions", chunked: bool = False) -> float:
        length = {"HTTP_TRANSFER_ENCODING": "chunked"} if chunked else {"CONTENT_LENGTH": str(len(data))}
        place = {"REQUEST_METHOD": "POST", "PATH_INFO": path, "SERVER_NAME": "x", "SERVER_PORT": "1"}
        environ = place | length | {"wsgi.input": io.BytesIO(data), "wsgi.url_scheme": "http"}
        began = time.process_time()
        response = self.app(environ, lambda status, headers, error=None: None)
        for _ in response:
            pass
        response.close()
        return 1000 * (time.process_time() - began)

    def ratio(self, data: bytes, path: str, chunked: bool) -> float:
        """Of the least of three times each; a neighbour's work counts for nothing."""
        size = min(max(len(data) >> 12, 1) << 12, LARGEST)
        if size not in self.known:
            self.known[size] = min(self.of(harmless(size)) for _ in range(3))
        return min(self.of(data, path, chunked) for _ in range(3)) / self.known[size]


def candidates(rng: random.Random) -> Iterator[tuple]:
    while True:
        structure, seed = rng.choice(STRUCTURES), rng.getrandbits(32)
        yield structure, seed, rng.choice((4_000, 20_000, 40_000, 100_000, 300_000, LARGEST - 100))


def search(seconds: float) -> dict[str, tuple]:
    """Structure -> the worst ratio, and the body's size and beginning."""
    costs, rng, worst, end = Costs(), random.Random(1), {}, time.monotonic() + seconds
    for structure, seed, size in candidates(rng):
        if time.monotonic() > end:
            return worst
        body = structure(random.Random(seed), size)[:LARGEST]
        path, chunked = rng.choice(("/chat/completions", "/v1/chat/completions")), rng.random() < 0.3
        data = chunks(rng, body) if chunked else body
        ratio = costs.ratio(data, path, chunked)
        if ratio > worst.get(structure.__name__, (0,))[0]:
            ratio = min(ratio, costs.ratio(data, path, chunked))  # once more: it may have been the machine
        if ratio > worst.get(structure.__name__, (0,))[0]:
            worst[structure.__name__] = ratio, len(data), path, body[:40]


def main() -> None:
    logging.disable()
    worst = search(float(sys.argv[1]) if len(sys.argv) > 1 else 60)
    for name, (ratio, size, path, start) in sorted(worst.items(), key=lambda entry: -entry[1][0]):
        print(f"{name:20} {ratio:6.1f} times a harmless body of {size:,} bytes, to {path}: {start}...")
    assert max(ratio for ratio, *_ in worst.values()) <= 10


if __name__ == "__main__":
    main()
