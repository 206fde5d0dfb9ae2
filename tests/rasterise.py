"""An independent rasteriser for outlines on pixel corners, by crossing numbers; it shares nothing with the tracer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def rasterise(rings: Iterable[Sequence[Sequence[float]]], height: int, width: int) -> np.ndarray:
    """Bool mask (h w) of the pixels whose centres lie inside, by the even-odd rule over all rings together."""
    inside = np.zeros((height, width), dtype=bool)
    ys, xs = np.arange(height) + 0.5, np.arange(width) + 0.5
    for ring in rings:
        points = np.asarray(ring, dtype=np.float64)
        for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if y1 == y2:
                continue
            # A ray to the left from each centre crosses this edge where the edge spans its row and lies left of it.
            rows = np.nonzero((np.minimum(y1, y2) <= ys) & (ys < np.maximum(y1, y2)))[0]
            crossing = x1 + (ys[rows] - y1) * (x2 - x1) / (y2 - y1)
            inside[rows] ^= crossing[:, None] < xs[None, :]
    return inside
