"""A few steps of both presets at full size on a GPU: Qwen3-VL-4B and SAM 2 large, their architectures with random weights.

    genseg prep grefcoco -o data/gpu
    python benchmarks/train_gpu.py --data data/gpu [--steps 3] [--taught 40] [--rollout colocate]
    python benchmarks/train_gpu.py --data data/gpu --tiny --device cpu    # the same on small architectures, anywhere

A policy of random weights writes noise to the last token, and the segmenter would have nothing to do. So it is first
taught the form of answers on the same data, by `genseg train`'s own supervised stage; times and memory of those steps are
told, too. All weights learn, at the paper's batch of 8 questions × 8 completions. Checkpoints are left out (53 GB with the
optimiser's state): they belong to no step. The first step of each run, which warms up, is not counted.

Leaves with 3 where there is no CUDA device.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from gpu import NO_DEVICE, write_policy
from segmenter import random_model

from gensegcli.config import resolve
from gensegcli.train.memory import estimate
from gensegcli.train.run import Plan, train
from gensegcli.train.runs import METRICS, MODEL, ROLLOUTS, read_steps
from gensegcli.train.trainer import RunTrainer

if TYPE_CHECKING:
    from collections.abc import Sequence

PHASES = ("rollout", "reward", "reference", "update", "other")
DIALECT = "genseg-neg"


@dataclass(frozen=True)
class Found:
    """What a run has shown: rows of its steps, estimated gigabytes, and its last completion."""

    rows: list[dict[str, Any]]
    estimated: float
    text: str


def run(preset: str, changes: Sequence[str], steps: int, folder: Path, *, export: bool) -> Found:
    """Train so many steps; nothing but the trained model is saved, and that only where it is wanted."""
    asked = ("train.report_to=none", f"model.dialect={DIALECT}", *changes)
    plan = Plan.of(resolve(preset=preset, assignments=asked))
    settings = plan.settings.settings.train
    passes = steps * settings.prompts_per_step / len(plan.data.index())
    plan = Plan.of(resolve(preset=preset, assignments=(*asked, f"train.epochs={passes}")))
    skipped = ["_save_checkpoint"] if export else ["_save_checkpoint", "export"]
    with patch.multiple(RunTrainer, **dict.fromkeys(skipped, lambda *_: None)):
        train(plan, folder, on_step=tell, on_phase=lambda phase: print(f"{preset}: {phase}", file=sys.stderr))
    written = [row["text"] for row in read_steps(folder / ROLLOUTS)] if settings.stage == "grpo" else [""]
    return Found(read_steps(folder / METRICS), estimate(plan, 1).total / 1e9, written[-1])


def tell(row: dict[str, Any]) -> None:
    """A line for each step."""
    told = ("step", "seconds", "loss", "token_accuracy", "reward", "mask_iou", "format", "length", "cut", "grad_norm")
    print({name: row[name] for name in told if name in row}, row["phases"], file=sys.stderr, flush=True)


def line(name: str, found: Found) -> str:
    """Of the table: medians of seconds, and the most memory, of all steps but the first."""
    rows = found.rows[1:] or found.rows
    cells = []
    for phase in PHASES:
        seconds = [row["phases"][phase] for row in rows if phase in row["phases"]]
        memory = [row["memory"][phase] for row in rows if phase in row.get("memory", {})]
        told = f"{median(seconds):.2f} s" if seconds else ""
        cells.append(told + (f", {max(memory):.0f} GB" if memory else ""))
    most = max((value for row in found.rows for value in row.get("memory", {}).values()), default=0.0)
    last = rows[-1]
    share = [row["phases"]["other"] / row["seconds"] for row in rows]
    return (
        f"| {name} | {' | '.join(cells)} | {median(row['seconds'] for row in rows):.2f} | {median(share):.1%} "
        f"| {last.get('length', 0):.0f} | {last.get('tokens_per_second') or 0:.0f} | {most:.0f} | {found.estimated:.0f} |"
    )


def main() -> int:
    """Build, teach, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="prepared set with masks")
    parser.add_argument("--steps", type=int, default=4, help="of each preset")
    parser.add_argument("--taught", type=int, default=40, help="supervised steps before")
    parser.add_argument("--lr", type=float, default=2e-4, help="of the supervised steps")
    parser.add_argument("--tokens", type=int, default=512, help="longest completion")
    parser.add_argument("--rollout", nargs="+", default=["transformers"], help="engines, each with runs of its own")
    parser.add_argument("--set", nargs="*", default=[], help="further settings of the presets' runs")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small architectures, to try the script")
    parser.add_argument("--out", type=Path, help="folder that is kept; for the weights of 18 GB too")
    asked = parser.parse_args()
    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device: nothing was measured (--tiny --device cpu tries the script)", file=sys.stderr)
        return NO_DEVICE
    kept = asked.out or Path(tempfile.mkdtemp(prefix="genseg-train-"))
    try:
        measure(asked, kept)
    finally:
        if asked.out is None:
            shutil.rmtree(kept)
    return 0


def measure(asked: argparse.Namespace, out: Path) -> None:
    """All runs, each in a process of its own: the next one finds the GPU empty."""
    start, masks = out / "random", out / "sam2"
    model, processor = random_model("miniature" if asked.tiny else "large")
    model.save_pretrained(masks)
    processor.save_pretrained(masks)
    shared = [f"train.data={asked.data}", f"model.device={asked.device}", f"segmenter.name={masks}"]
    taught = [*shared, f"model.name={start}", f"train.lr={asked.lr}", "train.warmup_steps=5"]
    by_reward = [
        *shared,
        f"model.name={out / 'taught' / MODEL}",
        f"train.max_response_tokens={asked.tokens}",
        *asked.set,
    ]
    jobs = [("supervised", "cold-start", taught, asked.taught, out / "taught", True)]
    for engine in asked.rollout:
        for preset in ("genseg-r1-4b", "genseg-r1-g"):
            place = out / f"{preset}-{engine}"
            changes = [*by_reward, f"train.rollout={engine}"]
            jobs.append((f"{preset}, {engine}", preset, changes, asked.steps, place, False))
    print(f"| run | {' | '.join(PHASES)} | step, s | other | tokens | tokens/s | peak GB | estimated GB |")
    print("|---" * (len(PHASES) + 7) + "|", flush=True)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        pool.submit(write_policy, start, tiny=asked.tiny, device=torch.device(asked.device), dialect=DIALECT).result()
        for name, preset, changes, steps, place, export in jobs:
            found = pool.submit(run, preset, changes, steps, place, export=export).result()
            print(line(name, found), flush=True)
            if found.text:
                print(f"{name}, a completion: {found.text[:400]}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
