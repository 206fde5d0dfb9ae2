"""Finished evaluations made for tests: a few generated scenes, predictions that go right and wrong in known ways."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from gensegcli.evaluate.data import open_set
from gensegcli.evaluate.results import DataFacts, Result, write_results
from gensegcli.geometry import rle
from gensegcli.metrics.protocols import get_protocol
from gensegcli.metrics.records import (
    Composition,
    Estimate,
    SampleScore,
    SizeClass,
    Summary,
    score_to_json,
    truth_of,
)
from gensegcli.predictions import ModelId, to_json
from gensegcli.records import (
    FinishReason,
    Instance,
    MaskPrompt,
    PredictedInstance,
    Prediction,
    PromptMode,
    Refusal,
    RefusalKind,
    Sample,
)
from gensegcli.sources.prepared import SCHEMA, to_row
from gensegcli.sources.scenes import samples as scenes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MODEL = "someone/qwen3-vl-tuned"


@dataclass(frozen=True)
class Texts:
    """What a stranger may have written: goes into queries, think texts, answers, names."""

    query: str = ""
    think: str = "I look at the shapes one by one."
    raw: str = "no answer here"
    model: str = MODEL
    data: str = "scenes-val"


def made_run(
    folder: Path,
    count: int = 24,
    *,
    protocol: str = "genseg",
    texts: Texts | None = None,
    modes: Sequence[PromptMode] = (PromptMode.BOX_2,),
    quality: float = 1.0,
    metrics: dict[str, Estimate] | None = None,
    **facts: Any,
) -> Path:
    """An evaluation of `count` scenes as `genseg eval` leaves it.

    Every fifth answer cannot be read, every seventh abstains, every ninth finds the filled box of the picture; the others
    are true, with masks moved by `1 - quality` of the picture's width.
    """
    texts = texts or Texts()
    folder.mkdir(parents=True, exist_ok=True)
    found = [replace(sample, query=texts.query or sample.query) for sample in scenes(count, seed=5)]
    data = folder.parent / f"{texts.data}.parquet"
    pq.write_table(pa.Table.from_pylist([to_row(sample) for sample in found], schema=SCHEMA), data)
    (folder / "run.json").write_bytes(
        orjson.dumps({"identity": {"model": {"name": texts.model}}, "started": "2026-01-01"})
    )
    (folder / "data.json").write_bytes(orjson.dumps({"path": str(data), "name": texts.data}))
    results = []
    for mode in modes:
        stage = f"boxfill-{mode.value}"
        predictions = [_prediction(sample, number, texts, mode, quality) for number, sample in enumerate(found)]
        scores = [_score(sample, guess) for sample, guess in zip(found, predictions, strict=True)]
        places = f"masks/{stage}/predictions.jsonl", f"scores/{stage}/{protocol}.jsonl"
        for place, rows in zip(places, (map(to_json, predictions), map(score_to_json, scores)), strict=True):
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        results.append(
            Result(
                protocol=get_protocol(protocol).to_json(),
                mode=mode,
                model=ModelId(id=texts.model, revision=None),
                segmenter=ModelId(id="boxfill", revision=None),
                data=DataFacts(
                    **{
                        "name": texts.data, "path": str(data), "digest": open_set(data).digest, "samples": count, "foreground": False,
                        **facts,
                    }
                ),
                missing=0,
                summary=summary_of(scores, metrics),
                speed={"answers": 2.5, "masks": 40.0, "scores": 900.0},
                versions={"answers": {"genseg": "0.1.0"}},
                predictions=places[0],
                scores=places[1],
            )
        )  # fmt: skip
    write_results(folder, results)
    return folder


def summary_of(scores: Sequence[SampleScore], metrics: dict[str, Estimate] | None = None) -> Summary:
    """The plainest summary: means, one by one."""
    there = [score for score in scores if not score.no_target]
    ious = [score.iou or 0.0 for score in there]
    values = {
        "cIoU": sum(score.intersection or 0 for score in there) / max(sum(score.union or 0 for score in there), 1),
        "mIoU": sum(ious) / max(len(ious), 1),
        "P@0.5": sum(iou >= 0.5 for iou in ious) / max(len(ious), 1),
    }
    kinds = [score.refusal for score in scores if score.refusal]
    known = {
        name: Estimate(value, max(value - 0.05, 0), min(value + 0.05, 1), len(there)) for name, value in values.items()
    }
    known["tokens"] = Estimate(120.5, 100.0, 140.0, len(scores))
    return Summary(
        metrics=(known if metrics is None else metrics) if scores else {},
        refusals={kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        composition=_composition(scores),
        groups={
            name: Summary({"cIoU": known["cIoU"]}, {}, _composition(group))
            for name, group in (
                ("single", [score for score in there if score.true_instances == 1]),
                ("no-target", [score for score in scores if score.no_target]),
            )
            if group
        },
    )


def _composition(scores: Sequence[SampleScore]) -> Composition:
    counts = [score.true_instances for score in scores]
    return Composition(
        samples=len(scores),
        targets=sum(count > 0 for count in counts),
        no_target=counts.count(0),
        single=counts.count(1),
        multi=sum(count > 1 for count in counts),
        pictures=len({score.image for score in scores}),
        refs=len(scores),
        true_area=sum(score.true_area or 0 for score in scores),
        union_area=sum(score.union or 0 for score in scores),
    )


def _prediction(sample: Sample, number: int, texts: Texts, mode: PromptMode, quality: float) -> Prediction:
    refused, abstains, wild = number % 5 == 4, number % 7 == 6, number % 9 == 8
    truth = truth_of(sample)
    masks = [rle.decode(mask) for mask in truth.masks or ()]
    if wild or sample.no_target:
        masks = [rle.decode(rle.merge((), sample.size)) | True] if wild or number % 2 else []
    shift = round((1 - quality) * sample.size.width)
    found = []
    for mask in masks:
        moved = mask.copy()
        moved[:, :] = False
        moved[:, shift:] = mask[:, : mask.shape[1] - shift]
        encoded = rle.encode(moved)
        box = rle.box(encoded)
        if box is not None:
            grid = sample.targets[0].box if sample.targets else (0, 0, 1000, 1000)
            found.append(PredictedInstance(Instance(grid), MaskPrompt(box), encoded, 0.9))  # pyright: ignore[reportArgumentType]
    silent = refused or abstains
    return Prediction(
        id=sample.id,
        image="",
        query=sample.query,
        size=sample.size,
        no_target=not refused and (abstains or not found),
        instances=() if silent else tuple(found),
        think=None if refused else texts.think,
        raw=texts.raw,
        refusal=Refusal(RefusalKind.NO_ANSWER, texts.raw, texts.think) if refused else None,
        finish=FinishReason.STOP,
        tokens=120,
        timings={},
        model=texts.model,
        model_revision=None,
        segmenter="boxfill",
        segmenter_revision=None,
        prompt_mode=mode,
        dialect="genseg",
        prompt_digest="0123456789ab",
    )


def _score(sample: Sample, guess: Prediction) -> SampleScore:
    truth = truth_of(sample)
    true = rle.decode(rle.merge(truth.masks or (), sample.size))
    predicted = rle.decode(rle.merge([found.mask for found in guess.instances], sample.size))
    shared, covered = int((true & predicted).sum()), int((true | predicted).sum())
    return SampleScore(
        id=sample.id,
        image=truth.image,
        ref=truth.ref,
        no_target=sample.no_target,
        abstained=guess.no_target,
        refusal=guess.refusal.kind if guess.refusal else None,
        true_instances=len(sample.targets),
        predicted_instances=len(guess.instances),
        size_class=SizeClass.LARGE if sample.targets else None,
        intersection=shared,
        union=covered,
        true_area=int(true.sum()),
        predicted_area=int(predicted.sum()),
        iou=shared / covered if covered else 1.0,
        box_iou=None,
        enclosing_box_iou=None,
        true_boxes=truth.boxes,
        predicted_boxes=tuple(found.prompt.box for found in guess.instances),
        box_scores=tuple(found.score for found in guess.instances),
        think=guess.think is not None,
        tokens=guess.tokens,
    )
