"""Addresses, against a server on this machine that behaves well, badly, slowly and maliciously."""

from __future__ import annotations

import base64
import contextlib
import io
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from gensegcli.download import download, public_form
from gensegcli.errors import ExitCode, GensegError
from gensegcli.images import read_image
from tests.slow_server import DRIPS, OK, slow_server

if TYPE_CHECKING:
    from collections.abc import Iterator


def _png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (7, 5), "red").save(stream, "PNG")
    return stream.getvalue()


PNG = _png()

PATIENCE = 60.0
"""Seconds that the server plays for: a client that waits for it to end is told from one that does not on any machine."""
OVER = threading.Event()
"""Set when the tests are over, so that nothing waits for the server."""

PLAIN: dict[str, dict[str, Any]] = {
    # The type a server claims is often wrong: the content decides.
    "/a.png": {"status": 200, "body": PNG, "Content-Type": "text/plain"},
    "/page": {"status": 200, "body": b"<html>sign in first</html>", "Content-Type": "image/png"},
    "/once": {"status": 302, "Location": "/a.png"},
    "/file": {"status": 302, "Location": "file:///etc/hostname"},
    "/ftp": {"status": 302, "Location": "ftp://127.0.0.1/a.png"},
    "/announced": {"status": 200, "length": 10**12},
    "/short": {"status": 200, "body": PNG[:30], "length": len(PNG)},
}
"""Answers that need no code, by path."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the signature of the library)
        pass

    def _answer(self, status: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.startswith("http://"):  # asked as a proxy, for whatever host
            target = self.path.partition("?")[2]
            self._answer(302, Location=target) if target else self._answer(200, PNG)
            return
        if path in PLAIN:
            self._answer(**PLAIN[path])
        elif path == "/loop":
            self._answer(302, Location=f"/loop?{time.monotonic_ns()}")
        elif path == "/steps":
            time.sleep(0.25)
            self._answer(302, Location=f"/steps?{time.monotonic_ns()}")
        elif path == "/drawn-out":
            self.send_response(302)
            self.send_header("Location", "/a.png")
            self.end_headers()
            self._drip()
        elif path == "/slow":
            OVER.wait(PATIENCE)
            self._answer(200, PNG)
        elif path == "/endless":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(bytes(3000))
        elif path == "/drip":
            self.send_response(200)
            self.end_headers()
            self._drip()
        else:
            self._answer_what_was_sent(path)

    def _drip(self) -> None:
        """A byte now and then, for as long as anybody could wait."""
        until = time.monotonic() + PATIENCE
        while not OVER.is_set() and time.monotonic() < until:
            self.wfile.write(b"x")
            OVER.wait(0.1)

    def _answer_what_was_sent(self, path: str) -> None:
        """Depends on query and headers."""
        if path == "/%E7%8A%AC%20a.png":
            self._answer(200 if "=%C3%A9%20b" in self.path else 404, PNG)
        elif path == "/private":
            allowed = self.headers["Authorization"] == "Basic " + base64.b64encode(b"me:p@ss").decode()
            self._answer(302 if allowed else 401, Location="/open")
        elif path == "/open":
            self._answer(400 if "Authorization" in self.headers else 200, PNG)
        else:
            self._answer(404)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client has seen enough
            super().handle()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        OVER.clear()
        yield f"http://127.0.0.1:{running.server_port}"
        OVER.set()
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["/a.png", "/once", "/a.png?signature=secret"])
def test_picture_is_read_whatever_type_the_server_claims(server: str, path: str) -> None:
    assert read_image(server + path).size == (7, 5)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/gone", "the server answered 404 Not Found"),
        ("/page", r"not a picture that can be read \(it begins with b'<html>si'\)"),
        ("/loop", "redirects more than 5 times"),
        ("/file", "redirects to another scheme than http and https"),
        ("/ftp", "redirects to another scheme than http and https"),
        ("/announced", "larger than 100 MB"),
        ("/short", r"ended after 30 of|IncompleteRead\(30 bytes read"),
    ],
)
def test_one_line_that_names_the_address(server: str, path: str, words: str) -> None:
    with pytest.raises(GensegError, match=words) as caught:
        read_image(f"{server}{path}")
    assert caught.value.message.startswith(f"{server}{path}")
    assert "\n" not in caught.value.message


def test_bodies_of_unknown_length_are_counted(server: str) -> None:
    with pytest.raises(GensegError, match=r"larger than 0\.002 MB"):
        download(f"{server}/endless", max_bytes=2000)
    assert len(download(f"{server}/endless", max_bytes=3000)) == 3000


@pytest.mark.parametrize("path", ["/slow", "/drip"])
def test_waiting_has_an_end(server: str, path: str) -> None:
    """A server that is silent meets the first limit (0.3 s), one that drips meets the second (0.9 s)."""
    started = time.monotonic()
    with pytest.raises(GensegError, match=r"no answer|timed out|not finished"):
        download(f"{server}{path}", timeout=0.3)
    assert time.monotonic() - started < PATIENCE / 2


@pytest.mark.parametrize("place", [place for place in DRIPS if place != "packed body"])
def test_the_time_limit_is_one_for_the_whole(place: str) -> None:
    """A byte every 0.05 s meets no limit for a single wait, wherever in the answer it stands."""
    with slow_server(*DRIPS[place]) as slow:
        started = time.monotonic()
        with pytest.raises(GensegError) as caught:
            download(f"{slow.url}/a.png", timeout=0.3)
        assert time.monotonic() - started < 3
    answers = {"silence": "no answer within 0.3 s", "early hints": "the server answered 103 Early Hints"}
    assert caught.value.message == f"{slow.url}/a.png: {answers.get(place, 'no answer within 0.9 s')}"
    assert caught.value.code is ExitCode.NOT_FOUND


def test_a_whole_body_that_came_in_time_is_read_though_its_connection_stays_open() -> None:
    with slow_server(OK + f"Content-Length: {len(PNG)}\r\n\r\n".encode() + PNG) as patient:
        assert download(patient.url, timeout=30) == PNG


def test_all_addresses_of_a_name_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may have as many as its owner likes, none of which answers."""
    tried: list[float] = []

    def silent(address: tuple[str, int], timeout: float, source: object = None) -> None:
        tried.append(timeout)
        time.sleep(min(timeout, 0.2))
        raise TimeoutError

    place = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [place] * 1000)
    monkeypatch.setattr(socket, "create_connection", silent)
    with pytest.raises(GensegError, match=r"no answer within 0\.\d s"):
        download("http://many.invalid/a.png", timeout=0.2)
    assert len(tried) <= 4


