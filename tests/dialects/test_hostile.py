"""No text makes a reader raise, linger or hand out an impossible answer."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gensegcli.dialects import DIALECTS, get_dialect
from gensegcli.records import Answer, FinishReason, Refusal, RefusalKind, Size
from tests.dialects.answers import TWO_POINTS, answers, completion

PIECES = (
    *(
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "<bbox>",
        "</bbox>",
        "<points>",
        "</points>",
        "<labels>",
        "</labels>",
    ),
    *(
        "[",
        "]",
        "{",
        "}",
        '"',
        ",",
        ":",
        "\\",
        "```",
        "```json\n",
        "\n",
        " ",
        "-",
        ".",
        "e",
        "9",
        "0",
        "true",
        "null",
        "NaN",
    ),
    *("Infinity", "1e999", "10" * 200, "٣", "１", "\u00a0", "\ud800", "\x00", "\ufeff", "\u2028"),
    *(
        '"bbox_2d"',
        '"point_1"',
        '"negative_points"',
        '"no_target"',
        '"bbox"',
        '"points_1"',
        TWO_POINTS,
        '{"no_target": true}',
    ),
    *("[1, 2, 3, 4]", "[1, 2]", "[[1, 2]]", "[1]"),
)
soup = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
any_text = st.text(st.characters(), max_size=200)
frames = st.one_of(st.none(), st.just(Size(840, 420)), st.just(Size(1, 1)))
finishes = st.sampled_from([None, *FinishReason])


def check(text: str, frame: Size | None = None, finish: FinishReason | None = None) -> None:
    """Both readings of all dialects: a value in bounds, and the strict one never more generous than the tolerant."""
    for dialect in DIALECTS.values():
        found = {strict: dialect.read(text, frame=frame, finish=finish, strict=strict) for strict in (True, False)}
        for reading in found.values():
            if isinstance(reading, Refusal):
                assert len(reading.detail) <= 250
                assert reading.detail.isascii()
                assert reading.detail.isprintable()
                continue
            assert len(reading.instances) <= 120
            for one in reading.instances:
                assert 0 <= one.box.x1 < one.box.x2 <= 1000
                assert 0 <= one.box.y1 < one.box.y2 <= 1000
                assert all(0 <= value <= 1000 for point in one.points + one.negatives for value in point)
        if isinstance(found[True], Answer):
            fractions = isinstance(found[False], Refusal) and found[False].kind is RefusalKind.FRACTIONS
            assert fractions or found[True] == found[False]


@given(any_text, frames, finishes)
def test_any_text(text: str, frame: Size | None, finish: FinishReason | None) -> None:
    check(text, frame, finish)


@settings(max_examples=300)
@given(soup, frames, finishes)
@example(
    '<answer>{"bbox_2d": [5e-324, 0, 1e-323, 1], "point_1": [0, 0], "point_2": [0, 0]}</answer>', Size(840, 420), None
)
def test_soup_of_tags_and_fragments(text: str, frame: Size | None, finish: FinishReason | None) -> None:
    check(text, frame, finish)


@st.composite
def mutants(draw: st.DrawFn) -> str:
    """A valid completion of some dialect with a few edits."""
    dialect = draw(st.sampled_from(sorted(DIALECTS)))
    answer = draw(answers(most=1 if dialect == "seg-zero" else 3))
    text = get_dialect(dialect).render(answer)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(len(text), start + 30)))
        insert = draw(st.one_of(st.just(""), st.sampled_from(PIECES), st.just(text[start:stop] * 2)))
        text = text[:start] + insert + text[stop:]
    return text


@settings(max_examples=150)
@given(mutants(), frames, finishes)
def test_mutated_valid_completions(text: str, frame: Size | None, finish: FinishReason | None) -> None:
    check(text, frame, finish)


@given(answers(), st.data())
def test_every_prefix_of_a_completion_gives_its_first_instances_or_a_refusal(
    answer: Answer, data: st.DataObject
) -> None:
    dialect = get_dialect("genseg")
    text = dialect.render(Answer(answer.instances, "t"))
    found = dialect.read(text[: data.draw(st.integers(0, len(text)))], finish=FinishReason.LENGTH)

    if isinstance(found, Answer):
        assert found.instances == answer.instances[: len(found.instances)]
        assert found.instances or not answer.instances, "a cut-off answer never becomes an abstention"


MEGABYTE = 1 << 20
UNITS = (
    *(
        "[",
        "{",
        "]",
        "}",
        "[]",
        "{}",
        "[{",
        '{"',
        '"',
        "\\",
        '\\"',
        ",",
        ", ",
        ",]",
        " ",
        "\n",
        "-",
        "9",
        "a",
        "```",
        "```json\n",
    ),
    *(
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "<answer>[",
        "<answer>{",
        "</think><answer>",
        "<bbox>",
        "<bbox>[",
        "<bbox></bbox>",
    ),
    *(
        '{"bbox_2d":',
        '{"bbox_2d": [',
        '"bbox_2d"',
        '{"a":1,',
        "{} ",
        '{"bbox_2d": 1} x ',
        f"{TWO_POINTS}, ",
        "\ud800",
        "0.",
        "1e",
    ),
)
FORMS = (
    ("", ""),
    ("<think>", ""),
    ("<think></think><answer>", "</answer>"),
    ('<think></think><answer>[{"bbox_2d": [0.', ""),
    ("<answer>```", ""),
    ("<think></think><bbox>[", "]</bbox><points>[]</points><labels>[]</labels>"),
)


@pytest.mark.parametrize("unit", UNITS)
def test_a_megabyte_of_it_takes_linear_time(unit: str) -> None:
    """Measured: 3 s at most for one reading on one busy core. Anything quadratic takes 10^12 steps: many minutes."""
    for head, tail in FORMS:
        text = head + unit * (MEGABYTE // len(unit)) + tail
        for name, strict in (("genseg", False), ("genseg", True), ("seg-r1", False), ("seg-r1", True)):
            start = time.process_time()
            found = get_dialect(name).read(text, finish=FinishReason.LENGTH, strict=strict)
            assert time.process_time() - start < 15, (head, name, strict)
            assert isinstance(found, Answer | Refusal)
            if isinstance(found, Refusal):
                assert len(found.detail) <= 250


@pytest.mark.parametrize("depth", [9, 500, 100_000])
def test_deep_nesting_is_refused_before_the_parser_meets_it(depth: int) -> None:
    for deep in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
        for strict in (True, False):
            found = get_dialect("genseg").read(completion(deep), strict=strict)
            assert isinstance(found, Refusal)
            assert "nest deeper" in found.detail


DEEP = (
    '["' + "]" * 3000 + '",' + "[" * 3000,
    '["' + "]" * 3000 + '",' + "[" * 3000 + "]" * 3001,
    '["\\"' + "]" * 3000 + '",' + "[" * 3000,
    "[]" * 3000 + "[" * 3000,
    "]" * 3000 + "[" * 3000,
    "}" * 3000 + '{"bbox_2d":' * 3000,
    '{"' + "}" * 3000 + '":' + '{"bbox_2d":' * 3000,
    "['" + "]" * 3000 + "'," + "[" * 3000,
    "\u201c" + "]" * 3000 + "\u201d" + "\uff3b" * 3000,
    "(" * 3000 + ")" * 3000,
    '[{"bbox_2d": [1, 2, 3, 4]}, ' + '{"bbox_2d": ' * 3000 + "1" + "}" * 3000,
    '{"no_target": ' * 3000,
)


@pytest.mark.parametrize("name", sorted(DIALECTS))
@pytest.mark.parametrize("deep", DEEP, ids=range(len(DEEP)))
def test_brackets_in_strings_do_not_pay_for_others(name: str, deep: str) -> None:
    """As the guard counts, so does the parser: nothing deep reaches it, whatever stands before."""
    forms = (
        deep,
        completion(deep),
        f"<bbox>{deep}</bbox>",
        f"<bbox>[1, 2, 3, 4]</bbox><points>{deep}</points><labels>{deep}</labels>",
    )
    for text in forms:
        check(text)
    for strict in (True, False):
        assert isinstance(get_dialect(name).read(completion(deep), strict=strict), Refusal) or "[1, 2, 3, 4]" in deep


@pytest.mark.parametrize("name", sorted(DIALECTS))
@pytest.mark.parametrize("value", [None, b"<think>", bytearray(b"[]"), 7, []])
def test_what_is_no_text_is_refused_too(name: str, value: object) -> None:
    found = get_dialect(name).read(value)

    assert isinstance(found, Refusal)
    assert type(value).__name__ in found.detail
