"""The figures count what they say they count: each against a slow count of the same rows."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from gensegcli.evaluate.report import figures
from gensegcli.evaluate.results import read_run
from gensegcli.metrics.protocols import get_protocol
from tests.evaluate.report.runs import made_run

if TYPE_CHECKING:
    from pathlib import Path

    from gensegcli.metrics.records import SampleScore

GENSEG = get_protocol("genseg").to_json()


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> list[SampleScore]:
    run = read_run(made_run(tmp_path_factory.mktemp("runs") / "a", 40, quality=0.98))
    return run.scores(run.results[0])


def test_samples_without_a_target_are_counted_where_the_protocol_counts_them(scores: list[SampleScore]) -> None:
    there = [score.iou for score in scores if not score.no_target]
    assert figures.overlaps(scores, GENSEG) == there
    assert figures.overlaps(scores, get_protocol("lisa").to_json()) == [score.iou for score in scores]


def test_boxes_stand_in_where_there_are_no_masks(scores: list[SampleScore]) -> None:
    boxes = [replace(score, iou=None, box_iou=None if score.no_target else 0.25) for score in scores]
    found = figures.overlaps(boxes, GENSEG)
    assert found == [0.25] * sum(not score.no_target for score in scores)


def test_the_curve_of_precision_equals_a_count_at_every_threshold(scores: list[SampleScore]) -> None:
    found = figures.overlaps(scores, GENSEG)
    seen: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "curves", lambda _title, series, *_axes, **_named: seen.update(series=series))
        figures.precision_curve({"a": found, "nothing": []})
    (line,) = seen["series"]
    for threshold, share in line.points:
        assert share == sum(1 for iou in found if iou >= threshold) / len(found)
    assert line.points[0] == (0.0, 1.0)


def test_without_samples_there_are_no_curves() -> None:
    assert figures.precision_curve({"a": []}) is None
    assert figures.iou_histogram("a", [], 0) is None
    assert figures.reliability({"a": []}) is None


def test_the_histogram_holds_every_sample_once(scores: list[SampleScore]) -> None:
    drawn = figures.iou_histogram("a", [0.0, 0.049, 0.05, 0.999, 1.0], 0)
    counts = [int(found) for found in re.findall(r"to [\d.]+: (\d+) \(", drawn or "")]
    assert counts == [2, 1, *[0] * 17, 2]
    found = figures.overlaps(scores, GENSEG)
    counts = [int(found) for found in re.findall(r"to [\d.]+: (\d+) \(", figures.iou_histogram("a", found, 0) or "")]
    assert sum(counts) == len(found)


def test_answers_are_counted_by_truth(scores: list[SampleScore]) -> None:
    drawn = figures.responses({"a": scores})
    for label, absent in (("target there", False), ("nothing there", True)):
        rows = [score for score in scores if score.no_target is absent]
        refused = sum(score.refusal is not None for score in rows)
        abstained = sum(score.abstained for score in rows)
        expected = {"unreadable": refused, "said that nothing matches": abstained}
        expected["found something"] = len(rows) - refused - abstained
        for name, count in expected.items():
            if count:
                assert f"{label} ({len(rows)}): {name} {count} of {len(rows)} (" in drawn


def test_reliability_averages_estimate_and_iou_in_each_bin(scores: list[SampleScore]) -> None:
    base = next(score for score in scores if score.predicted_instances)
    rows = [
        replace(base, iou=iou, box_scores=estimates)
        for iou, estimates in ((0.2, (0.81,)), (0.4, (0.85, 0.89)), (0.9, (0.95, None)), (0.5, (None,)))
    ]
    drawn = figures.reliability({"a": rows})
    assert re.findall(r"a: ([\d.]+) at ([\d.]+), (\d+) samples", drawn or "") == [
        ("0.30", "0.84", "2"),
        ("0.90", "0.95", "1"),
    ]


def test_a_run_is_read_back_for_its_figures(tmp_path: Path) -> None:
    run = read_run(made_run(tmp_path / "a", 12))
    assert len(run.scores(run.results[0])) == 12


def test_mean_and_median_are_named_below_the_bars_where_they_cannot_hide_each_other() -> None:
    drawn = str(figures.iou_histogram("a", [0.0, 0.0, 0.01], 0))
    plot, _, below = drawn.partition("</svg>")
    assert "median" not in plot
    assert "mean 0.003" in below
    assert "median 0.000" in below


def test_one_run_with_estimates_among_several_is_named(scores: list[SampleScore]) -> None:
    without = [replace(score, box_scores=()) for score in scores]
    drawn = str(figures.reliability({"a": without, "b": scores}))
    assert 'class="legend"' in drawn
    assert "dot f1" in drawn
    assert 'class="legend"' not in str(figures.reliability({"b": scores}))
