"""Choosing a model, and the form of settings."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input, Select

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints import catalog
from llmchat.paths import recent_models_path, settings_path
from llmchat.settings import Settings, load_settings
from llmchat.ui.recent_models import recent_models, remember
from llmchat.ui.screens.file_browser import FileBrowser
from llmchat.ui.screens.model_picker import ModelPicker
from llmchat.ui.screens.settings_screen import SettingRow, SettingsScreen
from llmchat.ui.screens.setup import SetupScreen
from llmchat.ui.widgets.choice_list import ChoiceList
from llmchat.ui.widgets.verdict_line import VerdictLine
from tests.ui.helpers import wait_until
from tests.ui.themed import ThemedApp


class DialogApp(ThemedApp):
    """An app with one screen on top."""

    AUTO_FOCUS = "*"

    def __init__(self, dialog: Screen[Any]) -> None:
        super().__init__()
        self.dialog = dialog
        self.results: list[Any] = []

    def on_mount(self) -> None:
        """Show the screen and note its answer."""
        self.push_screen(self.dialog, self.results.append)


@asynccontextmanager
async def shown(dialog: Screen[Any], size: tuple[int, int] = (90, 30)) -> AsyncIterator[tuple[DialogApp, Pilot[Any]]]:
    """A dialog in a window of that size."""
    app = DialogApp(dialog)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield app, pilot


async def test_a_named_model_keeps_device_and_threads() -> None:
    """The answer is a whole spec: another model on the same device, without the old one's tokenizer."""
    spec = ModelSpec("/old/model.pt", tokenizer="/old/tokenizer", device="cpu", threads=2, heads=4)
    async with shown(ModelPicker(spec)) as (app, pilot):
        await pilot.press("home", "down", "enter")
        await pilot.pause()
        assert app.results == [ModelSpec("tiny", device="cpu", threads=2)]


async def test_the_list_says_what_is_on_the_disk(tiny_dir: Path) -> None:
    """Named models with size and place, the open file and those used before with their kind, then the browser."""
    model = str(tiny_dir / "model" / "model.pt")
    picker = ModelPicker(ModelSpec(model), recent=[ModelSpec("/gone.gguf"), ModelSpec(model)])
    async with shown(picker):
        rows = [str(option.prompt) for option in picker.choices.options]
        assert len(rows) == 5 + len(catalog.recommended_models())
        assert "98 MB, to be fetched" in rows[0]
        assert "on this machine" in rows[1] and "of memory" in rows[1]
        assert "PyTorch checkpoint" in rows[2]
        assert "no such file" in rows[3]
        assert picker.choices.choice is not None and picker.choices.choice.id == model


