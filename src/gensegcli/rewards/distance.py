"""The accuracy term: boxes and points against the true ones, by distance on the grid."""

from __future__ import annotations

from math import dist
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

from gensegcli.geometry.boxes import ROUNDING, box_iou
from gensegcli.records import GRID, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gensegcli.records import GridBox, GridPoint, Instance, Target
    from gensegcli.rewards.rollout import Rollout

BOX_IOU = 0.5
"""A box counts as found above this."""

_ANCESTORS = GRID / 840
"""The ancestors measured in pixels of 840 × 840 pictures."""

BOX_DISTANCE = 10 * _ANCESTORS
POINT_DISTANCE = 100 * _ANCESTORS

APART = 2.0
"""Two points nearer to each other than this, in grid units, are one."""


def accuracy(rollout: Rollout) -> float:
    """Sum of `pair_score` over the best assignment of answered to true instances, over the larger number: 0 to 3.

    Where nothing is there to find, saying so scores 3. A refusal scores 0.
    """
    answer, targets = rollout.answer, rollout.truth.targets
    if isinstance(answer, Refusal):
        return 0.0
    if answer.no_target or not targets:
        return 3.0 if answer.no_target and not targets else 0.0
    return assigned(answer.instances, targets, pair_score)[0] / max(len(answer.instances), len(targets))


def pair_score(instance: Instance, target: Target) -> float:
    """[IoU > 0.5] + [mean absolute box error < 11.905] + [points right], 0 to 3."""
    return float(
        found(pair_iou(instance, target))
        + (box_error(instance.box, target.box) < BOX_DISTANCE - ROUNDING)
        + points_right(instance, target)
    )


def found(iou: float) -> bool:
    """Whether a box of this IoU counts as found. Exactly 0.5 does not, whatever the way over the grid made of it."""
    return iou > BOX_IOU + ROUNDING


def pair_iou(instance: Instance, target: Target) -> float:
    """IoU of the two boxes, half-open, on the grid."""
    return box_iou(instance.box, target.box)


def box_error(box: GridBox, true: GridBox) -> float:
    """Mean absolute difference of the four edges, in grid units."""
    return sum(abs(a - b) for a, b in zip(box, true, strict=True)) / 4


def points_right(instance: Instance, target: Target) -> bool:
    """Whether both points lie in the answered box, apart from each other, and near enough to the true ones."""
    if len(instance.points) != 2 or not target.points or dist(*instance.points) < APART:
        return False
    x1, y1, x2, y2 = instance.box
    if not all(x1 <= point.x <= x2 and y1 <= point.y <= y2 for point in instance.points):
        return False
    return point_error(instance.points, target.points) < POINT_DISTANCE - ROUNDING


def point_error(points: Sequence[GridPoint], true: Sequence[GridPoint]) -> float:
    """Mean Euclidean distance of two points to the two true ones under the better pairing.

    With a single true point, the smaller distance to it.
    """
    if len(true) == 1:
        return min(dist(point, true[0]) for point in points)
    (a, b), (c, d) = points, true[:2]
    return min(dist(a, c) + dist(b, d), dist(a, d) + dist(b, c)) / 2


def assigned(
    instances: Sequence[Instance], targets: Sequence[Target], score: Callable[[Instance, Target], float]
) -> tuple[float, list[tuple[int, int]]]:
    """The assignment with the largest sum of scores: that sum, and the pairs (instance, target)."""
    table = np.array([[score(instance, target) for target in targets] for instance in instances])
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum()), list(zip(rows.tolist(), columns.tolist(), strict=True))
