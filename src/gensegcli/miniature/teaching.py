"""What teaching both miniatures has in common: schedule, optimisers, resumable loop, curve.

A run follows from its recipe alone: batches are numbered, so a run that was killed and started again sees what an
unbroken one would have seen.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from gensegcli.errors import GensegError

if TYPE_CHECKING:
    from pathlib import Path

    from torch.utils.data import Dataset

REPORT_EVERY = 100
SAVE_EVERY = 180.0
"""Seconds between checkpoints."""


@dataclass(frozen=True)
class Schedule:
    """Length and step size of a run: warm-up, plateau, linear descent to 2 %."""

    steps: int
    learning_rate: float
    warmup: int = 200
    decay_share: float = 0.3
    weight_decay: float = 0.01
    seed: int = 0

    def rate(self, step: int) -> float:
        """Share of the learning rate at a step."""
        descent = (self.steps - step) / (self.decay_share * self.steps)
        return min(1.0, (step + 1) / self.warmup, max(0.02, descent))


class Teacher(ABC):
    """A model, a dense head that is thrown away afterwards, and how both learn from one batch."""

    model: nn.Module
    dense: nn.Module

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    @abstractmethod
    def batches(self, start: int, stop: int) -> Dataset[Any]:
        """Batches number `start` to `stop`."""

    @abstractmethod
    def losses(self, batch: Any, step: int) -> dict[str, torch.Tensor]:
        """Scalars by name; those named in `weights` are minimised, the rest is only reported."""

    @abstractmethod
    def weights(self, step: int) -> dict[str, float]:
        """Weight of each loss at a step."""

    def prepare(self, *inner: str) -> None:
        """Make the optimisers: Muon for matrices inside blocks (names that contain one of `inner`), AdamW for the rest."""
        matrices, rest = [], []
        for name, weight in [*self.model.named_parameters(), *self.dense.named_parameters()]:
            within = weight.ndim == 2 and any(part in name for part in inner)
            (matrices if within else rest).append(weight)
        shared = {"lr": self.schedule.learning_rate, "weight_decay": self.schedule.weight_decay}
        self.optimisers = [
            torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw", **shared),
            torch.optim.AdamW(rest, betas=(0.9, 0.98), **shared),
        ]

    def step(self, batch: Any, step: int) -> dict[str, float]:
        """One update; its losses and the gradient's norm.

        Raises:
            FloatingPointError: the gradient is not finite.
        """
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.schedule.learning_rate * self.schedule.rate(step)
            optimiser.zero_grad()
        losses = self.losses(batch, step)
        weights = self.weights(step)
        torch.stack([weight * losses[name] for name, weight in weights.items()]).sum().backward()
        norm = nn.utils.clip_grad_norm_([*self.model.parameters(), *self.dense.parameters()], 1.0)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"the gradient is not finite at step {step}: {losses}")
        for optimiser in self.optimisers:
            optimiser.step()
        return {name: loss.item() for name, loss in losses.items()} | {"norm": norm.item()}

    def state(self, step: int) -> dict[str, Any]:
        return {
            "step": step,
            "recipe": asdict(self.schedule),
            "model": self.model.state_dict(),
            "dense": self.dense.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }

    def restore(self, path: Path) -> int:
        """Go back to a checkpoint; the number of the next step.

        Raises:
            GensegError: the checkpoint is of another recipe.
        """
        state = torch.load(path, weights_only=True)
        ours, theirs = asdict(self.schedule), state["recipe"]
        differing = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
        if differing:
            found = ", ".join(f"{key} {theirs.get(key)} there, {ours.get(key)} here" for key in differing)
            raise GensegError(f"{path}: begun with another recipe ({found})", hint="remove it to begin anew")
        self.model.load_state_dict(state["model"])
        self.dense.load_state_dict(state["dense"])
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        return int(state["step"])


def teach(teacher: Teacher, checkpoint: Path) -> None:
    """Teach to the end of the schedule, going on from `checkpoint` if it is there; the curve in a .jsonl beside it."""
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    stop = teacher.schedule.steps
    start = teacher.restore(checkpoint) if checkpoint.exists() else 0
    loader = DataLoader(teacher.batches(start, stop), batch_size=None, num_workers=1, prefetch_factor=8)
    began = saved = time.monotonic()
    sums: dict[str, float] = {}
    counted = 0
    with checkpoint.with_suffix(".jsonl").open("a") as log:
        for step, batch in enumerate(loader, start):
            for name, value in teacher.step(batch, step).items():
                sums[name] = sums.get(name, 0.0) + value
            counted += 1
            if (step + 1) % REPORT_EVERY == 0:
                means = {name: round(value / counted, 4) for name, value in sums.items()}
                rate = (step + 1 - start) / (time.monotonic() - began)
                log.write(json.dumps({"step": step + 1, **means, "steps/s": round(rate, 2)}) + "\n")
                log.flush()
                sums.clear()
                counted = 0
            if time.monotonic() - saved > SAVE_EVERY or step + 1 == stop:
                partial = checkpoint.with_suffix(".partial")
                torch.save(teacher.state(step + 1), partial)
                partial.replace(checkpoint)
                saved = time.monotonic()
