"""Text that would act on a terminal, from every place that text can come from, in every front end.

Model and vocabulary, files' names and places, turns, titles, themes, settings, the
prompt history, templates' errors, completions and checkpoints: nothing of it changes
the terminal's title, clipboard, modes or direction of writing.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import tomli_w

from llmchat import paths
from tests.checkpoints.test_gguf import keys_of, tensors_of, write
from tests.program import run_program
from tests.terminals import Terminal

ACTS = (
    "\x1b]0;PWN\x07\x1b]2;PWN\x1b\\\x1b]52;c;UFdO\x07\x1b]8;;x:PWN\x1b\\\x1bPq\x1b\\\x1b_G\x1b\\\x1b[?69h\x1bc"
    "\x9b?69h\x9d0;PWN\x9c\x90q\x9c\u202e\u2066\u200f\u061c\x7f\x0e"
)
"""Title, clipboard, link, device and program commands, a mode, a reset, the same in single characters, directions."""

KNOWN = re.compile(r"\x1b(\[[0-9;:?<>=$ ]*[a-zA-Z~]|\]22;[a-z-]*\x07)")
"""What llmchat and Textual write of their own accord: steps, colours and modes, and the pointer's shape."""


def actions(raw: str) -> list[str]:
    """What in a terminal's input would act on it and is not llmchat's own; a bell, as readline rings it, does not."""
    rest = KNOWN.sub("", raw)
    return re.findall(r"\x1b\[\?69h|\x1bc", raw) + re.findall(
        r"[\x00-\x06\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069].{0,20}", rest
    )


class World:
    """A home full of hostile text, in a directory with such a name."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.model = self._model("m", "general.name")
        self.kind = self._model("k", "tokenizer.ggml.pre")
        self.template = str(home / f"t{ACTS}.jinja")
        Path(self.template).write_text("{{ raise_exception(" + json.dumps(f"refused {ACTS}") + ") }}")
        self.transcript = str(paths.ensure(paths.transcripts_dir()) / f"talk{ACTS}.toml")
        self.settings(system=f"system {ACTS}")
        (paths.ensure(paths.state_dir()) / "prompts.history").write_text(json.dumps({"text": f"past {ACTS}"}) + "\n")
        themes = paths.ensure(paths.themes_dir())
        colours = {"primary": "#7aa2f7", "background": "#16161e", "foreground": "#c0caf5"}
        (themes / "a.toml").write_text(tomli_w.dumps({"name": f"theme {ACTS}", **colours}))
        (themes / f"b{ACTS}.toml").write_text(tomli_w.dumps({f"key {ACTS}": 1}))

    def _model(self, name: str, key: str) -> str:
        """A model with hostile text in one of its keys."""
        template = "{% for message in messages %}{{ message.content }}{% endfor %}"
        keys = {**keys_of("llama"), "tokenizer.chat_template": template, key: f"{name}{ACTS}"}
        return str(write(self.home / f"{name}{ACTS}.gguf", keys, tensors_of("llama")))

    def converse(self) -> None:
        """Put a conversation into the transcript."""
        said = run_program(
            *("--once", "--model", "tiny", "-n", "3", "--save", self.transcript),
            *("--prompt", f"ask {ACTS}", "--prefill", f"reply {ACTS}"),
        )
        assert said.code == 0, said.err

    def settings(self, **values: object) -> None:
        """Write the settings file."""
        (paths.ensure(paths.config_dir()) / "settings.toml").write_text(tomli_w.dumps(values))


@pytest.fixture
def world(sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The home, with a conversation in it."""
    home = sandbox / f"home{ACTS}"
    home.mkdir()
    monkeypatch.setenv("LLMCHAT_HOME", str(home))
    return World(home)


