"""Overlap, union, resizing and boundary of masks, beside other people's implementations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pycocotools import mask as coco
from scipy import ndimage

from gensegcli.geometry.masks import boundary, cut, mask_iou, resize_mask, resize_patch, union
from gensegcli.records import Size

shapes = array_shapes(min_dims=2, max_dims=2, max_side=12)
masks = arrays(bool, shapes)
pairs = shapes.flatmap(lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape)))


@given(pairs)
def test_iou_is_that_of_pycocotools_and_symmetric(pair: tuple[np.ndarray, np.ndarray]) -> None:
    pred, truth = pair
    codes = [coco.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in pair]

    assert mask_iou(pred, truth) == mask_iou(truth, pred)
    if pred.any() or truth.any():  # where both are empty, pycocotools says 0 and our convention 1
        assert mask_iou(pred, truth) == pytest.approx(coco.iou(codes[:1], codes[1:], [0])[0, 0], abs=1e-12)


def test_iou_of_empty_masks() -> None:
    empty, full = np.zeros((3, 4), bool), np.ones((3, 4), bool)

    assert mask_iou(empty, empty) == 1
    assert mask_iou(empty, full) == mask_iou(full, empty) == 0


def test_iou_refuses_masks_of_two_pictures() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3, 2\)"):
        mask_iou(np.zeros((2, 3), bool), np.zeros((3, 2), bool))


@given(pairs)
def test_union_holds_the_pixels_of_either(pair: tuple[np.ndarray, np.ndarray]) -> None:
    height, width = pair[0].shape
    before = pair[0].copy()

    np.testing.assert_array_equal(union(pair, Size(width, height)), np.logical_or(*pair))
    np.testing.assert_array_equal(pair[0], before, err_msg="the arguments stay as they were")


def test_union_of_nothing_and_of_a_wrong_size() -> None:
    assert union([], Size(5, 2)).tolist() == [[False] * 5] * 2
    with pytest.raises(ValueError, match=r"\(2, 5\) expected, \(5, 2\) found"):
        union([np.zeros((5, 2), bool)], Size(5, 2))


@given(masks, st.integers(1, 30), st.integers(1, 30))
def test_resizing_takes_the_value_under_the_centre(mask: np.ndarray, width: int, height: int) -> None:
    """Worked out in whole numbers: floor((i + 1/2) · old / new)."""
    rows = [(2 * i + 1) * mask.shape[0] // (2 * height) for i in range(height)]
    columns = [(2 * i + 1) * mask.shape[1] // (2 * width) for i in range(width)]

    np.testing.assert_array_equal(resize_mask(mask, Size(width, height)), mask[np.ix_(rows, columns)])


def test_resizing_is_pillows_at_the_sizes_of_training() -> None:
    mask = np.random.default_rng(0).random((427, 640)) < 0.5
    theirs = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize((840, 840), Image.Resampling.NEAREST), bool)

    clear = (2 * np.arange(840) + 1) * 640 % (
        2 * 840
    ) != 0  # elsewhere a centre lies on an edge, and Pillow's float decides
    assert clear.sum() == 800

    np.testing.assert_array_equal(resize_mask(mask, Size(840, 840))[:, clear], theirs[:, clear])


@given(masks, st.integers(1, 3))
def test_boundary_is_what_scipys_erosion_takes_away(mask: np.ndarray, thickness: int) -> None:
    inner = ndimage.binary_erosion(mask, iterations=thickness, border_value=0)

    np.testing.assert_array_equal(boundary(mask, thickness=thickness), mask & ~inner)


@given(masks, st.integers(1, 20), st.integers(1, 20))
def test_a_patch_is_resized_as_its_whole_mask_is(mask: np.ndarray, width: int, height: int) -> None:
    patch, old, new = cut(mask), Size(mask.shape[1], mask.shape[0]), Size(width, height)
    if patch is None:
        assert not mask.any()
        return
    whole = np.zeros(mask.shape, bool)
    patch.paste(whole)
    np.testing.assert_array_equal(whole, mask)
    assert patch.pixels.any(axis=0)[[0, -1]].all(), "nothing around the mask"
    assert patch.pixels.any(axis=1)[[0, -1]].all()

    resized, expected = resize_patch(patch, old, new), resize_mask(mask, new)

    found = np.zeros((height, width), bool)
    if resized is not None:
        resized.paste(found)
    np.testing.assert_array_equal(found, expected)
    assert (resized is None) == (not expected.any())
