"""The checkpoints of a training run, in the order in which they were made.

    --model 'runs/step_*.pt' ─ Timeline ─ oldest … newest, each whole
                                   └ scan again ─ what has come since

A file that is still being written is not there yet. Nothing here imports torch; a scan
reads names, sizes and times, and at most a few kilobytes of each new file.
"""

from __future__ import annotations

import glob
import os
import re
import time
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from llmchat.checkpoints.formats import SUFFIXES, TORCH, has_model_name
from llmchat.checkpoints.training_record import read_training
from llmchat.errors import ModelLoadError, UsageError

SETTLED_SECONDS = 2.0
"""A file that was last written to this long ago is taken for whole at first sight."""

Training = Mapping[str, int | float]
"""step, epoch and loss, as far as a checkpoint says."""


def newest_checkpoint(pattern: str) -> Path:
    """The checkpoint of a run that was made last, of those that are whole.

    Raises:
        ModelLoadError: There is none.
    """
    timeline = Timeline(pattern)
    timeline.scan()
    if timeline.checkpoints:
        return timeline.checkpoints[-1]
    if timeline.unfinished:
        raise ModelLoadError(f"Nothing that matches {pattern} is whole yet. Wait until it has been written.")
    raise ModelLoadError(f"No checkpoint matches {pattern} yet. It can name .pt and .gguf files and directories.")


def training_words(training: Training) -> str:
    """The progress in a few words, such as "step 12000 · loss 2.31"; "" if nothing is known."""
    words = [f"{name} {_plain(training[name])}" for name in ("step", "epoch") if name in training][:1]
    if "loss" in training:
        words.append(f"loss {training['loss']:.3g}")
    return " · ".join(words)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was found out about one file or directory."""

    signature: tuple[int, int]
    """Bytes in all, and the time of the last change in nanoseconds."""
    is_whole: bool
    training: Training


class Timeline:
    """The whole checkpoints that match a pattern. `scan` may run on a thread of its own."""

    def __init__(self, pattern: str) -> None:
        """A timeline that has not looked yet."""
        self.pattern = pattern
        self.checkpoints: tuple[Path, ...] = ()
        """From the oldest to the newest; replaced whole by `scan`."""
        self.unfinished = 0
        """How many more match that are still being written."""
        self._seen: dict[Path, _Seen] = {}
        self._has_scanned = False

    def scan(self) -> tuple[Path, ...]:
        """Look what is there now.

        Returns:
            The checkpoints that have come since the last look, oldest first; none the first time.
        """
        known = set(self.checkpoints)
        present = [path for path in _matches(self.pattern) if self._look_at(path)]
        whole = [path for path in present if self._seen[path].is_whole]
        self.unfinished = len(present) - len(whole)
        self.checkpoints = tuple(self._in_order(whole))
        come = tuple(path for path in self.checkpoints if path not in known)
        first, self._has_scanned = not self._has_scanned, True
        return () if first else come

    def place_of(self, path: Path) -> int | None:
        """Which checkpoint this is, counted from 1; None if it is none of them."""
        return self.checkpoints.index(path) + 1 if path in self.checkpoints else None

    def beside(self, path: Path | None, by: int) -> Path:
        """The checkpoint `by` places after another, which may be gone; None stands behind the newest.

        Raises:
            UsageError: There is none.
        """
        if not self.checkpoints:
            raise UsageError(f"No checkpoint matches {self.pattern} yet.")
        others = [other for other in self.checkpoints if other != path]
        order = [*others] if path is None else self._in_order([*others, path])
        place = (len(order) if path is None else order.index(path)) + by
        if not 0 <= place < len(order):
            raise UsageError(f"This is the {'oldest' if by < 0 else 'newest'} checkpoint of {self.pattern}.")
        return order[place]

    def at(self, number: int) -> Path:
        """The checkpoint with this number, counted from 1.

        Raises:
            UsageError: There are not so many.
        """
        if not 1 <= number <= len(self.checkpoints):
            raise UsageError(f"There are {len(self.checkpoints)} checkpoints; /checkpoint lists them.")
        return self.checkpoints[number - 1]

    def training_of(self, path: Path) -> Training:
        """What a checkpoint says of its training."""
        return self._seen[path].training if path in self._seen else {}

    def label(self, path: Path) -> str:
        """A short name for a checkpoint: its step if it says one, else its file's name."""
        training = self.training_of(path)
        return f"step {_plain(training['step'])}" if "step" in training else path.name

    def _look_at(self, path: Path) -> bool:
        """Find out about a match; false if it is gone or no checkpoint."""
        before = self._seen.get(path)
        try:
            signature = _signature(path)
            is_stable = before is not None and before.signature == signature
            if before is None or not (is_stable and before.is_whole):
                is_whole = _is_whole(path, signature, is_stable=is_stable)
                self._seen[path] = _Seen(signature, is_whole, read_training(path) if is_whole else {})
        except OSError:
            return False
        return True

    def _in_order(self, paths: Iterable[Path]) -> list[Path]:
        """The order in which they were made.

        By the numbers in the names if these differ in nothing else; else by the step that the
        files carry, if all do; else by the time of their last change.
        """
        paths = list(paths)
        if len({re.sub(r"\d+", "#", str(path)) for path in paths}) <= 1:
            return sorted(paths, key=lambda path: (_numbers(path), str(path)))
        steps = {path: self.training_of(path).get("step") for path in paths}
        if None not in steps.values():
            return sorted(paths, key=lambda path: (steps[path], str(path)))
        times = {path: self._seen[path].signature[1] if path in self._seen else 0 for path in paths}
        return sorted(paths, key=lambda path: (times[path], _numbers(path), str(path)))


def _matches(pattern: str) -> list[Path]:
    """The files and directories of the pattern that may be checkpoints, by their whole paths."""
    found = (Path(name).absolute() for name in glob.glob(os.path.expanduser(pattern), recursive=True))
    return [path for path in found if has_model_name(path)]


def _signature(path: Path) -> tuple[int, int]:
    """Bytes and time of the last change, of a directory's files in all."""
    files = [item for item in path.iterdir() if item.is_file()] if path.is_dir() else [path]
    states = [file.stat() for file in files]
    return sum(state.st_size for state in states), max((state.st_mtime_ns for state in states), default=0)


def _is_whole(path: Path, signature: tuple[int, int], *, is_stable: bool) -> bool:
    """Whether a checkpoint has been written to its end.

    Args:
        path: The file or directory.
        signature: Its size and time now.
        is_stable: Whether these were the same at the look before.
    """
    size, changed = signature
    is_directory = path.is_dir()
    if path.suffix.lower() in TORCH.suffixes and not is_directory:
        # torch.save writes zip files, whose index comes last.
        return zipfile.is_zipfile(path)
    has_weights = not is_directory or any(item.suffix.lower() in SUFFIXES for item in path.iterdir())
    return size > 0 and has_weights and (is_stable or time.time() - changed / 1e9 >= SETTLED_SECONDS)


def _plain(number: int | float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def _numbers(path: Path) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", str(path))))
