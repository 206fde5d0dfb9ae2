"""From truth and guess to a score, and from many scores to their summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from gensegcli.metrics.protocols import Protocol
    from gensegcli.metrics.records import Guess, SampleScore, Summary, Truth


def score_sample(truth: Truth, guess: Guess, protocol: Protocol, *, foreground: bool = False) -> SampleScore:
    """Score one sample.

    Args:
        truth: what is true.
        guess: what was predicted.
        protocol: the conventions.
        foreground: also the measures of foreground sets (S, E, F, weighted F, MAE), which decode the masks.

    Raises:
        GensegError: a mask is not of the picture's size, or the two are not of one sample.
    """
    raise NotImplementedError


def summarise(
    scores: Iterable[SampleScore],
    protocol: Protocol,
    *,
    named: Mapping[str, Collection[str]] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Summary:
    """Metrics of many samples with 95 % bootstrap intervals, whole and by group. The order of the scores is of no matter.

    Args:
        scores: one for each sample.
        protocol: the one they were made under.
        named: further groups by their samples' ids, for example clean and overlap.
        resamples: of the bootstrap; 0 leaves the intervals as wide as the value.
        seed: of the bootstrap.

    Raises:
        GensegError: no scores; or some samples have masks and others have not.
    """
    raise NotImplementedError
