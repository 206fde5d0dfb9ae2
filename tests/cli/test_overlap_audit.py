"""`genseg overlap-audit` as a person meets it, and with `genseg eval` before and after it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot
from typer.testing import CliRunner

from gensegcli.cli.app import app
from gensegcli.errors import ExitCode
from gensegcli.geometry.rle import to_coco
from gensegcli.sources.prepared import read_prepared

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result


def genseg(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def root(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real mini sets, where $GENSEG_DATA points."""
    monkeypatch.setenv("GENSEG_DATA", str(shared_data / "mini"))
    return shared_data / "mini"


def test_the_table(root: Path) -> None:
    done = genseg("overlap-audit", "grefcoco:train", "refcocog:val")

    assert done.exit_code == 0, done.stderr
    assert done.stderr == "reading grefcoco:train, refcocog:val …\n"
    assert done.stdout == snapshot("""\
            set             pictures  refs  expressions
trained on  grefcoco:train  3         6     11
evaluated   refcocog:val    4         10    16

                                         of
shared pictures                      3   4   75.0%
  of the training pictures           3   3   100.0%
verbatim expressions, asked          6   10  60.0%
  on the same picture                6   10  60.0%
verbatim expressions, all sentences  11  16  68.8%
  on the same picture                11  16  68.8%
clean refs                           3   10  30.0%
overlapping refs                     7   10  70.0%

splits that share pictures                 pictures
grefcoco                    val and train  3         785, 40083, 196141
refcocog                    val and train  1         196141
refcocog                    val and test   1         197388
""")


def test_json_and_exit_code(root: Path) -> None:
    folder = str(root / "images/train2014")
    arguments = ("overlap-audit", "grefcoco:train", "refcocog:val", "--images-root", folder, "--json", "-q")

    done = genseg(*arguments, "--fail-on-overlap")

    assert (done.exit_code, done.stderr) == (ExitCode.OVERLAP, "")
    assert json.loads(done.stdout) == snapshot(
        {
            "training": [{"name": "grefcoco:train", "pictures": 3, "refs": 6, "expressions": 11}],
            "evaluation": {"name": "refcocog:val", "pictures": 4, "refs": 10, "expressions": 16},
            "methods": ["id", "digest", "hash"],
            "radius": 6,
            "train_pictures": 3,
            "train_pictures_shared": 3,
            "pictures": 4,
            "pictures_shared": 3,
            "share": 0.75,
            "pictures_shared_by": {"id": 3, "digest": 3, "hash": 3},
            "verbatim": {
                "asked": {"expressions": 10, "anywhere": 6, "same_picture": 6},
                "sentences": {"expressions": 16, "anywhere": 11, "same_picture": 11},
            },
            "clean_verified": True,
            "train_uncompared": 0,
            "clean_refs": 3,
            "overlap_refs": 7,
            "clean_samples": 3,
            "overlap_samples": 7,
            "unknown_samples": 0,
            "too_plain_to_hash": 0,
            "splits": [
                {"dataset": "grefcoco", "splits": ["val", "train"], "image_ids": [785, 40083, 196141]},
                {"dataset": "refcocog", "splits": ["val", "train"], "image_ids": [196141]},
                {"dataset": "refcocog", "splits": ["val", "test"], "image_ids": [197388]},
            ],
            "unreadable": [],
            "notes": [],
            "scores": [],
        }
    )
    assert genseg(*arguments).exit_code == 0


def test_clean_sets_pass(root: Path, tmp_path: Path) -> None:
    (tmp_path / "seen.txt").write_text("1\n2\n")
    done = genseg("overlap-audit", str(tmp_path / "seen.txt"), "refcocog:val", "--fail-on-overlap", "--json", "-q")
    assert done.exit_code == 0, done.stderr
    value = json.loads(done.stdout)
    assert (value["pictures_shared"], value["clean_refs"], value["overlap_refs"]) == (0, 10, 0)


def test_several_training_sets_and_the_radius(root: Path, tmp_path: Path) -> None:
    (tmp_path / "seen.txt").write_text("197388\n")
    done = genseg("overlap-audit", "grefcoco:train", str(tmp_path / "seen.txt"), "refcocog:val", "--json", "-q")
    assert json.loads(done.stdout)["pictures_shared"] == 4

    value = json.loads(
        genseg(
            "overlap-audit", "grefcoco:testA", "reasonseg:val", "--by", "hash", "--radius", "31", "--json", "-q"
        ).stdout
    )
    assert (value["radius"], value["methods"]) == (31, ["hash"])


