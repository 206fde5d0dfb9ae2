"""The overlay, as far as numbers can judge it: what is covered, what is tinted, what stays legible."""

from __future__ import annotations

import io
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from gensegcli import fonts
from gensegcli.draw import _INK, _MUTED, _NO_TARGET, _PAPER, _REFUSAL, PALETTE, _contrast, _verdict, overlay
from gensegcli.geometry import rle
from gensegcli.records import Refusal, RefusalKind
from tests.made import made_prediction


def square(width: int, height: int, share: float = 0.5) -> np.ndarray:
    """A centred box of the picture's proportions."""
    mask = np.zeros((height, width), dtype=bool)
    dx, dy = round(width * share / 2), round(height * share / 2)
    mask[height // 2 - dy : height // 2 + dy, width // 2 - dx : width // 2 + dx] = True
    return mask


def luminance(colour: tuple[int, ...]) -> float:
    """Relative luminance by WCAG 2."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: tuple[int, ...], second: tuple[int, ...]) -> float:
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_caption_stands_above_the_picture_and_covers_nothing() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (480, 700, 3), dtype=np.uint8))
    drawn = overlay(noise, made_prediction([], noise.size))
    assert drawn.width == 700
    np.testing.assert_array_equal(np.asarray(drawn)[-480:], np.asarray(noise))
    assert drawn.height - 480 < 100


@pytest.mark.parametrize("grey", [0, 10, 128, 245, 255])
def test_masks_are_visible_on_dark_and_light_pictures(grey: int) -> None:
    """Inside the mask the colour changes by at least 20 of 255; far outside of it nothing changes."""
    image = Image.new("RGB", (700, 500), (grey,) * 3)
    pixels = np.asarray(overlay(image, made_prediction([square(700, 500)])))[-500:].astype(int)
    assert np.abs(pixels[330, 450] - grey).max() >= 20
    assert (pixels[480, 20] == grey).all()
    # The outline has a dark and a bright line: one of them stands out against anything.
    row = pixels[330, 160:190]
    assert np.abs(row - grey).max() >= 100


def test_each_instance_has_its_colour_and_points_are_marked_on_top() -> None:
    left, right = np.zeros((2, 500, 700), dtype=bool)
    left[100:400, 50:300] = True
    right[100:400, 400:650] = True
    image = Image.new("RGB", (700, 500))
    pixels = np.asarray(overlay(image, made_prediction([left, right], negatives=[(350, 450)])))[-500:]
    for x, colour in ((200, PALETTE[0]), (550, PALETTE[1])):
        np.testing.assert_allclose(pixels[300, x], np.array(colour) * 0.42, atol=1)
    assert (pixels[440:461, 340:361] == 255).all(axis=-1).sum() > 50


@pytest.mark.parametrize(
    ("changes", "colour"),
    [
        ({"no_target": True}, _NO_TARGET),
        ({"no_target": False, "refusal": Refusal(RefusalKind.BAD_JSON, "line 1: a comma")}, _REFUSAL),
    ],
)
def test_no_target_and_refusals_get_a_banner_of_their_own(changes: dict[str, object], colour: tuple[int, ...]) -> None:
    drawn = np.asarray(overlay(Image.new("RGB", (640, 480)), made_prediction([], (640, 480), **changes)))
    rows = (drawn == colour).all(axis=-1).mean(axis=1) > 0.5
    assert 15 < rows.sum() < 60
    found = np.asarray(overlay(Image.new("RGB", (640, 480)), made_prediction([square(640, 480)])))
    assert not ((found == colour).all(axis=-1).mean(axis=1) > 0.5).any()


def test_texts_have_the_contrast_that_wcag_asks_for() -> None:
    """At least 4.5 : 1 for every text on its ground, the labels on all colours of the palette included."""
    grounds = [(_PAPER, _INK), (_MUTED, _INK), (_PAPER, _NO_TARGET), (_PAPER, _REFUSAL)]
    grounds += [(_contrast(colour), colour) for colour in PALETTE]
    assert min(contrast(*pair) for pair in grounds) >= 4.5


@pytest.mark.parametrize(
    ("size", "canvas"),
    [
        ((64, 64), (640, 640)),
        ((1, 1), (640, 640)),
        ((320, 200), (640, 400)),
        ((640, 480), (640, 480)),
        ((5000, 3000), (4472, 2683)),
    ],
)
def test_small_pictures_are_enlarged_and_large_ones_reduced(size: tuple[int, int], canvas: tuple[int, int]) -> None:
    drawn = overlay(Image.new("RGB", size), made_prediction([np.ones(size[::-1], dtype=bool)]))
    assert drawn.width == canvas[0]
    assert canvas[1] < drawn.height < canvas[1] * 1.3


@pytest.mark.parametrize("size", [(20000, 50), (50, 20000), (3, 3000)])
def test_strips_are_drawn_with_room_for_the_caption(size: tuple[int, int]) -> None:
    drawn = overlay(Image.new("RGB", size), made_prediction([square(*size)]))
    assert drawn.width >= max(size[0], 360)
    assert size[1] < drawn.height < size[1] + 400


@pytest.mark.parametrize("size", [(100_000, 70), (70, 100_000)])
def test_very_long_strips_are_reduced_to_what_a_jpeg_holds(size: tuple[int, int]) -> None:
    drawn = overlay(Image.new("RGB", size), made_prediction([square(*size)]))
    assert 30_000 <= max(drawn.size) < 30_400
    stream = io.BytesIO()
    drawn.save(stream, "JPEG")
    with Image.open(stream) as image:
        assert image.size == drawn.size


def test_long_expressions_take_three_lines_at_most() -> None:
    image = Image.new("RGB", (640, 480))
    heights = [
        overlay(image, made_prediction([], image.size, query=query)).height
        for query in ("a", "word " * 400, "w" * 2000)
    ]
    assert heights[1] == heights[2] < heights[0] + 60


def test_a_crowd_is_drawn_in_a_moment() -> None:
    """120 instances on 12 megapixels: bounded by what each mask touches, not by the picture."""
    rng = np.random.default_rng(0)
    masks = []
    for _ in range(120):
        mask = np.zeros((600, 800), dtype=bool)
        x, y = rng.integers(0, 700), rng.integers(0, 500)
        mask[y : y + 60, x : x + 40] = True
        masks.append(mask)
    started = time.process_time()
    overlay(Image.new("RGB", (800, 600)), made_prediction(masks))
    assert time.process_time() - started < 5


def test_the_picture_itself_is_left_alone() -> None:
    image = Image.new("RGB", (640, 480), (9, 9, 9))
    overlay(image, made_prediction([square(640, 480)]))
    assert image.getextrema() == ((9, 9),) * 3


@pytest.mark.parametrize(
    "query", ["naïve Ñandú ß", "красная шапка", "红色的圆", "a\nb\tc", "🦊 fox", "سيارة حمراء", "\u202e reversed"]
)
def test_expressions_of_every_script_can_be_drawn(query: str) -> None:
    drawn = np.asarray(overlay(Image.new("RGB", (640, 480)), made_prediction([], (640, 480), query=query)))
    assert (drawn[:30] > 128).all(axis=-1).sum() > 20


def test_without_system_fonts_accents_are_dropped_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's bundled font has few letters beyond ASCII."""
    monkeypatch.setattr(fonts, "_SYSTEM_FONTS", ())
    fonts._best.cache_clear()
    try:
        text, font = fonts.set_in("naïve Ñandú,\t圆", 20)
    finally:
        fonts._best.cache_clear()
    assert text == "naive Nandu, 圆"
    assert font.getname()[0] == fonts.set_in("plain", 20)[1].getname()[0]


@pytest.mark.parametrize(
    ("policy", "segmenter", "shown"),
    [("a/policy", "b/sam", "1 object · a.jpg · a/policy · b/sam"), ("demo", "demo", "1 object · a.jpg · demo")],
)
def test_the_caption_names_each_model_once(policy: str, segmenter: str, shown: str) -> None:
    prediction = replace(made_prediction([square(700, 500)]), model=policy, segmenter=segmenter)
    assert _verdict(prediction) == (shown, None)


def test_an_object_without_a_pixel_is_labelled_and_told() -> None:
    empty = np.zeros((500, 700), dtype=bool)
    prediction = made_prediction([empty])
    assert _verdict(prediction)[0] == "1 object, but its mask is empty · a.jpg · demo"
    assert _verdict(made_prediction([square(700, 500), empty]))[0] == "2 objects, 1 with an empty mask · a.jpg · demo"
    picture = Image.new("RGB", (700, 500))
    with_mask = replace(prediction, instances=(replace(prediction.instances[0], mask=rle.encode(~empty)),))
    plain, filled = (np.asarray(overlay(picture, one, caption=False)) for one in (prediction, with_mask))
    assert plain[:, 350:].sum() == 0, "nothing is painted where the mask is empty"
    assert filled[:, 350:].sum() > 0


def test_the_name_of_the_picture_stands_in_every_caption() -> None:
    refused = made_prediction([], no_target=False, refusal=Refusal(RefusalKind.EMPTY))
    for prediction in (made_prediction([]), refused):
        assert _verdict(prediction)[0].endswith(" · a.jpg")
    assert "bytes" not in _verdict(replace(made_prediction([]), image="bytes:0123456789abcdef"))[0]
