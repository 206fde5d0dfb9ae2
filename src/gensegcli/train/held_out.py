"""Evaluation on the way: the policy as it is now, through the code of `genseg eval`, on samples it does not learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback

from gensegcli.evaluate.data import choose
from gensegcli.evaluate.run import score_policy
from gensegcli.metrics.protocols import get_protocol
from gensegcli.metrics.summary import summarise
from gensegcli.pipeline import Pipeline
from gensegcli.policy.hf import TransformersPolicy, stop_ids
from gensegcli.records import PromptMode, Sampling
from gensegcli.train.rollouts import plain
from gensegcli.train.sharding import gathered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gensegcli.config import Settings
    from gensegcli.dialects.base import Dialect
    from gensegcli.evaluate.data import EvalSet
    from gensegcli.families import PolicyEntry
    from gensegcli.records import Completion, Question
    from gensegcli.segmenter.base import Segmenter
    from gensegcli.train.trainer import RunTrainer

SHOWN = {
    "target mIoU": "held_out_mask_iou",
    "target cIoU": "held_out_target_ciou",
    "N-acc": "held_out_no_target_accuracy",
    "FNR": "held_out_false_negatives",
}
"""Names of the evaluation, and of `metrics.jsonl`."""


class LivePolicy(TransformersPolicy):
    """The trainer's own model as a policy. It is neither loaded nor freed."""

    def __init__(self, trainer: RunTrainer, entry: PolicyEntry, batch_size: int) -> None:
        self.trainer, self.entry, self.batch_size = trainer, entry, batch_size
        self.id, self.revision = entry.alias, None
        self.processor = trainer.processing_class
        self.device = trainer.accelerator.device
        self.dtype = torch.float32
        self.stop_ids = stop_ids(trainer.model.generation_config, self.processor.tokenizer)
        self.context = trainer.model.config.get_text_config().max_position_embeddings

    @property
    def model(self) -> Any:
        return plain(self.trainer.accelerator.unwrap_model(self.trainer.model))

    def generate(self, questions: Sequence[Question], sampling: Sampling) -> list[list[Completion]]:
        learning = self.model.training
        self.model.eval()
        try:
            with self.trainer.accelerator.autocast():
                return super().generate(questions, sampling)
        finally:
            self.model.train(learning)

    def close(self) -> None:
        """The model is the trainer's."""


class HeldOut(TrainerCallback):
    """Evaluates every so many steps, and at the end; the numbers go into the row of the step.

    Each process evaluates its part of the samples, with weights that all of them have gathered together.
    """

    def __init__(
        self,
        trainer: RunTrainer,
        data: EvalSet,
        settings: Settings,
        *,
        dialect: Dialect,
        entry: PolicyEntry,
        segmenter: Segmenter,
    ) -> None:
        self.trainer, self.data, self.every = trainer, data, settings.train.eval_steps
        accelerator = trainer.accelerator
        # Neighbours share a picture, which is encoded once: parts are not dealt out one by one.
        parts = np.array_split(choose(data, limit=settings.train.eval_limit).ids, accelerator.num_processes)
        self.own = frozenset(parts[accelerator.process_index].tolist())
        self.protocol = get_protocol("genseg")
        self.policy = LivePolicy(trainer, entry, settings.model.batch_size or 16)
        self.pipeline = Pipeline(
            self.policy,
            dialect,
            segmenter,
            entry,
            mode=PromptMode(settings.predict.mode),
            sampling=Sampling(max_tokens=settings.train.max_response_tokens),
        )

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            with self.trainer.phases("held_out"):
                with gathered(self.trainer.model):
                    scores = list(score_policy(self.pipeline, self.data.samples(self.own), self.protocol))
                metrics = summarise(gather_object(scores), self.protocol, resamples=0).metrics
            self.trainer.held_out = {ours: metrics[theirs].value for theirs, ours in SHOWN.items() if theirs in metrics}
