"""The filled box: which pixels count, at edges, below a pixel, and outside."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gensegcli.records import PixelBox
from gensegcli.segmenter.boxfill import BoxFill, fill
from tests.segmenter.tiny import prompt

SIZE = 10
INSIDE = st.floats(0, SIZE, allow_nan=False)
ANYWHERE = st.floats(-3 * SIZE, 3 * SIZE, allow_nan=False)


@pytest.mark.parametrize(
    ("box", "columns"),
    [
        ((2, 0, 5, 10), [2, 3, 4]),  # half-open
        ((2.5, 0, 4.5, 10), [2, 3]),  # a centre on the left edge is in, on the right edge out
        ((2.6, 0, 2.9, 10), [2]),  # thinner than a pixel
        ((2.6, 0, 3.4, 10), [3]),  # covers no centre: the pixel in its middle
        ((-5, 0, 2, 10), [0, 1]),
        ((8, 0, 99, 10), [8, 9]),
        ((12, 0, 15, 10), []),
        ((-9, 0, -1, 10), []),
        ((3, 0, 3, 10), []),  # no width at all
        ((9.9, 0, 10, 10), [9]),
    ],
)
def test_columns(box: tuple[float, ...], columns: list[int]) -> None:
    mask = fill(PixelBox(*box), height=10, width=10)
    assert np.flatnonzero(mask.any(axis=0)).tolist() == columns
    assert mask.sum() == 10 * len(columns)


@given(x=st.tuples(ANYWHERE, ANYWHERE), y=st.tuples(ANYWHERE, ANYWHERE))
def test_pixels_whose_centre_is_in_the_box_are_in_the_mask(x: tuple[float, float], y: tuple[float, float]) -> None:
    box = PixelBox(min(x), min(y), max(x), max(y))
    mask = fill(box, SIZE, SIZE)
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    centre_in = (columns >= box.x1) & (columns < box.x2) & (rows >= box.y1) & (rows < box.y2)
    assert mask[centre_in].all()
    if centre_in.any():
        np.testing.assert_array_equal(mask, centre_in)


@given(x=st.tuples(INSIDE, INSIDE), y=st.tuples(INSIDE, INSIDE))
def test_a_box_inside_is_never_empty(x: tuple[float, float], y: tuple[float, float]) -> None:
    box = PixelBox(min(x), min(y), max(x), max(y))
    assert fill(box, SIZE, SIZE).any() == (box.x1 < box.x2 and box.y1 < box.y2)


def test_segment_keeps_sizes_and_order() -> None:
    images = [np.zeros((4, 6, 3), np.uint8), np.zeros((1, 1, 3), np.uint8), np.zeros((50, 20000, 3), np.uint8)]
    found = BoxFill().segment(images, [[prompt((0, 0, 3, 2)), prompt((5, 3, 6, 4))], [prompt((0, 0, 1, 1))], []])
    assert [[mask.mask.shape for mask in own] for own in found] == [[(4, 6), (4, 6)], [(1, 1)], []]
    assert [mask.mask.sum() for mask in found[0]] == [6, 1]
    assert {mask.score for own in found for mask in own} == {None}


def test_pictures_and_prompts_must_pair() -> None:
    with pytest.raises(ValueError, match="zip"):
        BoxFill().segment([np.zeros((4, 6, 3), np.uint8)], [])
