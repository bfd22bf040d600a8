"""What was read is gone on from, in memory and from a file, to the last bit; files that are not just right are not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from llmchat.checkpoints.fingerprint import fingerprint
from llmchat.engine.cache_pool import CachePool
from llmchat.engine.engine import Engine
from llmchat.engine.kv_snapshot import MAGIC, KVSnapshot, read_about, read_snapshot, write_snapshot
from llmchat.engine.native_engine import NativeEngine
from llmchat.engine.torch_engine import TorchEngine
from tests.engine.test_architectures import VARIANTS
from tests.engine.test_architectures import opened as variant
from tests.engine.test_lora import ADAPTERS, SMALL
from tests.engine.test_lora import opened as adapted

IDS = [3 + place * 7 % 80 for place in range(400)]
PLENTY = 2**40


def opened(name: str = "qwen3_window") -> NativeEngine:
    """A small model on the native step."""
    engine = variant(VARIANTS / name, "native")
    assert isinstance(engine, NativeEngine)
    return engine


def read(engine: Engine, ids: list[int]) -> tuple[int, bytes]:
    """How many of some ids were known, and the logits behind them."""
    result = engine.prefill(ids, lambda: False)
    assert result.logits is not None
    return result.cached_tokens, result.logits.tobytes()


def kept(engine: NativeEngine) -> KVSnapshot:
    """A copy of what it has read."""
    snapshot = engine.snapshot(PLENTY)
    assert snapshot is not None
    return snapshot


@pytest.mark.parametrize(
    "name", ["llama_head_dim", "gemma3", "gemma4_sharing", "gpt_oss", "phi3_longrope", "gpt2_inner"]
)
def test_another_process_goes_on_where_one_was(name: str, tmp_path: Path) -> None:
    """From a file, past full windows and stretched positions too: nothing is read again, the logits are the same."""
    first, path = opened(name), tmp_path / "a.kv"
    length = min(first.info.context_length - 20, 300)
    read(first, IDS[:length])
    for token in IDS[length : length + 5]:
        first.decode(token, [9, 9])
    write_snapshot(path, kept(first), first.snapshot_kind, {"transcript": "here"})
    assert read_about(path) == {"transcript": "here"} and path.stat().st_mode & 0o777 == 0o600
    second, text = opened(name), IDS[: length + 12]
    snapshot = read_snapshot(path, second.snapshot_kind, text, 10)
    assert snapshot is not None
    second.take_up(snapshot)
    assert second.known(text) == length + 5
    assert read(second, text) == (length + 5, read(opened(name), text)[1])


def test_what_was_read_under_an_adapter_is_of_its_scale(tmp_path: Path) -> None:
    """Under another one it is read anew."""
    name = sorted(path.parent.name for path in ADAPTERS.glob("*/reference.npz"))[0]
    first, second, plain = (adapted(SMALL / name, ADAPTERS / name) for _ in range(3))
    assert isinstance(first, NativeEngine) and isinstance(second, NativeEngine)
    ids = [5 + place % 90 for place in range(60)]
    first.lora_scale = 0.35
    read(first, ids)
    second.take_up(kept(first))
    second.lora_scale = plain.lora_scale = 0.7
    assert read(second, ids) == (0, read(plain, ids)[1])
    second.take_up(kept(first))
    second.lora_scale = 0.35
    assert read(second, ids)[0] == len(ids) - 1


def damaged(data: bytes) -> list[bytes]:
    """A file cut short, made longer, and with a bit in another state in each of its parts."""
    head = data.index(b"\n", len(MAGIC) + 32) + 1
    places = (3, len(MAGIC) + 2, len(MAGIC) + 40, head + 1, head + 4 * 300 + 9, len(data) - 5)
    flipped = [data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :] for place in places]
    huge = data.replace(b'"image": ', b'"image": 99999', 1)
    odd = [data.replace(b'"tokens": ', b'"tokens": -', 1), data.replace(b'"tokens": ', b'"tokens": [], "a": ', 1)]
    return [b"", data[:10], data[: head - 3], data[:head], data[:-1], data + b"\0", *flipped, huge, *odd]


def test_a_file_that_is_not_just_right_is_passed_over(tmp_path: Path) -> None:
    """Damaged anywhere, of another kind, of another text, or not there."""
    engine, path = opened(), tmp_path / "a.kv"
    read(engine, IDS[:300])
    write_snapshot(path, kept(engine), engine.snapshot_kind, {})
    data = path.read_bytes()
    assert read_snapshot(path, engine.snapshot_kind, IDS, 300) is not None
    assert read_snapshot(path, engine.snapshot_kind, IDS, 301) is None
    assert read_snapshot(path, engine.snapshot_kind, [1, *IDS], 1) is None
    assert read_snapshot(path, "another", IDS, 1) is None
    assert read_snapshot(tmp_path / "none.kv", engine.snapshot_kind, IDS, 1) is None
    assert read_snapshot(tmp_path, engine.snapshot_kind, IDS, 1) is None
    for bad in damaged(data):
        path.write_bytes(bad)
        assert read_snapshot(path, engine.snapshot_kind, IDS, 1) is None
        read_about(path)


def test_an_image_of_another_size_changes_nothing() -> None:
    """What is taken up must be one of as many positions as there are tokens."""
    engine = opened()
    read(engine, IDS[:300])
    snapshot = kept(engine)
    engine.take_up(KVSnapshot(snapshot.token_ids, snapshot.scales, snapshot.image[:-1]))
    engine.take_up(KVSnapshot(snapshot.token_ids[:100], snapshot.scales[:100], snapshot.image))
    assert read(engine, IDS[:301])[0] == 300


def test_what_does_not_fit_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither more bytes than are allowed, nor what cannot be gone back to, nor what torch has read."""
    engine = opened()
    read(engine, IDS[:300])
    assert engine.snapshot(1000) is None and engine.snapshots is engine
    monkeypatch.setattr("llmchat.models.plan.ModelPlan.goes_back", False)
    assert engine.snapshots is None
    torch = variant(VARIANTS / "qwen3_window", "torch")
    assert isinstance(torch, TorchEngine) and torch.snapshots is None


