"""SAM 2 through transformers: against a plain call of the library, and batched against one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from gensegcli.models import resolve_segmenter  # noqa: E402
from gensegcli.records import Size  # noqa: E402
from gensegcli.segmenter import load_segmenter  # noqa: E402
from gensegcli.segmenter.sam2 import Sam2Segmenter  # noqa: E402
from tests.segmenter.tiny import assert_alike, picture, prompt, random_prompts  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gensegcli.records import MaskPrompt, SegmentedMask

SIZES = [(90, 60), (64, 64), (31, 140)]
MODES = {"box": (0, 0), "box+1": (1, 0), "box+2": (2, 0), "box+2+neg": (2, 2)}


@pytest.fixture
def load(sam2_folder: Path) -> Callable[..., Sam2Segmenter]:
    def load_tiny(**options: object) -> Sam2Segmenter:
        found = load_segmenter(resolve_segmenter(str(sam2_folder)), device="cpu", **options)
        assert isinstance(found, Sam2Segmenter)
        return found

    return load_tiny


@pytest.fixture
def sam2(load: Callable[..., Sam2Segmenter]) -> Sam2Segmenter:
    return load()


class Calls:
    """Batch sizes that went through a module, counted by a forward hook on the real module."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.sizes: list[int] = []
        module.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _module: object, args: tuple, kwargs: dict) -> None:
        first = args[0] if args else kwargs.get("pixel_values", kwargs.get("image_embeddings"))
        self.sizes.append(len(first))


def pairs(
    ours: Sequence[Sequence[SegmentedMask]], others: Sequence[Sequence[SegmentedMask]]
) -> Iterator[tuple[SegmentedMask, SegmentedMask]]:
    for own, other in zip(ours, others, strict=True):
        yield from zip(own, other, strict=True)


def assert_same(ours: Sequence[Sequence[SegmentedMask]], others: Sequence[Sequence[SegmentedMask]]) -> None:
    for mine, other in pairs(ours, others):
        assert_alike(mine.mask, other.mask)
        assert mine.score == pytest.approx(other.score, abs=1e-4)


def plain_call(segmenter: Sam2Segmenter, folder: Path, image: np.ndarray, one: MaskPrompt) -> tuple[np.ndarray, float]:
    """One picture and one prompt exactly as transformers' documentation does it."""
    from transformers import Sam2Processor

    processor = Sam2Processor.from_pretrained(folder)
    points = [*map(list, (*one.points, *one.negatives))]
    inputs = processor(
        images=[image],
        input_boxes=[[list(one.box)]],
        input_points=[[points]] if points else None,
        input_labels=[[[1] * len(one.points) + [0] * len(one.negatives)]] if points else None,
        return_tensors="pt",
    )
    sizes = inputs.pop("original_sizes")
    with torch.inference_mode():
        output = segmenter.model(**inputs, multimask_output=segmenter.multimask)
    masks = processor.post_process_masks(output.pred_masks, sizes)[0][0]
    best = int(output.iou_scores[0, 0].argmax())
    return masks[best].numpy(), float(output.iou_scores[0, 0, best])


@pytest.mark.parametrize("multimask", [True, False], ids=["best of three", "single"])
@pytest.mark.parametrize("mode", MODES)
def test_matches_a_plain_call_of_the_library(
    load: Callable[..., Sam2Segmenter], sam2_folder: Path, mode: str, multimask: bool
) -> None:
    sam2 = load(multimask=multimask)
    points, negatives = MODES[mode]
    images = [picture(*size) for size in SIZES]
    prompts = [random_prompts(4, *size, points=points, negatives=negatives) for size in SIZES]
    found = sam2.segment(images, prompts)
    shares = set()
    for image, asked, masks in zip(images, prompts, found, strict=True):
        for one, mask in zip(asked, masks, strict=True):
            expected, score = plain_call(sam2, sam2_folder, image, one)
            assert_alike(mask.mask, expected)
            assert mask.score == pytest.approx(score, abs=1e-4)
            shares.add(round(float(expected.mean()), 2))
    # Not a comparison of twelve empty masks.
    assert len(shares) > 4


def test_batches_equal_one_by_one(load: Callable[..., Sam2Segmenter]) -> None:
    images = [picture(*size, seed=seed) for seed in range(4) for size in SIZES]
    prompts = [random_prompts(index % 4, *image.shape[1::-1], seed=index) for index, image in enumerate(images)]
    together = load().segment(images, prompts)
    alone = load(cache=0)
    one_by_one = [
        [alone.segment([image], [[one]])[0][0] for one in asked] for image, asked in zip(images, prompts, strict=True)
    ]
    assert_same(together, one_by_one)
    assert sum(map(len, together)) == 18


