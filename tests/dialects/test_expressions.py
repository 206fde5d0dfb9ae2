"""One spelling for every way to write an expression."""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gensegcli.dialects.expressions import normalise_expression

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The man in RED", "the man in red"),
        ("  the\tman \n in\u00a0red ", "the man in red"),
        ("the man in red.", "the man in red"),
        ("where is the man?!", "where is the man"),
        ("the man in red ...", "the man in red"),
        ('"the man in red"', "the man in red"),
        ('"The man in red."', "the man in red"),
        ('"the man in red".', "the man in red"),
        ("\u201cthe man in red\u201d", "the man in red"),
        ("\u00ab the man in red \u00bb", "the man in red"),
        ("'\"the man in red\"'", "the man in red"),
        ("'the dog's bowl'", "the dog's bowl"),
        ("the girls' dog", "the girls' dog"),
        ("'tis the girls'", "tis the girls"),  # nobody can tell these from quotes
        ('"red" or "blue"', '"red" or "blue"'),
        ("'left' or 'right'", "'left' or 'right'"),
        ('the sign that says "stop"', 'the sign that says "stop"'),
        ("the no. 7 shirt, 2.5 m tall", "the no. 7 shirt, 2.5 m tall"),
        (".5 litre bottle", ".5 litre bottle"),
        ("the \x00m\x1ban\x7f", "the man"),
        ("the \u202eman\u200b\ufeff", "the man"),
        ("the \ud800man", "the man"),
        ("ÉCOLE ß ΣΑΣ", "école ß σας"),
        ("左边的红色方块。", "左边的红色方块"),
        ("哪一个？！", "哪一个"),
        ("赤い箱｡", "赤い箱"),
        ("Cafe\u0301 sign", "caf\u00e9 sign"),
        ("CAF\u00c9 sign", "caf\u00e9 sign"),
        ("\u1100\u1161 box", "\uac00 box"),
        ("e\u200b\u0301", "\u00e9"),
        ("\u1fefred\u1fef", "red"),  # composed, it is a grave accent
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("", ""),
        (' "." ', ""),
        ("\u200b\x00", ""),
    ],
)
def test_spellings(text: str, expected: str) -> None:
    assert normalise_expression(text) == expected


@given(
    st.one_of(
        st.text(st.characters()),
        st.text("aeE\u0301\u0307\u0345\u3002\uff01 .?!'\"`\u201c\u201d\u00a0\x00\u200b", max_size=12),
    )
)
@example("İ")
@example("A\u030a\u2126\u212a")
@example("a \u0301\u3002\u0301")
@example("''a''")
@example('a"."')
def test_normal_is_normal(text: str) -> None:
    once = normalise_expression(text)

    assert normalise_expression(once) == once
    assert normalise_expression(f"  {once} ") == once
    assert once == once.strip()
    assert "  " not in once
    assert not once.endswith((".", "?", "!", "。", "？", "！"))
    assert unicodedata.is_normalized("NFC", once)


def test_a_long_expression_is_quick() -> None:
    nested = "'" * 5000 + "a" + "'" * 5000

    assert len(normalise_expression(nested + "." * 10_000)) <= len(nested)


def test_human_expressions_stay_as_they_are_and_their_spellings_meet(shared_data: Path) -> None:
    """1,000 expressions of RefCOCOg, which come lower-cased and bare: none changes, and 997 are distinct."""
    records = json.loads((shared_data / "refexps" / "refcocog_google_val_1000.json").read_text())
    expressions = [record["raw"] for record in records]
    normal = [normalise_expression(text) for text in expressions]

    assert normal == expressions
    assert len(set(normal)) == 997
    unquoted = [text for text in expressions if '"' not in text]
    assert len(unquoted) == 999, "quotes around quotes are ambiguous, and stay"
    for text in unquoted:
        assert normalise_expression(f' "{text.upper()}. " ') == text
        assert normalise_expression(f"\u201c{text.capitalize()}?\u201d") == text
        assert normalise_expression(text.replace(" ", "\n  ") + " !") == text
