"""What every page has in common: its frame, tables, tiles, and texts that fold away.

A content security policy in the page forbids what the page does not do: even a text that got past the escaping could
neither run nor fetch anything.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from gensegcli import __version__
from gensegcli.evaluate.report import formats, plots
from gensegcli.evaluate.report.markup import Markup, document, element, stylesheet
from gensegcli.metrics.records import Difference, Estimate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gensegcli.evaluate.report.markup import Child
    from gensegcli.evaluate.report.tables import Cell, Table

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
LONGEST = 2_400
"""Characters of a think text or an answer that are shown."""


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
                element("footer", element("p", f"Made with genseg {__version__}.")),
            ),
            lang="en",
        )
    )


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
        if drawn and _is_share(cell) and not isinstance(cell, Difference):
            yield plots.interval(cell.value, cell.low, cell.high)


def _is_share(found: Estimate) -> bool:
    return 0 <= found.low <= found.high <= 1


def chip(text: str) -> Markup:
    """A short label."""
    return element("span", text, class_="chip")


def callout(text: str) -> Markup:
    """A note that must not be missed."""
    return element("p", text, class_="callout", dir="auto")


def facts(found: Mapping[str, str]) -> Markup:
    """Names with their values, in one line where there is room."""
    items = (element("div", element("dt", name), element("dd", value)) for name, value in found.items())
    return element("dl", *items, class_="facts")


def tile(name: str, found: Estimate) -> Markup:
    """One number, large, with its interval."""
    low, high = formats.bounds(found) or ("", "")
    return element(
        "div",
        element("span", name, class_="name"),
        element("span", formats.value(found), class_="value"),
        plots.interval(found.value, found.low, found.high) if _is_share(found) else None,
        element("span", f"{low} – {high}", class_="bounds"),
        class_="tile",
    )


def long_text(name: str, text: str) -> Markup:
    """A text behind its name, cut where it would fill the page."""
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text) - LONGEST:,} more characters)"
    return element("details", element("summary", name), element("p", shown, class_="long", dir="auto"))


def folded(name: str, values: Mapping[str, Any]) -> Markup:
    """Nested values behind a name, one line each."""
    rows = (
        element("tr", element("th", key, scope="row", dir="auto"), element("td", value, dir="auto"))
        for key, value in _leaves(values)
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
