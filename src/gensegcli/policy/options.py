"""What can be chosen about an engine, in one value for all of them; each takes what concerns it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Settings of the engines.

    Attributes:
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps` (transformers; vllm takes the first and `cuda` only).
        dtype: `auto`, `bfloat16`, `float16`, `float32` (transformers, vllm).
        attention: `auto`, `sdpa`, `eager`, `flash_attention_2` (transformers).
        batch_size: most sequences in one forward pass (transformers).
        max_pixels: upper bound on the area of the resized picture; None takes the model's own (all engines).
        max_model_len: longest prompt and completion in tokens; None takes the model's own (vllm).
        gpu_memory_utilization: share of the GPU's memory (vllm).
        tensor_parallel: GPUs to spread the model over (vllm).
        base_url: address of an OpenAI-compatible server, with its `/v1` (openai).
        served_model: name under which the server knows the model; None takes the only one it serves (openai).
        concurrency: requests in flight (openai).
        timeout: seconds to wait for one answer (openai).
        retries: further tries after 429, 5xx, a time-out or a broken connection (openai).
        answers: JSONL file of completions (scripted).
    """

    device: str = "auto"
    dtype: str = "auto"
    attention: str = "auto"
    batch_size: int = 16
    max_pixels: int | None = None
    max_model_len: int | None = None
    gpu_memory_utilization: float = 0.9
    tensor_parallel: int = 1
    base_url: str | None = None
    served_model: str | None = None
    concurrency: int = 16
    timeout: float = 300.0
    retries: int = 5
    answers: Path | None = None
