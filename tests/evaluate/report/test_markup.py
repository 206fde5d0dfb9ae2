"""Nothing that a stranger wrote becomes an element, an attribute or a style of the page."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gensegcli.evaluate.report.markup import Markup, document, element, escaped, stylesheet, together

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'--></style><b>",
    "&lt;b&gt;",
    "a\x00b\ud800",
)


class Reader(HTMLParser):
    """What a parser finds: elements with their attributes, and the text."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text() | st.sampled_from(HOSTILE))
def test_a_text_comes_back_as_the_same_text_and_as_nothing_else(text: str) -> None:
    found = Reader(element("p", text, title=text))
    ((tag, attributes),) = found.elements
    assert tag == "p"
    assert attributes.keys() == {"title"}
    assert found.text == attributes["title"]
    assert len(found.text) == len(text)
    assert all(shown in (written, "\ufffd") for shown, written in zip(found.text, text, strict=True))


@given(st.text() | st.sampled_from(HOSTILE))
def test_every_text_can_be_written_as_utf8(text: str) -> None:
    assert escaped(text).encode("utf-8").decode("utf-8") == escaped(text)


def test_markup_is_not_escaped_twice() -> None:
    inner = element("b", "1 < 2")
    assert element("p", inner, None, " & 3") == "<p><b>1 &lt; 2</b> &amp; 3</p>"
    assert escaped(inner) is inner
    assert together(["<", inner]) == "&lt;<b>1 &lt; 2</b>"
    assert isinstance(together([]), Markup)


def test_attributes_that_say_nothing_are_left_out() -> None:
    assert element("img", src="a", alt="", hidden=False, class_=None) == '<img src="a" alt="">'
    assert element("line", x1=1, x2=0.5, stroke_width=2.0) == '<line x1="1" x2="0.5" stroke-width="2"></line>'


def test_a_style_sheet_cannot_end_itself() -> None:
    with pytest.raises(ValueError, match="style sheet"):
        stylesheet("p { } </style><script>")


def test_a_document_begins_with_its_type() -> None:
    assert document(element("html")).startswith("<!DOCTYPE html>\n<html>")
