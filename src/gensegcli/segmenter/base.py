"""What every segmenter offers: pictures and prompts in, one mask per prompt out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from gensegcli.records import MaskPrompt, SegmentedMask


class Segmenter(Protocol):
    """A promptable segmentation model."""

    id: str
    revision: str | None

    def segment(
        self, images: Sequence[np.ndarray], prompts: Sequence[Sequence[MaskPrompt]]
    ) -> list[list[SegmentedMask]]:
        """One mask per prompt, at the resolution of its picture.

        Args:
            images: uint8 RGB arrays (h w 3), sizes may differ. A picture with the same pixels as one before is not
                encoded again while that stays in the segmenter's bounded cache.
            prompts: for each picture the prompts to decode on it; may be empty.

        Returns:
            For each picture a mask per prompt, in order.
        """
        ...
