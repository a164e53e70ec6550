"""Makes the demo model: its conversations, its tokenizer, its weights, and the table that judges it.

    python demo/train.py               everything: the model in this folder, in under an hour on two CPU
                                       cores with nothing else to do
    python demo/train.py --eval        only judges the model that is saved in this folder
    python demo/train.py --show 20     only prints conversations of the kind that it is trained on

It needs torch and tiktoken, as the server does, and nothing else. No corpus is read: conversations.py writes
every conversation from a seed, and the same seed gives the same model. The forward pass, the calculator, the
sampler and the tokenizer are the server's own (one folder up); only the optimiser is here. In the order of
this file: tokenizer, training, evaluation, command line.
"""

import argparse
import json
import math
import pickle
import random
import re
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import tiktoken
import torch
import torch.nn.functional as F
from torch import Tensor

HERE = Path(__file__).resolve().parent
if str(HERE.parent) not in sys.path:
    sys.path.append(str(HERE.parent))
from checkpoint import SPECIALS, Tokenizer, find, read  # noqa: E402
from conversations import (  # noqa: E402
    ALPHABET, CAPITAL, LAST_SKILLS, SECOND_SKILLS, SKILLS, Chat, Turn, arithmetic, conversation, go_on,
    remembering, telling,
)
from engine import GPT, Config, Engine, calculate, native_bfloat16  # noqa: E402

# ------------------------------------------------------------------------------------------------------------
# Tokenizer

VOCAB = 1280  # a multiple of 64, so that the embedding has no padding rows
PATTERN = r" ?\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
WHOLE_WORDS = 256
SPLIT = re.compile(r" ?[^\W\d_]+|\d{1,2}| ?(?:[^\w\s]|_)+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")  # PATTERN for re


def train_tokenizer(rng: random.Random) -> tiktoken.Encoding:
    """Byte pair encoding in four steps; the merges of each have lower priority than those of the one before.

    Digits: every pair is a token, so that a number is cut alike wherever it stands. Then the usual merges,
    but inside words and inside punctuation only, never over a leading space or capital. Last the spaces
    before single letters, as spelled words need them, and the spaces and capitals of whole frequent words.
    Other words keep their tokens wherever they stand, which makes it easy to learn to copy them.
    """
    chunks = Counter()
    for _ in range(12_000):
        for turn in conversation(rng, 2):
            for text in (turn.question, re.sub(r"<\|.*?\|>", "\n", turn.reply).replace(CAPITAL, "")):
                chunks.update(SPLIT.findall(text))
    merges = [bytes([b]) for b in range(256)] + [f"{n:02d}".encode() for n in range(100)]
    pieces = Counter()
    for chunk, n in chunks.items():
        word = chunk.removeprefix(" ")
        if word[:1].isalpha():
            pieces[word[1:] if word[0].isupper() else word] += n
        elif not chunk.isdigit():
            pieces[chunk] += n
    merges += frequent_pairs(pieces, VOCAB - len(SPECIALS) - WHOLE_WORDS - len(merges), set(merges))
    known = set(merges)
    merges += [f" {letter}".encode() for letter in ALPHABET]
    for chunk, _ in sorted(chunks.items(), key=lambda item: (-item[1], item[0])):
        word = chunk.removeprefix(" ")
        tail = word[1:] if word[:1].isupper() else word
        if word[:1].isalpha() and (not tail or tail.encode() in known):
            merges += [step for step in dict.fromkeys((word.encode(), chunk.encode())) if step not in merges]
    del merges[VOCAB - len(SPECIALS) :]
    ranks = {token: rank for rank, token in enumerate(merges)}
    special = {name: len(ranks) + i for i, name in enumerate(SPECIALS)}
    return tiktoken.Encoding("rustbpe", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=special)


