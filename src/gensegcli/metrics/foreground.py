"""Measures of foreground segmentation, as PySODMetrics computes them, for bool masks and for grey-level maps.

PySODMetrics walks 256 thresholds over a grey map. A mask has two values only: at every threshold above 0 the map is the
mask, at 0 it is full. So counts of pixels say everything, but for the weighted F-measure, which asks where they lie.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

from gensegcli.metrics.overlap import Overlap, overlap
from gensegcli.metrics.records import ForegroundScore

_EPS = float(np.spacing(1))
LEVELS = 256
"""Of a grey map, and thresholds of its curves."""


def foreground_score(predicted: np.ndarray, true: np.ndarray) -> ForegroundScore:
    """Every measure of a predicted and a true bool mask (h w).

    Raises:
        GensegError: the masks differ in size.
    """
    counts, pixels = overlap(predicted, true), true.size
    full = Overlap(intersection=counts.true, union=pixels, predicted=pixels, true=counts.true)
    # Twice the mean of the map is the adaptive threshold: 0 for an empty mask, and then all of the map is above it.
    adaptive = counts if counts.predicted else full
    return ForegroundScore(
        s_measure=s_measure(predicted, true),
        e_measure=e_measure(counts, pixels),
        e_measure_full=e_measure(full, pixels),
        e_measure_adaptive=e_measure(adaptive, pixels),
        f_measure=f_measure(counts),
        f_measure_full=f_measure(full),
        f_measure_adaptive=f_measure(adaptive),
        weighted_f=weighted_f_measure(predicted, true),
        mae=(counts.union - counts.intersection) / pixels,
    )


def map_score(levels: np.ndarray, true: np.ndarray) -> ForegroundScore:
    """Every measure of a predicted grey-level map (uint8, h w) and a true bool mask (h w).

    As PySODMetrics does, the map is stretched first, so that its darkest level is 0 and its brightest 1; a map of one
    level stays as it is.

    Raises:
        GensegError: map and mask differ in size.
    """
    soft = levels / (LEVELS - 1)
    low, high = soft.min(), soft.max()
    if low != high:
        soft = (soft - low) / (high - low)
    # Twice the mean, which both adaptive measures cut at.
    adaptive, pixels, area = overlap(soft >= min(2 * soft.mean(), 1), true), true.size, _pixels(true)
    steps = (soft * (LEVELS - 1)).astype(np.uint8)
    inside, outside = (np.bincount(steps[part], minlength=LEVELS)[::-1].cumsum() for part in (true, ~true))
    counts = [
        Overlap(intersection=shared, union=area + beside, predicted=shared + beside, true=area)
        for shared, beside in zip(inside.tolist(), outside.tolist(), strict=True)
    ]
    e_curve = tuple(e_measure(cut, pixels) for cut in counts)
    f_curve = tuple(f_measure(cut) for cut in counts)
    return ForegroundScore(
        s_measure=s_measure(soft, true),
        e_measure=e_curve[LEVELS // 2],
        e_measure_full=e_curve[-1],
        e_measure_adaptive=e_measure(adaptive, pixels),
        f_measure=f_curve[LEVELS // 2],
        f_measure_full=f_curve[-1],
        f_measure_adaptive=f_measure(adaptive),
        weighted_f=weighted_f_measure(soft, true),
        mae=float(np.mean(np.abs(soft - true))),
        e_curve=e_curve,
        f_curve=f_curve,
    )


def mean_of_curve(at_mask: np.ndarray, at_full: np.ndarray) -> np.ndarray:
    """The mean over 256 thresholds of measures that have one value at the lowest and another at all others."""
    return ((LEVELS - 1) * at_mask + at_full) / LEVELS


def f_measure(counts: Overlap, *, beta2: float = 0.3) -> float:
    """F-measure in [0, 1] with precision weighing more than recall; 0 where the masks share nothing, even if both are empty.

    >>> f_measure(Overlap(intersection=0, union=0, predicted=0, true=0))
    0.0
    """
    if not counts.intersection:
        return 0.0
    precision, recall = counts.intersection / counts.predicted, counts.intersection / counts.true
    return (1 + beta2) * precision * recall / (beta2 * precision + recall)


def e_measure(counts: Overlap, pixels: int) -> float:
    """Enhanced-alignment measure of masks that cover `pixels` together with the background.

    Its sum is divided by one pixel less than there are, so that a perfect mask is a little above 1: the definition's
    own quirk, kept.
    """
    shared, predicted, true = counts.intersection, counts.predicted, counts.true
    if true in (0, pixels):
        total: float = predicted if true else pixels - predicted
    else:
        share, true_share = predicted / pixels, true / pixels
        parts = (
            (shared, 1 - share, 1 - true_share),
            (predicted - shared, 1 - share, -true_share),
            (true - shared, -share, 1 - true_share),
            (pixels - counts.union, -share, -true_share),
        )
        total = sum(number * (2 * a * b / (a * a + b * b + _EPS) + 1) ** 2 / 4 for number, a, b in parts)
    return total / max(pixels - 1, 1)


def s_measure(predicted: np.ndarray, true: np.ndarray, *, alpha: float = 0.5) -> float:
    """Structure measure, in [0, 1]: likeness of objects and of the four parts around the centroid.

    Args:
        predicted: the bool mask (h w), or a map of floats from 0 to 1.
        true: the true mask; where it is empty or full, the share of pixels that agree is the measure.
        alpha: weight of the objects.

    >>> s_measure(np.zeros((2, 2), bool), np.zeros((2, 2), bool))
    1.0
    """
    pixels, area = true.size, _pixels(true)
    if area in (0, pixels):
        mean = float(np.mean(predicted))
        return mean if area else 1 - mean
    if predicted.dtype == bool:
        front = _object(_pixels(predicted & true), area)
        back = _object(_pixels(~(predicted | true)), pixels - area)
    else:
        front, back = _uniform(predicted[true]), _uniform(1 - predicted[~true])
    objects = (area * front + (pixels - area) * back) / pixels
    return max(0.0, alpha * objects + (1 - alpha) * _region(predicted, true))


def _pixels(mask: np.ndarray) -> int:
    return int(np.count_nonzero(mask))


def _object(right: int, area: int) -> float:
    """How uniformly right the pixels of an area are."""
    mean = right / area
    deviation = math.sqrt(mean * (1 - mean) * area / (area - 1)) if area > 1 else 0.0
    return 2 * mean / (mean * mean + 1 + deviation + _EPS)


def _uniform(values: np.ndarray) -> float:
    """`_object` of an area's values (n), 1 where they are right."""
    mean = float(np.mean(values))
    deviation = float(np.std(values, ddof=1)) if values.size > 1 else 0.0
    return 2 * mean / (mean * mean + 1 + deviation + _EPS)


