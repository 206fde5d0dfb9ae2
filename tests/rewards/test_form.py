from __future__ import annotations

import pytest

from gensegcli.dialects import get_dialect
from gensegcli.dialects.custom import with_prompt
from gensegcli.records import Size
from gensegcli.rewards.form import answer_format, non_repetition, think_format
from gensegcli.rewards.rollout import GroundTruth, read_rollout
from tests.rewards.samples import read, rectangle, sample, written

TRUTH = sample(rectangle(20, 20, 60, 60))
GOOD = {"bbox_2d": [200, 200, 600, 600], "point_1": [300, 300], "point_2": [500, 500]}
NO_TARGET = '{"no_target": true}'


@pytest.mark.parametrize(
    ("text", "exact", "soft"),
    [
        (written([GOOD]), 1, 1),
        (f"  {written([GOOD])}\n", 1, 1),
        (f"<think>a</think>\n<answer>{NO_TARGET}</answer>", 1, 1),
        (written("not JSON"), 1, 1),  # the form is right; what stands in it is judged elsewhere
        (f"<answer>{NO_TARGET}</answer>", 0, 2 / 8),
        (f"<think>a<answer>{NO_TARGET}</answer>", 0, 3 / 8),
        (f"well <think>a</think><answer>{NO_TARGET}</answer>", 0, 4 / 8),
        (f"<think>a</think><answer>{NO_TARGET}</answer> so", 0, 4 / 8),
        (f"<think>a</think> so <answer>{NO_TARGET}</answer>", 0, 4 / 8),
        (f"<think>a</think><think>b</think><answer>{NO_TARGET}</answer>", 0, 2 / 8),
        (f"<answer>{NO_TARGET}</answer><think>a</think>", 0, 4 / 8),
        (NO_TARGET, 0, 0),
        ("", 0, 0),
    ],
)
def test_think_format(text: str, exact: float, soft: float) -> None:
    assert think_format(read(text, TRUTH)) == exact
    assert think_format(read(text, TRUTH, soft=True)) == soft


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([GOOD], 2),
        ([GOOD, GOOD], 2),
        ([{**GOOD, "negative_points": [[1, 1]]}], 2),
        (NO_TARGET, 2),
        ([{**GOOD, "bbox_2d": [600, 200, 200, 600]}], 1),  # x1 > x2
        ([{**GOOD, "bbox_2d": [200, 200, 600, 1001]}], 1),
        ([{**GOOD, "bbox_2d": [200, 200, 600]}], 1),
        ([{**GOOD, "bbox_2d": ["200", 200, 600, 600]}], 1),
        ([{**GOOD, "point_2": [500, -1]}], 1),
        ([{"bbox_2d": [200, 200, 600, 600], "point_1": [300, 300]}], 1),
        ([{"point_1": [300, 300], "point_2": [500, 500]}], 1),
        ([GOOD, {**GOOD, "point_2": None}], 1.5),
        ([GOOD, {}], 1),
        ([GOOD, "x"], 1),
        ([GOOD, 3, None, []], 0.5),
        ([{**GOOD, "label": "cat"}], 0),  # a key that the dialect does not have
        (GOOD, 0),  # one object instead of a list
        ([], 0),
        ([{"no_target": True}], 0),
        ('{"no_target": false}', 0),
        ('{"no_target": true, "why": "x"}', 0),
        ('[{"bbox_2d": [200, 200, 600, 600], }]', 0),
        ("```json\n[]\n```", 0),
        ("", 0),
        ("null", 0),
    ],
)
def test_answer_format(body: object, expected: float) -> None:
    assert answer_format(read(written(body), TRUTH)) == expected


def test_answer_format_asks_for_one_pair_of_answer_tags_and_for_nothing_else() -> None:
    body = '[{"bbox_2d": [200, 200, 600, 600], "point_1": [300, 300], "point_2": [500, 500]}]'
    assert answer_format(read(f"<answer>{body}</answer>", TRUTH)) == 2
    assert answer_format(read(body, TRUTH)) == 0
    assert answer_format(read(f"<answer>{body}", TRUTH)) == 0
    assert answer_format(read(f"<answer>{body}</answer><answer>{body}</answer>", TRUTH)) == 0
    assert answer_format(read(f"</answer>{body}<answer>", TRUTH)) == 0


def test_only_the_first_120_instances_are_read() -> None:
    assert answer_format(read(written([GOOD] * 120 + [{}] * 120), TRUTH)) == 2
    assert answer_format(read(written([{}] * 120 + [GOOD] * 120), TRUTH)) == 0


@pytest.mark.parametrize(
    ("dialect", "text", "frame", "expected"),
    [
        ("seg-zero", written('{"bbox": [1, 2, 30, 40], "points_1": [5, 6], "points_2": [7, 8]}'), Size(840, 840), 2),
        ("seg-zero", written('{"bbox": [1, 2, 30, 841], "points_1": [5, 6], "points_2": [7, 8]}'), Size(840, 840), 1),
        ("seg-zero", written('[{"bbox": [1, 2, 30, 40], "points_1": [5, 6], "points_2": [7, 8]}]'), None, 0),
        ("vision-reasoner", written('[{"bbox_2d": [1, 2, 30, 40], "point_2d": [5, 6]}]'), None, 2),
        ("vision-reasoner", written("[]"), None, 0),
        ("visurf", written("[]"), None, 2),
        ("seg-r1", "<think>a</think><bbox>[1, 2, 3, 4]</bbox><points>[[2, 3]]</points><labels>[1]</labels>", None, 2),
        ("seg-r1", "<think>a</think><bbox>[1, 2, 3, 4]</bbox>", None, 0),
    ],
)
def test_other_dialects(dialect: str, text: str, frame: Size | None, expected: float) -> None:
    rollout = read_rollout(text, GroundTruth(TRUTH), get_dialect(dialect), frame=frame)
    assert answer_format(rollout) == expected


def test_a_question_of_the_users_own_is_read_by_the_same_rules() -> None:
    dialect = with_prompt(get_dialect("genseg"), "Where is {query}?")
    assert answer_format(read_rollout(written([GOOD, {}]), GroundTruth(TRUTH), dialect)) == 1


@pytest.mark.parametrize(
    ("think", "expected"),
    [
        ("", 1),
        ("I see a dog. I see a cat. I see a cow.", 1),
        ("I see a dog. I see a dog.", 1),  # one repetition
        ("I see a dog. I see a dog. I see a dog.", 0),
        ("I see a dog. I SEE  a Dog! I see a dog?", 0),
        ("I see a dog\nI see a cat\nI see a dog\nI see a cat", 0),
        ("Yes. Yes. Yes. A dog. A dog. A dog.", 1),  # short ones do not count
        ("it is at 1.5 or 1.5 or 1.5 units", 1),  # a decimal point ends no sentence
    ],
)
def test_non_repetition(think: str, expected: float) -> None:
    assert non_repetition(read(written([GOOD], think), TRUTH)) == expected


def test_rambling_without_tags_counts_as_thinking_but_an_answer_does_not() -> None:
    rambling = "I see a dog. " * 3
    assert non_repetition(read(rambling, TRUTH)) == 0
    assert non_repetition(read(f"<answer>{rambling}</answer>", TRUTH)) == 1
