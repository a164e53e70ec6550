"""The page in a real Chromium: conversations, settings, commands, and what it says is going on."""

import json
import re
import threading
from pathlib import Path

import pytest

from standins import (
    FULL,
    PAGE_CONFIG,
    debian,
    expect,
    finished,
    last,
    open_page,
    opening,
    package,
    say,
    titles,
    told,
    upload,
)

package("playwright")
debian("chromium")


def test_conversations_are_kept_listed_renamed_and_deleted(page, script):
    told(page, script, "Kept **reply**.")
    page.locator("[data-do=fresh]:visible").click()
    say(page, "Another one")
    finished(page)
    assert titles(page) == ["Another one", "Hi"]
    page.reload()
    expect(page.locator(".row .body")).to_have_text(["Another one", "Hello there."])
    page.locator("#list .open", has_text="Hi").click()
    expect(page.locator(".row .body strong")).to_have_text("reply")
    page.locator("#list .current").get_by_role("button", name="Rename").click()
    expect(page.locator("#rename")).to_be_focused()
    page.locator("#rename").fill("Greeting")
    page.locator("#rename").press("Enter")
    expect(page.locator("h1")).to_have_text("Greeting")
    assert titles(page) == ["Another one", "Greeting"] and page.title() == "Greeting – nanochat"
    page.locator("#list .current").get_by_role("button", name="Delete").click()
    expect(page.locator("#list .open")).to_have_count(1)
    expect(page.locator(".row")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("h1")).to_have_text("Greeting")
    expect(page.locator(".row")).to_have_count(2)
    page.reload()
    assert titles(page) == ["Another one", "Greeting"]


def test_a_page_closed_in_mid_reply_has_kept_what_had_come(page, script):
    script.answer("As far as", threading.Event())
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("As far as")
    page.reload()
    expect(last(page).locator(".body")).to_have_text("As far as")
    expect(last(page).locator(".failed")).to_contain_text("The connection ended before the reply did")
    page.get_by_role("button", name="Retry").click()
    expect(last(page).locator(".body")).to_have_text("Hello there.")


def test_two_tabs_see_each_other_and_overwrite_nothing(context, page, script):
    told(page, script, "First.")
    other = open_page(context, script)
    expect(other.locator("#list .open")).to_have_text(["Hi"])
    other.locator("#list .open").click()
    say(other, "From the other tab")
    finished(other)
    expect(page.locator(".row")).to_have_count(4)  # one conversation, one after the other: they follow
    more = [threading.Event(), threading.Event()]
    script.answer("A", more[0], "A")
    say(page, "Left")
    expect(last(page).locator(".body")).to_have_text("A")
    script.answer("B", more[1], "B")
    say(other, "Right")  # both at once: one becomes a copy
    expect(last(other).locator(".body")).to_have_text("B")
    more[0].set()
    more[1].set()
    finished(page)
    finished(other)
    fresh = open_page(context, script)
    kept = fresh.evaluate(
        "[...state.conversations.values()].map(it => it.messages.map(m => m.content).slice(4).join()).sort()"
    )
    assert kept == ["Left,AA", "Left,Right,BB"]
    assert page.faults == other.faults == []


FORBIDDEN = """for (const name of ["localStorage", "sessionStorage"])
    Object.defineProperty(window, name, { get() { throw new DOMException("forbidden", "SecurityError") } })"""


@pytest.mark.parametrize("trouble", [FULL, FORBIDDEN], ids=["full", "forbidden"])
def test_a_full_or_forbidden_storage_is_said_and_survived(context, script, trouble):
    context.add_init_script(trouble)
    page = open_page(context, script)
    told(page, script, "Fine.")
    expect(page.locator("#notice")).to_contain_text("This browser keeps no more")
    page.locator("#notice").get_by_role("button", name="Dismiss").click()
    told(page, script, "Still **fine**.")
    expect(page.locator(".row .body")).to_have_text(["Hi", "Fine.", "Hi", "Still fine."])
    expect(page.locator("#notice")).to_contain_text("This browser keeps no more")  # as long as it lasts
    assert len(titles(page)) == 1
    say(page, "/temperature 0.5")
    say(page, "Hi")
    finished(page)
    assert script.requests[-1]["temperature"] == 0.5 and page.faults == []


