"""A model that nanochat trained and its tokenizer, from the files and folders in which people have them.

`find` picks the files. `read` opens them, runs nothing in them, and adapts any architecture of nanochat's to
the one that engine.py computes. `Tokenizer` turns conversations into tokens, and tokens into text. What is
wrong with files is a `CheckpointError` of one sentence. What people have on disk, and what is taken of it:

| -g, or where there is none the base directory | what loads |
| --- | --- |
| `model_NNNNNN.pt`, or a folder with such and each one's `meta_NNNNNN.json` | this model, or the last step |
| `chatsft_checkpoints` and the like, with tags in it or models straight in it | the deepest tag |
| a base directory, or a folder up to LEVELS above models | the same of `-i`, else of sft, rl, mid or base |
| the Hub's `models--OWNER--NAME` | the same, in its newest snapshot |
| `config.json` and `model.safetensors`, or its index and shards | transformers' form of October 2025 |
| `tokenizer.pkl` or `.json` beside it, up to two folders above, or in `tokenizer/` there | its tokenizer |
"""

import bisect
import codecs
import contextlib
import functools
import io
import json
import math
import mmap
import os
import pickle
import re
import types
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tiktoken
import torch
from torch import Tensor

if __package__:
    from .engine import Config, Engine, FastGPT
else:
    from engine import Config, Engine, FastGPT


class CheckpointError(Exception):
    """What is wrong with files on disk, in one sentence that says what would be right."""


# ---- One door for Python -----------------------------------------------------------------------------------

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_model(source=None, tag=None, step=None, device="auto", dtype="bfloat16") -> Engine:
    """An engine that chats, from the files that chat_web.py takes with -i, -g and -s, or CheckpointError."""
    prepare_torch()
    model = read(find(base_dir(), source, tag, step), DTYPES[dtype])
    return model.engine(torch.device(best_device() if device == "auto" else device))


