"""Summaries of many samples against the slow oracle, and what they promise besides."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gensegcli.errors import GensegError
from gensegcli.metrics.average_precision import ImageBoxes
from gensegcli.metrics.protocols import PROTOCOLS, BoxScore
from gensegcli.metrics.score import score_sample
from gensegcli.metrics.summary import summarise
from gensegcli.records import PixelBox, RefusalKind
from tests.metrics import oracle
from tests.metrics.cases import cases
from tests.metrics.oracle import Case
from tests.metrics.test_average_precision import official

if TYPE_CHECKING:
    from pathlib import Path

    from gensegcli.metrics.records import SampleScore, Summary

NAMES = sorted(PROTOCOLS)
AP = ("AP", "AP50", "AP75")
BOX = PixelBox(0, 0, 2, 2)
HALF, FULL = np.array([[True, False]]), np.array([[True, True]])


def scored(some: list[Case], name: str = "genseg", **changes: Any) -> list[SampleScore]:
    protocol = replace(PROTOCOLS[name], **changes)
    return [
        score_sample(case.truth(f"{number:03}"), case.guess(f"{number:03}"), protocol)
        for number, case in enumerate(some)
    ]


def values(summary: Summary) -> dict[str, float]:
    return {name: estimate.value for name, estimate in summary.metrics.items()}


def case(true: list[np.ndarray], predicted: list[np.ndarray], **changes: Any) -> Case:
    return Case((2, 1), true, predicted, [BOX] * len(true), [BOX] * len(predicted), **changes)


RIGHT, WRONG, MISSED = case([FULL], [FULL]), case([FULL], [HALF]), case([FULL], [], abstained=True)
ABSTAINED, HALLUCINATED = case([], [], abstained=True), case([], [FULL])
REFUSED = case([FULL], [], refusal=RefusalKind.BAD_JSON)
SEVERAL = case([HALF, FULL], [FULL])


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30)
@given(some=st.lists(cases(), min_size=1, max_size=8))
def test_every_protocol_is_what_the_oracle_says(name: str, some: list[Case]) -> None:
    found = values(summarise(scored(some, name, tiny_area=3), replace(PROTOCOLS[name], tiny_area=3), resamples=0))

    expected = oracle.metrics(some, name, tiny=3)
    assert {key: value for key, value in found.items() if key not in AP} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30)
@given(some=st.lists(cases(), min_size=1, max_size=6))
def test_ap_is_that_of_pycocotools_over_the_samples_that_count(name: str, some: list[Case]) -> None:
    found = values(summarise(scored(some, name), PROTOCOLS[name], resamples=0))
    counted = [one for one in some if one.true_boxes or name != "genseg"]
    if any(one.true_boxes for one in counted):
        images = [
            ImageBoxes(one.true_boxes, boxes, [1.0] * len(boxes))
            for one in counted
            for boxes in [[] if one.abstained or one.refusal else one.predicted_boxes]
        ]
        assert [found[key] for key in AP] == pytest.approx(official(images).tolist(), abs=1e-12)
    else:
        assert not set(AP) & set(found)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Two right, one half right, one missed, one refused; one abstained rightly and one hallucinated.
        ("genseg", {"mIoU": 2.5 / 5, "cIoU": 5 / 10, "P@0.5": 3 / 5, "P@0.9": 2 / 5}),
        ("gres", {"gIoU": 3.5 / 7, "cIoU": 5 / 12, "P@0.5": 3 / 5, "P@0.9": 2 / 5}),
        ("lisa", {"gIoU": 3.5 / 7, "cIoU": 5 / 12, "P@0.5": 4 / 7, "P@0.9": 3 / 7}),
        ("seg-zero", {"gIoU": 2.5 / 7, "cIoU": 5 / 12, "P@0.5": 3 / 7, "P@0.9": 2 / 7}),
        ("res", {"mIoU": 3.5 / 7, "cIoU": 5 / 12, "P@0.5": 4 / 7, "P@0.9": 3 / 7}),
    ],
)
def test_one_set_under_every_protocol(name: str, expected: dict[str, float]) -> None:
    some = [RIGHT, SEVERAL, WRONG, MISSED, REFUSED, ABSTAINED, HALLUCINATED]
    summary = summarise(scored(some, name), PROTOCOLS[name])
    found = values(summary)

    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-5)
    assert (found["target mIoU"], found["target cIoU"]) == pytest.approx((2.5 / 5, 5 / 10), abs=1e-5)
    assert (found["N-acc"], found["T-acc"], found["FNR"]) == pytest.approx((1 / 2, 4 / 5, 1 / 5))
    assert summary.metrics["N-acc"].n == 2
    assert summary.metrics["T-acc"].n == 5
    assert summary.refusals == {RefusalKind.BAD_JSON: 1}
    assert set(PROTOCOLS[name].headline) <= set(found)


def test_a_threshold_is_reached_by_being_equal_to_it() -> None:
    """IoU 7/10 and 9/10 are the very floats that P@0.7 and P@0.9 compare with; box IoU .5 is not above .5."""
    size, boxes = (10, 1), [PixelBox(0, 0, 10, 1)]
    full = np.ones((1, 10), bool)
    some = [Case(size, [full], [np.arange(10)[None] < n], boxes, [PixelBox(0, 0, 5, 1)]) for n in (5, 6, 7, 8, 9)]
    found = values(summarise(scored(some), PROTOCOLS["genseg"], resamples=0))

    assert [found[f"P@0.{n}"] for n in (5, 6, 7, 8, 9)] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert (found["Acc@0.5"], found["AP50"]) == (0.0, 1.0)


@pytest.mark.parametrize("name", NAMES)
def test_exactly_half_of_the_truth_reaches_half_under_every_protocol(name: str) -> None:
    """LISA's 1e-5 is in its IoU and cIoU, and in no threshold."""
    found = values(summarise(scored([WRONG], name), PROTOCOLS[name], resamples=0))
    assert (found["P@0.5"], found["P@0.6"]) == (1.0, 0.0)


