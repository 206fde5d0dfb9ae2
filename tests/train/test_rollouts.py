"""Rollouts by the trainer's own model, and its passes over them: what is drawn, and what padding may not change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from trl import GRPOTrainer
from trl.data_utils import prepare_multimodal_messages

from gensegcli.config import resolve
from gensegcli.train.guard import _inputs, _of_different_sizes
from gensegcli.train.plan import Plan
from gensegcli.train.rollouts import write
from gensegcli.train.run import build
from gensegcli.train.trainer import Journal
from tests.train.conftest import SMALL

if TYPE_CHECKING:
    from pathlib import Path

    from gensegcli.policy.decoding import Row
    from gensegcli.train.grpo import PolicyTrainer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


def _asked(trainer: PolicyTrainer, each: int = 3) -> tuple[list[list[int]], list[Any], list[Any]]:
    """Prompt ids, pictures and messages: so many times each of a few rows with pictures of different sizes."""
    rows = [row for row in _of_different_sizes(trainer) for _ in range(each)]
    images = [row["image"] for row in rows]
    messages = [prepare_multimodal_messages(row["prompt"], images=[row["image"]]) for row in rows]
    return trainer._tokenize_prompts(messages)[0], images, messages


def _written(trainer: PolicyTrainer, limit: int = 30) -> list[Row]:
    prompts, images, _ = _asked(trainer)
    return write(trainer, prompts, images, limit=limit, logs=True)


def test_completions_hang_on_the_step_alone_and_end_at_a_stop_token_or_the_limit(
    trainer: PolicyTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = _written(trainer, limit=200)
    torch.rand(1)
    assert [row.tokens for row in _written(trainer, limit=200)] == [row.tokens for row in rows]
    with monkeypatch.context() as later:
        later.setattr(trainer.state, "global_step", 1)
        assert [row.tokens for row in _written(trainer, limit=200)] != [row.tokens for row in rows]
    stops = set(trainer.eos_token_ids)
    assert all(row.tokens[-1] in stops and not stops.intersection(row.tokens[:-1]) for row in rows)
    assert {len(row.tokens) for row in _written(trainer, limit=5)} == {5}
    assert len({row.head for row in rows}) == 4, "one reading for each picture, not for each completion"


def test_what_is_drawn_does_not_depend_on_how_many_are_written_at_a_time(trainer: PolicyTrainer) -> None:
    together = [row.tokens for row in _written(trainer)]
    trainer.rollout_rows = 5
    try:
        assert [row.tokens for row in _written(trainer)] == together
    finally:
        trainer.rollout_rows = None


def test_a_picture_token_is_never_written(trainer: PolicyTrainer) -> None:
    token = trainer._image_pad_token_id

    def wish_for_it(_model: Any, _given: Any, output: Any) -> None:
        output.logits[..., token] = 1e4

    hook = trainer.model.register_forward_hook(wish_for_it)
    try:
        rows = _written(trainer)
    finally:
        hook.remove()
    assert all(token not in row.tokens for row in rows)


def test_a_model_with_adapters_writes_in_the_number_format_in_which_it_learns(scenes: Path, tmp_path: Path) -> None:
    settings = [f"train.data={scenes}", *SMALL, "train.lora=true", "train.lora_rank=4", "train.precision=bf16"]
    plan = Plan.of(resolve(preset="demo", assignments=settings))
    adapted: Any = build(plan, tmp_path, Journal(tmp_path, plan.passport(), writes=False))
    formats = set()
    layers = adapted.model.get_base_model().model.language_model.layers
    layers[0].mlp.up_proj.register_forward_hook(lambda _layer, _given, output: formats.add(output.dtype))
    _written(adapted, limit=3)
    assert formats == {torch.bfloat16}


@pytest.mark.parametrize("size", [None, 5])
def test_log_probabilities_are_those_of_a_padded_pass(trainer: PolicyTrainer, size: int | None) -> None:
    """TRL's own method, over everything with all of its padding, is the oracle; the decoder's are the same, too."""
    rows = _written(trainer, limit=60)
    for at, row in enumerate(rows):
        del row.tokens[10 + 4 * at :]
    _, images, messages = _asked(trainer)
    inputs = _inputs(trainer, messages, [[image] for image in images])
    width = max(len(row.tokens) for row in rows)
    tails = torch.tensor([row.tokens + [0] * (width - len(row.tokens)) for row in rows])
    known = torch.tensor([[1] * len(row.tokens) + [0] * (width - len(row.tokens)) for row in rows])
    prompts = inputs.pop("input_ids"), inputs.pop("attention_mask")
    inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(tails)], dim=1)
    given = (torch.cat([prompts[0], tails], dim=1), torch.cat([prompts[1], known], dim=1), width)
    named = {"batch_size": size, "compute_entropy": True, "num_images": [1] * len(rows), **inputs}
    with torch.no_grad():
        ours, our_entropy, _ = trainer._get_per_token_logps_and_entropies(trainer.model, *given, **named)
        theirs, their_entropy, _ = GRPOTrainer._get_per_token_logps_and_entropies(
            trainer, trainer.model, *given, **named
        )
    assert ours.shape == theirs.shape == known.shape
    mask = known.bool()
    torch.testing.assert_close(ours[mask], theirs[mask], atol=2e-4, rtol=0)
    torch.testing.assert_close(our_entropy[mask], their_entropy[mask], atol=2e-4, rtol=0)
    assert (prompts[1].sum(dim=1) != prompts[1].shape[1]).any(), "prompts are padded, too"
    written = torch.cat([torch.tensor(row.logs[: len(row.tokens)]) for row in rows])
    torch.testing.assert_close(ours[mask], written, atol=2e-4, rtol=0)