def frequent_pairs(pieces: Counter, how_many: int, taken: set[bytes]) -> list[bytes]:
    """The classic loop: merge the most frequent neighbours, count again."""
    words = [([bytes([b]) for b in text.encode()], n) for text, n in sorted(pieces.items())]
    found = []
    while len(found) < how_many:
        pairs = Counter()
        for tokens, n in words:
            for pair in zip(tokens, tokens[1:]):
                pairs[pair] += n
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merged = best[0] + best[1]
        if merged not in taken:
            found.append(merged)
            taken.add(merged)
        for tokens, _ in words:
            i = 0
            while i < len(tokens) - 1:
                if (tokens[i], tokens[i + 1]) == best:
                    tokens[i : i + 2] = [merged]
                i += 1
    return found


def render_reply(tokenizer: Tokenizer, reply: str) -> tuple[list[int], list[int]]:
    """The tokens of a reply, and for each whether the model writes it (1) or the server does (0)."""
    special, ids, own = tokenizer.special, [], []
    for piece in re.split(r"(<\|python_start\|>.*?<\|python_end\|>)", reply):
        expression = re.fullmatch(r"<\|python_start\|>(.*)<\|python_end\|>", piece)
        if not expression:
            ids += tokenizer.encode(piece)
            own += [1] * (len(ids) - len(own))
            continue
        parts = expression[1].split(CAPITAL)
        ids += [special["<|python_start|>"], *(t for part in parts for t in tokenizer.encode(part)),
                special["<|python_end|>"]]
        own += [1] * (len(ids) - len(own))
        result = calculate("".join(parts))
        ids += [special["<|output_start|>"], *tokenizer.encode(result), special["<|output_end|>"]]
        own += [0] * (len(ids) - len(own))
    return ids + [special["<|assistant_end|>"]], own + [1]


def render_question(tokenizer: Tokenizer, text: str) -> list[int]:
    special = tokenizer.special
    return [special["<|user_start|>"], *tokenizer.encode(text), special["<|user_end|>"],
            special["<|assistant_start|>"]]


def render(tokenizer: Tokenizer, turns: list[Turn]) -> tuple[list[int], list[int]]:
    ids, own = [tokenizer.special["<|bos|>"]], [0]
    for turn in turns:
        question = render_question(tokenizer, turn.question)
        reply, written = render_reply(tokenizer, turn.reply)
        ids += question + reply
        own += [0] * len(question) + written
    return ids, own


# ------------------------------------------------------------------------------------------------------------
# Training

CONFIG = Config(sequence_len=1024, vocab_size=VOCAB, n_head=4, n_kv_head=4, n_embd=192, windows=(1024,) * 5)
STEP_TOKENS = 4096
MICRO_TOKENS = 1024  # what a thread computes at a time: less than caches hold
LENGTHS = [256] * 11 + [512] * 6 + [1024] * 3  # of a row, drawn for each step
MATRIX_RATE, TABLE_RATE, HEAD_RATE, SCALAR_RATE = 0.016, 0.04, 0.004, 0.007


@dataclass(frozen=True)
class Phase:
    """Some steps of the training. Each phase goes on from what the one before has stored."""

    steps: int
    skills: list
    rates: float  # of the full rates, at most
    warm_up: int  # steps until then
    temperature: float = 1.0  # of the logits in the loss

    def share(self, step: int) -> float:
        """Of the full rates: up, level, down."""
        return self.rates * min(1.0, step / self.warm_up, 1.6 * (self.steps - step + 1) / self.steps)


# At a temperature above 1 the model learns to be surer of what it says, and samples fewer wrong words.
PHASES = [
    Phase(4800, SKILLS, 1.0, 80),
    Phase(1100, SECOND_SKILLS, 0.3, 20, temperature=1.4),
    Phase(250, LAST_SKILLS, 0.15, 10, temperature=1.4),
]


