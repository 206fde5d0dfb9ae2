"""Annotations of pictures with an EXIF turn: the mask must lie on the white block that the picture shows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gensegcli.geometry.boxes import grid_to_pixel, mask_box, pixel_to_grid
from gensegcli.geometry.rle import decode, encode, to_coco
from gensegcli.images import read_image
from gensegcli.prep.build import Built, build_picture
from gensegcli.prep.inputs import Inputs, read_raw
from gensegcli.prep.run import prepare
from gensegcli.prep.select import Work
from gensegcli.records import GridPoint, PixelBox, Size
from gensegcli.sources.coco import CocoMask
from gensegcli.sources.foreground import MaskFile
from gensegcli.sources.parquet import Cell, ParquetMask
from gensegcli.sources.raw import Counts, PictureFile, RawRef, RawSet, RawTarget, Sentence
from tests.prep.conftest import recipe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gensegcli.prep.recipe import Recipe
    from gensegcli.sources.raw import AnnotationFrame, MaskSource

TURNED = range(2, 9)
SWAPPED = (5, 6, 7, 8)
WIDE, SQUARE = Size(60, 40), Size(50, 50)
BOX = PixelBox(5, 4, 25, 10)
"""The white block in the stored picture."""
CORNERS = [BOX.x1, BOX.y1, BOX.x2, BOX.y1, BOX.x2, BOX.y2, BOX.x1, BOX.y2]


def block(size: Size) -> np.ndarray:
    mask = np.zeros((size.height, size.width), bool)
    mask[int(BOX.y1) : int(BOX.y2), int(BOX.x1) : int(BOX.x2)] = True
    return mask


def save(path: Path, size: Size, orientation: int) -> None:
    """The picture, its pixels stored as they are and an EXIF tag that says how they are to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(block(size).astype(np.uint8) * 255).convert("RGB").save(path, exif=exif.tobytes())


def shown(path: Path) -> np.ndarray:
    return np.asarray(read_image(path))[..., 0] > 127


@dataclass
class Case:
    path: Path
    wanted: Recipe

    def build(
        self,
        mask: MaskSource | None,
        *,
        annotated: Size | None = None,
        frame: AnnotationFrame = "stored",
        **target: Any,
    ) -> Built:
        targets = (RawTarget(mask, **target),)
        ref = RawRef("1", PictureFile(self.path), (Sentence("it"),), targets, annotated_size=annotated, frame=frame)
        return build_picture([Work("x", ref, 0)], self.wanted)


def case(tmp_path: Path, size: Size, orientation: int, *settings: str, suffix: str = ".png") -> Case:
    save(tmp_path / f"a{suffix}", size, orientation)
    return Case(tmp_path / f"a{suffix}", recipe("select.count=0", *settings, name="coco", purpose="eval"))


def the_block(found: Built, path: Path) -> bool:
    """Whether the one object of the one sample is what the picture shows."""
    assert not found.skips
    (sample,) = found.samples
    (target,) = sample.targets
    assert target.mask is not None
    mask, truth = decode(target.mask), shown(path)
    box = mask_box(truth)
    assert box is not None
    same = mask.shape == truth.shape and bool((mask == truth).all())
    return same and grid_to_pixel(target.box, sample.size) == pytest.approx(box)


POLYGON = CocoMask(orjson.dumps([CORNERS]))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
@pytest.mark.parametrize("size", [WIDE, SQUARE])
@pytest.mark.parametrize("orientation", [1, *TURNED])
def test_annotations_of_the_stored_pixels_turn_with_them(
    tmp_path: Path, size: Size, orientation: int, suffix: str
) -> None:
    turned = case(tmp_path, size, orientation, suffix=suffix)
    if suffix in (".jpg", ".webp"):
        (sample,) = turned.build(POLYGON).samples
        assert sample.targets[0].mask is not None
        assert (decode(sample.targets[0].mask) == shown(turned.path)).mean() > 0.98
        return
    assert the_block(turned.build(POLYGON), turned.path)
    assert the_block(turned.build(POLYGON, annotated=size), turned.path)


