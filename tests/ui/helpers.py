"""A window under test: the real app with a real worker, driven by keys and read from the screen."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from threading import Semaphore
from time import monotonic
from typing import Any

from textual.app import App
from textual.pilot import Pilot
from textual.widget import Widget

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.turn import Reply, Turn
from llmchat.engine.engine import Engine
from llmchat.options import StartOptions
from llmchat.session import ChatSession
from llmchat.settings import ResolvedGeneration, Settings
from llmchat.tokenizers.prompt_style import load_prompt_style
from llmchat.ui.app import LlmchatApp, MakeWorker
from llmchat.ui.rendering.turn_block import TurnBlock
from llmchat.worker.inference_worker import InferenceWorker
from tests.fakes import ByteTokenizer, ScriptedEngine, prepares
from tests.patience import PATIENCE_SECONDS

GREEDY = GenerationConfig(do_sample=False, repetition_penalty=1.0)
"""Settings with which a scripted engine says its script."""


async def wait_until(pilot: Pilot[Any], is_so: Callable[[], object], what: str = "") -> None:
    """Let the app run until something is so; fail if it does not come to be."""
    deadline = monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert monotonic() < deadline, f"waited in vain for {what or is_so}:\n{drawn(pilot.app)}"
        await pilot.pause(0.01)
    await pilot.pause(0)


async def resize(pilot: Pilot[Any], width: int, height: int) -> None:
    """Make the terminal another size and wait until everything has its new place."""
    await pilot.resize_terminal(width, height)
    await wait_until(pilot, lambda: pilot.app.screen.size == (width, height), "another size")
    await pilot.pause()


def drawn(app: App[Any]) -> str:
    """Everything on the screen, a line for each row."""
    rows = app.screen._compositor.render_strips()
    return "\n".join("".join(part.text for part in row) for row in rows).replace("\xa0", " ")


class Window:
    """A running app: what a person can do with it, and what they see."""

    def __init__(self, app: LlmchatApp, pilot: Pilot[Any], told: list[str]) -> None:
        self.app = app
        self.pilot = pilot
        self.chat = app.chat
        self._told = told

    @property
    def session(self) -> ChatSession:
        """The conversation behind the screen."""
        return self.chat.session

    # What a person does

    async def until(self, is_so: Callable[[], object], what: str = "") -> None:
        """Let the app run until something is so."""
        await wait_until(self.pilot, is_so, what)

    async def let_through(self, gate: Semaphore, is_so: Callable[[], object]) -> None:
        """Let an engine's tokens through its gate, a few at a time, until something is so."""

        def step() -> object:
            gate.release(20)
            return is_so()

        await self.until(step)

    async def press(self, *keys: str) -> None:
        """Press keys, one after the other, each when it is clear that the one before was no text."""
        for key in keys:
            await self.pilot.press(key)
            if self.chat.is_attached and self.chat.view.typed.is_waiting:
                await self.until(lambda: not self.chat.view.typed.is_waiting, f"what {key} does")
        await self.pilot.pause(0)

    async def type(self, text: str) -> None:
        """Type a text at once, wherever the focus is."""
        await self.pilot.press(*text)
        await self.pilot.pause(0)

    async def resize(self, width: int, height: int) -> None:
        """Make the terminal another size and wait until everything has its new place."""
        await resize(self.pilot, width, height)

    async def write(self, text: str) -> None:
        """Put a text into the prompt as a whole, as an editor would."""
        self.chat.prompt.focus()
        self.chat.prompt.write(text)
        await self.pilot.pause(0)

    async def send(self, text: str) -> None:
        """Write a message or a command and press Enter."""
        await self.write(text)
        await self.press("enter")

    async def ask(self, text: str) -> Turn:
        """Send a message and wait until the answer is complete."""
        before = len(self.session.transcript)
        await self.send(text)
        await self.until(lambda: len(self.session.transcript) >= before + 2 and self.is_idle, f"answer to {text!r}")
        return self.last

    async def ask_without_waiting(self, text: str) -> None:
        """Send a message and wait until the first token of the answer is there."""
        await self.send(text)
        await self.until(lambda: self.session.running and self.session.running.token_ids, "the first token")

    async def ready(self) -> None:
        """Wait until the model is open."""
        await self.until(lambda: self.session.state == "ready", "the model is open")

    async def idle(self) -> None:
        """Wait until nothing is being generated."""
        await self.until(lambda: self.is_idle, "nothing is being generated")

    async def select(self, turns_above: int = 1) -> None:
        """Put the turn cursor on a turn, counted from the last one up."""
        await self.press(*["alt+up"] * turns_above)

    # What a person sees

    @property
    def is_idle(self) -> bool:
        """Whether no reply is being generated or waited for."""
        return self.session.running is None and not self.session.queued

    @property
    def blocks(self) -> list[TurnBlock]:
        """What the transcript shows."""
        return self.chat.view.blocks

    @property
    def said(self) -> list[tuple[str, str]]:
        """Who said what, as the transcript shows it, without the program's own lines."""
        return [(block.role, block.text) for block in self.blocks if block.role != "notice"]

    @property
    def notes(self) -> str:
        """The program's own lines in the transcript."""
        return "\n".join(notice.text for block in self.blocks for notice in block.notices)

    @property
    def toasts(self) -> str:
        """What the toasts have said, those that are gone included, for a busy machine outlasts them, and the border."""
        return "\n".join([*self._told, str(self.chat.prompt.border_subtitle or "")])

    @property
    def last(self) -> Turn:
        """The last turn on the path."""
        return self.session.transcript.path()[-1]

    @property
    def reply(self) -> Reply:
        """How the last turn was generated."""
        assert self.last.reply is not None
        return self.last.reply

    @property
    def status(self) -> str:
        """The bottom line."""
        return self.chat.status.render().plain

    def lines(self, widget: Widget | None = None) -> list[str]:
        """The rows of the screen, or of a widget, as they are drawn."""
        if widget is not None:
            return ["".join(part.text for part in widget.render_line(y)) for y in range(widget.size.height)]
        return drawn(self.app).splitlines()

    @property
    def screen(self) -> str:
        """Everything that is drawn."""
        return drawn(self.app)


