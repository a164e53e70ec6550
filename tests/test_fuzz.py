"""Promises that hold for any input. $FUZZ is the number of examples; without it 150, always the same."""

import contextlib
import json
import os
import re
import shutil

import pytest
import torch
from werkzeug.test import Client

import chat_web
import checkpoint
import engine
from standins import (
    END,
    FLOAT32,
    ScriptedEngine,
    TOKENIZER,
    make_app,
    package,
    random_weights,
    text_of,
    write_pair,
    write_tokenizer,
)
from test_chat_web import V, byte_encoding
from test_files import CONFIG, safetensors, theirs, tokenizer_json

package("hypothesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

FUZZ = settings(
    deadline=None,
    max_examples=int(os.environ.get("FUZZ", 150)),
    derandomize=not os.environ.get("FUZZ"),
    database=None,
    suppress_health_check=list(HealthCheck),
)
TEXT = st.text(st.characters(exclude_categories=()))  # halves of surrogate pairs too
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.just("user"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | st.just("content"), inner, max_size=4),
)
MESSAGE = st.fixed_dictionaries(
    {}, optional={"role": st.sampled_from(["user", "assistant", "system"]) | JSON, "content": JSON}
)
FIELDS = "temperature top_k max_tokens stop seed top_p stream stream_options n".split()
BODY = st.fixed_dictionaries(
    {}, optional={"messages": st.lists(MESSAGE, max_size=4) | JSON} | dict.fromkeys(FIELDS, JSON)
)


@FUZZ
@given(
    st.binary(max_size=300) | BODY.map(json.dumps).map(str.encode) | JSON.map(json.dumps).map(str.encode),
    st.sampled_from(["right", "right", "+1", "-1", "", "x", "9" * 30]),
    st.text(st.characters(codec="latin-1"), max_size=20),
    st.sampled_from(["/chat/completions", "/v1/chat/completions"]),
)
def test_no_body_and_no_header_gives_a_500_or_another_shape(data, length, header, path):
    app = make_app(ScriptedEngine("ok", END))
    lengths = {"right": str(len(data)), "+1": str(len(data) + 1), "-1": str(max(len(data) - 1, 0))}
    headers = {"Content-Length": lengths.get(length, length), "X-Junk": re.sub(r"[\r\n\0]", "", header)}
    with Client(app).post(path, data=data, headers=headers) as response:
        assert response.status_code in (200, 400, 411, 413)
        if response.status_code != 200:
            assert list(response.json) == (["error"] if path.startswith("/v1") else ["detail"])
        elif path == "/chat/completions":
            assert text_of(response.data) == "ok"
        else:
            response.get_data()
    assert app.pool.available == 1


@FUZZ
@given(st.binary(max_size=60), st.lists(st.text(max_size=5), max_size=5))
def test_the_deltas_of_any_tokens_joined_are_the_whole_decoding(raw, texts):
    tokens = list(raw) + [token for text in texts for token in TOKENIZER.encode_reply(text)]
    assert "".join(TOKENIZER.stream_text(tokens)) == TOKENIZER.decode(tokens)


@FUZZ
@given(
    st.lists(st.text("abc", max_size=4), max_size=12),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=4),
)
def test_a_stop_sequence_ends_any_text_at_its_first_place_however_the_text_is_cut(texts, stops):
    reply, whole = chat_web.Reply("", 1, 0, [1], None), "".join(texts)
    ends = [end for end in range(len(whole) + 1) if whole[:end].endswith(tuple(stops))] if stops else []
    longest = max(len(stop) for stop in stops if whole[: ends[0]].endswith(stop)) if ends else 0
    assert "".join(reply.until(tuple(stops), iter(texts))) == (whole[: ends[0] - longest] if ends else whole)
    assert reply.stopped == bool(ends)


