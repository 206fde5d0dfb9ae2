"""COCO's average precision of boxes, every (picture, expression) its own image.

pycocotools matches the boxes of each image; the precision curve is worked out here, for any weights of the images at
once, which is what the bootstrap needs. With weights of 1 it is pycocotools' own, number for number.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pycocotools.cocoeval import COCOeval, Params

from gensegcli.geometry.boxes import box_iou

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gensegcli.records import PixelBox

NAMES = ("AP", "AP50", "AP75")
_THRESHOLDS = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}
"""Of COCO's ten, 0.50 to 0.95, those over which each is the mean."""

_RECALLS = Params(iouType="bbox").recThrs

_KEY = (1, 1)
"""pycocotools' image and category: each image is matched on its own."""


class ImageBoxes(NamedTuple):
    """The boxes of one image and the confidence in each predicted one."""

    true: Sequence[PixelBox]
    predicted: Sequence[PixelBox]
    scores: Sequence[float]
    crowd: Sequence[bool] = ()
    """Which of the true boxes hold a crowd, in COCO's sense: these need not be found. None of them if empty."""


@dataclass(frozen=True, slots=True)
class BoxMatches:
    """The predicted boxes (d) of all images (n), most confident first, and what each is at every threshold (t)."""

    image: np.ndarray
    """Number of each box's image: int (d)."""
    hit: np.ndarray
    """Overlaps a true box that no more confident box took: bool (t d)."""
    miss: np.ndarray
    """Overlaps none: bool (t d). Neither is a box on a crowd."""
    wanted: np.ndarray
    """How many boxes are to be found in each image: int (n)."""

    def only(self, images: np.ndarray) -> BoxMatches:
        """The boxes of the images where `images` (n) is true, which are counted anew from 0."""
        kept = images[self.image]
        numbers = np.cumsum(images) - 1
        return BoxMatches(numbers[self.image[kept]], self.hit[:, kept], self.miss[:, kept], self.wanted[images])


_HIT, _MISS, _NEITHER = 0, 1, 2


class _Matcher(COCOeval):
    """pycocotools' matching of one image, without its files and categories."""

    def __init__(self) -> None:
        super().__init__(iouType="bbox")
        self.params.imgIds, self.params.catIds = [_KEY[0]], [_KEY[1]]
        self.least = np.minimum(self.params.iouThrs, 1 - 1e-10)

    def match(self, image: ImageBoxes, *, inclusive: bool) -> tuple[np.ndarray, Sequence[float]]:
        """What each box is at every threshold (t k), and the scores (k), most confident first."""
        if len(image.true) == len(image.predicted) == 1 and not image.crowd:
            iou = box_iou(image.predicted[0], image.true[0], inclusive=inclusive)
            return (iou < self.least)[:, None].astype(np.int8), image.scores
        crowd = image.crowd or [False] * len(image.true)
        self._gts[_KEY] = [
            _annotation(number, box, inclusive=inclusive) | {"iscrowd": int(one), "ignore": int(one)}
            for number, (box, one) in enumerate(zip(image.true, crowd, strict=True), 1)
        ]
        self._dts[_KEY] = [
            _annotation(number, box, inclusive=inclusive) | {"score": score}
            for number, (box, score) in enumerate(zip(image.predicted, image.scores, strict=True), 1)
        ]
        self.ious = {_KEY: self.computeIoU(*_KEY)}
        found = self.evaluateImg(*_KEY, self.params.areaRng[0], self.params.maxDets[-1])
        kinds = np.where(found["dtIgnore"], _NEITHER, np.where(found["dtMatches"] > 0, _HIT, _MISS))
        return kinds.astype(np.int8), found["dtScores"]


def _annotation(number: int, box: PixelBox, *, inclusive: bool) -> dict[str, Any]:
    width, height = box.x2 - box.x1 + inclusive, box.y2 - box.y1 + inclusive
    return {"id": number, "bbox": [box.x1, box.y1, width, height], "area": width * height}


def match_boxes(images: Iterable[ImageBoxes], *, inclusive: bool = False) -> BoxMatches:
    """Match the boxes of each image as COCO's evaluation does: greedily by score, the 100 most confident at most.

    Boxes of equal score keep the order of the images.

    Args:
        images: the boxes of every image, also of those without any.
        inclusive: both corners belong to a box.
    """
    matcher = _Matcher()
    owners, scores, found, wanted = array("q"), array("d"), bytearray(), array("q")
    for number, image in enumerate(images):
        wanted.append(len(image.true) - sum(image.crowd))
        if not image.predicted:
            continue
        kinds, ranked = matcher.match(image, inclusive=inclusive)
        owners.extend([number] * len(ranked))
        scores.extend(ranked)
        found += kinds.T.tobytes()
    order = np.argsort(-np.frombuffer(scores), kind="stable")
    kinds = np.frombuffer(bytes(found), np.int8).reshape(len(order), len(matcher.params.iouThrs))[order].T
    return BoxMatches(
        np.frombuffer(owners, np.int64)[order], kinds == _HIT, kinds == _MISS, np.frombuffer(wanted, np.int64)
    )


