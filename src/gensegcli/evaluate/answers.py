"""The first stage of an evaluation: what the policy writes, kept as text and never asked for again.

`answers.jsonl` holds one record for each sample: id, query, text, finish, tokens, seconds (the sample's share of its
batch). A policy that reads them back stands in for the one that wrote them in whatever comes after.
"""

from __future__ import annotations

from collections import deque
from contextlib import closing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field, ValidationError

from gensegcli.evaluate.stages import silent
from gensegcli.files.text import invalid
from gensegcli.records import Completion, Failure, FinishReason
from gensegcli.requests import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gensegcli.evaluate.data import Choice, EvalSet
    from gensegcli.evaluate.stages import Stage
    from gensegcli.pipeline import Pipeline
    from gensegcli.records import Question, Sample, Sampling
    from gensegcli.store import Records, RunFolder


def ask(
    data: EvalSet,
    choice: Choice,
    folder: RunFolder,
    load: Callable[[], Pipeline],
    stage: Stage = silent,
) -> None:
    """Ask about every chosen sample that has no answer yet.

    Args:
        data: the set.
        choice: of its samples.
        folder: keeps the answers; failures of this attempt go to its `failed`.
        load: gives the pipeline; called only if there is something to ask. Only its policy is used, and not closed.
        stage: told how far it is.

    Raises:
        GensegError: the engine as a whole cannot go on, or the disk is full; what was answered is kept.
    """
    missing = frozenset(choice.ids) - folder.records.done_ids()
    if not missing:
        return
    names: deque[str] = deque()
    stream = load().ask_many(as_requests(data.samples(missing), names))
    with closing(stream) as jobs, stage("answers", len(missing)) as step:
        for job in jobs:
            picture = names.popleft()
            if isinstance(job.settled, Failure):
                failure = replace(job.settled, image=picture)
                folder.failed.append(asdict(failure))
                step(failure)
                continue
            said = job.completion
            folder.records.append(
                {
                    "id": job.request.id,
                    "query": job.request.query,
                    "text": said.text,
                    "finish": said.finish.value,
                    "tokens": said.tokens,
                    "seconds": job.timings["policy"],
                }
            )
            step(None)


class Recorded(BaseModel):
    """One record of answers.jsonl."""

    id: str
    query: str
    text: str
    finish: FinishReason
    tokens: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]


def recorded(records: Records, name: str) -> Recorded:
    """The answer about a sample.

    Raises:
        GensegError: the record is damaged; the message names file, sample and field.
    """
    try:
        return Recorded.model_validate(records[name])
    except ValidationError as error:
        hint = "remove that line, and the same command asks again; or begin anew with --restart"
        raise invalid(error, f"{records.path}: sample {name}", hint=hint) from None


def as_requests(samples: Iterable[Sample], names: deque[str]) -> Iterator[Request]:
    """The samples as questions to a pipeline; `names` is given the name of each one's picture, in the same order."""
    for sample in samples:
        names.append(picture_name(sample))
        yield Request(sample.id, sample.image, sample.query)


def picture_name(sample: Sample) -> str:
    """The picture's file in the raw set, for people; the sample's id where that is not known."""
    return str(sample.provenance.get("file_name") or sample.id)


class RecordedAnswers:
    """A policy that says again what was recorded.

    Args:
        records: as `ask` writes them.
        id: of the policy that gave the answers.
        revision: of that policy.
    """

    def __init__(self, records: Records, *, id: str, revision: str | None) -> None:  # noqa: A002 - the protocol's name
        self.id, self.revision = id, revision
        self._records = records

    def generate(self, questions: Sequence[Question], sampling: Sampling) -> list[list[Completion]]:
        """See `Policy.generate`; one completion each, and every question must have its record."""
        del sampling
        return [[_completion(recorded(self._records, question.id))] for question in questions]

    def close(self) -> None:
        """The records belong to whoever opened them."""


def _completion(record: Recorded) -> Completion:
    return Completion(record.text, record.finish, record.tokens)
