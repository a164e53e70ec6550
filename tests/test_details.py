"""What is told of a reply's tokens when it is asked: probabilities, alternatives, the prompt and the seed."""

import itertools
import json
import math
import random

import pytest
import torch
from werkzeug.test import Client

import engine
import test_chat_web as ours
from test_chat_web import SPECIAL, TOKENIZER, V, NoTools, body, events, make_app, post, tiny_model

golden = ours.golden  # the fixture


def own_logprobs(model, ids) -> torch.Tensor:
    """What the model itself says of each of these tokens but the first, in one pass: (T - 1, V)."""
    with torch.inference_mode():
        return model(torch.tensor([ids]))[0, :-1].log_softmax(-1)


def check_facts(tokens, expected, count) -> None:
    """Tokens, all looked at, against the model's own logprobs (T, V) at their places."""
    assert len(tokens) == len(expected)
    for token, own in zip(tokens, expected):
        assert abs(token.logprob - float(own[token])) < 1e-4
        ids, values = zip(*token.likeliest)
        assert len(set(ids)) == min(count, len(own)) and list(values) == sorted(values, reverse=True)
        assert torch.allclose(own[list(ids)], torch.tensor(values), atol=1e-4)
        assert abs(values[0] - float(own.max())) < 1e-4 and sum(map(math.exp, values)) <= 1 + 1e-5


def test_logprobs_of_every_goldens_reply_are_the_models_own(golden):
    """Of drawn and forced tokens, with an empty cache and behind a prefix, and as parts of a prompt."""
    expected, _, model = golden
    gpt = ours.roomy(model)
    for prompt in expected["prompts"]:
        writer = engine.Engine(gpt, model.tokenizer if prompt["greedy_source"] == "engine" else NoTools)
        ids, count = prompt["ids"], expected["n_new"]
        plain = list(writer.generate(ids, count))
        own = own_logprobs(gpt, [*ids, *plain])
        writer.restart()
        for _ in range(2):
            said = list(writer.generate(ids, count, details=5))
            assert said == plain
            check_facts(said, own[len(ids) - 1 :], 5)
        assert writer.reused == len(ids) - 1
        for start in (1, len(ids), len(ids) + len(plain) - 1):
            read = list(writer.generate([*ids, *plain], 0, details=3, echo=start))
            assert read == [*ids, *plain][start:]
            check_facts(read, own[start - 1 :], 3)


def test_logprobs_of_a_long_prompt_are_the_models_own_however_it_is_cut(monkeypatch):
    monkeypatch.setattr(engine, "CHUNK", 70)
    model, ids = tiny_model(context=300), [number * 7 % V for number in range(200)]
    for echo in (1, 60, 71, 150, 199):
        read = list(engine.Engine(model, NoTools).generate(ids, 0, details=2, echo=echo))
        check_facts(read, own_logprobs(model, ids)[echo - 1 :], 2)


def test_forced_tokens_are_told_apart_wherever_they_stand():
    model = ours.checkpoint.read(ours.checkpoint.find(ours.GOLDENS / "tooluse", "sft"), ours.FLOAT32)
    writer = engine.Engine(engine.FastGPT(model.config, model.weights), model.tokenizer)
    prompt, special = model.tokenizer.render(body("What is 12 * 34?")["messages"]), model.tokenizer.special
    replies = (list(writer.generate(prompt, 60, 1.0, 0, seed, details=1)) for seed in range(12))
    said = next(reply for reply in replies if special["<|output_start|>"] in reply)
    forced = [token for token in said if token.forced]
    assert forced[0] == special["<|output_start|>"] and forced[-1] == special["<|output_end|>"]
    inside = said[said.index(forced[0]) : said.index(forced[-1]) + 1]
    assert forced == inside and 2 < len(forced) < len(said)
    read = list(writer.generate([*prompt, *said], 0, details=1, echo=len(prompt)))
    assert [token.forced for token in read] == [token.forced for token in said]


