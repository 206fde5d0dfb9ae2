"""The JSON form of a prediction: one flat object, the same in `predictions.jsonl`, `--json` and the Python API.

docs/predictions.md lists every field with its type and meaning; a test holds that page to the models below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gensegcli.errors import GensegError
from gensegcli.geometry import rle
from gensegcli.records import (
    FinishReason,
    GridBox,
    GridPoint,
    Instance,
    MaskPrompt,
    PixelBox,
    PixelPoint,
    PredictedInstance,
    Prediction,
    PromptMode,
    Refusal,
    RefusalKind,
    Size,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1
"""Version of the JSON form. Fields may be added without a new one; a change of meaning takes one."""

Coordinate = Annotated[float, Field(allow_inf_nan=False)]
Point = tuple[Coordinate, Coordinate]
Box = tuple[Coordinate, Coordinate, Coordinate, Coordinate]


class _Form(BaseModel):
    # Unknown fields are left alone, so that an older reader takes a newer file of the same version.
    model_config = ConfigDict(extra="ignore", frozen=True)


class Prompts(_Form):
    """Box and points of one object in one frame."""

    box: Box = Field(description="x1, y1, x2, y2; half-open")
    points: tuple[Point, ...] = Field(description="x, y of each point inside the object")
    negatives: tuple[Point, ...] = Field(description="x, y of each background point inside the box")


class Mask(_Form):
    """A mask in COCO's compressed run-length form, readable by `pycocotools.mask.decode`."""

    size: tuple[int, int] = Field(description="height, width")
    counts: str = Field(description="COCO's compressed runs")


class FoundInstance(_Form):
    """One object found."""

    grid: Prompts = Field(description="what the model said, on the grid from 0 to 1000 of both axes")
    pixels: Prompts = Field(description="what the segmenter was given, in pixels of the picture")
    mask: Mask = Field(description="the segmenter's mask, at the resolution of the picture")
    score: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        description="the segmenter's own estimate of the mask's IoU; null if it gives none"
    )
    # The mask itself says so too; records of earlier versions lack the field.
    empty: bool = Field(False, description="the segmenter's mask holds no pixel: the object was named, not segmented")


class ModelId(_Form):
    """Which model answered."""

    id: str = Field(description="hub id, local folder or server model name")
    revision: str | None = Field(description="commit of a hub model, digest of a local one; null where nobody can say")


class RefusalForm(_Form):
    """Why the text of the model could not be read."""

    kind: RefusalKind = Field(description="the kind of defect")
    detail: str = Field(description="what was found, in words")
    think: str | None = Field(description="the reasoning, where it could be read")


class PredictionForm(_Form):
    """One answered query."""

    version: Literal[1] = Field(description="version of this form")
    id: str = Field(description="id of the request; further completions of it have #1, #2, … behind it")
    image: str = Field(
        description="path as given; address without user, password and query (`?sha256=…` stands for the query); "
        "a digest for pictures that had neither"
    )
    query: str = Field(description="the expression, normalised")
    width: Annotated[int, Field(ge=1)] = Field(description="width of the upright picture in pixels")
    height: Annotated[int, Field(ge=1)] = Field(description="height of the upright picture in pixels")
    no_target: bool = Field(description="the model says that nothing matches; false also for a refusal")
    instances: tuple[FoundInstance, ...] = Field(description="the objects found, in the order of the answer")
    think: str | None = Field(description="the reasoning before the answer")
    raw: str = Field(description="the whole text of the model")
    refusal: RefusalForm | None = Field(description="set where the text could not be read")
    finish: FinishReason = Field(description="why generation ended")
    tokens: Annotated[int, Field(ge=0)] = Field(description="tokens generated")
    timings: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(description="seconds by stage")
    model: ModelId = Field(description="the policy")
    segmenter: ModelId = Field(description="the segmenter")
    prompt_mode: PromptMode = Field(description="which parts of an instance prompted the segmenter")
    dialect: str = Field(description="name of question and answer form")
    prompt_digest: str = Field(description="first 12 hex digits of the SHA-256 of the question's template")
    dropped: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default_factory=dict,
        description="parts of the answer that could not be used and were left out: how many `instances`, `points`, "
        "`negatives`; a record without the field is of an older writer",
    )
    clipped: Annotated[int, Field(ge=0)] = Field(
        0, description="boxes and points that left the picture by up to 2 % and were moved to its edge"
    )


