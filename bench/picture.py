"""Makes the README's picture of the page, bench/page.png: python bench/picture.py (playwright and chromium)

It starts a server with the demo model, has a short conversation in a browser, looks into the last reply, at the
token of which the model was the least sure, and takes a screenshot.
"""

from pathlib import Path

from common import ROOT, browser, started

PICTURE = Path(__file__).with_name("page.png")
CONVERSATIONS = (  # the last one is seen whole, the others in the list at its side
    ["How many r are in strawberry?"],
    ["Show me a python hello world"],
    ["How do I start the server?"],
    ["What is 12*34?", "Show me the endpoints as a table", "List three fruits."],
)

LEAST_SURE = """(() => {
    const sure = conversation().messages.at(-1)[FACTS].tokens.map(token => token.logprob)
    return sure.indexOf(Math.min(...sure))
})()"""


def ask(page, text: str) -> None:
    page.locator("#box").fill(text)
    page.locator("#box").press("Enter")
    while page.evaluate("busy() || frame"):
        page.wait_for_timeout(100)


def main() -> None:
    flags = ("-d", "float32", "-t", "0")
    with started(*flags, NANOCHAT_BASE_DIR=str(ROOT / "demo")) as (_, port, _), browser() as chromium:
        page = chromium.new_page(viewport={"width": 1280, "height": 910})
        page.goto(f"http://127.0.0.1:{port}/")
        for questions in CONVERSATIONS:
            page.get_by_role("button", name="New conversation").click()
            for text in questions:
                ask(page, text)
        page.get_by_role("button", name="Look into it").last.click()
        page.locator(f".row:last-child [data-i='{page.evaluate(LEAST_SURE)}']").click()
        page.mouse.move(140, 600)  # away from what shows buttons
        page.screenshot(path=PICTURE)
    print(PICTURE, PICTURE.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
