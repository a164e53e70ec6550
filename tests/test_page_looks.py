"""The page in Chromium, Firefox and WebKit: tokens, versions, records, what the model reads, base models."""

import contextlib
import json
import threading

import pytest

from standins import PAGE_CONFIG, Event, token_of

from test_page_engines import bodies, open_editor, open_stored, put_messages

CALL = ["<|python_start|>", "1", "+", "1", "<|python_end|>", "<|output_start|>", "2", "<|output_end|>"]


def tokens(hand):
    return hand.texts(".tokens span")


def look(hand, row="last-child"):
    """Opens the tokens view of a reply."""
    hand.click(f'.row:{row} [data-do="look"]')
    hand.seen(f".row:{row} .tokens span")


def answer_again(hand, row: str):
    """The stand-in's usual reply, as another version of the one in this row."""
    hand.click(f'.row:{row} [data-do="again"]')
    hand.wait("rows.textContent.includes('Hello there.') && !busy()")


def turn_to(hand, which: str, text: str):
    """The earlier or later version, which has this text."""
    hand.click(f'[data-do="{which}"]')
    hand.wait(f"rows.textContent.includes('{text}')")


def pages(hand):
    return hand.texts(".pager")


# Tokens -----------------------------------------------------------------------------------------------------
def test_a_switch_shows_a_reply_token_by_token_and_back(hand, script):
    script.tell("It", " is", " 2", ".")
    hand.say("Sum?")
    assert tokens(hand) == []
    look(hand)
    assert tokens(hand) == ["It", " is", " 2", ".", "<|assistant_end|>"]
    assert hand.evaluate("""rows.querySelector('[data-do="look"]').ariaPressed""") == "true"
    hand.click('[data-do="look"]')
    hand.wait("rows.querySelector('.tokens') === null")
    assert bodies(hand) == ["Sum?", "It is 2."]


def test_a_setting_shows_new_replies_token_by_token_while_they_stream(hand, script):
    hand.evaluate("ACTIONS.settings()")
    hand.click("#tokens")
    hand.press("Escape")
    script.tell("It", " is", " 2", ".")
    hand.say("Sum?")
    assert tokens(hand)[:4] == ["It", " is", " 2", "."]


def test_a_token_is_tinted_by_its_probability_and_a_forced_one_is_not(hand, script):
    script.tell(*CALL, "Two", forced=("2", "<|output_end|>"))
    hand.say("Sum?")
    look(hand)
    tints = hand.evaluate("""[...rows.querySelectorAll(".tokens span")].map(
        e => [e.textContent, e.className, getComputedStyle(e).backgroundColor])""")
    forced = [text for text, kind, _ in tints if kind == "forced"]
    assert forced == ["2", "<|output_end|>"]
    drawn, written = tints[1][2], tints[6][2]
    assert drawn != written and "0)" not in drawn
    assert hand.evaluate("rows.querySelector('.forced').style.getPropertyValue('--doubt')") == ""


def test_a_click_on_a_token_tells_its_text_number_probability_and_alternatives(hand, script):
    script.tell("It", " is", " 2", ".")
    hand.say("Sum?")
    look(hand)
    hand.click('.tokens [data-i="1"]')
    hand.wait("rows.querySelector('.facts p').textContent.includes(' is')")
    assert hand.texts(".facts p") == [f'" is" · id {token_of(" is")} · 50.0%']
    assert hand.texts('.facts [data-do="alternative"]') == [
        '" is" 50.0%', '" the" 20.2%', '" a" 10.0%', r'"\n" 2.0%', '"<|assistant_end|>" under 0.1%',
    ]  # fmt: skip


def test_arrow_keys_walk_through_the_tokens_and_a_screen_reader_hears_them(hand, script):
    script.tell("It", " is", " 2", ".")
    hand.say("Sum?")
    look(hand)
    hand.evaluate("rows.querySelector('.tokens').focus()")
    for press, chosen in (("Right", "It"), ("Right", " is"), ("Right", " 2"), ("Left", " is")):
        hand.press("Arrow" + press)
        hand.wait(f"rows.querySelector('[aria-selected=true]')?.textContent === '{chosen}'")
    about = hand.evaluate("""(() => { const list = rows.querySelector("[role=listbox]")
        return $(list.getAttribute("aria-activedescendant")).ariaLabel })()""")
    assert about == f'" is" · id {token_of(" is")} · 50.0%'
    assert hand.count("[aria-selected=true]") == 1


