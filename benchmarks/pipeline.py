"""The pipeline beside the straightforward loop: one picture × 8 expressions, and 64 pictures × 1 expression.

    python benchmarks/pipeline.py [--model demo] [--pictures 64] [--rounds 3]

Both sides use the same loaded models and the same pictures, and neither finds encodings of an earlier run in the
segmenter's cache. The loop does what a first script does: for each request one `generate`, one encoding of the picture
and one decoding per instance. Rounds alternate; medians are printed, and ratios are of one run.
"""

from __future__ import annotations

import argparse
import statistics
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

import gensegcli
from gensegcli.policy.frame import frame_for
from gensegcli.records import Answer, Question, Size
from gensegcli.requests import Request
from gensegcli.segmenter.prompts import prompts_for
from gensegcli.sources.scenes import draw_scene, refer

if TYPE_CHECKING:
    from collections.abc import Callable

Seconds = dict[str, float]
Case = list[tuple[Image.Image, str]]  # a picture and an expression each


def loop(pipeline: gensegcli.Pipeline, case: Case) -> Seconds:
    """One request after the other, nothing shared: seconds by stage."""
    spent = {"policy": 0.0, "segmenter": 0.0}
    began = perf_counter()
    for image, query in case:
        pipeline.segmenter.cache.clear()
        started = perf_counter()
        (completions,) = pipeline.policy.generate([Question(image, pipeline.dialect.ask(query))], pipeline.sampling)
        reading = pipeline.dialect.read(completions[0].text, frame=frame_for(pipeline.entry, Size(*image.size)))
        asked = perf_counter()
        spent["policy"] += asked - started
        if isinstance(reading, Answer):
            for prompt in prompts_for(reading.instances, Size(*image.size), pipeline.mode):
                pipeline.segmenter.segment([np.asarray(image)], [[prompt]])  # encodes for the first, then decodes only
        spent["segmenter"] += perf_counter() - asked
    return spent | {"whole": perf_counter() - began}


def ours(pipeline: gensegcli.Pipeline, case: Case) -> Seconds:
    """The same through `predict_many`: seconds by stage, summed over the shares of all predictions."""
    requests = [Request(str(i), image, query) for i, (image, query) in enumerate(case)]
    pipeline.segmenter.cache.clear()
    began = perf_counter()
    predictions = list(pipeline.predict_many(requests))
    whole = perf_counter() - began
    stages = {
        stage: sum(prediction.timings.get(stage, 0.0) for prediction in predictions)
        for stage in ("policy", "segmenter")
    }
    return stages | {"whole": whole}


def cases(pictures: int) -> dict[str, Case]:
    rng = np.random.default_rng(0)
    one = draw_scene(1_000_000, fewest=6)
    image = Image.fromarray(one.image)
    eight = [(image, f"small {thing.colour} {thing.shape}") for thing in one.things]
    eight += [(image, text) for text in ("everything red", "all circles", "the star")]
    many = [draw_scene(2_000_000 + i) for i in range(pictures)]
    return {
        "1 picture × 8 expressions": eight[:8],
        f"{pictures} pictures × 1 expression": [(Image.fromarray(s.image), refer(s, rng).expression) for s in many],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    print("| case | stage | loop, s | ours, s | ratio |\n|---|---|---|---|---|")
    sides: dict[str, Callable[[gensegcli.Pipeline, Case], Seconds]] = {"loop": loop, "ours": ours}
    # The miniature's longest true answer has 230 tokens; one row that runs on to 1,500 would be all that is measured.
    with gensegcli.load(options.model, max_tokens=256) as pipeline:
        for name, case in cases(options.pictures).items():
            for run in sides.values():
                run(pipeline, case[:4])
            rounds = [{side: run(pipeline, case) for side, run in sides.items()} for _ in range(options.rounds)]
            for stage in ("policy", "segmenter", "whole"):
                slow, fast = (statistics.median(seconds[side][stage] for seconds in rounds) for side in sides)
                ratio = statistics.median(seconds["loop"][stage] / seconds["ours"][stage] for seconds in rounds)
                print(f"| {name} | {stage} | {slow:.2f} | {fast:.2f} | {ratio:.1f} |")


if __name__ == "__main__":
    main()
