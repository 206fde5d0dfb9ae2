"""Qwen3-VL and Qwen2.5-VL through transformers: left-padded batches on CPU, CUDA or Apple's GPU."""

from __future__ import annotations

import importlib.util
import logging
from typing import TYPE_CHECKING

import torch
from accelerate.utils.memory import should_reduce_batch_size
from transformers import AutoModelForImageTextToText, AutoProcessor

from gensegcli.errors import ExitCode, GensegError, unknown_name
from gensegcli.policy.base import all_or_raise, check_sampling
from gensegcli.policy.decoding import Decoder, Head, Row, dice_for
from gensegcli.policy.frame import fit_picture, input_size
from gensegcli.policy.prompting import checked_processor, finished_text, render_prompt, too_long
from gensegcli.pretrained import bad_folder, load_processor, load_weights
from gensegcli.records import Completion, FinishReason, Size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image
    from transformers import GenerationConfig, PreTrainedTokenizerBase

    from gensegcli.config import EngineOptions
    from gensegcli.models import ResolvedPolicy
    from gensegcli.records import Question, Sampling

log = logging.getLogger(__name__)

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
ATTENTION = ("sdpa", "eager", "flash_attention_2")


BATCH_SIZE = 16
"""Sequences in one forward pass, unless another number is asked for."""


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
        self.batch_size = options.batch_size or BATCH_SIZE
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
        if (
            self.model.config.image_token_id
            not in self.processor.tokenizer(render_prompt(self.processor, "x"))["input_ids"]
        ):
            what = f"has no placeholder for the picture in its prompt (token {self.model.config.image_token_id})"
            raise bad_folder("policy", model.path, what)
        self.model.to(self.device).eval()
        self.stop_ids = stop_ids(self.model.generation_config, self.processor.tokenizer)
        self.context: int = self.model.config.get_text_config().max_position_embeddings

    def generate(self, questions: Sequence[Question], sampling: Sampling) -> list[list[Completion]]:
        check_sampling(sampling)
        heads: dict[tuple[int, tuple[int, ...]], Head] = {}
        outcomes: dict[int, list[Completion] | GensegError] = {}
        rows: dict[int, list[Row]] = {}
        for i, question in enumerate(questions):
            head, tail = self._prompt(question, heads)
            length = len(head.ids) + len(tail)
            if length >= self.context:
                outcomes[i] = too_long(self.id, length, self.context)
                continue
            limit = min(sampling.max_tokens, self.context - length)
            name = question.id or str(i)
            rows[i] = [Row(head, tail, limit, dice_for(sampling, name, draw, limit)) for draw in range(sampling.n)]
        lost = self._write([row for own in rows.values() for row in own], sampling)
        for i, own in rows.items():
            outcomes[i] = self._too_large() if lost.intersection(own) else [self._completion(row) for row in own]
        return all_or_raise([outcomes[i] for i in range(len(questions))])

    def close(self) -> None:
        del self.model
        _empty_cache(self.device)

    def _prompt(
        self, question: Question, heads: dict[tuple[int, tuple[int, ...]], Head]
    ) -> tuple[Head, tuple[int, ...]]:
        """The prompt's token ids, cut behind the picture. Questions about one picture get the same head of `heads`."""
        ids = self.processor.tokenizer(render_prompt(self.processor, question.text))["input_ids"]
        token = self.model.config.image_token_id
        at = ids.index(token)
        key = id(question.image), tuple(ids[:at])
        if key not in heads:
            size = input_size(self.entry, Size(*question.image.size))
            picture = size.width * size.height // self.entry.factor**2
            heads[key] = Head((*ids[:at], *(token,) * picture), question.image)
        return heads[key], tuple(ids[at + 1 :])

    def _read_pixels(self, images: list[Image]) -> tuple[torch.Tensor, torch.Tensor]:
        """See `decoding.ReadPixels`."""
        inputs = self.processor.image_processor(
            images=[fit_picture(self.entry, image) for image in images],
            # Areas, whatever their names: newer transformers warn of `min_pixels` and `max_pixels`.
            size={"shortest_edge": self.entry.min_pixels, "longest_edge": self.entry.max_pixels},
            return_tensors="pt",
        ).to(self.device, dtype=self.dtype)
        return inputs["pixel_values"], inputs["image_grid_thw"]

    def _write(self, rows: list[Row], sampling: Sampling) -> set[Row]:
        """Complete all rows, and return those that do not fit into memory even alone."""
        # The largest first: memory that does not suffice shows at once. Rows of one picture stay together.
        order = {head: i for i, head in enumerate(dict.fromkeys(row.head for row in rows))}
        waiting = sorted(rows, key=lambda row: (-len(row.head.ids), order[row.head], -len(row.tail)))
        lost: set[Row] = set()
        while waiting:
            done: set[Row] = set()
            try:
                done.update(self._decoder(sampling).run(waiting))
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise
            waiting = [row for row in waiting if row not in done]
            if waiting:  # outside the handler: the traceback would keep the tensors alive
                _empty_cache(self.device)
                if min(self.batch_size, len(waiting)) > 1:
                    self._shrink(min(self.batch_size, len(waiting)))
                else:
                    lost.add(waiting.pop(0))
                for row in waiting:
                    row.tokens.clear()
        return lost

    def _decoder(self, sampling: Sampling) -> Decoder:
        return Decoder(self.model, self._read_pixels, stop_ids=self.stop_ids, sampling=sampling, size=self.batch_size)

    def _completion(self, row: Row) -> Completion:
        finish = FinishReason.STOP if row.tokens[-1] in self.stop_ids else FinishReason.LENGTH
        text = self.processor.tokenizer.decode(row.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Completion(
            finished_text(text, finish),
            finish,
            tokens=len(row.tokens),
            prompt_tokens=len(row.head.ids) + len(row.tail),
        )

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


def stop_ids(config: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every token that ends a completion: what the checkpoint's generation_config and its tokenizer say."""
    stated = config.eos_token_id
    ids = [stated] if isinstance(stated, int) else list(stated or [])
    return frozenset(ids) | ({tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set())


def _empty_cache(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
