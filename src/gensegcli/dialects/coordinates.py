"""Coordinates out of parsed JSON: numbers, of the right count, inside the frame, on the grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gensegcli.dialects.frames import in_frame, to_grid
from gensegcli.dialects.grammar import ReadingError, excerpt
from gensegcli.dialects.json_text import as_float
from gensegcli.records import GridBox, GridPoint, RefusalKind

if TYPE_CHECKING:
    from gensegcli.records import Size


def read_box(key: str, value: Any, frame: Size | None, *, strict: bool) -> GridBox:
    """The box `[x1, y1, x2, y2]`, x1 < x2 and y1 < y2, in units of the frame.

    Raises:
        ReadingError: WRONG_KEYS, OUT_OF_RANGE.
    """
    box = GridBox(*_numbers(key, value, 4, frame, strict=strict))
    # On the grid, where a difference of the last bit may have been lost.
    if not (box.x1 < box.x2 and box.y1 < box.y2):
        raise ReadingError(RefusalKind.OUT_OF_RANGE, f"{key} has no area: {excerpt(value)}")
    return box


def read_point(key: str, value: Any, frame: Size | None, *, strict: bool) -> GridPoint:
    """The point `[x, y]` in units of the frame.

    Raises:
        ReadingError: WRONG_KEYS, OUT_OF_RANGE.
    """
    return GridPoint(*_numbers(key, value, 2, frame, strict=strict))


def _numbers(key: str, value: Any, count: int, frame: Size | None, *, strict: bool) -> list[float]:
    if not isinstance(value, list) or len(value) != count:
        raise ReadingError(RefusalKind.WRONG_KEYS, f"{key}: {count} numbers expected, found {excerpt(value)}")
    numbers = [as_float(one, strict=strict) for one in value]
    known = [number for number in numbers if number is not None]
    if len(known) != count:
        raise ReadingError(RefusalKind.WRONG_KEYS, f"{key}: {count} numbers expected, found {excerpt(value)}")
    if not in_frame(known, frame):
        raise ReadingError(RefusalKind.OUT_OF_RANGE, f"{key} outside the picture: {excerpt(value)}")
    return to_grid(known, frame)
