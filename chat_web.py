"""A chat server for models trained with nanochat: python chat_web.py, then open http://localhost:8000.

A request on its way, in order, and who does the work:
    1. Connection, Server    bytes to a WSGI environ, within limits of time and size     (here, over werkzeug)
    2. read_json, Chat       checked and clamped; a client's mistake ends here in 400    (here)
    3. Tokenizer.fit_prompt  conversation to prompt tokens; old turns make room          (checkpoint.py)
    4. Pool.take             waits for a worker, one per GPU: first come, first served   (here)
    5. Engine.generate       prompt tokens to reply tokens, one by one                   (engine.py)
    6. Tokenizer.stream_text tokens to text, whole characters only                       (checkpoint.py)
    7. event                 text to server-sent events; the worker goes back            (here)

It does no authentication, no TLS and no batching: put a proxy before it for the first two. Importing it
imports neither torch nor the model code, so that --help is instant.
"""

import argparse
import base64
import contextlib
import errno
import gc
import hashlib
import http.client
import io
import itertools
import json
import logging
import math
import os
import queue
import re
import select
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from werkzeug.exceptions import BadRequest, HTTPException, InternalServerError, LengthRequired, NotFound
from werkzeug.exceptions import MethodNotAllowed, RequestEntityTooLarge, RequestTimeout, ServiceUnavailable
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wrappers import Request, Response

log = logging.getLogger("chat_web")

# ---- Limits: the command line, the errors, the page and the README read them here --------------------------

SAMPLING = {
    # name         default   low   high    why the ends are where they are
    "temperature": (0.8,     0.0,  2.0),   # 0 is greedy; above 2 there is only noise
    "top_k":       (50,      0,    200),   # 0 keeps the whole vocabulary
    "max_tokens":  (512,     1,    4096),  # and never more than the context has left
    "top_p":       (1.0,     0.0,  1.0),   # 1 keeps everything
    "repetition_penalty": (1.0, 1.0, 2.0),  # 1 is none
}  # fmt: skip
FLAGS = dict(zip("tkm", SAMPLING))  # those that the command line knows too
MAX_SEED = 2**31 - 1  # that the page offers; without one it is random
ALTERNATIVES, MAX_ALTERNATIVES = 5, 20  # of a token: on the page and in completions, and in OpenAI's chats
MAX_STOPS, MAX_STOP_LENGTH = 16, 256  # stop sequences, and characters of one
MAX_MESSAGES = 500
MAX_MESSAGE_LENGTH = 8000  # characters of one message
MAX_CONVERSATION_LENGTH = 32000  # characters of all messages
MAX_HEAD = 2**17  # bytes, of request line and headers
MAX_BODY = 2**20  # bytes: 32,000 characters escaped as \uXXXX\uXXXX take 384,000
TOO_LARGE = f"the body may have {MAX_BODY} bytes at most"
MAX_VALUES = 40_000  # of [ { , and : in a body, text included: each value costs far more than its bytes
MAX_CHUNKS = 4096  # of a body that comes in chunks
MAX_CONNECTIONS = 512  # each is a thread
MAX_REFUSED = 128  # connections beyond those that are still being told so
SPARE_DESCRIPTORS = 16  # of those that the system allows, for all but connections
MAX_WAITING = 64  # requests that wait for a worker; the next one is told to come back
WAIT_SECONDS = 50  # for a worker; proxies give up at 60
REQUEST_SECONDS = 20  # for a request's head and body together
DRAINED = 4 * MAX_BODY  # bytes that are read after a refusal, so that it arrives
SEND_SECONDS = 30  # a reply may wait for its reader this long, in all
SHUTDOWN_SECONDS = 10  # running replies may still end
LOOK_SECONDS = 0.001  # between two looks at whether the reader is still there; most tokens take longer
RETRY_SECONDS = 5  # what Retry-After tells
SAME_CONVERSATION = 32  # tokens in common; any two share the first few, and it is not worth a worker's memory

# ---- What a request asks for -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chat:
    """A request that has been checked, and how its protocol writes a reply; this one is the page's."""

    lenient = False  # its messages are as OpenAI's clients have them
    completes = None  # it has a prompt in place of messages; None: either

    messages: list[dict]
    max_tokens: int
    sampling: dict  # what Engine.generate takes by these names
    given: str | list[int] | None = None  # what the model is to go on with, instead of messages
    begin: list[int] = ()  # the tokens that the reply begins with
    alternatives: int | None = None  # of each token; a number asks for the tokens' probabilities as well
    stop: tuple[str, ...] = ()
    streamed: bool = True
    skip_special_tokens: bool = False  # leaves out the calculator's blocks
    looks_back: bool = False  # the tokens of text or reply that are in the prompt have probabilities too
    echo: bool = False  # the reply begins with the prompt

    @classmethod
    def parse(cls, body: dict, defaults: dict) -> "Chat":
        """Raises BadRequest for what no reading makes sense of; numbers out of range are clamped."""
        sampling = {name: clamp(name, body.get(name), usual) for name, usual in defaults.items()}
        seed, details = typed(body, "seed", int, None), typed(body, "details", bool, False)
        completes = "prompt" in body and "messages" not in body if cls.completes is None else cls.completes
        return cls(
            [] if completes else parse_messages(body.get("messages"), cls.lenient),
            sampling.pop("max_tokens"),
            sampling | {"seed": None if seed is None else seed % 2**63},  # torch's range
            given=parse_given(body.get("prompt")) if completes else None,
            begin=parse_tokens("begin", body.get("begin") or []),
            alternatives=ALTERNATIVES if details else None,
            looks_back=details,
        )

    def prompt(self, tokenizer, context: int) -> tuple[list[int], int, int]:
        """The tokens that the model reads, how many come before text or reply, and messages without room."""
        tokens, start, dropped = self.given, 0, 0
        if isinstance(self.given, str):
            tokens, start = [tokenizer.special["<|bos|>"], *tokenizer.encode(self.given)], 1
        if self.messages:
            try:
                room = max(context - len(self.begin), 0)
                tokens, dropped = tokenizer.fit_prompt(self.messages, room, self.max_tokens)
            except ValueError as error:
                raise BadRequest(str(error)) from None
            start = len(tokens) - tokens[::-1].index(tokenizer.special["<|assistant_start|>"])
        tokens = [*tokens, *self.begin]
        if len(tokens) + min(self.max_tokens, 1) > context:
            raise BadRequest(f"the prompt takes {len(tokens)} tokens, in a context of {context}")
        if not 0 <= min(tokens) <= max(tokens) < tokenizer.size:
            raise BadRequest(f"tokens are numbers from 0 to {tokenizer.size - 1}")
        return tokens, start, dropped

    def write(self, pieces: Iterator[str], reply: "Reply", model: str) -> Iterator[bytes]:
        """The reply's pieces of text as events. A failure is the last one, and there is no `done` then."""
        yield b""  # sends the headers: the client may know that its turn has come
        try:
            first = next(pieces, "")  # the prompt has been read; an empty reply has none
            if self.alternatives is not None:
                yield event(reply.opening())
            for text in itertools.chain([first], pieces):
                facts = reply.facts(reply.fresh.pop(0)) if reply.fresh else {}
                yield event({"token": text, "gpu": reply.gpu} | facts) if text or facts else b""
            for token in reply.fresh:  # the stop token, which has no text
                yield event({"token": "", "gpu": reply.gpu} | reply.facts(token))
            ending = {} if self.alternatives is None else {"finish": reply.finish, "seed": reply.seed}
            yield event({"done": True} | ending)
        except HTTPException as failure:
            yield event({"error": failure.description})


