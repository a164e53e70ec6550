"""Token ids in, token ids out: nanochat's model in every shape it has had, KV cache, sampler, calculator.

checkpoint.py turns files into a `Config` and a dict of weights. `GPT` is the forward pass over them. `Engine`
reads a prompt through it once and yields the reply token by token. This file knows nothing of files or HTTP.
It does not batch: one engine writes one reply at a time, and chat_web.py has one engine per GPU. What follows
`Engine` makes it fast, and a first reader may skip it: CPU kernels, then CUDA graphs.

Letters in the shape comments:
    B batch    T tokens in this call    S keys that a query may see, its own included    V vocabulary
    C channels (n_embd)    H query heads    K key/value heads    D channels of one head (C / H)
"""

import ast
import contextlib
import math
import operator
import os
import platform
import random
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import takewhile

import torch
import torch.nn.functional as F
from torch import Tensor

# ---- The transformer ---------------------------------------------------------------------------------------

EPSILON = 2**-23  # of float32, which is what nanochat's RMSNorm has


@dataclass(frozen=True)
class Config:
    """What the weights cannot say by their shapes. Lengths and windows are counted in tokens."""

    sequence_len: int  # the context: prompt and reply together
    vocab_size: int
    n_head: int
    n_kv_head: int
    n_embd: int
    windows: tuple[int | None, ...]  # how many keys before its own a layer's query sees; None is all of them
    rope_base: float = 100_000.0
    rope_bf16: bool = False  # rotary tables are rounded to bfloat16, as training did until March 2026
    qk_scale: float = 1.2
    softcap: float = 15.0
    gate_factor: float = 3.0

    @property
    def n_layer(self) -> int:
        return len(self.windows)

    @property
    def head_dim(self) -> int:
        return self.n_embd // self.n_head

    @property
    def attention_scale(self) -> float:
        """The factor of query times key: each is scaled by qk_scale, and their product by 1 / sqrt(D)."""
        return self.qk_scale**2 / math.sqrt(self.head_dim)


