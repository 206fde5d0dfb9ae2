"""What a run folder holds may be damaged or written by hand: each is one line that names file, place and expectation."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gensegcli.errors import GensegError
from gensegcli.evaluate.data import choose, open_set, read_ids
from gensegcli.evaluate.report import formats
from gensegcli.evaluate.report.evaluation import Options, evaluation_page
from gensegcli.evaluate.report.sections import sections
from gensegcli.evaluate.results import read_run
from tests.evaluate.test_run import scripted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def run(scenes: Path, answers: Path, tmp_path: Path) -> Path:
    scripted(scenes, answers, tmp_path / "run").run()
    return tmp_path / "run"


def change(path: Path, key: str, value: Any, line: int = 0) -> None:
    """Put a value in the place of a dotted key; None takes the key away."""
    lines = path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()]
    record = orjson.loads(lines[line])
    *parents, last = key.split(".")
    inner = record
    for name in parents:
        inner = inner[int(name)] if isinstance(inner, list) else inner[name]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    lines[line] = json.dumps(record).encode()
    path.write_bytes(b"\n".join(lines) + b"\n")


@pytest.mark.parametrize(
    ("file", "key", "value", "said"),
    [
        ("run.json", "identity", [], "run.json: not a run of genseg|run.json: identity|begun with other settings"),
        ("run.json", "pinned", [1], "run.json: pinned: .*, \\[1\\] found"),
        ("run.json", "pinned.model", None, "run.json: pinned.model is missing"),
        ("run.json", "versions", {"genseg": 1}, "run.json: versions.genseg: .*, 1 found"),
        ("answers.jsonl", "seconds", None, "answers.jsonl: sample scenes-val-.*: seconds: field required"),
        ("answers.jsonl", "seconds", "soon", "answers.jsonl: sample scenes-val-.*: seconds: .*'soon' found"),
        ("masks/boxfill-box+2/predictions.jsonl", "timings", 3, "predictions.jsonl: prediction scenes.*: timings"),
    ],
)
def test_a_damaged_record_is_one_line_when_the_run_is_taken_up_again(
    run: Path, scenes: Path, answers: Path, file: str, key: str, value: Any, said: str
) -> None:
    change(run / file, key, value)
    with pytest.raises(GensegError, match=said) as caught:
        scripted(scenes, answers, run).run()
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("key", "value"), [("iou", 1e308), ("iou", "much"), ("missing", None), ("seconds", -1), ("union", -3)]
)
def test_a_damaged_score_is_worked_out_again(run: Path, scenes: Path, answers: Path, key: str, value: Any) -> None:
    (before,) = read_run(run).results
    rows = run / before.scores
    whole = [row | {"seconds": 0} for row in map(orjson.loads, rows.read_bytes().splitlines())]
    change(rows, key, value)
    (again,) = scripted(scenes, answers, run).run()
    assert again.summary == before.summary
    assert [row | {"seconds": 0} for row in map(orjson.loads, rows.read_bytes().splitlines())] == whole


@pytest.mark.parametrize(
    ("file", "key", "value", "said"),
    [
        ("scores", "iou", 1e308, "genseg.jsonl: score: iou: "),
        ("scores", "true_boxes", [[0, 0, 1e999, 1]], "genseg.jsonl: score: true_boxes"),
        ("results.json", "0.summary.metrics.mIoU.value", float("nan"), "results.json: 0.summary.metrics.mIoU.value"),
        ("data.json", "path", None, "data.json: path: field required"),
        ("run.json", "identity", None, "run.json: identity: field required"),
    ],
)
def test_a_report_of_a_damaged_run_is_one_line(run: Path, file: str, key: str, value: Any, said: str) -> None:
    path = run / (read_run(run).results[0].scores if file == "scores" else file)
    change(path, key, value)
    told: list[str] = []
    with pytest.raises(GensegError) as caught:  # noqa: PT012 - some damage is met on reading, some on drawing
        found = sections([read_run(run)])
        evaluation_page(found, Options(samples=2, tell=told.append))
        formats.as_text(found)
        raise GensegError(told[0])
    assert said in caught.value.message


def test_ids_may_begin_with_a_byte_order_mark(scenes: Path, tmp_path: Path) -> None:
    """Windows writes one, and the first id was not found for it."""
    data = open_set(scenes)
    names = [place.id for place in data.index()]
    path = tmp_path / "clean.ids"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(names[:3]).encode())
    assert read_ids(path) == frozenset(names[:3])
    chosen = choose(data, subset=path)
    assert (chosen.ids, chosen.notes) == (tuple(names[:3]), ())


def test_a_name_that_no_system_can_hold_is_one_line(tmp_path: Path) -> None:
    for name in ("x" * 5000, "a\0b"):
        with pytest.raises(GensegError, match=r"cannot be read|no such|no prepared set"):
            open_set(tmp_path / name)


def test_rows_of_another_type_are_told_by_number(scenes: Path, tmp_path: Path) -> None:
    whole = pq.read_table(scenes / "data" / "val-00000.parquet")
    for column, values, said in (
        ("width", pa.array([2**63] * len(whole), pa.uint64()), "row 0: width"),
        ("query", pa.array([None] * len(whole), pa.string()), "row 0: query"),
        ("height", pa.array(["tall"] * len(whole)), "row 0: height"),
    ):
        path = tmp_path / f"{column}.parquet"
        pq.write_table(whole.set_column(whole.column_names.index(column), column, values), path)
        with pytest.raises(GensegError, match=said):
            open_set(path).index()


def test_no_change_to_a_parquet_file_makes_its_reader_raise_anything_else(scenes: Path, tmp_path: Path) -> None:
    whole, rng = (scenes / "data" / "val-00000.parquet").read_bytes(), random.Random(3)
    path, refused = tmp_path / "a.parquet", 0
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(3):
            content[rng.randrange(len(whole) - 4000, len(whole))] = rng.randrange(256)
        path.write_bytes(content)
        with suppress(GensegError):
            data = open_set(path)
            data.index(), data.has_masks(), list(data.samples(pictures=False))
            continue
        refused += 1
    assert refused > 20


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content + b"[1]\n",
        lambda content: content + b"[" * 3000 + b"\n",
        lambda content: b"\xff\xfe" + content,
        lambda _content: b"null\n",
    ],
)
@pytest.mark.parametrize("file", ["run.json", "results.json", "data.json", "answers.jsonl", "scores"])
def test_no_damage_to_a_file_makes_anything_else_be_raised(
    run: Path, scenes: Path, answers: Path, file: str, spoil: Callable[[bytes], bytes]
) -> None:
    path = run / (read_run(run).results[0].scores if file == "scores" else file)
    path.write_bytes(spoil(path.read_bytes()))
    for act in (
        lambda: evaluation_page(sections([read_run(run)]), Options(samples=1)),
        lambda: scripted(scenes, answers, run).run(),
    ):
        with suppress(GensegError):
            act()
