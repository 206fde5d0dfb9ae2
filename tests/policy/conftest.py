"""Tiny checkpoints of both families, and pictures of mixed sizes to ask them about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.checkpoints import BUILDERS, build_bert
from tests.policy.pictures import mixed_questions

if TYPE_CHECKING:
    from pathlib import Path

    from gensegcli.records import Question


@pytest.fixture(scope="session")
def checkpoint_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of each family's tiny checkpoint, by `model_type`."""
    root = tmp_path_factory.mktemp("policies")
    return {family: build(root / family) for family, build in BUILDERS.items()}


@pytest.fixture(params=sorted(BUILDERS))
def checkpoint(request: pytest.FixtureRequest, checkpoint_folders: dict[str, Path]) -> Path:
    """One family's tiny checkpoint; a test that takes this runs for each family."""
    return checkpoint_folders[request.param]


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bert(tmp_path_factory.mktemp("bert") / "bert")


@pytest.fixture(scope="session")
def questions() -> list[Question]:
    return mixed_questions()