def clamp(name: str, value, default):
    """A sampling value within its limits; None is the default."""
    if value is None:
        return default
    _, low, high = SAMPLING[name]
    whole = type(low) is int
    if type(value) not in (int, float) or not -math.inf < value < math.inf or whole and value % 1:
        raise BadRequest(f"{name} must be a {'whole ' if whole else ''}number from {low} to {high}")
    return type(low)(min(max(value, low), high))


def typed(body: dict, name: str, kind: type, default, most: int | None = None):
    """body[name] if it is of this kind, and a number from 0 to `most`; None is the default."""
    value = body.get(name)
    if value is None:
        return default
    if type(value) is not kind:
        raise BadRequest(f"{name} must be of type {kind.__name__}")
    if most is not None and not 0 <= value <= most:
        raise BadRequest(f"{name} is from 0 to {most} here")
    return value


def parse_given(prompt) -> str | list[int]:
    """The text or the tokens that a completion goes on with."""
    if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
        prompt = prompt[0]  # a batch of one
    if not prompt or not isinstance(prompt, (str, list)):
        raise BadRequest("prompt must be a text, or a list of tokens, and not empty")
    if isinstance(prompt, list):
        return parse_tokens("prompt", prompt)
    check_text("the prompt", prompt, MAX_CONVERSATION_LENGTH)
    return prompt


def parse_tokens(name: str, tokens) -> list[int]:
    if not isinstance(tokens, list) or not {*map(type, tokens)} <= {int}:
        raise BadRequest(f"{name} must be a list of tokens, which are whole numbers")
    return tokens


def check_text(what: str, text: str, limit: int) -> None:
    if len(text) > limit:
        raise BadRequest(f"{what} has {len(text)} characters: {limit} is the limit")
    if re.search("[\ud800-\udfff]", text):
        raise BadRequest(f"{what} holds half a surrogate pair, which is no character")


def parse_messages(messages, lenient: bool = False) -> list[dict]:
    """The messages as the tokenizer takes them: one system message in front, if any, then the others."""
    if not isinstance(messages, list) or not messages:
        raise BadRequest('messages must be a list of {"role": ..., "content": ...} objects, and not empty')
    if len(messages) > MAX_MESSAGES:
        raise BadRequest(f"{len(messages)} messages are too many: {MAX_MESSAGES} is the limit")
    checked = [parse_message(number, message, lenient) for number, message in enumerate(messages, 1)]
    total = sum(len(message["content"]) for message in checked)
    if total > MAX_CONVERSATION_LENGTH:
        raise BadRequest(f"{total} characters are too many: {MAX_CONVERSATION_LENGTH} is the limit of all")
    system = [message["content"] for message in checked if message["role"] == "system" and message["content"]]
    rest = [message for message in checked if message["role"] != "system"]
    if not rest or system and all(message["role"] != "user" for message in rest):
        raise BadRequest("with a system message there must be one of the user's, if only as the last message")
    return [{"role": "system", "content": "\n\n".join(system)}, *rest] if system else rest


def parse_message(number: int, message, lenient: bool) -> dict:
    if not isinstance(message, dict):
        raise BadRequest(f"message {number}: role and content are missing")
    message = plain(number, message) if lenient else message
    role, content = message.get("role"), message.get("content")
    if role not in ("user", "assistant") and (role != "system" or number > 1 and not lenient):
        where = "" if lenient else ", in the first one,"
        raise BadRequest(f'message {number}: role must be "user", "assistant" or{where} "system"')
    if not isinstance(content, str) or not content and (role == "user" or not lenient):
        raise BadRequest(f"message {number}: content must be a text, and not empty")
    check_text(f"message {number}", content, MAX_MESSAGE_LENGTH)
    return {"role": role, "content": content}


class ClientGone(Exception):
    """The client hung up; there is nobody to answer."""


def read_json(environ: dict) -> dict:
    """A request's body as a JSON object, whatever its content type says: curl -d sends none of JSON's."""
    body = read_body(environ)
    if len(body) - len(body.translate(None, b"[{,:")) > MAX_VALUES:  # counted before any is built
        raise BadRequest(f"the JSON has more than {MAX_VALUES} brackets, commas and colons")
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        why, _, _ = str(error).partition("; use sys")  # which Python advises for numbers of 5,000 digits
        raise BadRequest(f"the body is not valid JSON in UTF-8: {why}") from None
    if not isinstance(value, dict):
        raise BadRequest('the body must be a JSON object: {"messages": [...]}')
    return value


def read_body(environ: dict) -> bytes:
    """All of a request's body. It then leaves the environ: of what stays there the rest is still to come."""
    length, coding = environ.get("CONTENT_LENGTH", ""), environ.get("HTTP_TRANSFER_ENCODING")
    if coding is not None and (length or coding.lower() != "chunked"):
        raise BadRequest("a body has a Content-Length or Transfer-Encoding: chunked, and nothing else")
    if coding is None and not length:
        raise LengthRequired("the request must say its Content-Length, or come in chunks")
    if coding is None and not re.fullmatch("[0-9]+", length):  # int() would take "+2", " 2" and "2_0"
        raise BadRequest("Content-Length must be one number")
    if len(length) > 18 or int(length or 0) > MAX_BODY:
        raise RequestEntityTooLarge(TOO_LARGE)
    try:
        stream = environ["wsgi.input"]
        body = read_chunks(stream) if coding else stream.read(int(length))
    except TimeoutError:
        raise RequestTimeout(f"the request did not arrive within {REQUEST_SECONDS} seconds") from None
    except OSError:
        raise ClientGone from None
    if not coding and len(body) < int(length):
        raise BadRequest(f"the body ended after {len(body)} of {length} bytes")
    del environ["wsgi.input"]
    return body


def read_chunks(stream) -> bytes:
    """A body in chunks (RFC 9112, 7.1). Werkzeug's own decoder believes whatever size a chunk claims."""
    parts, left = [], MAX_BODY
    for _ in range(MAX_CHUNKS):
        head = re.fullmatch(rb"([0-9a-fA-F]{1,16})[ \t]*(;.*)?\r\n", stream.readline(256))
        size = int(head[1], 16) if head else 0
        if size > left:
            raise RequestEntityTooLarge(TOO_LARGE)
        if head and not size:
            any(stream.readline(256) in (b"\r\n", b"") for _ in range(100))  # trailers, up to an empty line
            return b"".join(parts)
        parts.append(stream.read(size))
        left -= size
        if not head or len(parts[-1]) < size or stream.readline(2) != b"\r\n":
            raise BadRequest("the body ended early, or in chunks that are malformed")
    raise BadRequest(f"the body comes in more than {MAX_CHUNKS} chunks")


def no_constant(name: str):
    raise ValueError(f"{name} is not JSON")


# ---- Workers -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Worker:
    """One replica of the model; whoever has taken it has it alone."""

    gpu_id: int
    device: str
    engine: object


