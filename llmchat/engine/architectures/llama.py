"""The Llama family: rotary positions, grouped-query attention, RMSNorm, SwiGLU.

Per layer x += attention(norm(x)), then x += ffn(norm(x)); the logits are the output
layer of norm(x). Biases on q, k and v (Qwen2) and per-head norms of q and k (Qwen3)
are there where the configuration says so.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmchat.checkpoints.checkpoint import Checkpoint, LlamaConfig
from llmchat.engine.architectures.rope import RotaryPositions, rotate
from llmchat.engine.kv_cache import AnyCache, CacheAtPosition, KVCache
from llmchat.engine.linear import Linear, linear

_PARTS = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
"""Our parameters that join several of a checkpoint's: one large product is faster than three small ones."""


class RMSNorm(nn.Module):
    """Scale vectors to a root mean square of 1, then by a weight per channel, in float32."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension; the shape and type stay."""
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps).to(x.dtype)


class Attention(nn.Module):
    """Causal attention of one layer; several query heads share one head of keys and values."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = config.n_heads, config.n_kv_heads, config.head_dim
        qkv_dim = (config.n_heads + 2 * config.n_kv_heads) * config.head_dim
        self.qkv_proj = Linear(config.dim, qkv_dim, bias=config.attention_bias)
        self.q_norm = RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else None
        self.o_proj = Linear(config.n_heads * config.head_dim, config.dim, bias=False)

    def forward(
        self, x: Tensor, layer: int, cache: AnyCache, rope: tuple[Tensor, Tensor], mask: Tensor | None
    ) -> Tensor:
        """Mix each position with those before it.

        Args:
            x: Normalised hidden states, shape (batch, positions, dim).
            layer: Which layer of the cache is ours.
            cache: Takes the new keys and values.
            rope: Cosines and sines of the new positions.
            mask: Added to the scores, shape (group * positions or 1, all positions that the cache gives); None to
                look at all of them.

        Returns:
            Shape (batch, positions, dim).
        """
        batch, positions, _ = x.shape
        qkv = self.qkv_proj(x).view(batch, positions, -1, self.head_dim)  # (…, n_heads + 2 n_kv_heads, head_dim)
        q_and_k, v = qkv[:, :, : -self.n_kv_heads], qkv[:, :, -self.n_kv_heads :]
        if self.q_norm is not None and self.k_norm is not None:
            q, k = q_and_k[:, :, : self.n_heads], q_and_k[:, :, self.n_heads :]
            q_and_k = torch.cat((self.q_norm(q), self.k_norm(k)), dim=2)
        q_and_k = rotate(q_and_k, *rope)
        q, k = q_and_k[:, :, : self.n_heads], q_and_k[:, :, self.n_heads :]
        keys, values = cache.append(layer, k.transpose(1, 2), v.transpose(1, 2))

        # The query heads that share keys stand as more positions, so that keys are never copied.
        grouped = q.transpose(1, 2).reshape(batch, self.n_kv_heads, -1, self.head_dim)
        mixed = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask)
        mixed = mixed.view(batch, -1, positions, self.head_dim).transpose(1, 2).reshape(batch, positions, -1)
        out: Tensor = self.o_proj(mixed)
        return out


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_up_proj = Linear(config.dim, 2 * config.ffn_dim, bias=False)
        self.down_proj = Linear(config.ffn_dim, config.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each position by itself."""
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        out: Tensor = self.down_proj(F.silu(gate).mul_(up))
        return out


