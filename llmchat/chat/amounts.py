"""Bytes and seconds as people say them."""

from __future__ import annotations

ASK_ABOVE = 250 * 10**6
"""Bytes. Whoever can be asked is, before more is fetched from the hub or an address: 250 MB."""
_LOADED = 1.1
_ALWAYS = 100e6


def size_words(size: float) -> str:
    """A number of bytes, such as "98 MB"."""
    if size >= 999.5e6:
        return f"{size / 1e9:.1f} GB"
    if size >= 10**7:
        return f"{size / 1e6:.0f} MB"
    return f"{size / 1e6:.1f} MB" if size >= 10**5 else f"{size / 1e3:.1f} kB"


def memory_words(weights_size: float) -> str:
    """About how much memory a model takes that holds so many bytes of weights, such as "1.2 GB".

    The weights as they are in the file, a tenth for what is computed with a context of some
    thousand tokens, and 100 MB for the program and a vocabulary.
    """
    return f"{(weights_size * _LOADED + _ALWAYS) / 1e9:.1f} GB"


def time_words(seconds: float) -> str:
    """A duration, such as "40 s", "3 min" or "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
