"""The sets of an audit: which pictures, which expressions on them, whatever form the set has.

A set is named by a recipe and a split (`grefcoco:train`: the whole raw split, pictures need not be there), the folder
of a prepared set, a Parquet file or folder of the hub's form, a folder of pictures, or a list (text, CSV, JSONL).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gensegcli.dialects.expressions import normalise_expression
from gensegcli.errors import ExitCode, GensegError, unknown_name
from gensegcli.exports.names import picture_stem
from gensegcli.files.text import read_bytes
from gensegcli.images import SUFFIXES
from gensegcli.manifests import READERS, Row, read_rows
from gensegcli.prep.inputs import Inputs, read_raw
from gensegcli.prep.recipe import Recipe, Refer, names, resolve
from gensegcli.prep.select import candidates
from gensegcli.sources.coco import read_index
from gensegcli.sources.hub import PICTURES, expression_text, picture_column
from gensegcli.sources.ids import as_number, coco_image_id, coco_number
from gensegcli.sources.parquet import Cell, ParquetPicture, rows
from gensegcli.sources.places import COCO_FOLDERS, CocoPictures
from gensegcli.sources.prepared import CARD, COLUMNS, read_card
from gensegcli.sources.raw import PictureFile
from gensegcli.sources.refer import read_references
from gensegcli.sources.splits import split_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gensegcli.sources.raw import PictureSource, RawRef


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a set."""

    name: str
    """What a report calls it."""
    image_id: int | None
    """COCO's number, if it has one."""
    source: PictureSource | None
    """Where its bytes are, if that is known."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One sample: what is asked of a picture."""

    id: str
    """As in the prepared set: what `genseg eval --subset` takes."""
    ref: str
    picture: int
    """Place in the set's pictures."""
    query: str
    """The expression, normalised; empty where the set has none."""
    sentences: frozenset[str]
    """Every expression that means the same objects, normalised; the query is one of them."""


@dataclass(frozen=True, slots=True)
class PictureSet:
    """One set of an audit."""

    name: str
    pictures: tuple[Picture, ...]
    """Each once, as far as names tell; the same picture under two names is two."""
    entries: tuple[Entry, ...]
    splits: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """COCO's numbers of the pictures of every split that the raw file holds."""
    notes: tuple[str, ...] = ()
    """What could not be used, counted."""
    lost: int = 0
    """Lines and references that could not be read, so that their pictures are not among these."""

    @property
    def refs(self) -> int:
        return len({entry.ref for entry in self.entries})


@dataclass(frozen=True)
class Places:
    """Where raw data, pictures and annotations are."""

    root: Path
    images: Path | None = None
    annotations: Path | None = None
    """COCO annotation file that says of which pictures annotation ids are; None: those below the root."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """A sample before it is known which samples are of one picture."""

    id: str
    ref: str
    key: str
    """Equal for equal pictures, as far as the set's own names tell."""
    query: str
    sentences: Iterable[str]
    name: str
    image_id: int | None
    source: PictureSource | None
    ann_ids: tuple[int, ...] = ()
    """COCO's numbers of objects, where they are all that leads to the picture."""


def read_set(name: str, places: Places, *, evaluated: bool = False) -> PictureSet:
    """The set of that name.

    Args:
        name: see above.
        places: where to look.
        evaluated: a prepared set counts with all sentences of its references; else, as training sees it, with those
            that were drawn.

    Raises:
        GensegError: there is no such set, it cannot be read, or it holds nothing.
    """
    path = Path(name)
    if path.is_dir():
        found = _folder(path, places, evaluated=evaluated)
    elif path.is_file() and path.suffix != ".toml":
        found = _file(path, places, evaluated=evaluated)
    elif path.suffix.lower() in {*READERS, ".txt"}:
        raise GensegError(f"{name}: no such file", code=ExitCode.NOT_FOUND)
    else:
        found = _recipe(name, places)
    if not found.pictures:
        raise GensegError(f"{name}: holds no pictures", hint="; ".join(found.notes), code=ExitCode.NOT_FOUND)
    if evaluated:
        _refuse_doubles(found)
    return found


def _refuse_doubles(found: PictureSet) -> None:
    """Refuse an id of two pictures: it might be clean and not clean."""
    place: dict[str, int] = {}
    for entry in found.entries:
        if place.setdefault(entry.id, entry.picture) != entry.picture:
            raise GensegError(
                f"{found.name}: two pictures have samples of the id {entry.id!r}", hint="ids must be unique"
            )


