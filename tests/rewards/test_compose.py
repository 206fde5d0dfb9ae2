from __future__ import annotations

import json
from importlib.util import find_spec
from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gensegcli.errors import GensegError
from gensegcli.records import Answer, Instance, Sample
from gensegcli.rewards import compose
from gensegcli.rewards.compose import DISTANCE, IN_THE_LOOP, TERMS, NotFiniteError, Reward, Term
from gensegcli.rewards.rollout import GroundTruth
from gensegcli.rewards.score import Scorer
from gensegcli.segmenter.boxfill import BoxFill
from tests.dialects.answers import answers
from tests.rewards.samples import DIALECT, SIZE, blank, corner, honest, instance, rectangle, sample, written
from tests.rewards.scoring import QWEN, Oracle, total

BENT, SQUARE, EMPTY = sample(corner(20, 20, 60)), sample(rectangle(20, 20, 60, 60)), sample()
TWO = sample(corner(0, 0, 45), corner(50, 50, 45))
ALL = [name for name in TERMS if name != "mask_structure" or find_spec("gensegcli.metrics.foreground")]
TRUTHS = {"bent": BENT, "square": SQUARE, "two": TWO, "empty": EMPTY}


@pytest.mark.parametrize(
    ("truth", "distance", "in_the_loop"),
    [
        (BENT, 7, 7 + 5 + 10 + 0),
        (TWO, 7, 7 + 5 + 10 + 0),
        (SQUARE, 7, 7 + 5 + 5 + 0),  # nothing to be right about
        (EMPTY, 7, 7 + 5 + 0 + 10),
    ],
)
def test_an_honest_answer_earns_everything(truth: Sample, distance: float, in_the_loop: float) -> None:
    text = DIALECT.render(honest(truth))
    assert total(DISTANCE, truth, text) == distance
    assert total(IN_THE_LOOP, truth, text) == pytest.approx(in_the_loop)


@pytest.mark.parametrize(
    ("truth", "text", "terms"),
    [
        (EMPTY, DIALECT.render(honest(BENT)), (1, 2, 0, 1, 0, 0, -10)),  # hallucination
        (BENT, DIALECT.render(Answer((), "none")), (1, 2, 0, 1, 0, 0, -5)),  # denial
        (EMPTY, "I cannot say.", (0, 0, 0, 1, 0, 0, 0)),
        (BENT, "I cannot say.", (0, 0, 0, 1, 0, 0, 0)),
        (BENT, written([]), (1, 0, 0, 1, 0, 0, 0)),
        (BENT, "", (0, 0, 0, 1, 0, 0, 0)),
        (BENT, DIALECT.render(honest(BENT, negatives=False)), (1, 2, 3, 1, 5, 0, 0)),
        (BENT, DIALECT.render(honest(BENT)).replace("<think>", ""), (0, 2, 3, 1, 5, 10, 0)),
    ],
)
def test_tables_by_hand(truth: Sample, text: str, terms: tuple[float, ...]) -> None:
    (scored,) = Scorer(Reward(IN_THE_LOOP), DIALECT, QWEN, Oracle(truth)).score([truth], [text])
    assert dict(scored.terms) == dict(zip(IN_THE_LOOP, terms, strict=True))
    assert scored.reward == sum(terms)


# ---------------------------------------------------------------- nothing out-scores honesty

_FULL = instance((0, 0, 1000, 1000), ((300, 300), (700, 700)))
_BACKGROUND = instance((600, 250, 780, 500), ((650, 300), (750, 450)), ((700, 300), (650, 400)))


def _copies(truth: Sample, count: int) -> Answer:
    return Answer((honest(truth).instances or (_FULL,))[:1] * count, "there it is")


def _equal_points(truth: Sample) -> Answer:
    return Answer(
        tuple(Instance(one.box, one.points[:1] * 2, one.negatives) for one in honest(truth).instances) or (_FULL,)
    )


_GRID = [(x, y, x + 250, y + 250) for x in range(0, 1000, 250) for y in range(0, 1000, 250)]

FIXED = {
    "full picture": (_FULL,),
    "full picture with negatives": (instance(_FULL.box, _FULL.points, ((700, 300), (650, 400))),),
    "always no target": (),
    "a box around background with two negatives": (_BACKGROUND,),
    "a grid of boxes": tuple(instance((x, y, u, v), ((x + 50, y + 50), (u - 50, v - 50))) for x, y, u, v in _GRID),
}
CHEATS = {
    **{name: lambda _, made=made: Answer(made) for name, made in FIXED.items()},
    "many copies": lambda truth: _copies(truth, 20),
    "two copies": lambda truth: _copies(truth, 2),
    "equal points": _equal_points,
    "honest, and a box around background besides": lambda truth: Answer((*honest(truth).instances, _BACKGROUND)),
    "honest, and the full picture besides": lambda truth: Answer((*honest(truth).instances, _FULL)),
}


