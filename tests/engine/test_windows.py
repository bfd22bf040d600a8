"""The KV cache of layers that see a window: it keeps what they need, and texts go back and forth and part as before."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llmchat.engine.architectures.network import Network
from llmchat.engine.engine import Engine, Logits
from llmchat.engine.native_engine import NativeEngine
from llmchat.engine.torch_engine import TorchEngine
from tests.engine.test_architectures import PATHS, VARIANTS, opened

MIXED = ("cohere2", "gemma3", "gemma4_sharing", "gpt_oss", "mistral_window", "olmo3")
"""Small models with a window of 24; all but Mistral's have layers that see everything beside those that do not."""
WINDOW = 24
TEXT = [int(token) for token in np.random.default_rng(7).integers(3, 90, 420)]


def reference(name: str, *texts: list[int]) -> list[np.ndarray]:
    """Logits of every position of some texts, each read at once on torch."""
    engine = opened(VARIANTS / name, "torch")
    assert isinstance(engine, TorchEngine)
    model: Network = engine.model
    with torch.inference_mode():
        return [
            engine.model.all_logits(torch.tensor([ids]), model.make_cache(len(ids)))[0].numpy().copy() for ids in texts
        ]


def near(logits: Logits | None, expected: np.ndarray) -> bool:
    """Whether they differ by rounding alone, where the ids are the tokenizer's."""
    assert logits is not None
    finite = np.isfinite(logits)
    return bool(finite.any() and np.abs(logits[finite] - expected[finite]).max() < 1e-4)


def read(engine: Engine, ids: list[int]) -> tuple[Logits | None, int]:
    """The logits behind some ids, and how many of them were in the cache."""
    result = engine.prefill(ids, lambda: False)
    return result.logits, result.cached_tokens


@pytest.mark.parametrize("way", PATHS)
@pytest.mark.parametrize("name", MIXED)
def test_texts_go_back_and_forth_past_the_window(name: str, way: str) -> None:
    """Wherever a text is cut, gone back to or gone on with, its logits are those of reading it at once."""
    engine, (expected,) = opened(VARIANTS / name, way), reference(name, TEXT)
    for end, decoded in ((300, 30), (300, 0), (299, 3), (110, 40), (128, 1), (129, 0), (40, 0), (419, 1), (256, 2)):
        assert near(read(engine, TEXT[:end])[0], expected[end - 1])
        for place in range(end, end + decoded):
            assert near(engine.decode(TEXT[place]), expected[place])


@pytest.mark.parametrize("way", PATHS)
def test_the_end_of_the_prompt_and_of_the_reply_are_not_read_again(way: str) -> None:
    """Another reply to the same prompt, and the next prompt behind a reply, cost no more than without windows."""
    engine = opened(VARIANTS / "gemma3", way)
    read(engine, TEXT[:200])
    for token in TEXT[200:380]:
        engine.decode(token)
    assert read(engine, TEXT[:390])[1] == 380
    for token in TEXT[390:400]:
        engine.decode(token)
    assert read(engine, TEXT[:390])[1] == 389
    # What is in between is no longer kept whole.
    assert read(engine, TEXT[:150])[1] in (0, 149)
    assert read(engine, [5, *TEXT[:300]])[1] == 0


@pytest.mark.parametrize("way", PATHS)
@pytest.mark.parametrize("name", ["gemma3", "mistral_window"])
def test_lanes_part_behind_the_window(name: str, way: str) -> None:
    """Texts side by side, one of them doubled on the way, have the logits that each has alone."""
    engine = opened(VARIANTS / name, way)
    ends = [TEXT[k : k + 60] for k in (0, 100, 200)]
    lanes = [2, 0, 0]
    parted = [TEXT[:250] + ends[lane][:30] + [7 + place, *TEXT[:30]] for place, lane in enumerate(lanes)]
    expected = reference(name, *(TEXT[:250] + end for end in ends), *parted)
    read(engine, TEXT[:250])
    fork = engine.fork(3)
    for place in range(30):
        rows = fork.decode([end[place] for end in ends])
        assert all(near(row, whole[250 + place]) for row, whole in zip(rows, expected[:3], strict=True))
    fork.keep(lanes)
    for place in range(280, 311):
        rows = fork.decode([text[place] for text in parted])
        assert all(near(row, whole[place]) for row, whole in zip(rows, expected[3:], strict=True))
    assert near(engine.decode(ends[0][0]), expected[0][250])


def held(engine: Engine) -> int:
    """Bytes of keys and values."""
    assert isinstance(engine, NativeEngine | TorchEngine)
    return engine.cache.held_bytes


@pytest.mark.parametrize("way", PATHS)
def test_a_window_takes_no_more_memory_the_longer_the_text(way: str) -> None:
    """Where every layer has a window, a text of 500 tokens takes what it took when the windows were full."""
    engine = opened(VARIANTS / "mistral_window", way)
    sizes = []
    for end in (150, 300, 500):
        read(engine, (TEXT * 2)[:end])
        sizes.append(held(engine))
    # Windows lie in one page or two, those of this prompt's end, of the one before it and of the text's own.
    assert max(sizes) <= 3 * sizes[0]
    for token in TEXT[:10]:
        engine.decode(token)
    assert held(engine) <= max(sizes)


@pytest.mark.parametrize("way", PATHS)
def test_windows_that_are_not_full_cost_nothing(way: str) -> None:
    """A text shorter than the window goes back to any length, as without one."""
    engine = opened(VARIANTS / "mistral_window", way)
    read(engine, TEXT[:20])
    assert read(engine, TEXT[:9])[1] == 8
    assert read(engine, TEXT[:7])[1] == 6
