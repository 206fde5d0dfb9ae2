"""Shapes as labelme writes them, read by their `shape_type` and painted.

ReasonSeg is in this form, all of it polygons, and so is what people draw for themselves. Polygons and rectangles are
painted by LISA's rule, circles and masks by labelme's own. Lines and points enclose nothing and are refused by name.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from gensegcli.errors import GensegError
from gensegcli.files.text import excerpt, json_type
from gensegcli.geometry.fill import fill_polygon
from gensegcli.images import MAX_PIXELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gensegcli.records import Size

FAR = 1_000_000
"""Corners farther out than this are damage; real ones lie in or near their picture."""

CORNERS: Mapping[str, Sequence[int]] = {
    "polygon": range(1, 1_000_000),
    "rectangle": (2, 4),
    "oriented_rectangle": (4,),
    "rotation": (4,),
    "circle": (2,),
    "mask": (2,),
}
"""How many points the shapes that enclose something have. Two of the names are X-AnyLabeling's, and its rectangles have
four corners."""

_WORDS = ("ignore", "flag")


class Shape(NamedTuple):
    """One shape of a picture."""

    kind: str
    """A key of `CORNERS`."""
    points: list[list[float]]
    """x, y in pixels of the upright picture, as labelme shows it."""
    crop: str = ""
    """Of a mask: its cut-out, a PNG in base64."""


def read_shape(value: Any) -> Shape:
    """A shape of a labelme file.

    Raises:
        GensegError: of a type that encloses nothing, with another number of points, or with points that are none.
    """
    if not isinstance(value, dict):
        raise GensegError(f"a shape is an object, {json_type(value)} found")
    kind = value.get("shape_type") or "polygon"  # ReasonSeg's older files leave it out
    if not isinstance(kind, str) or kind not in CORNERS:
        raise GensegError(
            f"shape_type {excerpt(kind)} encloses no pixels", hint=f"draw it as one of {', '.join(CORNERS)}"
        )
    points = value.get("points")
    if not isinstance(points, list) or not all(map(_is_point, points)):
        raise GensegError(f"points of a {kind} are pairs of numbers in or near the picture, {excerpt(points)} found")
    if len(points) not in CORNERS[kind]:
        wanted = "at least one point" if kind == "polygon" else " or ".join(map(str, CORNERS[kind])) + " points"
        raise GensegError(f"a {kind} has {wanted}, {len(points)} found")
    crop = value.get("mask") if kind == "mask" else ""
    if not isinstance(crop, str) or (kind == "mask" and not crop):
        raise GensegError(f"a mask holds a PNG in base64 under `mask`, {json_type(crop)} found")
    return Shape(kind, [[float(x), float(y)] for x, y in points], crop)


def _is_point(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < FAR for n in value)
    )


def shape_pixels(shape: Shape, size: Size) -> np.ndarray:
    """The pixels of a shape: bool (h w).

    Raises:
        GensegError: the cut-out of a mask is damaged, or of another size than its corners say.
    """
    if shape.kind == "circle":
        return _disc(shape.points, size)
    if shape.kind == "mask":
        return _pasted(shape, size)
    points = shape.points
    if shape.kind == "rectangle" and len(points) == 2:
        (x1, y1), (x2, y2) = points
        points = [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]
    return fill_polygon(np.array(points).astype(np.int32), size)  # towards zero: 3.9 becomes 3


def _disc(points: list[list[float]], size: Size) -> np.ndarray:
    """The disc around the first point with the second on its rim, drawn by Pillow as labelme does."""
    (x, y), rim = points
    radius = math.dist((x, y), rim)
    drawn = Image.new("L", tuple(size))
    ImageDraw.Draw(drawn).ellipse((x - radius, y - radius, x + radius, y + radius), fill=1, outline=1)
    return np.asarray(drawn) > 0


def _pasted(shape: Shape, size: Size) -> np.ndarray:
    """A cut-out at its place. Its corner points are the first and the last pixel; what lies outside is cut off."""
    (x1, y1), (x2, y2) = ([math.floor(value) for value in point] for point in shape.points)
    crop = _crop(shape.crop)
    height, width = crop.shape
    if (x2 - x1 + 1, y2 - y1 + 1) != (width, height):
        raise GensegError(f"a mask of {width}x{height} pixels, its points span {x2 - x1 + 1}x{y2 - y1 + 1}")
    whole = np.zeros((size.height, size.width), bool)
    top, left = max(y1, 0), max(x1, 0)
    inside = crop[max(-y1, 0) : max(size.height - y1, 0), max(-x1, 0) : max(size.width - x1, 0)]
    whole[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return whole


def _crop(text: str) -> np.ndarray:
    """The pixels of a cut-out that are not 0."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise GensegError(f"a mask of {image.width}x{image.height} pixels is larger than any picture")
            pixels = np.asarray(image)
    except (binascii.Error, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise GensegError(f"a mask's PNG cannot be read ({error})") from None
    if pixels.ndim != 2:
        raise GensegError(f"a mask's PNG has one channel, {pixels.shape[2]} found")
    return pixels != 0


def misspelt(label: str) -> str:
    """The word with a meaning that a label was probably meant to be; empty if there is none.

    >>> misspelt("ignor"), misspelt("Falg"), misspelt("ignore the sign"), misspelt("target"), misspelt("frog")
    ('ignore', 'flag', '', '', '')
    """
    label = label.strip().lower()
    if label == "flag" or "ignore" in label:
        return ""
    return next(iter(get_close_matches(label, _WORDS, 1, 0.75)), "")
