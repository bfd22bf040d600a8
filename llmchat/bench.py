"""`llmchat bench`: how fast one model runs here, and how near that is to what the memory allows.

open ─ a chat: first and later turn ─ peak memory ─ prefill ─ decode and reading of memory by turns ─▶ BenchReport

Everything is measured several times over and told as median, least and most.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelInfo, ModelSpec
from llmchat.chat.turn import Turn
from llmchat.errors import GenerationError

if TYPE_CHECKING:
    from llmchat.checkpoints.checkpoint import Progress
    from llmchat.engine.engine import Engine

CONTEXTS = (64, 512, 1500)
"""Tokens before the one that is decoded; a shorter context of the model's own cuts them."""

PREFILLS = CONTEXTS[:2]

STEPS = 24
"""Tokens that one measurement of decoding takes."""

CHAT_TOKENS = 1000
"""Length of the chat whose next turn is timed."""

_SENTENCE = "The keeper of the lighthouse counted the ships that came in before the storm, and wrote them down. "
_QUESTIONS = ("Who came first?", "What did she write?", "Why did they come?", "How many were there?", "Where is it?")


@dataclass(frozen=True, slots=True)
class Spread:
    """Several measurements of one thing."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class PrefillSpeed:
    """Reading a prompt of which nothing is in the KV cache."""

    tokens: int
    tokens_per_second: Spread


@dataclass(frozen=True, slots=True)
class DecodeSpeed:
    """Computing token after token behind a context, without the draw."""

    context: int
    tokens_per_second: Spread
    streamed_bytes: int
    """Bytes that must be read for one token: the weights as they are kept, and the KV cache of the context."""
    bandwidth_share: float
    """Speed as a share of what reading those bytes alone would allow, median by median.

    A model that fits into the processor's caches can be above 1.
    """


@dataclass(frozen=True, slots=True)
class FirstToken:
    """From a message to the first token drawn."""

    prompt_tokens: int
    cached_tokens: int
    """How many of them were in the KV cache."""
    seconds: Spread


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Everything that was measured."""

    info: ModelInfo
    repeats: int
    load_seconds: float
    first_turn: FirstToken
    later_turn: FirstToken
    peak_memory_bytes: int | None
    """The most memory that the process held with model and chat open; None where the system does not tell."""
    weight_bytes: int
    prefill: tuple[PrefillSpeed, ...]
    decode: tuple[DecodeSpeed, ...]
    read_bandwidth: Spread
    """Bytes per second that as many threads read from memory."""

    @property
    def bandwidth_share(self) -> float:
        """Of the contexts' shares the median."""
        return statistics.median(speed.bandwidth_share for speed in self.decode)


def run_bench(spec: ModelSpec, repeats: int, progress: Progress) -> BenchReport:
    """Open a model and measure it.

    Args:
        spec: The model, and where it runs.
        repeats: How often each thing is measured, at least once.
        progress: Told what is being done.

    Raises:
        ModelLoadError: It cannot be opened.
        GenerationError: There is no memory left to measure with.
    """
    from llmchat.engine.bandwidth import BandwidthProbe
    from llmchat.engine.opening import open_engine

    began = time.perf_counter()
    engine = open_engine(spec, progress)
    load_seconds = time.perf_counter() - began
    first_turn, later_turn = _measure_chat(engine, repeats, progress)
    ids = _filler_ids(engine)
    # The longest context is read before memory is looked at, and before the buffer is there.
    _forget_and_read(engine, ids)
    peak = peak_memory_bytes()
    try:
        probe = BandwidthProbe(engine.info.device, engine.info.threads)
    except MemoryError as error:
        raise GenerationError(
            "There is not enough memory to measure how fast it is read. End other programs."
        ) from error
    prefill = [_measure_prefill(engine, ids[:tokens], repeats, progress) for tokens in _fitting(engine, PREFILLS)]
    decode, bandwidths = [], []
    for context in _fitting(engine, CONTEXTS):
        progress(f"decoding behind {context} tokens", None)
        rates = []
        for _ in range(repeats):
            rates.append(_decode_rate(engine, ids[:context]))
            bandwidths.append(probe.bytes_per_second())
        decode.append((context, Spread.of(rates)))
    bandwidth = Spread.of(bandwidths)
    return BenchReport(
        engine.info, repeats, load_seconds, first_turn, later_turn, peak, engine.streamed_bytes(0), tuple(prefill),
        tuple(_with_share(engine, context, rate, bandwidth) for context, rate in decode), bandwidth,
    )  # fmt: skip


