"""`genseg report`: every form on standard output or in a file, and one line for what cannot be reported."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import pytest

from gensegcli.errors import ExitCode
from gensegcli.records import PromptMode
from tests.evaluate.report.runs import Texts, made_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    Genseg = Callable[..., Result]


@pytest.fixture
def run(place: Path) -> str:
    made_run(place / "runs" / "a", 8, texts=Texts(model="tuned", data="refcocog-val"))
    return "runs/a"


def test_the_table_goes_to_stdout_and_nothing_else_does(genseg: Genseg, run: str) -> None:
    result = genseg("report", run)
    assert result.exit_code == 0
    assert result.stdout.startswith("refcocog-val, protocol genseg · all samples · model tuned")
    assert "mIoU" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("form", "begins"),
    [
        ("table", "refcocog-val, protocol genseg"),
        ("markdown", "## refcocog-val"),
        ("latex", "% needs"),
        ("csv", "data,protocol,run"),
        ("json", "[\n"),
        ("html", "<!DOCTYPE html>"),
    ],
)
def test_every_form_goes_to_stdout(genseg: Genseg, run: str, form: str, begins: str) -> None:
    result = genseg("report", run, "--format", form, "--samples", "1")
    assert result.exit_code == 0
    assert result.stdout.startswith(begins)


@pytest.mark.parametrize(
    ("name", "begins"), [("r.html", "<!DOCTYPE"), ("r.MD", "##"), ("r.tex", "%"), ("r.txt", "ref")]
)
def test_the_ending_of_the_file_says_what_is_written(
    genseg: Genseg, place: Path, run: str, name: str, begins: str
) -> None:
    result = genseg("report", run, "--out", f"new/{name}", "--samples", "1")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert result.stderr.startswith(f"new/{name}: 1 run, ")
    assert (place / "new" / name).read_text(encoding="utf-8").startswith(begins)


def test_the_form_may_differ_from_the_ending(genseg: Genseg, place: Path, run: str) -> None:
    assert genseg("report", run, "-o", "notes.log", "--format", "json", "-q").stderr == ""
    assert json.loads((place / "notes.log").read_text(encoding="utf-8"))[0]["data"]["name"] == "refcocog-val"


def test_an_unknown_ending_is_told_before_anything_is_read(genseg: Genseg, run: str) -> None:
    result = genseg("report", "nowhere", "--out", "report.pdf")
    assert result.exit_code == ExitCode.NOT_FOUND
    assert "unknown ending '.pdf'" in result.stderr
    assert ".html" in result.stderr


def test_several_runs_and_modes_stand_side_by_side(genseg: Genseg, place: Path, run: str) -> None:
    made_run(place / "runs" / "b", 8, texts=Texts(model="base", data="refcocog-val"), modes=tuple(PromptMode)[:2])
    rows = list(csv.DictReader(io.StringIO(genseg("report", run, "runs/b", "--format", "csv").stdout)))
    assert list(dict.fromkeys(row["run"] for row in rows)) == ["tuned · box+2", "base · box", "base · box+1"]


def test_a_run_given_twice_is_reported_once(genseg: Genseg, run: str) -> None:
    assert len(json.loads(genseg("report", run, run, "--format", "json").stdout)[0]["runs"]) == 1


def test_published_numbers_come_with_their_caveats(genseg: Genseg, run: str) -> None:
    text = genseg("report", run, "--against", "genseg-r1-8b", "--against", "seg-zero").stdout
    assert "GenSeg-R1-8B   0.7127" in text
    assert "Seg-Zero-7B" in text
    assert "GenSeg-R1-4B  " not in text
    assert "Different samples: theirs are 2,573, these 8" in text


def test_an_unknown_system_is_told_before_anything_is_read(genseg: Genseg) -> None:
    result = genseg("report", "nowhere", "--against", "seg-zeroo")
    assert result.exit_code == ExitCode.NOT_FOUND
    assert "unknown published system 'seg-zeroo'" in result.stderr
    assert "did you mean seg-zero" in result.stderr


def test_intervals_can_be_left_out(genseg: Genseg, run: str) -> None:
    assert "scriptsize" in genseg("report", run, "--format", "latex").stdout
    assert "scriptsize" not in genseg("report", run, "--format", "latex", "--no-intervals").stdout


# ---------------------------------------------------------------- what cannot be reported


def _problem(result: Result) -> tuple[int, str]:
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert all(line.startswith(("error: ", "hint: ")) for line in lines)
    return result.exit_code, lines[0].removeprefix("error: ")


def test_no_run_is_there(genseg: Genseg) -> None:
    assert _problem(genseg("report", "runs/none")) == (
        ExitCode.NOT_FOUND,
        "runs/none: no such folder",
    )


def test_the_folder_is_no_run(genseg: Genseg) -> None:
    assert _problem(genseg("report", "photos")) == (ExitCode.NOT_FOUND, "photos: no evaluation (no results.json)")


def test_the_run_did_not_end(genseg: Genseg, place: Path, run: str) -> None:
    (place / run / "results.json").unlink()
    assert _problem(genseg("report", run)) == (ExitCode.NOT_FOUND, "runs/a: an evaluation that did not end")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'[{"protocol"', "not JSON"),
        (b"[{}]", "0.protocol: field required"),
        (b'{"a": 1}', "results.json"),
        (b"[]", "holds no results"),
        (b"\xff\xfe", "UTF-16, expected UTF-8"),
    ],
)
def test_the_results_are_damaged(genseg: Genseg, place: Path, run: str, content: bytes, said: str) -> None:
    (place / run / "results.json").write_bytes(content)
    _, message = _problem(genseg("report", run))
    assert message.startswith("runs/a")
    assert said in message


def test_the_rows_of_the_scores_are_gone(genseg: Genseg, place: Path, run: str) -> None:
    next((place / run / "scores").rglob("*.jsonl")).unlink()
    assert genseg("report", run).exit_code == 0, "the tables do not need them"
    _, message = _problem(genseg("report", run, "--format", "html"))
    assert "genseg.jsonl: cannot be read" in message


def test_a_report_that_fails_leaves_the_old_one_in_place(genseg: Genseg, place: Path, run: str) -> None:
    (place / "report.html").write_text("old")
    next((place / run / "scores").rglob("*.jsonl")).unlink()
    assert genseg("report", run, "--out", "report.html").exit_code != 0
    assert (place / "report.html").read_text() == "old"


def test_the_file_cannot_be_written(genseg: Genseg, place: Path, run: str) -> None:
    (place / "taken").write_text("")
    result = genseg("report", run, "--out", "taken/report.md")
    assert result.exit_code == ExitCode.ENVIRONMENT
    assert "taken/report.md: cannot be saved" in result.stderr


def test_the_data_is_gone(genseg: Genseg, place: Path, run: str) -> None:
    (place / "runs" / "refcocog-val.parquet").unlink()
    result = genseg("report", run, "--out", "report.html")
    assert result.exit_code == 0
    assert "tuned: no galleries: " in result.stderr
    assert "No galleries for tuned" in (place / "report.html").read_text(encoding="utf-8")


def test_an_evaluation_of_nothing_is_reported(genseg: Genseg, place: Path) -> None:
    made_run(place / "runs" / "empty", 0)
    for form in ("table", "markdown", "latex", "csv", "json", "html"):
        assert genseg("report", "runs/empty", "--format", form).exit_code == 0


# ---------------------------------------------------------------- training runs


@pytest.fixture
def trained(place: Path) -> str:
    folder = place / "runs" / "train"
    folder.mkdir(parents=True)
    rows = [{"step": step, "steps": 30, "reward": step / 10, "terms": {"accuracy": 1.0}} for step in range(1, 31)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "run.json").write_text("{}")
    return "runs/train"


@pytest.mark.parametrize(
    ("form", "begins"),
    [
        ("table", "train: step 30 of 30\n"),
        ("markdown", "### train: step 30 of 30\n"),
        ("latex", "% needs"),
        ("csv", "run,step,name,value\ntrain,1,reward,0.1\n"),
        ("json", "[\n"),
        ("html", "<!DOCTYPE html>"),
    ],
)
def test_a_training_run_is_reported_in_every_form(genseg: Genseg, trained: str, form: str, begins: str) -> None:
    result = genseg("report", trained, "--format", form)
    assert result.exit_code == 0
    assert result.stdout.startswith(begins)
    assert "reward" in result.stdout


def test_training_and_evaluation_are_reported_apart(genseg: Genseg, run: str, trained: str) -> None:
    code, message = _problem(genseg("report", run, trained))
    assert code == ExitCode.USAGE
    assert message == "runs/train is a training and runs/a is not"
