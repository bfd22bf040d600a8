"""Files of torch.save: the zip's directory and its tricks, and the pickle, opcode by opcode."""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from random import Random

from tests.hostile.damage import EXTREMES, damaged
from tests.hostile.opened import DATA, converse

_LLMBUILDER = DATA / "llmbuilder-formats"
_FILES = (
    "2.0.0/quant/int8.pt",
    "2.0.0/quant/fp16.pt",
    "2.0.0/quant/bf16.pt",
    "2.0.0/quant/dynamic.pt",
    "2.0.0/save_model/model.pt",
    "1.0.0/optimize/q8_0.pt",
    "1.0.0/simple_transformer/latest.pt",
    "2.0.0/checkpoint_manager/no_config.pt",
)
_TOKENIZER = _LLMBUILDER / "2.0.0" / "tokenizers" / "hf_bpe"
_GLOBALS = (
    b"os system",
    b"builtins eval",
    b"builtins exec",
    b"builtins bytearray",
    b"builtins getattr",
    b"torch.FloatStorage",
    b"torch FloatStorage",
    b"torch QInt8Storage",
    b"torch float32",
    b"collections OrderedDict",
    b"torch Size",
    b"torch device",
    b"torch._utils _rebuild_tensor_v2",
    b"torch._utils _rebuild_parameter",
    b"torch._utils _rebuild_qtensor",
    b"torch.nn.modules.linear Linear",
    b"torch per_tensor_affine",
    b"torch per_channel_affine",
    b"collections Counter",
    b"torch.serialization load",
    b"copyreg _reconstructor",
    b"\xff \xff",
    b"",
    b"a" * 9999 + b" b",
)
_OPCODES = (
    b"(",
    b"0",
    b"1",
    b"2",
    b"N",
    b"\x88",
    b"\x89",
    b"K\x01",
    b"M\xff\xff",
    b"J\xff\xff\xff\x7f",
    b"J\xff\xff\xff\xff",
    b"G\x7f\xf8\x00\x00\x00\x00\x00\x00",
    b"X\x01\x00\x00\x00a",
    b")",
    b"t",
    b"\x85",
    b"\x86",
    b"\x87",
    b"]",
    b"a",
    b"e",
    b"}",
    b"s",
    b"u",
    b"R",
    b"\x81",
    b"b",
    b"Q",
    b"h\x00",
    b"h\x01",
    b"q\xff",
    b"r\xff\xff\xff\xff",
    b"j\xff\xff\xff\xff",
    b"\x94",
    b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x8a\xff" + b"\x7f" * 255,
    b"\x8b\xff\xff\xff\x7f",
    b"X\xff\xff\xff\xff",
    b"B\xff\xff\xff\x7f",
    b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x8f",
    b"\x90",
    b"\x91",
    b"\x92",
    b"\x93",
    b"P0\n",
    b"I99\n",
    b"L" + b"9" * 5000 + b"L\n",
    b"F1e999\n",
    b"S'a'\n",
    b"V\\ud800\n",
    b"p999999999\n",
    b"g0\n",
    b"i os\nsystem\n",
    b"\x82\x01",
    b"\x83\x01\x00",
    b"\x97",
    b"\x98",
    b".",
    b"\x80\x05",
    b"\x80\xff",
    b"c" + b"os\nsystem\n",
)


@dataclass(frozen=True, slots=True)
class Record:
    """An entry of a zip file, with what its headers claim where that is not so."""

    name: bytes
    data: bytes
    checksum: int | None = None
    size: int | None = None
    packed: int | None = None
    method: int = 0
    flags: int = 0
    offset: int | None = None
    extra: bytes = b""


@cache
def _records(name: str) -> tuple[Record, ...]:
    with zipfile.ZipFile(_LLMBUILDER / name) as archive:
        return tuple(Record(entry.filename.encode(), archive.read(entry)) for entry in archive.infolist())


def sound(place: Path) -> None:
    """A checkpoint that opens."""
    (place / "model.pt").write_bytes((_LLMBUILDER / "2.0.0/save_model/model.pt").read_bytes())


