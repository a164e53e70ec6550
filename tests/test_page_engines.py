"""The page in Chromium, Firefox and WebKit: each test runs in all three, through the same hands."""

import contextlib
import json
import re
import threading

import pytest

from standins import FULL, PAGE_CONFIG, PHONE, Event, expect, filled, finished, open_page

LONG = '`Message ${i} ` + "and some words ".repeat(i * 37 % 190)'


def bodies(hand):
    return hand.texts(".row .body")


def put_messages(hand, *texts):
    """The conversation as if it had been spoken."""
    hand.evaluate(f"""put({{ ...conversation(), messages: {json.dumps(texts)}.map(
        (content, i) => ({{ role: i % 2 ? "assistant" : "user", content }})) }})""")
    return hand.finished()


def open_stored(hand, entry: str, rows: int):
    """A conversation "d" as the browser has kept it, opened by a new page."""
    entry = json.dumps(entry)
    hand.evaluate(f"localStorage.setItem('nanochat.conversation.d', {entry}), location.hash = 'd'")
    hand.reload()
    hand.wait(f"state.current === 'd' && frame === 0 && rows.children.length === {rows}")


def open_editor(hand, row: str):
    """Of the row that CSS finds so."""
    hand.click(f'.row:{row} [data-do="edit"]')
    hand.seen("#editor")


def seen_html(hand, text):
    """A reply's markdown as the page draws it."""
    return hand.evaluate(f"""(() => {{ const at = make("div")
        drawMarkdown(at, {json.dumps(text)}, false)
        return at.innerHTML }})()""")


# Scrolling --------------------------------------------------------------------------------------------------
def read_upwards(hand, key="PageUp"):
    """Presses the key up to the top: for each press how far the log moved, and how far its text did."""
    steps = []
    hand.evaluate("log.focus()")
    while hand.evaluate("log.scrollTop") > 0 and len(steps) < 400:
        before = hand.evaluate("""(() => {
            const top = log.getBoundingClientRect().top
            window.seen = [...rows.children].find(row => row.getBoundingClientRect().bottom > top)
            return [log.scrollTop, seen.getBoundingClientRect().top] })()""")
        hand.press(key)
        hand.wait(f"log.scrollTop < {before[0]}")
        settle(hand)
        after = hand.evaluate("[log.scrollTop, seen.getBoundingClientRect().top]")
        steps.append((before[0] - after[0], after[1] - before[1]))
    return steps


def settle(hand):
    """Waits until the log stands still."""
    hand.evaluate("""new Promise(done => { let last = -1, still = 0
        const look = () => { still = log.scrollTop === last ? still + 1 : 0; last = log.scrollTop
            still > 6 ? done() : requestAnimationFrame(look) }
        look() })""")


@pytest.mark.parametrize("messages", [14, 36])
def test_reading_back_skips_no_line(hand, messages):
    hand.fill(messages, LONG)
    hand.reload()
    hand.wait(f"rows.children.length === {messages} && !rows.querySelector('.changed')")
    height = hand.evaluate("log.clientHeight")
    steps = read_upwards(hand)
    assert len(steps) > 3
    assert all(0 < moved <= height and abs(moved - seen) < 2 for moved, seen in steps), (height, steps)


def test_reading_back_skips_no_line_after_the_window_was_made_narrow(hand):
    hand.fill(14, LONG)
    hand.resize(600, 800)
    hand.wait("shown.get('width')[0] === log.clientWidth && log.clientWidth < 620")
    hand.finished()
    height = hand.evaluate("log.clientHeight")
    assert all(0 < moved <= height and abs(moved - seen) < 2 for moved, seen in read_upwards(hand))


def test_far_rows_are_not_drawn(hand):
    hand.fill(60, LONG)
    hand.wait("!rows.querySelector('.changed')")
    hand.wait("!rows.querySelector('.body').checkVisibility({ contentVisibilityAuto: true })")


# Editing ----------------------------------------------------------------------------------------------------
def test_the_editor_is_as_high_as_its_text(hand):
    put_messages(hand, "Hi", "line\n" * 12)
    open_editor(hand, "last-child")
    hand.wait("$('editor').clientHeight >= Math.min($('editor').scrollHeight, innerHeight / 2 - 20)")
    before = hand.evaluate("$('editor').clientHeight")
    hand.press("Enter")
    hand.press("Enter")
    hand.wait(f"$('editor').clientHeight > {before} || $('editor').clientHeight >= innerHeight / 2 - 20")


