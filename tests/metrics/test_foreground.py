"""The measures of foreground sets against PySODMetrics, which everybody's tables come from."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING

import cv2
import numpy as np
import py_sod_metrics as sod
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from gensegcli.errors import GensegError
from gensegcli.geometry import rle
from gensegcli.metrics.foreground import foreground_score, map_score, mean_of_curve, s_measure, weighted_f_measure
from gensegcli.metrics.protocols import PROTOCOLS
from gensegcli.metrics.records import ForegroundScore, score_from_json, score_to_json
from gensegcli.metrics.score import score_sample
from gensegcli.metrics.summary import summarise
from gensegcli.records import PixelBox, Size
from tests.metrics.oracle import Case

if TYPE_CHECKING:
    from pathlib import Path

shapes = array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=12)
pairs = shapes.flatmap(lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape)))


def reference(masks: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """PySODMetrics over pairs of a predicted and a true mask, as its users report it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it announces that `Fmeasure` will go, and divides by no pixels
        measures = sod.Smeasure(), sod.Emeasure(), sod.Fmeasure(), sod.WeightedFmeasure(), sod.MAE()
        for predicted, true in masks:
            grey = predicted.astype(np.uint8) * 255 if predicted.dtype == bool else predicted
            for measure in measures:
                measure.step(grey, true.astype(np.uint8) * 255)
        s, e, f, weighted, mae = (measure.get_results() for measure in measures)
    return {
        "S-measure": float(s["sm"]),
        "E-measure mean": float(e["em"]["curve"].mean()),
        "E-measure max": float(e["em"]["curve"].max()),
        "E-measure adaptive": float(e["em"]["adp"]),
        "F-measure mean": float(f["fm"]["curve"].mean()),
        "F-measure max": float(f["fm"]["curve"].max()),
        "F-measure adaptive": float(f["fm"]["adp"]),
        "weighted F": float(weighted["wfm"]),
        "MAE": float(mae["mae"]),
    }


def named(found: ForegroundScore) -> dict[str, float]:
    curves = {}
    if found.e_curve is not None and found.f_curve is not None:
        curves = {
            f"{letter}-measure {how}": float(getattr(np, how)(curve))
            for letter, curve in (("E", found.e_curve), ("F", found.f_curve))
            for how in ("mean", "max")
        }
    return {
        "S-measure": found.s_measure,
        "E-measure mean": float(mean_of_curve(np.array(found.e_measure), np.array(found.e_measure_full))),
        "E-measure max": max(found.e_measure, found.e_measure_full),
        "E-measure adaptive": found.e_measure_adaptive,
        "F-measure mean": float(mean_of_curve(np.array(found.f_measure), np.array(found.f_measure_full))),
        "F-measure max": max(found.f_measure, found.f_measure_full),
        "F-measure adaptive": found.f_measure_adaptive,
        "weighted F": found.weighted_f,
        "MAE": found.mae,
        **curves,
    }


def assert_same(found: dict[str, float], expected: dict[str, float]) -> None:
    if np.isnan(expected["S-measure"]):  # its centroid lies on the border, and a part of the picture has no pixels
        found, expected = ({**one, "S-measure": 0.0} for one in (found, expected))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(pairs)
def test_any_masks(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert_same(named(foreground_score(*pair)), reference([pair]))


maps = shapes.flatmap(
    lambda shape: st.tuples(
        st.one_of(
            arrays(np.uint8, shape), arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 90, 127, 128, 255]))
        ),
        arrays(bool, shape),
    )
)


