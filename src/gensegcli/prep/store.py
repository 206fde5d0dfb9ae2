"""Parquet shards: written whole or not at all, the same bytes for the same content, each carrying its own account.

A shard's footer says which plan it belongs to and what was left out of it. So a shard that is there is finished, and a
second run needs no other record of the first.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from gensegcli.atomic import replacing
from gensegcli.prep.select import Skip
from gensegcli.sources.prepared import SCHEMA, to_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from gensegcli.prep.build import Built
    from gensegcli.records import Sample

SHARD_SAMPLES = 256
"""Samples of a shard as planned. Small enough that sixteen workers end at about the same time."""
GROUP_SAMPLES = 64
GROUP_BYTES = 64 << 20
"""A row group is closed at either limit: it is what a writer and a reader hold in memory."""

_ACCOUNT = b"genseg"


_SUMMED = ("samples", "no_target", "single", "multi", "pictures", "objects", "bytes", "dropped_parts")


@dataclass
class Tally:
    """What a shard, or a whole set, holds."""

    samples: int = 0
    no_target: int = 0
    single: int = 0
    multi: int = 0
    pictures: int = 0
    objects: int = 0
    negatives: dict[str, int] = field(default_factory=dict)
    """Number of background points → number of objects that have so many."""
    bytes: int = 0
    dropped_parts: int = 0
    """Polygons without three corners that were left out of otherwise sound masks."""
    turned: dict[str, int] = field(default_factory=dict)
    """Frame of the annotations → number of pictures with an EXIF turn, see `build.Built`."""

    def add(self, samples: Sequence[Sample]) -> None:
        """Count the samples of one more picture."""
        for sample in samples:
            self.samples += 1
            self.no_target += not sample.targets
            self.single += len(sample.targets) == 1
            self.multi += len(sample.targets) > 1
            self.objects += len(sample.targets)
            for target in sample.targets:
                key = str(len(target.negatives))
                self.negatives[key] = self.negatives.get(key, 0) + 1
        self.pictures += bool(samples)

    def counts(self) -> dict[str, Any]:
        """What a card says about how much there is."""
        return {
            "samples": self.samples,
            "no_target": self.no_target,
            "single_target": self.single,
            "multi_target": self.multi,
            "objects": self.objects,
            "objects_by_negative_points": dict(sorted(self.negatives.items())),
        }

    @classmethod
    def total(cls, parts: Iterable[Tally]) -> Tally:
        """The sum of several."""
        whole = cls()
        for part in parts:
            for name in _SUMMED:
                setattr(whole, name, getattr(whole, name) + getattr(part, name))
            for key, number in part.negatives.items():
                whole.negatives[key] = whole.negatives.get(key, 0) + number
            for key, number in part.turned.items():
                whole.turned[key] = whole.turned.get(key, 0) + number
        return whole


@dataclass(frozen=True)
class Account:
    """The record of one shard: the plan it was built by, what is in it, and what was left out."""

    plan: str
    tally: Tally
    skips: tuple[Skip, ...]
    filtered: tuple[Skip, ...]


def write_shard(path: Path, plan: str, pictures: Iterable[Built]) -> Account:
    """Write the samples of some pictures; the file appears under its name when everything is in it.

    Args:
        path: the shard.
        plan: digest of everything that decides its content.
        pictures: built one after the other, so that no more than a row group is in memory.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    tally, skips, filtered = Tally(), [], []
    # Under the process's own name: should an orphan of a killed run still be writing, it writes elsewhere.
    with replacing(path, tag=f".{os.getpid()}") as stream, _writer(stream) as writer:
        group: list[dict[str, Any]] = []
        size = 0
        for built in pictures:
            skips += built.skips
            filtered += built.filtered
            tally.add(built.samples)
            tally.dropped_parts += built.dropped_parts
            if built.samples:
                tally.turned = dict(Counter(tally.turned) + Counter(built.turned))
            for sample in built.samples:
                # A picture's samples stay in one group unless they alone would fill the memory.
                if size + len(sample.image) > GROUP_BYTES and group:
                    writer.write_table(_table(group))
                    group, size = [], 0
                group.append(to_row(sample))
                size += len(sample.image)
            if len(group) >= GROUP_SAMPLES:
                writer.write_table(_table(group))
                group, size = [], 0
        if group:
            writer.write_table(_table(group))
        account = Account(plan, tally, tuple(skips), tuple(filtered))
        writer.add_key_value_metadata({_ACCOUNT: _packed(account)})
    return account


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    """The rows as a table; the pictures' bytes are joined, where Arrow would grow a buffer and copy it each time."""
    pictures = [row["image"]["bytes"] for row in rows]
    offsets = np.cumsum([0, *map(len, pictures)], dtype=np.int32)
    data = pa.Array.from_buffers(
        pa.binary(), len(rows), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(pictures))]
    )
    paths = pa.array([row["image"]["path"] for row in rows], pa.string())
    image = pa.StructArray.from_arrays([data, paths], fields=list(SCHEMA.field("image").type))
    columns = [
        image if column.name == "image" else pa.array([row[column.name] for row in rows], column.type)
        for column in SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _writer(stream: BinaryIO) -> pq.ParquetWriter:
    # Samples of one picture stand together and hold the same bytes: a dictionary stores them once per row group.
    # Pictures do not compress further; the little text beside them does.
    return pq.ParquetWriter(
        stream,
        SCHEMA.with_metadata({b"huggingface": _FEATURES}),
        compression={name: "NONE" if name == _PICTURE else "ZSTD" for name in _LEAVES},
        use_dictionary=[_PICTURE],
        dictionary_pagesize_limit=4 * GROUP_BYTES,
        write_statistics=["id"],
    )


def _packed(account: Account) -> bytes:
    value = {
        "plan": account.plan,
        "tally": asdict(account.tally),
        "skips": [list(skip) for skip in account.skips],
        "filtered": [list(skip) for skip in account.filtered],
    }
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def read_account(path: Path) -> Account | None:
    """The account of a shard, None if there is no such shard or it is not one of ours: it is then built anew."""
    try:
        with pq.ParquetFile(path) as parquet:
            stored = (parquet.metadata.metadata or {}).get(_ACCOUNT)
    except (OSError, pa.ArrowException):
        return None
    if stored is None:
        return None
    try:
        value = orjson.loads(stored)
        return Account(
            value["plan"],
            Tally(**value["tally"]),
            tuple(Skip(*skip) for skip in value["skips"]),
            tuple(Skip(*skip) for skip in value["filtered"]),
        )
    except (ValueError, KeyError, TypeError):  # damaged, or of another version
        return None


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remove_drafts(folder: Path) -> None:
    """Remove what killed processes left half-written."""
    for draft in folder.glob(".*.partial"):
        draft.unlink(missing_ok=True)


def _leaf_paths(field: pa.Field, above: str = "") -> Iterator[str]:
    path = f"{above}{field.name}"
    if pa.types.is_struct(field.type):
        for child in field.type:
            yield from _leaf_paths(child, f"{path}.")
    elif pa.types.is_list(field.type):
        # Parquet calls the item of a list `element`, whatever Arrow calls it.
        yield from _leaf_paths(field.type.value_field.with_name("element"), f"{path}.list.")
    else:
        yield path


_PICTURE = "image.bytes"
_LEAVES = [path for column in SCHEMA for path in _leaf_paths(column)]
_FEATURES = orjson.dumps({"info": {"features": {"image": {"_type": "Image"}}}})
"""Tells `datasets` that the column holds pictures, so that it hands out decoded ones."""