def test_editing_a_reply_leaves_the_next_one_streaming(hand, script):
    put_messages(hand, "One", "First.")
    more = threading.Event()
    script.answer("Second", more, " ends.")
    hand.enter("Two")
    hand.wait("rows.lastElementChild.textContent.includes('Second')")
    hand.evaluate("ACTIONS.edit(rows.children[1])")
    hand.seen("#editor")
    hand.evaluate("edit({ ...state.editing, text: 'Changed.' })")
    hand.evaluate("ACTIONS.saveEdit()")
    hand.wait("rows.children[1].textContent.includes('Changed.')")
    assert hand.evaluate("busy()")
    more.set()
    hand.finished()
    assert bodies(hand) == ["One", "Changed.", "Two", "Second ends."]
    hand.click('[data-do="earlier"]')
    hand.wait("rows.children[1].textContent.includes('First.')")


def test_an_edit_outlives_escape_another_conversation_and_a_reload(hand):
    put_messages(hand, "Hi", "First.")
    open_editor(hand, "last-child")
    hand.type(" and more")
    text = hand.evaluate("$('editor').value")
    assert "and more" in text
    hand.press("Escape")
    hand.wait("$('editor') === null")
    hand.click('.row:last-child [data-do="edit"]')
    hand.wait(f"$('editor')?.value === {json.dumps(text)}")
    hand.click('[data-do="fresh"]')
    hand.wait("$('editor') === null")
    hand.click("#list .open")
    hand.wait(f"$('editor')?.value === {json.dumps(text)}")
    hand.reload()
    hand.wait(f"$('editor')?.value === {json.dumps(text)}")
    hand.click('[data-do="cancelEdit"]')
    hand.wait("$('editor') === null")
    hand.click('.row:last-child [data-do="edit"]')
    hand.wait("$('editor')?.value === 'First.'")


def test_ctrl_z_in_an_emptied_composer_brings_the_draft_back_and_no_message(hand):
    put_messages(hand, "Hi", "First.")
    hand.click('.row:last-child [data-do="deleteFrom"]')
    hand.wait("rows.children.length === 1")
    hand.click("#box")
    hand.type("a thought")
    hand.press("Control+a")
    hand.press("Backspace")
    hand.wait("box.value === ''")
    hand.press("Control+z")
    hand.wait("box.value !== '' && state.draft === box.value")
    assert hand.count(".row") == 1


# A reply that was cut ---------------------------------------------------------------------------------------
def test_a_reply_that_was_cut_says_so_and_goes_on_in_place(hand, script):
    script.answer("One two", Event(done=True, finish="length"), done=False)
    hand.say("Count")
    assert script.requests[-1]["details"] is True
    assert "Cut at 1 token." in hand.texts(".row .stopped")[0]
    hand.reload()
    hand.seen('[data-do="goOn"]')
    script.answer(" three", " four.", Event(done=True, finish="stop"), done=False)
    hand.click('[data-do="goOn"]')
    hand.wait("rows.textContent.includes('four')")
    hand.finished()
    sent = script.requests[-1]["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant"] and sent[-1]["content"] == "One two"
    assert bodies(hand) == ["Count", "One two three four."]
    assert hand.count(".stopped") == 0 and hand.evaluate("conversation().messages[1].info.tokens") == 3


def test_a_continuation_that_fails_loses_nothing_and_is_offered_again(hand, script):
    script.answer("One two", Event(done=True, finish="length"), done=False)
    hand.say("Count")
    script.refuse(503, "all workers are busy")
    hand.click('[data-do="goOn"]')
    hand.wait("rows.textContent.includes('busy')")
    assert bodies(hand) == ["Count", "One two"] and hand.visible('[data-do="goOn"]')


@pytest.mark.parametrize("end", [{}, {"finish": "stop"}, {"finish": 7}])
def test_a_reply_that_ended_by_itself_or_for_no_known_reason_says_nothing(hand, script, end):
    script.answer("One two", Event(end, done=True), done=False)
    hand.say("Count")
    assert hand.count(".stopped") == 0 and not hand.visible('[data-do="goOn"]')


