"""The prompt filter with the box filler, drawn samples, and every other source taken all the way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gensegcli.errors import GensegError
from gensegcli.geometry.boxes import grid_to_pixel
from gensegcli.geometry.masks import mask_iou
from gensegcli.geometry.rle import decode
from gensegcli.prep import run as run_module
from gensegcli.prep.check import check
from gensegcli.prep.inputs import Inputs, read_raw
from gensegcli.prep.quality import PromptFilter
from gensegcli.prep.run import prepare
from gensegcli.prep.show import draw_sample, find
from gensegcli.segmenter.boxfill import BoxFill
from gensegcli.sources.prepared import read_card, read_prepared
from gensegcli.sources.scenes import samples
from tests.prep.conftest import Tree, recipe, small

if TYPE_CHECKING:
    from pathlib import Path


def test_objects_that_the_prompt_does_not_give_are_filtered_and_counted_apart(tree: Tree, tmp_path: Path) -> None:
    """Against a segmenter that fills the box, a full box has IoU 1 and an L of 30 % has not 0.6."""
    ids = tree.add_picture(1, objects=1)
    full = tree.add_object(1, [[60, 10, 90, 10, 90, 40, 60, 40]])
    tree.add_ref(1, ids, "the corner")
    tree.add_ref(1, [full], "the block")
    tree.add_ref(1, [ids[0], full], "both")
    tree.add_ref(1, [], "a zebra")
    wanted = small()

    report = prepare(
        wanted, tree.raw(wanted), tmp_path / "out", wanted=PromptFilter(BoxFill(), 0.6), wanted_name="boxfill"
    )

    assert [sample.query for sample in read_prepared(tmp_path / "out")] == ["the block", "a zebra"]
    assert report.skips == ()
    assert read_card(tmp_path / "out")["filtered"] == {"prompt IoU": 2}
    with pytest.raises(GensegError, match="filter was"):
        prepare(wanted, tree.raw(wanted), tmp_path / "out")


def test_a_set_without_masks_cannot_be_filtered(tmp_path: Path) -> None:
    row = {"id": "1", "problem": "it", "solution": '[{"bbox_2d": [1, 1, 9, 9], "point_2d": [4, 4]}]'}
    row |= {"image": {"bytes": _jpeg(tmp_path, 840, 840), "path": None}}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "train.parquet")
    wanted = recipe(name="visionreasoner-7k")
    raw = read_raw(wanted, Inputs(tmp_path, files=tmp_path / "train.parquet"))

    with pytest.raises(GensegError, match="no masks to hold the segmenter's against"):
        prepare(wanted, raw, tmp_path / "out", wanted=PromptFilter(BoxFill(), 0.6), wanted_name="boxfill")


def test_samples_are_found_in_any_shard(full_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "SHARD_SAMPLES", 40)
    wanted = small()
    prepare(wanted, full_tree.raw(wanted), tmp_path)
    everything = list(read_prepared(tmp_path))

    for index in (0, 41, 42, 200, len(everything) - 1):
        assert find(tmp_path, index=index) == everything[index]
        assert find(tmp_path, id=everything[index].id) == everything[index]


def test_a_drawn_sample_shows_mask_and_points(full_tree: Tree, tmp_path: Path) -> None:
    wanted = recipe(split="train", purpose="eval")
    prepare(wanted, full_tree.raw(wanted), tmp_path)
    sample = find(tmp_path, index=1)
    assert find(tmp_path, id=sample.id) == sample

    drawn = draw_sample(sample)

    assert drawn.width >= 640
    plain = draw_sample(find(tmp_path, index=0))
    assert np.abs(np.asarray(drawn.resize((64, 64)), int) - np.asarray(plain.resize((64, 64)), int)).mean() > 1
    with pytest.raises(GensegError, match="number 999 asked for"):
        find(tmp_path, index=999)
    with pytest.raises(GensegError, match="unknown sample"):
        find(tmp_path, id="none")


def test_scenes_are_those_that_the_miniature_is_taught(tmp_path: Path) -> None:
    wanted = recipe(name="scenes", changes={"source.n": 30, "select.seed": 5})
    prepare(wanted, read_raw(wanted, Inputs(tmp_path)), tmp_path / "out")

    assert check(tmp_path / "out").number == 0
    for ours, theirs in zip(read_prepared(tmp_path / "out"), samples(30, seed=5), strict=True):
        assert (ours.image, ours.query, ours.size) == (theirs.image, theirs.query, theirs.size)
        assert ours.think == theirs.think
        assert [(t.box, t.points, t.mask) for t in ours.targets] == [(t.box, t.points, t.mask) for t in theirs.targets]


def test_scenes_of_another_split_are_others(tmp_path: Path) -> None:
    pictures = {}
    for split in ("train", "val"):
        wanted = recipe(name="scenes", split=split, changes={"source.n": 20})
        prepare(wanted, read_raw(wanted, Inputs(tmp_path)), tmp_path / split)
        pictures[split] = {sample.image for sample in read_prepared(tmp_path / split)}
    assert not pictures["train"] & pictures["val"]


def test_a_hub_set_without_masks(tmp_path: Path) -> None:
    picture = {"bytes": _jpeg(tmp_path, 840, 840), "path": None}
    solution = json.dumps([{"bbox_2d": [84, 84, 420, 420], "point_2d": [252, 252]}])
    row = {
        "id": "1",
        "problem": "The dog.",
        "solution": solution,
        "image": picture,
        "img_height": 480,
        "img_width": 640,
    }
    pq.write_table(pa.Table.from_pylist([row, row | {"solution": "["}]), tmp_path / "train.parquet")
    wanted = recipe(name="visionreasoner-7k")

    prepare(
        wanted, read_raw(wanted, Inputs(tmp_path, files=tmp_path / "train.parquet")), tmp_path / "out", max_skipped=1
    )

    (sample,) = read_prepared(tmp_path / "out")
    assert sample.image == picture["bytes"], "of the right size already: not encoded again"
    assert sample.query == "the dog"
    assert sample.targets[0].mask is None
    assert sample.targets[0].box == (100, 100, 500, 500)
    assert sample.original_size == (640, 480)
    assert read_card(tmp_path / "out")["skipped"] == {"solution damaged": 1}
    assert check(tmp_path / "out").number == 0
    assert draw_sample(sample).width >= 840


def test_a_hub_set_with_masks(tmp_path: Path) -> None:
    mask = np.zeros((48, 64), bool)
    mask[10:30, 20:40] = True
    row = {"image": {"bytes": _jpeg(tmp_path, 64, 48), "path": None}, "text": "it", "mask": mask.tolist()}
    row |= {"image_id": 785, "ann_id": 7, "img_height": 48, "img_width": 64}
    pq.write_table(pa.Table.from_pylist([row, row | {"text": "that"}]), tmp_path / "test.parquet")
    wanted = recipe(name="refcocog-val-hub")

    prepare(wanted, read_raw(wanted, Inputs(tmp_path, files=tmp_path / "test.parquet")), tmp_path / "out")

    first, second = read_prepared(tmp_path / "out")
    assert first.targets[0].mask is not None
    assert mask_iou(decode(first.targets[0].mask), mask) == 1.0
    assert grid_to_pixel(first.targets[0].box, first.size) == pytest.approx((20, 10, 40, 30))
    assert (second.query, second.image) == ("that", first.image)


def test_a_foreground_set(tmp_path: Path) -> None:
    for folder in ("Image", "GT_Object"):
        (tmp_path / "COD10K-v3" / "Test" / folder).mkdir(parents=True)
    for name in ("a", "b-NonCAM"):
        (tmp_path / "COD10K-v3" / "Test" / "Image" / f"{name}.jpg").write_bytes(_jpeg(tmp_path, 40, 30))
        grey = np.zeros((30, 40), np.uint8)
        grey[5:20, 5:20] = 255
        Image.fromarray(grey).save(tmp_path / "COD10K-v3" / "Test" / "GT_Object" / f"{name}.png")
    wanted = recipe(name="cod10k", split="test")

    prepare(wanted, read_raw(wanted, Inputs(tmp_path)), tmp_path / "out")

    (sample,) = read_prepared(tmp_path / "out")
    assert sample.query == "the camouflaged object"
    assert read_card(tmp_path / "out")["sources"].keys() == {"a.png"}, "masks are annotations: another one, another set"
    assert grid_to_pixel(sample.targets[0].box, sample.size) == pytest.approx((5, 5, 20, 20))


@pytest.mark.parametrize("purpose", ["eval", "train"])
def test_a_picture_without_foreground_is_scored_and_not_learned_from(tmp_path: Path, purpose: str) -> None:
    """PySODMetrics scores pairs whose true mask is empty."""
    for folder in ("Image", "GT_Object"):
        (tmp_path / "COD10K-v3" / "Test" / folder).mkdir(parents=True)
    for name, white in (("a", 255), ("b", 0)):
        (tmp_path / "COD10K-v3" / "Test" / "Image" / f"{name}.jpg").write_bytes(_jpeg(tmp_path, 40, 30))
        grey = np.zeros((30, 40), np.uint8)
        grey[5:20, 5:20] = white
        Image.fromarray(grey).save(tmp_path / "COD10K-v3" / "Test" / "GT_Object" / f"{name}.png")
    wanted = recipe(name="cod10k", split="test", purpose=purpose)

    prepare(wanted, read_raw(wanted, Inputs(tmp_path)), tmp_path / "out", max_skipped=1)

    samples = list(read_prepared(tmp_path / "out"))
    assert [len(sample.targets) for sample in samples] == ([1, 0] if purpose == "eval" else [1])
    assert read_card(tmp_path / "out")["skipped"] == ({} if purpose == "eval" else {"empty mask": 1})


def test_ignored_pixels_are_kept_apart(shared_data: Path, tmp_path: Path) -> None:
    wanted = recipe(name="reasonseg", split="val")
    prepare(wanted, read_raw(wanted, Inputs(shared_data / "mini" / "reason_seg")), tmp_path)

    batter, skier = read_prepared(tmp_path)

    assert skier.ignore is None
    assert batter.ignore is not None
    assert batter.targets[0].mask is not None
    assert decode(batter.ignore).any()
    assert not (decode(batter.ignore) & decode(batter.targets[0].mask)).any()
    assert len(batter.sentences) == 2


def _jpeg(folder: Path, width: int, height: int) -> bytes:
    path = folder / "picture.jpg"
    Image.effect_noise((width, height), 60).convert("RGB").save(path)
    return path.read_bytes()
