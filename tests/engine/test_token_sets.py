"""What the sampling chain is told of a vocabulary, and that it acts within a reply."""

from __future__ import annotations

import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.turn import Turn
from llmchat.engine.engine import Engine
from llmchat.engine.generation import ReplyStream
from llmchat.engine.prompt import build_prompt
from llmchat.engine.token_sets import ids_containing
from tests.fakes import ByteTokenizer, ScriptedEngine

NEUTRAL = GenerationConfig(temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0, max_new_tokens=40)


def ids_of(engine: Engine, config: GenerationConfig, continued_ids: tuple[int, ...] = ()) -> tuple[int, ...]:
    """The ids of a reply, those that it goes on from included."""
    prompt = build_prompt(engine, [Turn("user", "the queen the queen")], raw=True, continued_ids=continued_ids)
    stream = ReplyStream(engine, prompt, lambda _: config, 7)
    stream.prefill()
    for _ in stream:
        pass
    return stream.reply().token_ids


def test_every_token_with_the_text_is_found(tiny_engine: Engine) -> None:
    """A breaker counts wherever it stands in a token, also as bytes; the answer is kept."""
    tokenizer = ByteTokenizer()
    assert ids_containing(tokenizer, ("\n", "a", "é")) == {10, 97}
    words = ids_containing(tiny_engine.tokenizer, ("he", "\n"))
    pieces = map(tiny_engine.tokenizer.token_bytes, range(tiny_engine.tokenizer.vocab_size))
    assert words == {token_id for token_id, piece in enumerate(pieces) if b"he" in piece or b"\n" in piece}
    assert len(words) > 3
    assert ids_containing(tiny_engine.tokenizer, ("he", "\n")) is words


def test_dry_ends_a_repetition_but_not_at_its_breakers() -> None:
    """A model that says the same for ever is led away from it, unless each of its tokens is a breaker."""
    engine = ScriptedEngine("ab" * 50)
    config = NEUTRAL.changed(dry_multiplier=5.0, do_sample=False)
    assert bytes(ids_of(engine, NEUTRAL.changed(do_sample=False))[:40]) == b"ab" * 20
    assert bytes(ids_of(engine, config.changed(dry_breakers=("a", "b")))[:40]) == b"ab" * 20
    assert bytes(ids_of(engine, config)[:40]) != b"ab" * 20


def test_xtc_leaves_newlines_and_ends_alone() -> None:
    """The most likely newline and end token come however often XTC acts."""
    engine = ScriptedEngine("\n\n")
    assert ids_of(engine, NEUTRAL.changed(xtc_probability=1.0, xtc_threshold=0.0)) == (10, 10)


def test_a_banned_token_is_not_drawn() -> None:
    """A ban holds from the first token on."""
    assert ord("b") not in ids_of(ScriptedEngine("bbb"), NEUTRAL.changed(banned_tokens=(ord("b"),)))


@pytest.mark.parametrize("start", [0, 1, 13, 39])
def test_two_halves_are_one_whole_under_all_penalties(tiny_engine: Engine, start: int) -> None:
    """A reply that goes on from stored ids counts and compares them as its own."""
    config = NEUTRAL.changed(frequency_penalty=0.7, presence_penalty=0.5, dry_multiplier=0.8, xtc_probability=0.5)
    whole = ids_of(tiny_engine, config)
    assert len(whole) == 40
    assert ids_of(tiny_engine, config.changed(max_new_tokens=40 - start), whole[:start]) == whole


def test_the_default_settings_do_not_read_the_vocabulary() -> None:
    """What is not asked for costs nothing."""

    class Watched(ByteTokenizer):
        """Knows whether all its tokens were looked at."""

        looked = 0

        def token_bytes(self, token_id: int) -> bytes:
            """The byte itself, noted."""
            self.looked += 1
            return super().token_bytes(token_id)

    engine = ScriptedEngine("Hello.")
    engine.tokenizer = watched = Watched()
    ids_of(engine, GenerationConfig())
    assert watched.looked < 50
