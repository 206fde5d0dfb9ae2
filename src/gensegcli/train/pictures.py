"""Pictures of a group are read once: TRL hands the processor one for each completion, the same object every time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from transformers.image_utils import make_flat_list_of_images

if TYPE_CHECKING:
    from collections.abc import Generator

    from transformers import BaseImageProcessor, ProcessorMixin


@contextmanager
def read_once(processor: ProcessorMixin) -> Generator[None]:
    """While inside, the processor computes each picture of a call once, however often it is asked for."""
    own = processor.image_processor
    processor.image_processor = _ReadsOnce(own)
    try:
        yield
    finally:
        processor.image_processor = own


class _ReadsOnce:
    def __init__(self, own: BaseImageProcessor) -> None:
        self._own = own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def __call__(self, images: Any, **how: Any) -> Any:
        pictures = make_flat_list_of_images(images)
        different = {id(picture): picture for picture in pictures}
        read = self._own(list(different.values()), **how)
        place_of = {key: place for place, key in enumerate(different)}
        places = [place_of[id(picture)] for picture in pictures]
        grids = torch.as_tensor(read["image_grid_thw"])  # (picture, [frames, rows, columns])
        patches = torch.as_tensor(read["pixel_values"]).split(grids.prod(dim=1).tolist())
        read["pixel_values"] = torch.cat([patches[place] for place in places])
        read["image_grid_thw"] = grids[places]
        return read
