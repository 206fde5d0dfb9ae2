"""The pipeline beside the straightforward loop: one picture × 8 expressions, and 64 pictures × 1 expression.

    python benchmarks/pipeline.py [--model demo] [--pictures 64] [--rounds 3]

The loop is what a first script does with transformers, one thing after the other: for each request one `generate`, and
for each object in the answer one encoding and one decoding. Ours is the product on the same weights; that the
texts are the same is checked first. Each stage is timed by itself, since in the pipeline they run beside each other
on the same cores; `whole` is the loop beside `Pipeline.predict_many`. Rounds alternate, and medians are printed.

`at most` is the ratio that no batching can exceed. For the segmenter: the loop beside the bare model on prepared
tensors, each picture encoded once. For the policy: tokens of all answers over tokens of the longest, as if a step of a
batch cost no more than one of a single answer; with more questions than places in the batch (16), that many.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import segmenter as bare
import torch
from PIL import Image

import gensegcli
from gensegcli.dialects import get_dialect
from gensegcli.models import resolve_policy
from gensegcli.policy.frame import fit_picture, frame_for
from gensegcli.policy.hf import TransformersPolicy
from gensegcli.policy.prompting import render_prompt
from gensegcli.records import Answer, Question, Size
from gensegcli.requests import Request
from gensegcli.segmenter.prompts import prompts_for
from gensegcli.segmenter.sam2 import Sam2Segmenter
from gensegcli.sources.scenes import draw_scene, refer

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import Sam2Model

    from gensegcli.records import Completion, MaskPrompt

Case = list[tuple[Image.Image, str]]  # a picture and an expression each


class Bench(NamedTuple):
    """What is measured: the product, and the segmenter's weights in the model as transformers made it."""

    pipeline: gensegcli.Pipeline
    plain: Sam2Model

    @property
    def policy(self) -> TransformersPolicy:
        assert isinstance(self.pipeline.policy, TransformersPolicy)
        return self.pipeline.policy

    @property
    def segmenter(self) -> Sam2Segmenter:
        assert isinstance(self.pipeline.segmenter, Sam2Segmenter)
        return self.pipeline.segmenter


def questions(bench: Bench, case: Case) -> list[Question]:
    """The case as the policy is asked."""
    return [Question(image, bench.pipeline.dialect.ask(query)) for image, query in case]


def prompts(bench: Bench, case: Case, texts: list[str]) -> list[list[MaskPrompt]]:
    """What the answers prompt the segmenter with, for each request."""
    found = []
    for (image, _), text in zip(case, texts, strict=True):
        size = Size(*image.size)
        reading = bench.pipeline.dialect.read(text, frame=frame_for(bench.pipeline.entry, size))
        found.append(prompts_for(reading.instances, size, bench.pipeline.mode) if isinstance(reading, Answer) else [])
    return found


# ---------------------------------------------------------------- the loop


@torch.inference_mode()
def ask_plainly(bench: Bench, question: Question) -> str:
    """One `generate` for one question."""
    policy = bench.policy
    inputs = policy.processor(
        text=[render_prompt(policy.processor, question.text)],
        images=[[fit_picture(policy.entry, question.image)]],
        images_kwargs={"min_pixels": policy.entry.min_pixels, "max_pixels": policy.entry.max_pixels},
        return_tensors="pt",
    ).to(policy.device, dtype=policy.dtype)
    ids = policy.model.generate(
        **inputs,
        do_sample=False,
        repetition_penalty=1.0,
        max_new_tokens=bench.pipeline.sampling.max_tokens,
        eos_token_id=sorted(policy.stop_ids),
        pad_token_id=min(policy.stop_ids),
    )
    return policy.processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def loop_policy(bench: Bench, case: Case) -> list[str]:
    return [ask_plainly(bench, question) for question in questions(bench, case)]


def loop_segmenter(bench: Bench, case: Case, asked: list[list[MaskPrompt]]) -> None:
    for (image, _), own in zip(case, asked, strict=True):
        for one in own:
            bare.segment_one(bench.segmenter, bench.plain, np.array(image), one)


def loop_whole(bench: Bench, case: Case) -> None:
    for request in case:
        texts = [ask_plainly(bench, questions(bench, [request])[0])]
        loop_segmenter(bench, [request], prompts(bench, [request], texts))


# ---------------------------------------------------------------- ours


