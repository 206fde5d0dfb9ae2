"""Qwen3-VL and Qwen2.5-VL through vLLM in this process: one `generate` for the whole batch, prefixes cached."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

# vLLM reports usage to its makers unless told not to, and reads this when it is imported.
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

from transformers import AutoProcessor
from vllm import LLM, SamplingParams
from vllm.platforms import current_platform

from gensegcli.errors import ExitCode, GensegError
from gensegcli.policy.base import all_or_raise, check_sampling
from gensegcli.policy.frame import fit_picture
from gensegcli.policy.prompting import checked_processor, finished_text, prompt_length, render_prompt, too_long
from gensegcli.pretrained import load_processor
from gensegcli.records import Completion, FinishReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from vllm.outputs import CompletionOutput, RequestOutput

    from gensegcli.config import EngineOptions
    from gensegcli.models import ResolvedPolicy
    from gensegcli.records import Question, Sampling


class VllmPolicy:
    """A vision-language checkpoint in vLLM.

    The engine runs in a child process, as vLLM does by default: a script that uses it needs the usual
    `if __name__ == "__main__":` guard.

    Args:
        model: where the files are; downloaded if need be.
        options: `dtype`, `max_model_len`, `gpu_memory_utilization` and `tensor_parallel` count.

    Raises:
        GensegError: the files are not to be had, or vLLM cannot start with these settings.
    """

    def __init__(self, model: ResolvedPolicy, options: EngineOptions) -> None:
        model = model.fetch()
        assert model.path is not None
        self.id, self.revision = model.id, model.revision
        self.entry = model.entry
        self.processor = checked_processor(
            load_processor("policy", model.path, AutoProcessor.from_pretrained), model.path
        )
        try:
            self.engine = LLM(
                model=str(model.path),
                served_model_name=model.id,
                dtype=options.dtype,
                max_model_len=options.max_model_len,
                gpu_memory_utilization=options.gpu_memory_utilization,
                tensor_parallel_size=options.tensor_parallel,
                enable_prefix_caching=True,
                limit_mm_per_prompt={"image": 1, "video": 0},
                mm_processor_kwargs={"min_pixels": self.entry.min_pixels, "max_pixels": self.entry.max_pixels},
                # The checkpoint's sampling defaults (a repetition penalty, for one) must not leak in.
                generation_config="vllm",
                # Compiling pays on a GPU only: on a CPU it takes minutes and gains little.
                enforce_eager=current_platform.is_cpu(),
            )
        except (ValueError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise GensegError(
                f"{model.id}: vLLM could not start ({reason})",
                hint="its log above says more; max_model_len and gpu_memory_utilization bound the memory, "
                "or take --backend transformers",
                code=ExitCode.ENVIRONMENT,
            ) from error
        self.context: int = self.engine.model_config.max_model_len
        self.dtype: torch.dtype = self.engine.model_config.dtype

    def generate(self, questions: Sequence[Question], sampling: Sampling) -> list[list[Completion]]:
        check_sampling(sampling)
        prompts = [render_prompt(self.processor, question.text) for question in questions]
        outcomes: dict[int, list[Completion] | GensegError] = {}
        asked: list[int] = []
        for i, (prompt, question) in enumerate(zip(prompts, questions, strict=True)):
            length = prompt_length(self.processor, self.entry, prompt, question.image)
            if length >= self.context:
                outcomes[i] = too_long(self.id, length, self.context)
            else:
                asked.append(i)
        fitted = {id(questions[i].image): fit_picture(self.entry, questions[i].image) for i in asked}
        params = SamplingParams(
            n=sampling.n,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
        )
        requests = [
            {"prompt": prompts[i], "multi_modal_data": {"image": fitted[id(questions[i].image)]}} for i in asked
        ]
        answers = self.engine.generate(requests, params, use_tqdm=False) if requests else []
        outcomes.update((i, _completions(answer)) for i, answer in zip(asked, answers, strict=True))
        return all_or_raise([outcomes[i] for i in range(len(questions))])

    def close(self) -> None:
        self.engine.llm_engine.engine_core.shutdown()
        del self.engine


def _completions(answer: RequestOutput) -> list[Completion]:
    prompt_tokens = len(answer.prompt_token_ids or [])
    return [_completion(output, prompt_tokens) for output in sorted(answer.outputs, key=lambda output: output.index)]


def _completion(output: CompletionOutput, prompt_tokens: int) -> Completion:
    finish = FinishReason.LENGTH if output.finish_reason == "length" else FinishReason.STOP
    return Completion(
        finished_text(output.text, finish), finish, tokens=len(output.token_ids), prompt_tokens=prompt_tokens
    )
