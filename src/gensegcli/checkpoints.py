"""Model files on disk: the hub's cache, downloads, and a digest that tells two local checkpoints apart.

Only `download` talks to the hub, through huggingface_hub, and never while offline. The look into the cache needs no
package, so `genseg models` works on the base install.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gensegcli.errors import ExitCode, GensegError, install_hint
from gensegcli.files.text import excerpt, read_json_object, read_text

if TYPE_CHECKING:
    from collections.abc import Sequence

METADATA = ("*.json", "*.jinja")
"""Small files: enough to tell what a checkpoint is."""
EVERYTHING = (*METADATA, "*.safetensors", "*.txt", "*.model")
"""What our engines load. Weights in pickled formats are never fetched."""

WITHOUT_POLICY = "try the bundled miniature: --model demo"
WITHOUT_SEGMENTER = "take the boxes for masks: --segmenter boxfill"
"""What runs without the hub, for hints."""

_TRUE = frozenset({"1", "ON", "YES", "TRUE"})
_SIZES = frozenset(
    {
        *("hidden_size", "intermediate_size", "vocab_size", "num_attention_heads", "num_key_value_heads", "num_heads"),
        *("head_dim", "patch_size", "merge_size", "spatial_merge_size", "temporal_patch_size", "in_channels"),
        *("min_pixels", "max_pixels", "shortest_edge", "longest_edge", "num_hidden_layers"),
    }
)
_TOO_LARGE = 1 << 40
_WHOLE_FILE = 64 << 20
_SAMPLE, _SAMPLES = 1 << 16, 64


def offline() -> bool:
    """Whether the user forbade hub calls: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE, as huggingface_hub reads them."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in _TRUE


def hub_cache() -> Path:
    """The hub's cache folder, by the environment variables that huggingface_hub documents."""
    if cache := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(os.path.expandvars(cache)).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{base}/huggingface"
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def cached_snapshot(repo: str, revision: str = "main") -> Path | None:
    """The folder of a cached revision (branch, tag or commit), complete or not; None if nothing of it is there.

    The layout is the documented one: `models--OWNER--NAME/refs/REVISION` holds a commit, `snapshots/COMMIT` the files.
    """
    root = hub_cache() / f"models--{repo.replace('/', '--')}"
    ref = root / "refs" / revision
    commit = read_text(ref).strip() if ref.is_file() else revision
    folder = root / "snapshots" / commit
    return folder if folder.is_dir() else None


def complete(folder: Path) -> bool:
    """Whether config and every shard of the weights are there: an interrupted download is not a model."""
    return missing_file(folder) is None


