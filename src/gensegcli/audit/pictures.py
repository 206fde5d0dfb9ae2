"""What pictures look like: the digest and the perceptual hash of each, on all cores."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from gensegcli.audit.hashes import perceptual_hash
from gensegcli.errors import GensegError
from gensegcli.images import read_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gensegcli.audit.sets import Picture


class Look(NamedTuple):
    """One picture, read."""

    digest: bytes | None = None
    """SHA-256 of its file; None if it could not be read."""
    hash: int | None = None
    """See `hashes.perceptual_hash`; None for plain pictures too."""
    problem: str = ""
    """Why it could not be read or decoded."""


def look_at(pictures: Iterable[Picture], *, hashes: bool = True, workers: int | None = None) -> Iterator[Look]:
    """Read pictures, in their order, a few in memory at a time. What cannot be read is a value.

    Args:
        pictures: those without a source count as unreadable.
        hashes: decode and hash them; else only their bytes are digested.
        workers: threads; decoding and digesting leave the interpreter free. None: one a core.
    """
    workers = workers or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    running: deque[Future[Look]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for picture in pictures:
                running.append(_begin(pool, picture, hashes=hashes))
                if len(running) > 2 * workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(pool: ThreadPoolExecutor, picture: Picture, *, hashes: bool) -> Future[Look]:
    """Read here, in order, so that a Parquet file is read front to back; the rest is a worker's."""
    known: Future[Look] = Future()
    if picture.source is None:
        known.set_result(Look(problem=f"{picture.name}: nobody knows where it is"))
        return known
    try:
        data = picture.source.read()
    except OSError as error:
        known.set_result(Look(problem=f"{picture.name}: cannot be read ({error.strerror or error})"))
        return known
    return pool.submit(_look, picture.name, data, hashes=hashes)


def _look(name: str, data: bytes, *, hashes: bool) -> Look:
    digest = sha256(data).digest()
    if not hashes:
        return Look(digest)
    try:
        return Look(digest, perceptual_hash(read_image(data)))
    except GensegError as error:
        return Look(digest, problem=f"{name}: {error.message.removeprefix(f'the given {len(data)} bytes: ')}")
