"""More than one server, behind nginx, and the systemd unit: what stands in deploy/."""

import base64
import contextlib
import http.client
import json
import re
import socket
import ssl
import subprocess
import sys
import threading

import pytest

import chat_web
from standins import (
    END,
    EndlessEngine,
    HERE,
    ScriptedEngine,
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
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextlib.contextmanager
def behind_nginx(tmp_path, *ports, rate="30r/m"):
    """deploy/nginx.conf with its marked lines adapted, before these ports; yields what connects by TLS."""
    nginx, openssl = debian("nginx"), debian("openssl")
    request = "req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 2".split()
    files = ["-keyout", tmp_path / "privkey.pem", "-out", tmp_path / "fullchain.pem"]
    run_quietly(openssl, *request, *files)
    hashed = subprocess.check_output([openssl, "passwd", "-apr1", "secret"], text=True)
    (tmp_path / "passwords").write_text(f"friend:{hashed}")
    port = free_port()
    conf = (HERE / "deploy" / "nginx.conf").read_text().replace("/etc/nginx/chat_web", str(tmp_path))
    conf = conf.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl").replace(
        "rate=30r/m", f"rate={rate}"
    )
    servers = "".join(f"    server 127.0.0.1:{number} max_fails=1 fail_timeout=5s;\n" for number in ports)
    conf, replaced = re.subn(
        r"(    server 127\.0\.0\.1:800\d max_fails=1 fail_timeout=5s;\n)+", servers, conf
    )
    assert replaced == 1
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "site.conf").write_text(conf)
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}"
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
        process.kill()
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
