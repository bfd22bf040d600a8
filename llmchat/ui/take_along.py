"""Any reply as a command or as Python, from what the chat knows of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from llmchat.chat.model import ModelSpec, recorded_tokenizer
from llmchat.chat.reproduce import Recipe, as_command, as_python
from llmchat.chat.turn import Reply, Turn
from llmchat.checkpoints import catalog
from llmchat.errors import ENGINES_TO_INSTALL, LlmchatError, UsageError
from llmchat.session import ChatSession
from llmchat.settings import Settings, load_settings
from llmchat.tokenizers.loading import find_tokenizer

if TYPE_CHECKING:
    from llmchat.ui.screens.chat import ChatScreen

Form = Literal["command", "python"]
"""The forms that a reply can be taken along in."""


def taken_along(screen: ChatScreen, turn: Turn, form: Form) -> str:
    """What makes a reply again.

    Raises:
        UsageError: The turn is no drawn reply, or the conversation is not kept in a file where it must be.
    """
    recipe = recipe_of(screen.session, turn, screen.spec, screen.options.settings_path)
    return as_command(recipe) if form == "command" else as_python(recipe)


def recipe_of(session: ChatSession, turn: Turn, spec: ModelSpec, settings_path: Path | None = None) -> Recipe:
    """What a reply is made again from.

    Args:
        session: The conversation.
        turn: The reply's turn.
        spec: The model that is open, for where and how it runs.
        settings_path: The settings file in use, if it is not the usual one.

    Raises:
        UsageError: The turn is no drawn reply.
    """
    reply = turn.reply
    if reply is None:
        raise UsageError("Only a reply that a model drew can be made again.")
    model = session.model
    path = reply.model_path or session.transcript.model_path
    return Recipe(
        turn_id=turn.id,
        reply=reply,
        turns=session.transcript.asked(turn.id),
        spec=_spec_of(reply, path, spec),
        file=session.path,
        has_template=model is None or model.name != reply.model or model.has_chat_template,
        has_settings=_has_a_say(settings_path),
    )


def _spec_of(reply: Reply, path: str, spec: ModelSpec) -> ModelSpec:
    """How to ask for the model that made a reply: by its name if it has one."""
    name = next((entry.name for entry in catalog.models() if str(entry.path) == path), path)
    tokenizer = recorded_tokenizer(path, reply.tokenizer_path)
    if tokenizer is not None and find_tokenizer(path) == Path(tokenizer):
        tokenizer = None
    spec = replace(spec, model=name or spec.model, tokenizer=tokenizer, lora=reply.lora_path)
    if reply.engine in ENGINES_TO_INSTALL:
        spec = replace(spec, engine=reply.engine)
    if reply.prompts:
        made = reply.prompts[-1]
        spec = replace(spec, chat_template=made.given_template or None, parse_special=made.parse_special)
    return spec


def _has_a_say(settings_path: Path | None) -> bool:
    """Whether the settings file holds anything that changes replies."""
    try:
        settings = load_settings(settings_path)
    except LlmchatError:
        return True
    looks = {name: getattr(settings, name) for name in ("theme", "sidebar", "autosave", "kv_cache", "keys")}
    return settings != Settings(**looks)
