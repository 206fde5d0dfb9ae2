"""Prepared sets: the columns of their Parquet shards, and samples to and from rows.

The layout is that of the hub: `datasets`, DuckDB and every Arrow tool open the shards as they are, and pycocotools
decodes a `mask` as it stands. docs/data.md lists the columns.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from gensegcli.errors import ExitCode, GensegError
from gensegcli.files.text import excerpt, json_type, read_json_object
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


def _sample(row: Mapping[str, Any], path: Path) -> Sample:
    """The sample of a row of a file that may come from anywhere."""
    try:
        return from_row(row)
    except (KeyError, TypeError, ValueError) as error:
        raise GensegError(
            f"{path}: sample {excerpt(row.get('id'))} is not in the form of a prepared set ({error})",
            hint="docs/data.md lists the columns",
        ) from None


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
    if not path.is_file():
        unfinished = (folder / SHARDS).is_dir()
        raise GensegError(
            f"{folder}: {'a preparation that did not end' if unfinished else f'no prepared set (no {CARD})'}",
            hint="run the same `genseg prep` again to end it" if unfinished else "make one with `genseg prep`",
            code=ExitCode.NOT_FOUND,
        )
    hint = "run the same `genseg prep` again, or get the set again"
    card = read_json_object(path, hint=hint)
    problem = _card_problem(card, folder)
    if problem:
        raise GensegError(f"{path}: {problem}", hint=hint)
    return card


def no_such_folder(path: Path) -> GensegError:
    """The error for a path that leads nowhere; the nearest name beside it is offered."""
    try:
        beside = [entry.name for entry in path.parent.iterdir()]
    except (OSError, ValueError):
        beside = []
    near = get_close_matches(path.name, beside, n=1, cutoff=0.7)
    hint = f"did you mean {path.parent / near[0]}?" if near else ""
    return GensegError(f"{path}: no such file or folder", hint=hint, code=ExitCode.NOT_FOUND)


_CARD = {
    "name": str,
    "split": str,
    "purpose": str,
    "recipe": dict,
    "counts": dict,
    "skipped": dict,
    "shards": list,
}
_SHARD = {"file": str, "samples": int, "sha256": str}
_RECIPE = (("source", "kind"), ("select", "per"))
"""What of its recipe every reader of a card relies on."""


def _card_problem(card: Mapping[str, Any], folder: Path) -> str:
    """What is wrong with a card, which may come from anywhere; nothing if nothing is."""
    problem = _form_problem(card, _CARD)
    if problem:
        return problem
    for part, key in _RECIPE:
        problem = _form_problem(card["recipe"].get(part), {key: str})
        if problem:
            return f"recipe.{part}: {problem}"
    for key in ("counts", "skipped"):
        for name, number in card[key].items():
            if isinstance(number, bool) or not isinstance(number, int | dict):
                return f"{key}: {name} must be a number, {excerpt(number)} found"
    if not isinstance(card["counts"].get("samples"), int):
        return "counts: samples is missing"
    for place, shard in enumerate(card["shards"]):
        problem = _form_problem(shard, _SHARD)
        if problem:
            return f"shard number {place}: {problem}"
        inside(folder, shard["file"])
    return ""


def _form_problem(found: object, form: Mapping[str, type]) -> str:
    if not isinstance(found, dict):
        return f"an object expected, {json_type(found)} found"
    for key, kind in form.items():
        value = found.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            return f"{key} must be {json_type(kind())}, {excerpt(value)} found" if key in found else f"no {key}"
    return ""


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
                        yield _sample(row if pictures else {**row, "image": {"bytes": b""}}, path)
    except (OSError, pa.ArrowException) as error:
        raise GensegError(
            f"{path}: cannot be read ({error})", hint="run the same `genseg prep` again", code=ExitCode.NOT_FOUND
        ) from error