def test_mixed_numbers_of_points_in_one_call(sam2: Sam2Segmenter) -> None:
    # Padding a prompt would change its mask: the zero token takes part in attention.
    image = picture(90, 60)
    box = (10.0, 8.0, 70.0, 50.0)
    points = ((20.0, 20.0), (50.0, 40.0), (30.0, 30.0))
    asked = [
        prompt(box),
        prompt(box, points[:2]),
        prompt(box, points[:1]),
        prompt(box, points[:2], points[2:]),
        prompt(box, points),
        prompt(box),
    ]
    (together,) = sam2.segment([image], [asked])
    assert_same([together], [[sam2.segment([image], [[one]])[0][0] for one in asked]])
    scores = [mask.score for mask in together]
    assert len({round(score, 4) for score in scores if score is not None}) == 5  # the first and the last are alike


def test_negatives_are_not_positives(sam2: Sam2Segmenter) -> None:
    box, points = (10.0, 8.0, 70.0, 50.0), ((20.0, 20.0), (50.0, 40.0))
    (found,) = sam2.segment([picture(90, 60)], [[prompt(box, points), prompt(box, points[:1], points[1:])]])
    assert found[0].score != pytest.approx(found[1].score, abs=1e-3)


# ---------------------------------------------------------------- encoding once


def test_a_picture_is_encoded_once(sam2: Sam2Segmenter) -> None:
    encoder, decoder = Calls(sam2.model.vision_encoder), Calls(sam2.model.mask_decoder)
    image, other = picture(90, 60), picture(90, 60, seed=1)
    eight = [random_prompts(8, 90, 60)]
    first = sam2.segment([image], eight)
    assert (encoder.sizes, decoder.sizes) == ([1], [8])
    again = sam2.segment([image.copy(), other, image], eight * 3)
    assert (encoder.sizes, decoder.sizes) == ([1, 1], [8, 24])
    assert_same([first[0], first[0]], [again[0], again[2]])


def test_many_pictures_share_batches(sam2: Sam2Segmenter) -> None:
    encoder, decoder = Calls(sam2.model.vision_encoder), Calls(sam2.model.mask_decoder)
    images = [picture(40, 30, seed=seed) for seed in range(20)]
    sam2.segment(images, [random_prompts(1, 40, 30)] * 20)
    assert (encoder.sizes, decoder.sizes) == ([8, 8, 4], [8, 8, 4])
    assert len(sam2.cache) == 8


def test_pictures_without_prompts_are_not_encoded(sam2: Sam2Segmenter) -> None:
    encoder = Calls(sam2.model.vision_encoder)
    image = picture(40, 30)
    found = sam2.segment([image, image, picture(9, 9)], [[], random_prompts(1, 40, 30), []])
    assert [len(own) for own in found] == [0, 1, 0]
    assert encoder.sizes == [1]
    assert sam2.segment([], []) == []


def test_one_encoding_for_many_rollouts(sam2: Sam2Segmenter) -> None:
    # What a reward does: all completions' prompts on one encoding, the same encoding standing several times.
    image = picture(90, 60)
    rollouts = [random_prompts(count, 90, 60, points=count % 3, seed=count) for count in range(1, 6)]
    encodings = sam2.encode([image])
    assert encodings[0].size == Size(90, 60)
    encoder = Calls(sam2.model.vision_encoder)
    found = sam2.decode(encodings * len(rollouts), rollouts)
    assert encoder.sizes == []
    assert_same(found, [sam2.segment([image], [own])[0] for own in rollouts])


# ---------------------------------------------------------------- sizes and places


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (3, 50), (50, 3), (1, 64), (20000, 50), (64, 64), (65, 63)], ids=str)
def test_any_size(sam2: Sam2Segmenter, size: tuple[int, int]) -> None:
    width, height = size
    (found,) = sam2.segment([picture(width, height)], [random_prompts(2, width, height)])
    for mask in found:
        assert mask.mask.shape == (height, width)
        assert mask.mask.dtype == bool
        assert mask.score is not None
        assert 0 <= mask.score <= 1