@pytest.mark.parametrize("orientation", SWAPPED)
def test_a_size_that_fits_the_upright_picture_only_decides(tmp_path: Path, orientation: int) -> None:
    turned = case(tmp_path, WIDE, orientation)
    box = mask_box(shown(turned.path))
    assert box is not None
    corners = [[box.x1, box.y1, box.x2, box.y1, box.x2, box.y2, box.x1, box.y2]]

    found = turned.build(CocoMask(orjson.dumps(corners)), annotated=Size(40, 60))

    assert the_block(found, turned.path)
    assert found.turned == ("upright",)


@pytest.mark.parametrize("orientation", SWAPPED)
def test_the_stored_size_decides_against_the_custom_of_the_form(tmp_path: Path, orientation: int) -> None:
    turned = case(tmp_path, WIDE, orientation)

    found = turned.build(POLYGON, annotated=WIDE, frame="upright")

    assert the_block(found, turned.path)
    assert found.turned == ("stored",)


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("said", ["option", "form"])
def test_upright_annotations_of_a_square_picture_stay_as_they_are(tmp_path: Path, orientation: int, said: str) -> None:
    turned = case(tmp_path, SQUARE, orientation, *(["annotations_frame=upright"] if said == "option" else []))
    box = mask_box(shown(turned.path))
    assert box is not None
    corners = [[box.x1, box.y1, box.x2, box.y1, box.x2, box.y2, box.x1, box.y2]]

    found = turned.build(
        CocoMask(orjson.dumps(corners)), annotated=SQUARE, frame="stored" if said == "option" else "upright"
    )

    assert the_block(found, turned.path)


def test_the_option_decides_against_the_custom_of_the_form(tmp_path: Path) -> None:
    turned = case(tmp_path, SQUARE, 3, "annotations_frame=stored")
    assert the_block(turned.build(POLYGON, frame="upright"), turned.path)


@pytest.mark.parametrize("orientation", SWAPPED)
@pytest.mark.parametrize("form", ["run lengths", "file", "Parquet"])
@pytest.mark.parametrize("upright", [False, True])
def test_a_mask_with_a_size_of_its_own_decides(tmp_path: Path, orientation: int, form: str, upright: bool) -> None:
    turned = case(tmp_path, WIDE, orientation)
    mask = shown(turned.path) if upright else block(WIDE)

    found = turned.build(source(tmp_path, form, mask))

    assert the_block(found, turned.path)
    assert found.turned == ("upright" if upright else "stored",)


def source(folder: Path, form: str, mask: np.ndarray) -> MaskSource:
    if form == "run lengths":
        return CocoMask(orjson.dumps(to_coco(encode(mask))))
    if form == "file":
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "mask.png")
        return MaskFile(folder / "mask.png")
    pq.write_table(pa.table({"mask": [mask.tolist()]}), folder / "a.parquet")
    return ParquetMask(Cell(str(folder / "a.parquet"), 0, 0))


@pytest.mark.parametrize("orientation", [3, 6])
def test_ignored_pixels_turn_too(tmp_path: Path, orientation: int) -> None:
    turned = case(tmp_path, WIDE, orientation)
    ref = RawRef("1", PictureFile(turned.path), (Sentence("it"),), (RawTarget(POLYGON),), ignore=POLYGON)

    (sample,) = build_picture([Work("x", ref, 0)], turned.wanted).samples

    assert sample.ignore is not None
    np.testing.assert_array_equal(decode(sample.ignore), shown(turned.path))


@pytest.mark.parametrize("orientation", TURNED)
def test_boxes_without_masks_turn_too(tmp_path: Path, orientation: int) -> None:
    turned = case(tmp_path, WIDE, orientation)
    inside = GridPoint(10 / WIDE.width * 1000, 6 / WIDE.height * 1000)
    above = GridPoint(10 / WIDE.width * 1000, 2 / WIDE.height * 1000)

    found = turned.build(None, box=pixel_to_grid(BOX, WIDE), points=(inside,), negatives=(above,))

    (sample,) = found.samples
    (target,) = sample.targets
    truth = shown(turned.path)
    assert grid_to_pixel(target.box, sample.size) == pytest.approx(mask_box(truth))
    for (point,), wanted in ((target.points, True), (target.negatives, False)):
        x, y = grid_to_pixel(point, sample.size)
        assert truth[int(y), int(x)] == wanted


