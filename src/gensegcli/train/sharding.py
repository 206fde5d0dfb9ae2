"""Weights, gradients and optimiser in equal parts on every process: FSDP 2, on GPUs and on CPUs by the same code."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from accelerate import Accelerator
    from torch import nn


def fsdp_config(*, checkpointing: bool) -> dict[str, Any]:
    """For `TrainingArguments`: one unit a layer, as the model's `_no_split_modules` names them.

    Args:
        checkpointing: whether activations of a layer are computed again in its backward pass. FSDP does that itself;
            `gradient_checkpointing` of the trainer must then be off.
    """
    return {
        "version": 2,
        "reshard_after_forward": True,
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "state_dict_type": "FULL_STATE_DICT",
        "activation_checkpointing": checkpointing,
        # Loading on one process and broadcasting would spare host memory, and leave buffers that no file holds empty.
        "cpu_ram_efficient_loading": False,
    }


def turn_on(accelerator: Accelerator, plugin_arguments: Mapping[str, Any]) -> None:
    """Make an accelerator shard what it prepares.

    accelerate does so by itself on GPUs only. On a CPU it takes FSDP for plain data parallelism, though its code and
    torch's run there just as well.
    """
    state = accelerator.state
    if state.distributed_type is not DistributedType.FSDP:
        state.fsdp_plugin = FullyShardedDataParallelPlugin(**plugin_arguments)
        # Both are shared by all their instances; the second is what the first is made up from again.
        state.distributed_type = PartialState().distributed_type = DistributedType.FSDP
    if accelerator.mixed_precision == "bf16":
        # accelerate would also add up the gradients of all processes in bf16.
        plugin: Any = state.fsdp_plugin
        plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)


@contextmanager
def gathered(model: nn.Module) -> Generator[None]:
    """All weights whole on every process while the block runs, in the number format of the forward pass.

    Forward passes in it need no other process, so that each may do as many as it likes. Nothing happens to a model that
    is not sharded.
    """
    units = [module for module in model.modules() if isinstance(module, FSDPModule)]
    try:
        for unit in units:
            unit.set_reshard_after_forward(False, recurse=False)
            unit.unshard()
        yield
    finally:
        for unit in units:
            unit.reshard()
            unit.set_reshard_after_forward(True, recurse=False)


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The whole state by names of parameters, on the CPU of the first process; all must call it.

    It is the same for any number of processes.
    """
    return get_optimizer_state_dict(
        model, optimizer, options=StateDictOptions(full_state_dict=True, cpu_offload=_distributed())
    )


def load_optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take up a state of `optimizer_state`. All processes must call it; only the first one's `state` counts."""
    # How it computes is this run's: a state from a CPU would turn a GPU's fused kernel off, and the other way round.
    for group in state.get("param_groups", []):
        group["fused"] = optimizer.defaults.get("fused")
    set_optimizer_state_dict(model, optimizer, state, options=_whole())


def load_weights(model: nn.Module, state: dict[str, Any], *, strict: bool = True) -> None:
    """Take up whole weights by their names. All processes must call it; only the first one's `state` counts."""
    set_model_state_dict(model, state, options=_whole(strict=strict))


def _whole(*, strict: bool = True) -> StateDictOptions:
    return StateDictOptions(full_state_dict=True, broadcast_from_rank0=_distributed(), strict=strict)


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
