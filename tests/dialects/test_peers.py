"""The peers' answer forms, as their public checkpoints write them."""

from __future__ import annotations

import pytest

from gensegcli.dialects import get_dialect
from gensegcli.records import Answer, FinishReason, GridBox, GridPoint, Instance, Refusal, RefusalKind, Size
from tests.dialects.answers import completion

SQUARE = Size(840, 840)
K = RefusalKind


def grid(*pixels: float, side: int = 840) -> tuple[float, ...]:
    return tuple(pixel * 1000 / side for pixel in pixels)


# ---------------------------------------------------------------- Seg-Zero

SEG_ZERO_BODY = '{"bbox": [10,100,200,210], "points_1": [30,110], "points_2": [35,180]}'


@pytest.mark.parametrize("strict", [True, False])
def test_seg_zero(strict: bool) -> None:
    found = get_dialect("seg-zero").read(completion(SEG_ZERO_BODY), frame=SQUARE, strict=strict)

    assert found == Answer(
        (Instance(GridBox(*grid(10, 100, 200, 210)), (GridPoint(*grid(30, 110)), GridPoint(*grid(35, 180)))),),
        "reasons",
    )


def test_seg_zero_reads_strictly_one_object_and_tolerantly_also_our_keys() -> None:
    dialect = get_dialect("seg-zero")

    assert dialect.read(completion(f"[{SEG_ZERO_BODY}]"), frame=SQUARE, strict=True).kind is K.WRONG_KEYS
    assert dialect.read(completion("[]"), frame=SQUARE, strict=True).kind is K.EMPTY_LIST
    for body in (f"[{SEG_ZERO_BODY}]", SEG_ZERO_BODY.replace("bbox", "bbox_2d").replace("points_", "point_")):
        assert len(dialect.read(completion(body), frame=SQUARE).instances[0].points) == 2
    assert dialect.read(completion(SEG_ZERO_BODY.replace("210", "858")), frame=SQUARE).kind is K.OUT_OF_RANGE


# ---------------------------------------------------------------- VisionReasoner, ViSurf


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("name", ["vision-reasoner", "visurf"])
def test_vision_reasoner(name: str, strict: bool) -> None:
    body = (
        '[{"bbox_2d": [10,100,200,210], "point_2d": [30,110]}, {"bbox_2d": [225,296,706,786], "point_2d": [302,410]}]'
    )
    found = get_dialect(name).read(completion(body), frame=SQUARE, strict=strict)

    assert found.instances == (
        Instance(GridBox(*grid(10, 100, 200, 210)), (GridPoint(*grid(30, 110)),)),
        Instance(GridBox(*grid(225, 296, 706, 786)), (GridPoint(*grid(302, 410)),)),
    )


@pytest.mark.parametrize("strict", [True, False])
def test_an_empty_list_abstains_only_in_visurf(strict: bool) -> None:
    text = completion("[]")

    assert get_dialect("visurf").read(text, strict=strict) == Answer((), "reasons")
    assert get_dialect("vision-reasoner").read(text, strict=strict).kind is K.EMPTY_LIST
    assert get_dialect("genseg").read(text, strict=strict).kind is K.EMPTY_LIST


# ---------------------------------------------------------------- Seg-R1

FRAME = Size(768, 768)
HEAD = "<think>two fish</think>"
BOXES = "<bbox>[0, 0, 384, 384]</bbox><bbox>[384, 384, 768, 768]</bbox>"
MARKS = "<points>[[96, 96], [192, 192], [576, 576], [700, 10]]</points><labels>[1, 0, 1, 1]</labels>"
FISH = (
    Instance(GridBox(0, 0, 500, 500), (GridPoint(125, 125),), (GridPoint(250, 250),)),
    Instance(GridBox(500, 500, 1000, 1000), (GridPoint(750, 750),)),
)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("gap", ["", "\n"])
def test_seg_r1_gives_each_box_the_points_in_it(strict: bool, gap: str) -> None:
    """(700, 10) lies in no box and is dropped."""
    text = gap.join([HEAD, BOXES, MARKS, ""])

    assert get_dialect("seg-r1").read(text, frame=FRAME, strict=strict) == Answer(FISH, "two fish")


@pytest.mark.parametrize(
    ("text", "instances"),
    [
        (BOXES + MARKS, FISH),
        (HEAD + MARKS + BOXES, FISH),
        (f"{HEAD}Here: {BOXES} and {MARKS}.", FISH),
        (f"{HEAD}<bbox>[[0, 0, 384, 384], [384, 384, 768, 768]]</bbox>{MARKS}", FISH),
        (HEAD + BOXES, tuple(Instance(one.box) for one in FISH)),
        (HEAD + BOXES + "<points>[[96, 96], [19", tuple(Instance(one.box) for one in FISH)),
        (HEAD + BOXES + MARKS[:-12], tuple(Instance(one.box) for one in FISH)),
        (HEAD + "<bbox>[0, 0, 384, 384]</bbox><bbox>[384, 3", (Instance(FISH[0].box),)),
    ],
)
def test_seg_r1_tolerates(text: str, instances: tuple[Instance, ...]) -> None:
    dialect = get_dialect("seg-r1")

    assert dialect.read(text, frame=FRAME).instances == instances
    assert isinstance(dialect.read(text, frame=FRAME, strict=True), Refusal)