def _region(predicted: np.ndarray, true: np.ndarray) -> float:
    rows, columns = (round(float(np.mean(index))) + 1 for index in np.nonzero(true))
    total = 0.0
    for vertical in (slice(rows), slice(rows, None)):
        for horizontal in (slice(columns), slice(columns, None)):
            part = predicted[vertical, horizontal], true[vertical, horizontal]
            # PySODMetrics has NaN where the centroid lies on the border and a part has no pixels.
            alike = _likeness if predicted.dtype == bool else _likeness_of_map
            total += part[0].size * alike(*part) if part[0].size else 0.0
    return total / true.size


def _likeness(predicted: np.ndarray, true: np.ndarray) -> float:
    """Structural similarity of a part: of mean, contrast and covariance."""
    pixels = predicted.size
    x, y = _pixels(predicted) / pixels, _pixels(true) / pixels
    covariance = _pixels(predicted & true) / pixels - x * y
    scale = pixels / (pixels - 1 + _EPS)
    above = 4 * x * y * covariance * scale
    below = (x * x + y * y) * (x * (1 - x) + y * (1 - y)) * scale
    if above == 0:
        return float(below == 0)
    return above / (below + _EPS)


def _likeness_of_map(predicted: np.ndarray, true: np.ndarray) -> float:
    """`_likeness` of a map of floats."""
    x, y = float(np.mean(predicted)), float(np.mean(true))
    more = predicted.size - 1 + _EPS
    off, true_off = predicted - x, true - y
    above = 4 * x * y * float(np.sum(off * true_off)) / more
    below = (x * x + y * y) * (float(np.sum(off * off)) + float(np.sum(true_off * true_off))) / more
    if above == 0:
        return float(below == 0)
    return above / (below + _EPS)


def weighted_f_measure(predicted: np.ndarray, true: np.ndarray) -> float:
    """Weighted F-measure (β² = 1) of a bool mask or a map of floats and a true bool mask (h w), in [0, 1].

    Errors near others of their kind inside the object weigh less, and errors in the background weigh more the farther
    they lie from the object. 0 for an empty true mask.
    """
    if not true.any():
        return 0.0
    distance, nearest = distance_transform_edt(~true, return_indices=True)
    error = np.abs(predicted.astype(float) - true)
    # The background takes the error of the nearest pixel of the object, so that its edge is smoothed rightly.
    spread = error[tuple(nearest)]
    smooth = cv2.filter2D(spread, -1, _GAUSSIAN, borderType=cv2.BORDER_CONSTANT)
    inside = np.minimum(error, smooth)[true]
    outside = (error * (2 - np.exp(math.log(0.5) / 5 * distance)))[~true]
    right = inside.size - inside.sum()
    recall, precision = 1 - inside.mean(), right / (right + outside.sum() + _EPS)
    return float(2 * recall * precision / (recall + precision + _EPS))


def _gaussian(side: int, sigma: float) -> np.ndarray:
    """A normalised Gaussian kernel (side side)."""
    line = cv2.getGaussianKernel(side, sigma)
    return line @ line.T


_GAUSSIAN = _gaussian(7, 5.0)
