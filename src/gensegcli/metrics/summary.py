"""From the scores of many samples to their metrics, with intervals, whole and by group."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from gensegcli.errors import GensegError
from gensegcli.geometry.boxes import ROUNDING
from gensegcli.metrics.average_precision import NAMES as AP_NAMES
from gensegcli.metrics.average_precision import BoxMatches, ImageBoxes, average_precision, match_boxes
from gensegcli.metrics.bootstrap import Ratio, Ratios, drawn_together, interval, resample_counts
from gensegcli.metrics.foreground import LEVELS, mean_of_curve
from gensegcli.metrics.protocols import BoxScore, NoTarget
from gensegcli.metrics.records import Composition, Difference, Drawn, Estimate, ForegroundScore, SizeClass, Summary

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from gensegcli.metrics.protocols import Protocol
    from gensegcli.metrics.records import SampleScore


def summarise(
    scores: Iterable[SampleScore],
    protocol: Protocol,
    *,
    named: Mapping[str, Collection[str]] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Summary:
    """Metrics of many samples with 95 % bootstrap intervals, whole and by group. The order of the scores is of no matter.

    Where samples share a picture, pictures are what the bootstrap draws; `Summary.drawn` says which.

    AP is worked out for the whole and for named groups. COCO's AP of small, medium and large objects is another thing
    than the AP of the samples that have them.

    Args:
        scores: one for each sample; read once, and kept as about a kilobyte each.
        protocol: the one they were made under.
        named: further groups by their samples' ids, for example clean and overlap; ids that were not scored are of no
            matter, and a group without a scored one is left out.
        resamples: of the bootstrap; with 0 the intervals have no width.
        seed: of the bootstrap.

    Raises:
        GensegError: no scores; two of one sample; some samples have masks and others have not; boxes are to be ranked
            by the segmenter's score and one has none.
    """
    columns = _Columns.of(scores)
    matches = match_boxes(columns.images(protocol.box_score), inclusive=protocol.inclusive_boxes)

    def summary(members: np.ndarray, *, ranked: bool) -> Summary:
        part = columns.only(members)
        boxes = matches.only(members) if ranked else None
        found = _resampled(part, boxes, protocol, resamples=resamples, seed=seed)
        return Summary(
            metrics=found.estimates(),
            refusals=dict(sorted(Counter(kind for kind in part.texts["refusal"] if kind is not None).items())),
            composition=_composition(part),
            drawn=found.drawn,
        )

    whole = summary(np.ones(len(columns), bool), ranked=True)
    groups = {}
    for name, members in _groups(columns):
        if members.all():  # as where every sample has one object; the bootstrap would come to the same
            groups[name] = replace(whole, metrics={k: v for k, v in whole.metrics.items() if k not in AP_NAMES})
        else:
            groups[name] = summary(members, ranked=False)
    for name, ids in (named or {}).items():
        members = columns.members(ids)
        if members.any():
            groups[name] = summary(members, ranked=True)
    return replace(whole, groups=groups)


# ---------------------------------------------------------------- columns


@dataclass(frozen=True, slots=True)
class _Columns:
    """Scores column by column, in the order of their ids; every array has one entry for each sample."""

    numbers: dict[str, np.ndarray]
    """By name; None is NaN."""
    texts: dict[str, np.ndarray]
    """Objects that hash: id, picture, reference, refusal, size class."""
    boxes: np.ndarray
    """True boxes, predicted boxes and their scores."""
    foreground: np.ndarray | None
    """(n 9), or None if no sample has these measures."""
    curves: np.ndarray | None
    """E- and F-measure at 256 thresholds (n 2 256); None where no sample is a grey-level map."""

    @classmethod
    def of(cls, scores: Iterable[SampleScore]) -> _Columns:
        numbers, foreground = array("d"), array("d")
        texts: list[tuple[object, ...]] = []
        boxes: list[tuple[object, ...]] = []
        curves: list[np.ndarray | None] = []
        for score in scores:
            numbers.extend(math.nan if value is None else value for value in _numbers(score))
            if score.foreground is not None:
                foreground.extend(_foreground(score.foreground))
                curves.append(_curves(score.foreground))
            texts.append(_texts(score))
            boxes.append((score.true_boxes, score.predicted_boxes, score.box_scores))
        if not texts:
            raise GensegError("no scores: there is nothing to summarise")
        ids = [str(row[0]) for row in texts]
        order = sorted(range(len(ids)), key=ids.__getitem__)
        for one, other in pairwise(order):
            if ids[one] == ids[other]:
                raise GensegError(f"sample {ids[one]} is scored twice", hint="every sample counts exactly once")
        rows = np.frombuffer(numbers).reshape(len(ids), -1)[order]
        return cls(
            numbers=dict(zip(_NUMBERS, np.ascontiguousarray(rows.T), strict=True)),
            texts={name: _objects(row[place] for row in _in(texts, order)) for place, name in enumerate(_TEXTS)},
            boxes=_objects(_in(boxes, order)),
            foreground=_all_or_none(foreground, order),
            curves=_expanded(curves, foreground, order),
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def only(self, members: np.ndarray) -> _Columns:
        """The samples where `members` (n) is true."""
        return _Columns(
            {name: column[members] for name, column in self.numbers.items()},
            {name: column[members] for name, column in self.texts.items()},
            self.boxes[members],
            None if self.foreground is None else self.foreground[members],
            None if self.curves is None else self.curves[members],
        )

    def members(self, ids: Collection[str]) -> np.ndarray:
        """Which samples (n) have one of the ids."""
        wanted = frozenset(ids)
        return np.fromiter((one in wanted for one in self.texts["id"]), bool)

    def together(self) -> np.ndarray | None:
        """Which samples (n) the bootstrap draws together: those of one picture; None where none share one."""
        return drawn_together(self.texts["image"])

    def flag(self, name: str) -> np.ndarray:
        return self.numbers[name] != 0

    def images(self, rank: BoxScore) -> Iterator[ImageBoxes]:
        """The boxes of each sample with the confidence that the protocol ranks by."""
        for name, (true, predicted, scores) in zip(self.texts["id"], self.boxes, strict=True):
            if rank is BoxScore.SEGMENTER and None in scores:
                raise GensegError(
                    f"sample {name}: a box has no score by which AP could rank it",
                    hint="--set eval.box_score=constant; not every segmenter estimates the IoU of its masks",
                )
            yield ImageBoxes(true, predicted, scores if rank is BoxScore.SEGMENTER else [1.0] * len(predicted))


_NUMBERS = (
    "no_target", "abstained", "think", "tokens", "true_instances", "intersection", "union", "true_area",
    "predicted_area", "iou", "box_iou", "enclosing_box_iou",
)  # fmt: skip
_TEXTS = ("id", "image", "ref", "refusal", "size_class")
_MEASURES = tuple(one.name for one in fields(ForegroundScore) if not one.name.endswith("_curve"))
_numbers, _texts, _foreground = attrgetter(*_NUMBERS), attrgetter(*_TEXTS), attrgetter(*_MEASURES)


def _in(rows: list[Any], order: list[int]) -> Iterator[Any]:
    return (rows[place] for place in order)


def _objects(values: Iterable[Any]) -> np.ndarray:
    return np.fromiter(values, object)


def _all_or_none(values: array[float], order: list[int]) -> np.ndarray | None:
    if not values:
        return None
    if len(values) != len(order) * len(_MEASURES):
        raise GensegError("some scores have foreground measures and others have not", hint="score all of them alike")
    return np.frombuffer(values).reshape(len(order), -1)[order]


def _curves(score: ForegroundScore) -> np.ndarray | None:
    """(2 256), None for a mask."""
    return None if score.e_curve is None else np.array([score.e_curve, score.f_curve])


def _expanded(curves: list[np.ndarray | None], measures: array[float], order: list[int]) -> np.ndarray | None:
    """The curves of all samples (n 2 256), if there is a map among them; a mask's has one value but for threshold 0."""
    if all(curve is None for curve in curves):
        return None
    rows = np.frombuffer(measures).reshape(len(order), -1)
    places = [[_MEASURES.index(name), _MEASURES.index(f"{name}_full")] for name in ("e_measure", "f_measure")]
    found = np.empty((len(order), 2, LEVELS))
    for place, sample in enumerate(order):
        curve = curves[sample]
        if curve is None:
            at_mask, at_full = rows[sample, places].T
            found[place, :, :-1], found[place, :, -1] = at_mask[:, None], at_full
        else:
            found[place] = curve
    return found


