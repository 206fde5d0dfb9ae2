"""HTML and SVG built from elements: every text is escaped unless it already is markup, so nothing can be forgotten."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Attribute = str | int | float | bool | None

_VOID = frozenset({"br", "col", "hr", "img", "link", "meta"})
# What HTML does not allow even as a reference: controls but tab and line ends, halves of surrogate pairs, non-characters.
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


class Markup(str):
    """A string that is markup already and goes into a page as it is. Only this module makes them."""

    __slots__ = ()


Child = str | Markup | None


def escaped(text: str) -> Markup:
    r"""The text as it may stand in an element or in a quoted attribute; what HTML forbids becomes U+FFFD.

    >>> escaped('<b title="x">&\x00')
    '&lt;b title=&quot;x&quot;&gt;&amp;\ufffd'
    """
    return text if isinstance(text, Markup) else Markup(html.escape(_FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)))


def element(tag: str, *children: Child, **attributes: Attribute) -> Markup:
    """`<tag attributes>children</tag>`.

    Args:
        tag: name of the element.
        children: texts, which are escaped, and markup, which is not; None is left out.
        attributes: `class_` is `class`, `stroke_width` is `stroke-width`; True stands without a value, None and False
            are left out.

    >>> element("p", "1 < 2", element("br"), class_="note", hidden=True)
    '<p class="note" hidden>1 &lt; 2<br></p>'
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _VOID:
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{together(children)}</{tag}>")


def together(children: Iterable[Child]) -> Markup:
    """Texts and markup one after the other."""
    return Markup("".join(escaped(child) for child in children if child is not None))


def stylesheet(css: str) -> Markup:
    """A `<style>` element. Its text is ours and cannot be escaped, so it must not hold what would end it."""
    if "<" in css:
        raise ValueError("a style sheet must not contain <")
    return Markup(f"<style>\n{css}</style>")


def document(page: Markup) -> str:
    """A whole page, with the line that puts browsers into their standard mode."""
    return f"<!DOCTYPE html>\n{page}\n"


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = name.removesuffix("_").replace("_", "-")
    if value is True:
        return f" {name}"
    return f' {name}="{escaped(number(value) if isinstance(value, int | float) else value)}"'


def number(value: float) -> str:
    """A number as short as a tenth of a hundredth of a pixel needs it.

    >>> number(2.0), number(1 / 3)
    ('2', '0.333')
    """
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
