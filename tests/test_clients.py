"""What clients sent, field by field, when they ran against the demo: Open WebUI 0.12.4 and lm-eval 0.4.13."""

import json
from pathlib import Path

import pytest
import torch
from werkzeug.test import Client

import checkpoint
from standins import END, FLOAT32, HERE, TOKENIZER, ScriptedEngine, make_app

MODEL = "d4-sft-step-7"  # as GET /v1/models calls it
HEADERS = {"Authorization": "Bearer none", "Content-Type": "application/json", "Accept": "*/*"}


def send(app, path, asked):
    return Client(app).post(path, data=json.dumps(asked), headers=HEADERS)


# ---- Open WebUI --------------------------------------------------------------------------------------------

USER = {"role": "user", "content": "Which is 12 times 34?"}
SAID = {"role": "assistant", "content": "12 × 34 = 408."}
NEXT = {"role": "user", "content": "And what is the capital of France?"}


TIMES = {"type": "object", "properties": {"days_ago": {"type": "integer", "default": 0}}}
TOOLS = [  # 36 of its own come with every message, unless its function calling is set to "legacy"
    {"type": "function", "function": {"name": f"tool_{i}", "description": "A tool.", "parameters": TIMES}}
    for i in range(36)
]


def asked_for(*messages) -> dict:
    return {"stream": True, "model": MODEL, "messages": [*messages], "tools": TOOLS}


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


# ---- lm-eval's local-completions ---------------------------------------------------------------------------

LETTERS = 'How many letters has the word "naïve"?'  # to which the demo says, after " no": <|python_start|>
CONTEXTS = ["What is the capital of France?", LETTERS, "Is a cherry a fruit?"]
CHOICES = [" Paris", " 🙂", " 4 and a half", " no"]
TEXTS = ["The capital of France is Paris.", "A cherry is a fruit, and it is red. 🍒 Très bon.", "x"]


@pytest.fixture(scope="module")
def demo_engine():
    """The demo in float32, in which it says what nanochat's own code says."""
    found = checkpoint.find(Path(HERE) / "demo")
    return checkpoint.read(found, FLOAT32).engine(torch.device("cpu"))


@pytest.fixture
def demo_app(demo_engine):
    app = make_app(demo_engine)
    app.open("demo", demo_engine.tokenizer)
    return app


def likelihood(app, prompt, start: int) -> tuple[float, bool]:
    """The log-likelihood of what follows the first `start` tokens, and whether each of it is the likeliest.

    It asks for one token more than it reads, and takes off the last: there must be exactly one.
    """
    asked = {"model": "d5", "prompt": prompt, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234}
    answer = send(app, "/v1/completions", asked | {"echo": True})
    assert answer.status_code == 200, answer.text
    told = answer.json["choices"][0]["logprobs"]
    values, tops = (told[name][start:-1] for name in ("token_logprobs", "top_logprobs"))
    return sum(values), all(value == max(top.values()) for value, top in zip(values, tops, strict=True))


def own_likelihood(model, ids: list[int], start: int) -> tuple[float, bool]:
    """The same by one pass of the model itself."""
    with torch.inference_mode():
        logprobs = model(torch.tensor([ids]))[0, start - 1 : -1].log_softmax(-1)
    rest = torch.tensor(ids[start:])
    return float(logprobs.gather(1, rest[:, None]).sum()), bool((logprobs.argmax(-1) == rest).all())


def check_likelihood(app, prompt, start: int, ids: list[int], own_start: int) -> None:
    value, greedy = likelihood(app, prompt, start)
    own, own_greedy = own_likelihood(app.pool.workers[0].engine.model, ids, own_start)
    assert abs(value - own) < 1e-3 and greedy == own_greedy


@pytest.mark.parametrize("context", CONTEXTS)
def test_lm_evals_likelihoods_of_choices_are_the_models_own(demo_app, context):
    tokenizer = demo_app.tokenizer
    bos, start = tokenizer.special["<|bos|>"], len(tokenizer.encode(context))
    for choice in CHOICES:
        ids = tokenizer.encode(context + choice)
        check_likelihood(demo_app, [ids], start, ids, start)
        check_likelihood(demo_app, context + choice, start, [bos, *ids], start + 1)  # as a text


@pytest.mark.parametrize("text", TEXTS)
def test_lm_evals_likelihoods_of_whole_texts_are_the_models_own(demo_app, text):
    ids = [demo_app.tokenizer.special["<|bos|>"], *demo_app.tokenizer.encode(text)]
    check_likelihood(demo_app, [ids], 1, ids, 1)


def test_lm_eval_takes_a_reply_of_the_demos_own_as_greedy(demo_app):
    engine = demo_app.pool.workers[0].engine
    prompt = demo_app.tokenizer.render([{"role": "user", "content": "Hello"}])
    said = list(engine.generate(prompt, 60))
    assert said[-1] in demo_app.tokenizer.stops
    value, greedy = likelihood(demo_app, [[*prompt, *said]], len(prompt))
    own, own_greedy = own_likelihood(engine.model, [*prompt, *said], len(prompt))
    assert greedy and own_greedy and abs(value - own) < 1e-3


@pytest.mark.parametrize("context, last", [
    (f"{LETTERS} no", "<|python_start|>"), ("What is the capital of France? 🙂", "<|assistant_end|>"),
])  # fmt: skip
def test_the_token_that_lm_eval_takes_off_is_told_whatever_it_is(demo_app, context, last):
    ids = demo_app.tokenizer.encode(context)
    asked = {"prompt": [ids], "max_tokens": 1, "temperature": 0, "echo": True}
    choice = send(demo_app, "/v1/completions", asked | {"logprobs": 1}).json["choices"][0]
    assert [*map(len, choice["logprobs"].values())] == [len(ids) + 1] * 4
    assert choice["logprobs"]["tokens"][-1] == last and choice["text"] == context


@pytest.mark.parametrize("question", CONTEXTS)
def test_lm_evals_generations_are_the_models_own_up_to_a_stop(demo_app, question):
    tokenizer, engine = demo_app.tokenizer, demo_app.pool.workers[0].engine
    ids = tokenizer.encode(f"Question: {question}\nAnswer:")
    stops = ["\n\n", "Question:", "<|assistant_end|>"]
    asked = {"prompt": [ids], "model": "d5", "max_tokens": 24, "temperature": 0.0, "stop": stops}
    choice = send(demo_app, "/v1/completions", asked | {"seed": 1234}).json["choices"][0]
    said = "".join(tokenizer.stream_text(engine.generate(ids, 24)))
    assert choice["text"] == said.split("\n\n")[0].split("Question:")[0]