def test_hovering_tells_of_a_token_and_a_click_keeps_it(hand, script):
    script.tell("It", " is", " 2", ".")
    hand.say("Sum?")
    look(hand)
    hand.hover('.tokens [data-i="2"]')
    hand.wait("rows.querySelector('.facts p').textContent.startsWith('\" 2\"')")
    hand.hover('.tokens [data-i="0"]')
    hand.wait("rows.querySelector('.facts p').textContent.startsWith('\"It\"')")
    hand.click('.tokens [data-i="1"]')
    hand.hover('.tokens [data-i="3"]')
    hand.wait("frame === 0")
    assert hand.texts(".facts p")[0].startswith('" is"')
    hand.click('.tokens [data-i="1"]')  # and a second lets it go
    hand.hover('.tokens [data-i="2"]')
    hand.wait("rows.querySelector('.facts p').textContent.startsWith('\" 2\"')")


def test_a_tap_tells_of_a_token(hand, script):
    script.tell("It", " is", " 2", ".")
    hand.say("Sum?")
    look(hand)
    hand.tap('.tokens [data-i="2"]')
    hand.wait("rows.querySelector('.facts p').textContent.startsWith('\" 2\"')")


def choose(hand, how, i, text):
    """Takes an alternative of token i, by mouse, touch or keyboard."""
    if how == "keyboard":
        hand.evaluate("rows.querySelector('.tokens').focus()")
        for _ in range(i + 1):
            hand.press("ArrowRight")
        hand.wait(f"state.token?.i === {i} && frame === 0")
    else:
        act = hand.click if how == "mouse" else hand.tap
        act(f'.tokens [data-i="{i}"]')
        hand.wait(f"state.token?.i === {i} && frame === 0")
    selector = f'.facts [data-token="{token_of(text)}"]'
    if how != "keyboard":
        return act(selector)
    for _ in range(9):
        hand.press("Tab")
        if hand.evaluate(f"document.activeElement.matches('{selector}')"):
            return hand.press_button()
    raise AssertionError("Tab never reaches the alternative")


@pytest.mark.parametrize("how", ["mouse", "touch", "keyboard"])
def test_an_alternative_begins_another_continuation_that_is_a_new_version(hand, script, how):
    script.tell("It", " is", " 2", ".")
    hand.say("Sum?")
    look(hand)
    script.tell(" sum", ".")
    choose(hand, how, 2, " the")
    hand.wait("rows.textContent.includes('2 / 2') && !busy()")
    sent = script.requests[-1]
    assert sent["begin"] == [token_of("It"), token_of(" is"), token_of(" the")]
    assert sent["messages"] == [{"role": "user", "content": "Sum?"}] and sent["details"] is True
    assert tokens(hand) == ["It", " is", " the", " sum", ".", "<|assistant_end|>"]
    assert hand.evaluate("conversation().messages[1].content") == "It is the sum."
    turn_to(hand, "earlier", "1 / 2")
    assert tokens(hand)[2] == " 2", "the earlier reply's tokens are still known"


def test_an_alternative_is_taken_while_the_reply_is_still_being_written(hand, script):
    hand.evaluate("set({ tokens: true })")
    more = threading.Event()
    script.tell("It", " is", more, " 2", ".")
    hand.enter("Sum?")
    hand.click('.tokens [data-i="1"]')
    hand.seen('[data-do="alternative"]')
    assert not hand.visible('[data-do="record"]')
    script.tell(" sum", ".")
    hand.click(f'.facts [data-token="{token_of(" the")}"]')
    hand.wait("rows.textContent.includes('2 / 2') && !busy()")
    more.set()
    assert tokens(hand) == ["It", " the", " sum", ".", "<|assistant_end|>"]
    turn_to(hand, "earlier", "Stopped.")
    assert tokens(hand) == ["It", " is"]