@pytest.mark.parametrize(
    "arguments",
    [
        "--once -p ASK --prefill REPLY -m tiny",
        "--once -p ASK --prefill REPLY -m tiny --json",
        "--once -p ASK --prefill REPLY -m tiny --jsonl --stats",
        "--once -p ASK -m MODEL --stats --num-samples 2",
        "--once -p ASK -m KIND --json",
        "--once -p ASK -m MODEL --chat-template TEMPLATE",
        "--once -p ASK -m MODEL --compare greedy --compare temperature=0.5",
        "--once -p ASK -m tiny --dry-run",
        "--once -p ASK -m tiny --dry-run --json",
        "--once -p ASK -m NOSUCH",
        "--once -p ASK -m tiny --tokenizer NOSUCH",
        "--once -p ASK -m tiny --preset NOSUCH",
        "--once -p ASK -m tiny --resume NOSUCH",
        "--once -p ASK -m tiny --save NOSUCH",
        "--once --prompt-file NOSUCH -m tiny",
        "--once -p ASK -m tiny --unknown NOSUCH",
        "--plain -p ASK --prefill REPLY -m tiny --resume TRANSCRIPT",
        "--plain -p ASK -m MODEL",
        "--paths",
        "models",
        "models --json",
        "pull NOSUCH",
        "export TRANSCRIPT",
        "export TRANSCRIPT --format text",
        "export TRANSCRIPT --format json",
        "export NOSUCH",
        "replay TRANSCRIPT",
        "replay TRANSCRIPT --turn NOSUCH",
        "bench -m NOSUCH",
        "NOSUCH",
    ],
)
def test_no_text_acts_on_the_terminal_of_a_command(arguments: str, world: World) -> None:
    """Replies, names, places, errors and JSON, where they are printed on a terminal."""
    if "TRANSCRIPT" in arguments:
        world.converse()
    words = {
        "ASK": f"ask {ACTS}",
        "REPLY": f"reply {ACTS}",
        "MODEL": world.model,
        "KIND": world.kind,
        "TEMPLATE": world.template,
        "TRANSCRIPT": world.transcript,
        "NOSUCH": f"nosuch{ACTS}/{ACTS}",
    }
    given = [words.get(word, word) for word in arguments.split()]
    short = ["-n", "4", "--no-save"] if given[0] == "--plain" else ["-n", "4"] if given[0] == "--once" else []
    it = Terminal(*given, *short, cwd=world.home)
    try:
        if given[0] == "--plain":
            it.wait_for("You: ", it.wait_for("ended by"))
            it.press("/load \t\t\x1b[A")
            it.wait_for("past ")
            it.press("\x15\x04")
        it.wait_for_end()
    finally:
        it.close()
    assert it.raw and actions(it.raw) == []


def test_no_text_acts_on_the_terminal_of_the_window(world: World) -> None:
    """Header, turns, toasts, titles, lists, completions, the inspector and the last words."""
    world.converse()
    steps = [
        ("\x1b[A", "past "),  # the prompt history
        ("\x03", "Write a message"),
        ("/load \t", "config/"),  # completions
        ("\x03", "Write a message"),
        ("/theme nosuch\r", "no theme called"),
        ("\x03", "Write a message"),
        ("/system\r", "system "),
        ("/stats\r", "tok/s"),
        (f"\x1b[200~/model nosuch{ACTS}\x1b[201~\r", "stays open"),
        ("\x0f", "Open a conversation"),
    ]
    it = Terminal(
        *("-m", world.model, "-n", "4", "--resume", world.transcript, "--prefill", f"x {ACTS}"), cwd=world.home
    )
    try:
        it.wait_for("ready")
        for keys, words in steps:
            place = len(it.text)
            it.press(keys)
            it.wait_for(words, place)
        it.press("\x11")
        it.wait_for_end()
        assert it.modes_now == it.modes
    finally:
        it.close()
    assert actions(it.raw) == []


def test_no_text_acts_on_the_terminal_of_the_set_up(world: World) -> None:
    """Names of files and what the settings say of the model."""
    world.settings(model=world.model, tokenizer=f"nosuch{ACTS}", theme=f"theme {ACTS}")
    it = Terminal("--setup", cwd=world.home)
    try:
        it.wait_for("Next")
        it.press("\x11")
        it.wait_for_end()
    finally:
        it.close()
    assert actions(it.raw) == []
