"""What a network is, as plain values: torch's module and the native step are both built from it.

Per layer, with the norms that are there:

    x += residual_scale * post_attention_norm(attention(attention_norm(x)))
    x += residual_scale * post_ffn_norm(ffn(ffn_norm(x)))

or, where a layer is parallel, both from the same x. The logits are the output layer of
norm(x), times `logit_scale`, then capped. Nothing of torch or numpy is known here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Activation = Literal["silu", "gelu", "gelu_tanh", "relu2", "clamped_swish"]
"""silu(x) = x σ(x); gelu: exact; gelu_tanh: its tanh approximation; relu2: max(x, 0)²;
clamped_swish: gpt-oss's min(g, 7) σ(1.702 g) * (clip(u, ±7) + 1), which is gated by nature."""

_KEPT_WHOLE = ("sinks.weight", "scales.weight", "gain.weight", "rate.weight", "decay.bias")


def is_kept_whole(name: str) -> bool:
    """Whether a parameter is small and stays in float32, whatever the precision that is computed in."""
    return "norm." in name or name.endswith(_KEPT_WHOLE)


CLAMP_LIMIT, CLAMP_ALPHA = 7.0, 1.702
"""The constants of clamped_swish."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Stretching of rotary positions; the names are Hugging Face's `rope_scaling` keys."""

    kind: Literal["linear", "llama3", "yarn", "factors"]
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context_length: int = 8192
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    """yarn: whether the bounds of its ramp are whole numbers."""
    factors: tuple[float, ...] = ()
    """factors: what each of the frequencies is divided by."""
    long_factors: tuple[float, ...] = ()
    """The same once a text is longer than the original context; none: always `factors`."""
    magnitude: float = 1.0
    """What cosines and sines are multiplied by; Hugging Face's attention_factor."""


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions (Su et al. 2021)."""

    theta: float
    dim: int
    """How many channels of each head turn, from the first on; even."""
    scaling: RopeScaling | None = None
    interleaved: bool = False
    """Whether neighbouring channels make a pair, not the halves of what turns."""


@dataclass(frozen=True, slots=True)
class Norm:
    """A normalisation over channels."""

    kind: Literal["rms", "layer"]
    eps: float
    weight: bool = True
    bias: bool = False

    def tensors(self, name: str, *shape: int) -> Iterator[tuple[str, Shape]]:
        """Names and shapes of its parameters."""
        if self.weight:
            yield f"{name}.weight", shape
        if self.bias:
            yield f"{name}.bias", shape


@dataclass(frozen=True, slots=True)
class Attention:
    """Causal attention; several query heads may share one head of keys and values."""

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    """What scores are multiplied by; usually head_dim ** -0.5."""
    rope: Rope | None = None
    window: int = 0
    """How many of the last positions each sees, itself among them; 0 is all."""
    bias: bool = False
    """Whether q, k and v have biases."""
    out_bias: bool = False
    qk_norm: Norm | None = None
    qk_norm_of: Literal["head", "all", "each"] = "head"
    """head: over each head's channels, with the same weight; each: with a weight of its own;
    all: over the channels of all heads together."""
    qk_norm_last: bool = False
    """Whether q and k are normalised after they have been turned."""
    softcap: float = 0.0
    """Scores s become softcap * tanh(s / softcap); 0 leaves them."""
    sinks: bool = False
    """Whether each head has a number that joins the scores in the softmax and takes a share of nothing."""
    clip: float = 0.0
    """q, k and v are clipped to ± this; 0 does not."""
    position_gain: tuple[float, int] = (0.0, 1)
    """(beta, length): queries are multiplied by 1 + beta ln(1 + floor(position / length))."""
    value_norm: Norm | None = None
    """Over each head's values; without parameters."""
    values_are_keys: bool = False
    """Whether values are the keys as they come out of their matrix, before norm and rotation."""
    gated: bool = False
    """Whether what the heads give is multiplied by the logistic function of one more projection."""
    keys_of: int | None = None
    """The layer before whose keys and values it reads: it has none of its own, and all else of theirs is as there."""

    @property
    def q_dim(self) -> int:
        """Rows of the queries' matrix."""
        return self.heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        """Rows of the keys' matrix, and of the values'."""
        return self.kv_heads * self.head_dim

    def projections(self) -> Iterator[tuple[str, int]]:
        """Those of "q", "k" and "v" that have a matrix, and its rows."""
        yield "q", self.q_dim
        if self.keys_of is None:
            yield "k", self.kv_dim
            if not self.values_are_keys:
                yield "v", self.kv_dim

    def tensors(self, dim: int) -> Iterator[tuple[str, Shape]]:
        """Names and shapes of its parameters in a model of this width."""
        for part, rows in self.projections():
            yield f"attention.{part}_proj.weight", (rows, dim)
            if self.bias:
                yield f"attention.{part}_proj.bias", (rows,)
        yield "attention.o_proj.weight", (dim, self.q_dim)
        if self.out_bias:
            yield "attention.o_proj.bias", (dim,)
        if self.gated:
            yield "attention.gate_proj.weight", (self.q_dim, dim)
            if self.bias:
                yield "attention.gate_proj.bias", (self.q_dim,)
        if self.qk_norm is not None:
            for part, heads in (("q", self.heads), ("k", self.kv_heads)):
                if part == "k" and self.keys_of is not None:
                    continue
                shape: Shape = {
                    "head": (self.head_dim,),
                    "each": (heads, self.head_dim),
                    "all": (heads * self.head_dim,),
                }[self.qk_norm_of]
                yield from self.qk_norm.tensors(f"attention.{part}_norm", *shape)
        if self.sinks:
            yield "attention.sinks.weight", (self.heads,)


