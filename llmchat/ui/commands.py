"""Slash commands: what they are called, and how a typed line becomes one.

    typed line ─ parse ─ Command(name, args)     a command of COMMANDS, its arguments checked
                       └ LiteralText(text)       anything else, for the model
                       └ UsageError              a command that does not exist or is not complete

Pure: nothing here acts. The chat screen carries commands out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from llmchat.chat.comparison import parse_comparison, parse_sweep, split_prompt
from llmchat.chat.generation_config import GenerationConfig, canonical_name, check_seed, parse_setting
from llmchat.chat.presets import PRESETS, apply_preset
from llmchat.chat.quoting import typed_text
from llmchat.chat.setting_values import SETTING_KINDS
from llmchat.chat.template_args import THINK_WORDS
from llmchat.errors import UsageError
from llmchat.ui.rendering.heat import HEAT_MODES

ArgumentKind = Literal[
    "none",
    "text",
    "string",
    "path",
    "command",
    "setting",
    "preset",
    "model",
    "theme",
    "switch",
    "think",
    "seed",
    "count",
    "heat",
    "compare",
    "sweep",
    "checkpoint",
    "yes",
]
"""What follows a command's name; decides how it is checked and completed."""


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """One slash command: what a person may type, and what it does."""

    name: str
    """The name without its slash."""
    help: str
    """What it does, in one sentence."""
    argument: str = ""
    """The argument as the usage line shows it; in brackets if it can be left out."""
    kind: ArgumentKind = "none"
    aliases: tuple[str, ...] = ()

    @property
    def usage(self) -> str:
        """The whole command as it is typed, such as "/set [K [V]]"."""
        return f"/{self.name} {self.argument}".rstrip()

    @property
    def needs_argument(self) -> bool:
        """Whether the argument cannot be left out."""
        return bool(self.argument) and not self.argument.startswith("[")


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec("help", "Show the keys and commands, or what one command does.", "[COMMAND]", "command"),
    CommandSpec(
        "set",
        r'Change a setting; alone, show them all: /set temperature 1.2, /set top_k off, /set stop "\n" "User:".',
        "[K [V]]",
        "setting",
        ("settings",),
    ),
    CommandSpec("reset", "Put a setting, or all of them, back to the default.", "[K]", "setting"),
    CommandSpec("preset", "Take a preset's sampling settings.", "NAME", "preset"),
    CommandSpec("seed", "Keep the seed, roll a new one for each reply, or set it.", "lock|roll|N", "seed"),
    CommandSpec("model", "Open another model; alone, show which is open.", "[X]", "model"),
    CommandSpec(
        "lora",
        "Open a LoRA adapter on the open model, or with off close it; alone, show which is open.",
        "[PATH[:SCALE]|off]",
        "path",
    ),
    CommandSpec("system", "Give the model a system prompt; without TEXT, or with off, none.", "[TEXT]", "string"),
    CommandSpec("raw", "Send prompts as they stand, without a chat template.", "on|off", "switch"),
    CommandSpec("prefill", "Begin every reply with TEXT; without TEXT, or with off, no more.", "[TEXT]", "string"),
    CommandSpec(
        "think",
        "Tell a model that can think whether to, and how much; alone, show what it is told.",
        "[on|off|low|medium|high]",
        "think",
    ),
    CommandSpec("new", "Begin a new conversation; this one stays in its file.", aliases=("clear",)),
    CommandSpec("save", "Write the conversation to a transcript file.", "[FILE]", "path"),
    CommandSpec("load", "Open a transcript file.", "FILE", "path"),
    CommandSpec("export", "Write the conversation as Markdown, text or JSON.", "FILE", "path"),
    CommandSpec(
        "copy",
        "Copy the last reply, or the command or Python that makes it again; with FILE, write it there.",
        "[command|python] [FILE]",
        "path",
    ),
    CommandSpec("regen", "Answer the last message again, N times.", "[N]", "count"),
    CommandSpec(
        "compare",
        "Answer again under two to four settings side by side, with the same dice: /compare temperature=0.3 creative. "
        "A new message can follow after --.",
        "K=V[,K=V]|PRESET …",
        "compare",
    ),
    CommandSpec(
        "sweep",
        "Answer again over the values of one setting, in a table: /sweep temperature 0.2..1.4 6, /sweep top_k 20,50.",
        "K A..B [N]",
        "sweep",
    ),
    CommandSpec("continue", "Go on with the last reply."),
    CommandSpec("undo", "Take back the last change: a message with its reply, another reply, an edit, a deletion."),
    CommandSpec("redo", "Make the change again that was taken back last."),
    CommandSpec(
        "compact", "Drop for good what was deleted; /compact tells how much, /compact yes does it.", "[yes]", "yes"
    ),
    CommandSpec("edit", "Take the last message back into the prompt."),
    CommandSpec("panel", "Show or hide the candidates for the next token.", "on|off", "switch"),
    CommandSpec(
        "heat", "Colour the last reply's tokens by how expected they were.", "off|probability|entropy|rank", "heat"
    ),
    CommandSpec(
        "checkpoint",
        "Ask another checkpoint of the run the same; alone, list them.",
        "[N|newest|previous|next]",
        "checkpoint",
    ),
    CommandSpec(
        "prompt", "Show what the model is given, token by token; with TEXT, as if you sent it.", "[TEXT]", "text"
    ),
    CommandSpec("stats", "Show speed, tokens and memory."),
    CommandSpec("theme", "Change the colours; alone, list the themes.", "[NAME]", "theme"),
    CommandSpec("exit", "Leave llmchat.", aliases=("quit", "bye")),
)
"""Every slash command, in the order in which help shows them."""

