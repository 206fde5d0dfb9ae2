"""A folder with pictures and scripted answers, and `genseg` called in it: in this process, or as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from typer.testing import CliRunner

from gensegcli.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

FOUND = (
    '<think>.</think><answer>[{"bbox_2d": [100, 100, 600, 700], "point_1": [200, 200], "point_2": [400, 500]}]</answer>'
)
ANSWERS = {"dog": FOUND, "unicorn": '<think>.</think><answer>{"no_target": true}</answer>', "chatter": "Nice weather."}
SCRIPTED = ("--backend", "scripted", "--answers", "answers.jsonl", "--segmenter", "boxfill")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: `photos/0.png` to `photos/5.png`, `answers.jsonl`."""
    (tmp_path / "photos").mkdir()
    for number in range(6):
        Image.new("RGB", (60 + number, 40), (0, 0, number)).save(tmp_path / "photos" / f"{number}.png")
    lines = [json.dumps({"query": query, "text": text}) + "\n" for query, text in ANSWERS.items()]
    (tmp_path / "answers.jsonl").write_text("".join(lines))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.fixture
def genseg(place: Path) -> Callable[..., Result]:
    """`genseg ARGUMENTS` in this process; `result.stdout` and `result.stderr` apart."""

    def call(*arguments: str, stdin: str | bytes | None = None) -> Result:
        result = CliRunner().invoke(app, list(arguments), input=stdin, prog_name="genseg")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture
def start(place: Path) -> Callable[..., subprocess.Popen[str]]:
    """`genseg ARGUMENTS` as a process of its own, with pipes."""

    def call(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "gensegcli", *arguments],
            cwd=place,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return call
