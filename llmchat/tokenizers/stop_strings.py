"""Strings that end a text, found as it comes in pieces."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Gives out a text until a stop string is complete; the longest ending that could become one is held back.

    Args:
        stop: The strings. The one completed first wins; of several completed by the same
            character, the first listed.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stops = tuple(dict.fromkeys(text for text in stop if text))
        self._held = ""
        self.found: str | None = None
        """The string that ended the text, once one has."""

    def add(self, text: str) -> str:
        """Take more of the text; what is certain of it."""
        if self.found is not None:
            return ""
        self._held += text
        found = [
            (at + len(stop), order) for order, stop in enumerate(self._stops) if (at := self._held.find(stop)) >= 0
        ]
        if found:
            end, order = min(found)
            self.found = self._stops[order]
            certain, self._held = self._held[: end - len(self.found)], ""
            return certain
        keep = max((open_length(self._held, stop) for stop in self._stops), default=0)
        certain, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return certain

    def finish(self) -> str:
        """What is still held back, at the end of the text."""
        rest, self._held = self._held, ""
        return rest


def open_length(text: str, mark: str) -> int:
    """Length of the longest ending of `text` with which `mark` begins, without being all of it; 0 if there is none."""
    longest = min(len(mark) - 1, len(text))
    return next((length for length in range(longest, 0, -1) if text.endswith(mark[:length])), 0)
