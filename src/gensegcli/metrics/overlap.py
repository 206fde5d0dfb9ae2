"""How much two masks of one picture share: the one overlap count of rewards and evaluation.

Masks are bool arrays (h w) or run lengths. Run lengths are counted as they are, never decoded.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gensegcli.records import Rle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gensegcli.records import Size

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
        true: the same, of the same size.
        ignore: pixels that are neither object nor background.
        ignored: what becomes of them.

    Raises:
        GensegError: the masks differ in size.

    >>> overlap(np.eye(2, dtype=bool), np.ones((2, 2), bool))
    Overlap(intersection=2, union=4, predicted=2, true=4)
    """
    raise NotImplementedError


def united(masks: Sequence[Rle], size: Size) -> Rle:
    """The union of masks of one picture of `size`, empty without masks.

    Raises:
        GensegError: a mask is of another size.
    """
    raise NotImplementedError
