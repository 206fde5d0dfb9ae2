"""COCO annotation files: the objects of a RefCOCO-style set, and one's own data with a file of expressions beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from gensegcli.errors import ExitCode, GensegError
from gensegcli.geometry.rle import decode, from_coco
from gensegcli.records import Rle, Size
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


@dataclass(frozen=True, slots=True)
class CocoMask:
    """A COCO `segmentation`, kept as JSON: a tenth of the memory of the lists of numbers it stands for."""

    segmentation: bytes

    def read(self, size: Size) -> np.ndarray:
        return decode(self.rle(size))

    def rle(self, size: Size) -> Rle:
        """The mask as run lengths; raises what `read` raises."""
        segmentation = orjson.loads(self.segmentation)
        if isinstance(segmentation, dict) and segmentation.get("size") not in (None, [size.height, size.width]):
            raise SizeMismatchError(f"mask of {segmentation['size']} (height, width), picture of {list(size)[::-1]}")
        return from_coco(segmentation, size)


class CocoPicture(NamedTuple):
    """A picture as `instances.json` knows it."""

    file_name: str
    size: Size | None


class CocoIndex(NamedTuple):
    """The pictures and the wanted objects of one annotation file."""

    pictures: Mapping[int, CocoPicture]
    objects: Mapping[int, RawTarget]
    picture_of: Mapping[int, int]
    """Annotation id → picture id."""


def read_index(path: Path, wanted: Collection[int] | None = None) -> CocoIndex:
    """The pictures of a COCO file and its annotations with the wanted ids (None: all).

    Raises:
        GensegError: the file is not there, not JSON, or not in COCO's form.
    """
    whole = load_json(path)
    try:
        pictures = {
            image["id"]: CocoPicture(
                str(image.get("file_name", "")),
                Size(image["width"], image["height"]) if image.get("width") and image.get("height") else None,
            )
            for image in whole["images"]
        }
        objects, picture_of = {}, {}
        for annotation in whole["annotations"]:
            number = annotation["id"]
            if wanted is None or number in wanted:
                if number in objects:
                    raise GensegError(
                        f"{path}: annotation {number} occurs twice", hint="number the annotations of merged files anew"
                    )
                mask, category = CocoMask(orjson.dumps(annotation.get("segmentation"))), annotation.get("category_id")
                category = category if isinstance(category, int) else None  # some tools write names
                objects[number] = RawTarget(mask, ann_id=number, category_id=category)
                picture_of[number] = annotation["image_id"]
    except (KeyError, TypeError, AttributeError) as error:
        raise GensegError(
            f"{path}: not in COCO's form ({error!r})",
            hint="an object with lists `images` (id, file_name, width, height) and `annotations` "
            "(id, image_id, category_id, segmentation) is expected",
        ) from None
    return CocoIndex(pictures, objects, picture_of)


def load_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        GensegError: it is not there, cannot be read, or is not JSON.
    """
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        raise GensegError(f"{path}: cannot be read ({error.strerror})", code=ExitCode.NOT_FOUND) from error
    except orjson.JSONDecodeError as error:
        raise GensegError(f"{path}: not JSON ({error})", hint="get the file again") from error


def join(index: CocoIndex, path: Path, image_id: int, ann_ids: Sequence[int]) -> tuple[RawTarget, ...] | Problem:
    """The objects of a reference, or what is wrong with its annotation ids."""
    for number in ann_ids:
        if number not in index.objects:
            return Problem("dangling annotation", f"annotation {number}, which {path.name} does not have")
        if index.picture_of[number] != image_id:
            detail = f"annotation {number} of picture {index.picture_of[number]}, the reference is on {image_id}"
            return Problem("dangling annotation", detail)
    return tuple(index.objects[number] for number in ann_ids)


# ---------------------------------------------------------------- one's own data


def read_own(annotations: Path, images: Path, expressions: Path) -> RawSet:
    """Pictures and objects in COCO's form, and a JSONL file of expressions.

    A line of expressions is `{"expression": …, "image_id": … or "file_name": …, "ann_ids": […]}`; no ids mean that
    nothing in the picture matches. `expressions` (a list) in place of `expression` gives several for the same objects.
    An optional `id` names the reference; without one it is the line's number.

    Raises:
        GensegError: a file is not there or not in its form (with file and line), or leads outside the picture folder.
    """
    lines = list(_lines(expressions))
    index = read_index(annotations)
    by_name = {picture.file_name: number for number, picture in index.pictures.items()}
    refs = [_own_ref(line, number, index, by_name, annotations, images, expressions) for number, line in lines]
    shown = {ref.provenance["image_id"] for ref in refs}
    return RawSet(refs, Counts.of(refs, len(shown)), (annotations, expressions))


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        text = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise GensegError(f"{path}: cannot be read ({error.strerror})", code=ExitCode.NOT_FOUND) from error
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise GensegError(f"{path}:{number}: not JSON ({error})", hint="one JSON object a line") from error
        if not isinstance(value, dict):
            raise GensegError(f"{path}:{number}: an object expected, {type(value).__name__} found")
        yield number, value


def _own_ref(
    line: Mapping[str, Any],
    number: int,
    index: CocoIndex,
    by_name: Mapping[str, int],
    annotations: Path,
    images: Path,
    expressions: Path,
) -> RawRef:
    place = f"{expressions}:{number}"
    texts = line.get("expressions", [line["expression"]] if "expression" in line else None)
    ann_ids = line.get("ann_ids", [])
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise GensegError(f"{place}: `expression` (text) or `expressions` (list of texts) is missing")
    if not isinstance(ann_ids, list) or not all(isinstance(value, int) for value in ann_ids):
        raise GensegError(f"{place}: `ann_ids` is a list of annotation ids, {ann_ids!r} found")
    image_id = line.get("image_id", by_name.get(str(line.get("file_name"))))
    if not isinstance(image_id, int) or image_id not in index.pictures:
        wanted = line.get("image_id", line.get("file_name"))
        raise GensegError(
            f"{place}: picture {wanted!r} is not in {annotations.name}",
            hint="name it by `image_id` or `file_name`, as in the `images` list",
        )
    picture = index.pictures[image_id]
    found = join(index, annotations, image_id, list(dict.fromkeys(ann_ids)))
    path = inside(images, picture.file_name)
    problem = found if isinstance(found, Problem) else None
    if problem is None and not path.is_file():
        problem = Problem("picture missing", str(path))
    return RawRef(
        id=str(line.get("id", number)),
        picture=None if problem else PictureFile(path),
        sentences=tuple(Sentence(text) for text in texts),
        targets=() if isinstance(found, Problem) else found,
        annotated_size=picture.size,
        provenance={"image_id": image_id, "file_name": picture.file_name},
        problem=problem,
    )


def inside(folder: Path, name: str) -> Path:
    """A file of a folder by the name that a data set gives; names that lead out of the folder are refused.

    Raises:
        GensegError: the name is absolute or climbs out.
    """
    relative = PurePosixPath(name.replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts or not relative.parts or ":" in relative.parts[0]:
        hint = "the annotation file is not to be trusted"
        raise GensegError(f"{name!r}: not the name of a file inside {folder}", hint=hint)
    return folder.joinpath(*relative.parts)
