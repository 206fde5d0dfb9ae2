"""The one reader of masks in picture files: for the truth of foreground sets and for predictions alike.

A mask is a map of labels and no picture: its values are looked at before any conversion, it is never turned by its EXIF
data, and nothing is laid on white. docs/data.md states the rule for users:

- Transparent pixels are background. Where all that is not transparent has one colour, transparency alone is the mask.
- A palette holds labels: black's index (or 0) is background, all others are foreground; 255 beside others is "void".
- Grey: 0 and 1, or black and white, or levels in between, which are cut in the middle and kept as a map. Numbers of
  objects are no levels: they are refused with their values.
- Colours that were stored without loss: whatever is not black is foreground.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from gensegcli.errors import GensegError
from gensegcli.images import open_as

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL import Image

WHITE = 255
CUT = WHITE // 2
"""A grey level (of 255) belongs to the mask if it is brighter."""

FEW = 32
"""Files with fewer values may hold numbers of objects, if these cover areas."""

_FLAT_SHARE = 0.25
"""Of the dark pixels, so many have four neighbours of their own value where they are areas, and hardly any on edges."""

_MOST_COLOURS = 1024
"""A file with more is a picture, not a mask in the colours of its objects."""

_LOSSY_SPREAD = 16
"""So far apart are the channels of a grey that was stored with loss."""

_LOSSY = frozenset({"JPEG", "MPO", "JPEG2000", "AVIF"})
_HINT = "write the object as 255 and everything else as 0, as an 8-bit grey PNG"
_VOID = 255


class DarkMapError(GensegError):
    """A grey map without a single bright pixel: right beside brighter ones of the same system, unclear alone."""


class MaskPicture(NamedTuple):
    """A mask as its file has it."""

    mask: np.ndarray
    """Bool (h w)."""
    levels: np.ndarray | None
    """The grey map (uint8, h w) where the file holds levels between black and white, else None."""


def read_mask(path: Path, *, dark: bool = False) -> MaskPicture:
    """The mask in a picture file.

    Args:
        path: the file; every format that `read_image` knows.
        dark: take a grey map without a bright pixel for what it says: nothing is found.

    Raises:
        DarkMapError: a grey map without a bright pixel, and `dark` is not set.
        GensegError: not a picture, damaged, several pictures in one file, or values of which nobody can say what is
            foreground; one line that names the file and its values.
    """
    stored = open_as(path, _stored)
    if stored.palette is not None:
        return _from_palette(stored, path)
    if stored.values.ndim == 3:
        return _from_colours(stored, path, dark=dark)
    return _from_grey(stored, path, dark=dark)


# ---------------------------------------------------------------- what stands in the file


@dataclass(frozen=True, slots=True)
class _Stored:
    """Values as the file has them.

    Attributes:
        values: (h w), or (h w 3) for colours.
        white: the value of white where it is known from the file's form: 255, 65535, or that of 1, 2 or 4 bits.
        alpha: uint8 (h w), 0 is transparent; None where the file has no transparency.
        palette: colours (n 3) of the values, -1 where the file gives none.
        lossy: whether values may be a little off.
    """

    values: np.ndarray
    white: int
    alpha: np.ndarray | None = None
    palette: np.ndarray | None = None
    lossy: bool = False


_NARROW = re.compile(r"L;([24])$")
_DEEP_COLOUR = re.compile(r"(RGB|RGBA|RGBX|LA);16")


def _stored(image: Image.Image, name: str) -> _Stored:
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise GensegError(f"{name}: holds {frames} pictures, expected one mask", hint="write one file for each mask")
    form = image.format or ""
    raw = _raw_mode(image)
    if _DEEP_COLOUR.match(raw):
        raise GensegError(f"{name}: colours of 16 bits, expected 8 bits, or grey", hint=_HINT)
    lossy = form in _LOSSY or (form == "WEBP" and not _is_lossless_webp(image)) or _is_jpeg_inside(image)
    image.load()
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    values = np.asarray(image)
    transparent = image.info.get("transparency")
    match image.mode:
        case "1":
            values = values.astype(np.uint8) * np.uint8(WHITE)
            return _Stored(values, WHITE, _keyed(values, transparent))
        case "L":
            narrow = _NARROW.match(raw)
            step = {"2": 85, "4": 17}[narrow[1]] if narrow else 1  # the decoder stretches 2 and 4 bits to 255
            return _Stored(values // np.uint8(step), WHITE // step, _keyed(values, transparent), lossy=lossy)
        case "LA":
            return _Stored(values[..., 0], WHITE, values[..., 1], lossy=lossy)
        case "P":
            return _Stored(values, WHITE, _through_palette(values, transparent), _palette(image))
        case "PA":
            return _Stored(values[..., 0], WHITE, values[..., 1], _palette(image))
        case "RGB" | "RGBX":
            return _Stored(values[..., :3], WHITE, _keyed(values[..., :3], transparent), lossy=lossy)
        case "RGBA":
            return _Stored(values[..., :3], WHITE, values[..., 3], lossy=lossy)
        case "I" | "F" | "I;16" | "I;16B" | "I;16L" | "I;16N":
            values = _whole(values, name)
            # What fits into 8 bits was written by someone who thinks in 8 bits.
            white = WHITE if values.max(initial=0) <= WHITE else 0xFFFF
            return _Stored(values, 1 if values.dtype.kind == "f" else white, _keyed(values, transparent))
    raise GensegError(f"{name}: a picture in {image.mode}, expected grey, a palette, or RGB", hint=_HINT)


def _raw_mode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    arguments = tiles[0][3]
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _is_lossless_webp(image: Image.Image) -> bool:
    stream = getattr(image, "fp", None)
    if stream is None:
        return False
    place = stream.tell()
    stream.seek(0)
    start = stream.read(4096)
    stream.seek(place)
    return b"VP8L" in start


def _is_jpeg_inside(image: Image.Image) -> bool:
    return image.format == "TIFF" and str(image.info.get("compression", "")) in {"jpeg", "tiff_jpeg", "webp"}


def _whole(values: np.ndarray, name: str) -> np.ndarray:
    """16 or 32-bit or floating-point values as uint16, or as floats from 0 to 1."""
    low, high = values.min(), values.max()  # NaN if any value is
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        return values
    if not (low >= 0 and high <= 0xFFFF) or (values.dtype.kind == "f" and (values != np.rint(values)).any()):
        raise GensegError(
            f"{name}: values from {low:g} to {high:g}, expected 0 to 1, 0 to 255, or 0 to 65535", hint=_HINT
        )
    return values.astype(np.uint16)


def _keyed(values: np.ndarray, transparent: object) -> np.ndarray | None:
    """Alpha where one value or colour stands for transparent."""
    if isinstance(transparent, int):
        return np.where(values == transparent, 0, WHITE).astype(np.uint8)
    if isinstance(transparent, tuple) and values.ndim == 3:
        return np.where((values == np.array(transparent)).all(axis=2), 0, WHITE).astype(np.uint8)
    return None


def _through_palette(values: np.ndarray, transparent: object) -> np.ndarray | None:
    """Alpha where it stands in a table by index, or one index is transparent."""
    table = np.full(256, WHITE, np.uint8)
    if isinstance(transparent, int):
        table[transparent] = 0
    elif isinstance(transparent, bytes):
        table[: len(transparent)] = np.frombuffer(transparent[:256], np.uint8)
    else:
        return None
    return table[values]


def _palette(image: Image.Image) -> np.ndarray:
    colours = np.array(image.getpalette("RGB") or [], np.int16)[: 256 * 3].reshape(-1, 3)
    return np.vstack([colours, np.full((256 - len(colours), 3), -1, np.int16)])


# ---------------------------------------------------------------- what is foreground


def _from_grey(stored: _Stored, path: Path, *, dark: bool) -> MaskPicture:
    values = stored.values
    clear = _clear(stored, values, path)
    if isinstance(clear, MaskPicture):
        return clear
    if clear is not None:
        values = np.where(clear, 0, values).astype(values.dtype)
    return _by_level(values, path, stored, dark=dark)


def _from_colours(stored: _Stored, path: Path, *, dark: bool) -> MaskPicture:
    packed = _packed(stored.values)
    clear = _clear(stored, packed, path)
    if isinstance(clear, MaskPicture):
        return clear
    values = stored.values
    if clear is not None:
        packed[clear] = 0
        values = np.where(clear[..., None], np.uint8(0), values)
    red, green, blue = (values[..., channel] for channel in range(3))
    apart = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    spread = int(apart.max(initial=0))
    if spread <= (_LOSSY_SPREAD if stored.lossy else 0):
        return _by_level(green, path, stored, dark=dark)
    if stored.lossy:
        raise GensegError(f"{path}: a mask in colours that was stored with loss, expected black and white", hint=_HINT)
    colours = _present(packed)
    if colours.size > _MOST_COLOURS:
        raise GensegError(f"{path}: {colours.size} colours, expected a mask", hint=_HINT)
    if colours[0] != 0 and colours[-1] == 0xFFFFFF:
        raise GensegError(f"{path}: white and colours, but no black: which is the background?", hint=_HINT)
    return MaskPicture(packed != 0, None)


def _from_palette(stored: _Stored, path: Path) -> MaskPicture:
    """Labels; only a palette of greys may also be a map in a smaller file."""
    indexes, palette = stored.values, stored.palette
    assert palette is not None
    clear = _clear(stored, indexes, path)
    if isinstance(clear, MaskPicture):
        return clear
    solid = indexes if clear is None else indexes[~clear]
    used = np.unique(solid)
    colours = palette[used]
    if (colours >= 0).all() and (colours == colours[:, :1]).all() and colours.max(initial=0) > CUT:
        greys = palette[:, 0].astype(np.uint8)[indexes]
        if clear is not None:
            greys[clear] = 0
        if not _are_areas(greys, _present(greys), CUT):
            return _by_level(greys, path, stored)
    background = _background(palette, used)
    mask = indexes != background
    if clear is not None:
        mask &= ~clear
    if ((used != background) & (used != _VOID)).any():
        mask &= indexes != _VOID
    return MaskPicture(mask, None)


def _background(palette: np.ndarray, used: np.ndarray) -> int:
    """The index of the background: 0 if it is black, or else the first black one that is used, or else 0."""
    if (palette[0] == 0).all():
        return 0
    black = used[(palette[used] == 0).all(axis=1)]
    return int(black[0]) if black.size else 0


def _clear(stored: _Stored, values: np.ndarray, path: Path) -> np.ndarray | MaskPicture | None:
    """Which pixels are transparent; the whole mask where transparency alone makes it; None where it says nothing."""
    alpha = stored.alpha
    if alpha is None or alpha.min() == alpha.max() != 0:
        return None
    clear = alpha == 0
    if clear.all():
        # Nothing is to be seen. If something is written beneath, nobody can say which of the two was meant.
        if values.min() != values.max():
            raise GensegError(f"{path}: all of it is transparent, and various values lie beneath", hint=_HINT)
        return MaskPicture(np.zeros(values.shape, bool), None)
    solid = values[~clear]
    if solid.min() == solid.max():
        return MaskPicture(alpha > int(alpha.max()) // 2, None)
    return clear if clear.any() else None


def _by_level(values: np.ndarray, path: Path, stored: _Stored, *, dark: bool = False) -> MaskPicture:
    """Grey values (h w) to a mask."""
    if values.dtype.kind == "f":
        soft = ((values > 0) & (values < 1)).any()
        return MaskPicture(values > 0.5, np.rint(values * WHITE).astype(np.uint8) if soft else None)
    white, cut = stored.white, stored.white // 2
    present = _present(values)
    brightest = int(present[-1])
    if brightest == 0 or (brightest == 1 and not stored.lossy):
        return MaskPicture(values > 0, None)
    labels = not stored.lossy and _are_areas(values, present, cut)
    if brightest <= cut:
        kind = GensegError if labels or stored.lossy else DarkMapError
        if kind is GensegError or not dark:
            raise _no_mask(kind, path, present, stored)
        return MaskPicture(np.zeros(values.shape, bool), _eight_bits(values, white))
    if present.tolist() == [white] or (present.size == 2 and present[0] <= cut):
        return MaskPicture(values > cut, None)
    if labels:
        raise _no_mask(GensegError, path, present, stored)
    return MaskPicture(values > cut, _eight_bits(values, white))


def _packed(colours: np.ndarray) -> np.ndarray:
    """Colours (h w 3) as one number each, black as 0, white as 0xFFFFFF."""
    packed = colours[..., 0].astype(np.uint32)
    for channel in (1, 2):
        packed <<= np.uint32(8)
        packed |= colours[..., channel]
    return packed


def _present(values: np.ndarray) -> np.ndarray:
    """The distinct values of an array of whole numbers below 2²⁴, in order."""
    seen = np.zeros(int(values.max(initial=0)) + 1, bool)
    for row in values:  # an index is eight times as large as its pixel
        seen[row] = True
    return np.flatnonzero(seen)


def _are_areas(values: np.ndarray, present: np.ndarray, cut: int) -> bool:
    """Whether values that are neither black nor bright are few and cover areas: numbers of objects, and no levels."""
    doubtful = (values > 0) & (values <= cut)
    number = int(np.count_nonzero(doubtful))
    if present.size >= FEW or not number:
        return False
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
    whole = np.ascontiguousarray(values)
    inside = (cv2.erode(whole, cross) == values) & (cv2.dilate(whole, cross) == values) & doubtful
    return int(np.count_nonzero(inside)) >= _FLAT_SHARE * number


def _no_mask(kind: type[GensegError], path: Path, present: np.ndarray, stored: _Stored) -> GensegError:
    shown = _shown([int(value) for value in present])
    if stored.lossy:
        return kind(f"{path}: grey values {shown} stored with loss, expected black and white", hint=_HINT)
    return kind(f"{path}: grey values {shown}, expected 0 and 1, or 0 and {stored.white}", hint=_HINT)


def _shown(values: Sequence[int]) -> str:
    """At most six values.

    >>> _shown([0, 1, 2, 3]), _shown(list(range(101)))
    ('0, 1, 2, 3', '0, 1, 2, … 99, 100 (101 in all)')
    """
    if len(values) <= 6:
        return ", ".join(map(str, values))
    return f"{', '.join(map(str, values[:3]))}, … {values[-2]}, {values[-1]} ({len(values)} in all)"


def _eight_bits(values: np.ndarray, white: int) -> np.ndarray:
    """Levels as uint8, white as 255."""
    if white == WHITE:
        return values.astype(np.uint8)
    return ((values.astype(np.uint32) * WHITE + white // 2) // white).astype(np.uint8)
