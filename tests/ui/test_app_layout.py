"""The window's shape: sizes, sidebar, finding, themes, keys of the person's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmchat.chat.storage import TranscriptFile
from llmchat.chat.transcript import Transcript
from llmchat.errors import SettingsError
from llmchat.options import StartOptions
from llmchat.settings import Settings
from llmchat.themes import load_themes
from llmchat.ui.app import LlmchatApp
from llmchat.ui.screens.chat import ChatScreen
from tests.fakes import ScriptedEngine
from tests.ui.helpers import chat_engine, options_of, window

SHIPPED = sorted(load_themes(Path("/nonexistent")).themes)
REPLY = "# Sea\n\nThe *sea* is **wide**.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nx = 1\n```\n"


def sidebar_is_seen(screen: str) -> bool:
    """Whether the sliders are drawn."""
    return "Top-k" in screen


async def test_the_sidebar_stands_beside_the_transcript_in_a_wide_window() -> None:
    """^B goes to the sliders, from there takes them away, which gives their room to the text, and brings them back."""
    async with window(ScriptedEngine(), size=(120, 30)) as it:
        width = it.chat.view.size.width
        assert sidebar_is_seen(it.screen) and width < 90
        await it.press("ctrl+b", "right")
        assert sidebar_is_seen(it.screen) and it.session.config.temperature == 0.85
        await it.press("ctrl+b")
        assert not sidebar_is_seen(it.screen) and it.chat.view.size.width > 110 and it.chat.prompt.has_focus
        await it.press("ctrl+b")
        assert sidebar_is_seen(it.screen) and it.chat.view.size.width == width
        assert it.chat.panel.slider("temperature").has_focus
        await it.press("escape")
        assert it.chat.prompt.has_focus


async def test_the_sidebar_stands_beside_the_text_at_80_columns() -> None:
    """It comes by ^B, takes less room, wraps the text anew, and stays while one writes; it goes by ^B."""
    words = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    async with window(ScriptedEngine(words), size=(80, 24)) as it:
        assert not sidebar_is_seen(it.screen) and it.chat.view.size.width == 80
        await it.ask("count")
        await it.press("ctrl+b")
        assert sidebar_is_seen(it.screen) and 45 <= it.chat.view.size.width < 80
        assert all(word in it.screen for word in words.split())
        await it.press("right")
        assert it.session.config.temperature == 0.85
        await it.press("escape")
        assert sidebar_is_seen(it.screen) and it.chat.prompt.has_focus
        await it.press("ctrl+b", "ctrl+b")
        assert not sidebar_is_seen(it.screen) and it.chat.view.size.width == 80


async def test_the_sidebar_lies_over_the_transcript_in_a_narrow_window() -> None:
    """It comes by ^B, and goes by ^B or Esc; the text keeps its width."""
    async with window(ScriptedEngine(), size=(64, 24)) as it:
        assert not sidebar_is_seen(it.screen) and it.chat.view.size.width == 64
        await it.press("ctrl+b")
        assert sidebar_is_seen(it.screen) and it.chat.view.size.width == 64
        await it.press("right")
        assert it.session.config.temperature == 0.85
        await it.press("escape")
        assert not sidebar_is_seen(it.screen) and it.chat.prompt.has_focus


async def test_the_sidebar_of_the_settings() -> None:
    """Sidebar = false starts without it; a wide window keeps the choice through a narrow one."""
    async with window(ScriptedEngine(), options=options_of(sidebar=False), size=(120, 30)) as it:
        assert not sidebar_is_seen(it.screen)
        await it.resize(80, 30)
        await it.resize(120, 30)
        assert not sidebar_is_seen(it.screen)
        await it.press("ctrl+b")
        assert sidebar_is_seen(it.screen)


async def test_any_size_is_drawn() -> None:
    """Down to next to nothing and back, in mid-conversation, nothing fails and nothing is lost."""
    async with window(chat_engine(REPLY)) as it:
        await it.ask("tell me " * 9)
        await it.press("ctrl+b")
        for size in ((60, 16), (20, 5), (1, 1), (12, 40), (120, 40)):
            await it.resize(*size)
            await it.pilot.pause()
            assert len(it.lines()) == size[1]
        assert "The sea is wide." in it.screen and sidebar_is_seen(it.screen)
        assert it.app.is_running


async def test_a_window_of_60_by_16_is_of_use() -> None:
    """Writing, reading, stopping and the sliders all have room."""
    async with window(ScriptedEngine("A short answer."), size=(60, 16)) as it:
        await it.ask("question")
        screen = it.screen
        for words in ("Scripted", "question", "A short answer.", "ready", "Write a message"):
            assert words in screen
        await it.press("ctrl+b")
        assert "Temperature" in it.screen and "Top-k" in it.screen
        await it.press("escape", "f1")
        assert "Help" in it.screen


async def test_every_shipped_theme_shows_a_conversation() -> None:
    """Light, dark and the terminal's own colours, put on while the window runs."""
    async with window(chat_engine(REPLY), options=options_of(theme=SHIPPED[0]), size=(100, 30)) as it:
        await it.ask("hi")
        for theme in SHIPPED:
            await it.send(f"/theme {theme}")
            assert it.app.theme == theme and it.toasts == ""
            assert "The sea is wide." in it.screen and "x = 1" in it.screen


