"""Prefill, decode and the reuse of what is already in the KV cache, on real models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from llmchat.chat.model import ModelSpec
from llmchat.engine import torch_engine
from llmchat.engine.engine import Engine
from llmchat.engine.opening import default_threads, open_engine
from llmchat.errors import ModelLoadError
from tests.conftest import DATA

REFERENCE = json.loads((DATA / "llmbuilder-2.0.0-tiny" / "reference.json").read_text())


def never() -> bool:
    """A stop signal that is never given."""
    return False


def greedy(engine: Engine, prompt: list[int], count: int) -> list[int]:
    """The likeliest token, `count` times."""
    logits = engine.prefill(prompt, never).logits
    drawn = []
    for _ in range(count):
        assert logits is not None
        drawn.append(int(np.argmax(logits)))
        logits = engine.decode(drawn[-1])
    return drawn


@pytest.mark.parametrize("index", range(5))
def test_logits_and_greedy_ids_are_llmbuilders(tiny_engine: Engine, index: int) -> None:
    """Last-position logits within 1e-4 of the stored float32 ones, and all 48 greedy ids equal."""
    case = REFERENCE["prompts"][index]
    stored = np.load(DATA / "llmbuilder-2.0.0-tiny" / "logits" / f"prompt{index}_float32.npy")[-1]
    assert tiny_engine.tokenizer.encode(case["prompt"]) == case["ids"]
    logits = tiny_engine.prefill(case["ids"], never).logits
    assert logits is not None
    assert np.abs(logits - stored).max() < 1e-4
    assert greedy(tiny_engine, case["ids"], 48) == case["greedy_new_ids"]


def test_past_the_context_the_last_tokens_are_read_from_position_0(tiny_engine: Engine) -> None:
    """All 168 greedy ids are llmbuilder's, far past its block_size of 128."""
    case = REFERENCE["long_greedy"]
    prompt = tiny_engine.tokenizer.encode(case["prompt"])
    assert greedy(tiny_engine, prompt, len(case["new_ids"])) == case["new_ids"]
    assert tiny_engine.context_tokens == 128


def test_a_prompt_longer_than_the_context_is_read_by_its_end(tiny_engine: Engine) -> None:
    """Prefill of a long prompt gives what llmbuilder sees: its last 128 tokens."""
    ids = [int(token) for token in np.random.default_rng(0).integers(4, 1000, 300)]
    whole = tiny_engine.prefill(ids, never).logits
    end = tiny_engine.prefill(ids[-128:], never).logits
    assert whole is not None and end is not None
    assert np.abs(whole - end).max() < 1e-4


def test_a_shared_prefix_is_not_read_again(tiny_engine: Engine) -> None:
    """Another prompt is read from where it parts, with the same logits as from the start."""
    first = list(range(10, 70))
    second = [*first[:40], *range(200, 230)]
    fresh = tiny_engine.prefill(second, never)
    tiny_engine.prefill(first, never)
    reused = tiny_engine.prefill(second, never)
    assert (fresh.cached_tokens, reused.cached_tokens) == (0, 40)
    assert fresh.logits is not None and reused.logits is not None
    assert np.abs(fresh.logits - reused.logits).max() < 1e-4


def test_the_same_prompt_again_reads_one_token(tiny_engine: Engine) -> None:
    """The last token is read anew for its logits; generated tokens count as cached too."""
    ids = list(range(10, 30))
    greedy(tiny_engine, ids, 5)
    assert tiny_engine.prefill(ids, never).cached_tokens == 19
    drawn = greedy(tiny_engine, ids, 5)
    assert tiny_engine.prefill([*ids, *drawn, 7], never).cached_tokens == 25


def test_reuse_after_the_window_slid_is_still_right(tiny_engine: Engine) -> None:
    """What was cached before the context was full serves later prompts, and nothing else does."""
    ids = list(range(10, 130))
    drawn = greedy(tiny_engine, ids, 20)
    again = tiny_engine.prefill(ids[:100], never)
    assert again.cached_tokens == 99
    assert greedy(tiny_engine, ids, 20) == drawn


