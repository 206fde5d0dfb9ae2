"""Boxes of one sample against all assignments, tried one after the other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gensegcli.metrics.boxes import enclosing_iou, matched_iou
from gensegcli.records import PixelBox
from tests.metrics import oracle
from tests.metrics.cases import boxes

some = st.lists(boxes(), min_size=1, max_size=5)


@given(some, some)
def test_the_matching_is_the_best_there_is(predicted: list[PixelBox], true: list[PixelBox]) -> None:
    assert matched_iou(predicted, true) == pytest.approx(oracle.box_iou(predicted, true), abs=1e-12)
    assert matched_iou(predicted, true) == pytest.approx(matched_iou(true, predicted[::-1]), abs=1e-12)
    assert enclosing_iou(predicted, true) == pytest.approx(
        oracle.one_iou(oracle.around(predicted), oracle.around(true)), abs=1e-12
    )


def test_a_greedy_matching_would_take_the_wrong_pairs() -> None:
    """9/11 is the best pair, but leaves 4/16 for the others; 8/12 and 7/13 are more together."""
    true = [PixelBox(3, 0, 13, 1), PixelBox(6, 0, 16, 1)]
    predicted = [PixelBox(4, 0, 14, 1), PixelBox(0, 0, 10, 1)]

    assert matched_iou(predicted, true) == pytest.approx((8 / 12 + 7 / 13) / 2)


def test_a_box_too_many_costs_as_much_as_one_too_few() -> None:
    box, other = PixelBox(0, 0, 4, 4), PixelBox(8, 8, 9, 9)

    assert matched_iou([box, box], [box]) == matched_iou([box], [box, other]) == 0.5
    assert matched_iou([], []) == enclosing_iou([], []) == 1.0
    assert matched_iou([box], []) == matched_iou([], [box]) == enclosing_iou([], [box]) == 0.0


def test_inclusive_boxes_hold_their_last_row_and_column() -> None:
    one, two = [PixelBox(0, 0, 9, 9)], [PixelBox(5, 0, 14, 9)]

    assert matched_iou(one, two, inclusive=True) == enclosing_iou(one, two, inclusive=True) == pytest.approx(1 / 3)
    assert matched_iou([*one, *one], [*two, *two], inclusive=True) == pytest.approx(1 / 3)
    assert matched_iou(one, two) == pytest.approx(4 / 14)
