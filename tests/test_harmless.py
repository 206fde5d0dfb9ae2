"""What a terminal obeys is shown, and what a spreadsheet calculates is text."""

from __future__ import annotations

import json
import sys

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gensegcli.harmless import csv_row, printable, visible

OBEYED = {
    *map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), *map(chr, range(0x202A, 0x202F)),
    *map(chr, range(0x2066, 0x206A)),
}  # fmt: skip


def test_every_character_of_unicode() -> None:
    """C0, DEL, C1 and the overrides of direction are written as codes; everything else stays, letters of all scripts."""
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        if character in OBEYED - {"\n", "\t"} or 0xD800 <= number < 0xE000:
            assert visible(character).isascii()
            assert visible(character).startswith("\\")
        else:
            assert visible(character) == character


@given(st.text())
def test_json_keeps_its_meaning(text: str) -> None:
    shown = visible(orjson.dumps({"name": text}).decode())
    assert json.loads(shown) == {"name": text}


@given(st.text(st.characters()))
def test_printable_is_one_line(text: str) -> None:
    assert all(character.isprintable() or character in "\u200c\u200d" for character in printable(text))


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1+1", "=", "--5"]
)
def test_formulas_are_text(text: str) -> None:
    assert csv_row([text]) == [f"'{text}"]
    assert csv_row(csv_row([text])) == [f"'{text}"]  # read back and written again


@pytest.mark.parametrize(
    "value", ["-0.5", "+3", "-1e-7", "-.5", "+12.5%", -0.5, 3, None, "", "a=b", "'=1", "x-y", "犬"]
)
def test_numbers_and_words_stay(value: object) -> None:
    assert csv_row([value]) == [value]