def test_unreadable_pictures_end_with_their_own_code(root: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8 cut short")
    done = genseg("overlap-audit", str(tmp_path), "reasonseg:val")

    assert done.exit_code == ExitCode.SOME_FAILED
    assert f"note: {tmp_path}: a.jpg: " in done.stderr
    assert "unreadable pictures" in done.stdout


def test_lists_are_written_before_the_exit_code_speaks(root: Path, tmp_path: Path) -> None:
    done = genseg("overlap-audit", "grefcoco:train", "refcocog:val", "--write-ids", str(tmp_path), "--fail-on-overlap")

    assert done.exit_code == ExitCode.OVERLAP
    assert f"{tmp_path}: 3 clean and 7 overlapping sample ids" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"clean.ids", "overlap.ids", "pairs.jsonl"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["refcocog:val"], ExitCode.USAGE, "two sets are needed"),
        (["grefcoco:train", "refcocg:val"], ExitCode.NOT_FOUND, "did you mean refcocog?"),
        (["grefcoco:train", "refcocog:val", "--by", "looks"], ExitCode.NOT_FOUND, "unknown way to compare"),
        (["grefcoco:train", "refcocog:val", "--scores", "nowhere"], ExitCode.NOT_FOUND, "no evaluation"),
        (["grefcoco:train", "refcocog:val", "--images-root", "nowhere"], ExitCode.NOT_FOUND, "no such folder"),
    ],
)
def test_mistakes_are_one_line_each(root: Path, arguments: list[str], code: ExitCode, message: str) -> None:
    done = genseg("overlap-audit", *arguments, "-q")

    assert done.exit_code == code
    assert message in done.stderr
    assert done.stderr.count("\n") <= 2
    assert done.stdout == ""


def test_scores_of_both_parts_are_those_that_eval_gives_the_lists(root: Path, tmp_path: Path) -> None:
    data, run = str(tmp_path / "set"), str(tmp_path / "run")
    assert genseg("prep", "refcocog", "--split", "val", "--for", "eval", "-o", data, "--workers", "1").exit_code == 0
    samples = list(read_prepared(tmp_path / "set"))
    # Every second answer is right, the others name the whole of another object.
    rows = [
        {"id": sample.id, "masks": [to_coco(target.mask) for target in (sample if n % 2 else samples[0]).targets]}
        for n, sample in enumerate(samples)
        if n % 2 or sample.size == samples[0].size
    ]
    (tmp_path / "given.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = ("--predictions", str(tmp_path / "given.jsonl"), "--json", "-q")
    assert genseg("eval", data, *given, "--out", run).exit_code == 0

    done = genseg(
        "overlap-audit", "grefcoco:train", data, "--scores", run, "--write-ids", str(tmp_path), "--json", "-q"
    )

    assert done.exit_code == 0, done.stderr
    (parts,) = json.loads(done.stdout)["scores"]
    assert (parts["unscored"], parts["unknown"]) == (0, 0)
    groups = parts["summary"]["groups"]
    for name in ("clean", "overlap"):
        alone = genseg("eval", data, *given, "--subset", str(tmp_path / f"{name}.ids"), "--out", str(tmp_path / name))
        assert alone.exit_code == 0, alone.stderr
        scored = json.loads((tmp_path / name / "results.json").read_text())[0]["summary"]
        assert groups[name]["metrics"] == scored["metrics"]
        assert groups[name]["composition"] == scored["composition"]
    areas = [groups[name]["composition"]["union_area"] for name in ("clean", "overlap")]
    assert sum(areas) == parts["summary"]["composition"]["union_area"]
    table = genseg("overlap-audit", "grefcoco:train", data, "--scores", run, "-q").stdout
    assert "union area, pixels" in table
    assert f"{areas[0]:,}" in table


def test_scores_of_another_set(root: Path, tmp_path: Path) -> None:
    data, run = str(tmp_path / "set"), str(tmp_path / "run")
    genseg("prep", "grefcoco", "--split", "val", "--for", "eval", "-o", data, "--workers", "1")
    sample = next(read_prepared(tmp_path / "set"))
    (tmp_path / "given.jsonl").write_text(json.dumps({"id": sample.id, "masks": []}))
    assert genseg("eval", data, "--predictions", str(tmp_path / "given.jsonl"), "--out", run).exit_code in (0, 5)

    done = genseg("overlap-audit", "grefcoco:train", "refcocog:val", "--scores", run)

    assert done.exit_code == ExitCode.NOT_FOUND
    assert "none of them of the audited set" in done.stderr


def test_a_doubtful_clean_list_is_said_loudly(tmp_path: Path) -> None:
    (tmp_path / "seen.csv").write_text("image\nholiday.jpg\n785\n")
    (tmp_path / "asked.csv").write_text("image,id\n785,q1\n786,q2\n")
    arguments = ("overlap-audit", str(tmp_path / "seen.csv"), str(tmp_path / "asked.csv"), "--root", str(tmp_path))

    done = genseg(*arguments, "--write-ids", str(tmp_path / "out"), "--json", "-q")

    assert done.exit_code == ExitCode.SOME_FAILED
    assert done.stderr == (
        "warning: 1 training picture could not be compared, so no sample is known to be clean, and clean.ids is not "
        "written: unverified.ids has what was not found\n"
    )
    value = json.loads(done.stdout)
    assert (value["clean_verified"], value["train_uncompared"]) == (False, 1)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"unverified.ids", "overlap.ids", "pairs.jsonl"}
    table = genseg(*arguments, "--fail-on-overlap")
    assert table.exit_code == ExitCode.OVERLAP
    assert "clean refs (not verified)       1  2" in table.stdout
    assert "training pictures not compared" in table.stdout
