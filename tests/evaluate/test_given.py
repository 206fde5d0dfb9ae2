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
from gensegcli.exports.coco import CocoInstances
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


def test_dense_rows_of_0_and_1(tmp_path: Path) -> None:
    """What `mask.tolist()` writes."""
    mask = block(1, 1, 9, 7) & ~block(3, 3, 5, 5)
    forms = {"a": mask.astype(int).tolist(), "b": mask.tolist(), "c": mask.astype(float).tolist()}
    found, given = read(write(tmp_path / "p.jsonl", *({"id": name, "masks": [rows]} for name, rows in forms.items())))
    assert {found[name].instances[0].mask for name in forms} == {rle.encode(mask)}
    assert given.notes == ()


@pytest.mark.parametrize("name", ["a.PNG", "a.tif", "a.bmp", "a.gif", "a.pgm", "a.webp"])
def test_masks_in_any_format_without_loss(tmp_path: Path, name: str) -> None:
    how = {"lossless": True} if name.endswith("webp") else {}
    Image.fromarray(block(1, 1, 4, 4).astype(np.uint8) * 255).save(tmp_path / name, **how)
    found, given = read(tmp_path)
    assert np.array_equal(union_mask(found["a"]), block(1, 1, 4, 4))
    assert given.notes == ()


def test_masks_named_like_their_pictures(tmp_path: Path) -> None:
    places = {f"set-{name}-0": place for name, place in PLACES.items()}
    Image.fromarray(block(1, 1, 4, 4).astype(np.uint8) * 255).save(tmp_path / "b.png")
    found, _ = read(tmp_path, places)
    assert found.keys() == {"set-b-0"}
    shared = {name: place._replace(file="b.jpg") for name, place in places.items()}
    with pytest.raises(GensegError, match="none of its 1 predictions is of a sample"):
        read(tmp_path, shared)


def test_what_a_folder_holds_beside_masks_is_counted(tmp_path: Path) -> None:
    Image.new("L", SIZE).save(tmp_path / "a.png")
    for name in ("z.jpg", "about.txt", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "more").mkdir()
    _, given = read(tmp_path)
    assert given.notes[:2] == (
        "2 files of the folder are no masks in a format without loss and were left out (the first: z.jpg)",
        "1 folders inside the folder were not looked into",
    )
    (tmp_path / "a.png").unlink()
    with pytest.raises(GensegError, match="holds no predictions") as caught:
        read(tmp_path)
    assert "(the first: z.jpg)" in caught.value.hint


@pytest.mark.parametrize("indent", [None, 1])
def test_our_own_coco_file(tmp_path: Path, indent: int | None) -> None:
    """By the prediction's id, or by picture and expression; what is absent from a picture is an abstention."""
    mine = [
        made_prediction([block(1, 2, 5, 6), block(6, 0, 9, 3)], id="a", image="photos/a.jpg", query="the a"),
        made_prediction(size=SIZE, id="other", image="photos/b.jpg", query="The B."),
    ]
    writer = CocoInstances(tmp_path)
    for prediction in mine:
        writer.add(prediction)
    writer.finish()
    if indent:
        path = tmp_path / "coco.json"
        path.write_text(json.dumps(json.loads(path.read_text()), indent=indent))
    found, given = read(tmp_path / "coco.json")
    assert found.keys() == {"a", "b"}
    assert [one.mask for one in found["a"].instances] == [one.mask for one in mine[0].instances]
    assert found["b"].no_target
    assert given.notes == ()


