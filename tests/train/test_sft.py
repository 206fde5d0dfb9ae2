from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

from gensegcli.dialects import get_dialect
from gensegcli.models import resolve_policy
from gensegcli.records import Answer, GridBox, GridPoint, Target
from gensegcli.sources.prepared import read_prepared
from gensegcli.sources.scenes import samples, scene_of, true_answer
from gensegcli.train.plan import Plan
from gensegcli.train.run import train
from gensegcli.train.runs import METRICS, read_steps
from gensegcli.train.sft import Demonstrations, demonstration

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gensegcli.config import Resolved


def test_a_demonstration_is_the_truth_in_the_strict_form(scenes: Path) -> None:
    dialect = get_dialect("genseg-neg")
    assert dialect.asks_negatives
    for sample in (replace(one, think=None) for one in read_prepared(scenes)):
        answer = demonstration(sample, negatives=True)
        assert dialect.read(dialect.render(answer), strict=True) == answer
        assert [one.box for one in answer.instances] == [target.box for target in sample.targets]
        assert answer.think is not None
        assert sample.query in answer.think
        assert ("Nothing" in answer.think) == sample.no_target


def test_background_points_are_shown_to_those_who_were_asked_for_them(scenes: Path) -> None:
    sample = next(one for one in read_prepared(scenes) if one.targets and one.targets[0].negatives)
    assert demonstration(sample, negatives=True).instances[0].negatives
    assert not demonstration(sample).instances[0].negatives
    assert not any(get_dialect(name).asks_negatives for name in ("genseg", "genseg-pixels", "genseg-mini", "seg-zero"))


def test_scenes_come_with_the_thoughts_that_the_miniature_has(scenes: Path) -> None:
    for sample in read_prepared(scenes):
        think = demonstration(sample).think or ""
        assert think.startswith("I see ")
        assert ("Match: none." in think) == sample.no_target


def test_the_miniature_is_shown_what_it_was_taught() -> None:
    """To the number: `prep` keeps exact truth, and the policy was taught multiples of ten."""
    policy = resolve_policy("demo")
    shown = list(samples(60, seed=16))
    processor = AutoProcessor.from_pretrained(policy.path, local_files_only=True)
    demonstrations = Demonstrations(shown, get_dialect("genseg-mini"), policy.entry, processor, most_tokens=128)
    for index, sample in enumerate(shown):
        scene, reference = scene_of(index, seed=16)
        assert demonstrations.answer(sample) == demonstrations.dialect.render(true_answer(scene, reference))


def test_a_think_text_of_the_data_is_kept_without_tags(scenes: Path) -> None:
    sample = replace(next(read_prepared(scenes)), think="<think>It is on the left.</think>")
    assert demonstration(sample).think == "It is on the left."


def test_missing_points_are_mined_from_the_mask(scenes: Path) -> None:
    sample = next(one for one in read_prepared(scenes) if one.targets)
    bare = replace(sample, targets=tuple(replace(target, points=target.points[:1]) for target in sample.targets))
    for shown, target in zip(demonstration(bare).instances, sample.targets, strict=True):
        assert len(shown.points) == 2
        assert np.allclose(shown.points, target.points)


def test_an_answer_without_objects_abstains(scenes: Path) -> None:
    sample = replace(next(read_prepared(scenes)), targets=(), think=None)
    assert demonstration(sample) == Answer((), f"Nothing in the picture matches: {sample.query}.")
    single = replace(sample, targets=(Target(GridBox(1, 2, 3, 4), (GridPoint(2, 3), GridPoint(2, 2)), None),))
    assert "One object in the picture match" in (demonstration(single).think or "")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_the_cold_start_lowers_the_loss_and_is_evaluated_on_the_way(
    small: Callable[..., Resolved], scenes: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    settings = small(
        *("train.stage=sft", "train.prompts_per_step=4", "train.lr=3e-4", "train.epochs=2"),
        *(f"train.eval_data={scenes}", "train.eval_steps=6", "train.eval_limit=4"),
    )
    outcome = train(Plan.of(settings), tmp_path)
    assert (outcome.step, outcome.steps) == (12, 12)
    rows = read_steps(tmp_path / METRICS)
    losses = [row["loss"] for row in rows]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    assert all("token_accuracy" in row for row in rows)
    evaluated = [row["step"] for row in rows if "held_out_mask_iou" in row]
    assert evaluated == [6, 12]
    assert 0 <= rows[5]["held_out_false_negatives"] <= 1
