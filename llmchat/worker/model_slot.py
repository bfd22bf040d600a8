"""The model that is open, and how another takes its place.

submitted ─ prepared at once, on a thread of its own: a reply may be running ─┐   (before the worker runs: by it)
its turn ── enough memory? the old model is let go, if it must be ────────────┴─▶ built, open
                                                    └─ failed ─▶ the old model stays, or is opened again
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from llmchat.errors import LlmchatError, ModelLoadError
from llmchat.worker.failures import failure_of
from llmchat.worker.messages import Event, LoadRequest, ModelLoading, ModelPrepared

if TYPE_CHECKING:
    from llmchat.chat.model import ModelInfo
    from llmchat.checkpoints.checkpoint import Progress
    from llmchat.engine.engine import Engine
    from llmchat.engine.footprint import Footprint
    from llmchat.engine.generation import ReplyStream
    from llmchat.engine.opened import PreparedModel

Post = Callable[[Event], object]
Prepare = Callable[[LoadRequest, "Progress"], "PreparedModel"]


def prepare_model(request: LoadRequest, progress: Progress) -> PreparedModel:
    """Find out whether the model that a request names opens."""
    from llmchat.engine import opening

    return opening.prepare_model(request.spec, progress, request.cancel, may_fetch=request.may_fetch)


@dataclass(slots=True)
class _Expected:
    """What is found out of a model."""

    is_known: threading.Event = field(default_factory=threading.Event)
    find_out: Callable[[], None] | None = None
    """What the worker has to do itself when the request's turn comes."""
    model: PreparedModel | None = None
    error: LlmchatError | None = None


class ModelSlot:
    """Holds one model. All but `expect` is for the worker's thread."""

    def __init__(self, prepare: Prepare, post: Post) -> None:
        """A slot without a model.

        Args:
            prepare: Finds out whether a model opens; called on other threads too.
            post: Takes events; called on other threads too.
        """
        self.engine: Engine | None = None
        self.stream: ReplyStream | None = None
        """The reply that the engine wrote last, or writes."""
        self._footprint: Footprint | None = None
        self._prepare, self._post = prepare, post
        self._expected: dict[int, _Expected] = {}
        self._opened: LoadRequest | None = None
        """What the model was opened by, also while it is let go for another."""

    @property
    def info(self) -> ModelInfo | None:
        """The model that is open."""
        return None if self.engine is None else self.engine.info

    def expect(self, request: LoadRequest, *, at_once: bool) -> None:
        """Begin to find out whether a model opens; unless at once, when the request's turn comes."""
        expected = self._expected[request.request_id] = _Expected()

        def progress(stage: str, fraction: float | None) -> None:
            if expected.is_known.is_set():
                # A fetch looks for itself, and says how to go on with it.
                _require_going_on(request)
            self._post(ModelLoading(request.request_id, stage, fraction))

        def find_out() -> None:
            expected.error = failure_of(look, ModelLoadError)
            expected.is_known.set()

        def look() -> None:
            expected.model = self._prepare(request, progress)
            self._post(ModelPrepared(request.request_id, expected.model.name))

        if not at_once:
            expected.find_out = find_out
            return
        try:
            threading.Thread(target=find_out, name="llmchat-preparation", daemon=True).start()
        except RuntimeError:
            expected.error = ModelLoadError("The system gives llmchat no more threads. End other programs.")
            expected.is_known.set()

    def settle(self, request_id: int) -> bool:
        """Whether a request still has to be answered; it is expected no longer."""
        return self._expected.pop(request_id, None) is not None

    def refused(self) -> Iterator[tuple[int, LlmchatError]]:
        """The requests whose models are known not to open, with the reason."""
        for request_id, expected in list(self._expected.items()):
            if expected.is_known.is_set() and expected.error is not None:
                yield request_id, expected.error

    def switch(self, request: LoadRequest) -> ModelInfo | None:
        """Put the model of a request in the place of the one that is open.

        Returns:
            What was opened; None if the request has been answered before its turn came.

        Raises:
            ModelLoadError: It cannot be opened. `recover` is to be called then.
        """
        expected = self._expected.get(request.request_id)
        if expected is None:
            return None
        if expected.find_out is not None:
            expected.find_out()
        expected.is_known.wait()
        if expected.error is not None:
            raise expected.error
        _require_going_on(request)
        model, expected.model = expected.model, None
        assert model is not None
        self._make_room(request, model)
        return self._take(model.build(), request, model.footprint)

    def recover(self, request: LoadRequest, error: LlmchatError) -> LlmchatError:
        """Open the model again that was let go for one that failed, unless the next one is already expected.

        Args:
            request: The request that failed.
            error: Why.

        Returns:
            What to tell.
        """
        before = self._opened
        if self.engine is not None or before is None or len(self._expected) > 1:
            return error
        # What was half built hangs on these.
        error.__traceback__ = error.__cause__ = error.__context__ = None
        gc.collect()

        def progress(stage: str, fraction: float | None) -> None:
            self._post(ModelLoading(request.request_id, "opening the model before again", fraction))

        def open_again() -> None:
            model = self._prepare(replace(before, cancel=threading.Event()), progress)
            self._take(model.build(), before, model.footprint)

        second = failure_of(open_again, ModelLoadError)
        if second is None:
            return error
        self._opened = None
        return ModelLoadError(f"{error.message} The model before could not be opened again: {second.message}")

    def _make_room(self, request: LoadRequest, model: PreparedModel) -> None:
        """Let the old model go, unless the new one is known to fit beside it.

        Raises:
            MemoryShortError: The new one does not fit even so; the old one stays.
        """
        room, old, new = model.room(), self._footprint, model.footprint
        if self.engine is not None and room is not None and room.needed <= room.free:
            return
        if not (request.ignores_memory or request.spec.ignore_memory):
            is_in_same = old is not None and new is not None and old.is_on_gpu == new.is_on_gpu
            model.require_room(old.weights if old is not None and is_in_same else 0)
        self._let_go()

    def _take(self, engine: Engine, request: LoadRequest, footprint: Footprint | None) -> ModelInfo:
        self._let_go()
        self.engine, self._footprint = engine, footprint
        # Of a pattern, this checkpoint is meant from here on.
        self._opened = replace(request, spec=replace(request.spec, model=engine.info.path or request.spec.model))
        # Collecting garbage among all that torch made would halt the window for a tenth of a second, time and again.
        gc.freeze()
        return engine.info

    def _let_go(self) -> None:
        if self.engine is not None:
            self.engine = self.stream = self._footprint = None
            gc.unfreeze()
            gc.collect()


def _require_going_on(request: LoadRequest) -> None:
    if request.cancel.is_set():
        raise ModelLoadError("Opening the model was stopped.")
