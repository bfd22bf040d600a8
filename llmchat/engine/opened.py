"""What is told of a model that is opened, whatever runs it: its description, chat template and end tokens."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmchat.chat.model import ModelInfo, ModelSpec
from llmchat.engine.room import Room

if TYPE_CHECKING:
    from llmchat.checkpoints.checkpoint import Checkpoint, Companions
    from llmchat.engine.engine import Engine
    from llmchat.engine.footprint import Footprint
    from llmchat.tokenizers.prompt_style import PromptStyle


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A model that was found and whose files were read, but for its weights."""

    name: str
    build: Callable[[], Engine]
    """Reads the weights. To be called once, on the thread that will use the engine. Raises ModelLoadError."""
    footprint: Footprint | None = None
    """What it takes; None where that is not known."""
    prepared: int = 0
    """Bytes of memory that have been taken for its weights."""
    advice: str = "Take a smaller model."
    """What to do where it does not fit, as a sentence."""

    def room(self) -> Room | None:
        """The memory that it needs and that there is now; None where that is not known."""
        return None if self.footprint is None else Room.of(self.footprint, self.prepared)

    def require_room(self, held: int = 0) -> None:
        """Refuse a model that does not fit.

        Args:
            held: Bytes that are free once the model that is open is let go.

        Raises:
            MemoryShortError: It needs more memory than there is.
        """
        if (room := self.room()) is not None:
            room.require(self.name, self.advice, held)


def chosen_style(files: Checkpoint | Companions, spec: ModelSpec) -> PromptStyle | None:
    """The chat template that was asked for, or else the model's own."""
    template = spec.chat_template or files.chat_template
    if not template:
        return None
    from llmchat.tokenizers.prompt_style import load_prompt_style

    return load_prompt_style(template, files.tokenizer, is_given=bool(spec.chat_template))


def all_end_ids(files: Checkpoint | Companions, style: PromptStyle | None) -> tuple[int, ...]:
    """Every token that ends a reply: those that the files name, and the one that the template writes behind replies."""
    return tuple(dict.fromkeys((*files.end_ids, *(style.end_ids if style else ()))))


def core_count() -> int:
    """The cores that this process may use, 1 or more."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def describe(
    files: Checkpoint | Companions,
    spec: ModelSpec,
    style: PromptStyle | None,
    *,
    engine: str,
    architecture: str,
    vocab_size: int,
    context_length: int,
    device: str,
    dtype: str,
    threads: int,
    parameters: int,
    reason: str,
) -> ModelInfo:
    """What was opened, for people and transcripts; the arguments behind the style are `ModelInfo`'s."""
    template = spec.chat_template or ""
    notes = (*files.notes, *files.tokenizer.notes)
    if (spec.threads or 0) > (cores := core_count()):
        notes += (f"{spec.threads} threads were asked for. There are {cores} cores, and more threads are no quicker.",)
    if style is not None and template:
        from llmchat.tokenizers.chat_templates import BUILT_IN_TEMPLATES

        # A file may be changed or deleted.
        template = template if template in BUILT_IN_TEMPLATES else style.source
    return ModelInfo(
        name=files.name,
        path=files.path,
        tokenizer_path=files.tokenizer_path,
        architecture=architecture,
        weight_format=files.weight_format,
        device=device,
        dtype=dtype,
        threads=threads,
        vocab_size=vocab_size,
        context_length=context_length,
        parameter_count=parameters,
        has_chat_template=style is not None,
        template_variables=frozenset() if style is None else style.variables,
        chat_template=template,
        training=files.training,
        path_reason=reason,
        parse_special=spec.parse_special,
        notes=notes,
        engine=engine,
    )
