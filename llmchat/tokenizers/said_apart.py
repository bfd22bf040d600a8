"""What is said, kept apart from what a chat template writes around it.

A person may say "<|im_end|>"; only the template may mean it. So, before a text
goes into the template, a joint, which is a character that occurs nowhere else, is
put into every place in it where the name of a control token could begin or end.
What is found in the rendered text, joints included, is the template's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain

_JOINTS = tuple(map(chr, chain([0x7F], range(0xE000, 0xF900), range(0xF0000, 0xFFFFE))))
"""No blanks and no letters, so that trimming and capitals go by; the first is one that JSON writes as it is."""


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
        lettered = [name for name in known if name not in set(signed)]
        self._names = known
        self._longest = max(map(len, known), default=0)
        self._firsts = sorted({name[0] for name in signed})
        self._lasts = sorted({name[-1] for name in signed})
        self._lettered = _any_of(lettered) if lettered else None
        self._any_name = _any_of(known)
        self._kept = sorted((text for text in set(kept) if self._may_keep(text)), key=len, reverse=True)
        self._template = template

    def joint_for(self, texts: Sequence[str]) -> str:
        """A character that is in none of the texts and not in the template."""
        return next(
            (one for one in _JOINTS if one not in self._template and not any(one in text for text in texts)),
            _JOINTS[0],
        )

    def apart(self, text: str, joint: str) -> str:
        """The text with joints."""
        kept = [one for one in self._kept if one in text]
        if kept:
            parts = _any_of(kept).split(text)
            parts[::2] = (self._jointed(part, joint) for part in parts[::2])
            text = "".join(parts)
        else:
            text = self._jointed(text, joint)
        core = text.strip()
        if 0 < len(core) <= self._longest and any(core in name for name in self._names):
            at = text.index(core) + len(core)
            return text[:at] + joint + text[at:]
        return text

    def is_plain(self, text: str, joint: str) -> bool:
        """Whether a rendered text has the same control tokens without its joints: nobody said any."""
        if joint not in text:
            return True
        found = [part.replace(joint, "") for part in self._any_name.split(text)]
        return found == self._any_name.split(text.replace(joint, ""))

    def _jointed(self, text: str, joint: str) -> str:
        for first in self._firsts:
            text = text.replace(first, first + joint)
        for last in self._lasts:
            text = text.replace(last, joint + last)
        if self._lettered is None:
            return text
        return self._lettered.sub(lambda found: found[0][0] + joint + found[0][1:], text)

    def _may_keep(self, text: str) -> bool:
        """Whether a text has signs in it, and none of them is part of a name."""
        has_signs = any(sign in text for sign in chain(self._firsts, self._lasts))
        return has_signs and len(text) > 1 and not any(_overlap(text, name) for name in self._names)


def _is_sign(char: str) -> bool:
    return not char.isalnum() and not char.isspace() and char not in "_\u2581"


def _overlap(text: str, name: str) -> bool:
    """Whether two texts can share characters where both occur."""
    if text in name or name in text:
        return True
    shared = range(1, min(len(text), len(name)))
    return any(text[:size] == name[-size:] or text[-size:] == name[:size] for size in shared)


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Matches any of the texts, as a group; nothing if there are none."""
    # Longer ones first: one may begin with another.
    return re.compile("(" + ("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or "(?!)") + ")")
