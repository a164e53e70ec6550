"""The page in a real Chromium: comfort, keyboards, screen readers, safety and speed."""

import re
import threading

import pytest
from werkzeug.test import Client

from standins import (
    FULL,
    PHONE,
    ScriptedEngine,
    config_of,
    debian,
    encode,
    expect,
    filled,
    finished,
    last,
    make_app,
    open_page,
    opening,
    package,
    say,
    titles,
    told,
    until,
    until_true,
    upload,
)

package("playwright")
debian("chromium")


LONG_REPLY = [
    f"word{i} " if i % 25 else f"\n\n{'- item' if i % 75 else '### Part'} {i} **bold** `code`\n\n"
    for i in range(4000)
]


# Comfort ----------------------------------------------------------------------------------------------------
def test_light_and_dark_follow_the_system_or_the_switch(chromium, script):
    for scheme, other in (("light", "dark"), ("dark", "light")):
        context = chromium.new_context(color_scheme=scheme)
        page = open_page(context, script)
        colour = "getComputedStyle(document.body).backgroundColor"
        dark = {"light": False, "dark": True}

        def is_dark():
            return sum(map(int, re.findall(r"\d+", page.evaluate(colour))[:3])) < 384

        assert is_dark() == dark[scheme]
        page.locator("#page > header").get_by_role("button", name="Settings").click()
        page.get_by_label("Appearance").select_option(other.capitalize())
        until_true(page, f"document.documentElement.dataset.theme === '{other}'")
        assert is_dark() == dark[other]
        page.reload()
        until_true(page, f"document.documentElement.dataset.theme === '{other}'")
        assert is_dark() == dark[other]
        context.close()


