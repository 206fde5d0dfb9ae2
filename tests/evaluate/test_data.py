"""Which samples are read, in which order, and what is said when they cannot be."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from gensegcli.errors import ExitCode, GensegError
from gensegcli.evaluate.data import choose, open_set
from gensegcli.sources.prepared import read_prepared
from tests.evaluate.conftest import prepared

if TYPE_CHECKING:
    from pathlib import Path

    from tests.prep.conftest import Tree


def test_a_folder_of_prepared_sets_is_none(scenes: Path, tmp_path: Path) -> None:
    """Read as one, what is learned and what is held out would be mixed."""
    for name in ("train", "held-out"):
        shutil.copytree(scenes, tmp_path / name)
    with pytest.raises(GensegError, match="not one prepared set, it holds 2") as caught:
        open_set(tmp_path)
    assert caught.value.hint == f"name one: {tmp_path / 'held-out'}, {tmp_path / 'train'}"
    (tmp_path / "train" / "dataset.json").unlink()
    (tmp_path / "held-out" / "dataset.json").unlink()
    assert len(open_set(tmp_path).shards) == 2, "Parquet files alone are taken as they lie"


def test_a_prepared_folder_and_its_shard_hold_the_same_samples(scenes: Path) -> None:
    folder, file = open_set(scenes), open_set(scenes / "data" / "val-00000.parquet")
    assert folder.name == "scenes-val"
    assert list(folder.samples()) == list(read_prepared(scenes)) == list(file.samples())
    assert folder.has_masks()
    assert not folder.foreground
    assert folder.every_sentence is False
    assert file.every_sentence is None, "a shard alone does not say"
    places = folder.index()
    assert [(place.id, place.query, place.size) for place in places] == [
        (sample.id, sample.query, sample.size) for sample in folder.samples()
    ]
    bare = next(folder.samples({places[3].id}, pictures=False))
    assert (bare.id, bare.image) == (places[3].id, b"")
    assert bare.targets == next(folder.samples({places[3].id})).targets


@pytest.fixture
def interleaved(tree: Tree, tmp_path: Path) -> Path:
    """Six references of two pictures in turns: 0 2 4 of one, 1 3 5 of the other; 4 and 5 mean nothing. Two sentences each."""
    ids = {number: tree.add_picture(number) for number in (1, 2)}
    for ref in range(6):
        picture = 1 + ref % 2
        tree.add_ref(picture, [] if ref >= 4 else ids[picture][: 1 + ref // 2], f"a {ref}", f"b {ref}", split="val")
    return prepared(tmp_path / "interleaved", "grefcoco", tree.save())


def test_a_limit_counts_references_by_their_numbers_not_rows(interleaved: Path) -> None:
    data = open_set(interleaved)
    assert [place.ref for place in data.index()] == [0, 2, 4, 1, 3, 5], "the samples of a picture stand together"
    first = choose(data, limit=3)
    assert [place.ref for place in data.index() if place.id in first.ids] == [0, 2, 1]
    assert first.digest is not None
    assert choose(data, limit=6) == choose(data, limit=99) == choose(data)
    assert choose(data).digest is None


def test_a_limit_takes_every_sentence_of_its_references(tree: Tree, tmp_path: Path) -> None:
    (ann_id, *_), (other, *_) = tree.add_picture(1), tree.add_picture(2)
    tree.add_ref(1, [ann_id], "a", "b", split="val")
    tree.add_ref(2, [other], "c", "d", "e", split="val")
    out = prepared(tmp_path / "set", "grefcoco", tree.save(), **{"select.per": "sentence", "select.first": 0})
    assert open_set(out).every_sentence
    assert len(choose(open_set(out), limit=1).ids) == 2
    assert len(choose(open_set(out), limit=2).ids) == 5


def test_grefcoco_reads_1000_references_in_the_order_of_their_numbers(tree: Tree, tmp_path: Path) -> None:
    """The published 642/358 is the first 1,000 references: prepared that way, and a limit on a larger set agrees."""
    ids = {number: tree.add_picture(number) for number in range(1, 21)}
    for ref in range(1100):
        # Every third of the first 1,000 means nothing, and all after them.
        picture = 1 + ref % 20
        tree.add_ref(picture, [] if ref % 3 == 0 or ref >= 1000 else ids[picture][:2], f"expression {ref}", split="val")
    root = tree.save()
    small = open_set(prepared(tmp_path / "first", "grefcoco", root))
    large = open_set(prepared(tmp_path / "all", "grefcoco", root, **{"select.first": 0}))
    chosen = choose(large, limit=1000)
    assert set(chosen.ids) == {place.id for place in small.index()}
    assert len(large.index()) == 1100
    assert sum(sample.no_target for sample in small.samples(pictures=False)) == 334


def test_a_subset_file_names_samples(scenes: Path, tmp_path: Path) -> None:
    data = open_set(scenes)
    names = [place.id for place in data.index()]
    path = tmp_path / "clean.ids"
    path.write_text(f"{names[5]}\n\n  {names[2]} \nelsewhere-1\n")
    chosen = choose(data, subset=path)
    assert chosen.ids == (names[2], names[5]), "in the order of the set"
    assert chosen.notes == ("1 ids of clean.ids are not in the set (the first: elsewhere-1)",)
    assert choose(data, subset=path, limit=3).ids == (names[2],)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\n \n", "clean.ids: names no samples"),
        ("nothing\nof\nthis\n", "none of its 3 ids is a sample of scenes-val"),
        (None, "clean.ids: cannot be read (No such file or directory)"),
        (b"\xff\xfe", "clean.ids: UTF-16, expected UTF-8"),
    ],
)
def test_a_subset_without_samples_is_an_error(scenes: Path, tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "clean.ids"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(GensegError) as caught:
        choose(open_set(scenes), subset=path)
    assert message in caught.value.message


def test_what_a_set_lost_in_preparation_is_told(tree: Tree, tmp_path: Path) -> None:
    ids = tree.add_picture(1)
    for number in range(200):
        tree.add_ref(1, ids[:1], f"thing {number}", split="val")
    tree.add_ref(99, ids[:1], "in no picture", split="val")
    data = open_set(prepared(tmp_path / "set", "grefcoco", tree.save()))
    assert data.notes == (f"1 samples could not be prepared and are in no score: {tmp_path / 'set' / 'skipped.jsonl'}",)


def test_damage_is_one_line(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(GensegError, match="no prepared set") as caught:
        open_set(tmp_path / "gone")
    assert caught.value.code == ExitCode.NOT_FOUND
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(GensegError, match="not a readable Parquet file"):
        open_set(bad)
    other = tmp_path / "other.parquet"
    pq.write_table(pq.read_table(scenes / "data").drop_columns(["targets", "ignore"]), other)
    with pytest.raises(GensegError, match=r"of their 13 columns ignore, targets are missing"):
        open_set(other)
    twice = tmp_path / "twice"
    twice.mkdir()
    for name in ("a", "b"):
        (twice / f"{name}.parquet").write_bytes((scenes / "data" / "val-00000.parquet").read_bytes())
    with pytest.raises(GensegError, match="2 samples have the id 'scenes-val-"):
        open_set(twice).index()
