"""The page in a real Chromium: replies that stream, fail, are stopped, and messages that are changed."""

import json
import re
import threading

import pytest

from standins import Cut, Event, debian, expect, finished, last, package, say, told, until, until_true, upload

package("playwright")
debian("chromium")


# Streaming --------------------------------------------------------------------------------------------------
def test_a_message_is_sent_and_its_reply_streams_in(page, script):
    more = threading.Event()
    script.answer("Machine", " learning", more, " is fun.")
    say(page, "What is it?")
    expect(last(page).locator(".body")).to_have_text("Machine learning")
    more.set()
    expect(last(page).locator(".body")).to_have_text("Machine learning is fun.")
    finished(page)
    assert script.requests == [
        {
            "messages": [{"role": "user", "content": "What is it?"}],
            "temperature": 0.8,
            "top_k": 50,
            "max_tokens": 512,
            "details": True,
        }
    ]
    assert page.faults == []


EMOJI_REPLY = [
    Event(token="Grüße ", gpu=0),
    Event(token="🙂👩‍💻", gpu=0),
    Event(token='\n"ende" data: {}', gpu=1),
    Event(done=True),
]


def test_events_survive_a_cut_at_every_byte(page):
    """The parser itself, fed with the same bytes in any two parts and byte by byte, also with CRLF."""
    whole = b": hello\n\n" + b"".join(bytes(event) for event in EMOJI_REPLY)
    parse = """async ([bytes, cuts]) => {
        const wrong = []
        for (const cut of cuts) {
            const parts = cut < 0 ? bytes.map(byte => [byte]) : [bytes.slice(0, cut), bytes.slice(cut)]
            const stream = new ReadableStream({
                start(to) { for (const part of parts) to.enqueue(new Uint8Array(part)); to.close() } })
            const found = []
            for await (const event of events(stream)) found.push(event)
            wrong.push(JSON.stringify(found))
        }
        return [...new Set(wrong)]
    }"""
    expected = [dict(event) for event in EMOJI_REPLY]
    for text in (whole, whole.replace(b"\n\n", b"\r\n\r\n")):
        found = page.evaluate(parse, [list(text), [-1, *range(len(text) + 1)]])
        assert [json.loads(each) for each in found] == [expected]


def test_a_reply_sent_byte_by_byte_arrives_whole(page, script):
    whole = b"".join(bytes(event) for event in EMOJI_REPLY)
    told(page, script, *(step for i in range(len(whole)) for step in (whole[i : i + 1], 0.002)), done=False)
    expect(last(page).locator(".body")).to_have_text('Grüße 🙂👩‍💻 "ende" data: {}')
    expect(last(page).locator(".failed")).to_have_count(0)


def test_a_stream_that_ends_at_any_byte_keeps_what_arrived_and_can_be_retried(page, script):
    first, second, done = Event(token="Wie 🙂", gpu=0), Event(token="!", gpu=0), Event(done=True)
    whole, ends = b"".join(map(bytes, (first, second, done))), [
        len(bytes(first)),
        len(bytes(first) + bytes(second)),
    ]
    for n in range(len(whole)):
        script.answer(whole[:n], done=False)
        page.get_by_role("button", name="Retry").click() if n else say(page, "Hi")
        finished(page)
        seen = "" if n < ends[0] else "Wie 🙂" if n < ends[1] else "Wie 🙂!"
        assert page.evaluate("conversation().messages.map(m => m.content)") == ["Hi", seen]
        expect(last(page).locator(".failed")).to_contain_text("The connection ended before the reply did")
    script.answer("All of it.")
    page.get_by_role("button", name="Retry").click()
    expect(last(page).locator(".body")).to_have_text("All of it.")
    finished(page)
    assert all(request["messages"] == [{"role": "user", "content": "Hi"}] for request in script.requests)


def test_a_connection_that_breaks_keeps_what_arrived_and_can_be_retried(page, script):
    gate = threading.Event()
    script.answer("Half of", gate, Cut(), done=False)
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("Half of")
    gate.set()
    expect(last(page).locator(".failed")).to_contain_text("The connection ended before the reply did")
    expect(last(page).locator(".body")).to_have_text("Half of")
    page.get_by_role("button", name="Retry").click()
    expect(last(page).locator(".body")).to_have_text("Hello there.")


