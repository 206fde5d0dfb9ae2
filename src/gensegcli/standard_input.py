"""What stands on standard input (`-`): questions as JSONL, paths of pictures, or one picture."""

from __future__ import annotations

import codecs
import io
import sys
from enum import Enum
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO

from gensegcli.errors import ExitCode, GensegError

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "-"
MAX_PICTURE_BYTES = 1 << 30
"""Longest picture that is read from standard input."""

_FIRST = 1 << 16
"""Bytes of the first line that are looked at."""
_PICTURES = (b"GIF8", b"RIFF", b"\x89PNG", b"\xff\xd8\xff")
_NETPBM = frozenset({b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"})


class Form(Enum):
    """What is on standard input."""

    NOTHING = "nothing"
    ROWS = "JSONL"
    PATHS = "paths"
    PICTURE = "picture"


class StandardInput:
    """A stream whose form is told by its first line; nothing more is read before it is asked for."""

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._given = stream
        self._begun: bytes | None = None
        self._form: Form | None = None
        self._picture: bytes | None = None

    @property
    def _stream(self) -> BinaryIO:
        return sys.stdin.buffer if self._given is None else self._given

    @property
    def typed(self) -> bool:
        """Whether a person sits at the other end."""
        return self._stream.isatty()

    @property
    def form(self) -> Form:
        """What the stream holds; waits for its first line.

        Raises:
            GensegError: text that is not UTF-8, or a JSON list where lines are expected.
        """
        if self._form is None:
            self._begun = self._first_line()
            self._form = _form(self._begun)
        return self._form

    @property
    def first(self) -> str:
        """The first line, without blanks around it."""
        assert self.form is not Form.PICTURE
        return (self._begun or b"").removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace").strip()

    def picture(self) -> bytes:
        """The picture.

        Raises:
            GensegError: it has no end.
        """
        assert self.form is Form.PICTURE
        if self._picture is None:
            begun = self._begun or b""
            self._picture = begun + self._stream.read(MAX_PICTURE_BYTES - len(begun) + 1)
            if len(self._picture) > MAX_PICTURE_BYTES:
                raise GensegError(f"standard input: more than {MAX_PICTURE_BYTES >> 30} GiB, expected a picture")
        return self._picture

    def lines(self) -> Iterator[bytes]:
        """The lines, as they come."""
        assert self.form is not Form.PICTURE
        begun = self._begun or b""
        if begun and not begun.endswith(b"\n"):
            begun += self._stream.readline()
        return chain(io.BytesIO(begun), self._stream)

    def _first_line(self) -> bytes:
        """Everything up to the end of the first line that is not blank, or as much of it as is looked at."""
        begun = b""
        while len(begun) < _FIRST:
            line = self._stream.readline(_FIRST)
            begun += line
            if not line or line.strip():
                break
        return begun


def _form(begun: bytes) -> Form:
    text = begun.removeprefix(codecs.BOM_UTF8).strip()
    if not text:
        return Form.NOTHING
    if text.startswith((b"{", b'"')):
        return Form.ROWS
    if begun.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise GensegError("standard input: UTF-16, expected UTF-8", hint="write it as UTF-8")
    if b"\0" in begun or begun.startswith(_PICTURES) or text in _NETPBM or not _is_text(begun):
        return Form.PICTURE
    if text.startswith(b"["):
        raise GensegError(
            "standard input: a JSON list, expected one object on each line (JSONL)",
            hint="jq -c '.[]' makes lines of it",
        )
    return Form.PATHS


def _is_text(begun: bytes) -> bool:
    try:
        # The last character may have been cut.
        codecs.getincrementaldecoder("utf-8")().decode(begun)
    except UnicodeDecodeError:
        return False
    return True


def no_question(what: str) -> GensegError:
    """The error for a picture or paths without an expression."""
    return GensegError(
        f"standard input: {what}, and no expression was given",
        hint='say what to find: genseg predict - "the red cup"; JSONL lines bring their own query',
        code=ExitCode.USAGE,
    )
