"""The tree of turns and the path through it."""

from __future__ import annotations

import pytest

from llmchat.chat.transcript import TITLE_LENGTH, Transcript
from llmchat.chat.turn import Turn
from llmchat.errors import TranscriptError
from tests.chat.conversations import answer, sea_story


def texts(transcript: Transcript) -> list[str]:
    """What is on the screen."""
    return [turn.text for turn in transcript.path()]


def test_an_empty_conversation_has_no_path() -> None:
    """Nothing was said: no leaf, no path, no title."""
    transcript = Transcript()
    assert (transcript.path(), transcript.leaf, transcript.leaf_id, transcript.title, len(transcript)) == (
        (), None, None, "", 0,
    )  # fmt: skip


def test_each_turn_follows_the_one_before() -> None:
    """What is said goes to the end of the path."""
    transcript = sea_story()
    assert texts(transcript) == ["Tell me about the sea.", "It sings.", "What does it sing?"]
    parents = [turn.parent for turn in transcript.path()]
    assert parents == [None, *(turn.id for turn in transcript.path()[:-1])]


def test_a_path_to_an_earlier_turn_can_be_asked_for() -> None:
    """A reply is generated again from the turns above it, while the old one is still selected."""
    transcript = sea_story()
    first, reply, _ = transcript.path()
    assert transcript.path(reply.id) == (first, reply)


def test_a_second_reply_is_an_alternative() -> None:
    """Regenerating adds beside the old reply; both stay reachable, in order."""
    transcript = sea_story()
    first, old, _ = transcript.path()
    transcript.stop_at(first.id)
    new = answer(transcript, "It roars.")
    assert transcript.alternatives(new.id) == transcript.alternatives(old.id) == (old, new)
    assert texts(transcript) == ["Tell me about the sea.", "It roars."]


def test_a_branch_is_left_and_found_again_where_it_was() -> None:
    """Selecting an alternative goes on to where its branch was last left, through every level."""
    transcript = sea_story()
    first, old, last = transcript.path()
    other = transcript.edit(last.id, "Who listens?")
    transcript.stop_at(first.id)
    new = answer(transcript, "It roars.")
    transcript.select(old.id)
    assert transcript.leaf == other
    transcript.select(last.id)
    transcript.select(new.id)
    transcript.select(old.id)
    assert transcript.leaf == last


def test_an_edit_keeps_the_old_turn() -> None:
    """An edited turn is a sibling; the old one keeps what followed it."""
    transcript = sea_story()
    first, reply, last = transcript.path()
    edited = transcript.edit(first.id, "Tell me about rivers.")
    assert texts(transcript) == ["Tell me about rivers."]
    assert transcript.alternatives(first.id) == (first, edited)
    assert transcript.children(first.id) == (reply,)
    transcript.select(first.id)
    assert transcript.leaf == last


def test_delete_takes_everything_below_with_it() -> None:
    """A deleted turn takes its branch along; the path ends at the turn above."""
    transcript = sea_story()
    first, reply, last = transcript.path()
    assert transcript.delete(reply.id) == (reply, last)
    assert texts(transcript) == ["Tell me about the sea."]
    assert [turn.id in transcript for turn in (first, reply, last)] == [True, False, False]
    answer(transcript, "again")
    assert len(transcript) == 2


def test_delete_moves_the_path_to_the_alternative_before() -> None:
    """Deleting one of several replies shows the one before it, else the one after."""
    transcript = sea_story()
    first, old, _ = transcript.path()
    transcript.stop_at(first.id)
    middle = answer(transcript, "middle")
    transcript.stop_at(first.id)
    new = answer(transcript, "new")
    transcript.delete(new.id)
    assert transcript.leaf == middle
    transcript.delete(old.id)
    assert transcript.leaf == middle
    transcript.delete(middle.id)
    assert transcript.leaf == first


def test_deleting_elsewhere_leaves_the_path() -> None:
    """A branch that is not on the screen goes without moving the path, and is not found again."""
    transcript = sea_story()
    first, old, _ = transcript.path()
    transcript.stop_at(first.id)
    new = answer(transcript, "new")
    transcript.delete(old.id)
    assert transcript.leaf == new
    transcript.select(first.id)
    assert transcript.leaf == new


def test_deleting_the_first_turn_empties_the_conversation() -> None:
    """Nothing is left to select, and the next thing said is a first turn again."""
    transcript = sea_story()
    transcript.delete(transcript.path()[0].id)
    assert (transcript.path(), len(transcript)) == ((), 0)
    transcript.say("user", "again")
    assert texts(transcript) == ["again"]


def test_stopping_before_the_first_turn_begins_a_new_branch() -> None:
    """The conversation can be begun again beside its first turn."""
    transcript = sea_story()
    transcript.stop_at(None)
    again = transcript.say("user", "Once more.")
    assert [turn.text for turn in transcript.alternatives(again.id)] == ["Tell me about the sea.", "Once more."]


def test_turns_that_do_not_fit_are_refused() -> None:
    """A turn whose id is taken, or whose parent is missing, would break the tree."""
    transcript = sea_story()
    with pytest.raises(TranscriptError, match="already"):
        transcript.add(transcript.path()[0])
    with pytest.raises(TranscriptError, match="'nobody'"):
        transcript.add(Turn("user", "lost", parent="nobody"))
    for act in (transcript.turn, transcript.select, transcript.delete, transcript.stop_at, transcript.alternatives):
        with pytest.raises(TranscriptError, match="has no turn 'nobody'"):
            act("nobody")
    assert len(transcript) == 3


def test_the_title_is_the_first_question_cut_short() -> None:
    """A title stays on one line of a list; a given one goes before it."""
    transcript = Transcript()
    transcript.say("system", "Be brief.")
    transcript.say("user", "  Tell\nme   " + "about the sea " * 20)
    assert transcript.title.startswith("Tell me about the sea about")
    assert transcript.title.endswith("…") and len(transcript.title) <= TITLE_LENGTH
    transcript.title = " The \n sea "
    assert transcript.title == "The sea"


def test_a_long_conversation_is_quick() -> None:
    """Adding 20,000 turns does not walk the whole path each time."""
    transcript = Transcript()
    for number in range(20_000):
        transcript.say("user", str(number))
    assert len(transcript.path()) == 20_000
