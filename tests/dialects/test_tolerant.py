"""Tolerant reading, for prediction and evaluation: each thing it forgives, and what it must not make up."""

from __future__ import annotations

import time

import pytest

from gensegcli.dialects import DIALECTS, get_dialect
from gensegcli.records import Answer, FinishReason, GridBox, GridPoint, Instance, Refusal, RefusalKind, Size
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
        (completion(f"[{TWO_POINTS}, oops, {OTHER}]"), K.BAD_JSON),
        (completion(ONE.replace("10", "１０")), K.BAD_JSON),
        (completion("[]"), K.EMPTY_LIST),
        ("[]", K.EMPTY_LIST),
        ("```json\n[]\n```", K.EMPTY_LIST),
        (completion("42"), K.WRONG_KEYS),
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
        (completion(ONE.replace("40", "1020.5")), K.OUT_OF_RANGE),
        (completion(ONE.replace("40", '"1021"')), K.OUT_OF_RANGE),
        (completion(ONE.replace("10", "-20.5")), K.OUT_OF_RANGE),
        (completion(TWO_POINTS.replace("30", "5")), K.OUT_OF_RANGE),
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
        (completion(ONE.replace("40", "1021")), K.OUT_OF_RANGE),
    ],
)
def test_the_token_limit_before_one_whole_instance(text: str, kind: RefusalKind) -> None:
    assert GENSEG.read(text, finish=FinishReason.LENGTH).kind is kind


# ---------------------------------------------------------------- parts that cannot be used

BOX = Instance(GridBox(10, 20, 30, 40))
FIRST_POINT = GridPoint(15, 25)


@pytest.mark.parametrize(
    ("body", "instances", "dropped"),
    [
        pytest.param(
            f"[{OTHER}, {TWO_POINTS}, {OTHER.replace('3, 4]', '1, 4]')}]",
            (OTHER_INSTANCE, INSTANCE),
            {"instances": 1},
            id="a box without area",
        ),
        pytest.param(
            f"[{OTHER.replace('1, 2, 3, 4', '3, 2, 1, 4')}, {TWO_POINTS}]",
            (INSTANCE,),
            {"instances": 1},
            id="inside out",
        ),
        pytest.param(
            f"[{OTHER.replace('3, 4]', '3, 1400]')}, {TWO_POINTS}]", (INSTANCE,), {"instances": 1}, id="off the grid"
        ),
        pytest.param(
            f'[{TWO_POINTS}, {{"label": "dog"}}, 7, null, "dog", []]', (INSTANCE,), {"instances": 5}, id="none"
        ),
        pytest.param(f'[{TWO_POINTS}, {{"bbox_2d": null}}]', (INSTANCE,), {"instances": 1}, id="no box"),
        pytest.param(f'[{TWO_POINTS}, {{"bbox_2d": [1, 2, 3]}}]', (INSTANCE,), {"instances": 1}, id="three numbers"),
        pytest.param(f'[{TWO_POINTS}, {{"bbox_2d": [1, 2, NaN, 4]}}]', (INSTANCE,), {"instances": 1}, id="NaN"),
        pytest.param(
            f'[{OTHER}, {{"bbox_2d": [1, 2, 3}}, {TWO_POINTS}]',
            (OTHER_INSTANCE, INSTANCE),
            {"instances": 1},
            id="no JSON",
        ),
        pytest.param(
            f"[{TWO_POINTS}, {TWO_POINTS.replace('30', '5')}, {{",
            (INSTANCE,),
            {"instances": 1},
            id="and a cut-off tail",
        ),
        pytest.param(
            ONE.replace("[25, 35]", "null"),
            (Instance(BOX.box, (FIRST_POINT,)),),
            {"points": 1},
            id="a point that is null",
        ),
        pytest.param(
            ONE.replace("[25, 35]", "[25, 1200]"),
            (Instance(BOX.box, (FIRST_POINT,)),),
            {"points": 1},
            id="a point outside",
        ),
        pytest.param(ONE.replace("5]", "5, 1]"), (BOX,), {"points": 2}, id="points of three numbers"),
        pytest.param(
            ONE.replace("}]", ', "negative_points": [[1, 2], [3]]}]'),
            (Instance(BOX.box, INSTANCE.points, (GridPoint(1, 2),)),),
            {"negatives": 1},
            id="a negative point",
        ),
        pytest.param(
            ONE.replace("}]", ', "negative_points": 3}]'), (INSTANCE,), {"negatives": 1}, id="negative points"
        ),
        pytest.param(
            ONE.replace("}]", ', "points_1": [16, 26]}]'),
            (Instance(BOX.box, (GridPoint(25, 35),)),),
            {"points": 1},
            id="one point in two spellings",
        ),
        pytest.param(
            f"[{TWO_POINTS}, " + OTHER.replace("{", '{"bbox": [5, 6, 7, 8], ') + "]",
            (INSTANCE,),
            {"instances": 1},
            id="one box in two spellings",
        ),
    ],
)
def test_a_bad_part_costs_that_part_and_is_counted(
    body: str, instances: tuple[Instance, ...], dropped: dict[str, int]
) -> None:
    assert GENSEG.read(completion(body)) == Answer(instances, "reasons", dropped)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ('[{"bbox_2d": [5, 5, 5, 9]}, {"bbox_2d": [7, 7, 9, 7]}]', K.OUT_OF_RANGE),
        ('[{"bbox_2d": [1, 2, 3]}, {"label": "dog"}]', K.WRONG_KEYS),
        ('[{"bbox_2d": [1, 2, 3}, {"bbox_2d": [4]', K.BAD_JSON),
        ('[{"bbox_2d": null}]', K.WRONG_KEYS),
    ],
)
def test_where_every_part_is_bad_the_first_defect_is_the_refusal(body: str, kind: RefusalKind) -> None:
    assert GENSEG.read(completion(body)).kind is kind
    assert get_dialect("visurf").read(completion(body)).kind is kind, "and no abstention where an empty list is one"


