"""The size at which a model sees a picture, held against the processors that really resize."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gensegcli.dialects import get_dialect
from gensegcli.families import Coordinates, policy_entry
from gensegcli.geometry.boxes import box_iou, grid_to_pixel, pixel_to_grid
from gensegcli.models import POLICIES, resolve_policy
from gensegcli.policy.frame import fit_picture, frame_for, input_size
from gensegcli.records import Answer, GridBox, Instance, PixelBox, Size

if TYPE_CHECKING:
    from pathlib import Path

ENTRIES = {name: POLICIES[name] for name in ("qwen3-vl-4b", "qwen2.5-vl-7b")}
sides = st.integers(1, 20_000)


@pytest.mark.parametrize(
    ("alias", "size", "seen"),
    [
        ("qwen3-vl-4b", (840, 840), (832, 832)),  # the method's own example: 840 is no multiple of 32
        ("qwen2.5-vl-7b", (840, 840), (840, 840)),  # and 840 = 30 · 28
        ("qwen3-vl-4b", (640, 480), (640, 480)),
        ("qwen2.5-vl-7b", (640, 480), (644, 476)),
        ("qwen3-vl-4b", (1, 1), (256, 256)),
        ("qwen2.5-vl-7b", (1, 1), (56, 56)),
    ],
)
def test_sizes_worked_out_by_hand(alias: str, size: tuple[int, int], seen: tuple[int, int]) -> None:
    assert input_size(POLICIES[alias], Size(*size)) == seen


@pytest.mark.parametrize("alias", ENTRIES)
@given(width=sides, height=sides)
def test_a_processor_leaves_the_size_alone(alias: str, width: int, height: int) -> None:
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    entry = ENTRIES[alias]
    seen = input_size(entry, Size(width, height))
    assert seen.width % entry.factor == 0
    assert seen.height % entry.factor == 0
    assert seen.width * seen.height <= entry.max_pixels
    again = smart_resize(seen.height, seen.width, entry.factor, entry.min_pixels, entry.max_pixels)
    assert again == (seen.height, seen.width)


@pytest.mark.parametrize("alias", ENTRIES)
@given(width=st.integers(100, 4000), height=st.integers(100, 4000))
def test_ordinary_pictures_get_the_processors_own_size(alias: str, width: int, height: int) -> None:
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    entry = ENTRIES[alias]
    expected = smart_resize(height, width, entry.factor, entry.min_pixels, entry.max_pixels)
    assert input_size(entry, Size(width, height)) == expected[::-1]


@pytest.mark.parametrize("size", [(320, 200), (64, 300), (1, 1), (20000, 50), (333, 777), (9000, 40)])
def test_the_processor_really_makes_that_size(checkpoint: Path, size: tuple[int, int]) -> None:
    from transformers import AutoProcessor

    entry = resolve_policy(str(checkpoint)).entry
    processor = AutoProcessor.from_pretrained(checkpoint)
    image = fit_picture(entry, Image.new("RGB", size))
    made = processor.image_processor(images=[image], return_tensors="pt")
    _, rows, columns = made["image_grid_thw"][0].tolist()
    patch = processor.image_processor.patch_size
    assert (columns * patch, rows * patch) == input_size(entry, Size(*size)) == image.size
    # Had it resized once more, the pixels would have changed hands: each patch column still is one colour row.
    assert made["pixel_values"].shape[0] == rows * columns


def test_squashed_pictures_lose_their_shape_and_keep_their_frame() -> None:
    entry = policy_entry("squashed", "nobody/nothing", "qwen2_5_vl", squash=Size(840, 840))
    assert input_size(entry, Size(1920, 300)) == (840, 840)
    assert frame_for(entry, Size(1920, 300)) == (840, 840)


def test_grid_models_have_no_frame() -> None:
    assert frame_for(ENTRIES["qwen3-vl-4b"], Size(640, 480)) is None
    assert frame_for(ENTRIES["qwen2.5-vl-7b"], Size(640, 480)) == (644, 476)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_pictures_of_other_modes_become_rgb(mode: str) -> None:
    assert fit_picture(ENTRIES["qwen3-vl-4b"], Image.new(mode, (64, 64))).mode == "RGB"


# ---------------------------------------------------------------- a known object comes back where it is

BOX = PixelBox(311, 57, 902, 188)
NARROW = Size(1200, 200)


def test_grid_family_brings_an_object_back() -> None:
    entry = ENTRIES["qwen3-vl-4b"]
    # What a Qwen3-VL model writes: thousandths of the width and of the height, whatever the processor did.
    text = '[{"bbox_2d": [259, 285, 752, 940], "point_1": [400, 500], "point_2": [600, 700]}]'
    assert box_iou(_read_back(entry, text), BOX) > 0.98


def test_resized_pixel_family_brings_an_object_back() -> None:
    entry = ENTRIES["qwen2.5-vl-7b"]
    assert input_size(entry, NARROW) == (1204, 196)
    # What a Qwen2.5-VL model writes: pixels of the 1204 × 196 picture it saw.
    text = '[{"bbox_2d": [312, 56, 905, 184], "point_1": [500, 100], "point_2": [700, 120]}]'
    assert box_iou(_read_back(entry, text), BOX) > 0.98


def test_the_wrong_convention_misses_the_object() -> None:
    """Why the convention belongs to the entry: the same numbers read as grid land elsewhere."""
    text = '[{"bbox_2d": [312, 56, 905, 184], "point_1": [500, 100], "point_2": [700, 120]}]'
    assert box_iou(_read_back(ENTRIES["qwen3-vl-4b"], text), BOX) < 0.2


@pytest.mark.parametrize("alias", ENTRIES)
@given(width=st.integers(50, 4000), height=st.integers(50, 4000), data=st.data())
def test_render_and_read_agree_on_the_frame(alias: str, width: int, height: int, data: st.DataObject) -> None:
    entry, size = ENTRIES[alias], Size(width, height)
    x1, y1 = data.draw(st.integers(0, width - 20)), data.draw(st.integers(0, height - 20))
    box = PixelBox(x1, y1, x1 + 20, y1 + 20)
    answer = Answer((Instance(GridBox(*pixel_to_grid(box, size))),))
    dialect, frame = get_dialect(entry.dialect), frame_for(entry, size)
    read = dialect.read(dialect.render(answer, frame=frame), frame=frame)
    assert isinstance(read, Answer)
    assert box_iou(grid_to_pixel(read.instances[0].box, size), box) > 0.99


def test_every_entry_has_a_dialect_for_its_convention() -> None:
    for entry in POLICIES.values():
        question = get_dialect(entry.dialect).ask("a dog")
        assert ("pixels" in question) == (entry.coordinates is Coordinates.RESIZED_PIXELS)


def _read_back(entry, text: str) -> PixelBox:
    read = get_dialect(entry.dialect).read(f"<think>t</think><answer>{text}</answer>", frame=frame_for(entry, NARROW))
    assert isinstance(read, Answer)
    return grid_to_pixel(read.instances[0].box, NARROW)
