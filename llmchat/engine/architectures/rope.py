"""Rotary positions: each pair of a head's channels is turned by an angle that grows with the position."""

from __future__ import annotations

import torch
from torch import Tensor

from llmchat.engine.architectures.frequencies import rope_frequencies, rope_magnitude
from llmchat.models.plan import Rope


class RotaryPositions:
    """Cosines and sines of every position that was needed so far, on one device.

    They are computed in float64 and kept in float32.
    """

    def __init__(self, rope: Rope) -> None:
        self._rope = rope
        self._cos: Tensor | None = None
        self._sin: Tensor | None = None
        self._is_long = False
        self._frequencies: tuple[Tensor, Tensor] | None = None

    def between(
        self, start: int, end: int, capacity: int, device: torch.device, *, is_long: bool = False
    ) -> tuple[Tensor, Tensor]:
        """What `rotate` needs for positions `start` up to, not including, `end`.

        Args:
            start: The first position.
            end: One past the last.
            capacity: Positions that will be asked for later; tables are made for that many.
            device: Where the result is wanted.
            is_long: Whether the text is longer than the original context, for scalings that ask.

        Returns:
            Cosines and signed sines, each of shape (end - start, 1, rope.dim), float32.
        """
        is_stale = self._cos is None or end > len(self._cos) or self._cos.device != device or is_long != self._is_long
        if is_stale or self._cos is None or self._sin is None:
            frequencies = torch.from_numpy(rope_frequencies(self._rope, is_long=is_long))
            cos, sin = self._turns(torch.arange(max(end, capacity)), frequencies)
            self._cos, self._sin, self._is_long = cos.to(device), sin.to(device), is_long
        return self._cos[start:end, None], self._sin[start:end, None]

    def at(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """The same for positions that the device knows, computed there: no table that could move is read.

        Args:
            position: int64, shape (positions,).

        Returns:
            Cosines and signed sines, each of shape (positions, 1, rope.dim), float32.
        """
        if self._frequencies is None or self._frequencies[0].device != position.device:
            both = (torch.from_numpy(rope_frequencies(self._rope, is_long=is_long)) for is_long in (False, True))
            short, long = (frequencies.to(position.device) for frequencies in both)
            self._frequencies = short, long
        frequencies, scaling = self._frequencies[0], self._rope.scaling
        if scaling is not None and scaling.long_factors:
            is_long = position[-1:] >= scaling.original_context_length
            frequencies = torch.where(is_long, self._frequencies[1], frequencies)
        cos, sin = self._turns(position, frequencies)
        return cos[:, None], sin[:, None]

    def _turns(self, positions: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines, each of shape (positions, rope.dim), float32."""
        angles = torch.outer(positions.to(frequencies.dtype), frequencies)
        magnitude = rope_magnitude(self._rope)
        cos, sin = (angles.cos() * magnitude).float(), (angles.sin() * magnitude).float()
        # The first of a turned pair takes minus the second's share.
        if self._rope.interleaved:
            return cos.repeat_interleave(2, dim=-1), torch.stack((-sin, sin), dim=-1).flatten(-2)
        return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def rotate(heads: Tensor, cos: Tensor, sin: Tensor, rope: Rope) -> Tensor:
    """Turn heads to their positions.

    Args:
        heads: Shape (batch, positions, heads, head_dim).
        cos: From `RotaryPositions.between`.
        sin: The same.
        rope: Which of their channels turn, and in which pairs.

    Returns:
        The same shape and type.
    """
    turned = heads[..., : rope.dim]
    if rope.interleaved:
        swapped = turned.view(*turned.shape[:-1], -1, 2).flip(-1).flatten(-2)
    else:
        swapped = turned.roll(rope.dim // 2, dims=-1)
    out = torch.addcmul(turned * cos, swapped, sin).to(heads.dtype)
    return out if rope.dim == heads.shape[-1] else torch.cat((out, heads[..., rope.dim :]), dim=-1)
