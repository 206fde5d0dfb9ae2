"""How much two masks of one picture share: the one overlap count of rewards and evaluation.

Masks are bool arrays (h w) or run lengths. Run lengths are counted as they are, never decoded.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gensegcli.errors import GensegError
from gensegcli.geometry import rle
from gensegcli.records import Rle, Size

if TYPE_CHECKING:
    from collections.abc import Sequence

Mask = np.ndarray | Rle


class IgnoreRule(StrEnum):
    """What becomes of pixels that are neither object nor background."""

    EXCLUDED = "excluded"  # they leave both masks before counting
    FOREGROUND = "foreground"  # they join the true mask


class Overlap(NamedTuple):
    """Pixel counts of a predicted and a true mask of one picture."""

    intersection: int
    union: int
    predicted: int
    true: int

    @property
    def iou(self) -> float:
        """Intersection over union, in [0, 1]; both masks empty is a correct "nothing there": 1.

        >>> Overlap(intersection=1, union=4, predicted=2, true=3).iou
        0.25
        >>> Overlap(0, 0, 0, 0).iou
        1.0
        """
        return self.intersection / self.union if self.union else 1.0


def overlap(
    predicted: Mask, true: Mask, *, ignore: Mask | None = None, ignored: IgnoreRule = IgnoreRule.EXCLUDED
) -> Overlap:
    """Count the pixels that two masks share and cover.

    Args:
        predicted: bool array (h w) or run lengths.
        true: the same, of the same size. Where one of the masks is an array, all are counted as arrays.
        ignore: pixels that are neither object nor background.
        ignored: what becomes of them.

    Raises:
        GensegError: the masks differ in size.

    >>> overlap(np.eye(2, dtype=bool), np.ones((2, 2), bool))
    Overlap(intersection=2, union=4, predicted=2, true=4)
    >>> overlap(rle.encode(np.eye(2, dtype=bool)), rle.encode(np.ones((2, 2), bool)))
    Overlap(intersection=2, union=4, predicted=2, true=4)
    """
    _check_size("predicted", predicted, _size(true))
    if ignore is not None:
        _check_size("ignore", ignore, _size(true))
    if any(isinstance(mask, np.ndarray) for mask in (predicted, true, ignore)):
        predicted, true = _pixels(predicted), _pixels(true)
        ignore = None if ignore is None else _pixels(ignore)
    if ignore is not None and ignored is IgnoreRule.FOREGROUND:
        true, ignore = _either(true, ignore), None
    shared = _both(predicted, true)
    areas = [_area(shared), _area(predicted), _area(true)]
    if ignore is not None:
        areas = [area - _area(_both(mask, ignore)) for area, mask in zip(areas, (shared, predicted, true), strict=True)]
    intersection, predicted_area, true_area = areas
    return Overlap(intersection, predicted_area + true_area - intersection, predicted_area, true_area)


def united(masks: Sequence[Rle], size: Size, *, name: str = "a") -> Rle:
    """The union of masks of one picture of `size`, empty without masks. `name` says in an error which masks they are.

    Raises:
        GensegError: a mask is of another size.
    """
    for mask in masks:
        _check_size(name, mask, size)
    return masks[0] if len(masks) == 1 else rle.merge(masks, size)


def _size(mask: Mask) -> Size:
    return mask.size if isinstance(mask, Rle) else Size(mask.shape[1], mask.shape[0])


def _check_size(name: str, mask: Mask, size: Size) -> None:
    found = _size(mask)
    if found != size:
        raise GensegError(
            f"{name} mask: {size.width}x{size.height} expected, {found.width}x{found.height} found",
            hint="masks are compared at the resolution of the picture; was one of them resized?",
        )


def _pixels(mask: Mask) -> np.ndarray:
    return rle.decode(mask) if isinstance(mask, Rle) else mask.astype(bool, copy=False)


def _both(a: Mask, b: Mask) -> Mask:
    return rle.intersection(a, b) if isinstance(a, Rle) and isinstance(b, Rle) else np.logical_and(a, b)


def _either(a: Mask, b: Mask) -> Mask:
    return rle.merge([a, b], a.size) if isinstance(a, Rle) and isinstance(b, Rle) else np.logical_or(a, b)


def _area(mask: Mask) -> int:
    return rle.area(mask) if isinstance(mask, Rle) else int(np.count_nonzero(mask))
