"""Qwen3-VL-4B and SAM 2 large on a GPU: architectures of that size with random weights, the policy in bfloat16.

    python benchmarks/gpu.py [--batch 16] [--tokens 128] [--size 1024x768] [--rounds 3]
    python benchmarks/gpu.py --tiny --device cpu        # the same code on a small architecture, to try it anywhere

The loop is one `generate`, and one encoding and decoding, at a time with plain transformers. Ours is the product. Random
weights hardly ever end an answer, so that all have `--tokens` tokens. Decoding is bound by memory: each step reads the
weights of the language model once for the whole batch, and the keys and values of every row. The share of the limit
is these bytes per second over the bandwidth of a large copy on the same device; one answer with n tokens minus one
with a single token is the time of decoding.

Leaves with 3 where there is no CUDA device.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import segmenter as masks
import torch
from PIL import Image
from transformers import (
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from gensegcli.dialects import get_dialect
from gensegcli.miniature.policy_model import CHAT_TEMPLATE, SPECIAL, build_tokenizer
from gensegcli.models import resolve_policy
from gensegcli.policy import EngineOptions
from gensegcli.policy.hf import TransformersPolicy
from gensegcli.records import Question, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedTokenizerFast

NO_DEVICE = 3

# config.json of Qwen/Qwen3-VL-4B-Instruct.
TEXT_4B = {
    "vocab_size": 151936,
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 262144,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 5_000_000,
        "mrope_section": [24, 20, 20],
        "mrope_interleaved": True,
    },
}
VISION_4B = {
    "depth": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_heads": 16,
    "out_hidden_size": 2560,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [5, 11, 17],
}
TINY_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 4096,
    "rope_parameters": TEXT_4B["rope_parameters"] | {"mrope_section": [6, 5, 5]},
}
TINY_VISION = {
    "depth": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_heads": 2,
    "out_hidden_size": 64,
    "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0],
}
PATCHES = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2}


def write_policy(folder: Path, *, tiny: bool, device: torch.device, dialect: str = "genseg-mini") -> str:
    """Save a policy with random weights; the name of its number format."""
    tokens = build_tokenizer(get_dialect(dialect))
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = Qwen3VLForConditionalGeneration(_config(tokens, tiny=tiny))
    finally:
        torch.set_default_dtype(default)
    model.save_pretrained(folder)
    _processor(tokens).save_pretrained(folder)
    return str(dtype).removeprefix("torch.")


def build_policy(folder: Path, *, tiny: bool, device: torch.device, batch: int) -> TransformersPolicy:
    """A policy with random weights, saved and then loaded as any checkpoint is."""
    dtype = write_policy(folder, tiny=tiny, device=device)
    free()
    options = EngineOptions(device=str(device), dtype=dtype, batch_size=batch)
    return TransformersPolicy(resolve_policy(str(folder)), options)


def _config(tokens: PreTrainedTokenizerFast, *, tiny: bool) -> Qwen3VLConfig:
    ids = {token: tokens.convert_tokens_to_ids(token) for token in SPECIAL}
    return Qwen3VLConfig(
        text_config={**TEXT_4B, **(TINY_TEXT if tiny else {}), "eos_token_id": ids["<|im_end|>"], "bos_token_id": None},
        vision_config={**VISION_4B, **(TINY_VISION if tiny else {})},
        tie_word_embeddings=True,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )


def _processor(tokens: PreTrainedTokenizerFast) -> Qwen3VLProcessor:
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size={"shortest_edge": 65536, "longest_edge": 1280 * 32 * 32}, **PATCHES),
        video_processor=Qwen3VLVideoProcessor(**PATCHES),
        tokenizer=tokens,
        chat_template=CHAT_TEMPLATE,
    )


def free() -> None:
    """Give back the memory of what is no longer used."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# ---------------------------------------------------------------- measuring


def seconds(run: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Median seconds of a run, after one that is not counted."""
    found = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - began)
    return statistics.median(found[1:])


def bandwidth(device: torch.device, rounds: int, *, size: int) -> float:
    """Bytes per second, read and written, of a copy of `size` bytes on the device."""
    source = torch.empty(size, dtype=torch.uint8, device=device).fill_(1)
    target = torch.empty_like(source)
    return 2 * size / seconds(lambda: target.copy_(source), device, 5 * rounds)


@torch.inference_mode()
def ask_plainly(policy: TransformersPolicy, question: Question, tokens: int) -> int:
    """One `generate` as in transformers' documentation; the number of new tokens."""
    content: list[dict[str, Any]] = [
        {"type": "image", "image": question.image},
        {"type": "text", "text": question.text},
    ]
    inputs = policy.processor.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    ).to(policy.device, dtype=policy.dtype)
    made = policy.model.generate(
        **inputs,
        do_sample=False,
        repetition_penalty=1.0,
        max_new_tokens=tokens,
        eos_token_id=sorted(policy.stop_ids),
        pad_token_id=min(policy.stop_ids),
    )
    return made.shape[1] - inputs["input_ids"].shape[1]


