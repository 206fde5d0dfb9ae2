"""The bundled miniature segmenter alone, told by the truth what to segment, on held-out generated scenes.

    python benchmarks/miniature_segmenter.py [--scenes 1000] [--segmenter demo] [--check]

Prints one markdown table. Scenes come from stream 7 of the generator, which training never draws; every thing of every
scene counts once. Prompts are the true box and the mined points, exact or rounded to the grid of the policy's answers.
The filled box is given the same boxes. Intervals are 95 % bootstrap intervals over scenes.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gensegcli.geometry.boxes import pixel_to_grid
from gensegcli.geometry.keypoints import mine_positive
from gensegcli.geometry.masks import mask_iou
from gensegcli.models import resolve_segmenter
from gensegcli.records import GridBox, GridPoint, Instance, PromptMode
from gensegcli.segmenter import load_segmenter
from gensegcli.segmenter.boxfill import BoxFill
from gensegcli.segmenter.prompts import prompts_for
from gensegcli.sources.scenes import ANSWER_STEP, scene_of

if TYPE_CHECKING:
    from gensegcli.segmenter.base import Segmenter
    from gensegcli.sources.scenes import Scene

HELD_OUT = 7
BAR, BAR_ABOVE_BOX = 0.85, 0.15


class Result(NamedTuple):
    """IoU of every thing, scene after scene, and its mask's predicted IoU (NaN: none)."""

    iou: np.ndarray
    score: np.ndarray


def instances(scene: Scene, step: int) -> list[Instance]:
    """What an unerring policy says of each thing, rounded to multiples of `step` grid units; 0: not rounded."""
    answer = []
    for thing in scene.things:
        box = pixel_to_grid(thing.box, scene.size)
        points = [pixel_to_grid(point, scene.size) for point in mine_positive(thing.mask)]
        if step:
            box = GridBox(*(round(v / step) * step for v in box))
            points = [GridPoint(*(round(v / step) * step for v in point)) for point in points]
        answer.append(Instance(box=box, points=tuple(points)))
    return answer


def measure(segmenter: Segmenter, scenes: list[Scene], told: list[list[Instance]], mode: PromptMode) -> Result:
    """Prompt every thing of every scene with what was told about it, and compare with the truth."""
    prompts = [prompts_for(own, scene.size, mode) for scene, own in zip(scenes, told, strict=True)]
    masks = segmenter.segment([scene.image for scene in scenes], prompts)
    pairs = [
        (found, thing.mask)
        for scene, own in zip(scenes, masks, strict=True)
        for found, thing in zip(own, scene.things, strict=True)
    ]
    iou = np.array([mask_iou(found.mask, truth) for found, truth in pairs])
    score = np.array([np.nan if found.score is None else found.score for found, _ in pairs])
    return Result(iou, score)


def interval(values: np.ndarray, owner: np.ndarray) -> str:
    """Mean with its 95 % bootstrap interval over scenes; `owner` is the scene of each value."""
    rng = np.random.default_rng(0)
    sums, counts = np.bincount(owner, values), np.bincount(owner)
    drawn = rng.integers(len(sums), size=(2000, len(sums)))
    low, high = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), (2.5, 97.5))
    return f"{values.mean():.3f} ({low:.3f}–{high:.3f})"


def main() -> int:
    """Print the table; 0, or 1 if a bar is missed and `--check` is given."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--scenes", type=int, default=1000)
    arguments.add_argument("--segmenter", default="demo", help="an alias, a hub id or a folder")
    arguments.add_argument("--check", action="store_true", help="fail if a bar is missed")
    options = arguments.parse_args()

    scenes = [scene_of(index, seed=HELD_OUT)[0] for index in range(options.scenes)]
    exact, rounded = ([instances(scene, step) for scene in scenes] for step in (0, ANSWER_STEP))
    things = [thing for scene in scenes for thing in scene.things]
    owner = np.repeat(np.arange(len(scenes)), [len(scene.things) for scene in scenes])
    segmenter = load_segmenter(resolve_segmenter(options.segmenter), cache=len(scenes))  # 0.3 MB a scene
    floor = measure(BoxFill(), scenes, exact, PromptMode.BOX)
    floor_rounded = measure(BoxFill(), scenes, rounded, PromptMode.BOX)

    print(f"{len(things)} things in {len(scenes)} scenes of stream {HELD_OUT}, segmenter {options.segmenter}\n")
    print("| prompts | mIoU | IoU ≥ 0.5 | IoU ≥ 0.75 | IoU ≥ 0.9 |\n|---|---|---|---|---|")

    def row(name: str, result: Result) -> None:
        shares = " | ".join(f"{(result.iou >= bar).mean():.3f}" for bar in (0.5, 0.75, 0.9))
        print(f"| {name} | {interval(result.iou, owner)} | {shares} |")

    modes = (PromptMode.BOX, PromptMode.BOX_1, PromptMode.BOX_2)
    found = {mode: measure(segmenter, scenes, exact, mode) for mode in modes}
    for mode, result in found.items():
        row(f"{mode}, exact", result)
    row("filled box, exact", floor)
    row(f"{modes[-1]}, rounded", measure(segmenter, scenes, rounded, modes[-1]))
    row("filled box, rounded", floor_rounded)

    best = found[modes[-1]]
    print(f"\n| {modes[-1]}, exact | things | mIoU | filled box |\n|---|---|---|---|")
    for attribute in ("size", "shape"):
        values = np.array([getattr(thing, attribute) for thing in things])
        for value in dict.fromkeys(sorted(values)):
            here = values == value
            print(f"| {value} | {here.sum()} | {best.iou[here].mean():.3f} | {floor.iou[here].mean():.3f} |")
    error = np.abs(best.score - best.iou).mean()
    print(f"\nPredicted IoU is off by {error:.3f} on average.")

    passed = all(
        result.iou.mean() >= BAR and result.iou.mean() >= floor.iou.mean() + BAR_ABOVE_BOX for result in found.values()
    )
    print(f"Bars (mIoU ≥ {BAR} and ≥ filled box + {BAR_ABOVE_BOX}, every mode): {'met' if passed else 'MISSED'}")
    return 0 if passed or not options.check else 1


if __name__ == "__main__":
    sys.exit(main())