def best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def prepare_torch() -> None:
    """Settings of the process for speed. They have to be made before torch has allocated anything."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # Linux: huge pages, from which a CPU reads 8 % more
    # cuDNN's attention plans anew for every length and in every thread. Each request brings its own of both.
    torch.backends.cuda.enable_cudnn_sdp(False)


# ---- Finding -----------------------------------------------------------------------------------------------

KINDS = {  # of training, by the folders that nanochat writes; sft_checkpoints for one day of 2026, by mistake
    "chatsft_checkpoints": "sft", "sft_checkpoints": "sft", "chatrl_checkpoints": "rl",
    "mid_checkpoints": "mid", "base_checkpoints": "base",
}  # fmt: skip
LOOKALIKES = {  # what else looks like a model; the last one that fits says why it is none
    r".*\.(safetensors|gguf|onnx|npz)|.*model.*\.(pt|pth|bin|ckpt)(\..*)?": "has an unknown form or name",
    r"model_[0-9]+\.pt": "has no meta beside it, or is a link to nothing",
    r".*\.incomplete": "is half a download",
}
LEVELS = 4  # of folders below a path that are looked into: download tools put folders into folders


@dataclass(frozen=True)
class Found:
    """The files of one checkpoint."""

    model: Path
    meta: Path
    step: int = -1  # transformers' form has none
    tokenizer: Path | None = None
    notes: tuple[str, ...] = ()  # what was passed over on the way, for the log

    @property
    def source(self) -> str | None:
        return next((KINDS[folder.name] for folder in self.model.parents[:3] if folder.name in KINDS), None)

    @property
    def name(self) -> str:
        """What people call it: tag, kind and step."""
        folder = self.model.parent
        in_cache = folder.parent.name == "snapshots"  # the Hub's models--OWNER--NAME/snapshots/HASH
        tag = folder.parents[1].name.split("--")[-1] if in_cache else folder.resolve().name
        return ", ".join(filter(None, (tag, self.source, f"step {self.step}" if self.step >= 0 else None)))


def base_dir() -> Path:
    """nanochat's own folder: $NANOCHAT_BASE_DIR, else ~/.cache/nanochat."""
    return Path(os.path.expanduser(os.environ.get("NANOCHAT_BASE_DIR") or "~/.cache/nanochat"))


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """CheckpointError for what this user may not look into, or what has gone."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{error.filename or os.curdir}: {error.strerror}") from None


@readable()
def find(base: Path, source: str | None = None, tag: str | None = None, step: int | None = None) -> Found:
    """The model with this source, tag and step, else sft, the deepest, the last. A tag may be a path."""
    root, name = root_and_tag(base, tag)
    found, odd = search(root)
    is_path = tag and not name
    chosen = [each for each in found if is_path and root in (each.model, each.model.parent)]
    named = [each for each in found if name in (None, each.model.parent.name) and not chosen]
    for kind in ("sft", None, "rl", "mid", "base") if is_path and not source else (source or "sft", None):
        chosen = chosen or [each for each in named if each.source == kind]  # None: no folder tells it
    if not chosen:
        ways = [f"one by {f'-i {each.source} ' * bool(each.source)}-g {each.model}" for each in found]
        held = ways or [f"{path} {why}" for path, why in odd.items()]
        held = held or (sorted(os.listdir(root)) if root.is_dir() else ["nothing, since it does not exist"])
        lacks = " ".join(filter(None, ("no", source, "model", name, "in", str(root))))
        usual = "set NANOCHAT_BASE_DIR to where chatsft_checkpoints/TAG is, or pass -g PATH"
        raise CheckpointError(f"{lacks}, where there is {'; '.join(held[:10]) or 'nothing'}; {usual}")
    folder = max((each.model.parent for each in chosen), key=depth_then_age)
    steps = {each.step: each for each in chosen if each.model.parent == folder}
    if step is not None and step not in steps:
        raise CheckpointError(f"no step {step} in {folder}: it holds {sorted(steps)}; pass one with -s")
    model, near = steps[max(steps) if step is None else step], (folder, folder.parent)
    notes = [f"{path} {why} and is skipped" for path, why in odd.items() if path.parent in near]
    if named and is_path and not source and model.source not in ("sft", None):
        notes.append(f"no sft model is there, so this is one of {model.source}")
    tokenizer = find_tokenizer(folder, root, base)
    if base / "tokenizer" == tokenizer.parent and base not in (root, *folder.parents):
        notes.append(f"{tokenizer} is taken: {folder} has none near it")
    return replace(model, tokenizer=tokenizer, notes=tuple(notes))


def root_and_tag(base: Path, tag: str | None) -> tuple[Path, str | None]:
    """Where to look, and for which tag: in the base directory for this one, or in a path for any."""
    path = Path(os.path.expanduser(tag or "")).absolute()
    if not tag or Path(tag).name == tag and any((base / kind / tag).is_dir() for kind in KINDS):
        return base, tag
    if not path.exists() and re.match(r"[~.]|.*[/\\]", tag):
        raise CheckpointError(f"-g {tag}: there is no such file or folder")
    return (path, None) if path.exists() else (base, tag)


@readable()
def search(root: Path) -> tuple[list[Found], dict[Path, str]]:
    """The models in and below a folder, or in this file; and what looks like one and is none, and why."""
    found, odd, top = [], {}, root.parent if root.is_file() else root
    skip = lambda error: odd.update({Path(error.filename): f"is closed ({error.strerror})"})  # noqa: E731
    for folder, below, names in os.walk(top, onerror=skip, followlinks=True) if top.is_dir() else ():
        here, before = Path(folder), len(found)
        if root.is_file() or len(here.relative_to(top).parts) == LEVELS:
            below.clear()
        if here.name == "snapshots":  # of the Hub's cache: only the newest
            below[:] = sorted(below, key=lambda name: (here / name).stat().st_mtime)[-1:]
        for path in (here / name for name in sorted(names) if root in (here / name, here, *here.parents)):
            pair = re.fullmatch(r"model_([0-9]+)\.pt", path.name)
            meta = here / (f"meta_{pair[1]}.json" if pair else "config.json")
            form = pair or re.fullmatch(r"model\.safetensors(\.index\.json)?", path.name)
            if form and path.is_file() and meta.is_file():
                found.append(Found(path, meta, int(pair[1]) if pair else -1))
            elif pair or len(found) == before:
                odd |= {path: why for name, why in LOOKALIKES.items() if re.fullmatch(name, path.name)}
        if here.parent.name in KINDS and len(found) == before and not below:
            odd[here] = "holds no complete checkpoint"
    return found, odd


def depth_then_age(folder: Path) -> tuple[int, float]:
    """Orders d<N>... by N, whatever follows, after any other name; equals by when they last changed."""
    match = re.match(r"d([0-9]+)", folder.name)
    return (int(match[1]) if match else -1, folder.stat().st_mtime)


def find_tokenizer(folder: Path, root: Path, base: Path) -> Path:
    """The one near the model, which may be a link to where another is near; else the base directory's."""
    levels = [folder, *folder.parents[:2], folder.resolve(), *folder.resolve().parents[:2], root, base]
    names = ("tokenizer.pkl", "tokenizer.json", "tokenizer/tokenizer.pkl", "tokenizer/tokenizer.json")
    for path in (level / name for level in levels for name in names):
        if path.is_file():
            return path
    places = f"there and in the two folders above, in tokenizer/ of each, and in {base / 'tokenizer'}"
    raise CheckpointError(f"no tokenizer.pkl or tokenizer.json for {folder}: looked {places}")


# ---- Architectures -----------------------------------------------------------------------------------------

