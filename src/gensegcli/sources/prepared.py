"""Prepared sets: the columns of their Parquet shards, and samples to and from rows.

The layout is that of the hub: `datasets`, DuckDB and every Arrow tool open the shards as they are, and pycocotools
decodes a `mask` as it stands. docs/data.md lists the columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from gensegcli.errors import ExitCode, GensegError
from gensegcli.geometry.rle import to_coco
from gensegcli.records import GridBox, GridPoint, Rle, Sample, Size, Target
from gensegcli.sources.coco import inside

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping
    from pathlib import Path

_MASK = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
_POINTS = pa.list_(pa.list_(pa.float64()))
_TARGET = pa.struct(
    [
        ("box", pa.list_(pa.float64())),
        ("points", _POINTS),
        ("negatives", _POINTS),
        ("mask", _MASK),
        ("ann_id", pa.int64()),
        ("category_id", pa.int64()),
    ]
)
_PROVENANCE = {
    "dataset": pa.string(),
    "split": pa.string(),
    "ref_id": pa.int64(),
    "sent_id": pa.int64(),
    "image_id": pa.int64(),
    "file_name": pa.string(),
    "kind": pa.string(),
}
COLUMNS = {
    "id": pa.string(),
    "query": pa.string(),
    "sentences": pa.list_(pa.string()),
    "image": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    "width": pa.int32(),
    "height": pa.int32(),
    "original_width": pa.int32(),
    "original_height": pa.int32(),
    "no_target": pa.bool_(),
    "targets": pa.list_(_TARGET),
    "ignore": _MASK,
    "think": pa.string(),
    "provenance": pa.struct(list(_PROVENANCE.items())),
}
SCHEMA = pa.schema(list(COLUMNS.items()))
"""Boxes are [x1, y1, x2, y2] and points [x, y] on the grid [0, 1000]; masks are COCO's compressed run lengths."""

CARD = "dataset.json"
SHARDS = "data"


def to_row(sample: Sample) -> dict[str, Any]:
    """A sample as one row of the shards."""
    original = sample.original_size or sample.size
    return {
        "id": sample.id,
        "query": sample.query,
        "sentences": list(sample.sentences),
        "image": {"bytes": sample.image, "path": sample.provenance.get("file_name")},
        "width": sample.size.width,
        "height": sample.size.height,
        "original_width": original.width,
        "original_height": original.height,
        "no_target": sample.no_target,
        "targets": [
            {
                "box": list(target.box),
                "points": [list(point) for point in target.points],
                "negatives": [list(point) for point in target.negatives],
                "mask": to_coco(target.mask) if target.mask else None,
                "ann_id": target.ann_id,
                "category_id": target.category_id,
            }
            for target in sample.targets
        ],
        "ignore": to_coco(sample.ignore) if sample.ignore else None,
        "think": sample.think,
        "provenance": {key: sample.provenance.get(key) for key in _PROVENANCE},
    }


def from_row(row: Mapping[str, Any]) -> Sample:
    """The sample of a row; `from_row(to_row(sample)) == sample` for every sample that `prep` makes."""
    size, original = Size(row["width"], row["height"]), Size(row["original_width"], row["original_height"])
    return Sample(
        id=row["id"],
        query=row["query"],
        image=row["image"]["bytes"],
        size=size,
        targets=tuple(_target(target) for target in row["targets"]),
        sentences=tuple(row["sentences"]),
        provenance={key: value for key, value in row["provenance"].items() if value is not None},
        original_size=original,
        ignore=_rle(row["ignore"]),
        think=row["think"],
    )


def _target(row: Mapping[str, Any]) -> Target:
    return Target(
        box=GridBox(*row["box"]),
        points=tuple(GridPoint(*point) for point in row["points"]),
        mask=_rle(row["mask"]),
        negatives=tuple(GridPoint(*point) for point in row["negatives"]),
        ann_id=row["ann_id"],
        category_id=row["category_id"],
    )


def _rle(value: Mapping[str, Any] | None) -> Rle | None:
    if value is None:
        return None
    height, width = value["size"]
    return Rle(Size(width, height), value["counts"])


def read_card(folder: Path) -> dict[str, Any]:
    """`dataset.json` of a prepared set: its recipe, counts and shards.

    Raises:
        GensegError: the folder is no prepared set, or its preparation did not end; the card is damaged, or names files
            outside the folder.
    """
    path = folder / CARD
    try:
        card = orjson.loads(path.read_bytes())
    except OSError as error:
        unfinished = (folder / SHARDS).is_dir()
        raise GensegError(
            f"{folder}: {'a preparation that did not end' if unfinished else f'no prepared set (no {CARD})'}",
            hint="run the same `genseg prep` again to end it" if unfinished else "make one with `genseg prep`",
            code=ExitCode.NOT_FOUND,
        ) from error
    except orjson.JSONDecodeError as error:
        raise GensegError(f"{path}: not JSON ({error})", hint="run the same `genseg prep` again") from error
    problem = _card_problem(card, folder)
    if problem:
        raise GensegError(f"{path}: {problem}", hint="run the same `genseg prep` again, or get the set again")
    return card


_CARD = {"name": str, "split": str, "recipe": dict, "counts": dict, "shards": list}
_SHARD = {"file": str, "samples": int, "sha256": str}


def _card_problem(card: object, folder: Path) -> str:
    """What is wrong with a card, which may come from anywhere; nothing if nothing is."""
    problem = _form_problem(card, _CARD)
    if problem or not isinstance(card, dict):
        return problem
    for place, shard in enumerate(card["shards"]):
        problem = _form_problem(shard, _SHARD)
        if problem:
            return f"shard number {place}: {problem}"
        inside(folder, shard["file"])
    return ""


def _form_problem(found: object, form: Mapping[str, type]) -> str:
    if not isinstance(found, dict):
        return f"an object expected, {type(found).__name__} found"
    wrong = next((key for key, kind in form.items() if not isinstance(found.get(key), kind)), None)
    return f"{wrong} must be {form[wrong].__name__}, {found.get(wrong)!r} found" if wrong else ""


def read_prepared(folder: Path) -> Iterator[Sample]:
    """The samples of a prepared set, in order, a few rows in memory at a time.

    Raises:
        GensegError: no prepared set, or a shard that is missing or damaged.
    """
    for shard in read_card(folder)["shards"]:
        yield from read_shard(folder / shard["file"])


def read_shard(path: Path, *, ids: Container[str] | None = None, pictures: bool = True) -> Iterator[Sample]:
    """The samples of one shard.

    Args:
        path: the shard.
        ids: only the samples named here.
        pictures: without them `image` is empty, and reading takes a small part of the time.

    Raises:
        GensegError: missing or damaged.
    """
    columns = [name for name in COLUMNS if pictures or name != "image"]
    try:
        with pq.ParquetFile(path) as parquet:
            missing = sorted(COLUMNS.keys() - set(parquet.schema_arrow.names))
            if missing:
                raise GensegError(f"{path}: no shard of a prepared set (no column {', '.join(missing)})")
            for batch in parquet.iter_batches(batch_size=32, columns=columns):
                for row in batch.to_pylist():
                    if ids is None or row["id"] in ids:
                        yield from_row(row if pictures else {**row, "image": {"bytes": b""}})
    except (OSError, pa.ArrowInvalid) as error:
        raise GensegError(
            f"{path}: cannot be read ({error})", hint="run the same `genseg prep` again", code=ExitCode.NOT_FOUND
        ) from error
