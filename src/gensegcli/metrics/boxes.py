"""Overlap of the boxes of one sample: instances matched to each other, and the boxes around all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

from gensegcli.geometry.boxes import box_iou
from gensegcli.records import PixelBox

if TYPE_CHECKING:
    from collections.abc import Sequence


def matched_iou(predicted: Sequence[PixelBox], true: Sequence[PixelBox], *, inclusive: bool = False) -> float:
    """Mean IoU of boxes under the matching that makes it largest, in [0, 1].

    Every box is matched at most once; the sum is divided by the larger number of boxes, so that a box too many costs
    as much as one too few. No boxes on either side: 1; on one: 0.

    >>> a, b = PixelBox(0, 0, 2, 2), PixelBox(4, 4, 6, 6)
    >>> matched_iou([b, a], [a, b]), matched_iou([a], [a, b]), matched_iou([], [])
    (1.0, 0.5, 1.0)
    """
    if not predicted or not true:
        return float(not predicted and not true)
    if len(predicted) == len(true) == 1:
        return box_iou(predicted[0], true[0], inclusive=inclusive)
    ious = np.array([[box_iou(one, other, inclusive=inclusive) for other in true] for one in predicted])
    return float(ious[linear_sum_assignment(ious, maximize=True)].sum() / max(ious.shape))


def enclosing_iou(predicted: Sequence[PixelBox], true: Sequence[PixelBox], *, inclusive: bool = False) -> float:
    """IoU of the boxes around all boxes of either side, in [0, 1]. No boxes on either side: 1; on one: 0.

    >>> enclosing_iou([PixelBox(0, 0, 2, 4)], [PixelBox(0, 0, 1, 1), PixelBox(3, 3, 4, 4)])
    0.5
    """
    if not predicted or not true:
        return float(not predicted and not true)
    return box_iou(_around(predicted), _around(true), inclusive=inclusive)


def _around(boxes: Sequence[PixelBox]) -> PixelBox:
    left, top, right, bottom = zip(*boxes, strict=True)
    return PixelBox(min(left), min(top), max(right), max(bottom))