NO_ATTENTION = Attention(0, 0, 0, 1.0)
"""Of layers that have something else in its place: it holds no keys and sees none."""


@dataclass(frozen=True, slots=True)
class DeltaNet:
    """A gated delta net: a state of fixed size in place of keys and values, behind a short causal convolution.

    The projections of x to queries, keys and values are convolved with the last `kernel` positions; each value head
    has a decay, and a state that maps keys to values. What it gives is normalised, gated and projected.
    """

    key_heads: int
    value_heads: int
    """A multiple of `key_heads`."""
    key_dim: int
    """Channels of each head of queries and keys."""
    value_dim: int
    kernel: int
    norm: Norm
    """Over what each head gives."""
    tiled: bool = False
    """Whether value head j has the queries and keys of head j % key_heads, not those of the j-th part."""
    rate_is_log: bool = True
    """Whether the rate of decay is stored as the logarithm of its negative."""

    @property
    def channels(self) -> int:
        """What is convolved: queries, keys and values."""
        return 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim

    def tensors(self, dim: int) -> Iterator[tuple[str, Shape]]:
        """Names and shapes of its parameters in a model of this width."""
        keys, values = self.key_heads * self.key_dim, self.value_heads * self.value_dim
        for part, rows in (("q", keys), ("k", keys), ("v", values), ("gate", values)):
            yield f"delta.{part}_proj.weight", (rows, dim)
        for part in ("beta", "decay"):
            yield f"delta.{part}_proj.weight", (self.value_heads, dim)
        yield "delta.conv.weight", (self.channels, self.kernel)
        yield "delta.rate.weight", (self.value_heads,)
        yield "delta.decay.bias", (self.value_heads,)
        yield "delta.gain.weight", (self.value_dim,)
        yield "delta.o_proj.weight", (dim, values)


@dataclass(frozen=True, slots=True)
class Dense:
    """A feed-forward network: down(act(gate(x)) * up(x)), or down(act(up(x))) without a gate."""

    dim: int
    activation: Activation = "silu"
    gated: bool = True
    bias: bool = False

    def tensors(self, dim: int, name: str = "ffn", *experts: int) -> Iterator[tuple[str, Shape]]:
        """Names and shapes of its parameters, behind a dimension of experts where there are several."""
        for part, rows, cols in (("gate", self.dim, dim), ("up", self.dim, dim), ("down", dim, self.dim)):
            if part == "gate" and not self.gated:
                continue
            yield f"{name}.{part}_proj.weight", (*experts, rows, cols)
            if self.bias:
                yield f"{name}.{part}_proj.bias", (*experts, rows)


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts: a softmax over the router's scores, the highest `used` of it, a weighted sum."""

    count: int
    used: int
    each: Dense
    renormalise: bool
    """Whether the weights of those used are made to sum to 1."""
    router_bias: bool = False
    shared: Dense | None = None
    """A network that is always used."""
    shared_gate: bool = False
    """Whether its output is multiplied by the logistic function of one more score."""
    apart: Norm | None = None
    """Gemma 4's way: router, experts and shared network each read the stream through a norm of their own of this kind
    (the shared network through the layer's), outputs of the latter two have norms too, and each expert has a weight."""

    def tensors(self, dim: int) -> Iterator[tuple[str, Shape]]:
        """Names and shapes of its parameters in a model of this width."""
        if self.apart is not None:
            for name in ("router_norm", "experts_norm", "post_experts_norm", "post_shared_norm"):
                yield from self.apart.tensors(f"ffn.{name}", dim)
            yield "ffn.expert_scales.weight", (self.count,)
        yield "ffn.router.weight", (self.count, dim)
        if self.router_bias:
            yield "ffn.router.bias", (self.count,)
        yield from self.each.tensors(dim, "ffn.experts", self.count)
        if self.shared is not None:
            yield from self.shared.tensors(dim, "ffn.shared")
            if self.shared_gate:
                yield "ffn.shared_gate.weight", (1, dim)