def write(rng: Random, place: Path) -> None:
    """A checkpoint whose container, description or weights are not as they should be."""
    name = rng.choice(_FILES)
    match rng.randrange(10):
        case 0 | 1:
            source = (_LLMBUILDER / name).read_bytes()
            tail = rng.random() < 0.5
            data = (
                damaged(rng, source[::-1], within=2000)[::-1]
                if tail
                else damaged(rng, source, within=rng.choice((64, 8000, None)))
            )
        case 2 | 3 | 4:
            data = _zipped(*_tricked(rng, list(_records(name))))
        case 5:
            data = _zipped(_with(_records(name), b"/data/0", partial(damaged, rng)))
        case _:
            data = _zipped(_with(_records(name), b"/data.pkl", partial(_described, rng)))
    (place / "model.pt").write_bytes(data)


def _with(records: Iterable[Record], ending: bytes, change: Callable[[bytes], bytes]) -> list[Record]:
    """The records, the bytes of those with some name changed."""
    return [replace(record, data=change(record.data)) if record.name.endswith(ending) else record for record in records]


def _described(rng: Random, index: bytes) -> bytes:
    """A pickle with opcodes replaced, moved, repeated and invented."""
    if rng.random() < 0.15:
        return damaged(rng, index)
    if rng.random() < 0.1:
        return b"\x80\x02" + b"".join(rng.choice(_OPCODES) for _ in range(rng.choice((3, 30, 300)))) + b"."
    if rng.random() < 0.05:
        count = rng.choice((100, 5000, 1_000_000))
        return (
            b"\x80\x02"
            + rng.choice(
                (
                    b"]" * count + b"a" * (count - 1),
                    b"(" * count,
                    b"}" * count,
                    b")" + b"\x85" * count,
                    b"]q\x00" + b"h\x00h\x00\x86" * count,
                    b"(" + b"K\x01" * count + b"t",
                )
            )
            + b"."
        )
    ops = _split(index)
    for _ in range(rng.choice((1, 1, 2, 4, 20))):
        at = rng.randrange(1, len(ops))
        op = ops[at]
        match rng.randrange(9):
            case 0:
                ops[at] = rng.choice(_OPCODES)
            case 1:
                ops.insert(at, rng.choice(_OPCODES))
            case 2:
                del ops[at]
            case 3:
                ops.insert(at, ops[rng.randrange(1, len(ops))])
            case 4:
                other = rng.randrange(1, len(ops))
                ops[at], ops[other] = ops[other], ops[at]
            case 5 | 6:
                found = [place for place, one in enumerate(ops) if one[:1] in (b"K", b"M", b"J", b"\x8a")]
                ops[rng.choice(found)] = _number(rng)
            case 7:
                found = [place for place, one in enumerate(ops) if one[:1] == b"c"]
                module, _, name = rng.choice(_GLOBALS).partition(b" ")
                ops[rng.choice(found)] = b"c" + module + b"\n" + name + b"\n"
            case _ if op[:1] == b"X":
                text = rng.choice(
                    (
                        b"",
                        b"0",
                        b"model",
                        b"state_dict",
                        b"cpu",
                        b"storage",
                        b"token_embedding.weight",
                        b"\xff",
                        b"blocks.99999999.ln_1.weight",
                        b"a" * 100_000,
                    )
                )
                ops[at] = b"X" + struct.pack("<I", len(text)) + text
    return b"".join(ops)


def _number(rng: Random) -> bytes:
    number = rng.choice((-1, -2, *EXTREMES, 3, 64, 100_000, 10**30, -(10**30), 2**2000))
    if 0 <= number < 256:
        return b"K" + bytes([number])
    data = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data if len(data) < 256 else b"\x8b" + struct.pack("<i", len(data)) + data


def _split(index: bytes) -> list[bytes]:
    """The opcodes of a pickle, each with its argument."""
    places = [place for _, _, place in pickletools.genops(io.BytesIO(index)) if place is not None]
    return [index[start:end] for start, end in zip(places, [*places[1:], len(index)], strict=True)]


