"""COCO's segmentations in all their forms, and data of one's own."""

from __future__ import annotations

import json
import unicodedata
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
    with pytest.raises(GensegError, match=r"instances\.json: (not in COCO's form|not JSON|a JSON object)"):
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
        {"image_id": 7, "expression": "a dog", "ann_ids": []},
        {"image_id": 7, "expression": "a cat", "no_target": True, "id": None},
    )

    assert [ref.id for ref in raw.refs] == ["1", "both", "4", "5"]
    assert [len(ref.targets) for ref in raw.refs] == [1, 2, 0, 0]
    assert not any(ref.problem for ref in raw.refs)
    assert [target.category_id for target in raw.refs[1].targets] == [3, None]
    assert raw.refs[1].picture == PictureFile(own / "images" / "sub" / "a.jpg")
    assert raw.counts == (4, 1, 5)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"image_id": 7}, r"e\.jsonl:1: `expression`"),
        ({"image_id": 8, "expression": "a"}, r"e\.jsonl:1: picture 8 is not in a\.json"),
        ({"expression": "a"}, r"`image_id` or `file_name` is missing"),
        ({"image_id": True, "expression": "a"}, r"`image_id` must be a whole number or a text, true or false found"),
        ({"image_id": 7.5, "expression": "a"}, r"`image_id` must be a whole number or a text, a float|number found"),
        ({"image_id": 7, "expression": "a"}, r"e\.jsonl:1: `ann_ids` is missing"),
        ({"image_id": 7, "expression": "a", "ann_ids": None}, "`ann_ids` is missing"),
        ({"image_id": 7, "expression": "a", "no_target": False}, "`ann_ids` is missing"),
        ({"image_id": 7, "expression": "a", "no_target": "yes"}, "`no_target` must be true or false, 'yes' found"),
        ({"image_id": 7, "expression": "a", "ann_ids": [True]}, "an annotation id must be .* true or false found"),
        (
            {"image_id": 7, "expression": "a", "ann_ids": [1], "id": [1]},
            "`id` must be a whole number or a text, a list",
        ),
        (
            {"image_id": 7, "file_name": "b.jpg", "expression": "a", "ann_ids": [1]},
            "picture 7 is 'sub/a.jpg', not 'b.jpg'",
        ),
        (
            {"image_id": 7, "expression": "a", "expressions": ["b"], "ann_ids": []},
            "both `expression` and `expressions`",
        ),
        ('{"image_id": 7, "expression": "a", "ann_ids": [1], "ann_ids": []}', "the key 'ann_ids' stands twice"),
        ({"image_id": 7, "expression": "a", "ann_ids": "1"}, "`ann_ids` is a list"),
        ("{", r"e\.jsonl:1: not JSON"),
        ("[]", r"e\.jsonl:1: a JSON object expected, a list found"),
    ],
)
def test_wrong_lines(own: Path, line: Any, words: str) -> None:
    with pytest.raises(GensegError, match=words):
        read(own, line)


def test_an_unknown_annotation_and_a_picture_that_is_gone(own: Path) -> None:
    (own / "images" / "sub" / "a.jpg").unlink()

    line = {"image_id": 7, "expression": "a"}
    raw = read(own, line | {"ann_ids": [9]}, line | {"ann_ids": []})

    assert [ref.problem.reason for ref in raw.refs if ref.problem] == ["dangling annotation", "picture missing"]


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "a/../../b.jpg", "..\\b.jpg", "C:/b.jpg", ""])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(GensegError, match="not the name of a file inside"):
        inside(tmp_path, name)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("ann_id", "ann_ids"),
        ("annotation_ids", "ann_ids"),
        ("annIds", "ann_ids"),
        ("Ann-Ids", "ann_ids"),
        ("anns", "ann_ids"),
        ("no_targets", "no_target"),
        ("notarget", "no_target"),
        ("expresions", "expressions"),
        ("filename", "file_name"),
    ],
)
@pytest.mark.parametrize("rest", [{}, {"ann_ids": [1]}, {"no_target": True}])
def test_a_misspelt_key_never_means_that_nothing_matches(own: Path, key: str, meant: str, rest: dict[str, Any]) -> None:
    with pytest.raises(GensegError, match=f"unknown key `{key}`") as caught:
        read(own, {"image_id": 7, "expression": "a", key: [1], **rest})
    assert f"did you mean `{meant}`" in caught.value.hint


def test_what_people_note_down_beside_is_left_alone(own: Path) -> None:
    beside = {"expression_id": 3, "category": "dog", "text": "…", "image": "a.jpg", "source": "me", "score": 1}
    (ref,) = read(own, {"image_id": 7, "expression": "a", "ann_ids": [1], **beside}).refs
    assert ref.problem is None


