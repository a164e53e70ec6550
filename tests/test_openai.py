"""OpenAI's own packages, in Python and in JavaScript, as clients of the server."""

import contextlib
import json
import subprocess

import pytest

from werkzeug.test import Client

import engine
from standins import (
    END,
    ScriptedEngine,
    TOKENIZER,
    body,
    debian,
    make_app,
    package,
    run_quietly,
    serving,
    text_of,
)
from test_chat_web import tiny_model

openai = package("openai")
HELLO = body("Hello")["messages"]


@contextlib.contextmanager
def openai_client(*say, **flags):
    """The real openai package against a real server over a scripted engine; yields both and the app."""
    scripted = ScriptedEngine(*say)
    app = make_app(scripted, **flags)
    with serving(app) as port:
        url = f"http://127.0.0.1:{port}/v1"
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
            yield client, scripted, app


def complete(client, messages=HELLO, **fields):
    return client.chat.completions.create(model="any", messages=messages, **fields)


def test_openai_whole_reply_with_usage():
    with openai_client("Hi 🙂", END) as (client, scripted, app):
        scripted.reused = 3
        reply = complete(client)
        assert (reply.object, reply.model) == ("chat.completion", "d4-sft-step-7")
        assert reply.id.startswith("chatcmpl-")
        assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("Hi 🙂", "stop")
        prompt, usage = len(TOKENIZER.render(HELLO)), reply.usage
        assert (usage.prompt_tokens, usage.completion_tokens) == (prompt, 7)
        assert usage.total_tokens == prompt + 7
        assert usage.prompt_tokens_details.cached_tokens == 3 and app.pool.available == 1


def test_openai_stream_with_and_without_usage():
    with openai_client("Hi 🙂", END) as (client, _, app):
        chunks = list(complete(client, stream=True, stream_options={"include_usage": True}))
        assert chunks[0].choices[0].delta.role == "assistant"
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "Hi 🙂"
        reasons = [chunk.choices[0].finish_reason for chunk in chunks[:-1]]
        assert reasons == [None] * (len(chunks) - 2) + ["stop"]
        assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 7
        assert len({chunk.id for chunk in chunks}) == 1
        assert all(chunk.usage is None and chunk.choices for chunk in complete(client, stream=True))
        assert app.pool.available == 1


def test_openai_finish_reason_is_length_when_a_limit_cut_the_reply():
    with openai_client("Hi") as (client, _, _):
        assert complete(client).choices[0].finish_reason == "length"
        assert list(complete(client, stream=True))[-1].choices[0].finish_reason == "length"
        assert complete(client).usage.completion_tokens == 2