def test_a_coco_file_cannot_tell_samples_apart_that_share_picture_and_expression(tmp_path: Path) -> None:
    writer = CocoInstances(tmp_path)
    writer.add(made_prediction([block(1, 2, 5, 6)], id="x", image="a.jpg", query="the a"))
    writer.finish()
    twins = dict.fromkeys(("p", "q"), PLACES["a"])
    with pytest.raises(GensegError, match=r"2 samples of the set ask for 'the a' on a\.jpg \(p, q\)"):
        read(tmp_path / "coco.json", twins)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"annotations": [{"image_id": 9, "category_id": 1, "segmentation": []}]},
            "annotation 0: image_id: 9 is not in",
        ),
        ({"annotations": [1]}, "annotation 0: a number, expected an object"),
        ({"images": [{"id": 1}]}, "images is no list of objects with id and file_name"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}] * 2}, "2 of the images have the id 1"),
        ({"categories": None}, "categories is no list of objects with id and name"),
        ({"images": [{"id": 1, "file_name": "a.jpg", "neg_category_ids": 1}]}, "a list expected, a number found"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "prediction_id": {}}]}, "neither segmentation nor bbox"),
    ],
)
def test_damaged_coco_files_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    sound = {"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 1, "name": "the a"}], "annotations": []}
    (tmp_path / "c.json").write_text(json.dumps({**sound, **change}))
    with pytest.raises(GensegError) as caught:
        read(tmp_path / "c.json")
    assert message in caught.value.message


# ---------------------------------------------------------------- what the file states is taken at its word


def test_no_target_decides_where_it_stands(tmp_path: Path) -> None:
    nothing = coco_rle(block(0, 0, 0, 0))
    path = write(
        tmp_path / "p.jsonl",
        {"id": "a", "masks": [nothing], "no_target": False},
        {"id": "b", "masks": [nothing], "no_target": True},
        {"id": "c", "masks": [nothing]},
    )
    found, given = read(path)
    assert {name: one.no_target for name, one in found.items()} == {"a": False, "b": True, "c": True}
    assert not any(one.instances for one in found.values())
    assert given.notes == ("1 predictions without a single pixel or box count as 'nothing there'",)


@pytest.mark.parametrize(
    "record",
    [
        {"id": "a", "masks": [coco_rle(block(0, 0, 3, 3))], "no_target": True},
        {"id": "a", "boxes": [[0, 0, 3, 3]], "no_target": True},
        {**to_json(made_prediction([block(1, 2, 5, 6)], id="a")), "no_target": True},
    ],
)
def test_a_contradiction_is_named(tmp_path: Path, record: Any) -> None:
    with pytest.raises(GensegError, match=r"sample a: no_target is true, and there are 1 (masks|boxes|instances)"):
        read(write(tmp_path / "p.jsonl", record))


@pytest.mark.parametrize(
    ("record", "key", "meant"),
    [
        ({"mask": []}, "mask", "masks"),
        ({"boxes": [[0, 0, 1, 1]], "segmentation": []}, "segmentation", "masks"),
        ({"box": [0, 0, 1, 1]}, "box", "boxes"),
        ({"boxs": []}, "boxs", "boxes"),
        ({"masks": [], "notarget": True}, "notarget", "no_target"),
        ({"masks": [], "no-target": True}, "no-target", "no_target"),
        ({"masks": [], "no_targets": True}, "no_targets", "no_target"),
        ({"masks": [], "score": 0.5}, "score", "scores"),
    ],
)
def test_misspelt_keys_are_named(tmp_path: Path, record: dict[str, Any], key: str, meant: str) -> None:
    with pytest.raises(GensegError, match=f"p.jsonl:1: unknown key '{key}'") as caught:
        read(write(tmp_path / "p.jsonl", {"id": "a", **record}))
    assert f"did you mean '{meant}'?" in caught.value.hint


def test_keys_of_others_are_let_be(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"id": "a", "masks": [], "image": "a.jpg", "query": "q", "time": 1, "size": [8]})
    assert read(path)[0]["a"].no_target


# ---------------------------------------------------------------- files of other programs


def test_a_byte_order_mark_nan_and_line_separators_do_no_harm(tmp_path: Path) -> None:
    entry = {"image_id": "a", "segmentation": coco_rle(block(0, 0, 3, 3)), "score": float("nan"), "text": "x\u2028y"}
    line = {"id": "a", "masks": [coco_rle(block(0, 0, 3, 3))], "scores": [float("inf")], "loss": float("nan")}
    for name, content in (("p.json", json.dumps([entry], ensure_ascii=False)), ("p.jsonl", json.dumps(line) + "\n")):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content.encode())
        found, given = read(tmp_path / name)
        assert np.array_equal(union_mask(found["a"]), block(0, 0, 3, 3))
        assert found["a"].instances[0].score is None
        assert given.notes == ("1 scores are no finite numbers and count as none",)


@pytest.mark.parametrize("value", [2, 2.0, "2", " 2 "])
def test_numbers_of_references_as_table_programs_write_them(tmp_path: Path, value: object) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps([{"image_id": value, "bbox": [1, 2, 3, 4]}]))
    assert read(path)[0].keys() == {"b"}