def to_json(prediction: Prediction) -> dict[str, object]:
    """The prediction as plain dicts, lists, texts and numbers; `from_json(to_json(p)) == p`."""
    refusal = prediction.refusal
    return {
        "version": VERSION,
        "id": prediction.id,
        "image": prediction.image,
        "query": prediction.query,
        "width": prediction.size.width,
        "height": prediction.size.height,
        "no_target": prediction.no_target,
        "instances": [_instance_json(found) for found in prediction.instances],
        "think": prediction.think,
        "raw": prediction.raw,
        "refusal": refusal and {"kind": refusal.kind.value, "detail": refusal.detail, "think": refusal.think},
        "finish": prediction.finish.value,
        "tokens": prediction.tokens,
        "timings": dict(prediction.timings),
        "model": {"id": prediction.model, "revision": prediction.model_revision},
        "segmenter": {"id": prediction.segmenter, "revision": prediction.segmenter_revision},
        "prompt_mode": prediction.prompt_mode.value,
        "dialect": prediction.dialect,
        "prompt_digest": prediction.prompt_digest,
        "dropped": dict(prediction.dropped),
        "clipped": prediction.clipped,
    }


def from_json(record: Mapping[str, object]) -> Prediction:
    """The prediction that `to_json` wrote.

    Raises:
        GensegError: a field is missing or has another type; the message names it.
    """
    try:
        form = PredictionForm.model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "record"
        name = record.get("id", "?") if isinstance(record, dict) else "?"
        raise GensegError(f"prediction {name}: {place}: {first['msg']}", hint="see docs/predictions.md") from None
    size = Size(form.width, form.height)
    return Prediction(
        id=form.id,
        image=form.image,
        query=form.query,
        size=size,
        no_target=form.no_target,
        instances=tuple(_instance(found, size, form.id) for found in form.instances),
        think=form.think,
        raw=form.raw,
        refusal=None if form.refusal is None else Refusal(**dict(form.refusal)),
        finish=form.finish,
        tokens=form.tokens,
        timings=form.timings,
        model=form.model.id,
        model_revision=form.model.revision,
        segmenter=form.segmenter.id,
        segmenter_revision=form.segmenter.revision,
        prompt_mode=form.prompt_mode,
        dialect=form.dialect,
        prompt_digest=form.prompt_digest,
        dropped=form.dropped,
        clipped=form.clipped,
    )


def union_mask(prediction: Prediction) -> np.ndarray:
    """All masks of a prediction as one bool array (h w) at the resolution of the picture; empty where none is."""
    if not prediction.instances:
        return np.zeros((prediction.size.height, prediction.size.width), dtype=bool)
    return rle.decode(rle.merge([found.mask for found in prediction.instances], prediction.size))


def empty_masks(prediction: Prediction) -> int:
    """How many of the objects found have a mask without a pixel."""
    return sum(rle.is_empty(found.mask) for found in prediction.instances)


def found_text(prediction: Prediction, noun: str = "found") -> str:
    """`2 found`, with a word on empty masks: an object without a pixel was named and not segmented.

    Args:
        prediction: neither a refusal nor an abstention.
        noun: what stands behind the number.
    """
    count, empty = len(prediction.instances), empty_masks(prediction)
    text = f"{count} {noun}"
    if not empty:
        return text
    if empty == count:
        return f"{text}, but its mask is empty" if count == 1 else f"{text}, but all masks are empty"
    return f"{text}, {empty} with an empty mask"


def _instance_json(found: PredictedInstance) -> dict[str, object]:
    return {
        "grid": _prompts_json(found.instance),
        "pixels": _prompts_json(found.prompt),
        "mask": rle.to_coco(found.mask),
        "score": found.score,
        "empty": rle.is_empty(found.mask),
    }


def _prompts_json(prompts: Instance | MaskPrompt) -> dict[str, object]:
    return {
        "box": list(prompts.box),
        "points": [list(point) for point in prompts.points],
        "negatives": [list(point) for point in prompts.negatives],
    }


def _instance(found: FoundInstance, size: Size, name: str) -> PredictedInstance:
    try:
        # pycocotools reads past the end of damaged runs: they are looked through before they get there.
        mask = rle.from_coco({"size": found.mask.size, "counts": found.mask.counts}, size)
    except GensegError as error:
        raise GensegError(f"prediction {name}: {error.message}", hint=error.hint) from None
    grid, pixels = found.grid, found.pixels
    return PredictedInstance(
        instance=Instance(
            GridBox(*grid.box),
            tuple(GridPoint(*point) for point in grid.points),
            tuple(GridPoint(*point) for point in grid.negatives),
        ),
        prompt=MaskPrompt(
            PixelBox(*pixels.box),
            tuple(PixelPoint(*point) for point in pixels.points),
            tuple(PixelPoint(*point) for point in pixels.negatives),
        ),
        mask=mask,
        score=found.score,
    )
