"""What a run will do, from its settings."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("torch")

from gensegcli.errors import GensegError
from gensegcli.train.plan import accumulation


def test_sequences_are_dealt_out_evenly() -> None:
    assert accumulation(64, micro_batch=2, processes=4) == 8
    with pytest.raises(GensegError) as caught:
        accumulation(64, micro_batch=3, processes=4)
    assert caught.value.hint == "--set train.micro_batch=2"
    with pytest.raises(GensegError, match="64 sequences of a step cannot be dealt out to 3 processes"):
        accumulation(64, micro_batch=2, processes=3)


def test_planning_waits_for_no_trainer() -> None:
    """TRL takes seconds to import; `--dry-run` and errors in names need nothing of it."""
    code = "import sys, gensegcli.train.plan, gensegcli.train.memory; sys.exit('trl' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
