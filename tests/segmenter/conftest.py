"""The tiny SAM 2 as a folder, and what can be made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def sam2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny SAM 2 with its processor, for 64-pixel input."""
    from transformers import Sam2ImageProcessor, Sam2Processor

    from tests.segmenter.tiny import tiny_sam2

    folder = tmp_path_factory.mktemp("tiny-sam2")
    tiny_sam2().save_pretrained(folder)
    processor = Sam2ImageProcessor(size={"height": 64, "width": 64}, mask_size={"height": 16, "width": 16})
    Sam2Processor(processor).save_pretrained(folder)
    return folder
