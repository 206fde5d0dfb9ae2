"""Plots are well-formed SVG, and what they draw stands where the numbers say."""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gensegcli.evaluate.report import plots
from gensegcli.evaluate.report.plots import Axis, Series, axis_over, curves, histogram, stacked

NUMBERS = st.floats(allow_nan=True, allow_infinity=True, width=32)


def _parsed(markup: str) -> ET.Element:
    return ET.fromstring(markup)  # noqa: S314 -- our own markup


@given(st.lists(NUMBERS))
def test_an_axis_holds_every_finite_value_between_few_round_ticks(values: list[float]) -> None:
    axis = axis_over("x", values)
    assert 2 <= len(axis.ticks) <= 9
    assert (axis.low, axis.high) == (axis.ticks[0], axis.ticks[-1])
    slack = 1e-6 * (axis.high - axis.low)
    assert all(axis.low - slack <= value <= axis.high + slack for value in values if math.isfinite(value))


def test_a_line_runs_from_corner_to_corner_and_breaks_where_a_value_is_missing() -> None:
    line = Series("a < b", [(0.0, 0.0), (0.5, 1.0), (0.6, math.nan), (0.8, 0.5), (1.0, 1.0)])
    figure = _parsed(curves("title & more", [line], Axis("x"), Axis("y")))
    first, second = (shape.attrib["points"].split() for shape in figure.iter("polyline"))
    bottom, top = plots.HEIGHT - plots._BOTTOM, plots._TOP
    assert first[0] == f"{plots._LEFT},{bottom}"
    assert first[1].endswith(f",{top}")
    assert second[-1] == f"{plots.WIDTH - plots._RIGHT},{top}"
    assert figure.find("svg").attrib["aria-label"] == "title & more"  # pyright: ignore[reportOptionalMemberAccess]
    assert {title.text for title in figure.iter("title")} == {"a < b"}


def test_a_single_point_is_drawn_as_a_dot() -> None:
    figure = _parsed(curves("t", [Series("a", [(0.5, 0.5)])], Axis("x"), Axis("y")))
    (dot,) = figure.iter("circle")
    assert float(dot.attrib["cx"]) == (plots._LEFT + plots.WIDTH - plots._RIGHT) / 2


def test_series_differ_by_dash_as_well_as_by_colour() -> None:
    lines = [Series(str(number), [(0.0, 0.0), (1.0, 1.0)]) for number in range(4)]
    drawn = list(_parsed(curves("t", lines, Axis("x"), Axis("y"))).iter("polyline"))
    assert len({line.attrib["class"] for line in drawn}) == 4
    assert len({line.attrib.get("stroke-dasharray") for line in drawn}) == 4


def test_bars_are_as_high_as_their_share() -> None:
    figure = _parsed(histogram("t", [1, 0, 3], Axis("x"), marks=[("mean", 0.5)]))
    heights = [float(bar.attrib["height"]) for bar in figure.iter("rect")]
    assert heights[1] == 0
    assert heights[2] == pytest.approx(3 * heights[0], abs=0.01)
    assert "mean 0.500" in "".join(figure.itertext())


def test_the_parts_of_a_bar_fill_it() -> None:
    groups = {"run": [("there", [3, 1, 0]), ("not there", [0, 0, 0])]}
    figure = _parsed(stacked("t", groups, [("a", "found"), ("b", "abstained"), ("c", "refused")]))
    widths = [float(part.attrib["width"]) for part in figure.iter("rect")]
    assert len(widths) == 2, "nothing is drawn for a part without samples"
    assert widths[0] == pytest.approx(3 * widths[1], abs=0.01)
    assert sum(widths) == pytest.approx(plots.WIDTH - 128 - plots._RIGHT, abs=0.01)


@given(st.floats(-1, 2), st.floats(-1, 2), st.floats(-1, 2))
def test_an_interval_stays_on_its_rule(value: float, low: float, high: float) -> None:
    drawn = _parsed(plots.interval(value, low, high))
    places = [float(line.attrib[end]) for line in drawn.iter("line") for end in ("x1", "x2")]
    assert all(3 <= place <= 69 for place in places)
