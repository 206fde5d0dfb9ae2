"""Strict reading, for rewards: the form and nothing else; the kind of each refusal."""

from __future__ import annotations

import pytest

from gensegcli.dialects import get_dialect
from gensegcli.records import Answer, FinishReason, GridBox, GridPoint, Instance, Refusal, RefusalKind, Size
from tests.dialects.answers import INSTANCE, TWO_POINTS, completion

GENSEG = get_dialect("genseg")
ONE = f"[{TWO_POINTS}]"
K = RefusalKind


@pytest.mark.parametrize(
    "text",
    [
        completion(ONE),
        f" \n{completion(ONE)}\r\n\t",
        f"<think>reasons</think>\n\n<answer>\n{ONE}\n</answer>",
        completion('[{"point_2":[25,35],"point_1":[1.5e1,25.0],\n"bbox_2d":[10,20,30,40]}]'),
    ],
)
def test_white_space_and_the_order_of_keys_are_free(text: str) -> None:
    assert GENSEG.read(text, strict=True) == Answer((INSTANCE,), "reasons")


def test_the_think_text_is_kept_letter_by_letter() -> None:
    assert GENSEG.read(completion(ONE, "\n a <b> [1] \n"), strict=True).think == "\n a <b> [1] \n"
    assert GENSEG.read(completion(ONE, ""), strict=True).think is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", K.EMPTY),
        (" \n\u2003", K.EMPTY),
        ("I see a dog.", K.BAD_FORM),
        (ONE, K.BAD_FORM),
        (f"<answer>{ONE}</answer>", K.BAD_FORM),
        (f"<think>a</think>{ONE}", K.BAD_FORM),
        (f"<answer>{ONE}</answer><think>a</think>", K.BAD_FORM),
        (f"Sure! {completion(ONE)}", K.BAD_FORM),
        (f"{completion(ONE)} Done.", K.BAD_FORM),
        (f"\u00a0{completion(ONE)}", K.BAD_FORM),
        (f"<think>a</think> so <answer>{ONE}</answer>", K.BAD_FORM),
        (f"<think>a</think><think>b</think><answer>{ONE}</answer>", K.BAD_FORM),
        (completion(ONE) + completion(ONE), K.BAD_FORM),
        (f"<think>a<answer></think><answer>{ONE}</answer>", K.BAD_FORM),
        (f"<think>a<answer></think>{ONE}</answer>", K.BAD_FORM),
        (f"<Think>a</Think><answer>{ONE}</answer>", K.BAD_FORM),
        (f"<think>a</think><answer>{ONE}", K.BAD_FORM),
        (completion(""), K.BAD_JSON),
        (completion(f"```json\n{ONE}\n```"), K.BAD_JSON),
        (completion(f"[{TWO_POINTS},]"), K.BAD_JSON),
        (completion(f"[{TWO_POINTS}"), K.BAD_JSON),
        (completion(ONE + ONE), K.BAD_JSON),
        (completion(ONE.replace('"', "'")), K.BAD_JSON),
        (completion(ONE.replace("10", "010")), K.BAD_JSON),
        (completion(ONE.replace("10", "+10")), K.BAD_JSON),
        (completion(ONE.replace("10", "0x10")), K.BAD_JSON),
        (completion(ONE.replace("10", "１０")), K.BAD_JSON),
        (completion(ONE.replace("10", "٣")), K.BAD_JSON),
        (completion(ONE.replace(" ", "\u00a0")), K.BAD_JSON),
        (
            completion('[{"bbox_2d": [1,2,3,4], "bbox_2d": [10,20,30,40], "point_1": [1,2], "point_2": [1,2]}]'),
            K.BAD_JSON,
        ),
        (completion('{"no_target": true, "no_target": true}'), K.BAD_JSON),
        (completion("[]"), K.EMPTY_LIST),
        (completion("{}"), K.WRONG_KEYS),
        (completion("[{}]"), K.WRONG_KEYS),
        (completion("[[]]"), K.WRONG_KEYS),
        (completion("[1, 2, 3, 4]"), K.WRONG_KEYS),
        (completion("null"), K.WRONG_KEYS),
        (completion("true"), K.WRONG_KEYS),
        (completion("7"), K.WRONG_KEYS),
        (completion('"no_target"'), K.WRONG_KEYS),
        (completion(TWO_POINTS), K.WRONG_KEYS),
        (completion('{"no_target": false}'), K.WRONG_KEYS),
        (completion('{"no_target": 1}'), K.WRONG_KEYS),
        (completion('{"no_target": "true"}'), K.WRONG_KEYS),
        (completion('{"no_target": true, "why": "none"}'), K.WRONG_KEYS),
        (completion('[{"no_target": true}]'), K.WRONG_KEYS),
        (completion(f'[{TWO_POINTS}, {{"no_target": true}}]'), K.WRONG_KEYS),
        (completion('[{"bbox_2d": [10, 20, 30, 40]}]'), K.WRONG_KEYS),
        (completion('[{"bbox_2d": [10, 20, 30, 40], "point_1": [15, 25]}]'), K.WRONG_KEYS),
        (completion(ONE.replace("point_1", "points_1")), K.WRONG_KEYS),
        (completion(ONE.replace("bbox_2d", "bbox")), K.WRONG_KEYS),
        (completion(ONE.replace("}]", ', "label": "dog"}]')), K.WRONG_KEYS),
        (completion(ONE.replace("10", '"10"')), K.WRONG_KEYS),
        (completion(ONE.replace("10", "true")), K.WRONG_KEYS),
        (completion(ONE.replace("10", "null")), K.WRONG_KEYS),
        (completion(ONE.replace("10, 20, 30, 40", "10, 20, 30")), K.WRONG_KEYS),
        (completion(ONE.replace("10, 20, 30, 40", "10, 20, 30, 40, 50")), K.WRONG_KEYS),
        (completion(ONE.replace("[15, 25]", "[[15, 25]]")), K.WRONG_KEYS),
        (completion(ONE.replace("}]", ', "negative_points": [1, 2]}]')), K.WRONG_KEYS),
        (completion(ONE.replace("}]", ', "negative_points": [[1, 2], [1, 2], [1, 2]]}]')), K.WRONG_KEYS),
        (completion(ONE.replace("10", "NaN")), K.OUT_OF_RANGE),
        (completion(ONE.replace("10", "Infinity")), K.OUT_OF_RANGE),
        (completion(ONE.replace("10", "-Infinity")), K.OUT_OF_RANGE),
        (completion(ONE.replace("10", "1e999")), K.OUT_OF_RANGE),
        (completion(ONE.replace("30", "1" + "0" * 400)), K.OUT_OF_RANGE),
        (completion(ONE.replace("30", "1" + "0" * 5000)), K.OUT_OF_RANGE),
        (completion(ONE.replace("10", "-1")), K.OUT_OF_RANGE),
        (completion(ONE.replace("40", "1000.001")), K.OUT_OF_RANGE),
        (completion(ONE.replace("[15, 25]", "[15, 1001]")), K.OUT_OF_RANGE),
        (completion(ONE.replace("10, 20, 30, 40", "30, 20, 10, 40")), K.OUT_OF_RANGE),
        (completion(ONE.replace("10, 20, 30, 40", "10, 40, 30, 20")), K.OUT_OF_RANGE),
        (completion(ONE.replace("10, 20, 30, 40", "10, 20, 10, 40")), K.OUT_OF_RANGE),
        (completion(ONE.replace("}]", ', "negative_points": [[1, 1001]]}]')), K.OUT_OF_RANGE),
    ],
)
def test_everything_else_is_refused_with_its_kind(text: str, kind: RefusalKind) -> None:
    found = GENSEG.read(text, strict=True)

    assert isinstance(found, Refusal)
    assert found.kind is kind, found
    assert 0 < len(found.detail) <= 250


