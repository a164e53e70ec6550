"""What people have on disk: it loads as nanochat's own folders do, or a sentence says what to do."""

import json
import os
import pickle
import re
import shutil
import struct
import zipfile

import pytest
import torch

import checkpoint
from standins import FLOAT32, HERE, change, refusal, run, started, write_pair, write_tokenizer
from test_chat_web import GOLDENS, environment, find, require_goldens

STEP, TAG = 700, "d3"  # of the golden that all layouts are built from


@pytest.fixture
def golden(tmp_path, monkeypatch):
    """An empty folder. Outside of it there is nothing to be found."""
    require_goldens()
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(tmp_path / "nowhere"))
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def pair(folder, source=GOLDENS / "plain" / "chatsft_checkpoints" / TAG) -> None:
    shutil.copytree(source, folder, dirs_exist_ok=True)


def tokenizer(folder) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(GOLDENS / "plain" / "tokenizer" / "tokenizer.pkl", folder)


def base_directory(folder, *sources) -> None:
    tokenizer(folder / "tokenizer")
    for source in sources:
        pair(folder / source / TAG)


def flat(folder, place=".") -> None:
    pair(folder)
    tokenizer(folder / place)


# The same files in transformers' form -----------------------------------------------------------------------


def to_json(folder) -> None:
    """tokenizer.json in the place of a tokenizer.pkl."""
    file = folder / "tokenizer.pkl"
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(pickle.loads(file.read_bytes()))))
    file.unlink()


def tokenizer_json(encoding) -> dict:
    """A tiktoken Encoding as the tokenizers package writes one."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in shown}
    letters |= {byte: chr(256 + i) for i, byte in enumerate(byte for byte in range(256) if byte not in shown)}
    vocabulary = {"".join(map(letters.get, token)): rank for token, rank in encoding._mergeable_ranks.items()}
    split = {
        "type": "Split",
        "pattern": {"Regex": encoding._pat_str},
        "behavior": "Isolated",
        "invert": False,
    }
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    rules = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
    special = [{"id": rank, "content": name} | rules for name, rank in encoding._special_tokens.items()]
    return {
        "version": "1.0", "added_tokens": special, "normalizer": None, "post_processor": None,
        "truncation": None, "padding": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "decoder": level, "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }  # fmt: skip


CONFIG = {"model_type": "nanochat", "hidden_act": "relu2", "max_position_embeddings": 64, "vocab_size": 537,
          "num_attention_heads": 3, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
          "final_logit_softcapping": 15.0}  # fmt: skip
THEIR_NAMES = {
    "transformer.wte": "model.embed_tokens", "transformer.h": "model.layers", "attn.c_q": "self_attn.q_proj",
    "attn.c_k": "self_attn.k_proj", "attn.c_v": "self_attn.v_proj", "attn.c_proj": "self_attn.o_proj",
    "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
}  # fmt: skip


def safetensors(weights: dict, **damage) -> bytes:
    """Float32 tensors in this form."""
    header, numbers = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in weights.items():
        raw = struct.pack(f"<{tensor.numel()}f", *tensor.flatten().tolist())
        places = [len(numbers), len(numbers) + len(raw)]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": places}
        numbers += raw
    for name, changes in damage.items():
        header[name].update(changes)
    written = json.dumps(header).encode()
    written += b" " * (-len(written) % 8)
    return len(written).to_bytes(8, "little") + written + numbers


def theirs(name: str) -> str:
    """nanochat's name of a weight as transformers has it."""
    for ours, word in THEIR_NAMES.items():
        name = name.replace(ours, word)
    return name


def transformers(folder, shards=1) -> None:
    flat(folder)
    to_json(folder)
    (model,), (meta,) = folder.glob("model_*.pt"), folder.glob("meta_*.json")
    weights = {theirs(name): tensor.float() for name, tensor in torch.load(model).items()}
    model.unlink()
    meta.unlink()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    if shards == 1:
        (folder / "model.safetensors").write_bytes(safetensors(weights))
        return
    files = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, name in enumerate(weights)}
    for file in set(files.values()):
        part = {name: tensor for name, tensor in weights.items() if files[name] == file}
        (folder / file).write_bytes(safetensors(part))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


