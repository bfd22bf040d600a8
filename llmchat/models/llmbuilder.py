"""The GPT of llmbuilder: learned positions, LayerNorm, exact GELU; its files say nothing, the tensors' shapes all."""

from __future__ import annotations

from llmchat.models.plan import Attention, Dense, Layer, ModelPlan, Norm
from llmchat.models.stored import Joined, Layout


def llmbuilder_plan(
    *, vocab_size: int, context_length: int, n_layers: int, n_heads: int, dim: int, tied: bool = True
) -> ModelPlan:
    """The plan of a model with these dimensions; a text longer than the context goes on over its last tokens."""
    norm, head_dim = Norm("layer", 1e-5, bias=True), dim // n_heads
    layer = Layer(
        Attention(n_heads, n_heads, head_dim, head_dim**-0.5, out_bias=True),
        Dense(4 * dim, "gelu", gated=False, bias=True),
        attention_norm=norm,
        ffn_norm=norm,
    )
    return ModelPlan(
        "llmbuilder",
        vocab_size,
        context_length,
        dim,
        (layer,) * n_layers,
        norm,
        positions=context_length,
        tied=tied,
        slides=True,
    )


LAYOUT = Layout(
    globals={
        "embedding": ("token_embedding",),
        "positions": ("position_embedding",),
        "norm": ("ln_f",),
        "head": ("lm_head",),
    },
    layer="blocks.{}.",
    parts={
        "attention_norm": ("ln1",),
        "attention.o_proj": ("attn.out_proj",),
        "ffn_norm": ("ln2",),
        "ffn.up_proj": ("mlp.fc1",),
        "ffn.down_proj": ("mlp.fc2",),
    },
    joined=(Joined("attn.qkv_proj", tuple(f"attention.{part}_proj" for part in "qkv")),),
)
"""llmbuilder's names."""
