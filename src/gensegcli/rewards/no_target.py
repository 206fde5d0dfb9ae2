"""The term on abstention: honest "nothing there", hallucination, and giving up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gensegcli.records import Refusal

if TYPE_CHECKING:
    from gensegcli.rewards.rollout import Rollout


def abstention(rollout: Rollout) -> float:
    """Nothing there: 1 for saying so, -1 for any box. Something there: -0.5 for denying it, else 0. A refusal has 0."""
    answer = rollout.answer
    if isinstance(answer, Refusal):
        return 0.0
    if rollout.truth.no_target:
        return 1.0 if answer.no_target else -1.0
    return -0.5 if answer.no_target else 0.0
