"""From settings to the arguments of TRL's trainers: every hyper-parameter by name, nothing left to a library's default."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from trl import GRPOConfig, SFTConfig

from gensegcli.errors import GensegError
from gensegcli.train.plan import accumulation, mixed_precision
from gensegcli.train.sharding import fsdp_config

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from gensegcli.config import Settings, TrainSettings


def grpo_arguments(settings: Settings, run: Path, *, device: torch.device, world: int) -> GRPOConfig:
    """For `GRPOTrainer`. One generation serves one update, so that every update is on-policy."""
    train = settings.train
    sequences = train.prompts_per_step * train.num_generations
    vllm: dict[str, Any] = {}
    if train.rollout != "transformers":
        _vllm_can(train, world)
        vllm = {
            "vllm_mode": train.rollout,
            "vllm_gpu_memory_utilization": train.rollout_memory,
            "vllm_max_model_length": train.max_prompt_tokens + train.max_response_tokens,
            "vllm_server_base_url": train.rollout_url,
            # Probabilities of the two engines differ a little: the ratio between them corrects the gradient, and what
            # the trainer would hardly have written teaches nothing.
            "vllm_importance_sampling_correction": True,
            "vllm_importance_sampling_mode": "sequence_mask",
            "vllm_importance_sampling_clip_max": 3.0,
            "vllm_importance_sampling_clip_min": None,
        }
    return GRPOConfig(
        **_shared(train, run, device=device, world=world, sequences=sequences),
        num_generations=train.num_generations,
        generation_batch_size=sequences,
        max_completion_length=train.max_response_tokens,
        temperature=train.temperature,
        top_p=train.top_p,
        top_k=0,
        min_p=None,
        repetition_penalty=1.0,
        beta=train.beta,
        # The plain k3 of the paper: TRL would by default weigh it by the probability ratio.
        use_bias_correction_kl=False,
        epsilon=train.epsilon,
        epsilon_high=train.epsilon_high,
        delta=None,  # no further bound on the ratio where the advantage is negative
        num_iterations=1,
        loss_type=train.loss_type,
        scale_rewards=train.scale_rewards,
        multi_objective_aggregation="sum_then_normalize",
        importance_sampling_level="token",
        off_policy_mask_threshold=None,
        entropy_coef=train.entropy_coef,
        use_adaptive_entropy=False,
        top_entropy_quantile=1.0,  # every token teaches
        mask_truncated_completions=False,
        disable_dropout=True,
        sync_ref_model=False,
        # The order of the samples is `data.training_order`.
        shuffle_dataset=False,
        log_completions=False,
        # Of the reference model, which only reads: half the memory where the GPU computes in bf16 anyway.
        model_init_kwargs={"dtype": "bfloat16"} if mixed_precision(train, device) else None,
        **vllm,
    )


def _vllm_can(train: TrainSettings, world: int) -> None:
    """Refuse what would train on wrong numbers.

    Raises:
        GensegError: with the setting to change.
    """
    if train.top_p < 1:
        raise GensegError(
            f"train.top_p={train.top_p:g} with --rollout {train.rollout}: vLLM's probabilities are then those of the "
            "nucleus, the trainer's those of all tokens, and their ratio corrects nothing",
            hint="train.top_p=1, or --rollout transformers",
        )
    if train.lora and world > 1:
        raise GensegError(
            f"--lora with --rollout {train.rollout} on {world} processes: nothing shows that vLLM gets the right weights",
            hint="--rollout transformers, --no-lora, or one process",
        )


def sft_arguments(settings: Settings, run: Path, *, device: torch.device, world: int) -> SFTConfig:
    """For `SFTTrainer`: the loss is on the completion alone."""
    train = settings.train
    return SFTConfig(
        **_shared(train, run, device=device, world=world, sequences=train.prompts_per_step),
        # Cutting would cut into picture tokens; `Questions.check_length` has looked at the prompts.
        max_length=None,
        packing=False,
        completion_only_loss=True,
        loss_type="nll",
        # Of all tokens of a step, wherever they are.
        average_tokens_across_devices=True,
        neftune_noise_alpha=None,
        label_smoothing_factor=0.0,
        dataset_kwargs={"skip_prepare_dataset": True},
    )


def _shared(train: TrainSettings, run: Path, *, device: torch.device, world: int, sequences: int) -> dict[str, Any]:
    # transformers asks the environment for this folder, and names one by date and host without it.
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(run / "tensorboard")
    checkpointing = train.gradient_checkpointing
    if checkpointing is None:
        checkpointing = device.type == "cuda"
    return {
        "output_dir": str(run),
        "per_device_train_batch_size": train.micro_batch,
        "gradient_accumulation_steps": accumulation(sequences, micro_batch=train.micro_batch, processes=world),
        "num_train_epochs": 1,  # epochs are unrolled in the order of the samples
        "learning_rate": train.lr,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": train.warmup_steps,
        # On a GPU without temporary copies of all gradients, which would be the peak of a step's memory.
        "optim": "adamw_torch_fused" if device.type == "cuda" else "adamw_torch",
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        "weight_decay": train.weight_decay,
        "max_grad_norm": train.max_grad_norm,
        "bf16": mixed_precision(train, device),
        "gradient_checkpointing": checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if checkpointing else None,
        "use_cpu": device.type == "cpu",
        "dataloader_pin_memory": device.type == "cuda",
        "dataloader_num_workers": 0,
        "remove_unused_columns": False,
        "seed": train.seed,
        "data_seed": train.seed,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": train.save_steps,
        "save_total_limit": train.keep,
        "report_to": [name.strip() for name in train.report_to.split(",") if name.strip() not in ("", "none")],
        "disable_tqdm": True,
        "log_level_replica": "error",
        "push_to_hub": False,
        **(_sharding(device, checkpointing=checkpointing) if world > 1 else {}),
    }


def _sharding(device: torch.device, *, checkpointing: bool) -> dict[str, Any]:
    return {
        "ddp_backend": "gloo" if device.type == "cpu" else None,
        "fsdp": True,
        "fsdp_config": fsdp_config(checkpointing=checkpointing),
        "gradient_checkpointing": False,
        "gradient_checkpointing_kwargs": None,
    }
