"""More than one server, behind nginx, and the systemd unit: what stands in deploy/."""

import base64
import contextlib
import http.client
import json
import os
import random
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import chat_web
from standins import (
    END,
    EndlessEngine,
    HERE,
    ScriptedEngine,
    ask,
    body,
    change,
    connect,
    debian,
    events,
    make_app,
    run_quietly,
    serving,
    started,
    text_of,
    until,
    write_pair,
)

debian("nginx")
debian("openssl")


def free_port() -> int:
    """A free port below those that the system gives to outgoing connections, as it is to stay free."""
    while True:
        with contextlib.suppress(OSError):
            port = random.randrange(15000, 30000)
            socket.create_server(("127.0.0.1", port)).close()
            return port


@contextlib.contextmanager
def behind_nginx(tmp_path, *ports, rate="30r/m", streams=4, patience="10s"):
    """deploy/nginx.conf with its marked lines adapted, before these ports; yields what connects by TLS.

    nginx has four workers, as people run it.
    """
    nginx, openssl = debian("nginx"), debian("openssl")
    request = "req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 2".split()
    files = ["-keyout", tmp_path / "privkey.pem", "-out", tmp_path / "fullchain.pem"]
    run_quietly(openssl, *request, *files)
    hashed = subprocess.check_output([openssl, "passwd", "-apr1", "secret"], text=True)
    (tmp_path / "passwords").write_text(f"friend:{hashed}")
    port = free_port()
    conf = (HERE / "deploy" / "nginx.conf").read_text().replace("/etc/nginx/chat_web", str(tmp_path))
    conf = conf.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    conf = conf.replace("rate=30r/m", f"rate={rate}").replace("streams 4;", f"streams {streams};")
    conf = conf.replace("read_timeout 10s", f"read_timeout {patience}")
    (line,) = re.findall(r"^    server 127.*\n", conf, re.MULTILINE)
    conf = conf.replace(line, "".join(line.replace("8001", str(number)) for number in ports))
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "site.conf").write_text(conf)
    (tmp_path / "nginx.conf").write_text(
        f"{'user root;' if os.geteuid() == 0 else ''} daemon off; worker_processes 4; pid {tmp_path}/pid;"
        f"error_log {tmp_path}/error.log; events {{}}"
        f"http {{ access_log off; {temporary} include {tmp_path}/site.conf; }}"
    )
    process = subprocess.Popen(
        [nginx, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")], stderr=subprocess.DEVNULL
    )

    def client():
        context = ssl.create_default_context(cafile=str(tmp_path / "fullchain.pem"))
        context.check_hostname = False
        return http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)

    try:
        until(lambda: accepts(port))
        yield client
    finally:
        process.terminate()  # it ends its workers
        process.wait()


def accepts(port) -> bool:
    with contextlib.suppress(OSError):
        connect(port).close()
        return True
    return False


FRIEND = {"Authorization": "Basic " + base64.b64encode(b"friend:secret").decode()}


def start_chat(client, path="/chat/completions", **fields):
    """A reply that has begun."""
    connection = client()
    connection.request("POST", path, json.dumps(body(**fields)), FRIEND)
    return connection.getresponse()


def test_behind_nginx_a_stream_passes_unbuffered_and_a_password_is_asked(tmp_path):
    gate = threading.Event()
    app = make_app(ScriptedEngine("a", lambda: gate.wait(20) and "b", END))
    with serving(app) as port, behind_nginx(tmp_path, port) as client:
        stranger = client()
        stranger.request("GET", "/health")
        assert stranger.getresponse().status == 401
        reply = start_chat(client)
        first = reply.readline()  # it is here while the engine still waits
        assert first == b'data: {"token": "a", "gpu": 0}\n' and not gate.is_set()
        gate.set()
        assert events(first + reply.read())[-1] == {"done": True}


def test_behind_nginx_a_loading_server_gets_no_chat(tmp_path):
    loading = chat_web.ChatServer(chat_web.parse_args([]), chat_web.Page(HERE / "ui.html"))
    ready = make_app(ScriptedEngine("ok", END))
    with serving(loading) as first, serving(ready) as second, behind_nginx(tmp_path, first, second) as client:
        for _ in range(6):
            assert text_of(start_chat(client).read()) == "ok"


