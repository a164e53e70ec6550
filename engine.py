"""Token ids in, token ids out: nanochat's model in every shape it has had, with cache, sampler and calculator.

checkpoint.py turns files into a `Config` and a dict of weights; `GPT` is the forward pass over them; `Engine` reads
a prompt through it once and yields the reply token by token. This file knows nothing of files or HTTP, and of threads
only that CUDA records for one at a time. It does not batch: one engine writes one reply at a time, and chat_web.py has
one engine per GPU. Only the benchmark at its end, `python engine.py`, looks at the other files, to choose a model as
they do.

Letters in the shape comments:
    B batch    T tokens in this call    S tokens seen so far, or those in reach, these included    V vocabulary
    C channels (n_embd)    H query heads    K key/value heads    D channels of one head (C / H)
"""

import argparse
import ast
import contextlib
import json
import math
import operator
import re
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import cycle, islice, takewhile

import torch
import torch.nn.functional as F
from torch import Tensor

# ------------------------------------------------------------------------------------------------------------
# The model


@dataclass(frozen=True)
class Config:
    """What the weights cannot say by their shapes. Lengths and windows are counted in tokens."""

    sequence_len: int  # the context: prompt and reply together
    vocab_size: int
    n_head: int
    n_kv_head: int
    n_embd: int
    windows: tuple[int | None, ...]  # a layer's query sees this many keys before its own; None is all of them
    rope_base: float = 100_000.0
    rope_bf16: bool = False  # rotary tables rounded to bfloat16, as they were trained until March 2026
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
    def scale(self) -> float:
        """Of the products of queries and keys."""
        return self.qk_scale**2 / math.sqrt(self.head_dim)


EPSILON = 2**-23  # of float32, which is what nanochat's RMSNorm has


def norm(x: Tensor) -> Tensor:
    """RMSNorm without weights over the last axis (Zhang and Sennrich 2019, equation 4)."""
    C = x.size(-1)
    if x.device.type != "cpu":
        return F.rms_norm(x, (C,), eps=EPSILON)  # which on a CPU takes up to ten times as long as what follows
    if x.numel() == C and not x.requires_grad:
        return x * (float(torch.linalg.vector_norm(x, dtype=torch.float32)) ** 2 / C + EPSILON) ** -0.5
    wide = x.float()
    mean = torch.linalg.vecdot(wide, wide).unsqueeze(-1) / C
    return (wide * (mean + EPSILON).rsqrt()).to(x.dtype)