async def test_no_model_is_listed_twice(tiny_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default is one row, also where its file was named; so is a file under a relative and its whole path."""
    model = tiny_dir / "model" / "model.pt"
    monkeypatch.chdir(tiny_dir)
    default = catalog.default_model()
    recent = [ModelSpec(str(default.path)), ModelSpec(str(model), tokenizer="/a"), ModelSpec("runs/step_*.pt")]
    async with shown(ModelPicker(ModelSpec("model/model.pt"), recent)) as (app, pilot):
        titles = [str(option.prompt).splitlines()[0][2:] for option in app.screen.query_one(ChoiceList).options]
        listed = [model.name for model in catalog.recommended_models()]
        assert titles == [default.title, "tiny", "model.pt", "step_*.pt", *listed, "Another…"]
        await pilot.press("down", "enter")
        await pilot.pause()
        assert app.results == [ModelSpec("runs/step_*.pt")]
    async with shown(ModelPicker(ModelSpec(str(default.path)))) as (app, _):
        choice = app.screen.query_one(ChoiceList).choice
        assert choice is not None and choice.id == default.name


async def test_models_opened_by_path_are_remembered(tiny_dir: Path, tmp_path: Path) -> None:
    """The newest first, each once, with the tokenizer that it was opened with; those with a name are not kept."""
    model, other = tiny_dir / "model" / "model.pt", tmp_path / "other.gguf"
    for spec in (ModelSpec(str(model), tokenizer="/a"), ModelSpec(str(other)), ModelSpec("tiny"), ModelSpec()):
        remember(spec)
    remember(ModelSpec(str(model), tokenizer="/b", device="cpu"))
    assert recent_models() == [ModelSpec(str(model), tokenizer="/b"), ModelSpec(str(other))]
    remember(ModelSpec("~nosuchuser/a.gguf"))
    assert Path(recent_models()[0].model).name == "a.gguf"
    remember(ModelSpec("~/b.gguf"))
    assert recent_models()[0].model == str(Path.home() / "b.gguf")
    with recent_models_path().open("a") as file:
        file.write("[1]\nnonsense\n{}\n" + "[" * 100_000 + "\n")
    assert len(recent_models()) == 4
    recent_models_path().write_bytes(b"\xff\xfe")
    assert recent_models() == []
    async with shown(ModelPicker(ModelSpec("tiny"), [ModelSpec(str(model), tokenizer="/b")])) as (app, pilot):
        await pilot.press("home", "down", "down", "enter")
        await pilot.pause()
        assert app.results == [ModelSpec(str(model), tokenizer="/b")]


async def test_another_file_by_the_browser(tiny_dir: Path) -> None:
    """A file with its tokenizer beside it is opened as it is."""
    model = tiny_dir / "model" / "model.pt"
    async with shown(ModelPicker(ModelSpec(str(model)))) as (app, pilot):
        await pilot.press("end", "enter")
        await pilot.pause()
        browser = app.screen
        assert isinstance(browser, FileBrowser)
        await wait_until(pilot, lambda: browser.files.root.children, "the tree")
        await pilot.press("down", "enter")
        await pilot.pause()
        assert app.results == [ModelSpec(str(model))]


async def test_a_file_without_tokenizer_asks_for_it(tiny_dir: Path, tmp_path: Path) -> None:
    """Where no tokenizer lies beside a checkpoint, a second browser asks for it."""
    place = tmp_path / "a" / "b"
    place.mkdir(parents=True)
    model = shutil.copy(tiny_dir / "model" / "model.pt", place / "model.pt")
    async with shown(ModelPicker(ModelSpec(), recent=[ModelSpec(str(model))])) as (app, pilot):
        await pilot.press("home", "down", "down", "enter")
        await pilot.pause()
        browser = app.screen
        assert isinstance(browser, FileBrowser)
        browser.line.focus()
        tokenizer = str(tiny_dir / "tokenizer" / "tokenizer.model")
        browser.line.write(tokenizer)
        await pilot.press("enter")
        await pilot.pause()
        assert app.results == [ModelSpec(str(model), tokenizer=tokenizer)]


async def test_a_file_that_is_gone_is_said_inline() -> None:
    """The picker stays open, so that another one can be chosen; Esc keeps the model."""
    async with shown(ModelPicker(ModelSpec(), recent=[ModelSpec("/gone.gguf")]), size=(60, 16)) as (app, pilot):
        await pilot.press("home", "down", "down", "enter")
        await pilot.pause()
        assert "no such file" in app.screen.query_one(VerdictLine).text
        await pilot.press("escape")
        await pilot.pause()
        assert app.results == [None]


# ── the form of settings ──


async def test_every_plain_setting_has_a_row_and_saving_untouched_changes_nothing() -> None:
    """The form is made from the fields of Settings; what is not in it is kept."""
    settings = Settings(model="tiny", threads=2, raw=True, device="cuda:1", keys={"sidebar": "f9"})
    async with shown(SettingsScreen(settings)) as (app, pilot):
        keys = {row.key for row in app.screen.query(SettingRow)}
        assert keys == {item.name for item in fields(Settings)} - {"generation", "keys"}
        await pilot.press("f2")
        await pilot.pause()
        assert app.results == [settings]
    assert load_settings() == settings


async def test_changed_settings_are_saved() -> None:
    """Switches, lists, numbers and text come back as the fields take them."""
    async with shown(SettingsScreen(Settings())) as (app, pilot):
        rows = {row.key: row for row in app.screen.query(SettingRow)}
        rows["autosave"].query_one(Select).value = "off"
        rows["preset"].query_one(Select).value = "Creative"
        rows["threads"].query_one(Input).value = "3"
        rows["system"].query_one(Input).value = "Be brief."
        await pilot.click("#settings-save")
        await pilot.pause()
    expected = Settings(autosave=False, preset="Creative", threads=3, system="Be brief.")
    assert app.results == [expected]
    assert load_settings() == expected


@pytest.mark.parametrize(("key", "text"), [("threads", "many"), ("threads", "0"), ("heads", "1.5")])
async def test_a_wrong_value_is_said_and_nothing_is_written(key: str, text: str) -> None:
    """The line names the setting; the file stays as it was."""
    async with shown(SettingsScreen(Settings())) as (app, pilot):
        row = next(row for row in app.screen.query(SettingRow) if row.key == key)
        row.query_one(Input).value = text
        await pilot.press("f2")
        await pilot.pause()
        assert key in app.screen.query_one(VerdictLine).text
        assert app.results == []
    assert not settings_path().exists()


async def test_opening_the_form_changes_no_theme_and_esc_takes_a_preview_back() -> None:
    """A theme is put on as it is chosen, not before, and only saving keeps it."""
    screen = SettingsScreen(Settings(theme="nord"))
    async with shown(screen, size=(60, 16)) as (app, pilot):
        before = app.theme
        assert before != "nord"
        row = next(row for row in screen.query(SettingRow) if row.key == "theme")
        row.query_one(Select).value = "dracula"
        await pilot.pause()
        assert app.theme == "dracula"
        await pilot.press("escape")
        await pilot.pause()
        assert app.results == [None]
        assert app.theme == before


async def test_the_guided_set_up_is_a_button_away() -> None:
    """What the set-up saves is the form's answer too."""
    async with shown(SettingsScreen(Settings(model="tiny"))) as (app, pilot):
        await pilot.click("#settings-setup")
        await pilot.pause()
        assert isinstance(app.screen, SetupScreen)
        await pilot.press("pagedown", "pagedown", "pagedown", "pagedown", "pagedown", "enter")
        await pilot.pause()
        assert [result.model for result in app.results] == ["tiny"]