def test_after_a_reload_the_tokens_are_asked_for_again(hand, script):
    script.tell("It", " is", " 2", ".")
    hand.say("Sum?")
    hand.reload()
    hand.wait("rows.children.length === 2")
    assert "logprob" not in hand.evaluate("JSON.stringify(Object.values(localStorage))")
    script.tell("never")
    look(hand)
    assert script.requests[-1]["messages"][-1] == {"role": "assistant", "content": "It is 2."}
    assert script.requests[-1]["max_tokens"] == 1
    assert tokens(hand) == ["It", " is", " 2", "."]
    assert hand.evaluate("conversation().messages[1].content") == "It is 2."


def test_a_server_that_cannot_tell_of_the_tokens_is_said(hand, script):
    put_messages(hand, "Hi", "Hello there.")
    hand.click('[data-do="look"]')
    hand.wait("$('notice').textContent.includes('tells nothing about its tokens')")
    assert hand.count(".tokens") == 0


def test_halves_of_characters_are_shown_and_continued_from(hand, script):
    assert hand.evaluate(r'textOf([{ token: "a\\xf0\\x9f" }, { token: "\\x99" }, { token: "\\x82b" }])') == "a🙂b"
    assert hand.evaluate(r'textOf([{ token: "é" }, { token: "\\xf0\\x9f" }])') == "é"


# Versions ---------------------------------------------------------------------------------------------------
def test_regenerating_keeps_the_earlier_reply_and_needs_no_undo(hand, script):
    script.tell("First", ".")
    hand.say("Hi")
    script.tell("Second", ".")
    hand.click('.row:last-child [data-do="again"]')
    hand.wait("rows.textContent.includes('Second') && !busy()")
    assert pages(hand) == ["2 / 2"] and not hand.visible("#undo")
    turn_to(hand, "earlier", "First.")
    assert pages(hand) == ["1 / 2"] and bodies(hand) == ["Hi", "First."]
    hand.reload()
    hand.wait("rows.textContent.includes('First.')")
    assert pages(hand) == ["1 / 2"], "versions are stored"
    turn_to(hand, "later", "Second.")


def test_what_follows_a_version_belongs_to_it(hand):
    put_messages(hand, "Hi", "First.", "More", "Much more.")
    answer_again(hand, "nth-child(2)")
    assert bodies(hand) == ["Hi", "Hello there."]
    hand.say("And?")
    turn_to(hand, "earlier", "Much more.")
    assert bodies(hand) == ["Hi", "First.", "More", "Much more."]
    turn_to(hand, "later", "And?")
    assert bodies(hand) == ["Hi", "Hello there.", "And?", "Hello there."]


def test_an_edited_message_is_a_new_version_with_a_reply_of_its_own(hand, script):
    put_messages(hand, "Hi", "First.")
    open_editor(hand, "first-child")
    hand.type("!")
    hand.press("Enter")
    hand.wait("rows.textContent.includes('Hello there.') && !busy()")
    assert bodies(hand) == ["Hi!", "Hello there."] and pages(hand) == ["2 / 2"]
    assert script.requests[-1]["messages"] == [{"role": "user", "content": "Hi!"}]
    turn_to(hand, "earlier", "First.")
    assert bodies(hand) == ["Hi", "First."]


def test_an_edited_reply_keeps_the_earlier_and_what_followed(hand):
    put_messages(hand, "Hi", "First.", "More", "Much more.")
    open_editor(hand, "nth-child(2)")
    hand.type("!")
    hand.click('[data-do="saveEdit"]')
    hand.wait("rows.textContent.includes('First.!')")
    assert bodies(hand) == ["Hi", "First.!", "More", "Much more."] and pages(hand) == ["2 / 2"]
    hand.click('[data-do="earlier"]')
    hand.wait("!rows.textContent.includes('First.!')")
    assert bodies(hand) == ["Hi", "First.", "More", "Much more."]


