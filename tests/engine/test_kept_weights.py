"""Repacked weights that are kept in a file: the same model from it, and whatever is wrong with it does no harm."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmchat import disk_cache
from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.checkpoint import Checkpoint
from llmchat.engine import opening
from llmchat.engine.native.cache import NativeCache
from llmchat.engine.native.kept_weights import Keeper, place_for
from llmchat.engine.native.model import NativeModel
from llmchat.engine.native.weight_loader import Floats
from llmchat.engine.native_engine import NativeEngine
from llmchat.engine.opening import open_engine
from llmchat.errors import GenerationError
from llmchat.paths import weights_dir
from tests.conftest import DATA
from tests.engine.test_native_formats import WIDE, checkpoint_of, like_q4_k_m
from tests.patience import PATIENCE_SECONDS
from tests.program import Here


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keepers begin without waiting for a first answer."""
    monkeypatch.setattr(Keeper, "DELAY", 0.0)


def opened(checkpoint: Checkpoint, place: Path) -> NativeModel:
    """A model whose weights are kept at a place, or will be."""
    return NativeModel(checkpoint, 1, lambda stage, fraction: None, None, place)


def kept(checkpoint: Checkpoint, place: Path) -> NativeModel:
    """A model whose weights are written when this returns."""
    model = opened(checkpoint, place)
    assert not model.is_mapped and model._keeper is not None
    model._keeper.join()
    return model


def logits_of(model: NativeModel) -> Floats:
    """Behind a few tokens."""
    ids = [3, 1, 4, 1, 5]
    cache = NativeCache(model, len(ids))
    return model.step(ids, range(len(ids)), [cache] * len(ids))


@pytest.mark.parametrize("of", [like_q4_k_m, lambda name: "Q8_0", lambda name: "F16"], ids=["mixed", "Q8_0", "F16"])
def test_a_model_from_kept_weights_is_the_same_to_the_bit(of: Callable[[str], str], tmp_path: Path) -> None:
    """Its logits, what it takes, and how many numbers it has; the file is for its owner alone."""
    checkpoint, place = checkpoint_of(WIDE, of), tmp_path / "w" / "one.weights"
    first = kept(checkpoint, place)
    second = opened(checkpoint, place)
    assert second.is_mapped
    assert logits_of(first).tobytes() == logits_of(second).tobytes()
    assert (first.weight_bytes, first.parameter_count) == (second.weight_bytes, second.parameter_count)
    assert place.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in place.parent.iterdir()] == ["one.weights"]


def damaged(content: bytes, how: str) -> bytes:
    """A file's content with something wrong."""
    middle = len(content) // 2
    return {
        "cut short": content[:middle],
        "in its index": content[:60] + b"9" + content[61:],
        "its length": content[:8] + b"\xff" * 8 + content[16:],
        "another file": b"something else",
        "empty": b"",
    }[how]


@pytest.mark.parametrize("how", ["cut short", "in its index", "its length", "another file", "empty"])
def test_a_damaged_file_is_thrown_away_and_written_anew(how: str, tmp_path: Path) -> None:
    """The model opens from its own file, as if there had been none."""
    checkpoint, place = checkpoint_of(WIDE, like_q4_k_m), tmp_path / "one.weights"
    wanted = logits_of(kept(checkpoint, place))
    whole = place.read_bytes()
    place.write_bytes(damaged(whole, how))
    assert logits_of(kept(checkpoint, place)).tobytes() == wanted.tobytes()
    assert place.read_bytes() == whole


def test_a_file_of_another_model_is_not_taken(tmp_path: Path) -> None:
    """Its matrices have other sizes."""
    place = tmp_path / "one.weights"
    kept(checkpoint_of(WIDE, lambda name: "Q8_0"), place)
    other = checkpoint_of(replace(WIDE, ffn_dim=768), lambda name: "Q8_0")
    model = opened(other, place)
    assert not model.is_mapped and np.isfinite(logits_of(model)).all()


def test_a_file_that_is_cut_off_while_it_is_in_use_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    """What is mapped and gone would otherwise end the process with SIGBUS."""
    checkpoint, place = checkpoint_of(WIDE, like_q4_k_m), tmp_path / "one.weights"
    kept(checkpoint, place)
    model = opened(checkpoint, place)
    os.truncate(place, 4096)
    with pytest.raises(GenerationError, match="open the model again"):
        logits_of(model)
    assert np.isfinite(logits_of(kept(checkpoint, place))).all()


