"""Plots as inline SVG: axes, curves, histograms, bars. Colours come from the page's style sheet, light or dark.

Every plot has a title that screen readers speak, and series differ by dash as well as by colour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from gensegcli.evaluate.report.markup import Markup, element, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gensegcli.evaluate.report.markup import Child

WIDTH, HEIGHT = 460, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 12, 40
COLOURS = 7
"""Series colours of the style sheet, classes s0 to s6; they are repeated in turn."""
_DASHES = ("", "7 4", "2 3", "10 3 2 3", "4 4", "1 4", "12 4")


@dataclass(frozen=True, slots=True)
class Series:
    """A named line of (x, y) points, in the order of x."""

    name: str
    points: Sequence[tuple[float, float]]
    faint: Sequence[tuple[float, float]] = ()
    """Points behind the line, of which it is a smoothed form."""
    place: int | None = None
    """Decides colour and dash, so that a run looks alike in every plot; None: by the order of the series."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its label, its range and the values that get a tick."""

    label: str
    low: float = 0.0
    high: float = 1.0
    ticks: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

    def share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)


def axis_over(label: str, values: Sequence[float], *, from_zero: bool = False, whole: bool = False) -> Axis:
    """An axis that holds the finite values, with ticks at round numbers.

    Args:
        label: of the axis.
        values: what it has to hold.
        from_zero: it begins at 0.
        whole: ticks are whole numbers, as steps are.

    >>> axis_over("step", [0, 1, 2], whole=True).ticks
    (0.0, 1.0, 2.0)
    >>> axis_over("step", [0, 12, 43]).ticks
    (0.0, 10.0, 20.0, 30.0, 40.0, 50.0)
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    low = min(low, 0.0) if from_zero else low
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        low, high = (min(low, 0.0), max(high, 0.0)) if low else (0.0, 1.0)
    step = 10.0 ** math.floor(math.log10((high - low) / 5))
    step *= min((factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 6), default=10)
    step = max(step, 1.0) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(index * step for index in range(first, last + 1))
    return Axis(label, ticks[0], ticks[-1], ticks)


def curves(
    title: str, series: Sequence[Series], x: Axis, y: Axis, *, diagonal: bool = False, named: bool = False
) -> Markup:
    """Lines over one pair of axes; points that are no finite numbers interrupt a line.

    Args:
        title: of the figure.
        series: the lines.
        x: axis of their first value.
        y: axis of their second.
        diagonal: with a line from corner to corner.
        named: a single line is named too: there are others that have nothing to show.
    """
    drawn: list[Child] = list(_axes(x, y))
    if diagonal:
        drawn.append(_line(_x(x, x.low), _y(y, y.low), _x(x, x.high), _y(y, y.high), class_="guide"))
    for index, line in _placed(series):
        behind = {"class_": f"line faint s{index % COLOURS}"}
        drawn += [element("polyline", points=_path(part, x, y), **behind) for part in _unbroken(line.faint)]
        style = {"class_": f"line s{index % COLOURS}", "stroke_dasharray": _DASHES[index % len(_DASHES)] or None}
        name = element("title", line.name)
        parts = list(_unbroken(line.points))
        for part in parts:
            if len(part) == 1:
                drawn.append(element("circle", name, cx=_x(x, part[0][0]), cy=_y(y, part[0][1]), r=2.5, **style))
            else:
                drawn.append(element("polyline", name, points=_path(part, x, y), **style))
    return element("figure", figure(title, drawn), _legend(series, named=named), _caption(title))


def bubbles(
    title: str, series: Sequence[Series], x: Axis, y: Axis, sizes: Sequence[Sequence[int]], *, named: bool = False
) -> Markup:
    """Dots whose area grows with their count, joined in order, and the diagonal on which they should lie.

    Args:
        title: of the figure.
        series: the dots.
        x: axis of their first value.
        y: axis of their second.
        sizes: the count of each dot of each series.
        named: a single series is named too: there are others that have nothing to show.
    """
    drawn: list[Child] = list(_axes(x, y))
    drawn.append(_line(_x(x, x.low), _y(y, y.low), _x(x, x.high), _y(y, y.high), class_="guide"))
    for (index, line), counts in zip(_placed(series), sizes, strict=True):
        drawn.append(element("polyline", points=_path(line.points, x, y), class_=f"line thin s{index % COLOURS}"))
        largest = max(counts, default=1)
        for (a, b), count in zip(line.points, counts, strict=True):
            said = element("title", f"{line.name}: {b:.2f} at {a:.2f}, {count:,} samples")
            radius = 2.5 + 6 * math.sqrt(count / largest)
            drawn.append(element("circle", said, cx=_x(x, a), cy=_y(y, b), r=radius, class_=f"dot f{index % COLOURS}"))
    return element("figure", figure(title, drawn), _legend(series, named=named), _caption(title))


def histogram(
    title: str, counts: Sequence[int], x: Axis, *, colour: int = 0, marks: Sequence[tuple[str, float]] = ()
) -> Markup:
    """Bars of equal width over the x axis, as shares of all; named values (`marks`) as vertical lines.

    The lines are told apart below the plot: within it two values that lie near each other would hide one another's names.
    """
    total = sum(counts) or 1
    shares = [count / total for count in counts]
    y = axis_over("share of samples", [*shares, 0.05], from_zero=True)
    drawn: list[Child] = list(_axes(x, y, percent=True))
    step = (x.high - x.low) / len(counts)
    for index, (count, share) in enumerate(zip(counts, shares, strict=True)):
        left, right = _x(x, x.low + index * step), _x(x, x.low + (index + 1) * step)
        said = element(
            "title", f"{x.low + index * step:.2f} to {x.low + (index + 1) * step:.2f}: {count:,} ({share:.1%})"
        )
        top = _y(y, share)
        bar = {"x": left + 0.75, "y": top, "width": right - left - 1.5, "height": _y(y, 0) - top}
        drawn.append(element("rect", said, class_=f"bar f{colour % COLOURS}", **bar))
    keys = []
    for row, (name, value) in enumerate(marks):
        at, style = _x(x, value), {"class_": "mark", "stroke_dasharray": _DASHES[(row + 1) % len(_DASHES)]}
        drawn.append(_line(at, _TOP, at, HEIGHT - _BOTTOM, **style))
        keys.append(_key(f"{name} {value:.3f}", style))
    legend = element("div", *keys, class_="legend") if keys else None
    return element("figure", figure(title, drawn), legend, _caption(title))


def stacked(
    title: str, groups: Mapping[str, Sequence[tuple[str, Sequence[int]]]], parts: Sequence[tuple[str, str]]
) -> Markup:
    """Horizontal bars, each divided into parts that sum to the whole.

    Args:
        title: of the figure.
        groups: bars by the name that stands above them, each a label and the count of each part.
        parts: name and CSS class of each part.
    """
    bar, step, left, top = 24, 32, 128, 4.0
    drawn: list[Child] = []
    for group, rows in groups.items():
        if len(groups) > 1:
            drawn.append(_text(group, 0, top + 14, "start", class_="group"))
            top += 22
        for label, counts in rows:
            drawn.append(_text(label, left - 8, top + bar / 2 + 4, "end"))
            drawn += _divided(label, counts, parts, _Bar(left, top, WIDTH - left - _RIGHT, bar))
            top += step
        top += 6
    keys = [element("span", element("i", class_=f"key {class_}"), name) for name, class_ in parts]
    legend = element("div", *keys, class_="legend")
    return element("figure", figure(title, drawn, height=round(top)), legend, _caption(title))


class _Bar(NamedTuple):
    x: float
    y: float
    width: float
    height: float


def _divided(label: str, counts: Sequence[int], parts: Sequence[tuple[str, str]], bar: _Bar) -> Iterator[Markup]:
    total, at = sum(counts) or 1, bar.x
    for (name, class_), count in zip(parts, counts, strict=True):
        width = bar.width * count / total
        if count:
            said = element("title", f"{label}: {name} {count:,} of {sum(counts):,} ({count / total:.1%})")
            yield element("rect", said, x=at, y=bar.y, width=width, height=bar.height, class_=f"part {class_}")
        if width > 34:
            middle = bar.y + bar.height / 2 + 4
            yield _text(f"{count / total:.0%}", at + width / 2, middle, "middle", class_="inside")
        at += width


def interval(value: float, low: float, high: float) -> Markup:
    """A value in [0, 1] and its interval on a short rule, for a cell of a table."""
    width, height = 72, 8
    inner = width - 6

    def at(share: float) -> float:
        return 3 + inner * min(max(share, 0.0), 1.0)

    return element(
        "svg",
        element("line", x1=3, x2=width - 3, y1=4, y2=4, class_="rule"),
        element("line", x1=at(low), x2=at(high), y1=4, y2=4, class_="reach"),
        element("circle", cx=at(value), cy=4, r=2.6, class_="spot"),
        viewBox=f"0 0 {width} {height}",
        class_="interval",
        aria_hidden="true",
    )


def figure(title: str, drawn: Sequence[Child], *, height: int = HEIGHT) -> Markup:
    """An `<svg>` with a spoken title."""
    box = f"0 0 {WIDTH} {height}"
    return element("svg", *drawn, viewBox=box, role="img", aria_label=title, class_="plot")


def _caption(title: str) -> Markup:
    return element("figcaption", title)


def _placed(series: Sequence[Series]) -> Iterator[tuple[int, Series]]:
    """Each series with the number that decides how it looks."""
    for index, line in enumerate(series):
        yield index if line.place is None else line.place, line


def _legend(series: Sequence[Series], *, named: bool) -> Markup | None:
    if len(series) < 2 and not named:
        return None
    keys = (
        _key(
            line.name,
            {"class_": f"line s{index % COLOURS}", "stroke_dasharray": _DASHES[index % len(_DASHES)] or None},
        )
        for index, line in _placed(series)
    )
    return element("div", *keys, class_="legend")


def _key(name: str, style: Mapping[str, str | None]) -> Markup:
    """A name behind a piece of its line."""
    sample = element("svg", _line(0, 5, 30, 5, **style), viewBox="0 0 30 10", class_="key", aria_hidden="true")
    return element("span", sample, name)


def _axes(x: Axis, y: Axis, *, percent: bool = False) -> Iterator[Markup]:
    for tick in y.ticks:
        at = _y(y, tick)
        yield _line(_LEFT, at, WIDTH - _RIGHT, at, class_="grid")
        yield _text(f"{tick:.0%}" if percent else _label(tick), _LEFT - 6, at + 4, "end")
    for tick in x.ticks:
        yield _text(_label(tick), _x(x, tick), HEIGHT - _BOTTOM + 16, "middle")
    yield _line(_LEFT, HEIGHT - _BOTTOM, WIDTH - _RIGHT, HEIGHT - _BOTTOM, class_="axis")
    yield _text(x.label, (_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 6, "middle", class_="label")
    middle = (_TOP + HEIGHT - _BOTTOM) / 2
    yield _text(y.label, 11, middle, "middle", class_="label", transform=f"rotate(-90 11 {number(middle)})")


def _label(tick: float) -> str:
    return f"{tick:.6g}"


def _x(axis: Axis, value: float) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * axis.share(value)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * axis.share(value)


def _line(x1: float, y1: float, x2: float, y2: float, **attributes: str | None) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def _text(text: str, x: float, y: float, anchor: str, **attributes: str) -> Markup:
    return element("text", text, x=x, y=y, text_anchor=anchor, **attributes)


def _path(points: Sequence[tuple[float, float]], x: Axis, y: Axis) -> str:
    return " ".join(f"{number(_x(x, a))},{number(_y(y, b))}" for a, b in points)


def _unbroken(line: Sequence[tuple[float, float]]) -> Iterator[list[tuple[float, float]]]:
    part: list[tuple[float, float]] = []
    for point in line:
        if all(map(math.isfinite, point)):
            part.append(point)
        elif part:
            yield part
            part = []
    if part:
        yield part
