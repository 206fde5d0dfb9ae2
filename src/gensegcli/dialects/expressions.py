"""The one normalisation of expressions, the same in training, prediction and evaluation."""

from __future__ import annotations

import unicodedata

_QUOTES = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u201e": "\u201c", "\u2018": "\u2019", "\u00ab": "\u00bb"}
_FINAL = ".?!\u3002\uff0e\uff61\uff1f\uff01"
"""Also as Chinese and Japanese write them, and at full width."""
_JOINERS = "\u200c\u200d"
"""Zero-width characters that change how a word is written in Persian or Hindi, and hold emoji together."""


def normalise_expression(text: str) -> str:
    r"""An expression as the policy sees it; the same for all spellings of it, and unchanged when normalised again.

    Lower case; control, format and surrogate characters removed (they are invisible, and some reorder the prompt
    around them); characters composed (NFC), as macOS does not write them; runs of white space become one space;
    surrounding quotes and final `.`, `?`, `!` and `。` dropped, however they are nested. Nothing may be left, and what
    then happens is the caller's to decide.

    >>> normalise_expression('  "The  man in RED."  ')
    'the man in red'
    >>> normalise_expression("the girls' dog?!")
    "the girls' dog"
    >>> normalise_expression("CAFE\u0301 sign\u3002") == normalise_expression("caf\u00e9 sign")
    True
    """
    text = "".join(
        " " if char.isspace() else char
        for char in text.lower()
        if char.isspace() or char in _JOINERS or unicodedata.category(char) not in ("Cc", "Cf", "Cs")
    )
    text = " ".join(unicodedata.normalize("NFC", text).split())
    while True:
        bare = _unquoted(text.rstrip(_FINAL + " ")).strip()
        if bare == text:
            return text
        text = bare


def _unquoted(text: str) -> str:
    """The text without one pair of quotes around all of it: `"red" or "blue"` has none."""
    if len(text) < 2 or _QUOTES.get(text[0]) != text[-1]:
        return text
    inner = text[1:-1]
    quotes = {text[0], text[-1]}
    # A quote between two letters is an apostrophe.
    ends = any(
        char in quotes and not (0 < i < len(inner) - 1 and inner[i - 1].isalnum() and inner[i + 1].isalnum())
        for i, char in enumerate(inner)
    )
    return text if ends else inner
