"""Which results may stand in one table: those over the same samples, under the same conventions. Others are kept apart."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import orjson

from gensegcli.metrics.protocols import PROTOCOLS
from gensegcli.store import differences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gensegcli.evaluate.results import DataFacts, EvalRun, Result
    from gensegcli.metrics.records import Composition


@dataclass(frozen=True)
class Entry:
    """One result of one run, under a name that no other result in its section has."""

    name: str
    run: EvalRun
    result: Result


@dataclass(frozen=True)
class Section:
    """Results that compare: the same samples, the same protocol in every convention."""

    data: DataFacts
    protocol: dict[str, Any]
    entries: tuple[Entry, ...]

    @property
    def title(self) -> str:
        return f"{self.data.name}, protocol {self.protocol['name']}"

    @property
    def composition(self) -> Composition:
        return self.entries[0].result.summary.composition

    @property
    def headline(self) -> tuple[str, ...]:
        """The protocol's headline metrics that any entry has."""
        return tuple(name for name in self.protocol.get("headline", ()) if name in self._metrics)

    @property
    def further(self) -> tuple[str, ...]:
        """All other metrics, in the order in which they were summarised."""
        return tuple(name for name in self._metrics if name not in self.headline)

    @property
    def _metrics(self) -> dict[str, None]:
        return dict.fromkeys(name for entry in self.entries for name in entry.result.summary.metrics)

    def choice(self) -> str:
        """Which samples were scored, in words."""
        of, counts = self.data, self.composition
        parts = [f"{counts.samples:,} of {of.samples:,} samples" if counts.samples != of.samples else "all samples"]
        if of.limit is not None:
            parts.append(f"the first {of.limit:,} refs")
        if of.subset is not None:
            parts.append(f"those listed in {PurePath(of.subset).name}")
        return ", ".join(parts)

    def common(self) -> str:
        """Model, segmenter and mode where all entries share them."""
        results = [entry.result for entry in self.entries]
        shared = [
            (model_name, "model"),
            (segmenter_name, "segmenter"),
            (lambda result: result.mode or "", "prompted with"),
        ]
        values = ((word, {of(result) for result in results}) for of, word in shared)
        return " · ".join(f"{word} {next(iter(found))}" for word, found in values if len(found) == 1 and found != {""})

    def about(self) -> str:
        """Which samples were scored, and what all entries share."""
        return " · ".join(filter(None, (self.choice(), self.common())))

    def intervals(self) -> str:
        """What the intervals are, in words.

        Results of versions that drew samples whatever they shared say so; one section may hold both.
        """
        drawn = sorted({str(entry.result.summary.drawn) for entry in self.entries})
        return f"95 % intervals over {' or '.join(drawn)}"

    def notes(self) -> tuple[str, ...]:
        """What a reader of the tables must know."""
        name = self.protocol["name"]
        found = list(self.data.notes)
        if name not in PROTOCOLS:
            found.append(f"protocol {name} is none of this version; its conventions are as recorded")
        else:
            changed = differences(PROTOCOLS[name].to_json(), self.protocol)
            found += [f"differs from protocol {name} as named: {change}" for change in changed]
        for entry in self.entries:
            if entry.result.missing:
                count = entry.result.missing
                found.append(f"{entry.name}: {count:,} samples without a prediction count as empty answers")
            found += [f"{entry.name}: {note}" for note in entry.result.notes]
        return tuple(found)


def sections(runs: Sequence[EvalRun]) -> list[Section]:
    """Every result of every run, sorted into sections in the order of first appearance."""
    groups: dict[tuple[object, ...], list[tuple[EvalRun, Result]]] = {}
    for run in runs:
        for result in run.results:
            groups.setdefault(_key(result), []).append((run, result))
    return [
        Section(members[0][1].data, members[0][1].protocol, tuple(_entries(members))) for members in groups.values()
    ]


def apart(found: Sequence[Section]) -> str | None:
    """Why there is more than one section, for the head of a report; None if there is one."""
    if len(found) < 2:
        return None
    protocols = sorted({section.protocol["name"] for section in found})
    sets = sorted({f"{section.data.name} ({section.choice()})" for section in found})
    reasons = [
        f"{len(names)} {what} ({', '.join(names)})"
        for what, names in (("protocols", protocols), ("choices of data", sets))
        if len(names) > 1
    ]
    because = " and ".join(reasons) or "conventions or versions of the data that differ"
    return f"Results over {because} are kept in tables of their own: their numbers do not compare."


def _key(result: Result) -> tuple[object, ...]:
    conventions = orjson.dumps(result.protocol, option=orjson.OPT_SORT_KEYS)
    data = result.data
    return conventions, data.digest, data.limit, data.chosen, result.summary.composition.samples


def _entries(members: Sequence[tuple[EvalRun, Result]]) -> list[Entry]:
    """Entries named by what tells them apart: model, mode, segmenter, folder, as many of these as it takes."""
    parts = [
        (model_name(result), result.mode or "given masks", segmenter_name(result), run.folder.name)
        for run, result in members
    ]
    telling: list[int] = []
    for index in range(4):
        differs = len({part[index] for part in parts}) > 1
        if differs and len({tuple(part[i] for i in telling) for part in parts}) < len(parts):
            telling.append(index)
    names = [" · ".join(part[index] for index in telling or [0]) for part in parts]
    again = Counter(names)
    return [
        Entry(name if again[name] == 1 else f"{name} · {number}", run, result)
        for number, (name, (run, result)) in enumerate(zip(names, members, strict=True), start=1)
    ]


def model_name(result: Result) -> str:
    """The telling part of the model's name, or of the file of predictions that were given."""
    if result.model is not None:
        return _last(result.model.id)
    return PurePath(result.given or "given").name


def segmenter_name(result: Result) -> str:
    """The telling part of the segmenter's name; empty where masks were given."""
    return _last(result.segmenter.id) if result.segmenter else ""


def _last(name: str) -> str:
    return PurePath(name).name or name