def test_a_key_that_stands_twice(tmp_path: Path) -> None:
    for name, content in (
        ("p.jsonl", '{"id": "a", "masks": [], "masks": []}\n'),
        ("p.json", '[{"image_id": "a", "bbox": [0, 0, 1, 1], "bbox": [0, 0, 2, 2]}]'),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(GensegError, match="stands twice in one object"):
            read(tmp_path / name)


# ---------------------------------------------------------------- one bad part does not cost the whole


def test_bad_parts_cost_themselves_and_are_counted(tmp_path: Path) -> None:
    good, nothing = [4, 4, 8, 4, 8, 8, 4, 8], coco_rle(block(0, 0, 0, 0))
    path = tmp_path / "p.json"
    entries = [
        {"image_id": "a", "segmentation": [good, [1, 1, 2, 2]], "bbox": [4, 4, 4, 4]},
        {"image_id": "a", "segmentation": nothing, "bbox": [0.0, 0.0, 0.0, 0.0]},
        {"image_id": "b", "segmentation": [], "bbox": [0, 0, 0, 0]},
        {"image_id": "c", "segmentation": [good], "bbox": [0, 0, -1, 0]},
    ]
    path.write_text(json.dumps(entries))
    found, given = read(path)
    assert np.array_equal(union_mask(found["a"]), block(4, 4, 8, 8))
    assert found["b"].no_target
    assert boxes(found["c"]) == [(4, 4, 8, 8)]
    assert given.notes == (
        "1 polygons of fewer than three corners, beside sound ones, were left out",
        "1 objects have an empty list for a segmentation and count as empty masks",
        "1 predictions without a single pixel or box count as 'nothing there'",
    )


def test_boxes_without_area_are_no_objects(tmp_path: Path) -> None:
    lines = write(tmp_path / "p.jsonl", {"id": "a", "boxes": [[0, 0, 3, 3], [5, 5, 5, 8]], "scores": [0.5, 0.4]})
    results = tmp_path / "p.json"
    results.write_text(json.dumps([{"image_id": "a", "bbox": [0, 0, 3, 3]}, {"image_id": "a", "bbox": [5, 5, 0, 3]}]))
    for path in (lines, results):
        found, given = read(path)
        assert boxes(found["a"]) == [(0, 0, 3, 3)]
        assert given.notes[0] == "1 boxes without area were left out"


# ---------------------------------------------------------------- grey levels


def grey_map(low: int, high: int) -> np.ndarray:
    return np.linspace(low, high, SIZE.width * SIZE.height).reshape(SIZE.height, SIZE.width).astype(np.uint8)


def test_grey_level_maps_are_cut_for_masks_kept_for_scores_and_counted(tmp_path: Path) -> None:
    Image.fromarray(grey_map(0, 255)).save(tmp_path / "a.png")
    Image.fromarray(grey_map(0, 90)).save(tmp_path / "b.png")
    Image.fromarray(block(1, 1, 4, 4).astype(np.uint8) * 255).save(tmp_path / "c.png")
    found, given = read(tmp_path)
    assert np.array_equal(union_mask(found["a"]), grey_map(0, 255) > 127)
    assert found["b"].no_target
    assert given.notes[-1] == (
        "2 predictions are grey-level maps: their masks are what is above 127 of 255 (the first: a.png)"
    )
    for name, expected in (("a", grey_map(0, 255)), ("b", grey_map(0, 90))):
        levels = Given(tmp_path, PLACES).levels(name)
        assert levels is not None
        assert np.array_equal(levels, expected)
    assert given.levels("c") is None


def test_dark_maps_alone_say_nothing(tmp_path: Path) -> None:
    """0 to 100 may be per cent."""
    Image.fromarray(grey_map(0, 100)).save(tmp_path / "a.png")
    with pytest.raises(GensegError, match=r"a\.png: grey values 0, 1, 2, … 9\d, 100"):
        read(tmp_path)


# ---------------------------------------------------------------- what is left out, and said so


def test_a_half_written_last_line_and_unknown_ids_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"id": "a", "boxes": [[0, 0, 2, 2]]}, {"id": "x", "boxes": [[0, 0, 1, 1]]})
    path.write_bytes(path.read_bytes() + b'\n{"id": "b", "boxes": [[0, 0')
    found, given = read(path)
    assert boxes(found["a"]) == [(0, 0, 2, 2)]
    assert given.notes == (
        "the last line is cut off and was left out",
        "1 predictions are of no sample of the set (the first: x)",
        "boxes only: there are no mask metrics",
    )


def test_of_two_predictions_nobody_says_which_one_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"id": "a", "boxes": []}, {"id": "b", "boxes": []}, {"id": "a", "masks": []})
    with pytest.raises(GensegError, match=r"p\.jsonl: two predictions of sample a: line 1 and line 3"):
        read(path)
    folder = tmp_path / "masks"
    folder.mkdir()
    for name in ("a.png", "a.PNG", "a.tif"):
        Image.new("L", SIZE).save(folder / name)
        if name != "a.png":
            with pytest.raises(GensegError, match=r"two predictions of sample a: a\.PNG and a\."):
                read(folder)


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
        ([{"id": "a", "no_target": False}], "no_target is false, and there are no masks and no boxes"),
        ([{"id": "a", "no_target": "no"}], "no_target is 'no', expected true or false"),
        ([{"id": "a", "masks": [coco_rle(block(0, 0, 1, 1)) | {"counts": "b'0120'"}]}], "a Python bytes object"),
        (
            [{"id": "a", "masks": [np.eye(12, 8, dtype=int).tolist()]}],
            "sample a: 12 rows of 8 numbers 0 and 1, expected",
        ),
        ([{"id": "x"}], "no masks, no boxes, no no_target, found id"),
        ([{"id": 3, "masks": []}], 'p.jsonl:1: expected an object with an "id" that is a text'),
        ([{"id": "a", "masks": "all"}], "p.jsonl:1: masks is a text, expected a list"),
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
