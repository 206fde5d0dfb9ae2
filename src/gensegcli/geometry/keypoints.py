"""Points mined from true masks: two inside the object, two in the background of its box.

Mined points are centres of pixels: the pixel in column c and row r gives (c + 0.5, r + 0.5), so flooring a point gives
back its pixel. Ties go to the pixel that comes first in reading order, so the same mask always gives the same points.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from scipy import ndimage

from gensegcli.geometry.boxes import mask_box
from gensegcli.records import GRID, PixelBox, PixelPoint


def mine_positive(mask: np.ndarray, k: int = 2) -> tuple[PixelPoint, ...]:
    """Points well inside an object and apart: VisionReasoner's recipe.

    The first is the pixel deepest inside (the maximum of the Euclidean distance transform, the picture's outside being
    background). The second is the deepest among the object's pixels that lie farther from the first than the median
    pixel does. Where none does (five pixels in a plus), those at the median distance stand in; an object of one pixel
    has nothing else to offer, and gives its only pixel twice.

    Args:
        mask: bool (h w) with at least one true pixel.
        k: 1 or 2.

    Raises:
        ValueError: the mask is empty, or k is neither 1 nor 2.
    """
    if k not in (1, 2):
        raise ValueError(f"k is 1 or 2, {k} found")
    box = mask_box(mask)
    if box is None:
        raise ValueError("an empty mask has no points inside")
    left, top, right, bottom = map(int, box)
    # Everything beyond the object's box is background, so a frame of one pixel says all that the rest would.
    inside = mask[top:bottom, left:right]
    framed = np.pad(inside.astype(np.uint8), 1)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    picks = [np.unravel_index(int(depth.argmax()), depth.shape)]
    if k == 2:
        away = _squares_from(picks[0], inside.shape)
        distances = away[inside]
        middle = np.partition(distances, [(distances.size - 1) // 2, distances.size // 2])
        low, high = middle[(distances.size - 1) // 2], middle[distances.size // 2]
        median = ((math.sqrt(low) + math.sqrt(high)) / 2) ** 2
        far = inside & (away > median * (1 + 1e-12))  # the square of a root may come out a rounding below the number
        if not far.any():
            far = inside & (away == distances.max())
        picks.append(np.unravel_index(int(np.where(far, depth, -1).argmax()), depth.shape))
    return tuple(PixelPoint(left + float(column) + 0.5, top + float(row) + 0.5) for row, column in picks)


def _squares_from(pixel: tuple[Any, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Squared distance in pixels of every pixel of a picture part (h w) from one of them, whole numbers."""
    rows = (np.arange(shape[0], dtype=np.int64) - pixel[0]) ** 2
    columns = (np.arange(shape[1], dtype=np.int64) - pixel[1]) ** 2
    return rows[:, None] + columns


def mine_negative(
    union_mask: np.ndarray, box: PixelBox, *, k: int = 2, margin_grid: float = 10
) -> tuple[PixelPoint, ...]:
    """Background points inside an object's box: the farthest from every object, then the farthest from the first.

    Distances are measured on the grid, because that is where the margin is given and where rewards judge it: a step of
    one pixel is 1000 / width across and 1000 / height down, so in a wide picture the same margin covers more pixels
    across than down. They run from the centre of a background pixel to the nearest point of the area that the true
    pixels cover (not to a pixel's centre, which would let a point of a small picture touch the object). The picture's
    border is no object and keeps no distance.

    Args:
        union_mask: bool (h w), the union of all objects of the sample.
        box: the object's box; a pixel is inside when its centre is.
        k: the most points wanted; each further one is as far as possible from those already taken.
        margin_grid: the least distance to the mask in grid units.

    Returns:
        At most k distinct points; fewer, or none, where the box holds no such background.
    """
    height, width = union_mask.shape
    left, right = _pixels(box.x1, box.x2, width)
    top, bottom = _pixels(box.y1, box.y2, height)
    if k < 1 or left >= right or top >= bottom:
        return ()
    if width == height and k <= 2:
        found = _mine_square(union_mask, (left, top, right, bottom), k, margin_grid)
        if found is not None:
            return found
    distance = _distance_in_box(union_mask.astype(bool, copy=False), left, top, right, bottom)
    step_y, step_x = GRID / height, GRID / width
    rows, columns = ((distance >= margin_grid) & (distance > 0)).nonzero()
    worth = distance[rows, columns]
    nearest = np.full(len(rows), np.inf)
    points: list[PixelPoint] = []
    while len(points) < k and worth.size and worth.max() > 0:
        pick = int(worth.argmax())
        points.append(PixelPoint(left + float(columns[pick]) + 0.5, top + float(rows[pick]) + 0.5))
        away = ((rows - rows[pick]) * step_y) ** 2 + ((columns - columns[pick]) * step_x) ** 2
        nearest = np.minimum(nearest, away)
        worth = nearest
    return tuple(points)


_NEAREST, _FARTHEST = 0.5, math.sqrt(0.5)
"""How much nearer the square of a pixel is than its centre: at least and at most, in pixels."""
_CHECKS = 64
"""Pixels measured one by one before measuring all is the quicker way."""