def new_weights(generator: torch.Generator) -> dict[str, Tensor]:
    """nanochat's newest architecture. Matrices that write into the residual stream begin at zero."""
    c = CONFIG

    def uniform(*shape: int) -> Tensor:
        return (torch.rand(shape, generator=generator) * 2 - 1) * math.sqrt(3 / c.n_embd)

    weights = {"transformer.wte.weight": torch.randn(c.vocab_size, c.n_embd, generator=generator),
               "lm_head.weight": torch.randn(c.vocab_size, c.n_embd, generator=generator) * 0.001}
    for i in range(c.n_layer):
        layer = f"transformer.h.{i}."
        for name in ("c_q", "c_k", "c_v"):
            weights[f"{layer}attn.{name}.weight"] = uniform(c.n_embd, c.n_embd)
        weights[layer + "attn.c_proj.weight"] = torch.zeros(c.n_embd, c.n_embd)
        weights[layer + "mlp.c_fc.weight"] = uniform(4 * c.n_embd, c.n_embd) * 0.5
        weights[layer + "mlp.c_proj.weight"] = torch.zeros(c.n_embd, 4 * c.n_embd)
        if i % 2 == (c.n_layer - 1) % 2:
            weights[f"value_embeds.{i}.weight"] = uniform(c.vocab_size, c.n_embd)
            weights[layer + "attn.ve_gate.weight"] = torch.zeros(c.n_kv_head, 12)
    weights["smear_gate.weight"] = torch.zeros(1, 24)
    weights["smear_lambda"] = torch.tensor([0.5])
    weights["backout_lambda"] = torch.tensor([0.1])
    weights["resid_lambdas"] = torch.ones(c.n_layer)
    weights["x0_lambdas"] = torch.full((c.n_layer,), 0.1)
    return weights


