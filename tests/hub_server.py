"""A hub on this machine: a real server that speaks the hub's protocol, counts what it is asked, and can misbehave."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

NOWHERE = "http://127.0.0.1:9"
"""An endpoint at which nobody answers."""
_SMALL = 1000
"""Bytes. Larger files lie in the large file storage, behind a redirection to another host."""
TOKEN = "hf_right"


@dataclass
class Repo:
    """A repository."""

    files: Mapping[str, bytes]
    is_gated: bool = False
    is_private: bool = False
    commit: str = "a" * 40

    @classmethod
    def of(cls, directory: Path, *names: str, **facts: Any) -> Repo:
        """A repository with the files of a directory, or those of these names."""
        chosen = names or [path.name for path in directory.iterdir() if path.suffix != ".npy"]
        return cls({name: (directory / name).read_bytes() for name in chosen}, **facts)


@dataclass
class Hub:
    """The server's state, for tests to set and to read."""

    repos: dict[str, Repo] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    """What lies at addresses outside the hub."""
    requests: list[str] = field(default_factory=list)
    """Method and path of every request."""
    cut_after: list[int] = field(default_factory=list)
    """After so many bytes each of the next large files is broken off."""
    sent: int = 0
    """Bytes of large files that were sent."""
    begun: list[int] = field(default_factory=list)
    """Where in its file each answer with a large file began."""
    damage: bool = False
    """Whether large files come with a byte that is wrong."""
    knows_parts: bool = True
    status: int = 0
    """What every request is answered with; 0 is what is right."""
    hold: threading.Event | None = None
    """Large files stop after their first half until it is set."""
    tokens_at_storage: list[str] = field(default_factory=list)
    """Tokens that were sent to the host of large files."""
    port: int = 0

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT is to be."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def elsewhere(self) -> str:
        """The same server under the name of another host."""
        return f"http://localhost:{self.port}"


def use_hub(patch: pytest.MonkeyPatch, endpoint: str, home: Path) -> None:
    """Let this process, and programs that it starts, use a hub with a cache of their own and no token."""
    from huggingface_hub import constants

    variables = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub")}
    for name, value in variables.items():
        patch.setenv(name, value)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):
        patch.delenv(name, raising=False)
    # The library reads its variables once.
    values: dict[str, object] = {"ENDPOINT": endpoint, "HF_HUB_CACHE": str(home / "hub"), "HF_HUB_OFFLINE": False}
    values |= {"HF_TOKEN_PATH": str(home / "token"), "HF_HOME": str(home)}
    values |= {"HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}"}
    for constant, held in values.items():
        patch.setattr(constants, constant, held)


