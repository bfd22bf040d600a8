"""What the package offers by name, and that its documents tell the same as its code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import llmchat
from llmchat import cli_options
from llmchat.chat.generation_config import SAMPLING_SPECS
from llmchat.chat.presets import PRESETS
from llmchat.errors import GenerationError, ModelLoadError, TranscriptError, UsageError

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_every_public_name_is_there_and_told() -> None:
    """The names of __all__ can be imported, are listed by dir, and have a docstring."""
    for name in llmchat.__all__:
        assert name in dir(llmchat)
        assert inspect.getdoc(getattr(llmchat, name))
    with pytest.raises(AttributeError, match="no attribute 'generate'"):
        _ = llmchat.generate


def test_the_version_is_the_changelogs() -> None:
    """The changelog begins with what is to come, or with this version."""
    versions = re.findall(r"^## \[?([^\]\s]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions and versions[0] in ("Unreleased", llmchat.__version__)


def test_the_readmes_table_is_the_codes() -> None:
    """Flags, defaults, ranges and words of the README's table are those of SAMPLING_SPECS."""
    rows = {
        f"| `--{spec.name.replace('_', '-')}` | {spec.default:g} | {spec.range_text} | {spec.help} |"
        for spec in SAMPLING_SPECS
    }
    told = set(re.findall(r"^\| `--.*\|$", README, re.MULTILINE))
    assert told == rows
    assert not [name for name in PRESETS if f"**{name}**" not in README]


def test_every_flag_in_the_readme_exists() -> None:
    """No document promises a flag that the program does not know."""
    known = {name for option in cli_options.OPTIONS for name in option.opts + option.secondary_opts}
    others = {"--help", "--format", "--turn", "--only-binary", "--no-deps", "--args", "--inplace", "--cases", "--clean"}
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))
    assert told - known - others == set()


def test_exit_codes_are_the_readmes() -> None:
    """The table of exit codes is that of the errors."""
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    errors = (UsageError, ModelLoadError, GenerationError, TranscriptError)
    assert {0, 130, 141} | {error.exit_code for error in errors} <= codes
