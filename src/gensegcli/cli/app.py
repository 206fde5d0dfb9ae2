"""The `genseg` command: the table of subcommands and the one error boundary.

Nothing here or in the command modules imports more than the standard library and Typer at module level, so that help
and completion answer at once; what a command needs it imports when it runs.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Any

import typer

from gensegcli.cli import console
from gensegcli.cli.groups import QuickGroup, keep_examples
from gensegcli.errors import ExitCode, GensegError

COMMANDS = {
    "predict": "gensegcli.cli.predict",
    "prep": "gensegcli.cli.prep",
    "train": "gensegcli.cli.train",
    "eval": "gensegcli.cli.eval",
    "report": "gensegcli.cli.report",
    "overlap-audit": "gensegcli.cli.overlap_audit",
    "demo": "gensegcli.cli.demo",
    "models": "gensegcli.cli.models",
    "doctor": "gensegcli.cli.doctor",
}
"""Subcommand → module that holds a function (or a Typer of subcommands) of that name, in the order of the help."""


class CommandTable(Mapping[str, Any]):
    """The subcommands, each module imported when its command is asked for."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            function = getattr(import_module(COMMANDS[name]), name.replace("-", "_"))
            self._built[name] = _command(name, function)
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


def _command(name: str, what: Any) -> Any:
    if isinstance(what, typer.Typer):
        command = typer.main.get_command(what)
        command.name = name
    else:
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name)(what)
        command = typer.main.get_command(single)
    keep_examples(command)
    return command


class GensegGroup(QuickGroup):
    """Turns what a user can mend into two lines on stderr and an exit code; everything else keeps its traceback."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = CommandTable()  # pyright: ignore[reportAttributeAccessIssue]

    def main(self, *args: Any, **options: Any) -> Any:
        with console.shown_stderr():
            return super().main(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        try:
            with console.guarded_stdout():
                return super().invoke(ctx)
        except GensegError as error:
            console.error(error)
            raise typer.Exit(error.code) from error
        except KeyboardInterrupt as interrupt:
            console.say("\ninterrupted: run the same command again to go on")
            raise typer.Exit(ExitCode.INTERRUPTED) from interrupt
        except console.ReaderGoneError as gone:
            raise typer.Exit(ExitCode.DONE) from gone  # `| head` has what it wanted
        except BrokenPipeError as error:
            # Not from the output: left as it is, the framework would take it for that and end without a word.
            raise RuntimeError("a pipe to another process broke: has an engine's process died?") from error
        except OSError as error:
            problem = _of_system(error)
            if problem is None:
                raise
            console.error(problem)
            raise typer.Exit(problem.code) from error
        except MemoryError as error:
            console.failed(f"out of memory {f'({error})' if str(error) else ''}", _OUT_OF_MEMORY)
            raise typer.Exit(ExitCode.ENVIRONMENT) from error


_OUT_OF_MEMORY = "what is finished is saved: close other programs, or take a smaller --batch-size, and run it again"


def _of_system(error: OSError) -> GensegError | None:
    """What the operating system says of a file, or of a disk that is full; None: a bug, which keeps its traceback."""
    if isinstance(error.filename, str | bytes) and error.strerror:
        kind = _SYSTEM.get(error.errno or 0, (ExitCode.ENVIRONMENT, ""))
        return GensegError(f"{os.fsdecode(error.filename)[:_NAME]}: {error.strerror}", hint=kind[1], code=kind[0])
    if isinstance(error, console.UnwritableError) or error.errno in _FULL:
        return GensegError(f"the output cannot be written ({error.strerror})", hint=_ROOM, code=ExitCode.ENVIRONMENT)
    return None


_NAME = 300
"""Characters of a file's name in a message: one that is too long for the system is too long for people."""

_ROOM = "make room, and run the same command again"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SYSTEM: dict[int, tuple[ExitCode, str]] = {
    errno.ENOENT: (ExitCode.NOT_FOUND, "check the name"),
    errno.ENOTDIR: (ExitCode.NOT_FOUND, "check the name: a part of it is a file"),
    errno.EISDIR: (ExitCode.USAGE, "a folder stands where a file is expected"),
    errno.ENAMETOOLONG: (ExitCode.USAGE, "choose a shorter name"),
    errno.ELOOP: (ExitCode.USAGE, "it leads round in a circle of links"),
    errno.EACCES: (ExitCode.ENVIRONMENT, "ask for permission, or choose another place"),
    errno.EPERM: (ExitCode.ENVIRONMENT, "ask for permission, or choose another place"),
    errno.EROFS: (ExitCode.ENVIRONMENT, "choose another place"),
    **dict.fromkeys(_FULL, (ExitCode.ENVIRONMENT, _ROOM)),
}
"""Exit code and hint by the system's own number of an error."""


app = typer.Typer(
    cls=GensegGroup,
    rich_markup_mode=None,  # importing rich for the help alone would cost twice what the rest of the start costs
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog="Data goes to stdout, words to stderr. Exit codes: 0 done, 2 usage, 3 something missing in the environment, "
    "4 not found, 5 some samples failed, 6 overlap with --fail-on-overlap, 7 no target with --fail-on-no-target, 130 interrupted.",
)


def _show_version(asked: bool) -> None:
    if asked:
        from gensegcli import __version__

        typer.echo(f"genseg {__version__}")
        raise typer.Exit


@app.callback()
def genseg(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Find what an expression describes in a picture, or say honestly that it is not there."""


def main() -> None:
    """Run `genseg` and leave with its exit code."""
    sys.stderr = console.shown(sys.stderr)  # for good: a traceback is written after everything else
    try:
        app(prog_name="genseg")
    except SystemExit as leaving:
        _leave_without_unwinding(leaving.code)
        raise
    except BaseException:
        if threading.active_count() > 1:
            traceback.print_exc()
        _leave_without_unwinding(1)
        raise


def _leave_without_unwinding(code: object) -> None:
    """End the process here if threads are alive: one that waits for a line on stdin, or an engine in a native call.

    Python aborts when it unwinds under a reader of stdin, and engines can crash. Everything finished is on disk.
    """
    if threading.active_count() == 1:
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody is left to tell; `GensegGroup.invoke` has flushed before
            stream.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)
