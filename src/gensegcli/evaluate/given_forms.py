"""The files in which other systems hand over predictions: JSONL, COCO results, a COCO data set, a folder of masks.

Every reader yields what stands in its file, one value for each sample; what that means for the sample is `given`'s.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from gensegcli.dialects.expressions import normalise_expression
from gensegcli.errors import GensegError
from gensegcli.files.text import decode, excerpt, json_type, read_json, read_jsonl, unreadable
from gensegcli.images import SUFFIXES
from gensegcli.predictions import from_json
from gensegcli.records import PixelBox
from gensegcli.sources.ids import coco_image_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gensegcli.evaluate.data import Place
    from gensegcli.records import Prediction

MASK_SUFFIXES = frozenset({".bmp", ".gif", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Endings of pictures that can be stored without loss; masks in others are left out, and that is told."""

_FORMS = "docs/eval.md describes the forms"
_HEAD = 1 << 12

_LINE_KEYS = {
    "masks": ("mask", "segmentation", "segmentations", "rle", "rles", "polygon", "polygons"),
    "boxes": ("box", "bbox", "bboxes"),
    "scores": ("score",),
    "no_target": ("abstain", "abstained", "empty", "no_object", "notarget"),
}
_ENTRY_KEYS = {
    "segmentation": ("mask", "masks", "polygon", "polygons", "rle", "segmentations"),
    "bbox": ("bboxes", "box", "boxes"),
    "score": ("scores",),
}
"""Keys that are read, each with what people write in its place."""


@dataclass(frozen=True, slots=True)
class Found:
    """A prediction as its file has it.

    Attributes:
        id: of the sample, if the set has it.
        place: where it stands.
        masks: files, or whatever COCO takes for a segmentation; None: boxes are all there is.
        boxes: one for each object, or none at all; None for a box that says nothing.
        scores: one for each object, or none at all.
        no_target: what the file says about it, if it does.
        whole: set where the file is one of ours.
    """

    id: str
    place: str
    masks: tuple[Any, ...] | None = ()
    boxes: tuple[PixelBox | None, ...] = ()
    scores: tuple[float | None, ...] = ()
    no_target: bool | None = None
    whole: Prediction | None = None


@dataclass
class LeftOut:
    """What the readers left out, counted."""

    cut: bool = False
    """The last line."""
    boxes: int = 0
    scores: int = 0
    files: list[str] = field(default_factory=list)
    folders: int = 0

    def notes(self) -> Iterator[str]:
        """One sentence each."""
        if self.cut:
            yield "the last line is cut off and was left out"
        if self.boxes:
            yield f"{self.boxes} boxes without area were left out"
        if self.scores:
            yield f"{self.scores} scores are no finite numbers and count as none"
        if self.files:
            yield (
                f"{len(self.files)} files of the folder are no masks in a format without loss and were left out "
                f"(the first: {self.files[0]})"
            )
        if self.folders:
            yield f"{self.folders} folders inside the folder were not looked into"


def read_found(path: Path, places: Mapping[str, Place], left_out: LeftOut) -> Iterator[Found]:
    """The predictions of a file or a folder of masks, as they come.

    Args:
        path: whatever the user names.
        places: every sample of the set by its id.
        left_out: is told what was left out.

    Raises:
        GensegError: not readable, or of no form that is known; one line that names file and place.
    """
    if path.is_dir():
        for name, file in masks_by_sample(path, places, left_out):
            yield Found(name, file.name, (file,))
        return
    start = _start(path)
    if start == "[":
        yield from _results(path, places, left_out)
    elif start != "{":
        raise GensegError(
            f"{path}: neither JSONL nor a list of COCO results", hint=f"{_FORMS}; masks in pictures go as a folder"
        )
    elif (whole := _data_set(path)) is not None:
        yield from _of_data_set(path, whole, places, left_out)
    else:
        yield from _lines(path, left_out)


