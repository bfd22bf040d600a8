"""Block formats: their sizes and numbers are those of the gguf package."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from llmchat.checkpoints.blocks import FORMATS, dequantise
from llmchat.checkpoints.quantised import READERS


def test_sizes_are_those_of_the_package() -> None:
    """A wrong size would read every later row from the wrong place."""
    for number, form in FORMATS.items():
        kind = GGMLQuantizationType(number)
        assert (form.name, form.values, form.bytes) == (kind.name, *GGML_QUANT_SIZES[kind])


OF_THE_PACKAGE = [name for name in READERS if name in GGMLQuantizationType.__members__]


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", *OF_THE_PACKAGE, "IQ3_S", "TQ1_0"])
def test_numbers_are_those_of_the_package(name: str) -> None:
    """The formats that are read here give the same numbers to the last bit, and the others come from the package."""
    kind = GGMLQuantizationType[name]
    values, size = GGML_QUANT_SIZES[kind]
    rows = np.random.default_rng(5).integers(0, 256, (6, 512 // values * size), dtype=np.uint8)
    with np.errstate(all="ignore"):
        wanted = dequantize(rows, kind)
    got = dequantise(name, rows)
    assert got.dtype == np.float32
    assert np.array_equal(got, wanted, equal_nan=True)


def test_what_needs_the_package_says_so_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not installed with llmchat: the rare formats that it reads name it."""
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert dequantise("Q6_K", np.zeros((1, 210), np.uint8)).shape == (1, 256)
    with pytest.raises(NotImplementedError, match="pip install gguf"):
        dequantise("IQ3_S", np.zeros((1, 110), np.uint8))


def test_a_format_that_nobody_reads_is_refused() -> None:
    """Whole numbers are no weights; the caller says so in words."""
    with pytest.raises(NotImplementedError):
        dequantise("I32", np.zeros((1, 8), np.uint8))
