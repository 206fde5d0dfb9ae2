"""JSON as models write it: the exact kind, and the kind with forgivable faults. Bounded depth, no surprises in numbers."""

from __future__ import annotations

import json
import re
from typing import Any

from gensegcli.dialects.grammar import ReadingError, excerpt
from gensegcli.records import RefusalKind

MAX_DEPTH = 8
"""No answer nests deeper than list, object, list, list; the parser's recursion must not be the text's to choose."""

_BRACKET = re.compile(r"[\[\]{}]")
_TRAILING_COMMA = re.compile(r",([ \t\n\r]*[\]}])")
_NUMBER = re.compile(r"[+-]?[0-9]{1,24}(\.[0-9]{0,24})?")


def parse(text: str, *, strict: bool) -> Any:
    """The value of a JSON text.

    `NaN` and `Infinity`, which Python's parser takes, come out as floats, as do integers of more than 18 digits (a
    larger one is out of any range, and thousands of digits are refused by `int`): the check of ranges finds them.

    Args:
        text: the JSON.
        strict: no key stands twice in an object. Otherwise the last one wins, and trailing commas are forgiven.

    Raises:
        ReadingError: BAD_JSON.
    """
    if _too_deep(text):
        raise ReadingError(RefusalKind.BAD_JSON, f"brackets nest deeper than {MAX_DEPTH}")
    try:
        return _loads(text, strict=strict)
    except json.JSONDecodeError as error:
        if not strict and _TRAILING_COMMA.search(text):
            mended = _TRAILING_COMMA.sub(r"\1", text)
            try:
                return _loads(mended, strict=False)
            except json.JSONDecodeError:
                pass  # the place in the text as written says more
        at = error.pos
        detail = f"{error.msg.lower()} at character {at}: {excerpt(text[at : at + 41])}"
        raise ReadingError(RefusalKind.BAD_JSON, detail) from None


def as_float(value: Any, *, strict: bool) -> float | None:
    """The number that a JSON value is, None where it is none; tolerant reading takes ASCII digits in a string too.

    >>> as_float(True, strict=False), as_float(" 12.5 ", strict=False), as_float("12.5", strict=True)
    (None, 12.5, None)
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not strict and isinstance(value, str) and len(value) <= 64 and _NUMBER.fullmatch(value.strip(" ")):
        return float(value)
    return None


def _loads(text: str, *, strict: bool) -> Any:
    return json.loads(
        text, parse_int=_int, parse_constant=float, object_pairs_hook=_without_duplicates if strict else None
    )


def _int(digits: str) -> int | float:
    return int(digits) if len(digits) <= 18 else float(digits)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ReadingError(RefusalKind.BAD_JSON, f"a key stands twice: {excerpt([key for key, _ in pairs], 60)}")
    return found


def _too_deep(text: str) -> bool:
    depth = 0
    for bracket in _BRACKET.finditer(text):
        depth += 1 if bracket.group() in "[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False
