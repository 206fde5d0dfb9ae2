"""Generated scenes with exact truth: the world in which the bundled miniature models live.

A scene is a textured background with one to six things on it (shape, colour, size), some partly hidden by others.
Expressions name things by attributes, position, relation or as a group; about a quarter of them match nothing and are
near misses (the right colour on the wrong shape). Everything follows from one integer seed, to the last pixel and
under every version of OpenCV.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from gensegcli.dialects.genseg import MINI
from gensegcli.geometry.boxes import mask_box, pixel_to_grid
from gensegcli.geometry.fill import fill_polygon
from gensegcli.geometry.keypoints import mine_positive
from gensegcli.geometry.rle import encode
from gensegcli.records import Answer, GridBox, GridPoint, Instance, PixelBox, PixelPoint, Sample, Size, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

COLOURS = {
    "red": (214, 40, 40),
    "green": (46, 160, 67),
    "blue": (38, 84, 214),
    "yellow": (240, 205, 30),
    "purple": (142, 50, 168),
    "orange": (243, 125, 22),
}
SHAPES = ("circle", "square", "triangle", "star", "cross")
RADIUS = {"small": (0.075, 0.105), "large": (0.155, 0.21)}
"""Radius of a thing as a share of the scene's shorter side."""
SIZES = (Size(128, 128), Size(160, 96), Size(96, 160), Size(144, 112), Size(112, 144))
"""All have an area of about 128 x 128 pixels and sides that are multiples of 16."""

NO_TARGET_SHARE = 0.25
SUPERSAMPLING = 3
VISIBLE_SHARE = 0.6
CLEAR_MARGIN = 0.06
"""Two things differ in position only if their centres are this share of the side apart; otherwise nothing is asked."""


