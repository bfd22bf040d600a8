"""Plans of Llama's kind by their dimensions, for tests that compute them by hand."""

from __future__ import annotations

from dataclasses import dataclass

from llmchat.models.plan import Attention, Dense, Layer, ModelPlan, Norm, Rope, RopeScaling


@dataclass(frozen=True, slots=True)
class LlamaSizes:
    """What Llamas, Qwens and Mistrals differ in."""

    vocab_size: int
    context_length: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    dim: int
    ffn_dim: int
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    attention_bias: bool = False
    qk_norm: bool = False
    tied: bool = True

    @property
    def rope(self) -> Rope:
        """Positions over whole heads."""
        return Rope(self.rope_theta, self.head_dim, self.rope_scaling)

    def plan(self) -> ModelPlan:
        """The network of these dimensions."""
        norm = Norm("rms", self.norm_eps)
        attention = Attention(
            self.n_heads,
            self.n_kv_heads,
            self.head_dim,
            self.head_dim**-0.5,
            self.rope,
            bias=self.attention_bias,
            qk_norm=norm if self.qk_norm else None,
        )
        layer = Layer(attention, Dense(self.ffn_dim), attention_norm=norm, ffn_norm=norm)
        return ModelPlan(
            "llama",
            self.vocab_size,
            self.context_length,
            self.dim,
            (layer,) * self.n_layers,
            norm,
            tied=self.tied,
        )
