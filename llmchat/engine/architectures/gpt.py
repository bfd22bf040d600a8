"""The GPT of llmbuilder: learned absolute positions, pre-norm blocks, exact GELU.

Per block x += attention(ln1(x)), then x += mlp(ln2(x)); the logits are the output
layer of ln_f(x). q, k and v come from one matrix without bias. Submodules are run
through their `forward`: with small models a module call's hooks cost as much as its work.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmchat.checkpoints.checkpoint import Checkpoint, GPTConfig
from llmchat.engine.kv_cache import AnyCache, CacheAtPosition, KVCache
from llmchat.engine.linear import Linear, linear


class Attention(nn.Module):
    """Causal self-attention of one layer."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.qkv_proj = Linear(config.dim, 3 * config.dim, bias=False)
        self.out_proj = Linear(config.dim, config.dim)

    def forward(self, x: Tensor, layer: int, cache: AnyCache | None, mask: Tensor | None, last_only: bool) -> Tensor:
        """Mix each position with those before it.

        Args:
            x: Normalised hidden states, shape (batch, positions, dim).
            layer: Which layer of the cache is ours.
            cache: Takes the new keys and values; None if nothing comes before or after.
            mask: Shape (positions, all positions that the cache gives), True where a position may look, or
                numbers that are added to the scores; None if `x` starts at position 0 or looks at all of them.
            last_only: Whether only the last position's result is wanted.

        Returns:
            Shape (batch, positions, dim), or (batch, 1, dim) with `last_only`.
        """
        batch, positions, dim = x.shape
        shape = (batch, positions, self.n_heads, dim // self.n_heads)
        if last_only and positions > 1:
            weight = self.qkv_proj.weight
            q = F.linear(x[:, -1:], weight[:dim]).view(batch, 1, *shape[2:]).transpose(1, 2)
            k, v = F.linear(x, weight[dim:]).view(batch, positions, 2, *shape[2:]).permute(2, 0, 3, 1, 4).unbind()
            mask = None
        else:
            qkv = self.qkv_proj.forward(x).view(batch, positions, 3, *shape[2:])
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()
        if cache is not None:
            k, v = cache.append(layer, k, v)
        causal = mask is None and q.shape[2] > 1
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        out: Tensor = self.out_proj.forward(mixed.transpose(1, 2).reshape(batch, -1, dim))
        return out


class MLP(nn.Module):
    """Two linear layers around an exact (erf) GELU."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.fc1 = Linear(config.dim, 4 * config.dim)
        self.fc2 = Linear(4 * config.dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each position by itself."""
        out: Tensor = self.fc2.forward(F.gelu(self.fc1.forward(x)))
        return out


class Block(nn.Module):
    """One layer: attention, then MLP, each on normalised states and added to the stream."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(config.dim, eps=1e-5)
        self.attn = Attention(config)
        self.ln2 = nn.LayerNorm(config.dim, eps=1e-5)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, layer: int, cache: AnyCache | None, mask: Tensor | None, last_only: bool) -> Tensor:
        """The stream after this layer; its arguments are those of `Attention.forward`."""
        mixed = self.attn.forward(self.ln1.forward(x), layer, cache, mask, last_only)
        x = (x[:, -1:] if last_only else x) + mixed
        out: Tensor = x + self.mlp.forward(self.ln2.forward(x))
        return out


class GPT(nn.Module):
    """llmbuilder's GPT, for inference: its weights take no gradients.

    Ids must be from 0 to vocab_size - 1 and positions below context_length.
    """

    def __init__(self, config: GPTConfig, *, tied: bool = True) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = _embedding(config.vocab_size, config.dim)
        self.position_embedding = _embedding(config.context_length, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.ln_f = nn.LayerNorm(config.dim, eps=1e-5)
        self.lm_head = None if tied else Linear(config.dim, config.vocab_size, bias=False)

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> GPT:
        """A model with the checkpoint's weights, in memory of its own: the file may change afterwards."""
        assert isinstance(checkpoint.config, GPTConfig)
        with torch.device("meta"):
            model = cls(checkpoint.config, tied="lm_head.weight" not in checkpoint.tensors)
        weights = {
            name: tensor.to(device=device, dtype=dtype, copy=True, memory_format=torch.contiguous_format)
            for name, tensor in checkpoint.tensors.items()
        }
        model.load_state_dict(weights, assign=True)
        return model.eval().requires_grad_(False)

    def make_cache(self, capacity: int, batch: int = 1) -> KVCache:
        """An empty cache for `capacity` positions of `batch` sequences, beside the weights."""
        weight = self.token_embedding.weight
        return KVCache(
            n_layers=self.config.n_layers,
            n_kv_heads=self.config.n_heads,
            head_dim=self.config.dim // self.config.n_heads,
            capacity=min(capacity, self.config.context_length),
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
        return self._logits(self._hidden(ids, cache, last_only=True))[:, -1]

    def all_logits(self, ids: Tensor, cache: KVCache) -> Tensor:
        """The same for every new position: shape (batch, positions, vocab_size)."""
        return self._logits(self._hidden(ids, cache, last_only=False))

    def window_logits(self, ids: Tensor) -> Tensor:
        """Logits of the last of some ids that stand at positions 0 and up, without a cache.

        A window that slides by one token moves every token to another learned
        position, so no key or value of the step before can be used again. What can
        be saved is the last layer's work for all positions but the last.

        Args:
            ids: Token ids, int64, shape (batch, positions).

        Returns:
            float32 logits, shape (batch, vocab_size).
        """
        return self._logits(self._hidden(ids, None, last_only=True))[:, -1]

    def step(self, ids: Tensor, cache: CacheAtPosition) -> Tensor:
        """The logits behind one more token, by work that is the same at every position but for the numbers.

        Args:
            ids: Token ids, int64, shape (batch, 1).
            cache: Takes their keys and values.

        Returns:
            float32 logits, shape (batch, vocab_size).
        """
        x = self.token_embedding.forward(ids) + self.position_embedding.forward(cache.position)
        return self._logits(self._through_blocks(x, cache, cache.mask(), last_only=False))[:, -1]

    def _hidden(self, ids: Tensor, cache: KVCache | None, *, last_only: bool) -> Tensor:
        """The stream after the last layer; with `last_only` that of the last position alone."""
        start = 0 if cache is None else cache.length
        end = start + ids.shape[1]
        x = self.token_embedding.forward(ids) + self.position_embedding.weight[start:end]
        mask = _causal_mask(start, end, x.device) if start and end - start > 1 else None
        hidden = self._through_blocks(x, cache, mask, last_only=last_only)
        if cache is not None:
            cache.advance(end - start)
        return hidden

    def _through_blocks(self, x: Tensor, cache: AnyCache | None, mask: Tensor | None, *, last_only: bool) -> Tensor:
        last_layer = self.config.n_layers - 1
        for layer, block in enumerate(self.blocks):
            x = block.forward(x, layer, cache, mask, last_only and layer == last_layer)
        return x

    def _logits(self, hidden: Tensor) -> Tensor:
        head = self.token_embedding if self.lm_head is None else self.lm_head
        return linear(self.ln_f.forward(hidden), head.weight).float()


def _embedding(count: int, dim: int) -> nn.Embedding:
    # A given weight spares drawing a random one, which on the meta device would load much of torch.
    return nn.Embedding(count, dim, _weight=torch.empty(count, dim))


def _causal_mask(start: int, end: int, device: torch.device) -> Tensor:
    """Shape (end - start, end): True where a new position may look at one up to itself."""
    places = torch.arange(end, device=device)
    return places <= places[start:, None]