def as_stored(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """bfloat16 but for the handful of scalars: what is saved and evaluated."""
    return {name: w.detach().clone() if "lambda" in name else w.detach().bfloat16()
            for name, w in weights.items()}


def as_read(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """float32 of what is stored, which is what is trained through: its gradient passes the rounding by."""
    return {name: stored.float().requires_grad_() for name, stored in as_stored(weights).items()}


class CausalAttention(torch.autograd.Function):
    """Attention of queries that are scaled already; queries, keys and values are (N, T, D) of any dtype.

    It goes by blocks of queries over the keys up to their end. The mask hides half of the products, and
    torch's own attention on a CPU computes those too, as its blocks of keys are as long as most rows.
    """

    BLOCK = 128

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        n = CausalAttention.BLOCK
        assert q.size(1) % n == 0, f"{q.size(1)} tokens"
        later = torch.full((n, n), -torch.inf).triu(1)
        blocks, shares = [], []
        for start in range(0, q.size(1), n):
            scores = q[:, start : start + n] @ k[:, : start + n].mT  # (N, n, start + n)
            scores[..., start:] += later
            shares.append(scores.softmax(-1))
            blocks.append(shares[-1] @ v[:, : start + n])
        ctx.save_for_backward(q, k, v, *shares)
        return torch.cat(blocks, dim=1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, *shares = ctx.saved_tensors
        of_q, of_k, of_v = [], torch.zeros(k.shape), torch.zeros(v.shape)
        for share in shares:
            end, n = share.size(2), share.size(1)
            queries, block = q[:, end - n : end], grad[:, end - n : end]
            of_v[:, :end] += share.mT @ block
            of_share = block @ v[:, :end].mT
            of_scores = share * (of_share - (of_share * share).sum(-1, keepdim=True))
            of_q.append(of_scores @ k[:, :end])
            of_k[:, :end] += of_scores.mT @ queries
        return torch.cat(of_q, dim=1), of_k.to(k.dtype), of_v.to(v.dtype)


class Trained(GPT):
    """The server's model, in float32 but for the products of matrices."""

    def __init__(self, weights: dict[str, Tensor], products: torch.dtype):
        super().__init__(CONFIG, dict(weights))
        self.products = products

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: dict) -> Tensor:
        q, k, v = (x.to(self.products).flatten(0, 1) for x in (q * self.config.attention_scale, k, v))
        return CausalAttention.apply(q, k, v).float().unflatten(0, (-1, self.config.n_head))

    def linear(self, x: Tensor, name: str, sparse: bool = False) -> Tensor:
        return F.linear(x.to(self.products), self.weights[name + ".weight"].to(self.products)).to(x.dtype)


def fast_products() -> torch.dtype:
    """bfloat16 where this CPU multiplies matrices in it by itself, else float32."""
    return torch.bfloat16 if native_bfloat16() else torch.float32


class Muon:
    """Momentum whose update is made nearly orthogonal (Jordan et al. 2024), for the matrices in the layers.

    Some matrices of one shape are updated together, as one batch.
    """

    STEPS = [(3.4445, -4.7750, 2.0315)] * 5  # of the Newton-Schulz iteration, coefficients from their article

    def __init__(self, matrices: list[Tensor], products: torch.dtype, momentum: float = 0.95):
        self.products, self.momentum = products, momentum
        by_shape: dict[tuple, list[Tensor]] = {}
        for w in matrices:
            by_shape.setdefault(tuple(w.shape), []).append(w)
        few = CONFIG.n_layer  # so that no thread has all of the work
        groups = [group[i : i + few] for group in by_shape.values() for i in range(0, len(group), few)]
        groups.sort(key=lambda group: -group[0].numel())
        self.groups = [(group, torch.zeros(len(group), *group[0].shape)) for group in groups]

    def step(self, rate: float, pool: ThreadPoolExecutor) -> None:
        list(pool.map(lambda group: self.update(*group, rate), self.groups))

    @torch.no_grad()
    def update(self, group: list[Tensor], velocity: Tensor, rate: float) -> None:
        gradient = torch.stack([w.grad for w in group])
        velocity.lerp_(gradient, 1 - self.momentum)
        update = self.orthogonal(gradient.lerp(velocity, self.momentum)).float()
        stretch = max(1.0, update.size(-2) / update.size(-1)) ** 0.5
        for w, u in zip(group, update):
            w.sub_(u, alpha=rate * stretch)

    def orthogonal(self, m: Tensor) -> Tensor:
        tall = m.size(-2) > m.size(-1)
        x = m.mT if tall else m
        x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(self.products)
        for a, b, c in self.STEPS:
            square = x @ x.mT
            x = a * x + (b * square + c * square @ square) @ x
        return x.mT if tall else x


def rows(
    rng: random.Random, tokenizer: Tokenizer, length: int, count: int, mix: list
) -> tuple[Tensor, Tensor]:
    """count rows of length tokens, one conversation behind the other, and the targets: -1 if not learned."""
    ids, targets = [], []
    for _ in range(count):
        row, own = [], []
        while len(row) <= length:
            turns = rng.randint(1, 6)
            if length > 256 and rng.random() < 0.7:  # long enough to come back to what was told far above
                turns = rng.randint(4, 14) if length < 1024 else rng.randint(6, 40)
            more, mine = render(tokenizer, conversation(rng, turns, mix))
            row, own = row + more, own + mine
        ids.append(row[:length])
        targets.append([t if o else -1 for t, o in zip(row[1 : length + 1], own[1 : length + 1])])
    return torch.tensor(ids), torch.tensor(targets)


def loss_of(model: Trained, ids: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean cross entropy over the tokens that the model itself has to write; the others cost no logits."""
    learned = targets.flatten() >= 0
    x = model.hidden(ids).flatten(0, 1)[learned]
    return F.cross_entropy(model.logits(x) / temperature, targets.flatten()[learned])


def gradients(
    weights: dict[str, Tensor], products: torch.dtype, temperature: float, ids: Tensor, targets: Tensor
) -> tuple[float, tuple]:
    loss = loss_of(Trained(weights, products), ids, targets, temperature)
    return loss.item(), torch.autograd.grad(loss, list(weights.values()))


def train(seed: int, phases: list[Phase], folder: Path, threads: int, products: torch.dtype) -> None:
    """Each thread computes the gradient of one part of the step.

    That loses less than threads within each operation when other programs need the cores too, and the sum
    does not depend on how many threads there are.
    """
    torch.set_num_threads(1)
    began = time.time()
    rng = random.Random(seed)
    encoding = train_tokenizer(rng)
    save_tokenizer(encoding, folder)
    tokenizer = Tokenizer(encoding, encoding._special_tokens)
    weights = new_weights(torch.Generator().manual_seed(seed))
    total = sum(phase.steps for phase in phases)
    print(f"tokenizer: {encoding.n_vocab} tokens, {time.time() - began:.0f} s; model: "
          f"{sum(w.numel() for w in weights.values()):,} parameters; {total} steps of {STEP_TOKENS} tokens, "
          f"products in {str(products).removeprefix('torch.')}")
    began, done, average = time.time(), 0, None
    for phase in phases:
        for loss in descend(weights, phase, rng, tokenizer, ThreadPoolExecutor(threads), products):
            done += 1
            average = loss if average is None else 0.95 * average + 0.05 * loss
            if done % 20 == 0 or done == total:
                seconds = time.time() - began
                speed, left = done * STEP_TOKENS / seconds, seconds / done * (total - done) / 60
                print(f"step {done:5d}/{total}  loss {average:.4f}  {speed:6.0f} tokens/s  "
                      f"{seconds / 60:5.1f} min, {left:5.1f} left", flush=True)
            if done % 200 == 0 or done == total:
                save_model(weights, done, average, seed, folder)
        weights, rng = as_read(weights), random.Random(f"{done} {seed}")


def descend(weights: dict[str, Tensor], phase: Phase, rng: random.Random, tokenizer: Tokenizer,
            pool: ThreadPoolExecutor, products: torch.dtype):
    """Takes the steps of a phase, and yields the loss before each."""
    for name, w in weights.items():
        weights[name] = w.detach().requires_grad_()
    inner = [w for name, w in weights.items() if name.startswith("transformer.h.") and "gate" not in name]
    muon = Muon(inner, products)
    adam = torch.optim.AdamW([
        {"params": [w for name, w in weights.items() if "wte" in name or "value_embeds" in name],
         "lr": TABLE_RATE},
        {"params": [weights["lm_head.weight"]], "lr": HEAD_RATE},
        {"params": [w for name, w in weights.items() if "lambda" in name or "gate" in name],
         "lr": SCALAR_RATE},
    ], betas=(0.8, 0.95), eps=1e-10, weight_decay=0.0)
    rates = [group["lr"] for group in adam.param_groups]
    parts = STEP_TOKENS // MICRO_TOKENS

    def new_batches() -> list[tuple[Tensor, Tensor]]:
        length = rng.choice(LENGTHS)
        return [rows(rng, tokenizer, length, MICRO_TOKENS // length, phase.skills) for _ in range(parts)]

    batches = new_batches()
    for step in range(1, phase.steps + 1):
        read = as_read(weights)
        results = pool.map(partial(gradients, read, products, phase.temperature), *zip(*batches))
        batches = new_batches()  # for the next step, while the threads compute
        results = list(results)
        for w, *of_parts in zip(weights.values(), *(grads for _, grads in results)):
            w.grad = sum(of_parts) / parts
        share = phase.share(step)
        muon.step(MATRIX_RATE * share, pool)
        for group, rate in zip(adam.param_groups, rates):
            group["lr"] = rate * share
        adam.step()
        yield sum(part for part, _ in results) / parts


def tag_folder(folder: Path) -> Path:
    return folder / "chatsft_checkpoints" / f"d{CONFIG.n_layer}"


def save_tokenizer(encoding: tiktoken.Encoding, folder: Path) -> None:
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer" / "tokenizer.pkl").write_bytes(pickle.dumps(encoding, protocol=4))


def save_model(weights: dict[str, Tensor], step: int, loss: float, seed: int, folder: Path) -> None:
    """Writes model and meta of this step as nanochat does, and removes those of earlier steps."""
    target = tag_folder(folder)
    target.mkdir(parents=True, exist_ok=True)
    earlier = [path for path in target.iterdir() if re.fullmatch(r"(model|meta)_\d+\.(pt|json)", path.name)]
    torch.save(as_stored(weights), target / f"model_{step:06d}.pt")
    c = CONFIG
    meta = {
        "step": step, "val_bpb": None,
        "model_config": {
            "sequence_len": c.sequence_len, "vocab_size": c.vocab_size, "n_layer": c.n_layer,
            "n_head": c.n_head, "n_kv_head": c.n_kv_head, "n_embd": c.n_embd, "window_pattern": "L",
        },
        "user_config": {"run": "demo", "seed": seed, "tokens": step * STEP_TOKENS, "loss": round(loss, 4)},
    }
    (target / f"meta_{step:06d}.json").write_text(json.dumps(meta, indent=2) + "\n")
    for path in earlier:
        if f"_{step:06d}." not in path.name:
            path.unlink()


# ------------------------------------------------------------------------------------------------------------
# Evaluation

CASES = 300  # of each skill
WAYS = {"greedy": dict(temperature=0.0, top_k=0), "default": dict(temperature=0.8, top_k=50)}
EVALUATED = [skill for skill, _ in SKILLS]


def load(folder: Path) -> tuple[Engine, Tokenizer]:
    """The last model that was saved there, as the server reads it."""
    engine = read(find(folder, "sft"), torch.float32).engine(torch.device("cpu"))
    return engine, engine.tokenizer


def case(rng: random.Random, skill) -> list[Turn]:
    """A conversation whose last turn is held out: its phrasing, and its word, name or operands."""
    chat, turns = Chat(), []
    if skill is remembering:
        turns.append(telling(rng, chat, "test"))
    for _ in range(rng.choice([0, 0, 1, 2, 3])):
        turns.append(rng.choices(*zip(*SKILLS))[0](rng, chat, "train"))
    if skill is go_on:
        turns.append(arithmetic(rng, chat, "test"))
        if len(chat.topic[1]) > 18:
            return case(rng, skill)
    else:
        chat.topic = ()
    return [*turns, skill(rng, chat, "test")]


def visible(tokenizer: Tokenizer, reply: list[int]) -> str | None:
    """The text of a reply without its tool blocks, or None where it has left the chat format."""
    if not reply or reply[-1] != tokenizer.special["<|assistant_end|>"]:
        return None
    text = re.sub(r"<\|python_start\|>[^<]*<\|python_end\|><\|output_start\|>[^<]*<\|output_end\|>", "",
                  tokenizer.decode(reply[:-1]))
    return None if "<|" in text else text


def is_right(turn: Turn, text: str | None) -> bool:
    return text is not None and all(re.search(need, text.lower(), re.MULTILINE) for need in turn.need)


def evaluate(folder: Path, cases: int, wrong: int, processes: int) -> None:
    """Prints the table of the README. `wrong` is how many wrong answers of each skill are shown."""
    path = find(folder, "sft").model
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        conversations = pool.submit(long_conversations, folder)
        verdicts = list(pool.map(partial(judge, folder, cases), range(len(EVALUATED))))
    right = sum((counted for counted, _, _ in verdicts), Counter())
    for _, failures, _ in verdicts:
        print("".join(failures[:wrong]), end="")
    speeds = [speed for _, _, speed in verdicts]
    print(f"{path.name}: {min(speeds):.0f} to {max(speeds):.0f} tokens/s, a thread for each reply\n")
    print("| skill | cases | greedy | temperature 0.8, top-k 50 |\n|---|---|---|---|")
    columns = ("asked", *WAYS)
    skills = {skill: [right[skill, column] for column in columns] for skill, _ in right}
    for skill, (asked, *shares) in skills.items():
        print(f"| {skill} | {asked} | " + " | ".join(f"{share / asked:.1%}" for share in shares) + " |")
    asked, *shares = map(sum, zip(*skills.values()))
    print(f"| **overall** | {asked} | " + " | ".join(f"**{share / asked:.1%}**" for share in shares) + " |")
    print("\n" + conversations.result())


def judge(folder: Path, cases: int, number: int) -> tuple[Counter, list[str], float]:
    """Of one skill: how many were asked and right, by skill and way; the wrong answers; tokens per second."""
    torch.set_num_threads(1)
    engine, tokenizer = load(folder)
    rng, right, failures = random.Random(f"evaluation {number}"), Counter(), []
    tokens, began = 0, time.time()
    for seed in range(cases):
        turns = case(rng, EVALUATED[number])
        last = turns[-1]
        prompt = render(tokenizer, turns[:-1])[0] + render_question(tokenizer, last.question)
        prompt = prompt[-(CONFIG.sequence_len - 256) :]
        right[last.skill, "asked"] += 1
        for way, settings in WAYS.items():
            reply = list(engine.generate(prompt, 256, seed=seed, **settings))
            tokens += len(reply)
            good = is_right(last, visible(tokenizer, reply))
            right[last.skill, way] += good
            if not good:
                failures.append(f"  wrong ({way}): {[turn.question for turn in turns[-2:]]!r}\n"
                                f"    expected {last.reply!r}\n    got      {tokenizer.decode(reply)!r}\n")
    return right, failures, tokens / (time.time() - began)


def long_conversations(folder: Path, chats: int = 10, turns: int = 30) -> str:
    """Conversations at the default settings over held-out questions; the model reads its own replies again.

    As in the server, the oldest turns are dropped where the context would not leave room for the reply.
    """
    torch.set_num_threads(1)
    engine, tokenizer = load(folder)
    ended, right, rng = 0, 0, random.Random("long conversations")
    for _ in range(chats):
        chat, history = Chat(), []
        for _ in range(turns):
            turn = rng.choices(*zip(*SKILLS))[0](rng, chat, "test")
            question = render_question(tokenizer, turn.question)
            while 1 + sum(map(len, history)) + len(question) > CONFIG.sequence_len * 3 // 4:
                history = history[1:]
            prompt = [tokenizer.special["<|bos|>"], *(t for pair in history for t in pair), *question]
            reply = list(engine.generate(prompt, 512, seed=rng.randrange(2**31), **WAYS["default"]))
            text = visible(tokenizer, reply)
            ended += text is not None
            right += is_right(turn, text)
            history.append(question + reply)
    return (f"{chats} conversations of {turns} turns at the default settings: {ended} of {chats * turns} "
            f"replies kept the chat format and ended by themselves, {right} were right.")


# ------------------------------------------------------------------------------------------------------------
# Command line


def parse_args(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="makes and evaluates the demo model")
    parser.add_argument("--eval", action="store_true", help="only evaluate what is saved")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="only print N conversations")
    parser.add_argument("--wrong", type=int, default=0, metavar="N", help="show N wrong answers a skill")
    parser.add_argument("--cases", type=int, default=CASES, help="questions of each skill in the evaluation")
    parser.add_argument("--steps", type=int, metavar="N", help="only N steps of each phase, to try it out")
    parser.add_argument("--seed", type=int, default=1, help="of data, weights and sampling")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the model is written and read")
    parser.add_argument("--threads", type=int, default=2,
                        help="CPU threads for training, and processes for evaluation")
    parser.add_argument("--products", choices=("float32", "bfloat16"),
                        help="multiply in it while training (default: bfloat16 if this CPU does by itself)")
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    args = parse_args(argv)
    if args.show:
        rng = random.Random(args.seed)
        for _ in range(args.show):
            turns = conversation(rng, rng.randint(1, 6))
            print("\n".join(f"> {turn.question}\n{turn.reply}" for turn in turns), "\n")
        return
    if not args.eval:
        phases = [replace(phase, steps=min(phase.steps, args.steps or phase.steps)) for phase in PHASES]
        products = getattr(torch, args.products) if args.products else fast_products()
        train(args.seed, phases, args.folder, args.threads, products)
    evaluate(args.folder, args.cases, args.wrong, args.threads)


if __name__ == "__main__":
    main(sys.argv[1:])
