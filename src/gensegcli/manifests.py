"""Rows of a manifest: which picture, which expression, optionally which id. Streamed, never held as a whole."""

from __future__ import annotations

import codecs
import csv
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gensegcli.errors import ExitCode, GensegError
from gensegcli.files.text import excerpt, read_jsonl

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

FIELDS = ("image", "query", "id")
_PARQUET_BATCH = 64
"""Rows in memory at a time: they may hold encoded pictures."""


class Row(NamedTuple):
    """One row as it was read; `problem` says why there are no values."""

    place: str
    """File and line (Parquet: row), from 1: `pairs.jsonl:17`."""
    values: Mapping[str, object]
    problem: str = ""


def read_rows(path: str) -> Iterator[Row]:
    """The rows of a JSONL, CSV or Parquet file, chosen by its ending.

    A row that cannot be read is yielded with its problem, so that it does not end the batch. Other columns than
    image, query and id are left alone.

    Raises:
        GensegError: the file as a whole cannot be read, or has no column `image`.
    """
    return READERS[Path(path).suffix.lower()](path)


@contextmanager
def reading(path: str) -> Generator[None]:
    """Turn what the operating system says about reading (no permission, a broken disk, …) into one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0]
        raise GensegError(f"{path}: cannot be read ({reason})", code=ExitCode.NOT_FOUND) from error


def _jsonl(path: str) -> Iterator[Row]:
    with reading(path), Path(path).open("rb") as lines:
        yield from jsonl_rows(path, lines)


def jsonl_rows(path: str, lines: Iterable[bytes]) -> Iterator[Row]:
    """The rows of JSONL that comes as lines; `path` is how errors call it."""
    for line in read_jsonl(lines, name=path, unique=True):
        problem = ""
        if line.problem is not None:
            problem = line.problem.message.removeprefix(f"{line.place}: ")
        elif not isinstance(line.value, dict):
            problem = f"expected an object with {' and '.join(FIELDS[:2])}, found {excerpt(line.value)}"
        yield Row(line.place, {} if problem else line.value, problem)


def _csv(path: str) -> Iterator[Row]:
    # Undecodable bytes become lone surrogates, which are refused row by row instead of ending the whole file.
    with (
        reading(path),
        Path(path).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines,
    ):
        reader = csv.reader(lines, delimiter=_separator(path), strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
        except csv.Error as error:
            raise GensegError(f"{path}:1: not CSV ({error})") from None
        if any("\udc80" <= character <= "\udcff" for name in header for character in name):
            raise GensegError(f"{path}:1: the names of the columns are not UTF-8", hint="save it again as CSV UTF-8")
        _check_columns(path, header)
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield Row(f"{path}:{reader.line_num}", {}, f"not CSV ({error})")
                continue
            if cells is None:
                return
            place = f"{path}:{reader.line_num}"
            if len(cells) > len(header):
                yield Row(place, {}, f"{len(cells)} cells, but {len(header)} columns; quote cells that hold commas")
            elif cells:
                yield Row(place, _values(header, cells))


def _separator(path: str) -> str:
    """Tabs in .tsv; in .csv what the first line is separated by: spreadsheets of many countries write semicolons."""
    with Path(path).open("rb") as stream:
        first = stream.readline(1 << 16)
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise GensegError(f"{path}: UTF-16, expected UTF-8", hint="save it again as CSV UTF-8")
    if path.lower().endswith(".tsv"):
        return "\t"
    return ";" if b";" in first and b"," not in first else ","


def _values(header: Sequence[str], cells: Sequence[str]) -> dict[str, object]:
    """A row of CSV. An empty cell is a missing value, as everywhere in CSV; blanks around names of pictures and ids go."""
    values = {}
    for name, cell in zip(header, cells, strict=False):
        value = cell.strip() if name in {"image", "id"} else cell
        if value:
            values[name] = value
    return values


def _parquet(path: str) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with reading(path), pq.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names)
            columns = [name for name in FIELDS if name in file.schema_arrow.names]
            number = 0
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH, columns=columns):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"{path}:{number}", {name: value for name, value in values.items() if value is not None})
    except (pa.ArrowException, ValueError, OverflowError) as error:
        # The last two are of values that Python has no type for, and of text that is not UTF-8.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise GensegError(f"{path}: not a readable Parquet file ({reason})") from None


def _check_columns(path: str, columns: Sequence[str]) -> None:
    twice = [name for name in FIELDS if columns.count(name) > 1]
    if twice:
        raise GensegError(f"{path}: the column {twice[0]!r} stands twice", hint="remove or rename one of them")
    if "image" not in columns:
        raise GensegError(
            f"{path}: no column 'image', found {', '.join(columns) or 'nothing'}",
            hint="a manifest has the columns image, query and optionally id",
            code=ExitCode.USAGE,
        )


READERS: dict[str, Callable[[str], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
}
"""Manifest formats by file ending."""

MANIFESTS = ", ".join(READERS)
"""The endings, for messages."""