def _gather(name: str, drafts: Iterable[_Draft], places: Places, **facts: Any) -> PictureSet:
    """Bring samples of one picture together."""
    drafts = list(drafts)
    notes = list(facts.pop("notes", ()))
    wanted = {number for draft in drafts if draft.image_id is None for number in draft.ann_ids}
    picture_of = _pictures_of(wanted, places)
    pictures: dict[object, int] = {}
    found: list[Picture] = []
    entries = []
    lost = 0
    for draft in drafts:
        image_id = draft.image_id
        if image_id is None and draft.ann_ids:
            # Numbers of another set's objects would lead to several pictures.
            led_to = {picture_of.get(number) for number in draft.ann_ids}
            image_id = led_to.pop() if len(led_to) == 1 else None
            lost += image_id is None
        place = pictures.setdefault(draft.key if image_id is None else image_id, len(found))
        if place == len(found):
            found.append(Picture(draft.name, image_id, draft.source))
        sentences = frozenset(filter(None, map(normalise_expression, draft.sentences)))
        entries.append(Entry(draft.id, draft.ref, place, normalise_expression(draft.query), sentences))
    if lost:
        notes.append(
            f"{name}: {lost} samples have annotation ids that lead to no picture; name their COCO file with --annotations"
        )
    return PictureSet(name, tuple(found), tuple(entries), notes=tuple(notes), **facts)


# ---------------------------------------------------------------- what leads to a picture


_COCO_ANNOTATIONS = re.compile(r"(?:g?refcoco[+g]?_)?\d+(?:_\d+)+|g?refcoco[+g]?_\d+", re.IGNORECASE)
"""VisionReasoner's ids: numbers of COCO's objects. LVIS and others, whose ids look alike, number their own objects."""


def annotation_ids(name: str) -> tuple[int, ...]:
    """The COCO annotation ids that an id of VisionReasoner's sets is made of; none for other names.

    >>> annotation_ids("refcocog_161801_162109"), annotation_ids("lvis_5_6"), annotation_ids("785")
    ((161801, 162109), (), ())
    """
    return tuple(map(int, re.findall(r"\d+", name))) if _COCO_ANNOTATIONS.fullmatch(name) else ()


_INSTANCES = ("refcoco*/instances.json", "grefcoco/instances.json", "**/annotations/instances_train20*.json")


def _pictures_of(ann_ids: set[int], places: Places) -> dict[int, int]:
    """COCO's picture of each annotation, from as few files as it takes."""
    found: dict[int, int] = {}
    files = [places.annotations] if places.annotations else [f for p in _INSTANCES for f in sorted(places.root.glob(p))]
    for file in files:
        missing = ann_ids - found.keys()
        if missing:
            found |= {
                number: picture
                for number, picture in read_index(file, missing).picture_of.items()
                if isinstance(number, int) and isinstance(picture, int)
            }
    return found


@dataclass(frozen=True, slots=True)
class _CocoPicture:
    """A picture that is known by its COCO number."""

    image_id: int
    pictures: CocoPictures | None

    @property
    def key(self) -> str:
        return str(self.image_id)

    @property
    def name(self) -> str:
        return f"{self.image_id:012d}.jpg"

    def read(self) -> bytes:
        assert self.pictures is not None, "pictures without a folder are not read"
        path = self.pictures.find(self.image_id, "")
        if path is None:
            raise FileNotFoundError(f"not in {self.pictures.folder}")
        return path.read_bytes()


def _coco_pictures(places: Places) -> CocoPictures | None:
    """The folder of COCO's pictures; None if there is none and none was named."""
    if places.images is not None:
        if not places.images.is_dir():
            raise GensegError(f"{places.images}: no such folder", code=ExitCode.NOT_FOUND)
        return CocoPictures(places.images)
    folder = next((places.root / name for name in COCO_FOLDERS if (places.root / name).is_dir()), None)
    return CocoPictures(folder) if folder else None


# ---------------------------------------------------------------- recipes


def _recipe(name: str, places: Places) -> PictureSet:
    head, _, split = name.partition(":")
    if not head.endswith(".toml") and head not in names():
        head = _of_hub(head)
    whole = {"select.first": 0, "select.count": 0}
    recipe = resolve(head, split=split or None, purpose="eval", changes=whole)
    title = f"{recipe.name}:{recipe.split}"
    if isinstance(recipe.source, Refer):
        return _refer(title, recipe, recipe.source, places)
    if recipe.source.kind == "coco":
        raise GensegError(f"{title}: one's own data is audited prepared", hint="genseg prep coco …, then its folder")
    raw = read_raw(recipe, Inputs(places.root, places.images))
    drafts, notes, lost = _raw_drafts(title, raw.refs, recipe)
    return _gather(title, drafts, places, notes=notes, lost=lost)


