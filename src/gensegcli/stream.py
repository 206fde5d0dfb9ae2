"""Stages that run beside each other: an iterator moved into a thread of its own, with back-pressure."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

_WAKE_EVERY = 0.5
"""Seconds after which a waiting thread looks up: on Windows a wait without an end cannot be interrupted by Ctrl-C."""


class Stopped(Exception):  # noqa: N818 - an end, not an error
    """Raised inside a stage whose consumer has gone away; it ends the stage's thread and nobody sees it."""


class Prefetch(Iterator[T], Generic[T]):
    """Runs an iterator ahead of its consumer in a thread, and holds at most so many of its items.

    Order is kept. An exception of the source reaches the consumer, with its traceback, after the items before it.
    Stages are chained by giving one as part of the source of the next.
    """

    def __init__(
        self,
        source: Iterable[T],
        *,
        name: str,
        depth: int,
        weigh: Callable[[T], float] | None = None,
        capacity: float = float("inf"),
    ) -> None:
        """Start the thread.

        Args:
            source: iterated, and closed if it is a generator, in the new thread.
            name: of the thread, for tracebacks and debuggers.
            depth: how many items may wait for the consumer.
            weigh: what an item costs (for example its pixels); without it only the number counts.
            capacity: the source pauses while the waiting items together weigh this much or more.
        """
        self._source = source
        self._depth = depth
        self._weigh = weigh or (lambda _: 0.0)
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._weight = 0.0
        self._change = threading.Condition()
        self._ended = False
        self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"genseg-{name}", daemon=True)
        self._thread.start()

    def __next__(self) -> T:
        while not self.wait(_WAKE_EVERY):
            pass
        return self._take()

    def next_within(self, seconds: float) -> T | None:
        """The next item if it comes in time, else None; StopIteration at the end, as from `next`."""
        return self._take() if self.wait(seconds) else None

    def wait(self, seconds: float) -> bool:
        """Whether `next` would return or raise at once, after waiting at most so long for that."""
        with self._change:
            return self._change.wait_for(self._ready, timeout=seconds)

    def stop(self) -> None:
        """Tell producer and consumer to end; does not wait."""
        with self._change:
            self._stopped = True
            self._items.clear()
            self._change.notify_all()

    def join(self, seconds: float | None = None) -> bool:
        """Wait for the thread; whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _ready(self) -> bool:
        return bool(self._items) or self._ended or self._stopped

    def _take(self) -> T:
        with self._change:
            if self._stopped:
                raise Stopped
            if self._items:
                item = self._items.popleft()
                self._weight -= self._weigh(item)
                self._change.notify_all()
                return item
            if self._error is not None:
                raise self._error
            raise StopIteration

    def _full(self) -> bool:
        return len(self._items) >= self._depth or self._weight >= self._capacity

    def _run(self) -> None:
        try:
            for item in self._source:
                with self._change:
                    self._change.wait_for(lambda: self._stopped or not self._full())
                    if self._stopped:
                        break
                    self._items.append(item)
                    self._weight += self._weigh(item)
                    self._change.notify_all()
                del item  # a picture must not stay alive while the source makes the next one
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, which raises it
            self._error = error
        finally:
            self._close_source()
            with self._change:
                self._ended = True
                self._change.notify_all()

    def _close_source(self) -> None:
        if not isinstance(self._source, Generator):
            return  # a file or a stream belongs to whoever opened it
        try:
            self._source.close()
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - as above; a first error says more than what followed from it
            self._error = self._error or error
