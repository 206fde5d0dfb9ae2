"""The picture and the questions of `genseg demo`: a generated scene, so that the right answers are known."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from gensegcli.families import BUNDLED
from gensegcli.geometry.masks import mask_iou
from gensegcli.predictions import union_mask
from gensegcli.sources.scenes import SIZES, draw_scene, refer

if TYPE_CHECKING:
    from gensegcli.records import Prediction
    from gensegcli.sources.scenes import Reference, Scene

QUESTIONS, NOT_THERE = 6, 2

RIGHT = 0.5
"""Least IoU of an answer that counts as right."""

_ROW = re.compile(r"^\| (?P<measure>[^|]+?)(?:, %)? \| (?P<value>[0-9.]+)", re.MULTILINE)


def demo_task(seed: int) -> tuple[Scene, list[Reference]]:
    """A scene of at least three things, four expressions of different kinds about it and two near misses.

    Deterministic by seed; an expression is drawn as for training, so none is chosen because it goes well.
    """
    numbers = np.random.default_rng([3, seed])
    scene = next(
        scene
        for scene in (draw_scene(int(numbers.integers(2**62)), SIZES[3]) for _ in range(1000))
        if len(scene.things) > 2
    )
    there: dict[str, Reference] = {}
    missing: dict[str, Reference] = {}
    for _ in range(1000):
        reference = refer(scene, numbers)
        if reference.matches:
            there.setdefault(reference.kind, reference)
        else:
            missing.setdefault(reference.expression, reference)
        if len(there) >= QUESTIONS - NOT_THERE and len(missing) >= NOT_THERE:
            break
    return scene, [*list(there.values())[: QUESTIONS - NOT_THERE], *list(missing.values())[:NOT_THERE]]


def overlap(prediction: Prediction, scene: Scene, reference: Reference) -> float:
    """IoU of the predicted union mask with the true one; 1 for a correct "nothing there"."""
    truth = np.zeros((scene.size.height, scene.size.width), dtype=bool)
    for index in reference.matches:
        truth |= scene.things[index].mask
    if prediction.refusal is not None:
        return 0.0
    return mask_iou(union_mask(prediction), truth)


def measured() -> str:
    """What the bundled models were measured to do, in a sentence with the numbers of the policy's model card."""
    card = (BUNDLED / "policy" / "README.md").read_text(encoding="utf-8")
    scores = {row["measure"]: row["value"] for row in _ROW.finditer(card)}
    return (
        f"on {scores['scenes (with target / without)']} scenes it never saw, this miniature has a mIoU of "
        f"{scores['target mIoU']} % where the target is there, and says so in {scores['no-target accuracy']} % where it is not"
    )
