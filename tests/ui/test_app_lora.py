"""An adapter in the window: its slider, which is there only with one, and the command that opens and closes it."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Semaphore

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelSpec
from llmchat.chat.storage import read_transcript
from llmchat.engine.engine import Engine, Logits
from llmchat.engine.opening import open_engine
from llmchat.replay import replay
from tests.conftest import DATA
from tests.ui.helpers import options_of, window

MODEL, ADAPTER = str(DATA / "architectures" / "llama"), str(DATA / "adapters" / "llama")
TOKENIZER = str(DATA / "architectures" / "tokenizer")
SPEC = ModelSpec(MODEL, tokenizer=TOKENIZER, lora=ADAPTER)
LONG = GenerationConfig(temperature=0.0, seed=8417, min_new_tokens=60, max_new_tokens=60)


async def test_the_slider_moves_the_scale_of_a_running_reply() -> None:
    """The next token is the first under the new scale; the move is marked and kept, and the replay is the same."""
    gate, read = Semaphore(0), []

    def adapted() -> Engine:
        engine = open_engine(SPEC, lambda stage, fraction: None)
        decode = engine.decode

        def decode_when_let(token_id: int, draft: Sequence[int] = ()) -> Logits:
            gate.acquire()
            read.append(engine.lora_scale)
            return decode(token_id, draft)

        engine.decode = decode_when_let  # type: ignore[method-assign]
        return engine

    options = options_of(LONG, model=MODEL, tokenizer=TOKENIZER, lora=ADAPTER)
    async with window(adapted, options=options, gate=gate) as it:
        await it.ready()
        assert "LoRA scale" in it.screen
        await it.ask_without_waiting("the sea")
        gate.release(5)
        await it.until(lambda: len(read) == 5, "five tokens")
        slider = it.chat.panel.slider("lora_scale")
        slider.focus()
        await it.press("home")
        gate.release(100)
        await it.idle()
        reply = it.reply
        assert it.session.path is not None
        transcript = read_transcript(it.session.path)[0]
        assert "lora scale 1.00 → off" in it.screen
    (change,) = reply.changes
    assert dict(change.values) == {"lora_scale": 0.0}
    # The scale of a step is that of the token whose logits it gives.
    assert read == [1.0] * (change.token_index - 1) + [0.0] * (len(read) - change.token_index + 1)
    (again,) = replay(transcript, SPEC)
    assert again.first_difference is None
    assert again.token_ids == reply.token_ids


async def test_the_command_opens_and_closes_an_adapter() -> None:
    """Its line in the sidebar comes and goes with it; another model is opened alone."""
    async with window(options=options_of(LONG, model=MODEL, tokenizer=TOKENIZER)) as it:
        await it.ready()
        assert "LoRA scale" not in it.screen
        await it.send(f"/lora {ADAPTER}:0.5")
        await it.until(lambda: it.chat.panel.has_adapter, "the adapter")
        assert it.session.config.lora_scale == 0.5
        assert "llama+llama" in it.screen and "LoRA scale" in it.screen
        await it.send("/lora off")
        await it.until(lambda: not it.chat.panel.has_adapter, "the model alone")
        assert "LoRA scale" not in it.screen
        await it.send(f"/lora {TOKENIZER}")
        await it.until(lambda: "is no LoRA adapter" in f"{it.notes} {it.toasts}", "a refusal")
        assert it.session.model is not None and it.session.model.name == "llama"
