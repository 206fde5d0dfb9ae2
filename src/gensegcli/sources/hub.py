"""Sets that others have already put into Parquet on the hub; read from there, or from copies on this machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from gensegcli.checkpoints import offline
from gensegcli.errors import ExitCode, GensegError, unknown_name
from gensegcli.records import GRID, GridBox, GridPoint, Size
from gensegcli.sources.coco import CocoMask
from gensegcli.sources.parquet import HUB, Cell, ParquetMask, ParquetPicture, rows
from gensegcli.sources.prepared import CARD, SHARDS
from gensegcli.sources.raw import Counts, Problem, RawRef, RawSet, RawTarget, Sentence, coco_image_id

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

HEAVY = ("image", "mask")
"""Columns that are fetched only when their row is built."""

Row = dict[str, Any]
Form = Callable[[Row, Cell, Size], RawRef]


# ---------------------------------------------------------------- what the columns mean


def _solution_json(row: Row, _cell: Cell, frame: Size) -> RawRef:
    """`solution`: a JSON list of {bbox_2d, point_2d} in pixels of the stored picture. An empty list: nothing matches."""
    answers = orjson.loads(row["solution"])
    targets = tuple(
        _boxed(answer["bbox_2d"], [answer[key] for key in ("point_2d", "point_1", "point_2") if key in answer], frame)
        for answer in answers
    )
    return _from_problem(row, targets)


_BOX = re.compile(r"<box>\s*\(([^()]*)\)\s*,\s*\(([^()]*)\)\s*</box>")
_POINTS = re.compile(r"<points>(.*?)</points>", re.DOTALL)
_PAIR = re.compile(r"\(([^()]*)\)")


def _solution_tags(row: Row, _cell: Cell, frame: Size) -> RawRef:
    """`solution`: `<box>(x1,y1),(x2,y2)</box><points>(x,y),(x,y)</points>` in pixels of the stored picture."""
    text = row["solution"]
    box, points = _BOX.search(text), _POINTS.search(text)
    if box is None or points is None:
        raise ValueError(f"no <box> or no <points> in {text[:80]!r}")
    pairs = [_numbers(pair) for pair in _PAIR.findall(points[1])]
    return _from_problem(row, (_boxed([*_numbers(box[1]), *_numbers(box[2])], pairs, frame),))


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


_LISTS = {key: re.compile(rf"<{key}>(.*?)</{key}>", re.DOTALL) for key in ("bbox", "points", "labels")}


def _solution_labels(row: Row, _cell: Cell, frame: Size) -> RawRef:
    """Seg-R1's form: `<bbox>[…]</bbox>` once or more, `<points>[[x, y], …]</points>`, `<labels>[1, 0, …]</labels>`."""
    text = row["solution"]
    boxes = [orjson.loads(found) for found in _LISTS["bbox"].findall(text)]
    boxes = [box for found in boxes for box in (found if found and isinstance(found[0], list) else [found])]
    points = [point for found in _LISTS["points"].findall(text) for point in orjson.loads(found)]
    labels = [label for found in _LISTS["labels"].findall(text) for label in orjson.loads(found)]
    if not boxes or len(points) != len(labels):
        raise ValueError(f"{len(boxes)} boxes, {len(points)} points, {len(labels)} labels in {text[:80]!r}")
    targets = []
    for box in boxes:
        within = [
            (point, label)
            for point, label in zip(points, labels, strict=True)
            if box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]
        ]
        marked = {wanted: [point for point, label in within if bool(label) == wanted] for wanted in (True, False)}
        targets.append(_boxed(box, marked[True], frame, negatives=marked[False]))
    return _from_problem(row, tuple(targets))


def _from_problem(row: Row, targets: tuple[RawTarget, ...]) -> RawRef:
    height, width = row.get("img_height"), row.get("img_width")
    original = Size(int(width), int(height)) if height and width else None
    provenance = {"think": row["thinking"]} if isinstance(row.get("thinking"), str) else {}
    return RawRef(
        str(row.get("id", "")),
        None,
        (Sentence(row["problem"]),),
        targets,
        original_size=original,
        provenance=provenance,
    )


