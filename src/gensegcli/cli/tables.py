"""Plain tables: columns as wide as their content, nothing to strip off in a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The rows below their headings, one line each.

    >>> print(table(("name", "ready"), [("sam2", True), ("vllm", None)]), end="")
    name  ready
    sam2  yes
    vllm  -
    """
    lines = [tuple(head), *(tuple(cell(value) for value in row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines)


def cell(value: object) -> str:
    """A value for people: yes, no, - for nothing, lists with commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None or value == "" else str(value)
