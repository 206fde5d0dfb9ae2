"""The method in miniature: the bundled policy trained by reward on generated scenes, evaluated on held-out ones.

    python benchmarks/miniature_grpo.py [--out runs/miniature-grpo] [--steps 200] [--rows NAME …] [--seeds 3] [--table]

Each row is `genseg train` and then `genseg eval`, in folders of their own: killed and started again, it goes on where
it was. Rows that are done are printed as one markdown table; `--table` prints those and trains nothing. The main rows
have `--seeds` seeds, the ablations one; intervals are 95 % bootstrap intervals over samples, of the first seed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

TRAIN_SEED, HELD_OUT_SEED = 21, 99
HELD_OUT = 1000
PROMPTS = 16
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


ROWS = {
    "distance reward": Row(DISTANCE, main=True),
    "SAM-in-the-loop": Row(main=True),
    "first stage: distance": Row(DISTANCE, share=0.5),
    "two-stage": Row(start="first stage: distance", main=True, share=0.5),
    "SAM-in-the-loop without KL": Row(("train.beta=0",)),
    "SAM-in-the-loop without no-target reward": Row(("reward.no_target=0",)),
    "SAM-in-the-loop with negative points": Row(("reward.negative_points=10",)),
    "SAM-in-the-loop, n = 4": Row(("train.num_generations=4",)),
    "SAM-in-the-loop, n = 16": Row(("train.num_generations=16",)),
}


def genseg(*arguments: object) -> None:
    """Run a command of the product, its words on stderr."""
    subprocess.run([sys.executable, "-m", "gensegcli", *map(str, arguments)], check=True, stdout=sys.stderr)


def prepare(out: Path, steps: int) -> tuple[Path, Path]:
    """Training and held-out scenes, of streams that nothing else is taught on."""
    train, held = out / "data" / f"train-{steps}", out / "data" / "held-out"
    genseg("prep", "scenes", "--n", steps * PROMPTS, "--seed", TRAIN_SEED, "-o", train, "-q")
    genseg("prep", "scenes", "--n", HELD_OUT, "--seed", HELD_OUT_SEED, "--for", "eval", "-o", held, "-q")
    return train, held


def folder(out: Path, name: str, seed: int) -> Path:
    return out / f"{name.replace(' ', '-').replace(',', '').replace(':', '')}-{seed}"


def train(out: Path, data: Path, name: str, seed: int, steps: int) -> Path:
    """The run of a row, trained to its end."""
    row = ROWS[name]
    run = folder(out, name, seed)
    start = "demo" if row.start is None else train(out, data, row.start, seed, steps)
    settings = [f"train.prompts_per_step={PROMPTS}", "train.report_to=none", "train.save_steps=25", "train.keep=2"]
    settings += row.settings
    genseg(
        *("train", "--preset", "demo", "--model", start, "--data", data, "--seed", seed, "--device", "cpu"),
        *("--limit", round(steps * row.share) * PROMPTS, "-o", run),
        *(part for one in settings for part in ("--set", one)),
    )
    return run


def evaluate(model: object, held: Path, out: Path) -> dict[str, Any]:
    """Metrics of a model on the held-out scenes, by the code of `genseg eval`."""
    if not (out / "results.json").exists():
        genseg("eval", held, "--preset", "demo", "--model", model, "--device", "cpu", "-o", out, "-q")
    (result,) = json.loads((out / "results.json").read_text())
    return result["summary"]["metrics"]


def table(measured: dict[str, list[dict[str, Any]]]) -> str:
    """One line a row: mean over seeds, the first seed's interval."""
    lines = [
        f"| run | seeds | {' | '.join(f'{title}, %' for title in SHOWN.values())} |",
        "|---" * (len(SHOWN) + 2) + "|",
    ]
    for name, seeds in measured.items():
        cells = []
        for key in SHOWN:
            mean, first = 100 * fmean(one[key]["value"] for one in seeds), seeds[0][key]
            cells.append(f"{mean:.1f} ({100 * first['low']:.1f}-{100 * first['high']:.1f})")
        lines.append(f"| {name} | {len(seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines)


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
    measured = {"supervised start": [evaluate("demo", held, asked.out / "eval-start")]}
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
