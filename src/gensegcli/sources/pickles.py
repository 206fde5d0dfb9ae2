"""Pickles of plain containers, read without the danger: a pickle can call any function, these cannot call one."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, NoReturn

from gensegcli.errors import ExitCode, GensegError

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 1 << 30
"""The largest of these files has 60 MB; a gigabyte is no annotation file."""


class _Refused(pickle.UnpicklingError):
    """The pickle asks for something other than plain values."""


class _PlainUnpickler(pickle.Unpickler):
    """Knows dicts, lists, tuples, sets, strings, bytes, numbers, booleans and None: what needs no import to build."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise _Refused(f"it asks for {module}.{name}")

    def persistent_load(self, pid: object) -> NoReturn:
        raise _Refused(f"it refers to something outside the file ({pid!r})")


def read_pickle(path: Path) -> object:
    """The value of a pickle that holds plain containers and nothing else; Python 2 strings are read as latin1.

    Every import a pickle can ask for passes through one method, and that method refuses: nothing is called.

    Raises:
        GensegError: the pickle asks for anything else, or is damaged, or is not there.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise GensegError(f"{path}: larger than {MAX_BYTES >> 20} MB, which no annotation file is")
        data = path.read_bytes()
    except OSError as error:
        raise GensegError(f"{path}: cannot be read ({error.strerror})", code=ExitCode.NOT_FOUND) from error
    try:
        return _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
    except _Refused as refused:
        raise GensegError(
            f"{path}: refused, because {refused}; annotations are plain lists, dicts, strings and numbers",
            hint="a pickle that asks for more can run code: get the file from where the data set is published",
        ) from None
    except RecursionError:
        raise GensegError(f"{path}: nested too deeply for an annotation file") from None
    # What a damaged pickle raises: the stack machine pops what is not there, or makes containers of the wrong things.
    except (
        pickle.UnpicklingError, EOFError, IndexError, KeyError, ValueError, TypeError, AttributeError, OverflowError,
        MemoryError,
    ) as error:  # fmt: skip
        raise GensegError(
            f"{path}: a damaged pickle ({error or type(error).__name__})", hint="get the file again"
        ) from None
