"""Decoding at fixed addresses: the same logits at every position, recorded once and replayed.

A recorder of operations stands in for CUDA graphs; the last tests need a GPU and run only where there is one.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.llmbuilder import load_llmbuilder
from llmchat.engine import devices, torch_engine
from llmchat.engine.architectures.network import Network
from llmchat.engine.architectures.rope import RotaryPositions
from llmchat.engine.batch import Lane
from llmchat.engine.cuda_graph import Capture, StaticDecoder, capture_cuda_graph
from llmchat.engine.engine import Logits
from llmchat.engine.kv_cache import KVCache
from llmchat.engine.opening import open_engine
from llmchat.engine.torch_engine import TorchEngine
from tests.conftest import DATA
from tests.engine.recorder import Recorder
from tests.engine.test_batch import together
from tests.engine.test_engines import greedy, never
from tests.engine.test_llama import VARIANTS, make, random_tensors

TINY = DATA / "llmbuilder-2.0.0-tiny"
LLAMA = str(DATA / "huggingface" / "llama")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that CUDA reaches")


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    """Run as the engine does, on one thread: more only wait for one another at these sizes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(params=["gpt", *VARIANTS])
def model(request: pytest.FixtureRequest) -> Network:
    """Both families, with everything that a configuration may ask for."""
    if request.param == "gpt":
        spec = ModelSpec(str(TINY / "model" / "model.pt"), str(TINY / "tokenizer"))
        checkpoint = load_llmbuilder(spec, lambda stage, fraction: None)
        return Network.build(checkpoint.plan, checkpoint.tensors)
    config = VARIANTS[request.param]
    return make(config, random_tensors(config))


def filled(model: Network, capacity: int, rows: Tensor) -> KVCache:
    """A cache that has read some ids; what lies beyond them is what memory may hold at worst."""
    cache = model.make_cache(capacity, len(rows))
    for layer in cache.layers:
        layer.keys.fill_(torch.nan)
        layer.values.fill_(torch.nan)
    model(rows, cache)
    return cache


def engine_with(capture: Capture | None, model: str = "tiny") -> TorchEngine:
    """A model on torch in float32, whose steps are captured by this."""
    plain = open_engine(ModelSpec(model, device="cpu", dtype="float32", threads=1), lambda stage, fraction: None)
    assert isinstance(plain, TorchEngine)
    return TorchEngine(
        plain.model, plain.tokenizer, plain.info, end_ids=plain.end_ids, prompt_style=plain.prompt_style,
        device=plain.device, capture=capture,
    )  # fmt: skip


