"""Drafts from the text so far: they change no token and no logit, and are made where they pay."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelSpec
from llmchat.chat.turn import Reply, Turn
from llmchat.engine.engine import Engine
from llmchat.engine.generation import ReplyStream
from llmchat.engine.native_engine import NativeEngine
from llmchat.engine.opening import open_engine
from llmchat.engine.pass_costs import PassCosts
from llmchat.engine.prompt import build_prompt
from llmchat.engine.prompt_lookup import PromptLookup
from llmchat.engine.torch_engine import TorchEngine
from tests.engine.test_architectures import VARIANTS
from tests.engine.test_architectures import opened as variant
from tests.engine.test_lora import ADAPTERS, SMALL
from tests.engine.test_lora import opened as adapted

REPEATING = "the queen and the king and the queen and the king and the"


def native(tiny_dir: Path) -> NativeEngine:
    """The model that llmbuilder trained, on the native step."""
    spec = ModelSpec(str(tiny_dir / "model" / "model.pt"), str(tiny_dir / "tokenizer"), threads=1)
    engine = open_engine(spec, lambda stage, fraction: None)
    assert isinstance(engine, NativeEngine)
    return engine


def walk(engine: Engine, ids: list[int], drafts: Callable[[int], list[int]]) -> list[bytes]:
    """The logits behind each of some ids, drafts being given on the way, to the last bit."""
    engine.prefill(ids[:3], lambda: False)
    return [engine.decode(ids[place], drafts(place)).tobytes() for place in range(3, len(ids))]


@pytest.mark.parametrize("name", ["mistral_window", "gemma3", "gemma4_mixture", "gpt_oss", "cohere2", "phi3_longrope"])
def test_no_logit_depends_on_drafts(name: str) -> None:
    """Right, half right, wrong and too long ones, behind full windows and where positions begin to be stretched."""
    engine = variant(VARIANTS / name, "native")
    context = engine.info.context_length
    dice = random.Random(5)
    ids = [dice.randrange(3, 90) for _ in range(min(context, 140))]
    plain = walk(engine, ids, lambda place: [])

    def drafts(place: int) -> list[int]:
        right = ids[place + 1 : place + 1 + dice.randrange(9)]
        return [token if dice.random() < 0.8 else 7 for token in right] + [5] * dice.randrange(3)

    assert walk(engine, ids, drafts) == plain
    assert walk(engine, ids, lambda place: []) == plain


def test_what_was_run_too_far_is_no_part_of_the_text(tiny_dir: Path) -> None:
    """Neither of what the engine says it has read, nor of a fork, nor of the next prompt where that differs."""
    engine = native(tiny_dir)
    engine.prefill([5, 6, 7], lambda: False)
    engine.decode(8, [9, 10, 11])
    assert engine.text == [5, 6, 7, 8] and engine.context_tokens == 4
    (forked,) = engine.fork(1).decode([30])
    alone = engine.decode(30).tobytes()
    assert forked.tobytes() == alone
    engine.prefill([5, 6, 7], lambda: False)
    engine.decode(8, [9, 10, 11])
    # What a draft had right needs not be read again.
    again = engine.prefill([5, 6, 7, 8, 9, 12], lambda: False)
    assert again.cached_tokens == 5 and again.logits is not None
    expected = native(tiny_dir).prefill([5, 6, 7, 8, 9, 12], lambda: False).logits
    assert expected is not None and again.logits.tobytes() == expected.tobytes()


def test_drafts_end_with_the_context(tiny_dir: Path) -> None:
    """Where the window begins to slide, it slides as ever."""
    engine, plain = native(tiny_dir), native(tiny_dir)
    ids = [5 + place % 40 for place in range(engine.info.context_length + 9)]
    for one in (engine, plain):
        one.prefill(ids[: one.info.context_length - 5], lambda: False)
    for place in range(engine.info.context_length - 5, len(ids)):
        assert engine.decode(ids[place], ids[place + 1 : place + 6]).tobytes() == plain.decode(ids[place]).tobytes()


def test_a_draft_is_of_its_scale() -> None:
    """Where the adapter's slider moves in the middle of a draft, what follows is computed anew."""
    name = sorted(path.parent.name for path in ADAPTERS.glob("*/reference.npz"))[0]
    engines = [adapted(SMALL / name, ADAPTERS / name) for _ in range(2)]
    rows = []
    for engine, draft in zip(engines, ([9, 10, 11], []), strict=True):
        engine.lora_scale = 1.0
        engine.prefill([5, 6, 7], lambda: False)
        rows.append([engine.decode(8, draft).copy(), engine.decode(9).copy()])
        engine.lora_scale = 0.5
        rows[-1] += [engine.decode(10).copy(), engine.decode(11).copy()]
    for drafted, plain in zip(*rows, strict=True):
        np.testing.assert_array_equal(drafted, plain)


