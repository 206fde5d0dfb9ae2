"""Scoring one text: with a segmenter that finds the true mask for the true box, and fills every other box."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gensegcli.families import policy_entry
from gensegcli.geometry import rle
from gensegcli.geometry.boxes import grid_to_pixel
from gensegcli.records import SegmentedMask
from gensegcli.rewards.compose import Reward
from gensegcli.rewards.score import Scorer
from gensegcli.segmenter.boxfill import BoxFill
from tests.rewards.samples import DIALECT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from gensegcli.records import MaskPrompt, Sample

QWEN = policy_entry("x", "x", "qwen3_vl")


class Oracle(BoxFill):
    """The best segmenter there could be."""

    def __init__(self, truth: Sample) -> None:
        self.known = {
            grid_to_pixel(target.box, truth.size): rle.decode(target.mask) for target in truth.targets if target.mask
        }

    def segment(
        self, images: Sequence[np.ndarray], prompts: Sequence[Sequence[MaskPrompt]]
    ) -> list[list[SegmentedMask]]:
        return [
            [SegmentedMask(self.known[prompt.box]) if prompt.box in self.known else filled for prompt, filled in pairs]
            for pairs in (
                zip(own, made, strict=True) for own, made in zip(prompts, super().segment(images, prompts), strict=True)
            )
        ]


def total(weights: Mapping[str, float], truth: Sample, text: str) -> float:
    """The reward of one text."""
    (scored,) = Scorer(Reward(weights), DIALECT, QWEN, Oracle(truth)).score([truth], [text])
    return scored.reward
