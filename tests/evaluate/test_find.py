"""What the user names, and the prepared samples behind it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gensegcli.errors import ExitCode, GensegError
from gensegcli.evaluate.find import find_set
from gensegcli.prep.run import prepare as prepare_set
from tests.evaluate.conftest import prepared

if TYPE_CHECKING:
    from collections.abc import Callable

    from gensegcli.evaluate.data import EvalSet
    from gensegcli.prep.recipe import Recipe
    from gensegcli.sources.raw import RawSet
    from tests.prep.conftest import Tree


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What had to be prepared; the working directory is empty."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return []


@pytest.fixture
def find(made: list[str], tmp_path: Path) -> Callable[..., EvalSet]:
    def call(what: object, root: Path = tmp_path / "raw", **options: Any) -> EvalSet:
        def prepare(recipe: Recipe, raw: RawSet, out: Path) -> None:
            made.append(out.name)
            prepare_set(recipe, raw, out)

        return find_set(str(what), prepare=prepare, root=root, **options)

    return call


def test_a_recipe_is_prepared_once(find: Callable[..., EvalSet], tree: Tree, made: list[str]) -> None:
    ids = tree.add_picture(1)
    for number in range(4):
        tree.add_ref(1, ids[: number % 3], f"thing {number}", f"it {number}", split="val")
    tree.save()
    data = find("grefcoco", split="val")
    assert data.name == "grefcoco-val"
    assert len(data.index()) == 4
    assert find("grefcoco", split="val") == data
    every = find("grefcoco", split="val", every_sentence=True)
    assert len(every.index()) == 8
    assert every.every_sentence
    assert made == ["grefcoco-val", "grefcoco-val-sentences"]


def test_a_set_prepared_otherwise_is_taken_and_said_so(
    find: Callable[..., EvalSet], tree: Tree, made: list[str]
) -> None:
    ids = tree.add_picture(1)
    tree.add_ref(1, ids, "all", split="val")
    prepared(Path("data/prepared/grefcoco-val"), "grefcoco", tree.save(), **{"select.first": 7})
    (note,) = find("grefcoco", split="val").notes
    assert note == (
        "data/prepared/grefcoco-val was prepared otherwise than the recipe says: select.first was 7, is 1000"
    )
    assert made == []


def test_scenes_have_no_splits_and_need_no_raw_data(
    find: Callable[..., EvalSet], scenes: Path, made: list[str], tmp_path: Path
) -> None:
    shutil.copytree(scenes, tmp_path / "work" / "data" / "prepared" / "scenes-train")
    assert len(find("scenes").index()) == 12
    assert made == []


def test_a_folder_holds_what_it_holds(find: Callable[..., EvalSet], scenes: Path) -> None:
    assert find(scenes, split="val").path == scenes
    with pytest.raises(GensegError, match="holds scenes val, not test"):
        find(scenes, split="test")
    with pytest.raises(GensegError, match="holds one sentence of each reference"):
        find(scenes, every_sentence=True)


def test_shards_without_a_card_are_a_set_too(find: Callable[..., EvalSet], scenes: Path, tmp_path: Path) -> None:
    shutil.copytree(scenes / "data", tmp_path / "loose")
    assert len(find(tmp_path / "loose").index()) == 12
    assert len(find(tmp_path / "loose" / "val-00000.parquet").index()) == 12


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Two rows in the form of the hub copies: a picture, its mask as rows of booleans, an expression."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(2):
        mask = np.zeros((40, 60), bool)
        mask[5 : 20 + number, 10:40] = True
        png = cv2.imencode(".png", rng.integers(0, 255, (40, 60, 3), np.uint8))[1].tobytes()
        rows.append({"image": {"bytes": png, "path": None}, "text": f"thing {number}", "mask": mask.tolist()})
        rows[-1] |= {"image_id": f"p{number}", "ann_id": str(number), "img_height": 40, "img_width": 60}
    path = tmp_path / "theirs.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_a_parquet_file_of_a_known_form_is_prepared_by_its_content(
    find: Callable[..., EvalSet], foreign: Path, made: list[str]
) -> None:
    data = find(foreign)
    assert [(sample.query, len(sample.targets)) for sample in data.samples()] == [("thing 0", 1), ("thing 1", 1)]
    assert find(foreign) == data
    assert len(made) == 1
    pq.write_table(pq.read_table(foreign).slice(0, 1), foreign)
    assert len(find(foreign).index()) == 1, "another content is another set"


def test_a_hub_id_is_its_recipe_or_a_copy_below_the_root(
    find: Callable[..., EvalSet], foreign: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "raw" / "hub" / "Ricky06662__refcocog_val"
    copy.mkdir(parents=True)
    shutil.copy(foreign, copy / "test-00000.parquet")
    assert find("Ricky06662/refcocog_val").name == "refcocog-val-hub-test"
    shutil.copytree(copy, tmp_path / "raw" / "hub" / "some__body")
    assert len(find("some/body").index()) == 2


def test_a_prepared_set_in_the_hub_cache_is_taken_as_it_is(
    find: Callable[..., EvalSet], scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: list[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    repo = tmp_path / "cache" / "datasets--me--mine"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("c0ffee")
    shutil.copytree(scenes, repo / "snapshots" / "c0ffee")
    assert len(find("me/mine").index()) == 12
    assert made == []
    with pytest.raises(GensegError, match=r"me/other: not on this machine .* and HF_HUB_OFFLINE is set"):
        find("me/other")


@pytest.mark.parametrize(
    ("what", "options", "message", "hint"),
    [
        ("refcocgo", {}, "unknown data set 'refcocgo'", "did you mean refcoco"),
        ("grefcoco", {}, "grefcoco: which split? Its own is train", "published: testA, testB, val"),
        ("dis5k", {}, "dis5k: which split? Its own is train", "test1, test2, test3, test4, val"),
        (
            "refcocog",
            {},
            "data/prepared/refcocog-val: not prepared yet, and references of refcocog (umd) not found; looked for",
            "`genseg prep refcocog --split val --for eval` has more options",
        ),
        ("dis5k", {"split": "test9"}, "dis5k has no split 'test9'", "known: train, val, test1"),
        ("coco", {}, "your own data needs --annotations, --images, --expressions", "genseg prep coco --annotations"),
        ("no/where/set", {}, "no/where/set: no such file or folder", ""),
        ("gone.parquet", {}, "gone.parquet: no such file or folder", ""),
        ("own.toml", {}, "own.toml: no such file", ""),
    ],
)
def test_what_is_missing_is_named_with_the_way_to_get_it(
    find: Callable[..., EvalSet], what: str, options: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(GensegError) as caught:
        find(what, **options)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_files_that_are_no_samples(find: Callable[..., EvalSet], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(GensegError, match="no prepared set and no Parquet file") as caught:
        find(tmp_path / "notes.txt")
    assert caught.value.code == ExitCode.NOT_FOUND
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(GensegError, match="columns a are of no form that is known"):
        find(tmp_path / "a.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(GensegError, match="no prepared set and no Parquet file"):
        find(tmp_path / "empty")


# ---------------------------------------------------------------- options that select


def _copies(folder: Path, **rows: int) -> Path:
    """Files of so many rows, each row's expression beginning with the file's name."""
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True)
    for name, number in rows.items():
        content = []
        for place in range(number):
            png = cv2.imencode(".png", rng.integers(0, 255, (40, 60, 3), np.uint8))[1].tobytes()
            mask = np.zeros((40, 60), bool)
            mask[5:20, 10 : 40 + place] = True
            content.append(
                {"image": {"bytes": png, "path": None}, "text": [f"{name} {place}", f"{name} {place} again"]}
            )
            content[-1] |= {"mask": mask.tolist(), "image_id": f"p{place}", "ann_id": str(place)}
        pq.write_table(pa.Table.from_pylist(content), folder / f"{name}-00000-of-00001.parquet")
    return folder


@pytest.mark.parametrize("named", ["hub id", "folder"])
def test_a_split_of_a_copy_is_that_split(find: Callable[..., EvalSet], tmp_path: Path, named: str) -> None:
    folder = _copies(tmp_path / "raw" / "hub" / "some__refs", train=3, test=2)
    what = "some/refs" if named == "hub id" else folder
    assert [sample.query for sample in find(what, split="test").samples()] == ["test 0", "test 1"]
    assert len(find(what, split="train").index()) == 3
    with pytest.raises(GensegError, match="nothing of split 'nosuch'; splits there: test, train"):
        find(what, split="nosuch")
    with pytest.raises(GensegError, match="holds several splits: test, train") as caught:
        find(what)
    assert "--split" in caught.value.hint
    with pytest.raises(GensegError, match="nothing of split 'test'; splits there: train"):
        find(folder / "train-00000-of-00001.parquet", split="test")


def test_every_sentence_of_a_copy(find: Callable[..., EvalSet], tmp_path: Path) -> None:
    folder = _copies(tmp_path / "copies", test=2)
    assert len(find(folder).index()) == 2
    every = find(folder, every_sentence=True)
    assert [sample.query for sample in every.samples()] == ["test 0", "test 0 again", "test 1", "test 1 again"]
    assert len(find(folder).index()) == 2


def test_prepared_shards_without_a_card_know_their_split(
    find: Callable[..., EvalSet], scenes: Path, tmp_path: Path
) -> None:
    loose = tmp_path / "loose"
    shutil.copytree(scenes / "data", loose)
    assert len(find(loose, split="val").index()) == 12
    with pytest.raises(GensegError, match="holds val, not test"):
        find(loose, split="test")
    with pytest.raises(GensegError, match="sentences cannot be added"):
        find(loose, every_sentence=True)
    table = pq.read_table(loose / "val-00000.parquet")
    rows = table.to_pylist()
    for row in rows:
        row["id"], row["provenance"]["split"] = row["id"].replace("val", "test"), "test"
    pq.write_table(pa.Table.from_pylist(rows[:5], table.schema), loose / "b.parquet")
    assert len(find(loose, split="test").index()) == 5
    with pytest.raises(GensegError, match="holds several splits: test, val"):
        find(loose)


def test_the_nearest_folder_is_offered(find: Callable[..., EvalSet], scenes: Path) -> None:
    with pytest.raises(GensegError, match="no such file or folder") as caught:
        find(f"{scenes}x")
    assert caught.value.hint == f"did you mean {scenes}?"
    for name in ("a/" + "b" * 300, "a--b/c"):
        with pytest.raises(GensegError, match="no name that a set of the hub can have"):
            find(name)
    with pytest.raises(GensegError, match="no such file or folder"):
        find("a/b/" + "c" * 300)


def test_a_damaged_card_is_one_line(find: Callable[..., EvalSet], scenes: Path, tmp_path: Path) -> None:
    shutil.copytree(scenes, tmp_path / "work" / "data" / "prepared" / "scenes-train")
    path = Path("data/prepared/scenes-train/dataset.json")
    card = json.loads(path.read_text())
    path.write_text(json.dumps(card | {"recipe": card["recipe"] | {"name": 3}}))
    with pytest.raises(GensegError, match=r"dataset\.json: recipe: name: input should be a valid string, 3 found"):
        find("scenes")
    path.write_text(json.dumps({key: value for key, value in card.items() if key != "purpose"}))
    with pytest.raises(GensegError, match=r"dataset\.json: no purpose"):
        find("scenes")
