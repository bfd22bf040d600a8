"""A reply as a command and as a few lines of Python that make it again, token by token.

A reply to a single message, under settings that stayed as they were, is one call. Any
other is made again from its transcript, which holds what one call cannot: the turns
before it with their ids, the sliders' moves, the tokens that a person chose.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from llmchat.chat.generation_config import GenerationConfig, Value, parse_setting
from llmchat.chat.model import ModelSpec
from llmchat.chat.turn import Reply, Turn, system_of
from llmchat.errors import UsageError


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a reply is made again from."""

    turn_id: str
    reply: Reply
    turns: tuple[Turn, ...]
    """What it answers, as the model was given it."""
    spec: ModelSpec
    """Its model."""
    file: Path | None
    """The transcript that it is kept in; None if it is not kept."""
    has_template: bool = True
    """Whether the model has a chat template, so that leaving it out must be said."""
    has_settings: bool = False
    """Whether a settings file would have a say in a command that does not leave it out."""


def as_command(recipe: Recipe) -> str:
    """A shell command that makes the reply again, in quotes where need be; a comment says what a call cannot hold.

    Raises:
        UsageError: It takes the transcript, and the conversation is not kept in a file; or nothing was drawn.
    """
    _require_tokens(recipe.reply)
    if _is_one_call(recipe) and (flags := _setting_flags(recipe.reply)) is not None:
        command = "".join(_once(recipe, flags))
        if len(command) <= _LONGEST_COMMAND:
            return command
    return "\n".join([*(f"# {line}" for line in _obstacles(recipe)), _replay(recipe)])


def as_python(recipe: Recipe) -> str:
    """Lines of Python that make the reply again; comments say what they cannot hold.

    Raises:
        UsageError: It takes the transcript, and the conversation is not kept in a file; or nothing was drawn.
    """
    _require_tokens(recipe.reply)
    return "\n".join(_python(recipe)) + "\n"


def settings_of(reply: Reply) -> GenerationConfig:
    """The settings that make a reply again in one call: its own, with its dice, ended where a person ended it."""
    config, count = reply.config.changed(seed=reply.seed), len(reply.token_ids)
    if reply.finish_reason in ("stop", "length"):
        return config
    return config.changed(max_new_tokens=count, min_new_tokens=min(config.min_new_tokens, count))


_LONGEST_COMMAND = 100_000
"""Characters; systems refuse an argument that is a little longer."""


def _require_tokens(reply: Reply) -> None:
    if not reply.token_ids:
        raise UsageError("This reply has no tokens that could be made again.")


def _is_one_call(recipe: Recipe) -> bool:
    return _is_one_message(recipe) and not _is_by_hand(recipe.reply)


def _is_one_message(recipe: Recipe) -> bool:
    """Whether the model was given nothing but a message, and perhaps a system prompt."""
    said = recipe.turns[1:] if system_of(recipe.turns) else recipe.turns
    return recipe.reply.raw or len(said) == 1


def _is_by_hand(reply: Reply) -> bool:
    """Whether a person did something to the reply on its way, or its prompt depended on the day."""
    return bool(reply.changes or reply.forced or reply.parts or reply.moment)


def _obstacles(recipe: Recipe) -> Iterator[str]:
    """Why one call does not make the reply again, a line each."""
    reply = recipe.reply
    for change in reply.changes:
        moved = ", ".join(f"{name} {_shown(value)}" for name, value in change.values.items())
        yield f"The sliders moved during this reply: {moved} from token {change.token_index} on."
    for index, _ in reply.forced:
        yield f"Token {index} was chosen by hand."
    if reply.parts:
        yield f"It was gone on from at token {', '.join(map(str, reply.parts))}."
    if reply.moment is not None:
        yield f"Its chat template tells the model the date, which was {reply.moment:%Y-%m-%d}."
    if not _is_one_message(recipe):
        yield "It answers a message in the middle of a conversation."


# ── the command ──


def _once(recipe: Recipe, setting_flags: list[str]) -> Iterator[str]:
    reply, prompt = recipe.reply, recipe.turns[-1].text
    words = ["llmchat", *(["--config", os.devnull] if recipe.has_settings else []), "--once"]
    words += _model_flags(recipe.spec)
    if prompt == "-":
        # As a flag's value, it would mean standard input.
        yield "printf %s - | "
    else:
        # Of a flag's value, the last line feed is left out. What is piped in where it runs is no part of it.
        words += ["--no-stdin", "--prompt", f"{prompt}\n" if prompt.endswith("\n") else prompt]
    if not reply.raw and (system := system_of(recipe.turns)):
        words += ["--system", system]
    words += ["--raw"] if reply.raw and recipe.has_template else []
    words += ["--prefill", reply.prefill_text] if reply.prefill_text else []
    yield shlex.join([*words, *setting_flags])


