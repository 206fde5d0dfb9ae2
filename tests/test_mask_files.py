"""The reader of mask files: every form in which tools write a mask, and what is no mask."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import ExifTags, Image

from gensegcli.errors import GensegError
from gensegcli.mask_files import DarkMapError, read_mask

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OBJECT = np.zeros((24, 32), bool)
OBJECT[4:14, 6:20] = True
OBJECT[16:22, 24:30] = True

DAVIS = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
DARK_RED = [0, 0, 0, 128, 0, 0, *[0] * 762]


def stored(image: Image.Image, form: str = "PNG", **how: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **how)
    return stream.getvalue()


def in_colours(indexes: np.ndarray, colours: list[int], **how: Any) -> bytes:
    image = Image.fromarray(indexes.astype(np.uint8)).convert("L")
    image.putpalette(colours)
    return stored(image, **how)


def png(values: np.ndarray, bits: int, colour: int = 0) -> bytes:
    """A PNG of grey or palette values as they are, for bit depths that Pillow does not write."""
    height, width = values.shape[:2]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b""
    for row in values.reshape(height, -1).astype(np.uint16):
        digits = ((row[:, None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8).ravel()
        rows += b"\0" + np.packbits(digits).tobytes()
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def grey(mask: np.ndarray, white: int = 255, black: int = 0) -> np.ndarray:
    return np.where(mask, white, black).astype(np.uint8)


def turned(mask: np.ndarray) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return stored(Image.fromarray(grey(mask)), exif=exif.tobytes())


def on_clear(mask: np.ndarray, *colour: int, alpha: int = 255) -> np.ndarray:
    return np.where(mask[..., None], [*colour, alpha], 0).astype(np.uint8)


FORMS: dict[str, Callable[[np.ndarray], bytes]] = {
    "grey 0 and 255": lambda m: stored(Image.fromarray(grey(m))),
    "grey 0 and 1": lambda m: stored(Image.fromarray(grey(m, 1))),
    "grey 0 and 200": lambda m: stored(Image.fromarray(grey(m, 200))),
    "1 bit": lambda m: stored(Image.fromarray(m)),
    "2 bits, 0 and 1": lambda m: png(m.astype(int), 2),
    "2 bits, 0 and 3": lambda m: png(m * 3, 2),
    "4 bits, 0 and 1": lambda m: png(m.astype(int), 4),
    "4 bits, 0 and 15": lambda m: png(m * 15, 4),
    "16 bits, 0 and 1": lambda m: stored(Image.fromarray(m.astype(np.uint16))),
    "16 bits, 0 and 255": lambda m: stored(Image.fromarray(grey(m).astype(np.uint16))),
    "16 bits, 0 and 65535": lambda m: stored(Image.fromarray((m * 65535).astype(np.uint16))),
    "32 bits, 0 and 1": lambda m: stored(Image.fromarray(m.astype(np.int32)), "TIFF"),
    "float 0 and 1": lambda m: stored(Image.fromarray(m.astype(np.float32)), "TIFF"),
    "float 0 and 255": lambda m: stored(Image.fromarray(grey(m).astype(np.float32)), "TIFF"),
    "RGB grey": lambda m: stored(Image.fromarray(np.dstack([grey(m)] * 3))),
    "RGB 0 and 1": lambda m: stored(Image.fromarray(np.dstack([grey(m, 1)] * 3))),
    "RGB dark red": lambda m: stored(Image.fromarray(on_clear(m, 128, 0, 0)[..., :3])),
    "palette dark red": lambda m: in_colours(m, DARK_RED),
    "palette, black is index 1": lambda m: in_colours(~m, [255, 255, 255, 0, 0, 0]),
    "palette of greys": lambda m: in_colours(m, [0, 0, 0, 255, 255, 255]),
    "palette, dark greys": lambda m: in_colours(m * 2, [0, 0, 0, 1, 1, 1, 2, 2, 2]),
    "palette, index 255": lambda m: in_colours(m * 255, [0, 0, 0, *[9, 9, 9] * 254, 224, 224, 192]),
    "palette tRNS": lambda m: in_colours(m, DARK_RED, transparency=0),
    "palette tRNS table": lambda m: in_colours(m, [9, 9, 9, 8, 8, 8], transparency=bytes([0, 255])),
    "grey tRNS": lambda m: stored(Image.fromarray(grey(m)), transparency=0),
    "grey tRNS, black object": lambda m: stored(Image.fromarray(grey(~m)), transparency=255),
    "16-bit grey tRNS": lambda m: stored(Image.fromarray((m * 300).astype(np.uint16)), transparency=0),
    "RGB tRNS": lambda m: stored(Image.fromarray(on_clear(m, 30, 144, 255)[..., :3]), transparency=(0, 0, 0)),
    "LA": lambda m: stored(Image.fromarray(np.dstack([grey(m), grey(m)]))),
    "LA, black on clear": lambda m: stored(Image.fromarray(np.dstack([grey(m, 0), grey(m)]))),
    "LA, opaque": lambda m: stored(Image.fromarray(np.dstack([grey(m), grey(m, 255, 255)]))),
    "RGBA, colour on clear": lambda m: stored(Image.fromarray(on_clear(m, 30, 144, 255))),
    "RGBA, veil on clear": lambda m: stored(Image.fromarray(on_clear(m, 30, 144, 255, alpha=102))),
    "RGBA, white on clear": lambda m: stored(Image.fromarray(on_clear(m, 255, 255, 255))),
    "RGBA, black on clear": lambda m: stored(Image.fromarray(on_clear(m, 0, 0, 0))),
    "RGBA, opaque": lambda m: stored(Image.fromarray(np.dstack([grey(m)] * 3 + [grey(m, 255, 255)]))),
    "EXIF turn": turned,
    "BMP": lambda m: stored(Image.fromarray(grey(m)), "BMP"),
    "BMP of 1 bit": lambda m: stored(Image.fromarray(m), "BMP"),
    "TIFF": lambda m: stored(Image.fromarray(grey(m, 1)), "TIFF", compression="tiff_lzw"),
    "TIFF of 16 bits": lambda m: stored(Image.fromarray((m * 65535).astype(np.uint16)), "TIFF"),
    "GIF": lambda m: stored(Image.fromarray(grey(m)), "GIF"),
    "PGM": lambda m: stored(Image.fromarray(grey(m)), "PPM"),
    "WebP": lambda m: stored(Image.fromarray(on_clear(m, 200, 9, 9)[..., :3]), "WEBP", lossless=True),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["objects", "empty"])
def test_every_form_reads_back(tmp_path: Path, form: str, kind: str) -> None:
    mask = OBJECT if kind == "objects" else np.zeros_like(OBJECT)
    (tmp_path / "m").write_bytes(FORMS[form](mask))

    found = read_mask(tmp_path / "m")

    np.testing.assert_array_equal(found.mask, mask)
    assert found.mask.dtype == bool
    assert found.levels is None


# Where all is transparent or nothing is, or one colour fills the file, these forms cannot say what they mean.
OPAQUE = sorted(FORMS.keys() - {"palette, black is index 1", "grey tRNS, black object", "16-bit grey tRNS"})


@given(
    mask=arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)),
    form=st.sampled_from([form for form in OPAQUE if "black on clear" not in form and "tRNS" not in form]),
)
def test_any_mask_in_any_form(tmp_path_factory: pytest.TempPathFactory, mask: np.ndarray, form: str) -> None:
    path = tmp_path_factory.mktemp("m") / "m"
    path.write_bytes(FORMS[form](mask))

    np.testing.assert_array_equal(read_mask(path).mask, mask)


@given(mask=arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=12)))
def test_any_mask_by_transparency(tmp_path_factory: pytest.TempPathFactory, mask: np.ndarray) -> None:
    mask[0, 0], mask[-1, -1] = True, False
    for form in (form for form in FORMS if "clear" in form or "tRNS" in form):
        path = tmp_path_factory.mktemp("m") / "m"
        path.write_bytes(FORMS[form](mask))
        np.testing.assert_array_equal(read_mask(path).mask, mask, err_msg=form)


def test_objects_in_a_palette(tmp_path: Path) -> None:
    """Objects 1 to 3 as DAVIS stores them; in VOC's files 255 is the outline, which belongs to no object."""
    indexes = OBJECT.astype(np.uint8)
    indexes[16:22, 24:30] = 3
    (tmp_path / "davis").write_bytes(in_colours(indexes, DAVIS))
    outlined = np.where(indexes > 0, indexes, 0)
    outlined[3, 5:21] = 255
    (tmp_path / "voc").write_bytes(in_colours(outlined, [*DAVIS, *[5, 5, 5] * 251, 224, 224, 192]))
    (tmp_path / "clear").write_bytes(in_colours(indexes, DAVIS, transparency=0))

    for name in ("davis", "voc", "clear"):
        np.testing.assert_array_equal(read_mask(tmp_path / name).mask, OBJECT, err_msg=name)


