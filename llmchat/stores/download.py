"""Fetching one file over HTTP so that what has come is never fetched again.

The bytes lie in a file of their own until all are there. Cut off, it is gone on with from where it ends, at once
and also at a later start.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from llmchat.stores.meter import Meter

if TYPE_CHECKING:
    import httpx2

_RETRIES = 4
"""So often without a new byte is a connection made again."""
_FIRST_DELAY_SECONDS = 0.5
_PASSING = (408, 429, 500, 502, 503, 504)
"""Answers of a server that may be another one in a moment."""


class Cancelled(Exception):
    """It was given up."""


class CutShortError(OSError):
    """A server ended before the file did, time and again."""


def download(
    url: str,
    part: Path,
    *,
    size: int | None,
    headers: Mapping[str, str],
    meter: Meter,
    cancel: threading.Event,
) -> None:
    """Bring a file to the disk, from where an earlier time left off.

    Args:
        url: Where it is; redirections are followed, and `headers` do not go to another host.
        part: Where its bytes gather; it stays, whatever goes wrong.
        size: Bytes of the whole; None if that is not known.
        headers: For the server.
        meter: Counts what comes.
        cancel: Set to give up.

    Raises:
        Cancelled: It was given up.
        CutShortError: The server sends less than there is.
        httpx2.TransportError: There is no connection, or it was lost and does not come back.
        huggingface_hub.errors.HfHubHTTPError: The server refuses.
        OSError: It cannot be written.
    """
    import httpx2

    meter.have(_size(part))
    in_vain = 0
    while _size(part) != size:
        if size is not None and _size(part) > size:
            _drop(part, meter)
        before, lost = _size(part), None
        try:
            if _receive(url, part, headers, meter, cancel) and size is None:
                return
        except httpx2.TransportError as error:
            lost = error
        if _size(part) == size:
            return
        in_vain = 0 if _size(part) > before else in_vain + 1
        if in_vain > _RETRIES:
            raise lost or CutShortError(f"the server sent {_size(part)} of {size} bytes")
        if cancel.wait(_FIRST_DELAY_SECONDS * 2**in_vain):
            raise Cancelled


def _receive(url: str, part: Path, headers: Mapping[str, str], meter: Meter, cancel: threading.Event) -> bool:
    """Take in what one request brings; whether that was all that the server has."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session, hf_raise_for_status

    have = _size(part)
    # Compressed, the bytes would not be those of the file, and could not be counted from the middle.
    wanted = {**headers, "Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=wanted, timeout=timeout, follow_redirects=True) as response:
        if response.status_code in _PASSING:
            return False
        if response.status_code == 416 or (response.status_code == 206 and not _begins_at(response, have)):
            _drop(part, meter)
            return False
        hf_raise_for_status(response)
        if response.status_code == 200 and have:
            # A server that knows no parts sends all of it again.
            _drop(part, meter)
        with part.open("ab") as file:
            for chunk in response.iter_bytes():
                if cancel.is_set():
                    raise Cancelled
                file.write(chunk)
                meter.add(len(chunk))
    return True


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _drop(part: Path, meter: Meter) -> None:
    """Begin from the beginning."""
    meter.have(-_size(part))
    part.unlink(missing_ok=True)


def _begins_at(response: httpx2.Response, place: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {place}-")


def has_checksum(path: Path, checksum: str, cancel: threading.Event) -> bool:
    """Whether a file is the one that it should be.

    Args:
        path: The file.
        checksum: Its SHA-256, or of 40 digits the SHA-1 that git gives it, in hexadecimal.
        cancel: Set to give up.

    Raises:
        Cancelled: It was given up.
        OSError: It cannot be read.
    """
    is_of_git = len(checksum) == 40
    found = hashlib.sha1(f"blob {_size(path)}\0".encode(), usedforsecurity=False) if is_of_git else hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            if cancel.is_set():
                raise Cancelled
            found.update(block)
    return found.hexdigest() == checksum
