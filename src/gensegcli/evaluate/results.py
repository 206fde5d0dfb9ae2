"""The folder of an evaluation: what lies where, and how it is written and read.

::

    run.json                               what is being run: data, model, question, sampling; versions of the answers
    data.json                              where the samples are
    answers.jsonl                          the policy's texts, one record for each sample
    failed.jsonl                           samples that the last attempt could not ask
    masks/<segmenter>-<mode>/              run.json, predictions.jsonl (docs/predictions.md), failed.jsonl
    scores/<segmenter>-<mode>/*.jsonl      one file of rows for each protocol and choice of samples
    results.json                           what came out, a `Result` for each of those files

`read_run` reads all of it; nobody else needs to know the names.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gensegcli.errors import ExitCode, GensegError
from gensegcli.evaluate.data import EvalSet, open_set
from gensegcli.files.text import invalid, json_type, read_bytes, read_json, read_json_object, read_jsonl
from gensegcli.metrics.records import SampleScore, Summary, score_from_json
from gensegcli.predictions import ModelId, from_json
from gensegcli.records import Prediction, PromptMode, Sample
from gensegcli.store import write_json

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator

RUN, RESULTS, DATA, ANSWERS = "run.json", "results.json", "data.json", "answers.jsonl"
MASKS, SCORES, GIVEN = "masks", "scores", "given"

AGAIN = "run the same `genseg eval` again, with --restart if that does not help"


class _Form(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class GivenFacts(_Form):
    """What is known of predictions that were given once all of them are read."""

    boxes_only: bool = False
    notes: tuple[str, ...] = ()


class Pinned(_Form):
    """What decides the results and is known only once the models are loaded, or the predictions read."""

    model: str | None = None
    model_revision: str | None = None
    segmenter: str | None = None
    segmenter_revision: str | None = None
    given: GivenFacts | None = None


class RunFacts(_Form):
    """run.json, as far as evaluation relies on it; reports show all of it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    identity: dict[str, Any] = Field(description="everything that decides the answers")
    pinned: Pinned = Pinned()
    versions: dict[str, str] = Field({}, description="of packages and of what they ran on")


class _DataFile(_Form):
    path: Path


class DataFacts(_Form):
    """The samples that a result is about."""

    name: str = Field(description="recipe and split, or the name of the folder or file")
    path: str = Field(description="prepared folder or Parquet file")
    digest: str = Field(description="of everything in it")
    samples: int = Field(description="samples of the whole set")
    foreground: bool = Field(description="a set of pictures with one foreground each: S, E, F and MAE are scored too")
    limit: int | None = Field(None, description="only the first so many references")
    subset: str | None = Field(None, description="file of the ids that were scored")
    chosen: str | None = Field(None, description="digest of the ids, where they are not all")
    notes: tuple[str, ...] = Field((), description="what a reader should know about the choice of samples")


class Result(_Form):
    """One scoring: some answers, segmented in one way, scored under one protocol."""

    protocol: dict[str, Any] = Field(description="every convention, as `metrics.protocols.Protocol.to_json` writes it")
    mode: PromptMode | None = Field(
        description="which parts of an answer prompted the segmenter; null: masks were given"
    )
    model: ModelId | None = Field(description="the policy; null: the predictions were given")
    segmenter: ModelId | None = Field(description="null: the predictions were given")
    given: str | None = Field(None, description="the file or folder of predictions that were given")
    data: DataFacts
    missing: int = Field(description="samples without any prediction; each counts as an empty answer, none is left out")
    summary: Summary
    speed: dict[str, float] = Field(description="samples a second by stage: answers, masks, scores")
    versions: dict[str, dict[str, str]] = Field(description="of packages and of what they ran on, by stage")
    notes: tuple[str, ...] = Field((), description="what a reader should know about the predictions")
    predictions: str = Field(description="their file in the run's folder")
    scores: str = Field(description="file of the rows in the run's folder")

    @property
    def name(self) -> str:
        """Segmenter, mode, protocol and choice of samples: unique in a run."""
        return self.scores.removeprefix(f"{SCORES}/").removesuffix(".jsonl")


class Row(NamedTuple):
    """One sample of a result."""

    sample: Sample
    prediction: Prediction | None
    """None where there is none; the score is then that of an empty answer."""
    score: SampleScore


_RESULTS = TypeAdapter(tuple[Result, ...])


