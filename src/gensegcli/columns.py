"""Columns of text as wide as the terminal at hand, where nothing is cut.

A table that is too wide has its texts wrapped at blanks; then columns that the caller can spare go; then it is turned,
one line for each value. Numbers, names and paths are never broken: what is wider than a whole line stays whole.
Without a width (a pipe, a file) every row is one line, as wide as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.cells import cell_len

from gensegcli.harmless import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

GAP = "  "
"""Between two columns, where a table says nothing else."""

LEAST = 24
"""A column of words is not made narrower than this: three words to a line read badly."""


@dataclass(frozen=True)
class Grid:
    """A table as texts: its headings, and rows of as many cells. All of them are one line and free of control codes."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    gap: str = GAP

    @classmethod
    def of(cls, head: Iterable[str], rows: Iterable[Iterable[str]], *, gap: str = GAP) -> Grid:
        """The grid of any texts; what is no printable character is shown as its code."""
        return cls(tuple(map(printable, head)), tuple(tuple(map(printable, row)) for row in rows), gap)

    def only(self, places: Collection[int]) -> Grid:
        """Some of the columns, by their number."""
        kept = [place for place in range(len(self.head)) if place in places]
        return Grid(
            tuple(self.head[i] for i in kept), tuple(tuple(row[i] for i in kept) for row in self.rows), self.gap
        )

    def widths(self, width: int | None = None) -> tuple[int, ...] | None:
        """How wide each column is, in all at most `width`; None if it cannot be."""
        natural = [max(map(cell_len, column)) for column in self._columns()]
        if width is None:
            return tuple(natural)
        least = [_least(column) for column in self._columns()]
        room = width - len(self.gap) * (len(natural) - 1)
        while sum(natural) > room:
            widest = max(range(len(natural)), key=lambda i: (natural[i] > least[i], natural[i]))
            if natural[widest] <= least[widest]:
                return None
            natural[widest] -= 1
        return tuple(natural)

    def _columns(self) -> Iterable[tuple[str, ...]]:
        return zip(self.head, *self.rows, strict=True)


def columns(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, width: int | None = None, spare: Sequence[str] = ()
) -> str:
    """The rows below their headings.

    Args:
        head: of each column.
        rows: a text for each column.
        width: of the terminal; None: as wide as it gets.
        spare: headings of columns that may be left out where there is no room, the first one first.

    >>> print(columns(("name", "what it is"), [("boxfill", "fills the box of every single answer")], width=40), end="")
    name     what it is
    boxfill  fills the box of every single
             answer
    >>> print(columns(("name", "size"), [("a-name-without-blanks", "4,437,000,000")], width=30), end="")
    name  a-name-without-blanks
    size  4,437,000,000
    """
    grid = Grid.of(head, rows)
    kept = list(range(len(head)))
    for name in (None, *spare):
        kept = [place for place in kept if head[place] != name]
        some = grid.only(kept)
        if (widths := some.widths(width)) is not None:
            return drawn(some, widths)
    return turned(grid, width)


def drawn(grid: Grid, widths: Sequence[int], *, numbers: bool = False, rule: bool = False) -> str:
    """The table at the widths of its columns, texts wrapped.

    Args:
        grid: the texts.
        widths: of the columns.
        numbers: every column but the first stands at its right end.
        rule: a line below the headings.
    """
    gap = grid.gap
    lines = [*_lines(grid.head, widths, gap, numbers=numbers)]
    if rule:
        lines.append("─" * (sum(widths) + len(gap) * (len(widths) - 1)))
    for row in grid.rows:
        lines += _lines(row, widths, gap, numbers=numbers)
    return "".join(f"{line}\n" for line in lines)


def turned(grid: Grid, width: int | None = None) -> str:
    """One line for each value, its heading before it; a blank line between two rows."""
    names = max(map(cell_len, grid.head), default=0)
    room = None if width is None else max(width - names - len(grid.gap), 1)
    parts = []
    for row in grid.rows:
        lines = []
        for name, text in zip(grid.head, row, strict=True):
            for number, part in enumerate(wrapped(text, room)):
                lines.append(f"{_padded('' if number else name, names)}{grid.gap}{part}".rstrip() + "\n")
        parts.append("".join(lines))
    return "\n".join(parts)


def blocks(grid: Grid, width: int) -> list[Grid]:
    """The grid in pieces that fit a width, each with the first column; as few of them as there can be.

    A piece has at least one column beside the first, also where even that is too wide.
    """
    pieces: list[list[int]] = []
    for place in range(1, len(grid.head)):
        if pieces and grid.only([0, *pieces[-1], place]).widths(width) is not None:
            pieces[-1].append(place)
        else:
            pieces.append([place])
    return [grid.only([0, *piece]) for piece in pieces]


def wrapped(text: str, width: int | None) -> list[str]:
    """The text in lines of at most `width`, broken at blanks; a word that is longer has a line of its own.

    >>> wrapped("one two three", 7), wrapped("0.71 [0.70, 0.72]", 7)
    (['one two', 'three'], ['0.71 [0.70, 0.72]'])
    """
    if width is None or cell_len(text) <= width or not _wraps(text):
        return [text]
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if cell_len(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _wraps(text: str) -> bool:
    """Whether a text is words: a number with its interval is not."""
    return " " in text and any(character.isalpha() for character in text)


def _least(column: Sequence[str]) -> int:
    """The narrowest that a column can be; its heading, the first of its texts, may always be wrapped."""
    longest = max(map(cell_len, column))
    words = max(cell_len(word) for text in column for word in (text.split(" ") if _wraps(text) else [text]))
    texts = max((cell_len(text) for text in column[1:] if _wraps(text)), default=0)
    return min(longest, max(words, min(texts, LEAST)))


def _lines(row: Sequence[str], widths: Sequence[int], gap: str, *, numbers: bool) -> Iterable[str]:
    cells = [wrapped(text, width) for text, width in zip(row, widths, strict=True)]
    for line in zip_longest(*cells, fillvalue=""):
        parts = (
            _padded(text, width, right=numbers and place > 0)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        yield gap.join(parts).rstrip()


def _padded(text: str, width: int, *, right: bool = False) -> str:
    blanks = " " * (width - cell_len(text))
    return blanks + text if right else text + blanks
