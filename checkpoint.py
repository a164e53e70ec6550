"""A folder of nanochat's in, a model and a tokenizer out, of whatever architecture nanochat had at the time.

`load_model` does it all, for Python. `find` picks the files. `read` opens them without ever running code from
them, and adapts any architecture that nanochat has trained to the one that engine.py computes. `Tokenizer`
turns conversations into tokens, and tokens into text. Whatever is wrong with files is a `CheckpointError`,
whose sentence names the file and the key, shape or number. Nothing here knows HTTP or imports nanochat.
"""

import bisect
import codecs
import contextlib
import json
import os
import pickle
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
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


def load_model(source="sft", tag=None, step=None, device="auto", dtype="bfloat16") -> Engine:
    """An engine that chats, from the files that chat_web.py would take with -i, -g and -s.

    device is "auto" or one of torch's, dtype "bfloat16" or "float32". Raises CheckpointError about files.
    """
    prepare_torch()
    model = read(find(base_dir(), source, tag, step), DTYPES[dtype])
    return model.engine(torch.device(best_device() if device == "auto" else device))


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def prepare_torch() -> None:
    """Settings of the process for speed. They have to be made before torch has allocated anything."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # Linux: huge pages, from which a CPU reads 8 % more
    # cuDNN's attention plans anew for every length and in every thread. Each request brings its own of both.
    torch.backends.cuda.enable_cudnn_sdp(False)


def notes_on_torch(gpus: int) -> list[str]:
    """What this torch is known to do badly on so many GPUs."""
    release = tuple(map(int, re.findall(r"\d+", torch.__version__)[:2]))
    if gpus > 1 and release < (2, 10):
        return [f"torch {torch.__version__} can crash in cuBLAS when several GPUs compute: 2.10 is safer"]
    return []


# ---- Finding -----------------------------------------------------------------------------------------------

SOURCES = {
    "sft": ("chatsft_checkpoints", "sft_checkpoints"),  # the second for one day of 2026, by mistake
    "rl": ("chatrl_checkpoints",),
    "mid": ("mid_checkpoints",),
    "base": ("base_checkpoints",),
}


@dataclass(frozen=True)
class Found:
    """The files of one checkpoint."""

    model: Path
    meta: Path
    tokenizer: Path
    notes: tuple[str, ...] = ()  # what was passed over on the way, for the log

    @property
    def name(self) -> str:
        """What people call it: tag, kind and step."""
        tag, step = self.model.parent, int(self.model.stem.removeprefix("model_"))
        kind = [source for source, folders in SOURCES.items() if tag.parent.name in folders]
        return ", ".join([tag.resolve().name, *kind, f"step {step}"])


def base_dir() -> Path:
    """nanochat's own folder: $NANOCHAT_BASE_DIR, else ~/.cache/nanochat."""
    return Path(os.environ.get("NANOCHAT_BASE_DIR") or "~/.cache/nanochat").expanduser()


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """CheckpointError for a folder that this user may not look into."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{error.filename}: {error.strerror}") from None


@readable()
def holds_any(base: Path) -> bool:
    """Whether a base directory holds a complete checkpoint of any source."""
    parents = [base / name for names in SOURCES.values() for name in names]
    return any(pairs(folder)[0] for parent in parents for folder in subfolders(parent))


def subfolders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []


@readable()
def find(base: Path, source: str, tag: str | None = None, step: int | None = None) -> Found:
    """The checkpoint with this tag and step, the largest of each where None. A tag may also be a path."""
    notes: list[str] = []
    folder = pick_folder(base, source, tag, notes)
    steps, lonely = pairs(folder)
    if not steps:
        held = f"only {', '.join(lonely)} without a meta" if lonely else f"it holds {listing(folder)}"
        raise CheckpointError(f"no model_NNNNNN.pt with its meta_NNNNNN.json in {folder}: {held}")
    if step is not None and step not in steps:
        held = ", ".join(map(str, sorted(steps)))
        raise CheckpointError(f"no step {step} in {folder}: it holds {held}; pass one of them with -s")
    notes += [f"{folder / name} has no meta beside it and is skipped" for name in lonely]
    model, meta = steps[max(steps) if step is None else step]
    return Found(model, meta, find_tokenizer(folder), tuple(notes))


def pick_folder(base: Path, source: str, tag: str | None, notes: list[str]) -> Path:
    """The folder of one model: by its path, by its tag, or the deepest one there is."""
    if tag and ("/" in tag or os.sep in tag or tag.startswith(("~", "."))):
        path = Path(tag).expanduser()
        if not path.is_dir():
            raise CheckpointError(f"-g {tag}: there is no such folder")
        return path
    folders = [folder for name in SOURCES[source] for folder in subfolders(base / name)]
    if tag:
        here = [Path(tag)] if Path(tag).is_dir() else []
        for named in [folder for folder in folders if folder.name == tag] + here:
            return named
        others = ", ".join(folder.name for folder in folders) or "none"
        searched = base / SOURCES[source][0]
        raise CheckpointError(f"no tag {tag} in {searched}: there are {others}; pass -g TAG or -g PATH")
    complete = [folder for folder in folders if pairs(folder)[0]]
    skipped = [folder for folder in folders if folder not in complete]
    notes += [f"{folder} holds no complete checkpoint and is skipped" for folder in skipped]
    if not complete:
        raise CheckpointError(nothing_found(base, source))
    return max(complete, key=depth_then_age)


def depth_then_age(folder: Path) -> tuple[int, float]:
    """Orders d<N>... by N, whatever follows, after any other name; equals by when they last changed."""
    match = re.match(r"d([0-9]+)", folder.name)
    return (int(match[1]) if match else -1, folder.stat().st_mtime)


def nothing_found(base: Path, source: str) -> str:
    searched = base / SOURCES[source][0]
    others = [name for name, parents in SOURCES.items() if any(subfolders(base / p) for p in parents)]
    hint = f"pass -i {' or -i '.join(others)}, or " if others and source not in others else ""
    held = f"holds {listing(base)}" if base.is_dir() else "does not exist"
    rest = "pass -g PATH, or set NANOCHAT_BASE_DIR to the folder that nanochat wrote"
    return f"no checkpoint in {searched}: {base} {held}; {hint}{rest}"


def listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:10] + ["..."] * (len(names) > 10)) or "nothing"


def pairs(folder: Path) -> tuple[dict[int, tuple[Path, Path]], list[str]]:
    """step -> (model file, meta file) of a folder's complete pairs, and the names of lonely models."""
    steps, lonely = {}, []
    for model in sorted(folder.iterdir()):
        if match := re.fullmatch(r"model_([0-9]+)\.pt", model.name):
            meta = folder / f"meta_{match[1]}.json"
            if meta.is_file():
                steps[int(match[1])] = model, meta
            else:
                lonely.append(model.name)
    return steps, lonely


