"""The demo model's training: the data that it was trained on, the formulas, and how it is judged.

Needs pytest beside the server's requirements. Nothing here trains the whole demo, which takes an hour.
"""

import hashlib
import importlib
import pickle
import random
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import engine

DEMO = Path(__file__).resolve().parent.parent / "demo"


@pytest.fixture(scope="module")
def train():
    """The script that made the demo model, as a module."""
    sys.path.insert(0, str(DEMO))
    try:
        return importlib.import_module("train")
    finally:
        sys.path.remove(str(DEMO))


@pytest.fixture(scope="module")
def conversations(train):
    return sys.modules["conversations"]


# ------------------------------------------------------------------------------------------------------------
# The data. The shipped model was trained on exactly this: a changed word needs a new model


def checksum(turns) -> str:
    text = "\0".join(repr((turn.skill, turn.question, turn.reply, turn.need)) for turn in turns)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize("mix, sum", [
    ("SKILLS", "2140e79269c41fd2"),
    ("SECOND_SKILLS", "455b328da2836e09"),
    ("LAST_SKILLS", "3144c6cf3e5b2e0d"),
])
def test_a_seed_gives_the_conversations_that_the_demo_was_trained_on(conversations, mix, sum):
    rng = random.Random(1)
    written = [conversations.conversation(rng, rng.randint(1, 14), getattr(conversations, mix))
               for _ in range(5000)]
    assert checksum(turn for turns in written for turn in turns) == sum


def test_the_demo_is_judged_by_the_same_questions(train):
    written = []
    for number, skill in enumerate(train.EVALUATED):
        rng = random.Random(f"evaluation {number}")
        written += [turn for _ in range(400) for turn in train.case(rng, skill)]
    assert checksum(written) == "e03df4d7f80f85c2"


def test_the_shipped_tokenizer_is_trained_again_byte_for_byte(train):
    again = pickle.dumps(train.train_tokenizer(random.Random(1)), protocol=4)
    assert again == (DEMO / "tokenizer" / "tokenizer.pkl").read_bytes()


def test_training_reads_the_same_rows(train):
    encoding = pickle.loads((DEMO / "tokenizer" / "tokenizer.pkl").read_bytes())
    tokenizer, rng = train.Tokenizer(encoding, encoding._special_tokens), random.Random(1)
    read = [tensor.tolist() for length in (256, 512, 1024)
            for tensor in train.rows(rng, tokenizer, length, 4, train.LAST_SKILLS)]
    assert hashlib.sha256(repr(read).encode()).hexdigest()[:16] == "4404fc6c667f2c06"


def test_no_held_out_phrasing_is_trained_on(conversations):
    rng = random.Random(1)
    asked = {conversations.plain(turn.question) for _ in range(2000)
             for turn in conversations.conversation(rng, 4, [(conversations.identity, 1)])}
    assert asked and not asked & conversations.Phrases.HELD