@dataclass(frozen=True, slots=True)
class LayerInput:
    """What each layer adds to the stream of its own embedding of the token: norm(out(act(gate(x)) * embedding))."""

    dim: int
    activation: Activation
    norm: Norm

    def tensors(self, dim: int) -> Iterator[tuple[str, Shape]]:
        """Names and shapes of a layer's parameters in a model of this width."""
        yield "input.gate_proj.weight", (self.dim, dim)
        yield "input.out_proj.weight", (dim, self.dim)
        yield from self.norm.tensors("input.norm", dim)

    def shared_tensors(self, dim: int, vocab_size: int, layers: int) -> Iterator[tuple[str, Shape]]:
        """The same of what belongs to all layers: the embedding is joined with a product of the model's own.

        (norm(projection(x) / sqrt(width)) + sqrt(dim) * rows) / sqrt(2), for each layer's `dim` channels.
        """
        yield "inputs.embedding.weight", (vocab_size, layers * self.dim)
        yield "inputs.projection.weight", (layers * self.dim, dim)
        yield from self.norm.tensors("inputs.norm", self.dim)


@dataclass(frozen=True, slots=True)
class Layer:
    """Attention and a feed-forward network, with the norms around them that are there."""

    attention: Attention
    ffn: Dense | Experts
    attention_norm: Norm | None = None
    post_attention_norm: Norm | None = None
    ffn_norm: Norm | None = None
    post_ffn_norm: Norm | None = None
    parallel: bool = False
    """Whether both read the same stream; without `ffn_norm` also the same normalised one."""
    residual_scale: float = 1.0
    delta: DeltaNet | None = None
    """In place of attention, which then is NO_ATTENTION."""
    input: LayerInput | None = None
    """Added behind the feed-forward network."""
    scaled: bool = False
    """Whether the stream behind the layer is multiplied by a number, a parameter."""

    def tensors(self, dim: int) -> Iterator[tuple[str, Shape]]:
        """Names and shapes of its parameters in a model of this width."""
        for name in NORMS:
            norm: Norm | None = getattr(self, name)
            if norm is not None:
                yield from norm.tensors(name, dim)
        yield from self.attention.tensors(dim) if self.delta is None else self.delta.tensors(dim)
        yield from self.ffn.tensors(dim)
        if self.input is not None:
            yield from self.input.tensors(dim)
        if self.scaled:
            yield "scale.weight", (1,)


NORMS = ("attention_norm", "post_attention_norm", "ffn_norm", "post_ffn_norm")
"""A layer's norms by their names."""


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """A whole network."""

    family: str
    """What its files call it, such as "llama"."""
    vocab_size: int
    context_length: int
    dim: int
    layers: tuple[Layer, ...]
    norm: Norm
    positions: int = 0
    """How many learned positions are added to the embedding; 0: none."""
    embedding_scale: float = 1.0
    tied: bool = True
    """Whether the output layer is the embedding."""
    head_bias: bool = False
    logit_scale: float = 1.0
    final_softcap: float = 0.0
    slides: bool = False
    """Whether a text longer than the context goes on over its last tokens, with positions from 0."""

    def tensors(self) -> dict[str, Shape]:
        """The shape of every parameter by its name; a tied output layer is left out."""
        shapes: dict[str, Shape] = {"embedding.weight": (self.vocab_size, self.dim)}
        if self.positions:
            shapes["positions.weight"] = (self.positions, self.dim)
        shapes.update(self.norm.tensors("norm", self.dim))
        if not self.tied:
            shapes["head.weight"] = (self.vocab_size, self.dim)
        if self.head_bias:
            shapes["head.bias"] = (self.vocab_size,)
        if (own := self.layer_input) is not None:
            shapes.update(own.shared_tensors(self.dim, self.vocab_size, len(self.layers)))
        for index, layer in enumerate(self.layers):
            shapes.update((f"layers.{index}.{name}", shape) for name, shape in layer.tensors(self.dim))
        return shapes

    @property
    def layer_input(self) -> LayerInput | None:
        """What every layer has of its own embedding, or none."""
        return self.layers[0].input

    @property
    def forgets(self) -> bool:
        """Whether its KV cache lets go of positions, so that a text cannot go back to any length."""
        return not self.goes_back or any(0 < layer.attention.window < self.context_length for layer in self.layers)

    @property
    def goes_back(self) -> bool:
        """Whether the last few positions of a text can be taken back, wherever it is."""
        return all(layer.delta is None for layer in self.layers)

    def keys_seen(self, length: int) -> Iterator[tuple[Attention, int]]:
        """Each layer's attention, and how many keys a position behind `length` others sees in it."""
        for attention in (layer.attention for layer in self.layers):
            yield attention, min(length, attention.window) if attention.window else length

    @property
    def long_from(self) -> int:
        """Positions of texts longer than this are stretched differently, so that they share no keys; 0: of none are."""
        limits = [
            layer.attention.rope.scaling.original_context_length
            for layer in self.layers
            if layer.attention.rope and layer.attention.rope.scaling and layer.attention.rope.scaling.long_factors
        ]
        return min(limits, default=0)

    def is_long(self, length: int) -> bool:
        """Whether the positions of a text of this length are stretched as in long ones."""
        return 0 < self.long_from < length
