"""Formats of one file per prediction: the bytes of each."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import orjson
from PIL import Image

from gensegcli.draw import overlay
from gensegcli.geometry import rle
from gensegcli.geometry.polygons import polygons
from gensegcli.predictions import union_mask

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gensegcli.records import Prediction, Rle


PNG_END = b"IEND\xaeB`\x82"


class FileFormat(NamedTuple):
    """The ending of the files and what stands in one."""

    suffix: str
    render: Callable[[Prediction, Image.Image | None], bytes]
    end: bytes
    """With which every whole file ends."""
    needs_picture: bool = False

    def is_whole(self, path: Path) -> bool:
        """Whether the file is there to its end; a copy that was cut off, or a disk that was full, may have left less."""
        try:
            with path.open("rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                stream.seek(max(size - len(self.end), 0))
                return stream.read() == self.end
        except OSError:  # not there
            return False


def overlay_jpeg(prediction: Prediction, image: Image.Image | None) -> bytes:
    """The overlay as a JPEG. Full colour resolution, or thin coloured lines would smear."""
    if image is None:
        raise ValueError("an overlay needs the picture")
    stream = io.BytesIO()
    overlay(image, prediction).save(stream, "JPEG", quality=92, subsampling=0)
    return stream.getvalue()


def mask_png(prediction: Prediction, _image: Image.Image | None) -> bytes:
    """All masks united as an 8-bit grey PNG of the picture's size, 0 and 255; all 0 where nothing was found."""
    stream = io.BytesIO()
    Image.fromarray(union_mask(prediction).astype(np.uint8) * np.uint8(255)).save(stream, "PNG")
    return stream.getvalue()


def rle_json(prediction: Prediction, _image: Image.Image | None) -> bytes:
    """COCO's compressed run lengths: one `union`, and each of the `instances` with its mask's box (x y w h) and score."""
    union = rle.encode(union_mask(prediction))
    instances = [
        {
            "segmentation": rle.to_coco(found.mask),
            "bbox": bbox(found.mask),
            "score": found.score,
            "empty": rle.is_empty(found.mask),
        }
        for found in prediction.instances
    ]
    return orjson.dumps({**_about(prediction), "union": rle.to_coco(union), "instances": instances}) + b"\n"


def geojson(prediction: Prediction, _image: Image.Image | None) -> bytes:
    """A FeatureCollection, a MultiPolygon per instance, in pixels of the picture: x to the right, y *down*.

    Vertices are corners of pixels, so that nothing is rounded. Empty masks have a null geometry, as RFC 7946 allows.
    """
    features = [
        {
            "type": "Feature",
            "id": number,
            "geometry": _multi_polygon(found.mask),
            "properties": {
                "query": prediction.query,
                "score": found.score,
                "box": list(found.prompt.box),
                "empty": rle.is_empty(found.mask),
            },
        }
        for number, found in enumerate(prediction.instances, start=1)
    ]
    return orjson.dumps({"type": "FeatureCollection", **_about(prediction), "features": features}) + b"\n"


FILE_FORMATS: dict[str, FileFormat] = {
    "overlay": FileFormat(".jpg", overlay_jpeg, b"\xff\xd9", needs_picture=True),
    "png": FileFormat(".png", mask_png, PNG_END),
    "rle": FileFormat(".json", rle_json, b"}\n"),
    "geojson": FileFormat(".geojson", geojson, b"}\n"),
}
"""Formats with one file per prediction, by name."""


def bbox(mask: Rle) -> list[float]:
    """COCO's x, y, width, height of a mask; four zeros for an empty one, as pycocotools has it."""
    x1, y1, x2, y2 = rle.box(mask) or (0.0, 0.0, 0.0, 0.0)
    return [x1, y1, x2 - x1, y2 - y1]


def _about(prediction: Prediction) -> dict[str, object]:
    return {
        "id": prediction.id,
        "image": prediction.image,
        "query": prediction.query,
        "width": prediction.size.width,
        "height": prediction.size.height,
        "no_target": prediction.no_target,
        "refusal": None if prediction.refusal is None else prediction.refusal.kind.value,
    }


def _multi_polygon(mask: Rle) -> dict[str, object] | None:
    parts = polygons(rle.decode(mask))
    if not parts:
        return None
    rings = [[_closed(ring) for ring in (part.outer, *part.holes)] for part in parts]
    return {"type": "MultiPolygon", "coordinates": rings}


def _closed(ring: np.ndarray) -> list[list[int]]:
    return np.concatenate([ring, ring[:1]]).tolist()
