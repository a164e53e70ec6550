"""What the documents and the page's source say."""

import os
import re
import subprocess
import sys

from werkzeug.test import Client

import chat_web
from standins import HERE, SEED_FLAGS, ScriptedEngine, make_app


def test_contrast_is_enough_in_both_themes():
    """WCAG AA: 4.5 for text, 3 for the edges of controls; computed from the page's own colours."""
    page = (HERE / "ui.html").read_text()
    colours = dict(re.findall(r"--([\w-]+): light-dark\((#\w{6}, #\w{6})\)", page))
    assert len(colours) >= 12

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        return sum(
            weight * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
            for weight, c in zip((0.2126, 0.7152, 0.0722), parts)
        )

    grounds = "paper side raised bubble code".split()
    pairs = [(front, back, 4.5) for front in ("ink", "soft", "accent") for back in grounds]
    pairs += [("error", back, 4.5) for back in ("error-paper", "paper", "raised")]
    pairs += [("on-accent", "accent", 4.5)]
    pairs += [(front, back, 3) for front in ("edge", "accent") for back in ("paper", "raised", "side")]
    low = []
    for front, back, least in pairs:
        for theme in (0, 1):
            bright, dim = sorted(
                (luminance(colours[name].split(", ")[theme]) for name in (front, back)), reverse=True
            )
            ratio = (bright + 0.05) / (dim + 0.05)
            low += [(front, back, "light dark".split()[theme], round(ratio, 2))] if ratio < least else []
    assert low == []


def test_the_page_loads_nothing_from_elsewhere_and_its_policy_forbids_it():
    response = Client(make_app(ScriptedEngine())).get("/")
    html = (HERE / "ui.html").read_text()
    links = re.findall(r"""\s(?:src|href|action)=["']?([^"' >]*)""", html.partition("<script>")[0])
    assert all(link.startswith(("data:", "#")) for link in links)
    assert not re.search(r"@import|url\((?!#|data:)|importScripts|WebSocket|sendBeacon", html)
    policy = response.headers["Content-Security-Policy"]
    for rule in ("default-src 'none'", "script-src 'sha256-", "connect-src 'self'"):
        assert rule in policy


def test_the_source_keeps_its_own_rules():
    source = (HERE / "ui.html").read_text()
    for tag in ("<script>", '<script type="application/json" id="config">{}</script>'):
        assert source.count(tag) == 1
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write"
    elsewhere = r"javascript:|\son\w+=\"|src=\"|@import|url\("
    assert not re.search(rf"{markup}|{elsewhere}|\beval\(|new Function", source)
    name_space = "http://www.w3.org"  # no address to load from
    assert set(re.findall(r"https?://[\w.]+", source)) <= {name_space}
    assert max(map(len, source.splitlines())) <= 150


def test_the_documents_name_only_tests_that_exist():
    named = {
        name
        for file in HERE.rglob("*.md")
        if ".venv" not in file.parts
        for name in re.findall(r"`(test_\w+\*?)`", file.read_text())
    }
    source = "".join(file.read_text() for file in [HERE / "test_chat_web.py", *HERE.glob("tests/test_*.py")])
    assert len(named) > 15 and all(f"def {name.rstrip('*')}" in source for name in named)


def test_the_readme_names_every_flag_endpoint_and_limit():
    readme = (HERE / "README.md").read_text()
    for flag, (short, default) in SEED_FLAGS.items():
        for word in (flag, short, default):
            assert word is None or f"`{word}`" in readme
    endpoints = [f"GET {path}" for path in ("/", "/health", "/stats", "/v1/models")]
    endpoints += [f"POST {path}" for path in ("/chat/completions", "/v1/chat/completions", "/v1/completions")]
    for endpoint in endpoints:
        assert f"`{endpoint}`" in readme
    c, names = chat_web, ("temperature", "top-k", "max tokens", "top-p", "repetition penalty")
    sampling = list(zip(names, c.SAMPLING.values(), strict=True))
    for row in (
        f"messages | {c.MAX_MESSAGES} | 400",
        f"characters of a message | {c.MAX_MESSAGE_LENGTH:,} | 400",
        f"characters of a conversation | {c.MAX_CONVERSATION_LENGTH:,} | 400",
        *(f"{name} | {low:g} to {high:,g} | clamped" for name, (_, low, high) in sampling),
        f"request line and headers | {c.MAX_HEAD >> 10} KiB | 431",
        f"body | {c.MAX_BODY >> 20} MiB | 413",
        f"requests waiting for a worker | {c.MAX_WAITING}, each for {c.WAIT_SECONDS} s",
        f"connections | {c.MAX_CONNECTIONS}, half",
        f"time for a request to arrive | {c.REQUEST_SECONDS} s",
        f"time for a reply to wait for its reader | {c.SEND_SECONDS} s in all",
    ):
        assert f"| {row}" in readme


def test_what_the_readme_shows_of_python_runs():
    (code,) = re.findall(r"```python\n(from checkpoint.*?)```", (HERE / "README.md").read_text(), re.DOTALL)
    demo = os.environ | {"NANOCHAT_BASE_DIR": str(HERE / "demo")}
    said = subprocess.check_output([sys.executable, "-c", code], cwd=HERE, env=demo, text=True, timeout=120)
    assert "408" in said


def test_the_readme_is_short():
    assert len((HERE / "README.md").read_text().split()) <= 900
    assert (HERE / "bench" / "page.png").stat().st_size < 150_000
