"""What both trainers have in common: checkpoints that are ready models, rows of numbers, and no step on NaN."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import PrinterCallback

from gensegcli.errors import GensegError
from gensegcli.pretrained import quiet_progress
from gensegcli.store import write_json
from gensegcli.train.runs import CHECKPOINTS, METRICS, StepLog
from gensegcli.train.watch import TRAINER_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        self._write(Path(output_dir or self.args.output_dir), model, state_dict)

    def _write(self, folder: Path, model: Any, state_dict: dict[str, Any] | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_policy(model, folder, state_dict)
        self.processing_class.save_pretrained(folder)
        self.journal.passport.write(folder, self.state.global_step)

    def export(self, folder: Path) -> None:
        """The trained policy alone, in the number format in which it was trained to compute."""
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        adapted = isinstance(model, PeftModel)
        state = merged_weights(model) if adapted else self.accelerator.get_state_dict(self.model)
        if self.args.should_save:
            if self.args.bf16:
                state = {name: weight.to(torch.bfloat16) for name, weight in state.items()}
            self._write(folder, model.get_base_model() if adapted else model, state)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Adapters from the folder of their name: the whole model beside it would be taken for them, and missed."""
        adapted = self.accelerator.unwrap_model(model or self.model, keep_torch_compile=False)
        if isinstance(adapted, PeftModel):
            name = adapted.active_adapter
            adapted.load_adapter(Path(resume_from_checkpoint) / name, name, is_trainable=True)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.journal.checkpoint(self.state.global_step)


def save_policy(model: Any, folder: Path, state_dict: dict[str, Any] | None = None) -> None:
    """The weights as safetensors with their configuration.

    Adapters are added to the weights they adapt, so that the folder is a whole model, and stand by themselves in a folder
    of their name, from which training goes on.
    """
    with quiet_progress():
        if not isinstance(model, PeftModel):
            model.save_pretrained(folder, state_dict=state_dict)
            return
        model.save_pretrained(folder / model.active_adapter)
        model.get_base_model().save_pretrained(folder, state_dict=merged_weights(model))


@torch.no_grad()
def merged_weights(model: PeftModel) -> dict[str, torch.Tensor]:
    """The weights of the base model with its adapters added. The model itself stays as it is.

    Merging in place and taking it back would leave rounding behind, and a resumed run would not be the same.
    """
    base = model.get_base_model()
    weights = {
        name.replace(".base_layer", ""): weight
        for name, weight in base.state_dict().items()
        if not any(part in name for part in LoraLayer.adapter_layer_names)
    }
    for name, module in base.named_modules():
        if isinstance(module, LoraLayer):
            for adapter in module.active_adapters:
                weights[f"{name}.weight"] = weights[f"{name}.weight"] + module.get_delta_weight(adapter)
    return weights


def _flat(values: Mapping[str, Any]) -> dict[str, float]:
    """One level, numbers only: what trackers take."""
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update({f"{name}/{inner}": one for inner, one in value.items()})
        elif value is not None:
            flat[name] = value
    return flat
