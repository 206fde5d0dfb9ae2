"""AP against pycocotools as a whole: its files, its categories, its own accumulation, its printed numbers."""

from __future__ import annotations

import contextlib
import io
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from gensegcli.metrics.average_precision import BoxMatches, ImageBoxes, average_precision, match_boxes
from gensegcli.records import PixelBox
from tests.metrics.cases import boxes

if TYPE_CHECKING:
    from pathlib import Path


def official(images: list[ImageBoxes]) -> np.ndarray:
    """AP, AP50, AP75 as pycocotools has them for a data set of these images with one category."""
    data = COCO()
    data.dataset = {"images": [{"id": n} for n in range(len(images))], "categories": [{"id": 1}], "annotations": []}
    found = []
    for number, image in enumerate(images):
        for place, box in enumerate(image.true):
            crowd = int(bool(image.crowd) and image.crowd[place])
            data.dataset["annotations"].append(
                _annotation(number, box) | {"id": len(data.dataset["annotations"]) + 1, "iscrowd": crowd}
            )
        found += [
            _annotation(number, box) | {"score": score}
            for box, score in zip(image.predicted, image.scores, strict=True)
        ]
    with contextlib.redirect_stdout(io.StringIO()):
        data.createIndex()
        evaluation = COCOeval(data, data.loadRes(found) if found else COCO(), "bbox")
        if not found:
            evaluation.cocoDt.dataset = data.dataset | {"annotations": []}
            evaluation.cocoDt.createIndex()
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.array([value if value >= 0 else np.nan for value in evaluation.stats[:3]])


def _annotation(image: int, box: PixelBox) -> dict[str, Any]:
    width, height = box.x2 - box.x1, box.y2 - box.y1
    return {"image_id": image, "category_id": 1, "bbox": [box.x1, box.y1, width, height], "area": width * height}


def ours(images: list[ImageBoxes]) -> np.ndarray:
    return average_precision(match_boxes(images), np.ones((1, len(images))))[0]


@st.composite
def image_boxes(draw: st.DrawFn) -> ImageBoxes:
    true = draw(st.lists(boxes(), max_size=4))
    predicted = draw(st.lists(boxes(), max_size=4))
    if draw(st.booleans()):
        predicted += true
    scores = [draw(st.sampled_from([0.25, 0.5, 1.0])) for _ in predicted]
    crowd = [draw(st.booleans()) for _ in true] if draw(st.booleans()) else []
    return ImageBoxes(true, predicted, scores, crowd)


@settings(max_examples=50)
@given(st.lists(image_boxes(), min_size=1, max_size=6))
def test_any_images_have_the_ap_that_pycocotools_gives_them(images: list[ImageBoxes]) -> None:
    np.testing.assert_allclose(ours(images), official(images), rtol=1e-12, atol=1e-12)


@settings(max_examples=50)
@given(st.data())
def test_weights_are_how_often_an_image_is_there(data: st.DataObject) -> None:
    """Copies of an image side by side are what the weight means; with one box to an image nothing comes between them."""
    single = st.tuples(boxes(), boxes(), st.sampled_from([0.5, 1.0]), st.booleans())
    drawn = data.draw(st.lists(single, min_size=1, max_size=8))
    images = [ImageBoxes([a], [a if same else b], [score]) for a, b, score, same in drawn]
    weights = np.array([data.draw(st.integers(0, 3)) for _ in images], float)
    copies = [image for image, times in zip(images, weights, strict=True) for _ in range(int(times))]
    matches = match_boxes(images)

    several = average_precision(matches, np.stack([np.ones(len(images)), weights, weights]))
    np.testing.assert_allclose(several[0], official(images), rtol=1e-12)
    if copies:
        np.testing.assert_allclose(several[1], official(copies), rtol=1e-12)
    else:
        assert np.isnan(several[1]).all()
    np.testing.assert_array_equal(several[1], several[2])


def walked(matches: BoxMatches, weights: list[int]) -> list[float]:
    """AP, AP50 and AP75 box by box, each as often as its image counts, in the words of the definition."""
    wanted = sum(weight * int(number) for weight, number in zip(weights, matches.wanted, strict=True))
    by_threshold = []
    for hit, miss in zip(matches.hit, matches.miss, strict=True):
        points, hits, seen = [], 0, 0
        for image, is_hit, is_miss in zip(matches.image, hit, miss, strict=True):
            hits += weights[image] * is_hit
            seen += weights[image] * (is_hit or is_miss)
            if seen and wanted:
                points.append((hits / wanted, hits / seen))
        recalls = [max((p for r, p in points if r >= recall), default=0.0) for recall in np.linspace(0, 1, 101)]
        by_threshold.append(sum(recalls) / len(recalls))
    return [sum(by_threshold) / 10, by_threshold[0], by_threshold[5]] if wanted else [np.nan] * 3


