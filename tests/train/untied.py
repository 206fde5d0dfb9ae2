"""Runs of policies whose output head has weights of its own, in one process or, by torchrun, in several.

Every large published policy is one, and the bundled miniature is not. What a run leaves beside its own files: the
gradient of every weight before each update, and what the policy said in its held-out evaluation.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.utils import FullyShardedDataParallelPlugin
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback
from trl.trainer import grpo_trainer, sft_trainer
from trl.trainer.utils import FusedCausalLMOutput, add_fused_lm_head

from gensegcli.config import resolve
from gensegcli.train import held_out, run, sharding
from gensegcli.train.grpo import RewardFunction
from gensegcli.train.plan import Plan
from gensegcli.train.runs import CHECKPOINTS, MODEL, checkpoint_folder

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

SMALL = (
    "train.prompts_per_step=4",
    "train.micro_batch=1",
    "train.max_prompt_tokens=3500",
    "train.max_response_tokens=16",
    "train.max_grad_norm=1e6",
    "train.lr=1e-4",
    "train.report_to=none",
    "train.save_steps=1",
    "model.device=cpu",
    "segmenter.name=demo",
)
SFT = ("train.stage=sft",)
GRPO = ("train.num_generations=2", "train.micro_batch=2", "train.beta=0.05", "train.entropy_coef=0.01")
LORA = ("train.lora=true", "train.lora_rank=4", "train.lr=1e-3")
CHECKED = ("train.gradient_checkpointing=true",)
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "sft": ("qwen3_vl", SFT),
    "sft-plain": ("qwen3_vl", SFT),
    "sft-2.5": ("qwen2_5_vl", SFT),
    "sft-2.5-plain": ("qwen2_5_vl", (*SFT, *CHECKED)),
    "sft-lora": ("qwen3_vl", (*SFT, *LORA)),
    "grpo": ("qwen3_vl", GRPO),
    "grpo-2.5": ("qwen2_5_vl", (*GRPO, *CHECKED)),
    "grpo-lora": ("qwen2_5_vl", (*GRPO, *LORA)),
}
"""Family and settings of each run; in those called plain, the head is called as a module."""

STEPS = 2
GRADIENTS, SAID, HELD = "gradients-{}.safetensors", "said-{}.json", "held-{}.json"
TEXT, BEGUN = "text", "begun"
"""Folders of a text model's gradients, and of the run that one process begins and others go on with."""


def plan(name: str, scenes: Path, models: Path) -> Plan:
    """What that run does: two steps of several micro-batches."""
    family, own = RUNS[name]
    asked = (f"train.data={scenes}", f"model.name={models / family}")
    if name in ("sft", "sft-lora"):
        own += (f"train.eval_data={scenes}", "train.eval_steps=2", "train.eval_limit=5")
    return Plan.of(resolve(preset="demo", assignments=[*asked, *SMALL, *own]), limit=4 * STEPS)


def train(name: str, scenes: Path, models: Path, folder: Path) -> run.Outcome:
    """One run, watched. Every process of it calls this."""
    with _watched(folder, plain_head=name.endswith("plain")):
        return run.train(plan(name, scenes, models), folder)


def cut_back(run: Path, to: Path) -> Path:
    """A copy of a finished run as it was after its first step."""
    shutil.copytree(run, to)
    for gone in (to / MODEL, checkpoint_folder(to, STEPS)):
        shutil.rmtree(gone)
    (to / GRADIENTS.format(STEPS)).unlink()
    first = (to / CHECKPOINTS).read_text().splitlines(keepends=True)[0]
    (to / CHECKPOINTS).write_text(first)
    return to


