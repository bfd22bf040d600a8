"""Thoughts in the window: open while they are written, one line when the answer has begun, and what keys do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from threading import Semaphore

from llmchat.engine.engine import Prefill, PrefillProgress, StopSignal
from llmchat.tokenizers.prompt_style import PromptStyle
from tests.fakes import ByteTokenizer, ScriptedEngine
from tests.spelled_model import QWEN
from tests.ui.helpers import Window, window

SCRIPT = "<think>\nLet me *see*.\n- a list\n</think>\n\nIt **is** blue."
STYLE = PromptStyle(QWEN, ByteTokenizer())


class Thinker(ScriptedEngine):
    """Goes on with its script from what of it is in the prompt."""

    def prefill(
        self,
        token_ids: Sequence[int],
        should_stop: StopSignal,
        on_progress: PrefillProgress | None = None,
        lora_scales: Sequence[float] | None = None,
    ) -> Prefill:
        """Begin after the letters that are there already."""
        result = super().prefill(token_ids, should_stop, on_progress, lora_scales)
        self._said = len(bytes(token_ids).rpartition(b"assistant\n")[2])
        return replace(result, logits=self._logits())


def thinker(gate: Semaphore | None = None, text: str = SCRIPT) -> ScriptedEngine:
    """An engine that thinks, one byte a token."""
    return Thinker(text, gate=gate, prompt_style=STYLE)


LONG = SCRIPT.replace("- a list", "- a list " + "and so on " * 30)


async def test_a_thought_is_open_while_it_is_written_and_folds_when_the_answer_begins() -> None:
    """As it stands, no Markdown; then a line that says how long and how much."""
    gate = Semaphore(0)
    async with window(thinker(gate, LONG), gate=gate) as it:
        await it.send("hi")
        await it.let_through(gate, lambda: "a list" in it.screen)
        assert "▾ thinking …" in it.screen and "▎ Let me *see*." in it.screen and "▎ - a list" in it.screen
        assert "</think>" not in it.screen and "<think>" not in it.screen
        gate.release(10_000)
        await it.idle()
        assert "▸ thought for " in it.screen and f"{LONG.index('It')} tokens" in it.screen
        assert "Let me" not in it.screen and "It is blue." in it.screen
        assert it.said[-1] == ("assistant", "It **is** blue.")


async def test_t_and_a_click_unfold_a_thought_and_fold_it_again() -> None:
    """On a turn without one, that is said."""
    async with window(thinker()) as it:
        await it.ask("hi")
        await it.select(2)
        await it.press("t")
        assert "no thought" in it.toasts
        await it.press("alt+down")
        await it.press("t")
        assert "▾ thought for " in it.screen and "▎ Let me *see*." in it.screen
        await it.press("t")
        assert "▸ thought for " in it.screen and "Let me" not in it.screen
        row = next(y for y, line in enumerate(it.lines(it.chat.view)) if "▸ thought" in line)
        await it.pilot.click(it.chat.view, offset=(6, row))
        await it.until(lambda: "Let me" in it.screen, "the thought")


async def test_a_thought_that_was_stopped_stays_and_is_gone_on_with() -> None:
    """It is marked as not finished, and /continue goes on from its last token."""
    gate = Semaphore(0)
    async with window(thinker(gate, LONG), gate=gate) as it:
        await it.send("hi")
        await it.let_through(gate, lambda: "Let me" in it.screen)
        await it.press("escape")
        gate.release(1)
        await it.idle()
        assert it.reply.thought.is_open and it.reply.text == "" and "not finished" in it.screen
        gate.release(10_000)
        await it.send("/continue")
        await it.until(lambda: it.is_idle and it.reply.text, "the answer")
        assert it.reply.written == LONG and it.reply.finish_reason == "stop"


async def test_tokens_of_a_thought_are_looked_into_like_any_other() -> None:
    """Heat and the inspector cover it; for that, it unfolds."""
    async with window(thinker()) as it:
        await it.ask("hi")
        await it.select()
        await it.press("enter")
        await it.until(lambda: it.chat.inspector.candidates, "the candidates")
        assert "▎ Let me" in it.screen and f"Token 1 of {len(SCRIPT)}" in it.screen
        place = SCRIPT.index("list")
        await it.press(*["right"] * place)
        await it.until(lambda: f"Token {place + 1} of" in it.screen, "a token of the thought")
        assert cursor_text(it) == "l"
        await it.press(*["right"] * (SCRIPT.index("blue") - place))
        await it.until(lambda: f"Token {SCRIPT.index('blue') + 1} of" in it.screen, "a token of the answer")
        assert cursor_text(it) == "b"
        await it.press("escape")
        assert "Let me" not in it.screen


def cursor_text(it: Window) -> str:
    """What is drawn under the token cursor."""
    strips = it.app.screen._compositor.render_strips()
    parts = [part for strip in strips for part in strip if part.style is not None and part.style.reverse]
    return "".join(part.text for part in parts if len(part.text) == 1 and part.text.isalpha())


async def test_heat_on_a_folded_thought_colours_the_answer_alone() -> None:
    """Its characters are found behind what is not shown."""
    async with window(thinker()) as it:
        await it.ask("hi")
        await it.select()
        await it.press("p")
        entry = it.chat.view._document.entries[-1]
        row = next(at for at, line in enumerate(entry.lines) if "blue" in line.text)
        column = entry.lines[row].text.index("blue")
        assert it.chat.view._tokens.token_at(entry, row, column) == SCRIPT.index("blue")


async def test_y_copies_the_answer_and_i_counts_the_thought() -> None:
    """What was thought is no part of what is copied."""
    async with window(thinker()) as it:
        copied: list[str] = []
        it.chat.copy = copied.append  # type: ignore[method-assign, assignment]
        await it.ask("hi")
        await it.select()
        await it.press("y")
        assert copied == ["It **is** blue."]
        await it.press("i")
        assert "thought before the answer: " in it.notes and f"{SCRIPT.index('It')} tokens" in it.notes


async def test_think_says_what_the_template_knows() -> None:
    """It is a setting, shown above the prompt; without a template that knows it, that is said."""
    engine = thinker()
    engine.info = replace(engine.info, template_variables=STYLE.variables)
    async with window(engine) as it:
        await it.ready()
        await it.send("/think off")
        assert it.session.config.template_args == ("enable_thinking=false",)
        assert "template enable_thinking=false" in it.screen
        await it.ask("hi")
        assert "<think>\n\n</think>" in bytes(engine.prompts[-1]).decode()
        await it.send("/think")
        assert "Told to the template: enable_thinking=false." in it.notes
    async with window(ScriptedEngine()) as it:
        await it.ready()
        await it.send("/think on")
        assert "knows no variable" in it.toasts


async def test_compared_replies_show_their_thoughts_folded() -> None:
    """Beside each other, too, the answer is what is seen first."""
    async with window(thinker()) as it:
        await it.ask("hi")
        await it.send("/compare greedy greedy,top_k=3")
        await it.until(lambda: it.screen.count("It is blue.") >= 2 and "▸ thought for" in it.screen, "both replies")
        assert "Let me" not in it.screen
