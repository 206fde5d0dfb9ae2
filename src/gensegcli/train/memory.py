"""What training needs of each device's memory, estimated from the model's configuration alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from gensegcli.policy.hf import choose_device
from gensegcli.train.phases import GB
from gensegcli.train.plan import mixed_precision

if TYPE_CHECKING:
    from gensegcli.train.plan import Setup

MB = 1e6
_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9}
_LIVE_IN_LAYER = 34
"""Values of hidden size that one decoder layer keeps for each token in its backward pass (attention and gated MLP)."""
_WORKSPACE = 1.5 * GB
"""CUDA context, kernels' scratch space, fragments."""
_KV_CACHE = "KV cache of rollouts"
_OF_UPDATE = ("gradients", "activations")
_BEFORE_UPDATE = (_KV_CACHE, "weights gathered for rollouts", "reference model gathered")
"""What is there only while the other is not."""


@dataclass(frozen=True)
class Memory:
    """Bytes of each process by what they are for.

    Attributes:
        parts: bytes by name.
        device: total memory of the device here; None where there is none to ask.
        notes: what to change where it does not fit, and what the estimate does not know.
    """

    parts: dict[str, float]
    device: float | None
    notes: tuple[str, ...]

    @property
    def total(self) -> float:
        """At the worst moment: rollouts are written when there are neither gradients nor activations."""
        update, before = (sum(self.parts.get(name, 0.0) for name in part) for part in (_OF_UPDATE, _BEFORE_UPDATE))
        return sum(self.parts.values()) - min(update, before)

    def rows(self) -> list[tuple[str, str]]:
        """For a table."""
        sizes = {**self.parts, "at most at a time": self.total}
        if self.device is not None:
            sizes["device has"] = self.device
        return [(name, f"{size / GB:.1f} GB" if size >= GB else f"{size / MB:.0f} MB") for name, size in sizes.items()]

    def as_json(self) -> dict[str, Any]:
        return {"bytes": self.parts, "total": self.total, "device": self.device, "notes": list(self.notes)}


def estimate(setup: Setup, processes: int) -> Memory:
    """Weights, gradients, optimiser, reference, activations, KV cache and segmenter of each process.

    Weights that are learned, their gradients and the optimiser are fp32 and sharded; activations are those of one
    micro-batch at the longest prompt and response. An estimate, not a promise: of `benchmarks/train_gpu.py` it says 98 GB,
    and updates there, of prompts half as long as the longest, allocated 92 GB.
    """
    settings = setup.settings.settings
    train = settings.train
    device = choose_device(settings.model.device)
    half = mixed_precision(train, device)
    width = 2 if half else 4
    config, count = _architecture(setup)
    learned = count if not train.lora else count * min(1.0, train.lora_rank / 512)
    parts = {
        "weights": 4 * count / processes,
        "gradients": 4 * learned / processes,
        "optimiser": 8 * learned / processes,
    }
    if half and processes == 1 and not train.lora:
        parts["bf16 copies of weights"] = 2 * count
    grpo = setup.reward is not None
    if grpo and train.beta and not train.lora:
        parts["reference model"] = width * count / processes
    notes = []
    if config is None:
        notes.append(
            f"{setup.policy.id} is not cached: activations and KV cache cannot be estimated before its config is"
        )
    else:
        text = config.get_text_config()
        tokens = train.max_prompt_tokens + train.max_response_tokens
        checkpointing = device.type == "cuda" if train.gradient_checkpointing is None else train.gradient_checkpointing
        layer = tokens * text.hidden_size * _LIVE_IN_LAYER * width
        kept = tokens * text.hidden_size * width * text.num_hidden_layers + layer
        parts["activations"] = train.micro_batch * (kept if checkpointing else layer * text.num_hidden_layers)
        if processes > 1:
            parts["one layer gathered"] = 2 * width * count / text.num_hidden_layers
        if grpo and train.rollout == "transformers":
            rows = train.prompts_per_step * train.num_generations / processes
            rows = min(rows, settings.model.batch_size or rows)
            head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
            parts[_KV_CACHE] = rows * tokens * text.num_hidden_layers * 2 * text.num_key_value_heads * head * width
            if processes > 1:
                parts["weights gathered for rollouts"] = width * count
        elif processes > 1 and "reference model" in parts:
            parts["reference model gathered"] = width * count
    total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
    if grpo and train.rollout == "colocate":
        parts["vLLM"] = train.rollout_memory * (total or 0)
    if grpo and setup.reward.needs_masks and settings.reward.device == "auto":
        parts["segmenter"] = _segmenter(setup)
    if device.type == "cuda":
        parts["workspace"] = _WORKSPACE
    memory = Memory(parts, total, tuple(notes))
    return Memory(parts, total, (*notes, *_advice(setup, memory, processes)))


def _advice(setup: Setup, memory: Memory, processes: int) -> list[str]:
    if memory.device is None:
        return ["no GPU here whose memory this could be held against"]
    if memory.total < 0.9 * memory.device:
        return ["fits"]
    train = setup.settings.settings.train
    largest = max(memory.parts, key=lambda name: memory.parts[name])
    knobs = {
        "activations": f"--set train.micro_batch={max(1, train.micro_batch // 2)}",
        _KV_CACHE: "--set model.batch_size=8 (completions written at a time), or --rollout colocate",
        "vLLM": "a smaller train.rollout_memory",
        "segmenter": "--set reward.device=cpu",
    }
    cure = knobs.get(largest, f"--nproc {2 * processes}, or --lora")
    return [f"does not fit: most goes into {largest}; try {cure}"]


def _architecture(setup: Setup) -> tuple[Any, float]:
    """Configuration and number of parameters; without the files, the number that the table of models states."""
    path = setup.policy.path
    if path is None or not (path / "config.json").is_file():
        stated = setup.policy.entry.parameters
        return None, float(stated[:-1]) * _UNITS[stated[-1]] if stated else 0.0
    config = AutoConfig.from_pretrained(path, local_files_only=True)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    return config, float(sum(weight.numel() for weight in model.parameters()))


def _segmenter(setup: Setup) -> float:
    """Weights in fp32, and as much again as an encoder pass over eight pictures of 1024 pixels takes beside them."""
    from gensegcli.models import resolve_segmenter

    stated = resolve_segmenter(setup.segmenter).entry.parameters
    if not stated or stated[-1] not in _UNITS:
        return 0.0
    return 4 * float(stated[:-1]) * _UNITS[stated[-1]] + 4 * GB * (stated[-1] == "M" and float(stated[:-1]) > 10)