@pytest.mark.parametrize(("ann_ids", "no_target"), [([1], True), ([], False)])
def test_a_flag_that_contradicts_the_ids(own: Path, ann_ids: list[int], no_target: bool) -> None:
    (ref,) = read(own, {"image_id": 7, "expression": "a", "ann_ids": ann_ids, "no_target": no_target}).refs
    assert ref.problem == ("contradiction", f"no_target is {str(no_target).lower()}, annotation ids are {ann_ids}")


def test_lines_of_several_splits(own: Path) -> None:
    """Whoever asks for test gets the lines of test."""
    lines = [{"image_id": 7, "expression": name, "ann_ids": [1], "split": name} for name in ("train", "test", "test")]
    read(own, *lines)
    paths = (own / "a.json", own / "images", own / "e.jsonl")
    assert [ref.sentences[0].text for ref in read_own(*paths, split="test").refs] == ["test", "test"]
    with pytest.raises(GensegError, match="no line of split 'val'") as caught:
        read_own(*paths, split="val")
    assert "known: test, train" in caught.value.hint
    with pytest.raises(GensegError, match=r"e\.jsonl:4: no `split`"):
        read(own, *lines, {"image_id": 7, "expression": "a", "ann_ids": [1]})


# ---------------------------------------------------------------- ids, names and sizes as other tools write them


def coco_file(own: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> None:
    (own / "a.json").write_text(json.dumps({"images": images, "annotations": annotations}))


SQUARE = [[2, 2, 10, 2, 10, 9, 2, 9]]


def test_two_pictures_of_one_id_are_refused(own: Path) -> None:
    """As where files were merged: the last one must not win."""
    images = [{"id": 7, "file_name": "sub/a.jpg"}, {"id": "7", "file_name": "b.jpg", "width": 3, "height": 2}]
    coco_file(own, images, [])
    with pytest.raises(GensegError, match=r"two pictures have the id 7: 'sub/a\.jpg' and 'b\.jpg' \(3x2\)"):
        read_index(own / "a.json")
    coco_file(own, [images[0], images[0]], [])
    assert list(read_index(own / "a.json").pictures) == [7], "the same picture twice is one"


def test_one_file_under_two_ids_is_named_by_id(own: Path) -> None:
    images = [{"id": number, "file_name": "sub/a.jpg"} for number in (7, 8)]
    coco_file(own, images, [{"id": 1, "image_id": 7, "segmentation": SQUARE}])
    with pytest.raises(GensegError, match=r"'sub/a\.jpg' is the file of several pictures \(7 and 8\)"):
        read(own, {"file_name": "sub/a.jpg", "expression": "a", "ann_ids": [1]})
    (ref,) = read(own, {"image_id": 7, "expression": "a", "ann_ids": [1]}).refs
    assert ref.problem is None


@pytest.mark.parametrize(
    ("image_id", "ann_id", "stored"),
    [
        ("9f1c-22", "0b7e", (None, None)),
        (7.0, 1.0, (7, 1)),
        ("7", " 1 ", (7, 1)),
        (2**63 + 5, 2**64 - 1, (None, None)),
        (2**63 - 1, 2**62, (2**63 - 1, 2**62)),
    ],
)
def test_ids_in_every_form(own: Path, image_id: Any, ann_id: Any, stored: tuple[Any, Any]) -> None:
    """They join; the columns of a prepared set hold those that are numbers of 63 bits."""
    image = {"id": image_id, "file_name": "sub/a.jpg", "width": "20", "height": 12.0}
    coco_file(own, [image], [{"id": ann_id, "image_id": image_id, "segmentation": SQUARE, "category_id": 2**70}])
    raw = read(
        own,
        {"image_id": image_id, "expression": "a", "ann_ids": [ann_id]},
        {"file_name": "sub/a.jpg", "expression": "a", "ann_ids": [ann_id]},
    )
    for ref in raw.refs:
        assert ref.problem is None
        assert ref.annotated_size == SIZE
        assert (ref.provenance.get("image_id"), ref.targets[0].ann_id) == stored
        assert ref.targets[0].category_id is None
    assert bool(raw.notes) == (stored[1] is None)


@pytest.mark.parametrize("value", [True, None, [1], 1.5])
def test_ids_that_are_none_are_named_with_their_place(own: Path, value: Any) -> None:
    coco_file(own, [{"id": 7}, {"id": value}], [])
    with pytest.raises(GensegError, match=r"not in COCO's form: images\[1\]\.id must be a whole number or a text"):
        read_index(own / "a.json")


@pytest.mark.parametrize("width", ["wide", -3, 1.5, True, float("nan")])
def test_a_size_that_is_none_costs_that_picture(own: Path, width: Any) -> None:
    images = [{"id": 7, "file_name": "sub/a.jpg", "width": width, "height": 12}, {"id": 8, "file_name": "sub/a.jpg"}]
    coco_file(own, images, [])
    raw = read(own, *({"image_id": number, "expression": "a", "ann_ids": []} for number in (7, 8)))
    assert [ref.problem.reason if ref.problem else "" for ref in raw.refs] == ["annotation damaged", ""]


def test_a_box_alone_is_a_missing_annotation(own: Path) -> None:
    annotations = [{"id": n, "image_id": 7, "bbox": [1, 1, 5, 5], **more} for n, more in enumerate(BOX_ALONE)]
    coco_file(own, [{"id": 7, "file_name": "sub/a.jpg"}], annotations)
    raw = read(own, *({"image_id": 7, "expression": "a", "ann_ids": [n]} for n in range(len(BOX_ALONE))))
    assert {ref.problem.reason for ref in raw.refs if ref.problem} == {"annotation missing"}
    assert all(ref.problem for ref in raw.refs)


BOX_ALONE: list[dict[str, Any]] = [{}, {"segmentation": None}, {"segmentation": []}]


@pytest.mark.parametrize(
    "image",
    [
        {"coco_url": "http://images.cocodataset.org/train2017/a%20b.png"},
        {"file_name": "..\\..\\label-studio\\data\\media\\upload\\1\\a b.png"},
        {"file_name": "/home/me/photos/a b.png"},
        {"file_name": "https://example.org/1/a%20b.png?width=3"},
        {"file_name": "C:\\photos\\a b.png"},
    ],
)
def test_names_that_lead_elsewhere_mean_the_file_at_their_end(own: Path, image: dict[str, Any]) -> None:
    (own / "images" / "a b.png").write_bytes(b"x")
    coco_file(own, [{"id": 7, **image}], [{"id": 1, "image_id": 7, "segmentation": SQUARE}])
    (ref,) = read(own, {"image_id": 7, "expression": "a", "ann_ids": [1]}).refs
    assert ref.picture == PictureFile(own / "images" / "a b.png")
    assert ref.provenance["file_name"] == "a b.png"


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "", "http://[", "x/" * 3000, "a\0b", "https://example.org/", ".", 3]
)
def test_a_name_that_leads_nowhere_costs_that_picture(own: Path, name: Any) -> None:
    (own / "secret.png").write_bytes(b"x")
    coco_file(own, [{"id": 7, "file_name": name}, {"id": 8, "file_name": "sub/a.jpg"}], [])
    raw = read(own, *({"image_id": number, "expression": "a", "ann_ids": []} for number in (7, 8)))
    assert [ref.problem.reason if ref.problem else "" for ref in raw.refs] == ["picture missing", ""]


