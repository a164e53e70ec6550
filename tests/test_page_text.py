"""The page in a real Chromium: how replies are shown, markdown and tool calls."""

import re
import threading

import pytest

from standins import debian, expect, finished, last, package, say, told

package("playwright")
debian("chromium")


# Markdown ---------------------------------------------------------------------------------------------------
MARKDOWN = {
    "paragraphs and line breaks": ("One\ntwo\n\nthree", "<p>One\ntwo</p><p>three</p>"),
    "bold and italics": (
        "**b** *i* __b__ _i_ ***both*** ~~gone~~",
        "<p><strong>b</strong> <em>i</em> <strong>b</strong> <em>i</em> "
        "<strong><em>both</em></strong> <s>gone</s></p>",
    ),
    "nested emphasis": (
        "**a *b* c** *d **e***",
        "<p><strong>a <em>b</em> c</strong> <em>d <strong>e</strong></em></p>",
    ),
    "no emphasis": (
        "2 * 3 * 4, 5*6*7, 2**3**4, snake_case_name, * a, **",
        "<p>2 * 3 * 4, 5*6*7, 2**3**4, snake_case_name, * a, **</p>",
    ),
    "emphasis without spaces": ("这是**重点**吗", "<p>这是<strong>重点</strong>吗</p>"),
    "escapes": (r"\*not\* \`code\` \# \\", r"<p>*not* `code` # \</p>"),
    "inline code": (
        "`a*b*` ``x ` y`` ` ` `open",
        "<p><code>a*b*</code> <code>x ` y</code> <code> </code> `open</p>",
    ),
    "headings": ("# One\n## Two ##\n###### Six\n#no", "<h3>One</h3><h4>Two</h4><h6>Six</h6><p>#no</p>"),
    "lists": (
        "- a\n- b\n  - c\n    - d\n- e\n\n3. x\n4. y",
        "<ul><li><p>a</p></li><li><p>b</p><ul><li><p>c</p><ul><li><p>d</p></li></ul></li></ul></li>"
        '<li><p>e</p></li></ul><ol start="3"><li><p>x</p></li><li><p>y</p></li></ol>',
    ),
    "loose lists with more in an item": (
        "1. a\n\n   more\n\n2. b\n   - c\n\nend",
        '<ol start="1"><li><p>a</p><p>more</p></li><li><p>b</p><ul><li><p>c</p></li></ul></li></ol>'
        "<p>end</p>",
    ),
    "tabs in lists": ("- a\n\t- b", "<ul><li><p>a</p><ul><li><p>b</p></li></ul></li></ul>"),
    "quotes": (
        "> a\n> b\n>\n> - c\n\nd",
        "<blockquote><p>a\nb</p><ul><li><p>c</p></li></ul></blockquote><p>d</p>",
    ),
    "rules": ("a\n\n---\n***\n\nb", "<p>a</p><hr><hr><p>b</p>"),
    "tables": (
        "| a | b |\n|:--|--:|\n| 1 | **2** |\n| `3` |\n\nend",
        '<table><thead><tr><th>a</th><th style="text-align: right;">b</th></tr></thead><tbody>'
        '<tr><td>1</td><td style="text-align: right;"><strong>2</strong></td></tr>'
        '<tr><td><code>3</code></td><td style="text-align: right;"></td></tr>'
        "</tbody></table><p>end</p>",
    ),
    "links": (
        "[a](https://x.org/a_(b)) <https://x.org> https://x.org/y_z. (https://x.org) [m](mailto:a@b.c)",
        "<p><a>a</a>https://x.org/a_(b) &lt;<a>https://x.org</a>https://x.org&gt; "
        "<a>https://x.org/y_z</a>https://x.org/y_z. "
        "(<a>https://x.org</a>https://x.org) <a>m</a>mailto:a@b.c</p>",
    ),
    "brackets that are no links": ("[a] [b][c] a[0](x) ![", "<p>[a] [b][c] a[0](x) ![</p>"),
    "images are links": ("![a cat](https://x.org/c.png)", "<p><a>a cat</a>https://x.org/c.png</p>"),
    "tool calls": (
        "It is <|python_start|>12*34<|python_end|><|output_start|>408<|output_end|>.",
        "<p>It is [12*34=408].</p>",
    ),
    "a tool call with newlines in it": (
        "<|python_start|>1\n\n- 2<|python_end|><|output_start|>3<|output_end|>",
        "<p>[1  - 2=3]</p>",
    ),
    "a tool call without its answer, and stray markers": (
        "a<|output_end|> <|python_start|>1/0<|python_end|> b",
        "<p>a [1/0] b</p>",
    ),
    "a tool call without its answer swallows nothing after it": (
        "<|python_start|>1/0<|python_end|>\n\n- x\n- y",
        "<p>[1/0]</p><ul><li><p>x</p></li><li><p>y</p></li></ul>",
    ),
    "an address in brackets": (
        "[https://x.org/a](https://x.org/a) [https://x.org]",
        "<p><a>https://x.org/a</a>https://x.org/a [<a>https://x.org</a>https://x.org]</p>",
    ),
    "a table under a line of text": (
        "Here:\n| a |\n|--|\n| 1 |",
        "<p>Here:</p><table><thead><tr><th>a</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table>",
    ),
    "a year at the start of a line": (
        "It was\n2020. Then\n1. x",
        '<p>It was\n2020. Then</p><ol start="1"><li><p>x</p></li></ol>',
    ),
    "html is text": ("a <b>b</b> &amp; <br> c", "<p>a &lt;b&gt;b&lt;/b&gt; &amp; \n c</p>"),
    "carriage returns": (
        "# a\r\n\r\n- b\r\n- c\r\n",
        "<h3>a</h3><ul><li><p>b</p></li><li><p>c</p></li></ul>",
    ),
}
# What a reply shows, as short as it can be said: a link's address after it, a tool call as [asked=answered].
SHORT = """function short(box) {
    const copy = box.cloneNode(true)
    for (const link of copy.querySelectorAll("a")) {
        link.after(link.getAttribute("href"))
        for (const name of link.getAttributeNames()) link.removeAttribute(name)
    }
    for (const tool of copy.querySelectorAll(".tool")) {
        const parts = [...tool.children].filter(part => !part.hidden).map(part => part.textContent)
        tool.replaceWith("[" + parts.join("=") + "]")
    }
    for (const table of copy.querySelectorAll(".table")) table.replaceWith(table.firstChild)
    for (const cell of copy.querySelectorAll("th, td")) {
        if (cell.style.textAlign === "start") cell.removeAttribute("style")
        cell.removeAttribute("scope")
    }
    for (const node of copy.querySelectorAll("[dir]")) node.removeAttribute("dir")
    return copy.innerHTML
}"""


