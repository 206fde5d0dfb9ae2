"""A few steps of both presets at full size on a GPU: Qwen3-VL-4B and SAM 2 large, their architectures with random weights.

    genseg prep grefcoco -o data/gpu
    python benchmarks/train_gpu.py --data data/gpu [--steps 3] [--set train.micro_batch=8] [--set train.rollout=colocate]
    python benchmarks/train_gpu.py --data data/gpu --presets cold-start
    python benchmarks/train_gpu.py --data data/gpu --tiny --device cpu    # the same on small architectures, anywhere

All weights learn, at the presets' batch of 8 questions × 8 completions; phases and memory are what `metrics.jsonl` tells.
Random weights write noise up to the last token, and the segmenter would have nothing to do: what is rewarded are the true
answers, each number moved at random. Checkpoints are left out (53 GB with the optimiser's state): they belong to no step.
The first step of each run, which warms up, is not counted.

Leaves with 3 where there is no CUDA device.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import torch
from gpu import NO_DEVICE, free, write_policy
from segmenter import random_model

from gensegcli.config import resolve
from gensegcli.records import FinishReason, GridBox, GridPoint
from gensegcli.rewards.score import Scorer
from gensegcli.train.memory import estimate
from gensegcli.train.phases import GB
from gensegcli.train.plan import Plan
from gensegcli.train.run import train
from gensegcli.train.runs import METRICS, read_steps
from gensegcli.train.sft import demonstration
from gensegcli.train.trainer import RunTrainer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gensegcli.records import Sample
    from gensegcli.rewards.score import Scored

PHASES = ("rollout", "reward", "reference", "update", "other")
DIALECT = "genseg-neg"
MOVED = 8.0
"""Standard deviation of the noise on each number of a true answer, in grid units."""


def score_true_answers(
    scorer: Scorer, samples: Sequence[Sample], texts: Sequence[str], _: object, *, own: Any, rng: np.random.Generator
) -> list[Scored]:
    """As `Scorer.score`, of other texts."""

    def near(numbers: Sequence[float]) -> list[float]:
        return np.clip(np.add(numbers, rng.normal(0, MOVED, len(numbers))), 0, 1000).round().tolist()

    def moved(sample: Sample) -> str:
        answer = demonstration(sample, negatives=scorer.dialect.asks_negatives)
        instances = []
        for one in answer.instances:
            x1, y1, x2, y2 = near(one.box)
            points, negatives = (tuple(GridPoint(*near(p)) for p in part) for part in (one.points, one.negatives))
            box = GridBox(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
            instances.append(replace(one, box=box, points=points, negatives=negatives))
        return scorer.dialect.render(replace(answer, instances=tuple(instances)))

    return own(scorer, samples, [moved(sample) for sample in samples], [FinishReason.STOP] * len(texts))


def run(preset: str, changes: Sequence[str], steps: int, folder: Path) -> tuple[list[dict[str, Any]], float]:
    """Train so many steps and save nothing; their rows, and the gigabytes that were estimated."""
    asked = ("train.report_to=none", f"model.dialect={DIALECT}", *changes)
    plan = Plan.of(resolve(preset=preset, assignments=asked))
    epochs = steps * plan.settings.settings.train.prompts_per_step / len(plan.numbers)
    plan = Plan.of(resolve(preset=preset, assignments=(*asked, f"train.epochs={epochs}")))
    own, rng = Scorer.score, np.random.default_rng(0)
    with ExitStack() as stack:
        stack.enter_context(patch.multiple(RunTrainer, _save_checkpoint=_nothing, export=_nothing))
        stack.enter_context(patch.object(Scorer, "score", lambda *given: score_true_answers(*given, own=own, rng=rng)))
        train(plan, folder, on_step=tell, on_phase=lambda phase: print(f"{preset}: {phase}", file=sys.stderr))
    free()
    return read_steps(folder / METRICS), estimate(plan, 1).total / GB


def _nothing(*_: object) -> None:
    """Saved."""


def tell(row: dict[str, Any]) -> None:
    """A line for each step."""
    named = ("step", "seconds", "loss", "reward", "mask_iou", "no_target_accuracy", "length", "grad_norm")
    told = {name: row[name] for name in named if row.get(name) is not None}
    print(told, row["phases"], row.get("memory", ""), file=sys.stderr, flush=True)


def line(name: str, rows: list[dict[str, Any]], estimated: float) -> str:
    """Of the table: medians of seconds, and the most memory, of all steps but the first."""
    most = max((value for row in rows for value in row.get("memory", {}).values()), default=0.0)
    rows = rows[1:] or rows
    cells = []
    for phase in PHASES:
        seconds = [row["phases"][phase] for row in rows if phase in row["phases"]]
        memory = [row["memory"][phase] for row in rows if phase in row.get("memory", {})]
        told = [f"{median(seconds):.2f} s"] if seconds else []
        cells.append(", ".join(told + ([f"{max(memory):.0f} GB"] if memory else [])))
    share = median(row["phases"]["other"] / row["seconds"] for row in rows)
    whole = median(row["seconds"] for row in rows)
    return f"| {name} | {' | '.join(cells)} | {whole:.2f} s | {share:.1%} | {most:.0f} GB | {estimated:.0f} GB |"


def main() -> int:
    """Build, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="prepared set with masks")
    parser.add_argument("--steps", type=int, default=3, help="of each preset")
    parser.add_argument("--tokens", type=int, default=128, help="of each completion")
    parser.add_argument("--presets", nargs="+", default=["genseg-r1-g", "genseg-r1-4b"])
    parser.add_argument("--set", action="append", default=[], help="a setting of all runs; repeatable")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small architectures, to try the script")
    parser.add_argument("--models", type=Path, help="folder for the random weights (10 GB), taken if they are there")
    asked = parser.parse_args()
    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device: nothing was measured (--tiny --device cpu tries the script)", file=sys.stderr)
        return NO_DEVICE
    place = Path(tempfile.mkdtemp(prefix="genseg-train-"))
    try:
        measure(asked, asked.models or place, place)
    finally:
        shutil.rmtree(place)
    return 0


def measure(asked: argparse.Namespace, models: Path, place: Path) -> None:
    """All runs, one after the other."""
    policy, segmenter = models / "policy", models / "segmenter"
    if not (segmenter / "config.json").exists():
        write_policy(policy, tiny=asked.tiny, device=torch.device(asked.device), dialect=DIALECT)
        model, processor = random_model("miniature" if asked.tiny else "large")
        processor.save_pretrained(segmenter)
        model.save_pretrained(segmenter)
    print(f"| preset | {' | '.join(PHASES)} | step | share of other | peak | estimated |")
    print("|---" * (len(PHASES) + 5) + "|", flush=True)
    changes = (
        *(f"train.data={asked.data}", f"model.device={asked.device}", f"train.max_response_tokens={asked.tokens}"),
        *(f"model.name={policy}", f"segmenter.name={segmenter}", *asked.set),
    )
    for preset in asked.presets:
        print(line(preset, *run(preset, changes, asked.steps, place / preset)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
