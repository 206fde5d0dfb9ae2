"""`genseg overlap-audit`: signature, build, call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gensegcli.cli import complete
from gensegcli.cli import options as opt


def overlap_audit(
    sets: Annotated[
        list[str],
        typer.Argument(
            metavar="TRAIN... EVAL",
            help="Sets trained on, last the one evaluated: recipe:split, prepared folder, Parquet, pictures, list.",
            autocompletion=complete.recipes,
            show_default=False,
        ),
    ],
    root: Annotated[
        Path | None,
        typer.Option("--root", metavar="DIR", help="Folder of raw data. [default: $GENSEG_DATA or data/raw]"),
    ] = None,
    images_root: Annotated[
        Path | None,
        typer.Option(
            "--images-root", metavar="DIR", help="Folder of the pictures; they are then compared by content too."
        ),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            "--annotations",
            metavar="FILE",
            help="COCO file of annotation ids. [default: instances*.json below the root]",
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="WAYS",
            help="id,digest,hash. [default: id; all where ids are missing or --images-root given]",
        ),
    ] = None,
    radius: Annotated[
        int, typer.Option("--radius", min=0, max=31, help="Bits by which the hashes of one picture may differ.")
    ] = 6,
    write_ids: Annotated[
        Path | None,
        typer.Option("--write-ids", metavar="DIR", help="Write clean.ids, overlap.ids and pairs.jsonl there."),
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option("--scores", metavar="RUN", help="Folder of `genseg eval`: its metrics for both parts."),
    ] = None,
    fail_on_overlap: Annotated[
        bool, typer.Option("--fail-on-overlap", help="Leave with 6 if a picture is shared.")
    ] = False,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Threads. [default: one a core]")] = None,
    json: opt.JsonOpt = False,
    quiet: opt.QuietOpt = False,
) -> None:
    """Find the pictures and expressions of an evaluation set that a model was trained on.

    Examples:
      genseg overlap-audit grefcoco:train refcocog:val --write-ids audit/
      genseg overlap-audit visionreasoner-7k data/prepared/grefcoco-train refcocog:val --images-root coco/train2014
      genseg overlap-audit my-photos/ refcoco:testA --by hash --fail-on-overlap
      genseg eval refcocog --split val --subset audit/clean.ids
    """
    import os

    from gensegcli.audit.sets import Places
    from gensegcli.cli.overlap_audit_run import Task, run

    places = Places(root or Path(os.environ.get("GENSEG_DATA") or "data/raw"), images_root, annotations)
    ways = tuple(part.strip() for part in by.split(",")) if by else None
    task = Task(tuple(sets), places, ways, radius, workers, write_ids, scores, fail_on_overlap)
    run(task, json=json, quiet=quiet)