# Layouts: a row of checkpoint.py's table each ---------------------------------------------------------------


def hub_cache(folder) -> None:
    """Snapshots of links, of which the newest counts and not the last step."""
    cache = folder / "models--someone--nanochat-d3"
    flat(folder / "files")
    (cache / "blobs").mkdir(parents=True)
    for age, step in enumerate((700, 900)):
        snapshot = cache / "snapshots" / f"hash{step}"
        snapshot.mkdir(parents=True)
        for number, file in enumerate((folder / "files").iterdir()):
            blob = shutil.copy(file, cache / "blobs" / f"hash{number}")
            (snapshot / file.name.replace("700", str(step))).symlink_to(blob)
        os.utime(snapshot, (2000 - age, 2000 - age))


LAYOUTS = {
    # name: what is made of the golden, -g, and what it is called
    "pair and tokenizer.pkl": (flat, ".", "here, step 700"),
    "pair and tokenizer.json": (lambda here: (flat(here), to_json(here)), ".", "here, step 700"),
    "pair and tokenizer/": (lambda here: flat(here, "tokenizer"), ".", "here, step 700"),
    "base directory": (lambda here: base_directory(here, "base_checkpoints", "chatsft_checkpoints"), ".",
                       "d3, sft, step 700"),
    "base directory of base": (
        lambda here: base_directory(here, "base_checkpoints"), ".", "d3, base, step 700"),
    "base directory, checkpoints/": (lambda here: base_directory(here, "checkpoints"), ".", "d3, step 700"),
    "source folder": (lambda here: base_directory(here, "chatsft_checkpoints"), "chatsft_checkpoints",
                      "d3, sft, step 700"),
    "tag folder": (
        lambda here: base_directory(here, "mid_checkpoints"), "mid_checkpoints/d3", "d3, mid, step 700"),
    "pair in a source folder": (
        lambda here: (tokenizer(here / "tokenizer"), pair(here / "chatsft_checkpoints")),
                                "chatsft_checkpoints", "chatsft_checkpoints, sft, step 700"),
    "the same from above": (lambda here: (tokenizer(here / "tokenizer"), pair(here / "chatsft_checkpoints")),
                            ".", "chatsft_checkpoints, sft, step 700"),
    "model file": (flat, "model_000700.pt", "here, step 700"),
    "nested once": (lambda here: flat(here / "d3" / "d3"), "d3", "d3, step 700"),
    "nested base directory": (lambda here: base_directory(here / "a" / "a", "chatsft_checkpoints"), "a",
                              "d3, sft, step 700"),
    "below other folders": (
        lambda here: base_directory(here / "release" / "depth", "chatsft_checkpoints"), ".",
                            "d3, sft, step 700"),
    "tokenizer two levels up": (lambda here: (pair(here / "a" / "b"), tokenizer(here)), "a/b", "b, step 700"),
    "the Hub's cache": (hub_cache, "models--someone--nanochat-d3", "nanochat-d3, step 700"),
    "transformers": (transformers, ".", "here"),
    "transformers, file": (transformers, "model.safetensors", "here"),
    "transformers, shards": (lambda here: transformers(here, shards=3), ".", "here"),
}  # fmt: skip


@pytest.mark.parametrize("make, path, name", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_of_the_table_loads(golden, make, path, name):
    make(golden)
    model = checkpoint.read(find(None, str(golden / path)), FLOAT32)
    weights = torch.load(GOLDENS / "plain" / "chatsft_checkpoints" / TAG / f"model_{STEP:06}.pt")
    assert model.name == name and model.tokenizer.size == 537
    assert all(torch.equal(model.weights[key], tensor.float()) for key, tensor in weights.items())


def test_a_pair_straight_in_a_source_folder_is_found_by_the_default_start(golden, monkeypatch):
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(golden))
    tokenizer(golden / "tokenizer")
    pair(golden / "chatsft_checkpoints")
    assert find().name == "chatsft_checkpoints, sft, step 700"


