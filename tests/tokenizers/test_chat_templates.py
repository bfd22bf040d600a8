"""Chat templates: what Hugging Face's environment offers, and nothing that harms."""

from __future__ import annotations

import gc
import resource
import time

import pytest

from llmchat.errors import GenerationError, ModelLoadError
from llmchat.tokenizers.chat_templates import BUILT_IN_TEMPLATES, ChatTemplate
from llmchat.tokenizers.tame_template import NotTameError, TameTemplate
from llmchat.tokenizers.template_process import TemplateProcess, TemplateProcessError

MESSAGES = [{"role": "user", "content": "Hi <b> é"}, {"role": "assistant", "content": "cost: 123456 %d"}]

DOUBLED = "{% set a = [1] %}" + "{% set a = [a, a] %}" * 60
HOSTILE = {
    "translate": "{% set t = {97: 'b' * 99999} %}{{ ('a' * 99999).translate(t) }}",
    "format_map": "{{ '{a:1000000000}'.format_map({'a': 1}) }}",
    "join": "{% set x = 'a' * 99999 %}{{ (x | list) | join(x) }}",
    "concat": "{% set a = 'a' * 99999 %}" + "{% set a = a ~ a ~ a ~ a %}" * 30 + "{{ a }}",
    "text of nested lists": DOUBLED + "{{ a }}",
    "loops": "{% set r = range(99999) %}{% for i in r %}{% for j in r %}{% endfor %}{% endfor %}",
    "squares": "{% set x = 99999 %}" + "{% set x = x * x %}" * 60 + "{{ x }}",
    "json of json": "{{ messages[0].content" + "| tojson" * 60 + " }}",
}
"""Each grows or goes round inside a single operation, or between two that are looked at."""


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


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
def test_work_without_end_is_ended(source: str) -> None:
    """No template keeps the program waiting or fills the memory, whatever single operation it does so with."""
    template = ChatTemplate(source)
    began = time.process_time()
    with pytest.raises(GenerationError, match="cannot render"):
        template.render(MESSAGES)
    with pytest.raises(GenerationError, match="cannot render"):
        template.render(MESSAGES)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    del template
    gc.collect()
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert time.process_time() - began < 2.5
    assert spent.ru_utime + spent.ru_stime - children.ru_utime - children.ru_stime < 5
    assert spent.ru_maxrss < 2**20 or spent.ru_maxrss == children.ru_maxrss


@pytest.mark.parametrize(
    "source",
    [
        "{{ 1" + "+1" * 50_000 + " }}",
        "{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}",
        "{{ a" + ".b" * 50_000 + " }}",
        "{{ " + "9" * 200_000 + " }}",
        "{{ 'a'" + "|trim" * 20_000 + " }}",
        "a" * 250_001,
    ],
    ids=["sum", "brackets", "attributes", "digits", "filters", "length"],
)
def test_sources_that_are_too_deep_or_too_long_are_refused(source: str) -> None:
    """Reading a template is bounded too."""
    with pytest.raises(ModelLoadError, match="not valid"):
        ChatTemplate(source)


def test_a_long_chain_of_filters_is_read_at_once() -> None:
    """Work that grows with the cube of a chain's length is not done while it is read."""

    def seconds(length: int) -> float:
        began = time.thread_time()
        ChatTemplate("{{ 'a'" + "|upper" * length + " }}")
        return time.thread_time() - began

    assert min(seconds(150) for _ in range(5)) < 20 * min(seconds(30) for _ in range(5))


@pytest.mark.parametrize("name", BUILT_IN_TEMPLATES)
def test_the_built_in_ones_run_here(name: str) -> None:
    """The common case starts no process; any template renders the same in one."""
    source = BUILT_IN_TEMPLATES[name]
    values = {"add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>"}
    text = TameTemplate(source).render(MESSAGES, values)
    assert TemplateProcess(source).render(MESSAGES, values) == text
    assert ChatTemplate(source).render(MESSAGES, **values) == text


def test_a_process_serves_again_and_ends_with_its_template() -> None:
    """Failures of the template's own leave it usable; nothing runs on behind it."""
    process = TemplateProcess("{% macro f(m) %}{{ m.content + m.more }}{% endmacro %}{{ f(messages[0]) }}")
    for _ in range(2):
        with pytest.raises(TemplateProcessError, match="more"):
            process.render([{"role": "user", "content": "a"}], {})
        assert process.render([{"role": "user", "content": "a", "more": "é"}], {}) == "aé"
    running = process._process
    del process
    gc.collect()
    assert running.returncode is not None


def test_much_work_by_a_plain_template_is_done_elsewhere() -> None:
    """A template that seemed tame, and chats of millions of characters, go to the process with the limits."""
    long = [{"role": "user", "content": "x" * 1_500_000}]
    assert ChatTemplate("{{ messages[0].content }}").render(long) == long[0]["content"]
    twice = "{% set x = messages[0].content %}" + "{% set x = x ~ x %}" * 12 + "{{ x[:5] }}"
    assert ChatTemplate(twice).render([{"role": "user", "content": "ab" * 1000}]) == "ababa"
    with pytest.raises(NotTameError):
        TameTemplate(twice).render([{"role": "user", "content": "ab" * 1000}], {})


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