def test_two_names_of_one_end_are_not_guessed_between(own: Path) -> None:
    (own / "images" / "a.png").write_bytes(b"x")
    coco_file(
        own, [{"id": n, "file_name": f"/data/{n}/a.png"} for n in (1, 2)] + [{"id": 3, "file_name": "/x/b.png"}], []
    )
    refs = read(own, *({"image_id": n, "expression": "a", "ann_ids": []} for n in (1, 2))).refs
    assert [ref.problem.reason for ref in refs if ref.problem] == ["picture missing"] * 2
    assert "of picture 1 and the file of picture 2 are both called a.png" in refs[0].problem.detail


@pytest.mark.parametrize(("told", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_composed_and_decomposed_names_are_one(own: Path, told: Any, on_disk: Any) -> None:
    (own / "images" / unicodedata.normalize(on_disk, "café.jpg")).write_bytes(b"x")
    coco_file(own, [{"id": 7, "file_name": unicodedata.normalize(told, "café.jpg")}], [])
    line = {"file_name": unicodedata.normalize(on_disk, "café.jpg"), "expression": "a", "ann_ids": []}
    (ref,) = read(own, line).refs
    assert ref.problem is None
    assert ref.picture.read() == b"x"


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_nan_in_a_field_that_nobody_needs_and_a_byte_order_mark(own: Path, bom: bytes) -> None:
    content = json.loads((own / "a.json").read_text())
    content["annotations"][0]["area"] = float("nan")
    (own / "a.json").write_bytes(bom + json.dumps(content).encode())
    (ref,) = read(own, {"image_id": 7, "expression": "a\u2028b\u0085c", "ann_ids": [1]}).refs
    assert len(ref.targets) == 1
