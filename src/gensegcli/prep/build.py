"""One picture and all its samples: decode once, resize, mine points, encode once."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from PIL import ExifTags, Image

from gensegcli.dialects.expressions import normalise_expression
from gensegcli.errors import GensegError
from gensegcli.geometry.boxes import grid_to_pixel, pixel_to_grid
from gensegcli.geometry.keypoints import mine_negatives, mine_positive
from gensegcli.geometry.masks import Patch, resize_patch
from gensegcli.geometry.rle import encode_patch, merge
from gensegcli.geometry.turns import TURNS, UPRIGHT, Turn
from gensegcli.images import MAX_PIXELS, orientation, read_image
from gensegcli.lean import lean
from gensegcli.prep.frames import Frames, Unusable
from gensegcli.prep.select import Skip, Work
from gensegcli.records import GridBox, GridPoint, PixelBox, PixelPoint, Rle, Sample, Size, Target
from gensegcli.sources.coco import CocoMask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gensegcli.prep.recipe import Recipe
    from gensegcli.sources.raw import AnnotationFrame, MaskSource, PictureSource, Problem, RawRef, RawTarget

    Filter = Callable[[np.ndarray, Sample], Problem | None]
    """From the stored picture (h w 3, RGB) and a sample built on it: why it is not wanted, or None."""


class Built(NamedTuple):
    """What came out of one picture: samples, those that could not be built, those that the filter did not want."""

    samples: list[Sample]
    skips: list[Skip]
    filtered: list[Skip]
    dropped_parts: int = 0
    """Polygons without three corners that were left out of otherwise sound masks."""
    turned: tuple[str, ...] = ()
    """Of a picture with an EXIF turn: the frames its annotations were in, or `without objects`; see AnnotationFrame."""


@dataclass(frozen=True)
class _Object:
    """One mask of a picture, in the forms that samples need."""

    stored: Patch
    """At the size of the stored picture."""
    rle: Rle
    box: GridBox
    points: tuple[GridPoint, ...]


_EMPTY = "empty mask"


def build_picture(works: Sequence[Work], recipe: Recipe, wanted: Filter | None = None) -> Built:
    """The samples of one picture. What cannot be built is a value with its reason, and never an exception."""
    built = Built([], [], [])
    pictures = _Pictures(recipe)
    for work in works:
        try:
            picture = pictures.of(work.ref)
            sample = picture.sample(work)
        except Unusable as unusable:
            built.skips.append(Skip(work.id, *unusable.problem))
            continue
        problem = wanted(picture.pixels(), sample) if wanted else None
        if problem is None:
            built.samples.append(sample)
        else:
            built.filtered.append(Skip(work.id, *problem))
    return built._replace(dropped_parts=pictures.dropped_parts(), turned=pictures.turned())


class _Pictures:
    """The decoded pictures of one key: one, unless rows that call their picture by one name hold several."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._by_source: dict[PictureSource, _Picture | Unusable] = {}
        self._by_content: dict[bytes, _Picture] = {}

    def of(self, ref: RawRef) -> _Picture:
        """The picture of a reference; raises what is wrong with it."""
        assert ref.picture is not None, "references without a picture are skipped before they become work"
        if ref.picture not in self._by_source:
            self._by_source[ref.picture] = self._read(ref)
        found = self._by_source[ref.picture]
        if isinstance(found, Unusable):
            raise found
        return found

    def dropped_parts(self) -> int:
        """Polygons that were left out of masks."""
        return sum(picture.dropped_parts for picture in self._by_content.values())

    def turned(self) -> tuple[str, ...]:
        """What `Built.turned` says."""
        return tuple(frame for picture in self._by_content.values() for frame in picture.frames.seen())

    def _read(self, ref: RawRef) -> _Picture | Unusable:
        try:
            data = _read(ref)
            if data not in self._by_content:
                self._by_content[data] = _Picture(data, ref, self._recipe)
            return self._by_content[data]
        except Unusable as unusable:
            return unusable


