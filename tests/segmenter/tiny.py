"""A SAM 2 of the true architecture, small enough to build in a blink, with weights that give lively masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gensegcli.records import MaskPrompt, PixelBox, PixelPoint

if TYPE_CHECKING:
    from transformers import Sam2Model


def tiny_sam2(size: int = 64, width: int = 32, seed: int = 2) -> Sam2Model:
    """A randomly initialised `Sam2Model` for `size`-pixel input."""
    import torch
    from transformers import (
        Sam2Config,
        Sam2HieraDetConfig,
        Sam2MaskDecoderConfig,
        Sam2Model,
        Sam2PromptEncoderConfig,
        Sam2VisionConfig,
    )

    dims = [8, 16, 32, 64]
    hiera = Sam2HieraDetConfig(
        hidden_size=dims[0],
        image_size=[size, size],
        blocks_per_stage=[1, 2, 2, 1],
        embed_dim_per_stage=dims,
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 4, 2],
        window_positional_embedding_background_size=[4, 4],
        global_attention_blocks=[2, 4],
    )
    vision = Sam2VisionConfig(
        backbone_config=hiera.to_dict(),
        backbone_channel_list=dims[::-1],
        backbone_feature_sizes=[[size // stride] * 2 for stride in (4, 8, 16)],
        fpn_hidden_size=width,
    )
    config = Sam2Config(
        vision_config=vision.to_dict(),
        prompt_encoder_config=Sam2PromptEncoderConfig(hidden_size=width, image_size=size).to_dict(),
        mask_decoder_config=Sam2MaskDecoderConfig(
            hidden_size=width, mlp_dim=64, num_attention_heads=2, iou_head_hidden_dim=32
        ).to_dict(),
    )
    generator = torch.Generator().manual_seed(seed)
    model = Sam2Model(config).eval()
    with torch.no_grad():
        # transformers' own start (std 0.02) gives logits near 0 everywhere, where masks are decided by rounding, and
        # attention so flat that the mask hardly depends on its prompt.
        for name, parameter in model.named_parameters():
            if "embed" in name or "token" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            elif parameter.ndim > 1:
                fan_in = parameter[0].numel()
                sharpness = 3.0 if "q_proj" in name or "k_proj" in name else 1.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * sharpness / fan_in**0.5)
        positions = torch.randn(2, width // 2, generator=generator)
        # Pictures and prompts share one code for positions, as in every trained checkpoint.
        model.shared_image_embedding.positional_embedding.copy_(positions)
        model.prompt_encoder.shared_embedding.positional_embedding.copy_(positions)
    return model


def assert_alike(mine: np.ndarray, other: np.ndarray) -> None:
    """Two masks (h w) are the same but for one pixel in a thousand.

    Sums in another order (another batch, another processor) move logits by some 1e-5 of their range, and where one
    happens to lie that near to 0 its pixel may fall either way.
    """
    assert mine.shape == other.shape
    assert np.mean(mine != other) <= 1e-3


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """An RGB picture with structure at several scales."""
    rng = np.random.default_rng((seed, width, height))
    coarse = rng.integers(0, 256, (4, 4, 3)).repeat(-(-height // 4), axis=0).repeat(-(-width // 4), axis=1)
    noise = rng.integers(-30, 30, (height, width, 3))
    return (coarse[:height, :width] + noise).clip(0, 255).astype(np.uint8)


def prompt(
    box: tuple[float, float, float, float],
    points: tuple[tuple[float, float], ...] = (),
    negatives: tuple[tuple[float, float], ...] = (),
) -> MaskPrompt:
    return MaskPrompt(
        PixelBox(*box), tuple(PixelPoint(*point) for point in points), tuple(PixelPoint(*point) for point in negatives)
    )


def random_prompts(
    count: int, width: int, height: int, *, points: int = 2, negatives: int = 0, seed: int = 0
) -> list[MaskPrompt]:
    """Boxes anywhere in a picture of this size, with points inside them."""
    rng = np.random.default_rng((seed, count, width, height))
    made = []
    for _ in range(count):
        x1, x2 = sorted(rng.uniform(0, width, 2))
        y1, y2 = sorted(rng.uniform(0, height, 2))
        inside = [(float(rng.uniform(x1, x2)), float(rng.uniform(y1, y2))) for _ in range(points + negatives)]
        made.append(prompt((x1, y1, x2, y2), tuple(inside[:points]), tuple(inside[points:])))
    return made
