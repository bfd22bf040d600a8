"""From messages to the text of a prompt: what a chat template makes of them, whatever its habits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from llmchat.errors import ChatTemplateError, GenerationError
from llmchat.tokenizers.chat_templates import ChatTemplate, Content
from llmchat.tokenizers.prompt_messages import PromptMessage, fold_system, merge_user_turns, new_word
from llmchat.tokenizers.thinking import ThinkingMarks, find_marks
from llmchat.tokenizers.tokenizer import Tokenizer

_WRITTEN_PART = re.compile(r"""["']type["']""")

_THOUGHT_KEYS = ("reasoning_content", "thinking", "reasoning")
"""What templates call a past thought in a message, beside its `content`."""

Told = Mapping[str, Any]
"""Values of the template's own variables, and of the moment at which it is rendered."""

_NOTHING: Told = {}


class MessageRenderer:
    """A chat template, asked in the ways that it understands.

    Args:
        template: The template.
        tokenizer: Names its control tokens.
        is_given: Whether a person gave the template, and not the model's files.
    """

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer, *, is_given: bool) -> None:
        self.template = template
        self._is_given = is_given
        self._tokenizer = tokenizer

    @cached_property
    def thinking_marks(self) -> ThinkingMarks | None:
        """How the model marks its thoughts; None if it has no marks for that."""
        return find_marks(self._tokenizer, self.template.source)

    @cached_property
    def behind_reply(self) -> str:
        """What the template writes between a reply and what a person says then; "" if it shows neither."""
        said = [PromptMessage(role, new_word()) for role in ("user", "assistant", "user")]
        try:
            text = self.render(said, add_generation_prompt=False)
        except GenerationError:
            return ""
        return text.partition(said[1].text)[2].partition(said[2].text)[0]

    def placed(self, messages: list[PromptMessage]) -> list[PromptMessage]:
        """The messages, with the system's words in a user turn where the template has no place for them."""
        has_system = any(message.role == "system" for message in messages)
        return fold_system(messages) if has_system and not self._has_system else messages

    def render(
        self, messages: Sequence[PromptMessage], told: Told = _NOTHING, *, add_generation_prompt: bool = True
    ) -> str:
        """The text.

        Raises:
            GenerationError: The template cannot render these messages.
        """
        try:
            return self._render_as_is(messages, told, add_generation_prompt)
        except GenerationError:
            merged = merge_user_turns(messages)
            if len(merged) == len(messages):
                raise
            return self._render_as_is(merged, told, add_generation_prompt)

    def render_prompt(self, messages: Sequence[PromptMessage], prefill_text: str, told: Told = _NOTHING) -> str:
        """The text up to where the reply goes on behind a prefill; errors as for `render`."""
        marks = self.thinking_marks
        if marks is not None and marks.opens(prefill_text):
            # Written where the model would write it, and once.
            return marks.without(self.render(messages, told)) + prefill_text
        if prefill_text:
            # As the start of a last turn the prefill stands where it will stand in later prompts.
            begun = PromptMessage("assistant", prefill_text, head=prefill_text, mark=new_word())
            text = self.render([*messages, begun], told, add_generation_prompt=False)
            if text.count(begun.mark) == 1:
                return text.partition(begun.mark)[0]
        return self.render(messages, told) + prefill_text

    def require_said(self, messages: Sequence[PromptMessage], text: str, told: Told) -> None:
        """Refuse a template that leaves out the system's words, or what the person said last.

        Args:
            messages: What is said.
            text: What the template made of them.
            told: What it was told.

        Raises:
            GenerationError: It does.
        """
        last = {message.role: message for message in messages if message.role in ("system", "user")}
        for message in last.values():
            # Templates may change what is said; then a word is followed in its place.
            if message.text.strip() in text or self._shows(messages, message, told):
                continue
            whose = "the system prompt" if message.role == "system" else "what you say"
            failure = ChatTemplateError if self._is_given else GenerationError
            raise failure(f"{self.template.name} leaves out {whose}: choose another with --chat-template.")

    def _shows(self, messages: Sequence[PromptMessage], asked: PromptMessage, told: Told) -> bool:
        """Whether the template would show a word in the place of a message."""
        word = PromptMessage(asked.role, new_word())
        words = [word if message is asked else message.plain for message in messages]
        return word.text in self.render(words, told).lower()

    def _render_as_is(self, messages: Sequence[PromptMessage], told: Told, add_generation_prompt: bool) -> str:
        said: list[dict[str, Content]] = []
        for message in messages:
            in_parts = message.role in self._in_parts
            said.append(_said(message.role, _as_parts(message.content) if in_parts else message.content))
            if message.thinking and self._thought_key:
                said[-1][self._thought_key] = message.thinking
        return self._render_said(said, told, add_generation_prompt)

    def _render_said(self, said: Sequence[Mapping[str, Content]], told: Told, add_generation_prompt: bool) -> str:
        return self.template.render(
            said,
            **told,
            add_generation_prompt=add_generation_prompt,
            bos_token=self._name_of(self._tokenizer.bos_id),
            eos_token=self._name_of(self._tokenizer.eos_id),
            unk_token=self._name_of(self._tokenizer.unk_id),
        )

    @cached_property
    def _thought_key(self) -> str | None:
        """What the template calls a past thought; None where past thoughts are left out."""
        return next((key for key in _THOUGHT_KEYS if key in self.template.keys), None)

    @cached_property
    def _in_parts(self) -> tuple[str, ...]:
        """The roles whose words the template shows only where they come as lists of parts."""
        asked = [_said("user", _as_parts("a"))]
        if self._shows_word([], "user") or not self._shows_word([], "user", as_parts=True):
            return ()
        answers_as_text = self._shows_word(asked, "assistant")
        heads_as_text = self._shows_word([], "system", behind=asked)
        return ("user", *(() if answers_as_text else ("assistant",)), *(() if heads_as_text else ("system",)))

    def _shows_word(
        self,
        before: Sequence[Mapping[str, Content]],
        role: str,
        *,
        as_parts: bool = False,
        behind: Sequence[Mapping[str, Content]] = (),
    ) -> bool:
        """Whether a word comes out that is said in a role."""
        word = new_word()
        said = [*before, _said(role, _as_parts(word) if as_parts else word), *behind]
        try:
            text = self._render_said(said, _NOTHING, True).lower()
        except GenerationError:
            return False
        # A list that is written out as it stands is no text.
        return word in text and not _WRITTEN_PART.search(text)

    @cached_property
    def _has_system(self) -> bool:
        """Whether the template shows a system turn."""
        words = new_word()
        try:
            return words in self._render_as_is([PromptMessage("system", words), PromptMessage("user", "a")], {}, True)
        except GenerationError:
            return False

    def _name_of(self, token_id: int | None) -> str:
        return "" if token_id is None else self._tokenizer.token_text(token_id)


def _said(role: str, content: Content) -> dict[str, Content]:
    return {"role": role, "content": content}


def _as_parts(text: str) -> Content:
    """What is said, as templates of models that also see pictures have it."""
    return [{"type": "text", "text": text}]
