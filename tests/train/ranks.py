"""One of the processes of `test_sharded.py`, started by torchrun: several runs after one another, and what it held."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from gensegcli.config import resolve
from gensegcli.train import run
from gensegcli.train.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gensegcli.train.trainer import RunTrainer

SMALL = (
    "train.prompts_per_step=4",
    "train.micro_batch=2",
    "train.max_response_tokens=32",
    "train.report_to=none",
    "train.warmup_steps=0",
    "train.save_steps=100",
    "model.device=cpu",
)
RUNS = {
    "sft": (16, ("train.stage=sft", "train.lr=1e-3")),
    "parts": (16, ("train.stage=sft", "train.lr=1e-3")),
    "lora": (8, ("train.stage=sft", "train.lr=1e-3", "train.lora=true", "train.lora_rank=4")),
    "bf16": (8, ("train.stage=sft", "train.lr=1e-3", "train.precision=bf16", "train.gradient_checkpointing=true")),
    "grpo": (
        12,
        ("train.num_generations=4", "train.micro_batch=4", "train.lr=1e-5", "train.gradient_checkpointing=true"),
    ),
}
"""Samples and settings of each run."""


def plan(name: str, scenes: Path) -> Plan:
    """What that run does."""
    limit, own = RUNS[name]
    held_out = (f"train.eval_data={scenes}", "train.eval_steps=2", "train.eval_limit=5") if name == "sft" else ()
    return Plan.of(resolve(preset="demo", assignments=[f"train.data={scenes}", *SMALL, *own, *held_out]), limit=limit)


class Held(TrainerCallback):
    """Counts the numbers that this process holds of weights, gradients' optimiser and reference, after a step."""

    def __init__(self, trainer: RunTrainer) -> None:
        self.trainer = trainer
        self.counts: dict[str, Any] = {}

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        weights = list(self.trainer.model.parameters())
        optimiser = [
            moment for known in self.trainer.optimizer.state.values() for moment in known.values() if moment.dim()
        ]
        reference = getattr(self.trainer, "ref_model", None)
        self.counts = {
            "step": state.global_step,
            "all": sum(weight.numel() for weight in weights),
            "weights": _held(weights),
            "optimiser": _held(optimiser),
            "reference": _held(list(reference.parameters())) if reference is not None else None,
            "dtypes": sorted({str(weight.dtype) for weight in weights}),
        }


def _held(tensors: list[torch.Tensor]) -> int:
    return sum((one.to_local() if isinstance(one, DTensor) else one).numel() for one in tensors)


def _interrupt_at(step: int) -> Callable[[Mapping[str, Any]], None]:
    def on_step(row: Mapping[str, Any]) -> None:
        if row["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return on_step


def main(scenes: Path, folder: Path) -> None:
    """All runs; `<run>/rank-<n>.json` holds what this process held."""
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    build = run.build

    def watched(*given: Any, **named: Any) -> Any:
        trainer = build(*given, **named)
        watched.held = Held(trainer)  # type: ignore[attr-defined]
        trainer.add_callback(watched.held)  # type: ignore[attr-defined]
        return trainer

    run.build = watched  # type: ignore[assignment]
    run._part = lambda: None  # the processes stay together for the next run
    for name in RUNS:
        place = folder / name
        if name == "parts":
            run.train(plan(name, scenes), place, on_step=_interrupt_at(1))
            if rank == 0:
                shutil.copytree(place, folder / "alone")
        run.train(plan(name, scenes), place)
        (folder / f"{name}-{rank}.json").write_text(json.dumps(watched.held.counts))  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
