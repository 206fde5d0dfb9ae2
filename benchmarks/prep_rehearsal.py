"""A raw gRefCOCO tree with the true formats and sizes, made up: for rehearsing `genseg prep grefcoco` at full size.

At scale 1: 16,994 training pictures and 3,000 of the other splits, 78,930 references with 209,344 sentences in train,
objects as polygons, run lengths and crowds in `instances.json`, JPEGs of COCO's sizes. Every picture is a file of its
own: one of those given with --pictures (or of noise), with a patch that no other has.

    python benchmarks/prep_rehearsal.py TREE --scale 0.02 --pictures DIR
    genseg prep grefcoco --root TREE --out SET
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco

SPLITS = {
    "train": (16994, 78930, 209344),
    "val": (1501, 4237, 14229),
    "testA": (750, 6265, 19200),
    "testB": (750, 4618, 16063),
}
"""Split: pictures, references, sentences. No-target and group references are a third of train, all of val."""
NO_TARGET, SINGLE = {"train": 0.07, "val": 0.35}, {"train": 0.7, "val": 0.0}
OBJECTS = 10
"""Objects of a picture, about as many as the 196,771 on 19,994 pictures of the real file."""
SIZES = ((640, 480), (480, 640), (640, 427), (427, 640), (500, 375), (640, 360))
WORDS = [
    "the",
    "a",
    "left",
    "right",
    "red",
    "blue",
    "man",
    "woman",
    "dog",
    "two",
    "all",
    "holding",
    "standing",
    "near",
    "behind",
    "table",
    "of",
    "in",
    "with",
    "and",
    "big",
]


@dataclass
class Stock:
    """Decoded pictures, from which those of the tree are made."""

    pictures: list[np.ndarray]

    @classmethod
    def of(cls, given: Path | None) -> Stock:
        """The JPEGs of a folder, or noise in COCO's sizes, blurred until a file has about COCO's 160 kB."""
        if given is not None:
            return cls([cv2.imread(str(path)) for path in sorted(given.glob("*.jpg"))])
        rng = np.random.default_rng(0)
        pictures = []
        for width, height in SIZES * 4:
            noise = rng.integers(0, 256, (height, width, 3), np.uint8)
            fine, coarse = (cv2.GaussianBlur(noise, (0, 0), sigma) for sigma in (1.2, 20))
            pictures.append(cv2.addWeighted(fine, 1.5, coarse, 1, -180))
        return cls(pictures)

    def write(self, path: Path, number: int) -> tuple[int, int]:
        """Write picture `number` as a JPEG; width and height."""
        picture = self.pictures[number % len(self.pictures)]
        height, width = picture.shape[:2]
        if not path.exists():
            patch = np.random.default_rng(number).integers(0, 256, (24, 24, 3), np.uint8)
            changed = picture.copy()
            changed[:96, :96] = cv2.resize(patch, (96, 96), interpolation=cv2.INTER_CUBIC)
            path.write_bytes(cv2.imencode(".jpg", changed, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())
        return width, height


def polygon(rng: np.random.Generator, width: int, height: int) -> list[float]:
    """A star-shaped outline with 12 to 60 corners; its size is spread as COCO's: many small, few large."""
    reach = min(width, height) * float(np.clip(rng.lognormal(-2.0, 0.8), 0.02, 0.48))
    x, y = rng.uniform(reach, width - reach), rng.uniform(reach, height - reach)
    corners = int(rng.integers(12, 60))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = reach * rng.uniform(0.45, 1.0, corners)
    points = np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles) * rng.uniform(0.6, 1)], 1)
    return [round(float(value), 2) for value in points.ravel()]


def segmentation(rng: np.random.Generator, width: int, height: int) -> tuple[object, int]:
    """Polygons (94 %, some of several parts), compressed run lengths (5 %), uncompressed crowds (1 %)."""
    kind = rng.random()
    first = polygon(rng, width, height)
    parts = [first]
    if rng.random() < 0.1:  # a second part beside the first, as of an object that something stands before
        parts.append([round(value + float(rng.uniform(4, 40)), 2) for value in first])
    if kind < 0.94:
        return parts, 0
    encoded = coco.merge(coco.frPyObjects(parts, height, width))
    if kind < 0.99:
        return {"size": [height, width], "counts": encoded["counts"].decode()}, 0
    columns = coco.decode(encoded).T.ravel()
    runs = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(columns)) + 1, [columns.size]]))
    return {"size": [height, width], "counts": [int(v) for v in (runs if columns[0] == 0 else [0, *runs])]}, 1


def share(total: int, parts: int, rng: np.random.Generator) -> list[int]:
    """`total` things on `parts` places, at least one each."""
    return (1 + np.bincount(rng.integers(0, parts, total - parts), minlength=parts)).tolist()


def write_tree(root: Path, scale: float, given: Path | None) -> dict[str, int]:
    """Write the tree; returns what it holds."""
    rng = np.random.default_rng(1)
    stock = Stock.of(given)
    folder = root / "images" / "train2014"
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations, refs, sentences_made = [], [], [], 0
    for split, sizes in SPLITS.items():
        pictures, references, sentences = (max(1, round(number * scale)) for number in sizes)
        per_picture = share(references, pictures, rng)
        per_ref = iter(share(sentences, references, rng))
        for count in per_picture:
            number = len(images) + 1
            name = f"COCO_train2014_{number:012d}.jpg"
            width, height = stock.write(folder / name, number)
            images.append({"id": number, "file_name": name, "width": width, "height": height})
            own = []
            for _ in range(max(2, int(rng.poisson(OBJECTS)))):
                shape, crowd = segmentation(rng, width, height)
                own.append(len(annotations) + 1)
                annotations.append(
                    {
                        "id": own[-1],
                        "image_id": number,
                        "category_id": int(rng.integers(1, 91)),
                        "iscrowd": crowd,
                        "segmentation": shape,
                    }
                )
            for _ in range(count):
                fate = rng.random()
                empty = NO_TARGET.get(split, NO_TARGET["val"])
                several = empty + SINGLE.get(split, 0.0)
                size = 0 if fate < empty else 1 if fate < several else int(rng.integers(2, min(5, len(own)) + 1))
                chosen = [int(v) for v in rng.choice(own, size, replace=False)]
                texts = [" ".join(rng.choice(WORDS, int(rng.integers(2, 10)))) for _ in range(next(per_ref))]
                listed = [
                    {"tokens": text.split(), "raw": text, "sent": text, "sent_id": sentences_made + place}
                    for place, text in enumerate(texts)
                ]
                sentences_made += len(texts)
                refs.append(
                    {
                        "ref_id": len(refs),
                        "image_id": number,
                        "split": split,
                        "ann_id": chosen or [-1],
                        "category_id": [1] * len(chosen) or [-1],
                        "no_target": not chosen,
                        "file_name": name,
                        "sent_ids": [sentence["sent_id"] for sentence in listed],
                        "sentences": listed,
                    }
                )
    target = root / "grefcoco"
    target.mkdir(exist_ok=True)
    (target / "grefs(unc).json").write_text(json.dumps(refs))
    (target / "instances.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return {"pictures": len(images), "objects": len(annotations), "references": len(refs), "sentences": sentences_made}


def main() -> int:
    """Write the tree and say what it holds."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("tree", type=Path, help="folder to write to")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the true sizes")
    parser.add_argument("--pictures", type=Path, help="folder of JPEGs to repeat; without it noise is drawn")
    asked = parser.parse_args()
    print(json.dumps(write_tree(asked.tree, asked.scale, asked.pictures)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