def test_broken_entries_in_the_storage_are_passed_over(context, page, script):
    told(page, script, "Good.")
    page.evaluate("""() => {
        const odd = messages => "r " + JSON.stringify({ id: "z", title: "", messages })
        const broken = ["", "x", "r {", "r null", "r []", 'r {"id":1}', odd([null])]
        broken.push(odd([{ role: "system", content: "x" }]))
        broken.forEach((text, i) => localStorage.setItem("nanochat.conversation." + i, text))
        localStorage.setItem("nanochat.settings", "{broken")
    }""")
    page.reload()
    assert titles(page) == ["Hi"]
    expect(page.locator(".row")).to_have_count(2)
    assert page.faults == []


def test_export_and_import_bring_everything_back(context, page, script):
    told(page, script, "<|python_start|>1+1<|python_end|><|output_start|>2<|output_end|> é🙂")
    page.locator("[data-do=fresh]:visible").click()
    say(page, "Second")
    finished(page)
    with page.expect_download() as one:
        page.locator("#list .current").get_by_role("button", name="Export").click()
    assert one.value.suggested_filename == "nanochat-second.json"
    [alone] = json.loads(Path(one.value.path()).read_text())["conversations"]
    assert [m["content"] for m in alone["messages"]] == ["Second", "Hello there."]
    with page.expect_download() as every:
        page.get_by_role("button", name="Export all").click()
    saved = Path(every.value.path()).read_bytes()
    spoken = """[...state.conversations.values()]
        .map(it => [it.title, it.changed, it.messages.map(m => [m.role, m.content])]).sort()"""
    before = page.evaluate(spoken)
    page.evaluate("localStorage.clear()")
    page.goto("about:blank")
    page.goto(script.url)
    assert page.evaluate(spoken) == []
    upload(page, saved)
    expect(page.locator("#notice")).to_contain_text("2 imported.")
    assert page.evaluate(spoken) == before
    upload(page, saved)
    expect(page.locator("#notice")).to_contain_text("0 imported, 2 already here.")
    page.reload()
    assert page.evaluate(spoken) == before and page.faults == []


def test_an_import_with_odd_names_harms_nothing(page, script):
    odd = [
        {"id": name, "title": name, "messages": [{"role": "user", "content": "x"}]}
        for name in ('a"] b', "__proto__", "<b>", "", "\\")
    ]
    upload(page, {"conversations": odd})
    expect(page.locator("#notice")).to_contain_text("5 imported.")
    page.locator("#list").get_by_role("button", name='a"] b').focus()
    page.keyboard.press("Enter")
    expect(page.locator(".row")).to_have_count(1)
    page.locator("#list").get_by_role("button", name='a"] b').focus()
    page.evaluate("put({ ...conversation(), title: 'Changed' })")
    expect(page.locator("h1")).to_have_text("Changed")
    page.reload()
    expect(page.locator("#list li")).to_have_count(5)
    assert page.faults == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"conversations": [{"id": "x"}]}',
        *(
            json.dumps({"conversations": [{"id": "x", "title": "", "messages": [message]}]})
            for message in (
                {"role": "tool", "content": "x"},
                {"role": "user", "content": ["x"]},
                {"role": "user"},
                None,
            )
        ),
    ],
)
def test_a_file_that_is_no_export_is_refused_whole(page, script, text):
    upload(page, text.encode(), "odd.json")
    expect(page.locator("#notice")).to_contain_text("odd.json is not a file of exported conversations.")
    assert page.evaluate("state.conversations.size") == 0


def test_the_focus_in_the_list_outlives_a_reply_that_ends(page, script):
    more = threading.Event()
    script.answer("Part", more)
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("Part")
    page.locator("#list").get_by_role("button", name="Export").focus()
    more.set()
    finished(page)
    expect(page.locator("#list").get_by_role("button", name="Export")).to_be_focused()


def test_a_typed_title_is_not_lost_to_a_reply_that_ends(page, script):
    more = threading.Event()
    script.answer("Part", more)
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("Part")
    page.locator("#list").get_by_role("button", name="Rename").click()
    page.locator("#rename").fill("My ti")
    more.set()
    finished(page)
    page.keyboard.type("tle")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("My title")
    page.locator("#list").get_by_role("button", name="Rename").click()
    page.locator("#rename").fill("Not this")
    page.keyboard.press("Escape")
    expect(page.locator("#rename")).to_have_count(0)
    expect(page.locator("h1")).to_have_text("My title")


