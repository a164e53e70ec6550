"""What a token costs the browser, and how a long conversation opens and reads: python bench/page.py

A reply of 4,000 tokens streams into the page, in turns: in a new conversation, in one of 200 messages, and
shown token by token; then those tokens are walked through, as with the arrow keys. What counts is the time of
the page's own scripts and of the layout that they ask for, without painting. The long conversation is also
opened, and read from its end to its beginning, a screen in each frame. Of all times the least of the rounds is
printed: a neighbour's work counts for nothing.

    python bench/page.py --browser firefox --rounds 3

Without --browser it runs in each of the three that is installed. The hands are those of the page's tests, so
it needs pytest, for Chromium playwright, for Firefox websockets, and for WebKit WebKitWebDriver and Xvfb.
"""

import argparse
import contextlib
import functools
import logging
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from common import ROOT, ScriptedEngine, browser, make_tokenizer, scripted_app, serving

sys.path.insert(0, str(ROOT / "tests"))
import hands
from engine import Token

PROGRAMS = {"chromium": "chromium", "firefox": "firefox-esr", "webkit": "WebKitWebDriver"}
CONTENT = r'`Message **${i}**\n\n- a\n- b\n\n` + "Some more words. ".repeat(8)'
MEASURE = """(() => { globalThis.spent = 0
    for (const name of ["render", "hear", "tick"]) {
        const work = globalThis[name]
        globalThis[name] = (...given) => {
            const began = performance.now(), result = work(...given)
            if (name === "render") log.scrollHeight  // asks for the layout now
            spent += performance.now() - began
            return result
        }
    } })()"""
READ = """(async () => {
    const frame = () => new Promise(requestAnimationFrame), id = state.current, spent = []
    ACTIONS.fresh()
    while (state.current === id || busy() || rows.querySelector(".changed")) await frame()
    const began = performance.now()
    show(id)
    do await frame()
    while (rows.children.length < conversation().messages.length || rows.querySelector(".changed"))
    const opened = performance.now() - began
    for (let last = await frame(); log.scrollTop > 0;) {
        log.scrollTop -= log.clientHeight
        const now = await frame()
        spent.push(now - last)
        last = now
    }
    return [opened, spent] })()"""

WALK = """(async () => {
    const frame = () => new Promise(requestAnimationFrame), spent = []
    const { length } = conversation().messages[1][FACTS].tokens
    for (let i = 0, last = await frame(); i < 60; i++) {
        chooseToken(1, Math.floor(i / 60 * length), { kept: true, byKey: true })
        await frame()
        const now = await frame()
        spent.push((now - last) / 2)
        last = now
    }
    return spent })()"""


def words(count: int) -> list[str]:
    """A reply's tokens: prose, and at every 25th a list or a heading."""
    marks = ["- item" if i % 75 else "### Part" for i in range(count)]
    return [f"word{i} " if i % 25 else f"\n\n{marks[i]} {i} **bold** `code`\n\n" for i in range(count)]


def microseconds(hand: hands.Hands, reply: list[str]) -> float:
    """Of scripts and layout, for each token of the reply that the open page asks for."""
    hand.evaluate(MEASURE)
    hand.enter("Go")
    while hand.evaluate("busy() || frame"):
        time.sleep(0.25)
    drawn = hand.evaluate("conversation().messages.at(-1).content")
    assert drawn == "".join(reply), "the page shows another reply"
    return 1000 * hand.evaluate("spent") / len(reply)


@contextlib.contextmanager
def started_browser(name: str) -> Iterator[Callable[[], hands.Hands]]:
    """What opens a new page in it."""
    if name == "chromium":
        with browser() as chromium:
            yield functools.partial(hands.Chromium, chromium)
        return
    start, kind = {"firefox": (hands.firefox, hands.Firefox), "webkit": (hands.webkit, hands.WebKit)}[name]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home, start(Path(home)) as session:
        yield functools.partial(kind, session)


def measure(name: str, url: str, reply: list[str], messages: int, rounds: int) -> str:
    """A browser's row of the table."""
    found = []
    with started_browser(name) as new_page:
        for _ in range(rounds):
            with contextlib.closing(new_page()) as hand:
                alone = microseconds(hand.open(url), reply)
            with contextlib.closing(new_page()) as hand:
                hand.open(url).fill(messages, CONTENT)
                opened, frames = hand.evaluate(READ)
                after = microseconds(hand, reply)
            with contextlib.closing(new_page()) as hand:
                hand.open(url).evaluate("set({ tokens: true })")
                looked = microseconds(hand, reply)
                steps = hand.evaluate(WALK)
            reading = opened, statistics.median(frames), max(frames)
            found.append((alone, after, *reading, looked, statistics.median(steps), max(steps)))
    alone, after, *reading = map(min, zip(*found))
    columns = (f"{spent:.0f}" for spent in reading)
    return f"| {name} | {alone:.0f} | {after:.0f} | {after / alone:.2f} | {' | '.join(columns)} |"


def main() -> None:
    installed = [name for name, program in PROGRAMS.items() if shutil.which(program)]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--browser", nargs="+", choices=PROGRAMS, default=installed or ["chromium"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=4000, help="of a reply, at most 4,096")
    parser.add_argument("--messages", type=int, default=200, help="of the long conversation, at most 498")
    args = parser.parse_args()
    logging.disable()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # the browsers end too
    reply = words(args.tokens)
    tokenizer = make_tokenizer(word.encode() for word in reply)
    tokens = [Token(256 + number) for number in range(len(reply))]
    for token in tokens:
        token.logprob, token.likeliest = -0.5, tuple((token - place, -0.5 - place) for place in range(5))
    engine = ScriptedEngine([*tokens, tokenizer.special["<|assistant_end|>"]], 0.001)
    print(f"| browser | us/token, new conversation | after {args.messages} messages | ratio "
          "| opened, ms | frame while reading back, ms | the longest "
          "| us/token, as tokens | frame of a step, ms | the longest |")  # fmt: skip
    print("| --- " * 10 + "|", flush=True)
    with serving(scripted_app(1, tokenizer, engine)) as port:
        for name in args.browser:
            url = f"http://127.0.0.1:{port}/"
            print(measure(name, url, reply, args.messages, args.rounds), flush=True)


if __name__ == "__main__":
    main()
