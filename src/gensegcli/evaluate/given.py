"""Predictions of other systems: in our own form, as COCO results, as a folder of masks, or as plain boxes.

docs/eval.md describes every form, `given_forms` reads them. Whatever it was, it becomes a `Prediction`, so that scoring
and reports know one form only. Nothing is guessed: what does not fit the set, or contradicts itself, is an error that
names it; what is left out is counted and told.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gensegcli.config import digest
from gensegcli.errors import ExitCode, GensegError
from gensegcli.evaluate.given_forms import LeftOut, listed, masks_by_sample, read_found
from gensegcli.files.text import is_folder
from gensegcli.geometry import rle
from gensegcli.geometry.boxes import clamp, pixel_to_grid
from gensegcli.manifests import reading
from gensegcli.mask_files import CUT, WHITE, DarkMapError, read_mask
from gensegcli.prep.store import file_digest
from gensegcli.records import FinishReason, Instance, MaskPrompt, PredictedInstance, Prediction, PromptMode, Rle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gensegcli.evaluate.data import Place
    from gensegcli.evaluate.given_forms import Found
    from gensegcli.records import PixelBox, Size


@dataclass
class Given:
    """A file or folder of predictions, read against the samples it is about.

    Attributes:
        path: the file, or the folder of masks.
        places: every sample of the set by its id.
        foreground: the set is scored by S, E, F and MAE, which take grey-level maps as they are.
        boxes_only: no prediction has a mask; known once all are read, as the notes are.
    """

    path: Path
    places: Mapping[str, Place]
    foreground: bool = False
    boxes_only: bool = False
    _left_out: LeftOut = field(default_factory=LeftOut)
    _unknown: list[str] = field(default_factory=list)
    _seen: dict[str, str] = field(default_factory=dict)
    _maps: list[str] = field(default_factory=list)
    _dark: list[DarkMapError] = field(default_factory=list)
    _empty: int = 0
    _parts: int = 0
    _shapeless: int = 0

    def __iter__(self) -> Iterator[Prediction]:
        """Predictions for samples of the set, as they come.

        Raises:
            GensegError: not readable, no form that is known, two predictions of one sample, one that contradicts
                itself, a mask of another size than its picture, masks for some predictions and boxes for others, or
                nothing in it is about the set.
        """
        with_masks: dict[bool, str] = {}
        for found in read_found(self.path, self.places, self._left_out):
            if found.id not in self.places:
                self._unknown.append(found.id)
                continue
            self._check_first(found)
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
        if len(self._dark) == len(self._maps) > 0:  # not one of them has a bright pixel: what is white?
            raise self._dark[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or taken in a way that matters, counted; one sentence each."""
        notes = list(self._left_out.notes())
        if self._unknown:
            notes.append(
                f"{len(self._unknown)} predictions are of no sample of the set (the first: {self._unknown[0]})"
            )
        if self._parts:
            notes.append(f"{self._parts} polygons of fewer than three corners, beside sound ones, were left out")
        if self._shapeless:
            notes.append(f"{self._shapeless} objects have an empty list for a segmentation and count as empty masks")
        if self._empty:
            notes.append(f"{self._empty} predictions without a single pixel or box count as 'nothing there'")
        if self._maps:
            whole = "; S, E, F, weighted F and MAE score the maps as they are" if self.foreground else ""
            notes.append(
                f"{len(self._maps)} predictions are grey-level maps: their masks are what is above {CUT} of {WHITE}"
                f" (the first: {self._maps[0]}){whole}"
            )
        if self.boxes_only:
            notes.append("boxes only: there are no mask metrics")
        return tuple(notes)

    @property
    def digest(self) -> str:
        """Of the content.

        Raises:
            GensegError: it cannot be read.
        """
        files = listed(self.path) if is_folder(self.path) else [self.path]
        with reading(str(self.path)):
            return digest([(file.name, file_digest(file)) for file in files])

    def levels(self, name: str) -> np.ndarray | None:
        """The grey-level map (uint8, h w) of a sample, read from its file; None where it has a mask of two values.

        Raises:
            GensegError: the file is gone or damaged.
        """
        file = self._files.get(name)
        return None if file is None else read_mask(file, dark=True).levels

    @cached_property
    def _files(self) -> dict[str, Path]:
        return dict(masks_by_sample(self.path, self.places)) if self.path.is_dir() else {}

    # ---------------------------------------------------------------- one prediction

    def _check_first(self, found: Found) -> None:
        """Of two predictions of one sample nobody can say which one counts."""
        earlier = self._seen.setdefault(found.id, found.place)
        if earlier is not found.place:
            raise GensegError(
                f"{self.path}: two predictions of sample {found.id}: {_short(earlier)} and {_short(found.place)}",
                hint="all objects of a sample belong into one prediction; take the other one out",
            )

    def _prediction(self, found: Found) -> Prediction:
        place = self.places[found.id]
        try:
            if found.whole is not None:
                return self._own(found.whole, place)
            instances = self._instances(found, place.size)
            if found.no_target and any(rle.area(one.mask) for one in instances if found.masks is not None):
                raise _contradiction(len(instances), "masks")
            if found.no_target and found.masks is None and instances:
                raise _contradiction(len(instances), "boxes")
        except GensegError as error:
            what = error.message.removeprefix("segmentation: ").removeprefix(f"{self.path}/")
            message = f"{self.path}: sample {found.id}: {what}"
            raise type(error)(message, hint=error.hint, code=error.code) from None
        self._empty += not instances and found.no_target is None
        return Prediction(
            id=found.id,
            image=place.file or found.id,
            query=place.query,
            size=place.size,
            # Systems that answer this apart from the mask are taken at their word.
            no_target=not instances if found.no_target is None else found.no_target,
            instances=() if found.no_target else instances,
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
        if prediction.no_target and prediction.instances:
            raise _contradiction(len(prediction.instances), "instances")
        return replace(prediction, image=place.file or prediction.image)

    def _instances(self, found: Found, size: Size) -> tuple[PredictedInstance, ...]:
        nothing = rle.encode(np.zeros((size.height, size.width), bool))
        number = len(found.boxes if found.masks is None else found.masks)
        masks = [nothing] * number if found.masks is None else [self._mask(mask, size) for mask in found.masks]
        given = found.boxes or (None,) * number
        boxes: Sequence[PixelBox | None] = [
            rle.box(mask) if box is None and found.masks is not None else box
            for box, mask in zip(given, masks, strict=True)
        ]
        scores = found.scores or (None,) * number
        return tuple(
            PredictedInstance(Instance(pixel_to_grid(box, size)), MaskPrompt(clamp(box, size)), mask, score)
            for box, mask, score in zip(boxes, masks, scores, strict=True)
            if box is not None
        )

    def _mask(self, source: Any, size: Size) -> Rle:
        if isinstance(source, Path):
            return self._from_file(source, size)
        if source == []:
            self._shapeless += 1
            return rle.merge((), size)
        source, dropped = rle.without_degenerate(source)
        self._parts += dropped
        return rle.from_coco(source, size)

    def _from_file(self, file: Path, size: Size) -> Rle:
        try:
            found = read_mask(file)
        except DarkMapError as error:
            self._dark.append(error)
            found = read_mask(file, dark=True)
        height, width = found.mask.shape
        if (width, height) != tuple(size):
            raise _wrong_size((width, height), size)
        if found.levels is not None:
            self._maps.append(file.name)
        return rle.encode(found.mask)

    def _nothing(self) -> GensegError:
        sample = next(iter(self.places))
        if not self._unknown:
            left_out = "; ".join(self._left_out.notes())
            return GensegError(f"{self.path}: holds no predictions", hint=left_out, code=ExitCode.NOT_FOUND)
        return GensegError(
            f"{self.path}: none of its {len(self._unknown)} predictions is of a sample of the set",
            hint=f"its first is of {self._unknown[0]!r}, the samples are called like {sample!r}",
            code=ExitCode.NOT_FOUND,
        )


def _short(place: str) -> str:
    """A place without the file that is named already.

    >>> _short("/data/p.jsonl:17"), _short("a.png")
    ('line 17', 'a.png')
    """
    file, _, line = place.rpartition(":")
    return f"line {line}" if file and line.isdecimal() else place


def _contradiction(number: int, what: str) -> GensegError:
    return GensegError(
        f"no_target is true, and there are {number} {what}",
        hint="nothing there or something there: take one of the two out",
    )


def _wrong_size(found: Sequence[int], expected: Size) -> GensegError:
    return GensegError(
        f"mask of {expected.width}x{expected.height} expected, {found[0]}x{found[1]} found",
        hint="masks are of the size of the picture as it is stored in the set",
    )
