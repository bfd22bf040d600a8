"""The inference worker: one thread that owns the engine.

Nothing else touches the model, its KV cache or torch. Requests come through a
queue; events go out through one callable, which the window gives as its message
queue and `--once` as a plain one. The worker never sees a widget.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import queue
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from llmchat.chat.turn import Reply
from llmchat.errors import GenerationError, LlmchatError, ModelLoadError
from llmchat.worker import laboratory
from llmchat.worker.failures import dead, failure_of, kind_of_error
from llmchat.worker.many import serve_many
from llmchat.worker.messages import (
    BatchRequest,
    Event,
    ExplainRequest,
    GenerationFailed,
    GenerationFinished,
    GenerationRequest,
    InspectRequest,
    LoadRequest,
    ManyRequest,
    ModelChanged,
    ModelLoaded,
    ModelLoadFailed,
    PromptProcessed,
    PromptProcessing,
    PromptRequest,
    Request,
    RequestFailed,
)
from llmchat.worker.model_slot import ModelSlot, Post, Prepare, prepare_model
from llmchat.worker.piece_batch import PieceBatch
from llmchat.worker.snapshots import Snapshots

if TYPE_CHECKING:
    from llmchat.chat.model import ModelInfo
    from llmchat.engine.engine import Engine
    from llmchat.engine.generation import ReplyStream

EXPLAIN_INTERVAL_SECONDS = 0.25
"""Candidates are reported this far apart: often enough for eyes, and cheap."""

_KEEPING_SECONDS = 1.5
"""At the end, what was read is waited for this long on its way to the disk."""

_log = logging.getLogger("llmchat")


class InferenceWorker:
    """Serves requests one after the other until it is closed."""

    def __init__(self, post: Post, prepare: Prepare = prepare_model) -> None:
        self.explained_rows = 0
        """How many candidates to report while a reply runs; 0, when nobody looks, costs nothing."""
        self._post_event = post
        self._slot = ModelSlot(prepare, post)
        self._snapshots = Snapshots()
        self._queue: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._current: Request | None = None
        self._told: ModelInfo | None = None
        self._closing = threading.Event()
        self._has_ended = False
        self._thread = threading.Thread(target=self._run, name="llmchat-inference", daemon=True)

    def start(self) -> None:
        """Begin to serve. Where the system gives no thread, every request fails and says so."""
        try:
            self._thread.start()
        except RuntimeError:
            _log.exception("the worker did not start")
            self._end()

    def submit(self, request: Request) -> None:
        """Add a request to the queue. Its `cancel` event stops it, also before its turn comes."""
        if isinstance(request, LoadRequest):
            # What is heavy to import waits until the window has been painted, when the worker starts.
            self._slot.expect(request, at_once=self._thread.is_alive())
        self._queue.put(request)
        if self._has_ended:
            self._refuse_all()

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Stop what runs, answer what waits, and end the thread.

        A model's weights stop being read at the next tensor, its vocabulary does not; the threads are
        daemons and never keep the process alive.
        """
        self._closing.set()
        if (current := self._current) is not None:
            current.cancel.set()
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)
        gc.unfreeze()

    def _run(self) -> None:
        try:
            while (request := self._queue.get()) is not None:
                self._current = request
                if self._closing.is_set():
                    request.cancel.set()
                self._serve(request)
                self._current = None
            failure_of(self._leave_conversation, GenerationError)
        finally:
            self._end()
        self._snapshots.close(_KEEPING_SECONDS)

    def _end(self) -> None:
        """Nobody serves any more: what waits and what comes fails, so that no front end waits for ever."""
        self._has_ended = True
        if self._current is not None:
            self._fail(self._current, dead(self._current))
        self._refuse_all()

    def _refuse_all(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                if (request := self._queue.get_nowait()) is not None:
                    self._fail(request, dead(request))

    def _serve(self, request: Request) -> None:
        """Answer one request with its events, the last of them terminal."""
        error = failure_of(lambda: self._answer(request), kind_of_error(request))
        if error is None:
            return
        if isinstance(request, LoadRequest) and not self._closing.is_set():
            error = self._slot.recover(request, error)
        self._fail(request, error, self._broken_reply(error) if isinstance(request, GenerationRequest) else None)

    def _answer(self, request: Request) -> None:
        match request:
            case LoadRequest():
                self._load(request)
            case GenerationRequest():
                self._generate(request)
            case _:
                self._serve_laboratory(request)

    def _fail(self, request: Request, error: LlmchatError, reply: Reply | None = None) -> None:
        """Post the terminal event of a request that failed."""
        match request:
            case LoadRequest():
                self._told = self._slot.info
                if self._slot.settle(request.request_id):
                    self._post(ModelLoadFailed(request.request_id, error, self._told))
            case GenerationRequest():
                self._post(GenerationFailed(request.request_id, error, reply))
            case _:
                self._post(RequestFailed(request.request_id, error))

    def _post(self, event: Event) -> None:
        """Post an event, and before it what became known of models: of this one, and of those that are to follow."""
        info = self._slot.info
        if info is not None and info is not self._told:
            self._told = info
            self._post_event(ModelChanged(event.request_id, info))
        if info is not None and not isinstance(self._current, LoadRequest):
            for request_id, reason in self._slot.refused():
                self._slot.settle(request_id)
                self._post_event(ModelLoadFailed(request_id, reason, info))
        self._post_event(event)

    def _broken_reply(self, error: LlmchatError) -> Reply | None:
        """What had been generated when it went wrong."""
        if (stream := self._slot.stream) is None or not (reply := stream.reply()).token_ids:
            return None
        return replace(reply, finish_reason="error", finish_detail=error.message)

    def _load(self, request: LoadRequest) -> None:
        began = time.perf_counter()
        self._leave_conversation()
        if (info := self._slot.switch(request)) is not None:
            self._told = info
            self._slot.settle(request.request_id)
            self._post(ModelLoaded(request.request_id, info, time.perf_counter() - began))

    def _leave_conversation(self) -> None:
        """Keep what was read of it, before the model goes."""
        self._snapshots.leave(None if self._slot.engine is None else self._slot.engine.snapshots)

    def _serve_laboratory(
        self, request: BatchRequest | ManyRequest | ExplainRequest | InspectRequest | PromptRequest
    ) -> None:
        engine = self._open_model()
        match request:
            case ManyRequest():
                serve_many(engine, request, self._post)
            case BatchRequest():
                laboratory.serve_batch(engine, request, self._post)
            case ExplainRequest():
                laboratory.serve_explain(engine, self._slot.stream, request, self._post)
            case InspectRequest():
                laboratory.serve_inspect(engine, request, self._post)
            case PromptRequest():
                laboratory.serve_prompt(engine, request, self._post)

    def _open_model(self) -> Engine:
        if self._slot.engine is None:
            raise ModelLoadError("No model is open. Choose one with /model.")
        return self._slot.engine

    def _generate(self, request: GenerationRequest) -> None:
        self._slot.stream = None
        from llmchat.engine.generation import ReplyStream
        from llmchat.engine.prompt import build_prompt

        engine, began = self._open_model(), time.perf_counter()
        config, first_part = request.config(len(request.continued_ids)), request.continued_from
        wanted = config.max_new_tokens
        prompt = build_prompt(
            engine,
            request.turns,
            raw=request.raw,
            prefill_text=request.prefill_text,
            continued_ids=request.continued_ids,
            reply_room=max(1, min(wanted, engine.info.context_length // 4)),
            moment=request.moment,
            # What is gone on from was begun under a prompt of its own.
            template_args=(config if first_part is None else first_part.config).template_args,
            should_stop=request.cancel.is_set,
        )
        stream = self._slot.stream = ReplyStream(
            engine, prompt, request.config, request.seed, request.cancel.is_set, request.forced, request.continued_from
        )

        def progress(done: int, total: int) -> None:
            self._post(PromptProcessing(request.request_id, done, total))

        self._snapshots.begin(engine.snapshots, request.transcript, prompt.token_ids)
        cached = stream.prefill(progress)
        self._post(
            PromptProcessed(
                request.request_id,
                prompt_tokens=len(prompt.token_ids),
                cached_tokens=cached,
                dropped_turns=prompt.dropped_turns,
                dropped_tokens=prompt.dropped_tokens,
                context_length=engine.info.context_length,
                seconds=time.perf_counter() - began,
                facts=prompt.facts,
            )
        )
        self._post_pieces(request, engine, stream)
        self._snapshots.ended(engine.snapshots)

    def _post_pieces(self, request: GenerationRequest, engine: Engine, stream: ReplyStream) -> None:
        """Post the reply's pieces as they come, gathered over a short interval."""
        batch = PieceBatch()
        explained_at = 0.0
        try:
            for piece in stream:
                batch.add(piece)
                if batch.is_due():
                    self._post(batch.take(request.request_id, engine.context_tokens))
                    if time.perf_counter() - explained_at >= EXPLAIN_INTERVAL_SECONDS:
                        explained_at = time.perf_counter()
                        self._explain(request, engine, stream)
        finally:
            # Also when it goes wrong: what was drawn before is part of the reply.
            if batch:
                self._post(batch.take(request.request_id, engine.context_tokens))
        self._explain(request, engine, stream)
        self._post(GenerationFinished(request.request_id, stream.reply()))

    def _explain(self, request: GenerationRequest, engine: Engine, stream: ReplyStream) -> None:
        """Post the candidates of the latest position, if somebody looks at them."""
        if self.explained_rows and (explained := stream.explain(self.explained_rows)) is not None:
            self._post(laboratory.next_token(engine, request.request_id, explained))
