"""From turns to the ids of a prompt, through a chat template.

Replies that the model generated go in with their own ids, never tokenised again:
each stands as a mark in the rendered text, which is then cut at the marks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from llmchat.chat.turn import Turn
from llmchat.errors import ChatTemplateError, GenerationError
from llmchat.files import expanded
from llmchat.tokenizers.chat_templates import BUILT_IN_TEMPLATES, ChatTemplate, Content
from llmchat.tokenizers.prompt_messages import (
    PromptMessage,
    fold_system,
    merge_user_turns,
    message_of,
    new_mark,
    only_marked,
    says_the_same,
    token_bytes,
)
from llmchat.tokenizers.said_apart import SaidApart
from llmchat.tokenizers.template_sandbox import MOMENT
from llmchat.tokenizers.thinking import Stage, ThinkingMarks, find_marks
from llmchat.tokenizers.tokenizer import Tokenizer

_TAG = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")
_WRITTEN_PART = re.compile(r"""["']type["']""")
_STOP_LIMIT = 40
"""Longest stop string, in characters, that is taken from a template."""


_THOUGHT_KEYS = ("reasoning_content", "thinking", "reasoning")
"""What templates call a past thought in a message, beside its `content`."""

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
        self._is_given = is_given
        self._tokenizer = tokenizer
        self._moment: datetime | None = None
        self._told: Mapping[str, Any] = {}

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

    @cached_property
    def thinking_marks(self) -> ThinkingMarks | None:
        """How the model marks its thoughts; None if it has no marks for that."""
        return find_marks(self._tokenizer, self.source)

    @cached_property
    def _thought_key(self) -> str | None:
        """What the template calls a past thought; None where past thoughts are left out."""
        return next((key for key in _THOUGHT_KEYS if key in self._template.keys), None)

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        """The control token that the template writes right after a reply, if it does: it ends replies."""
        ids = self._tokenizer.encode(self._behind_reply.strip(), parse_special=True)[:1]
        return tuple(one for one in ids if self._tokenizer.is_control(one) and one != self._tokenizer.unk_id)

    @cached_property
    def stop_strings(self) -> tuple[str, ...]:
        """Texts that end a reply because in this style a person's turn begins with them.

        Read off the template. Where a control token ends the reply there are none.
        """
        between = self._behind_reply
        line = between.strip().partition("\n")[0].rstrip()
        words = found[0] if (found := _TAG.match(line)) else line
        ids = self._tokenizer.encode(words, parse_special=True)
        if not ids or len(words) > _STOP_LIMIT or self._tokenizer.is_control(ids[0]):
            return ()
        stop = between[: between.index(words)] + words
        return tuple(dict.fromkeys((stop, self._as_written(stop))))

    @cached_property
    def _behind_reply(self) -> str:
        """What the template writes between a reply and what a person says then; "" if it shows neither."""
        said = [PromptMessage("user", new_mark()), PromptMessage("assistant", new_mark())]
        said.append(PromptMessage("user", new_mark()))
        try:
            text = self._render(said, False)
        except GenerationError:
            return ""
        return text.partition(said[1].text)[2].partition(said[2].text)[0]

    def render(self, turns: Sequence[Turn], *, add_generation_prompt: bool = True, prefill_text: str = "") -> str:
        """The prompt as text, for people and tests.

        Raises:
            GenerationError: The template cannot render these turns.
        """
        messages = self._placed([PromptMessage(turn.role, turn.text) for turn in turns])
        return self._render_prompt(messages, prefill_text) if add_generation_prompt else self._render(messages, False)

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
        self._moment, self._told = moment, told or {}
        messages = self._placed([message_of(turn, self._tokenizer) for turn in turns])
        joint = ""
        if not parse_special:
            joint = self._apart.joint_for([prefill_text, *(message.text for message in messages)])
            messages = [message.changed(lambda text: self._apart.apart(text, joint)) for message in messages]
            prefill_text = "".join(
                part if is_mark else self._apart.apart(part, joint)
                for part, is_mark in self._prefill_parts(prefill_text)
            )
        text, marked = self._render_marked(messages, prefill_text)
        self._check_said(messages, text)
        ids: list[int] = []
        for message in marked:
            part, text = text.split(message.mark)
            ids += self._encode_part(self._before_reply(part, message), joint, is_first=not ids)
            ids += message.token_ids
        ids += self._encode_part(text, joint, is_first=not ids)
        return EncodedPrompt([*self._with_bos(ids), *continued_ids], self._stage(text, prefill_text))

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

    def _check_said(self, messages: Sequence[PromptMessage], text: str) -> None:
        """Refuse a template that leaves out the system's words, or what the person said last.

        Raises:
            GenerationError: It does.
        """
        last = {message.role: message for message in messages if message.role in ("system", "user")}
        for message in last.values():
            # Templates may change what is said; then a word is followed in its place.
            if message.text.strip() in text or self._shows(messages, message):
                continue
            whose = "the system prompt" if message.role == "system" else "what you say"
            failure = ChatTemplateError if self._is_given else GenerationError
            raise failure(f"{self._template.name} leaves out {whose}: choose another with --chat-template.")

    def _shows(self, messages: Sequence[PromptMessage], asked: PromptMessage) -> bool:
        """Whether the template would show a word in the place of a message."""
        word = replace(asked, text=new_mark())
        words = [word if message is asked else message.plain for message in messages]
        return word.text in self._render(words, True).lower()

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

    def _render_marked(
        self, messages: Sequence[PromptMessage], prefill_text: str
    ) -> tuple[str, Sequence[PromptMessage]]:
        """The rendered text, and the messages whose ids stand as marks in it, in the text's order."""
        plain = self._render_prompt([message.plain for message in messages], prefill_text)

        def rendered(kept: Sequence[PromptMessage]) -> str | None:
            text = self._render_prompt(only_marked(messages, kept), prefill_text)
            return text if says_the_same(text, kept, plain) else None

        marked = [message for message in messages if message.mark]
        text = rendered(marked)
        if text is None:
            # The template treats replies by what they say, so each is tried alone.
            marked = [message for message in marked if rendered([message]) is not None]
            text = rendered(marked)
        if text is None:
            return plain, []
        return text, sorted(marked, key=lambda message: text.index(message.mark))

    def _render_prompt(self, messages: Sequence[PromptMessage], prefill_text: str) -> str:
        """The text up to where the reply goes on."""
        marks = self.thinking_marks
        if marks is not None and marks.opens(prefill_text):
            # Written where the model would write it, and once.
            return marks.without(self._render(messages, True)) + prefill_text
        if prefill_text:
            # As the start of a last turn the prefill stands where it will stand in later prompts.
            begun = PromptMessage("assistant", prefill_text, head=prefill_text, mark=new_mark())
            text = self._render([*messages, begun], False)
            if text.count(begun.mark) == 1:
                return text.partition(begun.mark)[0]
        return self._render(messages, True) + prefill_text

    def _render(self, messages: Sequence[PromptMessage], add_generation_prompt: bool) -> str:
        try:
            return self._render_as_is(messages, add_generation_prompt)
        except GenerationError:
            merged = merge_user_turns(messages)
            if len(merged) == len(messages):
                raise
            return self._render_as_is(merged, add_generation_prompt)

    def _render_as_is(self, messages: Sequence[PromptMessage], add_generation_prompt: bool) -> str:
        return self._render_content(
            [
                (message.role, _as_parts(message.content) if message.role in self._in_parts else message.content)
                for message in messages
            ],
            add_generation_prompt,
            [message.thinking for message in messages],
        )

    def _render_content(
        self, messages: Sequence[tuple[str, Content]], add_generation_prompt: bool, thoughts: Sequence[str] = ()
    ) -> str:
        moment = {} if self._moment is None else {MOMENT: self._moment.isoformat()}
        said: list[dict[str, Content]] = [{"role": role, "content": content} for role, content in messages]
        for message, thought in zip(said, thoughts, strict=False):
            if thought and self._thought_key:
                message[self._thought_key] = thought
        return self._template.render(
            said,
            **self._told,
            **moment,
            add_generation_prompt=add_generation_prompt,
            bos_token=self._name_of(self._tokenizer.bos_id),
            eos_token=self._name_of(self._tokenizer.eos_id),
            unk_token=self._name_of(self._tokenizer.unk_id),
        )

    @cached_property
    def _in_parts(self) -> tuple[str, ...]:
        """The roles whose words the template shows only where they come as lists of parts."""
        asked: list[tuple[str, Content]] = [("user", _as_parts("a"))]
        if self._shows_word([], "user") or not self._shows_word([], "user", as_parts=True):
            return ()
        answers_as_text = self._shows_word(asked, "assistant")
        heads_as_text = self._shows_word([], "system", behind=asked)
        return ("user", *(() if answers_as_text else ("assistant",)), *(() if heads_as_text else ("system",)))

    def _shows_word(
        self,
        before: Sequence[tuple[str, Content]],
        role: str,
        *,
        as_parts: bool = False,
        behind: Sequence[tuple[str, Content]] = (),
    ) -> bool:
        """Whether a word comes out that is said in a role."""
        word = new_mark()
        said = [*before, (role, _as_parts(word) if as_parts else word), *behind]
        try:
            text = self._render_content(said, True).lower()
        except GenerationError:
            return False
        # A list that is written out as it stands is no text.
        return word in text and not _WRITTEN_PART.search(text)

    def _placed(self, messages: list[PromptMessage]) -> list[PromptMessage]:
        """The messages, with the system's words in a user turn where the template has no place for them."""
        has_system = any(message.role == "system" for message in messages)
        return fold_system(messages) if has_system and not self._has_system else messages

    @cached_property
    def _has_system(self) -> bool:
        """Whether the template shows a system turn."""
        words = new_mark()
        try:
            return words in self._render_as_is([PromptMessage("system", words), PromptMessage("user", "a")], True)
        except GenerationError:
            return False

    def _as_written(self, stop: str) -> str:
        """A stop string as the tokenizer would write it: some vocabularies have no line break or capitals."""
        ids = self._tokenizer.encode(f"a{stop}")
        written = self._tokenizer.decode(ids)
        is_usable = self._tokenizer.unk_id not in ids and written[:1] == "a" and written[1:].strip()
        return written[1:] if is_usable else stop

    def _name_of(self, token_id: int | None) -> str:
        return "" if token_id is None else self._tokenizer.token_text(token_id)


def _as_parts(text: str) -> Content:
    """What is said, as templates of models that also see pictures have it."""
    return [{"type": "text", "text": text}]


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
