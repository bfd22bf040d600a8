"""The errors a person may see.

    LlmchatError
    ├── UsageError             exit 2    a flag, a command or a value is wrong
    │   ├── SettingsError                the settings file is wrong
    │   └── ThemeError                   a theme file is wrong
    ├── ModelLoadError         exit 4    the model or its tokenizer cannot be opened
    │   ├── UnknownArchitectureError     llmchat has no plan of its network
    │   ├── FetchQuestionError           it is to be asked for before it is fetched
    │   └── MemoryShortError             the model seems not to fit into the memory that is free
    ├── GenerationError        exit 1    a reply cannot be made
    │   ├── PromptTooLongError           what is to be answered does not fit into the model's context
    │   └── ChatTemplateError  exit 2    the chat template that was given cannot be used; a ModelLoadError too
    └── TranscriptError        exit 1    a transcript cannot be read or kept

Each carries one line that says what is wrong and what to do, safe to show as it
is. The command line prints it and exits; the window shows it as a toast.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

_LONGEST = 1000
"""Characters of a message; what a file says of itself may be as long as the file."""
_LONGEST_END = 200

ENGINES_TO_INSTALL: Mapping[str, str] = {"transformers": "Hugging Face's transformers", "llama-cpp": "llama.cpp"}
"""The engines that are no part of llmchat, by the names of the extras that install them."""


class LlmchatError(Exception):
    """A failure that can be shown to a person as it is."""

    exit_code: ClassVar[int] = 1
    title: ClassVar[str] = "Something went wrong"

    def __init__(self, message: str, title: str | None = None) -> None:
        line = " ".join(message.split())
        super().__init__(
            line if len(line) <= _LONGEST else f"{line[: _LONGEST - _LONGEST_END]} … {line[-_LONGEST_END:]}"
        )
        self._title = title

    @property
    def message(self) -> str:
        """One line: what is wrong and what to do."""
        return str(self.args[0])

    @property
    def heading(self) -> str:
        """A few words above the message, for toasts and dialogs."""
        return self._title or self.title


class UsageError(LlmchatError):
    """A flag, a command or a typed value is wrong."""

    exit_code = 2
    title = "Not possible"


class SettingsError(UsageError):
    """The settings file is wrong: it names the file, the key and the nearest known key."""

    title = "Settings"


class ThemeError(UsageError):
    """A theme file is wrong."""

    title = "Theme"


class ModelLoadError(LlmchatError):
    """The model or its tokenizer cannot be opened."""

    exit_code = 4
    title = "The model could not be loaded"


class UnknownArchitectureError(ModelLoadError):
    """llmchat has no plan of the network, but one of the engines that can be installed may know it."""

    def __init__(self, path: str, architecture: str, extra: str, words: str = "") -> None:
        """The refusal, with the line that installs the engine.

        Args:
            path: The file or directory.
            architecture: What it calls its network.
            extra: The engine: "transformers" or "llama-cpp".
            words: What else it does, before "llmchat cannot run".
        """
        super().__init__(
            f"{path} is a model of the architecture {architecture[:40]!r}, which {words}llmchat cannot run by itself. "
            f"To run it with {ENGINES_TO_INSTALL[extra]}: pip install 'llmchat[{extra}]'"
        )
        self.architecture, self.extra = architecture, extra


class FetchQuestionError(ModelLoadError):
    """A model would have to be fetched, and is larger than may be fetched without asking.

    The message says how much, and what memory it takes; a front end that can ask asks it, and loads again.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        """The model's short name."""


class MemoryShortError(ModelLoadError):
    """The model seems not to fit into the memory that is free; nothing was read."""

    def __init__(self, figures: str, way_out: str) -> None:
        """An error.

        Args:
            figures: What is needed and what is free, as a sentence.
            way_out: What to do, as a sentence.
        """
        super().__init__(f"{figures} {way_out}")
        self.figures = figures


class GenerationError(LlmchatError):
    """A reply cannot be made."""

    title = "The reply failed"


class PromptTooLongError(GenerationError):
    """What is to be answered does not fit into the model's context, with nothing else before it."""

    title = "The message is too long"


class ChatTemplateError(ModelLoadError, GenerationError):
    """The chat template that a person gave is none, is not valid, or leaves out what is said.

    One that refuses a chat is no such error: what was said may be the reason.
    """

    exit_code = 2
    title = "Chat template"


class TranscriptError(LlmchatError):
    """A transcript cannot be read or kept."""

    title = "Transcript"
