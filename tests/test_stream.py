from __future__ import annotations

import io
import threading
import time
from collections.abc import Generator
from itertools import count, islice
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gensegcli.stream import Prefetch

if TYPE_CHECKING:
    from collections.abc import Iterator


@given(st.lists(st.integers()), st.integers(1, 5), st.integers(1, 5))
def test_chained_stages_keep_order_and_lose_nothing(items: list[int], first: int, second: int) -> None:
    inner = Prefetch(items, name="inner", depth=first)
    outer = Prefetch((item * 2 for item in inner), name="outer", depth=second)
    assert list(outer) == [item * 2 for item in items]


@pytest.mark.parametrize(("depth", "capacity", "most"), [(3, float("inf"), 3), (100, 20.0, 3)])
def test_the_source_pauses_when_the_consumer_does(depth: int, capacity: float, most: int) -> None:
    """Items of weight 9: three of them pass a capacity of 20. One more may wait in the source's own hands."""
    made: list[int] = []

    def source() -> Iterator[int]:
        for number in count():
            made.append(number)
            yield number

    stage = Prefetch(source(), name="source", depth=depth, weigh=lambda _: 9.0, capacity=capacity)
    assert list(islice(stage, 5)) == [0, 1, 2, 3, 4]
    time.sleep(0.05)  # whatever it could still make, it has made
    assert len(made) <= 5 + most + 1
    stage.stop()
    assert stage.join(10)


def test_an_exception_comes_after_the_items_before_it_and_with_its_traceback() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise ZeroDivisionError("in the source")

    outer = Prefetch(iter(Prefetch(source(), name="inner", depth=8)), name="outer", depth=8)
    assert [next(outer), next(outer)] == [1, 2]
    with pytest.raises(ZeroDivisionError) as caught:
        next(outer)
    assert "source" in [entry.name for entry in caught.traceback]


def test_stop_ends_threads_that_wait_on_either_side() -> None:
    closed, begun = threading.Event(), threading.Event()

    def source() -> Iterator[int]:
        try:
            yield from count()
        finally:
            closed.set()

    def slow(items: Prefetch[int]) -> Iterator[int]:
        for item in items:
            begun.set()
            yield item

    inner = Prefetch(source(), name="inner", depth=1)
    outer = Prefetch(slow(inner), name="outer", depth=1)
    assert begun.wait(10)
    for stage in (inner, outer):
        stage.stop()
    assert inner.join(10)
    assert outer.join(10)
    assert closed.is_set()


def test_next_within_gives_up_and_goes_on_later() -> None:
    gate = threading.Event()

    def source() -> Iterator[str]:
        gate.wait(10)
        yield "late"

    stage = Prefetch(source(), name="gate", depth=1)
    assert stage.next_within(0.01) is None
    gate.set()
    assert stage.next_within(10) == "late"
    with pytest.raises(StopIteration):
        stage.next_within(10)


def test_an_error_while_the_source_is_closed_reaches_the_consumer() -> None:
    """A source that fails in its clean-up, after a stop between two items: the stage must end all the same."""

    def source() -> Iterator[int]:
        try:
            yield from count()
        finally:
            raise ZeroDivisionError("in the clean-up")

    stage = Prefetch(source(), name="source", depth=1)
    stage.wait(10)
    stage.stop()
    assert stage.join(10)
    assert stage._ended
    assert isinstance(stage._error, ZeroDivisionError)


def test_only_generators_are_closed() -> None:
    """A file that somebody else opened stays open."""
    stream = io.StringIO("a\nb\n")
    assert list(Prefetch(stream, name="lines", depth=1)) == ["a\n", "b\n"]
    assert not stream.closed


def test_a_generator_whose_close_fails_does_not_leave_the_consumer_waiting() -> None:
    class Broken(Generator[int, None, None]):
        def send(self, value: None) -> int:
            raise StopIteration

        def throw(self, *error: object) -> int:
            raise ZeroDivisionError("while closing")

    stage = Prefetch(Broken(), name="broken", depth=1)
    assert stage.wait(10), "the stage has ended"
    with pytest.raises(ZeroDivisionError, match="while closing"):
        next(stage)
