"""COCO's segmentations in all their forms, and data of one's own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
from pycocotools import mask as coco

from gensegcli.errors import GensegError
from gensegcli.records import Size
from gensegcli.sources.coco import CocoMask, inside, read_index, read_own
from gensegcli.sources.raw import PictureFile, SizeMismatchError

if TYPE_CHECKING:
    from pathlib import Path

SIZE = Size(20, 12)


def mask_of(segmentation: Any) -> np.ndarray:
    return CocoMask(orjson.dumps(segmentation)).read(SIZE)


def test_polygons_that_overlap_are_united_and_not_summed() -> None:
    left, right = [2.0, 2.0, 10.0, 2.0, 10.0, 9.0, 2.0, 9.0], [6.0, 4.0, 15.0, 4.0, 15.0, 11.0, 6.0, 11.0]
    parts = [mask_of([left]), mask_of([right])]
    assert (parts[0] & parts[1]).sum() > 0, "the trap is there"

    np.testing.assert_array_equal(mask_of([left, right]), parts[0] | parts[1])


def test_run_lengths_as_text_as_list_and_as_a_crowd_s_list() -> None:
    mask = np.zeros((SIZE.height, SIZE.width), bool)
    mask[3:9, 5:11] = True
    text = coco.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    columns = mask.T.ravel()
    ends = np.flatnonzero(np.diff(columns)) + 1
    runs = np.diff(np.concatenate([[0], ends, [columns.size]])).tolist()

    for counts in (text, runs):
        np.testing.assert_array_equal(mask_of({"size": [SIZE.height, SIZE.width], "counts": counts}), mask)


def test_run_lengths_of_another_size_are_a_mismatch() -> None:
    with pytest.raises(SizeMismatchError, match=r"mask of \[12, 21\]"):
        mask_of({"size": [12, 21], "counts": [252]})


def test_real_crowds_and_run_lengths(shared_data: Path) -> None:
    path = shared_data / "mini" / "refcocog" / "instances.json"
    annotations = json.loads(path.read_text())["annotations"]
    index = read_index(path)
    kinds = {"crowd": 0, "text": 0, "polygons": 0}
    for annotation in annotations:
        size = index.pictures[annotation["image_id"]].size
        target = index.objects[annotation["id"]]
        assert size is not None
        assert target.mask is not None
        found = target.mask.read(size)
        segmentation = annotation["segmentation"]
        if isinstance(segmentation, list):
            encoded = coco.merge(coco.frPyObjects(segmentation, size.height, size.width))
        else:
            encoded = segmentation
        np.testing.assert_array_equal(found, coco.decode(encoded) > 0)
        kinds["crowd" if annotation["iscrowd"] else "polygons" if isinstance(segmentation, list) else "text"] += 1
    assert kinds == {"crowd": 3, "text": 40, "polygons": 14}


@pytest.mark.parametrize("content", ["[]", "{}", '{"images": [{}], "annotations": []}', "nonsense"])
def test_files_that_are_not_coco_s(tmp_path: Path, content: str) -> None:
    (tmp_path / "instances.json").write_text(content)
    with pytest.raises(GensegError, match=r"instances\.json: not (in COCO's form|JSON)"):
        read_index(tmp_path / "instances.json")


def test_an_annotation_id_that_occurs_twice(tmp_path: Path) -> None:
    """As where files were merged: whichever counted, it would be the wrong one for somebody."""
    annotation = {"id": 1, "image_id": 7, "segmentation": []}
    (tmp_path / "a.json").write_text(json.dumps({"images": [{"id": 7}], "annotations": [annotation] * 2}))
    with pytest.raises(GensegError, match="annotation 1 occurs twice"):
        read_index(tmp_path / "a.json")


# ---------------------------------------------------------------- one's own data


@pytest.fixture
def own(tmp_path: Path) -> Path:
    images = [{"id": 7, "file_name": "sub/a.jpg", "width": 20, "height": 12}]
    annotations = [
        {"id": 1, "image_id": 7, "category_id": 3, "segmentation": [[2, 2, 10, 2, 10, 9, 2, 9]]},
        {"id": 2, "image_id": 7, "category_id": "a name", "segmentation": [[12, 2, 18, 2, 18, 9, 12, 9]]},
    ]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    (tmp_path / "images" / "sub").mkdir(parents=True)
    (tmp_path / "images" / "sub" / "a.jpg").write_bytes(b"x")
    return tmp_path


def read(own: Path, *lines: Any) -> Any:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (own / "e.jsonl").write_text(text)
    return read_own(own / "a.json", own / "images", own / "e.jsonl")


def test_lines_of_expressions(own: Path) -> None:
    raw = read(
        own,
        {"image_id": 7, "expression": "the left one", "ann_ids": [1]},
        "",
        {"file_name": "sub/a.jpg", "expressions": ["both", "the two"], "ann_ids": [1, 2, 1], "id": "both"},
        {"image_id": 7, "expression": "a dog"},
    )

    assert [ref.id for ref in raw.refs] == ["1", "both", "4"]
    assert [len(ref.targets) for ref in raw.refs] == [1, 2, 0]
    assert [target.category_id for target in raw.refs[1].targets] == [3, None]
    assert raw.refs[1].picture == PictureFile(own / "images" / "sub" / "a.jpg")
    assert raw.counts == (3, 1, 4)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"image_id": 7}, r"e\.jsonl:1: `expression`"),
        ({"image_id": 8, "expression": "a"}, r"e\.jsonl:1: picture 8 is not in a\.json"),
        ({"expression": "a"}, r"picture None is not in"),
        ({"image_id": 7, "expression": "a", "ann_ids": "1"}, "`ann_ids` is a list"),
        ("{", r"e\.jsonl:1: not JSON"),
        ("[]", r"an object expected, list found"),
    ],
)
def test_wrong_lines(own: Path, line: Any, words: str) -> None:
    with pytest.raises(GensegError, match=words):
        read(own, line)


def test_an_unknown_annotation_and_a_picture_that_is_gone(own: Path) -> None:
    (own / "images" / "sub" / "a.jpg").unlink()

    raw = read(own, {"image_id": 7, "expression": "a", "ann_ids": [9]}, {"image_id": 7, "expression": "a"})

    assert [ref.problem.reason for ref in raw.refs if ref.problem] == ["dangling annotation", "picture missing"]


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "a/../../b.jpg", "..\\b.jpg", "C:/b.jpg", ""])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(GensegError, match="not the name of a file inside"):
        inside(tmp_path, name)
