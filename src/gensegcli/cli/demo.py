"""`genseg demo`: the whole system on this machine, in a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gensegcli.cli import options as opt

SHOWN = 2
"""The first seed of which the bundled models answer all six questions rightly."""


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the overlays go.")] = Path(
        "runs/demo"
    ),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Which scene is drawn.")] = SHOWN,
    json: opt.JsonOpt = False,
    quiet: opt.QuietOpt = False,
) -> None:
    """Run the bundled miniature models on a generated picture, without GPU and hub.

    The models are real in architecture and tiny in size, trained on generated scenes of coloured shapes only: this
    shows the system at work, not what it can do on photographs. The truth is known, so their errors show too. The scene
    shown without --seed was chosen: of the seeds 0, 1, 2, … it is the first of which all six answers are right.

    Examples:
      genseg demo
      genseg demo --seed 12 -o out/
    """
    from gensegcli.cli.demo_run import run

    run(out, seed=seed, json=json, quiet=quiet)
