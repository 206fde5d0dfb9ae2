"""`genseg predict` as a process that is killed, interrupted, cut off from its reader, or out of disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.conftest import SCRIPTED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and limits")

COMMAND = ("predict", "-", "--json", "-o", "out", "--save", "png,coco", *SCRIPTED)


def _pairs(count: int) -> list[str]:
    queries = ("dog", "unicorn")
    rows = [{"image": f"photos/{n % 6}.png", "query": queries[n % 2], "id": f"id-{n}"} for n in range(count)]
    return [json.dumps(row) + "\n" for row in rows]


def _without_timings(text: str) -> list[dict[str, Any]]:
    return [{**json.loads(line), "timings": None} for line in text.splitlines()]


def _begin(process: subprocess.Popen[str], place: Path, lines: list[str]) -> None:
    """Feed some lines, keep stdin open, and wait until some answers are on disk."""
    assert process.stdin is not None
    process.stdin.writelines(lines)
    process.stdin.flush()
    records = place / "out" / "predictions.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if records.exists() and records.read_bytes().count(b"\n") >= 3:
            return
        time.sleep(0.05)
    raise AssertionError(process.communicate()[1])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_finished_is_lost_and_the_same_command_goes_on(
    start: Callable[..., subprocess.Popen[str]], genseg: Callable[..., Any], place: Path, how: signal.Signals
) -> None:
    lines = _pairs(40)
    process = start(*COMMAND)
    _begin(process, place, lines[:20])
    kept = (place / "out" / "predictions.jsonl").read_bytes()
    process.send_signal(how)
    process.wait(60)  # before stdin is closed: the end of the input would end the run as well
    _, words = process.communicate()
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert words.splitlines()[-1] == "interrupted: run the same command again to go on"
        assert "Traceback" not in words
    else:
        assert process.returncode == -how
    # As if the kill had come in the middle of a line.
    with (place / "out" / "predictions.jsonl").open("ab") as records:
        records.write(b'{"version":1,"id":"id-3')

    resumed = genseg(*COMMAND, stdin="".join(lines))
    assert resumed.exit_code == 0, resumed.stderr
    assert (place / "out" / "predictions.jsonl").read_bytes().startswith(kept)
    in_one_go = genseg(*COMMAND, "-o", "other", stdin="".join(lines))
    assert _without_timings(resumed.stdout) == _without_timings(in_one_go.stdout)
    assert [record["id"] for record in _without_timings(resumed.stdout)] == [f"id-{n}" for n in range(40)]
    for name in ("png", "coco.json"):
        one, two = place / "out" / name, place / "other" / name
        if one.is_dir():
            assert {p.name: p.read_bytes() for p in one.iterdir()} == {p.name: p.read_bytes() for p in two.iterdir()}
        else:
            assert json.loads(one.read_bytes()) == json.loads(two.read_bytes())


def test_a_reader_that_leaves_ends_it_quietly(place: Path) -> None:
    (place / "pairs.jsonl").write_text("".join(_pairs(2000)))
    command = [sys.executable, "-m", "gensegcli", "predict", "pairs.jsonl", "--json", "-q", *SCRIPTED]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["id"] == "id-0"
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0


def _feed(process: subprocess.Popen[str], lines: list[str]) -> None:
    assert process.stdin is not None
    process.stdin.writelines(lines)
    process.stdin.flush()


def _end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and stderr of a process whose stdin stays open."""
    assert process.stderr is not None
    words = process.stderr.read()
    return process.wait(60), words


def test_a_reader_that_leaves_while_stdin_stays_open(start: Callable[..., subprocess.Popen[str]]) -> None:
    """As `tail -f pairs.jsonl | genseg predict - --json | head -1`."""
    with start("predict", "-", "--json", "-q", *SCRIPTED) as process:
        _feed(process, _pairs(4))
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["id"] == "id-0"
        process.stdout.close()
        _feed(process, _pairs(60)[4:])
        assert _end_of(process) == (0, "")