@pytest.mark.parametrize(
    ("orientation", "settings", "annotated", "detail"),
    [
        (1, (), Size(40, 60), "annotated at 40x60, the picture has 60x40; with its sides swapped it fits"),
        (1, (), Size(61, 40), "annotated at 61x40, the picture has 60x40"),
        (6, (), Size(61, 40), "annotated at 61x40, the picture has 60x40 or 40x60"),
        (3, (), Size(40, 60), "annotated at 40x60, the picture has 60x40"),
        (
            6,
            ("annotations_frame=stored",),
            Size(40, 60),
            "EXIF turns the picture, and --annotations-frame upright fits",
        ),
        (6, ("annotations_frame=upright",), WIDE, "EXIF turns the picture, and --annotations-frame stored fits"),
    ],
)
def test_another_size_names_exif_where_that_explains_it(
    tmp_path: Path, orientation: int, settings: Sequence[str], annotated: Size, detail: str
) -> None:
    (skip,) = case(tmp_path, WIDE, orientation, *settings).build(POLYGON, annotated=annotated).skips

    assert skip.reason == "size mismatch"
    assert detail in skip.detail


def test_a_mask_of_swapped_sides_names_exif(tmp_path: Path) -> None:
    plain = case(tmp_path, WIDE, 1)

    (skip,) = plain.build(source(tmp_path, "file", block(Size(40, 60)))).skips

    assert skip.reason == "size mismatch"
    assert "was an EXIF turn lost?" in skip.detail


@pytest.mark.parametrize("size", [WIDE, SQUARE])
@pytest.mark.parametrize("orientation", TURNED)
def test_labelme_annotates_what_it_shows(tmp_path: Path, orientation: int, size: Size) -> None:
    folder = tmp_path / "ReasonSeg" / "val"
    folder.mkdir(parents=True)
    save(folder / "a.png", size, orientation)
    truth = shown(folder / "a.png")
    box = mask_box(truth)
    assert box is not None
    points = [[box.x1, box.y1], [box.x2 - 1, box.y2 - 1]]  # first and last pixel
    shapes = [{"label": "target", "shape_type": "rectangle", "points": points}]
    (folder / "a.json").write_text(json.dumps({"text": ["it"], "shapes": shapes}))
    wanted = recipe(name="reasonseg", split="val")

    (ref,) = read_raw(wanted, Inputs(tmp_path)).refs
    found = build_picture([Work("x", ref, 0)], wanted)

    assert the_block(found, folder / "a.png")


def test_the_card_counts_turned_pictures(tmp_path: Path) -> None:
    wanted = recipe("select.count=0", name="coco", purpose="eval")
    refs = []
    for number, (size, orientation, annotated) in enumerate(
        [(WIDE, 1, WIDE), (WIDE, 3, WIDE), (WIDE, 6, WIDE), (WIDE, 6, Size(40, 60)), (SQUARE, 8, None)]
    ):
        save(tmp_path / f"{number}.png", size, orientation)
        targets = (RawTarget(POLYGON),) if number < 4 else ()
        picture = PictureFile(tmp_path / f"{number}.png")
        refs.append(RawRef(str(number), picture, (Sentence("it"),), targets, annotated_size=annotated))

    report = prepare(wanted, RawSet(refs, Counts.of(refs, len(refs)), ()), tmp_path / "out")

    (note,) = report.card["notes"]
    assert note == (
        "pictures with an EXIF turn: annotations of the pixels as stored, turned with them 2; "
        "annotations as viewers show it 1; without objects 1"
    )
    assert note in (tmp_path / "out" / "README.md").read_text()
