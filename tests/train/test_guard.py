"""The guard on the bundled miniature: agreement as it is, and each way in which an engine could see something else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import ImageOps

from gensegcli.errors import ExitCode, GensegError
from gensegcli.train import guard
from gensegcli.train.guard import check_parity

if TYPE_CHECKING:
    from collections.abc import Callable

    from gensegcli.train.grpo import PolicyTrainer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


def test_engine_and_trainer_agree_on_pictures_of_different_sizes(trainer: PolicyTrainer) -> None:
    state = torch.random.get_rng_state()
    parity = check_parity(trainer)
    assert len(set(parity.sizes)) >= 3
    assert max(parity.differences) < 1e-3
    assert torch.equal(torch.random.get_rng_state(), state), "a guarded run draws what an unguarded one would"


def _changed(trainer: PolicyTrainer, monkeypatch: pytest.MonkeyPatch, change: Callable[..., Any]) -> GensegError:
    real = guard._generate
    monkeypatch.setattr(guard, "_generate", lambda *given: change(*real(*given)))
    with pytest.raises(GensegError, match="rollout engine and trainer disagree") as caught:
        check_parity(trainer)
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert "--rollout transformers" in caught.value.hint
    return caught.value


def test_a_picture_token_too_many_is_noticed(trainer: PolicyTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    token = trainer._image_pad_token_id
    error = _changed(trainer, monkeypatch, lambda seen, *rest: ([[token, *ids] for ids in seen], *rest))
    found = re.search(r"has (\d+) picture tokens in the rollout engine, (\d+) expected", error.message)
    assert found is not None
    assert int(found[1]) == int(found[2]) + 1


def test_another_prompt_is_noticed(trainer: PolicyTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    error = _changed(trainer, monkeypatch, lambda seen, *rest: ([ids[:-1] for ids in seen], *rest))
    assert "other tokens in the rollout engine" in error.message


def test_other_probabilities_are_noticed(trainer: PolicyTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in (0.3, float("nan")):
        error = _changed(
            trainer,
            monkeypatch,
            lambda seen, made, logs, wrong=wrong: (seen, made, [[x + wrong for x in row] for row in logs]),
        )
        assert "nats a token" in error.message
        monkeypatch.undo()


def test_pictures_that_are_exchanged_are_noticed(trainer: PolicyTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure of old engines: right prompts, but the features of another picture."""
    real = guard.write

    def exchanged(trainer: Any, ids: Any, images: Any, **named: Any) -> Any:
        return real(trainer, ids, [ImageOps.invert(image) for image in images], **named)

    monkeypatch.setattr(guard, "write", exchanged)
    with pytest.raises(GensegError, match="nats a token"):
        check_parity(trainer)
