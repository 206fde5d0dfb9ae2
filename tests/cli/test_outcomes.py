"""Rows of the table of predictions: whole in a pipe, and as wide as the terminal on one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rich.cells import cell_len

from gensegcli.cli.outcomes import formatter, row, verdict
from tests.made import made_prediction

if TYPE_CHECKING:
    from gensegcli.records import Prediction

EMPTY = np.zeros((2000, 3000), dtype=bool)
FULL = ~EMPTY
LONG = "the second person from the left who wears a blue shirt and holds an umbrella"
CHINESE = "左边第二个穿蓝色衬衫并拿着雨伞的人站在红色汽车旁边看着天空"


def answers() -> list[Prediction]:
    return [
        made_prediction([FULL, FULL, FULL], image="photos/deep/down/COCO_train2014_000000040083.jpg", query=LONG),
        made_prediction([EMPTY], image="a.jpg", query=CHINESE),
        made_prediction([], image="狗/猫.jpg", query="a dog"),
    ]


def text(width: int | None) -> str:
    form = formatter(json=False, width=width)
    return "".join(map(form, answers()))


@pytest.mark.parametrize("width", [30, 60, 79, 80, 100, 120, 200])
def test_rows_fit_the_terminal_and_no_number_is_cut(width: int) -> None:
    shown = text(width)
    if width >= 80:
        assert max(map(cell_len, shown.splitlines())) <= width
    else:  # a line for each value: names stay whole
        assert answers()[0].image in shown
    assert re.findall(r"\b0,0,3000,2000\b", shown), shown
    assert "0.92" in shown, "the mean of the scores"
    whole = "".join(shown.split())
    for word in LONG.split():
        assert word in shown
    assert "040083.jpg" in whole


def test_a_narrow_terminal_goes_without_seconds_and_a_very_narrow_one_has_a_line_for_each_value() -> None:
    assert "seconds" in text(120).splitlines()[0]
    assert "seconds" not in text(80)
    assert text(40).splitlines()[1].startswith("query ")


def test_boxes_of_large_pictures_break_between_their_corners() -> None:
    large = made_prediction([np.zeros((1, 1), dtype=bool)])
    shown = formatter(json=False, width=80)(large)
    assert "1,1,3,3" in shown


def test_a_pipe_gets_whole_rows() -> None:
    lines = text(None).splitlines()
    assert len(lines) == 4
    assert "photos/deep/down/COCO_train2014_000000040083.jpg" in lines[1]
    assert LONG in lines[1]
    assert "0,0,3000,2000 0,0,3000,2000 +1" in lines[1]


def test_what_a_terminal_would_obey_is_shown_as_text() -> None:
    nasty = made_prediction([], image="a\x1b]0;PWNED\x07\x1b[2J.png", query="x")
    for width in (None, 120, 40):
        shown = formatter(json=False, width=width)(nasty)
        assert "\x1b" not in shown
        assert "\x07" not in shown


def test_an_empty_mask_is_said_and_has_no_score() -> None:
    assert verdict(made_prediction([FULL])) == "1 found"
    assert verdict(made_prediction([EMPTY])) == "1 found, but its mask is empty"
    assert verdict(made_prediction([EMPTY, EMPTY])) == "2 found, but all masks are empty"
    assert verdict(made_prediction([FULL, EMPTY])) == "2 found, 1 with an empty mask"
    assert row(made_prediction([EMPTY]))[4] == "-"
    assert row(made_prediction([FULL, EMPTY]))[4] == "0.97"
