"""COCO's run-length form of masks, through pycocotools: encode, decode, merge, and every shape annotations come in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from pycocotools import mask as coco

from gensegcli.errors import GensegError
from gensegcli.geometry.masks import Patch
from gensegcli.records import PixelBox, Rle, Size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FAR = 10
"""Polygon corners farther out than this many picture lengths are damage, and rasterising them takes gigabytes."""


def encode(mask: np.ndarray) -> Rle:
    """The run-length form of a bool mask (h w).

    >>> encode(np.eye(2, dtype=bool))
    Rle(size=Size(width=2, height=2), counts='0120')
    """
    # OpenCV transposes in a tenth of the time that NumPy takes to reorder.
    by_columns = cv2.transpose(np.ascontiguousarray(mask, np.uint8)) if mask.size else mask.T.astype(np.uint8)
    return _from_pycocotools(coco.encode(by_columns.T))


def decode(rle: Rle) -> np.ndarray:
    """The bool mask (h w) of a run-length form.

    >>> decode(Rle(Size(2, 2), "0120")).astype(int).tolist()
    [[1, 0], [0, 1]]

    Raises:
        GensegError: the counts are damaged or do not fill the picture.
    """
    # Not pycocotools' own decoder: it warns under NumPy 2 and trusts the counts.
    runs = _runs(rle.counts.encode("utf-8", "surrogatepass"))
    _check_sum(runs, rle.size)
    pixels = np.repeat(np.arange(runs.size, dtype=np.uint8) & 1, runs)
    return cv2.transpose(pixels.reshape(rle.size.width, rle.size.height)).view(bool)


def encode_patch(patch: Patch, size: Size) -> Rle:
    """`encode` of the mask of a picture of `size`, at the cost of the part that is cut out.

    >>> encode_patch(Patch(np.ones((1, 1), bool), left=1, top=1), Size(2, 2))
    Rle(size=Size(width=2, height=2), counts='31')
    """
    height, width = patch.pixels.shape
    # By columns, with one pixel of background above and below each: a run never reaches into the next column.
    columns = np.zeros((width, height + 2), np.uint8)
    columns[:, 1:-1] = cv2.transpose(patch.pixels.view(np.uint8))
    changes = np.flatnonzero((columns[:, 1:] ^ columns[:, :-1]).view(bool))
    column, row = np.divmod(changes, height + 1)
    bounds = (column + patch.left) * size.height + row + patch.top
    # A run that ends at the bottom of one column goes on where one begins at the top of the next.
    joined = np.flatnonzero(bounds[1:-1:2] == bounds[2::2])
    bounds = np.delete(bounds, np.concatenate([2 * joined + 1, 2 * joined + 2]))
    counts = np.diff(bounds, prepend=0, append=size.width * size.height)
    runs = counts[: counts.size - (counts[-1] == 0)].tolist()
    return _from_pycocotools(coco.frPyObjects({"size": [size.height, size.width], "counts": runs}, *reversed(size)))


def decode_patch(rle: Rle) -> Patch | None:
    """`decode`, cut to the box around the mask, at the cost of the box's columns; None for an empty mask.

    Raises:
        GensegError: as `decode`.
    """
    height = rle.size.height
    runs = _runs(rle.counts.encode("utf-8", "surrogatepass"))
    _check_sum(runs, rle.size)
    ends = np.cumsum(runs)
    starts, ends = (ends - runs)[1::2], ends[1::2]
    there = ends > starts
    if not there.any():
        return None
    starts, ends = starts[there], ends[there]
    left, right = int(starts[0]) // height, -(-int(ends[-1]) // height)
    steps = np.zeros((right - left) * height + 1, np.int8)
    steps[starts - left * height] = 1
    steps[ends - left * height] = -1
    columns = np.cumsum(steps[:-1], dtype=np.int8).view(bool).reshape(right - left, height)
    rows = np.flatnonzero(columns.any(axis=0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    return Patch(cv2.transpose(np.ascontiguousarray(columns[:, top:bottom]).view(np.uint8)).view(bool), left, top)


def area(rle: Rle) -> int:
    """The number of the mask's pixels, without decoding it."""
    return int(coco.area(_to_pycocotools(rle)))


def is_empty(rle: Rle) -> bool:
    """Whether no pixel belongs to the mask.

    >>> is_empty(encode(np.zeros((2, 2), dtype=bool))), is_empty(encode(np.eye(2, dtype=bool)))
    (True, False)
    """
    return not area(rle)


def box(rle: Rle) -> PixelBox | None:
    """The smallest half-open box around the mask, without decoding it; None for an empty mask."""
    x, y, width, height = (float(value) for value in coco.toBbox(_to_pycocotools(rle)))
    return PixelBox(x, y, x + width, y + height) if width else None


