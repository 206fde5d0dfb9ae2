"""The filled box as a mask: the honest floor that any real segmenter must beat, and a fast stand-in for tests."""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np

from gensegcli.records import SegmentedMask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gensegcli.records import MaskPrompt, PixelBox


class BoxFill:
    """A segmenter that knows nothing: the mask is the box, clipped to the picture, and it has no score."""

    id = "boxfill"
    revision: str | None = None

    def segment(
        self, images: Sequence[np.ndarray], prompts: Sequence[Sequence[MaskPrompt]]
    ) -> list[list[SegmentedMask]]:
        """See `Segmenter.segment`; points are ignored."""
        return [
            [SegmentedMask(fill(prompt.box, image.shape[0], image.shape[1])) for prompt in asked]
            for image, asked in zip(images, prompts, strict=True)
        ]


def fill(box: PixelBox, height: int, width: int) -> np.ndarray:
    """A bool mask (h w) of the pixels whose centre lies in the half-open box.

    A box so thin that it covers no centre still marks the pixels it lies in, so that a box inside the picture never
    gives an empty mask. A box wholly outside gives one.

    >>> from gensegcli.records import PixelBox
    >>> fill(PixelBox(1.0, 0.0, 3.0, 1.0), height=2, width=4).astype(int).tolist()
    [[0, 1, 1, 0], [0, 0, 0, 0]]
    """
    mask = np.zeros((height, width), dtype=bool)
    mask[_covered(box.y1, box.y2, height), _covered(box.x1, box.x2, width)] = True
    return mask


def _covered(start: float, stop: float, length: int) -> slice:
    """The pixels of one axis whose centre lies in [start, stop), or the one in its middle where there is none."""
    first, last = ceil(start - 0.5), ceil(stop - 0.5)
    if last <= first and start < stop:
        first = floor((start + stop) / 2)
        last = first + 1
    first, last = max(first, 0), min(last, length)
    return slice(first, max(last, first))
