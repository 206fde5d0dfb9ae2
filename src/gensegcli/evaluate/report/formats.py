"""Tables for the terminal, for papers, for notes, for programs."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson

from gensegcli.columns import Grid, blocks, drawn, wrapped
from gensegcli.evaluate.report import tables
from gensegcli.evaluate.report.paired import paired
from gensegcli.evaluate.report.published import against
from gensegcli.evaluate.report.sections import apart
from gensegcli.harmless import csv_row, printable
from gensegcli.metrics.records import Difference, Estimate, summary_to_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gensegcli.evaluate.report.paired import Paired
    from gensegcli.evaluate.report.sections import Entry, Section
    from gensegcli.evaluate.report.tables import Cell, Row, Table

SIDE_BY_SIDE = 4
"""So many runs stand beside each other on a terminal, metrics below each other; more stand below each other."""

_TEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "·": r"$\cdot$", "Σ": r"$\Sigma$",
    tables.UP: r"$\uparrow$", tables.DOWN: r"$\downarrow$",
}  # fmt: skip


def value(cell: Cell) -> str:
    """A value without its interval: shares with four decimals, as the field prints them.

    A difference has its sign, and an arrow where its interval excludes 0.

    >>> value(0.71268), value(Estimate(152.3, 140, 160, 9)), value(2573), value(None)
    ('0.7127', '152.3', '2,573', '-')
    >>> value(Difference(0.0213, 0.004, 0.038, 9)), value(Difference(-0.0213, -0.044, 0.038, 9))
    ('↑ +0.0213', '-0.0213')
    """
    if isinstance(cell, Difference):
        return f"{_arrow(cell)} {_signed(cell.value, 4)}".strip()
    if isinstance(cell, Estimate):
        cell = cell.value
    if cell is None or isinstance(cell, str):
        return cell or "-"
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:.4f}" if abs(cell) <= 1 else f"{cell:,.1f}"


def bounds(cell: Cell) -> tuple[str, str] | None:
    """The ends of a value's interval; None for what has none.

    >>> bounds(Estimate(0.71, 0.7, 0.72, 9))
    ('0.700', '0.720')
    """
    if not isinstance(cell, Estimate):
        return None
    if isinstance(cell, Difference):
        return _signed(cell.low, 3), _signed(cell.high, 3)
    low, high = ((f"{end:.3f}" if abs(end) <= 1 else f"{end:,.1f}") for end in (cell.low, cell.high))
    return low, high


def _signed(number: float, decimals: int) -> str:
    return f"{number:+.{decimals}f}" if abs(number) <= 1 else f"{number:+,.1f}"


def _arrow(cell: Cell) -> str:
    if not isinstance(cell, Difference) or not cell.told:
        return ""
    return tables.UP if cell.low > 0 else tables.DOWN


def every_table(section: Section, compared: Sequence[str] = ()) -> Iterator[Table]:
    """The tables of a section that are worth printing in any form.

    Args:
        section: results that compare.
        compared: systems whose published numbers stand beside them.
    """
    yield tables.metrics(section, section.headline, f"Headline metrics, {section.intervals()}")
    if found := paired(section):
        yield tables.differences(section, found)
    if section.further:
        yield tables.metrics(section, section.further, "Further metrics")
    for entry in section.entries:
        if by_kind := tables.groups(section, entry):
            yield by_kind
    if (refused := tables.refusals(section)).rows and any(any(row.cells) for row in refused.rows):
        yield refused
    yield from comparisons(section, compared)


def comparisons(section: Section, compared: Sequence[str]) -> list[Table]:
    """The section beside published numbers."""
    return [tables.comparison(section, table) for table in against(compared) if tables.matches(section, table)]


def nothing_published(section: Section, compared: Sequence[str]) -> str | None:
    """That none of the systems has numbers on a section's data, where that is so."""
    if not compared or comparisons(section, compared):
        return None
    known = sorted({f"{table.data}-{table.split}" for table in against(compared)})
    return (
        f"No published numbers of {', '.join(compared)} on {section.data.name}; there are some on {', '.join(known)}."
    )


# ---------------------------------------------------------------- for people


def as_text(sections: Sequence[Section], compared: Sequence[str] = (), *, width: int | None = None) -> str:
    """For a terminal of a width, which no table overruns; without one every row is one line, for a pipe."""
    parts = [_folded(line, width) for line in _preface(sections)]
    for section in sections:
        notes = [_folded(f"note: {line}", width, "  ") for line in _notes(section, compared)]
        parts.append("".join([_folded(f"{section.title} · {section.about()}", width), *notes]))
        parts += [_drawn(table, width) for table in (tables.composition(section), *every_table(section, compared))]
    return "\n".join(parts)