def _start(path: Path) -> str:
    """The first character that is not blank."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        decode(head, str(path))
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1].decode("utf-8", "replace")


# ---------------------------------------------------------------- a folder of masks


def masks_by_sample(
    folder: Path, places: Mapping[str, Place], left_out: LeftOut | None = None
) -> Iterator[tuple[str, Path]]:
    """The masks of a folder by the sample that each is of: `<sample id>.png`, or as `genseg predict --save png` names it.

    Names of pictures are understood too, where every sample has its own.
    """
    by_digest = {hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]: name for name in places}
    stems = {name: PurePosixPath(place.file.replace("\\", "/")).stem for name, place in places.items() if place.file}
    alone = len(set(stems.values())) == len(places)
    by_picture = {stem: name for name, stem in stems.items()} if alone else {}
    for file in listed(folder, left_out):
        name = file.stem
        if name not in places:
            name = by_digest.get(name.rpartition("__")[2], by_picture.get(name, name))
        yield name, file


def listed(folder: Path, left_out: LeftOut | None = None) -> list[Path]:
    """The files of a folder that may be masks, by name; hidden files are nobody's predictions."""
    masks = []
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise unreadable(folder, error) from None
    for entry in entries:
        if entry.is_dir():
            if left_out is not None:
                left_out.folders += 1
        elif entry.suffix.lower() in MASK_SUFFIXES:
            masks.append(entry)
        elif left_out is not None:
            left_out.files.append(entry.name)
    if left_out is not None:  # pictures first: these are what somebody will miss
        left_out.files.sort(key=lambda name: (PurePosixPath(name).suffix.lower() not in SUFFIXES, name))
    return masks


# ---------------------------------------------------------------- JSONL


def _lines(path: Path, left_out: LeftOut) -> Iterator[Found]:
    """Predictions of genseg, or {id, masks or boxes, scores, no_target}."""
    damaged: GensegError | None = None
    for line in read_jsonl(path, unique=True):
        if damaged is not None:
            raise damaged
        if line.problem is not None:
            damaged = line.problem  # no matter, if it is the last one and cut off
        else:
            yield _from_line(line.value, line.place, left_out)
    if damaged is not None:
        if _ends_with_newline(path) or "not JSON" not in damaged.message:
            raise damaged
        left_out.cut = True


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, 2)
        return stream.read(1) == b"\n"


def _from_line(record: Any, place: str, left_out: LeftOut) -> Found:
    if not isinstance(record, dict) or not isinstance(record.get("id"), str):
        raise GensegError(f'{place}: expected an object with an "id" that is a text', hint=_FORMS)
    if "instances" in record:
        try:
            prediction = from_json(record)
        except GensegError as error:
            raise GensegError(f"{place}: {error.message}", hint=error.hint) from None
        return Found(prediction.id, place, whole=prediction)
    _check_keys(record, _LINE_KEYS, place)
    masks, boxes, scores, no_target = (record.get(name) for name in _LINE_KEYS)
    if masks is None and boxes is None and no_target is None:
        raise GensegError(f"{place}: no masks, no boxes, no no_target, found {', '.join(record)}", hint=_FORMS)
    for name, values in (("masks", masks), ("boxes", boxes), ("scores", scores)):
        if not isinstance(values, list | None):
            raise GensegError(f"{place}: {name} is {json_type(values)}, expected a list")
    if not isinstance(no_target, bool | None):
        raise GensegError(f"{place}: no_target is {excerpt(no_target)}, expected true or false")
    if no_target is False and masks is None and boxes is None:
        raise GensegError(
            f"{place}: no_target is false, and there are no masks and no boxes",
            hint='"masks": [] says that something is there and its mask is empty',
        )
    number = len(masks if masks is not None else boxes or ())
    if any(len(values) != number for values in (masks, boxes, scores) if values is not None):
        raise GensegError(f"{place}: masks, boxes and scores are of different length")
    shapes = [_from_corners(values, place, alone=masks is None) for values in boxes or ()]
    return _found(
        record["id"], place, masks if masks is not None or not boxes else None, shapes, scores, no_target, left_out
    )


def _found(
    name: str,
    place: str,
    masks: list[Any] | None,
    boxes: list[PixelBox | None],
    scores: list[Any] | None,
    no_target: bool | None,
    left_out: LeftOut,
) -> Found:
    """A prediction; boxes without area leave the mask alone, and are no objects where there is none."""
    left_out.boxes += boxes.count(None) if masks is None else 0
    numbers = [_score(value, place, left_out) for value in scores or ()]
    return Found(name, place, None if masks is None else tuple(masks or ()), tuple(boxes), tuple(numbers), no_target)


