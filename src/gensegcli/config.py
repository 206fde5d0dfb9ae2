"""Settings: defaults, a preset, a TOML file, `--set` and flags, laid over each other in this order.

Every value remembers where it came from. Settings that decide *what* comes out are part of the identity of a run and
of its digest; those that only decide where, when and how fast are not (`free=True` below), so that a run can be taken
up again on another machine or with other batch sizes.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gensegcli.errors import GensegError, unknown_name
from gensegcli.files.text import excerpt, parse_setting, parse_toml, read_toml
from gensegcli.records import PromptMode, Sampling

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

DEFAULT = "default"

_USERINFO = re.compile(r"(?<=//)[^/?#]*@")
"""User and password of an address."""

_BOUND = 2**32
"""Whole numbers stay below it: what engines take for a seed, and well within what JSON readers take."""


def _setting(default: Any, description: str, *, free: bool = False, **bounds: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"free": free}, **bounds)


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, coerce_numbers_to_str=True, allow_inf_nan=False
    )


class EngineOptions(_Section):
    """Settings of the engines that run policies, in one value for all of them; each takes what concerns it."""

    device: str = _setting(
        "auto", "auto, cpu, cuda, cuda:1, mps (transformers; vllm takes the first and cuda only)", free=True
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = _setting("auto", "number format of the weights")
    attention: str = _setting("auto", "auto, sdpa, eager, flash_attention_2 (transformers)", free=True)
    batch_size: int | None = _setting(
        None, "most questions at a time; null: what suits the engine", free=True, ge=1, lt=_BOUND
    )
    max_pixels: int | None = _setting(
        None, "most pixels of the resized picture; null: the model's own", ge=1, lt=_BOUND
    )
    max_model_len: int | None = _setting(
        None, "longest prompt and completion in tokens; null: the model's own (vllm)", free=True, ge=1, lt=_BOUND
    )
    gpu_memory_utilization: float = _setting(0.9, "share of the GPU's memory to take (vllm)", free=True, gt=0, le=1)
    tensor_parallel: int = _setting(1, "GPUs to spread the model over (vllm)", free=True, ge=1, lt=_BOUND)
    base_url: str | None = _setting(None, "address of an OpenAI-compatible server, with its /v1", free=True)
    served_model: str | None = _setting(None, "name by which the server knows the model; null: the only one it serves")
    concurrency: int = _setting(16, "requests in flight (openai)", free=True, ge=1, lt=_BOUND)
    timeout: float = _setting(300.0, "seconds to wait for one answer (openai)", free=True, gt=0)
    retries: int = _setting(
        5, "further tries after 429, 5xx, a time-out or a broken connection (openai)", free=True, ge=0, lt=_BOUND
    )
    answers: Path | None = _setting(None, "JSONL file of completions (scripted)")


class _PolicyChoice(_Section):
    name: str = _setting("qwen3-vl-4b", "alias, hub id (owner/name[@revision]) or local folder")
    dialect: str | None = _setting(
        None, "question and reader, for example genseg-neg, over what genseg.json says; null: the model's own"
    )
    backend: str = _setting("auto", "auto, transformers, vllm, openai (any compatible server) or scripted")


class ModelSettings(EngineOptions, _PolicyChoice):
    """The policy and the engine that runs it."""

    @property
    def engine(self) -> dict[str, Any]:
        """The fields of `EngineOptions`."""
        return {name: getattr(self, name) for name in EngineOptions.model_fields}


class SegmenterSettings(_Section):
    """The promptable segmenter."""

    name: str | None = _setting(None, "alias, hub id, local folder, or boxfill; null: the one the model is used with")
    backend: str | None = _setting(None, "sam2 or sam2-meta (the sam2 package); null: the segmenter's own")
    multimask: bool = _setting(True, "best of three masks by predicted IoU; otherwise the single-mask output")
    batch_size: int = _setting(8, "most pictures at a time", free=True, ge=1, lt=_BOUND)


class PredictSettings(_Section):
    """How questions are asked and answers turned into masks."""

    mode: PromptMode = _setting(PromptMode.BOX_2, "parts of an answer that prompt the segmenter")
    # Its text, not its path, is what a run holds on to.
    prompt_file: Path | None = _setting(None, "text file with {query} that replaces the dialect's question", free=True)
    temperature: float = _setting(0.0, "0 is greedy", ge=0)
    top_p: float = _setting(1.0, "nucleus sampling", gt=0, le=1)
    n: int = _setting(1, "completions of each question; several need a temperature above 0", ge=1, lt=_BOUND)
    max_tokens: int = _setting(1500, "longest completion", ge=1, lt=_BOUND)
    seed: int = _setting(0, "of sampling", ge=0, lt=_BOUND)

    @property
    def sampling(self) -> Sampling:
        """How completions are drawn."""
        return Sampling(self.temperature, self.top_p, self.n, self.max_tokens, self.seed)


class EvalSettings(_Section):
    """How predictions are scored. Free: answers and masks are the same under every protocol, and scores name theirs."""

    protocol: str = _setting("genseg", "conventions of the scores: genseg, gres, lisa, seg-zero, res", free=True)
    box_score: Literal["constant", "segmenter"] | None = _setting(
        None,
        "by which AP ranks boxes: constant, or segmenter (its estimate, or the score in given predictions); null: the protocol's",
        free=True,
    )
    tiny_area: int | None = _setting(
        None,
        "a mask of fewer pixels is an abstention in a second reading; null: the protocol's",
        free=True,
        ge=0,
        lt=_BOUND,
    )
    inclusive_boxes: bool | None = _setting(
        None, "both corners belong to a box, as in Seg-Zero's rewards; null: the protocol's", free=True
    )
    resamples: int = _setting(1000, "of the bootstrap behind the intervals", free=True, ge=0, lt=_BOUND)


class RewardSettings(_Section):
    """Weights of the reward's terms, 0 switching one off: by default the distance reward. `genseg train` uses them."""

    think_format: float = _setting(1.0, "completion is exactly think and answer part, 0 or 1")
    answer_format: float = _setting(1.0, "valid boxes and points, 0 to 2")
    accuracy: float = _setting(1.0, "boxes and points near the true ones, or a true abstention, 0 to 3")
    non_repetition: float = _setting(1.0, "think text without sentences that repeat, 0 or 1")
    mask_iou: float = _setting(0.0, "IoU of the segmenter's union mask with the true one, 0 to 1")
    negative_points: float = _setting(0.0, "share of negative points that lie in the background of the box, 0 to 1")
    no_target: float = _setting(0.0, "honest abstention 1, hallucination -1, wrong abstention -0.5")
    tiered_mask: float = _setting(0.0, "SAM-R1: 4, 3, 2 for a mask IoU above 0.8, 0.7, 0.5")
    mask_structure: float = _setting(0.0, "Seg-R1: 0.7 IoU + 0.3 S-measure, 0 to 1")
    squared_overlaps: float = _setting(0.0, "LENS: box IoU squared + mask IoU squared, 0 to 2")
    soft_format: bool = _setting(False, "partial credit for think tags, and answers read as evaluation reads them")
    device: str = _setting("auto", "of the segmenter: auto (the trainer's own), cpu, cuda:7", free=True)


