"""Chat templates, as Hugging Face and GGUF files carry them, and the built-in ones.

A template comes with a model from anywhere, so it is treated as hostile: no
Python internals, no endless work, no huge output. Tame ones are rendered in this
process, all others in one of their own that the system bounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from jinja2 import TemplateSyntaxError, nodes

from llmchat.errors import ChatTemplateError, GenerationError, ModelLoadError
from llmchat.tokenizers.tame_template import NotTameError, TameTemplate
from llmchat.tokenizers.template_process import TemplateProcess, TemplateProcessError
from llmchat.tokenizers.template_sandbox import RENDER_ERRORS, Sandbox, reason_of

Content = str | list[dict[str, str]]
"""What a message says: a text, or a list of parts with `type` and `text`."""

BUILT_IN_TEMPLATES: Mapping[str, str] = {
    "chatml": (
        "{% for message in messages %}{{ '<|im_start|>' ~ message['role'] ~ '\\n' ~ message['content'] "
        "~ '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "llama2": (
        "{% if messages and messages[0]['role'] == 'system' %}"
        "{% set system = '<<SYS>>\\n' ~ messages[0]['content'] ~ '\\n<</SYS>>\\n\\n' %}{% set rest = messages[1:] %}"
        "{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
        "{% for message in rest %}{% if message['role'] == 'assistant' %}"
        "{{ ' ' ~ message['content'] ~ ' ' ~ eos_token }}"
        "{% else %}{{ bos_token ~ '[INST] ' ~ (system if loop.first else '') ~ message['content'] ~ ' [/INST]' }}"
        "{% endif %}{% endfor %}"
    ),
    "llama3": (
        "{{ '<|begin_of_text|>' }}"
        "{% for message in messages %}{{ '<|start_header_id|>' ~ message['role'] ~ '<|end_header_id|>\\n\\n' "
        "~ (message['content'] | trim) ~ '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    "plain": (
        "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] ~ '\\n\\n' }}"
        "{% else %}{{ message['role'] | capitalize ~ ': ' ~ message['content'] ~ '\\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    ),
}
"""The styles that need no file, by name."""

_MOST_SOURCE = 250_000
"""Characters of a template; the largest known have some tens of thousands."""


class ChatTemplate:
    """A template that is ready to be rendered.

    Args:
        source: The template.
        name: Its name in error messages.
        is_given: Whether a person gave it, and not the model's files; then it is a `ChatTemplateError` if not valid.

    Raises:
        ModelLoadError: It is no valid template.
    """

    def __init__(self, source: str, *, name: str = "the model's chat template", is_given: bool = False) -> None:
        self.name = name
        self.source = source
        self._tame: TameTemplate | None = None
        try:
            if len(source) > _MOST_SOURCE:
                raise TemplateSyntaxError(f"it has more than {_MOST_SOURCE} characters", 1)
            self._tree = _checked_tree(source)
            self._tame = TameTemplate(source)
        except NotTameError:
            pass
        except (*RENDER_ERRORS, SyntaxError) as error:
            raise (ChatTemplateError if is_given else ModelLoadError)(
                f"{name} is not valid ({reason_of(error)}): choose another with --chat-template."
            ) from None

    @cached_property
    def strings(self) -> frozenset[str]:
        """The texts that stand in the template's expressions."""
        constants = self._tree.find_all(nodes.Const)
        return frozenset(one.value for one in constants if isinstance(one.value, str))

    @cached_property
    def keys(self) -> frozenset[str]:
        """The names by which the template asks for a part of something, as in `message.content`."""
        attributes = (one.attr for one in self._tree.find_all(nodes.Getattr))
        return self.strings.union(attributes)

    @cached_property
    def variables(self) -> frozenset[str]:
        """The variables that the template reads before it sets them itself: those that it can be told."""
        told, own = set[str](), set[str]()
        for name in _names(self._tree):
            if name.ctx != "load":
                own.add(name.name)
            elif name.name not in own:
                told.add(name.name)
        return frozenset(told)

    def render(self, messages: Sequence[Mapping[str, Content]], **values: Any) -> str:
        """The prompt's text.

        Args:
            messages: Each with `role` and `content`.
            **values: What else the template sees, such as `add_generation_prompt`.

        Raises:
            GenerationError: The template refuses these messages, fails, or does not end.
        """
        try:
            if self._tame is not None:
                return self._tame.render(messages, values)
        except NotTameError:
            pass
        except RENDER_ERRORS as error:
            raise self._failure(reason_of(error)) from None
        try:
            return self._process.render(messages, values)
        except TemplateProcessError as error:
            raise self._failure(str(error)) from None

    def _failure(self, reason: str) -> GenerationError:
        return GenerationError(f"{self.name} cannot render this chat ({reason}): choose another with --chat-template.")

    @cached_property
    def _process(self) -> TemplateProcess:
        return TemplateProcess(self.source)


def _names(node: nodes.Node) -> Iterator[nodes.Name]:
    """The variables in a template, in the order in which they come about."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, nodes.Name):
            yield node
        parts = list(node.iter_child_nodes())
        if isinstance(node, nodes.Assign | nodes.For):
            # What is assigned, or gone through, is read before the name is set.
            read = node.node if isinstance(node, nodes.Assign) else node.iter
            parts.sort(key=lambda part: part is not read)
        waiting += reversed(parts)


def _checked_tree(source: str) -> nodes.Template:
    """A template's parts; it is not compiled, for that would carry out some of them.

    Raises:
        TemplateError: As `RENDER_ERRORS`: it is no valid template.
    """
    environment = Sandbox()
    tree = environment.parse(source)
    for kind, known in ((nodes.Filter, environment.filters), (nodes.Test, environment.tests)):
        for node in tree.find_all(kind):
            if node.name not in known:
                raise TemplateSyntaxError(f"No {kind.__name__.lower()} named {node.name!r}.", node.lineno)
    return tree
