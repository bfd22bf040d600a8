"""From turns to the ids of a prompt, through a chat template.

Replies that the model generated go in with their own ids, never tokenised again:
each stands as a mark in the rendered text, which is then cut at the marks.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from llmchat.chat.turn import Turn
from llmchat.errors import GenerationError, ModelLoadError
from llmchat.tokenizers.chat_templates import BUILT_IN_TEMPLATES, ChatTemplate
from llmchat.tokenizers.tokenizer import Tokenizer

_TAG = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")
_STOP_LIMIT = 40
"""Longest stop string, in characters, that is taken from a template."""


@dataclass(frozen=True, slots=True)
class _Message:
    """One turn as the template sees it, and the generated ids that may stand for a part of it."""

    role: str
    text: str
    head: str = ""
    """Text before the ids: the prefill."""
    token_ids: tuple[int, ...] = ()
    """Ids that say exactly what stands between head and tail; empty for plain text."""
    tail: str = ""
    """Text after the ids."""
    mark: str = ""
    """What stands for the ids in the rendered text."""

    @property
    def body(self) -> str:
        """The text that the ids stand for, as far as it lies in this message."""
        return self.text[len(self.head) : len(self.text) - len(self.tail)]


class PromptStyle:
    """A chat template with the tokenizer that its text is for.

    Args:
        template: A Jinja template, as Hugging Face and GGUF files carry it.
        tokenizer: The model's tokenizer.
        name: The template's name in error messages.

    Raises:
        ModelLoadError: The template is not valid.
    """

    def __init__(self, template: str, tokenizer: Tokenizer, *, name: str = "The model's chat template") -> None:
        self._template = ChatTemplate(template, name=name)
        self._tokenizer = tokenizer

    @cached_property
    def stop_strings(self) -> tuple[str, ...]:
        """Texts that end a reply because in this style a person's turn begins with them.

        Read off the template. Where a control token ends the reply there are none.
        """
        first, reply, second = (secrets.token_hex(8) for _ in range(3))
        messages = [_Message("user", first), _Message("assistant", reply), _Message("user", second)]
        try:
            between = self._render(messages, False).partition(reply)[2].partition(second)[0]
        except GenerationError:
            return ()
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
        messages = [_Message(turn.role, turn.text) for turn in self._foldable(turns)]
        return self._render_prompt(messages, prefill_text) if add_generation_prompt else self._render(messages, False)

    def encode(self, turns: Sequence[Turn], *, prefill_text: str = "", continued_ids: Sequence[int] = ()) -> list[int]:
        """The ids of the prompt, up to where the reply is to begin.

        Args:
            turns: Oldest first, the one to answer last.
            prefill_text: Text that the reply begins with.
            continued_ids: Ids of the reply's earlier part, after the prefill.

        Raises:
            GenerationError: The template cannot render these turns.
        """
        text, messages = self._marked([self._message(turn) for turn in self._foldable(turns)], prefill_text)
        ids: list[int] = []
        for message in messages:
            part, text = text.split(message.mark)
            ids += self._encode_part(self._before_reply(part, message), is_first=not ids)
            ids += message.token_ids
        ids += self._encode_part(text, is_first=not ids)
        return [*self._with_bos(ids), *continued_ids]

    def _with_bos(self, ids: list[int]) -> list[int]:
        """The ids with exactly one begin token where the model wants one."""
        bos_id = self._tokenizer.bos_id
        if bos_id is None:
            return ids
        if self._tokenizer.adds_bos and ids[:1] != [bos_id]:
            return [bos_id, *ids]
        return ids[1:] if ids[:2] == [bos_id, bos_id] else ids

    def _encode_part(self, text: str, *, is_first: bool) -> list[int]:
        """The ids of a stretch of the rendered text."""
        anchor = self._anchor
        if is_first or not text or anchor is None:
            return self._tokenizer.encode(text, parse_special=True) if text else []
        # Behind a control token a text goes on; alone, it would get the space that begins a text.
        ids = self._tokenizer.encode(self._tokenizer.token_text(anchor) + text, parse_special=True)
        return ids[1:] if ids[:1] == [anchor] else self._tokenizer.encode(text, parse_special=True)

    @cached_property
    def _anchor(self) -> int | None:
        known = (self._tokenizer.bos_id, self._tokenizer.eos_id)
        return next((one for one in known if one is not None and self._tokenizer.is_control(one)), None)

    def _before_reply(self, part: str, message: _Message) -> str:
        """The text before generated ids, without the space that the ids bring themselves."""
        brings_space = self._bytes(message.token_ids).startswith(b" ") and not message.body.startswith(" ")
        return part.removesuffix(" ") if brings_space and not message.head else part

    def _message(self, turn: Turn) -> _Message:
        """A turn with its generated ids, as far as they say what its text says."""
        plain, reply = _Message(turn.role, turn.text), turn.reply
        if turn.role != "assistant" or reply is None or not turn.text.startswith(reply.prefill_text):
            return plain
        body = turn.text[len(reply.prefill_text) :]
        token_ids = (*reply.continued_ids, *reply.token_ids)
        said = self._bytes(token_ids).decode("utf-8", "replace")
        if not said.lstrip().startswith(body.strip()) or not body.strip():
            return plain
        count = self._covered(token_ids, body)
        if said.strip() == body.strip():
            count, rest = len(token_ids), ""
        else:
            rest = body.lstrip().removeprefix(self._bytes(token_ids[:count]).decode("utf-8", "replace").lstrip())
        if not count:
            return plain
        return _Message(turn.role, turn.text, reply.prefill_text, token_ids[:count], rest, secrets.token_hex(12))

    def _covered(self, token_ids: Sequence[int], body: str) -> int:
        """How many leading ids lie wholly inside a text: a stop string cuts replies in the middle of a token."""
        room = len(body.lstrip().encode())
        said = b""
        for count, token_id in enumerate(token_ids):
            said += self._tokenizer.token_bytes(token_id)
            if len(said.lstrip()) > room:
                return count
        return len(token_ids)

    def _marked(self, messages: list[_Message], prefill_text: str) -> tuple[str, list[_Message]]:
        """The rendered text with a mark for every reply that may stand as ids, and these messages in order."""
        plain = self._render_prompt([_Message(message.role, message.text) for message in messages], prefill_text)
        text = self._render_prompt(messages, prefill_text)
        kept = [message for message in messages if text.count(message.mark) == 1 and message.mark]
        if len(kept) < sum(bool(message.mark) for message in messages) or not _says(text, kept, plain):
            # The template treats replies by what they say: each is tried alone.
            kept = [message for message in kept if self._survives(message, messages, prefill_text, plain)]
            text = self._render_prompt(_only(messages, kept), prefill_text)
        return text, sorted(kept, key=lambda message: text.index(message.mark))

    def _survives(self, message: _Message, messages: list[_Message], prefill_text: str, plain: str) -> bool:
        text = self._render_prompt(_only(messages, [message]), prefill_text)
        return text.count(message.mark) == 1 and _says(text, [message], plain)

    def _render_prompt(self, messages: Sequence[_Message], prefill_text: str) -> str:
        """The text up to where the reply goes on."""
        if prefill_text:
            # As the start of a last turn the prefill stands where it will stand in later prompts.
            mark = secrets.token_hex(12)
            started = self._render([*messages, _Message("assistant", "", prefill_text, (), "", mark)], False)
            if started.count(mark) == 1:
                return started.partition(mark)[0]
        return self._render(messages, True) + prefill_text

    def _render(self, messages: Sequence[_Message], add_generation_prompt: bool) -> str:
        try:
            return self._render_as_is(messages, add_generation_prompt)
        except GenerationError:
            merged = _merged(messages)
            if len(merged) == len(messages):
                raise
            return self._render_as_is(merged, add_generation_prompt)

    def _render_as_is(self, messages: Sequence[_Message], add_generation_prompt: bool) -> str:
        contents = [
            {"role": one.role, "content": one.head + one.mark + one.tail if one.mark else one.text} for one in messages
        ]
        return self._template.render(
            contents,
            add_generation_prompt=add_generation_prompt,
            bos_token=self._name_of(self._tokenizer.bos_id),
            eos_token=self._name_of(self._tokenizer.eos_id),
            unk_token=self._name_of(self._tokenizer.unk_id),
        )

    def _foldable(self, turns: Sequence[Turn]) -> list[Turn]:
        """The turns, with the system's words in the first user turn where the template has no place for them."""
        system = [turn for turn in turns if turn.role == "system"]
        if not system or self._has_system:
            return list(turns)
        rest = [turn for turn in turns if turn.role != "system"]
        words = "\n\n".join(turn.text for turn in system)
        at = next((index for index, turn in enumerate(rest) if turn.role == "user"), None)
        if at is None:
            return [Turn("user", words), *rest]
        rest[at] = Turn("user", f"{words}\n\n{rest[at].text}", rest[at].parent, rest[at].id, rest[at].created)
        return rest

    @cached_property
    def _has_system(self) -> bool:
        words = secrets.token_hex(8)
        try:
            return words in self._render_as_is([_Message("system", words), _Message("user", "a")], True)
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

    def _bytes(self, token_ids: Sequence[int]) -> bytes:
        return b"".join(map(self._tokenizer.token_bytes, token_ids))


