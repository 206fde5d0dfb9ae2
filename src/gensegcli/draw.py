"""The overlay: masks, boxes, points, expression and score on the picture, for people to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw

from gensegcli.fonts import set_in
from gensegcli.geometry import rle
from gensegcli.predictions import found_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.ImageFont import FreeTypeFont

    from gensegcli.records import PixelBox, PixelPoint, PredictedInstance, Prediction

Colour = tuple[int, int, int]

PALETTE: tuple[Colour, ...] = (
    (86, 180, 233),
    (230, 159, 0),
    (204, 121, 167),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
)
"""Colours of the instances, repeated in turn: Okabe and Ito's set, told apart with every kind of colour blindness."""

_INK: Colour = (22, 24, 29)
_PAPER: Colour = (255, 255, 255)
_MUTED: Colour = (176, 182, 192)
_NO_TARGET: Colour = (0, 114, 178)
_REFUSAL: Colour = (180, 60, 0)
_FILL = 0.42
"""Opacity of a mask: the object stays visible through it."""
_QUERY_LINES = 3


@dataclass(frozen=True, slots=True)
class _Scale:
    """Lengths in canvas pixels, all from the size of the canvas."""

    factor: float
    width: int
    height: int

    @property
    def text(self) -> int:
        return max(15, round((self.width * self.height) ** 0.5 / 34))

    @property
    def line(self) -> float:
        return self.text / 9

    def at(self, point: Sequence[float]) -> tuple[float, float]:
        return point[0] * self.factor, point[1] * self.factor


def overlay(
    image: Image.Image,
    prediction: Prediction,
    *,
    min_side: int = 640,
    max_side: int = 30_000,
    max_pixels: int = 12_000_000,
    caption: bool = True,
) -> Image.Image:
    """The picture with everything that was found, below a caption that never covers it.

    Args:
        image: the RGB picture, of the prediction's size.
        prediction: what to draw. No target and refusals get a banner instead of objects.
        min_side: smaller pictures are enlarged until their longer side has this length, so that text is legible.
        max_side: longer pictures are reduced to this length: viewers end at 32,767, and JPEG at 65,500.
        max_pixels: larger pictures are reduced to about this many pixels.
        caption: expression and verdict above the picture; without it the picture alone, for those who write their own.
    """
    area = image.width * image.height
    factor = max(min_side / max(image.size), 1.0) if area <= max_pixels else (max_pixels / area) ** 0.5
    factor = min(factor, max_side / max(image.size))
    width, height = (max(1, round(side * factor)) for side in image.size)
    scale = _Scale(factor, width, height)
    small = factor > 1
    picture = image.convert("RGB").resize(
        (width, height), Image.Resampling.BICUBIC if small else Image.Resampling.LANCZOS
    )
    pixels = np.array(picture)
    colours = [PALETTE[number % len(PALETTE)] for number in range(len(prediction.instances))]
    for found, colour in zip(prediction.instances, colours, strict=True):
        _paint_mask(pixels, rle.decode(found.mask), colour, scale)
    for found, colour in zip(prediction.instances, colours, strict=True):
        _draw_prompt(pixels, found, colour, scale)
    picture = Image.fromarray(pixels)
    _draw_labels(picture, prediction.instances, colours, scale)
    return _framed(picture, prediction, scale) if caption else picture


# ---------------------------------------------------------------- objects


