"""Runs over the same samples, compared sample by sample: the right test for two systems on one set.

Two runs are drawn by the same resamples, so that what is hard for both of them cancels out. Whether the intervals of two
runs overlap says little: their difference can be beyond doubt where they do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gensegcli.errors import GensegError
from gensegcli.metrics.protocols import protocol_from_json
from gensegcli.metrics.records import Drawn
from gensegcli.metrics.summary import resample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gensegcli.evaluate.report.sections import Section
    from gensegcli.metrics.records import Difference

RESAMPLES = 1000
"""Behind each interval, as behind those of the metrics."""


@dataclass(frozen=True)
class Paired:
    """Every run of a section against its first.

    Attributes:
        to: name of the first run.
        drawn: what the resamples are made of.
        runs: of each other run by name, how much larger each metric is.
        problem: why there are no differences; empty where there are.
    """

    to: str
    drawn: Drawn = Drawn.SAMPLES
    runs: Mapping[str, Mapping[str, Difference]] = field(default_factory=dict)
    problem: str = ""


def paired(section: Section) -> Paired | None:
    """The differences of a section's runs, from their scores; None where there is only one run."""
    if len(section.entries) < 2:
        return None
    first, *others = section.entries
    try:
        protocol = protocol_from_json(section.protocol)
        base = resample(first.run.scores(first.result), protocol, resamples=RESAMPLES)
        runs = {
            entry.name: resample(entry.run.scores(entry.result), protocol, resamples=RESAMPLES).minus(base)
            for entry in others
        }
    except GensegError as error:
        return Paired(first.name, problem=error.message)
    return Paired(first.name, base.drawn, runs)
