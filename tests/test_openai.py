"""OpenAI's own packages, in Python and in JavaScript, as clients of the server."""

import contextlib
import json
import subprocess

import pytest

from standins import END, ScriptedEngine, TOKENIZER, body, debian, make_app, package, run_quietly, serving

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


IMAGE = {"type": "image_url", "image_url": {"url": "x"}}


@pytest.mark.parametrize("fields, word", [
    ({"n": 2}, "n "), ({"presence_penalty": 0.5}, "presence_penalty"),
    ({"frequency_penalty": 1}, "frequency_penalty"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"), ({"logprobs": True}, "logprobs"),
    ({"response_format": {"type": "json_object"}}, "response_format"), ({"seed": 1.5}, "seed"),
    ({"extra_body": {"min_p": 0.1}}, "min_p"), ({"stop": ["a"] * 5}, "stop"), ({"stop": ""}, "stop"),
    ({"top_p": "x"}, "top_p"),
    ({"stream_options": {"x": 1}}, "stream_options.x"), ({"temperature": "x"}, "temperature"),
    ({"messages": [{"role": "user", "content": [IMAGE]}]}, "text parts"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}, *HELLO]}, "tool_calls"),
    ({"messages": []}, "messages"), ({"extra_body": {"repetition_penalty": 1.1}}, "repetition_penalty"),
    ({"messages": [{"role": "user", "content": "x" * 8001}]}, "8000"), ({"messages": ["x"]}, "role"),
])  # fmt: skip
def test_openai_what_is_not_supported_is_refused_by_name_with_the_right_exception(fields, word):
    with openai_client("Hi", END) as (client, scripted, app):
        with pytest.raises(openai.BadRequestError) as caught:
            complete(client, **fields)
        assert word in caught.value.body["message"] and caught.value.body["type"] == "invalid_request_error"
        assert not scripted.asked and app.pool.available == 1


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