def test_deleting_takes_the_shown_version_and_undo_brings_it_back(hand, script):
    put_messages(hand, "Hi", "First.")
    answer_again(hand, "last-child")
    hand.click('.row:last-child [data-do="deleteFrom"]')
    hand.wait("rows.textContent.includes('First.')")
    assert pages(hand) == []
    hand.click("#undo")
    hand.wait("rows.textContent.includes('Hello there.')")
    assert pages(hand) == ["2 / 2"]
    hand.say("/clear")
    hand.wait("rows.children.length === 0")


def test_a_retry_after_a_failure_leaves_no_empty_version(hand, script):
    put_messages(hand, "Hi", "First.")
    script.refuse(503, "all workers are busy")
    hand.click('.row:last-child [data-do="again"]')
    hand.wait("rows.textContent.includes('busy')")
    assert pages(hand) == ["2 / 2"]
    hand.click('.failed [data-do="again"]')
    hand.wait("rows.textContent.includes('Hello there.') && !busy()")
    assert pages(hand) == ["2 / 2"]


def test_a_page_closed_in_a_new_version_has_kept_the_earlier(hand, script):
    put_messages(hand, "Hi", "First.")
    gate = threading.Event()
    script.answer("late", before=gate)
    hand.click('.row:last-child [data-do="again"]')
    hand.wait("busy()")
    assert "First." in hand.evaluate("stored(CONVERSATION + state.current)")
    hand.reload()
    hand.wait("rows.children.length === 2")
    gate.set()
    assert pages(hand) == ["2 / 2"]
    turn_to(hand, "earlier", "First.")


def test_an_old_stored_conversation_opens_as_it_is_and_can_be_looked_into(hand, script):
    info = '{"tokens": 2, "rate": 9.5, "gpu": 0, "prompt": 9, "dropped": 0}'
    reply = f'{{"role": "assistant", "content": "It is", "info": {info}, "finish": "length"}}'
    messages = f'[{{"role": "user", "content": "Hi"}}, {reply}]'
    open_stored(hand, f'r {{"id": "d", "title": "", "changed": 1, "messages": {messages}}}', 2)
    assert bodies(hand) == ["Hi", "It is"] and pages(hand) == [] and hand.visible('[data-do="goOn"]')
    script.tell("never")
    told = open_record(hand)
    assert told["Tokens"] == "2" and "Model" not in told and not hand.visible('[data-do="same"]')
    hand.press("Escape")
    hand.wait("state.sheet === null")
    assert tokens(hand) == ["It", " is"]


def test_export_and_import_keep_every_version(hand, script):
    put_messages(hand, "Hi", "First.")
    answer_again(hand, "last-child")
    saved = hand.evaluate("JSON.stringify({ conversations: [conversation()] })")
    hand.evaluate("ACTIONS.deleteConversation(document.querySelector('#list [data-id]'))")
    file = f"new File([{json.dumps(saved)}], 'a.json')"
    hand.evaluate(f"importFile({{ target: {{ files: [{file}], value: '' }} }})")
    hand.wait("state.conversations.size === 1")
    hand.click("#list .open")
    hand.wait("rows.textContent.includes('Hello there.')")
    turn_to(hand, "earlier", "First.")


@pytest.mark.parametrize(
    "damage", ["7", "[]", "[null, null]", '[null, "x"]', "[null, []]", '[null, [{"role": 1}]]', '"null"']
)
def test_damaged_versions_are_left_out_and_the_rest_is_shown(hand, damage):
    messages = f'[{{"role": "assistant", "content": "It", "versions": {damage}}}]'
    open_stored(hand, f'r {{"id": "d", "title": "", "changed": 1, "messages": {messages}}}', 1)
    assert pages(hand) == [] and bodies(hand) == ["It"]


def test_an_edit_is_given_up_where_another_version_takes_its_place(hand):
    put_messages(hand, "Hi", "First.", "More", "Much more.")
    hand.click('.row:nth-child(2) [data-do="again"]')
    hand.wait("rows.textContent.includes('2 / 2') && !busy()")
    hand.click('[data-do="earlier"]')
    hand.wait("rows.children.length === 4")
    open_editor(hand, "nth-child(4)")
    hand.click('[data-do="later"]')
    hand.wait("rows.children.length === 2 && frame === 0")
    assert hand.evaluate("state.editing") is None


