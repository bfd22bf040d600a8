"""The Python interface: a text from a prompt, at once or as it comes.

The names and arguments are those of llmbuilder's text-generation guide. A
model with a chat template is given the prompt as a message; any other, or any
with `raw=True`, goes on from the prompt's text. What comes back is the reply
alone, without the prompt.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from llmchat.chat.generation_config import SEED_LIMIT, GenerationConfig, roll_seed
from llmchat.chat.job import Job
from llmchat.chat.model import ModelInfo, ModelSpec
from llmchat.chat.plain_text import checked_text
from llmchat.chat.turn import Reply, Turn
from llmchat.errors import LlmchatError, UsageError

if TYPE_CHECKING:
    from llmchat.engine.engine import Engine
    from llmchat.engine.generation import ReplyStream

StrPath = str | os.PathLike[str]


class Model:
    """An open model, for many replies. Not to be used by several threads at once.

    The KV cache is kept between calls: a prompt that begins like the one before
    is read from where they part.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __repr__(self) -> str:
        return f"<llmchat.Model {self.info.name} {self.info.weight_format} on {self.info.device}>"

    @property
    def info(self) -> ModelInfo:
        """What was opened: name, size, context length, precision."""
        return self._engine.info

    def generate(
        self,
        prompt: str | Sequence[Turn],
        config: GenerationConfig | None = None,
        *,
        system: str | None = None,
        raw: bool = False,
        prefill: str = "",
        **parameters: Any,
    ) -> Reply:
        """Make a reply and return everything known of it.

        Args:
            prompt: A message, or the turns of a conversation, oldest first.
            config: The settings; by default the defaults.
            system: A system prompt, which goes before everything else.
            raw: Go on from the prompt's text, without a chat template.
            prefill: What the reply must begin with.
            **parameters: Fields of `GenerationConfig`, over those of `config`.

        Raises:
            UsageError: A parameter is unknown or out of range, or the prompt is empty.
            GenerationError: The prompt does not fit, or the model's numbers are not finite.
        """
        stream = self._start(prompt, config, system, raw, prefill, parameters)
        for _ in stream:
            pass
        return stream.reply()

    def stream(
        self,
        prompt: str | Sequence[Turn],
        config: GenerationConfig | None = None,
        *,
        system: str | None = None,
        raw: bool = False,
        prefill: str = "",
        **parameters: Any,
    ) -> Iterator[str]:
        """Make a reply and yield its text as it becomes certain; arguments and errors as `generate`."""
        stream = self._start(prompt, config, system, raw, prefill, parameters)
        return (piece.text for piece in stream if piece.text)

    def generate_many(
        self,
        prompts: Iterable[str | Sequence[Turn]],
        config: GenerationConfig | None = None,
        *,
        system: str | None = None,
        raw: bool = False,
        prefill: str = "",
        **parameters: Any,
    ) -> list[Reply]:
        """Make a reply to each of many prompts, side by side as far as that is quicker; the replies as one by one.

        Args:
            prompts: Messages, or the turns of conversations.
            config: The settings; the seed is the first reply's, and they count up.
            system: As for `generate`.
            raw: As for `generate`.
            prefill: As for `generate`.
            **parameters: Fields of `GenerationConfig`, over those of `config`.

        Returns:
            The replies in the order of the prompts.

        Raises:
            UsageError: A parameter is unknown or out of range, or a prompt is empty; the message has its place.
            GenerationError: A prompt does not fit, or the model's numbers are not finite.
        """
        from llmchat.engine.many import ManyReplies

        settings = GenerationConfig.from_mapping(_renamed(parameters), config)
        first = roll_seed() if settings.seed is None else settings.seed
        jobs = []
        for place, prompt in enumerate(prompts):
            with _naming(place):
                turns = _turns(prompt, system)
            jobs.append(Job(turns, settings, (first + place) % SEED_LIMIT, raw, prefill))
        replies: dict[int, Reply] = {}
        for place, outcome in ManyReplies(self._engine, jobs):
            if isinstance(outcome, LlmchatError):
                with _naming(place):
                    raise outcome
            replies[place] = outcome
        return [replies[place] for place in range(len(jobs))]

    def _start(
        self,
        prompt: str | Sequence[Turn],
        config: GenerationConfig | None,
        system: str | None,
        raw: bool,
        prefill: str,
        parameters: dict[str, Any],
    ) -> ReplyStream:
        from llmchat.engine.generation import ReplyStream
        from llmchat.engine.prompt import build_prompt

        settings = GenerationConfig.from_mapping(_renamed(parameters), config)
        turns = _turns(prompt, system)
        seed = roll_seed() if settings.seed is None else settings.seed
        room = max(1, min(settings.max_new_tokens, self.info.context_length // 4))
        built = build_prompt(
            self._engine,
            turns,
            raw=raw,
            prefill_text=prefill,
            reply_room=room,
            template_args=settings.template_args,
        )
        stream = ReplyStream(self._engine, built, lambda _: settings, seed)
        stream.prefill()
        return stream


def load(
    model_path: StrPath = "",
    tokenizer_path: StrPath | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    chat_template: str | None = None,
    heads: int | None = None,
    parse_special: bool = False,
    engine: str = "auto",
    lora: StrPath = "",
    ignore_memory: bool = False,
) -> Model:
    """Open a model for many calls.

    Args:
        model_path: A checkpoint, a GGUF file, a Hugging Face directory or a model's name; by
            default the default model, which is fetched once.
        tokenizer_path: A tokenizer file or directory; by default the one beside the model.
        device: "auto", "cpu", "cuda", "mps".
        dtype: "auto", "float32", "bfloat16", "float16".
        threads: CPU threads; by default all cores but one.
        chat_template: A built-in template's name or a Jinja file, over the model's own.
        heads: Attention heads, for a checkpoint that does not say.
        parse_special: Whether the names of control tokens in prompts mean the tokens.
        engine: "auto", "native", "torch", "transformers", "llama-cpp".
        lora: The directory or file of a LoRA adapter; `GenerationConfig.lora_scale` is how much of it is added.
        ignore_memory: Whether to open it also where it seems to need more memory than is free.

    Raises:
        ModelLoadError: It cannot be opened; the message says what to do.
    """
    from llmchat.engine.opening import open_engine

    tokenizer = None if tokenizer_path is None else os.fspath(tokenizer_path)
    model, lora = os.fspath(model_path), os.fspath(lora)
    spec = ModelSpec(
        model, tokenizer, device, dtype, threads, chat_template, heads, parse_special, engine, lora, ignore_memory
    )
    return Model(open_engine(spec, lambda stage, fraction: None))


def generate_text(
    model_path: StrPath = "",
    tokenizer_path: StrPath | None = None,
    prompt: str = "",
    config: GenerationConfig | None = None,
    *,
    system: str | None = None,
    raw: bool = False,
    prefill: str = "",
    device: str = "auto",
    **parameters: Any,
) -> str:
    """Open a model, make one reply and return its text, without the prompt.

    Args:
        model_path: As for `load`.
        tokenizer_path: As for `load`.
        prompt: A message, or the beginning of a text.
        config: The settings; by default the defaults.
        system: A system prompt.
        raw: Go on from the prompt's text, without a chat template.
        prefill: What the reply must begin with.
        device: As for `load`.
        **parameters: Fields of `GenerationConfig`, such as `max_new_tokens` and `temperature`.

    Raises:
        UsageError: A parameter is unknown or out of range, or the prompt is empty.
        ModelLoadError: The model cannot be opened.
        GenerationError: The reply cannot be made.
    """
    settings = GenerationConfig.from_mapping(_renamed(parameters), config)
    _turns(prompt, system)
    model = load(model_path, tokenizer_path, device=device)
    return model.generate(prompt, settings, system=system, raw=raw, prefill=prefill).text


def stream_generate(
    model_path: StrPath = "",
    tokenizer_path: StrPath | None = None,
    prompt: str = "",
    config: GenerationConfig | None = None,
    *,
    system: str | None = None,
    raw: bool = False,
    prefill: str = "",
    device: str = "auto",
    **parameters: Any,
) -> Iterator[str]:
    """As `generate_text`, but yield the text in pieces as it becomes certain."""
    settings = GenerationConfig.from_mapping(_renamed(parameters), config)
    _turns(prompt, system)
    model = load(model_path, tokenizer_path, device=device)
    return model.stream(prompt, settings, system=system, raw=raw, prefill=prefill)


def interactive_cli(
    model_path: StrPath = "",
    tokenizer_path: StrPath | None = None,
    config: GenerationConfig | None = None,
    **parameters: Any,
) -> None:
    """Open the full-screen window on a model, and return when it is closed.

    Args:
        model_path: As for `load`.
        tokenizer_path: As for `load`.
        config: The settings to begin with; by default the defaults.
        **parameters: Fields of `GenerationConfig`, over those of `config`.

    Raises:
        UsageError: A parameter is wrong, or there is no terminal.
    """
    from llmchat.options import StartOptions
    from llmchat.settings import ResolvedGeneration, load_settings
    from llmchat.streams import require_terminal
    from llmchat.ui.launch import run_window

    tokenizer = None if tokenizer_path is None else os.fspath(tokenizer_path)
    given = GenerationConfig.from_mapping(_renamed(parameters), config)
    settings = load_settings().merged(model=os.fspath(model_path) or None, tokenizer=tokenizer)
    require_terminal()
    run_window(StartOptions(settings, ResolvedGeneration().changed(given.difference(), "flag")))


@contextlib.contextmanager
def _naming(place: int) -> Iterator[None]:
    """Let an error say which of many prompts it is about."""
    try:
        yield
    except LlmchatError as error:
        raise type(error)(f"Prompt {place + 1}: {error.message}") from None


def _turns(prompt: str | Sequence[Turn], system: str | None) -> tuple[Turn, ...]:
    """A message or a conversation, after a system prompt if there is one."""
    turns = (Turn("user", prompt),) if isinstance(prompt, str) else tuple(prompt)
    if not turns or not turns[-1].text.strip():
        raise UsageError("The prompt is empty. Give some text to answer.")
    if system:
        turns = (Turn("system", system), *turns)
    for turn in turns:
        checked_text(turn.text, "The prompt" if turn.role == "user" else f"The {turn.role}'s text")
    return turns


def _renamed(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters, with stop strings under our own name where llmbuilder's is used."""
    return {("stop" if name == "stop_strings" else name): value for name, value in parameters.items()}
