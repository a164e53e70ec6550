"""The hands that every browser has: open, evaluate, wait, click, type, press, resize, take a picture.

Chromium is driven by playwright, Firefox over WebDriver BiDi, WebKit over WebDriver.
"""

import base64
import contextlib
import functools
import http.client
import json
import os
import re
import socket
import subprocess
import threading
import time

from standins import debian, package

KEYS = {
    "Backspace": "\ue003", "Tab": "\ue004", "Enter": "\ue007", "Shift": "\ue008", "Control": "\ue009",
    "Escape": "\ue00c", "PageUp": "\ue00e", "PageDown": "\ue00f", "End": "\ue010", "Home": "\ue011",
    "ArrowLeft": "\ue012", "ArrowUp": "\ue013", "ArrowRight": "\ue014", "ArrowDown": "\ue015",
}  # fmt: skip
DESK = (1280, 800)


class Hands:
    """One page in one browser, with a storage that was emptied."""

    name: str

    def open(self, url):
        """The page as someone sees it who has never been there."""
        self.go(url)
        self.evaluate("(localStorage.clear(), sessionStorage.clear())")
        self.resize(*DESK)
        self.go("about:blank")
        self.go(url)
        self.wait("document.readyState === 'complete' && frame === 0")
        return self

    def wait(self, expression: str, seconds: float = 15):
        """Polls until the expression is true, and returns it."""
        deadline = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline, f"{self.name}: {expression}"
            time.sleep(0.02)
        return value

    def finished(self):
        self.wait("!busy() && frame === 0 && !rows.querySelector('.changed')")
        return self

    def texts(self, selector: str) -> list[str]:
        found = f"[...document.querySelectorAll({json.dumps(selector)})]"
        return self.evaluate(f"{found}.map(e => e.textContent)")

    def count(self, selector: str) -> int:
        return self.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length")

    def visible(self, selector: str) -> bool:
        found = f"document.querySelector({json.dumps(selector)})"
        return self.evaluate(f"{found} !== null && {found}.getClientRects().length > 0")

    def seen(self, selector: str):
        found = f"document.querySelector({json.dumps(selector)})"
        self.wait(f"{found} !== null && {found}.getClientRects().length > 0")
        return self

    def click(self, selector: str):
        self.pointer(*self.middle(selector))

    def tap(self, selector: str):
        self.finger(*self.middle(selector))

    def hover(self, selector: str):
        self.pointer(*self.middle(selector), press=False)

    def middle(self, selector: str) -> list[int]:
        """The middle of the first such element, when it is there and stands still."""
        self.seen(selector)
        found = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{found}.scrollIntoView({{ block: 'nearest' }})")
        middle = f"""(() => {{ const box = {found}.getBoundingClientRect()
            return [Math.round(box.x + box.width / 2), Math.round(box.y + box.height / 2)] }})()"""
        where = self.evaluate(middle)
        while where != (where := self.evaluate(middle)):
            pass
        return where

    def press(self, keys: str):
        """Presses one key, with others held: "Control+z"."""
        *held, key = keys.split("+")
        self.strike([KEYS.get(each, each) for each in held], KEYS.get(key, key))

    def press_button(self):
        """Presses the button that has the focus."""
        self.press("Enter")

    def type(self, text: str):
        for letter in text:
            self.press(letter)

    def say(self, text: str):
        """Sends a message and waits for the end of its reply."""
        self.enter(text)
        return self.finished()

    def enter(self, text: str):
        self.click("#box")
        self.type(text)
        self.wait(f"state.draft === {json.dumps(text)}")
        self.press("Enter")
        self.wait("state.draft === ''")

    def fill(self, count: int, content: str):
        """Puts that many messages into the conversation; content is JavaScript for the text of message i."""
        self.evaluate(f"""put({{ ...conversation(), messages: Array.from({{ length: {count} }},
            (_, i) => ({{ role: i % 2 ? "assistant" : "user", content: {content} }})) }})""")
        return self.finished()


