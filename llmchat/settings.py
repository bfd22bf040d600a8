"""The settings file: what is chosen once and holds for every start.

`Settings` is the one description of it: each field carries its help, and loading,
saving and the documentation are made from the fields. Flags of the command line
come on top by `Settings.merged`, sampling values by `resolve_generation`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from llmchat.chat.generation_config import GenerationConfig, Value, canonical_name
from llmchat.chat.model import DType, EngineName, ModelSpec, split_lora
from llmchat.chat.presets import PRESETS, REPLACED_BY_PRESETS, apply_preset
from llmchat.errors import SettingsError, UsageError
from llmchat.files import describe, describe_toml, expanded, parse_toml, write_text
from llmchat.paths import ensure, settings_path

Check = Callable[[object], Any]
"""Returns the value in the field's own type, or raises UsageError with what is accepted."""


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise UsageError(f"takes a string, not {value!r}")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"takes true or false, not {value!r}")
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1024:
        raise UsageError(f"takes a whole number from 1 to 1024, not {value!r}")
    return value


def _device(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise UsageError(f"takes auto, cpu, cuda, cuda:NUMBER or mps, not {value!r}")
    return value


def _dtype(value: object) -> str:
    if value not in get_args(DType):
        raise UsageError(f"takes one of {', '.join(get_args(DType))}, not {value!r}")
    return str(value)


def _engine(value: object) -> str:
    if value not in get_args(EngineName):
        raise UsageError(f"takes one of {', '.join(get_args(EngineName))}, not {value!r}")
    return str(value)


def _preset(value: object) -> str:
    known = {name.lower(): name for name in PRESETS}
    name = _text(value)
    if name and name.lower() not in known:
        raise UsageError(f"takes one of {', '.join(PRESETS)}, not {value!r}")
    return known.get(name.lower(), "")


def _keys(value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(keys, str) and keys for keys in value.values()):
        raise UsageError('takes lines such as sidebar = "ctrl+b,f3"')
    return dict(value)


def _generation(value: object) -> Mapping[str, Value]:
    if not isinstance(value, Mapping):
        raise UsageError("takes lines such as temperature = 0.7")
    config = GenerationConfig.from_mapping(value)
    return {name: getattr(config, name) for name in map(canonical_name, value)}


def _setting(default: Any, check: Check, text: str) -> Any:
    """A field with its check and its help; a mapping starts empty."""
    metadata = {"check": check, "help": text}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that `settings.toml` can hold. A key that is missing has the default.

    Raises:
        SettingsError: A value is not accepted.
    """

    model: str = _setting("", _text, "The model: a path, or the name of a known one; empty for the default model.")
    lora: str = _setting("", _text, "A LoRA adapter of that model, PATH or PATH:SCALE; empty for none.")
    tokenizer: str | None = _setting(
        None, _text, "The tokenizer's file or directory; by default found beside the model."
    )
    device: str = _setting("auto", _device, "Where the model runs: auto, cpu, cuda, cuda:NUMBER or mps.")
    dtype: str = _setting("auto", _dtype, "The number format to compute in: auto, float32, bfloat16 or float16.")
    engine: str = _setting(
        "auto",
        _engine,
        "What runs the model: native, torch, transformers or llama-cpp; auto takes the first of them that can.",
    )
    threads: int | None = _setting(
        None, _count, "CPU threads for the model; by default all, of which the native step takes as many as help."
    )
    ignore_memory: bool = _setting(False, _flag, "Open a model also where it seems to need more memory than is free.")
    heads: int | None = _setting(None, _count, "Attention heads, for a checkpoint that does not say.")
    chat_template: str | None = _setting(
        None,
        _text,
        "How turns become a prompt: a built-in template's name or a Jinja file; by default the model's own.",
    )
    raw: bool = _setting(False, _flag, "Continue the text as it stands, without a chat template.")
    parse_special: bool = _setting(
        False, _flag, "Read the names of control tokens in what is said, such as <|im_end|>, as the tokens."
    )
    system: str = _setting("", _text, "The system prompt that new conversations begin with.")
    preset: str = _setting("", _preset, f"The sampling preset: {', '.join(PRESETS)}; empty for the defaults.")
    theme: str = _setting(
        "", _text, "The look, by the name of a theme; empty for night, or ansi where a terminal has 16 colours."
    )
    sidebar: bool = _setting(True, _flag, "Show the sidebar of sliders where the window is wide enough.")
    autosave: bool = _setting(True, _flag, "Keep every conversation in a file.")
    kv_cache: bool = _setting(
        True, _flag, "Keep what the model has read of a conversation, so that it is gone on with at once when opened."
    )
    generation: Mapping[str, Value] = _setting({}, _generation, "Sampling values that go before the preset's.")
    keys: Mapping[str, str] = _setting({}, _keys, "Keys for actions, several with commas between.")

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None and item.default is None:
                continue
            try:
                object.__setattr__(self, item.name, item.metadata["check"](value))
            except UsageError as error:
                raise SettingsError(_join(item.name, error.message)) from None

    def merged(self, **flags: object) -> Settings:
        """These settings with the flags that were given on top; None means not given.

        Raises:
            SettingsError: A value is not accepted.
        """
        return replace(self, **{name: value for name, value in flags.items() if value is not None})  # type: ignore[arg-type]

    def model_spec(self) -> ModelSpec:
        """The model that these settings ask for; "~" stands for the home directory."""
        return ModelSpec(
            model=_expanded(self.model),
            tokenizer=self.tokenizer and _expanded(self.tokenizer),
            device=self.device,
            dtype=self.dtype,
            threads=self.threads,
            chat_template=self.chat_template and _expanded(self.chat_template),
            heads=self.heads,
            parse_special=self.parse_special,
            engine=self.engine,
            lora=_expanded(split_lora(self.lora)[0]),
            ignore_memory=self.ignore_memory,
        )

    def check_keys(self, actions: Iterable[str]) -> None:
        """Check that every rebound action is one of the window's.

        Raises:
            SettingsError: There is no such action; the nearest is named.
        """
        known = list(actions)
        for action in self.keys:
            if action not in known:
                raise SettingsError(f"[keys]: there is no action called {action!r}.{_nearest(action, known)}")


def _join(key: str, message: str) -> str:
    # Messages of sampling values name their field themselves and are whole sentences.
    return f"[{key}]: {message}" if message.endswith(".") else f"{key} {message}."


def _nearest(word: str, known: Iterable[str]) -> str:
    names = list(known)
    import difflib

    near = difflib.get_close_matches(word, names, n=1)
    return f" Did you mean {near[0]}?" if near else f" Known: {', '.join(names)}."


def _expanded(place: str) -> str:
    return str(expanded(place)) if place.startswith("~") else place


# ── the file ─────────────────────────────────────────────────────────────────


def load_settings(path: Path | None = None) -> Settings:
    """Read the settings file; without one, everything is at its default.

    Args:
        path: The file, which must exist; by default the person's own, which need not.

    Raises:
        SettingsError: It cannot be read, is no TOML (with the line), or holds an unknown key (with
            the nearest known one) or a value that is not accepted.
    """
    file = path or settings_path()
    text = ""
    try:
        text = file.read_text(encoding="utf-8-sig")
        table = parse_toml(text)
    except FileNotFoundError:
        if path is None:
            return Settings()
        raise SettingsError(f"There is no settings file {file}.") from None
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {describe(error)}.") from error
    except UnicodeDecodeError:
        raise SettingsError(f"{file} is not UTF-8 text.") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is not valid TOML, {describe_toml(error, text)}.") from None
    known = [item.name for item in fields(Settings)]
    for key in table:
        if key not in known:
            raise SettingsError(f"{file}: there is no setting called {key!r}.{_nearest(key, known)}")
    try:
        return Settings(**table)
    except SettingsError as error:
        raise SettingsError(f"{file}: {error.message}") from None


def save_settings(settings: Settings, path: Path | None = None) -> Path:
    """Write the settings file whole, each key with its help above it; return where it is.

    Raises:
        SettingsError: It cannot be written; the old file stays.
    """
    file = path or settings_path()
    try:
        ensure(file.parent)
        write_text(file, render_settings(settings))
    except OSError as error:
        raise SettingsError(f"{file} cannot be written: {describe(error)}.") from error
    return file


def render_settings(settings: Settings) -> str:
    """The settings as TOML with comments; what is at its default stands there as a comment."""
    lines = ["# Settings of llmchat. A line that begins with # shows a default."]
    tables = []
    for item in fields(Settings):
        value = getattr(settings, item.name)
        if isinstance(value, Mapping):
            tables += ["", f"# {item.metadata['help']}", f"[{item.name}]", *_lines(value)]
        else:
            shown = f"{item.name} =" if value is None else _lines({item.name: value})[0]
            lines += ["", f"# {item.metadata['help']}", f"# {shown}" if value == item.default else shown]
    return "\n".join(lines + tables) + "\n"


def _lines(values: Mapping[str, Value]) -> list[str]:
    import tomli_w

    # A seed that is rolled anew is written as -1: TOML has no null.
    plain = {name: -1 if value is None else value for name, value in values.items()}
    return tomli_w.dumps(plain).splitlines()


# ── where sampling values come from ──────────────────────────────────────────

Source = Literal["default", "preset", "settings", "flag", "session"]
"""Who set a sampling value: nobody, a preset, the settings file, the command line, or the person in the window."""


@dataclass(frozen=True, slots=True)
class ResolvedGeneration:
    """A config, and where each of its values came from."""

    config: GenerationConfig = field(default_factory=GenerationConfig)
    sources: Mapping[str, Source] = field(default_factory=dict)
    """The source of each value that somebody set."""

    def source_of(self, name: str) -> Source:
        """Who set the value of this field."""
        return self.sources.get(name, "default")

    def changed(self, values: Mapping[str, Value], source: Source = "session") -> ResolvedGeneration:
        """The same with some values set by `source`.

        Raises:
            UsageError: A name is unknown or a value is not accepted.
        """
        names = map(canonical_name, values)
        return ResolvedGeneration(
            GenerationConfig.from_mapping(values, self.config), {**self.sources, **dict.fromkeys(names, source)}
        )

    def with_preset(self, name: str) -> ResolvedGeneration:
        """The preset's sampling values; lengths, seed and stop strings stay, with their sources.

        Raises:
            UsageError: There is no such preset.
        """
        config = apply_preset(name, self.config)
        preset = next(values for known, values in PRESETS.items() if known.lower() == name.strip().lower())
        kept = {key: source for key, source in self.sources.items() if key not in REPLACED_BY_PRESETS}
        return ResolvedGeneration(config, {**kept, **dict.fromkeys(preset, "preset")})


def resolve_generation(
    settings: Settings, flags: Mapping[str, Value] | None = None, preset: str | None = None
) -> ResolvedGeneration:
    """The sampling values to start with.

    From weakest to strongest: defaults, the settings' preset, the settings' `[generation]`,
    the command line's preset, the command line's flags.

    Args:
        settings: The settings file's content.
        flags: Values given on the command line, by field.
        preset: A preset given on the command line.

    Raises:
        UsageError: A name is unknown or a value is not accepted.
    """
    resolved = ResolvedGeneration()
    if settings.preset:
        resolved = resolved.with_preset(settings.preset)
    resolved = resolved.changed(settings.generation, "settings")
    if (scale := split_lora(settings.lora)[1]) is not None:
        resolved = resolved.changed({"lora_scale": scale}, "settings")
    if preset:
        resolved = resolved.with_preset(preset)
    return resolved.changed(flags or {}, "flag")
