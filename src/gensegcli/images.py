"""Any picture a user may give, as a plain 8-bit RGB picture in the orientation in which it is displayed.

What happens on the way, so that box and mask coordinates always refer to the picture as a viewer shows it:

- EXIF orientation is applied; damaged EXIF data counts as none.
- Transparency is composited on white.
- 16-bit channels are scaled to 8 bits (65535 becomes 255), never clipped.
- CMYK becomes RGB without colour management; Adobe's inverted form is understood.
- Of an animation or a multi-page file the first frame is taken.
- Size and the memory that reading takes are checked from the header, before anything is decoded: at most ten bytes for
  each pixel of the largest picture allowed, 1 GB. Metadata is left out before a decoder sees it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
import re
import stat
import struct
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from gensegcli.download import download, is_url, public_form, record_form
from gensegcli.errors import ExitCode, GensegError
from gensegcli.lean import BloatedError, exif_of, lean, orientation_in
from gensegcli.records import Size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

ImageSource = str | Path | bytes | Image.Image | np.ndarray
"""A path or http(s) address, an encoded picture, or a decoded one (arrays: RGB order)."""

MAX_PIXELS = 100_000_000
"""Largest picture read unless told otherwise: 100 megapixels, 400 MB as Pillow keeps RGB."""

MAX_BYTES_PER_PIXEL = 10
"""Of memory while a picture is read, for the largest allowed; in formats that take more, the largest is smaller."""

_BAND = 1 << 20
"""Pixels that are converted at a time."""

_DECODED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Bytes of a decoded pixel by mode; 4 in every other one."""

_AT_THE_PEAK = {"WEBP": 17, "AVIF": 15, "HEIF": 15, "JPEG2000": 25}
"""Bytes a pixel where a decoder needs more than the picture decoded and the result beside it; measured."""

_IN_MEMORY = frozenset({"AVIF", "GIF", "HEIF", "JPEG", "MPO", "PNG", "WEBP"})
"""Formats whose files are read as a whole."""

_BESIDES = 64 << 20
"""Bytes that do not grow with the picture."""

SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".mpo"}
    | {".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""Endings by which a picture is recognised in a folder. A file named outright may have any: its content decides."""

HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
"""Endings of what iPhones and many cameras write. Read where pillow-heif is installed, which is the extra `heic`."""

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
"""Kinds of HEIF that are pictures; AVIF has brands and a decoder of its own."""

# Only these decoders are let near foreign bytes; Pillow has dozens, and one of them (EPS) runs another program.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "JPEG2000", "PPM", "AVIF")

# What Pillow's decoders raise on damaged files.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

_DATA = re.compile(r"data:[^,\n]{0,200},", re.IGNORECASE)
"""Of addresses that hold the picture itself, as long as it is."""

_header_lock = threading.Lock()


def read_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS, timeout: float = 20.0) -> Image.Image:
    """A picture as 8-bit RGB, upright, decoded, without metadata.

    Args:
        source: path, http(s) address, encoded bytes, Pillow picture, or array: (h w), (h w 1), (h w 3) or (h w 4),
            RGB order; uint8 or uint16 at full range, bool, or float in [0, 1].
        max_pixels: pictures with more pixels are refused before they are decoded.
        timeout: seconds for each wait on the network, for addresses.

    Raises:
        GensegError: missing, unreadable, damaged or too large; one line that names the picture.
    """
    check_source(source)
    if isinstance(source, Image.Image):
        _check_size(source.size, "the given picture", max_pixels)
        return _decode(source, "the given picture")
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, bytes):
        return _from_stream(io.BytesIO(source), f"the given {len(source)} bytes", max_pixels, _decode)
    if isinstance(source, str) and _DATA.match(source):
        message = f"{image_name(source)}: a picture within an address, which is not read"
        raise GensegError(message, hint="decode it into a file, and name that")
    if isinstance(source, str) and is_url(source):
        return _from_stream(io.BytesIO(download(source, timeout=timeout)), public_form(source), max_pixels, _decode)
    return _from_file(Path(source), max_pixels, _decode)


