"""What the keys on a turn do."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from llmchat.chat.quoting import written
from llmchat.chat.turn import Reply, Turn, token_count
from llmchat.chat.words import draft_words, thought_words, value_words, with_speed
from llmchat.errors import UsageError
from llmchat.ui.blocks import SYSTEM_BLOCK
from llmchat.ui.take_along import taken_along

if TYPE_CHECKING:
    from llmchat.ui.screens.chat import ChatScreen

_FENCED = re.compile(r"^(?P<fence>```+|~~~+)[^\n]*\n(?P<code>.*?)(?:^(?P=fence)|\Z)", re.MULTILINE | re.DOTALL)


class TurnActions:
    """Carries out the action of a turn's key on a chat screen."""

    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen
        self._session = screen.session

    def run(self, turn_id: str, action: str, *, again: bool = False) -> None:
        """Do it.

        Args:
            turn_id: The turn.
            action: What to do.
            again: Whether the key was pressed a second time, which a deletion needs.

        Raises:
            UsageError: It cannot be done now.
        """
        if action == "probabilities":
            self._screen.laboratory.cycle_heat(turn_id)
            return
        if action == "thought":
            self._fold(turn_id)
            return
        if turn_id == SYSTEM_BLOCK:
            raise UsageError("Change the system prompt with /system.")
        if turn_id not in self._session.transcript:
            raise UsageError("The reply is still being written. Stop it with Esc, or wait.")
        actions: Mapping[str, Callable[[Turn], object]] = {
            "copy": lambda turn: self._screen.copy(turn.text),
            "copy_code": lambda turn: self._screen.copy(code_of(turn.text)),
            "edit": self._edit,
            "continue": lambda turn: self._session.continue_reply(turn.id),
            "regenerate": lambda turn: self._session.regenerate(turn.id),
            "branch": self._branch,
            "delete": lambda turn: self._screen.changes.delete(turn, again=again),
            "undo": lambda turn: self._screen.changes.undo(),
            "previous": lambda turn: self._step(turn, -1),
            "next": lambda turn: self._step(turn, 1),
            "tokens": lambda turn: self._screen.laboratory.inspection.open(turn.id),
            "copy_command": lambda turn: self._screen.copy(taken_along(self._screen, turn, "command")),
            "copy_python": lambda turn: self._screen.copy(taken_along(self._screen, turn, "python")),
            "info": lambda turn: self._screen.note(describe(turn)),
        }
        actions[action](self._session.transcript.turn(turn_id))

    def _fold(self, turn_id: str) -> None:
        """Fold or unfold the thought of a turn."""
        block = next((block for block in self._screen.view.blocks if block.id == turn_id and block.thought.text), None)
        if block is None:
            raise UsageError("The model wrote no thought before this turn's text.")
        self._screen.thoughts.toggle(block)

    def _edit(self, turn: Turn) -> None:
        """Put the turn's text into the prompt; sending puts it in place of the turn."""
        self._screen.prompt.set_aside()
        self._screen.editing = turn.id
        self._screen.prompt.write(turn.text)
        self._screen.prompt.focus()
        who = "your message" if turn.role == "user" else "the reply"
        self._screen.notify(f"Editing {who}: Enter takes it, Esc leaves it as it was.", timeout=4)

    def _branch(self, turn: Turn) -> None:
        self._session.branch(turn.id)
        self._screen.prompt.focus()
        self._screen.notify("The next message goes on from this turn; what followed is kept beside it.", timeout=4)

    def _step(self, turn: Turn, by: int) -> None:
        chosen = self._session.choose(turn.id, by)
        self._screen.refresh_turns()
        self._screen.view.selected_turn = chosen.id


def code_of(text: str) -> str:
    """The fenced code in a text, blocks parted by an empty line.

    Raises:
        UsageError: There is none.
    """
    blocks = [match["code"].rstrip("\n") for match in _FENCED.finditer(text)]
    if not blocks:
        raise UsageError("There is no code block in this turn.")
    return "\n\n".join(blocks)


def describe(turn: Turn) -> str:
    """What is known of a turn, a line each."""
    lines = [f"{turn.role} · {turn.created.astimezone():%Y-%m-%d %H:%M:%S} · turn {turn.id}"]
    return "\n".join([*lines, *(_describe_reply(turn.reply) if turn.reply is not None else [])])


def _describe_reply(reply: Reply) -> list[str]:
    times = reply.timings
    moved = "; ".join(
        f"from token {change.token_index}: "
        + ", ".join(f"{name} {value_words(name, value)}" for name, value in change.values.items())
        for change in reply.changes
    )
    differing = reply.config.difference().items()
    settings = ", ".join(f"{name} {value_words(name, value)}" for name, value in differing if name != "seed")
    if reply.prefill_text:
        settings = ", ".join([*filter(None, [settings]), f"prefill {written(reply.prefill_text)}"])
    return [
        f"model {reply.model} · seed {reply.seed} · {'completion' if reply.raw else 'chat template'}",
        f"settings: {settings or 'the defaults'}" + (f"; {moved}" if moved else ""),
        reply.finish_detail if reply.finish_reason == "cancelled" else f"ended by {reply.finish_detail}",
        f"prompt {token_count(reply.prompt_tokens)}, {reply.cached_tokens} of them from the cache · "
        f"reply {token_count(len(reply.token_ids))}",
        *([f"thought before the answer: {thought_words(reply.thought)}"] if reply.thought.written else []),
        *([f"guessed from the text so far: {words}"] if (words := draft_words(reply)) else []),
        with_speed(f"first token after {times.time_to_first_token_seconds:.2f} s", times.tokens_per_second),
    ]
