"""The page of evaluations: headline metrics, where they come from, and samples worth looking at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gensegcli.errors import GensegError
from gensegcli.evaluate.report import figures, formats, gallery, layout, tables
from gensegcli.evaluate.report.markup import Markup, element, together
from gensegcli.evaluate.report.paired import paired
from gensegcli.evaluate.report.sections import apart, model_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gensegcli.evaluate.report.gallery import Card
    from gensegcli.evaluate.report.markup import Child
    from gensegcli.evaluate.report.sections import Entry, Section
    from gensegcli.evaluate.report.tables import Table
    from gensegcli.metrics.records import SampleScore
    from gensegcli.records import Prediction

PICTURES = 8_000_000
"""Characters of pictures in a page, all galleries together."""


@dataclass(frozen=True)
class Options:
    """What is on the page.

    Attributes:
        compared: systems whose published numbers stand beside the runs.
        samples: of each gallery at most so many; 0 for no galleries.
        tell: is told what could not be shown, one line each.
    """

    compared: Sequence[str] = ()
    samples: int = 6
    tell: Callable[[str], None] = lambda _line: None


def evaluation_page(sections: Sequence[Section], options: Options) -> str:
    """The page of some evaluations."""
    total = sum(len(section.entries) for section in sections)
    note = apart(sections)
    links = [element("a", section.title, href=f"#s{number}") for number, section in enumerate(sections, start=1)]
    body = [
        layout.callout(note) if note else None,
        *(_section(section, number, options, PICTURES // total) for number, section in enumerate(sections, start=1)),
    ]
    return layout.page(_title(sections), "Evaluation report", links if len(links) > 1 else (), body)


def _title(sections: Sequence[Section]) -> str:
    entries = [entry for section in sections for entry in section.entries]
    sets = list(dict.fromkeys(section.data.name for section in sections))
    models = list(dict.fromkeys(model_name(entry.result) for entry in entries))
    what = models[0] if len(models) == 1 else f"{len(models)} models"
    return f"{what} on {sets[0] if len(sets) == 1 else f'{len(sets)} data sets'}"


# ---------------------------------------------------------------- a section


def _section(section: Section, number: int, options: Options, room: int) -> Markup:
    scores = {entry.name: entry.run.scores(entry.result) for entry in section.entries}
    nothing = formats.nothing_published(section, options.compared)
    notes = [*section.notes(), *([nothing] if nothing else [])]
    return element(
        "section",
        element(
            "h2", element("span", section.data.name, dir="auto"), layout.chip(f"protocol {section.protocol['name']}")
        ),
        element("p", section.about(), class_="lead", dir="auto"),
        _composition(section),
        *map(layout.callout, notes),
        *_headline(section),
        element("p", f"Below each value: {section.intervals()}, by bootstrap.", class_="muted small"),
        layout.table(tables.differences(section, pairs)) if (pairs := paired(section)) else None,
        *(layout.table(found) for found in formats.comparisons(section, options.compared)),
        element("h3", "Where the score comes from"),
        element("div", *_figures(section, scores), class_="figures"),
        *(layout.table(found, compact=True) for found in _groups(section)),
        _further(section) if section.further else None,
        layout.table(tables.refusals(section)),
        *(_galleries(entry, scores[entry.name], options, room) for entry in section.entries if options.samples),
        *_provenance(section),
        id=f"s{number}",
    )


def _further(section: Section) -> Markup:
    if len(section.entries) > 1:
        return layout.table(tables.metrics(section, section.further, "Further metrics"))
    found = section.entries[0].result.summary.metrics
    tiles = element("div", *(layout.tile(name, found[name]) for name in section.further), class_="tiles small")
    return together([element("h3", "Further metrics"), tiles])


def _composition(section: Section) -> Markup:
    found = tables.composition(section)
    (row,) = found.rows
    return layout.facts(dict(zip(found.head[1:], map(formats.value, row.cells), strict=True)))


def _headline(section: Section) -> Iterator[Markup]:
    if len(section.entries) > 1:
        yield layout.table(tables.metrics(section, section.headline, "Headline metrics with 95 % intervals"))
        return
    (entry,) = section.entries
    found = entry.result.summary.metrics
    tiles = [layout.tile(name, found[name]) for name in section.headline]
    yield element("div", *tiles, class_="tiles") if tiles else element("p", "No metric has a sample to stand on.")


def _groups(section: Section) -> Iterator[Table]:
    for entry in section.entries:
        if found := tables.groups(section, entry):
            yield found


def _figures(section: Section, scores: Mapping[str, Sequence[SampleScore]]) -> Iterator[Markup | None]:
    found = {name: figures.overlaps(rows, section.protocol) for name, rows in scores.items()}
    yield figures.precision_curve(found)
    yield figures.responses(scores)
    yield figures.reliability(scores)
    for colour, (name, values) in enumerate(found.items()):
        yield figures.iou_histogram(name, values, colour)


# ---------------------------------------------------------------- galleries


def _galleries(entry: Entry, scores: Sequence[SampleScore], options: Options, room: int) -> Markup | None:
    chosen = gallery.choose(scores, options.samples)
    if not chosen.ids:
        return None
    try:
        rows = _rows(entry, chosen.all())
    except GensegError as error:
        options.tell(f"{entry.name}: no galleries: {error.message}")
        return layout.callout(f"No galleries for {entry.name}: {error.message}.")
    budget = gallery.Budget(room)
    parts: list[Child] = [element("h3", "Samples: ", element("span", entry.name, dir="auto"))]
    for name, title in gallery.TITLES.items():
        ids = chosen.ids.get(name, ())
        cards = [_card(gallery.card(rows[id_], budget)) for id_ in ids if id_ in rows]
        if cards:
            parts += [element("h4", title), element("div", *cards, class_="cards")]
    return element("div", *parts, class_="gallery")


def _rows(entry: Entry, ids: frozenset[str]) -> dict[str, gallery.Row]:
    found = entry.run.samples()
    if found.digest != entry.result.data.digest:
        raise GensegError(f"{found.path} is no longer what was scored: digest {entry.result.data.digest} expected")
    return {row.score.id: row for row in entry.run.rows(entry.result, ids)}


def _card(card: Card) -> Markup:
    sample, prediction, _ = card.row
    pictures = [
        element(
            "figure",
            element("img", src=source, alt=f"{label}: {sample.query}", loading="lazy"),
            element("figcaption", label),
        )
        for label, source in (("prediction", card.predicted), ("truth", card.true))
        if source is not None
    ]
    think = _thoughts(prediction)
    refusal = prediction.refusal if prediction is not None else None
    return element(
        "article",
        element("div", *pictures, class_=f"pair n{len(pictures)}"),
        element("p", sample.query, class_="query", dir="auto"),
        element("p", *_verdict(card), class_="verdict"),
        element("p", refusal.detail, class_="muted small", dir="auto") if refusal and refusal.detail else None,
        element("p", card.problem, class_="muted small") if card.problem else None,
        layout.long_text("Think", think) if think else None,
        layout.long_text("Answer", prediction.raw) if prediction is not None and refusal is not None else None,
        element("p", sample.id, class_="id", dir="auto"),
        class_="card",
    )


def _thoughts(prediction: Prediction | None) -> str | None:
    if prediction is None:
        return None
    if prediction.refusal is not None:
        return prediction.refusal.think
    return prediction.think


def _verdict(card: Card) -> Iterator[Child]:
    sample, prediction, score = card.row
    overlap = score.iou if score.iou is not None else score.box_iou
    there = "nothing is there" if sample.no_target else f"{len(sample.targets)} there"
    if overlap is not None:
        yield element("b", f"{'IoU' if score.iou is not None else 'box IoU'} {overlap:.3f}")
    if prediction is None:
        yield layout.chip("no prediction")
    elif score.refusal is not None:
        yield layout.chip(f"refused: {score.refusal}")
    elif score.abstained:
        yield layout.chip("said that nothing matches")
    else:
        there = f"{score.predicted_instances} found, {there}"
    yield element("span", there)


# ---------------------------------------------------------------- provenance


def _provenance(section: Section) -> Iterator[Markup]:
    yield element("h3", "How it was measured")
    yield layout.folded(f"Conventions of protocol {section.protocol['name']}", section.protocol)
    if found := tables.speed(section):
        yield layout.table(found)
    for entry in section.entries:
        result = entry.result
        facts = {
            "folder": str(entry.run.folder),
            **result.model_dump(mode="json", include={"model", "segmenter", "given", "mode", "data", "versions"}),
            "run": entry.run.run,
        }
        yield layout.folded(f"Settings, models and versions: {entry.name}", facts)