def _paint_mask(pixels: np.ndarray, mask: np.ndarray, colour: Colour, scale: _Scale) -> None:
    # Reduced by area and enlarged linearly, the mask's edge becomes a soft one: no stairs on either kind of picture.
    method = cv2.INTER_AREA if scale.factor < 1 else cv2.INTER_LINEAR
    soft = cv2.resize(mask.astype(np.uint8) * 255, (scale.width, scale.height), interpolation=method)
    rows, columns = np.nonzero(soft.any(axis=1))[0], np.nonzero(soft.any(axis=0))[0]
    if not len(rows):
        return
    # Only the part of the picture that the mask touches: most of a large one is left alone.
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    alpha = soft[part].astype(np.float32)[..., None] * (_FILL / 255)
    pixels[part] = np.rint(pixels[part] * (1 - alpha) + np.asarray(colour, np.float32) * alpha).astype(np.uint8)
    outlines, _ = cv2.findContours((soft > 127).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for line, tone in ((scale.line * 1.6, _INK), (scale.line * 0.9, colour)):
        cv2.polylines(pixels, outlines, True, tone, _thick(line), cv2.LINE_AA)


def _draw_prompt(pixels: np.ndarray, found: PredictedInstance, colour: Colour, scale: _Scale) -> None:
    _draw_box(pixels, found.prompt.box, colour, scale)
    box = found.prompt.box
    # On a small object the markers shrink with it, or they would hide what they mark.
    room = min(box.x2 - box.x1, box.y2 - box.y1) * scale.factor
    radius = round(min(scale.text * 0.42, max(room * 0.12, 3)))
    for points, positive in ((found.prompt.points, True), (found.prompt.negatives, False)):
        for point in points:
            _draw_point(pixels, point, radius, scale, positive=positive)


def _draw_box(pixels: np.ndarray, box: PixelBox, colour: Colour, scale: _Scale) -> None:
    (x1, y1), (x2, y2) = scale.at(box[:2]), scale.at(box[2:])
    first, last = (round(x1), round(y1)), (round(x2) - 1, round(y2) - 1)
    for line, tone in ((scale.line * 1.5, _INK), (scale.line * 0.7, colour)):
        cv2.rectangle(pixels, first, last, tone, _thick(line), cv2.LINE_AA)


def _draw_point(pixels: np.ndarray, point: PixelPoint, radius: int, scale: _Scale, *, positive: bool) -> None:
    """A disc with a plus (on the object) or a minus (background): told apart by shape, not by colour alone."""
    x, y = (round(value) for value in scale.at(point))
    cv2.circle(pixels, (x, y), radius + _thick(min(scale.line * 0.9, radius * 0.4)), _INK, cv2.FILLED, cv2.LINE_AA)
    cv2.circle(pixels, (x, y), radius, _PAPER, cv2.FILLED, cv2.LINE_AA)
    arm, line = max(1, round(radius * 0.55)), _thick(min(scale.line, radius * 0.35))
    tone = _INK if positive else _REFUSAL
    cv2.line(pixels, (x - arm, y), (x + arm, y), tone, line, cv2.LINE_AA)
    if positive:
        cv2.line(pixels, (x, y - arm), (x, y + arm), tone, line, cv2.LINE_AA)


def _thick(line: float) -> int:
    return max(1, round(line))


def _draw_labels(
    picture: Image.Image, instances: Sequence[PredictedInstance], colours: Sequence[Colour], scale: _Scale
) -> None:
    """Number and score of each object at a corner of its box, where no other label stands."""
    pen = ImageDraw.Draw(picture)
    taken: list[tuple[float, float, float, float]] = []
    for number, (found, colour) in enumerate(zip(instances, colours, strict=True), start=1):
        parts = [str(number)] + ([] if found.score is None else [f"{found.score:.2f}"])
        text = " · ".join(parts + (["empty mask"] if rle.is_empty(found.mask) else []))
        text, font = set_in(text, round(scale.text * 0.85))
        _, top, right, bottom = font.getbbox(text)
        pad = scale.text * 0.3
        width, height = right + 2 * pad, bottom - top + 2 * pad
        if 2 * width > scale.width or 2 * height > scale.height:
            return  # on a strip a few pixels wide the labels would hide the picture
        place = _free_place(found.prompt.box, (width, height), taken, scale)
        taken.append(place)
        pen.rectangle(place, fill=colour, outline=_INK, width=_thick(scale.line * 0.4))
        pen.text((place[0] + pad, place[1] + pad - top), text, font=font, fill=_contrast(colour))


def _free_place(
    box: PixelBox, size: tuple[float, float], taken: Sequence[tuple[float, float, float, float]], scale: _Scale
) -> tuple[float, float, float, float]:
    (x1, y1), (x2, y2) = scale.at(box[:2]), scale.at(box[2:])
    width, height = size
    corners = ((x1, y1 - height), (x1, y1), (x2 - width, y1 - height), (x2 - width, y1), (x1, y2), (x1, y2 - height))
    places = []
    for x, y in corners:
        x = min(max(x, 0.0), max(scale.width - width - 1, 0.0))
        if y >= 0 and y + height <= scale.height:
            places.append((x, y, x + width, y + height))
    if not places:
        places = [(max(min(x1, scale.width - width - 1), 0.0), 0.0, max(x1, 0.0) + width, height)]
    free = (place for place in places if not any(_touch(place, other) for other in taken))
    return next(free, places[0])


def _touch(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _contrast(colour: Colour) -> Colour:
    """Dark or white text, whichever stands out more on a colour by WCAG 2's relative luminance."""
    linear = [(value / 255) ** 2.2 for value in colour]
    return _INK if 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.2 else _PAPER


# ---------------------------------------------------------------- caption


def _framed(picture: Image.Image, prediction: Prediction, scale: _Scale) -> Image.Image:
    """The picture below its caption: the expression, then what came of it. At least wide enough to read."""
    width = max(scale.width, scale.text * 24)
    pad = round(scale.text * 0.7)
    query, font = set_in(prediction.query, scale.text)
    lines = _wrapped(query, font, width - 2 * pad, _QUERY_LINES)
    verdict, tone = _verdict(prediction)
    verdict, small = set_in(verdict, round(scale.text * 0.85))
    verdict_lines = _wrapped(verdict, small, width - 2 * pad, 2)
    step, small_step = round(scale.text * 1.35), round(scale.text * 1.2)
    head = pad + step * len(lines) + (0 if tone else small_step * len(verdict_lines)) + pad
    banner = small_step * len(verdict_lines) + pad if tone else 0
    canvas = Image.new("RGB", (width, head + banner + scale.height), _INK)
    pen = ImageDraw.Draw(canvas)
    y = pad
    for line in lines:
        pen.text((pad, y), line, font=font, fill=_PAPER)
        y += step
    if tone:
        pen.rectangle((0, head, width, head + banner), fill=tone)
        y = head + pad // 2
    for line in verdict_lines:
        pen.text((pad, y), line, font=small, fill=_PAPER if tone else _MUTED)
        y += small_step
    canvas.paste(picture, ((width - scale.width) // 2, head + banner))
    return canvas


def _verdict(prediction: Prediction) -> tuple[str, Colour | None]:
    """What came of the question, and the colour of its banner if it gets one."""
    if prediction.refusal is not None:
        detail = f": {prediction.refusal.detail}" if prediction.refusal.detail else ""
        return " · ".join((f"Unreadable answer ({prediction.refusal.kind}){detail}", *_picture(prediction))), _REFUSAL
    if prediction.no_target:
        return " · ".join(("No target: nothing in the picture matches", *_picture(prediction))), _NO_TARGET
    objects = found_text(prediction, "object" if len(prediction.instances) == 1 else "objects")
    return " · ".join(dict.fromkeys((objects, *_picture(prediction), prediction.model, prediction.segmenter))), None


def _picture(prediction: Prediction) -> list[str]:
    """The name of the picture's file, for those who look at overlays of many; nothing for pictures in memory."""
    name = PurePath(prediction.image).name
    return [] if prediction.image.startswith(("bytes:", "pixels:")) or not name else [name]


def _wrapped(text: str, font: FreeTypeFont, width: float, limit: int) -> list[str]:
    """The text in at most `limit` lines that fit the width, broken at spaces where possible; an ellipsis ends a cut."""
    lines, rest = [], text.strip()
    while rest and len(lines) < limit:
        fits = _fitting(rest, font, width)
        if fits < len(rest):
            space = rest.rfind(" ", 0, fits + 1)
            fits = space if space > 0 else fits
        lines.append(rest[:fits].rstrip())
        rest = rest[fits:].lstrip()
    if rest and lines:
        last = lines[-1]
        while last and font.getlength(last + "…") > width:
            last = last[:-1].rstrip()
        lines[-1] = last + "…"
    return lines


def _fitting(text: str, font: FreeTypeFont, width: float) -> int:
    """How many leading characters fit, at least one; by bisection, since the length grows with the text."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle]) <= width:
            low = middle
        else:
            high = middle - 1
    return low
