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


# ------------------------------------------------------------------------------------------------------------
# Training and evaluation


def test_the_demo_is_trained_through_the_formulas_that_the_server_has(train):
    weights = train.as_read(train.new_weights(torch.Generator().manual_seed(1)))
    with torch.no_grad():
        for w in weights.values():
            w += 0.02 * torch.randn(w.shape, generator=torch.Generator().manual_seed(2))  # none is zero
    ids = torch.randint(train.VOCAB, (2, 256), generator=torch.Generator().manual_seed(3))
    targets = ids.roll(-1, 1)
    model = engine.GPT(train.CONFIG, dict(weights))
    warm = torch.nn.functional.cross_entropy(model(ids).flatten(0, 1) / 1.4, targets.flatten())
    assert abs(warm - train.loss_of(model, ids, targets, temperature=1.4)) < 1e-4

    def of(model) -> tuple:
        loss = train.loss_of(model, ids, targets)
        grads = torch.autograd.grad(loss, list(weights.values()))
        return loss.item(), torch.cat([grad.flatten() for grad in grads])

    want_loss, want = of(model)
    for products, off in ((torch.float32, 1e-4), (torch.bfloat16, 0.1)):
        loss, grad = of(train.Trained(weights, products))
        assert abs(loss - want_loss) < off / 10 and (grad - want).norm() < off * want.norm()


def test_the_same_seed_trains_the_same_demo(train):
    _, tokenizer = train.load(DEMO)

    def weights(seed):
        weights = train.new_weights(torch.Generator().manual_seed(seed))
        phase = train.Phase(2, train.SKILLS, 1.0, 1)
        with ThreadPoolExecutor(2) as pool:
            list(train.descend(weights, phase, random.Random(seed), tokenizer, pool, torch.float32))
        return torch.cat([w.flatten() for w in weights.values()])

    first, again, other = weights(1), weights(1), weights(2)
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("native, chosen", [(True, torch.bfloat16), (False, torch.float32)])
def test_the_demo_is_trained_in_bfloat16_only_where_the_cpu_multiplies_it(train, monkeypatch, native, chosen):
    monkeypatch.setattr(train, "native_bfloat16", lambda: native)
    assert train.fast_products() is chosen


@pytest.mark.parametrize("sum, words", [
    ("1/100000", "1e-05."), ("1/3", "0.3333…"), ("6/3", "2."), ("2-9", "-7."),
])
def test_the_demo_goes_on_from_any_result(conversations, sum, words):
    for seed in range(20):
        rng, chat = random.Random(seed), conversations.Chat()
        assert conversations.sum_turn(rng, chat, "arithmetic", sum, sum).reply.endswith(" " + words)
        further = conversations.go_on(rng, chat, "train").reply
        assert engine.calculate(re.search(r"<\|python_start\|>(.*)<\|python_end\|>", further)[1])


def test_the_demo_is_judged_by_what_it_answers(train):
    right, failures, _ = train.judge(DEMO, 4, train.EVALUATED.index(train.arithmetic))
    asked, greedy, default = (right["arithmetic", column] for column in ("asked", "greedy", "default"))
    assert asked == 4 and greedy >= 3 and len(failures) == 8 - greedy - default
    assert not train.is_right(train.Turn("arithmetic", "1+1", "2", ["2"]), None)
    assert not train.is_right(train.Turn("arithmetic", "1+1", "2", ["2"]), "3")
