"""Mined points beside definitions worked out pixel by pixel, and on real masks."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from gensegcli.geometry import distances, rle
from gensegcli.geometry.boxes import mask_box
from gensegcli.geometry.keypoints import grid_distance, mine_negative, mine_negatives, mine_positive
from gensegcli.geometry.masks import union
from gensegcli.records import PixelBox, PixelPoint, Size
from gensegcli.sources.scenes import draw_scene

if TYPE_CHECKING:
    from pathlib import Path

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=11), elements=st.booleans())
some_pixels = masks.filter(np.any)


def inside(mask: np.ndarray, point: PixelPoint) -> bool:
    return bool(mask[math.floor(point.y), math.floor(point.x)])


def depth(mask: np.ndarray, row: int, column: int) -> float:
    """Distance between the centres of a pixel and the nearest background pixel, the picture lying in background."""
    padded = np.pad(mask, 1)
    return min(math.dist((row + 1, column + 1), spot) for spot in zip(*np.nonzero(~padded), strict=True))


def to_area(mask: np.ndarray, row: int, column: int) -> float:
    """Distance on the grid from a pixel's centre to the nearest square of a true pixel."""
    height, width = mask.shape
    return min(
        math.hypot(
            max(abs(x - column) - 0.5, 0) * 1000 / width if x != column else 0,
            max(abs(y - row) - 0.5, 0) * 1000 / height if y != row else 0,
        )
        for y, x in zip(*np.nonzero(mask), strict=True)
    )


# ---------------------------------------------------------------- positives


@given(some_pixels)
def test_positives_are_the_deepest_pixel_and_the_deepest_of_the_far_half(mask: np.ndarray) -> None:
    first, second = mine_positive(mask)
    pixels = [(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)]
    depths = {pixel: depth(mask, *pixel) for pixel in pixels}
    a, b = (math.floor(first.y), math.floor(first.x)), (math.floor(second.y), math.floor(second.x))
    away = {pixel: math.dist(pixel, a) for pixel in pixels}
    middle = float(np.median(list(away.values())))
    far = [pixel for pixel in pixels if away[pixel] > middle + 1e-9] or [
        pixel for pixel in pixels if away[pixel] == max(away.values())
    ]

    assert depths[a] == pytest.approx(max(depths.values()), abs=1e-5)
    assert b in far
    assert depths[b] == pytest.approx(max(depths[pixel] for pixel in far), abs=1e-5)
    assert mine_positive(mask, k=1) == (first,)
    assert mine_positive(mask.copy(order="F")) == (first, second)
    if len(pixels) > 1:
        assert a != b


@given(some_pixels, st.integers(0, 5), st.integers(0, 5))
def test_points_move_with_the_object(mask: np.ndarray, down: int, right: int) -> None:
    moved = mine_positive(np.pad(mask, ((down, 2), (right, 3))))

    assert moved == tuple(PixelPoint(x + right, y + down) for x, y in mine_positive(mask))


def test_the_same_mask_gives_the_same_points_wherever_in_memory_the_work_is_done() -> None:
    """OpenCV's exact distances differ in their last bit with the alignment of its result: they must not break ties."""
    rng = np.random.default_rng(0)
    kept = []  # so that each result lies at another place
    for seed in range(60):
        for thing in draw_scene(seed, Size(128, 96)).things:
            found = set()
            for _ in range(10):
                kept.append(np.empty(rng.integers(1, 5000), np.uint8))
                found.add(mine_positive(thing.mask.copy()))
            assert len(found) == 1, (seed, thing)


def test_a_rectangle_at_the_border_of_the_picture() -> None:
    """15 × 5 pixels filling the picture: the border is background, so the middle row's inner part is deepest."""
    first, second = mine_positive(np.ones((5, 15), bool))

    assert first == (2.5, 2.5), "the first of the deepest in reading order"
    assert second == (8.5, 2.5), "median distance from there is sqrt(29): the first deepest pixel beyond it"


def test_one_pixel_gives_its_centre_twice() -> None:
    mask = np.zeros((4, 7), bool)
    mask[3, 6] = True

    assert mine_positive(mask) == ((6.5, 3.5), (6.5, 3.5))


def test_a_plus_has_nothing_beyond_the_median() -> None:
    plus = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)

    assert mine_positive(plus) == ((1.5, 1.5), (1.5, 0.5))


def test_wrong_calls() -> None:
    with pytest.raises(ValueError, match="empty mask"):
        mine_positive(np.zeros((3, 3), bool))
    with pytest.raises(ValueError, match="1 or 2, 3 found"):
        mine_positive(np.ones((3, 3), bool), k=3)