class TrainSettings(_Section):
    """How the policy is trained. Defaults are those of the paper (table 1) and belong to no library."""

    stage: Literal["grpo", "sft"] = _setting("grpo", "grpo: by reward; sft: from true answers, a cold start")
    data: str = _setting("visionreasoner-7k", "prepared folder, or recipe whose prepared folder is taken")
    epochs: float = _setting(1.0, "passes over the data", gt=0)
    lr: float = _setting(1e-6, "learning rate, constant after the warm-up", gt=0)
    warmup_steps: int = _setting(0, "over which the learning rate rises", ge=0, lt=_BOUND)
    weight_decay: float = _setting(1e-2, "of AdamW", ge=0)
    max_grad_norm: float = _setting(1.0, "at which gradients are clipped", gt=0)
    prompts_per_step: int = _setting(8, "questions behind one update", ge=1, lt=_BOUND)
    num_generations: int = _setting(8, "completions of each question (grpo)", ge=2, lt=_BOUND)
    micro_batch: int = _setting(2, "sequences of a forward pass on each device", free=True, ge=1, lt=_BOUND)
    beta: float = _setting(5e-3, "weight of the KL divergence from the start, by the low-variance estimator k3", ge=0)
    epsilon: float = _setting(0.2, "clip of the probability ratio", gt=0, lt=1)
    epsilon_high: float | None = _setting(None, "its upper clip where that differs (clip-high)", gt=0)
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo"] = _setting("grpo", "how tokens are averaged, by TRL's names")
    scale_rewards: Literal["group", "batch", "none"] = _setting("group", "what divides the advantages")
    entropy_coef: float = _setting(0.0, "weight of an entropy bonus", ge=0)
    temperature: float = _setting(1.0, "of the rollouts", gt=0)
    top_p: float = _setting(1.0, "of the rollouts", gt=0, le=1)
    max_prompt_tokens: int = _setting(
        2048, "a longer prompt is never cut: train.bad_rows says what happens", ge=1, lt=_BOUND
    )
    max_response_tokens: int = _setting(1500, "longest completion", ge=1, lt=_BOUND)
    seed: int = _setting(0, "of order, sampling and dropout", ge=0, lt=_BOUND)
    precision: Literal["auto", "bf16", "fp32"] = _setting("auto", "of the forward pass; auto: bf16 on a GPU, else fp32")
    gradient_checkpointing: bool | None = _setting(
        None, "recompute activations instead of keeping them; null: on a GPU", free=True
    )
    rollout: Literal["transformers", "colocate", "server"] = _setting(
        "transformers", "what writes completions: the trainer's model, vLLM beside it, or a vLLM server", free=True
    )
    rollout_url: str | None = _setting(None, "address of the vLLM server", free=True)
    rollout_memory: float = _setting(
        0.3, "share of the GPU's memory for vLLM beside the trainer", free=True, gt=0, lt=1
    )
    lora: bool = _setting(False, "train low-rank adapters only, merged when a checkpoint is exported")
    lora_rank: int = _setting(64, "of the adapters", ge=1, lt=_BOUND)
    lora_alpha: int = _setting(128, "their scale, times 1 / rank", ge=1, lt=_BOUND)
    save_steps: int = _setting(50, "steps between checkpoints", free=True, ge=1, lt=_BOUND)
    keep: int | None = _setting(None, "newest checkpoints that are kept; null: all", free=True, ge=1, lt=_BOUND)
    bad_rows: Literal["refuse", "skip"] = _setting(
        "refuse", "where samples cannot be trained on: begin not at all, or without them", free=True
    )
    eval_data: str | None = _setting(None, "held-out prepared folder; null: no evaluation on the way", free=True)
    eval_steps: int = _setting(50, "steps between evaluations", free=True, ge=1, lt=_BOUND)
    eval_limit: int = _setting(200, "references of each evaluation", free=True, ge=1, lt=_BOUND)
    report_to: str = _setting("tensorboard", "none, tensorboard, trackio, wandb; several with commas", free=True)


