"""The fuzzer of files and the kills of running commands find what they are there to find."""

from __future__ import annotations

import importlib
import json
import random
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from gensegcli.errors import GensegError

QUICK = "annotations,predictions,coco results,answers,ids,manifest,csv,settings,audit"


@pytest.fixture
def fuzz(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(project_root / "benchmarks"))
    monkeypatch.chdir(project_root)  # the script changes it, and comes back
    return importlib.import_module("fuzz_files")


@pytest.fixture
def kills(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(project_root / "benchmarks"))
    return importlib.import_module("kills")


@pytest.mark.slow
def test_no_damaged_file_ends_in_a_traceback(fuzz: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--count", "18", "--seed", "3", "--only", QUICK]) == 0
    assert "exceptions: 0 at 0 places" in capsys.readouterr().out


@pytest.mark.slow
def test_an_exception_is_told_with_its_place(
    fuzz: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(error: GensegError) -> None:
        raise KeyError(error.message)

    monkeypatch.setattr("gensegcli.cli.console.error", broken)
    assert fuzz.main(["--count", "12", "--seed", "3", "--only", "settings"]) == 1
    assert "× settings: genseg predict: KeyError at app.py" in capsys.readouterr().out


def test_damage_changes_the_file_and_is_the_same_for_a_seed(fuzz: Any) -> None:
    sound = json.dumps({"id": 1, "boxes": [[1, 2, 3, 4]]}).encode()
    for seed in range(50):
        changed = fuzz.damaged(sound, ".json", random.Random(seed))
        assert changed == fuzz.damaged(sound, ".json", random.Random(seed))
    assert len({fuzz.damaged(sound, ".json", random.Random(seed)) for seed in range(50)}) > 40


def test_records_are_compared_without_the_times_taken(kills: Any, tmp_path: Path) -> None:
    for name, seconds, text in (("one", 1.0, "a"), ("two", 2.0, "a"), ("three", 1.0, "b")):
        (tmp_path / name).mkdir()
        row = {"id": "x", "text": text, "timings": {"policy": seconds}}
        (tmp_path / name / "answers.jsonl").write_text(json.dumps(row) + "\n")
    one, two, three = (kills.recorded(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two
    assert one != three


@pytest.mark.slow
def test_a_killed_preparation_ends_like_one_left_alone(kills: Any, tmp_path: Path) -> None:
    job = kills.Job("prep", ("prep", "scenes", "--n", "60", "-o", "{out}", "-q"), kills.prepared)
    row = kills.torment(job, tmp_path, 2, random.Random(0))
    assert sum(row["kills"].values()) >= 2
    assert row["different"] == []
