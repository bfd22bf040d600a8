"""Where each of a plan's parameters lies in a file: under which name, joined with others, transposed or stacked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from llmchat.models.facts import Source
from llmchat.models.plan import ModelPlan, Shape


@dataclass(frozen=True, slots=True)
class Stored:
    """How one parameter is made of what a file holds."""

    names: tuple[str, ...]
    """The file's tensors."""
    stacked: bool = False
    """Whether each of them is one of several experts or heads, which lie along a dimension of their own."""
    group: int = 0
    """Where it is joined with others along its rows: the rows of a group, in which it has its place; 0: alone."""
    first: int = 0
    """Its first row of each group."""
    count: int = 0
    """How many rows of each group are its."""
    is_bias: bool = False
    """Whether its last dimension are the rows."""
    transposed: bool = False
    """Whether the file has columns first."""
    spread: bool = False
    """Whether the file has a dimension of 1 before the last."""
    added: float = 0.0
    """What is added to every number."""

    def shape_in_file(self, shape: Shape) -> Shape:
        """The shape of each of the file's tensors, given the parameter's own."""
        shape = shape[1:] if self.stacked else shape
        if self.spread:
            shape = (*shape[:-1], 1, shape[-1])
        if self.group:
            at = len(shape) - (1 if self.is_bias else 2)
            shape = (*shape[:at], shape[at] // self.count * self.group, *shape[at + 1 :])
        return (*shape[:-2], shape[-1], shape[-2]) if self.transposed else shape


class Joined(NamedTuple):
    """Parameters that a file has as one matrix."""

    name: str
    """The file's, inside its layer."""
    parts: tuple[str, ...]
    """Ours, in the order of their rows."""
    grouped: bool = False
    """Whether each head of keys stands with its queries, not all queries, then all keys, then all values."""
    by: Literal["kv_heads", "heads", "key_heads"] = "kv_heads"
    """What they are grouped by: heads of keys, of queries, or of a delta net's keys."""
    alternating: bool = False
    """Whether rows of the parts alternate."""


class Layout(NamedTuple):
    """How the files of one source name parameters."""

    globals: Mapping[str, tuple[str, ...]]
    """The file's possible names of what belongs to no layer."""
    layer: str
    """What a layer's names begin with, {} for its number."""
    parts: Mapping[str, tuple[str, ...]]
    """The file's possible names of a layer's parts; {} for the number of an expert or a head."""
    joined: tuple[Joined, ...] = ()
    prefixes: tuple[str, ...] = ()
    """What may stand before every name."""
    transposed: tuple[str, ...] = ()
    """The file's parts that lie columns first."""
    norm_offset: float = 0.0
    """What the file left out of the weights of norms."""
    ignored: re.Pattern[str] | None = None
    """Names of tensors that are no parameters."""
    spread: tuple[str, ...] = ()
    """The file's parts with a dimension of 1 before their last."""
    bare: tuple[str, ...] = ()
    """The file's parts whose names end without .weight; their biases end with _bias."""

    def changed(
        self,
        *,
        parts: Mapping[str, tuple[str, ...]] | None = None,
        globals: Mapping[str, tuple[str, ...]] | None = None,  # noqa: A002
        norm_offset: float | None = None,
        transposed: tuple[str, ...] = (),
        joined: tuple[Joined, ...] = (),
        layer: str | None = None,
        bare: tuple[str, ...] = (),
        spread: tuple[str, ...] = (),
    ) -> Layout:
        """The layout of a family whose names differ in some."""
        return self._replace(
            parts={**self.parts, **(parts or {})},
            globals={**self.globals, **(globals or {})},
            norm_offset=self.norm_offset if norm_offset is None else norm_offset,
            transposed=transposed or self.transposed,
            joined=joined or self.joined,
            layer=layer or self.layer,
            bare=bare or self.bare,
            spread=spread or self.spread,
        )


_QKV = tuple(f"attention.{part}_proj" for part in "qkv")
_GATE_UP = ("ffn.gate_proj", "ffn.up_proj")
_EXPERT_GATE_UP = ("ffn.experts.gate_proj", "ffn.experts.up_proj")

CONFIG = Layout(
    globals={
        "embedding": ("embed_tokens", "wte", "embed_in", "word_embeddings"),
        "positions": ("wpe",),
        "norm": ("norm", "ln_f", "final_layer_norm", "final_layernorm"),
        "head": ("lm_head", "embed_out"),
    },
    layer="layers.{}.",
    parts={
        "attention_norm": ("input_layernorm", "ln_1"),
        "ffn_norm": ("post_attention_layernorm", "ln_2"),
        "attention.q_proj": ("self_attn.q_proj",),
        "attention.k_proj": ("self_attn.k_proj",),
        "attention.v_proj": ("self_attn.v_proj",),
        "attention.o_proj": (
            "self_attn.o_proj",
            "self_attn.dense",
            "attn.c_proj",
            "attention.dense",
            "self_attention.dense",
        ),
        "attention.q_norm": ("self_attn.q_norm", "self_attn.query_layernorm", "self_attn.q_layernorm"),
        "attention.k_norm": ("self_attn.k_norm", "self_attn.key_layernorm", "self_attn.k_layernorm"),
        "attention.sinks": ("self_attn.sinks",),
        "ffn.gate_proj": ("mlp.gate_proj",),
        "ffn.up_proj": ("mlp.up_proj", "mlp.fc1", "mlp.c_fc", "mlp.dense_h_to_4h"),
        "ffn.down_proj": ("mlp.down_proj", "mlp.fc2", "mlp.c_proj", "mlp.dense_4h_to_h"),
        "ffn.router": ("mlp.gate", "mlp.router", "block_sparse_moe.gate", "block_sparse_moe.router.layer"),
        "ffn.experts.gate_proj": (
            "mlp.experts.{}.gate_proj",
            "block_sparse_moe.experts.{}.w1",
            "mlp.switch_mlp.gate_proj",
        ),
        "ffn.experts.up_proj": (
            "mlp.experts.{}.up_proj",
            "block_sparse_moe.experts.{}.w3",
            "mlp.switch_mlp.up_proj",
        ),
        "ffn.experts.down_proj": (
            "mlp.experts.{}.down_proj",
            "block_sparse_moe.experts.{}.w2",
            "block_sparse_moe.output_linear",
            "mlp.experts.down_proj",
            "mlp.switch_mlp.down_proj",
        ),
        "ffn.shared.gate_proj": ("mlp.shared_expert.gate_proj",),
        "ffn.shared.up_proj": ("mlp.shared_expert.up_proj",),
        "ffn.shared.down_proj": ("mlp.shared_expert.down_proj",),
        "ffn.shared_gate": ("mlp.shared_expert_gate",),
    },
    joined=(
        Joined("self_attn.qkv_proj", _QKV),
        Joined("mlp.gate_up_proj", _GATE_UP),
        Joined("block_sparse_moe.input_linear", _EXPERT_GATE_UP),
        Joined("mlp.experts.gate_up_proj", _EXPERT_GATE_UP),
    ),
    prefixes=("model.language_model.", "language_model.model.", "model.", "transformer.", "gpt_neox."),
    # Layers named mtp guess further tokens: nothing of a text depends on them.
    ignored=re.compile(r".*(rotary_emb\.inv_freq|attn\.(masked_)?bias|attention\.(masked_)?bias)|(model\.)?mtp\..*"),
    bare=("self_attn.sinks", "mlp.experts.gate_up_proj", "mlp.experts.down_proj"),
)
"""What Hugging Face's files call things, families' own names aside."""

GGUF = Layout(
    globals={
        "embedding": ("token_embd",),
        "positions": ("position_embd",),
        "norm": ("output_norm",),
        "head": ("output",),
    },
    layer="blk.{}.",
    parts={
        "attention_norm": ("attn_norm",),
        "post_attention_norm": ("post_attention_norm",),
        "ffn_norm": ("ffn_norm",),
        "post_ffn_norm": ("post_ffw_norm",),
        "attention.q_proj": ("attn_q",),
        "attention.k_proj": ("attn_k",),
        "attention.v_proj": ("attn_v",),
        "attention.o_proj": ("attn_output",),
        "attention.q_norm": ("attn_q_norm",),
        "attention.k_norm": ("attn_k_norm",),
        "attention.sinks": ("attn_sinks",),
        "ffn.gate_proj": ("ffn_gate",),
        "ffn.up_proj": ("ffn_up",),
        "ffn.down_proj": ("ffn_down",),
        "ffn.router": ("ffn_gate_inp",),
        "ffn.experts.gate_proj": ("ffn_gate_exps",),
        "ffn.experts.up_proj": ("ffn_up_exps",),
        "ffn.experts.down_proj": ("ffn_down_exps",),
        "ffn.shared.gate_proj": ("ffn_gate_shexp",),
        "ffn.shared.up_proj": ("ffn_up_shexp",),
        "ffn.shared.down_proj": ("ffn_down_shexp",),
        "ffn.shared_gate": ("ffn_gate_inp_shexp",),
    },
    joined=(Joined("attn_qkv", _QKV), Joined("ffn_up", _GATE_UP)),
    ignored=re.compile(
        r"rope_freqs\.weight|rope_factors_(long|short)\.weight|blk\.\d+\.(rope_freqs|rope_factors_\w+)\.weight"
    ),
)
"""What GGUF files call things, as llama.cpp names them."""

LAYOUTS: Mapping[Source, Layout] = {"config": CONFIG, "gguf": GGUF}


class Places:
    """Finds the parameters of a plan in a file."""

    def __init__(self, layout: Layout, plan: ModelPlan, shapes: Mapping[str, Shape]) -> None:
        """Nothing is looked up yet.

        Args:
            layout: How the file names things.
            plan: Whose parameters are wanted.
            shapes: The shape of each of the file's tensors by its name.
        """
        self._layout = layout
        self._plan = plan
        self._file_names = {self._inner(name): name for name in shapes}
        self._shapes = shapes
        self._wanted = plan.tensors()

    def find(self) -> Iterator[tuple[str, Stored | None]]:
        """Each parameter's name and where it lies; None where the file has it not."""
        for name in self._wanted:
            yield name, self._find(name)

    def name_in_file(self, name: str) -> str:
        """What a file of this layout calls a parameter, the first of its possible names; our own if it has none."""
        head, _, kind = name.rpartition(".")
        prefix, candidates = "", self._layout.globals.get(head, ())
        if head.startswith("layers."):
            _, index, part = head.split(".", 2)
            prefix, candidates = self._layout.layer.format(index), self._layout.parts.get(part, ())
        if not candidates:
            return name
        used = next((full.removesuffix(inner) for inner, full in self._file_names.items() if inner != full), "")
        return f"{used}{prefix}{candidates[0]}.{kind}"

    def superfluous(self, found: Sequence[Stored]) -> list[str]:
        """The file's tensors that no parameter is made of."""
        used = {name for stored in found for name in stored.names} | set(self._unread())
        ignored = self._layout.ignored
        rest = [name for name in self._shapes if name not in used]
        return sorted(name for name in rest if ignored is None or not ignored.fullmatch(name))

    def _unread(self) -> Iterator[str]:
        """What files have of keys and values in layers that read another's."""
        for index, layer in enumerate(self._plan.layers):
            if layer.attention.keys_of is None:
                continue
            prefix = self._layout.layer.format(index)
            for part in ("attention.k_proj", "attention.v_proj", "attention.k_norm"):
                found = (self._in_file(prefix, name, "weight") for name in self._layout.parts[part])
                yield from filter(None, found)

    def _inner(self, name: str) -> str:
        prefix = next((prefix for prefix in self._layout.prefixes if name.startswith(prefix)), "")
        return name.removeprefix(prefix)

    def _find(self, name: str) -> Stored | None:
        head, _, kind = name.rpartition(".")
        if head.startswith("layers."):
            _, index, part = head.split(".", 2)
            return self._find_part(name, int(index), part, kind)
        for candidate in self._layout.globals.get(head, ()):
            if (found := self._file_names.get(f"{candidate}.{kind}")) is not None:
                return Stored((found,), added=self._offset(name))
        return None

    def _find_part(self, name: str, index: int, part: str, kind: str) -> Stored | None:
        prefix, is_bias = self._layout.layer.format(index), kind == "bias"
        for candidate in self._layout.parts.get(part, ()):
            if "{}" in candidate:
                count = self._wanted[name][0]
                stack = [self._in_file(prefix, candidate.format(number), kind) for number in range(count)]
                if names := tuple(filter(None, stack)):
                    return Stored(names, stacked=True, is_bias=is_bias)
                continue
            found = self._in_file(prefix, candidate, kind)
            if found is not None and not self._holds_others(candidate, found, name):
                turned = self._is_transposed(candidate, kind)
                spread, offset = candidate in self._layout.spread, self._offset(name)
                return Stored((found,), is_bias=is_bias, transposed=turned, spread=spread, added=offset)
        for joined in self._layout.joined:
            if part in joined.parts and (found := self._in_file(prefix, joined.name, kind)) is not None:
                share = self._share(joined, part, index)
                turned = self._is_transposed(joined.name, kind)
                return replace(share, names=(found,), is_bias=is_bias, transposed=turned)
        return None

    def _is_transposed(self, part: str, kind: str) -> bool:
        return part in self._layout.transposed and kind == "weight"

    def _holds_others(self, candidate: str, found: str, name: str) -> bool:
        """Whether a tensor of a part's own name holds others too, as its height tells."""
        is_joint = any(joined.name == candidate for joined in self._layout.joined)
        return is_joint and self._shapes[found] != self._wanted[name]

    def _in_file(self, prefix: str, part: str, kind: str) -> str | None:
        if part in self._layout.bare:
            return self._file_names.get(f"{prefix}{part}{'_bias' if kind == 'bias' else ''}")
        return self._file_names.get(f"{prefix}{part}.{kind}")

    def _share(self, joined: Joined, part: str, index: int) -> Stored:
        """Which rows of a joined matrix are one part's."""
        if joined.alternating:
            return Stored((), group=len(joined.parts), first=joined.parts.index(part), count=1)
        rows = [self._rows(index, each) for each in joined.parts]
        if joined.grouped:
            layer = self._plan.layers[index]
            groups: int = getattr(layer.delta if joined.by == "key_heads" else layer.attention, joined.by)
            rows = [count // groups for count in rows]
        at = joined.parts.index(part)
        return Stored((), group=sum(rows), first=sum(rows[:at]), count=rows[at])

    def _rows(self, index: int, part: str) -> int:
        shape = self._wanted[f"layers.{index}.{part}.weight"]
        return shape[-2]

    def _offset(self, name: str) -> float:
        return self._layout.norm_offset if name.endswith("norm.weight") else 0.0
