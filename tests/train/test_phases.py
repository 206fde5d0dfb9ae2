"""The stopwatch of a step: parts that add up to the whole."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from gensegcli.train import phases as module  # noqa: E402
from gensegcli.train.phases import Phases  # noqa: E402


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands until it is set."""
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def test_a_phase_inside_another_counts_as_itself_alone(clock: list[float]) -> None:
    """By hand: 1 s before, 2 s of update around 4 s of rollout in two parts, 8 s after; the seconds add up to 15."""
    phases = Phases(torch.device("cpu"))
    clock[0] += 1
    with phases("update"):
        clock[0] += 1
        for _ in range(2):
            with phases("rollout"):
                clock[0] += 2
        clock[0] += 1
    clock[0] += 8
    assert phases.take() == ({"other": 9, "update": 2, "rollout": 4}, {})
    clock[0] += 16
    assert phases.take() == ({"other": 16}, {}), "each step begins anew"


def test_an_error_ends_its_phase(clock: list[float]) -> None:
    phases = Phases(torch.device("cpu"))

    def lose() -> None:
        with phases("update"):
            clock[0] += 1
            raise ValueError("lost")

    with pytest.raises(ValueError, match="lost"):
        lose()
    clock[0] += 2
    assert phases.take()[0] == {"other": 2, "update": 1}


@pytest.mark.gpu
def test_memory_is_each_phases_own() -> None:
    """256 MB in one phase, 128 MB in the one inside it; both are waited for."""
    phases = Phases(torch.device("cuda"))
    before = torch.cuda.memory_allocated() / 1e9
    with phases("update"):
        torch.ones(64 << 20, device="cuda")
        with phases("rollout"):
            torch.ones(32 << 20, device="cuda")
    _, memory = phases.take()
    assert memory["update"] - before == pytest.approx(0.268, abs=0.003)
    assert memory["rollout"] - before == pytest.approx(0.134, abs=0.003)
