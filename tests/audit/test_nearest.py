"""Near hashes: exactly those that a loop over all pairs finds, whichever way is taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gensegcli.audit import nearest
from gensegcli.audit.nearest import find_nearest

RADII = [0, 1, 3, 4, 6, 7, 8, 11, 12, 20, 64]


def by_loops(queries: list[int], known: list[int], radius: int) -> tuple[list[int], list[int], list[bool]]:
    places, distances, found = [], [], [False] * len(known)
    for query in queries:
        near = [(distance, place) for place, k in enumerate(known) if (distance := (query ^ k).bit_count()) <= radius]
        for _, place in near:
            found[place] = True
        distance, place = min(near, default=(-1, -1))
        places.append(place)
        distances.append(distance)
    return places, distances, found


def found_by(queries: list[int], known: list[int], radius: int) -> tuple[list[int], list[int], list[bool]]:
    result = find_nearest(np.array(queries, np.uint64), np.array(known, np.uint64), radius)
    return result.place.tolist(), result.distance.tolist(), result.found.tolist()


@st.composite
def crowds(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Hashes around a few centres, so that every distance up to some twenty bits occurs, and some are equal."""
    centres = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=3))
    flips = st.lists(st.integers(0, 63), max_size=12)

    def near(centre: int, bits: list[int]) -> int:
        for bit in bits:
            centre ^= 1 << bit
        return centre

    some = st.lists(st.builds(near, st.sampled_from(centres), flips), max_size=12)
    return draw(some), draw(some)


@pytest.mark.parametrize("sparse", [True, False], ids=["through the files", "everything"])
@settings(max_examples=40)
@given(crowds(), st.sampled_from([radius for radius in RADII if radius < 12]))
def test_both_ways_find_what_loops_find(sparse: bool, hashes: tuple[list[int], list[int]], radius: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "_is_sparse", lambda *_: sparse)
        patch.setattr(nearest, "_FILED_BLOCK", 5)
        patch.setattr(nearest, "_DENSE_BLOCK", 7)
        assert found_by(*hashes, radius) == by_loops(*hashes, radius)


@settings(max_examples=40)
@given(crowds(), st.sampled_from(RADII))
def test_the_way_that_is_chosen_finds_what_loops_find(hashes: tuple[list[int], list[int]], radius: int) -> None:
    assert found_by(*hashes, radius) == by_loops(*hashes, radius)


@pytest.mark.parametrize("radius", [0, 4, 6, 7])
def test_pairs_planted_among_many(radius: int) -> None:
    rng = np.random.default_rng(radius)
    known = rng.integers(0, 2**64, 20_000, dtype=np.uint64)
    queries = rng.integers(0, 2**64, 3_000, dtype=np.uint64)
    for number in range(100):
        flips = rng.choice(64, radius, replace=False).astype(np.uint64)
        queries[number] = (
            known[150 * number] ^ np.bitwise_or.reduce(np.uint64(1) << flips) if radius else known[150 * number]
        )

    result = find_nearest(queries, known, radius)

    assert nearest._is_sparse(queries, known, radius)
    assert result.place[:100].tolist() == list(range(0, 15_000, 150))
    assert set(result.distance[:100].tolist()) == {radius}
    assert result.found[::150][:100].all()


def test_of_equal_hashes_the_first_is_nearest_and_all_are_found() -> None:
    assert found_by([7], [1, 7, 7, 7], 1) == ([1], [0], [False, True, True, True])
    assert found_by([0b10], [0b11, 0b00], 1) == ([0], [1], [True, True])


@pytest.mark.parametrize(("queries", "known"), [([], []), ([5], []), ([], [5])])
def test_nothing_on_a_side(queries: Any, known: Any) -> None:
    assert found_by(queries, known, 6) == ([-1] * len(queries), [-1] * len(queries), [False] * len(known))


def test_crowded_hashes_are_compared_all_with_all() -> None:
    crowd = np.arange(30_000, dtype=np.uint64)  # three quarters are the same everywhere
    assert not nearest._is_sparse(crowd, crowd, 6)
