from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gensegcli.train import memory
from gensegcli.train.memory import Memory, _advice, estimate
from gensegcli.train.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from gensegcli.config import Resolved

    Small = Callable[..., Resolved]

STATE = ("weights", "gradients", "optimiser", "reference model")


def test_weights_gradients_and_optimiser_are_counted_from_the_architecture(small: Small) -> None:
    from safetensors import safe_open

    plan = Plan.of(small())
    assert plan.policy.path is not None
    with safe_open(plan.policy.path / "model.safetensors", "pt") as file:
        count = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118 - no mapping
    alone = estimate(plan, 1).parts
    assert [alone[name] for name in STATE] == pytest.approx([4 * count, 4 * count, 8 * count, 4 * count], rel=1e-3)
    shared = estimate(plan, 4).parts
    assert [shared[name] for name in STATE] == pytest.approx([alone[name] / 4 for name in STATE])


def test_what_is_not_there_is_not_counted(small: Small) -> None:
    assert "reference model" not in estimate(Plan.of(small("train.beta=0")), 1).parts
    adapted = estimate(Plan.of(small("train.lora=true")), 1).parts
    assert "reference model" not in adapted
    assert adapted["optimiser"] < estimate(Plan.of(small()), 1).parts["optimiser"] / 4
    few, all_of_them = (estimate(Plan.of(small(*own)), 1).parts for own in (("model.batch_size=1",), ()))
    assert few["KV cache of rollouts"] == all_of_them["KV cache of rollouts"] / 4
    taught = estimate(Plan.of(small("train.stage=sft")), 1).parts
    assert not {"reference model", "KV cache of rollouts", "segmenter"} & taught.keys()


def test_gradients_and_the_cache_of_rollouts_take_turns() -> None:
    """By hand: 4 + 3 + 1 in the update, 4 + 2 in rollouts; with a larger cache, 4 + 6."""
    parts = {"weights": 4.0, "gradients": 3.0, "activations": 1.0, "KV cache of rollouts": 2.0}
    assert Memory(parts, None, ()).total == 8
    assert Memory(parts | {"KV cache of rollouts": 6.0}, None, ()).total == 10
    assert Memory({"weights": 4.0, "gradients": 3.0}, None, ()).total == 7
    assert Memory(parts | {"weights gathered for rollouts": 5.0}, None, ()).total == 4 + 2 + 5


def test_what_a_gpu_needs_beside(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bf16 one process keeps its casts of all weights that learn; of several, each gathers layer by layer."""
    monkeypatch.setattr(memory, "mixed_precision", lambda *_: True)
    plan, adapted = Plan.of(small()), Plan.of(small("train.lora=true"))
    assert estimate(plan, 1).parts["bf16 copies of weights"] == estimate(plan, 1).parts["weights"] / 2
    assert "bf16 copies of weights" not in estimate(plan, 4).parts
    assert "bf16 copies of weights" not in estimate(adapted, 1).parts


@pytest.mark.parametrize(
    ("parts", "advice"),
    [
        ({"weights": 80e9}, ["fits"]),
        ({"weights": 20e9, "activations": 90e9}, ["does not fit: most goes into activations; try --set train.micro_b"]),
        ({"weights": 99e9}, ["does not fit: most goes into weights; try --nproc 4, or --lora"]),
    ],
)
def test_what_to_change_where_it_does_not_fit(small: Small, parts: dict[str, float], advice: list[str]) -> None:
    found = _advice(Plan.of(small()), Memory(parts, 100e9, ()), 2)
    assert len(found) == len(advice)
    assert all(one.startswith(words) for one, words in zip(found, advice, strict=True))