def test_a_late_error_keeps_the_text_and_shows_the_servers_sentence(page, script):
    told(page, script, "So far ", Event(error="The GPU has left the building."), done=False)
    expect(last(page).locator(".body")).to_have_text("So far")
    expect(last(page).locator(".failed")).to_contain_text("The GPU has left the building.")
    script.answer("Better.")
    page.get_by_role("button", name="Retry").click()
    expect(last(page).locator(".body")).to_have_text("Better.")


@pytest.mark.parametrize(
    "status, sentence, headers, more",
    [
        (400, "messages[0].content is empty; write something.", {}, ""),
        (503, "All workers are busy.", {"Retry_After": "7"}, " Try again in 7 s."),
        (413, "The body has more than 1 MiB.", {}, ""),
        (411, "The length is missing.", {}, ""),
    ],
)
def test_a_refusal_is_shown_in_the_servers_words_and_can_be_retried(
    page, script, status, sentence, headers, more
):
    script.refuse(status, sentence, **headers)
    say(page, "Hi")
    expect(last(page).locator(".failed span")).to_have_text(sentence + more)
    finished(page)
    script.answer("Now it works.")
    page.get_by_role("button", name="Retry").click()
    expect(last(page).locator(".body")).to_have_text("Now it works.")
    expect(page.locator(".row")).to_have_count(2)


def test_a_proxys_error_page_and_broken_events_are_said_too(page, script):
    script.answer(b"<h1>Bad gateway</h1>", done=False, status=502, headers={"Content-Type": "text/html"})
    say(page, "Hi")
    expect(last(page).locator(".failed")).to_contain_text("502")
    script.answer("A", b"data: {nonsense\n\n", done=False)
    page.get_by_role("button", name="Retry").click()
    expect(last(page).locator(".failed")).to_contain_text("The connection ended before the reply did")
    expect(last(page).locator(".body")).to_have_text("A")


def test_a_server_that_is_gone_is_said_and_the_message_is_kept(page, script):
    page.route("**/chat/completions", lambda route: route.abort())
    say(page, "Hi")
    expect(last(page).locator(".failed")).to_contain_text("could not be reached")
    page.unroute("**/chat/completions")
    page.get_by_role("button", name="Retry").click()
    expect(last(page).locator(".body")).to_have_text("Hello there.")


def test_waiting_is_a_queue_and_not_a_hang(context, script):
    page = context.new_page()
    page.clock.install()
    page.goto(script.url)
    gate = threading.Event()
    script.health = {**script.health, "available_workers": 0}
    script.answer("At last.", before=gate)
    say(page, "Hi")
    expect(last(page).locator(".waiting")).to_contain_text("Waiting for a worker")
    for _ in range(3):
        page.clock.run_for(1000)
    expect(last(page).locator(".waiting")).to_contain_text("Waiting in the queue: every worker is busy")
    expect(page.locator("#spoken")).to_contain_text("Waiting in the queue")
    for _ in range(20):  # a long wait alone is no failure
        with page.expect_response("**/health"):
            page.clock.run_for(3000)
    expect(last(page).locator(".waiting")).to_contain_text("Waiting in the queue")
    gate.set()
    page.clock.resume()
    expect(last(page).locator(".body")).to_have_text("At last.")


def test_a_server_that_hangs_is_given_up_before_and_in_a_reply(context, script):
    page = context.new_page()
    page.clock.install()
    page.goto(script.url)
    gate = threading.Event()
    script.answer("never", before=gate)
    page.route("**/health", lambda route: route.abort())
    say(page, "Hi")
    expect(last(page).locator(".waiting")).to_be_visible()
    for _ in range(14):
        page.clock.run_for(1000)
        page.wait_for_timeout(20)
    expect(last(page).locator(".failed")).to_contain_text("The server does not answer any more.")
    script.answer("Half of", threading.Event())
    page.get_by_role("button", name="Retry").click()
    page.clock.run_for(100)
    expect(last(page).locator(".body")).to_have_text("Half of")
    for _ in range(10):
        page.clock.run_for(10000)
    expect(last(page).locator(".failed")).to_contain_text("The server has said nothing for 90 s.")
    expect(last(page).locator(".body")).to_have_text("Half of")
    gate.set()


