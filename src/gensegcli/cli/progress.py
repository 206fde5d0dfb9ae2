"""How far a long command is: a bar on a terminal, a line every few seconds elsewhere, on stderr."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Protocol, TextIO

from gensegcli.cli import console
from gensegcli.harmless import visible

if TYPE_CHECKING:
    from collections.abc import Generator

EVERY = 5.0
"""Seconds between two lines."""


class Progress(Protocol):
    """Told of every finished item."""

    def step(self, *, failed: bool = False) -> None:
        """One more is done."""
        ...

    def reach(self, done: int, total: int) -> None:
        """So many of so many are done; what was done at the first call is an earlier run's and tells no rate."""
        ...

    def phase(self, text: str) -> None:
        """What is being done before the first item: a spinner on a terminal, a line elsewhere."""
        ...

    def write(self, stream: TextIO, text: str) -> None:
        """Put out data beside the display, at once."""
        ...


@contextmanager
def progress(total: int | None, unit: str, *, quiet: bool = False) -> Generator[Progress]:
    """A progress display that suits stderr; silent if `quiet` or if there is but one item.

    Args:
        total: how many items there will be; None if nobody knows.
        unit: what they are, in the plural, which ends with s.
        quiet: show nothing.
    """
    if quiet:
        yield Lines(total, unit, every=float("inf"), phases=False)
    elif sys.stderr.isatty():
        with _spinner(unit) if total == 1 else _bar(total, unit) as display:
            yield display
    else:
        yield Lines(total, unit, every=float("inf") if total == 1 else EVERY)


class Lines:
    """`120/300 pictures, 2.4/s, 75 s to go, 3 failed`, every few seconds."""

    def __init__(self, total: int | None, unit: str, *, every: float = EVERY, phases: bool = True) -> None:
        self.total, self.unit, self.every, self.phases = total, unit, every, phases
        self.done = self.failed = 0
        self.before: int | None = None
        """Done by an earlier run, where one is gone on with."""
        self._begun = self._told = monotonic()

    def phase(self, text: str) -> None:
        if self.phases:
            console.say(text)

    def step(self, *, failed: bool = False) -> None:
        self.done += 1
        self.failed += failed
        self._tell()

    def reach(self, done: int, total: int) -> None:
        if self.before is None:
            self.before, self._begun = done, monotonic()
        self.done, self.total = done, total
        if done > self.before:
            self._tell()

    def _tell(self) -> None:
        if monotonic() - self._told >= self.every:
            self._told = monotonic()
            console.say(self.line(self._told - self._begun))

    def write(self, stream: TextIO, text: str) -> None:
        stream.write(text)
        stream.flush()

    def line(self, seconds: float) -> str:
        """What to say after so many seconds."""
        rate = self.rate(seconds)
        unit = self.unit.removesuffix("s") if (self.total or self.done) == 1 else self.unit
        parts = [f"{self.done}{f'/{self.total}' if self.total else ''} {unit}", f"{rate:.2g}/s"]
        if self.total:
            parts.append(f"{(self.total - self.done) / rate:.0f} s to go")
        if self.failed:
            parts.append(f"{self.failed} failed")
        return ", ".join(parts)

    def rate(self, seconds: float) -> float:
        """Items per second of this run."""
        return (self.done - (self.before or 0)) / seconds


@contextmanager
def _bar(total: int | None, unit: str) -> Generator[Progress]:
    from rich.columns import Columns
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Phase(ProgressColumn):
        """A spinner and what is being done, until there is something to count."""

        def __init__(self) -> None:
            super().__init__()
            self._spinner = SpinnerColumn()

        def render(self, task):
            if not task.fields["phase"]:
                return Text(unit)
            return Columns([self._spinner.render(task), Text(task.fields["phase"])])

    class Counted(ProgressColumn):
        """A column that stays away until there is something to count."""

        def __init__(self, column: ProgressColumn) -> None:
            super().__init__()
            self._column = column

        def render(self, task):
            return Text("") if task.fields["phase"] else self._column.render(task)

    counted = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
    columns = (Phase(), *map(Counted, counted))
    display = RichProgress(
        *columns,
        console=Console(file=console.screen()),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=True,
    )
    with display, console.shown_stderr():  # by now one that writes above the bar
        yield _Bar(display, total, unit)


@contextmanager
def _spinner(unit: str) -> Generator[Progress]:
    from rich.console import Console

    display = _Spinner(Console(file=console.screen()), unit)
    try:
        yield display
    finally:
        display.end()


class _Spinner(Lines):
    """For a single item: what is being done until it is there."""

    def __init__(self, console, unit: str) -> None:
        super().__init__(1, unit, every=float("inf"))
        self._console = console
        self._live = None

    def phase(self, text: str) -> None:
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        if self._live is None:
            self._live = Live(console=self._console, transient=True, redirect_stdout=False, refresh_per_second=12.5)
            self._live.start()
            sys.stderr = console.shown(sys.stderr)  # by now one that writes above the spinner
        self._live.update(Spinner("dots", Text(visible(text)), style="status.spinner"))

    def step(self, *, failed: bool = False) -> None:
        self.end()
        super().step(failed=failed)

    def write(self, stream: TextIO, text: str) -> None:
        self.end()
        super().write(stream, text)

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


class _Bar:
    def __init__(self, display, total: int | None, unit: str) -> None:
        self._display = display
        self._lines = Lines(total, unit, every=float("inf"))
        self._begun = monotonic()
        self._task = display.add_task(unit, total=total, note="", phase="")

    def phase(self, text: str) -> None:
        self._display.update(self._task, phase=visible(text))

    def step(self, *, failed: bool = False) -> None:
        self._lines.step(failed=failed)
        self._show()

    def reach(self, done: int, total: int) -> None:
        if self._lines.before is None:
            self._begun = monotonic()
        self._lines.reach(done, total)
        self._show()

    def _show(self) -> None:
        lines = self._lines
        notes = [f"{rate:.2g}/s"] if (rate := lines.rate(max(monotonic() - self._begun, 1e-9))) else []
        notes += [f"{lines.failed} failed"] if lines.failed else []
        self._display.update(self._task, completed=lines.done, total=lines.total, note=", ".join(notes), phase="")

    def write(self, stream: TextIO, text: str) -> None:
        if stream.isatty():  # the same screen: above the bar
            self._display.console.print(visible(text), end="", markup=False, highlight=False, soft_wrap=True)
        else:
            self._lines.write(stream, text)