@pytest.mark.parametrize(
    ("written", "read", "clipped"),
    [
        ([0, 0, 1000, 1000], (0, 0, 1000, 1000), 0),
        ([-1, -20, 1001, 1020], (0, 0, 1000, 1000), 1),
        ([100, 200, 1003.5, 999], (100, 200, 1000, 999), 1),
    ],
)
def test_an_overshoot_of_two_percent_is_clipped(written: list[float], read: tuple, clipped: int) -> None:
    assert GENSEG.read(f'{{"bbox_2d": {written}}}') == Answer((Instance(GridBox(*read)),), clipped=clipped)
    in_frame = get_dialect("genseg-pixels").read(
        f'{{"bbox_2d": {[value * 0.5 for value in written]}}}', frame=Size(500, 500)
    )
    assert in_frame == Answer((Instance(GridBox(*read)),), clipped=clipped)


def test_an_overshoot_is_a_share_of_each_side() -> None:
    """Of 500 × 100: 510 across and 102 down are clipped, 103 down is not."""
    dialect, frame = get_dialect("genseg-pixels"), Size(500, 100)

    assert dialect.read("[10, 10, 510, 102]", frame=frame).instances[0].box == (20, 100, 1000, 1000)
    assert dialect.read("[10, 10, 103, 103]", frame=frame).kind is K.OUT_OF_RANGE


def test_a_point_that_overshoots_is_clipped_and_a_box_beyond_the_edge_has_no_area() -> None:
    found = GENSEG.read(completion(ONE.replace("[25, 35]", "[25, 1015]")))

    assert found.instances[0].points[1] == (25, 1000)
    assert (found.clipped, found.dropped) == (1, {})
    assert GENSEG.read(completion("[1001, 20, 1015, 40]")).kind is K.OUT_OF_RANGE


