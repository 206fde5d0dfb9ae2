"""Where strings begin and end in text that is JSON or nearly so, found in one pass: brackets inside strings are none."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

QUOTES = "\"'\u201c\u2018"
"""What opens a string in text that people and models write. JSON itself knows the first."""

_STRINGS = {
    '"': r'"(?:[^"\\]++|\\.)*+"',
    "'": r"'(?:[^'\\]++|\\.)*+'",
    "\u201c": "\u201c[^\u201d]*+\u201d",
    "\u2018": "\u2018[^\u2019]*+\u2019",
}

_CONTROL = re.compile(
    r"""(?: <[|\uff5c](?:im_start|start_header_id)[|\uff5c]>\s{0,4}(?:assistant|user|system|model)  # header of a turn
          | <start_of_turn>\s{0,4}(?:user|model)
          | <[|\uff5c][^<>|\uff5c]{1,40}[|\uff5c]>
          | </?s> | <(?:eos|bos|pad|unk|end_of_turn|end_of_utterance|end_of_text|endoftext|im_end)>
          | \[(?:eos|bos|pad|/inst)\] )""",
    re.VERBOSE | re.IGNORECASE,
)
_CONTROL_LAST = re.compile(rf"(?:{_CONTROL.pattern})\Z", _CONTROL.flags)
_LONGEST_CONTROL = 80


class Scanner:
    """Finds strings and single marks from left to right, in time linear in the text however it is quoted.

    A quote that nothing closes opens no string. Neither does any later one of its kind, so that the search for its end
    is not made again.
    """

    def __init__(self, text: str, quotes: str) -> None:
        self.text, self._quotes = text, quotes

    def tokens(self, marks: str, at: int = 0) -> Iterator[tuple[int, str]]:
        """Where they begin, and the strings (quotes included) and matches of `marks` from a position on."""
        while True:
            for found in _pattern(self._quotes, marks).finditer(self.text, at):
                token = found.group()
                if token in self._quotes:
                    self._quotes = self._quotes.replace(token, "")
                    at = found.end()
                    break
                yield found.start(), token
            else:
                return


def is_string(token: str) -> bool:
    """Whether what a scanner found is a string."""
    return len(token) > 1 and token[0] in QUOTES


def without_control_tokens(text: str) -> str:
    r"""A text without the white space and control tokens at its end, and without control tokens at its beginning.

    Servers leak the tokens that end a turn; they are no part of what the model says.

    >>> without_control_tokens('<|im_start|>assistant\n{"no_target": true}<|im_end|> </s>\n')
    '{"no_target": true}'
    """
    end = len(text)
    while True:
        while end and text[end - 1].isspace():
            end -= 1
        last = _CONTROL_LAST.search(text, max(0, end - _LONGEST_CONTROL), end)
        if last is None:
            break
        end = last.start()
    start = 0
    while first := _CONTROL.match(text, _after_white(text, start, end), end):
        start = _after_white(text, first.end(), end)
    return text[start:end]


def _after_white(text: str, at: int, end: int) -> int:
    while at < end and text[at].isspace():
        at += 1
    return at


@cache
def _pattern(quotes: str, marks: str) -> re.Pattern[str]:
    strings = [_STRINGS[quote] for quote in quotes]
    lone = [f"[{quotes}]"] if quotes else []
    return re.compile("|".join([*strings, *lone, marks]), re.DOTALL)
