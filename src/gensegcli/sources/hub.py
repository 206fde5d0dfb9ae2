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
from gensegcli.errors import ExitCode, GensegError, install_hint, unknown_name
from gensegcli.files.text import json_type, parse_json
from gensegcli.records import GRID, GridBox, GridPoint, Size
from gensegcli.sources.coco import CocoMask
from gensegcli.sources.ids import as_length, as_number, coco_number
from gensegcli.sources.parquet import HUB, Cell, ParquetMask, ParquetPicture, opened, rows
from gensegcli.sources.prepared import CARD, SHARDS
from gensegcli.sources.raw import Counts, Problem, RawRef, RawSet, RawTarget, Sentence
from gensegcli.sources.splits import COLUMN, Choice, choose, same

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

PICTURES = ("image", "images")
"""Columns that may hold the picture: itself, or a list of one."""
HEAVY = (*PICTURES, "mask")
"""Columns that are fetched only when their row is built."""

Row = dict[str, Any]
Form = Callable[[Row, Cell, Size], RawRef]


# ---------------------------------------------------------------- what the columns mean


def _solution_json(row: Row, _cell: Cell, frame: Size) -> RawRef:
    """`solution`: a JSON list of {bbox_2d, point_2d} in pixels of the stored picture. An empty list: nothing matches."""
    answers = parse_json(row["solution"], "solution", unique=True)
    if not isinstance(answers, list):  # an empty object is no list that says "nothing"
        raise TypeError(f"solution: a list of objects expected, {json_type(answers)} found")
    targets = tuple(
        _boxed(answer["bbox_2d"], [answer[key] for key in ("point_2d", "point_1", "point_2") if key in answer], frame)
        for answer in answers
    )
    return _from_problem(row, targets, frame)


_BOX = re.compile(r"<box>\s*\(([^()]*)\)\s*,\s*\(([^()]*)\)\s*</box>")
_POINTS = re.compile(r"<points>(.*?)</points>", re.DOTALL)
_PAIR = re.compile(r"\(([^()]*)\)")


def _solution_tags(row: Row, _cell: Cell, frame: Size) -> RawRef:
    """`solution`: `<box>(x1,y1),(x2,y2)</box><points>(x,y),(x,y)</points>` in pixels of the stored picture."""
    text = row["solution"]
    boxes, points = _BOX.findall(text), _POINTS.findall(text)
    if len(boxes) != 1 or len(points) != 1:
        raise ValueError(f"one <box> and one <points> expected, {len(boxes)} and {len(points)} in {text[:80]!r}")
    corners = [number for corner in boxes[0] for number in _numbers(corner)]
    pairs = [_numbers(pair) for pair in _PAIR.findall(points[0])]
    return _from_problem(row, (_boxed(corners, pairs, frame),), frame)


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
    return _from_problem(row, tuple(targets), frame)


