"""What a token costs the browser: python bench/page.py (needs playwright, and chromium)

A reply of 4,000 tokens streams into the page, in a new conversation and in one of 200 messages, three times
each. It prints the time that scripts and layout took, for each token.
"""

import logging

from common import ScriptedEngine, browser, make_tokenizer, scripted_app, serving

WORDS = [f"word{i} " if i % 25 else f"\n\n{'- item' if i % 75 else '### Part'} {i} **bold** `code`\n\n"
         for i in range(4000)]  # fmt: skip
FILL = """count => put({ ...conversation(), messages: Array.from({ length: count }, (_, i) => ({
    role: i % 2 ? "assistant" : "user",
    content: `Message **${i}**\\n\\n- a\\n- b\\n\\n` + "Some more words. ".repeat(8),
})) })"""


def durations(session) -> list[float]:
    """The seconds of scripts and of layout so far."""
    found = session.send("Performance.getMetrics")["metrics"]
    values = {item["name"]: item["value"] for item in found}
    return [values["ScriptDuration"], values["LayoutDuration"]]


def measure(chromium, port: int, messages: int) -> str:
    """A row of the table: one reply after so many messages."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{port}/")
    page.evaluate(FILL, messages)
    session = context.new_cdp_session(page)
    session.send("Performance.enable")
    before = durations(session)
    page.locator("#box").fill("Go")
    page.locator("#box").press("Enter")
    while page.evaluate("busy() || frame"):
        page.wait_for_timeout(250)
    scripts, layout = (1e6 * (late - early) / len(WORDS) for late, early in zip(durations(session), before))
    drawn = page.evaluate("conversation().messages.at(-1).content")
    assert drawn == "".join(WORDS), "the page shows another reply"
    context.close()
    return f"| {messages} | {scripts:.0f} | {layout:.0f} |"


def main() -> None:
    logging.disable()
    tokenizer = make_tokenizer(word.encode() for word in WORDS)
    tokens = [256 + number for number in range(len(WORDS))]
    engine = ScriptedEngine([*tokens, tokenizer.special["<|assistant_end|>"]], 0.001)
    print("| messages before | scripts, us/token | layout, us/token |\n| --- | --- | --- |")
    with serving(scripted_app(1, tokenizer, engine)) as port, browser() as chromium:
        for messages in (0, 200) * 3:
            print(measure(chromium, port, messages), flush=True)


if __name__ == "__main__":
    main()
