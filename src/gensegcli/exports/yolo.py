"""YOLO segmentation labels: one text file per picture, put in place file by file once all of them are built."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from gensegcli.atomic import replacing
from gensegcli.exports.names import picture_stem
from gensegcli.geometry import rle
from gensegcli.geometry.polygons import joined, polygons

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gensegcli.records import Prediction, Size

_HEAD = "# Labels by genseg. Pictures belong into images/, named as their labels."


class YoloLabels:
    """`yolo/`: `labels/<picture>.txt`, `data.yaml` (a class per expression) and `pictures.csv` (label file, picture).

    A line is `class x1 y1 x2 y2 …`: one outline per instance, coordinates divided by width and height. The format knows
    neither holes nor separate parts: they are joined to one outline by bridges of no width, as its own converters do,
    which the even-odd rule of its rasterisers fills correctly. Scores have no place in it. A picture in which nothing
    was found gets an empty file, which trainers take as background. Put the pictures into `yolo/images/` under the
    names of their label files to train.

    The folder is shared with the user: only files that genseg wrote are ever replaced, moved or removed in it.
    """

    def __init__(self, folder: Path) -> None:
        self._final = folder / "yolo"
        self._partial = folder / ".yolo.partial"
        self._clear()
        (self._partial / "labels").mkdir(parents=True)
        self._stems: dict[str, str] = {}
        self._taken: set[str] = set()
        self._classes: dict[str, int] = {}

    def add(self, prediction: Prediction) -> None:
        number = self._classes.setdefault(prediction.query, len(self._classes))
        lines = [yolo_line(rle.decode(found.mask), number, prediction.size) for found in prediction.instances]
        # Appended at once: memory stays bounded, and the folder is not in its place before it is whole.
        with (self._partial / "labels" / f"{self._stem(prediction.image)}.txt").open("a", encoding="ascii") as stream:
            stream.write("".join(f"{line}\n" for line in lines if line))

    def finish(self) -> None:
        """Put the files in place, one by one; what else stands in the folder is not touched.

        `data.yaml` goes first and comes back last: a kill in between leaves nothing a trainer would start from.
        `pictures.csv` names old and new labels meanwhile, so that the next attempt knows which files are genseg's.
        """
        labels = self._final / "labels"
        labels.mkdir(parents=True, exist_ok=True)
        new = {f"{stem}.txt": image for image, stem in self._stems.items()}
        taken = {name.casefold() for name in new}
        stale = {name: image for name, image in written_labels(self._final).items() if name.casefold() not in taken}
        (self._final / "data.yaml").unlink(missing_ok=True)
        self._write_table({**new, **stale})
        for name in new:
            (self._partial / "labels" / name).replace(labels / name)
        for name in stale:
            (labels / name).unlink(missing_ok=True)
        self._write_table(new)
        names = "".join(
            f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for name, number in self._classes.items()
        )
        with replacing(self._final / "data.yaml") as stream:
            stream.write(f"{_HEAD}\ntrain: images\nval: images\nnames:\n{names}".encode())
        self._clear()

    def abort(self) -> None:
        self._clear()

    def _clear(self) -> None:
        shutil.rmtree(self._partial / "labels", ignore_errors=True)
        with suppress(OSError):  # not there, or not empty: the rest is not genseg's
            self._partial.rmdir()

    def _write_table(self, labels: Mapping[str, str]) -> None:
        text = io.StringIO(newline="")
        table = csv.writer(text)
        table.writerow(("label", "image"))
        table.writerows((f"labels/{name}", image) for name, image in labels.items())
        with replacing(self._final / "pictures.csv") as stream:
            stream.write(text.getvalue().encode())

    def _stem(self, image: str) -> str:
        stem = self._stems.get(image)
        if stem is None:
            stem = picture_stem(image)
            # Compared without case: some file systems hold no two names that differ in nothing else.
            if stem.casefold() in self._taken:
                stem = f"{stem}-{hashlib.sha256(image.encode()).hexdigest()[:12]}"
            self._taken.add(stem.casefold())
            self._stems[image] = stem
        return stem


def written_labels(folder: Path) -> dict[str, str]:
    """The label files that genseg wrote into a `yolo/` folder, by name, with their pictures, as its table lists them.

    A table of another form lists none: what may be the user's is left alone.
    """
    try:
        with (folder / "pictures.csv").open(encoding="utf-8", newline="") as stream:
            rows = [(row["label"] or "", row["image"] or "") for row in csv.DictReader(stream)]
    except (OSError, KeyError, UnicodeDecodeError, csv.Error):
        return {}
    found = ((label.removeprefix("labels/"), image) for label, image in rows if label.startswith("labels/"))
    # A name with a separator was not written by genseg and might lead out of the folder.
    return {name: image for name, image in found if name.endswith(".txt") and not re.search(r"[/\\\0]", name)}


def discard_labels(folder: Path) -> None:
    """Remove the labels that earlier runs put into `<folder>/yolo`, and nothing else."""
    final = folder / "yolo"
    for name in written_labels(final):
        (final / "labels" / name).unlink(missing_ok=True)
    yaml = final / "data.yaml"
    if yaml.is_file() and yaml.read_bytes().startswith(_HEAD.encode()):
        yaml.unlink()
        (final / "pictures.csv").unlink(missing_ok=True)
    for emptied in (final / "labels", final):
        with suppress(OSError):  # not there, or the user's files are in it
            emptied.rmdir()


def yolo_line(mask: np.ndarray, number: int, size: Size) -> str:
    """One line of a label file for a bool mask (h w); empty for an empty mask."""
    parts = polygons(mask)
    if not parts:
        return ""
    outline = joined(parts) / np.array(size, dtype=np.float64)
    # Seven digits: below a hundredth of a pixel for every picture that can be read.
    return f"{number} " + " ".join(f"{value:.7g}" for value in outline.reshape(-1))