class _Picture:
    """A decoded picture and the masks made for it so far: sentences that mean the same objects share them."""

    def __init__(self, data: bytes, ref: RawRef, recipe: Recipe) -> None:
        self._recipe = recipe
        self.dropped_parts = 0
        pixels, plain, turn = _decode(data, ref)
        self.size = Size(pixels.shape[1], pixels.shape[0])
        self.frames = Frames(turn, self.size, recipe.annotations_frame)
        self.stored_size = stored_size(self.size, recipe)
        if recipe.picture.size is None or (plain and self.stored_size == self.size):
            self.image = data
        else:
            pixels = resize_picture(pixels, self.stored_size)
            self.image = encode_jpeg(pixels, recipe.picture.quality)
        self._bgr = pixels
        self._objects: dict[MaskSource, _Object] = {}
        self._negatives: dict[tuple[MaskSource, ...], list[tuple[GridPoint, ...]]] = {}

    def pixels(self) -> np.ndarray:
        """The stored picture, (h w 3), RGB."""
        return np.ascontiguousarray(self._bgr[..., ::-1])

    def sample(self, work: Work) -> Sample:
        ref = work.ref
        frames = self.frames.possible(ref)
        provenance = dict(ref.provenance)
        think = provenance.pop("think", None)
        sentence = ref.sentences[work.sentence]
        if sentence.id is not None:
            provenance["sent_id"] = sentence.id
        original = ref.original_size or self.size
        return Sample(
            id=work.id,
            query=normalise_expression(sentence.text),
            image=self.image,
            size=self.stored_size,
            targets=self._targets(self._present(ref.targets, frames), frames),
            sentences=tuple(sentence.text for sentence in ref.sentences),
            provenance={**provenance, "split": self._recipe.split},
            original_size=original,
            ignore=self._ignored(ref.ignore, frames),
            think=str(think) if think is not None else None,
        )

    def _present(self, targets: Sequence[RawTarget], frames: Sequence[AnnotationFrame]) -> Sequence[RawTarget]:
        """Without the empty masks of a foreground set that is to be evaluated: those pictures are scored like all others.

        A policy that learns is not taught by them that a picture has no foreground.
        """
        if self._recipe.purpose != "eval" or self._recipe.source.kind != "foreground":
            return targets
        present = []
        for target in targets:
            try:
                if target.mask is not None:
                    self._object(target.mask, frames)
            except Unusable as unusable:
                if unusable.problem.reason != _EMPTY:
                    raise
            else:
                present.append(target)
        return present

    def _targets(self, targets: Sequence[RawTarget], frames: Sequence[AnnotationFrame]) -> tuple[Target, ...]:
        masks = tuple(target.mask for target in targets if target.mask is not None)
        objects = [self._object(mask, frames) for mask in masks]
        if len(objects) < len(targets):
            return tuple(self.frames.boxed(target, frames) for target in targets)
        negatives = self._mine_negatives(masks, objects)
        return tuple(
            Target(found.box, found.points, found.rle, background, target.ann_id, target.category_id)
            for target, found, background in zip(targets, objects, negatives, strict=True)
        )

    def _object(self, mask: MaskSource, frames: Sequence[AnnotationFrame]) -> _Object:
        if mask not in self._objects:
            whole = self.frames.mask(mask, frames)
            self.dropped_parts += mask.degenerate if isinstance(mask, CocoMask) else 0
            if whole is None:
                raise Unusable(_EMPTY, "the object's mask has no pixel")
            height, width = whole.pixels.shape
            stored = whole if self.stored_size == self.size else resize_patch(whole, self.size, self.stored_size)
            if stored is None:
                raise Unusable("mask lost in resizing", f"the object's box has {width}x{height} pixels")
            box = PixelBox(whole.left, whole.top, whole.left + width, whole.top + height)
            points = [
                PixelPoint(stored.left + point.x, stored.top + point.y)
                for point in mine_positive(stored.pixels, self._recipe.points.positives)
            ]
            # The box is taken before resizing, where it is exact; points are centres of stored pixels, and each of
            # them lies in the original mask too, because resizing takes the value under the centre.
            self._objects[mask] = _Object(
                stored,
                encode_patch(stored, self.stored_size),
                pixel_to_grid(box, self.size),
                tuple(pixel_to_grid(point, self.stored_size) for point in points),
            )
        return self._objects[mask]

    def _mine_negatives(self, masks: tuple[MaskSource, ...], objects: list[_Object]) -> list[tuple[GridPoint, ...]]:
        points = self._recipe.points
        if not points.negatives:
            return [()] * len(objects)
        if masks not in self._negatives:
            size = self.stored_size
            whole = np.zeros((size.height, size.width), bool)
            for found in objects:
                found.stored.paste(whole)
            boxes = [grid_to_pixel(found.box, size) for found in objects]
            mined = mine_negatives(whole, boxes, k=points.negatives, margin_grid=points.margin) if objects else []
            self._negatives[masks] = [tuple(pixel_to_grid(point, size) for point in points) for points in mined]
        return self._negatives[masks]

    def _ignored(self, mask: MaskSource | None, frames: Sequence[AnnotationFrame]) -> Rle | None:
        if mask is None:
            return None
        whole = self.frames.mask(mask, frames)
        stored = resize_patch(whole, self.size, self.stored_size) if whole else None
        return encode_patch(stored, self.stored_size) if stored else merge((), self.stored_size)


