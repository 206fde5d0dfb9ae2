"""Numbers that others have published, and the caveats without which they must not stand beside one's own."""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from gensegcli.errors import unknown_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ALL = "all"
"""In place of a system's name: every system."""


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """One table of one source. Values are shares in [0, 1], None where the source has no number."""

    title: str
    source: str
    data: str
    """The data set, as recipes call it."""
    split: str
    protocol: str
    """The protocol that comes nearest to how the source measured."""
    samples: int
    unit: str
    """What one of these samples is."""
    caveats: tuple[str, ...]
    columns: tuple[str, ...]
    """Metrics; `clean/cIoU` is the metric of a group."""
    rows: Mapping[str, tuple[float | None, ...]]


@cache
def published_tables() -> tuple[PublishedTable, ...]:
    """Everything that ships with the package."""
    text = files("gensegcli.evaluate.report").joinpath("published.toml").read_text(encoding="utf-8")
    return tuple(_table(entry) for entry in tomllib.loads(text)["table"])


def systems() -> tuple[str, ...]:
    """The names that `--against` takes.

    >>> "genseg-r1-g" in systems()
    True
    """
    return tuple(sorted({slug(name) for table in published_tables() for name in table.rows}))


def against(wanted: Sequence[str]) -> list[PublishedTable]:
    """The tables that have rows of the systems asked for, each reduced to those rows.

    Args:
        wanted: names of systems, or how names begin (`genseg-r1` is all of its sizes), or `all`.

    Raises:
        GensegError: a name that no system has.
    """
    for name in wanted:
        if not any(_named(name, system) for system in systems()):
            raise unknown_name("published system", name, [ALL, *systems()])
    found = []
    for table in published_tables():
        rows = {system: row for system, row in table.rows.items() if any(_named(name, slug(system)) for name in wanted)}
        if rows:
            found.append(replace(table, rows=rows))
    return found


def slug(name: str) -> str:
    """A name as it is typed: lower case, words joined by hyphens.

    >>> slug("GenSeg-R1-4B, box+2"), slug("RefCOCO+")
    ('genseg-r1-4b-box+2', 'refcoco+')
    """
    return re.sub(r"[^a-z0-9.+]+", "-", name.lower()).strip("-")


def _named(name: str, system: str) -> bool:
    name = slug(name)
    return name in (ALL, system) or system.startswith(f"{name}-")


def _table(entry: dict[str, Any]) -> PublishedTable:
    facts: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
    # TOML has no null.
    facts["rows"] = {
        name: tuple(None if math.isnan(value) else value for value in row) for name, row in entry["rows"].items()
    }
    return PublishedTable(**facts)