@pytest.mark.parametrize("weights", [DISTANCE, IN_THE_LOOP, dict.fromkeys(ALL, 1.0)], ids=["D", "G", "all"])
@pytest.mark.parametrize("truth", TRUTHS.values(), ids=TRUTHS)
@pytest.mark.parametrize("cheat", CHEATS)
def test_no_cheat_out_scores_an_honest_answer(cheat: str, truth: Sample, weights: dict[str, float]) -> None:
    answer = CHEATS[cheat](truth)
    same = {one.box for one in answer.instances} == {one.box for one in honest(truth).instances}
    fair = total(weights, truth, DIALECT.render(honest(truth)))
    cheated = total(weights, truth, DIALECT.render(answer))
    assert cheated <= fair
    if not same:
        assert cheated < fair


@pytest.mark.parametrize("weights", [DISTANCE, IN_THE_LOOP], ids=["D", "G"])
@pytest.mark.parametrize("truth", TRUTHS.values(), ids=TRUTHS)
@pytest.mark.parametrize("text", [written([]), "", "<think></think><answer></answer>", "no target", "</think>" * 9])
def test_nothing_unreadable_out_scores_an_honest_answer(text: str, truth: Sample, weights: dict[str, float]) -> None:
    assert total(weights, truth, text) < total(weights, truth, DIALECT.render(honest(truth)))


def test_over_samples_with_and_without_targets_neither_habit_pays() -> None:
    """Always abstaining and never abstaining both earn less than saying what is there."""
    mixed = [BENT, SQUARE, TWO, EMPTY]
    never = {id(truth): DIALECT.render(honest(truth) if truth.targets else Answer((_FULL,))) for truth in mixed}
    fair = sum(total(IN_THE_LOOP, truth, DIALECT.render(honest(truth))) for truth in mixed)
    assert sum(total(IN_THE_LOOP, truth, DIALECT.render(Answer(()))) for truth in mixed) < fair
    assert sum(total(IN_THE_LOOP, truth, never[id(truth)]) for truth in mixed) < fair


# ---------------------------------------------------------------- any text

_TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
_JSON = ['[{"bbox_2d": [1, 2, 3, 4]', '"point_1": [1, 2]', '"negative_points": [[5, 5]]', "}]", ", ", "[]"]
_ODD = ['{"no_target": true}', "NaN", "1e999", "-3", "{" * 9, "a sentence here. ", "\ud800"]
PIECES = st.sampled_from([*_TAGS, *_JSON, *_ODD])
TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(PIECES, max_size=12).map("".join),
    answers(most=5).map(DIALECT.render),
)


@given(TEXTS, st.sampled_from(sorted(TRUTHS)), st.booleans())
def test_any_text_has_a_finite_reward_within_bounds_and_always_the_same(text: str, truth: str, soft: bool) -> None:
    reward = Reward(dict.fromkeys(ALL, 2.0), soft=soft)
    scorer = Scorer(reward, DIALECT, QWEN, BoxFill())
    (first,), (again,) = (scorer.score([TRUTHS[truth]], [text]) for _ in range(2))
    assert first.terms == again.terms
    assert list(first.terms) == ALL
    for name, value in first.terms.items():
        assert 2 * TERMS[name].low <= value <= 2 * TERMS[name].high, name
    low, high = reward.bounds
    assert low <= first.reward <= high


# ---------------------------------------------------------------- configuration


def test_bounds() -> None:
    assert Reward(DISTANCE).bounds == (0, 7)
    assert Reward(IN_THE_LOOP).bounds == (-10, 32)


def test_a_reward_is_described_by_its_weights_in_one_order() -> None:
    reward = Reward({"no_target": 10, "accuracy": 1.5, "mask_iou": 0})
    assert reward.config() == {"weights": {"accuracy": 1.5, "no_target": 10.0}, "soft": False}
    assert Reward(**json.loads(json.dumps(reward.config()))).digest == reward.digest
    assert Reward({"accuracy": 1.5, "no_target": 10}).digest == reward.digest
    assert Reward({"accuracy": 1.5, "no_target": 10}, soft=True).digest != reward.digest
    assert Reward({"accuracy": 1.5}).digest != reward.digest


def test_what_a_reward_needs() -> None:
    distance, negatives, masks = Reward(DISTANCE), Reward({"negative_points": 1}), Reward({"tiered_mask": 1})
    assert (distance.needs_masks, distance.needs_true_masks) == (False, False)
    assert (negatives.needs_masks, negatives.needs_true_masks) == (False, True)
    assert (masks.needs_masks, masks.needs_true_masks) == (True, True)


def test_mistakes_in_weights() -> None:
    with pytest.raises(GensegError, match="unknown reward term 'mask_iuo'") as caught:
        Reward({"mask_iuo": 1})
    assert "did you mean mask_iou?" in caught.value.hint
    with pytest.raises(GensegError, match="no term that counts"):
        Reward({"accuracy": 0})


def test_a_value_that_is_no_number_is_never_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(compose.TERMS, "accuracy", Term(lambda _: nan, 0, 3))
    with pytest.raises(NotFiniteError, match="reward term accuracy is nan for sample s"):
        Scorer(Reward(DISTANCE), DIALECT, QWEN).score([BENT], [""])


def test_a_term_switched_off_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_: object) -> float:
        raise AssertionError

    monkeypatch.setitem(compose.TERMS, "mask_structure", Term(never, 0, 1, masks=True))
    assert total(IN_THE_LOOP, BENT, "") == 1
    assert GroundTruth(EMPTY).mask.shape == blank().shape == SIZE[::-1]
