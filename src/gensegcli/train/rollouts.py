"""Rollouts by the trainer's own model: each picture is read once for its whole group, and no row waits for another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from trl.models import unwrap_model_for_generation

from gensegcli.policy.decoding import Decoder, Head, Row
from gensegcli.records import Sampling
from gensegcli.train.sharding import gathered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from gensegcli.train.grpo import PolicyTrainer


def write(
    trainer: PolicyTrainer,
    prompt_ids: Sequence[Sequence[int]],
    images: Sequence[Image],
    *,
    limit: int,
    logs: bool = False,
) -> list[Row]:
    """A completion of each prompt.

    Its random numbers hang on seed, step and place among the prompts of all processes: a run is the same with any number
    of them, and when it is resumed.

    Args:
        trainer: its model writes.
        prompt_ids: token ids with the picture's placeholders; the completions of a group have one object as picture.
        images: one per prompt, of the size that the model sees.
        limit: most tokens.
        logs: whether the log-probabilities of its tokens are wanted, too.
    """
    heads: dict[tuple[int, tuple[int, ...]], Head] = {}
    rows = []
    draws = _draws(trainer, len(prompt_ids), limit)
    for ids, image, own in zip(prompt_ids, images, draws, strict=True):
        end = len(ids) - ids[::-1].index(trainer._image_pad_token_id)
        key = id(image), tuple(ids[:end])
        head = heads.setdefault(key, Head(key[1], image))
        rows.append(Row(head, tuple(ids[end:]), limit, own, logs=[] if logs else None))

    def read_pixels(pictures: list[Image]) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = trainer.processing_class.image_processor(images=pictures, return_tensors="pt")
        inputs = inputs.to(trainer.accelerator.device)
        return inputs["pixel_values"], inputs["image_grid_thw"]

    sampling = Sampling(temperature=trainer.temperature, top_p=trainer.top_p, max_tokens=limit)
    with (
        unwrap_model_for_generation(
            trainer.model_wrapped,
            trainer.accelerator,
            gradient_checkpointing_kwargs=trainer.args.gradient_checkpointing_kwargs,
        ) as model,
        # The prepared model does so by itself, but what holds adapters is inside of it.
        trainer.accelerator.autocast(),
        gathered(model),
    ):
        decoder = Decoder(
            plain(model),
            read_pixels,
            stop_ids=trainer.reward.stop_ids,
            sampling=sampling,
            size=trainer.rollout_rows or len(rows),
            # A picture token in a completion would be one without a picture, and the next forward pass would fail.
            never=[trainer._image_pad_token_id],
        )
        for _ in decoder.run(rows):
            pass  # rows are filled in place
    return rows


def plain(model: Any) -> Any:
    """The model itself, whose layers hold the adapters that it may be trained by."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _draws(trainer: PolicyTrainer, count: int, limit: int) -> torch.Tensor:
    """(count limit) numbers in [0, 1), those of this process."""
    generator = torch.Generator().manual_seed((trainer.args.seed << 32) + trainer.state.global_step)
    first = trainer.accelerator.process_index * count
    everyone = torch.rand(trainer.accelerator.num_processes * count, limit, generator=generator)
    return everyone[first : first + count]
