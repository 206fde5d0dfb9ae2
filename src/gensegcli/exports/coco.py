"""COCO instances: one JSON file over all predictions, written as a stream."""

from __future__ import annotations

import shutil
import tempfile
from typing import TYPE_CHECKING, BinaryIO, cast

import orjson

from gensegcli.atomic import replacing
from gensegcli.exports.files import bbox
from gensegcli.geometry import rle

if TYPE_CHECKING:
    from pathlib import Path

    from gensegcli.records import Prediction


_HEAD = b'{"info": {"description": "predictions of genseg"}'


class CocoInstances:
    """`coco.json`: images, annotations (run lengths, score), and one category per expression.

    What LVIS calls `neg_category_ids` lists, for every image, the expressions the model says are not in it. Refusals
    leave no trace here: they say nothing about the picture.

    Memory grows with pictures and expressions; annotations go to a temporary file as they come.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "coco.json"
        self._images: dict[str, dict[str, object]] = {}
        self._categories: dict[str, int] = {}
        self._count = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._annotations = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by finish and abort)

    def add(self, prediction: Prediction) -> None:
        image = self._images.setdefault(
            prediction.image,
            {
                "id": len(self._images) + 1,
                "file_name": prediction.image,
                "width": prediction.size.width,
                "height": prediction.size.height,
                "neg_category_ids": [],
            },
        )
        category = self._categories.setdefault(prediction.query, len(self._categories) + 1)
        if prediction.no_target:
            cast("list[int]", image["neg_category_ids"]).append(category)
        for found in prediction.instances:
            self._annotations.write(b",\n" if self._count else b"")
            self._count += 1
            annotation = {
                "id": self._count,
                "image_id": image["id"],
                "category_id": category,
                "segmentation": rle.to_coco(found.mask),
                "area": rle.area(found.mask),
                "bbox": bbox(found.mask, found.prompt.box),
                "iscrowd": 0,
                "score": found.score,
                "prediction_id": prediction.id,
            }
            self._annotations.write(orjson.dumps(annotation))

    def finish(self) -> None:
        """Put the file in its place."""
        self._annotations.seek(0)
        categories = [{"id": number, "name": name, "supercategory": ""} for name, number in self._categories.items()]
        with replacing(self._path) as stream:
            stream.write(_HEAD + b',\n"licenses": [],\n"images": [\n')
            _write_list(stream, self._images.values())
            stream.write(b'],\n"categories": [\n')
            _write_list(stream, categories)
            stream.write(b'],\n"annotations": [\n')
            shutil.copyfileobj(cast("BinaryIO", self._annotations), stream)
            stream.write(b"]}\n")
        self._annotations.close()

    def abort(self) -> None:
        self._annotations.close()


def discard_coco(folder: Path) -> None:
    """Remove the `coco.json` of earlier runs; one that somebody else made stays."""
    path = folder / "coco.json"
    if path.is_file():
        with path.open("rb") as stream:
            ours = stream.read(len(_HEAD)) == _HEAD
        if ours:
            path.unlink()


def _write_list(stream: BinaryIO, items: object) -> None:
    for number, item in enumerate(cast("list[object]", items)):
        stream.write((b",\n" if number else b"") + orjson.dumps(item))
