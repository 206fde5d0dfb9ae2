"""The one table of model names, and how a name becomes files: alias, hub id (`owner/name[@revision]`) or local folder.

The coordinate convention belongs to the entry, and a saved checkpoint carries its own in `genseg.json`, which wins:
it was written beside the weights by whoever trained them. Without one, `model_type` in config.json decides. Nothing
here imports torch, and the hub is asked only for what is not cached, never while offline.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gensegcli import checkpoints
from gensegcli.errors import ExitCode, GensegError, unknown_name
from gensegcli.families import (
    BUNDLED,
    DEFAULT_SEGMENTER,
    FAMILIES,
    SEGMENTER_TYPES,
    Coordinates,
    PolicyEntry,
    SegmenterEntry,
    policy_entry,
)
from gensegcli.files.text import invalid
from gensegcli.records import Size

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BUNDLED",
    "CARD",
    "DEFAULT_POLICY",
    "DEFAULT_SEGMENTER",
    "POLICIES",
    "SEGMENTERS",
    "Coordinates",
    "PolicyEntry",
    "ResolvedPolicy",
    "ResolvedSegmenter",
    "SegmenterEntry",
    "resolve_policy",
    "resolve_segmenter",
]

DEFAULT_POLICY = "qwen3-vl-4b"

# The peers were trained on pictures stretched to 840 × 840, and answer in those pixels.
_SQUASH_840 = Size(840, 840)
_PEERS = {
    "seg-zero-7b": ("Ricky06662/Seg-Zero-7B", "seg-zero"),
    "visionreasoner-7b": ("Ricky06662/VisionReasoner-7B", "vision-reasoner"),
    "visurf-7b": ("Ricky06662/Visurf-7B-Best-on-gRefCOCO", "visurf"),
}

POLICIES: dict[str, PolicyEntry] = {
    entry.alias: entry
    for entry in (
        policy_entry(
            "demo",
            str(BUNDLED / "policy"),
            "qwen3_vl",
            dialect="genseg-mini",
            parameters="4.2M",
            segmenter="demo",
            max_tokens=512,  # the longest true answer has 230
        ),
        policy_entry("qwen3-vl-2b", "Qwen/Qwen3-VL-2B-Instruct", "qwen3_vl", parameters="2.1B"),
        policy_entry("qwen3-vl-4b", "Qwen/Qwen3-VL-4B-Instruct", "qwen3_vl", parameters="4.4B"),
        policy_entry("qwen3-vl-8b", "Qwen/Qwen3-VL-8B-Instruct", "qwen3_vl", parameters="8.8B"),
        policy_entry("qwen3-vl-32b", "Qwen/Qwen3-VL-32B-Instruct", "qwen3_vl", parameters="33B"),
        policy_entry("qwen2.5-vl-3b", "Qwen/Qwen2.5-VL-3B-Instruct", "qwen2_5_vl", parameters="3.8B"),
        policy_entry("qwen2.5-vl-7b", "Qwen/Qwen2.5-VL-7B-Instruct", "qwen2_5_vl", parameters="8.3B"),
        *(
            policy_entry(alias, source, "qwen2_5_vl", dialect=dialect, parameters="8.3B", squash=_SQUASH_840)
            for alias, (source, dialect) in _PEERS.items()
        ),
    )
}

_SAM2_SIZES = {"tiny": "39M", "small": "46M", "base-plus": "81M", "large": "224M"}

SEGMENTERS: dict[str, SegmenterEntry] = {
    entry.alias: entry
    for entry in (
        SegmenterEntry("demo", str(BUNDLED / "segmenter"), "sam2", "1.5M"),
        *(SegmenterEntry(f"sam2-{s}", f"facebook/sam2-hiera-{s}", "sam2", n) for s, n in _SAM2_SIZES.items()),
        *(SegmenterEntry(f"sam2.1-{s}", f"facebook/sam2.1-hiera-{s}", "sam2", n) for s, n in _SAM2_SIZES.items()),
        SegmenterEntry("boxfill", None, "boxfill", "0"),
    )
}

# ---------------------------------------------------------------- resolution

CARD = "genseg.json"
"""Written beside a checkpoint's weights: dialect, coordinates, prompt_digest, segmenter, pixel budget."""

Side = Annotated[int, Field(ge=1, le=1 << 16)]
Area = Annotated[int, Field(ge=1, lt=1 << 32)]