def test_an_export_that_fails_while_stdin_stays_open(
    start: Callable[..., subprocess.Popen[str]], genseg: Callable[..., Any], place: Path
) -> None:
    arguments = ("predict", "-", "-q", "-o", "out", "--save", "png", *SCRIPTED)
    assert genseg(*arguments, stdin=_pairs(1)[0]).exit_code == 0
    (mask,) = (place / "out" / "png").iterdir()
    mask.unlink()
    mask.mkdir()
    with start(*arguments, "--restart") as process:
        _feed(process, _pairs(1))
        code, words = _end_of(process)
        assert code == 3, words
        error, *_ = words.splitlines()
        assert error.startswith(f"error: out/png/{mask.name}: cannot be saved")


def test_the_broken_pipe_of_an_engine_is_not_a_reader_that_left(place: Path) -> None:
    code = (
        "import os, sys\n"
        "from gensegcli.policy.scripted import ScriptedPolicy\n"
        "def dead(*arguments):\n"
        "    read, write = os.pipe()\n"
        "    os.close(read)\n"
        "    os.write(write, b'question')\n"
        "ScriptedPolicy.generate = dead\n"
        "from gensegcli.cli.app import main\n"
        f"sys.argv[1:] = ['predict', 'photos/0.png', 'dog', '--json', '-q', *{SCRIPTED!r}]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "has an engine's process died?" in done.stderr.splitlines()[-1]
    assert "in dead" in done.stderr


@pytest.mark.parametrize(
    "command", [["models"], ["predict", "--help"], ["predict", "photos", "--query", "dog", "--dry-run"]]
)
def test_tables_and_help_may_be_cut_off_too(place: Path, command: list[str]) -> None:
    """The reader is gone before the first byte."""
    read, write = os.pipe()
    os.close(read)
    scripted = SCRIPTED if "photos" in command else ()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "gensegcli", *command, *scripted], stdout=write, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(genseg: Callable[..., Any], place: Path) -> None:
    """A limit on the size of files stands for the full disk: the same error path of the operating system."""
    (place / "pairs.jsonl").write_text("".join(_pairs(60)))
    arguments = ["predict", "pairs.jsonl", "-o", "out", "-q", "--json", *SCRIPTED]
    code = (
        "import resource, sys\n"
        "from gensegcli.cli.app import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (12000, 12000))\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    error, hint = done.stderr.splitlines()
    assert error == "error: out/predictions.jsonl: cannot be saved (File too large)"
    assert "nothing finished is lost" in hint
    kept = [json.loads(line) for line in (place / "out" / "predictions.jsonl").read_text().splitlines()]
    assert 0 < len(kept) < 60
    resumed = genseg(*arguments)
    assert resumed.exit_code == 0
    shown = [json.loads(line) for line in resumed.stdout.splitlines()]
    assert len(shown) == 60
    for before, after in zip(kept, shown, strict=False):
        assert before.pop("picture")["size"] > 0  # kept in the record only, to notice a picture that was overwritten
        assert after == before


def test_two_processes_do_not_write_to_one_folder(
    start: Callable[..., subprocess.Popen[str]], genseg: Callable[..., Any], place: Path
) -> None:
    process = start(*COMMAND)
    _begin(process, place, _pairs(20))
    second = genseg(*COMMAND, stdin="".join(_pairs(20)))
    assert second.exit_code == 2
    assert "another genseg is writing to this folder" in second.stderr
    process.communicate()
    assert process.returncode == 0


def test_what_engines_print_to_stdout_does_not_spoil_the_data(place: Path) -> None:
    """As vLLM does: in this process, below Python, and from processes of its own."""
    code = (
        "import os, subprocess, sys\n"
        "from gensegcli.policy.scripted import ScriptedPolicy\n"
        "answer = ScriptedPolicy.generate\n"
        "def noisy(*arguments):\n"
        "    print('INFO python')\n"
        "    os.write(1, b'INFO native\\n')\n"
        "    subprocess.run(['echo', 'INFO child'], check=True)\n"
        "    return answer(*arguments)\n"
        "ScriptedPolicy.generate = noisy\n"
        "from gensegcli.cli.app import main\n"
        f"sys.argv[1:] = ['predict', 'photos/0.png', 'dog', '--json', *{SCRIPTED!r}]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [json.loads(line)["query"] for line in done.stdout.splitlines()] == ["dog"]
    assert {"INFO python", "INFO native", "INFO child"} <= set(done.stderr.splitlines())