def test_behind_nginx_a_server_killed_in_mid_load_costs_only_its_own_streams(base, tmp_path):
    write_pair(base / "chatsft_checkpoints" / "d4", meta=change(sequence_len=2048))
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(started(HERE / "chat_web.py")) for _ in range(2)]
        client = stack.enter_context(behind_nginx(tmp_path, *[port for _, port, _ in servers]))
        replies = [start_chat(client, max_tokens=1500) for _ in range(2)]  # least_conn: one on each
        begun = [reply.readline() for reply in replies]
        servers[0][0].kill()
        endings = []
        for first, reply in zip(begun, replies, strict=True):
            try:
                endings.append(events(first + reply.read())[-1])
            except http.client.IncompleteRead:  # a cut stream is known as such
                endings.append("cut")
        assert endings in (["cut", {"done": True}], [{"done": True}, "cut"])
        for _ in range(5):
            assert events(start_chat(client, max_tokens=3).read())[-1] == {"done": True}


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/chat/completions"])
def test_behind_nginx_one_address_has_its_limits(tmp_path, path):
    app = make_app(*[EndlessEngine() for _ in range(6)], num_gpus=6)
    with serving(app) as port, behind_nginx(tmp_path, port) as client:
        replies = [start_chat(client, path, stream=True) for _ in range(6)]
        assert [reply.status for reply in replies] == [200] * 4 + [429] * 2
        app.close(0)


def steps(instruction: str) -> list[str]:
    """What follows an instruction of the Dockerfile, wherever it stands there."""
    return re.findall(rf"^{instruction} (.*)$", (HERE / "deploy" / "Dockerfile").read_text(), re.MULTILINE)


def a_stranger() -> dict:
    """As whom subprocess runs what it starts: a uid that nobody has, where Python may be run by it."""
    stranger = {"user": 4321, "group": 4321, "extra_groups": []}
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run([sys.executable, "-c", "import torch"], check=True, cwd="/", **stranger)
        return stranger
    return {}


def test_the_dockerfiles_steps_give_a_server_for_any_uid_without_a_home():
    with tempfile.TemporaryDirectory() as app:
        os.chmod(app, 0o755)
        for *sources, target in map(str.split, steps("COPY")):
            for source in sources:
                run_quietly("cp", "-r", HERE / source, f"{app}/{target}")
        run_quietly("chmod", "-R", "a+rX", app)
        variables = dict(pair.split("=") for line in steps("ENV") for pair in line.split())
        (entry,), (flags,) = map(json.loads, steps("ENTRYPOINT")), map(json.loads, steps("CMD"))
        port = str(free_port())
        command = [sys.executable, *entry[1:], *[port if flag == "7860" else flag for flag in flags]]
        assert entry[0] == "python" and port in command and steps("USER") == ["1000"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        with subprocess.Popen(command, cwd=app, env=variables, **pipes, **a_stranger()) as process:
            try:
                said = []
                while not said or not said[-1].startswith("Server ready"):
                    said.append(process.stdout.readline())
                    assert said[-1], said
                assert any("demo model" in line for line in said)
                assert b'"done"' in ask(int(port), body("Hello", max_tokens=5))
            finally:
                process.terminate()
            assert process.wait(30) == 0


def test_the_systemd_unit_is_valid(tmp_path):
    analyze = debian("systemd-analyze")
    unit = (
        (HERE / "deploy" / "chat_web.service")
        .read_text()
        .replace("/opt/chat_web/.venv/bin/python", sys.executable)
    )
    (tmp_path / "chat_web.service").write_text(unit.replace("User=chat", "User=root"))
    done = subprocess.run(
        [analyze, "verify", str(tmp_path / "chat_web.service")], capture_output=True, text=True
    )
    assert done.returncode == 0 and "chat_web" not in done.stderr


# ---- Full is not dead --------------------------------------------------------------------------------------


def get(client, path, headers=FRIEND):
    connection = client()
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer, answer.read()


def test_behind_nginx_a_full_house_is_a_503_and_page_and_health_are_200(tmp_path, monkeypatch):
    monkeypatch.setattr(chat_web, "MAX_WAITING", 0)
    apps = [make_app(EndlessEngine()) for _ in range(2)]
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(serving(app)) for app in apps]
        client = stack.enter_context(behind_nginx(tmp_path, *ports, rate="6000r/m"))
        running = [start_chat(client) for _ in range(2)]
        assert [reply.status for reply in running] == [200, 200]
        for path in ("/chat/completions", "/v1/chat/completions"):
            refused = start_chat(client, path)
            assert refused.status == 503 and refused.headers["Retry-After"] == "5"
            assert list(json.loads(refused.read())) == (["error"] if path.startswith("/v1") else ["detail"])
        for _ in range(25):
            assert [get(client, path)[0].status for path in ("/", "/health", "/stats")] == [200] * 3
        for reply in running:
            reply.close()
        until(lambda: all(app.pool.available for app in apps))
        assert [start_chat(client).status for _ in range(2)] == [200, 200]  # at once
        for app in apps:
            app.close(0)


