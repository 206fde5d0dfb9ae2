"""From a folder in transformers' form to a ready `Sam2Segmenter`, with every way it can be wrong told to the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers import Sam2ImageProcessor, Sam2Model

from gensegcli.errors import ExitCode, GensegError
from gensegcli.pretrained import bad_folder, load_processor, load_weights
from gensegcli.segmenter.sam2 import Sam2Segmenter

if TYPE_CHECKING:
    from gensegcli.models import ResolvedSegmenter


def load_sam2(
    resolved: ResolvedSegmenter,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    multimask: bool = True,
    cache: int = 8,
) -> Sam2Segmenter:
    """A `Sam2Segmenter` with the weights of `resolved.path`; see `load_segmenter`."""
    model, processor = load_model(resolved)
    return Sam2Segmenter(
        model,
        processor,
        id=resolved.id,
        revision=resolved.revision,
        device=device or default_device(),
        dtype=dtype,
        multimask=multimask,
        cache=cache,
    )


def default_device() -> torch.device:
    """The accelerator of this machine if it has a usable one, else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def load_model(resolved: ResolvedSegmenter) -> tuple[Sam2Model, Sam2ImageProcessor]:
    """Model in fp32 and image processor of a local folder.

    The published checkpoints are of the video model; what it has beyond the picture model is left out.

    Raises:
        GensegError: damaged or incomplete weights, a processor for another input size than the model's.
    """
    folder = resolved.path
    if folder is None:
        raise GensegError(
            f"segmenter {resolved.id!r} has no weights for SAM 2", hint="see `genseg models`", code=ExitCode.NOT_FOUND
        )
    model = load_weights("segmenter", folder, Sam2Model.from_pretrained, dtype=torch.float32)
    processor = load_processor("segmenter", folder, Sam2ImageProcessor.from_pretrained)
    wanted = model.config.prompt_encoder_config.image_size
    width, height = processor.size["width"], processor.size["height"]
    if (width, height) != (wanted, wanted):
        raise bad_folder(
            "segmenter", folder, f"has a model for {wanted}x{wanted} input and a processor for {width}x{height}"
        )
    return model, processor
