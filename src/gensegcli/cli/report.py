"""`genseg report`: signature, build, call."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gensegcli.cli import options as opt


class Form(StrEnum):
    """What a report can be."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"
    LATEX = "latex"
    HTML = "html"


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Folders that `genseg eval` or `genseg train` wrote.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Write here; the ending says what: html, md, tex, csv, json, txt."
        ),
    ] = None,
    form: Annotated[
        Form | None, typer.Option("--format", help="Of what is written. [default: by --out, else table]")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against",
            metavar="SYSTEM",
            help="Published numbers beside ours: genseg-r1, seg-zero, …, all; repeatable.",
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", min=0, help="Samples in each gallery of the HTML page; 0: none.")
    ] = 6,
    intervals: Annotated[
        bool, typer.Option("--intervals/--no-intervals", help="95 % intervals in Markdown and LaTeX.")
    ] = True,
    quiet: opt.QuietOpt = False,
) -> None:
    """Put runs side by side: tables with intervals, plots, and galleries of what went right and wrong.

    Evaluations over different data or under different protocols get tables of their own. Of training runs the report
    shows learning curves and rollouts.

    Examples:
      genseg report runs/eval-refcocog-val-1a2b3c4d
      genseg report runs/eval-* --out report.html
      genseg report runs/eval-* --format latex --against genseg-r1
      genseg report runs/train-* --out training.html
    """
    from gensegcli.cli.report_run import Task, run

    run(
        Task(tuple(runs), out, form, tuple(against or ()), samples, intervals),
        quiet=quiet,
    )