def test_several_boxes_whose_mean_iou_is_exactly_half_are_no_hit() -> None:
    """0.1 + 0.7 + 0.7 is 1.5 in the order in which the oracle adds, and floats make more of it in others."""
    true = [PixelBox(x, 0, x + 10, 1) for x in (0, 20, 40)]
    for widths in ((1, 7, 7), (7, 7, 1), (2, 4, 9), (9, 5, 1), (6, 6, 3)):
        found = [PixelBox(box.x1, 0, box.x1 + width, 1) for box, width in zip(true, widths, strict=True)]
        one = Case((60, 1), [np.ones((1, 60), bool)], [np.ones((1, 60), bool)], true, found)
        assert values(summarise(scored([one]), PROTOCOLS["genseg"], resamples=0))["Acc@0.5"] == 0.0, widths


@settings(max_examples=30)
@given(st.lists(cases(), min_size=1, max_size=7), st.sampled_from(NAMES), st.randoms())
def test_the_order_of_the_samples_is_of_no_matter(some: list[Case], name: str, random: Any) -> None:
    scores = scored(some, name)
    shuffled = random.sample(scores, len(scores))
    named = {"clean": ["000", "001"], "overlap": ["002"]}

    first = summarise(scores, PROTOCOLS[name], resamples=10, named=named)
    assert summarise(iter(shuffled), PROTOCOLS[name], resamples=10, named=named) == first


@settings(max_examples=30)
@given(st.lists(cases(), min_size=1, max_size=7), st.sampled_from(NAMES))
def test_as_many_samples_come_out_as_went_in(some: list[Case], name: str) -> None:
    summary = summarise(scored(some, name), PROTOCOLS[name], resamples=0)
    parts = {key: part.composition for key, part in summary.groups.items()}
    whole = summary.composition

    assert whole.samples == whole.pictures == whole.refs == len(some) == whole.targets + whole.no_target
    assert whole.targets == whole.single + whole.multi
    for family in (("single", "multi", "no-target"), ("small", "medium", "large", "no-target")):
        members = [parts[key] for key in family if key in parts]
        assert sum(part.samples for part in members) == len(some)
        assert sum(part.union_area for part in members) == whole.union_area
    assert sum(summary.refusals.values()) == sum(one.refusal is not None for one in some)
    assert all(estimate.n <= len(some) for estimate in summary.metrics.values())


