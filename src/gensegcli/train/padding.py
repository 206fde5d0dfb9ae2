"""Forward passes over rows of unequal length: what is padding in all rows of a micro-batch is not computed.

TRL pads every prompt and completion of a step to the longest of all of them, and then passes over micro-batches in
random order. With answers of unequal length most of that is padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from trl.trainer.utils import split_pixel_values_by_grid, split_tensor_dict, unsplit_pixel_values_by_grid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
"""Fields of shape (B T)."""


def micro_batches(fields: Mapping[str, Any], size: int) -> Iterator[tuple[torch.Tensor, dict[str, Any], int]]:
    """Cut rows into micro-batches, those of like length together, each without its shared padding.

    Args:
        fields: `input_ids` and `attention_mask` (B T), prompts padded on the left and completions on the right; what
            else a forward pass takes: pixel values by picture, numbers of pictures (a list), further fields by token.
        size: rows of each micro-batch but perhaps the last.

    Yields:
        The numbers of the rows, their fields, and how many columns were cut off on the right.
    """
    by_row = split_pixel_values_by_grid(dict(fields))
    mask = fields["attention_mask"]
    for rows in mask.sum(dim=1).argsort(stable=True).split(size):
        own = mask[rows]
        left = int(own.argmax(dim=1).min())
        right = int(own.flip(1).argmax(dim=1).min())
        columns = slice(left, mask.shape[1] - right)
        part = {name: _take(values, rows) for name, values in by_row.items()}
        part.update({name: part[name][:, columns] for name in PER_TOKEN if name in part})
        yield rows, unsplit_pixel_values_by_grid(part), right


def sorted_batches(batch: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """The rows of a step in `count` equal micro-batches, those of like length together.

    Args:
        batch: `prompt_mask` and `completion_mask` (B T), further tensors (B …), lists by row, 0-dimensional tensors and None.
        count: divides B.
    """
    rows = (batch["prompt_mask"].sum(dim=1) + batch["completion_mask"].sum(dim=1)).argsort(stable=True)
    by_row = {
        name: values
        if values is None or (isinstance(values, torch.Tensor) and not values.ndim)
        else _take(values, rows)
        for name, values in split_pixel_values_by_grid(dict(batch)).items()
    }
    parts: list[Any] = split_tensor_dict(by_row, count)
    return [unsplit_pixel_values_by_grid(part) for part in parts]


def in_order(parts: list[torch.Tensor], rows: list[torch.Tensor]) -> torch.Tensor:
    """Values by row, (b …) of each micro-batch, in the order that the rows had."""
    return torch.cat(parts)[torch.cat(rows).argsort()]


def _take(values: Any, rows: torch.Tensor) -> Any:
    return values[rows] if isinstance(values, torch.Tensor) else [values[row] for row in rows.tolist()]