def test_source_and_step_choose_below_a_path_too_and_what_there_is_is_told_with_its_flags(golden):
    base_directory(golden, "base_checkpoints", "mid_checkpoints")
    assert find("base", str(golden)).name == "d3, base, step 700"
    assert find(None, str(golden)).name == "d3, mid, step 700"
    told = refusal(find, "rl", str(golden))
    ways = re.findall(r"-i (\w+) -g (\S+\.pt)", told)
    assert [find(source, path).name for source, path in ways] == ["d3, base, step 700", "d3, mid, step 700"]
    assert "700" in refusal(find, "mid", str(golden), 701)


def test_without_sft_a_path_takes_what_there_is_and_says_so_and_the_default_start_does_not(
    golden, monkeypatch
):
    base_directory(golden, "base_checkpoints")
    assert "no sft" in find(None, str(golden)).notes[0]
    assert find(None, str(golden / "base_checkpoints" / "d3")).notes == ()
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(golden))
    assert "-i base" in refusal(find) and "-i base" in refusal(find, "sft", str(golden))
    assert find(None, str(golden)).name == find("base").name == "d3, base, step 700"


def test_the_base_directorys_tokenizer_is_the_last_resort_and_noted(golden, monkeypatch):
    pair(golden / "a" / "b" / "c")
    tokenizer(golden / "own" / "tokenizer")
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(golden / "own"))
    found = find(None, str(golden / "a" / "b" / "c"))
    assert str(found.tokenizer) in found.notes[0] and found.tokenizer.parent == golden / "own" / "tokenizer"
    monkeypatch.setenv("NANOCHAT_BASE_DIR", str(golden / "none"))
    assert str(golden / "none" / "tokenizer") in refusal(find, None, str(golden / "a" / "b" / "c"))


# Files that are not what they seem --------------------------------------------------------------------------

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def write(name, data):
    return lambda here: (here / name).write_bytes(data)


def cut(here):
    model = here / "model_000700.pt"
    model.write_bytes(model.read_bytes()[:-1000])


