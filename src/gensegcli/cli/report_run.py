"""What `genseg report` does once its arguments are read: read the runs, write or print the report."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gensegcli.atomic import replacing, saving
from gensegcli.cli import console
from gensegcli.cli.report import Form
from gensegcli.cli.tables import terminal_width
from gensegcli.errors import ExitCode, GensegError, unknown_name
from gensegcli.evaluate.report import formats, training
from gensegcli.evaluate.report.evaluation import Options, evaluation_page
from gensegcli.evaluate.report.published import against
from gensegcli.evaluate.report.sections import sections
from gensegcli.evaluate.report.training import is_training
from gensegcli.evaluate.results import read_run
from gensegcli.files.text import is_folder

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
    folders = list(dict.fromkeys(task.runs))
    for folder in folders:
        if not is_folder(folder):
            hint = "a run is a folder that `genseg eval` or `genseg train` wrote, by default below runs/"
            raise GensegError(f"{folder}: no such folder", hint=hint, code=ExitCode.NOT_FOUND)
    trained = [folder for folder in folders if is_training(folder)]
    if trained and len(trained) < len(folders):
        other = next(folder for folder in folders if folder not in trained)
        raise GensegError(f"{trained[0]} is a training and {other} is not", hint="report them apart")
    text = _training(trained, form, task) if trained else _evaluation(folders, form, task, say)
    if task.out is None:
        with console.data_stream() as stream:
            stream.write(text)
        return
    data = text.encode("utf-8")
    with saving(task.out, hint="choose another file with --out"), replacing(task.out) as stream:
        stream.write(data)
    say(f"{task.out}: {len(folders)} run{'s' if len(folders) != 1 else ''}, {len(data) / 1e6:.1f} MB")


def _form(task: Task) -> Form:
    if task.form is not None:
        return task.form
    if task.out is None:
        return Form.TABLE
    if task.out.suffix.lower() not in ENDINGS:
        raise unknown_name("ending", task.out.suffix, ENDINGS, hint="or say what to write with --format")
    return ENDINGS[task.out.suffix.lower()]


def _evaluation(folders: Sequence[Path], form: Form, task: Task, say: Callable[[str], None]) -> str:
    found = sections([read_run(folder) for folder in folders])
    if not found:
        raise GensegError(f"{folders[0]}: holds no results", hint="run the same `genseg eval` again")
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
            return formats.as_text(found, task.compared, width=_width(task))


def _training(folders: Sequence[Path], form: Form, task: Task) -> str:
    runs = [training.read_training(folder) for folder in folders]
    summaries = [training.summary(run) for run in runs]
    match form:
        case Form.HTML:
            return training.training_page(runs, samples=task.samples > 0)
        case Form.JSON:
            return training.as_json(runs)
        case Form.CSV:
            return training.as_csv(runs)
        case Form.MARKDOWN:
            return formats.tables_as_markdown(summaries)
        case Form.LATEX:
            return formats.tables_as_latex(summaries)
        case Form.TABLE:
            return formats.tables_as_text(summaries, width=_width(task))


def _width(task: Task) -> int | None:
    """Of the terminal, if that is where the report goes."""
    return terminal_width(sys.stdout) if task.out is None else None
