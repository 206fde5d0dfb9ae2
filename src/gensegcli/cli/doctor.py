"""`genseg doctor`: what this installation can do, and the command for what it cannot."""

from __future__ import annotations

import sys

import typer

from gensegcli.cli import options as opt


def doctor(json: opt.JsonOpt = False) -> None:
    """Check this installation: versions, GPU, engines, models, hub, disk.

    Exit code 3 if not even the bundled models can run (`genseg demo`).

    Examples:
      genseg doctor
      genseg doctor --json > environment.json
    """
    import orjson

    from gensegcli.cli.tables import table, terminal_width
    from gensegcli.doctor import examine
    from gensegcli.errors import ExitCode

    report = examine()
    if json:
        sys.stdout.buffer.write(orjson.dumps(report.as_dict(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    else:
        width = terminal_width(sys.stdout)
        rows = [(check.name, check.ready, check.found, check.cure) for check in report.checks]
        sys.stdout.write(table(("what", "ready", "found", "to mend"), rows, width=width))
        sys.stdout.write("\n" + table(("package", "version"), list(report.versions.items()), width=width))
    raise typer.Exit(ExitCode.DONE if report.demo_ready else ExitCode.ENVIRONMENT)
