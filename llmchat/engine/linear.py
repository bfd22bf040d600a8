"""Matrix products of a few rows, as decoding makes them.

A CPU's usual product of one row, or three, with a large matrix does not come near the
speed at which the matrix can be read. Cut into blocks of rows it does better: measured
with SmolLM2-135M in float32 on one core of an EPYC, a token takes 30 ms instead of 41,
and a token for each of three replies 60 ms instead of 76.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_BLOCK = 32
"""Rows of the weights to a block: many blocks keep many cores busy."""

_FEW = 8
"""Up to so many rows the blocks are faster."""


class LowRank:
    """What an adapter adds to a product with x: (x downᵀ scale) upᵀ."""

    def __init__(self, down: Tensor, up: Tensor, scale: Tensor) -> None:
        """Keep a pair.

        Args:
            down: Shape (rank, in_features).
            up: Shape (out_features, rank), what it is multiplied by at a scale of 1 in it.
            scale: One number, which others may change.
        """
        self._down, self._up, self._scale = down, up, scale

    def added(self, x: Tensor) -> Tensor:
        """Shape (…, in_features) to (…, out_features)."""
        # The scale is a number in memory, and never asked after: a recorded step reads it anew.
        return F.linear(F.linear(x, self._down) * self._scale, self._up)


class Linear(nn.Linear):
    """`nn.Linear` with the same parameters, fast for few rows."""

    low_rank: LowRank | None = None
    """What an adapter adds."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape (…, in_features) to (…, out_features)."""
        product = linear(x, self.weight, self.bias)
        return product if self.low_rank is None else product + self.low_rank.added(x)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product of x and the transposed weight, plus bias.

    Args:
        x: Shape (…, in_features).
        weight: Shape (out_features, in_features).
        bias: Shape (out_features,).
    """
    out_features, in_features = weight.shape
    rows = x.numel() // in_features
    if rows > _FEW or out_features % _BLOCK or weight.dtype != torch.float32 or not weight.is_cpu:
        return F.linear(x, weight, bias)
    blocks = weight.view(-1, _BLOCK, in_features)
    columns = x.contiguous().view(rows, in_features).t().expand(len(blocks), -1, -1)
    product = torch.bmm(blocks, columns).view(out_features, rows).t().contiguous().view(*x.shape[:-1], out_features)
    return product if bias is None else product + bias