@pytest.mark.parametrize("stop, want", [
    ("lo w", "Hel"), (["xyz", "world"], "Hello "), (["o", "l"], "He"), ("🙂", "Hello world "), ("Hello", ""),
    (["world!"], "Hello world 🙂 worl"), ("worl", "Hello "), (["d 🙂 worlx", "never"], "Hello world 🙂 worl"),
    ([], "Hello world 🙂 worl"),
])  # fmt: skip
def test_openai_stop_sequences_end_the_reply_before_them_also_when_split_over_tokens(stop, want):
    with openai_client("Hello world 🙂 worl") as (client, scripted, app):  # every byte is a token
        reply = complete(client, stop=stop)
        reason = "length" if want == "Hello world 🙂 worl" else "stop"
        assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == (want, reason)
        chunks = list(complete(client, stop=stop, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == want
        assert chunks[-1].choices[0].finish_reason == reason and app.pool.available == 1
        assert reason == "length" or scripted.said < 2 * len("Hello world 🙂 worl".encode())


def test_openai_settings_reach_the_engine_clamped_as_the_seed_clamps():
    with openai_client("Hi", END, temperature=0.3) as (client, scripted, _):
        complete(client, temperature=1.5, top_p=0.9, seed=7, max_tokens=9, extra_body={"top_k": 5})
        beyond = dict(top_p=5, max_completion_tokens=100_000, extra_body={"top_k": -1})
        complete(client, temperature=2.0, max_tokens=1, **beyond)
        complete(client, seed=10**30)
        keys = ("temperature", "top_p", "top_k", "max_tokens")
        asked = [tuple(asked[key] for key in keys) for asked in scripted.asked]
        assert asked == [(1.5, 0.9, 5, 9), (2.0, 1.0, 0, 4096), (0.3, 1.0, 50, 512)]
        assert scripted.asked[0]["seed"] == 7


def test_openai_content_parts_and_the_developer_role_are_plain_messages():
    with openai_client("Hi", END) as (client, scripted, _):
        parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
        told = {"role": "developer", "content": "Be kind."}
        complete(client, [told, {"role": "user", "content": parts}])
        assert scripted.asked[0]["prompt"] == TOKENIZER.render([told | {"role": "system"}, *HELLO])


def test_openai_neutral_values_are_taken():
    with openai_client("Hi", END) as (client, _, _):
        neutral = dict(n=1, presence_penalty=0, frequency_penalty=0.0, logprobs=False, tools=[], user="me")
        neutral |= dict(store=False, response_format={"type": "text"}, logit_bias={}, stop=None, seed=None)
        assert complete(client, **neutral).choices[0].message.content == "Hi"


TOOLS = [{"type": "function", "function": {"name": "f", "description": "A tool.", "parameters": {}}}]
IMAGE = {"type": "image_url", "image_url": {"url": "x"}}


@pytest.mark.parametrize("fields, word", [
    ({"n": 2}, "n "), ({"presence_penalty": 0.5}, "presence_penalty"),
    ({"frequency_penalty": 1}, "frequency_penalty"),
    ({"tools": TOOLS, "tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
    ({"top_logprobs": 2}, "logprobs"), ({"logprobs": True, "top_logprobs": True}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": -1}, "20"),
    ({"logprobs": True, "top_logprobs": 21}, "20"), ({"extra_body": {"logprobs": 1}}, "logprobs"),
    ({"response_format": {"type": "json_object"}}, "response_format"), ({"seed": 1.5}, "seed"),
    ({"extra_body": {"min_p": 0.1}}, "min_p"), ({"stop": ["a"] * 17}, "stop"), ({"stop": ""}, "stop"),
    ({"top_p": "x"}, "top_p"),
    ({"temperature": "x"}, "temperature"), ({"stream_options": 1}, "stream_options"),
    ({"messages": [{"role": "user", "content": [IMAGE]}]}, "text parts"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}, *HELLO]}, "tool_calls"),
    ({"messages": []}, "messages"), ({"extra_body": {"repetition_penalty": "x"}}, "repetition_penalty"),
    ({"messages": [{"role": "user", "content": "x" * 8001}]}, "8000"), ({"messages": ["x"]}, "role"),
])  # fmt: skip
def test_openai_what_is_not_supported_is_refused_by_name_with_the_right_exception(fields, word):
    with openai_client("Hi", END) as (client, scripted, app):
        with pytest.raises(openai.BadRequestError) as caught:
            complete(client, **fields)
        assert word in caught.value.body["message"] and caught.value.body["type"] == "invalid_request_error"
        assert not scripted.asked and app.pool.available == 1


IGNORED = dict(user="me", metadata={"a": "b"}, store=True, reasoning_effort="low", parallel_tool_calls=True)
IGNORED |= dict(tools=TOOLS, tool_choice="auto", functions=TOOLS)
IGNORED |= dict(verbosity="low", service_tier="auto", prompt_cache_key="x", safety_identifier="x")


def test_openai_what_is_harmless_or_unknown_is_ignored():
    with openai_client("Hi", END) as (client, scripted, _):
        unknown = {"chat_id": "1", "session_id": "2", "background_tasks": {"title": True}, "\u2028": 1}
        unknown |= {"repetition_penalty": 1.0, "min_p": 0, "stream_options": {"x": 1}}
        complete(client, **IGNORED, extra_body=unknown)
        complete(client)
        assert scripted.asked[0] == scripted.asked[1]


SYSTEM = {"role": "system", "content": "Be kind."}
HI = {"role": "assistant", "content": "Hi"}


@pytest.mark.parametrize("sent, same_as", [
    ([{"role": "user", "content": "Hello", "name": "me"}], HELLO),
    ([*HELLO, HI | {"name": "bot", "refusal": None, "annotations": [], "reasoning_content": "?"}, *HELLO],
     [*HELLO, HI, *HELLO]),
    ([SYSTEM, {"role": "system", "content": ""}, SYSTEM, *HELLO],
     [{"role": "system", "content": "Be kind.\n\nBe kind."}, *HELLO]),
    ([*HELLO, HI, {"role": "developer", "content": "Be brief."}, *HELLO, SYSTEM],
     [{"role": "system", "content": "Be brief.\n\nBe kind."}, *HELLO, HI, *HELLO]),
    ([{"role": "system", "content": ""}, *HELLO], HELLO),
])  # fmt: skip
def test_openai_messages_come_as_real_clients_have_them(sent, same_as):
    with openai_client("Hi", END) as (client, scripted, _):
        complete(client, sent)
        assert scripted.asked[0]["prompt"] == TOKENIZER.render(same_as)


@pytest.mark.parametrize("empty", ["", None, []])
def test_openai_a_reply_that_was_empty_may_come_back(empty):
    with openai_client("Hi", END) as (client, scripted, _):
        complete(client, [*HELLO, {"role": "assistant", "content": empty}, *HELLO])
        start, end = (TOKENIZER.special[f"<|assistant_{word}|>"] for word in ("start", "end"))
        prompt = scripted.asked[0]["prompt"]
        place = prompt.index(start)
        assert prompt[place + 1] == end
        complete(client, [*HELLO, {"role": "assistant", "content": empty}])
        assert scripted.asked[1]["prompt"] == TOKENIZER.render(HELLO)


def test_openai_system_messages_alone_are_refused():
    with openai_client("Hi", END) as (client, scripted, _):
        for sent in ([SYSTEM], [SYSTEM, HI]):
            with pytest.raises(openai.BadRequestError):
                complete(client, sent)
        assert not scripted.asked


def test_openai_max_tokens_of_minus_one_is_no_limit():
    with openai_client("Hi", END) as (client, scripted, _):
        complete(client, max_tokens=-1)
        complete(client, max_completion_tokens=-1)
        assert [asked["max_tokens"] for asked in scripted.asked] == [4096, 4096]


# ---- A reply that has begun --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/chat/completions"])
def test_a_conversation_that_ends_with_the_assistants_words_is_continued(path):
    scripted = ScriptedEngine("lo!", END)
    asked = {"messages": [SYSTEM, *HELLO, {"role": "assistant", "content": "Hel"}], "max_tokens": 7}
    with Client(make_app(scripted)).post(path, json=asked) as response:
        raw = response.get_data()
    whole = path.startswith("/v1") and json.loads(raw)["choices"][0]["message"]["content"]
    assert (whole or text_of(raw)) == "lo!" and scripted.asked[0]["max_tokens"] == 7
    prompt = TOKENIZER.render([SYSTEM, *HELLO])
    assert scripted.asked[0]["prompt"] == [*prompt, *TOKENIZER.encode("Hel")]


def test_500_messages_of_alternating_roles_are_continued():
    scripted = ScriptedEngine("ok", END, context=100_000)
    asked = {"messages": [HELLO[0], HI] * 250}
    with Client(make_app(scripted)).post("/chat/completions", json=asked) as response:
        assert text_of(response.get_data()) == "ok"


def test_a_long_conversation_that_is_continued_keeps_what_the_reply_began_with():
    asked = [HELLO[0], HI] * 40
    prompt, dropped = TOKENIZER.fit_prompt(asked, 200, 20)
    assert 0 < dropped < 78 and dropped % 2 == 0 and prompt == TOKENIZER.render(asked[dropped:])
    assert prompt[-2:] == TOKENIZER.encode("Hi")


SUM = "<|python_start|>12*34<|python_end|>"
OUTPUT = "<|output_start|>408<|output_end|>"


@pytest.mark.parametrize("begun, forced", [
    (SUM, OUTPUT), ("So " + SUM, OUTPUT), (SUM + "<|output_start|>", "408<|output_end|>"),
    (SUM + "<|output_start|>4", "08<|output_end|>"), (SUM + OUTPUT, ""), (SUM + OUTPUT + "12", ""),
    (SUM + OUTPUT + SUM, OUTPUT), (SUM + "<|output_start|>5", ""), ("<|python_start|>12*", ""),
    (SUM + "x", ""), ("", ""),
])  # fmt: skip
def test_a_sum_in_the_beginning_of_a_reply_is_answered_as_if_the_reply_had_come_in_one(begun, forced):
    calculator = engine.Calculator(TOKENIZER)
    beginning = [{"role": "assistant", "content": begun}] if begun else []
    calculator.resume(TOKENIZER.render([*HELLO, {"role": "assistant", "content": SUM}, *HELLO, *beginning]))
    assert list(calculator.forced) == TOKENIZER.encode_reply(forced)
    if begun == "<|python_start|>12*":
        for token in TOKENIZER.encode_reply("34<|python_end|>"):
            calculator.see(token)
        assert list(calculator.forced) == TOKENIZER.encode_reply(OUTPUT)


def test_a_sum_that_a_reply_began_is_answered_by_the_engine_itself():
    writer = engine.Engine(tiny_model(context=256), TOKENIZER)
    prompt = TOKENIZER.render([*HELLO, {"role": "assistant", "content": SUM}])
    said = list(writer.generate(prompt, 5))
    assert said == TOKENIZER.encode_reply(OUTPUT)


# ---- Text that people read ---------------------------------------------------------------------------------

TOLD = TOKENIZER.encode_reply(f"{SUM}{OUTPUT}12 × 34 = 408.")


def test_openai_the_calculators_blocks_are_left_out_unless_they_are_asked_for():
    with openai_client(*TOLD, END) as (client, _, _):
        for asked, want in (({}, "12 × 34 = 408."), ({"skip_special_tokens": True}, "12 × 34 = 408."),
                            ({"skip_special_tokens": False}, f"{SUM}{OUTPUT}12 × 34 = 408.")):  # fmt: skip
            reply = complete(client, extra_body=asked)
            assert reply.choices[0].message.content == want
            assert reply.usage.completion_tokens == len(TOLD)
            chunks = complete(client, extra_body=asked, stream=True)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == want


def test_openai_a_block_that_the_beginning_of_the_reply_opened_is_left_out_too():
    with openai_client(*TOKENIZER.encode_reply(f"34<|python_end|>{OUTPUT}408."), END) as (client, _, _):
        begun = {"role": "assistant", "content": "<|python_start|>12*"}
        assert complete(client, [*HELLO, begun]).choices[0].message.content == "408."
    with openai_client("408.", END) as (client, _, _):
        begun = {"role": "assistant", "content": SUM + OUTPUT}
        assert complete(client, [*HELLO, begun]).choices[0].message.content == "408."


def test_openai_the_end_of_a_block_that_nothing_began_is_left_out():
    """As the demo says it where Open WebUI has it continue a reply that was shown without its sum."""
    with openai_client(*TOKENIZER.encode_reply("34<|python_end|><|output_end|> ok"), END) as (client, _, _):
        assert complete(client).choices[0].message.content == "34 ok"
        shown = complete(client, extra_body={"skip_special_tokens": False}).choices[0].message.content
        assert shown == "34<|python_end|><|output_end|> ok"


def test_openai_stop_sequences_are_looked_for_in_what_is_shown():
    with openai_client(*TOLD, END) as (client, _, _):
        assert complete(client, stop="34").choices[0].message.content == "12 × "


def test_the_pages_stream_still_has_the_calculators_blocks():
    with Client(make_app(ScriptedEngine(*TOLD, END))).post("/chat/completions", json=body()) as response:
        assert text_of(response.get_data()) == f"{SUM}{OUTPUT}12 × 34 = 408."

# ---- Completions -------------------------------------------------------------------------------------------


def test_openai_completions_go_on_with_a_text_or_with_tokens():
    with openai_client("lo", END) as (client, scripted, app):
        go_on = client.completions.create
        reply = go_on(model="any", prompt="Hel", max_tokens=9, temperature=0.5, stop=["x"], seed=3)
        said = reply.choices[0]
        assert (reply.object, said.text, said.finish_reason) == ("text_completion", "lo", "stop")
        assert reply.id.startswith("cmpl-")
        assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (4, 2)
        ids = [TOKENIZER.special["<|bos|>"], *TOKENIZER.encode("Hel")]
        for prompt in (ids, [ids], ["Hel"]):
            go_on(model="any", prompt=prompt)
        assert [asked["prompt"] for asked in scripted.asked] == [ids] * 4 and scripted.asked[0]["seed"] == 3
        usage = {"include_usage": True}
        chunks = list(go_on(model="any", prompt="Hel", stream=True, echo=True, stream_options=usage))
        assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == "Hello"
        assert chunks[-2].choices[0].finish_reason == "stop" and chunks[-1].usage.total_tokens == 6
        assert app.pool.available == 1


def test_openai_a_completion_may_be_nothing_but_the_echo():
    writer = engine.Engine(tiny_model(), TOKENIZER)
    for prompt in ("Hello", TOKENIZER.encode("Hello")):
        asked = {"prompt": prompt, "max_tokens": 0, "echo": True}
        reply = Client(make_app(writer)).post("/v1/completions", json=asked).json
        assert reply["choices"][0]["text"] == "Hello" and reply["usage"]["completion_tokens"] == 0
        assert reply["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("fields, word", [
    ({}, "prompt"), ({"prompt": ""}, "prompt"), ({"prompt": ["a", "b"]}, "prompt"), ({"prompt": 5}, "prompt"),
    ({"prompt": [[1], [2]]}, "prompt"), ({"prompt": [1, True]}, "prompt"), ({"prompt": [-1]}, "token"),
    ({"prompt": [10**9]}, "token"), ({"prompt": "a" * 5000}, "4096"),
    ({"prompt": "a", "logprobs": 6}, "logprobs"), ({"prompt": "a", "logprobs": True}, "logprobs"),
    ({"prompt": "a", "logprobs": "1"}, "logprobs"), ({"prompt": "a", "logprobs": -1}, "logprobs"),
    ({"prompt": "a", "n": 2}, "n "),
    ({"prompt": "a", "suffix": "b"}, "suffix"), ({"prompt": "a\ud800"}, "surrogate"),
    ({"prompt": "a" * 32001}, "32000"), ({"prompt": "a", "echo": 1}, "echo"),
])  # fmt: skip
def test_openai_completions_refuse_what_makes_no_sense(fields, word):
    scripted = ScriptedEngine("Hi", END)
    answer = Client(make_app(scripted)).post("/v1/completions", data=json.dumps(fields))
    assert answer.status_code == 400 and word in answer.json["error"]["message"] and not scripted.asked


def test_openai_models_are_listed_and_found_by_id():
    with openai_client() as (client, _, _):
        (model,) = client.models.list()
        assert (model.id, model.object) == ("d4-sft-step-7", "model")
        assert client.models.retrieve(model.id).id == model.id
        with pytest.raises(openai.NotFoundError, match="d4-sft-step-7"):
            client.models.retrieve("gpt-4")


def test_openai_failures_are_the_right_exceptions_before_and_in_mid_stream():
    with openai_client("half", RuntimeError("boom")) as (client, _, app):
        with pytest.raises(openai.InternalServerError):
            complete(client)
        with pytest.raises(openai.APIError, match="the model failed"):
            list(complete(client, stream=True))
        app.draining.set()
        with pytest.raises(openai.InternalServerError) as caught:
            complete(client)
        assert caught.value.status_code == 503 and "Retry-After" in caught.value.response.headers


def test_openais_javascript_package_reads_both_kinds(tmp_path):
    npm, node = debian("npm"), debian("node")
    run_quietly(npm, "install", "--silent", "--prefix", tmp_path, "openai")
    (tmp_path / "ask.mjs").write_text("""
        import OpenAI from "openai"
        const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 })
        const asked = { model: "any", messages: [{ role: "user", content: "Hello" }] }
        const whole = await client.chat.completions.create(asked)
        let text = ""
        for await (const chunk of await client.chat.completions.create({ ...asked, stream: true }))
            text += chunk.choices[0]?.delta?.content ?? ""
        const refused = await client.chat.completions.create({ ...asked, n: 2 })
            .catch(error => error.constructor.name)
        console.log(JSON.stringify([whole.choices[0].message.content, text, refused]))
    """)
    with serving(make_app(ScriptedEngine("Hi 🙂", END))) as port:
        said = subprocess.check_output(
            [node, tmp_path / "ask.mjs", f"http://127.0.0.1:{port}/v1"], text=True, timeout=60
        )
    assert json.loads(said) == ["Hi 🙂", "Hi 🙂", "BadRequestError"]