class Settings(_Section):
    """Everything that can be set, one section for each part of the work."""

    model: ModelSettings = Field(ModelSettings(), description="the policy and its engine")
    segmenter: SegmenterSettings = Field(SegmenterSettings(), description="the segmenter")
    predict: PredictSettings = Field(PredictSettings(), description="asking and answering")
    eval: EvalSettings = Field(EvalSettings(), description="scoring")
    train: TrainSettings = Field(TrainSettings(), description="training")
    reward: RewardSettings = Field(RewardSettings(), description="what training rewards")


_TRAINING = frozenset({"train", "reward"})
"""Sections that decide what a trained policy becomes, and nothing about the answers of one that is there."""


@dataclass(frozen=True)
class Resolved:
    """Settings and, by dotted key, where each value came from."""

    settings: Settings
    origins: Mapping[str, str]

    def rows(self) -> list[tuple[str, Any, str]]:
        """Dotted key, value as plain JSON, origin; in the order of the sections. Passwords in addresses are left out."""
        values = dict(_leaves(self.settings.model_dump(mode="json")))
        if self.settings.model.base_url is not None:
            values["model.base_url"] = _USERINFO.sub("", self.settings.model.base_url)
        return [(key, value, self.origins.get(key, DEFAULT)) for key, value in values.items()]

    def identity(self, *, training: bool = False) -> dict[str, Any]:
        """The values that decide the results, by dotted key; those of training only for a run that trains."""
        return {
            key: value
            for key, value, _ in self.rows()
            if not _is_free(key) and (training or key.partition(".")[0] not in _TRAINING)
        }

    @property
    def digest(self) -> str:
        return digest(self.identity())


