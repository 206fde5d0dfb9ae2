"""The tables of a report, whatever form they are printed in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gensegcli.evaluate.report.published import slug
from gensegcli.metrics.records import Estimate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gensegcli.evaluate.report.paired import Paired
    from gensegcli.evaluate.report.published import PublishedTable
    from gensegcli.evaluate.report.sections import Entry, Section
    from gensegcli.metrics.records import Summary

Cell = Estimate | float | int | str | None

UP, DOWN = "↑", "↓"
"""Before a difference whose interval lies above or below 0."""

MEANS = ("mIoU", "gIoU")
"""Two names of the mean of the samples' IoU: the fields of referring and of reasoning segmentation each have theirs."""


@dataclass(frozen=True)
class Row:
    """One line of a table: whose, and its values."""

    name: str
    cells: tuple[Cell, ...]
    published: bool = False
    """By others: no interval is known."""


@dataclass(frozen=True)
class Table:
    """A title, headings (that of the rows' names first), rows, and notes to print with it."""

    title: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def turned(self) -> Table:
        """Rows as columns and columns as rows.

        >>> Table("t", ("run", "cIoU"), (Row("a", (0.5,)), Row("b", (0.6,)))).turned().rows
        (Row(name='cIoU', cells=(0.5, 0.6), published=False),)
        """
        columns = zip(*(row.cells for row in self.rows), strict=True)
        rows = tuple(Row(name, cells) for name, cells in zip(self.head[1:], columns, strict=True))
        return Table(self.title, ("", *(row.name for row in self.rows)), rows, self.notes)


def metrics(section: Section, names: Sequence[str], title: str) -> Table:
    """The named metrics of every entry, one row each."""
    rows = (Row(entry.name, _values(entry.result.summary, names)) for entry in section.entries)
    return Table(title, ("run", *names), tuple(rows))


def differences(section: Section, found: Paired) -> Table:
    """How much every entry differs from the first in each headline metric."""
    names = [name for name in section.headline if any(name in metrics for metrics in found.runs.values())]
    rows = tuple(Row(name, tuple(metrics.get(one) for one in names)) for name, metrics in found.runs.items())
    note = (
        f"There are none: {found.problem}."
        if found.problem
        else f"{UP} or {DOWN}: the interval excludes 0. Both runs are scored on the same resampled {found.drawn}."
    )
    return Table(f"Difference to {found.to}, 95 % intervals", ("run", *names), rows, (note,))


def groups(section: Section, entry: Entry) -> Table | None:
    """Headline metrics by kind of sample, with what weighs in cIoU; None where no groups were made."""
    summary = entry.result.summary
    if not summary.groups:
        return None
    area = summary.composition.union_area

    def row(name: str, group: Summary) -> Row:
        counts = group.composition
        share = f"{counts.union_area / area:.1%}" if area else None
        return Row(name, (counts.samples, share, *_values(group, section.headline)))

    rows = (row("all", summary), *(row(name, group) for name, group in summary.groups.items()))
    return Table(f"By kind of sample: {entry.name}", ("kind", "samples", "union area", *section.headline), tuple(rows))


def composition(section: Section) -> Table:
    """What was scored."""
    counts = section.composition
    head = ("", "samples", "with target", "no target", "single", "multi", "pictures", "refs")
    cells = (
        counts.samples,
        counts.targets,
        counts.no_target,
        counts.single,
        counts.multi,
        counts.pictures,
        counts.refs,
    )
    return Table("Composition", head, (Row(section.data.name, cells),))


def refusals(section: Section) -> Table:
    """Answers that could not be read, by kind, and samples that have none."""
    kinds = sorted({kind for entry in section.entries for kind in entry.result.summary.refusals})
    rows = []
    for entry in section.entries:
        counts = entry.result.summary.refusals
        total = sum(counts.values())
        rows.append(Row(entry.name, (total, *(counts.get(kind, 0) for kind in kinds), entry.result.missing)))
    return Table("Refusals", ("run", "refused", *kinds, "no prediction"), tuple(rows))


def speed(section: Section) -> Table | None:
    """Samples a second, by stage; None where nothing was timed."""
    stages = list(dict.fromkeys(stage for entry in section.entries for stage in entry.result.speed))
    if not stages:
        return None
    rows = (
        Row(entry.name, tuple(per_second(entry.result.speed.get(stage)) for stage in stages))
        for entry in section.entries
    )
    return Table("Speed, in samples a second", ("run", *stages), tuple(rows))


def per_second(rate: float | None) -> str | None:
    """A rate in plain digits, three of them that mean something; None for none.

    >>> per_second(1999.6), per_second(12.34), per_second(40), per_second(0.0123456), per_second(0)
    ('2,000', '12.3', '40', '0.0123', None)
    """
    if not rate:
        return None
    if rate >= 100:
        return f"{rate:,.0f}"
    text = f"{rate:.{2 - math.floor(math.log10(rate))}f}"
    return text.rstrip("0").rstrip(".")


def comparison(section: Section, table: PublishedTable) -> Table:
    """Every entry beside published rows, in the columns of the source, with everything that sets them apart."""
    rows = [
        Row(entry.name, tuple(_like(entry.result.summary, name) for name in table.columns)) for entry in section.entries
    ]
    rows += [Row(name, cells, published=True) for name, cells in table.rows.items()]
    return Table(f"Published: {table.title}", ("run", *table.columns), tuple(rows), tuple(_caveats(section, table)))


def matches(section: Section, table: PublishedTable) -> bool:
    """Whether a published table is about the section's data set and split; sets are called `<recipe>-<split>`."""
    return slug(section.data.name).split("-")[:2] == [slug(table.data), slug(table.split)]


def _caveats(section: Section, table: PublishedTable) -> Iterable[str]:
    counts, protocol = section.composition, section.protocol["name"]
    yield f"Source: {table.source}; measured on {table.samples:,} {table.unit}. Published numbers carry no interval."
    if protocol != table.protocol:
        yield f"Different protocols: theirs is nearest to {table.protocol}, these runs were scored under {protocol}."
    if counts.samples != table.samples:
        yield f"Different samples: theirs are {table.samples:,}, these {counts.samples:,} ({section.choice()})."
    yield from table.caveats


def _values(summary: Summary, names: Sequence[str]) -> tuple[Cell, ...]:
    return tuple(summary.metrics.get(name) for name in names)


def _like(summary: Summary, name: str) -> Cell:
    """A metric by the name that others use for it, perhaps within a group: `clean/cIoU`."""
    group, _, metric = name.rpartition("/")
    if group:
        return _like(summary.groups[group], metric) if group in summary.groups else None
    names = MEANS if metric in MEANS else (metric,)
    return next((summary.metrics[known] for known in names if known in summary.metrics), None)
