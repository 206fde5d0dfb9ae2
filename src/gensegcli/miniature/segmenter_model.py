"""Architecture and image processor of the miniature segmenter: SAM 2 in every part, only small."""

from __future__ import annotations

import torch
from torch import nn
from transformers import (
    AutoModel,
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2ImageProcessor,
    Sam2MaskDecoderConfig,
    Sam2Model,
    Sam2PromptEncoderConfig,
    Sam2VisionConfig,
)

INPUT = 192
"""Side in pixels of the square to which every picture is resized.

Masks come at a quarter of it. From 32 x 32 the best mask there can be for a scene has an IoU of 0.96, from 48 x 48 of
0.99: at 128 pixels of input the thin arms of small stars and crosses are lost.
"""
STRIDES = (4, 8, 16)
WIDTH = 128
STAGES = (24, 48, 96, 192)
BLOCKS = (1, 2, 3, 1)
HEADS = (1, 2, 4, 8)
WINDOWS = (8, 8, 12, 6)
GLOBAL_BLOCKS = (5,)
POSITION_SCALE = 0.5
"""Half of SAM 2's frequencies: on 12 x 12 cells neighbouring places need codes that are alike."""


def build_processor() -> Sam2ImageProcessor:
    """Any picture to `INPUT` x `INPUT`, squashed, normalised as SAM 2 does."""
    mask_side = INPUT // STRIDES[0]
    return Sam2ImageProcessor(
        size={"height": INPUT, "width": INPUT}, mask_size={"height": mask_side, "width": mask_side}
    )


def build_config() -> Sam2Config:
    """Widths and heads double from stage to stage, as Meta's own code of SAM 2 requires."""
    hiera = Sam2HieraDetConfig(
        hidden_size=STAGES[0],
        num_attention_heads=HEADS[0],
        image_size=[INPUT, INPUT],
        patch_kernel_size=[7, 7],
        patch_stride=[4, 4],
        patch_padding=[3, 3],
        query_stride=[2, 2],
        num_query_pool_stages=3,
        blocks_per_stage=list(BLOCKS),
        embed_dim_per_stage=list(STAGES),
        num_attention_heads_per_stage=list(HEADS),
        window_size_per_stage=list(WINDOWS),
        window_positional_embedding_background_size=[12, 12],
        global_attention_blocks=list(GLOBAL_BLOCKS),
    )
    vision = Sam2VisionConfig(
        backbone_config=hiera.to_dict(),
        backbone_channel_list=list(STAGES[::-1]),
        backbone_feature_sizes=[[INPUT // stride] * 2 for stride in STRIDES],
        fpn_hidden_size=WIDTH,
        fpn_top_down_levels=[2, 3],
        num_feature_levels=len(STRIDES),
    )
    prompts = Sam2PromptEncoderConfig(hidden_size=WIDTH, image_size=INPUT, patch_size=16, mask_input_channels=16)
    decoder = Sam2MaskDecoderConfig(
        hidden_size=WIDTH,
        mlp_dim=256,
        num_hidden_layers=2,
        num_attention_heads=2,  # 32 dimensions a head after the downsampling: with 8, positions were never matched
        attention_downsample_rate=2,
        num_multimask_outputs=3,
        iou_head_depth=3,
        iou_head_hidden_dim=WIDTH,
    )
    return Sam2Config(
        vision_config=vision.to_dict(),
        prompt_encoder_config=prompts.to_dict(),
        mask_decoder_config=decoder.to_dict(),
    )


@torch.no_grad()
def build_model(*, attention: str | None = None) -> Sam2Model:
    """The untrained segmenter, with transformers' implementation of attention by name. Seed torch before calling."""
    model: Sam2Model = AutoModel.from_config(build_config(), attn_implementation=attention)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            # The published initialisation (0.02) is for wide layers; at these widths it makes every signal fade.
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            nn.init.zeros_(module.bias)
    # One matrix codes the places of picture cells and of prompts in SAM 2; transformers keeps it twice and draws both
    # copies independently, in which case no prompt finds its place in the picture.
    shared = model.prompt_encoder.shared_embedding.positional_embedding
    shared.mul_(POSITION_SCALE)
    model.shared_image_embedding.positional_embedding.copy_(shared)
    return model