def tables_as_text(found: Sequence[Table], *, width: int | None = None) -> str:
    """Tables alone, for a terminal."""
    return "\n".join(_drawn(table, width) for table in found)


def as_markdown(sections: Sequence[Section], compared: Sequence[str] = (), *, intervals: bool = True) -> str:
    """For notes and pull requests."""
    parts = [f"{_md(line)}\n" for line in _preface(sections)]
    for section in sections:
        parts.append(f"## {_md(section.title)}\n\n{_md(section.about())}\n")
        parts += [f"- {_md(line)}" for line in _notes(section, compared)]
        for table in (tables.composition(section), *every_table(section, compared)):
            parts += ["", *_markdown(table, intervals=intervals)]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def tables_as_markdown(found: Sequence[Table]) -> str:
    """Tables alone, for notes."""
    return "\n".join(line for table in found for line in (*_markdown(table, intervals=True), "")).rstrip() + "\n"


def as_latex(sections: Sequence[Section], compared: Sequence[str] = (), *, intervals: bool = True) -> str:
    """For papers: one `table` each, with booktabs; intervals small below the values, or left out."""
    parts = ["% needs \\usepackage{booktabs}", *(f"% {_tex(line)}" for line in _preface(sections))]
    for section in sections:
        parts += ["", f"% {_tex(section.title)}", *(f"% note: {_tex(line)}" for line in _notes(section, compared))]
        shown = [tables.metrics(section, section.headline, "Headline metrics"), *comparisons(section, compared)]
        if found := paired(section):
            shown.insert(1, tables.differences(section, found))
        about = f": {section.title}, {section.choice()}."
        parts += [_latex(table, about, intervals=intervals) for table in shown]
    return "\n".join(parts) + "\n"


def tables_as_latex(found: Sequence[Table]) -> str:
    """Tables alone, for papers."""
    return (
        "\n".join(["% needs \\usepackage{booktabs}", *(_latex(table, ".", intervals=True) for table in found)]) + "\n"
    )


# ---------------------------------------------------------------- for programs


