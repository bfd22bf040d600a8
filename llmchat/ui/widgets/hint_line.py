"""A line of key hints that can be clicked."""

from __future__ import annotations

from textual.widgets import Static


class HintLine(Static):
    """Hints in the colours that they have, not in those of a link."""

    ALLOW_SELECT = False
    auto_links = False
