"""The miniature segmenter: architecture, teaching, and the weights that are shipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from gensegcli.families import BUNDLED  # noqa: E402
from gensegcli.geometry.keypoints import mine_positive  # noqa: E402
from gensegcli.geometry.masks import mask_iou  # noqa: E402
from gensegcli.miniature.segmenter_model import INPUT, STAGES, STRIDES, build_model, build_processor  # noqa: E402
from gensegcli.miniature.teach_segmenter import Recipe, SegmenterTeacher, decode, encode  # noqa: E402
from gensegcli.models import resolve_segmenter  # noqa: E402
from gensegcli.records import MaskPrompt  # noqa: E402
from gensegcli.segmenter import load_segmenter  # noqa: E402
from gensegcli.segmenter.boxfill import BoxFill  # noqa: E402
from gensegcli.sources.scenes import scene_of  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

    from gensegcli.segmenter.base import Segmenter

SHIPPED = BUNDLED / "segmenter"
HELD_OUT = 7
SMALL = Recipe(steps=4, scenes=2, prompts=2)


@pytest.fixture(scope="module")
def untrained() -> transformers.Sam2Model:
    torch.manual_seed(0)
    return build_model(attention="eager").eval()


@pytest.fixture(scope="module")
def shipped() -> Segmenter:
    return load_segmenter(resolve_segmenter("demo"), device="cpu")


# ---------------------------------------------------------------- architecture


def test_it_is_a_sam_2_of_under_two_million_weights(untrained: transformers.Sam2Model) -> None:
    assert type(untrained) is transformers.Sam2Model
    assert sum(weight.numel() for weight in untrained.parameters()) < 2_000_000
    # What the original code of SAM 2 takes for granted of its picture encoder.
    hiera = untrained.config.vision_config.backbone_config
    assert [wide // STAGES[0] for wide in hiera.embed_dim_per_stage] == [1, 2, 4, 8]
    assert hiera.num_attention_heads_per_stage == [1, 2, 4, 8]
    assert (hiera.mlp_ratio, hiera.patch_stride, hiera.query_stride) == (4.0, [4, 4], [2, 2])


def test_picture_and_prompts_share_one_code_of_places(untrained: transformers.Sam2Model) -> None:
    inner = untrained.prompt_encoder.shared_embedding.positional_embedding
    assert torch.equal(untrained.shared_image_embedding.positional_embedding, inner)
    # The code of a cell's centre is nearest to the code of a prompt there, among all cells.
    side = INPUT // STRIDES[-1]
    cells = untrained.get_image_wide_positional_embeddings()[0].flatten(1).T
    row, column = 3, 8
    centre = torch.tensor([[[[(column + 0.5) * STRIDES[-1], (row + 0.5) * STRIDES[-1]]]]])
    prompt = untrained.prompt_encoder.shared_embedding(centre, (INPUT, INPUT))[0, 0, 0]
    assert int((cells @ prompt).argmax()) == row * side + column


def test_the_processor_makes_what_the_model_takes(untrained: transformers.Sam2Model) -> None:
    pixels = build_processor()(images=[np.zeros((90, 160, 3), np.uint8)], return_tensors="pt").pixel_values
    assert pixels.shape == (1, 3, INPUT, INPUT)
    features = encode(untrained, pixels)
    assert [level.shape[-1] for level in features] == [INPUT // stride for stride in STRIDES]


@pytest.mark.parametrize("points", [0, 2])
def test_teaching_computes_what_the_model_computes(untrained: transformers.Sam2Model, points: int) -> None:
    rng = torch.Generator().manual_seed(1)
    pixels = torch.randn(2, 3, INPUT, INPUT, generator=rng)
    boxes = torch.rand(2, 3, 4, generator=rng) * INPUT
    spots = torch.rand(2, 3, points, 2, generator=rng) * INPUT if points else None
    with torch.no_grad():
        expected = untrained(pixel_values=pixels, input_boxes=boxes, input_points=spots)
        masks, scores = decode(untrained, encode(untrained, pixels), boxes, spots, single=False)
    torch.testing.assert_close(masks, expected.pred_masks, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores, expected.iou_scores, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- teaching


def test_repeating_one_batch_teaches_it() -> None:
    """Quality is left out: what it must predict changes while the masks do."""
    recipe = Recipe(steps=24, scenes=2, prompts=2, warmup=3)
    teacher = SegmenterTeacher(recipe)
    batch = teacher.batches(0, 1)[0]
    curve = [teacher.step(batch, step) for step in range(16)]
    first, last = curve[0], curve[-1]
    assert last["pixels"] < 0.5 * first["pixels"]
    assert last["dice"] < 0.8 * first["dice"]
    assert last["dense"] < 0.9 * first["dense"]
    assert last["iou"] > first["iou"] + 0.2


def test_a_saved_folder_loads_as_it_was(tmp_path: Path) -> None:
    teacher = SegmenterTeacher(SMALL)
    teacher.save(tmp_path)
    model, loading = transformers.Sam2Model.from_pretrained(
        tmp_path, dtype=torch.float32, local_files_only=True, output_loading_info=True
    )
    assert not any(loading.values()), loading
    taught = teacher.model.state_dict()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, taught[name].half().float()), name
    processor = transformers.Sam2ImageProcessor.from_pretrained(tmp_path, local_files_only=True)
    assert (processor.size.height, processor.size.width) == (INPUT, INPUT)


# ---------------------------------------------------------------- the shipped weights


def test_the_shipped_folder_is_small_and_described() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 4_000_000
    assert (SHIPPED / "README.md").read_text(encoding="utf-8").startswith("---\n")


def test_shipped_weights_reach_the_bar_on_held_out_scenes(shipped: Segmenter) -> None:
    """A sample of what `benchmarks/miniature_segmenter.py` measures: mIoU, and how far above the filled box."""
    found, filled = [], []
    for index in range(40):
        scene, _ = scene_of(index, seed=HELD_OUT)
        prompts = [MaskPrompt(box=thing.box, points=mine_positive(thing.mask)) for thing in scene.things]
        for segmenter, scores in ((shipped, found), (BoxFill(), filled)):
            masks = segmenter.segment([scene.image], [prompts])[0]
            scores += [mask_iou(own.mask, t.mask) for own, t in zip(masks, scene.things, strict=True)]
    assert np.mean(found) >= 0.85
    assert np.mean(found) >= np.mean(filled) + 0.15


def test_the_mask_goes_where_the_box_goes(shipped: Segmenter) -> None:
    """On one picture with many things, each box brings its own thing; what hides behind another may be joined to it."""
    scenes = [scene_of(index, seed=HELD_OUT)[0] for index in range(40)]
    crowded = [scene for scene in scenes if len(scene.things) >= 4][:5]
    assert len(crowded) == 5
    strays = []
    for scene in crowded:
        boxes = [MaskPrompt(box=thing.box, points=()) for thing in scene.things]
        masks = shipped.segment([scene.image], [boxes])[0]
        overlap = np.array([[mask_iou(own.mask, thing.mask) for thing in scene.things] for own in masks])
        assert (overlap.argmax(1) == np.arange(len(masks))).all()
        strays += overlap[~np.eye(len(masks), dtype=bool)].tolist()
    assert np.mean(strays) < 0.03
