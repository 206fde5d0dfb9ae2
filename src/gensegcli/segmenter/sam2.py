"""SAM 2 through transformers' `Sam2Model`: each picture encoded once, many prompts decoded at a time."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers.image_utils import ChannelDimension

from gensegcli.records import SegmentedMask, Size
from gensegcli.segmenter.encodings import EncodingCache
from gensegcli.segmenter.memory import ShrinkingBatches
from gensegcli.segmenter.sam2_lean import make_lean
from gensegcli.segmenter.upsample import best_masks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    from transformers import Sam2ImageProcessor, Sam2Model

    from gensegcli.records import MaskPrompt

POSITIVE, NEGATIVE = 1, 0


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """One encoded picture: what the mask decoder needs of it, whatever its prompts."""

    size: Size
    features: tuple[torch.Tensor, ...]
    """Feature maps (c h w), finest first, at strides 4, 8 and 16 of the model's input."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One prompt of one picture, in the coordinates of the model's square input."""

    picture: int
    place: int
    box: tuple[float, ...]
    points: tuple[tuple[float, float], ...]
    labels: tuple[int, ...]


class Sam2Segmenter:
    """Masks from boxes and points with a transformers SAM 2.

    The picture encoder runs in `dtype` (bf16 on CUDA, fp32 elsewhere). Prompts and mask decoder always run in fp32:
    bf16 has eight bits for a position, which on a 1024-pixel input moves a prompt by several pixels, and the decoder
    is cheap.

    Args:
        model: in fp32; moved to `device` and put into evaluation mode.
        processor: the image processor that belongs to the model.
        multimask: take the best of three masks by predicted IoU, of those that are not empty; otherwise the single-mask
            output.
        cache: how many encoded pictures to keep.
        encode_batch, decode_batch: pictures and prompts per forward pass; halved for good when memory runs out.
    """

    def __init__(
        self,
        model: Sam2Model,
        processor: Sam2ImageProcessor,
        *,
        id: str,  # noqa: A002 - the protocol's name
        revision: str | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        multimask: bool = True,
        cache: int = 8,
        encode_batch: int = 8,
        decode_batch: int = 64,
    ) -> None:
        self.id = id
        self.revision = revision
        self.device = torch.device(device)
        self.dtype = dtype or (torch.bfloat16 if self.device.type == "cuda" else torch.float32)
        self.model = make_lean(model).to(self.device).eval()
        self.processor = processor
        self.multimask = multimask
        self.input_size: int = model.config.prompt_encoder_config.image_size
        self.cache: EncodingCache[Encoding] = EncodingCache(cache)
        self._picture_batches = ShrinkingBatches(encode_batch, what="the pictures")
        self._prompt_batches = ShrinkingBatches(decode_batch, what="the prompts")

    def segment(
        self, images: Sequence[np.ndarray], prompts: Sequence[Sequence[MaskPrompt]]
    ) -> list[list[SegmentedMask]]:
        """See `Segmenter.segment`. Pictures without prompts are not encoded."""
        asked = [index for index, own in enumerate(prompts) if own]
        masks: list[list[SegmentedMask]] = [[] for _ in zip(images, prompts, strict=True)]
        step = self._picture_batches.size
        # A batch is decoded before the next is encoded, so that no more encodings live than a batch and the cache.
        for start in range(0, len(asked), step):
            batch = asked[start : start + step]
            encodings = self.encode([images[index] for index in batch])
            for index, own in zip(batch, self.decode(encodings, [prompts[index] for index in batch]), strict=True):
                masks[index] = own
        return masks

    def encode(self, images: Sequence[np.ndarray]) -> list[Encoding]:
        """One encoding per uint8 RGB picture (h w 3); equal pictures, and those in the cache, are encoded once."""
        return self.cache.encode_all(
            images,
            lambda fresh: [
                encoding for batch in self._picture_batches.run(fresh, self._encode_batch) for encoding in batch
            ],
        )

    def decode(
        self, encodings: Sequence[Encoding], prompts: Sequence[Sequence[MaskPrompt]]
    ) -> list[list[SegmentedMask]]:
        """A mask per prompt on each encoding, at its picture's resolution; prompts of all pictures share batches."""
        masks: list[list[SegmentedMask | None]] = [[None] * len(own) for own in prompts]
        for jobs in self._jobs(encodings, prompts):
            for done in self._prompt_batches.run(jobs, lambda batch: self._decode_batch(encodings, batch)):
                for job, mask in done:
                    masks[job.picture][job.place] = mask
        return [[mask for mask in own if mask is not None] for own in masks]

    @torch.inference_mode()
    def _encode_batch(self, images: Sequence[np.ndarray]) -> list[Encoding]:
        # The layout is named because it cannot be guessed: a picture one or three pixels high looks channels-first.
        # Copied where read-only, as Pillow's are: torch warns of sharing memory that is not to be written.
        writable = [image if image.flags.writeable else image.copy() for image in images]
        pixels = self.processor(
            images=writable, input_data_format=ChannelDimension.LAST, return_tensors="pt"
        ).pixel_values.to(self.device)
        with self._autocast():
            features = self.model.get_image_embeddings(pixels)
        return [
            # Cloned so that a cached picture does not keep its whole batch alive.
            Encoding(Size(image.shape[1], image.shape[0]), tuple(level[index].clone() for level in features))
            for index, image in enumerate(images)
        ]

    def _jobs(self, encodings: Sequence[Encoding], prompts: Sequence[Sequence[MaskPrompt]]) -> list[list[_Job]]:
        """All prompts, grouped by their number of points.

        transformers pads missing points with zero tokens to which the decoder still attends, so that a padded prompt
        gives another mask than the same prompt alone. Hence only prompts of equal length share a batch.
        """
        groups: dict[int, list[_Job]] = {}
        for picture, (encoding, own) in enumerate(zip(encodings, prompts, strict=True)):
            scale_x, scale_y = self.input_size / encoding.size.width, self.input_size / encoding.size.height
            for place, prompt in enumerate(own):
                points = (*prompt.points, *prompt.negatives)
                job = _Job(
                    picture,
                    place,
                    box=tuple(value * scale for value, scale in zip(prompt.box, (scale_x, scale_y) * 2, strict=True)),
                    points=tuple((x * scale_x, y * scale_y) for x, y in points),
                    labels=(POSITIVE,) * len(prompt.points) + (NEGATIVE,) * len(prompt.negatives),
                )
                groups.setdefault(len(points), []).append(job)
        return list(groups.values())

    @torch.inference_mode()
    def _decode_batch(self, encodings: Sequence[Encoding], jobs: Sequence[_Job]) -> list[tuple[_Job, SegmentedMask]]:
        points = labels = None
        if jobs[0].points:
            points = torch.tensor([job.points for job in jobs], dtype=torch.float32, device=self.device)[:, None]
            labels = torch.tensor([job.labels for job in jobs], dtype=torch.int64, device=self.device)[:, None]
        output = self.model(
            image_embeddings=self._features(encodings, [job.picture for job in jobs]),
            input_boxes=torch.tensor([job.box for job in jobs], dtype=torch.float32, device=self.device)[:, None],
            input_points=points,  # (P 1 k 2)
            input_labels=labels,  # (P 1 k)
            multimask_output=self.multimask,
        )
        logits, scores = output.pred_masks[:, 0], output.iou_scores[:, 0]  # (P m h w), (P m)
        chosen = best_masks(logits, scores, [encodings[job.picture].size for job in jobs])
        return [(job, SegmentedMask(mask, score)) for job, (mask, score) in zip(jobs, chosen, strict=True)]

    def _features(self, encodings: Sequence[Encoding], pictures: list[int]) -> list[torch.Tensor]:
        """Feature maps (P c h w) with a row per prompt: views where all prompts are of one picture, else copies."""
        used = sorted(set(pictures))
        rows = torch.tensor([used.index(picture) for picture in pictures], device=self.device)
        levels = zip(*(encodings[picture].features for picture in used), strict=True)
        if len(used) == 1:
            return [level[0].float().expand(len(pictures), -1, -1, -1) for level in levels]
        return [torch.stack(level).float()[rows] for level in levels]

    def _autocast(self) -> AbstractContextManager[object]:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)
