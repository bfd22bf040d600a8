"""The settings file, and where sampling values come from."""

from __future__ import annotations

import stat
from dataclasses import fields
from pathlib import Path

import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.errors import SettingsError, UsageError
from llmchat.paths import settings_path
from llmchat.settings import Settings, load_settings, render_settings, resolve_generation, save_settings
from tests.faults import file_size_limit

FULL = Settings(
    model="~/models/a.gguf",
    tokenizer="~/models",
    device="cuda:1",
    dtype="bfloat16",
    threads=3,
    heads=4,
    chat_template="chatml",
    raw=True,
    system='Be "brief".\nAnd kind. \\',
    preset="Creative",
    theme="day",
    sidebar=False,
    autosave=False,
    generation={"temperature": 0.7, "top_k": 0, "seed": None, "stop": ("\n\n", '"')},
    keys={"toggle_sidebar": "ctrl+b,f3", "odd.key": "f9"},
)


def written(text: str) -> Path:
    """The person's settings file with this content."""
    settings_path().parent.mkdir(parents=True, exist_ok=True)
    settings_path().write_text(text)
    return settings_path()


def test_without_a_file_everything_is_at_its_default() -> None:
    """The first start needs no settings file, and makes none."""
    assert load_settings() == Settings()
    assert not settings_path().exists()


@pytest.mark.parametrize("settings", [Settings(), FULL])
def test_what_is_saved_is_loaded(settings: Settings) -> None:
    """Every field survives, in the person's own private file."""
    path = save_settings(settings)
    assert path == settings_path()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_settings() == settings


def test_every_field_is_documented_in_the_file() -> None:
    """The file explains itself: each field's help stands above it, with its default as a comment."""
    text = render_settings(Settings())
    for item in fields(Settings):
        assert f"# {item.metadata['help']}\n" in text
        assert f"\n# {item.name} =" in text or f"\n[{item.name}]\n" in text
    assert '# device = "auto"' in text
    assert 'device = "cuda:1"' in render_settings(FULL).split("\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('modle = "x"', "there is no setting called 'modle'. Did you mean model?"),
        ("zzz = 1", "there is no setting called 'zzz'. Known: model,"),
        ("model = 3", "model takes a string, not 3"),
        ("raw = 1", "raw takes true or false, not 1"),
        ("threads = 0", "threads takes a whole number from 1 to 1024, not 0"),
        ("threads = true", "threads takes a whole number"),
        ("threads = 2.5", "threads takes a whole number"),
        ('device = "gpu"', "device takes auto, cpu, cuda, cuda:NUMBER or mps, not 'gpu'"),
        ('dtype = "int8"', "dtype takes one of auto, float32"),
        ('preset = "Wild"', "preset takes one of Greedy, Conservative, Balanced, Creative, Thinking, not 'Wild'"),
        ("[generation]\ntemperature = 9.0", "[generation]: temperature must be from 0 to 5, not 9."),
        ("[generation]\ntemprature = 0.5", "Did you mean temperature?"),
        ("[generation]\nseed = -7", "seed must be a whole number from 0"),
        ("generation = 3", "generation takes lines such as"),
        ("[keys]\nsidebar = 3", "keys takes lines such as"),
        ('model = "x"\ntheme = ', "is not valid TOML, line 2: Invalid value."),
        ("mod el = 3\n\ntheme = 3", "is not valid TOML, line 1: Expected '='"),
        ('model = "x"\nmodel = "y"', "is not valid TOML"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(text: str, said: str) -> None:
    """The message has the file, the key, what is accepted, and the nearest known key."""
    path = written(text)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(path) in caught.value.message
    assert said in caught.value.message


def test_files_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    """A directory, bytes that are no text, and a file that was asked for and is missing."""
    with pytest.raises(SettingsError, match="is a directory"):
        load_settings(tmp_path)
    written("").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load_settings()
    with pytest.raises(SettingsError, match="There is no settings file"):
        load_settings(tmp_path / "gone.toml")


def test_a_save_that_fails_keeps_the_old_file() -> None:
    """A full disk is one line, and the settings of before are still there."""
    save_settings(FULL)
    with file_size_limit(50), pytest.raises(SettingsError, match="cannot be written"):
        save_settings(Settings())
    assert load_settings() == FULL


def test_flags_go_on_top() -> None:
    """What was typed wins; what was not typed (None) stays; a bad value is refused."""
    merged = FULL.merged(theme="paper", raw=False, model=None)
    assert (merged.theme, merged.raw, merged.model) == ("paper", False, FULL.model)
    with pytest.raises(SettingsError, match="threads takes"):
        FULL.merged(threads=-1)


def test_the_model_that_is_asked_for() -> None:
    """Paths with ~ are opened in the home directory; the rest is handed on as it is."""
    spec = FULL.model_spec()
    assert spec.model == str(Path.home() / "models/a.gguf")
    assert spec.tokenizer == str(Path.home() / "models")
    assert (spec.device, spec.dtype, spec.threads, spec.heads) == ("cuda:1", "bfloat16", 3, 4)
    assert Settings().model_spec() == type(spec)()


def test_keys_of_unknown_actions_are_refused() -> None:
    """A typing mistake in a key binding is said, not passed over."""
    FULL.check_keys(["toggle_sidebar", "odd.key"])
    with pytest.raises(SettingsError, match=r"no action called 'odd\.key'. Did you mean odd_key\?"):
        FULL.check_keys(["toggle_sidebar", "odd_key"])


def test_each_sampling_value_knows_its_source() -> None:
    """Flags go before the command line's preset, that before the settings, those before their preset."""
    settings = Settings(preset="Creative", generation={"top_k": 10, "max_new_tokens": 64})
    resolved = resolve_generation(settings, {"min_p": 0.1})
    assert resolved.config == GenerationConfig(temperature=1.5, top_k=10, max_new_tokens=64, min_p=0.1)
    sources = {name: resolved.source_of(name) for name in ("temperature", "top_k", "max_new_tokens", "min_p", "top_p")}
    assert sources == {
        "temperature": "preset", "top_k": "settings", "max_new_tokens": "settings", "min_p": "flag", "top_p": "default",
    }  # fmt: skip


def test_a_preset_on_the_command_line_replaces_the_settings_sampling() -> None:
    """`--preset greedy` is exactly that preset; lengths of the settings stay."""
    settings = Settings(preset="Creative", generation={"top_k": 10, "max_new_tokens": 64, "stop": ("x",)})
    resolved = resolve_generation(settings, preset="greedy")
    assert resolved.config == GenerationConfig(do_sample=False, max_new_tokens=64, stop=("x",))
    assert [resolved.source_of(name) for name in ("do_sample", "top_k", "temperature", "max_new_tokens", "stop")] == [
        "preset", "default", "default", "settings", "settings",
    ]  # fmt: skip


def test_a_move_in_the_window_is_a_source_too() -> None:
    """The sidebar can say that a value was moved by hand; aliases count, bad values are refused."""
    resolved = resolve_generation(Settings()).changed({"temp": 1.2})
    assert (resolved.config.temperature, resolved.source_of("temperature")) == (1.2, "session")
    with pytest.raises(UsageError, match="from 0 to 5"):
        resolved.changed({"temperature": 9})
    with pytest.raises(UsageError, match="no preset"):
        resolved.with_preset("wild")


def test_a_wrong_combination_is_said() -> None:
    """Values that are right alone and wrong together are refused when they meet."""
    with pytest.raises(UsageError, match=r"min_new_tokens \(100\) must not be above max_new_tokens \(50\)"):
        resolve_generation(Settings(generation={"min_new_tokens": 100}), {"max_new_tokens": 50})
