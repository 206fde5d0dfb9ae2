"""What a person sees of a long command: a bar on a terminal, lines elsewhere, nothing if quiet."""

from __future__ import annotations

import errno
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gensegcli.cli import progress as module
from gensegcli.cli.progress import Lines, progress

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


def test_a_line_every_few_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(20, "pictures")
    for number in range(12):
        clock.now += 1
        lines.step(failed=number == 0)

    assert capsys.readouterr().err.splitlines() == [
        "5/20 pictures, 1/s, 15 s to go, 1 failed",
        "10/20 pictures, 1/s, 10 s to go, 1 failed",
    ]


def test_what_an_earlier_run_did_tells_no_rate(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """300 of 1,000 were there; 200 more in 10 seconds are 20 a second, and 500 remain."""
    lines = Lines(None, "samples")
    clock.now += 60  # reading
    lines.reach(300, 1000)
    assert capsys.readouterr().err == "", "nothing is known yet"
    clock.now += 10
    lines.reach(500, 1000)

    assert capsys.readouterr().err == "500/1000 samples, 20/s, 25 s to go\n"


def test_quiet_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress(None, "samples", quiet=True) as shown:
        for done in range(0, 100, 10):
            clock.now += 9
            shown.reach(done, 100)
    assert capsys.readouterr().err == ""


def test_prep_draws_a_bar_on_a_terminal_and_no_line_of_it_into_stdout(tmp_path: Path) -> None:
    command = ["prep", "scenes", "--n", "300", "--out", str(tmp_path / "set"), "--workers", "1", "--json"]
    seen, written = _on_a_terminal(command, tmp_path)

    assert "samples" in seen
    assert "300/300" in seen
    assert "/s" in seen
    assert "\x1b[" in seen, "drawn, not printed line by line"
    assert b'"samples": 300' in written
    assert b"\x1b" not in written


def _on_a_terminal(command: list[str] | str, folder: Path) -> tuple[str, bytes]:
    """Run genseg, or a piece of Python, with a terminal as stderr; what the terminal and what stdout got."""
    arguments = ["-c", command] if isinstance(command, str) else ["-m", "gensegcli", *command]
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    with (folder / "stdout").open("wb") as stdout:
        process = subprocess.Popen([sys.executable, *arguments], stdout=stdout, stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError as error:
            if error.errno != errno.EIO:  # which Linux says when the other end is closed
                raise
            break
        if not part:
            break
        seen += part
    os.close(ours)
    assert process.wait() == 0, seen.decode()
    return seen.decode(), (folder / "stdout").read_bytes()


def test_what_is_being_loaded_is_a_line_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for total in (1, 5):
        with progress(total, "questions") as shown:
            shown.phase("loading policy demo")
    with progress(5, "questions", quiet=True) as shown:
        shown.phase("loading policy demo")
    assert capsys.readouterr().err == "loading policy demo\n" * 2


_LOADING = """
import sys, time
from gensegcli.cli.progress import progress

with progress({total}, "questions") as bar:
    bar.phase("loading policy [demo]")
    time.sleep(0.4)
    bar.write(sys.stdout, "a row\\n")
    bar.step()
"""


@pytest.mark.parametrize("total", [1, 3])
def test_what_is_being_loaded_is_a_spinner_on_a_terminal(tmp_path: Path, total: int) -> None:
    seen, written = _on_a_terminal(_LOADING.format(total=total), tmp_path)
    assert seen.count("loading policy [demo]") > 2, "drawn again and again"
    assert "-:--:--" not in seen.partition("loading policy")[2].partition("1/3")[0]
    assert "⠋" in seen
    assert written == b"a row\n"
