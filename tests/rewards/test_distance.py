from __future__ import annotations

from itertools import permutations
from math import dist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gensegcli.geometry.boxes import pixel_to_grid
from gensegcli.records import Answer, GridBox, GridPoint, Instance, PixelBox, Size, Target
from gensegcli.rewards.distance import (
    BOX_DISTANCE,
    POINT_DISTANCE,
    accuracy,
    assigned,
    box_error,
    found,
    pair_iou,
    pair_score,
    point_error,
    points_right,
)
from tests.rewards.samples import honest, instance, read, rectangle, rollout, sample, written

TRUE = Target(GridBox(200, 200, 600, 600), (GridPoint(300, 300), GridPoint(500, 500)), None)
ONE = sample(rectangle(20, 20, 60, 60))
TWO = sample(rectangle(5, 5, 30, 30), rectangle(60, 60, 95, 95))


def test_the_constants_are_the_ancestors_distances_on_the_grid() -> None:
    assert pytest.approx(11.905, abs=1e-3) == BOX_DISTANCE
    assert pytest.approx(119.048, abs=1e-3) == POINT_DISTANCE


@pytest.mark.parametrize(
    ("box", "points", "expected"),
    [
        ((200, 200, 600, 600), ((300, 300), (500, 500)), 3),
        ((200, 200, 600, 600), ((500, 500), (300, 300)), 3),  # the better pairing
        ((200, 200, 600, 600), (), 2),
        ((200, 200, 600, 600), ((300, 300),), 2),  # both points, not one
        ((200, 200, 600, 600), ((300, 300), (300, 300)), 2),  # one point twice
        ((200, 200, 600, 600), ((300, 300), (301.9, 300)), 2),
        ((200, 200, 600, 600), ((300, 300), (601, 500)), 2),  # outside the answered box
        ((200, 200, 600, 600), ((300, 300), (600, 600)), 3),  # on its edge
        ((210, 210, 610, 610), ((300, 300), (500, 500)), 3),
        ((212, 212, 612, 612), ((300, 300), (500, 500)), 2),  # 12 units off on each edge, IoU 0.89
        ((190, 210, 590, 610), ((300, 300), (500, 500)), 3),
        ((200, 200, 400, 600), ((300, 300), (390, 500)), 1),  # IoU exactly 0.5 is not above it; 50 units off; d = 55
        ((200, 200, 404, 600), ((300, 300), (390, 500)), 2),
        ((0, 0, 1000, 1000), ((300, 300), (500, 500)), 1),
        ((700, 700, 900, 900), ((750, 750), (850, 850)), 0),
        ((200, 200, 600, 600), ((300, 300), (500, 262)), 3),  # d = 119
        ((200, 200, 600, 600), ((300, 300), (500, 261)), 2),  # d = 119.5
    ],
)
def test_pair_score(box: tuple[float, ...], points: tuple[tuple[float, float], ...], expected: int) -> None:
    assert pair_score(instance(box, points), TRUE) == expected


@pytest.mark.parametrize("length", [840, 427, 612, 333, 480])
def test_what_lies_on_a_threshold_in_pixels_is_decided_there_and_not_by_the_way_over_the_grid(length: int) -> None:
    """IoU of exactly 0.5 is not above it, and an error of exactly 10 of 840 pixels is not below that."""
    size = Size(length, length)

    def on_grid(x1: float, x2: float) -> GridBox:
        return pixel_to_grid(PixelBox(x1, 10, x2, 110), size)

    for start in range(150):
        true = Target(on_grid(start, start + 100), (), None)
        assert not found(pair_iou(Instance(on_grid(start, start + 50)), true)), start
        assert found(pair_iou(Instance(on_grid(start, start + 51)), true)), start
    if length == 840:
        for start in range(500):
            true = Target(on_grid(start, start + 200), (), None)
            moved = Instance(pixel_to_grid(PixelBox(start + 20, 10, start + 220, 110), size))
            assert box_error(moved.box, true.box) == pytest.approx(BOX_DISTANCE)
            assert pair_score(moved, true) == 1, start


def test_with_a_single_true_point_the_smaller_distance_counts() -> None:
    assert point_error([GridPoint(0, 0), GridPoint(30, 40)], [GridPoint(30, 50)]) == 10
    single = Target(TRUE.box, (GridPoint(300, 300),), None)
    assert points_right(instance(TRUE.box, ((300, 300), (590, 590))), single)
    assert not points_right(instance(TRUE.box, ((300, 300), (590, 590))), Target(TRUE.box, (), None))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([(20, 20, 60, 60)], 3),
        ([(20, 20, 60, 60)] * 2, 1.5),
        ([(20, 20, 60, 60)] * 3, 1),
        ([(70, 70, 90, 90)], 0),
        ([(70, 70, 90, 90), (20, 20, 60, 60)], 1.5),
    ],
)
def test_accuracy_divides_by_the_larger_number(body: list[tuple[int, ...]], expected: float) -> None:
    points = ONE.targets[0].points
    entries = tuple(instance([10 * v for v in box], points) for box in body)
    assert accuracy(rollout(Answer(entries), ONE)) == expected


def test_accuracy_of_one_of_two() -> None:
    only = honest(TWO).instances[:1]
    assert accuracy(rollout(Answer(only), TWO)) == 1.5
    assert accuracy(rollout(Answer(tuple(reversed(honest(TWO).instances))), TWO)) == 3


def test_accuracy_without_targets_and_without_an_answer() -> None:
    empty = sample()
    assert accuracy(rollout(Answer(), empty)) == 3
    assert accuracy(rollout(honest(ONE), empty)) == 0
    assert accuracy(rollout(Answer(), ONE)) == 0
    for text in ("", "nonsense", written([]), written("[1, 2]"), written("{")):
        assert accuracy(read(text, ONE)) == accuracy(read(text, empty)) == 0


SIDE = st.lists(st.integers(0, 1000), min_size=2, max_size=2, unique=True).map(sorted)
GRIDBOX = st.builds(lambda x, y: GridBox(x[0], y[0], x[1], y[1]), SIDE, SIDE)
POINT = st.tuples(st.integers(0, 1000), st.integers(0, 1000)).map(lambda p: GridPoint(*p))
INSTANCES = st.lists(st.builds(Instance, GRIDBOX, st.tuples(POINT, POINT)), min_size=1, max_size=4)
TARGETS = st.lists(st.builds(Target, GRIDBOX, st.tuples(POINT, POINT), st.none()), min_size=1, max_size=4)


@given(INSTANCES, TARGETS)
def test_the_assignment_is_the_best_of_all(instances: list[Instance], targets: list[Target]) -> None:
    found, pairs = assigned(instances, targets, pair_score)
    table = np.array([[pair_score(i, t) for t in targets] for i in instances])
    if len(instances) > len(targets):
        table = table.T
    best = max(
        sum(table[i, j] for i, j in enumerate(order)) for order in permutations(range(table.shape[1]), len(table))
    )
    assert found == best
    assert len(pairs) == min(len(instances), len(targets))


@given(INSTANCES, TARGETS)
def test_box_and_point_errors_against_slow_loops(instances: list[Instance], targets: list[Target]) -> None:
    for target in targets:
        box, points = instances[0].box, instances[0].points
        assert box_error(box, target.box) == np.abs(np.subtract(box, target.box)).mean()
        pairings = [
            np.mean([dist(a, b) for a, b in zip(points, order, strict=True)]) for order in permutations(target.points)
        ]
        assert point_error(points, target.points) == pytest.approx(min(pairings))