def sound_size(picture: bytes) -> Size:
    """Width and height of an encoded picture as `read_image` gives it, without decoding the pixels of a sound one.

    The header of a JPEG or PNG gives the size, and how the file ends says whether it was cut short. Other formats, and
    what does not end as it should, are decoded.

    Raises:
        GensegError: as `read_image`.
    """

    def measured(image: Image.Image, name: str) -> Size:
        if not _ends_well(picture, image.format):
            return Size(*_decode(image, name).size)
        # Pillow would decode a PNG to find EXIF data behind the pixels.
        may_turn = image.format != "PNG" or b"eXIf" in picture
        turned = may_turn and _TURNS.get(_orientation(image)) in _ON_ITS_SIDE
        return Size(*reversed(image.size)) if turned else Size(*image.size)

    name = f"the given {len(picture)} bytes"
    try:
        return _from_stream(io.BytesIO(picture), name, MAX_PIXELS, measured)
    except _DAMAGED:  # its EXIF data, which count as none
        return Size(*read_image(picture).size)


def _ends_well(picture: bytes, kind: str | None) -> bool:
    """Whether a file has the mark that ends a JPEG (after its last scan) or a PNG; what follows it does not matter."""
    if kind == "PNG":
        return picture.rfind(b"IEND\xaeB`\x82") >= 0
    return kind in ("JPEG", "MPO") and picture.find(b"\xff\xd9", picture.rfind(b"\xff\xda")) >= 0


def open_as(path: Path, use: Callable[[Image.Image, str], T], *, max_pixels: int = MAX_PIXELS) -> T:
    """What `use` makes of a picture file that is as its decoder gives it: nothing turned, composited or converted.

    Args:
        path: the file; its format and size are checked as `read_image` does.
        use: takes the picture, not yet decoded, and the name that errors call it by.
        max_pixels: pictures with more pixels are refused before they are decoded.

    Raises:
        GensegError: as `read_image`, or what `use` raises.
    """

    def careful(image: Image.Image, name: str) -> T:
        try:
            return use(image, name)
        except _DAMAGED as error:
            raise _damaged(name, error) from None

    return _from_file(path, max_pixels, careful, frames=True)


def heif_ready() -> bool:
    """Whether HEIC pictures can be read here."""
    return importlib.util.find_spec("pillow_heif") is not None


def readable_suffixes() -> frozenset[str]:
    """Endings by which a picture is recognised in a folder, with what is installed here."""
    return SUFFIXES | HEIF_SUFFIXES if heif_ready() else SUFFIXES


class FileStamp(NamedTuple):
    """What tells one content of a file from the next without reading it."""

    size: int
    """Bytes."""
    modified: int
    """Nanoseconds since 1970."""


def file_stamp(source: ImageSource) -> FileStamp | None:
    """The stamp of a local file; None for what has none: addresses, pictures in memory, files that are gone."""
    if not isinstance(source, str | Path) or is_url(str(source)):
        return None
    try:
        found = Path(source).stat()
    except (OSError, ValueError):  # reading it will say what is wrong
        return None
    return FileStamp(found.st_size, found.st_mtime_ns)


def image_name(source: ImageSource) -> str:
    """What a record calls a picture: its path as given, its address without secrets, or a digest of its content.

    Addresses lose user, password, query and fragment; a digest of the query stands for it, so that pictures that
    differ only there keep apart. A picture that was decoded before is named by its pixels as `read_image` gives them.

    Raises:
        GensegError: not a picture, or a decoded one that `read_image` refuses.

    >>> image_name("photos/a.jpg"), image_name(b"")
    ('photos/a.jpg', 'bytes:e3b0c44298fc1c14')
    >>> image_name("https://me:secret@example.org/a.jpg?signature=abc")
    'https://example.org/a.jpg?sha256=586438516752'
    """
    check_source(source)
    if isinstance(source, str) and _DATA.match(source):
        digest = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return f"{source.partition(',')[0][:60]},sha256={digest}"
    if isinstance(source, str | Path):
        return record_form(str(source)) if is_url(str(source)) else str(source)
    if isinstance(source, bytes):
        return f"bytes:{hashlib.sha256(source).hexdigest()[:16]}"
    # Not the given values: two palette pictures may hold the same indices of other colours.
    pixels = np.asarray(read_image(source))
    digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype.str} ".encode())
    digest.update(pixels.tobytes())
    return f"pixels:{digest.hexdigest()[:16]}"


def check_source(source: object) -> None:
    """Refuse what cannot be a picture.

    Raises:
        GensegError: it has none of the types of `ImageSource`.
    """
    if not isinstance(source, str | Path | bytes | Image.Image | np.ndarray):
        raise GensegError(
            f"the picture is {type(source).__name__}, expected a path, an address, bytes, a Pillow picture or an array"
        )


# ---------------------------------------------------------------- bytes


