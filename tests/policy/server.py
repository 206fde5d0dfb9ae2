"""A small HTTP server on 127.0.0.1 that answers chat completions as a test tells it to."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Reply = tuple[int, "str | dict[str, Any]"]
HANG_UP: Reply = (0, "")
"""No answer: the connection is closed without a word."""


def completion(*texts: str, finish: str = "stop", **message: Any) -> Reply:
    """A well-formed answer with one choice per text."""
    choices = [
        {"index": i, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
        for i, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 50, "completion_tokens": 7 * len(texts), "total_tokens": 50 + 7 * len(texts)}
    return 200, {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": choices, "usage": usage}


def always(reply: Reply) -> Callable[[dict[str, Any], int], Reply]:
    """An `answer` that is the same for every request."""
    return lambda _body, _number: reply


@dataclass
class Server:
    """What the server was asked, and how it answers.

    Attributes:
        answer: from the body of a request and its number (from 1) to status and body.
        models: what /v1/models lists, by name the owner; None answers 404, a text is sent as it is.
    """

    answer: Callable[[dict[str, Any], int], Reply] = field(default_factory=lambda: always(completion("hello")))
    models: dict[str, str] | str | None = field(default_factory=lambda: {"m": "someone"})
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def list_models(self) -> Reply:
        if self.models is None:
            return 404, {"error": {"message": "no such page"}}
        if isinstance(self.models, str):
            return 200, self.models
        data = [{"id": name, "object": "model", "created": 0, "owned_by": owner} for name, owner in self.models.items()]
        return 200, {"object": "list", "data": data}

    def complete(self, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        with self.lock:
            self.requests.append(body)
            self.headers.append(headers)
            number = len(self.requests)
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return self.answer(body, number)
        finally:
            with self.lock:
                self.under_way -= 1


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Run the server on a free port of 127.0.0.1 until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(server.list_models())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(server.complete(body, {name.lower(): value for name, value in self.headers.items()}))

        def _send(self, reply: Reply) -> None:
            if reply is HANG_UP:
                self.close_connection = True
                return
            status, body = reply
            raw = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            html = isinstance(body, str) and body.startswith("<")
            self.send_header("Content-Type", "text/html" if html else "application/json")
            self.send_header("Content-Length", str(len(raw)))
            # A client whose patience is tested has hung up by now.
            with suppress(BrokenPipeError, ConnectionResetError):
                self.end_headers()
                self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            """Tests read what the server was asked from `Server.requests`."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
