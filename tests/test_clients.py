"""What clients sent, field by field, when they ran against the demo: Open WebUI 0.12.4."""

import json

import pytest
from werkzeug.test import Client

from standins import END, TOKENIZER, ScriptedEngine, make_app

MODEL = "d4-sft-step-7"  # as GET /v1/models calls it
HEADERS = {"Authorization": "Bearer none", "Content-Type": "application/json", "Accept": "*/*"}


def send(app, path, asked):
    return Client(app).post(path, data=json.dumps(asked), headers=HEADERS)


# ---- Open WebUI --------------------------------------------------------------------------------------------

USER = {"role": "user", "content": "Which is 12 times 34?"}
SAID = {"role": "assistant", "content": "12 × 34 = 408."}
NEXT = {"role": "user", "content": "And what is the capital of France?"}


def asked_for(*messages) -> dict:
    return {"stream": True, "model": MODEL, "messages": [*messages]}


def task(name: str, **more) -> dict:
    """How it has a title, tags or likely questions made: it is one user's message, about as long."""
    form = f'### Task:\nWrite {name}.\n### Output:\nJSON format: {{ "{name}": "..." }}\n' + "- Rule.\n" * 90
    told = "".join(f"{message['role'].upper()}: {message['content']}\n" for message in (USER, SAID))
    content = f"{form}### Chat History:\n<chat_history>\n{told}</chat_history>"
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], "stream": False, **more}


def streamed(answer) -> tuple[str, str]:
    """The text as Open WebUI puts it together, and why it ended."""
    assert answer.status_code == 200 and answer.content_type.startswith("text/event-stream")
    lines = [line for line in answer.text.split("\n") if line]
    assert lines.pop() == "data: [DONE]" and all(line.startswith("data: ") for line in lines)
    choices = [json.loads(line[6:])["choices"][0] for line in lines]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    return "".join(choice["delta"].get("content", "") for choice in choices), choices[-1]["finish_reason"]


def test_open_webui_finds_the_model():
    listed = Client(make_app(ScriptedEngine())).get("/v1/models", headers=HEADERS).json
    assert [model["id"] for model in listed["data"]] == [MODEL] and listed["object"] == "list"


@pytest.mark.parametrize("messages", [[USER], [USER, SAID, NEXT]])
def test_open_webui_sends_and_regenerates(messages):
    scripted = ScriptedEngine("12 × 34", END)
    app = make_app(scripted)
    for _ in range(2):  # to regenerate is to send the same once more
        assert streamed(send(app, "/v1/chat/completions", asked_for(*messages))) == ("12 × 34", "stop")
    assert [asked["prompt"] for asked in scripted.asked] == [TOKENIZER.render(messages)] * 2
    assert app.pool.available == 1


def test_open_webui_continues_a_reply():
    scripted = ScriptedEngine(" It is even.", END)
    answer = send(make_app(scripted), "/v1/chat/completions", asked_for(USER, SAID))
    assert streamed(answer) == (" It is even.", "stop")
    assert scripted.asked[0]["prompt"] == [*TOKENIZER.render([USER]), *TOKENIZER.encode(SAID["content"])]


@pytest.mark.parametrize("asked", [task("title", max_tokens=1000), task("tags"), task("follow_ups")])
def test_open_webui_has_titles_tags_and_questions_made(asked):
    scripted = ScriptedEngine('{ "title": "Sums" }', END)
    reply = send(make_app(scripted), "/v1/chat/completions", asked).json
    assert reply["object"] == "chat.completion" and reply["choices"][0]["finish_reason"] == "stop"
    assert reply["choices"][0]["message"]["content"] == '{ "title": "Sums" }'
    assert scripted.asked[0]["prompt"] == TOKENIZER.render(asked["messages"])
    assert scripted.asked[0]["max_tokens"] == asked.get("max_tokens", 512)


def test_open_webui_shows_what_a_refusal_says():
    answer = send(make_app(ScriptedEngine()), "/v1/chat/completions", asked_for(USER) | {"n": 2})
    assert answer.status_code == 400 and "n is not supported" in answer.json["error"]["message"]
