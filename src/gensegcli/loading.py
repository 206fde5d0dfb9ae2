"""`gensegcli.load`: names and settings in, a ready `Pipeline` out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from gensegcli.config import PredictSettings, SegmenterSettings, engine_options
from gensegcli.dialects import get_dialect
from gensegcli.dialects.custom import with_prompt
from gensegcli.errors import GensegError, unknown_name
from gensegcli.files.text import invalid
from gensegcli.models import resolve_policy, resolve_segmenter
from gensegcli.pipeline import Pipeline
from gensegcli.policy import choose_backend, load_policy, require_backend, runs_here
from gensegcli.policy.base import check_sampling
from gensegcli.records import PromptMode, Sampling
from gensegcli.segmenter import load_segmenter
from gensegcli.segmenter import require_backend as require_segmenter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gensegcli.config import Settings
    from gensegcli.policy.base import Policy

BATCH_SIZES = {"transformers": 16, "vllm": 128, "openai": 64, "scripted": 16}
"""Questions per call: many for engines that schedule a batch themselves."""

T = TypeVar("T", bound=BaseModel)

_FILES_NEEDED = frozenset({"transformers", "vllm"})


def load(
    model: str = "qwen3-vl-4b",
    *,
    segmenter: str | None = None,
    backend: str = "auto",
    base_url: str | None = None,
    answers: Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int | None = None,
    dialect: str | None = None,
    mode: str = PromptMode.BOX_2,
    multimask: bool = True,
    prompt: str | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    n: int = 1,
    max_tokens: int = 1500,
    seed: int = 0,
    segmenter_batch: int = 8,
    segmenter_backend: str | None = None,
    on_phase: Callable[[str], object] | None = None,
    **engine: Any,
) -> Pipeline:
    """Load a policy and a segmenter, and join them.

    Args:
        model: alias (`genseg models` lists them), hub id `owner/name[@revision]`, or local folder.
        segmenter: the same for the segmenter, or `boxfill`; None takes the one the model is used with.
        backend: `auto`, `transformers`, `vllm`, `openai` or `scripted`; what `auto` chose stands in `Pipeline.why`.
        base_url: address of an OpenAI-compatible server that has the model.
        answers: JSONL file of completions, for `scripted`.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`; for both models.
        dtype: `auto`, `bfloat16`, `float16`, `float32`; of the policy.
        batch_size: most questions at a time; None takes what suits the engine.
        dialect: how it is asked and read; None takes what the checkpoint's genseg.json says, else its family's. A name
            wins over both: it was asked for, and `Pipeline.notes` says so where the checkpoint was trained otherwise.
        mode: which parts of an answer prompt the segmenter: `box`, `box+1`, `box+2`, `box+2+neg`.
        multimask: take the best of three masks by predicted IoU, or the segmenter's single mask.
        prompt: a text with `{query}` that replaces the dialect's question; answers are read as before.
        temperature: 0 is greedy.
        top_p: nucleus sampling.
        n: completions of each question, a prediction for each; several need a temperature above 0.
        max_tokens: longest completion; the bundled model's are cut at 512 in any case.
        seed: of sampling.
        segmenter_batch: most pictures at a time.
        segmenter_backend: `sam2` or `sam2-meta`; None takes the segmenter's own.
        on_phase: told what is being loaded, in words.
        engine: further fields of `policy.EngineOptions`: `max_pixels`, `attention`, `timeout`, ….

    Raises:
        GensegError: unknown name or setting, an argument of another type, a model that is neither cached nor reachable, a
            missing package.
    """
    if on_phase is not None and not callable(on_phase):
        raise GensegError(f"on_phase is {type(on_phase).__name__}, expected a function")
    tell = on_phase or (lambda _: None)
    for name, value in {"model": model, "backend": backend, "mode": mode}.items():
        _check_text(name, value)
    for name, value in {"segmenter": segmenter, "dialect": dialect, "prompt": prompt}.items():
        _check_text(name, value, optional=True)
    modes = [known.value for known in PromptMode]
    if mode not in modes:
        raise unknown_name("prompt mode", mode, modes)
    asking = {"temperature": temperature, "top_p": top_p, "n": n, "max_tokens": max_tokens, "seed": seed}
    masking = {"backend": segmenter_backend, "multimask": multimask, "batch_size": segmenter_batch}
    checked = _checked(PredictSettings, asking)
    temperature, top_p, n, max_tokens, seed = (getattr(checked, name) for name in asking)
    _checked(SegmenterSettings, masking)
    sampling = Sampling(temperature=temperature, top_p=top_p, n=n, max_tokens=max_tokens, seed=seed)
    check_sampling(sampling)
    given = {"base_url": base_url, "answers": answers, "device": device, "dtype": dtype, "batch_size": batch_size}
    options = engine_options({**given, **engine})
    policy_source = resolve_policy(model).within(options.max_pixels)
    longest = policy_source.entry.max_tokens
    if longest is not None:
        sampling = replace(sampling, max_tokens=min(max_tokens, longest))
    segmenter_source = resolve_segmenter(segmenter or policy_source.entry.segmenter)
    asked = get_dialect(dialect or policy_source.entry.dialect)
    if prompt is not None:
        asked = with_prompt(asked, prompt)

    # Whatever is missing must show before minutes go into downloading or loading the other model, and what can be seen
    # without torch before seconds go into importing it.
    require_segmenter(segmenter_backend or segmenter_source.backend)
    if backend != "auto":
        require_backend(backend, device=options.device)
    elif runs_here(options):
        require_backend("transformers")
    if backend in _FILES_NEEDED or (backend == "auto" and runs_here(options)):
        tell(f"looking for policy {policy_source.id}")
        policy_source.look()
    tell(f"looking for segmenter {segmenter_source.id}")
    segmenter_source.look()
    name, why = choose_backend(policy_source, options) if backend == "auto" else (backend, f"{backend}: asked for")
    require_backend(name, device=options.device)
    if name in _FILES_NEEDED:
        policy_source = policy_source.fetch()
    segmenter_source = segmenter_source.fetch()

    doing = {"scripted": "reading answers", "openai": f"connecting to the server of {policy_source.id}"}
    tell(f"{doing.get(name, f'loading policy {policy_source.id}')} ({why})")
    policy, _ = load_policy(policy_source, backend=name, options=options)
    try:
        tell(f"loading segmenter {segmenter_source.id}")
        masks = load_segmenter(
            segmenter_source,
            backend=segmenter_backend,
            device=None if options.device == "auto" else options.device,
            multimask=multimask,
        )
        return Pipeline(
            policy,
            asked,
            masks,
            policy_source.entry,
            mode=PromptMode(mode),
            sampling=sampling,
            batch_size=options.batch_size or BATCH_SIZES[name],
            segmenter_batch=segmenter_batch,
            why=why,
            engine=_engine(name, policy),
            notes=_notes(policy_source.prompt_digest, asked.digest),
        )
    except BaseException:
        policy.close()
        raise


def _check_text(name: str, value: object, *, optional: bool = False) -> None:
    if not isinstance(value, str) and not (optional and value is None):
        raise GensegError(f"{name} is {type(value).__name__}, expected a text")


def _checked(section: type[T], values: Mapping[str, object]) -> T:
    """Arguments as a section of the settings takes them.

    Raises:
        GensegError: another type, or a value out of its range.
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise invalid(error, "load") from None


def load_as_set(
    settings: Settings,
    *,
    prompt: str | None = None,
    segmenter: str | None = None,
    on_phase: Callable[[str], object] | None = None,
) -> Pipeline:
    """The pipeline that settings describe.

    Args:
        settings: resolved.
        prompt: text of `predict.prompt_file`.
        segmenter: another one than the settings name.
        on_phase: told what is being loaded, in words.

    Raises:
        GensegError: as `load`.
    """
    model, predict = settings.model, settings.predict
    return load(
        model.name,
        segmenter=segmenter or settings.segmenter.name,
        backend=model.backend,
        dialect=model.dialect,
        mode=predict.mode,
        multimask=settings.segmenter.multimask,
        prompt=prompt,
        temperature=predict.temperature,
        top_p=predict.top_p,
        n=predict.n,
        max_tokens=predict.max_tokens,
        seed=predict.seed,
        segmenter_batch=settings.segmenter.batch_size,
        segmenter_backend=None if segmenter else settings.segmenter.backend,
        on_phase=on_phase,
        **model.engine,
    )


def _engine(backend: str, policy: Policy) -> dict[str, str]:
    """What decides the results beside the models: `auto` may choose otherwise on another machine."""
    dtype = getattr(policy, "dtype", None)  # of engines in this process
    return {"backend": backend, **({} if dtype is None else {"dtype": str(dtype).removeprefix("torch.")})}


def _notes(trained_with: str | None, asked_with: str) -> list[str]:
    if trained_with is None or trained_with == asked_with:
        return []
    return [f"this checkpoint was trained with the question {trained_with}, and is asked with {asked_with}"]