def test_behind_nginx_nobody_waits_while_a_server_is_idle(tmp_path):
    apps = [make_app(EndlessEngine()) for _ in range(4)]
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(serving(app)) for app in apps]
        client = stack.enter_context(behind_nginx(tmp_path, *ports, rate="6000r/m"))
        for _ in range(6):
            replies = [start_chat(client) for _ in range(4)]
            assert all(reply.readline() for reply in replies) and not any(app.pool.line for app in apps)
            for reply in replies:
                reply.close()
            until(lambda: all(app.pool.available for app in apps))


def test_behind_nginx_a_rolling_restart_under_load_loses_nothing(base, tmp_path):
    write_pair(base / "chatsft_checkpoints" / "d4", meta=change(sequence_len=256))
    ports, done = [free_port(), free_port()], threading.Event()
    lost, counts, logs = [], [], []
    with contextlib.ExitStack() as stack:

        def server(port):
            process, *_ = stack.enter_context(started(HERE / "chat_web.py", port=port))
            threading.Thread(target=lambda: logs.extend(process.stderr)).start()  # a full pipe would halt it
            return process

        processes = [server(port) for port in ports]
        client = stack.enter_context(behind_nginx(tmp_path, *ports, rate="60000r/m", streams=100))

        def chats():
            while not done.is_set():
                reply = start_chat(client, max_tokens=20)
                raw = reply.read()
                counts.append("chat")
                if reply.status != 200 or events(raw)[-1] != {"done": True}:
                    lost.append((reply.status, raw))

        def pages():
            while not done.wait(0.02):
                for path in ("/", "/health"):
                    answer, raw = get(client, path)
                    counts.append("page")
                    if answer.status != 200:
                        lost.append((path, answer.status, raw))

        with ThreadPoolExecutor(6) as threads:
            clients = [threads.submit(work) for work in (chats, chats, chats, chats, pages, pages)]
            try:
                for process, port in zip(processes, ports, strict=True):
                    process.terminate()
                    assert process.wait(30) == 0
                    server(port)
                    done.wait(1)
            finally:
                done.set()
        for each in clients:
            each.result()
    assert lost == [] and counts.count("chat") > 50 and counts.count("page") > 50
    assert not any("Traceback" in line for line in logs)


# ---- What nginx says itself --------------------------------------------------------------------------------


def is_ours(answer, raw, path, status):
    """Whether an answer of nginx's own has our shape, and headers with which any origin may read it."""
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json"), raw
    assert answer.headers.get_all("Access-Control-Allow-Origin") == ["*"]
    if status in (429, 502, 503, 504):
        assert answer.headers.get_all("Retry-After") == ["5"]
    said = json.loads(raw)
    if not path.startswith("/v1/"):
        return len(said["detail"]) > 10 and list(said) == ["detail"]
    kind = "invalid_request_error" if status < 500 else "server_error"
    return said["error"]["type"] == kind and said["error"]["code"] is None


PATHS = ["/chat/completions", "/v1/chat/completions"]


@pytest.mark.parametrize("path", PATHS)
def test_behind_nginx_its_own_refusals_are_json_that_any_origin_may_read(tmp_path, path):
    app = make_app(ScriptedEngine("ok", END))
    with serving(app) as port, behind_nginx(tmp_path, port, rate="1r/m") as client:
        stranger, raw = get(client, path, {})
        assert is_ours(stranger, raw, path, 401) and "Basic" in stranger.headers["WWW-Authenticate"]
        connection = client()
        connection.request("POST", path, b" " * 2_000_000, FRIEND)
        large = connection.getresponse()
        assert is_ours(large, large.read(), path, 413)
        for _ in range(12):
            last = start_chat(client, path)
            raw = last.read()
            if last.status != 200:
                break
        assert is_ours(last, raw, path, 429)


@pytest.mark.parametrize("path", [*PATHS, "/health", "/v1/models"])
def test_behind_nginx_without_a_server_the_answer_is_json_too(tmp_path, path):
    with behind_nginx(tmp_path, free_port(), free_port()) as client:
        answer, raw = get(client, path)
        assert is_ours(answer, raw, path, 502)


def test_behind_nginx_a_server_that_does_not_answer_is_a_504_in_json(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with behind_nginx(tmp_path, silent.getsockname()[1], patience="1s") as client:
            answer, raw = get(client, "/health")
            assert is_ours(answer, raw, "/health", 504)


@pytest.mark.parametrize("path", PATHS)
def test_behind_nginx_preflights_pass_without_the_password_and_count_for_nothing(tmp_path, path):
    app = make_app(ScriptedEngine("ok", END))
    with serving(app) as port, behind_nginx(tmp_path, port, rate="1r/m") as client:
        for _ in range(20):
            connection = client()
            connection.request("OPTIONS", path, headers={"Origin": "http://example.org"})
            answer = connection.getresponse()
            assert answer.status == 204 and answer.headers.get_all("Access-Control-Allow-Origin") == ["*"]
        assert start_chat(client, path).status == 200
