"""The one overlap count: run lengths, bool arrays and a loop over pixels say the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from gensegcli.errors import GensegError
from gensegcli.geometry import rle
from gensegcli.geometry.masks import mask_iou
from gensegcli.metrics.overlap import IgnoreRule, Overlap, overlap, united
from gensegcli.records import Rle, Size

shapes = array_shapes(min_dims=2, max_dims=2, max_side=12)
triples = shapes.flatmap(lambda shape: st.tuples(*[arrays(bool, shape)] * 3))


def by_loops(predicted: np.ndarray, true: np.ndarray, ignore: np.ndarray | None, rule: IgnoreRule) -> Overlap:
    shared = either = p_area = t_area = 0
    for place in np.ndindex(*true.shape):
        p, t = bool(predicted[place]), bool(true[place])
        if ignore is not None and ignore[place]:
            if rule is IgnoreRule.EXCLUDED:
                continue
            t = True
        shared, either, p_area, t_area = shared + (p and t), either + (p or t), p_area + p, t_area + t
    return Overlap(shared, either, p_area, t_area)


@given(triples, st.booleans(), st.sampled_from(IgnoreRule))
def test_every_form_counts_what_a_loop_counts(
    masks: tuple[np.ndarray, np.ndarray, np.ndarray], has_ignore: bool, rule: IgnoreRule
) -> None:
    predicted, true, unclear = masks
    ignore = unclear if has_ignore else None
    expected = by_loops(predicted, true, ignore, rule)
    before = [mask.copy() for mask in masks]

    code = None if ignore is None else rle.encode(ignore)
    assert overlap(predicted, true, ignore=ignore, ignored=rule) == expected
    assert overlap(rle.encode(predicted), rle.encode(true), ignore=code, ignored=rule) == expected
    assert overlap(predicted, rle.encode(true), ignore=code, ignored=rule) == expected
    assert overlap(rle.encode(predicted), true, ignore=ignore, ignored=rule) == expected
    assert overlap(predicted.astype(np.uint8) * 255, true, ignore=ignore, ignored=rule) == expected
    assert all(np.array_equal(*pair) for pair in zip(masks, before, strict=True)), "an argument was written to"
    assert all(type(number) is int for number in expected)
    if ignore is None:
        assert expected.iou == mask_iou(predicted, true)


def test_run_lengths_are_counted_without_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = rle.encode(np.eye(9, dtype=bool))

    def decode(_: Rle) -> np.ndarray:
        raise AssertionError("decoded")

    monkeypatch.setattr(rle, "decode", decode)
    assert overlap(mask, mask, ignore=united([], mask.size)) == (9, 9, 9, 9)


def test_huge_and_tiny_masks() -> None:
    """20,000 × 3,000 pixels as an array are 60 MB; as run lengths they are a few bytes."""
    size = Size(20_000, 3000)
    left = rle.from_coco({"size": [3000, 20_000], "counts": [0, 30_000_000, 30_000_000]}, size)
    most = rle.from_coco({"size": [3000, 20_000], "counts": [15_000_000, 45_000_000]}, size)
    assert overlap(left, most) == (15_000_000, 60_000_000, 30_000_000, 45_000_000)

    full, none = np.ones((1, 1), bool), np.zeros((1, 1), bool)
    assert overlap(full, full).iou == overlap(none, none).iou == 1.0
    assert overlap(full, none).iou == overlap(none, full).iou == 0.0


@pytest.mark.parametrize("as_code", [True, False])
def test_masks_of_two_sizes_are_an_error(as_code: bool) -> None:
    wide, high = np.ones((2, 3), bool), np.ones((3, 2), bool)
    if as_code:
        wide, high = rle.encode(wide), rle.encode(high)  # type: ignore[assignment]

    with pytest.raises(GensegError, match="predicted mask: 2x3 expected, 3x2 found"):
        overlap(wide, high)
    with pytest.raises(GensegError, match="ignore mask: 2x3 expected, 3x2 found"):
        overlap(high, high, ignore=wide)
    with pytest.raises(GensegError, match="true mask: 2x3 expected, 3x2 found"):
        united([rle.encode(np.ones((2, 3), bool))], Size(2, 3), name="true")


@given(shapes.flatmap(lambda shape: st.lists(arrays(bool, shape), min_size=1, max_size=4)))
def test_the_union_of_objects(parts: list[np.ndarray]) -> None:
    size = Size(parts[0].shape[1], parts[0].shape[0])

    np.testing.assert_array_equal(rle.decode(united([rle.encode(part) for part in parts], size)), np.any(parts, axis=0))
    assert rle.area(united([], size)) == 0
    assert united([], size).size == size
