"""A prepared set of generated scenes, and settings under which the bundled miniature trains in a second a step."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gensegcli.config import resolve
from gensegcli.prep.inputs import Inputs, read_raw
from gensegcli.prep.recipe import resolve as resolve_recipe
from gensegcli.prep.run import prepare
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gensegcli.config import Resolved
    from gensegcli.train.grpo import PolicyTrainer

SMALL = (
    "train.prompts_per_step=2",
    "train.num_generations=2",
    "train.micro_batch=4",
    "train.max_response_tokens=48",
    "train.lr=1e-4",
    "train.report_to=none",
    "train.warmup_steps=0",
    "train.save_steps=100",
    "model.device=cpu",
)


def run_two_processes(module: str, *arguments: str) -> None:
    """Run a module of the tests in two processes that train together."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 prepared scenes, with masks and negative points."""
    folder = tmp_path_factory.mktemp("data") / "scenes"
    recipe = resolve_recipe("scenes", changes={"source.n": 24, "select.seed": 7})
    prepare(recipe, read_raw(recipe, Inputs(folder)), folder)
    return folder


@pytest.fixture
def small(scenes: Path) -> Callable[..., Resolved]:
    """Settings of the demo preset on those scenes, two prompts with two completions a step; further ones on top."""

    def settings(*assignments: str) -> Resolved:
        return resolve(preset="demo", assignments=[f"train.data={scenes}", *SMALL, *assignments])

    return settings


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums in one order, so that equal runs are equal to the last bit; and models this small gain nothing by threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trainer(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> PolicyTrainer:
    """A trainer of the miniature, loaded and not yet begun."""
    from gensegcli.train.plan import Plan
    from gensegcli.train.run import build
    from gensegcli.train.trainer import Journal

    folder = tmp_path_factory.mktemp("trainer")
    plan = Plan.of(resolve(preset="demo", assignments=[f"train.data={scenes}", *SMALL]))
    return build(plan, folder, Journal(folder, plan.passport(), writes=False))  # type: ignore[return-value]
