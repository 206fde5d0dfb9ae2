"""An existing prepared set held against its own card, sample by sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gensegcli.errors import GensegError
from gensegcli.geometry.boxes import grid_to_pixel
from gensegcli.geometry.rle import decode
from gensegcli.images import read_image
from gensegcli.prep.recipe import of_card
from gensegcli.prep.store import Tally, file_digest
from gensegcli.records import GRID, Sample, Target
from gensegcli.sources.prepared import CARD, SHARDS, read_card, read_shard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

SHOWN = 20


@dataclass
class Findings:
    """What a check came to."""

    tally: Tally = field(default_factory=Tally)
    """What the shards hold."""
    problems: list[str] = field(default_factory=list)
    """The first of them, each with the sample it is about."""
    number: int = 0

    def note(self, problem: str) -> None:
        """Count a problem, and keep it if it is among the first."""
        self.number += 1
        if len(self.problems) < SHOWN:
            self.problems.append(problem)


def check(folder: Path, tell: Callable[[int, int], None] = lambda _done, _all: None) -> Findings:
    """Verify files, digests, counts, pictures, masks and points.

    Args:
        folder: the prepared set.
        tell: called with samples done and samples in the card.

    Raises:
        GensegError: the folder is no prepared set.
    """
    card = read_card(folder)
    found = Findings()
    seen: set[str] = set()
    named = {shard["file"] for shard in card["shards"]}
    for path in sorted((folder / SHARDS).glob("*.parquet")):
        if f"{SHARDS}/{path.name}" not in named:
            found.note(f"{SHARDS}/{path.name}: not in the card, but whoever opens {SHARDS}/*.parquet reads it")
    for shard in card["shards"]:
        path = folder / shard["file"]
        if not path.is_file():
            found.note(f"{shard['file']}: missing")
            continue
        if file_digest(path) != shard["sha256"]:
            found.note(f"{shard['file']}: its content is not what was written (SHA-256 differs)")
        try:
            _check_shard(path, seen, found)
        except GensegError as error:
            found.note(error.message)
        tell(found.tally.samples, sum(shard["samples"] for shard in card["shards"]))
    _check_counts(card["counts"], found)
    try:
        of_card(card, folder / CARD)
    except GensegError as error:
        found.note(error.message)
    return found


def _check_shard(path: Path, seen: set[str], found: Findings) -> None:
    for sample in read_shard(path):
        found.tally.add([sample])
        if sample.id in seen:
            found.note(f"{sample.id}: occurs twice")
        seen.add(sample.id)
        for problem in problems(sample):
            found.note(f"{sample.id}: {problem}")


def _check_counts(told: Mapping[str, object], found: Findings) -> None:
    for name, number in found.tally.counts().items():
        if told.get(name) != number:
            found.note(f"the card counts {told.get(name)} {name}, the shards hold {number}")


def problems(sample: Sample) -> Iterator[str]:
    """What is wrong with a sample; nothing, if nothing is."""
    try:
        picture = read_image(sample.image)
        masks = [decode(target.mask) if target.mask is not None else None for target in sample.targets]
    except GensegError as error:
        yield error.message
        return
    if picture.size != tuple(sample.size):
        yield f"picture of {picture.size}, {tuple(sample.size)} in the row"
        return
    if not sample.query:
        yield "no query"
    shape = (sample.size.height, sample.size.width)
    there = [mask for mask in masks if mask is not None]
    if any(mask.shape != shape for mask in there):
        yield f"a mask is not of the picture's size {shape}"
        return
    union = np.logical_or.reduce(there) if there else np.zeros(shape, bool)
    for number, (target, mask) in enumerate(zip(sample.targets, masks, strict=True), start=1):
        for problem in _target_problems(target, sample, mask, union):
            yield f"object {number}: {problem}"


def _target_problems(target: Target, sample: Sample, mask: np.ndarray | None, union: np.ndarray) -> Iterator[str]:
    box = target.box
    if not (0 <= box.x1 < box.x2 <= GRID and 0 <= box.y1 < box.y2 <= GRID):
        yield f"box {tuple(box)} is not on the grid"
    if mask is not None and not mask.any():
        yield "its mask is empty"
    for kind, points, whole, wanted in (
        ("positive", target.points, mask, True),
        ("negative", target.negatives, union if mask is not None else None, False),
    ):
        for point in points:
            if not (box.x1 <= point.x <= box.x2 and box.y1 <= point.y <= box.y2) and mask is not None:
                yield f"{kind} point {tuple(point)} is outside its box"
            x, y = grid_to_pixel(point, sample.size)
            inside = whole is None or whole[min(int(y), len(whole) - 1), min(int(x), whole.shape[1] - 1)]
            if whole is not None and bool(inside) != wanted:
                yield f"{kind} point {tuple(point)} is {'outside the mask' if wanted else 'on an object'}"
