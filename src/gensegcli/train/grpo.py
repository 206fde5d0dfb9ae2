"""GRPO: TRL's trainer with our questions, our rewards and our files."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from accelerate.utils import gather_object
from trl import GRPOTrainer

from gensegcli.errors import ExitCode, GensegError
from gensegcli.policy import require_backend
from gensegcli.policy.prompting import finished_text
from gensegcli.records import FinishReason, Size
from gensegcli.rewards.compose import NotFiniteError
from gensegcli.train.guard import ParityGuard
from gensegcli.train.padding import in_order, micro_batches, sorted_batches
from gensegcli.train.phases import OTHER
from gensegcli.train.pictures import read_once
from gensegcli.train.questions import picture_tokens
from gensegcli.train.rollouts import write
from gensegcli.train.runs import ROLLOUTS
from gensegcli.train.trainer import RunTrainer
from gensegcli.train.watch import row_of, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from gensegcli.families import PolicyEntry
    from gensegcli.records import Sample
    from gensegcli.rewards.score import Scorer
    from gensegcli.train.watch import Row


class RewardFunction:
    """What TRL calls once for every generation, on every process with that process's rollouts.

    Attributes:
        stop_ids: tokens that end a completion.
        rows: of the last call, of all processes, groups together.
    """

    __name__ = "reward"

    def __init__(self, scorer: Scorer, tokenizer: PreTrainedTokenizerBase, stop_ids: frozenset[int]) -> None:
        self.scorer, self.tokenizer, self.stop_ids = scorer, tokenizer, stop_ids
        self.rows: list[Row] = []

    def __call__(self, *, completion_ids: Sequence[Sequence[int]], sample: Sequence[Sample], **_: Any) -> list[float]:
        """The reward of each completion.

        Raises:
            NotFiniteError: see `Scorer.score`.
        """
        finishes = [
            FinishReason.STOP if ids and ids[-1] in self.stop_ids else FinishReason.LENGTH for ids in completion_ids
        ]
        # Decoded as in prediction, so that a reward is of the text that prediction would have read.
        texts = [
            finished_text(
                self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False), finish
            )
            for ids, finish in zip(completion_ids, finishes, strict=True)
        ]
        scored = self.scorer.score(sample, texts, finishes)
        rows = [
            row_of(one, length=len(ids), cut=finish is FinishReason.LENGTH)
            for one, ids, finish in zip(scored, completion_ids, finishes, strict=True)
        ]
        self.rows = gather_object(rows)
        return [row.reward for row in rows]


class PolicyTrainer(RunTrainer, GRPOTrainer):
    """`GRPOTrainer` that checks its prompts, times its phases, and writes down every rollout.

    Args:
        entry: conventions of the policy.
        reward: of rollouts.
        most_tokens: longest prompt.
        rollout_rows: completions that the trainer's model writes at a time; None for all of a step.
        rollout: what writes completions: `transformers` (that model), or vLLM: `colocate`, `server`.
        arguments: for `GRPOTrainer`.
    """

    def __init__(
        self,
        *,
        entry: PolicyEntry,
        reward: RewardFunction,
        most_tokens: int,
        rollout_rows: int | None = None,
        rollout: str = "transformers",
        **arguments: Any,
    ) -> None:
        self.entry, self.reward, self.most_tokens, self.rollout_rows = entry, reward, most_tokens, rollout_rows
        super().__init__(reward_funcs=reward, **arguments)
        if rollout != "transformers":
            require_backend("vllm")
            from gensegcli.train.vllm_engine import RolloutEngine

            # TRL would make an engine of its own class: it is told of this one when that is there.
            self.vllm_mode = rollout
            self.vllm_generation = RolloutEngine(self, entry)
            self.use_vllm, self._last_loaded_step = True, -1
        self.guard = ParityGuard(self)
        self.add_callback(self.guard)

    def close(self) -> None:
        if self.use_vllm:
            self.vllm_generation.close()

    def measured(self) -> dict[str, Any]:
        rows = self.reward.rows
        step = self.state.global_step
        for row in rows:
            self.journal.write(ROLLOUTS, row.record(step))
        tokens = sum(row.length for row in rows)
        return {**summary(rows, self.num_generations), "tokens_per_second": tokens / self.phases.seconds["rollout"]}

    def culprits(self) -> Any:
        return [row.record(self.state.global_step + 1) for row in self.reward.rows]

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """As TRL's, but each micro-batch holds completions of like length.

        Not where a loss averages over the tokens of a micro-batch (bnpo, the entropy bonus): what stands together would
        then weigh together. Only what is told of KL, entropy and clipping is such an average in all cases.
        """
        if not self.model.training or self.loss_type == "bnpo" or self._entropy_bonus_enabled:
            return super()._prepare_inputs(generation_batch)
        count = self.args.steps_per_generation  # micro-batches of a step: every step generates anew
        if self._step % count == 0 or self._buffered_inputs is None:
            self._buffered_inputs = sorted_batches(self._generate_and_score_completions(generation_batch), count)
        return self._buffered_inputs[self._step % count]

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        with self.phases(OTHER), read_once(self.processing_class):
            return super()._generate_and_score_completions(inputs)

    def _generate_single_turn(self, prompt_ids: Any, images: Any, *arguments: Any, **named: Any) -> Any:
        with self.phases("rollout"):
            if self.use_vllm:
                return super()._generate_single_turn(prompt_ids, images, *arguments, **named)
            rows = write(self, prompt_ids, [image for (image,) in images], limit=self.max_completion_length)
            return [row.tokens for row in rows], None

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **fields: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """As TRL's, without computing what is padding in all rows of a micro-batch; 0 stands there."""
        fields = {name: value for name, value in fields.items() if value is not None}
        fields |= {"input_ids": input_ids, "attention_mask": attention_mask}
        numbers, logs, entropies, losses = [], [], [], []
        for rows, own, cut in micro_batches(fields, batch_size or len(input_ids)):
            # Without gradients it is the reference model, or the policy before its first update.
            with nullcontext() if torch.is_grad_enabled() else self.phases("reference"):
                log, entropy, loss = super()._get_per_token_logps_and_entropies(
                    model,
                    logits_to_keep=logits_to_keep - cut,
                    compute_entropy=compute_entropy,
                    compute_aux_loss=compute_aux_loss,
                    **own,
                )
            numbers.append(rows)
            logs.append(F.pad(log, (0, cut)))
            entropies += [] if entropy is None else [F.pad(entropy, (0, cut))]
            losses += [] if loss is None else [loss]
        return (
            in_order(logs, numbers),
            in_order(entropies, numbers) if entropies else None,
            torch.stack(losses).mean() if losses else None,
        )

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids: Any) -> Any:
        try:
            with self.phases("reward"):
                return super()._calculate_rewards(inputs, prompts, completions, completion_ids)
        except NotFiniteError as error:
            facts = [
                {"id": row["sample"].id, "query": row["sample"].query, "text": self._tokenizer.decode(ids)}
                for row, ids in zip(inputs, completion_ids, strict=True)
            ]
            raise self.journal.offending(self.state.global_step + 1, str(error), facts) from error

    def _tokenize_prompts(self, prompts: Any) -> Any:
        prompt_ids, images, fields = super()._tokenize_prompts(prompts)
        for ids, (image,) in zip(prompt_ids, images, strict=True):
            check_prompt(
                ids, Size(*image.size), self.entry, token=self._image_pad_token_id, most_tokens=self.most_tokens
            )
        return prompt_ids, images, fields


def check_prompt(ids: Sequence[int], size: Size, entry: PolicyEntry, *, token: int, most_tokens: int) -> None:
    """Refuse a tokenised prompt whose picture has other tokens than its size says, or that is too long.

    Raises:
        GensegError: training on it would silently pair pictures and tokens wrongly, or cut the question.
    """
    expected = picture_tokens(entry, size)
    found = sum(one == token for one in ids)
    if found != expected:
        raise GensegError(
            f"a picture of {size.width}x{size.height} pixels has {found} tokens in its prompt, {expected} expected",
            hint="the processor resizes pictures otherwise than this model's entry says: is its "
            "preprocessor_config.json its own?",
            code=ExitCode.ENVIRONMENT,
        )
    if len(ids) > most_tokens:
        raise GensegError(
            f"a prompt has {len(ids)} tokens, and train.max_prompt_tokens is {most_tokens}",
            hint="raise train.max_prompt_tokens, or lower model.max_pixels",
        )
