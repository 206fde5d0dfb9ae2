"""Imports run one way, the base install needs no torch, and help loads next to nothing.

cli → pipeline, train, … → policy, segmenter, dialects, sources, … → geometry → records, config, errors
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "gensegcli"

# From the bottom up. A module may import from its own layer and from those before it. A new top-level module or folder
# must be given its place here.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"config", "errors", "files", "harmless", "lean", "presets", "records"}),
    frozenset({"geometry"}),
    frozenset(
        {
            "atomic",
            "checkpoints",
            "download",
            "families",
            "fonts",
            "images",
            "mask_files",
            "model_list",
            "models",
            "predictions",
        }
    )
    | frozenset({"columns", "pretrained", "stream"}),
    frozenset({"dialects", "draw", "exports", "metrics", "policy", "rewards", "segmenter", "sources"})
    | frozenset({"listing", "manifests", "requests", "standard_input", "store"}),
    frozenset({"audit", "batch", "demo", "doctor", "evaluate", "jobs", "loading", "miniature"})
    | frozenset({"pipeline", "prep", "train"}),
    frozenset({"cli", "__main__"}),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
# `import gensegcli` offers the public names, each imported on first use: it stands above everything but the CLI.
RANK["__init__"] = RANK["pipeline"]

# The modules that a base install cannot import, by prefix.
NEEDS_EXTRAS = (
    "miniature",
    "policy.attention",
    "policy.cache",
    "policy.decoding",
    "policy.hf",
    "policy.vllm",
    "segmenter.memory",
    "segmenter.sam2",
    "segmenter.sam2_lean",
    "segmenter.sam2_load",
    "segmenter.sam2_meta",
    "segmenter.sam2_weights",
    "segmenter.upsample",
    "train",
)

# What the base install does not have. `packaging`, `yaml` and the like come along with something, but are not promised.
ABSENT_FROM_BASE = (
    "accelerate", "datasets", "gradio", "huggingface_hub", "jinja2", "peft", "ray", "safetensors", "sam2", "tokenizers",
    "torch", "torchvision", "transformers", "trl", "vllm",
)  # fmt: skip

# What help and completion must not wait for. Pydantic is Typer's own dependency from 0.29, imported only for coercion.
HEAVY = {
    *ABSENT_FROM_BASE, "PIL", "cv2", "numpy", "openai", "orjson", "pyarrow", "pycocotools", "pydantic", "rich", "scipy",
}  # fmt: skip

IMPORT_NAME = {"opencv-python-headless": "cv2", "pillow": "PIL"}
"""Distributions whose import name differs from their own."""


class Import(NamedTuple):
    """One import statement: who, what, where, and whether it runs when the importing module is loaded."""

    importer: str
    imported: str
    line: int
    at_load: bool


def _modules() -> dict[str, Path]:
    """Dotted name within the package → file; `policy/__init__.py` is `policy`, the package itself `__init__`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[-1] == "__init__" and len(parts) > 1:
            parts = parts[:-1]
        found[".".join(parts)] = path
    return found


MODULES = _modules()


def _imports(module: str) -> Iterator[Import]:
    """Every import of a module that is not only for the type checker."""

    def walk(node: ast.AST, *, at_load: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                for other in child.orelse:
                    yield from walk(other, at_load=at_load)
            elif isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(module, alias.name, child.lineno, at_load)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module}:{child.lineno}: relative import"
                for alias in child.names:
                    whole = f"{child.module}.{alias.name}"
                    is_module = whole.removeprefix("gensegcli.") in MODULES
                    yield Import(module, whole if is_module else str(child.module), child.lineno, at_load)
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, at_load=at_load and not inside)

    yield from walk(ast.parse(MODULES[module].read_text(encoding="utf-8")), at_load=True)


def _own(dotted: str) -> str | None:
    """The module of ours that a dotted name means, or None for somebody else's."""
    if dotted == "gensegcli":
        return "__init__"
    head, _, rest = dotted.partition(".")
    return rest if head == "gensegcli" else None


ALL_IMPORTS = [found for module in MODULES for found in _imports(module)]


def test_every_module_has_a_layer() -> None:
    unplaced = {module for module in MODULES if module.split(".")[0] not in RANK}
    assert not unplaced, "give these a place in LAYERS"


def test_imports_run_one_way() -> None:
    upward = [
        f"{found.importer}:{found.line} imports {own}"
        for found in ALL_IMPORTS
        # The version is a constant of the package itself; reading it loads nothing.
        if (own := _own(found.imported)) not in (None, "__init__")
        and RANK.get(own.split(".")[0], 0) > RANK.get(found.importer.split(".")[0], 0)
    ]
    assert not upward


def test_modules_form_no_cycle_while_they_load() -> None:
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for found in ALL_IMPORTS:
        own = _own(found.imported)
        if found.at_load and own in MODULES and own != found.importer:
            graph[found.importer].add(own)
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


def _needs_extras(module: str) -> bool:
    return any(module == prefix or module.startswith(prefix + ".") for prefix in NEEDS_EXTRAS)


BASE_MODULES = [module for module in MODULES if not _needs_extras(module) and module != "__main__"]


def test_base_modules_load_only_what_the_base_install_promises() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [Requirement(text).name for text in project["dependencies"]]
    promised = {IMPORT_NAME.get(name, name) for name in names} | {"gensegcli"} | set(sys.stdlib_module_names)
    foreign = [
        f"{found.importer}:{found.line} imports {found.imported}"
        for found in ALL_IMPORTS
        if found.at_load and found.importer in BASE_MODULES and found.imported.split(".")[0] not in promised
    ]
    assert not foreign


def test_base_modules_load_where_torch_and_its_kind_are_absent() -> None:
    program = """
import importlib, json, sys
modules, absent = json.loads(sys.argv[1])

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
for module in modules:
    importlib.import_module(module)
print(len(modules))
"""
    dotted = ["gensegcli" if module == "__init__" else f"gensegcli.{module}" for module in BASE_MODULES]
    assert _python(program, json.dumps([dotted, ABSENT_FROM_BASE])) == str(len(BASE_MODULES))
    assert len(BASE_MODULES) > 20


@pytest.mark.parametrize("module", ["gensegcli", "gensegcli.cli.app"])
def test_the_way_to_help_loads_nothing_heavy(module: str) -> None:
    loaded = _python(f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))")
    assert HEAVY & set(loaded.split()) == set()


def test_help_of_every_command_loads_nothing_heavy() -> None:
    from gensegcli.cli.app import CommandTable

    paths = [[]]
    for name, command in CommandTable().items():
        paths += [[name], *([name, inner] for inner in getattr(command, "commands", {}))]
    program = """
import contextlib, io, json, sys
from gensegcli.cli.app import app

paths = json.loads(sys.argv[1])
shown = io.StringIO()
with contextlib.redirect_stdout(shown):
    for path in paths:
        with contextlib.suppress(SystemExit):
            app([*path, "--help"], prog_name="genseg")
assert shown.getvalue().count("Usage: genseg") == len(paths), shown.getvalue()
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
    assert HEAVY & set(_python(program, json.dumps(paths)).split()) == set()


def _python(program: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