def _read(ref: RawRef) -> bytes:
    assert ref.picture is not None
    try:
        return ref.picture.read()
    except FileNotFoundError as error:
        raise Unusable("picture missing", str(error)) from None
    except OSError as error:
        raise Unusable("picture unreadable", str(error)) from None


# ---------------------------------------------------------------- pixels

_END_OF_JPEG = b"\xff\xd9"


def _decode(data: bytes, ref: RawRef) -> tuple[np.ndarray, bool, Turn]:
    """The upright picture (h w 3, uint8, BGR), whether its bytes can be stored as they are in a training set, its turn.

    OpenCV decodes sound 8-bit JPEGs of one or three channels, which nearly all are; everything else goes the careful
    way. OpenCV does not notice a JPEG that is cut short, hence the look at its end.
    """
    try:
        # Pillow warns of large pictures; what is too large is decided here, before a PNG is decoded for its EXIF data.
        quiet = warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning)
        with quiet, Image.open(lean(io.BytesIO(data)), formats=_PLAIN) as header:
            simple = (
                header.format in _PLAIN
                and header.width * header.height <= MAX_PIXELS
                and header.mode in ("RGB", "L")
                and not header.has_transparency_data
                and header.getexif().get(ExifTags.Base.Orientation, 1) == 1
            )
            jpeg = header.format == "JPEG"
    except _DAMAGED:
        simple = jpeg = False
    pixels = None
    if simple and jpeg and data.rstrip(b"\0")[-2:] == _END_OF_JPEG:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        try:
            pixels = np.asarray(read_image(data))[..., ::-1]
        except GensegError as error:
            assert ref.picture is not None
            what = error.message.partition(": ")[2] or error.message
            raise Unusable("picture damaged", f"{ref.picture.key}: {what}") from None
    return pixels, simple, UPRIGHT if simple else TURNS.get(orientation(data), UPRIGHT)


_PLAIN = ("JPEG", "PNG")
"""What a training set may hold as it came. Of all that Pillow knows, no other format is tried on foreign bytes here."""
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, Image.DecompressionBombError)


def stored_size(size: Size, recipe: Recipe) -> Size:
    """The size at which a picture of `size` is stored."""
    wanted = recipe.picture.size
    if wanted is None:
        return size
    if not recipe.picture.keep_aspect:
        return Size(*wanted)
    scale = min(wanted[0] / size.width, wanted[1] / size.height)
    return Size(max(1, round(size.width * scale)), max(1, round(size.height * scale)))


def resize_picture(pixels: np.ndarray, size: Size) -> np.ndarray:
    """A picture (h w 3) at another size: averaged where both sides shrink, else bilinear."""
    height, width = pixels.shape[:2]
    shrinks = size.width <= width and size.height <= height
    return cv2.resize(pixels, tuple(size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def encode_jpeg(bgr: np.ndarray, quality: int) -> bytes:
    """A JPEG of a BGR picture (h w 3)."""
    ok, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert ok, "OpenCV always encodes an 8-bit picture"
    return data.tobytes()
