"""The same SAM 2 weights in the `sam2` package's model: dimensions, names and nothing else differ from transformers."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import torch

from gensegcli.errors import GensegError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sam2.modeling.sam2_base import SAM2Base
    from transformers import Sam2Config, Sam2Model

# What Meta's modules fix in code, so that a model that differs cannot be expressed with them.
_FIXED: tuple[tuple[str, Callable[[Sam2Config], object], object], ...] = (
    ("backbone patch_kernel_size", lambda c: list(_trunk(c).patch_kernel_size), [7, 7]),
    ("backbone patch_stride", lambda c: list(_trunk(c).patch_stride), [4, 4]),
    ("backbone patch_padding", lambda c: list(_trunk(c).patch_padding), [3, 3]),
    ("backbone mlp_ratio", lambda c: _trunk(c).mlp_ratio, 4.0),
    ("backbone embed_dim_per_stage, relative", lambda c: _ratios(_trunk(c).embed_dim_per_stage), [2.0] * 3),
    ("backbone heads per stage, relative", lambda c: _ratios(_trunk(c).num_attention_heads_per_stage), [2.0] * 3),
    ("num_feature_levels", lambda c: c.vision_config.num_feature_levels, 3),
    ("prompt encoder patch_size", lambda c: c.prompt_encoder_config.patch_size, 16),
    ("prompt encoder mask_input_channels", lambda c: c.prompt_encoder_config.mask_input_channels, 16),
    ("mask decoder num_hidden_layers", lambda c: c.mask_decoder_config.num_hidden_layers, 2),
    ("mask decoder num_multimask_outputs", lambda c: c.mask_decoder_config.num_multimask_outputs, 3),
)

_RENAMES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^no_memory_embedding$", "no_mem_embed"),
        (r"^vision_encoder\.backbone\.", "image_encoder.trunk."),
        (r"^vision_encoder\.neck\.convs\.(\d+)\.", r"image_encoder.neck.convs.\1.conv."),
        (r"\.patch_embed\.projection\.", ".patch_embed.proj."),
        (r"\.shared_embedding\.positional_embedding$", ".pe_layer.positional_encoding_gaussian_matrix"),
        # The mask prompt's convolutions, an nn.Sequential there: indices 2 and 5 are activations.
        (r"\.mask_embed\.conv1\.", ".mask_downscaling.0."),
        (r"\.mask_embed\.layer_norm1\.", ".mask_downscaling.1."),
        (r"\.mask_embed\.conv2\.", ".mask_downscaling.3."),
        (r"\.mask_embed\.layer_norm2\.", ".mask_downscaling.4."),
        (r"\.mask_embed\.conv3\.", ".mask_downscaling.6."),
        (r"\.upscale_conv1\.", ".output_upscaling.0."),
        (r"\.upscale_layer_norm\.", ".output_upscaling.1."),
        (r"\.upscale_conv2\.", ".output_upscaling.3."),
        (r"\.layer_norm(\d|_final_attn)\.", r".norm\1."),
        (r"\.o_proj\.", ".out_proj."),
        (r"^(prompt_encoder|mask_decoder)\.", r"sam_\1."),
    )
)

# Perceptrons: first, middle and last layer by name in transformers, one numbered list there.
_HEAD = re.compile(r"^(.*(?:output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head)\.)layers\.(\d+)\.")
_FIRST = re.compile(r"\.proj_in\.")
_LAST = re.compile(r"\.proj_out\.")

_VIDEO_ONLY = {"maskmem_tpos_enc", "no_mem_pos_enc"}
"""Parameters that Meta's base class always creates and the picture predictor never reads."""


def meta_model(model: Sam2Model) -> SAM2Base:
    """Meta's model with the weights of a transformers model, in evaluation mode; no memory parts for video.

    Raises:
        GensegError: the model has dimensions that Meta's code does not allow.
    """
    config = model.config
    for what, found, fixed in _FIXED:
        if found(config) != fixed:
            raise _not_expressible(f"{what} is {found(config)}, and the sam2 package knows only {fixed}")
    picture, prompt = model.shared_image_embedding, model.prompt_encoder.shared_embedding
    if not torch.equal(picture.positional_embedding, prompt.positional_embedding):
        raise _not_expressible("pictures and prompts have different position codes, and the sam2 package has one")
    built = _build(config)
    missing, unexpected = built.load_state_dict(
        meta_state_dict(model.state_dict(), iou_depth=config.mask_decoder_config.iou_head_depth), strict=False
    )
    if set(missing) != _VIDEO_ONLY or unexpected:
        raise RuntimeError(f"weights do not correspond: {missing} without value, {unexpected} without place")
    return built.eval()