def our_policy(bench: Bench, case: Case) -> list[Completion]:
    """In the calls that the pipeline makes."""
    asked, step = questions(bench, case), bench.pipeline.batch_size
    parts = [asked[i : i + step] for i in range(0, len(asked), step)]
    return [answer for part in parts for (answer,) in bench.policy.generate(part, bench.pipeline.sampling)]


def our_segmenter(bench: Bench, case: Case, asked: list[list[MaskPrompt]]) -> None:
    images, own = by_picture(case, asked)
    bare.ours(bench.segmenter, images, own)


def our_whole(bench: Bench, case: Case) -> None:
    bench.segmenter.cache.clear()
    list(bench.pipeline.predict_many([Request(str(i), image, query) for i, (image, query) in enumerate(case)]))


def by_picture(case: Case, asked: list[list[MaskPrompt]]) -> tuple[list[np.ndarray], list[list[MaskPrompt]]]:
    """Each picture that has prompts once, with those of all its requests."""
    groups: dict[int, tuple[np.ndarray, list[MaskPrompt]]] = {}
    for (image, _), own in zip(case, asked, strict=True):
        groups.setdefault(id(image), (np.array(image), []))[1].extend(own)
    kept = [group for group in groups.values() if group[1]]
    return [image for image, _ in kept], [own for _, own in kept]


# ---------------------------------------------------------------- measuring


def seconds(run: Callable[[], object]) -> float:
    """In a thread of its own, as in the pipeline: a second team of OpenMP threads beside the first would slow both."""
    with ThreadPoolExecutor(1) as pool:
        began = perf_counter()
        pool.submit(run).result()
        return perf_counter() - began


def measure(bench: Bench, case: Case, rounds: int) -> list[tuple[str, float, float, float, float | None]]:
    """Stage, median seconds of loop and ours, median ratio, highest possible ratio."""
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(our_policy, bench, case).result()
        plain = pool.submit(loop_policy, bench, case).result()
    texts = [answer.text for answer in answers]
    same = sum(ours == other for ours, other in zip(texts, plain, strict=True))
    print(f"{same} of {len(case)} texts are those of the loop", file=sys.stderr)
    asked = prompts(bench, case, texts)
    images, own = by_picture(case, asked)
    each = sum(map(len, own)) // len(images)
    runs = {
        "policy": (lambda: loop_policy(bench, case), lambda: our_policy(bench, case)),
        "segmenter": (lambda: loop_segmenter(bench, case, asked), lambda: our_segmenter(bench, case, asked)),
        "whole": (lambda: loop_whole(bench, case), lambda: our_whole(bench, case)),
    }
    limit = bare.limit(bench.segmenter, images, [(own[0] * each)[:each]] * len(images))
    for run in (limit, *(ours for _, ours in runs.values())):
        seconds(run)
    timed: dict[str, list[tuple[float, float]]] = {stage: [] for stage in runs}
    limits = []
    for _ in range(rounds):
        for stage, (loop, ours) in runs.items():
            timed[stage].append((seconds(loop), seconds(ours)))
        limits.append(timed["segmenter"][-1][0] / seconds(limit))
    tokens = [answer.tokens for answer in answers]
    most = {
        "policy": min(bench.policy.batch_size, sum(tokens) / max(tokens)),
        "segmenter": statistics.median(limits),
    }
    return [
        (
            stage,
            statistics.median(loop for loop, _ in pairs),
            statistics.median(ours for _, ours in pairs),
            statistics.median(loop / ours for loop, ours in pairs),
            most.get(stage),
        )
        for stage, pairs in timed.items()
    ]


def cases(pictures: int) -> dict[str, Case]:
    """The two cases, on generated scenes."""
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

    entry = resolve_policy(options.model).entry
    print(f"{options.model}, dialect {get_dialect(entry.dialect).name}, segmenter {entry.segmenter}", file=sys.stderr)
    print("| case | stage | loop, s | ours, s | ratio | at most |\n|---|---|---:|---:|---:|---:|")
    with gensegcli.load(options.model, backend="transformers") as pipeline:
        _, plain = bare.build(entry.segmenter, None)
        bench = Bench(pipeline, plain)
        for name, case in cases(options.pictures).items():
            for stage, loop, ours, ratio, most in measure(bench, case, options.rounds):
                at_most = f"{most:.1f}" if most else ""
                print(f"| {name} | {stage} | {loop:.2f} | {ours:.2f} | {ratio:.1f} | {at_most} |", flush=True)


if __name__ == "__main__":
    main()