def _check_keys(record: Mapping[str, Any], known: Mapping[str, tuple[str, ...]], place: str) -> None:
    """Refuse a key that is meant to be a known one which is not there: absence would be read as an assertion."""
    absent = {spelling: key for key, others in known.items() if key not in record for spelling in (key, *others)}
    for key in record:
        if key in known or not absent:
            continue
        plain = key.lower().replace("-", "_").replace(" ", "_")
        near = [plain] if plain in absent else get_close_matches(plain, absent, n=1, cutoff=0.85)
        if near:
            raise GensegError(f"{place}: unknown key {key!r}", hint=f"did you mean {absent[near[0]]!r}? {_FORMS}")


# ---------------------------------------------------------------- COCO


class _Names:
    """Sample ids behind the `image_id` of COCO results: the id itself, or a number that stands for one sample only."""

    def __init__(self, places: Mapping[str, Place]) -> None:
        self._places = places
        self._by_number: dict[int, str] = {}
        for numbers in ([place.ref for place in places.values()], [place.image for place in places.values()]):
            if None not in numbers and len(set(numbers)) == len(places):
                self._by_number = {
                    number: name for number, name in zip(numbers, places, strict=True) if number is not None
                }
                break

    def of(self, value: Any) -> str:
        if isinstance(value, str) and value in self._places:
            return value
        number = _whole_number(value)
        return str(value) if number is None else self._by_number.get(number, str(number))


def _whole_number(value: Any) -> int | None:
    """785, 785.0 and "785" as a number: what table programs make of ids."""
    if isinstance(value, str):
        value = value.strip()
        return int(value) if value.isdecimal() and len(value) < 20 else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return int(value) if value == int(value) else None


def _results(path: Path, places: Mapping[str, Place], left_out: LeftOut) -> Iterator[Found]:
    """A list of {image_id, segmentation or bbox, score}: one entry an object, in any order."""
    entries = read_json(path, hint="was it cut off while it was written?", unique=True)
    names = _Names(places)
    by_sample: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not {"image_id", "sample_id"} & entry.keys():
            raise GensegError(f"{path}: entry {number} has no image_id", hint=_FORMS)
        by_sample[names.of(entry.get("sample_id", entry.get("image_id")))].append(entry)
    for name, objects in by_sample.items():
        yield _of_objects(name, objects, f"{path}: sample {name}", left_out)


def _of_objects(name: str, objects: list[dict[str, Any]], place: str, left_out: LeftOut) -> Found:
    for entry in objects:
        _check_keys(entry, _ENTRY_KEYS, place)
    shapes = [entry.get("segmentation") for entry in objects]
    if None in shapes and any(shape is not None for shape in shapes):
        raise GensegError(f"{place}: only some of its objects have a segmentation")
    boxes = [entry.get("bbox") for entry in objects]
    if None in shapes and None in boxes:
        raise GensegError(f"{place}: an entry has neither segmentation nor bbox, found {', '.join(objects[0])}")
    alone = None in shapes
    found = [_from_xywh(box, place, alone=alone) for box in boxes]
    return _found(
        name, place, None if alone else shapes, found, [entry.get("score") for entry in objects], None, left_out
    )


def _data_set(path: Path) -> dict[str, Any] | None:
    """The content of a file that is one JSON object with `annotations`; None for lines of objects."""
    first = next(iter(read_jsonl(path)))
    if isinstance(first.value, dict):
        lists = [first.value.get(name) for name in ("images", "annotations")]
        return first.value if all(isinstance(value, list) for value in lists) else None
    try:
        whole = read_json(path)
    except GensegError:  # not one value: the lines say what is wrong with them
        return None
    if isinstance(whole, dict) and all(isinstance(whole.get(name), list) for name in ("images", "annotations")):
        return whole
    raise GensegError(f"{path}: one object over several lines, expected one object a line", hint=_FORMS)


def _of_data_set(
    path: Path, whole: Mapping[str, Any], places: Mapping[str, Place], left_out: LeftOut
) -> Iterator[Found]:
    """`coco.json` as `genseg predict --save coco` writes it: a category for each expression.

    A sample is found by the prediction's id, or by picture and expression. `neg_category_ids` of a picture are the
    expressions of which the model said that nothing matches.
    """
    pictures = _by_id(path, whole, "images", "file_name")
    texts = _by_id(path, whole, "categories", "name")
    samples = _ByPicture(places)
    by_sample: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number, entry in enumerate(whole["annotations"]):
        place = f"{path}: annotation {number}"
        if not isinstance(entry, dict):
            raise GensegError(f"{place}: {json_type(entry)}, expected an object")
        picture, text = (
            _named(known, entry.get(key), f"{place}: {key}")
            for known, key in ((pictures, "image_id"), (texts, "category_id"))
        )
        own = entry.get("prediction_id")
        by_sample[own if isinstance(own, str) and own in places else samples.of(picture, text, path)].append(entry)
    for image in whole["images"]:
        absent = image.get("neg_category_ids") or []
        if not isinstance(absent, list):
            raise GensegError(
                f"{path}: neg_category_ids of image {image['id']}: a list expected, {json_type(absent)} found"
            )
        for category in absent:
            text = _named(texts, category, f"{path}: neg_category_ids of image {image['id']}")
            name = samples.of(image["file_name"], text, path)
            yield Found(name, f"{path}: neg_category_ids of {image['file_name']}", (), no_target=True)
    for name, objects in by_sample.items():
        yield _of_objects(name, objects, f"{path}: sample {name}", left_out)


