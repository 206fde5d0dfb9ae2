from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gensegcli.errors import GensegError
from gensegcli.geometry import rle
from gensegcli.geometry.keypoints import grid_distance
from gensegcli.metrics.protocols import get_protocol
from gensegcli.metrics.records import Guess, truth_of
from gensegcli.metrics.score import score_sample
from gensegcli.records import Answer, GridPoint, Sample
from gensegcli.rewards.mask import clear_of, negative_points, squared_overlaps, structure, tiered, union_iou
from gensegcli.rewards.rollout import GroundTruth
from tests.rewards.samples import blank, corner, honest, instance, read, rectangle, rollout, sample, written

SQUARE, EMPTY = rectangle(20, 20, 60, 60), sample()
ONE = sample(SQUARE)
BENT = sample(corner(20, 20, 60))  # an L in the box (200, 200)-(800, 800)
TWO = sample(corner(0, 0, 45), corner(50, 50, 45))


def _half() -> np.ndarray:
    return rectangle(20, 20, 40, 60)


@pytest.mark.parametrize(
    ("masks", "expected"),
    [([SQUARE], 1), ([_half()], 0.5), ([_half(), rectangle(40, 20, 60, 60)], 1), ([blank()], 0), ([], 0)],
)
def test_mask_iou_is_of_the_union(masks: list[np.ndarray], expected: float) -> None:
    assert union_iou(rollout(honest(ONE), ONE, masks)) == expected


def test_mask_iou_without_target() -> None:
    assert union_iou(rollout(Answer(), EMPTY)) == 1
    assert union_iou(rollout(honest(ONE), EMPTY, [SQUARE])) == 0
    assert union_iou(rollout(Answer(), ONE)) == 0
    assert union_iou(read("nonsense", EMPTY)) == 0, "a refusal is no correct abstention"


def test_a_box_where_nothing_is_there_earns_no_mask_term_even_if_its_mask_is_empty() -> None:
    hallucinated = rollout(honest(ONE), EMPTY, [blank()])
    assert [term(hallucinated) for term in (union_iou, tiered, structure, squared_overlaps)] == [0, 0, 0, 0]
    small = rollout(honest(ONE), EMPTY, [rectangle(0, 0, 1, 1)])
    assert [term(small) for term in (union_iou, tiered, structure, squared_overlaps)] == [0, 0, 0, 0]
    denied = rollout(Answer(), EMPTY)
    assert [term(denied) for term in (union_iou, tiered, structure, squared_overlaps)] == [1, 4, pytest.approx(1), 2]


def test_the_structure_of_ignored_pixels_counts_neither_way() -> None:
    """The numbers are those of evaluation, which takes ignored pixels out of both masks."""
    truth = sample(SQUARE, ignore=rectangle(60, 0, 100, 100))
    seen = rollout(honest(truth), truth, [rectangle(20, 20, 90, 60)])
    assert structure(seen) == pytest.approx(1)
    scored = score_sample(
        truth_of(truth),
        Guess(truth.id, abstained=False, masks=(rle.encode(rectangle(20, 20, 90, 60)),)),
        get_protocol("lisa"),
        foreground=True,
    )
    assert scored.foreground is not None
    assert scored.foreground.s_measure == pytest.approx(1)
    assert scored.share == union_iou(seen) == 1


def test_ignored_pixels_count_neither_way() -> None:
    truth = sample(SQUARE, ignore=rectangle(60, 20, 80, 60))
    assert union_iou(rollout(honest(truth), truth, [rectangle(20, 20, 80, 60)])) == 1


def test_the_mask_iou_is_the_evaluations_own_function() -> None:
    import gensegcli.metrics.overlap
    import gensegcli.rewards.mask

    assert gensegcli.rewards.mask.overlap is gensegcli.metrics.overlap.overlap


def test_truth_without_masks_is_told() -> None:
    bare = replace(ONE, targets=(replace(ONE.targets[0], mask=None),))
    with pytest.raises(GensegError, match="sample s: has objects without a mask"):
        union_iou(rollout(honest(ONE), bare, [SQUARE]))


@pytest.mark.parametrize(
    ("width", "tiers", "squares"),
    [
        (40, 4, 1),
        (33, 4, 0.825**2),
        (32, 3, 0.8**2),
        (30, 3, 0.75**2),
        (28, 2, 0.7**2),
        (21, 2, 0.525**2),
        (20, 0, 0.5**2),
        (0, 0, 0),
    ],
)
def test_tiers_and_squares(width: int, tiers: float, squares: float) -> None:
    one = rollout(honest(ONE), ONE, [rectangle(20, 20, 20 + width, 60)])
    assert tiered(one) == tiers, "0.8, 0.7 and 0.5 themselves are not above"
    assert squared_overlaps(one) == pytest.approx(1 + squares)


def test_squared_overlaps_of_several_boxes_and_of_none() -> None:
    halved = Answer((instance((200, 200, 400, 600)), instance((0, 0, 100, 100))))
    assert squared_overlaps(rollout(halved, ONE, [_half(), blank()])) == pytest.approx(0.25**2 + 0.5**2)
    assert squared_overlaps(rollout(Answer(), EMPTY)) == 2
    assert squared_overlaps(rollout(Answer(), ONE)) == 0
    assert squared_overlaps(read("", EMPTY)) == 0


