"""What both trainers have in common: checkpoints that are ready models, rows of numbers, and no step on NaN."""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel, load_peft_weights
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, PrinterCallback

from gensegcli.atomic import discard, saving
from gensegcli.errors import ExitCode, GensegError
from gensegcli.pretrained import load_weights, quiet_progress
from gensegcli.store import write_json
from gensegcli.train import sharding
from gensegcli.train.phases import Phases
from gensegcli.train.rollouts import plain
from gensegcli.train.runs import CHECKPOINTS, METRICS, MODEL_DRAFT, NO_ROOM, StepLog
from gensegcli.train.watch import TRAINER_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from gensegcli.train.export import Passport

OFFENDING = "offending.json"
_OPTIMIZER, _SCHEDULER = "optimizer.pt", "scheduler.pt"
_ADAPTED = "base_model.model."
"""Before the names of all weights of a model with adapters."""


_FULL = 16 << 20
"""Free bytes below which a write that failed has failed for want of room."""


@contextmanager
def writing(folder: Path) -> Generator[None]:
    """As `atomic.saving`, for what PyTorch and safetensors write too: of a full disk they make no OSError.

    Nothing but writing may run inside: PyTorch's error is a RuntimeError, as are those of other processes.
    """
    try:
        with saving(folder, hint=NO_ROOM):
            yield
    except (RuntimeError, SafetensorError) as error:
        exists = next(path for path in (folder, *folder.parents) if path.exists())
        full = shutil.disk_usage(exists).free < _FULL
        reason = os.strerror(errno.ENOSPC) if full else str(error).partition("\n")[0]
        raise GensegError(f"{folder}: cannot be saved ({reason})", hint=NO_ROOM, code=ExitCode.ENVIRONMENT) from error


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
        write_json(path, {"step": step, "what": what, "facts": facts})  # whichever process it is
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
        phases: the stopwatch of a step.
    """

    journal: Journal
    phases: Phases
    held_out: dict[str, float | None]

    def begin(self, journal: Journal) -> None:
        """Give the trainer its files, and take it the habit of printing."""
        self.journal, self.held_out = journal, {}
        self.remove_callback(PrinterCallback)
        self.phases = Phases(self.accelerator.device)

    def measured(self) -> dict[str, Any]:
        """Further numbers of the step, flat or one level deep."""
        return {}

    def culprits(self) -> Any:
        """What the step was about, as plain JSON, for when it goes wrong."""
        return None

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        with self.phases("update"):
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
        own["phases"], memory = self.phases.take()
        if memory:
            own["memory"] = memory
        logs.update(_flat(own))
        super().log(logs, start_time)
        row = {
            "step": self.state.global_step,
            "steps": self.state.max_steps,
            **own,
            **{ours: logs[theirs] for theirs, ours in TRAINER_NAMES.items() if theirs in logs},
            "seconds": sum(own["phases"].values()),
        }
        self.journal.step(row)

    def close(self) -> None:
        """End what runs beside the model."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Each checkpoint gets its own card."""

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.args.fsdp_plugin_args is not None:
            sharding.turn_on(self.accelerator, self.args.fsdp_plugin_args)
            self.is_fsdp_enabled = True

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.args.fsdp_plugin_args is not None:
            sharding.join_head(plain(self.model), self.accelerator)
        return super().create_optimizer(model)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Model, processor and conventions; none of the pickles that a trainer would add."""
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        state = model.state_dict() if state_dict is None else state_dict
        folder = Path(output_dir or self.args.output_dir)
        if isinstance(model, PeftModel):
            with quiet_progress(), writing(folder):
                model.save_pretrained(folder / model.active_adapter, state_dict=state)
        self._write(folder, *without_adapters(model, state))

    def _write(self, folder: Path, model: Any, state: dict[str, Any]) -> None:
        # Gathered one by one, tied weights share no memory, by which they would be known.
        state = state | {twin: state[name] for twin, name in model.all_tied_weights_keys.items() if name in state}
        with quiet_progress(), writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            model.save_pretrained(folder, state_dict=state)
            self.processing_class.save_pretrained(folder)
            self.journal.passport.write(folder, self.state.global_step)

    def export(self, folder: Path) -> None:
        """The trained policy alone, in the number format in which it was trained to compute; whole, or not there."""
        state = self.accelerator.get_state_dict(self.model)
        if self.args.should_save:
            model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
            model, state = without_adapters(model, state)
            if self.args.bf16:
                state = {name: weight.to(torch.bfloat16) for name, weight in state.items()}
            draft = folder.with_name(MODEL_DRAFT)
            discard(draft)
            self._write(draft, model, state)
            with writing(folder):
                discard(folder)
                draft.rename(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Weights, or the adapters in the folder of their name: the whole model beside it has them merged."""
        model = self.accelerator.unwrap_model(model or self.model, keep_torch_compile=False)
        folder, state = Path(resume_from_checkpoint), {}
        adapted = isinstance(model, PeftModel)
        if self.accelerator.is_main_process and adapted:
            named = rf"\1.{model.active_adapter}.weight"
            state = {
                re.sub(r"(lora_[AB])\.weight$", named, name): weight
                for name, weight in load_peft_weights(str(folder / model.active_adapter), device="cpu").items()
            }
        elif self.accelerator.is_main_process:
            read = AutoModelForImageTextToText.from_pretrained
            state = load_weights("checkpoint", folder, read, dtype=torch.float32).state_dict()
        sharding.load_weights(model, state, strict=not adapted)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # transformers' own files are small: what they fail of is an OSError.
        with saving(Path(self.args.output_dir, f"checkpoint-{self.state.global_step}"), hint=NO_ROOM):
            super()._save_checkpoint(model, trial)
        self.journal.checkpoint(self.state.global_step)
        self.accelerator.wait_for_everyone()  # none goes on, or ends the launch, before the checkpoint is whole

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Whole and by name, so that any number of processes can go on from it."""
        state = sharding.optimizer_state(self.model, self.optimizer)
        if self.args.should_save:
            with writing(Path(output_dir)):
                torch.save(state, Path(output_dir, _OPTIMIZER))
                torch.save(self.lr_scheduler.state_dict(), Path(output_dir, _SCHEDULER))

    def _save_rng_state(self, output_dir: str) -> None:
        with writing(Path(output_dir)):
            super()._save_rng_state(output_dir)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        first = self.accelerator.is_main_process
        state = _loaded(Path(checkpoint, _OPTIMIZER)) if first else {}
        sharding.load_optimizer_state(self.model, self.optimizer, state)
        self.lr_scheduler.load_state_dict(_loaded(Path(checkpoint, _SCHEDULER)))


def _loaded(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        raise GensegError(
            f"{path}: cannot be read ({str(error).partition(chr(10))[0] or type(error).__name__})",
            hint=f"remove {path.parent} to go on from the checkpoint before it",
            code=ExitCode.NOT_FOUND,
        ) from error


@torch.no_grad()
def without_adapters(model: Any, state: dict[str, torch.Tensor]) -> tuple[Any, dict[str, torch.Tensor]]:
    """The base model, and its weights with the adapters added. The model's own weights stay as they are.

    Merging in place and taking it back would leave rounding behind, and a resumed run would not be the same.

    Args:
        model: with adapters of linear layers, or without any.
        state: all its weights, whole.
    """
    if not isinstance(model, PeftModel):
        return model, state
    weights = {
        name.removeprefix(_ADAPTED).replace(".base_layer", ""): weight
        for name, weight in state.items()
        if not any(part in name for part in LoraLayer.adapter_layer_names)
    }
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, LoraLayer):
            name = name.replace("_checkpoint_wrapped_module.", "")
            for adapter in module.active_adapters:
                down, up = (state[f"{_ADAPTED}{name}.{part}.{adapter}.weight"] for part in ("lora_A", "lora_B"))
                weights[f"{name}.weight"] = weights[f"{name}.weight"] + (up @ down) * module.scaling[adapter]
    return model.get_base_model(), weights


def _flat(values: Mapping[str, Any]) -> dict[str, float]:
    """One level, numbers only: what trackers take."""
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update({f"{name}/{inner}": one for inner, one in value.items()})
        elif value is not None:
            flat[name] = value
    return flat
