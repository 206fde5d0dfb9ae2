"""Options that several commands share. None means "not given": defaults, presets and files then decide."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gensegcli.cli import complete
from gensegcli.records import PromptMode

ModelOpt = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Alias (see `genseg models`), hub id or local folder. [default: qwen3-vl-4b]",
        autocompletion=complete.models,
    ),
]
SegmenterOpt = Annotated[
    str | None,
    typer.Option(
        "--segmenter",
        help="Alias, hub id or local folder of the segmenter, or boxfill. [default: the model's own]",
        autocompletion=complete.segmenters,
    ),
]
BackendOpt = Annotated[
    str | None,
    typer.Option("--backend", help="auto, transformers, vllm, openai or scripted. [default: auto]"),
]
BaseUrlOpt = Annotated[
    str | None, typer.Option("--base-url", metavar="URL", help="OpenAI-compatible server that has the model.")
]
AnswersOpt = Annotated[
    Path | None, typer.Option("--answers", metavar="FILE", help="JSONL file of completions (backend scripted).")
]
DeviceOpt = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps. [default: auto]")]
DtypeOpt = Annotated[str | None, typer.Option("--dtype", help="auto, bfloat16, float16, float32. [default: auto]")]
ModeOpt = Annotated[
    PromptMode | None,
    typer.Option("--prompt-mode", "--mode", help="Which parts of an answer prompt the segmenter. [default: box+2]"),
]
MultimaskOpt = Annotated[
    bool | None,
    typer.Option("--multimask/--no-multimask", help="Best of three masks, or the single one. [default: multimask]"),
]
TemperatureOpt = Annotated[float | None, typer.Option("--temperature", help="0 is greedy. [default: 0]")]
NOpt = Annotated[
    int | None,
    typer.Option("--n", min=1, help="Completions of each question; several need --temperature. [default: 1]"),
]
SeedOpt = Annotated[int | None, typer.Option("--seed", help="Of sampling. [default: 0]")]
MaxTokensOpt = Annotated[int | None, typer.Option("--max-tokens", help="Longest completion. [default: 1500]")]
PromptFileOpt = Annotated[
    Path | None,
    typer.Option("--prompt-file", metavar="FILE", help="Text with {query} that replaces the question."),
]
PresetOpt = Annotated[
    str | None,
    typer.Option("--preset", help="Named settings: demo, genseg-r1-4b, …", autocompletion=complete.presets),
]
ConfigOpt = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings in TOML.")]
SetOpt = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, as section.key=value; repeatable."),
]
OutOpt = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FOLDER", help="Where results go. [default: runs/<verb>-<name>-<digest>]"),
]
SaveOpt = Annotated[
    str | None,
    typer.Option(
        "--save",
        metavar="FORMATS",
        help="Files too: overlay,png,rle,coco,yolo,geojson, or all.",
        autocompletion=complete.formats,
    ),
]
LimitOpt = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many questions.")]
DryRunOpt = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, with which settings, and stop.")]
RestartOpt = Annotated[bool, typer.Option("--restart", help="Forget what the folder holds and begin anew.")]
JsonOpt = Annotated[bool, typer.Option("--json", help="JSON on stdout instead of a table.")]
QuietOpt = Annotated[bool, typer.Option("--quiet", "-q", help="Only results and errors.")]
