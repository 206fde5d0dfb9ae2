"""COCO's average precision of boxes, every (picture, expression) its own image.

pycocotools matches the boxes of each image; the precision curve is worked out here, for any weights of the images at
once, which is what the bootstrap needs. With weights of 1 it is pycocotools' own, number for number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pycocotools.cocoeval import COCOeval

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gensegcli.records import PixelBox

NAMES = ("AP", "AP50", "AP75")
_THRESHOLDS = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}
"""Of COCO's ten, 0.50 to 0.95, those over which each is the mean."""

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


class _Matcher(COCOeval):
    """pycocotools' matching of one image, without its files and categories."""

    def __init__(self) -> None:
        super().__init__(iouType="bbox")
        self.params.imgIds, self.params.catIds = [_KEY[0]], [_KEY[1]]

    def match(self, image: ImageBoxes, *, inclusive: bool) -> dict[str, Any]:
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
        return self.evaluateImg(*_KEY, self.params.areaRng[0], self.params.maxDets[-1])


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
    thresholds = len(matcher.params.iouThrs)
    owners, scores, hits, misses, wanted = [], [], [], [], []
    for number, image in enumerate(images):
        wanted.append(len(image.true) - sum(image.crowd))
        if not image.predicted:
            continue
        found = matcher.match(image, inclusive=inclusive)
        taken, ignored = found["dtMatches"] > 0, found["dtIgnore"].astype(bool)
        owners.append(np.full(taken.shape[1], number))
        scores.append(found["dtScores"])
        hits.append(taken & ~ignored)
        misses.append(~taken & ~ignored)
    if not owners:
        none = np.zeros((thresholds, 0), bool)
        return BoxMatches(np.zeros(0, int), none, none, np.array(wanted))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return BoxMatches(
        np.concatenate(owners)[order],
        np.concatenate(hits, axis=1)[:, order],
        np.concatenate(misses, axis=1)[:, order],
        np.array(wanted),
    )


def average_precision(matches: BoxMatches, weights: np.ndarray) -> np.ndarray:
    """AP, AP50 and AP75 (b 3) where each image counts as often as `weights` (b n) says; NaN where nothing is wanted.

    The mean of the precision at 101 recalls from 0 to 1, each the best one at that recall or a higher one.
    """
    wanted = weights @ matches.wanted
    times = weights[:, matches.image]
    by_threshold = [
        _mean_precision(times * hit, times * miss, wanted) for hit, miss in zip(matches.hit, matches.miss, strict=True)
    ]
    means = np.stack([np.mean(by_threshold[_THRESHOLDS[name]], axis=0) for name in NAMES], axis=1)
    return np.where(wanted[:, None] > 0, means, np.nan)


def _mean_precision(hits: np.ndarray, misses: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Mean interpolated precision (b) from weighted hits and misses (b d) in the order of confidence."""
    true = np.cumsum(hits, axis=1)
    precision = true / (true + np.cumsum(misses, axis=1) + np.spacing(1))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.pad(best, ((0, 0), (0, 1)))  # a recall that is never reached has precision 0
    recall = true / np.maximum(wanted, 1)[:, None]
    places = [np.searchsorted(row, _RECALLS) for row in recall]
    return np.take_along_axis(best, np.array(places), axis=1).mean(axis=1)


_RECALLS = COCOeval(iouType="bbox").params.recThrs