def test_a_small_picture_is_not_read_channels_first(sam2: Sam2Segmenter) -> None:
    # (3 3 3) can be read both ways; transposing the picture must matter to what the model sees.
    image = picture(3, 3)
    upright, turned = sam2.encode([image, image.transpose(2, 0, 1).copy()])
    enlarged = np.kron(image, np.ones((40, 40, 1), np.uint8))
    reference = sam2.encode([enlarged])[0].features[-1]

    def distance(features: torch.Tensor) -> float:
        return float((features - reference).abs().mean())

    assert distance(upright.features[-1]) < distance(turned.features[-1])


@pytest.mark.parametrize(
    "box",
    [
        (-50.0, -50.0, -10.0, -10.0),
        (500.0, 400.0, 900.0, 700.0),
        (-1e6, -1e6, 1e6, 1e6),
        (5.0, 5.0, 5.0, 5.0),
        (60.0, 40.0, 10.0, 5.0),
    ],
    ids=["left of it", "right of it", "around it", "no area", "turned round"],
)
def test_prompts_beside_the_picture_give_a_mask_of_its_size(sam2: Sam2Segmenter, box: tuple[float, ...]) -> None:
    (found,) = sam2.segment([picture(90, 60)], [[prompt(box, ((-20.0, 700.0),))]])
    assert found[0].mask.shape == (60, 90)
    assert np.isfinite(found[0].score)


def test_pictures_and_prompts_must_pair(sam2: Sam2Segmenter) -> None:
    with pytest.raises(ValueError, match="zip"):
        sam2.segment([picture(9, 9)], [])


# ---------------------------------------------------------------- memory and precision


def test_shrinks_batches_when_memory_runs_out(sam2: Sam2Segmenter) -> None:
    images = [picture(40, 30, seed=seed) for seed in range(6)]
    prompts = [random_prompts(5, 40, 30, seed=seed) for seed in range(6)]
    expected = sam2.segment(images, prompts)
    sam2.cache.clear()

    def small(room: int) -> Callable[..., None]:
        def check(_module: object, args: tuple, kwargs: dict) -> None:
            if len(args[0] if args else kwargs["image_embeddings"]) > room:
                torch.empty(2**60, dtype=torch.uint8)  # an exabyte: the allocator's own error

        return check

    sam2.model.vision_encoder.register_forward_pre_hook(small(2), with_kwargs=True)
    sam2.model.mask_decoder.register_forward_pre_hook(small(7), with_kwargs=True)
    assert_same(sam2.segment(images, prompts), expected)
    assert sam2._picture_batches.size <= 2
    assert sam2._prompt_batches.size <= 7


def test_bf16_encoder_keeps_prompts_in_fp32(load: Callable[..., Sam2Segmenter]) -> None:
    half, full = load(dtype=torch.bfloat16), load()
    image, asked = picture(90, 60), random_prompts(6, 90, 60)
    assert half.encode([image])[0].features[0].dtype == torch.bfloat16
    seen: list[torch.dtype] = []
    half.model.mask_decoder.register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(kwargs["sparse_prompt_embeddings"].dtype), with_kwargs=True
    )
    agreement = [
        float((mine.mask == other.mask).mean())
        for mine, other in pairs(half.segment([image], [asked]), full.segment([image], [asked]))
    ]
    assert seen == [torch.float32]
    assert np.mean(agreement) > 0.9


def test_the_best_mask_that_is_not_empty_is_given(sam2: Sam2Segmenter) -> None:
    """Seen with the bundled model on photographs: the mask of the highest predicted IoU held no pixel, another did."""
    image, asked = picture(90, 60), [prompt((10.0, 8.0, 70.0, 50.0))]
    scores: list[list[float]] = []

    def empty_the_best(_module: object, _args: tuple, outputs: tuple) -> tuple:
        masks, estimates, *rest = outputs  # (1 1 3 h w), (1 1 3)
        best = int(estimates[0, 0].argmax())
        scores.append(sorted(estimates[0, 0].tolist(), reverse=True))
        masks = masks.clone()
        masks[0, 0, best] = -5.0
        return (masks, estimates, *rest)

    before = sam2.segment([image], [asked])[0][0]
    sam2.model.mask_decoder.register_forward_hook(empty_the_best)
    after = sam2.segment([image], [asked])[0][0]
    assert before.mask.any()
    assert after.mask.any()
    assert (before.score, after.score) == (pytest.approx(scores[0][0]), pytest.approx(scores[0][1]))
