"""What is built and what is pinned: the wheel holds the package data, and the pinned sets fit the ranges."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINNED_SETS = ("base", "demo", "test")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built by the back end that pip would use."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True, timeout=120
    )
    (built,) = folder.glob("genseg-*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_every_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "src/gensegcli"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    expected = {name.removeprefix("src/") for name in tracked.stdout.splitlines() if (ROOT / name).exists()}
    assert expected - set(wheel.namelist()) == set()


def test_the_wheel_holds_models_presets_and_the_marker_of_types(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert "gensegcli/py.typed" in names
    assert any(re.fullmatch(r"gensegcli/presets/[\w.-]+\.toml", name) for name in names)
    for part in ("policy", "segmenter"):
        for wanted in ("config.json", "model.safetensors"):
            assert f"gensegcli/miniature/{part}/{wanted}" in names
    assert "gensegcli/miniature/policy/chat_template.jinja" in names
    assert not [name for name in names if "__pycache__" in name or not name.startswith(("gensegcli/", "genseg-"))]


def test_the_wheel_is_small_enough_to_ship(wheel: zipfile.ZipFile) -> None:
    megabytes = sum(item.compress_size for item in wheel.infolist()) / 1e6
    assert megabytes < 14, "12 MB of bundled models, and code"


def test_the_wheel_offers_the_command_and_its_licence(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
    assert "genseg = gensegcli.cli.app:main" in wheel.read(entry_points).decode()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel.namelist())


# ---------------------------------------------------------------- pinned sets


def _pins(name: str) -> dict[str, list[Requirement]]:
    """Distribution → its pins; more than one where a version depends on the Python."""
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].partition("--hash")[0].strip()
        if text:
            pin = Requirement(text)
            found.setdefault(canonicalize_name(pin.name), []).append(pin)
    return found


def _version(pins: list[Requirement], python: str) -> str | None:
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
    for pin in pins:
        if pin.marker is None or pin.marker.evaluate({key: str(value) for key, value in environment.items()}):
            (specifier,) = pin.specifier
            assert specifier.operator == "==", pin
            return specifier.version
    return None


def _wanted(name: str) -> list[Requirement]:
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    texts = {
        "base": project["dependencies"],
        "demo": [*project["dependencies"], *extras["local"]],
        "test": [*project["dependencies"], *extras["local"], *extras["train"], *PROJECT["dependency-groups"]["dev"]],
    }[name]
    return [Requirement(text) for text in texts if not text.startswith("genseg[")]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("name", PINNED_SETS)
def test_the_pinned_sets_fit_the_ranges(name: str, python: str) -> None:
    pins = _pins(name)
    wrong = []
    for wanted in _wanted(name):
        version = _version(pins.get(canonicalize_name(wanted.name), []), python)
        if version is None or not wanted.specifier.contains(version):
            wrong.append(f"{wanted}: pinned {version}")
    assert not wrong, "make requirements"


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("name", ["base", "demo"])
def test_the_smaller_sets_are_parts_of_the_tested_one(name: str, python: str) -> None:
    tested = _pins("test")
    different = {
        distribution
        for distribution, pins in _pins(name).items()
        if (version := _version(pins, python)) is not None and version != _version(tested[distribution], python)
    }
    assert not different


def test_the_base_set_has_no_torch() -> None:
    assert {"torch", "transformers", "triton", "nvidia-cublas"} & set(_pins("base")) == set()


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").iterdir()), ids=lambda path: path.name)
def test_the_pinned_sets_name_no_index_and_no_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"(?:https?|file)://\S*|--(?:index|extra-index|find-links)\S*|(?:^|\s)/\S+", text)


def test_the_pin_of_sam2_carries_its_hash() -> None:
    text = (ROOT / "requirements" / "sam2.txt").read_text(encoding="utf-8")
    assert re.search(r"^sam2==1\.1\.0 --hash=sha256:[0-9a-f]{64}$", text, re.MULTILINE)
