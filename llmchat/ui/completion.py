"""What Tab can add to a slash command: command names, settings, files and other names.

Pure but for listing one folder when a path is completed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from llmchat.chat.comparison import AS_IT_IS
from llmchat.chat.generation_config import SPEC_BY_NAME, GenerationConfig, canonical_name
from llmchat.chat.presets import PRESETS
from llmchat.chat.setting_values import SETTING_KINDS
from llmchat.chat.template_args import THINK_WORDS
from llmchat.errors import UsageError
from llmchat.files import expanded
from llmchat.ui.commands import CHECKPOINT_WORDS, COMMAND_BY_NAME, COMMANDS, COPY_FORMS, ArgumentKind, CommandSpec
from llmchat.ui.rendering.heat import HEAT_MODES

Names = Callable[[], Iterable[str]]
"""Gives the known names of a kind, such as the installed themes, when they are needed."""

MOST_CANDIDATES = 50
"""No more candidates than this are offered."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What may stand in place of the word being typed."""

    start: int
    """Where that word begins, in characters of the line."""
    candidates: tuple[str, ...] = ()
    """Whole words for its place, the likeliest first."""
    hint: str = ""
    """The command's usage and help, once its name is typed."""


def complete(line: str, names: Mapping[ArgumentKind, Names] | None = None) -> Completion | None:
    """What the slash command at the end of `line` may go on with; None if it is no command.

    Args:
        line: The prompt up to the cursor.
        names: Where the names of models, themes and the like come from.
    """
    match = re.match(r"/([A-Za-z_-]*)\Z", line)
    if match:
        return _complete_name(match[1].lower())
    match = re.match(r"/([A-Za-z_-]+)\s+", line)
    spec = COMMAND_BY_NAME.get(match[1].lower()) if match else None
    if match is None or spec is None or spec.kind == "none":
        return None
    return _complete_argument(spec, line, match.end(), names or {})


def common_start(words: Sequence[str]) -> str:
    """The letters that all words, of which there is at least one, begin with."""
    first, *others = words
    return next((first[:end] for end in range(len(first), 0, -1) if all(w.startswith(first[:end]) for w in others)), "")


def _complete_name(typed: str) -> Completion:
    exact = COMMAND_BY_NAME.get(typed)
    own = [spec.name for spec in COMMANDS if spec.name.startswith(typed)]
    other = [word for word in COMMAND_BY_NAME if word.startswith(typed) and word not in own]
    hint = f"{exact.usage}: {exact.help}" if exact else ""
    # An empty "/" shows the commands themselves, not their other names.
    return Completion(1, tuple(own + (other if typed and not own else [])), hint)


def _complete_argument(spec: CommandSpec, line: str, start: int, names: Mapping[ArgumentKind, Names]) -> Completion:
    typed = line[start:]
    hint = f"{spec.usage}: {spec.help}"
    if spec.kind == "path":
        return (_complete_copy if spec.name == "copy" else _complete_path)(typed, start, hint)
    if spec.kind == "setting":
        value = re.match(r"([^\s=]+)(?:\s*=\s*|\s+)", typed)
        if value and spec.name == "set":
            return _complete_value(value[1], line, start + value.end(), _setting_hint(value[1]) or hint)
        hint = _setting_hint(typed) or hint
    if spec.kind in ("compare", "sweep"):
        return _complete_trial(spec, typed, start, hint)
    words = _words_of(spec.kind, names)
    found = [word for word in words if word.lower().startswith(typed.lower())]
    return Completion(start, tuple(found[:MOST_CANDIDATES]), hint)


def _words_of(kind: ArgumentKind, names: Mapping[ArgumentKind, Names]) -> Iterable[str]:
    if kind == "setting":
        return [item.name for item in fields(GenerationConfig)]
    if kind == "preset":
        return PRESETS
    if kind == "command":
        return [spec.name for spec in COMMANDS]
    fixed: Mapping[ArgumentKind, tuple[str, ...]] = {
        "switch": ("on", "off"),
        "think": THINK_WORDS,
        "seed": ("lock", "roll"),
        "heat": HEAT_MODES,
        "checkpoint": CHECKPOINT_WORDS,
        "yes": ("yes",),
    }
    return fixed.get(kind) or (names[kind]() if kind in names else ())


def _complete_trial(spec: CommandSpec, typed: str, start: int, hint: str) -> Completion:
    """The setting or preset at the end of a comparison, or the parameter of a sweep."""
    if " -- " in typed or (spec.kind == "sweep" and re.search(r"\s", typed)):
        name = "" if " -- " in typed else typed.split()[0]
        return Completion(start + len(typed), (), _setting_hint(name) or hint)
    word = re.search(r"[^\s,]*\Z", typed)
    assert word is not None
    name, equals, _ = word[0].partition("=")
    if equals:
        return Completion(start + len(typed), (), _setting_hint(name) or hint)
    if spec.kind == "sweep":
        words = list(SPEC_BY_NAME)
    else:
        words = [f"{known}=" for known in SPEC_BY_NAME] + [preset.lower() for preset in PRESETS] + [AS_IT_IS]
    found = tuple(known for known in words if known.startswith(name.lower()))
    return Completion(start + word.start(), found[:MOST_CANDIDATES], _setting_hint(name) or hint)


def _complete_value(name: str, line: str, start: int, hint: str) -> Completion:
    """One of the words that a setting takes; of a list, one that is not there yet."""
    try:
        kind = SETTING_KINDS[canonical_name(name)]
    except (UsageError, KeyError):
        return Completion(start, (), hint)
    *before, word = re.split(r"[\s,]+", line[start:])
    open_words = [known for known in kind.words if known not in before] if kind.is_list or not before else []
    return Completion(len(line) - len(word), tuple(w for w in open_words if w.startswith(word.lower())), hint)


def _setting_hint(name: str) -> str:
    """A parameter's range and meaning, if `name` is one."""
    spec = SPEC_BY_NAME.get(name.lower().replace("-", "_"))
    return f"{spec.name}, {spec.range_text}: {spec.help}" if spec else ""


def _complete_copy(typed: str, start: int, hint: str) -> Completion:
    """What of the reply to copy, or a file to write it to; then the file."""
    form = re.match(r"(\S+)\s+", typed)
    if form and form[1] in COPY_FORMS:
        return _complete_path(typed[form.end() :], start + form.end(), hint)
    paths = _complete_path(typed, start, hint)
    return replace(paths, candidates=tuple(word for word in COPY_FORMS if word.startswith(typed)) + paths.candidates)


def _complete_path(typed: str, start: int, hint: str) -> Completion:
    """Files and folders whose path begins as typed; folders end in a separator."""
    quote = typed[:1] if typed[:1] in ("'", '"') else ""
    typed = typed[len(quote) :]
    folder, tail = os.path.split(typed)
    try:
        found = sorted(os.scandir(expanded(folder or ".")), key=lambda entry: entry.name.lower())
    except (OSError, RuntimeError, ValueError):
        return Completion(start, (), hint)
    head = typed[: len(typed) - len(tail)]
    shown = [entry for entry in found if entry.name.startswith(tail) and _is_plain(entry.name, tail)]
    paths = (quote + head + entry.name + (os.sep if entry.is_dir() else "") for entry in shown[:MOST_CANDIDATES])
    return Completion(start, tuple(paths), hint)


def _is_plain(name: str, typed: str) -> bool:
    """Whether a file's name can be offered: not hidden unless asked for, and printable."""
    return name.isprintable() and (typed.startswith(".") or not name.startswith("."))