def test_structure_weighs_iou_and_s_measure() -> None:
    pytest.importorskip("gensegcli.metrics.foreground")
    from gensegcli.metrics.foreground import s_measure

    assert structure(rollout(honest(ONE), ONE, [SQUARE])) == pytest.approx(1)
    expected = 0.7 * 0.5 + 0.3 * s_measure(_half(), SQUARE)
    assert structure(rollout(honest(ONE), ONE, [_half()])) == pytest.approx(expected)
    assert 0.35 < expected < 0.65
    assert structure(read("", ONE)) == 0


# ---------------------------------------------------------------- negative points

INSIDE, ON_OBJECT, NEAR, OUTSIDE = (700, 300), (250, 500), (405, 300), (900, 100)
"""Of the L: deep in the background of its box, on it, 5 units from it, beyond its box."""


@pytest.mark.parametrize(
    ("negatives", "expected"),
    [
        ((), 0),
        ((INSIDE,), 1),
        ((INSIDE, INSIDE), 1),
        ((INSIDE, ON_OBJECT), 0.5),
        ((INSIDE, NEAR), 0.5),
        ((INSIDE, OUTSIDE), 0.5),
        ((ON_OBJECT, OUTSIDE), 0),
        (((410, 300),), 1),  # exactly ten units away
        (((409.9, 300),), 0),
    ],
)
def test_negative_points(negatives: tuple[tuple[float, float], ...], expected: float) -> None:
    box = BENT.targets[0].box
    assert box == (200, 200, 800, 800)
    assert negative_points(rollout(Answer((instance(box, (), negatives),)), BENT)) == expected


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((200, 200, 800, 800), 1),
        ((300, 200, 800, 800), 1),
        ((500, 200, 800, 800), 0),  # IoU 0.5 is not above it
        ((600, 250, 780, 500), 0),  # drawn around background: no harvest
        ((0, 0, 1000, 1000), 0),
    ],
)
def test_negative_points_count_only_for_a_box_that_is_right(box: tuple[float, ...], expected: float) -> None:
    assert negative_points(rollout(Answer((instance(box, (), (INSIDE, (650, 400))),)), BENT)) == expected


def test_negative_points_of_several_instances() -> None:
    first, second = honest(TWO).instances
    assert len(first.negatives) == len(second.negatives) == 2
    assert negative_points(rollout(Answer((first, second)), TWO)) == 1
    assert negative_points(rollout(Answer((replace(first, negatives=()), second)), TWO)) == 1
    assert negative_points(rollout(Answer((first, first)), TWO)) == 0.5, "the second copy belongs to nothing"
    foreign = replace(first, negatives=second.negatives)
    assert negative_points(rollout(Answer((foreign, second)), TWO)) == 0.5, "right only in the box of its own object"


@pytest.mark.parametrize(
    ("truth", "answer", "expected"),
    [
        (ONE, honest(ONE), 0.5),
        (ONE, Answer((instance((0, 0, 100, 100), (), ((50, 50),)),)), 0.5),
        (ONE, Answer(), 0),
        (EMPTY, Answer(), 0),
        (EMPTY, honest(BENT), 0),
        (BENT, Answer(), 0),
    ],
)
def test_without_background_the_term_is_neutral(truth: Sample, answer: Answer, expected: float) -> None:
    assert negative_points(rollout(answer, truth)) == expected


def test_background_is_sought_in_the_true_boxes_and_away_from_every_object() -> None:
    assert GroundTruth(BENT).has_background == (True,)
    assert GroundTruth(ONE).has_background == (False,)
    # The second object fills what the first one's box leaves.
    filled = sample(corner(20, 20, 60), rectangle(41, 20, 80, 59))
    assert GroundTruth(filled).has_background == (False, False)
    assert negative_points(read(written("nonsense"), BENT)) == 0


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(40, 40), (31, 53), (60, 17)]),
    st.floats(0, 1000),
    st.floats(0, 1000),
    st.sampled_from([5.0, 10.0, 40.0]),
)
def test_clear_of_is_the_exact_distance(seed: int, size: tuple[int, int], x: float, y: float, margin: float) -> None:
    width, height = size
    mask = np.random.default_rng(seed).random((height, width)) < 0.01
    nearest = inf
    for row, column in np.argwhere(mask):
        across = max(column * 1000 / width - x, x - (column + 1) * 1000 / width, 0)
        down = max(row * 1000 / height - y, y - (row + 1) * 1000 / height, 0)
        nearest = min(nearest, float(np.hypot(across, down)))
    if abs(nearest - margin) > 1e-6:
        assert clear_of(mask, GridPoint(x, y), margin) == (nearest > margin)


@pytest.mark.parametrize("size", [(40, 40), (50, 25)])
def test_clear_of_agrees_with_the_distances_by_which_points_are_mined(size: tuple[int, int]) -> None:
    width, height = size
    mask = np.random.default_rng(3).random((height, width)) < 0.02
    distance = grid_distance(mask)
    for row in range(height):
        for column in range(width):
            centre = GridPoint((column + 0.5) * 1000 / width, (row + 0.5) * 1000 / height)
            if abs(distance[row, column] - 60) > 1e-6:
                assert clear_of(mask, centre, 60) == (distance[row, column] > 60)
