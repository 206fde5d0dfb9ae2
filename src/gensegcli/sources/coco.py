"""COCO annotation files: the objects of a RefCOCO-style set, and one's own data with a file of expressions beside it."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

import orjson

from gensegcli.errors import GensegError, suggestion
from gensegcli.files.text import excerpt, json_type, read_json_object, read_objects
from gensegcli.geometry.rle import decode, from_coco
from gensegcli.records import Rle, Size
from gensegcli.sources.ids import Id, as_id, as_length, as_number, unknown_id
from gensegcli.sources.raw import (
    Counts,
    PictureFile,
    Problem,
    RawRef,
    RawSet,
    RawTarget,
    Sentence,
    SizeMismatchError,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    import numpy as np

_LEAST = 6
"""Numbers of the smallest polygon: three corners."""


@dataclass(frozen=True, slots=True)
class CocoMask:
    """A COCO `segmentation`, kept as JSON: a tenth of the memory of the lists of numbers it stands for."""

    segmentation: bytes
    degenerate: int = 0
    """How many polygons were left out because they have no three corners, beside others that have."""

    @classmethod
    def of(cls, segmentation: Any) -> CocoMask:
        """The mask of a `segmentation` as a file has it, without its degenerate polygons."""
        sound = _sound_parts(segmentation)
        return cls(orjson.dumps(sound), len(segmentation) - len(sound) if isinstance(segmentation, list) else 0)

    def read(self, size: Size) -> np.ndarray:
        return decode(self.rle(size))

    def rle(self, size: Size) -> Rle:
        """The mask as run lengths; raises what `read` raises."""
        segmentation = orjson.loads(self.segmentation)
        if isinstance(segmentation, dict) and segmentation.get("size") not in (None, [size.height, size.width]):
            raise SizeMismatchError(f"mask of {segmentation['size']} (height, width), picture of {list(size)[::-1]}")
        return from_coco(segmentation, size)


def _sound_parts(segmentation: Any) -> Any:
    """Without the polygons that have no three corners, unless none has: that is then damage, and no part of it.

    The rule of detectron2, which much of what is published was trained with.
    """
    if not isinstance(segmentation, list) or not all(isinstance(part, list) for part in segmentation):
        return segmentation
    sound = [part for part in segmentation if len(part) >= _LEAST and len(part) % 2 == 0]
    return sound or segmentation


class CocoPicture(NamedTuple):
    """A picture as `instances.json` knows it."""

    file_name: str
    """As it stands there, with whatever folders; the last part of `coco_url` where there is no name; else empty."""
    size: Size | None
    problem: Problem | None = None
    """What is wrong with its entry."""


class CocoIndex(NamedTuple):
    """The pictures and the wanted objects of one annotation file."""

    pictures: Mapping[Id, CocoPicture]
    objects: Mapping[Id, RawTarget]
    """Those without a segmentation have no mask."""
    picture_of: Mapping[Id, Id | None]
    """Annotation id → picture id."""


def read_index(path: Path, wanted: Collection[Id] | None = None) -> CocoIndex:
    """The pictures of a COCO file and its annotations with the wanted ids (None: all).

    Raises:
        GensegError: the file is not there, not JSON, or not in COCO's form; two pictures, or two wanted annotations,
            have one id.
    """
    whole = read_json_object(path, hint="get the file again")
    pictures: dict[Id, CocoPicture] = {}
    for place, image in _entries(whole, "images", path):
        number, picture = _id_of(image, place, path), _picture(image)
        if pictures.setdefault(number, picture) != picture:
            raise GensegError(
                f"{path}: two pictures have the id {number}: {_told(pictures[number])} and {_told(picture)}",
                hint="number the pictures of merged files anew, and the image_id of their annotations with them",
            )
    objects: dict[Id, RawTarget] = {}
    picture_of: dict[Id, Id | None] = {}
    for place, annotation in _entries(whole, "annotations", path):
        number = _id_of(annotation, place, path)
        if wanted is not None and number not in wanted:
            continue
        if number in objects:
            raise GensegError(
                f"{path}: annotation {number} occurs twice", hint="number the annotations of merged files anew"
            )
        segmentation = annotation.get("segmentation")
        objects[number] = RawTarget(
            CocoMask.of(segmentation) if segmentation not in (None, [], "") else None,
            ann_id=as_number(number),
            category_id=as_number(annotation.get("category_id")),  # some tools write names
        )
        picture_of[number] = as_id(annotation.get("image_id"))
    return CocoIndex(pictures, objects, picture_of)


def _entries(whole: Mapping[str, Any], key: str, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of a list, each with its place."""
    found = whole.get(key)
    if not isinstance(found, list):
        raise _not_coco(path, f"no list `{key}`")
    for number, entry in enumerate(found):
        place = f"{key}[{number}]"
        if not isinstance(entry, dict):
            raise _not_coco(path, f"{place} must be an object, {json_type(entry)} found")
        yield place, entry