def as_csv(sections: Sequence[Section], compared: Sequence[str] = ()) -> str:
    """One line for each metric of each group of each run; `all` is the group of all samples."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("data", "protocol", "run", "folder", "mode", "group", "metric", "value", "low", "high", "n"))
    for section in sections:
        about = (section.data.name, section.protocol["name"])
        for entry in section.entries:
            whose = (*about, entry.name, str(entry.run.folder), entry.result.mode or "")
            summary = entry.result.summary
            for group, part in (("all", summary), *summary.groups.items()):
                for metric, one in part.metrics.items():
                    writer.writerow(csv_row((*whose, group, metric, one.value, one.low, one.high, one.n)))
        if found := paired(section):
            for name, metrics in found.runs.items():
                for metric, cell in metrics.items():
                    writer.writerow(
                        csv_row(
                            (
                                *about,
                                name,
                                f"difference to {found.to}",
                                "",
                                "all",
                                metric,
                                cell.value,
                                cell.low,
                                cell.high,
                                cell.n,
                            )
                        )
                    )
        for table in comparisons(section, compared):
            for row in table.rows:
                if row.published:
                    for metric, cell in zip(table.head[1:], row.cells, strict=True):
                        group, _, name = metric.rpartition("/")
                        writer.writerow(
                            csv_row((*about, row.name, "published", "", group or "all", name, cell, "", "", ""))
                        )
    return stream.getvalue()


def as_json(sections: Sequence[Section], compared: Sequence[str] = ()) -> str:
    """Everything that is known about every result."""
    value = [_section_json(section, compared) for section in sections]
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def _section_json(section: Section, compared: Sequence[str]) -> dict[str, Any]:
    return {
        "data": section.data.model_dump(mode="json"),
        "protocol": section.protocol,
        "notes": list(_notes(section, compared)),
        "runs": [_entry_json(entry) for entry in section.entries],
        "differences": _paired_json(paired(section)),
        "published": [
            {
                "title": table.title,
                "notes": list(table.notes),
                "rows": {
                    row.name: dict(zip(table.head[1:], row.cells, strict=True)) for row in table.rows if row.published
                },
            }
            for table in comparisons(section, compared)
        ],
    }


def _paired_json(found: Paired | None) -> dict[str, Any] | None:
    if found is None:
        return None
    runs = {
        name: {metric: {**asdict(cell), "excludes_zero": cell.told} for metric, cell in metrics.items()}
        for name, metrics in found.runs.items()
    }
    return {"to": found.to, "drawn": found.drawn, "runs": runs, "problem": found.problem or None}


def _entry_json(entry: Entry) -> dict[str, Any]:
    result = entry.result
    facts = result.model_dump(
        mode="json", include={"mode", "model", "segmenter", "given", "missing", "speed", "versions"}
    )
    return {
        "name": entry.name,
        "folder": str(entry.run.folder),
        **facts,
        "notes": list(result.notes),
        "summary": summary_to_json(result.summary),
    }


# ---------------------------------------------------------------- cells and escaping


def _preface(sections: Sequence[Section]) -> list[str]:
    note = apart(sections)
    return [note] if note else []


def _notes(section: Section, compared: Sequence[str]) -> list[str]:
    nothing = nothing_published(section, compared)
    return [*section.notes(), *([nothing] if nothing else [])]


def _texts(row: Row, *, intervals: bool) -> list[str]:
    return [row.name, *(_text(cell, intervals=intervals) for cell in row.cells)]


def _text(cell: Cell, *, intervals: bool = True) -> str:
    ends = bounds(cell) if intervals else None
    return f"{value(cell)} [{ends[0]}, {ends[1]}]" if ends else value(cell)


def _folded(line: str, width: int | None, indent: str = "") -> str:
    """A line of words, broken at blanks where the terminal ends."""
    parts = wrapped(printable(line), None if width is None else max(width - len(indent), 1))
    return "".join(f"{indent}{part}\n" for part in parts)


def _drawn(table: Table, width: int | None) -> str:
    """Title, table and notes. What is too wide is turned, or comes in pieces that each have the first column."""
    grids = _grids(table)
    fitting = next((grid for grid in grids if grid.widths(width) is not None), None)
    pieces = [fitting] if fitting else _fewest([blocks(grid, width or 0) for grid in grids])
    shown = "\n".join(
        drawn(piece, piece.widths(width) or piece.widths() or (), numbers=True, rule=True) for piece in pieces
    )
    return _folded(table.title, width) + shown + "".join(_folded(line, width, "  ") for line in table.notes)


def _grids(table: Table) -> list[Grid]:
    """The ways in which a table can be shown, the best one first."""
    cells = [cell for row in table.rows for cell in row.cells if cell is not None]
    if len(table.rows) <= SIDE_BY_SIDE and all(isinstance(cell, Estimate) for cell in cells):
        return [_grid(table.turned(), intervals=True)]
    return [_grid(table, intervals=False), _grid(table.turned(), intervals=False)]


def _grid(table: Table, *, intervals: bool) -> Grid:
    return Grid.of(table.head, (_texts(row, intervals=intervals) for row in table.rows), gap="   ")


def _fewest(ways: Sequence[list[Grid]]) -> list[Grid]:
    """The way with the fewest pieces, and of these the one with the fewest lines."""
    return min(ways, key=lambda pieces: (len(pieces), sum(len(piece.rows) for piece in pieces)))


def _markdown(table: Table, *, intervals: bool) -> list[str]:
    rule = "|".join(["---", *("---:" for _ in table.head[1:])])
    lines = [f"### {_md(table.title)}", "", f"| {' | '.join(_md(name) for name in table.head)} |", f"|{rule}|"]
    lines += [f"| {' | '.join(_md(text) for text in _texts(row, intervals=intervals))} |" for row in table.rows]
    notes = [f"- {_md(line)}" for line in table.notes]
    return [*lines, *([""] if notes else []), *notes]


def _md(text: str) -> str:
    """Text that means nothing to Markdown, and no HTML."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in " ".join(text.split()))


def _latex(table: Table, about: str, *, intervals: bool) -> str:
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_tex(table.title + about)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}",
        r"\toprule",
        rf"{' & '.join(map(_tex, table.head))} \\",
        r"\midrule",
    ]
    published = False
    for row in table.rows:
        if row.published and not published:
            published = True
            lines.append(r"\midrule")
        lines.append(rf"{' & '.join(_tex(text) for text in _texts(row, intervals=False))} \\")
        ends = [bounds(cell) for cell in row.cells]
        if intervals and any(ends):
            cells = (rf"{{\scriptsize [{end[0]}, {end[1]}]}}" if end else "" for end in ends)
            lines.append(rf" & {' & '.join(cells)} \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize {_tex(note)}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}"])