def _of_hub(name: str) -> str:
    """The recipe of a set of the hub."""
    known = {source: recipe for recipe in names() if (source := getattr(resolve(recipe).source, "id", None))}
    if name in known:
        return known[name]
    others = known if "/" in name else names()
    raise unknown_name("set", name, others, hint="(folders and files are named by their paths, which must exist)")


def _refer(title: str, recipe: Recipe, source: Refer, places: Places) -> PictureSet:
    """A set of the RefCOCO family: its references alone say enough."""
    splits = read_references(places.root, folder=source.folder, by=source.by)
    if recipe.split not in splits:
        raise unknown_name(f"split of {recipe.name}", recipe.split, splits)
    pictures = _coco_pictures(places)
    refs = [
        replace(ref, picture=_CocoPicture(int(ref.provenance["image_id"]), pictures)) for ref in splits[recipe.split]
    ]
    drafts, notes, lost = _raw_drafts(title, refs, recipe)
    if pictures is None:
        drafts = [replace(draft, source=None) for draft in drafts]
    ids = {split: frozenset(int(ref.provenance["image_id"]) for ref in refs) for split, refs in splits.items()}
    return _gather(title, drafts, places, splits=ids, notes=notes, lost=lost)


_NOTHING_LOST = {"empty expression", "duplicate"}
"""Reasons for leaving a sample out that lose no picture."""


def _raw_drafts(title: str, refs: Sequence[RawRef], recipe: Recipe) -> tuple[list[_Draft], list[str], int]:
    """The samples that the recipe makes of raw references, notes on those it can make none of, and how many are lost."""
    works, skips = candidates(refs, recipe)
    reasons = Counter(skip.reason for skip in skips)
    drafts = []
    for work in works:
        ref, where = work.ref, work.ref.provenance
        name = str(where.get("file_name") or work.picture_name)
        image_id = where.get("image_id", coco_image_id(name))
        numbers = tuple(target.ann_id for target in ref.targets if target.ann_id is not None)
        drafts.append(
            _Draft(
                id=work.id,
                ref=ref.id,
                key=work.picture_key,
                query=ref.sentences[work.sentence].text,
                sentences=[sentence.text for sentence in ref.sentences],
                name=name,
                image_id=None if image_id is None else int(image_id),
                source=ref.picture,
                # The rows of hub sets are numbered; the sets' own ids come after that.
                ann_ids=annotation_ids(ref.id.partition("-")[2]) or numbers,
            )
        )
    notes = [f"{title}: {number} samples left out: {reason}" for reason, number in reasons.items()]
    return drafts, notes, sum(number for reason, number in reasons.items() if reason not in _NOTHING_LOST)


# ---------------------------------------------------------------- prepared sets, copies of the hub, folders


def _folder(path: Path, places: Places, *, evaluated: bool) -> PictureSet:
    shards = sorted(path.rglob("*.parquet"))
    if (path / CARD).is_file():
        shards = [path / shard["file"] for shard in read_card(path)["shards"]]
    if shards:
        return _parquet(path, shards, places, evaluated=evaluated)
    everything = sorted(path.rglob("*"))
    files = [file for file in everything if file.suffix.lower() in SUFFIXES]
    unread = Counter(suffix for file in everything if (suffix := file.suffix.lower()) in _UNREAD - set(SUFFIXES))
    notes = [f"{path}: {number:,} pictures left out: {suffix} is not read" for suffix, number in sorted(unread.items())]
    names = [(file, file.relative_to(path).as_posix()) for file in files]
    drafts = (
        _Draft(name, name, str(file), "", (), name, coco_image_id(name), PictureFile(file)) for file, name in names
    )
    return _gather(str(path), drafts, places, notes=notes, lost=unread.total())


_UNREAD = {".heic", ".heif", ".jxl", ".jp2", ".dng", ".nef", ".cr2", ".cr3", ".arw"}
"""Pictures that a model may have been trained on and that cannot be compared here, unless `images` reads them."""


def _parquet(path: Path, shards: Sequence[Path], places: Places, *, evaluated: bool) -> PictureSet:
    """A prepared set, or rows of the hub's form."""
    drafts: list[_Draft] = []
    notes = _splits_note(path, shards, evaluated=evaluated)
    for number, (cell, row) in enumerate(rows([str(shard) for shard in shards], _HEAVY)):
        drafts.append(
            _prepared_row(cell, row, evaluated=evaluated) if row.keys() >= _LIGHT else _hub_row(path, cell, row, number)
        )
    return _gather(str(path), drafts, places, notes=notes)