def digest(value: Any) -> str:
    """First 8 hex digits of the SHA-256 of a plain JSON value, whatever the order of its keys."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:8]


def is_unicode(value: object) -> bool:
    """Whether a value, if it is a text or path, can be written as UTF-8: arguments and file names can hold any bytes."""
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return True


def presets() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in (files("gensegcli") / "presets").iterdir()
        if entry.name.endswith(".toml")
    )


def resolve(
    *,
    base: tuple[str, Mapping[str, Any]] | None = None,
    preset: str | None = None,
    file: Path | None = None,
    assignments: Iterable[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> Resolved:
    """Lay the sources over each other.

    Args:
        base: where settings come from that lie under all others, and their dotted keys → values.
        preset: a name from `presets()`.
        file: TOML with the same sections.
        assignments: `section.key=value`, the value as in TOML or a bare text.
        flags: dotted key → value; what is None was not given.

    Raises:
        GensegError: unknown preset, unreadable file, unknown key (with the nearest one), a value out of its range
            (with where it came from).
    """
    layers: list[tuple[str, dict[str, Any]]] = []
    if base is not None:
        layers.append((base[0], {key: value for key, value in base[1].items() if value is not None}))
    if preset is not None:
        layers.append((f"preset {preset}", _preset(preset)))
    if file is not None:
        layers.append((str(file), dict(_leaves(read_toml(file)))))
    layers += [("--set", dict([_assignment(text)])) for text in assignments]
    layers.append(("flag", {key: value for key, value in (flags or {}).items() if value is not None}))

    known = dict(_leaves(Settings().model_dump()))
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        for key, value in layer.items():
            if key not in known:
                raise _unknown_key(key, origin, known)
            if not is_unicode(value):
                raise GensegError(f"{key} ({origin}): not valid UTF-8, found {str(value)!r}", hint=_description(key))
            values[key], origins[key] = value, origin
    return Resolved(_validated(values, origins), origins)


def engine_options(values: Mapping[str, Any]) -> EngineOptions:
    """Settings of an engine by name.

    Raises:
        GensegError: unknown name (with the nearest one), or a value out of its range.
    """
    for name in values:
        if name not in EngineOptions.model_fields:
            raise unknown_name("engine setting", name, EngineOptions.model_fields)
    try:
        return EngineOptions.model_validate(values)
    except ValidationError as error:
        raise _out_of_range(error, "model", dict.fromkeys((f"model.{name}" for name in values), "argument")) from None


def _out_of_range(error: ValidationError, section: str, origins: Mapping[str, str]) -> GensegError:
    """The first value that is none, by its dotted key, with where it came from."""
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, (*filter(None, [section]), *first["loc"])[:2]))
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    origin = origins.get(key, DEFAULT)
    return GensegError(f"{key} ({origin}): {message}, found {excerpt(first['input'])}", hint=_description(key))


def _validated(values: Mapping[str, Any], origins: Mapping[str, str]) -> Settings:
    sections: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value
    try:
        return Settings.model_validate(sections)
    except ValidationError as error:
        raise _out_of_range(error, "", origins) from None


def _preset(name: str) -> dict[str, Any]:
    if name not in presets():
        raise unknown_name("preset", name, presets(), hint="a TOML file of your own goes with --config")
    text = (files("gensegcli") / "presets" / f"{name}.toml").read_text(encoding="utf-8")
    return dict(_leaves(parse_toml(text, f"preset {name}")))


def _assignment(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise GensegError(f"--set {text}: expected section.key=value", hint="for example --set predict.seed=1")
    return key.strip(), parse_setting(value)


def _of_leaf(key: str, names: Iterable[str]) -> list[str]:
    """The settings whose last part is that of a key: who writes `mode` means `predict.mode`."""
    leaf = key.rpartition(".")[2].replace("-", "_")
    leaf = _OTHER_NAMES.get(leaf, leaf)
    return [name for name in names if name.rpartition(".")[2] == leaf]


_OTHER_NAMES = {"prompt_mode": "mode"}
"""Options of the command line that are called otherwise than the setting."""


def _unknown_key(key: str, origin: str, known: Iterable[str]) -> GensegError:
    names = list(known)
    nearest = _of_leaf(key, names) or get_close_matches(key, names, n=1, cutoff=0.5)
    section = key.partition(".")[0]
    others = [name for name in names if name.startswith(f"{section}.")] or sorted({n.partition(".")[0] for n in names})
    suggestion = f"did you mean {nearest[0]}? " if nearest else ""
    return GensegError(f"unknown setting {key!r} ({origin})", hint=f"{suggestion}known: {', '.join(others)}")


def _leaves(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Values by dotted key, `section.name`. What nests deeper has a key that no setting has."""
    for section, values in tree.items():
        if not isinstance(values, dict):
            yield section, values
            continue
        for name, value in values.items():
            if isinstance(value, dict):
                inner = next(iter(value), "{}")
                yield f"{section}.{name}.{inner}", None
            else:
                yield f"{section}.{name}", value


def _field(key: str) -> Any:
    section, _, name = key.partition(".")
    return type(getattr(Settings(), section)).model_fields[name]


def _description(key: str) -> str:
    return f"{key}: {_field(key).description}"


def _is_free(key: str) -> bool:
    return bool(_field(key).json_schema_extra["free"])
