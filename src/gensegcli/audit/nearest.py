"""Which of many hashes are near which of many others: exact, in bounded memory, seconds for 100,000 times 100,000.

By multi-index hashing (Norouzi, Punjani and Fleet, 2012): two hashes that differ in at most r bits differ in at most
r // 4 bits in one of their four 16-bit quarters. So the known hashes are filed by each quarter, and a query looks into
the files of its own quarters with up to r // 4 bits flipped. Where hashes crowd so much that this would cost more than
comparing every one with every other, that is done instead.
"""

from __future__ import annotations

from itertools import combinations
from math import comb
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUARTERS, _BITS = 4, 16
_FILED_BLOCK, _DENSE_BLOCK = 1 << 20, 1 << 18
"""Comparisons at a time: some 40 MB of them through the files, and as many as stay in a core's cache without."""
_FILED_COST = 60
"""How many comparisons of everything with everything one comparison through the files costs; benchmarks/overlap.py."""
_PLACE_BITS = 48
_FAR = 65 << _PLACE_BITS


class Nearest(NamedTuple):
    """What was found near n queries among m known hashes."""

    place: np.ndarray
    """int64 (n): the nearest known hash, of equals the first; -1 if none is near."""
    distance: np.ndarray
    """int64 (n): the bits in which it differs; -1 if none is near."""
    found: np.ndarray
    """bool (m): whether a known hash is near any query."""


def find_nearest(queries: np.ndarray, known: np.ndarray, radius: int) -> Nearest:
    """The nearest known hash of each query within a Hamming radius.

    Args:
        queries: uint64 (n).
        known: uint64 (m).
        radius: bits, 0 to 64.
    """
    # Sets repeat their pictures; of equal hashes one is looked up. Kept in the given order, in which ties are decided.
    queries, query_of = np.unique(queries, return_inverse=True)
    distinct, first, known_of = np.unique(known, return_index=True, return_inverse=True)
    order = np.argsort(first)
    search = _search_files if _is_sparse(queries, distinct, radius) else _search_everything
    best, found = search(queries, distinct[order], radius)
    best, near = best[query_of], best[query_of] != _FAR
    place = first[order][np.where(near, best & ((1 << _PLACE_BITS) - 1), 0)] if len(known) else np.zeros_like(best)
    where_found = np.empty(len(distinct), bool)
    where_found[order] = found
    return Nearest(np.where(near, place, -1), np.where(near, best >> _PLACE_BITS, -1), where_found[known_of])


def _is_sparse(queries: np.ndarray, known: np.ndarray, radius: int) -> bool:
    """Whether the way through the files is the shorter one."""
    flips = sum(comb(_BITS, count) for count in range(min(radius // _QUARTERS, _BITS) + 1))
    looks = sum(
        int(np.bincount(_quarter(known, q), minlength=1 << _BITS)[_quarter(queries, q)].sum()) for q in range(_QUARTERS)
    )
    return _FILED_COST * flips * (_QUARTERS * len(queries) + looks) < len(queries) * len(known)


def _quarter(hashes: np.ndarray, number: int) -> np.ndarray:
    return (hashes >> np.uint64(number * _BITS) & np.uint64((1 << _BITS) - 1)).astype(np.int64)


def _flips(most: int) -> list[int]:
    """Every way to flip at most so many of 16 bits."""
    counts = range(min(most, _BITS) + 1)
    return [sum(1 << bit for bit in bits) for count in counts for bits in combinations(range(_BITS), count)]


def _search_files(queries: np.ndarray, known: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Distance and place of the nearest in one number each, so that the smallest is the nearest; and who was found."""
    best, found = np.full(len(queries), _FAR), np.zeros(len(known), bool)
    for number in range(_QUARTERS):
        filed, own = _quarter(known, number), _quarter(queries, number)
        order = np.argsort(filed, kind="stable")
        in_order = known[order]
        starts = np.searchsorted(filed, np.arange((1 << _BITS) + 1), sorter=order)
        for flip in _flips(radius // _QUARTERS):
            begins, ends = starts[own ^ flip], starts[(own ^ flip) + 1]
            for asked, member in _members(begins, ends):
                distance = np.bitwise_count(queries[asked] ^ in_order[member])
                near = np.flatnonzero(distance <= radius)
                place = order[member[near]]
                np.minimum.at(best, asked[near], distance[near].astype(np.int64) << _PLACE_BITS | place)
                found[place] = True
    return best, found


def _members(begins: np.ndarray, ends: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each i with every number in [begins[i], ends[i]), as two arrays, block by block."""
    lengths = ends - begins
    totals = np.cumsum(lengths)
    cuts = np.searchsorted(totals, np.arange(_FILED_BLOCK, totals[-1] if len(totals) else 0, _FILED_BLOCK))
    for part in np.split(np.arange(len(lengths)), cuts):
        asked = np.repeat(part, lengths[part])
        before = np.repeat(totals[part] - lengths[part], lengths[part])  # members of all earlier ones
        offset = before[0] if len(before) else 0
        yield asked, np.arange(len(asked)) + offset - before + begins[asked]


def _search_everything(queries: np.ndarray, known: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """The same as `_search_files`, by comparing every query with every known hash."""
    best, found = np.full(len(queries), _FAR), np.zeros(len(known), bool)
    if not len(known):
        return best, found
    rows = max(1, _DENSE_BLOCK // len(known))
    for begin in range(0, len(queries), rows):
        distance = np.bitwise_count(queries[begin : begin + rows, None] ^ known)
        place = distance.argmin(axis=1)
        least = np.take_along_axis(distance, place[:, None], axis=1)[:, 0].astype(np.int64)
        near = least <= radius
        best[begin : begin + rows][near] = (least << _PLACE_BITS | place)[near]
        if near.any():
            found |= (distance[near] <= radius).any(axis=0)
    return best, found
