"""A request on its way through the pipeline: its picture decoded once for all questions about it, and batches of such.

The pipeline's `read` and `decode` stages; what is asked and segmented afterwards is written into the same `Job`.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from gensegcli.errors import GensegError
from gensegcli.images import image_name, read_image
from gensegcli.records import Answer, Completion, Failure, Prediction, Refusal, Size
from gensegcli.requests import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.Image import Image

    from gensegcli.images import ImageSource
    from gensegcli.stream import Prefetch

BATCH_PIXELS = 128_000_000
"""Distinct pictures of one policy batch together (384 MB of RGB): a folder of scans must not fill the memory."""

LINGER = 1.0
"""Seconds for which an unfilled batch waits for the next request: a slow producer on stdin still gets its answers."""


@dataclass(slots=True, eq=False)
class Picture:
    """A decoded picture, shared by all questions about it."""

    image: Image
    seconds: float
    _array: np.ndarray | None = None

    @property
    def size(self) -> Size:
        return Size(*self.image.size)

    @property
    def array(self) -> np.ndarray:
        """RGB (h w 3), made once; a segmenter recognises what it has encoded by its content."""
        if self._array is None:
            self._array = np.asarray(self.image)
        return self._array


@dataclass(slots=True, eq=False)
class Job:
    """One request on its way through the stages. Once it is `settled`, the rest lets it pass."""

    request: Request
    picture: Picture | None = None
    settled: Prediction | Failure | None = None
    number: int = 0
    """Which completion of its question."""
    completion: Completion = field(default_factory=lambda: Completion(""))
    reading: Answer | Refusal = field(default_factory=Answer)
    timings: dict[str, float] = field(default_factory=dict)

    def fail(self, error: GensegError) -> None:
        request = self.request
        self.settled = Failure(
            request.id, image_name(request.image), request.query, error.message, error.hint, error.code
        )


def decode_picture(source: ImageSource) -> Picture:
    """Read a picture; GensegError if that is impossible."""
    started = perf_counter()
    image = read_image(source)
    return Picture(image, perf_counter() - started)


def decoded(requests: Prefetch[Request | Prediction | Failure]) -> Iterator[Job]:
    """Jobs with their pictures, decoded a few ahead in a pool; a run of the same picture is decoded once."""
    threads = min(4, os.cpu_count() or 1)
    ahead: deque[tuple[Job, Future[Picture] | None]] = deque()
    last: tuple[ImageSource, Future[Picture]] | None = None
    with ThreadPoolExecutor(threads, thread_name_prefix="genseg-picture") as pool:
        for item in requests:
            if not isinstance(item, Request):
                ahead.append((Job(Request(item.id, item.image, item.query), settled=item), None))
            else:
                if last is None or not _same(last[0], item.image):
                    last = item.image, pool.submit(decode_picture, item.image)
                ahead.append((Job(item), last[1]))
            # While nothing more is waiting, what has been read must not wait either.
            while ahead and (len(ahead) > threads or not requests.wait(0)):
                yield _finished(*ahead.popleft())
        while ahead:
            yield _finished(*ahead.popleft())


def _finished(job: Job, picture: Future[Picture] | None) -> Job:
    if picture is not None:
        try:
            job.picture = picture.result()
        except GensegError as error:
            job.fail(error)
    return job


def _same(a: ImageSource, b: ImageSource) -> bool:
    return a is b or (isinstance(a, str | Path | bytes) and type(a) is type(b) and a == b)


def pixels_of(job: Job) -> float:
    """What a job weighs while it waits; 0 once it has failed."""
    return job.picture.image.width * job.picture.image.height if job.picture else 0.0


def next_batch(jobs: Prefetch[Job], most: int) -> list[Job]:
    """Up to `most` open jobs or `BATCH_PIXELS` of distinct pictures, whichever comes first; empty at the end.

    Settled jobs cost nothing: they keep their places between the others, and go on at once if they come first.
    """
    first = next(jobs, None)
    if first is None:
        return []
    batch, pixels, still_open = [first], pixels_of(first), 1
    if first.settled is not None:
        return batch
    while still_open < most and pixels < BATCH_PIXELS and len(batch) < 8 * most:
        try:
            job = jobs.next_within(LINGER)
        except StopIteration:
            break
        if job is None:
            break
        if job.picture is not batch[-1].picture:
            pixels += pixels_of(job)
        still_open += job.settled is None
        batch.append(job)
    return batch
