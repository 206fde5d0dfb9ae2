"""A server on 127.0.0.1, below HTTP: it sends a beginning at once, and then a piece again and again until it is closed."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
PACKED = OK + b"Content-Encoding: gzip\r\nContent-Length: 1000000\r\n\r\n"

DRIPS = {
    "silence": (b"", b""),
    "status line": (b"HTTP/1.1 200 O", b"K"),
    "header line": (OK + b"X-Long: ", b"x"),
    "headers": (OK, b"X-More: 1\r\n"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"),
    "body": (OK + b"Content-Length: 1000000\r\n\r\n", b"x"),
    "body of no length": (OK + b"\r\n", b"x"),
    "chunk size": (CHUNKED, b"0"),
    "chunk extension": (CHUNKED + b"1;", b"x"),
    "chunks": (CHUNKED, b"1\r\nx\r\n"),
    "trailer": (CHUNKED + b"1\r\nx\r\n0\r\n", b"X-More: 1\r\n"),
    "packed body": (PACKED + b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", b"\x00\x00\x00\xff\xff"),
}
"""Replies without an end, by the place at which they dawdle: what is sent at once, and what is sent ever after."""


class SlowServer:
    """Attributes: `url`, and the number of `connections` so far."""

    def __init__(self, start: bytes, piece: bytes, every: float) -> None:
        self.start, self.piece, self.every = start, piece, every
        self.over = threading.Event()
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while not self.over.is_set():
            with contextlib.suppress(OSError):
                connection, _ = self._listener.accept()
                self.connections += 1
                self._threads.append(threading.Thread(target=self._answer, args=(connection,)))
                self._threads[-1].start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            connection.recv(1 << 16)
            connection.sendall(self.start)
            while not self.over.wait(self.every):
                connection.sendall(self.piece)

    def close(self) -> None:
        self.over.set()
        with contextlib.suppress(OSError):
            socket.create_connection(self._listener.getsockname()).close()  # wakes the one that accepts
        self._listener.close()
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def slow_server(start: bytes, piece: bytes = b"", every: float = 0.05) -> Iterator[SlowServer]:
    """Run such a server until the block ends; it sends `piece` every so many seconds."""
    server = SlowServer(start, piece, every)
    try:
        yield server
    finally:
        server.close()
