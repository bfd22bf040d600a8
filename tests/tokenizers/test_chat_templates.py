"""Chat templates: what Hugging Face's environment offers, and nothing that harms."""

from __future__ import annotations

import pytest

from llmchat.errors import GenerationError, ModelLoadError
from llmchat.tokenizers.chat_templates import ChatTemplate

MESSAGES = [{"role": "user", "content": "Hi <b> é"}, {"role": "assistant", "content": "cost: 123456 %d"}]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "{% for m in messages %}\n  {% if loop.first %}\nA{{ m.content }}\n  {% endif %}\n{% endfor %}",
            "AHi <b> é\n",
        ),
        ("{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m['role'] }}{% endfor %}", "user"),
        ("{{ messages[0] | tojson }}", '{"role": "user", "content": "Hi <b> é"}'),
        ("{{ {'b': 1, 'a': 2} | tojson(indent=1, sort_keys=true) }}", '{\n "a": 2,\n "b": 1\n}'),
        ("{{ strftime_now('%%') }}", "%"),
        ("{% generation %}{{ messages[1].content }}{% endgeneration %}!", "cost: 123456 %d!"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "2"),
        ("{{ messages[1].content.strip().split(':')[1] | trim | replace('%', '!') }}", "123456 !d"),
        ("{{ '%s-%s' % ('a', 1) }}{{ '{}'.format(2) }}{{ 'ab' * 2 }}{{ 7 % 4 }}{{ 2 ** 3 }}", "a-12abab38"),
        ("{{ tools is defined and tools }}{{ missing }}{{ messages[0].get('x', 'y') }}", "Falsey"),
        (
            "{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f(1) }}{{ 'a\nb' | indent(2) }}{{ 1.25 | round(1) }}",
            "[1]a\n  b1.2",
        ),
    ],
)
def test_the_environment_is_hugging_faces(source: str, text: str) -> None:
    """Templates written for Hugging Face render the same."""
    assert ChatTemplate(source).render(MESSAGES) == text


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ messages.append(1) }}",
        "{{ (messages | attr('__class__')).x }}",
        "{% include '/etc/passwd' %}",
        "{{ lipsum() }}",
    ],
)
def test_internals_are_out_of_reach(source: str) -> None:
    """A template from anywhere reads no Python objects, changes no values and opens no files."""
    with pytest.raises(GenerationError):
        ChatTemplate(source).render(MESSAGES)


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 10**9 }}",
        "{{ 10**9 * 'a' }}",
        "{{ [1] * 10**9 }}",
        "{{ 9**9**9 }}",
        "{{ 'a' | center(10**9) }}",
        "{{ 'a'.ljust(1000000000) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{% set x = 'a' * 99999 %}{{ x | replace('a', x) }}",
        "{% set x = 'a' * 99999 %}{{ x.replace('a', x) }}",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% for i in range(99999) %}{{ 'a' * 99999 }}{% endfor %}",
        "{{ range(10**9) | list }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_huge_output_is_refused(source: str) -> None:
    """A few characters of template cannot fill the memory."""
    with pytest.raises(GenerationError):
        ChatTemplate(source).render(MESSAGES)


def test_endless_work_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that would run for hours is stopped, also where it prints nothing."""
    monkeypatch.setattr("llmchat.tokenizers.chat_templates._MAX_SECONDS", 0.05)
    nested = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(GenerationError, match="does not end"):
        ChatTemplate(nested).render(MESSAGES)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ messages[0].nothing.more }}", "nothing"),
        ("{{ messages[0].content + 1 }}", "str"),
    ],
)
def test_failures_say_why(source: str, reason: str) -> None:
    """The person reads the template's own reason, in one line, and what to do."""
    with pytest.raises(GenerationError, match=reason) as caught:
        ChatTemplate(source).render(MESSAGES)
    assert "--chat-template" in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "source", ["{% if %}", "{{ 'a }}", "{% for m in messages %}", "{% nonsense %}", "{{ x | nofilter }}"]
)
def test_broken_templates_are_refused_when_loaded(source: str) -> None:
    """A template that is no Jinja is an error of the model, not of the first reply."""
    with pytest.raises(ModelLoadError, match="not valid"):
        ChatTemplate(source)


def test_messages_are_copies() -> None:
    """Rendering leaves the caller's messages alone."""
    before = [dict(message) for message in MESSAGES]
    ChatTemplate("{{ messages | length }}").render(MESSAGES)
    assert before == MESSAGES
