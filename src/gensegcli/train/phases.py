"""Where the time of a step goes and, on a GPU, how much memory each part of it takes."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Generator

GB = 1e9
OTHER = "other"


class Phases:
    """A stopwatch whose parts add up to the whole: a phase inside another counts as itself alone.

    Args:
        device: a CUDA device is waited for at the ends of a phase, as it works on after a call has returned.

    Attributes:
        seconds: of each phase since the last `take`.
        memory: largest allocated memory in each phase, GB; empty on other devices.
    """

    def __init__(self, device: torch.device) -> None:
        self._gpu = device if device.type == "cuda" else None
        self._open = [OTHER]
        self.forget()

    @contextmanager
    def __call__(self, name: str) -> Generator[None]:
        """What runs inside belongs to this phase."""
        self._count()
        self._open.append(name)
        try:
            yield
        finally:
            self._count()
            self._open.pop()

    def take(self) -> tuple[dict[str, float], dict[str, float]]:
        """Seconds and memory up to now; both begin anew."""
        self._count()
        taken = self.seconds, self.memory
        self.forget()
        return taken

    def forget(self) -> None:
        """Begin anew."""
        self.seconds: dict[str, float] = {}
        self.memory: dict[str, float] = {}
        self._since = time.perf_counter()
        if self._gpu is not None:
            torch.cuda.reset_peak_memory_stats(self._gpu)

    def _count(self) -> None:
        """Add what went by since the last call to the innermost phase."""
        name = self._open[-1]
        if self._gpu is not None:
            torch.cuda.synchronize(self._gpu)
            self.memory[name] = max(self.memory.get(name, 0.0), torch.cuda.max_memory_allocated(self._gpu) / GB)
            torch.cuda.reset_peak_memory_stats(self._gpu)
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now
