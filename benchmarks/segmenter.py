"""The segmenter stage: one picture with many prompts, and many pictures with one, beside the straightforward loop.

The loop is what transformers' documentation shows, per prompt: prepare the picture, encode it, decode one prompt,
upsample, take the best mask, all with the model as transformers made it. Ours is `Sam2Segmenter.segment` with an empty
cache, on the same weights, and gives the same masks, which is checked first. The bare limit is our model alone: each
picture's encoder pass once, in our batches, and each batch of prompts through prompt encoder and decoder once, on
tensors that are already prepared.

    python benchmarks/segmenter.py [--model miniature] [--rounds 5] [--size 640x480] [--device cpu] [--json] [--check]

`--model` is a random-weight architecture (miniature, tiny, large) or anything `--segmenter` takes (demo, a folder).

Where batching cannot help: each picture must be encoded once whatever we do, so with one prompt a picture all that
can be saved is the overhead of calls and the idle width of the device. A large encoder that keeps all cores busy with
one picture at a time gains nothing on a CPU (the ratio tends to 1); a small one, or a GPU, gains. With many prompts on
one picture the encoder pass is saved, and the ratio tends to (encode + decode) / decode. The table's highest possible
ratio is the loop beside the bare model; where that is below the bar, the bar does not apply.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import Sam2Config, Sam2ImageProcessor, Sam2Model, Sam2Processor

from gensegcli.models import resolve_segmenter
from gensegcli.records import MaskPrompt, PixelBox, PixelPoint, SegmentedMask
from gensegcli.segmenter.sam2 import Sam2Segmenter
from gensegcli.segmenter.sam2_load import default_device, load_model

if TYPE_CHECKING:
    from collections.abc import Callable

BAR = 3.0
SHAPES = {"1 picture x 8 prompts": (1, 8), "64 pictures x 1 prompt": (64, 1)}
POINTS = 2

HIERA_LARGE = {
    "hidden_size": 144,
    "num_attention_heads": 2,
    "blocks_per_stage": [2, 6, 36, 4],
    "embed_dim_per_stage": [144, 288, 576, 1152],
    "num_attention_heads_per_stage": [2, 4, 8, 16],
    "window_size_per_stage": [8, 4, 16, 8],
    "global_attention_blocks": [23, 33, 43],
}


def random_model(name: str) -> tuple[Sam2Model, Sam2ImageProcessor]:
    """A model of the named architecture with random weights, and its image processor."""
    torch.manual_seed(0)
    if name == "miniature":
        from gensegcli.miniature.segmenter_model import build_model, build_processor

        return build_model(), build_processor()
    backbone = HIERA_LARGE if name == "large" else {}
    vision = {"backbone_config": backbone} if backbone else {}
    if backbone:
        vision["backbone_channel_list"] = backbone["embed_dim_per_stage"][::-1]
    model = Sam2Model(Sam2Config(vision_config=vision))
    # As in every trained checkpoint, pictures and prompts share one code for positions.
    shared = model.prompt_encoder.shared_embedding.positional_embedding
    model.shared_image_embedding.positional_embedding.copy_(shared)
    return model, Sam2ImageProcessor()


def build(name: str, device: str | None) -> tuple[Sam2Segmenter, Sam2Model]:
    """The segmenter under test, and the model as transformers made it: ours leaves out what its encoder does for nothing."""
    random = name in {"miniature", "tiny", "large"}
    model, processor = random_model(name) if random else load_model(resolve_segmenter(name).fetch())
    plain = copy.deepcopy(model).eval()
    segmenter = Sam2Segmenter(model, processor, id=name, device=device or default_device())
    return segmenter, plain.to(segmenter.device)


def task(pictures: int, prompts: int, width: int, height: int) -> tuple[list[np.ndarray], list[list[MaskPrompt]]]:
    """Noise pictures, all different, and boxes with two points each."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(pictures)]
    asked = []
    for _ in range(pictures):
        own = []
        for _ in range(prompts):
            x1, y1 = rng.uniform(0, 0.5) * width, rng.uniform(0, 0.5) * height
            box = PixelBox(x1, y1, x1 + 0.4 * width, y1 + 0.4 * height)
            points = [PixelPoint(rng.uniform(x1, box.x2), rng.uniform(y1, box.y2)) for _ in range(POINTS)]
            own.append(MaskPrompt(box, tuple(points)))
        asked.append(own)
    return images, asked


