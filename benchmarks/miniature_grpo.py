"""The method in miniature: the bundled policy trained by reward on generated scenes, evaluated on held-out ones.

    python benchmarks/miniature_grpo.py [--out runs/miniature-grpo] [--steps 200] [--rows NAME …] [--seeds 3] [--table]

Each row is `genseg train` and then `genseg eval`, in folders of their own: killed and started again, it goes on where
it was. Rows that are done are printed as one markdown table; `--table` prints those and trains nothing. The main rows
have `--seeds` seeds, the ablations one. Several of these commands side by side share the work if they are given other
`--rows`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gensegcli.metrics.bootstrap import resample_counts

START = "supervised start"
RESAMPLES = 10_000
TRAIN_SEED, HELD_OUT_SEED = 21, 99
HELD_OUT = 1000
ROLLOUTS = 128
DISTANCE = ("reward.mask_iou=0", "reward.no_target=0")
SHOWN = {
    "target mIoU": "target mIoU",
    "target cIoU": "target cIoU",
    "N-acc": "no-target accuracy",
    "FNR": "false negatives",
    "P@0.9": "P@0.9",
}


@dataclass(frozen=True)
class Row:
    """One line of the table: settings over the preset `demo`, and the row whose model it starts from."""

    settings: tuple[str, ...] = ()
    start: str | None = None
    main: bool = False
    share: float = 1.0
    """Of the steps of a run: both stages of a two-stage run together are as long as the others."""
    n: int = 8
    """Completions of a question. All rows have as many completions in a step."""


ROWS = {
    "distance reward": Row(DISTANCE, main=True),
    "SAM-in-the-loop": Row(main=True),
    "first stage: distance": Row(DISTANCE, share=0.5),
    "two-stage": Row(start="first stage: distance", main=True, share=0.5),
    "SAM-in-the-loop without KL": Row(("train.beta=0",)),
    "SAM-in-the-loop without no-target reward": Row(("reward.no_target=0",)),
    "SAM-in-the-loop with negative points": Row(("reward.negative_points=10",)),
    "SAM-in-the-loop, n = 4": Row(n=4),
    "SAM-in-the-loop, n = 16": Row(n=16),
}


def genseg(*arguments: object) -> None:
    """Run a command of the product, its words on stderr."""
    subprocess.run([sys.executable, "-m", "gensegcli", *map(str, arguments)], check=True, stdout=sys.stderr)


def prepare(out: Path, steps: int) -> tuple[Path, Path]:
    """Training and held-out scenes, of streams that nothing else is taught on."""
    train, held = out / "data" / f"train-{steps}", out / "data" / "held-out"
    genseg("prep", "scenes", "--n", steps * ROLLOUTS // 4, "--seed", TRAIN_SEED, "-o", train, "-q")
    genseg("prep", "scenes", "--n", HELD_OUT, "--seed", HELD_OUT_SEED, "--for", "eval", "-o", held, "-q")
    return train, held


def folder(out: Path, name: str, seed: int) -> Path:
    return out / f"{name.replace(' ', '-').replace(',', '').replace(':', '')}-{seed}"


def train(out: Path, data: Path, name: str, seed: int, steps: int) -> Path:
    """The run of a row, trained to its end."""
    row = ROWS[name]
    run = folder(out, name, seed)
    start = "demo" if row.start is None else train(out, data, row.start, seed, steps)
    prompts = ROLLOUTS // row.n
    settings = [f"train.num_generations={row.n}", f"train.prompts_per_step={prompts}", *row.settings]
    settings += ["train.report_to=none", "train.save_steps=25", "train.keep=2"]
    genseg(
        *("train", "--preset", "demo", "--model", start, "--data", data, "--seed", seed, "--device", "cpu"),
        *("--limit", round(steps * row.share) * prompts, "-o", run),
        *(part for one in settings for part in ("--set", one)),
    )
    return run


def evaluate(model: object, held: Path, out: Path) -> Path:
    """The folder of `genseg eval` of a model on the held-out scenes."""
    if not (out / "results.json").exists():
        genseg("eval", held, "--preset", "demo", "--model", model, "--device", "cpu", "-o", out, "-q")
    return out


def columns(out: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Numerator and denominator of each metric by sample, in the order of their ids."""
    (scores,) = out.glob("scores/*/genseg.jsonl")
    rows = sorted((json.loads(line) for line in scores.read_text().splitlines()), key=lambda row: row["id"])
    absent, abstained, iou, intersection, union = (
        np.array([row[key] for row in rows], float)
        for key in ("no_target", "abstained", "iou", "intersection", "union")
    )
    target = 1 - absent
    return {
        "target mIoU": (iou * target, target),
        "target cIoU": (intersection * target, union * target),
        "N-acc": (abstained * absent, absent),
        "FNR": (abstained * target, target),
        "P@0.9": ((iou >= 0.9) * target, target),
    }


def resampled(outs: list[Path]) -> dict[str, np.ndarray]:
    """Each metric, mean over the seeds' evaluations: as it is, and in each of the same resamples of the samples."""
    seeds = [columns(out) for out in outs]
    count = len(next(iter(seeds[0].values()))[0])
    weights = np.concatenate([np.ones((1, count)), *resample_counts(count, RESAMPLES, 0)])
    return {key: np.mean([weights @ own[key][0] / (weights @ own[key][1]) for own in seeds], axis=0) for key in SHOWN}


def table(measured: dict[str, list[Path]]) -> str:
    """One line a row: mean over seeds and 95 % interval over samples; the gain is against the start, sample by sample."""
    found = {name: resampled(outs) for name, outs in measured.items()}
    start = found[START]["target mIoU"]
    titles = [f"{title}, %" for title in SHOWN.values()]
    lines = [f"| run | seeds | {' | '.join(titles)} | gain in target mIoU |", "|---" * (len(SHOWN) + 3) + "|"]
    for name, values in found.items():
        cells = [_interval(values[key]) for key in SHOWN]
        cells.append("" if name == START else _interval(values["target mIoU"] - start, sign="+"))
        lines.append(f"| {name} | {len(measured[name])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _interval(values: np.ndarray, sign: str = "") -> str:
    low, high = np.percentile(values[1:], (2.5, 97.5))
    return " ".join((f"{100 * values[0]:{sign}.1f}", f"({100 * low:.1f} to {100 * high:.1f})"))


def main() -> None:
    """Train what is missing, print what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/miniature-grpo"), help="folder of data and runs")
    parser.add_argument("--steps", type=int, default=200, help="updates of a run")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS), help="only these")
    parser.add_argument("--seeds", type=int, default=3, help="of the main rows")
    parser.add_argument("--table", action="store_true", help="train nothing")
    asked = parser.parse_args()
    data, held = prepare(asked.out, asked.steps)
    measured = {START: [evaluate("demo", held, asked.out / "eval-start")]}
    for name in asked.rows:
        for seed in range(asked.seeds if ROWS[name].main else 1):
            run = folder(asked.out, name, seed)
            if not asked.table:
                train(asked.out, data, name, seed, asked.steps)
            if (run / "model" / "genseg.json").exists():
                measured.setdefault(name, []).append(evaluate(run, held, run / "eval"))
    print(table(measured))


if __name__ == "__main__":
    main()