def rotary_tables(config: Config, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin of position * base^(-2c/D), each (sequence_len, 1, D): twice side by side, to fill a head.

    The second sines are negated, for `rotate`. The frequencies are those of RoFormer (Su et al. 2021, section 3.2.2).
    """
    exponent = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=device) / config.head_dim
    positions = torch.arange(config.sequence_len, dtype=torch.float32, device=device)
    angle = torch.outer(positions, 1.0 / config.rope_base**exponent)[:, None]
    cos, sin = angle.cos(), angle.sin()
    if config.rope_bf16:
        cos, sin = cos.bfloat16(), sin.bfloat16()
    return torch.cat((cos, cos), dim=-1).to(dtype), torch.cat((sin, -sin), dim=-1).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns the halves (u, w) of each head by minus the angle, nanochat's sign: (B, T, heads, D) -> the same."""
    return torch.addcmul(x * cos, x.roll(x.size(-1) // 2, dims=-1), sin)  # u cos + w sin, w cos - u sin


SPARSE = 2**20  # bytes: a smaller matrix is read sooner than the zeros are found
USED = 0.4  # share of a matrix's rows; to read more of them, here and there, takes as long as all of them in a row
MANY = 128  # from so many rows on, the parts of a cut matrix are multiplied one by one
WIDEST_PART = {torch.float32: 384, torch.bfloat16: 128}  # columns; as read soonest where it was measured


def linear(x: Tensor, weight: Tensor, sparse: bool = False, widens: bool = False) -> Tensor:
    """x (..., C) times a matrix (N, C), or what `cut` made of one: (..., N).

    `sparse` says that x has many zeros; `widens`, that from MANY rows on the product is in float32, whatever the dtype.
    """
    shape, rows = x.shape[:-1], x.numel() // x.size(-1)
    if weight.dim() == 3 and rows < MANY:
        if rows == 1:
            return gather(x.view(-1), weight, sparse).view(*shape, -1)
        return torch.matmul(x.reshape(rows, -1), weight).transpose(0, 1).reshape(*shape, -1)
    wide = x.float() if widens and rows >= MANY else x
    if weight.dim() == 2:
        return F.linear(wide, weight.to(wide.dtype)).to(x.dtype)
    wide = wide.reshape(rows, -1)
    y = wide.new_empty(rows, weight.size(0), weight.size(2))  # (rows, parts, width)
    for part, matrix in zip(y.unbind(1), weight):
        torch.mm(wide, matrix.to(wide.dtype), out=part)
    return y.view(*shape, -1).to(x.dtype)


def cut(weight: Tensor) -> Tensor:
    """A matrix (N, C) cut into parts of some rows, each of them turned: (parts, C, width).

    There are as many parts as threads, or more, unless they would be narrower than 32. Where N has no divisor that is
    small enough, and at least 16, the matrix stays whole.
    """
    N, C = weight.shape
    widest = max(32, min(WIDEST_PART[weight.dtype], N // torch.get_num_threads()))
    width = max(n for n in range(1, widest + 1) if N % n == 0)
    return weight if width < 16 else weight.view(-1, width, C).transpose(1, 2).contiguous()


def gather(x: Tensor, parts: Tensor, sparse: bool) -> Tensor:
    """One row x (C,) times a cut matrix (parts, C, width): (parts, width).

    That is a weighted sum of a table's rows, which torch calls a bag of embeddings. Its kernel for that fetches ahead,
    and reads about as fast as the memory; those for products do not. Where x is zero nothing is read, if `sparse` says
    that zeros are worth looking for.
    """
    J, C, width = parts.shape
    rows, starts = places(J, C)
    if sparse and parts.nbytes >= SPARSE and (count := int(x.count_nonzero())) < USED * C:
        used = x.nonzero().view(-1)
        x, rows, starts = x.index_select(0, used), rows.index_select(1, used), starts // C * count
    return bags(parts, rows.view(-1), starts, x.expand(J, -1).reshape(-1))


def bags(table: Tensor, rows: Tensor, starts: Tensor, amounts: Tensor) -> Tensor:
    """Sums of rows of a table (..., width), each times its amount; a sum begins where `starts` says: (sums, width)."""
    return torch.embedding_bag(table.view(-1, table.size(-1)), rows, starts, mode=0, per_sample_weights=amounts)[0]


@lru_cache
def places(J: int, C: int) -> tuple[Tensor, Tensor]:
    """The rows of J parts, (J, C), and where each part begins, (J,)."""
    return torch.arange(J * C, dtype=torch.int32).view(J, C), torch.arange(0, J * C, C, dtype=torch.int32)


@dataclass(frozen=True)
class Kernels:
    """How this CPU multiplies by a model's matrices soonest."""

    cuts: bool = False  # one row, by a cut matrix
    widens: bool = False  # many rows, in float32
    lags: bool = False  # float32 would be faster for one row


TRIED = 2**25  # bytes of matrices: more than most caches hold


@torch.inference_mode()
def try_out(matrices: list[Tensor]) -> Kernels:
    """Times the ways on some of a model's own matrices, all (N, C): which is soonest differs from CPU to CPU."""
    few = matrices[: -(-TRIED // matrices[0].nbytes)]
    row, rows = (few[0].new_ones(count, few[0].size(1)) for count in (1, 4 * MANY))

    def one(held: list[Tensor]) -> Callable[[], object]:
        return lambda: [linear(row.to(weight.dtype), weight) for weight in held]

    ways = {"plain": few, "cut": [cut(weight) for weight in few]}
    if row.dtype != torch.float32:
        ways |= {"wide " + name: [weight.float() for weight in held] for name, held in ways.items()}
    spent = shortest({name: one(held) for name, held in ways.items()}, times=5)
    cuts = spent["cut"] < spent["plain"]
    if row.dtype == torch.float32:
        return Kernels(cuts)
    weight = ways["cut" if cuts else "plain"][0]
    many = shortest({wide: partial(linear, rows, weight, widens=wide) for wide in (False, True)}, times=2)
    lags = min(spent["plain"], spent["cut"]) > 1.2 * min(spent["wide plain"], spent["wide cut"])
    return Kernels(cuts, many[True] < many[False], lags)


def shortest(ways: dict, times: int) -> dict:
    """The shortest time, in seconds, of each way; they take turns."""
    device = torch.device("cpu")
    rounds = [{way: seconds(work, device, 1) for way, work in ways.items()} for _ in range(times)]
    return {way: min(spent[way] for spent in rounds) for way in ways}


def seconds(work: Callable[[], object], device: torch.device, times: int = 5) -> float:
    """The median time of some work, after a warm-up."""
    spent = []
    for _ in range(times + 1):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent.append(time.perf_counter() - started)
    return statistics.median(spent[1:])


def bytes_of(weights: Iterable[Tensor]) -> int:
    return sum(weight.nbytes for weight in weights)


def reach(T: int, S: int, window: int | None, device: torch.device) -> tuple[int, dict]:
    """The oldest of S keys that the last T queries need, and the arguments that mask the others for SDPA."""
    oldest = 0 if window is None else max(0, S - T - window)
    if T == 1:
        return oldest, {}
    if T == S and (window is None or T <= window + 1):
        return oldest, {"is_causal": True}
    return oldest, {"attn_mask": visible(torch.arange(S - T, S, device=device), oldest, S, window)}


def visible(queries: Tensor, oldest: int, end: int, window: int | None) -> Tensor:
    """Which of the keys from `oldest` to `end` the queries at these positions (T,) see: (T, end - oldest) bool."""
    distance = queries[:, None] - torch.arange(oldest, end, device=queries.device)
    return (distance >= 0) & (distance <= (end if window is None else window))


class KVCache:
    """Keys and values of one sequence, in memory that is allocated once; `length` tokens of it are valid."""

    def __init__(self, config: Config, device: torch.device, dtype: torch.dtype):
        shape = (config.n_layer, 1, config.n_kv_head, config.sequence_len, config.head_dim)
        if device.type == "cpu":
            dtype = torch.float32  # attention over bfloat16 keys takes six times as long there
            rows, _ = places(config.n_kv_head, config.sequence_len)  # of a layer's keys and values
            self.rows = rows.repeat_interleave(config.n_head // config.n_kv_head, dim=0)  # as each head reads them
        self.keys = torch.empty(shape, device=device, dtype=dtype)
        self.values = torch.empty(shape, device=device, dtype=dtype)
        self.rewind(0)

    @property
    def dtype(self) -> torch.dtype:
        return self.keys.dtype

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes

    def rewind(self, length: int, newest: int = 0) -> None:
        """Forgets all but the first `length` tokens, of which `newest` is the last."""
        self.length = length
        self.newest = torch.tensor([[newest]], device=self.keys.device)  # smear and bigram need it one step later

    def positions(self, T: int) -> Tensor:
        """Where the next T tokens stand: (T,) int64."""
        return torch.arange(self.length, self.length + T, device=self.keys.device)

    def reach(self, T: int, last: int, window: int | None) -> tuple[int, dict]:
        """`reach` for the last queries of the next T; one query on a CPU gets the rows of `attend_once` instead."""
        oldest, mask = reach(last, self.length + T, window, self.keys.device)
        if last == 1 and self.keys.device.type == "cpu":
            S = self.length + T - oldest
            starts = torch.arange(0, len(self.rows) * S, S, dtype=torch.int32)
            mask = {"rows": self.rows[:, :S].reshape(-1), "starts": starts}
        return oldest, mask

    def append(self, layer: int, k: Tensor, v: Tensor, oldest: int) -> tuple[Tensor, Tensor]:
        """Stores k and v, each (1, K, T, D), behind `length`; returns those from `oldest` on, each (1, K, S, D)."""
        T, end = k.size(2), self.length + k.size(2)
        assert end <= self.keys.size(3), f"{end} tokens in a cache of {self.keys.size(3)}"
        keys, values = self.keys[layer], self.values[layer]
        keys.narrow(2, self.length, T).copy_(k)
        values.narrow(2, self.length, T).copy_(v)
        return keys.narrow(2, oldest, end - oldest), values.narrow(2, oldest, end - oldest)

    def advance(self, ids: Tensor) -> None:
        """Called once every layer has stored ids (1, T)."""
        self.length += ids.size(1)
        self.newest = ids[:, -1:]


class FixedStep:
    """A KVCache for one step that runs again and again without the host: which token it is only the device knows.

    Its keys are those before `end`, the first multiple of `stride` behind the token, so that one recording serves
    `stride` positions. It moves on by itself.
    """

    def __init__(self, cache: KVCache, position: Tensor, newest: Tensor, end: int, stride: int):
        self.cache, self.position, self.newest, self.end, self.stride = cache, position, newest, end, stride
        self.dtype = cache.dtype

    def positions(self, T: int) -> Tensor:
        return self.position

    def reach(self, T: int, last: int, window: int | None) -> tuple[int, dict]:
        oldest = 0 if window is None else max(0, self.end - self.stride - window)
        oldest = oldest // 64 * 64  # kernels want their masks aligned, and as numbers: each layer would convert bools
        mask = torch.where(visible(self.position, oldest, self.end, window), 0.0, -torch.inf)
        return oldest, {"attn_mask": mask.to(self.dtype)}

    def append(self, layer: int, k: Tensor, v: Tensor, oldest: int) -> tuple[Tensor, Tensor]:
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        keys.index_copy_(2, self.position, k)
        values.index_copy_(2, self.position, v)
        return keys[:, :, oldest : self.end], values[:, :, oldest : self.end]

    def advance(self, ids: Tensor) -> None:
        self.position += 1
        self.newest.copy_(ids)


def attend_once(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, starts: Tensor) -> Tensor:
    """Attention of one query, scaled already, (1, H, 1, D) over a cache's keys and values (1, K, S, D): (1, H, 1, D).

    The values are summed as in `gather`, with the rows and starts that the cache gives. A CPU reads many keys sooner so
    than by torch's own attention.
    """
    K, D = k.size(1), k.size(3)
    amounts = torch.bmm(k[0], q.view(K, -1, D).transpose(1, 2)).transpose(1, 2).softmax(-1)  # (K, H / K, S)
    table = v.as_strided(((K - 1) * v.stride(1) // D + v.size(2), D), (D, 1))
    return bags(table, rows, starts, amounts.reshape(-1)).view(q.shape)


def attend_plainly(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, is_causal=False) -> Tensor:
    """What scaled_dot_product_attention computes of scaled queries, which on MPS it does wrongly in several releases.

    Some see keys to come, in bfloat16 (pytorch issue 195910), others read beyond the last of many (174861).
    """
    (B, H, T, D), K, S = q.shape, k.size(1), k.size(2)
    if is_causal:
        attn_mask = visible(torch.arange(T, device=q.device), 0, S, None)
    scores = (q.reshape(B, K, -1, D) @ k.mT).float().view(B, H, T, S)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    return (scores.softmax(-1).to(v.dtype).view(B, K, -1, S) @ v).view(B, H, T, D)


class GPT:
    """nanochat's transformer. Weights go by nanochat's names; what an era did not have yet is not there.

    The dict is taken over, and changed, so that no layer is held twice: q, k and v become one matrix, and on a CPU that
    is faster so the matrices are cut.
    """

    def __init__(self, config: Config, weights: dict[str, Tensor]):
        self.config = config
        self.weights = weights
        embedding = weights["transformer.wte.weight"]
        self.device, self.dtype = embedding.device, embedding.dtype
        self.cos, self.sin = rotary_tables(config, self.device, self.dtype)
        layers = [f"transformer.h.{i}." for i in range(config.n_layer)]
        for layer in layers:
            qkv = [weights.pop(f"{layer}attn.c_{part}.weight") for part in "qkv"]
            weights[layer + "attn.c_qkv.weight"] = torch.cat(qkv)  # one product reads faster than three
            del qkv
        self.kernels = Kernels()
        if self.device.type == "cpu" and not embedding.requires_grad:
            self.kernels = try_out([weights[layer + "mlp.c_fc.weight"] for layer in layers])
        if self.kernels.cuts:
            kinds = ("attn.c_qkv.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
            for name in ["lm_head.weight", *(layer + kind for layer in layers for kind in kinds)]:
                weights[name] = cut(weights.pop(name))
        names = [f"{name}_lambdas" for name in ("resid", "x0", "bigram") if f"{name}_lambdas" in weights]
        self.scales = list(zip(*(weights[name].unbind() for name in names)))  # by layers, two or three each

    @property
    def nbytes(self) -> int:
        return bytes_of(self.weights.values())

    def hidden(self, ids: Tensor, cache: KVCache | FixedStep | None = None, last: int = 0) -> Tensor:
        """ids (B, T) int64 -> final channels (B, T, C), or (B, last, C). With a cache, ids go on from there."""
        w, c, T = self.weights, self.config, ids.size(1)
        last = last or T
        positions = cache.positions(T) if cache else torch.arange(T, device=ids.device)
        before = torch.cat((cache.newest if cache else ids[:, :1], ids[:, :-1]), dim=1)  # the token before each
        rotary = self.cos[positions], self.sin[positions]
        rows = [T] * (c.n_layer - 1) + [last]  # what the last layer makes of the others nobody reads
        spans = {(window, n): cache.reach(T, n, window) if cache else reach(n, T, window, ids.device)
                 for window, n in set(zip(c.windows, rows))}  # fmt: skip

        x = norm(F.embedding(ids, w["transformer.wte.weight"]))  # (B, T, C)
        if "smear_gate.weight" in w:
            gate = torch.sigmoid(F.linear(x[..., :24], w["smear_gate.weight"]))  # (B, T, 1)
            gate = gate * (positions > 0)[:, None]  # the first token has none before it
            x = x + w["smear_lambda"][0] * gate * norm(F.embedding(before, w["transformer.wte.weight"]))
        if "bigram_lambdas" in w:
            bigram = F.embedding(self.bigram_rows(ids, before, positions), w["bigram_embed.embed.weight"])
        x0 = x
        for i, (window, n, scales) in enumerate(zip(c.windows, rows, self.scales)):
            x = scales[0] * x + scales[1] * x0
            if "bigram_lambdas" in w:
                x = x + scales[2] * bigram
            x = x[:, T - n :] + self.attention(i, norm(x), ids, rotary, n, spans[window, n], cache)
            x = x + self.mlp(i, norm(x))
            if i == c.n_layer // 2:
                middle = x
        if "backout_lambda" in w:
            x = x - w["backout_lambda"][0] * middle[:, -last:]
        if cache:
            cache.advance(ids)
        return norm(x)

    def attention(
        self, i: int, a: Tensor, ids: Tensor, rotary: tuple, n: int, span: tuple, cache: KVCache | FixedStep | None
    ) -> Tensor:
        """Layer i's attention over its normalised input a (B, T, C), for the last n positions -> (B, n, C)."""
        w, c, layer = self.weights, self.config, f"transformer.h.{i}.attn."
        heads = self.product(a, layer + "c_qkv").view(*a.shape[:2], -1, c.head_dim)  # (B, T, H + 2 K, D)
        qk, v = heads.split_with_sizes((c.n_head + c.n_kv_head, c.n_kv_head), 2)
        if f"value_embeds.{i}.weight" in w:
            embedded = F.embedding(ids, w[f"value_embeds.{i}.weight"]).view_as(v)
            v = v + self.value_gain(i, a) * embedded
        qk = norm(rotate(qk, *rotary).to(cache.dtype if cache else a.dtype))
        qk, v = qk.transpose(1, 2), v.transpose(1, 2)  # (B, heads, T, D)
        q, k = qk.split_with_sizes((c.n_head, c.n_kv_head), 1)
        q = q[:, :, -n:]
        oldest, mask = span
        if cache:
            k, v = cache.append(i, k, v, oldest)  # (B, K, S, D)
        y = self.attend(q, k, v, mask)
        return self.product(y.to(a.dtype).transpose(1, 2).flatten(-2), layer + "c_proj")

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: dict) -> Tensor:
        """Attention of queries (B, H, T, D) over keys and values (B, K, S, D): (B, H, T, D)."""
        c = self.config
        if "rows" in mask:
            return attend_once(q * c.scale, k, v, **mask)
        if q.device.type == "mps":
            return attend_plainly(q * c.scale, k, v, **mask)
        grouped = c.n_head != c.n_kv_head
        return F.scaled_dot_product_attention(q, k, v, **mask, scale=c.scale, enable_gqa=grouped)

    def product(self, x: Tensor, name: str, sparse: bool = False) -> Tensor:
        return linear(x, self.weights[name + ".weight"], sparse, self.kernels.widens)

    def value_gain(self, i: int, a: Tensor) -> Tensor:
        """How much of layer i's value embedding is added: (B, T, K, 1), or one number before there were gates."""
        gate = self.weights.get(f"transformer.h.{i}.attn.ve_gate.weight")
        if gate is None:
            return self.weights["v0_lambdas"][i]
        return self.config.gate_factor * torch.sigmoid(F.linear(a[..., : gate.size(1)], gate))[..., None]

    def mlp(self, i: int, a: Tensor) -> Tensor:
        layer = f"transformer.h.{i}.mlp."
        wide = self.product(a, layer + "c_fc").relu_().square()
        return self.product(wide, layer + "c_proj", sparse=True)

    def bigram_rows(self, ids: Tensor, before: Tensor, positions: Tensor) -> Tensor:
        """The row of the bigram table for each token (B, T), by a hash; the last row is the first token's."""
        last = self.weights["bigram_embed.embed.weight"].size(0) - 1
        return torch.where(positions > 0, ((36313 * ids) ^ (27191 * before)) % last, last)

    def logits(self, x: Tensor) -> Tensor:
        """Final channels (..., C) -> float32 logits (..., V), softly capped (Gemma 2, section 2)."""
        z = self.product(x, "lm_head").float()
        return self.config.softcap * torch.tanh(z / self.config.softcap)


# ------------------------------------------------------------------------------------------------------------
# Sampling

COLDEST = 1e-6  # a smaller temperature divides logits into infinities, and the draw is greedy long before


def sample(logits: Tensor, temperature: float, top_k: int, rng: torch.Generator, top_p: float = 1.0) -> int:
    """Draws a token from logits (V,) float32. Temperature 0 takes the largest; top_k 0 keeps all of them.

    top_p keeps the likeliest tokens, as few as have that share of the probability that top_k left (nucleus
    sampling, Holtzman et al. 2019, section 3.1).
    """
    if temperature == 0:
        return int(logits.argmax())
    if top_k or top_p < 1:
        logits, tokens = logits.topk(min(top_k, logits.numel()) or logits.numel())
        return int(tokens[draw(logits, max(temperature, COLDEST), rng, top_p if top_p < 1 else None)])
    return int(draw(logits, max(temperature, COLDEST), rng))


def draw(logits: Tensor, temperature, rng: torch.Generator, top_p=None) -> Tensor:
    """The place of the winner, int64 on the device, by the exponential race that torch.multinomial runs too.

    With top_p the logits are sorted. Both numbers may be tensors: nothing here waits for the device.
    """
    probabilities = F.softmax(logits / temperature, dim=-1)
    if top_p is not None:
        likelier = probabilities.cumsum(0) - probabilities  # the share of the tokens before each
        probabilities[1:].masked_fill_(likelier[1:] >= top_p, 0)
    return (probabilities / torch.empty_like(probabilities).exponential_(1, generator=rng)).argmax()


# ------------------------------------------------------------------------------------------------------------
# The calculator

OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
MAX_EXPRESSION = 1000  # characters; with no power among the operators, this bounds digits and work as well
LITERAL = r"'[^'\\\n]*'|\"[^\"\\\n]*\""  # no backslashes: nobody agrees what they would count


def calculate(expression: str) -> str | None:
    """The text that answers an expression as Python would print it, or None where there is no answer.

    Two forms are known: arithmetic (+ - * / // and parentheses over decimal numbers, whose commas are dropped)
    and one string literal's .count() of another. The syntax tree is walked with an allow-list: nothing is ever
    executed, so it needs neither a timer nor a signal and works in any thread.
    """
    if len(expression) > MAX_EXPRESSION:
        return None
    text = re.sub(rf"({LITERAL})|,", lambda match: match[1] or "", expression).strip(" ")
    outside = re.sub(LITERAL, "", text)
    arithmetic = outside == text and re.fullmatch(r"[0-9+\-*/.() ]+", text) and "**" not in text
    if not arithmetic and re.sub(r"[ ()]", "", outside) != ".count":
        return None
    try:
        tree = ast.parse(text, mode="eval").body
        answer = evaluate(tree) if arithmetic else count(tree)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        return None  # not an expression, a division by zero, or nested deeper than the parser goes
    overflowed = isinstance(answer, float) and not math.isfinite(answer)
    return None if answer is None or overflowed else str(answer)


def evaluate(tree: ast.AST) -> int | float:
    """Arithmetic over a syntax tree. ValueError for any node that is not on the list."""
    match tree:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            return OPERATORS[type(op)](evaluate(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](evaluate(left), evaluate(right))
    raise ValueError(f"{type(tree).__name__} is not arithmetic")


def count(tree: ast.AST) -> int | None:
    """'text'.count('part') over a syntax tree, or None for any other tree."""
    match tree:
        case ast.Call(
            func=ast.Attribute(value=ast.Constant(value=str(text)), attr="count"),
            args=[ast.Constant(value=str(part))],
            keywords=[],
        ):
            return text.count(part)
    return None


class Calculator:
    """Watches a reply for expressions between the python markers; an answer waits in `forced` as tokens."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.expression: list[int] | None = None  # None outside of a block
        self.forced: deque[int] = deque()

    def see(self, token: int) -> None:
        """Takes note of the next token of the reply, sampled or forced."""
        special = self.tokenizer.special
        if token == special["<|python_start|>"]:
            self.expression = []
        elif self.expression is None:
            return
        elif token != special["<|python_end|>"]:
            self.expression.append(token)
        else:
            answer = calculate(self.tokenizer.decode(self.expression))
            self.expression = None
            if answer is not None:
                self.forced += [
                    special["<|output_start|>"],
                    *self.tokenizer.encode(answer),
                    special["<|output_end|>"],
                ]


# ------------------------------------------------------------------------------------------------------------
# Generation


CHUNK = 512  # tokens of a prompt that are read between two looks at whether anyone still wants the reply
WIDEST = 256  # likeliest tokens that a recorded draw sorts; for a larger top_k it sorts the whole vocabulary
STRIDE = 256  # positions that one recorded step serves, or a sixteenth of the context where that is more
RECORDING = threading.Lock()  # CUDA records one graph at a time, whichever its device


class Ahead:
    """Decodes on the device alone, a step ahead: the next token is being computed while the last is being sent.

    A step, from token to token, is recorded once as CUDA graphs: a launch or two then start all of its kernels.
    Prompts are read without it. Elsewhere than on CUDA the steps run unrecorded, which only the tests ask for.
    Raises RuntimeError for what cannot be recorded, or computes something else afterwards.
    """

    def __init__(self, model: GPT, cache: KVCache, rng: torch.Generator):
        self.model, self.cache, self.rng = model, cache, rng
        self.on_cuda = model.device.type == "cuda"
        self.context = model.config.sequence_len
        self.stride = max(STRIDE, self.context // 16)
        self.flying = False  # whether a step is under way whose token nobody has asked for yet
        self.slot = 0  # of the newest token's way to the host
        self.tokens = torch.zeros(2, dtype=torch.int64, pin_memory=self.on_cuda)
        self.arrived = [torch.cuda.Event(), torch.cuda.Event()] if self.on_cuda else []
        if self.on_cuda:  # one memory, as graphs run in turn, which they share only if recorded on one stream
            self.memory, self.stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream(model.device)

        cache.keys.zero_()  # also what a mask hides has to be a number
        cache.values.zero_()
        number = partial(torch.zeros, device=model.device)
        self.ids, self.last = number((1, 1), dtype=torch.int64), number((1, 1), dtype=torch.int64)
        self.position = number(1, dtype=torch.int64)
        self.logits = number(model.config.vocab_size)
        self.temperature, self.top_p, self.top_k = number(()), number(()), number((), dtype=torch.int64)
        ends = [min(start + self.stride, self.context) for start in range(0, self.context, self.stride)]
        with torch.inference_mode():
            self.steps = []
            for end in ends:  # the warm-up reads a place in reach, as a query that sees no key has no answer
                self.position.fill_(end - 1)
                self.steps.append(self.record(partial(self.step, end)))
            kinds = ("greedy", "all", "few", "sorted")
            self.draws = {kind: self.record(partial(self.choose, kind)) for kind in kinds}
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
            with torch.cuda.graph(graph, self.memory, self.stream, capture_error_mode="thread_local"):
                work()
        return graph.replay

    def step(self, end: int) -> None:
        """Reads the token in `ids` into the cache, and leaves the logits of the next."""
        view = FixedStep(self.cache, self.position, self.last, end, self.stride)
        self.logits.copy_(self.model.logits(self.model.hidden(self.ids, view)[0, -1]))

    def choose(self, kind: str) -> None:
        """Draws from the logits into `ids`, as `sample` does."""
        if kind == "greedy":
            token = self.logits.argmax()
        elif kind == "all":
            token = draw(self.logits, self.temperature, self.rng)
        else:
            V = self.logits.numel()
            likeliest, tokens = self.logits.topk(min(WIDEST, V) if kind == "few" else V)
            ranks = torch.arange(likeliest.numel(), device=self.model.device)
            kept = likeliest.masked_fill(ranks >= self.top_k, -torch.inf)
            token = tokens.index_select(0, draw(kept, self.temperature, self.rng, self.top_p).view(1))
        self.ids.copy_(token)

    def compare(self) -> None:
        """RuntimeError if the recorded step computes something else than the model does."""
        expected = self.model.logits(self.model.hidden(self.ids.zero_(), self.cache)[0, -1])
        self.cache.rewind(0)
        self.position.zero_()
        self.steps[0]()
        if not (self.logits - expected).abs().max() <= 0.5:  # far more than rounding, far less than a fault
            raise RuntimeError("a recorded step computes something else than the model")

    def begin(self, temperature: float, top_k: int, top_p: float) -> None:
        """A new reply; a step that is still under way was the last one's and counts for nothing."""
        self.flying = False
        sorts = "few" if 0 < top_k <= WIDEST else "sorted"
        self.kind = "greedy" if temperature == 0 else "all" if not top_k and top_p >= 1 else sorts
        self.temperature.fill_(max(temperature, COLDEST))
        self.top_k.fill_(top_k or self.logits.numel())
        self.top_p.fill_(top_p if top_p < 1 else 2.0)  # 2 keeps all: a sum that rounds to 1 would not

    def goes_on_from(self, ids: list[int]) -> bool:
        """Whether the step under way is the one that reads these tokens."""
        return self.flying and ids == [self.newest]

    def start_from(self, logits: Tensor, last: int) -> None:
        """Draws from logits, after which the cache holds all tokens, the newest of which is `last`."""
        if self.flying:
            self.rng.set_state(self.before)  # the draw of the step under way did not count
        self.logits.copy_(logits)
        self.last.fill_(last)
        self.length = self.cache.length
        self.position.fill_(self.length)
        self.draws[self.kind]()
        self.send()

    def token(self) -> int:
        """The newest token, once the step that follows it is under way."""
        slot, self.flying = self.slot, self.length < self.context
        if self.flying:
            self.before = self.rng.get_state()
            self.steps[self.length // self.stride]()
            self.draws[self.kind]()
            self.length += 1
            self.send()
        if self.on_cuda:
            self.arrived[slot].synchronize()
        self.newest = int(self.tokens[slot])
        return self.newest

    def send(self) -> None:
        """Lets the token in `ids` travel to the host."""
        self.slot = 1 - self.slot
        self.tokens[self.slot].copy_(self.ids.view(()), non_blocking=True)
        if self.on_cuda:
            self.arrived[self.slot].record(torch.cuda.current_stream(self.model.device))


NGRAM = 5  # tokens that must have stood in the conversation before, for those after them to be drafted
SHORTEST, LONGEST = 7, 15  # tokens of a draft


class Lookup:
    """Drafts what may follow from what followed the same five tokens earlier in the conversation.

    Where reading the weights bounds a step, one over eight rows takes about twice as long as over one, so that a
    draft may be wrong now and then. After one that was wrong altogether the next has to wait, longer each time.
    """

    def __init__(self, tokens: list[int]):
        self.tokens = tokens  # of the conversation, to which others append
        self.follower: dict[tuple, int] = {}  # five tokens -> where the next one stood, the last time
        self.indexed, self.size, self.drafted, self.pause, self.wait = 0, SHORTEST, 0, 1, 0

    def draft(self, newest: int, wrong: int, room: int) -> list[int]:
        """At most `room` tokens to follow `newest`, which `tokens` lacks. Of the last draft `wrong` were not drawn."""
        if self.drafted:
            self.size = SHORTEST if wrong else min(2 * self.size, LONGEST)
            self.wait, self.pause = (self.pause, min(2 * self.pause, 64)) if wrong == self.drafted else (0, 1)
        for place in range(self.indexed, len(self.tokens)):
            self.follower[tuple(self.tokens[max(0, place - NGRAM) : place])] = place
        self.indexed = len(self.tokens)
        self.wait -= 1
        start = self.follower.get((*self.tokens[1 - NGRAM :], newest)) if self.wait < 0 else None
        self.drafted = min(self.size, room) if start is not None else 0
        period = [*self.tokens[start : start + self.drafted], newest] if self.drafted else []
        return list(islice(cycle(period), self.drafted))  # text that ends too soon is taken to repeat itself


class Engine:
    """Writes replies with one model, one after the other, and remembers the conversation that it read last.

    The tokenizer has `special` (name -> id), `stops` (ids that end a reply), `encode(text)` and `decode(tokens)`.
    `ahead` makes it decode a step ahead of whoever reads, `drafts` from drafts; None is as it pays: the first on CUDA,
    the second on a CPU.
    """

    def __init__(self, model: GPT, tokenizer, ahead: bool | None = None, drafts: bool | None = None):
        self.model = model
        self.tokenizer = tokenizer
        self.context = model.config.sequence_len
        self.stops = tokenizer.stops
        self.cache = KVCache(model.config, model.device, model.dtype)
        self.rng = torch.Generator(model.device)
        self.read: list[int] = []  # the tokens that are in the cache
        self.reused = 0  # tokens of the newest prompt that were there already
        self.drafts = model.device.type == "cpu" if drafts is None else drafts
        self.lookup: Lookup | None = None
        # Tokens that are in the cache too, though nobody has drawn them yet, and the logits of what follows each.
        self.drafted: deque[tuple[int, Tensor]] = deque()
        self.ahead: Ahead | None = None
        self.mode = "eager"
        if model.device.type == "cpu":
            self.mode = "cut matrices" if model.kernels.cuts else "plain matrices"
            self.mode += "; -d float32 is faster here" if model.kernels.lags else ""
        if ahead or ahead is None and model.device.type == "cuda":
            try:
                self.ahead = Ahead(model, self.cache, self.rng)
                self.mode = f"{len(self.ahead.steps)} CUDA graphs"
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, AttributeError) as error:  # of a torch, driver or model that cannot record
                self.mode = "eager, since CUDA graphs failed: " + str(error).partition("\n")[0]

    def remembers(self, prompt: list[int]) -> int:
        """How many of a prompt's first tokens need not be read. The last one must: its logits are wanted."""
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self.read, prompt[:-1])))

    def generate(
        self,
        prompt: list[int],
        max_tokens: int,
        temperature: float = 0.0,
        top_k: int = 0,
        seed: int = 0,
        top_p: float = 1.0,
        check: Callable[[], None] = lambda: None,
    ) -> Iterator[int]:
        """Yields the reply to a prompt, at most max_tokens tokens of it, a final stop token included.

        It ends after <|assistant_end|> or <|bos|>, after max_tokens, or when the context is full. In float32 the same
        seed and prompt give the same tokens, whatever was read before; bfloat16 may round differently. `check` is
        called while a long prompt is read, and may raise to end it. Raises ValueError, at the call, for a prompt that
        is empty or longer than the context.
        """
        room = self.context - len(prompt)
        if not prompt or room < 0:
            raise ValueError(f"a prompt of {len(prompt)} tokens, where the context holds 1 to {self.context}")
        self.reused = self.remembers(prompt)
        self.rng.manual_seed(seed)
        settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        return self.reply(prompt, min(max_tokens, room), settings, check)

    def restart(self) -> None:
        """After a failure: returns what memory it can and forgets everything; raises if it cannot compute."""
        if self.model.device.type == "cuda":
            with contextlib.suppress(RuntimeError):  # after a recording that failed it may refuse; what counts is next
                torch.cuda.empty_cache()
        next(self.generate([0], 1))  # of a prompt of one token nothing is remembered

    def reply(self, prompt: list[int], budget: int, settings: dict, check: Callable) -> Iterator[int]:
        del self.read[self.reused :]
        self.cache.rewind(self.reused, prompt[self.reused - 1])
        self.drafted.clear()
        if self.ahead:
            self.ahead.begin(**settings)
        elif self.drafts:
            self.lookup = Lookup(self.read)
        calculator = Calculator(self.tokenizer)
        unread = prompt[self.reused :]  # the model reads these when its next word is needed
        for _ in range(budget):
            if calculator.forced:
                token = calculator.forced.popleft()
            else:
                token = self.next_token(unread, settings, check)
                unread = []
            calculator.see(token)
            yield token
            if token in self.stops:
                return
            unread.append(token)

    @torch.inference_mode()
    def next_token(self, unread: list[int], settings: dict, check: Callable[[], None]) -> int:
        """Reads what is unread, and draws the token that follows it."""
        if self.ahead:
            if self.ahead.goes_on_from(unread):
                self.read += unread
            else:
                self.ahead.start_from(self.logits_after(unread, check), unread[-1])
            return self.ahead.token()
        if self.drafted and unread == [self.drafted[0][0]]:
            logits = self.drafted.popleft()[1]
            self.read += unread
        else:
            logits = self.logits_after(unread, check)
        # A draft counts if it is what is drawn: that is exactly as likely as without drafts, and the same token.
        return sample(logits, rng=self.rng, **settings)

    def logits_after(self, ids: list[int], check: Callable[[], None]) -> Tensor:
        """Reads ids into the cache, in chunks so that memory stays flat: the logits (V,) of what follows them."""
        if self.cache.length != len(self.read):  # there are drafts in it, or steps ahead, that did not count
            self.cache.rewind(len(self.read), self.read[-1])
        draft = []
        if self.lookup and len(ids) == 1:
            room = min(CHUNK, self.context - len(self.read)) - 1
            draft = self.lookup.draft(ids[0], len(self.drafted), room)
        for start in range(0, len(ids), CHUNK):
            if start:
                check()
            chunk = ids[start : start + CHUNK]
            tokens = torch.tensor([chunk + draft], device=self.model.device)
            x = self.model.hidden(tokens, self.cache, last=1 + len(draft))
            self.read += chunk
        rows = self.model.logits(x[0])
        self.drafted = deque(zip(draft, rows[1:]))
        return rows[0]


# ------------------------------------------------------------------------------------------------------------
# python engine.py: how fast this machine runs a model, and how much of its memory bandwidth that takes


def step_bytes(engine: Engine, length: int) -> int:
    """What one decode step must read: every matrix, and the cache rows in reach. Of a table it reads one row."""
    tables, c = ("transformer.wte.", "value_embeds.", "bigram_embed."), engine.model.config
    matrices = [tensor for name, tensor in engine.model.weights.items() if not name.startswith(tables)]
    rows = sum(length if window is None else min(length, window + 1) for window in c.windows)
    row = 2 * c.n_kv_head * c.head_dim * engine.cache.keys.element_size()
    return bytes_of(matrices) + rows * row


def bandwidth(device: torch.device) -> float:
    """Bytes per second that this machine reads from memory, by summing half a gigabyte."""
    numbers = torch.ones(2**27, device=device)
    return numbers.nbytes / seconds(numbers.sum, device)


def random_weights(
    depth: int, device: torch.device, dtype: torch.dtype, checkpoint
) -> tuple[Config, dict[str, Tensor]]:
    """The newest architecture at nanochat's sizes for a depth."""
    era, C, V = checkpoint.ERAS[0], -(-depth * 64 // 128) * 128, 32768
    H = C // 128
    sizes = {"R": V, "C": C, "F": 4 * C, "L": depth, "N": C, "K": H, "B": 5 * V, "G": era.gate_columns}
    shapes = checkpoint.expected_shapes(era, sizes)
    weights = {name: torch.randn(shape, device=device, dtype=dtype) * 0.02 for name, shape in shapes.items()}
    given = {"sequence_len": 2048, "vocab_size": V, "n_head": H, "window_pattern": "SSSL"}
    _, config, weights, _ = checkpoint.adapt(weights, {"model_config": given}, {}, dtype)
    return config, weights


class NoTokenizer:
    """No token is special: a reply goes on for as long as it is timed."""

    special, stops = dict.fromkeys(("<|python_start|>", "<|python_end|>"), -1), frozenset()


def measure(engine: Engine) -> dict:
    """Tokens per second, and the share of the bandwidth that decoding reaches. Prints as it goes."""
    model, context, vocabulary = engine.model, engine.context, engine.model.config.vocab_size
    report: dict = {
        "dtype": str(model.dtype),
        "device": str(model.device),
        "prefill": {},
        "decode": {},
        "turns": [],
    }

    def prompt(length: int, seed: int) -> list[int]:
        numbers = torch.randint(vocabulary, (length,), generator=torch.Generator().manual_seed(seed))
        return numbers.tolist()

    for length in (length for length in (64, 256, 1024) if length < context):
        fresh = iter(range(length, 2 * length))  # another prompt each time, so that nothing is remembered
        spent = seconds(lambda: next(engine.generate(prompt(length, next(fresh)), 1)), model.device)  # noqa: B023
        report["prefill"][length] = round(length / spent)
        print(f"prefill of {length} tokens: {length / spent:.0f} tokens/s", flush=True)

    length = min(256, context // 2)
    written = min(64, (context - length) // 8)
    read = bandwidth(model.device)
    report |= {"bandwidth": round(read), "step_bytes": step_bytes(engine, length)}
    print(f"a step reads {report['step_bytes'] / 1e6:.0f} MB, at most {read / 1e9:.1f} GB/s from this memory")
    ways = {engine.mode: engine}
    if engine.ahead:
        ways["eager"] = Engine(model, NoTokenizer, ahead=False)
    for way, writer in ways.items():
        reply = writer.generate(prompt(length, 1), written * 7, temperature=0.8, top_k=50)
        next(reply)
        spent = seconds(lambda: [next(reply) for _ in range(written)], model.device) / written  # noqa: B023
        share = report["step_bytes"] / spent / read
        report["decode"][way] = {"tokens_per_second": round(1 / spent, 1), "share": round(share, 3)}
        speed = f"{1 / spent:.1f} tokens/s, {share:.0%} of that bandwidth"
        print(f"decode after {length} tokens, {way}: {speed}", flush=True)

    conversation: list[int] = []
    turn = context // 32
    for number in range(1, 11):
        conversation += prompt(turn, number)
        started = time.perf_counter()
        reply = engine.generate(conversation, turn)
        conversation.append(next(reply))
        report["turns"].append(round(time.perf_counter() - started, 4))
        conversation += reply
    print("time to first token, turns 1 to 10:", *(f"{1000 * spent:.0f}" for spent in report["turns"]), "ms")
    return report


def main() -> None:
    if __package__:
        from . import chat_web, checkpoint
    else:
        import chat_web
        import checkpoint

    parser = argparse.ArgumentParser(description="Times a model. The other flags are chat_web.py's.")
    parser.add_argument("--depth", type=int, help="a random model of this depth instead of a checkpoint")
    own, rest = parser.parse_known_args()
    flags = chat_web.parse_args(rest)
    chat_web.import_torch()  # for what it sets: nothing has been allocated yet
    device, dtype = chat_web.pick_devices(flags, torch)[0], getattr(torch, flags.dtype)
    started = time.perf_counter()
    if own.depth:
        model = GPT(*random_weights(own.depth, device, dtype, checkpoint))
    else:
        found, _ = chat_web.pick_checkpoint(flags, checkpoint)
        model = checkpoint.read(found, dtype).engine(device).model
    engine = Engine(model, NoTokenizer, drafts=False)
    loaded = time.perf_counter() - started
    memory = model.nbytes + engine.cache.nbytes
    print(f"loaded in {loaded:.1f} s, {memory / 1e6:.0f} MB of weights and cache on {device}", flush=True)
    print(json.dumps({"load_seconds": round(loaded, 2), "memory_bytes": memory} | measure(engine)))


if __name__ == "__main__":
    main()
