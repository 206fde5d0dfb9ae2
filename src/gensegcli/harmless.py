"""Texts of others where they are shown: on a terminal, which obeys control characters, and in a spreadsheet."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_JOINERS = "\u200c\u200d"
"""Invisible, and letters of Persian, of Indian scripts and of emoji need them."""

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal does rather than shows, but for the end of a line and the tab: control characters, and those that
reverse the direction of a text. Halves of characters cannot be written at all."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?%?")


def printable(text: str) -> str:
    r"""The text on one line, blanks folded but for an indent, without anything that a terminal would obey.

    >>> printable("a\n b\x1b[2J"), printable("  of  these")
    ('a b\\x1b[2J', '  of these')
    """
    indent = " " * (len(text) - len(text.lstrip(" "))) if text.strip() else ""
    folded = indent + " ".join(text.split())
    if folded.isprintable():
        return folded
    return "".join(c if c.isprintable() or c in _JOINERS else ascii(c)[1:-1] for c in folded)


def visible(text: str) -> str:
    r"""The text with its lines and tabs, without anything else that a terminal would obey.

    A JSON text keeps its meaning: what JSON lets stand in a string is written as JSON writes it.

    >>> visible("\x1b[2J\r\u202e\n"), visible('"\x7f"')
    ('\\x1b[2J\\x0d\\u202e\n', '"\\u007f"')
    """
    return _OBEYED.sub(_code, text)


def _code(found: re.Match[str]) -> str:
    number = ord(found.group())
    return f"\\x{number:02x}" if number < 0x20 else f"\\u{number:04x}"


def csv_row(values: Iterable[Any]) -> list[Any]:
    """The cells of a line of CSV, none of which a spreadsheet takes for a formula; numbers stay numbers.

    >>> csv_row(("=1+1", "-0.5", -0.5, "@SUM(A1)", "a=b"))
    ["'=1+1", '-0.5', -0.5, "'@SUM(A1)", 'a=b']
    """
    return [f"'{value}" if _is_formula(value) else value for value in values]


def _is_formula(value: object) -> bool:
    # The second row are the wide forms, which spreadsheets of East Asia take for the same.
    return (
        isinstance(value, str)
        and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"))
        and not _NUMBER.fullmatch(value)
    )
