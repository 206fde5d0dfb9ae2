"""Running a list of work in batches that shrink when memory runs out."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, TypeVar

import torch

from gensegcli.errors import ExitCode, GensegError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch says so: an own type on accelerators, a plain RuntimeError from the CPU allocator."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


class ShrinkingBatches:
    """Feeds work in batches of at most `size`, halving the size for good whenever a batch does not fit."""

    def __init__(self, size: int, *, what: str) -> None:
        if size < 1:
            raise ValueError(f"a batch needs at least one of {what}, not {size}")
        self.size = size
        self.what = what

    def run(self, items: Sequence[Item], work: Callable[[Sequence[Item]], Result]) -> Iterator[Result]:
        """`work` applied to consecutive slices of `items`, one result per slice.

        Raises:
            GensegError: a single item does not fit into memory.
        """
        start = 0
        while start < len(items):
            batch = items[start : start + self.size]
            result = self._attempt(batch, work)
            if result is None:
                continue
            yield result[0]
            start += len(batch)

    def _attempt(self, batch: Sequence[Item], work: Callable[[Sequence[Item]], Result]) -> tuple[Result] | None:
        """The result, or None after halving the size. A method of its own: a failed frame would keep its tensors."""
        try:
            return (work(batch),)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if len(batch) == 1:
                raise GensegError(
                    f"the segmenter ran out of memory on one of {self.what}",
                    hint="free memory on the device, use a smaller segmenter (sam2.1-tiny), or run it on the CPU",
                    code=ExitCode.ENVIRONMENT,
                ) from error
            self.size = max(1, len(batch) // 2)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None
