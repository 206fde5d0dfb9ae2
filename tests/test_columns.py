"""Tables at the widths that terminals have: nothing overruns, and nothing is cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from gensegcli.columns import Grid, blocks, columns, drawn, printable, turned

WIDTHS = (80, 100, 120)
HEAD = ("alias", "kind", "hub id", "size", "answers in", "what it is")
ROWS = [
    ("qwen3-vl-4b", "policy", "Qwen/Qwen3-VL-4B-Instruct", "4,437,815,808", "grid", "the usual one, for one GPU of 24 GB"),
    ("sam2-large", "segmenter", "facebook/sam2-hiera-large", "224,430,130", "-", "best of three masks by predicted IoU"),
]  # fmt: skip


def _words(text: str) -> list[str]:
    return re.sub(r"[─\s]+", " ", text).split()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("spare", [(), ("kind", "size")])
def test_a_table_fits_the_terminal_and_no_word_is_lost(width: int, spare: tuple[str, ...]) -> None:
    text = columns(HEAD, ROWS, width=width, spare=spare)
    assert max(map(len, text.splitlines())) <= width
    gone = {cell for row in ROWS for name, cell in zip(HEAD, row, strict=True) if name in spare} | {"kind", "size"}
    assert {word for row in ROWS for cell in row if cell not in gone for word in cell.split()} <= set(_words(text))


def test_words_are_wrapped_before_columns_go_and_these_before_the_table_is_turned() -> None:
    rows = [("boxfill", "segmenter", "fills the box of every answer, for trying things out")]
    head = ("alias", "kind", "what it is")
    assert len(columns(head, rows, width=80).splitlines()) == 2
    assert "kind" in columns(head, rows, width=60, spare=("kind",))
    assert columns(head, rows, width=40, spare=("kind",)).splitlines()[0] == "alias    what it is"
    assert columns(head, rows, width=25, spare=("kind",)).splitlines()[0].split() == ["alias", "boxfill"]


def test_in_a_pipe_every_row_is_one_line_as_wide_as_it_gets() -> None:
    text = columns(HEAD, ROWS, spare=("kind",))
    assert len(text.splitlines()) == 1 + len(ROWS)
    assert all(cell in line for row, line in zip(ROWS, text.splitlines()[1:], strict=True) for cell in row)


def test_wide_letters_count_twice() -> None:
    text = columns(("query", "n"), [("左边的红杯子", "1"), ("cup", "2")])
    assert {cell_len(line) for line in text.splitlines()} == {15}


def test_a_turned_table_names_every_value() -> None:
    grid = Grid.of(("run", "cIoU"), [("a", "0.7127"), ("b", "0.6")])
    assert turned(grid) == "run   a\ncIoU  0.7127\n\nrun   b\ncIoU  0.6\n"


def test_a_grid_in_pieces_repeats_the_first_column() -> None:
    grid = Grid.of(("run", "cIoU", "mIoU", "AP"), [("a", "0.7127", "0.7382", "0.5")])
    pieces = blocks(grid, 20)
    assert [piece.head for piece in pieces] == [("run", "cIoU", "mIoU"), ("run", "AP")]
    assert all(cell_len(line) <= 20 for piece in pieces for line in drawn(piece, piece.widths(20) or ()).splitlines())


def test_nothing_in_a_cell_reaches_the_terminal_as_a_command() -> None:
    text = columns(("a\x1b[2J", "b"), [("x\x07\u202ey", "1\n2")])
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "1 2" in text


def test_letters_that_join_stay_as_they_are() -> None:
    assert printable("می\u200cخواهم") == "می\u200cخواهم"


@given(
    st.lists(st.lists(st.text(max_size=60), min_size=3, max_size=3), max_size=4),
    st.integers(min_value=1, max_value=150),
)
def test_any_texts_in_any_width_stay_whole(rows: list[list[str]], width: int) -> None:
    text = columns(("one", "two", "three"), rows, width=width)
    assert {word for row in rows for cell in row for word in printable(cell).split()} <= set(text.split())
