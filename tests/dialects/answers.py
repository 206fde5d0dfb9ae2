"""Answers drawn by hypothesis, and a few fixed texts that several test files read."""

from __future__ import annotations

from hypothesis import assume
from hypothesis import strategies as st

from gensegcli.records import Answer, GridBox, GridPoint, Instance

TWO_POINTS = '{"bbox_2d": [10, 20, 30, 40], "point_1": [15, 25], "point_2": [25, 35]}'
INSTANCE = Instance(GridBox(10, 20, 30, 40), (GridPoint(15, 25), GridPoint(25, 35)))

UNMISTAKABLE = 80
"""A coordinate on the grid that is more than 2 pixels in a frame of 28."""

TAGS = ("<think>", "</think>", "<answer>", "</answer>", "<bbox>", "<points>", "<labels>")


def completion(body: str, think: str = "reasons") -> str:
    return f"<think>{think}</think><answer>{body}</answer>"


# Whole numbers are what models write; the others are where a conversion could lose a digit.
coordinates = st.one_of(st.integers(0, 1000).map(float), st.floats(0, 1000))


points = st.builds(GridPoint, coordinates, coordinates)


@st.composite
def boxes(draw: st.DrawFn, gap: float = 0.0) -> GridBox:
    """Boxes with sides longer than `gap`."""
    x1, y1, x2, y2 = (draw(coordinates) for _ in range(4))
    assume(abs(x1 - x2) > gap)
    assume(abs(y1 - y2) > gap)
    return GridBox(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))


thoughts = st.one_of(
    st.none(), st.text(min_size=1, max_size=20).filter(lambda text: not any(tag in text for tag in TAGS))
)


@st.composite
def answers(draw: st.DrawFn, *, most: int = 3, points_each: int = 2, negatives: int = 2, gap: float = 0.0) -> Answer:
    """What a dialect can write: each instance has all its points; white space does not lead or trail a think text."""
    instance = st.builds(
        Instance,
        boxes(gap),
        st.tuples(*[points] * points_each),
        st.lists(points, max_size=negatives).map(tuple),
    )
    instances = draw(st.lists(instance, max_size=most))
    # Boxes that all lie within one unit of the corner are, to a tolerant reader, fractions of the picture.
    assume(not instances or max(max(one.box) for one in instances) > UNMISTAKABLE)
    return Answer(tuple(instances), draw(thoughts))