@pytest.mark.parametrize(
    ("text", "strict", "kind"),
    [
        ("", False, K.EMPTY),
        ("no fish", False, K.NO_ANSWER),
        (HEAD, True, K.BAD_FORM),
        (HEAD + MARKS, False, K.NO_ANSWER),
        (HEAD + MARKS, True, K.BAD_FORM),
        (HEAD + BOXES + MARKS + "ok", True, K.BAD_FORM),
        (HEAD + "ok" + BOXES + MARKS, True, K.BAD_FORM),
        (HEAD + BOXES + MARKS + MARKS, True, K.BAD_FORM),
        (HEAD + "<bbox>[1, 2", False, K.BAD_JSON),
        (HEAD + BOXES.replace("[0", "[x") + MARKS, True, K.BAD_JSON),
        (HEAD + "<bbox>[x, 0, 384, 384]</bbox>" + MARKS, False, K.BAD_JSON),
        (HEAD + "<bbox>[0, 0, 0, 384]</bbox>" + MARKS, False, K.OUT_OF_RANGE),
        (HEAD + "<bbox>[0.1, 0.2, 0.5, 0.9]</bbox>" + MARKS, False, K.FRACTIONS),
        (HEAD + BOXES + MARKS.replace(", 1]<", "]<"), True, K.WRONG_KEYS),
        (HEAD + BOXES + MARKS.replace(", 1]<", ", 2]<"), True, K.WRONG_KEYS),
        (HEAD + BOXES.replace("0, 0, 384", "0, 0, 0") + MARKS, True, K.OUT_OF_RANGE),
        (HEAD + BOXES.replace("768", "769") + MARKS, True, K.OUT_OF_RANGE),
        (HEAD + BOXES + '{"no_target": true}', False, K.WRONG_KEYS),
        (HEAD + '{"no_target": false}', False, K.NO_ANSWER),
    ],
)
def test_seg_r1_refuses(text: str, strict: bool, kind: RefusalKind) -> None:
    assert get_dialect("seg-r1").read(text, frame=FRAME, strict=strict).kind is kind


LEFT, RIGHT = FISH


@pytest.mark.parametrize(
    ("text", "instances", "dropped"),
    [
        pytest.param(BOXES.replace("[0", "[x") + MARKS, (RIGHT,), {"instances": 1}, id="a bbox part that is no JSON"),
        pytest.param(BOXES.replace("0, 0, 384", "0, 0, 0") + MARKS, (RIGHT,), {"instances": 1}, id="without area"),
        pytest.param(
            BOXES + MARKS.replace(", 1]<", ", 2]<"),
            FISH,
            {"points": 1},
            id="a label that is none, of the point in no box",
        ),
        pytest.param(
            BOXES + MARKS.replace("[576, 576]", "[576, 900]"),
            (LEFT, Instance(RIGHT.box)),
            {"points": 1},
            id="a point outside the frame",
        ),
        pytest.param(
            BOXES + MARKS.replace(", 1]<", "]<"), tuple(Instance(one.box) for one in FISH), {"points": 1}, id="labels"
        ),
        pytest.param(
            BOXES + MARKS.replace("[[96", "[x96"), tuple(Instance(one.box) for one in FISH), {"points": 1}, id="points"
        ),
    ],
)
def test_seg_r1_drops_what_it_cannot_use(text: str, instances: tuple[Instance, ...], dropped: dict[str, int]) -> None:
    assert get_dialect("seg-r1").read(HEAD + text, frame=FRAME) == Answer(instances, "two fish", dropped)


def test_seg_r1_clips_an_overshoot() -> None:
    found = get_dialect("seg-r1").read("<bbox>[-15, 0, 384, 783]</bbox>", frame=FRAME)

    assert found == Answer((Instance(GridBox(0, 0, 500, 1000)),), clipped=1)


def test_seg_r1_cut_off() -> None:
    assert get_dialect("seg-r1").read(HEAD + "<bbox>[1, 2", finish=FinishReason.LENGTH).kind is K.TRUNCATED
    assert get_dialect("seg-r1").read("<think>two", finish=FinishReason.LENGTH).kind is K.TRUNCATED


@pytest.mark.parametrize("strict", [True, False])
def test_seg_r1_abstains(strict: bool) -> None:
    text = '<think>no fish</think>\n{ "no_target":true }\n'

    assert get_dialect("seg-r1").read(text, strict=strict) == Answer((), "no fish")
