"""Predictions as text: a table for people, row by row as they come, or JSONL."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

import orjson
from rich.cells import cell_len

from gensegcli.columns import GAP, Grid, printable, turned, wrapped
from gensegcli.geometry import rle
from gensegcli.predictions import found_text, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gensegcli.records import Prediction

_HEAD = ("picture", "query", "answer", "boxes (pixels)", "score", "seconds")
_USUAL = (28, 32, 22, 30, 6, 8)
"""Least widths where there is no terminal: rows are printed before the next ones are known."""
_SHOWN_BOXES = 2


def formatter(*, json: bool, width: int | None = None) -> Callable[[Prediction], str]:
    """What turns predictions, one after the other, into lines; the table's head comes with the first.

    Args:
        json: JSONL instead of a table.
        width: columns of the terminal; None: no terminal, and every row is one whole line.
    """
    if json:
        return lambda prediction: orjson.dumps(to_json(prediction), option=orjson.OPT_APPEND_NEWLINE).decode()
    widths = None if width is None else _widths(width)
    if width is not None and widths is None:
        return lambda prediction: turned(Grid.of(_HEAD, [row(prediction)]), width) + "\n"
    columns = len(_USUAL if widths is None else widths)
    head = _lines(_HEAD[:columns], widths)

    def line(prediction: Prediction) -> str:
        nonlocal head
        text, head = head + _lines([*map(printable, row(prediction))][:columns], widths), ""
        return text

    return line


def row(prediction: Prediction) -> tuple[str, ...]:
    """Picture, query, answer, boxes, score and seconds of a prediction, as texts."""
    found = prediction.instances
    boxes = ["{:.0f},{:.0f},{:.0f},{:.0f}".format(*instance.prompt.box) for instance in found]
    # A score estimates the mask's overlap: where there is no mask it says nothing.
    scores = [one.score for one in found if one.score is not None and not rle.is_empty(one.mask)]
    more = [f"+{len(boxes) - _SHOWN_BOXES}"] if len(boxes) > _SHOWN_BOXES else []
    return (
        prediction.image,
        prediction.query,
        verdict(prediction),
        " ".join([*boxes[:_SHOWN_BOXES], *more]) or "-",
        f"{sum(scores) / len(scores):.2f}" if scores else "-",
        f"{sum(prediction.timings.values()):.2f}",
    )


def verdict(prediction: Prediction) -> str:
    """`2 found`, `1 found, but its mask is empty`, `no target`, or `refused: bad-json`."""
    if prediction.refusal is not None:
        return f"refused: {prediction.refusal.kind.value}"
    return "no target" if prediction.no_target else found_text(prediction)


# ---------------------------------------------------------------- widths


def _widths(width: int) -> tuple[int, ...] | None:
    """Widths of the columns on a terminal: without the seconds where it is narrow; None where no row fits a line."""
    for fixed in ((20, 5, 7), (19, 5)):
        rest = width - sum(fixed) - len(GAP) * (len(fixed) + 2)
        if rest >= 48:
            answer = min(max(rest // 4, 14), 30)
            picture = (rest - answer) * 4 // 9
            return (picture, rest - answer - picture, answer, *fixed)
    return None


def _lines(cells: Sequence[str], widths: Sequence[int] | None) -> str:
    """One row: a line where there is no terminal, otherwise as many as its longest text needs."""
    if widths is None:
        return GAP.join(map(_padded, cells, _USUAL)).rstrip() + "\n"
    picture, *texts = zip(cells, widths, strict=True)
    parts = [_shortened(*picture), *(_in_column(text, width) for text, width in texts)]
    lines = zip_longest(*parts, fillvalue="")
    return "".join(GAP.join(map(_padded, line, widths)).rstrip() + "\n" for line in lines)


def _in_column(text: str, width: int) -> list[str]:
    """A text in lines that fit: broken at blanks, a box between its corners, a script without blanks anywhere."""
    parts = text.split(" ") if text[:1].isdigit() and "," in text else wrapped(text, width)
    return [piece for part in parts for piece in _pieces(part, width)]


def _shortened(name: str, width: int) -> list[str]:
    """A name that is too long without its beginning: the end tells pictures apart."""
    start = 0
    while cell_len(name[start:]) > width - (start > 0):
        start += 1
    return [f"…{name[start:]}" if start else name]


def _pieces(word: str, width: int) -> list[str]:
    if cell_len(word) <= width:
        return [word]
    corners = word.split(",")
    if len(corners) == 4 and all(number.lstrip("-").isdecimal() for number in corners):
        return [f"{corners[0]},{corners[1]},", f"{corners[2]},{corners[3]}"]
    pieces = [""]
    for character in word:
        if cell_len(pieces[-1] + character) > width:
            pieces.append("")
        pieces[-1] += character
    return pieces


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))
