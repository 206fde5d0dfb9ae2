"""One HTML page that holds everything: no script, no request, light and dark, for the screen and for paper.

A content security policy in the page forbids what the page does not do: even a text that got past the escaping could
neither run nor fetch anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from gensegcli import __version__
from gensegcli.errors import GensegError
from gensegcli.evaluate.report import figures, formats, gallery, plots, tables
from gensegcli.evaluate.report.markup import Markup, document, element, stylesheet, together
from gensegcli.evaluate.report.sections import apart, model_name
from gensegcli.metrics.records import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from gensegcli.evaluate.report.gallery import Card
    from gensegcli.evaluate.report.markup import Child
    from gensegcli.evaluate.report.sections import Entry, Section
    from gensegcli.evaluate.report.tables import Cell, Table
    from gensegcli.metrics.records import SampleScore
    from gensegcli.records import Prediction

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
PICTURES = 8_000_000
"""Characters of pictures in a page, all galleries together."""
LONGEST = 2_400
"""Characters of a think text or an answer that are shown."""


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
        element("p", note, class_="callout") if note else None,
        *(_section(section, number, options, PICTURES // total) for number, section in enumerate(sections, start=1)),
    ]
    return page(_title(sections), "Evaluation report", links if len(links) > 1 else (), body)


def _title(sections: Sequence[Section]) -> str:
    entries = [entry for section in sections for entry in section.entries]
    sets = list(dict.fromkeys(section.data.name for section in sections))
    models = list(dict.fromkeys(model_name(entry.result) for entry in entries))
    what = models[0] if len(models) == 1 else f"{len(models)} models"
    return f"{what} on {sets[0] if len(sets) == 1 else f'{len(sets)} data sets'}"


def page(title: str, kind: str, links: Sequence[Markup], body: Iterable[Child]) -> str:
    """A whole page around its content."""
    css = files("gensegcli.evaluate.report").joinpath("style.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="generator", content=f"genseg {__version__}"),
        element("title", f"{title} · genseg"),
        stylesheet(css),
    )
    header = element(
        "header",
        element("p", element("span", "genseg", class_="brand"), kind, class_="kind"),
        element("h1", title, dir="auto"),
        element("nav", *links, aria_label="Sections") if links else None,
    )
    return document(
        element(
            "html",
            head,
            element(
                "body",
                element("a", "Skip to the results", href="#results", class_="skip"),
                header,
                element("main", *body, id="results"),
                element(
                    "footer", element("p", f"Made with genseg {__version__}. Values in brackets are 95 % intervals.")
                ),
            ),
            lang="en",
        )
    )


# ---------------------------------------------------------------- a section


def _section(section: Section, number: int, options: Options, room: int) -> Markup:
    scores = {entry.name: entry.run.scores(entry.result) for entry in section.entries}
    nothing = formats.nothing_published(section, options.compared)
    notes = [*section.notes(), *([nothing] if nothing else [])]
    return element(
        "section",
        element("h2", element("span", section.data.name, dir="auto"), _chip(f"protocol {section.protocol['name']}")),
        element("p", f"{section.choice()} · {section.common()}", class_="lead", dir="auto"),
        _facts(section),
        *(element("p", note, class_="callout", dir="auto") for note in notes),
        *_headline(section),
        *(table(found) for found in formats.comparisons(section, options.compared)),
        element("h3", "Where the score comes from"),
        element("div", *_figures(section, scores), class_="figures"),
        *(table(found, compact=True) for found in _groups(section)),
        _further(section) if section.further else None,
        table(tables.refusals(section)),
        *(_galleries(entry, scores[entry.name], options, room) for entry in section.entries if options.samples),
        *_provenance(section),
        id=f"s{number}",
    )


def _further(section: Section) -> Markup:
    if len(section.entries) > 1:
        return table(tables.metrics(section, section.further, "Further metrics"))
    found = section.entries[0].result.summary.metrics
    tiles = element("div", *(_tile(name, found[name]) for name in section.further), class_="tiles small")
    return together([element("h3", "Further metrics"), tiles])


def _facts(section: Section) -> Markup:
    found = tables.composition(section)
    (row,) = found.rows
    items = [
        element("div", element("dt", name), element("dd", formats.value(cell)))
        for name, cell in zip(found.head[1:], row.cells, strict=True)
    ]
    return element("dl", *items, class_="facts")


def _headline(section: Section) -> Iterator[Markup]:
    if len(section.entries) > 1:
        yield table(tables.metrics(section, section.headline, "Headline metrics with 95 % intervals"))
        return
    (entry,) = section.entries
    found = entry.result.summary.metrics
    tiles = [_tile(name, found[name]) for name in section.headline]
    yield element("div", *tiles, class_="tiles") if tiles else element("p", "No metric has a sample to stand on.")


def _tile(name: str, found: Estimate) -> Markup:
    low, high = formats.bounds(found) or ("", "")
    return element(
        "div",
        element("span", name, class_="name"),
        element("span", formats.value(found), class_="value"),
        plots.interval(found.value, found.low, found.high) if _is_share(found) else None,
        element("span", f"{low} – {high}", class_="bounds"),
        class_="tile",
    )


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


# ---------------------------------------------------------------- tables


def table(content: Table, *, compact: bool = False) -> Markup:
    """A table that scrolls by itself where the page is narrow, its title above and its notes below.

    Args:
        content: what stands in it.
        compact: smaller, without a drawing of each interval; for many columns.
    """
    head = element("tr", *(element("th", name, scope="col") for name in content.head))
    body = (
        element(
            "tr",
            element("th", row.name, scope="row", dir="auto"),
            *(element("td", *_cell(cell, drawn=not compact)) for cell in row.cells),
            class_="published" if row.published else None,
        )
        for row in content.rows
    )
    shown = element(
        "table",
        element("thead", head),
        element("tbody", *body),
        aria_label=content.title,
        class_="compact" if compact else None,
    )
    return element(
        "div",
        element("p", content.title, class_="caption", dir="auto"),
        # Reachable by keyboard, or what lies beyond the edge could not be scrolled to.
        element("div", shown, class_="scroll", role="region", tabindex=0, aria_label=content.title),
        element("ul", *(element("li", note) for note in content.notes), class_="notes") if content.notes else None,
    )


def _cell(cell: Cell, *, drawn: bool) -> Iterator[Child]:
    yield element("span", formats.value(cell), class_="value")
    ends = formats.bounds(cell)
    if ends and isinstance(cell, Estimate):
        yield element("span", f"{ends[0]}–{ends[1]}", class_="bounds")
        if drawn and _is_share(cell):
            yield plots.interval(cell.value, cell.low, cell.high)


def _is_share(found: Estimate) -> bool:
    return 0 <= found.low <= found.high <= 1


def _chip(text: str) -> Markup:
    return element("span", text, class_="chip")


# ---------------------------------------------------------------- galleries


def _galleries(entry: Entry, scores: Sequence[SampleScore], options: Options, room: int) -> Markup | None:
    chosen = gallery.choose(scores, options.samples)
    if not chosen.ids:
        return None
    try:
        rows = _rows(entry, chosen.all())
    except GensegError as error:
        options.tell(f"{entry.name}: no galleries: {error.message}")
        return element("p", f"No galleries for {entry.name}: {error.message}.", class_="callout", dir="auto")
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
    sample, prediction, score = card.row
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
    return element(
        "article",
        element("div", *pictures, class_=f"pair n{len(pictures)}"),
        element("p", sample.query, class_="query", dir="auto"),
        element("p", *_verdict(card), class_="verdict"),
        element("p", card.problem, class_="muted") if card.problem else None,
        _long("Think", think) if think else None,
        _long("Answer", prediction.raw) if prediction is not None and score.refusal is not None else None,
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
        yield _chip("no prediction")
    elif score.refusal is not None:
        detail = prediction.refusal.detail if prediction.refusal else ""
        yield _chip(f"refused: {score.refusal}")
        yield element("span", detail, dir="auto") if detail else None
    elif score.abstained:
        yield _chip("said that nothing matches")
    else:
        there = f"{score.predicted_instances} found, {there}"
    yield element("span", there)


def _long(name: str, text: str) -> Markup:
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text) - LONGEST:,} more characters)"
    return element("details", element("summary", name), element("p", shown, class_="long", dir="auto"))


# ---------------------------------------------------------------- provenance


def _provenance(section: Section) -> Iterator[Markup]:
    yield element("h3", "How it was measured")
    yield _folded(f"Conventions of protocol {section.protocol['name']}", section.protocol)
    if found := tables.speed(section):
        yield table(found)
    for entry in section.entries:
        result = entry.result
        facts = {
            "folder": str(entry.run.folder),
            **result.model_dump(mode="json", include={"model", "segmenter", "given", "mode", "data", "versions"}),
            "run": entry.run.run,
        }
        yield _folded(entry.name, facts)


def _folded(name: str, facts: Mapping[str, Any]) -> Markup:
    rows = (
        element("tr", element("th", key, scope="row", dir="auto"), element("td", value, dir="auto"))
        for key, value in _leaves(facts)
    )
    content = element("div", element("table", element("tbody", *rows), class_="facts-table"), class_="scroll")
    return element("details", element("summary", name, dir="auto"), content)


def _leaves(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """`model.name` and its value, for everything in nested mappings that is not empty."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        if value:
            yield key, ", ".join(map(str, value))
    elif value not in (None, ""):
        yield key, str(value)
