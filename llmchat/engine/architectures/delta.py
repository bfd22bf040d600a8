"""A gated delta net as a torch module (Yang et al. 2024, "Gated Delta Networks"): a state in place of keys and values.

Per head, S (key channels x value channels) goes on with each position:

    S = exp(g) S;   u = beta (v - S' k);   S = S + k u';   out = S' q

A piece of n positions is computed at once. With c the running sums of g, the u of all of them solve

    (I + L) U = beta (V - exp(c) K S0),   L[t, i] = beta[t] exp(c[t] - c[i]) (k[t] . k[i]) for i < t

and what each gives, and the state behind the piece, are sums over U.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmchat.engine.delta_state import DeltaState
from llmchat.engine.linear import Linear
from llmchat.models import plan as plans

_PIECE = 64
"""Positions that are computed at once."""

_LEAST = 1e-6
"""Added to the squares of queries and keys whose length is made 1."""


class DeltaNet(nn.Module):
    """The delta net of one layer."""

    def __init__(self, delta: plans.DeltaNet, dim: int) -> None:
        super().__init__()
        self._plan = delta
        rows = delta.value_heads * delta.value_dim
        self.qkv_proj = Linear(dim, delta.channels, bias=False)
        self.gate_proj = Linear(dim, rows, bias=False)
        self.beta_proj = Linear(dim, delta.value_heads, bias=False)
        self.decay_proj = Linear(dim, delta.value_heads, bias=False)
        self.conv = Weights(delta.channels, delta.kernel)
        self.rate = Weights(delta.value_heads)
        self.decay = Biases(delta.value_heads)
        self.gain = Weights(delta.value_dim)
        self.o_proj = Linear(rows, dim, bias=False)

    def forward(self, x: Tensor, state: DeltaState | None) -> Tensor:
        """Mix each position with those before it.

        Args:
            x: Normalised hidden states, shape (batch, positions, dim).
            state: What was read before; it goes on in place. None if nothing comes before or after.

        Returns:
            Shape (batch, positions, dim).
        """
        plan, (batch, positions, _) = self._plan, x.shape
        state = DeltaState.empty(plan, batch, x.dtype, x.device) if state is None else state
        q, k, v = self._convolved(self.qkv_proj.forward(x), state)
        beta = torch.sigmoid(self.beta_proj.forward(x).float()).transpose(1, 2)
        rate = -self.rate.weight.float().exp() if plan.rate_is_log else self.rate.weight.float()
        g = (rate * F.softplus(self.decay_proj.forward(x).float() + self.decay.bias.float())).transpose(1, 2)
        pieces = []
        for start in range(0, positions, _PIECE):
            own = slice(start, start + _PIECE)
            pieces.append(_piece(q[:, :, own], k[:, :, own], v[:, :, own], g[:, :, own], beta[:, :, own], state))
        out = torch.cat(pieces, dim=2).transpose(1, 2)
        normed = F.rms_norm(out, out.shape[-1:], eps=plan.norm.eps) * self.gain.weight.float()
        gates = F.silu(self.gate_proj.forward(x).float()).view_as(normed)
        mixed: Tensor = self.o_proj.forward((normed * gates).flatten(2).to(x.dtype))
        return mixed

    def _convolved(self, mixed: Tensor, state: DeltaState) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values in float32, shape (batch, value heads, positions, channels)."""
        plan, (batch, positions, _) = self._plan, mixed.shape
        channels = torch.cat((state.last, mixed.transpose(1, 2)), dim=2)
        state.last.copy_(channels[:, :, positions:])
        convolved = F.silu(F.conv1d(channels, self.conv.weight[:, None], groups=plan.channels)).float()
        sizes = [plan.key_heads * plan.key_dim] * 2 + [plan.value_heads * plan.value_dim]
        q, k, v = (
            part.view(batch, heads, dim, positions).transpose(2, 3)
            for part, heads, dim in zip(
                torch.split(convolved, sizes, dim=1),
                (plan.key_heads, plan.key_heads, plan.value_heads),
                (plan.key_dim, plan.key_dim, plan.value_dim),
                strict=True,
            )
        )
        return self._shared(_unit(q) * plan.key_dim**-0.5), self._shared(_unit(k)), v

    def _shared(self, heads: Tensor) -> Tensor:
        """The key head of each value head."""
        each = self._plan.value_heads // self._plan.key_heads
        return heads.repeat(1, each, 1, 1) if self._plan.tiled else heads.repeat_interleave(each, dim=1)


class Weights(nn.Module):
    """Some numbers."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))


class Biases(nn.Module):
    """Some numbers that are added."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(count))


def _unit(heads: Tensor) -> Tensor:
    """Vectors of length 1."""
    return heads * torch.rsqrt(heads.square().sum(-1, keepdim=True) + _LEAST)


def _piece(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: DeltaState) -> Tensor:
    """What some positions give, shape (batch, heads, positions, value channels); the state goes on.

    Args:
        q: Shape (batch, heads, positions, key channels); so is `k`.
        k: Keys.
        v: Values, shape (batch, heads, positions, value channels).
        g: Logarithms of decays, at most 0, shape (batch, heads, positions).
        beta: How much of the memory each position replaces, 0 to 1, the same shape.
        state: What was read before.
    """
    c = g.cumsum(-1)
    # Above the diagonal it would overflow; it is not wanted there.
    decays = (c[..., None] - c[..., None, :]).tril().exp().tril()
    old = c.exp()[..., None] * (k @ state.memory)
    lower = (beta[..., None] * decays * (k @ k.transpose(-1, -2))).tril(-1)
    wanted = beta[..., None] * (v - old)
    u = torch.linalg.solve_triangular(lower, wanted, upper=False, unitriangular=True)
    out: Tensor = c.exp()[..., None] * (q @ state.memory) + (decays * (q @ k.transpose(-1, -2))) @ u
    left = (c[..., -1:] - c).exp()[..., None] * k
    state.memory.copy_(c[..., -1].exp()[..., None, None] * state.memory + left.transpose(-1, -2) @ u)
    return out