# The record -------------------------------------------------------------------------------------------------
def record(hand):
    names, values = hand.texts("#record-facts dt"), hand.texts("#record-facts dd")
    return dict(zip(names, values))


def open_record(hand):
    look(hand)
    hand.click('[data-do="record"]')
    hand.wait("$('record').open && frame === 0")
    return record(hand)


def test_a_record_tells_how_a_reply_came_about(hand, script):
    script.config = {**PAGE_CONFIG, "dtype": "bfloat16"}
    hand.reload()
    script.tell("It", ".", seed=77)
    hand.say("Hi")
    told = open_record(hand)
    assert told["Model"] == "d20, sft, step 650" and told["Numbers"] == "bfloat16" and told["Seed"] == "77"
    assert told["Temperature"] == "0.8" and told["Top-k"] == "50" and told["Longest reply"] == "512"
    assert told["Tokens"] == "3" and told["Ended"] == "the model ended it"
    assert "bfloat16" in hand.texts("#record-note")[0] and hand.visible("#record-note")
    hand.press("Escape")
    hand.wait("state.sheet === null")
    hand.reload()
    hand.wait("rows.children.length === 2")
    script.tell("never")
    assert open_record(hand) == told, "it is stored"


def test_the_same_again_repeats_with_the_same_seed_and_settings(hand, script):
    script.tell("It", ".", seed=77)
    hand.say("Hi")
    assert "seed" not in script.requests[-1], "the page sends none by itself"
    hand.evaluate("set({ temperature: 0.2 })")
    open_record(hand)
    script.tell("It", ".")
    hand.click('[data-do="same"]')
    hand.wait("rows.textContent.includes('2 / 2') && !busy()")
    assert script.requests[-1] == {**script.requests[0], "seed": 77}
    hand.click('[data-do="record"]')
    hand.wait("$('record').open && frame === 0")
    assert record(hand)["Seed"] == "77" and not hand.visible("#record-note")


# What the model reads ---------------------------------------------------------------------------------------
def test_what_the_model_read_is_told_token_by_token(hand, script):
    script.tell("It", ".", dropped=2)
    hand.say("Hi you")
    assert open_record(hand)["Left out"] == "the 2 oldest messages"
    read = ["<|bos|>", "<|user_start|>", "Hi", " you", "<|user_end|>", "<|assistant_start|>"]
    assert hand.texts("#reads span") == read
    assert hand.texts("#reads .special") == [text for text in read if "|" in text]
    assert record(hand)["Read before"] == "6 tokens"


# Continue and write ahead -----------------------------------------------------------------------------------
def test_an_edited_reply_is_gone_on_from(hand, script):
    put_messages(hand, "Hi", "Su")
    open_editor(hand, "last-child")
    hand.type("re")
    script.tell(", gladly", ".")
    hand.click('[data-do="goOnFromEdit"]')
    hand.wait("rows.textContent.includes('gladly') && !busy()")
    assert bodies(hand) == ["Hi", "Sure, gladly."] and pages(hand) == ["2 / 2"]
    sent = script.requests[-1]["messages"]
    assert sent == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Sure"}]


def test_a_reply_that_was_stopped_goes_on(hand, script):
    hand.evaluate("""put({ ...conversation(), messages: [{ role: "user", content: "Hi" },
        { role: "assistant", content: "So", stopped: true }] })""")
    script.tell(" it goes.")
    hand.click('[data-do="goOn"]')
    hand.wait("rows.textContent.includes('So it goes.') && !busy()")
    assert pages(hand) == [] and hand.count(".stopped") == 0


@pytest.mark.parametrize("how", ["settings", "command"])
def test_the_user_writes_how_replies_begin(hand, script, how):
    if how == "command":
        hand.say("/begin Sure, here")
    else:
        hand.evaluate("ACTIONS.settings()")
        hand.click("#begin")
        hand.type("Sure, here")
        hand.press("Escape")
        hand.wait("state.sheet === null")
    script.tell(" it", " is", ".")
    hand.say("A list")
    assert script.requests[-1]["messages"][-1] == {"role": "assistant", "content": "Sure, here"}
    assert bodies(hand) == ["A list", "Sure, here it is."]
    assert "begun" in hand.texts("#dials")[0]
    hand.say("/begin ")
    hand.say("Again")
    assert script.requests[-1]["messages"][-1] == {"role": "user", "content": "Again"}


