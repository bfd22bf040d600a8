"""The window in a terminal: a person talks, deletes, steps back, edits and begins anew, until the kill."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from time import monotonic

from llmchat.chat.transcript import Transcript
from llmchat.ui.widgets.typed_keys import TYPING_SECONDS
from tests.kills.kept import Talk, Unkept, conversation, files
from tests.kills.screen import Screen
from tests.patience import PATIENCE_SECONDS
from tests.terminals import Terminal

_ALT_UP, _ALT_DOWN, _END, _CLEAR, _UNDO, _REGENERATE = "\x1b[1;3A", "\x1b[1;3B", "\x05", "\x15", "\x1a", "\x12"
_WIDTH, _HEIGHT = 110, 30
_QUIET_SECONDS = 0.15
_TOAST = re.compile("Pressdagain|turns?deleted|Backbefore|Broughtback|Editingyour")
"""What may lie over a reply; its words are not compared then."""


class Killed(Exception):
    """The moment has come."""


class Window:
    """A window with its screen, and what must be found if it ends now.

    Args:
        talk: What was said and finished so far, in this and earlier windows.
        rng: For words and moments.
        resume: Whether it goes on with the conversation that was written to last.
    """

    def __init__(self, talk: Talk, rng: Random, *, resume: bool) -> None:
        arguments = ["--continue"] if resume else []
        self._terminal = Terminal(*arguments, "--model", "tiny", "-n", "12")
        self._screen = Screen(_WIDTH, _HEIGHT)
        self._fed = 0
        self._talk = talk
        self._rng = rng
        self._delay = self._kill_at = float("inf")
        self._kill_on = ""
        self._until(lambda: "●ready" in self._status and (not resume or not talk.said or talk.said[-1] in self._shown))

    # ── what is seen ──

    @property
    def _box(self) -> int:
        rows = self._screen.rows
        return max((place for place, row in enumerate(rows) if row.startswith("╭")), default=_HEIGHT - 4)

    @property
    def _shown(self) -> str:
        rows = (row for row in self._screen.rows[1 : self._box] if "Go on with “" not in row)
        return "".join("".join(rows).split())

    @property
    def _draft(self) -> str:
        return "".join("".join(row.strip("│╭╰╮╯─") for row in self._screen.rows[self._box : -1]).split())

    @property
    def _status(self) -> str:
        return "".join(self._screen.rows[-1].split())

    def _answer(self, words: str) -> str:
        """What stands below a message; "" if the message is not there."""
        return self._shown.rpartition(words)[2] if words in self._shown else ""

    def _is_answered(self, words: str, replies: int = 1) -> bool:
        answer = self._answer(words)
        counted = replies == 1 or f"‹{replies}/{replies}›" in answer
        return "●ready" in self._status and counted and re.search(r"tok·\w", answer) is not None

    # ── what is done ──

    def live(self, count: int) -> None:
        """Do some things to their ends, then one more, and be killed in it or as it ends."""
        for _ in range(count):
            self._do()
        if self._rng.random() < 0.35:
            self._kill_on = self._rng.choice(("accepted", "finished"))
        else:
            self._delay = self._rng.choice((0.05, 0.15, 0.4)) * self._rng.random()
        try:
            while True:
                self._do()
        except Killed:
            self._terminal.process.kill()
            self._terminal.process.wait()

    def close(self) -> None:
        """End the program, if need be."""
        self._terminal.close()

    def _do(self) -> None:
        talk = self._talk
        choices: list[Callable[[], None]] = [self._say, self._say]
        if talk.said:
            choices += [self._say, self._regenerate, self._edit]
            # Where there are alternatives the path would go on through one of them.
            choices += [self._delete] * 3 if len(talk.beside()) == 1 else []
            choices += [self._new] if self._rng.random() < 0.5 else []
        if talk.steps:
            choices += [self._undo] * 3
        self._rng.choice(choices)()

    def _say(self) -> None:
        words = self._new_words()
        self._begin("say", (*self._talk.said, words))
        self._send(words)
        self._expect_reply(words)
        self._talk.steps.append(self._talk.before)

    def _regenerate(self) -> None:
        words = self._talk.said[-1]
        if words not in self._talk.replies:
            return self._say()
        replies = self._talk.counts.get(words, 1) + 1
        self._begin("regenerate", self._talk.said)
        self._talk.replies.pop(words, None)
        self._write(_REGENERATE)
        self._until(lambda: self._is_answered(words, replies))
        self._settle()
        self._talk.counts[words] = replies
        self._finish(words)
        self._talk.steps.clear()

    def _edit(self) -> None:
        old, new = self._talk.said[-1], self._new_words()
        if not self._select_last(old):
            return self._say()
        self._pause()
        self._begin("edit", (*self._talk.said[:-1], new))
        self._write("e")
        self._until(lambda: old in self._draft)
        self._clear(old)
        self._send(new)
        self._expect_reply(new, in_place=True)
        self._talk.steps.clear()

    def _delete(self) -> None:
        words = self._talk.said[-1]
        if not self._select_last(words):
            return self._say()
        self._pause()
        place = len(self._terminal.text)
        self._write("d")
        self._until(lambda: "Press d again" in self._terminal.text[place:])
        self._begin("delete", self._talk.said[:-1])
        self._write("d")
        self._until(lambda: words not in self._shown)
        self._talk.take_out(words)
        self._finish()
        self._talk.steps.append(self._talk.before)

    def _undo(self) -> None:
        talk = self._talk
        back = talk.steps.pop()
        gone, come = set(talk.said) - set(back), set(back) - set(talk.said)
        self._begin("undo", back)
        place = len(self._terminal.text)
        self._rng.choice((lambda: self._write(_UNDO), lambda: self._send("/undo")))()
        # The list of commands hides turns for a moment, so what is shown is not enough.
        self._until(
            lambda: (
                re.search("Back before|Brought back", self._terminal.text[place:]) is not None
                and all(words in self._shown for words in come)
                and not any(words in self._shown for words in gone)
            )
        )
        for _ in come:
            self._talk.put_beside()
        self._finish()
        if gone:
            # The message is in the prompt again.
            self._until(lambda: any(words in self._draft for words in gone))
            self._clear(*gone)

    def _new(self) -> None:
        self._begin("new", ())
        self._send("/new")
        self._until(
            lambda: ".toml" not in self._screen.rows[0] and not any(words in self._shown for words in self._talk.before)
        )
        self._talk.put_away()
        self._finish()

    # ── steps of these ──

    def _send(self, words: str) -> None:
        self._write(words)
        self._until(lambda: words in self._draft)
        # Words that are typed on a turn take the focus along, and Enter may be quicker.
        self._settle()
        self._write("\r")

    def _settle(self) -> None:
        """Wait until nothing more is drawn."""
        drawn, quiet = len(self._terminal.raw), monotonic()

        def is_quiet() -> bool:
            nonlocal drawn, quiet
            if len(self._terminal.raw) != drawn:
                drawn, quiet = len(self._terminal.raw), monotonic()
            return monotonic() - quiet > _QUIET_SECONDS

        self._until(is_quiet)

    def _pause(self) -> None:
        """Let the time pass in which a letter would belong to the text before it."""
        end = monotonic() + 1.2 * TYPING_SECONDS
        self._until(lambda: monotonic() > end)

    def _clear(self, *texts: str) -> None:
        """Empty the prompt. The blank takes the focus there, should it be on a turn."""
        self._write(" ")
        self._write(_END)
        self._write(_CLEAR)
        self._until(lambda: not any(words in self._draft for words in texts))

    def _new_words(self) -> str:
        self._talk.number += 1
        return f"w{self._talk.number:05d}w"

    def _select_last(self, words: str) -> bool:
        """Put the cursor on the last message; whether that went well."""
        for _ in range(12):
            rows = self._screen.rows[1 : self._box]
            cursor = next((place for place, row in enumerate(rows) if row.startswith("▌")), len(rows))
            wanted = next((place for place, row in enumerate(rows) if words in row), -1) - 1
            if cursor == wanted:
                return True
            self._write(_ALT_UP if cursor > wanted else _ALT_DOWN)
            self._settle()
        return False

    def _expect_reply(self, words: str, *, in_place: bool = False) -> None:
        self._until(lambda: words in self._shown and words not in self._draft)
        self._talk.accept()
        self._reached("accepted")
        self._until(lambda: self._is_answered(words))
        if in_place:
            # Parts of the old reply may still stand there, and pass for the new one.
            self._settle()
            self._until(lambda: self._is_answered(words))
        self._talk.counts[words] = 1
        self._finish(words)

    def _begin(self, name: str, after: tuple[str, ...]) -> None:
        self._talk.begin(name, after)
        self._kill_at = monotonic() + self._delay

    def _finish(self, words: str = "") -> None:
        self._talk.accept()
        if words:
            self._talk.put_beside()
            self._talk.replies[words] = ""
            if self._kill_on != "finished":
                # A screen that is half drawn has lines of other replies.
                self._settle()
                self._talk.replies[words] = self._answer(words)
        self._talk.finish()
        self._reached("finished")

    def _write(self, keys: str) -> None:
        self._terminal.press(keys)

    def _reached(self, milestone: str) -> None:
        if milestone == self._kill_on:
            raise Killed

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = monotonic() + PATIENCE_SECONDS
        while not condition():
            if monotonic() > self._kill_at:
                raise Killed
            if monotonic() > deadline or self._terminal.process.poll() is not None:
                shown = "\n".join(row for row in self._screen.rows if row)
                raise Unkept(f"{self._talk.doing}: the window does not show it:\n{shown}")
            self._terminal.read(0.01)
            self._screen.feed(self._terminal.raw[self._fed :])
            self._fed = len(self._terminal.raw)


def kill(talk: Talk, rng: Random) -> str:
    """Open a window, use it, kill it, and look at what is on the disk; returns what it was killed in.

    Raises:
        Unkept: Something that was finished is not there.
    """
    talk.history.clear()
    if not talk.said:
        talk.put_away()
    window = Window(talk, rng, resume=bool(talk.said))
    try:
        window.live(rng.choice((0, 1, 2, 3, 5)))
    finally:
        window.close()
    return check(talk)


def check(talk: Talk) -> str:
    """Compare what is on the disk with what must be there, and go on from what is.

    Raises:
        Unkept: Something that was finished is not there.
    """
    for path, said in talk.away.items():
        _compare(path, conversation(path), (said,), talk)
    current = [path for path in files() if path not in talk.away]
    if len(current) > 1:
        raise Unkept(f"{talk.doing}: more than one file: {current}")
    allowed = (talk.said,) if talk.is_accepted else (talk.before, talk.said)
    found: tuple[str, ...] = ()
    if current:
        found = _compare(current[0], conversation(current[0]), allowed, talk)
    elif () not in allowed:
        raise Unkept(f"{talk.doing}: no file, though {allowed} was said")
    doing = talk.doing
    talk.go_on_from(found, conversation(current[0]) if current else None)
    return doing


def _compare(path: Path, transcript: Transcript, allowed: tuple[tuple[str, ...], ...], talk: Talk) -> tuple[str, ...]:
    turns = transcript.path()
    found = tuple(turn.text for turn in turns if turn.role == "user")
    if found not in allowed:
        raise Unkept(f"{talk.doing}: {path.name} has {found}, not {' or '.join(map(str, allowed))}")
    for turn, answer in zip(turns, [*turns[1:], None], strict=False):
        shown = talk.replies.get(turn.text) if turn.role == "user" else None
        if shown is None:
            continue
        if answer is None or answer.reply is None or answer.reply.finish_reason not in ("stop", "length"):
            raise Unkept(f"{talk.doing}: the finished reply to {turn.text} is not there")
        if shown and not _TOAST.search(shown) and "".join(answer.text.split()) not in shown:
            raise Unkept(f"{talk.doing}: the reply to {turn.text} is {answer.text!r}, shown was {shown!r}")
    return found