# Stop -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["button", "Esc"])
def test_stop_frees_the_worker_keeps_the_text_and_goes_on_from_it(page, script, how):
    script.answer("I was say", threading.Event())
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("I was say")
    page.get_by_role("button", name="Stop").click() if how == "button" else page.keyboard.press("Escape")
    expect(last(page).locator(".stopped")).to_be_visible()
    expect(last(page).locator(".body")).to_have_text("I was say")
    expect(page.locator("#box")).to_be_focused()
    until(lambda: script.gone)
    say(page, "Go on")
    expect(last(page).locator(".body")).to_have_text("Hello there.")
    assert script.requests[-1]["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "I was say"},
        {"role": "user", "content": "Go on"},
    ]


def test_stopping_before_the_first_word_leaves_a_retry_and_no_empty_message(page, script):
    gate = threading.Event()
    script.answer("late", before=gate)
    say(page, "Hi")
    page.get_by_role("button", name="Stop").click()
    expect(last(page).locator(".failed")).to_contain_text("Stopped before the first word.")
    gate.set()
    say(page, "Well?")
    expect(last(page).locator(".body")).to_have_text("Hello there.")
    assert script.requests[-1]["messages"] == [{"role": "user", "content": "Hi\n\nWell?"}]


# Two conversations never mix --------------------------------------------------------------------------------
def test_a_reply_goes_on_in_its_own_conversation_while_another_is_open(page, script):
    more = threading.Event()
    script.answer("First ", more, "reply.")
    say(page, "One")
    expect(last(page).locator(".body")).to_have_text("First")
    page.locator("[data-do=fresh]:visible").click()
    expect(page.locator(".row")).to_have_count(0)
    script.answer("Second reply.")
    say(page, "Two")
    finished(page)
    more.set()
    expect(page.locator(".row .body")).to_have_text(["Two", "Second reply."])
    page.locator("#list").get_by_role("button", name="One").first.click()
    expect(page.locator(".row .body")).to_have_text(["One", "First reply."])
    assert [[m["content"] for m in request["messages"]] for request in script.requests] == [["One"], ["Two"]]


def test_a_message_during_a_reply_waits_in_the_box(page, script):
    more = threading.Event()
    script.answer("Part", more)
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("Part")
    say(page, "Too early")
    expect(page.locator("#notice")).to_contain_text("A reply is still being written.")
    expect(page.locator("#box")).to_have_value("Too early")
    more.set()
    finished(page)
    page.keyboard.press("Enter")
    finished(page)
    assert [len(request["messages"]) for request in script.requests] == [1, 3]


@pytest.mark.parametrize(
    "act, left",
    [
        ("edit", ["Changed", "Hello there."]),
        ("delete", []),
        ("clear", []),
        ("delete conversation", []),
        ("import", ["Hi", "Part whole"]),
    ],
)
def test_whatever_is_done_while_a_reply_streams_it_lands_nowhere_else(page, script, act, left):
    more = threading.Event()
    script.answer("Part ", more, "whole")
    say(page, "Hi")
    expect(last(page).locator(".body")).to_have_text("Part")
    first = page.locator(".row").first
    if act == "edit":
        first.get_by_role("button", name="Edit").click()
        page.locator("#editor").fill("Changed")
        page.get_by_role("button", name="Send", exact=True).first.click()
    elif act == "delete":
        first.get_by_role("button", name="Delete from here on").click()
    elif act == "clear":
        say(page, "/clear")
    elif act == "delete conversation":
        page.locator("#list").get_by_role("button", name="Delete").click()
    else:
        upload(
            page,
            {
                "conversations": [
                    {"id": "x", "title": "Other", "messages": [{"role": "user", "content": "elsewhere"}]}
                ]
            },
        )
        expect(page.locator("#list li")).to_have_count(2)
    more.set()
    finished(page)
    until_true(page, "state.replies.size === 0")
    page.wait_for_timeout(150)
    expect(page.locator(".row .body")).to_have_text(left)
    expect(page.locator("#list li")).to_have_count({"delete conversation": 0, "import": 2}.get(act, 1))


