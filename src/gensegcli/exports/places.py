"""Where the pictures of predictions are, as far as their names say: files on this disk, and the folder they share."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gensegcli.download import is_url
from gensegcli.errors import GensegError

if TYPE_CHECKING:
    from collections.abc import Iterable

_DIGEST = re.compile(r"(?:bytes|pixels):[0-9a-f]{16}")
"""What stands for a picture that had neither path nor address."""


class Root(NamedTuple):
    """The folder that file names are relative to."""

    shown: str | None
    """As an export states it; None where the pictures have no folder in common."""
    folder: str | None
    """Absolute."""


def local_path(image: str) -> str | None:
    """The absolute path of a prediction's picture; None for an address and for a picture that was no file.

    Links are not followed: a picture is where its name says.
    """
    if is_url(image) or _DIGEST.fullmatch(image):
        return None
    return os.path.abspath(image)  # noqa: PTH100 (a text, as it comes)


def picture_key(image: str) -> str:
    """The same for every spelling of a picture's name: `a.jpg`, `./a.jpg` and `x/../a.jpg` are one picture."""
    return local_path(image) or image


def images_root(images: Iterable[str], given: Path | None = None) -> Root:
    """The folder below which pictures are named.

    Args:
        images: of predictions.
        given: asked for; otherwise the lowest folder that holds all those that are files.

    Raises:
        GensegError: a picture is not below the folder asked for.
    """
    paths = {path: image for image in images if (path := local_path(image)) is not None}
    if given is not None:
        folder = os.path.abspath(given)  # noqa: PTH100
        for path, image in paths.items():
            if not Path(path).is_relative_to(folder):
                raise GensegError(f"{image}: not below --images-root {given}", hint="name a folder above all pictures")
        return Root(str(given), folder)
    try:
        folder = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120
    except ValueError:  # no files at all, or on several drives
        return Root(None, None)
    absolute = any(os.path.isabs(image) for image in paths.values())  # noqa: PTH117
    return Root(folder if absolute else os.path.relpath(folder), folder)


def name_below(root: Root, image: str) -> str:
    """What an export calls a picture: its path below the root, with slashes; as the prediction has it where there is none."""
    path = local_path(image)
    if path is None:
        return image
    return Path(path if root.folder is None else os.path.relpath(path, root.folder)).as_posix()