def loop(
    segmenter: Sam2Segmenter, plain: Sam2Model, images: list[np.ndarray], prompts: list[list[MaskPrompt]]
) -> list[list[SegmentedMask]]:
    """One encode and one decode per prompt with the plain model, as the library's documentation does it."""
    return [
        [segment_one(segmenter, plain, image, one) for one in own] for image, own in zip(images, prompts, strict=True)
    ]


def segment_one(segmenter: Sam2Segmenter, plain: Sam2Model, image: np.ndarray, one: MaskPrompt) -> SegmentedMask:
    """One prompt from picture to mask; of the segmenter only its image processor, device and dtype are used."""
    processor = Sam2Processor(segmenter.processor)
    inputs = processor(
        images=image,
        input_boxes=[[list(one.box)]],
        input_points=[[[list(point) for point in one.points]]],
        input_labels=[[[1] * len(one.points)]],
        return_tensors="pt",
    ).to(segmenter.device)
    sizes = inputs.pop("original_sizes")
    cast = torch.autocast(segmenter.device.type, segmenter.dtype, enabled=segmenter.dtype != torch.float32)
    with torch.inference_mode(), cast:
        output = plain(**inputs)
    masks = processor.post_process_masks(output.pred_masks.float(), sizes)[0][0]
    best = int(output.iou_scores[0, 0].argmax())
    return SegmentedMask(masks[best].cpu().numpy(), float(output.iou_scores[0, 0, best]))


def ours(
    segmenter: Sam2Segmenter, images: list[np.ndarray], prompts: list[list[MaskPrompt]]
) -> list[list[SegmentedMask]]:
    """The product, every picture new to it."""
    segmenter.cache.clear()
    return segmenter.segment(images, prompts)


def limit(segmenter: Sam2Segmenter, images: list[np.ndarray], prompts: list[list[MaskPrompt]]) -> Callable[[], None]:
    """The model's own work and nothing else, ready to run."""
    count, side, device = len(prompts[0]), segmenter.input_size, segmenter.device
    step = segmenter._picture_batches.size
    batches = []
    for start in range(0, len(images), step):
        n = len(images[start : start + step])
        corner = torch.rand(n, count, 2, device=device) * side / 2
        batches.append(
            (
                torch.randn(n, 3, side, side, device=device),
                torch.cat([corner, corner + 0.4 * side], dim=2),
                corner[:, :, None].repeat(1, 1, POINTS, 1) + 0.2 * side,
                torch.ones(n, count, POINTS, dtype=torch.int64, device=device),
            )
        )

    @torch.inference_mode()
    def run() -> None:
        for pixels, boxes, points, labels in batches:
            with segmenter._autocast():
                features = segmenter.model.get_image_embeddings(pixels)
            segmenter.model(
                image_embeddings=[level.float() for level in features],
                input_boxes=boxes,
                input_points=points,
                input_labels=labels,
            )

    return run


