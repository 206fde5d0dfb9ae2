"""Attention that reads the keys and values that several query heads share as they lie.

transformers writes them out once for each query head wherever there is a mask, since CUDA's fused kernels want that.
The CPU's does not, and copying takes longer there than attending.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch.nn.functional as F  # noqa: N812 - torch's own convention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from transformers import PreTrainedModel

_NAME = "sdpa_shared_heads"


def _attend(
    _module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Queries (B heads t dim), keys and values (B fewer-heads T dim) in, (B t heads dim) out.

    Without a mask all is visible, or, where there are several queries, what stands before each: `sdpa_mask` leaves the
    mask out in these cases alone.
    """
    causal = attention_mask is None and query.shape[2] > 1
    out = F.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, is_causal=causal, scale=scaling, enable_gqa=True
    )
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)


@contextmanager
def shared_heads(model: PreTrainedModel) -> Iterator[None]:
    """The model's language part attends this way inside, if it is on a CPU and set to SDPA. Not for training."""
    config = model.config.get_text_config()
    if model.device.type != "cpu" or config._attn_implementation != "sdpa":
        yield
        return
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = "sdpa"
