"""Low-resolution mask logits to bool masks at the resolution of the picture."""

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
