"""Sets made up for audits: pictures with numbers, digests and hashes as a test wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from gensegcli.audit.sets import Places

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def mini(shared_data: Path) -> Places:
    """The real mini sets."""
    return Places(shared_data / "mini")


def draw_picture(number: int, width: int = 96, height: int = 64) -> np.ndarray:
    """A picture of coloured patches, uint8 (h w 3): no two numbers look alike."""
    patches = np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8)
    return cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
