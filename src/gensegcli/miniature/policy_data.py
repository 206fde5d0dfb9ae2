"""Batches for teaching the policy: scenes, questions, true answers and dense labels of what is where."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from gensegcli.miniature.policy_model import MERGE, PATCH
from gensegcli.records import Size
from gensegcli.sources.scenes import COLOURS, RADIUS, SHAPES, draw_scene, refer, true_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedTokenizerFast

    from gensegcli.dialects.base import Dialect
    from gensegcli.sources.scenes import Reference, Scene

CELL = PATCH * MERGE
"""Side in pixels of the area behind one picture token."""

SIZES = (Size(120, 120), Size(160, 100), Size(100, 160), Size(140, 100), Size(100, 140))
"""What the processor makes of the generator's sizes; scenes for teaching are drawn at these directly."""


@dataclass(frozen=True)
class Batch:
    """`s` scenes of one size and `b` sequences about them, `c` cells a scene.

    patches (s·patches, 3·2·PATCH²) and grid (s, 3) as Qwen3-VL's processor makes them; ids and taught (b, T), the
    latter true where a token is to be learned; scene_of (b,); cells (s·c, 3) colour, shape, size of the thing that
    covers most of a cell (-100: none); boxes (s·c, 4) its box relative to the cell's centre, in units of 128 pixels.
    """

    patches: torch.Tensor
    grid: torch.Tensor
    ids: torch.Tensor
    taught: torch.Tensor
    scene_of: torch.Tensor
    cells: torch.Tensor
    boxes: torch.Tensor


class SceneBatches(Dataset[Batch]):
    """Batch number `i` follows from `i` and the seed alone, so a resumed run sees what an unbroken one would."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        dialect: Dialect,
        *,
        scenes: int,
        questions: int,
        near_misses: Callable[[int], float],
        start: int,
        stop: int,
    ) -> None:
        self.tokenizer, self.dialect = tokenizer, dialect
        self.near_misses = near_misses  # share of no-target questions at a step
        self.scenes, self.questions = scenes, questions
        self.start, self.stop = start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, item: int) -> Batch:
        step = self.start + item
        rng = np.random.default_rng([2, step])
        size = SIZES[rng.choice(len(SIZES), p=[0.6, 0.1, 0.1, 0.1, 0.1])]
        # Fewer things first: the language side finds the form and the link to the picture sooner. And equally many
        # in all scenes of a batch: sequences of like length waste little on padding.
        things = int(rng.integers(1, min(6, 2 + step // 300) + 1))
        scenes = [
            _softened(draw_scene(int(rng.integers(2**62)), size, fewest=things, most=things), rng)
            for _ in range(self.scenes)
        ]
        rows = size.height // CELL, size.width // CELL
        sequences, lengths = [], []
        for scene in scenes:
            for _ in range(self.questions):
                reference = refer(scene, rng, no_target_share=self.near_misses(step))
                prompt, completion = self._sequence(scene, reference, rows[0] * rows[1])
                sequences.append(prompt + completion)
                lengths.append((len(prompt), len(prompt) + len(completion)))
        longest = max(len(sequence) for sequence in sequences)
        longest += -longest % 16  # few distinct shapes: each new one costs the CPU kernels a compilation
        pad = self.tokenizer.pad_token_id
        places = torch.arange(longest)
        labels = [_cell_labels(scene) for scene in scenes]
        return Batch(
            patches=torch.from_numpy(np.concatenate([patchify(scene.image) for scene in scenes])),
            grid=torch.tensor([[1, size.height // PATCH, size.width // PATCH]] * len(scenes)),
            ids=torch.tensor([sequence + [pad] * (longest - len(sequence)) for sequence in sequences]),
            taught=torch.stack([(places >= first) & (places < last) for first, last in lengths]),
            scene_of=torch.arange(len(scenes)).repeat_interleave(self.questions),
            cells=torch.from_numpy(np.concatenate([attributes for attributes, _ in labels])),
            boxes=torch.from_numpy(np.concatenate([boxes for _, boxes in labels])),
        )

    def _sequence(self, scene: Scene, reference: Reference, picture_tokens: int) -> tuple[list[int], list[int]]:
        text = self.tokenizer.apply_chat_template(
            [
                {
                    "role": "user",
                    "content": [{"type": "image"}, {"type": "text", "text": self.dialect.ask(reference.expression)}],
                }
            ],
            add_generation_prompt=True,
            tokenize=False,
        )
        text = text.replace("<|image_pad|>", "<|image_pad|>" * picture_tokens)
        completion = self.dialect.render(true_answer(scene, reference)) + self.tokenizer.eos_token
        encode = self.tokenizer.encode
        return encode(text, add_special_tokens=False), encode(completion, add_special_tokens=False)


def _softened(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene as it is, or (every other time) resampled once as pictures of other sizes are."""
    if rng.random() < 0.5:
        return scene
    larger = cv2.resize(scene.image, None, fx=1.067, fy=1.067, interpolation=cv2.INTER_CUBIC)
    return replace(scene, image=cv2.resize(larger, tuple(scene.size), interpolation=cv2.INTER_CUBIC))


def patchify(image: np.ndarray) -> np.ndarray:
    """What Qwen3-VL's image processor makes of a picture whose sides are multiples of CELL: float32 (patches, 3·2·PATCH²)."""
    height, width, _ = image.shape
    pixels = image.astype(np.float32) / 127.5 - 1
    blocks = pixels.reshape(height // CELL, MERGE, PATCH, width // CELL, MERGE, PATCH, 3)
    blocks = blocks.transpose(0, 3, 1, 4, 6, 2, 5)  # block row, block column, patch row, patch column, c, h, w
    twice = np.repeat(blocks[:, :, :, :, :, None], 2, axis=5)  # a still picture is two equal frames
    return twice.reshape(-1, 3 * 2 * PATCH * PATCH)


def _cell_labels(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Colour, shape and size index (c, 3) and relative box (c, 4) of what covers each cell most, row by row."""
    width, height = scene.size
    rows, columns = height // CELL, width // CELL
    cover = np.stack([thing.mask.reshape(rows, CELL, columns, CELL).sum((1, 3)).ravel() for thing in scene.things])
    winner = cover.argmax(0)
    here = cover.max(0) > 0.1 * CELL * CELL
    colours, sizes = list(COLOURS), list(RADIUS)
    table = np.array([(colours.index(t.colour), SHAPES.index(t.shape), sizes.index(t.size)) for t in scene.things])
    centres = (np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2) + 0.5) * CELL
    corners = np.array([thing.box for thing in scene.things])[winner]
    relative = (corners - np.tile(centres, 2)) / 128
    return np.where(here[:, None], table[winner], -100), relative.astype(np.float32)
