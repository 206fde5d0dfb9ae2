"""How fast `genseg prep grefcoco` makes training samples, beside the notebook way and beside the physical limit.

Three things are measured on the same pictures in the same run, each in a process of its own:

- notebook: one process, Pillow decode and resize, pycocotools, scipy's distance transform, one picture a sample;
- limit: bare OpenCV decode + resize + encode of each picture once, on as many processes as prep gets;
- prep: `genseg prep`, everything included (reading annotations apart, which is printed beside it).

Besides wall time, the processor time of all processes is added up: on a machine that does other work too, wall times
tell about that work, and processor times still compare.

    python benchmarks/prep.py [--tree DIR] [--samples 300] [--workers 2] [--json] [--check]

Without --tree a small tree is made up by benchmarks/prep_rehearsal.py.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from collections.abc import Iterator

SIDE = 840
FASTER_THAN_NOTEBOOK = 10.0
SHARE_OF_LIMIT = 0.7


class Usage:
    """Processor time and memory of this process and all below it, those of a fork server included, from /proc."""

    def __init__(self) -> None:
        self._before = _usage()
        self._last = dict(self._before)
        self._begun = time.perf_counter()
        self.seconds = self.processor = self.parent_mb = self.worker_mb = 0.0

    def look(self) -> None:
        """Note what runs now; what ends keeps what was last noted of it."""
        for pid, (seconds, peak) in _usage().items():
            self._last[pid] = seconds, max(peak, self._last.get(pid, (0, 0))[1])  # what has ended has no memory

    def end(self) -> None:
        """Sum up."""
        self.look()
        self.seconds = time.perf_counter() - self._begun
        self.processor = sum(now[0] - self._before.get(pid, (0, 0))[0] for pid, now in self._last.items())
        self.parent_mb = self._last[os.getpid()][1]
        self.worker_mb = max((mb for pid, (_, mb) in self._last.items() if pid not in self._before), default=0.0)


def _usage() -> dict[int, tuple[float, float]]:
    """Process → seconds of processor time until now, and peak resident memory in MB."""
    below: dict[int, list[int]] = {}
    found: dict[int, tuple[float, float]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            peak = next((line for line in (folder / "status").read_text().splitlines() if "VmHWM" in line), "x 0")
        except OSError:  # it has ended
            continue
        pid = int(folder.name)
        below.setdefault(int(fields[1]), []).append(pid)
        found[pid] = (sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK"), int(peak.split()[1]) / 1024)
    family = [os.getpid()]
    for pid in family:
        family += below.get(pid, [])
    return {pid: found[pid] for pid in family}


@contextmanager
def watched() -> Iterator[Usage]:
    """The usage of what runs inside the block, looked at ten times a second."""
    usage, over = Usage(), threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            usage.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield usage
    finally:
        over.set()
        thread.join()
        usage.end()


def drawn(tree: Path, samples: int) -> tuple[Recipe, Any, list[Work], float]:
    """The recipe, the raw split, the samples it draws, and the seconds that reading took."""
    begin = time.perf_counter()
    recipe = resolve("grefcoco", changes={"select.count": samples})
    raw = read_raw(recipe, Inputs(tree))
    seconds = time.perf_counter() - begin
    works, _ = candidates(raw.refs, recipe)
    draw = Draw(works, recipe.select)
    return recipe, raw, draw.take(draw.quota()), seconds


def notebook(works: list[Work]) -> int:
    """The straightforward way; how many samples came out."""
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
    return len(rows)


def bare(paths: list[str]) -> int:
    """Decode, resize and encode each picture once; the bytes that came out."""
    cv2.setNumThreads(1)
    total = 0
    for path in paths:
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        resized = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        total += len(cv2.imencode(".jpg", resized, [cv2.IMWRITE_JPEG_QUALITY, 95])[1])
    return total


def limit(works: list[Work], workers: int) -> Usage:
    """The bare work on the pictures of the samples, the processes already running."""
    paths = sorted({work.picture_key for work in works})
    parts = [paths[place : place + 32] for place in range(0, len(paths), 32)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.map(bare, [parts[0][:1]] * workers)  # imports and first touches
        with watched() as usage:
            pool.map(bare, parts, chunksize=1)
    return usage


def ours(recipe: Recipe, raw: Any, workers: int) -> tuple[Usage, int]:
    """`prepare`, process start included, and bytes written."""
    with tempfile.TemporaryDirectory() as folder, watched() as usage:
        report = prepare(recipe, raw, Path(folder) / "out", workers=workers, max_skipped=1.0)
    return usage, report.tally.bytes


def measure(tree: Path, samples: int, workers: int, notebook_samples: int, rounds: int) -> dict[str, Any]:
    """All three, the least of some rounds in wall time and in processor time."""
    recipe, raw, works, reading = drawn(tree, samples)
    some = works[:: max(1, len(works) // notebook_samples)]
    usages: dict[str, list[Usage]] = {"notebook": [], "limit": [], "prep": []}
    size = 0
    for _ in range(rounds):
        with watched() as usage:
            notebook(some)
        usages["notebook"].append(usage)
        usages["limit"].append(limit(works, workers))
        usage, size = ours(recipe, raw, workers)
        usages["prep"].append(usage)
    numbers = {"notebook": len(some), "limit": len(works), "prep": len(works)}
    wall = {way: numbers[way] / min(usage.seconds for usage in usages[way]) for way in usages}
    spent = {way: 1000 * min(usage.processor for usage in usages[way]) / numbers[way] for way in usages}
    return {
        "samples": len(works),
        "pictures": len({work.picture_key for work in works}),
        "workers": workers,
        "reading_s": reading,
        "per_s": wall,
        "processor_ms_per_sample": spent,
        "times_notebook": wall["prep"] / wall["notebook"],
        "share_of_limit": wall["prep"] / wall["limit"],
        "times_notebook_processor": workers * spent["notebook"] / spent["prep"],
        "share_of_limit_processor": spent["limit"] / spent["prep"],
        "bytes": size,
        "peak_parent_mb": usages["prep"][-1].parent_mb,
        "peak_worker_mb": usages["prep"][-1].worker_mb,
    }


def table(found: dict[str, Any]) -> str:
    """One Markdown table."""
    per_s, spent = found["per_s"], found["processor_ms_per_sample"]
    names = {
        "notebook": "notebook way, 1 process",
        "prep": f"genseg prep, {found['workers']} workers",
        "limit": f"bare decode + resize + encode, {found['workers']} processes",
    }
    rows = [f"| {name} | {per_s[way]:.1f} | {spent[way]:.1f} |" for way, name in names.items()]
    return "\n".join(
        [
            f"{found['samples']:,} samples of {found['pictures']:,} pictures",
            "",
            "| way | samples/s | processor ms/sample |",
            "|---|---:|---:|",
            *rows,
            "",
            (
                f"× notebook: {found['times_notebook']:.1f} by the clock, {found['times_notebook_processor']:.1f} by "
                f"processor time on {found['workers']} cores; share of the limit: {found['share_of_limit']:.2f} by the "
                f"clock, {found['share_of_limit_processor']:.2f} by processor time"
            ),
            (
                f"reading annotations {found['reading_s']:.1f} s; peak memory: parent {found['peak_parent_mb']:.0f} MB, "
                f"largest worker {found['peak_worker_mb']:.0f} MB"
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
    missed = (
        found["times_notebook_processor"] < FASTER_THAN_NOTEBOOK or found["share_of_limit_processor"] < SHARE_OF_LIMIT
    )
    return int(asked.check and missed)


if __name__ == "__main__":
    sys.exit(main())