class Layer(nn.Module):
    """Attention, then feed-forward, each on normalised states and added to the stream."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.attention = Attention(config)
        self.ffn_norm = RMSNorm(config.dim, config.norm_eps)
        self.ffn = FeedForward(config)

    def forward(
        self, x: Tensor, layer: int, cache: AnyCache, rope: tuple[Tensor, Tensor], mask: Tensor | None
    ) -> Tensor:
        """The stream after this layer; its arguments are those of `Attention.forward`."""
        x = x + self.attention(self.attention_norm(x), layer, cache, rope, mask)
        out: Tensor = x + self.ffn(self.ffn_norm(x))
        return out


class Llama(nn.Module):
    """A Llama for inference: its weights take no gradients.

    Ids must be from 0 to vocab_size - 1. Positions past context_length are computed
    all the same; the model was not trained for them.
    """

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        # A given weight spares drawing a random one, which on the meta device would load much of torch.
        weight = torch.empty(config.vocab_size, config.dim)
        self.embedding = nn.Embedding(config.vocab_size, config.dim, _weight=weight)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.head = None if config.tied else Linear(config.dim, config.vocab_size, bias=False)
        self._rope = RotaryPositions(config)

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Llama:
        """A model with the checkpoint's weights, in memory of its own.

        Tensors are taken one after the other, so a checkpoint that reads them from its
        file as they are asked for is never in memory twice.
        """
        assert isinstance(checkpoint.config, LlamaConfig)
        with torch.device("meta"):
            model = cls(checkpoint.config)
        weights = {}
        for name in model.state_dict():
            parts = [checkpoint.tensors[part] for part in _part_names(name)]
            # Norms are small and are computed in float32 whatever the weights are.
            weights[name] = _joined(parts, device, torch.float32 if name.endswith("norm.weight") else dtype)
        model.load_state_dict(weights, assign=True)
        return model.eval().requires_grad_(False)

    def make_cache(self, capacity: int, batch: int = 1) -> KVCache:
        """An empty cache for `capacity` positions of `batch` sequences, beside the weights."""
        weight = self.embedding.weight
        return KVCache(
            n_layers=self.config.n_layers,
            n_kv_heads=self.config.n_kv_heads,
            head_dim=self.config.head_dim,
            capacity=capacity,
            batch=batch,
            dtype=weight.dtype,
            device=weight.device,
        )

    def forward(self, ids: Tensor, cache: KVCache) -> Tensor:
        """Append positions to the cache and give the logits of the last.

        Args:
            ids: Token ids, int64, shape (batch, positions); they follow the cache's.
            cache: Grows by `positions`.

        Returns:
            float32 logits, shape (batch, vocab_size).
        """
        return self._logits(self._hidden(ids, cache)[:, -1])

    def all_logits(self, ids: Tensor, cache: KVCache) -> Tensor:
        """The same for every new position: shape (batch, positions, vocab_size)."""
        return self._logits(self._hidden(ids, cache))

    def step(self, ids: Tensor, cache: CacheAtPosition) -> Tensor:
        """The logits behind one more token, by work that is the same at every position but for the numbers.

        Args:
            ids: Token ids, int64, shape (batch, 1).
            cache: Takes their keys and values.

        Returns:
            float32 logits, shape (batch, vocab_size).
        """
        x = self._through_layers(self.embedding(ids), cache, self._rope.at(cache.position), cache.mask())
        return self._logits(x[:, -1])

    def _hidden(self, ids: Tensor, cache: KVCache) -> Tensor:
        """The stream after the last layer, shape (batch, positions, dim)."""
        start, end = cache.length, cache.length + ids.shape[1]
        x = self.embedding(ids)
        rope = self._rope.between(start, end, cache.capacity, x.device)
        mask = None if end - start == 1 else self._mask(start, end, x)
        hidden = self._through_layers(x, cache, rope, mask)
        cache.advance(end - start)
        return hidden

    def _through_layers(self, x: Tensor, cache: AnyCache, rope: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        for index, layer in enumerate(self.layers):
            x = layer(x, index, cache, rope, mask)
        return x

    def _mask(self, start: int, end: int, x: Tensor) -> Tensor:
        """What is added to the scores: 0 up to a query's own position, then -inf.

        Shape (group * (end - start), end), the new positions once per query head of a group.
        """
        mask = torch.full((end - start, end), -torch.inf, dtype=x.dtype, device=x.device).triu(start + 1)
        return mask.repeat(self.config.n_heads // self.config.n_kv_heads, 1)

    def _logits(self, hidden: Tensor) -> Tensor:
        head = self.embedding if self.head is None else self.head
        return linear(self.norm(hidden), head.weight).float()


def _part_names(name: str) -> list[str]:
    """The checkpoint's names of the tensors that one of our parameters joins."""
    for joined, parts in _PARTS.items():
        if joined in name:
            return [name.replace(joined, part) for part in parts]
    return [name]


def _joined(parts: list[Tensor], device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """One tensor of all rows, in memory of its own."""
    return torch.cat([part.to(device, dtype) for part in parts])
