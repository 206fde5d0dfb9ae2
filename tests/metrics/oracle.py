"""What every metric is, said a second time: pixel by pixel, branch by branch, with nothing of the package but records."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

from gensegcli.geometry import rle
from gensegcli.metrics.records import Guess, Truth
from gensegcli.records import PixelBox, RefusalKind, Size

if TYPE_CHECKING:
    import numpy as np


@dataclass
class Case:
    """A sample and what was predicted for it, as arrays (h w)."""

    size: tuple[int, int]
    true: list[np.ndarray]
    predicted: list[np.ndarray]
    true_boxes: list[PixelBox]
    predicted_boxes: list[PixelBox]
    ignore: np.ndarray | None = None
    abstained: bool = False
    refusal: RefusalKind | None = None

    def truth(self, name: str, **changes: Any) -> Truth:
        size = Size(*self.size)
        values: dict[str, Any] = {
            "id": name,
            "query": "a thing",
            "image": name,
            "ref": None,
            "size": size,
            "original_size": size,
            "boxes": tuple(self.true_boxes),
            "masks": tuple(map(rle.encode, self.true)),
            "ignore": None if self.ignore is None else rle.encode(self.ignore),
        }
        return Truth(**values | changes)

    def guess(self, name: str, **changes: Any) -> Guess:
        values: dict[str, Any] = {
            "id": name,
            "abstained": self.abstained,
            "refusal": self.refusal,
            "masks": tuple(map(rle.encode, self.predicted)),
            "boxes": tuple(self.predicted_boxes),
        }
        return Guess(**values | changes)


def covered(masks: list[np.ndarray], y: int, x: int) -> bool:
    return any(mask[y][x] for mask in masks)


def count(case: Case, *, ignore_is_foreground: bool) -> tuple[int, int, int, int]:
    """Intersection, union, predicted and true area."""
    shared = either = predicted = true = 0
    silent = case.abstained or case.refusal is not None
    for y in range(case.size[1]):
        for x in range(case.size[0]):
            p = not silent and covered(case.predicted, y, x)
            g = covered(case.true, y, x)
            if case.ignore is not None and case.ignore[y][x]:
                if not ignore_is_foreground:
                    continue
                g = True
            shared += p and g
            either += p or g
            predicted += p
            true += g
    return shared, either, predicted, true


def one_iou(a: PixelBox, b: PixelBox) -> float:
    width = min(a.x2, b.x2) - max(a.x1, b.x1)
    height = min(a.y2, b.y2) - max(a.y1, b.y1)
    shared = width * height if width > 0 and height > 0 else 0.0
    return shared / ((a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - shared)


def box_iou(predicted: list[PixelBox], true: list[PixelBox]) -> float:
    """The best of all assignments, tried one after the other."""
    short, long = sorted([predicted, true], key=len)
    best = max(sum(one_iou(a, b) for a, b in zip(short, order, strict=False)) for order in permutations(long))
    return best / len(long)


def around(boxes: list[PixelBox]) -> PixelBox:
    return PixelBox(
        min(box.x1 for box in boxes),
        min(box.y1 for box in boxes),
        max(box.x2 for box in boxes),
        max(box.y2 for box in boxes),
    )


def mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def sample_iou(case: Case, protocol: str) -> tuple[float, int, int]:
    """IoU, and what the sample adds to ΣI and ΣU."""
    shared, either, _, _ = count(case, ignore_is_foreground=protocol == "seg-zero")
    no_target = not case.true_boxes
    if protocol == "gres" and no_target:
        return (1.0 if case.abstained else 0.0), shared, either
    if either == 0:
        right = protocol != "seg-zero" and case.refusal is None
        return (1.0 if right else 0.0), 0, 0
    if protocol == "lisa":
        return shared / (either + 1e-5), shared, either
    return shared / either, shared, either


def share(case: Case, protocol: str) -> float:
    """What P@τ counts: IoU without anything added to the denominator."""
    iou, shared, either = sample_iou(case, protocol)
    return shared / either if either else iou


def metrics(cases: list[Case], protocol: str, *, tiny: int = 0) -> dict[str, float]:
    """Every metric but AP and the foreground ones; what has no sample is absent."""
    target = [case for case in cases if case.true_boxes]
    nothing = [case for case in cases if not case.true_boxes]
    counted = target if protocol == "genseg" else cases
    name = "mIoU" if protocol in ("genseg", "res") else "gIoU"
    found: dict[str, float | None] = {}
    for prefix, some, mean_name in (("", counted, name), ("target ", target, "mIoU")):
        scored = [sample_iou(case, protocol) for case in some]
        found[f"{prefix}{mean_name}"] = mean([iou for iou, _, _ in scored])
        if scored:
            above, below = sum(i for _, i, _ in scored), sum(u for _, _, u in scored)
            if protocol == "lisa":
                below += 1e-5
            if below:
                found[f"{prefix}cIoU"] = above / below
            else:
                found[f"{prefix}cIoU"] = 0.0 if protocol == "seg-zero" else 1.0
    precise = target if protocol in ("genseg", "gres") else cases
    for threshold in (0.5, 0.6, 0.7, 0.8, 0.9):
        found[f"P@{threshold}"] = mean([float(share(case, protocol) >= threshold) for case in precise])
    found["N-acc"] = mean([float(case.abstained) for case in nothing])
    found["T-acc"] = mean([float(not case.abstained) for case in target])
    found["FNR"] = mean([float(case.abstained) for case in target])
    if tiny:
        areas = {id(case): count(case, ignore_is_foreground=protocol == "seg-zero")[2] for case in cases}
        found[f"N-acc (area < {tiny})"] = mean([float(areas[id(case)] < tiny) for case in nothing])
        found[f"T-acc (area < {tiny})"] = mean([float(areas[id(case)] >= tiny) for case in target])
    matched, enclosing = [], []
    for case in target:
        boxes = [] if case.abstained or case.refusal is not None else case.predicted_boxes
        matched.append(box_iou(boxes, case.true_boxes) if boxes else 0.0)
        enclosing.append(one_iou(around(boxes), around(case.true_boxes)) if boxes else 0.0)
    found["box mIoU"] = mean(matched)
    found["enclosing box mIoU"] = mean(enclosing)
    found["Acc@0.5"] = mean([float(round(iou, 9) > 0.5) for iou in matched])
    return {name: value for name, value in found.items() if value is not None}
