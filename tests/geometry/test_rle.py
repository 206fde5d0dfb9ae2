"""Run-length codes beside pycocotools' own decoder, real annotations, and damage that pycocotools would swallow."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from gensegcli.errors import GensegError
from gensegcli.geometry import rle
from gensegcli.geometry.boxes import mask_box
from gensegcli.geometry.masks import cut
from gensegcli.records import Rle, Size

if TYPE_CHECKING:
    from pathlib import Path

shapes = array_shapes(min_dims=2, max_dims=2, max_side=40)
masks = arrays(bool, shapes)
SIZE = Size(8, 6)


def reference(found: dict[str, Any]) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2.0.11 under NumPy 2
        return coco.decode(found).astype(bool)


def runs_of(mask: np.ndarray) -> list[int]:
    """Uncompressed counts, pixel by pixel: the definition."""
    runs, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            runs.append(0)
            value = not value
        runs[-1] += 1
    return runs


@given(masks)
def test_every_form_of_a_mask_is_the_same_mask(mask: np.ndarray) -> None:
    size = Size(mask.shape[1], mask.shape[0])
    code = rle.encode(mask)
    written = rle.to_coco(code)

    assert json.loads(json.dumps(written)) == written
    assert code.size == size
    np.testing.assert_array_equal(rle.decode(code), mask)
    np.testing.assert_array_equal(reference(written), mask)
    assert rle.from_coco(written, size) == code
    assert rle.from_coco({"size": list(mask.shape), "counts": code.counts.encode()}, size) == code
    np.testing.assert_array_equal(
        rle.decode(rle.from_coco({"size": list(mask.shape), "counts": runs_of(mask)}, size)), mask
    )
    assert rle.area(code) == mask.sum()
    assert rle.box(code) == mask_box(mask)


@given(masks, st.sampled_from([bool, int, float]))
def test_rows_of_0_and_1_are_the_mask(mask: np.ndarray, kind: type) -> None:
    """As `mask.tolist()` writes them, at odd and even widths."""
    rows = mask.astype(kind).tolist()

    np.testing.assert_array_equal(rle.decode(rle.from_coco(rows, Size(mask.shape[1], mask.shape[0]))), mask)
    assert rle.without_degenerate(rows) == (rows, 0)


def test_polygons_of_the_first_pixels_stay_polygons() -> None:
    corner = [[0, 0, 1, 0, 1, 1, 0, 1]]
    theirs = coco.merge(coco.frPyObjects(corner, SIZE.height, SIZE.width))

    np.testing.assert_array_equal(rle.decode(rle.from_coco(corner, SIZE)), reference(theirs))


@given(masks)
def test_a_patch_has_the_codes_of_its_whole_mask(mask: np.ndarray) -> None:
    code, patch = rle.encode(mask), cut(mask)
    decoded = rle.decode_patch(code)

    if patch is None:
        assert decoded is None
        return
    assert decoded is not None
    assert decoded[1:] == patch[1:]
    np.testing.assert_array_equal(decoded.pixels, patch.pixels)
    assert rle.encode_patch(patch, code.size) == code


@pytest.mark.parametrize("mask", [np.ones((3, 4), bool), np.tri(5, 4, dtype=bool), np.tri(4, 5, 1, dtype=bool)[::-1]])
def test_runs_that_go_on_in_the_next_column(mask: np.ndarray) -> None:
    patch = cut(mask)
    assert patch is not None
    assert rle.encode_patch(patch, Size(mask.shape[1], mask.shape[0])) == rle.encode(mask)


@given(shapes.flatmap(lambda shape: st.lists(arrays(bool, shape), min_size=1, max_size=4)))
def test_merging_is_the_union(parts: list[np.ndarray]) -> None:
    size = Size(parts[0].shape[1], parts[0].shape[0])

    np.testing.assert_array_equal(rle.decode(rle.merge(map(rle.encode, parts), size)), np.any(parts, axis=0))


@given(shapes.flatmap(lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))))
def test_the_intersection_is_what_both_hold(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    np.testing.assert_array_equal(rle.decode(rle.intersection(rle.encode(a), rle.encode(b))), a & b)


def test_an_intersection_of_two_sizes_is_refused() -> None:
    with pytest.raises(ValueError, match="8x6 expected, 6x8 found"):
        rle.intersection(rle.encode(np.zeros((6, 8), bool)), rle.encode(np.zeros((8, 6), bool)))


@pytest.mark.parametrize("counts", [[3, 0, 2, 4, 7], "30245", [0, 0, 9, 3, 4], [5, 4, 7, 0]])
def test_empty_runs_lose_nothing_in_a_merge(counts: Any) -> None:
    """pycocotools ends a merge where the runs of all masks are empty at once."""
    code = rle.from_coco({"size": [4, 4], "counts": counts}, Size(4, 4))
    area = {3: 4, 0: 3, 5: 4}[counts[0] if isinstance(counts, list) else 3]

    assert rle.area(rle.merge([code, code], code.size)) == area
    assert rle.area(rle.intersection(code, code)) == area


def test_merging_nothing_is_an_empty_mask_and_sizes_must_agree() -> None:
    assert not rle.decode(rle.merge([], SIZE)).any()
    with pytest.raises(ValueError, match="8x6 expected, 6x8 found"):
        rle.merge([rle.encode(np.zeros((8, 6), bool))], SIZE)


def test_long_runs_survive() -> None:
    """20,000 × 3,000 pixels in three runs: the compressed numbers take several bytes each."""
    code = rle.from_coco({"size": [3000, 20_000], "counts": [30_000_001, 2, 29_999_997]}, Size(20_000, 3000))

    assert rle.area(code) == 2
    assert rle.decode(code).ravel(order="F").nonzero()[0].tolist() == [30_000_001, 30_000_002]


def test_parts_of_a_polygon_are_united_where_they_overlap() -> None:
    """Two rectangles of 4 × 3 pixels that share 2 × 3: 18 pixels, where adding areas would give 24."""
    left, right = [1, 1, 5, 1, 5, 4, 1, 4], [3, 1, 7, 1, 7, 4, 3, 4]
    expected = np.zeros((6, 8), bool)
    expected[1:4, 1:7] = True

    np.testing.assert_array_equal(rle.decode(rle.from_coco([left, right], SIZE)), expected)
    assert rle.from_coco(left, SIZE) == rle.from_coco([left], SIZE), "one flat list is one polygon"


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "an empty list found"),
        (None, "NoneType found"),
        ("abc", "str found"),
        ([[]], "0 numbers found"),
        ([[1, 2, 3, 4]], "4 numbers found"),
        ([1, 2, 3, 4], "4 numbers found"),
        ([[1, 2, 3, 4, 5, 6, 7]], "7 numbers found"),
        ([[1, 2, 3, 4, 5, "6"]], "flat list of numbers"),
        ([[1, 2, 3, 4, 5, float("nan")]], "far outside"),
        ([[0, 0, 1e9, 0, 1e9, 1e9]], "far outside"),
        ([[0, 0, 4, 0, 4, 4], {"counts": []}], "flat list of numbers, dict found"),
        ({}, r"\[6, 8\] \(height, width\) expected, None found"),
        ({"size": [8, 6], "counts": [48]}, r"\[8, 6\] found"),
        ({"size": [6, 8]}, "NoneType found"),
        ({"size": [6, 8], "counts": 48}, "int found"),
        ({"size": [6, 8], "counts": [40, 9]}, "fill the 8x6 picture"),
        ({"size": [6, 8], "counts": [50, -2]}, "fill the 8x6 picture"),
        ({"size": [6, 8], "counts": [48.0]}, "fill the 8x6 picture"),
        ({"size": [6, 8], "counts": []}, "fill the 8x6 picture"),
        ({"size": [6, 8], "counts": ""}, "damaged"),
        ({"size": [6, 8], "counts": "\x00"}, "damaged"),
        ({"size": [6, 8], "counts": "é"}, "damaged"),
        ({"size": [6, 8], "counts": "\ud800"}, "damaged"),
        ({"size": [6, 8], "counts": "PP"}, "damaged"),
        ({"size": [6, 8], "counts": "P" * 60 + "0"}, "damaged"),
        ({"size": [6, 8], "counts": "b'0120'"}, "text of a Python bytes object"),
        (np.eye(8, 6, dtype=int).tolist(), "8 rows of 6 numbers 0 and 1, expected polygons, run lengths, or 6 rows of"),
        ((np.eye(6, 8, dtype=int) * 255).tolist(), "6 rows of 8 numbers like 0, 255, expected"),
        ((np.eye(6, 8) * 0.5).tolist(), "6 rows of 8 numbers like 0, 0.5, expected"),
        (np.eye(6, 8, dtype=int)[None].tolist(), "lists within lists within lists, expected"),
        (np.eye(6, 8, dtype=int)[..., None].tolist(), "lists within lists within lists, expected"),
        (np.eye(6, 8, dtype=int).ravel().tolist(), "a flat list of 48 numbers 0 and 1"),
        (np.eye(6, 8, dtype=bool).ravel().tolist(), "a flat list of 48 numbers 0 and 1"),
        (np.eye(6, 7, dtype=int).tolist(), "6 rows of 7 numbers 0 and 1"),
        ([*np.eye(5, 8, dtype=int).tolist(), [0, 1]], "6 rows of 2 or 8 numbers 0 and 1"),
        ({"size": [6, 8], "counts": "7777"}, "fill the 8x6 picture"),
        ({"size": [6, 8], "counts": rle.encode(np.eye(9, dtype=bool)).counts}, "fill the 8x6 picture"),
    ],
)
def test_damaged_annotations_are_named(segmentation: object, message: str) -> None:
    with pytest.raises(GensegError, match=message):
        rle.from_coco(segmentation, SIZE)


@given(st.one_of(st.text(max_size=30), st.binary(max_size=30), st.text("0123456789:;<=>?@ABCPQRo", max_size=12)))
def test_no_string_of_counts_reaches_pycocotools_undamaged_unless_it_fills_the_picture(counts: str | bytes) -> None:
    try:
        code = rle.from_coco({"size": [6, 8], "counts": counts}, SIZE)
    except GensegError:
        return
    np.testing.assert_array_equal(rle.decode(code), reference(rle.to_coco(code)))


def test_decoding_checks_the_counts() -> None:
    with pytest.raises(GensegError, match="fill the 8x6 picture"):
        rle.decode(Rle(SIZE, "01"))


def test_real_annotations(shared_data: Path) -> None:
    """57 COCO objects, polygons, run-length lists and crowds: the masks of pycocotools' usual route."""
    instances = json.loads((shared_data / "mini" / "refcocog" / "instances.json").read_text())
    sizes = {image["id"]: Size(image["width"], image["height"]) for image in instances["images"]}
    forms = []
    for annotation in instances["annotations"]:
        size, segmentation = sizes[annotation["image_id"]], annotation["segmentation"]
        code = rle.from_coco(segmentation, size)
        if isinstance(segmentation, list):
            theirs = coco.merge(coco.frPyObjects(segmentation, size.height, size.width))
            forms.append("polygons")
        elif isinstance(segmentation["counts"], list):
            theirs = coco.frPyObjects(segmentation, size.height, size.width)
            forms.append("runs")
        else:
            theirs = segmentation
            forms.append("string")
        np.testing.assert_array_equal(rle.decode(code), reference(theirs), err_msg=str(annotation["id"]))
    assert len(forms) == 57
    assert forms.count("polygons") == 14
