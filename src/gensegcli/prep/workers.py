"""Shards on all cores: each worker builds and writes whole shards, so that no picture travels between processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, NamedTuple

import cv2

from gensegcli.atomic import saving
from gensegcli.errors import ExitCode, GensegError
from gensegcli.prep.build import build_picture
from gensegcli.prep.select import Work, by_picture
from gensegcli.prep.store import Account, write_shard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from gensegcli.prep.build import Filter
    from gensegcli.prep.recipe import Recipe


class Shard(NamedTuple):
    """One shard as planned: where it goes, the digest of what decides its content, and its samples to be."""

    path: Path
    plan: str
    works: list[Work]


def build_shards(
    shards: Iterable[Shard], recipe: Recipe, *, workers: int, wanted: Filter | None = None
) -> Iterator[tuple[Shard, Account]]:
    """Build and write shards, yielding each as it is finished; in no particular order if there are several workers.

    Args:
        shards: what to build; taken in a few at a time.
        recipe: how.
        workers: processes. One worker is this process, and so is everything with a filter, which holds a model.
        wanted: see `build.Filter`.

    Raises:
        GensegError: the disk is full, or a worker was killed (the shards finished until then stay).
    """
    if workers == 1 or wanted is not None:
        cv2.setNumThreads(1)
        for shard in shards:
            yield shard, _build(shard, recipe, wanted)
        return
    # Not `fork`: the parent has threads (OpenCV, Arrow), whose locks a forked child would find held for ever.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        # Arrow imports pandas at its first use where it is installed, which takes longer than building 200 pictures.
        context.set_forkserver_preload(["gensegcli.prep.workers", "pandas", "pyarrow.compute"])
    waiting = deque(shards)
    running: dict[Future[Account], Shard] = {}
    with ProcessPoolExecutor(min(workers, len(waiting)) or 1, context, _begin) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < workers + 2:
                    shard = waiting.popleft()
                    running[pool.submit(_build, shard, recipe)] = shard
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool as error:
            raise GensegError(
                "a worker process was killed, probably because memory ran out",
                hint="run the same command again with fewer --workers: finished shards stay",
                code=ExitCode.ENVIRONMENT,
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _build(shard: Shard, recipe: Recipe, wanted: Filter | None = None) -> Account:
    pictures = (build_picture(works, recipe, wanted) for works in by_picture(shard.works))
    hint = "finished shards are not lost: make room or choose another folder with --out, and run the same command again"
    with saving(shard.path, hint=hint):
        return write_shard(shard.path, shard.plan, pictures)


def _begin() -> None:
    """Prepare a worker: one thread, interrupts left to the parent, and an end when the parent ends, however it does."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)
