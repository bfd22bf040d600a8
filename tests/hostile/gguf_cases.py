"""GGUF files of every kind of claim: counts, types, shapes, offsets, vocabularies; and damaged bytes."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np

from tests.hostile.damage import EXTREMES, damaged
from tests.hostile.opened import converse
from tests.tokenizers.vocabularies import byte_level_metadata, llama_metadata

_U8, _I8, _U16, _I16, _U32, _I32, _F32, _BOOL, _STRING, _ARRAY, _U64, _I64, _F64 = range(13)
_PACKED = {_U8: "<B", _I8: "<b", _U16: "<H", _I16: "<h", _U32: "<I", _I32: "<i", _F32: "<f", _BOOL: "<B", _U64: "<Q", _I64: "<q", _F64: "<d"}
_BITS = {_U8: 8, _I8: 8, _U16: 16, _I16: 16, _U32: 32, _I32: 32, _BOOL: 1, _U64: 64, _I64: 64}
_FORMATS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 30: (1, 2)}
"""Numbers and bytes of a block of each of ggml's types."""
_TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"


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
def _sources() -> tuple[File, ...]:
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
        "block_count": layers, "context_length": 64, "embedding_length": dim, "feed_forward_length": dim, "attention.head_count": heads,
        "attention.head_count_kv": kv_heads, "attention.key_length": head_dim, "attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 10000.0,
    }  # fmt: skip
    keys = [Key(b"general.architecture", _STRING, architecture.encode()), Key(b"general.alignment", _U32, 32)]
    keys += [_key(f"{architecture}.{name}", value) for name, value in numbers.items()]
    keys += [_key(name, value) for name, value in vocabulary.items()]
    keys.append(_key("tokenizer.chat_template", _TEMPLATE))
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (dim, words), "output_norm.weight": (dim,)}
    for layer in range(layers):
        block = {"attn_q": (dim, dim), "attn_k": (dim, kv_heads * head_dim), "attn_v": (dim, kv_heads * head_dim), "attn_output": (dim, dim)}
        block |= {name: (dim, dim) for name in ("ffn_gate", "ffn_up", "ffn_down")}
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in block.items()}
        shapes |= {f"blk.{layer}.{name}.weight": (dim,) for name in ("attn_norm", "ffn_norm")}
        if architecture == "qwen2":
            shapes |= {f"blk.{layer}.{name}.bias": (size,) for name, size in (("attn_q", dim), ("attn_k", kv_heads * head_dim), ("attn_v", kv_heads * head_dim))}
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
    size, width = _FORMATS[kind]
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
        return _BOOL, int(value)
    if isinstance(value, int):
        return _U32, value
    if isinstance(value, float):
        return _F32, value
    if isinstance(value, str):
        return _STRING, value.encode()
    kind = _I32 if value and isinstance(value[0], int) else _typed(value[0])[0] if value else _STRING
    return _ARRAY, (kind, [item.encode() if isinstance(item, str) else item for item in value])


def sound(place: Path) -> None:
    """A model that opens."""
    (place / "model.gguf").write_bytes(_packed(_sources()[0]))


def write(rng: Random, place: Path) -> None:
    """A model that is damaged, or that claims what is not so."""
    source = rng.choice((*_sources()[:4], *_sources()))
    file = File(list(source.keys), list(source.tensors), source.data)
    if rng.random() < 0.3:
        data = _packed(file)
        data = damaged(rng, data, within=rng.choice((64, 1200, len(data) - len(file.data), None)))
    else:
        for _ in range(rng.choice((1, 1, 2, 4))):
            file = rng.choice((_other_key, _other_key, _other_vocabulary, _other_vocabulary, _other_tensor, _other_tensor, _other_weights))(rng, file)
        data = _packed(file, rng)
    (place / "model.gguf").write_bytes(data)


