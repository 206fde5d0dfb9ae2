"""Parquet copies of the hub: every form of their columns, from files on this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gensegcli.errors import GensegError
from gensegcli.records import GridBox, GridPoint, Size
from gensegcli.sources.hub import read_hub
from gensegcli.sources.raw import SizeMismatchError

if TYPE_CHECKING:
    from pathlib import Path

PICTURE = {"bytes": b"\x89PNG", "path": None}


def read(tmp_path: Path, form: str, rows: list[dict[str, Any]], split: str = "train", **options: Any) -> Any:
    folder = tmp_path / "hub" / "owner__name"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}-00000-of-00001.parquet", row_group_size=2)
    return read_hub(tmp_path, name="owner/name", form=form, split=split, **options)


def test_solutions_in_json(tmp_path: Path) -> None:
    solution = [{"bbox_2d": [84, 0, 840, 420], "point_2d": [420, 210]}, {"bbox_2d": [0, 0, 8, 8], "point_2d": [4, 4]}]
    row = {"id": "7_8", "problem": "two", "image": PICTURE, "img_height": 480, "img_width": 640}
    raw = read(tmp_path, "solution-json", [row | {"solution": json.dumps(s)} for s in (solution, [], [])])

    first = raw.refs[0]
    assert first.id == "000000-7_8"
    assert first.targets[0].box == GridBox(100, 0, 1000, 500)
    assert first.targets[0].points == (GridPoint(500, 250),)
    assert first.original_size == Size(640, 480)
    assert first.picture.read() == b"\x89PNG"
    assert [len(ref.targets) for ref in raw.refs] == [2, 0, 0]
    assert len({ref.id for ref in raw.refs}) == 3, "the sets' own ids repeat"
    assert raw.refs[2].picture.cell.group == 1


def test_solutions_in_tags(tmp_path: Path) -> None:
    text = "<box>(84,168),(420,336)</box><points>(210,210),(252,294)</points>"
    (ref,) = read(tmp_path, "solution-tags", [{"id": "1", "problem": "a", "solution": text, "image": PICTURE}]).refs

    assert ref.targets[0].box == GridBox(100, 200, 500, 400)
    assert ref.targets[0].points == (GridPoint(250, 250), GridPoint(300, 350))


def test_solutions_with_labelled_points_and_a_think_text(tmp_path: Path) -> None:
    text = (
        "<bbox>[0,0,384,384]</bbox><bbox>[384,384,768,768]</bbox>"
        "<points>[[192,192],[10,10],[500,500]]</points><labels>[1,0,1]</labels>"
    )
    row = {"problem": "a", "solution": text, "thinking": "I look.", "image": PICTURE}
    (ref,) = read(tmp_path, "solution-labels", [row], frame=(768, 768)).refs

    assert [target.box for target in ref.targets] == [GridBox(0, 0, 500, 500), GridBox(500, 500, 1000, 1000)]
    assert ref.targets[0].points == (GridPoint(250, 250),)
    assert len(ref.targets[0].negatives) == 1
    assert ref.provenance["think"] == "I look."


def test_rows_with_masks(tmp_path: Path) -> None:
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    rows = [
        {"image": PICTURE, "text": text, "mask": mask.tolist(), "image_id": "COCO_train2014_000000000785", "ann_id": 3}
        for text in ("a", "b", "c")
    ]
    raw = read(tmp_path, "mask-rows", rows, split="test")

    np.testing.assert_array_equal(raw.refs[1].targets[0].mask.read(Size(6, 4)), mask)
    assert raw.counts == (3, 1, 3)
    assert {ref.picture.key for ref in raw.refs} == {raw.refs[0].picture.key}, "one picture, decoded once"
    assert raw.refs[0].provenance["image_id"] == 785
    with pytest.raises(SizeMismatchError):
        raw.refs[0].targets[0].mask.read(Size(4, 6))


def test_a_flat_polygon_and_all_sentences(tmp_path: Path) -> None:
    row = {
        "question_id": "q1",
        "image": PICTURE,
        "answer": ["a dog", "the dog"],
        "segmentation": [1.0, 1.0, 5.0, 1.0, 5.0, 3.0, 1.0, 3.0],
        "file_name": "COCO_train2014_000000380440_491042.jpg",
    }
    (ref,) = read(tmp_path, "flat-polygon", [row], split="val").refs

    assert [sentence.text for sentence in ref.sentences] == ["a dog", "the dog"]
    assert ref.targets[0].mask.read(Size(8, 6)).sum() == 8
    assert ref.provenance["image_id"] == 380440


@pytest.mark.parametrize(
    ("form", "solution"),
    [
        ("solution-json", "[{"),
        ("solution-json", "[" * 100_000),
        ("solution-json", '[{"bbox_2d": [0, 0, 900, 9], "point_2d": [1, 1]}]'),
        ("solution-json", '[{"bbox_2d": [9, 0, 3, 9], "point_2d": [1, 1]}]'),
        ("solution-json", '[{"point_2d": [1, 1]}]'),
        ("solution-tags", "<box>(1,2)</box>"),
        ("solution-labels", "<bbox>[0,0,9,9]</bbox><points>[[1,1]]</points><labels>[]</labels>"),
    ],
)
def test_solutions_that_cannot_be_read_are_told_row_by_row(tmp_path: Path, form: str, solution: str) -> None:
    (ref,) = read(tmp_path, form, [{"problem": "a", "solution": solution, "image": PICTURE}]).refs

    assert ref.problem is not None
    assert ref.problem.reason == "solution damaged"
    assert "row 0" in ref.problem.detail


@pytest.mark.parametrize("form", ["solution-json", "mask-rows", "flat-polygon"])
def test_expressions_that_are_none(tmp_path: Path, form: str) -> None:
    row = {"problem": None, "solution": "[]", "text": None, "answer": [None], "segmentation": [1.0, 1, 5, 1, 5, 3]}
    (ref,) = read(tmp_path, form, [row | {"image": PICTURE, "image_id": 7}]).refs

    assert ref.problem is not None
    assert "no text" in ref.problem.detail


def test_offline_and_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(GensegError, match="HF_HUB_OFFLINE is set") as caught:
        read_hub(tmp_path, name="owner/name", form="mask-rows", split="test")
    assert str(tmp_path / "hub" / "owner__name") in caught.value.hint
    assert "--files" in caught.value.hint


def test_files_named_outright(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"no")
    with pytest.raises(GensegError, match="not a Parquet file"):
        read_hub(tmp_path, name="o/n", form="mask-rows", split="test", files=tmp_path / "x.parquet")
    with pytest.raises(GensegError, match="no Parquet file"):
        read_hub(tmp_path, name="o/n", form="mask-rows", split="test", files=tmp_path / "y")


# ---------------------------------------------------------------- rows that are none, or say two things


@pytest.mark.parametrize("solution", ["{}", '""', "null", "0", '[{"no_target": true}]', '{"bbox_2d": [0, 0, 9, 9]}'])
def test_only_an_empty_list_says_that_nothing_matches(tmp_path: Path, solution: str) -> None:
    (ref,) = read(tmp_path, "solution-json", [{"problem": "a", "solution": solution, "image": PICTURE}]).refs
    assert ref.problem is not None
    assert ref.problem.reason == "solution damaged"


def test_a_key_that_stands_twice_and_a_second_box(tmp_path: Path) -> None:
    twice = '[{"bbox_2d": [0, 0, 9, 9], "bbox_2d": [0, 0, 90, 90], "point_2d": [1, 1]}]'
    (ref,) = read(tmp_path, "solution-json", [{"problem": "a", "solution": twice, "image": PICTURE}]).refs
    assert "'bbox_2d' stands twice" in ref.problem.detail
    boxes = "<box>(0,0),(9,9)</box><box>(9,9),(99,99)</box><points>(1,1)</points>"
    (ref,) = read(tmp_path, "solution-tags", [{"problem": "a", "solution": boxes, "image": PICTURE}]).refs
    assert "one <box> and one <points> expected, 2 and 1" in ref.problem.detail


@pytest.mark.parametrize(("solution", "declared"), [("[]", False), ('[{"bbox_2d": [0, 0, 9, 9]}]', True)])
def test_a_flag_that_contradicts_the_solution(tmp_path: Path, solution: str, declared: bool) -> None:
    row = {"problem": "a", "solution": solution, "image": PICTURE, "no_target": declared}
    (ref,) = read(tmp_path, "solution-json", [row]).refs
    assert ref.problem.reason == "contradiction"


def test_the_placeholder_of_the_picture_is_no_part_of_the_expression(tmp_path: Path) -> None:
    row = {"problem": "<image>\nthe red cup", "solution": "[]", "image": PICTURE}
    (ref,) = read(tmp_path, "solution-json", [row]).refs
    assert ref.sentences[0].text.strip() == "the red cup"


@pytest.mark.parametrize("value", [[PICTURE], PICTURE, b"\x89PNG"])
def test_a_column_of_pictures(tmp_path: Path, value: Any) -> None:
    """As EasyR1, verl and TRL call it; one picture a row."""
    (ref,) = read(tmp_path, "solution-json", [{"problem": "a", "solution": "[]", "images": value}]).refs
    assert ref.picture.read() == b"\x89PNG"


def test_several_pictures_and_none(tmp_path: Path) -> None:
    (ref,) = read(tmp_path, "solution-json", [{"problem": "a", "solution": "[]", "images": [PICTURE] * 2}]).refs
    with pytest.raises(OSError, match="holds 2 pictures, one is expected"):
        ref.picture.read()
    with pytest.raises(GensegError, match="no column image or images; columns there: problem, solution"):
        read(tmp_path, "solution-json", [{"problem": "a", "solution": "[]"}])


def test_solutions_are_in_pixels_of_the_frame(tmp_path: Path) -> None:
    """A picture of another size is a mismatch when it is decoded: its box would be scaled by the wrong side."""
    row = {"problem": "a", "solution": '[{"bbox_2d": [64, 48, 320, 240]}]', "image": PICTURE}
    (ref,) = read(tmp_path, "solution-json", [row]).refs
    assert ref.annotated_size == Size(840, 840)
    (ref,) = read(tmp_path, "solution-json", [row], frame=(640, 480)).refs
    assert ref.annotated_size == Size(640, 480)
    assert ref.targets[0].box == GridBox(100, 100, 500, 500)


@pytest.mark.parametrize(
    ("image_id", "ann_id", "stored"),
    [
        (785.0, 3.0, (785, 3)),
        ("785", "3", (785, 3)),
        ("a-b", "c-d", (None, None)),
        ("202311280657", 2**62, (None, 2**62)),
    ],
)
def test_ids_of_rows_with_masks(tmp_path: Path, image_id: Any, ann_id: Any, stored: tuple[Any, Any]) -> None:
    row = {"image": PICTURE, "text": "a", "mask": [[True]], "image_id": image_id, "ann_id": ann_id}
    (ref,) = read(tmp_path, "mask-rows", [row]).refs
    assert (ref.provenance.get("image_id"), ref.targets[0].ann_id) == stored


# ---------------------------------------------------------------- splits


def files(folder: Path, **rows: list[dict[str, Any]]) -> Path:
    for name, content in rows.items():
        path = folder / f"{name.replace('__', '/')}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(content), path)
    return folder


def row(text: str, **more: Any) -> dict[str, Any]:
    return {"problem": text, "solution": "[]", "image": PICTURE, **more}


def texts(root: Path, split: str, **options: Any) -> list[str]:
    raw = read_hub(root, name="o/n", form="solution-json", split=split, **options)
    return [ref.sentences[0].text for ref in raw.refs]


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00001", "test-00000-of-00001"),
        ("data__train-00000-of-00001-0123456789abcdef", "data__test-00000-of-00001-0123456789abcdef"),
        ("default__train__0000", "default__test__0000"),
        ("train__part0", "test__part0"),
        ("refs_train", "refs_test"),
    ],
)
def test_whoever_asks_for_test_never_gets_train(tmp_path: Path, names: tuple[str, str]) -> None:
    folder = files(tmp_path / "copies", **{names[0]: [row("train")], names[1]: [row("test")]})
    assert texts(tmp_path, "test", files=folder) == ["test"]
    assert texts(tmp_path, "train", files=folder) == ["train"]
    with pytest.raises(GensegError, match=r"nothing of split 'val'; splits there: test, train"):
        texts(tmp_path, "val", files=folder)
    with pytest.raises(GensegError, match="holds several splits: test, train"):
        texts(tmp_path, "all", files=folder)
    only = next(path for path in folder.rglob("*.parquet") if "train" in str(path.relative_to(folder)))
    with pytest.raises(GensegError, match=r"nothing of split 'test'; splits there: train"):
        texts(tmp_path, "test", files=only)


def test_a_folder_named_outright_is_a_sign_too(tmp_path: Path) -> None:
    folder = files(tmp_path / "test", part0=[row("test")])
    assert texts(tmp_path, "test", files=folder) == ["test"]
    with pytest.raises(GensegError, match="splits there: test"):
        texts(tmp_path, "train", files=folder)


def test_files_that_name_no_split_are_of_train(tmp_path: Path) -> None:
    """As the hub takes them."""
    folder = files(tmp_path / "copies", rows=[row("a")])
    assert texts(tmp_path, "train", files=folder) == texts(tmp_path, "all", files=folder) == ["a"]
    with pytest.raises(GensegError, match=r"no file of split 'test': file names such as rows\.parquet name no split"):
        texts(tmp_path, "test", files=folder)


def test_a_column_tells_the_splits_where_names_do_not(tmp_path: Path) -> None:
    folder = files(tmp_path / "copies", rows=[row(name, split=name) for name in ("train", "validation", "train")])
    assert texts(tmp_path, "val", files=folder) == ["validation"]
    assert texts(tmp_path, "train", files=folder) == ["train", "train"]
    with pytest.raises(GensegError, match="nothing of split 'test'; splits there: train, val"):
        texts(tmp_path, "test", files=folder)
    with pytest.raises(GensegError, match="holds several splits: train, val"):
        texts(tmp_path, "all", files=folder)


def test_two_copies_below_the_root_are_not_read_both(tmp_path: Path) -> None:
    files(tmp_path / "hub" / "o__n", train=[row("a")])
    files(tmp_path / "n", train=[row("a")])
    assert texts(tmp_path, "train") == ["a"]