@pytest.mark.parametrize("name", MARKDOWN)
def test_markdown_is_shown_as_models_mean_it(reader, name):
    source, shown = MARKDOWN[name]
    draw = "const box = make('div'); drawMarkdown(box, source, false); return short(box)"
    assert reader.evaluate(f"source => {{ {SHORT}; {draw} }}", source) == shown


def test_code_is_shown_with_its_language_and_as_it_was_written(page, script):
    code = "def f():\n\treturn '<b>' * 2  # " + "long " * 60 + "\n\n- no list, **no bold**"
    told(page, script, f"Look:\n```python title\n{code}\n```\nDone.\n~~~\n```\n~~~")
    blocks = last(page).locator(".code")
    expect(blocks).to_have_count(2)
    assert blocks.nth(0).locator("code").text_content() == code
    expect(blocks.nth(0).locator(".bar span")).to_have_text("python")
    assert blocks.nth(1).locator("code").text_content() == "```"
    assert page.evaluate(
        "document.querySelector('.code pre').scrollWidth > document.querySelector('.code pre').clientWidth"
    )
    assert page.evaluate("log.scrollWidth === log.clientWidth")


def test_growing_text_ends_as_if_it_had_come_at_once(reader):
    """Every sample, and shuffles of their lines, letter by letter: what is settled early is right."""
    wrong = reader.evaluate(
        """samples => {
        let seed = 7
        const random = n => (seed = seed * 48271 % 2147483647) % n
        const lines = samples.flatMap(sample => sample.split("\\n"))
        lines.push("", "", "```", "    x", "| a | b |", "|--|--|")
        const line = () => lines[random(lines.length)]
        for (let i = 0; i < 60; i++) samples.push(Array.from({ length: 12 }, line).join("\\n"))
        return samples.filter(sample => {
            const grown = make("div"), once = make("div")
            for (let i = 1; i <= sample.length; i++) drawMarkdown(grown, sample.slice(0, i), true)
            drawMarkdown(grown, sample, false)
            drawMarkdown(once, sample, false)
            return grown.innerHTML !== once.innerHTML
        })
    }""",
        [source for source, _ in MARKDOWN.values()]
        + ["para\n```a`b\nc", "para\n1. x\ny", "- a\n\n\n  b\n> c\nd"],
    )
    assert wrong == []


