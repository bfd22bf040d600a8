"""Walking through the checkpoints of a training run, with the same question, dice and settings.

pattern ─ Timeline ─ looked at every few seconds, on a thread of its own ─▶ toast
[ ] /checkpoint ─▶ open ─▶ load, then answer the last message once more ─▶ an alternative
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmchat.chat.model import ModelSpec, is_pattern
from llmchat.chat.turn import Turn
from llmchat.checkpoints.timeline import Timeline, training_words
from llmchat.errors import UsageError
from llmchat.ui.widgets.header_bar import HeaderBar

if TYPE_CHECKING:
    from llmchat.ui.screens.chat import ChatScreen

POLL_SECONDS = 3.0
"""How often the directory is looked at."""

_LISTED = 30
"""How many checkpoints a list shows."""


class Checkpoints:
    """The run that the open model belongs to, if it was asked for by a pattern."""

    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen
        self.timeline: Timeline | None = None
        self._asked: Path | None = None
        """The checkpoint of the run that was asked for last, whether it opened or not."""

    @property
    def current(self) -> Path | None:
        """The checkpoint that is being opened, or else the one that is open; None if there is neither."""
        session = self._screen.session
        if session.load is not None and self._asked is not None:
            return self._asked
        return None if session.model is None else Path(session.model.path).absolute()

    @property
    def words(self) -> str:
        """Where the open checkpoint stands, such as "3/12 · step 12000 · loss 2.31"; "" without a run."""
        if self.timeline is None or not self.timeline.checkpoints:
            return ""
        place = None if self.current is None else self.timeline.place_of(self.current)
        model = self._screen.session.model
        training = {} if model is None else model.training
        words = [f"{place or '–'}/{len(self.timeline.checkpoints)}", training_words(training)]
        return " · ".join(word for word in words if word)

    def follow(self, spec: ModelSpec) -> None:
        """Watch the run that a model is asked for of; one that is no pattern belongs to none."""
        self._asked = None
        self.timeline = Timeline(spec.model) if is_pattern(spec.model) else None
        if self.timeline is not None:
            self._screen.run_worker(self._watch(self.timeline), group="checkpoints", exclusive=True)

    def opened(self, spec: ModelSpec) -> None:
        """A model is open: if it is no checkpoint of the run, watch the run that it is of."""
        run = None if self.timeline is None else self.timeline.pattern
        if spec.model != run and (self._asked is None or spec.model != str(self._asked)):
            self.follow(spec)

    def step(self, by: int) -> None:
        """Open the checkpoint before (-1) or after (1) the present one, or one that could not be opened.

        Raises:
            UsageError: There is none.
        """
        # Where none could be opened yet, either way leads to the newest.
        here = self._asked or self.current
        self.open(self._run().beside(here, by if here is not None else -1))

    def go(self, word: str) -> None:
        """Open a checkpoint by its number, or "newest", "previous", "next"; "" lists them.

        Raises:
            UsageError: There is none.
        """
        run = self._run()
        if not word:
            self._screen.note("\n".join(self._rows(run)))
        elif word in ("previous", "next"):
            self.step(-1 if word == "previous" else 1)
        else:
            self.open(run.beside(None, -1) if word == "newest" else run.at(int(word)))

    def open(self, path: Path) -> None:
        """Open a checkpoint and answer the last message again, with the dice of its reply.

        Raises:
            UsageError: It is open already.
        """
        screen, session = self._screen, self._screen.session
        if path == self.current and session.state != "empty":
            raise UsageError("This checkpoint is open already.")
        last, seed = self._last_reply()
        self._asked = path
        screen.open_model(replace(screen.spec, model=str(path)), at_once=True)
        if last is not None:
            session.regenerate(last.id, seed=seed)

    def _run(self) -> Timeline:
        if self.timeline is None:
            raise UsageError(
                "There is one model, not a run of checkpoints. Name a run by a pattern: /model runs/step_*.pt"
            )
        return self.timeline

    def _last_reply(self) -> tuple[Turn | None, int | None]:
        """The last message, if it was answered or is being answered, and the dice of its answer."""
        session = self._screen.session
        if (running := session.running) is not None:
            return session.transcript.turn(running.parent), running.request.seed
        leaf = session.transcript.leaf
        if leaf is None or leaf.role != "assistant" or leaf.parent is None:
            return (leaf, None) if leaf is not None and leaf.role == "user" else (None, None)
        return session.transcript.turn(leaf.parent), None if leaf.reply is None else leaf.reply.seed

    def _rows(self, run: Timeline) -> list[str]:
        """The checkpoints around the present one, a line each."""
        count = len(run.checkpoints)
        if not count:
            return [f"No checkpoint matches {run.pattern} yet."]
        here = (run.place_of(self.current) if self.current is not None else None) or count
        first = max(min(here - _LISTED // 2, count - _LISTED), 0)
        shown = enumerate(run.checkpoints[first : first + _LISTED], first + 1)
        rows = [
            f"{'●' if path == self.current else ' '} {number:>{len(str(count))}}  {path.name}  "
            f"{training_words(run.training_of(path))}".rstrip()
            for number, path in shown
        ]
        return [f"{count} checkpoints of {run.pattern}:", *rows]

    async def _watch(self, run: Timeline) -> None:
        """Look at the run every few seconds, until another is followed."""
        while True:
            come = await asyncio.to_thread(run.scan)
            if run is not self.timeline:
                return
            self._announce(run, come)
            # While the window closes, there is no header any more.
            for header in self._screen.query(HeaderBar):
                header.checkpoint = self.words
            await asyncio.sleep(POLL_SECONDS)

    def _announce(self, run: Timeline, come: Sequence[Path]) -> None:
        """Say what is new, and which key opens it."""
        if not come:
            return
        newest = come[-1]
        words = f"{run.label(newest)} is here" if len(come) == 1 else f"{len(come)} more, up to {run.label(newest)}"
        opener = "]" if self._next(run) == newest else "/checkpoint newest"
        self._screen.notify(f"{words}: {opener} opens it.", title="Checkpoint", markup=False)

    def _next(self, run: Timeline) -> Path | None:
        """What ] opens; None if there is nothing."""
        try:
            return run.beside(self.current, 1 if self.current is not None else -1)
        except UsageError:
            return None
