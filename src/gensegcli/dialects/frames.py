"""Between the grid, on which answers live, and the frame in whose units a model writes them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gensegcli.records import GRID, Answer, GridBox, GridPoint, Instance, Size

if TYPE_CHECKING:
    from collections.abc import Sequence

GRID_FRAME = Size(GRID, GRID)

_DECIMALS = 3


def to_frame(values: Sequence[float], frame: Size | None) -> list[int | float]:
    """Alternating x and y of the grid as a model writes them: whole numbers without a point.

    On the grid (`frame` None) every digit is kept. In a frame of pixels a thousandth of a pixel is, so that 412 on a
    width of 840 reads 346.08 and not 346.08000000000004.
    """
    if frame is not None:
        values = [round(value * frame[axis % 2] / GRID, _DECIMALS) for axis, value in enumerate(values)]
    return [int(value) if float(value).is_integer() else float(value) for value in values]


def in_frame(values: Sequence[float], frame: Size | None) -> bool:
    """Whether alternating x and y are numbers inside the closed frame. NaN and infinity are not.

    >>> in_frame([0, 480], Size(640, 480)), in_frame([0, 481], Size(640, 480)), in_frame([float("nan")], None)
    (True, False, False)
    """
    size = frame or GRID_FRAME
    return all(0 <= value <= size[axis % 2] for axis, value in enumerate(values))


def to_grid(values: Sequence[float], frame: Size | None) -> list[float]:
    """Alternating x and y of the frame on the grid. Values in the frame come out in [0, 1000]."""
    if frame is None:
        return [float(value) for value in values]
    return [value * GRID / frame[axis % 2] for axis, value in enumerate(values)]


def rounded(answer: Answer, frame: Size | None = None, to: int = 1) -> Answer:
    """The answer in multiples of `to` units of the frame, as models are taught to write; halves are rounded up.

    A box keeps sides of at least one such step: it grows outwards where rounding would close it. Points may thereby
    move by up to half a step.

    Raises:
        ValueError: `to` does not divide the sides of the frame, whose far edge could then not be written.
    """
    size = frame or GRID_FRAME
    if any(side % to for side in size):
        raise ValueError(f"{to} does not divide {size.width} × {size.height}")
    steps = [side // to for side in size]

    def point(found: GridPoint) -> GridPoint:
        units = [math.floor(value * steps[axis] / GRID + 0.5) * to for axis, value in enumerate(found)]
        return GridPoint(*to_grid(units, size))

    def box(found: GridBox) -> GridBox:
        units = [math.floor(value * steps[axis % 2] / GRID + 0.5) for axis, value in enumerate(found)]
        for axis in (0, 1):
            if units[axis] >= units[axis + 2]:
                units[axis] = min(math.floor(found[axis] * steps[axis] / GRID), steps[axis] - 1)
                units[axis + 2] = units[axis] + 1
        return GridBox(*to_grid([unit * to for unit in units], size))

    return Answer(
        tuple(
            Instance(box(one.box), tuple(map(point, one.points)), tuple(map(point, one.negatives)))
            for one in answer.instances
        ),
        answer.think,
    )