@given(maps)
def test_any_grey_level_map(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert_same(named(map_score(*pair)), reference([pair]))


@pytest.mark.parametrize("level", [0, 90, 255])
@pytest.mark.parametrize("true", [False, True])
def test_maps_of_one_level_and_masks_without_or_with_all_pixels(level: int, true: bool) -> None:
    pair = np.full((6, 8), level, np.uint8), np.full((6, 8), true)

    assert_same(named(map_score(*pair)), reference([pair]))


def test_a_mask_as_a_map_scores_as_the_mask() -> None:
    rng = np.random.default_rng(0)
    mask, true = rng.random((30, 40)) > 0.6, rng.random((30, 40)) > 0.5

    assert named(map_score(mask.astype(np.uint8) * 255, true)) == pytest.approx(
        named(foreground_score(mask, true)), abs=1e-12
    )


def test_a_set_of_maps_and_masks() -> None:
    """The maximum is of the mean curve, to which masks add theirs."""
    rng = np.random.default_rng(1)
    pairs, scores = [], []
    for number in range(12):
        true = np.zeros((24, 32), bool)
        if number:  # the first is a picture without foreground
            true[4 + number : 16, 6:20] = True
        soft = cv2.GaussianBlur(np.roll(true, number % 5, axis=1) * 255.0 + rng.normal(40, 20, true.shape), (5, 5), 2)
        levels = None if number % 3 == 2 else np.clip(soft, 0, 250).astype(np.uint8)
        mask = soft > 127
        box = [PixelBox(0, 0, 1, 1)]
        case = Case((32, 24), [true], [mask], box, box)
        scored = score_sample(
            case.truth(f"{number:02}"), case.guess(f"{number:02}"), PROTOCOLS["genseg"], foreground=True, levels=levels
        )
        scores.append(score_from_json(json.loads(json.dumps(score_to_json(scored)))))
        pairs.append((mask if levels is None else levels, true))
    found = summarise(scores, PROTOCOLS["genseg"], resamples=20).metrics

    expected = reference(pairs)
    assert_same({name: found[name].value for name in expected}, expected)
    assert found["F-measure max"].low < found["F-measure max"].value


@pytest.mark.parametrize("true", ["empty", "full", "part"])
@pytest.mark.parametrize("predicted", ["empty", "full", "part"])
def test_empty_and_full_masks(predicted: str, true: str) -> None:
    part = np.zeros((6, 8), bool)
    part[1:4, 2:5] = True
    masks = {"empty": np.zeros((6, 8), bool), "full": np.ones((6, 8), bool), "part": part}

    assert_same(named(foreground_score(masks[predicted], masks[true])), reference([(masks[predicted], masks[true])]))


def test_a_part_without_pixels_has_no_weight() -> None:
    """The centroid is in the last row: the two parts below it are empty, PySODMetrics gives NaN, and we the rest."""
    true = np.zeros((4, 6), bool)
    true[3, 1:4] = True

    assert np.isnan(reference([(true, true)])["S-measure"])
    assert s_measure(true, true) == pytest.approx(1.0)
    assert 0 < s_measure(np.roll(true, 1, axis=1), true) < 0.9


def test_one_pixel() -> None:
    full, none = np.ones((1, 1), bool), np.zeros((1, 1), bool)

    assert foreground_score(full, full) == ForegroundScore(1, 1, 1, 1, 1, 1, 1, pytest.approx(1), 0)
    assert foreground_score(none, none).s_measure == foreground_score(none, none).e_measure == 1.0
    assert foreground_score(full, none).mae == foreground_score(none, full).mae == 1.0


def test_masks_of_two_sizes_are_an_error() -> None:
    with pytest.raises(GensegError, match="2x2 expected, 3x3 found"):
        foreground_score(np.ones((3, 3), bool), np.ones((2, 2), bool))


def test_a_set_of_real_masks(shared_data: Path) -> None:
    """57 real masks, each moved and grown a little, one missed: the means, and the maximum of the mean curve."""
    data = json.loads((shared_data / "mini" / "refcocog" / "instances.json").read_text())
    sizes = {image["id"]: Size(image["width"], image["height"]) for image in data["images"]}
    masks, scores = [], []
    for number, one in enumerate(data["annotations"]):
        true = rle.decode(rle.from_coco(one["segmentation"], sizes[one["image_id"]]))[::2, ::2]
        grown = cv2.dilate(true.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
        predicted = np.roll(grown, number % 7, axis=1) & (number != 3)
        masks.append((predicted, true))
        box = [PixelBox(0, 0, 1, 1)]
        case = Case((true.shape[1], true.shape[0]), [true], [predicted], box, box)
        name = f"{number:03}"
        scores.append(score_sample(case.truth(name), case.guess(name), PROTOCOLS["genseg"], foreground=True))
    found = summarise(scores, PROTOCOLS["genseg"], resamples=20).metrics

    expected = reference(masks)
    assert len(masks) == 57
    assert 0.5 < expected["S-measure"] < 0.99
    assert_same({name: found[name].value for name in expected}, expected)


def test_ignored_pixels_count_for_nothing() -> None:
    true = np.zeros((6, 8), bool)
    true[1:4, 2:5] = True
    unclear = np.zeros((6, 8), bool)
    unclear[:, 4:] = True
    box = [PixelBox(0, 0, 1, 1)]
    case = Case((8, 6), [true], [true | unclear], box, box, ignore=unclear)
    scored = {
        name: score_sample(case.truth("a"), case.guess("a"), PROTOCOLS[name], foreground=True).foreground
        for name in ("genseg", "seg-zero")
    }

    assert scored["genseg"] == foreground_score(true & ~unclear, true & ~unclear)
    assert scored["seg-zero"] == foreground_score(true | unclear, true | unclear)


def test_errors_far_from_the_object_weigh_more() -> None:
    true = np.zeros((40, 40), bool)
    true[15:25, 15:25] = True
    near, far = true.copy(), true.copy()
    near[15:25, 25] = far[15:25, 39] = True

    assert 0 < weighted_f_measure(far, true) < weighted_f_measure(near, true) < 1