class Pool:
    """The workers. Who finds none idle waits in line, first come, first served.

    Each waits on a queue of its own: on one for all, who looks after its client in between loses its turn.
    """

    def __init__(self):
        self.workers: list[Worker] = []
        self.idle: queue.Queue[Worker] = queue.Queue()
        self.line: dict[queue.Queue[Worker], str] = {}  # who waits, and from which address
        self.lock = threading.Lock()  # a free worker and a request that begins to wait never miss each other

    def add(self, worker: Worker) -> None:
        self.workers.append(worker)
        self.give_back(worker)

    def take(self, address: str, preference: Callable[[Worker], int], check: Callable[[], None]) -> Worker:
        """The idle worker with the highest preference, or the next that comes back.

        ServiceUnavailable if too many wait, or too long, or for nothing. `check` may raise too.
        """
        with self.lock:
            if idle := [self.idle.get_nowait() for _ in range(self.idle.qsize())]:
                best = max(idle, key=preference)  # of equals the one that has been idle longest
                for worker in idle:
                    if worker is not best:
                        self.idle.put(worker)
                return best
            if len(self.line) >= MAX_WAITING or [*self.line.values()].count(address) >= MAX_WAITING // 2:
                raise busy(f"all workers are busy, and {MAX_WAITING} requests wait or half as many of yours")
            place: queue.Queue[Worker] = queue.Queue()
            self.line[place] = address
        try:
            for _ in range(WAIT_SECONDS * 10):
                with contextlib.suppress(queue.Empty):
                    return place.get(timeout=0.1)
                check()
                if not self.workers:
                    raise busy("no worker is left")
            raise busy(f"no worker was free for {WAIT_SECONDS} seconds")
        except BaseException:
            with self.lock:
                came = self.line.pop(place, None) is None  # a worker, in this very moment
            if came:
                self.give_back(place.get_nowait())
            raise

    def give_back(self, worker: Worker) -> None:
        with self.lock:
            if worker not in self.workers:
                return  # it was retired while it was out
            if self.line:
                place = next(iter(self.line))
                del self.line[place]
                place.put(worker)
            else:
                self.idle.put(worker)

    def retire(self, worker: Worker) -> None:
        """A worker that is out does not come back."""
        with self.lock:
            self.workers.remove(worker)

    @property
    def available(self) -> int:
        with self.lock:  # `take` empties the queue for a moment, to choose
            return self.idle.qsize()

    def all_idle(self) -> bool:
        return self.available >= len(self.workers)


def busy(reason: str) -> ServiceUnavailable:
    return ServiceUnavailable(f"{reason}; try again in a few seconds", retry_after=RETRY_SECONDS)


def hung_up(sock: socket.socket | None) -> bool:
    """Whether the other end has closed its side, without reading or waiting. None is an in-process client."""
    if sock is None:
        return False
    try:
        if hasattr(select, "POLLRDHUP"):
            poll = select.poll()
            poll.register(sock, select.POLLRDHUP)  # errors and full hang-ups are reported unasked
            return bool(poll.poll(0))
        readable, _, _ = select.select([sock], [], [], 0)  # macOS and Windows: unread bytes hide the end here
        return bool(readable) and sock.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):  # reset, or closed already
        return True


# ---- The application ---------------------------------------------------------------------------------------

CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS",
    "Access-Control-Allow-Headers": "*, Authorization",
    "Access-Control-Expose-Headers": "X-Dropped-Messages, X-Prompt-Tokens, Retry-After",
    "Access-Control-Max-Age": "86400",
}
READ, SEND = ["GET", "HEAD", "OPTIONS"], ["POST", "OPTIONS"]  # what paths answer
NO_CACHE = "no-cache, no-transform"  # proxies that compress would hold events back