def _from_file(path: Path, max_pixels: int, use: Callable[[Image.Image, str], T], *, frames: bool = False) -> T:
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise GensegError(f"{path}: not a regular file")  # opening a pipe would wait for ever
        with path.open("rb") as stream:
            return _from_stream(stream, str(path), max_pixels, use, frames=frames)
    except FileNotFoundError:
        raise GensegError(f"{path}: no such file", code=ExitCode.NOT_FOUND) from None
    except IsADirectoryError:
        raise GensegError(f"{path}: a folder, not a picture") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        reason = error.strerror if isinstance(error, OSError) else error
        shown = f"{str(path)[:200]}…" if len(str(path)) > 200 else path
        raise GensegError(f"{shown}: cannot be read ({reason})", code=ExitCode.NOT_FOUND) from None


def _from_stream(
    stream: BinaryIO, name: str, max_pixels: int, use: Callable[[Image.Image, str], T], *, frames: bool = False
) -> T:
    start = stream.read(12)
    if not start:
        raise GensegError(f"{name}: empty, not a picture", hint="get the file again from where it came")
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    heif = start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS
    if heif and not heif_ready():
        raise GensegError(
            f"{name}: a HEIC picture, which needs pillow-heif",
            hint="pip install pillow-heif, or convert it to JPEG first",
            code=ExitCode.ENVIRONMENT,
        )
    try:
        image = _open_header(stream, heif=heif, frames=frames)
    except UnidentifiedImageError:
        if heif:
            raise _damaged(name, ValueError("HEIC that cannot be opened")) from None
        if start.startswith(b"%PDF"):
            raise GensegError(f"{name}: a PDF, not a picture", hint="export its pages as PNG or JPEG") from None
        raise GensegError(
            f"{name}: not a picture that can be read (it begins with {start[:8]!r})",
            hint=f"known formats: {', '.join(_FORMATS)}",
        ) from None
    except BloatedError as error:
        raise GensegError(f"{name}: not read ({error})", hint="save it again with another program") from None
    except _DAMAGED as error:
        raise _damaged(name, error) from None
    with image:
        _check_size(image.size, name, max_pixels)
        _check_memory(image, name, max_pixels, size)
        return use(image, name)


