"""Where in a completion its parts lie: think text, answer part, fenced code, JSON objects. Linear in its length."""

from __future__ import annotations

import re
from typing import NamedTuple

from gensegcli.dialects.tokens import QUOTES, Scanner, without_control_tokens
from gensegcli.records import FinishReason, Refusal, RefusalKind

THINK, THINK_END, ANSWER, ANSWER_END = "<think>", "</think>", "<answer>", "</answer>"
TAGS = (THINK, THINK_END, ANSWER, ANSWER_END)

WHITE = " \t\n\r"
"""What JSON calls white space. Nothing else may stand between the parts of a strict completion."""

FENCE = "```"
_FENCE_LABEL = re.compile(r"[A-Za-z0-9_+-]*[ \t]*\n")
_PLAIN_BRACES = re.compile(rf"\{{[^{{}}{QUOTES}]*+\}}")
_DETAIL = 120
_CUT = frozenset({RefusalKind.NO_ANSWER, RefusalKind.BAD_FORM, RefusalKind.BAD_JSON})
"""What a text that the token limit cut off looks like."""


class ReadingError(Exception):
    """Why reading stopped. Never leaves a reader, which makes a `Refusal` of it."""

    def __init__(self, kind: RefusalKind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


def refusal(why: ReadingError, finish: FinishReason | None, think: str | None) -> Refusal:
    """The refusal for a reading that stopped; what looks cut off and was, by the token limit, is TRUNCATED."""
    cut = finish is FinishReason.LENGTH and why.kind in _CUT
    return Refusal(RefusalKind.TRUNCATED if cut else why.kind, why.detail, think)


def excerpt(value: object, length: int = 40) -> str:
    """The beginning of a value for an error message: printable ASCII, bounded in length.

    >>> excerpt("a" * 100, 8)
    'aaaaaaaa...'
    """
    text = value if isinstance(value, str) else repr(value)
    shown = ascii(text[:length])[1:-1]
    return (shown[:_DETAIL] + "...") if len(text) > length or len(shown) > _DETAIL else shown


class Parts(NamedTuple):
    """What a completion consists of."""

    think: str | None
    body: str
    """What should be the answer."""
    tagged: bool
    """Whether an answer tag said so."""
    thinking: bool = False
    """Whether the text ends inside its think part, as far as tags tell."""
    enclosed: bool = True
    """Whether the body stands between both answer tags."""
    aside: bool = False
    """Whether the body lies in a think text that goes on after it, or that nothing ends."""


def strict_parts(text: str) -> Parts:
    """Think text and answer body of a completion that is exactly think + answer.

    White space (space, tab, line feed, carriage return) may surround and separate the two parts and the body; each
    tag stands exactly once, and the think text is kept letter by letter. An empty think text is read as None.

    Raises:
        ReadingError: BAD_FORM.
    """
    text = text.strip(WHITE)
    for tag in TAGS:
        if (found := text.count(tag)) != 1:
            raise ReadingError(RefusalKind.BAD_FORM, f"{tag} stands {found} times instead of once")
    if not text.startswith(THINK):
        raise ReadingError(RefusalKind.BAD_FORM, f"text before {THINK}: {excerpt(text)}")
    if not text.endswith(ANSWER_END):
        raise ReadingError(RefusalKind.BAD_FORM, f"text after {ANSWER_END}: {excerpt(text.partition(ANSWER_END)[2])}")
    think, end, rest = text[len(THINK) : -len(ANSWER_END)].partition(THINK_END)
    between, start, body = rest.partition(ANSWER)
    if not end or not start:
        raise ReadingError(RefusalKind.BAD_FORM, "the tags do not stand in the order think, answer")
    if between.strip(WHITE):
        raise ReadingError(RefusalKind.BAD_FORM, f"text between think and answer: {excerpt(between)}")
    return Parts(think or None, body.strip(WHITE), tagged=True)


def tolerant_parts(text: str) -> Parts:
    """Think text and answer body of any text: the last answer part, else what follows the think part, else everything.

    The opening think tag may be missing (some chat templates put it into the prompt), as may any closing tag. Where
    nothing follows the think part, or nothing ends it, an answer inside it counts. Control tokens around the text and
    around the body are no part of it.
    """
    text = without_control_tokens(text)
    thought, ended, rest = text.rpartition(THINK_END)
    if not ended:
        thought, _, _ = text.partition(ANSWER) if ANSWER in text else ("", "", "")
        rest = text
    where = rest if rest.strip() else text
    before, opened, tail = where.rpartition(ANSWER)
    body, closed, after = tail.partition(ANSWER_END)
    tagged = bool(opened or closed)
    thinking = not ended and not tagged and THINK in body
    if thinking:
        body = thought = body.partition(THINK)[2]
    think = thought.partition(THINK)[2] if THINK in thought else thought
    within = where is text if ended else THINK in before
    aside = thinking or (within and bool(after.replace(THINK_END, "").strip()))
    return Parts(think or None, without_control_tokens(body).strip(), tagged, thinking, bool(opened and closed), aside)


def elements(text: str, tag: str) -> list[str]:
    """What stands between `<tag>` and the next `</tag>`, for each pair in order.

    >>> elements("<p>a</p> <p>b</p><p>c", "p")
    ['a', 'b']
    """
    return [piece.partition(f"</{tag}>")[0] for piece in text.split(f"<{tag}>")[1:] if f"</{tag}>" in piece]


def unfenced(body: str) -> str:
    r"""The content of the last fenced code block, or the text itself where it has none.

    >>> unfenced("```json\n[1]\n```")
    '[1]'
    """
    pieces = body.split(FENCE)
    if len(pieces) < 2:
        return body
    inside = pieces[1::2][-1]
    label = _FENCE_LABEL.match(inside)
    return without_control_tokens(inside[label.end() if label else 0 :]).strip()


def without_fence(body: str) -> str:
    r"""A body that is one fenced code block as a whole, without its fence; any other comes back as it is.

    >>> without_fence("```json\n[1]\n```"), without_fence("So:\n```\n[1]\n```")
    ('[1]', 'So:\n```\n[1]')
    """
    if body.startswith(FENCE):
        label = _FENCE_LABEL.match(body, len(FENCE))
        body = body[label.end() if label else len(FENCE) :]
    return without_control_tokens(body.removesuffix(FENCE)).strip()


class Braces(NamedTuple):
    """A pair of braces: where it begins and ends, and how many pairs nest in it, itself included."""

    start: int
    end: int
    height: int


def braces(text: str) -> list[Braces]:
    """All closed `{…}`, in the order of their beginnings; braces inside strings inside braces are none.

    >>> text = '[{"a": "}"}, {"b": {}}] or {"c"'
    >>> [text[pair.start : pair.end] for pair in braces(text)]
    ['{"a": "}"}', '{"b": {}}', '{}']
    """
    found: list[Braces] = []
    scanner = Scanner(text, QUOTES)
    at = 0
    while (at := text.find("{", at)) >= 0:
        if plain := _PLAIN_BRACES.match(text, at):
            found.append(Braces(at, plain.end(), 1))
            at = plain.end()
        else:
            at = _outer_pair(scanner, at, found)
    return sorted(found)


def _outer_pair(scanner: Scanner, at: int, found: list[Braces]) -> int:
    """Add the pairs that begin with the brace at a position, and return where they end."""
    open_at: list[int] = []
    heights: list[int] = []
    for start, piece in scanner.tokens("[{}]", at):
        if piece == "{":
            open_at.append(start)
            heights.append(1)
        elif piece == "}":
            height = heights.pop()
            found.append(Braces(open_at.pop(), start + 1, height))
            if not open_at:
                return start + 1
            heights[-1] = max(heights[-1], height + 1)
    return len(scanner.text)