def _by_id(path: Path, whole: Mapping[str, Any], kind: str, key: str) -> dict[Any, str]:
    entries = whole.get(kind)
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("id"), int | str) and isinstance(entry.get(key), str)
        for entry in entries
    ):
        raise GensegError(f"{path}: {kind} is no list of objects with id and {key}", hint=_FORMS)
    name, times = Counter(entry["id"] for entry in entries).most_common(1)[0] if entries else ("", 0)
    if times > 1:
        raise GensegError(f"{path}: {times} of the {kind} have the id {name!r}", hint="ids must be unique")
    return {entry["id"]: entry[key] for entry in entries}


def _named(known: Mapping[Any, str], value: Any, place: str) -> str:
    if not isinstance(value, int | str) or value not in known:
        raise GensegError(f"{place}: {excerpt(value)} is not in the file's list of them")
    return known[value]


class _ByPicture:
    """Samples by picture and expression."""

    def __init__(self, places: Mapping[str, Place]) -> None:
        self._by_file: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._by_number: dict[tuple[int, str], list[str]] = defaultdict(list)
        for name, place in places.items():
            if place.file:
                self._by_file[_base(place.file), place.query].append(name)
            if place.image is not None:
                self._by_number[place.image, place.query].append(name)

    def of(self, picture: str, text: str, path: Path) -> str:
        query, base = normalise_expression(text), _base(picture)
        number = coco_image_id(base)
        found = self._by_file.get((base, query)) or self._by_number.get((-1 if number is None else number, query)) or []
        if len(found) > 1:
            raise GensegError(
                f"{path}: {len(found)} samples of the set ask for {text!r} on {base} ({found[0]}, {found[1]})",
                hint="a COCO data set cannot tell them apart; give predictions.jsonl",
            )
        return found[0] if found else f"{base}: {text}"


def _base(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name


# ---------------------------------------------------------------- numbers


def _from_xywh(values: Any, place: str, *, alone: bool) -> PixelBox | None:
    """A box; None where it says nothing, as COCO's tools write it beside an empty mask."""
    numbers = _numbers(values, f"{place}: bbox") if alone else _finite(values)
    if numbers is None:
        return None
    x, y, width, height = numbers
    if alone and (width < 0 or height < 0):
        raise GensegError(f"{place}: bbox {values} has no area", hint="COCO's boxes are x, y, width, height in pixels")
    return PixelBox(x, y, x + width, y + height) if width > 0 and height > 0 else None


def _from_corners(values: Any, place: str, *, alone: bool) -> PixelBox | None:
    if values is None and not alone:
        return None
    box = PixelBox(*_numbers(values, f"{place}: a box"))
    if box.x1 > box.x2 or box.y1 > box.y2:
        raise GensegError(f"{place}: box {list(box)} has no area", hint="boxes are x1, y1, x2, y2 in pixels")
    return box if box.x1 < box.x2 and box.y1 < box.y2 else None


def _numbers(values: Any, what: str) -> list[float]:
    numbers = _finite(values)
    if numbers is None:
        raise GensegError(f"{what}: four numbers expected, {excerpt(values)} found")
    return numbers


def _finite(values: Any) -> list[float] | None:
    if not isinstance(values, list) or len(values) != 4:
        return None
    if not all(isinstance(v, int | float) and not isinstance(v, bool) and isfinite(v) for v in values):
        return None
    return [float(value) for value in values]


def _score(value: Any, place: str, left_out: LeftOut) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise GensegError(f"{place}: a score is {excerpt(value)}, expected a number")
    if not isfinite(value):
        left_out.scores += 1
        return None
    return float(value)