class Chromium(Hands):
    name = "chromium"

    def __init__(self, browser):
        self.context = browser.new_context(reduced_motion="reduce")
        self.page = self.context.new_page()

    def go(self, url):
        self.page.goto(url)

    def reload(self):
        self.page.reload()

    def back(self):
        self.page.evaluate("history.back()")

    def evaluate(self, expression):
        return self.page.evaluate(f"(async () => ({expression}))()")

    def pointer(self, x, y, press=True):
        self.page.mouse.click(x, y) if press else self.page.mouse.move(x, y)

    def finger(self, x, y):
        session = self.context.new_cdp_session(self.page)  # the browser itself stays one with a mouse
        for kind, points in (("touchStart", [dict(x=x, y=y)]), ("touchEnd", [])):
            session.send("Input.dispatchTouchEvent", dict(type=kind, touchPoints=points))

    def strike(self, held, key):
        names = {sign: name for name, sign in KEYS.items()}
        self.page.keyboard.press("+".join(names.get(each, each) for each in (*held, key)))

    def resize(self, width, height):
        self.page.set_viewport_size({"width": width, "height": height})

    def picture(self, path):
        self.page.screenshot(path=path)

    def close(self):
        self.context.close()


class Driven(Hands):
    """What WebDriver and its successor have in common: how keys and clicks are written down."""

    def pointer(self, x, y, press=True, kind="mouse"):
        steps = [{"type": "pointerMove", "x": x - 1, "y": y}] * (not press)  # WebKit overlooks single ones
        steps += [{"type": "pointerMove", "x": x, "y": y}]
        if press:
            steps += [{"type": each, "button": 0} for each in ("pointerDown", "pointerUp")]
        self.act({"type": "pointer", "id": kind, "parameters": {"pointerType": kind}, "actions": steps})

    def finger(self, x, y):
        self.pointer(x, y, kind="touch")

    def strike(self, held, key):
        down = [{"type": "keyDown", "value": each} for each in (*held, key)]
        up = [{"type": "keyUp", "value": each} for each in (key, *held)]
        self.act({"type": "key", "id": "keys", "actions": down + up})


class BiDi:
    """A session of WebDriver BiDi."""

    def __init__(self, socket):
        self.socket, self.number = socket, 0
        self.send("session.new", capabilities={})

    def send(self, method, **params):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while (answer := json.loads(self.socket.recv(60))).get("id") != self.number:
            pass
        assert answer["type"] == "success", answer
        return answer["result"]


class Firefox(Driven):
    name = "firefox"

    def __init__(self, bidi):
        self.bidi = bidi
        self.tab = bidi.send("browsingContext.getTree")["contexts"][0]["context"]

    def send(self, method, **params):
        return self.bidi.send(method, context=self.tab, **params)

    def go(self, url):
        self.send("browsingContext.navigate", url=url, wait="complete")

    def reload(self):
        self.send("browsingContext.reload", wait="complete")

    def back(self):
        self.send("browsingContext.traverseHistory", delta=-1)

    def evaluate(self, expression):
        whole = f"(async () => JSON.stringify(await ({expression}) ?? null) ?? 'null')()"
        where = {"context": self.tab}
        answer = self.bidi.send("script.evaluate", expression=whole, target=where, awaitPromise=True)
        assert answer["type"] == "success", answer["exceptionDetails"]["text"]
        return json.loads(answer["result"]["value"])

    def act(self, *actions):
        self.send("input.performActions", actions=actions)

    def press_button(self):
        self.evaluate("document.activeElement.click()")  # keys press none where the window has no focus

    def resize(self, width, height):
        self.send("browsingContext.setViewport", viewport={"width": width, "height": height})

    def picture(self, path):
        data = self.send("browsingContext.captureScreenshot")["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self):
        self.go("about:blank")


def send_webdriver(port, base, method, path, **body):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, base + path, json.dumps(body) if method == "POST" else None)
        answer = connection.getresponse()
        value = json.loads(answer.read())["value"]
    assert answer.status == 200, value
    return value


