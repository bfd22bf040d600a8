"""Text as it becomes certain: whole characters, no part of a stop string, the same for every split."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from llmchat.tokenizers.detokenizer import StreamingDetokenizer
from llmchat.tokenizers.sentencepiece import SentencePieceTokenizer
from tests.tokenizers.vocabularies import TINY, PieceTokenizer


def _stream(pieces: Sequence[bytes], stop: Sequence[str] = (), *, strip: bool = False) -> StreamingDetokenizer:
    return StreamingDetokenizer(PieceTokenizer(pieces), stop=stop, strip_leading_space=strip)


def _run(pieces: Sequence[bytes], stop: Sequence[str] = (), *, strip: bool = False) -> tuple[list[str], str | None]:
    """What is given out for each piece, then at the end; and the stop string."""
    stream = _stream(pieces, stop, strip=strip)
    given = [stream.add(token_id) for token_id in range(len(pieces))]
    return [*given, stream.finish()], stream.stop


def _split(data: bytes, dice: random.Random) -> list[bytes]:
    """The bytes in random pieces, some of them empty."""
    cuts = sorted(dice.randrange(len(data) + 1) for _ in range(dice.randrange(len(data) + 2)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def test_a_character_is_held_until_it_is_whole() -> None:
    """No half of an emoji is ever shown."""
    assert _run([b"a\xf0", b"\x9f", b"\x98", b"\x80b"])[0] == ["a", "", "", "😀b", ""]


def test_invalid_bytes_do_not_block() -> None:
    """A byte that can begin nothing becomes U+FFFD at once; so does a character broken off in the middle."""
    assert _run([b"a\xff", b"b"])[0] == ["a\ufffd", "b", ""]
    assert _run([b"\xe6\xbc", b"x", b"\x80"])[0] == ["", "\ufffdx", "\ufffd", ""]


def test_what_is_left_comes_at_the_end() -> None:
    """A reply cut inside a character, or inside what might have been a stop string, loses nothing."""
    assert _run([b"a\xf0\x9f"])[0] == ["a", "\ufffd"]
    assert _run([b"ab ST"], ["STOP"])[0] == ["ab ", "ST"]


def test_nothing_comes_after_the_end() -> None:
    """Calls after `finish`, or after a stop string, give nothing."""
    stream = _stream([b"a", b"b"])
    stream.add(0)
    assert stream.finish() == ""
    assert (stream.add(1), stream.finish()) == ("", "")
    stopped = _stream([b"a.", b"b"], ["."])
    assert (stopped.add(0), stopped.add(1), stopped.finish(), stopped.stop) == ("a", "", "", ".")


@pytest.mark.parametrize(
    ("text", "stops", "shown", "which"),
    [
        ("The user is a", ["a", "is"], "The user ", "is"),
        ("abc", ["abc", "b"], "a", "b"),
        ("ab", ["ab", "b"], "", "ab"),
        ("ab", ["b", "ab"], "a", "b"),
        ("hello world.", ["."], "hello world", "."),
        ("aab", ["ab"], "a", "ab"),
        ("ababac", ["abac"], "ab", "abac"),
        ("one two", ["three"], "one two", None),
        ("x\n\nUser: y", ["\nUser:"], "x\n", "\nUser:"),
        ("x", [""], "x", None),
    ],
)
def test_stop_strings(text: str, stops: list[str], shown: str, which: str | None) -> None:
    """The stop string completed first wins, the order of the list on a tie, whole or letter by letter."""
    for pieces in ([text.encode()], [char.encode() for char in text]):
        given, stop = _run(pieces, stops)
        assert ("".join(given), stop) == (shown, which)


@pytest.mark.parametrize(
    "tokens", [("st", "op"), ("st", "opera"), ("sto", "pper"), ("las", "topper"), ("s", "to", "p")]
)
def test_stop_strings_over_several_tokens(tokens: tuple[str, ...]) -> None:
    """A stop string matches across tokens and in the middle of one."""
    given, stop = _run([token.encode() for token in tokens], ["stop"])
    assert stop == "stop"
    assert "stop" not in "".join(given)


def test_the_leading_space_goes_once() -> None:
    """Only the first space of a reply is the vocabulary's; it does not count as text."""
    assert _run([b"", b" ", b" a", b" b"], strip=True)[0] == ["", "", " a", " b", ""]
    assert _run([b"a", b" b"], strip=True)[0] == ["a", " b", ""]
    assert _run([b" a"])[0] == [" a", ""]


def test_every_token_has_its_bytes_of_the_reply() -> None:
    """Offsets tile the reply's bytes, also inside a character and after the dropped space."""
    stream = _stream([b" A", b"", b"\xf0\x9f", b"\x98\x80", b" b"], strip=True)
    for token_id in range(5):
        stream.add(token_id)
    stream.finish()
    assert stream.offsets == [0, 1, 1, 3, 5]
    assert (stream.byte_count, stream.char_count) == (7, 4)


def test_offsets_find_back_after_invalid_bytes() -> None:
    """U+FFFD is three bytes of the reply, whatever it stands for."""
    stream = _stream([b"a", b"\xff", b"b"])
    text = "".join(stream.add(token_id) for token_id in range(3)) + stream.finish()
    assert stream.offsets == [0, 1, 4]
    assert stream.byte_count == len(text.encode()) == 5


def test_random_splits_give_the_whole_text() -> None:
    """However bytes are cut into tokens, the text is that of the whole, invalid bytes included."""
    dice = random.Random(1)
    for _ in range(300):
        text = "".join(dice.choice("ab é漢😀\n") for _ in range(dice.randrange(20))).encode()
        data = bytes(dice.randrange(256) for _ in range(dice.randrange(12))) if dice.random() < 0.3 else text
        pieces = _split(data, dice)
        stream = _stream(pieces)
        shown = "".join(stream.add(token_id) for token_id in range(len(pieces))) + stream.finish()
        assert shown == data.decode("utf-8", "replace")
        assert stream.byte_count == len(shown.encode())
        assert stream.offsets == sorted(stream.offsets)


def test_random_splits_never_show_a_stop_string() -> None:
    """For every split the reply is the same, ends at the same stop string, and shows no part of it."""
    dice = random.Random(2)
    for _ in range(500):
        text = "".join(dice.choice("abcé") for _ in range(dice.randrange(1, 16)))
        stops = ["".join(dice.choice("abcé") for _ in range(dice.randrange(1, 5))) for _ in range(dice.randrange(1, 4))]
        whole, which = _run([text.encode()], stops)
        given, stop = _run(_split(text.encode(), dice), stops)
        assert ("".join(given), stop) == ("".join(whole), which)
        assert not any(one in "".join(given) for one in stops)
        ends = [text.find(one) + len(one) for one in stops if one in text]
        assert (which is None) == (not ends)
        if which is not None:
            assert "".join(whole) + which == text[: min(ends)]


def test_streaming_is_the_whole_decode_of_a_real_vocabulary() -> None:
    """With the leading space dropped, the stream of a real tokenizer is its own decode."""
    tokenizer = SentencePieceTokenizer(TINY)
    dice = random.Random(3)
    for _ in range(50):
        ids = [dice.randrange(tokenizer.vocab_size) for _ in range(dice.randrange(1, 30))]
        ids = [token_id for token_id in ids if token_id != tokenizer.unk_id]
        stream = StreamingDetokenizer(tokenizer, strip_leading_space=True)
        assert "".join(map(stream.add, ids)) + stream.finish() == tokenizer.decode(ids)