@dataclass(frozen=True)
class EvalRun:
    """A finished evaluation, read back."""

    folder: Path
    run: dict[str, Any]
    """run.json: identity, settings with their origins, versions."""
    results: tuple[Result, ...]

    def scores(self, result: Result) -> list[SampleScore]:
        """The rows of a result, in the order of the samples.

        Raises:
            GensegError: their file is missing, or a row is damaged.
        """
        return list(read_scores(self.folder / result.scores))

    def predictions(self, result: Result, ids: Collection[str] | None = None) -> dict[str, Prediction]:
        """Predictions by id: those named, or all of the run."""
        wanted = None if ids is None else frozenset(ids)
        path = self.folder / result.predictions
        records = {str(row.get("id")): row for row in read_lines(path)}  # the later record counts
        with of_file(path):
            return {name: from_json(row) for name, row in records.items() if wanted is None or name in wanted}

    def samples(self) -> EvalSet:
        """The set that was evaluated.

        Raises:
            GensegError: it is not where it was.
        """
        path = self.folder / DATA
        try:
            return open_set(_DataFile.model_validate(read_json(path, hint=AGAIN)).path)
        except ValidationError as error:
            raise invalid(error, str(path), hint=AGAIN) from None

    def rows(self, result: Result, ids: Collection[str] | None = None) -> Iterator[Row]:
        """Samples with what was predicted and how that scored, in the order of the samples: those named, or all.

        Raises:
            GensegError: the set is not where it was.
        """
        scores = {score.id: score for score in self.scores(result)}
        wanted = scores.keys() if ids is None else scores.keys() & ids
        predictions = self.predictions(result, wanted)
        for sample in self.samples().samples(wanted):
            yield Row(sample, predictions.get(sample.id), scores[sample.id])


def read_run(folder: Path) -> EvalRun:
    """The evaluation in a folder.

    Raises:
        GensegError: there is none, it did not end, or it was written by another version.
    """
    path = folder / RESULTS
    if not path.is_file():
        begun = (folder / DATA).is_file()
        raise GensegError(
            f"{folder}: {'an evaluation that did not end' if begun else f'no evaluation (no {RESULTS})'}",
            hint="run the same `genseg eval` again to end it" if begun else "make one with `genseg eval`",
            code=ExitCode.NOT_FOUND,
        )
    read_facts(folder)
    return EvalRun(folder, read_json_object(folder / RUN), read_results(path))


def read_results(path: Path) -> tuple[Result, ...]:
    """The content of a results.json.

    Raises:
        GensegError: missing, or not of this form; the message names the field.
    """
    try:
        return _RESULTS.validate_python(read_json(path, hint=AGAIN))
    except ValidationError as error:
        raise invalid(error, str(path), hint=AGAIN) from None


def read_scores(path: Path) -> Iterator[SampleScore]:
    """The rows of a scores file.

    Raises:
        GensegError: missing, or a row is damaged; the message names file and sample.
    """
    for row in read_lines(path):
        with of_file(path):
            yield score_from_json(row)


@contextmanager
def of_file(path: Path) -> Generator[None]:
    """Put the file's name before whatever is wrong with one of its records."""
    try:
        yield
    except GensegError as error:
        raise GensegError(f"{path}: {error.message}", hint=error.hint or AGAIN, code=error.code) from None


def to_json(results: Collection[Result]) -> Any:
    """Results as plain JSON: the content of results.json."""
    return _RESULTS.dump_python(tuple(results), mode="json")


def write_results(folder: Path, results: Collection[Result]) -> None:
    """Put results into results.json, in the place of those of the same name; the others stay."""
    path = folder / RESULTS
    known = {result.name: result for result in read_results(path)} if path.is_file() else {}
    known |= {result.name: result for result in results}
    write_json(path, to_json(known.values()))


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a JSONL file of ours; a half-written last line is left out.

    Raises:
        GensegError: missing, or a line that is no object.
    """
    damaged: GensegError | None = None
    for line in read_jsonl(path):
        if damaged is not None:
            raise damaged
        damaged = line.problem
        if damaged is None:
            if not isinstance(line.value, dict):
                raise GensegError(f"{line.place}: a JSON object expected, {json_type(line.value)} found")
            yield line.value
    if damaged is not None and read_bytes(path).endswith(b"\n"):
        raise damaged


def read_facts(folder: Path) -> RunFacts:
    """What a run folder's run.json says.

    Raises:
        GensegError: missing, or not of this form; the message names the field.
    """
    path = folder / RUN
    try:
        return RunFacts.model_validate(read_json_object(path, hint=AGAIN))
    except ValidationError as error:
        raise invalid(error, str(path), hint=AGAIN) from None
