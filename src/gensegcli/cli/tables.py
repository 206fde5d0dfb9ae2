"""Tables on standard output: as wide as the terminal they go to, and whole in a pipe; see `gensegcli.columns`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

from gensegcli.columns import columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

USUAL = 80
"""Columns of a terminal that does not say how many it has."""


def table(
    head: Sequence[str], rows: Iterable[Sequence[object]], *, width: int | None = None, spare: Sequence[str] = ()
) -> str:
    """The rows below their headings; on a terminal `width=terminal_width(stream)`.

    Too narrow for it, texts are wrapped at blanks, then the columns in `spare` go (the first one first), then every value
    has a line of its own. No number and no name is ever cut.

    >>> print(table(("name", "ready"), [("sam2", True), ("vllm", None)]), end="")
    name  ready
    sam2  yes
    vllm  -
    """
    return columns(head, [[cell(value) for value in row] for row in rows], width=width, spare=spare)


def terminal_width(stream: TextIO) -> int | None:
    """Columns of the terminal that a stream writes to (`COLUMNS` decides where it is set); None: no terminal."""
    if not stream.isatty():
        return None
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told):
        return int(told)
    try:
        return os.get_terminal_size(stream.fileno()).columns or USUAL
    except OSError:
        return USUAL


def cell(value: object) -> str:
    """A value for people: yes, no, - for nothing, lists with commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None or value == "" else str(value)