class WebKit(Driven):
    name = "webkit"

    def __init__(self, session):
        self.send = session

    def go(self, url):
        self.send("POST", "/url", url=url)

    def reload(self):
        self.send("POST", "/refresh")

    def back(self):
        self.send("POST", "/back")

    def evaluate(self, expression):
        whole = f"""const done = arguments[0]
            ;(async () => JSON.stringify(await ({expression}) ?? null) ?? 'null')()
                .then(text => done(["value", text]), error => done(["error", String(error)]))"""
        kind, text = self.send("POST", "/execute/async", script=whole, args=[])
        assert kind == "value", text
        return json.loads(text)

    def act(self, *actions):
        self.send("POST", "/actions", actions=actions)

    def resize(self, width, height):
        """The page's size; the window's is more by its own bars."""
        wanted = [width, height]
        for _ in range(50):
            have = self.evaluate("[innerWidth, innerHeight]")
            if have == wanted:
                return
            rect = self.send("GET", "/window/rect")
            bars = rect["width"] - have[0], rect["height"] - have[1]
            self.send("POST", "/window/rect", width=int(width + bars[0]), height=int(height + bars[1]))
            time.sleep(0.05)
        raise AssertionError(f"the window does not become {wanted}")

    def picture(self, path):
        path.write_bytes(base64.b64decode(self.send("GET", "/screenshot")))

    def close(self):
        self.go("about:blank")


# Starting the browsers ------------------------------------------------------------------------------------
@contextlib.contextmanager
def process(*command, **environment):
    """A program that ends with the block, and its output."""
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    program = subprocess.Popen([*map(str, command)], env={**os.environ, **environment}, **streams)
    try:
        yield program.stdout
    finally:
        program.terminate()
        program.wait(20)
        program.stdout.close()


@contextlib.contextmanager
def firefox(profile):
    """A connection to a Firefox without a window."""
    quiet = {
        "app.update.auto": False,
        "browser.shell.checkDefaultBrowser": False,
        "datareporting.policy.dataSubmissionEnabled": False,
        "general.smoothScroll": False,
        "ui.prefersReducedMotion": 1,
        "ui.primaryPointerCapabilities": 6,  # a mouse, which a browser without a screen does not have
    }
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in quiet.items()]
    (profile / "user.js").write_text("".join(lines))
    flags = ("--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0")
    with process(debian("firefox-esr"), *flags, HOME=str(profile)) as output:
        found = (re.search(r"BiDi listening on (ws://\S+)", line) for line in output)
        address = next(filter(None, found))[1]
        threading.Thread(target=output.read, daemon=True).start()  # so that it never waits for a reader
        with package("websockets.sync.client").connect(address + "/session", max_size=None) as socket:
            yield BiDi(socket)


@contextlib.contextmanager
def webkit(home):
    """What sends commands to a MiniBrowser, on a screen that nobody sees."""
    screen = ("-displayfd", "1", "-screen", "0", "1600x1200x24", "-nolisten", "tcp")
    with process(debian("Xvfb"), *screen) as output:
        display = ":" + next(line.strip() for line in output if line.strip().isdigit())
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        away = dict(DISPLAY=display, HOME=str(home), XDG_RUNTIME_DIR=str(home), GDK_BACKEND="x11")
        away |= dict(GTK_A11Y="none", NO_AT_BRIDGE="1")
        with process(debian("WebKitWebDriver"), f"--port={port}", **away):
            deadline = time.monotonic() + 20
            while True:
                try:
                    http.client.HTTPConnection("127.0.0.1", port, timeout=5).connect()
                    break
                except ConnectionRefusedError:
                    assert time.monotonic() < deadline, "WebKitWebDriver does not answer"
                    time.sleep(0.05)
            send = functools.partial(send_webdriver, port, "/session")
            session = send("POST", "", capabilities={"alwaysMatch": {}})["sessionId"]
            yield (send := functools.partial(send_webdriver, port, "/session/" + session))
            send("DELETE", "")
