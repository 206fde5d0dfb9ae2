"""One training run from its plan to a trained policy: load, train or go on, export."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import broadcast_object_list
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.trainer import TRAINER_STATE_NAME

import gensegcli
from gensegcli.errors import ExitCode, GensegError
from gensegcli.evaluate.data import open_set
from gensegcli.files.text import read_json_object
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
from gensegcli.train.rows import admitted, bad_rows
from gensegcli.train.runs import (
    CHECKPOINTS,
    MODEL,
    checkpoint_folder,
    checkpoints,
    finished_at,
    forget,
    forget_unfinished,
    write_bad_rows,
)
from gensegcli.train.trainer import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gensegcli.config import Settings
    from gensegcli.families import PolicyEntry
    from gensegcli.segmenter.base import Segmenter
    from gensegcli.train.plan import Plan
    from gensegcli.train.rows import BadRow
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
        finished = None if restart else finished_at(folder)
        if finished is not None:
            on_phase("nothing left to do")
            return Outcome(finished, finished, folder / MODEL, interrupted=False)
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
            steps = len(trainer.train_dataset) // plan.settings.settings.train.prompts_per_step
            if done:
                _check_state(checkpoint_folder(folder, done))
            on_phase(f"training from step {done + 1} of {steps}")
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
    processor = _processor(policy.path)
    # Joins the processes, which begin with the same samples.
    arguments = (sft_arguments if plan.reward is None else grpo_arguments)(settings, folder, device=device, world=world)
    questions = _questions(plan, samples, processor, policy.entry)
    plan = without_bad_rows(plan, samples, questions, folder, on_phase=on_phase)
    on_phase(f"loading {policy.id}")
    model = load_weights(
        "policy",
        policy.path,
        AutoModelForImageTextToText.from_pretrained,
        # Updates of 1e-6 vanish in bf16: the weights that are learned are fp32, the forward pass casts them.
        dtype=torch.float32,
        attn_implementation=choose_attention(settings.model.attention, device, torch.float32),
    )
    shared = {"model": model, "processing_class": processor, "peft_config": _adapters(settings)}
    wants_masks = train.eval_data is not None or (plan.reward is not None and plan.reward.needs_masks)
    segmenter = _segmenter(plan, device, on_phase) if wants_masks else None
    if plan.reward is None:
        from gensegcli.train.sft import DemonstrationTrainer

        trainer = DemonstrationTrainer(args=arguments, train_dataset=questions.dataset(plan.order()), **shared)
    else:
        from gensegcli.train.grpo import PolicyTrainer, RewardFunction

        mode = PromptMode(settings.predict.mode)
        scorer = Scorer(plan.reward, plan.dialect, policy.entry, segmenter, mode=mode)
        trainer = PolicyTrainer(
            args=arguments,
            train_dataset=questions.dataset(plan.order()),
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


def look_at_rows(plan: Plan) -> list[BadRow]:
    """Samples that cannot be trained on, for a run that is not begun: prompts are measured if the model is here."""
    samples = Samples(plan.data)
    policy = plan.policy
    asked = _questions(plan, samples, _processor(policy.path), policy.entry) if policy.path else None
    return bad_rows(samples, plan.asked_for, asked)


def _processor(folder: Path) -> Any:
    processor = checked_processor(load_processor("policy", folder, AutoProcessor.from_pretrained), folder)
    processor.tokenizer.padding_side = "left"
    return processor


def _questions(plan: Plan, samples: Samples, processor: Any, entry: PolicyEntry) -> Questions:
    kind: type[Questions] = Questions
    if plan.reward is None:
        from gensegcli.train.sft import Demonstrations

        kind = Demonstrations
    train = plan.settings.settings.train
    held = {"most_tokens": train.max_prompt_tokens, "keep": 4 * train.prompts_per_step}
    return kind(samples, plan.dialect, entry, processor, **held)


def _check_state(checkpoint: Path) -> None:
    hint = f"remove {checkpoint} to go on from the checkpoint before it"
    read_json_object(checkpoint / TRAINER_STATE_NAME, hint=hint)


def without_bad_rows(
    plan: Plan,
    samples: Samples,
    questions: Questions,
    folder: Path,
    *,
    on_phase: Callable[[str], object] = lambda _: None,
) -> Plan:
    """The plan without samples that cannot be trained on, the same for all processes; the first one looks.

    Raises:
        GensegError: there are such samples, and they are not to be skipped; the folder lists them.
    """
    left_out = None
    if int(os.environ.get("RANK", "0")) == 0:
        wanted = plan.asked_for
        on_phase(f"checking {len(wanted)} samples")
        if plan.unteachable:
            on_phase(f"left out: {plan.unteachable} samples with an object that has neither two points nor a mask")
        found = bad_rows(samples, wanted, questions)
        listed = write_bad_rows(folder, [row.record() for row in found])
        skip = plan.settings.settings.train.bad_rows == "skip"
        left_out = admitted(found, len(wanted), skip=skip, listed=str(listed or ""), tell=on_phase)
    [left_out] = broadcast_object_list([left_out])
    return replace(plan, left_out=left_out)


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
