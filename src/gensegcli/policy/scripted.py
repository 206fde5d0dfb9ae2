"""Answers from a file: completions of another system, or written by hand, run through the rest of the pipeline.

One JSON object a line::

    {"query": "red circle", "image": "img.jpg", "text": "<think>…</think><answer>…</answer>"}

`text` is the completion. `id`, `image` and `query` say which question it answers: a line fits if every one it gives is
equal to the question's (`image` as given or by its file name, `query` after normalisation), and the line that gives
most wins. Several lines of equal claim are the `n` completions of that question, in order. Lines that give none of the
three answer, one each, the questions that no other line fits. `"finish": "length"` marks a cut-off completion. An id
that is a whole number is that number as text. docs/answers.md shows the forms of `text`.
"""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from gensegcli.dialects.expressions import normalise_expression
from gensegcli.errors import ExitCode, GensegError
from gensegcli.files.text import excerpt, json_type, read_bytes, read_jsonl
from gensegcli.policy.base import all_or_raise
from gensegcli.records import Completion, FinishReason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gensegcli.records import Question, Sampling

_Key = tuple[str | None, str | None, str | None]
_NO_KEY: _Key = (None, None, None)


class ScriptedPolicy:
    """A policy that reads its completions from a JSONL file.

    Raises:
        GensegError: the file is missing, or a line is not of the form above (named with its number).
    """

    def __init__(self, answers: Path) -> None:
        content = read_bytes(answers)
        self.id = str(answers)
        self.revision: str | None = f"sha256:{hashlib.sha256(content).hexdigest()[:12]}"
        self._scripts: dict[_Key, list[Completion]] = defaultdict(list)
        for line in read_jsonl(io.BytesIO(content), name=str(answers), unique=True):
            if line.problem is not None:
                raise _bad(line.problem.message)
            key, completion = _parse(line.value, line.place)
            self._scripts[key].append(completion)
        self._in_order = iter(self._scripts.pop(_NO_KEY, []))

    def generate(self, questions: Sequence[Question], sampling: Sampling) -> list[list[Completion]]:
        return all_or_raise([self._answer(question, sampling.n) for question in questions])

    def close(self) -> None:
        self._scripts.clear()

    def _answer(self, question: Question, n: int) -> list[Completion] | GensegError:
        for key in _keys(question):
            if key in self._scripts:
                found = self._scripts[key][:n]
                break
        else:
            found = list(islice(self._in_order, n))
        if len(found) == n:
            return found
        return GensegError(
            f"{self.id}: {len(found)} of {n} answers for query {question.query!r} on {question.source or 'the picture'}",
            hint='add a line {"query": …, "image": …, "text": …} for it',
            code=ExitCode.NOT_FOUND,
        )


def _keys(question: Question) -> Iterator[_Key]:
    """Keys under which a question's answer may stand, those that say most first."""
    query = normalise_expression(question.query)
    images = dict.fromkeys(name for name in (question.source, PurePath(question.source).name) if name)
    ids = [question.id or None, None] if question.id else [None]
    for name in ids:
        for image in images:
            yield (name, image, query)
        yield (name, None, query)
        for image in images:
            yield (name, image, None)
        if name is not None:
            yield (name, None, None)


def _parse(record: Any, place: str) -> tuple[_Key, Completion]:
    if not isinstance(record, dict):
        raise _bad(f'{place}: expected an object with "text", found {json_type(record)}')
    text = record.get("text")
    if not isinstance(text, str):
        raise _bad(f'{place}: expected an object with "text", found {excerpt(record)}')
    image, query = (_text(record, name, place) for name in ("image", "query"))
    try:
        finish = FinishReason(record.get("finish", FinishReason.STOP))
    except ValueError:
        raise _bad(f"{place}: finish is stop or length, found {excerpt(record['finish'])}") from None
    key = (_identifier(record, place), image, None if query is None else normalise_expression(query))
    return key, Completion(text, finish)


def _text(record: dict[str, Any], name: str, place: str) -> str | None:
    value = record.get(name)
    if value is None or isinstance(value, str):
        return value
    raise _bad(f"{place}: {name} must be a text, found {excerpt(value)}")


def _identifier(record: dict[str, Any], place: str) -> str | None:
    value = record.get("id")
    if isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer():
        return str(int(value))
    return _text(record, "id", place)


def _bad(message: str) -> GensegError:
    return GensegError(message, hint="docs/answers.md shows the lines of such a file", code=ExitCode.NOT_FOUND)
