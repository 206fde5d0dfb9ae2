"""Files of a training run: what each step measured, what each rollout earned, which checkpoints are whole."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import orjson

from gensegcli.atomic import discard, replacing, saving
from gensegcli.models import CARD

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

METRICS, ROLLOUTS, CHECKPOINTS = "metrics.jsonl", "rollouts.jsonl", "checkpoints.jsonl"
MODEL = "model"
"""Folder of the final model in a run."""
MODEL_DRAFT = ".model.partial"

_HINT = "make room or choose another folder with --out; `genseg train --resume` goes on from the last checkpoint"
_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")


class StepLog:
    """JSONL rows with a `step`, handed to the operating system one by one.

    Opened at a step, it forgets the rows after it: steps that a killed run had done since its last checkpoint are done
    again, and each is to stand once.
    """

    def __init__(self, path: Path, *, after: int = 0) -> None:
        self.path = path
        with saving(path, hint=_HINT):
            kept = [line for line in _whole_lines(path) if orjson.loads(line)["step"] <= after]
            with replacing(path) as stream:
                stream.writelines(kept)
            self._file = path.open("ab", buffering=0)

    def write(self, row: Mapping[str, Any]) -> None:
        with saving(self.path, hint=_HINT):
            self._file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY))

    def close(self) -> None:
        """Force everything to the disk and close."""
        with saving(self.path, hint=_HINT):
            os.fsync(self._file.fileno())
            self._file.close()


def read_steps(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; a line that a kill cut in half is left out."""
    return [orjson.loads(line) for line in _whole_lines(path)]


def checkpoint_folder(run: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return run / f"checkpoint-{step}"


def checkpoints(run: Path) -> list[int]:
    """Steps whose checkpoints are whole: written down in `checkpoints.jsonl` after their last file, and still there."""
    known = {int(row["step"]) for row in read_steps(run / CHECKPOINTS)}
    return sorted(step for step in known if checkpoint_folder(run, step).is_dir())


def is_finished(run: Path, steps: int) -> bool:
    """Whether all steps are done and the trained model is there: its card is written last."""
    return steps in checkpoints(run) and (run / MODEL / CARD).is_file()


def forget(run: Path) -> None:
    """Remove what training has written into a folder, and nothing else."""
    with saving(run, hint=_HINT):
        for name in (METRICS, ROLLOUTS, CHECKPOINTS, "offending.json"):
            (run / name).unlink(missing_ok=True)
        for folder in [run / MODEL, run / MODEL_DRAFT, run / "tensorboard", *_checkpoint_folders(run)]:
            discard(folder)


def forget_unfinished(run: Path) -> None:
    """Remove checkpoints that were being written when the run was killed."""
    whole = {checkpoint_folder(run, step) for step in checkpoints(run)}
    for folder in _checkpoint_folders(run):
        if folder not in whole:
            discard(folder)


def _checkpoint_folders(run: Path) -> list[Path]:
    return [path for path in run.glob("checkpoint-*") if _CHECKPOINT.fullmatch(path.name) and path.is_dir()]


def _whole_lines(path: Path) -> list[bytes]:
    if not path.exists():
        return []
    with saving(path, hint=_HINT), path.open("rb") as lines:
        return [line for line in lines if line.endswith(b"\n")]