@contextlib.contextmanager
def hub_server() -> Iterator[Hub]:
    """A hub that answers until the end."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        if hub.hold is not None:
            hub.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        """The headers of a file."""
        self._answer()

    def do_GET(self) -> None:
        """A file, or what is known of a repository."""
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        """Say nothing."""

    def _answer(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.requests.append(f"{self.command} {path}")
        if hub.status:
            self._refuse(hub.status, "")
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/auth-check", path):
            if self._may_read(found[1]) is not None:
                self._send(200, {}, b"{}")
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._tell(found[1], found[2] or "main")
        elif found := re.fullmatch(r"/storage/([0-9a-f]{64})", path):
            hub.tokens_at_storage += [self.headers["Authorization"]] if self.headers["Authorization"] else []
            self._send_large(self._blobs()[found[1]])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], found[2], found[3])
        elif path in hub.files:
            self._send_large(hub.files[path])
        else:
            self._refuse(404, "")

    def _may_read(self, name: str) -> Repo | None:
        """The repository, after refusing who may not read it."""
        repo, token = self.hub.repos.get(name), self.headers["Authorization"]
        if token not in (None, f"Bearer {TOKEN}", "Bearer hf_other"):
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif repo is None or (repo.is_private and token is None):
            self._refuse(404 if token else 401, "RepoNotFound", "Invalid username or password.")
        elif repo.is_gated and token != f"Bearer {TOKEN}":
            self._refuse(403 if token else 401, "GatedRepo", "Access to this model is restricted.")
        else:
            return repo
        return None

    def _tell(self, name: str, revision: str) -> None:
        # Everybody may read the list of a gated repository's files.
        repo = self.hub.repos.get(name)
        if repo is None or not repo.is_gated:
            repo = self._may_read(name)
        if repo is None:
            return
        if revision not in ("main", repo.commit):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        siblings = [_described(path, data) for path, data in repo.files.items()]
        facts = {"id": name, "modelId": name, "sha": repo.commit, "siblings": siblings}
        body = json.dumps(facts | {"gated": "manual" if repo.is_gated else False}).encode()
        self._send(200, {"Content-Type": "application/json"}, body)

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repo = self._may_read(name)
        if repo is None:
            return
        if path not in repo.files:
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        data, headers = repo.files[path], {"X-Repo-Commit": repo.commit}
        if len(data) <= _SMALL:
            self._send(200, {**headers, "ETag": f'"{_git_sha(data)}"'}, data)
            return
        sha = hashlib.sha256(data).hexdigest()
        linked = {"X-Linked-Etag": f'"{sha}"', "X-Linked-Size": str(len(data)), "X-Xet-Hash": sha}
        location = f"{self.hub.elsewhere}/storage/{sha}"
        self._send(302, {**headers, **linked, "Location": location}, b"")

    def _blobs(self) -> dict[str, bytes]:
        everything = [data for repo in self.hub.repos.values() for data in repo.files.values()]
        return {hashlib.sha256(data).hexdigest(): data for data in everything}

    def _send_large(self, data: bytes) -> None:
        hub, size, begin = self.hub, len(data), 0
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "Content-Type": "application/octet-stream"}
        if data[:1] == b"<":
            headers["Content-Type"] = "text/html; charset=utf-8"
        if hub.damage:
            data = data[:-1] + bytes([data[-1] ^ 1])
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        if wanted and hub.knows_parts:
            begin, end = int(wanted[1]), int(wanted[2] or size - 1)
            if begin >= size:
                self._send(416, {"Content-Range": f"bytes */{size}"}, b"")
                return
            headers["Content-Range"] = f"bytes {begin}-{end}/{size}"
            data = data[begin : end + 1]
        hub.begun += [begin] if self.command == "GET" else []
        self._begin(206 if "Content-Range" in headers else 200, headers, len(data))
        half, hold = len(data) // 2, hub.hold if len(data) > 4 else None
        for piece in (data[:half], data[half:]):
            cut = hub.cut_after[0] if hub.cut_after and len(data) > 4 else None
            if cut is not None and cut <= len(piece):
                hub.cut_after.pop(0)
                self._write(piece[:cut])
                self.close_connection = True
                self.wfile.flush()
                self.connection.shutdown(2)
                return
            self._write(piece)
            if hold is not None:
                hold.wait(60)

    def _write(self, data: bytes) -> None:
        if self.command == "GET":
            # Whoever has them all may ask at once how many they were.
            self.hub.sent += len(data)
            self.wfile.write(data)

    def _refuse(self, status: int, code: str, message: str = "") -> None:
        facts = {"X-Error-Code": code, "X-Error-Message": message}
        self._send(status, {name: value for name, value in facts.items() if value}, b"{}")

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._begin(status, headers, len(body))
        if self.command == "GET":
            self.wfile.write(body)

    def _begin(self, status: int, headers: Mapping[str, str], length: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()


def _described(path: str, data: bytes) -> dict[str, Any]:
    """A file as the hub lists it."""
    facts: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": _git_sha(data)}
    if len(data) > _SMALL:
        facts["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return facts


def _git_sha(data: bytes) -> str:
    """What git calls a file of this content."""
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
