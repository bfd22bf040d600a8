"""The Python interface: the same replies as the command line's, and errors before anything is opened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import llmchat
from llmchat import GenerationConfig, generate_text, interactive_cli, load, stream_generate
from llmchat.chat.turn import Turn
from llmchat.errors import GenerationError, LlmchatError, ModelLoadError, UsageError
from tests.conftest import DATA
from tests.program import Here


@pytest.fixture(scope="module")
def model() -> llmchat.Model:
    """The model that comes with llmchat, opened once."""
    return load("tiny", threads=1)


def test_llmbuilders_call(tiny_dir: Path, here: Here) -> None:
    """The call of llmbuilder's guide works as it stands, with paths of any kind, and gives what --once prints."""
    places = (tiny_dir / "model" / "model.pt", str(tiny_dir / "tokenizer"))
    text = generate_text(
        model_path=places[0],
        tokenizer_path=places[1],
        prompt="Once upon a time",
        max_new_tokens=12,
        temperature=0.8,
        seed=3,
    )
    given = ("--model", places[0], "--tokenizer", places[1], "-p", "Once upon a time", "-n", "12", "--seed", "3")
    assert here("--once", *given).out == text + "\n"
    config = GenerationConfig(max_new_tokens=12, seed=3)
    assert generate_text(*places, "Once upon a time", config) == text
    assert generate_text(*places, "Once upon a time", config, seed=4) != text
    pieces = stream_generate(*places, "Once upon a time", config)
    assert isinstance(pieces, Iterator)
    assert "".join(pieces) == text


def test_a_model_is_opened_once_for_many_replies(model: llmchat.Model) -> None:
    """The cache is kept between calls, and does not change what is drawn."""
    first = model.generate("Once upon a time", max_new_tokens=8, seed=1)
    again = model.generate("Once upon a time", max_new_tokens=8, seed=1)
    assert (first.cached_tokens, again.cached_tokens) == (0, 3)
    assert first.token_ids == again.token_ids
    assert "".join(model.stream("Once upon a time", max_new_tokens=8, seed=1)) == first.text
    assert model.info.name == "tiny"
    assert repr(model) == "<llmchat.Model tiny float16 on cpu>"


def test_arguments_of_a_reply(model: llmchat.Model) -> None:
    """Prefill, stop strings under both names, None for "off", and a config under single values."""
    whole = model.generate("Once", max_new_tokens=20, do_sample=False, prefill="The sea")
    assert whole.text.startswith("The sea")
    stop = whole.text[20:26]
    greedy = GenerationConfig(max_new_tokens=20, do_sample=False)
    for cut in (
        model.generate("Once", greedy, prefill="The sea", stop=[stop]),
        model.generate("Once", greedy, prefill="The sea", stop_strings=stop),
    ):
        assert cut.text == whole.text[: whole.text.index(stop)]
    reply = model.generate("Once", GenerationConfig(max_new_tokens=2, top_k=5), top_k=None, top_p=None, seed=1)
    assert (reply.config.top_k, reply.config.top_p, len(reply.token_ids)) == (0, 1.0, 2)


def test_a_conversation_is_answered(model: llmchat.Model) -> None:
    """Turns can be given in place of a message, with a system prompt before them."""
    chat = load(DATA / "huggingface" / "llama")
    turns = [Turn("user", "Who are you?"), Turn("assistant", "A model."), Turn("user", "And I?")]
    config = GenerationConfig(max_new_tokens=2, seed=1)
    counts = [chat.generate(prompt, config).prompt_tokens for prompt in ("And I?", turns)]
    counts.append(chat.generate(turns, config, system="Be brief.").prompt_tokens)
    assert counts == sorted(set(counts))
    assert chat.generate("And I?", config, raw=True).prompt_tokens < counts[0]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"temprature": 1}, UsageError, "Did you mean temperature?"),
        ({"temperature": 9}, UsageError, "temperature must be from 0 to 5, not 9."),
        ({"max_new_tokens": 0}, UsageError, "max_new_tokens must be from 1"),
        ({"prompt": " \n"}, UsageError, "The prompt is empty"),
        ({"prompt": "a\udcff"}, UsageError, "not UTF-8"),
        ({"system": "a\0"}, UsageError, "zero byte"),
        ({}, ModelLoadError, "There is no file or directory"),
    ],
)
def test_what_is_wrong_is_raised_at_the_call(
    arguments: dict[str, object], error: type[LlmchatError], words: str
) -> None:
    """Mistakes are found before a model is opened, by both functions alike, without iterating."""
    given = {"model_path": "./none.pt", "prompt": "Once", **arguments}
    for function in (generate_text, stream_generate):
        with pytest.raises(error, match=words):
            function(**given)  # type: ignore[arg-type]


def test_a_prompt_that_does_not_fit() -> None:
    """The failure has its own class and says the numbers."""
    chat = load(DATA / "huggingface" / "llama")
    with pytest.raises(GenerationError, match=r"tokens, but the model's context holds \d+"):
        chat.generate("the sea " * 5000)


def test_the_window_needs_a_terminal() -> None:
    """interactive_cli refuses to draw into a pipe, and wrong values before that."""
    with pytest.raises(UsageError, match="The window needs a terminal"):
        interactive_cli(model_path="tiny", temperature=0.8)
    with pytest.raises(UsageError, match="temperature must be"):
        interactive_cli(model_path="tiny", temperature=8)


def test_replies_can_be_written_down(model: llmchat.Model) -> None:
    """A reply holds what --json prints, in plain values."""
    reply = model.generate("Once", max_new_tokens=3, seed=2)
    assert json.loads(json.dumps([reply.text, reply.token_ids, reply.seed, reply.finish_reason]))[2:] == [2, "length"]


def test_many_prompts(model: llmchat.Model) -> None:
    """The replies are those that each gets alone, with seeds that count up; a bad prompt is named by its place."""
    prompts: list[str | tuple[Turn, ...]] = ["the queen", (Turn("user", "a ship"),), "the sea"]
    replies = model.generate_many(prompts, GenerationConfig(seed=4), max_new_tokens=9)
    for place, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        alone = model.generate(prompt, max_new_tokens=9, seed=4 + place)
        assert (reply.token_ids, reply.seed) == (alone.token_ids, 4 + place)
    with pytest.raises(UsageError, match="Prompt 2: The prompt is empty"):
        model.generate_many(["a", " "])
    assert model.generate_many([]) == []
