"""Figures of replies, counted by hand, and the tables that they are saved in."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path

import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.reply_metrics import COLUMNS, Outcome, distinct, measure, save_table, table_rows
from llmchat.chat.turn import FinishReason, Reply, TokenFacts
from llmchat.errors import LlmchatError, UsageError


def reply(
    ids: tuple[int, ...], text: str = "text", logprobs: tuple[float, ...] = (), end: FinishReason = "stop"
) -> Reply:
    """A reply of these tokens."""
    facts = tuple(TokenFacts(0, logprob, logprob, 0, 1.0) for logprob in logprobs)
    return Reply(text, ids, end, "end token </s>", GenerationConfig(), 7, facts=facts)


@pytest.mark.parametrize(
    ("ids", "n", "share"),
    [
        ((), 1, None),
        ((1,), 2, None),
        ((1, 2, 3), 1, 1.0),
        ((1, 1, 1, 1), 1, 0.25),
        ((1, 2, 1, 2, 1), 2, 0.5),  # 12, 21, 12, 21
        ((1, 2, 1, 2, 1), 3, 2 / 3),  # 121, 212, 121
        ((5, 6, 7, 8, 5, 6, 7, 8), 4, 0.8),  # 5678, 6785, 7856, 8567, 5678
    ],
)
def test_distinct_n_grams(ids: tuple[int, ...], n: int, share: float | None) -> None:
    """Different n-grams as a share of all of them."""
    assert distinct(ids, n) == (share if share is None else pytest.approx(share))


def test_the_figures_of_a_reply() -> None:
    """Length, mean log-probability, variety, repetition and end."""
    figures = measure(
        reply((5, 6, 7, 8, 5, 6, 7, 8), "abc", (-1.0, -2.0, -0.5, -0.5, -1.0, -1.0, -1.0, -1.0), "length")
    )
    assert (figures.tokens, figures.characters, figures.finish_reason) == (8, 3, "length")
    assert figures.mean_logprob == pytest.approx(-1.0)
    assert figures.distinct_1 == 0.5
    assert figures.repetition == pytest.approx(0.2)


def test_an_empty_reply_has_no_shares() -> None:
    """What cannot be divided is left out rather than 0."""
    figures = measure(reply(()))
    assert (figures.mean_logprob, figures.distinct_1, figures.repetition) == (None, None, None)
    assert "distinct_1" not in table_rows([Outcome("a", reply(()))])[0]


OUTCOMES = [
    Outcome("0.20", reply((1, 2, 3, 4), 'A "quoted",\nbroken line', (-0.25,) * 4)),
    Outcome("1.40", reply((1, 2, 9), "Ünïcode", (-1.0,) * 3, "length")),
]


def test_a_table_as_csv(tmp_path: Path) -> None:
    """Every column, texts whole, whatever they hold."""
    save_table(tmp_path / "table.csv", OUTCOMES, {"prompt": "Hi"})
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert tuple(first) == COLUMNS
    assert (first["text"], second["text"]) == ('A "quoted",\nbroken line', "Ünïcode")
    assert (first["parts_at"], second["parts_at"]) == ("", "2")
    assert (second["label"], second["mean_logprob"], second["repetition"]) == ("1.40", "-1.0", "")


def test_a_table_as_toml(tmp_path: Path) -> None:
    """The same, with prompt, settings and ids."""
    save_table(tmp_path / "table.TOML", OUTCOMES, {"prompt": "Hi"})
    table = tomllib.loads((tmp_path / "table.TOML").read_text())
    assert table["prompt"] == "Hi"
    first, second = table["replies"]
    assert first["text"] == 'A "quoted",\nbroken line'
    assert (second["parts_at"], second["token_ids"]) == (2, "1 2 9")
    assert GenerationConfig.from_mapping(second["settings"]) == GenerationConfig()


def test_a_table_that_cannot_be_saved(tmp_path: Path) -> None:
    """An unknown kind and a missing directory are told in a line."""
    with pytest.raises(UsageError, match=r"\.toml or \.csv"):
        save_table(tmp_path / "table.xls", OUTCOMES, {})
    with pytest.raises(LlmchatError, match="cannot be written"):
        save_table(tmp_path / "no" / "table.csv", OUTCOMES, {})
