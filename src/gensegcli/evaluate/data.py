"""The samples of an evaluation: a prepared folder or one Parquet file of that form, and which of its samples are scored."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, Field, ValidationError

from gensegcli.config import digest
from gensegcli.errors import ExitCode, GensegError
from gensegcli.files.text import invalid, is_folder, read_names
from gensegcli.prep.store import file_digest
from gensegcli.records import Size
from gensegcli.sources.prepared import CARD, COLUMNS, read_card, read_shard

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator
    from pathlib import Path

    from gensegcli.records import Sample


@dataclass(frozen=True)
class EvalSet:
    """Prepared samples on disk.

    Attributes:
        name: recipe and split, or the name of the file.
        path: of the folder or file.
        shards: its Parquet files, in order.
        digest: of their content.
        foreground: a set of pictures with one foreground each, by its recipe.
        every_sentence: one sample for each sentence, not for each reference; None where nobody can say.
        notes: what a reader of the scores should know.
    """

    name: str
    path: Path
    shards: tuple[Path, ...]
    digest: str
    foreground: bool = False
    every_sentence: bool | None = None
    notes: tuple[str, ...] = ()

    def samples(self, ids: Collection[str] | None = None, *, pictures: bool = True) -> Iterator[Sample]:
        """The samples, or those of them that are named, in the order in which they are stored.

        Raises:
            GensegError: a shard is missing or damaged.
        """
        for shard in self.shards:
            yield from read_shard(shard, ids=ids, pictures=pictures)

    def noted(self, note: str) -> EvalSet:
        """The same with one more note, if there is one."""
        return replace(self, notes=(*self.notes, note)) if note else self

    def index(self) -> list[Place]:
        """Every sample without its picture and truth.

        Raises:
            GensegError: a shard is missing or damaged, or two samples have one id.
        """
        places = [place for shard in self.shards for place in _places(shard)]
        name, times = Counter(place.id for place in places).most_common(1)[0] if places else ("", 0)
        if times > 1:
            raise GensegError(f"{self.path}: {times} samples have the id {name!r}", hint="ids must be unique")
        if not places:
            raise GensegError(f"{self.path}: holds no samples", code=ExitCode.NOT_FOUND)
        return places

    def has_masks(self) -> bool:
        """Whether every object has a mask; some sets give boxes and points only."""
        rows = (row for shard in self.shards for row in _light(shard, ["targets.list.element.mask.counts"]))
        return all(target["mask"] is not None for row in rows for target in row["targets"] or ())


class Place(NamedTuple):
    """A sample without picture and truth."""

    id: str
    query: str
    size: Size
    ref: int | None
    """Number of the reference, and of the picture, in the raw set; None where it has none."""
    image: int | None
    file: str | None


@dataclass(frozen=True)
class Choice:
    """The samples to be scored.

    Attributes:
        ids: in the order in which they are stored.
        digest: of the ids; None where they are the whole set.
        notes: what a reader of the scores should know.
    """

    ids: tuple[str, ...]
    digest: str | None = None
    notes: tuple[str, ...] = ()


def open_set(path: Path) -> EvalSet:
    """A prepared folder, or Parquet files with the columns of one.

    Raises:
        GensegError: it is not there, its preparation did not end, or it has other columns.
    """
    shards = tuple(sorted(path.rglob("*.parquet"))) if is_folder(path) else (path,)
    if (path / CARD).is_file() or not path.exists() or not shards:
        return _from_card(path)
    # Read as one, they would mix what is learned with what is held out.
    if path.is_dir() and (inside := sorted(str(card.parent) for card in path.rglob(CARD))):
        raise GensegError(
            f"{path}: not one prepared set, it holds {len(inside)}",
            hint=f"name one: {', '.join(inside)}",
            code=ExitCode.NOT_FOUND,
        )
    for shard in shards:
        _check_columns(shard)
    return EvalSet(path.stem, path, shards, digest([file_digest(shard) for shard in shards]))


def _check_columns(path: Path) -> None:
    with _parquet(path):
        missing = COLUMNS.keys() - pq.read_schema(path).names
    if missing:
        raise GensegError(
            f"{path}: no prepared samples, of their {len(COLUMNS)} columns {', '.join(sorted(missing))} are missing",
            hint="docs/data.md lists the columns",
        )


def choose(data: EvalSet, *, limit: int | None = None, subset: Path | None = None) -> Choice:
    """The samples of the first references, or those that a file names, or both.

    Args:
        data: to choose from.
        limit: so many references in the order of their numbers, with all their samples; so many samples where
            references have no numbers.
        subset: text file of sample ids, one a line.

    Raises:
        GensegError: the file cannot be read, is empty, or names no sample of what the limit leaves.
    """
    places = data.index()
    chosen, notes = [place.id for place in places], []
    if limit is not None:
        first = _first(places, limit)
        chosen = [name for name in chosen if name in first]
    if subset is not None:
        wanted = read_ids(subset)
        known = {place.id for place in places}
        unknown = sorted(wanted - known)
        chosen = [name for name in chosen if name in wanted]
        if not chosen:
            beyond = " within --limit" if len(unknown) < len(wanted) else ""
            raise GensegError(
                f"{subset}: none of its {len(wanted)} ids is a sample of {data.name}{beyond}",
                hint=f"its first is {min(wanted)!r}, those of the set are like {places[0].id!r}",
            )
        if unknown:
            notes.append(f"{len(unknown)} ids of {subset.name} are not in the set (the first: {unknown[0]})")
    whole = len(chosen) == len(places)
    return Choice(tuple(chosen), None if whole else digest(sorted(chosen)), tuple(notes))


def _first(places: Collection[Place], limit: int) -> frozenset[str]:
    """Prepared sets keep the samples of one picture together, so that the first rows are not the first references."""
    if any(place.ref is None for place in places):
        return frozenset(place.id for place in list(places)[:limit])
    refs = frozenset(sorted({place.ref for place in places if place.ref is not None})[:limit])
    return frozenset(place.id for place in places if place.ref in refs)


def read_ids(path: Path) -> frozenset[str]:
    """Sample ids from a text file, one a line.

    Raises:
        GensegError: it cannot be read, or names none.
    """
    ids = frozenset(read_names(path))
    if not ids:
        raise GensegError(f"{path}: names no samples", hint="one sample id a line")
    return ids


class _Where(BaseModel):
    ref_id: int | None
    image_id: int | None
    file_name: str | None


class _Row(BaseModel):
    """What `_places` reads of a row; a file may come from anywhere."""

    id: str
    query: str
    width: Annotated[int, Field(ge=1, lt=2**31)]
    height: Annotated[int, Field(ge=1, lt=2**31)]
    provenance: _Where


def _places(shard: Path) -> Iterator[Place]:
    where = [f"provenance.{name}" for name in _Where.model_fields]
    for number, values in enumerate(_light(shard, ["id", "query", "width", "height", *where])):
        try:
            row = _Row.model_validate(values)
        except ValidationError as error:
            raise invalid(error, f"{shard}: row {number}", hint="docs/data.md lists the columns") from None
        source = row.provenance
        yield Place(row.id, row.query, Size(row.width, row.height), source.ref_id, source.image_id, source.file_name)


def _light(shard: Path, columns: list[str]) -> list[dict[str, Any]]:
    """Some columns of every row."""
    with _parquet(shard), pq.ParquetFile(shard) as parquet:
        return parquet.read(columns).to_pylist()


@contextmanager
def _parquet(path: Path) -> Generator[None]:
    """Errors of Arrow, and what it lets through of Python's, as one line."""
    try:
        yield
    except (OSError, OverflowError, ValueError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        hint = "run the same `genseg prep` again, or get the file again"
        raise GensegError(
            f"{path}: not a readable Parquet file ({reason})", hint=hint, code=ExitCode.NOT_FOUND
        ) from None


def _from_card(folder: Path) -> EvalSet:
    card = read_card(folder)
    recipe = card["recipe"]
    skipped = sum(card["skipped"].values())
    notes = (
        [f"{skipped} samples could not be prepared and are in no score: {folder / 'skipped.jsonl'}"] if skipped else []
    )
    if card["purpose"] == "train":
        notes.append("prepared for training: pictures and masks may be resized; scores are at that size")
    return EvalSet(
        name=f"{card['name']}-{card['split']}",
        path=folder,
        shards=tuple(folder / shard["file"] for shard in card["shards"]),
        digest=digest([shard["sha256"] for shard in card["shards"]]),
        foreground=recipe["source"]["kind"] == "foreground",
        every_sentence=recipe["select"]["per"] == "sentence",
        notes=tuple(notes),
    )