@settings(max_examples=100)
@given(st.lists(image_boxes(), min_size=1, max_size=6), st.data())
def test_any_weights_of_any_images_are_what_walking_from_box_to_box_gives(
    images: list[ImageBoxes], data: st.DataObject
) -> None:
    """Also with crowds, whose boxes count at some thresholds and not at others, and without a single hit."""
    rows = data.draw(st.lists(st.lists(st.integers(0, 3), min_size=len(images), max_size=len(images)), min_size=1))
    matches = match_boxes(images)

    found = average_precision(matches, np.array(rows, float))
    np.testing.assert_allclose(found, [walked(matches, row) for row in rows], rtol=1e-12, atol=1e-12)


@settings(max_examples=50)
@given(st.lists(image_boxes(), min_size=1, max_size=6), st.data())
def test_a_part_of_the_images_is_what_it_would_be_alone(images: list[ImageBoxes], data: st.DataObject) -> None:
    kept = np.array([data.draw(st.booleans()) for _ in images])
    part = [image for image, keep in zip(images, kept, strict=True) if keep]
    if part:
        found = average_precision(match_boxes(images).only(kept), np.ones((1, len(part))))[0]
        np.testing.assert_allclose(found, official(part), rtol=1e-12, atol=1e-12)


def test_only_the_hundred_most_confident_boxes_of_an_image_count() -> None:
    box, far = PixelBox(0, 0, 4, 4), PixelBox(9, 9, 12, 12)
    late = ImageBoxes([box], [far] * 100 + [box], [1.0] * 100 + [0.5])
    early = ImageBoxes([box], [far] * 100 + [box], [0.5] * 100 + [1.0])

    assert ours([late]).tolist() == official([late]).tolist() == [0.0, 0.0, 0.0]
    assert ours([early]) == pytest.approx([1.0, 1.0, 1.0])


def test_recalls_are_reached_in_the_arithmetic_of_floats() -> None:
    """With 100 and with 29 boxes, some of COCO's 101 recalls are hit exactly, and the rounding of floats decides."""
    box, far = PixelBox(0, 0, 4, 4), PixelBox(9, 9, 12, 12)
    for wanted in (3, 29, 57, 100):
        images = [ImageBoxes([box], [box if n % 3 else far], [1.0]) for n in range(wanted)]
        np.testing.assert_allclose(ours(images), official(images), rtol=1e-12)


def test_inclusive_boxes() -> None:
    """[0, 9] and [3, 12] share 6 of 12 half-open, and 7 of 13 with their last column."""
    image = ImageBoxes([PixelBox(0, 0, 9, 9)], [PixelBox(3, 0, 12, 9)], [1.0])
    several = ImageBoxes([PixelBox(0, 0, 9, 9), PixelBox(40, 0, 49, 9)], image.predicted, [1.0])

    for inclusive, expected in ((False, 6 / 12), (True, 70 / 130)):
        for one in (image, several):
            hit = match_boxes([one], inclusive=inclusive).hit[:, 0]
            assert hit.tolist() == [expected >= threshold for threshold in np.linspace(0.5, 0.95, 10)]


def test_the_printed_numbers_of_coco(shared_data: Path) -> None:
    """The detections that come with pycocotools: AP .505, AP50 .697, AP75 .573, the mean over categories."""
    folder = shared_data / "coco_ap"
    data = json.loads((folder / "instances_val2014_100.json").read_text())
    found = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())
    pictures = sorted(image["id"] for image in data["images"])
    true, predicted = defaultdict(list), defaultdict(list)
    for one in data["annotations"]:
        true[one["category_id"], one["image_id"]].append((_box(one["bbox"]), bool(one["iscrowd"])))
    for one in found:
        predicted[one["category_id"], one["image_id"]].append((_box(one["bbox"]), one["score"]))

    by_category = []
    for category in sorted({one["id"] for one in data["categories"]}):
        images = []
        for picture in pictures:
            key = category, picture
            images.append(
                ImageBoxes(
                    [box for box, _ in true[key]],
                    [box for box, _ in predicted[key]],
                    [score for _, score in predicted[key]],
                    [crowd for _, crowd in true[key]],
                )
            )
        by_category.append(ours(images))
    ap, ap50, ap75 = np.nanmean(by_category, axis=0)

    assert f"{ap:.3f} {ap50:.3f} {ap75:.3f}" == "0.505 0.697 0.573"


def _box(bbox: list[float]) -> PixelBox:
    x, y, width, height = bbox
    return PixelBox(x, y, x + width, y + height)