def peak_memory_bytes() -> int | None:
    """The most memory that this process has held at once; None where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():
        # Unlike getrusage's figure, this one has nothing of the program that started us.
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _fitting(engine: Engine, contexts: Sequence[int]) -> list[int]:
    """The contexts, cut to what the model holds together with the tokens that are decoded."""
    room = max(engine.info.context_length - STEPS, 1)
    return sorted({min(context, room) for context in contexts})


def _filler_ids(engine: Engine) -> list[int]:
    """Any tokens, as many as the longest context: what they say does not matter to speed."""
    size = min(engine.tokenizer.vocab_size, engine.info.vocab_size)
    return [(37 * place + 11) % size for place in range(_fitting(engine, CONTEXTS)[-1])]


def _forget_and_read(engine: Engine, ids: Sequence[int]) -> float:
    """Read a prompt from its beginning; returns the seconds."""
    engine.prefill([ids[0] + 1], _never)
    began = time.perf_counter()
    engine.prefill(ids, _never)
    return time.perf_counter() - began


def _measure_prefill(engine: Engine, ids: Sequence[int], repeats: int, progress: Progress) -> PrefillSpeed:
    progress(f"reading {len(ids)} tokens", None)
    return PrefillSpeed(len(ids), Spread.of([len(ids) / _forget_and_read(engine, ids) for _ in range(repeats)]))


def _decode_rate(engine: Engine, ids: Sequence[int]) -> float:
    """Tokens per second behind a context, of which only the first time all has to be read."""
    engine.prefill(ids, _never)
    steps = min(STEPS, engine.info.context_length - len(ids))
    began = time.perf_counter()
    for step in range(steps):
        engine.decode(ids[step % len(ids)])
    return steps / (time.perf_counter() - began)


def _with_share(engine: Engine, context: int, rate: Spread, bandwidth: Spread) -> DecodeSpeed:
    streamed = engine.streamed_bytes(context)
    return DecodeSpeed(context, rate, streamed, rate.median * streamed / bandwidth.median)


def _measure_chat(engine: Engine, repeats: int, progress: Progress) -> tuple[FirstToken, FirstToken]:
    """The first turn of a chat, and the fifth with all before it in the KV cache."""
    # Half the context at most, so that the template's own tokens and the question fit.
    tokens = min(CHAT_TOKENS, engine.info.context_length // 2)
    characters = tokens * len(_SENTENCE) // max(len(engine.tokenizer.encode(_SENTENCE)), 1)
    parts = [(_SENTENCE * (characters // len(_SENTENCE) + 1))[: characters // 4]] * 4
    progress("reading a chat", None)
    first, later = [], []
    for number in range(repeats):
        engine.prefill([0], _never)
        first.append(_first_token(engine, _turns(engine, [], _question(number))))
    _first_token(engine, _turns(engine, parts, "Go on."))
    for number in range(repeats):
        later.append(_first_token(engine, _turns(engine, parts, _question(number))))
    return _together(first), _together(later)


def _question(number: int) -> str:
    """A message that differs from the one before in its first word, so that it has to be read."""
    return f"{_QUESTIONS[number % len(_QUESTIONS)]} Tell me in one short sentence."


def _turns(engine: Engine, parts: Sequence[str], question: str) -> list[Turn]:
    """A chat whose replies are `parts`, or for a model without a chat template the whole as one text."""
    if engine.prompt_style is None:
        return [Turn("user", "".join(parts) + question)]
    pairs = [(Turn("user", "Go on."), Turn("assistant", part)) for part in parts]
    return [*(turn for pair in pairs for turn in pair), Turn("user", question)]


def _first_token(engine: Engine, turns: Sequence[Turn]) -> tuple[int, int, float]:
    """Prompt tokens, those that were cached, and the seconds to the first token."""
    from llmchat.engine.generation import ReplyStream
    from llmchat.engine.prompt import build_prompt

    config = GenerationConfig(max_new_tokens=1)
    began = time.perf_counter()
    prompt = build_prompt(engine, turns)
    stream = ReplyStream(engine, prompt, lambda index: config, seed=0)
    cached = stream.prefill()
    next(iter(stream), None)
    return len(prompt.token_ids), cached, time.perf_counter() - began


def _together(times: Sequence[tuple[int, int, float]]) -> FirstToken:
    prompt_tokens, cached_tokens, _ = times[-1]
    return FirstToken(prompt_tokens, cached_tokens, Spread.of([seconds for _, _, seconds in times]))


def _never() -> bool:
    return False
