"""Visible stand-ins for characters that would act on the terminal or hide text.

Every character is replaced by exactly one other, so that offsets into the text
stay true. Tabs and line feeds pass.
"""

from __future__ import annotations

import re

BIDI_STAND_IN = "⇄"
INVISIBLE_STAND_IN = "␣"
UNKNOWN_STAND_IN = "�"

_ASCII_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

_JOINING = "\u0600-\u07ff\u0900-\u0fff\u1000-\u109f\u1780-\u17ff\u1820-\u18af"
_COMBINING = (
    "\u0300-\u036f\u0483-\u0489\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
)
_EMOJI = "\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"

# Joiners are real text inside emoji sequences and between letters of joining scripts.
_SUSPECT = re.compile(
    rf"(?P<joined>(?<=[{_EMOJI}\ufe0f])\u200d(?=[{_EMOJI}])|(?<=[{_JOINING}])[\u200c\u200d](?=[{_JOINING}]))"
    r"|(?P<flag>(?<=\U0001f3f4)[\U000e0061-\U000e007a\U000e0030-\U000e0039]{2,6}\U000e007f)"
    rf"|(?P<pile>(?<=[{_COMBINING}]{{6}})[{_COMBINING}])"
    r"|(?P<control>[\x00-\x08\x0b-\x1f\x7f])"
    r"|(?P<bidi>[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069])"
    r"|(?P<invisible>[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2028\u2029\u2060-\u2065"
    r"\u206a-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a])"
    r"|(?P<unknown>[\x80-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\U000e0000-\U0010ffff])"
)


def _control(character: str) -> str:
    return "␡" if character == "\x7f" else chr(0x2400 + ord(character))


def _stand_in(match: re.Match[str]) -> str:
    kind, text = match.lastgroup, match.group()
    if kind in ("joined", "flag"):
        return text
    if kind == "control":
        return _control(text)
    return {"bidi": BIDI_STAND_IN, "invisible": INVISIBLE_STAND_IN}.get(kind or "", UNKNOWN_STAND_IN)


def sanitize(text: str) -> str:
    """Make a text safe to draw: no control, direction or hidden character is left.

    Carriage returns before a line feed become a blank; every other control
    character becomes its picture, such as ␛ for escape.

    Returns:
        A text of the same length.
    """
    if "\r\n" in text:
        text = text.replace("\r\n", " \n")
    if text.isascii():
        return _ASCII_CONTROL.sub(lambda match: _control(match.group()), text)
    return _SUSPECT.sub(_stand_in, text)
