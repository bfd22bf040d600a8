"""Themes: one TOML file each, shipped with llmchat or written by the person.

    dark = true
    primary = "#7aa2f7"
    background = "#16161e"
    foreground = "#c0caf5"

    [variables]
    user = "#bb9af7"

The colours are those of `textual.theme.Theme`; `primary`, `background` and `foreground`
must be given. `[variables]` takes llmchat's own (`OWN_VARIABLES`) and any of Textual's.
A file in the person's themes directory goes before a shipped theme of the same name.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmchat.errors import ThemeError
from llmchat.files import describe, describe_toml, parse_toml
from llmchat.paths import themes_dir

if TYPE_CHECKING:
    from textual.theme import Theme

DEFAULT_THEME = "night"
FEW_COLORS_THEME = "ansi"
"""Where a terminal has no more than 16 colours: those are its own."""

OWN_VARIABLES: Mapping[str, str] = {
    "user": "The name above what the person said.",
    "assistant": "The name above what the model said.",
    "system": "The name above the system prompt.",
    "change": "The mark in a reply where a slider took effect, and a slider that differs from the default.",
    "change-background": "What lies behind that mark.",
    "muted": "Text that matters less: stamps, hints, parameters without effect.",
    "heat-1": "What lies behind a token that was likely; one that was expected is not coloured.",
    "heat-2": "Behind a token that was one of a few.",
    "heat-3": "Behind a token that was one of several.",
    "heat-4": "Behind a token that was unlikely.",
    "heat-5": "Behind a token that was a surprise.",
    "heat-text": "The text on heat-1 to heat-5.",
}
"""The style variables that llmchat adds to Textual's, and what each colours."""

_COLORS = (
    "primary", "secondary", "accent", "warning", "error", "success",
    "foreground", "background", "surface", "panel", "boost",
)  # fmt: skip
_REQUIRED = ("primary", "background", "foreground")
_SWITCHES = ("dark", "ansi")
_STYLE_WORDS = {"none", "not", "bold", "b", "italic", "i", "underline", "u", "reverse", "r", "dim", "d", "strike", "s"}


def usual_theme(color_system: str | None) -> str:
    """The theme where none was chosen.

    Args:
        color_system: What the terminal can show, as rich names it: "standard" for 16 colours, "256", "truecolor".
    """
    return FEW_COLORS_THEME if color_system == "standard" else DEFAULT_THEME


@dataclass(frozen=True, slots=True)
class ThemeLoadResult:
    """The themes that can be used, and what is wrong with the others."""

    themes: Mapping[str, Theme]
    """Every theme by its name, shipped ones first."""
    failures: tuple[ThemeError, ...] = ()

    def get(self, name: str) -> Theme:
        """The theme of this name.

        Raises:
            ThemeError: There is none; the nearest is named.
        """
        if name in self.themes:
            return self.themes[name]
        raise ThemeError(f"There is no theme called {name!r}.{_nearest(name, self.themes)}")


def load_themes(directory: Path | None = None) -> ThemeLoadResult:
    """Load the shipped themes and the person's own; a file that is wrong is reported and passed over.

    Args:
        directory: Where the person's themes lie; by default in the config directory.
    """
    themes: dict[str, Theme] = {}
    failures: list[ThemeError] = []
    for place in (shipped_dir(), directory or themes_dir()):
        for path in sorted(place.glob("*.toml")):
            try:
                theme = load_theme(path)
            except ThemeError as error:
                failures.append(error)
            else:
                themes[theme.name] = theme
    return ThemeLoadResult(themes, tuple(failures))


def shipped_dir() -> Path:
    """Where the shipped themes lie: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "themes_data"
    return installed if installed.is_dir() else package.parent / "themes"


def load_theme(path: Path) -> Theme:
    """Read one theme file.

    Raises:
        ThemeError: It cannot be read, is no TOML, or has an unknown key or a value that is no colour.
    """
    text = ""
    try:
        text = path.read_text(encoding="utf-8-sig")
        return make_theme(parse_toml(text), path.stem)
    except OSError as error:
        raise ThemeError(f"{path} cannot be read: {describe(error)}.") from error
    except UnicodeDecodeError:
        raise ThemeError(f"{path} is not UTF-8 text.") from None
    except tomllib.TOMLDecodeError as error:
        raise ThemeError(f"{path} is not valid TOML, {describe_toml(error, text)}.") from None
    except ThemeError as error:
        raise ThemeError(f"{path}: {error.message}") from None


def make_theme(table: Mapping[str, Any], name: str) -> Theme:
    """A theme from its table; variables that are not given are made from its colours.

    Args:
        table: The file's content.
        name: The name, unless the table gives one.

    Raises:
        ThemeError: A key is unknown or missing, or a value is no colour.
    """
    from textual.theme import Theme

    _check_keys(table, ["name", *_COLORS, *_SWITCHES, "variables"])
    colors: dict[str, Any] = {key: _color(key, table[key]) for key in _COLORS if key in table}
    variables = table.get("variables", {})
    given_name = table.get("name", name)
    if not isinstance(variables, dict) or not isinstance(given_name, str) or not given_name:
        raise ThemeError("name must be a string and [variables] a table.")
    switches = {key: table[key] for key in _SWITCHES if key in table}
    for key, value in switches.items():
        if not isinstance(value, bool):
            raise ThemeError(f"{key} must be true or false, not {value!r}.")
    theme = Theme(name=given_name, **colors, **switches)
    _check_variables(variables, theme)
    own = _own_variables(theme) | {key: value for key, value in variables.items() if key in OWN_VARIABLES}
    theme.variables = own | _textual_variables(theme, own) | variables
    return theme


def default_variables() -> dict[str, str]:
    """Llmchat's own variables for a theme that does not have them; see `App.get_theme_variable_defaults`."""
    from textual.theme import Theme

    return _own_variables(Theme("", primary="#7aa2f7", background="#16161e", foreground="#c0caf5"))


