"""The SAM reward of one training step: 8 prompts with 8 rollouts each, beside the ancestors' way and the bare limit.

Ours is `rewards.score.Scorer` with the SAM-in-the-loop reward: reading, one encoding a picture, all prompts decoded
together, masks at the picture's resolution, every term. The ancestors score rollout by rollout: each encodes its picture
anew and decodes its own prompt. The bare limit is the model alone, 8 encodings and 64 decodes on tensors that are
ready. All three run the same model object; the first two give the same rewards, which is checked first.

    python benchmarks/reward.py [--model demo] [--rounds 5] [--size 840x840] [--device cpu] [--json] [--check]

`--model` is a random-weight architecture (miniature, tiny, large) or anything `--segmenter` takes (demo, a folder).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from segmenter import build, limit

from gensegcli.dialects import get_dialect
from gensegcli.families import policy_entry
from gensegcli.geometry import rle
from gensegcli.geometry.boxes import mask_box, pixel_to_grid
from gensegcli.geometry.keypoints import mine_negative, mine_positive
from gensegcli.records import Answer, GridBox, GridPoint, Instance, MaskPrompt, Sample, Size, Target
from gensegcli.rewards.compose import IN_THE_LOOP, Reward
from gensegcli.rewards.score import Scorer
from gensegcli.segmenter.prompts import prompts_for

if TYPE_CHECKING:
    from gensegcli.segmenter.sam2 import Sam2Segmenter

PROMPTS, ROLLOUTS = 8, 8
FASTER, OVERHEAD = 4.0, 1.3
DIALECT = get_dialect("genseg")


def task(size: Size) -> tuple[list[Sample], list[str]]:
    """Samples with an L-shaped object each, and rollouts whose boxes are all different: one instance, two points."""
    rng = np.random.default_rng(0)
    samples, texts = [], []
    for number in range(PROMPTS):
        mask = np.zeros((size.height, size.width), bool)
        top, left, side = (int(rng.uniform(0.1, 0.3) * min(size)) for _ in range(3))
        side += min(size) // 3
        mask[top : top + side, left : left + side // 3] = mask[top + side * 2 // 3 : top + side, left : left + side] = (
            True
        )
        box = mask_box(mask)
        assert box is not None
        target = Target(
            pixel_to_grid(box, size),
            tuple(pixel_to_grid(point, size) for point in mine_positive(mask)),
            rle.encode(mask),
            tuple(pixel_to_grid(point, size) for point in mine_negative(mask, box)),
        )
        buffer = BytesIO()
        Image.fromarray(rng.integers(0, 256, (size.height, size.width, 3), np.uint8)).save(buffer, "JPEG", quality=90)
        sample = Sample(str(number), "thing", buffer.getvalue(), size, (target,))
        for _ in range(ROLLOUTS):
            moved = GridBox(*(float(np.clip(value + rng.normal(0, 15), 0, 1000)) for value in target.box))
            points = tuple(
                GridPoint(*(p + rng.normal(0, 5, 2)).clip(0, 1000).tolist()) for p in map(np.array, target.points)
            )
            texts.append(DIALECT.render(Answer((Instance(moved, points),), "the thing in the middle")))
            samples.append(sample)
    return samples, texts


def ours(scorer: Scorer, segmenter: Sam2Segmenter, samples: list[Sample], texts: list[str]) -> list[float]:
    """One call for the whole step, every picture new to it."""
    segmenter.cache.clear()
    return [one.reward for one in scorer.score(samples, texts)]


def ancestors(scorer: Scorer, segmenter: Sam2Segmenter, samples: list[Sample], texts: list[str]) -> list[float]:
    """One call for each rollout, which encodes its picture anew."""
    rewards = []
    for sample, text in zip(samples, texts, strict=True):
        segmenter.cache.clear()
        rewards += [one.reward for one in scorer.score([sample], [text])]
    return rewards


def prompts(samples: list[Sample], texts: list[str]) -> list[list[MaskPrompt]]:
    """What the rollouts of each picture ask the segmenter."""
    asked = []
    for start in range(0, len(samples), ROLLOUTS):
        answers = [DIALECT.read(text) for text in texts[start : start + ROLLOUTS]]
        asked.append([one for answer in answers for one in prompts_for(answer.instances, samples[start].size)])
    return asked


def measure(model: str, device: str | None, size: Size, rounds: int) -> tuple[dict[str, float], Sam2Segmenter]:
    """Median seconds of each way; interleaved, after one unmeasured turn of each."""
    segmenter, _ = build(model, device)
    scorer = Scorer(Reward(IN_THE_LOOP), DIALECT, policy_entry("x", "x", "qwen3_vl"), segmenter)
    samples, texts = task(size)
    together, alone = (way(scorer, segmenter, samples, texts) for way in (ours, ancestors))
    if not np.allclose(together, alone, atol=0.2):
        raise SystemExit(f"rewards differ by up to {np.abs(np.subtract(together, alone)).max():.3f}")
    pictures = [np.zeros((size.height, size.width, 3), np.uint8)] * PROMPTS
    runs = {
        "ancestors": lambda: ancestors(scorer, segmenter, samples, texts),
        "ours": lambda: ours(scorer, segmenter, samples, texts),
        "limit": limit(segmenter, pictures, prompts(samples, texts)),
    }
    runs["limit"]()  # the other two have had their first turn
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            if segmenter.device.type == "cuda":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}, segmenter


def main() -> int:
    """Measure, print; with --check leave with 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo", help="miniature, tiny, large (random weights), demo, a folder")
    parser.add_argument("--rounds", type=int, default=5, help="times each way runs; medians are printed")
    parser.add_argument("--size", default="840x840", help="width x height of the pictures")
    parser.add_argument("--device", help="cpu, cuda, …; the accelerator if there is one")
    parser.add_argument("--json", action="store_true", help="print medians in seconds as JSON instead of the table")
    parser.add_argument("--check", action="store_true", help=f"leave with 1 below {FASTER:g}x or above {OVERHEAD:g}x")
    asked = parser.parse_args()
    size = Size(*map(int, asked.size.split("x")))
    found, segmenter = measure(asked.model, asked.device, size, asked.rounds)
    faster, overhead = found["ancestors"] / found["ours"], found["ours"] / found["limit"]
    if asked.json:
        print(json.dumps(found))
    else:
        print("| segmenter | ancestors, ms | ours, ms | times faster | bare model, ms | times the bare model |")
        print("|---|---:|---:|---:|---:|---:|")
        ms = {name: f"{1e3 * seconds:.0f}" for name, seconds in found.items()}
        print(f"| {asked.model} | {ms['ancestors']} | {ms['ours']} | {faster:.2f} | {ms['limit']} | {overhead:.2f} |")
    print(
        f"{asked.model}: {PROMPTS} prompts x {ROLLOUTS} rollouts, pictures {asked.size}, {segmenter.device.type}, "
        f"{torch.get_num_threads()} threads",
        file=sys.stderr,
    )
    return int(asked.check and not (faster >= FASTER and overhead <= OVERHEAD))


if __name__ == "__main__":
    sys.exit(main())
