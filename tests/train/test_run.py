"""Whole runs of the bundled miniature on a CPU: what is written, what a resumed run repeats, what stops one."""

from __future__ import annotations

import json
import os
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest
import torch

import gensegcli
from gensegcli.errors import ExitCode, GensegError
from gensegcli.rewards import compose
from gensegcli.rewards.compose import Term
from gensegcli.train.plan import Plan
from gensegcli.train.run import Outcome, train
from gensegcli.train.runs import METRICS, ROLLOUTS, checkpoints, read_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gensegcli.config import Resolved

    Small = Callable[..., Resolved]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
    # Of torch and transformers, about each other.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def _interrupt_at(step: int) -> Callable[[Mapping[str, Any]], None]:
    def on_step(row: Mapping[str, Any]) -> None:
        if row["step"] == step:  # told after the step has ended: the signal comes in the next one
            os.kill(os.getpid(), signal.SIGTERM)

    return on_step


def _comparable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what depends on the clock."""
    return [
        {key: value for key, value in row.items() if key not in ("seconds", "phases", "tokens_per_second")}
        for row in rows
    ]


@pytest.fixture(scope="module")
def unbroken(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """Ten steps in one go."""
    from gensegcli.config import resolve
    from tests.train.conftest import SMALL

    folder = tmp_path_factory.mktemp("unbroken")
    torch.set_num_threads(1)
    settings = resolve(preset="demo", assignments=[f"train.data={scenes}", *SMALL])
    return folder, train(Plan.of(settings, limit=20), folder)


def test_a_run_leaves_numbers_rollouts_checkpoints_and_a_model(unbroken: tuple[Path, Outcome]) -> None:
    folder, outcome = unbroken
    assert outcome == Outcome(10, 10, folder / "model", interrupted=False)
    rows = read_steps(folder / METRICS)
    assert [row["step"] for row in rows] == list(range(1, 11))
    wanted = {"reward", "mask_iou", "format", "no_target_accuracy", "kl", "entropy", "length", "mixed_groups"}
    wanted |= {"refusals", "loss", "lr", "seconds", "grad_norm", "terms", "phases", "tokens_per_second"}
    assert all(wanted <= row.keys() for row in rows)
    assert all(row["lr"] == 1e-4 for row in rows)
    rollouts = read_steps(folder / ROLLOUTS)
    assert len(rollouts) == 40
    for row in rollouts:
        assert sum(row["terms"].values()) == pytest.approx(row["reward"])
    for step in range(1, 11):
        own = [row["reward"] for row in rollouts if row["step"] == step]
        assert rows[step - 1]["reward"] == pytest.approx(sum(own) / 4)
    assert checkpoints(folder) == [10]
    assert not list(folder.rglob("training_args.bin")), "no pickles"


def test_groups_are_completions_of_one_question(unbroken: tuple[Path, Outcome]) -> None:
    rollouts = read_steps(unbroken[0] / ROLLOUTS)
    pairs = [(rollouts[i]["id"], rollouts[i + 1]["id"]) for i in range(0, len(rollouts), 2)]
    assert all(a == b for a, b in pairs)
    assert len({a for a, _ in pairs}) == 20, "one epoch: each sample once"


def test_the_trained_policy_predicts_at_once(unbroken: tuple[Path, Outcome], scenes: Path) -> None:
    from gensegcli.sources.prepared import read_prepared

    folder, outcome = unbroken
    card = json.loads((outcome.model / "genseg.json").read_text())
    assert card["dialect"] == "genseg-mini"
    assert card["segmenter"] == "demo"
    assert card["step"] == 10
    assert card["training"]["reward"]["weights"]["mask_iou"] == 5
    assert "| stage | grpo |" in (outcome.model / "README.md").read_text()
    sample = next(read_prepared(scenes))
    for place in (outcome.model, folder / "checkpoint-10", folder):
        with gensegcli.load(str(place), device="cpu") as pipeline:
            assert pipeline.dialect.name == "genseg-mini"
            assert pipeline.predict(sample.image, sample.query).segmenter == "demo"


def test_ten_steps_are_five_and_five_more(unbroken: tuple[Path, Outcome], small: Small, tmp_path: Path) -> None:
    plan = Plan.of(small(), limit=20)
    first = train(plan, tmp_path, on_step=_interrupt_at(4))
    assert first == Outcome(5, 10, tmp_path / "checkpoint-5", interrupted=True)
    with gensegcli.load(str(tmp_path), device="cpu") as pipeline:
        assert pipeline.policy.id == str(tmp_path)
    assert train(plan, tmp_path).step == 10
    assert _comparable(read_steps(tmp_path / METRICS)) == _comparable(read_steps(unbroken[0] / METRICS))
    assert read_steps(tmp_path / ROLLOUTS) == read_steps(unbroken[0] / ROLLOUTS)
    ours, theirs = _weights(tmp_path / "model"), _weights(unbroken[1].model)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    start = _weights(plan.policy.path)
    assert any(not torch.equal(ours[name], start[name].float()) for name in ours), "something was learned"


@pytest.mark.parametrize("loss", ["grpo", "dapo", "dr_grpo"])
def test_micro_batches_of_like_length_give_the_gradient_of_random_ones(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    """Of a step whose completions earn different rewards; TRL's own order of the rows is the oracle."""
    from gensegcli.train.grpo import PolicyTrainer

    settings = small(
        *("train.prompts_per_step=4", "train.num_generations=4", "train.micro_batch=2"),
        *("train.max_response_tokens=200", f"train.loss_type={loss}"),
    )
    train(Plan.of(settings, limit=4), tmp_path / "ours")
    monkeypatch.delattr(PolicyTrainer, "_prepare_inputs")
    train(Plan.of(settings, limit=4), tmp_path / "random")

    (ours,), (random,) = (read_steps(tmp_path / name / METRICS) for name in ("ours", "random"))
    assert ours["reward_spread"] > 0.1
    assert ours["grad_norm"] > 0.01
    assert ours["grad_norm"] == pytest.approx(random["grad_norm"], rel=1e-4)
    assert ours["entropy"] == pytest.approx(random["entropy"], rel=0.05)