def train_text(folder: Path) -> None:
    """Gradients of a text model, whose final norm is where accelerate looks for it, after three micro-batches."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=96, num_key_value_heads=2, initializer_range=0.3, **sizes))
    add_fused_lm_head(model)
    rows = torch.randint(96, (12, 9))
    accelerator = Accelerator()
    processes = accelerator.num_processes
    if processes > 1:
        layers = {"transformer_cls_names_to_wrap": ["LlamaDecoderLayer"], "cpu_ram_efficient_loading": False}
        plugin = {"fsdp_version": 2, "reshard_after_forward": True, "auto_wrap_policy": "transformer_based_wrap"}
        # The state is that of the run before, and so is the plugin in it.
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(**plugin, **layers)
        sharding.join_head(model, accelerator)
    prepared, _ = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    own = rows.chunk(processes)[accelerator.process_index].chunk(3)
    for part in own[:-1]:
        with accelerator.no_sync(prepared):
            prepared(part, labels=part, fused_lm_head=True).loss.backward()
    prepared(own[-1], labels=own[-1], fused_lm_head=True).loss.backward()
    found = {name: whole(weight.grad).contiguous() for name, weight in prepared.named_parameters()}
    if accelerator.is_main_process:
        folder.mkdir(parents=True)
        save_file(found, folder / GRADIENTS.format(1))


def whole(weight: torch.Tensor) -> torch.Tensor:
    """All of a weight or gradient, on every process."""
    return weight.full_tensor() if isinstance(weight, DTensor) else weight


class Gradients(TrainerCallback):
    """Writes down the gradient of every weight that learns; `None` is a gradient of zeros."""

    def __init__(self, trainer: Any, folder: Path) -> None:
        self.trainer, self.folder = trainer, folder

    def on_pre_optimizer_step(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        found = {
            name.replace("_checkpoint_wrapped_module.", ""): whole(
                torch.zeros_like(weight) if weight.grad is None else weight.grad
            ).contiguous()
            for name, weight in self.trainer.model.named_parameters()
            if weight.requires_grad
        }
        weights = list(self.trainer.model.parameters())
        held = [weight.to_local() if isinstance(weight, DTensor) else weight for weight in weights]
        counts = [sum(one.numel() for one in all_of_them) for all_of_them in (held, weights)]
        (self.folder / HELD.format(os.environ.get("RANK", "0"))).write_text(json.dumps(counts))
        if self.trainer.accelerator.is_main_process:
            save_file(found, self.folder / GRADIENTS.format(state.global_step + 1))


@contextmanager
def _watched(folder: Path, *, plain_head: bool) -> Generator[None]:
    """Patched while inside: gradients and held-out answers are kept, rewards differ though all answers are nonsense."""
    kept: list[tuple[Any, str, Any]] = []
    said: list[dict[str, str]] = []
    build, generate = run.build, held_out.LivePolicy.generate

    def patch(place: Any, name: str, new: Any) -> None:
        kept.append((place, name, getattr(place, name)))
        setattr(place, name, new)

    def built(plan: Plan, place: Path, *others: Any, **named: Any) -> Any:
        trainer = build(plan, place, *others, **named)
        trainer.add_callback(Gradients(trainer, place))
        return trainer

    def answered(policy: Any, questions: Any, sampling: Any) -> Any:
        completions = generate(policy, questions, sampling)
        said.extend(
            {"asked": question.text, "answer": one.text}
            for question, (one,) in zip(questions, completions, strict=True)
        )
        return completions

    def earned(reward: Any, *, completion_ids: Sequence[Sequence[int]], **named: Any) -> list[float]:
        score(reward, completion_ids=completion_ids, **named)
        return [float(sum(ids) % 7) for ids in completion_ids]

    score = RewardFunction.__call__
    patch(run, "build", built)
    patch(run, "_part", lambda: None)  # the processes stay together for the next run
    patch(held_out.LivePolicy, "generate", answered)
    patch(RewardFunction, "__call__", earned)
    if plain_head:
        for trainer in (sft_trainer, grpo_trainer):
            patch(trainer, "add_fused_lm_head", _add_plain_head)
    try:
        yield
    finally:
        for place, name, before in reversed(kept):
            setattr(place, name, before)
    if said:
        (folder / SAID.format(os.environ.get("RANK", "0"))).write_text(json.dumps(said))


def _add_plain_head(model: Any, **_: Any) -> None:
    """In place of TRL's: the model's own forward, which calls its head, and PyTorch's cross entropy over all logits."""
    forward = type(model).forward

    def called(
        *given: Any, fused_lm_head: bool = False, labels: Any = None, num_items_in_batch: Any = None, **named: Any
    ) -> Any:
        if not fused_lm_head:
            return forward(model, *given, **named)
        logits = forward(model, *given, **{**named, "use_cache": False}).logits[:, :-1].float()
        wanted = labels[:, 1:]
        known = wanted != -100
        logs = logits.log_softmax(-1)
        picked = logs.gather(-1, wanted.clamp(min=0)[..., None])[..., 0].masked_fill(~known, 0)
        count = known.sum() if num_items_in_batch is None else num_items_in_batch
        return FusedCausalLMOutput(
            loss=-picked.sum() / count,
            log_probs=picked,
            entropy=-(logs.exp() * logs).sum(-1).detach(),
            is_top1=logits.argmax(-1) == wanted,
            label_mask=known,
        )

    model.forward = called


def main(scenes: Path, models: Path, folder: Path) -> None:
    """All runs, and the end of one that one process has begun."""
    torch.set_num_threads(1)
    for name in RUNS:
        train(name, scenes, models, folder / name)
    train("sft", scenes, models, folder / BEGUN)
    train_text(folder / TEXT)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
