"""What the tests in this folder share: stand-ins of test_chat_web.py, and a page server that misbehaves."""

import functools
import http.server
import importlib
import json
import os
import re
import shutil
import subprocess
import threading
import time

import pytest

import chat_web
from test_chat_web import (  # noqa: F401
    END,
    EndlessEngine,
    FLOAT32,
    HERE,
    SEED_FLAGS,
    ScriptedEngine,
    TOKENIZER,
    ask,
    body,
    change,
    config_of,
    connect,
    events,
    fetch,
    make_app,
    random_weights,
    refusal,
    request_bytes,
    run,
    serving,
    started,
    text_of,
    until,
    write_pair,
    write_tokenizer,
)

try:
    from playwright.sync_api import expect

    expect.set_options(timeout=15000)
except ImportError:  # then the tests in a browser skip
    expect = None


def with_descriptors(count: int) -> str:
    """The server's program, as a system runs it that allows it so many file descriptors."""
    limit = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({count}, {count}))"
    return f"import resource, chat_web; {limit}; chat_web.main()"


def package(name: str):
    """A package that CI installs, and others may not have: without it what asks for it skips."""
    return importlib.import_module(name) if os.environ.get("CI") else pytest.importorskip(name)


def debian(program: str) -> str:
    """The path of a program that CI installs, and others may not have: without it what asks for it skips."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if path is None:
        assert not os.environ.get("CI"), f"CI needs {program}"
        pytest.skip(f"there is no {program} here", allow_module_level=True)
    return path


def run_quietly(*command) -> None:
    subprocess.run([*map(str, command)], check=True, capture_output=True)


# ------------------------------------------------------------------------------------------------------------
# A page server that does as it is told, and can misbehave at any byte

PAGE_CONFIG = {
    "model": "d20, sft, step 650",
    "device": "cuda",
    "gpus": 4,
    "context": 2048,
    "demo": False,
    "sampling": {
        "temperature": {"default": 0.8, "low": 0.0, "high": 2.0},
        "top_k": {"default": 50, "low": 0, "high": 200},
        "max_tokens": {"default": 512, "low": 1, "high": 4096},
    },
    "limits": {"messages": 500, "message": 8000, "conversation": 32000},
}


class Event(dict):
    """One event of the stream, as bytes."""

    def __bytes__(self):
        return f"data: {json.dumps(self, ensure_ascii=False)}\n\n".encode()


class Script:
    """What the next answers are.

    A step is text (a token), an Event, raw bytes, seconds to sleep, a threading.Event to wait for, or a Cut.
    An answer without `done` just ends.
    """

    def __init__(self):
        self.answers, self.requests, self.gone, self.lock = [], [], [], threading.Lock()
        self.health = {"status": "ok", "ready": True, "num_gpus": 4, "available_workers": 3}
        self.config, self.raw_config = PAGE_CONFIG, None

    def answer(self, *steps, done=True, status=200, headers=(), before=None, details=None):
        with self.lock:
            steps = [*steps, *([Event(done=True)] if done and not details else [])]
            self.answers.append(
                dict(steps=steps, status=status, headers=dict(headers), before=before, details=details)
            )

    def tell(self, *tokens, seed=123, finish="stop", forced=(), dropped=0):
        """A reply of these tokens with all that a request for details asks for."""
        details = dict(seed=seed, finish=finish, forced=forced, dropped=dropped)
        self.answer(*tokens, details=details)

    def refuse(self, status, detail, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers = {"Content-Type": "application/json"} | headers
        self.answer(json.dumps({"detail": detail}).encode(), done=False, status=status, headers=headers)

    def next(self):
        with self.lock:
            if self.answers:
                return self.answers.pop(0)
            hello = ["Hello", " there", ".", Event(done=True)]
            return dict(steps=hello, status=200, headers={}, before=None, details=None)


WORDS: list[str] = []  # the stand-in's tokens: a token's number is its place


def token_of(text: str) -> int:
    if text not in WORDS:
        WORDS.append(text)
    return WORDS.index(text)


def facts_of(text: str) -> dict:
    """A token of probability 0.5, and four that are less likely."""
    others = [" the", " a", "\n", "<|assistant_end|>"]
    likely = zip([text, *others], (-0.693, -1.6, -2.3, -3.9, -9.2))
    return {
        "id": token_of(text),
        "logprob": -0.693,
        "alternatives": [[token_of(each), each, logprob] for each, logprob in likely],
    }


def told_of(request: dict, steps: list, details: dict) -> list:
    """The events of a reply to a request for details: what was read, the tokens, why it ended."""
    cut = functools.partial(re.findall, r"\s?\w+|\s|[^\w\s]")
    if "prompt" in request:
        given = request["prompt"]
        begun = cut(given) if isinstance(given, str) else [WORDS[token] for token in given[1:]]
        read = ["<|bos|>"]
    else:
        messages = request["messages"]
        begun = [WORDS[token] for token in request.get("begin", [])]
        if messages[-1]["role"] == "assistant":
            begun = cut(messages[-1]["content"])
            messages = messages[:-1]
        read = ["<|bos|>"]
        for message in messages:
            read += [f"<|{message['role']}_start|>", *cut(message["content"]), f"<|{message['role']}_end|>"]
        read.append("<|assistant_start|>")
    prompt = [{"id": token_of(text), "token": text} for text in read]
    prompt += [{"token": text} | facts_of(text) for text in begun]
    seed = details["seed"] if request.get("seed") is None else request["seed"]
    told = [Event(prompt=prompt, dropped=details["dropped"], begun=len(begun), seed=seed)]
    for step in steps:
        forced = {"forced": True} if step in details["forced"] else {}
        told.append(Event(token=step, gpu=0, **facts_of(step), **forced) if isinstance(step, str) else step)
    if details["finish"] == "stop":
        told.append(Event(facts_of("<|assistant_end|>"), token="", gpu=0))
    return [*told, Event(done=True, finish=details["finish"], seed=seed)]


def opening(read: int, dropped: int = 0) -> Event:
    """The first event of a reply before which so many tokens were read."""
    return Event(prompt=[{"id": 1, "token": "x"}] * read, begun=0, dropped=dropped, seed=123)


class Cut:
    """Ends the connection as a killed server does."""


def encode(step):
    return bytes(Event(token=step, gpu=0)) if isinstance(step, str) else bytes(step)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 0

    def log_message(self, *_):
        pass

    def reply(self, status, data, kind, **headers):
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": len(data),
            "Connection": "close",
            **headers,
        }.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        script = self.server.script
        if self.path == "/health":
            status = 200 if script.health["ready"] else 503
            return self.reply(status, json.dumps(script.health).encode(), "application/json")
        if self.path != "/":
            return self.reply(404, b'{"detail": "There is no such page."}', "application/json")
        page = chat_web.Page(HERE / "ui.html")
        if script.raw_config is not None:
            page.html = page.html.replace(page.SLOT, page.SLOT.replace("{}", script.raw_config))
        self.reply(200, page.response(script.config).data, "text/html; charset=utf-8", **page.headers)

    def do_POST(self):
        script = self.server.script
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        script.requests.append(request)
        answer = script.next()
        if answer["before"]:
            answer["before"].wait(30)
        self.close_connection = True
        try:
            self.send_response(answer["status"])
            headers = {
                "Content-Type": "text/event-stream; charset=utf-8",
                "Connection": "close",
                "Transfer-Encoding": "chunked",
            }
            for name, value in (headers | answer["headers"]).items():
                self.send_header(name, str(value))
            self.end_headers()
            steps, details = answer["steps"], answer["details"]
            for step in told_of(request, steps, details) if details else steps:
                if isinstance(step, threading.Event):
                    self.wait(step)
                elif isinstance(step, (int, float)):
                    time.sleep(step)
                elif isinstance(step, Cut):
                    return
                else:
                    self.chunk(encode(step))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            script.gone.append(time.monotonic())

    def wait(self, gate):
        for _ in range(600):
            if gate.wait(0.05):
                return
            self.chunk(b": ping\n\n")  # finds out whether the reader has left

    def chunk(self, data):
        if data:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """Readers that leave are part of the play."""


# Small hands of the browser ---------------------------------------------------------------------------------
def open_page(context, script):
    """A page whose every uncaught error and policy violation fails the test that owns it."""
    page = context.new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))

    def hear(line):
        if "CSP" in line.text or "Content Security" in line.text:
            page.faults.append(line.text)

    page.on("console", hear)
    page.goto(script.url)
    expect(page.locator("#box")).to_be_visible()
    return page


def say(page, text):
    """On a phone Enter breaks the line, and the button sends."""
    page.locator("#box").fill(text)
    page.locator("#go").tap() if page.evaluate("TOUCH") else page.locator("#box").press("Enter")


def last(page):
    return page.locator(".row").last


def finished(page):
    until_true(page, "!busy() && frame === 0 && !rows.querySelector('.changed')")
    return page


def until_true(page, expression):
    """Polls from outside: the page's policy forbids the eval that wait_for_function needs."""
    deadline = time.monotonic() + 15
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(10)


def told(page, script, *steps, **more):
    """One whole exchange."""
    script.answer(*steps, **more)
    count = page.locator(".row").count()
    say(page, "Hi")
    expect(page.locator(".row")).to_have_count(count + 2)
    return finished(page)


def filled(page, count, content):
    """Puts that many messages into the conversation; content is JavaScript for the text of message i."""
    page.evaluate(f"""put({{ ...conversation(), messages: Array.from({{ length: {count} }},
        (_, i) => ({{ role: i % 2 ? "assistant" : "user", content: {content} }})) }})""")
    finished(page)


def upload(page, data, name="a.json"):
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    page.locator("#file").set_input_files({"name": name, "mimeType": "application/json", "buffer": text})


def titles(page):
    return page.locator("#list .open").all_text_contents()


FULL = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError') }"


PHONE = dict(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, device_scale_factor=2)
