"""Percentile intervals by resampling samples: every metric of a set at once, a bounded piece of the work at a time."""

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


def resample_counts(samples: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each sample is drawn in each resample: float arrays (b n), b rows at a time, `resamples` in all."""
    rng = np.random.default_rng(seed)
    most = max(1, CELLS // samples)
    for start in range(0, resamples, most):
        rows = min(most, resamples - start)
        drawn = rng.integers(samples, size=(rows, samples))
        drawn += samples * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * samples).reshape(rows, samples).astype(float)


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