def _other_key(rng: Random, file: File) -> File:
    keys = list(file.keys)
    at = rng.randrange(len(keys))
    key = keys[at]
    number = rng.choice((0, 1, 2, 3, 5, 31, 33, 64, 10**6, -1, *EXTREMES))
    match rng.randrange(8):
        case 0:
            del keys[at]
        case 1:
            keys.append(key)
        case 2 | 3:
            kind = rng.choice(list(_BITS))
            keys[at] = Key(key.name, kind, number)
        case 4:
            keys[at] = Key(key.name, rng.choice((_F32, _F64)), rng.choice((0.0, -1.0, 1e-45, 1e38, float("nan"), float("inf"), -float("inf"), 0.5)))
        case 5:
            keys[at] = Key(key.name, _STRING, rng.choice((b"", b"\xff\xfe", b"\x00", b"llama", b"none", b"a" * 100_000, b"\x1b]52;c;YQ==\x07", b"gpt2", b"yarn")))
        case 6:
            keys[at] = Key(key.name, _ARRAY, rng.choice(((_U32, []), (_U32, [1, 2]), (_STRING, [b"a"]), (_F32, [float("nan")]), (_ARRAY, [(_ARRAY, [(_U8, [1])])] * 2))))
        case _:
            name = rng.choice(("rope.scaling.type", "rope.scaling.factor", "attention.sliding_window", "rope.dimension_count", "expert_count", "attention.value_length"))
            architecture = file.keys[0].value.decode(errors="replace") if isinstance(file.keys[0].value, bytes) else "llama"
            keys.append(Key(f"{architecture}.{name}".encode(), *rng.choice(((_STRING, b"linear"), (_U32, number), (_F32, 0.0), (_F32, float("nan"))))))
            if rng.random() < 0.3:
                keys += [Key(b"split.count", _U16, rng.choice((0, 2, 65535))), Key(b"split.no", _U16, rng.choice((0, 1, 65535)))]
    return file._replace(keys=keys)


def _other_vocabulary(rng: Random, file: File) -> File:
    """The tokens, their types, scores and merges, or the template."""
    places = [place for place, key in enumerate(file.keys) if key.name.startswith(b"tokenizer.")]
    if not places:
        return file
    keys, at = list(file.keys), rng.choice(places)
    key = keys[at]
    if key.kind != _ARRAY:
        strange = (b"", b"{{ 9**9**9 }}", b"{{ messages", b"\xff", b"gpt2", b"llama", b"bert", b"deepseek-llm", b"{{ 'a' * 99999 }}", b"x" * 200_000, b"{% for i in range(99999) %}{{ messages }}{% endfor %}")
        value: Any = rng.choice(strange) if key.kind == _STRING else rng.choice((0, 1, 3, 255, 10**6, 2**31, 2**32 - 1))
        keys[at] = Key(key.name, key.kind, value if key.kind == _STRING or key.kind in (_U32,) else value % 2)
        return file._replace(keys=keys)
    kind, items = key.value
    items = list(items)
    for _ in range(rng.choice((1, 1, 3, 50))):
        if not items:
            break
        place = rng.randrange(len(items))
        match rng.randrange(7):
            case 0:
                items[place] = items[rng.randrange(len(items))]
            case 1:
                del items[place]
            case 2:
                items.insert(place, items[place])
            case 3 if rng.random() < 0.1:
                items = items[: rng.choice((0, 1, 3, 100))]
            case 4 if rng.random() < 0.1:
                rng.shuffle(items)
            case _ if kind == _STRING:
                items[place] = rng.choice((b"", b" ", b"\xff\xfe", b"<0x41>", b"<0xZZ>", b"a b c", b"\xe2\x96\x81", b"<unk>", b"\x00", b"a" * 5000, b"<|im_end|>", b"\xc4\xa0 \xc4\xa0"))
            case _:
                items[place] = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, -1)) if kind != _F32 else rng.choice((float("nan"), float("inf"), -1e38, 0.0))
    keys[at] = Key(key.name, _ARRAY, (kind, items))
    return file._replace(keys=keys)


