"""Distances to the nearest seed beside SciPy's transform, with the small case and the blocks on the same pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from gensegcli.geometry import distances
from gensegcli.geometry.distances import Nearest, area_distance
from gensegcli.geometry.masks import Patch

seeds = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=24), elements=st.booleans()).filter(
    lambda mask: mask.any() and not mask.all()
)
steps = st.sampled_from([(1.0, 1.0), (1.5, 1.0), (1.0, 4 / 3), (1.0, 9.7)])


@pytest.fixture(params=["all at once", "in blocks"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "in blocks":
        monkeypatch.setattr(distances, "_SMALL", 0)


@given(seeds, steps)
def test_bounds_hold_and_what_is_measured_is_exact(mask: np.ndarray, step: tuple[float, float]) -> None:
    near = Nearest(mask, step)
    expected = ndimage.distance_transform_edt(~mask, sampling=step)
    places = np.argwhere(~mask)
    down, across = near._block

    low, high = (
        np.kron(bound, np.ones((down, across)))[: len(mask), : mask.shape[1]] for bound in (near.low, near.high)
    )
    assert (low <= expected + 1e-4).all()
    assert (high >= expected - 1e-4).all()
    np.testing.assert_allclose(near.exact(places), expected[~mask], rtol=1e-6)
    np.testing.assert_allclose(near.to_area(places), area_distance(mask, step)[~mask], atol=1e-9)


@given(seeds, steps, st.data())
def test_the_farthest_of_a_part_are_found_in_reading_order(
    mask: np.ndarray, step: tuple[float, float], data: st.DataObject
) -> None:
    height, width = mask.shape
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    part = np.ascontiguousarray(~mask[top:, left:])
    if not part.any():
        return
    slack = data.draw(st.sampled_from([0.01, 0.3, 2.0]))
    expected = ndimage.distance_transform_edt(~mask, sampling=step)[top:, left:]
    wanted = np.argwhere(part & (expected >= expected[part].max() - slack)) + np.array([top, left])
    doubtful = np.abs(expected[part] - (expected[part].max() - slack)).min() < 1e-5

    found = Nearest(mask, step).farthest(Patch(part, left, top), slack)

    if not doubtful:
        np.testing.assert_array_equal(found.places, wanted)


def test_too_many_pairs_are_measured_by_a_transform_of_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.random.default_rng(0).random((40, 50)) < 0.3
    places = np.argwhere(~mask)
    pairwise = Nearest(mask).exact(places)
    monkeypatch.setattr(distances, "_PAIRS", 0)

    np.testing.assert_array_equal(Nearest(mask).exact(places), pairwise)
