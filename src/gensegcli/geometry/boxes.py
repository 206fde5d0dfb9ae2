"""Boxes and points: the grid, the original picture, the picture as a processor resizes it, and overlap."""

from __future__ import annotations

import math
from typing import overload

import numpy as np

from gensegcli.errors import GensegError
from gensegcli.records import GRID, GridBox, GridPoint, PixelBox, PixelPoint, Size

MAX_ASPECT = 200
"""Qwen's processors refuse pictures with a longer side more than this many times the shorter one."""


_NOISE = 1e-15
"""What floats add to a coordinate on the way to the grid and back, as a share of the picture's side."""

ROUNDING = 1e-9
"""Nearer than this, two values that were worked out in floats are equal.

Two different IoUs of boxes with whole corners lie further apart in any picture of up to 20,000 × 20,000 pixels.
"""


@overload
def grid_to_pixel(shape: GridBox, size: Size) -> PixelBox: ...
@overload
def grid_to_pixel(shape: GridPoint, size: Size) -> PixelPoint: ...
def grid_to_pixel(shape: GridBox | GridPoint, size: Size) -> PixelBox | PixelPoint:
    """A grid box or point in pixels of a picture: `x · width / 1000`, clamped to the picture.

    Segmenters take floats, so nothing is rounded to whole pixels. Only what the arithmetic of floats adds on the way to
    the grid and back (about 1e-13 pixels) is taken off again: a whole pixel comes back as it was, and an IoU that lies
    on a threshold is decided on its value.

    >>> grid_to_pixel(pixel_to_grid(PixelPoint(427, 69), Size(612, 640)), Size(612, 640))
    PixelPoint(x=427.0, y=69.0)
    >>> grid_to_pixel(GridBox(0, 500, 333, 1000), Size(640, 480))
    PixelBox(x1=0.0, y1=240.0, x2=213.12, y2=480.0)
    """
    scaled = tuple(_whole(value * size[axis % 2] / GRID, size[axis % 2]) for axis, value in enumerate(shape))
    return clamp(PixelBox(*scaled) if isinstance(shape, GridBox) else PixelPoint(*scaled), size)


def _whole(value: float, length: int) -> float:
    """A whole pixel where the value is one but for the noise of floats."""
    nearest = round(value)
    return float(nearest) if abs(value - nearest) <= _NOISE * length else value


@overload
def pixel_to_grid(shape: PixelBox, size: Size) -> GridBox: ...
@overload
def pixel_to_grid(shape: PixelPoint, size: Size) -> GridPoint: ...
def pixel_to_grid(shape: PixelBox | PixelPoint, size: Size) -> GridBox | GridPoint:
    """A pixel box or point on the grid: clamped to the picture, then `x · 1000 / width`, not rounded.

    >>> pixel_to_grid(PixelPoint(320, 120), Size(640, 480))
    GridPoint(x=500.0, y=250.0)
    """
    inside = clamp(shape, size)
    scaled = tuple(value * GRID / size[axis % 2] for axis, value in enumerate(inside))
    return GridBox(*scaled) if isinstance(shape, PixelBox) else GridPoint(*scaled)


@overload
def clamp(shape: PixelBox, size: Size) -> PixelBox: ...
@overload
def clamp(shape: PixelPoint, size: Size) -> PixelPoint: ...
def clamp(shape: PixelBox | PixelPoint, size: Size) -> PixelBox | PixelPoint:
    """The nearest box or point in the closed picture [0, width] × [0, height].

    A box that lies outside collapses onto the border, where it has no area: it is returned, not dropped.

    >>> clamp(PixelBox(-3, 10, 700, 20), Size(640, 480))
    PixelBox(x1=0.0, y1=10.0, x2=640.0, y2=20.0)
    """
    inside = tuple(min(max(float(value), 0.0), float(size[axis % 2])) for axis, value in enumerate(shape))
    return PixelBox(*inside) if isinstance(shape, PixelBox) else PixelPoint(*inside)


def box_iou(a: PixelBox | GridBox, b: PixelBox | GridBox, *, inclusive: bool = False) -> float:
    """Intersection over union of two boxes of one frame, in [0, 1]; two boxes without area have 0.

    Args:
        a: a box.
        b: a box in the same frame.
        inclusive: read the corners as pixel indices that both belong to the box (every side is one unit longer), the
            convention of Seg-Zero's rewards. Ours are half-open.

    >>> box_iou(PixelBox(0, 0, 10, 10), PixelBox(5, 0, 15, 10))
    0.3333333333333333
    >>> box_iou(PixelBox(0, 0, 9, 9), PixelBox(5, 0, 14, 9), inclusive=True)
    0.3333333333333333
    """
    extra = 1.0 if inclusive else 0.0

    def area(x1: float, y1: float, x2: float, y2: float) -> float:
        return max(x2 - x1 + extra, 0.0) * max(y2 - y1 + extra, 0.0)

    shared = area(max(a.x1, b.x1), max(a.y1, b.y1), min(a.x2, b.x2), min(a.y2, b.y2))
    whole = area(*a) + area(*b) - shared
    return shared / whole if whole > 0 else 0.0


def mask_box(mask: np.ndarray) -> PixelBox | None:
    """The smallest half-open box around the true pixels of a bool mask (h w); None for an empty mask.

    >>> mask_box(np.pad(np.ones((2, 3), bool), ((1, 0), (4, 0))))
    PixelBox(x1=4.0, y1=1.0, x2=7.0, y2=3.0)
    """
    columns = np.flatnonzero(mask.any(axis=0))
    if not columns.size:
        return None
    rows = np.flatnonzero(mask.any(axis=1))
    return PixelBox(float(columns[0]), float(rows[0]), float(columns[-1]) + 1, float(rows[-1]) + 1)


def smart_resize(size: Size, *, factor: int, min_pixels: int, max_pixels: int) -> Size:
    """The size to which a Qwen-VL processor resizes a picture: the frame of models that answer in absolute pixels.

    Both sides become multiples of `factor` (patch size times merge size: 28 for Qwen2.5-VL, 32 for Qwen3-VL), the
    number of pixels comes into [min_pixels, max_pixels], and the aspect ratio stays as near as that allows. The
    arithmetic is transformers' `smart_resize`, Python's round-half-to-even included: a test holds the two together.

    Raises:
        GensegError: an empty picture, or one longer than 200 times its width (the processors refuse it too).

    >>> smart_resize(Size(640, 480), factor=28, min_pixels=56 * 56, max_pixels=1280 * 28 * 28)
    Size(width=644, height=476)
    """
    width, height = size
    if min(width, height) < 1:
        raise GensegError(f"a picture of {width}x{height} pixels has nothing to look at")
    if max(width, height) / min(width, height) > MAX_ASPECT:
        raise GensegError(
            f"picture of {width}x{height} pixels: one side is more than {MAX_ASPECT} times the other",
            hint="the model's processor refuses such pictures; crop it or cut it into tiles",
        )
    new = [round(side / factor) * factor for side in size]
    if new[0] * new[1] > max_pixels:
        shrink = math.sqrt((height * width) / max_pixels)
        new = [max(factor, math.floor(side / shrink / factor) * factor) for side in size]
    elif new[0] * new[1] < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        new = [math.ceil(side * grow / factor) * factor for side in size]
    return Size(*new)