def test_texts_that_were_left_are_gone_back_to() -> None:
    """Several long ones are in memory side by side, and none is changed by the others."""
    engine, other = opened("llama_head_dim"), [7, *IDS[:299]]
    branch = [*IDS[:30], *reversed(IDS[:280])]
    for text in (IDS[:300], other, branch):
        read(engine, text)
    for text in (IDS[:301], [*other, 8], [*branch, 5], IDS[:310]):
        cached, logits = read(engine, text)
        assert cached > 250
        assert logits == read(opened("llama_head_dim"), text)[1]


@pytest.mark.parametrize("name", ["llama_head_dim", "gemma3"])
def test_another_reply_to_the_same_prompt_takes_no_more_memory(name: str) -> None:
    """It goes on in the place of the one before, and reads nothing of the prompt again."""
    engine = opened(name)
    read(engine, IDS[:100])
    for token in IDS[100:380]:
        engine.decode(token)
    held = engine.cache.held_bytes
    assert read(engine, IDS[:100])[0] == 99
    assert engine.known(IDS[:380]) <= 100 and engine.cache.held_bytes <= held


def test_memory_for_them_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it the oldest go; with none, there is only the present one."""
    engine = opened("llama_head_dim")
    read(engine, IDS[:300])
    page = engine.cache.held_bytes
    monkeypatch.setattr(engine, "_pool", CachePool(page))
    others = [[one, *IDS[:299]] for one in (81, 82)]
    for text in others:
        read(engine, text)
    assert engine.known(IDS[:300]) == 0 and engine.known(others[0]) == 300
    monkeypatch.setattr(engine, "_pool", CachePool(0))
    read(engine, IDS[:300])
    assert engine.known(others[1]) == 0


def test_a_fingerprint_is_of_what_the_files_are_now(tmp_path: Path) -> None:
    """Written anew, of another length or under another name, a model is another one; gone, it is none."""
    parts = [tmp_path / f"m-0000{part}-of-00002.gguf" for part in (1, 2)]
    for part in parts:
        part.write_bytes(b"x" * 5000)
    seen = {fingerprint(parts[0])}
    parts[1].write_bytes(b"y" * 5000)
    seen.add(fingerprint(parts[0]))
    os.utime(parts[1], (1, 1))
    seen.add(fingerprint(parts[0]))
    seen.add(fingerprint(tmp_path))
    seen.add(fingerprint(tmp_path / "none"))
    assert len(seen) == 5 and "" in seen


def test_an_array_of_nothing_is_kept(tmp_path: Path) -> None:
    """Where nothing was read there is nothing to go on from, and no fault."""
    empty = KVSnapshot(np.empty(0, np.int32), np.empty(0, np.float64), np.empty(0, np.uint8))
    write_snapshot(tmp_path / "a.kv", empty, "kind", {})
    assert read_snapshot(tmp_path / "a.kv", "kind", [1], 0) is not None
