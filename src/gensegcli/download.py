"""Bytes behind an http(s) address, within limits of time, size and redirects."""

from __future__ import annotations

import base64
import hashlib
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from contextlib import AbstractContextManager, suppress
from typing import IO, TYPE_CHECKING, Any, Self
from urllib.parse import quote, unquote_to_bytes, urlsplit, urlunsplit

from gensegcli.errors import ExitCode, GensegError

if TYPE_CHECKING:
    from http.client import HTTPMessage

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_CHUNK = 1 << 16
_AGENT = "genseg"
_KEPT = "/?%:@!$&'()*+,;=~-._[]"
"""What stays as it is in path and query: everything the protocol allows there, escapes that are made already included."""

MAX_REDIRECTS = 5


def is_url(text: str) -> bool:
    r"""Whether a text is an address rather than a path; any scheme, so that `ftp://…` is refused and not looked up.

    >>> is_url("https://example.org/a.jpg"), is_url("a.jpg"), is_url(r"C:\a.jpg")
    (True, False, False)
    """
    return _SCHEME.match(text) is not None


def public_form(url: str) -> str:
    """The address for messages: without user, password, query and fragment, any of which may hold a secret.

    >>> public_form("https://me:secret@example.org/a.jpg?signature=abc")
    'https://example.org/a.jpg'
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.split("://", 1)[0] + "://…"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def record_form(url: str) -> str:
    """The address for records and file names: as `public_form`, with a digest in place of the query, if it has one.

    The query itself is not kept: nothing reads it back, since a repeated command brings its addresses along.
    """
    try:
        query = urlsplit(url).query
    except ValueError:
        query = url
    digest = hashlib.sha256(query.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{public_form(url)}?sha256={digest}" if query else public_form(url)


def download(url: str, *, timeout: float = 20.0, max_bytes: int = 100_000_000) -> bytes:
    """The body behind an http or https address.

    Up to five redirects are followed; one that leads to another scheme is refused, and so is one from a public host
    into a private network or to this machine. User and password of the address are sent to its own host only. Names
    and paths with spaces or of other scripts are written as the protocol wants them.

    Args:
        url: the address.
        timeout: seconds for each wait on the network, and three times that for the whole: connecting, redirects,
            headers, body and what follows it, however slowly they come.
        max_bytes: larger bodies are refused, by their announced length or while they arrive.

    Raises:
        GensegError: other scheme, no answer, an error status, too large, too slow, too many redirects.
    """
    name = public_form(url)
    if not _is_http(url):
        raise GensegError(f"{name}: only http and https addresses are read", hint="give local files as plain paths")
    watch = _Watch(3 * timeout)
    try:
        with watch, _opener(watch).open(_request(url), timeout=timeout) as response:
            return _read(response, name, max_bytes)
    except urllib.error.HTTPError as error:
        error.close()
        if 300 <= error.code < 400:
            # The library refuses some schemes before it asks the handler below, with a text that holds the address.
            reason = "scheme" if "is not allowed" in str(error.reason) else str(error.reason)
            answer = _REFUSED.get(reason, f"redirects more than {MAX_REDIRECTS} times or in a circle")
        else:
            answer = f"the server answered {error.code} {http.client.responses.get(error.code, '')}".rstrip()
        raise GensegError(f"{name}: {answer}", code=ExitCode.NOT_FOUND) from None
    except (urllib.error.URLError, TimeoutError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            waited = watch.seconds if watch.expired else timeout
            raise GensegError(f"{name}: no answer within {waited:g} s", code=ExitCode.NOT_FOUND) from None
        raise GensegError(f"{name}: cannot be reached ({reason})", code=ExitCode.NOT_FOUND) from None
    except (http.client.InvalidURL, ValueError):  # their texts quote the address, secrets included
        raise GensegError(f"{name}: cannot be read (not a valid address)", code=ExitCode.NOT_FOUND) from None
    except (OSError, http.client.HTTPException) as error:
        raise GensegError(
            f"{name}: cannot be read ({error or type(error).__name__})", code=ExitCode.NOT_FOUND
        ) from None


def _request(url: str) -> urllib.request.Request:
    """The request for an address as people write it. ValueError: it is none."""
    parts = urlsplit(url)
    user, _, place = parts.netloc.rpartition("@")
    host = place if place.isascii() else place.encode("idna").decode("ascii")
    path, query = (quote(text, safe=_KEPT) for text in (parts.path, parts.query))
    plain = urlunsplit((parts.scheme, host, path, query, ""))
    request = urllib.request.Request(plain, headers={"User-Agent": _AGENT, "Accept": "image/*,*/*;q=0.5"})  # noqa: S310
    if user:
        # Unredirected: whoever is redirected to has no business with it.
        token = base64.b64encode(unquote_to_bytes(user)).decode("ascii")
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


def _is_http(url: str) -> bool:
    return url.split("://", 1)[0].lower() in ("http", "https")


def _read(response: http.client.HTTPResponse, name: str, max_bytes: int) -> bytes:
    announced = _announced(response.headers.get("Content-Length", ""))
    if announced is not None and announced > max_bytes:
        raise _too_large(name, max_bytes)
    body = bytearray()
    while chunk := response.read1(_CHUNK):
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(name, max_bytes)
    if announced is not None and len(body) < announced:
        raise GensegError(f"{name}: the connection ended after {len(body)} of {announced} bytes")
    return bytes(body)


def _announced(length: str) -> float | None:
    """Bytes by the header's text; infinitely many by one of more digits than any file has bytes."""
    if not re.fullmatch("[0-9]+", length):
        return None
    return int(length) if len(length) <= 18 else float("inf")


