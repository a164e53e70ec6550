"""What GPUs would show, as far as a CPU can: recorded steps, their failures, and sentences about hardware."""

from types import SimpleNamespace

import pytest
import torch

import chat_web
import checkpoint
import engine
from test_chat_web import (
    CONFIG,
    HERE,
    TOKENIZER,
    NoTools,
    random_weights,
    replied,
    tiny_model,
    write_pair,
)


def test_a_nan_never_outlives_its_reply():
    """A mask adds minus infinity, which leaves a NaN behind the length a NaN: recorded steps read it."""
    for poisoned in ("keys", "values"):
        writer = engine.Engine(tiny_model(context=300), NoTools, graphs=True)
        list(writer.generate([1] * 20, 40))
        getattr(writer.cache, poisoned)[..., 30:, :] = torch.nan
        assert list(writer.generate([2] * 25, 40)) == replied(tiny_model(context=300), [2] * 25, 40)


@pytest.mark.parametrize("broken", ["steps", "all"])
def test_graphs_that_fail_later_are_dropped_and_the_engine_goes_on_eagerly(broken, monkeypatch):
    writer = engine.Engine(tiny_model(), NoTools, graphs=True)
    assert writer.mode == "1 CUDA graphs"

    def fail(*args):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore")

    writer.graphs.steps = [fail]
    with pytest.raises(RuntimeError):
        list(writer.generate([1, 2], 9))
    if broken == "steps":
        writer.restart()
        assert writer.graphs is None
        assert writer.mode.endswith("failed: CUDA error: an illegal memory access was encountered")
        assert list(writer.generate([1, 2], 9)) == replied(tiny_model(), [1, 2], 9)
    else:
        monkeypatch.setattr(engine.GPT, "logits", fail)
        with pytest.raises(RuntimeError):
            writer.restart()


def test_a_step_that_fails_after_the_first_token_is_found_at_the_restart():
    """A device says what went wrong a step later."""
    writer = engine.Engine(tiny_model(), NoTools)
    logits, steps = writer.model.logits, []

    def second_fails(x):
        steps.append(x)
        return logits(x) if len(steps) == 1 else 1 / 0

    writer.model.logits = second_fails
    with pytest.raises(ZeroDivisionError):
        writer.restart()


def test_the_first_error_of_a_failed_recording_is_told(monkeypatch):
    class Broken(engine.GraphDecoder):
        def __init__(self, *args):
            try:
                raise RuntimeError("operation not permitted when stream is capturing")
            finally:
                raise RuntimeError("capture_end failed")

    monkeypatch.setattr(engine, "GraphDecoder", Broken)
    writer = engine.Engine(tiny_model(), NoTools, graphs=True)
    assert writer.mode.endswith("operation not permitted when stream is capturing")


def test_an_operator_can_ask_for_steps_without_graphs(monkeypatch):
    monkeypatch.setattr(engine, "GraphDecoder", None)  # not even tried
    monkeypatch.setenv("CHAT_WEB_EAGER", "1")
    model = tiny_model()
    model.device = SimpleNamespace(type="cuda")
    monkeypatch.setattr(engine, "speak_for", lambda device: None)
    monkeypatch.setattr(engine, "KVCache", lambda *args: None)
    monkeypatch.setattr(torch, "Generator", lambda device: None)
    assert engine.Engine(model, NoTools).graphs is None


def test_no_draw_divides_by_zero_on_mps(monkeypatch):
    noise = engine.exponential_noise(torch.ones(9, device="meta"), None)
    assert noise.shape == (9,)

    class Fake(torch.Tensor):
        device = SimpleNamespace(type="mps")

        def exponential_(self, rate, generator):
            return self.zero_().neg_()

    likes = torch.ones(9).as_subclass(Fake)
    monkeypatch.setattr(torch, "empty_like", lambda like: torch.empty(9).as_subclass(Fake))
    assert (engine.exponential_noise(likes, None) == 2**-25).all()


def test_the_recorded_steps_are_compared_behind_a_prefix_and_at_the_end_of_the_context(monkeypatch):
    for wrong in (5, 299):
        original = engine.GraphDecoder.step

        def step(self, end, wrong=wrong, original=original):
            at = int(self.cache.position)
            original(self, end)
            self.logits += 9 * (at == wrong)

        with monkeypatch.context() as patch:
            patch.setattr(engine.GraphDecoder, "step", step)
            writer = engine.Engine(tiny_model(context=300), NoTools, graphs=True)
            assert writer.graphs is None and "something else" in writer.mode