def reply(engine: Engine, config: Callable[[int], GenerationConfig], forced: tuple[tuple[int, int], ...] = ()) -> Reply:
    """A reply under settings that may move."""
    prompt = build_prompt(engine, (Turn("user", REPEATING),))
    stream = ReplyStream(engine, prompt, config, seed=3, forced=forced)
    stream.prefill()
    list(stream)
    return stream.reply()


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"temperature": 1.3, "repetition_penalty": 0.6},
        {"mirostat_tau": 4.0},
        {"dry_multiplier": 0.8, "frequency_penalty": 0.3},
        {"xtc_probability": 0.5, "repetition_penalty": 1.0},
        {"banned_tokens": tuple(range(40, 80)), "repetition_penalty": 0.9},
        {"stop": ("king",), "repetition_penalty": 0.8},
        {"min_new_tokens": 30, "top_k": 3},
    ],
)
def test_the_same_reply_whatever_the_sampler(
    tiny_dir: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object]
) -> None:
    """Tokens, facts, text and end are those without drafts, also as sliders move and tokens are forced in mid-reply."""
    engine = native(tiny_dir)
    monkeypatch.setattr(engine, "pass_cost", lambda positions: 1.0 if positions < 9 else 99.0)
    base = GenerationConfig(max_new_tokens=60).changed(**settings)

    def moving(lookup: bool) -> Callable[[int], GenerationConfig]:
        config = base.changed(prompt_lookup=lookup)
        return lambda index: config if index < 20 else config.changed(top_p=0.5, temperature=config.temperature / 2)

    plain, drafted = (reply(engine, moving(lookup), forced=((9, 41),)) for lookup in (False, True))
    assert plain.drafted_tokens == 0 < drafted.drafted_tokens
    for one in (plain, drafted):
        assert len(one.facts) == len(one.token_ids)
    names = ("token_ids", "facts", "text", "finish_reason", "finish_detail", "forced")
    for name in names:
        assert getattr(plain, name) == getattr(drafted, name)
    assert [(c.token_index, c.values) for c in plain.changes] == [(c.token_index, c.values) for c in drafted.changes]


def test_who_cannot_go_back_or_is_not_exact_takes_none(tiny_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network whose state cannot be taken back, and torch, whose sums depend on how many positions are computed."""
    engine = native(tiny_dir)
    assert engine.most_drafted > 0
    monkeypatch.setattr("llmchat.models.plan.ModelPlan.goes_back", False)
    again = NativeEngine(engine.model, engine.tokenizer, engine.info, end_ids=engine.end_ids, prompt_style=None)
    assert again.most_drafted == 0
    assert TorchEngine.most_drafted == 0


def drafts_of(text: list[int], said: list[int], cost: float = 0.1) -> PromptLookup:
    """A lookup that was told a reply."""
    lookup = PromptLookup(text, 7, lambda positions: 1 + cost * (positions - 1))
    for token in said:
        lookup.after(token)
    return lookup


def test_what_stands_in_the_prompt_is_drafted() -> None:
    """A reply that copies, with a word in another's place, is nearly all drafts; all but that word are right."""
    text = list(range(100, 400))
    said = [*range(120, 200), 7, *range(201, 260)]
    lookup = drafts_of(text, said)
    assert lookup.accepted > 0.7 * len(said) and lookup.drafted - lookup.accepted < 20


def test_a_draft_goes_on_where_the_text_did() -> None:
    """The latest place counts, and a draft ends with the text."""
    lookup = PromptLookup([1, 2, 3, 4, 1, 2, 5, 6], 7, lambda positions: 1.0)
    lookup.after(1)
    assert list(lookup.after(2)) == [5, 6, 1, 2]


@pytest.mark.parametrize("words", [3, 30, 300])
def test_a_text_that_only_shares_common_words_takes_no_longer(words: int) -> None:
    """Pairs that come again by chance are drafted only as far as that pays: the time is never above 1.02 of without."""
    dice = random.Random(2)
    said = [dice.choice([dice.randrange(words), dice.randrange(1000, 4000)]) for _ in range(3000)]
    lookup, seconds, ahead = PromptLookup([], 7, lambda positions: 1 + 0.15 * (positions - 1)), 0.0, list[int]()
    for token in said:
        draft = list(lookup.after(token))
        if ahead[:1] == [token]:
            ahead = ahead[1:]
            continue
        ahead = draft
        seconds += 1 + 0.15 * len(draft)
    assert seconds < 1.02 * len(said)


def test_passes_that_cost_too_much_are_not_made() -> None:
    """Where a second position costs as much as the first, nothing is drafted."""
    assert drafts_of(list(range(300)), list(range(50, 200)), cost=1.0).drafted == 0


def test_costs_are_what_was_measured() -> None:
    """Supposed until both are known; one slow pass among many is none of its size."""
    costs = PassCosts()
    assert costs.of(1) == 1.0 and costs.of(4) == pytest.approx(1.3)
    for seconds in (0.01, 0.01, 0.5, 0.01):
        costs.note(1, seconds)
    assert costs.of(4) == pytest.approx(1.3)
    costs.note(4, 0.02)
    assert costs.of(4) == pytest.approx(2.0)
