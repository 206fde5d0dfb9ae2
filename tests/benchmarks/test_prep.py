"""The rehearsal tree has the true proportions, and the benchmark of prep measures what it says."""

from __future__ import annotations

import importlib
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processor time is read from /proc")


@pytest.fixture
def run(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a script of the folder as from the command line. Imported, so that its processes find what it defines."""
    monkeypatch.syspath_prepend(str(project_root / "benchmarks"))

    def call(name: str, *arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        return importlib.import_module(name).main()

    yield call
    for name in ("prep", "prep_rehearsal"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_a_small_tree_is_written_and_measured(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prep_rehearsal", str(tmp_path), "--scale", "0.002") == 0
    written = json.loads(capsys.readouterr().out)
    assert written["pictures"] == 34 + 3 + 2 + 2, "of 16,994, 1,501, 750 and 750"
    assert written["sentences"] == 419 + 28 + 38 + 32, "of 209,344, 14,229, 19,200 and 16,063"

    assert run("prep", "--tree", str(tmp_path), "--samples", "40", "--rounds", "1", "--workers", "1", "--json") == 0
    found = json.loads(capsys.readouterr().out)

    assert found["samples"] == 40
    assert found["times_notebook"] == pytest.approx(found["per_s"]["prep"] / found["per_s"]["notebook"])
    assert all(spent > 0 for spent in found["processor_ms_per_sample"].values())
