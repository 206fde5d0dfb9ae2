"""Bool masks (h w): overlap, union, resizing, boundary."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gensegcli.records import Size


def mask_iou(pred: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of two bool masks (h w) of one picture, in [0, 1].

    Both empty is a correct "nothing there": 1.0. Exactly one empty: 0.0.

    Raises:
        ValueError: the masks differ in shape.

    >>> mask_iou(np.zeros((2, 2), bool), np.zeros((2, 2), bool))
    1.0
    >>> mask_iou(np.eye(2, dtype=bool), np.ones((2, 2), bool))
    0.5
    """
    if pred.shape != truth.shape:
        raise ValueError(f"masks of one picture expected, shapes {pred.shape} and {truth.shape} found")
    whole = int(np.count_nonzero(pred | truth))
    return int(np.count_nonzero(pred & truth)) / whole if whole else 1.0


class Patch(NamedTuple):
    """A mask cut out of its picture: whatever is not here is background."""

    pixels: np.ndarray
    """bool (h w) with at least one true pixel, contiguous."""
    left: int
    top: int
    """Column and row of the picture at which it begins."""

    def paste(self, mask: np.ndarray) -> None:
        """Add its pixels to a mask of the picture, bool (h w)."""
        height, width = self.pixels.shape
        mask[self.top : self.top + height, self.left : self.left + width] |= self.pixels


def cut(mask: np.ndarray) -> Patch | None:
    """A bool mask (h w) cut to the box around its true pixels; None for an empty one."""
    columns = np.flatnonzero(mask.any(axis=0))
    if not columns.size:
        return None
    rows = np.flatnonzero(mask.any(axis=1))
    left, top = int(columns[0]), int(rows[0])
    return Patch(np.ascontiguousarray(mask[top : rows[-1] + 1, left : columns[-1] + 1]), left, top)


def union(masks: Iterable[np.ndarray], size: Size) -> np.ndarray:
    """The pixels of any mask: bool (h w). No masks give an empty one of `size`.

    Raises:
        ValueError: a mask is not of `size`.

    >>> from gensegcli.records import Size
    >>> union([], Size(width=3, height=2)).shape
    (2, 3)
    """
    whole = np.zeros((size.height, size.width), bool)
    for mask in masks:
        if mask.shape != whole.shape:
            raise ValueError(f"mask of shape {whole.shape} expected, {mask.shape} found")
        whole |= mask.astype(bool, copy=False)
    return whole


def resize_mask(mask: np.ndarray, size: Size) -> np.ndarray:
    """A bool mask (h w) at another size: each new pixel takes the value under its centre.

    Aligned with the resizing of pictures (corners, not centres, coincide), as Pillow's NEAREST; worked out in whole
    numbers, so that a centre on an edge always takes the later pixel, where Pillow's floats go either way. An object
    thinner than a new pixel may vanish: whoever needs it must look.

    >>> from gensegcli.records import Size
    >>> resize_mask(np.eye(2, dtype=bool), Size(4, 4)).astype(int).tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    """
    rows, columns = (_under(old, new) for old, new in zip(mask.shape, (size.height, size.width), strict=True))
    return _pick(mask.astype(bool, copy=False), rows, columns)


def resize_patch(patch: Patch, old: Size, new: Size) -> Patch | None:
    """What `resize_mask` makes of the mask of a picture of size `old`, cut to its box; None where nothing is left."""
    rows, columns = _under(old.height, new.height), _under(old.width, new.width)
    height, width = patch.pixels.shape
    top, bottom = np.searchsorted(rows, (patch.top, patch.top + height)).tolist()
    left, right = np.searchsorted(columns, (patch.left, patch.left + width)).tolist()
    found = cut(_pick(patch.pixels, rows[top:bottom] - patch.top, columns[left:right] - patch.left))
    return Patch(found.pixels, found.left + left, found.top + top) if found else None


@lru_cache(maxsize=64)
def _under(old: int, new: int) -> np.ndarray:
    """Which of `old` pixels lies under the centre of each of `new` ones."""
    return (2 * np.arange(new) + 1) * old // (2 * new)


def _pick(mask: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    # One axis after the other: an eighth of the time of picking both at once.
    return np.take(np.take(mask, columns, axis=1), rows, axis=0)


def boundary(mask: np.ndarray, *, thickness: int = 1) -> np.ndarray:
    """The mask's pixels within `thickness` pixels (city-block steps) of its outside: bool (h w).

    The outside of the picture counts as background, so a full mask has the picture's frame as its boundary.

    >>> boundary(np.ones((3, 3), bool)).astype(int).tolist()
    [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    """
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inner = cv2.erode(
        mask.astype(np.uint8), cross, iterations=thickness, borderType=cv2.BORDER_CONSTANT, borderValue=(0,)
    )
    return mask.astype(bool) & ~inner.astype(bool)