def test_a_phone_shows_all_of_it_without_zoom_or_sideways_scrolling(chromium, script):
    context = chromium.new_context(**PHONE)
    page = open_page(context, script)
    expect(page.locator("#side")).to_be_hidden()
    told(
        page,
        script,
        "| a | b | c |\n|--|--|--|\n| " + "word " * 9 + "| " + "word " * 9 + "| " + "x" * 60,
        " |\n\n```\n" + "y" * 200 + "\n```\n" + "z" * 200,
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("log.scrollWidth <= log.clientWidth")
    clipped = page.evaluate("""[...rows.querySelectorAll(".row, .body, .table, pre")]
        .filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "auto")
        .map(e => e.className)""")
    assert clipped == [], "what is too wide scrolls by itself"
    page.locator("#side-button").tap()
    expect(page.locator("#side")).to_be_visible()
    page.locator("#list .open").tap()
    expect(page.locator("#side")).to_be_hidden()
    page.locator("#page > header").get_by_role("button", name="Settings").tap()
    sizes = page.evaluate(
        "[...document.querySelectorAll('textarea, input[type=number]')]"
        ".map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 16, "a smaller field makes phones zoom in on focus"
    page.get_by_role("button", name="Close").tap()
    small = page.evaluate("""[...document.querySelectorAll("button")].filter(b => b.checkVisibility())
        .map(b => [b.ariaLabel || b.textContent, b.getBoundingClientRect()])
        .filter(([, box]) => Math.min(box.width, box.height) < 24).map(([name]) => name)""")
    assert small == [], "WCAG 2.2 asks for targets of 24 px"
    last(page).get_by_role("button", name="Delete from here on").tap()
    expect(page.locator(".row")).to_have_count(1)
    expect(page.locator("#box")).not_to_be_focused()  # that would call up the keyboard
    box = page.locator("#composer").bounding_box()
    assert box["y"] + box["height"] <= 844
    meta = page.locator("meta[name=viewport]").get_attribute("content")
    assert "viewport-fit=cover" in meta and "interactive-widget=resizes-content" in meta
    assert "user-scalable" not in meta and "maximum-scale" not in meta
    assert page.faults == []
    context.close()


def test_enter_sends_shift_enter_breaks_the_line_and_an_input_method_keeps_its_enter(page, script):
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    expect(page.locator("#box")).to_have_value("one\ntwo")
    tall = page.locator("#box").bounding_box()["height"]
    for how in (
        "new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true, cancelable: true })",
        "Object.defineProperty(new KeyboardEvent('keydown', "
        "{ key: 'Enter', bubbles: true, cancelable: true }), 'keyCode', { value: 229 })",
    ):
        assert page.evaluate(f"box.dispatchEvent({how})"), "the event was swallowed"
    assert script.requests == [] and page.evaluate("state.draft") == "one\ntwo"
    page.keyboard.press("Enter")
    finished(page)
    assert script.requests[0]["messages"][0]["content"] == "one\ntwo"
    assert page.locator("#box").bounding_box()["height"] < tall, "the input grows and shrinks"
    expect(page.locator("#box")).to_be_focused()


def test_an_input_method_in_earnest_does_not_send(context, page, script):
    """Through the browser's own input method events, as far as the debugging protocol can play them."""
    tool = context.new_cdp_session(page)
    tool.send("Input.imeSetComposition", {"text": "に", "selectionStart": 1, "selectionEnd": 1})
    expect(page.locator("#box")).to_have_value("に")
    tool.send(
        "Input.dispatchKeyEvent",
        {"type": "rawKeyDown", "key": "Process", "code": "Enter", "windowsVirtualKeyCode": 229},
    )
    tool.send("Input.insertText", {"text": "日本"})
    expect(page.locator("#box")).to_have_value("日本")
    assert script.requests == []


def test_the_help_sheet_lists_every_key_and_command(page):
    page.keyboard.press("Control+/")
    sheet = page.locator("#help")
    expect(sheet).to_be_visible()
    for name in page.evaluate("Object.keys(COMMANDS)"):
        expect(sheet).to_contain_text("/" + name)
    assert sheet.locator("#help-keys dt").count() == page.evaluate("KEYS.length") >= 8
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    expect(page.locator("#box")).to_be_focused()


def test_the_view_follows_only_when_it_is_at_the_end(page, script):
    more = [threading.Event(), threading.Event()]
    script.answer(*["line\n\n"] * 60, more[0], *["more\n\n"] * 30, more[1], "The end.")
    say(page, "Hi")
    bottom = "log.scrollHeight - log.clientHeight - log.scrollTop < 2"
    expect(last(page).locator(".text > p")).to_have_count(60)
    until_true(page, bottom)
    expect(page.locator("#down")).to_be_hidden()
    page.locator("#log").hover()
    page.mouse.wheel(0, -300)
    expect(page.locator("#down")).to_be_visible()
    top = page.evaluate("log.scrollTop")
    more[0].set()
    expect(last(page).locator(".text > p")).to_have_count(90)
    assert page.evaluate("log.scrollTop") == top
    page.locator("#down").click()
    until_true(page, bottom)
    more[1].set()
    expect(last(page)).to_contain_text("The end.")
    finished(page)
    until_true(page, bottom)
    expect(page.locator("#down")).to_be_hidden()


@pytest.mark.parametrize("key", ["ArrowUp", "PageUp", "Home", "wheel"])
def test_the_reader_may_leave_the_end_while_a_reply_streams(page, script, key):
    """However small the step is, and however fast the end runs away."""
    filled(page, 60, '`Message ${i} ` + "and some words ".repeat(20)')
    script.answer(*["word\n\n", 0.005] * 4000)
    say(page, "Go")
    expect(last(page)).to_contain_text("word")
    page.locator("#log").focus()
    page.locator("#log").hover()
    page.keyboard.press(key) if key != "wheel" else page.mouse.wheel(0, -20)
    until_true(page, "!state.follow")
    top = page.evaluate("log.scrollTop")
    words = page.evaluate("state.replies.get(state.current).message.info.tokens")
    until_true(page, f"state.replies.get(state.current).message.info.tokens > {words} + 50")
    assert page.evaluate("log.scrollTop") <= top and not page.evaluate("state.follow")
    page.keyboard.press("Escape")


def test_a_message_that_the_server_refuses_is_not_sent_again_with_the_next(page, script):
    script.refuse(400, "the newest message takes 1506 tokens, and only 768 fit")
    say(page, "much too long")
    expect(last(page).locator(".failed")).to_contain_text("1506 tokens")
    told(page, script, "Fine.")
    assert script.requests[-1]["messages"] == [{"role": "user", "content": "Hi"}]
    script.refuse(503, "all workers are busy")  # another time it might have been answered
    say(page, "x" * 5000)
    expect(last(page).locator(".failed")).to_contain_text("busy")
    told(page, script, "Fine.")
    assert script.requests[-1]["messages"][2:] == [{"role": "user", "content": "x" * 5000 + "\n\nHi"}]
    script.refuse(503, "all workers are busy")
    say(page, "y" * 5000)
    expect(last(page).locator(".failed")).to_contain_text("busy")
    say(page, "z" * 5000)
    finished(page)
    assert script.requests[-1]["messages"][4:] == [
        {"role": "user", "content": "z" * 5000}
    ]  # together they are one too long


def test_what_the_server_would_refuse_for_its_length_stays_in_its_field(page, script):
    told(page, script, "Fine.")
    page.locator(".row.user").get_by_role("button", name="Edit").click()
    page.locator("#editor").fill("x" * 8001)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#notice")).to_contain_text("8001 characters; at most 8000")
    expect(page.locator("#editor")).to_have_value("x" * 8001)
    page.keyboard.press("Escape")
    say(page, "/system " + "x" * 8001)
    expect(page.locator("#notice")).to_contain_text("8001 characters")
    assert page.evaluate("state.settings.system") is None
    say(page, "🙂" * 8000)  # a character each, as the server counts
    finished(page)
    assert script.requests[-1]["messages"][-1]["content"] == "🙂" * 8000


def test_notices_reach_screen_readers(page):
    say(page, "/nope")
    expect(page.locator("#spoken")).to_contain_text("There is no command /nope")


def test_undo_stays_in_sight_when_another_conversation_is_shown_and_is_a_command(page, script):
    told(page, script, "First.")
    last(page).get_by_role("button", name="Delete from here on").click()
    page.locator("[data-do=fresh]:visible").click()
    page.locator("#notice").get_by_role("button", name="Undo").click()
    expect(page.locator(".row .body")).to_have_text(["Hi", "First."])
    last(page).get_by_role("button", name="Delete from here on").click()
    page.locator("#notice").get_by_role("button", name="Dismiss").click()
    say(page, "/undo")
    expect(page.locator(".row .body")).to_have_text(["Hi", "First."])


def test_a_conversation_deleted_while_it_streams_comes_back_with_what_had_come(page, script):
    script.answer("What had come", threading.Event())
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("What had come")
    page.locator("#list li").get_by_role("button", name="Delete").click()
    page.locator("#notice").get_by_role("button", name="Undo").click()
    expect(page.locator(".row .body")).to_have_text(["Hi", "What had come"])


def test_a_message_whose_reply_was_deleted_can_be_answered(page, script):
    told(page, script, "First.")
    expect(page.get_by_role("button", name="Answer")).to_have_count(0)
    last(page).get_by_role("button", name="Delete from here on").click()
    last(page).get_by_role("button", name="Answer").click()
    expect(page.locator(".row .body")).to_have_text(["Hi", "Hello there."])
    expect(page.get_by_role("button", name="Answer")).to_have_count(0)
    assert script.requests[-1]["messages"] == [{"role": "user", "content": "Hi"}]


def test_the_draft_of_an_unsent_conversation_is_found_again(page, script):
    told(page, script, "First.")
    fresh = page.locator("[data-do=fresh]:visible")
    fresh.click()
    page.locator("#box").fill("half a thought")
    page.locator("#list .open").first.click()
    expect(page.locator("#box")).to_have_value("")
    fresh.click()
    expect(page.locator("#box")).to_have_value("half a thought")
    fresh.click()
    expect(page.locator("#box")).to_have_value("half a thought")
    page.locator("#box").press("Enter")
    finished(page)
    fresh.click()
    expect(page.locator(".row")).to_have_count(0)
    assert len(titles(page)) == 2


def test_another_tab_takes_no_running_reply_for_cut_off_but_a_reload_does(context, page, script):
    script.answer("It goes on", threading.Event())
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("It goes on")
    page.evaluate("save(state.current)")
    other = open_page(context, script)
    other.goto(page.url)
    other.reload()
    expect(last(other).locator(".body")).to_have_text("It goes on")
    expect(other.locator(".failed")).to_have_count(0)
    page.reload()
    expect(last(page).locator(".failed")).to_contain_text("ended before the reply did")
    other.reload()
    expect(last(other).locator(".failed")).to_contain_text("ended before the reply did")


def test_a_page_closed_before_the_first_word_blames_nobody(page, script):
    script.answer("late", before=threading.Event())
    say(page, "Hi")
    until(lambda: script.requests)
    page.reload()
    expect(page.locator(".row")).not_to_have_count(0)
    expect(page.locator("body")).not_to_contain_text("could not be reached")


def test_a_covered_page_takes_no_key_and_the_list_closes_when_there_is_no_room(page, script):
    expect(page.locator("#side")).to_be_visible()
    page.set_viewport_size({"width": 700, "height": 800})
    expect(page.locator("#side")).to_be_hidden()
    page.keyboard.press("Control+Shift+L")
    expect(page.get_by_role("button", name="Hide the conversations")).to_be_focused()
    assert page.evaluate("$('page').inert")
    page.set_viewport_size({"width": 1280, "height": 800})
    expect(page.locator("#side")).to_be_visible()
    until_true(page, "!$('page').inert")


@pytest.mark.parametrize("height", [340, 200])
def test_the_commands_stay_in_view_above_a_phones_keyboard(page, height):
    page.set_viewport_size({"width": 390, "height": height})
    page.keyboard.type("/")
    expect(page.locator("#commands")).to_be_visible()
    assert page.locator("#commands").bounding_box()["y"] >= 0


def test_printing_prints_the_whole_conversation(page, script):
    filled(page, 60, '`Message ${i} ` + "and some words ".repeat(30)')
    page.emulate_media(media="print")
    assert page.evaluate(
        "document.documentElement.scrollHeight > log.scrollHeight - 2 && log.scrollHeight > 4000"
    )
    expect(page.locator("#foot")).to_be_hidden()
    assert page.pdf().count(b"/Type /Page\n") > 5


def test_a_setting_that_was_refused_does_not_stay_in_its_field(page):
    page.keyboard.press("Control+,")
    page.locator("#temperature").fill("5")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+,")
    expect(page.locator("#temperature")).to_have_value("0.8")


def test_what_the_page_falls_back_to_is_the_servers_table(page):
    told, own = config_of(Client(make_app(ScriptedEngine())).get("/").text), page.evaluate("FALLBACK")
    assert own["limits"] == told["limits"]
    assert {
        name: {end: own["sampling"][name][end] for end in ends} for name, ends in told["sampling"].items()
    } == told["sampling"]


def test_an_import_that_the_storage_does_not_take_is_not_called_one(context, page, script):
    told(page, script, "First.")
    page.evaluate(f"() => {{ {FULL} }}")
    upload(
        page,
        {
            "conversations": [
                {"id": "x", "title": "Other", "messages": [{"role": "user", "content": "elsewhere"}]}
            ]
        },
    )
    expect(page.locator("#notice")).to_contain_text("keeps no more")


def test_text_runs_in_its_own_direction(page, script):
    told(page, script, "שלום, עולם!")
    assert page.evaluate("""() => {
        const range = document.createRange(), text = rows.lastElementChild.querySelector("p")
        const edge = text.getBoundingClientRect()
        range.selectNodeContents(text)
        return edge.right - range.getBoundingClientRect().right
    }""") < 2, "right to left begins at the right"


def test_a_long_conversation_opens_at_its_end(page, script):
    filled(page, 200, '`Message ${i} ` + "and some words ".repeat(i * 7 % 90)')
    page.reload()
    expect(page.locator(".row")).to_have_count(200)
    for _ in range(3):
        until_true(page, "log.scrollHeight - log.clientHeight - log.scrollTop < 2")
        page.wait_for_timeout(100)
    expect(last(page)).to_be_in_viewport()
    expect(page.locator("#down")).to_be_hidden()
    assert not page.evaluate(
        "rows.querySelector('.body').checkVisibility({ contentVisibilityAuto: true })"
    ), "far rows are not drawn"
    page.locator("#log").focus()
    page.keyboard.press("Home")
    expect(page.locator(".row").first).to_be_in_viewport()
    page.get_by_role("button", name="Go to the end").click()
    for _ in range(3):
        until_true(page, "log.scrollHeight - log.clientHeight - log.scrollTop < 2")
        page.wait_for_timeout(100)
    expect(last(page)).to_be_in_viewport()


def test_drafts_survive_a_reload_and_belong_to_their_conversation(page, script):
    told(page, script, "First.")
    page.locator("#box").fill("for the first")
    page.locator("[data-do=fresh]:visible").click()
    expect(page.locator("#box")).to_have_value("")
    page.keyboard.type("for the new one")
    page.reload()
    expect(page.locator("#box")).to_have_value("for the new one")
    page.locator("#list .open").click()
    expect(page.locator("#box")).to_have_value("for the first")
    page.keyboard.press("Enter")
    finished(page)
    page.reload()
    expect(page.locator("#box")).to_have_value("")


def test_focus_is_where_one_would_type(page, script):
    expect(page.locator("#box")).to_be_focused()
    told(page, script, "First.")
    expect(page.locator("#box")).to_be_focused()
    page.locator(".row").first.get_by_role("button", name="Edit").click()
    expect(page.locator("#editor")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#box")).to_be_focused()
    last(page).get_by_role("button", name="Regenerate").click()
    finished(page)
    expect(page.locator("#box")).to_be_focused()
    page.locator("h1").click()
    page.keyboard.press("/")
    expect(page.locator("#box")).to_be_focused()


def test_screen_readers_hear_sentences_and_not_tokens(context, script):
    page = context.new_page()
    page.clock.install()
    page.goto(script.url)
    more = [threading.Event(), threading.Event()]
    script.answer("The **sky**", " is", " blue", more[0], ". It", " looks", more[1], " deep.")
    say(page, "Hi")
    page.clock.run_for(2500)
    expect(last(page).locator(".body")).to_have_text("The sky is blue")
    expect(page.locator("#spoken")).to_have_text("")
    more[0].set()
    expect(page.locator("#go")).to_be_enabled()
    until_true(page, "state.replies.get(state.current).message.content.endsWith('looks')")
    page.clock.run_for(2500)
    expect(page.locator("#spoken p")).to_have_text(["The sky is blue."])
    more[1].set()
    page.clock.resume()
    expect(page.locator("#spoken p")).to_have_text(["The sky is blue.", "It looks deep."])
    assert page.locator("#spoken").get_attribute("aria-live") == "polite"
    assert page.evaluate("[log, rows].every(e => !e.closest('[aria-live], [role=log]'))")


def test_reduced_motion_is_respected(page, script):
    gate = threading.Event()
    script.answer("x", before=gate)
    say(page, "Hi")
    expect(page.locator(".waiting")).to_be_visible()
    assert page.evaluate("document.getAnimations().length") == 0
    gate.set()


# By keyboard alone, and for everyone ------------------------------------------------------------------------
def tab_to(page, name, within=""):
    """Presses Tab until the focus is on the control with this label, as someone without a mouse does."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate(
            """([name, within]) => {
            const it = document.activeElement
            return (it.ariaLabel || it.textContent) === name && (!within || it.closest(within) !== null)
        }""",
            [name, within],
        ):
            return
    raise AssertionError(f"Tab never reaches {name}")


def test_every_action_can_be_done_by_keyboard_alone(context, page, script):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    keys = page.keyboard
    keys.type("Hello")
    keys.press("Enter")
    finished(page)
    rows = page.locator(".row")
    page.locator("#log").focus()
    tab_to(page, "Edit", ".user")
    keys.press("Enter")
    keys.type(", you")
    keys.press("Enter")
    finished(page)
    expect(rows.first.locator(".body")).to_have_text("Hello, you")
    page.locator("#log").focus()
    tab_to(page, "The version before", ".user")
    keys.press("Enter")
    expect(rows.first.locator(".body")).to_have_text("Hello")
    for name in ("Regenerate", "Copy"):
        page.locator("#log").focus()
        tab_to(page, name, ".assistant")
        keys.press("Enter")
        finished(page)
    until_true(page, "navigator.clipboard.readText().then(text => text === 'Hello there.')")
    page.locator("#log").focus()
    tab_to(page, "Edit", ".assistant")
    keys.press("Enter")
    expect(page.locator("#editor")).to_be_focused()
    keys.press("Control+a")
    keys.type("Mine")
    keys.press("Control+Enter")
    expect(rows.last.locator(".body")).to_have_text("Mine")
    page.locator("#log").focus()
    tab_to(page, "Delete this version", ".assistant")
    keys.press("Enter")
    expect(rows.last.locator(".body")).to_have_text("Hello there.")
    page.locator("#log").focus()
    keys.press("Control+z")
    expect(rows.last.locator(".body")).to_have_text("Mine")
    script.answer("long", threading.Event())
    page.locator("#box").focus()
    keys.type("More")
    keys.press("Enter")
    expect(rows.last.locator(".body")).to_have_text("long")
    keys.press("Escape")
    expect(rows.last.locator(".stopped")).to_be_visible()
    keys.press("Control+Shift+O")
    expect(rows).to_have_count(0)
    keys.press("Control+Shift+L")
    expect(page.locator("#side")).to_be_hidden()
    keys.press("Control+Shift+L")
    tab_to(page, "Rename")
    keys.press("Enter")
    expect(page.locator("#rename")).to_be_focused()
    keys.press("Control+a")
    keys.type("Renamed")
    keys.press("Enter")
    expect(page.locator("#list .open")).to_have_text("Renamed")
    tab_to(page, "Renamed")
    keys.press("Enter")
    expect(rows).to_have_count(4)
    with page.expect_download():
        tab_to(page, "Export all")
        keys.press("Enter")
    with page.expect_file_chooser():
        page.locator("#list .open").focus()
        tab_to(page, "Import")
        keys.press("Enter")
    keys.press("Control+,")
    expect(page.locator("#settings")).to_be_visible()
    tab_to(page, "Close")
    keys.press("Enter")
    expect(page.locator("#settings")).to_be_hidden()
    page.locator("#list .open").focus()
    tab_to(page, "Delete", "#list")
    keys.press("Enter")
    expect(page.locator("#list .open")).to_have_count(0)
    assert page.faults == []


@pytest.mark.parametrize("size", [{}, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(chromium, script, axe, scheme, size):
    context = chromium.new_context(color_scheme=scheme, reduced_motion="reduce", **size)
    page = open_page(context, script)
    found = []

    def look(where):
        page.wait_for_timeout(60)
        run = """axe.run().then(result => result.violations.map(
            v => [v.id, v.help, ...v.nodes.map(n => n.html.slice(0, 120))]))"""
        for each in page.evaluate(axe + "; " + run):
            found.append((where, *each))

    look("empty")
    told(
        page,
        script,
        opening(900, dropped=2),
        "# A heading\n\n**Bold** `code` [link](https://x.org)\n\n"
        + "wide " * 80
        + "\n\n```py\n"
        + "y = 1 " * 60,
        "\n```\n\n| a | b |\n|--|--|\n| 1 | 2 |\n\n> quote\n\n- list\n\n"
        "<|python_start|>1+1<|python_end|><|output_start|>2<|output_end|>",
    )
    look("a reply")
    script.tell(" It", " is", "<|python_start|>", "2", "\n", forced=("2",))
    say(page, "Hi")
    finished(page)
    last(page).get_by_role("button", name="Look into it").click()
    page.locator('.tokens [data-i="1"]').click()
    page.evaluate("rows.querySelectorAll('.tokens span').forEach(e => e.style.setProperty('--doubt', '60%'))")
    look("tokens, all of them hardly likely")
    page.get_by_role("button", name="Record, and").click()
    expect(page.locator("#record")).to_be_visible()
    look("a record")
    page.keyboard.press("Escape")
    script.tell(" so", forced=("2",))
    last(page).get_by_role("button", name="Regenerate").click()
    expect(last(page)).to_contain_text("2 / 2")
    finished(page)
    look("versions")
    script.answer("so far", threading.Event())
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("so far")
    look("streaming")
    page.keyboard.press("Escape")
    told(page, script, "cut", done=False)
    look("an error")
    page.locator("#box").fill("/")
    look("commands")
    page.locator("#box").fill("")
    page.locator(".row.user").last.get_by_role("button", name="Edit").click()
    look("editing")
    page.keyboard.press("Escape")
    page.evaluate("ACTIONS.deleteFrom(rows.lastElementChild)")
    look("undo")
    for name in ("settings", "help"):
        page.evaluate(f"ACTIONS.{name}()")
        look(name)
        page.keyboard.press("Escape")
    page.evaluate("update({ side: true, renaming: state.current })")
    look("the list")
    context.close()
    assert found == []


# Safe -------------------------------------------------------------------------------------------------------
def test_nothing_is_loaded_from_elsewhere_and_the_policy_is_never_touched(context, page, script):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    told(
        page,
        script,
        "![a](https://x.org/a.png) [b](https://x.org) <img src=https://x.org/c.png>\n"
        "```css\n@import 'https://x.org'\n```",
    )
    page.locator("#page > header").get_by_role("button", name="Settings").click()
    expect(page.locator("#settings")).to_be_visible()
    page.keyboard.press("Escape")
    with page.expect_download():
        page.get_by_role("button", name="Export all").click()
    assert all(url.startswith((script.url, "data:", "blob:" + script.url)) for url in asked), asked
    assert page.faults == []


def test_the_policy_stops_what_the_page_never_does(page):
    """The stand-in's policy is in force: without this, the test above would prove nothing."""
    page.evaluate(
        "const script = Object.assign(document.createElement('script'), { textContent: 'window.pwned = 1' });"
        "document.body.append(script)"
    )
    assert page.evaluate("window.pwned") is None
    assert any("CSP" in fault for fault in page.faults)


# Fast -------------------------------------------------------------------------------------------------------
def test_the_cost_of_a_token_stays_flat(page, script):
    """Counted, not timed: nodes touched per frame, in a 200-message conversation with a 4,000-token reply."""
    filled(page, 200, r'"Message **" + i + "**\n\n- a\n- b\n\n```\nx\n```"')
    page.evaluate("""() => {
        window.counts = []
        window.read = 0
        const count = { records: 0, elsewhere: 0 }
        new MutationObserver(records => {
            count.records += records.length
            const older = it => rows.contains(it) && it !== rows && !rows.lastElementChild.contains(it)
            count.elsewhere += records.filter(record => older(record.target)).length
        }).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true })
        const wholeRender = render
        const wholeBlocks = blocks
        blocks = (lines, depth = 0, open) => {
            window.read += depth ? 0 : lines.length
            return wholeBlocks(lines, depth, open)
        }
        render = () => {
            wholeRender()
            counts.push({ ...count, read: window.read })
            count.records = count.elsewhere = window.read = 0
        }
    }""")
    steps = [
        step for i in range(0, 4000, 20) for step in (b"".join(map(encode, LONG_REPLY[i : i + 20])), 0.01)
    ]
    script.answer(*steps)
    say(page, "Go")
    until_true(page, "state.conversations.get(state.current).messages.length === 202")
    finished(page)
    counts = page.evaluate("counts")[5:-3]
    assert 20 < len(counts) <= 400, "at most one render per frame, and not one per token"
    assert sum(each["elsewhere"] for each in counts) == 0, "the 200 older messages are not touched"
    third = len(counts) // 3
    for what in ("records", "read"):
        parts = counts[third : 2 * third], counts[-third:]  # in the first second nothing is spoken yet
        early, late = (sum(each[what] for each in part) / third for part in parts)
        assert late <= 1.5 * early + 5, f"{what} per frame grow from {early} to {late}"


def test_typing_in_a_long_conversation_touches_only_the_input(page):
    filled(page, 200, '"Message " + i')
    page.evaluate("""() => {
        window.touched = 0
        const watcher = new MutationObserver(records => { touched += records.length })
        watcher.observe(log, { subtree: true, childList: true, characterData: true, attributes: true })
    }""")
    page.locator("#box").press_sequentially("a sentence of some words")
    assert page.evaluate("touched") == 0


def test_events_that_come_at_once_are_drawn_at_once(page, script):
    page.evaluate(
        "() => { window.frames_drawn = 0; render = (whole => () => { frames_drawn++; whole() })(render) }"
    )
    script.answer(b"".join(encode(f"t{i} ") for i in range(500)))
    say(page, "Hi")
    finished(page)
    assert page.evaluate("frames_drawn") < 40
