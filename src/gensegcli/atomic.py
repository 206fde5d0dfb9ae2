"""Files that are there whole or not at all."""

from __future__ import annotations

import os
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
        message = f"{path}: cannot be saved ({error.strerror or error})"
        raise GensegError(message, hint=hint, code=ExitCode.ENVIRONMENT) from error


@contextmanager
def replacing(path: Path, *, tag: str = "") -> Generator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends well, and vanishes when it does not.

    Its folder is created. The temporary file stands beside it, hidden, under a fixed name: what a kill leaves behind is
    overwritten by the next attempt. One writer at a time per path; with a `tag` in the temporary name, one per tag.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}{tag}.partial")
    try:
        with partial.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
