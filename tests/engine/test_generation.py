"""The generation loop: settings read per token, reasons to end, seeds, stop strings, continuation."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.turn import Reply, Turn, continue_reply
from llmchat.engine.engine import Engine
from llmchat.engine.generation import ReplyStream
from llmchat.engine.prompt import build_prompt
from llmchat.errors import GenerationError, UsageError
from llmchat.tokenizers.prompt_style import load_prompt_style
from tests.conftest import DATA
from tests.fakes import ByteTokenizer, ScriptedEngine

NEUTRAL = GenerationConfig(temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0, max_new_tokens=40)


def reply_of(
    engine: Engine,
    text: str,
    config: GenerationConfig | Callable[[int], GenerationConfig] = NEUTRAL,
    *,
    seed: int = 7,
    continued_ids: tuple[int, ...] = (),
    prefill_text: str = "",
    should_stop: Callable[[], bool] = lambda: False,
) -> Reply:
    """The whole reply to a raw prompt."""
    prompt = build_prompt(
        engine, [Turn("user", text)], raw=True, continued_ids=continued_ids, prefill_text=prefill_text
    )
    settings = config if callable(config) else lambda index: config
    stream = ReplyStream(engine, prompt, settings, seed, should_stop)
    stream.prefill()
    streamed = "".join(piece.text for piece in stream)
    assert streamed == stream.reply().text
    return stream.reply()


def _switched(later: GenerationConfig, token_index: int) -> Callable[[int], GenerationConfig]:
    """Neutral settings up to a token, others from it on."""
    return lambda index: later if index >= token_index else NEUTRAL


def test_repetition_penalty_over_prompt_and_reply_as_llmbuilder(tiny_engine: Engine) -> None:
    """All 32 greedy ids with penalty 1.3 are llmbuilder's."""
    reference = json.loads((DATA / "llmbuilder-2.0.0-tiny" / "reference.json").read_text())
    case = reference["greedy_repetition_penalty_1.3"]
    config = GenerationConfig(do_sample=False, repetition_penalty=1.3, max_new_tokens=len(case["new_ids"]))
    reply = reply_of(tiny_engine, case["prompt"], config)
    assert list(reply.token_ids) == case["new_ids"]
    assert case["text"].endswith(reply.text)


def test_the_same_seed_gives_the_same_ids_with_and_without_prefix_reuse(tiny_engine: Engine) -> None:
    """A reply can be made again, whatever is in the KV cache."""
    fresh = reply_of(tiny_engine, "the rabbit said", GenerationConfig(max_new_tokens=60))
    reply_of(tiny_engine, "the rabbit was late", GenerationConfig(max_new_tokens=30), seed=99)
    reused = reply_of(tiny_engine, "the rabbit said", GenerationConfig(max_new_tokens=60))
    assert (fresh.cached_tokens, reused.cached_tokens) == (0, 2)
    assert fresh.token_ids == reused.token_ids
    assert fresh.token_ids != reply_of(tiny_engine, "the rabbit said", seed=8).token_ids


def test_a_slider_moved_at_token_k_leaves_tokens_before_k_untouched(tiny_engine: Engine) -> None:
    """Settings act from the next token on, and the move is recorded with its place."""
    calm = reply_of(tiny_engine, "the queen", NEUTRAL)
    for moved_at in (0, 1, 17, 39):
        wild = NEUTRAL.changed(temperature=4.0)
        moved = reply_of(tiny_engine, "the queen", _switched(wild, moved_at))
        assert moved.token_ids[:moved_at] == calm.token_ids[:moved_at]
        assert moved.token_ids != calm.token_ids or moved_at == 39
        if moved_at:
            (change,) = moved.changes
            before = b"".join(map(tiny_engine.tokenizer.token_bytes, moved.token_ids[:moved_at])).decode()
            assert (change.token_index, dict(change.values)) == (moved_at, {"temperature": 4.0})
            assert change.text_offset == len(before)


def test_seed_and_stop_moved_in_mid_reply_wait_for_the_next(tiny_engine: Engine) -> None:
    """Locking the seed while a reply runs is no change of that reply."""
    plain = reply_of(tiny_engine, "the queen", NEUTRAL)
    locked = NEUTRAL.changed(seed=5, stop=("e",))
    moved = reply_of(tiny_engine, "the queen", _switched(locked, 5))
    assert moved.token_ids == plain.token_ids
    assert moved.changes == ()


