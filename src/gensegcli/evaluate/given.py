"""Predictions of other systems: in our own form, as COCO results, as a folder of PNG masks, or as plain boxes.

docs/eval.md describes every form. Whatever it was, it becomes a `Prediction`, so that scoring and reports know one form
only. Nothing is guessed: what does not fit the set is an error that names it, what is left out is counted and told.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from gensegcli.config import digest
from gensegcli.errors import ExitCode, GensegError
from gensegcli.geometry import rle
from gensegcli.geometry.boxes import clamp, pixel_to_grid
from gensegcli.images import read_image
from gensegcli.manifests import reading
from gensegcli.predictions import from_json
from gensegcli.prep.store import file_digest
from gensegcli.records import (
    FinishReason,
    Instance,
    MaskPrompt,
    PixelBox,
    PredictedInstance,
    Prediction,
    PromptMode,
    Rle,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gensegcli.evaluate.data import Place
    from gensegcli.records import Size

_DARK = 127
"""A grey PNG's pixel belongs to the mask if it is brighter, unless the file holds nothing but 0 and 1."""


@dataclass
class Given:
    """A file or folder of predictions, read against the samples it is about.

    Attributes:
        path: the file, or the folder of PNG masks.
        places: every sample of the set by its id.
        boxes_only: no prediction has a mask; known once all are read, as the notes are.
    """

    path: Path
    places: Mapping[str, Place]
    boxes_only: bool = False
    _notes: list[str] = field(default_factory=list)
    _unknown: list[str] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)
    _repeated: int = 0
    _empty: int = 0

    def __iter__(self) -> Iterator[Prediction]:
        """Predictions for samples of the set, as they come; of two for one sample the later one counts.

        Raises:
            GensegError: not readable, no form that is known, a mask of another size than its picture, masks for some
                predictions and boxes for others, or nothing in it is about the set.
        """
        with_masks: dict[bool, str] = {}
        for found in self._found():
            if found.id not in self.places:
                self._unknown.append(found.id)
                continue
            self._repeated += found.id in self._seen
            self._seen.add(found.id)
            prediction = self._prediction(found)
            if prediction.instances:
                with_masks.setdefault(found.masks is not None, found.id)
                if len(with_masks) == 2:
                    raise GensegError(
                        f"{self.path}: {with_masks[True]} has masks, {with_masks[False]} only boxes",
                        hint="give all of them masks, or none",
                    )
            yield prediction
        self.boxes_only = set(with_masks) == {False}
        if not self._seen:
            raise self._nothing()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or taken in a way that matters, counted; one sentence each."""
        notes = list(self._notes)
        if self._unknown:
            notes.append(
                f"{len(self._unknown)} predictions are of no sample of the set (the first: {self._unknown[0]})"
            )
        if self._repeated:
            notes.append(f"{self._repeated} predictions were followed by another one of the same sample, which counts")
        if self._empty:
            notes.append(f"{self._empty} predictions without a single pixel or box count as 'nothing there'")
        if self.boxes_only:
            notes.append("boxes only: there are no mask metrics")
        return tuple(notes)

    @property
    def digest(self) -> str:
        """Of the content.

        Raises:
            GensegError: it cannot be read.
        """
        files = _pictures(self.path) if self.path.is_dir() else [self.path]
        with reading(str(self.path)):
            return digest([(file.name, file_digest(file)) for file in files])

    # ---------------------------------------------------------------- forms

    def _found(self) -> Iterator[_Found]:
        if self.path.is_dir():
            return self._png_masks()
        with reading(str(self.path)), self.path.open("rb") as stream:
            start = stream.read(256).lstrip()[:1]
        if start == b"[":
            return self._coco_results()
        if start == b"{":
            return self._lines()
        raise GensegError(
            f"{self.path}: neither JSONL nor a list of COCO results",
            hint="docs/eval.md describes the forms; masks as PNG go as a folder",
        )

    def _png_masks(self) -> Iterator[_Found]:
        """`<sample id>.png`, or the names that `genseg predict --save png` gives."""
        by_digest = {hashlib.sha256(name.encode()).hexdigest()[:12]: name for name in self.places}
        for file in _pictures(self.path):
            name = file.stem
            if name not in self.places:
                name = by_digest.get(name.rpartition("__")[2], name)
            yield _Found(name, (file,))

    def _coco_results(self) -> Iterator[_Found]:
        """A list of {image_id, segmentation or bbox, score}: one entry an object, in any order."""
        try:
            entries = orjson.loads(self.path.read_bytes())
        except orjson.JSONDecodeError as error:
            raise GensegError(f"{self.path}: not JSON ({error})", hint="was it cut off while it was written?") from None
        names = _Names(self.places)
        by_sample: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict) or not {"image_id", "sample_id"} & entry.keys():
                raise GensegError(
                    f"{self.path}: entry {number} has no image_id", hint="docs/eval.md describes the form"
                )
            by_sample[names.of(entry.get("sample_id", entry.get("image_id")))].append(entry)
        for name, objects in by_sample.items():
            place = f"{self.path}: sample {name}"
            shapes = [entry.get("segmentation") for entry in objects]
            if None in shapes and any(shapes):
                raise GensegError(f"{place}: only some of its objects have a segmentation")
            boxes = [entry.get("bbox") for entry in objects]
            if None in shapes and None in boxes:
                raise GensegError(f"{place}: an entry has neither segmentation nor bbox")
            yield _Found(
                name,
                None if None in shapes else tuple(shapes),
                () if None in boxes else tuple(_from_xywh(box, place) for box in boxes),
                tuple(_score(entry.get("score"), place) for entry in objects),
            )

    def _lines(self) -> Iterator[_Found]:
        """JSONL: predictions of genseg, or {id, masks or boxes, scores, no_target}."""
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                place = f"{self.path}:{number}"
                if not line.strip():
                    continue
                try:
                    record = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    if not line.endswith(b"\n"):
                        self._notes.append("the last line is cut off and was left out")
                        return
                    raise GensegError(f"{place}: not JSON ({error})") from None
                if not isinstance(record, dict) or not isinstance(record.get("id"), str):
                    raise GensegError(f'{place}: expected an object with an "id" that is a text')
                yield _from_line(record, place)

    # ---------------------------------------------------------------- one prediction

    def _prediction(self, found: _Found) -> Prediction:
        place = self.places[found.id]
        try:
            if found.whole is not None:
                return self._own(found.whole, place)
            instances = _instances(found, place.size)
        except GensegError as error:
            message = f"{self.path}: sample {found.id}: {error.message.removeprefix('segmentation: ')}"
            raise GensegError(message, hint=error.hint, code=error.code) from None
        self._empty += not instances and not found.no_target
        return Prediction(
            id=found.id,
            image=place.file or found.id,
            query=place.query,
            size=place.size,
            no_target=not instances,
            instances=instances,
            think=None,
            raw="",
            refusal=None,
            finish=FinishReason.STOP,
            tokens=0,
            timings={},
            model=str(self.path),
            model_revision=None,
            segmenter=str(self.path),
            segmenter_revision=None,
            prompt_mode=PromptMode.BOX,
            dialect="given",
            prompt_digest="",
        )

    def _own(self, prediction: Prediction, place: Place) -> Prediction:
        if prediction.size != place.size:
            raise _wrong_size(prediction.size, place.size)
        return replace(prediction, image=place.file or prediction.image)

    def _nothing(self) -> GensegError:
        sample = next(iter(self.places))
        if not self._unknown:
            return GensegError(f"{self.path}: holds no predictions", code=ExitCode.NOT_FOUND)
        return GensegError(
            f"{self.path}: none of its {len(self._unknown)} predictions is of a sample of the set",
            hint=f"its first is of {self._unknown[0]!r}, the samples are called like {sample!r}",
            code=ExitCode.NOT_FOUND,
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """A prediction as its file has it."""

    id: str
    masks: tuple[Any, ...] | None = ()
    """Files, or whatever COCO takes for a segmentation; None: boxes are all there is."""
    boxes: tuple[PixelBox, ...] = ()
    scores: tuple[float | None, ...] = ()
    no_target: bool = False
    whole: Prediction | None = None
    """Set where the file is one of ours."""


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
        if isinstance(value, int) and not isinstance(value, bool):
            return self._by_number.get(value, str(value))
        return str(value)


def _from_line(record: Mapping[str, Any], place: str) -> _Found:
    if "instances" in record:
        try:
            prediction = from_json(record)
        except GensegError as error:
            raise GensegError(f"{place}: {error.message}", hint=error.hint) from None
        return _Found(prediction.id, whole=prediction)
    masks, boxes, scores = record.get("masks"), record.get("boxes"), record.get("scores")
    if masks is None and boxes is None and "no_target" not in record:
        raise GensegError(f"{place}: no masks, no boxes, no no_target, found {', '.join(record)}")
    for name, values in (("masks", masks), ("boxes", boxes), ("scores", scores)):
        if not isinstance(values, list | None):
            raise GensegError(f"{place}: {name} is {type(values).__name__}, expected a list")
    number = len(masks if masks is not None else boxes or ())
    if any(len(values) != number for values in (masks, boxes, scores) if values is not None):
        raise GensegError(f"{place}: masks, boxes and scores are of different length")
    return _Found(
        record["id"],
        None if masks is None and boxes else tuple(masks or ()),
        tuple(_box(values, place) for values in boxes or ()),
        tuple(_score(value, place) for value in scores or ()),
        no_target=record.get("no_target") is True,
    )


def _instances(found: _Found, size: Size) -> tuple[PredictedInstance, ...]:
    if found.no_target:
        return ()
    nothing = rle.encode(np.zeros((size.height, size.width), bool))
    number = len(found.boxes if found.masks is None else found.masks)
    masks = [nothing] * number if found.masks is None else [_mask(mask, size) for mask in found.masks]
    boxes: Sequence[PixelBox | None] = found.boxes or [rle.box(mask) for mask in masks]
    scores = found.scores or (None,) * number
    return tuple(
        PredictedInstance(Instance(pixel_to_grid(box, size)), MaskPrompt(clamp(box, size)), mask, score)
        for box, mask, score in zip(boxes, masks, scores, strict=True)
        if box is not None
    )


def _mask(source: Any, size: Size) -> Rle:
    if not isinstance(source, Path):
        return rle.from_coco(source, size)
    picture = read_image(source)
    if picture.size != tuple(size):
        raise _wrong_size(picture.size, size)
    colours = np.asarray(picture)
    values = colours[..., 0]
    if (colours != values[..., None]).any():  # palettes give each object its colour, and black to what is none
        return rle.encode(colours.max(axis=2) > 0)
    return rle.encode(values > (0 if values.max(initial=0) <= 1 else _DARK))


def _wrong_size(found: Sequence[int], expected: Size) -> GensegError:
    return GensegError(
        f"mask of {expected.width}x{expected.height} expected, {found[0]}x{found[1]} found",
        hint="masks are of the size of the picture as it is stored in the set",
    )


def _from_xywh(values: Any, place: str) -> PixelBox:
    x, y, width, height = _numbers(values, f"{place}: bbox")
    if width <= 0 or height <= 0:
        raise GensegError(f"{place}: bbox {values} has no area", hint="COCO's boxes are x, y, width, height in pixels")
    return PixelBox(x, y, x + width, y + height)


def _box(values: Any, place: str) -> PixelBox:
    box = PixelBox(*_numbers(values, f"{place}: a box"))
    if not (box.x1 < box.x2 and box.y1 < box.y2):
        raise GensegError(f"{place}: box {list(box)} has no area", hint="boxes are x1, y1, x2, y2 in pixels")
    return box


def _score(value: Any, place: str) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise GensegError(f"{place}: a score is {value!r}, expected a number")
    return value


def _numbers(values: Any, what: str) -> list[float]:
    numbers = values if isinstance(values, list) else []
    if len(numbers) != 4 or not all(isinstance(v, int | float) and np.isfinite(v) for v in numbers):
        raise GensegError(f"{what}: four numbers expected, {values!r} found")
    return [float(value) for value in numbers]


def _pictures(folder: Path) -> Iterable[Path]:
    return sorted(folder.glob("*.png"))
