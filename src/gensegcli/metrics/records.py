"""What scoring takes and gives: truth and guess of a sample, its score, and the summary of many scores."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from gensegcli.errors import GensegError
from gensegcli.geometry.boxes import ROUNDING, grid_to_pixel
from gensegcli.records import PixelBox, RefusalKind, Rle, Size

if TYPE_CHECKING:
    from gensegcli.records import Prediction, Sample

T = TypeVar("T")

FINITE = ConfigDict(allow_inf_nan=False)
"""Numbers read from a file are numbers."""


def _finite(box: PixelBox) -> PixelBox:
    if not all(map(math.isfinite, box)):
        raise ValueError("a corner of the box is no finite number")
    return box


FiniteBox = Annotated[PixelBox, AfterValidator(_finite)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1 + ROUNDING)]
"""As read from a file; what is worked out may round to a hair above 1."""


class SizeClass(StrEnum):
    """COCO's size of an object: the area of the true union mask in pixels of the original picture."""

    SMALL = "small"  # below 32²
    MEDIUM = "medium"  # below 96²
    LARGE = "large"


class Drawn(StrEnum):
    """What a resample of the bootstrap is made of."""

    SAMPLES = "samples"  # every sample has a picture of its own
    PICTURES = "pictures"  # samples that share a picture are drawn together


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of a sample. Masks and boxes are at `size`, one each for every target."""

    id: str
    query: str
    image: str
    """Names the picture; samples of one picture share it."""
    ref: str | int | None
    size: Size
    original_size: Size
    """Of the picture before it was resized for storage; the same as `size` in evaluation sets."""
    boxes: tuple[PixelBox, ...]
    masks: tuple[Rle, ...] | None
    """None where the data set has boxes only."""
    ignore: Rle | None = None

    @property
    def no_target(self) -> bool:
        return not self.boxes


@dataclass(frozen=True, slots=True)
class Guess:
    """What was predicted for a sample, in pixels of its picture. Boxes, masks and scores are in the same order."""

    id: str
    abstained: bool
    """Said that nothing matches. Masks and boxes are then left out of account."""
    refusal: RefusalKind | None = None
    masks: tuple[Rle, ...] | None = ()
    """None where boxes are all there is."""
    boxes: tuple[PixelBox, ...] = ()
    scores: tuple[float | None, ...] = ()
    """The segmenter's estimates of the masks' IoU."""
    think: bool = False
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class ForegroundScore:
    """Measures of foreground segmentation. Where a curve over thresholds is meant: at both values it has for a mask.

    Of a grey-level map the whole curve is there, and the first of the two values is that at the middle threshold.
    """

    s_measure: float
    e_measure: float
    e_measure_full: float
    """Of a full mask: what the curve has at threshold 0."""
    e_measure_adaptive: float
    f_measure: float
    f_measure_full: float
    f_measure_adaptive: float
    weighted_f: float
    mae: float
    e_curve: tuple[float, ...] | None = None
    """Of a grey-level map: at each of 256 thresholds, from the highest to 0; None for a mask, as the next."""
    f_curve: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class SampleScore:
    """Score of one sample under one protocol: a row of a scores file."""

    __pydantic_config__ = FINITE

    id: str
    image: str
    ref: str | int | None
    no_target: bool
    abstained: bool
    refusal: RefusalKind | None
    true_instances: Count
    predicted_instances: Count
    size_class: SizeClass | None
    """None without a target, and without masks."""
    intersection: Count | None
    """This and the next four: None where truth or guess has no masks."""
    union: Count | None
    true_area: Count | None
    predicted_area: Count | None
    iou: Share | None
    box_iou: Share | None
    """Optimal matching, sum / max(K, M); None without a target, as the next."""
    enclosing_box_iou: Share | None
    true_boxes: tuple[FiniteBox, ...]
    predicted_boxes: tuple[FiniteBox, ...]
    box_scores: tuple[float | None, ...]
    think: bool
    tokens: Count
    foreground: ForegroundScore | None = None

    @property
    def share(self) -> float | None:
        """I / U, which P@τ counts: the IoU without what a protocol adds to its denominator; None without masks."""
        if self.iou is None or self.intersection is None or not self.union:
            return self.iou
        return self.intersection / self.union


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric with its 95 % bootstrap interval over `n` samples."""

    __pydantic_config__ = FINITE

    value: float
    low: float
    high: float
    n: Count


@dataclass(frozen=True, slots=True)
class Difference(Estimate):
    """How much larger a metric is in one run than in another over the same samples, with its interval."""

    @property
    def told(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Composition:
    """What was scored."""

    samples: int
    targets: int
    no_target: int
    single: int
    multi: int
    pictures: int
    refs: int
    true_area: int
    """Σ of the true areas and of the unions, in pixels: what weighs in cIoU."""
    union_area: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Metrics of many samples. A metric that has no sample to stand on is absent."""

    metrics: dict[str, Estimate]
    refusals: dict[RefusalKind, int]
    composition: Composition
    groups: dict[str, Summary] = field(default_factory=dict)
    """single, multi, no-target, small, medium, large, and any lists of ids that were named (clean, overlap)."""
    drawn: Drawn = Drawn.SAMPLES
    """What the bootstrap drew."""


def truth_of(sample: Sample) -> Truth:
    """The truth of a sample: boxes in pixels of the stored picture, masks as they are."""
    masks = [target.mask for target in sample.targets if target.mask is not None]
    where = sample.provenance
    return Truth(
        id=sample.id,
        query=sample.query,
        image=str(where.get("image_id", where.get("file_name", sample.id))),
        ref=where.get("ref_id"),
        size=sample.size,
        original_size=sample.original_size or sample.size,
        boxes=tuple(grid_to_pixel(target.box, sample.size) for target in sample.targets),
        masks=tuple(masks) if len(masks) == len(sample.targets) else None,
        ignore=sample.ignore,
    )


def guess_of(prediction: Prediction) -> Guess:
    """What a prediction says, reduced to what is scored."""
    found = prediction.instances
    return Guess(
        id=prediction.id,
        abstained=prediction.no_target,
        refusal=prediction.refusal.kind if prediction.refusal else None,
        masks=tuple(instance.mask for instance in found),
        boxes=tuple(instance.prompt.box for instance in found),
        scores=tuple(instance.score for instance in found),
        think=bool(prediction.think or (prediction.refusal and prediction.refusal.think)),
        tokens=prediction.tokens,
    )


_SCORE, _SUMMARY = TypeAdapter(SampleScore), TypeAdapter(Summary)


def score_to_json(score: SampleScore) -> dict[str, Any]:
    """A row as plain JSON; `score_from_json(score_to_json(s)) == s`."""
    return _SCORE.dump_python(score, mode="json")


def score_from_json(row: Any) -> SampleScore:
    """The row that `score_to_json` wrote.

    Raises:
        GensegError: a field is missing or has another type; the message names it.
    """
    return _read(_SCORE, row, "score")


def summary_to_json(summary: Summary) -> dict[str, Any]:
    """A summary as plain JSON; `summary_from_json(summary_to_json(s)) == s`."""
    return _SUMMARY.dump_python(summary, mode="json")


def summary_from_json(value: Any) -> Summary:
    """The summary that `summary_to_json` wrote.

    Raises:
        GensegError: a field is missing or has another type; the message names it.
    """
    return _read(_SUMMARY, value, "summary")


def _read(adapter: TypeAdapter[T], value: Any, kind: str) -> T:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise GensegError(f"{kind}: {'.'.join(map(str, first['loc'])) or 'value'}: {first['msg']}") from None