def compress(here):
    """As an archiver packs the file anew."""
    model = here / "model_000700.pt"
    with zipfile.ZipFile(model) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(model, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in records.items():
            archive.writestr(name, data)


def only(name):
    """A folder with one file that is no model's."""

    def make(here):
        shutil.rmtree(here)
        write_file(here / name)

    return make


def write_file(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF")


def dangling(here):
    (here / "model_000700.pt").unlink()
    (here / "model_000700.pt").symlink_to(here / "gone")


WRONG = {
    "git-lfs model": (write("model_000700.pt", POINTER), ["model_000700.pt", "git lfs pull"]),
    "git-lfs tokenizer": (write("tokenizer.pkl", POINTER), ["tokenizer.pkl", "git lfs pull"]),
    "git-lfs meta": (write("meta_000700.json", POINTER), ["meta_000700.json", "git lfs pull"]),
    "empty model": (write("model_000700.pt", b""), ["model_000700.pt", "empty", "again"]),
    "empty tokenizer": (write("tokenizer.pkl", b""), ["tokenizer.pkl", "empty", "again"]),
    "half a model": (cut, ["model_000700.pt", "end is missing", "again"]),
    "compressed": (compress, ["model_000700.pt", "compressed"]),
    "a broken link": (dangling, ["model_000700.pt", "link"]),
    "no meta": (lambda here: (here / "meta_000700.json").unlink(), ["model_000700.pt", "no meta"]),
    "no tokenizer": (lambda here: (here / "tokenizer.pkl").unlink(), ["tokenizer.json", "looked"]),
    "half a download": (only("model_000700.pt.incomplete"), ["model_000700.pt.incomplete", "half"]),
    "half a download elsewhere": (only(".cache/huggingface/download/x.incomplete"), ["x.incomplete", "half"]),
    "GGUF": (only("nanochat.gguf"), ["nanochat.gguf", "form"]),
    "MLX": (only("weights.npz"), ["weights.npz", "form"]),
    "ONNX": (only("model.onnx"), ["model.onnx", "form"]),
    "another name": (only("model_best.pt"), ["model_best.pt", "name"]),
}


@pytest.mark.parametrize("damage, words", WRONG.values(), ids=WRONG)
def test_what_is_no_model_ends_in_a_sentence_that_says_what_to_do(golden, damage, words):
    flat(golden)
    damage(golden)
    sentence = refusal(lambda: checkpoint.read(find(None, str(golden)), FLOAT32))
    assert all(word in sentence for word in [str(golden), *words]), sentence


FOREIGN = {
    "model_type": ({"model_type": "llama"}, ["model_type", "llama", "nanochat"]),
    "no model_type": ({"model_type": None}, ["model_type"]),
    "hidden_act": ({"hidden_act": "silu"}, ["hidden_act", "silu"]),
    "attention_bias": ({"attention_bias": True}, ["attention_bias"]),
    "rope scaling": ({"rope_parameters": {"rope_type": "yarn"}}, ["rope_type", "yarn"]),
    "older rope scaling": ({"rope_scaling": [2], "rope_parameters": None}, ["rope_type", "[2]"]),
    "heads": ({"num_attention_heads": 5}, ["5 heads"]),
    "no context": ({"max_position_embeddings": None}, ["sequence_len", "None"]),
    "softcap": ({"final_logit_softcapping": "much"}, ["softcap", "much"]),
    "rope base": ({"rope_parameters": {"rope_theta": -1}}, ["rope_base", "-1"]),
    "vocabulary": ({"vocab_size": 530}, ["530", "537"]),
}


@pytest.mark.parametrize("entries, words", FOREIGN.values(), ids=FOREIGN)
def test_a_transformers_model_of_another_kind_is_refused_by_what_is_other(golden, entries, words):
    transformers(golden)
    (golden / "config.json").write_text(json.dumps(CONFIG | entries))
    sentence = refusal(checkpoint.read, find(None, str(golden)), FLOAT32)
    assert all(word in sentence for word in [str(golden), *words]), sentence


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_meta_that_an_editor_saved_loads(golden, encoding):
    flat(golden)
    meta = golden / "meta_000700.json"
    meta.write_bytes(meta.read_text().replace(", ", ",\r\n").encode(encoding))
    assert checkpoint.read(find(None, str(golden)), FLOAT32).config.n_embd == 48


def prefixed(prefix):
    return lambda weights: {prefix + key: tensor for key, tensor in weights.items()}


def nested(name):
    state = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    return lambda weights: {name: weights, "optimizer": state, "step": 5}


@pytest.mark.parametrize("wrap", [
    prefixed("module."), prefixed("_orig_mod."), prefixed("module._orig_mod."),
    nested("model"), nested("model_state"), nested("model_state_dict"), nested("state_dict"),
    lambda weights: nested("model")(prefixed("module.")(weights)),
    lambda weights: {key: torch.nn.Parameter(tensor) for key, tensor in weights.items()},
])  # fmt: skip
def test_weights_load_out_of_what_trainers_wrap_them_in(golden, wrap):
    flat(golden)
    model = golden / "model_000700.pt"
    weights = torch.load(model)
    torch.save(wrap(weights), model)
    loaded = checkpoint.read(find(None, str(golden)), FLOAT32).weights
    assert all(torch.equal(loaded[key], tensor) for key, tensor in weights.items())


def test_what_a_model_config_says_is_honoured_or_named(base):
    folder = base / "chatsft_checkpoints" / "d4"
    write_pair(folder, meta=change(rope_theta=5e5, logit_softcap=30, activation="gelu", tie=True))
    model = checkpoint.read(find(), FLOAT32)
    assert (model.config.rope_base, model.config.softcap) == (5e5, 30)
    told = " ".join(model.notes)
    assert "rope_base 500000" in told and "softcap 30" in told and "activation, tie" in told
    write_pair(folder, meta=change(rope_base=20000))
    assert checkpoint.read(find(), FLOAT32).config.rope_base == 20000
    write_pair(folder, meta=change(rope_theta="x"))
    assert "rope_theta" in refusal(checkpoint.read, find(), FLOAT32)
    write_pair(folder)
    assert checkpoint.read(find(), FLOAT32).notes == ()


# safetensors ------------------------------------------------------------------------------------------------

A, B = torch.arange(6.0).reshape(2, 3), torch.ones(4)


def framed(header: bytes, numbers=b"", length=None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + numbers


HOSTILE = {
    "no header": framed(b"", length=0)[:7],
    "huge header": framed(b"{}", length=2**63),
    "header beyond the end": framed(b"{}", length=3),
    "header of 100 MB": framed(b" " * 10**8),
    "no JSON": framed(b"{"),
    "a list": framed(b"[]"),
    "deep": framed(b"[" * 100_000),
    "overlap": safetensors({"a": A, "b": B}, b={"data_offsets": [8, 24]}),
    "hole": safetensors({"a": A, "b": B}, b={"data_offsets": [28, 44]}) + bytes(4),
    "negative": safetensors({"a": A, "b": B}, a={"data_offsets": [-24, 0]}),
    "beyond the end": safetensors({"a": A, "b": B})[:-1],
    "rest": safetensors({"a": A, "b": B}) + b"x",
    "dtype": safetensors({"a": A}, a={"dtype": "I32"}),
    "dtype is no text": safetensors({"a": A}, a={"dtype": []}),
    "shape": safetensors({"a": A}, a={"shape": [3, 3]}),
    "negative shape": safetensors({"a": A}, a={"shape": [-2, -3]}),
    "shape of text": safetensors({"a": A}, a={"shape": "23"}),
    "shape is true": safetensors({"a": A}, a={"shape": None}),
    "huge shape": safetensors({"a": A}, a={"shape": [2**62, 2**62]}),
    "offsets": safetensors({"a": A}, a={"data_offsets": [0]}),
    "no entry": framed(b'{"a": 1}'),
    "git-lfs": POINTER,
    "empty": b"",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_safetensors_file_ends_in_a_sentence(tmp_path, data):
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    assert str(path) in refusal(checkpoint.read_weights, path, FLOAT32)


def test_safetensors_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors({"b": B, "a": A, "empty": torch.ones(0, 3), "number": torch.tensor(7.0)}))
    weights = checkpoint.read_weights(path, FLOAT32)
    assert torch.equal(weights["a"], A) and torch.equal(weights["b"], B)
    assert weights["empty"].shape == (0, 3) and weights["number"] == 7


@pytest.mark.parametrize("index", [
    {"weight_map": {"a": "../model.safetensors"}}, {"weight_map": {"a": "gone.safetensors"}},
    {}, {"weight_map": 1},
    {"weight_map": {"a": "model.safetensors.index.json"}}, {"weight_map": {"a": 1}},
])  # fmt: skip
def test_an_index_of_shards_that_are_not_there_ends_in_a_sentence(tmp_path, index):
    path = tmp_path / "here" / "model.safetensors.index.json"
    path.parent.mkdir()
    (tmp_path / "model.safetensors").write_bytes(safetensors({"a": A}))
    path.write_text(json.dumps(index))
    assert str(path) in refusal(checkpoint.read_weights, path, FLOAT32)


# tokenizer.json ---------------------------------------------------------------------------------------------


def split_of(data: dict) -> dict:
    return data["pre_tokenizer"]["pretokenizers"][0]


def edited(change_it):
    def make(path):
        data = json.loads(path.read_text())
        change_it(data)
        path.write_text(json.dumps(data))

    return make


BOMBS = {
    "deep": lambda path: path.write_text("[" * 10**6),
    "large": lambda path: path.write_text('{"model": "' + "x" * 2**26 + '"}'),
    "digits": lambda path: path.write_text('{"model": ' + "1" * 10**5 + "}"),
    "no object": lambda path: path.write_text("[]"),
    "not BPE": edited(lambda data: data["model"].update(type="Unigram")),
    "normalizer": edited(lambda data: data.update(normalizer={"type": "NFC"})),
    "no split": edited(lambda data: data["pre_tokenizer"]["pretokenizers"].pop(0)),
    "two splits": edited(lambda data: data["pre_tokenizer"].update(
        pretokenizers=data["pre_tokenizer"]["pretokenizers"] * 2)),
    "dropping split": edited(lambda data: split_of(data).update(behavior="Removed")),
    "no pre_tokenizer": edited(lambda data: data.update(pre_tokenizer=None)),
    "no bos": edited(lambda data: data["added_tokens"].pop(0)),
    "ranks": edited(lambda data: data["model"]["vocab"].update(Z=10**9)),
    "huge rank": edited(lambda data: data["model"]["vocab"].update(Z=10**30)),
    "rank of text": edited(lambda data: data["model"]["vocab"].update(Z="1")),
    "no byte": edited(lambda data: data["model"]["vocab"].pop("Z")),
    "a letter of none": edited(lambda data: data["model"]["vocab"].update({"\u6f22": 537})),
    "added twice": edited(lambda data: data["added_tokens"].append({"id": 537, "content": "Z"})),
    "pattern": edited(lambda data: split_of(data).update(pattern={"Regex": "(" * 9999})),
}  # fmt: skip


@pytest.mark.parametrize("damage", BOMBS.values(), ids=BOMBS)
def test_a_hostile_tokenizer_json_ends_in_a_sentence(golden, damage):
    tokenizer(golden)
    to_json(golden)
    damage(golden / "tokenizer.json")
    assert str(golden / "tokenizer.json") in refusal(checkpoint.read_tokenizer, golden / "tokenizer.json")


# Memory -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [FLOAT32, torch.bfloat16])
@pytest.mark.parametrize("make", [flat, transformers])
def test_a_file_that_changes_after_loading_changes_nothing(golden, make, dtype):
    make(golden)
    found = find(None, str(golden))
    model = checkpoint.read(found, dtype)
    before = {key: tensor.clone() for key, tensor in model.weights.items()}
    with found.model.open("r+b") as file:
        file.write(bytes(found.model.stat().st_size))
    assert all(torch.equal(model.weights[key], tensor) for key, tensor in before.items())


# Never a traceback ------------------------------------------------------------------------------------------


def start(path, *before, **variables):
    """What the server says where it ends at once, after these lines of Python."""
    code = "; ".join(["import sys, chat_web", *before, f"chat_web.main(['-p', '0', '-g', {str(path)!r}])"])
    done = run("-c", code, cwd=HERE, env=environment(**variables))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_a_console_that_lacks_a_paths_letters_shows_it_all_the_same(tmp_path):
    assert "\\udcff" in start(tmp_path / "\udcff")  # no text at all: a name in another encoding
    folder = tmp_path / "\u6f22\u5b57"
    write_pair(folder, weights={})
    write_tokenizer(folder)
    with started(HERE / "chat_web.py", "-g", demo_copy(tmp_path / "\u6f22"), PYTHONIOENCODING="cp1252") as (
        *_,
        lines,
    ):
        assert any("\\u6f22" in line for line in lines)
    assert "\\u6f22\\u5b57" in start(folder, PYTHONIOENCODING="cp1252")


def demo_copy(folder):
    return shutil.copytree(HERE / "demo", folder)


def test_a_user_without_a_home_gets_a_sentence_and_a_path_loads(tmp_path):
    no_entry = "import pwd; pwd.getpwuid = {}.__getitem__"
    variables = {"HOME": None, "NANOCHAT_BASE_DIR": None}
    assert "no model" in start(tmp_path, no_entry, **variables)
    code = f"{no_entry}; import chat_web; chat_web.main()"
    where = demo_copy(tmp_path / "demo")
    with started("-c", code, "-g", where, **variables) as (*_, lines):
        assert any(str(where) in line for line in lines)


def test_a_folder_that_disappears_ends_in_a_sentence(golden, tmp_path, monkeypatch):
    flat(golden)
    found = find(None, str(golden))
    shutil.rmtree(golden)
    assert str(golden) in refusal(checkpoint.read, found, FLOAT32)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "No such file" in refusal(find, None, "x")


@pytest.mark.parametrize(
    "name", ["model_000001.pt", "chatsft_checkpoints/d4/model_000001.pt", "nanochat.gguf"]
)
def test_no_demo_is_served_where_something_looks_like_a_model(tmp_path, name):
    write_file(tmp_path / ".cache" / "nanochat" / name)
    done = run(HERE / "chat_web.py", "-p", 0, env=environment(HOME=str(tmp_path), NANOCHAT_BASE_DIR=None))
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and name in done.stderr
