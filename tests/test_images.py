"""Every kind of picture a user may hand in: the pixels that come out, or the one line that says why none do."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms

from gensegcli.errors import ExitCode, GensegError
from gensegcli.images import heif_ready, image_name, orientation, read_image, readable_suffixes, sound_size

if TYPE_CHECKING:
    from collections.abc import Callable

GRADIENT = np.linspace(0, 255, 64 * 48).reshape(48, 64).astype(np.uint8)
COLOURS = np.stack([GRADIENT, GRADIENT[::-1], np.full_like(GRADIENT, 90)], axis=-1)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def pixels(source: object, **options: int) -> np.ndarray:
    image = read_image(source, **options)
    assert image.mode == "RGB"
    assert image.info == {}
    return np.asarray(image)


# ---------------------------------------------------------------- pictures that are read


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_formats_give_the_exact_pixels(form: str, tmp_path: Path) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(Image.fromarray(COLOURS), form, **options)
    path = tmp_path / "no-ending"
    path.write_bytes(data)

    for source in (data, path, str(path), COLOURS, Image.fromarray(COLOURS)):
        np.testing.assert_array_equal(pixels(source), COLOURS)


def test_real_photos_are_read_as_another_decoder_reads_them(shared_data: Path) -> None:
    """OpenCV's own libjpeg; decoders may differ by a rounding of the inverse cosine transform."""
    for name in ("color.jpg", "gray.jpg"):
        path = shared_data / "jpeg" / name
        other = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB).astype(int)
        difference = np.abs(pixels(path).astype(int) - other)
        assert difference.mean() < 0.5
        assert difference.max() <= 4


def test_grey_becomes_three_equal_channels() -> None:
    result = pixels(encoded(Image.fromarray(GRADIENT), "PNG"))
    for channel in range(3):
        np.testing.assert_array_equal(result[..., channel], GRADIENT)