def ask_ours(policy: TransformersPolicy, questions: list[Question], tokens: int) -> tuple[int, int]:
    """All questions in one call; the tokens written, and those of the prompts."""
    answers = [answer for (answer,) in policy.generate(questions, Sampling(max_tokens=tokens))]
    return sum(answer.tokens for answer in answers), sum(answer.prompt_tokens for answer in answers)


def bytes_per_pass(policy: TransformersPolicy, prompt_tokens: int, rows: int, tokens: int) -> float:
    """Bytes that decoding `tokens` tokens of `rows` rows must read, each with its prompt before it."""
    text = policy.model.config.get_text_config()
    width = torch.finfo(policy.dtype).bits // 8
    # The embedding is the output layer too and is read once.
    weights = sum(parameter.numel() for parameter in policy.model.model.language_model.parameters()) * width
    per_token = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim * width
    steps = tokens - 1  # reading the prompt gives the first token
    remembered = sum(prompt_tokens + rows * step for step in range(1, tokens))
    return steps * weights + remembered * per_token


def measure_policy(policy: TransformersPolicy, asked: argparse.Namespace, speed: float) -> list[str]:
    """Rows of the table: the loop, and ours."""
    rng = np.random.default_rng(0)
    width, height = map(int, asked.size.split("x"))
    pictures = [Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for _ in range(asked.batch)]
    questions = [Question(picture, get_dialect("genseg").ask("the red circle")) for picture in pictures]
    few = questions[: asked.loop]
    if any(ask_plainly(policy, question, asked.tokens) != asked.tokens for question in few):
        print("an answer of the loop ended early; its rates are too high", file=sys.stderr)
    written, prompt = ask_ours(policy, questions, asked.tokens)
    device = policy.device

    def plainly(tokens: int) -> None:
        for question in few:
            ask_plainly(policy, question, tokens)

    rows = []
    for name, count, made, run, read in (
        ("loop", len(few), len(few) * asked.tokens, plainly, len(few) * _one(policy, prompt // asked.batch, asked)),
        (
            f"ours, {asked.batch} at a time",
            asked.batch,
            written,
            lambda tokens: ask_ours(policy, questions, tokens),
            bytes_per_pass(policy, prompt, asked.batch, asked.tokens),
        ),
    ):
        whole = seconds(lambda run=run: run(asked.tokens), device, asked.rounds)
        decoding = whole - seconds(lambda run=run: run(1), device, asked.rounds)
        rows.append(
            f"| policy | {name} | {count / whole:.2f} | {made / whole:.0f} | {(made - count) / decoding:.0f} "
            f"| {read / decoding / speed:.0%} |"
        )
    return rows


def _one(policy: TransformersPolicy, prompt: int, asked: argparse.Namespace) -> float:
    return bytes_per_pass(policy, prompt, 1, asked.tokens)


def measure_segmenter(asked: argparse.Namespace, device: torch.device) -> list[str]:
    """Rows of the table: the loop, and ours."""
    name = "miniature" if asked.tiny else "large"
    segmenter, plain = masks.build(name, str(device))
    width, height = map(int, asked.size.split("x"))
    images, prompts = masks.task(asked.batch, 1, width, height)
    runs = {
        "loop": (asked.loop, lambda: masks.loop(segmenter, plain, images[: asked.loop], prompts[: asked.loop])),
        f"ours, {asked.batch} at a time": (asked.batch, lambda: masks.ours(segmenter, images, prompts)),
    }
    return [
        f"| segmenter | {side} | {count / seconds(run, device, asked.rounds):.2f} | | | |"
        for side, (count, run) in runs.items()
    ]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16, help="questions, and rows of the batch")
    parser.add_argument("--loop", type=int, default=4, help="how many of them the loop answers")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of each answer")
    parser.add_argument("--size", default="1024x768", help="width x height of the pictures")
    parser.add_argument("--rounds", type=int, default=3, help="times each measurement runs; medians are printed")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small architectures, to try the script")
    asked = parser.parse_args()
    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device: nothing was measured (--tiny --device cpu tries the script)", file=sys.stderr)
        return NO_DEVICE
    device = torch.device(asked.device)
    asked.loop = min(asked.loop, asked.batch)

    speed = bandwidth(device, asked.rounds, size=2**24 if asked.tiny else 2**31)
    with tempfile.TemporaryDirectory(prefix="genseg-gpu-") as folder:
        policy = build_policy(Path(folder), tiny=asked.tiny, device=device, batch=asked.batch)
    parameters = sum(parameter.numel() for parameter in policy.model.parameters())
    print(
        f"{torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU'}, copies at {speed / 1e9:.0f} GB/s; "
        f"policy of {parameters / 1e9:.2f} G parameters, {policy.model.config.get_text_config()._attn_implementation}",
        file=sys.stderr,
    )
    print("| stage | how | samples/s | tokens/s | tokens/s of decoding | share of the bandwidth limit |")
    print("|---|---|---:|---:|---:|---:|")
    print("\n".join(measure_policy(policy, asked, speed)), flush=True)
    policy.close()
    del policy
    free()
    print("\n".join(measure_segmenter(asked, device)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