def merge(rles: Iterable[Rle], size: Size) -> Rle:
    """The union of masks of one picture; without masks the empty mask of `size`.

    Raises:
        ValueError: a mask is not of `size`.
    """
    parts = list(rles)
    for part in parts:
        if part.size != size:
            raise ValueError(f"mask of {size.width}x{size.height} expected, {part.size.width}x{part.size.height} found")
    if not parts:
        background = {"size": [size.height, size.width], "counts": [size.height * size.width]}
        return _from_pycocotools(coco.frPyObjects(background, size.height, size.width))
    return _from_pycocotools(coco.merge([_to_pycocotools(part) for part in parts], intersect=False))


def intersection(a: Rle, b: Rle) -> Rle:
    """The pixels that two masks of one picture share, without decoding them.

    Raises:
        ValueError: the masks differ in size.
    """
    if a.size != b.size:
        raise ValueError(f"mask of {a.size.width}x{a.size.height} expected, {b.size.width}x{b.size.height} found")
    return _from_pycocotools(coco.merge([_to_pycocotools(a), _to_pycocotools(b)], intersect=True))


def to_coco(rle: Rle) -> dict[str, Any]:
    """COCO's JSON form: `{"size": [height, width], "counts": "…"}`."""
    return {"size": [rle.size.height, rle.size.width], "counts": rle.counts}


def from_coco(segmentation: Any, size: Size) -> Rle:
    """The mask of a COCO `segmentation` on a picture of `size`.

    Args:
        segmentation: polygons (list of flat `[x, y, x, y, …]` lists, united; one flat list is one polygon), a
            run-length dict whose `counts` are a list of runs (crowd annotations), a compressed string, or bytes, or
            as many rows of 0 and 1 (or of booleans) as the picture has, each as long as it is wide.
        size: the picture the annotation belongs to.

    Raises:
        GensegError: a polygon with fewer than three corners or with numbers that are none, runs that do not fill the
            picture, a size that is not the picture's, rows that are not the picture's, or something else altogether.

    >>> decode(from_coco([[0, 0, 1], [0, 1, 1]], Size(3, 2))).astype(int).tolist()
    [[0, 0, 1], [0, 1, 1]]
    """
    if isinstance(segmentation, dict):
        return _from_runs(segmentation, size)
    if isinstance(segmentation, list | tuple) and segmentation:
        pixels = _pixels(segmentation, size)
        if pixels is not None:
            return encode(pixels)
        flat = not isinstance(segmentation[0], list | tuple)
        polygons = [_polygon(part, size) for part in ([segmentation] if flat else segmentation)]
        return _from_pycocotools(coco.merge(coco.frPyObjects(polygons, size.height, size.width), intersect=False))
    raise GensegError(
        f"segmentation: polygons or a run-length dict expected, {_kind(segmentation)} found",
        hint="COCO writes [[x, y, x, y, …], …] or {'size': [height, width], 'counts': …}",
    )


def without_degenerate(segmentation: Any) -> tuple[Any, int]:
    """A `segmentation` without polygons of fewer than three corners, if a sound one is left, and how many those were.

    >>> without_degenerate([[0, 0, 4, 0, 4, 4], [7, 7, 9, 9]])
    ([[0, 0, 4, 0, 4, 4]], 1)
    >>> without_degenerate([[7, 7, 9, 9]])
    ([[7, 7, 9, 9]], 0)
    """
    if not isinstance(segmentation, list) or not all(isinstance(part, list) for part in segmentation):
        return segmentation, 0
    sound = [part for part in segmentation if len(part) >= 6]
    dropped = len(segmentation) - len(sound)
    dense = all(map(_is_binary, segmentation))  # rows of a narrow picture
    return (sound, dropped) if sound and not dense else (segmentation, 0)


def _pixels(rows: Sequence[Any], size: Size) -> np.ndarray | None:
    """The bool mask (h w) that rows of 0 and 1 spell; None for what may be polygons.

    Polygons are no such rows: corners at 0 and 1 alone would all lie on the picture's first pixel.
    """
    if not all(isinstance(row, list | tuple) for row in rows):
        if len(rows) == size.width * size.height and _is_binary(rows):
            raise _not_rows(f"a flat list of {len(rows)} numbers 0 and 1", size)
        return None
    if any(isinstance(value, list | tuple) for row in rows for value in row[:1]):
        raise _not_rows("lists within lists within lists", size)
    widths = {len(row) for row in rows}
    fits = len(rows) == size.height and widths == {size.width}
    if all(map(_is_binary, rows)):
        if fits:
            return np.array(rows, bool)
        if len(rows) > 1 or max(widths) > 8:
            lengths = " or ".join(map(str, sorted(widths)[:3]))
            raise _not_rows(f"{len(rows)} rows of {lengths} numbers 0 and 1", size)
    if fits and len(rows) > 1:
        values = sorted({value for row in rows for value in row if isinstance(value, int | float)})
        if len(values) <= 2 or (values[0] >= 0 and values[-1] <= 1):
            shown = ", ".join(f"{value:g}" for value in values[:3])
            raise _not_rows(f"{len(rows)} rows of {size.width} numbers like {shown}", size)
    return None