def _other_tensor(rng: Random, file: File) -> File:
    tensors = list(file.tensors)
    if not tensors:
        return file
    at = rng.randrange(len(tensors))
    tensor = tensors[at]
    match rng.randrange(9):
        case 0:
            del tensors[at]
        case 1:
            tensors.append(tensor)
        case 2:
            tensors[at] = tensor._replace(kind=rng.choice((*_FORMATS, 4, 5, 9, 15, 16, 19, 23, 24, 26, 27, 28, 34, 39, 99, 2**32 - 1)))
        case 3:
            tensors[at] = tensor._replace(shape=tuple(rng.choice((0, 1, 16, 31, 32, 33, 64, *EXTREMES)) for _ in range(rng.randrange(6))))
        case 4:
            tensors[at] = tensor._replace(shape=rng.choice((tensor.shape[::-1], (*tensor.shape, 1), (*tensor.shape, 0), tensor.shape[:-1])))
        case 5:
            tensors[at] = tensor._replace(offset=rng.choice((0, 1, 32, tensor.offset + 1, tensor.offset + 32, len(file.data), *EXTREMES)))
        case 6:
            tensors[at] = tensor._replace(offset=rng.choice(tensors).offset)
        case 7:
            names = (b"rope_freqs.weight", b"output.weight", b"blk.99999999999.attn_q.weight", b"", b"a" * 70_000, b"\xff", tensor.name + b"s", b"blk.0.attn_q.bias", b"blk.1.ffn_gate.weight")
            tensors[at if rng.random() < 0.5 else rng.randrange(len(tensors))] = tensor._replace(name=rng.choice(names))
        case _:
            size, _ = _FORMATS.get(tensor.kind, (1, 4))
            tensors[at] = tensor._replace(shape=(tensor.shape[0] + rng.choice((-size, size, 1)), *tensor.shape[1:]))
    return file._replace(tensors=tensors)


def _other_weights(rng: Random, file: File) -> File:
    """Numbers that are none, infinite or huge."""
    data = bytearray(file.data)
    if not data:
        return file
    for _ in range(rng.choice((1, 10, 1000))):
        at = rng.randrange(len(data)) & ~3
        data[at : at + 4] = rng.choice((b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\xff\xff", b"\xff\xff\x7f\x7f", b"\x00\x7c\x00\x7c", b"\x01\x00\x00\x00"))
    return file._replace(data=bytes(data) if rng.random() < 0.8 else bytes(data[: rng.randrange(len(data))]))


def _packed(file: File, rng: Random | None = None) -> bytes:
    """The bytes of a file; with dice, now and then with counts that are not so."""
    counts = [3, len(file.tensors), len(file.keys)]
    if rng is not None and rng.random() < 0.08:
        counts[rng.randrange(3)] = rng.choice((0, 1, 2, 4, *EXTREMES))
    head = b"GGUF" + struct.pack("<IQQ", counts[0] % 2**32, counts[1] % 2**64, counts[2] % 2**64)
    head += b"".join(_text(key.name) + struct.pack("<I", key.kind) + _value(key.kind, key.value, rng) for key in file.keys)
    for tensor in file.tensors:
        numbers = [tensor.kind % 2**32, tensor.offset % 2**64]
        shape = [size % 2**64 for size in tensor.shape]
        head += _text(tensor.name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, *numbers)
    return head + bytes(-len(head) % 32) + file.data


def _text(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def _value(kind: int, value: Any, rng: Random | None) -> bytes:
    if kind == _STRING:
        return _text(value)
    if kind == _ARRAY:
        inner, items = value
        count = len(items) if rng is None or rng.random() > 0.01 else rng.choice(EXTREMES)
        return struct.pack("<IQ", inner, count % 2**64) + b"".join(_value(inner, item, rng) for item in items)
    if kind in _BITS:
        bits = _BITS[kind]
        number = int(value) % (1 << bits)
        if kind in (_I8, _I16, _I32, _I64):
            number -= (number >> (bits - 1)) << bits
        return struct.pack(_PACKED[kind], number)
    return struct.pack(_PACKED[kind], value)


def attempt(place: Path) -> None:
    """Open it and let it answer."""
    converse(place / "model.gguf")
