"""What was said, and the file that keeps it: a conversation without anybody who answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from llmchat.chat.archive import SUFFIX
from llmchat.chat.endings import check_suffix
from llmchat.chat.history import Step
from llmchat.chat.model import ModelInfo
from llmchat.chat.storage import TranscriptFile
from llmchat.chat.transcript import Transcript
from llmchat.chat.turn import Reply, Turn
from llmchat.errors import LlmchatError, UsageError
from llmchat.session.keeper import Keeper
from llmchat.session.running import Running, absolute
from llmchat.worker.snapshots import forget_snapshot


class Conversation:
    """Turns that can be added, changed and walked, each on the disk when it is said."""

    def __init__(
        self, warn: Callable[[LlmchatError], object], *, raw: bool = False, system: str = "", autosave: bool = True
    ) -> None:
        """A conversation without a turn.

        Args:
            warn: Told of failures that do not stop the conversation, such as a full disk.
            raw: Send prompts as they stand, also where the model has a chat template.
            system: The system prompt; "" for none.
            autosave: Keep the conversation in a transcript file.
        """
        self._keeper = Keeper(warn, autosave=autosave)
        self.raw = raw
        self.system = system
        self.transcript = Transcript()
        self.model: ModelInfo | None = None
        self.load_seconds = 0.0
        self.running: Running | None = None
        self._let_go: tuple[str, int] | None = None
        self.dropped_turns: frozenset[str] = frozenset()
        """Turns that the last prompt left out, because they did not fit."""

    @property
    def is_raw(self) -> bool:
        """Whether prompts go in without a chat template."""
        return self.raw or (self.model is not None and not self.model.has_chat_template)

    @property
    def path(self) -> Path | None:
        """The transcript file; None while there is none."""
        return self._keeper.path

    def message_to_answer(self, turn_id: str | None = None) -> Turn:
        """The message that a reply answers, or that is to be answered; by default the last.

        Raises:
            UsageError: There is none.
        """
        turn = self.transcript.turn(turn_id) if turn_id else self.transcript.leaf
        if turn is not None and turn.role == "assistant":
            turn = self.transcript.turn(turn.parent) if turn.parent else None
        if turn is None or turn.role != "user":
            raise UsageError("There is no message to answer yet.")
        return turn

    def drawn_reply(self, turn_id: str) -> Reply:
        """The reply of a turn, if its tokens mean something to the model that is open.

        Raises:
            UsageError: Why they do not.
        """
        turn = self.transcript.turn(turn_id)
        reply = turn.reply
        if turn.role != "assistant":
            raise UsageError("Only a reply can be looked into token by token.")
        if reply is None or turn.parent is None:
            raise UsageError("This reply was written by you: only text that a model drew has tokens to look into.")
        if self.model is None or reply.model != self.model.name:
            raise UsageError(f"{reply.model or 'Another model'} drew this reply. Open it with /model to look into it.")
        if not reply.facts:
            raise UsageError("Nothing is kept of this reply's tokens. Regenerate it with r to look into them.")
        return reply

    def _own_reply(self, turn: Turn) -> Reply | None:
        """The reply of a turn, if its ids say what its text says to the model that is open."""
        reply = turn.reply
        if reply is None or self.model is None or reply.model != self.model.name or not reply.token_ids:
            return None
        return None if reply.finish_detail.startswith("stop string") else reply

    def say(self, text: str) -> Turn:
        """Put a message into the conversation, and into its file, without asking for an answer."""
        self._begin_transcript()
        turn = self.transcript.say("user", text)
        self._keeper.keep(self.transcript, turn)
        return turn

    def keep_reply(self, parent: str, reply: Reply) -> Turn:
        """Make a reply an answer to a message, beside those that are there; it is shown from here on.

        Raises:
            UsageError: A reply is being made.
        """
        self.require_rest()
        return self._add_turn(Turn("assistant", reply.text, parent=parent, reply=reply))

    def edit(self, turn_id: str, text: str) -> Turn:
        """Put an alternative beside a turn and show it.

        Raises:
            UsageError: The text is empty, or a reply is being made.
        """
        self.require_rest()
        if not text.strip():
            raise UsageError("The text is empty; delete the turn instead.")
        turn = self.transcript.edit(turn_id, text)
        self._keeper.keep(self.transcript, turn)
        return turn

    def delete(self, turn_id: str) -> tuple[Turn, ...]:
        """Take a turn out with all that follows it, and return what was taken out; `undo` brings it back.

        Raises:
            UsageError: A reply is being made.
        """
        self.require_rest()
        removed = self.transcript.delete(turn_id)
        self._changed()
        return removed

    def retract(self, turn_id: str) -> None:
        """Take out a turn that was never said; no step leads back to it."""
        self.transcript.retract(turn_id)
        self._changed()

    def undo(self) -> Step:
        """Take back the last change: a message with its reply, another reply, an edit, a deletion.

        What was said stays as an alternative.

        Raises:
            UsageError: Nothing is left to take back, or a reply is being made.
        """
        self.require_rest()
        step = self.transcript.undo()
        if step is None:
            raise UsageError("There is nothing to take back.")
        self._changed()
        return step

    def redo(self) -> Step:
        """Make the change again that was taken back last.

        Raises:
            UsageError: There is none, or a reply is being made.
        """
        self.require_rest()
        step = self.transcript.redo()
        if step is None:
            raise UsageError("There is nothing to make again.")
        self._changed()
        return step

    def compact(self) -> int:
        """Drop for good what was deleted, and return how many turns that were.

        Raises:
            UsageError: A reply is being made.
            TranscriptError: The file cannot be written; nothing was dropped.
        """
        self.require_rest()
        count = len(self.transcript.deleted)
        if self._keeper.file is not None:
            self._keeper.file.compact()
            forget_snapshot(self._keeper.file.path)
        else:
            self.transcript.forget_deleted()
        return count

    def _changed(self) -> None:
        self.dropped_turns = frozenset()
        self._keeper.keep_changes()

    def branch(self, turn_id: str) -> None:
        """Go on from this turn; what followed stays on its own branch.

        Raises:
            UsageError: A reply is being made.
        """
        self.require_rest()
        self.transcript.stop_at(turn_id)

    def choose(self, turn_id: str, step: int) -> Turn:
        """Show the alternative `step` places beside a turn, within those there are, and return it.

        Raises:
            UsageError: A reply is being made.
        """
        self.require_rest()
        beside = self.transcript.alternatives(turn_id)
        place = next(index for index, turn in enumerate(beside) if turn.id == turn_id)
        chosen = beside[min(max(place + step, 0), len(beside) - 1)]
        self.transcript.select(chosen.id)
        return chosen

    def save(self, path: Path | None = None) -> Path:
        """Keep the conversation in a file from here on, and return where.

        Raises:
            TranscriptError: It cannot be written, or exists already.
            UsageError: Its name ends in something else than .toml.
        """
        if path is not None:
            check_suffix(path, (SUFFIX,), "A conversation that can be gone on with")
        if path is not None or self._keeper.file is None:
            self._keeper.move_to(TranscriptFile.create(self.transcript, path))
        assert self._keeper.path is not None
        return self._keeper.path

    def require_kept(self) -> None:
        """Refuse to let go of what is in no file; the second time in a row it is let go.

        Raises:
            UsageError: It is the first time.
        """
        self._keeper.keep_changes()
        so_far = (self.transcript.id, len(self.transcript.log))
        if not self._keeper.has_all(self.transcript) and self._let_go != so_far:
            self._let_go = so_far
            raise UsageError("This conversation is not saved. /save keeps it; do the same again to let it go.")

    def _begin_transcript(self) -> None:
        """Put the system prompt first, and make the file when the first thing is said."""
        self._note_model()
        if self.system and not len(self.transcript) and not self.is_raw:
            self._keeper.keep(self.transcript, self.transcript.say("system", self.system))

    def _add_turn(self, turn: Turn) -> Turn:
        """Put a turn with a reply into the conversation and its file."""
        assert turn.reply is not None
        timings = replace(turn.reply.timings, load_seconds=self.load_seconds)
        turn = replace(turn, reply=replace(turn.reply, timings=timings))
        self.transcript.add(turn)
        self._keeper.keep(self.transcript, turn)
        return turn

    def _moment_of(self, parent: str, first_part: Reply | None) -> datetime | None:
        """The time that the chat template is told for another reply to a turn: that of the first one."""
        replies = [turn.reply for turn in self.transcript.children(parent)] if first_part is None else [first_part]
        return next((reply.moment for reply in replies if reply is not None and reply.moment), None)

    def _note_model(self) -> None:
        if self.model is not None and not self.transcript.model:
            self.transcript.model = self.model.name
            self.transcript.model_path = absolute(self.model.path)
            self.transcript.tokenizer_path = absolute(self.model.tokenizer_path)

    def require_rest(self) -> None:
        """Refuse what cannot be done under a running reply.

        Raises:
            UsageError: A reply is being made.
        """
        if self.running is not None:
            raise UsageError("Stop the reply with Esc first.")
