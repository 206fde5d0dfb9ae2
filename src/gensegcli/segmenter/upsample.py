"""Low-resolution mask logits to bool masks at the resolution of the picture, and the choice among several of a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from gensegcli.records import Size

PIXELS_AT_ONCE = 32_000_000
"""Pixels upsampled together: 128 MB of fp32 logits. A single larger mask is upsampled alone."""


def best_masks(logits: torch.Tensor, scores: torch.Tensor, sizes: Sequence[Size]) -> list[tuple[np.ndarray, float]]:
    """Of the masks of each prompt the one with the highest score among those that hold a pixel; if none does, an empty one.

    Args:
        logits: low-resolution masks (P m h w).
        scores: the predicted IoU of each (P m).
        sizes: of the picture of each prompt.

    Returns:
        For each prompt a bool mask (h w) and its score.
    """
    # Interpolation never exceeds the largest logit: a mask without a positive one stays empty at every size.
    hopeless = (logits.flatten(2) <= 0).all(dim=2)
    hopeless &= ~hopeless.all(dim=1, keepdim=True)
    order = scores.masked_fill(hopeless, float("-inf")).argsort(dim=1, descending=True, stable=True).tolist()
    chosen: dict[int, tuple[np.ndarray, float]] = {}
    waiting = list(range(len(sizes)))
    for rank in range(scores.shape[1]):
        which = [order[row][rank] for row in waiting]
        for row, own, mask in zip(
            waiting, which, masks_at(logits[waiting, which], [sizes[row] for row in waiting]), strict=True
        ):
            if rank == 0 or mask.any():
                chosen[row] = mask, float(scores[row, own])
        # A mask can also vanish where a picture is smaller than the logits: the next best is tried.
        waiting = [row for row in waiting if not chosen[row][0].any()]
        if not waiting:
            break
    return [chosen[row] for row in range(len(sizes))]


def masks_at(logits: torch.Tensor, sizes: Sequence[Size], *, pixels_at_once: int = PIXELS_AT_ONCE) -> list[np.ndarray]:
    """Bool masks (h w), one per row of `logits` (P h w), each at its own size.

    Logits are upsampled bilinearly and cut at 0 *afterwards*, as SAM 2 does: cutting first leaves staircases. Only
    bool masks leave the device, and at no time more than `pixels_at_once` float pixels exist.
    """
    masks: list[np.ndarray | None] = [None] * len(sizes)
    for size in dict.fromkeys(sizes):
        rows = [index for index, own in enumerate(sizes) if own == size]
        step = max(1, pixels_at_once // (size.width * size.height))
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            full = F.interpolate(
                logits[part, None].float(), (size.height, size.width), mode="bilinear", align_corners=False
            )
            # A copy per mask: rows of one array would keep the whole batch alive.
            for index, mask in zip(part, (full[:, 0] > 0).cpu(), strict=True):
                masks[index] = mask.numpy().copy()
    return [mask for mask in masks if mask is not None]