# Messages ---------------------------------------------------------------------------------------------------
def test_what_an_undo_replaces_is_not_lost_either(page, script):
    told(page, script, "First.")
    last(page).get_by_role("button", name="Delete from here on").click()
    script.answer("Second.")
    last(page).get_by_role("button", name="Answer").click()
    expect(last(page).locator(".body")).to_have_text("Second.")
    finished(page)
    page.get_by_role("button", name="Undo").click()
    expect(last(page).locator(".body")).to_have_text("First.")
    page.get_by_role("button", name="Undo").click()
    expect(last(page).locator(".body")).to_have_text("Second.")


def test_a_retry_that_takes_nothing_away_offers_no_undo(page, script):
    script.refuse(503, "Busy.")
    say(page, "Hi")
    page.get_by_role("button", name="Retry").click()
    expect(last(page).locator(".body")).to_have_text("Hello there.")
    expect(page.locator("#notice")).to_be_hidden()


def test_editing_a_user_message_goes_on_from_there(page, script):
    told(page, script, "First.")
    told(page, script, "Second.")
    page.locator(".row").nth(0).get_by_role("button", name="Edit").click()
    expect(page.locator("#editor")).to_be_focused()
    expect(page.locator("#editor")).to_have_value("Hi")
    page.locator("#editor").fill("Hello?")
    page.locator("#editor").press("Enter")
    expect(page.locator(".row .body")).to_have_text(["Hello?", "Hello there."])
    finished(page)
    assert script.requests[-1]["messages"] == [{"role": "user", "content": "Hello?"}]
    page.get_by_role("button", name="The version before").click()
    expect(page.locator(".row .body")).to_have_text(["Hi", "First.", "Hi", "Second."])


def test_editing_a_reply_happens_in_place_and_is_what_the_server_reads(page, script):
    told(page, script, "First.")
    told(page, script, "Second.")
    page.locator(".row").nth(1).get_by_role("button", name="Edit").click()
    page.locator("#editor").fill("My own\nwords.")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".row .body").nth(1)).to_have_text("My own words.")
    expect(page.locator(".row")).to_have_count(4)
    say(page, "Next")
    finished(page)
    assert [m["content"] for m in script.requests[-1]["messages"]] == [
        "Hi",
        "My own\nwords.",
        "Hi",
        "Second.",
        "Next",
    ]


def test_delete_from_here_on_comes_back_with_undo_and_so_does_each_before_it(page, script):
    told(page, script, "First.")
    told(page, script, "Second.")
    page.locator(".row").nth(3).get_by_role("button", name="Delete from here on").click()
    expect(page.locator(".row")).to_have_count(3)
    page.locator(".row").nth(1).get_by_role("button", name="Delete from here on").click()
    expect(page.locator(".row")).to_have_count(1)
    page.locator("#notice").get_by_role("button", name="Undo").click()
    expect(page.locator(".row")).to_have_count(3)
    page.locator("#notice").get_by_role("button", name="Undo").click()
    expect(page.locator(".row .body")).to_have_text(["Hi", "First.", "Hi", "Second."])
    expect(page.locator("#notice").get_by_role("button", name="Undo")).to_be_hidden()


def test_copy_takes_the_text_as_it_was_written(context, page, script):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    told(
        page,
        script,
        "**Bold** and <|python_start|>1+1<|python_end|><|output_start|>2<|output_end|>\n```py\nx = 1\n```\n",
    )
    last(page).get_by_role("button", name="Copy", exact=True).click()
    expect(last(page).locator("[data-do=copy]")).to_have_class(re.compile("copied"))
    expect(page.locator("#spoken")).to_contain_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == "**Bold** and 1+1 = 2\n```py\nx = 1\n```\n"
    last(page).get_by_role("button", name="Copy the code").click()
    until_true(page, "navigator.clipboard.readText().then(text => text === 'x = 1')")


def test_copy_works_without_the_clipboard_of_secure_pages(context, page, script):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    told(page, script, "Plain http.")
    page.evaluate("void (navigator.clipboard.writeText = () => Promise.reject(new Error('insecure')))")
    last(page).get_by_role("button", name="Copy", exact=True).click()
    until_true(page, "navigator.clipboard.readText().then(text => text === 'Plain http.')")
