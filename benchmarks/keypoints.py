"""Mined points and the filled-box floor on the 57 real masks of the shared test data.

    python benchmarks/keypoints.py [--data ../shared/data/mini]

Prints one markdown table, a line per picture. Points are judged by a distance transform of the whole picture, not by
the code that mined them. The floor is the mIoU of the filled true box: what any real segmenter must beat.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy import ndimage

from gensegcli.geometry import rle
from gensegcli.geometry.boxes import mask_box
from gensegcli.geometry.keypoints import mine_negative, mine_positive
from gensegcli.geometry.masks import mask_iou, union
from gensegcli.records import MaskPrompt, PixelPoint, Size
from gensegcli.segmenter.boxfill import BoxFill

MARGIN = 10
HEADER = (
    "masks",
    "positives inside",
    "depth 1 / 2 (px)",
    "apart (px)",
    "masks with 2 / 1 / 0 negatives",
    "negatives outside",
    "least distance (grid)",
    "box IoU",
)


def pixel(point: PixelPoint) -> tuple[int, int]:
    return math.floor(point.y), math.floor(point.x)


def measure(masks: list[np.ndarray], size: Size) -> dict[str, list]:
    """Everything that the table shows of one picture's masks."""
    whole = union(masks, size)
    # Between pixel centres and without the half pixel that the miner subtracts: another measure, never a smaller one.
    scale = (1000 / size.height, 1000 / size.width)
    centre_distance = ndimage.distance_transform_edt(~whole, sampling=scale)
    image = np.zeros((size.height, size.width, 3), np.uint8)
    found: dict[str, list] = defaultdict(list)
    for mask in masks:
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        box = mask_box(mask)
        assert box is not None
        start = time.process_time()
        positives = mine_positive(mask)
        between = time.process_time()
        negatives = mine_negative(whole, box, margin_grid=MARGIN)
        found["time"].append((between - start, time.process_time() - between))
        found["inside"] += [bool(mask[pixel(point)]) for point in positives]
        found["depth"].append([depth[pixel(point)] for point in positives])
        found["deepest"].append(depth.max())
        found["apart"].append(math.dist(*positives))
        found["count"].append(len(negatives))
        found["outside"] += [not whole[pixel(point)] for point in negatives]
        found["in box"] += [box.x1 < x < box.x2 and box.y1 < y < box.y2 for x, y in negatives]
        found["distance"] += [centre_distance[pixel(point)] for point in negatives]
        filled = BoxFill().segment([image], [[MaskPrompt(box)]])[0][0].mask
        found["iou"].append(mask_iou(filled, mask))
    return found


def row(name: str, found: dict[str, list]) -> str:
    counts = [found["count"].count(number) for number in (2, 1, 0)]
    first, second = np.mean(found["depth"], axis=0)
    cells = (
        f"{len(found['iou'])}",
        f"{sum(found['inside'])} of {len(found['inside'])}",
        f"{first:.1f} / {second:.1f}",
        f"{np.mean(found['apart']):.1f}",
        f"{counts[0]} / {counts[1]} / {counts[2]}",
        f"{sum(found['outside'])} of {len(found['outside'])}",
        f"{min(found['distance']):.1f}" if found["distance"] else "none",
        f"{np.mean(found['iou']):.3f}",
    )
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    default = Path(os.environ.get("GENSEG_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data") / "mini"
    parser = argparse.ArgumentParser(description="Mined points and the filled-box floor on real masks.")
    parser.add_argument("--data", type=Path, default=default, help="folder with refcocog/instances.json")
    path = parser.parse_args().data / "refcocog" / "instances.json"
    if not path.is_file():
        sys.exit(f"no real masks: {path} is not there")
    instances = json.loads(path.read_text())

    print(f"| picture | {' | '.join(HEADER)} |")
    print("|" + " --- |" * (len(HEADER) + 1))
    total: dict[str, list] = defaultdict(list)
    for image in instances["images"]:
        size = Size(image["width"], image["height"])
        own = [one for one in instances["annotations"] if one["image_id"] == image["id"]]
        found = measure([rle.decode(rle.from_coco(one["segmentation"], size)) for one in own], size)
        print(row(f"{image['id']} ({size.width} x {size.height})", found))
        for key, values in found.items():
            total[key] += values
    print(row("**all**", total))
    positive, negative = 1000 * np.mean(total["time"], axis=0)
    print(f"\nCPU time per mask: positives {positive:.1f} ms, negatives {negative:.1f} ms.")

    assert all(total["inside"]), "a mined point lies outside its mask"
    assert all(total["outside"]), "a mined negative lies on an object"
    assert all(total["in box"]), "a mined negative lies outside its box"
    assert min(total["distance"]) >= MARGIN, "a mined negative lies too near"
    deepest = [first for first, _ in total["depth"]]
    assert np.allclose(deepest, total["deepest"], atol=1e-3), "a first point is not the deepest"


if __name__ == "__main__":
    main()
