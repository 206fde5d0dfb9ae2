"""A font that has the characters of a text, from what Pillow bundles and what the system has."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from PIL import ImageFont

if TYPE_CHECKING:
    from collections.abc import Iterable

    from PIL.ImageFont import FreeTypeFont

_SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "Arial Unicode.ttf",
    "arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "wqy-microhei.ttc",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "AppleSDGothicNeo.ttc",
    "msyh.ttc",
    "YuGothM.ttc",
    "malgun.ttf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "Nirmala.ttf",
)
"""File names that Pillow looks for in the font folders of Linux, macOS and Windows, in the order they are tried."""

_UNASSIGNED = "\uffff"  # never a character: shows what a font draws for what it lacks


def set_in(text: str, size: int) -> tuple[str, FreeTypeFont]:
    """The text as it can be drawn, and the first known font that has all its characters, else the one with most.

    Where no font has a letter with an accent, the letter stands without it. Whatever else no font has is drawn as the
    font's own placeholder, and control characters as spaces; nothing is dropped.

    Args:
        text: one line.
        size: height of the font in pixels.
    """
    text = "".join(character if character.isprintable() else " " for character in text)
    name = _best(frozenset(text))
    font = _load(name, size)
    assert font is not None
    return "".join(character if _has(name, character) else _bare(name, character) for character in text), font


@lru_cache(maxsize=256)
def _best(characters: frozenset[str]) -> str | None:
    """Name of the font, None for the bundled one."""
    best, fewest = None, len(characters) + 1
    for name in (None, *_SYSTEM_FONTS):
        if _load(name, 20) is None:
            continue
        missing = sum(not _has(name, character) for character in characters)
        if missing < fewest:
            best, fewest = name, missing
        if missing == 0:
            break
    return best


def _bare(name: str | None, character: str) -> str:
    letter = unicodedata.normalize("NFKD", character)[0]
    return letter if _has(name, letter) else character


@lru_cache(maxsize=64)
def _load(name: str | None, size: int) -> FreeTypeFont | None:
    try:
        # With a size, Pillow's default is its bundled scalable font.
        return cast("FreeTypeFont", ImageFont.load_default(size)) if name is None else ImageFont.truetype(name, size)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _has(name: str | None, character: str) -> bool:
    if character.isspace():
        return True
    font = _load(name, 20)
    assert font is not None
    placeholder, drawn = font.getmask(_UNASSIGNED), font.getmask(character)
    return drawn.size != placeholder.size or _values(drawn) != _values(placeholder)


def _values(mask: object) -> bytes:
    return bytes(cast("Iterable[int]", mask))
