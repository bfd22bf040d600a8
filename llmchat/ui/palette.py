"""What ^P offers: every action, slash command, preset and setting, and the conversations of late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from rich.text import Text
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.markup import escape

from llmchat.chat.archive import TranscriptSummary, list_transcripts
from llmchat.chat.generation_config import SPEC_BY_NAME, GenerationConfig
from llmchat.chat.plain_text import visible
from llmchat.chat.presets import PRESETS
from llmchat.chat.words import value_words
from llmchat.ui.command_runner import open_conversation, run_command
from llmchat.ui.commands import CHECKPOINT_WORDS, COMMANDS, Command
from llmchat.ui.keys import key_label

if TYPE_CHECKING:
    from llmchat.ui.app import LlmchatApp
    from llmchat.ui.screens.chat import ChatScreen

MOST_CONVERSATIONS = 20
"""How many of the conversations that were written to last are offered."""


class Offer(NamedTuple):
    """A line of the palette."""

    title: str
    words: str
    act: Callable[[], object]


class Palette(Provider):
    """The lines of the palette, found by letters of their titles."""

    async def startup(self) -> None:
        """Look for conversations once, when the palette opens."""
        self._recent = (await asyncio.to_thread(list_transcripts))[:MOST_CONVERSATIONS]

    def _offers(self) -> list[Offer]:
        app = cast("LlmchatApp", self.app)
        recent = self._recent if app.chat.is_attached else []
        return [*offers(app), *_conversation_offers(app.chat, recent)]

    async def discover(self) -> Hits:
        """Everything, before a letter is typed."""
        for offer in self._offers():
            yield DiscoveryHit(Text(offer.title), offer.act, offer.title, escape(offer.words))

    async def search(self, query: str) -> Hits:
        """What has the typed letters, with these marked."""
        matcher = self.matcher(query)
        for offer in self._offers():
            score, places = matcher.fuzzy_search.match(query, offer.title)
            if score > 0:
                title = Text(offer.title)
                for place in places:
                    title.stylize("underline", place, place + 1)
                yield Hit(score, title, offer.act, offer.title, escape(offer.words))


def offers(app: LlmchatApp) -> Iterator[Offer]:
    """All that can be done but opening conversations: what has a key, slash commands, presets, settings."""
    # The set-up comes before the chat.
    screen = app.chat if app.chat.is_attached else None
    if screen is not None:
        yield from _action_offers(screen)
    yield Offer("Theme", "Change the colours", app.search_themes)
    yield Offer("Quit", "Leave llmchat", app.action_quit)
    if screen is not None:
        yield from _command_offers(screen)


def _action_offers(screen: ChatScreen) -> Iterator[Offer]:
    for binding in screen.palette_bindings():
        words = f"{binding.tooltip or binding.description} ({key_label(binding.key.split(',')[0])})"
        yield Offer(binding.description, words, partial(screen.call_later, screen.run_action, binding.action))
    if screen.checkpoints.timeline is not None:
        for word in CHECKPOINT_WORDS:
            go = partial(screen.checkpoints.go, word)
            yield Offer(
                f"{word.capitalize()} checkpoint", f"Ask the {word} checkpoint of the run the same", _tried(screen, go)
            )


def _command_offers(screen: ChatScreen) -> Iterator[Offer]:
    for spec in COMMANDS:
        # One that can take something is written into the prompt: alone it could do more than was meant.
        act = partial(screen.begin, f"/{spec.name} ") if spec.argument else _command(screen, Command(spec.name))
        yield Offer(spec.usage, spec.help, act)
    for name in PRESETS:
        yield Offer(f"Preset {name}", "Take its sampling settings", _command(screen, Command("preset", (name,))))
    for item in fields(GenerationConfig):
        known = SPEC_BY_NAME.get(item.name)
        now = f"now {value_words(item.name, getattr(screen.session.config, item.name))}"
        words = f"{known.help} {known.range_text}; {now}" if known is not None else now
        yield Offer(f"Set {item.name}", words, partial(screen.begin, f"/set {item.name} "))


def _conversation_offers(screen: ChatScreen, recent: list[TranscriptSummary]) -> Iterator[Offer]:
    for summary in recent:
        title = visible(" ".join(summary.title.split()))
        words = f"{summary.modified.astimezone():%Y-%m-%d %H:%M} · {visible(summary.model)}"
        yield Offer(f"Open “{title}”", words, _tried(screen, partial(_open, screen, summary.path)))


def _open(screen: ChatScreen, path: Path) -> None:
    screen.clear_notes()
    open_conversation(screen, path)


def _command(screen: ChatScreen, command: Command) -> Callable[[], object]:
    return _tried(screen, partial(run_command, screen, command))


def _tried(screen: ChatScreen, act: Callable[[], object]) -> Callable[[], object]:
    """Something that may be refused, which the chat then says."""
    return partial(screen.attempt, act)