def test_a_table_that_layers_share_moves_to_a_gpu_once(monkeypatch):
    meta = {"model_config": CONFIG | {"window_pattern": "L"}}
    era, config, weights, _ = checkpoint.adapt(random_weights("VB"), meta, {})
    model = checkpoint.Checkpoint("d4", era, config, weights, TOKENIZER, 0, ())
    shared = [name for name in weights if name.startswith("value_embeds.")]
    weights |= {name: weights[shared[0]] for name in ("value_embeds.2.weight", "value_embeds.3.weight")}
    monkeypatch.setattr(checkpoint, "FastGPT", lambda config, weights: weights)
    monkeypatch.setattr(checkpoint, "Engine", lambda model, tokenizer: model)
    moved = model.engine(torch.device("meta"))
    assert moved["value_embeds.2.weight"] is moved["value_embeds.3.weight"]


def test_heads_of_a_group_attend_as_queries_of_one_head(monkeypatch):
    """With a mask torch would take its slowest attention for grouped queries."""
    shapes, attend = [], engine.GPT.attend

    def watched(self, q, k, v, mask):
        if "attn_mask" in mask and q.size(1) == k.size(1):
            shapes.append((q.shape[1:3], k.size(1)))
        return attend(self, q, k, v, mask)

    monkeypatch.setattr(engine.GPT, "attend", watched)
    list(engine.Engine(tiny_model(), NoTools, graphs=True).generate([1, 2, 3], 5))
    assert shapes and all(heads == (2, 2) and keys == 2 for heads, keys in shapes)  # 4 heads, 2 of keys


@pytest.mark.parametrize("words, told", [
    ("CUDA out of memory. Tried to allocate", True), ("CUBLAS_STATUS_ALLOC_FAILED when calling", True),
    ("CUBLAS_STATUS_NOT_INITIALIZED when", True), ("an illegal memory access", False),
])  # fmt: skip
def test_a_gpu_without_memory_is_told_in_a_sentence(words, told, base, monkeypatch):
    write_pair(base / "chatsft_checkpoints" / "d4")

    def fail(self, device):
        raise RuntimeError(words)

    monkeypatch.setattr(checkpoint.Checkpoint, "engine", fail)
    settings = chat_web.parse_args(["--device-type", "cpu"])
    app = chat_web.ChatServer(settings, chat_web.Page(HERE / "ui.html"))
    ends = (SystemExit, "too little free memory") if told else (RuntimeError, words)
    with pytest.raises(ends[0], match=ends[1]):
        chat_web.load(settings, app)


def test_gpus_that_decode_in_different_ways_are_told_apart():
    def worker(number, mode):
        model = SimpleNamespace(hint="")
        return chat_web.Worker(number, f"cuda:{number}", SimpleNamespace(mode=mode, model=model))

    assert chat_web.decoding([worker(0, "eager"), worker(1, "eager")]) == "eager"
    assert chat_web.decoding([worker(0, "eager"), worker(1, "9 CUDA graphs")]) == (
        "eager on cuda:0, 9 CUDA graphs on cuda:1"
    )


@pytest.mark.parametrize("release, gpus, noted", [("2.9", 2, True), ("2.9", 1, False), ("2.10.0", 2, False)])
def test_a_torch_that_may_crash_on_several_gpus_is_noted(release, gpus, noted, monkeypatch, capsys):
    monkeypatch.setattr(torch, "__version__", release + "+cu126")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert len(chat_web.pick_devices(chat_web.parse_args(["-n", str(gpus)]))) == gpus
    assert ("cuBLAS" in capsys.readouterr().out) is noted


@pytest.mark.parametrize("capability, told", [((7, 5), True), ((8, 0), False), ((9, 0), False)])
def test_a_gpu_that_emulates_bfloat16_is_known(capability, told, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert engine.emulates_bfloat16(torch.device("cuda")) is told


def test_a_reply_and_a_replica_speak_for_their_own_device(monkeypatch):
    spoken = []
    monkeypatch.setattr(torch.cuda, "set_device", spoken.append)
    engine.speak_for(torch.device("cpu"))
    engine.speak_for(torch.device("cuda", 3))
    assert spoken == [torch.device("cuda", 3)]
    monkeypatch.setattr(engine, "speak_for", spoken.append)
    writer = engine.Engine(tiny_model(), NoTools)
    next(writer.generate([1, 2], 3))
    assert spoken[1:] == [torch.device("cpu")] * 2
