"""How keys are written for people: ^B, Esc, Shift+←."""

from __future__ import annotations

from typing import cast

from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual.keys import Keys, format_key

_WORDS = {
    "escape": "Esc",
    "enter": "Enter",
    "space": "Space",
    "tab": "Tab",
    "backspace": "Backspace",
    "delete": "Del",
    "home": "Home",
    "end": "End",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "left": "←",
    "right": "→",
    "up": "↑",
    "down": "↓",
}


def key_label(key: str) -> str:
    """A key as Textual names it ("ctrl+b"), as people write it ("^B")."""
    *modifiers, name = key.split("+")
    word = _WORDS.get(name)
    if word is None:
        word = name.upper() if name[0] == "f" and name[1:].isdigit() else format_key(name)
    if "ctrl" in modifiers:
        modifiers.remove("ctrl")
        word = "^" + (word.upper() if len(word) == 1 else word)
    elif len(name) == 1 and name.isupper() and not modifiers:
        word = name
    return "+".join([modifier.capitalize() for modifier in modifiers] + [word])


def key_named(label: str) -> str:
    """The key that people write so, as Textual names it: the reverse of `key_label`."""
    if label.startswith("^"):
        return f"ctrl+{key_named(label[1:]).lower()}"
    words = {word: key for key, word in _WORDS.items()}
    return words.get(label) or (label.lower() if len(label) > 1 else label)


def recognise_alt_enter() -> None:
    """Let Alt+Enter be told from Enter in terminals without the kitty keyboard protocol.

    They send an escape before the carriage return, which Textual reads as plain Enter.
    """
    sequences: dict[str, tuple[Keys, ...]] = ANSI_SEQUENCES_KEYS  # type: ignore[assignment]
    sequences.setdefault("\x1b\r", (cast(Keys, _AltEnter),))


class _AltEnter:
    """Stands in Textual's table for a key that it has no name for."""

    value = "alt+enter"