class _Card(BaseModel):
    """genseg.json. Every key may be missing; unknown ones are a later version's."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    dialect: str | None = None
    coordinates: Coordinates | None = None
    prompt_digest: str | None = None
    segmenter: str | None = None
    min_pixels: Area | None = None
    max_pixels: Area | None = None
    squash: tuple[Side, Side] | None = None


_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True)
class _Resolved:
    """Where a model is. `path` is None until it has been fetched, and for what has no files."""

    id: str
    repo: str | None
    """Hub id; None for local and bundled models."""
    wanted: str
    """Branch, tag or commit asked for; "main" unless the name said otherwise."""
    path: Path | None
    revision: str | None
    """Commit of a hub model, content digest of a local one; None while not fetched."""

    @property
    def cached(self) -> bool:
        """Whether it can be loaded without the hub."""
        return self.repo is None or (self.path is not None and checkpoints.complete(self.path))


@dataclass(frozen=True, slots=True)
class ResolvedPolicy(_Resolved):
    """A policy's conventions and files."""

    entry: PolicyEntry
    prompt_digest: str | None = None
    """Digest of the prompt the checkpoint was trained with; None where it does not say."""

    def within(self, max_pixels: int | None) -> ResolvedPolicy:
        """The same with another upper bound on the area of the resized picture; None changes nothing.

        Raises:
            GensegError: a bound below the model's lower one.
        """
        if max_pixels is None:
            return self
        if max_pixels < self.entry.min_pixels:
            raise GensegError(f"max_pixels {max_pixels} is less than the {self.entry.min_pixels} that {self.id} needs")
        return replace(self, entry=replace(self.entry, max_pixels=max_pixels))

    def look(self) -> None:
        """Find out whether `fetch` has a chance, at the cost of small files; imports no engine.

        Raises:
            GensegError: as `fetch`.
        """
        if self.cached:
            _check_whole(self)
        else:
            _check_policy(self.id, _metadata(self))

    def fetch(self) -> ResolvedPolicy:
        """The same with its files on disk, downloaded if need be (small files first: a wrong type costs no gigabytes).

        Raises:
            GensegError: not to be had (offline, unreachable, …) or not a policy's checkpoint.
        """
        if self.cached:
            _check_whole(self)
            return self
        _check_policy(self.id, _metadata(self))
        return replace(self, **_weights(self))


@dataclass(frozen=True, slots=True)
class ResolvedSegmenter(_Resolved):
    """A segmenter's files; `path` stays None for a segmenter without weights."""

    entry: SegmenterEntry

    @property
    def backend(self) -> str:
        return self.entry.backend

    def look(self) -> None:
        """See `ResolvedPolicy.look`."""
        if self.cached:
            _check_whole(self)
        else:
            _check_segmenter(self.id, _metadata(self, instead=checkpoints.WITHOUT_SEGMENTER))

    def fetch(self) -> ResolvedSegmenter:
        """The same with its files on disk; see `ResolvedPolicy.fetch`."""
        if self.cached:
            _check_whole(self)
            return self
        _check_segmenter(self.id, _metadata(self, instead=checkpoints.WITHOUT_SEGMENTER))
        return replace(self, **_weights(self, instead=checkpoints.WITHOUT_SEGMENTER))


def resolve_policy(name: str) -> ResolvedPolicy:
    """What `--model NAME` means. Asks the hub only for a hub id that is neither in the table nor cached.

    Raises:
        GensegError: unknown name, no such folder, or a checkpoint of another type (exit code NOT_FOUND).
    """
    if name in POLICIES:
        return _policy_from_table(name, POLICIES[name])
    folder = _local_folder(name)
    if folder is not None:
        folder = _of_run(folder)
        entry, digest = _policy_from_folder(name, folder)
        return ResolvedPolicy(name, None, "main", folder, checkpoints.content_digest(folder), entry, digest)
    repo, wanted = _hub_id("model", name, POLICIES)
    listed = next((entry for entry in POLICIES.values() if entry.source == repo), None)
    if listed is not None:
        return _policy_from_table(repo, listed, wanted)
    folder = checkpoints.cached_snapshot(repo, wanted)
    if folder is None or not (folder / "config.json").is_file():
        folder = _asked_for(repo, wanted)
    entry, digest = _policy_from_folder(repo, folder)
    return ResolvedPolicy(repo, repo, wanted, folder, folder.name, entry, digest)


