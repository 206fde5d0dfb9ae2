"""The metrics of a finished evaluation, apart for clean samples and for those whose picture was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pydantic import TypeAdapter

from gensegcli.errors import ExitCode, GensegError
from gensegcli.metrics.protocols import Protocol
from gensegcli.metrics.summary import summarise

if TYPE_CHECKING:
    from gensegcli.audit.overlap import Overlap
    from gensegcli.evaluate.results import EvalRun, Result
    from gensegcli.metrics.records import Summary

_PROTOCOL = TypeAdapter(Protocol)


class Parts(NamedTuple):
    """One result of a run, divided."""

    result: Result
    whole: Summary
    """With the groups `clean` and `overlap`, as far as they have samples."""
    unknown: int
    """Samples that were scored and are in neither part."""
    unscored: int
    """Samples of the audited set that were not scored."""


def divide(run: EvalRun, overlap: Overlap) -> list[Parts]:
    """Every result of a run, divided by what was trained on.

    Raises:
        GensegError: a result has no sample of the audited set, or its files are damaged.
    """
    known = frozenset(overlap.clean) | frozenset(overlap.overlap)
    parts = []
    for result in run.results:
        scores = run.scores(result)
        among = [score for score in scores if score.id in known]
        if not among:
            raise GensegError(
                f"{run.folder}: scored {len(scores)} samples of {result.data.name}, none of them of the audited set",
                hint="the last set that is named must be the one that was evaluated",
                code=ExitCode.NOT_FOUND,
            )
        named = {"clean": frozenset(overlap.clean), "overlap": frozenset(overlap.overlap)}
        whole = summarise(among, _PROTOCOL.validate_python(result.protocol), named=named)
        parts.append(Parts(result, whole, len(scores) - len(among), len(known) - len(among)))
    return parts
