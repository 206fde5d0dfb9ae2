"""From what the policy said (grid) to what the segmenter is asked (pixels)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gensegcli.geometry.boxes import grid_to_pixel
from gensegcli.records import MaskPrompt, PromptMode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gensegcli.records import Instance, Size


class Parts(NamedTuple):
    """How much of an instance a prompt mode passes on beside the box."""

    points: int
    negatives: int | None
    """At most so many; None means all that the policy gave."""


PARTS: dict[PromptMode, Parts] = {
    PromptMode.BOX: Parts(points=0, negatives=0),
    PromptMode.BOX_1: Parts(points=1, negatives=0),
    PromptMode.BOX_2: Parts(points=2, negatives=0),
    PromptMode.BOX_2_NEG: Parts(points=2, negatives=None),
}
"""The prompt modes of the published ablation, and the one with background points."""


def prompts_for(instances: Iterable[Instance], size: Size, mode: PromptMode = PromptMode.BOX_2) -> list[MaskPrompt]:
    """One prompt per instance, in pixels of a picture of `size`.

    Nothing is rounded: segmenters take floats, and a rounded coordinate on a small picture is a visible shift. An
    instance with fewer points than the mode asks for is prompted with those it has.
    """
    parts = PARTS[mode]
    return [
        MaskPrompt(
            box=grid_to_pixel(instance.box, size),
            points=tuple(grid_to_pixel(point, size) for point in instance.points[: parts.points]),
            negatives=tuple(grid_to_pixel(point, size) for point in instance.negatives[: parts.negatives]),
        )
        for instance in instances
    ]
