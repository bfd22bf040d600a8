"""Model text is data: what could steer a terminal is made visible."""

from __future__ import annotations

import re

# C0 and C1 controls but tab and newline; marks that reorder or hide text; line separators.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")


def visible(text: str) -> str:
    """The text with control characters and direction marks as stand-ins.

    C0 controls become their Unicode pictures (ESC is ␛), others the code in
    angle brackets, such as ⟨U+202E⟩. Newline and tab stay.
    """
    return _STEERING.sub(lambda match: _stand_in(ord(match[0])), text)


def _stand_in(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"
