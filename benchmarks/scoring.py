"""Scoring 2,573 pairs of 640×480 masks from run lengths: every metric but the foreground ones.

    python benchmarks/scoring.py [--pairs 2573] [--rounds 5] [--check]

Prints two markdown tables. The first has the time of (a) decoding both masks of each pair with pycocotools and counting
with NumPy, one pair after the other, of (b) the decoding alone, and ours; interleaved, medians of processor time, which
other work on the machine disturbs least: nothing here uses a second core. (a) counts
intersection and union and nothing else. The second has the peak memory of a process that scores N and 4 N pairs.
Masks are irregular outlines that cover as much of the picture as the objects of RefCOCOg do; made, so that the benchmark
needs no data. --check fails where the bar is missed: the metrics, intervals included, in a fifth of the time of (a).
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
import warnings
from itertools import cycle, islice
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from pycocotools import mask as coco

from gensegcli.geometry import rle
from gensegcli.metrics.protocols import PROTOCOLS
from gensegcli.metrics.records import Guess, Truth
from gensegcli.metrics.score import score_sample
from gensegcli.metrics.summary import summarise
from gensegcli.records import PixelBox, Rle, Size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gensegcli.metrics.records import SampleScore

SIZE = Size(640, 480)
PROTOCOL = PROTOCOLS["genseg"]
BAR = 5.0


class Pair(NamedTuple):
    """A true mask with its box, as prepared sets have them, and a predicted one."""

    true: Rle
    box: PixelBox
    predicted: Rle


def outline(rng: np.random.Generator, centre: np.ndarray, radius: float) -> Rle:
    """A closed line that wanders around a circle, filled."""
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    radii = radius * (1 + rng.normal(0, 0.2, 6) @ np.cos(np.outer(np.arange(1, 7), angles) + rng.uniform(0, 6)))
    corners = centre + np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    mask = np.zeros((SIZE.height, SIZE.width), np.uint8)
    cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 1)
    return rle.encode(mask.astype(bool))


def made_pairs(number: int) -> list[Pair]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(number):
        centre, radius = rng.uniform((120, 100), (520, 380)), rng.uniform(25, 130)
        true, predicted = outline(rng, centre, radius), outline(rng, centre + rng.normal(0, 6, 2), radius)
        box = rle.box(true)
        assert box is not None
        found.append(Pair(true, box, predicted))
    return found


def scores(pairs: list[Pair], number: int) -> Iterator[SampleScore]:
    """Scores of as many samples as wanted; the pairs come again if there are fewer. Every twentieth answer abstains."""
    for place, (true, box, predicted) in enumerate(islice(cycle(pairs), number)):
        name = f"{place:06}"
        truth = Truth(name, "a thing", str(place // 2), place, SIZE, SIZE, (box,), (true,))
        yield score_sample(truth, Guess(name, abstained=place % 20 == 0, masks=(predicted,), tokens=90), PROTOCOL)


def decode_and_count(pairs: list[Pair]) -> float:
    ious = []
    for true, _, predicted in pairs:
        a, b = coco.decode(rle.to_coco(true)), coco.decode(rle.to_coco(predicted))
        ious.append((a & b).sum() / (a | b).sum())
    return float(np.mean(ious))


def decode(pairs: list[Pair]) -> None:
    for true, _, predicted in pairs:
        coco.decode(rle.to_coco(true)), coco.decode(rle.to_coco(predicted))


def measured(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of a core for each case, interleaved, so that a busy moment hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            begin = time.process_time()
            case()
            times[name].append(time.process_time() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def peak_memory(number: int) -> float:
    """Peak resident memory in MiB of a process that scores so many samples, intervals included."""
    done = subprocess.run(
        [sys.executable, __file__, "--peak", str(number)], check=True, capture_output=True, encoding="utf-8"
    )
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description="Scoring masks from run lengths.")
    parser.add_argument("--pairs", type=int, default=2573)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="fail where the bar is missed")
    parser.add_argument("--peak", type=int, help="score so many samples and print the peak memory in MiB")
    options = parser.parse_args()
    if options.peak is not None:
        summarise(scores(made_pairs(200), options.peak), PROTOCOL)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return

    warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools' decoder under NumPy 2
    pairs = made_pairs(options.pairs)
    runs = statistics.mean(len(mask.counts) for pair in pairs for mask in (pair.true, pair.predicted))
    covered = statistics.mean(rle.area(pair.true) for pair in pairs) / (SIZE.width * SIZE.height)
    naive, bare = "(a) decode and count, one by one", "(b) decode alone"
    ours, intervals = "every metric", "every metric, 1,000 resamples, 4 groups"
    times = measured(
        {
            naive: lambda: decode_and_count(pairs),
            bare: lambda: decode(pairs),
            ours: lambda: summarise(scores(pairs, len(pairs)), PROTOCOL, resamples=0),
            intervals: lambda: summarise(scores(pairs, len(pairs)), PROTOCOL),
        },
        options.rounds,
    )
    print(f"{len(pairs):,} pairs, {covered:.0%} of the picture true, {runs:.0f} characters of run lengths a mask\n")
    print("| what | s | pairs/s | (a) / it | (b) / it |\n|---|---|---|---|---|")
    for name, seconds in times.items():
        ratios = f"{times[naive] / seconds:.1f} | {times[bare] / seconds:.1f}"
        print(f"| {name} | {seconds:.3f} | {len(pairs) / seconds:,.0f} | {ratios} |")
    print("\n| samples | peak memory, MiB |\n|---|---|")
    for number in (1, len(pairs), 4 * len(pairs)):
        print(f"| {number:,} | {peak_memory(number):.0f} |")
    if options.check and times[naive] / times[intervals] < BAR:
        sys.exit(f"the bar of {BAR:g} × (a) is missed")


if __name__ == "__main__":
    main()
