"""Prepared samples for training: found by name, read row by row in an order that follows from the seed alone."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gensegcli.errors import ExitCode, GensegError, suggestion, unknown_name
from gensegcli.evaluate.data import EvalSet, open_set
from gensegcli.prep.recipe import names, resolve
from gensegcli.sources.prepared import CARD, from_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gensegcli.records import Sample

PREPARED = Path("data/prepared")
"""Where `genseg prep` writes unless told otherwise."""

POINTS = 2
"""Inside each object, in an answer that is taught."""

_GROUPS_HELD = 4
"""Row groups kept decoded: the prompts of one step come from all over the set, those of one group from one of them."""


def find_training_set(what: str) -> EvalSet:
    """The prepared set behind a name.

    Args:
        what: a prepared folder, a Parquet file of that form, or the name of a recipe that `genseg prep` has prepared.

    Raises:
        GensegError: nothing of that name, or not prepared yet (with the command that prepares it).
    """
    path = Path(what)
    if path.exists():
        return open_set(path)
    if what in names():
        recipe = resolve(what, purpose="train")
        folder = PREPARED / f"{recipe.name}-{recipe.split}"
        if (folder / CARD).is_file():
            return open_set(folder)
        raise GensegError(
            f"training data {what}: not prepared yet ({folder} is no prepared set)",
            hint=f"genseg prep {what}",
            code=ExitCode.NOT_FOUND,
        )
    if path.suffix or len(path.parts) > 1:
        beside = [str(card.parent) for card in path.parent.glob(f"*/{CARD}")]
        raise GensegError(
            f"{what}: no such file or folder", hint=suggestion(what, beside) if beside else "", code=ExitCode.NOT_FOUND
        )
    raise unknown_name("training data", what, names(), hint="a prepared folder is taken too")


class _Row(NamedTuple):
    """Where a sample lies."""

    shard: int
    group: int
    row: int


@dataclass
class Samples:
    """The samples of a set by number, in the order in which they are stored. The file is read one row group at a time.

    Raises:
        GensegError: a shard is missing or damaged, or the set is empty.
    """

    data: EvalSet

    def __post_init__(self) -> None:
        self._files = [_opened(path) for path in self.data.shards]
        self._rows = [
            _Row(shard, group, row)
            for shard, file in enumerate(self._files)
            for group in range(file.metadata.num_row_groups)
            for row in range(file.metadata.row_group(group).num_rows)
        ]
        self._held: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()
        if not self._rows:
            raise _empty(self.data)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> Sample:
        return from_row(self.row(number))

    def row(self, number: int) -> dict[str, Any]:
        """The row of a sample as it is stored."""
        shard, group, row = self._rows[number]
        return self._group(shard, group).slice(row, 1).to_pylist()[0]

    def _group(self, shard: int, group: int) -> pa.Table:
        key = (shard, group)
        if key not in self._held:
            try:
                self._held[key] = self._files[shard].read_row_group(group)
            except (OSError, pa.ArrowException) as error:
                raise _unreadable(self.data.shards[shard], error) from error
        self._held.move_to_end(key)
        while len(self._held) > _GROUPS_HELD:
            self._held.popitem(last=False)
        return self._held[key]


def training_order(count: int, *, epochs: float, per_step: int, seed: int) -> list[int]:
    """Numbers of the samples in the order of training: a new permutation for each epoch, cut to whole steps.

    It depends on nothing else, so a resumed run and one on other machines see the same samples in the same steps. A
    last step that is not full is completed from the next permutation.

    >>> training_order(4, epochs=1.5, per_step=2, seed=0) == training_order(4, epochs=3, per_step=2, seed=0)[:6]
    True
    """
    wanted = max(1, round(count * epochs))
    wanted = ceil(wanted / per_step) * per_step
    rounds = ceil(wanted / count)
    order: list[int] = []
    for epoch in range(rounds):
        order += np.random.default_rng([seed, epoch]).permutation(count).tolist()
    return order[:wanted]


def needs_masks(data: EvalSet, terms: Sequence[str]) -> None:
    """Look whether the set has what the reward is about.

    Raises:
        GensegError: terms on masks, and objects without any.
    """
    if terms and not data.has_masks():
        raise GensegError(
            f"{data.path}: has objects without a mask, which the reward needs ({', '.join(terms)})",
            hint="train on a set with masks (grefcoco), or with the distance reward (preset genseg-r1-4b)",
        )


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> GensegError:
    return GensegError(
        f"{path}: cannot be read ({str(error).partition(chr(10))[0]})",
        hint="run the same `genseg prep` again",
        code=ExitCode.NOT_FOUND,
    )


def count_samples(data: EvalSet) -> int:
    """How many samples a set has, damaged ones included: `train/rows.py` looks at each.

    Raises:
        GensegError: a shard is missing or damaged, or the set is empty.
    """
    count = sum(_opened(path).metadata.num_rows for path in data.shards)
    if not count:
        raise _empty(data)
    return count


def _empty(data: EvalSet) -> GensegError:
    return GensegError(f"{data.path}: holds no samples", code=ExitCode.NOT_FOUND)


def teachable(data: EvalSet) -> list[int]:
    """Numbers of the samples whose objects have two points, or a mask to mine them from.

    Raises:
        GensegError: there is none.
    """
    numbers, start = [], 0
    for shard in data.shards:
        try:
            rows = pq.read_table(shard, columns=["targets"])["targets"].to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(shard, error) from error
        numbers += [
            start + at
            for at, targets in enumerate(rows)
            if all(len(target["points"] or ()) >= POINTS or target["mask"] for target in targets or ())
        ]
        start += len(rows)
    if not numbers:
        raise GensegError(
            f"{data.path}: no object has two points or a mask, so that no answer can be shown",
            hint="take a set with masks (grefcoco, refcocog) for --stage sft",
            code=ExitCode.NOT_FOUND,
        )
    return numbers
