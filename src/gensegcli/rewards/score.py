"""From completions to rewards: read, segment (each picture encoded once, all prompts decoded together), weigh."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gensegcli.images import read_image
from gensegcli.policy.frame import frame_for
from gensegcli.records import Answer, PromptMode
from gensegcli.rewards.mask import union_iou
from gensegcli.rewards.rollout import GroundTruth, read_rollout
from gensegcli.segmenter.prompts import prompts_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gensegcli.dialects.base import Dialect
    from gensegcli.families import PolicyEntry
    from gensegcli.records import FinishReason, MaskPrompt, Sample
    from gensegcli.rewards.compose import Reward
    from gensegcli.rewards.rollout import Rollout
    from gensegcli.segmenter.base import Segmenter


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A rollout and what it earned.

    Attributes:
        rollout: read and, where the reward needs it, segmented.
        terms: weighted values by name.
        iou: of the union masks; None where nothing was segmented.
    """

    rollout: Rollout
    terms: Mapping[str, float]
    iou: float | None

    @property
    def reward(self) -> float:
        return sum(self.terms.values())


class Scorer:
    """Scores completions of one policy.

    Args:
        reward: terms and weights.
        dialect: in which the completions are written.
        entry: of the policy, for the frame of its answers.
        segmenter: makes masks; None where the reward needs none.
        mode: which parts of an answer prompt it.
    """

    def __init__(
        self,
        reward: Reward,
        dialect: Dialect,
        entry: PolicyEntry,
        segmenter: Segmenter | None = None,
        *,
        mode: PromptMode = PromptMode.BOX_2,
    ) -> None:
        if reward.needs_masks and segmenter is None:
            raise ValueError(f"a reward of {', '.join(reward.weights)} needs a segmenter")
        self.reward, self.dialect, self.entry, self.mode = reward, dialect, entry, mode
        self.segmenter = segmenter if reward.needs_masks else None

    def score(
        self, samples: Sequence[Sample], texts: Sequence[str], finishes: Sequence[FinishReason] | None = None
    ) -> list[Scored]:
        """What each completion earns.

        Args:
            samples: one per completion; the completions of a group name the same sample, whose truth is decoded and
                whose picture is encoded once.
            texts: completions.
            finishes: why each of them ended.

        Raises:
            GensegError: a picture that cannot be read, a sample without the masks that a term needs, or a segmenter
                that cannot go on.
            NotFiniteError: see `Reward.terms`.
        """
        truths = {sample.id: GroundTruth(sample) for sample in samples}
        rollouts = [
            read_rollout(
                text,
                truths[sample.id],
                self.dialect,
                frame=frame_for(self.entry, sample.size),
                finish=finish,
                soft=self.reward.soft,
            )
            for sample, text, finish in zip(samples, texts, finishes or [None] * len(texts), strict=True)
        ]
        if self.segmenter is not None:
            rollouts = self._segmented(rollouts, self.segmenter)
        return [
            Scored(rollout, self.reward.terms(rollout), None if self.segmenter is None else union_iou(rollout))
            for rollout in rollouts
        ]

    def _segmented(self, rollouts: Sequence[Rollout], segmenter: Segmenter) -> list[Rollout]:
        """The rollouts with their masks. Prompts that several rollouts of a picture share are decoded once."""
        prompts = [
            prompts_for(one.answer.instances, one.truth.sample.size, self.mode)
            if isinstance(one.answer, Answer)
            else []
            for one in rollouts
        ]
        wanted: dict[GroundTruth, dict[MaskPrompt, None]] = {}
        for rollout, own in zip(rollouts, prompts, strict=True):
            wanted.setdefault(rollout.truth, {}).update(dict.fromkeys(own))
        asked = {truth: list(own) for truth, own in wanted.items() if own}
        found = segmenter.segment([_pixels(truth.sample) for truth in asked], list(asked.values()))
        masks = {
            truth: {prompt: made.mask for prompt, made in zip(own, of_picture, strict=True)}
            for (truth, own), of_picture in zip(asked.items(), found, strict=True)
        }
        return [
            replace(rollout, masks=tuple(masks[rollout.truth][prompt] for prompt in own)) if own else rollout
            for rollout, own in zip(rollouts, prompts, strict=True)
        ]


def _pixels(sample: Sample) -> np.ndarray:
    return np.asarray(read_image(sample.image))