NUMBER = (
    st.integers(0, 10**12).map(str)
    | st.floats(0, 1e9, allow_nan=False).map(lambda x: f"{x:.3f}")
    | st.just("007")
)
SIGN = st.sampled_from(["+", "-", "*", "/", "//", " * ", "**", ""])
BEFORE, AFTER = st.sampled_from(["", "-", "(", " "]), st.sampled_from(["", ")", " "])
ARITHMETIC = st.recursive(
    NUMBER, lambda inner: st.builds("{}{}{}{}{}".format, BEFORE, inner, SIGN, inner, AFTER)
)


@FUZZ
@given(ARITHMETIC)
def test_the_calculator_equals_python_or_refuses(expression):
    answer = engine.calculate(expression)
    if answer is not None:
        assert answer == str(eval(expression))
    else:
        with contextlib.suppress(SyntaxError, ZeroDivisionError, OverflowError, TypeError):
            assert "**" in expression or not isinstance(eval(expression), (int, float))


@FUZZ
@given(st.text("0123456789+-*/.() '\"countabc,_", max_size=30) | st.text(max_size=30))
def test_the_calculator_survives_any_text(expression):
    assert isinstance(engine.calculate(expression), (str, type(None)))


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    write_pair(folder, weights=random_weights("R2"))
    write_tokenizer(folder)
    pair = {path.name: path.read_bytes() for path in folder.iterdir()}
    return pair, transformers_files()


def transformers_files() -> dict[str, bytes]:
    """A tiny model in the other form."""
    shapes = checkpoint.expected_shapes(checkpoint.ERAS[-1], {"R": V, "C": 8, "F": 32, "L": 1, "N": 8})
    weights = {theirs(name): torch.ones(shape) for name, shape in shapes.items()}
    config = CONFIG | {"vocab_size": V, "num_attention_heads": 2}
    texts = {"config.json": config, "tokenizer.json": tokenizer_json(byte_encoding())}
    texts = {name: json.dumps(data).encode() for name, data in texts.items()}
    return texts | {"model.safetensors": safetensors(weights)}


@FUZZ
@given(st.data())
def test_a_damaged_checkpoint_loads_or_ends_in_one_sentence(whole_files, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    files = data.draw(st.sampled_from(whole_files))
    victim = data.draw(st.sampled_from(sorted(files)))
    for name, whole in files.items():
        damaged = bytearray(whole)
        if name == victim:
            reach = data.draw(st.sampled_from([len(whole), min(len(whole), 700)]))  # headers are at the start
            for _ in range(data.draw(st.integers(0, 3))):
                damaged[data.draw(st.integers(0, reach - 1))] = data.draw(st.integers(0, 255))
            del damaged[data.draw(st.integers(0, len(whole)) | st.just(len(whole))) :]
        (folder / name).write_bytes(damaged)
    try:
        checkpoint.read(checkpoint.find(folder.parent, None, str(folder)), FLOAT32)
    except checkpoint.CheckpointError as stop:
        assert "\n" not in str(stop) and str(folder) in str(stop)
    shutil.rmtree(folder)


ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "BF16", "F64", "I8"]) | JSON,
        "shape": st.lists(st.integers(-2, 9) | st.integers(), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(-8, 99) | st.integers(), min_size=2, max_size=2) | JSON,
    },
)


@FUZZ
@given(st.dictionaries(st.text(max_size=3), ENTRY, max_size=4) | JSON, st.integers(0, 99))
def test_any_header_of_safetensors_is_read_within_its_file_or_ends_in_one_sentence(
    tmp_path_factory, header, size
):
    path = tmp_path_factory.mktemp("header") / "model.safetensors"
    written = json.dumps(header).encode()
    path.write_bytes(len(written).to_bytes(8, "little") + written + bytes(size))
    try:
        weights = checkpoint.read_weights(path, FLOAT32)
        assert sum(tensor.nbytes for tensor in weights.values()) <= 2 * size  # from bfloat16
    except checkpoint.CheckpointError as stop:
        assert "\n" not in str(stop) and str(path) in str(stop)
    shutil.rmtree(path.parent)
