"""Values of the right kind out of a TOML table that anybody may have written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from types import NoneType
from typing import Any, TypeVar, cast

from llmchat.chat.transcript_document import Table
from llmchat.errors import TranscriptError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TableReader:
    """Takes values out of a table; what is missing has a default, what is of another kind is a TranscriptError."""

    table: Table
    place: str
    """Where the table stands, for messages, such as "sea.toml, turn 3"."""

    def text(self, key: str, default: str = "") -> str:
        """A text."""
        return self._value(key, default, (str,), "a string")

    def whole(self, key: str) -> int:
        """A whole number; 0 where it is missing."""
        return self._value(key, 0, (int,), "a whole number")

    def number(self, key: str) -> float:
        """A number; 0 where it is missing."""
        return float(self._value(key, 0.0, (float, int), "a number"))

    def flag(self, key: str) -> bool:
        """True or false; false where it is missing."""
        return self._value(key, False, (bool,), "true or false")

    def moment(self, key: str) -> datetime:
        """A moment; one without a zone is in UTC."""
        value = self._value(key, _UNKNOWN_TIME, (datetime,), "a date and time")
        return value if value.tzinfo else value.replace(tzinfo=UTC)

    def local_time(self, key: str) -> datetime | None:
        """A date and time on a clock on the wall; None where it is missing."""
        value = self._value(key, None, (datetime, NoneType), "a local date and time")
        return value and value.replace(tzinfo=None)

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        """One of some words."""
        value = self.text(key)
        if value not in choices:
            raise TranscriptError(f"{self.place}: {key} must be one of {', '.join(choices)}, not {value!r}.")
        return value

    def ids(self, key: str) -> tuple[int, ...]:
        """Whole numbers with spaces between."""
        try:
            return tuple(map(int, self.text(key).split()))
        except ValueError:
            raise TranscriptError(f"{self.place}: {key} must be whole numbers with spaces between.") from None

    def inner(self, key: str) -> TableReader:
        """A table in the table."""
        return TableReader(self._value(key, _EMPTY, (dict,), "a table"), f"{self.place}, {key}")

    def items(self, key: str) -> list[TableReader]:
        """The tables of a list."""
        items = self._value(key, _NOTHING, (list,), "a list of tables")
        if not all(isinstance(item, dict) for item in items):
            raise TranscriptError(f"{self.place}: {key} must be a list of tables.")
        return [TableReader(item, f"{self.place}, {key}") for item in items]

    def _value(self, key: str, default: T, kinds: tuple[type, ...], words: str) -> T:
        value = self.table.get(key, default)
        # A bool is an int to Python, but not to a person who reads the file.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise TranscriptError(f"{self.place}: {key} must be {words}, not {value!r:.60}.")
        return cast(T, value)


_EMPTY: Table = {}
_NOTHING: list[Any] = []
_UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)
