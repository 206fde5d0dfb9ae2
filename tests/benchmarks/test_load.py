"""The load benchmark does every job to its end, and notices an answer that is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are measured as POSIX counts")


@pytest.mark.slow
def test_a_hundredth_of_the_load(project_root: Path, tmp_path: Path) -> None:
    script = [sys.executable, str(project_root / "benchmarks" / "load.py")]
    done = subprocess.run(
        [*script, "--scale", "0.005", "--out", str(tmp_path / "out"), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    rows = {row["job"]: row for row in json.loads(done.stdout)}
    assert {"predict", "predict, again", "prep", "eval", "audit", "server, run 1"} <= rows.keys()
    assert (rows["predict"]["number"], rows["eval"]["number"], rows["audit"]["number"]) == (100, 100, 500)
    assert all(row["processor"] > 0 and row["megabytes"] > 10 for row in rows.values())