@pytest.mark.parametrize("penalty, details", [(1.0, 5), (1.3, None), (1.3, 2)])
def test_recorded_steps_say_the_same_with_details_and_penalty(penalty, details, monkeypatch):
    monkeypatch.setattr(engine, "STRIDE", 16)
    monkeypatch.setattr(engine, "SORTED_LOGITS", 5)
    model, rng = tiny_model(context=300), random.Random(1)
    more = {"repetition_penalty": penalty, "details": details}
    one, two = engine.Engine(model, NoTools, graphs=True), engine.Engine(model, NoTools, graphs=False)
    steps, read = [], one.graphs.read
    monkeypatch.setattr(one.graphs, "read", lambda token: steps.append(token) or read(token))
    for seed in range(12):
        prompt = [rng.randrange(V) for _ in range(rng.randrange(1, 90))]
        settings = (40, *rng.choice([(0.0, 0), (1.0, 0), (1.0, 5)]), seed)
        first, second = (list(writer.generate(prompt, *settings, **more)) for writer in (one, two))
        assert first == second and one.cached == two.cached and len(steps) == 39 * (seed + 1)
        if details:
            check_facts(first, own_logprobs(model, [*prompt, *first])[len(prompt) - 1 :], details)
        plain = list(one.generate(prompt, *settings))
        assert plain == list(two.generate(prompt, *settings)) and (penalty != 1 or plain == first)


@pytest.mark.parametrize("graphs", [False, True])
def test_details_change_no_token(graphs):
    writer = engine.Engine(tiny_model(context=300), NoTools, graphs)
    for seed, temperature in itertools.product(range(5), (0.0, 1.0)):
        plain = list(writer.generate([1] * 20, 60, temperature, 9, seed))
        assert list(writer.generate([1] * 20, 60, temperature, 9, seed, details=3)) == plain


def test_a_reply_in_parts_goes_on_where_it_would_have():
    """Its beginning is looked at while an older reply is still held by someone, who then gets an error."""
    writer = engine.Engine(tiny_model(context=300), NoTools)
    older = writer.generate([*range(200)], 5, details=2, echo=1)
    next(older)
    newer = writer.generate([1, 2, 3], 5)
    first = next(newer)
    with pytest.raises(RuntimeError, match="overtaken"):
        list(older)
    assert [first, *newer] == ours.replied(writer.model, [1, 2, 3], 5)


def test_a_prompt_that_is_looked_at_can_be_given_up_between_its_parts():
    looks = []

    def give_up():
        looks.append(len(writer.cached))
        if len(looks) == 3:
            raise InterruptedError

    writer = engine.Engine(tiny_model(context=300), NoTools)
    with pytest.raises(InterruptedError):
        list(writer.generate([1] * 290, 5, details=1, echo=1, check=give_up))
    assert looks == [0, 64, 128]


def test_a_penalty_is_that_of_the_formula_and_of_the_replys_own_tokens_alone():
    logits = torch.tensor([3.0, -2.0, 1.0, 0.5])
    assert engine.penalize(logits, {0, 1}, 2.0).tolist() == [1.5, -4.0, 1.0, 0.5]
    assert engine.penalize(logits, set(), 2.0).tolist() == logits.tolist()
    model, prompt = tiny_model(context=300), [5, 6, 7]
    writer, ids = engine.Engine(model, NoTools), list(prompt)
    said = list(writer.generate(prompt, 30, repetition_penalty=1.5))
    for place, token in enumerate(said):
        logits = ours.last_logits(model, ids).clone()
        for seen in set(said[:place]):
            logits[seen] = logits[seen] / 1.5 if logits[seen] > 0 else logits[seen] * 1.5
        assert token == int(logits.argmax())
        ids.append(token)


def test_the_beginning_of_a_reply_counts_for_the_penalty():
    model = tiny_model(context=300)
    prompt = TOKENIZER.render(body("Hi")["messages"])
    alone = list(engine.Engine(model, TOKENIZER).generate(prompt, 1))
    begun = [*prompt, *TOKENIZER.encode("abc")]
    (free,) = engine.Engine(model, TOKENIZER).generate(begun, 1)
    again = [*begun[: len(prompt)], free, *begun[len(prompt) :]]
    (before,) = engine.Engine(model, TOKENIZER).generate(again, 1)
    (kept,) = engine.Engine(model, TOKENIZER).generate([*prompt, before, free], 1)
    writer = engine.Engine(model, TOKENIZER)
    (other,) = writer.generate([*prompt, before, free, kept], 1, repetition_penalty=2.0)
    assert alone and other not in (before, free, kept)


