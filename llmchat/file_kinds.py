"""What a file is that is not what was expected, by how it begins and is called: words that say what to do."""

from __future__ import annotations

import re

HEAD_BYTES = 64
"""Of a file's beginning, so much is looked at."""

_PART = re.compile(r"-(\d{1,6})-of-(\d{1,6})(?:\.\w+)?$")
_KINDS = (
    (
        b"version https://git-lfs",
        "is a pointer of Git LFS, not the file itself: run git lfs pull, or download the file",
    ),
    (b"\xff\xfe", "is text in UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "is text in UTF-16: save it as UTF-8"),
    (b"{\0", "is text in UTF-16: save it as UTF-8"),
    (b"\0{", "is text in UTF-16: save it as UTF-8"),
    (b"<!doctype", "is a web page, not the file itself: download the file"),
    (b"<html", "is a web page, not the file itself: download the file"),
    (b"\x1f\x8b", "is compressed: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed: unpack it first"),
    (b"\xfd7zXZ\0", "is compressed: unpack it first"),
    (b"BZh", "is compressed: unpack it first"),
    (b"gguf", "is a GGUF file, which is a model: give it with --model, under a name that ends in .gguf"),
    (b"pk\x03\x04", "is a zip file, as torch.save writes it: give a model of that kind with --model, as a .pt file"),
)


def kind_words(head: bytes) -> str:
    """What a file is that begins so, and what to do, as the rest of a sentence without its stop; "" if unknown."""
    begins = head.lstrip(b" \r\n\t").lower()
    return next((words for magic, words in _KINDS if begins.startswith(magic.lower())), "")


def part_words(name: str) -> str:
    """Which part of a split file one is by its name, as words in brackets; "" if it is none."""
    found = _PART.search(name)
    return f" (by its name part {int(found[1])} of {int(found[2])})" if found else ""
