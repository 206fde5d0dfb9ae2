"""ReasonSeg in LISA's layout: a picture and a JSON file of shapes beside it, as labelme writes them."""

from __future__ import annotations

import codecs
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from gensegcli.errors import ExitCode, GensegError
from gensegcli.files.text import decode, excerpt, json_type, parse_json_object, read_bytes
from gensegcli.geometry.masks import cut
from gensegcli.records import Size
from gensegcli.sources.labelme import Shape, misspelt, read_shape, shape_pixels
from gensegcli.sources.places import first_folder
from gensegcli.sources.raw import Counts, PictureFile, Problem, RawRef, RawSet, RawTarget, Sentence

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FOREGROUND, IGNORED = 1, 255

_PICTURES = (".jpg", ".jpeg", ".png")
_KNOWN = ("target", "ignore", "flag")


@dataclass(frozen=True, slots=True)
class ShapeStack:
    """All shapes of a picture, of which one value (foreground or ignored) is the mask.

    They are painted in turn, larger before smaller, and what is painted later covers what was painted earlier: so a
    small ignored patch cuts a hole into the object, and neither mask can be read without the other's shapes.
    """

    shapes: bytes
    """JSON list of [shape, value]."""
    value: int

    def read(self, size: Size) -> np.ndarray:
        return paint([(Shape(*shape), value) for shape, value in orjson.loads(self.shapes)], size) == self.value


def paint(shapes: list[tuple[Shape, int]], size: Size) -> np.ndarray:
    """Shapes as uint8 values (h w), polygons as LISA's reader paints them, pixel for pixel.

    Corners are cut to whole numbers, the polygon is filled, and its outline is drawn one pixel wide, all of it by the
    rule of the OpenCV that LISA pins (4.8), whichever is installed.

    Raises:
        GensegError: the cut-out of a mask is damaged.
    """
    layers = [(patch, value) for shape, value in shapes if (patch := cut(shape_pixels(shape, size)))]
    layers.sort(key=lambda layer: int(layer[0].pixels.sum()))
    painted = np.zeros((size.height, size.width), np.uint8)
    for patch, value in reversed(layers):  # of equals the later one first, as in LISA's reversed argsort
        height, width = patch.pixels.shape
        painted[patch.top : patch.top + height, patch.left : patch.left + width][patch.pixels] = value
    return painted


def read_reasonseg(root: Path, *, split: str) -> RawSet:
    """One split of ReasonSeg, by file name. The explanations of the training split are not needed here.

    Args:
        root: the folder above `ReasonSeg`.
        split: train, val or test.

    Raises:
        GensegError: no such folder or split.
    """
    hint = "get ReasonSeg from github.com/dvlab-research/LISA and unpack it there"
    names = [f"{above}ReasonSeg/{split}" for above in ("", "reason_seg/", "reasonseg/")]
    folder = first_folder(root, names, what=f"ReasonSeg {split}", hint=hint)
    everything = list(folder.iterdir())
    stems = {path.stem for path in everything if path.suffix.lower() in _PICTURES or path.suffix == ".json"}
    if not stems:
        raise GensegError(f"{folder}: holds no pictures", hint=hint, code=ExitCode.NOT_FOUND)
    files = sorted(path for path in everything if path.suffix == ".json")
    pictures = {(path.stem, path.suffix.lower()): path for path in sorted(everything, reverse=True)}
    labels: Counter[str] = Counter()
    refs = [_ref(folder / f"{stem}.json", pictures, labels) for stem in sorted(stems)]
    counts = Counts.of(refs, len(refs))
    return RawSet(refs, counts, tuple(files), {split: counts}, _notes(labels))


def _notes(labels: Counter[str]) -> tuple[str, ...]:
    """Labels that nobody may have meant as the object."""
    other = [(label, number) for label, number in labels.most_common() if label not in _KNOWN]
    if not other:
        return ()
    some = ", ".join(f"{excerpt(label)} {number}" for label, number in other[:5])
    return (f"labels other than {', '.join(_KNOWN)} count as the object, as in LISA: {some}",)


