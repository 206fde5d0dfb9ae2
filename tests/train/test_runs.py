from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from gensegcli.errors import GensegError
from gensegcli.train.runs import (
    CHECKPOINTS,
    METRICS,
    StepLog,
    checkpoint_folder,
    checkpoints,
    finished_at,
    forget,
    forget_unfinished,
    read_steps,
)

if TYPE_CHECKING:
    from pathlib import Path


def _write(path: Path, *steps: int, after: int = 0) -> None:
    log = StepLog(path, after=after)
    for step in steps:
        log.write({"step": step})
    log.close()


def test_a_log_goes_on_after_a_step_and_forgets_what_was_done_beyond_it(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    _write(path, 1, 2, 3, 4)
    _write(path, 3, 4, 5, after=2)
    assert [row["step"] for row in read_steps(path)] == [1, 2, 3, 4, 5]


def test_a_line_cut_in_half_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    _write(path, 1, 2)
    with path.open("a") as file:
        file.write('{"step": 3, "rew')
    assert [row["step"] for row in read_steps(path)] == [1, 2]
    _write(path, 3, after=2)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_rows_are_in_the_file_before_it_is_closed(tmp_path: Path) -> None:
    log = StepLog(tmp_path / METRICS)
    log.write({"step": 1, "reward": 2.5})
    assert read_steps(tmp_path / METRICS) == [{"step": 1, "reward": 2.5}]
    log.close()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "metrics.jsonl:2: not JSON"),
        ("[1]", "metrics.jsonl:2: a JSON object expected, a list found"),
        ('{"stp": 2}', "metrics.jsonl:2: step: a whole number expected, None found"),
        ('{"step": "2"}', "metrics.jsonl:2: step: a whole number expected, '2' found"),
        ('{"step": true}', "metrics.jsonl:2: step: a whole number expected, True found"),
        ("\0" * 20, "metrics.jsonl:2: not JSON"),
        ("[" * 100_000, "metrics.jsonl:2: "),
    ],
)
def test_a_damaged_line_is_named_with_its_place(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / METRICS
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    for read in (read_steps, StepLog):
        with pytest.raises(GensegError) as caught:
            read(path)
        assert words in caught.value.message
        assert "--restart" in caught.value.hint


def test_a_run_is_finished_when_its_model_is_of_a_whole_checkpoint(tmp_path: Path) -> None:
    assert finished_at(tmp_path) is None
    checkpoint_folder(tmp_path, 5).mkdir()
    _write(tmp_path / CHECKPOINTS, 5)
    assert finished_at(tmp_path) is None
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "genseg.json").write_text('{"step": 5}')
    assert finished_at(tmp_path) == 5
    (tmp_path / "model" / "genseg.json").write_text('{"step": 6}')
    assert finished_at(tmp_path) is None


def test_only_whole_checkpoints_count(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        checkpoint_folder(tmp_path, step).mkdir()
    _write(tmp_path / CHECKPOINTS, 5, 10, 12)
    assert checkpoints(tmp_path) == [5, 10], "15 was being written, 12 was deleted since"
    forget_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-10", "checkpoint-5"]


def test_forgetting_removes_what_training_wrote_and_nothing_else(tmp_path: Path) -> None:
    for name in ("checkpoint-5", "model", "tensorboard", "checkpoint-of-mine", "notes"):
        (tmp_path / name).mkdir()
    for name in (METRICS, CHECKPOINTS, "rollouts.jsonl", "offending.json", "mine.txt"):
        (tmp_path / name).write_text("")
    forget(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-of-mine", "mine.txt", "notes"]
