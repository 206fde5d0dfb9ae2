"""The RefCOCO family as its authors distribute it, on real annotations and real pictures."""

from __future__ import annotations

import json
import pickle
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from gensegcli.errors import GensegError
from gensegcli.records import Size
from gensegcli.sources.ids import coco_image_id
from gensegcli.sources.raw import Counts, PictureFile, RawRef
from gensegcli.sources.refer import read_refer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def mini(shared_data: Path) -> Path:
    return shared_data / "mini"


@pytest.fixture
def tree(mini: Path, tmp_path: Path) -> Path:
    """A copy of the annotations that may be changed; the pictures are linked."""
    for name in ("refcocog", "grefcoco"):
        (tmp_path / name).mkdir()
        for file in (mini / name).iterdir():
            shutil.copyfile(file, tmp_path / name / file.name)
    (tmp_path / "images").symlink_to(mini / "images")
    return tmp_path


def change(tree: Path, name: str, edit: Any) -> None:
    path = tree / "grefcoco" / name
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def by_id(refs: Any, number: int) -> RawRef:
    return next(ref for ref in refs if ref.id == str(number))


def test_refcocog_from_the_pickle(mini: Path) -> None:
    raw = read_refer(mini, folder="refcocog", by="umd", split="val")

    assert raw.counts == Counts(refs=10, pictures=4, sentences=16)
    assert raw.splits["test"] == Counts(5, 3, 5)
    assert [ref.id for ref in raw.refs] == ["0", "1", "2", "3", "4", "5", "6", "8", "9", "10"]
    first = raw.refs[0]
    assert [sentence.text for sentence in first.sentences] == [
        "a woman in a red jacket skiing down the slope",
        "the skier wearing a striped beanie",
    ]
    assert (first.targets[0].ann_id, first.targets[0].category_id) == (442619, 1)
    assert first.annotated_size == Size(640, 425)
    assert {path.name for path in raw.files} == {"refs(umd).p", "instances.json"}


def test_the_picture_is_found_by_its_id_and_not_by_the_file_name_of_the_reference(mini: Path) -> None:
    refs = pickle.loads((mini / "refcocog" / "refs(umd).p").read_bytes())  # noqa: S301 -- our own file
    assert refs[0]["file_name"] == "COCO_train2014_000000000785_442619.jpg", "the trap is there"

    picture = read_refer(mini, folder="refcocog", by="umd", split="val").refs[0].picture

    assert picture == PictureFile(mini / "images" / "train2014" / "COCO_train2014_000000000785.jpg")


def test_grefcoco_has_no_one_and_several_objects(mini: Path) -> None:
    raw = read_refer(mini, folder="grefcoco", by="unc", split="val")

    assert [len(ref.targets) for ref in raw.refs] == [0, 2, 0, 2, 2, 4, 0, 5, 0]
    assert all(ref.problem is None for ref in raw.refs), "-1 means no target, and is no dangling annotation"
    assert by_id(raw.refs, 1).sentences[1].id == 3


