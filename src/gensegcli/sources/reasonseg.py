"""ReasonSeg in LISA's layout: a picture and a JSON file of polygons beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import orjson

from gensegcli.errors import ExitCode, GensegError
from gensegcli.sources.places import first_folder
from gensegcli.sources.raw import Counts, PictureFile, Problem, RawRef, RawSet, RawTarget, Sentence

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gensegcli.records import Size

FOREGROUND, IGNORED = 1, 255
FAR = 1_000_000
"""Corners farther out than this are damage; real ones lie in or near their picture."""

_PICTURES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class PolygonStack:
    """All polygons of a picture, of which one value (foreground or ignored) is the mask.

    They are painted in turn, larger before smaller, and what is painted later covers what was painted earlier: so a
    small ignored patch cuts a hole into the object, and neither mask can be read without the other's polygons.
    """

    shapes: bytes
    """JSON list of [points, value]."""
    value: int

    def read(self, size: Size) -> np.ndarray:
        return paint(orjson.loads(self.shapes), size) == self.value


def paint(shapes: list[tuple[list[list[float]], int]], size: Size) -> np.ndarray:
    """Polygons as uint8 values (h w), as LISA's reader paints them, pixel for pixel.

    Corners are cut to whole numbers, the polygon is filled, and its outline is drawn one pixel wide.
    """
    layers = []
    for points, value in shapes:
        corners = np.array(points).astype(np.int32)  # towards zero: 3.9 becomes 3
        alone = np.zeros((size.height, size.width), np.uint8)
        _draw(alone, corners, 1)
        layers.append((int(alone.sum()), corners, value))
    layers.sort(key=lambda layer: layer[0])
    painted = np.zeros((size.height, size.width), np.uint8)
    for _, corners, value in reversed(layers):  # of equals the later one first, as in LISA's reversed argsort
        _draw(painted, corners, value)
    return painted


def _draw(canvas: np.ndarray, corners: np.ndarray, value: int) -> None:
    cv2.polylines(canvas, [corners], True, (value,), 1)
    cv2.fillPoly(canvas, [corners], (value,))


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
    refs = [_ref(folder / f"{stem}.json") for stem in sorted(stems)]
    return RawSet(refs, Counts.of(refs, len(refs)), tuple(files), {split: Counts.of(refs, len(refs))})


def _ref(path: Path) -> RawRef:
    picture = next((p for p in (path.with_name(path.stem + end) for end in _PICTURES) if p.is_file()), None)
    if not path.is_file():
        return _unusable(path, Problem("annotation missing", f"no {path.name} beside the picture"))
    try:
        content = read_json(path)
        texts, shapes = _texts(content), _shapes(content)
    except (ValueError, KeyError, TypeError) as error:
        return _unusable(path, Problem("annotation damaged", f"{path.name}: {error!r}"))
    problem = None
    if picture is None:
        problem = Problem("picture missing", f"no picture beside {path}")
    elif not any(value == FOREGROUND for _, value in shapes):
        problem = Problem("no object", f"{path.name}: no polygon that is neither flag nor ignored")
    stack = orjson.dumps(shapes)
    ignored = any(value == IGNORED for _, value in shapes)
    return RawRef(
        id=path.stem,
        picture=PictureFile(picture) if picture else None,
        sentences=tuple(Sentence(text, number) for number, text in enumerate(texts)),
        targets=(RawTarget(PolygonStack(stack, FOREGROUND)),),
        ignore=PolygonStack(stack, IGNORED) if ignored else None,
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
    """A JSON file in UTF-8 or, as some of ReasonSeg are, in Windows' cp1252.

    Raises:
        ValueError: not JSON in either.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252")
    found = orjson.loads(text)
    if not isinstance(found, dict):
        raise TypeError(f"an object expected, {type(found).__name__} found")
    return found


def _texts(content: Mapping[str, Any]) -> list[str]:
    texts = content["text"]
    texts = [texts] if isinstance(texts, str) else texts
    if not texts or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"text must be a list of texts, {texts!r} found")
    return texts


def _shapes(content: Mapping[str, Any]) -> list[tuple[list[list[float]], int]]:
    """Corners and value of each polygon; `flag` marks a doubtful picture, not an object."""
    found = []
    for shape in content["shapes"]:
        label = str(shape["label"]).lower()
        if label == "flag":
            continue
        points = [[float(x), float(y)] for x, y in shape["points"]]
        if not points or not all(abs(value) < FAR for point in points for value in point):
            raise ValueError(f"a polygon of {len(points)} corners, or with a corner far outside")
        found.append((points, IGNORED if "ignore" in label else FOREGROUND))
    return found
