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
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from gensegcli.errors import ExitCode, GensegError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from accelerate import Accelerator
    from torch import nn
    from transformers import PreTrainedModel

_EXACT = MixedPrecisionPolicy()


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


def join_head(model: PreTrainedModel, accelerator: Accelerator) -> None:
    """Put an output head with weights of its own into one unit with the norm before it.

    TRL's fused head takes the head's weights without calling the head. Something else must gather them before, and add
    up their gradients over all processes after: the norm does, which runs in every pass. accelerate looks for that norm
    beside the decoder, and in vision-language models it lies inside: the head would be a unit of its own, which nothing
    gathers, and each process would learn its rows from its own data alone. A head that shares the weights of the
    embedding is gathered with it.

    Before the optimiser is made; accelerate leaves alone what is a unit already.

    Args:
        model: not sharded yet, without the wrapper of adapters.
        accelerator: `turn_on` was called for it.

    Raises:
        GensegError: the decoder ends in no norm, so that nothing would gather the head.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight is embedding.weight:
        return
    norms = [child for child in model.get_decoder().children() if "Norm" in type(child).__name__]
    if not norms:
        raise GensegError(
            f"{type(model).__name__}: no norm found before its output head, which is needed to share it out",
            hint="train it in one process",
            code=ExitCode.ENVIRONMENT,
        )
    plugin: Any = accelerator.state.fsdp_plugin
    # Used last in the forward pass and first in the backward pass: kept in between.
    fully_shard([norms[-1], head], reshard_after_forward=False, mp_policy=plugin.mixed_precision_policy or _EXACT)


@contextmanager
def gathered(model: nn.Module) -> Generator[None]:
    """All weights whole on every process while the block runs, in the number format of the forward pass.

    Forward passes in it need no other process, so that each may do as many as it likes. Nothing happens to a model that
    is not sharded.

    Args:
        model: the whole of it, with the wrapper of adapters if there is one: weights outside of every layer are its own.
    """
    if isinstance(model, FSDPModule):
        # FSDP takes what runs first for the root. Where adapters wrap the model, that would be a part of it.
        state: Any = getattr(fully_shard, "state")(model)  # noqa: B009 - PyTorch puts it there when it decorates
        state._lazy_init()
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
