"""A server on this machine that answers as huggingface.co does where a data set's Parquet files are read.

The calls are those of huggingface_hub: what a set is (`/api/datasets/NAME`), what files it has (`…/tree/REVISION`,
`…/paths-info/REVISION`), and pieces of a file (`/datasets/NAME/resolve/REVISION/PATH` with `Range`).
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONVERTED = "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0"
"""The commit of the branch into which the hub converts sets of other formats."""


@dataclass
class Hub:
    """The data sets of the server, how it misbehaves, and what it was asked."""

    sets: dict[str, dict[str, bytes]]
    """Name → path → content."""
    converted: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """The same for the branch `refs/convert/parquet`."""
    commit: str = COMMIT
    endpoint: str = ""
    cut: int = 0
    """The next so many pieces of files end after half of their bytes, as when a connection breaks."""
    busy: int = 0
    """The next so many pieces of files are refused with 503."""
    lost_after: int | None = None
    """So many pieces of files are given, then none: as when a set is taken back while it is read."""
    asked: list[str] = field(default_factory=list)
    """Method and path of every request."""
    tokens: set[str] = field(default_factory=set)
    pieces: Counter[str] = field(default_factory=Counter)
    """Path → pieces of it that were given whole."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def spoils(self, fault: str) -> bool:
        """Whether this request is one of those to misbehave on."""
        with self.lock:
            left = getattr(self, fault)
            setattr(self, fault, max(0, left - 1))
        return left > 0


@contextmanager
def serving(sets: dict[str, dict[str, bytes]]) -> Iterator[Hub]:
    """The hub at a free port of 127.0.0.1 for as long as the block runs."""
    hub = Hub(sets)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, body: bytes = b"") -> None:
        path = unquote(self.path.partition("?")[0])
        with self.hub.lock:
            self.hub.asked.append(f"{self.command} {path}")
            if "Authorization" in self.headers:
                self.hub.tokens.add(self.headers["Authorization"].removeprefix("Bearer "))
        if found := re.fullmatch(r"/datasets/(\w[\w.-]*/\w[\w.+-]*)/resolve/([^/]+)/(.+)", path):
            self._file(found[1], found[2], found[3])
        elif found := re.fullmatch(r"/api/datasets/(\w[\w.-]*/\w[\w.+-]*)(?:/(revision|tree|paths-info)/(.+))?", path):
            self._about(found[1], found[2], found[3] or self.hub.commit, body)
        else:
            self._error(404, "EntryNotFound")

    def _about(self, name: str, what: str | None, revision: str, body: bytes) -> None:
        sha = CONVERTED if revision.startswith(("refs/convert/parquet", CONVERTED)) else self.hub.commit
        files = self._files(name, sha)
        if files is None:
            # What the hub says of a set that is not there, and of one that is private: it does not tell them apart.
            missing = (404, "RevisionNotFound") if sha == CONVERTED else (401, "RepoNotFound")
            self._error(*missing)
        elif revision.partition("/")[0] not in (sha, "main", "refs"):
            self._error(404, "RevisionNotFound")
        elif what in (None, "revision"):
            siblings = [{"rfilename": path} for path in files]
            self._json({"id": name, "sha": sha, "private": False, "tags": [], "siblings": siblings, "downloads": 0})
        elif what == "tree":
            below = f"{revision.partition('/')[2]}/".removeprefix("/")
            self._json([_entry(path, content) for path, content in files.items() if path.startswith(below)])
        else:
            wanted = json.loads(body)["paths"]
            self._json([_entry(path, files[path]) for path in wanted if path in files])

    def _files(self, name: str, revision: str) -> dict[str, bytes] | None:
        return (self.hub.converted if revision == CONVERTED else self.hub.sets).get(name)

    def _file(self, name: str, revision: str, path: str) -> None:
        content = (self._files(name, revision) or {}).get(path)
        with self.hub.lock:
            lost = self.hub.lost_after is not None and sum(self.hub.pieces.values()) >= self.hub.lost_after
        if content is None or lost:
            self._error(404, "EntryNotFound")
            return
        if self.hub.spoils("busy"):
            self._error(503, "")
            return
        first, last = 0, len(content) - 1
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(found[1]), min(last, int(found[2] or last))
        piece = content[first : last + 1]
        headers = {"ETag": f'"{COMMIT}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if "Range" in self.headers:
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        if self.hub.spoils("cut"):
            self._send(206, piece[: len(piece) // 2], headers, length=len(piece))
            self.close_connection = True
            return
        with self.hub.lock:
            self.hub.pieces[path] += 1
        self._send(206 if "Range" in self.headers else 200, piece, headers)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": "no"} if code else {})

    def _send(self, status: int, body: bytes, headers: dict[str, str], length: int | None = None) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _entry(path: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(content), "oid": COMMIT}
