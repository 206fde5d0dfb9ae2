"""How fast `genseg prep grefcoco` makes training samples, beside the notebook way and beside the physical limit.

Three things are measured on the same pictures in the same run, each in a process of its own:

- notebook: one process, Pillow decode and resize, pycocotools, scipy's distance transform, one picture a sample;
- limit: bare OpenCV decode + resize + encode of each picture once, on as many processes as prep gets;
- prep: `genseg prep`, everything included (reading annotations apart, which is printed beside it).

    python benchmarks/prep.py [--tree DIR] [--samples 300] [--workers 2] [--json] [--check]

Without --tree a small tree is made up by benchmarks/prep_rehearsal.py.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from prep_rehearsal import write_tree
from pycocotools import mask as coco
from scipy import ndimage

from gensegcli.prep.inputs import Inputs, read_raw
from gensegcli.prep.recipe import Recipe, resolve
from gensegcli.prep.run import prepare
from gensegcli.prep.select import Draw, Work, candidates

SIDE = 840
FASTER_THAN_NOTEBOOK = 10.0
SHARE_OF_LIMIT = 0.7


def drawn(tree: Path, samples: int) -> tuple[Recipe, Any, list[Work], float]:
    """The recipe, the raw split, the samples it draws, and the seconds that reading took."""
    begin = time.perf_counter()
    recipe = resolve("grefcoco", changes={"select.count": samples})
    raw = read_raw(recipe, Inputs(tree))
    seconds = time.perf_counter() - begin
    works, _ = candidates(raw.refs, recipe)
    draw = Draw(works, recipe.select)
    return recipe, raw, draw.take(draw.quota()), seconds


def notebook(works: list[Work]) -> float:
    """Seconds that the straightforward way takes for the samples."""
    begin = time.perf_counter()
    rows = []
    for work in works:
        assert work.ref.picture is not None
        picture = Image.open(work.ref.picture.path).convert("RGB")  # ty: ignore[unresolved-attribute]
        width, height = picture.size
        targets, masks = [], []
        for target in work.ref.targets:
            segmentation = json.loads(target.mask.segmentation)  # ty: ignore[unresolved-attribute]
            if isinstance(segmentation, list):
                encoded = coco.merge(coco.frPyObjects(segmentation, height, width))
            elif isinstance(segmentation["counts"], list):
                encoded = coco.frPyObjects(segmentation, height, width)
            else:
                encoded = segmentation
            mask = Image.fromarray(coco.decode(encoded) * 255).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            masks.append(np.asarray(mask) > 0)
        union = np.any(masks, axis=0) if masks else np.zeros((SIDE, SIDE), bool)
        outside = ndimage.distance_transform_edt(~union) if masks else None
        for mask in masks:
            if not mask.any():
                continue
            depth = ndimage.distance_transform_edt(mask)
            first = np.unravel_index(depth.argmax(), depth.shape)
            rows_, columns = np.nonzero(mask)
            away = np.hypot(rows_ - first[0], columns - first[1])
            far = away > np.median(away)
            far = far if far.any() else away == away.max()
            second = int(np.argmax(np.where(far, depth[rows_, columns], -1)))
            box = (columns.min(), rows_.min(), columns.max() + 1, rows_.max() + 1)
            assert outside is not None
            part = outside[box[1] : box[3], box[0] : box[2]]
            free_rows, free_columns = np.nonzero(part >= SIDE / 100)
            negatives = []
            if len(free_rows):
                one = int(part[free_rows, free_columns].argmax())
                two = int(np.hypot(free_rows - free_rows[one], free_columns - free_columns[one]).argmax())
                negatives = [(int(free_columns[i]), int(free_rows[i])) for i in (one, two)]
            encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
            targets.append((box, first, second, negatives, encoded))
        stream = io.BytesIO()
        picture.resize((SIDE, SIDE)).save(stream, "JPEG", quality=95)
        rows.append((stream.getvalue(), targets))
    return time.perf_counter() - begin


def bare(paths: list[str]) -> int:
    """Decode, resize and encode each picture once; the bytes that came out."""
    cv2.setNumThreads(1)
    total = 0
    for path in paths:
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        resized = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        total += len(cv2.imencode(".jpg", resized, [cv2.IMWRITE_JPEG_QUALITY, 95])[1])
    return total


def limit(works: list[Work], workers: int) -> float:
    """Seconds of the bare work on the pictures of the samples, the processes already running."""
    paths = sorted({work.picture_key for work in works})
    parts = [paths[place : place + 32] for place in range(0, len(paths), 32)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.map(bare, [parts[0][:1]] * workers)  # imports and first touches
        begin = time.perf_counter()
        pool.map(bare, parts, chunksize=1)
        return time.perf_counter() - begin


def ours(recipe: Recipe, raw: Any, workers: int, out: Path) -> tuple[float, int]:
    """Seconds of `prepare`, process start included, and bytes written."""
    begin = time.perf_counter()
    report = prepare(recipe, raw, out, workers=workers, max_skipped=1.0)
    return time.perf_counter() - begin, report.tally.bytes


def measure(tree: Path, samples: int, workers: int, notebook_samples: int, rounds: int) -> dict[str, Any]:
    """All three, the faster of some rounds for the two that compare closely."""
    recipe, raw, works, reading = drawn(tree, samples)
    some = works[:: max(1, len(works) // notebook_samples)]
    notebook_rate = len(some) / notebook(some)
    limits, preps, size = [], [], 0
    for number in range(rounds):
        limits.append(limit(works, workers))
        with tempfile.TemporaryDirectory() as folder:
            seconds, size = ours(recipe, raw, workers, Path(folder) / str(number))
            preps.append(seconds)
    pictures = len({work.picture_key for work in works})
    found = {
        "samples": len(works),
        "pictures": pictures,
        "workers": workers,
        "reading_s": reading,
        "notebook_per_s": notebook_rate,
        "limit_per_s": len(works) / min(limits),
        "prep_per_s": len(works) / min(preps),
        "prep_s": min(preps),
        "bytes": size,
        "peak_parent_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "peak_worker_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }
    found["times_notebook"] = found["prep_per_s"] / notebook_rate
    found["share_of_limit"] = found["prep_per_s"] / found["limit_per_s"]
    return found


def table(found: dict[str, Any]) -> str:
    """One Markdown table."""
    head = f"{found['samples']:,} samples of {found['pictures']:,} pictures, {found['workers']} workers"
    rows = [
        ("notebook way, 1 process", found["notebook_per_s"]),
        (f"genseg prep, {found['workers']} workers", found["prep_per_s"]),
        (f"bare decode + resize + encode, {found['workers']} processes", found["limit_per_s"]),
    ]
    lines = [f"| {name} | {rate:.1f} | {rate / found['notebook_per_s']:.1f} |" for name, rate in rows]
    return "\n".join(
        [
            head,
            "",
            "| way | samples/s | × notebook |",
            "|---|---:|---:|",
            *lines,
            "",
            (
                f"share of the limit {found['share_of_limit']:.2f}; reading annotations {found['reading_s']:.1f} s; "
                f"peak memory: parent {found['peak_parent_mb']:.0f} MB, largest worker {found['peak_worker_mb']:.0f} MB"
            ),
        ]
    )


def main() -> int:
    """Measure, print; with --check leave with 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--tree", type=Path, help="raw gRefCOCO tree; without it a small one is made up")
    parser.add_argument("--scale", type=float, default=0.02, help="of the tree that is made up")
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--notebook-samples", type=int, default=60, help="how many the slow way is timed on")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true", help="leave with 1 where a bar is missed")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tree = asked.tree
        if tree is None:
            tree = Path(folder) / "raw"
            write_tree(tree, asked.scale, None)
        found = measure(tree, asked.samples, asked.workers, asked.notebook_samples, asked.rounds)
    print(json.dumps(found) if asked.json else table(found))
    missed = found["times_notebook"] < FASTER_THAN_NOTEBOOK or found["share_of_limit"] < SHARE_OF_LIMIT
    return int(asked.check and missed)


if __name__ == "__main__":
    sys.exit(main())