# Notices ----------------------------------------------------------------------------------------------------
def test_a_notice_leaves_when_its_moment_has_passed_and_undo_stays(hand):
    put_messages(hand, "Hi", "First.")
    hand.evaluate("""(() => { const later = setTimeout
        window.setTimeout = (act, ms) => later(act, ms === NOTICE_MS ? 300 : ms) })()""")
    hand.evaluate("ACTIONS.deleteFrom(rows.lastElementChild)")
    hand.wait("!$('notice').hidden")
    hand.wait("$('notice').hidden")
    hand.click("#box")
    hand.press("Control+z")
    hand.wait("rows.children.length === 2")


def test_a_notice_takes_less_than_a_third_of_a_phone(hand):
    hand.resize(500, 640)
    hand.evaluate("notify('word '.repeat(400), { error: true, undo: true })")
    hand.wait("!$('notice').hidden")
    assert hand.evaluate("$('notice').getBoundingClientRect().height / innerHeight") < 1 / 3


def test_a_full_storage_is_said_again_while_it_lasts(hand):
    hand.evaluate(f"(() => {{ {FULL} }})()")
    for _ in range(2):
        put_messages(hand, "Hi")
        hand.wait("$('notice').textContent.includes('keeps no more')")
        hand.evaluate("ACTIONS.dismiss()")
        hand.wait("$('notice').hidden")


# First visit, the list --------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["first visit", "/clear"])
def test_an_empty_conversation_has_nothing_to_scroll_and_is_centred(hand, how):
    if how == "/clear":
        put_messages(hand, "Hi", "word " * 900)
        hand.evaluate("ACTIONS.dismiss()")
        hand.say("/clear")
        hand.evaluate("ACTIONS.dismiss()")
        hand.wait("$('notice').hidden")
    hand.wait("!$('empty').hidden")
    assert hand.evaluate("log.scrollHeight <= log.clientHeight")
    above, below = hand.evaluate("""(() => { const all = log.getBoundingClientRect()
        const first = $("hello").getBoundingClientRect(), last = $("tries").getBoundingClientRect()
        return [first.top - all.top, all.bottom - last.bottom] })()""")
    assert abs(above - below) < 0.2 * (above + below)


@pytest.mark.parametrize("demo", [True, False])
def test_the_welcome_speaks_to_a_person_and_offers_four_things_to_say(hand, script, demo):
    script.config = {**PAGE_CONFIG, "demo": demo}
    hand.reload()
    assert " -" not in hand.texts("#welcome")[0]
    offers = hand.texts("#tries button")
    assert len(offers) == 4 and ("How do I load my own model?" in offers) == demo
    hand.click("#tries button:nth-child(2)")
    hand.wait("rows.children.length === 2")
    hand.finished()
    assert script.requests[0]["messages"] == [{"role": "user", "content": offers[1]}]


def test_the_list_says_when_each_was_last_used_and_begins_a_new_one(hand):
    hand.evaluate("""[0, 3, 40].forEach((days, i) => put({ id: "c" + i, title: "T" + i,
        messages: [{ role: "user", content: "x" }], changed: Date.now() - days * 864e5 }))""")
    hand.wait("$('list').children.length === 3")
    when = hand.evaluate("[...document.querySelectorAll('#list .open')].map(e => e.dataset.when)")
    assert ":" in when[0] and when[1].isalpha() and any(letter.isdigit() for letter in when[2])
    hand.click('#side [data-do="fresh"]')
    hand.wait("location.hash.slice(1) === state.current && state.current[0] !== 'c'")


def test_the_closed_list_stays_closed_after_a_reload(hand):
    hand.click("#side-close")
    hand.wait("$('side').hidden")
    hand.reload()
    hand.wait("box.checkVisibility()")
    assert not hand.visible("#side")
    hand.click("#side-button")
    hand.seen("#side")
    hand.reload()
    hand.seen("#side")


def test_a_long_title_in_the_list_ends_in_an_ellipsis(hand):
    put_messages(hand, "A title that goes on and on, beyond the room that it has in the list")
    hand.seen("#list .open")
    assert hand.evaluate("""(() => { const it = document.querySelector("#list .open span")
        return it.scrollWidth > it.clientWidth && getComputedStyle(it).textOverflow }) ()""") == "ellipsis"


def test_conversations_are_found_by_title_and_text(hand):
    hand.evaluate("""[["Apples", "red"], ["Pears", "green leaves"], ["", "A Question"]].forEach(
        ([title, content], i) =>
            put({ id: "c" + i, title, messages: [{ role: "user", content }], changed: i + 1 }))""")
    searches = {"APPLE": ["Apples"], "leaves": ["Pears"], "question": ["A Question"], "zebra": []}
    for words, found in searches.items():
        hand.evaluate("""$("search").value = "", $("search").focus()""")
        hand.type(words)
        hand.wait(f"state.search === {json.dumps(words)} && frame === 0")
        assert hand.texts("#list .open") == found
    assert "Nothing found." in hand.texts("#list")[0]


