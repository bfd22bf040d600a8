"""What the transcript shows of a session's turns: headings, stamps, marks, endings, dimmed turns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelSpec
from llmchat.chat.turn import FinishReason, Reply, SettingsChange, TokenFacts, Turn, system_of
from llmchat.session import ChatSession
from llmchat.ui.blocks import session_blocks, short_name
from llmchat.ui.rendering.turn_block import Notice, TurnBlock
from llmchat.worker.messages import GenerationRequest, ModelLoaded, Request, TokensGenerated
from tests.fakes import ScriptedEngine


def reply_of(text: str = "Hello.", **fields: object) -> Reply:
    """A reply that ended by itself."""
    plain = Reply(
        text, tuple(text.encode()), "stop", "end token", GenerationConfig(), 8417, model="SmolLM2-135M-Instruct"
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def session_with(*turns: Turn) -> ChatSession:
    """A session that has these turns, and no model."""
    session = ChatSession(lambda request: None, lambda error: None, autosave=False)
    for turn in turns:
        session.transcript.add(turn)
    session.system = system_of(session.transcript.path())
    return session


def block_of(reply: Reply) -> TurnBlock:
    """How a reply to a message is shown."""
    message = Turn("user", "hi")
    session = session_with(message, Turn("assistant", reply.text, parent=message.id, reply=reply))
    return session_blocks(session)[-1]


def test_each_role_has_its_heading() -> None:
    """System, person, model by its short name, and replies that a person wrote."""
    system = Turn("system", "Be brief.")
    message = Turn("user", "hi", parent=system.id)
    edited = Turn("assistant", "My words.", parent=message.id)
    blocks = session_blocks(session_with(system, message, edited))
    assert [(block.role, block.name, block.text) for block in blocks] == [
        ("system", "System", "Be brief."),
        ("user", "You", "hi"),
        ("assistant", "Model", "My words."),
    ]
    assert blocks[2].details == "edited"
    assert block_of(reply_of()).name == "SmolLM2"


@pytest.mark.parametrize(
    ("changes", "stamp"),
    [
        ({}, "temp 0.80 · seed 8417 · 6 tok · end token"),
        ({"config": GenerationConfig(temperature=1.2, top_k=7)}, "temp 1.20 · seed 8417 · 6 tok · end token · top-k 7"),
        ({"config": GenerationConfig(do_sample=False)}, "greedy · seed 8417 · 6 tok · end token"),
        (
            {"changes": (SettingsChange(2, 2, {"temperature": 1.2}), SettingsChange(4, 4, {"top_p": 0.5}))},
            "temp 0.80→1.20 · seed 8417 · 6 tok · end token · top-p 0.90→0.50",
        ),
    ],
)
def test_the_stamp_tells_what_differs(changes: dict[str, Any], stamp: str) -> None:
    """Temperature and seed always; the rest where it is not the default, and what it moved to."""
    assert block_of(reply_of(**changes)).details == stamp


def test_marks_tell_each_move_from_the_value_before() -> None:
    """Two moves of one slider: the second begins where the first ended."""
    moves = (
        SettingsChange(1, 1, {"temperature": 1.2, "do_sample": True}),
        SettingsChange(3, 3, {"temperature": 0.0}),
        SettingsChange(5, 5, {"top_k": 0}),
    )
    marks = block_of(reply_of(config=GenerationConfig(do_sample=False), changes=moves)).marks
    assert marks == (
        (1, "temperature 0.80 → 1.20, do sample off → on"),
        (3, "temperature 1.20 → 0.00"),
        (5, "top-k 50 → off"),
    )


def test_a_drag_is_marked_where_it_begins_and_ends() -> None:
    """A hundred marks would bury the text; a move long after, or of another slider, is one of its own."""
    drag = [SettingsChange(token, 2 * token, {"temperature": token / 10}) for token in (1, 3, 4, 12)]
    apart = [SettingsChange(21, 42, {"temperature": 2.0}), SettingsChange(22, 44, {"top_k": 7})]
    assert block_of(reply_of(changes=(*drag, *apart))).marks == (
        (2, "temperature 0.80 →"),
        (24, "→ 1.20"),
        (42, "temperature 1.20 → 2.00"),
        (44, "top-k 50 → 7"),
    )
    assert len(block_of(reply_of(changes=tuple(drag[:2]))).marks) == 2


@pytest.mark.parametrize(
    ("reason", "detail", "notices"),
    [
        ("stop", "end token <end>", ()),
        ("length", "max_new_tokens 512", (Notice("ended by max_new_tokens 512; /continue goes on"),)),
        ("cancelled", "stopped by you", (Notice("stopped by you"),)),
        ("error", "The numbers are not finite.", (Notice("The numbers are not finite.", "error"),)),
    ],
)
def test_an_ending_is_told_where_it_is_not_the_models_own(
    reason: FinishReason, detail: str, notices: tuple[Notice, ...]
) -> None:
    """A reply that was cut off never looks complete."""
    assert block_of(reply_of(finish_reason=reason, finish_detail=detail)).notices == notices


def test_raw_replies_are_plain_text() -> None:
    """What a base model writes is not taken for Markdown; a long prompt's lost start is told."""
    block = block_of(reply_of(raw=True, dropped_tokens=12))
    assert not block.markdown
    assert "first 12 tokens" in block.notices[0].text
    assert block_of(reply_of()).markdown