def average_precision(matches: BoxMatches, weights: np.ndarray) -> np.ndarray:
    """AP, AP50 and AP75 (b 3) where each image counts as often as `weights` (b n) says; NaN where nothing is wanted.

    The mean of the precision at 101 recalls from 0 to 1, each the best one at that recall or a higher one.

    Args:
        matches: the boxes.
        weights: whole numbers.
    """
    weights = weights.astype(np.int32)  # their running sums take a quarter of the time that those of floats take
    wanted = weights @ matches.wanted
    precise = _mean_precisions(matches, np.take(weights, matches.image, axis=1), _needed(wanted))
    means = np.stack([precise[_THRESHOLDS[name]].mean(axis=0) for name in NAMES], axis=1)
    return np.where(wanted[:, None] > 0, means, np.nan)


def _needed(wanted: np.ndarray) -> np.ndarray:
    """The least number of hits with which each recall is reached (b 101), in the arithmetic of floats that COCO uses."""
    below = np.floor(_RECALLS * wanted[:, None]) - 1
    # Off by a rounding at most, so one of the next two is it.
    for _ in range(2):
        below += below / np.maximum(wanted, 1)[:, None] < _RECALLS
    # Recall 0 has its best precision at a hit, as every other.
    return np.maximum(below, 1).astype(np.int64)


def _mean_precisions(matches: BoxMatches, times: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """Mean interpolated precision of every threshold (t b).

    Precision grows with each hit and falls with each miss, so the best one is always at the last of a run of hits. The
    runs (k) of all thresholds stand one after the other, so that a handful of calls does the work of all resamples.

    Args:
        matches: the boxes.
        times: how often each box is there (b d).
        needed: hits for each recall (b r).
    """
    rows, thresholds = len(times), len(matches.hit)
    edges = np.flatnonzero(np.diff(matches.hit, axis=1, prepend=False, append=False))
    threshold, place = np.divmod(edges, times.shape[1] + 1)
    runs = len(edges) // 2
    if not runs:
        return np.zeros((thresholds, rows))
    # Where there are crowds, the boxes on them differ from threshold to threshold.
    kinds: dict[bytes, int] = {}
    kind = np.array([kinds.setdefault(row.tobytes(), len(kinds)) for row in matches.hit | matches.miss])
    boxes = np.hstack([_before(times * np.frombuffer(row, bool)) for row in kinds])
    seen = np.take(boxes, kind[threshold] * (times.shape[1] + 1) + place, axis=1)  # before each run, and up to its end
    found = _before(seen[:, 1::2] - seen[:, ::2])
    first = np.searchsorted(threshold[::2], np.arange(thresholds + 1))  # run of each threshold
    before = found[:, first]  # hits at all thresholds before
    true = found[:, 1:] - np.take(before, threshold[::2], axis=1)
    precision = true / np.maximum(seen[:, 1::2], 1)

    # All rows in one ascending line, so that one search finds every place. From there to the next one lies nothing but
    # runs of the same threshold, and perhaps some before the first hit of another: their precision is 0.
    reached = needed[:, None] <= np.diff(before)[:, :, None]  # (b t r)
    line = (int(needed.max()) + int(found[:, -1].max()) + 1) * np.arange(rows)[:, None]
    wanted = needed[:, None] + (before[:, :-1] + line)[:, :, None]
    places = np.searchsorted((found[:, 1:] + line).ravel(), wanted[reached])
    best = np.zeros(reached.shape)  # a recall that is never reached has precision 0
    best[reached] = np.maximum.reduceat(precision.ravel(), places)
    np.maximum.accumulate(best[:, :, ::-1], axis=2, out=best[:, :, ::-1])
    return np.ascontiguousarray(best.mean(axis=2).T)


def _before(numbers: np.ndarray) -> np.ndarray:
    """Running sums over the last axis, beginning with 0: one more than there are numbers."""
    sums = np.zeros((len(numbers), numbers.shape[1] + 1), np.int32)
    np.cumsum(numbers, axis=1, dtype=np.int32, out=sums[:, 1:])
    return sums