def test_a_conversation_is_exported_as_markdown(hand):
    put_messages(hand, "Sum?", "<|python_start|>1+1<|python_end|><|output_start|>2<|output_end|>It is **2**.")
    written = hand.evaluate("markdownOf(conversation())")
    assert written == "# Sum?\n\n## You\n\nSum?\n\n## Reply\n\n1+1 = 2\nIt is **2**.\n"
    saved = hand.evaluate("""(() => { let name
        const click = HTMLAnchorElement.prototype.click
        HTMLAnchorElement.prototype.click = function () { name = this.download }
        ACTIONS.exportText(document.querySelector("#list .open"))
        HTMLAnchorElement.prototype.click = click
        return name })()""")
    assert saved == "nanochat-sum-.md"


def test_back_leaves_the_drawer_and_returns_to_the_last_conversation(hand):
    put_messages(hand, "First")
    first = hand.evaluate("state.current")
    hand.click('[data-do="fresh"]')
    hand.wait(f"state.current !== '{first}'")
    hand.back()
    hand.wait(f"state.current === '{first}'")
    hand.resize(600, 800)
    hand.wait("NARROW.matches && $('side').hidden")
    hand.click("#side-button")
    hand.seen("#side")
    hand.back()
    hand.wait("$('side').hidden")
    assert hand.evaluate("state.current") == first
    hand.click("#side-button")
    hand.seen("#side")
    hand.click("#side-close")
    hand.wait("$('side').hidden")


# Commands ---------------------------------------------------------------------------------------------------
def test_the_command_menu_follows_the_arrow_keys_and_is_a_combobox(hand):
    hand.click("#box")
    assert hand.count("[role=combobox]") == 0
    hand.type("/")
    hand.seen("#commands")
    assert hand.count("[role=combobox][aria-expanded=true][aria-controls=commands] > #box") == 1
    hand.press("ArrowDown")
    hand.press("ArrowDown")
    chosen = "document.querySelector('#commands [aria-selected=true]').id"
    hand.wait(chosen + " === 'command-maxtokens'")
    assert hand.evaluate("box.getAttribute('aria-activedescendant')") == "command-maxtokens"
    for _ in range(3):
        hand.press("ArrowUp")
    hand.wait("box.getAttribute('aria-activedescendant') === 'command-help'")
    hand.press("Enter")
    hand.wait("$('help').open")
    hand.wait("document.querySelector('[role=combobox], [aria-activedescendant]') === null")


# Text -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        r"\(a^2 * b_1 * c_1\)",
        r"\[a_1 * b * c_2\]",
        "\\[\na_1 * b\n- c_2 * d\n\\]",
        "$a_1 * b * c_1$",
        "$$\na*b*c\n$$",
    ],
)
def test_latex_is_left_alone(hand, text):
    assert hand.evaluate(f"""(() => {{ const at = make("div"); drawMarkdown(at, {json.dumps(text)}, false)
        return at.textContent + at.querySelectorAll("em, strong, li").length }})()""") == text + "0"
    grown = f"""(() => {{ const text = {json.dumps(text)}; for (let i = 1; i < text.length; i++) {{
        const at = make("div"); drawMarkdown(at, text.slice(0, i), true)
        if (at.querySelector("em, strong, li")) return text.slice(0, i) }} return "" }})()"""
    assert hand.evaluate(grown) == "", "nor is it markup while it grows"


def test_prices_are_no_formula(hand):
    assert "<em>sale</em>" in seen_html(hand, "It was $5 and *sale* $4, or $3.")
    assert "<strong>" in seen_html(hand, r"unclosed \( and **bold**")


def test_task_lists_entities_and_table_heads_read_right(hand):
    tasks = seen_html(hand, "- [ ] open\n- [x] done")
    assert "☐ open" in tasks and "☑ done" in tasks and 'class="task"' in tasks
    assert seen_html(hand, "AT&amp;T &lt;b&gt; &#233; &unknown; `&amp;`") == (
        '<p>AT&amp;T &lt;b&gt; é &amp;unknown; <code>&amp;amp;</code></p>'
    )
    assert seen_html(hand, "| a | b |\n|--|--|\n| 1 | 2 |").count('scope="col"') == 2


