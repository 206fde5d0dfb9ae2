"""A rollout: one completion, what it says, the truth it is held against, and the masks that its answer gave."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from gensegcli.dialects.grammar import ANSWER, ANSWER_END, THINK, THINK_END
from gensegcli.errors import GensegError
from gensegcli.geometry import rle
from gensegcli.geometry.boxes import grid_to_pixel
from gensegcli.geometry.keypoints import mine_negative
from gensegcli.geometry.masks import union
from gensegcli.records import Answer, Refusal, RefusalKind

if TYPE_CHECKING:
    import numpy as np

    from gensegcli.dialects.base import Dialect
    from gensegcli.records import FinishReason, Sample, Size

MARGIN = 10.0
"""Least distance, in grid units, of a negative point from every true object."""

_FORM = frozenset({RefusalKind.BAD_FORM, RefusalKind.TRUNCATED})


class GroundTruth:
    """The truth of one sample, decoded once for all rollouts about it. Masks are decoded on first use."""

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self.targets = sample.targets

    @property
    def no_target(self) -> bool:
        return not self.targets

    @cached_property
    def mask(self) -> np.ndarray:
        """Union of all objects: bool (h w), empty where nothing matches.

        Raises:
            GensegError: an object has a box, but no mask.
        """
        masks = [rle.decode(target.mask) for target in self.targets if target.mask is not None]
        if len(masks) < len(self.targets):
            raise GensegError(
                f"sample {self.sample.id}: has objects without a mask, and a reward term needs masks",
                hint="train on a set with masks, or with the distance reward (preset genseg-r1-4b)",
            )
        return union(masks, self.sample.size)

    @cached_property
    def ignore(self) -> np.ndarray | None:
        """Pixels that count neither way: bool (h w), or None."""
        return None if self.sample.ignore is None else rle.decode(self.sample.ignore)

    @cached_property
    def has_background(self) -> tuple[bool, ...]:
        """For each object whether its box holds a pixel at least `MARGIN` away from all objects."""
        size = self.sample.size
        return tuple(
            bool(mine_negative(self.mask, grid_to_pixel(target.box, size), k=1, margin_grid=MARGIN))
            for target in self.targets
        )


@dataclass(frozen=True, eq=False)
class Rollout:
    """What a reward term may look at.

    Attributes:
        text: the completion, special tokens removed.
        dialect: how it should be written.
        frame: width and height in the units of the answer; None means the grid.
        answer: what it says; see `read_rollout`.
        truth: of its sample.
        masks: one bool mask (h w) per instance of the answer, at the resolution of the stored picture; empty where no
            term asks for masks.
        soft: partial credit for a form that is nearly right.
    """

    text: str
    dialect: Dialect
    frame: Size | None
    answer: Answer | Refusal
    truth: GroundTruth
    masks: tuple[np.ndarray, ...] = ()
    soft: bool = False

    @cached_property
    def mask(self) -> np.ndarray:
        """Union of the masks of the answer: bool (h w)."""
        return union(self.masks, self.truth.sample.size)


def read_rollout(
    text: str,
    truth: GroundTruth,
    dialect: Dialect,
    *,
    frame: Size | None = None,
    finish: FinishReason | None = None,
    soft: bool = False,
) -> Rollout:
    """A rollout whose answer is read strictly, or (soft) as prediction and evaluation read it.

    Strict concerns the answer part: exact JSON, exact keys, all numbers in range, between the only pair of answer tags.
    What stands around it is judged by the think-format term alone, so that a missing think tag costs one point and
    not all of them.
    """
    answer = (
        dialect.read(text, frame=frame, finish=finish)
        if soft
        else _read_strictly(text, dialect, frame=frame, finish=finish)
    )
    return Rollout(text, dialect, frame, answer, truth, soft=soft)


def answer_part(text: str) -> str | None:
    """What stands between the answer tags, each of which stands once and in order; else None."""
    if text.count(ANSWER) != 1 or text.count(ANSWER_END) != 1:
        return None
    _, _, rest = text.partition(ANSWER)
    body, closed, _ = rest.partition(ANSWER_END)
    return body if closed else None


def _read_strictly(text: str, dialect: Dialect, *, frame: Size | None, finish: FinishReason | None) -> Answer | Refusal:
    whole = dialect.read(text, frame=frame, finish=finish, strict=True)
    if isinstance(whole, Answer) or whole.kind not in _FORM:
        return whole
    body = answer_part(text)
    if body is None:
        return whole
    return dialect.read(f"{THINK}{THINK_END}{ANSWER}{body}{ANSWER_END}", frame=frame, strict=True)
