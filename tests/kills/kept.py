"""What must be on the disk at a moment, by what the screen has shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from llmchat.chat.storage import TranscriptFile
from llmchat.chat.transcript import Transcript
from llmchat.paths import transcripts_dir

Said = tuple[str, ...]
"""The messages on the selected path, oldest first."""


class Unkept(Exception):
    """Something that was finished is not on the disk, or the window does not do what it should."""


@dataclass(slots=True)
class Talk:
    """A person's conversations, as the screen has shown them."""

    said: Said = ()
    """The messages after what is being done."""
    before: Said = ()
    """Those before it."""
    doing: str = "nothing"
    is_accepted: bool = True
    """Whether the screen has shown that it is done, so that it must be on the disk."""
    replies: dict[str, str] = field(default_factory=dict)
    """What was seen of the finished reply to each message; "" where nothing was seen whole."""
    counts: dict[str, int] = field(default_factory=dict)
    """How many replies each message has had."""
    steps: list[Said] = field(default_factory=list)
    """The messages before each change that can be taken back."""
    children: dict[Said, set[str]] = field(default_factory=dict)
    """The messages that follow each path of messages."""
    away: dict[Path, Said] = field(default_factory=dict)
    """Earlier conversations."""
    number: int = 0
    history: list[str] = field(default_factory=list)
    """What was done since the window was opened."""

    def begin(self, doing: str, after: Said) -> None:
        """Something is about to be done."""
        self.history.append(f"{doing} -> {' '.join(after)}")
        self.doing, self.before, self.said, self.is_accepted = doing, self.said, after, False

    def accept(self) -> None:
        """It was shown as done; a reply may still run."""
        self.is_accepted = True

    def finish(self) -> None:
        """It has ended."""
        self.doing = f"after {self.doing}"

    def put_away(self) -> None:
        """A new conversation was begun."""
        for path in files():
            self.away.setdefault(path, self.before)
        self.steps.clear()
        self.children.clear()

    def beside(self) -> set[str]:
        """The last message and its alternatives."""
        return self.children.setdefault(self.said[:-1], set())

    def put_beside(self) -> None:
        """The last message is there."""
        self.beside().add(self.said[-1])

    def take_out(self, words: str) -> None:
        """The message after the last one was deleted."""
        self.children.setdefault(self.said, set()).discard(words)

    def go_on_from(self, found: Said, transcript: Transcript | None) -> None:
        """What was found is what there is."""
        self.children = {} if transcript is None else _children(transcript)
        self.said = self.before = found
        self.is_accepted = True
        self.steps.clear()


def files() -> list[Path]:
    """The conversations on the disk."""
    return sorted(transcripts_dir().glob("*.toml"))


def conversation(path: Path) -> Transcript:
    """Open a conversation as llmchat does.

    Raises:
        Unkept: It is reported as damaged.
        TranscriptError: It cannot be opened.
    """
    file, notices = TranscriptFile.open(path)
    file.close()
    if bad := [notice for notice in notices if "damaged" in notice or "could not" in notice]:
        raise Unkept(f"{path.name}: {bad[0]}")
    return file.transcript


def _children(transcript: Transcript) -> dict[Said, set[str]]:
    children: dict[Said, set[str]] = {}
    for turn in transcript:
        if turn.role == "user":
            path = [one.text for one in transcript.path(turn.id) if one.role == "user"]
            children.setdefault(tuple(path[:-1]), set()).add(turn.text)
    return children
