"""Decisions at a threshold are made on exact values: true boxes come back from the grid as the masks have them."""

from __future__ import annotations

import json
from collections import defaultdict
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from gensegcli.geometry import rle
from gensegcli.geometry.boxes import pixel_to_grid
from gensegcli.metrics.average_precision import ImageBoxes, match_boxes
from gensegcli.metrics.protocols import get_protocol
from gensegcli.metrics.records import Guess, truth_of
from gensegcli.metrics.score import score_sample
from gensegcli.metrics.summary import summarise
from gensegcli.records import PixelBox, Rle, Sample, Size, Target
from tests.metrics.test_average_precision import official

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

THRESHOLDS = np.linspace(0.5, 0.95, 10)
SIZES = [(427, 640), (640, 480), (612, 612), (333, 500)]


def sample(name: str, size: Size, masks: Sequence[Rle]) -> Sample:
    """A sample as preparation stores it: the boxes of its masks on the grid."""
    targets = []
    for mask in masks:
        box = rle.box(mask)
        assert box is not None
        targets.append(Target(pixel_to_grid(box, size), (), mask))
    return Sample(name, "thing", b"", size, tuple(targets))


def rectangle(box: PixelBox, size: Size) -> Rle:
    mask = np.zeros((size.height, size.width), bool)
    mask[int(box.y1) : int(box.y2), int(box.x1) : int(box.x2)] = True
    return rle.encode(mask)


def test_an_iou_of_exactly_three_quarters_is_a_hit_at_75() -> None:
    size = Size(427, 640)
    true, found = PixelBox(59, 513, 69, 527), PixelBox(59, 511, 69, 525)
    one = sample("a", size, [rectangle(true, size)])
    assert truth_of(one).boxes == (true,)
    score = score_sample(
        truth_of(one), Guess("a", abstained=False, masks=(rectangle(found, size),)), get_protocol("genseg")
    )
    metrics = summarise([score], get_protocol("genseg"), resamples=0).metrics
    assert score.box_iou == 0.75
    assert metrics["AP75"].value == 1.0
    assert metrics["AP"].value == pytest.approx(0.6)


def on_thresholds(size: Size, count: int, seed: int) -> list[tuple[PixelBox, PixelBox]]:
    """Pairs of whole-pixel boxes whose IoU is one of COCO's thresholds, or 0.5."""
    rng = np.random.default_rng(seed)
    wanted = {Fraction(n, 20) for n in range(10, 20)}
    pairs = []
    while len(pairs) < count:
        x, y = (int(rng.integers(side - 80)) for side in size)
        width, height, part = map(int, rng.integers(1, 79, 3))
        true = PixelBox(x, y, x + width, y + height)
        found = PixelBox(x, y, x + part, y + height) if rng.random() < 0.5 else PixelBox(x, y, x + width, y + part)
        side, other = (width, part) if found.y2 == true.y2 else (height, part)
        if Fraction(min(side, other), max(side, other)) in wanted:
            pairs.append((true, found))
    return pairs


@pytest.mark.parametrize("size", SIZES)
def test_pairs_on_a_threshold_are_decided_as_pycocotools_decides_them(size: tuple[int, int]) -> None:
    shape = Size(*size)
    differing = half = 0
    for true, found in on_thresholds(shape, 1500, seed=sum(size)):
        target = Target(pixel_to_grid(true, shape), (), None)
        truth = truth_of(Sample("a", "thing", b"", shape, (target,)))
        ours = match_boxes([ImageBoxes(truth.boxes, [found], [1.0])]).hit[:, 0]
        boxes = [[[b.x1, b.y1, b.x2 - b.x1, b.y2 - b.y1]] for b in (found, true)]
        theirs = coco_mask.iou(*boxes, [0])[0, 0] >= THRESHOLDS
        differing += bool((ours != theirs).any())
        shared = (min(true.x2, found.x2) - true.x1) * (min(true.y2, found.y2) - true.y1)
        whole = (max(true.x2, found.x2) - true.x1) * (max(true.y2, found.y2) - true.y1)
        if 2 * shared == whole:
            half += 1
            guess = Guess("a", abstained=False, masks=None, boxes=(found,))
            score = score_sample(truth, guess, get_protocol("genseg"))
            assert score.box_iou == 0.5
            accuracy = summarise([score], get_protocol("genseg"), resamples=0).metrics["Acc@0.5"]
            assert accuracy.value == 0.0, (true, found)
    assert differing == 0
    assert half > 40


def test_ap_through_masks_is_that_of_pycocotools_on_the_boxes_of_the_same_masks(shared_data: Path) -> None:
    """Real objects of COCO, every (picture, category) an expression; each detection fills its box."""
    folder = shared_data / "coco_ap"
    data = json.loads((folder / "instances_val2014_100.json").read_text())
    detections = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())
    sizes = {image["id"]: Size(image["width"], image["height"]) for image in data["images"]}
    true, predicted = defaultdict(list), defaultdict(list)
    for one in data["annotations"]:
        true[one["image_id"], one["category_id"]].append(rle.from_coco(one["segmentation"], sizes[one["image_id"]]))
    for one in detections:
        x, y, width, height = one["bbox"]
        box = PixelBox(round(x), round(y), max(round(x + width), round(x) + 1), max(round(y + height), round(y) + 1))
        predicted[one["image_id"], one["category_id"]].append(rectangle(box, sizes[one["image_id"]]))
    assert len(true) == 310

    protocol, scores, images = get_protocol("genseg"), [], []
    for number, (key, masks) in enumerate(sorted(true.items())):
        name, size = f"{number:03}", sizes[key[0]]
        guess = Guess(name, abstained=False, masks=tuple(predicted[key]))
        scores.append(score_sample(truth_of(sample(name, size, masks)), guess, protocol))
        boxes = [[rle.box(mask) for mask in group] for group in (masks, predicted[key])]
        images.append(ImageBoxes(*[[box for box in group if box] for group in boxes], [1.0] * len(predicted[key])))
    metrics = summarise(scores, protocol, resamples=0).metrics
    theirs = official(images)
    assert [metrics[name].value for name in ("AP", "AP50", "AP75")] == pytest.approx(theirs.tolist(), abs=1e-12)
    assert theirs[2] == pytest.approx(0.5, abs=0.15)
