"""Model text is data: what would act on a terminal, or hide in a text, is made visible.

Every character is replaced by exactly one other, so that offsets into the text
stay true. Tabs and line feeds pass.
"""

from __future__ import annotations

import re

from llmchat.errors import UsageError

BIDI_STAND_IN = "⇄"
INVISIBLE_STAND_IN = "␣"
UNKNOWN_STAND_IN = "�"

_ASCII_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

_JOINING = "\u0600-\u07ff\u0900-\u0fff\u1000-\u109f\u1780-\u17ff\u1820-\u18af"
_COMBINING = (
    "\u0300-\u036f\u0483-\u0489\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
)
_EMOJI = "\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
_TAGS = "\U000e0061-\U000e007a\U000e0030-\U000e0039"

# Joiners are real text inside emoji sequences and between letters of joining scripts.
_SUSPECT = re.compile(
    rf"(?P<joined>(?<=[{_EMOJI}\ufe0f])\u200d(?=[{_EMOJI}])|(?<=[{_JOINING}])[\u200c\u200d](?=[{_JOINING}]))"
    rf"|(?P<flag>(?<=\U0001f3f4)[{_TAGS}]{{2,6}}\U000e007f)"
    rf"|(?P<pile>(?<=[{_COMBINING}]{{6}})[{_COMBINING}])"
    r"|(?P<control>[\x00-\x08\x0b-\x1f\x7f])"
    r"|(?P<bidi>[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069])"
    r"|(?P<invisible>[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2028\u2029\u2060-\u2065"
    r"\u206a-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a])"
    r"|(?P<unknown>[\x80-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\U000e0000-\U0010ffff])"
)

_UNDECIDED = re.compile(rf"(?:\r|[\u200c\u200d]|(?<=\U0001f3f4)[{_TAGS}]{{1,6}})\Z")
"""The end of a text that only what follows can judge."""

_CONTEXT = 6
"""How many characters before one can have a say in what becomes of it."""


def visible(text: str) -> str:
    """Make a text safe to show: no control, direction or hidden character is left.

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


def escaped(text: str) -> str:
    """JSON in which each character that is not safe to show stands as its escape there: u001b for escape."""
    return "".join(
        given if given == shown else _json_escape(given) for given, shown in zip(text, visible(text), strict=True)
    )


class VisibleStream:
    """`visible` for a text that comes in pieces: however it is cut, the same characters come out."""

    def __init__(self) -> None:
        self._before = ""
        self._held = ""

    def add(self, text: str) -> str:
        """What of the text is certain now; a character whose neighbour is still to come waits for it."""
        if not text:
            return ""
        text, self._held = self._held + text, ""
        if undecided := _UNDECIDED.search(self._before + text):
            self._held = undecided.group()
            text = text[: len(text) - len(self._held)]
        before, self._before = self._before, (self._before + text)[-_CONTEXT:]
        return visible(before + text)[len(before) :]

    def finish(self) -> str:
        """What was still waiting."""
        held, self._held = self._held, ""
        return visible(self._before + held)[len(self._before) :]


def checked_text(text: str, source: str) -> str:
    """Return a text that a person gave, if it is one.

    Args:
        text: What was given.
        source: Where it comes from, to begin the message: "The prompt", "The system prompt".

    Raises:
        UsageError: It holds zero bytes or bytes that are no UTF-8.
    """
    if "\0" in text:
        raise UsageError(f"{source} is no text: it holds a zero byte. Give UTF-8 text.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{source} is not UTF-8 text. Convert it, or check the terminal's language settings."
        ) from None
    return text


def _control(character: str) -> str:
    return "␡" if character == "\x7f" else chr(0x2400 + ord(character))


def _json_escape(character: str) -> str:
    digits = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{digits[at : at + 4]}" for at in range(0, len(digits), 4))


def _stand_in(match: re.Match[str]) -> str:
    kind, text = match.lastgroup, match.group()
    if kind in ("joined", "flag"):
        return text
    if kind == "control":
        return _control(text)
    return {"bidi": BIDI_STAND_IN, "invisible": INVISIBLE_STAND_IN}.get(kind or "", UNKNOWN_STAND_IN)
