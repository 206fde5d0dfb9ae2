"""Tables on standard output know the terminal that they go to."""

from __future__ import annotations

import io
import os
import pty
from pathlib import Path

import pytest

from gensegcli.cli.tables import table, terminal_width


def test_values_are_worded_for_people() -> None:
    text = table(("a", "b", "c", "d"), [(True, None, ["x", "y"], ""), (False, 0, [], 1.5)])
    assert text.splitlines()[1].split() == ["yes", "-", "x,", "y", "-"]
    assert text.splitlines()[2].split() == ["no", "0", "-", "1.5"]


def test_a_pipe_has_no_width() -> None:
    assert terminal_width(io.StringIO()) is None
    with Path(os.devnull).open("w", encoding="utf-8") as stream:
        assert terminal_width(stream) is None


def test_a_terminal_has_the_width_that_it_or_columns_says(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = pty.openpty()
    try:
        with os.fdopen(other, "w", closefd=False) as stream:
            monkeypatch.delenv("COLUMNS", raising=False)
            assert terminal_width(stream) == 80  # a terminal of 0 columns does not know
            monkeypatch.setenv("COLUMNS", "100")
            assert terminal_width(stream) == 100
            monkeypatch.setenv("COLUMNS", "wide")
            assert terminal_width(stream) == 80
    finally:
        os.close(one)
        os.close(other)


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_row_that_is_too_wide_is_wrapped_at_blanks(width: int) -> None:
    text = table(("what", "found"), [("cuda", "no NVIDIA driver was found on this machine " * 4)], width=width)
    assert max(map(len, text.splitlines())) <= width