COMMAND_BY_NAME: Mapping[str, CommandSpec] = {word: spec for spec in COMMANDS for word in (spec.name, *spec.aliases)}
"""The command that a name or an alias means."""

CHECKPOINT_WORDS = ("newest", "previous", "next")
"""What /checkpoint takes beside a number."""

COPY_FORMS = {"command": (".sh", ".txt"), "python": (".py", ".txt")}
"""What /copy takes before a file, and how the file's name may end."""

MOST_REPLIES = 16
"""The most replies that /regen makes at once."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command to carry out."""

    name: str
    """The command's own name, also if an alias was typed."""
    args: tuple[str, ...] = ()
    """The arguments, checked; setting and preset names in their own spelling."""


@dataclass(frozen=True, slots=True)
class LiteralText:
    """Text for the model."""

    text: str


# A name and then white space or the end: "/etc/hosts" and "/* note */" are text.
_COMMAND = re.compile(r"/([A-Za-z][A-Za-z_-]*)(?:\s+(.*))?\Z", re.DOTALL)


def parse(text: str) -> Command | LiteralText:
    """Tell a command from text for the model.

    "//text" means the text "/text"; a first word with another slash, such as a path, is text.

    Raises:
        UsageError: It looks like a command but is none, or its arguments are not accepted.
    """
    stripped = text.strip()
    if stripped.startswith("//"):
        return LiteralText(stripped[1:])
    if stripped == "/":
        raise UsageError("Type a command's name after the slash, such as /help.")
    match = _COMMAND.match(stripped)
    if match is None:
        return LiteralText(text)
    spec = COMMAND_BY_NAME.get(match[1].lower())
    if spec is None:
        raise UsageError(_unknown(match[1]))
    return Command(spec.name, _arguments(spec, match[2] or ""))


def split_words(text: str) -> tuple[str, ...]:
    """Split at white space; single or double quotes around a word keep its spaces.

    A backslash is an ordinary character, so Windows paths stay as they are, and a
    quote inside a word, as in "Tom's", is one too.

    Raises:
        UsageError: A quote is not closed.
    """
    words: list[str] = []
    rest = text.strip()
    while rest:
        if rest[0] in "\"'":
            word, closing, rest = rest[1:].partition(rest[0])
            if not closing:
                raise UsageError(f"A quote is not closed: {text.strip()}")
        else:
            word = rest.split(maxsplit=1)[0]
            rest = rest[len(word) :]
        words.append(word)
        rest = rest.lstrip()
    return tuple(words)


def _unknown(word: str) -> str:
    """The sentence for a name that no command has."""
    name = word.lower()
    near = difflib.get_close_matches(name, COMMAND_BY_NAME, n=1) or [
        known for known in COMMAND_BY_NAME if len(name) > 1 and known.startswith(name)
    ]
    try:
        hint = f"Did you mean /set {canonical_name(name)}?"
    except UsageError:
        hint = f"Did you mean /{near[0]}?" if near else "/help lists them."
    return f"No command /{word}. {hint} Type //{word} to send it."


def _arguments(spec: CommandSpec, rest: str) -> tuple[str, ...]:
    """The checked arguments of a command; `rest` is what follows its name."""
    rest = rest.strip()
    if not rest:
        if spec.needs_argument:
            raise UsageError(f"{spec.usage}: {spec.help}")
        return ()
    return _CHECKS[spec.kind](spec, rest)


def _check_none(spec: CommandSpec, rest: str) -> tuple[str, ...]:
    raise UsageError(f"/{spec.name} takes nothing after it.")


def _check_text(spec: CommandSpec, rest: str) -> tuple[str, ...]:
    return (rest,)


def _check_string(spec: CommandSpec, rest: str) -> tuple[str, ...]:
    """A text, in quotes or not; "" where that is off."""
    return (typed_text(rest),)


def _check_path(spec: CommandSpec, rest: str) -> tuple[str, ...]:
    """One name that may hold spaces, with or without quotes around it."""
    if rest[0] not in "\"'":
        return (rest,)
    return (_single(spec, rest),)


def _check_command(spec: CommandSpec, rest: str) -> tuple[str, ...]:
    name = _single(spec, rest).removeprefix("/").lower()
    if name not in COMMAND_BY_NAME:
        raise UsageError(_unknown(name))
    return (COMMAND_BY_NAME[name].name,)


