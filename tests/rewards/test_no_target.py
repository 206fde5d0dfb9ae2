from __future__ import annotations

import pytest

from gensegcli.records import Answer, Sample
from gensegcli.rewards.no_target import abstention
from tests.rewards.samples import honest, read, rectangle, rollout, sample, written

ONE, EMPTY = sample(rectangle(20, 20, 60, 60)), sample()


@pytest.mark.parametrize(
    ("truth", "answer", "expected"),
    [(EMPTY, Answer(), 1), (EMPTY, honest(ONE), -1), (ONE, Answer(), -0.5), (ONE, honest(ONE), 0)],
)
def test_abstention(truth: Sample, answer: Answer, expected: float) -> None:
    assert abstention(rollout(answer, truth)) == expected


@pytest.mark.parametrize("text", ["", "no", written([]), '{"no_target": true}'])
def test_a_refusal_is_no_abstention(text: str) -> None:
    assert abstention(read(text, EMPTY)) == abstention(read(text, ONE)) == 0