def find_tokenizer(folder: Path) -> Path:
    """tokenizer.pkl beside the model, in a folder beside it, or where nanochat's base directory has it."""
    # A tag folder may be a link to another disk: its base directory is where the link lies or leads to.
    bases = folder.absolute().parent.parent, folder.resolve().parent.parent
    places = dict.fromkeys((folder, folder / "tokenizer", *(base / "tokenizer" for base in bases)))
    for place in places:
        if (place / "tokenizer.pkl").is_file():
            return place / "tokenizer.pkl"
    raise CheckpointError(f"no tokenizer.pkl for {folder}: looked in {', '.join(map(str, places))}")


# ---- Architectures -----------------------------------------------------------------------------------------

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
    # R rows of the embeddings, C channels, F is 4 C, N key/value channels, K key/value heads, L layers,
    # G gate columns, B bigram rows.
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


def detect_era(weights: dict[str, Tensor], last_layer: int) -> Era:
    """The era of a checkpoint, from its keys and the width of the value embeddings' gate."""
    for era in ERAS:
        tensor = weights.get(era.sign.format(last=last_layer))
        if tensor is not None and (era.sign != GATE or tensor.shape[-1:] == (era.gate_columns,)):
            return era
    raise CheckpointError("key transformer.wte.weight is missing: this is no nanochat model")


def adapt(stored: dict, meta: dict, base_meta: dict, dtype) -> tuple[Era, Config, dict, list[str]]:
    """A state dict of any era as engine.py computes it: the era, config, weights, and notes for the log.

    stored is emptied. base_meta is the meta of the base model that a chat model was tuned from, or {}. Where
    meta and shapes contradict each other the shapes win, but for vocab_size and n_head, which no shape shows.
    Raises CheckpointError, whose sentence names no file yet.
    """
    given = model_config(meta)
    layers = [int(match[1]) for key in stored if (match := re.match(r"transformer\.h\.([0-9]{1,4})\.", key))]
    if given.get("num_experts") or any(".router." in key for key in stored):
        raise CheckpointError("a mixture-of-experts model (branches moe, moe3), which does not run here")
    if not layers:
        raise CheckpointError("key transformer.h.0.attn.c_q.weight is missing: this is no nanochat model")
    era = detect_era(stored, max(layers))
    sizes = sizes_of(stored, given, max(layers) + 1, era)
    check_keys(stored, era, sizes)
    cast = {}  # lambdas stay float32: they are single numbers, and bfloat16 would round them
    for key in list(stored):  # each is let go before the next is cast, so that memory holds about one copy
        tensor = stored.pop(key)
        cast[key] = tensor.to(dtype if tensor.dim() > 1 else torch.float32)
    windows, notes = pick_windows(era, given, meta, sizes["L"])
    softcap, why = pick_softcap(era, meta, base_meta)
    notes += [why] if why else []
    config = Config(
        sequence_len=given["sequence_len"], vocab_size=given["vocab_size"], n_head=given["n_head"],
        n_kv_head=sizes["K"], n_embd=sizes["C"], windows=windows, rope_base=era.rope_base,
        rope_bf16=era.rope_bf16, qk_scale=era.qk_scale, softcap=softcap, gate_factor=era.gate_factor,
    )  # fmt: skip
    return era, config, to_newest_names(cast, config), notes


