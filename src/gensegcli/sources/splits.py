"""Which split a Parquet file is of: by its name and its folders, as the hub names them, else by a column.

Whoever asks for `test` gets the rows of `test` or an error, and never those of another split.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from gensegcli.errors import ExitCode, GensegError
from gensegcli.sources.parquet import opened

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ALL = "all"
"""The split of a set that has but one, where nobody said which it is."""
COLUMN = "split"

_SAME = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}
"""Other words for a split, as the hub takes them."""
_WORD = re.compile(r"(?:mini)?(?:train|trainval|val|test|testdev|eval|evaluation)(?:[a-z]|\d{1,2})?|" + "|".join(_SAME))
_YEAR = re.compile(r"(?<=[a-z])20\d\d$")
_SHARD = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}(?:-[0-9a-f]{6,})?")


class Choice(NamedTuple):
    """The files of one split."""

    files: list[str]
    of_rows: str | None = None
    """The split whose rows are meant, where a column tells them apart; None: all rows."""


def choose(files: Sequence[str], split: str | None, *, base: str, name: str) -> Choice:
    """The files of a split.

    Args:
        files: paths or addresses below `base`.
        split: None, or `all`: the only one there is.
        base: the folder that was named. Nothing above it counts.
        name: what errors call the set.

    Raises:
        GensegError: there is no file of that split; several splits are there and none is asked for.
    """
    wanted = None if split in (None, ALL) else same(split)
    named = {file: split_of(file, base) for file in files}
    if any(named.values()):
        chosen = [file for file, told in named.items() if wanted is None or told == wanted]
        return Choice(_one_split(chosen, wanted, set(named.values()), name))
    told = _in_column(files)
    if told:
        _one_split([word for word in told if wanted in (None, word)], wanted, told, name)
        return Choice(list(files), wanted)
    if wanted not in (None, "train"):
        some = PurePosixPath(files[0]).name if files else "none"
        raise GensegError(
            f"{name}: no file of split {split!r}: file names such as {some} name no split, which means train",
            hint=f"name them as the hub does, {split}-00000.parquet, or leave --split away",
            code=ExitCode.NOT_FOUND,
        )
    return Choice(list(files))


def _one_split(chosen: list[str], wanted: str | None, found: Iterable[str], name: str) -> list[str]:
    there = sorted(found)
    shown = ", ".join(word or "files that name none" for word in there)
    if wanted is None and len(there) > 1:
        raise GensegError(f"{name}: holds several splits: {shown}", hint="name one of them with --split")
    if not chosen:
        raise GensegError(
            f"{name}: nothing of split {wanted!r}; splits there: {shown}",
            hint=f"--split {there[0]}" if len(there) == 1 and there[0] else "name one of them with --split",
            code=ExitCode.NOT_FOUND,
        )
    return chosen


def same(split: str) -> str:
    """A split by its usual word.

    >>> same("validation"), same("testA"), same("train2014")
    ('val', 'testa', 'train')
    """
    word = _YEAR.sub("", split.lower())
    return _SAME.get(word, word)


def split_of(file: str, base: str = "") -> str:
    """The split that a file's name says, or else the nearest of its folders; empty if none does.

    >>> split_of("data/test-00000-of-00003.parquet"), split_of("default/validation/0000.parquet"), split_of("a.parquet")
    ('test', 'val', '')
    >>> split_of("hub/owner__refs_test/train.parquet"), split_of("train_val.parquet"), split_of("latest.parquet")
    ('train', 'train-val', '')
    """
    relative = PurePosixPath(file.removeprefix(base).lstrip("/"))
    shard = _SHARD.fullmatch(relative.stem)
    if shard:
        return _words(shard["split"]) or same(shard["split"])
    for part in (relative.stem, *reversed(relative.parts[:-1])):
        if found := _words(part):
            return found
    last = PurePosixPath(base).name
    return same(last) if _words(last) == same(last) else ""


def _words(part: str) -> str:
    """The words for splits in a name, each once; empty if there are none."""
    found = (same(word) for word in re.split(r"[^A-Za-z0-9]+", part))
    return "-".join(dict.fromkeys(word for word in found if _WORD.fullmatch(word)))


def _in_column(files: Sequence[str]) -> set[str]:
    """The splits that a column of the files tells."""
    found: set[str] = set()
    for file in files:
        with opened(file) as parquet:
            if COLUMN not in parquet.schema_arrow.names:
                return set()
            for group in range(parquet.num_row_groups):
                values = parquet.read_row_group(group, columns=[COLUMN]).column(COLUMN).unique().to_pylist()
                found |= {same(value) if isinstance(value, str) else "" for value in values}
    return found