def _check_keys(table: Mapping[str, Any], known: list[str]) -> None:
    for key in table:
        if key not in known:
            raise ThemeError(f"a theme has no key {key!r}.{_nearest(key, known)}")
    for key in _REQUIRED:
        if key not in table:
            raise ThemeError(f"the colour {key!r} is missing.")


def _color(key: str, value: object) -> str:
    from textual.color import Color, ColorParseError

    try:
        if isinstance(value, str):
            Color.parse(value)
            return value
    except (ColorParseError, ArithmeticError, ValueError):
        pass
    raise ThemeError(f'{key} must be a colour such as "#7aa2f7" or "ansi_blue", not {value!r}.')


def _check_variables(variables: Mapping[str, Any], theme: Theme) -> None:
    # Working out all of textual's takes a while, and most themes name none of them.
    is_all_own = set(variables) <= set(OWN_VARIABLES)
    known = [*OWN_VARIABLES, *([] if is_all_own else theme.to_color_system().generate())]
    for key, value in variables.items():
        if key not in known:
            raise ThemeError(f"there is no variable {key!r}.{_nearest(key, known)}")
        if not isinstance(value, str):
            raise ThemeError(f"{key} must be a string, not {value!r}.")
        if key.split("-")[-1] == "style" or "-style-" in key:
            if not value or not set(value.split()) <= _STYLE_WORDS:
                raise ThemeError(f'{key} must be a text style such as "bold underline", not {value!r}.')
        elif key in OWN_VARIABLES:
            _color(key, value)
        else:
            _shade(key, value)


def _shade(key: str, value: str) -> None:
    """Check a colour that may be automatic and may have an opacity, such as "auto 60%"."""
    color, _, opacity = value.partition(" ")
    if opacity and not (opacity.endswith("%") and opacity[:-1].isdecimal()):
        raise ThemeError(f'{key}: the opacity must be such as "60%", not {opacity!r}.')
    if color not in ("auto", "transparent", "initial"):
        _color(key, color)


def _own_variables(theme: Theme) -> dict[str, str]:
    """Llmchat's own variables, made from a theme's colours."""
    from textual.color import Color

    if theme.ansi:
        return dict(_ANSI_VARIABLES)
    foreground = Color.parse(theme.foreground or "#e0e0e0")
    background = Color.parse(theme.background or "#121212")
    primary = Color.parse(theme.primary)
    warm = Color.parse(theme.warning or "#d79921")
    cold, hot = Color.parse(theme.success or "#98971a"), Color.parse(theme.error or "#cc241d")
    change = Color.parse(theme.accent or theme.warning or theme.primary)
    shades = (cold, cold.blend(warm, 0.5), warm, warm.blend(hot, 0.5), hot)
    return {
        "user": Color.parse(theme.secondary or theme.primary).hex,
        "assistant": primary.hex,
        "system": primary.blend(foreground, 0.5).hex,
        "change": change.hex,
        "change-background": background.blend(change, 0.1).hex,
        "muted": foreground.blend(background, 0.3).hex,
        **{f"heat-{level}": shade.hex for level, shade in enumerate(shades, 1)},
        "heat-text": (background if theme.dark else foreground).hex,
    }


_ANSI_VARIABLES = {
    "user": "ansi_magenta",
    "assistant": "ansi_blue",
    "system": "ansi_cyan",
    "change": "ansi_yellow",
    "change-background": "ansi_default",
    # Every "grey" is invisible in somebody's palette.
    "muted": "ansi_default",
    "heat-1": "ansi_green",
    "heat-2": "ansi_cyan",
    "heat-3": "ansi_yellow",
    "heat-4": "ansi_magenta",
    "heat-5": "ansi_red",
    "heat-text": "ansi_black",
}


def _textual_variables(theme: Theme, own: Mapping[str, str]) -> dict[str, str]:
    """Values for Textual's variables whose own defaults can fall below readable contrast."""
    if theme.ansi:
        # Textual's ansi colours leave these out, and its style sheets use them.
        return {"surface-active": "transparent", "ansi-background": "ansi_default", "ansi-foreground": "ansi_default"}
    background, foreground = theme.background or "", theme.foreground or ""
    muted = dict.fromkeys(
        ("text-muted", "text-disabled", "foreground-muted", "foreground-disabled", "markdown-h6-color"), own["muted"]
    )
    # Textual passes over a theme's boost if it has a panel colour.
    boost = {"boost": theme.boost} if theme.boost else {}
    return (
        muted
        | boost
        | {
            "text": foreground,
            "button-color-foreground": background,
            "block-cursor-foreground": background,
            "block-cursor-background": theme.primary,
            "screen-selection-foreground": background,
            "screen-selection-background": theme.primary,
            "footer-key-foreground": theme.primary,
            "link-color": theme.primary,
            "link-color-hover": background,
        }
    )


def _nearest(word: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f" Did you mean {near[0]}?" if near else f" Known: {', '.join(names[:20])}."
