"""The guided set-up, driven by keys and mouse, with the real tiny llmbuilder model for its trial."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Semaphore
from typing import Any

import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Button, Input, Static

from llmchat.errors import UsageError
from llmchat.paths import settings_path
from llmchat.settings import Settings, load_settings
from llmchat.themes import load_themes
from llmchat.ui.model_files import check_model, check_tokenizer
from llmchat.ui.screens.file_browser import FileBrowser
from llmchat.ui.screens.setup import SetupScreen
from llmchat.ui.screens.setup_steps import DeviceStep, ModelStep, PresetStep, ThemeStep, TokenizerStep
from llmchat.ui.screens.setup_trial import TrialStep
from llmchat.ui.widgets.path_input import complete_path
from llmchat.ui.widgets.verdict_line import VerdictLine
from tests.fakes import ScriptedEngine
from tests.ui.helpers import wait_until, worker_of
from tests.ui.themed import ThemedApp


class SetupApp(ThemedApp):
    """An app with llmchat's themes and the set-up on top."""

    AUTO_FOCUS = "*"

    def __init__(self, screen: SetupScreen) -> None:
        super().__init__()
        self.setup_screen = screen
        self.results: list[Settings | None] = []
        for theme in load_themes().themes.values():
            self.register_theme(theme)
        self.theme = "night"

    def on_mount(self) -> None:
        """Show the set-up and note how it ends."""
        self.push_screen(self.setup_screen, self.results.append)


class Guide:
    """A person at the set-up."""

    def __init__(self, app: SetupApp, pilot: Pilot[Any]) -> None:
        self.app = app
        self.screen = app.setup_screen
        self.pilot = pilot

    @property
    def title(self) -> str:
        """The step in front."""
        return self.screen.step.TITLE

    async def press(self, *keys: str) -> None:
        """Press keys."""
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def until(self, is_so: Callable[[], object], what: str = "") -> None:
        """Wait until something is so."""
        await wait_until(self.pilot, is_so, what)

    async def go_to(self, title: str) -> None:
        """Press PgDn until a step is in front."""
        for _ in range(10):
            if self.title == title:
                return
            await self.press("pagedown")
        raise AssertionError(f"no way to {title} from {self.title}: {self.verdict()}")

    async def choose_file(self, path: Path) -> None:
        """Name a model file in the first step."""
        await self.press("end", "enter")
        line = self.screen.query_one(ModelStep).line
        assert line.has_focus
        line.write(str(path))
        await self.pilot.pause()

    def verdict(self) -> str:
        """What the screen says is wrong with an answer."""
        return self.screen.query_one("#setup-message", VerdictLine).text


@asynccontextmanager
async def guide(
    settings: Settings | None = None, size: tuple[int, int] = (100, 30), **arguments: Any
) -> AsyncIterator[Guide]:
    """The set-up in a window of that size."""
    app = SetupApp(SetupScreen(settings or Settings(), **arguments))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield Guide(app, pilot)


async def test_enter_alone_leads_to_a_settings_file() -> None:
    """Whoever takes every default by Enter gets a valid file with the defaults; the tokenizer is not asked for."""
    async with guide() as person:
        seen = []
        while person.title != "Try it":
            seen.append(person.title)
            await person.press("enter")
        assert seen == ["Model", "Device", "Preset", "Theme"]
        await person.press("pagedown")
        await person.press("enter")
        await person.until(lambda: person.app.results, "it is kept")
        assert person.app.results == [Settings()]
    assert load_settings() == Settings()