@dataclass(frozen=True)
class Thing:
    """One object of a scene. `mask` (h w) is its visible part, never empty."""

    shape: str
    colour: str
    size: str
    mask: np.ndarray

    @cached_property
    def box(self) -> PixelBox:
        box = mask_box(self.mask)
        assert box is not None, "a thing with nothing visible is never kept"
        return box

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of the visible box in pixels, (x, y)."""
        return (self.box.x1 + self.box.x2) / 2, (self.box.y1 + self.box.y2) / 2

    @property
    def name(self) -> str:
        return f"{self.size} {self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """A picture (uint8 RGB, h w 3) and its things from left to right."""

    image: np.ndarray
    things: tuple[Thing, ...]

    @property
    def size(self) -> Size:
        return Size(self.image.shape[1], self.image.shape[0])


@dataclass(frozen=True)
class Reference:
    """An expression and the indices of the things it means, left to right; none if it matches nothing."""

    expression: str
    matches: tuple[int, ...]
    kind: str


# ---------------------------------------------------------------- drawing


def draw_scene(seed: int, size: Size = SIZES[0], *, fewest: int = 1, most: int = 6) -> Scene:
    """The scene of a seed: `fewest` to `most` things as far as they fit, at least `VISIBLE_SHARE` of each visible."""
    rng = np.random.default_rng([0, seed])
    image = _background(rng, size)
    owner = np.zeros((size.height, size.width), np.uint8)  # 1-based index of the topmost thing at each pixel
    # Few colours and shapes in one scene: so that several things share them, and plurals and near misses abound.
    palette = rng.permutation(list(COLOURS))[:4].tolist(), rng.permutation(SHAPES)[:3].tolist()
    drawn: list[tuple[str, str, str]] = []
    whole: list[int] = []  # pixels of each thing if nothing hid it
    for _ in range(int(rng.integers(fewest, most + 1))):
        for _attempt in range(12):
            shape, colour, extent, coverage = _place(rng, size, *palette)
            mask = coverage > 0.5
            covered = np.bincount(owner[mask], minlength=len(drawn) + 1)[1:]
            left = np.bincount(owner.ravel(), minlength=len(drawn) + 1)[1:] - covered
            if all(rest >= VISIBLE_SHARE * full for rest, full in zip(left, whole, strict=True)):
                break
        else:
            continue
        paint = np.array(COLOURS[colour]) + rng.normal(0, 10, 3)
        grain = rng.normal(0, 5, (size.height, size.width, 1)).astype(np.float32)
        image += coverage[..., None] * (paint.astype(np.float32) + grain - image)
        drawn.append((shape, colour, extent))
        whole.append(int(mask.sum()))
        owner[mask] = len(drawn)
    things = [Thing(*attributes, mask=owner == number) for number, attributes in enumerate(drawn, 1)]
    things.sort(key=lambda thing: thing.centre)
    return Scene(np.clip(image, 0, 255).astype(np.uint8), tuple(things))


def _place(
    rng: np.random.Generator, size: Size, colours: Sequence[str], shapes: Sequence[str]
) -> tuple[str, str, str, np.ndarray]:
    """A random thing: shape, colour, size and its coverage (h w, 0 to 1) of each pixel."""
    shape, colour = str(rng.choice(shapes)), str(rng.choice(colours))
    extent = ("small", "large")[rng.integers(2)]
    radius = rng.uniform(*RADIUS[extent]) * min(size)
    x, y = (rng.uniform(radius + 1, side - radius - 1) for side in size)
    return shape, colour, extent, _coverage(shape, x, y, radius, rng.uniform(-0.35, 0.35), size)


def _coverage(shape: str, x: float, y: float, radius: float, turn: float, size: Size) -> np.ndarray:
    """Share of each pixel that a shape covers, by supersampling."""
    outline = (_OUTLINES[shape] @ _rotation(turn)) * radius + (x, y)
    fraction_bits = 4
    points = np.round((outline * SUPERSAMPLING - 0.5) * 2**fraction_bits).astype(np.int32)
    fine = fill_polygon(
        points, Size(size.width * SUPERSAMPLING, size.height * SUPERSAMPLING), fraction_bits=fraction_bits
    )
    small = cv2.resize(fine.view(np.uint8) * 255, tuple(size), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / 255


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _ring(corners: int, *, start: float, radii: tuple[float, ...] = (1.0,)) -> np.ndarray:
    angles = start + 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.cos(angles), np.sin(angles)], 1) * np.resize(radii, corners)[:, None]


_ARM = 0.36
_OUTLINES = {
    "circle": _ring(48, start=0.0, radii=(0.95,)),
    "square": _ring(4, start=np.pi / 4, radii=(1.15,)),
    "triangle": _ring(3, start=-np.pi / 2, radii=(1.15,)),
    "star": _ring(10, start=-np.pi / 2, radii=(1.15, 0.48)),
    "cross": np.array(
        [
            [-_ARM, _ARM, _ARM, 1, 1, _ARM, _ARM, -_ARM, -_ARM, -1, -1, -_ARM],
            [-1, -1, -_ARM, -_ARM, _ARM, _ARM, 1, 1, _ARM, _ARM, -_ARM, -_ARM],
        ]
    ).T,
}


def _background(rng: np.random.Generator, size: Size) -> np.ndarray:
    """A pale or dark textured ground without strong colour (float32, h w 3)."""
    base = rng.uniform(40, 215) + rng.normal(0, 10, 3)
    ys, xs = np.mgrid[0 : size.height, 0 : size.width].astype(np.float32)
    direction = rng.uniform(0, 2 * np.pi)
    along = xs * np.cos(direction) + ys * np.sin(direction)
    texture = rng.integers(4)
    if texture == 0:  # gradient
        pattern = (along - along.mean()) / max(size) * rng.uniform(20, 60)
    elif texture == 1:  # stripes
        pattern = np.sin(along * rng.uniform(0.15, 0.7)) * rng.uniform(6, 18)
    elif texture == 2:  # blotches
        coarse = rng.normal(0, 1, (6, 6))
        pattern = _cubic(6, size.height) @ coarse @ _cubic(6, size.width).T * rng.uniform(6, 18)
    else:  # checks
        cell = rng.integers(6, 18)
        pattern = (((xs // cell) + (ys // cell)) % 2 - 0.5) * rng.uniform(8, 28)
    noise = rng.normal(0, rng.uniform(1, 7), (size.height, size.width, 1))
    return (base + pattern[..., None] + noise).astype(np.float32)


@lru_cache(maxsize=16)
def _cubic(old: int, new: int) -> np.ndarray:
    """Weights (new old) of cubic interpolation from `old` samples to `new`, the outermost repeated beyond the ends.

    As `cv2.INTER_CUBIC`, whose last bits differ between versions of OpenCV.
    """
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.zeros((new, old))
    for tap in range(-1, 3):
        sample = np.floor(centres) + tap
        away = np.abs(centres - sample)
        near, far = (1.25 * away - 2.25) * away * away + 1, ((-0.75 * away + 3.75) * away - 6) * away + 3
        np.add.at(weights, (np.arange(new), np.clip(sample, 0, old - 1).astype(int)), np.where(away <= 1, near, far))
    return weights


# ---------------------------------------------------------------- expressions

_PLURAL = {"circle": "circles", "square": "squares", "triangle": "triangles", "star": "stars", "cross": "crosses"}
_EXTREMES = {"leftmost": (0, 1), "rightmost": (0, -1), "topmost": (1, 1), "bottommost": (1, -1)}
_RELATIONS = {"left of": (0, 1), "right of": (0, -1), "above": (1, 1), "below": (1, -1)}


def refer(scene: Scene, rng: np.random.Generator, *, no_target_share: float = NO_TARGET_SHARE) -> Reference:
    """A random expression about a scene; with probability `no_target_share` a near miss that matches nothing."""
    wanted_empty = rng.random() < no_target_share
    kinds = list(_KINDS)
    for kind in rng.permutation(kinds * 3):
        reference = _KINDS[kind](scene, rng)
        if reference is not None and (not reference.matches) == wanted_empty:
            return reference
    colour = str(rng.choice(list(COLOURS)))  # always possible: everything of some colour, present or not
    return _group(scene, rng, colour)


def _group(scene: Scene, rng: np.random.Generator, colour: str | None = None) -> Reference:
    colour = colour or str(rng.choice(list(COLOURS)))
    return Reference(f"everything {colour}", _where(scene, lambda t: t.colour == colour), "group")


def _where(scene: Scene, holds: Callable[[Thing], bool]) -> tuple[int, ...]:
    return tuple(i for i, thing in enumerate(scene.things) if holds(thing))


def _attributes(scene: Scene, rng: np.random.Generator) -> Reference | None:
    """`red circle`: the colour of one thing and the shape of one, the same or (a near miss) another."""
    colour = scene.things[rng.integers(len(scene.things))].colour
    shape = _shape_near(scene, rng)
    return _unique(scene, f"{colour} {shape}", lambda t: (t.colour, t.shape) == (colour, shape), "attributes")


def _sized(scene: Scene, rng: np.random.Generator) -> Reference | None:
    thing = scene.things[rng.integers(len(scene.things))]
    extent = ("small", "large")[rng.integers(2)]
    wanted = (extent, thing.colour, thing.shape)
    return _unique(scene, " ".join(wanted), lambda t: (t.size, t.colour, t.shape) == wanted, "size")


def _shape(scene: Scene, rng: np.random.Generator) -> Reference | None:
    shape = SHAPES[rng.integers(len(SHAPES))]
    return _unique(scene, f"the {shape}", lambda t: t.shape == shape, "shape")


def _shape_near(scene: Scene, rng: np.random.Generator) -> str:
    return scene.things[rng.integers(len(scene.things))].shape if rng.random() < 0.8 else str(rng.choice(SHAPES))


def _unique(scene: Scene, expression: str, holds: Callable[[Thing], bool], kind: str) -> Reference | None:
    """A singular expression is asked only where it means one thing or nothing."""
    matches = _where(scene, holds)
    return Reference(expression, matches, kind) if len(matches) <= 1 else None


def _plural(scene: Scene, rng: np.random.Generator) -> Reference:
    shape = _shape_near(scene, rng)
    if rng.random() < 0.5:
        return Reference(f"all {_PLURAL[shape]}", _where(scene, lambda t: t.shape == shape), "plural")
    colour = scene.things[rng.integers(len(scene.things))].colour
    matches = _where(scene, lambda t: (t.colour, t.shape) == (colour, shape))
    return Reference(f"all {colour} {_PLURAL[shape]}", matches, "plural")


def _everything(scene: Scene, rng: np.random.Generator) -> Reference:
    return _group(scene, rng)


def _position(scene: Scene, rng: np.random.Generator) -> Reference | None:
    """`leftmost circle`, `topmost red thing`: the extreme among those of a shape or colour, clear by a margin."""
    word = str(rng.choice(list(_EXTREMES)))
    axis, sign = _EXTREMES[word]
    if rng.random() < 0.5:
        shape = _shape_near(scene, rng)
        noun, pool = shape, _where(scene, lambda t: t.shape == shape)
    else:
        colour = str(rng.choice(list(COLOURS)))
        noun, pool = f"{colour} thing", _where(scene, lambda t: t.colour == colour)
    ranked = sorted(pool, key=lambda i: sign * scene.things[i].centre[axis])
    if len(ranked) > 1:
        first, second = (scene.things[i].centre[axis] for i in ranked[:2])
        if abs(first - second) < CLEAR_MARGIN * scene.size[axis]:
            return None
    return Reference(f"{word} {noun}", tuple(ranked[:1]), "position")


def _relation(scene: Scene, rng: np.random.Generator) -> Reference | None:
    """`circle left of the blue square`: one anchor, and one or no thing of the shape on that side of it."""
    anchor_index = int(rng.integers(len(scene.things)))
    anchor = scene.things[anchor_index]
    if len(_where(scene, lambda t: (t.colour, t.shape) == (anchor.colour, anchor.shape))) != 1:
        return None
    word = str(rng.choice(list(_RELATIONS)))
    axis, sign = _RELATIONS[word]
    shape = _shape_near(scene, rng)
    matches = []
    for i in _where(scene, lambda t: t.shape == shape):
        if i == anchor_index:
            continue
        gap = sign * (anchor.centre[axis] - scene.things[i].centre[axis])
        if abs(gap) < CLEAR_MARGIN * scene.size[axis]:
            return None
        if gap > 0:
            matches.append(i)
    if len(matches) > 1:
        return None
    return Reference(f"{shape} {word} the {anchor.colour} {anchor.shape}", tuple(matches), "relation")


_KINDS: dict[str, Callable[[Scene, np.random.Generator], Reference | None]] = {
    "attributes": _attributes,
    "size": _sized,
    "shape": _shape,
    "plural": _plural,
    "group": _everything,
    "position": _position,
    "relation": _relation,
}


# ---------------------------------------------------------------- truth

ANSWER_STEP = MINI.rounding
"""Taught answers are rounded to this many grid units, 1.3 pixels of a 128-pixel scene."""


def _rounded(value: float) -> int:
    return math.floor(value / ANSWER_STEP + 0.5) * ANSWER_STEP


def true_answer(scene: Scene, reference: Reference) -> Answer:
    """The answer taught to the miniature: its thought, then the matching instances."""
    return Answer(tuple(_instance(scene, i) for i in reference.matches), thought(scene, reference))


def thought(scene: Scene, reference: Reference) -> str:
    """A think text that lists every thing, and then those that match."""
    seen = [_mention(scene, i) for i in range(len(scene.things))]
    match = "; ".join(seen[i] for i in reference.matches) or "none"
    return f"I see {'; '.join(seen)}. Match: {match}."


def _mention(scene: Scene, index: int) -> str:
    thing = scene.things[index]
    x, y = pixel_to_grid(PixelPoint(*thing.centre), scene.size)
    return f"{thing.name} ({_rounded(x)}, {_rounded(y)})"


def _instance(scene: Scene, index: int) -> Instance:
    thing = scene.things[index]
    box = pixel_to_grid(thing.box, scene.size)
    points = [pixel_to_grid(point, scene.size) for point in mine_positive(thing.mask)]
    return Instance(
        box=GridBox(*(_rounded(v) for v in box)),
        points=tuple(GridPoint(_rounded(p.x), _rounded(p.y)) for p in points),
    )


# ---------------------------------------------------------------- samples


def scene_of(index: int, *, seed: int = 0, sizes: tuple[Size, ...] = SIZES) -> tuple[Scene, Reference]:
    """Scene and expression number `index` of the stream `seed`."""
    rng = np.random.default_rng([1, seed, index])
    scene = draw_scene(int(rng.integers(2**62)), sizes[rng.integers(len(sizes))])
    return scene, refer(scene, rng)


def samples(count: int, *, seed: int = 0, sizes: tuple[Size, ...] = SIZES) -> Iterator[Sample]:
    """`count` samples of the stream `seed`, pictures as PNG, truth exact and unrounded."""
    for index in range(count):
        scene, reference = scene_of(index, seed=seed, sizes=sizes)
        ok, png = cv2.imencode(".png", scene.image[..., ::-1])
        assert ok, "OpenCV always encodes an 8-bit picture"
        targets = []
        for i in reference.matches:
            thing = scene.things[i]
            points = tuple(pixel_to_grid(point, scene.size) for point in mine_positive(thing.mask))
            targets.append(Target(pixel_to_grid(thing.box, scene.size), points, encode(thing.mask)))
        yield Sample(
            id=f"scenes-{seed}-{index}",
            query=reference.expression,
            image=png.tobytes(),
            size=scene.size,
            targets=tuple(targets),
            sentences=(reference.expression,),
            provenance={"dataset": "scenes", "seed": seed, "index": index, "kind": reference.kind},
            think=thought(scene, reference),
        )
