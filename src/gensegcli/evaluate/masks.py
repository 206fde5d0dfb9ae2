"""The second stage of an evaluation: recorded answers to masks, in one prompt mode or several, without the policy."""

from __future__ import annotations

from collections import deque
from contextlib import closing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from gensegcli.evaluate.answers import as_requests, recorded
from gensegcli.evaluate.stages import silent
from gensegcli.predictions import to_json
from gensegcli.records import Failure, Prediction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gensegcli.evaluate.data import Choice, EvalSet
    from gensegcli.evaluate.stages import Stage
    from gensegcli.pipeline import Pipeline
    from gensegcli.records import PromptMode
    from gensegcli.store import Records, RunFolder


def segment(
    data: EvalSet,
    choice: Choice,
    answers: Records,
    folders: Mapping[PromptMode, RunFolder],
    load: Callable[[], Pipeline],
    stage: Stage = silent,
) -> None:
    """Segment every recorded answer that some mode has no prediction for; each picture is encoded once for all modes.

    Args:
        data: the set.
        choice: of its samples; those without an answer are left out.
        answers: as `answers.ask` writes them.
        folders: where the predictions of each mode are kept.
        load: gives a pipeline whose policy says the recorded answers; called only if there is something to segment.
        stage: told how far it is.

    Raises:
        GensegError: the segmenter cannot go on, or the disk is full; what is finished is kept.
    """
    answered = frozenset(choice.ids) & answers.done_ids()
    behind = {mode: folder for mode, folder in folders.items() if answered - folder.records.done_ids()}
    if not behind:
        return
    done = frozenset.intersection(*(folder.records.done_ids() for folder in behind.values()))
    names: deque[str] = deque()
    requests = as_requests(data.samples(answered - done), names)
    with (
        closing(load().predict_modes(requests, tuple(behind))) as stream,
        stage("masks", len(answered - done)) as step,
    ):
        for outcomes in stream:
            picture, failure = names.popleft(), None
            for folder, outcome in zip(behind.values(), outcomes, strict=True):
                if isinstance(outcome, Failure):
                    failure = replace(outcome, image=picture)
                    folder.failed.append(asdict(failure))
                elif outcome.id not in folder.records:
                    folder.records.append(to_json(_named(outcome, picture, recorded(answers, outcome.id).seconds)))
            step(failure)


def _named(prediction: Prediction, picture: str, asked: float) -> Prediction:
    """With the picture's name in place of a digest of its bytes, and the time that asking took."""
    return replace(prediction, image=picture, timings={**prediction.timings, "policy": asked})
