"""One picture at a time: transforms, points, and every kind of raw data that cannot be used."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco

from gensegcli.geometry.boxes import grid_to_pixel, mask_box
from gensegcli.geometry.keypoints import grid_distance
from gensegcli.geometry.masks import mask_iou, resize_mask
from gensegcli.geometry.rle import decode
from gensegcli.images import read_image
from gensegcli.prep import build
from gensegcli.prep.build import Built, build_picture
from gensegcli.prep.inputs import Inputs, read_raw
from gensegcli.prep.select import by_picture, candidates
from gensegcli.records import Size
from gensegcli.sources.hub import read_hub
from tests.prep.conftest import HEIGHT, WIDTH, Tree, recipe, small

if TYPE_CHECKING:
    from pathlib import Path

    from gensegcli.prep.recipe import Recipe


def built(tree: Tree, wanted: Recipe) -> Built:
    works, _ = candidates(tree.raw(wanted).refs, wanted)
    parts = [build_picture(group, wanted) for group in by_picture(works)]
    whole = Built([], [], [], sum(part.dropped_parts for part in parts))
    for part in parts:
        whole.samples.extend(part.samples)
        whole.skips.extend(part.skips)
        whole.filtered.extend(part.filtered)
    return whole


def reasons(tree: Tree, wanted: Recipe) -> dict[str, str]:
    known = candidates(tree.raw(wanted).refs, wanted)[1]
    return {skip.id: skip.reason for skip in (*known, *built(tree, wanted).skips)}


# ---------------------------------------------------------------- real pictures


@pytest.mark.parametrize("name", ["refcocog", "grefcoco", "reasonseg"])
@pytest.mark.parametrize("purpose", ["eval", "train"])
def test_real_sets_hold_what_they_promise(shared_data: Path, name: str, purpose: str) -> None:
    wanted = recipe("select.count=0", name=name, split="val", purpose=purpose)
    root = shared_data / "mini" / ("reason_seg" if name == "reasonseg" else "")
    works, skips = candidates(read_raw(wanted, Inputs(root)).refs, wanted)
    assert not skips
    for group in by_picture(works):
        found = build_picture(group, wanted)
        assert not found.skips
        for work, sample in zip(group, found.samples, strict=True):
            picture = read_image(sample.image)
            assert picture.size == tuple(sample.size)
            assert work.ref.picture is not None
            if purpose == "eval":
                assert sample.image == work.ref.picture.read(), "the original bytes"
            else:
                assert sample.size == Size(840, 840)
            _check_points(sample, original=work.ref)


def _check_points(sample: Any, original: Any) -> None:
    masks = [decode(target.mask) for target in sample.targets]
    whole = np.logical_or.reduce(masks) if masks else np.zeros((1, 1), bool)
    distance = grid_distance(whole)
    for target, mask, raw in zip(sample.targets, masks, original.targets, strict=True):
        before = raw.mask.read(sample.original_size)
        assert len(target.points) == 2
        for point in target.points:
            assert _at(mask, point)
            assert _at(before, point, reach=1e-6), "in the mask before resizing too"
        assert len(target.negatives) == 2, "every object of the mini sets leaves background in its box"
        for point in target.negatives:
            assert not _at(whole, point)
            x, y = grid_to_pixel(point, sample.size)
            assert distance[int(y), int(x)] >= 10
            assert target.box.x1 <= point.x <= target.box.x2
            assert target.box.y1 <= point.y <= target.box.y2
        box = mask_box(before)
        assert grid_to_pixel(target.box, sample.original_size) == pytest.approx(box), "half-open and exact"


def _at(mask: np.ndarray, point: Any, reach: float = 0.0) -> bool:
    """The mask at a grid point; with `reach` also where the point lies on the edge of two pixels."""
    height, width = mask.shape
    return any(
        mask[min(int(point.y * height / 1000 + dy), height - 1), min(int(point.x * width / 1000 + dx), width - 1)]
        for dy in {-reach, reach}
        for dx in {-reach, reach}
    )


def test_a_grey_jpeg(shared_data: Path) -> None:
    """Picture 40083 of the mini sets has three channels; the folder `jpeg` has a real one of one channel."""
    grey = (shared_data / "jpeg" / "gray.jpg").read_bytes()
    with Image.open(io.BytesIO(grey)) as header:
        assert header.mode == "L", "the trap is there"

    pixels, plain, _ = build._decode(grey, None)  # ty: ignore[invalid-argument-type]

    assert pixels.shape[2] == 3
    assert plain
    assert np.array_equal(pixels[..., 0], pixels[..., 2])
    np.testing.assert_allclose(pixels[..., ::-1], np.asarray(read_image(grey)), atol=2)


# ---------------------------------------------------------------- transforms


def test_aspect_is_given_up_or_kept(full_tree: Tree) -> None:
    assert built(full_tree, small()).samples[0].size == Size(60, 60)
    kept = built(full_tree, small("picture.keep_aspect=true")).samples[0]
    assert kept.size == Size(60, 40)
    assert kept.original_size == Size(WIDTH, HEIGHT)


def test_a_picture_that_has_the_size_already_is_not_encoded_again(full_tree: Tree) -> None:
    sample = built(full_tree, small(f"picture.size=[{WIDTH}, {HEIGHT}]")).samples[0]
    assert sample.image == full_tree.picture(1).read_bytes()


def test_each_picture_is_decoded_once_for_all_its_samples(full_tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    real = cv2.imdecode
    monkeypatch.setattr(build.cv2, "imdecode", lambda data, flags: decoded.append(len(data)) or real(data, flags))

    found = built(full_tree, small())

    assert len(found.samples) == 24 * 14
    assert len(decoded) == 24
    by_name = {sample.id: sample.image for sample in found.samples}
    assert len({id(data) for data in by_name.values()}) == 24, "and its bytes are held once"


@settings(max_examples=60)
@given(
    arrays(bool, st.tuples(st.integers(2, 24), st.integers(2, 24))).filter(np.any),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_points_hold_before_and_after_resizing(mask: np.ndarray, width: int, height: int) -> None:
    """A mined point is a stored pixel's centre, and resizing took the value under that centre."""
    from gensegcli.geometry.boxes import pixel_to_grid
    from gensegcli.geometry.keypoints import mine_negative, mine_positive

    size = Size(width, height)
    stored = resize_mask(mask, size)
    if not stored.any():
        return
    for point in mine_positive(stored):
        assert _at(mask, pixel_to_grid(point, size), reach=1e-6)
    box = mask_box(stored)
    assert box is not None
    for point in mine_negative(stored, box, margin_grid=0):
        assert not all(
            mask[min(int(y), mask.shape[0] - 1), min(int(x), mask.shape[1] - 1)]
            for x, y in [(point.x * mask.shape[1] / width, point.y * mask.shape[0] / height)]
        )