def test_lists_and_tables_run_from_right_to_left(hand):
    put_messages(hand, "Hi", "- שלום\n- עולם\n\n| שלום | עולם |\n|--|--|\n| א | ב |")
    assert hand.evaluate("""(() => { const item = rows.querySelector("li"), list = item.parentElement
        const cells = [...rows.querySelectorAll("th")].map(e => e.getBoundingClientRect().left)
        return [getComputedStyle(list).direction, cells[0] > cells[1]] })()""") == ["rtl", True]


def test_a_tool_reply_separates_its_parts(hand):
    call = "<|python_start|>12*34<|python_end|><|output_start|>408<|output_end|>"
    put_messages(hand, "Hi", call + "12*34 is 408.")
    assert hand.evaluate("plain(conversation().messages[1].content)") == "12*34 = 408\n12*34 is 408."
    within = json.dumps(f"It costs {call}dollars.")
    assert hand.evaluate(f"plain({within})") == "It costs 12*34 = 408 dollars."
    apart = hand.evaluate("""(() => { const tool = rows.querySelector(".tool").getBoundingClientRect()
        const range = document.createRange()
        range.selectNodeContents(rows.querySelector(".text p").lastChild)
        return range.getBoundingClientRect().top - tool.bottom })()""")
    assert apart >= 0


def test_screen_readers_hear_no_markup_every_underscore_and_no_endless_log(hand, script):
    table = "| a | b |\n|--|--|\n| 1 | 2 |\n"
    script.answer(f"# Head\n\nThe **bold** name is `my_var_name`.\n\n- one_two\n\n{table}")
    hand.say("Hi")
    heard = "\n".join(hand.texts("#spoken p"))
    assert "my_var_name" in heard and "one_two" in heard and not set("*`#|") & set(heard)
    for _ in range(8):
        hand.evaluate("say('once more')")
        hand.wait("frame === 0")
    assert hand.evaluate("$('spoken').children.length") <= 5


# Settings ---------------------------------------------------------------------------------------------------
def test_sliders_and_numbers_show_the_same_and_can_be_reset(hand):
    hand.evaluate("ACTIONS.settings()")
    hand.seen("#temperature")
    hand.evaluate("""document.querySelector('[data-for="temperature"]').focus()""")
    hand.press("Home")
    hand.wait("state.settings.temperature === 0 && $('temperature').value === '0'")
    hand.click("#top_k")
    hand.press("Control+a")
    hand.type("7")
    hand.wait("document.querySelector('[data-for=top_k]').value === '7'")
    hand.click('[data-do="reset"]')
    hand.wait("$('temperature').value === '0.8' && $('top_k').value === '50' && !('top_k' in state.settings)")


def test_a_slider_has_room_for_a_finger_on_a_narrow_screen(hand):
    hand.resize(500, 800)
    hand.evaluate("ACTIONS.settings()")
    hand.seen("#temperature")
    assert hand.evaluate("""document.querySelector('[data-for="temperature"]').clientWidth""") > 300


def test_scrollbars_follow_the_theme(hand):
    hand.evaluate("set({ theme: 'dark' })")
    hand.wait("document.documentElement.dataset.theme === 'dark'")
    if hand.evaluate("CSS.supports('scrollbar-color', 'auto')"):
        assert "rgba(0, 0, 0, 0)" in hand.evaluate("getComputedStyle(log).scrollbarColor")


def test_a_bad_value_is_told_in_a_sentence(hand):
    hand.evaluate("ACTIONS.settings()")
    hand.click("#top_k")
    hand.press("Control+a")
    hand.type("999")
    hand.wait("$('top_k-note').textContent === 'Top-k is a whole number from 0 to 200, not 999.'")
    assert hand.evaluate("$('top_k').ariaInvalid") == "true"
    hand.press("Escape")
    hand.wait("state.sheet === null")
    hand.evaluate("ACTIONS.settings()")
    hand.wait("$('top_k').value === '99' && $('top_k').ariaInvalid === 'false'")


def test_a_click_beside_the_sheet_closes_it_and_one_on_it_does_not(hand):
    for sheet in ("settings", "help"):
        hand.evaluate(f"ACTIONS.{sheet}()")
        hand.wait(f"$('{sheet}').open")
        hand.click(f"#{sheet} h2")
        assert hand.evaluate(f"$('{sheet}').open")
        hand.pointer(20, 400)
        hand.wait(f"!$('{sheet}').open && state.sheet === null")


