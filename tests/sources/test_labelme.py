"""labelme's shapes: pixels of each type, against labelme's own rules and counts by hand; what is no area is refused."""

from __future__ import annotations

import base64
import io
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gensegcli.errors import GensegError
from gensegcli.records import Size
from gensegcli.sources.labelme import Shape, read_shape, shape_pixels

SIZE = Size(64, 48)


def png(pixels: np.ndarray, **options: Any) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", **options)
    return base64.b64encode(stream.getvalue()).decode()


@pytest.mark.parametrize("points", [[[5, 5], [35, 35]], [[35, 35], [5, 5]], [[5, 35], [35, 5]], [[35, 5], [5, 35]]])
def test_a_rectangle_by_two_corners_in_any_order(points: list[list[float]]) -> None:
    found = shape_pixels(read_shape({"points": points, "shape_type": "rectangle"}), SIZE)

    assert found.sum() == 31 * 31
    assert found[5:36, 5:36].all()


def test_a_rectangle_by_four_corners_is_a_polygon() -> None:
    points = [[20, 5], [35, 20], [20, 35], [5, 20]]

    found = shape_pixels(read_shape({"points": points, "shape_type": "rectangle"}), SIZE)

    np.testing.assert_array_equal(found, shape_pixels(Shape("polygon", points), SIZE))
    assert not found[6, 6]


def test_a_circle_is_labelmes_disc() -> None:
    """A radius of 10 is 21 pixels across; the disc of radius 10.5 around the centre holds 349 of them."""
    found = shape_pixels(read_shape({"points": [[30, 24], [40, 24]], "shape_type": "circle"}), SIZE)

    ys, xs = np.mgrid[:48, :64]
    np.testing.assert_array_equal(found, (xs - 30) ** 2 + (ys - 24) ** 2 <= 10.5**2)
    assert found.sum() == 349


def test_every_pillow_draws_the_same_discs() -> None:
    """The digest was also found under Pillow 11.0, 12.0 and 13.0."""
    found = sha256()
    for number in range(200):
        x, y, radius = 7 + number * 13 % 50 + 0.37, 5 + number * 7 % 40 + 0.81, number % 37 + number % 10 / 10
        found.update(np.packbits(shape_pixels(Shape("circle", [[x, y], [x + radius, y]]), SIZE)))
    assert found.hexdigest() == "a945eb4171a58fd5b04e7f479455684586356856bc0e7689544134c16f4f8b71"


@pytest.mark.parametrize("kind", [None, "", "polygon", "missing"])
def test_without_a_type_it_is_a_polygon(kind: str | None) -> None:
    value: dict[str, Any] = {"points": [[2, 2], [20, 2], [20, 15]], "shape_type": kind}
    if kind == "missing":
        del value["shape_type"]

    assert read_shape(value).kind == "polygon"


@pytest.mark.parametrize("values", ["bool", "0 and 1", "0 and 255", "palette"])
def test_a_mask_lies_where_its_points_say(values: str) -> None:
    crop = np.zeros((3, 4), np.uint8)
    crop[0, 0] = crop[2, 3] = 1
    text = {
        "bool": lambda: png(crop.astype(bool)),
        "0 and 1": lambda: png(crop),
        "0 and 255": lambda: png(crop * np.uint8(255)),
        "palette": lambda: _palette(crop),
    }[values]()

    found = shape_pixels(read_shape({"points": [[10, 20], [13, 22]], "shape_type": "mask", "mask": text}), SIZE)

    assert np.argwhere(found).tolist() == [[20, 10], [22, 13]]


def _palette(pixels: np.ndarray) -> str:
    image = Image.new("P", (pixels.shape[1], pixels.shape[0]))
    image.putdata(pixels.reshape(-1).tolist())
    image.putpalette([0, 0, 0, 128, 0, 0])
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def test_of_a_mask_that_leaves_the_picture_the_rest_counts() -> None:
    text = png(np.ones((6, 8), np.uint8))

    corner = shape_pixels(Shape("mask", [[60, 46], [67, 51]], text), SIZE)
    other = shape_pixels(Shape("mask", [[-3, -2], [4, 3]], text), SIZE)
    outside = shape_pixels(Shape("mask", [[-30, 2], [-23, 7]], text), SIZE)

    assert (corner.sum(), other.sum(), outside.sum()) == (4 * 2, 5 * 4, 0)
    assert other[:4, :5].all()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"points": [[1, 1], [9, 9]], "shape_type": "line"}, "shape_type 'line' encloses no pixels"),
        ({"points": [[1, 1], [9, 9]], "shape_type": "linestrip"}, "shape_type 'linestrip'"),
        ({"points": [[1, 1]], "shape_type": "point"}, "shape_type 'point'"),
        ({"points": [[1, 1]], "shape_type": "points"}, "shape_type 'points'"),
        ({"points": [[1, 1]], "shape_type": 7}, "shape_type 7"),
        ({"points": [[1, 1]], "shape_type": ["circle"]}, "shape_type"),
        ({"points": [[1, 1]], "shape_type": "rectangle"}, "a rectangle has 2 or 4 points, 1 found"),
        ({"points": [[1, 1], [2, 2], [3, 3]], "shape_type": "circle"}, "a circle has 2 points, 3 found"),
        ({"points": [], "shape_type": "polygon"}, "a polygon has at least one point, 0 found"),
        ({"points": [[1, 1], [2, "3"]]}, "points of a polygon are pairs of numbers"),
        ({"points": [[1, 1], [2, float("nan")]]}, "points of a polygon are pairs of numbers"),
        ({"points": [[1, 1], [2, 10**7]]}, "in or near the picture"),
        ({"points": [1, 1, 2, 2, 3, 3]}, "pairs of numbers"),
        ({"points": [[1, 1], [2, 2]], "shape_type": "mask"}, "a PNG in base64 under `mask`, null found"),
        ("polygon", "a shape is an object, a text found"),
    ],
)
def test_what_is_no_area_is_named(value: Any, message: str) -> None:
    with pytest.raises(GensegError, match=message):
        read_shape(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (png(np.ones((3, 4), np.uint8)), "a mask of 4x3 pixels, its points span 3x3"),
        (png(np.ones((3, 3, 3), np.uint8)), "one channel, 3 found"),
        ("%%%", "cannot be read"),
        (base64.b64encode(b"no picture").decode(), "cannot be read"),
        (png(np.ones((30, 30), np.uint8))[:60], "cannot be read"),
    ],
)
def test_a_damaged_cut_out_is_named(text: str, message: str) -> None:
    with pytest.raises(GensegError, match=message):
        shape_pixels(Shape("mask", [[1, 1], [3, 3]], text), SIZE)