def _id_of(entry: Mapping[str, Any], place: str, path: Path) -> Id:
    number = as_id(entry.get("id"))
    if number is None:
        raise _not_coco(path, unknown_id(f"{place}.id", entry.get("id")))
    return number


def _not_coco(path: Path, what: str) -> GensegError:
    return GensegError(
        f"{path}: not in COCO's form: {what}",
        hint="an object with lists `images` (id, file_name, width, height) and `annotations` "
        "(id, image_id, category_id, segmentation) is expected",
    )


def _picture(image: Mapping[str, Any]) -> CocoPicture:
    name = next((found for key in ("file_name", "coco_url") if isinstance(found := image.get(key), str) and found), "")
    told = {side: image.get(side) or None for side in ("width", "height")}  # some tools write 0 for "unknown"
    width, height = (as_length(value) for value in told.values())
    wrong = [f"{side} {excerpt(value)}" for side, value in told.items() if value is not None and not as_length(value)]
    problem = Problem("annotation damaged", f"a picture of {' and '.join(wrong)}") if wrong else None
    return CocoPicture(name, Size(width, height) if width and height else None, problem)


def _told(picture: CocoPicture) -> str:
    size = f" ({picture.size.width}x{picture.size.height})" if picture.size else ""
    return f"{picture.file_name!r}{size}"


def join(index: CocoIndex, path: Path, image_id: Id, ann_ids: Sequence[Id]) -> tuple[RawTarget, ...] | Problem:
    """The objects of a reference, or what is wrong with its annotation ids."""
    for number in ann_ids:
        if number not in index.objects:
            return Problem("dangling annotation", f"annotation {number}, which {path.name} does not have")
        if index.picture_of[number] != image_id:
            detail = f"annotation {number} of picture {index.picture_of[number]}, the reference is on {image_id}"
            return Problem("dangling annotation", detail)
        if index.objects[number].mask is None:
            return Problem("annotation missing", f"annotation {number} has no segmentation")
    return tuple(index.objects[number] for number in ann_ids)


# ---------------------------------------------------------------- one's own data

_KEYS = ("expression", "expressions", "image_id", "file_name", "ann_ids", "no_target", "id", "split")
_SLIPS = {
    **dict.fromkeys(("anns", "annotation", "annotations", "annotation_id", "annotation_ids"), "ann_ids"),
    **dict.fromkeys(("no_object", "no_objects", "empty", "negative"), "no_target"),
    **dict.fromkeys(("sentence", "sent", "caption", "phrase", "query", "text"), "expression"),
    **dict.fromkeys(("sentences", "captions", "phrases", "queries", "texts"), "expressions"),
    **dict.fromkeys(("image", "image_name", "file", "path"), "file_name"),
    **dict.fromkeys(("img_id", "picture_id"), "image_id"),
}
"""What other files call the same thing."""
_EITHER = (("expression", "expressions"), ("image_id", "file_name"))
"""Keys of which one is enough."""


