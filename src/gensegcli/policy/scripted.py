"""Answers from a file: completions of another system, or written by hand, run through the rest of the pipeline.

One JSON object a line::

    {"query": "red circle", "image": "img.jpg", "text": "<think>…</think><answer>…</answer>"}

`text` is the completion. `id`, `image` and `query` say which question it answers: a line fits if every one it gives is
equal to the question's (`image` as given or by its file name, `query` after normalisation), and the line that gives
most wins. Several lines of equal claim are the `n` completions of that question, in order. Lines that give none of the
three answer, one each, the questions that no other line fits. `"finish": "length"` marks a cut-off completion.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from gensegcli.dialects.expressions import normalise_expression
from gensegcli.errors import ExitCode, GensegError
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
        try:
            content = answers.read_bytes()
        except OSError as error:
            raise GensegError(f"{answers}: {error.strerror}", code=ExitCode.NOT_FOUND) from error
        self.id = str(answers)
        self.revision: str | None = f"sha256:{hashlib.sha256(content).hexdigest()[:12]}"
        self._scripts: dict[_Key, list[Completion]] = defaultdict(list)
        for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), 1):
            if line.strip():
                key, completion = _parse(line, f"{answers}:{number}")
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


def _parse(line: str, place: str) -> tuple[_Key, Completion]:
    try:
        record: Any = json.loads(line)
    except ValueError as error:
        raise GensegError(f"{place}: not JSON ({error})", code=ExitCode.NOT_FOUND) from error
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise GensegError(f'{place}: expected an object with "text", found {line[:60]!r}', code=ExitCode.NOT_FOUND)
    values = [record.get(name) for name in ("id", "image", "query")]
    if not all(value is None or isinstance(value, str) for value in values):
        raise GensegError(f"{place}: id, image and query must be strings", code=ExitCode.NOT_FOUND)
    try:
        finish = FinishReason(record.get("finish", FinishReason.STOP))
    except ValueError as error:
        raise GensegError(f"{place}: {error}", hint="finish is stop or length", code=ExitCode.NOT_FOUND) from error
    name, image, query = values
    return (name, image, None if query is None else normalise_expression(query)), Completion(record["text"], finish)