def test_no_mixture_of_marks_breaks_the_page_or_loses_a_word(reader):
    wrong = reader.evaluate(r"""() => {
        let seed = 11
        const random = n => (seed = seed * 48271 % 2147483647) % n
        const marks = ["*", "**", "***", "_", "`", "``", "~~", "[", "![", "](https://x.org)", "](", "]", ")",
            "<|python_start|>", "<|python_end|>", "<|output_start|>", "<|output_end|>", "https://x.org/a",
            "\\", "|", "\n", "\n\n", "- ", "> ", "# ", "1. ", "```", "<br>", " ", " "]
        const wrong = []
        for (let round = 0; round < 500; round++) {
            const words = [], word = () => words[words.push("w" + words.length + ".") - 1]
            const mark = () => marks[random(marks.length)]
            const text = Array.from({ length: 24 }, () => random(3) ? mark() : word()).join("")
            for (const open of [true, false]) {
                const box = make("div")
                try { drawMarkdown(box, text, open) } catch (error) { wrong.push([text, String(error)]) }
                const lost = words.some(word => !(box.textContent + box.innerHTML).includes(word))
                if (!open && lost && !/```|~~~/.test(text)) wrong.push([text, box.textContent])
            }
        }
        return wrong.slice(0, 5)
    }""")
    assert wrong == []


def test_half_written_markup_is_never_seen(reader):
    source = (
        "Some **bold *and italic* text** and `code` with ~~old~~ words.\n\n## A heading\n\n"
        "1. one\n   - **two**\n2. three\n\n```python\nx = 1\n```\n\n"
        "| a | b |\n| --- | :-: |\n| 1 | **2** |\n\n> quoted __strongly__\n\n---\n\n"
        "It is <|python_start|>1+1<|python_end|><|output_start|>2<|output_end|>!"
    )
    seen = reader.evaluate(
        """source => Array.from(source, (_, i) => {
        const box = make("div")
        drawMarkdown(box, source.slice(0, i + 1), true)
        return box.textContent
    })""",
        source,
    )
    assert [
        text
        for text in seen
        if re.search(r"[*`~#|>_]|---|<|^\d\.|python_|output_", text.replace("x = 1", ""))
    ] == []


def test_what_is_settled_is_not_drawn_again(page, script):
    """A selection in an earlier paragraph, and a code block's scroll, live through the rest of the stream."""
    more = threading.Event()
    script.answer(
        "First paragraph.\n\n",
        "```\n" + "wide " * 100 + "\n```\n",
        "\nNow",
        more,
        " and **then**\n\n- some\n- more\n",
    )
    say(page, "Hi")
    expect(last(page).locator(".body")).to_contain_text("Now")
    page.evaluate("""() => {
        getSelection().selectAllChildren(document.querySelector(".text > p"))
        document.querySelector(".code pre").scrollLeft = 100
        window.kept = [...document.querySelectorAll(".text > *")]
    }""")
    more.set()
    finished(page)
    assert page.evaluate("getSelection().toString()") == "First paragraph."
    assert page.evaluate("document.querySelector('.code pre').scrollLeft") == 100
    assert page.evaluate("kept.every(node => node.isConnected)")


HOSTILE = [
    "<script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    "]]><svg onload=window.pwned=1>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'>",
    "[a](javascript:window.pwned=1)",
    "[a]( javascript:window.pwned=1 )",
    "[a](JaVaScRiPt&colon;window.pwned=1)",
    "[a](java\tscript:window.pwned=1)",
    "[a](data:text/html,<script>1</script>)",
    "[a](vbscript:x)",
    "[a](//evil.example)",
    "[a](file:///etc/passwd)",
    "![a](javascript:window.pwned=1)",
    '[a](https://x.org"onmouseover="window.pwned=1)',
    "<a href='javascript:window.pwned=1'>x</a>",
    '```"><img src=x onerror=window.pwned=1>\nx\n```',
    "<|python_start|><img src=x onerror=window.pwned=1><|python_end|>"
    "<|output_start|><script>window.pwned=1</script><|output_end|>",
    "| <img src=x onerror=window.pwned=1> | b |\n|--|--|\n| <script>window.pwned=1</script> | c |",
    "</article></main><h1>gone",
    "<style>*{display:none}</style>",
    "https://x.org/<script>window.pwned=1</script>",
    '<https://x.org/" onclick="window.pwned=1>',
    "\u202egnirts desrever",
    "\x00\x1b[31m",
    "{{constructor.constructor('window.pwned=1')()}}",
]