@pytest.mark.parametrize(
    ("term", "colorterm", "chosen", "theme"),
    [
        ("xterm", "", "", "ansi"),
        ("linux", "", "", "ansi"),
        ("screen", "", "", "ansi"),
        ("xterm-16color", "", "", "ansi"),
        ("xterm-256color", "", "", "night"),
        ("xterm", "truecolor", "", "night"),
        ("linux", "", "day", "day"),
        ("linux", "", "night", "night"),
    ],
)
async def test_where_there_are_16_colours_they_are_the_terminals_own(
    monkeypatch: pytest.MonkeyPatch, term: str, colorterm: str, chosen: str, theme: str
) -> None:
    """A theme that was chosen is kept; where none was, the terminal says which is readable."""
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLORTERM", colorterm)
    async with window(ScriptedEngine(), options=options_of(theme=chosen)) as it:
        assert it.app.theme == theme and it.toasts == ""


async def test_a_theme_that_is_wrong_never_stops_the_start(sandbox: Path) -> None:
    """A damaged file and an unknown name are told in one toast; the usual look is on."""
    themes = sandbox / "config" / "themes"
    themes.mkdir(parents=True)
    (themes / "mine.toml").write_text('primary = "no colour"\n')
    async with window(ScriptedEngine(), options=options_of(theme="nosuch")) as it:
        assert it.app.theme == "night"
        assert "mine.toml" in it.toasts and "no theme called 'nosuch'" in it.toasts
        await it.ask("hi")


async def test_a_theme_of_ones_own_goes_before_a_shipped_one(sandbox: Path) -> None:
    """It is put on from the settings, like any other."""
    themes = sandbox / "config" / "themes"
    themes.mkdir(parents=True)
    (themes / "mine.toml").write_text('primary = "#ff0000"\nbackground = "#000000"\nforeground = "#ffffff"\n')
    async with window(ScriptedEngine(), options=options_of(theme="mine")) as it:
        assert it.app.theme == "mine" and it.toasts == ""
        assert it.app.theme_variables["foreground"].upper() == "#FFFFFF"


