"""What a headless comparison or sweep prints: every reply under its settings, with its figures."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmchat.chat.comparison import Variant, first_difference, parse_comparison, parse_sweep
from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelInfo
from llmchat.chat.plain_text import visible
from llmchat.chat.reply_metrics import Outcome, ReplyMetrics, check_table_path, measure, save_table
from llmchat.chat.turn import Reply
from llmchat.once_output import describe_reply, write_json, write_out
from llmchat.paths import located
from llmchat.session.laboratory import Experiment

_COLUMNS = f"{'tokens':>6}  {'log p':>6}  {'distinct-2':>10}  {'rep-4':>5}  {'end':<9}  text"
_LEAST_TEXT = 20
"""Characters of a reply's text in the table, however narrow the terminal."""


@dataclass(frozen=True, slots=True)
class TrialOptions:
    """Settings to be tried side by side."""

    variants: tuple[Variant, ...]
    parameter: str = ""
    """What is swept; "" in a comparison."""
    table: Path | None = None
    """Where to write the figures."""


def trial_options(options: Mapping[str, Any], config: GenerationConfig) -> TrialOptions | None:
    """What --compare, --sweep and --table ask for; None if they were not given.

    Args:
        options: The command line's options by name.
        config: The settings that the others of the command line give.

    Raises:
        UsageError: They are not understood.
    """
    table = located(options["table"]) if options["table"] else None
    if table is not None:
        check_table_path(table)
    if options["compare"]:
        return TrialOptions(parse_comparison(options["compare"], config), table=table)
    if options["sweep"]:
        parameter, variants = parse_sweep(options["sweep"], config)
        return TrialOptions(variants, parameter, table)
    return None


class TrialPrinter:
    """Prints replies in their order, each as soon as it and those before it have ended."""

    def __init__(self, experiment: Experiment, options: TrialOptions, info: ModelInfo, *, as_json: bool) -> None:
        """A printer that has printed nothing.

        Args:
            experiment: What is printed.
            options: What was asked for.
            info: The model that writes.
            as_json: Whether to print one JSON object, at the end.
        """
        self._experiment, self._options, self._info, self._as_json = experiment, options, info, as_json
        self._width = max(len(options.parameter), *(len(variant.label) for variant in options.variants))
        self._printed = 0

    def print_ended(self) -> None:
        """Print what can be printed now."""
        if self._as_json:
            return
        trials = self._experiment.trials
        while self._printed < len(trials) and (reply := trials[self._printed].reply) is not None:
            # Stopped before it began, it has nothing to say.
            if reply.token_ids or reply.finish_reason != "cancelled":
                self._print(trials[self._printed].variant.label, reply)
            self._printed += 1

    def finish(self) -> None:
        """Print the rest, and write the table.

        Raises:
            LlmchatError: The table cannot be written.
        """
        self.print_ended()
        outcomes, question = self._experiment.outcomes(), self._experiment.question
        if self._as_json:
            write_json(self._described(outcomes, question))
        if self._options.table is not None:
            about = {"model": self._info.name, "prompt": question}
            swept = {"parameter": self._options.parameter} if self._options.parameter else {}
            save_table(self._options.table, outcomes, {**about, **swept})

    def _print(self, label: str, reply: Reply) -> None:
        if self._options.parameter:
            heading = f"{self._options.parameter:>{self._width}}  {_COLUMNS}\n" if not self._printed else ""
            write_out(heading + _table_row(f"{label:>{self._width}}", reply))
            return
        parting = self._experiment.parting(self._printed) if self._printed else None
        parts = "" if parting is None else f" (parts from the first at token {parting + 1})"
        write_out(("\n" if self._printed else "") + f"## {label}{parts}\n{reply.text}\n")

    def _described(self, outcomes: list[Outcome], question: str) -> dict[str, Any]:
        """All replies as one object; `parts_at` is the index of the first token that differs from the first reply."""
        replies = [
            {
                "label": outcome.label,
                **describe_reply(outcome.reply, question, self._info),
                "metrics": asdict(measure(outcome.reply)),
                "parts_at": first_difference(outcomes[0].reply.token_ids, outcome.reply.token_ids),
            }
            for outcome in outcomes
        ]
        swept = {"parameter": self._options.parameter} if self._options.parameter else {}
        about = {"prompt": question, "model": self._info.name, "seed": self._experiment.seed}
        return {**about, **swept, "replies": replies}


def _table_row(label: str, reply: Reply) -> str:
    """A reply as a line: its figures, and the start of its text."""
    figures = measure(reply)
    row = f"{label}  {_figures(figures)}  {figures.finish_reason:<9}  "
    room = max(shutil.get_terminal_size().columns - len(row) - 1, _LEAST_TEXT)
    text = visible(" ".join(reply.text.split()))
    return row + (text if len(text) <= room else text[: room - 1].rstrip() + "…") + "\n"


def _figures(figures: ReplyMetrics) -> str:
    widths = ((figures.mean_logprob, 6), (figures.distinct_2, 10), (figures.repetition, 5))
    numbers = (f"{'–' if number is None else f'{number:.2f}':>{width}}" for number, width in widths)
    return "  ".join((f"{figures.tokens:>6}", *numbers))
