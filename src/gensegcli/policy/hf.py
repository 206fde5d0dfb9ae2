"""Qwen3-VL and Qwen2.5-VL through transformers: left-padded batches on CPU, CUDA or Apple's GPU."""

from __future__ import annotations

import importlib.util
import logging
from typing import TYPE_CHECKING

import torch
from accelerate.utils.memory import should_reduce_batch_size
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from gensegcli.errors import ExitCode, GensegError, unknown_name
from gensegcli.policy.base import all_or_raise, check_sampling
from gensegcli.policy.frame import fit_picture
from gensegcli.policy.prompting import checked_processor, finished_text, prompt_length, render_prompt, too_long
from gensegcli.pretrained import load_processor, load_weights
from gensegcli.records import Completion, FinishReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image
    from transformers import PreTrainedTokenizerBase

    from gensegcli.models import ResolvedPolicy
    from gensegcli.policy.options import EngineOptions
    from gensegcli.records import Question, Sampling

log = logging.getLogger(__name__)

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
ATTENTION = ("sdpa", "eager", "flash_attention_2")


class TransformersPolicy:
    """A vision-language checkpoint in this process.

    Args:
        model: where the files are; downloaded if need be.
        options: `device`, `dtype`, `attention` and `batch_size` count.

    Raises:
        GensegError: the files are not to be had or damaged, or the device or dtype does not exist here.
    """

    def __init__(self, model: ResolvedPolicy, options: EngineOptions) -> None:
        model = model.fetch()
        assert model.path is not None
        self.id, self.revision = model.id, model.revision
        self.entry = model.entry
        self.device = choose_device(options.device)
        self.dtype = choose_dtype(options.dtype, self.device)
        self.batch_size = options.batch_size
        self.processor = checked_processor(
            load_processor("policy", model.path, AutoProcessor.from_pretrained), model.path
        )
        self.processor.tokenizer.padding_side = "left"
        self.model = load_weights(
            "policy",
            model.path,
            AutoModelForImageTextToText.from_pretrained,
            dtype=self.dtype,
            attn_implementation=choose_attention(options.attention, self.device, self.dtype),
        )
        self.model.to(self.device).eval()
        self.stop_ids = _stop_ids(self.model.generation_config, self.processor.tokenizer)
        # A checkpoint's sampling defaults must not leak in: Qwen2.5-VL's repetition penalty, for one, would punish
        # the repeated digits of which coordinates are made.
        self.model.generation_config = GenerationConfig()
        self.context: int = self.model.config.get_text_config().max_position_embeddings

    def generate(self, questions: Sequence[Question], sampling: Sampling) -> list[list[Completion]]:
        check_sampling(sampling)
        prompts = [render_prompt(self.processor, question.text) for question in questions]
        lengths = [
            prompt_length(self.processor, self.entry, prompt, question.image)
            for prompt, question in zip(prompts, questions, strict=True)
        ]
        outcomes: dict[int, list[Completion] | GensegError] = {
            i: too_long(self.id, length, self.context) for i, length in enumerate(lengths) if length >= self.context
        }
        # Prompts of like length side by side need the least padding.
        waiting = sorted((i for i in range(len(prompts)) if i not in outcomes), key=lambda i: lengths[i])
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(sampling.seed)
            while waiting:
                batch = waiting[: max(1, self.batch_size // sampling.n)]
                try:
                    done = self._generate([prompts[i] for i in batch], [questions[i].image for i in batch], sampling)
                except RuntimeError as error:
                    if not should_reduce_batch_size(error):
                        raise
                    done = None
                if done is None:  # outside the handler: the traceback would keep the tensors alive
                    _empty_cache(self.device)
                    if len(batch) > 1:
                        self._shrink(len(batch) * sampling.n)
                        continue
                    done = [self._too_large()]
                outcomes.update(zip(batch, done, strict=True))
                waiting = waiting[len(batch) :]
        return all_or_raise([outcomes[i] for i in range(len(questions))])

    def close(self) -> None:
        del self.model
        _empty_cache(self.device)

    @torch.inference_mode()
    def _generate(self, prompts: list[str], images: list[Image], sampling: Sampling) -> list[list[Completion]]:
        # One picture asked about many times is resized once.
        fitted = {id(image): fit_picture(self.entry, image) for image in images}
        # Everything the processor returns goes in: Qwen3-VL, for one, wants its `mm_token_type_ids`.
        inputs = self.processor(
            text=prompts,
            images=[[fitted[id(image)]] for image in images],
            images_kwargs={"min_pixels": self.entry.min_pixels, "max_pixels": self.entry.max_pixels},
            padding=True,
            return_tensors="pt",
        ).to(self.device, dtype=self.dtype)
        prompt_tokens = inputs["attention_mask"].sum(dim=1).tolist()
        width = inputs["input_ids"].shape[1]
        sequences = self.model.generate(
            **inputs,
            generation_config=self._generation_config(sampling, room=self.context - max(prompt_tokens)),
        )
        rows = [
            self._completion(row.tolist(), prompt_tokens[i // sampling.n]) for i, row in enumerate(sequences[:, width:])
        ]
        return [rows[i : i + sampling.n] for i in range(0, len(rows), sampling.n)]

    def _generation_config(self, sampling: Sampling, room: int) -> GenerationConfig:
        tokenizer = self.processor.tokenizer
        pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(self.stop_ids)
        greedy = sampling.temperature == 0
        # With sampling, top_k=0 says "no cut": transformers' own default of 50 is not in `Sampling`.
        drawn = {} if greedy else {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        return GenerationConfig(
            do_sample=not greedy,
            num_return_sequences=sampling.n,
            max_new_tokens=min(sampling.max_tokens, room),
            repetition_penalty=1.0,
            eos_token_id=sorted(self.stop_ids),
            pad_token_id=pad_id,
            **drawn,
        )

    def _completion(self, ids: list[int], prompt_tokens: int) -> Completion:
        end = next((i for i, token in enumerate(ids) if token in self.stop_ids), None)
        finish = FinishReason.LENGTH if end is None else FinishReason.STOP
        used = ids if end is None else ids[: end + 1]
        text = self.processor.tokenizer.decode(used, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Completion(finished_text(text, finish), finish, tokens=len(used), prompt_tokens=prompt_tokens)

    def _shrink(self, rows: int) -> None:
        """Halve the batch for the rest of this policy's life."""
        self.batch_size = max(1, rows // 2)
        log.warning("out of memory on %s: going on with batches of %d", self.device, self.batch_size)

    def _too_large(self) -> GensegError:
        return GensegError(
            f"{self.id}: one picture and its answers do not fit into the memory of {self.device}",
            hint="lower max_pixels or max_tokens, ask for fewer completions (n), or take a smaller model",
            code=ExitCode.SOME_FAILED,
        )


# ---------------------------------------------------------------- choices


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA, then Apple's GPU, then the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise GensegError(
            f"device {name!r} cannot be used: {str(error).splitlines()[0]}",
            hint="`genseg doctor` shows what is there; --device auto chooses",
            code=ExitCode.ENVIRONMENT,
        ) from error
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of that name; `auto` is bfloat16 where the GPU computes in it, else float16, and float32 on a CPU."""
    if name == "auto":
        if device.type == "cpu":
            return torch.float32
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    if name not in DTYPES:
        raise unknown_name("dtype", name, [*DTYPES, "auto"])
    return DTYPES[name]


def choose_attention(name: str, device: torch.device, dtype: torch.dtype) -> str:
    """The attention of that name; `auto` is FlashAttention 2 where it is installed and fits, else PyTorch's SDPA."""
    flash = device.type == "cuda" and dtype is not torch.float32 and importlib.util.find_spec("flash_attn") is not None
    if name == "auto":
        return "flash_attention_2" if flash else "sdpa"
    if name not in ATTENTION:
        raise unknown_name("attention", name, [*ATTENTION, "auto"])
    if name == "flash_attention_2" and not flash:
        raise GensegError(
            f"flash_attention_2 needs a CUDA device, a 16-bit dtype and the package flash-attn; found {device}, {dtype}",
            hint="--attention auto chooses what works here",
            code=ExitCode.ENVIRONMENT,
        )
    return name


def _stop_ids(config: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every token that ends a completion: what the checkpoint's generation_config and its tokenizer say."""
    stated = config.eos_token_id
    ids = [stated] if isinstance(stated, int) else list(stated or [])
    return frozenset(ids) | ({tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set())


def _empty_cache(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
