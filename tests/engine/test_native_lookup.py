"""Formats that look numbers up, as the native step unpacks them: every number is the file's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.checkpoint import RawTensor
from llmchat.engine.native import weight_loader
from llmchat.engine.native.library import KERNELS_VARIABLE
from llmchat.engine.native.lookup import LOOKED_UP
from llmchat.engine.native.model import NativeModel
from llmchat.engine.opening import open_engine
from tests.engine.random_blocks import random_matrix, values_of
from tests.engine.test_native import IDS, llama_config, native_logits, usable_kernels
from tests.engine.test_native_formats import WIDE, checkpoint_of, with_only_a_head, write_gguf

CONFIG = llama_config(dim=768, n_layers=1, ffn_dim=32, n_heads=2, n_kv_heads=1, head_dim=16, tied=False)
CODES = {
    "others": np.array([0, 1, 2, 7, 8, 9, 25, 43, 0, -1, -2, -7, -8, -9, -25, -43], np.float32),
    "IQ3_XXS": np.array([4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62], np.float32),
    "IQ3_S": np.array([*range(1, 17, 2), *range(-1, -17, -2)], np.float32),
}
"""What four bits stand for."""

SCALE_AT = {"TQ1_0": 52, "TQ2_0": 64}
"""Where a block has its 16-bit float, if not at its beginning."""


def random_lookups(kind: str, rows: int, cols: int, rng: np.random.Generator) -> RawTensor:
    """All bits of the blocks are used, their scales aside."""
    values, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    blocks = rng.integers(0, 256, (rows * cols // values, size), dtype=np.uint8)
    if kind == "IQ1_M":
        # Four bits of the scale, 2^-9 or a little more, lie in the top of each of four numbers.
        blocks[:, 55] = blocks[:, 55] & 15 | 0x10
        blocks[:, 53] = blocks[:, 53] & 15 | 0x80
    else:
        halves = rng.uniform(0.001, 0.002, len(blocks)).astype(np.float16)
        at = SCALE_AT.get(kind, 0)
        blocks[:, at : at + 2] = halves.view(np.uint8).reshape(-1, 2)
    return RawTensor(kind, (rows, cols), blocks.reshape(rows, -1))


@pytest.fixture(name="exactly", autouse=True)
def _exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is brought into 16 bits."""
    monkeypatch.delattr(weight_loader, "_dense")


@pytest.mark.parametrize("kind", LOOKED_UP)
def test_numbers_are_those_of_the_package(kind: str) -> None:
    """To the bit, in the blocks that the model keeps: a float, 16 scales and 256 codes of a table each."""
    rng = np.random.default_rng(13)
    checkpoint = with_only_a_head(CONFIG, random_matrix("F32", CONFIG.vocab_size, CONFIG.dim, rng, 0.1), np.zeros(768))
    rows = random_lookups(kind, CONFIG.vocab_size, CONFIG.dim, rng)
    checkpoint = replace(checkpoint, raw={**checkpoint.raw, "embedding.weight": rows})
    kept = NativeModel(checkpoint, 1, lambda stage, fraction: None)._lent[0].reshape(-1, 148)
    scales = kept[:, :4].copy().view(np.float32) * kept[:, 4:20].view(np.int8)
    halves = kept[:, 20:].reshape(-1, 8, 1, 16)
    codes = np.concatenate([halves & 15, halves >> 4], axis=2).reshape(-1, 16, 16)
    numbers = CODES.get(kind, CODES["others"])[codes] * scales[:, :, None]
    assert np.array_equal(numbers.reshape(rows.shape), values_of(rows))


@pytest.mark.parametrize("kernels", usable_kernels())
@pytest.mark.parametrize("kind", LOOKED_UP)
def test_products_and_rows_are_of_these_numbers(kind: str, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits of a head behind an embedding, both in the format, against float64."""
    monkeypatch.setenv(KERNELS_VARIABLE, kernels)
    rng = np.random.default_rng(14)
    head, rows = (random_lookups(kind, CONFIG.vocab_size, CONFIG.dim, rng) for _ in range(2))
    checkpoint = with_only_a_head(CONFIG, head, np.zeros(CONFIG.dim))
    logits = native_logits(replace(checkpoint, raw={**checkpoint.raw, "embedding.weight": rows}), IDS)
    wanted, weights = values_of(rows).astype(np.float64)[IDS], values_of(head).astype(np.float64)
    normed = wanted / np.sqrt(np.mean(wanted**2, axis=1, keepdims=True) + CONFIG.norm_eps)
    assert np.abs(logits - normed @ weights.T).max() < 1e-4 * np.abs(logits).max()


def test_tables_of_another_size_are_refused() -> None:
    """What would be read past its end is not read."""
    model = NativeModel(
        with_only_a_head(
            CONFIG, random_lookups("IQ3_S", CONFIG.vocab_size, CONFIG.dim, np.random.default_rng(1)), np.zeros(768)
        ),
        1,
        lambda stage, fraction: None,
    )
    blocks, to = np.zeros(110, np.uint8), np.zeros(148, np.uint8)
    for kind, size, table, count in ((6, 110, 2047, 1), (6, 109, 2048, 1), (6, 110, 2048, 2), (9, 110, 2048, 1)):
        model.library.llmchat_set_table(model.handle, kind, np.zeros(table, np.uint8).ctypes.data, table)
        address = blocks.ctypes.data
        assert model.library.llmchat_look_up(model.handle, kind, address, size, to.ctypes.data, count)


def test_a_person_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That such weights take more than the file's size, one sentence for each format; the usual ones need none."""
    monkeypatch.undo()
    checkpoint, rng = checkpoint_of(WIDE, lambda name: "Q4_K"), np.random.default_rng(15)
    mixed = dict(checkpoint.raw)
    for name, kind in (("layers.0.ffn.up_proj", "IQ3_S"), ("layers.1.ffn.up_proj", "IQ3_S"), ("head", "NVFP4")):
        rows, cols = mixed[f"{name}.weight"].shape
        mixed[f"{name}.weight"] = random_lookups(kind, rows, cols, rng)
    found = []
    for raw in (checkpoint.raw, mixed):
        write_gguf(tmp_path / "model.gguf", WIDE, raw)
        engine = open_engine(ModelSpec(str(tmp_path / "model.gguf")), lambda stage, fraction: None)
        found.append([note for note in engine.info.notes if note.startswith("Weights in")])
    assert found[0] == []
    assert [note[:35] for note in found[1]] == [
        "Weights in IQ3_S are kept in 4 bits",
        "Weights in NVFP4 are kept in 16 bit",
    ]