class ChatServer:
    """The WSGI application. It answers from the first moment; once `open` has been called it also chats."""

    def __init__(self, settings: "Settings", page: "Page"):
        self.settings = settings
        self.page = page
        self.pool = Pool()
        self.tokenizer = None
        self.name: str | None = None  # as people read it
        self.context: int | None = None  # tokens
        self.demo = self.base = False
        self.created = int(time.time())
        self.draining = threading.Event()  # no new replies
        self.stopping = threading.Event()  # and no more of the running ones
        self.routes = {
            "/": (READ, self.on_page),
            "/chat/completions": (SEND, self.on_chat),
            "/health": (READ, self.on_health),
            "/stats": (READ, self.on_stats),
            "/v1/chat/completions": (SEND, lambda request: self.on_chat(request, OpenAIChat)),
            "/v1/completions": (SEND, lambda request: self.on_chat(request, OpenAICompletion)),
            "/v1/models": (READ, self.on_models),
        }

    def open(self, name: str, tokenizer, demo: bool = False, base: bool = False) -> None:
        """All workers are in the pool: chats are welcome."""
        self.name, self.demo, self.base = name, demo, base
        self.model_id = re.sub(r"[^\w.-]+", "-", name)  # as OpenAI's clients have it
        self.context = self.pool.workers[0].engine.context
        self.tokenizer = tokenizer

    @property
    def ready(self) -> bool:
        """Whether there is anyone to answer: loaded, and not every GPU has failed since."""
        return bool(self.tokenizer and self.pool.workers)

    def __call__(self, environ, start_response):
        request = Request(environ)
        try:
            response = self.dispatch(request)
        except HTTPException as error:
            response = refusal(request, error)
        except ClientGone:
            response = Response(status=499)  # nobody reads it; the number is nginx's, for the log
        except Exception:  # werkzeug would take an OSError of ours for a client that left, and say nothing
            log.exception("a fault of the server's own")
            response = refusal(request, InternalServerError("a fault of the server's own; see its log"))
        response.headers.extend(CORS)
        if not hasattr(request, "reply"):  # which writes its own line, at its end
            line = ascii(f"{request.method} {request.path}"[:200])
            log.info("%s %s %d", request.remote_addr or "-", line, response.status_code)
        return response(environ, start_response)

    def dispatch(self, request: Request) -> Response:
        path = request.path.rstrip("/") or "/"
        path = "/v1/models" if path.startswith("/v1/models/") else path
        if path not in self.routes:
            raise NotFound(f"there is nothing here; there is {', '.join(self.routes)}")
        allowed, handler = self.routes[path]
        if request.method == "OPTIONS":
            return Response(status=204, headers={"Allow": ", ".join(allowed)})
        if request.method not in allowed:
            raise MethodNotAllowed(allowed, f"{request.path} answers {' and '.join(allowed)}")
        return handler(request)

    def on_chat(self, request: Request, protocol: type[Chat] = Chat) -> Response:
        """A reply, streamed or whole. What can be refused is refused before a worker is taken."""
        if not self.ready:
            raise busy("every GPU has failed" if self.tokenizer else "the model is still loading")
        self.check(None, self.draining)
        chat = protocol.parse(read_json(request.environ), self.settings.sampling)
        prompt, start, dropped = chat.prompt(self.tokenizer, self.context)
        reply = Reply(request.remote_addr or "-", len(chat.messages), dropped, prompt, self.tokenizer, start)
        pieces = self.pieces(chat, reply, request.environ.get("werkzeug.socket"))
        next(pieces)  # it has its worker, and gives it back however it ends, even if nobody reads it
        request.reply = reply
        if chat.streamed:
            response = Response(chat.write(pieces, reply, self.model_id), mimetype="text/event-stream")
            response.call_on_close(pieces.close)
        else:
            response = json_response(chat.whole(pieces, reply, self.model_id))
        headers = {"Cache-Control": NO_CACHE, "X-Accel-Buffering": "no"}  # the second is nginx's
        response.headers.extend(headers | {"X-Dropped-Messages": dropped, "X-Prompt-Tokens": len(prompt)})
        return response

    def check(self, sock: socket.socket | None, closing: threading.Event) -> None:
        """Raises what ends a request early: its client's leaving, or the server's."""
        if hung_up(sock):
            raise ClientGone
        if closing.is_set():
            raise busy("the server is shutting down")

    def pieces(self, chat: Chat, reply: "Reply", sock: socket.socket | None) -> Iterator[str]:
        """Waits for a worker, yields "", and then the reply's text, a piece for every token, maybe "".

        The worker goes back however this ends. Once it is there, whatever fails is an HTTPException, whose
        sentence a stream that has begun passes on.
        """

        def shared_tokens(worker: Worker) -> int:
            tokens = worker.engine.shared_prefix(reply.prompt)
            return tokens if tokens >= SAME_CONVERSATION else 0

        worker = self.pool.take(reply.client, shared_tokens, lambda: self.check(sock, self.draining))
        if self.draining.is_set():  # only a worker that is out by then does a shutdown wait for
            self.pool.give_back(worker)
            raise busy("the server is shutting down")
        try:
            reply.gpu = worker.gpu_id
            yield ""
            yield from self.texts(chat, reply, worker.engine, sock)
        except ClientGone:  # or it closed its sending side only, and reads this
            raise BadRequest("the connection was closed from the client's side") from None
        except HTTPException:
            reply.finish = "shutdown"
            raise
        except Exception as error:
            reply.finish = "error"
            log.exception("the engine on %s failed", worker.device)
            traceback.clear_frames(error.__traceback__)  # which hold what the engine was computing with
            self.examine(worker)
            raise InternalServerError("the model failed on this request; the server's log says why") from None
        finally:
            self.pool.give_back(worker)
            log.info("%s", reply)

    def texts(self, chat: Chat, reply: "Reply", engine, sock: socket.socket | None) -> Iterator[str]:
        """The reply's tokens as the engine gives them, and their text, as far as it is to be seen."""
        looked = -math.inf

        def check() -> None:
            nonlocal looked
            if time.monotonic() >= looked + LOOK_SECONDS:
                looked = time.monotonic()
                self.check(sock, self.stopping)

        check()  # the client may have left while it waited
        prompt = reply.prompt
        known = len(prompt) if chat.alternatives is None or not chat.looks_back else reply.start
        how = chat.sampling | {"details": chat.alternatives, "echo": known, "check": check}
        tokens = engine.generate(prompt, chat.max_tokens, **how)
        reply.prompt = [*prompt[:known], *itertools.islice(tokens, len(prompt) - known)]
        if chat.echo:
            reply.fresh += reply.prompt[known:]
            yield self.tokenizer.decode(prompt[reply.start :])
        texts = self.tokenizer.stream_text(reply.watch(engine, tokens), prompt)
        if chat.skip_special_tokens:
            texts = reply.without_tools(texts, chat.given is not None)
        for text in reply.until(chat.stop, texts):
            yield text
            check()
        reply.finish = "stop" if reply.stopped or reply.last_token in self.tokenizer.stops else "length"

    def examine(self, worker: Worker) -> None:
        """After a failure: a worker whose engine still computes goes on, another one leaves the pool."""
        mode = worker.engine.mode
        try:
            worker.engine.restart()
            if worker.engine.mode != mode:
                log.warning("%s goes on: %s", worker.device, worker.engine.mode)
        except Exception:
            self.pool.retire(worker)
            log.exception("%s is lost; %d workers are left", worker.device, len(self.pool.workers))

    def on_page(self, request: Request) -> Response:
        rows = SAMPLING | {"seed": (None, 0, MAX_SEED)}
        return self.page.response({
            "model": self.name,
            "device": next((worker.device.partition(":")[0] for worker in self.pool.workers), None),
            "gpus": self.settings.num_gpus,
            "context": self.context,
            "demo": self.demo,
            "base": self.base,
            "dtype": self.settings.dtype,
            "sampling": {name: {"default": self.settings.sampling.get(name, usual), "low": low, "high": high}
                         for name, (usual, low, high) in rows.items()},
            "limits": {"messages": MAX_MESSAGES, "message": MAX_MESSAGE_LENGTH,
                       "conversation": MAX_CONVERSATION_LENGTH},
        })  # fmt: skip

    def on_health(self, request: Request) -> Response:
        gpus, available = self.settings.num_gpus, self.pool.available
        report = {"status": "ok", "ready": self.ready, "num_gpus": gpus, "available_workers": available}
        return json_response(report, 200 if report["ready"] else 503)

    def on_stats(self, request: Request) -> Response:
        available, workers = self.pool.available, list(self.pool.workers)  # in this order none counts twice
        return json_response({
            "total_workers": len(workers),
            "available_workers": available,
            "busy_workers": len(workers) - available,
            "workers": [{"gpu_id": worker.gpu_id, "device": worker.device} for worker in workers],
        })  # fmt: skip

    def on_models(self, request: Request) -> Response:
        """The one model there is, in OpenAI's list or by its id."""
        if not self.ready:
            raise busy("there is no model yet")
        model = {"id": self.model_id, "object": "model", "created": self.created, "owned_by": "nanochat"}
        asked = request.path.removeprefix("/v1/models").strip("/")
        if asked not in ("", self.model_id):
            raise NotFound(f"there is no such model; there is {self.model_id}")
        return json_response(model if asked else {"object": "list", "data": [model]})

    def close(self, seconds: float) -> None:
        """Lets running replies end for some seconds, then ends them with an event that says so."""
        self.draining.set()
        wait_until(self.pool.all_idle, seconds)
        self.stopping.set()
        wait_until(self.pool.all_idle, 1)


