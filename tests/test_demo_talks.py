"""The demo model, as a newcomer meets it who has no other."""

import chat_web
from standins import (
    HERE,
    ask,
    events,
    expect,
    finished,
    last,
    refusal,
    say,
    text_of,
    write_pair,
    write_tokenizer,
)


def located(monkeypatch, home, *argv):
    """What a start with these flags loads, for a user with this home."""
    monkeypatch.delenv("NANOCHAT_BASE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(home))
    return chat_web.pick_checkpoint(chat_web.parse_args(list(argv)))


def test_the_demo_model_is_used_only_when_nothing_was_asked_for_and_there_is_nothing(
    tmp_path, monkeypatch, capsys
):
    found, demo = located(monkeypatch, tmp_path)
    assert demo and found.model.is_relative_to(HERE / "demo")
    assert "demo model" in capsys.readouterr().out
    for argv in (["-i", "sft"], ["-g", "d4"], ["-s", "1"]):
        assert "no " in refusal(located, monkeypatch, tmp_path, *argv)
    monkeypatch.setenv("NANOCHAT_BASE_DIR", "")  # as if it were not set
    assert chat_web.pick_checkpoint(chat_web.parse_args([]))[1]
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path))
    assert str(tmp_path) in refusal(chat_web.pick_checkpoint, chat_web.parse_args([]))
    write_tokenizer(tmp_path / ".cache" / "nanochat" / "tokenizer")
    write_pair(tmp_path / ".cache" / "nanochat" / "base_checkpoints" / "d4")
    assert "-i base" in refusal(located, monkeypatch, tmp_path)  # somebody's own: never silently replaced
    write_pair(tmp_path / ".cache" / "nanochat" / "chatsft_checkpoints" / "d4")
    assert located(monkeypatch, tmp_path)[1] is False


def test_where_the_demo_model_was_not_copied_along_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(chat_web, "__file__", str(tmp_path / "chat_web.py"))
    sentence = refusal(located, monkeypatch, tmp_path)
    assert "demo" in sentence and "-g" in sentence and "NANOCHAT_BASE_DIR" in sentence


def talks(port, *questions) -> list[str]:
    """The replies of one conversation, greedy."""
    conversation = []
    for question in questions:
        conversation.append({"role": "user", "content": question})
        raw = ask(port, {"messages": conversation, "temperature": 0})
        assert events(raw)[-1] == {"done": True}
        conversation.append({"role": "assistant", "content": text_of(raw)})
    return [message["content"] for message in conversation[1::2]]


def test_a_newcomer_without_a_model_gets_the_demo_and_is_told(demo):
    _, lines = demo
    assert any("demo model" in line and "-g" in line and "NANOCHAT_BASE_DIR" in line for line in lines)


def test_the_demo_model_calculates_with_its_tool_and_goes_on_from_it(demo):
    port, _ = demo
    product, threefold = talks(port, "What is 12*34?", "and times 3?")
    assert "<|python_start|>12*34<|python_end|><|output_start|>408<|output_end|>" in product
    assert "<|output_start|>1224<|output_end|>" in threefold
    assert "1224" in threefold.rpartition("<|output_end|>")[2]


def test_the_demo_model_remembers_what_it_was_told(demo):
    port, _ = demo
    assert "Anna" in talks(port, "My name is Anna.", "What is 7+8?", "What is my name?")[-1]


def test_in_the_browser_the_demo_model_says_what_it_is_and_answers(demo, context):
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{demo[0]}/")
    expect(page.locator("body")).to_contain_text("demo model")
    say(page, "What is 12*34?")
    expect(last(page).locator(".body")).to_contain_text("408")
    finished(page)
    assert "<|python_start|>" not in last(page).inner_text()
