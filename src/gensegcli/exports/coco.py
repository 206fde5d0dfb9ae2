"""COCO instances: one JSON file over all predictions, written as a stream."""

from __future__ import annotations

import shutil
import tempfile
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import orjson

from gensegcli.atomic import replacing
from gensegcli.exports.files import bbox
from gensegcli.exports.places import images_root, name_below, picture_key
from gensegcli.geometry import rle

if TYPE_CHECKING:
    from pathlib import Path

    from gensegcli.records import Prediction


_HEAD = b'{"info": {"description": "predictions of genseg"'

_NO_SCORE = 1.0
"""Of an object whose segmenter gives no scores: evaluation by COCO's rules sorts by a number, and this one ranks none."""


class CocoInstances:
    """`coco.json`: images, annotations (run lengths, score), and one category per expression.

    File names are relative to `info.images_root`. What LVIS calls `neg_category_ids` lists, for every image, the
    expressions the model says are not in it. An object whose mask is empty has no annotation: its expression stands in
    LVIS's `not_exhaustive_category_ids` of the image, and `info.empty_masks` counts them. Refusals leave no trace here:
    they say nothing about the picture.

    Memory grows with pictures and expressions; annotations go to a temporary file as they come.
    """

    def __init__(self, folder: Path, *, images_root: Path | None = None) -> None:
        self._path = folder / "coco.json"
        self._given_root = images_root
        self._images: dict[str, dict[str, Any]] = {}
        self._categories: dict[str, int] = {}
        self._count = self._empty = 0
        self.notes: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._annotations = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by finish and abort)

    def add(self, prediction: Prediction) -> None:
        image = self._images.setdefault(
            picture_key(prediction.image),
            {
                "id": len(self._images) + 1,
                "file_name": prediction.image,
                "width": prediction.size.width,
                "height": prediction.size.height,
                "neg_category_ids": [],
                "not_exhaustive_category_ids": [],
            },
        )
        category = self._categories.setdefault(prediction.query, len(self._categories) + 1)
        if prediction.no_target:
            _add_once(image["neg_category_ids"], category)
        for found in prediction.instances:
            if rle.is_empty(found.mask):
                self._empty += 1
                _add_once(image["not_exhaustive_category_ids"], category)
                continue
            self._annotations.write(b",\n" if self._count else b"")
            self._count += 1
            annotation = {
                "id": self._count,
                "image_id": image["id"],
                "category_id": category,
                "segmentation": rle.to_coco(found.mask),
                "area": rle.area(found.mask),
                "bbox": bbox(found.mask),
                "iscrowd": 0,
                "score": _NO_SCORE if found.score is None else found.score,
                "prediction_id": prediction.id,
            }
            self._annotations.write(orjson.dumps(annotation))

    def finish(self) -> None:
        """Put the file in its place.

        Raises:
            GensegError: a picture is not below the root that was asked for.
        """
        root = images_root((image["file_name"] for image in self._images.values()), self._given_root)
        for image in self._images.values():
            image["file_name"] = name_below(root, image["file_name"])
        self._annotations.seek(0)
        categories = [{"id": number, "name": name, "supercategory": ""} for name, number in self._categories.items()]
        with replacing(self._path) as stream:
            info = {"images_root": root.shown, "empty_masks": self._empty}
            stream.write(_HEAD + b", " + orjson.dumps(info)[1:] + b',\n"licenses": [],\n"images": [\n')
            _write_list(stream, self._images.values())
            stream.write(b'],\n"categories": [\n')
            _write_list(stream, categories)
            stream.write(b'],\n"annotations": [\n')
            shutil.copyfileobj(cast("BinaryIO", self._annotations), stream)
            stream.write(b"]}\n")
        self._annotations.close()
        if self._empty:
            objects = "1 object" if self._empty == 1 else f"{self._empty} objects"
            self.notes.append(f"coco: {objects} left out, having an empty mask")

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


def _add_once(numbers: list[int], number: int) -> None:
    if number not in numbers:
        numbers.append(number)


def _write_list(stream: BinaryIO, items: object) -> None:
    for number, item in enumerate(cast("list[object]", items)):
        stream.write((b",\n" if number else b"") + orjson.dumps(item))