# Base models ------------------------------------------------------------------------------------------------
def test_a_base_model_goes_on_with_a_text_and_chat_stays_available(hand, script):
    script.config = {**PAGE_CONFIG, "base": True}
    hand.reload()
    hand.wait("box.placeholder.includes('go on with')")
    script.tell(" a", " time", finish="length")
    hand.say("Once upon")
    assert script.requests[-1]["prompt"] == "Once upon" and "messages" not in script.requests[-1]
    assert bodies(hand) == ["Once upon a time"]
    look(hand)
    assert tokens(hand) == ["Once", " upon", " a", " time"]
    script.tell(" hill", finish="length")
    choose(hand, "mouse", 3, " the")
    hand.wait("rows.textContent.includes('2 / 2') && !busy()")
    words = ["<|bos|>", "Once", " upon", " a", " the"]
    assert script.requests[-1]["prompt"] == [token_of(word) for word in words]
    assert hand.evaluate("conversation().messages[0].content") == "Once upon a the hill"
    hand.click('[data-do="look"]')
    script.tell(" and", finish="length")
    hand.say(" so")
    assert script.requests[-1]["prompt"] == "Once upon a the hill so"
    assert bodies(hand) == ["Once upon a the hill so and"]
    hand.click('#side [data-do="fresh"]')
    hand.click('[data-do="mode"]')
    hand.wait("box.placeholder === 'Write a message'")
    hand.say("Hi")
    assert script.requests[-1]["messages"] == [{"role": "user", "content": "Hi"}]


def test_a_chat_model_offers_no_plain_text(hand):
    assert not hand.visible('[data-do="mode"]')


# Settings ---------------------------------------------------------------------------------------------------
def test_a_repetition_penalty_is_offered_where_the_server_knows_it(hand, script):
    penalty = {"default": 1.0, "low": 1.0, "high": 2.0}
    script.config = {**PAGE_CONFIG, "sampling": {**PAGE_CONFIG["sampling"], "repetition_penalty": penalty}}
    hand.reload()
    hand.evaluate("ACTIONS.settings()")
    hand.click("#repetition_penalty")
    hand.press("Control+a")
    hand.type("1.3")
    hand.wait("state.settings.repetition_penalty === 1.3")
    hand.press("Escape")
    hand.wait("state.sheet === null")
    hand.say("Hi")
    assert script.requests[-1]["repetition_penalty"] == 1.3


# Comfort ----------------------------------------------------------------------------------------------------
def test_the_focus_stays_on_the_button_that_was_pressed(hand, script):
    script.tell("First", ".")
    hand.say("Hi")
    script.tell("Second", ".")
    hand.click('.row:last-child [data-do="again"]')
    hand.wait("rows.textContent.includes('2 / 2') && !busy() && frame === 0")
    for name, done in (("earlier", "1 / 2"), ("later", "2 / 2")):
        hand.evaluate(f"""rows.querySelector('[data-do="{name}"]').focus()""")
        hand.press_button()
        hand.wait(f"rows.textContent.includes('{done}') && frame === 0")
        assert hand.evaluate("document.activeElement.dataset.do") == name
    hand.evaluate("""rows.lastElementChild.querySelector('[data-do="look"]').focus()""")
    hand.press_button()
    hand.wait("rows.querySelector('.tokens span') !== null && frame === 0")
    assert hand.evaluate("document.activeElement.dataset.do") == "look"


def test_a_version_is_not_turned_away_from_a_reply_that_streams(hand, script):
    put_messages(hand, "Hi", "First.")
    hand.click('.row:last-child [data-do="again"]')
    hand.wait("rows.textContent.includes('2 / 2') && !busy() && frame === 0")
    more = threading.Event()
    script.answer("So", more, " far.")
    hand.enter("More")
    hand.wait("rows.textContent.includes('So')")
    hand.click('.row:nth-child(2) [data-do="earlier"]')
    hand.wait("$('notice').textContent.includes('still being written')")
    more.set()
    hand.finished()
    assert bodies(hand)[-1] == "So far."