# ---------------------------------------------------------------- negatives


@given(some_pixels)
def test_distance_to_the_area_is_exact(mask: np.ndarray) -> None:
    found = grid_distance(mask)

    expected = [[to_area(mask, y, x) for x in range(mask.shape[1])] for y in range(mask.shape[0])]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@given(masks, st.data(), st.sampled_from([0, 10, 80, 250]))
def test_negatives_are_farthest_points_by_definition(mask: np.ndarray, data: st.DataObject, margin: float) -> None:
    height, width = mask.shape
    x1, x2 = sorted(data.draw(st.lists(st.integers(0, width), min_size=2, max_size=2, unique=True)))
    y1, y2 = sorted(data.draw(st.lists(st.integers(0, height), min_size=2, max_size=2, unique=True)))
    points = mine_negative(mask, PixelBox(x1, y1, x2, y2), margin_grid=margin)
    spots = [(math.floor(point.y), math.floor(point.x)) for point in points]

    def far(row: int, column: int) -> float:
        return to_area(mask, row, column) if mask.any() else math.inf

    free = {(y, x): far(y, x) for y in range(y1, y2) for x in range(x1, x2) if not mask[y, x]}
    admissible = {spot: value for spot, value in free.items() if value >= margin - 1e-9}
    assert len(spots) == min(2, len(admissible))
    assert len(set(spots)) == len(spots)
    assert set(spots) <= admissible.keys()
    if spots:
        assert admissible[spots[0]] == pytest.approx(max(admissible.values()))
    if len(spots) == 2:
        away = {
            spot: math.hypot((spot[0] - spots[0][0]) * 1000 / height, (spot[1] - spots[0][1]) * 1000 / width)
            for spot in admissible
        }
        assert away[spots[1]] == pytest.approx(max(away.values()))


def test_a_pixel_is_ten_units_in_a_picture_of_a_hundred() -> None:
    """Left half true, 100 × 100: the column beside it is 5 units away, the next one 15."""
    mask = np.zeros((100, 100), bool)
    mask[:, :50] = True

    assert mine_negative(mask, PixelBox(0, 0, 51, 100)) == ()
    points = mine_negative(mask, PixelBox(0, 0, 52, 100))
    assert points == ((51.5, 0.5), (51.5, 99.5))


def test_distance_is_measured_on_the_grid_not_in_pixels() -> None:
    """A picture of 1000 × 100: 4 free rows below are farther (35 units) than 30 free columns beside (29.5)."""
    mask = np.zeros((100, 1000), bool)
    mask[:60, :500] = True

    assert grid_distance(mask)[63, 100] == pytest.approx(35)
    assert grid_distance(mask)[30, 529] == pytest.approx(29.5)


def test_objects_outside_the_box_keep_their_distance_too() -> None:
    """The union mask counts: another object right beside the box takes its admissible pixels away."""
    mask = np.zeros((100, 100), bool)
    mask[10:20, 10:20] = True
    box = PixelBox(10, 10, 30, 20)
    assert mine_negative(mask, box, k=1) == ((29.5, 10.5),)

    mask[10:20, 30:40] = True
    assert mine_negative(mask, box, k=1) == ((24.5, 10.5),), "the middle of the gap"


def test_no_background_or_no_box_gives_no_point() -> None:
    full = np.ones((50, 50), bool)

    assert mine_negative(full, PixelBox(0, 0, 50, 50)) == ()
    assert mine_negative(~full, PixelBox(10, 10, 10, 20)) == ()
    assert mine_negative(~full, PixelBox(60, 60, 70, 70)) == (), "a box outside the picture"
    assert mine_negative(~full, PixelBox(3, 3, 4, 4)) == ((3.5, 3.5),), "one pixel gives one point"
    assert mine_negative(~full, PixelBox(3, 3, 8, 8), k=0) == ()
    assert len(set(mine_negative(~full, PixelBox(3, 3, 8, 8), k=4))) == 4


# ---------------------------------------------------------------- real masks


