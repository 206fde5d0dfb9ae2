"""Samples that cannot be trained on are found before the first step, each with its reason."""

from __future__ import annotations

import io
import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from transformers import AutoProcessor

from gensegcli.config import resolve
from gensegcli.errors import ExitCode, GensegError
from gensegcli.images import read_image
from gensegcli.policy.frame import fit_picture
from gensegcli.policy.prompting import prompt_length, render_prompt
from gensegcli.sources.prepared import SCHEMA, from_row, read_prepared
from gensegcli.train.plan import Plan
from gensegcli.train.rows import BadRow, Flaw, admitted, damage, told
from gensegcli.train.run import look_at_rows, train
from gensegcli.train.runs import BAD_ROWS, METRICS, ROLLOUTS, checkpoints, read_steps
from tests.train.conftest import SMALL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Rows = list[dict[str, Any]]

NAN = float("nan")


@pytest.fixture(scope="module")
def rows(scenes: Path) -> Rows:
    return [row for shard in sorted(scenes.rglob("*.parquet")) for row in pq.read_table(shard).to_pylist()]


@pytest.fixture(scope="module")
def found_one(rows: Rows) -> dict[str, Any]:
    """A row with an object."""
    return next(row for row in rows if row["targets"])


@pytest.fixture
def changed(rows: Rows, tmp_path: Path) -> Callable[..., Plan]:
    """A plan for the set with some rows changed, by number; further settings on top."""

    def made(changes: dict[int, dict[str, Any]], *settings: str) -> Plan:
        new = [{**deepcopy(row), **changes.get(number, {})} for number, row in enumerate(rows)]
        path = tmp_path / "changed.parquet"
        pq.write_table(pa.Table.from_pylist(new, SCHEMA), path)
        return Plan.of(resolve(preset="demo", assignments=[f"train.data={path}", *SMALL, *settings]))

    return made


def _picture(**changes: Any) -> dict[str, Any]:
    return {"image": {"bytes": b"", "path": None, **changes}}


def test_sound_rows_are_all_taken(changed: Callable[..., Plan]) -> None:
    for stage in ("grpo", "sft"):
        assert look_at_rows(changed({}, f"train.stage={stage}")) == []


def test_each_flaw_is_named_with_the_sample(changed: Callable[..., Plan], rows: Rows) -> None:
    whole = rows[3]["image"]["bytes"]
    small = io.BytesIO()
    Image.new("RGB", (9, 7)).save(small, "PNG")
    plan = changed(
        {
            1: {"query": "the red one, " * 300},
            2: _picture(bytes=b"<html>not found</html>"),
            3: _picture(bytes=whole[: len(whole) // 2]),
            4: _picture(bytes=None, path="photos/4.png"),
            5: _picture(bytes=small.getvalue()),
            6: {"query": None},
            8: {"width": None},
            9: {"id": rows[10]["id"]},
        }
    )
    bad = look_at_rows(plan)
    numbers = (1, 2, 3, 4, 5, 6, 8, 10)
    assert [(row.number, row.id) for row in bad] == [(number, rows[number]["id"]) for number in numbers]
    assert [row.flaw for row in bad] == [Flaw.LONG, Flaw.PICTURE, Flaw.PICTURE, *[Flaw.DAMAGED] * 5]
    words = [
        "tokens, and train.max_prompt_tokens is 128",
        "not a picture that can be read",
        "",  # Pillow's words for a PNG that was cut
        "no picture",
        "its picture is 9x7, its row says {}x{}".format(rows[5]["width"], rows[5]["height"]),
        "no query",
        "its size is Nonex",
        "row 9 has its id, too",
    ]
    for row, part in zip(bad, words, strict=True):
        assert part in row.problem


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"no_target": True}, "no_target is True, and it has 1 objects"),
        ({"targets": []}, "no_target is False, and it has 0 objects"),
        ({"targets": None}, "not in the form"),
        ({"query": "  "}, "no query"),
        ({"id": ""}, "no id"),
        ({"box": [1.0, 2.0, NAN, 4.0]}, "object 1: its box is [1.0, 2.0, nan, 4.0]"),
        ({"box": [5.0, 2.0, 3.0, 4.0]}, "object 1: its box is [5.0, 2.0, 3.0, 4.0]"),
        ({"box": [1.0, 2.0, 3.0]}, "not in the form"),
        ({"box": None}, "not in the form"),
        ({"points": [[1.0, None]]}, "object 1: a point of it is [1.0, None]"),
        ({"negatives": [[1.0]]}, "not in the form"),
        ({"mask": {"size": [3, 4], "counts": "0<"}}, "object 1: its mask is 4x3, the picture"),
    ],
)
def test_damage_by_hand(found_one: dict[str, Any], change: dict[str, Any], words: str) -> None:
    row = deepcopy(found_one)
    row["targets"] = row["targets"][:1]
    assert damage(row) == ""
    of_target = change.keys() & row["targets"][0].keys()
    (row["targets"][0] if of_target else row).update(change)
    assert damage(row).startswith(words)


