"""A batch that can be interrupted: what the run's folder holds already is not asked again, and the order stays."""

from __future__ import annotations

import re
from collections import deque
from contextlib import closing
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from gensegcli.errors import GensegError
from gensegcli.images import file_stamp, image_name, read_image
from gensegcli.predictions import from_json, to_json
from gensegcli.records import Failure, Prediction
from gensegcli.requests import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from PIL.Image import Image

    from gensegcli.exports import Exporter
    from gensegcli.images import FileStamp, ImageSource
    from gensegcli.pipeline import Pipeline
    from gensegcli.store import RunFolder


_COMPLETION_ID = re.compile(r"#[1-9][0-9]*$")


class Outcome(NamedTuple):
    """What became of one completion of a request."""

    value: Prediction | Failure
    recorded: bool
    """Taken from the folder, not answered now."""


class _UnderWay(NamedTuple):
    """What settling a request takes."""

    image: ImageSource
    stamp: FileStamp | None
    recorded: bool


class Batch:
    """Requests, where their answers are kept, and the files wanted of them.

    A new prediction is exported first and recorded then, so that a record means that everything about it is on disk,
    except for an overlay whose picture cannot be read any more: the answer is kept, and the overlay reported.
    A record holds, beside the prediction, the stamp of the picture's file (size and time of change). If the file has
    another one now, the question is asked again and the later record counts.
    The folder may hold answers to other questions: they stay, and the files over all predictions are of these requests.
    Predictions of an earlier attempt are exported too where their files are not there: it may not have been asked for
    these formats. Where several completions are drawn, a question is answered when all of them are on record.
    """

    def __init__(
        self,
        requests: Iterable[Request | Failure],
        folder: RunFolder | None = None,
        exporter: Exporter | None = None,
        *,
        n: int = 1,
    ) -> None:
        """Prepare.

        Args:
            requests: as from `expand_requests`.
            folder: where records are kept; without one, nothing is.
            exporter: writes files; needs a folder.
            n: completions of each question, as the pipeline draws them.
        """
        self._requests, self._folder, self._exporter, self._n = requests, folder, exporter, n
        self._drawn: list[Prediction] = []
        """The predictions of the first request under way, until all of them are there."""
        self._under_way: deque[_UnderWay] = deque()
        """The requests under way, in order: the stream of outcomes runs beside this queue."""
        self._last: tuple[ImageSource, Image] | None = None
        self._settled: list[str] = []
        """Ids of the predictions that belong to these requests: the folder may hold others."""

    def run(self, load: Callable[[], Pipeline]) -> Iterator[Outcome]:
        """Answer everything, in the order of the requests.

        Args:
            load: gives the pipeline; called only if there is something to ask. The pipeline is not closed.

        Raises:
            GensegError: an id of the folder belongs to another question now; or from pipeline, folder and exporter.
        """
        waiting = self._waiting()
        for item in waiting:
            if isinstance(item, Request):
                stream = load().predict_pictures(chain([item], waiting))
                with closing(stream):  # a reader that leaves, or a full disk, must stop the engines too
                    for value, picture in stream:
                        yield from self._take(value, picture)
            else:
                yield from self._take(item, None)
        if self._exporter is not None and self._folder is not None:
            self._exporter.close(from_json(self._folder.records[name]) for name in self._settled)

    def _waiting(self) -> Iterator[Request | Prediction | Failure]:
        """The requests, with those answered before replaced by their answers. Runs in a thread of the pipeline."""
        for given in self._requests:
            request = self._checked(given)
            # Looked at before the picture is read: a change in between is met by the next attempt.
            stamp = file_stamp(request.image)
            known = self._known(request, stamp) if isinstance(request, Request) else []
            self._under_way.append(_UnderWay(request.image, stamp, recorded=bool(known)))
            yield from known or [request]

    def _checked(self, request: Request | Failure) -> Request | Failure:
        """A failure instead of a request whose id looks like that of another one's completion."""
        if self._n == 1 or isinstance(request, Failure) or not _COMPLETION_ID.search(request.id):
            return request
        error = f"id {request.id!r} ends as the ids of further completions do (#1, #2, …)"
        return Failure(request.id, image_name(request.image), request.query, error, "choose another id, or n=1")

    def _known(self, request: Request, stamp: FileStamp | None) -> list[Prediction]:
        """The recorded answers, if they are about this very picture and none is missing."""
        folder = self._folder
        if folder is None:
            return []
        records = [folder.records[name] for name in self._ids(request) if name in folder.records]
        asked = (image_name(request.image), request.query)
        known = [from_json(record) for record in records]
        for old in known:
            if (old.image, old.query) != asked:
                raise GensegError(
                    f"{folder.folder}: id {old.id!r} is {old.query!r} on {old.image} there, "
                    f"but {asked[1]!r} on {asked[0]} here",
                    hint="choose another folder with --out, or begin anew with --restart",
                )
        same = all(_same_content(record.get("picture"), stamp) for record in records)
        return known if same and len(known) == self._n else []

    def _ids(self, request: Request) -> list[str]:
        return [request.id, *(f"{request.id}#{number}" for number in range(1, self._n))]

    def _take(self, value: Prediction | Failure, picture: Image | None) -> list[Outcome]:
        """What the stream gave, settled as soon as a question is whole."""
        if isinstance(value, Failure):
            self._under_way.popleft()
            return [self._failed(value)]
        self._drawn.append(value)
        if len(self._drawn) < self._n:
            return []
        whole, self._drawn = self._drawn, []
        request = self._under_way.popleft()
        return [self._settle(prediction, request, picture) for prediction in whole]

    def _settle(self, value: Prediction, request: _UnderWay, picture: Image | None) -> Outcome:
        problem = self._export(value, request, picture)
        if self._folder is not None and not request.recorded:
            stamp = {} if request.stamp is None else {"picture": request.stamp._asdict()}
            self._folder.records.append({**to_json(value), **stamp}, replace=True)
        self._settled.append(value.id)
        if problem is not None:
            return self._failed(
                Failure(value.id, value.image, value.query, problem.message, problem.hint, problem.code)
            )
        return Outcome(value, request.recorded)

    def _export(self, value: Prediction, request: _UnderWay, picture: Image | None) -> GensegError | None:
        """Write the files that are wanted and not there; what keeps those that show the picture from being made."""
        exporter = self._exporter
        if exporter is None or not exporter.paths(value) or (request.recorded and exporter.is_complete(value)):
            return None
        problem = None
        if picture is None and exporter.needs_picture(value, renew=not request.recorded):
            try:
                picture = self._picture(request.image)
            except GensegError as error:  # gone since it was answered
                problem = error
        exporter.write(value, picture)
        return problem

    def _failed(self, failure: Failure) -> Outcome:
        if self._folder is not None and failure.id not in self._folder.failed:
            self._folder.failed.append(asdict(failure))
        return Outcome(failure, recorded=False)

    def _picture(self, source: ImageSource) -> Image:
        if self._last is None or self._last[0] is not source:
            self._last = source, read_image(source)
        return self._last[1]


def _same_content(recorded: object, now: FileStamp | None) -> bool:
    """Whether nothing speaks against it: a picture without a stamp, then or now, counts as unchanged."""
    return now is None or recorded is None or recorded == now._asdict()
