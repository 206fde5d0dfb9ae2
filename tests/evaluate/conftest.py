"""Prepared sets to evaluate on, and answers that are known to be right."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from gensegcli.evaluate.data import open_set
from gensegcli.prep.inputs import Inputs, read_raw
from gensegcli.prep.recipe import resolve
from gensegcli.prep.run import prepare
from tests.prep.conftest import Tree

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gensegcli.records import Sample


def prepared(out: Path, name: str, root: Path, *, split: str = "val", **changes: object) -> Path:
    """The folder of a set prepared for evaluation."""
    recipe = resolve(name, split=split, purpose="eval", changes=changes)
    prepare(recipe, read_raw(recipe, Inputs(root)), out)
    return out


def true_answer(sample: Sample) -> str:
    """The completion of a policy that is always right, to the last digit."""
    objects = [
        {"bbox_2d": list(target.box), "point_1": list(target.points[0]), "point_2": list(target.points[-1])}
        for target in sample.targets
    ]
    return f"<think>seen</think><answer>{json.dumps(objects or {'no_target': True})}</answer>"


def write_answers(path: Path, samples: Iterable[Sample]) -> Path:
    """A file of true answers for the backend `scripted`."""
    path.write_text("".join(json.dumps({"id": s.id, "text": true_answer(s)}) + "\n" for s in samples))
    return path


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 generated scenes: 8 with an object, 4 without."""
    folder, raw = tmp_path_factory.mktemp("scenes") / "set", tmp_path_factory.mktemp("raw")
    return prepared(folder, "scenes", raw, **{"source.n": 12, "select.seed": 16})


@pytest.fixture
def answers(scenes: Path, tmp_path: Path) -> Path:
    """True answers for the scenes."""
    return write_answers(tmp_path / "answers.jsonl", open_set(scenes).samples())


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Empty raw files in gRefCOCO's form."""
    return Tree(tmp_path / "raw")


@pytest.fixture(scope="session")
def mini(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The mini sets of real photos, prepared for evaluation, by the name of their recipe."""
    root = tmp_path_factory.mktemp("mini")
    return {name: prepared(root / name, name, shared_data / "mini") for name in ("refcocog", "grefcoco", "reasonseg")}