def _tricked(rng: Random, records: list[Record]) -> tuple[list[Record], bytes, bytes, int | None]:
    """Records and what goes around them: before, in the comment, and the number that is claimed."""
    before, comment, count = b"", b"", None
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(records))
        record = records[at]
        number = rng.choice(EXTREMES) % 2**32
        match rng.randrange(14):
            case 0:
                records.append(record)
            case 1:
                names = (
                    b"",
                    b"..",
                    b"../../x",
                    b"/etc/passwd",
                    b"\xff\xfe",
                    b"model/data.pkl",
                    record.name + b"\x00",
                    record.name.upper(),
                    b"a/" * 5000 + b"data.pkl",
                    b"model/code/x.py",
                    b"x/constants.pkl",
                    b"data.pkl",
                    b"/data.pkl",
                )
                records[at] = replace(record, name=rng.choice(names))
            case 2:
                records[at] = replace(record, checksum=rng.choice((0, 1, number)))
            case 3:
                records[at] = replace(record, size=number)
            case 4:
                records[at] = replace(record, packed=number)
            case 5:
                records[at] = replace(record, size=number, packed=number)
            case 6:
                method = rng.choice((8, 12, 14, 93, 99, 65535))
                data = zlib.compress(record.data)[2:-4] if method == 8 else record.data
                records[at] = replace(record, data=data, method=method, size=len(record.data))
            case 7:
                records[at] = replace(record, flags=rng.choice((1, 8, 0x20, 0x40, 0x800, 0xFFFF)))
            case 8:
                records[at] = replace(record, offset=rng.choice((0, 1, 30, 64, number)))
            case 9:
                extra = rng.choice(
                    (
                        b"\x01\x00\x10\x00" + b"\xff" * 16,
                        b"\x01\x00\x00\x00",
                        b"\x01\x00\xff\xff",
                        b"\x00" * 3,
                        bytes(60_000),
                        b"\x01\x00\x18\x00" + struct.pack("<QQQ", 2**63, 2**64 - 1, 2**62),
                    )
                )
                records[at] = replace(record, extra=extra, size=2**32 - 1, packed=2**32 - 1)
            case 10:
                before = rng.choice(
                    (b"#!/bin/sh\n", b"PK\x03\x04" * 20, bytes(4000), b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.")
                )
            case 11:
                comment = rng.choice((b"a" * 65535, b"PK\x05\x06" + bytes(18), b"PK\x06\x07" + bytes(16), b"\xff"))
            case 12:
                count = rng.choice((0, 1, 65535, 3))
            case _:
                del records[at]
                if not records:
                    break
    return records, before, comment, count


def _zipped(records: list[Record], before: bytes = b"", comment: bytes = b"", count: int | None = None) -> bytes:
    """A zip file, by hand, since no library writes such ones."""
    body, directory = before, b""
    for record in records:
        checksum = zlib.crc32(record.data) if record.checksum is None else record.checksum
        size = len(record.data) if record.size is None else record.size
        packed = len(record.data) if record.packed is None else record.packed
        offset = len(body) if record.offset is None else record.offset
        common = struct.pack(
            "<HHHHHIIIHH",
            20,
            record.flags,
            record.method,
            0,
            33,
            checksum,
            packed,
            size,
            len(record.name) % 65536,
            len(record.extra),
        )
        body += b"PK\x03\x04" + common + record.name + record.extra + record.data
        directory += (
            b"PK\x01\x02"
            + struct.pack("<H", 20)
            + common
            + struct.pack("<HHHII", 0, 0, 0, 0, offset)
            + record.name
            + record.extra
        )
    total = len(records) if count is None else count
    end = struct.pack("<HHHHIIH", 0, 0, total, total, len(directory), len(body), len(comment))
    return body + directory + b"PK\x05\x06" + end + comment


def attempt(place: Path) -> None:
    """Open it with a tokenizer beside it, and let it answer."""
    converse(place / "model.pt", tokenizer=_TOKENIZER)
