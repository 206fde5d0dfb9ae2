from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import gensegcli
from gensegcli.cli import console
from gensegcli.cli.app import COMMANDS, CommandTable
from gensegcli.errors import GensegError

if TYPE_CHECKING:
    from collections.abc import Callable


def _python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_help_lists_every_command_with_its_first_sentence(genseg: Callable[..., Any]) -> None:
    result = genseg("--help")
    assert result.exit_code == 0
    assert result.stderr == ""
    listed = [line.split()[0] for line in result.stdout.split("Commands:\n")[1].splitlines() if line.startswith("  ")]
    assert listed[: len(COMMANDS)] == list(COMMANDS)
    assert "Segment what QUERY describes in a picture" in result.stdout
    assert "130 interrupted" in " ".join(result.stdout.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_and_its_options_are_described(genseg: Callable[..., Any], name: str) -> None:
    result = genseg(name, "--help")
    assert result.exit_code == 0
    assert f"  genseg {name}" in result.stdout.split("Examples:")[1]
    undescribed = [option.name for option in CommandTable()[name].params if not option.help]
    assert undescribed == []


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom gensegcli.cli.app import main\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'PIL', 'pydantic', 'rich', 'orjson', 'transformers', 'cv2'} & set(sys.modules)\n"
        "print(*sorted(heavy), file=sys.stderr)"
    )
    done = _python("-c", code)
    assert done.stdout.startswith("Usage: ")
    assert done.stderr.strip() == ""


def test_version_and_module_call() -> None:
    done = _python("-m", "gensegcli", "--version")
    assert (done.stdout, done.returncode) == (f"genseg {gensegcli.__version__}\n", 0)


def test_no_arguments_show_the_help_and_count_as_usage_error(genseg: Callable[..., Any]) -> None:
    result = genseg()
    assert result.exit_code == 2
    assert "Commands:" in result.output


def test_an_unknown_command_gets_the_nearest(genseg: Callable[..., Any]) -> None:
    result = genseg("predct")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "No such command 'predct'. Did you mean 'predict'" in result.stderr


@pytest.mark.parametrize(
    ("words", "position", "expected"),
    [
        ("genseg pred", 1, {"predict"}),
        ("genseg predict --mod", 2, {"--mode", "--model"}),
        ("genseg predict --model qwen3", 3, {"qwen3-vl-2b", "qwen3-vl-4b", "qwen3-vl-8b", "qwen3-vl-32b"}),
        ("genseg predict --preset gen", 3, {"genseg-r1-4b", "genseg-r1-8b", "genseg-r1-g", "genseg-r1-g-noneg"}),
        ("genseg predict --segmenter box", 3, {"boxfill"}),
        ("genseg predict --mode box+2+", 3, {"box+2+neg"}),
    ],
)
def test_completion(words: str, position: int, expected: set[str]) -> None:
    done = _python("-m", "gensegcli", _GENSEG_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(position))
    assert set(done.stdout.split()) == expected


def test_errors_are_one_line_each_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console.error(GensegError("two\nlines\r of it", hint="and\n\ta hint"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: two lines of it\nhint: and a hint\n"


@pytest.mark.parametrize(
    ("problem", "code", "words"),
    [
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 5000), 2, f"error: {'x' * 300}: File name too long"),
        (PermissionError(errno.EACCES, "Permission denied", "out/a"), 3, "error: out/a: Permission denied"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a"), 4, "error: a: No such file or directory"),
        (OSError(errno.ENOSPC, "No space left on device", "a"), 3, "error: a: No space left on device"),
        (OSError(errno.ENOSPC, "No space left on device"), 3, "error: the output cannot be written (No space left"),
        (OSError(errno.EIO, "Input/output error", b"a"), 3, "error: a: Input/output error"),
        (MemoryError("Unable to allocate 8 GiB"), 3, "error: out of memory (Unable to allocate 8 GiB)"),
        (MemoryError(), 3, "error: out of memory"),
    ],
)
def test_what_the_system_says_is_one_line(
    genseg: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, problem: Exception, code: int, words: str
) -> None:
    def broken() -> None:
        raise problem

    monkeypatch.setattr("gensegcli.model_list.model_rows", broken)
    result = genseg("models")
    assert result.exit_code == code
    assert result.stderr.startswith(words)
    assert [line.split(":")[0] for line in result.stderr.splitlines()] in (["error"], ["error", "hint"])


def test_an_error_of_the_system_that_names_no_file_is_a_bug(
    genseg: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("gensegcli.model_list.model_rows", broken)
    with pytest.raises(OSError, match="Invalid argument"):
        genseg("models")


def test_a_full_disk_below_the_output_is_one_line() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gensegcli", "models", "--json"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.stderr.startswith(b"error: the output cannot be written (No space left on device)")
    assert done.returncode == 3


def test_a_bug_keeps_its_traceback(genseg: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("gensegcli.model_list.model_rows", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        genseg("models")
