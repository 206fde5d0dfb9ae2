"""Predictions of other systems, in every form, whole and damaged."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from gensegcli.errors import ExitCode, GensegError
from gensegcli.evaluate.data import Place
from gensegcli.evaluate.given import Given
from gensegcli.exports.names import prediction_stem
from gensegcli.geometry import rle
from gensegcli.predictions import to_json, union_mask
from gensegcli.records import PixelBox, Prediction, Size
from tests.made import made_prediction

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SIZE = Size(12, 8)
PLACES = {
    name: Place(name, f"the {name}", SIZE, ref, 70 + ref, f"{name}.jpg") for name, ref in (("a", 1), ("b", 2), ("c", 3))
}


def block(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros((SIZE.height, SIZE.width), bool)
    mask[y1:y2, x1:x2] = True
    return mask


def coco_rle(mask: np.ndarray) -> dict[str, Any]:
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def write(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def read(path: Path, places: dict[str, Place] = PLACES) -> tuple[dict[str, Prediction], Given]:
    given = Given(path, places)
    return {prediction.id: prediction for prediction in given}, given


def boxes(prediction: Prediction) -> Sequence[PixelBox]:
    return [found.prompt.box for found in prediction.instances]


# ---------------------------------------------------------------- forms


def test_our_own_predictions_come_back_as_they_were(tmp_path: Path) -> None:
    mine = [made_prediction([block(1, 2, 5, 6)], id="a"), made_prediction(size=SIZE, id="b")]
    found, given = read(write(tmp_path / "p.jsonl", *map(to_json, mine)))
    assert found["a"].instances == mine[0].instances
    assert (found["a"].think, found["a"].tokens) == (mine[0].think, mine[0].tokens)
    assert found["b"].no_target
    assert (given.notes, given.boxes_only) == ((), False)


def test_plain_lines_of_masks(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl",
        {"id": "a", "masks": [coco_rle(block(0, 0, 3, 3)), [[4, 4, 8, 4, 8, 8, 4, 8]]], "scores": [0.5, None]},
        {"id": "b", "no_target": True},
        {"id": "c", "masks": []},
    )
    found, given = read(path)
    assert np.array_equal(union_mask(found["a"]), block(0, 0, 3, 3) | block(4, 4, 8, 8))
    assert boxes(found["a"]) == [(0, 0, 3, 3), (4, 4, 8, 8)]
    assert [instance.score for instance in found["a"].instances] == [0.5, None]
    assert (found["a"].query, found["a"].image, found["a"].size) == ("the a", "a.jpg", SIZE)
    assert found["b"].no_target
    assert found["c"].no_target
    assert given.notes == ("1 predictions without a single pixel or box count as 'nothing there'",)


def test_boxes_alone(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl", {"id": "a", "boxes": [[1, 2, 5, 6], [0, 0, 40, 3.5]]}, {"id": "b", "no_target": True}
    )
    found, given = read(path)
    assert boxes(found["a"]) == [(1, 2, 5, 6), (0, 0, 12, 3.5)], "clamped to the picture"
    assert given.boxes_only
    assert given.notes == ("boxes only: there are no mask metrics",)


@pytest.mark.parametrize("key", [{"a": "a", "b": "b"}, {"a": 1, "b": 2}])
def test_coco_results_by_sample_id_or_reference(tmp_path: Path, key: dict[str, Any]) -> None:
    path = tmp_path / "results.json"
    results = [
        {"image_id": key["a"], "category_id": 1, "segmentation": coco_rle(block(0, 0, 3, 3)), "score": 0.9},
        {"image_id": key["b"], "category_id": 1, "segmentation": [[4, 4, 8, 4, 8, 8]], "score": 0.1},
        {"image_id": key["a"], "category_id": 1, "segmentation": coco_rle(block(6, 0, 9, 3)), "score": 0.8},
    ]
    path.write_text(json.dumps(results))
    found, _ = read(path)
    assert np.array_equal(union_mask(found["a"]), block(0, 0, 3, 3) | block(6, 0, 9, 3))
    polygon = coco.decode(coco.merge(coco.frPyObjects([[4, 4, 8, 4, 8, 8]], 8, 12))).astype(bool)
    assert np.array_equal(union_mask(found["b"]), polygon)
    assert "c" not in found, "what is not there is missing, not an abstention"


def test_coco_results_by_picture_where_every_sample_has_its_own(tmp_path: Path) -> None:
    places = {name: place._replace(ref=None) for name, place in PLACES.items()}
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"image_id": 72, "bbox": [1, 2, 3, 4], "score": 0.9}]))
    found, given = read(path, places)
    assert boxes(found["b"]) == [(1, 2, 4, 6)]
    assert given.boxes_only
    shared = {name: place._replace(image=7) for name, place in places.items()}
    with pytest.raises(GensegError, match="none of its 1 predictions is of a sample of the set"):
        read(path, shared)


def test_a_folder_of_png_masks(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    Image.fromarray(block(1, 1, 4, 4).astype(np.uint8) * 255).save(folder / "a.png")
    Image.fromarray(block(2, 2, 6, 6).astype(np.uint8)).save(folder / "b.png")  # 0 and 1
    ours = prediction_stem(made_prediction(id="c"))
    assert ours.endswith(hashlib.sha256(b"c").hexdigest()[:12])
    Image.new("L", SIZE).save(folder / f"{ours}.png")
    Image.new("L", SIZE).save(folder / "stranger.png")
    found, given = read(folder)
    assert np.array_equal(union_mask(found["a"]), block(1, 1, 4, 4))
    assert np.array_equal(union_mask(found["b"]), block(2, 2, 6, 6))
    assert found["c"].no_target
    assert given.notes == (
        "1 predictions are of no sample of the set (the first: stranger)",
        "1 predictions without a single pixel or box count as 'nothing there'",
    )


def test_a_mask_with_a_palette_is_all_that_is_not_black(tmp_path: Path) -> None:
    """As DAVIS and VOC store them: object 1 dark red, object 2 dark green, both darker than half grey."""
    indexes = block(1, 1, 4, 4).astype(np.uint8) + 2 * block(6, 2, 9, 5).astype(np.uint8)
    picture = Image.fromarray(indexes)
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    picture.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as stored:
        assert stored.mode == "P"
    found, given = read(tmp_path)
    assert np.array_equal(union_mask(found["a"]), indexes > 0)
    assert given.notes == ()


# ---------------------------------------------------------------- what is left out, and said so


def test_a_half_written_last_line_unknown_ids_and_repeats_are_counted(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl",
        {"id": "a", "boxes": [[0, 0, 1, 1]]},
        {"id": "x", "boxes": [[0, 0, 1, 1]]},
        {"id": "a", "boxes": [[0, 0, 2, 2]]},
    )
    path.write_bytes(path.read_bytes() + b'\n{"id": "b", "boxes": [[0, 0')
    found, given = read(path)
    assert boxes(found["a"]) == [(0, 0, 2, 2)], "the later one counts"
    assert given.notes == (
        "the last line is cut off and was left out",
        "1 predictions are of no sample of the set (the first: x)",
        "1 predictions were followed by another one of the same sample, which counts",
        "boxes only: there are no mask metrics",
    )


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"id": "a", "boxes": []})
    before = Given(path, PLACES).digest
    assert Given(path, PLACES).digest == before
    write(path, {"id": "b", "boxes": []})
    assert Given(path, PLACES).digest != before


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"id": "x"}], "no masks, no boxes, no no_target, found id"),
        ([{"id": 3, "masks": []}], 'p.jsonl:1: expected an object with an "id" that is a text'),
        ([{"id": "a", "masks": "all"}], "p.jsonl:1: masks is str, expected a list"),
        ([{"id": "a", "masks": [], "scores": [1]}], "p.jsonl:1: masks, boxes and scores are of different length"),
        ([{"id": "a", "boxes": [[0, 0, 1]]}], "p.jsonl:1: a box: four numbers expected, [0, 0, 1] found"),
        ([{"id": "a", "boxes": [[5, 0, 1, 9]]}], "p.jsonl:1: box [5.0, 0.0, 1.0, 9.0] has no area"),
        ([{"id": "a", "boxes": [[0, 0, 1, 1]], "scores": ["hi"]}], "p.jsonl:1: a score is 'hi', expected a number"),
        (
            [{"id": "a", "masks": [{"size": [4, 4], "counts": "0120"}]}],
            "sample a: run-length size [8, 12] (height, width) expected, [4, 4] found",
        ),
        (
            [{"id": "a", "masks": [{"size": [8, 12], "counts": "0"}]}],
            "sample a: the runs must be whole numbers that fill",
        ),
        ([{"id": "a", "masks": [[1, 2, 3]]}], "sample a: a polygon has at least three corners"),
        (
            [{"id": "a", "masks": [coco_rle(block(0, 0, 1, 1))]}, {"id": "b", "boxes": [[0, 0, 1, 1]]}],
            "a has masks, b only boxes",
        ),
        ([to_json(made_prediction([np.ones((4, 4), bool)], id="a"))], "sample a: mask of 12x8 expected, 4x4 found"),
        ([{"id": "a", "instances": [], "version": 1}], "p.jsonl:1: prediction a: image: Field required"),
        ([{"id": "elsewhere", "boxes": [[0, 0, 1, 1]]}], "none of its 1 predictions is of a sample of the set"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, records: list[Any], message: str) -> None:
    with pytest.raises(GensegError) as caught:
        read(write(tmp_path / "p.jsonl", *records))
    assert message in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "neither JSONL nor a list of COCO results"),
        ("id,mask\n", "neither JSONL nor a list of COCO results"),
        ("[]", "holds no predictions"),
        ('{"id": "a", "boxes": []}\nnonsense\n{"id": "b", "boxes": []}\n', "p.json:2: not JSON"),
        ('[{"image_id": "a"', "p.json: not JSON"),
        ('[{"category_id": 1}]', "p.json: entry 0 has no image_id"),
        ("[1]", "p.json: entry 0 has no image_id"),
        ('[{"image_id": "a", "score": 1}]', "p.json: sample a: an entry has neither segmentation nor bbox"),
        (
            '[{"image_id": "a", "bbox": [0, 0, 1, 1]}, {"image_id": "a", "segmentation": [[0, 0, 1, 0, 1, 1]]}]',
            "sample a: only some of its objects have a segmentation",
        ),
        ('[{"image_id": "a", "bbox": [0, 0, 1]}]', "bbox: four numbers expected"),
        ('[{"image_id": "a", "bbox": [4, 4, -2, 3]}]', "sample a: bbox [4, 4, -2, 3] has no area"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(content)
    with pytest.raises(GensegError) as caught:
        read(path)
    assert message in caught.value.message


def test_a_mask_file_of_another_size_or_none_at_all(tmp_path: Path) -> None:
    Image.new("L", (8, 12), 255).save(tmp_path / "a.png")
    with pytest.raises(GensegError, match="sample a: mask of 12x8 expected, 8x12 found"):
        read(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(GensegError, match=r"a\.png"):
        read(tmp_path)
    (tmp_path / "a.png").unlink()
    with pytest.raises(GensegError, match="holds no predictions"):
        read(tmp_path)
    with pytest.raises(GensegError, match="cannot be read") as caught:
        read(tmp_path / "gone.jsonl")
    assert caught.value.code == ExitCode.NOT_FOUND


def test_masks_survive_the_way_through_every_form(tmp_path: Path) -> None:
    mask = block(1, 1, 9, 7) & ~block(3, 3, 5, 5)
    (tmp_path / "png").mkdir()
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "png" / "a.png")
    forms = [
        write(tmp_path / "ours.jsonl", to_json(made_prediction([mask], id="a"))),
        write(tmp_path / "plain.jsonl", {"id": "a", "masks": [coco_rle(mask)]}),
        write(tmp_path / "coco.json", [{"image_id": "a", "segmentation": coco_rle(mask)}]),
        tmp_path / "png",
    ]
    assert {read(form)[0]["a"].instances[0].mask for form in forms} == {rle.encode(mask)}
