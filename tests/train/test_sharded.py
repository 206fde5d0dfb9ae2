"""Two processes that share weights, gradients and optimiser on a CPU learn what one process learns."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import AutoModelForImageTextToText, TrainingArguments

import gensegcli
from gensegcli.cli.launch import REPORTS, launch
from gensegcli.cli.train_run import Processes, Task, run
from gensegcli.errors import ExitCode, GensegError
from gensegcli.train.arguments import _sharding
from gensegcli.train.run import train
from gensegcli.train.runs import METRICS, ROLLOUTS, checkpoints, read_steps
from tests.checkpoints import BUILDERS
from tests.train.conftest import run_two_processes
from tests.train.ranks import SMALL, plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from gensegcli.config import Resolved

    Small = Callable[..., Resolved]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
    # Of torch and transformers, about each other.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def two(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of `ranks.py`, by two processes."""
    folder = tmp_path_factory.mktemp("two")
    run_two_processes("tests.train.ranks", str(scenes), str(folder))
    return folder


@pytest.fixture(scope="module")
def one(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The same runs by this process alone."""
    folder = tmp_path_factory.mktemp("one")

    def ran(name: str) -> Path:
        if not (folder / name).exists():
            train(plan(name, scenes), folder / name)
        return folder / name

    return ran


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def _same_weights(ours: Path, theirs: Path) -> None:
    first, second = _weights(ours), _weights(theirs)
    assert first.keys() == second.keys()
    # AdamW divides by the gradient's size: where that is next to nothing, the order of a sum decides about a whole lr.
    far = {name: float((first[name] - second[name]).norm() / second[name].norm()) for name in first}
    assert max(far.values()) < 2e-3, max(far.items(), key=lambda item: item[1])


def _held(two: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads((two / f"{name}-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", ["sft", "lora", "grpo"])
def test_two_processes_measure_at_each_step_what_one_does(name: str, two: Path, one: Callable[[str], Path]) -> None:
    ours, theirs = read_steps(two / name / METRICS), read_steps(one(name) / METRICS)
    assert [row["step"] for row in ours] == [row["step"] for row in theirs] == list(range(1, len(theirs) + 1))
    for mine, yours in zip(ours, theirs, strict=True):
        assert mine["loss"] == pytest.approx(yours["loss"], rel=1e-4, abs=1e-5)
        assert mine["grad_norm"] == pytest.approx(yours["grad_norm"], rel=1e-3, abs=1e-6)
    assert max(row["grad_norm"] for row in ours) > 1e-3, "something was to be learned"
    _same_weights(two / name / "model", one(name) / "model")


def test_held_out_samples_are_shared_out_and_scored_as_by_one(two: Path, one: Callable[[str], Path]) -> None:
    """Three of five samples by the first process, two by the second."""
    ours, theirs = (
        [{name: value for name, value in row.items() if name.startswith("held_out")} for row in read_steps(place)]
        for place in (two / "sft" / METRICS, one("sft") / METRICS)
    )
    assert [bool(row) for row in ours] == [False, True, False, True]
    assert ours == [pytest.approx(row, rel=1e-3) for row in theirs]


@pytest.mark.parametrize("name", ["sft", "grpo"])
def test_each_process_holds_half(name: str, two: Path) -> None:
    held = _held(two, name)
    for row in held:
        assert row["weights"] == pytest.approx(row["all"] / 2, rel=0.05)
        assert row["optimiser"] == 2 * row["weights"]
    assert sum(row["weights"] for row in held) == held[0]["all"]
    if name == "grpo":
        assert sum(row["reference"] for row in held) == held[0]["all"]


def test_rollouts_of_both_stand_once_and_are_those_of_one(two: Path, one: Callable[[str], Path]) -> None:
    ours, theirs = read_steps(two / "grpo" / ROLLOUTS), read_steps(one("grpo") / ROLLOUTS)
    assert len(ours) == 3 * 4 * 4
    for name in ("step", "id", "text", "reward", "terms"):
        assert [row[name] for row in ours] == [row[name] for row in theirs]


def test_a_checkpoint_is_a_whole_model_and_goes_on_in_two_processes(two: Path, scenes: Path) -> None:
    from gensegcli.sources.prepared import read_prepared

    assert checkpoints(two / "parts") == [2, 4]
    sample = next(read_prepared(scenes))
    with gensegcli.load(str(two / "parts" / "checkpoint-2"), device="cpu") as pipeline:
        assert pipeline.predict(sample.image, sample.query).segmenter == "demo"
    assert not list(two.rglob("pytorch_model_fsdp*")), "weights stand once"
    assert [row["loss"] for row in read_steps(two / "parts" / METRICS)] == pytest.approx(
        [row["loss"] for row in read_steps(two / "sft" / METRICS)], rel=1e-5
    )
    _same_weights(two / "parts" / "model", two / "sft" / "model")


def test_one_process_goes_on_where_two_stopped(two: Path, scenes: Path) -> None:
    folder = two / "alone"
    assert checkpoints(folder) == [2]
    assert train(plan("parts", scenes), folder).step == 4
    assert [row["loss"] for row in read_steps(folder / METRICS)] == pytest.approx(
        [row["loss"] for row in read_steps(two / "sft" / METRICS)], rel=1e-4
    )
    _same_weights(folder / "model", two / "sft" / "model")


def test_in_bf16_master_weights_stay_fp32(two: Path) -> None:
    assert _held(two, "bf16")[0]["dtypes"] == ["torch.float32"]
    rows = read_steps(two / "bf16" / METRICS)
    assert len(rows) == 2
    assert all(math.isfinite(row["loss"]) and 0 < row["grad_norm"] < 1e6 for row in rows)
    # Adapters change nothing before the first update: the same weights and samples in fp32.
    assert rows[0]["loss"] == pytest.approx(read_steps(two / "lora" / METRICS)[0]["loss"], rel=0.02)
    assert {weight.dtype for weight in _weights(two / "bf16" / "model").values()} == {torch.bfloat16}
    assert {weight.dtype for weight in _weights(two / "bf16" / "checkpoint-2").values()} == {torch.float32}


# ---------------------------------------------------------------- the command


def _command(scenes: Path, out: Path, *more: str) -> list[str]:
    settings = [part for one in (*SMALL, *more) for part in ("--set", one)]
    return ["train", "--preset", "demo", "--stage", "sft", "--data", str(scenes), "-o", str(out), *settings]


def test_sigterm_to_the_launcher_saves_and_says_how_to_go_on(scenes: Path, tmp_path: Path) -> None:
    command = [*_command(scenes, tmp_path / "run", "train.epochs=50"), "--nproc", "2"]
    running = subprocess.Popen(
        [sys.executable, "-m", "gensegcli", *command], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert running.stderr is not None
    said = []
    for line in running.stderr:
        said.append(line)
        if line.startswith("step 1/"):
            running.send_signal(signal.SIGTERM)
    assert running.wait() == ExitCode.INTERRUPTED, "".join(said)
    text = "".join(said)
    assert text.count(f"genseg train --resume {tmp_path / 'run'}") == 1
    assert "Traceback" not in text
    assert len(checkpoints(tmp_path / "run")) == 1


def test_an_error_of_the_processes_is_told_once(
    scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(GensegError, match=r"its prompt has \d+ tokens, and train.max_prompt_tokens is 20"):
        launch(_command(scenes, tmp_path, "train.max_prompt_tokens=20"), nproc=2, nodes=1, rdzv=None)
    told = capfd.readouterr().err
    assert "Traceback" not in told
    assert "error" not in told.lower(), "the launcher tells it"
    assert REPORTS not in os.environ, "the folder of reports is gone"


def test_what_cannot_be_dealt_out_is_told_before_a_process_starts(small: Small, tmp_path: Path) -> None:
    task = Task(small("train.micro_batch=2"), "demo", tmp_path, None)
    with pytest.raises(GensegError, match="4 sequences of a step cannot be dealt out to 3 processes"):
        run(task, Processes(3, 1, None), restart=False, dry_run=False, json=False, quiet=True)


# ---------------------------------------------------------------- what a GPU run is given


@pytest.mark.parametrize("family", BUILDERS)
def test_every_layer_is_sharded_by_itself(family: str, tmp_path: Path) -> None:
    own = _sharding(torch.device("cuda"), checkpointing=True)
    assert own["gradient_checkpointing"] is False, "FSDP's own is on; both would be refused"
    given = {"fsdp": own["fsdp"], "fsdp_config": own["fsdp_config"]}
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[], **given)
    plugin = FullyShardedDataParallelPlugin(**arguments.fsdp_plugin_args)
    assert (plugin.fsdp_version, plugin.reshard_after_forward, plugin.activation_checkpointing) == (2, True, True)
    assert not plugin.cpu_ram_efficient_loading
    plugin.set_mixed_precision("bf16")
    assert isinstance(plugin.mixed_precision_policy, MixedPrecisionPolicy)
    model = AutoModelForImageTextToText.from_pretrained(BUILDERS[family](tmp_path / "model"))
    wrapped = fsdp2_prepare_auto_wrap_policy(plugin, model)
    assert wrapped is not None
    units = [name for name, module in model.named_modules() if wrapped(module)]
    layers = [f"model.language_model.layers.{i}" for i in range(2)] + [f"model.visual.blocks.{i}" for i in range(2)]
    assert sorted(units) == sorted(layers)
