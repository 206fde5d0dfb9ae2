"""A small raw tree in gRefCOCO's form, with pictures that decode, for tests that need many samples or damage some."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from gensegcli.prep.inputs import Inputs, read_raw
from gensegcli.prep.recipe import resolve

if TYPE_CHECKING:
    from pathlib import Path

    from gensegcli.prep.recipe import Recipe
    from gensegcli.sources.raw import RawSet

WIDTH, HEIGHT = 96, 64


@dataclass
class Tree:
    """Raw files that tests change before they are written by `save`."""

    root: Path
    refs: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def picture(self, number: int) -> Path:
        return self.root / "images" / "train2014" / f"COCO_train2014_{number:012d}.jpg"

    def add_picture(self, number: int, *, objects: int = 3) -> list[int]:
        """A picture of noise and boxes as objects in it; their annotation ids."""
        rng = np.random.default_rng(number)
        path = self.picture(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = cv2.resize(rng.integers(0, 255, (8, 12, 3), np.uint8), (WIDTH, HEIGHT))
        assert cv2.imwrite(str(path), pixels)
        self.images.append({"id": number, "file_name": path.name, "width": WIDTH, "height": HEIGHT})
        numbers = []
        for place in range(objects):
            x, y = 4 + 30 * place, 6 + 5 * place
            # An L: its box holds background for the negative points.
            corners = [x, y, x + 8, y, x + 8, y + 24, x + 26, y + 24, x + 26, y + 34, x, y + 34]
            numbers.append(self.add_object(number, [corners]))
        return numbers

    def add_object(self, picture: int, segmentation: Any) -> int:
        number = 1000 + len(self.annotations)
        self.annotations.append(
            {"id": number, "image_id": picture, "category_id": 1, "segmentation": segmentation, "iscrowd": 0}
        )
        return number

    def add_ref(self, picture: int, ann_ids: list[int], *texts: str, split: str = "train") -> dict[str, Any]:
        number = len(self.refs)
        sentences = [{"sent": text, "raw": text, "sent_id": 100 * number + i} for i, text in enumerate(texts)]
        ref = {
            "ref_id": number,
            "image_id": picture,
            "split": split,
            "ann_id": ann_ids or [-1],
            "category_id": [1] * len(ann_ids) or [-1],
            "no_target": not ann_ids,
            "sentences": sentences,
            "file_name": f"COCO_train2014_{picture:012d}_{number}.jpg",
        }
        self.refs.append(ref)
        return ref

    def save(self) -> Path:
        folder = self.root / "grefcoco"
        folder.mkdir(exist_ok=True)
        (folder / "grefs(unc).json").write_text(json.dumps(self.refs))
        (folder / "instances.json").write_text(json.dumps({"images": self.images, "annotations": self.annotations}))
        return self.root

    def raw(self, recipe: Recipe) -> RawSet:
        return read_raw(recipe, Inputs(self.save()))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Empty."""
    return Tree(tmp_path / "raw")


@pytest.fixture
def full_tree(tree: Tree) -> Tree:
    """24 pictures, each with expressions for no object, one, and several: 4 no, 6 single, 4 multi a picture."""
    for number in range(1, 25):
        ids = tree.add_picture(number)
        tree.add_ref(number, [], "a zebra", "the moon", "two dogs", "a red bus")
        for place, ann_id in enumerate(ids):
            tree.add_ref(number, [ann_id], f"corner {place}", f"the shape {place}")
        tree.add_ref(number, ids[:2], "both on the left", "the first two")
        tree.add_ref(number, ids, "all of them", "everything")
    return tree


def recipe(*assignments: str, name: str = "grefcoco", **options: Any) -> Recipe:
    """A recipe, for tests the training form of gRefCOCO at the size of the small pictures unless told otherwise."""
    return resolve(name, assignments=assignments, **options)


def small(*assignments: str, count: int = 0, **options: Any) -> Recipe:
    """The training recipe at 60x60 pixels with a draw of `count` samples."""
    return recipe("picture.size=[60, 60]", f"select.count={count}", *assignments, **options)
