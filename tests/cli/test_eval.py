"""`genseg eval` as a person meets it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gensegcli.errors import ExitCode
from gensegcli.sources.prepared import read_prepared
from tests.evaluate.conftest import prepared, write_answers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SCRIPTED = ("--backend", "scripted", "--answers", "true.jsonl", "--segmenter", "boxfill", "--set", "eval.resamples=0")


@pytest.fixture
def scenes(place: Path) -> Path:
    """`scenes`: 6 generated scenes, and `true.jsonl` with their true answers, in the working directory."""
    folder = prepared(place / "scenes", "scenes", place, **{"source.n": 6})
    write_answers(place / "true.jsonl", read_prepared(folder))
    return folder


@pytest.mark.usefixtures("scenes")
def test_the_table_goes_to_stdout_and_words_to_stderr(genseg: Callable[..., Any]) -> None:
    result = genseg("eval", "scenes", "--prompt-mode", "box,box+1,box+2", *SCRIPTED)
    assert result.exit_code == 0, result.stderr
    assert "scenes-val, protocol genseg · all samples" in result.stdout
    head = next(line for line in result.stdout.splitlines() if "box+1" in line)
    assert head.split() == ["box", "box+1", "box+2"], "one column for each mode"
    assert "N-acc" in result.stdout
    assert re.fullmatch(
        r"answers [\d.,]+, masks [\d.,]+, scores [\d.,]+ samples/s; in runs/eval-scenes-val-\w{8}",
        result.stderr.splitlines()[-1],
    )
    again = genseg("eval", "scenes", "--prompt-mode", "box,box+1,box+2", *SCRIPTED)
    assert again.stdout == result.stdout
    assert "loading" not in again.stderr


@pytest.mark.usefixtures("scenes")
def test_json_is_what_results_json_holds(genseg: Callable[..., Any], place: Path) -> None:
    result = genseg("eval", "scenes", "--json", "-q", "-o", "out", *SCRIPTED)
    assert result.stderr == ""
    (value,) = json.loads(result.stdout)
    assert json.loads((place / "out" / "results.json").read_text()) == [value]
    assert value["protocol"]["name"] == "genseg"
    assert value["summary"]["metrics"]["box mIoU"]["value"] == pytest.approx(1.0)
    assert value["summary"]["composition"]["samples"] == 6
    (gres,) = json.loads(genseg("eval", "scenes", "--json", "-q", "-o", "out", "--protocol", "gres", *SCRIPTED).stdout)
    assert gres["protocol"]["name"] == "gres", "of this command only"
    assert len(json.loads((place / "out" / "results.json").read_text())) == 2


def test_a_name_is_prepared_on_the_way(genseg: Callable[..., Any], place: Path, shared_data: Path) -> None:
    arguments = ("eval", "refcocog", "--split", "val", "--root", str(shared_data / "mini"))
    early = genseg(*arguments, "--dry-run", "--segmenter", "boxfill")
    assert early.exit_code == ExitCode.NOT_FOUND
    assert "hint: genseg prep refcocog --split val --for eval" in early.stderr
    assert not (place / "data").exists(), "a dry run writes nothing"
    (place / "true.jsonl").write_text("")
    first = genseg(*arguments, "--limit", "4", "-o", "first", *SCRIPTED)
    assert first.exit_code == ExitCode.SOME_FAILED, first.stderr
    assert "preparing refcocog val in data/prepared/refcocog-val" in first.stderr
    plan = genseg(*arguments, "--dry-run", "--segmenter", "boxfill")
    assert plan.exit_code == 0, plan.stderr
    assert "to do: answers" in plan.stdout
    assert not (place / "runs").exists()
    write_answers(place / "true.jsonl", read_prepared(place / "data" / "prepared" / "refcocog-val"))
    result = genseg(*arguments, "--limit", "4", "--json", *SCRIPTED)
    assert "preparing" not in result.stderr
    (value,) = json.loads(result.stdout)
    assert value["data"]["limit"] == 4
    assert value["summary"]["composition"]["refs"] == 4
    assert value["summary"]["metrics"]["AP"]["value"] == pytest.approx(1.0)


@pytest.mark.usefixtures("scenes")
def test_failures_are_told_counted_and_leave_with_5(genseg: Callable[..., Any], place: Path) -> None:
    lines = (place / "true.jsonl").read_text().splitlines(keepends=True)
    (place / "true.jsonl").write_text("".join(lines[1:]))
    lost = json.loads(lines[0])["id"]
    result = genseg("eval", "scenes", "-o", "out", *SCRIPTED)
    assert result.exit_code == ExitCode.SOME_FAILED
    assert f"error: {lost}: " in result.stderr
    assert "1 samples without a prediction count as empty answers; none is left out" in result.stderr
    assert "1 samples without a prediction count as empty answers" in result.stdout
    assert json.loads((place / "out" / "failed.jsonl").read_text())["id"] == lost
    (value,) = json.loads((place / "out" / "results.json").read_text())
    assert (value["missing"], value["summary"]["composition"]["samples"]) == (1, 6)


@pytest.mark.usefixtures("scenes")
def test_given_predictions_need_no_model(genseg: Callable[..., Any], place: Path) -> None:
    genseg("eval", "scenes", "-o", "out", *SCRIPTED)
    given = place / "theirs.jsonl"
    given.write_bytes((place / "out" / "masks" / "boxfill-box+2" / "predictions.jsonl").read_bytes()[:-30])
    result = genseg("eval", "scenes", "--predictions", "theirs.jsonl", "--set", "eval.resamples=0")
    assert result.exit_code == 0, result.stderr
    assert "the last line is cut off and was left out" in result.stdout
    assert "1 samples without a prediction count as empty answers" in result.stdout
    plan = json.loads(genseg("eval", "scenes", "--predictions", "theirs.jsonl", "--dry-run", "--json").stdout)
    assert plan["predictions"] == "theirs.jsonl"
    assert "model" not in plan


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--protocol", "gress"), 4, "unknown protocol 'gress'"),
        (("--prompt-mode", "box,box+3"), 4, "unknown prompt mode 'box+3'"),
        (("--subset", "empty.ids"), 2, "empty.ids: names no samples"),
        (("--subset", "other.ids"), 2, "other.ids: none of its 1 ids is a sample of scenes-val"),
        (("--group", "gone.ids"), 4, "gone.ids: cannot be read"),
        (("--group", "other.ids"), 2, "group other: none of its 1 ids is among the 6 samples to be scored"),
        (("--group", "other.ids", "--group", "b/other.ids"), 2, "b/other.ids: other is the name of another --group"),
        (("--group", "small.ids"), 2, "small.ids: small is the name of every result"),
        (("--split", "test"), 2, "scenes: holds scenes val, not test"),
        (("--predictions", "gone.jsonl"), 4, "gone.jsonl: cannot be read"),
        (("--predictions", "empty.ids"), 2, "empty.ids: neither JSONL nor a list of COCO results"),
        (("--predictions", "alien.jsonl"), 4, "alien.jsonl: none of its 1 predictions is of a sample of the set"),
        (("--set", "eval.protocoll=gres"), 2, "unknown setting 'eval.protocoll'"),
        (("--set", "predict.n=4", "--temperature", "0.7"), 2, "predict.n is 4: an evaluation scores one answer"),
        (("--limit", "0"), 2, "greater than or equal to 1"),
    ],
)
@pytest.mark.usefixtures("scenes")
def test_mistakes_are_one_line(
    genseg: Callable[..., Any], place: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    (place / "empty.ids").write_text("\n")
    (place / "other.ids").write_text("elsewhere\n")
    (place / "alien.jsonl").write_text('{"id": "elsewhere", "boxes": []}\n')
    result = genseg("eval", "scenes", *arguments, *(SCRIPTED if "--predictions" not in arguments else ()))
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    assert result.stdout == ""
    assert not (place / "runs").exists(), "what cannot be done leaves nothing behind"


@pytest.mark.usefixtures("scenes")
def test_groups_are_named_by_their_files(genseg: Callable[..., Any], place: Path) -> None:
    names = [json.loads(line)["id"] for line in (place / "true.jsonl").read_text().splitlines()]
    (place / "clean.ids").write_text("\n".join(names[:4]))
    (place / "overlap.ids").write_text("\n".join(names[4:]))
    result = genseg("eval", "scenes", "--json", "--group", "clean.ids", "--group", "overlap.ids", *SCRIPTED)
    groups = json.loads(result.stdout)[0]["summary"]["groups"]
    assert groups["clean"]["composition"]["samples"] == 4
    assert groups["overlap"]["composition"]["samples"] == 2


def test_a_set_of_boxes_alone_has_box_metrics_alone(genseg: Callable[..., Any], place: Path) -> None:
    """A Parquet file in the form of VisionReasoner-7K: boxes in pixels of the picture, no masks; one row means nothing."""
    png = cv2.imencode(".png", np.zeros((840, 840, 3), np.uint8))[1].tobytes()
    found = {"bbox_2d": [84, 168, 504, 588], "point_2d": [300, 400]}
    rows = [
        {"id": str(number), "problem": f"thing {number}", "solution": json.dumps(objects), "image": png}
        for number, objects in enumerate(([found], []))
    ]
    pq.write_table(pa.Table.from_pylist(rows), place / "boxes.parquet")
    answer = '[{"bbox_2d": [100, 200, 600, 700], "point_1": [300, 400], "point_2": [320, 400]}]'
    texts = {"thing 0": answer, "thing 1": '{"no_target": true}'}
    lines = [{"query": query, "text": f"<think>.</think><answer>{text}</answer>"} for query, text in texts.items()]
    (place / "true.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = genseg("eval", "boxes.parquet", "--json", *SCRIPTED)
    assert result.exit_code == 0, result.stderr
    metrics = json.loads(result.stdout)[0]["summary"]["metrics"]
    assert {"cIoU", "mIoU", "P@0.5"} & metrics.keys() == set()
    assert {name: metrics[name]["value"] for name in ("box mIoU", "AP", "N-acc")} == pytest.approx(
        {"box mIoU": 1.0, "AP": 1.0, "N-acc": 1.0}
    )


@pytest.mark.usefixtures("scenes")
def test_the_scores_of_given_predictions_rank_boxes_for_ap_by_choice_or_a_note_says_that_they_do_not(
    genseg: Callable[..., Any], place: Path
) -> None:
    """A right box of score 0.9 and wrong ones of 0.1 for every sample: ranked by score, AP is 1; ranked alike, it is less."""
    from gensegcli.evaluate.data import open_set
    from gensegcli.metrics.records import truth_of

    lines = []
    for sample in open_set(place / "scenes").samples():
        true = [list(box) for box in truth_of(sample).boxes]
        wrong = [[0, 0, 3, 3]] if true else []
        scores = [0.1] * len(wrong) + [0.9] * len(true)
        lines.append(json.dumps({"id": sample.id, "boxes": wrong + true, "scores": scores, "no_target": not true}))
    (place / "boxes.jsonl").write_text("\n".join(lines) + "\n")
    arguments = (
        "eval",
        "scenes",
        "--predictions",
        "boxes.jsonl",
        "--json",
        "-q",
        "-o",
        "out",
        "--set",
        "eval.resamples=0",
    )

    (alike,) = json.loads(genseg(*arguments).stdout)
    assert alike["protocol"]["box_score"] == "constant"
    assert any("--set eval.box_score=segmenter" in note for note in alike["notes"])
    (ranked,) = json.loads(genseg(*arguments, "--set", "eval.box_score=segmenter").stdout)
    assert ranked["protocol"]["box_score"] == "segmenter"
    assert not any("box_score" in note for note in ranked["notes"])
    assert ranked["summary"]["metrics"]["AP"]["value"] == pytest.approx(1.0)
    assert alike["summary"]["metrics"]["AP"]["value"] < 0.9
    (other,) = json.loads(genseg(*arguments, "--set", "eval.tiny_area=50", "--set", "eval.inclusive_boxes=true").stdout)
    assert other["protocol"] | {"tiny_area": 0, "inclusive_boxes": False} == alike["protocol"]
    assert len(json.loads((place / "out" / "results.json").read_text())) == 3, "each has its own rows"
    report = genseg("report", "out").stdout
    assert 'differs from protocol genseg as named: box_score was "constant", is "segmenter"' in report


@pytest.mark.usefixtures("scenes")
@pytest.mark.parametrize("option", ["--predictions", "--out", "--subset", "--group"])
def test_a_name_that_is_too_long_is_one_line(genseg: Callable[..., Any], place: Path, option: str) -> None:
    (place / "theirs.jsonl").write_text("")
    given = () if option == "--predictions" else ("--predictions", "theirs.jsonl")
    result = genseg("eval", "scenes", *given, option, "x" * 5000)
    assert result.exit_code == ExitCode.NOT_FOUND
    assert result.stderr.startswith("error: xxx")
    assert "File name too long" in result.stderr.splitlines()[0]
