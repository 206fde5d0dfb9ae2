"""The registry of terms, and a reward as a weighted sum of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gensegcli.config import digest
from gensegcli.errors import GensegError, unknown_name
from gensegcli.rewards import distance, form, mask, no_target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gensegcli.rewards.rollout import Rollout


@dataclass(frozen=True, slots=True)
class Term:
    """A named part of a reward: its function, the range of its values, and whether it looks at predicted masks."""

    value: Callable[[Rollout], float]
    low: float
    high: float
    masks: bool = False


TERMS: dict[str, Term] = {
    "think_format": Term(form.think_format, 0, 1),
    "answer_format": Term(form.answer_format, 0, 2),
    "accuracy": Term(distance.accuracy, 0, 3),
    "non_repetition": Term(form.non_repetition, 0, 1),
    "mask_iou": Term(mask.union_iou, 0, 1, masks=True),
    "negative_points": Term(mask.negative_points, 0, 1),
    "no_target": Term(no_target.abstention, -1, 1),
    "tiered_mask": Term(mask.tiered, 0, 4, masks=True),
    "mask_structure": Term(mask.structure, 0, 1, masks=True),
    "squared_overlaps": Term(mask.squared_overlaps, 0, 2, masks=True),
}

DISTANCE = {"think_format": 1.0, "answer_format": 1.0, "accuracy": 1.0, "non_repetition": 1.0}
"""Weights of the distance reward D, 0 to 7."""

IN_THE_LOOP = {**DISTANCE, "mask_iou": 5.0, "negative_points": 10.0, "no_target": 10.0}
"""Weights of the SAM-in-the-loop reward G."""


class NotFiniteError(ArithmeticError):
    """A term gave NaN or infinity: a bug in it, or damaged truth. Never trained on."""


class Reward:
    """A weighted sum of terms.

    Args:
        weights: by name of the term; 0 switches a term off.
        soft: partial credit for a form that is nearly right, and answers read as in evaluation; see `read_rollout`.

    Raises:
        GensegError: a term that does not exist, or none that counts.
    """

    def __init__(self, weights: Mapping[str, float], *, soft: bool = False) -> None:
        for name in weights:
            if name not in TERMS:
                raise unknown_name("reward term", name, TERMS)
        # In the order of the registry, so that a reward does not depend on how its settings were written.
        self.weights = {name: float(weights[name]) for name in TERMS if weights.get(name)}
        self.soft = soft
        if not self.weights:
            raise GensegError("the reward has no term that counts", hint="give at least one term a weight")

    @property
    def needs_masks(self) -> bool:
        """Whether the answers must be segmented."""
        return any(TERMS[name].masks for name in self.weights)

    @property
    def needs_true_masks(self) -> bool:
        """Whether the data must have masks."""
        return self.needs_masks or "negative_points" in self.weights

    @property
    def bounds(self) -> tuple[float, float]:
        """No reward lies outside; not every value within is reached."""
        ends = [sorted((w * TERMS[name].low, w * TERMS[name].high)) for name, w in self.weights.items()]
        return sum(low for low, _ in ends), sum(high for _, high in ends)

    def terms(self, rollout: Rollout) -> dict[str, float]:
        """The weighted value of every term; the reward is their sum.

        Raises:
            NotFiniteError: a value is NaN or infinite.
        """
        values = {name: weight * TERMS[name].value(rollout) for name, weight in self.weights.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise NotFiniteError(f"reward term {name} is {value} for sample {rollout.truth.sample.id}")
        return values

    def config(self) -> dict[str, Any]:
        """What the reward is, as plain JSON."""
        return {"weights": self.weights, "soft": self.soft}

    @property
    def digest(self) -> str:
        return digest(self.config())
