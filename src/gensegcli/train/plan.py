"""What a training run will do: every name in the settings looked up, nothing heavy loaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gensegcli.dialects import get_dialect
from gensegcli.errors import GensegError
from gensegcli.models import resolve_policy, resolve_segmenter
from gensegcli.rewards.compose import TERMS, Reward
from gensegcli.train.data import count_samples, find_training_set, needs_masks, teachable, training_order
from gensegcli.train.export import Passport

if TYPE_CHECKING:
    import torch

    from gensegcli.config import Resolved, RewardSettings, TrainSettings
    from gensegcli.dialects.base import Dialect
    from gensegcli.evaluate.data import EvalSet
    from gensegcli.models import ResolvedPolicy


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
        left_out: numbers of samples that cannot be trained on.
    """

    data: EvalSet
    limit: int | None
    left_out: frozenset[int] = frozenset()

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
            "samples_left_out": len(self.left_out) + self.unteachable,
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
        return [number for number in self.asked_for if number not in self.left_out]

    @cached_property
    def asked_for(self) -> list[int]:
        """Numbers of the samples that the limit leaves of those that can teach, those included that are left out."""
        return self._able[: self.limit]

    @cached_property
    def _able(self) -> list[int]:
        return list(range(count_samples(self.data))) if self.reward is not None else teachable(self.data)

    @property
    def unteachable(self) -> int:
        """How many samples of the set show no answer, as an object has neither two points nor a mask (SFT)."""
        return count_samples(self.data) - len(self._able)

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


def reward_of(settings: RewardSettings) -> Reward:
    """The reward that the settings describe."""
    weights = {name: getattr(settings, name) for name in TERMS}
    return Reward(weights, soft=settings.soft_format)


def accumulation(sequences: int, *, micro_batch: int, processes: int) -> int:
    """Forward passes behind one update.

    Raises:
        GensegError: the sequences cannot be dealt out evenly.
    """
    at_once = micro_batch * processes
    if sequences % at_once:
        fitting = [n for n in range(1, sequences + 1) if sequences % (n * processes) == 0]
        raise GensegError(
            f"{sequences} sequences of a step cannot be dealt out to {processes} processes in micro-batches of "
            f"{micro_batch}",
            hint=f"--set train.micro_batch={max(n for n in fitting if n <= max(micro_batch, fitting[0]))}"
            if fitting
            else "take a number of processes that divides prompts_per_step × num_generations",
        )
    return sequences // at_once


def mixed_precision(train: TrainSettings, device: torch.device) -> bool:
    """Whether the forward pass runs in bf16; weights, gradients and optimiser stay in fp32."""
    return train.precision == "bf16" or (train.precision == "auto" and device.type == "cuda")
