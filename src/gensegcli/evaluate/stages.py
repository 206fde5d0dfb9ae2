"""How the stages of an evaluation say how far they are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from gensegcli.records import Failure

Step = Callable[[Failure | None], None]
"""Called after each sample, with its failure if it has one."""

Stage = Callable[[str, int], AbstractContextManager[Step]]
"""Entered with a stage's name and the number of its samples, as long as it lasts; not for a stage without any."""


def silent(_name: str, _samples: int) -> AbstractContextManager[Step]:
    """A stage that nobody watches."""
    return nullcontext(lambda _failure: None)