def _boxed(
    box: Sequence[float], points: Sequence[Sequence[float]], frame: Size, negatives: Sequence[Any] = ()
) -> RawTarget:
    """An object that is known by box and points only, in pixels of a picture of `frame`."""
    x1, y1, x2, y2 = (float(value) * GRID / frame[axis % 2] for axis, value in enumerate(box))
    if not (0 <= x1 < x2 <= GRID and 0 <= y1 < y2 <= GRID):
        raise ValueError(f"box {list(box)} is not in a picture of {frame.width}x{frame.height}")

    def on_grid(point: Sequence[float]) -> GridPoint:
        x, y = (float(value) * GRID / frame[axis] for axis, value in enumerate(point))
        if not (0 <= x <= GRID and 0 <= y <= GRID):
            raise ValueError(f"point {list(point)} is not in a picture of {frame.width}x{frame.height}")
        return GridPoint(x, y)

    return RawTarget(None, GridBox(x1, y1, x2, y2), tuple(map(on_grid, points)), tuple(map(on_grid, negatives)))


def _mask_rows(row: Row, cell: Cell, _frame: Size) -> RawRef:
    """image, text, mask (rows of booleans), image_id, ann_id: one row a reference."""
    image_id = _image_id(row.get("image_id"))
    ann_id = row.get("ann_id")
    text = row["text"]
    return RawRef(
        id=str(ann_id if ann_id is not None else image_id),
        picture=ParquetPicture(f"{cell.file}:{row['image_id']}", cell) if row.get("image_id") is not None else None,
        sentences=tuple(Sentence(part) for part in (text if isinstance(text, list) else [text])),
        targets=(RawTarget(ParquetMask(cell), ann_id=int(str(ann_id)) if str(ann_id).isdecimal() else None),),
        provenance={"image_id": image_id} if image_id is not None else {},
    )


def _image_id(value: object) -> int | None:
    """COCO's number, where the column holds one: as a number, as text, or as a file name."""
    text = str(value)
    return int(text) if text.isdecimal() else coco_image_id(text)


def _flat_polygon(row: Row, _cell: Cell, _frame: Size) -> RawRef:
    """image, answer (all sentences), segmentation (one flat polygon), file_name."""
    image_id = coco_image_id(row.get("file_name") or "")
    return RawRef(
        id=str(row.get("question_id", "")),
        picture=None,
        sentences=tuple(Sentence(text) for text in row["answer"]),
        targets=(RawTarget(CocoMask(orjson.dumps([list(row["segmentation"])]))),),
        provenance={"image_id": image_id} if image_id is not None else {},
    )


FORMS: dict[str, Form] = {
    "solution-json": _solution_json,
    "solution-tags": _solution_tags,
    "solution-labels": _solution_labels,
    "mask-rows": _mask_rows,
    "flat-polygon": _flat_polygon,
}
"""How a set's columns are to be read; named by its recipe."""


# ---------------------------------------------------------------- where the files are


def read_hub(
    root: Path,
    *,
    name: str,
    form: str,
    split: str,
    frame: Sequence[int] = (840, 840),
    files: Path | None = None,
) -> RawSet:
    """One split of a Parquet set.

    Args:
        root: folder of raw data; `<root>/hub/<owner>__<name>` and `<root>/<name>` are looked at before the hub is.
        name: the set's name on the hub.
        form: a key of `FORMS`.
        split: the files are those whose names contain it, or all if there are no others.
        frame: width and height of the pictures in whose pixels solutions are given.
        files: a Parquet file or a folder of them; nothing else is looked at.

    Raises:
        GensegError: unknown form, no files, offline and no files on this machine.
    """
    if form not in FORMS:
        raise unknown_name("form of a hub set", form, FORMS)
    places = [files] if files else [root / "hub" / name.replace("/", "__"), root / name.rpartition("/")[2]]
    here = [path for place in places for path in _parquet_files(place)]
    if files and not here:
        raise GensegError(f"{files}: no Parquet file, and no folder of them", code=ExitCode.NOT_FOUND)
    chosen = _of_split([str(path) for path in here] or hub_files(name, places), split)
    dataset, read = name.rpartition("/")[2], FORMS[form]
    found = enumerate(rows(chosen, HEAVY))
    refs = [_ref(row, cell, f"{number:06d}", read, Size(*frame), dataset) for number, (cell, row) in found]
    counts = Counts.of(refs, len({ref.picture.key for ref in refs if ref.picture}))
    remote = [file for file in chosen if file.startswith(HUB)]
    local = tuple(Path(file) for file in chosen if file not in remote)
    revisions = {name: _revision(remote[0])} if remote else {}
    return RawSet(refs, counts, local, {split: counts}, revisions=revisions)


