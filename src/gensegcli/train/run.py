"""One training run from its plan to a trained policy: load, train or go on, export."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import broadcast_object_list
from transformers import AutoModelForImageTextToText, AutoProcessor

import gensegcli
from gensegcli.errors import ExitCode, GensegError
from gensegcli.evaluate.data import open_set
from gensegcli.models import resolve_segmenter
from gensegcli.policy.hf import choose_attention, choose_device, stop_ids
from gensegcli.policy.prompting import checked_processor
from gensegcli.pretrained import load_processor, load_weights, quiet_progress
from gensegcli.records import PromptMode
from gensegcli.rewards.score import Scorer
from gensegcli.segmenter import load_segmenter
from gensegcli.store import RunFolder
from gensegcli.train.arguments import grpo_arguments, sft_arguments
from gensegcli.train.data import Samples
from gensegcli.train.interrupt import StopAfterStep
from gensegcli.train.questions import Questions
from gensegcli.train.runs import (
    CHECKPOINTS,
    MODEL,
    checkpoint_folder,
    checkpoints,
    forget,
    forget_unfinished,
    is_finished,
)
from gensegcli.train.trainer import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gensegcli.config import Settings
    from gensegcli.segmenter.base import Segmenter
    from gensegcli.train.plan import Plan
    from gensegcli.train.trainer import RunTrainer


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        step: the last one done.
        steps: of the whole run.
        model: folder of the trained policy; the last checkpoint where the run was interrupted.
        interrupted: whether a signal ended it.
    """

    step: int
    steps: int
    model: Path
    interrupted: bool


def train(
    plan: Plan,
    folder: Path,
    *,
    restart: bool = False,
    on_phase: Callable[[str], object] = lambda _: None,
    on_step: Callable[[Mapping[str, Any]], object] = lambda _: None,
) -> Outcome:
    """Train, going on from the newest checkpoint in the folder.

    Args:
        plan: what to do.
        folder: of the run.
        restart: forget what the folder holds.
        on_phase: told what is being done, in words.
        on_step: given the row of `metrics.jsonl` of each step.

    Raises:
        GensegError: whatever the user can mend; what was done up to the last checkpoint is kept.
    """
    first = int(os.environ.get("RANK", "0")) == 0
    with ExitStack() as stack:
        if first:
            _open(stack, plan, folder, restart=restart)
        if not restart and is_finished(folder, plan.steps):
            on_phase("nothing left to do")
            return Outcome(plan.steps, plan.steps, folder / MODEL, interrupted=False)
        done = max(checkpoints(folder), default=0) if first else 0
        journal = Journal(folder, plan.passport(), after=done, writes=first, tell=on_step)
        stack.callback(journal.close)
        stop = StopAfterStep(on_phase)
        stack.callback(_part)
        try:
            with quiet_progress():
                trainer = build(plan, folder, journal, on_phase=on_phase)
            stack.callback(trainer.close)
            trainer.add_callback(stop)
            [done] = broadcast_object_list([done])  # the others may have looked too early
            on_phase(f"training from step {done + 1} of {plan.steps}")
            with stop.listening():
                trainer.train(resume_from_checkpoint=str(checkpoint_folder(folder, done)) if done else None)
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(error, plan.settings.settings) from error
        state = trainer.state
        if stop.stopped and state.global_step < state.max_steps:
            return Outcome(state.global_step, state.max_steps, checkpoint_folder(folder, state.global_step), True)
        on_phase("saving the trained model")
        trainer.export(folder / MODEL)
        return Outcome(state.global_step, state.max_steps, folder / MODEL, False)


