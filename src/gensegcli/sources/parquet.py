"""Pictures and masks in the cells of Parquet files, on this machine or on the hub, read a row group at a time."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from gensegcli.errors import ExitCode, GensegError
from gensegcli.sources.raw import SizeMismatchError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    import numpy as np

    from gensegcli.records import Size

HUB = "hf://"


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of one row group."""

    file: str
    group: int
    row: int

    def value(self, column: str) -> Any:
        """The value of a column; its row group stays at hand for the neighbours."""
        return _group(self.file, self.group, column)[self.row]


@dataclass(frozen=True, slots=True)
class ParquetPicture:
    """A picture in a cell: bytes, or the struct of bytes and path that `datasets` writes, or a list of one of these."""

    key: str
    cell: Cell
    column: str = "image"

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    def read(self) -> bytes:
        value = self.cell.value(self.column).as_py()
        where = f"{self.cell.file}: row {self.cell.row} of group {self.cell.group}"
        if isinstance(value, list) and len(value) > 1:
            raise OSError(f"{where} holds {len(value)} pictures, one is expected")
        value = value[0] if isinstance(value, list) and value else value
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise FileNotFoundError(f"{where} holds no picture")
        return data


@dataclass(frozen=True, slots=True)
class ParquetMask:
    """A mask in a cell: rows of booleans."""

    cell: Cell
    column: str = "mask"

    def read(self, size: Size) -> np.ndarray:
        value = self.cell.value(self.column)
        rows = value.values if isinstance(value, pa.ListScalar) else None
        if rows is None or not len(rows):
            raise GensegError(f"{self.cell.file}: row {self.cell.row} of group {self.cell.group} holds no mask")
        pixels = rows.flatten()
        if len(rows) != size.height or len(pixels) != size.height * size.width:
            found = f"{len(pixels) // len(rows)}x{len(rows)}"
            raise SizeMismatchError(f"mask of {found}, picture of {size.width}x{size.height} pixels")
        return pixels.to_numpy(zero_copy_only=False).astype(bool).reshape(size.height, size.width)


def rows(files: Sequence[str], heavy: Sequence[str]) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Every row without its heavy columns, and the cell to fetch those from.

    Raises:
        GensegError: a file that is no Parquet, or cannot be reached.
    """
    for file in files:
        with opened(file) as parquet:
            light = [name for name in parquet.schema_arrow.names if name not in heavy]
            for group in range(parquet.num_row_groups):
                for row, values in enumerate(parquet.read_row_group(group, columns=light).to_pylist()):
                    yield Cell(file, group, row), values


@lru_cache(maxsize=4)  # one row group's picture and mask, and the next one's
def _group(file: str, group: int, column: str) -> pa.ChunkedArray:
    with opened(file) as parquet:
        return parquet.read_row_group(group, columns=[column]).column(column)


@contextmanager
def opened(file: str) -> Generator[pq.ParquetFile]:
    """A Parquet file by its path or its `hf://` address."""
    try:
        if file.startswith(HUB):
            with _from_hub(file) as stream, pq.ParquetFile(stream) as parquet:
                yield parquet
        else:
            with pq.ParquetFile(Path(file)) as parquet:
                yield parquet
    except pa.ArrowException as error:
        reason = str(error).partition("\n")[0]
        raise GensegError(f"{file}: not a Parquet file ({reason})", hint="get it again") from error
    except OSError as error:
        raise GensegError(f"{file}: cannot be read ({error})", code=ExitCode.NOT_FOUND) from error


@contextmanager
def _from_hub(file: str) -> Generator[BinaryIO]:
    """A file of the hub, of which only those pieces travel that are read; huggingface_hub tries each several times."""
    import httpx
    from huggingface_hub import HfFileSystem

    try:
        with HfFileSystem().open(file, "rb") as stream:
            yield stream
    except (httpx.HTTPError, OSError) as error:  # the hub's own errors derive from these
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreachableError(
            f"{file}: the hub does not give it ({reason})",
            hint="run the same command again when the connection is back: what is done is kept",
            code=ExitCode.NOT_FOUND,
        ) from None