@pytest.mark.parametrize("average", ["train.loss_type=bnpo", "train.entropy_coef=0.001"])
def test_averages_over_a_micro_batch_keep_random_ones(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, average: str
) -> None:
    from gensegcli.train import grpo

    monkeypatch.delattr(grpo, "sorted_batches")
    assert train(Plan.of(small(average), limit=2), tmp_path / "random").step == 1
    with pytest.raises(NameError, match="sorted_batches"):
        train(Plan.of(small(), limit=2), tmp_path / "sorted")


def test_a_model_that_could_not_be_written_leaves_the_one_before(
    unbroken: tuple[Path, Outcome], small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gensegcli.train.trainer import RunTrainer

    plan = Plan.of(small("train.save_steps=1"), limit=2)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    write = RunTrainer._write

    def cut_off(trainer: RunTrainer, folder: Path, *arguments: Any) -> None:
        write(trainer, folder, *arguments)
        if not folder.name.startswith("checkpoint"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunTrainer, "_write", cut_off)
        with pytest.raises(KeyboardInterrupt):
            train(plan, tmp_path)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["old"]
    assert train(plan, tmp_path).model == tmp_path / "model"
    assert not (tmp_path / "model" / "old").exists()
    assert (tmp_path / "model" / "genseg.json").is_file()
    assert not (tmp_path / ".model.partial").exists()


def test_other_settings_are_refused_with_the_keys_that_differ(unbroken: tuple[Path, Outcome], small: Small) -> None:
    with pytest.raises(GensegError) as caught:
        train(Plan.of(small("train.lr=2e-4", "reward.mask_iou=4"), limit=20), unbroken[0])
    assert "reward.mask_iou was 5.0, is 4.0" in caught.value.message
    assert "train.lr was 0.0001, is 0.0002" in caught.value.message
    assert "--restart" in caught.value.hint


def test_a_finished_run_is_not_trained_again(unbroken: tuple[Path, Outcome], small: Small) -> None:
    before = (unbroken[0] / METRICS).read_bytes()
    said: list[str] = []
    plan = Plan.of(small("train.save_steps=3", "train.micro_batch=2"), limit=20)
    assert train(plan, unbroken[0], on_phase=said.append) == unbroken[1]
    assert said == ["nothing left to do"], "not even loaded"
    assert (unbroken[0] / METRICS).read_bytes() == before


def test_a_reward_that_is_no_number_stops_before_the_update(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(compose.TERMS, "accuracy", Term(lambda _: float("nan"), 0, 3))
    with pytest.raises(GensegError, match="step 1: reward term accuracy is nan for sample"):
        train(Plan.of(small(), limit=2), tmp_path)
    saved = json.loads((tmp_path / "offending.json").read_text())
    assert saved["step"] == 1
    assert len(saved["facts"]) == 4
    assert all("<think>" in fact["text"] and fact["query"] for fact in saved["facts"])
    assert not (tmp_path / METRICS).exists()
    assert checkpoints(tmp_path) == []


def test_a_loss_that_is_no_number_stops_with_what_was_learned_from(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import GRPOTrainer

    real = GRPOTrainer._compute_loss
    monkeypatch.setattr(GRPOTrainer, "_compute_loss", lambda *given: real(*given) * float("nan"))
    with pytest.raises(GensegError, match="step 1: the loss is nan"):
        train(Plan.of(small(), limit=2), tmp_path)
    facts = json.loads((tmp_path / "offending.json").read_text())["facts"]
    assert len(facts) == 4
    assert {"id", "text", "terms", "reward"} <= facts[0].keys()


def test_a_prompt_that_is_too_long_is_an_error(small: Small, tmp_path: Path) -> None:
    with pytest.raises(GensegError, match=r"scenes.*: its prompt has \d+ tokens, and train.max_prompt_tokens is 20"):
        train(Plan.of(small("train.max_prompt_tokens=20"), limit=2), tmp_path)


def test_what_tensorboard_was_told_is_in_its_file_when_a_run_breaks_off(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told: list[int] = []

    def third_is_nan(_: Any) -> float:
        told.append(0)
        return float("nan") if len(told) > 2 * 4 else 0.0

    monkeypatch.setitem(compose.TERMS, "accuracy", Term(third_is_nan, 0, 3))
    with pytest.raises(GensegError, match="step 3: reward term accuracy is nan"):
        train(Plan.of(small("train.report_to=tensorboard"), limit=8), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [row["step"] for row in read_steps(tmp_path / METRICS)] == [1, 2]
    assert [event.step for event in events.Scalars("train/grad_norm")] == [1, 2]


@pytest.mark.parametrize("full", [True, False])
def test_a_disk_that_is_full_is_told_in_a_line_and_costs_one_checkpoint(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    """PyTorch makes a RuntimeError of it, in words of its own."""
    plan = Plan.of(small("train.save_steps=1"), limit=6)
    real = torch.save

    def no_room(what: Any, path: Any, *others: Any) -> None:
        if "checkpoint-2" in str(path):
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 18 vs 17\nframe #0: …")
        real(what, path, *others)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", no_room)
        if full:
            patched.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(1 << 30, 1 << 30, 0))
        with pytest.raises(GensegError) as caught:
            train(plan, tmp_path)
    reason = (
        "No space left on device" if full else "[enforce fail at inline_container.cc:672] . unexpected pos 18 vs 17"
    )
    assert caught.value.message == f"{tmp_path / 'checkpoint-2'}: cannot be saved ({reason})"
    assert "genseg train --resume" in caught.value.hint
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert checkpoints(tmp_path) == [1]
    assert train(plan, tmp_path).step == 3


@pytest.mark.parametrize("writer", ["torch", "safetensors", "python"])
def test_writers_that_meet_a_limit_are_told_in_a_line(tmp_path: Path, writer: str) -> None:
    """The limit on a file's size stands for a full disk: the same calls fail in the same places."""
    import resource

    from safetensors.torch import save_file

    from gensegcli.train.trainer import writing

    weights = {"a": torch.zeros(1 << 18)}
    writers: dict[str, Callable[[Path], Any]] = {
        "torch": lambda path: torch.save(weights, path),
        "safetensors": lambda path: save_file(weights, path),
        "python": lambda path: path.write_bytes(bytes(1 << 20)),
    }
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with (
            pytest.raises(GensegError, match="checkpoint-1: cannot be saved") as caught,
            writing(tmp_path / "checkpoint-1"),
        ):
            writers[writer](tmp_path / "weights")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in caught.value.message
    assert caught.value.code == ExitCode.ENVIRONMENT


@pytest.mark.parametrize("name", ["trainer_state.json", "optimizer.pt", "scheduler.pt", "model.safetensors"])
def test_a_damaged_checkpoint_is_told_in_a_line(
    unbroken: tuple[Path, Outcome], small: Small, tmp_path: Path, name: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(unbroken[0], run)
    shutil.rmtree(run / "model")
    file = run / "checkpoint-10" / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(GensegError, match="checkpoint-10") as caught:
        train(Plan.of(small(), limit=20), run)
    assert "\n" not in caught.value.message


def test_a_batch_that_cannot_be_dealt_out_is_told(small: Small, tmp_path: Path) -> None:
    with pytest.raises(GensegError, match="4 sequences of a step cannot be dealt out to 1 processes") as caught:
        train(Plan.of(small("train.micro_batch=3"), limit=2), tmp_path)
    assert caught.value.hint == "--set train.micro_batch=2"
    assert caught.value.code == ExitCode.USAGE


def test_adapters_are_saved_as_a_whole_model_and_go_on_by_themselves(small: Small, tmp_path: Path) -> None:
    plan = Plan.of(small("train.lora=true", "train.lora_rank=4", "train.lr=1e-3", "train.seed=1"), limit=8)
    train(plan, tmp_path / "whole")
    assert train(plan, tmp_path / "parts", on_step=_interrupt_at(1)).step == 2
    checkpoint = tmp_path / "parts" / "checkpoint-2"
    start, learned = _weights(plan.policy.path), _weights(checkpoint)
    assert learned.keys() == start.keys()
    changed = [name for name in start if not torch.equal(learned[name], start[name].float())]
    assert changed
    assert all("proj" in name or "linear" in name or "qkv" in name or "merger" in name for name in changed)
    assert (checkpoint / "default" / "adapter_model.safetensors").is_file()
    with gensegcli.load(str(checkpoint), device="cpu") as pipeline:
        assert pipeline.dialect.name == "genseg-mini"
    assert train(plan, tmp_path / "parts").step == 4
    ours, theirs = _weights(tmp_path / "parts" / "model"), _weights(tmp_path / "whole" / "model")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not (tmp_path / "whole" / "model" / "default").exists()
