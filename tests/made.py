"""Predictions made for tests: any masks, prompts around them, any kind of end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gensegcli.geometry import rle
from gensegcli.records import (
    FinishReason,
    GridBox,
    Instance,
    MaskPrompt,
    PixelBox,
    PixelPoint,
    PredictedInstance,
    Prediction,
    PromptMode,
    Size,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def made_prediction(
    masks: Sequence[np.ndarray] = (),
    size: tuple[int, int] = (64, 48),
    *,
    negatives: Sequence[tuple[float, float]] = (),
    **changes: Any,
) -> Prediction:
    """A prediction of the given bool masks (h w), with the box of each and one point in it; no masks: no target."""
    found = []
    for number, mask in enumerate(masks):
        encoded = rle.encode(mask)
        box = rle.box(encoded) or PixelBox(1, 1, 3, 3)
        rows, columns = np.nonzero(mask)
        points = (PixelPoint(float(columns[0]) + 0.5, float(rows[0]) + 0.5),) if len(rows) else ()
        prompt = MaskPrompt(box, points, tuple(PixelPoint(*point) for point in negatives))
        score = None if number % 3 == 2 else 0.97 - 0.1 * number
        found.append(PredictedInstance(Instance(GridBox(100, 100, 300, 300)), prompt, encoded, score))
    height, width = masks[0].shape if masks else (size[1], size[0])
    values: dict[str, Any] = {
        "id": "a1",
        "image": "photos/a.jpg",
        "query": "the red circle",
        "size": Size(width, height),
        "no_target": not masks,
        "instances": tuple(found),
        "think": "a circle at the left",
        "raw": "<think>a circle at the left</think><answer>[]</answer>",
        "refusal": None,
        "finish": FinishReason.STOP,
        "tokens": 7,
        "timings": {"policy": 0.5},
        "model": "demo",
        "model_revision": "0123456789ab",
        "segmenter": "demo",
        "segmenter_revision": None,
        "prompt_mode": PromptMode.BOX_2,
        "dialect": "genseg",
        "prompt_digest": "0123456789ab",
    }
    return Prediction(**{**values, **changes})
