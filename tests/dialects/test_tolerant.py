"""Tolerant reading, for prediction and evaluation: each thing it forgives, and what it must not make up."""

from __future__ import annotations

import pytest

from gensegcli.dialects import get_dialect
from gensegcli.records import Answer, FinishReason, GridBox, GridPoint, Instance, Refusal, RefusalKind
from tests.dialects.answers import INSTANCE, TWO_POINTS, completion

GENSEG = get_dialect("genseg")
ONE = f"[{TWO_POINTS}]"
OTHER = '{"bbox_2d": [1, 2, 3, 4], "point_1": [1, 2], "point_2": [3, 4]}'
OTHER_INSTANCE = Instance(GridBox(1, 2, 3, 4), (GridPoint(1, 2), GridPoint(3, 4)))
K = RefusalKind


@pytest.mark.parametrize(
    ("text", "think"),
    [
        pytest.param(completion(ONE), "reasons", id="the form"),
        pytest.param(f"<think>reasons</think>{ONE}", "reasons", id="no answer tags"),
        pytest.param(f"reasons</think><answer>{ONE}</answer>", "reasons", id="think opened by the prompt"),
        pytest.param(f"<answer>{ONE}</answer>", None, id="no think block"),
        pytest.param(f"<think>reasons<answer>{ONE}</answer>", "reasons", id="think not closed"),
        pytest.param(
            f"<think>reasons <answer>{ONE}</answer></think>",
            "reasons <answer>" + ONE + "</answer>",
            id="answer in think",
        ),
        pytest.param(ONE, None, id="bare JSON"),
        pytest.param(f"The dog is here: {ONE}. Anything else?", None, id="JSON in prose"),
        pytest.param(f"[{OTHER}] or rather\n{ONE}", None, id="the last of two bare answers"),
        pytest.param(f"<answer>[{OTHER}]</answer> no: <answer>{ONE}</answer>", None, id="the last of two answers"),
        pytest.param(f"<think>maybe [{OTHER}]</think>{ONE}", f"maybe [{OTHER}]", id="a draft in the think text"),
        pytest.param(
            f"<think>in <answer> tags</think><answer>{ONE}</answer>", "in <answer> tags", id="a tag in the think text"
        ),
        pytest.param(f"<think>reasons</think><answer>{ONE}", "reasons", id="answer not closed"),
        pytest.param(f"<think>reasons</think>{ONE}</answer>", "reasons", id="answer not opened"),
        pytest.param(completion(f"```json\n{ONE}\n```"), "reasons", id="fenced"),
        pytest.param(completion(f"```\n{ONE}\n```"), "reasons", id="fenced without a label"),
        pytest.param(f"Here:\n```json\n{ONE}\n```\nDone.", None, id="fenced in prose"),
        pytest.param(completion(f"```json\n{ONE}"), "reasons", id="fence not closed"),
        pytest.param(completion(f"{ONE}\n```"), "reasons", id="fence not opened"),
        pytest.param(completion(TWO_POINTS), "reasons", id="one object instead of a list"),
        pytest.param(
            completion("[" + TWO_POINTS.replace("]", ",]").replace("}", ", }") + ",\n]"),
            "reasons",
            id="trailing commas",
        ),
        pytest.param(
            completion(ONE.replace("10", '"10"').replace("25", '" 25.0 "')), "reasons", id="numbers as strings"
        ),
        pytest.param(completion(ONE.replace("point_", "points_")), "reasons", id="aliases"),
        pytest.param(completion(ONE.replace("bbox_2d", "bbox")), "reasons", id="alias of the box"),
        pytest.param(completion(ONE.replace("}]", ', "label": "a {dog}"}]')), "reasons", id="further keys"),
        pytest.param(completion(ONE.replace("}]", ', "bbox_2d": [10, 20, 30, 40]}]')), "reasons", id="a key twice"),
        pytest.param(completion(f"[{TWO_POINTS}, " + '{"bbox_2d": [1, 2, 3'), "reasons", id="cut off in a number"),
        pytest.param(completion(f"[{TWO_POINTS}, "), "reasons", id="cut off between objects"),
        pytest.param(f"<think>reasons</think><answer>[{TWO_POINTS}", "reasons", id="cut off before the bracket"),
        pytest.param(f"<think>reasons</think><answer>```json\n[{TWO_POINTS}, {{", "reasons", id="cut off in a fence"),
        pytest.param(completion(f"Sure: {ONE} is it"), "reasons", id="prose within the answer"),
        pytest.param(completion(f"\u00a0{ONE}\u2003"), "reasons", id="foreign white space"),
    ],
)
def test_what_is_forgiven(text: str, think: str | None) -> None:
    assert GENSEG.read(text) == Answer((INSTANCE,), think)


