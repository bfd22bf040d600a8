"""Rotary positions: each pair of a head's channels is turned by an angle that grows with the position.

The pairs are channel i and channel i + head_dim / 2 ("rotate half").
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmchat.checkpoints.checkpoint import LlamaConfig
from llmchat.engine.architectures.frequencies import rope_frequencies


class RotaryPositions:
    """Cosines and sines of every position that was needed so far, on one device.

    They are computed in float64 and kept in float32.
    """

    def __init__(self, config: LlamaConfig) -> None:
        self._config = config
        self._cos: Tensor | None = None
        self._sin: Tensor | None = None
        self._frequencies: Tensor | None = None

    def between(self, start: int, end: int, capacity: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """What `rotate` needs for positions `start` up to, not including, `end`.

        Args:
            start: The first position.
            end: One past the last.
            capacity: Positions that will be asked for later; tables are made for that many.
            device: Where the result is wanted.

        Returns:
            Cosines and signed sines, each of shape (end - start, 1, head_dim), float32.
        """
        if self._cos is None or self._sin is None or end > len(self._cos) or self._cos.device != device:
            self._cos, self._sin = _tables(self._config, max(end, capacity), device)
        return self._cos[start:end, None], self._sin[start:end, None]

    def at(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """The same for positions that the device knows, computed there: no table that could move is read.

        Args:
            position: int64, shape (positions,).

        Returns:
            Cosines and signed sines, each of shape (positions, 1, head_dim), float32.
        """
        if self._frequencies is None or self._frequencies.device != position.device:
            self._frequencies = torch.from_numpy(rope_frequencies(self._config)).to(position.device)
        cos, sin = _turns(position, self._frequencies)
        return cos[:, None], sin[:, None]


def _tables(config: LlamaConfig, positions: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines of positions from 0, each of shape (positions, head_dim), float32."""
    cos, sin = _turns(torch.arange(positions), torch.from_numpy(rope_frequencies(config)))
    return cos.to(device), sin.to(device)


def _turns(positions: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines, each of shape (positions, head_dim), float32."""
    angles = torch.outer(positions.to(frequencies.dtype), frequencies)
    cos, sin = angles.cos().float(), angles.sin().float()
    # The first half of a turned head takes minus the second half's share.
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn heads to their positions.

    Args:
        heads: Shape (batch, positions, heads, head_dim).
        cos: From `RotaryPositions.between`.
        sin: The same.

    Returns:
        The same shape and type.
    """
    swapped = heads.roll(heads.shape[-1] // 2, dims=-1)
    return torch.addcmul(heads * cos, swapped, sin).to(heads.dtype)
