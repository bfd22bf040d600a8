"""GGUF files before they are written, so that any part of them can be changed."""

from __future__ import annotations

import struct
from functools import cache
from random import Random
from typing import Any, NamedTuple

import numpy as np

from tests.hostile.damage import EXTREMES
from tests.tokenizers.vocabularies import byte_level_metadata, llama_metadata

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_PACKED = {
    U8: "<B",
    I8: "<b",
    U16: "<H",
    I16: "<h",
    U32: "<I",
    I32: "<i",
    F32: "<f",
    BOOL: "<B",
    U64: "<Q",
    I64: "<q",
    F64: "<d",
}
BITS = {U8: 8, I8: 8, U16: 16, I16: 16, U32: 32, I32: 32, BOOL: 1, U64: 64, I64: 64}
FORMATS = {
    0: (1, 4),
    1: (1, 2),
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    10: (256, 84),
    11: (256, 110),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    30: (1, 2),
}
"""Numbers and bytes of a block of each of ggml's types."""
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


class Key(NamedTuple):
    """A key with its value's type; an array's value is (type of the items, items)."""

    name: bytes
    kind: int
    value: Any


class Tensor(NamedTuple):
    """A tensor's description."""

    name: bytes
    shape: tuple[int, ...]
    """Row length first."""
    kind: int
    offset: int


class File(NamedTuple):
    """A file before it is written."""

    keys: list[Key]
    tensors: list[Tensor]
    data: bytes


@cache
def sources() -> tuple[File, ...]:
    """Small sound models: both vocabularies, every architecture, floats and blocks."""
    return (
        _model("llama", llama_metadata(), 32, 8),
        _model("qwen2", byte_level_metadata(), 32, 0),
        _model("qwen3", byte_level_metadata(), 32, 2),
        _model("llama", byte_level_metadata(), 32, 30),
        _model("llama", byte_level_metadata(), 256, 14),
        _model("qwen2", byte_level_metadata(), 256, 12),
    )


def _model(architecture: str, vocabulary: dict[str, Any], dim: int, kind: int) -> File:
    """A small sound model whose matrices are of one of ggml's types."""
    layers, heads, kv_heads = (1, 4, 2) if dim > 32 else (2, 4, 2)
    head_dim, words = dim // heads, len(vocabulary["tokenizer.ggml.tokens"])
    numbers: dict[str, Any] = {
        "block_count": layers,
        "context_length": 64,
        "embedding_length": dim,
        "feed_forward_length": dim,
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.key_length": head_dim,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.freq_base": 10000.0,
    }
    keys = [Key(b"general.architecture", STRING, architecture.encode()), Key(b"general.alignment", U32, 32)]
    keys += [_key(f"{architecture}.{name}", value) for name, value in numbers.items()]
    keys += [_key(name, value) for name, value in vocabulary.items()]
    keys.append(_key("tokenizer.chat_template", _TEMPLATE))
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (dim, words), "output_norm.weight": (dim,)}
    for layer in range(layers):
        block = {
            "attn_q": (dim, dim),
            "attn_k": (dim, kv_heads * head_dim),
            "attn_v": (dim, kv_heads * head_dim),
            "attn_output": (dim, dim),
        }
        block |= {name: (dim, dim) for name in ("ffn_gate", "ffn_up", "ffn_down")}
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in block.items()}
        shapes |= {f"blk.{layer}.{name}.weight": (dim,) for name in ("attn_norm", "ffn_norm")}
        if architecture == "qwen2":
            shapes |= {
                f"blk.{layer}.{name}.bias": (size,)
                for name, size in (("attn_q", dim), ("attn_k", kv_heads * head_dim), ("attn_v", kv_heads * head_dim))
            }
        if architecture == "qwen3":
            shapes |= {f"blk.{layer}.{name}.weight": (head_dim,) for name in ("attn_q_norm", "attn_k_norm")}
    dice = np.random.default_rng(1)
    tensors, data = [], b""
    for name, shape in shapes.items():
        used = kind if len(shape) > 1 else 0
        tensors.append(Tensor(name.encode(), shape, used, len(data)))
        content = _blocks(dice, used, int(np.prod(shape)))
        data += content + bytes(-len(content) % 32)
    return File(keys, tensors, data)


def _blocks(dice: np.random.Generator, kind: int, count: int) -> bytes:
    """Sound blocks: small scales, any numbers."""
    size, width = FORMATS[kind]
    values = dice.normal(0, 0.05, count).astype(np.float32)
    if kind == 0:
        return values.tobytes()
    if kind == 1:
        return values.astype(np.float16).tobytes()
    if kind == 30:
        return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    blocks = dice.integers(0, 256, (count // size, width), np.uint8)
    scale = np.array([0.01], np.float16).view(np.uint8)
    for at in {12: (0, 2), 13: (0, 2), 14: (208,), 10: (80, 82), 11: (108,), 3: (0, 2), 7: (0, 2)}.get(kind, (0,)):
        blocks[:, at : at + 2] = scale
    return blocks.tobytes()


def _key(name: str, value: Any) -> Key:
    kind, packed = _typed(value)
    return Key(name.encode(), kind, packed)


def _typed(value: Any) -> tuple[int, Any]:
    if isinstance(value, bool):
        return BOOL, int(value)
    if isinstance(value, int):
        return U32, value
    if isinstance(value, float):
        return F32, value
    if isinstance(value, str):
        return STRING, value.encode()
    kind = I32 if value and isinstance(value[0], int) else _typed(value[0])[0] if value else STRING
    return ARRAY, (kind, [item.encode() if isinstance(item, str) else item for item in value])


def packed(file: File, rng: Random | None = None) -> bytes:
    """The bytes of a file; with dice, now and then with counts that are not so."""
    counts = [3, len(file.tensors), len(file.keys)]
    if rng is not None and rng.random() < 0.08:
        counts[rng.randrange(3)] = rng.choice((0, 1, 2, 4, *EXTREMES))
    head = b"GGUF" + struct.pack("<IQQ", counts[0] % 2**32, counts[1] % 2**64, counts[2] % 2**64)
    head += b"".join(
        _text(key.name) + struct.pack("<I", key.kind) + _value(key.kind, key.value, rng) for key in file.keys
    )
    for tensor in file.tensors:
        numbers = [tensor.kind % 2**32, tensor.offset % 2**64]
        shape = [size % 2**64 for size in tensor.shape]
        head += _text(tensor.name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, *numbers)
    return head + bytes(-len(head) % 32) + file.data


def _text(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def _value(kind: int, value: Any, rng: Random | None) -> bytes:
    if kind == STRING:
        return _text(value)
    if kind == ARRAY:
        inner, items = value
        count = len(items) if rng is None or rng.random() > 0.01 else rng.choice(EXTREMES)
        return struct.pack("<IQ", inner, count % 2**64) + b"".join(_value(inner, item, rng) for item in items)
    if kind in BITS:
        bits = BITS[kind]
        number = int(value) % (1 << bits)
        if kind in (I8, I16, I32, I64):
            number -= (number >> (bits - 1)) << bits
        return struct.pack(_PACKED[kind], number)
    return struct.pack(_PACKED[kind], value)