@pytest.mark.stress
def test_a_bus_error_that_is_not_ours_ends_a_process_as_ever(tmp_path: Path) -> None:
    """The guard looks after its own files alone."""
    checkpoint, place = checkpoint_of(WIDE, like_q4_k_m), tmp_path / "one.weights"
    kept(checkpoint, place)
    code = (
        "import mmap, os, sys; from ctypes import byref; from pathlib import Path;"
        "from tests.engine.test_kept_weights import *;"
        f"assert opened(checkpoint_of(WIDE, like_q4_k_m), Path({str(place)!r})).is_mapped;"
        f"file = open({str(tmp_path / 'other')!r}, 'w+b'); file.write(bytes(8192)); file.flush();"
        "view = mmap.mmap(file.fileno(), 8192); os.truncate(file.fileno(), 0); view[5000]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == -7


def test_a_changed_model_has_another_file(tmp_path: Path) -> None:
    """Another time or another beginning is another model."""
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF" + bytes(100))
    first = place_for(model)
    os.utime(model, (1, 1))
    second = place_for(model)
    model.write_bytes(b"GGUF" + bytes(99) + b"\1")
    os.utime(model, (1, 1))
    third = place_for(model)
    assert first is not None and len({first, second, third}) == 3


def test_a_model_that_is_closed_while_it_is_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory is let go at once."""
    monkeypatch.setattr(Keeper, "DELAY", PATIENCE_SECONDS)
    model = opened(checkpoint_of(WIDE, like_q4_k_m), tmp_path / "one.weights")
    del model
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_mapped_the_second_time_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: Here
) -> None:
    """Until the kept weights are removed by `llmchat models --clean`, which says how much that was."""
    monkeypatch.setattr(opening, "_LEAST_KEPT", 0)
    model = tmp_path / "model.gguf"
    shutil.copy(DATA / "architectures-gguf" / "ministral3.gguf", model)
    spec = ModelSpec(str(model), tokenizer=str(DATA / "llmbuilder-2.0.0-tiny" / "tokenizer"))
    for is_mapped in (False, True):
        engine = open_engine(spec, lambda stage, fraction: None)
        assert isinstance(engine, NativeEngine) and engine.model.is_mapped is is_mapped
        if engine.model._keeper is not None:
            engine.model._keeper.join()
    assert here("models", "--clean").out.startswith("Removed 1 file with ")
    assert here("models", "--clean").out == "There was nothing to remove.\n"
    assert not list(weights_dir().iterdir())


# ── the directory ──


def usage(free: int) -> Callable[[Path], object]:
    """What a disk tells that has so much free."""
    return lambda directory: shutil._ntuple_diskusage(0, 0, free)


def test_what_was_used_the_longest_ago_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All together take the stated share of what is free without them, and never more."""
    for age, name in enumerate(("new", "old", "oldest")):
        (tmp_path / name).write_bytes(bytes(1000))
        os.utime(tmp_path / name, (10_000 - age, 10_000 - age))
    monkeypatch.setattr(shutil, "disk_usage", usage(int(3500 / disk_cache.SHARE) - 3000))
    assert disk_cache.make_room(tmp_path, 1000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]
    assert not disk_cache.make_room(tmp_path, 4000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]


def test_a_file_that_fails_half_way_leaves_nothing_and_spares_the_old_one(tmp_path: Path) -> None:
    """Whole or not at all."""
    place = tmp_path / "one"
    place.write_bytes(b"old")
    with pytest.raises(OSError, match="full"), disk_cache.writing(place) as file:
        file.write(b"new")
        raise OSError("full")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_what_was_left_behind_half_written_is_removed_in_the_end(tmp_path: Path) -> None:
    """A killed process cannot; parts that are being written stay."""
    for name, age in ((".a.1.part", 7200.0), (".b.2.part", 0.0)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, times=None if not age else (1.0, 1.0))
    assert disk_cache.clean(tmp_path) == (0, 0)
    assert [path.name for path in tmp_path.iterdir()] == [".b.2.part"]
