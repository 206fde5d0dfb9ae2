"""From settings to TRL's arguments: what is named, what is dealt out, what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from gensegcli.config import resolve
from gensegcli.errors import ExitCode, GensegError
from gensegcli.train.arguments import _shared, grpo_arguments

if TYPE_CHECKING:
    from pathlib import Path

    from trl import GRPOConfig

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def made(tmp_path: Path, *assignments: str, preset: str = "genseg-r1-4b", world: int = 1) -> GRPOConfig:
    settings = resolve(preset=preset, assignments=["train.report_to=none", *assignments]).settings
    return grpo_arguments(settings, tmp_path, device=CPU, world=world)


@pytest.mark.parametrize("preset", ["genseg-r1-4b", "genseg-r1-8b", "genseg-r1-g", "genseg-r1-g-noneg"])
def test_the_numbers_of_the_papers_table(tmp_path: Path, preset: str) -> None:
    found = made(tmp_path, preset=preset)
    assert (found.learning_rate, found.weight_decay, found.max_grad_norm) == (1e-6, 1e-2, 1.0)
    assert (found.beta, found.epsilon, found.num_generations, found.temperature) == (5e-3, 0.2, 8, 1.0)
    assert (found.per_device_train_batch_size, found.gradient_accumulation_steps) == (2, 32)
    assert found.generation_batch_size == 64, "eight prompts with eight completions"
    assert (found.max_completion_length, found.num_iterations, found.num_train_epochs) == (1500, 1, 1)
    assert (found.loss_type, found.scale_rewards, str(found.lr_scheduler_type)) == (
        "grpo",
        "group",
        "SchedulerType.CONSTANT_WITH_WARMUP",
    )


@pytest.mark.parametrize(("device", "optimiser"), [("cpu", "adamw_torch"), ("cuda", "adamw_torch_fused")])
def test_a_gpu_updates_without_copies_of_all_gradients(tmp_path: Path, device: str, optimiser: str) -> None:
    settings = resolve(preset="genseg-r1-4b").settings
    assert _shared(settings.train, tmp_path, device=torch.device(device), world=1, sequences=64)["optim"] == optimiser


@pytest.mark.parametrize(
    ("assignments", "world", "message"),
    [
        (("train.top_p=0.9",), 1, "top_p=0.9 with --rollout colocate"),
        (("train.lora=true",), 2, "--lora with --rollout colocate on 2 processes"),
    ],
)
def test_what_vllm_cannot_do_right_is_refused(
    tmp_path: Path, assignments: tuple[str, ...], world: int, message: str
) -> None:
    with pytest.raises(GensegError, match=message) as caught:
        made(tmp_path, "train.rollout=colocate", *assignments, world=world)
    assert caught.value.code == ExitCode.USAGE
    assert "--rollout transformers" in caught.value.hint
    assert made(tmp_path, *assignments).top_p <= 1, "nothing of the kind with the trainer's own rollouts"