@dataclass
class Reply:
    """What the log tells of a reply; the conversation itself is nobody's business."""

    client: str
    messages: int
    dropped: int  # messages that found no room
    prompt: list[int]
    tokenizer: object
    start: int = 0  # of the prompt's tokens this is the first that is the text's or the reply's
    started: float = field(default_factory=time.monotonic)
    gpu: int | None = None
    reused: int = 0
    tokens: int = 0
    first: float | None = None  # when the first token came
    last_token: int | None = None
    fresh: list = field(default_factory=list)  # the newest tokens, whose probabilities are still to be told
    offset: int = 0  # in characters, of the next token whose probability is told
    seed: int | None = None
    stopped: bool = False  # by a stop sequence
    finish: str = "client left"

    def watch(self, engine, tokens: Iterator[int]) -> Iterator[int]:
        for token in tokens:
            if self.first is None:
                self.first, self.reused, self.seed = time.monotonic(), engine.reused, engine.seed
            self.tokens, self.last_token = self.tokens + 1, token
            if hasattr(token, "logprob"):
                self.fresh.append(token)
            yield token

    def facts(self, token: int) -> dict:
        """What the page is told of a token that was looked at; of others nothing."""
        if getattr(token, "logprob", None) is None:
            return {}
        alternatives = [(other, self.tokenizer.show(other), logprob) for other, logprob in token.likeliest]
        forced = {"forced": True} if token.forced else {}
        return {"id": token, "logprob": token.logprob, "alternatives": alternatives} | forced

    def opening(self) -> dict:
        """What the page is told before a reply: what the model has read, and the seed."""
        prompt = [{"id": each, "token": self.tokenizer.show(each)} | self.facts(each) for each in self.prompt]
        begun = sum("logprob" in each for each in prompt)
        return {"prompt": prompt, "dropped": self.dropped, "begun": begun, "seed": self.seed}

    def without_tools(self, texts: Iterator[str], tells_all: bool) -> Iterator[str]:
        """The texts, "" for those of the calculator's blocks, and for an end that has no beginning."""
        special = self.tokenizer.special
        starts = special["<|python_start|>"], special["<|output_start|>"]
        ends = special["<|python_end|>"], special["<|output_end|>"]
        begun = [token for token in self.prompt[self.start :] if token in starts + ends]
        inside = bool(begun) and begun[-1] in starts
        for text in texts:  # each is the last token's
            inside = inside or self.last_token in starts
            hidden = inside or self.last_token in ends
            del self.fresh[len(self.fresh) - (hidden and not tells_all) :]
            yield "" if hidden else text
            inside = inside and self.last_token not in ends

    def until(self, stops: tuple[str, ...], texts: Iterator[str]) -> Iterator[str]:
        """The texts up to the first stop sequence that is whole. What may yet become one is held back."""
        kept = ""
        for text in texts:
            kept += text
            if found := [(kept.index(stop) + len(stop), -len(stop)) for stop in stops if stop in kept]:
                self.stopped = True
                end, size = min(found)  # the first to be whole, and of those the longest
                yield kept[: end + size]
                return
            longest = min(len(kept), max(map(len, stops), default=1) - 1)
            held = (size for size in range(longest, 0, -1) if any(s.startswith(kept[-size:]) for s in stops))
            size = next(held, 0)
            yield kept[: len(kept) - size]
            kept = kept[len(kept) - size :]
        if kept:
            yield kept

    def __str__(self) -> str:
        now, first = time.monotonic(), self.first or time.monotonic()
        speed = (self.tokens - 1) / (now - first) if self.tokens > 1 and now > first else 0
        return (
            f"{self.client} chat: {self.messages} messages, "
            f"{len(self.prompt)} prompt tokens ({self.reused} reused), {self.tokens} reply tokens, "
            f"first after {first - self.started:.3f} s, {speed:.1f} tokens/s, gpu {self.gpu}, {self.finish}"
        )


def wait_until(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.02)


LINE_BREAKS = str.maketrans({code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)})
ENCODER = json.JSONEncoder(ensure_ascii=False)  # json.dumps would make one for every event


def event(data: dict) -> bytes:
    """One server-sent event. JSON escapes all line breaks but three, at which common clients split."""
    return f"data: {ENCODER.encode(data)}\n\n".translate(LINE_BREAKS).encode()


def json_response(data: dict, status: int = 200) -> Response:
    return Response(json.dumps(data), status, mimetype="application/json")


def refusal(request: Request, error: HTTPException) -> Response:
    """An error as JSON, in the shape of its path's protocol, with the headers that it brings."""
    told = openai_error(error) if request.path.startswith("/v1/") else {"detail": error.description}
    response = json_response(told, error.code)
    response.headers.extend(header for header in error.get_headers() if header[0] != "Content-Type")
    return response


# ---- OpenAI's protocol: the same pipeline, another wire format ---------------------------------------------

CHANGING = {  # what would change a reply and cannot be had, with the values that ask for what happens anyway
    "n": [1], "best_of": [1], "presence_penalty": [0], "frequency_penalty": [0],
    "length_penalty": [1], "logit_bias": [{}], "min_p": [0], "typical_p": [1], "min_tokens": [0],
    "ignore_eos": [False], "stop_token_ids": [[]], "bad_words": [[]], "use_beam_search": [False],
    "tool_choice": ["none", "auto"], "function_call": ["none", "auto"],  # tools may then be left alone
    "response_format": [{"type": "text"}],
    "suffix": [""], "structured_outputs": [], "guided_json": [], "guided_regex": [], "guided_choice": [],
    "grammar": [], "modalities": [["text"]], "audio": [], "web_search_options": [],
}  # fmt: skip


@dataclass(frozen=True)
class OpenAIChat(Chat):
    """A request of POST /v1/chat/completions. What stands in CHANGING is refused by name."""

    include_usage: bool = False

    lenient, completes = True, False
    kind, streamed_kind, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"
    opening = {"delta": {"role": "assistant", "content": ""}}

    @classmethod
    def parse(cls, body: dict, defaults: dict) -> "OpenAIChat":
        for name, neutral in CHANGING.items():
            if body.get(name) is not None and body[name] not in neutral:
                raise BadRequest(f"{name} is not supported, or not with this value")
        longest = body.get("max_tokens") if (new := body.get("max_completion_tokens")) is None else new
        longest = SAMPLING["max_tokens"][2] if longest == -1 else longest  # some clients' word for no limit
        options = typed(body, "stream_options", dict, {})
        most = MAX_ALTERNATIVES if typed(body, "logprobs", bool, False) else 0
        others = typed(body, "top_logprobs", int, 0, most)
        return replace(
            super().parse(body | {"max_tokens": longest}, defaults),
            stop=stop_sequences(body.get("stop")),
            streamed=typed(body, "stream", bool, False),
            skip_special_tokens=typed(body, "skip_special_tokens", bool, True),
            include_usage=typed(options, "include_usage", bool, False),
            alternatives=others if most else None,
        )

    def usage(self, reply: "Reply") -> dict:
        """Tokens as they were counted; a stop token is none of the reply's."""
        written = reply.tokens - (reply.last_token in reply.tokenizer.stops)
        read, details = len(reply.prompt), {"prompt_tokens_details": {"cached_tokens": reply.reused}}
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written} | details

    def frame(self, kind: str, model: str) -> dict:
        name = f"{self.prefix}-{os.urandom(8).hex()}"
        return {"id": name, "object": kind, "created": int(time.time()), "model": model}

    def part(self, text: str) -> dict:
        return {"delta": {"content": text} if text else {}}

    def message(self, text: str) -> dict:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def logprobs(self, reply: "Reply") -> dict | None:
        """What is still to be told of the newest tokens, if it was asked for."""
        if self.alternatives is None:
            return None
        fresh, reply.fresh = reply.fresh, []
        ended = self.given is None and fresh and fresh[-1] in reply.tokenizer.stops
        return self.told(fresh[:-1] if ended else fresh, reply)

    def told(self, tokens: list, reply: "Reply") -> dict:
        tokenizer = reply.tokenizer

        def entry(token: int, logprob: float) -> dict:
            return {"token": tokenizer.show(token), "logprob": logprob, "bytes": [*tokenizer.raw(token)]}

        return {"refusal": None, "content": [
            entry(token, token.logprob) | {"top_logprobs": [entry(*other) for other in token.likeliest]}
            for token in tokens
        ]}  # fmt: skip

    def write(self, pieces: Iterator[str], reply: "Reply", model: str) -> Iterator[bytes]:
        frame = self.frame(self.streamed_kind, model) | ({"usage": None} if self.include_usage else {})

        def chunk(part: dict, finish: str | None = None) -> bytes:
            part = {"index": 0, **part, "logprobs": self.logprobs(reply), "finish_reason": finish}
            return event(frame | {"choices": [part]})

        try:
            yield chunk(self.opening)
            for text in pieces:
                yield chunk(self.part(text)) if text else b""
            yield chunk(self.part(""), reply.finish)
            if self.include_usage:
                yield event(frame | {"choices": [], "usage": self.usage(reply)})
            yield b"data: [DONE]\n\n"
        except HTTPException as failure:
            yield event(openai_error(failure))

    def whole(self, pieces: Iterator[str], reply: "Reply", model: str) -> dict:
        message = self.message("".join(pieces))
        choice = {"index": 0, **message, "logprobs": self.logprobs(reply), "finish_reason": reply.finish}
        return self.frame(self.kind, model) | {"choices": [choice], "usage": self.usage(reply)}


