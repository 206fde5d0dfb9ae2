"""Intervals against resampling one sample after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gensegcli.metrics import bootstrap
from gensegcli.metrics.bootstrap import Ratio, Ratios, drawn_together, interval, resample_counts

if TYPE_CHECKING:
    from collections.abc import Iterable


def resampled(ratio: Ratio, pieces: Iterable[np.ndarray]) -> np.ndarray:
    """The metric (b 1) under all weights."""
    alone = Ratios([ratio])
    return alone.values(np.vstack([alone.sums(weights) for weights in pieces]))


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 5))
def test_every_resample_has_as_many_samples_as_there_are(samples: int, resamples: int, seed: int) -> None:
    counts = np.vstack(list(resample_counts(samples, resamples, seed)))

    assert counts.shape == (resamples, samples)
    assert (counts.sum(axis=1) == samples).all()


def test_the_seed_decides_and_the_size_of_the_pieces_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.vstack(list(resample_counts(7, 100, seed=3)))
    monkeypatch.setattr(bootstrap, "CELLS", 21)
    pieces = list(resample_counts(7, 100, seed=3))

    assert {len(piece) for piece in pieces} == {3, 1}
    np.testing.assert_array_equal(np.vstack(pieces), whole)
    assert not np.array_equal(np.vstack(list(resample_counts(7, 100, seed=4))), whole)


def test_every_sample_is_drawn_alike() -> None:
    counts = np.vstack(list(resample_counts(10, 2000, seed=0)))

    np.testing.assert_allclose(counts.mean(axis=0), 1.0, atol=0.1)
    np.testing.assert_allclose(counts.var(axis=0), 0.9, atol=0.15)  # n · 1/n · (1 − 1/n)


def test_ratios_by_hand() -> None:
    over = np.array([True, True, False])
    ratios = [
        Ratio("mean", over, np.array([0.25, 0.75, np.nan])),
        Ratio("ratio of sums", over, np.array([1.0, 3.0, 9.0]), np.array([2.0, 6.0, 0.0]), smoothing=1.0),
        Ratio("best", over, np.array([[0.0, 1.0, 9.0], [0.75, 0.0, 9.0]])),
        Ratio("0/0", over, np.zeros(3), np.zeros(3), empty=1.0),
    ]
    together = Ratios(ratios)
    values = together.values(together.sums(np.array([[1.0, 1.0, 1.0], [2.0, 0.0, 1.0], [0.0, 0.0, 3.0]])))

    assert values[0].tolist() == [0.5, 4 / 9, 0.5, 1.0]
    assert values[1].tolist() == [0.25, 2 / 5, 0.75, 1.0]
    assert np.isnan(values[2][[0, 2]]).all(), "none of the samples takes part"
    assert values[2][1] == 0.0  # 0 / smoothing


def test_what_metrics_share_is_summed_once_and_taken_by_each() -> None:
    over, some = np.ones(3, bool), np.array([1.0, 2.0, 4.0])
    together = Ratios(
        [
            Ratio("mean", over, some),
            Ratio("same", over, some),
            Ratio("below", over, over, some),
            Ratio("2", over, 2 * some),
        ]
    )
    sums = together.sums(np.array([[1.0, 1.0, 2.0]]))

    assert sums.tolist() == [[11.0, 4.0, 22.0]]
    assert together.values(sums).tolist() == [[11 / 4, 11 / 4, 4 / 11, 22 / 4]]


def test_intervals_are_those_of_resampling_sample_by_sample() -> None:
    rng = np.random.default_rng(1)
    above, below = rng.integers(1, 50, 40).astype(float), rng.integers(50, 90, 40).astype(float)
    ratio = Ratio("cIoU", np.ones(40, bool), above, below)
    point = resampled(ratio, [np.ones((1, 40))])[0]
    low, high = interval(resampled(ratio, resample_counts(40, 1000, seed=5)), point)

    draws = np.random.default_rng(5).integers(40, size=(1000, 40))
    slow = sorted(sum(above[i] for i in draw) / sum(below[i] for i in draw) for draw in draws)
    assert low[0] == pytest.approx(np.percentile(slow, 2.5))
    assert high[0] == pytest.approx(np.percentile(slow, 97.5))
    assert low[0] < above.sum() / below.sum() == point[0] < high[0]


def test_resamples_without_a_value_are_left_out() -> None:
    low, high = interval(np.array([[0.0, np.nan], [1.0, np.nan], [np.nan, np.nan]]), np.array([0.5, 0.25]))

    assert low == pytest.approx([0.025, 0.25])
    assert high == pytest.approx([0.975, 0.25])


def test_ninety_five_of_a_hundred_intervals_hold_the_truth() -> None:
    """200 sets of 100 coin throws: the share of intervals that hold one half is near 95 %."""
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        ratio = Ratio("mean", np.ones(100, bool), (rng.random(100) < 0.5).astype(float))
        point = resampled(ratio, [np.ones((1, 100))])[0]
        low, high = interval(resampled(ratio, resample_counts(100, 300, seed=0)), point)
        held += low[0] <= 0.5 <= high[0]
    assert 180 <= held <= 199


def test_samples_of_one_picture_are_drawn_together() -> None:
    groups = drawn_together(["a", "b", "a", "c", "b"])
    assert groups is not None
    counts = np.vstack(list(resample_counts(5, 200, seed=1, groups=groups)))
    np.testing.assert_array_equal(counts[:, 0], counts[:, 2])
    np.testing.assert_array_equal(counts[:, 1], counts[:, 4])
    assert (counts[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_intervals_cover_where_two_sentences_share_a_picture() -> None:
    """200 sets of 100 pictures with two sentences that mostly succeed together: by samples far too few intervals hold."""
    rng, held = np.random.default_rng(4), {True: 0, False: 0}
    pictures = np.repeat(np.arange(100), 2)
    for _ in range(200):
        luck = rng.random(100)
        right = (np.where(rng.random(200) < 0.9, luck[pictures], rng.random(200)) < 0.5).astype(float)
        ratio = Ratio("mean", np.ones(200, bool), right)
        point = resampled(ratio, [np.ones((1, 200))])[0]
        for together in held:
            groups = drawn_together(pictures) if together else None
            low, high = interval(resampled(ratio, resample_counts(200, 300, seed=0, groups=groups)), point)
            held[together] += low[0] <= 0.5 <= high[0]
    assert 180 <= held[True] <= 199
    assert held[False] <= 176
