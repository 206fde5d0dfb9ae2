"""A batch that can be interrupted: what the run's folder holds already is not asked again, and the order stays."""

from __future__ import annotations

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


class Outcome(NamedTuple):
    """What became of one request."""

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
    Predictions of an earlier attempt are exported too where their files are not there: it may not have been asked for
    these formats.
    """

    def __init__(
        self, requests: Iterable[Request | Failure], folder: RunFolder | None = None, exporter: Exporter | None = None
    ) -> None:
        """Prepare.

        Args:
            requests: as from `expand_requests`.
            folder: where records are kept; without one, nothing is.
            exporter: writes files; needs a folder.
        """
        self._requests, self._folder, self._exporter = requests, folder, exporter
        self._under_way: deque[_UnderWay] = deque()
        """The requests under way, in order: the stream of outcomes runs beside this queue."""
        self._last: tuple[ImageSource, Image] | None = None

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
                stream = load().predict_many(chain([item], waiting))
                with closing(stream):  # a reader that leaves, or a full disk, must stop the engines too
                    for value in stream:
                        yield self._settle(value)
            else:
                yield self._settle(item)
        if self._exporter is not None and self._folder is not None:
            self._exporter.close(from_json(record) for record in self._folder.records)

    def _waiting(self) -> Iterator[Request | Prediction | Failure]:
        """The requests, with those answered before replaced by their answers. Runs in a thread of the pipeline."""
        for request in self._requests:
            # Looked at before the picture is read: a change in between is met by the next attempt.
            stamp = file_stamp(request.image)
            known = self._known(request, stamp) if isinstance(request, Request) else None
            self._under_way.append(_UnderWay(request.image, stamp, recorded=known is not None))
            yield request if known is None else known

    def _known(self, request: Request, stamp: FileStamp | None) -> Prediction | None:
        """The recorded answer, if it is about this very picture."""
        if self._folder is None or request.id not in self._folder.records:
            return None
        record = self._folder.records[request.id]
        known = from_json(record)
        asked = (image_name(request.image), request.query)
        if (known.image, known.query) != asked:
            raise GensegError(
                f"{self._folder.folder}: id {known.id!r} is {known.query!r} on {known.image} there, "
                f"but {asked[1]!r} on {asked[0]} here",
                hint="choose another folder with --out, or begin anew with --restart",
            )
        return known if _same_content(record.get("picture"), stamp) else None

    def _settle(self, value: Prediction | Failure) -> Outcome:
        request = self._under_way.popleft()
        if isinstance(value, Failure):
            return self._failed(value)
        problem = self._export(value, request)
        if self._folder is not None and not request.recorded:
            stamp = {} if request.stamp is None else {"picture": request.stamp._asdict()}
            self._folder.records.append({**to_json(value), **stamp}, replace=True)
        if problem is not None:
            return self._failed(
                Failure(value.id, value.image, value.query, problem.message, problem.hint, problem.code)
            )
        return Outcome(value, request.recorded)

    def _export(self, value: Prediction, request: _UnderWay) -> GensegError | None:
        """Write the files that are wanted and not there; what keeps those that show the picture from being made."""
        exporter = self._exporter
        if exporter is None or not exporter.paths(value) or (request.recorded and exporter.is_complete(value)):
            return None
        picture, problem = None, None
        if exporter.needs_picture(value, renew=not request.recorded):
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