@pytest.mark.parametrize(
    "body",
    [
        '[{"bbox_2d": [0.1, 0.2, 0.5, 0.9]}]',
        '[{"bbox_2d": [0, 0, 0.5, 1]}]',
        '[{"bbox_2d": [0.0, 0.0, 1.0, 1.0]}]',
        '[{"bbox_2d": ["0.1", "0.2", "0.5", "0.9"]}]',
        '[{"bbox_2d": [0.1, 0.2, 0.5, 0.9], "point_1": [0.2, 0.3]}, {"bbox_2d": [0, 0, 1, 1]}]',
        '[{"bbox_2d": [0.1, 0.2, 0.1, 0.9]}]',
        "[0.1, 0.2, 0.5, 0.9]",
        "[[0.1, 0.2, 0.5, 0.9], [0.5, 0.5, 1.0, 1.01]]",
        '[{"bbox_2d": [0.1, 0.2, 0.5, 0.9]}, {"bbox_2d": [0.1, 0.2',
    ],
)
def test_fractions_of_the_picture_are_a_refusal_of_their_own(body: str) -> None:
    assert GENSEG.read(completion(body)).kind is K.FRACTIONS
    assert get_dialect("genseg-pixels").read(completion(body), frame=Size(840, 420)).kind is K.FRACTIONS


@pytest.mark.parametrize("body", ["[0, 0, 1, 1]", "[[0.1, 0.2, 0.5, 0.9], [10, 20, 30, 40]]", "[0.5, 0.5, 2, 2]"])
def test_small_boxes_on_the_grid_are_no_fractions(body: str) -> None:
    assert isinstance(GENSEG.read(completion(body)), Answer)


def test_strict_reading_neither_drops_nor_clips() -> None:
    for body in (f"[{TWO_POINTS}, {TWO_POINTS.replace('30', '10')}]", ONE.replace("40", "1001")):
        assert GENSEG.read(completion(body), strict=True).kind is K.OUT_OF_RANGE
    assert GENSEG.read(completion(ONE.replace("[25, 35]", "null")), strict=True).kind is K.WRONG_KEYS


# ---------------------------------------------------------------- control tokens

ENDS = (
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "</s>",
    "<|end|>",
    "<eos>",
    "<end_of_turn>",
    "<｜end▁of▁sentence｜>",
)
SAID = {
    **dict.fromkeys(DIALECTS, '<think>a</think>{"no_target": true}'),
    "visurf": "<think>a</think>[]",
}


@pytest.mark.parametrize("name", sorted(DIALECTS))
@pytest.mark.parametrize(
    "end", [*ENDS, "<|im_end|>\n", " <|im_end|>\n<|endoftext|>", "</s></s>", "<|im_end|>\n<|im_start|>assistant\n"]
)
def test_control_tokens_at_the_end_change_nothing(name: str, end: str) -> None:
    dialect = get_dialect(name)
    there = dialect.render(Answer((Instance(INSTANCE.box, INSTANCE.points[:1]),), "a"))
    answer_tags = there.replace("</think>", "</think><answer>") if name == "seg-r1" else there
    for text in (
        SAID[name],
        dialect.render(Answer((), "a")),
        "```json\n" + SAID[name].partition("</think>")[2] + "\n```",
        there,
        answer_tags.removesuffix("</answer>"),
        "<think>a",
        "I see nothing.",
        "",
    ):
        assert dialect.read(text + end) == dialect.read(text), text
    assert dialect.read(SAID[name] + end) == Answer((), "a")


def test_control_tokens_around_the_parts_are_no_part_of_them() -> None:
    assert GENSEG.read('<|im_start|>assistant\n{"no_target": true}') == Answer(())
    assert GENSEG.read('<think>a</think><answer>{"no_target": true}<|im_end|></answer>') == Answer((), "a")
    assert GENSEG.read('```json\n{"no_target": true}<|im_end|>\n```') == Answer(())


@pytest.mark.parametrize("end", ENDS)
def test_rewards_see_text_without_special_tokens_so_that_one_in_it_is_text(end: str) -> None:
    """Otherwise a model that spells out end tokens would earn the credit for a good form."""
    assert GENSEG.read(completion(ONE) + end, strict=True).kind is K.BAD_FORM


