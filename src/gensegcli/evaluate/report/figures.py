"""The figures of a report: from the scores of the samples to plots."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gensegcli.evaluate.report.plots import Axis, Series, bubbles, curves, histogram, stacked
from gensegcli.metrics.protocols import NoTarget

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from gensegcli.evaluate.report.markup import Markup
    from gensegcli.metrics.records import SampleScore

BINS = 20
RELIABILITY_BINS = 10


def overlaps(scores: Sequence[SampleScore], protocol: Mapping[str, Any]) -> list[float]:
    """The IoU of every sample that P@τ counts: of masks, or of boxes where there are no masks."""
    everything = protocol.get("no_target") == NoTarget.BY_PIXELS
    counted = [score for score in scores if everything or not score.no_target]
    by_mask = [score.share for score in counted if score.share is not None]
    return by_mask or [score.box_iou for score in counted if score.box_iou is not None]


def precision_curve(named: Mapping[str, Sequence[float]]) -> Markup | None:
    """P@τ over all thresholds, one line for each run; None without a sample to count."""
    thresholds = [index / 50 for index in range(51)]
    series = [
        Series(name, [(at, sum(iou >= at for iou in found) / len(found)) for at in thresholds], place=place)
        for place, (name, found) in enumerate(named.items())
        if found
    ]
    if not series:
        return None
    return curves("P@τ: share of samples with IoU ≥ τ", series, Axis("threshold τ"), Axis("P@τ"), named=len(named) > 1)


def iou_histogram(name: str, found: Sequence[float], colour: int) -> Markup | None:
    """How the IoU of the samples is spread, with mean and median."""
    if not found:
        return None
    counts = [0] * BINS
    for iou in found:
        counts[min(int(iou * BINS), BINS - 1)] += 1
    middle = sorted(found)
    median = (middle[(len(middle) - 1) // 2] + middle[len(middle) // 2]) / 2
    marks = (("mean", math.fsum(found) / len(found)), ("median", median))
    return histogram(f"IoU of {len(found):,} samples: {name}", counts, Axis("IoU"), colour=colour, marks=marks)


def responses(named: Mapping[str, Sequence[SampleScore]]) -> Markup:
    """What was answered where something is there and where nothing is: the calibration of no-target."""
    groups = {name: list(_responses(scores)) for name, scores in named.items()}
    parts = (("found something", "found"), ("said that nothing matches", "abstained"), ("unreadable", "refused"))
    return stacked("Answers by truth", groups, parts)


def _responses(scores: Sequence[SampleScore]) -> Iterator[tuple[str, list[int]]]:
    for label, absent in (("target there", False), ("nothing there", True)):
        counts = [0, 0, 0]
        for score in scores:
            if score.no_target is absent:
                counts[2 if score.refusal else 1 if score.abstained else 0] += 1
        if any(counts):
            yield f"{label} ({sum(counts):,})", counts


def reliability(named: Mapping[str, Sequence[SampleScore]]) -> Markup | None:
    """The segmenter's own estimate of its IoU against the IoU with the truth; None where it makes no estimates."""
    series, sizes = [], []
    for place, (name, scores) in enumerate(named.items()):
        bins: dict[int, list[tuple[float, float]]] = {}
        for score in scores:
            estimates = [estimate for estimate in score.box_scores if estimate is not None]
            if score.iou is not None and estimates:
                estimate = min(max(math.fsum(estimates) / len(estimates), 0.0), 1.0)
                bins.setdefault(min(int(estimate * RELIABILITY_BINS), RELIABILITY_BINS - 1), []).append(
                    (estimate, score.iou)
                )
        means = [
            tuple(math.fsum(column) / len(column) for column in zip(*bins[index], strict=True))
            for index in sorted(bins)
        ]
        if means:
            series.append(Series(name, [(x, y) for x, y in means], place=place))
            sizes.append([len(bins[index]) for index in sorted(bins)])
    if not series:
        return None
    title = "Reliability: the segmenter's estimate of its IoU, and the IoU with the truth"
    return bubbles(title, series, Axis("estimated IoU"), Axis("true IoU"), sizes, named=len(named) > 1)