def rotary_tables(config: Config, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin of position * base^(-2c/D), each (sequence_len, 1, D): RoFormer (Su et al. 2021), 3.2.2."""
    exponent = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=device) / config.head_dim
    positions = torch.arange(config.sequence_len, dtype=torch.float32, device=device)
    angle = torch.outer(positions, 1.0 / config.rope_base**exponent)[:, None]
    cos, sin = angle.cos(), angle.sin()
    if config.rope_bf16:
        cos, sin = cos.bfloat16(), sin.bfloat16()
    return torch.cat((cos, cos), dim=-1).to(dtype), torch.cat((sin, -sin), dim=-1).to(dtype)  # for `rotate`


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns the halves (u, w) of each head by minus the angle, nanochat's sign. x is (B, T, heads, D)."""
    return torch.addcmul(x * cos, x.roll(x.size(-1) // 2, dims=-1), sin)  # u cos + w sin, w cos - u sin


class GPT:
    """nanochat's transformer, over a dict of weights with nanochat's names and shapes. It trains as it is."""

    def __init__(self, config: Config, weights: dict[str, Tensor]):
        self.config, self.weights = config, weights  # without those that the model's era did not have yet
        embedding = weights["transformer.wte.weight"]
        self.device, self.dtype = embedding.device, embedding.dtype
        self.cos, self.sin = rotary_tables(config, self.device, self.dtype)
        self.mode, self.hint = "eager", ""  # how it computes, and what would be faster, for the start-up line

    def __call__(self, ids: Tensor, cache: "KVCache | None" = None, last: int = 0) -> Tensor:
        """ids (B, T) int64 -> float32 logits (B, T, V), or (B, last, V). A cache holds what comes before."""
        return self.logits(self.hidden(ids, cache, last))

    def hidden(self, ids: Tensor, cache: "KVCache | None" = None, last: int = 0) -> Tensor:
        """ids (B, T) int64 -> what lm_head reads (B, T, C), or (B, last, C), which needs a cache."""
        assert cache or not last
        w, c, T = self.weights, self.config, ids.size(1)
        positions = cache.positions(T) if cache else torch.arange(T, device=ids.device)
        before = torch.cat((cache.last_token if cache else ids[:, :1], ids[:, :-1]), dim=1)
        turn = self.turning(positions)
        queries = [T] * (c.n_layer - 1) + [min(last or T, T)]  # nobody reads the last layer's other positions
        find_keys = cache.keys_and_mask if cache else partial(keys_and_mask, device=ids.device)
        spans = {(window, n): find_keys(n, T, window) for window, n in set(zip(c.windows, queries))}

        x = self.norm(self.embed("transformer.wte", ids))  # (B, T, C)
        if "smear_gate.weight" in w:
            gate = self.gate(x, "smear_gate.weight") * (positions > 0)[:, None]  # none is before the first
            earlier = self.norm(self.embed("transformer.wte", before))
            x = torch.addcmul(x, w["smear_lambda"][0] * gate, earlier)
        if "bigram_lambdas" in w:
            bigram = self.embed("bigram_embed.embed", self.bigram_rows(ids, before, positions))
        initial = (w["x0_lambdas"].to(x.dtype).view(-1, 1, 1, 1) * x).unbind()  # of all layers at once
        for i, (window, n) in enumerate(zip(c.windows, queries)):
            x = torch.addcmul(initial[i], x, w["resid_lambdas"][i])
            if "bigram_lambdas" in w:
                x = torch.addcmul(x, bigram, w["bigram_lambdas"][i])
            y = self.attention(i, self.norm(x), ids, turn, n, spans[window, n], cache)
            x = self.add_linear(x if n == T else x[:, T - n :], y, f"transformer.h.{i}.attn.c_proj")
            inner = self.linear(self.norm(x), f"transformer.h.{i}.mlp.c_fc").relu_()  # (B, n, 4 C)
            x = self.add_linear(x, inner * inner, f"transformer.h.{i}.mlp.c_proj", sparse=True)
            if i == c.n_layer // 2:
                middle = x
        if "backout_lambda" in w:
            x = torch.addcmul(x, middle[:, -n:], w["backout_lambda"][0], value=-1)
        if cache:
            cache.advance(ids)
        return self.norm(x)

    def attention(self, i: int, a: Tensor, ids: Tensor, turn: Callable, n: int, span: tuple, cache) -> Tensor:
        """Layer i's attention over its normalised input a (B, T, C), of the last n positions -> (B, n, C)."""
        w, c, layer = self.weights, self.config, f"transformer.h.{i}.attn."
        heads = self.qkv(a, layer).view(*a.shape[:2], -1, c.head_dim).to(a.dtype)  # (B, T, H + 2 K, D)
        qk, v = heads.split_with_sizes((c.n_head + c.n_kv_head, c.n_kv_head), 2)
        if f"value_embeds.{i}.weight" in w:
            gated = f"{layer}ve_gate.weight" in w  # per head, or else all by the same share
            share = self.gate(a, f"{layer}ve_gate.weight")[..., None] if gated else w["v0_lambdas"][i]
            embedding = self.embed(f"value_embeds.{i}", ids).view_as(v)
            v = torch.addcmul(v, share, embedding, value=c.gate_factor if gated else 1)
        qk = self.norm(turn(qk).to(cache.dtype if cache else a.dtype))
        qk, v = qk.transpose(1, 2), v.transpose(1, 2)  # (B, heads, T, D)
        q, k = qk.split_with_sizes((c.n_head, c.n_kv_head), 1)
        oldest, mask = span
        if cache:
            k, v = cache.append(i, k, v, oldest)  # (B, K, S, D)
        y = self.attend(q if n == ids.size(1) else q[:, :, -n:], k, v, mask)  # (B, H, n, D)
        return y.to(a.dtype).transpose(1, 2).flatten(-2)

    def qkv(self, a: Tensor, layer: str) -> Tensor:
        """Queries, keys and values side by side: (B, T, C) -> (B, T, (H + 2 K) D)."""
        return torch.cat([self.linear(a, f"{layer}c_{part}") for part in "qkv"], dim=-1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: dict) -> Tensor:
        """Attention of queries (B, H, T, D) over keys and values (B, K, S, D) -> (B, H, T, D)."""
        how = mask | {"scale": self.config.attention_scale, "enable_gqa": q.size(1) != k.size(1)}
        return F.scaled_dot_product_attention(q, k, v, **how)

    def linear(self, x: Tensor, name: str, sparse: bool = False) -> Tensor:
        """x (..., C) times the matrix of that name (N, C) -> (..., N). `sparse`: x has many zeros."""
        return F.linear(x, self.weights[name + ".weight"])

    def norm(self, x: Tensor) -> Tensor:
        """RMSNorm without weights over the last axis (Zhang and Sennrich 2019, equation 4)."""
        return F.rms_norm(x, (x.size(-1),), eps=EPSILON)

    def add_linear(self, x: Tensor, y: Tensor, name: str, sparse: bool = False) -> Tensor:
        return x + self.linear(y, name, sparse)

    def embed(self, name: str, ids: Tensor) -> Tensor:
        """Rows of a table: (B, T) -> (B, T, channels)."""
        return F.embedding(ids, self.weights[name + ".weight"])

    def turning(self, positions: Tensor) -> Callable[[Tensor], Tensor]:
        """What turns queries and keys (B, T, heads, D) at these positions (T,)."""
        return partial(rotate, cos=self.cos[positions], sin=self.sin[positions])

    def gate(self, x: Tensor, name: str) -> Tensor:
        """Numbers from 0 to 1 out of the first channels of x (B, T, C): (B, T, gates)."""
        weight = self.weights[name]
        return torch.sigmoid(F.linear(x[..., : weight.size(1)].to(weight.dtype), weight)).to(x.dtype)

    def bigram_rows(self, ids: Tensor, before: Tensor, positions: Tensor) -> Tensor:
        """Each token's row of the bigram table (B, T), by nanochat's hash. The first token's is the last."""
        last = self.weights["bigram_embed.embed.weight"].size(0) - 1
        exact = "cpu" if ids.device.type == "mps" else ids.device  # MPS rounds whole numbers beyond 2**31
        rows = ((36313 * ids.to(exact)) ^ (27191 * before.to(exact))) % last
        return torch.where(positions > 0, rows.to(ids.device), last)

    def logits(self, x: Tensor) -> Tensor:
        """What `hidden` gives (..., C) -> float32 logits (..., V), softly capped (Gemma 2, section 2)."""
        z = self.linear(x, "lm_head").float()
        return self.config.softcap * torch.tanh(z / self.config.softcap)


# ---- KV cache ----------------------------------------------------------------------------------------------


def causal_mask(queries: Tensor, oldest: int, end: int, window: int | None) -> Tensor:
    """Which keys from `oldest` to `end` the queries at these positions (T,) see: (T, end - oldest) bool."""
    distance = queries[:, None] - torch.arange(oldest, end, device=queries.device)
    seen = distance >= 0
    return seen if window is None or window >= end else seen & (distance <= window)


def keys_and_mask(n: int, S: int, window: int | None, device: torch.device) -> tuple[int, dict]:
    """The oldest of S keys that the last n positions see, and how torch's attention masks the others."""
    oldest = 0 if window is None else max(0, S - n - window)
    if n == 1:
        return oldest, {}
    if n == S and (window is None or n <= window + 1):
        return oldest, {"is_causal": True}
    return oldest, {"attn_mask": causal_mask(torch.arange(S - n, S, device=device), oldest, S, window)}


class KVCache:
    """Keys and values of one sequence, in memory that is allocated once. `length` tokens of it are valid."""

    def __init__(self, config: Config, device: torch.device, dtype: torch.dtype):
        self.dtype = torch.float32 if device.type == "cpu" else dtype  # six times as fast there as bfloat16
        shape = (2, config.n_layer, 1, config.n_kv_head, config.sequence_len, config.head_dim)
        self.both = torch.empty(shape, device=device, dtype=self.dtype)
        self.keys, self.values = self.both.unbind()
        self.layers = list(zip(self.keys.unbind(), self.values.unbind()))
        self.length, self.position = 0, torch.zeros(1, dtype=torch.int64, device=device)  # it, on the device
        self.last_token = torch.zeros((1, 1), dtype=torch.int64, device=device)  # for smear and bigrams

    def rewind(self, length: int, last_token: int = 0) -> None:
        """Forgets all but the first `length` tokens, the last of which is `last_token`."""
        self.length = length
        self.position.fill_(length)
        self.last_token.fill_(last_token)

    def positions(self, T: int) -> Tensor:
        """Where the next T tokens stand: (T,) int64."""
        return self.position if T == 1 else self.position + torch.arange(T, device=self.position.device)

    def keys_and_mask(self, n: int, T: int, window: int | None) -> tuple[int, dict]:
        """As the function, for the last n of the next T tokens."""
        return keys_and_mask(n, self.length + T, window, self.keys.device)

    def append(self, layer: int, k: Tensor, v: Tensor, oldest: int) -> tuple[Tensor, Tensor]:
        """Stores k and v, each (1, K, T, D), and returns all from `oldest` on, each (1, K, S, D)."""
        start, end = self.length, self.length + k.size(2)
        assert end <= self.keys.size(3), f"{end} tokens in a cache of {self.keys.size(3)}"
        keys, values = self.layers[layer]
        keys[:, :, start:end] = k
        values[:, :, start:end] = v
        return keys[:, :, oldest:end], values[:, :, oldest:end]

    def advance(self, ids: Tensor) -> None:
        """Counts ids (1, T), once every layer has stored them."""
        self.length += ids.size(1)
        self.position += ids.size(1)
        self.last_token.copy_(ids[:, -1:])


# ---- Sampling ----------------------------------------------------------------------------------------------

MIN_TEMPERATURE = 1e-6  # a smaller one divides logits into infinities, and the draw is greedy long before


def sample(logits: Tensor, temperature: float, top_k: int, rng: torch.Generator, top_p: float = 1.0) -> int:
    """Draws a token from logits (V,) float32. Temperature 0 takes the largest, top_k 0 keeps all of them."""
    if temperature == 0:
        return int(logits.argmax())
    temperature = max(temperature, MIN_TEMPERATURE)
    if not top_k and top_p >= 1:
        return int(draw(logits, temperature, rng))
    logits, tokens = logits.topk(min(top_k, logits.numel()) or logits.numel())
    return int(tokens[draw(logits, temperature, rng, top_p if top_p < 1 else None)])


def draw(logits: Tensor, temperature, rng: torch.Generator, top_p=None) -> Tensor:
    """The place of the winner, int64 on the device, by the exponential race that torch.multinomial runs too.

    top_p keeps the likeliest, as few as have that share (Holtzman et al. 2019, 3.1); logits must be sorted.
    Both numbers may be tensors: nothing here waits for the device.
    """
    probabilities = F.softmax(logits / temperature, dim=-1)
    if top_p is not None:
        likelier = probabilities.cumsum(0) - probabilities  # the share of the tokens before each
        probabilities[1:].masked_fill_(likelier[1:] >= top_p, 0)
    return (probabilities / exponential_noise(probabilities, rng)).argmax()


def penalize(logits: Tensor, tokens: set[int], penalty: float) -> Tensor:
    """Logits (V,) that make these tokens less likely (Keskar et al. 2019, section 4.1, for both signs)."""
    places = torch.tensor(sorted(tokens), dtype=torch.int64, device=logits.device)
    chosen = logits[places]
    return logits.index_copy(0, places, torch.where(chosen > 0, chosen / penalty, chosen * penalty))


class Token(int):
    """A token of a reply whose details were asked for: an int, and what the model thought at its place."""

    logprob: float | None = None  # natural logarithm of its probability, before temperature and the like
    likeliest: tuple[tuple[int, float], ...] = ()  # tokens and their logprobs, the likeliest first
    forced = False  # it is of the calculator's answer

    @classmethod
    def of(cls, tokens: list[int], logits: Tensor, count: int, forced: list[bool]) -> list["Token"]:
        """Tokens (T,) by the logits (T, V) at their places, each with its `count` likeliest."""
        logprobs = logits.log_softmax(-1)
        own = logprobs.gather(1, torch.tensor(tokens, device=logits.device)[:, None]).flatten().tolist()
        values, ids = (part.tolist() for part in logprobs.topk(min(count, logits.size(1))))
        found = [cls(token) for token in tokens]
        for i, token in enumerate(found):
            token.logprob, token.likeliest, token.forced = own[i], (*zip(ids[i], values[i]),), forced[i]
        return found


def exponential_noise(like: Tensor, rng: torch.Generator) -> Tensor:
    noise = torch.empty_like(like).exponential_(1, generator=rng)
    if like.device.type == "mps":  # there torch up to 2.13 yields -0.0 at times, by which nobody may divide
        noise.clamp_(min=2**-25)  # a tinier floor would let junk win
    return noise


# ---- The calculator ----------------------------------------------------------------------------------------

OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
             ast.FloorDiv: operator.floordiv, ast.UAdd: operator.pos, ast.USub: operator.neg}  # fmt: skip
MAX_EXPRESSION = 1000  # characters; with no power among the operators, this bounds digits and work as well
LITERAL = r"'[^'\\\n]*'|\"[^\"\\\n]*\""  # no backslashes: nobody agrees what they would count


def calculate(expression: str) -> str | None:
    """The text that answers an expression as Python would print it, or None where there is no answer.

    There are two forms: arithmetic (+ - * / // and parentheses over decimal numbers, whose commas are
    dropped) and one string literal's .count() of another. Nothing is executed: `evaluate` walks a tree.
    """
    if len(expression) > MAX_EXPRESSION:
        return None
    text = re.sub(rf"({LITERAL})|,", lambda match: match[1] or "", expression).strip(" ")
    outside = re.sub(LITERAL, "", text)
    arithmetic = outside == text and re.fullmatch(r"[0-9+\-*/.() ]+", text) and "**" not in text
    if not arithmetic and re.sub(r"[ ()]", "", outside) != ".count":
        return None
    try:
        answer = evaluate(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        return None  # not an expression, a division by zero, or nested deeper than the parser goes
    return None if isinstance(answer, float) and not math.isfinite(answer) else str(answer)


def evaluate(tree: ast.AST) -> int | float:
    """What a syntax tree computes. ValueError for any node that is not on the list."""
    match tree:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            return OPERATORS[type(op)](evaluate(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](evaluate(left), evaluate(right))
        case ast.Call(ast.Attribute(ast.Constant(str(text)), "count"), [ast.Constant(str(part))], []):
            return text.count(part)
    raise ValueError(f"the calculator knows no {type(tree).__name__}")


class Calculator:
    """Watches a reply for expressions between the python markers; an answer waits in `forced` as tokens."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.expression: list[int] | None = None  # None outside of a block
        self.forced: deque[int] = deque()
        self.said: set[int] = set()  # every token of the reply

    def resume(self, prompt: list[int]) -> list[bool]:
        """Takes note of the reply's beginning, if the prompt ends in one: which of its tokens were forced."""
        start = self.tokenizer.special["<|assistant_start|>"]
        begun = next((n for n in range(len(prompt), 0, -1) if prompt[n - 1] == start), len(prompt))
        return [False] * begun + [self.see(token) for token in prompt[begun:]]

    def see(self, token: int) -> bool:
        """Takes note of the reply's next token, and says whether it is the one that was forced."""
        special = self.tokenizer.special
        self.said.add(token)
        forced = bool(self.forced) and self.forced.popleft() == token
        if not forced:
            self.forced.clear()  # in a beginning that was given it may be anything
        if token == special["<|python_start|>"]:
            self.expression = []
        elif self.expression is not None and token != special["<|python_end|>"]:
            self.expression.append(token)
        elif self.expression is not None:
            answer = calculate(self.tokenizer.decode(self.expression))
            self.expression = None
            if answer is not None:
                self.forced += [special["<|output_start|>"], *self.tokenizer.encode(answer)]
                self.forced.append(special["<|output_end|>"])
        return forced


# ---- Engine ------------------------------------------------------------------------------------------------

ECHOED = 64  # tokens of a prompt whose logits are held at a time
CHUNK = 512  # tokens of a prompt that are read between two looks at whether anyone still wants the reply


def speak_for(device: torch.device) -> None:
    """Makes a GPU this thread's own: a fault of device 0, which all threads begin with, would be theirs."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


class Engine:
    """Writes replies with one model, one after the other, and keeps the KV cache of what it read last.

    The tokenizer has `special` (name -> id), `stops` (ids that end a reply), `encode`, `decode`, `fit_prompt`
    and `stream_text`. `graphs` says whether steps are recorded; None means on CUDA alone.
    """

    def __init__(self, model: GPT, tokenizer, graphs: bool | None = None):
        speak_for(model.device)
        self.model, self.tokenizer = model, tokenizer
        self.context = model.config.sequence_len
        self.cache = KVCache(model.config, model.device, model.dtype)
        self.rng = torch.Generator(model.device)
        self.cached: list[int] = []  # the tokens in the cache
        self.reused = 0  # how many of the newest prompt's tokens were there already
        self.reply_id = 0  # of the newest reply that has begun
        self.graphs, self.mode = None, model.mode
        eager = os.environ.get("CHAT_WEB_EAGER", "0") not in ("", "0")
        if graphs or graphs is None and model.device.type == "cuda" and not eager:
            try:
                self.graphs = GraphDecoder(model, self.cache, self.rng)
                self.mode = f"{len(self.graphs.steps)} CUDA graphs"
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, AttributeError) as error:  # of a torch, driver or model that cannot record
                self.go_eager(error)

    def chat(self, messages, max_tokens=512, temperature=0.8, top_k=50, top_p=1.0, seed=None):
        """Yields the text of a reply piece by piece.

        messages is one text of the user, or a list of {"role": ..., "content": ...}. The oldest turns of a
        conversation that is too long are left out. Raises ValueError if the newest message alone is too long.
        """
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        prompt, _ = self.tokenizer.fit_prompt(messages, self.context, max_tokens)
        tokens = self.generate(prompt, max_tokens, temperature, top_k, seed, top_p)
        return filter(None, self.tokenizer.stream_text(tokens))

    def generate(self, prompt: list[int], max_tokens: int, temperature=0.0, top_k=0, seed=None, top_p=1.0,
                 check=None, repetition_penalty=1.0, details=None, echo=None) -> Iterator[int]:  # fmt: skip
        """Yields the tokens of a reply, a final stop token included. It begins at the first `next`.

        It ends after <|assistant_end|> or <|bos|>, after max_tokens, or when the context is full. Temperature
        0 takes the likeliest token, top_k 0 keeps all, and a repetition_penalty above 1 makes the reply's own
        tokens less likely. With `details` each is a `Token` with so many of the likeliest, and with `echo`
        those of the prompt come first, from that place on. `check` is called between chunks of a prompt and
        may raise. Raises ValueError, at the call, for a prompt that is empty or too long, and RuntimeError to
        whoever reads on when a newer reply has begun.

        A seed gives the same reply each time, on the same machine and torch: its prompt is read from an empty
        cache. Without one the seed is random, and what the cache shares with the prompt is not read again,
        which moves logits by rounding errors. A greedy reply stays the same in float32; in bfloat16 it may
        turn where two tokens are about equally likely.
        """
        room = self.context - len(prompt)
        if not prompt or room < 0:
            raise ValueError(f"a prompt of {len(prompt)} tokens, where the context holds 1 to {self.context}")
        settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        asked = (check, repetition_penalty, details, len(prompt) if echo is None else echo)
        return self.reply(prompt, min(max_tokens, room), settings, seed, *asked)

    @torch.inference_mode()
    def reply(self, prompt: list[int], budget: int, settings: dict, seed: int | None, check: Callable | None,
              penalty: float, details: int | None, echo: int) -> Iterator[int]:  # fmt: skip
        calculator = Calculator(self.tokenizer)
        forced = calculator.resume(prompt)
        reply_id = self.begin(prompt, max(echo, 1), settings, seed)
        if echo == 0:
            yield Token(prompt[0])  # nothing comes before it
        for place in range(max(echo, 1), len(prompt), ECHOED):
            self.go_on_with(reply_id)
            if check:
                check()
            known = prompt[place : place + ECHOED]
            logits = self.read(prompt[len(self.cached) : place + len(known) - 1], check, len(known))
            yield from Token.of(known, logits, details or 0, forced[place:])
        unread = prompt[len(self.cached) :]  # the model reads these when its next token is needed
        for _ in range(budget):
            self.go_on_with(reply_id)
            token = known = calculator.forced[0] if calculator.forced else None  # forced ones need no logits
            if known is None and penalty == 1 and details is None and self.graphs:
                token, unread = self.next_ahead(unread, check), []
            elif known is None or details is not None:
                logits, unread = self.logits_after(unread, check), []
                if known is None:
                    z = logits if penalty == 1 else penalize(logits, calculator.said, penalty)
                    token = int(self.graphs.draw(z)) if self.graphs else sample(z, rng=self.rng, **settings)
                if details is not None:
                    (token,) = Token.of([token], logits[None], details, [known is not None])
            calculator.see(token)
            yield token
            if token in self.tokenizer.stops:
                return
            unread.append(token)

    def begin(self, prompt: list[int], first: int, settings: dict, seed: int | None) -> int:
        """Makes ready for a reply, whose number it returns. Logits are wanted from the first-th token on."""
        speak_for(self.model.device)
        self.reply_id += 1
        self.reused = min(self.shared_prefix(prompt), first - 1) if seed is None else 0
        del self.cached[self.reused :]
        self.cache.rewind(self.reused, prompt[self.reused - 1])
        self.seed = random.getrandbits(31) if seed is None else seed
        self.rng.manual_seed(self.seed)
        if self.graphs:
            self.graphs.begin(**settings)
        return self.reply_id

    def go_on_with(self, reply_id: int) -> None:
        if self.reply_id != reply_id:
            raise RuntimeError("this reply has been overtaken: its engine has begun a newer one")

    def shared_prefix(self, prompt: list[int]) -> int:
        """How many of a prompt's first tokens are cached. The last is always read: its logits are wanted."""
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self.cached, prompt[:-1])))

    def next_ahead(self, unread: list[int], check: Callable | None) -> int:
        """The token behind what is unread, by recorded steps, one of which is under way already."""
        if self.graphs.pending and unread == [int(self.graphs.token)]:
            self.cached += unread
        else:
            self.graphs.draw(self.logits_after(unread, check))
        return self.graphs.next_token()

    def logits_after(self, unread: list[int], check: Callable | None) -> Tensor:
        """Reads what is unread -> logits (V,), by a recorded step if there is one for it."""
        if self.graphs and len(unread) == 1 and self.cache.length == len(self.cached):
            self.cached += unread
            return self.graphs.read(unread[0])
        return self.read(unread, check)[-1]

    def read(self, ids: list[int], check: Callable | None, last: int = 1) -> Tensor:
        """Reads ids into the cache, in chunks so that memory stays flat -> logits (last, V)."""
        if self.cache.length != len(self.cached):  # a recorded step may have read a token that did not count
            self.cache.rewind(len(self.cached), self.cached[-1])
        for end in range(len(ids) % CHUNK or CHUNK, len(ids) + 1, CHUNK):  # the first may be a short one
            if end > CHUNK and check:
                check()
            chunk = ids[max(0, end - CHUNK) : end]
            x = self.model.hidden(torch.tensor([chunk], device=self.model.device), self.cache, last)
            self.cached += chunk
        return self.model.logits(x[0])

    def restart(self) -> None:
        """After a failure: forgets everything and goes on, without graphs if need be. Raises if it cannot."""
        try:
            list(self.generate([0], 2))  # of a prompt of one token nothing is reused
            if self.model.device.type == "cuda":
                torch.cuda.synchronize(self.model.device)  # raises what went wrong before, too
        except RuntimeError as error:
            if not self.graphs:
                raise
            self.go_eager(error)
            self.restart()

    def go_eager(self, error: Exception) -> None:
        """Drops all graphs, as torch 2.12 to 2.14 free with one of them memory that the others share."""
        while error.__context__:
            error = error.__context__  # the first of a chain says what was wrong
        self.graphs, self.mode = None, "eager, since CUDA graphs failed: " + str(error).partition("\n")[0]
        if self.model.device.type == "cuda":
            with contextlib.suppress(RuntimeError):  # it may refuse after a failed recording
                torch.cuda.empty_cache()


# ---- From here on it is about speed, and a first reader may stop. CPU kernels, and what MPS needs ----------


def native_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16 matrices."""
    flags = getattr(torch.cpu, "get_capabilities", dict)()  # older torch knows one flag, or none
    one_flag = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return one_flag or bool(flags.get("amx_bf16") or flags.get("bf16"))  # the latter on Arm


def emulates_bfloat16(device: torch.device) -> bool:
    """Whether a GPU has no instructions for it, as before compute capability 8.0 (T4, V100)."""
    return torch.cuda.get_device_capability(device) < (8, 0)


class FastGPT(GPT):
    """The same function as engines run it: q, k and v are one matrix, and on x86-64 CPUs matrices are tiled.

    It takes the dict of weights over and changes it, so that no layer is held twice. On a CPU a decode step
    is float32 but for the products of matrices: one token is added, normed and attended faster so.
    """

    def __init__(self, config: Config, weights: dict[str, Tensor]):
        super().__init__(config, weights)
        self.on_cpu = self.device.type == "cpu"
        tiles = self.on_cpu and platform.machine() in ("x86_64", "AMD64")  # nobody has measured other CPUs
        slow = self.on_cpu and self.dtype == torch.bfloat16 and not native_bfloat16()
        self.prefill_dtype = torch.float32 if slow else self.dtype
        self.mode = "tiled matrices" if tiles else "plain matrices" if self.on_cpu else "eager"
        if slow and not tiles:
            self.hint = "; -d float32 is faster here"
        if self.device.type == "cuda" and self.dtype == torch.bfloat16 and emulates_bfloat16(self.device):
            self.hint = "; this GPU emulates bfloat16, and -d float32 may be faster"
        for i in range(config.n_layer):
            qkv = f"transformer.h.{i}.attn.c_qkv.weight"
            weights[qkv] = torch.cat([weights.pop(qkv.replace("qkv", part)) for part in "qkv"])
        for name in [name for name in weights if tiles and (".c_" in name or name == "lm_head.weight")]:
            weights[name] = tile_rows(weights[name])
        self.step_dtype = torch.float32 if self.on_cpu else self.dtype
        self.epsilon = torch.tensor(EPSILON)
        self.cos, self.sin = rotary_tables(config, self.device, self.step_dtype)
        for name in [name for name in weights if "_gate" in name]:
            weights[name] = weights[name].to(self.step_dtype)
        self.identity = torch.eye(config.head_dim, device=self.device, dtype=self.step_dtype)

    def embed(self, name: str, ids: Tensor) -> Tensor:
        rows = super().embed(name, ids)
        return rows.to(self.step_dtype) if ids.size(1) == 1 else rows

    def qkv(self, a: Tensor, layer: str) -> Tensor:
        return self.linear(a, layer + "c_qkv")

    def linear(self, x: Tensor, name: str, sparse: bool = False) -> Tensor:
        weight = self.weights[name + ".weight"]
        if weight.dim() == 2:
            return F.linear(x.to(weight.dtype), weight)
        return tiled_linear(x, weight, sparse, self.prefill_dtype)

    def add_linear(self, x: Tensor, y: Tensor, name: str, sparse: bool = False) -> Tensor:
        if self.on_cpu:
            return super().add_linear(x, y, name, sparse)
        weight = self.weights[name + ".weight"]
        return torch.addmm(x.flatten(0, 1), y.flatten(0, 1), weight.t()).view_as(x)  # one kernel on GPUs

    def turning(self, positions: Tensor) -> Callable[[Tensor], Tensor]:
        turn = super().turning(positions)  # of one token it is one product
        return turn if len(positions) > 1 else partial(torch.matmul, other=turn(self.identity)[0])

    def norm(self, x: Tensor) -> Tensor:
        if not self.on_cpu:
            return super().norm(x)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        factor = torch.addcmul(self.epsilon, length, length, value=1 / x.size(-1)).rsqrt()
        return x * factor if x.dtype == torch.float32 else (x * factor).to(x.dtype)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: dict) -> Tensor:
        """With one query, to attention the heads of a group are queries of one head."""
        grouped = q if q.size(2) > 1 else q.view(q.size(0), k.size(1), -1, q.size(3))
        if self.on_cpu and q.size(2) == q.size(0) == 1 and not mask:
            return attend_one(grouped, k, v, self.config.attention_scale).view_as(q)
        if self.device.type == "mps":
            return attend_on_mps(grouped * self.config.attention_scale, k, v, **mask).view_as(q)
        return super().attend(grouped, k, v, mask).view_as(q)


TILE_COLUMNS = {torch.float32: 384, torch.bfloat16: 128}  # at most: as read fastest where it was measured
PREFILL_ROWS = 128  # from so many rows on, tiles are multiplied one by one
MIN_SPARSE_BYTES = 2**20  # a smaller matrix is read sooner than the zeros are found
MAX_USED_SHARE = 0.4  # of a matrix's rows; to read more of them, here and there, takes as long as to read all
# Of a table's rows. Torch's kernel for it reads about as fast as the memory; those for products do not.
weighted_sums = partial(torch.embedding_bag, mode=0, include_last_offset=True)


def tile_rows(weight: Tensor) -> Tensor:
    """A matrix (N, C) in tiles of some rows, each transposed: (tiles, C, width). Whole if they were tiny."""
    N, C = weight.shape
    widest = max(32, min(TILE_COLUMNS[weight.dtype], N // torch.get_num_threads()))  # a tile for each
    width = max(n for n in range(1, widest + 1) if N % n == 0)
    return weight if width < 16 else weight.view(-1, width, C).transpose(1, 2).contiguous()


def tiled_linear(x: Tensor, tiles: Tensor, sparse: bool, prefill_dtype: torch.dtype) -> Tensor:
    """x (..., C) times tiles (tiles, C, width) -> (..., N), in prefill_dtype from PREFILL_ROWS rows on."""
    shape, rows = x.shape[:-1], x.numel() // x.size(-1)
    if rows == 1:
        return matvec(x.view(-1), tiles, sparse).view(*shape, -1)
    if rows < PREFILL_ROWS:
        return torch.matmul(x.reshape(rows, -1).to(tiles.dtype), tiles).transpose(0, 1).reshape(*shape, -1)
    wide = x.reshape(rows, -1).to(prefill_dtype)
    y = wide.new_empty(rows, tiles.size(0), tiles.size(2))
    for part, tile in zip(y.unbind(1), tiles):
        torch.mm(wide, tile.to(prefill_dtype), out=part)
    return y.view(*shape, -1)


def matvec(x: Tensor, tiles: Tensor, sparse: bool) -> Tensor:
    """One row x (C,) times tiles (tiles, C, width): (tiles, width). With `sparse` none is negative."""
    count, C, width = tiles.shape
    rows, starts = places(count, 1, C, C)
    if sparse and tiles.nbytes >= MIN_SPARSE_BYTES and x.sign().sum(dtype=torch.float32) < MAX_USED_SHARE * C:
        used = x.nonzero().view(-1)
        rows, starts = rows.view(count, C).index_select(1, used).view(-1), starts // C * len(used)
        x = x.index_select(0, used)  # rows times zero are not read
    amounts = torch.cat([x.to(tiles.dtype)] * count)
    return weighted_sums(tiles.view(-1, width), rows, starts, per_sample_weights=amounts)[0]


@lru_cache(64)
def places(sums: int, share: int, stride: int, length: int) -> tuple[Tensor, Tensor]:
    """The rows of sums over `length` rows of a table each, and where in them each begins, and the end."""
    first = torch.arange(sums, dtype=torch.int32) // share * stride  # `share` sums are over the same rows
    rows = first[:, None] + torch.arange(length, dtype=torch.int32)
    return rows.view(-1), torch.arange(sums + 1, dtype=torch.int32) * length


def attend_one(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Attention of one position's queries (1, K, H / K, D) to keys and values (1, K, S, D): (H, D)."""
    (_, K, G, D), S = q.shape, k.size(2)
    scores = torch.baddbmm(q.new_empty(()), k[0], q[0].transpose(1, 2), beta=0, alpha=scale)  # (K, S, H / K)
    amounts = scores.transpose(1, 2).softmax(-1).reshape(-1)
    stride = v.stride(1) // D  # rows of the table from one head's values to the next
    table = v.as_strided(((K - 1) * stride + S, D), (D, 1))  # which a CPU reads faster than attention would
    return weighted_sums(table, *places(K * G, G, stride, S), per_sample_weights=amounts)[0]


def attend_on_mps(q: Tensor, k: Tensor, v: Tensor, attn_mask=None, is_causal=False) -> Tensor:
    """scaled_dot_product_attention of scaled queries, which several releases of torch do wrongly on MPS.

    Some see keys to come, in bfloat16 (pytorch issue 195910); others read beyond the last of many (174861).
    """
    (B, H, T, D), K, S = q.shape, k.size(1), k.size(2)
    if is_causal:
        attn_mask = causal_mask(torch.arange(T, device=q.device), 0, S, None)
    scores = (q.reshape(B, K, -1, D) @ k.mT).float().view(B, H, T, S)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    return (scores.softmax(-1).to(v.dtype).view(B, K, -1, S) @ v).view(B, H, T, D)


# ---- CUDA decoding -----------------------------------------------------------------------------------------

SORTED_LOGITS = 256  # a recorded draw sorts so many of the likeliest tokens; for a larger top_k it sorts all
STRIDE = 256  # positions that one recorded step serves, or a sixteenth of the context where that is more
RECORDING = threading.Lock()  # CUDA records one graph at a time, whichever its device


class StepCache:
    """A KVCache as steps from `start` to `end` see it: only the device knows at which position they are."""

    def __init__(self, cache: KVCache, start: int, end: int):
        self.cache, self.start, self.end = cache, start, end
        self.dtype, self.positions, self.last_token = cache.dtype, cache.positions, cache.last_token

    def keys_and_mask(self, n: int, T: int, window: int | None) -> tuple[int, dict]:
        oldest = 0 if window is None else max(0, self.start - window)
        oldest = oldest // 64 * 64  # kernels want masks aligned, and of numbers: layers would convert bools
        mask = torch.where(causal_mask(self.cache.position, oldest, self.end, window), 0.0, -torch.inf)
        return oldest, {"attn_mask": mask.to(self.dtype)}

    def append(self, layer: int, k: Tensor, v: Tensor, oldest: int) -> tuple[Tensor, Tensor]:
        keys, values = self.cache.layers[layer]
        keys.index_copy_(2, self.cache.position, k)
        values.index_copy_(2, self.cache.position, v)
        return keys[:, :, oldest : self.end], values[:, :, oldest : self.end]

    def advance(self, ids: Tensor) -> None:
        self.cache.position += 1
        self.last_token.copy_(ids)


class GraphDecoder:
    """Decodes on the device alone: the next token is being computed while the last one is being sent.

    A step, from token to token, is recorded once as CUDA graphs; a launch or two then start all its kernels.
    On a CPU it runs unrecorded, which only tests ask for. Raises RuntimeError for what cannot be recorded, or
    computes something else afterwards.
    """

    def __init__(self, model: GPT, cache: KVCache, rng: torch.Generator):
        self.model, self.cache, self.rng = model, cache, rng
        self.on_cuda = model.device.type == "cuda"
        self.context = model.config.sequence_len
        self.stride = max(STRIDE, self.context // 16)
        self.token = torch.zeros((1, 1), dtype=torch.int64, pin_memory=self.on_cuda)  # on the host
        if self.on_cuda:  # graphs run in turn, and share one memory only if they are recorded on one stream
            self.memory, self.stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream(model.device)
            self.arrived = torch.cuda.Event()
        cache.both.zero_()
        number = partial(torch.zeros, device=model.device)
        self.ids = torch.zeros_like(cache.last_token)
        self.logits = number(model.config.vocab_size)
        self.temperature, self.top_p, self.top_k = number(()), number(()), number((), dtype=torch.int64)
        self.steps, self.draws = [], {}
        with torch.inference_mode():
            for start in range(0, self.context, self.stride):
                cache.rewind(start)  # for the warm-up: a query that sees no key has no answer
                self.steps.append(self.record(partial(self.step, start)))
            for kind in ("greedy", "all", "few", "sorted"):
                self.draws[kind] = self.record(partial(self.choose, kind))
            self.compare()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """A function that does the work with one launch."""
        if not self.on_cuda:
            return work
        with RECORDING, torch.cuda.device(self.model.device):
            graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
            self.stream.wait_stream(current)
            with torch.cuda.stream(self.stream):
                work()  # libraries allocate what they need at their first call, which a recording must not
            current.wait_stream(self.stream)
            graph.register_generator_state(self.rng)
            with torch.cuda.stream(self.stream):  # torch.cuda.graph does not leave it if its end fails
                graph.capture_begin(self.memory, capture_error_mode="thread_local")
                try:
                    work()
                finally:
                    self.end_capture(graph)
        return graph.replay

    def end_capture(self, graph) -> None:
        """Ends a recording. Where that fails, the allocator would record on, for the whole process."""
        try:
            graph.capture_end()
        except RuntimeError:
            with contextlib.suppress(RuntimeError, AttributeError):
                torch._C._cuda_endAllocateToPool(self.model.device.index, self.memory)
            raise

    def step(self, start: int) -> None:
        """Reads the token in `ids` into the cache, at `start` or up to a stride later -> `logits`."""
        cache = StepCache(self.cache, start, min(start + self.stride, self.context))
        self.logits.copy_(self.model(self.ids, cache)[0, -1])

    def choose(self, kind: str) -> None:
        """Draws from the logits into `ids`, as `sample` does."""
        if kind == "greedy":
            token = self.logits.argmax()
        elif kind == "all":
            token = draw(self.logits, self.temperature, self.rng)
        else:
            V = self.logits.numel()
            likeliest, tokens = self.logits.topk(min(SORTED_LOGITS, V) if kind == "few" else V)
            ranks = torch.arange(likeliest.numel(), device=self.model.device)
            kept = likeliest.masked_fill(ranks >= self.top_k, -torch.inf)
            token = tokens.index_select(0, draw(kept, self.temperature, self.rng, self.top_p).view(1))
        self.ids.copy_(token)

    def compare(self) -> None:
        """RuntimeError if steps compute something else than the model, behind a prefix or at the end."""
        for place in {min(5, self.context - 1), self.context - 1}:
            if not self.difference(place) <= 0.5:  # far more than rounding, less than a fault
                raise RuntimeError("a recorded step computes something else than the model")

    def difference(self, place: int) -> float:
        """By how much the logits of a recorded step at this position differ at most from the model's own."""
        ids = torch.arange(place + 1, device=self.model.device)[None] % self.logits.numel()
        self.cache.rewind(0)
        for start in range(0, place, CHUNK):
            self.model(ids[:, start : min(start + CHUNK, place)], self.cache, last=1)
        found = self.read(int(ids[0, place]))
        self.cache.rewind(place, int(ids[0, place - 1]))
        return float((found - self.model(ids[:, place:], self.cache)[0, -1]).abs().max())

    def begin(self, temperature: float, top_k: int, top_p: float) -> None:
        """A new reply. A step that is still under way was the last one's and counts for nothing."""
        self.pending = False  # whether a step is under way whose token nobody has asked for yet
        self.cache.both[..., self.cache.length :, :] = 0  # there may be NaNs, which no mask hides
        sorts = "few" if 0 < top_k <= SORTED_LOGITS else "sorted"
        self.kind = "greedy" if temperature == 0 else "all" if not top_k and top_p >= 1 else sorts
        self.temperature.fill_(max(temperature, MIN_TEMPERATURE))
        self.top_k.fill_(top_k or self.logits.numel())
        self.top_p.fill_(top_p if top_p < 1 else 2.0)  # 2 keeps all: a sum that rounds to 1 would not

    def read(self, token: int) -> Tensor:
        """One step alone -> the logits (V,) behind a token."""
        self.ids.fill_(token)
        self.run_step()
        return self.logits.clone()

    def run_step(self) -> None:
        self.steps[self.cache.length // self.stride]()
        self.cache.length += 1

    def draw(self, logits: Tensor) -> Tensor:
        """The token (1, 1) that is drawn from logits (V,)."""
        if self.pending:
            self.rng.set_state(self.before)  # the draw of the step under way did not count
        self.logits.copy_(logits)
        self.draws[self.kind]()
        return self.ids

    def next_token(self) -> int:
        """The token that was drawn last, once the step that follows it is under way."""
        self.token.copy_(self.ids, non_blocking=True)
        if self.on_cuda:
            self.arrived.record(torch.cuda.current_stream(self.model.device))
        self.pending = self.cache.length < self.context
        if self.pending:
            self.before = self.rng.get_state()
            self.run_step()
            self.draws[self.kind]()
        if self.on_cuda:
            self.arrived.synchronize()
        return int(self.token)