def _from_problem(row: Row, targets: tuple[RawTarget, ...], frame: Size) -> RawRef:
    width, height = as_length(row.get("img_width")), as_length(row.get("img_height"))
    provenance = {"think": row["thinking"]} if isinstance(row.get("thinking"), str) else {}
    return RawRef(
        str(row.get("id", "")),
        None,
        (Sentence(row["problem"]),),
        targets,
        annotated_size=frame,  # a picture of another size is a mismatch: its solution is in other pixels
        original_size=Size(width, height) if width and height else None,
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
    image_id = coco_number(row.get("image_id"))
    ann_id = row.get("ann_id")
    text = row["text"]
    return RawRef(
        id=str(next((value for value in (ann_id, image_id) if value is not None), "")),
        picture=ParquetPicture(f"{cell.file}:{row['image_id']}", cell) if row.get("image_id") is not None else None,
        sentences=tuple(Sentence(part) for part in (text if isinstance(text, list) else [text])),
        targets=(RawTarget(ParquetMask(cell), ann_id=as_number(ann_id)),),
        provenance={"image_id": image_id} if image_id is not None else {},
    )


def _flat_polygon(row: Row, _cell: Cell, _frame: Size) -> RawRef:
    """image, answer (all sentences), segmentation (one flat polygon), file_name."""
    image_id = coco_number(row.get("file_name"))
    return RawRef(
        id=str(row.get("question_id", "")),
        picture=None,
        sentences=tuple(Sentence(text) for text in row["answer"]),
        targets=(RawTarget(CocoMask.of([list(row["segmentation"])])),),
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
        split: the files are those that are of it (`splits.choose`); `all`: the set has one split.
        frame: width and height of the pictures in whose pixels solutions are given.
        files: a Parquet file or a folder of them; nothing else is looked at.

    Raises:
        GensegError: unknown form, no files, none of that split, no pictures in them; offline and no files on this
            machine.
    """
    if form not in FORMS:
        raise unknown_name("form of a hub set", form, FORMS)
    places = [files] if files else [root / "hub" / name.replace("/", "__"), root / name.rpartition("/")[2]]
    chosen, of_rows = _files(name, places, split, given=files is not None)
    dataset, read = name.rpartition("/")[2], FORMS[form]
    columns = {file: picture_column(file) for file in chosen}
    found = enumerate(
        (cell, row) for cell, row in rows(chosen, HEAVY) if of_rows is None or same(str(row[COLUMN])) == of_rows
    )
    refs = [
        _ref(row, cell, f"{number:06d}", read, Size(*frame), dataset, columns[cell.file])
        for number, (cell, row) in found
    ]
    counts = Counts.of(refs, len({ref.picture.key for ref in refs if ref.picture}))
    remote = [file for file in chosen if file.startswith(HUB)]
    local = tuple(Path(file) for file in chosen if file not in remote)
    revisions = {name: _revision(remote[0])} if remote else {}
    return RawSet(refs, counts, local, {split: counts}, revisions=revisions)


def _files(name: str, places: Sequence[Path], split: str, *, given: bool) -> Choice:
    """The files of a split: those of the first place that has some, else the hub's."""
    for place in places:
        here = [str(path) for path in parquet_files(place)]
        if here:
            base = place if place.is_dir() else place.parent
            return choose(here, split, base=str(base), name=str(place))
    if given:
        raise GensegError(f"{places[0]}: no Parquet file, and no folder of them", code=ExitCode.NOT_FOUND)
    files = hub_files(name, places)
    return choose(files, split, base=hub_base(files[0]), name=name)


def hub_base(address: str) -> str:
    """The part of an address of `hub_files` that all files of the set share."""
    set_, at, rest = address.partition("@")
    return f"{set_}{at}{rest.partition('/')[0]}"


def picture_column(file: str) -> str:
    """The column of a file that holds the pictures.

    Raises:
        GensegError: it has none.
    """
    with opened(file) as parquet:
        names = parquet.schema_arrow.names
    found = next((name for name in PICTURES if name in names), None)
    if found is None:
        raise GensegError(f"{file}: no column {' or '.join(PICTURES)}; columns there: {', '.join(names[:8])}")
    return found


def _ref(row: Row, cell: Cell, number: str, read: Form, frame: Size, dataset: str, column: str) -> RawRef:
    """The reference of a row. Its id begins with the row's number, because the sets' own ids repeat."""
    try:
        ref = read(row, cell, frame)
        texts = [expression_text(sentence.text) for sentence in ref.sentences]
        ref = replace(ref, sentences=tuple(map(Sentence, texts)), problem=_contradiction(row, ref))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        ref = _unreadable(f"row {number}: {error!r}")
    except GensegError as error:
        ref = _unreadable(f"row {number}: {error.message}")
    name = f"{number}-{ref.id}" if ref.id else number
    key = ref.picture.key if ref.picture else f"{cell.file}:{cell.group}:{cell.row}"
    picture = ParquetPicture(key, cell, column)
    return replace(ref, id=name, picture=picture, provenance={"dataset": dataset, **ref.provenance})


def _unreadable(what: str) -> RawRef:
    return RawRef("", None, (Sentence(""),), (), problem=Problem("solution damaged", what))


def _contradiction(row: Row, ref: RawRef) -> Problem | None:
    declared = row.get("no_target")
    if not isinstance(declared, bool) or declared != bool(ref.targets):
        return None
    return Problem("contradiction", f"no_target is {str(declared).lower()}, the row has {len(ref.targets)} objects")


_PLACEHOLDER = re.compile(r"<image>|<\|vision_start\|>|<\|image_pad\|>|<\|vision_end\|>")


def expression_text(text: object) -> str:
    """An expression without the token that stands for the picture in questions of EasyR1, verl and TRL.

    >>> expression_text("<image>the red cup")
    'the red cup'

    Raises:
        TypeError: it is no text.
    """
    if not isinstance(text, str):
        raise TypeError("an expression that is no text")
    return _PLACEHOLDER.sub("", text)


def parquet_files(place: Path) -> list[Path]:
    """The Parquet files of a folder and of all below it, or the one that is named; empty if there are none."""
    if place.is_file():
        return [place] if place.suffix == ".parquet" else []
    return sorted(place.rglob("*.parquet")) if place.is_dir() else []


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
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
    except ModuleNotFoundError as error:
        raise GensegError(
            f"{name}: reading from the hub needs the package huggingface_hub",
            hint=f"{install_hint('local')}; or {hint}",
            code=ExitCode.ENVIRONMENT,
        ) from error
    try:
        yield
    except HFValidationError:
        raise GensegError(
            f"{name}: no name that a set of the hub can have", hint=hint, code=ExitCode.NOT_FOUND
        ) from None
    except RepositoryNotFoundError:
        raise GensegError(f"{name}: the hub has no such data set", hint=hint, code=ExitCode.NOT_FOUND) from None
    except (httpx.HTTPError, OSError) as error:  # the hub's own errors derive from these
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise GensegError(f"{name}: the hub cannot be reached ({reason})", hint=hint, code=ExitCode.NOT_FOUND) from None
