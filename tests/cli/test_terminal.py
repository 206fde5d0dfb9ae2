"""Names, servers and models write control characters; on a terminal they are seen, and nothing obeys them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.cli.conftest import SCRIPTED
from tests.policy.server import Server, always, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pty = pytest.importorskip("pty")

EVIL = "\x1b]0;PWNED\x07\x1b[2J\x9b31m\u202e\r[red]x[/red]"
"""Sets the title, rings, clears the screen (twice over, by two kinds of codes), reverses the text, and is markup."""

OBEYED = ("\x1b]", "\x07", "\x1b[2J", "\x9b", "\u202e")
"""Nothing of it may come through; a progress bar has escape sequences of its own."""


def on_a_terminal(folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit code of `genseg ARGUMENTS`, and what a terminal of 200 columns got to see of both its streams."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "gensegcli", *arguments],
        cwd=folder,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = bytearray()
    with suppress(OSError):  # the other end is closed
        while part := os.read(ours, 1 << 16):
            seen += part
    os.close(ours)
    return running.wait(), seen.decode()


def test_names_of_pictures_and_keys_of_rows(place: Path) -> None:
    name = f"a{EVIL.replace('/', '')}.png"
    Image.new("RGB", (60, 40)).save(place / name)
    rows = [
        {"image": name, "query": "dog"},
        {"image": "photos/0.png", "query": "dog"},
        {"image": f"missing-{name}", "query": "dog"},
        {"image": "photos/0.png", EVIL: "dog"},
    ]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, seen = on_a_terminal(place, "predict", "rows.jsonl", *SCRIPTED)
    assert code == 5
    assert seen.count("PWNED") >= 2
    assert "[red]x[red]" in seen
    assert not [bad for bad in OBEYED if bad in seen]


def test_what_a_server_says(place: Path, genseg: Callable[..., Any]) -> None:
    with serving(Server(models={EVIL: "x", f"{EVIL}2": "x"})) as server:
        arguments = ["predict", "photos/0.png", "dog", "--base-url", server.url, "--segmenter", "boxfill"]
        code, seen = on_a_terminal(place, *arguments)
        assert (code, "PWNED" in seen, [bad for bad in OBEYED if bad in seen]) == (4, True, [])
        server.models = {EVIL: "x"}  # taken, with a warning that names it
        server.answer = always((400, {"error": {"message": EVIL}}))
        code, seen = on_a_terminal(place, *arguments)
        assert (code, seen.count("PWNED"), [bad for bad in OBEYED if bad in seen]) == (5, 2, [])


def test_what_the_user_typed(place: Path) -> None:
    code, seen = on_a_terminal(place, "predict", f"--{EVIL}")
    assert (code, "PWNED" in seen, [bad for bad in OBEYED if bad in seen]) == (2, True, [])


def test_a_pipe_gets_the_same(place: Path, genseg: Callable[..., Any]) -> None:
    Image.new("RGB", (60, 40)).save(place / "\x9bnine\x7f\u202e.png")
    result = genseg("predict", "\x9bnine\x7f\u202e.png", "dog", *SCRIPTED)
    assert "nine" in result.stdout
    assert not [bad for bad in (*OBEYED, "\x7f") if bad in result.stdout]
    result = genseg("predict", "\x9bnine\x7f\u202e.png", "dog", "--json", *SCRIPTED)
    assert '"\\u009bnine\\u007f\\u202e.png"' in result.stdout
    assert json.loads(result.stdout)["image"] == "\x9bnine\x7f\u202e.png"


def test_a_bug_writes_no_control_characters_either(place: Path) -> None:
    program = (
        "import sys; from gensegcli.cli import app\n"
        f"def broken(*_, **__): raise ZeroDivisionError({EVIL!r})\n"
        "app.GensegGroup.invoke = broken\nsys.argv = ['genseg', 'models']\napp.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert b"ZeroDivisionError: \\x1b]0;PWNED" in done.stderr
    assert b"\x1b" not in done.stderr