def meta_state_dict(state: Mapping[str, torch.Tensor], *, iou_depth: int = 3) -> dict[str, torch.Tensor]:
    """A transformers `Sam2Model` state dict under the names of the `sam2` package.

    Two entries change their form: the position code, held twice by transformers, becomes one, and the table of four
    point embeddings becomes four tables of one.
    """
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if name == "shared_image_embedding.positional_embedding":
            continue
        if name == "prompt_encoder.point_embed.weight":
            for kind, row in enumerate(tensor):
                renamed[f"sam_prompt_encoder.point_embeddings.{kind}.weight"] = row[None]
            continue
        renamed[_meta_name(name, iou_depth)] = tensor
    return renamed


def _meta_name(name: str, iou_depth: int) -> str:
    name = _HEAD.sub(lambda found: f"{found[1]}layers.{int(found[2]) + 1}.", name)
    depth = iou_depth if "iou_prediction_head" in name else 2 if ".mlp." in name else 3
    name = _LAST.sub(f".layers.{depth - 1}.", _FIRST.sub(".layers.0.", name))
    for pattern, replacement in _RENAMES:
        name = pattern.sub(replacement, name)
    return name


def _build(config: Sam2Config) -> SAM2Base:
    """The modules by hand: the package's own YAML configurations know only the published sizes."""
    from sam2.modeling.backbones.hieradet import Hiera
    from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
    from sam2.modeling.position_encoding import PositionEmbeddingSine
    from sam2.modeling.sam.mask_decoder import MaskDecoder
    from sam2.modeling.sam.transformer import TwoWayTransformer
    from sam2.modeling.sam2_base import SAM2Base

    trunk, vision, decoder = _trunk(config), config.vision_config, config.mask_decoder_config
    width = vision.fpn_hidden_size
    encoder = ImageEncoder(
        trunk=Hiera(
            embed_dim=trunk.embed_dim_per_stage[0],
            num_heads=trunk.num_attention_heads_per_stage[0],
            q_pool=trunk.num_query_pool_stages,
            q_stride=tuple(trunk.query_stride),
            stages=tuple(trunk.blocks_per_stage),
            window_pos_embed_bkg_spatial_size=tuple(trunk.window_positional_embedding_background_size),
            window_spec=tuple(trunk.window_size_per_stage),
            global_att_blocks=tuple(trunk.global_attention_blocks),
        ),
        neck=FpnNeck(
            position_encoding=PositionEmbeddingSine(num_pos_feats=width, normalize=True, scale=None, temperature=10000),
            d_model=width,
            backbone_channel_list=list(vision.backbone_channel_list),
            kernel_size=vision.fpn_kernel_size,
            stride=vision.fpn_stride,
            padding=vision.fpn_padding,
            fpn_top_down_levels=list(vision.fpn_top_down_levels),
            fpn_interp_model="nearest",
        ),
        scalp=len(vision.backbone_channel_list) - vision.num_feature_levels,
    )
    model = SAM2Base(
        image_encoder=encoder,
        memory_attention=None,
        memory_encoder=None,
        image_size=config.prompt_encoder_config.image_size,
        directly_add_no_mem_embed=True,
        use_high_res_features_in_sam=True,
    )
    # SAM2Base builds its decoder with the published dimensions; this one has the model's.
    model.sam_mask_decoder = MaskDecoder(
        transformer_dim=width,
        transformer=TwoWayTransformer(
            depth=decoder.num_hidden_layers,
            embedding_dim=width,
            num_heads=decoder.num_attention_heads,
            mlp_dim=decoder.mlp_dim,
            attention_downsample_rate=decoder.attention_downsample_rate,
        ),
        num_multimask_outputs=decoder.num_multimask_outputs,
        iou_head_depth=decoder.iou_head_depth,
        iou_head_hidden_dim=decoder.iou_head_hidden_dim,
        use_high_res_features=True,
        iou_prediction_use_sigmoid=True,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
        dynamic_multimask_via_stability=decoder.dynamic_multimask_via_stability,
        dynamic_multimask_stability_delta=decoder.dynamic_multimask_stability_delta,
        dynamic_multimask_stability_thresh=decoder.dynamic_multimask_stability_thresh,
    )
    return model


def _trunk(config: Sam2Config):
    return config.vision_config.backbone_config


def _ratios(values: list[int]) -> list[float]:
    return [later / earlier for earlier, later in itertools.pairwise(values)]


def _not_expressible(what: str) -> GensegError:
    return GensegError(f"the sam2-meta backend cannot run this model: {what}", hint="use the sam2 backend")
