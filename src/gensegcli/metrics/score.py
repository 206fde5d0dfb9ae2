"""The score of one sample: what was predicted against what is true, under one protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gensegcli.errors import GensegError
from gensegcli.geometry import rle
from gensegcli.metrics.boxes import enclosing_iou, matched_iou
from gensegcli.metrics.overlap import IgnoreRule, overlap, united
from gensegcli.metrics.protocols import NoTarget
from gensegcli.metrics.records import SampleScore, SizeClass

if TYPE_CHECKING:
    from gensegcli.metrics.overlap import Overlap
    from gensegcli.metrics.protocols import Protocol
    from gensegcli.metrics.records import ForegroundScore, Guess, Truth
    from gensegcli.records import PixelBox, Rle

SMALL, MEDIUM = 32**2, 96**2
"""COCO's bounds between small, medium and large objects, in pixels."""


def score_sample(
    truth: Truth,
    guess: Guess,
    protocol: Protocol,
    *,
    foreground: bool = False,
    levels: np.ndarray | None = None,
) -> SampleScore:
    """Score one sample.

    Who abstained or could not be read has found nothing: its masks and boxes, if it has any, are left out of account.

    Args:
        truth: what is true.
        guess: what was predicted for the same sample. Masks without boxes are taken to have the smallest ones.
        protocol: the conventions.
        foreground: also the measures of foreground sets (S, E, F, weighted F, MAE), which decode the masks.
        levels: the grey-level map (uint8, h w) behind the mask, if it is one: these measures are then of the map.

    Raises:
        GensegError: a mask is not of the picture's size.
    """
    if truth.id != guess.id:
        raise ValueError(f"truth of {truth.id!r}, guess of {guess.id!r}")
    silent = guess.abstained or guess.refusal is not None
    boxes, box_scores = ((), ()) if silent else _boxes(guess)
    masks = None
    if truth.masks is not None and guess.masks is not None:
        try:
            found = united(() if silent else guess.masks, truth.size, name="predicted")
            masks = found, united(truth.masks, truth.size, name="true")
            counts = overlap(*masks, ignore=truth.ignore, ignored=protocol.ignore)
        except GensegError as error:
            raise GensegError(f"sample {truth.id}: {error.message}", hint=error.hint) from None
    box_iou = enclosing = None
    if not truth.no_target:
        box_iou = matched_iou(boxes, truth.boxes, inclusive=protocol.inclusive_boxes)
        alone = len(boxes) == len(truth.boxes) == 1
        enclosing = box_iou if alone else enclosing_iou(boxes, truth.boxes, inclusive=protocol.inclusive_boxes)
    return SampleScore(
        id=truth.id,
        image=truth.image,
        ref=truth.ref,
        no_target=truth.no_target,
        abstained=guess.abstained,
        refusal=guess.refusal,
        true_instances=len(truth.boxes),
        predicted_instances=len(boxes),
        size_class=_size_class(truth, counts.true if truth.ignore is None else rle.area(masks[1]))
        if masks and not truth.no_target
        else None,
        intersection=counts.intersection if masks else None,
        union=counts.union if masks else None,
        true_area=counts.true if masks else None,
        predicted_area=counts.predicted if masks else None,
        iou=_iou(counts, truth, guess, protocol) if masks else None,
        box_iou=box_iou,
        enclosing_box_iou=enclosing,
        true_boxes=truth.boxes,
        predicted_boxes=boxes,
        box_scores=box_scores,
        think=guess.think,
        tokens=guess.tokens,
        foreground=_foreground(*masks, truth.ignore, protocol.ignore, levels) if masks and foreground else None,
    )


def _iou(counts: Overlap, truth: Truth, guess: Guess, protocol: Protocol) -> float:
    if truth.no_target and protocol.no_target is NoTarget.BY_FLAG:
        return float(guess.abstained)
    if not counts.union:
        return 0.0 if guess.refusal is not None else protocol.zero_over_zero
    return counts.intersection / (counts.union + protocol.smoothing)


def _boxes(guess: Guess) -> tuple[tuple[PixelBox, ...], tuple[float | None, ...]]:
    """The boxes and their scores; where there are masks only, the smallest boxes around them."""
    boxes = guess.boxes or tuple(rle.box(mask) for mask in guess.masks or ())
    scores = guess.scores or (None,) * len(boxes)
    kept = [(box, score) for box, score in zip(boxes, scores, strict=True) if box is not None]
    return tuple(box for box, _ in kept), tuple(score for _, score in kept)


def _size_class(truth: Truth, area: int) -> SizeClass:
    """By all pixels of the object, ignored or not, at the size the picture had before it was resized for storage."""
    original, stored = truth.original_size, truth.size
    scaled = area * (original.width * original.height) / (stored.width * stored.height)
    return SizeClass.SMALL if scaled < SMALL else SizeClass.MEDIUM if scaled < MEDIUM else SizeClass.LARGE


def _foreground(
    predicted: Rle, true: Rle, ignore: Rle | None, ignored: IgnoreRule, levels: np.ndarray | None
) -> ForegroundScore:
    from gensegcli.metrics.foreground import foreground_score, map_score

    masks: list[np.ndarray] = [rle.decode(predicted) if levels is None else levels, rle.decode(true)]
    if ignore is not None:
        unclear = rle.decode(ignore)
        if ignored is IgnoreRule.FOREGROUND:
            masks[1] |= unclear
        else:
            masks = [np.where(unclear, mask.dtype.type(0), mask) for mask in masks]
    return (foreground_score if levels is None else map_score)(*masks)
