"""`genseg prep`: signatures, build, call. A recipe's name stands where a subcommand would: `genseg prep grefcoco`."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gensegcli.cli import complete, console
from gensegcli.cli import options as opt
from gensegcli.cli.groups import QuickGroup

MAKE = "make"


class Purpose(StrEnum):
    """What a prepared set is for."""

    TRAIN = "train"
    EVAL = "eval"


class Frame(StrEnum):
    """Which pixels the annotations of a picture with an EXIF turn refer to."""

    AUTO = "auto"
    STORED = "stored"
    UPRIGHT = "upright"


class RecipeGroup(QuickGroup):
    """Takes what is no subcommand for the name of a recipe: `prep grefcoco` is `prep make grefcoco`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            args = [MAKE, *args]
        return super().resolve_command(ctx, args)

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        formatter.write_usage(ctx.command_path, "RECIPE [OPTIONS] | ls | show | check")


prep = typer.Typer(cls=RecipeGroup, add_completion=False, rich_markup_mode=None, no_args_is_help=True)

RootOpt = Annotated[
    Path | None,
    typer.Option("--root", metavar="DIR", help="Folder of raw data. [default: $GENSEG_DATA or data/raw]"),
]


@prep.callback()
def about() -> None:
    """Turn a raw data set into Parquet shards with pictures, boxes, points and masks.

    Examples:
      genseg prep grefcoco
      genseg prep grefcoco --split val --for eval
      genseg prep refcocog --split val --by umd --root /data
      genseg prep coco --annotations a.json --images photos/ --expressions e.jsonl
      genseg prep ls
      genseg prep show data/prepared/grefcoco-train
    """


@prep.command(MAKE)
def make(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="A name from `genseg prep ls`, or a TOML file.",
            autocompletion=complete.recipes,
            show_default=False,
        ),
    ],
    split: Annotated[str | None, typer.Option("--split", help="train, val, test, testA, testB. [the recipe's]")] = None,
    purpose: Annotated[
        Purpose | None, typer.Option("--for", help="Resized for training, or original pictures. [by the split's name]")
    ] = None,
    by: Annotated[str | None, typer.Option("--by", help="Whose splits: unc, umd, google. [the recipe's]")] = None,
    root: RootOpt = None,
    images: Annotated[Path | None, typer.Option("--images", metavar="DIR", help="Folder of the pictures.")] = None,
    annotations: Annotated[
        Path | None, typer.Option("--annotations", metavar="FILE", help="COCO annotations of your own (coco).")
    ] = None,
    expressions: Annotated[
        Path | None, typer.Option("--expressions", metavar="FILE", help="JSONL of expressions of your own (coco).")
    ] = None,
    files: Annotated[
        Path | None, typer.Option("--files", metavar="PATH", help="Parquet file or folder, instead of the hub.")
    ] = None,
    annotations_frame: Annotated[
        Frame | None,
        typer.Option(
            "--annotations-frame",
            help="What annotations of EXIF-turned pictures refer to: pixels as stored, or upright. [auto: by their size]",
        ),
    ] = None,
    n: Annotated[int | None, typer.Option("--n", min=1, help="How many scenes (scenes).")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the draw. [the recipe's]")] = None,
    keep_aspect: Annotated[
        bool, typer.Option("--keep-aspect", help="Fit into the size instead of filling it.")
    ] = False,
    set_: opt.SetOpt = None,
    min_prompt_iou: Annotated[
        float | None,
        typer.Option(
            "--min-prompt-iou", min=0, max=1, help="Keep samples whose box and point give the mask this well."
        ),
    ] = None,
    segmenter: opt.SegmenterOpt = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="[default: data/prepared/<recipe>-<split>]")
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes. [default: one a core]")] = None,
    max_skipped: Annotated[
        float, typer.Option("--max-skipped", min=0, max=1, help="Largest share of unusable samples that is no error.")
    ] = 0.01,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the first so many references; of a draw, only so many.")
    ] = None,
    restart: opt.RestartOpt = False,
    dry_run: opt.DryRunOpt = False,
    json: opt.JsonOpt = False,
    quiet: opt.QuietOpt = False,
) -> None:
    """Prepare a set; the same command again goes on where it was stopped."""
    from gensegcli.cli.prep_run import Task, run
    from gensegcli.errors import GensegError
    from gensegcli.prep.inputs import Inputs
    from gensegcli.prep.recipe import resolve

    changes = {
        "annotations_frame": annotations_frame and annotations_frame.value,
        "select.seed": seed,
        "picture.keep_aspect": keep_aspect or None,
        "source.n": n,
    }
    resolved = resolve(
        recipe,
        split=split,
        purpose=purpose.value if purpose else None,
        by=by,
        limit=limit,
        assignments=set_ or (),
        changes={key: value for key, value in changes.items() if value is not None},
    )
    if keep_aspect and resolved.picture.size is None:
        raise GensegError(
            "--keep-aspect: these pictures are not resized", hint="--for train or --set picture.size=[W,H]"
        )
    select = resolved.select
    if seed is not None and not select.count and select.sentence != "random" and resolved.source.kind != "scenes":
        raise GensegError("--seed: nothing is drawn here", hint="--set select.count=N draws N samples")
    if annotations_frame is not None and resolved.source.kind == "scenes":
        raise GensegError("--annotations-frame: generated pictures have no EXIF turn", hint="leave it away")
    if segmenter is not None and min_prompt_iou is None:
        raise GensegError("--segmenter: nothing is segmented", hint="it belongs to --min-prompt-iou")
    task = Task(
        resolved,
        Inputs(_root(root), images, annotations, expressions, files),
        out or Path("data/prepared") / f"{resolved.name}-{resolved.split}",
        workers,
        max_skipped,
        min_prompt_iou,
        segmenter,
    )
    run(task, restart=restart, dry_run=dry_run, json=json, quiet=quiet)