# ---- The page's endpoint -----------------------------------------------------------------------------------


def parts(answer) -> tuple[dict, list[dict], dict]:
    """The first event, those of the tokens, the last. Half a character at the end is an event of its own."""
    opening, *said, end = events(answer.data)
    return opening, [each for each in said if "id" in each], end


def real_app(context=512, **flags):
    return make_app(engine.Engine(tiny_model(context=context), TOKENIZER), **flags)


def test_without_details_the_bytes_are_the_seeds():
    app = real_app()
    for fields in ({}, {"details": False}, {"begin": []}):
        told = events(post(app, body(max_tokens=9, temperature=0, **fields)).data)
        assert told[-1] == {"done": True} and all(set(each) == {"token", "gpu"} for each in told[:-1])


def test_with_details_a_reply_tells_prompt_tokens_seed_and_end():
    app = real_app()
    asked = body(max_tokens=9, temperature=1.0, details=True)
    opening, said, end = parts(post(app, asked))
    prompt = TOKENIZER.render(asked["messages"])
    assert [each["id"] for each in opening["prompt"]] == prompt
    assert opening["begun"] == opening["dropped"] == 0
    assert [each["token"] for each in opening["prompt"]][:3] == ["<|bos|>", "<|user_start|>", "H"]
    assert set(opening["prompt"][0]) == {"id", "token"}
    assert end["done"] and end["finish"] in ("stop", "length") and end["seed"] == opening["seed"]
    ids = [each["id"] for each in said]
    own = own_logprobs(app.pool.workers[0].engine.model, [*prompt, *ids])[len(prompt) - 1 :]
    for each, expected in zip(said, own):
        assert each["gpu"] == 0 and abs(each["logprob"] - float(expected[each["id"]])) < 1e-4
        assert len(each["alternatives"]) == 5 and "forced" not in each
        for token, text, logprob in each["alternatives"]:
            assert text == TOKENIZER.show(token) and abs(logprob - float(expected[token])) < 1e-4
    plain = body(max_tokens=9, temperature=1.0, seed=end["seed"])
    text = TOKENIZER.decode(ids)
    assert ours.text_of(post(app, plain).data) == text == ours.text_of(post(app, asked | plain).data)


def test_the_token_that_ends_a_reply_is_told_too_and_has_no_text():
    app = make_app(scripted := ours.ScriptedEngine(*map(engine.Token, TOKENIZER.encode("Hi")), ours.END))
    for token in scripted.say[:2]:
        token.logprob = -1.0
    stop = engine.Token(ours.END)
    stop.logprob, scripted.say = -2.0, (*scripted.say[:2], stop)
    _, said, end = parts(post(app, body(details=True)))
    assert [(each["token"], each["logprob"]) for each in said] == [("H", -1.0), ("i", -1.0), ("", -2.0)]
    assert said[-1]["id"] == ours.END and end["finish"] == "stop"


def test_a_reply_that_ends_at_once_tells_its_prompt_too():
    stop = engine.Token(ours.END)
    stop.logprob = -2.0
    opening, said, end = parts(post(make_app(ours.ScriptedEngine(stop)), body(details=True)))
    assert opening["prompt"] and [each["id"] for each in said] == [ours.END] and end["finish"] == "stop"


def test_a_reply_begins_with_the_tokens_it_was_given():
    app = real_app()
    opening, said, _ = parts(post(app, body(max_tokens=12, temperature=0, details=True)))
    prompt, ids = [each["id"] for each in opening["prompt"]], [each["id"] for each in said]
    asked = body(max_tokens=8, temperature=0, details=True, begin=ids[:4])
    opening, rest, _ = parts(post(app, asked))
    assert [each["id"] for each in opening["prompt"]] == [*prompt, *ids[:4]] and opening["begun"] == 4
    for first, second in zip([*opening["prompt"][-4:], *rest], said, strict=True):
        assert first["id"] == second["id"] and abs(first["logprob"] - second["logprob"]) < 1e-4
    other = next(token for token, _, _ in said[4]["alternatives"] if token != ids[4])
    opening, rest, _ = parts(post(app, asked | {"begin": [*ids[:4], other]}))
    assert [each["id"] for each in opening["prompt"]] == [*prompt, *ids[:4], other] and len(rest) == 8


