"""The documents say what the code does: the CLI reference, the links, the file tree, the commands that are shown."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

from docs.generate import PAGES as GENERATED
from docs.generate import difference

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
PAGE_IDS = [str(page.relative_to(ROOT)) for page in PAGES]

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
FENCE = re.compile(r"^```(?:console|sh|bash)?\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", GENERATED)
def test_generated_pages_are_what_the_code_says(name: str) -> None:
    assert difference(name) == "", "run `make docs`"


@pytest.mark.parametrize("name", GENERATED)
def test_a_page_that_was_edited_by_hand_is_noticed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import docs.generate

    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    (tmp_path / name).write_text(text.replace("demo", "demonstration", 1), encoding="utf-8")
    monkeypatch.setattr(docs.generate, "DOCS", tmp_path)
    assert "demonstration" in difference(name)


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    local = [target for target in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]
    missing = [target for target in local if not (page.parent / target).exists()]
    assert not missing


def test_what_is_said_to_be_installed_is_this_folder_and_an_extra_of_it() -> None:
    """The name `genseg` on a package index is nobody's: who took it could have what users install."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    said = set()
    for path in [*PAGES, *(ROOT / "src").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\bgenseg(?:cli)?\[\w|pip install\s+(?:-\S+\s+)*['\"]?genseg", text), path
        said.update(re.findall(r"pip install ['\"]\.\[([\w,]+)\]['\"]", text))
    assert {"local", "vllm", "sam2"} <= said <= set(extras)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "cli.md"], ids=lambda page: page.name)
def test_every_genseg_command_shown_exists_with_its_options(page: Path) -> None:
    from gensegcli.cli.app import COMMANDS, CommandTable

    table = CommandTable()
    wrong = []
    for line in _shown_commands(page.read_text(encoding="utf-8")):
        words = shlex.split(line, comments=True)[1:]
        name = next((word for word in words if not word.startswith("-")), None)
        if name is not None and name not in COMMANDS:
            wrong.append(f"{line}: no command {name}")
            continue
        if name is None:
            continue
        command = _meant(table[name], words[words.index(name) + 1 :])
        known = {text for parameter in command.params for text in (*parameter.opts, *parameter.secondary_opts)}
        known |= {"--help", "-h"}
        wrong += [
            f"{line}: no option {word}"
            for word in (word.partition("=")[0] for word in words if word.startswith("-") and word != "-")
            if word not in known
        ]
    assert not wrong


def _meant(command: Any, words: list[str]) -> Any:
    """The subcommand that the words name, where a command has some; the command itself where it has none."""
    if not hasattr(command, "commands") or not words or words[0].startswith("-"):
        return command
    context = command.make_context(command.name, [], resilient_parsing=True)
    return command.resolve_command(context, words)[1]


def _shown_commands(text: str) -> list[str]:
    """The `genseg …` of every console block: prompts, pipes and redirections taken off, continued lines joined."""
    found = []
    for block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            parts = re.split(r"\||>|&&|;", line.removeprefix("$ "))
            found += [part.strip() for part in parts if part.split()[:1] == ["genseg"]]
    return found


def test_shown_commands_are_found_in_pipes_and_continued_lines() -> None:
    text = "```console\n$ cat a.jsonl | genseg predict - --json > b.jsonl\n$ genseg predict a.jpg \\\n    dog\n```\n"
    assert [" ".join(line.split()) for line in _shown_commands(text)] == [
        "genseg predict - --json",
        "genseg predict a.jpg dog",
    ]


def test_the_readme_lists_every_command() -> None:
    from gensegcli.cli.app import COMMANDS

    listed = re.findall(r"^\| `genseg ([\w-]+)` \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)
