"""What `genseg prep RECIPE` does once its options are read: plan or prepare, and tell about it."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from gensegcli.cli import console
from gensegcli.cli.progress import progress
from gensegcli.cli.tables import table, terminal_width
from gensegcli.prep.card import compared, differences, unexpected
from gensegcli.prep.inputs import Inputs, read_raw
from gensegcli.prep.recipe import Recipe
from gensegcli.prep.run import SKIPPED, Progress, Report, prepare
from gensegcli.prep.select import Draw, candidates, shortage, stratum

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from gensegcli.prep.build import Filter
    from gensegcli.sources.raw import RawSet


@dataclass(frozen=True)
class Task:
    """Everything the command was asked."""

    recipe: Recipe
    inputs: Inputs
    out: Path
    workers: int | None
    max_skipped: float
    min_prompt_iou: float | None
    segmenter: str | None


def run(task: Task, *, restart: bool, dry_run: bool, json: bool, quiet: bool) -> None:
    """Prepare the set, or with `dry_run` say what would be done."""
    say = (lambda _text: None) if quiet else console.say
    say(f"reading {task.recipe.name} {task.recipe.split} …")
    raw = read_raw(task.recipe, task.inputs)
    for name, counts in sorted(raw.splits.items()):
        say(f"  {name}: {', '.join(_counted(number, unit) for unit, number in counts._asdict().items())}")
    for note in raw.notes:
        say(f"  note: {note}")
    if dry_run:
        _emit(_plan(task, raw), json=json)
        return
    wanted, wanted_name = _filter(task)
    workers = task.workers or cores()
    with telling(quiet=quiet) as tell:
        report = prepare(
            task.recipe,
            raw,
            task.out,
            workers=workers,
            restart=restart,
            max_skipped=task.max_skipped,
            wanted=wanted,
            wanted_name=wanted_name,
            tell=tell,
        )
    _emit(_summary(task, report), json=json)
    # What the raw files hold and what is published of it stands in the table.
    lines = differences(task.recipe, report.card) if json else unexpected(task.recipe, report.card)
    for line in (*lines, *(note for note in report.card["notes"] if note not in raw.notes)):
        say(f"note: {line}")


def _counted(number: int, units: str) -> str:
    """A number with its unit, which is given in the plural."""
    return f"{number:,} {units if number != 1 else units.removesuffix('s')}"


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _filter(task: Task) -> tuple[Filter | None, str]:
    if task.min_prompt_iou is None:
        return None, ""
    from gensegcli.models import resolve_segmenter
    from gensegcli.prep.quality import PromptFilter
    from gensegcli.segmenter import load_segmenter

    name = task.segmenter or "sam2-large"
    segmenter = load_segmenter(resolve_segmenter(name))
    return PromptFilter(segmenter, task.min_prompt_iou), f"{name} {segmenter.revision} >= {task.min_prompt_iou:g}"


@contextmanager
def telling(*, quiet: bool) -> Generator[Callable[[Progress], None]]:
    """What shows a preparation's progress."""
    with progress(None, "samples", quiet=quiet) as shown:
        yield lambda state: shown.reach(state.done, state.planned)


def _plan(task: Task, raw: RawSet) -> dict[str, Any]:
    works, skips = candidates(raw.refs, task.recipe)
    chosen = works
    if task.recipe.select.count:
        draw = Draw(works, task.recipe.select)
        quota = draw.quota()
        chosen = draw.take(quota)
        problem = shortage(quota, chosen, works)
        if problem:
            raise problem
    kinds = [stratum(work.ref) for work in chosen]
    return {
        "recipe": task.recipe.name,
        "split": task.recipe.split,
        "for": task.recipe.purpose,
        "digest": task.recipe.digest,
        "samples": len(chosen),
        "no_target": kinds.count("no_target"),
        "single_target": kinds.count("single"),
        "multi_target": kinds.count("multi"),
        "pictures": len({work.picture_key for work in chosen}),
        "unusable": len(skips),
        "out": str(task.out),
    }


def _summary(task: Task, report: Report) -> dict[str, Any]:
    card = report.card
    return {
        "out": str(report.folder),
        **card["counts"],
        "skipped": card["skipped"],
        "filtered": card["filtered"],
        "shards": len(card["shards"]),
        "digest": card["recipe_digest"],
        "raw": {unit: {"found": found, "published": told} for unit, found, told in compared(task.recipe, card)},
        **({"skipped_file": str(report.folder / SKIPPED)} if report.skips or report.filtered else {}),
    }


def _emit(value: dict[str, Any], *, json: bool) -> None:
    if json:
        sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        return
    raw = value.pop("raw", {})
    width = terminal_width(sys.stdout)
    sys.stdout.write(table(("", ""), _rows(value), width=width).removeprefix("\n"))
    if raw:
        sys.stdout.write("\n")
        sys.stdout.write(
            table(
                ("raw split", "found", "published"),
                [(u, r["found"], r["published"]) for u, r in raw.items()],
                width=width,
            )
        )


def _rows(value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The summary in words, a row for each number."""
    for key, found in value.items():
        if key == "objects_by_negative_points":
            for points, number in found.items():
                yield f"objects with {points} negative points", f"{number:,}"
        elif isinstance(found, dict):
            yield key, ", ".join(f"{reason} {number:,}" for reason, number in found.items()) or "none"
        else:
            yield key.replace("_", " "), f"{found:,}" if isinstance(found, int) else found
