from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from gensegcli.cli import train_run
from gensegcli.cli.launch import launch
from gensegcli.cli.train_run import Task, line
from gensegcli.errors import ExitCode, GensegError
from gensegcli.prep.inputs import Inputs, read_raw
from gensegcli.prep.recipe import resolve as resolve_recipe
from gensegcli.prep.run import prepare

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

FAST = ("train.prompts_per_step=2", "train.num_generations=2", "train.micro_batch=4", "train.max_response_tokens=32")
ARGUMENTS = ("train", "--preset", "demo", "--device", "cpu", *(part for one in FAST for part in ("--set", one)))


@pytest.fixture
def data(place: Path) -> Path:
    recipe = resolve_recipe("scenes", changes={"source.n": 12, "select.seed": 7})
    folder = place / "data" / "prepared" / "scenes-train"
    prepare(recipe, read_raw(recipe, Inputs(folder)), folder)
    return folder


@pytest.mark.slow
def test_a_dry_run_says_everything_and_writes_nothing(genseg: Callable[..., Any], place: Path, data: Path) -> None:
    before = sorted(place.rglob("*"))
    result = genseg(*ARGUMENTS, "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert sorted(place.rglob("*")) == before
    shown = " ".join(result.stdout.split())
    assert "steps 6 " in shown
    assert "reward think_format × 1, answer_format × 1, accuracy × 1, non_repetition × 1, mask_iou × 5" in shown
    assert "train.lr 3e-05 preset demo" in shown
    plan = json.loads(
        genseg(*ARGUMENTS, "--dry-run", "--json", "--limit", "5", "--nproc", "2", "--set", "train.micro_batch=1").stdout
    )
    assert (plan["samples"], plan["steps"], plan["processes"], plan["sequences_per_step"]) == (5, 3, 2, 4)


@pytest.mark.slow
def test_the_default_is_the_papers_recipe_and_names_the_command_for_its_data(
    genseg: Callable[..., Any], place: Path
) -> None:
    result = genseg("train", "--dry-run")
    assert result.exit_code == ExitCode.NOT_FOUND
    assert "training data visionreasoner-7k: not prepared yet" in result.stderr
    assert "hint: genseg prep visionreasoner-7k" in result.stderr
    assert "17.6" in result.stdout, "4.4 billion weights of 4 bytes: what is known without the data is told"
    assert "genseg prep fcot" in genseg("train", "--stage", "sft", "--dry-run").stderr
    assert "genseg prep grefcoco" in genseg("train", "--preset", "genseg-r1-g", "--dry-run").stderr


def test_the_preset_follows_from_what_is_trained() -> None:
    assert train_run._preset_for({}) == "genseg-r1-4b"
    assert train_run._preset_for({"model.name": "qwen3-vl-8b"}) == "genseg-r1-4b"
    assert train_run._preset_for({"train.stage": "sft"}) == "cold-start"
    assert train_run._preset_for({"model.name": "demo"}) == "demo"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_process_that_is_asked_to_end_saves_and_says_how_to_go_on(
    start: Callable[..., subprocess.Popen[str]], genseg: Callable[..., Any], place: Path, data: Path
) -> None:
    said = []
    with start(*ARGUMENTS, "--out", "run") as process:
        assert process.stderr is not None
        for text in process.stderr:
            said.append(text)
            if text.startswith("step 2/6"):
                process.send_signal(signal.SIGTERM)
    assert process.returncode == ExitCode.INTERRUPTED, said
    assert said[-1].startswith("interrupted after step ")
    assert said[-1].endswith("saved: genseg train --resume run\n")
    refused = genseg("train", "--resume", "run", "--set", "train.lr=1")
    assert refused.exit_code == ExitCode.USAGE
    assert "train.lr was 0.00003, is 1.0" in refused.stderr
    done = genseg("train", "--resume", "run", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == {
        "run": "run",
        "model": "run/model",
        "step": 6,
        "steps": 6,
        "interrupted": False,
    }
    steps = [json.loads(text)["step"] for text in (place / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert genseg("predict", "photos/0.png", "red circle", "--model", "run").exit_code == 0


def test_what_is_no_run_cannot_be_resumed(genseg: Callable[..., Any], place: Path) -> None:
    (place / "run.json").write_text('{"verb": "predict"}')
    for folder in ("photos", "."):
        result = genseg("train", "--resume", folder)
        assert result.exit_code == ExitCode.NOT_FOUND
        assert "no training run" in result.stderr


def test_the_line_of_a_step_leaves_out_what_the_step_does_not_know() -> None:
    row = {"step": 3, "steps": 9, "reward": 2.5, "mask_iou": None, "format": 0.25, "seconds": 1.25}
    assert line(row) == "reward 2.50, format 25%, 1.2 s"


def test_several_machines_need_a_place_to_meet() -> None:
    with pytest.raises(GensegError, match="2 machines need a place to meet"):
        launch(["--version"], nproc=1, nodes=2, rdzv=None)


def test_settings_of_a_run_lie_under_those_that_are_given(place: Path) -> None:
    run = {"verb": "train", "identity": {"limit": 40}, "settings": {"train.lr": {"value": 0.5, "from": "--set"}}}
    (place / "run").mkdir()
    (place / "run" / "run.json").write_text(json.dumps(run))
    given = {"preset": None, "config": None, "flags": {}, "out": None, "limit": None, "resume": place / "run"}
    task = Task.from_arguments(assignments=["train.keep=2"], **given)
    assert (task.settings.settings.train.lr, task.settings.settings.train.keep, task.limit) == (0.5, 2, 40)
    assert task.settings.origins["train.lr"] == str(place / "run")
