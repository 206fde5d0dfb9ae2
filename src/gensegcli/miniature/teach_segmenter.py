"""Supervised teaching of the miniature segmenter.

Prompted masks do not come by themselves in so small a model, so it is told more than SAM 2 is: a dense head on the
feature maps, thrown away afterwards, that must say what colour is where and whose box it is; and one truth for all
masks: a box and points on one thing leave no doubt about what is meant, so every mask token is taught the same thing
and whichever the quality head prefers is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from gensegcli.miniature.segmenter_data import PromptedScenes
from gensegcli.miniature.segmenter_model import WIDTH, build_model, build_processor
from gensegcli.miniature.teaching import Schedule, Teacher
from gensegcli.sources.scenes import COLOURS

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import Sam2Model

    from gensegcli.miniature.segmenter_data import Batch

SINGLE_SHARE = 4
"""Every so many steps the token of the single mask is taught instead of those of the three."""


@dataclass(frozen=True)
class Recipe(Schedule):
    """How the segmenter is taught."""

    steps: int = 4_000
    learning_rate: float = 1.5e-3
    decay_share: float = 0.4
    scenes: int = 8
    prompts: int = 5

    def dense_weight(self, step: int) -> float:
        """Weight of the dense head: all that matters at first, little after a fifth of the way."""
        return max(0.1, 2.0 - 9.5 * step / self.steps)


class DenseHead(nn.Module):
    """What colour is at each cell of the finest feature map, and whose box at each of the coarsest."""

    def __init__(self) -> None:
        super().__init__()
        self.colour = nn.Linear(WIDTH // 8, 1 + len(COLOURS))
        self.extent = nn.Linear(WIDTH, 4)

    def loss(self, features: list[torch.Tensor], batch: Batch) -> torch.Tensor:
        """Scalar loss of the feature maps (s c h w), finest first."""
        logits = self.colour(features[0].permute(0, 2, 3, 1)).float()
        extents = self.extent(features[-1].permute(0, 2, 3, 1)).float()
        known = ~batch.extents.isnan()
        return F.cross_entropy(logits.flatten(0, 2), batch.colours.flatten()) + 5 * F.l1_loss(
            extents[known], batch.extents[known]
        )


def encode(model: Sam2Model, pixels: torch.Tensor) -> list[torch.Tensor]:
    """Feature maps (s c h w), finest first: `Sam2Model.get_image_embeddings`, but with gradients."""
    flat = list(model.get_image_features(pixels, return_dict=True).fpn_hidden_states)  # each (h·w s c)
    flat[-1] = flat[-1] + model.no_memory_embedding
    sizes = model.backbone_feature_sizes
    return [level.permute(1, 2, 0).unflatten(2, tuple(size)) for level, size in zip(flat, sizes, strict=True)]


def decode(
    model: Sam2Model, features: list[torch.Tensor], boxes: torch.Tensor, points: torch.Tensor | None, *, single: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (s p m h w) and predicted IoU (s p m) of the prompts of each scene, as in `Sam2Model.forward`.

    The places of prompts are coded in float32 whatever the decoder computes in, as at inference: bfloat16 would move
    them by up to a pixel.
    """
    with torch.autocast("cpu", enabled=False):
        labels = None if points is None else torch.ones(points.shape[:-1], dtype=torch.int64)
        sparse, dense = model.prompt_encoder(points, labels, boxes, None)
        places = model.get_image_wide_positional_embeddings().repeat(len(boxes), 1, 1, 1)
    masks, scores, _, _ = model.mask_decoder(
        image_embeddings=features[-1],
        image_positional_embeddings=places,
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=not single,
        high_resolution_features=features[:-1],
    )
    return masks, scores


def mask_losses(logits: torch.Tensor, truth: torch.Tensor, scores: torch.Tensor) -> dict[str, torch.Tensor]:
    """Losses of mask logits (n h w) at full resolution against truth (n h w) and of predicted IoU (n).

    Cross-entropy is summed over the picture and divided by the thing's area, so that small things count as much as
    large ones.
    """
    aim = truth.float()
    area = aim.sum((1, 2))
    pixels = F.binary_cross_entropy_with_logits(logits, aim, reduction="none").sum((1, 2)) / (4 * area + 100)
    likely = logits.sigmoid()
    dice = 1 - (2 * (likely * aim).sum((1, 2)) + 1) / (likely.sum((1, 2)) + area + 1)
    with torch.no_grad():
        found = logits > 0
        iou = (found & truth).sum((1, 2)) / (found | truth).sum((1, 2))
    quality = F.mse_loss(scores, iou)
    return {"pixels": pixels.mean(), "dice": dice.mean(), "quality": quality, "iou": iou.mean()}


class SegmenterTeacher(Teacher):
    """Teaches masks and their predicted quality, and the dense head beside them."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.processor = build_processor()
        # On a processor the fused attention's backward pass in bfloat16 is several times slower than plain products.
        self.model = build_model(attention="eager").train()
        self.dense = DenseHead()
        self.prepare("layers", "blocks", "mlps")

    def batches(self, start: int, stop: int) -> PromptedScenes:
        """See `Teacher.batches`."""
        return PromptedScenes(
            scenes=self.recipe.scenes,
            prompts=self.recipe.prompts,
            mean=self.processor.image_mean,
            std=self.processor.image_std,
            start=start,
            stop=stop,
        )

    def weights(self, step: int) -> dict[str, float]:
        """See `Teacher.weights`."""
        return {"pixels": 1.0, "dice": 1.0, "quality": 1.0, "dense": self.recipe.dense_weight(step)}

    def losses(self, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        """Losses of the masks, of the predicted quality and of the dense head; `iou` is for the curve."""
        with torch.autocast("cpu", torch.bfloat16):
            features = encode(self.model, batch.pixels)
            dense = self.dense.loss(features, batch)
            single = step % SINGLE_SHARE == 0
            logits, scores = decode(self.model, features, batch.boxes, batch.points, single=single)
        logits, scores = logits.flatten(0, 1).float(), scores.flatten(0, 1).float()
        # One token of each prompt, drawn anew each time: at full resolution masks cost more than the model.
        rows = torch.arange(len(logits))
        chosen = torch.randint(logits.shape[1], (len(logits),), generator=torch.Generator().manual_seed(step))
        truth = batch.truth.flatten(0, 1)
        full = F.interpolate(logits[rows, chosen, None], truth.shape[-2:], mode="bilinear", align_corners=False)
        return {**mask_losses(full[:, 0], truth, scores[rows, chosen]), "dense": dense}

    def save(self, folder: Path) -> None:
        """Weights in float16, configuration and image processor as transformers loads them."""
        folder.mkdir(parents=True, exist_ok=True)
        half = {
            name: weight.half() if weight.is_floating_point() else weight
            for name, weight in self.model.state_dict().items()
        }
        model = build_model().half()
        model.load_state_dict(half)
        model.save_pretrained(folder)
        (folder / "model.safetensors").chmod(0o644)  # saved for its owner alone, but packages are for everybody
        self.processor.save_pretrained(folder)