def _ref(path: Path, pictures: Mapping[tuple[str, str], Path], labels: Counter[str]) -> RawRef:
    picture = next((pictures[path.stem, end] for end in _PICTURES if (path.stem, end) in pictures), None)
    if not path.is_file():
        return _unusable(path, Problem("annotation missing", f"no {path.name} beside the picture"))
    try:
        content = read_json(path)
        texts, shapes = _texts(content), _shapes(content, labels)
    except GensegError as error:
        return _unusable(path, Problem("annotation damaged", f"{path.name}: {error.message}"))
    problem = None
    if picture is None:
        problem = Problem("picture missing", f"no picture beside {path}")
    elif not any(value == FOREGROUND for _, value in shapes):
        problem = Problem("no object", f"{path.name}: no shape that is neither flag nor ignored")
    stack = ShapeStack(orjson.dumps([(list(shape), value) for shape, value in shapes]), FOREGROUND)
    ignored = any(value == IGNORED for _, value in shapes)
    return RawRef(
        id=path.stem,
        picture=PictureFile(picture) if picture else None,
        sentences=tuple(Sentence(text, number) for number, text in enumerate(texts)),
        targets=(RawTarget(stack),),
        ignore=replace(stack, value=IGNORED) if ignored else None,
        annotated_size=_size(content),
        frame="upright",  # labelme shows pictures upright, and LISA's reader opens them so
        provenance={
            "dataset": "reasonseg",
            "kind": "sentence" if content.get("is_sentence") else "phrase",
            **({"file_name": picture.name} if picture else {}),
        },
        problem=problem,
    )


def _unusable(path: Path, problem: Problem) -> RawRef:
    return RawRef(path.stem, None, (Sentence("", 0),), (), provenance={"dataset": "reasonseg"}, problem=problem)


def read_json(path: Path) -> Mapping[str, Any]:
    """A JSON object in UTF-8 or, as some of ReasonSeg are, in Windows' cp1252.

    Raises:
        GensegError: it cannot be read, is in neither encoding, or is no JSON object.
    """
    data = read_bytes(path)
    return parse_json_object(_text(data, path.name), path.name, unique=True)


def _text(data: bytes, name: str) -> str:
    try:
        return decode(data, name)
    except GensegError:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError as error:
        byte, line = data[error.start], data.count(b"\n", 0, error.start) + 1
        raise GensegError(
            f"{name}: neither UTF-8 nor cp1252 (byte 0x{byte:02x} in line {line})", hint="save it again as UTF-8"
        ) from None


def _texts(content: Mapping[str, Any]) -> list[str]:
    texts = content.get("text")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise GensegError(f"`text` is a list of expressions, {excerpt(texts)} found")
    return texts


def _size(content: Mapping[str, Any]) -> Size | None:
    """The size of the picture by labelme, which ReasonSeg's own files do not say."""
    width, height = content.get("imageWidth"), content.get("imageHeight")
    known = isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0
    return Size(width, height) if known else None


def _shapes(content: Mapping[str, Any], labels: Counter[str]) -> list[tuple[Shape, int]]:
    """The shapes with their values, by label: `flag` marks a doubtful picture, not an object."""
    shapes = content.get("shapes")
    if not isinstance(shapes, list):
        raise GensegError(f"`shapes` is a list, {json_type(shapes)} found")
    found = []
    for number, value in enumerate(shapes, start=1):
        label = _label(value, number)
        labels["ignore" if "ignore" in label else label] += 1
        if label == "flag":
            continue
        try:
            found.append((read_shape(value), IGNORED if "ignore" in label else FOREGROUND))
        except GensegError as error:
            raise GensegError(f"shape {number}: {error.message}", hint=error.hint) from None
    return found


def _label(value: Any, number: int) -> str:
    label = value.get("label") if isinstance(value, dict) else None
    if not isinstance(label, str):
        raise GensegError(f"shape {number}: `label` is a text, {json_type(label)} found")
    if misspelt(label):
        raise GensegError(f"shape {number}: label {label!r}, was {misspelt(label)!r} meant?")
    return label.lower()
