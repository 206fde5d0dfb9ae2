"""Segmenters: boxes and points in, masks out. One registry, and the heavy ones are imported only when asked for."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from gensegcli.checkpoints import WITHOUT_SEGMENTER
from gensegcli.errors import ExitCode, GensegError, install_hint, unknown_name

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from gensegcli.models import ResolvedSegmenter
    from gensegcli.segmenter.base import Segmenter


def _sam2(resolved: ResolvedSegmenter, **options: object) -> Segmenter:
    from gensegcli.segmenter.sam2_load import load_sam2

    return load_sam2(resolved, **options)  # ty: ignore[invalid-argument-type]


def _sam2_meta(resolved: ResolvedSegmenter, **options: object) -> Segmenter:
    from gensegcli.segmenter.sam2_meta import load_sam2_meta

    return load_sam2_meta(resolved, **options)  # ty: ignore[invalid-argument-type]


def _boxfill(_resolved: ResolvedSegmenter, **_options: object) -> Segmenter:
    from gensegcli.segmenter.boxfill import BoxFill

    return BoxFill()


BACKENDS: dict[str, Callable[..., Segmenter]] = {
    "sam2": _sam2,
    "sam2-meta": _sam2_meta,
    "boxfill": _boxfill,
}
"""Backend name to loader. `sam2` is transformers, `sam2-meta` the `sam2` package on the same weights."""


_PACKAGES = {
    "sam2": {"torch": "local", "transformers": "local"},
    "sam2-meta": {"torch": "local", "transformers": "local", "sam2": "sam2", "hydra": "sam2", "iopath": "sam2"},
}
"""By backend: packages it imports, and the extra that brings each."""


def require_backend(name: str) -> None:
    """Look, without importing anything heavy, whether a backend can run here.

    Raises:
        GensegError: unknown, or a package of it is not installed.
    """
    if name not in BACKENDS:
        raise unknown_name("segmenter backend", name, BACKENDS)
    missing = {m: extra for m, extra in _PACKAGES.get(name, {}).items() if importlib.util.find_spec(m) is None}
    if missing:
        raise GensegError(
            f"segmenter backend {name}: not installed: {', '.join(missing)}",
            # Without PyTorch there is no SAM: what the base install can do is said beside the command.
            hint=f"{install_hint(next(iter(missing.values())))}; or {WITHOUT_SEGMENTER}",
            code=ExitCode.ENVIRONMENT,
        )


def load_segmenter(
    resolved: ResolvedSegmenter,
    *,
    backend: str | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    multimask: bool = True,
    cache: int = 8,
) -> Segmenter:
    """The segmenter that `models.resolve_segmenter` found, ready to use; its files are fetched if need be.

    Args:
        resolved: which model, and where its files are.
        backend: a key of `BACKENDS`; None takes the one of the model's entry.
        device: None takes the accelerator if there is one.
        dtype: of the picture encoder; None takes bf16 on CUDA and fp32 elsewhere.
        multimask: take the best of three masks by predicted IoU (the default of the method), or the single mask.
        cache: how many encoded pictures to keep.

    Raises:
        GensegError: unknown backend, weights that are not of that backend, a package that is not installed.
    """
    name = backend or resolved.entry.backend
    require_backend(name)
    return BACKENDS[name](resolved.fetch(), device=device, dtype=dtype, multimask=multimask, cache=cache)
