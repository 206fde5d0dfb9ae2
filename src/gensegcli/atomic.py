"""Files that are there whole or not at all, and where they are said to be.

A folder got from others may hold symbolic links to anywhere: below the folder that the user names, none is followed.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from gensegcli.errors import ExitCode, GensegError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


@contextmanager
def saving(path: Path, *, hint: str = "") -> Generator[None]:
    """Turn what the operating system says about writing (disk full, read-only, …) into one line for the user."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink():
            raise is_a_link(path) from error
        message = f"{path}: cannot be saved ({error.strerror or error})"
        raise GensegError(message, hint=hint, code=ExitCode.ENVIRONMENT) from error


def is_a_link(path: Path) -> GensegError:
    """The refusal of a symbolic link where genseg keeps what is its own."""
    return GensegError(
        f"{path}: a symbolic link, which may lead anywhere, where genseg writes a file or folder of its own",
        hint="remove the link, or choose another folder with --out",
        code=ExitCode.ENVIRONMENT,
    )


def own_folder(root: Path, *names: str) -> Path:
    """The folder `root/name/name/…`, made if it is not there.

    Args:
        root: the folder that the user named, which may be a link of theirs.
        names: of the folders that genseg keeps in it.

    Raises:
        GensegError: one of them is a symbolic link.
        OSError: one cannot be made.
    """
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        root /= name
        if root.is_symlink():
            raise is_a_link(root)
        root.mkdir(exist_ok=True)
    return root


def discard(folder: Path) -> None:
    """Remove a folder that genseg wrote, as far as that is possible; of a symbolic link the link alone."""
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def open_file(path: Path, flags: int) -> int:
    """The descriptor of a binary file, opened with these flags, which is never what a symbolic link leads to.

    Raises:
        OSError: as `os.open`; ELOOP for a symbolic link.
    """
    return os.open(path, flags | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0), 0o666)


@contextmanager
def replacing(path: Path, *, tag: str = "") -> Generator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends well, and vanishes when it does not.

    Its folder is created. The temporary file stands beside it, hidden, under a fixed name: what a kill leaves behind is
    removed by the next attempt, and so is a link that somebody has put there. One writer at a time per path; with a `tag` in the temporary name, one per tag.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}{tag}.partial")
    try:
        partial.unlink(missing_ok=True)
        with os.fdopen(open_file(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