def test_a_megabyte_of_control_tokens_takes_linear_time() -> None:
    for token in (*ENDS, "<|a|>\n", "<|", "<|im_start|>assistant", " "):
        start = time.process_time()
        GENSEG.read(completion(ONE) + token * (1_000_000 // len(token)))
        assert time.process_time() - start < 10, token


# ---------------------------------------------------------------- repeated keys

TWO_IN_ONE = '{"object_name":"a","bbox":[195,138,617,480],"object_name":"b","bbox":[663,399,917,657]}'
TWO = (Instance(GridBox(195, 138, 617, 480)), Instance(GridBox(663, 399, 917, 657)))


@pytest.mark.parametrize(
    "body",
    [
        TWO_IN_ONE,
        f"[{TWO_IN_ONE}]",
        f"```json\n{TWO_IN_ONE}\n```",
        f'{{"objects": [{TWO_IN_ONE}]}}',
        f'{{"objects": {TWO_IN_ONE}}}',
        TWO_IN_ONE.replace('"', "'"),
        '{"bbox_2d": [195, 138, 617, 480], "bbox_2d": [663, 399, 917, 657]}',
        f"[{TWO_IN_ONE}, {{",
    ],
)
def test_objects_in_one_pair_of_braces_are_all_read(body: str) -> None:
    assert GENSEG.read(completion(body)).instances == TWO
    assert GENSEG.read(completion(body), strict=True).kind in (K.BAD_JSON, K.WRONG_KEYS)


@pytest.mark.parametrize(
    "body",
    [
        '{"bbox_2d": [1, 2, 3, 4], "label": "a", "bbox_2d": [5, 6, 7, 8]}',
        '{"label": "a", "bbox_2d": [1, 2, 3, 4], "bbox_2d": [5, 6, 7, 8], "label": "b"}',
        '[{"bbox_2d": [1, 2, 3, 4], "point_1": [2, 3], "point_1": [1, 1]}]',
        '{"no_target": true, "bbox_2d": [1, 2, 3, 4], "no_target": false}',
    ],
)
def test_repetition_without_order_is_refused_by_name(body: str) -> None:
    found = GENSEG.read(completion(body))

    assert found.kind is K.BAD_JSON
    assert "a key stands twice" in found.detail


def test_an_abstention_that_is_also_denied_is_none() -> None:
    for body in (
        '{"no_target": true, "no_target": false}',
        '[7, {"no_target": true}]',
        '[null, {"no_target": true}, [1, 2, 3, 4]]',
        '{"no_target": [{"bbox_2d": true}], "no_target": true}',
        '[{"bbox_2d": [1, 2, 3}, {"no_target": true}]',
        '{"no_target": true, "bbox": [1, 2, 3, 4]}',
        f'{{"no_target": true, "objects": [{TWO_POINTS}]}}',
        f'{{"no_target": true, "object": {TWO_POINTS}}}',
    ):
        assert GENSEG.read(completion(body)).kind is K.WRONG_KEYS


# ---------------------------------------------------------------- other forms

BARE = Answer((BOX,), "reasons")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param("[10, 20, 30, 40]", BARE, id="a bare box"),
        pytest.param("[[10, 20, 30, 40]]", BARE, id="a list of bare boxes"),
        pytest.param('{"bbox_2d": [[10, 20, 30, 40]]}', BARE, id="a list of boxes under the key of one"),
        pytest.param('{"boxes": [[10, 20, 30, 40]]}', BARE, id="a list of boxes that is named so"),
        pytest.param("(10, 20, 30, 40)", BARE, id="a tuple"),
        pytest.param('[{"bbox_2d": [10，20、30，40]}]', BARE, id="full-width commas"),
        pytest.param("［｛“bbox_2d”：【10, 20, 30, 40】｝］", BARE, id="full-width brackets and quotes"),
        pytest.param("[{bbox_2d: [10, 20, 30, 40]}]", BARE, id="keys without quotes"),
        pytest.param('[{"label": "a\ndog", "bbox_2d": [10, 20, 30, 40]}]', BARE, id="a line break in a label"),
        pytest.param('[{"label": "a, ]dog", "bbox_2d": [10, 20, 30, 40],}]', BARE, id="a comma in a label"),
        pytest.param(
            "[{'label': \"the dog's bowl\", 'bbox_2d': [10, 20, 30, 40], 'sure': True, 'mask': None}]",
            BARE,
            id="Python literals",
        ),
        pytest.param("[{'label': 'the dog\\'s \"bowl\"', 'bbox_2d': (10, 20, 30, 40)}]", BARE, id="quotes in quotes"),
    ],
)
def test_other_spellings_of_the_same(body: str, expected: Answer) -> None:
    assert GENSEG.read(completion(body)) == expected
    assert isinstance(GENSEG.read(completion(body), strict=True), Refusal)


