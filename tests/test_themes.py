"""Themes: what is shipped can be read, in both senses; what is wrong is said and passed over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from textual.app import App, ComposeResult
from textual.color import Color
from textual.theme import Theme
from textual.widgets import Button, Footer, Input, Label, OptionList

from llmchat.errors import ThemeError
from llmchat.paths import ensure, themes_dir
from llmchat.themes import (
    DEFAULT_THEME,
    FEW_COLORS_THEME,
    OWN_VARIABLES,
    default_variables,
    load_theme,
    load_themes,
    make_theme,
)

SHIPPED = load_themes(Path("/nonexistent")).themes
COLORED = sorted(name for name, theme in SHIPPED.items() if not theme.ansi)
SMALL = {"primary": "#336699", "background": "#101010", "foreground": "#eeeeee"}
TEXTS = (
    "foreground", "primary", "secondary", "accent", "warning", "error", "success",
    "user", "assistant", "system", "change", "muted", "text", "text-muted", "text-disabled",
    "foreground-muted", "foreground-disabled", "link-color", "markdown-h1-color", "markdown-h6-color",
    "text-primary", "text-secondary", "text-accent", "text-warning", "text-error", "text-success",
)  # fmt: skip
PAIRS = [
    *((text, ground) for text in TEXTS for ground in ("background", "surface", "panel", "boost")),
    *(("heat-text", f"heat-{level}") for level in range(1, 6)),
    ("change", "change-background"),
    ("block-cursor-foreground", "block-cursor-background"),
    ("block-cursor-blurred-foreground", "block-cursor-blurred-background"),
    *(("button-color-foreground", ground) for ground in ("primary", "success", "warning", "error")),
    *(("footer-key-foreground", ground) for ground in ("footer-background", "panel")),
    ("footer-description-foreground", "footer-background"),
    ("input-cursor-foreground", "input-cursor-background"),
    ("input-selection-foreground", "input-selection-background"),
    ("screen-selection-foreground", "screen-selection-background"),
    ("link-color-hover", "link-background-hover"),
    *((f"text-{name}", f"{name}-muted") for name in ("primary", "secondary", "accent", "warning", "error", "success")),
]


def contrast(text: Color, ground: Color) -> float:
    """The contrast ratio of WCAG 2, 1 to 21."""

    def luminance(color: Color) -> float:
        parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color.normalized]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    high, low = sorted((luminance(text), luminance(ground)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def ratios(theme: Theme) -> dict[tuple[str, str], float]:
    """The contrast of every pair that the window can show."""
    colors = theme.to_color_system().generate() | theme.variables
    # A colour that shines through is seen on what lies behind it; boost lies on any of the grounds.
    behind = {"boost": Color.parse(colors["panel"])}
    background = Color.parse(colors["background"])
    grounds = {ground: behind.get(ground, background) + Color.parse(colors[ground]) for _, ground in PAIRS}
    return {
        (text, ground): contrast(grounds[ground] + Color.parse(colors[text]), grounds[ground]) for text, ground in PAIRS
    }


@pytest.mark.parametrize("name", COLORED)
def test_every_text_is_readable_on_every_ground(name: str) -> None:
    """Text keeps a contrast of 4.5:1 in every shipped theme whose colours are ours; 7:1 in the one for that."""
    least = 7.0 if name == "contrast" else 4.5
    poor = {pair: round(ratio, 2) for pair, ratio in ratios(SHIPPED[name]).items() if ratio < least}
    assert poor == {}


def test_the_contrast_measure_is_right() -> None:
    """Known ratios come out, so the test above measures what it says."""
    assert contrast(Color.parse("#fff"), Color.parse("#000")) == pytest.approx(21.0)
    assert contrast(Color.parse("#777"), Color.parse("#fff")) == pytest.approx(4.48, abs=0.01)


def test_the_promised_themes_are_shipped() -> None:
    """Dark, light, warm, high contrast and the terminal's own; the settings' default is one of them."""
    assert {"night", "day", "paper", "contrast", "ansi"} <= set(SHIPPED)
    assert SHIPPED["night"].dark and not SHIPPED["day"].dark and SHIPPED["ansi"].ansi
    assert {DEFAULT_THEME, FEW_COLORS_THEME} <= set(SHIPPED)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_every_theme_has_all_own_variables(name: str) -> None:
    """A style sheet may name any of llmchat's variables under any theme."""
    assert set(OWN_VARIABLES) <= set(SHIPPED[name].variables)
    assert set(default_variables()) == set(OWN_VARIABLES)


