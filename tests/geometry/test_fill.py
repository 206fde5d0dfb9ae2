"""Filled polygons: the pixels of OpenCV 4.8 and 4.10, held by digests that those two gave.

The digests were made by `cv2.fillPoly` itself, run under 4.8.0 and 4.10.0 on the polygons of `polygons()`; a few thousand
more, and all polygons of real ReasonSeg and COCO annotations at hand, were equal as well.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import pytest

from gensegcli.geometry.fill import fill_polygon
from gensegcli.records import Size

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ("inside", "around", "far outside", "on a line", "repeated corners", "in sixteenths")
DIGESTS = {
    "inside": "cf724286a5931aeb47468b945f799d247899ef3ef0a06a0194ab0a11e36f0cd5",
    "around": "153d45706dd911d23041465d56ec8a87d77a3269c1ccd95e1c6433d66fb4c139",
    "far outside": "12ea9f64499687c20fbf049c0d960592f768f84044f6a71a3ca02fda941e9e57",
    "on a line": "b857c7e7928c21124f74a67220fcd2b7928a14771283761c6d12d48d55f427e6",
    "repeated corners": "4f08441206482c1b31308137ec03ba8c887522dbed7ebbf4777f7f9da427d5e2",
    "in sixteenths": "26f8216268137d301d82501869388448aeee91f5f3f29603d490e3fddb78f1e9",
}


class Drawn(NamedTuple):
    corners: np.ndarray
    size: Size
    fraction_bits: int


def numbers(seed: int) -> Iterator[int]:
    """Whole numbers of 31 bits that follow from the seed alone, whatever the version of any library."""
    state = seed
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield state >> 33


def polygons(kind: str, count: int = 100) -> Iterator[Drawn]:
    """Random polygons, most of them crossing themselves."""
    source = numbers(KINDS.index(kind) + 1)

    def between(low: int, high: int) -> int:
        return low + next(source) % (high - low + 1)

    for _ in range(count):
        size, corners = Size(between(1, 90), between(1, 90)), between(1, 24)
        bits = 4 if kind == "in sixteenths" else 0
        reach = {"around": 1, "far outside": 6, "in sixteenths": 1}.get(kind, 0)
        points = [
            [between(-reach * side << bits, ((reach + 1) * side - 1) << bits) for side in size] for _ in range(corners)
        ]
        if kind == "on a line":
            points = [[x, x // 2] for x, _ in points] if corners % 2 else [[x, points[0][1]] for x, _ in points]
        if kind == "repeated corners":
            points = [point for point in points for _ in range(between(1, 2))] + points[:1]
        yield Drawn(np.array(points), size, bits)


@pytest.mark.parametrize("kind", KINDS)
def test_the_pixels_of_opencv_4_10(kind: str) -> None:
    found = sha256()
    for corners, size, bits in polygons(kind):
        found.update(np.packbits(fill_polygon(corners, size, fraction_bits=bits)).tobytes())
    assert found.hexdigest() == DIGESTS[kind]


def test_a_triangle_by_hand() -> None:
    """OpenCV from 4.11 on begins row 4 one pixel further right."""
    found = fill_polygon(np.array([[-5, -3], [20, 3], [5, 10]]), Size(12, 8))

    assert found[4].tolist() == [True] * 12
    assert [int(row.argmax()) for row in found] == [0, 0, 0, 0, 0, 1, 2, 3]


def test_one_corner_is_one_pixel_and_none_where_it_lies_outside() -> None:
    assert fill_polygon(np.array([[3, 1]]), Size(5, 4)).sum() == 1
    assert fill_polygon(np.array([[9, 1]]), Size(5, 4)).sum() == 0


def test_the_outline_belongs_to_it() -> None:
    corners = np.array([[2, 3], [17, 5], [9, 16]])
    outline = np.zeros((20, 20), np.uint8)
    cv2.polylines(outline, [corners.astype(np.int32)], True, (1,))

    assert fill_polygon(corners, Size(20, 20))[outline.astype(bool)].all()


def test_even_odd_where_it_crosses_itself() -> None:
    """A square walked twice inside another: what lies in both is outside."""
    outer, inner = [[1, 1], [18, 1], [18, 18], [1, 18], [1, 1]], [[6, 6], [13, 6], [13, 13], [6, 13], [6, 6]]

    found = fill_polygon(np.array(outer + inner), Size(20, 20))

    assert found[3, 3]
    assert not found[9, 10]
