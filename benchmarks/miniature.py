"""The bundled miniature on held-out generated scenes: policy and segmenter together.

    python benchmarks/miniature.py [--scenes 1000] [--model demo] [--mode box+2]

Prints one markdown table. Scenes come from stream 99 of the generator, which training never sees; every sample counts
once; a refusal is an empty mask and not an abstention; intervals are 95 % bootstrap intervals over samples.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import numpy as np
from PIL import Image

import gensegcli
from gensegcli.geometry.masks import mask_iou
from gensegcli.predictions import union_mask
from gensegcli.records import Prediction
from gensegcli.requests import Request
from gensegcli.sources.scenes import scene_of

HELD_OUT = 99


def interval(values: np.ndarray) -> str:
    """Mean in percent with its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (2000, len(values))).mean(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return f"{100 * values.mean():.1f} ({100 * low:.1f}–{100 * high:.1f})"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--scenes", type=int, default=1000)
    arguments.add_argument("--model", default="demo")
    arguments.add_argument("--segmenter", default=None)
    arguments.add_argument("--mode", default="box+2")
    options = arguments.parse_args()

    cases = [scene_of(index, seed=HELD_OUT) for index in range(options.scenes)]
    requests = [
        Request(id=str(i), image=Image.fromarray(scene.image), query=reference.expression)
        for i, (scene, reference) in enumerate(cases)
    ]
    began = time.perf_counter()
    with gensegcli.load(options.model, segmenter=options.segmenter, mode=options.mode) as pipeline:
        predictions = list(pipeline.predict_many(requests))
    seconds = time.perf_counter() - began

    overlaps, abstained, refusals = [], [], Counter()
    by_kind: dict[str, list[float]] = {}
    inter = union = 0
    false_negatives = []
    for (scene, reference), prediction in zip(cases, predictions, strict=True):
        assert isinstance(prediction, Prediction), prediction
        if prediction.refusal:
            refusals[prediction.refusal.kind] += 1
        if not reference.matches:
            abstained.append(prediction.no_target)
            continue
        truth = np.any([scene.things[i].mask for i in reference.matches], axis=0)
        mask = union_mask(prediction)
        overlaps.append(mask_iou(mask, truth))
        by_kind.setdefault(reference.kind, []).append(overlaps[-1])
        false_negatives.append(prediction.no_target)
        inter += int((mask & truth).sum())
        union += int((mask | truth).sum())

    iou = np.array(overlaps)
    print("| measure | value |\n|---|---|")
    print(f"| scenes (with target / without) | {len(cases)} ({len(iou)} / {len(abstained)}) |")
    print(f"| target mIoU, % | {interval(iou)} |")
    print(f"| target cIoU, % | {100 * inter / union:.1f} |")
    for threshold in (0.5, 0.7, 0.9):
        print(f"| P@{threshold} over targets, % | {100 * (iou >= threshold).mean():.1f} |")
    print(f"| no-target accuracy, % | {interval(np.array(abstained, float))} |")
    print(f"| false negatives, % | {interval(np.array(false_negatives, float))} |")
    print(f"| refusals, % | {100 * refusals.total() / len(cases):.1f} {dict(refusals) or ''} |")
    for kind, values in sorted(by_kind.items()):
        print(f"| target mIoU, {kind} ({len(values)}), % | {100 * np.mean(values):.1f} |")
    print(f"| samples/s, loading included | {len(cases) / seconds:.1f} |")


if __name__ == "__main__":
    main()
