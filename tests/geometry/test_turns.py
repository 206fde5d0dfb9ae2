"""EXIF's turns of masks, boxes and points, against what Pillow does to a picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from gensegcli.geometry.boxes import grid_to_pixel, mask_box, pixel_to_grid
from gensegcli.geometry.masks import cut
from gensegcli.geometry.turns import TURNS, UPRIGHT
from gensegcli.records import GridPoint, PixelBox, Size

STORED = Size(7, 5)


def upright(mask: np.ndarray, orientation: int) -> np.ndarray:
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image)) > 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_turn_as_pictures_do(orientation: int) -> None:
    turn = TURNS.get(orientation, UPRIGHT)
    random = np.random.default_rng(orientation)
    for _ in range(20):
        mask = random.random((STORED.height, STORED.width)) < 0.15
        patch = cut(mask)
        if patch is None:
            continue
        found = np.zeros(tuple(reversed(turn.size(STORED))), bool)
        turned = turn.patch(patch, STORED)
        turned.paste(found)

        np.testing.assert_array_equal(found, upright(mask, orientation))
        assert turned.pixels.flags.c_contiguous
        again = cut(found)
        assert again is not None
        assert turned[1:] == again[1:]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_as_the_masks_in_them(orientation: int) -> None:
    turn = TURNS.get(orientation, UPRIGHT)
    mask = np.zeros((STORED.height, STORED.width), bool)
    mask[1:3, 2:6] = True

    box = turn.box(pixel_to_grid(PixelBox(2, 1, 6, 3), STORED))

    found = mask_box(upright(mask, orientation))
    assert found is not None
    assert grid_to_pixel(box, turn.size(STORED)) == pytest.approx(found)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_points_turn_as_the_pixel_under_them(orientation: int) -> None:
    turn = TURNS.get(orientation, UPRIGHT)
    mask = np.zeros((STORED.height, STORED.width), bool)
    mask[3, 1] = True

    point = turn.point(GridPoint(1500 / STORED.width, 3500 / STORED.height))

    ((row, column),) = np.argwhere(upright(mask, orientation))
    assert grid_to_pixel(point, turn.size(STORED)) == pytest.approx((column + 0.5, row + 0.5))
