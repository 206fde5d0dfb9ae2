"""Samples worth looking at: best, median and worst, objects that are not there, objects missed, answers unreadable."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from gensegcli.draw import overlay
from gensegcli.errors import GensegError
from gensegcli.geometry import rle
from gensegcli.images import read_image
from gensegcli.metrics.records import truth_of
from gensegcli.records import (
    FinishReason,
    Instance,
    MaskPrompt,
    PredictedInstance,
    Prediction,
    PromptMode,
    Sample,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL import Image

    from gensegcli.evaluate.results import Row
    from gensegcli.metrics.records import SampleScore

SIDE = 480
"""Longer side of a picture in pixels."""
_QUALITY = 76
_EFFORT = 2
"""Of WebP, 0 to 6: twice as fast as the usual 4, for a file 3 % larger. Encoding is most of what a page takes."""
GOOD = 0.5
"""From this IoU on a sample is not shown among the worst, however well the others went."""

TITLES = {
    "worst": "Worst: something was found, but hardly what was meant",
    "hallucinated": "Hallucinated: nothing is there, and something was found",
    "missed": "Missed: it is there, and was said not to be",
    "refused": "Refused: the answer could not be read",
    "median": "Median",
    "best": "Best",
}
"""Galleries in the order in which they are shown: what went wrong first."""


@dataclass
class Budget:
    """Characters of pictures that a page may still take."""

    left: int

    def take(self, length: int) -> bool:
        """Whether there is room; if so, it is taken."""
        if length > self.left:
            return False
        self.left -= length
        return True


@dataclass(frozen=True)
class Card:
    """One sample of a gallery. Pictures are data addresses, None where there is none to show."""

    row: Row
    predicted: str | None = None
    true: str | None = None
    problem: str | None = None
    """Why a picture is not there that should be."""


@dataclass(frozen=True)
class Choice:
    """Ids by gallery, in the order in which they are shown."""

    ids: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def all(self) -> frozenset[str]:
        return frozenset(chain.from_iterable(self.ids.values()))


def choose(scores: Sequence[SampleScore], count: int) -> Choice:
    """At most `count` samples for each gallery; no sample is in two, and ties fall by id."""
    found = sorted((score for score in scores if _found_one(score)), key=lambda score: (_iou(score), score.id))
    several = min(count, max(len(found) // 3, 1))
    worst = [score for score in found[:several] if _iou(score) < GOOD]
    rest = found[len(worst) :]
    best, rest = rest[::-1][:several], rest[: max(len(rest) - several, 0)]
    start = max((len(rest) - several) // 2, 0)
    hallucinated = [score for score in scores if score.no_target and not score.abstained and score.refusal is None]
    missed = [score for score in scores if not score.no_target and score.abstained]
    refused = [score for score in scores if score.refusal is not None]
    chosen = {
        "worst": worst,
        "hallucinated": sorted(hallucinated, key=lambda score: (-(score.predicted_area or 0), score.id)),
        "missed": sorted(missed, key=lambda score: (-(score.true_area or 0), score.id)),
        "refused": sorted(refused, key=lambda score: (str(score.refusal), score.id)),
        "median": rest[start : start + several],
        "best": best,
    }
    return Choice({name: [score.id for score in group[:count]] for name, group in chosen.items() if group and count})


def card(row: Row, budget: Budget) -> Card:
    """The sample with what was predicted and what is true drawn on its picture, as far as the budget goes."""
    try:
        image = read_image(row.sample.image)
    except GensegError as error:
        return Card(row, problem=error.message)
    predicted = true = None
    if row.prediction is not None and row.prediction.instances:
        predicted = _drawn(image, row.prediction)
    if not row.sample.no_target or predicted is None:
        true = _drawn(image, _as_prediction(row.sample))
    if not budget.take(len(predicted or "") + len(true or "")):
        return Card(row, problem="pictures left out: the page would grow too large")
    return Card(row, predicted, true)


def _found_one(score: SampleScore) -> bool:
    return not score.no_target and not score.abstained and score.refusal is None and score.predicted_instances > 0


def _iou(score: SampleScore) -> float:
    return score.iou if score.iou is not None else score.box_iou or 0.0


def _drawn(image: Image.Image, prediction: Prediction) -> str:
    picture = overlay(image, prediction, min_side=SIDE, max_side=SIDE, caption=False)
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=_QUALITY, method=_EFFORT)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def _as_prediction(sample: Sample) -> Prediction:
    """The truth in the form in which predictions are drawn: a mask and a box for each target, no points."""
    truth = truth_of(sample)
    empty = rle.merge((), sample.size)
    masks = truth.masks or tuple(empty for _ in truth.boxes)
    return Prediction(
        id=sample.id,
        image="",
        query=sample.query,
        size=sample.size,
        no_target=sample.no_target,
        instances=tuple(
            PredictedInstance(Instance(target.box), MaskPrompt(box), mask, None)
            for target, box, mask in zip(sample.targets, truth.boxes, masks, strict=True)
        ),
        think=None,
        raw="",
        refusal=None,
        finish=FinishReason.STOP,
        tokens=0,
        timings={},
        model="truth",
        model_revision=None,
        segmenter="",
        segmenter_revision=None,
        prompt_mode=PromptMode.BOX,
        dialect="",
        prompt_digest="",
    )