def test_old_turns_make_room_for_a_given_beginning():
    turn = [{"role": "user", "content": "a" * 40}, {"role": "assistant", "content": "b" * 40}]
    asked = {"messages": [*turn, turn[0]], "max_tokens": 1, "details": True}
    for begin, dropped in ([], 0), ([70] * 90, 2):
        opening = parts(post(real_app(context=200), asked | {"begin": begin}))[0]
        assert opening["dropped"] == dropped and opening["begun"] == len(begin)


def test_a_character_that_the_beginning_cuts_in_two_comes_whole():
    first, *rest = "ü".encode()
    app = make_app(ours.ScriptedEngine(*rest, ours.END))
    assert ours.text_of(post(app, body(begin=[*TOKENIZER.encode("gr"), first])).data) == "ü"


def test_what_the_model_reads_is_told_with_what_was_left_out():
    app = real_app(context=200)
    turns = [{"role": "user", "content": "a" * 40}, {"role": "assistant", "content": "b"}]
    asked = {"messages": [*turns * 4, turns[0]], "details": True, "max_tokens": 1}
    prompt, dropped = TOKENIZER.fit_prompt(asked["messages"], 200, 1)
    opening = events(post(app, asked).data)[0]
    assert dropped and opening["dropped"] == dropped and [each["id"] for each in opening["prompt"]] == prompt
    opening = events(post(app, asked | {"messages": turns}).data)[0]
    last = opening["prompt"][-1]
    assert opening["begun"] == 1 and last["token"] == "b" and "logprob" in last


def test_a_text_is_completed_without_the_marks_of_a_chat():
    app = real_app()
    opening, said, end = parts(post(app, {"prompt": "Hel", "details": True, "max_tokens": 5}))
    assert [each["token"] for each in opening["prompt"]] == ["<|bos|>", "H", "e", "l"]
    assert opening["begun"] == 3
    own = own_logprobs(app.pool.workers[0].engine.model, [each["id"] for each in opening["prompt"]])
    for each, expected in zip(opening["prompt"][1:], own):
        assert abs(each["logprob"] - float(expected[each["id"]])) < 1e-4
    assert said and end["done"]
    again = post(app, {"prompt": "Hel", "max_tokens": 5, "seed": end["seed"]})
    assert ours.text_of(again.data) == TOKENIZER.decode(each["id"] for each in said)