def _is_binary(row: Sequence[Any]) -> bool:
    return bool(row) and all(isinstance(value, int | float) and value in (0, 1) for value in row)


def _not_rows(found: str, size: Size) -> GensegError:
    return GensegError(
        f"segmentation: {found}, expected polygons, run lengths, or {size.height} rows of {size.width} numbers 0 and 1",
        hint="a dense mask is one list for each row of the picture, from the top; mask.astype(int).tolist() writes it",
    )


def _kind(value: object) -> str:
    return "an empty list" if value == [] else type(value).__name__


def _polygon(corners: Any, size: Size) -> list[float]:
    if not isinstance(corners, list | tuple) or not all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in corners
    ):
        raise GensegError(f"segmentation: a polygon is a flat list of numbers, {_kind(corners)} found")
    if len(corners) < 6 or len(corners) % 2:
        raise GensegError(
            f"segmentation: a polygon has at least three corners and two numbers each, {len(corners)} numbers found",
            hint="drop the degenerate part from the annotation file",
        )
    limit = FAR * max(size)
    if not all(math.isfinite(value) and abs(value) <= limit for value in corners):
        raise GensegError(f"segmentation: a polygon's corner lies far outside the {size.width}x{size.height} picture")
    return [float(value) for value in corners]


def _from_runs(segmentation: dict[str, Any], size: Size) -> Rle:
    declared, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(declared, list | tuple) or list(declared) != [size.height, size.width]:
        raise GensegError(
            f"segmentation: run-length size [{size.height}, {size.width}] (height, width) expected, {declared!r} found",
            hint="the annotation belongs to a picture of another size",
        )
    if isinstance(counts, list | tuple):
        _check_runs(counts, size)
        found = _from_pycocotools(coco.frPyObjects({"size": [*declared], "counts": [*counts]}, size.height, size.width))
        return _without_empty_runs(found, np.asarray(counts, np.int64))
    if isinstance(counts, str | bytes):
        text = counts.encode("utf-8", "surrogatepass") if isinstance(counts, str) else counts
        if text.startswith((b"b'", b'b"')):
            raise GensegError(
                "segmentation: the compressed counts are damaged: they are the text of a Python bytes object",
                hint="""counts.decode() gives what belongs there, without the b'…' around it""",
            )
        runs = _runs(text)
        _check_sum(runs, size)
        return _without_empty_runs(Rle(size, text.decode("ascii")), runs)
    raise GensegError(f"segmentation: counts are a list of runs or a compressed string, {_kind(counts)} found")


def _without_empty_runs(found: Rle, runs: np.ndarray) -> Rle:
    """The same mask without empty runs after the first, at which pycocotools' merge ends early and loses the rest."""
    return found if runs[1:].all() else encode(decode(found))


def _runs(counts: bytes) -> np.ndarray:
    """The run lengths (n) behind compressed counts.

    pycocotools reads past the end of a damaged string, so damage must be found here. Each run is a little-endian group
    of bytes with 5 bits each, offset 48, bit 5 set on all but the last, sign in bit 4 of the last; from the fourth run
    on it is the difference to the run two before.
    """
    digits = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if not digits.size or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        raise GensegError("segmentation: the compressed counts are damaged", hint="counts is no COCO run-length string")
    last = (digits & 32) == 0
    ends = np.flatnonzero(last)
    starts = np.concatenate(([0], ends[:-1] + 1))
    place = np.arange(digits.size) - np.repeat(starts, ends - starts + 1)
    if place.max() > 6:  # 35 bits hold every run of a picture
        raise GensegError("segmentation: the compressed counts are damaged", hint="a run is longer than any picture")
    values = np.add.reduceat((digits & 31) << (5 * place), starts)
    values -= np.where(digits[ends] & 16, 1 << (5 * (place[ends] + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])  # run 1, 3, 5 …: the differences start at run 3
    if values.size > 2:
        values[2::2] = np.cumsum(values[2::2])  # run 0 stands for itself; runs 4, 6 … differ from 2, 4 …
    return values


def _check_runs(runs: Sequence[Any], size: Size) -> None:
    """Runs as they stand in a JSON file: numbers of any size, or something else altogether."""
    whole = all(isinstance(run, int) and not isinstance(run, bool) and 0 <= run <= 1 << 40 for run in runs)
    _check_sum(np.array(runs if whole else [-1], np.int64), size)


def _check_sum(runs: np.ndarray, size: Size) -> None:
    if runs.min(initial=0) < 0 or int(runs.sum()) != size.width * size.height:
        raise GensegError(
            f"segmentation: the runs must be whole numbers that fill the {size.width}x{size.height} picture",
            hint="the annotation is damaged or belongs to a picture of another size",
        )


def _to_pycocotools(rle: Rle) -> dict[str, Any]:
    return {"size": [rle.size.height, rle.size.width], "counts": rle.counts.encode("ascii")}


def _from_pycocotools(found: dict[str, Any]) -> Rle:
    height, width = found["size"]
    return Rle(Size(int(width), int(height)), found["counts"].decode("ascii"))
