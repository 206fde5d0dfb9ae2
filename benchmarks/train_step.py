"""Where the time of a training step goes, and what TRL's own rollouts and padded passes take on the same prompts.

    python benchmarks/train_step.py [--steps 6] [--prompts 8] [--generations 8] [--threads 2]

The bundled miniature learns by the SAM-in-the-loop reward on generated scenes. Steps of both ways take turns in one
process and begin with the same weights; the first of each is not counted. `other` is whatever is no rollout, no
segmenter and no forward or backward pass: tokens, pictures, rewards by rule, logs, optimiser.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from trl import GRPOTrainer

from gensegcli.config import resolve
from gensegcli.prep.inputs import Inputs, read_raw
from gensegcli.prep.recipe import resolve as resolve_recipe
from gensegcli.prep.run import prepare
from gensegcli.pretrained import quiet_progress
from gensegcli.train.grpo import PolicyTrainer
from gensegcli.train.plan import Plan
from gensegcli.train.run import train
from gensegcli.train.runs import METRICS, read_steps

if TYPE_CHECKING:
    from collections.abc import Generator

PHASES = ("rollout", "reward", "reference", "update", "other")


@contextmanager
def as_trl_does() -> Generator[None]:
    """Rollouts by `generate` of transformers, and passes over all padding."""
    ours = PolicyTrainer._generate_single_turn, PolicyTrainer._get_per_token_logps_and_entropies

    def write(self: PolicyTrainer, *given: Any, **named: Any) -> Any:
        with self.phases("rollout"):
            return GRPOTrainer._generate_single_turn(self, *given, **named)

    def score(self: PolicyTrainer, *given: Any, **named: Any) -> Any:
        if torch.is_grad_enabled():
            return GRPOTrainer._get_per_token_logps_and_entropies(self, *given, **named)
        with self.phases("reference"):
            return GRPOTrainer._get_per_token_logps_and_entropies(self, *given, **named)

    PolicyTrainer._generate_single_turn, PolicyTrainer._get_per_token_logps_and_entropies = write, score
    try:
        yield
    finally:
        PolicyTrainer._generate_single_turn, PolicyTrainer._get_per_token_logps_and_entropies = ours


def steps(plan: Plan, folder: Path) -> list[dict[str, float]]:
    """Seconds of the phases of each step but the first, and of the step."""
    train(plan, folder)
    return [{**row["phases"], "step": row["seconds"]} for row in read_steps(folder / METRICS)[1:]]


def main() -> None:
    """Train both ways, print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6, help="of each way, in two halves that take turns")
    parser.add_argument("--prompts", type=int, default=8, help="of a step")
    parser.add_argument("--generations", type=int, default=8, help="of a prompt")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    found: dict[str, list[dict[str, float]]] = {"TRL's own": [], "ours": []}
    with tempfile.TemporaryDirectory() as place, quiet_progress():
        data = Path(place) / "scenes"
        half = asked.steps // 2 + 1
        recipe = resolve_recipe("scenes", changes={"source.n": half * asked.prompts, "select.seed": 3})
        prepare(recipe, read_raw(recipe, Inputs(data)), data)
        changes = (
            *(f"train.data={data}", f"train.prompts_per_step={asked.prompts}", "train.report_to=none"),
            *(f"train.num_generations={asked.generations}", "model.device=cpu", "train.save_steps=1000"),
            f"train.micro_batch={min(8, asked.prompts * asked.generations)}",
        )
        plan = Plan.of(resolve(preset="demo", assignments=changes))
        for turn in range(2):
            found["ours"] += steps(plan, Path(place) / f"ours-{turn}")
            with as_trl_does():
                found["TRL's own"] += steps(plan, Path(place) / f"trl-{turn}")
    medians = {way: {name: median(row[name] for row in rows) for name in rows[0]} for way, rows in found.items()}
    print(f"| {asked.prompts} prompts × {asked.generations}, {asked.threads} threads | {' | '.join(PHASES)} | step |")
    print("|---" * (len(PHASES) + 2) + "|")
    for way, row in medians.items():
        print(f"| {way}, s | {' | '.join(f'{row[name]:.2f}' for name in (*PHASES, 'step'))} |")
    shares = (f"{100 * medians['ours'][name] / medians['ours']['step']:.1f} %" for name in PHASES)
    print(f"| ours, share of the step | {' | '.join(shares)} | |")
    ratios = (medians["TRL's own"][name] / medians["ours"][name] for name in (*PHASES, "step"))
    print(f"| times faster | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |")


if __name__ == "__main__":
    main()