async def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every colour that is drawn is a grey."""
    monkeypatch.setenv("NO_COLOR", "1")
    async with window(chat_engine(REPLY)) as it:
        await it.ask("hi")
        styles = [part.style for row in it.app.screen._compositor.render_strips() for part in row if part.style]
        colors = {color.get_truecolor() for style in styles for color in (style.color, style.bgcolor) if color}
        assert len(colors) > 3
        assert [color for color in colors if len(set(color)) != 1] == []


async def test_keys_are_rebound_in_the_settings() -> None:
    """The new key works, the old one does not, and the bar shows the new one."""
    keys = {"sidebar": "f9", "prompt.newline": "ctrl+l", "turn.copy": "z", "quit": "f10"}
    async with window(ScriptedEngine(), options=options_of(keys=keys)) as it:
        await it.press("f9", "f9")
        assert not sidebar_is_seen(it.screen) and "F9 sidebar" in it.status
        await it.press("ctrl+b")
        assert not sidebar_is_seen(it.screen)
        await it.press("a", "ctrl+l", "b")
        assert it.chat.prompt.text == "a\nb"
        await it.write("")
        await it.ask("hi")
        await it.press("alt+up", "z")
        await it.until(lambda: it.app.clipboard == "Hello.")
        await it.press("ctrl+q")
        assert it.app.is_running and it.app.return_value is None
        await it.press("f10")
        assert it.app.return_value is not None


def test_a_key_for_an_action_that_does_not_exist_is_a_settings_error() -> None:
    """The start ends with the nearest known action."""
    options = StartOptions(settings=Settings(keys={"sidebra": "f9"}))
    with pytest.raises(SettingsError, match=r"no action called 'sidebra'\. Did you mean sidebar\?"):
        LlmchatApp(options)


def test_every_key_of_the_window_can_be_rebound() -> None:
    """Each binding has an id that belongs to one action alone and that the settings accept."""
    owners: dict[str, type] = {}
    for kind in (LlmchatApp, ChatScreen, *ChatScreen.PARTS):
        for binding in kind.__dict__["BINDINGS"]:
            assert binding.id, f"{kind.__name__}: {binding}"
            assert owners.setdefault(binding.id, kind) is kind, f"{binding.id} stands twice"
    for name in owners:
        LlmchatApp(StartOptions(settings=Settings(keys={name: "f12"})))


async def test_the_palette_offers_the_actions() -> None:
    """^P, a word, Enter."""
    async with window(ScriptedEngine()) as it:
        await it.ask("hi")
        await it.press("ctrl+p", *"new conv")
        palette = it.app.screen
        await it.until(lambda: not any(worker.is_running for worker in it.app.workers if worker.node is palette))
        assert "New conversation" in it.screen
        await it.press("down", "enter")
        await it.until(lambda: it.said == [])


async def test_finding_words() -> None:
    """^F, words, Enter to the next; Esc closes; n and N go on from the transcript."""
    text = "\n".join(f"line {number} {'needle' if number % 20 == 0 else 'hay'}" for number in range(60))
    async with window(
        ScriptedEngine(text), config=options_of().config.changed(max_new_tokens=2000), size=(80, 20)
    ) as it:
        await it.ask("hi")
        await it.press("ctrl+f", *"needle")
        assert "3" in it.chat.find_bar.query_one("#find-count").render().plain  # type: ignore[union-attr]
        seen = set()
        for _ in range(3):
            seen.add(it.chat.view.find_position[0])
            await it.press("enter")
        assert seen == {1, 2, 3}
        await it.press(*"x")
        assert "no match" in it.screen
        await it.press("backspace", "escape")
        assert not it.chat.find_bar.is_open and it.chat.prompt.has_focus
        place = it.chat.view.find_position[0]
        it.chat.view.focus()
        await it.press("n")
        assert it.chat.view.find_position[0] != place
        await it.press("N")
        assert it.chat.view.find_position[0] == place


async def test_two_thousand_turns_open_and_scroll_quickly(sandbox: Path) -> None:
    """A long conversation costs no more than a short one."""
    transcript = Transcript()
    for number in range(1000):
        transcript.say("user", f"Question {number} about the sea?")
        transcript.say("assistant", f"Answer {number}: it is *wide*.\n\n- salt\n- foam")
    path = sandbox / "long.toml"
    TranscriptFile.create(transcript, path).close()
    options = StartOptions(generation=options_of().generation, resume=path)
    async with window(ScriptedEngine(), options=options, size=(100, 30)) as it:
        await it.ready()
        assert "Answer 999" in it.screen
        await it.press("ctrl+home")
        assert "Question 0 about" in it.screen
        await it.press(*["pagedown"] * 20, "ctrl+end")
        assert "Answer 999" in it.screen
        await it.ask("more")
        assert it.said[-1] == ("assistant", "Hello.") and len(it.blocks) == 2002