def measure(
    segmenter: Sam2Segmenter, plain: Sam2Model, rounds: int, width: int, height: int
) -> dict[str, dict[str, float]]:
    """Median seconds of loop, ours and limit per shape; interleaved, after one unmeasured round."""
    found: dict[str, dict[str, float]] = {}
    for shape, (pictures, prompts) in SHAPES.items():
        images, asked = task(pictures, prompts, width, height)
        check_same(segmenter, plain, images[:4], asked[:4])
        runs = {
            "loop": lambda images=images, asked=asked: loop(segmenter, plain, images, asked),
            "ours": lambda images=images, asked=asked: ours(segmenter, images, asked),
            "limit": limit(segmenter, images, asked),
        }
        times: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(rounds + 1):
            for name, run in runs.items():
                begin = time.perf_counter()
                run()
                if segmenter.device.type == "cuda":
                    torch.cuda.synchronize()
                if turn > 0:
                    times[name].append(time.perf_counter() - begin)
        found[shape] = {name: statistics.median(values) for name, values in times.items()}
    return found


def check_same(
    segmenter: Sam2Segmenter, plain: Sam2Model, images: list[np.ndarray], prompts: list[list[MaskPrompt]]
) -> None:
    """Loop and ours must agree, or a ratio of their times says nothing. In bf16 the loop's decoder is coarser."""
    floor = 0.999 if segmenter.dtype == torch.float32 else 0.9
    pairs = zip(loop(segmenter, plain, images, prompts), ours(segmenter, images, prompts), strict=True)
    agreement = np.mean([np.mean(a.mask == b.mask) for own, other in pairs for a, b in zip(own, other, strict=True)])
    if agreement < floor:
        raise SystemExit(f"loop and segmenter agree on {agreement:.1%} of pixels only")


def table(found: dict[str, dict[str, float]]) -> str:
    """One Markdown table."""
    rows = [
        "| task | loop, ms | ours, ms | ratio | highest possible ratio | bare model, ms | share of the limit |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    rows += [
        f"| {shape} | {1e3 * t['loop']:.1f} | {1e3 * t['ours']:.1f} | {t['loop'] / t['ours']:.2f} "
        f"| {t['loop'] / t['limit']:.2f} | {1e3 * t['limit']:.1f} | {t['limit'] / t['ours']:.0%} |"
        for shape, t in found.items()
    ]
    return "\n".join(rows)


def verdicts(found: dict[str, dict[str, float]]) -> list[str]:
    """The tasks that miss the bar although the model's own work leaves room for it; each miss in words on stderr."""
    slow = []
    for shape, t in found.items():
        if t["loop"] < BAR * t["limit"]:
            share = t["limit"] / t["loop"]
            print(
                f"{shape}: the bare model takes {share:.0%} of the loop; no batching reaches {BAR:g}", file=sys.stderr
            )
        elif t["loop"] < BAR * t["ours"]:
            slow.append(shape)
            print(f"{shape}: below {BAR:g} times the loop, which is possible here", file=sys.stderr)
    return slow


def main() -> int:
    """Measure, print; with --check leave with 1 where the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="miniature", help="miniature, tiny, large (random weights), demo, a folder")
    parser.add_argument("--rounds", type=int, default=5, help="times each measurement runs; medians are printed")
    parser.add_argument("--size", default="640x480", help="width x height of the pictures")
    parser.add_argument("--device", help="cpu, cuda, …; the accelerator if there is one")
    parser.add_argument("--json", action="store_true", help="print medians in seconds as JSON instead of the table")
    parser.add_argument("--check", action="store_true", help=f"leave with 1 where {BAR:g} is possible and missed")
    asked = parser.parse_args()
    width, height = map(int, asked.size.split("x"))
    segmenter, plain = build(asked.model, asked.device)
    found = measure(segmenter, plain, asked.rounds, width, height)
    print(json.dumps(found) if asked.json else table(found))
    parameters = sum(parameter.numel() for parameter in segmenter.model.parameters())
    print(
        f"{asked.model}: {parameters / 1e6:.1f} M parameters, {segmenter.input_size} px input, {segmenter.device.type}, "
        f"{str(segmenter.dtype).removeprefix('torch.')} encoder, {torch.get_num_threads()} threads, pictures {asked.size}",
        file=sys.stderr,
    )
    slow = verdicts(found)
    return int(asked.check and bool(slow))


if __name__ == "__main__":
    sys.exit(main())