# Settings and commands --------------------------------------------------------------------------------------
def test_defaults_and_limits_come_from_the_server_and_settings_reach_it(page, script):
    script.config = {
        **PAGE_CONFIG,
        "sampling": {
            "temperature": {"default": 0.6, "low": 0.0, "high": 1.5},
            "top_k": {"default": 40, "low": 0, "high": 100},
            "max_tokens": {"default": 99, "low": 1, "high": 1000},
        },
    }
    page.reload()
    page.locator("#page > header").get_by_role("button", name="Settings").click()
    sheet = page.locator("#settings")
    expect(sheet).to_contain_text("0 to 1.5, the server's default is 0.6")
    expect(sheet.locator("#top_k")).to_have_attribute("max", "100")
    sheet.locator("#temperature").fill("1.25")
    sheet.locator("#top_k").fill("1000")  # beyond the limit: marked, not taken
    expect(sheet.locator("#top_k")).to_have_attribute("aria-invalid", "true")
    sheet.get_by_label("Longest reply", exact=True).fill("250")
    sheet.locator("#system").fill("Be brief.")
    page.keyboard.press("Escape")
    expect(page.locator("#dials")).to_have_text(
        "temperature 1.25 · top-k 40 · up to 250 tokens · system prompt"
    )
    say(page, "Hi")
    finished(page)
    assert script.requests == [
        {
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
            "temperature": 1.25,
            "top_k": 40,
            "max_tokens": 250,
            "details": True,
        }
    ]
    page.reload()
    expect(page.locator("#dials")).to_contain_text("temperature 1.25")


@pytest.mark.parametrize(
    "command, said, sent",
    [
        ("/temperature 0.2", "Temperature is now 0.2.", {"temperature": 0.2}),
        ("/TopK 7", "Top-k is now 7.", {"top_k": 7}),
        ("/maxtokens 1000", "Longest reply is now 1000.", {"max_tokens": 1000}),
        ("/temperature", "Temperature is 0.8 (0 to 2, the server's default is 0.8).", {"temperature": 0.8}),
        ("/system You are a pirate.", "The system prompt is set.", {}),
    ],
)
def test_commands_change_what_they_say(page, script, command, said, sent):
    say(page, command + " " if command == "/temperature" else command)
    expect(page.locator("#notice")).to_contain_text(said)
    expect(page.locator("#box")).to_have_value("")
    assert script.requests == []
    say(page, "Hi")
    finished(page)
    assert sent.items() <= script.requests[0].items()
    assert [m["content"] for m in script.requests[0]["messages"]] == (
        ["You are a pirate."] if "system" in command else []
    ) + ["Hi"]


@pytest.mark.parametrize(
    "command, word",
    [
        ("/foo bar", "There is no command /foo"),
        ("/constructor", "There is no command /constructor"),
        ("/temperature 3", "from 0 to 2, not 3"),
        ("/temperature hot", "not hot"),
        ("/topk 1.5", "whole number"),
        ("/maxtokens 0", "from 1 to 4096"),
    ],
)
def test_what_is_no_command_is_said_kept_and_not_sent(page, script, command, word):
    page.locator("#box").fill(command)
    page.keyboard.press("Escape")  # closes the menu where there is one
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_contain_text(word)
    expect(page.locator("#box")).to_have_value(command)
    expect(page.locator(".row")).to_have_count(0)
    assert script.requests == []


def test_commands_are_offered_while_typing_and_chosen_by_keyboard(page, script):
    page.keyboard.type("/")
    expect(page.locator("#commands li")).to_have_count(8)
    page.keyboard.type("t")
    expect(page.locator("#commands li")).to_have_count(2)
    page.keyboard.type("o")
    expect(page.locator("#commands [aria-selected=true]")).to_contain_text("/topk")
    expect(page.locator("#box")).to_have_attribute("aria-activedescendant", "command-topk")
    page.keyboard.press("Tab")
    expect(page.locator("#box")).to_have_value("/topk ")
    page.keyboard.type("3")
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_contain_text("Top-k is now 3.")
    page.keyboard.type("/h")
    page.keyboard.press("Enter")
    expect(page.locator("#help")).to_be_visible()


def test_clear_empties_the_conversation_and_can_be_undone(page, script):
    told(page, script, "First.")
    say(page, "/clear")
    expect(page.locator(".row")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".row")).to_have_count(2)


