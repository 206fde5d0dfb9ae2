"""What both trainers have in common: checkpoints that are ready models, rows of numbers, and no step on NaN."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import torch
from transformers import PrinterCallback

from gensegcli.errors import GensegError
from gensegcli.pretrained import quiet_progress
from gensegcli.store import write_json
from gensegcli.train.runs import CHECKPOINTS, METRICS, StepLog
from gensegcli.train.watch import TRAINER_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gensegcli.train.export import Passport

OFFENDING = "offending.json"


class Journal:
    """The files of a run that a trainer adds to; on all processes but the first it writes nothing.

    Args:
        run: folder of the run.
        passport: what is written beside the weights.
        after: step after which rows of earlier attempts are forgotten.
        writes: whether this process writes.
        tell: called with the row of each step.
    """

    def __init__(
        self,
        run: Path,
        passport: Passport,
        *,
        after: int = 0,
        writes: bool = True,
        tell: Callable[[Mapping[str, Any]], object] | None = None,
    ) -> None:
        self.run, self.passport, self.after, self.writes = run, passport, after, writes
        self.tell = tell or (lambda _: None)
        self._logs: dict[str, StepLog] = {}

    def write(self, name: str, row: Mapping[str, Any]) -> None:
        """Add a row to one of the run's files."""
        if not self.writes:
            return
        if name not in self._logs:
            self._logs[name] = StepLog(self.run / name, after=self.after)
        self._logs[name].write(row)

    def step(self, row: Mapping[str, Any]) -> None:
        """Write and tell the numbers of a step."""
        self.write(METRICS, row)
        if self.writes:
            self.tell(row)

    def checkpoint(self, step: int) -> None:
        """Write down that a checkpoint is whole."""
        self.write(CHECKPOINTS, {"id": f"checkpoint-{step}", "step": step})

    def offending(self, step: int, what: str, facts: Any) -> GensegError:
        """Save what made training stop; the error to raise."""
        path = self.run / OFFENDING
        if self.writes:
            write_json(path, {"step": step, "what": what, "facts": facts})
        return GensegError(
            f"step {step}: {what}; training stops before it does harm",
            hint=f"what was being learned is in {path}; the last checkpoint is sound",
        )

    def close(self) -> None:
        for log in self._logs.values():
            log.close()


class RunTrainer:
    """Mixed into a TRL trainer, before it: saving and logging of a run.

    Attributes:
        journal: files of the run.
        held_out: what an evaluation after this step found.
        eos_token_ids: tokens that end a completion.
    """

    journal: Journal
    held_out: dict[str, float | None]
    eos_token_ids: list[int]

    def begin(self, journal: Journal) -> None:
        """Give the trainer its files, and take it the habit of printing."""
        self.journal, self.held_out = journal, {}
        self.remove_callback(PrinterCallback)
        self._step_began = time.perf_counter()

    def measured(self) -> dict[str, Any]:
        """Further numbers of the step, flat or one level deep."""
        return {}

    def culprits(self) -> Any:
        """What the step was about, as plain JSON, for when it goes wrong."""
        return None

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss).all():
            raise self.journal.offending(self.state.global_step + 1, f"the loss is {loss.item()}", self.culprits())
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" not in logs:  # the summary at the end of training
            super().log(logs, start_time)
            return
        norm = logs.get("grad_norm")
        if norm is not None and not math.isfinite(norm):
            raise self.journal.offending(self.state.global_step, f"the gradient's norm is {norm}", self.culprits())
        own = {**self.measured(), **self.held_out}
        self.held_out = {}
        logs.update(_flat(own))
        super().log(logs, start_time)
        now = time.perf_counter()
        row = {
            "step": self.state.global_step,
            "steps": self.state.max_steps,
            **own,
            **{ours: logs[theirs] for theirs, ours in TRAINER_NAMES.items() if theirs in logs},
            "seconds": now - self._step_began,
        }
        self._step_began = now
        self.journal.step(row)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Each checkpoint gets its own card."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Model, processor and conventions; none of the pickles that a trainer would add."""
        from pathlib import Path

        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        save_policy(model, folder, state_dict)
        self.processing_class.save_pretrained(folder)
        self.journal.passport.write(folder, self.state.global_step)

    def export(self, folder: Path) -> None:
        """The trained policy alone, in the number format in which it was trained to compute."""
        state = self.accelerator.get_state_dict(self.model)
        if self.args.should_save:
            if self.args.bf16:
                state = {name: weight.to(torch.bfloat16) for name, weight in state.items()}
            self._save(str(folder), state)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.journal.checkpoint(self.state.global_step)


def save_policy(model: Any, folder: Path, state_dict: dict[str, Any] | None = None) -> None:
    """The weights as safetensors with their configuration."""
    with quiet_progress():
        model.save_pretrained(folder, state_dict=state_dict)


def _flat(values: Mapping[str, Any]) -> dict[str, float]:
    """One level, numbers only: what trackers take."""
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update({f"{name}/{inner}": one for inner, one in value.items()})
        elif value is not None:
            flat[name] = value
    return flat
