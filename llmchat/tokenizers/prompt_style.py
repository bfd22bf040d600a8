"""From turns to the ids of a prompt, through a chat template.

Replies that the model generated go in with their own ids, never tokenised again:
each stands as a mark in the rendered text, which is then cut at the marks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from llmchat.chat.turn import Turn
from llmchat.errors import ChatTemplateError
from llmchat.files import expanded
from llmchat.tokenizers.chat_templates import BUILT_IN_TEMPLATES, ChatTemplate
from llmchat.tokenizers.marked_text import MarkedText, Marks, render_marked
from llmchat.tokenizers.message_renderer import MessageRenderer
from llmchat.tokenizers.prompt_messages import PromptMessage, message_of, token_bytes
from llmchat.tokenizers.said_apart import SaidApart
from llmchat.tokenizers.template_sandbox import MOMENT
from llmchat.tokenizers.thinking import Stage, ThinkingMarks
from llmchat.tokenizers.tokenizer import Tokenizer

_TAG = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")
_STOP_LIMIT = 40
"""Longest stop string, in characters, that is taken from a template."""

_TAIL = 200
"""Characters before a reply that can tell whether it begins in a thought."""


class EncodedPrompt(NamedTuple):
    """A prompt as ids, and where it leaves off."""

    ids: list[int]
    stage: Stage
    """What a reply begins with: a thought that the prompt opened, an answer, or either."""


class PromptStyle:
    """A chat template with the tokenizer that its text is for.

    Args:
        template: A Jinja template, as Hugging Face and GGUF files carry it.
        tokenizer: The model's tokenizer.
        name: The template's name in error messages.
        is_given: Whether a person gave it, and not the model's files.

    Raises:
        ModelLoadError: The template is not valid.
    """

    def __init__(
        self, template: str, tokenizer: Tokenizer, *, name: str = "The model's chat template", is_given: bool = False
    ) -> None:
        self._template = ChatTemplate(template, name=name, is_given=is_given)
        self._tokenizer = tokenizer
        self._renderer = MessageRenderer(self._template, tokenizer, is_given=is_given)

    @property
    def source(self) -> str:
        """The template."""
        return self._template.source

    @property
    def asks_for_date(self) -> bool:
        """Whether the prompt depends on when it is made."""
        return "strftime_now" in self.source

    @property
    def variables(self) -> frozenset[str]:
        """The variables that the template can be told."""
        return self._template.variables

    @property
    def thinking_marks(self) -> ThinkingMarks | None:
        """How the model marks its thoughts; None if it has no marks for that."""
        return self._renderer.thinking_marks

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        """The control token that the template writes right after a reply, if it does: it ends replies."""
        ids = self._tokenizer.encode(self._renderer.behind_reply.strip(), parse_special=True)[:1]
        return tuple(one for one in ids if self._tokenizer.is_control(one) and one != self._tokenizer.unk_id)

    @cached_property
    def stop_strings(self) -> tuple[str, ...]:
        """Texts that end a reply because in this style a person's turn begins with them.

        Read off the template. Where a control token ends the reply there are none.
        """
        between = self._renderer.behind_reply
        line = between.strip().partition("\n")[0].rstrip()
        words = found[0] if (found := _TAG.match(line)) else line
        ids = self._tokenizer.encode(words, parse_special=True)
        if not ids or len(words) > _STOP_LIMIT or self._tokenizer.is_control(ids[0]):
            return ()
        stop = between[: between.index(words)] + words
        return tuple(dict.fromkeys((stop, self._as_written(stop))))

    def render(self, turns: Sequence[Turn], *, add_generation_prompt: bool = True, prefill_text: str = "") -> str:
        """The prompt as text, for people and tests.

        Raises:
            GenerationError: The template cannot render these turns.
        """
        messages = self._renderer.placed([PromptMessage(turn.role, turn.text) for turn in turns])
        if add_generation_prompt:
            return self._renderer.render_prompt(messages, prefill_text)
        return self._renderer.render(messages, add_generation_prompt=False)

    def encode(self, turns: Sequence[Turn], **options: Any) -> list[int]:
        """The ids alone; arguments and errors as for `encode_prompt`."""
        return self.encode_prompt(turns, **options).ids

    def encode_prompt(
        self,
        turns: Sequence[Turn],
        *,
        prefill_text: str = "",
        continued_ids: Sequence[int] = (),
        parse_special: bool = False,
        moment: datetime | None = None,
        told: Mapping[str, Any] | None = None,
    ) -> EncodedPrompt:
        """The ids of the prompt, up to where the reply is to begin or goes on.

        Args:
            turns: Oldest first, the one to answer last.
            prefill_text: Text that the reply begins with.
            continued_ids: Ids of the reply's earlier part, after the prefill.
            parse_special: Whether control tokens that the turns and the prefill name are meant, and
                not only those that the template writes.
            moment: The local time that the template is told; by default the present.
            told: Values of the template's own variables.

        Raises:
            GenerationError: The template cannot render these turns, or leaves out what was said.
        """
        values = {**(told or {}), **({} if moment is None else {MOMENT: moment.isoformat()})}
        marks = Marks()
        messages = self._renderer.placed(
            [message_of(turn, self._tokenizer, marks.mark(number)) for number, turn in enumerate(turns)]
        )
        joint = ""
        if not parse_special:
            joint = self._apart.joint_for([prefill_text, *(message.text for message in messages)])
            messages = [message.changed(lambda text: self._apart.apart(text, joint)) for message in messages]
            prefill_text = "".join(
                part if is_mark else self._apart.apart(part, joint)
                for part, is_mark in self._prefill_parts(prefill_text)
            )
        text = render_marked(messages, marks, lambda some: self._renderer.render_prompt(some, prefill_text, values))
        self._renderer.require_said(messages, "".join(text.parts), values)
        ids = self._with_bos(self._encode_marked(text, joint))
        return EncodedPrompt([*ids, *continued_ids], self._stage(text.parts[-1], prefill_text))

    def _encode_marked(self, text: MarkedText, joint: str) -> list[int]:
        """The ids of the parts, with those of the messages between them."""
        ids: list[int] = []
        for part, message in zip(text.parts, text.messages, strict=False):
            ids += self._encode_part(self._before_reply(part, message), joint, is_first=not ids)
            ids += message.token_ids
        return ids + self._encode_part(text.parts[-1], joint, is_first=not ids)

    def _stage(self, text: str, prefill_text: str) -> Stage:
        """Where a text that ends with a prefill leaves off, before that."""
        marks, begin = self.thinking_marks, max(len(text) - len(prefill_text) - _TAIL, 0)
        return "answer" if marks is None else marks.stage(text.removesuffix(prefill_text)[begin:])

    def _prefill_parts(self, prefill_text: str) -> list[tuple[str, bool]]:
        """A prefill cut at the marks of the thought that it begins with, if it does; and which parts are marks."""
        marks = self.thinking_marks
        if marks is None or not (opening := marks.opens(prefill_text)):
            return [(prefill_text, False)]
        rest = prefill_text[len(opening) :]
        closing = next((mark for mark in marks.closings if mark in rest), "")
        thought, _, answer = rest.partition(closing) if closing else (rest, "", "")
        return [(opening, True), (thought, False), (closing, True), (answer, False)]

    @cached_property
    def _apart(self) -> SaidApart:
        """Keeps what is said apart from what the template writes."""
        return SaidApart(self._tokenizer.control_names, self._template.strings, self._template.source)

    def _with_bos(self, ids: list[int]) -> list[int]:
        """The ids with exactly one begin token where the model wants one."""
        bos_id = self._tokenizer.bos_id
        if bos_id is None:
            return ids
        if self._tokenizer.adds_bos and ids[:1] != [bos_id]:
            return [bos_id, *ids]
        return ids[1:] if ids[:2] == [bos_id, bos_id] else ids

    def _encode_part(self, text: str, joint: str, *, is_first: bool) -> list[int]:
        """The ids of a stretch of the rendered text."""
        anchor = self._anchor
        if is_first or not text or anchor is None:
            return self._encode_text(text, joint)
        # Behind a control token a text goes on; alone, it would get the space that begins a text.
        ids = self._encode_text(self._tokenizer.token_text(anchor) + text, joint)
        return ids[1:] if ids[:1] == [anchor] else self._encode_text(text, joint)

    def _encode_text(self, text: str, joint: str) -> list[int]:
        """The ids of a text; a control token with a joint in its name is only said."""
        if self._apart.is_plain(text, joint):
            return self._tokenizer.encode(text.replace(joint, ""), parse_special=True)
        return self._tokenizer.encode_apart(text, joint)

    @cached_property
    def _anchor(self) -> int | None:
        """A control token behind which a stretch of text can be encoded."""
        known = (self._tokenizer.bos_id, self._tokenizer.eos_id)
        return next((one for one in known if one is not None and self._tokenizer.is_control(one)), None)

    def _before_reply(self, part: str, message: PromptMessage) -> str:
        """The text before generated ids, without the space that the ids bring themselves."""
        brings_space = token_bytes(self._tokenizer, message.token_ids[:1]).startswith(b" ")
        is_own = message.head or message.body.startswith(" ")
        return part.removesuffix(" ") if brings_space and not is_own else part

    def _as_written(self, stop: str) -> str:
        """A stop string as the tokenizer would write it: some vocabularies have no line break or capitals."""
        ids = self._tokenizer.encode(f"a{stop}")
        written = self._tokenizer.decode(ids)
        is_usable = self._tokenizer.unk_id not in ids and written[:1] == "a" and written[1:].strip()
        return written[1:] if is_usable else stop


def load_prompt_style(
    name_or_file_or_template: str | Path, tokenizer: Tokenizer, *, is_given: bool = True
) -> PromptStyle:
    """A style by a built-in name, from a template, or from a file (Jinja, or JSON with `chat_template`).

    Args:
        name_or_file_or_template: Which.
        tokenizer: The model's tokenizer.
        is_given: Whether a person gave it, and not the model's files.

    Raises:
        ModelLoadError: There is no such style or file, or the template is not valid.
    """
    given = str(name_or_file_or_template)
    if given in BUILT_IN_TEMPLATES:
        name = f"The chat template {given}"
        return PromptStyle(BUILT_IN_TEMPLATES[given], tokenizer, name=name, is_given=is_given)
    if any(mark in given for mark in ("{{", "{%", "{#", "\n")):
        return PromptStyle(given, tokenizer, is_given=is_given)
    try:
        text = expanded(given).read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise ChatTemplateError(
            f"There is no chat template {given!r}: give a Jinja file or one of {', '.join(BUILT_IN_TEMPLATES)}."
        ) from None
    source = _from_json(text, given) if given.endswith(".json") else text
    return PromptStyle(source, tokenizer, name=given, is_given=is_given)


def _from_json(text: str, name: str) -> str:
    """The template in a tokenizer_config.json or chat_template.json; of several, the default one."""
    try:
        template = json.loads(text)["chat_template"]
        if isinstance(template, list):
            named = {entry["name"]: entry["template"] for entry in template}
            template = named.get("default") or next(iter(named.values()))
    except (ValueError, LookupError, TypeError, StopIteration):
        template = None
    if not isinstance(template, str):
        raise ChatTemplateError(f"{name} holds no chat template: give a Jinja file or a built-in name.")
    return template
