"""`genseg eval`: signature, build, call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gensegcli.cli import complete
from gensegcli.cli import options as opt


def eval(  # noqa: A001 - the command's name
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Recipe (`genseg prep ls`), prepared folder, Parquet file, or hub id.",
            autocompletion=complete.recipes,
            show_default=False,
        ),
    ],
    split: Annotated[str | None, typer.Option("--split", help="train, val, test, testA, testB. [the recipe's]")] = None,
    every_sentence: Annotated[
        bool, typer.Option("--every-sentence", help="Every sentence of every reference, not the recipe's choice.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the first so many references, by their numbers.")
    ] = None,
    subset: Annotated[
        Path | None, typer.Option("--subset", metavar="FILE", help="Only the samples whose ids stand here, one a line.")
    ] = None,
    group: Annotated[
        list[Path] | None,
        typer.Option("--group", metavar="FILE", help="The same, as a group of its own in the result; repeatable."),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="genseg, gres, lisa, seg-zero or res. [default: genseg]")
    ] = None,
    prompt_mode: Annotated[
        str | None,
        typer.Option(
            "--prompt-mode",
            "--mode",
            metavar="MODES",
            help="box, box+1, box+2, box+2+neg, or several with commas. [default: box+2]",
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions", metavar="PATH", help="Score these: JSONL, COCO results, or a folder of PNG masks."
        ),
    ] = None,
    model: opt.ModelOpt = None,
    segmenter: opt.SegmenterOpt = None,
    backend: opt.BackendOpt = None,
    base_url: opt.BaseUrlOpt = None,
    answers: opt.AnswersOpt = None,
    device: opt.DeviceOpt = None,
    dtype: opt.DtypeOpt = None,
    multimask: opt.MultimaskOpt = None,
    temperature: opt.TemperatureOpt = None,
    seed: opt.SeedOpt = None,
    max_tokens: opt.MaxTokensOpt = None,
    prompt_file: opt.PromptFileOpt = None,
    preset: opt.PresetOpt = None,
    config: opt.ConfigOpt = None,
    set_: opt.SetOpt = None,
    root: Annotated[
        Path | None,
        typer.Option("--root", metavar="DIR", help="Folder of raw data. [default: $GENSEG_DATA or data/raw]"),
    ] = None,
    out: opt.OutOpt = None,
    restart: opt.RestartOpt = False,
    dry_run: opt.DryRunOpt = False,
    json: opt.JsonOpt = False,
    quiet: opt.QuietOpt = False,
) -> None:
    """Answer, segment and score a data set, under a named protocol.

    A set that is not prepared yet is prepared first. Answers, masks and scores are kept, each on its own: the same
    command again goes on where it stopped, and another --prompt-mode, --segmenter or --protocol uses what is there.

    Examples:
      genseg eval scenes --limit 100 --model demo
      genseg eval refcocog --split val
      genseg eval grefcoco --split val --limit 1000 --prompt-mode box,box+1,box+2
      genseg eval reasonseg --split test --protocol lisa
      genseg eval data/prepared/refcocog-val --predictions theirs.json
    """
    from gensegcli.cli.eval_run import Request, run
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
            "predict.temperature": temperature,
            "predict.seed": seed,
            "predict.max_tokens": max_tokens,
            "predict.prompt_file": prompt_file,
            "eval.protocol": protocol,
        },
    )
    request = Request(
        data,
        settings,
        split=split,
        every_sentence=every_sentence,
        limit=limit,
        subset=subset,
        groups=tuple(group or ()),
        modes=prompt_mode,
        predictions=predictions,
        root=root,
        out=out,
    )
    raise typer.Exit(run(request, restart=restart, dry_run=dry_run, json=json, quiet=quiet))