def test_a_reply_in_two_halves_equals_one(tiny_engine: Engine) -> None:
    """Going on from a reply's own ids draws the same dice."""
    whole = reply_of(tiny_engine, "alice looked", GenerationConfig(max_new_tokens=50))
    first = reply_of(tiny_engine, "alice looked", GenerationConfig(max_new_tokens=20))
    second = reply_of(tiny_engine, "alice looked", GenerationConfig(max_new_tokens=30), continued_ids=first.token_ids)
    assert second.token_ids == whole.token_ids
    assert second.text == whole.text
    joined = continue_reply(first, second)
    assert [fact.start for fact in joined.facts] == [fact.start for fact in whole.facts]
    assert dict(joined.changes[0].values) == {"max_new_tokens": 30}


def test_mirostat_goes_on_from_where_it_was(tiny_engine: Engine) -> None:
    """The one sampler with a state: two halves equal one."""
    config = GenerationConfig(mirostat_tau=3.0, max_new_tokens=40)
    whole = reply_of(tiny_engine, "alice looked", config)
    first = reply_of(tiny_engine, "alice looked", config.changed(max_new_tokens=15))
    prompt = build_prompt(tiny_engine, [Turn("user", "alice looked")], raw=True, continued_ids=first.token_ids)
    rest = config.changed(max_new_tokens=25)
    stream = ReplyStream(tiny_engine, prompt, lambda index: rest, 7, earlier=first)
    stream.prefill()
    list(stream)
    assert stream.reply().token_ids == whole.token_ids


def test_an_end_token_ends_the_reply_and_is_no_part_of_it() -> None:
    """finish_reason is stop, and the ids are those of the text."""
    reply = reply_of(ScriptedEngine("Hé!"), "hi")
    assert (reply.text, reply.finish_reason) == ("Hé!", "stop")
    assert reply.token_ids == tuple("Hé!".encode())
    assert "<end>" in reply.finish_detail


def test_max_new_tokens_ends_the_reply() -> None:
    """Exactly so many tokens; half a character at the end becomes U+FFFD."""
    reply = reply_of(ScriptedEngine("ab€"), "hi", NEUTRAL.changed(max_new_tokens=4))
    assert (reply.text, reply.finish_reason, len(reply.token_ids)) == ("ab\ufffd", "length", 4)


def test_max_new_tokens_can_be_lowered_below_what_is_there() -> None:
    """A limit moved under the present length ends the reply at once."""
    shorter = _switched(NEUTRAL.changed(max_new_tokens=2), 5)
    assert len(reply_of(ScriptedEngine("abcdefghij"), "hi", shorter).token_ids) == 5


def test_a_stop_string_is_never_shown() -> None:
    """The text ends before it, though it came in many tokens; the detail names it."""
    reply = reply_of(ScriptedEngine("one two STOP three"), "hi", NEUTRAL.changed(stop=("STOP",)))
    assert (reply.text, reply.finish_reason) == ("one two ", "stop")
    assert "STOP" in reply.finish_detail


def test_what_only_looked_like_a_stop_string_is_given_out_at_the_end() -> None:
    """Held text comes when the reply ends otherwise."""
    assert reply_of(ScriptedEngine("one ST"), "hi", NEUTRAL.changed(stop=("STOP",))).text == "one ST"


def test_stopping_takes_effect_within_one_token() -> None:
    """The stop signal is looked at before every decode; the text so far stays."""
    engine, seen = ScriptedEngine("abcdef"), 0

    def stop() -> bool:
        nonlocal seen
        seen += 1
        return seen > 4

    reply = reply_of(engine, "hi", should_stop=stop)
    assert (reply.finish_reason, len(reply.text) <= 3) == ("cancelled", True)


def test_a_full_context_ends_the_reply() -> None:
    """A model that cannot slide stops when its positions are used up."""
    reply = reply_of(ScriptedEngine("abcdefghij", context_length=8), "hi!")
    assert (reply.finish_reason, len(reply.token_ids)) == ("length", 5)
    assert "context" in reply.finish_detail


def test_min_new_tokens_holds_the_end_back() -> None:
    """No end token before its time."""
    reply = reply_of(ScriptedEngine("ab"), "hi", NEUTRAL.changed(min_new_tokens=10, max_new_tokens=20))
    assert len(reply.token_ids) == 10


