"""Write what the code says about itself into docs/: the CLI reference, the file tree, the table of models.

With --check nothing is written; the exit code says whether the pages are up to date.
"""

from __future__ import annotations

import ast
import difflib
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from gensegcli.errors import ExitCode

if TYPE_CHECKING:
    from gensegcli.families import PolicyEntry, SegmenterEntry

DOCS = Path(__file__).resolve().parent
PACKAGE = DOCS.parent / "src" / "gensegcli"

BLOCK = "<!-- {name}: written by `make docs` -->\n{body}<!-- end of {name} -->"

# In a command's help, as `cli.app` writes it: the backspace keeps the lines apart in a terminal.
EXAMPLES = re.compile(r"\x08\nExamples:\n(?P<lines>(?:[ ]+.*\n)+)")

# One line for every exit code; a code without a line here is a KeyError, not a gap in the table.
MEANING = {
    ExitCode.DONE: "done",
    ExitCode.USAGE: "wrong usage: an option, a value or an input that cannot be what was meant",
    ExitCode.ENVIRONMENT: "something is missing in the environment: a package, a device, a server; `genseg doctor` tells",
    ExitCode.NOT_FOUND: "a file, model or data set was not found",
    ExitCode.SOME_FAILED: "the batch is done, but some of its samples failed; they are listed in `failed.jsonl`",
    ExitCode.OVERLAP: "overlap between sets was found and `--fail-on-overlap` given",
    ExitCode.NO_TARGET: "nothing was found and `--fail-on-no-target` given",
    ExitCode.INTERRUPTED: "interrupted; the same command again goes on where it stopped",
}


def cli_page() -> str:
    """docs/cli.md: Typer's reference of every command, then the exit codes."""
    reference = subprocess.run(
        [sys.executable, "-m", "typer", "gensegcli.cli.app", "utils", "docs", "--name", "genseg"],
        check=True,
        capture_output=True,
        encoding="utf-8",
    ).stdout.replace("* `--help`:", "* `-h, --help`:")  # Typer lists its own name for it only
    lines = [
        "<!-- Written by `make docs`; edit the commands instead. -->",
        "",
        *(line.rstrip() for line in EXAMPLES.sub(_fenced, reference).strip().splitlines()),
        "",
        "## Exit codes",
        "",
        "Data goes to stdout, words to stderr. An error is a line that begins with `error:`, often with a `hint:` below.",
        "",
        "| code | meaning |",
        "|---|---|",
        *(f"| {code.value} | {MEANING[code]} |" for code in ExitCode),
    ]
    return "\n".join(lines) + "\n"


def _fenced(found: re.Match[str]) -> str:
    return f"**Examples**:\n\n```console\n{textwrap.indent(textwrap.dedent(found['lines']), '$ ')}```\n"


def _with_block(page: str, name: str, body: str) -> str:
    """A stored page with what stands between the marks of a block renewed."""
    begin, end = BLOCK.format(name=name, body="\0").split("\0")
    before, _, rest = _stored(page).partition(begin)
    _, _, after = rest.partition(end)
    return before + begin + body + end + after


def architecture_page() -> str:
    """docs/architecture.md with the file tree renewed."""
    return _with_block("architecture.md", "tree", "\n".join(["```", *_tree(PACKAGE), "```"]) + "\n")


def models_page() -> str:
    """docs/models.md with the table of model names renewed."""
    from gensegcli.models import POLICIES, SEGMENTERS

    def source(entry: PolicyEntry | SegmenterEntry) -> str:
        return "bundled" if entry.bundled else f"`{entry.source}`" if entry.source else "no weights"

    policies = [
        f"| `{name}` | {source(entry)} | {entry.parameters} | `{entry.dialect}` | {entry.coordinates.value} "
        f"| `{entry.segmenter}` |"
        for name, entry in POLICIES.items()
    ]
    segmenters = [f"| `{name}` | {source(entry)} | {entry.parameters} |" for name, entry in SEGMENTERS.items()]
    lines = [
        "| `--model` | from | parameters | dialect | answers in | segmenter by default |",
        "|---|---|---|---|---|---|",
        *policies,
        "",
        "| `--segmenter` | from | parameters |",
        "|---|---|---|",
        *segmenters,
    ]
    return _with_block("models.md", "names", "\n".join(lines) + "\n")


def _tree(folder: Path, depth: int = 0) -> list[str]:
    """A line for every module under a folder: its name and the first sentence of its docstring."""
    indent = "  " * depth
    lines = []
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        if path.suffix == ".py" and path.name != "__init__.py":
            lines.append(f"{indent}{path.name:<{24 - len(indent)}} {_summary(path)}".rstrip())
        elif (path / "__init__.py").is_file():
            lines.append(f"{indent}{path.name + '/':<{24 - len(indent)}} {_summary(path / '__init__.py')}".rstrip())
            lines += _tree(path, depth + 1)
    return lines


def _summary(module: Path) -> str:
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n\n")[0].replace("\n", " ").replace("`", "").rstrip(".")


PAGES = {"cli.md": cli_page, "architecture.md": architecture_page, "models.md": models_page}


def _stored(name: str) -> str:
    path = DOCS / name
    return path.read_text(encoding="utf-8") if path.exists() else ""


def difference(name: str) -> str:
    """A unified diff from a page on disk to what the code says; empty where they agree."""
    stored, current = _stored(name).splitlines(keepends=True), PAGES[name]().splitlines(keepends=True)
    return "".join(difflib.unified_diff(stored, current, f"docs/{name}", "the code"))


def main() -> int:
    """Write the pages, or check them."""
    if "--check" in sys.argv[1:]:
        found = "".join(difference(name) for name in PAGES)
        sys.stdout.write(found)
        if found:
            sys.stderr.write("error: docs/ is out of date\nhint: make docs\n")
        return int(bool(found))
    for name, build in PAGES.items():
        (DOCS / name).write_text(build(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
