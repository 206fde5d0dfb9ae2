"""What of an instance reaches the segmenter in each mode, in exact pixels."""

from __future__ import annotations

import pytest

from gensegcli.records import GridBox, GridPoint, Instance, MaskPrompt, PixelBox, PixelPoint, PromptMode, Size
from gensegcli.segmenter.prompts import PARTS, prompts_for

SIZE = Size(width=333, height=50)
INSTANCE = Instance(
    box=GridBox(100, 200, 501, 900),
    points=(GridPoint(250, 500), GridPoint(300.5, 400)),
    negatives=(GridPoint(120, 220), GridPoint(490, 880), GridPoint(130, 870)),
)
BOX = PixelBox(33.3, 10.0, 166.833, 45.0)
POINTS = (PixelPoint(83.25, 25.0), PixelPoint(100.0665, 20.0))
NEGATIVES = (PixelPoint(39.96, 11.0), PixelPoint(163.17, 44.0), PixelPoint(43.29, 43.5))


def flat(prompt: MaskPrompt) -> list[float]:
    return [*prompt.box, *(value for point in (*prompt.points, *prompt.negatives) for value in point)]


@pytest.mark.parametrize(
    ("mode", "points", "negatives"),
    [
        (PromptMode.BOX, (), ()),
        (PromptMode.BOX_1, POINTS[:1], ()),
        (PromptMode.BOX_2, POINTS, ()),
        (PromptMode.BOX_2_NEG, POINTS, NEGATIVES),
    ],
)
def test_modes(mode: PromptMode, points: tuple[PixelPoint, ...], negatives: tuple[PixelPoint, ...]) -> None:
    (found,) = prompts_for([INSTANCE], SIZE, mode)
    assert (len(found.points), len(found.negatives)) == (len(points), len(negatives))
    assert flat(found) == pytest.approx(flat(MaskPrompt(BOX, points, negatives)))


def test_every_mode_is_in_the_table() -> None:
    assert set(PARTS) == set(PromptMode)


def test_nothing_is_rounded_and_order_is_kept() -> None:
    boxes = [GridBox(x, 0, x + 1, 1) for x in (7, 3, 5)]
    found = prompts_for([Instance(box) for box in boxes], Size(17, 3), PromptMode.BOX)
    assert [prompt.box.x1 for prompt in found] == pytest.approx([0.119, 0.051, 0.085])


def test_missing_points_are_not_invented() -> None:
    one = Instance(INSTANCE.box, INSTANCE.points[:1])
    assert [len(prompt.points) for prompt in prompts_for([one, INSTANCE], SIZE, PromptMode.BOX_2)] == [1, 2]
    assert prompts_for([], SIZE) == []
