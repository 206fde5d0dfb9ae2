"""Rows of a manifest: which picture, which expression, optionally which id. Streamed, never held as a whole."""

from __future__ import annotations

import csv
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import orjson

from gensegcli.errors import ExitCode, GensegError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

STDIN = "-"
FIELDS = ("image", "query", "id")
_PARQUET_BATCH = 64
"""Rows in memory at a time: they may hold encoded pictures."""


class Row(NamedTuple):
    """One row as it was read; `problem` says why there are no values."""

    place: str
    """File and line (Parquet: row), from 1: `pairs.jsonl:17`."""
    values: Mapping[str, object]
    problem: str = ""


def read_rows(path: str, *, stdin: BinaryIO | None = None) -> Iterator[Row]:
    """The rows of a JSONL, CSV or Parquet file, chosen by its ending, or of JSONL on standard input (`-`).

    A row that cannot be read is yielded with its problem, so that it does not end the batch. Other columns than
    image, query and id are left alone.

    Raises:
        GensegError: the file as a whole cannot be read, or has no column `image`.
    """
    if path == STDIN:
        return _jsonl_rows(STDIN, stdin or sys.stdin.buffer)
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
        yield from _jsonl_rows(path, lines)


def _jsonl_rows(path: str, lines: Iterable[bytes]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        text = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
        if not text:
            continue
        place = f"{path}:{number}"
        try:
            values = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            yield Row(place, {}, f"not JSON ({error})")
            continue
        if isinstance(values, dict):
            yield Row(place, values)
        else:
            yield Row(
                place,
                {},
                f"expected an object with {' and '.join(FIELDS[:2])}, found {text.decode(errors='replace')[:40]}",
            )


def _csv(path: str) -> Iterator[Row]:
    separator = "\t" if path.lower().endswith(".tsv") else ","
    # Undecodable bytes become lone surrogates, which are refused row by row instead of ending the whole file.
    with (
        reading(path),
        Path(path).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines,
    ):
        reader = csv.reader(lines, delimiter=separator, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
        except csv.Error as error:
            raise GensegError(f"{path}:1: not CSV ({error})") from None
        _require_image(path, header)
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
                # An empty cell is a missing value, as everywhere in CSV.
                yield Row(place, {name: cell for name, cell in zip(header, cells, strict=False) if cell})


def _parquet(path: str) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with reading(path), pq.ParquetFile(path) as file:
            _require_image(path, file.schema_arrow.names)
            columns = [name for name in FIELDS if name in file.schema_arrow.names]
            number = 0
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH, columns=columns):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"{path}:{number}", {name: value for name, value in values.items() if value is not None})
    except pa.ArrowException as error:
        raise GensegError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None


def _require_image(path: str, columns: list[str]) -> None:
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
