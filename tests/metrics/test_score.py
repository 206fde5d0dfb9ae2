"""Scores of single samples, worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gensegcli.errors import GensegError
from gensegcli.geometry import rle
from gensegcli.metrics.protocols import PROTOCOLS
from gensegcli.metrics.records import SampleScore, SizeClass
from gensegcli.metrics.score import score_sample
from gensegcli.records import PixelBox, RefusalKind, Size
from tests.metrics.oracle import Case

LEFT, TOP = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
LEFT[:, :2] = TOP[0] = True
NONE = np.zeros((2, 4), bool)
BOX = PixelBox(0, 0, 2, 2)
NAMES = sorted(PROTOCOLS)


def score(name: str = "genseg", true: Any = (LEFT,), predicted: Any = (TOP,), **changes: Any) -> SampleScore:
    """One sample of 4 × 2 pixels: by default 2 pixels shared of 6."""
    case = Case((4, 2), list(true), list(predicted), [BOX] * len(true), [BOX] * len(predicted), **changes)
    return score_sample(case.truth("a"), case.guess("a"), PROTOCOLS[name])


def counts(found: SampleScore) -> tuple[object, ...]:
    return found.intersection, found.union, found.true_area, found.predicted_area


@pytest.mark.parametrize("name", NAMES)
def test_an_ordinary_sample(name: str) -> None:
    found = score(name)

    assert counts(found) == (2, 6, 4, 4)
    assert found.iou == pytest.approx(2 / 6.00001 if name == "lisa" else 2 / 6, abs=1e-12)
    assert (found.true_instances, found.predicted_instances, found.box_iou) == (1, 1, 1.0)


def test_lisas_smoothing_is_there() -> None:
    assert score("lisa", predicted=[LEFT]).iou == 4 / (4 + 1e-5) < 1


@pytest.mark.parametrize(
    ("name", "abstained", "empty", "hallucinated"),
    [
        # What a sample without a target has: by flag, with an empty mask and no flag, with two pixels of mask.
        ("genseg", 1.0, 1.0, 0.0),
        ("gres", 1.0, 0.0, 0.0),
        ("lisa", 1.0, 1.0, 0.0),
        ("seg-zero", 0.0, 0.0, 0.0),
        ("res", 1.0, 1.0, 0.0),
    ],
)
def test_nothing_there(name: str, abstained: float, empty: float, hallucinated: float) -> None:
    assert score(name, (), (), abstained=True).iou == abstained
    assert score(name, (), [NONE]).iou == empty
    found = score(name, (), [LEFT])
    assert found.iou == hallucinated
    assert counts(found) == (0, 4, 0, 4), "a hallucinated mask adds its area to ΣU"
    assert found.no_target
    assert found.box_iou is found.enclosing_box_iou is found.size_class is None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("true", [(), (LEFT,)], ids=["no-target", "target"])
def test_with_the_flag_set_a_stale_mask_is_emptied_first(name: str, true: Any) -> None:
    stale, clean = score(name, true, [TOP, LEFT], abstained=True), score(name, true, [], abstained=True)

    assert stale == clean
    assert counts(stale) == (0, 4 * len(true), 4 * len(true), 0)
    assert stale.predicted_boxes == ()
    assert stale.abstained


@pytest.mark.parametrize("name", NAMES)
def test_a_refusal_is_an_empty_mask_and_never_an_abstention(name: str) -> None:
    missed = score(name, predicted=[], refusal=RefusalKind.BAD_JSON)
    lucky = score(name, (), (), refusal=RefusalKind.BAD_JSON)

    assert counts(missed) == (0, 4, 4, 0)
    assert missed.iou == missed.box_iou == 0.0
    assert lucky.iou == 0.0, "a crash on a no-target sample is no correct abstention"
    assert not missed.abstained
    assert not lucky.abstained
    assert score(name, refusal=RefusalKind.TRUNCATED) == score(name, predicted=[], refusal=RefusalKind.TRUNCATED)


@pytest.mark.parametrize(
    ("name", "expected", "iou"),
    [("genseg", (1, 3, 2, 2), 1 / 3), ("lisa", (1, 3, 2, 2), 1 / 3), ("seg-zero", (3, 7, 6, 4), 3 / 7)],
)
def test_ignored_pixels(name: str, expected: tuple[int, ...], iou: float) -> None:
    """Every second column is unclear: it leaves both masks, or becomes foreground."""
    ignore = np.zeros((2, 4), bool)
    ignore[:, 1::2] = True
    found = score(name, ignore=ignore)

    assert counts(found) == expected
    assert found.iou == pytest.approx(iou, abs=1e-5)


def test_an_object_that_is_ignored_altogether_is_still_a_target() -> None:
    found = score(true=[LEFT], predicted=[], ignore=LEFT)

    assert not found.no_target
    assert (found.union, found.iou, found.box_iou) == (0, 1.0, 0.0)
    assert score("seg-zero", true=[LEFT], predicted=[], ignore=LEFT).iou == 0.0
    assert score(true=[LEFT], predicted=[], ignore=LEFT, refusal=RefusalKind.EMPTY).iou == 0.0


def test_several_instances_count_as_their_union() -> None:
    found = score(true=[LEFT, TOP, TOP], predicted=[TOP, TOP])

    assert counts(found) == (4, 6, 6, 4)
    assert (found.true_instances, found.predicted_instances) == (3, 2)
    assert found.box_iou == pytest.approx(2 / 3)
    assert found.enclosing_box_iou == 1.0


def test_inclusive_boxes_by_a_variant_of_a_protocol() -> None:
    case = Case((16, 16), [np.ones((16, 16), bool)], [], [PixelBox(0, 0, 9, 9)], [PixelBox(5, 0, 14, 9)])
    truth, guess = case.truth("a"), case.guess("a")

    assert score_sample(truth, guess, PROTOCOLS["genseg"]).box_iou == pytest.approx(36 / 126)
    inclusive = replace(PROTOCOLS["genseg"], inclusive_boxes=True)
    assert score_sample(truth, guess, inclusive).box_iou == pytest.approx(50 / 150)


@pytest.mark.parametrize(
    ("pixels", "size"), [(32**2 - 1, "small"), (32**2, "medium"), (96**2 - 1, "medium"), (96**2, "large")]
)
def test_the_size_of_an_object_is_its_true_area(pixels: int, size: str) -> None:
    mask = (np.arange(100 * 200) < pixels).reshape(100, 200)
    case = Case((200, 100), [mask], [mask[::-1]], [BOX], [BOX], ignore=mask)
    truth, guess = case.truth("a"), case.guess("a")

    assert score_sample(truth, guess, PROTOCOLS["genseg"]).size_class is SizeClass(size)
    twice = replace(truth, original_size=Size(400, 200))
    grown = {"small": "medium", "medium": "medium" if pixels == 32**2 else "large", "large": "large"}[size]
    assert score_sample(twice, guess, PROTOCOLS["genseg"]).size_class is SizeClass(grown)


def test_masks_without_boxes_have_the_smallest_ones() -> None:
    case = Case((4, 2), [LEFT], [], [BOX], [])
    guess = case.guess("a", masks=(rle.encode(NONE), rle.encode(TOP)), scores=(0.5, 0.75))
    found = score_sample(case.truth("a"), guess, PROTOCOLS["genseg"])

    assert found.predicted_boxes == (PixelBox(0, 0, 4, 1),)
    assert found.box_scores == (0.75,)
    assert found.box_iou == pytest.approx(2 / 6)


def test_boxes_alone_have_box_metrics_alone() -> None:
    case = Case((4, 2), [LEFT], [], [BOX], [BOX])
    for truth, guess in (
        (case.truth("a"), case.guess("a", masks=None)),
        (case.truth("a", masks=None), case.guess("a", masks=())),
    ):
        found = score_sample(truth, guess, PROTOCOLS["genseg"], foreground=True)
        assert counts(found) == (None, None, None, None)
        assert found.iou is found.size_class is found.foreground is None
        assert found.box_iou == 1.0


def test_a_mask_of_another_size_names_the_sample() -> None:
    case = Case((4, 2), [LEFT], [LEFT.T], [BOX], [BOX])
    with pytest.raises(GensegError, match="sample a: predicted mask: 4x2 expected, 2x4 found"):
        score_sample(case.truth("a"), case.guess("a"), PROTOCOLS["genseg"])

    case = Case((4, 2), [LEFT.T], [LEFT], [BOX], [BOX])
    with pytest.raises(GensegError, match="sample a: true mask: 4x2 expected, 2x4 found"):
        score_sample(case.truth("a"), case.guess("a"), PROTOCOLS["genseg"])

    case = Case((4, 2), [LEFT], [LEFT], [BOX], [BOX], ignore=LEFT.T)
    with pytest.raises(GensegError, match="sample a: ignore mask: 4x2 expected, 2x4 found"):
        score_sample(case.truth("a"), case.guess("a"), PROTOCOLS["genseg"])


def test_truth_and_guess_of_two_samples_are_a_bug() -> None:
    case = Case((4, 2), [LEFT], [LEFT], [BOX], [BOX])
    with pytest.raises(ValueError, match="truth of 'a', guess of 'b'"):
        score_sample(case.truth("a"), case.guess("b"), PROTOCOLS["genseg"])