def missing_file(folder: Path) -> str | None:
    """The first file that a model needs and that is not there: config or a shard of the weights; None if whole."""
    index = folder / "model.safetensors.index.json"
    shards = ["model.safetensors"]
    if index.is_file():
        listed = read_json(index).get("weight_map")
        if not isinstance(listed, dict) or not listed:
            raise GensegError(f"{index}: no weight_map that names the shards", code=ExitCode.NOT_FOUND)
        shards = sorted({str(shard) for shard in listed.values()})
    return next((name for name in ("config.json", *shards) if not (folder / name).is_file()), None)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a checkpoint's folder.

    Raises:
        GensegError: it is something else, or cannot be read; the message names the file.
    """
    try:
        return read_json_object(path)
    except GensegError as error:
        raise GensegError(error.message, hint=error.hint, code=ExitCode.NOT_FOUND) from None


def read_sizes(path: Path) -> dict[str, Any]:
    """As `read_json`, for a file that states the sizes of a model or of its pictures: they are whole and at least 1.

    Engines divide by them, and what they then raise names neither file nor key.

    Raises:
        GensegError: as `read_json`, or a size that is none; the message names its key.
    """
    found = read_json(path)
    inside: list[tuple[str, Any]] = list(found.items())
    while inside:
        key, value = inside.pop()
        if isinstance(value, dict):
            inside += [(f"{key}.{name}", one) for name, one in value.items()]
        elif key.rpartition(".")[2] in _SIZES:
            for one in value if isinstance(value, list) else [value]:
                _check_size(path, key, one)
    return found


def _check_size(path: Path, key: str, value: Any) -> None:
    is_size = isinstance(value, int) and not isinstance(value, bool) and 1 <= value < _TOO_LARGE
    if value is not None and not is_size:
        raise GensegError(
            f"{path}: {key}: a whole number from 1 expected, {excerpt(value)} found",
            hint="fetch or save the model again",
            code=ExitCode.NOT_FOUND,
        )


def download(
    repo: str, revision: str = "main", *, patterns: Sequence[str] = EVERYTHING, instead: str = WITHOUT_POLICY
) -> Path:
    """Fetch a snapshot from the hub and return its folder.

    Args:
        repo: hub id.
        revision: branch, tag or commit.
        patterns: names of the files wanted.
        instead: what a hint offers in place of the model.

    Raises:
        GensegError: offline, unreachable, broken off on the way, refused by the hub or by this machine's disk, no such
            repository or revision, no permission, or huggingface_hub missing.
    """
    if offline():
        raise GensegError(
            f"{repo}: not in the hub cache ({hub_cache()}), and HF_HUB_OFFLINE forbids asking the hub",
            hint=f"unset HF_HUB_OFFLINE to download it, or {instead}",
            code=ExitCode.NOT_FOUND,
        )
    try:
        import httpx
        import huggingface_hub
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
    except ImportError as error:
        raise GensegError(
            f"{repo}: downloading needs huggingface_hub, which is not installed",
            hint=install_hint("local"),
            code=ExitCode.ENVIRONMENT,
        ) from error
    try:
        return Path(huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=list(patterns)))
    except GatedRepoError as error:
        raise GensegError(
            f"{repo}: the hub asks for permission to download it",
            hint="accept its terms on the hub and log in with `hf auth login`",
            code=ExitCode.NOT_FOUND,
        ) from error
    except RevisionNotFoundError as error:
        raise GensegError(f"{repo}: the hub has no revision {revision!r}", code=ExitCode.NOT_FOUND) from error
    except RepositoryNotFoundError as error:
        raise GensegError(
            f"{repo}: no such model on the hub, or it is private",
            hint="`genseg models` lists the known names; a private model needs `hf auth login`",
            code=ExitCode.NOT_FOUND,
        ) from error
    except (httpx.HTTPError, OSError, ValueError) as error:
        # httpx's errors derive from neither of the others; the hub's own ones from at least one of the three.
        raise _failure(repo, error, instead) from error


def _failure(repo: str, error: Exception, instead: str) -> GensegError:
    """What to tell of a download that failed: the disk's fault, the hub's answer, the way there, or the way back."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    # Only the operating system numbers its errors, and those of the network arrive as httpx's or as these two.
    if isinstance(error, OSError) and error.errno and not isinstance(error, (ConnectionError, TimeoutError)):
        return GensegError(
            f"{repo}: cannot be written to the hub cache ({hub_cache()}): {error.strerror}",
            hint="make room there, or set HF_HOME to a folder with room that you may write to",
            code=ExitCode.ENVIRONMENT,
        )
    for cause in (error, error.__cause__):
        if isinstance(cause, HfHubHTTPError):
            return GensegError(
                f"{repo}: not in the hub cache ({hub_cache()}), and the hub answered HTTP {cause.response.status_code}",
                hint=f"try again later, or {instead}",
                code=ExitCode.NOT_FOUND,
            )
    never_there = (LocalEntryNotFoundError, ConnectionError, httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)
    if isinstance(error, (httpx.HTTPError, OSError)) and not isinstance(error, never_there):
        return GensegError(
            f"{repo}: the download broke off ({type(error).__name__})",
            hint="run the same command again: the files that are whole are kept",
            code=ExitCode.NOT_FOUND,
        )
    return GensegError(
        f"{repo}: not in the hub cache ({hub_cache()}), and the hub could not be reached ({type(error).__name__})",
        hint=f"check the connection, or {instead}",
        code=ExitCode.NOT_FOUND,
    )


def content_digest(folder: Path) -> str:
    """`sha256:` and 12 hex digits over configs and weights of a local checkpoint.

    Files up to 64 MiB count whole. Of larger ones the size, the safetensors header and 64 evenly spaced blocks count:
    a fraction of a second for any model, and two checkpoints of one training run still differ.
    """
    digest = hashlib.sha256()
    names = sorted(p for p in folder.iterdir() if p.suffix in {".json", ".safetensors", ".jinja"} and p.is_file())
    for path in names:
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= _WHOLE_FILE:
                digest.update(file.read())
                continue
            header = int.from_bytes(file.read(8), "little")
            digest.update(file.read(min(header, _WHOLE_FILE)))
            for i in range(_SAMPLES):
                file.seek((size - _SAMPLE) * i // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE))
    return f"sha256:{digest.hexdigest()[:12]}"