KNOWN = """sequence_len vocab_size n_layer n_head n_kv_head n_embd window_pattern num_experts top_k
    num_shared_experts softcap logit_softcap rope_base rope_theta rope_bf16""".split()
GATE = "transformer.h.{last}.attn.ve_gate.weight"
HALF, THIRD, QUARTER = (lambda s: s // 2), (lambda s: 128 * -(-s // 384)), (lambda s: 128 * -(-s // 512))


@dataclass(frozen=True)
class Era:
    """What training did in one stretch of nanochat's history and the shapes alone do not show."""

    name: str
    sign: str  # the key that gives it away: these rows are tried from the top
    features: str  # which rows of KEYS its checkpoints have
    gate_columns: int = 0
    gate_factor: float = 0.0
    short_window: Callable[[int], int] = HALF  # from the sequence length
    qk_scale: float = 1.0
    rope_base: float = 10_000
    rope_bf16: bool = True

    def made(self, weights: dict[str, Tensor], last_layer: int) -> bool:
        """Whether its sign is there; of a gate the width counts too."""
        tensor = weights.get(self.sign.format(last=last_layer))
        return tensor is not None and (self.sign != GATE or tensor.shape[-1:] == (self.gate_columns,))


ERAS = (
    #   of nanochat in                   recognised by                features
    Era("March 2026, smear", "smear_gate.weight", "lambdas gate smear", 12, 3, QUARTER, 1.2, 1e5, False),
    Era("March 2026, narrow gates", GATE, "lambdas gate", 12, 3, THIRD, 1.15, 1e5, False),
    Era("January 2026, bigrams",         "bigram_embed.embed.weight", "lambdas gate bigram", 32, 2),
    Era("January 2026, gated values",    GATE,                        "lambdas gate",        32, 2),
    Era("January 2026, low-rank values", "value_embed_A.weight",      "lambdas v0 low-rank"),
    Era("January 2026, one value table", "value_embed.weight",        "lambdas v0 one-table"),
    Era("January 2026, value tables",    "value_embeds.0.weight",     "lambdas v0 tables"),
    Era("January 2026, lambdas",         "resid_lambdas",             "lambdas"),
    Era("October 2025",                  "transformer.wte.weight",    ""),
)  # fmt: skip

KEYS = (
    # key ({i} is every layer, {alternate} every second one, the last included); shape; feature it comes with.
    # R rows, C channels, F 4 C, N key/value channels, K key/value heads, L layers, G gate columns, B bigrams
    ("transformer.wte.weight",                        "R C",  ""),
    ("lm_head.weight",                                "R C",  ""),
    ("transformer.h.{i}.attn.c_q.weight",             "C C",  ""),
    ("transformer.h.{i}.attn.c_k.weight",             "N C",  ""),
    ("transformer.h.{i}.attn.c_v.weight",             "N C",  ""),
    ("transformer.h.{i}.attn.c_proj.weight",          "C C",  ""),
    ("transformer.h.{i}.mlp.c_fc.weight",             "F C",  ""),
    ("transformer.h.{i}.mlp.c_proj.weight",           "C F",  ""),
    ("resid_lambdas",                                 "L",    "lambdas"),
    ("x0_lambdas",                                    "L",    "lambdas"),
    ("v0_lambdas",                                    "L",    "v0"),
    ("value_embed_A.weight",                          "R 32", "low-rank"),
    ("value_embed_B.weight",                          "N 32", "low-rank"),
    ("value_embed.weight",                            "R N",  "one-table"),
    ("value_embeds.{i}.weight",                       "R N",  "tables"),
    ("value_embeds.{alternate}.weight",               "R N",  "gate"),
    ("transformer.h.{alternate}.attn.ve_gate.weight", "K G",  "gate"),
    ("bigram_embed.embed.weight",                     "B C",  "bigram"),
    ("bigram_lambdas",                                "L",    "bigram"),
    ("smear_gate.weight",                             "1 24", "smear"),
    ("smear_lambda",                                  "1",    "smear"),
    ("backout_lambda",                                "1",    "smear"),
)  # fmt: skip


def adapt(stored: dict, meta: dict, base_meta: dict) -> tuple[Era, Config, dict, list[str]]:
    """A state dict of any era as engine.py computes it: the era, config, weights, and notes for the log.

    base_meta is the meta of the base model that a chat model was tuned from, or {}. Shapes win over the meta,
    but for vocab_size and n_head, which no shape shows. A CheckpointError names no file yet.
    """
    given = model_config(meta)
    layers = [int(match[1]) for key in stored if (match := re.match(r"transformer\.h\.([0-9]{1,4})\.", key))]
    if given.get("num_experts") or any(".router." in key for key in stored):
        raise CheckpointError("a mixture-of-experts model (branches moe, moe3), which does not run here")
    for key in ("transformer.wte.weight", "transformer.h.0.attn.c_k.weight"):
        if key not in stored or stored[key].dim() != 2:
            raise CheckpointError(f"key {key} is missing or no matrix: this is no nanochat model")
    era = next(era for era in ERAS if era.made(stored, max(layers)))
    sizes = sizes_of(stored, given, max(layers) + 1, era)
    check_keys(stored, era, sizes)
    notes = []
    windows = pick_windows(era, given, meta, sizes["L"], notes)
    softcap = pick_softcap(era, meta, base_meta, notes)
    rope_base = own_number(given, notes, "rope_base", "rope_theta") or era.rope_base
    if foreign := ", ".join(sorted(given.keys() - KNOWN)):
        notes.append(f"model_config has {foreign[:200]}, unknown here: the model may talk badly")
    config = Config(
        sequence_len=given["sequence_len"], vocab_size=given["vocab_size"], n_head=given["n_head"],
        n_kv_head=sizes["K"], n_embd=sizes["C"], windows=windows, softcap=softcap,
        rope_base=rope_base, rope_bf16=given.get("rope_bf16", era.rope_bf16),
        qk_scale=era.qk_scale, gate_factor=era.gate_factor,
    )  # fmt: skip
    return era, config, to_newest_names(stored, config), notes


def model_config(meta: dict) -> dict:
    given = meta.get("model_config")
    if not isinstance(given, dict):
        raise CheckpointError("there is no model_config in the meta")
    for name, least in (("sequence_len", 2), ("vocab_size", 1), ("n_head", 1)):
        value = given.get(name)
        if type(value) is not int or not least <= value <= 2**24:
            raise CheckpointError(f"model_config.{name} is {value!r}, and no number from {least} to {2**24}")
    return given


def sizes_of(weights: dict[str, Tensor], given: dict, n_layer: int, era: Era) -> dict[str, int]:
    """The letters of KEYS as numbers."""
    rows, C = weights["transformer.wte.weight"].shape
    N = weights["transformer.h.0.attn.c_k.weight"].shape[0]
    V, H = given["vocab_size"], given["n_head"]
    if rows < V:
        raise CheckpointError(f"transformer.wte.weight has {rows} rows for a vocab_size of {V}")
    if C < (24 if "smear" in era.features else max(1, era.gate_columns)):
        raise CheckpointError(f"transformer.wte.weight has {C} channels, too few for a model of {era.name}")
    if C % H or C // H % 2 or N % (C // H) or N == 0 or H % (N // (C // H)):
        split = f"cannot be split over model_config.n_head = {H} heads"
        raise CheckpointError(f"{C} channels and {N} key/value channels {split}")
    sizes = {"R": rows, "C": C, "F": 4 * C, "L": n_layer, "N": N, "K": N // (C // H), "B": 5 * V}
    return sizes | {"G": era.gate_columns}


def expected_shapes(era: Era, sizes: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """KEYS for one model: key -> shape."""
    shapes = {}
    for pattern, letters, feature in KEYS:
        if not feature or feature in era.features.split():
            shape = tuple(sizes[letter] if letter in sizes else int(letter) for letter in letters.split())
            every = range(sizes["L"]) if "{i}" in pattern else range((sizes["L"] - 1) % 2, sizes["L"], 2)
            shapes |= {pattern.format(i=i, alternate=i): shape for i in (every if "{" in pattern else [0])}
    return shapes


def check_keys(weights: dict[str, Tensor], era: Era, sizes: dict[str, int]) -> None:
    """Every key of the era is there in its shape, and no other."""
    expected = expected_shapes(era, sizes)
    for key, shape in expected.items():
        if key not in weights:
            raise CheckpointError(f"key {key} is missing, which a model of {era.name} has")
        if weights[key].shape != shape:
            raise CheckpointError(f"key {key} has shape {tuple(weights[key].shape)}, expected is {shape}")
    if unknown := sorted(weights.keys() - expected.keys()):
        raise CheckpointError(f"key {unknown[0]} is unknown to {era.name}, which the other keys show")


def pick_windows(era: Era, given: dict, meta: dict, n_layer: int, notes: list[str]) -> tuple[int | None, ...]:
    """How far each layer sees: the meta's window_pattern, or what nanochat does without one."""
    long, short = given["sequence_len"], era.short_window(given["sequence_len"])
    pattern = given.get("window_pattern")
    if pattern is None and ("lambdas" not in era.features or "device_batch_size" in meta):
        return (None,) * n_layer  # no windows; only a base model's meta tells its batch size
    if pattern is None:
        pattern = "L"
        notes.append("the meta has no window_pattern: every layer sees all, as nanochat loads it")
    if not isinstance(pattern, str) or not re.fullmatch("[SL]+", pattern.upper()):
        raise CheckpointError(f"model_config.window_pattern is {pattern!r}, and not made of S and L")
    windows = [short if pattern.upper()[i % len(pattern)] == "S" else long for i in range(n_layer)]
    return (*windows[:-1], long)  # the last layer is long whatever the pattern says


def own_number(given: dict, notes: list[str], *names: str) -> float | None:
    """What a model_config says itself of a constant, under any of its names."""
    for name in names:
        if (own := given.get(name)) is not None:
            if isinstance(own, bool) or not isinstance(own, (int, float)) or not 0 < own <= 1e9:
                raise CheckpointError(f"model_config.{name} is {own!r}, which is no positive number")
            notes.append(f"{names[0]} {own:g}, from model_config")
            return float(own)
    return None


def pick_softcap(era: Era, meta: dict, base_meta: dict, notes: list[str]) -> float:
    """The softcap. Where the checkpoint cannot tell, it is guessed, and noted."""
    own = own_number(meta["model_config"], notes, "softcap", "logit_softcap")
    if own or era.sign != GATE or era.gate_columns != 32:
        return own or 15.0
    tuned, base = (of.get("user_config") or {} for of in (meta, base_meta))
    # For one week it was 20, which two defaults in the base run's settings give away. Chat models whose own
    # settings have a dtype are older.
    of_that_week = any("adam_beta1" in run and run.get("eval_tokens") == 41943040 for run in (tuned, base))
    softcap, why = 15.0, "since nothing points to the week of March 2026 that had 20"
    if of_that_week and "dtype" not in tuned:
        softcap, why = 20.0, "guessed from user_config (its eval_tokens and adam_beta1)"
    override = 'add "softcap": 15 or 20 to the meta\'s model_config if you know better'
    notes.append(f"softcap {softcap:g}, {why}; {override}")
    return softcap


def to_newest_names(weights: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The same function in the newest names: one value table per layer that has one, lambdas everywhere."""
    n_layer, dtype = config.n_layer, weights["transformer.wte.weight"].dtype
    weights = {"resid_lambdas": torch.ones(n_layer), "x0_lambdas": torch.zeros(n_layer)} | weights
    if "value_embed_A.weight" in weights:  # a product of thin matrices: multiplied out once, it is one table
        a, b = weights.pop("value_embed_A.weight"), weights.pop("value_embed_B.weight")
        weights["value_embed.weight"] = (a.float() @ b.float().T).to(dtype)
    if "value_embed.weight" in weights:
        table = weights.pop("value_embed.weight")
        weights |= {f"value_embeds.{i}.weight": table for i in range(n_layer - n_layer // 4, n_layer)}
    weights["lm_head.weight"] = weights["lm_head.weight"][: config.vocab_size]  # padding is never a token
    return weights


# ---- Reading -----------------------------------------------------------------------------------------------

MAX_JSON = 2**25  # bytes; the tokenizer.json of 65,536 tokens has 7 million
PORTION = 2**25  # bytes: what was read of a map counts as memory until the map is closed
FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
RENAMED = {  # transformers' words for nanochat's
    "model.embed_tokens": "transformer.wte", "model.layers": "transformer.h", "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj", "self_attn.q_proj": "attn.c_q", "self_attn.k_proj": "attn.c_k",
    "self_attn.v_proj": "attn.c_v", "self_attn.o_proj": "attn.c_proj",
}  # fmt: skip


@dataclass
class Checkpoint:
    """One model in host memory, its matrices in the dtype they are multiplied in."""

    name: str
    era: Era
    config: Config
    weights: dict[str, Tensor]
    tokenizer: "Tokenizer"
    parameters: int
    notes: tuple[str, ...]
    cpu_model: FastGPT | None = None  # once it is there it owns the weights; engines on the CPU share it

    def engine(self, device: torch.device) -> Engine:
        """A replica of the model on a device. Engines on GPUs have to be made before those on the CPU."""
        if device.type == "cpu":
            self.cpu_model = self.cpu_model or FastGPT(self.config, self.weights)
            return Engine(self.cpu_model, self.tokenizer)
        assert not self.cpu_model, "the CPU's engine has changed the weights: make those of GPUs first"
        moved = {id(tensor): tensor.to(device) for tensor in self.weights.values()}  # shared tables once
        weights = {key: moved[id(tensor)] for key, tensor in self.weights.items()}
        return Engine(FastGPT(self.config, weights), self.tokenizer)


@readable()
def read(found: Found, dtype: torch.dtype) -> Checkpoint:
    """Opens a checkpoint's files, none of which can run code. Raises CheckpointError."""
    tokenizer = read_tokenizer(found.tokenizer)
    meta, base_meta = read_meta(found.meta), read_base_meta(found)
    stored = read_weights(found.model, dtype)
    parameters = sum(tensor.numel() for tensor in stored.values())
    try:
        era, config, weights, notes = adapt(stored, meta, base_meta)
    except CheckpointError as error:
        raise CheckpointError(f"{found.model}: {error} (its meta is {found.meta.name})") from None
    if tokenizer.size != config.vocab_size:
        sizes = f"{tokenizer.size} tokens, the model a vocab_size of {config.vocab_size}"
        raise CheckpointError(f"{found.tokenizer} does not belong to {found.model}: it has {sizes}")
    return Checkpoint(found.name, era, config, weights, tokenizer, parameters, (*found.notes, *notes))


def read_weights(path: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """A model file's tensors, cast, in memory of their own: a file that changes later changes nothing."""
    whole = path.suffix == ".pt" and dtype == torch.float32  # nothing to cast: to read is quicker than to map
    form = functools.partial(map_archive, mapped=not whole) if path.suffix == ".pt" else map_safetensors
    try:
        mapped, weights, taken = form(path), {}, 0
        for key in sorted(mapped, key=lambda key: -mapped[key].nbytes):  # the largest while there is room
            if not whole and taken + mapped[key].nbytes > PORTION:
                tensor, mapped, taken = None, mapped.clear() or form(path), 0
            tensor = mapped.pop(key)
            if not tensor.is_floating_point() or tensor.nbytes > tensor.untyped_storage().nbytes():
                raise ValueError(f"key {key} holds {tensor.dtype}, not floating point numbers of its own")
            # Lambdas stay float32: they are single numbers, and bfloat16 would round them.
            weights[key] = tensor.to(dtype if tensor.dim() > 1 else torch.float32, copy=not whole)
            taken += tensor.nbytes
    except Exception as error:  # a damaged or hostile file fails in any way, and none may be a traceback
        raise CheckpointError(f"{path}: no tensors can be read from it ({first_line(error)})") from None
    return weights


def arrived(path: Path) -> bytes:
    """The first bytes of a file. ValueError for what lies in the place of one that has not arrived."""
    with path.open("rb") as file:
        head = file.read(32)
    if not head:
        raise ValueError("it is empty: download or copy it again")
    if head.startswith(b"version https://git-lfs"):
        raise ValueError("it is only git-lfs's pointer to the file: run git lfs pull in its folder")
    return head


def map_archive(path: Path, mapped: bool = True) -> dict[str, Tensor]:
    """What torch.save wrote since 2020, a zip archive. torch reads older forms in ways that have run code."""
    if arrived(path)[:4] != b"PK\3\4":
        raise ValueError("it is no zip archive, as torch saves")
    if not zipfile.is_zipfile(path):
        raise ValueError("its end is missing: download or copy it again")
    if any(record.compress_type for record in zipfile.ZipFile(path).infolist()):
        raise ValueError("it was compressed, which torch never does")
    weights = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    for name in ("model", "model_state", "model_state_dict", "state_dict"):  # beside an optimiser's state
        if isinstance(weights, dict) and isinstance(weights.get(name), dict):
            weights = weights[name]
    values = weights.values() if isinstance(weights, dict) else [None]
    if not all(isinstance(value, Tensor) and not value.is_nested for value in values):
        raise ValueError("it holds something else than a dict of tensors")
    return {re.sub(r"^(module\.|_orig_mod\.)+", "", str(key)): each.detach() for key, each in weights.items()}


def map_safetensors(path: Path) -> dict[str, Tensor]:
    """A length, a JSON object that says what lies where, and the numbers; or the index of several such."""
    if path.suffix == ".json":
        shards = [path.with_name(Path(name).name) for name in set(read_json(path)["weight_map"].values())]
        return {key: tensor for shard in sorted(shards) for key, tensor in map_safetensors(shard).items()}
    size, weights = path.stat().st_size, {}
    first = end = 8 + int.from_bytes(arrived(path)[:8], "little")
    if end > min(size, MAX_JSON):
        raise ValueError(f"its header is to end at byte {end} of {size}: it is damaged or cut off")
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
    numbers, header = torch.frombuffer(mapped, dtype=torch.uint8), json.loads(mapped[8:end])
    header.pop("__metadata__", None)
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape, begin = FLOATS[entry["dtype"]], entry["shape"], end
        end += math.prod(shape) * dtype.itemsize
        if entry["data_offsets"] != [begin - first, end - first] or min(shape, default=0) < 0 or end > size:
            raise ValueError(f"{name} is not where it should be, or has another size")
        for theirs, ours in RENAMED.items():
            name = name.replace(theirs, ours)
        weights[name] = numbers[begin:end].view(dtype).view(shape)
    if end != size:
        raise ValueError(f"it is to end at byte {end} of {size}: it is damaged or cut off")
    return weights


def read_json(path: Path) -> dict:
    try:
        if arrived(path) and path.stat().st_size > MAX_JSON:
            raise ValueError("it is too large")
        data = json.loads(path.read_bytes())  # in bytes it knows a byte order mark, and UTF-16
        if not isinstance(data, dict) or not isinstance(data.get("user_config") or {}, dict):
            raise ValueError("it is no JSON object with objects as model_config and user_config")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: it cannot be read as JSON ({first_line(error)})") from None
    return data


def read_meta(path: Path) -> dict:
    """The meta; or as one transformers' config.json, which has to be of nanochat's architecture."""
    meta = read_json(path)
    if path.name != "config.json":
        return meta
    rope = meta.get("rope_parameters") or meta.get("rope_scaling") or {}
    told = {"model_type": None} | meta | (rope if isinstance(rope, dict) else {"rope_type": rope})
    only = {"model_type": "nanochat", "hidden_act": "relu2", "attention_bias": False, "rope_type": "default"}
    for name, value in only.items():
        if told.get(name, value) != value:
            raise CheckpointError(f"{path}: its {name} is {told[name]!r}, and only {value!r} runs here")
    softcap = told.get("final_logit_softcapping", told.get("logits_soft_cap", 15.0))
    return {"model_config": {
        "sequence_len": told.get("max_position_embeddings"), "vocab_size": told.get("vocab_size"),
        "n_head": told.get("num_attention_heads"), "rope_base": told.get("rope_theta"), "rope_bf16": False,
        "softcap": 1e6 if softcap is None else softcap,
    }}  # fmt: skip


def read_base_meta(found: Found) -> dict:
    """The newest meta of the base model with the same tag, if folders lie as nanochat has them; else {}."""
    folder = found.model.absolute().parent
    base_model = folder.parent.parent / "base_checkpoints" / folder.name
    runs = search(base_model)[0] if KINDS.get(folder.parent.name) in ("sft", "rl") else []  # mid is too old
    return read_meta(max(runs, key=lambda run: run.step).meta) if runs else {}


def first_line(error: Exception) -> str:
    text = f"no {error}" if isinstance(error, KeyError) else str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


# ---- The tokenizer and the chat format ---------------------------------------------------------------------

TOOL_MARKERS = ("<|python_start|>", "<|python_end|>", "<|output_start|>", "<|output_end|>")
TURN_MARKERS = ("<|user_start|>", "<|user_end|>", "<|assistant_start|>", "<|assistant_end|>")
SPECIALS = ("<|bos|>", *TURN_MARKERS, *TOOL_MARKERS)
PROBE = "Is it 12.5 + 3?\n\n\tIt's  çà 漢字 🙂 "  # letters, digits, signs and spaces of all kinds


class TokenizerUnpickler(pickle._Unpickler):  # the one in C takes gigabytes where ten bytes ask for them
    def find_class(self, module, name):
        if (module, name) == ("tiktoken.core", "Encoding"):
            return types.SimpleNamespace  # it takes the state and does nothing with it
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, where only an Encoding is allowed")


def read_tokenizer(path: Path) -> "Tokenizer":
    """Either form without running anything in it: its state is read as data, the Encoding built here."""
    try:
        unpickler = TokenizerUnpickler(io.BytesIO(arrived(path) and path.read_bytes()))
        state = tokenizer_json(path) if path.suffix == ".json" else vars(unpickler.load())
        ranks, specials = dict(state["mergeable_ranks"]), dict(state["special_tokens"])
        check_vocabulary(ranks, specials)
        tables = {"mergeable_ranks": ranks, "special_tokens": specials}
        encoding = tiktoken.Encoding("nanochat", pat_str=state["pat_str"], **tables)
        if encoding.decode(encoding.encode_ordinary(PROBE)) != PROBE:
            raise ValueError("its pattern leaves out text")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # as in read_weights; a failure of tiktoken's native code is no Exception
        raise CheckpointError(f"{path}: it is no tokenizer of nanochat's ({first_line(error)})") from None
    return Tokenizer(encoding, specials)


def tokenizer_json(path: Path) -> dict:
    """The state of an Encoding from the file of the tokenizers package, in which letters stand for bytes."""
    data = read_json(path)
    split, *others = [step for step in data["pre_tokenizer"]["pretokenizers"] if step["type"] != "ByteLevel"]
    keeps_all = (split["behavior"], split["invert"]) in (("Isolated", False), ("Removed", True))
    if data["model"]["type"] != "BPE" or data.get("normalizer") or others or not keeps_all:
        raise ValueError("it is no byte-level BPE after one split by a pattern")
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]  # these stand for themselves
    byte_of = {chr(byte): byte for byte in shown}
    byte_of |= {chr(256 + i): byte for i, byte in enumerate(sorted({*range(256)} - {*shown}))}
    special = {token["content"]: token["id"] for token in data["added_tokens"]}
    plain = {token: rank for token, rank in data["model"]["vocab"].items() if token not in special}
    ranks = {bytes(map(byte_of.__getitem__, token)): rank for token, rank in plain.items()}
    return {"mergeable_ranks": ranks, "special_tokens": special, "pat_str": split["pattern"]["Regex"]}


def check_vocabulary(ranks: dict[bytes, int], specials: dict[str, int]) -> None:
    """ValueError for tokens that nanochat does not write; some of them crash tiktoken's native code."""
    if missing := [name for name in SPECIALS if name not in specials]:
        raise ValueError(f"it has no token {missing[0]}, so it cannot chat")
    if not all(isinstance(key, bytes) for key in ranks) or any(bytes([i]) not in ranks for i in range(256)):
        raise ValueError("its tokens do not cover all bytes")
    size = len(ranks) + len(specials)
    if sorted([*ranks.values(), *specials.values()]) != list(range(size)):
        raise ValueError(f"its token numbers are not 0 to {size - 1}")


class Tokenizer:
    """Text to tokens and back. Text is never read as a special token, whoever wrote it."""

    def __init__(self, encoding: tiktoken.Encoding, special: dict[str, int]):
        self.encoding, self.special = encoding, special
        self.size = encoding.n_vocab
        self.stops = {special["<|assistant_end|>"], special["<|bos|>"]}

    def raw(self, token: int) -> bytes:
        return self.encoding.decode_single_token_bytes(token)

    def show(self, token: int) -> str:
        """A token as people read it; bytes that are no whole character look like \\xe4."""
        return self.raw(token).decode("utf-8", "backslashreplace")

    def encode(self, text: str) -> list[int]:
        return self.encoding.encode_ordinary(text)

    def decode(self, tokens: Iterable[int]) -> str:
        return b"".join(map(self.raw, tokens)).decode("utf-8", "replace")

    def encode_reply(self, text: str) -> list[int]:
        """An assistant's text. The tool markers in it, which the server streams, become tokens again."""
        pieces = re.split(f"({'|'.join(map(re.escape, TOOL_MARKERS))})", text)
        ids = ([self.special[piece]] if piece in TOOL_MARKERS else self.encode(piece) for piece in pieces)
        return [token for part in ids for token in part]

    def render(self, messages: list[dict], encode: Callable | None = None) -> list[int]:
        """A conversation as training wrote it, up to where the reply begins, or with its beginning."""
        tokens, system = [self.special["<|bos|>"]], ""
        for message in messages:
            if message["role"] == "system":
                system = message["content"] + "\n\n"  # it joins the user's
                continue
            before, system = (system, "") if message["role"] == "user" else ("", system)
            tokens += (encode or self.encode_message)(message["role"], before + message["content"])
        goes_on = messages[-1]["role"] == "assistant"
        return tokens[:-1] if goes_on else [*tokens, self.special["<|assistant_start|>"]]

    def encode_message(self, role: str, text: str) -> list[int]:
        """A message between its two marks."""
        inner = self.encode(text) if role == "user" else self.encode_reply(text)
        return [self.special[f"<|{role}_start|>"], *inner, self.special[f"<|{role}_end|>"]]

    def fit_prompt(self, messages: list[dict], context: int, max_tokens: int) -> tuple[list[int], int]:
        """The prompt that fits into the context beside the reply, and how many messages were left out.

        The reply gets room for max_tokens, at most a quarter of the context. Whole turns (a user message and
        what follows it) go from the oldest on. ValueError if system and newest user message alone do not fit.
        """
        limit = context - min(max_tokens, context // 4)
        system = [message for message in messages[:1] if message["role"] == "system"]
        rest = messages[len(system) :]
        turns = sorted({0, *(i for i, message in enumerate(rest) if message["role"] == "user")})
        encode = functools.cache(self.encode_message)  # each message once, whatever is tried

        def prompt(turn: int) -> list[int]:
            return self.render(system + rest[turns[turn] :], encode)

        first = bisect.bisect_left(range(len(turns)), True, key=lambda turn: len(prompt(turn)) <= limit)
        if first == len(turns):
            room = f"and only {limit} fit beside the reply in a context of {context} tokens"
            raise ValueError(f"system and newest message alone take {len(prompt(first - 1))} tokens, {room}")
        return prompt(first), turns[first]

    def stream_text(self, tokens: Iterable[int], before: Sequence[int] = ()) -> Iterator[str]:
        """The text of each token but stop tokens, as far as its characters are whole: joined, the reply.

        A character that the end cuts in two comes as U+FFFD, one that has begun in `before` whole.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.decode(b"".join(map(self.raw, before[-3:])))  # a character has four bytes at most
        for token in tokens:
            if token not in self.stops:
                yield decoder.decode(self.raw(token))
        if tail := decoder.decode(b"", final=True):
            yield tail