def load_prompt_style(name_or_file_or_template: str | Path, tokenizer: Tokenizer) -> PromptStyle:
    """A style by a built-in name, from a template, or from a file (Jinja, or JSON with `chat_template`).

    Raises:
        ModelLoadError: There is no such style or file, or the template is not valid.
    """
    given = str(name_or_file_or_template)
    if given in BUILT_IN_TEMPLATES:
        return PromptStyle(BUILT_IN_TEMPLATES[given], tokenizer, name=f"The chat template {given}")
    if any(mark in given for mark in ("{{", "{%", "{#", "\n")):
        return PromptStyle(given, tokenizer)
    try:
        text = Path(given).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise ModelLoadError(
            f"There is no chat template {given!r}: give a Jinja file or one of {', '.join(BUILT_IN_TEMPLATES)}."
        ) from None
    return PromptStyle(_from_json(text, given) if given.endswith(".json") else text, tokenizer, name=given)


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
        raise ModelLoadError(f"{name} holds no chat template: give a Jinja file or a built-in name.")
    return template


def _only(messages: Sequence[_Message], kept: Sequence[_Message]) -> list[_Message]:
    """The messages, as plain text but for those kept."""
    return [one if one in kept else _Message(one.role, one.text) for one in messages]


def _says(text: str, marked: Sequence[_Message], plain: str) -> bool:
    """Whether a text with marks says what the plain text says, blanks aside."""
    for message in marked:
        text = text.replace(message.mark, message.body)
    return text.split() == plain.split() or "".join(text.split()) == "".join(plain.split())


def _merged(messages: Sequence[_Message]) -> list[_Message]:
    """The messages with neighbouring user turns as one: some templates insist that roles alternate."""
    merged: list[_Message] = []
    for message in messages:
        if merged and message.role == "user" == merged[-1].role:
            merged[-1] = _Message("user", f"{merged[-1].text}\n\n{message.text}")
        else:
            merged.append(message)
    return merged