@prep.command("ls")
def ls(json: opt.JsonOpt = False) -> None:
    """List the recipes."""
    import orjson

    from gensegcli.cli.tables import table, terminal_width
    from gensegcli.prep.recipe import names, resolve

    recipes = [resolve(name) for name in names()]
    if json:
        rows = [
            {"name": r.name, "title": r.about.title, "split": r.split, "purpose": r.purpose, "source": r.source.kind}
            | {"licence": r.about.licence, "get": r.about.get}
            for r in recipes
        ]
        sys.stdout.buffer.write(orjson.dumps(rows, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        return
    head = ("recipe", "split", "for", "raw form", "what it is")
    rows = [(r.name, r.split, r.purpose, r.source.kind, r.about.description) for r in recipes]
    sys.stdout.write(table(head, rows, width=terminal_width(sys.stdout), spare=("raw form", "for")))


_DRAWINGS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


@prep.command("show")
def show(
    what: Annotated[
        str, typer.Argument(metavar="SET", help="Folder of a prepared set, or a recipe.", show_default=False)
    ],
    id_: Annotated[str | None, typer.Option("--id", help="Which sample, by id.")] = None,
    index: Annotated[int, typer.Option("--index", min=0, help="Which sample, by number.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="PNG, JPEG or WebP. [default: <sample id>.png]")
    ] = None,
    json: opt.JsonOpt = False,
) -> None:
    """Draw one sample with its box, points and mask (of a prepared set), or print a recipe as it resolves."""
    import orjson

    from gensegcli.atomic import replacing, saving
    from gensegcli.errors import GensegError
    from gensegcli.exports.names import picture_stem
    from gensegcli.prep.recipe import resolve
    from gensegcli.prep.show import draw_sample, find
    from gensegcli.sources.prepared import no_such_folder

    form = _DRAWINGS.get(out.suffix.lower() if out else ".png")
    if form is None:
        raise GensegError(f"{out}: a drawing is saved as {', '.join(_DRAWINGS)}", hint="--out FILE.png")
    if not os.path.isdir(what):  # noqa: PTH112 -- also false for names that no file can have
        refused = [name for name, given in (("--id", id_), ("--index", index), ("--out", out)) if given]
        if Path(what).name != what and not what.endswith(".toml"):
            raise no_such_folder(Path(what))
        recipe = resolve(what)
        if refused:
            raise GensegError(
                f"{refused[0]}: {what} is a recipe, not a prepared set", hint="name the folder of the set"
            )
        sys.stdout.buffer.write(
            orjson.dumps(recipe.model_dump(mode="json"), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        )
        return
    sample = find(Path(what), id=id_, index=index)
    path = out or Path(f"{picture_stem(f'{sample.id}.png')}.png")
    with saving(path, hint="choose another file with --out"), replacing(path) as stream:
        draw_sample(sample).save(stream, form)
    if json:
        from gensegcli.sources.prepared import to_row

        row = to_row(sample) | {"image": str(path)}
        sys.stdout.buffer.write(orjson.dumps(row, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    else:
        typer.echo(path)


@prep.command("check")
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a prepared set.", show_default=False)],
    json: opt.JsonOpt = False,
) -> None:
    """Verify a prepared set against its card: digests, counts, pictures, masks, points."""
    import orjson

    from gensegcli.cli.progress import progress
    from gensegcli.errors import ExitCode
    from gensegcli.prep.check import check as verify

    with progress(None, "samples") as shown:
        found = verify(folder, shown.reach)
    if json:
        value = {"samples": found.tally.samples, "problems": found.number, "first": found.problems}
        sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    else:
        for problem in found.problems:
            console.say(problem)
        samples, problems = found.tally.samples, found.number
        console.say(
            f"{samples:,} sample{'s' if samples != 1 else ''}, {problems:,} problem{'s' if problems != 1 else ''}"
        )
    if found.number:
        raise typer.Exit(ExitCode.SOME_FAILED)


def _root(given: Path | None) -> Path:
    return given or Path(os.environ.get("GENSEG_DATA") or "data/raw")