def _check_setting(spec: CommandSpec, rest: str) -> tuple[str, ...]:
    """A setting's name, and for /set its value, which may hold spaces."""
    name, value = _name_and_value(rest)
    if not value:
        return (canonical_name(name),)
    if spec.name != "set":
        raise UsageError(f"{spec.usage}: {spec.help}")
    key = canonical_name(name)
    is_quoted = key in SETTING_KINDS and SETTING_KINDS[key].is_quoted
    if not is_quoted and value[0] in "\"'" and len(words := split_words(value)) == 1:
        value = words[0]
    parse_setting(key, value)
    return (key, value)


def _name_and_value(rest: str) -> tuple[str, str]:
    """The two parts of "temperature 1.2" or "temperature=1.2"."""
    parts = re.split(r"\s*=\s*|\s+", rest, maxsplit=1)
    return parts[0], parts[1] if len(parts) > 1 else ""


def _check_preset(spec: CommandSpec, rest: str) -> tuple[str, ...]:
    name = _single(spec, rest)
    apply_preset(name)
    return (next(known for known in PRESETS if known.lower() == name.lower()),)


def _check_switch(spec: CommandSpec, rest: str) -> tuple[str, ...]:
    word = _single(spec, rest).lower()
    if word not in ("on", "off"):
        raise UsageError(f"/{spec.name} takes on or off, not {word!r}.")
    return (word,)


def _check_think(spec: CommandSpec, rest: str) -> tuple[str, ...]:
    word = _single(spec, rest).lower()
    if word not in THINK_WORDS:
        raise UsageError(f"/think takes {', '.join(THINK_WORDS[:-1])} or {THINK_WORDS[-1]}, not {word!r}.")
    return (word,)


def _check_yes(spec: CommandSpec, rest: str) -> tuple[str, ...]:
    word = _single(spec, rest).lower()
    if word != "yes":
        raise UsageError(f"/{spec.name} takes yes or nothing, not {word!r}.")
    return (word,)


def _check_heat(spec: CommandSpec, rest: str) -> tuple[str, ...]:
    word = _single(spec, rest).lower()
    if word not in HEAT_MODES:
        raise UsageError(f"/heat takes {', '.join(HEAT_MODES[:-1])} or {HEAT_MODES[-1]}, not {word!r}.")
    return (word,)


def _check_compare(spec: CommandSpec, rest: str) -> tuple[str, ...]:
    """The whole argument; its values are checked here, and anew with the settings of the moment."""
    parse_comparison(split_words(split_prompt(rest)[0]), GenerationConfig())
    return (rest,)


def _check_sweep(spec: CommandSpec, rest: str) -> tuple[str, ...]:
    """The same for a sweep."""
    parse_sweep(split_prompt(rest)[0], GenerationConfig())
    return (rest,)


def _check_checkpoint(spec: CommandSpec, rest: str) -> tuple[str, ...]:
    word = _single(spec, rest).lower()
    if word not in CHECKPOINT_WORDS and not (word.isascii() and word.isdigit()):
        raise UsageError(f"/{spec.name} takes a number or {', '.join(CHECKPOINT_WORDS)}, not {word!r}.")
    return (word,)


def _check_seed(spec: CommandSpec, rest: str) -> tuple[str, ...]:
    word = _single(spec, rest).lower()
    if word in ("lock", "roll", "off"):
        return (word.replace("off", "roll"),)
    try:
        seed = check_seed(int(word))
    except ValueError:
        raise UsageError(f"/seed takes lock, roll or a whole number, not {word!r}.") from None
    return ("roll",) if seed is None else (str(seed),)


def _check_count(spec: CommandSpec, rest: str) -> tuple[str, ...]:
    word = _single(spec, rest)
    if not (word.isascii() and word.isdigit() and 1 <= int(word) <= MOST_REPLIES):
        raise UsageError(f"/{spec.name} takes a whole number from 1 to {MOST_REPLIES}, not {word!r}.")
    return (str(int(word)),)


def _single(spec: CommandSpec, rest: str) -> str:
    """The only word of an argument."""
    words = split_words(rest)
    if len(words) != 1 or not words[0]:
        raise UsageError(f"{spec.usage}: {spec.help}")
    return words[0]


_CHECKS: Mapping[ArgumentKind, Callable[[CommandSpec, str], tuple[str, ...]]] = {
    "none": _check_none,
    "text": _check_text,
    "string": _check_string,
    "path": _check_path,
    "command": _check_command,
    "setting": _check_setting,
    "preset": _check_preset,
    "model": _check_path,
    "theme": _check_path,
    "switch": _check_switch,
    "think": _check_think,
    "seed": _check_seed,
    "count": _check_count,
    "heat": _check_heat,
    "compare": _check_compare,
    "sweep": _check_sweep,
    "checkpoint": _check_checkpoint,
    "yes": _check_yes,
}