def test_a_group_is_what_it_would_be_alone() -> None:
    some = [RIGHT, WRONG, SEVERAL, ABSTAINED, HALLUCINATED, MISSED]
    scores = scored(some, "gres")
    summary = summarise(scores, PROTOCOLS["gres"], named={"clean": ["001", "003", "absent"], "overlap": []}, seed=4)
    alone = summarise([scores[1], scores[3]], PROTOCOLS["gres"], seed=4)

    assert list(summary.groups) == ["single", "multi", "no-target", "small", "clean"]
    assert summary.groups["clean"] == replace(alone, groups={})
    assert summary.groups["multi"].composition.samples == 1
    assert set(AP) <= set(summary.groups["clean"].metrics)
    assert not set(AP) & set(summary.groups["small"].metrics)


def test_a_group_of_all_samples_is_the_whole_without_ap() -> None:
    some = [RIGHT, WRONG, MISSED, REFUSED]
    summary = summarise(scored(some), PROTOCOLS["genseg"], named={"clean": ["000", "001", "002", "003"]})
    whole = replace(summary, groups={})

    assert summary.groups["clean"] == whole
    without = {name: estimate for name, estimate in whole.metrics.items() if name not in AP}
    assert summary.groups["single"] == replace(whole, metrics=without)


def test_pictures_and_references_are_counted_once() -> None:
    rows = [
        score_sample(RIGHT.truth(name, image=image, ref=ref), RIGHT.guess(name), PROTOCOLS["res"])
        for name, image, ref in (("a", "x", 1), ("b", "x", 1), ("c", "x", 2), ("d", "y", 3))
    ]
    composition = summarise(rows, PROTOCOLS["res"], resamples=0).composition

    assert (composition.samples, composition.refs, composition.pictures) == (4, 3, 2)
    assert (composition.true_area, composition.union_area) == (8, 8)


def test_intervals_hold_the_value_and_the_seed_decides() -> None:
    some = [RIGHT, WRONG, MISSED, SEVERAL, ABSTAINED, HALLUCINATED] * 6
    scores = scored(some)
    one, same = (summarise(scores, PROTOCOLS["genseg"], seed=1) for _ in range(2))
    other, none = summarise(scores, PROTOCOLS["genseg"], seed=2), summarise(scores, PROTOCOLS["genseg"], resamples=0)

    assert one == same
    assert one.metrics["mIoU"].low < one.metrics["mIoU"].value < one.metrics["mIoU"].high
    assert one.metrics["AP50"].low < one.metrics["AP50"].value <= one.metrics["AP50"].high
    assert other.metrics["mIoU"].value == one.metrics["mIoU"].value
    assert other.metrics["mIoU"].low != one.metrics["mIoU"].low
    assert all(estimate.low == estimate.value == estimate.high for estimate in none.metrics.values())


def test_a_perfect_set_has_no_spread() -> None:
    found = summarise(scored([RIGHT, SEVERAL, ABSTAINED]), PROTOCOLS["genseg"]).metrics

    for name in ("cIoU", "mIoU", "P@0.9", "N-acc", "T-acc"):
        assert (found[name].low, found[name].value, found[name].high) == (1.0, 1.0, 1.0), name


def test_ap_ranks_by_the_segmenters_score_if_asked_to() -> None:
    far = PixelBox(9, 9, 12, 12)
    right, wrong = case([FULL], [FULL]), replace(case([FULL], [FULL]), predicted_boxes=[far])
    for protocol, expected in (
        (replace(PROTOCOLS["genseg"], box_score=BoxScore.SEGMENTER), 51 / 101),
        (PROTOCOLS["genseg"], 51 / 101 / 2),
    ):
        rows = [
            score_sample(wrong.truth("a"), wrong.guess("a", scores=(0.2,)), protocol),
            score_sample(right.truth("b"), right.guess("b", scores=(0.9,)), protocol),
        ]
        assert summarise(rows, protocol, resamples=0).metrics["AP50"].value == pytest.approx(expected)
    with pytest.raises(GensegError, match="sample 000: a box has no score by which AP could rank it"):
        summarise(scored([RIGHT]), replace(PROTOCOLS["genseg"], box_score=BoxScore.SEGMENTER))


