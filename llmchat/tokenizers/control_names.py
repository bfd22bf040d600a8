"""Tokens that are control tokens by their names, whatever a file calls them."""

from __future__ import annotations

import re
from collections.abc import Sequence

END_PIECES = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "</s>")
"""Control tokens that end a reply wherever they exist, whatever a file declares."""

TURN_PIECES = (
    *END_PIECES, "<|im_start|>", "<|start_header_id|>", "<|end_header_id|>", "<start_of_turn>", "<|begin_of_text|>",
    "<s>", "<bos>", "<eos>", "<pad>",
)  # fmt: skip
"""Control tokens that begin and end texts and turns."""

_BARRED = re.compile(r"<\|[^|<>\s]+\|>|<\uff5c[^\uff5c<>\s]+\uff5c>")
_MOST_NAMED = 3


def looks_like_control(name: str) -> bool:
    """Whether no vocabulary has such a piece but for a control token."""
    return name in TURN_PIECES or _BARRED.fullmatch(name) is not None


def mistyped_notes(names: Sequence[str]) -> tuple[str, ...]:
    """What a person should know of tokens that a file does not call control tokens; nothing if there are none."""
    if not names:
        return ()
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    listed = ", ".join(name[:40] for name in names[:_MOST_NAMED])
    return (f"The model's files do not mark {listed}{more} as control tokens; by their names they are, and so used.",)
