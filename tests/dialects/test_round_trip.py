"""What a dialect writes it reads back, strictly and tolerantly, on the grid and in any frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gensegcli.dialects import DIALECTS, get_dialect
from gensegcli.dialects.frames import rounded
from gensegcli.records import Answer, GridBox, GridPoint, Instance, Size
from tests.dialects.answers import INSTANCE, UNMISTAKABLE, answers, boxes

GENSEG = ("genseg", "genseg-pixels", "genseg-neg", "genseg-mini", "genseg-mini-neg")
frames = st.builds(Size, st.integers(28, 20_000), st.integers(28, 20_000))


def near(found: Answer, wanted: Answer, frame: Size) -> bool:
    """Within the thousandth of a pixel to which numbers in a frame are written, and a rounding."""
    if len(found.instances) != len(wanted.instances) or found.think != wanted.think:
        return False
    for one, other in zip(found.instances, wanted.instances, strict=True):
        shapes = [(one.box, other.box), *zip(one.points + one.negatives, other.points + other.negatives, strict=True)]
        for a, b in shapes:
            for axis, (x, y) in enumerate(zip(a, b, strict=True)):
                if abs(x - y) > 0.0006 * 1000 / frame[axis % 2]:
                    return False
    return True


@pytest.mark.parametrize("name", GENSEG)
@given(answer=answers())
def test_exact_on_the_grid(name: str, answer: Answer) -> None:
    dialect = get_dialect(name)
    text = dialect.render(answer)

    assert dialect.read(text, strict=True) == answer
    assert dialect.read(text) == answer


@given(answer=answers(gap=1), frame=frames)
def test_to_a_thousandth_of_a_pixel_in_a_frame(answer: Answer, frame: Size) -> None:
    dialect = get_dialect("genseg-pixels")
    text = dialect.render(answer, frame=frame)

    assert near(dialect.read(text, frame=frame, strict=True), answer, frame)
    assert near(dialect.read(text, frame=frame), answer, frame)


@given(answer=answers(), frame=frames)
def test_rounded_numbers_are_whole_in_the_text_and_settled(answer: Answer, frame: Size) -> None:
    """What a model is taught: no decimal point anywhere, boxes never closed, and nothing left to round."""
    dialect = get_dialect("genseg-pixels")
    taught = rounded(Answer(answer.instances), frame)
    text = dialect.render(taught, frame=frame)

    assert "." not in text
    found = dialect.read(text, frame=frame, strict=True)
    assert near(found, taught, frame)
    assert dialect.render(rounded(found, frame), frame=frame) == text
    for one, other in zip(taught.instances, answer.instances, strict=True):
        moved = [
            abs(x - y) * frame[axis % 2] / 1000 for axis, (x, y) in enumerate(zip(one.box, other.box, strict=True))
        ]
        assert max(moved) <= 1 + 1e-6, "half a unit, or one where the box would have closed"


@given(answer=answers())
def test_the_miniature_is_taught_multiples_of_ten(answer: Answer) -> None:
    to = get_dialect("genseg-mini").rounding
    taught = rounded(answer, to=to)

    assert rounded(taught, to=to) == taught
    for one, true in zip(taught.instances, answer.instances, strict=True):
        numbers = [*one.box, *(value for point in (*one.points, *one.negatives) for value in point)]
        assert {value % 10 for value in numbers} <= {0}
        assert max(abs(x - y) for x, y in zip(one.box, true.box, strict=True)) <= 10
        assert one.box.x1 < one.box.x2
        assert one.box.y1 < one.box.y2


def test_what_cannot_write_the_far_edge_is_refused() -> None:
    with pytest.raises(ValueError, match="10 does not divide 644 × 480"):
        rounded(Answer(), Size(644, 480), to=10)


@given(answer=answers(most=1, negatives=0))
def test_seg_zero(answer: Answer) -> None:
    dialect = get_dialect("seg-zero")

    assert dialect.read(dialect.render(answer), strict=True) == dialect.read(dialect.render(answer)) == answer


@pytest.mark.parametrize("name", ["vision-reasoner", "visurf"])
@given(answer=answers(points_each=1, negatives=0))
def test_vision_reasoner(name: str, answer: Answer) -> None:
    dialect = get_dialect(name)

    assert dialect.read(dialect.render(answer), strict=True) == dialect.read(dialect.render(answer)) == answer


@st.composite
def separate(draw: st.DrawFn) -> Answer:
    """Boxes side by side, each with its own points inside: what Seg-R1's one list of points can tell apart."""
    instances = []
    for left in range(0, draw(st.integers(0, 4)) * 200, 200):
        inside = st.lists(st.builds(GridPoint, st.floats(left, left + 100), st.floats(0, 1000)), max_size=4).map(tuple)
        instances.append(Instance(GridBox(left, 0, left + 100, 1000), draw(inside), draw(inside)))
    return Answer(tuple(instances), draw(st.one_of(st.none(), st.just("it stands out"))))


