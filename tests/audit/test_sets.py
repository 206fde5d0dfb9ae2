"""Every form a set can have: which pictures, which expressions, which ids, and what is said when it cannot be read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gensegcli.audit.sets import Places, annotation_ids, read_set
from gensegcli.errors import ExitCode, GensegError
from gensegcli.evaluate.find import find_set
from gensegcli.prep.inputs import Inputs, read_raw
from gensegcli.prep.recipe import resolve
from gensegcli.prep.run import prepare
from gensegcli.sources.ids import coco_image_id
from tests.audit.conftest import draw_picture

if TYPE_CHECKING:
    from pathlib import Path

REAL = {785, 40083, 142238, 196141, 197388, 439180}


def prepared(root: Path, out: Path, name: str, split: str, purpose: str, **changes: Any) -> Path:
    recipe = resolve(name, split=split, purpose=purpose, changes=changes)
    prepare(recipe, read_raw(recipe, Inputs(root)), out)
    return out


def numbers(found: Any) -> set[int | None]:
    return {picture.image_id for picture in found.pictures}


def png(number: int) -> bytes:
    return cv2.imencode(".png", draw_picture(number))[1].tobytes()


# ---------------------------------------------------------------- raw sets


def test_a_raw_split_needs_no_pictures(mini: Places, tmp_path: Path) -> None:
    for name in ("grefs(unc).json", "instances.json"):
        (tmp_path / "grefcoco").mkdir(exist_ok=True)
        (tmp_path / "grefcoco" / name).write_bytes((mini.root / "grefcoco" / name).read_bytes())

    found = read_set("grefcoco:val", Places(tmp_path))

    assert numbers(found) == {785, 40083, 196141, 197388}
    assert all(picture.source is None for picture in found.pictures)
    assert (len(found.entries), found.refs) == (9, 9)
    assert found.splits["testA"] == {439180}


def test_ids_of_a_raw_set_are_those_of_the_prepared_one(mini: Places, tmp_path: Path) -> None:
    folder = prepared(mini.root, tmp_path, "refcocog", "val", "eval")

    raw = read_set("refcocog:val", mini, evaluated=True)
    stored = read_set(str(folder), mini, evaluated=True)

    assert {entry.id: (entry.query, entry.sentences) for entry in raw.entries} == {
        entry.id: (entry.query, entry.sentences) for entry in stored.entries
    }
    assert numbers(raw) == numbers(stored)
    assert raw.refs == stored.refs == 10


def test_the_whole_split_counts_whatever_the_recipe_would_draw(mini: Places, tmp_path: Path) -> None:
    recipe = tmp_path / "two.toml"
    text = 'split = "val"\n[source]\nkind = "refer"\nfolder = "grefcoco"\nby = "unc"\n[select]\nfirst = 2\n'
    recipe.write_text(text + '[about]\ntitle = "t"\ndescription = "d"\nlicence = "l"\n')
    assert len(read_set(f"{recipe}:val", mini).entries) == 9


@pytest.mark.parametrize("name", ["grefcoco", "grefcoco:train"])
def test_without_a_split_it_is_the_recipes_own(mini: Places, name: str) -> None:
    assert read_set(name, mini).name == "grefcoco:train"


def test_pictures_of_reasonseg_have_no_number(mini: Places) -> None:
    found = read_set("reasonseg:val", mini)
    assert numbers(found) == {None}
    assert {picture.name for picture in found.pictures} == {"785_o.jpg", "196141_o.jpg"}


# ---------------------------------------------------------------- prepared sets


def test_a_prepared_training_set_teaches_what_was_drawn_and_no_more(mini: Places, tmp_path: Path) -> None:
    changes = {"select.count": 4, "select.shares": None, "picture.size": [60, 60]}
    folder = prepared(mini.root, tmp_path, "grefcoco", "train", "train", **changes)

    taught, asked = (read_set(str(folder), mini, evaluated=evaluated) for evaluated in (False, True))

    assert len(taught.entries) == 4
    assert all(entry.sentences == {entry.query} for entry in taught.entries)
    assert sum(len(entry.sentences) for entry in asked.entries) > 4
    assert numbers(taught) <= REAL
    assert taught.pictures[0].source.read().startswith(b"\xff\xd8")


def test_samples_of_generated_scenes_are_a_picture_each(tmp_path: Path) -> None:
    folder = prepared(tmp_path, tmp_path / "set", "scenes", "train", "eval", **{"source.n": 5})
    found = read_set(str(folder), Places(tmp_path))
    assert len(found.pictures) == len(found.entries) == 5


# ---------------------------------------------------------------- copies of the hub


def hub_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    return path


def framed(number: int) -> bytes:
    """A picture of the size in whose pixels solutions are."""
    return cv2.imencode(".png", cv2.resize(draw_picture(number), (840, 840)))[1].tobytes()


def solution(number: int) -> dict[str, Any]:
    answer = json.dumps([{"bbox_2d": [0, 0, 84, 84], "point_2d": [4, 4]}])
    return {"image": {"bytes": framed(number), "path": None}, "problem": f"thing {number}", "solution": answer}


def test_ids_of_visionreasoner_lead_to_pictures_through_instances(mini: Places, tmp_path: Path) -> None:
    annotations = json.loads((mini.root / "refcocog/instances.json").read_bytes())["annotations"]
    on_785 = [a["id"] for a in annotations if a["image_id"] == 785]
    on_40083 = [a["id"] for a in annotations if a["image_id"] == 40083][:2]
    ids = [
        f"refcocog_{on_785[0]}",
        "grefcoco_" + "_".join(map(str, on_40083)),
        f"lvis_{on_785[0]}",  # LVIS numbers its own objects: the same number is another one
        f"refcocog_{on_785[0]}_{on_40083[0]}",  # of two pictures: of neither
        "refcocog_1",  # nowhere
    ]
    file = hub_file(tmp_path / "vr.parquet", [solution(n) | {"id": id_} for n, id_ in enumerate(ids)])

    found = read_set(str(file), mini)

    assert [found.pictures[entry.picture].image_id for entry in found.entries] == [785, 40083, None, None, None]
    assert found.notes == (
        f"{file}: 2 samples have annotation ids that lead to no picture; name their COCO file with --annotations",
    )
    assert [entry.query for entry in found.entries] == [f"thing {n}" for n in range(5)]
    assert found.pictures[2].source.read() == framed(2)
    assert numbers(read_set(str(file), Places(tmp_path))) == {None}, "without instances.json nobody knows"
    by_hand = Places(tmp_path, annotations=mini.root / "refcocog/instances.json")
    assert numbers(read_set(str(file), by_hand)) == {785, 40083, None}


def test_the_recipe_of_a_hub_set_and_the_prepared_set_know_the_same_pictures(mini: Places, tmp_path: Path) -> None:
    annotation = json.loads((mini.root / "refcocog/instances.json").read_bytes())["annotations"][0]
    folder = tmp_path / "hub" / "Ricky06662__VisionReasoner_multi_object_7k_840"
    folder.mkdir(parents=True)
    hub_file(folder / "train-00000-of-00001.parquet", [solution(1) | {"id": f"refcocog_{annotation['id']}"}])
    places = Places(tmp_path, annotations=mini.root / "refcocog/instances.json")
    stored = prepared(tmp_path, tmp_path / "set", "visionreasoner-7k", "train", "train")

    for name in ("visionreasoner-7k", "Ricky06662/VisionReasoner_multi_object_7k_840", str(stored)):
        found = read_set(name, places)
        assert numbers(found) == {annotation["image_id"]}, name
        assert [entry.id for entry in found.entries] == [
            f"visionreasoner-7k-train-000000-refcocog_{annotation['id']}-0"
        ]


def test_a_parquet_file_of_no_recipe_has_the_ids_that_eval_gives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = np.zeros((64, 96), bool)
    mask[10:30, 10:30] = True
    row = {"text": "A dog.", "mask": mask.tolist(), "image_id": "COCO_train2014_000000000785", "ann_id": 3}
    rows = [row | {"image": {"bytes": png(1), "path": None}, "ann_id": number} for number in (3, 4)]
    file = hub_file(tmp_path / "my set.parquet", rows)
    monkeypatch.chdir(tmp_path)

    found = read_set(str(file), Places(tmp_path))

    assert numbers(found) == {785}
    assert len(found.pictures) == 1
    assert found.entries[0].query == "a dog"
    scored = find_set(str(file), prepare=prepare, root=tmp_path)
    assert [entry.id for entry in found.entries] == [place.id for place in scored.index()]


def test_all_sentences_and_file_name_of_a_flat_polygon_set(tmp_path: Path) -> None:
    row = {"question_id": "q", "answer": ["A dog", "a dog.", "the dog"], "segmentation": [1.0, 1.0, 5.0, 1.0, 5.0, 3.0]}
    row |= {"image": {"bytes": png(1), "path": None}, "file_name": "COCO_train2014_000000380440_491042.jpg"}
    found = read_set(str(hub_file(tmp_path / "a.parquet", [row])), Places(tmp_path))

    assert numbers(found) == {380440}
    assert found.entries[0].sentences == {"a dog", "the dog"}


# ---------------------------------------------------------------- lists and folders


def test_a_list_names_pictures_in_any_way(mini: Places, tmp_path: Path) -> None:
    annotation = json.loads((mini.root / "refcocog/instances.json").read_bytes())["annotations"][0]
    lines = [
        "# what we trained on",
        "",
        "COCO_train2014_000000000785.jpg",
        "train2017/000000040083.jpg",
        "197388",
        f"refcocog_{annotation['id']}",
        "holiday.jpg",
    ]
    (tmp_path / "names.txt").write_text("\n".join(lines))
    (tmp_path / "holiday.jpg").write_bytes(png(1))

    found = read_set(str(tmp_path / "names.txt"), mini)

    assert numbers(found) == {785, 40083, 197388, annotation["image_id"], None}
    assert next(picture for picture in found.pictures if picture.name == "holiday.jpg").source.read() == png(1)
    assert [entry.id for entry in found.entries] == lines[2:]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'id,image,query\ns1,785,"A dog, left."\ns2,000000040083.jpg,\n'),
        ("a.tsv", "image\tid\tquery\n785\ts1\tA dog, left.\n000000040083.jpg\ts2\n"),
        ("a.jsonl", '{"id": "s1", "image": 785, "query": "A dog, left."}\n{"id": "s2", "image": "000000040083.jpg"}\n'),
    ],
)
def test_a_list_may_have_ids_and_expressions(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    found = read_set(str(tmp_path / name), Places(tmp_path))

    assert [(entry.id, entry.query) for entry in found.entries] == [("s1", "a dog, left"), ("s2", "")]
    assert [picture.image_id for picture in found.pictures] == [785, 40083]


def test_lines_that_cannot_be_read_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    bad = ['{"image": ', "[1]", '{"query": "a"}', '{"image": true}', '{"image": 1, "query": 2}', '{"image": ""}', "x"]
    (tmp_path / "a.jsonl").write_text("\n".join([*bad, '{"image": 785}']))

    found = read_set(str(tmp_path / "a.jsonl"), Places(tmp_path))

    assert numbers(found) == {785}
    assert len(found.notes) == 6
    assert found.notes[0].startswith(f"{tmp_path / 'a.jsonl'}:1: not JSON")
    assert found.notes[2].endswith(":3: no picture is named")
    assert found.notes[5] == f"{tmp_path / 'a.jsonl'}: 2 more lines that cannot be read"


def test_a_binary_file_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\x00\xff\x00\n\xfe\x01\n")
    with pytest.raises(GensegError, match="holds no pictures") as caught:
        read_set(str(tmp_path / "a.txt"), Places(tmp_path))
    assert "a.txt:1: not text" in caught.value.hint


def test_a_folder_of_pictures(mini: Places) -> None:
    found = read_set(str(mini.root / "images"), mini)
    assert numbers(found) == REAL
    assert found.pictures[0].name == "train2014/COCO_train2014_000000000785.jpg"
    assert all(not entry.query and not entry.sentences for entry in found.entries)


# ---------------------------------------------------------------- what there is not


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("refcocg:val", "unknown set 'refcocg'", "did you mean refcocog?"),
        ("refcocog:vall", "unknown split of refcocog 'vall'", "did you mean val?"),
        ("Ricky06662/refcocog_vall", "unknown set", "did you mean Ricky06662/refcocog_val?"),
        ("names.txt", "names.txt: no such file", ""),
        ("set.parquet", "set.parquet: no such file", ""),
        ("mine.toml", "mine.toml: no such file", ""),
        ("coco", "coco:train: one's own data is audited prepared", "genseg prep coco"),
    ],
)
def test_a_name_that_leads_nowhere(mini: Places, name: str, message: str, hint: str) -> None:
    with pytest.raises(GensegError) as caught:
        read_set(name, mini)
    assert caught.value.message.startswith(message)
    assert hint in caught.value.hint


def test_raw_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(GensegError, match="references of refcocog") as caught:
        read_set("refcocog:val", Places(tmp_path))
    assert caught.value.code == ExitCode.NOT_FOUND


def test_an_empty_folder_and_a_folder_that_is_none(mini: Places, tmp_path: Path) -> None:
    with pytest.raises(GensegError, match="holds no pictures"):
        read_set(str(tmp_path), mini)
    with pytest.raises(GensegError, match="no such folder"):
        read_set("refcocog:val", Places(mini.root, images=tmp_path / "gone"))


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(GensegError, match="not a Parquet file"):
        read_set(str(tmp_path / "a.parquet"), Places(tmp_path))


def test_only_sets_of_the_refcoco_family_number_cocos_objects() -> None:
    assert annotation_ids("refcoco+_12") == annotation_ids("RefCOCO+_12") == (12,)
    assert annotation_ids("5_6") == (5, 6)
    assert not any(map(annotation_ids, ["lvis_5", "lisa++_5_6", "12", "refcocog", "000000000785", "refcocog_5.jpg"]))


# ---------------------------------------------------------------- spellings


@pytest.mark.parametrize(
    "image", ["785", "785.0", " 785 ", "785.00", "000000000785.jpg", "x/COCO_val2014_000000000785.jpg"]
)
@pytest.mark.parametrize("form", ["csv", "jsonl", "txt"])
def test_a_number_is_coco_s_however_it_is_spelt(tmp_path: Path, image: str, form: str) -> None:
    file = tmp_path / f"seen.{form}"
    texts = {
        "csv": f"image,query\n{image}, Red cup. \n786,x\n",
        "jsonl": json.dumps({"image": image}),
        "txt": f"{image}\n",
    }
    file.write_text(texts[form])
    found = read_set(str(file), Places(tmp_path))
    assert found.pictures[0].image_id == 785
    assert found.lost == 0
    if form == "csv":
        assert found.entries[0].query == "red cup"


def test_numbers_of_json_lines_may_be_whole_floats(tmp_path: Path) -> None:
    (tmp_path / "seen.jsonl").write_text('{"image": 785.0}\n{"image": 785.5}\n{"image": true}\n')
    found = read_set(str(tmp_path / "seen.jsonl"), Places(tmp_path))
    assert [picture.image_id for picture in found.pictures] == [785, None]
    assert found.lost == 1


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("202311280657.jpg", None),
        ("cam_202311280657.jpg", None),
        ("20231128065712.jpg", None),
        ("COCO_test2015_202311280657.jpg", 202311280657),
        ("val2017/202311280657.jpg", 202311280657),
        ("photos/000000581929.jpg", 581929),
        ("000001000000.jpg", None),
        ("val2017\\000000000785.jpg", 785),
    ],
)
def test_twelve_digits_alone_may_be_a_time_of_day(name: str, number: int | None) -> None:
    assert coco_image_id(name) == number


def test_two_samples_of_one_id_on_two_pictures_are_refused(tmp_path: Path) -> None:
    """One of them might be clean and the other not."""
    (tmp_path / "e.csv").write_text("image,query,id\n1,a,q\n2,b,q\n")
    with pytest.raises(GensegError, match="two pictures have samples of the id 'q'"):
        read_set(str(tmp_path / "e.csv"), Places(tmp_path), evaluated=True)
    (tmp_path / "e.csv").write_text("image,query\n1,a\n1,b\n")
    assert len(read_set(str(tmp_path / "e.csv"), Places(tmp_path), evaluated=True).entries) == 2


def test_several_splits_of_a_copy(tmp_path: Path) -> None:
    for name in ("train", "test"):
        hub_file(tmp_path / f"{name}-00000-of-00001.parquet", [solution(1)])
    trained = read_set(str(tmp_path), Places(tmp_path))
    assert trained.notes == (f"{tmp_path}: holds several splits: test, train; all of them are taken",)
    with pytest.raises(GensegError, match="holds several splits: test, train"):
        read_set(str(tmp_path), Places(tmp_path), evaluated=True)


def test_pictures_of_formats_that_are_not_read_are_counted(tmp_path: Path) -> None:
    (tmp_path / "785.png").write_bytes(png(1))
    for name in ("a.HEIC", "b.heic", "c.NEF", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    found = read_set(str(tmp_path), Places(tmp_path))
    assert (len(found.pictures), found.lost) == (1, 3)
    assert found.notes == (
        f"{tmp_path}: 2 pictures left out: .heic is not read",
        f"{tmp_path}: 1 pictures left out: .nef is not read",
    )
