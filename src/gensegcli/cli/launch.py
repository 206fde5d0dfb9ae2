"""Several processes of one command: torch's agent starts them, signals go on to them, and one error is told, once."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gensegcli.atomic import replacing
from gensegcli.errors import ExitCode, GensegError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from types import TracebackType

REPORTS = "GENSEG_REPORTS"
"""Environment variable of a launched process: the folder where it leaves word of how it ended."""

_KILL_AFTER = 5
"""Seconds that processes get to end after another one has failed; they hang in a collective without it."""


def launch(arguments: Sequence[str], *, nproc: int, nodes: int, rdzv: str | None) -> ExitCode:
    """Run `genseg` with the arguments in so many processes, and wait for them.

    Ctrl-C and SIGTERM go on to the processes, which end in their own time.

    Args:
        arguments: of the command line.
        nproc: processes on this machine.
        nodes: machines.
        rdzv: host and port where several machines meet.

    Raises:
        GensegError: several machines and nowhere to meet; or what the first process that failed has reported.
    """
    if nodes > 1 and rdzv is None:
        raise GensegError(
            f"{nodes} machines need a place to meet",
            hint="--rdzv HOST:PORT, the same on all of them, HOST being one of them",
        )
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // nproc)))
    config = LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=nproc,
        run_id="genseg",
        rdzv_backend="c10d",
        rdzv_endpoint=rdzv if nodes > 1 and rdzv else "localhost:0",
        local_addr=None if nodes > 1 else "localhost",
        max_restarts=0,
        signals_to_handle="SIGHUP",
        shutdown_timeout=_KILL_AFTER,
    )
    with tempfile.TemporaryDirectory(prefix="genseg-") as reports, _signals_passed_on() as signals:
        os.environ[REPORTS] = reports
        try:
            elastic_launch(config, sys.executable)("-m", "gensegcli", *arguments)
        except ChildFailedError as error:
            if not signals:
                _, failure = error.get_first_failure()
                return _tell(_first(Path(reports)) or _silent_end(failure.exitcode))
        finally:
            del os.environ[REPORTS]
        return ExitCode.INTERRUPTED if signals or _first(Path(reports)) else ExitCode.DONE


@contextmanager
def _signals_passed_on() -> Generator[list[int]]:
    """Ctrl-C and SIGTERM go to the processes of this one; those that came."""
    import psutil

    came: list[int] = []

    def pass_on(number: int, _: Any) -> None:
        came.append(number)
        for child in psutil.Process().children():
            child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---------------------------------------------------------------- reports


class Reporting:
    """In a launched process: what ends the block goes to the launcher instead of the terminal.

    The others fail as well when one does, each with a traceback about a connection that broke. The launcher tells what
    came first.
    """

    def __enter__(self) -> None:
        """Nothing needs to be prepared."""

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if error is None or REPORTS not in os.environ:
            return
        if isinstance(error, GensegError):
            report, code = {"message": error.message, "hint": error.hint}, error.code
        elif isinstance(error, KeyboardInterrupt):
            report, code = {}, ExitCode.INTERRUPTED
        else:
            report, code = {"traceback": "".join(traceback.format_exception(error))}, 1
        leave_word(code, **report)
        raise typer.Exit(code) from None


def leave_word(code: int, **more: Any) -> None:
    """Tell the launcher, if one has started this process, how it ends."""
    import orjson

    if folder := os.environ.get(REPORTS):
        row = {"time": time.time(), "code": int(code), **more}
        # Whole or not at all: the launcher may kill this process at any moment.
        with replacing(Path(folder, f"{os.environ['RANK']}.json")) as stream:
            stream.write(orjson.dumps(row))


def _first(reports: Path) -> dict[str, Any] | None:
    from gensegcli.files.text import read_json_object

    rows = [read_json_object(path) for path in reports.glob("*.json")]
    # What a process says in words comes before the tracebacks of those whose connection to it broke meanwhile.
    return min(rows, key=lambda row: ("message" not in row, row["time"])) if rows else None


def _silent_end(exit_code: int) -> dict[str, Any]:
    how = f"signal {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"
    hint = "the machine's memory is full? fewer processes, or a smaller model" if exit_code == -signal.SIGKILL else ""
    return {"code": ExitCode.ENVIRONMENT, "message": f"a process of the run ended by {how}", "hint": hint}


def _tell(report: dict[str, Any]) -> ExitCode:
    if "message" in report:
        raise GensegError(report["message"], hint=report["hint"], code=ExitCode(report["code"]))
    if "traceback" in report:
        sys.stderr.write(report["traceback"])
        raise typer.Exit(1)
    return ExitCode(report["code"])
