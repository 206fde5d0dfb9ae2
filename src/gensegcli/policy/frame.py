"""What size a picture has when the model sees it, and so in which pixels a model of absolute coordinates answers.

Every engine gets pictures already at that size, resized here and nowhere else: engines, servers and processors of
other versions then see the same pixels, and the frame of an answer is known without asking any of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gensegcli.families import Coordinates
from gensegcli.geometry.boxes import MAX_ASPECT, smart_resize
from gensegcli.records import Size

if TYPE_CHECKING:
    from PIL.Image import Image

    from gensegcli.families import PolicyEntry


def input_size(entry: PolicyEntry, size: Size) -> Size:
    """Width and height at which the model sees a picture of `size`: multiples of `entry.factor`, within its budget.

    A picture beyond the aspect ratio that processors accept (200) is squeezed to it first; on both conventions that is only
    a change of scale per axis.
    """
    seen = _squeeze(entry.squash or size)
    # Rounding a very long picture can leave it outside the bounds, and a processor would then resize it once more.
    for _ in range(8):
        again = smart_resize(seen, factor=entry.factor, min_pixels=entry.min_pixels, max_pixels=entry.max_pixels)
        again = _squeeze(again)
        if again == seen:
            break
        seen = again
    return seen


def _squeeze(size: Size) -> Size:
    return Size(min(size.width, size.height * MAX_ASPECT), min(size.height, size.width * MAX_ASPECT))


def frame_for(entry: PolicyEntry, size: Size) -> Size | None:
    """The `frame` for `Dialect.read` and `render`: None where the model answers on the grid.

    Args:
        entry: the model's entry.
        size: width and height of the original picture.
    """
    return input_size(entry, size) if entry.coordinates is Coordinates.RESIZED_PIXELS else None


def fit_picture(entry: PolicyEntry, image: Image) -> Image:
    """The picture as the model sees it: RGB at `input_size`, bicubic as in the families' own processors."""
    from PIL.Image import Resampling

    size = input_size(entry, Size(*image.size))
    image = image if image.mode == "RGB" else image.convert("RGB")
    return image if image.size == size else image.resize(size, Resampling.BICUBIC)
