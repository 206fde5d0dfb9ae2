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
