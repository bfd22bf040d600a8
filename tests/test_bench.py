"""`llmchat bench`: its figures are there, positive and consistent. How fast anything is, no test asks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from llmchat.bench import STEPS, Spread
from llmchat.engine.bandwidth import BandwidthProbe
from tests.conftest import DATA
from tests.program import Here, command, open_terminal

BENCH = ("bench", "--repeats", "2")


@pytest.fixture(autouse=True)
def small_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the reading of memory short."""
    monkeypatch.setattr("llmchat.engine.bandwidth.BUFFER_BYTES", 1 << 20)


def assert_spread(value: dict[str, float]) -> None:
    """A spread is positive and in order."""
    assert set(value) == {"median", "least", "most"}
    assert 0 < value["least"] <= value["median"] <= value["most"]


def report(here: Here, *arguments: str | Path) -> dict[str, Any]:
    """What `--json` prints."""
    done = here(*BENCH, "--json", *arguments)
    assert (done.code, done.err, done.out.count("\n")) == (0, "", 1)
    found: dict[str, Any] = json.loads(done.out)
    return found


@pytest.mark.parametrize("place", [("--model", "tiny"), ("--model", str(DATA / "huggingface" / "llama"))])
@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_one_object_has_every_figure(here: Here, place: tuple[str, str], dtype: str) -> None:
    """Both families, native and on torch: load, prefill, decode, first tokens, memory, bandwidth, share."""
    found = report(here, *place, "--dtype", dtype)
    assert list(found) == [
        "model", "path", "weight_format", "engine", "device", "dtype", "cuda_graph", "threads", "context_length",
        "repeats",
        "load_seconds", "prefill", "decode", "time_to_first_token", "memory", "read_bandwidth_bytes_per_second",
        "bandwidth_share",
    ]  # fmt: skip
    assert (found["device"], found["repeats"]) == ("cpu", 2)
    assert found["load_seconds"] > 0
    assert_spread(found["read_bandwidth_bytes_per_second"])
    contexts = [speed["context"] for speed in found["decode"]]
    assert contexts == sorted(set(contexts)) and contexts[-1] + STEPS <= found["context_length"]
    for speed in (*found["prefill"], *found["decode"]):
        assert_spread(speed["tokens_per_second"])
    memory = found["memory"]
    assert 0 < memory["weight_bytes"] < memory["peak_bytes"]
    for speed in found["decode"]:
        assert speed["streamed_bytes"] > memory["weight_bytes"]
        limit = found["read_bandwidth_bytes_per_second"]["median"] / speed["streamed_bytes"]
        assert speed["bandwidth_share"] == pytest.approx(speed["tokens_per_second"]["median"] / limit)
    shares = [speed["bandwidth_share"] for speed in found["decode"]]
    assert found["bandwidth_share"] == Spread.of(shares).median


def test_the_later_turn_reads_only_what_is_new(here: Here) -> None:
    """The first turn begins with nothing in the KV cache; a later one finds the chat there."""
    turns = report(here, "--model", "tiny")["time_to_first_token"]
    first, later = turns["first_turn"], turns["later_turn"]
    assert first["cached_tokens"] == 0 < later["cached_tokens"] < later["prompt_tokens"]
    assert later["prompt_tokens"] > first["prompt_tokens"]
    for turn in turns.values():
        assert_spread(turn["seconds"])


def test_weights_are_counted_as_they_are_kept(here: Here) -> None:
    """On torch in float32 the tiny model's weights take four bytes each, but for the table of positions."""
    native, torch = (report(here, "--model", "tiny", "--dtype", dtype) for dtype in ("auto", "float32"))
    assert torch["memory"]["weight_bytes"] > native["memory"]["weight_bytes"]
    assert torch["memory"]["weight_bytes"] % 4 == 0


def test_a_person_reads_a_table(here: Here) -> None:
    """Without --json each figure has a line, with its unit and spread."""
    done = here(*BENCH, "--model", "tiny")
    assert (done.code, done.err) == (0, "")
    title, *lines = done.out.splitlines()
    assert title.startswith("tiny, ")
    figures = dict(line.split(":", 1) for line in lines)
    assert {"load", "first token, later turn", "memory", "read bandwidth", "bandwidth share"} <= set(figures)
    assert sum("tok/s" in text and " to " in text for text in figures.values()) == 4


def test_what_is_wrong_is_told_in_one_line(here: Here) -> None:
    """A model that is not there and a count that is none end with the README's codes."""
    done = here("bench", "--model", "none.pt")
    assert (done.code, done.out, done.err.count("\n")) == (4, "", 1)
    done = here("bench", "--repeats", "0")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)


def test_ctrl_c_ends_it(sandbox: Path) -> None:
    """Interrupted while it measures, it prints no figures and ends with 130; progress is for terminals alone."""
    far, near = open_terminal()
    with (
        near,
        subprocess.Popen(
            command("bench", "--model", "tiny", "--repeats", "1000"), stdout=subprocess.PIPE, stderr=near
        ) as process,
    ):
        seen = b""
        while b"reading" not in seen:
            seen += os.read(far, 4096)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        out = process.stdout.read()
    os.close(far)
    assert (process.returncode, out) == (130, b"")


def test_memory_of_a_device_is_read_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a model runs on a device of torch's, torch reads its memory; if there is no room, that is told as such."""
    assert BandwidthProbe("cpu:0", 1).bytes_per_second() > 0

    def no_room(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch, "ones", no_room)
    with pytest.raises(MemoryError):
        BandwidthProbe("cpu:0", 1)


def test_memory_is_read_with_and_without_the_native_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing was compiled, numpy reads the buffer; more threads share it."""
    assert BandwidthProbe("cpu", 2).bytes_per_second() > 0
    monkeypatch.setattr("llmchat.engine.bandwidth.load_library", lambda: None)
    assert BandwidthProbe("cpu", 2).bytes_per_second() > 0