def resolve_segmenter(name: str) -> ResolvedSegmenter:
    """What `--segmenter NAME` means; the rules are those of `resolve_policy`."""
    if name in SEGMENTERS:
        return _segmenter_from_table(name, SEGMENTERS[name])
    folder = _local_folder(name)
    if folder is not None:
        _check_segmenter(name, folder)
        entry = SegmenterEntry(name, str(folder), "sam2", "")
        return ResolvedSegmenter(name, None, "main", folder, checkpoints.content_digest(folder), entry)
    repo, wanted = _hub_id("segmenter", name, SEGMENTERS)
    listed = next((entry for entry in SEGMENTERS.values() if entry.source == repo), None)
    return _segmenter_from_table(repo, listed or SegmenterEntry(repo, repo, "sam2", ""), wanted)


# ---------------------------------------------------------------- names


def _local_folder(name: str) -> Path | None:
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise GensegError(
            f"{name}: a file, expected a model folder (config.json, *.safetensors, tokenizer)",
            hint="name the folder that holds it",
            code=ExitCode.NOT_FOUND,
        )
    if name.startswith((".", "/", "~")) or path.is_absolute():
        raise GensegError(f"{name}: no such folder", code=ExitCode.NOT_FOUND)
    return None


def _of_run(folder: Path) -> Path:
    """The model in the folder of a training run: the finished one, else the newest checkpoint; else the folder itself.

    A checkpoint's card is written after its weights: without one it was cut off.
    """
    if (folder / "config.json").is_file():
        return folder
    steps = {path.name.removeprefix("checkpoint-"): path for path in folder.glob("checkpoint-*")}
    newest_first = sorted((step for step in steps if step.isdecimal()), key=int, reverse=True)
    places = [folder / "model", *(steps[step] for step in newest_first)]
    return next((place for place in places if (place / CARD).is_file()), folder)


def _hub_id(kind: str, name: str, known: Iterable[str]) -> tuple[str, str]:
    repo, _, revision = name.partition("@")
    if not _HUB_ID.fullmatch(repo):
        hint = "or give a hub id (owner/name) or a local folder"
        if kind == "model":
            hint += f"; a name that only a server knows goes beside --model: --set model.served_model={name}"
        raise unknown_name(kind, name, known, hint=hint)
    return repo, revision or "main"


def _asked_for(repo: str, wanted: str, *, instead: str = checkpoints.WITHOUT_POLICY) -> Path:
    """The small files of a model on the hub; where a folder may have been meant, a failure says so, too."""
    try:
        return checkpoints.download(repo, wanted, patterns=checkpoints.METADATA, instead=instead)
    except GensegError as error:
        parent = Path(repo).parent
        if not parent.is_dir():
            raise
        message = f"{repo}: no such folder ({parent} holds none of that name), and as a hub id: {error.message}"
        raise GensegError(message, hint=error.hint, code=error.code) from error


def _policy_from_table(name: str, entry: PolicyEntry, wanted: str = "main") -> ResolvedPolicy:
    if entry.bundled:
        folder = _bundled(name, Path(entry.source))
        found, digest = _policy_from_folder(name, folder)
        entry = replace(found, alias=entry.alias, parameters=entry.parameters, max_tokens=entry.max_tokens)
        return ResolvedPolicy(name, None, wanted, folder, checkpoints.content_digest(folder), entry, digest)
    folder = checkpoints.cached_snapshot(entry.source, wanted)
    if folder is not None and (folder / "config.json").is_file():
        _check_policy(name, folder)
    return ResolvedPolicy(entry.source, entry.source, wanted, folder, folder.name if folder else None, entry)


def _segmenter_from_table(name: str, entry: SegmenterEntry, wanted: str = "main") -> ResolvedSegmenter:
    if entry.source is None:
        return ResolvedSegmenter(name, None, wanted, None, None, entry)
    if entry.bundled:
        folder = _bundled(name, Path(entry.source))
        _check_segmenter(name, folder)
        return ResolvedSegmenter(name, None, wanted, folder, checkpoints.content_digest(folder), entry)
    folder = checkpoints.cached_snapshot(entry.source, wanted)
    if folder is not None and (folder / "config.json").is_file():
        _check_segmenter(name, folder)
    return ResolvedSegmenter(entry.source, entry.source, wanted, folder, folder.name if folder else None, entry)


