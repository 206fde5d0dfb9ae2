"""Logits to masks at the picture's resolution, in bounded pieces."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from gensegcli.records import Size  # noqa: E402
from gensegcli.segmenter.upsample import masks_at  # noqa: E402


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
