"""Candidates for one place of a reply, drawn in cells: token, probabilities, bar, what removed it."""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len

from llmchat.chat.plain_text import visible
from llmchat.ui.rendering.line import crop
from llmchat.worker.messages import CandidateRow

ARROW = "→"
DRAWN = "▸"
"""Stands before the token that the dice take."""
TAKEN = "▹"
"""Stands before the token that is in the reply, where the dice would take another one now."""

_BLOCKS = " ▏▎▍▌▋▊▉█"
_STAND_INS = str.maketrans({" ": "·", "\n": "↵", "\t": "⇥"})
_STAGES = {"top_n_sigma": "top-nσ", "xtc": "XTC", "dry": "DRY", "bans": "banned", "typical_p": "typical"}
"""Stages whose name is more than the field's with dashes."""


def token_label(text: str, spoken: str) -> str:
    """A token for a person to read, with blanks and line breaks that can be seen.

    Args:
        text: The token by its name.
        spoken: What it adds to a text; "" if that is not a whole text.
    """
    label = visible(spoken or text)
    if spoken:
        label = label.translate(_STAND_INS)
    # A sign that combines would do so with the column before.
    return f"◌{label}" if label and unicodedata.combining(label[0]) else label


def percent(probability: float) -> str:
    """A probability in at most four cells: "41", "6.1", "<0.1"."""
    share = probability * 100
    if share >= 9.95:
        return f"{share:.0f}"
    return "<0.1" if 0 < share < 0.05 else f"{share:.1f}"


def bar(fraction: float, width: int) -> str:
    """A bar from the left edge, to an eighth of a cell; something is seen of all that is not 0."""
    eighths = round(min(max(fraction, 0.0), 1.0) * width * 8)
    if fraction > 0:
        eighths = max(eighths, 1)
    full, rest = divmod(eighths, 8)
    return "█" * full + (_BLOCKS[rest] if rest else "")


def stage_label(stage: str) -> str:
    """The name of a stage of the sampling chain as the sidebar writes it."""
    return _STAGES.get(stage, stage.replace("_", "-"))


Part = tuple[str, str]
"""A piece of a row and the name of its look."""


def candidate_parts(row: CandidateRow, width: int, token_width: int, sign: str = " ", note: str = "") -> list[Part]:
    """One candidate in a row of so many cells.

    ▸·water       34 →  41 ████▌
     ·quiet      3.1 →   – ▏ top-p

    Args:
        row: The candidate.
        width: Cells of the whole row.
        token_width: Cells for the token.
        sign: One cell for the row's beginning.
        note: Words for the row's end.
    """
    removed = row.final_probability <= 0
    label = crop(token_label(row.text, row.spoken), token_width)
    parts = [
        (sign, "taken"),
        (label, "removed" if removed else "taken" if sign != " " else "text"),
        (" " * (token_width - cell_len(label)), "text"),
        (f" {percent(row.probability):>4}", "text"),
        (f" {ARROW} ", "muted"),
        ("   –", "muted") if removed else (f"{percent(row.final_probability):>4}", "final"),
        (" ", "text"),
    ]
    room = max(width - sum(cell_len(text) for text, _ in parts), 0)
    words = " · ".join(part for part in (stage_label(row.removed_by or "") if removed else "", note) if part)
    # Every bar has the same scale; words take the end of a long one.
    shown = bar(row.probability if removed else row.final_probability, room)
    shown = shown[: room - cell_len(words) - 1] if words else shown
    parts.append((shown, "ghost" if removed else "bar"))
    parts.append((crop(f" {words}", width - sum(cell_len(text) for text, _ in parts)) if words else "", "stage"))
    return [part for part in parts if part[0]]