def _splits_note(path: Path, shards: Sequence[Path], *, evaluated: bool) -> list[str]:
    """What was trained on may be several splits; what is evaluated is one, as for `genseg eval`."""
    if evaluated and (path / CARD).is_file():
        return []
    found = sorted({split_of(str(shard), str(path)) or "files that name none" for shard in shards})
    if len(found) < 2:
        return []
    told = f"{path}: holds several splits: {', '.join(found)}"
    if evaluated:
        raise GensegError(told, hint="name the files of one of them")
    return [f"{told}; all of them are taken"]


_HEAVY = (*PICTURES, "mask", "targets", "ignore", "segmentation", "solution", "thinking", "think")
_LIGHT = COLUMNS.keys() - set(_HEAVY)


def _prepared_row(cell: Cell, row: Mapping[str, Any], *, evaluated: bool) -> _Draft:
    where = row["provenance"]
    name = where["file_name"] or row["id"]
    image_id = where["image_id"] if where["image_id"] is not None else coco_image_id(name)
    ref = where["ref_id"] if where["ref_id"] is not None else row["id"]
    key = f"{where['dataset']}:{where['file_name']}" if where["file_name"] else row["id"]
    picture = ParquetPicture(key, cell)
    numbers = tuple(n for part in row["id"].split("-") for n in annotation_ids(part))
    sentences = row["sentences"] if evaluated else (row["query"],)
    return _Draft(row["id"], str(ref), key, row["query"], sentences, name, image_id, picture, numbers)


_EXPRESSIONS = ("query", "problem", "text", "expression", "sentences", "answer")
_IDS = ("id", "question_id", "ann_id")


def _hub_row(path: Path, cell: Cell, row: Mapping[str, Any], number: int) -> _Draft:
    texts = next((row[column] for column in _EXPRESSIONS if row.get(column)), "")
    texts = [expression_text(str(text)) for text in (texts if isinstance(texts, list) else [texts])]
    own = next((str(row[column]) for column in _IDS if row.get(column) is not None), "")
    file_name = str(row.get("file_name") or "")
    image = row.get("image_id")
    number_of = coco_number(image)
    image_id = coco_image_id(file_name) if number_of is None else number_of
    key = f"{cell.file}:{image}" if image is not None else f"{cell.file}:{cell.group}:{cell.row}"
    ann_id = as_number(row.get("ann_id"))
    numbers = (ann_id,) if ann_id is not None else annotation_ids(own)
    # As `genseg eval PATH` names its samples.
    parts = (picture_stem(f"{path.stem}.parquet"), "all", f"{number:06d}", own, "0")
    id_ = "-".join(part for part in parts if part)
    picture = ParquetPicture(key, cell, picture_column(cell.file))
    return _Draft(id_, id_, key, texts[0], texts, own or id_, image_id, picture, numbers)


# ---------------------------------------------------------------- lists


def _file(path: Path, places: Places, *, evaluated: bool) -> PictureSet:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet(path, [path], places, evaluated=evaluated)
    notes = []
    drafts = []
    for row in _text_rows(path) if suffix not in READERS else read_rows(str(path)):
        draft = None if row.problem else _listed(row, path, places)
        if draft is None:
            notes.append(f"{row.place}: {row.problem or 'no picture is named'}")
        else:
            drafts.append(draft)
    lost = len(notes)
    if lost > _SHOWN:
        notes[_SHOWN:] = [f"{path}: {lost - _SHOWN} more lines that cannot be read"]
    return _gather(str(path), drafts, places, notes=notes, lost=lost)


_SHOWN = 5


def _text_rows(path: Path) -> Iterator[Row]:
    """One picture a line; empty lines and lines that begin with # are none."""
    lines = read_bytes(path).decode("utf-8-sig", "surrogateescape").split("\n")
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        yield Row(f"{path}:{number}", {"image": name}, "" if name.isprintable() else "not text")


def _listed(row: Row, path: Path, places: Places) -> _Draft | None:
    """A line of a list: a picture's file name, COCO number or VisionReasoner id; an expression and an id if it has them."""
    # In a table of text, blanks around a cell are none of its content.
    values = {key: value.strip() if isinstance(value, str) else value for key, value in row.values.items()}
    image, query = values.get("image"), values.get("query", "")
    if not isinstance(image, str | int | float) or isinstance(image, bool) or not isinstance(query, str) or image == "":
        return None
    name, image_id = str(image), coco_number(image)
    id_ = str(values.get("id", name))
    found = (folder / name for folder in ((places.images,) if places.images else (path.parent, places.root)))
    file = next((file for file in found if os.path.isfile(file)), None)  # noqa: PTH113 -- also false for absurd names
    source = PictureFile(file) if file else None
    return _Draft(id_, id_, name, query, (query,), name, image_id, source, annotation_ids(name))