def _too_large(name: str, max_bytes: int) -> GensegError:
    return GensegError(f"{name}: larger than {max_bytes / 1e6:g} MB", hint="download it yourself and give the file")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects: within http and https, and never from outside to inside."""

    max_redirections = MAX_REDIRECTS

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,  # noqa: ARG002 (the signature of the library)
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not _is_http(newurl):
            raise urllib.error.HTTPError(req.full_url, code, "scheme", headers, fp)
        if not _is_internal(req.full_url) and _is_internal(newurl):
            raise urllib.error.HTTPError(req.full_url, code, "inside", headers, fp)
        fp.close()  # the body of a redirect is nothing to wait for, and may have no end
        return _request(newurl)


_REFUSED = {
    "scheme": "redirects to another scheme than http and https",
    "inside": "redirects from a public host to this machine or a private network",
}
"""What a refused redirect is called, by the reason inside."""


def _is_internal(url: str) -> bool:
    """Whether a host is this machine or in a private network; a name that cannot be looked up here counts as public."""
    host = urlsplit(url).hostname or ""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return False
    addresses = (ipaddress.ip_address(str(text).partition("%")[0]) for text in found)
    return any(not (getattr(address, "ipv4_mapped", None) or address).is_global for address in addresses)


def _opener(watch: _Watch) -> urllib.request.OpenerDirector:
    # Assembled by hand: `build_opener` would bring the handlers of file:, ftp: and data: along.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Handler(watch),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


# ---------------------------------------------------------------- time


class _Watch(AbstractContextManager["_Watch", None]):
    """Closes the connections of a block when its time is up, and then lets the block end with `TimeoutError`.

    The library's time limit is one for each wait: a server that sends a byte now and then, in its headers or between
    the parts of its body, never meets it, and no code of ours runs between the bytes.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.expired = False
        self._deadline = time.monotonic() + seconds
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        # Also after a good end: a body of no announced length ends where its connection does.
        if self.expired and (kind is None or issubclass(kind, Exception)):
            raise TimeoutError from None

    def connect(self, address: tuple[str, int], timeout: float, source: Any) -> socket.socket:
        """As `socket.create_connection`, which gives every address of a name the whole time."""
        failure = OSError("no address")
        for *_, place in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            try:
                found = socket.create_connection((str(place[0]), address[1]), min(timeout, left), source)
            except OSError as error:
                failure = error
            else:
                self.hold(found)
                return found
        raise failure

    def hold(self, connection: socket.socket) -> None:
        """Close this connection, too, when the time is up."""
        with self._lock:
            self._sockets.append(connection)
            if self.expired:
                _shut(connection)

    def _expire(self) -> None:
        with self._lock:
            self.expired = True
            for connection in self._sockets:
                _shut(connection)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # closed by now, or by the server
        # Below TLS, whose own way of ending a connection waits for the other side.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _Handler(urllib.request.HTTPSHandler):
    """Opens http and https over connections that are watched."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._watched(http.client.HTTPConnection), req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._watched(http.client.HTTPSConnection), req, context=ssl.create_default_context())

    http_request = urllib.request.AbstractHTTPHandler.do_request_

    def _watched(self, kind: Any) -> Any:
        watch = self._watch

        class Watched(kind):
            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **options)
                self._create_connection = watch.connect

            def connect(self) -> None:
                super().connect()
                watch.hold(self.sock)  # by now a socket of its own, if it is one under TLS

        return Watched