def near(one: Logits, other: Logits) -> bool:
    """Whether two float32 computations of the same logits differ by no more than rounding."""
    finite = np.isfinite(one)
    return np.array_equal(finite, np.isfinite(other)) and np.allclose(one[finite], other[finite], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_static_step_gives_the_logits_of_the_dynamic_one(model: Network, batch: int) -> None:
    """At the first position, behind a prompt, at the last of the capacity and in a grown cache, recorded or not."""
    ids = torch.randint(0, 50, (batch, 40), generator=torch.Generator().manual_seed(5))
    expected = model.all_logits(ids, model.make_cache(40, batch))
    for capacity, start in ((24, 1), (24, 20), (40, 24)):
        for recorder in (Recorder(), lambda step: step):
            cache = filled(model, capacity, ids[:, :start])
            decoder = StaticDecoder(model, cache, recorder)
            decoder.capture()
            steps = [decoder.decode(ids[:, place].tolist()) for place in range(start, capacity)]
            assert cache.length == capacity
            torch.testing.assert_close(torch.stack(steps, 1), expected[:, start:capacity], rtol=1e-5, atol=1e-5)


def test_a_recorded_step_follows_the_cache_back_and_forth(model: Network) -> None:
    """Truncated, read into and gone on with by others, the cache is at each replay what it is then."""
    cache = filled(model, 32, torch.tensor([[1, 2, 3, 4]]))
    recorder = Recorder()
    decoder = StaticDecoder(model, cache, recorder)
    for token in range(28):
        decoder.decode([token])
    for layer in cache.layers:
        layer.values[:, :, 6:] = torch.nan  # As a reply leaves it whose numbers grew out of range.
    cache.rewind(6)
    model(torch.tensor([[9, 8]]), cache)
    text = torch.tensor([[1, 2, 3, 4, 0, 1, 9, 8, 7]])
    expected = model(text, model.make_cache(16))
    torch.testing.assert_close(decoder.decode([7]), expected, rtol=1e-5, atol=1e-5)
    assert (recorder.recorded, cache.length) == (1, 9)


def test_positions_turned_on_the_device_are_those_of_the_tables() -> None:
    """Cosines and sines that a step computes are those that a prefill reads, to the last bit."""
    rope = RotaryPositions(VARIANTS["llama"].rope)
    places = torch.tensor([0, 1, 17, 63])
    for computed, table in zip(rope.at(places), rope.between(0, 64, 64, torch.device("cpu")), strict=True):
        assert torch.equal(computed, table[places])


@pytest.mark.parametrize("name", ["tiny", LLAMA])
def test_an_engine_that_replays_draws_the_same_ids(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through growth of the cache, and past the context of a model that slides; earlier logits stay what they were."""
    monkeypatch.setattr(torch_engine, "_FIRST_CAPACITY", 16)
    recorder = Recorder()
    plain, replaying = engine_with(None, name), engine_with(recorder, name)
    prompt = list(range(10, 20))
    count = plain.info.context_length + (10 if plain.slides else -len(prompt))
    logits, again = (engine.prefill(prompt, never).logits for engine in (plain, replaying))
    pairs = []
    for _ in range(count):
        assert logits is not None and again is not None
        pairs.append((logits, again, logits.copy(), again.copy()))
        token = int(np.argmax(logits))
        logits, again = plain.decode(token), replaying.decode(token)
    for one, other, *copies in pairs:
        assert near(one, other)
        assert all(np.array_equal(kept, copy) for kept, copy in zip((one, other), copies, strict=True))
    assert recorder.recorded >= 3 and recorder.replayed > 30
    assert replaying.info.path_words == "torch float32 · CUDA graph"


def test_a_cache_that_was_outgrown_is_given_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither recording nor decoder holds it in a circle that only the garbage collector would find."""
    monkeypatch.setattr(torch_engine, "_FIRST_CAPACITY", 16)
    engine = engine_with(Recorder())
    greedy(engine, [10, 11, 12], 10)
    old = weakref.ref(engine.cache.layers[0].keys)
    gc.disable()
    try:
        greedy(engine, [10, 11, 12], 20)
        assert old() is None
    finally:
        gc.enable()


def test_prefixes_are_reused_and_branches_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A branch in the middle of a reply, and the same prompt again, draw what a plain engine draws."""
    monkeypatch.setattr(torch_engine, "_FIRST_CAPACITY", 32)
    plain, replaying = engine_with(None), engine_with(Recorder())
    prompt = list(range(10, 22))
    for ids in (prompt, [*prompt, 40, 41], prompt[:5], [*prompt[:8], 300], [7]):
        assert greedy(replaying, ids, 30) == greedy(plain, ids, 30)
        assert replaying.text == plain.text and len(replaying._cached_ids) == len(plain._cached_ids)


def test_lanes_part_join_and_end_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies side by side are those of a plain engine, however rows come and go, and caches grow."""
    monkeypatch.setattr(torch_engine, "_FIRST_CAPACITY", 16)
    base = GenerationConfig(max_new_tokens=60)
    lanes = [Lane(base, 7), Lane(base, 7), Lane(base.changed(temperature=1.4, max_new_tokens=30), 7), Lane(base, 8)]
    recorder = Recorder()
    replies = [together(engine, *lanes) for engine in (engine_with(None), engine_with(recorder))]
    assert [reply.token_ids for reply in replies[0]] == [reply.token_ids for reply in replies[1]]
    assert recorder.recorded > 2 and recorder.replayed > 30


@pytest.mark.parametrize("allowed", [0, 1])
def test_a_refused_capture_changes_nothing_but_what_is_told(allowed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused at opening, or when the cache has grown, the ids stay the same; nobody asks again and a note tells."""
    monkeypatch.setattr(torch_engine, "_FIRST_CAPACITY", 16)
    recorder = Recorder(allowed)
    refused, plain = engine_with(recorder), engine_with(None)
    assert refused.info.cuda_graph == (allowed == 1)
    assert greedy(refused, [10, 11, 12], 100) == greedy(plain, [10, 11, 12], 100)
    assert refused.info.path_words == "torch float32"
    (note,) = set(refused.info.notes) - set(plain.info.notes)
    assert note.endswith("a CUDA graph was refused: no more graphs today")
    assert recorder.recorded == allowed


def test_a_step_that_waits_for_a_number_is_refused() -> None:
    """The stand-in holds steps to the rule that a CUDA graph would: no number may reach Python."""
    with pytest.raises(RuntimeError, match="waited"):
        Recorder()(lambda: torch.ones(3) * torch.ones(1).item())


@pytest.mark.parametrize(
    ("device", "native", "dtype"),
    [
        ("cuda", True, torch.bfloat16),
        ("cuda", False, torch.float32),
        ("mps", False, torch.bfloat16),
        ("cpu", False, torch.float32),
    ],
)
def test_a_gpu_takes_bfloat16_where_it_has_it(
    device: str, native: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Emulated bfloat16 does not count; float32 is right for every model."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert devices.choose_dtype("auto", torch.device(device)) == dtype


@needs_gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_on_a_gpu_a_graph_draws_what_its_steps_draw(default_model_path: Path, dtype: str) -> None:
    """100 greedy ids, replayed and kernel by kernel, with the cache growing on the way."""
    spec = ModelSpec(str(default_model_path), device="cuda", dtype=dtype)
    engine = open_engine(spec, lambda stage, fraction: None)
    assert isinstance(engine, TorchEngine) and engine.info.cuda_graph
    prompt = list(range(100, 300))
    replayed = greedy(engine, prompt, 100)
    assert engine.info.cuda_graph, engine.info.notes
    stepping = TorchEngine(
        engine.model, engine.tokenizer, replace(engine.info, cuda_graph=False), end_ids=engine.end_ids,
        prompt_style=engine.prompt_style, device=engine.device, capture=Recorder(0),
    )  # fmt: skip
    assert greedy(stepping, prompt, 100) == replayed
    assert not stepping.info.cuda_graph


@needs_gpu
def test_on_a_gpu_batches_and_shared_prefixes_are_right(default_model_path: Path) -> None:
    """In float32 a GPU's lanes and branches are the ids of the CPU's."""
    on_gpu, on_cpu = (
        open_engine(ModelSpec(str(default_model_path), device=device, dtype="float32"), lambda stage, fraction: None)
        for device in ("cuda", "cpu")
    )
    base = GenerationConfig(max_new_tokens=40)
    lanes = [Lane(base, 7), Lane(base.changed(temperature=1.2, max_new_tokens=20), 7)]
    assert [one.token_ids for one in together(on_gpu, *lanes)] == [one.token_ids for one in together(on_cpu, *lanes)]
    prompt = list(range(100, 150))
    for ids in (prompt, [*prompt[:20], 400]):
        assert greedy(on_gpu, ids, 30) == greedy(on_cpu, ids, 30)


@needs_gpu
def test_on_a_gpu_bfloat16_comes_near_float32(default_model_path: Path) -> None:
    """The logits behind a prompt and behind a replayed step point the same way as in float32 on the CPU."""
    auto, exact = (
        open_engine(ModelSpec(str(default_model_path), device=device, dtype=dtype), lambda stage, fraction: None)
        for device, dtype in (("cuda", "bfloat16"), ("cpu", "float32"))
    )
    prompt = list(range(100, 150))
    for one, other in (
        [engine.prefill(prompt, never).logits for engine in (auto, exact)],
        [engine.decode(500) for engine in (auto, exact)],
    ):
        assert one is not None and other is not None
        assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) > 0.99


@needs_gpu
def test_on_a_gpu_a_refused_recording_leaves_torch_usable() -> None:
    """A step that waits for the GPU is refused with a RuntimeError, and the current stream is the one of before."""
    ones = torch.ones(4, device="cuda")
    before = torch.cuda.current_stream()
    with pytest.raises(RuntimeError):
        capture_cuda_graph(lambda: ones * ones.sum().item())
    assert torch.cuda.current_stream() == before
    assert float(ones.sum()) == 4
