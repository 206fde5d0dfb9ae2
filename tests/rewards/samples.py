"""Samples and rollouts for reward tests: a 100 × 100 picture, so that one pixel is ten grid units."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from gensegcli.dialects import get_dialect
from gensegcli.geometry import rle
from gensegcli.geometry.boxes import mask_box, pixel_to_grid
from gensegcli.geometry.keypoints import mine_negative, mine_positive
from gensegcli.records import Answer, GridBox, GridPoint, Instance, Sample, Size, Target
from gensegcli.rewards.rollout import GroundTruth, Rollout, read_rollout

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZE = Size(100, 100)
DIALECT = get_dialect("genseg-neg")


def blank() -> np.ndarray:
    return np.zeros((SIZE.height, SIZE.width), bool)


def rectangle(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = blank()
    mask[y1:y2, x1:x2] = True
    return mask


def corner(x1: int, y1: int, side: int) -> np.ndarray:
    """An L of arms a third of its side thick: most of its box is background."""
    mask = blank()
    arm = side // 3
    mask[y1 : y1 + side, x1 : x1 + arm] = True
    mask[y1 + side - arm : y1 + side, x1 : x1 + side] = True
    return mask


def sample(*masks: np.ndarray, ignore: np.ndarray | None = None, name: str = "s") -> Sample:
    """A sample whose targets are these masks, with mined points."""
    whole = np.any(masks, axis=0) if masks else blank()
    targets = []
    for mask in masks:
        box = mask_box(mask)
        assert box is not None
        targets.append(
            Target(
                pixel_to_grid(box, SIZE),
                tuple(pixel_to_grid(point, SIZE) for point in mine_positive(mask)),
                rle.encode(mask),
                tuple(pixel_to_grid(point, SIZE) for point in mine_negative(whole, box)),
            )
        )
    _, png = cv2.imencode(".png", np.where(whole[..., None], 200, 40).repeat(3, axis=2).astype(np.uint8))
    return Sample(
        name, "thing", png.tobytes(), SIZE, tuple(targets), ignore=None if ignore is None else rle.encode(ignore)
    )


def honest(truth: Sample, *, negatives: bool = True, think: str = "there it is") -> Answer:
    """The answer that says what is true."""
    return Answer(
        tuple(Instance(target.box, target.points, target.negatives if negatives else ()) for target in truth.targets),
        think,
    )


def instance(
    box: Sequence[float], points: Sequence[Sequence[float]] = (), negatives: Sequence[Sequence[float]] = ()
) -> Instance:
    return Instance(GridBox(*box), tuple(GridPoint(*p) for p in points), tuple(GridPoint(*p) for p in negatives))


def written(body: Any, think: str = "there it is") -> str:
    text = body if isinstance(body, str) else json.dumps(body)
    return f"<think>{think}</think><answer>{text}</answer>"


def read(text: str, truth: Sample, **options: Any) -> Rollout:
    return read_rollout(text, GroundTruth(truth), DIALECT, **options)


def rollout(answer: Answer, truth: Sample, masks: Sequence[np.ndarray] = ()) -> Rollout:
    """A rollout of a well-written answer, with its masks."""
    return Rollout(DIALECT.render(answer), DIALECT, None, answer, GroundTruth(truth), tuple(masks))
