"""Points mined from true masks: two inside the object, two in the background of its box.

Mined points are centres of pixels: the pixel in column c and row r gives (c + 0.5, r + 0.5), so flooring a point gives
back its pixel. Ties go to the pixel that comes first in reading order, so the same mask always gives the same points.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gensegcli.geometry.boxes import mask_box
from gensegcli.geometry.distances import Nearest, area_distance
from gensegcli.geometry.masks import Patch
from gensegcli.records import GRID, PixelBox, PixelPoint

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    framed = np.zeros((bottom - top + 2, right - left + 2), bool)
    framed[1:-1, 1:-1] = mask[top:bottom, left:right]
    depths = Nearest(~framed)
    picks = [depths.farthest(Patch(framed, 0, 0)).places[0]]
    if k == 2:
        picks.append(depths.farthest(Patch(_far_half(framed, picks[0]), 0, 0)).places[0])
    return tuple(PixelPoint(left + float(column) - 0.5, top + float(row) - 0.5) for row, column in picks)


def _far_half(mask: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """An object's pixels (h w) beyond the median distance from one of them, or at it where none is beyond."""
    rows, columns = ((np.arange(side, dtype=np.int32) - at) ** 2 for side, at in zip(mask.shape, pixel, strict=True))
    away = np.where(mask, rows[:, None] + columns, _OUT)  # squared: whole numbers, in the order of the distances
    low, high = _middle(away, int(np.count_nonzero(mask)))
    median = ((math.sqrt(low) + math.sqrt(high)) / 2) ** 2
    far = away > int(median * (1 + 1e-12))  # the square of a root may come out a rounding below the number
    return far if far.any() else away == away.max()


_OUT = np.int32(-1)


