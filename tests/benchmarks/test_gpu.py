"""The GPU benchmark on a small architecture and the CPU: the same code that runs at full size on a GPU."""

from __future__ import annotations

import runpy
import sys
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

if TYPE_CHECKING:
    from pathlib import Path

TINY = [
    "--tiny",
    "--device",
    "cpu",
    "--batch",
    "3",
    "--loop",
    "2",
    "--tokens",
    "6",
    "--rounds",
    "1",
    "--size",
    "128x96",
]


@pytest.fixture
def script(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(project_root / "benchmarks"))
    return runpy.run_path(str(project_root / "benchmarks" / "gpu.py"))


def test_every_row_is_measured(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", *TINY])
    assert script["main"]() == 0
    said = capsys.readouterr()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in said.out.splitlines()[2:]]
    assert [row[:2] for row in rows] == [
        ["policy", "loop"],
        ["policy", "ours, 3 at a time"],
        ["segmenter", "loop"],
        ["segmenter", "ours, 3 at a time"],
    ]
    assert all(float(row[2]) > 0 for row in rows)
    assert all(int(row[3]) > 0 for row in rows[:2])
    for row in rows[:2]:
        int(row[4])  # of decoding alone, a difference of two short times: on a busy machine it can be anything
    assert "ended early" not in said.err


def test_the_bytes_of_decoding_by_hand(script: dict[str, Any], tmp_path: Path) -> None:
    """Two rows with prompts of 10 tokens together, three tokens each: two steps, over 12 and 14 remembered tokens."""
    policy = script["build_policy"](tmp_path, tiny=True, device=torch.device("cpu"), batch=2)
    attention = 64 * (4 + 2 + 2) * 32 + 4 * 32 * 64 + 2 * 32  # q k v, output, the two norms of q and k
    layer = attention + 3 * 64 * 128 + 2 * 64  # gate, up and down, the two norms
    weights = 4096 * 64 + 2 * layer + 64  # the embedding, which is the output layer too, and the last norm
    remembered = (12 + 14) * 2 * 2 * 2 * 32  # keys and values of 2 layers of 2 heads of 32
    assert script["bytes_per_pass"](policy, 10, rows=2, tokens=3) == 4 * (2 * weights + remembered)
    policy.close()


def test_without_a_gpu_it_says_so(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert script["main"]() == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert "no CUDA device" in said.err
