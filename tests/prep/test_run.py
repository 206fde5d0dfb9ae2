"""Whole preparations: the same bytes on any number of workers and after any kill, exact counts, honest accounts."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow.parquet as pq
import pytest

from gensegcli.errors import ExitCode, GensegError
from gensegcli.prep import run as run_module
from gensegcli.prep import store
from gensegcli.prep.build import Built
from gensegcli.prep.check import check
from gensegcli.prep.run import Report, prepare
from gensegcli.records import Sample, Size
from gensegcli.sources.prepared import read_card, read_prepared, read_shard, to_row
from tests.prep.conftest import HEIGHT, WIDTH, Tree, recipe, small

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gensegcli.prep.recipe import Recipe


def digests(out: Path) -> dict[str, str]:
    files = [*sorted((out / "data").glob("*.parquet")), out / "dataset.json", out / "README.md"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def many_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 40 samples, so that small trees have several; workers need not know, the parent cuts."""
    monkeypatch.setattr(run_module, "SHARD_SAMPLES", 40)


def made(tree: Tree, out: Path, wanted: Recipe, **options: Any) -> Report:
    return prepare(wanted, tree.raw(wanted), out, **options)


@pytest.mark.slow
def test_the_same_bytes_with_one_worker_and_with_two(full_tree: Tree, tmp_path: Path, many_shards: None) -> None:
    one = made(full_tree, tmp_path / "one", small(), workers=1)
    made(full_tree, tmp_path / "two", small(), workers=2)

    assert one.tally.samples == 24 * 14
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert len(digests(tmp_path / "one")) == 8 + 2