def test_points_of_real_masks(shared_data: Path) -> None:
    """Every one of the 57 masks: both positives inside and apart; negatives in the box, ≥ 10 units from all objects."""
    instances = json.loads((shared_data / "mini" / "refcocog" / "instances.json").read_text())
    sizes = {image["id"]: Size(image["width"], image["height"]) for image in instances["images"]}
    objects = [
        (annotation["image_id"], rle.decode(rle.from_coco(annotation["segmentation"], sizes[annotation["image_id"]])))
        for annotation in instances["annotations"]
    ]
    unions = {image: union([mask for of, mask in objects if of == image], sizes[image]) for image in sizes}
    apart = {image: grid_distance(mask) for image, mask in unions.items()}
    negatives = 0
    for image, mask in objects:
        first, second = mine_positive(mask)
        assert inside(mask, first)
        assert inside(mask, second)
        assert first != second or mask.sum() == 1
        box = mask_box(mask)
        for point in mine_negative(unions[image], box):
            negatives += 1
            assert not inside(unions[image], point)
            assert box.x1 < point.x < box.x2
            assert box.y1 < point.y < box.y2
            assert apart[image][math.floor(point.y), math.floor(point.x)] >= 10
    assert len(objects) == 57
    assert negatives > 40


# ---------------------------------------------------------------- exactly the rule, ties included


def slow_positives(mask: np.ndarray) -> list[tuple[int, int]]:
    """The rule in whole numbers: no distance is rounded, so ties are ties."""
    background, pixels = np.argwhere(~np.pad(mask, 1)) - 1, np.argwhere(mask)
    depths = ((pixels[:, None] - background) ** 2).sum(axis=2).min(axis=1)
    first = pixels[depths.argmax()]
    away = ((pixels - first) ** 2).sum(axis=1)
    low, high = (int(np.sort(away)[place]) for place in ((len(away) - 1) // 2, len(away) // 2))
    # a > ((sqrt(low) + sqrt(high)) / 2)^2, squared once more to be rid of the roots
    over = [4 * int(value) - low - high for value in away]
    far = np.array([value > 0 and value**2 > 4 * low * high for value in over])
    if not far.any():
        far = away == away.max()
    return [tuple(first.tolist()), tuple(pixels[np.where(far, depths, -1).argmax()].tolist())]


def slow_negatives(mask: np.ndarray, box: tuple[int, int, int, int], k: int, margin: int) -> list[tuple[int, int]]:
    """The rule in whole numbers: squares of distances are counted in units of (1000 / (2 height width)) squared."""
    (height, width), (x1, y1, x2, y2) = mask.shape, box
    seeds, free = np.argwhere(mask), np.argwhere(~mask[y1:y2, x1:x2]) + np.array([y1, x1])
    if not len(free):
        return []
    gaps = np.maximum(2 * np.abs(free[:, None] - seeds) - 1, 0) * [width, height]
    distances = (gaps**2).sum(axis=2).min(axis=1)
    admissible = distances * 10**6 >= (2 * height * width * margin) ** 2
    free, distances = free[admissible], distances[admissible]
    picks = [free[distances.argmax()]] if len(free) else []
    if k == 2 and len(free) > 1:
        picks.append(free[(((free - picks[0]) * [width, height]) ** 2).sum(axis=1).argmax()])
    return [tuple(pick.tolist()) for pick in picks]


@pytest.mark.parametrize("small", [1 << 15, 0])
@pytest.mark.parametrize("seed", range(4))
def test_points_are_those_of_the_slow_loop(seed: int, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blobs of all grains in pictures of all shapes, by the transform of everything (small pictures) and by blocks."""
    monkeypatch.setattr(distances, "_SMALL", small)
    rng = np.random.default_rng(seed)
    for _ in range(40):
        height, width = rng.integers(2, 50, 2) if rng.random() < 0.5 else np.repeat(rng.integers(2, 50), 2)
        noise = ndimage.gaussian_filter(rng.random((height, width)), rng.uniform(0, 5))
        mask = noise >= np.quantile(noise, rng.uniform(0, 0.97))
        (x1, x2), (y1, y2) = (sorted(rng.choice(side + 1, 2, replace=False).tolist()) for side in (width, height))
        margin, k = int(rng.choice([0, 10, 30, 80])), int(rng.integers(1, 3))

        assert _pixels(mine_positive(mask)) == slow_positives(mask)
        found = mine_negatives(mask, [PixelBox(x1, y1, x2, y2), mask_box(mask)], k=k, margin_grid=margin)
        whole = tuple(map(int, mask_box(mask)))
        expected = [slow_negatives(mask, box, k, margin) for box in ((x1, y1, x2, y2), whole)]
        assert list(map(_pixels, found)) == expected


def _pixels(points: tuple[PixelPoint, ...]) -> list[tuple[int, int]]:
    return [(math.floor(point.y), math.floor(point.x)) for point in points]
