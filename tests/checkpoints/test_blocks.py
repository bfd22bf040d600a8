"""Block formats: their sizes and numbers are those of the gguf package."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize

from llmchat.checkpoints.blocks import FORMATS, dequantise


def test_sizes_are_those_of_the_package() -> None:
    """A wrong size would read every later row from the wrong place."""
    for number, form in FORMATS.items():
        kind = GGMLQuantizationType(number)
        assert (form.name, form.values, form.bytes) == (kind.name, *GGML_QUANT_SIZES[kind])


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0", "Q5_1", "TQ2_0"])
def test_numbers_are_those_of_the_package(name: str) -> None:
    """The formats that are read here give the same numbers to the last bit, and the others come from the package."""
    kind = GGMLQuantizationType[name]
    rows = quantize(np.random.default_rng(5).standard_normal((6, 512)).astype(np.float32), kind).view(np.uint8)
    got = dequantise(name, rows)
    assert got.dtype == np.float32
    assert np.array_equal(got, dequantize(rows, kind))


def test_a_format_that_nobody_reads_is_refused() -> None:
    """Whole numbers are no weights; the caller says so in words."""
    with pytest.raises(NotImplementedError):
        dequantise("I32", np.zeros((1, 8), np.uint8))
