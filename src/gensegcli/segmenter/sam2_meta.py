"""SAM 2 through Meta's `sam2` package: the second backend, on the same weights, to check the first against."""

from __future__ import annotations

from contextlib import nullcontext
from copy import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.utils.transforms import SAM2Transforms
from transformers.image_utils import ChannelDimension

from gensegcli.records import SegmentedMask
from gensegcli.segmenter.encodings import EncodingCache
from gensegcli.segmenter.sam2_load import default_device, load_model
from gensegcli.segmenter.upsample import PIXELS_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from sam2.modeling.sam2_base import SAM2Base
    from transformers import Sam2ImageProcessor

    from gensegcli.models import ResolvedSegmenter
    from gensegcli.records import MaskPrompt


def load_sam2_meta(
    resolved: ResolvedSegmenter,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    multimask: bool = True,
    cache: int = 8,
) -> MetaSam2Segmenter:
    """A `MetaSam2Segmenter` with the weights of `resolved.path`, which is in transformers' form."""
    from gensegcli.segmenter.sam2_weights import meta_model

    model, processor = load_model(resolved)
    return MetaSam2Segmenter(
        meta_model(model),
        processor,
        feature_sizes=[tuple(size) for size in model.config.vision_config.backbone_feature_sizes],
        id=resolved.id,
        revision=resolved.revision,
        device=device or default_device(),
        dtype=dtype,
        multimask=multimask,
        cache=cache,
    )


class SharedPreparation(SAM2Transforms):
    """Meta's transforms with the picture prepared by transformers' image processor.

    Both resize bilinearly with antialiasing, Meta floats in one pass and transformers bytes in two, each rounded: up to
    one grey level apart, 0.3 on average. With one preparation the two backends differ in nothing but the network's code.
    """

    def __init__(self, processor: Sam2ImageProcessor, resolution: int) -> None:
        super().__init__(resolution, mask_threshold=0.0)
        self.processor = processor

    def __call__(self, image: np.ndarray) -> torch.Tensor:
        """A uint8 RGB picture (h w 3) as the model's input (3 r r)."""
        return self.processor(
            images=[image], input_data_format=ChannelDimension.LAST, return_tensors="pt"
        ).pixel_values[0]


class MetaSam2Segmenter:
    """Masks from boxes and points with `SAM2ImagePredictor`.

    Pictures are encoded one by one and prompts of different pictures share no batch, as the package has it. In fp32
    unless `dtype` says otherwise: then encoder and decoder run under autocast, as Meta's examples do.
    """

    def __init__(
        self,
        model: SAM2Base,
        processor: Sam2ImageProcessor,
        *,
        feature_sizes: list[tuple[int, int]],
        id: str,  # noqa: A002 - the protocol's name
        revision: str | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        multimask: bool = True,
        cache: int = 8,
    ) -> None:
        self.id = id
        self.revision = revision
        self.device = torch.device(device)
        self.dtype = dtype or torch.float32
        self.multimask = multimask
        self.cache: EncodingCache[SAM2ImagePredictor] = EncodingCache(cache)
        self._blank = SAM2ImagePredictor(model.to(self.device))
        self._blank._transforms = SharedPreparation(processor, model.image_size)
        # The package writes down the sizes for 1024-pixel input only.
        self._blank._bb_feat_sizes = feature_sizes

    def segment(
        self, images: Sequence[np.ndarray], prompts: Sequence[Sequence[MaskPrompt]]
    ) -> list[list[SegmentedMask]]:
        """See `Segmenter.segment`."""
        masks: list[list[SegmentedMask]] = []
        for image, own in zip(images, prompts, strict=True):
            if not own:
                masks.append([])
                continue
            (predictor,) = self.cache.encode_all([image], lambda fresh: [self._encode(one) for one in fresh])
            masks.append(self._decode(predictor, own, image.shape[0], image.shape[1]))
        return masks

    def _encode(self, image: np.ndarray) -> SAM2ImagePredictor:
        """A predictor of its own per picture, all on one model: its state is the encoding."""
        predictor = copy(self._blank)
        with torch.inference_mode(), self._autocast():
            predictor.set_image(image)
        return predictor

    def _decode(
        self, predictor: SAM2ImagePredictor, prompts: Sequence[MaskPrompt], height: int, width: int
    ) -> list[SegmentedMask]:
        masks: list[SegmentedMask | None] = [None] * len(prompts)
        groups: dict[int, list[int]] = {}
        for place, prompt in enumerate(prompts):
            # Padding points would take part in attention: only prompts with equally many points share a batch.
            groups.setdefault(len(prompt.points) + len(prompt.negatives), []).append(place)
        step = max(1, PIXELS_AT_ONCE // ((3 if self.multimask else 1) * height * width))
        for places in groups.values():
            for start in range(0, len(places), step):
                part = places[start : start + step]
                decoded = self._predict(predictor, [prompts[place] for place in part], height, width)
                for place, mask in zip(part, decoded, strict=True):
                    masks[place] = mask
        return [mask for mask in masks if mask is not None]

    def _predict(
        self, predictor: SAM2ImagePredictor, prompts: list[MaskPrompt], height: int, width: int
    ) -> list[SegmentedMask]:
        points = [(*prompt.points, *prompt.negatives) for prompt in prompts]
        labels = [[1] * len(prompt.points) + [0] * len(prompt.negatives) for prompt in prompts]
        with torch.inference_mode(), self._autocast():
            full, scores, _ = predictor.predict(
                point_coords=np.array(points, dtype=np.float32) if points[0] else None,  # (P k 2)
                point_labels=np.array(labels, dtype=np.int32) if points[0] else None,  # (P k)
                box=np.array([prompt.box for prompt in prompts], dtype=np.float32),  # (P 4)
                multimask_output=self.multimask,
            )
        # The package drops the axis of prompts when there is one.
        full, scores = full.reshape(len(prompts), -1, height, width), scores.reshape(len(prompts), -1)
        full = full.astype(bool)
        # As the other backend chooses: an empty mask only where all are.
        empty = ~full.any(axis=(2, 3))
        best = np.where(empty & ~empty.all(axis=1, keepdims=True), -np.inf, scores).argmax(axis=1)
        return [SegmentedMask(full[row, which].copy(), float(scores[row, which])) for row, which in enumerate(best)]

    def _autocast(self) -> AbstractContextManager[object]:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)
