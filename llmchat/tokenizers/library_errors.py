"""What libraries raise that read a tokenizer: anything, from bare exceptions to the panics of Rust."""

from __future__ import annotations

from types import TracebackType

from llmchat.errors import LlmchatError

_OURS = (LlmchatError, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit)
_DETAIL_LENGTH = 120


class LibraryErrors:
    """Turns whatever is raised inside into an error of ours, but for those that no library makes.

    A panic in Rust is no `Exception`, and its class cannot be imported.
    """

    def __init__(self, kind: type[LlmchatError], message: str) -> None:
        """Ready to be entered.

        Args:
            kind: The error to raise.
            message: Its message; a "{}" in it is replaced by what the library says, in brackets.
        """
        self._kind = kind
        self._message = message

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Replace the library's error.

        Raises:
            LlmchatError: The library failed.
        """
        if error is not None and not isinstance(error, _OURS):
            raise self._kind(self._message.replace("{}", in_brackets(error), 1)) from None


def in_brackets(error: BaseException) -> str:
    """The beginning of what an error says, as words in brackets; "" if it says nothing."""
    words = " ".join(str(error).split())[:_DETAIL_LENGTH]
    return f" ({words})" if words else ""
