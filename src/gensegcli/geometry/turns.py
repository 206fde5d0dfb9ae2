"""Masks, boxes and points of a picture as it is stored, in the picture as its EXIF orientation shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gensegcli.geometry.masks import Patch
from gensegcli.records import GRID, GridBox, GridPoint, Size

if TYPE_CHECKING:
    from collections.abc import Mapping


class Turn(NamedTuple):
    """What to do with a stored picture to show it: swap rows and columns first, then mirror."""

    transposed: bool = False
    mirrored: bool = False
    """Left and right change places."""
    flipped: bool = False
    """Top and bottom change places."""

    def size(self, stored: Size) -> Size:
        """Size of the upright picture; and, from the upright picture's size, that of the stored one."""
        return Size(stored.height, stored.width) if self.transposed else stored

    def patch(self, patch: Patch, stored: Size) -> Patch:
        """A mask of the stored picture in the upright one."""
        pixels, left, top = patch
        if self.transposed:
            pixels, left, top = pixels.T, top, left
        height, width = pixels.shape
        size = self.size(stored)
        if self.mirrored:
            pixels, left = pixels[:, ::-1], size.width - left - width
        if self.flipped:
            pixels, top = pixels[::-1], size.height - top - height
        return Patch(np.ascontiguousarray(pixels), left, top)

    def point(self, point: GridPoint) -> GridPoint:
        """A point of the stored picture in the upright one."""
        x, y = (point.y, point.x) if self.transposed else point
        return GridPoint(GRID - x if self.mirrored else x, GRID - y if self.flipped else y)

    def box(self, box: GridBox) -> GridBox:
        """A box of the stored picture in the upright one."""
        (xa, ya), (xb, yb) = self.point(GridPoint(box.x1, box.y1)), self.point(GridPoint(box.x2, box.y2))
        return GridBox(min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb))


UPRIGHT = Turn()

TURNS: Mapping[int, Turn] = {
    2: Turn(mirrored=True),
    3: Turn(mirrored=True, flipped=True),
    4: Turn(flipped=True),
    5: Turn(transposed=True),
    6: Turn(transposed=True, mirrored=True),
    7: Turn(transposed=True, mirrored=True, flipped=True),
    8: Turn(transposed=True, flipped=True),
}
"""By the value of EXIF's orientation; others, 1 among them, are no turn."""
