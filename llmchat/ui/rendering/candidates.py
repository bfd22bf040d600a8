"""Candidates for one place of a reply, drawn in cells: token, probabilities, bar, what removed it."""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len, set_cell_size

from llmchat.chat.plain_text import visible
from llmchat.ui.rendering.line import crop
from llmchat.worker.messages import CandidateRow

ARROW = "→"
TAKEN = "▸"
"""Stands before the token that the dice take."""

_BLOCKS = " ▏▎▍▌▋▊▉█"
_STAND_INS = str.maketrans({" ": "·", "\n": "↵", "\t": "⇥"})
_STAGES = {"top_n_sigma": "top-nσ", "xtc": "XTC", "dry": "DRY", "bans": "banned", "typical": "typical"}
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


def fitted(text: str, width: int) -> str:
    """A text in exactly so many cells."""
    return set_cell_size(crop(text, width), width)


Part = tuple[str, str]
"""A piece of a row and the name of its look."""


def candidate_parts(row: CandidateRow, width: int, token_width: int, *, taken: bool) -> list[Part]:
    """One candidate in a row of so many cells.

    ▸·water       34 → 41   ████▌
     ·quiet      3.1 → –    ▏top-p

    Args:
        row: The candidate.
        width: Cells of the whole row.
        token_width: Cells for the token.
        taken: Whether it is the one that was taken.
    """
    label = fitted(token_label(row.text, row.spoken), token_width)
    removed = row.removed_by is not None or row.final_probability <= 0
    look = "removed" if removed else "taken" if taken else "token"
    text = label.rstrip()
    parts = [(TAKEN if taken else " ", "taken"), (text, look), (" " * (token_width - cell_len(text)), "raw")]
    parts.append((f" {percent(row.probability):>4}", "raw"))
    parts.append((f" {ARROW} ", "arrow"))
    rest = max(width - token_width - 14, 0)
    if removed:
        shown = bar(row.probability, rest)
        parts += [("   –", "removed-value"), (" ", "raw"), (shown, "ghost")]
        parts.append((crop(f" {stage_label(row.removed_by or 'removed')}", rest - len(shown)), "stage"))
    else:
        parts += [(f"{percent(row.final_probability):>4}", "final"), (" ", "raw")]
        parts.append((bar(row.final_probability, rest), "bar"))
    return [part for part in parts if part[0]]
