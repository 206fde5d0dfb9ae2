"""`genseg train`: signature, build, call."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gensegcli.cli import options as opt


class Stage(StrEnum):
    """What the policy learns from."""

    GRPO = "grpo"
    SFT = "sft"


class Rollout(StrEnum):
    """What writes the completions that are rewarded."""

    TRANSFORMERS = "transformers"
    COLOCATE = "colocate"
    SERVER = "server"


def train(
    model: opt.ModelOpt = None,
    preset: opt.PresetOpt = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="SET", help="Prepared folder, or prepared recipe. [the preset's]")
    ] = None,
    stage: Annotated[
        Stage | None, typer.Option("--stage", help="grpo: by reward; sft: from true answers. [the preset's]")
    ] = None,
    segmenter: opt.SegmenterOpt = None,
    device: opt.DeviceOpt = None,
    lora: Annotated[bool | None, typer.Option("--lora/--no-lora", help="Train low-rank adapters only.")] = None,
    rollout: Annotated[
        Rollout | None,
        typer.Option("--rollout", help="What writes completions: the trainer itself, vLLM beside it, a vLLM server."),
    ] = None,
    rollout_url: Annotated[
        str | None, typer.Option("--rollout-url", metavar="URL", help="Of the vLLM server (--rollout server).")
    ] = None,
    nproc: Annotated[int, typer.Option("--nproc", min=1, help="Processes on this machine, one for each GPU.")] = 1,
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Machines that train together.")] = 1,
    rdzv: Annotated[
        str | None, typer.Option("--rdzv", metavar="HOST:PORT", help="Where several machines meet.")
    ] = None,
    config: opt.ConfigOpt = None,
    set_: opt.SetOpt = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of order and sampling. [default: 0]")] = None,
    out: opt.OutOpt = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many samples.")] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Go on with a run, by the settings in its folder.")
    ] = None,
    restart: opt.RestartOpt = False,
    dry_run: opt.DryRunOpt = False,
    json: opt.JsonOpt = False,
    quiet: opt.QuietOpt = False,
) -> None:
    """Train a policy by reward (GRPO), or teach it true answers first (SFT).

    The same command again goes on from the last checkpoint. Ctrl-C or SIGTERM saves one after the step under way.

    Examples:
      genseg train --model qwen3-vl-4b --nproc 2
      genseg train --preset genseg-r1-g --data data/prepared/grefcoco-train --nproc 2
      genseg train --preset cold-start -o runs/start
      genseg train --preset genseg-r1-4b --model runs/start --nproc 4 --rollout colocate
      genseg train --preset demo --data data/prepared/scenes-train --limit 80
      genseg train --resume runs/train-genseg-r1-g-1a2b3c4d
      genseg train --preset genseg-r1-8b --dry-run --set train.lr=2e-6
    """
    from gensegcli.cli.train_run import Processes, Task, run

    task = Task.from_arguments(
        preset=preset,
        config=config,
        assignments=set_ or (),
        flags={
            "model.name": model,
            "model.device": device,
            "segmenter.name": segmenter,
            "train.data": data,
            "train.stage": stage.value if stage else None,
            "train.seed": seed,
            "train.lora": lora,
            "train.rollout": rollout.value if rollout else None,
            "train.rollout_url": rollout_url,
        },
        out=out,
        limit=limit,
        resume=resume,
    )
    where = Processes(nproc, nodes, rdzv)
    raise typer.Exit(run(task, where, restart=restart, dry_run=dry_run, json=json, quiet=quiet))