GROUPS = ("single", "multi", "no-target", *(size.value for size in SizeClass))
"""The groups that every summary has, where they have samples."""


def _groups(columns: _Columns) -> Iterator[tuple[str, np.ndarray]]:
    """Name and members (n) of every group that has some."""
    instances = columns.numbers["true_instances"]
    groups = {"single": instances == 1, "multi": instances > 1, "no-target": instances == 0}
    groups |= {size.value: columns.texts["size_class"] == size for size in SizeClass}
    yield from ((name, members) for name, members in groups.items() if members.any())


def _composition(columns: _Columns) -> Composition:
    numbers, texts = columns.numbers, columns.texts
    no_target = int(columns.flag("no_target").sum())
    single = int((numbers["true_instances"] == 1).sum())
    alone = [name if ref is None else ref for name, ref in zip(texts["id"], texts["ref"], strict=True)]
    return Composition(
        samples=len(columns),
        targets=len(columns) - no_target,
        no_target=no_target,
        single=single,
        multi=len(columns) - no_target - single,
        pictures=len(set(texts["image"])),
        refs=len(set(alone)),
        true_area=int(np.nansum(numbers["true_area"])),
        union_area=int(np.nansum(numbers["union"])),
    )


# ---------------------------------------------------------------- metrics


@dataclass(frozen=True, slots=True)
class Resamples:
    """Metrics of some samples, and of their resamples. Those of other predictions for the same samples are drawn alike.

    Attributes:
        ids: of the samples.
        names: of the metrics that have samples to stand on (m).
        sizes: over how many samples each is (m).
        point: of the samples themselves (m).
        values: of the resamples (b m); NaN where one has no sample that the metric is about.
        drawn: what the resamples are made of.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    point: np.ndarray
    values: np.ndarray
    drawn: Drawn

    def estimates(self) -> dict[str, Estimate]:
        """Every metric with its interval."""
        low, high = interval(self.values, self.point)
        found = zip(self.names, self.point.tolist(), low.tolist(), high.tolist(), self.sizes, strict=True)
        return {name: Estimate(*rest) for name, *rest in found if not math.isnan(rest[0])}

    def minus(self, other: Resamples) -> dict[str, Difference]:
        """How much larger each metric is than in `other`, with the interval of the differences of paired resamples.

        Raises:
            GensegError: the other samples are not the same ones.
        """
        if self.ids != other.ids:
            raise GensegError("the runs have not scored the same samples, so that there are no pairs to compare")
        names = [name for name in self.names if name in other.names]
        mine, theirs = ([one.names.index(name) for name in names] for one in (self, other))
        point = self.point[mine] - other.point[theirs]
        low, high = interval(self.values[:, mine] - other.values[:, theirs], point)
        sizes = [self.sizes[place] for place in mine]
        found = zip(names, point.tolist(), low.tolist(), high.tolist(), sizes, strict=True)
        return {name: Difference(*rest) for name, *rest in found if not math.isnan(rest[0])}


def resample(scores: Iterable[SampleScore], protocol: Protocol, *, resamples: int = 1000, seed: int = 0) -> Resamples:
    """The metrics of many samples as a whole, and of the resamples behind their intervals; as `summarise`.

    Raises:
        GensegError: as `summarise`.
    """
    columns = _Columns.of(scores)
    matches = match_boxes(columns.images(protocol.box_score), inclusive=protocol.inclusive_boxes)
    return _resampled(columns, matches, protocol, resamples=resamples, seed=seed)


def _resampled(
    columns: _Columns, matches: BoxMatches | None, protocol: Protocol, *, resamples: int, seed: int
) -> Resamples:
    """Every metric that has samples to stand on; AP where there are matches."""
    ratios = [ratio for ratio in _ratios(columns, protocol) if ratio.over.any()]
    together, names = Ratios(ratios), [ratio.name for ratio in ratios]
    sizes = [int(ratio.over.sum()) for ratio in ratios]
    counted = _counted(columns, protocol)
    if matches is not None:
        matches = matches.only(counted)
        names += AP_NAMES
        sizes += [int(counted.sum())] * len(AP_NAMES)

    def values(some: Iterable[np.ndarray]) -> np.ndarray:
        sums, precise = [], []
        for weights in some:
            sums.append(together.sums(weights))
            if matches is not None:
                precise.append(average_precision(matches, weights[:, counted]))
        return np.hstack([together.values(np.vstack(sums)), *([np.vstack(precise)] if precise else [])])

    point = values([np.ones((1, len(columns)))])
    shared = columns.together()
    resampled = values(resample_counts(len(columns), resamples, seed, groups=shared)) if resamples else point
    drawn = Drawn.SAMPLES if shared is None else Drawn.PICTURES
    return Resamples(tuple(columns.texts["id"]), tuple(names), tuple(sizes), point[0], resampled, drawn)


def _counted(columns: _Columns, protocol: Protocol) -> np.ndarray:
    """Which samples enter the overlap metrics."""
    apart = protocol.no_target is NoTarget.APART
    return ~columns.flag("no_target") if apart else np.ones(len(columns), bool)


def _ratios(columns: _Columns, protocol: Protocol) -> Iterator[Ratio]:
    numbers = columns.numbers
    no_target, abstained = columns.flag("no_target"), columns.flag("abstained")
    if _has_masks(columns):
        yield from _mask_ratios(columns, protocol)
    yield Ratio("box mIoU", ~no_target, numbers["box_iou"])
    yield Ratio("enclosing box mIoU", ~no_target, numbers["enclosing_box_iou"])
    yield Ratio("Acc@0.5", ~no_target, numbers["box_iou"] > 0.5 + ROUNDING)
    yield Ratio("N-acc", no_target, abstained)
    yield Ratio("T-acc", ~no_target, ~abstained)
    yield Ratio("FNR", ~no_target, abstained)
    told = np.full(len(columns), (columns.flag("tokens") | columns.flag("think")).any())
    yield Ratio("think", told, numbers["think"])
    yield Ratio("tokens", told, numbers["tokens"])
    if columns.foreground is not None:
        yield from _foreground_ratios(dict(zip(_MEASURES, columns.foreground.T, strict=True)), columns.curves)


def _mask_ratios(columns: _Columns, protocol: Protocol) -> Iterator[Ratio]:
    numbers, counted = columns.numbers, _counted(columns, protocol)
    target = ~columns.flag("no_target")
    everywhere = np.ones(len(columns), bool)
    precise = everywhere if protocol.no_target is NoTarget.BY_PIXELS else target
    for prefix, over, mean in (("", counted, protocol.mean_name), ("target ", target, "mIoU")):
        yield Ratio(
            f"{prefix}cIoU",
            over,
            numbers["intersection"],
            numbers["union"],
            smoothing=protocol.smoothing,
            empty=protocol.zero_over_zero,
        )
        yield Ratio(f"{prefix}{mean}", over, numbers["iou"])
    # I / U itself, whatever a protocol adds to the denominator of its IoU: the quotient of two whole numbers is exact.
    shares = np.divide(numbers["intersection"], numbers["union"], out=numbers["iou"].copy(), where=numbers["union"] > 0)
    for threshold in protocol.thresholds:
        yield Ratio(f"P@{threshold:g}", precise, shares >= threshold)
    if protocol.tiny_area:
        tiny = numbers["predicted_area"] < protocol.tiny_area
        yield Ratio(f"N-acc (area < {protocol.tiny_area})", ~target, tiny)
        yield Ratio(f"T-acc (area < {protocol.tiny_area})", target, ~tiny)


def _has_masks(columns: _Columns) -> bool:
    """Whether all samples have masks; a data set or predictions of boxes alone may leave the targets without."""
    known = ~np.isnan(columns.numbers["iou"])
    target = ~columns.flag("no_target")
    if not (known[target] if target.any() else known).any():
        return False
    if not known.all():
        raise GensegError(
            f"{len(known) - known.sum()} of {len(known)} samples have no masks to score, the others have",
            hint="score what has masks and what has boxes alone apart",
        )
    return True


def _foreground_ratios(measures: Mapping[str, np.ndarray], curves: np.ndarray | None) -> Iterator[Ratio]:
    over = np.ones(len(measures["mae"]), bool)
    yield Ratio("S-measure", over, measures["s_measure"])
    for place, (letter, name) in enumerate((("E", "e_measure"), ("F", "f_measure"))):
        if curves is None:
            curve = np.stack([measures[name], measures[f"{name}_full"]])
            mean = mean_of_curve(*curve)
        else:
            curve = np.ascontiguousarray(curves[:, place].T)
            mean = curve.mean(axis=0)
        yield Ratio(f"{letter}-measure mean", over, mean)
        yield Ratio(f"{letter}-measure max", over, curve)
        yield Ratio(f"{letter}-measure adaptive", over, measures[f"{name}_adaptive"])
    yield Ratio("weighted F", over, measures["weighted_f"])
    yield Ratio("MAE", over, measures["mae"])
