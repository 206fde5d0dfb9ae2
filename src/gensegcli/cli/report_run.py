"""What `genseg report` does once its arguments are read: read the runs, write or print the report."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gensegcli.atomic import replacing, saving
from gensegcli.cli import console
from gensegcli.cli.report import Form
from gensegcli.errors import GensegError, unknown_name
from gensegcli.evaluate.report import formats
from gensegcli.evaluate.report.page import Options, evaluation_page
from gensegcli.evaluate.report.published import against
from gensegcli.evaluate.report.sections import Section, sections
from gensegcli.evaluate.results import read_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

ENDINGS = {
    ".html": Form.HTML,
    ".htm": Form.HTML,
    ".md": Form.MARKDOWN,
    ".tex": Form.LATEX,
    ".csv": Form.CSV,
    ".json": Form.JSON,
    ".txt": Form.TABLE,
}


@dataclass(frozen=True)
class Task:
    """Everything the command was asked."""

    runs: tuple[Path, ...]
    out: Path | None
    form: Form | None
    compared: tuple[str, ...]
    samples: int
    intervals: bool


def run(task: Task, *, quiet: bool) -> None:
    """Make the report.

    Raises:
        GensegError: a run that is not there, did not end or is damaged; a published system or an ending nobody knows.
    """
    form = _form(task)
    against(task.compared)  # an unknown name is told before anything is read
    say = (lambda _text: None) if quiet else console.say
    found = sections([read_run(folder) for folder in dict.fromkeys(task.runs)])
    if not found:
        raise GensegError(f"{task.runs[0]}: holds no results", hint="run the same `genseg eval` again")
    text = _written(found, form, task, say)
    if task.out is None:
        with console.data_stream() as stream:
            stream.write(text)
        return
    data = text.encode("utf-8")
    with saving(task.out, hint="choose another file with --out"), replacing(task.out) as stream:
        stream.write(data)
    results = sum(len(section.entries) for section in found)
    say(f"{task.out}: {results} result{'s' if results != 1 else ''}, {len(data) / 1e6:.1f} MB")


def _form(task: Task) -> Form:
    if task.form is not None:
        return task.form
    if task.out is None:
        return Form.TABLE
    if task.out.suffix.lower() not in ENDINGS:
        raise unknown_name("ending", task.out.suffix, ENDINGS, hint="or say what to write with --format")
    return ENDINGS[task.out.suffix.lower()]


def _written(found: Sequence[Section], form: Form, task: Task, say: Callable[[str], None]) -> str:
    match form:
        case Form.HTML:
            return evaluation_page(found, Options(task.compared, task.samples, say))
        case Form.JSON:
            return formats.as_json(found, task.compared)
        case Form.CSV:
            return formats.as_csv(found, task.compared)
        case Form.MARKDOWN:
            return formats.as_markdown(found, task.compared, intervals=task.intervals)
        case Form.LATEX:
            return formats.as_latex(found, task.compared, intervals=task.intervals)
        case Form.TABLE:
            terminal = task.out is None and sys.stdout.isatty()
            return formats.as_text(found, task.compared, width=shutil.get_terminal_size().columns if terminal else None)
