"""`genseg predict`: signature, build, call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gensegcli.cli import options as opt


def predict(
    input_: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="Picture, folder, glob, address, manifest (JSONL, CSV, TSV, Parquet), or - for stdin: JSONL, paths, or a picture.",
            show_default=False,
        ),
    ],
    queries: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUERY", help="What to find. With --query, further inputs stand here."),
    ] = None,
    query: Annotated[list[str] | None, typer.Option("--query", help="What to find; repeatable.")] = None,
    model: opt.ModelOpt = None,
    segmenter: opt.SegmenterOpt = None,
    backend: opt.BackendOpt = None,
    base_url: opt.BaseUrlOpt = None,
    answers: opt.AnswersOpt = None,
    device: opt.DeviceOpt = None,
    dtype: opt.DtypeOpt = None,
    mode: opt.ModeOpt = None,
    multimask: opt.MultimaskOpt = None,
    temperature: opt.TemperatureOpt = None,
    n: opt.NOpt = None,
    seed: opt.SeedOpt = None,
    max_tokens: opt.MaxTokensOpt = None,
    prompt_file: opt.PromptFileOpt = None,
    preset: opt.PresetOpt = None,
    config: opt.ConfigOpt = None,
    set_: opt.SetOpt = None,
    save: opt.SaveOpt = None,
    images_root: Annotated[
        Path | None,
        typer.Option(
            "--images-root",
            metavar="DIR",
            help="What file names in coco.json are relative to. [default: the folder that all pictures share]",
        ),
    ] = None,
    copy_images: Annotated[
        bool, typer.Option("--copy-images", help="Put the pictures beside their YOLO labels.")
    ] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Take the pictures of folders within a folder too.")
    ] = False,
    out: opt.OutOpt = None,
    limit: opt.LimitOpt = None,
    restart: opt.RestartOpt = False,
    dry_run: opt.DryRunOpt = False,
    fail_on_no_target: Annotated[
        bool, typer.Option("--fail-on-no-target", help="Exit code 7 if something is not there.")
    ] = False,
    json: opt.JsonOpt = False,
    quiet: opt.QuietOpt = False,
) -> None:
    """Segment what QUERY describes in a picture, or say that it is not there.

    A batch (folder, glob, manifest, stdin) is kept in a folder as it goes; the same command again goes on where it
    stopped, and other questions under the same settings are added. A single picture is only printed, unless --out or
    --save asks for files.

    Examples:
      genseg predict img.jpg "person with blue shirt"
      genseg predict img.jpg "red circle" "blue square" --model demo --save overlay,png -o out/
      genseg predict photos/ --query "a dog" -o out/
      genseg predict photos/ -r --query "a dog" --save yolo --copy-images -o out/
      cat pairs.jsonl | genseg predict - --json > predictions.jsonl
      cat cup.webp | genseg predict - "the cup"
      genseg predict pairs.csv --base-url http://127.0.0.1:8000/v1
    """
    from gensegcli.cli.predict_run import Task, run
    from gensegcli.config import resolve

    settings = resolve(
        preset=preset,
        file=config,
        assignments=set_ or (),
        flags={
            "model.name": model,
            "model.backend": backend,
            "model.base_url": base_url,
            "model.answers": answers,
            "model.device": device,
            "model.dtype": dtype,
            "segmenter.name": segmenter,
            "segmenter.multimask": multimask,
            "predict.mode": mode,
            "predict.temperature": temperature,
            "predict.n": n,
            "predict.seed": seed,
            "predict.max_tokens": max_tokens,
            "predict.prompt_file": prompt_file,
        },
    )
    task = Task.from_arguments(
        [input_, *(queries or ())],
        query or (),
        settings,
        out=out,
        save=save,
        limit=limit,
        images_root=images_root,
        copy_images=copy_images,
        recursive=recursive,
    )
    raise typer.Exit(
        run(task, restart=restart, dry_run=dry_run, json=json, quiet=quiet, fail_on_no_target=fail_on_no_target)
    )