def read_own(annotations: Path, images: Path, expressions: Path, *, split: str = "train") -> RawSet:
    """Pictures and objects in COCO's form, and a JSONL file of expressions.

    A line of expressions is `{"expression": …, "image_id": … or "file_name": …, "ann_ids": […]}`. `"ann_ids": []` or
    `"no_target": true` say that nothing in the picture matches; a line that says neither which objects are meant nor
    this is an error. `expressions` (a list) in place of `expression` gives several for the same objects. An optional
    `id` names the reference; without one it is the line's number. Where lines have a `split`, those of the wanted one
    are taken.

    Raises:
        GensegError: a file is not there or not in its form (with file and line); no line is of that split.
    """
    lines = _of_split(list(read_objects(expressions, unique=True)), split, expressions)
    own = _Own(read_index(annotations), annotations, images)
    refs = [own.ref(line, place) for place, line in lines]
    shown = {own.picture_id(line, place) for place, line in lines}
    return RawSet(refs, Counts.of(refs, len(shown)), (annotations, expressions), notes=own.notes(refs))


def _of_split(lines: list[tuple[str, dict[str, Any]]], split: str, path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The lines of a split, where lines have one; else all."""
    told = {line["split"] for _, line in lines if isinstance(line.get("split"), str)}
    if not told:
        return lines
    for place, line in lines:
        if not isinstance(line.get("split"), str):
            raise GensegError(f"{place}: no `split` (text), which other lines have")
    chosen = [(place, line) for place, line in lines if line["split"] == split]
    if not chosen:
        raise GensegError(f"{path}: no line of split {split!r}", hint=suggestion(split, told))
    return chosen


class _Own:
    """The annotations of one's own data, and what lines of expressions mean by them."""

    def __init__(self, index: CocoIndex, annotations: Path, images: Path) -> None:
        self._index, self._annotations, self._images = index, annotations, images
        self._by_name: dict[str, list[Id]] = defaultdict(list)
        self._by_last: dict[str, list[Id]] = defaultdict(list)
        for number, picture in index.pictures.items():
            self._by_name[_same_name(picture.file_name)].append(number)
            self._by_last[_last(picture.file_name)].append(number)

    def ref(self, line: Mapping[str, Any], place: str) -> RawRef:
        """The reference that a line describes.

        Raises:
            GensegError: the line is not in its form, or names no picture of the annotations.
        """
        _refuse_slips(line, place)
        texts, image_id, ann_ids = _texts(line, place), self.picture_id(line, place), _ann_ids(line, place)
        picture, path = self._index.pictures[image_id], self._file(image_id)
        objects = join(self._index, self._annotations, image_id, ann_ids)
        found = (_contradiction(line, ann_ids), objects, picture.problem, path)
        problem = next((value for value in found if isinstance(value, Problem)), None)
        number, name = as_number(image_id), self._stored_name(picture, path)
        return RawRef(
            id=_own_id(line, place),
            picture=None if problem or isinstance(path, Problem) else PictureFile(path),
            sentences=tuple(Sentence(text) for text in texts),
            targets=() if isinstance(objects, Problem) else objects,
            annotated_size=picture.size,
            provenance={**({"image_id": number} if number is not None else {}), "file_name": name},
            problem=problem,
        )

    def picture_id(self, line: Mapping[str, Any], place: str) -> Id:
        """The id of the picture that a line names by id, by file name, or by both.

        Raises:
            GensegError: there is no such picture, there are several, or id and name mean two.
        """
        told, name = line.get("image_id"), line.get("file_name")
        if name is not None and not isinstance(name, str):
            raise GensegError(f"{place}: `file_name` must be a text, {json_type(name)} found")
        named = self._by_name.get(_same_name(name), []) if name is not None else []
        if told is None:
            if len(named) > 1:
                some = " and ".join(map(str, named[:3]))
                raise GensegError(
                    f"{place}: {name!r} is the file of several pictures ({some})", hint="name it by `image_id`"
                )
            found = named[0] if named else None
        else:
            found = as_id(told)
            if found is None:
                raise GensegError(f"{place}: {unknown_id('`image_id`', told)}")
        if told is None and name is None:
            raise GensegError(f"{place}: `image_id` or `file_name` is missing")
        if found is None or found not in self._index.pictures:
            wanted = told if told is not None else name
            raise GensegError(
                f"{place}: picture {wanted!r} is not in {self._annotations.name}",
                hint="name it by `image_id` or `file_name`, as in the `images` list",
            )
        if name is not None and found not in named:
            other = self._index.pictures[found].file_name
            raise GensegError(
                f"{place}: picture {found} is {other!r}, not {name!r}", hint="leave `image_id` or `file_name` away"
            )
        return found

    def notes(self, refs: Sequence[RawRef]) -> tuple[str, ...]:
        """What of the annotations a prepared set does not hold."""
        shown = {id(target): target for ref in refs for target in ref.targets}
        lost = sum(target.ann_id is None for target in shown.values())
        return (f"annotation ids that are no numbers of 63 bits and are not stored: {lost:,}",) if lost else ()

    def _file(self, image_id: Id) -> Path | Problem:
        """The file of a picture, or why there is none."""
        name = self._index.pictures[image_id].file_name
        if not name:
            return Problem("picture missing", f"picture {image_id} has no file_name in {self._annotations.name}")
        path = find_picture(self._images, name)
        if path is None:
            return Problem("picture missing", f"{name!r} is not in {self._images}")
        if not is_inside(name):  # found by a part of its name: the same part of another name means another picture
            for other in self._by_last[_last(name)]:
                if other != image_id and find_picture(self._images, self._index.pictures[other].file_name) == path:
                    detail = (
                        f"{name!r} of picture {image_id} and the file of picture {other} are both called {path.name}"
                    )
                    return Problem("picture missing", detail)
        return path

    def _stored_name(self, picture: CocoPicture, path: Path | Problem) -> str:
        if is_inside(picture.file_name) or isinstance(path, Problem):
            return picture.file_name
        return path.relative_to(self._images).as_posix()


def _refuse_slips(line: Mapping[str, Any], place: str) -> None:
    """Refuse keys that are nearly a known one: whoever writes `ann_id` means `ann_ids`, and not "nothing matches"."""
    for key in sorted(line.keys() - set(_KEYS)):
        meant = _meant(key, line)
        if meant is not None:
            raise GensegError(
                f"{place}: unknown key `{key}`", hint=f"did you mean `{meant}`? docs/data.md has the form of a line"
            )


def _meant(key: str, line: Mapping[str, Any]) -> str | None:
    """The known key that an unknown one stands for; None for what people note down beside."""
    plain = key.strip().lower().replace("-", "_").replace(" ", "_")
    near = get_close_matches(plain, [known for known in _KEYS if len(known) > 2], n=1, cutoff=0.8)
    if plain in _KEYS:
        return plain
    if near and abs(len(near[0]) - len(plain)) <= 2:  # `expression_id` is a key of its own
        return near[0]
    other = _SLIPS.get(plain)
    enough = next((keys for keys in _EITHER if other in keys), ())
    return None if any(line.get(name) is not None for name in enough) else other


def _texts(line: Mapping[str, Any], place: str) -> list[str]:
    one, several = line.get("expression"), line.get("expressions")
    if one is not None and several is not None:
        raise GensegError(f"{place}: both `expression` and `expressions`", hint="write all of them as `expressions`")
    texts = [one] if one is not None else several
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise GensegError(f"{place}: `expression` (text) or `expressions` (list of texts) is missing")
    return texts


def _ann_ids(line: Mapping[str, Any], place: str) -> list[Id]:
    """The objects that a line means, each once; none where it says that nothing matches.

    Raises:
        GensegError: it does not say.
    """
    found, declared = line.get("ann_ids"), line.get("no_target")
    if declared is not None and not isinstance(declared, bool):
        raise GensegError(f"{place}: `no_target` must be true or false, {excerpt(declared)} found")
    if found is None:
        if declared is True:
            return []
        raise GensegError(
            f"{place}: `ann_ids` is missing, so that nobody knows which objects are meant (keys: {', '.join(line)})",
            hint='a list of annotation ids; `"ann_ids": []` or `"no_target": true` says that nothing matches',
        )
    if not isinstance(found, list):
        raise GensegError(f"{place}: `ann_ids` is a list of annotation ids, {excerpt(found)} found")
    ids = [as_id(value) for value in found]
    for value, number in zip(found, ids, strict=True):
        if number is None:
            raise GensegError(f"{place}: {unknown_id('an annotation id', value)}")
    return list(dict.fromkeys(number for number in ids if number is not None))


def _contradiction(line: Mapping[str, Any], ann_ids: Sequence[Id]) -> Problem | None:
    declared = line.get("no_target")
    if declared is None or declared != bool(ann_ids):
        return None
    return Problem("contradiction", f"no_target is {str(declared).lower()}, annotation ids are {list(ann_ids)}")


def _own_id(line: Mapping[str, Any], place: str) -> str:
    told = line.get("id")
    number = as_id(told)
    if told is not None and number is None:
        raise GensegError(f"{place}: {unknown_id('`id`', told)}")
    return place.rpartition(":")[2] if number is None else str(number)


# ---------------------------------------------------------------- names of files


_DRIVE = re.compile(r"[A-Za-z]:")
"""Of Windows: `C:`."""


def inside(folder: Path, name: str) -> Path:
    """A file of a folder by the name that a data set gives; names that lead out of the folder are refused.

    Raises:
        GensegError: the name is absolute or climbs out.
    """
    if not is_inside(name):
        hint = "the annotation file is not to be trusted"
        raise GensegError(f"{name!r}: not the name of a file inside {folder}", hint=hint)
    return folder.joinpath(*_parts(name))


def is_inside(name: str) -> bool:
    """Whether a name, joined to a folder, stays inside it."""
    relative = PurePosixPath(name.replace("\\", "/"))
    leads_out = relative.is_absolute() or ".." in relative.parts or "://" in name
    return bool(relative.parts) and not leads_out and not _DRIVE.match(relative.parts[0])


def find_picture(folder: Path, name: str) -> Path | None:
    """The file of a folder that a data set means by a name, None if there is none.

    Names that lead out of the folder (absolute, with `..`, addresses) mean what their end means inside: the longest end
    that is there. Characters may be composed on disk and decomposed in the name, or the other way round.
    """
    parts = _parts(name)
    for first in range(len(parts)) if not is_inside(name) else (0,):
        tail = "/".join(parts[first:])
        for spelling in dict.fromkeys((tail, *(unicodedata.normalize(form, tail) for form in ("NFC", "NFD")))):
            path = folder.joinpath(spelling)
            # Also false for names that no file can have: too long, or with a NUL.
            if spelling and os.path.isfile(path):  # noqa: PTH113
                return path
    return None


def _parts(name: str) -> tuple[str, ...]:
    """The parts of a name behind everything that leads out of a folder."""
    if "://" in name:
        name = unquote(_address_path(name))
    parts = PurePosixPath(name.replace("\\", "/")).parts
    out = [place for place, part in enumerate(parts) if part in ("/", "//", "..") or (not place and _DRIVE.match(part))]
    return parts[max(out, default=-1) + 1 :]


def _address_path(address: str) -> str:
    try:
        return urlsplit(address).path
    except ValueError:  # brackets that are no IPv6 address
        return address.partition("://")[2]


def _last(name: str) -> str:
    """What two names have in common that may mean one file."""
    return unicodedata.normalize("NFC", (_parts(name) or ("",))[-1])


def _same_name(name: str) -> str:
    """Equal for spellings of one name."""
    return unicodedata.normalize("NFC", name.replace("\\", "/")).removeprefix("./")