@contextlib.asynccontextmanager
async def window(
    engine: Engine | Callable[[], Engine] | None = None,
    *,
    options: StartOptions | None = None,
    config: GenerationConfig = GREEDY,
    size: tuple[int, int] = (120, 40),
    gate: Semaphore | None = None,
    make_worker: MakeWorker = InferenceWorker,
) -> AsyncIterator[Window]:
    """The app in a terminal of that size.

    Args:
        engine: Stands for the model, which is open before anything is done; or makes it when it is loaded, and nothing
            waits for that; None leaves it to `make_worker`.
        options: What the start asked for.
        config: The sampling settings, unless `options` are given.
        size: Columns and rows.
        gate: The engine's, opened in the end so that the worker can end too.
        make_worker: Makes the worker; by default the one that opens real models.
    """
    options = options or StartOptions(generation=ResolvedGeneration(config))
    app = LlmchatApp(options, make_worker if engine is None else worker_of(engine))
    told = _heard(app)
    async with app.run_test(size=size, notifications=True) as pilot:
        await pilot.pause(0)
        it = Window(app, pilot, told)
        if engine is not None and not callable(engine):
            await it.ready()
        try:
            yield it
        finally:
            if gate is not None:
                gate.release(10_000)


def _heard(app: LlmchatApp) -> list[str]:
    """What toasts will have said, also when they have gone."""
    told: list[str] = []
    usual = app.notify

    def notify(message: str, **options: Any) -> None:
        told.append(message)
        usual(message, **options)

    app.notify = notify  # type: ignore[method-assign]
    return told


def worker_of(engine: Engine | Callable[[], Engine]) -> MakeWorker:
    """Makes workers that open this engine, whatever model is asked for."""
    make = engine if callable(engine) else lambda: engine
    return lambda post: InferenceWorker(post, prepares(lambda request, progress: make()))


def chat_engine(text: str = "Hello.", *, gate: Semaphore | None = None, context_length: int = 4096) -> ScriptedEngine:
    """A scripted model with a chat template, whose replies are Markdown."""
    style = load_prompt_style("plain", ByteTokenizer())
    return ScriptedEngine(text, gate=gate, context_length=context_length, prompt_style=style)


def tiny_options(**settings: object) -> StartOptions:
    """A start with the real, very small model that comes with llmchat."""
    return options_of(GenerationConfig(max_new_tokens=24), model="tiny", **settings)


def options_of(config: GenerationConfig = GREEDY, **settings: object) -> StartOptions:
    """A start with these settings."""
    return StartOptions(settings=Settings().merged(**settings), generation=ResolvedGeneration(config))
