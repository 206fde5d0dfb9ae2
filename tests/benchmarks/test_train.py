"""The benchmarks of training measure what they say, on few prompts and small pictures."""

from __future__ import annotations

import json
import runpy
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("trl")

from gensegcli.prep.inputs import Inputs, read_raw
from gensegcli.prep.recipe import resolve as resolve_recipe
from gensegcli.prep.run import prepare

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


@pytest.fixture
def script(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a script defines, with these arguments on its command line."""
    monkeypatch.syspath_prepend(str(project_root / "benchmarks"))

    def load(name: str, *arguments: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        return runpy.run_path(str(project_root / "benchmarks" / f"{name}.py"))

    yield load
    for name in ("segmenter", "gpu"):
        sys.modules.pop(name, None)


def test_the_reward_is_measured_three_ways(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert script("reward", "--rounds", "1", "--size", "96x64", "--device", "cpu", "--json")["main"]() == 0
    found = json.loads(capsys.readouterr().out)
    # No order of times: on a busy machine, what takes half as long may take twice as long.
    assert min(found["limit"], found["ours"], found["ancestors"]) > 0


def test_a_step_is_told_by_phases_both_ways(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    script("train_step", "--steps", "2", "--prompts", "1", "--generations", "2", "--threads", "1")["main"]()
    table = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [row[0].strip() for row in table[2:4]] == ["TRL's own, s", "ours, s"]
    for row in table[2:4]:
        *phases, step = (float(cell) for cell in row[1:])
        assert sum(phases) == pytest.approx(step, rel=0.2), "the phases are the whole step"


def test_presets_at_full_size_are_told_in_small(
    script: Any, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On real photos; who is taught true answers has no rollouts."""
    recipe = resolve_recipe("grefcoco", split="val", purpose="train", changes={"select.count": 0})
    prepare(recipe, read_raw(recipe, Inputs(shared_data / "mini")), tmp_path / "data")
    few = ("--set", "train.prompts_per_step=2", "--steps", "2", "--tokens", "8", "--presets", "cold-start")
    asked = ("--data", str(tmp_path / "data"), "--tiny", "--device", "cpu")
    assert script("train_gpu", *asked, *few)["main"]() == 0
    few = ("--set", "train.num_generations=2", *few[:-1], "genseg-r1-g")
    assert script("train_gpu", *asked, *few)["main"]() == 0
    table = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    told = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in table}
    assert [bool(told["cold-start"][i]) for i in range(5)] == [False, False, False, True, True]
    assert all(float(cell.split()[0]) > 0 for cell in told["genseg-r1-g"][:5])


def test_gains_are_paired_and_seeds_averaged(script: Any, tmp_path: Path) -> None:
    """By hand: thirty targets, fifteen empty expressions; a run that is better everywhere by one tenth."""
    defined = script("miniature_grpo")
    for name, ious in (("start", (0.5, 0.9)), ("run", (0.6, 1.0))):
        rows = [
            {"id": str(i), "no_target": False, "abstained": False, "iou": iou, "intersection": iou * 10, "union": 10}
            for i, iou in enumerate(ious * 15)
        ]
        empty = {"no_target": True, "abstained": name == "run", "iou": 0, "intersection": 0, "union": 0}
        rows += [{"id": str(i), **empty} for i in range(30, 45)]
        folder = tmp_path / name / "scores" / "demo"
        folder.mkdir(parents=True)
        (folder / "genseg.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = defined["columns"](tmp_path / "run")
    value = {key: float(np.sum(above) / np.sum(below)) for key, (above, below) in found.items()}
    assert value == pytest.approx({"target mIoU": 0.8, "target cIoU": 0.8, "N-acc": 1, "FNR": 0, "P@0.9": 0.5})
    three = {
        defined["START"]: [tmp_path / "start"],
        "SAM-in-the-loop": [tmp_path / "run", tmp_path / "run", tmp_path / "start"],
    }
    *_, gain, seeds, _ = defined["table"](three).splitlines()[-1].split("|")
    assert gain.strip() == "+6.7 (0.0 to 10.0)", "seeds are drawn anew in each resample"
    assert seeds.strip() == "+10.0, +10.0, +0.0"
    begun = {name: defined["start_of"](name) for name in ("two-stage", "SAM-in-the-loop with negative points")}
    assert begun == {"two-stage": defined["START"], "SAM-in-the-loop with negative points": defined["START_NEGATIVES"]}
