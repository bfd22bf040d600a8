"""Models that are asked for by an address: a GGUF file anywhere, fetched once and kept under its address."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from llmchat import paths
from llmchat.chat.amounts import memory_words, size_words
from llmchat.errors import FetchQuestionError, ModelLoadError, UsageError
from llmchat.files import write_text
from llmchat.stores.abandoned import Progress, leave_on_cancel
from llmchat.stores.download import CutShortError, download
from llmchat.stores.hub_errors import KEPT, disk_words, room_words
from llmchat.stores.meter import Meter
from llmchat.stores.stored_model import StoredModel, read_json

SIGN = "address"
STORE = "an address"
_FIRST_PART = re.compile(r"-00001-of-(\d{5})\.gguf$", re.IGNORECASE)
_SAFE_NAME = re.compile(r"[^\w.+-]", re.ASCII)
_MOST_PARTS = 999
_NOTE = "address.json"
_MAGIC = b"GGUF"


@dataclass(frozen=True, slots=True)
class _Remote:
    """A file at an address, as its server describes it."""

    address: str
    size: int | None
    version: str
    """Changes with the file; "" where the server does not say."""
    path: Path
    """Where it will lie."""

    @property
    def part(self) -> Path:
        """Where its bytes gather; those of another version lie elsewhere."""
        sign = hashlib.sha256(f"{self.version} {self.size}".encode()).hexdigest()[:12]
        return self.path.with_name(f"{self.path.name}.{sign}.incomplete")

    @property
    def is_here(self) -> bool:
        """Whether it lies there already, by its size."""
        return self.path.is_file() and self.size in (None, self.path.stat().st_size)


def fetch_address(
    address: str, progress: Progress, cancel: threading.Event, *, may_fetch: int | None = None, anew: bool = False
) -> Path:
    """Make sure that the GGUF file of an address is on this machine; of one in several parts, all of them.

    Args:
        address: Where the file is, or its first part.
        progress: Told what is being done and how far it is.
        cancel: Set, from any thread, to give up.
        may_fetch: Bytes that may be fetched without asking; None is any number.
        anew: Ask whether it has changed, and not only for what is missing.

    Returns:
        The file, or its first part.

    Raises:
        FetchQuestionError: More than `may_fetch` bytes would be fetched.
        ModelLoadError: It is no GGUF file, it could not be fetched, or it was given up; what has come is kept.
    """
    address = address.strip()
    found = [_path_of(part) for part in _parts(address)]
    if not anew and all(path.is_file() for path in found):
        return found[0]

    def work(report: Progress) -> Path:
        with _explained(address):
            return _fetch(address, report, cancel, may_fetch)

    return leave_on_cancel(work, progress, cancel, lambda: ModelLoadError(f"Fetching {address} was stopped. {KEPT}"))


def models() -> list[StoredModel]:
    """What was fetched from addresses."""
    found = []
    with contextlib.suppress(OSError):
        for note in sorted(_root().glob(f"*/{_NOTE}")):
            match read_json(note):
                case {"address": str(address)} if all(_path_of(part).is_file() for part in _parts(address)):
                    files = [_path_of(part) for part in _parts(address)]
                    size = sum(path.stat().st_size for path in files)
                    found.append(StoredModel(address, files[0], size, STORE, SIGN))
    return found


def _root() -> Path:
    return paths.models_dir() / "addresses"


def _parts(address: str) -> list[str]:
    """The addresses of all parts of a split file; the address itself of any other."""
    url = urlsplit(address)
    split = _FIRST_PART.search(url.path)
    if split is None or not 0 < int(split[1]) <= _MOST_PARTS:
        return [address]
    stem = url.path[: split.start()]
    names = (f"{stem}-{number:05}-of-{split[1]}.gguf" for number in range(1, int(split[1]) + 1))
    return [url._replace(path=name).geturl() for name in names]


def _path_of(address: str) -> Path:
    """Where the file of an address is kept: parts of one file beside each other."""
    url = urlsplit(address)
    name = _SAFE_NAME.sub("_", unquote(url.path.rpartition("/")[2]))[-150:]
    where = url._replace(path=url.path.rpartition("/")[0] + re.sub(r"-\d{5}-of-", "-of-", name), fragment="").geturl()
    return _root() / hashlib.sha256(where.encode()).hexdigest()[:16] / (name or "model.gguf")


def _fetch(address: str, progress: Progress, cancel: threading.Event, may_fetch: int | None) -> Path:
    progress(f"fetching {address}: looking it up", None)
    remotes = [_ask(part) for part in _parts(address)]
    missing = [remote for remote in remotes if not remote.is_here or _noted(remote) != remote.version]
    to_fetch = sum(remote.size or 0 for remote in missing)
    if may_fetch is not None and to_fetch > may_fetch:
        raise FetchQuestionError(remotes[0].path.stem, _question(address, to_fetch, remotes))
    folder = paths.ensure(remotes[0].path.parent)
    if shutil.disk_usage(folder).free < to_fetch:
        raise ModelLoadError(room_words(address, to_fetch, folder))
    meter = Meter(remotes[0].path.name, None if any(r.size is None for r in missing) else to_fetch, progress)
    for remote in missing:
        download(remote.address, remote.part, size=remote.size, headers={}, meter=meter, cancel=cancel)
        os.replace(remote.part, remote.path)
    versions = {remote.path.name: remote.version for remote in remotes}
    write_text(folder / _NOTE, json.dumps({"address": address, "versions": versions}))
    return remotes[0].path


def _noted(remote: _Remote) -> str | None:
    match read_json(remote.path.parent / _NOTE):
        case {"versions": {**versions}} if isinstance(version := versions.get(remote.path.name), str):
            return version
    return None


def _ask(address: str) -> _Remote:
    """What a server says of a file, and that it begins as a GGUF file does.

    Raises:
        ModelLoadError: It is another file.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session, hf_raise_for_status

    headers = {"Range": "bytes=0-3", "Accept-Encoding": "identity"}
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", address, headers=headers, timeout=timeout, follow_redirects=True) as response:
        hf_raise_for_status(response)
        begin = next(response.iter_bytes(len(_MAGIC)), b"")
        kind = response.headers.get("Content-Type", "").partition(";")[0]
        whole = response.headers.get("Content-Range", "").rpartition("/")[2]
        if response.status_code != 206:
            whole = response.headers.get("Content-Length", "")
        version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    if begin != _MAGIC:
        page = "a web page" if "html" in kind else "no GGUF file"
        raise ModelLoadError(f"{address} is {page}: give the address of the .gguf file itself, or a name of the hub.")
    return _Remote(address, int(whole) if whole.isdecimal() else None, version, _path_of(address))


def _question(address: str, to_fetch: int, remotes: list[_Remote]) -> str:
    memory = memory_words(sum(remote.size or 0 for remote in remotes))
    return (
        f"{address} is not on this machine: {size_words(to_fetch)} are to be fetched. "
        f"It will need about {memory} of memory."
    )


@contextlib.contextmanager
def _explained(address: str) -> Iterator[None]:
    """Turn what goes wrong on the way into a ModelLoadError."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled:
        raise ModelLoadError(f"{address} is not on this machine, and HF_HUB_OFFLINE forbids to fetch it.") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        what = "There is nothing at" if status in (404, 410) else f"The server answers with the error {status} for"
        raise ModelLoadError(f"{what} {address}. Open it in a browser to see what is there.") from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise ModelLoadError(f"{address} cannot be reached: check the address and the network. {KEPT}") from error
    except CutShortError as error:
        raise ModelLoadError(f"The connection to {address} broke off: {error}. {KEPT}") from error
    except UsageError as error:
        raise ModelLoadError(error.message) from error
    except OSError as error:
        raise ModelLoadError(disk_words(address, error)) from error
