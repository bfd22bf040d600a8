"""The bottom line: what goes on, how fast, and the keys that matter just then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from textual.reactive import reactive

from llmchat.chat.generation_config import SPEC_BY_NAME
from llmchat.ui.keys import key_label
from llmchat.ui.widgets.one_line import OneLine, Piece

State = Literal["loading", "fetching", "ready", "generating", "stopping", "error"]

_LOOKS: dict[State, tuple[str, str]] = {
    "loading": ("◌", "bar--busy"),
    "fetching": ("◌", "bar--busy"),
    "ready": ("●", "bar--good"),
    "generating": ("●", "bar--good"),
    "stopping": ("◌", "bar--busy"),
    "error": ("✗", "bar--bad"),
}

Hint = tuple[str, str, str, frozenset[State]]
"""An action of the app or the screen, its usual key, words, and the states in which it is shown."""

_ALWAYS: frozenset[State] = frozenset(_LOOKS)
_BUSY: frozenset[State] = frozenset({"generating", "fetching"})
_FAILED: frozenset[State] = frozenset({"error"})

HINTS: tuple[Hint, ...] = (
    ("stop", "escape", "stop", _BUSY),
    ("model", "f3", "model", _FAILED),
    ("regenerate", "ctrl+r", "try again", _FAILED),
    ("help", "f1", "help", _ALWAYS - _BUSY),
    ("sidebar", "ctrl+b", "sidebar", _ALWAYS),
    ("command_palette", "ctrl+p", "commands", _ALWAYS),
)
"""The keys shown at the right, the most important first."""


class StatusBar(OneLine):
    """State, speed, context and temperature at the left; keys at the right."""

    DEFAULT_CSS = """
    StatusBar { background: $background; }
    """

    state: reactive[State] = reactive("loading")
    """What the worker does."""
    detail: reactive[str] = reactive("")
    """Words in place of the state's own, such as "reading weights"; "" takes the state's."""
    fraction: reactive[float | None] = reactive(None)
    """How much of it is done, 0 to 1; None shows none."""
    tokens_per_second: reactive[float] = reactive(0.0)
    """Decode speed of the latest reply; 0 shows none."""
    first_token_seconds: reactive[float] = reactive(0.0)
    """From sending to the first token, in seconds; 0 shows none."""
    context_used: reactive[int | None] = reactive(0)
    """Tokens in the context; None if nobody has counted them."""
    context_size: reactive[int] = reactive(0)
    """Tokens that fit into the context; 0 shows nothing of the context."""
    temperature: reactive[float | None] = reactive(None)
    """The temperature in force; None, when nothing is drawn at random, shows "greedy"."""

    _keys: Mapping[str, str] = MappingProxyType({})

    def watch_state(self) -> None:
        """Find out which keys the person set."""
        self._keys = self._find_keys()

    def show_state(self, state: State, detail: str = "", fraction: float | None = None) -> None:
        """Set the state with its words and progress."""
        self.state, self.detail, self.fraction = state, detail, fraction

    def left(self) -> Sequence[Piece]:
        """What goes on, and the numbers."""
        sign, style = _LOOKS[self.state]
        words = self.detail or self.state
        if self.fraction is not None:
            words += f" {min(max(self.fraction, 0.0), 1.0):.0%}"
        pieces = [Piece(f"{sign} {words}", style, 100)]
        if self.tokens_per_second > 0:
            pieces.append(Piece(f"{_rate(self.tokens_per_second)} tok/s", "bar--text", 80))
        if self.first_token_seconds > 0:
            pieces.append(Piece(f"first token {_seconds(self.first_token_seconds)}", "bar--text", 25))
        if self.context_size > 0:
            used = self.context_used
            style = "bar--bad" if used is not None and used >= self.context_size else "bar--text"
            pieces.append(Piece(f"context {'–' if used is None else used} / {self.context_size}", style, 60))
        if self.temperature is None:
            pieces.append(Piece("greedy", "bar--text", 20))
        else:
            pieces.append(Piece(f"temp {SPEC_BY_NAME['temperature'].format(self.temperature)}", "bar--text", 20))
        return pieces

    def right(self) -> Sequence[Piece]:
        """The keys that are of use in this state."""
        pieces: list[Piece] = []
        shown = [hint for hint in HINTS if self.state in hint[3]]
        for place, (name, usual, words, _) in enumerate(shown):
            importance = 90 if name == "stop" else 55 - 8 * place
            action = f"{'app' if name == 'command_palette' else 'screen'}.{name}"
            key = key_label(self._keys.get(name, usual))
            pieces.append(Piece(key, "bar--strong", importance, action=action))
            pieces.append(Piece(words, "bar--muted", importance, joined=True, action=action))
        return pieces

    def _find_keys(self) -> dict[str, str]:
        """The key in force for each action of the app or the screen, as the person set it."""
        return {
            active.binding.action.rpartition(".")[2]: active.binding.key
            for active in self.screen.active_bindings.values()
            if active.node in (self.app, self.screen)
        }


def _rate(tokens_per_second: float) -> str:
    return f"{tokens_per_second:.0f}" if tokens_per_second >= 100 else f"{tokens_per_second:.1f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
