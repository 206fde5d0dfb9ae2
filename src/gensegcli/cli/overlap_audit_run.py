"""What `genseg overlap-audit` does once its arguments are read: audit, write the lists, tell."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import typer

from gensegcli.audit.overlap import Method, Overlap
from gensegcli.audit.run import CLEAN, UNVERIFIED, Audit, Finding, open_audit, write_lists
from gensegcli.audit.scores import Parts, divide
from gensegcli.cli import console
from gensegcli.cli.progress import progress
from gensegcli.cli.tables import table, terminal_width
from gensegcli.errors import ExitCode, GensegError
from gensegcli.evaluate.results import read_run
from gensegcli.metrics.records import summary_to_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gensegcli.audit.pictures import Look
    from gensegcli.audit.sets import PictureSet, Places

_SHOWN = 5
"""How many unreadable pictures are named one by one, and pictures shared between splits."""


@dataclass(frozen=True)
class Task:
    """Everything the command was asked."""

    sets: tuple[str, ...]
    places: Places
    methods: tuple[str, ...] | None
    radius: int
    workers: int | None
    write_ids: Path | None
    scores: Path | None
    fail_on_overlap: bool


def run(task: Task, *, json: bool, quiet: bool) -> None:
    """Do it, and leave with the exit code that says what was found.

    Raises:
        GensegError: a set that is not there or empty; nothing to compare by; a run that does not fit.
    """
    if len(task.sets) < 2:
        raise GensegError(
            "two sets are needed: what was trained on, and last what is evaluated",
            hint="genseg overlap-audit grefcoco:train refcocog:val",
        )
    say = (lambda _text: None) if quiet else console.say
    scored = read_run(task.scores) if task.scores else None
    say(f"reading {', '.join(task.sets)} …")
    audit = open_audit(task.sets[:-1], task.sets[-1], task.places, task.methods)
    for note in audit.notes:
        say(f"note: {note}")
    finding = _look(audit, task, quiet=quiet)
    for picture in finding.unreadable[:_SHOWN]:
        say(f"note: {picture.dataset}: {picture.problem}")
    parts = divide(scored, finding.overlap) if scored else []
    if task.write_ids:
        write_lists(task.write_ids, finding.overlap)
    with console.data_stream() as stream:
        stream.write(_json(audit, finding, parts) if json else "\n".join(_tables(audit, finding, parts)))
    overlap = finding.overlap
    if task.write_ids:
        kind = "clean" if overlap.verified else "unverified"
        say(f"{task.write_ids}: {len(overlap.clean):,} {kind} and {len(overlap.overlap):,} overlapping sample ids")
    if not overlap.verified:
        console.say(_warning(overlap, task))
    if task.fail_on_overlap and finding.overlap.shared:
        raise typer.Exit(ExitCode.OVERLAP)
    if finding.unreadable or not overlap.verified:
        raise typer.Exit(ExitCode.SOME_FAILED)


def _warning(overlap: Overlap, task: Task) -> str:
    """What must be known before a list of clean samples is trusted; said with --quiet too."""
    ids = f", and {CLEAN} is not written: {UNVERIFIED} has what was not found" if task.write_ids else ""
    pictures = f"{overlap.uncompared:,} training picture{'s' if overlap.uncompared != 1 else ''}"
    return f"warning: {pictures} could not be compared, so no sample is known to be clean{ids}"


def _look(audit: Audit, task: Task, *, quiet: bool) -> Finding:
    with progress(audit.pictures, "pictures", quiet=quiet or not audit.pictures) as shown:

        def tell(look: Look) -> None:
            shown.step(failed=bool(look.problem))

        return audit.run(radius=task.radius, workers=task.workers, tell=tell)


# ---------------------------------------------------------------- for people


def _tables(audit: Audit, finding: Finding, parts: list[Parts]) -> Iterator[str]:
    width = terminal_width(sys.stdout)
    head = ("", "set", "pictures", "refs", "expressions")
    sides = [("trained on", found) for found in audit.training] + [("evaluated", audit.evaluation)]
    yield table(
        head,
        [(side, s.name, _n(len(s.pictures)), _n(s.refs) if _texts(s) else "-", _n(_texts(s))) for side, s in sides],
        width=width,
    )
    yield table(("", "", "of", ""), list(_found(finding.overlap, len(finding.unreadable))), width=width)
    if finding.splits:
        rows = [(s.dataset, " and ".join(s.splits), _n(len(s.image_ids)), _some(s.image_ids)) for s in finding.splits]
        yield table(("splits that share pictures", "", "pictures", ""), rows, width=width)
    for part in parts:
        doubt = "" if finding.overlap.verified else " (clean is not verified)"
        yield f"{part.result.name}{doubt}\n" + _scores(part)


def _texts(found: PictureSet) -> int:
    return len({(entry.ref, text) for entry in found.entries for text in entry.sentences})


def _found(overlap: Overlap, unreadable: int) -> Iterator[tuple[str, str, str, str]]:
    def row(name: str, count: int, of: int) -> tuple[str, str, str, str]:
        return name, _n(count), _n(of), f"{count / of:.1%}" if of else "-"

    yield row("shared pictures", overlap.shared, overlap.pictures)
    for method in overlap.methods if len(overlap.methods) > 1 else ():
        within = f" within {overlap.radius} bits" if method == Method.HASH else ""
        yield row(f"  by {method}{within}", overlap.shared_by[method], overlap.pictures)
    yield row("  of the training pictures", overlap.found_trained, overlap.trained_pictures)
    for name, found in (("asked", overlap.asked), ("all sentences", overlap.sentences)):
        if found.expressions:
            yield row(f"verbatim expressions, {name}", found.anywhere, found.expressions)
            yield row("  on the same picture", found.same_picture, found.expressions)
    refs = overlap.clean_refs + overlap.overlap_refs
    doubt = "" if overlap.verified else " (not verified)"
    yield row(f"clean refs{doubt}", overlap.clean_refs, refs)
    yield row("overlapping refs", overlap.overlap_refs, refs)
    samples = len(overlap.clean) + len(overlap.overlap) + len(overlap.unknown)
    if samples != refs:
        yield row(f"clean samples{doubt}", len(overlap.clean), samples)
        yield row("overlapping samples", len(overlap.overlap), samples)
    if overlap.unknown:
        yield row("samples that could not be compared", len(overlap.unknown), samples)
    if overlap.uncompared:
        yield "training pictures not compared", _n(overlap.uncompared), "", ""
    if overlap.plain:
        yield "too plain to hash", _n(overlap.plain), "", ""
    if unreadable:
        yield "unreadable pictures", _n(unreadable), "", ""


def _scores(part: Parts) -> str:
    """Metrics of the whole and of both parts, and what each part weighs in cIoU."""
    columns = {
        "all": part.whole,
        **{name: part.whole.groups[name] for name in ("clean", "overlap") if name in part.whole.groups},
    }
    rows: list[tuple[str, ...]] = [
        ("samples", *(_n(summary.composition.samples) for summary in columns.values())),
        ("union area, pixels", *(_n(summary.composition.union_area) for summary in columns.values())),
        ("  share", *(_share(s.composition.union_area, part.whole.composition.union_area) for s in columns.values())),
    ]
    headline = [name for name in part.result.protocol["headline"] if name in part.whole.metrics]
    for name in headline:
        found = [summary.metrics.get(name) for summary in columns.values()]
        rows.append((name, *(f"{e.value:.4f} [{e.low:.3f}, {e.high:.3f}]" if e else "-" for e in found)))
    if part.unscored or part.unknown:
        rows.append(("not scored", _n(part.unscored)))
        rows.append(("scored, not audited", _n(part.unknown)))
    full = len(columns) + 1
    cells = [(*row, *("",) * (full - len(row))) for row in rows]
    return table(("", *columns), cells, width=terminal_width(sys.stdout))


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _n(number: int) -> str:
    return f"{number:,}"


def _some(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers[:_SHOWN])) + (", …" if len(numbers) > _SHOWN else "")


# ---------------------------------------------------------------- for programs


def _json(audit: Audit, finding: Finding, parts: list[Parts]) -> str:
    overlap = finding.overlap
    value = {
        "training": [_set_json(found) for found in audit.training],
        "evaluation": _set_json(audit.evaluation),
        "methods": overlap.methods,
        "radius": overlap.radius,
        "train_pictures": overlap.trained_pictures,
        "train_pictures_shared": overlap.found_trained,
        "pictures": overlap.pictures,
        "pictures_shared": overlap.shared,
        "share": overlap.shared / overlap.pictures,
        "pictures_shared_by": {str(method): number for method, number in overlap.shared_by.items()},
        "verbatim": {"asked": overlap.asked._asdict(), "sentences": overlap.sentences._asdict()},
        "clean_verified": overlap.verified,
        "train_uncompared": overlap.uncompared,
        "clean_refs": overlap.clean_refs,
        "overlap_refs": overlap.overlap_refs,
        "clean_samples": len(overlap.clean),
        "overlap_samples": len(overlap.overlap),
        "unknown_samples": len(overlap.unknown),
        "too_plain_to_hash": overlap.plain,
        "splits": [shared._asdict() for shared in finding.splits],
        "unreadable": [picture._asdict() for picture in finding.unreadable],
        "notes": list(audit.notes),
        "scores": [
            {"result": part.result.name, "protocol": part.result.protocol, "summary": summary_to_json(part.whole)}
            | {"unscored": part.unscored, "unknown": part.unknown}
            for part in parts
        ],
    }
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def _set_json(found: PictureSet) -> dict[str, Any]:
    return {"name": found.name, "pictures": len(found.pictures), "refs": found.refs, "expressions": _texts(found)}