def _open_header(stream: BinaryIO, *, heif: bool = False, frames: bool = False) -> Image.Image:
    """Open without decoding. Pillow's own size check is a process-wide setting of other numbers; ours replaces it."""
    Image.init()
    if heif:
        # Registered only when such a picture comes: whoever imports this module keeps Pillow as it is.
        importlib.import_module("pillow_heif").register_heif_opener()
    formats = [name for name in (("HEIF",) if heif else _FORMATS) if name in Image.OPEN]
    with _header_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(lean(stream, frames=frames), formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    if image.format == "WEBP" and "exif" in image.info:
        image.info["exif"] = exif_of(orientation_in(image.info["exif"]))
    return image


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise GensegError(f"{name}: has no pixels ({width}×{height})")
    if width * height > max_pixels:
        raise GensegError(
            f"{name}: {width}×{height} is {width * height / 1e6:.0f} megapixels, more than the limit of "
            f"{max_pixels / 1e6:g}",
            hint="make it smaller first",
        )


def _check_memory(image: Image.Image, name: str, max_pixels: int, file: int) -> None:
    """Refuse a picture of which reading would take too much memory.

    Args:
        image: its header.
        name: how errors call it.
        max_pixels: the largest picture allowed.
        file: bytes of the file.
    """
    each = _AT_THE_PEAK.get(str(image.format), _DECODED.get(image.mode, 4) + 4)
    needed = image.width * image.height * each + (file if image.format in _IN_MEMORY else 0)
    limit = MAX_BYTES_PER_PIXEL * max_pixels + _BESIDES
    if needed > limit:
        raise GensegError(
            f"{name}: {image.width}×{image.height} as {image.format} takes {needed / 1e9:.1f} GB to read, more than the "
            f"limit of {limit / 1e9:.1f}",
            hint="make it smaller first, or save it as JPEG or PNG",
        )


def _damaged(name: str, error: BaseException) -> GensegError:
    reason = str(error) or type(error).__name__
    kind = "cut short" if "truncated" in reason.lower() else "damaged"
    return GensegError(f"{name}: the picture is {kind} ({reason})", hint="get the file again from where it came")


# ---------------------------------------------------------------- pixels


def _decode(image: Image.Image, name: str) -> Image.Image:
    try:
        image.load()
        return _upright_rgb(image, name)
    except _DAMAGED as error:
        raise _damaged(name, error) from None


def _upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """The picture as RGB, upright: a band of rows at a time, so that no second whole picture is needed."""
    turn = _TURNS.get(_orientation(image))
    width, height = image.size
    result = Image.new("RGB", (height, width) if turn in _ON_ITS_SIDE else (width, height))
    _check_values(image, name)
    for box in _bands(width, height):
        band = _to_rgb(image.crop(box))
        if turn is None:
            result.paste(band, box)
        else:
            result.paste(band.transpose(turn), _turned(box, turn, height))
    return result


def _bands(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    rows = max(_BAND // width, 1)
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)


def _turned(box: tuple[int, int, int, int], turn: Image.Transpose, height: int) -> tuple[int, int]:
    """Left and top of a band in the picture that is turned."""
    _, top, _, bottom = box
    below = height - bottom
    return {
        Image.Transpose.FLIP_LEFT_RIGHT: (0, top),
        Image.Transpose.ROTATE_180: (0, below),
        Image.Transpose.FLIP_TOP_BOTTOM: (0, below),
        Image.Transpose.TRANSPOSE: (top, 0),
        Image.Transpose.ROTATE_270: (below, 0),
        Image.Transpose.TRANSVERSE: (below, 0),
        Image.Transpose.ROTATE_90: (top, 0),
    }[turn]


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


_ON_ITS_SIDE = frozenset(
    {
        Image.Transpose.TRANSPOSE,
        Image.Transpose.ROTATE_270,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
    }
)


def orientation(data: bytes) -> int:
    """EXIF's orientation of an encoded picture, 1 to 8; 1 (as it is stored) where there is none that can be read."""
    try:
        with _open_header(io.BytesIO(data)) as image:
            return _orientation(image)
    except _DAMAGED:  # an unknown format among them; reading it will say what is wrong
        return 1


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGED:
        return 1
    return found if found in _TURNS else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _DEEP:
        return _DEEP[image.mode](np.asarray(image))
    if image.has_transparency_data:
        return _on_white(image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _from_16_bit(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(_eight_bit(pixels.astype(np.uint16))).convert("RGB")


def _from_float(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(pixels * 255.0).astype(np.uint8)).convert("RGB")


_DEEP: dict[str, Callable[[np.ndarray], Image.Image]] = {
    "I;16": _from_16_bit,
    "I;16B": _from_16_bit,
    "I;16L": _from_16_bit,
    "I;16N": _from_16_bit,
    "I": _from_16_bit,
    "F": _from_float,
}


def _eight_bit(pixels: np.ndarray) -> np.ndarray:
    """uint16 to the nearest uint8, 65535 to 255."""
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _check_values(image: Image.Image, name: str) -> None:
    """Refuse values of 32 bits of which nobody knows which is white. Some 16-bit greys arrive as such."""
    if image.mode in ("I", "F"):
        bands = (np.asarray(image.crop(box)) for box in _bands(*image.size))
        _check_range(np.array([[band.min(), band.max()] for band in bands]), name)


def _check_range(values: np.ndarray, name: str) -> None:
    low, high = values.min(), values.max()  # NaN if any value is
    if values.dtype.kind == "f" and not (low >= 0.0 and high <= 1.0):
        raise _no_white(name, f"floating-point values from {low:g} to {high:g}", "0 to 1")
    if low < 0 or high > 0xFFFF:
        raise _no_white(name, f"32-bit values from {low} to {high}", "0 to 65535")


def _no_white(name: str, found: str, expected: str) -> GensegError:
    return GensegError(f"{name}: {found}, expected {expected}", hint="convert it to 8 or 16 bits a channel first")


def _from_array(pixels: np.ndarray, max_pixels: int) -> Image.Image:
    name = "the given array"
    shape = " ".join(map(str, pixels.shape))
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise GensegError(f"{name}: shape ({shape}), expected (h w), (h w 1), (h w 3) or (h w 4)")
    _check_size((pixels.shape[1], pixels.shape[0]), name, max_pixels)
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    elif pixels.dtype == np.uint16:
        pixels = _eight_bit(pixels)
    elif np.issubdtype(pixels.dtype, np.floating):
        _check_range(pixels, name)
        pixels = np.rint(pixels * 255.0).astype(np.uint8)
    elif pixels.dtype != np.uint8:
        raise GensegError(f"{name}: dtype {pixels.dtype}, expected uint8, uint16, bool, or float in [0, 1]")
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return _on_white(image) if image.mode == "RGBA" else image.convert("RGB")