async def test_a_file_with_its_tokenizer_beside_it(tiny_dir: Path) -> None:
    """A .pt file is judged at once, its tokenizer is found, and every answer comes into the file."""
    model = tiny_dir / "model" / "model.pt"
    async with guide() as person:
        await person.choose_file(model)
        assert "PyTorch checkpoint" in person.screen.query_one(ModelStep).found.text
        assert "with a tokenizer beside it" in person.screen.query_one(ModelStep).found.text
        await person.press("enter")
        assert person.title == "Tokenizer"
        assert person.screen.query_one(TokenizerStep).line.value.endswith("tokenizer.model")
        await person.press("enter", "down")
        person.screen.query_one(DeviceStep).threads.value = "2"
        await person.press("enter", "down", "enter", "enter")
        await person.go_to("Save")
        await person.press("enter")
        expected = Settings(model=str(model), device="cpu", threads=2, preset="Creative")
        assert person.app.results == [expected]
    assert load_settings() == expected


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("nowhere.pt", None, "no such file"),
        ("empty.gguf", b"", "is empty"),
        ("story.txt", b"once upon a time", "neither a GGUF file nor"),
    ],
)
async def test_a_wrong_model_is_said_at_once_and_holds_the_step(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    """The line below the path says what is wrong, and Next does not go on."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    async with guide() as person:
        await person.choose_file(tmp_path / name)
        assert words in person.screen.query_one(ModelStep).found.text
        await person.press("enter")
        assert person.title == "Model"
        assert words in person.verdict()


async def test_a_model_without_tokenizer_asks_for_one(tiny_dir: Path, tmp_path: Path) -> None:
    """Where none lies beside the model, nothing is filled in, and the one that is named is kept."""
    place = tmp_path / "a" / "b"
    place.mkdir(parents=True)
    shutil.copy(tiny_dir / "model" / "model.pt", place / "model.pt")
    async with guide() as person:
        await person.choose_file(place / "model.pt")
        await person.press("enter")
        step = person.screen.query_one(TokenizerStep)
        assert person.title == "Tokenizer" and step.line.value == ""
        await person.press("enter")
        assert person.title == "Tokenizer" and "tokenizer" in person.verdict()
        step.line.write(str(tiny_dir / "tokenizer"))
        await person.press("enter")
        assert person.title == "Device"
        assert person.screen.draft.tokenizer == str(tiny_dir / "tokenizer")


async def test_threads_must_be_a_number() -> None:
    """A wrong number of threads is refused with the range."""
    async with guide() as person:
        await person.go_to("Device")
        person.screen.query_one(DeviceStep).threads.value = "0"
        await person.press("pagedown")
        assert person.title == "Device"
        assert "1 to 1024" in person.verdict()


async def test_back_keeps_the_answers() -> None:
    """PgUp and the Back button go a step back without forgetting anything."""
    async with guide() as person:
        await person.press("down", "enter")
        await person.press("down", "enter")
        assert person.title == "Preset"
        await person.press("pageup")
        assert person.title == "Device"
        await person.pilot.click("#setup-back")
        await person.pilot.pause()
        assert person.title == "Model"
        assert person.screen.draft.model == "tiny" and person.screen.draft.device == "cpu"
        assert person.screen.query_one(ModelStep).choices.choice is not None


async def test_the_mouse_alone_suffices() -> None:
    """A click chooses a row, and a click on Next goes on."""
    async with guide() as person:
        await person.pilot.click(person.screen.query_one(ModelStep).choices, offset=(5, 2))
        await person.pilot.pause()
        await person.pilot.click("#setup-next")
        await person.pilot.pause()
        assert person.title == "Device"
        assert person.screen.draft.model == "tiny"


async def test_a_theme_is_put_on_at_once_and_taken_off_by_esc() -> None:
    """Moving through the themes shows each; leaving restores the old one and writes nothing."""
    async with guide() as person:
        await person.go_to("Theme")
        await person.press("up")
        changed = person.app.theme
        assert changed != "night"
        assert person.screen.query_one(ThemeStep).choices.choice is not None
        await person.press("escape")
        assert person.app.results == [None]
        assert person.app.theme == "night"
    assert not settings_path().exists()


async def test_settings_that_are_not_asked_for_are_kept() -> None:
    """Keys, sampling values and the system prompt of the file survive; the preset page says that they go first."""
    settings = Settings(system="Be brief.", generation={"top_k": 20}, keys={"sidebar": "f9"}, preset="Creative")
    async with guide(settings) as person:
        await person.go_to("Preset")
        assert person.screen.query_one("#preset-note").display
        await person.go_to("Save")
        await person.press("enter")
    assert load_settings() == settings


async def test_another_model_drops_what_belonged_to_the_old_one() -> None:
    """Tokenizer, heads and template of the old model do not spoil the new one."""
    settings = Settings(model="/old/model.pt", tokenizer="/old/tokenizer", heads=4, chat_template="chatml")
    async with guide(settings) as person:
        await person.press("home", "enter")
        draft = person.screen.draft
        assert (draft.model, draft.tokenizer, draft.heads, draft.chat_template) == ("", None, None, None)


async def test_what_cannot_be_written_is_said_on_the_screen(tmp_path: Path) -> None:
    """A settings file in the place of a directory is one line; the set-up stays."""
    (tmp_path / "file").write_text("")
    async with guide(path=tmp_path / "file" / "settings.toml") as person:
        await person.go_to("Save")
        await person.press("enter")
        assert person.verdict()
        assert person.app.results == []


async def test_the_save_page_gives_the_flags() -> None:
    """Everything that is written can be given on the command line; the page shows how."""
    async with guide(Settings(model="tiny", device="cpu", threads=3, preset="Greedy")) as person:
        await person.go_to("Save")
        summary = str(person.screen.query_one("#save-summary", Static).render())
        assert "llmchat --model tiny --device cpu --threads 3 --preset Greedy" in summary
        assert str(settings_path()) in summary


@pytest.mark.parametrize("size", [(60, 16), (40, 10), (160, 50)])
async def test_every_step_can_be_answered_in_any_window(size: tuple[int, int]) -> None:
    """In small windows, too, the buttons stay in sight and every step is reached."""
    async with guide(size=size) as person:
        for title in ("Device", "Preset", "Theme", "Try it", "Save"):
            await person.press("pagedown")
            assert person.title == title
            button = person.screen.query_one("#setup-next", Button)
            assert person.screen.region.contains_region(button.region)


# ── the trial ──


async def test_the_trial_streams_a_reply_of_the_real_model(tiny_dir: Path) -> None:
    """The chosen files are opened by a real worker and answer the sample prompt; nothing is saved by that."""
    settings = Settings(model=str(tiny_dir / "model" / "model.pt"), device="cpu", generation={"max_new_tokens": 20})
    async with guide(settings) as person:
        await person.go_to("Try it")
        step = person.screen.query_one(TrialStep)
        await person.press("enter")
        await person.until(lambda: "works on cpu" in str(step.status.render()), "the trial's reply")
        assert len(str(step.reply.render())) > 20
        await person.press("enter")
        await person.until(lambda: not step.is_running, "the second reply")
        assert "works on cpu: 20 tokens" in str(step.status.render())
        await person.press("escape")
    assert not settings_path().exists()


async def test_a_failed_trial_is_one_line_and_back_mends_it(tmp_path: Path, tiny_dir: Path) -> None:
    """What is wrong with a file that only looks like a model is said inline; another model then works."""
    fake = tmp_path / "model.pt"
    fake.write_bytes(b"PK\x03\x04 no archive")
    settings = Settings(model=str(fake), tokenizer=str(tiny_dir / "tokenizer"))
    async with guide(settings) as person:
        await person.go_to("Try it")
        step = person.screen.query_one(TrialStep)
        await person.press("enter")
        await person.until(lambda: step.status.has_class("-bad"), "the error")
        assert "\n" not in str(step.status.render())
        for _ in range(5):
            await person.press("pageup")
        assert person.title == "Model"
        await person.press("home", "down")
        await person.go_to("Try it")
        await person.press("enter")
        await person.until(lambda: "works" in str(step.status.render()), "the trial's reply")


async def test_esc_stops_the_trial_before_it_leaves() -> None:
    """The first Esc stops a reply, the next leaves; going back stops it as well."""
    gate = Semaphore(4)
    engine = ScriptedEngine("so " * 100, gate=gate)
    settings = Settings(model="tiny", preset="Greedy", generation={"repetition_penalty": 1.0})
    async with guide(settings, make_worker=worker_of(engine)) as person:
        await person.go_to("Try it")
        step = person.screen.query_one(TrialStep)
        await person.press("enter")
        await person.until(lambda: step.is_running and str(step.reply.render()), "some of the reply")
        await person.press("escape")
        gate.release(1000)
        await person.until(lambda: not step.is_running, "the reply is stopped")
        assert person.app.results == []
        assert len(str(step.reply.render())) < 10
        await person.press("escape")
        assert person.app.results == [None]


async def test_escape_sequences_of_a_model_are_shown() -> None:
    """The trial's pane never passes a control character on."""
    engine = ScriptedEngine("a\x1b[31mb [bold]c")
    settings = Settings(model="tiny", preset="Greedy", generation={"repetition_penalty": 1.0})
    async with guide(settings, make_worker=worker_of(engine)) as person:
        await person.go_to("Try it")
        step = person.screen.query_one(TrialStep)
        await person.press("enter")
        await person.until(lambda: "works" in str(step.status.render()), "the reply")
        assert str(step.reply.render()) == "a␛[31mb [bold]c"


# ── the file browser ──


class BrowserApp(App[str]):
    """An app with the file browser on top."""

    def __init__(self, browser: FileBrowser) -> None:
        super().__init__()
        self.browser = browser
        self.results: list[Path | None] = []

    def on_mount(self) -> None:
        """Show the browser and note its choice."""
        self.push_screen(self.browser, self.results.append)


@asynccontextmanager
async def browsing(start: Path) -> AsyncIterator[tuple[BrowserApp, Pilot[Any]]]:
    """The file browser at some directory, its tree read."""
    app = BrowserApp(FileBrowser(start))
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_until(pilot, lambda: app.browser.files.root.children, "the tree")
        yield app, pilot


async def test_the_browser_shows_models_and_directories_only(tiny_dir: Path) -> None:
    """A file is chosen by Enter; what is no model is not offered."""
    async with browsing(tiny_dir / "model") as (app, pilot):
        assert [str(node.label) for node in app.browser.files.root.children] == ["model.pt"]
        await pilot.press("down", "enter")
        await pilot.pause()
        assert app.results == [tiny_dir / "model" / "model.pt"]


async def test_the_browser_takes_a_hugging_face_directory(tmp_path: Path) -> None:
    """A directory with a config.json is chosen as a whole; Backspace shows the directory above."""
    model, below = tmp_path / "model", tmp_path / "other"
    model.mkdir()
    below.mkdir()
    (below / "deeper").mkdir()
    (model / "config.json").write_text("{}")
    async with browsing(below) as (app, pilot):
        await pilot.press("backspace")
        await wait_until(pilot, lambda: len(app.browser.files.root.children) == 2, "the directory above")
        app.browser.files.move_cursor(app.browser.files.root.children[0])
        await pilot.press("enter")
        await pilot.pause()
        assert app.results == [model]


async def test_a_path_can_be_typed_into_the_browser(tiny_dir: Path) -> None:
    """Tab completes a path; a directory is shown, a file is chosen, anything else is refused."""
    async with browsing(tiny_dir / "model") as (app, pilot):
        line = app.browser.line
        line.focus()
        line.write(str(tiny_dir / "nothing"))
        await pilot.press("enter")
        await pilot.pause()
        assert app.browser.query_one(VerdictLine).text
        line.write(str(tiny_dir / "mod"))
        await wait_until(pilot, lambda: line._suggestion, "the completion")
        await pilot.press("tab", "enter")
        await pilot.pause()
        assert Path(app.browser.files.path) == tiny_dir / "model"
        line.focus()
        line.write(str(tiny_dir / "model" / "model.pt"))
        await pilot.press("enter")
        await pilot.pause()
        assert app.results == [tiny_dir / "model" / "model.pt"]


def test_paths_complete_by_one_name(tmp_path: Path) -> None:
    """Directories get a separator, hidden files wait to be asked for, words are no paths."""
    (tmp_path / "models").mkdir()
    (tmp_path / ".hidden").write_text("")
    assert complete_path(f"{tmp_path}/mo") == f"{tmp_path}/models/"
    assert complete_path(f"{tmp_path}/.h") == f"{tmp_path}/.hidden"
    assert complete_path(f"{tmp_path}/x") is None
    assert complete_path(f"{tmp_path}/") is None
    assert complete_path("mo") is None
    assert complete_path("~nobody-of-that-name/x") is None


# ── judging paths ──


def test_kinds_of_models_are_told_apart(tmp_path: Path, tiny_dir: Path) -> None:
    """The first bytes decide, and whether the model brings its tokenizer."""
    gguf = tmp_path / "some.bin"
    gguf.write_bytes(b"GGUF....")
    assert check_model(str(gguf)).has_tokenizer
    checkpoint = check_model(str(tiny_dir / "model"))
    assert checkpoint.path == tiny_dir / "model" / "model.pt"
    assert checkpoint.tokenizer == (tiny_dir / "tokenizer" / "tokenizer.model").absolute()
    directory = tmp_path / "hf"
    directory.mkdir()
    (directory / "model.safetensors").write_bytes(b"12345678")
    with pytest.raises(UsageError, match=r"config\.json"):
        check_model(str(directory / "model.safetensors"))
    (directory / "config.json").write_text("{}")
    assert check_model(str(directory)).kind == "Hugging Face directory"
    assert not check_model(str(directory)).has_tokenizer
    assert check_model("hf:HuggingFaceTB/SmolLM2-135M").has_tokenizer


def test_strange_paths_are_refused_in_words(tmp_path: Path) -> None:
    """Nothing, zero bytes, endless names and devices give a sentence, never another error."""
    for text in ("", " ", "\0", "x" * 5000, "/dev/null", str(tmp_path)):
        with pytest.raises(UsageError):
            check_model(text)
        with pytest.raises(UsageError):
            check_tokenizer(text if text != "/dev/null" else str(tmp_path / "none"))


async def test_presets_are_explained() -> None:
    """Every preset has its values and a sentence on the page."""
    async with guide() as person:
        await person.go_to("Preset")
        rows = person.screen.query_one(PresetStep).choices.options
        assert "temperature 1.5" in str(rows[3].prompt)
        assert person.screen.query_one(PresetStep).choices.choice is not None
        assert len(person.screen.query(Input)) >= 3
