"""A run's checkpoints: which there are, in which order, and what has come since."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from llmchat.chat.model import is_pattern
from llmchat.checkpoints.timeline import Timeline, newest_checkpoint, training_words
from llmchat.errors import ModelLoadError, UsageError
from tests.checkpoints.runs import save_checkpoint
from tests.conftest import DATA

SMALL = DATA / "llmbuilder-formats/2.0.0/quant/int8.pt"
GGUF_BYTES = b"GGUF" + bytes(60)


def put(directory: Path, *names: str, age_seconds: float = 100.0) -> None:
    """Copies of a real checkpoint under other names, each a second younger than the one before."""
    for place, name in enumerate(names):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".gguf":
            path.write_bytes(GGUF_BYTES)
        else:
            shutil.copy(SMALL, path)
        changed = time.time() - age_seconds + place
        os.utime(path, (changed, changed))


def scanned(pattern: Path | str) -> Timeline:
    """A timeline that has looked once."""
    timeline = Timeline(str(pattern))
    assert timeline.scan() == ()
    return timeline


def names(paths: Sequence[Path]) -> list[str]:
    """The files' names alone."""
    return [path.name for path in paths]


@pytest.mark.parametrize(
    "ordered",
    [
        ("step_9.pt", "step_10.pt", "step_100.pt", "step_1000.pt"),
        ("epoch_1_step_200.pt", "epoch_2_step_100.pt", "epoch_10_step_1.pt"),
        ("ckpt-2.gguf", "ckpt-11.gguf"),
    ],
)
def test_numbers_in_the_names_count_as_numbers(tmp_path: Path, ordered: tuple[str, ...]) -> None:
    """10 comes after 9, whatever was written when."""
    put(tmp_path, *reversed(ordered))
    assert names(scanned(tmp_path / "*").checkpoints) == list(ordered)


def test_numbers_of_directories_count_too(tmp_path: Path) -> None:
    """A run that keeps each checkpoint in a directory of its own."""
    put(tmp_path, "step-10/model.pt", "step-2/model.pt")
    found = scanned(tmp_path / "step-*" / "model.pt").checkpoints
    assert [path.parent.name for path in found] == ["step-2", "step-10"]


def test_other_names_are_ordered_by_the_step_inside(tmp_path: Path) -> None:
    """Files of one run with names of any kind, each of which says how far it was trained."""
    save_checkpoint(tmp_path / "final.pt", step=300)
    save_checkpoint(tmp_path / "best.pt", step=20)
    save_checkpoint(tmp_path / "step_100.pt", step=100)
    timeline = scanned(tmp_path / "*.pt")
    assert names(timeline.checkpoints) == ["best.pt", "step_100.pt", "final.pt"]
    assert [timeline.label(path) for path in timeline.checkpoints] == ["step 20", "step 100", "step 300"]


def test_else_the_time_decides(tmp_path: Path) -> None:
    """Where neither names nor files say it."""
    put(tmp_path, "b.pt", "c.pt", "a.pt")
    assert names(scanned(tmp_path / "*.pt").checkpoints) == ["b.pt", "c.pt", "a.pt"]


def test_real_trainers_files_in_order() -> None:
    """What llmbuilder 1.0's trainer wrote, oldest first."""
    found = scanned(DATA / "llmbuilder-formats/1.0.0/trainer/exports/checkpoints/*.pt").checkpoints
    assert names(found) == ["best_model.pt", "checkpoint_epoch_0.pt", "latest_checkpoint.pt"]


