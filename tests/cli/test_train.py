from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from gensegcli.cli import train_run
from gensegcli.cli.launch import launch
from gensegcli.cli.train_run import Task, came_to, line
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
    assert said[-2].startswith("reward "), "where it began and what it has come to"
    assert " at step 1, " in said[-2]
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
    rows = [json.loads(text) for text in (place / "run" / "metrics.jsonl").read_text().splitlines()]
    rewards = f"reward {rows[0]['reward']:.2f} at step 1, {rows[5]['reward']:.2f} at step 6"
    assert rewards in done.stderr
    assert "genseg report run -o training.html" in done.stderr
    assert done.stderr.endswith('next: genseg predict picture.jpg "…" --model run\n')
    steps = [json.loads(text)["step"] for text in (place / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert genseg("predict", "photos/0.png", "red circle", "--model", "run").exit_code == 0
    for name in ("metrics.jsonl", "checkpoints.jsonl"):
        whole = (place / "run" / name).read_bytes()
        (place / "run" / name).write_bytes(b'{"step": \n' + whole)
        damaged = genseg("train", "--resume", "run")
        assert damaged.exit_code in (ExitCode.USAGE, ExitCode.NOT_FOUND)
        assert f"error: run/{name}" in damaged.stderr
        assert "Traceback" not in damaged.stderr
        (place / "run" / name).write_bytes(whole)


@pytest.mark.slow
def test_a_dry_run_looks_at_the_samples(genseg: Callable[..., Any], data: Path) -> None:
    every = json.loads(genseg(*ARGUMENTS, "--set", "train.max_prompt_tokens=1", "--dry-run", "--json").stdout)[
        "bad_rows"
    ]
    lengths = sorted(int(re.findall(r"has (\d+) tokens", row["problem"])[0]) for row in every)
    limit = ("--set", f"train.max_prompt_tokens={lengths[5]}")
    too_long = sum(length > lengths[5] for length in lengths)
    assert 0 < too_long < len(lengths) == 12
    result = genseg(*ARGUMENTS, *limit, "--dry-run")
    assert result.exit_code == ExitCode.USAGE
    assert "checking 12 samples" in result.stderr
    assert f"error: {too_long} of 12 samples cannot be trained on. prompt too long: {too_long} (" in result.stderr
    assert "--set train.bad_rows=skip leaves them out" in result.stderr
    skipped = genseg(*ARGUMENTS, *limit, "--set", "train.bad_rows=skip", "--dry-run", "--json")
    assert skipped.exit_code == 0
    plan = json.loads(skipped.stdout)
    assert plan["samples"] == 12 - too_long
    assert plan["samples_left_out"] == len(plan["bad_rows"]) == too_long
    assert {row["flaw"] for row in plan["bad_rows"]} == {"prompt too long"}
    assert f"note: left out: {too_long} of 12 samples" in skipped.stderr


def test_what_is_no_run_cannot_be_resumed(genseg: Callable[..., Any], place: Path) -> None:
    (place / "run.json").write_text('{"verb": "predict"}')
    for folder in ("photos", "."):
        result = genseg("train", "--resume", folder)
        assert result.exit_code == ExitCode.NOT_FOUND
        assert "no training run" in result.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "run/run.json: not JSON"),
        ('{"verb": "train", ', "run/run.json: not JSON"),
        ("[]", "run/run.json: a JSON object expected, a list found"),
        ("[" * 100_000, "run/run.json: brackets nest too deeply"),
        ('{"verb": "train"}', "run/run.json: settings: an object expected, None found"),
        ('{"verb": "train", "settings": [], "identity": {}}', "run/run.json: settings: an object expected, [] found"),
        ('{"verb": "train", "settings": {}}', "run/run.json: identity: an object expected, None found"),
        ('{"verb": "train", "settings": {"train.lr": 1}, "identity": {}}', "train.lr: an object expected, 1 found"),
        ('{"verb": "train", "settings": {"train.lr": {}}, "identity": {}}', "settings: train.lr has no value"),
        (
            '{"verb": "train", "settings": {}, "identity": {"limit": "9"}}',
            "limit: a number of samples expected, '9' found",
        ),
        ('{"verb": "train", "settings": {"train.no": {"value": 1}}, "identity": {}}', "train.no"),
    ],
)
def test_a_damaged_run_is_told_in_a_line(genseg: Callable[..., Any], place: Path, content: str, words: str) -> None:
    (place / "run").mkdir()
    (place / "run" / "run.json").write_text(content)
    result = genseg("train", "--resume", "run")
    assert result.exit_code == ExitCode.USAGE
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_what_a_run_came_to() -> None:
    rewarded = [
        {"step": 1, "reward": 2.0, "mask_iou": None, "loss": 1e-8},
        {"step": 2, "reward": 3.5, "mask_iou": 0.5, "loss": 2e-8},
    ]
    assert came_to(rewarded) == ["reward 2.00 at step 1, 3.50 at step 2; mask IoU 0.500 at step 2"]
    taught = [{"step": 1, "loss": 2.0, "token_accuracy": 0.25}, {"step": 9, "loss": 1.0, "token_accuracy": 0.5}]
    assert came_to(taught) == ["loss 2.0000 at step 1, 1.0000 at step 9; tokens right 25.0% at step 1, 50.0% at step 9"]


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
