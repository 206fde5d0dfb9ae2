"""Distances from pixels to the nearest of some others: bounds for all of them at a glance, exact values for the few asked.

Whoever looks for the pixel that is deepest, or farthest, needs one value of a distance transform and not all. A
transform of blocks, a quarter of the work, rules nearly every pixel out; the rest is measured pair by pair.
"""

from __future__ import annotations

import math
from functools import cached_property, reduce
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from scipy import ndimage
from scipy.spatial.distance import cdist

from gensegcli.geometry.masks import Patch

if TYPE_CHECKING:
    from collections.abc import Iterator

_SMALL = 1 << 15
"""Pixels up to which an exact transform of all is quicker than bounds."""
_PAIRS = 8
"""Pairs of pixels that are measured in the time that an exact transform takes for one pixel."""
_PIECE = 1 << 18
"""Pairs that are held in memory at once."""


class Spots(NamedTuple):
    """Some pixels, in reading order."""

    places: np.ndarray
    """int (n 2): row and column."""
    distances: np.ndarray
    """float (n): of their centres from the nearest seed's centre."""


class Nearest:
    """How far the pixels of a picture part are from the nearest of some pixels, the seeds; from centre to centre.

    Args:
        seeds: bool (h w), at least one true.
        step: height and width of a pixel, in the unit of all distances.
    """

    def __init__(self, seeds: np.ndarray, step: tuple[float, float] = (1.0, 1.0)) -> None:
        self._seeds, self.step, self._unit = seeds, step, np.array(step)
        self._block = _block(step, seeds.size)
        self._sides = (self._block[0] * step[0], self._block[1] * step[1])
        if self._block == (1, 1):
            self.low = self.high = self._everywhere
            return
        apart = cv2.distanceTransform(
            (~self._holding(Patch(seeds, 0, 0))).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
        )
        # A pixel, and the seed nearest to it, lie off their blocks' centres by half a block less half a pixel at most.
        slack = math.hypot(*(side - length for side, length in zip(self._sides, step, strict=True)))
        error = slack + 1e-3 * min(self._sides)
        self.low = apart * min(self._sides) - error
        """float (h w) of blocks: no pixel of the block is nearer."""
        self.high = apart * max(self._sides) + error
        """float (h w) of blocks: no pixel of the block is farther."""

    def _window(self, among: Patch) -> tuple[slice, slice]:
        """Rows and columns of the blocks that a part of the picture touches."""
        (down, across), (height, width) = self._block, among.pixels.shape
        rows = slice(among.top // down, -(-(among.top + height) // down))
        return rows, slice(among.left // across, -(-(among.left + width) // across))

    def _holding(self, among: Patch) -> np.ndarray:
        """Which blocks of its window hold any of the pixels: bool (h w) of blocks."""
        if self._block == (1, 1):
            return among.pixels
        (down, across), (height, width) = self._block, among.pixels.shape
        top, left = among.top % down, among.left % across
        whole = np.zeros((-(-(top + height) // down) * down, -(-(left + width) // across) * across), bool)
        whole[top : top + height, left : left + width] = among.pixels
        rows = reduce(np.bitwise_or, (whole[k::down] for k in range(down)))
        return np.ascontiguousarray(reduce(np.bitwise_or, (rows[:, k::across] for k in range(across))))

    def _places(self, blocks: np.ndarray, among: Patch) -> np.ndarray:
        """The pixels (n 2) of some blocks (bool h w) of a part's window that are the part's, in reading order."""
        (down, across), (height, width) = self._block, among.pixels.shape
        if self._block == (1, 1):
            flat = np.flatnonzero(blocks & among.pixels)
        else:
            rows, columns = np.divmod(np.flatnonzero(blocks)[:, None], blocks.shape[1])
            offsets = np.arange(down * across)
            rows = rows * down + (offsets // across - among.top % down)
            columns = columns * across + (offsets % across - among.left % across)
            there = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
            flat = np.sort((rows * width + columns)[there])
            flat = flat[among.pixels.reshape(-1)[flat]]
        return np.stack(np.divmod(flat, width), axis=1) + np.array([among.top, among.left])

    def exact(self, places: np.ndarray) -> np.ndarray:
        """The distances (n) of pixels (n 2)."""
        if self._block == (1, 1) or len(places) * len(self._border) > _PAIRS * self._seeds.size:
            return self._everywhere[places[:, 0], places[:, 1]]
        pieces = [squares.min(axis=1) for _, squares in self._pairs(places)]
        return np.sqrt(np.concatenate(pieces)) if pieces else np.zeros(0)

    def to_area(self, places: np.ndarray) -> np.ndarray:
        """The distances (n) of the centres of pixels (n 2) from the area that the seeds cover."""
        half = 0.5 * self._unit
        found = []
        for centres, squares in self._pairs(places):
            # The nearest square belongs to one of the nearest centres: the two differ by half a side to half a diagonal.
            enough = np.sqrt(squares.min(axis=1)) + math.hypot(*half) - half.min() + 1e-6
            which, seeds = (squares <= np.square(enough)[:, None]).nonzero()
            gaps = np.maximum(np.abs(centres[which] - self._border[seeds]) - half, 0)
            starts = np.searchsorted(which, np.arange(len(centres)))
            found.append(np.minimum.reduceat(np.square(gaps).sum(axis=1), starts))
        return np.sqrt(np.concatenate(found)) if found else np.zeros(0)

    def _pairs(self, places: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pixels' centres (n 2) and their squared distances (n m) from the border's, a piece at a time."""
        centres = places * self._unit
        size = max(1, _PIECE // len(self._border))
        for first in range(0, len(centres), size):
            part = centres[first : first + size]
            yield part, cdist(part, self._border, "sqeuclidean")

    def farthest(self, among: Patch, slack: float = 0.0) -> Spots:
        """The pixels that are farthest of some, and all that are nearly so.

        Args:
            among: which pixels are asked about, at least one; none of them a seed.
            slack: how much nearer than the farthest a pixel may be.
        """
        high, there = self.high[self._window(among)], self._holding(among)
        if self._block == (1, 1):
            places = self._places(high >= np.max(high, initial=0, where=there) - slack, among)
        else:
            # Measuring the most promising block sets a bar that few others reach.
            _, _, _, (column, row) = cv2.minMaxLoc(high, there.view(np.uint8))
            best = np.zeros_like(there)
            best[row, column] = True
            least = self.exact(self._places(best, among)).max()
            places = self._places(there & (high >= least - slack), among)
        distances = self.exact(places)
        near = distances >= distances.max() - slack
        return Spots(places[near], distances[near])

    def admissible_far_from(
        self, spot: np.ndarray, among: Patch, least: float, sure: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pixels that may keep a distance, the farthest from a spot first; beyond the first that surely does, few.

        Args:
            spot: row and column; not itself in the result.
            among: which pixels are asked about.
            least: distance without which a pixel is left out, as far as blocks tell.
            sure: distance with which a pixel is certain to do.

        Returns:
            Pixels (n 2), in reading order where equally far, and which of them are certain (n).
        """
        window = self._window(among)
        low, there = self.low[window], self._holding(among) & (self.high[window] >= least)
        away = []
        for first, count, side, place, length in zip(window, there.shape, self._sides, spot, self.step, strict=True):
            away.append(np.square((np.arange(count) + (first.start + 0.5)) * side - (place + 0.5) * length))
        # From the spot to the centres of blocks, and so to a pixel of theirs but for `reach`.
        away, reach = np.sqrt(away[0][:, None] + away[1]), 0.5 * math.hypot(*self._sides) + 1e-6
        certain = away[there & (low >= sure)].max(initial=-math.inf) - reach
        places = self._places(there & (away >= certain - reach), among)
        # Rounded, so that equal distances are equal.
        apart = np.round(np.square((places - spot) * self._unit).sum(axis=1), 6)
        places = places[np.argsort(-apart, kind="stable")[: np.count_nonzero(apart)]]
        return places, self.low[places[:, 0] // self._block[0], places[:, 1] // self._block[1]] >= sure

    @cached_property
    def _border(self) -> np.ndarray:
        """Centres (n 2) of the seeds that can be nearest to another pixel: those with a neighbour that is none."""
        cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
        seeds = self._seeds.view(np.uint8)
        edge = cv2.subtract(seeds, cv2.erode(seeds, cross, borderValue=(1,)))
        return np.stack(np.divmod(np.flatnonzero(edge.view(bool)), seeds.shape[1]), axis=1) * self._unit

    @cached_property
    def _everywhere(self) -> np.ndarray:
        """The exact distances of all pixels, float32 (h w)."""
        if self.step != (1.0, 1.0):
            return ndimage.distance_transform_edt(~self._seeds, sampling=self.step).astype(np.float32)
        # OpenCV's last bits differ between equal distances: their squares are whole numbers, exact beneath 2^22.
        found = cv2.distanceTransform((~self._seeds).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return np.sqrt(np.rint(np.square(found)))


def area_distance(mask: np.ndarray, step: tuple[float, float]) -> np.ndarray:
    """Distance from every pixel's centre to the area that true pixels cover: float (h w), 0 inside.

    Args:
        mask: bool (h w).
        step: height and width of a pixel, in the unit of the distances.

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
    return ndimage.distance_transform_edt(~covered, sampling=(step[0] / 2, step[1] / 2))[1::2, 1::2]


def _block(step: tuple[float, float], pixels: int) -> tuple[int, int]:
    """Rows and columns of a block: about square in the unit of `step`, and coarser where there is more to look at."""
    if pixels <= (_SMALL if step[0] == step[1] else _SMALL >> 3):
        return 1, 1
    size = 2 if pixels < 1 << 17 else 3
    tall = step[0] >= step[1]
    ratio = step[0] / step[1] if tall else step[1] / step[0]
    pairs = [(short, round(short * ratio)) for short in ((size,) if ratio == 1 else (size, size + 1, size + 2))]
    short, long = min(pairs, key=lambda pair: abs(math.log(pair[1] / pair[0] / ratio)))
    return (short, long) if tall else (long, short)
