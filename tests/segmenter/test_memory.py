"""Running out of memory: smaller batches first, then an error that says what to do."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from gensegcli.errors import ExitCode, GensegError  # noqa: E402
from gensegcli.segmenter.memory import ShrinkingBatches, out_of_memory  # noqa: E402


class Device:
    """Fits `room` items; torch raises of itself for what is beyond."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.tried: list[int] = []

    def __call__(self, batch: list[int]) -> list[int]:
        self.tried.append(len(batch))
        if len(batch) > self.room:
            torch.empty(2**60, dtype=torch.uint8)  # an exabyte: the allocator's own error
        return [-item for item in batch]


def test_halves_until_it_fits_and_stays_there() -> None:
    batches, device = ShrinkingBatches(8, what="the pictures"), Device(room=3)
    done = [item for batch in batches.run(range(10), device) for item in batch]
    assert done == [-item for item in range(10)]
    assert device.tried == [8, 4, 2, 2, 2, 2, 2]
    assert batches.size == 2
    list(batches.run(range(4), device))
    assert device.tried[-2:] == [2, 2]


def test_one_item_that_does_not_fit_is_told() -> None:
    batches = ShrinkingBatches(4, what="the pictures")
    with pytest.raises(GensegError, match="ran out of memory on one of the pictures") as raised:
        list(batches.run(range(4), Device(room=0)))
    assert raised.value.code == ExitCode.ENVIRONMENT
    assert "smaller segmenter" in raised.value.hint


def test_other_errors_pass() -> None:
    def wrong(_batch: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        list(ShrinkingBatches(4, what="the pictures").run(range(4), wrong))
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))


def test_nothing_to_do() -> None:
    assert list(ShrinkingBatches(4, what="the pictures").run([], Device(room=1))) == []
    with pytest.raises(ValueError, match="not 0"):
        ShrinkingBatches(0, what="the pictures")