def test_several_objects_with_a_cut_off_tail_keep_their_order() -> None:
    text = f"<think>a</think><answer>[{OTHER}, {TWO_POINTS},\n{OTHER}, {{"

    for finish in (None, FinishReason.STOP, FinishReason.LENGTH):
        assert GENSEG.read(text, finish=finish).instances == (OTHER_INSTANCE, INSTANCE, OTHER_INSTANCE)


def test_objects_on_lines_of_their_own() -> None:
    assert GENSEG.read(f"<answer>{OTHER}\n{TWO_POINTS}</answer>").instances == (OTHER_INSTANCE, INSTANCE)


def test_a_box_alone_is_an_instance() -> None:
    """Models that were never trained on our form often give boxes only; modes that want points then use the box."""
    found = GENSEG.read('[{"bbox_2d": [1, 2, 3, 4], "label": "dog"}]')

    assert found.instances == (Instance(GridBox(1, 2, 3, 4)),)


def test_negatives_are_read_up_to_two() -> None:
    points = '"negative_points": [[11, 21], ["12", 22], [13, 23]]'

    assert GENSEG.read(completion(ONE.replace("}]", f", {points}}}]"))).instances[0].negatives == ((11, 21), (12, 22))


@pytest.mark.parametrize(
    "text",
    [
        '{"no_target": true}',
        '[{"no_target": true}]',
        '{"no_target": true,}',
        '```json\n{"no_target": true}\n```',
        '{"no_target": true, "reason": "no dog"}',
    ],
)
def test_ways_to_say_that_nothing_is_there(text: str) -> None:
    assert GENSEG.read(text) == Answer(())
    assert GENSEG.read(f"<think>reasons</think>{text}") == Answer((), "reasons")
    assert GENSEG.read(completion(text)) == Answer((), "reasons")


@pytest.mark.parametrize("name", ["genseg", "seg-r1"])
@pytest.mark.parametrize(
    "text",
    [
        '<answer>There is no dog: {"no_target": true}.</answer>',
        '<think>no dog <answer>{"no_target": true}</answer>',
        '<think>no dog <answer>{"no_target": true}</answer></think>',
        '<think>no dog</think>```json\n{"no_target": true}',
        '<think>{"no_target": true} or not</think>\n{"no_target": true}',
    ],
)
def test_an_abstention_in_the_place_of_the_answer_counts(name: str, text: str) -> None:
    found = get_dialect(name).read(text)

    assert isinstance(found, Answer), found
    assert found.no_target


@pytest.mark.parametrize("name", ["genseg", "vision-reasoner", "seg-r1"])
@pytest.mark.parametrize(
    "text",
    [
        'I see a dog. I must not answer {"no_target": true}.',
        'There is no dog: {"no_target": true}.',
        '{"no_target": true} would be wrong here.',
        'Never say\n```json\n{"no_target": true}\n```\nhere.',
        '<think>a dog</think>I must not answer {"no_target": true}.',
        '<think>If nothing matches, answer {"no_target": true}; but there is',
        '<think>{"no_target": true}',
        '<think>{"no_target": true}</think>',
        '<think>In <answer> tags, {"no_target": true} if there is no dog. There is',
        '<think>Either <answer>{"no_target": true}</answer> or boxes; there is a dog',
        '<think>Either <answer>{"no_target": true}</answer> or boxes; there is a dog</think>',
    ],
)
def test_words_about_the_abstention_are_none(name: str, text: str) -> None:
    found = get_dialect(name).read(text)

    assert isinstance(found, Refusal), found
    assert found.kind is K.NO_ANSWER


