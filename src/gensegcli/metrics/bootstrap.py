"""Percentile intervals by resampling: every metric of a set at once, a bounded piece of the work at a time.

What is drawn is what was drawn when the set was made: pictures. Sentences about one picture succeed and fail together, and
intervals that treat them as independent are too narrow (docs/metrics.md has the numbers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CELLS = 1 << 16
"""Resamples × samples at a time: few enough to stay in a processor's cache."""

LEVEL = 95
"""Per cent of the resampled values inside an interval."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A metric that is a ratio of two sums over samples: a mean, a share, cIoU.

    Attributes:
        name: of the metric.
        over: per sample (n), whether it takes part.
        numerator: per sample (n); or, for the best of several curve points, a row for each of them (k n).
        denominator: per sample (n); None counts the samples that take part.
        smoothing: added to the denominator's sum.
        empty: the value where the denominator's sum is 0.
    """

    name: str
    over: np.ndarray
    numerator: np.ndarray
    denominator: np.ndarray | None = None
    smoothing: float = 0.0
    empty: float = np.nan

    def sums(self) -> np.ndarray:
        """The numerators' rows and the denominator (k+1 n), zero where a sample takes no part."""
        below = np.ones(len(self.over)) if self.denominator is None else self.denominator
        return np.where(self.over, np.vstack([np.atleast_2d(self.numerator), below]), 0.0)

    def value(self, sums: np.ndarray) -> np.ndarray:
        """The metric (b) from sums over samples (b k+1)."""
        above, below = sums[:, :-1].max(axis=1), sums[:, -1] + self.smoothing
        return np.divide(above, below, out=np.full(len(sums), self.empty), where=below > 0)


class Ratios:
    """Several metrics of the same samples, side by side."""

    def __init__(self, ratios: Iterable[Ratio]) -> None:
        self._ratios = tuple(ratios)
        # Metrics share many of their numerators and denominators; each is summed once.
        found: dict[bytes, int] = {}
        self._places = [[found.setdefault(row.tobytes(), len(found)) for row in ratio.sums()] for ratio in self._ratios]
        self._columns = np.ascontiguousarray(np.stack([np.frombuffer(row) for row in found], axis=1))

    def sums(self, weights: np.ndarray) -> np.ndarray:
        """What `values` needs (b s), where the samples count as often as `weights` (b n) says."""
        # Not `@`: its threads wait for each other on so little work, and change the last bits with their number.
        return np.einsum("bn,nm->bm", weights, self._columns)

    def values(self, sums: np.ndarray) -> np.ndarray:
        """Each metric (b m)."""
        found = [ratio.value(sums[:, places]) for ratio, places in zip(self._ratios, self._places, strict=True)]
        return np.stack(found, axis=1)


def resample_counts(
    samples: int, resamples: int, seed: int, *, groups: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """How often each sample is drawn in each resample: float arrays (b n), b rows at a time, `resamples` in all.

    Args:
        samples: how many there are.
        resamples: how often all of them are drawn.
        seed: of the draws.
        groups: int (n), from 0 on without gaps: samples of one number are drawn together. None: each on its own.
    """
    rng = np.random.default_rng(seed)
    units = samples if groups is None else int(groups.max()) + 1
    most = max(1, CELLS // samples)
    for start in range(0, resamples, most):
        rows = min(most, resamples - start)
        drawn = rng.integers(units, size=(rows, units))
        drawn += units * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units).astype(float)
        yield counts if groups is None else counts[:, groups]


def drawn_together(names: Iterable[object]) -> np.ndarray | None:
    """The groups of `resample_counts` from the names of the samples' pictures: int (n).

    None where every sample has a picture of its own, or all have the same one: then samples are what can be drawn.

    >>> drawn_together(["a", "b", "a"]), drawn_together(["a", "b"]), drawn_together(["a", "a"])
    (array([0, 1, 0]), None, None)
    """
    numbers: dict[object, int] = {}
    groups = np.array([numbers.setdefault(name, len(numbers)) for name in names])
    return groups if 1 < len(numbers) < len(groups) else None


def interval(resampled: np.ndarray, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the percentile interval of each metric (m).

    Args:
        resampled: values (b m); a resample without any sample that a metric is about has no value (NaN), and is left
            out.
        point: values of the samples themselves (m), where no resample has one.
    """
    tail = (100 - LEVEL) / 2
    values = np.where(np.isnan(resampled).all(axis=0), np.nan_to_num(point), resampled)
    low, high = np.nanpercentile(values, [tail, 100 - tail], axis=0)
    return low, high
