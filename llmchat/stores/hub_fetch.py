"""Fetching a model from the hub into the cache that all tools of huggingface_hub share.

The library says what there is, where its cache is and who may read what. The files are brought by us: it would
begin them anew after every interruption, and could neither be stopped nor say how far it is. They come over HTTP;
Xet, the hub's other way to send large files, is not used, as what it has begun cannot be gone on with.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from llmchat.chat.amounts import memory_words, size_words
from llmchat.errors import FetchQuestionError, ModelLoadError
from llmchat.stores.abandoned import Progress, leave_on_cancel
from llmchat.stores.download import Cancelled, download, has_checksum
from llmchat.stores.hub_cache import find_cached, repo_dir
from llmchat.stores.hub_choice import HubChoice, RepoFile, choose
from llmchat.stores.hub_errors import KEPT, explained, room_words
from llmchat.stores.hub_name import HubName
from llmchat.stores.meter import Meter

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

_LIBRARY = "llmchat"
_CHECKSUM = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LONG_TO_READ = 10**8
"""Bytes. It is said when so many are read."""
_SPARE_BYTES = 16 * 2**20
_LOCK_SECONDS = 0.5


def fetch_from_hub(
    name: HubName,
    progress: Progress,
    cancel: threading.Event,
    *,
    may_fetch: int | None = None,
    anew: bool = False,
) -> Path:
    """Make sure that a model of the hub is on this machine; what the cache holds whole is taken without a request.

    Args:
        name: The model.
        progress: Told what is being done and how far it is.
        cancel: Set, from any thread, to give up.
        may_fetch: Bytes that may be fetched without asking; None is any number.
        anew: Look whether the hub has a newer one in any case.

    Returns:
        The file or directory to open.

    Raises:
        FetchQuestionError: More than `may_fetch` bytes would be fetched.
        ModelLoadError: It could not be fetched, or was given up; what has come is kept.
    """
    if not anew and (cached := find_cached(name)) is not None:
        return cached

    def work(report: Progress) -> Path:
        with explained(name):
            return _Fetch(name, report, cancel).run(may_fetch)

    return leave_on_cancel(work, progress, cancel, lambda: ModelLoadError(f"Fetching {name.repo} was stopped. {KEPT}"))


class _Fetch:
    """One model on its way from the hub."""

    def __init__(self, name: HubName, progress: Progress, cancel: threading.Event) -> None:
        self._name = name
        self._progress = progress
        self._cancel = cancel
        self._place = repo_dir(name.repo)

    def run(self, may_fetch: int | None) -> Path:
        """Fetch what is missing; returns what to open."""
        self._progress(f"fetching {self._name.repo}: looking it up", None)
        info = self._look_up()
        choice = choose(_files(info), self._name.wanted, where=self._name.repo)
        commit = str(info.sha)
        snapshot = self._place / "snapshots" / commit
        missing = [file for file in choice.files if not (snapshot / file.path).exists()]
        to_fetch = sum(file.size - self._size_there(file) for file in missing)
        if may_fetch is not None and to_fetch > may_fetch:
            raise FetchQuestionError(self._name.title, _question(self._name, choice, to_fetch))
        self._check_space(to_fetch)
        meter = Meter(self._name.title, choice.size, self._progress)
        meter.have(choice.size - sum(file.size for file in missing))
        for file in missing:
            self._bring(file, commit, meter)
        self._note_revision(commit)
        return snapshot / choice.main

    def _look_up(self) -> ModelInfo:
        from huggingface_hub import HfApi, constants
        from huggingface_hub.utils import logging

        # What the library would say on standard error is told by us.
        logging.set_verbosity(logging.ERROR)
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        api = HfApi(library_name=_LIBRARY)
        info = api.model_info(self._name.repo, revision=self._name.revision, files_metadata=True, timeout=timeout)
        if not re.fullmatch("[0-9a-f]{40}", info.sha or ""):
            raise ModelLoadError(f"{constants.ENDPOINT} does not answer as the hub does: check HF_ENDPOINT.")
        if info.gated:
            # Everybody may see what there is; nobody is to be asked about what they may not fetch.
            api.auth_check(self._name.repo)
        return info

    def _blob(self, file: RepoFile) -> Path:
        return self._place / "blobs" / file.checksum

    def _part(self, file: RepoFile) -> Path:
        return self._place / "blobs" / f"{file.checksum}.incomplete"

    def _size_there(self, file: RepoFile) -> int:
        """How much of a file an earlier time has brought."""
        there = next((path for path in (self._blob(file), self._part(file)) if path.exists()), None)
        return 0 if there is None else min(there.stat().st_size, file.size)

    def _check_space(self, to_fetch: int) -> None:
        place = next(folder for folder in (self._place, *self._place.parents) if folder.exists())
        if to_fetch and shutil.disk_usage(place).free < to_fetch + _SPARE_BYTES:
            raise ModelLoadError(room_words(self._name.repo, to_fetch, place))

    def _bring(self, file: RepoFile, commit: str, meter: Meter) -> None:
        """Bring a file and enter it into the cache as the library does."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers

        part, blob = self._part(file), self._blob(file)
        part.parent.mkdir(parents=True, exist_ok=True)
        with self._alone(file):
            if blob.exists():
                meter.have(file.size)
            else:
                url = hf_hub_url(self._name.repo, file.path, revision=commit)
                headers = build_hf_headers(library_name=_LIBRARY)
                download(url, part, size=file.size, headers=headers, meter=meter, cancel=self._cancel)
                self._verify(part, file)
                os.replace(part, blob)
            self._enter(blob, self._place / "snapshots" / commit / file.path)

    @staticmethod
    def _enter(blob: Path, place: Path) -> None:
        """Let a snapshot have a file: by a link to it, or where there are no links by itself."""
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        try:
            place.symlink_to(os.path.relpath(blob, place.parent))
        except (OSError, NotImplementedError):
            os.replace(blob, place)

    def _verify(self, part: Path, file: RepoFile) -> None:
        if file.size > _LONG_TO_READ:
            self._progress(f"fetching {self._name.title}: verifying it", None)
        if not has_checksum(part, file.checksum, self._cancel):
            part.unlink()
            raise ModelLoadError(
                f"{file.path} of {self._name.repo} came damaged and was thrown away. Ask again to fetch it anew."
            )

    @contextlib.contextmanager
    def _alone(self, file: RepoFile) -> Iterator[None]:
        """Wait until no other program fetches the same file; the library's lock is taken for it."""
        from huggingface_hub.utils import WeakFileLock

        lock = self._place.parent / ".locks" / self._place.name / f"{file.checksum}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(WeakFileLock(lock, timeout=_LOCK_SECONDS))
                    break
                except TimeoutError:
                    self._progress(f"fetching {self._name.title}: waiting for another program that does", None)
                    if self._cancel.is_set():
                        raise Cancelled from None
            yield

    def _note_revision(self, commit: str) -> None:
        """Say where a branch is now that all of it is there: until then, the commit before is the one that opens."""
        if self._name.revision == commit:
            return
        place = self._place / "refs" / self._name.revision
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(commit, encoding="utf-8")


def _files(info: ModelInfo) -> list[RepoFile]:
    """The files of a repository, but for those that could not be verified or whose names lead elsewhere."""
    found = []
    for item in info.siblings or []:
        checksum = str(item.lfs.sha256 if item.lfs is not None else item.blob_id)
        size = item.lfs.size if item.lfs is not None else item.size
        is_inside = not {"", ".", ".."} & set(item.rfilename.split("/")) and "\\" not in item.rfilename
        if _CHECKSUM.fullmatch(checksum) and isinstance(size, int) and size >= 0 and is_inside:
            found.append(RepoFile(item.rfilename, size, checksum))
    return found


def _question(name: HubName, choice: HubChoice, to_fetch: int) -> str:
    """What is to be asked before it is fetched."""
    already = choice.size - to_fetch
    there = f" ({size_words(already)} are here already)" if already > _LONG_TO_READ else ""
    return (
        f"{name.repo} ({choice.words}) is not on this machine: {size_words(to_fetch)} are to be fetched{there}. "
        f"It will need about {memory_words(choice.weights_size)} of memory."
    )