def test_a_run_that_was_stopped_goes_on_and_ends_with_the_same_bytes(
    full_tree: Tree, tmp_path: Path, many_shards: None
) -> None:
    made(full_tree, tmp_path / "whole", small())

    class StopError(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.done >= 120:
            raise StopError

    with pytest.raises(StopError):
        made(full_tree, tmp_path / "cut", small(), tell=stop)
    assert not (tmp_path / "cut" / "dataset.json").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cut" / "data").glob("*.parquet")}
    assert 0 < len(kept) < 8
    (tmp_path / "cut" / "data" / ".train-00006.parquet.1.partial").write_bytes(b"half")

    report = made(full_tree, tmp_path / "cut", small())

    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")
    assert report.built_now < report.tally.samples
    assert all((tmp_path / "cut" / "data" / name).stat().st_mtime_ns == when for name, when in kept.items())
    assert not list((tmp_path / "cut" / "data").glob(".*"))


_PROGRAM = """
import sys
from pathlib import Path
from gensegcli.prep import run
from gensegcli.prep.inputs import Inputs, read_raw
from gensegcli.prep.recipe import resolve

if __name__ == "__main__":
    root, out, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    run.SHARD_SAMPLES = 40
    recipe = resolve("grefcoco", assignments=["picture.size=[60, 60]", "select.count=0"])
    raw = read_raw(recipe, Inputs(root))
    print("ready", flush=True)
    run.prepare(recipe, raw, out, workers=workers, tell=lambda p: print(p.done, flush=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_outright_and_run_again(full_tree: Tree, tmp_path: Path, many_shards: None, workers: int) -> None:
    """SIGKILL after 0, 1, 2, … shards, each time going on where the last run was shot; no orphan is left behind."""
    made(full_tree, tmp_path / "whole", small())
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM)
    arguments = [sys.executable, str(program), str(full_tree.root), str(tmp_path / "shot"), str(workers)]
    for shots in range(3):
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        # The first line is "ready", the second tells what earlier runs left.
        for _ in zip(range(2 + (shots > 0)), lines, strict=False):
            pass
        time.sleep(0.02 * shots)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        _wait_for_group_to_end(process.pid)
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)

    assert digests(tmp_path / "shot") == digests(tmp_path / "whole")
    assert check(tmp_path / "shot").number == 0


def _wait_for_group_to_end(group: int) -> None:
    """Workers notice that their parent is gone; this is also the test that they do."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("workers outlive their parent by ten seconds")


def _command(tree: Tree, out: Path, side: int = 60) -> list[str]:
    options = ["--set", f"picture.size=[{side}, {side}]", "--set", "select.count=0", "--workers", "2"]
    return [sys.executable, "-m", "gensegcli", "prep", "grefcoco", "--root", str(tree.save()), "-o", str(out), *options]


@pytest.mark.slow
def test_interrupted_at_the_keyboard_and_run_again(full_tree: Tree, tmp_path: Path) -> None:
    made(full_tree, tmp_path / "whole", recipe("picture.size=[1600, 1600]", "select.count=0"))
    command = _command(full_tree, tmp_path / "out", side=1600)  # slow enough to be interrupted
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    _wait_for(lambda: len(list((tmp_path / "out").glob("data/*"))) == 2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, words = process.communicate(timeout=120)

    assert process.returncode == ExitCode.INTERRUPTED, words
    assert words.splitlines()[-1] == "interrupted: run the same command again to go on"
    assert "Traceback" not in words
    _wait_for_group_to_end(process.pid)
    subprocess.run(command, check=True, capture_output=True)
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def _wait_for(happened: Callable[[], bool]) -> None:
    for _ in range(2400):
        if happened():
            return
        time.sleep(0.05)
    pytest.fail("nothing happened in two minutes")


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_run_goes_on_later(full_tree: Tree, tmp_path: Path, many_shards: None) -> None:
    """A limit on the size of files stands for the full disk: the same error of the operating system, in a worker."""
    made(full_tree, tmp_path / "whole", small())
    command = _command(full_tree, tmp_path / "out")
    code = (
        "import resource, sys\n"
        "from gensegcli.cli.app import main\n"
        "from gensegcli.prep import run\n"
        "if __name__ == '__main__':\n"
        "    run.SHARD_SAMPLES = 40\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)\n"
        "    main()\n"
    )
    (tmp_path / "program.py").write_text(code)
    largest = max(path.stat().st_size for path in (tmp_path / "whole" / "data").iterdir())
    short, enough = (
        subprocess.run(
            [sys.executable, str(tmp_path / "program.py"), str(room), *command[3:]],
            capture_output=True,
            text=True,
            check=False,
        )
        for room in (largest - 1, 1 << 30)
    )

    assert short.returncode == ExitCode.ENVIRONMENT, short.stderr
    error, hint = short.stderr.splitlines()[-2:]
    assert error.endswith("cannot be saved (File too large)")
    assert "finished shards are not lost" in hint
    assert enough.returncode == 0, enough.stderr
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_a_set_that_is_built_anew_is_not_whole_until_it_is(full_tree: Tree, tmp_path: Path, many_shards: None) -> None:
    made(full_tree, tmp_path, small())
    (tmp_path / "data" / "train-00002.parquet").unlink()

    def stop(_progress: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(full_tree, tmp_path, small(), tell=stop)
    with pytest.raises(GensegError, match="a preparation that did not end"):
        read_card(tmp_path)


def test_shards_of_raw_files_that_held_more_are_not_left_behind(
    full_tree: Tree, tmp_path: Path, many_shards: None
) -> None:
    """Whoever opens data/*.parquet would read them."""
    made(full_tree, tmp_path, small())
    for number in range(1, 13):
        full_tree.picture(number).unlink()

    report = made(full_tree, tmp_path, small(), max_skipped=1)

    assert report.tally.samples == 12 * 14
    assert pq.ParquetDataset(tmp_path / "data").read(columns=["id"]).num_rows == 12 * 14
    assert check(tmp_path).problems == []


@pytest.mark.parametrize("name", ["README.md", "dataset.json", "data/mine.parquet"])
@pytest.mark.parametrize("restart", [False, True])
def test_a_folder_of_something_else_is_not_written_over(
    full_tree: Tree, tmp_path: Path, name: str, restart: bool
) -> None:
    (tmp_path / "out" / "data").mkdir(parents=True)
    (tmp_path / "out" / name).write_text("mine")

    with pytest.raises(GensegError, match=f"holds a {name} that is not of a preparation here"):
        made(full_tree, tmp_path / "out", small(), restart=restart)
    assert (tmp_path / "out" / name).read_text() == "mine"


def test_a_damaged_shard_is_made_anew(full_tree: Tree, tmp_path: Path, many_shards: None) -> None:
    made(full_tree, tmp_path, small())
    before = digests(tmp_path)
    shard = tmp_path / "data" / "train-00002.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])

    made(full_tree, tmp_path, small())

    assert digests(tmp_path) == before


def test_another_recipe_or_other_raw_files_are_refused_in_the_same_folder(full_tree: Tree, tmp_path: Path) -> None:
    made(full_tree, tmp_path / "out", small())
    with pytest.raises(GensegError, match=r"recipe\.select\.seed was 0, is 1"):
        made(full_tree, tmp_path / "out", small("select.seed=1"))
    full_tree.refs[0]["sentences"][0]["sent"] = "changed"
    with pytest.raises(GensegError, match="sources") as caught:
        made(full_tree, tmp_path / "out", small())
    assert "--restart" in caught.value.hint

    made(full_tree, tmp_path / "out", small(), restart=True)
    assert next(read_prepared(tmp_path / "out")).query == "changed"


def test_two_at_a_time_are_refused(full_tree: Tree, tmp_path: Path) -> None:
    from gensegcli.store import locked

    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"), pytest.raises(GensegError, match="another genseg is writing"):
        made(full_tree, tmp_path / "out", small())


# ---------------------------------------------------------------- counts


def test_a_draw_stays_exact_when_pictures_are_damaged(full_tree: Tree, tmp_path: Path, many_shards: None) -> None:
    for number in (2, 11):
        full_tree.picture(number).write_bytes(b"gone")
    wanted = small(count=120)

    report = made(full_tree, tmp_path, wanted, max_skipped=0.2)

    assert report.tally.samples == 120
    assert (report.tally.no_target, report.tally.single, report.tally.multi) == (30, 42, 48), "each kind made up for"
    assert len(report.skips) >= 10
    listed = [orjson.loads(line) for line in (tmp_path / "skipped.jsonl").read_bytes().splitlines()]
    assert {line["reason"] for line in listed} == {"picture damaged"}
    assert len(listed) == len(report.skips) == sum(read_card(tmp_path)["skipped"].values())
    assert made(full_tree, tmp_path, wanted, max_skipped=0.2).built_now == 0, "a second run finds all rounds done"


def test_a_draw_that_cannot_be_exact_is_an_error_before_anything_is_written(full_tree: Tree, tmp_path: Path) -> None:
    with pytest.raises(GensegError, match=r"only \d+ can be drawn") as caught:
        made(full_tree, tmp_path / "out", small(count=15285))
    assert "complete" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_too_many_skipped_is_an_error_after_everything_usable_is_written(full_tree: Tree, tmp_path: Path) -> None:
    full_tree.picture(5).write_bytes(b"gone")
    full_tree.refs[0]["ann_id"], full_tree.refs[0]["no_target"] = [99], False

    with pytest.raises(GensegError, match=r"18 samples could not be used \(4\.\d%, more than 1\.0%\)") as caught:
        made(full_tree, tmp_path, small())

    assert caught.value.code == ExitCode.SOME_FAILED
    card = read_card(tmp_path)
    assert card["counts"]["samples"] == 24 * 14 - 18
    assert card["skipped"] == {"dangling annotation": 4, "picture damaged": 14}
    assert check(tmp_path).number == 0


def test_the_first_thousand_references_of_validation_are_642_and_358(tmp_path: Path) -> None:
    """The recipe's reading, on references with the real proportions: by reference id, whatever the file's order."""
    tree = Tree(tmp_path / "raw")
    ids = tree.add_picture(1)
    kinds = [*[True] * 358, *[False] * 642, *[True] * 300]
    for place in range(1000):  # spread evenly
        kinds[place] = (place * 358) // 1000 != ((place + 1) * 358) // 1000
    for empty in kinds:
        tree.add_ref(1, [] if empty else ids[:2], "first", "second", split="val")
    tree.refs.sort(key=lambda ref: -ref["ref_id"])

    report = made(tree, tmp_path / "out", recipe(split="val", purpose="eval"))

    assert (report.tally.samples, report.tally.no_target, report.tally.multi) == (1000, 358, 642)
    assert {sample.query for sample in read_prepared(tmp_path / "out")} == {"first"}


# ---------------------------------------------------------------- what is written


def test_datasets_opens_the_shards_with_pictures(full_tree: Tree, tmp_path: Path, many_shards: None) -> None:
    datasets = pytest.importorskip("datasets")
    made(full_tree, tmp_path / "out", small())
    options = {"split": "train", "cache_dir": str(tmp_path / "cache")}

    rows = datasets.load_dataset("parquet", data_files=str(tmp_path / "out" / "data" / "*.parquet"), **options)
    folder = datasets.load_dataset(str(tmp_path / "out"), **options)

    assert len(rows) == len(folder) == 24 * 14
    assert rows[5]["image"].size == (60, 60)
    assert rows[5]["targets"][0]["mask"]["size"] == [60, 60]
    ours = next(sample for number, sample in enumerate(read_prepared(tmp_path / "out")) if number == 5)
    assert rows[5]["query"] == ours.query
    assert rows[5]["targets"] == to_row(ours)["targets"]


def test_samples_come_back_as_they_were(full_tree: Tree, tmp_path: Path) -> None:
    report = made(full_tree, tmp_path, small())

    samples = list(read_prepared(tmp_path))

    assert len(samples) == report.tally.samples
    assert all(isinstance(sample, Sample) for sample in samples)
    first = samples[4]
    assert first.query == "corner 0"
    assert first.sentences == ("corner 0", "the shape 0")
    assert first.provenance == {
        "dataset": "grefcoco",
        "split": "train",
        "ref_id": 1,
        "sent_id": 100,
        "image_id": 1,
        "file_name": "COCO_train2014_000000000001.jpg",
    }
    assert first.targets[0].ann_id == 1000


def test_pictures_that_several_samples_share_are_stored_once(full_tree: Tree, tmp_path: Path) -> None:
    report = made(full_tree, tmp_path, small("picture.size=[240, 160]"))

    bytes_of = {sample.image for sample in read_prepared(tmp_path)}
    assert len(bytes_of) == 24
    assert report.tally.bytes < 2 * sum(map(len, bytes_of)) < sum(len(s.image) for s in read_prepared(tmp_path))


def test_masks_are_pycocotools_s_as_they_stand(full_tree: Tree, tmp_path: Path) -> None:
    from pycocotools import mask as coco

    made(full_tree, tmp_path, small())
    table = pq.read_table(tmp_path / "data" / "train-00000.parquet", columns=["targets"])

    target = table.column("targets")[4].as_py()[0]

    assert coco.area(target["mask"]) > 0


def test_the_card_compares_with_what_is_published(full_tree: Tree, tmp_path: Path) -> None:
    made(full_tree, tmp_path, small())
    text = (tmp_path / "README.md").read_text()

    assert "| refs | 144 | 78,930 |" in text
    assert "| sentences | 336 | 209,344 |" in text
    assert "| no target | 96 |" in text
    assert "objects with 2 negative points" in text
    assert "Licence" in text
    assert {path.name for path in (tmp_path / "samples").iterdir()} == {"none.jpg", "one.jpg", "several.jpg"}
    json.loads((tmp_path / "dataset.json").read_text())


def test_many_samples_of_one_large_picture_do_not_fill_the_memory(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their bytes are stored once a row group, and a group is closed when what it stands for would not fit."""
    ids = tree.add_picture(1)
    tree.add_ref(1, ids[:1], *(f"the corner {number}" for number in range(50)))
    monkeypatch.setattr(store, "GROUP_BYTES", 10 * tree.picture(1).stat().st_size)

    made(tree, tmp_path, small(f"picture.size=[{WIDTH}, {HEIGHT}]"))

    metadata = pq.read_metadata(tmp_path / "data" / "train-00000.parquet")
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [10] * 5
    assert len({sample.id for sample in read_prepared(tmp_path)}) == 50


def test_memory_does_not_grow_with_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "GROUP_SAMPLES", 4)

    def pictures(number: int) -> Iterator[Built]:
        for place in range(number):
            yield Built([Sample(str(place), "it", bytes([place]) * 500_000, Size(4, 4), ())], [], [])

    def peak(number: int) -> int:
        tracemalloc.start()
        store.write_shard(tmp_path / "shard.parquet", "plan", pictures(number))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    few = peak(16)
    assert few > 4 * 500_000, "a row group is held"
    assert peak(128) < 1.2 * few


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _card: [], "a JSON object expected, a list found"),
        (lambda card: card | {"shards": "x"}, "shards must be a list, 'x' found"),
        (lambda card: card | {"shards": [{"file": 3}]}, "shard number 0: file must be a text, 3 found"),
        (lambda card: _without(card, "purpose"), "no purpose"),
        (lambda card: _without(card, "skipped"), "no skipped"),
        (lambda card: card | {"recipe": _without(card["recipe"], "source")}, "recipe.source: an object expected, null"),
        (lambda card: card | {"recipe": card["recipe"] | {"select": {}}}, "recipe.select: no per"),
        (lambda card: card | {"skipped": {"empty mask": "2"}}, "skipped: empty mask must be a number, '2' found"),
        (lambda card: card | {"counts": {}}, "counts: samples is missing"),
        (
            lambda card: card | {"shards": [card["shards"][0] | {"file": "../x.parquet"}]},
            "not the name of a file inside",
        ),
    ],
)
def test_cards_of_another_form(full_tree: Tree, tmp_path: Path, change: Any, words: str) -> None:
    """A card may come from anywhere: it is read with a set from the hub."""
    made(full_tree, tmp_path, small())
    (tmp_path / "dataset.json").write_bytes(orjson.dumps(change(read_card(tmp_path))))

    with pytest.raises(GensegError, match=words):
        check(tmp_path)


def _without(card: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in card.items() if name != key}


def test_check_says_that_the_recipe_in_a_card_is_none(full_tree: Tree, tmp_path: Path) -> None:
    """As `genseg eval RECIPE` says it of the same card."""
    made(full_tree, tmp_path, small())
    card = read_card(tmp_path)
    card["recipe"]["select"]["count"] = "many"
    (tmp_path / "dataset.json").write_bytes(orjson.dumps(card))

    (problem,) = check(tmp_path).problems

    assert problem.startswith(f"{tmp_path / 'dataset.json'}: recipe: select.count: input should be a valid integer")


@pytest.mark.parametrize("content", ["", '{"recipe": {"na', "[]", '"' + "[" * 5000])
def test_an_identity_that_was_cut_short_is_one_line(full_tree: Tree, tmp_path: Path, content: str) -> None:
    made(full_tree, tmp_path, small())
    (tmp_path / ".identity.json").write_text(content)

    with pytest.raises(GensegError, match=r"\.identity\.json: (not JSON|a JSON object expected)") as caught:
        made(full_tree, tmp_path, small())

    assert "--restart" in caught.value.hint
    assert made(full_tree, tmp_path, small(), restart=True).tally.samples == 24 * 14


def test_polygons_that_were_left_out_are_counted_on_the_card(tree: Tree, tmp_path: Path) -> None:
    tree.add_picture(1)
    good = [4, 6, 30, 6, 30, 40, 4, 40]
    tree.add_ref(1, [tree.add_object(1, [good, [1, 2, 3, 4], [5]])], "it")

    report = made(tree, tmp_path, small())

    note = "polygons without three corners, left out of masks that have others: 2"
    assert report.card["notes"] == [note]
    assert f"- {note}\n" in (tmp_path / "README.md").read_text()
    again = made(tree, tmp_path, small())
    assert (again.built_now, again.card["notes"]) == (0, [note]), "a finished shard tells it too"


@pytest.mark.parametrize("broken", ["picture", "annotation"])
def test_a_set_without_samples_is_an_error_and_leaves_nothing(tree: Tree, tmp_path: Path, broken: str) -> None:
    tree.add_picture(1)
    tree.add_ref(1, [tree.add_object(1, [[4, 6, 30, 6, 30, 40]] if broken == "picture" else None)], "it")
    if broken == "picture":
        tree.picture(1).write_bytes(b"gone")

    with pytest.raises(GensegError, match=rf"not one sample could be made, of 1 sample: {broken} \w+ 1$") as caught:
        made(tree, tmp_path / "out", small(), max_skipped=1)

    assert "the first, grefcoco-unc-train-0-0: " in caught.value.hint
    assert caught.value.code == ExitCode.SOME_FAILED
    assert not (tmp_path / "out").exists()


def test_a_shard_whose_account_is_damaged_is_built_anew(full_tree: Tree, tmp_path: Path) -> None:
    made(full_tree, tmp_path, small())
    shard = tmp_path / "data" / "train-00000.parquet"
    table = pq.read_table(shard)
    for account in (b"{", b"[]", b'{"plan": 1}'):
        pq.write_table(table.replace_schema_metadata({b"genseg": account}), shard)
        assert store.read_account(shard) is None
    assert made(full_tree, tmp_path, small()).built_now > 0
    assert check(tmp_path).problems == []


def test_check_finds_shards_of_another_form_and_those_that_are_not_in_the_card(full_tree: Tree, tmp_path: Path) -> None:
    made(full_tree, tmp_path, small())
    shard = tmp_path / "data" / "train-00000.parquet"
    table = pq.read_table(shard)
    pq.write_table(table, tmp_path / "data" / "more.parquet")
    pq.write_table(table.drop_columns(["targets"]), shard)

    text = "\n".join(check(tmp_path).problems)

    assert "data/more.parquet: not in the card" in text
    assert "no shard of a prepared set (no column targets)" in text


def test_check_finds_what_was_tampered_with(full_tree: Tree, tmp_path: Path) -> None:
    made(full_tree, tmp_path, small())
    assert check(tmp_path).problems == []
    shard = tmp_path / "data" / "train-00000.parquet"
    table = pq.read_table(shard)
    rows = table.to_pylist()
    rows[4]["targets"][0]["points"][0] = [0.0, 0.0]
    rows[5]["id"] = rows[4]["id"]
    rows[6]["image"]["bytes"] = b"no"
    rows[7]["targets"][0]["mask"]["counts"] = "zz"
    pq.write_table(type(table).from_pylist(rows[:-1], table.schema), shard)

    found = check(tmp_path)

    text = "\n".join(found.problems)
    assert "SHA-256 differs" in text
    assert "positive point (0.0, 0.0) is outside the mask" in text
    assert "occurs twice" in text
    assert "not a picture" in text
    assert f"{rows[7]['id']}: segmentation: the compressed counts are damaged" in text
    assert f"the card counts {24 * 14} samples" in text
    assert f"the shards hold {len(rows) - 1 + sum(1 for _ in _others(tmp_path, shard))}" in text


def _others(out: Path, shard: Path) -> Any:
    for path in (out / "data").glob("*.parquet"):
        if path != shard:
            yield from read_shard(path)