def test_hostile_text_stays_text(page, script):
    told(page, script, *[text + "\n\n" for text in HOSTILE])
    for each in last(page).locator(".text a").all():
        each.hover()
    found = set(page.evaluate("""[...document.querySelectorAll(".text *")]
        .map(node => [node.localName, ...node.getAttributeNames()].join(" "))"""))
    assert {each for each in found if re.search(r"\bon|src|script|img|iframe|^style|^h[12]", each)} == set()
    addresses = page.evaluate("[...document.querySelectorAll('.text a')].map(a => [a.href, a.rel, a.target])")
    assert addresses and all(
        href.startswith(("https:", "http:", "mailto:")) and "noopener" in rel for href, rel, _ in addresses
    )
    for text in HOSTILE[:4]:
        expect(last(page).locator(".body")).to_contain_text(text)
    say(page, HOSTILE[1])  # in the user's message, the title and the list
    finished(page)
    page.evaluate("put({ ...conversation(), title: '<img src=x onerror=window.pwned=1>' })")
    expect(page.locator("h1")).to_have_text("<img src=x onerror=window.pwned=1>")
    assert page.evaluate("window.pwned") is None and page.faults == []


ENDLESS = [
    "*a " * 5000,
    "**a" * 5000,
    "[" * 20000,
    "[a](" * 4000,
    "> " * 8000 + "x",
    "- " * 8000 + "x",
    "`" * 20000 + "x" + "`" * 9,
    "*" * 20000 + "x",
    " " * 20000 + "x",
    "# " + " " * 20000 + "x",
    "|" * 5000 + "\n" + "|-" * 5000 + "|",
    "```" + "a" * 20000 + "`",
    "<|python_start|>" * 2000,
    "https://x.org/" + ")" * 20000,
    "a_" * 10000,
    "\n" * 20000 + "x",
    "1. " * 6000 + "x",
    "\\" * 20000,
]


@pytest.mark.parametrize("text", ENDLESS, ids=range(len(ENDLESS)))
def test_endless_markup_neither_hangs_nor_overflows(reader, text):
    drawn = reader.evaluate(
        """text => [true, false].map(open => {
        const box = make("div")
        drawMarkdown(box, text, open)
        return box.childNodes.length
    })""",
        text,
    )
    assert drawn[1] > 0


def test_a_switch_shows_the_raw_text_as_it_comes(page, script):
    page.locator("#page > header").get_by_role("button", name="Settings").click()
    page.get_by_label("Show new replies token by token").check()
    page.keyboard.press("Escape")
    more = threading.Event()
    script.tell("**bold", "**", "<|python_start|>", "1", more, "<|python_end|>", finish="length")
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("**bold**<|python_start|>1")
    more.set()
    expect(last(page).locator(".body")).to_have_text("**bold**<|python_start|>1<|python_end|>")


# Tool calls -------------------------------------------------------------------------------------------------
def test_a_tool_call_is_shown_as_what_it_is_and_goes_back_as_it_came(page, script):
    more = [threading.Event() for _ in range(3)]
    script.answer(
        "So <|pyth",
        more[0],
        "on_start|>12",
        more[1],
        "*34<|python_end|><|output",
        more[2],
        "_start|>408<|output_end|>.",
    )
    say(page, "Hi")
    body = last(page).locator(".body")
    expect(body).to_have_text("So")
    more[0].set()
    expect(body.locator(".tool .expression")).to_have_text("12")
    expect(body.locator(".tool .result")).to_be_hidden()
    more[1].set()
    expect(body.locator(".tool .expression")).to_have_text("12*34")
    expect(body).not_to_contain_text("<")
    more[2].set()
    expect(body.locator(".tool .result")).to_have_text("408")
    finished(page)
    assert "python" not in body.text_content() and "output" not in body.text_content()
    say(page, "And?")
    finished(page)
    assert (
        script.requests[-1]["messages"][1]["content"]
        == "So <|python_start|>12*34<|python_end|><|output_start|>408<|output_end|>."
    )


def test_markers_that_a_user_writes_are_the_users_text(page, script):
    say(page, "What does <|python_start|>1<|python_end|> mean?")
    expect(page.locator(".row .body").first).to_have_text("What does <|python_start|>1<|python_end|> mean?")