def test_only_models_count(tmp_path: Path) -> None:
    """Logs and settings beside the checkpoints match a broad pattern, but are none."""
    put(tmp_path, "step_1.pt")
    (tmp_path / "log.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    shutil.copytree(DATA / "huggingface" / "mistral", tmp_path / "step_2")
    half = tmp_path / "step_3"
    half.mkdir()
    (half / "config.json").write_text("{}")
    for item in [*tmp_path.glob("step_2/*"), *half.iterdir()]:
        os.utime(item, (0, 0))
    timeline = scanned(tmp_path / "*")
    assert set(names(timeline.checkpoints)) == {"step_1.pt", "step_2"}
    assert timeline.unfinished == 1


def test_what_comes_is_told_once(tmp_path: Path) -> None:
    """New files, in order; those that were there at first are no news, and those that go leave."""
    put(tmp_path, "step_1.pt")
    timeline = scanned(tmp_path / "step_*.pt")
    assert timeline.scan() == ()
    put(tmp_path, "step_20.pt", "step_3.pt")
    assert names(timeline.scan()) == ["step_3.pt", "step_20.pt"]
    assert timeline.scan() == ()
    (tmp_path / "step_1.pt").unlink()
    assert timeline.scan() == ()
    assert names(timeline.checkpoints) == ["step_3.pt", "step_20.pt"]


def test_a_run_that_has_not_begun(tmp_path: Path) -> None:
    """The first checkpoint that appears is news."""
    timeline = scanned(tmp_path / "step_*.pt")
    put(tmp_path, "step_1.pt")
    assert names(timeline.scan()) == ["step_1.pt"]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_that_is_being_written_is_not_there_yet(tmp_path: Path, share: float) -> None:
    """However long the writer pauses: a .pt file is whole with its last bytes."""
    whole = SMALL.read_bytes()
    put(tmp_path, "step_1.pt")
    path = tmp_path / "step_2.pt"
    path.write_bytes(whole[: int(len(whole) * share)])
    os.utime(path, (0, 0))
    timeline = scanned(tmp_path / "*.pt")
    assert timeline.scan() == () and names(timeline.checkpoints) == ["step_1.pt"] and timeline.unfinished == 1
    path.write_bytes(whole)
    assert names(timeline.scan()) == ["step_2.pt"]


def test_a_file_without_a_sign_of_its_end_must_stay_as_it_is(tmp_path: Path) -> None:
    """A GGUF file is there when two looks find the same size and time, or at once if it is old."""
    put(tmp_path, "step_1.gguf")
    timeline = scanned(tmp_path / "*.gguf")
    assert names(timeline.checkpoints) == ["step_1.gguf"]
    path = tmp_path / "step_2.gguf"
    path.write_bytes(GGUF_BYTES)
    assert timeline.scan() == () and timeline.unfinished == 1
    path.write_bytes(GGUF_BYTES * 2)
    assert timeline.scan() == ()
    assert names(timeline.scan()) == ["step_2.gguf"]
    assert timeline.scan() == ()


def test_steps_from_one_to_the_next(tmp_path: Path) -> None:
    """Both ways, by number, to the ends and not beyond them."""
    put(tmp_path, *(f"step_{number}.pt" for number in range(1, 5)))
    timeline = scanned(tmp_path / "*.pt")
    first, second, third, last = timeline.checkpoints
    assert (timeline.beside(second, -1), timeline.beside(second, 1)) == (first, third)
    assert timeline.beside(None, -1) == last and timeline.at(4) == last
    assert (timeline.place_of(third), timeline.place_of(tmp_path / "other.pt")) == (3, None)
    for path, by, words in ((first, -1, "the oldest"), (last, 1, "the newest")):
        with pytest.raises(UsageError, match=words):
            timeline.beside(path, by)
    for number in (0, 5):
        with pytest.raises(UsageError, match="There are 4 checkpoints"):
            timeline.at(number)


def test_a_checkpoint_that_was_deleted_keeps_its_place(tmp_path: Path) -> None:
    """A trainer that keeps the last few deletes the one that is open; its neighbours are still found."""
    put(tmp_path, "a.pt", "b.pt", "c.pt")
    timeline = scanned(tmp_path / "*.pt")
    first, second, third = timeline.checkpoints
    second.unlink()
    timeline.scan()
    assert timeline.place_of(second) is None
    assert (timeline.beside(second, -1), timeline.beside(second, 1)) == (first, third)


def test_what_a_pattern_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of a pattern make one, unless a file is called so."""
    assert is_pattern("runs/step_*.pt") and is_pattern("a?.pt") and is_pattern("[ab].gguf")
    assert not is_pattern("tiny") and not is_pattern("runs/step_1.pt") and not is_pattern("")
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "odd[1].pt")
    assert not is_pattern("odd[1].pt")
    assert names(scanned("*.pt").checkpoints) == ["odd[1].pt"]
    assert scanned("*.pt").checkpoints[0].is_absolute()


def test_the_newest(tmp_path: Path) -> None:
    """What --model with a pattern opens; where there is nothing, it is said why."""
    with pytest.raises(ModelLoadError, match=r"No checkpoint matches .*\.pt yet"):
        newest_checkpoint(str(tmp_path / "*.pt"))
    (tmp_path / "step_3.pt").write_bytes(b"PK half")
    with pytest.raises(ModelLoadError, match="is whole yet"):
        newest_checkpoint(str(tmp_path / "*.pt"))
    put(tmp_path, "step_1.pt", "step_2.pt")
    assert newest_checkpoint(str(tmp_path / "*.pt")) == tmp_path / "step_2.pt"


def test_progress_in_words() -> None:
    """Steps stay whole numbers, however large; a loss has three digits; the epoch stands in for a step."""
    assert training_words({"step": 1_234_567, "epoch": 3, "loss": 2.3123}) == "step 1234567 · loss 2.31"
    assert training_words({"epoch": 2}) == "epoch 2"
    assert training_words({"epoch": 0.5, "loss": 0.01234}) == "epoch 0.5 · loss 0.0123"
    assert training_words({}) == ""