@given(answer=separate())
def test_seg_r1(answer: Answer) -> None:
    dialect = get_dialect("seg-r1")

    assert dialect.read(dialect.render(answer), strict=True) == dialect.read(dialect.render(answer)) == answer


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_a_known_object_in_a_frame_of_unequal_sides(name: str) -> None:
    """Grid (250, 500)–(500, 750) on 840 × 420 is pixels (210, 210)–(420, 315)."""
    dialect, frame = get_dialect(name), Size(840, 420)
    answer = Answer((Instance(GridBox(250, 500, 500, 750), (GridPoint(300, 600), GridPoint(400, 700))),), "there")
    text = dialect.render(answer, frame=frame)

    assert "[210, 210, 420, 315]" in text
    assert "[252, 252]" in text
    found = dialect.read(text, frame=frame, strict=True)
    assert found.instances[0].box == pytest.approx(answer.instances[0].box)


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_nothing_there(name: str) -> None:
    dialect = get_dialect(name)
    written = "[]" if name == "visurf" else '{"no_target": true}'

    for think in (None, "no cat anywhere"):
        text = dialect.render(Answer((), think))
        assert written in text
        assert dialect.read(text, strict=True) == dialect.read(text) == Answer((), think)
    assert dialect.read(dialect.render(Answer()), strict=True).no_target


def test_the_form_letter_by_letter() -> None:
    dialect = get_dialect("genseg")
    negatives = Instance(GridBox(1, 2, 3.5, 4), INSTANCE.points, (GridPoint(1, 2), GridPoint(2, 3)))

    assert dialect.render(Answer((INSTANCE,), "red")) == (
        '<think>red</think><answer>[{"bbox_2d": [10, 20, 30, 40], "point_1": [15, 25], "point_2": [25, 35]}]</answer>'
    )
    assert dialect.render(Answer((negatives,))) == (
        '<think></think><answer>[{"bbox_2d": [1, 2, 3.5, 4], "point_1": [15, 25], "point_2": [25, 35], '
        '"negative_points": [[1, 2], [2, 3]]}]</answer>'
    )
    assert dialect.render(Answer()) == '<think></think><answer>{"no_target": true}</answer>'


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_a_think_text_cannot_hold_the_forms_own_tags(name: str) -> None:
    with pytest.raises(ValueError, match="tags of the form"):
        get_dialect(name).render(Answer((), "so </think> what"))


def test_a_dialect_for_one_object_gets_no_two() -> None:
    with pytest.raises(ValueError, match="answers with one object, 2 given"):
        get_dialect("seg-zero").render(Answer((INSTANCE, INSTANCE)))


@given(boxes().filter(lambda box: max(box) > UNMISTAKABLE))
def test_points_a_dialect_has_no_key_for_are_left_out(box: GridBox) -> None:
    text = get_dialect("vision-reasoner").render(Answer((Instance(box, INSTANCE.points, INSTANCE.points),)))

    assert get_dialect("vision-reasoner").read(text).instances == (Instance(box, INSTANCE.points[:1]),)
