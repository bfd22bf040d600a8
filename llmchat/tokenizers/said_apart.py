"""What is said, kept apart from what a chat template writes around it.

A person may say "<|im_end|>"; only the template may mean it. So, before a text
goes into the template, a joint, which is a character that occurs nowhere else, is
put into every place in it where the name of a control token could begin or end.
What is found in the rendered text, joints included, is the template's own.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from itertools import chain

from llmchat.tokenizers.name_finder import NameFinder

_JOINTS = (range(0x7F, 0x80), range(0xE000, 0xF900), range(0xF0000, 0xFFFFE))
"""No blanks and no letters, so that trimming and capitals go by; the first is one that JSON writes as it is."""

_LONGEST_KEPT = 100


class SaidApart:
    """Puts joints into texts, for one vocabulary and one template.

    Args:
        names: The names of the control tokens.
        kept: Texts that the template looks for in what is said, such as "</think>". They are left
            whole, but for those in which the name of a control token could begin or end.
        template: The template's source.
    """

    def __init__(self, names: Iterable[str], kept: Iterable[str], template: str) -> None:
        known = [name for name in dict.fromkeys(names) if len(name) > 1 and name.strip()]
        # Signs are rare in texts, and no template takes them apart; letters are broken in whole names alone.
        signed = [name for name in known if _is_sign(name[0]) and _is_sign(name[-1])]
        lettered = set(known).difference(signed)
        self._longest = max(map(len, known), default=0)
        self._firsts = sorted({name[0] for name in signed})
        self._lasts = sorted({name[-1] for name in signed})
        self._lettered = NameFinder(lettered)
        self._finder = NameFinder(known)
        self._all_names = "\0".join(known)
        self._by_begin, self._by_end = sorted(known), sorted(name[::-1] for name in known)
        self._kept = sorted((text for text in set(kept) if self._may_keep(text)), key=len, reverse=True)
        self._template = template

    def joint_for(self, texts: Sequence[str]) -> str:
        """A character that is in none of the texts and not in the template."""
        joints = map(chr, chain(*_JOINTS))
        return next(
            (one for one in joints if one not in self._template and not any(one in text for text in texts)),
            chr(_JOINTS[0][0]),
        )

    def apart(self, text: str, joint: str) -> str:
        """The text with joints."""
        kept = [one for one in self._kept if one in text]
        if kept:
            parts = NameFinder(kept).split(text)
            parts[::2] = (self._jointed(part, joint) for part in parts[::2])
            text = "".join(parts)
        else:
            text = self._jointed(text, joint)
        core = text.strip()
        if 0 < len(core) <= self._longest and core in self._all_names:
            at = text.index(core) + len(core)
            return text[:at] + joint + text[at:]
        return text

    def is_plain(self, text: str, joint: str) -> bool:
        """Whether a rendered text has the same control tokens without its joints: nobody said any."""
        if joint not in text:
            return True
        found = [part.replace(joint, "") for part in self._finder.split(text)]
        return found == self._finder.split(text.replace(joint, ""))

    def _jointed(self, text: str, joint: str) -> str:
        for first in self._firsts:
            text = text.replace(first, first + joint)
        for last in self._lasts:
            text = text.replace(last, joint + last)
        parts = self._lettered.split(text)
        parts[1::2] = (name[0] + joint + name[1:] for name in parts[1::2])
        return "".join(parts)

    def _may_keep(self, text: str) -> bool:
        """Whether a text has signs in it, and none of them is part of a name."""
        has_signs = any(sign in text for sign in chain(self._firsts, self._lasts))
        return has_signs and 1 < len(text) <= _LONGEST_KEPT and not self._overlaps(text)

    def _overlaps(self, text: str) -> bool:
        """Whether the text and a name can share characters where both occur."""
        if text in self._all_names or len(self._finder.split(text)) > 1:
            return True
        begins = any(_is_begin(text[at:], self._by_begin) for at in range(1, len(text)))
        return begins or any(_is_begin(text[:at][::-1], self._by_end) for at in range(1, len(text)))


def _is_sign(char: str) -> bool:
    return not char.isalnum() and not char.isspace() and char not in "_\u2581"


def _is_begin(text: str, names: Sequence[str]) -> bool:
    """Whether one of the names, which are sorted, begins with a text."""
    at = bisect.bisect_left(names, text)
    return at < len(names) and names[at].startswith(text)
