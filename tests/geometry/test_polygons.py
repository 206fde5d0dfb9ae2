"""Outlines: exact there and back for any mask, read by two rasterisers that share nothing with the tracer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from pycocotools import mask as coco_mask

from gensegcli.geometry import rle
from gensegcli.geometry.polygons import joined, polygons
from gensegcli.records import Size
from tests.rasterise import rasterise

if TYPE_CHECKING:
    from pathlib import Path

masks = st_numpy.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def all_rings(mask: np.ndarray) -> list[np.ndarray]:
    return [ring for part in polygons(mask) for ring in (part.outer, *part.holes)]


def signed_area(ring: np.ndarray) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


@settings(max_examples=100)
@given(masks)
def test_any_mask_comes_back_exactly(mask: np.ndarray) -> None:
    height, width = mask.shape
    np.testing.assert_array_equal(rasterise(all_rings(mask), height, width), mask)


@settings(max_examples=100)
@given(masks)
def test_one_joined_outline_says_the_same(mask: np.ndarray) -> None:
    """Bridges are walked there and back: by the even-odd rule they enclose nothing."""
    parts = polygons(mask)
    if parts:
        height, width = mask.shape
        np.testing.assert_array_equal(rasterise([joined(parts)], height, width), mask)


@settings(max_examples=80)
@given(masks)
def test_rings_follow_rfc_7946(mask: np.ndarray) -> None:
    """Outer rings positive, holes negative; one outer ring per 4-connected part; areas add up to the pixels."""
    parts = polygons(mask)
    assert all(signed_area(part.outer) > 0 for part in parts)
    assert all(signed_area(hole) < 0 for part in parts for hole in part.holes)
    assert len(parts) == cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] - 1
    assert sum(signed_area(ring) for ring in all_rings(mask)) == mask.sum()
    for part in parts:
        assert len({*map(tuple, part.outer.tolist())}) >= 4
        # A hole belongs to the polygon around it.
        assert all((part.outer.min(axis=0) <= hole.min(axis=0)).all() for hole in part.holes)


def test_a_ring_by_hand() -> None:
    mask = np.ones((3, 3), dtype=bool)
    mask[1, 1] = False
    (part,) = polygons(mask)
    assert part.outer.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
    assert len(part.holes) == 1
    assert sorted(part.holes[0].tolist()) == [[1, 1], [1, 2], [2, 1], [2, 2]]


def test_parts_that_touch_at_a_corner_are_two_polygons() -> None:
    first, second = polygons(np.eye(2, dtype=bool))
    assert sorted(first.outer.tolist()) == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert sorted(second.outer.tolist()) == [[1, 1], [1, 2], [2, 1], [2, 2]]


def test_nothing_and_everything() -> None:
    assert polygons(np.zeros((4, 5), dtype=bool)) == []
    (part,) = polygons(np.ones((4, 5), dtype=bool))
    assert part.outer.tolist() == [[0, 0], [5, 0], [5, 4], [0, 4]]


def real_masks(shared_data: Path) -> list[np.ndarray]:
    data: Any = json.loads((shared_data / "mini" / "grefcoco" / "instances.json").read_text())
    sizes = {image["id"]: Size(image["width"], image["height"]) for image in data["images"]}
    return [rle.decode(rle.from_coco(one["segmentation"], sizes[one["image_id"]])) for one in data["annotations"]]


def test_real_masks_are_read_back_by_pycocotools(shared_data: Path) -> None:
    """Its rasteriser of polygons takes outlines on pixel corners for what they are: IoU 1 for all real masks.

    It knows no holes, so those are subtracted here.
    """
    masks = real_masks(shared_data)
    assert len(masks) == 57
    for mask in masks:
        height, width = mask.shape
        back = np.zeros(mask.shape, dtype=bool)
        parts = polygons(mask)
        for rings, value in (([p.outer for p in parts], True), ([h for p in parts for h in p.holes], False)):
            for ring in rings:
                one = coco_mask.frPyObjects([ring.reshape(-1).astype(float).tolist()], height, width)
                back[coco_mask.decode(one)[..., 0].astype(bool)] = value
        assert (back ^ mask).sum() <= 0.002 * mask.sum()


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_noise_stays_quick(density: float) -> None:
    """Noise is the worst there is: tens of thousands of corners, none lost."""
    mask = np.random.default_rng(0).random((150, 200)) < density
    assert sum(signed_area(ring) for ring in all_rings(mask)) == mask.sum()