def test_prefill_stops_between_chunks(tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stop signal is looked at once per chunk; what was read stays usable."""
    monkeypatch.setattr(tiny_engine, "chunk", 32)
    ids = list(range(10, 110))
    told: list[tuple[int, int]] = []
    stopped = tiny_engine.prefill(ids, lambda: bool(told), lambda done, total: told.append((done, total)))
    assert stopped.logits is None
    assert told == [(32, 100)]
    assert tiny_engine.prefill(ids, never).cached_tokens == 32


@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_the_cache_grows_without_losing_anything(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that outgrows the first capacity goes on as if there had been room from the start."""
    monkeypatch.setattr(torch_engine, "_FIRST_CAPACITY", 16)
    engine = open_engine(ModelSpec("tiny", dtype=dtype), lambda stage, fraction: None)
    ids = list(range(10, 110))
    for end in (10, 30, 60):
        engine.prefill(ids[:end], never)
    grown = engine.prefill(ids, never)
    engine.prefill([5], never)
    whole = engine.prefill(ids, never)
    assert (grown.cached_tokens, whole.cached_tokens) == (60, 0)
    assert grown.logits is not None and whole.logits is not None
    assert np.abs(grown.logits - whole.logits).max() < 1e-3


def test_ids_that_the_tokenizer_lacks_are_never_drawn(tmp_path: Path) -> None:
    """A model with more ids than its tokenizer has the rest masked, and says so."""
    formats = DATA / "llmbuilder-formats" / "2.0.0"
    spec = ModelSpec(str(formats / "save_model" / "model.pt"), str(formats / "tokenizers" / "sp_char"))
    engine = open_engine(spec, lambda stage, fraction: None)
    extra = engine.info.vocab_size - engine.tokenizer.vocab_size
    logits = engine.prefill([5, 6], never).logits
    assert logits is not None
    assert np.isneginf(logits[engine.tokenizer.vocab_size :]).all()
    assert np.isfinite(logits[: engine.tokenizer.vocab_size]).all()
    assert extra <= 0 or engine.info.notes


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (ModelSpec("tiny", device="cuda"), "--device cpu"),
        (ModelSpec("tiny", device="abacus"), "--device cpu"),
        (ModelSpec("tiny", dtype="float8"), "bfloat16"),
        (ModelSpec("no-such-model"), "llmchat models"),
        (ModelSpec("/no/such/model.pt"), "no file"),
    ],
)
def test_what_cannot_be_opened_is_said_in_one_line(spec: ModelSpec, words: str) -> None:
    """A wrong device, precision, name or path names the way out."""
    with pytest.raises(ModelLoadError) as caught:
        open_engine(spec, lambda stage, fraction: None)
    assert words in caught.value.message


def test_torch_leaves_one_core_to_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """The native step may take all cores, torch all but one, and never none."""
    for cores, threads in ((1, 1), (2, 1), (8, 7)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, n=cores: set(range(n)), raising=False)
        assert default_threads(natively=False) == threads
        assert default_threads(natively=True) == cores


def test_no_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would wait for one another, a prompt for minutes; what was asked for is answered in a sentence."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    for device in ("auto", "cpu"):
        info = open_engine(ModelSpec("tiny", device=device, threads=99), lambda stage, fraction: None).info
        assert info.threads == 2
        assert info.notes[-1] == "99 threads were asked for. There are 2 cores, and more threads are no quicker."


def test_a_model_in_the_hugging_face_cache_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """hf:ORG/REPO opens what Hugging Face's tools downloaded, and says so if there is nothing."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelLoadError, match="not whole in Hugging Face's cache"):
        open_engine(ModelSpec("hf:maker/model"), lambda stage, fraction: None)
    source = next((DATA / "huggingface").glob("*/config.json")).parent
    shutil.copytree(source, tmp_path / "models--maker--model" / "snapshots" / "abc")
    engine = open_engine(ModelSpec("hf:maker/model"), lambda stage, fraction: None)
    assert engine.prefill([3, 4], never).logits is not None
