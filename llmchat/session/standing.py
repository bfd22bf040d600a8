"""What holds for every reply and has no slider, so that it is not forgotten."""

from __future__ import annotations

from llmchat.chat.quoting import written
from llmchat.session.session import ChatSession

LONGEST = 32
"""Characters of each text that are shown."""


def standing_words(session: ChatSession) -> list[str]:
    """A few words on each that is active: raw prompts, control tokens by name, system prompt, prefill, stop strings."""
    words = ["raw"] if session.raw else []
    if session.model is not None and session.model.parse_special:
        words.append("control tokens by name")
    if session.system:
        words.append("system left out" if session.is_raw else f"system {_short(session.system)}")
    if session.prefill_text:
        words.append(f"prefill {_short(session.prefill_text)}")
    if told := session.config.template_args:
        words.append("template " + " ".join(told))
    if stops := session.config.stop:
        words.append("stop " + " ".join(map(_short, stops)))
    return words


def _short(text: str) -> str:
    return written(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")