def test_think_and_tokens_where_answers_have_them() -> None:
    rows = [
        score_sample(RIGHT.truth(name), RIGHT.guess(name, think=think, tokens=tokens), PROTOCOLS["genseg"])
        for name, think, tokens in (("a", True, 10), ("b", False, 30))
    ]
    found = values(summarise(rows, PROTOCOLS["genseg"], resamples=0))

    assert (found["think"], found["tokens"]) == (0.5, 20.0)
    assert not {"think", "tokens"} & set(values(summarise(scored([RIGHT]), PROTOCOLS["genseg"], resamples=0)))


def test_boxes_alone_have_box_metrics_alone_and_a_mixture_is_an_error() -> None:
    protocol = PROTOCOLS["genseg"]
    boxes = [score_sample(RIGHT.truth("a"), RIGHT.guess("a", masks=None), protocol)]
    nothing = score_sample(ABSTAINED.truth("b"), ABSTAINED.guess("b"), protocol)
    found = values(summarise([*boxes, nothing], protocol, resamples=0))

    assert {"box mIoU", "AP50", "N-acc", "T-acc"} <= set(found)
    assert not {"cIoU", "mIoU", "P@0.5", "target mIoU"} & set(found)
    with pytest.raises(GensegError, match="1 of 2 samples have no masks to score, the others have"):
        summarise([*boxes, *scored([RIGHT])], protocol)


def test_the_page_names_every_metric(project_root: Path) -> None:
    protocol = replace(PROTOCOLS["genseg"], tiny_area=4)
    rows = [
        score_sample(one.truth(name), one.guess(name, think=True), protocol, foreground=True)
        for name, one in (("a", RIGHT), ("b", ABSTAINED))
    ]
    found = summarise(rows, protocol, resamples=0)
    page = (project_root / "docs" / "metrics.md").read_text(encoding="utf-8")
    table = page.partition("## Metrics")[2].partition("## Intervals")[0]

    unnamed = [
        name
        for name in found.metrics
        for shown in [re.sub(r"< \d+", "< n", re.sub("measure .*", "measure …", name))]
        if f"`{shown}`" not in table and not name.startswith("P@")
    ]
    assert not unnamed
    assert all(f"`{group}`" in page for group in found.groups)


def test_scores_that_cannot_be_summarised() -> None:
    with pytest.raises(GensegError, match="no scores: there is nothing to summarise"):
        summarise([], PROTOCOLS["genseg"])
    with pytest.raises(GensegError, match="sample 000 is scored twice"):
        summarise(scored([RIGHT]) * 2, PROTOCOLS["genseg"])
    measured = score_sample(RIGHT.truth("a"), RIGHT.guess("a"), PROTOCOLS["genseg"], foreground=True)
    with pytest.raises(GensegError, match="some scores have foreground measures and others have not"):
        summarise([measured, *scored([RIGHT])], PROTOCOLS["genseg"])


def test_a_summary_says_what_was_drawn() -> None:
    """Sentences that share a picture are drawn together: four right ones and four wrong ones of two pictures."""
    scores = scored([RIGHT] * 4 + [WRONG] * 4, "res")
    alone = summarise(scores, PROTOCOLS["res"])
    shared = summarise([replace(one, image=str(n // 4)) for n, one in enumerate(scores)], PROTOCOLS["res"])
    assert (alone.drawn, shared.drawn) == ("samples", "pictures")
    assert (shared.metrics["mIoU"].low, shared.metrics["mIoU"].high) == (0.5, 1.0)
    assert alone.metrics["mIoU"].low > 0.5
    assert shared.metrics["mIoU"].n == 8
    assert shared.groups["single"].drawn == "pictures"