def test_broken_numbers_stop_the_reply_with_what_there_is() -> None:
    """NaN logits are an error in words; the text so far stays readable."""
    engine = ScriptedEngine("abcdef", fail_at=3)
    prompt = build_prompt(engine, [Turn("user", "hi")])
    stream = ReplyStream(engine, prompt, lambda index: NEUTRAL, 1)
    stream.prefill()
    with pytest.raises(GenerationError, match="not finite"):
        list(stream)
    assert stream.reply().text == "abc"


def test_a_prefill_begins_the_reply() -> None:
    """What the person wrote stands at its start and in the prompt."""
    engine = ScriptedEngine(" world")
    reply = reply_of(engine, "say: ", prefill_text="hello")
    assert reply.text == "hello world"
    assert bytes(engine.prompts[0]) == b"say: hello"


def test_an_empty_prompt_is_refused() -> None:
    """A model needs a token to go on from."""
    with pytest.raises(UsageError, match="empty"):
        build_prompt(ScriptedEngine(), [Turn("user", "")])


def test_raw_prompts_stand_alone() -> None:
    """Without a template only the last message is read, as llmbuilder's own chat does it."""
    engine = ScriptedEngine()
    turns = [Turn("user", "first"), Turn("assistant", "reply"), Turn("user", "second")]
    assert bytes(build_prompt(engine, turns).token_ids) == b"second"


def test_oldest_turns_are_left_out_and_named() -> None:
    """The system prompt and the last message stay; what is gone is told by id."""
    style = load_prompt_style("plain", ByteTokenizer())
    engine = ScriptedEngine(context_length=120, prompt_style=style)
    turns = [
        Turn("system", "Be brief."),
        *(Turn("user" if i % 2 == 0 else "assistant", f"turn {i} " * 3) for i in range(7)),
    ]
    prompt = build_prompt(engine, turns, reply_room=20)
    text = bytes(prompt.token_ids).decode()
    assert "Be brief." in text and "turn 6" in text and "turn 0" not in text
    assert len(prompt.token_ids) <= 100
    gone = len(prompt.dropped_turns)
    assert prompt.dropped_turns == tuple(turn.id for turn in turns[1 : 1 + gone])
    assert f"turn {gone}" in text
    assert prompt.dropped_tokens > 0


def test_a_last_message_that_does_not_fit_is_an_error() -> None:
    """Both numbers are in the message."""
    style = load_prompt_style("plain", ByteTokenizer())
    engine = ScriptedEngine(context_length=50, prompt_style=style)
    with pytest.raises(GenerationError, match="50"):
        build_prompt(engine, [Turn("user", "x" * 100)])


def test_every_token_is_remembered_with_its_probability(tiny_engine: Engine) -> None:
    """One fact a token: where its bytes begin, and how likely it was before and after the chain."""
    reply = reply_of(tiny_engine, "the queen", NEUTRAL, prefill_text="’s ")
    assert len(reply.facts) == len(reply.token_ids)
    data = reply.text.encode()
    ends = [fact.start for fact in reply.facts[1:]] + [len(data)]
    for token_id, fact, end in zip(reply.token_ids, reply.facts, ends, strict=True):
        assert data[fact.start : end] == tiny_engine.tokenizer.token_bytes(token_id)
        assert fact.logprob == pytest.approx(fact.final_logprob, abs=1e-5)
        assert fact.logprob <= 0 <= fact.rank
    greedy = reply_of(tiny_engine, "the queen", NEUTRAL.changed(do_sample=False))
    assert {(fact.rank, fact.final_logprob) for fact in greedy.facts} == {(0, 0.0)}


def test_a_token_that_the_person_chose_is_taken(tiny_engine: Engine) -> None:
    """Other tokens are drawn as ever, and the choice is recorded; one that the chain removed is taken all the same."""
    plain = reply_of(tiny_engine, "the queen", GenerationConfig(max_new_tokens=20))
    prompt = build_prompt(tiny_engine, [Turn("user", "the queen")], raw=True)
    stream = ReplyStream(tiny_engine, prompt, lambda index: GenerationConfig(max_new_tokens=20), 7, forced=((5, 977),))
    stream.prefill()
    list(stream)
    reply = stream.reply()
    assert reply.token_ids[:5] == plain.token_ids[:5]
    assert reply.token_ids[5] == 977
    assert reply.forced == ((5, 977),)