@pytest.mark.parametrize("digits", [18, 19, 5000])
def test_an_announced_length_may_have_any_number_of_digits(digits: int) -> None:
    with (
        slow_server(OK + b"Content-Length: " + b"9" * digits + b"\r\n\r\n") as vast,
        pytest.raises(GensegError, match="larger than 100 MB"),
    ):
        download(vast.url)


def test_redirects_share_the_time_and_their_bodies_are_not_waited_for(server: str) -> None:
    """Five redirects of 0.25 s each are more than three times 0.3 s; a body that drips for a minute costs nothing."""
    with pytest.raises(GensegError, match="no answer"):
        download(f"{server}/steps", timeout=0.3)
    started = time.monotonic()
    assert download(f"{server}/drawn-out") == PNG
    assert time.monotonic() - started < PATIENCE / 2


def test_addresses_as_people_write_them(server: str) -> None:
    """Spaces and other scripts, in path and query; what is escaped already stays as it is."""
    assert download(f"{server}/犬 a.png?x=é b") == download(f"{server}/%E7%8A%AC%20a.png?x=%C3%A9%20b") == PNG


def test_user_and_password_go_to_their_host_and_no_further(server: str) -> None:
    assert download(server.replace("://", "://me:p%40ss@") + "/private") == PNG
    with pytest.raises(GensegError, match="answered 401") as caught:
        download(server.replace("://", "://me:hunter2@") + "/private")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("target", ["http://127.0.0.1:1/", "http://169.254.169.254/x", "http://[::ffff:10.0.0.1]/"])
def test_a_public_host_does_not_lead_inside(server: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of this test plays a proxy, so that a public address has a host that answers."""
    monkeypatch.setenv("http_proxy", server)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert download("http://93.184.215.14/a?http://93.184.215.15/b") == PNG
    with pytest.raises(GensegError, match="from a public host to this machine or a private network"):
        download(f"http://93.184.215.14/a?{target}")


@pytest.mark.parametrize("tail", [":bad/a.png?token=s3cret", "/a\x7f.png?token=s3cret", ":99999/?token=s3cret"])
def test_no_message_quotes_a_secret(tail: str) -> None:
    with pytest.raises(GensegError, match="cannot be") as caught:
        download(f"http://me:s3cret@127.0.0.1{tail}", timeout=0.5)
    assert "s3cret" not in f"{caught.value.message}{caught.value.hint}"


def test_nobody_there() -> None:
    with pytest.raises(GensegError, match=r"http://127\.0\.0\.1:9/a\.png: cannot be reached") as caught:
        download("http://127.0.0.1:9/a.png?token=secret")
    assert caught.value.code == ExitCode.NOT_FOUND
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/a.png", "file:///etc/hostname", "data://x", "gopher://127.0.0.1/"])
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(GensegError, match="only http and https"):
        read_image(url)


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://127.0.0.1:99999/a", "http://a b/"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(GensegError, match="cannot be"):
        read_image(url)


def test_secrets_stay_out_of_messages() -> None:
    assert public_form("https://u:p@h:8/a/b.png?sig=1#f") == "https://h:8/a/b.png"
    assert public_form("http://[::1") == "http://…"
