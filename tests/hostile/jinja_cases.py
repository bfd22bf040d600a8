"""Chat templates: real ones damaged, and made ones that try to take time, memory, or Python's insides."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random

from llmchat.chat.turn import Turn
from llmchat.tokenizers.chat_templates import BUILT_IN_TEMPLATES
from llmchat.tokenizers.loading import load_tokenizer
from llmchat.tokenizers.prompt_style import load_prompt_style
from llmchat.tokenizers.tokenizer import Tokenizer
from tests.hostile.damage import damaged_text
from tests.hostile.opened import DATA

_NAME = "template.jinja"
_TURNS = (Turn("system", "Be brief."), Turn("user", "Hello there"), Turn("assistant", "Yes?"), Turn("user", "Say more"))

_SEEDS = (
    "'ab'", "'a' * 50000", "'a\\n' * 90000", "[1]", "[[]]", "{}", "messages", "2", "9**99", "10**4000", "1.5", "'9' * 4000", "range(90000)|list",
    "'{0:{0}}'", "'%s' * 5000", "namespace(y='a')", "messages[0]", "'<a href=\\'x\\'>' * 9000", "'&lt;' * 9000", "'\\t' * 9000", "range(5)",
    "'\u0345' * 9000", "'ß' * 99999", "'İ' * 99999", "'ﷺ' * 9999", "joiner(',')", "cycler(1, 2)", "dict(a=1)", "caller", "self", "loop",
)  # fmt: skip
_GROWTHS = (
    "{x} + {x}", "{x} ~ {x}", "[{x}, {x}]", "[{x}] + [{x}]", "{x} * 2", "{x} * {x}", "{x} ** 2", "{x}.replace('a', 'aa')", "{x}|replace('a', 'ab')",
    "{x}.translate({{97: 'aa', 98: 'bb'}})", "{x}.translate({{97: 'a' * 90000}})", "{x}.join({x})", "{x}|join({x})", "[{x}, {x}]|join", "{x}|list + {x}|list",
    "{x}.format({x})", "{x}|format({x})", "{x} % {x}", "'%s%s' % ({x}, {x})", "'{{0}}{{0}}'.format({x})", "'%s%s'|format({x}, {x})", "{x}|string ~ {x}",
    "{x}|tojson", "{x}|tojson(indent=99)", "{x}|tojson|tojson", "{x}|indent(9, true)", "{x}|indent(99999)", "{x}|wordwrap(1)", "{x}|wordwrap(1, wrapstring='aaaaaaaa')",
    "{x}.expandtabs(99999)", "{x}|urlize", "{x}|escape", "{x}|forceescape", "{x}|e|e", "{x}|urlencode", "{x}|xmlattr", "{x}|pprint", "{x}|center(99999)", "{x}|batch(2)|list",
    "{x}|batch(99999, 'a')|list", "{x}|slice(99999)|list", "{x}|map('string')|join", "{x}|map('upper')|list", "{x}.split('')", "{x}.split('a')", "{x}|sum(start=[])", "dict(a={x}, b={x})",
    "dict({x})", "{{'a': {x}, 'b': {x}}}", "({x}, {x})", "{x}.encode('utf-16')", "{x}.encode()|string", "{x}.zfill(99999)", "{x}.ljust(99999)", "{x}.upper()", "{x}.casefold()", "{x}|title",
    "{x}.title()", "{x}|striptags", "{x}|wordcount", "{x}|reverse|list", "{x}|sort", "{x}|unique|list", "{x}|groupby(0)", "{x}|random", "{x}|int", "{x}|float", "{x}|abs", "{x}|round(9999)",
    "{x}|filesizeformat", "{x}|truncate(9)", "{x}|trim", "{x}|dictsort", "{x}|items|list", "{x}[:]", "{x}[::-1]", "{x}|attr('__class__')", "{x}.__class__.__mro__", "{x}.__init__.__globals__",
    "{x}|selectattr('a')|list", "{x}|select|list", "{x}|min", "{x}|max", "{x}|length", "{x}|first", "{x}|last", "{x}|default({x})", "{x}.partition('a')", "{x}.splitlines()", "{x}.bit_length()",
    "{x}.to_bytes(99999, 'big')", "{x}.hex()", "{x}.count('')", "{x} in {x}", "{x} // 3", "-{x}", "{x} and [{x}]", "{x} is sameas {x}", "{x} == {x}", "{x}.maketrans('a', 'b')", "{x}.format_map({x})",
    "{x}.items()", "{x}.copy()", "{x}.index({x})", "range({x})", "range({x}|length * 999)", "lipsum(n=99999)", "strftime_now({x})", "strftime_now('%c' * 99999)", "joiner({x})()", "cycler({x}).next()",
    "namespace(y={x}, z={x})", "{x}|safe", "{x}|safe + '<'", "({x}|safe).join({x})", "{x}|safe * 3", "({x}|safe) % {x}", "({x}|safe).format({x})",
)  # fmt: skip
_USES = (
    "{{{{ {x} }}}}", "{{{{ {x}|tojson }}}}", "{{{{ {x}|string|length }}}}", "{{{{ {x}|join }}}}", "{{{{ {x} in {x} }}}}", "{{{{ {x}|length }}}}", "{{{{ {x}|pprint }}}}", "{{{{ {x} == {x} }}}}",
    "{{% for y in {x} %}}{{% for z in {x} %}}{{{{ z }}}}{{% endfor %}}{{% endfor %}}", "{{% if {x} %}}a{{% endif %}}", "{{% filter upper %}}{{{{ {x} }}}}{{% endfilter %}}",
    "{{{{ raise_exception({x}) }}}}", "{{% set y %}}{{{{ {x} }}}}{{{{ {x} }}}}{{% endset %}}{{{{ y ~ y }}}}", "{{% for y in {x}|sort %}}{{{{ y }}}}{{% endfor %}}", "{{% include {x} %}}",
    "{{% extends {x} %}}", "{{% import {x} as y %}}", "{{{{ {x}() }}}}", "{{{{ {x}[{x}] }}}}", "{{% call {x}() %}}a{{% endcall %}}", "{{% for y in {x} recursive %}}{{{{ loop({x}) }}}}{{% endfor %}}",
)  # fmt: skip
_ALONE = (
    "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "{% macro f(n) %}{{ f(n - 1) ~ f(n - 1) if n else 'aaaa' }}{% endmacro %}{{ f(40) }}",
    "{% macro f() %}{{ caller() }}{% endmacro %}{% call f() %}{% call f() %}{{ f() }}{% endcall %}{% endcall %}",
    "{% for x in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "{% block a %}{{ self.a() }}{% endblock %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% set x = range(99999)|list %}{% endfor %}",
    "{% for a in range(99999) %}{% set x = range(99999)|sum %}{% endfor %}",
    "{{ range(10**18) }}", "{{ range(10**9)|list }}", "{{ range(99999999999999999999)|length }}", "{{ 9**9**9 }}", "{{ 2 ** (2 ** 40) }}", "{{ 'a' * 10**12 }}", "{{ [0] * 10**12 }}", "{{ (9**9999)|string }}",
    "{{ 10**5000 }}", "{{ ('9' * 99999)|int }}", "{{ ('9' * 99999) }}", "{{ '%999999999d' % 1 }}", "{{ '%*d' % (999999999, 1) }}", "{{ '{:999999999}'.format(1) }}", "{{ '{:{}}'.format(1, 999999999) }}",
    "{{ '{0.__class__}'.format(messages) }}", "{{ '{0[0][role].__init__}'.format(messages) }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ messages.__class__ }}", "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}", "{{ cycler.__init__.__globals__.os }}", "{{ joiner.__init__.__globals__ }}", "{{ raise_exception.__globals__ }}", "{{ strftime_now.__globals__ }}",
    "{{ ''|attr('__class__') }}", "{{ messages|map(attribute='__class__')|list }}", "{{ messages.append(1) }}", "{{ messages.clear() }}", "{{ (messages[0]).update(a=1) }}", "{% do messages.append(1) %}",
    "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}{{ ns|tojson }}", "{% set ns = namespace(a=[]) %}{% for i in range(99999) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a }}",
    "{% set ns = namespace(a=[]) %}{% for i in range(99999) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a|tojson }}", "{% set ns = namespace(a=[]) %}{% for i in range(99999) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a == ns.a }}",
    "{% set ns = namespace(a=1) %}{% for i in range(99999) %}{% set ns.a = ns.a * 99999 %}{% endfor %}{{ ns.a }}", "{% set ns = namespace(a={}) %}{% for i in range(99999) %}{% set ns.a = dict(a=ns.a) %}{% endfor %}{{ ns.a }}",
    "{{ messages[0].content.join(['a'] * 9999999) }}", "{{ '<' * 999999|striptags }}", "{{ ('<' * 99999)|striptags }}", "{{ ('<!--' * 99999)|striptags }}", "{{ ('a' * 99999)|wordwrap(1, false) }}",
    "{{ ('http://' * 99999)|urlize }}", "{{ ('a.b@c.d ' * 9999)|urlize }}", "{{ ('(' * 99999)|urlize }}", "{{ strftime_now('%9999999d') }}", "{{ strftime_now('%') }}", "{{ strftime_now('\\x00\\ud800') }}",
    "{{ '\\ud800' }}", "{{ '\\ud83d' ~ '\\ude00' }}", "{{ '\\x00' * 9 }}", "{{ '\\x1b]0;x\\x07' }}", "{{ bos_token * 99999 }}", "{{ messages|tojson * 99999 }}", "{{ undefined_name.a.b }}", "{{ 1 // 0 }}", "{{ 1 / 0 }}",
    "{{ (0.1 * 1e309)|int }}", "{{ 1e309|round }}", "{{ 'a' < 1 }}", "{{ messages[10**30] }}", "{{ messages['a'] }}", "{{ range(3)[10**30] }}", "{{ 'a'[::0] }}", "{{ 'a'|center(10**30) }}", "{{ [1]|batch(0)|list }}",
    "{{ [1]|slice(0)|list }}", "{{ 'a'|truncate(-10**30) }}", "{{ 'a'|indent(10**30) }}", "{{ 'a'.rjust(10**30) }}", "{{ 'a'|wordwrap(0) }}", "{{ 1|filesizeformat(10**30) }}", "{{ [3, 'a', none]|sort }}", "{{ {}|dictsort(by='x') }}",
    "{{ messages|groupby('x.y.z') }}", "{{ []|random }}", "{{ []|min }}", "{{ 'a'|int(base=99) }}", "{{ 'a'|float(default=messages) }}", "{{ 1|round(10**30) }}", "{{ 1|round(2, 'floor') }}", "{{ 1|round(99999, 'ceil') }}",
    "{% for x in 'a' * 10000000 %}{{ x }}{% endfor %}", "{% for x in ('a' * 15000000)|list %}{% endfor %}", "{{ ('a' * 15000000)|list|length }}", "{{ ('a ' * 7000000).split()|length }}", "{{ ('a' * 15000000)|list|tojson }}",
    "{{ ('a' * 15000000).encode('utf-32')|length }}", "{{ ['a' * 15000000] * 90000 }}", "{{ (['a' * 15000000] * 90000)|join }}", "{{ (['a' * 15000000] * 90000)|string }}", "{{ (['a' * 15000000] * 90000)|tojson }}",
    "{{ 'a' * 15000000 }}{{ 'a' * 15000000 }}", "{{ 'a' * 15000000 }}", "{{ 'ab ' * 5000000 }}", "{{ '<s>' * 5000000 }}", "{{ 'a' * 900000 }}", "{{ '\u4e00' * 900000 }}", "{{ ' ' * 9000000 }}", "{{ '\\n' * 9000000 }}",
    "{% for m in messages %}{{ m.content * 999999 }}{% endfor %}", "{% for i in range(200) %}{{ messages[1].content }}{% endfor %}", "{{ messages[1].content|list|join('x') }}", "{{ messages[1].content[::-1] }}",
)  # fmt: skip


@cache
def _tokenizers() -> dict[str, Tokenizer]:
    names = ("huggingface/llama", "llmbuilder-2.0.0-tiny/tokenizer", "llmbuilder-formats/1.0.0/tok_hf")
    return {name: load_tokenizer(DATA / name) for name in names}


@cache
def _real() -> tuple[str, ...]:
    more = tuple(path.read_text() for path in sorted(DATA.rglob("*.jinja")))
    return (*BUILT_IN_TEMPLATES.values(), *more)


def sound(place: Path) -> None:
    """A template that is rendered."""
    (place / _NAME).write_text(BUILT_IN_TEMPLATES["chatml"])


def write(rng: Random, place: Path) -> None:
    """A template of one of the kinds."""
    make = rng.choice((_grown, _grown, _grown, _alone, _mutated, _mutated, _nested, _combined))
    (place / _NAME).write_bytes(make(rng) if make is _mutated else _encoded(make(rng)))


def _encoded(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def _alone(rng: Random) -> str:
    return rng.choice(("", *_real())) + rng.choice(_ALONE)


def _mutated(rng: Random) -> bytes:
    text = rng.choice(_real())
    pieces = ("{{", "}}", "{%", "%}", "{#", "#}", "(", ")", "[", "]", "'", "|", "messages", "endfor", "if", "%", "-", "~", "\\")
    for _ in range(rng.choice((1, 2, 5, 20))):
        at = rng.randrange(len(text) + 1)
        text = rng.choice((text[:at] + rng.choice(pieces) + text[at:], text[:at] + text[at + rng.choice((1, 3, 20)) :]))
    return damaged_text(rng, text)


def _grown(rng: Random) -> str:
    """A value that grows again and again in a loop, and is then used."""
    steps = "".join(f"{{% set ns.x = {_growth(rng, 'ns.x')} %}}" for _ in range(rng.choice((1, 1, 2))))
    loops = rng.choices(("range(3)", "range(12)", "range(40)", "range(99999)", "messages"), (4, 4, 4, 1, 2))[0]
    use = rng.choice(_USES).format(x="ns.x")
    return f"{{% set ns = namespace(x={rng.choice(_SEEDS)}) %}}{{% for i in {loops} %}}{steps}{{% endfor %}}{use}"


def _growth(rng: Random, value: str) -> str:
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = f"({rng.choice(_GROWTHS).format(x=value)})"
    return value


def _combined(rng: Random) -> str:
    """Expressions without a loop, one in the other."""
    return "".join(rng.choice(_USES).format(x=_growth(rng, f"({rng.choice(_SEEDS)})")) for _ in range(rng.choice((1, 2, 5))))


def _nested(rng: Random) -> str:
    """The same thing so often that the parser or the compiler gives up."""
    count = rng.choice((5, 19, 21, 90, 300, 1000, 5000, 100_000))
    opening, middle, closing = rng.choice((
        ("{{ " + "(" * count, "1", ")" * count + " }}"), ("{{ " + "[" * count, "", "]" * count + " }}"), ("{{ " + "not " * count, "1", " }}"), ("{{ 1" + " + 1" * count, "", " }}"),
        ("{{ 'a'" + "|upper" * count, "", " }}"), ("{{ messages" + ".a" * count, "", " }}"), ("{{ messages" + "[0]" * count, "", " }}"), ("{% if 1 %}" * count, "a", "{% endif %}" * count),
        ("{% for x in messages %}" * count, "a", "{% endfor %}" * count), ("{% macro f() %}" * count, "a", "{% endmacro %}" * count), ("{{ " + "-" * count, "1", " }}"), ("{{ 1", " < 1" * count, " }}"),
        ("{{ 'a' if 1 else " * 1 + "'a' if 1 else " * count, "1", " }}"), ("{% set x %}" * count, "a", "{% endset %}" * count), ("{{ 1 }}" * count, "", ""), ("{% filter upper %}" * count, "a", "{% endfilter %}" * count),
        ("{{ f(" + "a=1, " * count, "", ") }}"), ("{{ '", "\\\\" * count, "' }}"), ("{# ", "#" * count, " #}"), ("{{ x" + "~x" * count, "", " }}"), ("{{ {" + "1:{" * count, "", "}" * count + "} }}"),
        ("{% raw %}" * count, "", ""), ("{{ ", "9" * count, " }}"), ("{{ 0x", "f" * count, " }}"), ("{{ 1e", "9" * count, " }}"), ("{% generation %}" * count, "a", "{% endgeneration %}" * count), ("{{ ", "x" * count, " }}"),
        ("{% set a, b = ", "(1, 2)" + ", (1, 2)" * count, " %}"), ("{%- " * count, "", ""), ("{{ " + "1 ** " * min(count, 300), "1", " }}"), ("{% block a%s %}", "a", "{% endblock %}"),
    ))  # fmt: skip
    return opening + middle + closing


def attempt(place: Path) -> None:
    """Compile it for a tokenizer, and make a prompt of a conversation with it."""
    path = place / _NAME
    tokenizers: list[Tokenizer] = list(_tokenizers().values())
    style = load_prompt_style(path, tokenizers[path.stat().st_size % len(tokenizers)])
    style.encode(_TURNS, prefill_text="")
    _ = style.stop_strings


