"""The teaching loop: a schedule, and runs that are killed and go on."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from gensegcli.errors import GensegError  # noqa: E402
from gensegcli.miniature import teach_policy, teach_segmenter, teaching  # noqa: E402
from gensegcli.miniature.teaching import Schedule, Teacher, teach  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

RECIPES = {
    "policy": teach_policy.Recipe(steps=2, scenes=2, questions=2),
    "segmenter": teach_segmenter.Recipe(steps=2, scenes=2, prompts=2),
}
TEACHERS = {"policy": teach_policy.PolicyTeacher, "segmenter": teach_segmenter.SegmenterTeacher}


def test_the_rate_warms_up_holds_and_descends() -> None:
    schedule = Schedule(steps=1000, learning_rate=1.0, warmup=10, decay_share=0.2)
    assert [schedule.rate(step) for step in (0, 4, 9, 500, 900, 999)] == pytest.approx([0.1, 0.5, 1, 1, 0.5, 0.02])


def watched(kind: str, *, killed_at: int | None = None) -> tuple[Teacher, dict[int, Any], dict[int, dict[str, float]]]:
    """A teacher, and by step what it was given and the losses it found; it may be killed as a step begins."""
    given: dict[int, Any] = {}
    found: dict[int, dict[str, float]] = {}

    class Watched(TEACHERS[kind]):
        def step(self, batch: Any, step: int) -> dict[str, float]:
            given[step] = batch
            if step == killed_at:
                raise KeyboardInterrupt
            found[step] = super().step(batch, step)
            return found[step]

    return Watched(RECIPES[kind]), given, found


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit, through dictionaries, lists and tensors."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one.nan_to_num(-1e9), other.nan_to_num(-1e9))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("kind", TEACHERS)
def test_a_killed_run_goes_on_as_if_unbroken(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, optimisers and the next batch are to the last bit what they were when the kill came.

    What is computed from them is compared loosely: processors round differently by where in memory a batch lies, and
    Adam makes a whole step of a gradient that is nothing but rounding, so the weights of two runs drift apart.
    """
    monkeypatch.setattr(teaching, "SAVE_EVERY", -1.0)
    broken, expected, _ = watched(kind, killed_at=1)
    with pytest.raises(KeyboardInterrupt):
        teach(broken, tmp_path / "broken.pt")

    restored, _, _ = watched(kind)
    torch.manual_seed(99)
    assert restored.restore(tmp_path / "broken.pt") == 1
    assert same(restored.state(1), broken.state(1))
    assert len(restored.state(1)["optimisers"][1]["state"]) > 10

    resumed, given, found = watched(kind)
    teach(resumed, tmp_path / "broken.pt")
    assert list(given) == list(found) == [1]
    for field in fields(given[1]):
        assert same(getattr(given[1], field.name), getattr(expected[1], field.name)), field.name
    with torch.no_grad():
        losses = broken.losses(expected[1], 1)
    for name, loss in losses.items():
        assert found[1][name] == pytest.approx(loss.item(), rel=0.01, abs=1e-3), name
    assert torch.load(tmp_path / "broken.pt", weights_only=True)["step"] == 2


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    teacher, _, _ = watched("segmenter")
    torch.save(teacher.state(0) | {"recipe": {"steps": 5}}, tmp_path / "segmenter.pt")
    with pytest.raises(GensegError, match=r"another recipe \(.*steps 5 there, 2 here"):
        teach(teacher, tmp_path / "segmenter.pt")
