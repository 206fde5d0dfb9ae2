"""Micro-batches of like length: every row once, with what belongs to it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("trl")

from gensegcli.train.padding import sorted_batches

LENGTHS = st.lists(st.integers(1, 9), min_size=4, max_size=12).filter(lambda lengths: len(lengths) % 4 == 0)


@given(LENGTHS)
def test_each_row_stands_once_beside_its_picture_and_neighbours_are_of_like_length(lengths: list[int]) -> None:
    rows = torch.arange(len(lengths))
    grid = torch.tensor([[1, 1 + row % 3, 2] for row in rows.tolist()])  # pictures of different sizes
    patches = [torch.full((int(size.prod()), 5), float(row)) for row, size in enumerate(grid)]
    batch = {
        "prompt_mask": torch.ones(len(lengths), 2, dtype=torch.long),
        "completion_mask": (torch.arange(9) < torch.tensor(lengths)[:, None]).long(),
        "advantages": rows.float(),
        "pixel_values": torch.cat(patches),
        "image_grid_thw": grid,
        "num_images": [1] * len(lengths),
        "num_items_in_batch": torch.tensor(sum(lengths)),
        "old_per_token_logps": None,
    }
    parts = sorted_batches(batch, 4)

    order = [int(row) for part in parts for row in part["advantages"]]
    assert sorted(order) == rows.tolist()
    assert {len(part["advantages"]) for part in parts} == {len(lengths) // 4}
    found = [int(length) for part in parts for length in part["completion_mask"].sum(1)]
    assert found == sorted(lengths)
    for part in parts:
        own = [patches[int(row)] for row in part["advantages"]]
        assert torch.equal(part["pixel_values"], torch.cat(own))
        assert part["num_items_in_batch"] == sum(lengths)
        assert part["old_per_token_logps"] is None
