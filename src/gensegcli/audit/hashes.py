"""A perceptual hash: 64 bits that stay (nearly) the same when a picture is resized, squashed or compressed again.

It is the usual pHash: the picture in grey at 32×32, the 8×8 lowest frequencies of its cosine transform, one bit each for
"above their median". Squashing to a square changes nothing, because the hash does it too. Mirrored pictures and larger
crops are other pictures to it; benchmarks/overlap.py has the numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

RADIUS = 6
"""Bits by which two hashes of one picture may differ, unless told otherwise. Distances are even as a rule."""

_SIDE, _LOW = 32, 8
_PLAIN = 3.0
"""Standard deviation of the small picture (of 255) below which its hash would be one of noise."""


def perceptual_hash(image: Image) -> int | None:
    """The hash of an upright picture, in [0, 2^64); None if the picture is too plain to have one."""
    grey = np.asarray(image.convert("L"))
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    if small.std() < _PLAIN:
        return None
    low = cv2.dct(small)[:_LOW, :_LOW]
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")