@pytest.mark.parametrize(
    "body",
    [
        f'{{"objects": [{OTHER}, {TWO_POINTS}]}}',
        f'{{"count": 2, "detections": [{OTHER}, {TWO_POINTS}], "no_target": false}}',
        f'[{{"results": [{OTHER}, {TWO_POINTS}]}}]',
        f'{{"object_1": {OTHER}, "object_2": {TWO_POINTS}}}',
        f'{{"objects": [{OTHER}, {TWO_POINTS}, {{"bbox',
        f"[{OTHER}, {TWO_POINTS}]".replace('"', "'"),
    ],
)
def test_what_holds_the_objects_together(body: str) -> None:
    assert GENSEG.read(completion(body)) == Answer((OTHER_INSTANCE, INSTANCE), "reasons")


def test_several_boxes_under_the_key_of_one() -> None:
    assert GENSEG.read('{"bbox_2d": [[10, 20, 30, 40], [1, 2, 3, 4]], "label": "dogs"}').instances == (
        BOX,
        Instance(OTHER_INSTANCE.box),
    )
    whose_point = '{"bbox_2d": [[10, 20, 30, 40], [1, 2, 3, 4]], "point_1": [2, 3]}'
    assert GENSEG.read(whose_point).kind is K.WRONG_KEYS


def test_python_says_that_nothing_is_there() -> None:
    for name in ("genseg", "seg-r1", "visurf"):
        assert get_dialect(name).read("<think>a</think>{'no_target': True}<|im_end|>") == Answer((), "a")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("[10, 20]", K.WRONG_KEYS),
        ("[10, 20, 30, 40, 0.9]", K.WRONG_KEYS),
        ("[[10, 20], [30, 40]]", K.WRONG_KEYS),
        ("[10, 20, 30, 40, 1, 2, 3, 4]", K.WRONG_KEYS),
        ('{"box": [10, 20, 30, 40]}', K.WRONG_KEYS),
        ('{"bbox_2d": {"x1": 10, "y1": 20, "x2": 30, "y2": 40}}', K.WRONG_KEYS),
        ('{"bbox_2d": "10, 20, 30, 40"}', K.WRONG_KEYS),
        ('{"polygon": [[10, 20, 30, 40]]}', K.WRONG_KEYS),
        (f'{{"objects": [{OTHER}], "others": [{TWO_POINTS}]}}', K.WRONG_KEYS),
        ('{"objects": []}', K.EMPTY_LIST),
        ("[{'label': 'the dog's bowl', 'bbox_2d': [10, 20, 30, 40]}]", K.BAD_JSON),
        ('[{"label": "the "red" dog", "bbox_2d": [10, 20, 30, 40]}]', K.BAD_JSON),
        ("[10 20 30 40]", K.BAD_JSON),
    ],
)
def test_what_has_two_readings_has_none(body: str, kind: RefusalKind) -> None:
    for name in ("genseg", "visurf"):
        assert get_dialect(name).read(completion(body)).kind is kind


def test_a_box_in_a_label_is_none() -> None:
    """In a text that is whole and in one that was cut off."""
    label = '"label": "{\'bbox_2d\': [1, 2, 3, 4]} {\\"bbox_2d\\": [1, 2, 3, 4]}"'
    one = f'{{{label}, "bbox_2d": [10, 20, 30, 40]}}'

    assert GENSEG.read(completion(f"[{one}]")).instances == (BOX,)
    assert GENSEG.read(completion(f"[{one}, {{{label}, ")).instances == (BOX,)


def test_a_refusal_keeps_the_think_text() -> None:
    assert GENSEG.read(completion("[]", "no dog here")).think == "no dog here"
    assert GENSEG.read(completion("[]", "no dog here"), strict=True).think == "no dog here"


def test_a_hundred_and_twenty_instances_are_read_even_of_a_text_without_end() -> None:
    assert GENSEG.read(f"<answer>[{', '.join([TWO_POINTS] * 200)}]</answer>").instances == (INSTANCE,) * 120
    assert GENSEG.read(f"<answer>[{', '.join([TWO_POINTS] * 200)}, {{").instances == (INSTANCE,) * 120