def model_config(meta: dict) -> dict:
    """The meta's model_config, its numbers checked."""
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
    for key in ("transformer.wte.weight", "transformer.h.0.attn.c_k.weight"):
        if key not in weights:
            raise CheckpointError(f"key {key} is missing")
        if weights[key].dim() != 2:
            raise CheckpointError(f"key {key} has shape {tuple(weights[key].shape)} and is no matrix")
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
        if not weights[key].is_floating_point() or weights[key].layout != torch.strided:
            raise CheckpointError(f"key {key} holds {weights[key].dtype}, not plain floating point numbers")
    if unknown := sorted(weights.keys() - expected.keys()):
        raise CheckpointError(f"key {unknown[0]} is unknown to {era.name}, which the other keys show")


def pick_windows(era: Era, given: dict, meta: dict, n_layer: int) -> tuple[tuple[int | None, ...], list[str]]:
    """How far each layer sees: the meta's window_pattern, or what nanochat does without one; and notes."""
    long, short = given["sequence_len"], era.short_window(given["sequence_len"])
    pattern, notes = given.get("window_pattern"), []
    if pattern is None and ("lambdas" not in era.features or "device_batch_size" in meta):
        # Models without windows; only a base model's meta tells its batch size.
        return (None,) * n_layer, notes
    if pattern is None:
        pattern = "L"
        notes.append("the meta has no window_pattern: every layer sees all, as nanochat loads it")
    if not isinstance(pattern, str) or not re.fullmatch("[SL]+", pattern.upper()):
        raise CheckpointError(f"model_config.window_pattern is {pattern!r}, and not made of S and L")
    windows = [short if pattern.upper()[i % len(pattern)] == "S" else long for i in range(n_layer)]
    return (*windows[:-1], long), notes  # the last layer is long whatever the pattern says


def pick_softcap(era: Era, meta: dict, base_meta: dict) -> tuple[float, str]:
    """The softcap, and how it was chosen where the checkpoint cannot tell.

    Models with gated values had 15, and 20 for a week of March 2026. A base run of that week is known by two
    defaults among its settings, a chat model by its base model's; one whose own settings have a dtype is
    older than that week.
    """
    own = meta["model_config"].get("softcap")
    if own is not None:
        if isinstance(own, bool) or not isinstance(own, (int, float)) or not 0 < own < 1e6:
            raise CheckpointError(f"model_config.softcap is {own!r}, which is no positive number")
        return float(own), f"softcap {own:g}, from model_config"
    if era.sign != GATE or era.gate_columns != 32:
        return 15.0, ""
    override = 'add "softcap": 15 or 20 to the meta\'s model_config if you know better'
    tuned, base = (of.get("user_config") or {} for of in (meta, base_meta))
    of_that_week = any("adam_beta1" in run and run.get("eval_tokens") == 41943040 for run in (tuned, base))
    if of_that_week and "dtype" not in tuned:
        return 20.0, f"softcap 20, guessed from user_config (its eval_tokens and adam_beta1); {override}"
    return 15.0, f"softcap 15, since nothing points to the week of March 2026 that had 20; {override}"


