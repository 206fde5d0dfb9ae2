"""Where raw files lie: the usual folders are tried, and what was looked for is said when nothing is there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gensegcli.errors import ExitCode, GensegError
from gensegcli.sources.coco import find_picture

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

COCO_FOLDERS = (
    "images/mscoco/images/train2014",
    "images/train2014",
    "coco_2014/train2014",
    "coco2014/train2014",
    "coco/train2014",
    "coco/images/train2014",
    "mscoco/train2014",
    "train2014",
    "images/train2017",
    "coco_2017/train2017",
    "coco2017/train2017",
    "coco/train2017",
    "coco/images/train2017",
    "train2017",
)
"""Where tools of this field keep the pictures of COCO, below the root."""

COCO_HINT = (
    "the pictures are COCO train2014 (cocodataset.org, 13 GB): unpack them below the root, or name their folder "
    "with --images DIR"
)


def first_file(root: Path, names: Iterable[str], *, what: str, hint: str) -> Path:
    """The first of the files that exists below the root.

    Raises:
        GensegError: none does; all that were looked for are named.
    """
    tried = [root / name for name in names]
    for path in tried:
        if path.is_file():
            return path
    raise _nothing(what, tried, hint)


def first_folder(root: Path, names: Iterable[str], *, what: str, hint: str) -> Path:
    """The first of the folders that exists below the root.

    Raises:
        GensegError: none does; all that were looked for are named.
    """
    tried = [root / name for name in names]
    for path in tried:
        if path.is_dir():
            return path
    raise _nothing(what, tried, hint)


def _nothing(what: str, tried: Sequence[Path], hint: str) -> GensegError:
    return GensegError(
        f"{what} not found; looked for {', '.join(map(str, tried))}",
        hint=f"{hint}; --root (or $GENSEG_DATA) names the folder above",
        code=ExitCode.NOT_FOUND,
    )


class CocoPictures:
    """The files of COCO's pictures, found by picture id.

    The name in a reference is not a file's name (it carries the annotation id), and copies of the pictures are named
    in the way of 2014 or of 2017: all of them are tried.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # One listing instead of a look at the disk for every picture.
        self._names = frozenset(entry.name for entry in os.scandir(folder))

    def find(self, image_id: int, file_name: str) -> Path | None:
        """The file of a picture, or None. `file_name` is the one that instances.json gives."""
        number = f"{image_id:012d}.jpg"
        for name in (file_name, f"COCO_train2014_{number}", number, f"COCO_val2014_{number}"):
            if name in self._names:
                return self.folder / name
            if ("/" in name or "\\" in name) and (path := find_picture(self.folder, name)) is not None:
                return path
        return None
