"""The last stage of an evaluation: predictions against the truth, one row for each sample, under one protocol."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import orjson
from pydantic import BaseModel, Field, ValidationError

from gensegcli import __version__
from gensegcli.atomic import replacing, saving
from gensegcli.errors import GensegError
from gensegcli.evaluate.results import of_file, read_lines, read_scores
from gensegcli.evaluate.stages import silent
from gensegcli.metrics.records import Guess, guess_of, score_from_json, score_to_json, truth_of
from gensegcli.metrics.score import score_sample
from gensegcli.predictions import from_json
from gensegcli.records import RefusalKind
from gensegcli.store import Records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import numpy as np

    from gensegcli.evaluate.data import Choice, EvalSet
    from gensegcli.evaluate.stages import Stage
    from gensegcli.metrics.protocols import Protocol
    from gensegcli.metrics.records import SampleScore
    from gensegcli.records import Prediction


class Scored(NamedTuple):
    """What scoring came to; the scores themselves are read back from their file."""

    path: Path
    missing: int
    """Samples without a prediction."""
    seconds: float

    def scores(self) -> Iterator[SampleScore]:
        """One for each chosen sample, in their order."""
        return read_scores(self.path)


def score(
    data: EvalSet,
    choice: Choice,
    predictions: Records,
    path: Path,
    protocol: Protocol,
    *,
    boxes_only: bool = False,
    maps: Callable[[str], np.ndarray | None] | None = None,
    stage: Stage = silent,
) -> Scored:
    """Score every chosen sample that has no row yet; one without a prediction counts as an empty answer.

    Args:
        data: the set.
        choice: of its samples.
        predictions: records of predictions (docs/predictions.md), by sample id.
        path: file of the rows.
        protocol: the conventions.
        boxes_only: the predictions' masks mean nothing, or the set has none.
        maps: gives the grey-level map (uint8, h w) behind a sample's mask where it is one; asked in foreground sets.
        stage: told how far it is.

    Raises:
        GensegError: a mask is not of its picture's size, or the disk is full.
    """
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with Records(path) as rows:
        old = {name for name in rows.done_ids() if _outdated(name, rows[name], predictions)}
        todo = (frozenset(choice.ids) - rows.done_ids()) | old
        with stage("scores", len(todo)) if todo else nullcontext(lambda _: None) as step:
            for sample in data.samples(todo, pictures=False):
                started = perf_counter()
                missing = sample.id not in predictions
                guess = missing_guess(sample.id) if missing else guess_of(predicted(predictions, sample.id))
                if boxes_only:
                    guess = replace(guess, masks=None)
                levels = maps(sample.id) if maps is not None and data.foreground else None
                scored = score_sample(truth_of(sample), guess, protocol, foreground=data.foreground, levels=levels)
                made = {"missing": missing, "genseg": __version__, "seconds": perf_counter() - started}
                rows.append({**score_to_json(scored), **made}, replace=sample.id in old)
                step(None)
        told = [_Made.model_validate(rows[name]) for name in choice.ids]
        _in_order(rows, choice, path)
    return Scored(path, sum(made.missing for made in told), sum(made.seconds for made in told))


class _Made(BaseModel):
    """How a row was made; it stands beside the score."""

    missing: bool
    genseg: str
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _outdated(name: str, row: Mapping[str, Any], predictions: Records) -> bool:
    """Scored without a prediction that is there by now, or by another version; or damaged since."""
    try:
        made = _Made.model_validate(row)
        score_from_json(row)
    except (ValidationError, GensegError):
        return True
    return (made.missing and name in predictions) or made.genseg != __version__ or row["id"] != name


def predicted(predictions: Records, name: str) -> Prediction:
    """The prediction for a sample.

    Raises:
        GensegError: the record is damaged; the message names file, sample and field.
    """
    with of_file(predictions.path):
        return from_json(predictions[name])


def missing_guess(name: str) -> Guess:
    """What counts for a sample that has no prediction: no text at all, neither a mask nor an abstention."""
    return Guess(name, abstained=False, refusal=RefusalKind.EMPTY)


def _in_order(rows: Records, choice: Choice, path: Path) -> None:
    """One line for each sample, in the order of the samples, also after an interruption."""
    if [row.get("id") for row in read_lines(path)] == list(choice.ids):
        return
    with saving(path), replacing(path) as stream:
        for name in choice.ids:
            stream.write(orjson.dumps(rows[name], option=orjson.OPT_APPEND_NEWLINE))