def test_runs_that_do_not_fill_the_picture_are_damage(found_one: dict[str, Any]) -> None:
    row = deepcopy(found_one)
    row["targets"][0]["mask"]["counts"] = row["targets"][0]["mask"]["counts"][:-1]
    assert damage(row).startswith("object 1: ")


def test_lengths_are_those_of_the_prompts(changed: Callable[..., Plan], scenes: Path) -> None:
    """To the token: the longest prompt fits, and with one token less it alone is too long."""
    plan = changed({})
    entry, path = plan.policy.entry, plan.policy.path
    assert path is not None
    processor = AutoProcessor.from_pretrained(path, local_files_only=True)
    lengths = [
        prompt_length(
            processor,
            entry,
            render_prompt(processor, plan.dialect.ask(sample.query)),
            fit_picture(entry, read_image(sample.image)),
        )
        for sample in read_prepared(scenes)
    ]
    longest = max(lengths)
    assert look_at_rows(changed({}, f"train.max_prompt_tokens={longest}")) == []
    bad = look_at_rows(changed({}, f"train.max_prompt_tokens={longest - 1}"))
    assert [row.number for row in bad] == [number for number, length in enumerate(lengths) if length == longest]


# ---------------------------------------------------------------- what is done about them


def _bad(count: int, flaw: Flaw = Flaw.LONG) -> list[BadRow]:
    return [BadRow(number, f"s-{number}", flaw, "its prompt is long") for number in range(count)]


def test_a_refusal_counts_all_and_names_some_and_the_setting() -> None:
    with pytest.raises(GensegError) as caught:
        admitted([*_bad(5), BadRow(7, "s-7", Flaw.PICTURE, "cut short")], 20, skip=False, listed="run/bad_rows.jsonl")
    assert caught.value.code == ExitCode.USAGE
    message, hint = caught.value.message, caught.value.hint
    assert message.startswith(
        "6 of 20 samples cannot be trained on. prompt too long: 5 (s-0: its prompt is long; s-1: "
    )
    assert message.endswith("s-2: its prompt is long; …). unreadable picture: 1 (s-7: cut short)")
    assert hint.startswith("--set train.bad_rows=skip leaves them out, a larger train.max_prompt_tokens")
    assert hint.endswith("all of them: run/bad_rows.jsonl")


def test_what_is_skipped_is_told() -> None:
    said: list[str] = []
    assert admitted(_bad(2), 20, skip=True, tell=said.append) == {0, 1}
    (text,) = said
    assert text == f"left out: {told(_bad(2), 20)}"
    assert "2 (s-0: its prompt is long; s-1: its prompt is long)" in text
    assert admitted([], 20, skip=True, tell=said.append) == frozenset()
    assert len(said) == 1


def test_a_set_without_a_sound_sample_is_refused_in_any_case() -> None:
    with pytest.raises(GensegError, match="3 of 3 samples cannot be trained on") as caught:
        admitted(_bad(3), 3, skip=True)
    assert "bad_rows" not in caught.value.hint


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_run_is_refused_before_its_first_step_or_goes_without_them(
    changed: Callable[..., Plan], rows: Rows, tmp_path: Path
) -> None:
    folder, said = tmp_path / "run", []
    changes = {2: {"query": "the red one, " * 300}, 21: _picture(bytes=b"nothing")}
    with pytest.raises(GensegError, match="2 of 24 samples cannot be trained on"):
        train(changed(changes), folder)
    listed = [json.loads(line) for line in (folder / BAD_ROWS).read_text().splitlines()]
    assert [(row["row"], row["id"], row["flaw"]) for row in listed] == [
        (2, rows[2]["id"], "prompt too long"),
        (21, rows[21]["id"], "unreadable picture"),
    ]
    assert not (folder / METRICS).exists()
    outcome = train(changed(changes, "train.bad_rows=skip"), folder, on_phase=said.append)  # the same folder goes on
    assert (outcome.step, outcome.steps, checkpoints(folder)) == (11, 11, [11])
    assert any(text.startswith("left out: 2 of 24 samples") for text in said)
    asked = {row["id"] for row in read_steps(folder / ROLLOUTS)}
    assert asked == {row["id"] for row in rows} - {rows[2]["id"], rows[21]["id"]}
    assert train(changed(changes, "train.bad_rows=skip"), folder) == outcome, "finished is finished"


def test_samples_without_a_shown_answer_are_counted(changed: Callable[..., Plan], rows: Rows) -> None:
    number = next(number for number, row in enumerate(rows) if row["targets"])
    bare = [{**target, "points": [], "mask": None} for target in rows[number]["targets"]]
    plan = changed({number: {"targets": bare}}, "train.stage=sft", "train.micro_batch=2")
    assert plan.unteachable == 1
    assert plan.facts(1)["samples_left_out"] == 1
    assert from_row(rows[number]).id not in {rows[one]["id"] for one in plan.numbers}
