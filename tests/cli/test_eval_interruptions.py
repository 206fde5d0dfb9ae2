"""`genseg eval` killed outright in each of its stages, interrupted, and gone on with: the same results in the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from gensegcli.sources.prepared import read_prepared
from gensegcli.store import locked
from tests.evaluate.conftest import prepared, write_answers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")

MODES = ("--prompt-mode", "box,box+2")
SCRIPTED = ("--backend", "scripted", "--answers", "true.jsonl", "--segmenter", "boxfill", "--set", "eval.resamples=50")
# One picture at a time: how a batch is cut may change the last bits of a model's sums.
DEMO = (
    "--model",
    "demo",
    "--set",
    "eval.resamples=50",
    "--set",
    "model.batch_size=1",
    "--set",
    "segmenter.batch_size=1",
)

_SHOT = """
import os, sys
from gensegcli.store import Records

append, left = Records.append, {count}
def shot(records, record, **options):
    global left
    append(records, record, **options)
    if {file!r} in str(records.path):
        left -= 1
        if not left:
            with open(records.path, "ab") as lines:
                lines.write(b'{{"id": "half a li')
            os.kill(os.getpid(), {signal})
Records.append = shot

sys.argv[1:] = {arguments!r}
from gensegcli.cli.app import main
main()
"""


@pytest.fixture
def scenes(place: Path) -> Path:
    """`scenes`: 8 generated scenes, and `true.jsonl` with their true answers, in the working directory."""
    folder = prepared(place / "scenes", "scenes", place, **{"source.n": 8, "select.seed": 7})
    write_answers(place / "true.jsonl", read_prepared(folder))
    return folder


def _shoot(place: Path, file: str, count: int, arguments: tuple[str, ...], how: int = signal.SIGKILL) -> Any:
    """Run it until so many records are in the files of that name, leave half a line behind, and send the signal."""
    program = _SHOT.format(file=file, count=count, signal=int(how), arguments=list(arguments))
    return subprocess.run([sys.executable, "-c", program], cwd=place, capture_output=True, text=True, check=False)


def _results(folder: Path) -> Any:
    """results.json without what differs between any two runs: the speed."""
    return [{**value, "speed": None} for value in json.loads((folder / "results.json").read_text())]


def _files(folder: Path) -> dict[str, Any]:
    """Every record file of a run, line by line, without the times taken."""
    found = {}
    for path in sorted(folder.rglob("*.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found[str(path.relative_to(folder))] = [
            {key: value for key, value in line.items() if key not in {"seconds", "timings"}} for line in lines
        ]
    return found


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.usefixtures("scenes")
def test_killed_in_each_stage_and_run_again(genseg: Callable[..., Any], place: Path, count: int) -> None:
    command = ("eval", "scenes", "-q", *MODES, *SCRIPTED)
    kept = {}
    for stage, file in (("answers", "answers.jsonl"), ("masks", "predictions.jsonl"), ("scores", "genseg.jsonl")):
        done = _shoot(place, file, count, (*command, "-o", "shot"))
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not (place / "shot" / "results.json").exists()
        kept[stage] = next(path for path in sorted((place / "shot").rglob(file)) if path.stat().st_size).read_bytes()
        assert kept[stage].endswith(b'{"id": "half a li')
    assert genseg(*command, "-o", "shot").exit_code == 0
    assert (place / "shot" / "answers.jsonl").read_bytes().startswith(kept["answers"].rpartition(b"\n")[0])
    assert genseg(*command, "-o", "whole").exit_code == 0
    assert _results(place / "shot") == _results(place / "whole")
    assert _files(place / "shot") == _files(place / "whole")


@pytest.mark.slow
@pytest.mark.usefixtures("scenes")
def test_the_bundled_models_killed_in_each_stage(genseg: Callable[..., Any], place: Path) -> None:
    command = ("eval", "scenes", "-q", *MODES, *DEMO)
    for file, count in (("answers.jsonl", 3), ("predictions.jsonl", 5), ("genseg.jsonl", 2)):
        done = _shoot(place, file, count, (*command, "-o", "shot"))
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert genseg(*command, "-o", "shot").exit_code == 0
    assert genseg(*command, "-o", "whole").exit_code == 0
    assert _results(place / "shot") == _results(place / "whole")
    assert _files(place / "shot") == _files(place / "whole")
    box, two_points = _results(place / "whole")
    assert (box["mode"], two_points["mode"]) == ("box", "box+2")
    assert two_points["summary"]["metrics"]["mIoU"]["value"] > 0.5, "real inference, and they know this world"
    assert two_points["summary"]["composition"]["samples"] == 8


@pytest.mark.usefixtures("scenes")
def test_ctrl_c_says_how_to_go_on(genseg: Callable[..., Any], place: Path) -> None:
    command = ("eval", "scenes", "-o", "out", *SCRIPTED)
    done = _shoot(place, "answers.jsonl", 3, command, signal.SIGINT)
    assert done.returncode == 130
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == "interrupted: run the same command again to go on"
    assert "Traceback" not in done.stderr
    assert genseg(*command).exit_code == 0


@pytest.mark.usefixtures("scenes")
def test_two_evaluations_do_not_write_to_one_folder(genseg: Callable[..., Any], place: Path) -> None:
    (place / "out").mkdir()
    with locked(place / "out"):
        result = genseg("eval", "scenes", "-o", "out", *SCRIPTED)
    assert result.exit_code == 2
    assert "another genseg is writing to this folder" in result.stderr