def test_an_empty_list_in_passing_is_no_abstention_either() -> None:
    visurf = get_dialect("visurf")

    assert visurf.read("<think>no dog</think>[]") == Answer((), "no dog")
    assert isinstance(visurf.read("Not\n```\n[]\n```\nhere: I see a dog."), Refusal)
    assert isinstance(visurf.read("<think>[]"), Refusal)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", K.EMPTY),
        ("\n", K.EMPTY),
        ("I cannot find a dog.", K.NO_ANSWER),
        ("<think>hm</think>", K.NO_ANSWER),
        ("<think>hm</think>Nothing there.", K.NO_ANSWER),
        (f"<think>maybe {ONE}</think>Nothing there.", K.NO_ANSWER),
        ("The box is [10, 20, 30, 40].", K.NO_ANSWER),
        ('{"bbox_2d": [1, 2', K.BAD_JSON),
        ("<answer></answer>", K.BAD_JSON),
        ("<answer>nothing</answer>", K.BAD_JSON),
        (completion(ONE.replace('"', "'")), K.BAD_JSON),
        (completion(f"[{TWO_POINTS}, oops, {OTHER}]"), K.BAD_JSON),
        (completion(ONE.replace("10", "１０")), K.BAD_JSON),
        (completion("[]"), K.EMPTY_LIST),
        ("[]", K.EMPTY_LIST),
        ("```json\n[]\n```", K.EMPTY_LIST),
        (completion("42"), K.WRONG_KEYS),
        (completion("[[10, 20, 30, 40]]"), K.WRONG_KEYS),
        (completion('{"box": [10, 20, 30, 40]}'), K.WRONG_KEYS),
        (completion('{"no_target": false}'), K.WRONG_KEYS),
        (completion(f'[{TWO_POINTS}, {{"no_target": true}}]'), K.WRONG_KEYS),
        (completion(ONE.replace("}]", ', "no_target": true}]')), K.WRONG_KEYS),
        (completion(ONE.replace("10", '"１０"')), K.WRONG_KEYS),
        (completion(ONE.replace("10", '"٣"')), K.WRONG_KEYS),
        (completion(ONE.replace("10", '"NaN"')), K.WRONG_KEYS),
        (completion(ONE.replace("10", '"1_0"')), K.WRONG_KEYS),
        (completion(ONE.replace("10", "true")), K.WRONG_KEYS),
        (completion(ONE.replace("10", "NaN")), K.OUT_OF_RANGE),
        (completion(ONE.replace("30", "1" + "0" * 400)), K.OUT_OF_RANGE),
        (completion(ONE.replace("30", "1e999")), K.OUT_OF_RANGE),
        (completion(ONE.replace("40", "1001")), K.OUT_OF_RANGE),
        (completion(ONE.replace("40", '"1001"')), K.OUT_OF_RANGE),
        (completion(ONE.replace("10", "-1")), K.OUT_OF_RANGE),
        (completion(f"[{TWO_POINTS}, " + TWO_POINTS.replace("30", "5") + ", {"), K.OUT_OF_RANGE),
    ],
)
def test_what_is_not_made_up(text: str, kind: RefusalKind) -> None:
    found = GENSEG.read(text)

    assert isinstance(found, Refusal), found
    assert found.kind is kind, found


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<think>let me see", K.TRUNCATED),
        (f"<think>perhaps {ONE} but", K.TRUNCATED),
        ("<think>a</think>", K.TRUNCATED),
        ('<think>a</think><answer>[{"bbox_2d": [1, 2', K.TRUNCATED),
        ('<think>a</think><answer>{"no_target": tr', K.TRUNCATED),
        ('<think>a</think>[{"bbox_2d": [1, 2, 3, 4], "point_1"', K.TRUNCATED),
        ("", K.EMPTY),
        (completion(ONE.replace("40", "1001")), K.OUT_OF_RANGE),
    ],
)
def test_the_token_limit_before_one_whole_instance(text: str, kind: RefusalKind) -> None:
    assert GENSEG.read(text, finish=FinishReason.LENGTH).kind is kind


def test_a_refusal_keeps_the_think_text() -> None:
    assert GENSEG.read(completion("[]", "no dog here")).think == "no dog here"
    assert GENSEG.read(completion("[]", "no dog here"), strict=True).think == "no dog here"


def test_a_hundred_and_twenty_instances_are_read_even_of_a_text_without_end() -> None:
    assert GENSEG.read(f"<answer>[{', '.join([TWO_POINTS] * 200)}]</answer>").instances == (INSTANCE,) * 120
    assert GENSEG.read(f"<answer>[{', '.join([TWO_POINTS] * 200)}, {{").instances == (INSTANCE,) * 120