def _replay(recipe: Recipe) -> str:
    words = ["llmchat", "replay", str(_file(recipe)), "--turn", recipe.turn_id]
    return shlex.join([*words, *_machine_flags(recipe.spec)])


def _file(recipe: Recipe) -> Path:
    """The transcript.

    Raises:
        UsageError: There is none.
    """
    if recipe.file is None:
        raise UsageError("Only the whole conversation makes this reply again. Keep it with /save first.")
    return recipe.file.absolute()


def _model_flags(spec: ModelSpec) -> list[str]:
    named = {"model": spec.model, "lora": spec.lora, "tokenizer": spec.tokenizer, "chat_template": spec.chat_template}
    return [*_flags(named), *_machine_flags(spec), *(["--parse-special"] if spec.parse_special else [])]


def _machine_flags(spec: ModelSpec) -> list[str]:
    """Where and how the model runs, and what its file does not say."""
    asked = {"device": spec.device, "dtype": spec.dtype, "engine": spec.engine}
    chosen = {name: value for name, value in asked.items() if value != "auto"}
    return _flags(chosen | {"threads": spec.threads, "heads": spec.heads})


def _flags(values: Mapping[str, str | int | None]) -> list[str]:
    given = ((name, value) for name, value in values.items() if value not in (None, ""))
    return [word for name, value in given for word in (f"--{name.replace('_', '-')}", str(value))]


def _setting_flags(reply: Reply) -> list[str] | None:
    """The flags for what is not at its default; None if a value cannot be typed."""
    flags = ["--seed", str(reply.seed)]
    for name, value in settings_of(reply).difference().items():
        if name == "do_sample":
            flags.append("--greedy")
        elif name == "prompt_lookup":
            flags.append("--no-prompt-lookup")
        elif name == "stop" and isinstance(value, tuple):
            flags += [word for text in value for word in ("--stop", str(text))]
        elif name == "template_args" and isinstance(value, tuple):
            flags += [word for text in value for word in ("--template-arg", str(text))]
        elif value is True:
            flags.append(f"--{name.replace('_', '-')}")
        elif name != "seed":
            typed = _typed(value)
            if parse_setting(name, typed)[1] != value:
                return None
            flags += [f"--{name.replace('_', '-')}", typed]
    return flags


def _typed(value: Value) -> str:
    """A value as a person types it, exactly."""
    if isinstance(value, tuple):
        words = (str(item).replace("\n", "\\n").replace("\t", "\\t").replace(" ", "\\s") for item in value)
        return " ".join(words) or "none"
    return str(value)


def _shown(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


# ── Python ──


def _python(recipe: Recipe) -> Iterator[str]:
    reply, is_one_message = recipe.reply, _is_one_message(recipe)
    if _is_by_hand(reply):
        yield from (f"# {line}" for line in _obstacles(recipe))
        under = "with the date of today" if reply.moment else "under the settings of its start"
        yield f"# This makes a reply {under}; the same tokens come from:"
        yield f"#   {_replay(recipe)}"
    if not is_one_message:
        yield from ("from pathlib import Path", "")
    yield from ("import llmchat", "from llmchat import GenerationConfig")
    if is_one_message:
        prompt = repr(recipe.turns[-1].text)
    else:
        yield "from llmchat.chat.archive import read_transcript"
        prompt = f"conversation.asked({recipe.turn_id!r})"
    yield from ("", f"model = llmchat.load({_load_arguments(recipe.spec)})")
    if not is_one_message:
        yield f"conversation, _ = read_transcript(Path({str(_file(recipe))!r}))"
    yield "reply = model.generate("
    yield f"    {prompt},"
    yield f"    GenerationConfig({_named(settings_of(reply).difference())}),"
    if not reply.raw and is_one_message and (system := system_of(recipe.turns)):
        yield f"    system={system!r},"
    if reply.raw and recipe.has_template:
        yield "    raw=True,"
    if reply.prefill_text:
        yield f"    prefill={reply.prefill_text!r},"
    yield from (")", "print(reply.text)")


def _load_arguments(spec: ModelSpec) -> str:
    values: dict[str, Value] = {"device": spec.device, "dtype": spec.dtype, "engine": spec.engine}
    values = {name: value for name, value in values.items() if value != "auto"}
    values |= {"threads": spec.threads, "chat_template": spec.chat_template, "heads": spec.heads}
    values |= {"parse_special": spec.parse_special or None, "lora": spec.lora or None}
    named = _named({name: value for name, value in values.items() if value is not None})
    places = [repr(place) for place in (spec.model, spec.tokenizer) if place]
    return ", ".join([*places, *([named] if named else [])])


def _named(values: dict[str, Value]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())
