"""Micro-batches of like length: every row once, with what belongs to it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("trl")

from gensegcli.train.padding import sorted_batches

ROW = st.tuples(st.integers(1, 6), st.integers(1, 9))
"""Lengths of prompt and completion."""
ROWS = st.integers(1, 3).flatmap(lambda size: st.lists(ROW, min_size=4 * size, max_size=4 * size))


@given(ROWS)
def test_each_row_stands_once_beside_its_picture_and_neighbours_are_of_like_length(
    pairs: list[tuple[int, int]],
) -> None:
    prompts, completions = torch.tensor(pairs).T
    lengths = [sum(pair) for pair in pairs]
    rows = torch.arange(len(lengths))
    grid = torch.tensor([[1, 1 + row % 3, 2] for row in rows.tolist()])  # pictures of different sizes
    patches = [torch.full((int(size.prod()), 5), float(row)) for row, size in enumerate(grid)]
    batch = {
        "prompt_mask": (torch.arange(6).flip(0) < prompts[:, None]).long(),
        "completion_mask": (torch.arange(9) < completions[:, None]).long(),
        "advantages": rows.float(),
        "importance_sampling_ratio": rows[:, None] / 2,
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
    found = [int(n) for part in parts for n in part["prompt_mask"].sum(1) + part["completion_mask"].sum(1)]
    assert found == sorted(lengths)
    for part in parts:
        own = [int(row) for row in part["advantages"]]
        assert torch.equal(part["pixel_values"], torch.cat([patches[row] for row in own]))
        assert torch.equal(part["image_grid_thw"], grid[own])
        assert part["importance_sampling_ratio"].flatten().tolist() == [row / 2 for row in own]
        assert part["num_items_in_batch"] == sum(lengths)
        assert part["old_per_token_logps"] is None
