"""Attention that reads the keys and values that several query heads share as they lie.

transformers writes them out once for each query head wherever there is a mask, since CUDA's fused kernels want that.
Where each row has a single query, as in writing, heads that share keys can stand for queries beside each other, and no
kernel has to know. For reading prompts, the CPU's kernel takes shared heads as they are.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F  # noqa: N812 - torch's own convention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from transformers import PreTrainedModel

_NAME = "sdpa_shared_heads"


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Queries (B heads t dim), keys and values (B fewer-heads T dim) in, (B t heads dim) out.

    Without a mask all is visible, or, where there are several queries, what stands before each: `sdpa_mask` leaves the
    mask out in these cases alone.
    """
    rows, heads, queries, dim = query.shape
    if queries == 1:
        own = query.reshape(rows, key.shape[1], -1, dim)
        out = F.scaled_dot_product_attention(own, key, value, attn_mask=attention_mask, scale=scaling)
        return out.reshape(rows, 1, heads, dim), None
    if query.device.type != "cpu":
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **others)
    causal = attention_mask is None
    out = F.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, is_causal=causal, scale=scaling, enable_gqa=True
    )
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)


@contextmanager
def shared_heads(model: PreTrainedModel) -> Iterator[None]:
    """The model's language part attends this way inside, if it is set to SDPA. Not for training."""
    config = model.config.get_text_config()
    if config._attn_implementation != "sdpa":
        yield
        return
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = "sdpa"