@dataclass(frozen=True)
class OpenAICompletion(OpenAIChat):
    """A request of POST /v1/completions: the model goes on with a text, or with its tokens."""

    completes = True  # and tells of every token: lm-eval takes the last for the one it had written
    kind, streamed_kind, prefix = "text_completion", "text_completion", "cmpl"
    opening = {"text": ""}

    @classmethod
    def parse(cls, body: dict, defaults: dict) -> "OpenAICompletion":
        completion = super().parse(body | {"logprobs": None, "top_logprobs": None}, defaults)
        longest = 0 if body.get("max_tokens") == 0 else completion.max_tokens  # there may be just an echo
        echo, others = typed(body, "echo", bool, False), typed(body, "logprobs", int, None, ALTERNATIVES)
        return replace(completion, max_tokens=longest, echo=echo, looks_back=echo, alternatives=others)

    def part(self, text: str) -> dict:
        return {"text": text}

    message = part

    def told(self, tokens: list, reply: "Reply") -> dict:
        show = reply.tokenizer.show
        texts = [show(token) for token in tokens]
        tops = [[*token.likeliest, (token, token.logprob)] for token in tokens]
        ends = [*itertools.accumulate(map(len, texts), initial=reply.offset)]
        reply.offset = ends[-1]
        return {
            "tokens": texts,
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [{show(t): p for t, p in top if p is not None} or None for top in tops],
            "text_offset": ends[:-1],
        }


def openai_error(error: HTTPException) -> dict:
    kind = "invalid_request_error" if error.code < 500 else "server_error"
    return {"error": {"message": error.description, "type": kind, "param": None, "code": None}}


def plain(number: int, message: dict) -> dict:
    """A message as the seed's protocol has it: `developer` is `system`, text parts are a text, null is ""."""
    if called := [name for name in ("tool_calls", "function_call", "audio") if message.get(name)]:
        raise BadRequest(f"message {number}: {called[0]} is not supported")
    role, content = message.get("role"), message.get("content")
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
        texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
        if len(texts) < len(content):
            raise BadRequest(f"message {number}: content may be a text or a list of text parts, nothing else")
        content = "".join(texts)
    return {"role": "system" if role == "developer" else role, "content": "" if content is None else content}


def stop_sequences(stop) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) else [] if stop is None else stop
    right = isinstance(stops, list) and len(stops) <= MAX_STOPS
    if not right or not all(isinstance(text, str) and 0 < len(text) <= MAX_STOP_LENGTH for text in stops):
        raise BadRequest(f"stop must be a text of 1 to {MAX_STOP_LENGTH} characters, or up to {MAX_STOPS}")
    return tuple(stops)


# ---- The page ----------------------------------------------------------------------------------------------


class Page:
    """ui.html, with what the server knows written into it, under a policy that runs no script but its own."""

    SLOT = '<script type="application/json" id="config">{}</script>'

    def __init__(self, path: Path):
        try:
            self.html = path.read_text(encoding="utf-8")
        except OSError as error:
            raise SystemExit(f"{path}: {error.strerror}; it belongs beside chat_web.py") from None
        scripts = re.findall("<script>(.*?)</script>", self.html, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()) for script in scripts]
        allowed = " ".join(f"'sha256-{digest.decode()}'" for digest in digests)
        self.headers = {
            "Content-Security-Policy": f"default-src 'none'; script-src {allowed}; "
            "connect-src 'self'; style-src 'unsafe-inline'; img-src 'self' data:; "
            "base-uri 'none'; form-action 'none'",  # other sites may frame it: it has no login to steal
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": NO_CACHE,
        }

    def response(self, about: dict) -> Response:
        filled = self.SLOT.replace("{}", json.dumps(about).replace("<", "\\u003c"))
        return Response(self.html.replace(self.SLOT, filled), mimetype="text/html", headers=self.headers)


# ---- HTTP: werkzeug's threaded server, with its open ends closed -------------------------------------------


class RequestReader(io.RawIOBase):
    """A socket's bytes, up to a number and a deadline: a timeout alone would start anew with every byte."""

    def __init__(self, sock: socket.socket, seconds: float):
        self.sock, self.deadline, self.left = sock, time.monotonic() + seconds, MAX_HEAD

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        if self.left <= 0:
            raise http.client.HTTPException(f"a request's head may have {MAX_HEAD} bytes")
        self.sock.settimeout(max(self.deadline - time.monotonic(), 0.001))
        received = self.sock.recv_into(buffer)
        self.left -= received
        return received


class ResponseWriter(io.RawIOBase):
    """Joins werkzeug's pieces, so that an event is one packet, and bounds the time of waiting for readers."""

    UNFLUSHED = (b"HTTP/1.1 100 Continue\r\n\r\n", b"0\r\n\r\n")  # after these werkzeug does not flush

    def __init__(self, sock: socket.socket, seconds: float):
        self.sock, self.patience, self.pieces = sock, seconds, []

    def write(self, data) -> int:
        self.pieces.append(bytes(data))
        if self.pieces[-1] in self.UNFLUSHED:
            self.flush()
        return len(data)

    def flush(self) -> None:
        data = b"".join(self.pieces)
        self.pieces.clear()  # first: what could not be sent is not tried again on close
        if not data:
            return
        if self.sock.gettimeout() != 0:
            self.sock.settimeout(0)  # with a timeout every send is two system calls
        sent = 0
        with contextlib.suppress(BlockingIOError):
            sent = self.sock.send(data)  # all of it, but for slow readers
        if left := data[sent:]:
            self.sock.settimeout(max(self.patience, 0.001))
            started = time.monotonic()
            self.sock.sendall(left)
            self.patience -= time.monotonic() - started


def raw_refusal(code: int, sentence: str) -> bytes:
    """A whole response, for requests that never reach the application."""
    body = json.dumps({"detail": sentence}).encode()
    headers = {"Content-Type": "application/json", "Content-Length": len(body), "Connection": "close"}
    headers |= CORS | ({"Retry-After": RETRY_SECONDS} if code == 503 else {})
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {code} {HTTPStatus(code).phrase}\r\n{head}\r\n".encode() + body