def test_the_corners_of_the_picture_are_in_range() -> None:
    text = completion('[{"bbox_2d": [0, 0, 1000, 1000], "point_1": [0, 1000], "point_2": [1000, -0.0]}]')

    assert GENSEG.read(text, strict=True).instances == (
        Instance(GridBox(0, 0, 1000, 1000), (GridPoint(0, 1000), GridPoint(1000, 0))),
    )


def test_ranges_are_those_of_the_frame() -> None:
    """(644, 476): 644 is the right border, 645 beyond it; and 480 is in range across but not down."""
    dialect, frame = get_dialect("genseg-pixels"), Size(644, 476)

    def body(x2: int, y2: int) -> str:
        return completion(f'[{{"bbox_2d": [0, 0, {x2}, {y2}], "point_1": [5, 5], "point_2": [9, 9]}}]')

    assert dialect.read(body(644, 476), frame=frame, strict=True).instances[0].box == (0, 0, 1000, 1000)
    assert dialect.read(body(645, 476), frame=frame, strict=True).kind is K.OUT_OF_RANGE
    assert dialect.read(body(480, 480), frame=frame, strict=True).kind is K.OUT_OF_RANGE
    assert dialect.read(body(480, 238), frame=frame, strict=True).instances[0].box.y2 == 500


def test_a_hundred_and_twenty_instances_are_read() -> None:
    whole = GENSEG.read(completion(f"[{', '.join([TWO_POINTS] * 200)}]"), strict=True)

    assert whole.instances == (INSTANCE,) * 120


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<think>let me", K.TRUNCATED),
        (f"<think>a</think><answer>[{TWO_POINTS}, ", K.TRUNCATED),
        ("", K.EMPTY),
        (completion("[]"), K.EMPTY_LIST),
    ],
)
def test_the_token_limit_explains_what_looks_cut_off(text: str, kind: RefusalKind) -> None:
    assert GENSEG.read(text, finish=FinishReason.LENGTH, strict=True).kind is kind


def test_the_token_limit_does_not_spoil_a_whole_answer() -> None:
    assert GENSEG.read(completion(ONE), finish=FinishReason.LENGTH, strict=True) == Answer((INSTANCE,), "reasons")
