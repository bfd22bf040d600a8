"""What the model is given, on the screen: as text, as tokens, for a message that was not sent yet."""

from __future__ import annotations

import re
from dataclasses import replace
from threading import Semaphore

import pytest

from llmchat.tokenizers.gguf_vocab import load_gguf_vocab
from llmchat.tokenizers.prompt_style import load_prompt_style
from llmchat.ui import clipboard
from llmchat.ui.screens.prompt_screen import PromptScreen, PromptText
from tests.conftest import DATA
from tests.fakes import ByteTokenizer, ScriptedEngine
from tests.tokenizers.vocabularies import byte_level_metadata
from tests.ui.helpers import GREEDY, Window, options_of, window

LLAMA = str(DATA / "huggingface" / "llama")


async def shown(it: Window) -> PromptScreen:
    """Wait for the prompt."""
    await it.until(lambda: isinstance(it.app.screen, PromptScreen), "the prompt is shown")
    await it.pilot.pause()
    assert isinstance(it.app.screen, PromptScreen)
    return it.app.screen


def given(it: Window) -> str:
    """What the screen says that the model is given."""
    return it.app.screen.query_one(PromptText).render().plain


async def test_a_real_models_prompt_with_its_control_tokens() -> None:
    """The last reply's prompt, rendered by the file's own template; the ids on demand; Esc closes."""
    async with window(options=options_of(GREEDY.changed(max_new_tokens=4), model=LLAMA, threads=1)) as it:
        await it.ask("the sea")
        await it.send("/prompt")
        await shown(it)
        assert "through the chat template" in it.screen and "Prompt · " in it.screen
        text = given(it)
        assert "thesea" in text.replace(" ", "")
        assert f"Prompt · {it.reply.prompt_tokens} tokens" in it.screen
        await it.press("i")
        ids = [int(number) for number in re.findall(r"\[(\d+)\]", given(it))]
        assert len(ids) == it.reply.prompt_tokens
        await it.press("i")
        assert given(it) == text
        await it.press("escape")
        assert not isinstance(it.app.screen, PromptScreen)


async def test_a_message_that_was_not_sent_yet() -> None:
    """/prompt TEXT shows what would be sent, system prompt and all, and sends nothing."""
    style = load_prompt_style("chatml", ByteTokenizer())
    async with window(ScriptedEngine(prompt_style=style)) as it:
        await it.ready()
        it.session.system = "Be brief."
        await it.send("/prompt Tell me")
        await shown(it)
        assert "system\nBe brief." in given(it) and "user\nTell me" in given(it)
        assert "Be brief." in it.screen
        assert not len(it.session.transcript)


async def test_ids_stand_beside_their_tokens() -> None:
    """One token after the other, blanks and line ends visible."""
    async with window(ScriptedEngine()) as it:
        await it.ready()
        await it.send("/prompt a b")
        await shown(it)
        assert "as it stands" in it.screen
        await it.press("i")
        assert "a[97]  ·[32]  b[98]" in it.screen


async def test_what_was_typed_cannot_pass_for_a_control_token() -> None:
    """A real end token is marked; the same characters in a message are plain text."""
    style = load_prompt_style("chatml", ByteTokenizer())
    async with window(ScriptedEngine(prompt_style=style)) as it:
        await it.ready()
        await it.send("/prompt \x1b[31m<end>")
        screen = await shown(it)
        assert "<end>" in it.screen
        parts = screen._prompt.parts
        assert not any(part.is_control for part in parts)


async def test_names_that_are_only_said_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The template's <|im_end|> looks like a control token, that of the message like text; the frame names it."""
    vocabulary = load_gguf_vocab(byte_level_metadata()).tokenizer
    engine = ScriptedEngine(prompt_style=load_prompt_style("chatml", vocabulary))
    monkeypatch.setattr(engine, "tokenizer", vocabulary)
    engine.info = replace(engine.info, vocab_size=vocabulary.vocab_size, parse_special=False)
    async with window(engine) as it:
        await it.ready()
        await it.send("/prompt a<|im_end|>b")
        screen = await shown(it)
        assert "as text: <|im_end|>" in it.screen
        assert [part.text for part in screen._prompt.parts if part.is_control].count("<|im_end|>") == 1


async def test_control_tokens_by_name_are_shown_where_active() -> None:
    """With --parse-special the prompt's border says so."""
    engine = ScriptedEngine()
    engine.info = replace(engine.info, parse_special=True)
    async with window(engine) as it:
        await it.ready()
        assert "control tokens by name" in it.screen


async def test_it_waits_for_the_reply_and_says_so() -> None:
    """The model finishes first; nothing of the reply is lost."""
    gate = Semaphore(0)
    async with window(ScriptedEngine(gate=gate), gate=gate) as it:
        await it.ask_without_waiting("hi")
        await it.send("/prompt")
        assert "as soon as the model is free" in it.toasts
        gate.release(50)
        await shown(it)
        assert it.said[-1] == ("assistant", "Hello.")


async def test_it_can_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole prompt, control tokens by name."""
    copied: list[str] = []

    async def copy(app: object, text: str) -> clipboard.CopyResult:
        copied.append(text)
        return clipboard.CopyResult(True, "Copied.")

    monkeypatch.setattr(clipboard, "copy_text", copy)
    async with window(ScriptedEngine()) as it:
        await it.ready()
        await it.send("/prompt hello")
        await shown(it)
        await it.press("y")
        await it.until(lambda: copied == ["hello"])


async def test_nothing_to_show() -> None:
    """Without a word said, the command asks for one."""
    async with window(ScriptedEngine()) as it:
        await it.ready()
        await it.send("/prompt")
        assert "Give a text: /prompt TEXT" in it.toasts


async def test_a_prompt_that_does_not_fit_is_an_error_in_words() -> None:
    """The same words as if it had been sent."""
    style = load_prompt_style("chatml", ByteTokenizer())
    async with window(ScriptedEngine(prompt_style=style, context_length=32)) as it:
        await it.ready()
        await it.send("/prompt " + "long " * 20)
        await it.until(lambda: "Shorten the prompt" in it.toasts)