def test_objects_in_colours(tmp_path: Path) -> None:
    colours = np.zeros((24, 32, 3), np.uint8)
    colours[OBJECT] = (128, 0, 0)
    colours[16:22, 24:30] = (0, 0, 90)
    (tmp_path / "m").write_bytes(stored(Image.fromarray(colours)))

    np.testing.assert_array_equal(read_mask(tmp_path / "m").mask, OBJECT)


def numbered(*values: int) -> np.ndarray:
    """Areas of 8 × 8 pixels, each of one value."""
    tiles = np.array([0, *values, *[0] * (-(len(values) + 1) % 4)]).reshape(-1, 4)
    return np.kron(tiles, np.ones((8, 8), int))


REFUSED: dict[str, tuple[bytes, str]] = {
    "0 and 2": (stored(Image.fromarray(grey(OBJECT, 2))), "grey values 0, 2, expected 0 and 1, or 0 and 255"),
    "ids": (stored(Image.fromarray(numbered(1, 2, 3).astype(np.uint8))), "grey values 0, 1, 2, 3, expected"),
    "ids up to 150": (stored(Image.fromarray(numbered(3, 17, 150).astype(np.uint8))), "grey values 0, 3, 17, 150"),
    "ids and void": (stored(Image.fromarray(numbered(1, 15, 255).astype(np.uint8))), "grey values 0, 1, 15, 255"),
    "unknown": (stored(Image.fromarray(numbered(127, 255, 255).astype(np.uint8))), "grey values 0, 127, 255"),
    "per cent": (stored(Image.fromarray(np.arange(101, dtype=np.uint8)[None])), "0, 1, 2, … 99, 100 (101 in all)"),
    "16-bit id": (
        stored(Image.fromarray((OBJECT * 26001).astype(np.uint16))),
        "0, 26001, expected 0 and 1, or 0 and 65",
    ),
    "12 bits": (stored(Image.fromarray((OBJECT * 4095).astype(np.uint16))), "grey values 0, 4095"),
    "16-bit ids": (stored(Image.fromarray(numbered(1, 2, 3).astype(np.uint16))), "grey values 0, 1, 2, 3"),
    "4-bit ids": (png(numbered(1, 2, 3), 4), "grey values 0, 1, 2, 3, expected 0 and 1, or 0 and 15"),
    "negative": (stored(Image.fromarray(-OBJECT.astype(np.int32)), "TIFF"), "values from -1 to 0"),
    "logits": (stored(Image.fromarray(OBJECT * np.float32(3.5)), "TIFF"), "values from 0 to 3.5"),
    "not a number": (stored(Image.fromarray(OBJECT * np.float32("nan")), "TIFF"), "values from nan to nan"),
    "RGB ids": (stored(Image.fromarray(np.dstack([grey(OBJECT, 2)] * 3))), "grey values 0, 2"),
    "RGB of 16 bits": (png(np.dstack([OBJECT] * 3).astype(int), 16, colour=2), "colours of 16 bits"),
    "colours in a JPEG": (stored(Image.fromarray(on_clear(OBJECT, 255, 0, 0)[..., :3]), "JPEG"), "with loss"),
    "0 and 1 in a JPEG": (stored(Image.fromarray(grey(OBJECT, 1)), "JPEG"), "stored with loss"),
    "colours in a WebP": (stored(Image.fromarray(on_clear(OBJECT, 255, 0, 0)[..., :3]), "WEBP"), "with loss"),
    "a photo": (
        stored(Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))),
        "colours, expected a mask",
    ),
    "colours on white": (
        stored(Image.fromarray(np.where(OBJECT[..., None], (255, 0, 0), 255).astype(np.uint8))),
        "no black: which is the background?",
    ),
    "hidden": (
        stored(Image.fromarray(np.dstack([grey(OBJECT)] * 3 + [np.zeros_like(grey(OBJECT))]))),
        "all of it is transparent",
    ),
    "CMYK": (stored(Image.new("CMYK", (4, 4)), "TIFF"), "a picture in CMYK"),
    "several pages": (
        stored(Image.new("L", (4, 4)), "TIFF", save_all=True, append_images=[Image.new("L", (4, 4))]),
        "holds 2 pictures",
    ),
    "animation": (
        stored(Image.new("L", (4, 4)), "GIF", save_all=True, append_images=[Image.new("L", (4, 4), 255)]),
        "holds 2 pictures",
    ),
    "cut short": (stored(Image.fromarray(grey(OBJECT)))[:-30], "the picture is"),
    "text": (b"no picture", "not a picture"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_mask_is_named_with_its_values(tmp_path: Path, what: str) -> None:
    content, message = REFUSED[what]
    (tmp_path / "m").write_bytes(content)

    with pytest.raises(GensegError) as caught:
        read_mask(tmp_path / "m")

    assert message in caught.value.message
    assert str(tmp_path / "m") in caught.value.message
    assert "\n" not in caught.value.message


# ---------------------------------------------------------------- levels


def ramp(low: int, high: int, side: int = 40) -> np.ndarray:
    return np.linspace(low, high, side * side).reshape(side, side).astype(np.uint8)


@pytest.mark.parametrize(
    ("content", "levels"),
    [
        (stored(Image.fromarray(ramp(0, 255))), ramp(0, 255)),
        (stored(Image.fromarray(ramp(0, 180))), ramp(0, 180)),
        (stored(Image.fromarray(np.dstack([ramp(0, 255)] * 3))), ramp(0, 255)),
        (stored(Image.fromarray(ramp(0, 255).astype(np.uint16) * 257)), ramp(0, 255)),
        (stored(Image.fromarray(ramp(0, 255) / np.float32(255)), "TIFF"), ramp(0, 255)),
        (stored(Image.fromarray(ramp(0, 255)).convert("P")), None),
    ],
)
def test_levels_are_cut_and_kept(tmp_path: Path, content: bytes, levels: np.ndarray | None) -> None:
    (tmp_path / "m").write_bytes(content)
    expected = ramp(0, 255) if levels is None else levels

    found = read_mask(tmp_path / "m")

    np.testing.assert_array_equal(found.mask, expected > 127)
    assert found.levels is not None
    np.testing.assert_array_equal(found.levels, expected)


def test_smoothed_edges_are_levels_and_no_objects(tmp_path: Path) -> None:
    """A rectangle made smaller by averaging has one or two greys along its sides."""
    large = np.zeros((96, 128), np.uint8)
    large[21:70, 33:90] = 255
    small = np.asarray(Image.fromarray(large).reduce(4))
    assert 2 < np.unique(small).size < 8
    (tmp_path / "m").write_bytes(stored(Image.fromarray(small)))

    np.testing.assert_array_equal(read_mask(tmp_path / "m").mask, small > 127)


def test_two_levels_are_a_mask(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(stored(Image.fromarray(grey(OBJECT, 180, 40))))

    found = read_mask(tmp_path / "m")

    np.testing.assert_array_equal(found.mask, OBJECT)
    assert found.levels is None


def test_black_and_white_in_a_jpeg(tmp_path: Path) -> None:
    for mode in ("L", "RGB"):
        (tmp_path / "m").write_bytes(stored(Image.fromarray(grey(OBJECT)).convert(mode), "JPEG", quality=95))
        np.testing.assert_array_equal(read_mask(tmp_path / "m").mask, OBJECT)


def test_a_dark_map_is_unclear_unless_the_others_are_brighter(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(stored(Image.fromarray(ramp(0, 90))))

    with pytest.raises(DarkMapError, match="89, 90"):
        read_mask(tmp_path / "m")
    found = read_mask(tmp_path / "m", dark=True)
    assert not found.mask.any()
    assert found.levels is not None
    np.testing.assert_array_equal(found.levels, ramp(0, 90))
