"""Terms on the masks that a segmenter makes of an answer, and on the background points it was given."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gensegcli.geometry.boxes import ROUNDING
from gensegcli.metrics.overlap import overlap
from gensegcli.records import GRID, Refusal
from gensegcli.rewards.distance import assigned, found, pair_iou
from gensegcli.rewards.rollout import MARGIN

if TYPE_CHECKING:
    import numpy as np

    from gensegcli.records import GridBox, GridPoint
    from gensegcli.rewards.rollout import Rollout

TIERS = ((0.8, 4.0), (0.7, 3.0), (0.5, 2.0))
"""SAM-R1's steps: above this IoU, so much."""

NEUTRAL = 0.5


def union_iou(rollout: Rollout) -> float:
    """IoU of the union of the answer's masks with the true union mask, as evaluation measures it.

    A refusal has 0, and so has an answer that names a box where nothing is there, also where its mask is empty: IoU 1 of
    two empty masks is for those who say that nothing is there.
    """
    if _beyond_masks(rollout):
        return 0.0
    return overlap(rollout.mask, rollout.truth.mask, ignore=rollout.truth.ignore).iou


def negative_points(rollout: Rollout) -> float:
    """Share of the answer's negative points that are right, 0 to 1.

    Right is a point of an instance whose box has an IoU above 0.5 with its true one, inside that true box, and at
    least 10 grid units from every true object. Boxes are assigned by IoU; without that condition any box drawn around
    background would earn the term. An answer without negative points has 0. Where no true box holds any such
    background, there is nothing to be right about: 0.5 for every answer with instances.
    """
    answer, truth = rollout.answer, rollout.truth
    if isinstance(answer, Refusal) or answer.no_target or truth.no_target:
        return 0.0
    if not any(truth.has_background):
        return NEUTRAL
    given = sum(len(instance.negatives) for instance in answer.instances)
    if not given:
        return 0.0
    right = 0
    for i, j in assigned(answer.instances, truth.targets, pair_iou)[1]:
        instance, target = answer.instances[i], truth.targets[j]
        if found(pair_iou(instance, target)):
            right += sum(_inside(p, target.box) and clear_of(truth.mask, p) for p in instance.negatives)
    return right / given


def tiered(rollout: Rollout) -> float:
    """SAM-R1 (arXiv 2505.22596): 4, 3, 2 or 0 for a mask IoU above 0.8, 0.7, 0.5 or less."""
    iou = union_iou(rollout)
    return next((value for above, value in TIERS if iou > above), 0.0)


def structure(rollout: Rollout) -> float:
    """Seg-R1 (arXiv 2506.22624): 0.7 · IoU + 0.3 · S-measure of the union mask, 0 to 1.

    Both leave out the pixels that evaluation ignores, and are 0 where `union_iou` is 0 whatever the mask.
    """
    from gensegcli.metrics.foreground import s_measure

    if _beyond_masks(rollout):
        return 0.0
    predicted, true, ignore = rollout.mask, rollout.truth.mask, rollout.truth.ignore
    if ignore is not None:
        predicted, true = predicted & ~ignore, true & ~ignore
    return 0.7 * union_iou(rollout) + 0.3 * s_measure(predicted, true)


def squared_overlaps(rollout: Rollout) -> float:
    """LENS (arXiv 2508.14153): box IoU² + mask IoU², 0 to 2.

    LENS has one box; with several the IoU is the sum over the best assignment over the larger number.
    """
    answer, targets = rollout.answer, rollout.truth.targets
    if isinstance(answer, Refusal):
        return 0.0
    if answer.no_target or not targets:
        boxes = float(answer.no_target and not targets)
    else:
        boxes = assigned(answer.instances, targets, pair_iou)[0] / max(len(answer.instances), len(targets))
    return boxes**2 + union_iou(rollout) ** 2


def _beyond_masks(rollout: Rollout) -> bool:
    """A refusal, or a box where nothing is there: no mask makes up for it."""
    answer = rollout.answer
    return isinstance(answer, Refusal) or (rollout.truth.no_target and not answer.no_target)


def clear_of(mask: np.ndarray, point: GridPoint, margin: float = MARGIN) -> bool:
    """Whether a grid point is at least `margin` grid units from the area that the mask's true pixels (h w) cover."""
    height, width = mask.shape
    x, y = point.x * width / GRID, point.y * height / GRID
    reach_x, reach_y = margin * width / GRID, margin * height / GRID
    left, right = max(math.floor(x - reach_x), 0), min(math.ceil(x + reach_x), width)
    top, bottom = max(math.floor(y - reach_y), 0), min(math.ceil(y + reach_y), height)
    rows, columns = mask[top:bottom, left:right].nonzero()
    if not rows.size:
        return True
    # To the nearest point of each pixel's square, then from pixels to the grid.
    across = abs(columns + left + 0.5 - x) - 0.5
    down = abs(rows + top + 0.5 - y) - 0.5
    across, down = across.clip(0) * GRID / width, down.clip(0) * GRID / height
    return bool((across**2 + down**2).min() >= (margin - ROUNDING) ** 2)


def _inside(point: GridPoint, box: GridBox) -> bool:
    across, down = box.x1 - ROUNDING <= point.x <= box.x2 + ROUNDING, box.y1 - ROUNDING <= point.y <= box.y2 + ROUNDING
    return across and down