def _ref(row: Row, cell: Cell, number: str, read: Form, frame: Size, dataset: str) -> RawRef:
    """The reference of a row. Its id begins with the row's number, because the sets' own ids repeat."""
    try:
        ref = read(row, cell, frame)
        if not all(isinstance(sentence.text, str) for sentence in ref.sentences):
            raise TypeError("an expression that is no text")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        problem = Problem("solution damaged", f"row {number}: {error!r}")
        ref = RawRef("", None, (Sentence(""),), (), problem=problem)
    name = f"{number}-{ref.id}" if ref.id else number
    picture = ref.picture or ParquetPicture(f"{cell.file}:{cell.group}:{cell.row}", cell)
    return replace(ref, id=name, picture=picture, provenance={"dataset": dataset, **ref.provenance})


def _parquet_files(place: Path) -> list[Path]:
    if place.is_file():
        return [place] if place.suffix == ".parquet" else []
    return sorted(place.rglob("*.parquet")) if place.is_dir() else []


def _of_split(files: Sequence[str], split: str) -> list[str]:
    """The files whose names begin with the split, as the hub names them (`train-00000-of-00003.parquet`)."""
    named = [file for file in files if re.match(rf"{re.escape(split)}(?![A-Za-z0-9])", file.rpartition("/")[2])]
    return named or list(files)


def hub_files(name: str, looked_at: Iterable[Path]) -> list[str]:
    """Addresses of a set's Parquet files on the hub, at one commit: read from there piece by piece, not downloaded.

    Raises:
        GensegError: offline, huggingface_hub is not installed, or the hub has no such set.
    """
    places = ", ".join(map(str, looked_at))
    hint = f"put its Parquet files into one of {places}, or name them with --files"
    if offline():
        raise GensegError(
            f"{name}: not on this machine (looked in {places}), and HF_HUB_OFFLINE is set",
            hint=hint,
            code=ExitCode.NOT_FOUND,
        )
    with _asking_hub(name, hint):
        from huggingface_hub import HfApi, HfFileSystem
        from huggingface_hub.errors import RevisionNotFoundError

        files = HfFileSystem()
        for branch in (None, "refs/convert/parquet"):
            try:
                revision = HfApi().dataset_info(name, revision=branch).sha
            except RevisionNotFoundError:  # the hub has not converted it
                break
            found = files.glob(f"datasets/{name}@{revision}/**/*.parquet")
            if found:
                return [HUB + str(path) for path in sorted(found)]
    raise GensegError(f"{name}: the hub has no Parquet files of it", hint=hint, code=ExitCode.NOT_FOUND)


def _revision(file: str) -> str:
    """The commit in an address of `hub_files`: hf://datasets/OWNER/NAME@COMMIT/PATH."""
    return file.partition("@")[2].partition("/")[0]


def prepared_on_hub(name: str) -> Path | None:
    """A prepared set that somebody put on the hub, downloaded or from its cache; None if the set is of another form.

    Raises:
        GensegError: huggingface_hub is not installed, or the hub has no such set.
    """
    with _asking_hub(name, "the name of a set is owner/name; is the connection up?"):
        from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache

        if offline():
            card = try_to_load_from_cache(name, CARD, repo_type="dataset")
            return Path(card).parent if isinstance(card, str) else None
        siblings = HfApi().dataset_info(name).siblings or ()
        if CARD not in {file.rfilename for file in siblings}:
            return None
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=[CARD, f"{SHARDS}/*.parquet"]))


@contextmanager
def _asking_hub(name: str, hint: str) -> Generator[None]:
    """Turn what can go wrong with the hub into one line."""
    try:
        import httpx
        from huggingface_hub.errors import RepositoryNotFoundError
    except ModuleNotFoundError as error:
        raise GensegError(
            f"{name}: reading from the hub needs the package huggingface_hub",
            hint=f"pip install '.[local]'; or {hint}",
            code=ExitCode.ENVIRONMENT,
        ) from error
    try:
        yield
    except RepositoryNotFoundError:
        raise GensegError(f"{name}: the hub has no such data set", hint=hint, code=ExitCode.NOT_FOUND) from None
    except (httpx.HTTPError, OSError) as error:  # the hub's own errors derive from these
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise GensegError(f"{name}: the hub cannot be reached ({reason})", hint=hint, code=ExitCode.NOT_FOUND) from None
