"""States of the optimiser, whole and by name; across processes, see test_sharded.py."""

from __future__ import annotations

from copy import deepcopy

import pytest

torch = pytest.importorskip("torch")

from gensegcli.train.sharding import load_optimizer_state, optimizer_state  # noqa: E402


@pytest.mark.parametrize(("before", "after"), [(None, True), (True, None)])
def test_a_resumed_optimiser_computes_as_this_run_wants(before: bool | None, after: bool | None) -> None:
    """Begun on a CPU and resumed on a GPU, whose kernel is fused, or the other way round: the numbers go on."""

    def learner(fused: bool | None) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        return model, torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        model(torch.arange(3.0)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    first, begun = learner(before)
    step(first, begun)
    second, resumed = learner(after)
    second.load_state_dict(first.state_dict())
    load_optimizer_state(second, resumed, deepcopy(optimizer_state(first, begun)))
    assert [group["fused"] for group in resumed.param_groups] == [after]
    step(first, begun)
    step(second, resumed)
    assert torch.allclose(first.weight, second.weight, atol=1e-6)
