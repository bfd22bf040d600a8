"""Many prompts in one request."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from llmchat.chat.turn import Reply
from llmchat.worker.laboratory import POST_INTERVAL_SECONDS, Post
from llmchat.worker.messages import JobFinished, ManyFinished, ManyProgress, ManyRequest

if TYPE_CHECKING:
    from llmchat.engine.engine import Engine


def serve_many(engine: Engine, request: ManyRequest, post: Post) -> None:
    """Answer each of the prompts; what is stopped on the way is no answer."""
    from llmchat.engine.many import ManyReplies

    began, posted = time.perf_counter(), 0.0

    def progress(tokens: int) -> None:
        nonlocal posted
        if time.perf_counter() - posted >= POST_INTERVAL_SECONDS:
            posted = time.perf_counter()
            post(ManyProgress(request.request_id, tokens))

    for place, outcome in ManyReplies(engine, request.jobs, request.cancel.is_set, progress):
        if not isinstance(outcome, Reply) or outcome.finish_reason != "cancelled":
            post(JobFinished(request.request_id, place, outcome))
    post(ManyFinished(request.request_id, time.perf_counter() - began))