def test_dropped_turns_are_dimmed_above_a_line() -> None:
    """The line counts them; nothing is dimmed while everything fits."""
    first = Turn("user", "one")
    second = Turn("assistant", "two", parent=first.id)
    third = Turn("user", "three", parent=second.id)
    session = session_with(first, second, third)
    assert not any(block.dimmed for block in session_blocks(session))
    session.dropped_turns = frozenset({first.id, second.id})
    blocks = session_blocks(session)
    assert [block.dimmed for block in blocks] == [True, True, False, False]
    assert blocks[2].notices == (Notice("the 2 turns above no longer fit into the context", "divider"),)
    session.dropped_turns = frozenset({first.id})
    assert session_blocks(session)[1].notices[0].text == "the 1 turn above no longer fits into the context"


def test_a_system_prompt_above_dropped_turns_is_not_counted() -> None:
    """It stays in the context."""
    system = Turn("system", "Be brief.")
    first = Turn("user", "one", parent=system.id)
    second = Turn("assistant", "two", parent=first.id)
    third = Turn("user", "three", parent=second.id)
    session = session_with(system, first, second, third)
    session.dropped_turns = frozenset({first.id, second.id})
    blocks = session_blocks(session)
    assert [block.dimmed for block in blocks] == [False, True, True, False, False]
    assert "the 2 turns above" in blocks[3].notices[0].text


def test_a_running_reply_and_what_waits_come_last() -> None:
    """The live block has the id that its turn will have, so that it stays where it is."""
    requests: list[Request] = []
    session = ChatSession(requests.append, lambda error: None, autosave=False)
    session.load_model(ModelSpec("scripted"))
    session.handle(ModelLoaded(requests[0].request_id, ScriptedEngine().info, 0.1))
    session.send("hi")
    session.send("later")
    request = requests[-1]
    assert isinstance(request, GenerationRequest) and session.running is not None
    moved = SettingsChange(1, 1, {"top_k": 7})
    session.handle(
        TokensGenerated(request.request_id, "abc", (97, 98, 99), (), (moved,), context_tokens=5, tokens_per_second=9.0)
    )
    message, live, waiting = session_blocks(session)
    assert message.text == "hi" and not message.live
    assert (live.id, live.text, live.live) == (session.running.turn_id, "abc", True)
    assert live.marks == ((1, "top-k 50 → 7"),)
    assert waiting.text == "later" and waiting.dimmed and waiting.notices == (Notice("waiting"),)
    assert not any(block.id == "window" for block in (message, live, waiting))


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("SmolLM2-135M-Instruct", "SmolLM2"),
        ("Llama-3.2-1B-Instruct", "Llama-3.2"),
        ("gemma-2-2b-it", "gemma-2"),
        ("step-12000", "step-12000"),
        ("checkpoint-500", "checkpoint-500"),
        ("tiny", "tiny"),
        ("", "Model"),
    ],
)
def test_short_names(name: str, short: str) -> None:
    """The part before the size or the kind; a checkpoint keeps its number."""
    assert short_name(name) == short


def test_checkpoints_of_one_name_are_told_apart() -> None:
    """Runs that keep each checkpoint in a directory of its own: the heading names that too."""
    message = Turn("user", "hi")
    replies = [reply_of(model="model", model_path=f"/runs/step_{step}/model.pt") for step in (1, 2)]
    turns = [Turn("assistant", "Hello.", parent=message.id, reply=reply) for reply in replies]
    session = session_with(message, *turns)
    assert session_blocks(session)[-1].name == "step_2/model"
    session.choose(turns[1].id, -1)
    assert session_blocks(session)[-1].name == "step_1/model"
    assert session_blocks(session_with(message, turns[0]))[-1].name == "model"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"finish_detail": "stop string 'x'"}, "6 tok · stop string"),
        ({"finish_reason": "length", "finish_detail": "max_new_tokens 6"}, "6 tok · length"),
        ({"finish_reason": "cancelled", "finish_detail": "stopped by you"}, "6 tok · stopped"),
        ({"finish_reason": "error", "finish_detail": "It broke."}, "6 tok · failed"),
        ({"unknown_tokens": 2}, "6 tok · end token · 33 % unknown"),
        ({"byte_tokens": 6}, "6 tok · end token · 100 % bytes"),
    ],
)
def test_the_heading_tells_why_it_ended_and_what_was_lacking(changes: dict[str, Any], words: str) -> None:
    """Every alternative carries its ending, and how much of it the vocabulary lacks."""
    assert block_of(reply_of(**changes)).details.endswith(words)


def test_other_settings_are_told_too() -> None:
    """Every sampler that is not as usual, bans, and another order."""
    config = GenerationConfig(xtc_probability=0.5, banned_tokens=(1, 2), temperature_last=True)
    assert "xtc 0.50 · 2 banned · own order" in block_of(reply_of(config=config)).details


def test_a_loop_is_told_while_it_runs() -> None:
    """The first time it is seen, with what is repeated; not before."""
    requests: list[Request] = []
    session = ChatSession(requests.append, lambda error: None, autosave=False)
    session.load_model(ModelSpec("scripted"))
    session.handle(ModelLoaded(requests[0].request_id, ScriptedEngine().info, 0.1))
    session.send("hi")
    text = "I am lost. " * 6
    for place in range(len(text)):
        session.handle(tokens(requests[-1].request_id, text, place))
        notices = session_blocks(session)[-1].notices
        assert bool(notices) == (place >= 32), place
    assert notices[0].text == (
        "it repeats “I am lost.” for the 3rd time; Esc stops it, or raise the repetition penalty"
    )


def tokens(request_id: int, text: str, place: int) -> TokensGenerated:
    """One token of a text, a character each."""
    fact = TokenFacts(place, 0.0, 0.0, 0, 0.0)
    return TokensGenerated(request_id, text[place], (ord(text[place]),), (fact,), (), place, 9.0)