def test_one_bit_pictures_become_black_and_white() -> None:
    data = encoded(Image.fromarray(GRADIENT > 127), "PNG")
    np.testing.assert_array_equal(pixels(data)[..., 1], np.where(GRADIENT > 127, 255, 0))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(form: str) -> None:
    deep = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    assert pixels(encoded(Image.fromarray(deep), form))[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_big_endian_16_bit_tiff_is_scaled() -> None:
    deep = np.linspace(0, 65535, 60).astype(np.uint16).reshape(6, 10)
    _, data = cv2.imencode(".tiff", deep)
    swapped = Image.frombytes("I;16B", (10, 6), deep.astype(">u2").tobytes())
    np.testing.assert_array_equal(pixels(data.tobytes()), pixels(encoded(swapped, "TIFF")))
    np.testing.assert_array_equal(pixels(data.tobytes())[..., 0], np.rint(deep / 257).astype(np.uint8))


def test_16_bit_colour_keeps_its_range() -> None:
    deep = (COLOURS.astype(np.uint16) * 257)[..., ::-1]
    _, data = cv2.imencode(".png", np.ascontiguousarray(deep))
    np.testing.assert_array_equal(pixels(data.tobytes()), COLOURS)


def test_floating_point_tiff_is_read_from_0_to_1_and_refused_beyond() -> None:
    grey = Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
    assert pixels(encoded(grey, "TIFF"))[0, :, 0].tolist() == [0, 128, 255]
    hot = Image.fromarray(np.array([[0.0, 1200.0]], dtype=np.float32))
    with pytest.raises(GensegError, match=r"floating-point values from 0 to 1200, expected 0 to 1"):
        read_image(encoded(hot, "TIFF"))


def test_32_bit_grey_beyond_16_bits_is_refused() -> None:
    with pytest.raises(GensegError, match=r"32-bit values from -1 to 70000, expected 0 to 65535"):
        read_image(encoded(Image.fromarray(np.array([[-1, 70000]], dtype=np.int32)), "TIFF"))


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk_is_converted(form: str) -> None:
    """Pillow writes CMYK JPEGs in Adobe's inverted form: read plainly, red would come out as cyan."""
    cmyk = np.zeros((16, 48, 4), dtype=np.uint8)
    cmyk[:, :16] = (0, 255, 255, 0)
    cmyk[:, 16:32] = (255, 255, 0, 0)
    cmyk[:, 32:] = (0, 0, 0, 255)
    data = encoded(Image.fromarray(cmyk, "CMYK"), form, **({"quality": 100} if form == "JPEG" else {}))
    result = pixels(data).astype(int)
    for x, colour in ((8, (255, 0, 0)), (24, (0, 0, 255)), (40, (0, 0, 0))):
        assert np.abs(result[8, x] - colour).max() <= 3


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1-colour"])
def test_transparency_is_composited_on_white(mode: str) -> None:
    """Left half opaque black, right half transparent with black underneath, which must not show."""
    alpha = np.zeros((4, 8), dtype=np.uint8)
    alpha[:, :4] = 255
    if mode == "P":
        indices = np.where(alpha > 0, 0, 1).astype(np.uint8)
        image = Image.fromarray(indices, "P")
        image.putpalette([0, 0, 0, 10, 10, 10])
        data = encoded(image, "PNG", transparency=1)
    elif mode == "1-colour":
        data = encoded(Image.fromarray(np.where(alpha > 0, 0, 7).astype(np.uint8)), "PNG", transparency=7)
    else:
        black = Image.new("RGB" if mode == "RGBA" else "L", (8, 4))
        black.putalpha(Image.fromarray(alpha))
        assert black.mode == mode
        data = encoded(black, "PNG")
    result = pixels(data)
    assert (result[:, :4] == 0).all()
    assert (result[:, 4:] == 255).all()


def test_half_transparency_is_mixed_with_white() -> None:
    assert pixels(np.full((1, 1, 4), (255, 0, 0, 128), dtype=np.uint8))[0, 0].tolist() == [255, 127, 127]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    """Turned by hand as EXIF 2.3 describes the eight orientations: what row 0 and column 0 of the file show."""
    turns: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, 1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = turns[orientation](COLOURS)
    for form in ("PNG", "TIFF"):
        np.testing.assert_array_equal(pixels(encoded(Image.fromarray(COLOURS), form, exif=exif)), expected)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")
def test_damaged_exif_does_not_cost_the_picture() -> None:
    data = encoded(Image.fromarray(COLOURS), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff broken")
    np.testing.assert_array_equal(pixels(data), COLOURS)


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixels(data)[2, 2].tolist() == [255, 0, 0]


def test_an_embedded_profile_is_no_reason_to_fail() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encoded(Image.fromarray(COLOURS), "PNG", icc_profile=profile)
    np.testing.assert_array_equal(pixels(data), COLOURS)


@pytest.mark.parametrize("size", [(1, 1), (20000, 50), (50, 20000)])
def test_extreme_sizes_are_read(size: tuple[int, int]) -> None:
    assert read_image(encoded(Image.new("RGB", size, "red"), "PNG")).size == size


def test_arrays_of_other_types_are_scaled() -> None:
    assert pixels(np.array([[0, 65535]], dtype=np.uint16))[0, :, 0].tolist() == [0, 255]
    assert pixels(np.array([[0.0, 1.0]]))[0, :, 2].tolist() == [0, 255]
    assert pixels(np.array([[False, True]]))[0, :, 1].tolist() == [0, 255]
    assert pixels(np.zeros((2, 3, 1), dtype=np.uint8)).shape == (2, 3, 3)


def test_the_callers_picture_is_left_alone() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    mine = Image.open(io.BytesIO(encoded(Image.fromarray(COLOURS), "PNG", exif=exif)))
    mine.load()
    result = read_image(mine)
    result.putpixel((0, 0), (1, 2, 3))
    assert mine.size == (64, 48)
    assert "exif" in mine.info
    np.testing.assert_array_equal(np.asarray(mine), COLOURS)
    plain = Image.fromarray(COLOURS)
    assert read_image(plain) is not plain


# ---------------------------------------------------------------- pictures that are refused


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(GensegError, match=r"gone\.jpg: no such file") as caught:
        read_image(tmp_path / "gone.jpg")
    assert caught.value.code == ExitCode.NOT_FOUND


def test_folder_pipe_and_impossible_name(tmp_path: Path) -> None:
    with pytest.raises(GensegError, match="a folder, not a picture"):
        read_image(tmp_path)
    with pytest.raises(GensegError, match="cannot be read"):
        read_image("a\0b.jpg")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(GensegError, match="not a regular file"):
        read_image(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty, not a picture"),
        (b"Hello, world", r"not a picture that can be read \(it begins with b'Hello, w'\)"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture that can be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture that can be read"),
    ],
    ids=["empty", "text", "eps", "svg"],
)
def test_not_a_picture(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(GensegError, match=words) as caught:
        read_image(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_truncated_picture(form: str, share: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), form)
    path = tmp_path / "cut"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(GensegError, match=r"cut: the picture is (cut short|damaged) \("):
        read_image(path)


def test_truncated_real_jpeg(shared_data: Path) -> None:
    data = (shared_data / "jpeg" / "color.jpg").read_bytes()
    with pytest.raises(GensegError, match=r"the picture is cut short \(image file is truncated"):
        read_image(data[: len(data) // 2])


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_a_300_megapixel_bomb_is_refused_before_it_is_decoded() -> None:
    """Decoded it would be 900 MB; the refusal must come from the header alone."""
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(GensegError, match=r"20000×15000 is 300 megapixels, more than the limit of 100"):
        read_image(png_header(20000, 15000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_the_limit_can_be_set_either_way() -> None:
    data = encoded(Image.new("L", (100, 50)), "PNG")
    with pytest.raises(GensegError, match=r"more than the limit of 0\.004999"):
        read_image(data, max_pixels=4999)
    assert read_image(data, max_pixels=5000).size == (100, 50)
    with pytest.raises(GensegError, match="more than the limit"):
        read_image(np.zeros((50, 100), dtype=np.uint8), max_pixels=4999)
    # Above Pillow's own limits the file is taken for what it is: too little data, and not a bomb.
    with pytest.raises(GensegError, match=r"cut short|damaged"):
        read_image(png_header(20000, 10000), max_pixels=300_000_000)
    assert Image.MAX_IMAGE_PIXELS == 89478485


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 3, 2), dtype=np.uint8), r"shape \(2 3 2\), expected"),
        (np.zeros(5, dtype=np.uint8), r"shape \(5\), expected"),
        (np.zeros((0, 3), dtype=np.uint8), "has no pixels"),
        (np.zeros((2, 2), dtype=np.int64), "dtype int64, expected uint8"),
        (np.full((2, 2), 255.0), r"values from 255 to 255, expected 0 to 1"),
        (np.full((2, 2), np.nan), r"values from nan to nan"),
    ],
)
def test_arrays_that_are_no_pictures(array: np.ndarray, words: str) -> None:
    with pytest.raises(GensegError, match=words):
        read_image(array)


SEEDS = [
    encoded(Image.fromarray(COLOURS), form, **options)
    for form, options in (("JPEG", {}), ("PNG", {}), ("GIF", {}), ("TIFF", {}), ("WEBP", {}), ("BMP", {}))
]


# Pillow warns of some defects that it then works around.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=300)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=12), st.data())
def test_damage_gives_a_picture_or_one_clear_error(
    seed: bytes, changes: list[tuple[int, int]], data: st.DataObject
) -> None:
    damaged = bytearray(seed)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    end = data.draw(st.integers(1, len(damaged)))
    try:
        image = read_image(bytes(damaged[:end]), max_pixels=1_000_000)
    except GensegError as error:
        assert error.message.startswith("the given")  # noqa: PT017 (a picture is a fine outcome, too)
    else:
        assert image.mode == "RGB"


# ---------------------------------------------------------------- names


def test_names_of_pictures_without_a_path_are_digests_of_their_content() -> None:
    first, second = np.zeros((2, 3), dtype=np.uint8), np.zeros((3, 2), dtype=np.uint8)
    assert image_name(first) == image_name(first.copy())
    assert image_name(first) != image_name(second)
    assert image_name(Path("a/b.jpg")) == str(Path("a/b.jpg"))
    assert image_name(Image.fromarray(first)) == image_name(first)


def test_palette_pictures_of_the_same_indices_and_other_colours_have_names_of_their_own() -> None:
    red, blue = (Image.new("P", (4, 4), 0) for _ in range(2))
    red.putpalette([255, 0, 0])
    blue.putpalette([0, 0, 255])
    assert image_name(red) != image_name(blue)
    assert image_name(red) == image_name(red.convert("RGB"))


def test_naming_a_lazily_opened_picture_meets_its_damage_and_its_size() -> None:
    stream = io.BytesIO()
    Image.effect_noise((200, 200), 50).save(stream, "PNG")
    with Image.open(io.BytesIO(stream.getvalue()[:5000])) as image, pytest.raises(GensegError, match="picture is"):
        image_name(image)
    with pytest.raises(GensegError, match="more than the limit"):
        image_name(Image.new("1", (30_000, 10_000)))


def test_names_of_addresses_keep_pictures_apart_and_secrets_out() -> None:
    names = [image_name(f"https://u:p4ss@h/a.jpg?token=s3cret&id={number}#part") for number in range(2)]
    assert names[0] != names[1]
    assert all(name.startswith("https://h/a.jpg?sha256=") for name in names)
    assert image_name("https://h/a.jpg") == "https://h/a.jpg"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("value", range(1, 9))
def test_the_orientation_is_read_from_the_header(form: str, value: int) -> None:
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = value
    Image.new("RGB", (6, 4)).save(stream, form, exif=exif.tobytes())

    assert orientation(stream.getvalue()) == value
    assert read_image(stream.getvalue()).size == ((4, 6) if value > 4 else (6, 4))


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_no_orientation_where_there_is_no_picture(data: bytes) -> None:
    assert orientation(data) == 1


# ---------------------------------------------------------------- HEIC and what is no picture

HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + bytes(100)


@pytest.mark.skipif(heif_ready(), reason="pillow-heif is installed")
def test_heic_without_its_decoder_is_named_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "IMG_0003.HEIC"
    path.write_bytes(HEIC)
    with pytest.raises(GensegError, match=r"IMG_0003\.HEIC: a HEIC picture, which needs pillow-heif") as caught:
        read_image(path)
    assert "pip install pillow-heif" in caught.value.hint
    assert ".heic" not in readable_suffixes()


def test_a_brand_that_is_no_heic_is_not_called_one() -> None:
    with pytest.raises(GensegError, match="not a picture that can be read"):
        read_image(HEIC.replace(b"heic", b"isom"))


@pytest.mark.skipif(not heif_ready(), reason="pillow-heif is not installed")
def test_heic_is_read_upright_and_by_the_same_guards(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[:, 30:] = 255
    picture = Image.fromarray(pixels)
    exif = picture.getexif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned clockwise: the right half comes below
    path = tmp_path / "a.heic"
    pillow_heif.register_heif_opener()  # which writes the turn as HEIF has it; EXIF's own counts for nothing there
    picture.save(path, "HEIF", exif=exif.tobytes())
    found = read_image(path)
    assert (found.mode, found.size) == ("RGB", (40, 60))
    assert np.asarray(found)[:25].max() < 60
    assert np.asarray(found)[35:].min() > 200
    with pytest.raises(GensegError, match="more than the limit"):
        read_image(path, max_pixels=100)
    with pytest.raises(GensegError, match="the picture is damaged"):
        read_image(path.read_bytes()[:60])
    assert ".heic" in readable_suffixes()


def test_a_pdf_is_called_one() -> None:
    with pytest.raises(GensegError, match="a PDF, not a picture"):
        read_image(b"%PDF-1.7 and so on")


@pytest.mark.parametrize("source", [None, 3, ["a.jpg"], object()])
def test_what_is_no_source_of_a_picture_is_told(source: object) -> None:
    for function in (read_image, image_name):
        with pytest.raises(GensegError, match=f"the picture is {type(source).__name__}, expected a path"):
            function(source)  # ty: ignore[invalid-argument-type]


def test_an_address_that_holds_the_picture_is_not_repeated_in_a_message() -> None:
    source = f"data:image/png;base64,{'A' * 100_000}"
    name = "data:image/png;base64,sha256="
    assert image_name(source).startswith(name)
    assert len(image_name(source)) == len(name) + 16
    assert image_name(source) != image_name(f"{source}A")
    with pytest.raises(GensegError, match="a picture within an address, which is not read") as caught:
        read_image(source)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", ["x" * 300, "x" * 100_000, "a/" * 10_000])
def test_a_name_that_is_too_long_is_cut_in_the_message(name: str) -> None:
    with pytest.raises(GensegError, match=r"cannot be read \(File name too long\)") as caught:
        read_image(name)
    assert len(str(caught.value)) < 400


# ---------------------------------------------------------------- size without decoding


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
def test_the_size_is_that_of_the_picture_when_it_is_read(form: str, orientation: int | None) -> None:
    exif = Image.Exif()
    if orientation is not None and form not in ("GIF", "BMP"):
        exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.new("RGB", (40, 23), "red").save(stream, form, exif=exif)
    content = stream.getvalue()
    assert sound_size(content) == read_image(content).size


def test_a_png_and_a_jpeg_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gensegcli.images._decode", None)
    for form in ("JPEG", "PNG"):
        stream = io.BytesIO()
        Image.new("RGB", (40, 23)).save(stream, form)
        assert sound_size(stream.getvalue()) == (40, 23)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_file_that_was_cut_is_refused_where_reading_refuses_it(form: str, progressive: bool) -> None:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    Image.fromarray(pixels).save(stream, form, **({"progressive": True} if progressive and form == "JPEG" else {}))
    content = stream.getvalue()
    for end in [*range(1, len(content), len(content) // 40), len(content) - 2, len(content)]:
        refused = []
        for read in (sound_size, read_image):
            try:
                read(content[:end])
            except GensegError as error:
                refused.append(error.message)
        assert len(refused) in (0, 2)
        assert len(set(refused)) <= 1
