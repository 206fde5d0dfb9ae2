"""The method in miniature: a policy with the habit of naming one object is trained by reward to name several, or none.

    python benchmarks/miniature_grpo.py [--out runs/miniature-grpo] [--steps 40] [--rows NAME …] [--seeds 3] [--table]

The start is the bundled policy after 60 supervised steps on expressions that each mean one object, as in RefCOCO.
Rewards are given on scenes in the shares of the recipe `grefcoco`: a quarter of the expressions match nothing, 40 %
several objects.

Each row is `genseg train` and then `genseg eval`, in folders of their own: killed and started again, it goes on where
it was. Rows that are done are printed as one markdown table; `--table` prints those and trains nothing. The main rows
have `--seeds` seeds, the ablations one.

Several of these commands side by side share the work if they are given other `--rows`, once a first with `--rows` and no
name has made data and start. What starts from the same run goes into one command: the two stages, and all rows with
negative points.
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
from gensegcli.prep.recipe import resolve

BUNDLED, START = "bundled policy", "supervised start"
RESAMPLES = 10_000
DEMONSTRATED_SEED, TRAIN_SEED, HELD_OUT_SEED = 31, 21, 99
DEMONSTRATED, HELD_OUT = 1920, 1000
DRAWN_FROM = 4
"""Times as many scenes are drawn: several objects are rare among them."""
ROLLOUTS = 128
ONE_OBJECT = {"no_target": 0, "single": 1, "multi": 0}
AS_GREFCOCO = resolve("grefcoco", purpose="train").select.shares.model_dump()
SUPERVISED = (
    *("train.lr=1e-4", "train.warmup_steps=5", "train.prompts_per_step=32"),
    *("train.report_to=none", "train.save_steps=1000"),
)
REWARDED = ("train.lr=1e-4", "train.report_to=none", "train.save_steps=20", "train.keep=1")
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
    start: str = START
    taught: str | None = None
    """Name of the demonstrations; None: trained by reward."""
    main: bool = False
    share: float = 1.0
    """Of the steps of a run: both stages of a two-stage run together are as long as the others, on the same questions."""
    n: int = 8
    """Completions of a question. All rows have as many completions in a step, and so more questions the smaller n is."""
    mode: str = "box+2"
    """What prompts the segmenter."""


# The bundled policy has never written a negative point: it learns to on all kinds of scenes, then becomes a start.
FORM_NEGATIVES, START_NEGATIVES = "taught negative points", "supervised start with negative points"
ROWS = {
    START: Row(SUPERVISED, start="demo", taught="one object"),
    "distance reward": Row(DISTANCE, main=True),
    "SAM-in-the-loop": Row(main=True),
    "first stage: distance": Row(DISTANCE, share=0.5),
    "two-stage": Row(start="first stage: distance", main=True, share=0.5),
    "SAM-in-the-loop without KL": Row(("train.beta=0",)),
    "SAM-in-the-loop without no-target reward": Row(("reward.no_target=0",)),
    FORM_NEGATIVES: Row(
        (*SUPERVISED, "train.lr=5e-4", "train.epochs=2", "model.dialect=genseg-mini-neg"),
        start="demo",
        taught="all kinds",
        mode="box+2+neg",
    ),
    START_NEGATIVES: Row(SUPERVISED, start=FORM_NEGATIVES, taught="one object", mode="box+2+neg"),
    "SAM-in-the-loop with negative points": Row(
        ("reward.negative_points=10",), start=START_NEGATIVES, mode="box+2+neg"
    ),
    "SAM-in-the-loop, n = 4": Row(n=4),
    "SAM-in-the-loop, n = 16": Row(n=16),
}


def genseg(*arguments: object) -> None:
    """Run a command of the product, its words on stderr."""
    subprocess.run([sys.executable, "-m", "gensegcli", *map(str, arguments)], check=True, stdout=sys.stderr)


@dataclass(frozen=True)
class Scenes:
    """Prepared sets, of streams of scenes that nothing else is taught on."""

    demonstrated: dict[str, Path]
    train: Path
    held_out: Path


def prepare(out: Path, steps: int) -> Scenes:
    """Draw the scenes of all rows."""

    def drawn(name: str, count: int, seed: int, shares: dict[str, float], purpose: str = "train") -> Path:
        folder = out / "data" / name
        if not (folder / "dataset.json").exists():
            settings = [f"select.count={count}", *(f"select.shares.{kind}={share}" for kind, share in shares.items())]
            genseg(
                *("prep", "scenes", "--n", DRAWN_FROM * count, "--seed", seed, "--for", purpose, "-o", folder, "-q"),
                *(part for one in settings for part in ("--set", one)),
            )
        return folder

    fewest = min(row.n for row in ROWS.values())
    return Scenes(
        {
            "one object": drawn("demonstrated", DEMONSTRATED, DEMONSTRATED_SEED, ONE_OBJECT),
            "all kinds": drawn("demonstrated-all-kinds", DEMONSTRATED, DEMONSTRATED_SEED + 1, AS_GREFCOCO),
        },
        drawn(f"train-{steps}", steps * ROLLOUTS // fewest, TRAIN_SEED, AS_GREFCOCO),
        drawn("held-out", HELD_OUT, HELD_OUT_SEED, AS_GREFCOCO, "eval"),
    )


def folder(out: Path, name: str, seed: int) -> Path:
    return out / f"{name.replace(' ', '-').replace(',', '').replace(':', '')}-{seed}"


def finished(run: Path) -> bool:
    return (run / "model" / "genseg.json").exists()


def train(out: Path, data: Scenes, name: str, seed: int, steps: int) -> Path:
    """The run of a row, trained to its end. The starts have one seed."""
    row = ROWS[name]
    run = folder(out, name, 0 if row.taught else seed)
    if finished(run):
        return run
    start = "demo" if row.start == "demo" else train(out, data, row.start, seed, steps)
    if row.taught:
        stage = ("--stage", "sft", "--data", data.demonstrated[row.taught], "--seed", 0)
        settings = row.settings
    else:
        prompts = ROLLOUTS // row.n
        stage = ("--data", data.train, "--seed", seed, "--limit", round(steps * row.share) * prompts)
        settings = (f"train.num_generations={row.n}", f"train.prompts_per_step={prompts}", *REWARDED, *row.settings)
    settings = (*settings, f"predict.mode={row.mode}")
    genseg(
        *("train", "--preset", "demo", "--model", start, *stage, "--device", "cpu", "-q", "-o", run),
        *(part for one in settings for part in ("--set", one)),
    )
    return run


def evaluate(model: object, held: Path, out: Path, mode: str = "box+2") -> Path:
    """The folder of `genseg eval` of a model on the held-out scenes."""
    if not (out / "results.json").exists():
        asked = ("--preset", "demo", "--model", model, "--set", f"predict.mode={mode}", "--device", "cpu")
        genseg("eval", held, *asked, "-o", out, "-q")
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


def by_seed(outs: list[Path]) -> dict[str, np.ndarray]:
    """Each metric (seeds, 1 + RESAMPLES): of the samples as they are, and of each of the same resamples."""
    seeds = [columns(out) for out in outs]
    count = len(next(iter(seeds[0].values()))[0])
    weights = np.concatenate([np.ones((1, count)), *resample_counts(count, RESAMPLES, 0)])
    return {key: np.stack([weights @ own[key][0] / (weights @ own[key][1]) for own in seeds]) for key in SHOWN}


def start_of(name: str) -> str:
    """The supervised row that a row began with."""
    while name in ROWS and not ROWS[name].taught:
        name = ROWS[name].start
    return START if name == BUNDLED else name


def over_seeds(values: np.ndarray) -> np.ndarray:
    """Mean over seeds (1 + RESAMPLES,); each resample draws the seeds anew, too."""
    seeds, resamples = values.shape
    picked = np.random.default_rng(0).integers(seeds, size=(seeds, resamples))
    picked[:, 0] = np.arange(seeds)
    return values[picked, np.arange(resamples)].mean(axis=0)


def table(measured: dict[str, list[Path]]) -> str:
    """One line a row: mean over seeds, 95 % interval over samples and seeds; gains over its own start are paired."""
    found = {name: by_seed(outs) for name, outs in measured.items()}
    titles = [*(f"{title}, %" for title in SHOWN.values()), "gain in target mIoU", "of each seed"]
    lines = [f"| run | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for name, values in found.items():
        cells = [_interval(over_seeds(values[key])) for key in SHOWN]
        start = found.get(start_of(name), values)["target mIoU"][0]
        gains = values["target mIoU"] - start
        cells += [_interval(over_seeds(gains), sign="+"), _each(gains)] if gains.any() else ["", ""]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _interval(values: np.ndarray, sign: str = "") -> str:
    low, high = np.percentile(values[1:], (2.5, 97.5))
    return " ".join((f"{100 * values[0]:{sign}.1f}", f"({100 * low:.1f} to {100 * high:.1f})"))


def _each(gains: np.ndarray) -> str:
    return ", ".join(f"{100 * gain:+.1f}" for gain in gains[:, 0]) if len(gains) > 1 else ""


def main() -> None:
    """Train what is missing, print what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/miniature-grpo"), help="folder of data and runs")
    parser.add_argument("--steps", type=int, default=40, help="updates of a run")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS), help="only these")
    parser.add_argument("--seeds", type=int, default=3, help="of the main rows")
    parser.add_argument("--table", action="store_true", help="train nothing")
    asked = parser.parse_args()
    data = prepare(asked.out, asked.steps)
    measured = {BUNDLED: [evaluate("demo", data.held_out, asked.out / "eval-bundled")]}
    for name in dict.fromkeys((START, *asked.rows)):
        row = ROWS[name]
        for seed in range(asked.seeds if row.main else 1):
            run = folder(asked.out, name, seed)
            if not asked.table:
                train(asked.out, data, name, seed, asked.steps)
            if finished(run):
                measured.setdefault(name, []).append(evaluate(run, data.held_out, run / "eval", row.mode))
    print(table(measured) if START in measured else "nothing is trained yet")


if __name__ == "__main__":
    main()
