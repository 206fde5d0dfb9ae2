"""One training run from settings to a trained policy: load, train or go on, export."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import broadcast_object_list
from transformers import AutoModelForImageTextToText, AutoProcessor

import gensegcli
from gensegcli.dialects import get_dialect
from gensegcli.errors import ExitCode, GensegError
from gensegcli.evaluate.data import open_set
from gensegcli.models import resolve_policy, resolve_segmenter
from gensegcli.policy.hf import choose_attention, choose_device, stop_ids
from gensegcli.policy.prompting import checked_processor
from gensegcli.pretrained import load_processor, load_weights, quiet_progress
from gensegcli.records import PromptMode
from gensegcli.rewards.compose import TERMS, Reward
from gensegcli.rewards.score import Scorer
from gensegcli.segmenter import load_segmenter
from gensegcli.store import RunFolder
from gensegcli.train.arguments import accumulation, grpo_arguments, sft_arguments
from gensegcli.train.data import Samples, find_training_set, needs_masks, training_order
from gensegcli.train.export import Passport
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

    from gensegcli.config import Resolved, RewardSettings, Settings
    from gensegcli.dialects.base import Dialect
    from gensegcli.evaluate.data import EvalSet
    from gensegcli.models import ResolvedPolicy
    from gensegcli.segmenter.base import Segmenter
    from gensegcli.train.trainer import RunTrainer


@dataclass(frozen=True)
class Setup:
    """What a run is about, but for its data.

    Attributes:
        settings: with origins.
        policy: which model is trained.
        dialect: how it is asked and read.
        reward: None where true answers are taught.
        segmenter: name of the segmenter of rewards and of the trained policy.
    """

    settings: Resolved
    policy: ResolvedPolicy
    dialect: Dialect
    reward: Reward | None
    segmenter: str


def look_up(resolved: Resolved) -> Setup:
    """Look up the models in the settings, and the reward.

    Raises:
        GensegError: a name that is nothing, or a reward that cannot be.
    """
    settings = resolved.settings
    policy = resolve_policy(settings.model.name).within(settings.model.max_pixels)
    reward = reward_of(settings.reward) if settings.train.stage == "grpo" else None
    segmenter = settings.segmenter.name or policy.entry.segmenter
    resolve_segmenter(segmenter)
    return Setup(resolved, policy, get_dialect(settings.model.dialect or policy.entry.dialect), reward, segmenter)


@dataclass(frozen=True)
class Plan(Setup):
    """What a run will do, resolved but with nothing heavy loaded.

    Attributes:
        data: what it is trained on.
        limit: only so many samples of it.
    """

    data: EvalSet
    limit: int | None

    @classmethod
    def of(cls, resolved: Resolved, *, limit: int | None = None) -> Plan:
        """Look up every name in the settings; see `look_up` and `on_data`."""
        return cls.on_data(look_up(resolved), limit=limit)

    @classmethod
    def on_data(cls, setup: Setup, *, limit: int | None = None) -> Plan:
        """With the data that the settings name.

        Raises:
            GensegError: data that is not prepared, or a reward that it cannot serve.
        """
        data = find_training_set(setup.settings.settings.train.data)
        reward = setup.reward
        if reward is not None and reward.needs_true_masks:
            needs_masks(data, [name for name in reward.weights if TERMS[name].masks or name == "negative_points"])
        return cls(**vars(setup), data=data, limit=limit)

    def identity(self) -> dict[str, Any]:
        """Everything that decides what the policy becomes."""
        return {
            **self.settings.identity(training=True),
            "data_digest": self.data.digest,
            "limit": self.limit,
            "prompt_digest": self.dialect.digest,
        }

    def facts(self, processes: int) -> dict[str, Any]:
        """For people, before anything is loaded.

        Raises:
            GensegError: the sequences of a step cannot be dealt out to so many processes.
        """
        train = self.settings.settings.train
        return {
            "model": self.policy.id,
            "model_cached": self.policy.cached,
            "dialect": self.dialect.name,
            "stage": train.stage,
            "data": f"{self.data.name} ({self.data.path})",
            "samples": len(self.numbers),
            "steps": self.steps,
            "sequences_per_step": self.sequences,
            "processes": processes,
            "passes_per_step": self.passes(processes),
            "reward": None
            if self.reward is None
            else ", ".join(f"{k} × {v:g}" for k, v in self.reward.weights.items()),
            "reward_digest": None if self.reward is None else self.reward.digest,
            "segmenter": self.segmenter if self.reward and self.reward.needs_masks else None,
            "rollout": train.rollout if self.reward else None,
        }

    @property
    def sequences(self) -> int:
        """Of each step."""
        train = self.settings.settings.train
        return train.prompts_per_step * (train.num_generations if self.reward else 1)

    def passes(self, processes: int) -> int:
        """Forward passes of each process behind one update.

        Raises:
            GensegError: the sequences of a step cannot be dealt out to so many processes.
        """
        return accumulation(self.sequences, micro_batch=self.settings.settings.train.micro_batch, processes=processes)

    @cached_property
    def numbers(self) -> list[int]:
        """Of the samples that are trained on."""
        if self.reward is not None:
            return list(range(len(self.data.index())))[: self.limit]
        from gensegcli.train.sft import teachable

        return teachable(self.data)[: self.limit]

    def order(self) -> list[int]:
        """Numbers of the samples in the order of training."""
        train = self.settings.settings.train
        places = training_order(
            len(self.numbers), epochs=train.epochs, per_step=train.prompts_per_step, seed=train.seed
        )
        return [self.numbers[place] for place in places]

    @property
    def steps(self) -> int:
        """Updates of the whole run."""
        return len(self.order()) // self.settings.settings.train.prompts_per_step

    def passport(self) -> Passport:
        """What travels with the trained weights."""
        train = self.settings.settings.train
        training = {
            "stage": train.stage,
            "data": self.data.name,
            "data_digest": self.data.digest,
            "reward": self.reward.config() | {"digest": self.reward.digest} if self.reward else None,
            "settings": self.settings.identity(training=True),
        }
        return Passport(self.policy.entry, self.dialect, self.policy.id, self.segmenter, training)


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


def reward_of(settings: RewardSettings) -> Reward:
    """The reward that the settings describe."""
    weights = {name: getattr(settings, name) for name in TERMS}
    return Reward(weights, soft=settings.soft_format)


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
