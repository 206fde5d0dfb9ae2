"""Batches for teaching the segmenter: scenes, prompts as a policy would give them, true masks, dense labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from gensegcli.geometry.keypoints import mine_positive
from gensegcli.miniature.segmenter_model import INPUT, STRIDES
from gensegcli.records import GRID
from gensegcli.sources.scenes import ANSWER_STEP, COLOURS, SIZES, draw_scene

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gensegcli.records import Size
    from gensegcli.sources.scenes import Scene, Thing

POINT_SHARES = (0.25, 0.25, 0.5)
"""How often a batch is prompted with a box alone, a box and one point, a box and two points."""
_EXACT, _ROUNDED = 0.4, 0.3
"""Shares of prompts as they are and on the policy's grid of answers; the others are shaken as well."""


@dataclass(frozen=True)
class Batch:
    """`s` scenes of one size h x w with `p` prompts each; prompts are in pixels of the model's square input.

    pixels (s, 3, INPUT, INPUT) normalised; boxes (s, p, 4); points (s, p, k, 2) or None; truth (s, p, h, w) bool;
    colours (s, fine, fine) 0 for ground or 1 + index of the colour at each cell of the finest feature map; extents
    (s, coarse, coarse, 4) for each cell of the coarsest map the distances from its centre to the edges of the box of
    the thing that is there, in units of the picture, NaN where there is none.
    """

    pixels: torch.Tensor
    boxes: torch.Tensor
    points: torch.Tensor | None
    truth: torch.Tensor
    colours: torch.Tensor
    extents: torch.Tensor


class PromptedScenes(Dataset[Batch]):
    """Batch number `i` follows from `i` alone, so a resumed run sees what an unbroken one would."""

    def __init__(
        self, *, scenes: int, prompts: int, mean: Sequence[float], std: Sequence[float], start: int, stop: int
    ) -> None:
        self.scenes, self.prompts = scenes, prompts
        self.mean, self.std = np.array(mean, np.float32), np.array(std, np.float32)
        self.start, self.stop = start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, item: int) -> Batch:
        step = self.start + item
        rng = np.random.default_rng([3, step])
        size = SIZES[rng.choice(len(SIZES), p=[0.6, 0.1, 0.1, 0.1, 0.1])]
        points = int(rng.choice(len(POINT_SHARES), p=POINT_SHARES))
        scenes = [draw_scene(int(rng.integers(2**62)), size) for _ in range(self.scenes)]
        asked = [scene.things[i] for scene in scenes for i in _some(len(scene.things), self.prompts, rng)]
        prompts = [prompt_for(thing, size, points, rng) for thing in asked]
        shape = (self.scenes, self.prompts)
        labels = [_dense_labels(scene) for scene in scenes]
        return Batch(
            pixels=torch.from_numpy(np.stack([self.normalised(scene.image) for scene in scenes])),
            boxes=torch.from_numpy(np.stack([box for box, _ in prompts])).view(*shape, 4),
            points=torch.from_numpy(np.stack([own for _, own in prompts])).view(*shape, points, 2) if points else None,
            truth=torch.from_numpy(np.stack([thing.mask for thing in asked])).view(*shape, size.height, size.width),
            colours=torch.from_numpy(np.stack([colours for colours, _ in labels])),
            extents=torch.from_numpy(np.stack([extents for _, extents in labels])),
        )

    def normalised(self, image: np.ndarray) -> np.ndarray:
        """What the image processor makes of a picture (uint8, h w 3) that it enlarges: float32 (3, INPUT, INPUT)."""
        square = cv2.resize(image, (INPUT, INPUT), interpolation=cv2.INTER_LINEAR)
        return ((square.astype(np.float32) / 255 - self.mean) / self.std).transpose(2, 0, 1)


def prompt_for(thing: Thing, size: Size, points: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Box (4,) and points (points, 2) of a thing in pixels of the model's input, float32, as exact as a policy's.

    Some are exact, some lie on the grid of taught answers, some are off by several per cent of the box besides.
    """
    scale = np.array([INPUT / size.width, INPUT / size.height])
    corners = np.array(thing.box).reshape(2, 2) * scale
    if points and rng.random() < 0.5:
        spots = np.array([(p.x, p.y) for p in mine_positive(thing.mask)][:points]).reshape(-1, 2)
        spots = np.resize(spots, (points, 2))
    else:
        ys, xs = np.nonzero(thing.mask)
        chosen = rng.integers(len(xs), size=points)
        spots = np.stack([xs[chosen], ys[chosen]], 1) + 0.5
    spots = spots * scale
    care = rng.random()
    if care > _EXACT + _ROUNDED:
        extent = corners[1] - corners[0]
        corners = np.clip(corners + rng.normal(0, 0.05, (2, 2)) * extent, 0, INPUT)
        spots = np.clip(spots + rng.normal(0, 0.04, (points, 2)) * extent, 0, INPUT)
    if care > _EXACT:
        step = ANSWER_STEP / GRID * INPUT
        corners, spots = np.round(corners / step) * step, np.round(spots / step) * step
    return corners.ravel().astype(np.float32), spots.astype(np.float32)


def _some(available: int, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """`wanted` indices below `available`, each before any is repeated."""
    return np.resize(rng.permutation(available), wanted)


def _dense_labels(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Colours and extents of a scene as `Batch` has them, at the centres of the cells."""
    fine, coarse = INPUT // STRIDES[0], INPUT // STRIDES[-1]
    owner = np.zeros((scene.size.height, scene.size.width), np.uint8)
    for number, thing in enumerate(scene.things, 1):
        owner[thing.mask] = number
    palette = list(COLOURS)
    colour_of = np.array([0, *(1 + palette.index(thing.colour) for thing in scene.things)])
    boxes = np.array([[np.nan] * 4, *(thing.box for thing in scene.things)], np.float32) / np.tile(scene.size, 2)
    centres = (np.arange(coarse) + 0.5) / coarse
    here = np.stack(np.meshgrid(centres, centres), -1)
    extents = boxes[_at_centres(owner, coarse)] - np.tile(here, 2)
    return colour_of[_at_centres(owner, fine)], extents.astype(np.float32)


def _at_centres(values: np.ndarray, cells: int) -> np.ndarray:
    rows, columns = (((np.arange(cells) + 0.5) / cells * side).astype(int) for side in values.shape)
    return values[np.ix_(rows, columns)]