def to_newest_names(weights: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The same function in the newest names: one value table per layer that has one, lambdas everywhere."""
    weights = dict(weights)
    n_layer, dtype = config.n_layer, weights["transformer.wte.weight"].dtype
    for key, neutral in (("resid_lambdas", 1.0), ("x0_lambdas", 0.0)):  # before January 2026 there were none
        weights.setdefault(key, torch.full((n_layer,), neutral))
    if "value_embed_A.weight" in weights:  # a product of thin matrices: multiplied out once, it is one table
        a, b = weights.pop("value_embed_A.weight"), weights.pop("value_embed_B.weight")
        weights["value_embed.weight"] = (a.float() @ b.float().T).to(dtype)
    if "value_embed.weight" in weights:
        table = weights.pop("value_embed.weight")
        weights |= {f"value_embeds.{i}.weight": table for i in range(n_layer - n_layer // 4, n_layer)}
    head = weights["lm_head.weight"]
    weights["lm_head.weight"] = head[: config.vocab_size]  # padding rows are never a token
    return weights


# ---- Reading -----------------------------------------------------------------------------------------------


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
        if device.type == "cuda":
            torch.cuda.set_device(device)  # of this thread, as in Engine.reply
        moved = {id(tensor): tensor.to(device) for tensor in self.weights.values()}  # shared tables once
        weights = {key: moved[id(tensor)] for key, tensor in self.weights.items()}
        return Engine(FastGPT(self.config, weights), self.tokenizer)


@readable()
def read(found: Found, dtype: torch.dtype) -> Checkpoint:
    """Opens a checkpoint's files: each is read once, and none can run code. Raises CheckpointError."""
    tokenizer = read_tokenizer(found.tokenizer)
    meta, base_meta = read_meta(found.meta), read_base_meta(found)
    stored = read_weights(found.model)
    parameters = sum(tensor.numel() for tensor in stored.values())
    try:
        era, config, weights, notes = adapt(stored, meta, base_meta, dtype)
    except CheckpointError as error:
        raise CheckpointError(f"{found.model}: {error} (its meta is {found.meta.name})") from None
    if tokenizer.size != config.vocab_size:
        sizes = f"{tokenizer.size} tokens, the model a vocab_size of {config.vocab_size}"
        raise CheckpointError(f"{found.tokenizer} does not belong to {found.model}: it has {sizes}")
    return Checkpoint(found.name, era, config, weights, tokenizer, parameters, (*found.notes, *notes))


def read_weights(path: Path) -> dict[str, Tensor]:
    """A model file's tensors, in memory of their own: a file that changes later changes nothing."""
    try:
        with path.open("rb") as file:
            if file.read(4) != b"PK\3\4":  # torch reads older forms in ways that have run code
                raise ValueError("it is no zip archive, as torch has saved since 2020")
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file fails in any way, and none may be a traceback
        raise CheckpointError(f"{path}: torch reads no plain tensors in it ({first_line(error)})") from None
    values = weights.values() if isinstance(weights, dict) else [None]
    if not all(isinstance(value, Tensor) and not value.is_nested for value in values):
        raise CheckpointError(f"{path}: it holds something else than a dict of tensors")
    return {str(key).removeprefix("_orig_mod."): value.detach() for key, value in weights.items()}


def read_meta(path: Path) -> dict:
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: it cannot be read as JSON ({first_line(error)})") from None
    if not isinstance(meta, dict) or not isinstance(meta.get("user_config") or {}, dict):
        raise CheckpointError(f"{path}: it is no JSON object with objects as model_config and user_config")
    return meta


def read_base_meta(found: Found) -> dict:
    """The newest meta of the base model with the same tag, if folders lie as nanochat has them; else {}."""
    folder = found.model.absolute().parent
    sibling = folder.parent.parent / "base_checkpoints" / folder.name
    if folder.parent.name not in (*SOURCES["sft"], *SOURCES["rl"]) or not sibling.is_dir():
        return {}  # mid checkpoints are all older than the question this answers
    steps, _ = pairs(sibling)
    return read_meta(steps[max(steps)][1]) if steps else {}


def first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


# ---- The tokenizer and the chat format ---------------------------------------------------------------------

TOOL_MARKERS = ("<|python_start|>", "<|python_end|>", "<|output_start|>", "<|output_end|>")
TURN_MARKERS = ("<|user_start|>", "<|user_end|>", "<|assistant_start|>", "<|assistant_end|>")
SPECIALS = ("<|bos|>", *TURN_MARKERS, *TOOL_MARKERS)
PROBE = "Is it 12.5 + 3?\n\n\tIt's  çà 漢字 🙂 "  # letters, digits, signs and spaces of all kinds


class Pickled:
    """Stands where the file says tiktoken.core.Encoding: it takes the state and does nothing with it."""

    def __setstate__(self, state):
        self.state = state


class TokenizerUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) == ("tiktoken.core", "Encoding"):
            return Pickled
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, where only an Encoding is allowed")


def read_tokenizer(path: Path) -> "Tokenizer":
    """tokenizer.pkl without running anything in it: its state is read as data, the Encoding built here."""
    try:
        with path.open("rb") as file:
            state = TokenizerUnpickler(file).load().state
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


