"""Batches that teach the segmenter: against the real image processor and the scenes' own masks."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from gensegcli.miniature.segmenter_data import Batch, PromptedScenes, prompt_for  # noqa: E402
from gensegcli.miniature.segmenter_model import INPUT, STRIDES, build_processor  # noqa: E402
from gensegcli.sources.scenes import ANSWER_STEP, COLOURS, SIZES, draw_scene  # noqa: E402

PROCESSOR = build_processor()


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    data = PromptedScenes(scenes=2, prompts=7, mean=PROCESSOR.image_mean, std=PROCESSOR.image_std, start=10, stop=22)
    return [data[i] for i in range(len(data))]


def test_a_batch_follows_from_its_number(batches: list[Batch]) -> None:
    later = PromptedScenes(scenes=2, prompts=7, mean=PROCESSOR.image_mean, std=PROCESSOR.image_std, start=15, stop=22)
    again, other = later[0], later[1]
    for name in ("pixels", "boxes", "truth", "colours"):
        assert torch.equal(getattr(again, name), getattr(batches[5], name)), name
    assert not torch.equal(other.pixels, again.pixels)


def test_pictures_are_what_the_image_processor_makes_of_them() -> None:
    data = PromptedScenes(scenes=1, prompts=1, mean=PROCESSOR.image_mean, std=PROCESSOR.image_std, start=0, stop=1)
    for seed, size in enumerate(SIZES):
        image = draw_scene(seed, size).image
        expected = PROCESSOR(images=[image], return_tensors="pt").pixel_values[0].numpy()
        # The processor rounds the enlarged picture to whole grey levels: half a level, divided by the smallest std.
        assert np.abs(data.normalised(image) - expected).max() < 1.01 / 255 / min(PROCESSOR.image_std)


def test_all_prompt_modes_and_scene_sizes_come_up(batches: list[Batch]) -> None:
    assert {0 if batch.points is None else batch.points.shape[2] for batch in batches} == {0, 1, 2}
    assert len({tuple(batch.truth.shape[2:]) for batch in batches}) > 1


def test_every_thing_is_asked_for_and_prompts_stay_in_the_picture(batches: list[Batch]) -> None:
    for batch in batches:
        assert batch.truth.flatten(2).any(2).all()
        for own, colours in zip(batch.truth, batch.colours, strict=True):
            asked = torch.nn.functional.interpolate(own.any(0)[None, None].float(), colours.shape, mode="area")[0, 0]
            # Seven prompts are more than a scene has things: where no mask is there is ground, and the other way round.
            assert not (colours[asked == 0] > 0).any()
            assert (colours[asked == 1] > 0).all()
        for places in (batch.boxes, batch.points):
            assert places is None or (places.min() >= 0 and places.max() <= INPUT)


def test_dense_labels_name_the_colour_and_the_box_of_what_is_there(batches: list[Batch]) -> None:
    for batch in batches:
        assert batch.colours.max() <= len(COLOURS)
        coarse = INPUT // STRIDES[-1]
        assert batch.extents.shape[1:] == (coarse, coarse, 4)
        known = ~batch.extents.isnan().any(-1)
        assert known.any((1, 2)).all()
        edges = batch.extents[known]
        assert (edges[:, :2] <= 0).all()
        assert (edges[:, 2:] >= 0).all()


def test_exact_rounded_and_shaken_prompts_stay_near_the_thing() -> None:
    thing = draw_scene(3).things[0]
    truth = np.array(thing.box) * INPUT / 128
    extent = np.tile(truth[2:] - truth[:2], 2)
    rng = np.random.default_rng(0)
    boxes = np.stack([prompt_for(thing, SIZES[0], 2, rng)[0] for _ in range(400)])
    error = np.abs(boxes - truth) / extent
    exact = (error < 1e-6).all(1).mean()
    assert 0.3 < exact < 0.5  # a share of 0.4 of 400 draws
    step = ANSWER_STEP / 1000 * INPUT
    on_grid = (np.abs(boxes / step - np.round(boxes / step)) < 1e-3).all(1)
    assert 0.5 < on_grid.mean() < 0.7
    assert 0.005 < error.mean() < 0.05  # rounding moves edges by up to a pixel, shaking by 5 % of the side