class Sample(App[None]):
    """Every variable used in a style sheet, with some of Textual's own widgets."""

    CSS = "\n".join(f".v-{name} {{ color: ${name}; }}" for name in OWN_VARIABLES) + " Label { background: $panel; }"

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.register_theme(theme)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Let style sheets name llmchat's variables under Textual's own themes too."""
        return default_variables()

    def compose(self) -> ComposeResult:
        """One label per variable, and widgets with much styling."""
        yield from (Label(name, classes=f"v-{name}") for name in OWN_VARIABLES)
        yield Button("go", variant="success")
        yield Input(placeholder="say")
        yield OptionList("one", "two")
        yield Footer()


@pytest.mark.parametrize("name", sorted(SHIPPED))
async def test_every_theme_runs_in_an_app(name: str) -> None:
    """Textual accepts the theme and its variables, and draws with them."""
    app = Sample(SHIPPED[name])
    async with app.run_test() as pilot:
        app.theme = name
        await pilot.pause()
        assert app.query_one(".v-user", Label).styles.color == Color.parse(SHIPPED[name].variables["user"])
        # A theme that knows nothing of llmchat still has its variables.
        app.theme = "nord"
        await pilot.pause()
        assert app.query_one(".v-user", Label).styles.color == Color.parse(default_variables()["user"])


def test_a_small_theme_gets_the_rest_from_its_colours() -> None:
    """Three colours make a theme; its own variables are filled in."""
    theme = make_theme(SMALL, "mine")
    assert theme.name == "mine"
    assert set(OWN_VARIABLES) <= set(theme.variables)
    assert theme.variables["assistant"] == "#336699"


def test_own_themes_are_added_and_go_first() -> None:
    """A person's file adds a theme, or replaces the shipped one of that name."""
    directory = ensure(themes_dir())
    text = "\n".join(f'{key} = "{value}"' for key, value in SMALL.items())
    (directory / "mine.toml").write_text(text)
    (directory / "night.toml").write_text(text)
    result = load_themes()
    assert result.failures == ()
    assert result.get("mine").primary == result.get("night").primary == "#336699"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('primary = "#336699"', "'background' is missing"),
        ('primary = "#336699"\nbackground = "#000"\nforeground = "reddish"', "foreground must be a colour"),
        ('primary = "hsl(1e999,1%,1%)"\nbackground = "#000"\nforeground = "red"', "primary must be a colour"),
        ('primry = "#336699"', "Did you mean primary?"),
        ("primary = ", "not valid TOML"),
        ('primary = "#fff"\nbackground = "#000"\nforeground = "#fff"\ndark = "yes"', "dark must be true or false"),
        ('primary = "#fff"\nbackground = "#000"\nforeground = "#fff"\n[variables]\nusr = "#fff"', "Did you mean user?"),
        (
            'primary = "#fff"\nbackground = "#000"\nforeground = "#fff"\n[variables]\nuser = "auto 50%"',
            "user must be a",
        ),
        (
            'primary = "#fff"\nbackground = "#000"\nforeground = "#fff"\n[variables]\ntext = "#fff 5"',
            "the opacity must",
        ),
        ('primary = "#fff"\nbackground = "#000"\nforeground = "#fff"\n[variables]\nlink-style = "big"', "a text style"),
        ('primary = "#fff"\nbackground = "#000"\nforeground = "#fff"\nvariables = 3', "[variables] a table"),
    ],
)
def test_a_bad_theme_is_named_and_passed_over(text: str, said: str) -> None:
    """A bad file is one failure with its name and the cause; the other themes are there."""
    path = ensure(themes_dir()) / "bad.toml"
    path.write_text(text)
    result = load_themes()
    assert set(result.themes) == set(SHIPPED)
    (failure,) = result.failures
    assert said in failure.message and str(path) in failure.message


def test_files_that_cannot_be_read_are_failures() -> None:
    """A directory, a dead link and a file that is no text stop nothing."""
    directory = ensure(themes_dir())
    (directory / "folder.toml").mkdir()
    (directory / "gone.toml").symlink_to(directory / "nowhere")
    (directory / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert len(load_themes().failures) == 3
    with pytest.raises(ThemeError, match="not UTF-8"):
        load_theme(directory / "binary.toml")


def test_an_unknown_theme_names_the_nearest() -> None:
    """A typing mistake in a theme's name is answered with the name that was meant."""
    with pytest.raises(ThemeError, match=r"Did you mean night\?"):
        load_themes().get("nite")


def test_importing_the_module_does_not_load_textual() -> None:
    """The command line reads themes' names without paying for the toolkit."""
    code = "import sys, llmchat.themes, llmchat.settings, llmchat.chat.storage; print('textual' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