def _bundled(name: str, folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise GensegError(
            f"{name}: the bundled model is missing from this installation ({folder})",
            hint="reinstall genseg, or train the miniature: make miniature",
            code=ExitCode.NOT_FOUND,
        )
    return folder


# ---------------------------------------------------------------- files


def _metadata(model: _Resolved, *, instead: str = checkpoints.WITHOUT_POLICY) -> Path:
    assert model.repo is not None
    return _asked_for(model.repo, model.wanted, instead=instead)


def _check_whole(model: _Resolved) -> None:
    missing = None if model.path is None else checkpoints.missing_file(model.path)
    if missing is not None:
        raise GensegError(
            f"{model.id}: no {missing} in {model.path}",
            hint="expected a folder as transformers saves it, with weights as safetensors",
            code=ExitCode.NOT_FOUND,
        )


def _weights(model: _Resolved, *, instead: str = checkpoints.WITHOUT_POLICY) -> dict[str, Any]:
    assert model.repo is not None
    folder = checkpoints.download(model.repo, model.wanted, instead=instead)
    if not checkpoints.complete(folder):
        raise GensegError(
            f"{model.repo}: the download is not whole, or it holds no safetensors weights ({folder})",
            hint="run the command again to go on with the download; weights in other formats are not loaded",
            code=ExitCode.NOT_FOUND,
        )
    return {"path": folder, "revision": folder.name}


def _model_type(name: str, folder: Path) -> str:
    path = folder / "config.json"
    if not path.is_file():
        raise GensegError(
            f"{name}: no config.json in {folder}, expected a model folder (config.json, *.safetensors, tokenizer)",
            code=ExitCode.NOT_FOUND,
        )
    return str(checkpoints.read_sizes(path).get("model_type"))


def _check_policy(name: str, folder: Path) -> str:
    found = _model_type(name, folder)
    if found in FAMILIES:
        return found
    raise GensegError(
        f"{name}: config.json says model_type {found!r}, expected a vision-language model ({', '.join(sorted(FAMILIES))})",
        hint="this is a segmenter: give it as --segmenter"
        if found in SEGMENTER_TYPES
        else "`genseg models` lists what fits",
        code=ExitCode.NOT_FOUND,
    )


def _check_segmenter(name: str, folder: Path) -> None:
    found = _model_type(name, folder)
    if found not in SEGMENTER_TYPES:
        raise GensegError(
            f"{name}: config.json says model_type {found!r}, expected a segmenter ({', '.join(sorted(SEGMENTER_TYPES))})",
            hint="this is a policy: give it as --model" if found in FAMILIES else "`genseg models` lists what fits",
            code=ExitCode.NOT_FOUND,
        )


def _policy_from_folder(name: str, folder: Path) -> tuple[PolicyEntry, str | None]:
    """The conventions of a checkpoint by its own files, and the digest of the prompt it was trained with."""
    entry = policy_entry(name, str(folder), _check_policy(name, folder))
    entry = replace(entry, **_processor_budget(folder, entry))
    path = folder / CARD
    if not path.is_file():
        return entry, None
    try:
        card = _Card.model_validate(checkpoints.read_json(path))
    except ValidationError as error:
        raise invalid(error, str(path), hint="see docs/models.md for its keys", code=ExitCode.NOT_FOUND) from None
    stated = card.model_dump(exclude_none=True, exclude={"prompt_digest", "squash"})
    entry = replace(entry, **stated, squash=Size(*card.squash) if card.squash else None)
    if entry.min_pixels > entry.max_pixels:
        raise GensegError(
            f"{path}: min_pixels: at most the {entry.max_pixels} of max_pixels expected, {entry.min_pixels} found",
            hint="see docs/models.md for its keys",
            code=ExitCode.NOT_FOUND,
        )
    return entry, card.prompt_digest or None


def _processor_budget(folder: Path, entry: PolicyEntry) -> dict[str, int]:
    """Factor and pixel budget that the checkpoint's own processor states.

    Its upper bound is kept only below the family's: the published processors allow 16 million pixels, far more than
    anything was trained on, and a copy of a published model must behave like its alias.
    """
    own: dict[str, Any] = {}
    for file, key in (("processor_config.json", "image_processor"), ("preprocessor_config.json", None)):
        if (folder / file).is_file():
            config = checkpoints.read_sizes(folder / file)
            own = (config.get(key) or {}) if key else config
            if own:
                break
    try:
        size = own.get("size") or {}
        lowest = own.get("min_pixels") or size.get("shortest_edge") or entry.min_pixels
        highest = own.get("max_pixels") or size.get("longest_edge") or entry.max_pixels
        factor = int(own.get("patch_size") or 0) * int(own.get("merge_size") or 0) or entry.factor
        return {"factor": factor, "min_pixels": int(lowest), "max_pixels": min(int(highest), 1280 * factor * factor)}
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise GensegError(
            f"{folder / file}: not the settings of an image processor ({error})", code=ExitCode.NOT_FOUND
        ) from error
