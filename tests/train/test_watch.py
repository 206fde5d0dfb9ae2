from __future__ import annotations

import pytest

from gensegcli.train.watch import Row, summary


def _row(reward: float, **changes: object) -> Row:
    values = {
        "id": "a",
        "query": "q",
        "text": "t",
        "terms": {"accuracy": reward},
        "reward": reward,
        "iou": 0.5,
        "empty": False,
        "abstained": False,
        "refusal": None,
        "think": True,
        "well_formed": True,
        "length": 10,
        "cut": False,
    }
    return Row(**{**values, **changes})  # type: ignore[arg-type]


def test_a_step_by_hand() -> None:
    rows = [
        _row(1.0, iou=0.2),
        _row(3.0, iou=0.6, length=30),
        _row(2.0, iou=1.0, empty=True, abstained=True),
        _row(2.0, iou=0.0, empty=True, refusal="bad-json", think=False, well_formed=False, cut=True),
    ]
    found = summary(rows, 2)
    assert found["reward"] == 2
    assert found["reward_spread"] == pytest.approx(0.5**0.5)
    assert found["mixed_groups"] == 0.5, "the second group agrees with itself"
    assert found["mask_iou"] == pytest.approx(0.4), "of those with something to find"
    assert found["no_target_accuracy"] == 0.5
    assert found["false_negatives"] == 0
    assert (found["format"], found["think"], found["refusals"], found["cut"]) == (0.75, 0.75, 0.25, 0.25)
    assert found["length"] == 15
    assert found["terms"] == {"accuracy": 2}


def test_what_a_step_does_not_hold_is_null() -> None:
    found = summary([_row(1.0, iou=None), _row(1.0, iou=None)], 2)
    assert found["mask_iou"] is None
    assert found["no_target_accuracy"] is None
    assert found["mixed_groups"] == 0


def test_the_record_of_a_rollout() -> None:
    assert _row(2.5).record(7) == {
        "step": 7,
        "id": "a",
        "query": "q",
        "text": "t",
        "terms": {"accuracy": 2.5},
        "reward": 2.5,
        "mask_iou": 0.5,
        "refusal": None,
        "tokens": 10,
    }