def test_seed_and_top_p_are_offered_where_the_server_knows_them(hand, script):
    hand.evaluate("ACTIONS.settings()")
    assert not hand.visible("#seed") and not hand.visible("#top_p")
    top_p = {"default": 1.0, "low": 0.0, "high": 1.0}
    seed = {"default": None, "low": 0, "high": 2**31 - 1}
    known = {**PAGE_CONFIG["sampling"], "top_p": top_p, "seed": seed}
    script.config = {**PAGE_CONFIG, "sampling": known}
    hand.reload()
    hand.evaluate("ACTIONS.settings()")
    hand.seen("#top_p")
    hand.click("#seed")
    hand.type("42")
    hand.wait("state.settings.seed === 42")
    hand.press("Escape")
    hand.wait("state.sheet === null")
    hand.say("Hi")
    assert (script.requests[-1]["seed"], script.requests[-1]["top_p"]) == (42, 1)
    hand.evaluate("ACTIONS.reset()")
    hand.say("Hi")
    assert "seed" not in script.requests[-1]


# What comes from elsewhere ----------------------------------------------------------------------------------
def imported(hand, conversations):
    text = json.dumps(json.dumps({"conversations": conversations}))
    hand.evaluate(f"importFile({{ target: {{ files: [new File([{text}], 'a.json')], value: '' }} }})")


def test_an_import_takes_what_is_good_and_mends_ids_dates_and_titles(hand):
    message = {"role": "user", "content": "Hi"}
    good = {"id": "../x y", "title": ["no"], "changed": 9e99, "messages": [message]}
    bad, long = {"id": "b", "messages": "no"}, {"id": "c", "title": "T" * 500, "messages": [message]}
    imported(hand, [good, bad, long])
    hand.wait("$('notice').textContent.includes('2 imported, 1 could not be read.')")
    entries = hand.evaluate("[...state.conversations.values()]")
    assert all(entry["id"].replace("-", "").isalnum() and len(entry["title"]) <= 80 for entry in entries)
    assert hand.evaluate("[...state.conversations.values()].every(it => it.changed <= Date.now())")


@pytest.mark.parametrize("damage", ['{"tokens": "many", "rate": "fast", "prompt": {}}', '"x"', "7", "[null]"])
def test_a_damaged_entry_never_stops_rendering(hand, damage):
    message = f'{{"role": "assistant", "content": "It", "info": {damage}, "error": 5}}'
    open_stored(hand, f'r {{"id": "d", "title": 7, "changed": "x", "messages": [{message}]}}', 1)
    hand.say("Hi")
    assert bodies(hand) == ["It", "Hi", "Hello there."]


def test_a_server_with_another_model_is_noticed(hand, script):
    script.config = {**PAGE_CONFIG, "model": "d26, rl, step 9"}
    hand.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    hand.wait("$('notice').textContent.includes('another model now: d26, rl, step 9')")
    hand.wait("$('model').textContent.includes('d26')")


# What one browser alone can play ----------------------------------------------------------------------------
def test_in_chromium_which_alone_can_play_paper_print_names_the_speakers_in_dark_ink(page):
    filled(page, 2, r'"```\n" + "x ".repeat(400) + "\n```"')
    page.evaluate("set({ theme: 'dark' })")
    page.emulate_media(media="print")
    assert page.evaluate("[...rows.querySelectorAll('h2')].every(e => e.getBoundingClientRect().width > 20)")
    assert page.evaluate("[...document.querySelectorAll('button')].every(e => !e.checkVisibility())")
    assert page.evaluate("getComputedStyle(rows.querySelector('pre')).whiteSpace") == "pre-wrap"
    assert max(map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).color")))) < 128


def test_in_chromium_which_alone_can_play_a_phone_enter_breaks_the_line_and_a_button_sends(chromium, script):
    context = chromium.new_context(**PHONE)
    with contextlib.closing(context):
        page = open_page(context, script)
        page.locator("#box").fill("one")
        page.locator("#box").press("Enter")
        page.keyboard.type("two")
        expect(page.locator("#box")).to_have_value("one\ntwo")
        assert script.requests == []
        page.locator("#go").tap()
        finished(page)
        assert script.requests[0]["messages"][0]["content"] == "one\ntwo"