def check_vocabulary(ranks: dict[bytes, int], specials: dict[str, int]) -> None:
    """ValueError for tokens that nanochat does not write; some of them crash tiktoken's native code."""
    if missing := [name for name in SPECIALS if name not in specials]:
        raise ValueError(f"it has no token {missing[0]}, so it cannot chat")
    every_byte = all(bytes([byte]) in ranks for byte in range(256))
    if not every_byte or not all(isinstance(key, bytes) for key in ranks):
        raise ValueError("its tokens do not cover all bytes")
    size = len(ranks) + len(specials)
    if sorted([*ranks.values(), *specials.values()]) != list(range(size)):
        raise ValueError(f"its token numbers are not 0 to {size - 1}")


class Tokenizer:
    """Text to tokens and back. Text is never read as a special token, whoever wrote it."""

    def __init__(self, encoding: tiktoken.Encoding, special: dict[str, int]):
        self.encoding = encoding
        self.special = special
        self.size = encoding.n_vocab
        self.stops = {special["<|assistant_end|>"], special["<|bos|>"]}

    def encode(self, text: str) -> list[int]:
        return self.encoding.encode_ordinary(text)

    def decode(self, tokens: Iterable[int]) -> str:
        return b"".join(map(self.encoding.decode_single_token_bytes, tokens)).decode("utf-8", "replace")

    def encode_reply(self, text: str) -> list[int]:
        """An assistant's text. The tool markers in it, which the server streams, become tokens again."""
        pieces = re.split(f"({'|'.join(map(re.escape, TOOL_MARKERS))})", text)
        ids = ([self.special[piece]] if piece in TOOL_MARKERS else self.encode(piece) for piece in pieces)
        return [token for part in ids for token in part]

    def render(self, messages: list[dict]) -> list[int]:
        """A conversation as training wrote it, up to where the reply begins, or goes on.

        Messages are {"role": ..., "content": ...}. A leading system message joins the first user message. The
        assistant's as the last one is the beginning of the reply.
        """
        tokens, system = [self.special["<|bos|>"]], ""
        for message in messages:
            if message["role"] == "system":
                system = message["content"] + "\n\n"
                continue
            tokens += self.encode_message(message, system)
            system = "" if message["role"] == "user" else system
        if messages[-1]["role"] == "assistant":
            return tokens[:-1]
        return [*tokens, self.special["<|assistant_start|>"]]

    def encode_message(self, message: dict, system: str = "") -> list[int]:
        """A message between its two marks. The system text goes before a user's."""
        role, text = message["role"], message["content"]
        inner = self.encode(system + text) if role == "user" else self.encode_reply(text)
        return [self.special[f"<|{role}_start|>"], *inner, self.special[f"<|{role}_end|>"]]

    def fit_prompt(self, messages: list[dict], context: int, max_tokens: int) -> tuple[list[int], int]:
        """The prompt that fits into the context beside the reply, and how many messages were left out.

        The reply gets room for max_tokens, at most a quarter of the context. Whole turns (a user message and
        what follows it) go from the oldest on. ValueError if system and newest user message alone do not fit.
        """
        limit = context - min(max_tokens, context // 4)
        system = [message for message in messages[:1] if message["role"] == "system"]
        rest = messages[len(system) :]
        users = [i for i, message in enumerate(rest) if message["role"] == "user"]
        turns = sorted({0, *users})
        sizes = [len(self.encode_message(message)) for message in rest]  # once: there may be hundreds
        around = 0 if rest[-1]["role"] == "assistant" else 2
        before = system[0]["content"] + "\n\n" if system else ""

        def size(turn: int) -> int:
            total = sum(sizes[turns[turn] :]) + around
            if not system or not users:
                return total
            joined = max(turns[turn], users[0])
            return total - sizes[joined] + len(self.encode_message(rest[joined], before))

        first = bisect.bisect_left(range(len(turns)), True, key=lambda turn: size(turn) <= limit)
        if first == len(turns):
            what = "the system message and the newest message take" if system else "the newest message takes"
            tokens = f"{size(first - 1)} tokens, and only {limit} fit"
            raise ValueError(f"{what} {tokens} beside the reply in a context of {context} tokens")
        return self.render(system + rest[turns[first] :]), turns[first]

    def stream_text(self, tokens: Iterable[int]) -> Iterator[str]:
        """The text of each token as far as its characters are whole, maybe "": joined, they are the reply.

        Stop tokens have no text. A character that the end cuts in two comes as U+FFFD.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token in tokens:
            if token not in self.stops:
                yield decoder.decode(self.encoding.decode_single_token_bytes(token))
        if tail := decoder.decode(b"", final=True):
            yield tail
