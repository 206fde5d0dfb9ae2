"""Masks as polygons whose vertices are the corners of pixels, so that nothing is lost on the way there and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from scipy.spatial import KDTree

if TYPE_CHECKING:
    from collections.abc import Sequence


class Polygon(NamedTuple):
    """One 4-connected part of a mask: its outer ring and those of its holes.

    Rings are int arrays (k 2) of x, y on the corners of pixels, 0 to width and 0 to height, the first vertex not
    repeated. By the shoelace formula outer rings have positive area and holes negative, as RFC 7946 (GeoJSON) wants.
    """

    outer: np.ndarray
    holes: tuple[np.ndarray, ...]


def polygons(mask: np.ndarray) -> list[Polygon]:
    """The exact outlines of a bool mask (h w): a pixel belongs to the mask if its centre lies inside.

    Parts that touch only at a corner are separate polygons. Empty for an empty mask.
    """
    if not mask.any():
        return []
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    outers: dict[int, np.ndarray] = {}
    holes: dict[int, list[np.ndarray]] = {}
    for ring, (x, y) in _rings(mask):
        label = int(labels[y, x])
        if _doubled_area(ring) > 0:
            outers[label] = ring
        else:
            holes.setdefault(label, []).append(ring)
    return [Polygon(outer, tuple(holes.get(label, ()))) for label, outer in outers.items()]


def joined(parts: list[Polygon]) -> np.ndarray:
    """All rings of at least one polygon as one closed outline (k 2), joined by bridges of no width.

    For formats that hold one outline an object (YOLO): bridges are walked there and back, so that the even-odd rule
    fills the same mask, holes and separate parts included. Every part hangs on the largest, every hole on its own part,
    each by the shortest way between two vertices.
    """
    largest = max(range(len(parts)), key=lambda index: _doubled_area(parts[index].outer))
    others = [_with_detours(part.outer, part.holes) for index, part in enumerate(parts) if index != largest]
    return _with_detours(parts[largest].outer, (*parts[largest].holes, *others))


def _with_detours(ring: np.ndarray, detours: Sequence[np.ndarray]) -> np.ndarray:
    if not detours:
        return ring
    tree = KDTree(ring)
    hanging: dict[int, list[np.ndarray]] = {}
    for detour in detours:
        distances, nearest = tree.query(detour)
        first = int(distances.argmin())
        start = int(nearest[first])
        turned = np.roll(detour, -first, axis=0)
        hanging.setdefault(start, []).extend((turned, turned[:1], ring[start : start + 1]))
    pieces, done = [], 0
    for start in sorted(hanging):
        pieces += [ring[done : start + 1], *hanging[start]]
        done = start + 1
    return np.concatenate([*pieces, ring[done:]])


def _doubled_area(ring: np.ndarray) -> int:
    x, y = ring[:, 0].astype(np.int64), ring[:, 1].astype(np.int64)
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


def _rings(mask: np.ndarray) -> list[tuple[np.ndarray, tuple[int, int]]]:
    """Closed rings with the mask on their right hand, each with a pixel (x, y) of the mask beside it.

    Straight pieces between mask and background are found as whole runs; horizontal and vertical ones alternate, and
    the next one starts where the last ended. Where two pixels touch at a corner two pieces start at one vertex: the
    right turn keeps to the same pixel.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    # +1 where the mask is below the line (walked rightwards), -1 where it is above (walked leftwards).
    rows, left, right, below = _runs(np.diff(padded, axis=0)[:, 1:-1])
    # +1 where the mask is right of the line (walked upwards), -1 where it is left of it (walked downwards).
    columns, top, bottom, beside = _runs(np.diff(padded, axis=1)[1:-1, :].T)
    stride = mask.shape[1] + 1
    across_start = rows * stride + np.where(below > 0, left, right)
    across_end = rows * stride + np.where(below > 0, right, left)
    down_start = np.where(beside > 0, bottom, top) * stride + columns
    down_end = np.where(beside > 0, top, bottom) * stride + columns
    # Right turns: rightwards then downwards (mask left of it), upwards then rightwards (mask below).
    to_down = _next(across_end, -below, down_start, beside)
    to_across = _next(down_end, beside, across_start, below)
    following = to_across[to_down]

    rings, seen = [], np.zeros(len(rows), dtype=bool)
    for first in range(len(rows)):
        if seen[first]:
            continue
        walk, piece = [], first
        while not seen[piece]:
            seen[piece] = True
            walk.append(piece)
            piece = int(following[piece])
        starts, ends = across_start[walk], across_end[walk]
        vertices = np.stack([starts, ends], axis=1).reshape(-1)
        ring = np.stack([vertices % stride, vertices // stride], axis=1)
        pixel = int(left[first]), int(rows[first] if below[first] > 0 else rows[first] - 1)
        rings.append((ring, pixel))
    return rings


def _runs(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Row, begin, end (half-open) and sign of every run of equal non-zero values along the rows."""
    edge = np.pad(steps, ((0, 0), (1, 1)))
    changes = edge[:, 1:] != edge[:, :-1]
    begin_row, begin = np.nonzero(changes & (edge[:, 1:] != 0))
    _, end = np.nonzero(changes & (edge[:, :-1] != 0))
    return begin_row, begin, end, steps[begin_row, begin]


def _next(ends: np.ndarray, wanted: np.ndarray, starts: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """For each end the piece that starts there; of two the one with the wanted sign."""
    order = np.argsort(starts, kind="stable")
    ordered = starts[order]
    low = np.searchsorted(ordered, ends, side="left")
    two = np.searchsorted(ordered, ends, side="right") - low > 1
    take = low + (two & (signs[order[low]] != wanted))
    return order[take]
