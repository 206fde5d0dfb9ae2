"""Results on disk that survive a kill at any moment: append-only JSONL keyed by id, and the run they belong to.

A line is handed to the operating system the moment it is finished, so a killed process loses nothing of it; it is
forced to the disk every second, so a power cut loses at most that. A half-written last line is cut off when the file
is opened again.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

import orjson

from gensegcli.atomic import open_file, replacing, saving
from gensegcli.errors import ExitCode, GensegError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from pathlib import Path

SYNC_RECORDS = 256
SYNC_SECONDS = 1.0

_SHOWN = 60
"""Characters of a differing value in a message."""

_HINT = "nothing finished is lost: make room or choose another folder with --out, and run the same command again"


class Records(AbstractContextManager["Records", None]):
    """An append-only JSONL file of objects with an `id`, open for one writer; other threads may read beside it.

    Raises:
        GensegError: on opening, for a file that cannot be written or a damaged line that is not the last.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        with saving(path, hint=_HINT):
            self._file = open_file(path, os.O_RDWR | os.O_CREAT)
        try:
            self._end = self._index()
            os.ftruncate(self._file, self._end)
        except BaseException:
            os.close(self._file)
            raise
        self._unsynced, self._synced_at = 0, monotonic()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def done_ids(self) -> frozenset[str]:
        """The ids that have a record."""
        return frozenset(self._places)

    def __getitem__(self, name: str) -> dict[str, Any]:
        """The record of an id, read from the file."""
        start, length = self._places[name]
        with self._lock:
            os.lseek(self._file, start, os.SEEK_SET)
            return orjson.loads(_read(self._file, length))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All records, in the order in which they were added."""
        return (self[name] for name in list(self._places))

    def append(self, record: Mapping[str, Any], *, replace: bool = False) -> None:
        """Add a record; once this returns, a kill of the process cannot lose it.

        Args:
            record: with an `id`.
            replace: it may take the place of an earlier one: both lines stay in the file, and the later one counts.

        Raises:
            GensegError: the disk is full, or cannot be written; the file then ends with the record before.
            ValueError: the id has a record already, and it is not to be replaced.
        """
        name = record["id"]
        if name in self._places and not replace:
            raise ValueError(f"{self.path}: id {name!r} is there already")
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        with self._lock, saving(self.path, hint=_HINT):
            try:
                os.lseek(self._file, self._end, os.SEEK_SET)
                rest = memoryview(line)
                while rest:
                    rest = rest[os.write(self._file, rest) :]
            except OSError:
                os.ftruncate(self._file, self._end)
                raise
        self._places[name] = (self._end, len(line))
        self._end += len(line)
        self._unsynced += 1
        if self._unsynced >= SYNC_RECORDS or monotonic() - self._synced_at >= SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Force everything to the disk."""
        with saving(self.path, hint=_HINT):
            os.fsync(self._file)
        self._unsynced, self._synced_at = 0, monotonic()

    def close(self) -> None:
        """Force everything to the disk and close the file."""
        try:
            self.sync()
        finally:
            os.close(self._file)

    def _index(self) -> int:
        """Note where each record stands; the offset behind the last whole line."""
        end = 0
        with os.fdopen(os.dup(self._file), "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    break
                self._places[self._id_of(line, number)] = (end, len(line))
                end += len(line)
        return end

    def _id_of(self, line: bytes, number: int) -> str:
        try:
            name = orjson.loads(line)["id"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise GensegError(
                f"{self.path}:{number}: not a record of genseg ({error})",
                hint="remove that line, or begin anew with --restart",
                code=ExitCode.NOT_FOUND,
            ) from error
        return str(name)


class RunFolder(AbstractContextManager["RunFolder", None]):
    """The folder of one run: `run.json` (what is being run), its records, `failed.jsonl`; one writer at a time.

    Attributes:
        records: what is finished, in `predictions.jsonl` unless named otherwise; never asked for again.
        failed: failures of this attempt; the next attempt tries them again and begins the file anew.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, Any], *, records: str = "predictions.jsonl", restart: bool = False
    ) -> None:
        """Open or create the folder.

        Args:
            folder: made if it is not there.
            identity: everything that decides what the results are; plain JSON values.
            records: name of the file of finished records.
            restart: forget the records of an earlier run.

        Raises:
            GensegError: it holds a run with another identity (the differing keys are named), another process writes
                to it, or it cannot be written.
        """
        self.folder = folder
        with saving(folder, hint=_HINT):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(folder)
        try:
            if restart:
                for name in ("run.json", records, "failed.jsonl"):
                    (folder / name).unlink(missing_ok=True)
            self._check_identity(identity, records)
            self.records = Records(folder / records)
            (folder / "failed.jsonl").unlink(missing_ok=True)
        except BaseException:
            os.close(self._lock)
            raise
        self._failed: Records | None = None

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def failed(self) -> Records:
        """Made on first use: a run without failures has no such file."""
        if self._failed is None:
            self._failed = Records(self.folder / "failed.jsonl")
        return self._failed

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Add facts to run.json that do not decide the results: origins of the settings, versions, the machine."""
        path = self.folder / "run.json"
        write_json(path, {**orjson.loads(path.read_bytes()), **facts})

    def pin(self, facts: Mapping[str, Any]) -> None:
        """Add what decides the results and is known only later (revisions of loaded models) to the identity.

        Raises:
            GensegError: an earlier attempt had others.
        """
        path = self.folder / "run.json"
        run = orjson.loads(path.read_bytes())
        facts = orjson.loads(orjson.dumps(facts))
        pinned = run.setdefault("pinned", {})
        again = [name for name in facts if name in pinned]
        self._refuse_changes({name: pinned[name] for name in again}, {name: facts[name] for name in again})
        if len(again) < len(facts):
            write_json(path, {**run, "pinned": {**pinned, **facts}})

    def close(self) -> None:
        """Flush and unlock."""
        try:
            self.records.close()
            if self._failed is not None:
                self._failed.close()
        finally:
            os.close(self._lock)

    def _check_identity(self, identity: Mapping[str, Any], records: str) -> None:
        path = self.folder / "run.json"
        wanted = orjson.loads(orjson.dumps(identity))
        if not path.exists():
            if (self.folder / records).exists():
                raise GensegError(
                    f"{self.folder}: holds {records}, but no run.json that says how it was made",
                    hint="choose another folder with --out, or begin anew with --restart",
                )
            write_json(path, {"started": datetime.now(UTC).isoformat(timespec="seconds"), "identity": wanted})
            return
        try:
            found = orjson.loads(path.read_bytes())["identity"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise GensegError(f"{path}: not a run of genseg ({error})", hint="begin anew with --restart") from error
        self._refuse_changes(found, wanted)

    def _refuse_changes(self, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        changed = list(differences(found, wanted))
        if changed:
            raise GensegError(
                f"{self.folder}: was begun with other settings: {'; '.join(changed)}",
                hint="choose another folder with --out, or begin anew with --restart",
            )


def write_json(path: Path, value: object) -> None:
    """Write a JSON file whole or not at all."""
    with saving(path, hint=_HINT), replacing(path) as stream:
        stream.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def differences(old: Any, new: Any, key: str = "") -> Iterator[str]:
    """`model.name was "a", is "b"` for every leaf that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            yield from differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif old != new:
        yield f"{key} was {_short(old)}, is {_short(new)}"


def _short(value: Any) -> str:
    """JSON of at most some 60 characters."""
    text = orjson.dumps(value).decode()
    if len(text) <= _SHOWN:
        return text
    return f"{text[:_SHOWN]}…" + (f" ({len(value)} in all)" if isinstance(value, list) else "")


def _read(file: int, length: int) -> bytes:
    parts: list[bytes] = []
    while length:
        part = os.read(file, length)
        if not part:
            raise EOFError("the file was shortened by somebody else")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Hold the folder for this process while the block runs.

    Raises:
        GensegError: another process holds it.
    """
    file = _lock(folder)
    try:
        yield
    finally:
        os.close(file)


def _lock(folder: Path) -> int:
    """Lock the folder for this process; the lock goes with the process, however it ends."""
    with saving(folder / ".lock", hint=_HINT):
        file = open_file(folder / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        if error.errno not in {errno.EAGAIN, errno.EACCES}:
            message = f"{folder}: cannot be locked ({error.strerror})"
            hint = "choose a folder on a local disk with --out"
            raise GensegError(message, hint=hint, code=ExitCode.ENVIRONMENT) from error
        raise GensegError(
            f"{folder}: another genseg is writing to this folder",
            hint="wait for it to end, or choose another folder with --out",
        ) from error
    return file
