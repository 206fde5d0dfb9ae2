"""Before the first step: what writes rollouts and what learns from them must be looking at the same prompt.

Pictures of mixed sizes have silently corrupted prompts in rollout engines before (trl#6401, trl#5785): training then goes
on, and learns nothing or the wrong thing. So a few completions are drawn for pictures of different sizes, and prompt
tokens, picture tokens and log-probabilities of engine and trainer are held against each other.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback
from trl.data_utils import apply_chat_template, prepare_multimodal_messages

from gensegcli.errors import ExitCode, GensegError
from gensegcli.records import Size
from gensegcli.train.rollouts import write

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from gensegcli.train.grpo import PolicyTrainer

PROMPTS, TOKENS = 4, 24
"""So many completions of so many tokens: more would only take longer."""

LOOKED_AT = 64
"""Rows among which pictures of different sizes are sought."""

TOLERANCE = 0.1
"""Mean absolute difference of log-probabilities over a completion, in nats.

Two engines in bf16 differ by a few hundredths; a picture that is missing, or another one's, by one and more.
"""


@dataclass(frozen=True)
class Parity:
    """What was compared: mean absolute difference of log-probabilities by completion, and the pictures' sizes."""

    differences: tuple[float, ...]
    sizes: tuple[Size, ...]


class ParityGuard(TrainerCallback):
    """Runs the comparison once the trainer's model and the engine are ready."""

    def __init__(self, trainer: PolicyTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        check_parity(self.trainer)


def check_parity(trainer: PolicyTrainer) -> Parity:
    """Compare rollout engine and trainer on a few prompts.

    Raises:
        GensegError: they disagree (exit code ENVIRONMENT).
    """
    rows = _of_different_sizes(trainer)
    images = [[row["image"]] for row in rows]
    prompts = [prepare_multimodal_messages(row["prompt"], images=own) for row, own in zip(rows, images, strict=True)]
    with _neutral(trainer), torch.no_grad():
        prompt_ids, _, _ = trainer._tokenize_prompts(prompts)
        engine_ids, completions, engine = _generate(trainer, prompt_ids, images)
        inputs = _inputs(trainer, prompts, images)
        learned_from = [
            ids[mask.bool()].tolist() for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
        ]
        trained = _log_probabilities(trainer, inputs, completions)
    sizes = tuple(Size(*own.size) for (own,) in images)
    for ids, seen, learned, size in zip(prompt_ids, engine_ids, learned_from, sizes, strict=True):
        _same_prompt(list(ids), list(seen), learned, size, token=trainer._image_pad_token_id)
    differences = tuple(
        float((torch.tensor(ours) - torch.tensor(theirs)).abs().nanmean())
        for ours, theirs in zip(trained, engine, strict=True)
    )
    worst = max(range(len(sizes)), key=lambda i: differences[i])
    # Not "greater": NaN is no agreement.
    if not differences[worst] <= TOLERANCE:
        raise _disagree(
            f"log-probabilities of a completion about a picture of {sizes[worst].width}x{sizes[worst].height} pixels "
            f"differ by {differences[worst]:.2f} nats a token, at most {TOLERANCE} expected"
        )
    return Parity(differences, sizes)


def _of_different_sizes(trainer: PolicyTrainer) -> list[dict[str, Any]]:
    """The first rows, those with pictures of different sizes before the rest."""
    rows = [trainer.train_dataset[i] for i in range(min(LOOKED_AT, len(trainer.train_dataset)))]
    first = {row["image"].size: row for row in reversed(rows)}
    chosen = list(first.values())[:PROMPTS]
    return (chosen + [row for row in rows if not any(row is one for one in chosen)])[:PROMPTS]


def _generate(
    trainer: PolicyTrainer, prompt_ids: Any, images: Any
) -> tuple[list[list[int]], list[list[int]], list[list[float]]]:
    """Prompt ids as the engine had them, completions, and the engine's log-probabilities of their tokens."""
    if trainer.use_vllm:
        trainer.vllm_generation.sync_weights()
        limit, trainer.vllm_generation.max_completion_length = trainer.vllm_generation.max_completion_length, TOKENS
        try:
            seen, completions, logs, _ = trainer.vllm_generation.generate(prompt_ids, images, num_generations=1)
        finally:
            trainer.vllm_generation.max_completion_length = limit
        return seen, completions, [[float("nan") if one[0] is None else one[0] for one in row] for row in logs]
    rows = write(trainer, prompt_ids, [image for (image,) in images], limit=TOKENS, logs=True)
    return [[*row.head.ids, *row.tail] for row in rows], [row.tokens for row in rows], [row.logs or [] for row in rows]


def _inputs(trainer: PolicyTrainer, prompts: Any, images: Any) -> dict[str, torch.Tensor]:
    """What the trainer's own forward pass gets."""
    processor = trainer.processing_class
    texts = [apply_chat_template({"prompt": prompt}, processor)["prompt"] for prompt in prompts]
    return dict(
        processor(images=images, text=texts, padding=True, padding_side="left", return_tensors="pt").to(
            trainer.accelerator.device
        )
    )


def _log_probabilities(
    trainer: PolicyTrainer, inputs: dict[str, torch.Tensor], completions: Sequence[Sequence[int]]
) -> list[list[float]]:
    """The trainer's log-probabilities of the completions' tokens."""
    device, pad = trainer.accelerator.device, trainer._tokenizer.pad_token_id
    width = max(map(len, completions))
    tails = torch.tensor([[*row, *[pad] * (width - len(row))] for row in completions], device=device)
    known = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in completions], device=device)
    rest = {name: value for name, value in inputs.items() if name not in ("input_ids", "attention_mask")}
    if "mm_token_type_ids" in rest:
        rest["mm_token_type_ids"] = torch.cat([rest["mm_token_type_ids"], torch.zeros_like(tails)], dim=1)
    found, _, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model_wrapped,
        torch.cat([inputs["input_ids"], tails], dim=1),
        torch.cat([inputs["attention_mask"], known], dim=1),
        width,
        batch_size=trainer.args.per_device_train_batch_size,
        num_images=[1] * len(completions),
        **rest,
    )
    return [row[: len(own)].tolist() for row, own in zip(found.float(), completions, strict=True)]


def _same_prompt(asked: list[int], seen: list[int], learned: list[int], size: Size, *, token: int) -> None:
    what = f"the prompt of a picture of {size.width}x{size.height} pixels"
    for who, ids in (("the rollout engine", seen), ("the trainer", learned)):
        if (found := ids.count(token)) != (expected := asked.count(token)):
            raise _disagree(f"{what} has {found} picture tokens in {who}, {expected} expected")
        if ids != asked:
            raise _disagree(f"{what} has other tokens in {who} ({len(ids)} instead of {len(asked)}, or not the same)")


def _disagree(what: str) -> GensegError:
    return GensegError(
        f"rollout engine and trainer disagree: {what}",
        hint="install the pinned versions (requirements/), or take --rollout transformers",
        code=ExitCode.ENVIRONMENT,
    )


@contextmanager
def _neutral(trainer: PolicyTrainer) -> Generator[None]:
    """Leave random numbers and clocks as they were: a guarded run is the same run."""
    device = trainer.accelerator.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
    trainer.phases.forget()
