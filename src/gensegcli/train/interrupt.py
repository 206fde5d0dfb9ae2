"""Ctrl-C and SIGTERM: the step is finished, a checkpoint is saved, and then training ends."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopAfterStep(TrainerCallback):
    """Ends training after the step in which a signal came, with a checkpoint. A second Ctrl-C ends it at once.

    Attributes:
        asked: whether a signal came to this process.
        stopped: whether training was ended by one, here or in another process.
    """

    def __init__(self, tell: Callable[[str], object]) -> None:
        self.tell = tell
        self.asked = self.stopped = False

    @contextmanager
    def listening(self) -> Generator[None]:
        """Handle the signals while the block runs."""
        before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, _: Any) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
        self.tell("stopping after this step; Ctrl-C again stops at once and loses it")

    def on_step_end(self, args: Any, _state: Any, control: Any, **_: Any) -> None:
        if self._anywhere(args.device):
            self.stopped = True
            control.should_save = True
            control.should_training_stop = True

    def _anywhere(self, device: torch.device) -> bool:
        """All processes must end after the same step, or those that go on wait for ever."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self.asked
        flag = torch.tensor(int(self.asked), device=device)
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
        return bool(flag.item())
