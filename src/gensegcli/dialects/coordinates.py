"""Coordinates out of parsed JSON: numbers, of the right count, inside the frame, on the grid."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gensegcli.dialects.frames import GRID_FRAME, in_frame, to_grid
from gensegcli.dialects.grammar import ReadingError, excerpt
from gensegcli.dialects.json_text import as_float
from gensegcli.records import GridBox, GridPoint, RefusalKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from gensegcli.records import Size

    T = TypeVar("T")

OVERSHOOT = 0.02
"""Share of the frame by which a tolerant reader lets a coordinate miss it: models round, and boxes end at edges."""

_SMALLEST_FRAME = 10
"""In a frame of fewer units a side, a box within one unit is not suspicious."""


@dataclass
class Tally:
    """What tolerant reading left out or moved."""

    dropped: Counter[str] = field(default_factory=Counter)
    clipped: int = 0
    first: ReadingError | None = None
    """Why the first part was left out."""

    def attempt(self, part: str, read: Callable[[], T]) -> T | None:
        """What a reading gives, or None and one more dropped part of that name."""
        try:
            return read()
        except ReadingError as why:
            self.drop(part, why)
            return None

    def drop(self, part: str, why: ReadingError, count: int = 1) -> None:
        """Count parts of that name as left out."""
        self.dropped[part] += count
        self.first = self.first or why


def read_box(key: str, value: Any, frame: Size | None, *, strict: bool, tally: Tally | None = None) -> GridBox:
    """The box `[x1, y1, x2, y2]`, x1 < x2 and y1 < y2, in units of the frame.

    Tolerant reading clips it where it leaves the frame by at most `OVERSHOOT`, and counts that in the tally.

    Raises:
        ReadingError: WRONG_KEYS, OUT_OF_RANGE.
    """
    numbers, clipped = _numbers(key, value, 4, frame, strict=strict)
    box = GridBox(*numbers)
    # On the grid, where a difference of the last bit may have been lost.
    if not (box.x1 < box.x2 and box.y1 < box.y2):
        raise ReadingError(RefusalKind.OUT_OF_RANGE, f"{key} has no area: {excerpt(value)}")
    if tally is not None:
        tally.clipped += clipped
    return box


def read_point(key: str, value: Any, frame: Size | None, *, strict: bool, tally: Tally | None = None) -> GridPoint:
    """The point `[x, y]` in units of the frame; see `read_box`.

    Raises:
        ReadingError: WRONG_KEYS, OUT_OF_RANGE.
    """
    numbers, clipped = _numbers(key, value, 2, frame, strict=strict)
    if tally is not None:
        tally.clipped += clipped
    return GridPoint(*numbers)


def is_box(value: Any) -> bool:
    """Whether a value is four numbers, as tolerant reading takes them."""
    return isinstance(value, list) and len(value) == 4 and all(as_float(one, strict=False) is not None for one in value)


def refuse_fractions(boxes: Iterable[Any], frame: Size | None) -> None:
    """Refuse the boxes of an answer if all of them are shares of the picture instead of units of the frame.

    They are if no coordinate leaves 0 to 1 and at least one is not a whole number. Values that are no four numbers do
    not count.

    Raises:
        ReadingError: FRACTIONS.
    """
    numbers = [number for box in boxes if is_box(box) for number in box]
    if not numbers or min(frame or GRID_FRAME) < _SMALLEST_FRAME:
        return
    small = all(-OVERSHOOT <= float(number) <= 1 + OVERSHOOT for number in numbers)
    if small and not all(isinstance(number, int) or str(number).strip().isdecimal() for number in numbers):
        unit = "the grid from 0 to 1000" if frame is None else "pixels"
        raise ReadingError(RefusalKind.FRACTIONS, f"boxes in fractions of the picture instead of {unit}")


def _numbers(key: str, value: Any, count: int, frame: Size | None, *, strict: bool) -> tuple[list[float], bool]:
    """Numbers on the grid, and whether one of them was clipped."""
    if not isinstance(value, list) or len(value) != count:
        raise ReadingError(RefusalKind.WRONG_KEYS, f"{key}: {count} numbers expected, found {excerpt(value)}")
    numbers = [as_float(one, strict=strict) for one in value]
    known = [number for number in numbers if number is not None]
    if len(known) != count:
        raise ReadingError(RefusalKind.WRONG_KEYS, f"{key}: {count} numbers expected, found {excerpt(value)}")
    clipped = not strict and not in_frame(known, frame)
    if clipped:
        known = _clipped(known, frame)
    if not in_frame(known, frame):
        raise ReadingError(RefusalKind.OUT_OF_RANGE, f"{key} outside the picture: {excerpt(value)}")
    return to_grid(known, frame), clipped


def _clipped(numbers: list[float], frame: Size | None) -> list[float]:
    """Coordinates that miss the frame by no more than the overshoot are moved to its edge; others stay."""
    sides = frame or GRID_FRAME
    moved = []
    for axis, number in enumerate(numbers):
        side = sides[axis % 2]
        near = -OVERSHOOT * side <= number <= (1 + OVERSHOOT) * side
        moved.append(min(max(number, 0.0), float(side)) if near else number)
    return moved
