"""The pictures that a file, folder or pattern names, in a stable order, with everything that is passed over counted."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from gensegcli.download import is_url
from gensegcli.images import HEIF_SUFFIXES, readable_suffixes
from gensegcli.manifests import READERS, reading

if TYPE_CHECKING:
    from collections.abc import Iterator

_GLOB = re.compile(r"[*?\[]")

_FOLDER, _NO_ENDING, _BROKEN_LINK, _OTHER = "folder", "without ending", "broken link", "no regular file"


class LeftOut:
    """What a folder or a pattern held beside pictures, counted by kind. Hidden files are nobody's pictures."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()

    def add(self, path: str) -> None:
        """Count a file or folder that is passed over."""
        self.kinds[_kind(path)] += 1

    def __str__(self) -> str:
        r"""`1 HEIC, 1 PDF, 1 without ending, 2 folders`; empty if there is nothing.

        >>> left_out = LeftOut()
        >>> left_out.kinds.update(["HEIC", "folder", "folder", "without ending"])
        >>> str(left_out)
        '1 HEIC, 1 without ending, 2 folders'
        """
        last = (_NO_ENDING, _BROKEN_LINK, _OTHER, _FOLDER)
        names = sorted(self.kinds, key=lambda kind: (last.index(kind) + 1 if kind in last else 0, kind))
        return ", ".join(f"{self.kinds[kind]} {_plural(kind, self.kinds[kind])}" for kind in names)

    @property
    def cure(self) -> str:
        """What reads the rest; empty if nothing does."""
        cures = []
        if any(f".{kind.lower()}" in HEIF_SUFFIXES for kind in self.kinds):
            cures.append("pip install pillow-heif reads HEIC")
        if self.kinds[_FOLDER]:
            cures.append("--recursive goes into folders")
        return "; ".join(cures)


def listed(text: str, *, recursive: bool = False, left_out: LeftOut | None = None) -> Iterator[str]:
    """Pictures and manifests that one input names, in a stable order.

    Args:
        text: an address or a file, which stand for themselves; a folder, of which the pictures are taken; or a pattern.
        recursive: go into the folders of a folder too, after its own pictures. A folder that links lead to twice is gone
            through once.
        left_out: where the files and folders that are passed over are counted.

    Raises:
        GensegError: a folder that may not be read.
    """
    left_out = LeftOut() if left_out is None else left_out
    # `os.path`, here and below: for a name that no file system takes `Path.is_file` raises, and this says no.
    if is_url(text) or os.path.isfile(text):  # noqa: PTH113
        yield text
    elif os.path.isdir(text):  # noqa: PTH112
        yield from _of_folder(text, left_out, recursive=recursive)
    elif is_pattern(text):
        known = readable_suffixes() | READERS.keys()
        for name in sorted(glob.glob(text, recursive=True)):  # noqa: PTH207 (absolute patterns are welcome)
            if Path(name).suffix.lower() in known and os.path.isfile(name):  # noqa: PTH113
                yield name
            elif "**" not in text or not os.path.isdir(name):  # noqa: PTH112 (`**` has gone into the folders)
                left_out.add(name)


def is_pattern(text: str) -> bool:
    """Whether a text holds wildcards."""
    return _GLOB.search(text) is not None


def _of_folder(folder: str, left_out: LeftOut, *, recursive: bool) -> Iterator[str]:
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        with reading(here):
            stamp = os.stat(here)  # noqa: PTH116
            if recursive and (stamp.st_dev, stamp.st_ino) in seen:
                continue
            seen.add((stamp.st_dev, stamp.st_ino))
            with os.scandir(here) as entries:
                found = sorted((e.name, e.is_dir(), e.is_file()) for e in entries if not e.name.startswith("."))
        deeper = []
        for name, is_folder, is_file in found:
            path = str(Path(here, name))
            if is_folder and recursive:
                deeper.append(path)
            elif is_file and Path(name).suffix.lower() in readable_suffixes():
                yield path
            else:
                left_out.add(path)
        waiting += reversed(deeper)


def _kind(path: str) -> str:
    if os.path.isdir(path):  # noqa: PTH112
        return _FOLDER
    if not os.path.exists(path):  # noqa: PTH110
        return _BROKEN_LINK
    if not os.path.isfile(path):  # noqa: PTH113
        return _OTHER
    ending = Path(path).suffix.removeprefix(".")
    return ending.upper() if ending.isalnum() else _NO_ENDING


def _plural(kind: str, count: int) -> str:
    return (
        kind
        if count == 1
        else {_FOLDER: "folders", _BROKEN_LINK: "broken links", _OTHER: "no regular files"}.get(kind, kind)
    )
