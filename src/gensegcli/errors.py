"""The one error type a user sees, and the exit codes of the command line."""

from __future__ import annotations

import re
from difflib import get_close_matches
from enum import IntEnum
from importlib.metadata import PackageNotFoundError, requires
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class ExitCode(IntEnum):
    """Exit codes of `genseg`; documented in docs/cli.md."""

    DONE = 0
    USAGE = 2
    ENVIRONMENT = 3
    NOT_FOUND = 4
    SOME_FAILED = 5
    OVERLAP = 6
    NO_TARGET = 7
    INTERRUPTED = 130


class GensegError(Exception):
    """Something the user can mend: one line that names the thing, what was expected and what was found, and a hint."""

    def __init__(self, message: str, *, hint: str = "", code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


def unknown_name(kind: str, name: str, known: Iterable[str], *, hint: str = "") -> GensegError:
    """The error for a name that a registry does not hold: the nearest match and the known names.

    >>> unknown_name("segmenter", "sam2-lage", ["sam2-large", "boxfill"]).hint
    'did you mean sam2-large? known: boxfill, sam2-large'
    """
    return GensegError(f"unknown {kind} {name!r}", hint=suggestion(name, known, hint=hint), code=ExitCode.NOT_FOUND)


def suggestion(name: str, known: Iterable[str], *, hint: str = "") -> str:
    """A hint for a name that is not among the known ones: the nearest of them, and all."""
    names = sorted(known)
    nearest = get_close_matches(name, names, n=1, cutoff=0.5)
    rest = "; ".join(part for part in (f"known: {', '.join(names)}", hint) if part)
    return f"did you mean {nearest[0]}? {rest}" if nearest else rest


def install_hint(extra: str) -> str:
    """The command that installs what an extra of this project holds, wherever it is run.

    It names the packages: the project's own folder is only here in a checkout, and its name on a package index is not
    this project's.
    """
    try:
        listed = requires("genseg") or []
    except PackageNotFoundError:  # run from its source, without being installed
        listed = []
    wanted = re.compile(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""")
    packages = [line.partition(";")[0].strip().replace(" ", "") for line in listed if wanted.search(line)]
    if not packages:
        return f"pip install '.[{extra}]' in the project's folder"
    return "pip install " + " ".join(f'"{package}"' for package in dict.fromkeys(packages))
