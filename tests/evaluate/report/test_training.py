"""The page of training runs: what was measured, where it began and where it stands, and what the reward told apart."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gensegcli.errors import GensegError
from gensegcli.evaluate.report.training import (
    POINTS,
    Rollout,
    as_csv,
    as_json,
    contrasts,
    is_training,
    moments,
    progress,
    read_training,
    smoothed,
    summary,
    thinned,
    training_page,
)
from tests.evaluate.report.test_markup import HOSTILE, Reader

if TYPE_CHECKING:
    from pathlib import Path


def _row(step: int) -> dict[str, Any]:
    return {
        "step": step,
        "steps": 100,
        "reward": step / 10,
        "no_target_accuracy": None if step % 3 else 1.0,
        "terms": {"accuracy": step / 100, "mask_iou": 2.0},
        "own_number": 5,
        "phases": {"update": 1.0},
        "seconds": 36.0,
    }


def _rollout(step: int, id_: str, reward: float, text: str = "<think>.</think>") -> dict[str, Any]:
    return {
        "step": step,
        "id": id_,
        "query": f"query {id_}",
        "text": text,
        "terms": {"accuracy": reward},
        "reward": reward,
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "train-<b>"
    folder.mkdir()
    _write(folder / "metrics.jsonl", [_row(step) for step in range(1, 51)])
    rollouts = []
    for step in range(1, 51):
        rollouts += [_rollout(step, "flat", 1.0) for _ in range(4)]
        rollouts += [_rollout(step, "mixed", reward, HOSTILE[0]) for reward in (0.0, 3.0, 7.0)]
    _write(folder / "rollouts.jsonl", rollouts)
    (folder / "run.json").write_text(json.dumps({"identity": {"model.name": "demo"}}))
    return folder


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_the_numbers_of_a_run_are_found_whatever_they_are(run: Path) -> None:
    found = read_training(run)
    assert is_training(run)
    assert found.names() == ["reward", "no_target_accuracy", "seconds", "own_number"]
    assert found.terms() == ["accuracy", "mask_iou"]
    assert found.values("terms.accuracy")[-1] == (50, 0.5)
    assert found.values("no_target_accuracy") == [(step, 1.0) for step in range(3, 51, 3)]
    assert progress(found) == "step 50 of 100"


def test_the_summary_holds_the_first_and_the_last_tenth(run: Path) -> None:
    rows = {row.name: row.cells for row in summary(read_training(run)).rows}
    assert rows["reward"] == ("0.3", "4.8", "0.1", "5")
    assert rows["terms.mask_iou"] == ("2", "2", "2", "2")


def test_a_run_under_way_is_reported_without_its_half_written_line(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 51, "rew')
    assert progress(read_training(run)) == "step 50 of 100"


def test_a_run_without_a_step_is_told(run: Path) -> None:
    (run / "metrics.jsonl").write_text("")
    with pytest.raises(GensegError, match="no step of the training has been done yet"):
        read_training(run)


def test_terms_that_are_no_object_are_told_by_their_line(run: Path) -> None:
    (run / "metrics.jsonl").write_text(json.dumps(_row(1) | {"terms": [1]}) + "\n")
    with pytest.raises(GensegError, match=r"metrics\.jsonl:1: terms: an object expected, a list found"):
        read_training(run)


@pytest.mark.parametrize("row", ["[]", '{"reward": 1}', '{"step": "a"}'])
def test_a_damaged_row_is_told_by_its_line(run: Path, row: str) -> None:
    (run / "metrics.jsonl").write_text(json.dumps(_row(1)) + "\n" + row + "\n")
    with pytest.raises(GensegError, match=r"metrics\.jsonl:2: (a row with a step|a JSON object) expected"):
        read_training(run)


def test_a_damaged_rollout_is_told_by_its_field(run: Path) -> None:
    _write(run / "rollouts.jsonl", [{**_rollout(1, "a", 1.0), "reward": "high"}])
    with pytest.raises(GensegError, match=r"rollouts\.jsonl: reward: "):
        training_page([read_training(run)])


def test_the_page_shows_curves_and_the_rollouts_that_differ_most(run: Path) -> None:
    text = training_page([read_training(run)])
    found = Reader(text)
    titles = [attributes.get("aria-label") for tag, attributes in found.elements if tag == "svg"]
    assert "Reward" in titles
    assert "own_number" in titles
    assert "Terms of the reward: train-<b>" in titles
    assert found.text.count("reward 7.000") == found.text.count("reward 0.000") == 4
    assert "query flat" not in found.text
    assert HOSTILE[0] in found.text
    assert "script" not in [tag for tag, _ in found.elements]
    assert "query mixed" not in training_page([read_training(run)], samples=False)


def test_runs_share_their_plots(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    _write(other / "metrics.jsonl", [{"step": step, "loss": 1 / step} for step in range(1, 4)])
    (other / "run.json").write_text("{}")
    found = Reader(training_page([read_training(run), read_training(other)]))
    titles = [attributes.get("aria-label") for tag, attributes in found.elements if tag == "svg"]
    assert titles.count("Reward") == titles.count("Loss") == 1
    assert "2 training runs" in found.text


def test_csv_and_json_hold_every_number(run: Path) -> None:
    found = read_training(run)
    rows = list(csv.DictReader(io.StringIO(as_csv([found]))))
    assert sum(row["name"] == "reward" for row in rows) == 50
    assert {"run": "train-<b>", "step": "50", "name": "terms.accuracy", "value": "0.5"} in rows
    (value,) = json.loads(as_json([found]))
    assert value["steps"] == list(found.steps)


POINT = st.tuples(st.integers(0, 10**6), st.floats(-1e6, 1e6))


@given(st.lists(POINT, min_size=1), st.integers(1, 20))
def test_a_thinned_curve_is_made_of_means_of_neighbours(points: list[tuple[float, float]], most: int) -> None:
    thin = thinned(points, most)
    assert 1 <= len(thin) <= most
    width = math.ceil(len(points) / most)
    for index, (_, y) in enumerate(thin):
        part = [value for _, value in points[index * width : (index + 1) * width]]
        assert y == pytest.approx(sum(part) / len(part), rel=1e-9, abs=1e-6)


@given(st.lists(POINT, min_size=1))
def test_a_smoothed_curve_knows_nothing_of_what_comes(points: list[tuple[float, float]]) -> None:
    width = max(len(points) // 10, 2)
    for index, (x, y) in enumerate(smoothed(points)):
        window = [value for _, value in points[: index + 1]][-width:]
        assert x == points[index][0]
        assert y == pytest.approx(sum(window) / len(window), rel=1e-9, abs=1e-6)


def test_long_runs_have_short_curves(run: Path) -> None:
    _write(run / "metrics.jsonl", [_row(step) for step in range(1, 5001)])
    text = training_page([read_training(run)], samples=False)
    longest = max(len(attributes["points"].split()) for tag, attributes in Reader(text).elements if tag == "polyline")  # pyright: ignore[reportOptionalMemberAccess]
    assert longest <= POINTS
    assert len(text) < 1_000_000


def test_moments_are_spread_over_the_run(run: Path) -> None:
    assert moments(read_training(run)) == [1, 17, 34, 50]


def test_contrasts_of_nothing_are_nothing() -> None:
    assert contrasts([]) is None
    rollouts = [Rollout.model_validate(_rollout(1, "a", reward)) for reward in (1.0, 0.5)]
    best_and_worst = contrasts(rollouts)
    assert best_and_worst is not None
    assert [rollout.reward for rollout in best_and_worst] == [1.0, 0.5]


def test_plots_come_in_one_order_whichever_run_is_first_and_name_only_the_runs_that_have_a_line(
    run: Path, tmp_path: Path
) -> None:
    """A cold start (loss alone) before GRPO: the reward still comes first, and each stage has its own plot of the loss."""
    sft = tmp_path / "cold"
    sft.mkdir()
    _write(sft / "metrics.jsonl", [{"step": step, "loss": 1 / step, "lr": 1e-6} for step in (1, 2)])
    (sft / "run.json").write_text(json.dumps({"identity": {"train.stage": "sft"}}))
    _write(run / "metrics.jsonl", [_row(step) | {"loss": 1e-6} for step in (1, 2)])
    (run / "run.json").write_text(json.dumps({"identity": {"train.stage": "grpo"}}))
    text = training_page([read_training(sft), read_training(run)])
    found = Reader(text)
    titles = [attributes.get("aria-label") for tag, attributes in found.elements if tag == "svg"]
    plots = [title for title in titles if title]
    assert plots[0] == "Reward"
    assert [title for title in plots if "Loss" in title] == ["Loss of sft", "Loss of grpo"]
    reward = text[text.index('aria-label="Reward"') :]
    reward = reward[: reward.index("</figure>")]
    assert "cold" not in reward
    assert 'class="line s1"' in reward, "the colour that the second run has everywhere"


def test_steps_have_whole_ticks() -> None:
    from gensegcli.evaluate.report.plots import axis_over

    assert axis_over("step", [1, 2], from_zero=True, whole=True).ticks == (0, 1, 2)
    assert axis_over("step", [1], from_zero=True, whole=True).ticks == (0, 1)
