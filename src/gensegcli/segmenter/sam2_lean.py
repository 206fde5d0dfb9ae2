"""transformers' SAM 2 picture encoder without the work whose results nobody uses.

transformers 5.17 computes two things for every picture and drops them: each attention layer makes weights beside those
of its attention kernel, and the neck makes sine encodings that only the video model's memory reads. On a CPU they are a
third of the encoder's time. The features are the same without them; `tests/segmenter/test_sam2_lean.py` holds that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import nn

if TYPE_CHECKING:
    from transformers import Sam2Model
    from transformers.models.sam2.modeling_sam2 import Sam2MultiScaleAttention


class LeanAttention(nn.Module):
    """The attention of a Hiera block on its given weights, with queries pooled where a stage begins."""

    def __init__(self, original: Sam2MultiScaleAttention) -> None:
        super().__init__()
        self.qkv, self.proj = original.qkv, original.proj
        self.heads, self.stride = original.num_attention_heads, original.query_stride

    def forward(self, hidden_states: torch.Tensor, **_: object) -> torch.Tensor:
        """Tokens (b h w c) in, tokens (b h' w c') out; h' and w' are a stride smaller where there is one."""
        batch, height, width, _channels = hidden_states.shape
        mixed = self.qkv(hidden_states).view(batch, height * width, 3, self.heads, -1)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)  # each (b heads h·w dim)
        if self.stride:
            grid = query.transpose(2, 3).reshape(batch, -1, height, width)  # (b heads·dim h w)
            grid = F.max_pool2d(grid, self.stride, self.stride)
            height, width = grid.shape[2:]
            # The fused kernels want each query's numbers side by side.
            query = grid.view(batch, self.heads, -1, height * width).transpose(2, 3).contiguous()
        out = F.scaled_dot_product_attention(query, key, value)
        return self.proj(out.transpose(1, 2).reshape(batch, height, width, -1))


class NoPositions(nn.Module):
    """In place of the neck's sine encodings: nothing, of a shape that the model's code can carry on."""

    def forward(self, shape: torch.Size, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """An empty tensor (b 0 h w)."""
        return torch.empty(shape[0], 0, *shape[2:], device=device, dtype=dtype)


def make_lean(model: Sam2Model) -> Sam2Model:
    """The model itself, its encoder relieved of unused work. Weights and their names stay."""
    encoder = model.vision_encoder
    encoder.neck.position_encoding = NoPositions()
    for block in encoder.backbone.blocks:
        if not isinstance(block.attn, LeanAttention):
            block.attn = LeanAttention(block.attn)
    return model
