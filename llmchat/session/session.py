"""A conversation in progress: what was said, what is being generated, what waits.

    the person ─ send, regenerate, stop … ─▶ ChatSession ─ requests ─▶ inference worker
    front end  ◀── reads turns, state ──────     ▲ ───────── events ──────────┘

One session serves the window and the line-by-line conversation alike: it knows
neither widgets nor torch. All calls come from the front end's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.storage import TranscriptFile
from llmchat.chat.transcript import Transcript
from llmchat.errors import LlmchatError, UsageError
from llmchat.session.restoring import begun, note_state, restore
from llmchat.session.talk import SessionState, Talk
from llmchat.worker.messages import Request

__all__ = ["ChatSession", "SessionState"]


class ChatSession(Talk):
    """One conversation after the other, each going on under the settings that it ended under."""

    def __init__(
        self,
        submit: Callable[[Request], object],
        warn: Callable[[LlmchatError], object],
        *,
        config: GenerationConfig | None = None,
        raw: bool = False,
        system: str = "",
        prefill_text: str = "",
        autosave: bool = True,
        kv_cache: bool = True,
    ) -> None:
        """A session without a model or a turn; arguments as for `Talk`."""
        super().__init__(
            submit,
            warn,
            config=config,
            raw=raw,
            system=system,
            prefill_text=prefill_text,
            autosave=autosave,
            kv_cache=kv_cache,
        )
        self.brought_back = ""
        """A sentence on the settings that the conversation brought when it was opened; "" if they were those before."""
        self.is_just_opened = False
        """Whether the model of the opened conversation is still to be compared with the one that is open."""
        self.begun_with = begun(self)

    def new(self, *, let_go: bool = False) -> None:
        """Begin a new conversation; the old one stays in its file.

        Args:
            let_go: Whether one that is in no file may go without being asked for twice.

        Raises:
            UsageError: The old one is in no file, and this is the first try.
        """
        if not let_go:
            self.require_kept()
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._leave("a new conversation was begun")
        self.transcript = Transcript()
        self.dropped_turns = frozenset()

    def open(self, path: Path, given: Collection[str] = ()) -> list[str]:
        """Go on with a conversation from its file, under the settings that it ended under.

        Args:
            path: The file.
            given: What the person asked for at the start and stays, as `restore` takes it.

        Returns:
            A sentence for the person about each repair.

        Raises:
            TranscriptError: It cannot be read; the present conversation stays.
            UsageError: It is the present conversation, or that one is in no file, and this is the first try.
        """
        if self.path is not None and path.absolute() == self.path.absolute():
            raise UsageError("This conversation is open already.")
        self.require_kept()
        file, notices = TranscriptFile.open(path)
        self._begin_anew()
        self._keeper.move_to(file)
        self.transcript = file.transcript
        self.take_over(self.transcript, given)
        return notices

    def take_over(self, transcript: Transcript, given: Collection[str] = ()) -> None:
        """Go on with a conversation, under the settings that it ended under; `brought_back` tells which."""
        self.transcript, self.is_just_opened = transcript, True
        self.brought_back, self.begun_with = restore(self, given), begun(self)

    def close(self) -> str:
        """End the session: what there is of a running reply is kept.

        Returns:
            Where the conversation is, and whether all of it is there; "" where it is in no file.
        """
        path = self.path
        self._leave("llmchat was closed")
        if path is None:
            return ""
        lacks = self._keeper.lacks_something
        return f"Not all is saved: {path} could not be written." if lacks else f"Saved: {path}"

    def _leave(self, reason: str) -> None:
        """Stop, keep what there is of a running reply, and let go of the file."""
        running, self.running = self.running, None
        self._waiting.clear()
        if running is not None:
            running.request.cancel.set()
            if running.token_ids or running.pieces:
                self._add_turn(running.turn(running.reply(reason)))
        note_state(self)
        self._keeper.close()
