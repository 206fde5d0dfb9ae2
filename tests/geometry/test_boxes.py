"""Conversions between grid and pixels, overlap in two conventions, and the resizing of Qwen's processors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from gensegcli.errors import GensegError
from gensegcli.geometry.boxes import MAX_ASPECT, box_iou, clamp, grid_to_pixel, mask_box, pixel_to_grid, smart_resize
from gensegcli.records import GridBox, GridPoint, PixelBox, PixelPoint, Size

sides = st.one_of(st.integers(1, 4), st.integers(1, 20_000), st.sampled_from([1, 840, 1000, 20_000]))
sizes = st.builds(Size, sides, sides)
on_grid = st.floats(0, 1000)
pixel = st.floats(-50, 20_050)


@given(on_grid, on_grid, on_grid, on_grid, sizes)
def test_grid_and_pixels_are_inverse_on_any_aspect_ratio(
    x1: float, y1: float, x2: float, y2: float, size: Size
) -> None:
    box = GridBox(x1, y1, x2, y2)
    there = grid_to_pixel(box, size)
    back = pixel_to_grid(there, size)

    assert isinstance(there, PixelBox)
    assert isinstance(back, GridBox)
    assert there == pytest.approx(
        (x1 * size.width / 1000, y1 * size.height / 1000, x2 * size.width / 1000, y2 * size.height / 1000)
    )
    assert back == pytest.approx(box, rel=1e-12, abs=1e-12)
    assert grid_to_pixel(GridPoint(x1, y1), size) == PixelPoint(there.x1, there.y1)


def test_whole_pixels_come_back_from_the_grid_as_they_were() -> None:
    """On widths such as 427, 480, 333 and 612 floats alone make 427.00000000000006 of 427."""
    for length in (427, 480, 333, 612, 640, 500, 1, 7, 4032, 19_999):
        size = Size(length, length)
        for value in range(0, length + 1, max(length // 700, 1)):
            assert grid_to_pixel(pixel_to_grid(PixelPoint(value, value), size), size) == (value, value)


@given(pixel, pixel, pixel, pixel, sizes)
def test_everything_ends_inside_the_picture(x1: float, y1: float, x2: float, y2: float, size: Size) -> None:
    inside = clamp(PixelBox(x1, y1, x2, y2), size)

    assert 0 <= inside.x1 <= size.width
    assert 0 <= inside.y2 <= size.height
    assert clamp(inside, size) == inside
    grid = pixel_to_grid(PixelBox(x1, y1, x2, y2), size)
    assert all(0 <= value <= 1000 for value in grid)
    assert pixel_to_grid(PixelPoint(x2, y2), size) == GridPoint(grid.x2, grid.y2)


def test_grid_corners_are_picture_corners_and_nothing_is_rounded() -> None:
    assert grid_to_pixel(GridBox(0, 0, 1000, 1000), Size(20_000, 50)) == PixelBox(0, 0, 20_000, 50)
    assert grid_to_pixel(GridPoint(333, 333), Size(640, 427)) == pytest.approx((213.12, 142.191))


def test_numbers_beyond_the_grid_are_clamped() -> None:
    assert grid_to_pixel(GridBox(-20, 0, 1400, 500), Size(100, 10)) == PixelBox(0, 0, 100, 5)


# ---------------------------------------------------------------- overlap

whole = st.integers(0, 30)


def integer_box(x: int, y: int, width: int, height: int) -> PixelBox:
    return PixelBox(x, y, x + width, y + height)


boxes = st.builds(integer_box, whole, whole, st.integers(1, 30), st.integers(1, 30))


@given(boxes, boxes)
def test_half_open_iou_is_that_of_pycocotools_and_of_counted_pixels(a: PixelBox, b: PixelBox) -> None:
    found = box_iou(a, b)
    xywh = [np.array([[box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1]], np.float64) for box in (a, b)]
    canvas = np.zeros((2, 64, 64), bool)
    for layer, box in zip(canvas, (a, b), strict=True):
        layer[int(box.y1) : int(box.y2), int(box.x1) : int(box.x2)] = True

    assert found == pytest.approx((canvas[0] & canvas[1]).sum() / (canvas[0] | canvas[1]).sum(), abs=1e-12)
    assert found == pytest.approx(coco.iou(xywh[0], xywh[1], [0])[0, 0], abs=1e-12)
    assert found == box_iou(b, a)


@given(boxes, boxes)
def test_inclusive_iou_is_half_open_iou_of_boxes_one_pixel_longer(a: PixelBox, b: PixelBox) -> None:
    longer = [PixelBox(box.x1, box.y1, box.x2 + 1, box.y2 + 1) for box in (a, b)]

    assert box_iou(a, b, inclusive=True) == pytest.approx(box_iou(*longer), abs=1e-12)


def test_the_two_conventions_differ_by_a_known_amount() -> None:
    """Two boxes that share an edge: 0 half-open; inclusively 11 of 231 pixels."""
    a, b = PixelBox(0, 0, 10, 10), PixelBox(10, 0, 20, 10)

    assert box_iou(a, b) == 0
    assert box_iou(a, b, inclusive=True) == pytest.approx(11 / 231)
    assert box_iou(PixelBox(3, 3, 3, 3), PixelBox(3, 3, 3, 3)) == 0
    assert box_iou(PixelBox(9, 9, 1, 1), PixelBox(0, 0, 10, 10)) == 0, "a box turned inside out has no area"


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_mask_box_is_that_of_pycocotools(mask: np.ndarray) -> None:
    box = mask_box(mask)
    if not mask.any():
        assert box is None
        return
    x, y, width, height = coco.toBbox(coco.encode(np.asfortranarray(mask.astype(np.uint8))))

    assert box == PixelBox(x, y, x + width, y + height)


# ---------------------------------------------------------------- processors


@pytest.fixture(scope="module")
def qwen():
    return pytest.importorskip("transformers.models.qwen2_vl.image_processing_qwen2_vl", reason="needs transformers")


@pytest.mark.slow
def test_smart_resize_is_that_of_transformers(qwen) -> None:
    """20,000 sizes, both patch grids, three pixel budgets; aspect ratios up to 200 and picture sides from 1."""
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(20_000):
        width, height = (int(side) for side in np.exp(rng.uniform(0, np.log(20_000), 2)))
        factor = int(rng.choice([14, 28, 32]))
        low, high = [(56 * 56, 28 * 28 * 1280), (65_536, 16_777_216), (4 * factor**2, 840 * 840)][rng.integers(3)]
        limits = {"factor": factor, "min_pixels": low, "max_pixels": high}
        try:
            expected = qwen.smart_resize(height, width, **limits)
        except ValueError:
            refused += 1
            with pytest.raises(GensegError, match="more than 200 times"):
                smart_resize(Size(width, height), **limits)
            continue
        assert smart_resize(Size(width, height), **limits) == (expected[1], expected[0]), (width, height, limits)
    assert 1000 < refused < 10_000, "both branches were visited"


@pytest.mark.slow
@pytest.mark.parametrize("patch", [14, 16])
@pytest.mark.parametrize("size", [Size(840, 840), Size(640, 425), Size(33, 1000), Size(3, 5)])
def test_processors_use_that_size(qwen, size: Size, patch: int) -> None:
    """The patch grid that the processor itself makes of a picture (Qwen2.5-VL: 14-px patches, Qwen3-VL: 16)."""
    limits = {"min_pixels": 56 * 56, "max_pixels": 28 * 28 * 1280}
    processor = qwen.Qwen2VLImageProcessor(patch_size=patch, merge_size=2, **limits)
    found = processor(np.zeros((size.height, size.width, 3), np.uint8), return_tensors="np")
    _, rows, columns = (int(side) for side in found["image_grid_thw"][0])

    assert smart_resize(size, factor=2 * patch, **limits) == (columns * patch, rows * patch)


def test_840_pixels_fit_one_patch_grid_and_not_the_other() -> None:
    limits = {"min_pixels": 56 * 56, "max_pixels": 28 * 28 * 1280}

    assert smart_resize(Size(840, 840), factor=28, **limits) == (840, 840)
    assert smart_resize(Size(840, 840), factor=32, **limits) == (832, 832)


@given(sizes, st.sampled_from([28, 32]))
def test_smart_resize_keeps_its_promises(size: Size, factor: int) -> None:
    assume(max(size) <= MAX_ASPECT * min(size))
    width, height = smart_resize(size, factor=factor, min_pixels=56 * 56, max_pixels=28 * 28 * 1280)

    assert width % factor == height % factor == 0
    assert min(width, height) >= factor


@pytest.mark.parametrize("size", [Size(0, 10), Size(10, 0), Size(20_000, 50), Size(50, 20_000)])
def test_pictures_that_no_processor_takes(size: Size) -> None:
    with pytest.raises(GensegError, match=f"{size.width}x{size.height}"):
        smart_resize(size, factor=28, min_pixels=56 * 56, max_pixels=28 * 28 * 1280)
