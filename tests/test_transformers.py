"""transformers' own nanochat model and tokenizer, beside what is read of them: logits, greedy tokens, ids."""

import json
import os
import pickle

import pytest
import torch

import checkpoint
from standins import FLOAT32, package
from test_chat_web import GOLDENS, find, last_logits, require_goldens
from test_files import tokenizer_json

transformers = package("transformers")
tokenizers = package("tokenizers")

IDS = [528, 529, 84, 104, 5, 17, 300, 411, 99, 0, 255, 536, 530, 531]
SHAPES = [
    {"num_attention_heads": 4, "num_key_value_heads": 2},
    {"num_attention_heads": 3, "num_hidden_layers": 1, "final_logit_softcapping": 30.0},
    {"num_attention_heads": 2, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    {"num_attention_heads": 6, "final_logit_softcapping": None},
]


@pytest.fixture
def encoding():
    require_goldens()
    return pickle.loads((GOLDENS / "plain" / "tokenizer" / "tokenizer.pkl").read_bytes())


def merges_of(encoding) -> list[tuple[bytes, bytes]]:
    """Every way to make a token of two, in the order of the tokens, as transformers derives them."""
    ranks = encoding._mergeable_ranks
    ordered = sorted(ranks, key=ranks.get)
    cuts = ((token[:i], token[i:]) for token in ordered for i in range(1, len(token)))
    return [(left, right) for left, right in cuts if left in ranks and right in ranks]


def write_tokenizer_json(path, encoding) -> None:
    data = tokenizer_json(encoding)
    letters = {rank: token for token, rank in data["model"]["vocab"].items()}
    ranks = encoding._mergeable_ranks
    data["model"]["merges"] = [[letters[ranks[part]] for part in pair] for pair in merges_of(encoding)]
    path.write_text(json.dumps(data))


def write_model(folder, encoding, shard="5GB", **config):
    """A random model of transformers' as it writes one, weights so large that all of it matters."""
    shape = {
        "num_hidden_layers": 3,
        "hidden_size": 48,
        "intermediate_size": 192,
        "max_position_embeddings": 64,
    }
    torch.manual_seed(0)
    model = transformers.NanoChatForCausalLM(
        transformers.NanoChatConfig(vocab_size=encoding.n_vocab, initializer_range=0.3, **shape | config)
    ).eval()
    model.save_pretrained(folder, max_shard_size=shard)
    write_tokenizer_json(folder / "tokenizer.json", encoding)
    return model


@pytest.mark.skipif(
    not os.environ.get("CI") and not transformers.utils.is_torch_available(),
    reason="this transformers needs a newer torch",
)
@pytest.mark.parametrize("config", SHAPES)
@pytest.mark.parametrize("shard", ["5GB", "60KB"])
def test_a_model_that_transformers_wrote_says_what_it_says_there(tmp_path, encoding, config, shard):
    theirs = write_model(tmp_path, encoding, shard, **config)
    ours = checkpoint.read(find(None, str(tmp_path)), FLOAT32).engine(torch.device("cpu"))
    with torch.inference_mode():
        want = theirs(torch.tensor([IDS])).logits[0]
        for length in range(1, len(IDS) + 1):
            assert (last_logits(ours.model, IDS[:length]) - want[length - 1]).abs().max() < 1e-3
    asked = {
        "attention_mask": torch.ones(1, len(IDS), dtype=torch.int64),
        "eos_token_id": None,
        "pad_token_id": 0,
    }
    greedy = theirs.generate(torch.tensor([IDS]), max_new_tokens=40, do_sample=False, **asked)
    ours.tokenizer.stops = set()
    ours.tokenizer.special = dict.fromkeys(ours.tokenizer.special, -1)
    assert list(ours.generate(IDS, 40, temperature=0)) == greedy[0, len(IDS) :].tolist()


TEXTS = [
    "Hello, who are you?", "  two  spaces\n\n\n and\tlines\r\n ", "1234567 3.14 0x1F", "it's I'LL we'Ve",
    "\u6f22\u5b57\u304b\u306a \ud55c\uad6d\uc5b4",
    "\U0001f642\U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301 \u0130",
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "\x00\x01\x7f\xa0\xad\u2028",
    "def f(x):\n    return x**2  # ok\n", "a" * 300, " ", "",
]  # fmt: skip


def test_tokenizer_json_gives_the_ids_that_transformers_gives(tmp_path, encoding):
    write_tokenizer_json(tmp_path / "tokenizer.json", encoding)
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    ours = checkpoint.read_tokenizer(tmp_path / "tokenizer.json")
    for text in [*TEXTS, "".join(TEXTS)]:
        assert (
            ours.encode(text)
            == theirs.encode(text, add_special_tokens=False)
            == encoding.encode_ordinary(text)
        )
    assert ours.special == {name: theirs.convert_tokens_to_ids(name) for name in checkpoint.SPECIALS}


def test_a_tokenizer_that_the_tokenizers_package_trained_gives_the_same_ids(tmp_path, encoding):
    """As nanochat's other tokenizer does it: special tokens come first, and bytes are not in their order."""
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(encoding._pat_str), behavior="isolated")
    trained = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=True, unk_token=None, fuse_unk=False))
    trained.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, level])
    trained.decoder = tokenizers.decoders.ByteLevel()
    trained.train_from_iterator(
        ["the cat sat on the mat, and that was that: 12345 34"] * 9 + TEXTS,
        tokenizers.trainers.BpeTrainer(
            vocab_size=340, initial_alphabet=level.alphabet(), special_tokens=list(checkpoint.SPECIALS)
        ),
    )
    trained.save(str(tmp_path / "tokenizer.json"))
    ours = checkpoint.read_tokenizer(tmp_path / "tokenizer.json")
    assert ours.size == trained.get_vocab_size() and ours.special["<|bos|>"] == 0
    for text in [*TEXTS, "that cat"]:
        assert ours.encode(text) == trained.encode(text, add_special_tokens=False).ids
