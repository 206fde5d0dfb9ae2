"""Files of a training run: what each step measured, what each rollout earned, which checkpoints are whole."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import orjson

from gensegcli.atomic import discard, replacing, saving
from gensegcli.errors import GensegError
from gensegcli.files.text import excerpt, parse_json_object, read_json_object
from gensegcli.models import CARD

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

METRICS, ROLLOUTS, CHECKPOINTS = "metrics.jsonl", "rollouts.jsonl", "checkpoints.jsonl"
BAD_ROWS = "bad_rows.jsonl"
"""Samples that could not be trained on."""
MODEL = "model"
"""Folder of the final model in a run."""
MODEL_DRAFT = ".model.partial"

NO_ROOM = "make room or choose another folder with --out; `genseg train --resume` goes on from the last checkpoint"
_DAMAGED = "take that line out, or begin anew with --restart"
_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")


class StepLog:
    """JSONL rows with a `step`, handed to the operating system one by one.

    Opened at a step, it forgets the rows after it: steps that a killed run had done since its last checkpoint are done
    again, and each is to stand once.
    """

    def __init__(self, path: Path, *, after: int = 0) -> None:
        self.path = path
        with saving(path, hint=NO_ROOM):
            kept = [line for line, row in _rows(path) if row["step"] <= after]
            with replacing(path) as stream:
                stream.writelines(kept)
            self._file = path.open("ab", buffering=0)

    def write(self, row: Mapping[str, Any]) -> None:
        with saving(self.path, hint=NO_ROOM):
            self._file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY))

    def close(self) -> None:
        """Force everything to the disk and close."""
        with saving(self.path, hint=NO_ROOM):
            os.fsync(self._file.fileno())
            self._file.close()


def read_steps(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; a line that a kill cut in half is left out.

    Raises:
        GensegError: it cannot be read, or a line is not a row of it.
    """
    return [row for _, row in _rows(path)]


def checkpoint_folder(run: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return run / f"checkpoint-{step}"


def checkpoints(run: Path) -> list[int]:
    """Steps whose checkpoints are whole: written down in `checkpoints.jsonl` after their last file, and still there."""
    known = {row["step"] for row in read_steps(run / CHECKPOINTS)}
    return sorted(step for step in known if checkpoint_folder(run, step).is_dir())


def finished_at(run: Path) -> int | None:
    """The last step of a run that is done: the trained model is there, whose card is written last."""
    card = run / MODEL / CARD
    if not card.is_file():
        return None
    step = read_json_object(card, hint="begin anew with --restart").get("step")
    return step if step in checkpoints(run) else None


def write_bad_rows(run: Path, rows: list[dict[str, Any]]) -> Path | None:
    """List the samples that cannot be trained on; without any there is no such list."""
    path = run / BAD_ROWS
    with saving(path, hint=NO_ROOM):
        if not rows:
            path.unlink(missing_ok=True)
            return None
        with replacing(path) as stream:
            stream.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
    return path


def forget(run: Path) -> None:
    """Remove what training has written into a folder, and nothing else."""
    with saving(run, hint=NO_ROOM):
        for name in (METRICS, ROLLOUTS, CHECKPOINTS, BAD_ROWS, "offending.json"):
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


def _rows(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Whole lines of a log, each as it stands and as a row with its `step`."""
    if not path.exists():
        return []
    with saving(path, hint=NO_ROOM), path.open("rb") as lines:
        whole = [line for line in lines if line.endswith(b"\n")]
    return [(line, _row(line, f"{path}:{number}")) for number, line in enumerate(whole, start=1)]


def _row(line: bytes, place: str) -> dict[str, Any]:
    row = parse_json_object(line, place, hint=_DAMAGED)
    step = row.get("step")
    if not isinstance(step, int) or isinstance(step, bool):
        raise GensegError(f"{place}: step: a whole number expected, {excerpt(step)} found", hint=_DAMAGED)
    return row
