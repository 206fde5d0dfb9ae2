"""Logits to masks at the picture's resolution, in bounded pieces."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from gensegcli.records import Size  # noqa: E402
from gensegcli.segmenter.upsample import best_masks, masks_at  # noqa: E402


def bilinear(logits: np.ndarray, width: int, height: int) -> np.ndarray:
    """Bilinear resampling between pixel centres, clamped at the border, written out."""

    def axis(size: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at = np.clip((np.arange(length) + 0.5) * size / length - 0.5, 0, None)
        low = np.minimum(at.astype(int), size - 1)
        return low, np.minimum(low + 1, size - 1), at - low

    y0, y1, fy = axis(logits.shape[0], height)
    x0, x1, fx = axis(logits.shape[1], width)
    top = logits[y0][:, x0] * (1 - fx) + logits[y0][:, x1] * fx
    bottom = logits[y1][:, x0] * (1 - fx) + logits[y1][:, x1] * fx
    return top * (1 - fy[:, None]) + bottom * fy[:, None]


def test_matches_bilinear_written_out_for_mixed_sizes() -> None:
    logits = torch.randn(5, 16, 16, generator=torch.Generator().manual_seed(0))
    sizes = [Size(40, 30), Size(7, 90), Size(40, 30), Size(1, 1), Size(16, 16)]
    masks = masks_at(logits, sizes)
    for mask, low, size in zip(masks, logits.numpy().astype(np.float64), sizes, strict=True):
        expected = bilinear(low, size.width, size.height)
        assert mask.shape == (size.height, size.width)
        assert mask.dtype == bool
        decided = np.abs(expected) > 1e-5
        np.testing.assert_array_equal(mask[decided], expected[decided] > 0)


@pytest.mark.parametrize("pixels_at_once", [1, 1200, 2500, 10**9])
def test_pieces_do_not_change_masks(pixels_at_once: int) -> None:
    logits = torch.randn(6, 8, 8, generator=torch.Generator().manual_seed(1))
    sizes = [Size(40, 30)] * 6
    whole = masks_at(logits, sizes)
    for one, other in zip(whole, masks_at(logits, sizes, pixels_at_once=pixels_at_once), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_mask_does_not_keep_its_batch_alive() -> None:
    (first, _) = masks_at(torch.ones(2, 8, 8), [Size(4, 4)] * 2)
    assert first.base is None
    assert masks_at(torch.ones(0, 8, 8), []) == []


# ---------------------------------------------------------------- the best of several


def square(side: int, value: float = 3.0) -> torch.Tensor:
    """Logits (8 8) with a square of one value in a corner, -1 elsewhere."""
    logits = torch.full((8, 8), -1.0)
    logits[:side, :side] = value
    return logits


def test_an_empty_mask_is_taken_only_if_all_are_empty() -> None:
    masks = torch.stack([square(0), square(4), square(6)])
    logits = torch.stack([masks, masks[[0, 0, 0]]])
    scores = torch.tensor([[0.9, 0.5, 0.7], [0.2, 0.8, 0.3]])
    (first, first_score), (second, second_score) = best_masks(logits, scores, [Size(8, 8)] * 2)
    assert (int(first.sum()), first_score) == (36, pytest.approx(0.7))
    assert (int(second.sum()), second_score) == (0, pytest.approx(0.8))


def test_the_best_score_decides_among_masks_that_hold_a_pixel() -> None:
    logits = torch.stack([square(2), square(4), square(6)])[None]
    ((mask, score),) = best_masks(logits, torch.tensor([[0.5, 0.9, 0.7]]), [Size(8, 8)])
    assert (int(mask.sum()), score) == (16, pytest.approx(0.9))


def test_a_mask_that_vanishes_in_a_small_picture_counts_as_empty() -> None:
    # One positive logit among 8 x 8: at 2 x 2 every pixel is a mean of four others.
    dot = square(1, 0.1)
    ((mask, score),) = best_masks(torch.stack([dot, square(8)])[None], torch.tensor([[0.9, 0.4]]), [Size(2, 2)])
    assert (int(mask.sum()), score) == (4, pytest.approx(0.4))


def test_a_single_mask_is_itself() -> None:
    found = best_masks(square(3)[None, None], torch.tensor([[0.1]]), [Size(8, 8)])
    assert [(int(mask.sum()), round(score, 3)) for mask, score in found] == [(9, 0.1)]
