"""Slash commands: what is a command, what is text, and what is refused; and what Tab offers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmchat.chat.generation_config import SAMPLER_ORDER, SAMPLING_SPECS
from llmchat.errors import UsageError
from llmchat.ui.commands import COMMAND_BY_NAME, COMMANDS, Command, LiteralText, parse, split_words
from llmchat.ui.completion import common_start, complete


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        ("/help", Command("help")),
        ("/help set", Command("help", ("set",))),
        ("/help /quit", Command("help", ("exit",))),
        ("  /new  ", Command("new")),
        ("/CLEAR", Command("new")),
        ("/bye", Command("exit")),
        ("/quit", Command("exit")),
        ("/settings", Command("set")),
        ("/set", Command("set")),
        ("/set temp", Command("set", ("temperature",))),
        ("/set temp 1.2", Command("set", ("temperature", "1.2"))),
        ("/set top-k=40", Command("set", ("top_k", "40"))),
        ("/set min_p off", Command("set", ("min_p", "off"))),
        ('/set stop "a b"', Command("set", ("stop", '"a b"'))),
        ("/set stop off", Command("set", ("stop", "off"))),
        ("/prefill off", Command("prefill", ("",))),
        ('/prefill "off"', Command("prefill", ("off",))),
        ('/prefill "Sure:\\n"', Command("prefill", ("Sure:\n",))),
        ("/system none", Command("system", ("",))),
        ("/seed off", Command("seed", ("roll",))),
        ("/set stop don't", Command("set", ("stop", "don't"))),
        ("/reset", Command("reset")),
        ("/reset Top-P", Command("reset", ("top_p",))),
        ("/preset creative", Command("preset", ("Creative",))),
        ("/seed lock", Command("seed", ("lock",))),
        ("/seed 8417", Command("seed", ("8417",))),
        ("/seed -1", Command("seed", ("roll",))),
        ("/raw ON", Command("raw", ("on",))),
        ("/system You're a pirate.\nTalk so.", Command("system", ("You're a pirate.\nTalk so.",))),
        ("/system", Command("system")),
        ('/prefill "Ahoy', Command("prefill", ('"Ahoy',))),
        ("/save", Command("save")),
        ("/save my talk.toml", Command("save", ("my talk.toml",))),
        ('/load "my talk.toml"', Command("load", ("my talk.toml",))),
        (r"/load C:\Users\me\my talk.toml", Command("load", (r"C:\Users\me\my talk.toml",))),
        (r'/export "C:\new folder\talk.md"', Command("export", (r"C:\new folder\talk.md",))),
        ("/copy Tom's notes.md", Command("copy", ("Tom's notes.md",))),
        ("/regen", Command("regen")),
        ("/regen 3", Command("regen", ("3",))),
        ("/theme nord", Command("theme", ("nord",))),
        ("/model ./a model.gguf", Command("model", ("./a model.gguf",))),
    ],
)
def test_commands_are_understood(typed: str, command: Command) -> None:
    """A command keeps its own name and gets its arguments in their own spelling."""
    assert parse(typed) == command


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("hello", "hello"),
        ("  indented\n", "  indented\n"),
        ("//help", "/help"),
        ("///", "//"),
        ("/etc/hosts", "/etc/hosts"),
        ("/etc/hosts what is this?", "/etc/hosts what is this?"),
        ("/tmp/", "/tmp/"),
        ("/notes.txt", "/notes.txt"),
        ("/* a comment */", "/* a comment */"),
        ("/ 2", "/ 2"),
        ("/3 of it", "/3 of it"),
        ("what does /help do?", "what does /help do?"),
        ("C:\\windows", "C:\\windows"),
        ("", ""),
    ],
)
def test_text_stays_text(typed: str, text: str) -> None:
    """Paths, comments and escaped slashes reach the model as they were meant."""
    assert parse(typed) == LiteralText(text)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("/", "/help"),
        ("/hepl", "/help"),
        ("/regenerate", "/regen"),
        ("/temperature 1", "/set temperature"),
        ("/etc", "//etc"),
        ("/zap temperature 0..1 5", "No command /zap"),
        ("/new now", "nothing after"),
        ("/set temp 9", "0 to 5"),
        ("/set tmep 1", "Did you mean temp"),
        ("/set top_k 4.5", "whole number"),
        ("/reset temp 1", "/reset [K]"),
        ("/preset", "/preset NAME"),
        ("/preset wild", "Balanced"),
        ("/raw", "/raw on|off"),
        ("/raw maybe", "on or off"),
        ("/seed", "lock|roll|N"),
        ("/seed dice", "lock, roll"),
        ("/seed 99999999999999999999", "whole number"),
        ("/regen 0", "1 to 16"),
        ("/regen ²", "1 to 16"),
        ("/regen 2 3", "/regen [N]"),
        ('/load "open', "quote"),
        ("/load", "/load FILE"),
        ("/help nothing", "No command"),
    ],
)
def test_mistakes_are_refused_with_one_helpful_line(typed: str, said: str) -> None:
    """What looks like a command but is none never becomes text for the model."""
    with pytest.raises(UsageError) as caught:
        parse(typed)
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_every_name_means_one_command() -> None:
    """No two commands share a name or an alias, and each says what it does."""
    words = [word for spec in COMMANDS for word in (spec.name, *spec.aliases)]
    assert len(words) == len(set(words)) == len(COMMAND_BY_NAME)
    assert all(spec.help.endswith(".") and spec.usage.startswith("/") for spec in COMMANDS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ()),
        ("a  b", ("a", "b")),
        ("'a b' c", ("a b", "c")),
        ('"" x', ("", "x")),
        ("Tom's a\\b", ("Tom's", "a\\b")),
        ('"it\'s"', ("it's",)),
    ],
)
def test_quotes_keep_spaces(text: str, words: tuple[str, ...]) -> None:
    """Quotes group, backslashes and inner quotes are ordinary characters."""
    assert split_words(text) == words


def test_tab_offers_command_names() -> None:
    """A slash offers every command; letters narrow it; an exact name shows its usage."""
    everything = complete("/")
    assert everything is not None
    assert everything.candidates == tuple(spec.name for spec in COMMANDS)
    some = complete("/re")
    assert some is not None
    assert some.candidates == ("reset", "regen", "redo")
    assert common_start(some.candidates) == "re"
    alias = complete("/qu")
    assert alias is not None
    assert alias.candidates == ("quit",)
    exact = complete("/set")
    assert exact is not None
    assert exact.hint.startswith("/set [K [V]]")


@pytest.mark.parametrize("line", ["", "hello", "//x", "/etc/ho", "/new x", "/nothing x", "text /he"])
def test_tab_offers_nothing_outside_commands(line: str) -> None:
    """Plain text has no completion, so Tab can move the focus."""
    assert complete(line) is None


def test_tab_offers_settings_and_says_their_range() -> None:
    """Parameter names are completed; a typed name shows its range and meaning."""
    found = complete("/set t")
    assert found is not None
    expected = ("temperature", "top_k", "top_p", "typical_p", "top_n_sigma", "temperature_last", "template_args")
    assert found.candidates == expected
    assert found.start == 5
    value = complete("/set top-k ")
    assert value is not None
    assert value.candidates == ()
    assert SAMPLING_SPECS[1].help in value.hint


def test_tab_offers_the_words_of_a_setting() -> None:
    """What is no number is completed: on and off, roll, and of the order the stages that are not there yet."""
    order = tuple(SAMPLER_ORDER)
    for line, candidates in {
        "/set temperature_last ": ("on", "off"),
        "/set do-sample=of": ("off",),
        "/set do_sample on ": (),
        "/set seed ": ("roll",),
        "/set temp ": (),
        "/set nothing ": (),
        "/reset temperature_last ": (),
        "/set sampler_order ": order,
        f"/set sampler_order {' '.join(order[:3])}, {order[5]} ": (*order[3:5], *order[6:]),
        f"/set sampler_order {' '.join(order[1:])} pen": order[:1],
        f"/set sampler_order {' '.join(order)} ": (),
    }.items():
        completion = complete(line)
        assert completion is not None
        assert completion.candidates == candidates, line
        assert all(parse(line[: completion.start] + word) for word in candidates if "order" not in line)
    last = complete(f"/set sampler_order {' '.join(order[1:])} pen")
    assert last is not None
    assert parse(f"/set sampler_order {' '.join(order[1:])} pen"[: last.start] + last.candidates[0])


def test_tab_offers_names_from_elsewhere() -> None:
    """Themes and models come from whoever knows them, asked only when they are needed."""
    found = complete("/theme N", {"theme": lambda: ["nord", "gruvbox"]})
    assert found is not None
    assert found.candidates == ("nord",)
    unknown = complete("/theme ")
    assert unknown is not None
    assert unknown.candidates == ()
    for line, candidates in {
        "/preset c": ("Conservative", "Creative"),
        "/raw ": ("on", "off"),
        "/seed r": ("roll",),
    }.items():
        completion = complete(line)
        assert completion is not None
        assert completion.candidates == candidates


def test_tab_offers_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and folders are completed, hidden ones only when asked for, quoted ones too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "talks").mkdir()
    (tmp_path / "talks" / "a sea.toml").touch()
    (tmp_path / "tale.toml").touch()
    (tmp_path / ".hidden").touch()
    cases = {
        "/load ": ("tale.toml", "talks" + os.sep),
        "/load talks/": ("talks/a sea.toml",),
        '/load "talks/a': ('"talks/a sea.toml',),
        "/load .h": (".hidden",),
        "/load nowhere/": (),
        "/copy ": ("command", "python", "tale.toml", "talks" + os.sep),
        f"/load {tmp_path}/tal": (f"{tmp_path}/tale.toml", f"{tmp_path}/talks{os.sep}"),
    }
    for line, candidates in cases.items():
        completion = complete(line)
        assert completion is not None
        assert completion.candidates == candidates, line
        assert completion.start == 6
    behind = complete("/copy python ta")
    assert behind is not None
    assert (behind.start, behind.candidates) == (13, ("tale.toml", "talks" + os.sep))
