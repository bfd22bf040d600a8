"""Figures of a reply that say how varied, how likely and how repetitive it is.

They count tokens, not words, so that they mean the same for every language and
tokenizer.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from llmchat.chat.comparison import first_difference
from llmchat.chat.turn import Reply
from llmchat.errors import LlmchatError, UsageError
from llmchat.files import describe, write_text

SUFFIXES = (".toml", ".csv")
"""The kinds of file that a table can be saved as."""


@dataclass(frozen=True, slots=True)
class ReplyMetrics:
    """The figures of one reply; None where a reply is too short to have one."""

    tokens: int
    """How long it is, without the end token."""
    characters: int
    mean_logprob: float | None
    """The mean natural logarithm of its tokens' probabilities by the model alone, before any sampling setting.

    e to minus this is the perplexity of the reply under the model.
    """
    distinct_1: float | None
    """See `distinct`."""
    distinct_2: float | None
    distinct_3: float | None
    repetition: float | None
    """The share of its 4-grams that came before in it: seq-rep-4 of Welleck et al. 2020,
    "Neural Text Generation with Unlikelihood Training"."""
    finish_reason: str


def measure(reply: Reply) -> ReplyMetrics:
    """The figures of a reply."""
    ids = reply.token_ids
    four = distinct(ids, 4)
    return ReplyMetrics(
        tokens=len(ids),
        characters=len(reply.text),
        mean_logprob=statistics.fmean(fact.logprob for fact in reply.facts) if reply.facts else None,
        distinct_1=distinct(ids, 1),
        distinct_2=distinct(ids, 2),
        distinct_3=distinct(ids, 3),
        repetition=None if four is None else 1.0 - four,
        finish_reason=reply.finish_reason,
    )


def distinct(token_ids: Sequence[int], n: int) -> float | None:
    """How many different n-grams there are, as a share of all n-grams: 1 if none comes twice.

    The measure of Li et al. 2016, "A Diversity-Promoting Objective Function for Neural
    Conversation Models"; they divide by the number of tokens, here it is that of n-grams,
    so that a short reply without a repetition reaches 1 too.

    Returns:
        None if there are fewer than n tokens.
    """
    grams = [tuple(token_ids[start : start + n]) for start in range(len(token_ids) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One reply of a comparison or a sweep, under the name of its settings."""

    label: str
    reply: Reply


def table_rows(outcomes: Sequence[Outcome]) -> list[dict[str, str | int | float]]:
    """A row for each reply: what it is called, its figures, where it parts from the first, its text.

    A figure that a reply is too short for is left out.
    """
    return [_row(outcome, outcomes[0].reply) for outcome in outcomes]


def _row(outcome: Outcome, first: Reply) -> dict[str, str | int | float]:
    reply, figures = outcome.reply, measure(outcome.reply)
    row: dict[str, str | int | float | None] = {
        "label": outcome.label,
        "seed": reply.seed,
        "tokens": figures.tokens,
        "characters": figures.characters,
        "mean_logprob": _rounded(figures.mean_logprob),
        "distinct_1": _rounded(figures.distinct_1),
        "distinct_2": _rounded(figures.distinct_2),
        "distinct_3": _rounded(figures.distinct_3),
        "repetition": _rounded(figures.repetition),
        "finish_reason": figures.finish_reason,
        "finish_detail": reply.finish_detail,
        "parts_at": first_difference(first.token_ids, reply.token_ids),
        "text": reply.text,
    }
    return {name: value for name, value in row.items() if value is not None}


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 4)


COLUMNS = (
    "label", "seed", "tokens", "characters", "mean_logprob", "distinct_1", "distinct_2", "distinct_3",
    "repetition", "finish_reason", "finish_detail", "parts_at", "text",
)  # fmt: skip
"""The columns of a table, in their order."""


def check_table_path(path: Path) -> None:
    """Refuse a file that is of no known kind, before the work is done.

    Raises:
        UsageError: Its name ends neither in .toml nor in .csv.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"The name of a table ends in {' or '.join(SUFFIXES)}, not in {path.name!r}.")


def save_table(path: Path, outcomes: Sequence[Outcome], about: Mapping[str, str]) -> None:
    """Write a table to a file, as TOML or CSV by its name; arguments as for `table_text`.

    Raises:
        UsageError: The name ends in neither.
        LlmchatError: The file cannot be written.
    """
    check_table_path(path)
    try:
        write_text(path, table_text(outcomes, path.suffix, about))
    except OSError as error:
        raise LlmchatError(f"{path} cannot be written: {describe(error)}.") from error


def table_text(outcomes: Sequence[Outcome], suffix: str, about: Mapping[str, str]) -> str:
    """A table as the text of a file.

    Args:
        outcomes: The replies.
        suffix: ".csv" for a line each, ".toml" with everything about their settings too.
        about: What holds for all of them, such as model and prompt; only in TOML.
    """
    rows = table_rows(outcomes)
    if suffix.lower() == ".csv":
        return _csv(rows)
    replies = [
        {
            **row,
            "settings": outcome.reply.config.to_mapping(),
            "token_ids": " ".join(map(str, outcome.reply.token_ids)),
        }
        for row, outcome in zip(rows, outcomes, strict=True)
    ]
    return tomli_w.dumps({**about, "replies": replies}, multiline_strings=False)


def _csv(rows: Sequence[Mapping[str, str | int | float]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