class Connection(WSGIRequestHandler):
    """One connection, which is one request: werkzeug keeps none alive."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = self.reader = io.BufferedReader(RequestReader(self.connection, REQUEST_SECONDS))
        self.wfile = ResponseWriter(self.connection, SEND_SECONDS)

    def parse_request(self) -> bool:
        if self.raw_requestline in (b"\r\n", b"\n"):  # RFC 9112, 2.2: an empty line before it is ignored
            self.raw_requestline = self.rfile.readline(MAX_HEAD // 2)
        if not super().parse_request():
            return False
        if self.request_version == "HTTP/1.0":
            self.protocol_version = "HTTP/1.0"  # or werkzeug answers in chunks, which 1.0 does not know
            del self.headers["Expect"]  # nor does it know 100 Continue
        if self.request_version == "HTTP/0.9":
            self.send_error(400, "HTTP/0.9 is not spoken here")
            return False
        try:
            urlsplit(self.path)
        except ValueError:
            self.send_error(400, "the request's address is malformed")
            return False
        return True

    def handle_expect_100(self) -> bool:
        return True  # run_wsgi answers it

    def make_environ(self) -> dict:
        environ = super().make_environ()
        lengths = self.headers.get_all("Content-Length", [])
        if len(lengths) > 1:
            environ["CONTENT_LENGTH"] = ", ".join(lengths)  # werkzeug takes the last; read_json takes none
        environ["wsgi.input"] = self.reader
        if not lengths and "HTTP_TRANSFER_ENCODING" not in environ:
            del environ["wsgi.input"]  # there is no body
        self.reader.raw.left = DRAINED
        self.rfile = io.BytesIO()  # werkzeug would read on before it closes the reply, and hold its worker
        return environ

    def run_wsgi(self) -> None:
        super().run_wsgi()
        if "wsgi.input" not in self.environ:
            self.reader.raw.deadline = 0  # the request was read: what has come after it is read, no more
        self.read_on(self.headers["Content-Length"])

    def read_on(self, length: str | None = None) -> None:
        """Reads what a client still sends, as long as any body may take: a reset would hide its answer."""
        left = int(length) if length and re.fullmatch("[0-9]{1,7}", length) else DRAINED
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.connection.shutdown(socket.SHUT_WR)  # so that who reads up to the end has it now
            while left > 0 and (data := self.reader.read1(min(left, 65536))):
                left -= len(data)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        log.info("%s %s %d", self.client_address[0], ascii(getattr(self, "requestline", "")[:200]), code)
        self.wfile.write(raw_refusal(code, explain or message or HTTPStatus(code).description))
        self.wfile.flush()
        self.close_connection, self.reader.raw.left = True, DRAINED
        self.read_on()

    def version_string(self) -> str:
        return "chat_web"

    def log_request(self, *args) -> None:
        pass  # the application writes its own line, at the end

    log_error = log_request  # and there is none of what timed out before it was a request


class Server(ThreadedWSGIServer):
    """A thread per connection, up to MAX_CONNECTIONS."""

    def __init__(self, listener: socket.socket, app: ChatServer):
        super().__init__(*listener.getsockname()[:2], app, Connection, fd=listener.fileno())
        listener.close()  # werkzeug has a copy; this one would keep accepting after shutdown
        self.connected: dict[socket.socket, str] = {}  # and from which address each is
        self.refused: dict[socket.socket, float] = {}  # and until when each is read, the oldest first
        self.descriptors = math.inf
        with contextlib.suppress(ImportError):  # on Windows
            import resource

            self.descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS

    def get_request(self):
        try:
            return super().get_request()
        except OSError:
            time.sleep(0.1)  # out of file descriptors: without a pause the accept loop spins
            raise

    def process_request(self, request, client_address) -> None:
        """A thread for a connection, unless there are too many, or half of the limit from its address."""
        addresses = [*self.connected.values()]
        full = len(addresses) >= MAX_CONNECTIONS or addresses.count(client_address[0]) >= MAX_CONNECTIONS // 2
        if full or self.is_short_of_descriptors(request):
            log.info("%s 503: too many connections", client_address[0])
            return self.refuse(request)
        self.connected[request] = client_address[0]
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            del self.connected[request]
            raise

    def process_request_thread(self, request, client_address) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            del self.connected[request]

    def is_short_of_descriptors(self, newest: socket.socket) -> bool:
        """The lowest free one has just become the newest socket's, and each connection may need a second."""
        return newest.fileno() + len(self.connected) > self.descriptors

    def refuse(self, sock: socket.socket) -> None:
        """Tells a connection that it is one too many. It stays open until its client has read that."""
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.send(raw_refusal(503, f"too many connections: {MAX_CONNECTIONS}, or half for one address"))
            sock.shutdown(socket.SHUT_WR)
        self.refused[sock] = time.monotonic() + REQUEST_SECONDS
        if len(self.refused) > MAX_REFUSED or self.is_short_of_descriptors(sock):
            self.refused[next(iter(self.refused))] = 0  # the oldest makes room

    def service_actions(self) -> None:
        """Reads what refused clients still send. It is called after every connection and in between."""
        for sock, deadline in [*self.refused.items()]:
            try:
                received = len(sock.recv(65536))
                self.refused[sock] -= REQUEST_SECONDS * received / DRAINED  # bounds the size as well
                ended = not received
            except OSError as error:
                ended = not isinstance(error, BlockingIOError)
            if ended or time.monotonic() > deadline:
                del self.refused[sock]
                self.shutdown_request(sock)

    def handle_error(self, request, client_address) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # those are connections that went away
            log.exception("a connection from %s failed", client_address[0])


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, before anything else is tried. SystemExit says why it cannot be."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        both = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server((host, port), family=family, backlog=1024, dualstack_ipv6=both)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SystemExit(f"port {port} is in use by another program; pass another -p") from None
        raise SystemExit(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    except (TypeError, UnicodeError):
        raise SystemExit(f"cannot listen on {host}: it is no address, nor the name of one") from None


# ---- Command line ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """The command line, checked."""

    num_gpus: int
    source: str | None  # None is sft if there is one, and the demo model where there is none of any kind
    sampling: dict  # name -> this server's default
    model_tag: str | None
    step: int | None
    host: str
    port: int
    dtype: str
    device_type: str


def parse_args(argv: list[str]) -> Settings:
    """SystemExit says what is wrong in one sentence."""
    about = "Chat in the browser with a model that nanochat trained."
    parser = argparse.ArgumentParser("chat_web.py", description=about, allow_abbrev=False)
    parser.error = lambda message: sys.exit(f"{message} (--help lists the flags)")
    flag = parser.add_argument
    flag("-n", "--num-gpus", type=int, default=1, help="GPUs to use, one replica each (default: 1)")
    sources = "the model's training: sft or rl, the older mid, or base, which cannot chat (default: sft)"
    flag("-i", "--source", choices=("sft", "rl", "mid", "base"), help=sources)
    for short, name in FLAGS.items():
        default, low, high = SAMPLING[name]
        what = f"{name.replace('_', ' ')} where a request has none, {low:g} to {high:g} (default: {default})"
        flag(f"-{short}", f"--{name.replace('_', '-')}", type=type(low), default=default, help=what)
    flag("-g", "--model-tag", help="the model's tag, or a path to its files (default: the deepest there is)")
    flag("-s", "--step", type=int, help="the training step (default: the last)")
    flag("-p", "--port", type=int, default=8000, help="port; 0 takes any that is free (default: 8000)")
    precisions = ("float32", "bfloat16")
    flag("-d", "--dtype", choices=precisions, default="bfloat16", help="precision (default: bfloat16)")
    kinds = ("auto", "cuda", "mps", "cpu")
    where = f"where to run; auto is the first of {', '.join(kinds[1:])} that is there (default: auto)"
    flag("--device-type", choices=kinds, default="auto", help=where)
    flag("--host", default="0.0.0.0", help="address to listen on (default: 0.0.0.0, all of this machine's)")
    args = vars(parser.parse_args(argv))
    ranges = {name: SAMPLING[name][1:] for name in FLAGS.values()}
    for name, (low, high) in (ranges | {"port": (0, 65535), "num_gpus": (1, 1024)}).items():
        if not low <= args[name] <= high:
            raise SystemExit(f"--{name.replace('_', '-')} {args[name]} is not within {low} to {high}")
    sampling = {name: args.pop(name, default) for name, (default, _, _) in SAMPLING.items()}
    return Settings(sampling=sampling, **args)


def import_checkpoint():
    """The module that loads models. It imports torch, for which --help does not wait."""
    warnings.filterwarnings("ignore", "Failed to initialize NumPy")  # torch's own; nothing here uses it
    if __package__:
        from . import checkpoint
    else:
        import checkpoint
    return checkpoint


def load(settings: Settings, app: ChatServer) -> None:
    """Fills the pool: one replica per GPU, or one on the CPU. Prints what it does."""
    checkpoint = import_checkpoint()
    checkpoint.prepare_torch()
    started = time.monotonic()
    try:
        devices = pick_devices(settings)
        found, demo = pick_checkpoint(settings)
        print(f"Loading {found.model}", flush=True)
        model = checkpoint.read(found, checkpoint.DTYPES[settings.dtype])
    except checkpoint.CheckpointError as error:
        raise SystemExit(str(error)) from None
    for note in model.notes:
        print(f"Note: {note}", flush=True)

    def replica(device):
        try:
            engine = model.engine(device)
            next(engine.generate([model.tokenizer.special["<|bos|>"]], 1))  # what cannot run says so now
        except RuntimeError as error:  # torch.OutOfMemoryError on CUDA; elsewhere it has no name of its own
            full = "out of memory|allocate memory|CUBLAS_STATUS_(ALLOC_FAILED|NOT_INITIALIZED)"
            if not re.search(full, str(error)):
                raise
            raise SystemExit(f"{device} has too little free memory for {found.model}") from None
        return engine

    with ThreadPoolExecutor(len(devices)) as threads:  # each GPU has a bus of its own: they fill side by side
        for gpu_id, engine in enumerate(threads.map(replica, devices)):
            app.pool.add(Worker(gpu_id, str(devices[gpu_id]), engine))
    weights = sum(weight.nbytes for weight in engine.model.weights.values()) / 1e6
    cache = 2 * engine.cache.keys.nbytes / 1e6
    parameters = f"{model.parameters / 1e6:.1f} M parameters in {settings.dtype}"
    memory = f"{weights:.1f} MB of weights and {cache:.1f} MB of cache each, context {engine.context} tokens"
    where, spent = ", ".join(map(str, devices)), time.monotonic() - started
    print(f"Loaded {model.name}: nanochat of {model.era.name}, {parameters} on {where}; {memory}, "
          f"decoding: {decoding(app.pool.workers)}, {spent:.1f} s", flush=True)  # fmt: skip
    gc.collect()
    gc.freeze()  # torch's objects stay; walking over them made a large JSON body take ten times as long
    app.open(model.name, model.tokenizer, demo, found.source == "base")


def decoding(workers: list[Worker]) -> str:
    """How the workers decode; which GPU how, where they differ."""
    ways = {worker.device: worker.engine.mode + worker.engine.model.hint for worker in workers}
    alike = len({*ways.values()}) == 1
    return ", ".join({way if alike else f"{way} on {device}": 0 for device, way in ways.items()})


def pick_checkpoint(settings: Settings) -> tuple:
    """The checkpoint asked for, and False; or, where nothing was and there is none, the demo and True."""
    checkpoint = import_checkpoint()
    base, demo = checkpoint.base_dir(), Path(__file__).with_name("demo")
    asked = (settings.source, settings.model_tag, settings.step, os.environ.get("NANOCHAT_BASE_DIR") or None)
    if any(value is not None for value in asked) or any(checkpoint.search(base)):
        return checkpoint.find(base, settings.source, settings.model_tag, settings.step), False
    own = "pass -g PATH or set NANOCHAT_BASE_DIR to load a model of your own"
    if not demo.is_dir():
        raise SystemExit(f"no checkpoint in {base}, and no demo model in {demo}: {own}, or copy demo/ there")
    print(f"No checkpoint in {base}: this is the demo model, which is tiny; {own}", flush=True)
    return checkpoint.find(demo), True


def pick_devices(settings: Settings) -> list:
    """The devices that the flags ask for. SystemExit if they are not there."""
    import torch

    kind = import_checkpoint().best_device() if settings.device_type == "auto" else settings.device_type
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if not there[kind]:
        raise SystemExit(f"--device-type {kind}: torch {torch.__version__} sees no such device here")
    if kind != "cuda":
        if settings.num_gpus > 1:
            raise SystemExit(f"-n {settings.num_gpus} needs CUDA GPUs: on {kind} there is one worker")
        try:
            torch.zeros(1, device=kind, dtype=getattr(torch, settings.dtype))
        except (RuntimeError, TypeError) as error:
            raise SystemExit(f"{kind} has no {settings.dtype} here ({error}); pass another -d") from None
        return [torch.device(kind)]
    if settings.num_gpus > torch.cuda.device_count():
        raise SystemExit(f"-n {settings.num_gpus}: only {torch.cuda.device_count()} CUDA GPUs are visible")
    if settings.num_gpus > 1 and [*map(int, re.findall("[0-9]+", torch.__version__)[:2])] < [2, 10]:
        print("Note: with several GPUs, torch older than 2.10 can crash in cuBLAS", flush=True)
    return [torch.device("cuda", index) for index in range(settings.num_gpus)]


def main(argv: list[str] | None = None) -> None:
    """Serves until SIGINT or SIGTERM, then lets running replies end; a second signal does not wait."""
    settings = parse_args(sys.argv[1:] if argv is None else argv)
    sys.stdout.reconfigure(errors="backslashreplace")  # a path may have letters that the console lacks
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    app = ChatServer(settings, Page(Path(__file__).with_name("ui.html")))
    server = Server(listen(settings.host, settings.port), app)
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    stop = threading.Event()

    def on_signal(number, frame) -> None:
        if stop.is_set() or not app.tokenizer:
            os._exit(1 if stop.is_set() else 0)
        stop.set()

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    load(settings, app)
    print(f"Server ready at http://localhost:{server.port}", flush=True)
    while not stop.wait(1):  # in slices, since Windows does not interrupt a wait
        pass
    log.info("shutting down: running replies have %d seconds", SHUTDOWN_SECONDS)
    server.shutdown()
    app.close(SHUTDOWN_SECONDS)
    wait_until(lambda: not server.connected, 1)
    os._exit(0)  # a normal exit aborts when a thread is still inside torch; what was printed has been flushed


if __name__ == "__main__":
    main()
