"""Products of a few rows: the same numbers as torch's own, whatever the shapes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from llmchat.engine.linear import Linear, linear


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 8), (2, 4), (1, 9), (5, 7), (0, 1)])
@pytest.mark.parametrize(("out_features", "in_features"), [(64, 48), (96, 100), (33, 48), (32, 1)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_products_are_torchs(shape: tuple[int, int], out_features: int, in_features: int, has_bias: bool) -> None:
    """Few rows and many, sizes that make whole blocks and sizes that do not."""
    torch.manual_seed(0)
    x, weight = torch.randn(*shape, in_features), torch.randn(out_features, in_features)
    bias = torch.randn(out_features) if has_bias else None
    torch.testing.assert_close(linear(x, weight, bias), F.linear(x, weight, bias))


def test_views_and_other_types_are_taken() -> None:
    """Hidden states may be slices of larger ones; half precision goes torch's way."""
    layer = Linear(48, 64).requires_grad_(False)
    x = torch.randn(3, 5, 48)[:, -1:]
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))
    assert layer(x).is_contiguous()
    half = layer.bfloat16()
    assert half(x.bfloat16()).dtype == torch.bfloat16
