"""`genseg prep` as a person meets it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from gensegcli.cli.app import app
from gensegcli.errors import ExitCode
from gensegcli.prep.recipe import resolve

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result


def genseg(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["prep", *arguments])


@pytest.fixture
def root(shared_data: Path) -> str:
    return str(shared_data / "mini")


def test_prepare_show_and_check_the_real_mini_set(root: str, tmp_path: Path) -> None:
    out = tmp_path / "set"

    made = genseg("refcocog", "--split", "val", "--root", root, "--out", str(out), "--json", "--workers", "1")
    assert made.exit_code == 0, made.stderr
    value = json.loads(made.stdout)
    assert value["samples"] == 10
    assert value["raw"]["refs"] == {"found": 10, "published": 2573}
    assert "val: 10 refs, 4 pictures, 16 sentences" in made.stderr
    assert made.stderr.count("published") == 1, "once, not three times"
    assert "note: 10 refs, 4 pictures, 16 sentences in the raw files, 2,573, 1,300, 4,896 published" in made.stderr

    shown = genseg("show", str(out), "--index", "3", "--out", str(tmp_path / "a.png"))
    assert shown.exit_code == 0, shown.stderr
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width >= 500

    checked = genseg("check", str(out), "--json")
    assert (checked.exit_code, json.loads(checked.stdout)["problems"]) == (0, 0)
    shard = next((out / "data").iterdir())
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert genseg("check", str(out)).exit_code == ExitCode.SOME_FAILED


def test_the_same_command_again_builds_nothing(root: str, tmp_path: Path) -> None:
    arguments = ("grefcoco", "--split", "val", "--for", "eval", "--root", root, "-o", str(tmp_path), "--workers", "1")
    first = genseg(*arguments)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").iterdir()}
    second = genseg(*arguments)

    assert first.stdout == second.stdout
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").iterdir()} == stamps


def test_a_dry_run_writes_nothing(root: str, tmp_path: Path) -> None:
    done = genseg("grefcoco", "--split", "val", "--root", root, "-o", str(tmp_path / "out"), "--dry-run", "--json")

    assert done.exit_code == 0, done.stderr
    value = json.loads(done.stdout)
    assert (value["samples"], value["no_target"], value["multi_target"], value["pictures"]) == (9, 4, 5, 4)
    assert not (tmp_path / "out").exists()


def test_the_root_from_the_environment(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENSEG_DATA", root)
    assert genseg("grefcoco", "--split", "val", "--dry-run").exit_code == 0
    monkeypatch.setenv("GENSEG_DATA", str(tmp_path))
    gone = genseg("grefcoco", "--split", "val", "--dry-run")
    assert gone.exit_code == ExitCode.NOT_FOUND
    assert "looked for" in gone.stderr
    assert "hint: get it from" in gone.stderr


def test_own_data(root: str, tmp_path: Path) -> None:
    lines = [
        {"image_id": 785, "expression": "the skier", "ann_ids": [442619]},
        {"image_id": 785, "expression": "a zebra", "ann_ids": []},
    ]
    (tmp_path / "e.jsonl").write_text("\n".join(map(json.dumps, lines)))
    arguments = ["--annotations", f"{root}/grefcoco/instances.json", "--images", f"{root}/images/train2014"]

    done = genseg(
        "coco",
        *arguments,
        "--expressions",
        str(tmp_path / "e.jsonl"),
        "-o",
        str(tmp_path / "out"),
        "--workers",
        "1",
        "-q",
    )
    assert done.exit_code == 0, done.stderr
    rows = [re.split(r" {2,}", line) for line in done.stdout.splitlines()]
    assert ["single target", "1"] in rows
    assert ["objects with 2 negative points", "1"] in rows
    assert ["skipped", "none"] in rows
    assert "_" not in done.stdout.replace(str(tmp_path), "")

    missing = genseg("coco", *arguments)
    assert missing.exit_code == ExitCode.USAGE
    assert "needs --expressions" in missing.stderr


def test_a_turned_photo_is_told_and_the_frame_can_be_chosen(tmp_path: Path) -> None:
    """Upside down: no size can say in which frame the annotation is."""
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png", exif=exif.tobytes())
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[3, 4, 15, 4, 15, 10, 3, 10]]}
    images = [{"id": 1, "file_name": "a.png", "width": 60, "height": 40}]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": [annotation]}))
    (tmp_path / "e.jsonl").write_text(json.dumps({"image_id": 1, "expression": "it", "ann_ids": [1]}))
    own = ["coco", "--annotations", str(tmp_path / "a.json"), "--images", str(tmp_path), "--workers", "1"]
    own += ["--expressions", str(tmp_path / "e.jsonl"), "--for", "eval"]
    boxes = {}
    for frame in ("auto", "stored", "upright"):
        made = genseg(*own, "--annotations-frame", frame, "-o", str(tmp_path / frame))
        assert made.exit_code == 0, made.stderr
        assert "note: pictures with an EXIF turn" in made.stderr
        shown = genseg("show", str(tmp_path / frame), "--json", "-o", str(tmp_path / "s.png"))
        boxes[frame] = json.loads(shown.stdout)["targets"][0]["box"]

    assert boxes["upright"] == [50, 100, 250, 250]
    assert boxes["stored"] == boxes["auto"] == [750, 750, 950, 900]


def test_keep_aspect_and_filter_by_a_segmenter(root: str, tmp_path: Path) -> None:
    done = genseg(
        "refcocog", "--split", "val", "--for", "train", "--keep-aspect", "--min-prompt-iou", "0.5",
        "--segmenter", "boxfill", "--root", root, "-o", str(tmp_path), "--json", "-q",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["samples"] + value["filtered"]["prompt IoU"] == 10
    card = json.loads((tmp_path / "dataset.json").read_text())
    assert card["filter"].startswith("boxfill")
    assert card["recipe"]["picture"]["keep_aspect"] is True


def test_list_and_print_recipes() -> None:
    listed = json.loads(genseg("ls", "--json").stdout)
    assert {"grefcoco", "scenes"} <= {row["name"] for row in listed}
    assert "grefcoco" in genseg("ls").stdout
    printed = json.loads(genseg("show", "grefcoco").stdout)
    assert printed["select"]["count"] == 15285


def test_help_and_wrong_names() -> None:
    assert "RECIPE" in genseg("--help").stdout
    assert "--min-prompt-iou" in genseg("make", "--help").stdout
    wrong = genseg("grefcocoo")
    assert wrong.exit_code == ExitCode.NOT_FOUND
    assert "did you mean grefcoco?" in wrong.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["grefcoco", "--files", "x"], "--files: not read for this recipe (raw form: refer)"),
        (["reasonseg", "--images", "x"], "it takes --root only"),
        (["visionreasoner-7k", "--annotations", "x"], "it takes --files"),
        (["grefcoco", "--split", "val", "--keep-aspect"], "--keep-aspect: these pictures are not resized"),
        (["grefcoco", "--segmenter", "boxfill"], "--segmenter: nothing is segmented"),
        (["refcocog", "--seed", "5"], "--seed: nothing is drawn here"),
        (["scenes", "--annotations-frame", "stored"], "--annotations-frame: generated pictures have no EXIF turn"),
        (["grefcoco", "--set", "annotations_frame=turned"], "annotations_frame: input should be 'auto', 'stored' or"),
        (["grefcoco", "--n", "5"], "source.refer.n: no such setting"),
        (["grefcoco", "--set", "picture.size=[0, 840]"], "picture.size.0: input should be greater"),
        (["grefcoco", "--set", "picture.size=[840, 100000]"], "picture.size.1: input should be less"),
        (["reasonseg", "--split", "../val"], "split: string should match"),
    ],
)
def test_options_that_would_be_ignored_or_do_harm_are_refused(root: str, options: list[str], words: str) -> None:
    done = genseg(*options, "--root", root, "--dry-run")

    assert done.exit_code == ExitCode.USAGE
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_limit_makes_a_draw_smaller_and_never_a_set_larger() -> None:
    assert resolve("grefcoco", limit=100).select.count == 100
    assert resolve("grefcoco", limit=100).expected_here is None
    assert resolve("grefcoco", limit=100_000).select.count == 15285
    assert resolve("grefcoco", split="val", limit=100).select.first == 100
    assert resolve("grefcoco", split="val", limit=100_000).select.first == 1000
    assert resolve("refcocog", limit=100).select.first == 100


def test_a_drawing_is_put_where_a_data_set_cannot_decide(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "e.jsonl").write_text(
        json.dumps({"image_id": 785, "expression": "it", "ann_ids": [], "id": "/../../../evil"})
    )
    own = ["--annotations", f"{root}/grefcoco/instances.json", "--images", f"{root}/images/train2014"]
    made = genseg("coco", *own, "--expressions", str(tmp_path / "e.jsonl"), "-o", "set", "--workers", "1")
    assert made.exit_code == 0, made.stderr

    assert genseg("show", "set").stdout == "evil-0.png\n"

    assert {path.name for path in tmp_path.iterdir()} == {"work", "e.jsonl"}
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"set", "evil-0.png"}
    wrong = genseg("show", "set", "-o", "a.txt")
    assert (wrong.exit_code, wrong.stdout) == (ExitCode.USAGE, "")
    assert "error: a.txt: a drawing is saved as .png, .jpg" in wrong.stderr
    assert genseg("show", "set", "-o", "new/a.jpeg").exit_code == 0
    with Image.open("new/a.jpeg") as picture:
        assert picture.format == "JPEG"


def test_the_raw_counts_stand_in_the_table_alone(root: str, tmp_path: Path) -> None:
    made = genseg("refcocog", "--split", "val", "--root", root, "-o", str(tmp_path / "set"), "--workers", "1")
    assert made.exit_code == 0, made.stderr
    assert "published" not in made.stderr
    assert "refs       10     2573" in made.stdout.replace(",", "")


def test_a_mistyped_folder_is_offered_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "grefcoco-val").mkdir()
    shown = genseg("show", str(tmp_path / "grefcoco-vaal"))
    assert shown.exit_code == ExitCode.NOT_FOUND
    assert shown.stderr == (
        f"error: {tmp_path}/grefcoco-vaal: no such file or folder\nhint: did you mean {tmp_path}/grefcoco-val?\n"
    )
    assert "--index: grefcoco is a recipe" in genseg("show", "grefcoco", "--index", "3").stderr


def test_a_copy_of_train_is_never_test(tmp_path: Path) -> None:
    row = {"id": "1", "problem": "a", "solution": "[]", "image": {"bytes": b"", "path": None}}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "train-00000-of-00001.parquet")
    done = genseg("visionreasoner-7k", "--files", str(tmp_path), "--split", "test", "-o", str(tmp_path / "out"))
    assert done.exit_code == ExitCode.NOT_FOUND
    assert f"error: {tmp_path}: nothing of split 'test'; splits there: train\n" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_set_of_which_nothing_is_usable_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "gone.png"}], "annotations": []}))
    (tmp_path / "e.jsonl").write_text(json.dumps({"image_id": 1, "expression": "a", "ann_ids": []}))
    given = ["--annotations", str(tmp_path / "a.json"), "--images", str(tmp_path), "--expressions"]
    done = genseg("coco", *given, str(tmp_path / "e.jsonl"), "-o", str(tmp_path / "own"), "--max-skipped", "1")
    assert done.exit_code == ExitCode.SOME_FAILED
    assert "error: not one sample could be made, of 1 sample: picture missing 1\n" in done.stderr
    assert not (tmp_path / "own").exists()
