"""Damage to bytes: what disks, networks and other people do to a file."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

EXTREMES = (
    0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 1023, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40,
    2**53, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1,
)  # fmt: skip
"""Numbers at which readers stumble."""


def _flip(rng: Random, data: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _overwrite(rng: Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at : at + rng.choice((1, 2, 4, 16))] = rng.choice((b"\x00", b"\xff", b"\x7f", b"\x80")) * rng.choice(
        (1, 4, 16)
    )


def _cut(rng: Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def _drop(rng: Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 2, 7, 64, 1000))]


def _repeat(rng: Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    piece = data[at : at + rng.choice((1, 8, 100, 4000))]
    data[at:at] = piece * rng.choice((1, 2, 30))


def _splice(rng: Random, data: bytearray) -> None:
    at, source = rng.randrange(len(data)), rng.randrange(len(data))
    data[at : at + rng.choice((0, 8, 100))] = data[source : source + rng.choice((8, 100, 1000))]


def _insert(rng: Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at:at] = rng.randbytes(rng.choice((1, 3, 40)))


def _put_number(rng: Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    size = rng.choice((4, 8))
    at -= at % size if rng.random() < 0.5 else 0
    number = rng.choice(EXTREMES) % (1 << 8 * size)
    data[at : at + size] = number.to_bytes(size, rng.choice(("little", "little", "big")))


def _change_nearby(rng: Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at] = (data[at] + rng.choice((-2, -1, 1, 2))) % 256


_KINDS: tuple[Callable[[Random, bytearray], None], ...] = (
    _flip, _overwrite, _cut, _drop, _repeat, _splice, _insert, _put_number, _put_number, _change_nearby,
)  # fmt: skip


def damaged(rng: Random, data: bytes, *, within: int | None = None) -> bytes:
    """The bytes with some damage, all of it among the first `within`."""
    head, tail = bytearray(data[:within]), b"" if within is None else data[within:]
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        if head:
            rng.choice(_KINDS)(rng, head)
    return bytes(head) + tail


def damaged_text(rng: Random, text: str) -> bytes:
    """A text file's bytes, now and then in another encoding or with bytes that are no text."""
    data = text.encode("utf-8", "surrogatepass")
    match rng.randrange(12):
        case 0:
            return text.encode(rng.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig")), "surrogatepass")
        case 1:
            at = rng.randrange(len(data) + 1)
            return (
                data[:at]
                + rng.choice((b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\x00", b"\xe2\x82", b"\x1a"))
                + data[at:]
            )
        case 2 | 3:
            return damaged(rng, data)
    return data
