"""GGUF files of every kind of claim: counts, types, shapes, offsets, vocabularies; and damaged bytes."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from tests.hostile.damage import EXTREMES, damaged
from tests.hostile.gguf_files import (
    ARRAY,
    BITS,
    F32,
    F64,
    FORMATS,
    STRING,
    U8,
    U16,
    U32,
    File,
    Key,
    packed,
    sources,
)
from tests.hostile.opened import converse


def sound(place: Path) -> None:
    """A model that opens."""
    (place / "model.gguf").write_bytes(packed(sources()[0]))


def write(rng: Random, place: Path) -> None:
    """A model that is damaged, or that claims what is not so."""
    source = rng.choice((*sources()[:4], *sources()))
    file = File(list(source.keys), list(source.tensors), source.data)
    if rng.random() < 0.3:
        data = packed(file)
        data = damaged(rng, data, within=rng.choice((64, 1200, len(data) - len(file.data), None)))
    else:
        for _ in range(rng.choice((1, 1, 2, 4))):
            file = rng.choice(
                (
                    _other_key,
                    _other_key,
                    _other_vocabulary,
                    _other_vocabulary,
                    _other_tensor,
                    _other_tensor,
                    _other_weights,
                )
            )(rng, file)
        data = packed(file, rng)
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
            kind = rng.choice(list(BITS))
            keys[at] = Key(key.name, kind, number)
        case 4:
            keys[at] = Key(
                key.name,
                rng.choice((F32, F64)),
                rng.choice((0.0, -1.0, 1e-45, 1e38, float("nan"), float("inf"), -float("inf"), 0.5)),
            )
        case 5:
            keys[at] = Key(
                key.name,
                STRING,
                rng.choice(
                    (
                        b"",
                        b"\xff\xfe",
                        b"\x00",
                        b"llama",
                        b"none",
                        b"a" * 100_000,
                        b"\x1b]52;c;YQ==\x07",
                        b"gpt2",
                        b"yarn",
                    )
                ),
            )
        case 6:
            keys[at] = Key(
                key.name,
                ARRAY,
                rng.choice(
                    (
                        (U32, []),
                        (U32, [1, 2]),
                        (STRING, [b"a"]),
                        (F32, [float("nan")]),
                        (ARRAY, [(ARRAY, [(U8, [1])])] * 2),
                    )
                ),
            )
        case _:
            name = rng.choice(
                (
                    "rope.scaling.type",
                    "rope.scaling.factor",
                    "attention.sliding_window",
                    "rope.dimension_count",
                    "expert_count",
                    "attention.value_length",
                )
            )
            architecture = (
                file.keys[0].value.decode(errors="replace") if isinstance(file.keys[0].value, bytes) else "llama"
            )
            keys.append(
                Key(
                    f"{architecture}.{name}".encode(),
                    *rng.choice(((STRING, b"linear"), (U32, number), (F32, 0.0), (F32, float("nan")))),
                )
            )
            if rng.random() < 0.3:
                keys += [
                    Key(b"split.count", U16, rng.choice((0, 2, 65535))),
                    Key(b"split.no", U16, rng.choice((0, 1, 65535))),
                ]
    return file._replace(keys=keys)


def _other_vocabulary(rng: Random, file: File) -> File:
    """The tokens, their types, scores and merges, or the template."""
    places = [place for place, key in enumerate(file.keys) if key.name.startswith(b"tokenizer.")]
    if not places:
        return file
    keys, at = list(file.keys), rng.choice(places)
    key = keys[at]
    if key.kind != ARRAY:
        strange = (
            b"",
            b"{{ 9**9**9 }}",
            b"{{ messages",
            b"\xff",
            b"gpt2",
            b"llama",
            b"bert",
            b"deepseek-llm",
            b"{{ 'a' * 99999 }}",
            b"x" * 200_000,
            b"{% for i in range(99999) %}{{ messages }}{% endfor %}",
        )
        value: Any = rng.choice(strange) if key.kind == STRING else rng.choice((0, 1, 3, 255, 10**6, 2**31, 2**32 - 1))
        keys[at] = Key(key.name, key.kind, value if key.kind == STRING or key.kind in (U32,) else value % 2)
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
            case _ if kind == STRING:
                items[place] = rng.choice(
                    (
                        b"",
                        b" ",
                        b"\xff\xfe",
                        b"<0x41>",
                        b"<0xZZ>",
                        b"a b c",
                        b"\xe2\x96\x81",
                        b"<unk>",
                        b"\x00",
                        b"a" * 5000,
                        b"<|im_end|>",
                        b"\xc4\xa0 \xc4\xa0",
                    )
                )
            case _ if kind == F32:
                items[place] = rng.choice((float("nan"), float("inf"), -1e38, 0.0))
            case _ if kind != ARRAY:
                items[place] = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, -1))
    keys[at] = Key(key.name, ARRAY, (kind, items))
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
            tensors[at] = tensor._replace(
                kind=rng.choice((*FORMATS, 4, 5, 9, 15, 16, 19, 23, 24, 26, 27, 28, 34, 39, 99, 2**32 - 1))
            )
        case 3:
            tensors[at] = tensor._replace(
                shape=tuple(rng.choice((0, 1, 16, 31, 32, 33, 64, *EXTREMES)) for _ in range(rng.randrange(6)))
            )
        case 4:
            tensors[at] = tensor._replace(
                shape=rng.choice((tensor.shape[::-1], (*tensor.shape, 1), (*tensor.shape, 0), tensor.shape[:-1]))
            )
        case 5:
            tensors[at] = tensor._replace(
                offset=rng.choice((0, 1, 32, tensor.offset + 1, tensor.offset + 32, len(file.data), *EXTREMES))
            )
        case 6:
            tensors[at] = tensor._replace(offset=rng.choice(tensors).offset)
        case 7:
            names = (
                b"rope_freqs.weight",
                b"output.weight",
                b"blk.99999999999.attn_q.weight",
                b"",
                b"a" * 70_000,
                b"\xff",
                tensor.name + b"s",
                b"blk.0.attn_q.bias",
                b"blk.1.ffn_gate.weight",
            )
            tensors[at if rng.random() < 0.5 else rng.randrange(len(tensors))] = tensor._replace(name=rng.choice(names))
        case _:
            size, _ = FORMATS.get(tensor.kind, (1, 4))
            tensors[at] = tensor._replace(shape=(tensor.shape[0] + rng.choice((-size, size, 1)), *tensor.shape[1:]))
    return file._replace(tensors=tensors)


def _other_weights(rng: Random, file: File) -> File:
    """Numbers that are none, infinite or huge."""
    data = bytearray(file.data)
    if not data:
        return file
    for _ in range(rng.choice((1, 10, 1000))):
        at = rng.randrange(len(data)) & ~3
        data[at : at + 4] = rng.choice(
            (
                b"\x00\x00\xc0\x7f",
                b"\x00\x00\x80\x7f",
                b"\xff\xff\xff\xff",
                b"\xff\xff\x7f\x7f",
                b"\x00\x7c\x00\x7c",
                b"\x01\x00\x00\x00",
            )
        )
    return file._replace(data=bytes(data) if rng.random() < 0.8 else bytes(data[: rng.randrange(len(data))]))


def attempt(place: Path) -> None:
    """Open it and let it answer."""
    converse(place / "model.gguf")