def test_nothing_goes_on_behind_the_end_of_a_reply(hand, script):
    script.tell("It", ".")
    hand.say("Hi")
    look(hand)
    hand.click('.tokens [data-i="0"]')
    hand.seen('.facts [data-do="alternative"]')
    ends = f"""document.querySelector('.facts [data-token="{token_of("<|assistant_end|>")}"]')"""
    assert hand.evaluate(f"{ends}.disabled")


def test_a_long_replys_tokens_are_drawn_in_blocks_of_which_far_ones_are_skipped(hand, script):
    words = [f" word{i}" for i in range(4000)]
    read = Event(prompt=[{"id": 1, "token": "<|bos|>"}], begun=0, dropped=0, seed=1)
    whole = b"".join(bytes(Event(token=word, gpu=0, id=7, logprob=-0.1, alternatives=[])) for word in words)
    script.answer(read, whole)
    hand.say("Count")
    look(hand)
    assert hand.count(".tokens > div") > 30
    hand.wait("""[...rows.querySelectorAll(".tokens > div")].filter(
        block => block.lastChild.checkVisibility({ contentVisibilityAuto: true })).length < 15""")
    assert tokens(hand) == words


def test_the_tokens_of_a_reply_fit_a_phone(hand, script):
    script.tell("It", " is", "long" * 90, "<|python_start|>", "2", finish="length")
    hand.say("Sum?")
    hand.resize(480 if hand.name == "webkit" else 360, 700)  # WebKit's window is no narrower
    hand.evaluate("ACTIONS.look(rows.lastElementChild.querySelector('[data-do=look]'))")
    hand.seen(".tokens span")
    hand.click('.tokens [data-i="2"]')
    hand.seen('[data-do="alternative"]')
    assert hand.evaluate("log.scrollWidth <= log.clientWidth")
    right = "e => e.getBoundingClientRect().right"
    assert hand.evaluate(f"Math.max(...[...rows.querySelectorAll('*')].map({right})) <= innerWidth")
    small = hand.evaluate("""[...rows.querySelectorAll("button")].map(b => b.getBoundingClientRect())
        .filter(box => Math.min(box.width, box.height) < 24).length""")
    assert small == 0
    hand.click('[data-do="record"]')
    hand.wait("$('record').open")
    assert hand.evaluate("$('record').scrollWidth <= $('record').clientWidth")


def test_the_real_server_tells_the_page_all_of_it(demo, engines):
    with contextlib.closing(engines("chromium")) as hand:
        hand.open(f"http://127.0.0.1:{demo[0]}/")
        hand.evaluate("set({ temperature: 0 })")
        hand.say("What is 12*34?")
        look(hand)
        assert "".join(tokens(hand)[:-1]) == hand.evaluate("conversation().messages[1].content")
        assert "".join(hand.texts(".tokens .forced")) == "<|output_start|>408<|output_end|>"
        read = hand.evaluate("conversation().messages[1][FACTS].prompt.map(it => it.token)")
        assert read[:2] == ["<|bos|>", "<|user_start|>"] and read[-1] == "<|assistant_start|>"
        hand.click('.tokens [data-i="1"]')
        hand.click('.facts [data-do="alternative"]:nth-child(2)')
        hand.wait("rows.textContent.includes('2 / 2') && !busy()")
        for version in (3, 4):
            hand.click('[data-do="record"]')
            hand.click('[data-do="same"]')
            hand.wait(f"rows.textContent.includes('{version} / {version}') && !busy()")
        versions = hand.evaluate("endsAt(conversation().messages, 1).map(end => end[0].content)")
        assert versions[2] == versions[3]
        for version in (3, 2, 1):
            hand.click('[data-do="earlier"]')
            hand.wait(f"rows.textContent.includes('{version} / 4') && frame === 0")
        before = tokens(hand)
        hand.reload()
        hand.wait("rows.children.length === 2")
        look(hand)
        assert tokens(hand) == before[:-1], "but for the stop token, which is not asked for"
        assert "".join(hand.texts(".tokens .forced")) == "<|output_start|>408<|output_end|>"
