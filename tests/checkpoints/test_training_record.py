"""The training record is read from real files as the loader reads it, and runs nothing on the way."""

from __future__ import annotations

import json
import os
import pickletools
from pathlib import Path

import pytest

from llmchat.checkpoints.llmbuilder_facts import training_facts
from llmchat.checkpoints.torch_file import load_torch_file
from llmchat.checkpoints.training_record import read_training
from tests.checkpoints.torch_files import Call, pickled, write_archive
from tests.conftest import DATA

FORMATS = DATA / "llmbuilder-formats"
REAL = sorted(path for path in FORMATS.rglob("*.pt") if path.name != "q8_0.pt")


@pytest.mark.parametrize("path", REAL, ids=lambda path: str(path.relative_to(FORMATS)))
def test_it_is_what_the_loader_finds(path: Path) -> None:
    """Every layout of llmbuilder, without torch."""
    assert read_training(path) == training_facts(load_torch_file(path, lambda stage, fraction: None).payload)


def test_hugging_faces_trainer(tmp_path: Path) -> None:
    """A checkpoint directory's progress file; the evaluation's loss before the training's."""
    log = [{"loss": 3.0, "step": 10}, {"eval_loss": 2.5, "step": 10}, {"loss": 2.0, "step": 20}]
    state = {"global_step": 20, "epoch": 0.5, "log_history": log}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    assert read_training(tmp_path) == {"step": 20, "epoch": 0.5, "loss": 2.5}


def test_nothing_that_a_file_names_is_run(tmp_path: Path) -> None:
    """A hostile pickle reaches no function; what it says beside that still counts."""
    victim = tmp_path / "victim"
    payload = {"evil": Call(os.mkdir, str(victim)), "step": 7}
    path = write_archive(tmp_path / "evil.pt", payload)
    assert b"mkdir" in pickled(payload)
    assert read_training(path) == {"step": 7}
    assert not victim.exists()


@pytest.mark.parametrize("length", [0, 1, 10, 40, 80])
def test_a_damaged_description_says_nothing(tmp_path: Path, length: int) -> None:
    """Cut anywhere, wrong, missing: no record, no error."""
    index = pickled({"step": 7, "metrics": {"val_loss": 2.5}, "training_state": {"epoch": 1, "step": 7}})
    assert len(index) > 80 and list(pickletools.genops(index))
    assert read_training(write_archive(tmp_path / "cut.pt", index=index[:length])) == {}


def test_what_is_no_checkpoint_says_nothing(tmp_path: Path) -> None:
    """Any other file, an empty one, one that is gone, a directory without progress, or with nonsense in it."""
    (tmp_path / "text.pt").write_text("no zip")
    (tmp_path / "empty.pt").touch()
    for path in (tmp_path / "text.pt", tmp_path / "empty.pt", tmp_path / "gone.pt", tmp_path):
        assert read_training(path) == {}
    for text in ("", "[]", '{"log_history": 3}', "[" * 100_000):
        (tmp_path / "trainer_state.json").write_text(text)
        assert read_training(tmp_path) == {}