def test_masks_at_the_stored_size_are_the_resized_ones(full_tree: Tree) -> None:
    wanted = small()
    works, _ = candidates(full_tree.raw(wanted).refs, wanted)
    for sample, work in zip(built(full_tree, wanted).samples[:14], works, strict=False):
        for target, raw in zip(sample.targets, work.ref.targets, strict=True):
            assert raw.mask is not None
            assert target.mask is not None
            expected = resize_mask(raw.mask.read(Size(WIDTH, HEIGHT)), Size(60, 60))
            assert mask_iou(decode(target.mask), expected) == 1.0


# ---------------------------------------------------------------- traps


def test_a_picture_that_is_cut_short(full_tree: Tree) -> None:
    """OpenCV 4 decodes it, with grey where the rest was."""
    data = full_tree.picture(3).read_bytes()
    full_tree.picture(3).write_bytes(data[: len(data) * 2 // 3])

    found = built(full_tree, small())

    assert {skip.reason for skip in found.skips} == {"picture damaged"}
    assert len(found.skips) == 14
    assert len(found.samples) == 23 * 14


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\xff\xd8\xff\xd9", b"\x89PNG\r\n\x1a\n"])
def test_a_picture_that_is_none(full_tree: Tree, data: bytes) -> None:
    full_tree.picture(3).write_bytes(data)
    assert set(reasons(full_tree, small()).values()) == {"picture damaged"}


def test_a_picture_that_vanishes_after_it_was_listed(full_tree: Tree) -> None:
    wanted = small()
    works, _ = candidates(full_tree.raw(wanted).refs, wanted)
    full_tree.picture(1).unlink()
    assert {skip.reason for skip in build_picture(by_picture(works)[0], wanted).skips} == {"picture missing"}


def test_a_bomb_is_not_decoded(full_tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PNG whose header promises 40,000 x 40,000 pixels."""
    stream = io.BytesIO()
    Image.new("1", (40_000, 40_000)).save(stream, "PNG")
    full_tree.picture(2).write_bytes(stream.getvalue())
    monkeypatch.setattr(Image.Image, "load", lambda _self: pytest.fail("decoded"))

    problems = list(built(full_tree, small()).skips)

    assert {skip.reason for skip in problems} == {"picture damaged"}
    assert "megapixels" in problems[0].detail


@pytest.mark.parametrize("mode", ["CMYK", "I;16", "P", "RGBA"])
def test_pictures_of_other_kinds(tree: Tree, mode: str) -> None:
    ids = tree.add_picture(1)
    tree.add_ref(1, ids[:1], "it")
    plain = Image.open(tree.picture(1))
    if mode == "I;16":
        other = Image.fromarray((np.asarray(plain.convert("L")).astype(np.uint16)) * 257)
    else:
        other = plain.convert(mode)
    other.save(tree.picture(1), "JPEG" if mode == "CMYK" else "PNG")

    (sample,) = built(tree, small(f"picture.size=[{WIDTH}, {HEIGHT}]")).samples

    stored = read_image(sample.image)
    assert stored.mode == "RGB"
    expected = np.asarray(read_image(tree.picture(1)), np.float32)
    assert np.abs(np.asarray(stored, np.float32) - expected).mean() < 15


def test_a_turned_picture_is_used_upright_and_its_annotation_must_agree(tree: Tree) -> None:
    ids = tree.add_picture(1)
    tree.add_ref(1, ids[:1], "it")
    picture = Image.open(tree.picture(1)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees: upright it is what it was
    picture.save(tree.picture(1), exif=exif)

    (sample,) = built(tree, recipe(split="train", purpose="eval")).samples
    assert sample.size == Size(WIDTH, HEIGHT)

    tree.images[0].update(width=HEIGHT, height=WIDTH)  # of the stored pixels: then the annotation is of those
    (turned,) = built(tree, recipe(split="train", purpose="eval")).samples
    assert turned.size == Size(WIDTH, HEIGHT)
    assert turned.targets != sample.targets

    tree.images[0].update(width=HEIGHT + 1, height=WIDTH)
    assert set(reasons(tree, small()).values()) == {"size mismatch"}


def test_an_annotation_of_another_size(tree: Tree) -> None:
    tree.add_picture(1)
    tree.add_ref(1, [tree.add_object(1, {"size": [9, 9], "counts": [81]})], "it")
    assert set(reasons(tree, small()).values()) == {"size mismatch"}


@pytest.mark.parametrize("segmentation", [[[1, 2, 3]], {"size": [HEIGHT, WIDTH], "counts": "zz"}, "x"])
def test_segmentations_that_are_none(tree: Tree, segmentation: Any) -> None:
    tree.add_picture(1)
    tree.add_ref(1, [tree.add_object(1, segmentation)], "it")
    assert set(reasons(tree, small()).values()) == {"annotation damaged"}


@pytest.mark.parametrize("segmentation", [[], None])
def test_annotations_of_a_box_alone(tree: Tree, segmentation: Any) -> None:
    tree.add_picture(1)
    tree.add_ref(1, [tree.add_object(1, segmentation)], "it")
    assert set(reasons(tree, small()).values()) == {"annotation missing"}


@pytest.mark.parametrize("part", [[], [20], [20, 20, 25, 25], [20, 20, 25, 25, 30, 30, 4]])
def test_a_polygon_without_three_corners_costs_that_polygon(tree: Tree, part: list[float]) -> None:
    """As in detectron2: `len(p) % 2 == 0 and len(p) >= 6`; the mask is that of the other polygons."""
    good = [4, 6, 30, 6, 30, 40, 4, 40]
    tree.add_picture(1)
    tree.add_ref(1, [tree.add_object(1, [good, part])], "it", "the same")
    tree.add_ref(1, [tree.add_object(1, [part, part])], "lost")

    found = built(tree, small(f"picture.size=[{WIDTH}, {HEIGHT}]"))

    theirs = coco.decode(coco.merge(coco.frPyObjects([good], HEIGHT, WIDTH))) > 0
    assert len(found.samples) == 2
    for sample in found.samples:
        np.testing.assert_array_equal(decode(sample.targets[0].mask), theirs)
    assert found.dropped_parts == 1, "a mask that two sentences mean counts once"
    assert [skip.reason for skip in found.skips] == ["annotation damaged"]


def test_an_empty_mask(tree: Tree) -> None:
    tree.add_picture(1)
    tree.add_ref(1, [tree.add_object(1, {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]})], "it")
    assert set(reasons(tree, small()).values()) == {"empty mask"}


def _one_pixel(x: int, y: int) -> dict[str, Any]:
    place = x * HEIGHT + y
    return {"size": [HEIGHT, WIDTH], "counts": [place, 1, HEIGHT * WIDTH - place - 1]}


def test_a_mask_that_the_resizing_loses_takes_its_sample_with_it(tree: Tree) -> None:
    ids = tree.add_picture(1)
    lost = tree.add_object(1, _one_pixel(1, 0))
    tree.add_ref(1, [lost], "the speck")
    tree.add_ref(1, [ids[0], lost], "both")
    tree.add_ref(1, [ids[0]], "the corner")

    found = built(tree, small("picture.size=[12, 8]"))

    assert [skip.reason for skip in found.skips] == ["mask lost in resizing"] * 2
    assert "1x1 pixels" in found.skips[0].detail
    assert [sample.query for sample in found.samples] == ["the corner"]


def test_an_object_of_one_pixel(tree: Tree) -> None:
    tree.add_picture(1)
    tree.add_ref(1, [tree.add_object(1, _one_pixel(50, 40))], "the speck")

    (sample,) = built(tree, recipe(split="train", purpose="eval")).samples
    (target,) = sample.targets

    assert len(target.points) == 2
    assert target.points[0] == target.points[1]
    assert grid_to_pixel(target.points[0], sample.size) == pytest.approx((50.5, 40.5))
    assert grid_to_pixel(target.box, sample.size) == pytest.approx((50, 40, 51, 41)), "half-open: one pixel wide"
    assert target.negatives == ()


def test_a_tiny_object_of_a_large_picture_is_lost_at_840_pixels(tree: Tree) -> None:
    tree.add_picture(1)
    height, width = 1400, 2100
    cv2.imwrite(str(tree.picture(1)), np.zeros((height, width, 3), np.uint8))
    tree.images[0].update(width=width, height=height)
    for column in (1000, 1001, 1002, 1003, 1004):  # 2.5 columns to one: some have a centre over them, some have not
        place = column * height + 700
        runs = {"size": [height, width], "counts": [place, 1, height * width - place - 1]}
        tree.add_ref(1, [tree.add_object(1, runs)], "the speck")

    found = built(tree, recipe("select.count=0"))

    assert [skip.reason for skip in found.skips] == ["mask lost in resizing"] * 3
    assert [len(sample.targets[0].points) for sample in found.samples] == [2, 2]


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "transparent PNG"])
def test_training_pictures_are_jpeg_or_plain_png(tree: Tree, kind: str) -> None:
    """Of the size that is wanted already, and encoded anew all the same."""
    ids = tree.add_picture(1)
    tree.add_ref(1, ids[:1], "it")
    plain = Image.open(tree.picture(1)).convert("RGB")
    if kind == "transparent PNG":
        plain.save(tree.picture(1), "PNG", transparency=(0, 0, 0))
    else:
        plain.save(tree.picture(1), kind)

    (sample,) = built(tree, small(f"picture.size=[{WIDTH}, {HEIGHT}]")).samples

    with Image.open(io.BytesIO(sample.image)) as stored:
        assert (stored.format, stored.mode) == ("JPEG", "RGB")


def test_the_size_of_a_png_is_looked_at_before_its_exif_data(full_tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow decodes a PNG to find EXIF data behind the pixels."""
    stream = io.BytesIO()
    Image.new("L", (11_000, 10_000)).save(stream, "PNG")
    full_tree.picture(2).write_bytes(stream.getvalue())
    monkeypatch.setattr(Image.Image, "load", lambda _self: pytest.fail("decoded"))

    assert "110 megapixels" in next(iter(built(full_tree, small()).skips)).detail


def _hub_rows(tmp_path: Path, rows: list[dict[str, Any]], form: str) -> Any:
    folder = tmp_path / "copies"
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")
    raw = read_hub(tmp_path, name="o/n", form=form, split="train", files=folder)
    wanted = recipe(name="visionreasoner-7k") if form == "solution-json" else small()
    works, skips = candidates(raw.refs, wanted)
    return [build_picture(group, wanted) for group in by_picture(works)], skips


def _png(width: int, height: int, seed: int = 0) -> dict[str, Any]:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    return {"bytes": cv2.imencode(".png", pixels)[1].tobytes(), "path": None}


def test_a_solution_in_pixels_of_another_frame_is_a_mismatch(tmp_path: Path) -> None:
    solution = '[{"bbox_2d": [64, 48, 320, 240], "point_2d": [200, 200]}]'
    rows = [
        {"problem": "a", "solution": solution, "image": _png(*size), "img_height": 480, "img_width": 640}
        for size in ((640, 480), (840, 840))
    ]
    wrong, right = _hub_rows(tmp_path, rows, "solution-json")[0]
    (skip,) = wrong.skips
    assert (skip.reason, skip.detail) == ("size mismatch", "annotated at 840x840, the picture has 640x480")
    (sample,) = right.samples
    assert [round(value) for value in sample.targets[0].box] == [76, 57, 381, 286]


def test_rows_that_call_two_pictures_by_one_name_keep_their_own(tmp_path: Path) -> None:
    """The first must not stand for the second: its mask would lie on the wrong picture."""
    mask = np.ones((48, 64), bool).tolist()
    pictures = [_png(64, 48, seed) for seed in (1, 2, 1)]
    rows = [
        {"image": picture, "text": f"thing {place}", "mask": mask, "image_id": "p", "ann_id": place}
        for place, picture in enumerate(pictures)
    ]
    (found,), _ = _hub_rows(tmp_path, rows, "mask-rows")
    first, second, third = (sample.image for sample in found.samples)
    assert first == third != second


def test_what_of_a_row_is_damaged_costs_that_row(tmp_path: Path) -> None:
    rows = [
        {"image": _png(64, 48), "text": "a", "mask": mask, "image_id": str(place), "ann_id": place}
        for place, mask in enumerate(([[True] * 64] * 48, [], [[True] * 63] * 48, [[False] * 64] * 48))
    ]
    found, _ = _hub_rows(tmp_path, rows, "mask-rows")
    assert [[skip.reason for skip in part.skips] for part in found] == [
        [],
        ["annotation damaged"],
        ["size mismatch"],
        ["empty mask"],
    ]