@pytest.mark.parametrize("split", ["train", "val", "testA", "testB"])
def test_masks_are_those_of_pycocotools(mini: Path, split: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Polygons, run lengths as text, and crowds; the annotation's own `area` is none of our business."""
    theirs = COCO(str(mini / "grefcoco" / "instances.json"))
    capsys.readouterr()
    compared = 0
    for ref in read_refer(mini, folder="grefcoco", by="unc", split=split).refs:
        for target in ref.targets:
            assert target.mask is not None
            assert ref.annotated_size is not None
            annotation = theirs.anns[target.ann_id]
            np.testing.assert_array_equal(target.mask.read(ref.annotated_size), theirs.annToMask(annotation) > 0)
            compared += 1
    assert compared == {"train": 6, "val": 15, "testA": 2, "testB": 1}[split]


def test_area_of_the_annotation_is_not_the_rasterised_one(mini: Path) -> None:
    """Polygons: the two differ by some per cent on small objects, so nothing may be decided by `area`."""
    areas = {a["id"]: a["area"] for a in json.loads((mini / "refcocog" / "instances.json").read_text())["annotations"]}
    raw = read_refer(mini, folder="refcocog", by="umd", split="val")
    differing = 0
    for ref in raw.refs:
        (target,) = ref.targets
        assert target.mask is not None
        assert ref.annotated_size is not None
        differing += int(target.mask.read(ref.annotated_size).sum()) != areas[target.ann_id]
    assert differing > 0


def test_the_same_as_json_and_with_lists_in_place_of_numbers(tree: Path) -> None:
    folder = tree / "refcocog"
    expected = read_refer(tree, folder="refcocog", by="umd", split="val")
    refs = pickle.loads((folder / "refs(umd).p").read_bytes())  # noqa: S301 -- our own file
    for ref in refs:
        ref["ann_id"], ref["category_id"] = [ref["ann_id"]], [ref["category_id"]]
    (folder / "refs(umd).p").unlink()
    (folder / "refs(umd).json").write_text(json.dumps(refs))

    found = read_refer(tree, folder="refcocog", by="umd", split="val")

    assert found.refs == expected.refs
    assert found.counts == expected.counts


def test_the_older_variant_with_scalars_and_without_the_flag(tree: Path) -> None:
    def edit(refs: Any) -> None:
        for ref in refs:
            del ref["no_target"]
            if len(ref["ann_id"]) == 1:
                ref["ann_id"], ref["category_id"] = ref["ann_id"][0], ref["category_id"][0]

    expected = read_refer(tree, folder="grefcoco", by="unc", split="val")
    change(tree, "grefs(unc).json", edit)

    assert read_refer(tree, folder="grefcoco", by="unc", split="val").refs == expected.refs


def test_a_sentence_number_that_is_none(tree: Path) -> None:
    change(tree, "grefs(unc).json", lambda refs: refs[1]["sentences"][0].update(sent_id="second"))

    sentence = by_id(read_refer(tree, folder="grefcoco", by="unc", split="val").refs, 1).sentences[0]

    assert sentence.id is None
    assert sentence.text


def test_an_annotation_that_does_not_exist(tree: Path) -> None:
    change(tree, "grefs(unc).json", lambda refs: refs[1].update(ann_id=[198196, 190756]))

    ref = by_id(read_refer(tree, folder="grefcoco", by="unc", split="val").refs, 1)

    assert ref.problem == ("dangling annotation", "annotation 190756, which instances.json does not have")
    assert ref.targets == ()


def test_an_annotation_of_another_picture(tree: Path) -> None:
    change(tree, "grefs(unc).json", lambda refs: refs[1].update(ann_id=[442619]))

    problem = by_id(read_refer(tree, folder="grefcoco", by="unc", split="val").refs, 1).problem

    assert problem == ("dangling annotation", "annotation 442619 of picture 785, the reference is on 40083")


@pytest.mark.parametrize("flag", [True, False])
def test_a_flag_that_contradicts_the_annotations(tree: Path, flag: bool) -> None:
    place = 1 if flag else 0
    change(tree, "grefs(unc).json", lambda refs: refs[place].update(no_target=flag))

    problem = by_id(read_refer(tree, folder="grefcoco", by="unc", split="val").refs, place).problem

    assert problem is not None
    assert problem.reason == "contradiction"


def test_a_picture_in_two_splits_stays_in_both_and_is_told(mini: Path) -> None:
    notes = read_refer(mini, folder="grefcoco", by="unc", split="val").notes

    assert notes == ("pictures that are in train too: 3 (785, 40083, 196141)",)
    pictures = {
        split: {ref.provenance["image_id"] for ref in read_refer(mini, folder="grefcoco", by="unc", split=split).refs}
        for split in ("train", "val")
    }
    assert pictures["train"] & pictures["val"] == {785, 40083, 196141}


def test_repeated_reference_ids_are_told(tree: Path) -> None:
    change(tree, "grefs(unc).json", lambda refs: refs[2].update(ref_id=1))

    raw = read_refer(tree, folder="grefcoco", by="unc", split="val")

    assert [ref.id for ref in raw.refs][:3] == ["0", "1", "1"]
    assert "reference ids that occur more than once: 1 (1)" in raw.notes


def test_references_come_by_id_whatever_the_file_s_order(tree: Path) -> None:
    expected = read_refer(tree, folder="grefcoco", by="unc", split="val")
    change(tree, "grefs(unc).json", lambda refs: refs.reverse())

    assert read_refer(tree, folder="grefcoco", by="unc", split="val").refs == expected.refs


@pytest.mark.parametrize("name", ["000000000785.jpg", "COCO_train2014_000000000785.jpg"])
def test_pictures_by_their_names_of_2014_and_2017(tree: Path, name: str) -> None:
    folder = tree / "other"
    folder.mkdir()
    (folder / name).symlink_to(tree / "images" / "train2014" / "COCO_train2014_000000000785.jpg")

    raw = read_refer(tree, folder="grefcoco", by="unc", split="val", images=folder)

    assert raw.refs[0].picture == PictureFile(folder / name)
    assert raw.refs[1].problem == ("picture missing", f"picture 40083 is not in {folder}")


def test_image_ids_in_file_names() -> None:
    names = ("COCO_train2014_000000000785_442619.jpg", "train2017/000000000785.jpg", "a_1.jpg", "12345678901234.jpg")
    assert [coco_image_id(name) for name in names] == [785, 785, None, None]


def test_what_was_looked_for_is_said(tree: Path) -> None:
    (tree / "images").unlink()
    with pytest.raises(GensegError, match=r"COCO's pictures not found; looked for .*images/mscoco/images/train2014"):
        read_refer(tree, folder="grefcoco", by="unc", split="val")
    with pytest.raises(
        GensegError, match=r"references of refcoco \(unc\) not found; looked for .*refs\(unc\)\.p"
    ) as caught:
        read_refer(tree, folder="refcoco", by="unc", split="val")
    assert "github.com" in caught.value.hint
    assert "--root" in caught.value.hint
    assert caught.value.code == 4


def test_a_split_that_the_set_does_not_have(mini: Path) -> None:
    with pytest.raises(GensegError) as caught:
        read_refer(mini, folder="grefcoco", by="unc", split="testC")
    assert "testA" in caught.value.hint


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda ref: ref.pop("image_id"), "image_id must be a whole number of at most 63 bits, None found"),
        (lambda ref: ref.update(ref_id=True), "ref_id must be a whole number of at most 63 bits, True found"),
        (lambda ref: ref.update(ref_id=2**63), "ref_id must be a whole number of at most 63 bits"),
        (lambda ref: ref.update(ann_id="seven"), "ann_id must be a number or a list of numbers, 'seven' found"),
        (lambda ref: ref.update(ann_id=[True]), "ann_id must be a number or a list of numbers, True found"),
        (lambda ref: ref.update(ann_id=None), "ann_id must be a number or a list of numbers, None found"),
        (lambda ref: ref.update(no_target="false"), "no_target must be true or false, 'false' found"),
        (lambda ref: ref.update(split=1), "split must be a text, 1 found"),
        (lambda ref: ref.update(sentences=["a"]), "sentences must be a list of objects"),
    ],
)
def test_references_of_another_form(tree: Path, edit: Any, words: str) -> None:
    change(tree, "grefs(unc).json", lambda refs: edit(refs[4]))

    with pytest.raises(GensegError, match=f"reference number 4: {words}"):
        read_refer(tree, folder="grefcoco", by="unc", split="val")


