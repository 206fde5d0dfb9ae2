"""JSON as models write it: the exact kind, and the kind with forgivable faults. Bounded depth, no surprises in numbers."""

from __future__ import annotations

import json
import re
from typing import Any

from gensegcli.dialects.grammar import ReadingError, excerpt
from gensegcli.dialects.tokens import QUOTES, Scanner, is_string
from gensegcli.records import RefusalKind

MAX_DEPTH = 8
"""No answer nests deeper than list, object, list, list; the parser's recursion must not be the text's to choose."""

_BRACKET = r"[\[\]{}]"
_NUMBER = re.compile(r"[+-]?[0-9]{1,24}(\.[0-9]{0,24})?")

_WIDE = {"，": ",", "、": ",", "：": ":", "［": "[", "］": "]", "【": "[", "】": "]", "｛": "{", "｝": "}"}
_ROUND = {"(": "[", ")": "]", "（": "[", "）": "]"}
_PUNCTUATION = _WIDE | _ROUND
_WORDS = {"True": "true", "False": "false", "None": "null"}
_FOREIGN = rf"[{re.escape(''.join(_PUNCTUATION))}]|[A-Za-z_][A-Za-z0-9_]*+"
_TRAILING_COMMA = r",(?=[ \t\n\r]*+[\]}])"
_COLON = re.compile(r"[ \t\n\r]*+[:：]")
_IN_SINGLE_QUOTES = re.compile(r'\\.|"', re.DOTALL)


class Repeated(list[dict[str, Any]]):
    """The objects that stand in one pair of braces, each key once in each: `{"box": 1, "box": 2}` are two."""


def parse(text: str, *, strict: bool) -> Any:
    """The value of a JSON text.

    `NaN` and `Infinity`, which Python's parser takes, come out as floats, as do integers of more than 18 digits (a
    larger one is out of any range, and thousands of digits are refused by `int`): the check of ranges finds them.

    Args:
        text: the JSON.
        strict: exact JSON, and no key stands twice in an object. Otherwise these are understood, too: line breaks in
            strings, trailing commas, Python's literals (`'a'`, `True`, `None`, tuples), keys without quotes, full-width
            punctuation. An object whose keys stand repeatedly in the same order is `Repeated`; a key that stands twice
            with the same value counts once.

    Raises:
        ReadingError: BAD_JSON.
    """
    try:
        return _loads(text, strict=strict)
    except json.JSONDecodeError as error:
        if not strict:
            try:
                return _loads(_as_json(text), strict=False)
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
    if _too_deep(text):
        raise ReadingError(RefusalKind.BAD_JSON, f"brackets nest deeper than {MAX_DEPTH}")
    return json.loads(
        text,
        parse_int=_int,
        parse_constant=float,
        strict=strict,
        object_pairs_hook=_without_duplicates if strict else _with_repetitions,
    )


def _int(digits: str) -> int | float:
    return int(digits) if len(digits) <= 18 else float(digits)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _twice(pairs)
    return found


def _with_repetitions(pairs: list[tuple[str, Any]]) -> dict[str, Any] | Repeated:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    if all(value == found[key] for key, value in pairs):
        return found
    length = len(found)
    groups = [pairs[start : start + length] for start in range(0, len(pairs), length)]
    if any([key for key, _ in group] != list(found) for group in groups):
        raise _twice(pairs)
    return Repeated(map(dict, groups))


def _twice(pairs: list[tuple[str, Any]]) -> ReadingError:
    return ReadingError(RefusalKind.BAD_JSON, f"a key stands twice: {excerpt([key for key, _ in pairs], 60)}")


def _too_deep(text: str) -> bool:
    """Whether the parser would meet brackets that nest too deeply, as far as it reads."""
    depth = 0
    for _, piece in Scanner(text, '"').tokens(_BRACKET):
        if is_string(piece):
            continue
        depth += 1 if piece in "[{" else -1
        if depth > MAX_DEPTH:
            return True
        if depth <= 0:  # the value ends here, or the text is no JSON: the parser reads no further
            return False
    return False


def _as_json(text: str) -> str:
    """The text with what is JSON in another spelling spelt as JSON: each change has one reading only."""
    pieces: list[str] = []
    end = 0
    for start, piece in Scanner(text, QUOTES).tokens(_FOREIGN):
        pieces += (text[end:start], _spelt(piece, text, start + len(piece)))
        end = start + len(piece)
    return _without_trailing_commas("".join([*pieces, text[end:]]))


def _spelt(piece: str, text: str, end: int) -> str:
    if piece in _PUNCTUATION:
        return _PUNCTUATION[piece]
    if piece[0] == '"':
        return piece
    if piece[0] == "'":
        return f'"{_IN_SINGLE_QUOTES.sub(_requoted, piece[1:-1])}"'
    if piece[0] in QUOTES:
        return json.dumps(piece[1:-1])
    return json.dumps(piece) if _COLON.match(text, end) else _WORDS.get(piece, piece)


def _requoted(found: re.Match[str]) -> str:
    return {'"': '\\"', "\\'": "'"}.get(found.group(), found.group())


def _without_trailing_commas(text: str) -> str:
    pieces: list[str] = []
    end = 0
    for start, piece in Scanner(text, '"').tokens(_TRAILING_COMMA):
        if piece == ",":
            pieces.append(text[end:start])
            end = start + 1
    return "".join([*pieces, text[end:]])