def _middle(values: np.ndarray, count: int) -> tuple[int, int]:
    """The two of `count` values (h w, the others are `_OUT`) between which the median lies; one twice if it is odd."""
    ranks = values.size - count + np.array([(count - 1) // 2, count // 2])
    some = values[::8]
    some = some[some != _OUT]
    if some.size > 1000:
        # Every eighth row tells about where the middle is, and only what is near it need be put in order.
        places = [int(0.4 * some.size), int(0.6 * some.size)]
        low, high = np.partition(some, places)[places]
        below = values < low
        near = values.reshape(-1)[np.flatnonzero(below ^ (values <= high))]
        inner = ranks - np.count_nonzero(below)
        if inner[0] >= 0 and inner[1] < near.size:
            return tuple(np.partition(near, inner)[inner].tolist())
    return tuple(np.partition(values, ranks, axis=None)[ranks].tolist())


def mine_negative(
    union_mask: np.ndarray, box: PixelBox, *, k: int = 2, margin_grid: float = 10
) -> tuple[PixelPoint, ...]:
    """`mine_negatives` for one box.

    Args:
        union_mask: bool (h w), the union of all objects of the sample.
        box: the object's box; a pixel is inside when its centre is.
        k: the most points wanted.
        margin_grid: the least distance to the mask in grid units.
    """
    (points,) = mine_negatives(union_mask, [box], k=k, margin_grid=margin_grid)
    return points


def mine_negatives(
    union_mask: np.ndarray, boxes: Sequence[PixelBox], *, k: int = 2, margin_grid: float = 10
) -> list[tuple[PixelPoint, ...]]:
    """Background points inside each object's box: the farthest from every object, then the farthest from the first.

    Distances are measured on the grid, because that is where the margin is given and where rewards judge it: a step of
    one pixel is 1000 / width across and 1000 / height down, so in a wide picture the same margin covers more pixels
    across than down. They run from the centre of a background pixel to the nearest point of the area that the true
    pixels cover (not to a pixel's centre, which would let a point of a small picture touch the object). The picture's
    border is no object and keeps no distance.

    Args:
        union_mask: bool (h w), the union of all objects of the sample.
        boxes: the objects' boxes; a pixel is inside when its centre is.
        k: the most points wanted; each further one is as far as possible from those already taken.
        margin_grid: the least distance to the mask in grid units.

    Returns:
        For each box at most k distinct points; fewer, or none, where it holds no such background.
    """
    height, width = union_mask.shape
    mask = union_mask.astype(bool, copy=False)
    parts = [(_pixels(box.y1, box.y2, height), _pixels(box.x1, box.x2, width)) for box in boxes]
    # What lies beyond all objects and boxes has no say.
    rows, columns = (_span(np.flatnonzero(mask.any(axis=1 - axis)), [part[axis] for part in parts]) for axis in (0, 1))
    seeds = np.ascontiguousarray(mask[rows, columns])
    step = (max(height, width) / height, max(height, width) / width)  # the shorter one is 1
    margin = margin_grid * max(height, width) / GRID
    near = Nearest(seeds, step) if k <= 2 and seeds.any() else None
    found = []
    for down, across in parts:
        free = Patch(~mask[down, across], across.start - columns.start, down.start - rows.start)
        if k < 1 or not free.pixels.any():
            picks = []
        else:
            picks = _mine(near, free, k, margin) if near else _mine_slowly(seeds, step, free, k, margin)
        points = (pick + np.array([rows.start + 0.5, columns.start + 0.5]) for pick in picks)
        found.append(tuple(PixelPoint(float(x), float(y)) for y, x in points))
    return found


def _pixels(low: float, high: float, length: int) -> slice:
    """The pixels whose centres lie in [low, high) and in the picture."""
    start = min(max(math.ceil(low - 0.5), 0), length)
    return slice(start, max(min(math.ceil(high - 0.5), length), start))


def _span(places: np.ndarray, parts: Sequence[slice]) -> slice:
    """From the first to the last of some rows or columns (n) and of some parts of them."""
    ends = [(part.start, part.stop) for part in parts] + ([(places[0], places[-1] + 1)] if places.size else [])
    return slice(int(min(start for start, _ in ends)), int(max(stop for _, stop in ends)))


_FUZZ = 1e-9
"""Distances that differ by less are equal."""
_COARSE = 1e-3
"""What single precision is trusted with."""


def _mine(near: Nearest, free: Patch, k: int, margin: float) -> list[np.ndarray]:
    """The rows and columns of one or two background points, exact, though few distances are.

    The distance to the area of a true pixel is less than that to its centre by half a pixel's side at least, half its
    diagonal at most. So distances between centres settle nearly all pixels, and the few others are measured.
    """
    least, most = 0.5 * min(near.step), 0.5 * math.hypot(*near.step)
    spots = near.farthest(free, slack=most - least + _COARSE)
    picks = [spots.places[0]]
    if len(spots.places) > 1 or spots.distances[0] < margin + most + _COARSE:
        distances = near.to_area(spots.places)
        if distances.max() < margin - _FUZZ:
            return []
        picks = [spots.places[int((distances >= distances.max() - _FUZZ).argmax())]]
    if k == 2:
        places, certain = near.admissible_far_from(picks[0], free, margin + least - _COARSE, margin + most + _COARSE)
        for place, kept in zip(places, certain, strict=True):
            if kept or near.to_area(place[None])[0] >= margin - _FUZZ:
                picks.append(place)
                break
    return picks


def _mine_slowly(seeds: np.ndarray, step: tuple[float, float], free: Patch, k: int, margin: float) -> list[np.ndarray]:
    """The same for any number of points, and where there is no object to keep a distance from."""
    places = np.argwhere(free.pixels) + np.array([free.top, free.left])
    worth = area_distance(seeds, step)[places[:, 0], places[:, 1]]
    places, worth = places[worth >= margin - _FUZZ], worth[worth >= margin - _FUZZ]
    nearest = np.full(len(places), np.inf)
    picks: list[np.ndarray] = []
    while len(picks) < k and worth.size and worth.max() > 0:
        pick = places[int((worth >= worth.max() - _FUZZ).argmax())]
        picks.append(pick)
        nearest = np.minimum(nearest, np.hypot(*((places - pick) * step).T))
        worth = nearest
    return picks


def grid_distance(mask: np.ndarray) -> np.ndarray:
    """Distance on the grid from every pixel's centre to the area that a picture's mask covers: float (h w), 0 inside.

    Exact; infinite everywhere where the mask is empty.
    """
    return area_distance(mask, (GRID / mask.shape[0], GRID / mask.shape[1]))
