"""HTTP as clients of every kind speak it: slowly, in chunks, in pieces, too much of it."""

import http.client
import json
import random
import socket
import threading
import time

import pytest
from werkzeug.test import Client

import chat_web
from standins import (
    END,
    HERE,
    ScriptedEngine,
    TOKENIZER,
    body,
    connect,
    events,
    make_app,
    request_bytes,
    serving,
    started,
    text_of,
    until,
    with_descriptors,
    write_pair,
)
from test_chat_web import read_all, read_until, talk

POST = "POST {} HTTP/1.1\r\nHost: x\r\n"
CHATS = ["/chat/completions", "/v1/chat/completions"]


@pytest.fixture
def port():
    with serving(make_app(ScriptedEngine("ok", END))) as port:
        yield port


# ---- Refusals arrive ---------------------------------------------------------------------------------------


def loading_app():
    return chat_web.ChatServer(chat_web.parse_args([]), chat_web.Page(HERE / "ui.html"))


def sent_slowly(port, path, size, pieces=8, pause=0.05, claimed=None) -> tuple:
    """Status and body of the answer to a client that sends head and body apart, and reads afterwards."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("POST", path)
    connection.putheader("Content-Length", str(claimed or size))
    connection.endheaders()
    for _ in range(pieces):
        time.sleep(pause)
        connection.send(b"x" * (size // pieces))
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


@pytest.mark.parametrize("path, size, status", [
    ("/nothing", 300_000, 404), ("/v1/nothing", 300_000, 404), ("/chat/completions", 1_600_000, 413),
    ("/health", 300_000, 405),
])  # fmt: skip
def test_a_refusal_reaches_a_client_that_still_sends_its_body(port, path, size, status):
    code, answer = sent_slowly(port, path, size)
    assert code == status and list(answer) == (["error"] if path.startswith("/v1") else ["detail"])


def test_while_the_model_loads_the_refusal_reaches_a_slow_client():
    with serving(loading_app()) as port:
        assert sent_slowly(port, "/chat/completions", 60_000)[0] == 503


def test_who_reads_to_the_end_has_a_refusal_at_once_however_much_it_said_it_would_send(port):
    raw = talk(port, POST.format("/nothing").encode() + b"Content-Length: 100000\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 404")


def test_a_refusal_is_not_waited_for_longer_than_a_body(monkeypatch):
    monkeypatch.setattr(chat_web, "REQUEST_SECONDS", 0.3)
    with serving(make_app(ScriptedEngine())) as port, connect(port) as sock:
        sock.sendall(POST.format("/nothing").encode() + b"Content-Length: 100000\r\n\r\n")
        read_until(sock, b"\r\n\r\n")
        with pytest.raises(OSError):
            while True:  # until the server has closed
                sock.sendall(b"x")
                time.sleep(0.02)


def test_all_of_a_flood_read_that_there_are_too_many_connections(monkeypatch):
    monkeypatch.setattr(chat_web, "MAX_CONNECTIONS", 4)
    with serving(make_app(ScriptedEngine())) as port, connect(port), connect(port):
        answers = []

        def client():
            answers.append(sent_slowly(port, "/chat/completions", 20_000, pieces=2))

        threads = [threading.Thread(target=client) for _ in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [status for status, _ in answers] == [503] * 60


def test_refused_connections_are_few_and_closed_in_the_end(monkeypatch):
    monkeypatch.setattr(chat_web, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(chat_web, "MAX_REFUSED", 3)
    monkeypatch.setattr(chat_web, "REQUEST_SECONDS", 1)
    with serving(make_app(ScriptedEngine())) as port, connect(port):
        refused = [connect(port) for _ in range(5)]
        for sock in refused:
            assert read_all(sock).startswith(b"HTTP/1.1 503")
        for sock in refused:
            with pytest.raises(OSError):
                while True:
                    sock.sendall(b"x")
                    time.sleep(0.02)
            sock.close()


# ---- Odd requests ------------------------------------------------------------------------------------------


def test_a_request_after_an_empty_line_is_answered(port):
    raw = talk(port, b"\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("data", [
    b"GET /" + b"\xff" * 60_000 + b" HTTP/1.1\r\n\r\n", b"A" * 60_000 + b" / HTTP/1.1\r\n\r\n",
    b"GET " + b"%ff" * 20_000 + b" HTTP/1.1\r\n\r\n", b"\xff" * 60_000 + b"\r\n\r\n",
])  # fmt: skip
def test_no_line_of_the_log_is_long(port, data, caplog):
    caplog.set_level("INFO", "chat_web")
    assert talk(port, data).startswith(b"HTTP/1.1 4")
    assert 0 < max(len(record.getMessage()) for record in caplog.records) < 1200


def test_http_1_0_is_not_told_to_continue(port):
    data = request_bytes(body(), head="Expect: 100-continue\r\n").replace(b"HTTP/1.1", b"HTTP/1.0")
    assert talk(port, data).startswith(b"HTTP/1.0 200")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6 here")
def test_the_host_of_two_colons_listens_on_both_families():
    with chat_web.listen("::", 0) as listener:
        port = listener.getsockname()[1]
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, port), 20).close()


def test_out_of_descriptors_there_is_no_traceback_and_an_answer_for_who_is_in(base):
    write_pair(base / "chatsft_checkpoints" / "d4")
    with started("-c", with_descriptors(64)) as (process, port, _):
        for _ in range(3):
            half = [connect(port) for _ in range(60)]
            for sock in half:
                sock.sendall(request_bytes(body("Hello", max_tokens=30))[:-5])
            time.sleep(0.5)  # as many as may be are in now
            for sock in half:
                sock.setblocking(False)
                try:
                    sock.sendall(b"xxxxx")
                except OSError:
                    pass  # it was refused
                sock.close()
        until(lambda: b'"ready": true' in talk(port, b"GET /health HTTP/1.1\r\n\r\n"))
        process.terminate()
        assert "Traceback" not in process.communicate(timeout=30)[1]


# ---- Chunks ------------------------------------------------------------------------------------------------


def chunked(data: bytes, sizes=(7,), path=CHATS[0]) -> bytes:
    parts, sizes = [], list(sizes)
    while data:
        size = sizes[len(parts) % len(sizes)]
        parts.append(b"%x\r\n%s\r\n" % (len(data[:size]), data[:size]))
        data = data[size:]
    head = POST.format(path).encode() + b"Transfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize("sizes", [(1,), (7, 100), (100_000,)])
def test_a_body_may_come_in_chunks_of_any_size(port, path, sizes):
    raw = talk(port, chunked(json.dumps(body()).encode(), sizes, path))
    assert raw.startswith(b"HTTP/1.1 200") and b"ok" in raw or text_of(raw.partition(b"\r\n\r\n")[2]) == "ok"


def test_chunks_may_have_extensions_capital_digits_and_trailers(port):
    data = json.dumps(body(user="x" * 100)).encode()
    whole = b'%X;a="b"\r\n%s\r\n000;x\r\nX-Sum: 1\r\nY: 2\r\n\r\n' % (len(data), data)
    raw = talk(port, POST.format(CHATS[0]).encode() + b"Transfer-Encoding: Chunked\r\n\r\n" + whole)
    assert raw.startswith(b"HTTP/1.1 200")


def test_pythons_own_client_may_send_an_iterator(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    data = json.dumps(body()).encode()
    connection.request("POST", CHATS[0], iter([data[:9], data[9:]]), encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})  # fmt: skip
    assert events(connection.getresponse().read())[-1] == {"done": True}


@pytest.mark.parametrize("data, status", [
    (b"fffffff\r\nabc", 413), (b"ffffffffffffffff\r\n", 413), (b"-5\r\nabc", 400), (b"0x5\r\nabcde\r\n", 400),
    (b"5\r\nabc", 400), (b"3\r\nabcX\r\n0\r\n\r\n", 400), (b"\r\n", 400), (b"3\nabc\n0\n\n", 400), (b"", 400),
    (b"1" + b"0" * 300 + b"\r\n", 400), (b"1\r\nx\r\n" * 9000, 400), (b"80000\r\n" + b"x" * 2**19 + b"\r\n" +
    b"90000\r\n", 413), (b"2\r\n{}\r\n0\r\n" + b"a: b\r\n" * 5000 + b"\r\n", 400), ("²\r\n".encode(), 400),
])  # fmt: skip
def test_broken_or_endless_chunks_are_refused(port, data, status):
    with connect(port) as sock:
        sock.sendall(POST.format(CHATS[0]).encode() + b"Transfer-Encoding: chunked\r\n\r\n" + data)
        sock.shutdown(socket.SHUT_WR)
        raw = read_all(sock)
    assert raw.startswith(b"HTTP/1.1 %d" % status), raw
    assert list(json.loads(raw.partition(b"\r\n\r\n")[2])) == ["detail"]


def test_chunks_that_come_too_slowly_end_in_408(monkeypatch):
    monkeypatch.setattr(chat_web, "REQUEST_SECONDS", 0.4)
    with serving(make_app(ScriptedEngine())) as port, connect(port) as sock:
        sock.sendall(POST.format(CHATS[0]).encode() + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab")
        assert read_all(sock).startswith(b"HTTP/1.1 408")


def test_what_a_chunked_body_says_is_what_the_same_body_whole_says():
    rng, data = random.Random(1), json.dumps(body("é🙂" * 2000)).encode()
    scripted = ScriptedEngine("ok", END, context=100_000)
    with serving(make_app(scripted)) as port:
        talk(port, chunked(data, [rng.randrange(1, 3000) for _ in range(50)]))
        talk(port, request_bytes(body("é🙂" * 2000)))
    assert scripted.asked[0] == scripted.asked[1]


# ---- Work for a body ---------------------------------------------------------------------------------------


DENSE = {
    "brackets": b'{"x":[' + b",".join([b"[" * 900 + b"]" * 900] * 570) + b"]}",
    "pairs": b'{"x":[' + b"[]," * 340_000 + b"[]]}",
    "objects": b'{"x":[' + b'{"a":1},' * 130_000 + b"1]}",
    "keys": b"{" + b",".join(b'"%d":0' % number for number in range(90_000)) + b"}",
    "numbers": b'{"x":[' + b"1," * 500_000 + b"1]}",
}


@pytest.mark.parametrize("data", DENSE.values(), ids=DENSE)
def test_a_body_of_very_many_values_is_refused_before_it_is_parsed(monkeypatch, data):
    assert len(data) <= chat_web.MAX_BODY
    monkeypatch.setattr(chat_web.json, "loads", None)
    answer = Client(make_app(ScriptedEngine())).post(CHATS[0], data=data)
    assert answer.status_code == 400 and str(chat_web.MAX_VALUES) in answer.text


def test_text_of_nothing_but_brackets_is_answered():
    scripted = ScriptedEngine("ok", END, context=100_000)
    texts = ("[{,:" * 2000, "[" * 8000, "," * 8000, "{" * 8000)
    asked = {"messages": [{"role": "user", "content": text} for text in texts]}
    with Client(make_app(scripted)).post(CHATS[0], json=asked) as response:
        assert text_of(response.data) == "ok"


def test_of_a_long_conversation_each_message_is_encoded_a_few_times_at_most(monkeypatch):
    asked = [{"role": "user", "content": f"number {number}"} for number in range(500)]
    encoded, encode = [], TOKENIZER.encode
    monkeypatch.setattr(TOKENIZER, "encode", lambda text: encoded.append(text) or encode(text))
    TOKENIZER.fit_prompt([{"role": "system", "content": "Be kind."}, *asked], 1000, 100)
    assert len(encoded) < 600


def test_long_numbers_are_refused_in_our_own_words():
    answer = Client(make_app(ScriptedEngine())).post(CHATS[0], data=b'{"a":' + b"7" * 5001 + b"}")
    assert answer.status_code == 400
    assert "5001 digits" in answer.json["detail"] and "sys" not in answer.json["detail"]


# ---- Where people embed and proxy it -----------------------------------------------------------------------


def test_the_page_may_be_framed_and_proxies_leave_pages_and_streams_as_they_are():
    client = Client(make_app(ScriptedEngine("ok", END)))
    assert "frame-ancestors" not in client.get("/").headers["Content-Security-Policy"]
    for path in ("", *CHATS):
        with (client.post(path, json=body(stream=True)) if path else client.get("/")) as response:
            assert "no-transform" in response.headers["Cache-Control"]


@pytest.mark.parametrize("path", ["/health/", "/chat/completions/", "/v1/chat/completions/", "/v1/models/"])
def test_a_trailing_slash_changes_nothing(path):
    client = Client(make_app(ScriptedEngine("ok", END)))
    with (client.post(path, json=body()) if "chat" in path else client.get(path)) as response:
        assert response.status_code == 200