def _mine_square(
    union_mask: np.ndarray, box: tuple[int, int, int, int], k: int, margin_grid: float
) -> tuple[PixelPoint, ...] | None:
    """`mine_negative` where a pixel is as wide as high on the grid, ten times as fast; None where it does not pay.

    The distance to the nearest *centre* of a true pixel is cheap, and the distance to the nearest square lies between
    it less `_FARTHEST` and it less `_NEAREST`. That settles nearly all pixels; the few others are measured exactly.
    """
    left, top, right, bottom = box
    unit = GRID / union_mask.shape[0]
    part, y0, x0 = union_mask[top:bottom, left:right], top, left
    if not part.any():
        return None
    nearly = _to_centres(part)
    # No pixel of the box is farther from the mask than it seems in the box alone: nothing beyond that can matter.
    reach = math.ceil(float(nearly.max())) + 1
    y1, x1 = max(top - reach, 0), max(left - reach, 0)
    around = union_mask[y1 : bottom + reach, x1 : right + reach]
    if np.count_nonzero(around) > np.count_nonzero(part):
        part, y0, x0 = around, y1, x1
        nearly = _to_centres(part)[top - y0 : bottom - y0, left - x0 : right - x0]

    def measured(spots: np.ndarray, part: np.ndarray = part) -> list[float]:
        return [_exact(part, row + top - y0, column + left - x0, float(nearly[row, column])) for row, column in spots]

    tolerance = 1e-4  # of OpenCV's single precision
    spots = np.argwhere(nearly >= nearly.max() - (_FARTHEST - _NEAREST) - tolerance)
    if len(spots) > _CHECKS:
        return None
    margin = margin_grid / unit
    distances = measured(spots)
    best = max(distances)
    if best < margin or best <= 0:
        return ()
    first = spots[next(place for place, value in enumerate(distances) if value >= best - 1e-9)]
    picks = [first]
    if k == 2:
        away = _squares_from(tuple(first), nearly.shape)
        sure = np.where(nearly >= max(margin, 0) + _FARTHEST + tolerance, away, 0)
        second = int(sure.argmax())
        farthest = int(sure.flat[second])
        doubtful = (nearly >= margin + _NEAREST - tolerance) & (nearly > 0) & (away > farthest)
        spots = np.argwhere(doubtful)
        spots = spots[np.argsort(-away[doubtful], kind="stable")][: _CHECKS + 1]
        chosen = next((spot for spot in spots[:_CHECKS] if measured(spot[None])[0] >= margin), None)
        if chosen is None and len(spots) > _CHECKS:
            return None
        if chosen is not None:
            picks.append(chosen)
        elif farthest:
            picks.append(np.array(np.unravel_index(second, nearly.shape)))
    return tuple(PixelPoint(left + float(column) + 0.5, top + float(row) + 0.5) for row, column in picks)


def _to_centres(mask: np.ndarray) -> np.ndarray:
    """Distance in pixels from the centre of every pixel (h w) to the centre of the nearest true one."""
    return cv2.distanceTransform((~np.ascontiguousarray(mask)).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _exact(mask: np.ndarray, row: int, column: int, nearly: float) -> float:
    """Distance in pixels from a pixel's centre to the nearest square of a true pixel, known to be about `nearly`."""
    reach = math.ceil(nearly) + 1
    y0, x0 = max(row - reach, 0), max(column - reach, 0)
    rows, columns = mask[y0 : row + reach + 1, x0 : column + reach + 1].nonzero()
    down = np.maximum(np.abs(rows + y0 - row) - 0.5, 0)
    across = np.maximum(np.abs(columns + x0 - column) - 0.5, 0)
    return math.sqrt(float((down**2 + across**2).min()))


def grid_distance(mask: np.ndarray, *, height: int | None = None, width: int | None = None) -> np.ndarray:
    """Distance on the grid from every pixel's centre to the area that a mask covers: float (h w), 0 inside.

    Args:
        mask: bool (h w), a picture's mask or a part cut out of it.
        height: rows of the whole picture, where `mask` is a part.
        width: columns of the whole picture, where `mask` is a part.

    Returns:
        Exact distances; infinite everywhere where the mask is empty.
    """
    rows, columns = mask.shape
    if not mask.any():
        return np.full(mask.shape, np.inf)
    # From a pixel's centre, the nearest point of another pixel's square is a corner or the middle of a side. On a
    # lattice of half pixels all of them are nodes, so a distance between nodes is the exact distance to the area.
    lattice = np.zeros((2 * rows + 1, 2 * columns + 1), np.uint8)
    lattice[1::2, 1::2] = mask
    covered = cv2.dilate(lattice, np.ones((3, 3), np.uint8)).astype(bool)
    step = (GRID / (height or rows) / 2, GRID / (width or columns) / 2)
    return ndimage.distance_transform_edt(~covered, sampling=step)[1::2, 1::2]


def _pixels(low: float, high: float, length: int) -> tuple[int, int]:
    """First and one past the last pixel whose centre lies in [low, high) and in the picture."""
    return max(math.ceil(low - 0.5), 0), min(math.ceil(high - 0.5), length)


def _distance_in_box(mask: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """`grid_distance` of the whole picture, cut to a box, at little more than the cost of the box."""
    height, width = mask.shape
    inner = grid_distance(mask[top:bottom, left:right], height=height, width=width)
    reach = inner.max()  # an upper bound of the true distances: nothing farther outside the box can matter
    pad_x, pad_y = (length if math.isinf(reach) else math.ceil(reach * length / GRID) + 1 for length in (width, height))
    x0, y0 = max(left - pad_x, 0), max(top - pad_y, 0)
    around = mask[y0 : bottom + pad_y, x0 : right + pad_x]
    if np.count_nonzero(around) == np.count_nonzero(mask[top:bottom, left:right]):
        return inner
    outer = grid_distance(around, height=height, width=width)
    return outer[top - y0 : bottom - y0, left - x0 : right - x0]