def build(
    plan: Plan, folder: Path, journal: Journal, *, on_phase: Callable[[str], object] = lambda _: None
) -> RunTrainer:
    """The trainer of a plan, with everything loaded."""
    settings = plan.settings.settings
    train = settings.train
    policy = plan.policy.fetch()
    assert policy.path is not None
    device = _own_device(settings.model.device)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    samples = Samples(plan.data)
    on_phase(f"loading {policy.id}")
    processor = checked_processor(load_processor("policy", policy.path, AutoProcessor.from_pretrained), policy.path)
    processor.tokenizer.padding_side = "left"
    model = load_weights(
        "policy",
        policy.path,
        AutoModelForImageTextToText.from_pretrained,
        # Updates of 1e-6 vanish in bf16: the weights that are learned are fp32, the forward pass casts them.
        dtype=torch.float32,
        attn_implementation=choose_attention(settings.model.attention, device, torch.float32),
    )
    rows = {"most_tokens": train.max_prompt_tokens, "keep": 4 * train.prompts_per_step}
    asked = (samples, plan.dialect, policy.entry, processor)
    shared = {"model": model, "processing_class": processor, "peft_config": _adapters(settings)}
    wants_masks = train.eval_data is not None or (plan.reward is not None and plan.reward.needs_masks)
    segmenter = _segmenter(plan, device, on_phase) if wants_masks else None
    if plan.reward is None:
        from gensegcli.train.sft import Demonstrations, DemonstrationTrainer

        trainer = DemonstrationTrainer(
            args=sft_arguments(settings, folder, device=device, world=world),
            train_dataset=Demonstrations(*asked, **rows).dataset(plan.order()),
            **shared,
        )
    else:
        from gensegcli.train.grpo import PolicyTrainer, RewardFunction

        mode = PromptMode(settings.predict.mode)
        scorer = Scorer(plan.reward, plan.dialect, policy.entry, segmenter, mode=mode)
        trainer = PolicyTrainer(
            args=grpo_arguments(settings, folder, device=device, world=world),
            train_dataset=Questions(*asked, **rows).dataset(plan.order()),
            entry=policy.entry,
            reward=RewardFunction(scorer, processor.tokenizer, stop_ids(model.generation_config, processor.tokenizer)),
            most_tokens=train.max_prompt_tokens,
            rollout_rows=settings.model.batch_size,
            rollout=train.rollout,
            **shared,
        )
    trainer.begin(journal)
    if train.eval_data is not None:
        from gensegcli.train.held_out import HeldOut

        assert segmenter is not None
        held_out = open_set(Path(train.eval_data))
        trainer.add_callback(
            HeldOut(trainer, held_out, settings, dialect=plan.dialect, entry=policy.entry, segmenter=segmenter)
        )
    return trainer


def _open(stack: ExitStack, plan: Plan, folder: Path, *, restart: bool) -> None:
    if restart:
        forget(folder)
    run = stack.enter_context(RunFolder(folder, plan.identity(), records=CHECKPOINTS, restart=restart))
    settings = {key: {"value": value, "from": origin} for key, value, origin in plan.settings.rows()}
    run.describe({"verb": "train", "settings": settings, "genseg": gensegcli.__version__})
    run.pin({"model": plan.policy.id, "model_revision": plan.policy.revision})
    forget_unfinished(folder)


def _own_device(name: str) -> torch.device:
    """Of several processes on a machine, each has a GPU of its own."""
    device = choose_device(name)
    if device.type != "cuda" or "LOCAL_RANK" not in os.environ:
        return device
    number, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= there:
        raise GensegError(
            f"process {number + 1} of this machine has no GPU: there {'is' if there == 1 else 'are'} {there}",
            hint=f"--nproc {there}",
            code=ExitCode.ENVIRONMENT,
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def _part() -> None:
    """End the group of processes, if there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _segmenter(plan: Plan, device: torch.device, on_phase: Callable[[str], object]) -> Segmenter:
    settings = plan.settings.settings
    wanted = settings.reward.device
    on_phase(f"loading {plan.segmenter}")
    return load_segmenter(
        resolve_segmenter(plan.segmenter),
        backend=settings.segmenter.backend,
        device=device if wanted == "auto" else choose_device(wanted),
        multimask=settings.segmenter.multimask,
    )


def _adapters(settings: Settings) -> Any:
    if not settings.train.lora:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=settings.train.lora_rank,
        lora_alpha=settings.train.lora_alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _out_of_memory(error: Exception, settings: Settings) -> GensegError:
    knobs = []
    if settings.train.micro_batch > 1:
        knobs.append(f"--set train.micro_batch={settings.train.micro_batch // 2}")
    if not settings.train.lora:
        knobs.append("--lora")
    if settings.train.rollout == "colocate":
        knobs.append("a smaller train.rollout_memory")
    elif settings.train.rollout == "transformers":
        knobs.append("--set model.batch_size=8 (completions written at a time)")
    knobs += [
        "more processes (--nproc)",
        "reward.device=cpu",
        "a smaller model.max_pixels or train.max_response_tokens",
    ]
    return GensegError(
        f"out of memory: {str(error).splitlines()[0]}",
        hint=f"{', '.join(knobs)}; --dry-run estimates what fits. The same command goes on from the last checkpoint",
        code=ExitCode.ENVIRONMENT,
    )
