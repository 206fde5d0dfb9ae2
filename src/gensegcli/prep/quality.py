"""VisionReasoner's quality rule: an object is kept if a segmenter finds its mask from its box and first point."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gensegcli.errors import GensegError
from gensegcli.geometry.boxes import grid_to_pixel
from gensegcli.geometry.masks import mask_iou
from gensegcli.geometry.rle import decode
from gensegcli.records import MaskPrompt
from gensegcli.sources.raw import Problem

if TYPE_CHECKING:
    import numpy as np

    from gensegcli.records import Sample
    from gensegcli.segmenter.base import Segmenter


class PromptFilter:
    """Refuses a sample if for any of its objects the segmenter's mask overlaps the true one less than wanted.

    A sample that lost one of its objects would teach that the object is not there, so it goes as a whole.
    """

    def __init__(self, segmenter: Segmenter, least: float) -> None:
        self._segmenter, self._least = segmenter, least

    def __call__(self, pixels: np.ndarray, sample: Sample) -> Problem | None:
        if not sample.targets:
            return None
        if any(target.mask is None for target in sample.targets):
            raise GensegError(
                f"{sample.id}: has boxes and points, but no masks to hold the segmenter's against",
                hint="leave --min-prompt-iou away",
            )
        prompts = [
            MaskPrompt(
                grid_to_pixel(target.box, sample.size),
                tuple(grid_to_pixel(point, sample.size) for point in target.points[:1]),
            )
            for target in sample.targets
        ]
        (found,) = self._segmenter.segment([pixels], [prompts])
        overlaps = [
            mask_iou(mask.mask, decode(target.mask))
            for mask, target in zip(found, sample.targets, strict=True)
            if target.mask is not None
        ]
        worst = min(overlaps)
        return None if worst >= self._least else Problem("prompt IoU", f"{worst:.3f} is below {self._least:g}")
