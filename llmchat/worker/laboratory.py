"""Requests of the sampling laboratory: several replies at once, and looks into single positions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from llmchat.chat.thought import joined
from llmchat.errors import GenerationError, UsageError
from llmchat.worker.messages import (
    BatchFinished,
    BatchRequest,
    CandidateRow,
    Event,
    ExplainRequest,
    InspectRequest,
    LaneFinished,
    LaneGenerated,
    NextToken,
    PromptPart,
    PromptProcessed,
    PromptProcessing,
    PromptRequest,
    PromptToken,
    PromptTokens,
)

if TYPE_CHECKING:
    from llmchat.chat.turn import Reply
    from llmchat.engine.engine import Engine
    from llmchat.engine.generation import ReplyStream
    from llmchat.engine.prompt import Prompt
    from llmchat.engine.reply_writer import Explained, ReplyPiece
    from llmchat.tokenizers.tokenizer import Tokenizer

Post = Callable[[Event], object]

POST_INTERVAL_SECONDS = 0.04

LANES_AT_ONCE = 8
"""How many replies share a forward: more would take memory for their KV caches and gain little time."""


def serve_batch(engine: Engine, request: BatchRequest, post: Post) -> None:
    """Make several replies, as many at once as are faster together."""
    from llmchat.engine.prompt import build_prompt

    wanted = max(lane.config.max_new_tokens for lane in request.lanes)
    prompt = build_prompt(
        engine,
        request.turns,
        raw=request.raw,
        prefill_text=request.prefill_text,
        reply_room=max(1, min(wanted, engine.info.context_length // 4)),
        template_args=request.lanes[0].config.template_args,
        should_stop=request.cancel.is_set,
    )
    replies: list[Reply] = []
    began = time.perf_counter()
    for first in range(0, len(request.lanes), LANES_AT_ONCE):
        replies += _serve_lanes(engine, request, prompt, first, post)
    post(BatchFinished(request.request_id, tuple(replies), time.perf_counter() - began))


def _serve_lanes(engine: Engine, request: BatchRequest, prompt: Prompt, first: int, post: Post) -> list[Reply]:
    """Make the replies from `first` on, up to LANES_AT_ONCE."""
    from llmchat.engine.batch import BatchStream, Lane

    lanes = [Lane(lane.config, lane.seed) for lane in request.lanes[first : first + LANES_AT_ONCE]]
    stream = BatchStream(engine, prompt, lanes, request.cancel.is_set)

    def progress(done: int, total: int) -> None:
        post(PromptProcessing(request.request_id, done, total))

    began, posted = time.perf_counter(), 0.0
    cached = stream.prefill(progress)
    if not first:
        post(
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
    gathered = _Gathered(request.request_id, first, post)
    for lane, piece in stream:
        if piece is not None:
            gathered.add(lane, piece)
        if piece is None or time.perf_counter() - posted >= POST_INTERVAL_SECONDS:
            gathered.flush()
            posted = time.perf_counter()
        if piece is None:
            post(LaneFinished(request.request_id, first + lane, stream.reply(lane)))
    gathered.flush()
    return stream.replies()


class _Gathered:
    """Pieces of several replies on their way to one event for each."""

    def __init__(self, request_id: int, first: int, post: Post) -> None:
        self._request_id, self._first, self._post = request_id, first, post
        self._pieces: dict[int, list[ReplyPiece]] = {}

    def add(self, lane: int, piece: ReplyPiece) -> None:
        self._pieces.setdefault(lane, []).append(piece)

    def flush(self) -> None:
        for lane, pieces in sorted(self._pieces.items()):
            self._post(
                LaneGenerated(
                    self._request_id,
                    self._first + lane,
                    text="".join(piece.text for piece in pieces),
                    token_ids=tuple(piece.token_id for piece in pieces if piece.token_id is not None),
                    facts=tuple(piece.facts for piece in pieces if piece.facts is not None),
                    thought=joined(piece.thought for piece in pieces),
                )
            )
        self._pieces.clear()


def serve_explain(engine: Engine, stream: ReplyStream | None, request: ExplainRequest, post: Post) -> None:
    """Show the latest position under other settings; the model does not run.

    Raises:
        UsageError: No token has been drawn yet.
    """
    explained = None if stream is None else stream.explain(request.count, request.config)
    if explained is None:
        raise UsageError("No token has been drawn yet.")
    post(next_token(engine, request.request_id, explained))


def serve_inspect(engine: Engine, request: InspectRequest, post: Post) -> None:
    """Show the candidates at one token of a reply, under the settings in force there.

    What of the conversation is in the KV cache is not read again.

    Raises:
        GenerationError: The model cannot read the conversation up to there.
    """
    from llmchat.engine.prompt import build_prompt
    from llmchat.engine.reply_writer import ReplyWriter

    reply, index = request.reply, request.token_index
    room = min(reply.config.max_new_tokens, engine.info.context_length // 4)
    prompt = build_prompt(
        engine,
        request.turns,
        raw=reply.raw,
        prefill_text=reply.prefill_text,
        continued_ids=reply.token_ids[:index],
        # With the tokens read before the place, as much as was kept free then.
        reply_room=max(1, room - index),
        moment=reply.moment,
        template_args=reply.config.template_args,
        should_stop=request.cancel.is_set,
    )
    engine.lora_scale = reply.config_at(index).lora_scale
    scales = reply.lora_scales(index, len(prompt.token_ids))
    logits = engine.prefill(prompt.token_ids, request.cancel.is_set, lora_scales=scales).logits
    if logits is None:
        raise GenerationError("The look into the reply was stopped.")
    config = reply.config_at(index)
    writer = ReplyWriter(engine, prompt, lambda _: config, reply.seed, earlier=reply)
    writer.begin()
    writer.write(logits)
    taken = reply.token_ids[index : index + 1]
    explained = writer.explain(request.count, also=taken)
    assert explained is not None
    explained = replace(explained, taken=taken[0] if taken else None)
    post(next_token(engine, request.request_id, explained))


def serve_prompt(engine: Engine, request: PromptRequest, post: Post) -> None:
    """Show the prompt that the model would read."""
    from llmchat.engine.prompt import build_prompt
    from llmchat.tokenizers.name_finder import NameFinder
    from llmchat.tokenizers.readable import readable_parts

    tokenizer, limit = engine.tokenizer, engine.info.context_length // 4
    prompt = build_prompt(
        engine,
        request.turns,
        raw=request.raw,
        prefill_text=request.prefill_text,
        reply_room=max(1, min(request.room, limit)),
        moment=request.moment,
        template_args=request.template_args,
        should_stop=request.cancel.is_set,
    )
    ids = prompt.token_ids
    parts = tuple(PromptPart(*part) for part in readable_parts(tokenizer, ids))
    names = NameFinder(name for name in tokenizer.control_names if name.strip())
    said = [name for part in parts if not part.is_control for name in names.split(part.text)[1::2]]
    post(
        PromptTokens(
            request.request_id,
            tokens=tuple(PromptToken(one, tokenizer.token_text(one), tokenizer.is_control(one)) for one in ids),
            parts=parts,
            raw=prompt.raw,
            dropped_turns=prompt.dropped_turns,
            dropped_tokens=prompt.dropped_tokens,
            said_names=tuple(dict.fromkeys(said)),
        )
    )


def next_token(engine: Engine, request_id: int, explained: Explained) -> NextToken:
    """An explanation as an event, its tokens readable."""
    explanation = explained.explanation
    rows = tuple(
        CandidateRow(
            row.token_id,
            engine.tokenizer.token_text(row.token_id),
            spoken(engine.tokenizer, row.token_id),
            row.probability,
            row.final_probability,
            row.removed_by,
        )
        for row in explanation.rows
    )
    return NextToken(
        request_id,
        token_index=explained.token_index,
        rows=rows,
        survivors=explanation.survivors,
        mass=explanation.mass,
        entropy=explanation.entropy,
        effective_choices=explanation.effective_choices,
        drawn=explanation.drawn,
        taken=explained.taken,
    )


def spoken(tokenizer: Tokenizer, token_id: int) -> str:
    """What a token adds to a text; "" for a control token and for a part of a character."""
    if tokenizer.is_control(token_id):
        return ""
    try:
        return tokenizer.token_bytes(token_id).decode()
    except UnicodeDecodeError:
        return ""