@pytest.mark.parametrize("fields, word", [
    ({"details": 1}, "details"), ({"begin": "x"}, "begin"), ({"begin": [1.5]}, "begin"),
    ({"begin": [True]}, "begin"),
    ({"begin": [V]}, str(V - 1)), ({"begin": [-1]}, str(V - 1)), ({"begin": [1] * 600}, "context"),
    ({"repetition_penalty": "x"}, "repetition_penalty"), ({"messages": None, "prompt": ""}, "messages"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(fields, word):
    app = real_app()
    answer = post(app, body(**fields))
    assert answer.status_code == 400 and app.pool.available == 1
    assert word in answer.json["detail"]


def test_the_page_knows_dtype_and_whether_the_model_is_a_base_model():
    app = make_app(ours.ScriptedEngine(), dtype="float32")
    assert ours.config_of(Client(app).get("/").text)["base"] is False
    app.open("d4, base", TOKENIZER, base=True)
    config = ours.config_of(Client(app).get("/").text)
    assert config["base"] is True and config["dtype"] == "float32"


# ---- OpenAI's endpoints ------------------------------------------------------------------------------------


def ask(app, path, **fields):
    answer = Client(app).post("/v1/" + path, data=json.dumps(fields))
    if not fields.get("stream"):
        assert answer.status_code == 200, answer.text
        return answer.json["choices"][0]
    lines = [line[6:] for line in answer.text.split("\n\n") if line and line != "data: [DONE]"]
    return [json.loads(line)["choices"][0] for line in lines]


def test_chat_completions_tell_logprobs_whole_and_streamed():
    app = real_app()
    asked = dict(body(max_tokens=9, temperature=1.0, seed=3), logprobs=True, top_logprobs=20)
    choice = ask(app, "chat/completions", **asked)
    content = choice["logprobs"]["content"]
    raw = b"".join(bytes(each["bytes"]) for each in content)
    assert raw.decode("utf-8", "replace") == choice["message"]["content"]
    ids = [TOKENIZER.special.get(each["token"], each["bytes"][0]) for each in content]
    prompt = TOKENIZER.render(asked["messages"])
    own = own_logprobs(app.pool.workers[0].engine.model, [*prompt, *ids])[len(prompt) - 1 :]
    for each, token, expected in zip(content, ids, own, strict=True):
        assert abs(each["logprob"] - float(expected[token])) < 1e-4 and len(each["top_logprobs"]) == 20
        assert abs(each["top_logprobs"][0]["logprob"] - float(expected.max())) < 1e-4
    chunks = ask(app, "chat/completions", **asked, stream=True)
    told = [each for chunk in chunks if chunk["logprobs"] for each in chunk["logprobs"]["content"]]
    assert told == content
    assert ask(app, "chat/completions", **asked | {"logprobs": False, "top_logprobs": 0})["logprobs"] is None


def test_hidden_tokens_have_no_logprobs():
    said = [engine.Token(token) for token in TOKENIZER.encode_reply("<|python_start|>1+1<|python_end|>ok")]
    for token in said:
        token.logprob = -1.0
    app = make_app(ours.ScriptedEngine(*said, ours.END))
    for hides, expected in ((True, "ok"), (False, "<|python_start|>1+1<|python_end|>ok")):
        choice = ask(app, "chat/completions", **body(), logprobs=True, skip_special_tokens=hides)
        told = "".join(each["token"] for each in choice["logprobs"]["content"])
        assert told == choice["message"]["content"] == expected


def test_completions_echo_a_prompt_with_its_logprobs():
    app = real_app()
    model, bos = app.pool.workers[0].engine.model, SPECIAL["<|bos|>"]
    ids = [bos, *TOKENIZER.encode("Hello, wörld, how are you today? " * 5)]
    own = own_logprobs(model, ids)
    choice = ask(app, "completions", prompt=ids, max_tokens=0, echo=True, logprobs=5)
    told = choice["logprobs"]
    assert told["token_logprobs"][0] is None and told["top_logprobs"][0] is None
    assert [*map(len, told.values())] == [len(ids)] * 4
    values, tops = (told[name][1:] for name in ("token_logprobs", "top_logprobs"))
    for token, value, top, expected in zip(ids[1:], values, tops, own, strict=True):
        assert abs(value - float(expected[token])) < 1e-4 and 5 <= len(top) <= 6
        assert abs(max(top.values()) - float(expected.max())) < 1e-4 and top[TOKENIZER.show(token)] == value
    assert told["text_offset"] == [sum(map(len, told["tokens"][:i])) for i in range(len(ids))]
    ends = ask(app, "completions", prompt=[*ids, ours.END], max_tokens=0, echo=True, logprobs=0)
    assert ends["logprobs"]["tokens"] == [*told["tokens"], "<|assistant_end|>"]
    text = TOKENIZER.decode(ids[1:])
    alone = ask(app, "completions", prompt=text, max_tokens=0, echo=True, logprobs=0)
    assert alone["text"] == text and alone["logprobs"]["token_logprobs"] == told["token_logprobs"][1:]
    assert [len(top) for top in alone["logprobs"]["top_logprobs"]] == [1] * (len(ids) - 1)


@pytest.mark.parametrize("stream", [False, True])
def test_completions_tell_logprobs_of_what_they_write_after_the_echo(stream):
    app = real_app()
    asked = dict(prompt="Hel", max_tokens=6, temperature=0, logprobs=2, echo=True, stream=stream)
    parts = ask(app, "completions", **asked)
    parts = parts if stream else [parts]
    told = [part["logprobs"] for part in parts if part["logprobs"]]
    tokens = [token for part in told for token in part["tokens"]]
    offsets = [offset for part in told for offset in part["text_offset"]]
    assert tokens[:3] == ["H", "e", "l"] and len(tokens) <= 9
    assert offsets == [sum(map(len, tokens[:i])) for i in range(len(tokens))]
    assert "logprobs" in parts[0] and ask(app, "completions", prompt="Hel", max_tokens=2)["logprobs"] is None
