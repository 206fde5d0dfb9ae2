"""What a training run tells about itself: one row of numbers for each step, one row for each rollout."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from gensegcli.records import Answer, Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gensegcli.rewards.score import Scored

TRAINER_NAMES = {
    "loss": "loss",
    "learning_rate": "lr",
    "grad_norm": "grad_norm",
    "kl": "kl",
    "entropy": "entropy",
    "clip_ratio/region_mean": "clipped",
    "mean_token_accuracy": "token_accuracy",
    "sampling/sampling_logp_difference/mean": "engine_difference",
}
"""TRL's names of what a step measures, and ours."""


@dataclass(frozen=True, slots=True)
class Row:
    """One rollout as it is written down and summed up; plain values, so that it can travel between processes."""

    id: str
    query: str
    text: str
    terms: Mapping[str, float]
    reward: float
    iou: float | None
    empty: bool
    """Nothing is there to find."""
    abstained: bool
    refusal: str | None
    think: bool
    well_formed: bool
    length: int
    cut: bool

    def record(self, step: int) -> dict[str, Any]:
        """As in `rollouts.jsonl`."""
        return {
            "step": step,
            "id": self.id,
            "query": self.query,
            "text": self.text,
            "terms": dict(self.terms),
            "reward": self.reward,
            "mask_iou": self.iou,
            "refusal": self.refusal,
            "tokens": self.length,
        }


def row_of(scored: Scored, *, length: int, cut: bool) -> Row:
    """The row of a scored rollout of so many tokens, cut off by the limit or not."""
    rollout, terms = scored.rollout, scored.terms
    answer = rollout.answer
    return Row(
        id=rollout.truth.sample.id,
        query=rollout.truth.sample.query,
        text=rollout.text,
        terms=terms,
        reward=scored.reward,
        iou=scored.iou,
        empty=rollout.truth.no_target,
        abstained=isinstance(answer, Answer) and answer.no_target,
        refusal=str(answer.kind) if isinstance(answer, Refusal) else None,
        think=bool(answer.think),
        well_formed=terms.get("think_format", 0) > 0 and terms.get("answer_format", 0) > 0,
        length=length,
        cut=cut,
    )


def summary(rows: Sequence[Row], group: int) -> dict[str, Any]:
    """Means over the rollouts of a step, whose groups of `group` stand one after the other.

    `None` stands where a step has no such rollout (no expression without a target among its prompts, no mask).
    """
    groups = [[row.reward for row in rows[start : start + group]] for start in range(0, len(rows), group)]
    rewards = [row.reward for row in rows]
    return {
        "reward": fmean(rewards),
        "reward_spread": pstdev(rewards),
        "mixed_groups": fmean(max(one) > min(one) for one in groups),
        "mask_iou": _mean(row.iou for row in rows if not row.empty),
        "no_target_accuracy": _mean(row.abstained for row in rows if row.empty),
        "false_negatives": _mean(row.abstained for row in rows if not row.empty),
        "format": fmean(row.well_formed for row in rows),
        "think": fmean(row.think for row in rows),
        "refusals": fmean(row.refusal is not None for row in rows),
        "length": fmean(row.length for row in rows),
        "cut": fmean(row.cut for row in rows),
        "terms": {name: fmean(row.terms[name] for row in rows) for name in rows[0].terms},
    }


def _mean(values: Any) -> float | None:
    known = [float(value) for value in values if value is not None]
    return fmean(known) if known else None
