"""Fixtures that several files of tests share."""

import contextlib
import functools
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
pytest.register_assert_rewrite("standins", "hands")

import hands  # noqa: E402
from standins import (  # noqa: E402
    HERE,
    Handler,
    Script,
    Server,
    debian,
    open_page,
    package,
    run_quietly,
    started,
)
from test_chat_web import base  # noqa: E402, F401


@pytest.fixture(scope="session")
def chromium():
    quiet = "disable-gpu disable-background-networking disable-component-update disable-sync no-first-run"
    flags = [f"--{flag}" for flag in ("no-sandbox", *quiet.split())]
    with package("playwright.sync_api").sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=debian("chromium"), args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def listening():
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def script(listening):
    listening.script = Script()
    listening.script.url = f"http://127.0.0.1:{listening.server_port}/"
    return listening.script


@pytest.fixture
def context(chromium):
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    context.set_default_timeout(15000)
    context.add_init_script(
        "addEventListener('securitypolicyviolation', "
        "e => console.error('CSP ' + e.violatedDirective + ' ' + e.blockedURI))"
    )
    yield context
    context.close()


@pytest.fixture
def page(context, script):
    return open_page(context, script)


@pytest.fixture(scope="module")
def reader(chromium, listening):
    """One page for all that only asks the page's functions."""
    listening.script = Script()
    page = chromium.new_page()
    page.goto(f"http://127.0.0.1:{listening.server_port}/")
    yield page
    page.close()


@pytest.fixture(scope="session")
def axe(tmp_path_factory) -> str:
    """The script of axe-core, from npm."""
    folder = tmp_path_factory.mktemp("axe")
    run_quietly(debian("npm"), "install", "--silent", "--prefix", folder, "axe-core")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The server as a newcomer starts it, who has no model: the port, and what was printed."""
    home = tmp_path_factory.mktemp("home")
    with started(HERE / "chat_web.py", cwd=home, HOME=str(home), NANOCHAT_BASE_DIR=None) as (_, port, lines):
        yield port, lines


@pytest.fixture(scope="session")
def engines(request, tmp_path_factory):
    """What opens a new page in the browser of that name, which is started when it is first asked for."""
    with contextlib.ExitStack() as running:

        @functools.cache
        def browser(name):
            if name == "chromium":
                return request.getfixturevalue("chromium")
            start = {"firefox": hands.firefox, "webkit": hands.webkit}[name]
            return running.enter_context(start(tmp_path_factory.mktemp(name)))

        kinds = {kind.name: kind for kind in (hands.Chromium, hands.Firefox, hands.WebKit)}
        yield lambda name: kinds[name](browser(name))


@pytest.fixture(params=["chromium", "firefox", "webkit"])
def hand(request, engines, script):
    """The page, open in each of the three browsers."""
    with contextlib.closing(engines(request.param)) as hand:
        yield hand.open(script.url)
