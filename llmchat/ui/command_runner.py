"""What the slash commands do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmchat.chat import export
from llmchat.chat.endings import check_suffix
from llmchat.chat.generation_config import SPEC_BY_NAME, GenerationConfig, parse_setting
from llmchat.chat.history import turn_count
from llmchat.chat.model import recorded_tokenizer, split_lora
from llmchat.chat.presets import apply_preset
from llmchat.chat.words import value_words
from llmchat.errors import UsageError
from llmchat.files import describe, write_text
from llmchat.paths import located
from llmchat.session.restoring import LAST, last_model, other_model
from llmchat.session.thinking import think
from llmchat.ui.commands import COMMAND_BY_NAME, COPY_FORMS, Command
from llmchat.ui.rendering.heat import HEAT_MODES
from llmchat.ui.take_along import taken_along
from llmchat.ui.turn_actions import describe as describe_turn

if TYPE_CHECKING:
    from llmchat.ui.screens.chat import ChatScreen

Handler = Callable[["ChatScreen", str], object]
"""Carries out a command on the screen; the text is its argument, "" if there is none."""


def run_command(screen: ChatScreen, command: Command) -> None:
    """Carry out a parsed command.

    Raises:
        LlmchatError: It cannot be done now.
    """
    screen.clear_notes()
    if command.name == "set" and len(command.args) == 2:
        _set(screen, *command.args)
    else:
        _HANDLERS[command.name](screen, command.args[0] if command.args else "")


def _help(screen: ChatScreen, name: str) -> None:
    if not name:
        screen.action_help()
        return
    spec = COMMAND_BY_NAME[name]
    also = f" Also: {', '.join('/' + alias for alias in spec.aliases)}." if spec.aliases else ""
    screen.note(f"{spec.usage} — {spec.help}{also}")


def _adopt(screen: ChatScreen, config: GenerationConfig) -> None:
    screen.session.config = config
    screen.refresh_bars()


def _set(screen: ChatScreen, name: str, text: str) -> None:
    key, value = parse_setting(name, text)
    values = {key: value} | ({"do_sample": True} if key == "temperature" else {})
    _adopt(screen, screen.session.config.changed(**values))


def _show_settings(screen: ChatScreen, name: str) -> None:
    names = [name] if name else [item.name for item in fields(GenerationConfig)]
    config, default = screen.session.config, GenerationConfig()
    lines = []
    for key in names:
        value, usual = getattr(config, key), getattr(default, key)
        differs = "≠" if value != usual else " "
        spec = SPEC_BY_NAME.get(key)
        text = f"   {spec.help} {spec.range_text}." if spec is not None and name else ""
        lines.append(f"{differs} {key} = {value_words(key, value)}{text}")
    screen.note("\n".join(lines))


def _reset(screen: ChatScreen, name: str) -> None:
    default = GenerationConfig()
    _adopt(screen, screen.session.config.changed(**{name: getattr(default, name)}) if name else default)


def _preset(screen: ChatScreen, name: str) -> None:
    _adopt(screen, apply_preset(name, screen.session.config))


def _seed(screen: ChatScreen, word: str) -> None:
    session = screen.session
    if word == "lock" and session.last_seed is None:
        raise UsageError("There is no seed to lock yet. Give one: /seed 8417")
    seed = {"roll": None, "lock": session.last_seed}[word] if word in ("roll", "lock") else int(word)
    _adopt(screen, session.config.changed(seed=seed))


def _model(screen: ChatScreen, name: str) -> None:
    if name == LAST:
        model, tokenizer, lora = last_model(screen.session)
        spec = replace(screen.spec, model=model, tokenizer=recorded_tokenizer(model, tokenizer), heads=None, lora=lora)
        screen.open_model(spec)
    elif name:
        screen.open_model(replace(screen.spec, model=name, tokenizer=None, heads=None, lora=""))
    else:
        screen.action_model()


def _lora(screen: ChatScreen, text: str) -> None:
    info = screen.session.model
    if not text:
        screen.note(info.lora if info is not None and info.lora else "No adapter is open. Open one with /lora PATH.")
        return
    path, scale = ("", None) if text == "off" else split_lora(text)
    if scale is not None:
        _adopt(screen, screen.session.config.changed(lora_scale=scale))
    screen.open_model(replace(screen.spec, lora=path and str(located(path))))


def _system(screen: ChatScreen, text: str) -> None:
    screen.session.system = text
    screen.note(f"The system prompt is now: {text}" if text else "There is no system prompt now.")


def _raw(screen: ChatScreen, word: str) -> None:
    session = screen.session
    session.raw = word == "on"
    if not session.raw and session.is_raw:
        screen.note("This model has no chat template: prompts stay as they are. Give one with --chat-template.")
    else:
        screen.note("Prompts go in as they are." if session.is_raw else "Prompts go through the chat template.")


def _prefill(screen: ChatScreen, text: str) -> None:
    screen.session.prefill_text = text
    screen.note(f"Every reply begins with: {text}" if text else "Replies begin by themselves.")


def _think(screen: ChatScreen, word: str) -> None:
    screen.note(think(screen.session, word))


def _save(screen: ChatScreen, name: str) -> None:
    path = screen.session.save(located(name) if name else None)
    screen.note(f"The conversation is kept in {path}")


def _load(screen: ChatScreen, name: str) -> None:
    open_conversation(screen, located(name))


def open_conversation(screen: ChatScreen, path: Path) -> None:
    """Go on with a saved conversation.

    Raises:
        TranscriptError: It cannot be opened; the present one stays.
    """
    notices = screen.session.open(path)
    for notice in (*notices, screen.session.brought_back, other_model(screen.session)):
        if notice:
            screen.note(notice)


def _export(screen: ChatScreen, name: str) -> None:
    path = located(name)
    _write(path, export.for_file(screen.session.transcript, path))
    screen.note(f"Written to {path}")


def _copy(screen: ChatScreen, words: str) -> None:
    reply = next((turn for turn in reversed(screen.session.transcript.path()) if turn.role == "assistant"), None)
    if reply is None:
        raise UsageError("There is no reply to copy yet.")
    first, _, rest = words.partition(" ")
    if first in COPY_FORMS:
        text, name = taken_along(screen, reply, "command" if first == "command" else "python"), rest.strip()
        check_suffix(Path(name), COPY_FORMS[first], f"A reply as {first}")
    else:
        text, name = reply.text, words
    if not name:
        screen.copy(text)
        return
    path = located(name)
    _write(path, text.rstrip("\n") + "\n")
    screen.note(f"Written to {path}")


def _write(path: Path, text: str) -> None:
    try:
        write_text(path, text)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {describe(error)}.") from error


def _compact(screen: ChatScreen, word: str) -> None:
    count = turn_count(len(screen.session.transcript.deleted))
    if word:
        screen.session.compact()
        screen.note(f"Dropped for good: {count}.")
    else:
        screen.note(f"Deleted and still kept: {count}. /compact yes drops them for good.")


def _edit(screen: ChatScreen, _: str) -> None:
    message = next((turn for turn in reversed(screen.session.transcript.path()) if turn.role == "user"), None)
    if message is None:
        raise UsageError("There is no message to edit yet.")
    screen.editing = message.id
    screen.prompt.write(message.text)


def _panel(screen: ChatScreen, word: str) -> None:
    screen.next_token.switched_on = word == "on"


def _heat(screen: ChatScreen, word: str) -> None:
    screen.laboratory.set_heat(next(mode for mode in HEAT_MODES if mode == word))


def _compare(screen: ChatScreen, text: str) -> None:
    from llmchat.ui.experiments import compare

    compare(screen, text)


def _sweep(screen: ChatScreen, text: str) -> None:
    from llmchat.ui.experiments import sweep

    sweep(screen, text)


def _stats(screen: ChatScreen, _: str) -> None:
    info = screen.session.model
    lines = []
    if info is not None:
        lines += [
            f"{info.name} · {info.parameter_count / 1e6:.1f} M parameters · {info.weight_format} · "
            f"{info.path_words} · {info.thread_words}",
            *([info.why_words] if info.why_words else []),
            f"context {info.context_length} tokens · vocabulary {info.vocab_size} · {info.path}",
            *(f"training: {name} {value:g}" for name, value in info.training.items()),
            *info.notes,
        ]
    last = next((turn for turn in reversed(screen.session.transcript.path()) if turn.reply is not None), None)
    lines += describe_turn(last).splitlines() if last is not None else []
    screen.note("\n".join(lines) or "There is nothing to tell yet.")


def _theme(screen: ChatScreen, name: str) -> None:
    if not name:
        screen.app.search_themes()
    elif name in screen.app.available_themes:
        screen.app.theme = name
    else:
        raise UsageError(f"There is no theme called {name!r}. Known: {', '.join(sorted(screen.app.available_themes))}.")


def _exit(screen: ChatScreen, _: str) -> None:
    screen.app.call_later(screen.app.run_action, "quit")


_HANDLERS: Mapping[str, Handler] = {
    "help": _help,
    "set": _show_settings,
    "reset": _reset,
    "preset": _preset,
    "seed": _seed,
    "model": _model,
    "lora": _lora,
    "system": _system,
    "raw": _raw,
    "prefill": _prefill,
    "think": _think,
    "new": lambda screen, _: screen.action_new(),
    "save": _save,
    "load": _load,
    "export": _export,
    "copy": _copy,
    "regen": lambda screen, times: screen.session.regenerate(times=int(times or 1)),
    "compare": _compare,
    "sweep": _sweep,
    "continue": lambda screen, _: screen.session.continue_reply(),
    "undo": lambda screen, _: screen.changes.undo(),
    "redo": lambda screen, _: screen.changes.redo(),
    "compact": _compact,
    "edit": _edit,
    "panel": _panel,
    "heat": _heat,
    "checkpoint": lambda screen, word: screen.checkpoints.go(word),
    "prompt": lambda screen, text: screen.prompt_display.ask(text),
    "stats": _stats,
    "theme": _theme,
    "exit": _exit,
}