def test_a_message_may_begin_with_a_slash_after_a_space(page, script):
    say(page, " /etc is a folder")
    finished(page)
    assert script.requests[0]["messages"][0]["content"] == "/etc is a folder"


# What is going on -------------------------------------------------------------------------------------------
def test_the_page_says_what_is_going_on(page, script):
    expect(page.locator("#model")).to_have_text("d20, sft, step 650 · cuda × 4")
    more = threading.Event()
    script.answer(
        opening(1200, dropped=3),
        *["one "] * 5,
        0.1,
        *["two "] * 5,
        more,
    )
    say(page, "Hi")
    expect(page.locator("#speed")).to_have_text(re.compile(r"[\d.]+ tokens/s · 10 tokens · GPU 0"))
    expect(page.locator(".dropped")).to_have_text("The 3 oldest messages no longer fit and were left out")
    more.set()
    finished(page)
    expect(last(page).locator(".info")).to_have_text(re.compile(r"[\d.]+ tokens/s · 10 tokens · GPU 0"))
    expect(page.locator("#speed")).to_be_hidden()
    page.reload()
    expect(page.locator(".dropped")).to_be_visible()


def test_the_demo_model_says_that_it_is_one(page, script):
    script.config = {**PAGE_CONFIG, "demo": True, "model": "demo"}
    page.reload()
    expect(page.locator("#empty")).to_contain_text("demo model")
    expect(page.locator("#model")).to_contain_text("demo model")


def test_the_demo_model_can_do_what_its_welcome_offers(demo, context):
    page = context.new_page()
    for number, word in enumerate(("408", "3 times", "peach", "NANOCHAT_BASE_DIR")):
        page.goto(f"http://127.0.0.1:{demo[0]}/#try{number}")
        page.evaluate("state.settings = { temperature: 0 }")
        page.locator("#tries button").nth(number).click()
        expect(last(page)).to_contain_text(word)
        finished(page)


def test_the_page_waits_for_a_model_that_is_loading_and_then_asks_no_more(page, script):
    script.config, script.health = {**PAGE_CONFIG, "model": None}, {**script.health, "ready": False}
    looks = []
    page.on("request", lambda request: looks.append(request.url) if request.url.endswith("health") else None)
    page.reload()
    expect(page.locator("#model")).to_have_text("The model is loading…")
    script.config, script.health = PAGE_CONFIG, {**script.health, "ready": True}
    expect(page.locator("#model")).to_have_text("d20, sft, step 650 · cuda × 4")
    page.wait_for_timeout(100)
    assert 1 <= len(looks) <= 3


@pytest.mark.parametrize("block", ["{}", "", "{nonsense", "null", '{"model": null}'])
def test_the_page_works_without_its_config(page, script, block):
    script.raw_config = block
    page.reload()
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("Hello there.")
    assert {**script.requests[0], "messages": 0} == {
        "messages": 0,
        "temperature": 0.8,
        "top_k": 50,
        "max_tokens": 512,
        "details": True,
    }
    assert page.faults == []


def test_what_would_be_refused_for_its_length_is_said_or_left_out(page, script):
    script.config = {**PAGE_CONFIG, "limits": {"messages": 6, "message": 100, "conversation": 250}}
    page.reload()
    page.locator("#box").fill("x" * 101)
    page.locator("#box").press("Enter")
    expect(page.locator("#notice")).to_contain_text(
        "The message has 101 characters; at most 100 can be sent."
    )
    assert script.requests == []
    page.locator("#box").fill("")
    told(page, script, "y" * 90 + "🙂" + "z" * 99)  # a reply may be longer than a message
    for text in ("aaaa", "bbbb", "cccc"):
        say(page, text)
        finished(page)
    for request in script.requests:
        assert len(request["messages"]) <= 6 and sum(len(m["content"]) for m in request["messages"]) <= 250
        assert all(len(m["content"]) <= 100 for m in request["messages"])
        assert [m["role"] for m in request["messages"]] == ["user", "assistant"] * (
            len(request["messages"]) // 2
        ) + ["user"]
        request["messages"][0]["content"].encode()  # no half of a surrogate pair
    assert script.requests[-1]["messages"][-1]["content"] == "cccc"
    expect(last(page).locator(".dropped")).to_have_text(
        "The 2 oldest messages no longer fit and were left out"
    )