def test_numbers_as_whole_floats_and_as_text(tree: Path) -> None:
    def edit(refs: Any) -> None:
        for place, ref in enumerate(refs):
            kind = float if place % 2 else str
            ref.update(ref_id=kind(ref["ref_id"]), image_id=kind(ref["image_id"]), ann_id=[*map(kind, ref["ann_id"])])

    expected = read_refer(tree, folder="grefcoco", by="unc", split="val")
    change(tree, "grefs(unc).json", edit)

    assert read_refer(tree, folder="grefcoco", by="unc", split="val").refs == expected.refs


@pytest.mark.parametrize("ann_id", [[], -1, [-1]])
def test_a_set_that_cannot_say_nothing_matches_has_lost_its_objects(tree: Path, ann_id: Any) -> None:
    """gRefCOCO says so with -1; in RefCOCO, +, g every reference has one object."""
    folder = tree / "refcocog"
    refs = pickle.loads((folder / "refs(umd).p").read_bytes())  # noqa: S301 -- our own file
    refs[0]["ann_id"] = ann_id
    (folder / "refs(umd).p").write_bytes(pickle.dumps(refs, protocol=2))

    ref = by_id(read_refer(tree, folder="refcocog", by="umd", split="val").refs, refs[0]["ref_id"])

    assert ref.problem is not None
    assert ref.problem.reason == "annotation missing"
    refs[0]["no_target"] = True
    (folder / "refs(umd).p").write_bytes(pickle.dumps(refs, protocol=2))
    assert by_id(read_refer(tree, folder="refcocog", by="umd", split="val").refs, refs[0]["ref_id"]).problem is None


def test_no_object_beside_an_object_is_a_contradiction(tree: Path) -> None:
    change(tree, "grefs(unc).json", lambda refs: refs[1].update(ann_id=[*refs[1]["ann_id"], -1]))

    problem = by_id(read_refer(tree, folder="grefcoco", by="unc", split="val").refs, 1).problem

    assert problem is not None
    assert problem.reason == "contradiction"


def test_two_pictures_of_one_id_in_the_objects_file(tree: Path) -> None:
    def edit(content: Any) -> None:
        content["images"].append(content["images"][0] | {"file_name": "other.jpg"})

    change(tree, "instances.json", edit)
    with pytest.raises(GensegError, match=r"instances\.json: two pictures have the id"):
        read_refer(tree, folder="grefcoco", by="unc", split="val")


def test_a_file_name_that_leads_out_costs_no_other_picture(tree: Path) -> None:
    """The picture is found by its number all the same."""
    expected = read_refer(tree, folder="grefcoco", by="unc", split="val")

    def edit(content: Any) -> None:
        for place, image in enumerate(content["images"]):
            image["file_name"] = ("..\\..\\x.jpg", "/x.jpg", "http://x/x.jpg")[place % 3]

    change(tree, "instances.json", edit)
    assert read_refer(tree, folder="grefcoco", by="unc", split="val").refs == expected.refs
