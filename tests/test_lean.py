"""What stands beside the picture in a file costs neither time nor memory, and the picture comes out as it was."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import time
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from gensegcli.errors import GensegError
from gensegcli.images import orientation, read_image
from gensegcli.lean import exif_of, lean, orientation_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COLOURS = np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8)
PICTURE = Image.fromarray(COLOURS)


def encoded(form: str, image: Image.Image = PICTURE, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def in_png(*chunks: bytes) -> bytes:
    data = encoded("PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def in_jpeg(*segments: bytes, **options: object) -> bytes:
    data = encoded("JPEG", **options)
    return data[:2] + b"".join(segments) + data[2:]


def in_gif(*blocks: bytes) -> bytes:
    data = encoded("GIF", PICTURE.convert("P"))
    place = 13 + 3 * 256
    return data[:place] + b"".join(blocks) + data[place:]


def overlapping(order: str, count: int, size: int) -> bytes:
    """A TIFF with many tags, all of which refer to the same bytes."""
    head = {"<": b"II\x2a\0", ">": b"MM\0\x2a"}[order] + struct.pack(f"{order}IH", 8, count)
    tags = b"".join(struct.pack(f"{order}HHII", 40_000 + number % 20_000, 7, size, 8) for number in range(count))
    return head + tags + bytes(4) + bytes(size)


def riff(form: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + form + body


def webp_with_exif(exif: bytes) -> bytes:
    plain = encoded("WEBP", lossless=True)
    size = struct.pack("<I", 59)[:3] + struct.pack("<I", 39)[:3]
    return riff(b"WEBP", (b"VP8X", b"\x08\0\0\0" + size), (plain[12:16], plain[20:]), (b"EXIF", exif))


# ---------------------------------------------------------------- pictures that are read


@pytest.mark.parametrize(
    "chunk_of_much",
    [
        chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"iTXt", b"k\0\0\0\0\0" + b"x" * 3_000_000),
        chunk(b"tEXt", b"prompt\0" + b"x" * 3_000_000),
        chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"tEXt", b"k\0" + b"x" * 900_000) * 80,  # more than 64 MB of texts in all
        chunk(b"eXIf", b"MM\0\x2a" + b"\xff" * 100),
        chunk(b"prVt", bytes(5_000_000)),
    ],
    ids=["zTXt", "compressed iTXt", "iTXt", "tEXt", "iCCP", "many tEXt", "damaged eXIf", "private"],
)
def test_a_png_with_large_texts_is_sound(chunk_of_much: bytes) -> None:
    """Blender and ComfyUI write such; OpenCV and every viewer read them."""
    np.testing.assert_array_equal(np.asarray(read_image(in_png(chunk_of_much))), COLOURS)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("transparent", [False, True])
def test_a_png_of_any_mode_is_what_pillow_reads(mode: str, *, transparent: bool) -> None:
    image = Image.fromarray(COLOURS[..., 0].astype(np.uint16)) if mode == "I;16" else PICTURE.convert(mode)
    options = (
        {"transparency": 3 if mode in "1LP" else (3, 4, 5)} if transparent and mode in {"1", "L", "P", "RGB"} else {}
    )
    data = encoded("PNG", image, pnginfo=texts(), **options)
    with Image.open(io.BytesIO(data)) as whole, Image.open(lean(io.BytesIO(data))) as less:
        assert (whole.mode, whole.size) == (less.mode, less.size)
        assert whole.info.get("transparency") == less.info.get("transparency")
        assert whole.getpalette() == less.getpalette()
        assert whole.tobytes() == less.tobytes()
        assert set(less.info) <= {"transparency"}


def texts() -> PngImagePlugin.PngInfo:
    found = PngImagePlugin.PngInfo()
    found.add_text("a", "b" * 1000, zip=True)
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"restart_marker_rows": 1},
        {"comment": b"x" * 60_000},
        {"icc_profile": b"x" * 300_000},
    ],
)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_of_any_kind_is_what_pillow_reads(mode: str, options: dict[str, object]) -> None:
    data = encoded("JPEG", PICTURE.convert(mode), exif=exif_of(1), **options)
    with Image.open(io.BytesIO(data)) as whole, Image.open(lean(io.BytesIO(data))) as less:
        assert (whole.mode, whole.tobytes()) == (less.mode, less.tobytes())


def test_several_pictures_in_one_file() -> None:
    others = [PICTURE.transpose(Image.Transpose.ROTATE_180)] * 3
    for form, options in (("MPO", {}), ("PNG", {"default_image": True}), ("PNG", {}), ("GIF", {})):
        image = PICTURE.convert("P") if form == "GIF" else PICTURE
        data = encoded(form, image, save_all=True, append_images=others, **options)
        with Image.open(io.BytesIO(data)) as whole:
            count, first = getattr(whole, "n_frames", 1), np.asarray(whole.convert("RGB"))
        np.testing.assert_array_equal(np.asarray(read_image(data)), first)
        with Image.open(lean(io.BytesIO(data), frames=True)) as kept:
            assert getattr(kept, "n_frames", 1) == count
            np.testing.assert_array_equal(np.asarray(kept.convert("RGB")), first)


# ---------------------------------------------------------------- orientation

EXIF = Image.Exif()
EXIF.update({0x010E: "a description", 0x0132: "2020:01:01 00:00:00", 0x0112: 6, 0x8298: "c" * 500})

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize(
    "data",
    [
        encoded("JPEG", exif=EXIF.tobytes()),
        encoded("PNG", exif=EXIF.tobytes()),
        encoded("WEBP", exif=EXIF.tobytes()),
        encoded("TIFF", exif=EXIF),
        in_jpeg(segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"), segment(0xE1, EXIF.tobytes())),
        in_jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)),
        in_png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
    ],
    ids=["JPEG", "PNG", "WebP", "TIFF", "JPEG with JFIF", "XMP in a JPEG", "XMP in a PNG"],
)
def test_the_orientation_is_kept(data: bytes) -> None:
    assert orientation(data) == 6
    assert read_image(data).size == (40, 60)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [3, 4])
def test_the_orientation_in_exif_data(order: str, kind: int) -> None:
    value = struct.pack(order + {3: "H2x", 4: "I"}[kind], 7)
    tags = struct.pack(f"{order}HHI", 0x0100, 3, 1) + bytes(4) + struct.pack(f"{order}HHI", 0x0112, kind, 1) + value
    exif = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HIH", 42, 8, 2) + tags + bytes(4)
    assert orientation_in(exif) == orientation_in(b"Exif\0\0" + exif) == 7
    read = Image.Exif()
    read.load(exif)
    assert read[0x0112] == 7


@pytest.mark.parametrize("value", range(1, 9))
def test_exif_data_of_one_tag(value: int) -> None:
    assert orientation_in(exif_of(value)) == value


def test_no_bytes_are_too_odd() -> None:
    draw = random.Random(3)
    whole = EXIF.tobytes()
    for _ in range(3000):
        mutated = bytearray(whole)
        for _ in range(draw.randrange(1, 6)):
            mutated[draw.randrange(len(mutated))] = draw.randrange(256)
        assert 1 <= orientation_in(bytes(mutated[: draw.randrange(len(mutated))])) <= 8


# ---------------------------------------------------------------- files that cost more than their picture

SCANS = encoded("JPEG", Image.new("L", (16, 16)), progressive=True)


def with_scans(count: int, width: int, height: int) -> bytes:
    """A progressive JPEG whose scans say nothing new."""
    start = SCANS.index(b"\xff\xda")
    size = SCANS.index(b"\xff\xc2") + 5
    head = SCANS[:size] + struct.pack(">HH", height, width) + SCANS[size + 4 : start]
    scan = SCANS[start : SCANS.index(b"\xff\xda", start + 2)]
    return head + scan * count + b"\xff\xd9"


READ = [
    ("JPEG with 300,000 Exif segments", lambda: in_jpeg(segment(0xE1, b"Exif\0\0MM\0*") * 300_000)),
    (
        "JPEG with 1 MB of Exif that overlaps",
        lambda: in_jpeg(*[segment(0xE1, b"Exif\0\0" + overlapping(">", 3000, 20_000))] * 15),
    ),
    ("JPEG with 300,000 comments", lambda: in_jpeg(segment(0xFE, b"x") * 300_000)),
    ("JPEG with 20 MB of nothing", lambda: in_jpeg(bytes(20_000_000))),
    ("JPEG with 20 MB of filling", lambda: in_jpeg(b"\xff" * 20_000_000)),
    ("PNG with 300,000 chunks", lambda: in_png(chunk(b"tEXt", b"a\0b") * 300_000)),
    ("PNG with Exif that overlaps", lambda: in_png(chunk(b"eXIf", overlapping("<", 65_000, 100_000)))),
    ("GIF with 10 MB of comment", lambda: in_gif(b"\x21\xfe" + (b"\xff" + b"x" * 255) * 40_000 + b"\0")),
    ("GIF with 50,000 comments", lambda: in_gif(b"\x21\xfe\x01x\0" * 50_000)),
    ("WebP with Exif that overlaps", lambda: webp_with_exif(overlapping("<", 65_000, 100_000))),
]

REFUSED = [
    ("JPEG with a million segments", lambda: in_jpeg(segment(0xE1, b"Exif\0\0") * 1_000_000), "500,000 parts"),
    ("PNG with a million chunks", lambda: in_png(chunk(b"tEXt", b"a\0b") * 1_000_000), "500,000 parts"),
    ("GIF with a million blocks", lambda: in_gif(b"\x21\xfe" + b"\x01x" * 1_000_000 + b"\0"), "500,000 parts"),
    ("JPEG with 400 scans", lambda: with_scans(400, 4000, 4000), "scans over 16 megapixels"),
    ("TIFF with tags that overlap", lambda: overlapping("<", 65_000, 1_000_000), "same bytes many times"),
    ("the same, the other way round", lambda: overlapping(">", 65_000, 1_000_000), "same bytes many times"),
    ("TIFF with strips that overlap", lambda: tiff_with_strips(1_000_000), "strips that refer to the same bytes"),
    (
        "TIFF with numbers that overlap",
        lambda: overlapping("<", 60_000, 60_000).replace(b"\7\0", b"\3\0"),
        "numbers in its tags",
    ),
]


def tiff_with_strips(count: int) -> bytes:
    numbers = struct.pack("<I", 4 * count) * count
    tags = [(256, 4, 1, 60), (257, 4, 1, count), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, count, 200)]
    tags += [(277, 3, 1, 1), (278, 4, 1, 1), (279, 4, count, 200)]
    head = b"II\x2a\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return head.ljust(200, b"\0") + numbers


@pytest.mark.parametrize(("name", "make"), READ)
def test_metadata_costs_no_time(name: str, make: Callable[[], bytes]) -> None:
    data = make()
    started = time.process_time()
    assert read_image(data).size == (60, 40)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(("name", "make", "words"), REFUSED)
def test_what_is_bloated_is_refused_before_it_costs_anything(name: str, make: Callable[[], bytes], words: str) -> None:
    data = make()
    started = time.process_time()
    with pytest.raises(GensegError, match=words):
        read_image(data)
    assert time.process_time() - started < 5


def test_exif_in_an_avif_is_looked_at_before_its_decoder_does() -> None:
    data = encoded("AVIF", exif=EXIF.tobytes())
    assert read_image(data).size == (40, 60)
    bomb = b"\0\0\0\x20ftypavif" + data[12:] + overlapping("<", 65_000, 200_000)
    with pytest.raises(GensegError, match="same bytes many times"):
        read_image(bomb)


# ---------------------------------------------------------------- memory

PEAK = """
import resource, sys, io
from PIL import Image
from gensegcli.images import read_image
for form in ("PNG", "JPEG", "TIFF"):
    small = io.BytesIO()
    Image.new("RGB", (9, 9)).save(small, form)
    read_image(small.getvalue())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read_image(sys.argv[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measured as Linux counts")
@pytest.mark.parametrize(
    ("form", "mode", "options"),
    [
        ("PNG", "RGB", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "LA", {}),
        ("PNG", "P", {"transparency": 0}),
        ("PNG", "I;16", {}),
        ("JPEG", "RGB", {"exif": exif_of(6)}),
        ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
        ("JPEG", "CMYK", {}),
        ("TIFF", "F", {}),
        ("TIFF", "I", {"compression": "tiff_deflate", "tiffinfo": {278: 4000}}),
        ("GIF", "P", {}),
    ],
)
def test_memory_is_as_promised(tmp_path: Path, form: str, mode: str, options: dict[str, object]) -> None:
    """At most ten bytes a pixel, and what does not grow with the picture."""
    path = tmp_path / f"a.{form}"
    Image.new(mode, (4000, 4000)).save(path, form, **options)
    done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 10 * 16_000_000 + (32 << 20)


@pytest.mark.parametrize("form", ["WEBP", "JPEG2000", "AVIF"])
def test_decoders_that_need_more_read_smaller_pictures(form: str) -> None:
    data = encoded(form, Image.new("RGB", (4000, 4000)))
    with pytest.raises(GensegError, match=rf"4000×4000 as {form} takes 0\.[234] GB to read") as caught:
        read_image(data, max_pixels=16_000_000)
    assert "JPEG or PNG" in caught.value.hint
