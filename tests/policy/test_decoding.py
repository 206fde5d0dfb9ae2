"""The decoding loop: shared pictures, rows that come and go, random numbers of their own."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import TopPLogitsWarper

from gensegcli.models import resolve_policy
from gensegcli.policy import EngineOptions
from gensegcli.policy.cache import ROOM
from gensegcli.policy.decoding import Decoder, Head, Row, dice_for, draw
from gensegcli.policy.hf import TransformersPolicy
from gensegcli.records import Question, Sampling
from tests.policy.pictures import picture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GREEDY = Sampling(max_tokens=24)


@pytest.fixture
def policy(checkpoint: Path) -> Iterator[TransformersPolicy]:
    made = TransformersPolicy(resolve_policy(str(checkpoint)), EngineOptions(device="cpu", batch_size=4))
    yield made
    made.close()


@pytest.fixture
def calls(policy: TransformersPolicy) -> list[tuple[int, int, int]]:
    """Rows, tokens and pictures of each forward pass of the model."""
    real, seen = policy.model.forward, []

    def forward(**inputs):
        pictures = inputs["image_grid_thw"].shape[0] if "image_grid_thw" in inputs else 0
        seen.append((*inputs["input_ids"].shape, pictures))
        return real(**inputs)

    policy.model.forward = forward
    return seen


def test_a_picture_is_read_once_for_all_its_questions(
    policy: TransformersPolicy, calls: list[tuple[int, int, int]]
) -> None:
    one, two = picture(320, 200), picture(64, 300, seed=1)
    asked = [Question(image, f"Find: {text}") for text in ("a", "red dog", "x") * 3 for image in (one, two)]
    together = policy.generate(asked, GREEDY)  # 18 rows, 4 at a time
    assert sum(pictures for _, _, pictures in calls) == 2
    assert together == [policy.generate([question], GREEDY)[0] for question in asked]


def test_draws_share_their_picture(policy: TransformersPolicy, calls: list[tuple[int, int, int]]) -> None:
    (answers,) = policy.generate([Question(picture(320, 200), "a")], Sampling(1.0, n=12, max_tokens=4, seed=1))
    assert len({answer.text for answer in answers}) > 6
    assert sum(pictures for _, _, pictures in calls) == 1


def test_appending_in_place_and_sharing_heads_change_nothing(policy: TransformersPolicy) -> None:
    """Every row's log-probabilities against one plain forward pass over its prompt and answer, beyond a buffer's room."""
    questions = [Question(picture(40 + 60 * i, 64, seed=i), "Find: a dog" + " x" * (i % 3)) for i in range(6)]
    rows = [Row(*policy._prompt(question, {}), limit=ROOM + 20 if i % 2 else 5) for i, question in enumerate(questions)]
    for row in rows:
        row.logs = []
    written = Decoder(policy.model, policy._read_pixels, stop_ids=frozenset(), sampling=GREEDY, size=4).run(rows)
    assert len(list(written)) == 6
    assert policy.model.config.get_text_config()._attn_implementation == "sdpa"
    for row in rows:
        pixels, grid = policy._read_pixels([row.head.image])
        ids = torch.tensor([[*row.head.ids, *row.tail, *row.tokens]])
        kinds = (ids == policy.model.config.image_token_id).int()
        with torch.inference_mode():
            output = policy.model(input_ids=ids, mm_token_type_ids=kinds, pixel_values=pixels, image_grid_thw=grid)
        logs = output.logits[0, -len(row.tokens) - 1 : -1].log_softmax(dim=-1)
        expected = logs.gather(1, torch.tensor(row.tokens)[:, None])[:, 0]
        assert row.logs == pytest.approx(expected.tolist(), abs=1e-3)


def test_waiting_rows_take_the_places_of_finished_ones(
    policy: TransformersPolicy, calls: list[tuple[int, int, int]]
) -> None:
    """Limits 1 and 7 by turns, four at a time: rows of 1 must not wait for those of 7, and no answer may change."""
    questions = [Question(picture(40 + 30 * i, 64, seed=i), "Find: a dog" + " x" * i) for i in range(8)]
    whole = [Row(*policy._prompt(question, {}), limit=7) for question in questions]
    rows = [Row(*policy._prompt(question, {}), limit=7 if i % 2 else 1) for i, question in enumerate(questions)]
    list(policy._decoder(GREEDY).run(whole))
    calls.clear()
    finished = [rows.index(row) for row in policy._decoder(GREEDY).run(rows)]
    assert finished[:2] == [0, 2]
    assert sorted(finished) == list(range(8))
    assert [row.tokens for row in rows] == [full.tokens[: row.limit] for row, full in zip(rows, whole, strict=True)]
    assert {len(full.tokens) for full in whole} == {7}
    steps = [count for count, tokens, _ in calls if tokens == 1]
    assert sum(steps) == 4 * 6  # one pass less than tokens; a row of limit 1 takes part in none
    assert max(steps) == 4


# ---------------------------------------------------------------- drawing

LOGITS = torch.tensor([2.0, 0.5, 1.5, -1.0, 1.0, 0.0, -2.0, 0.25])


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.8), (2.0, 0.95), (1.0, 1e-6)])
def test_tokens_are_drawn_with_their_probability(temperature: float, top_p: float) -> None:
    """Evenly spread numbers in place of random ones: frequencies must then be exact to one part in the grid."""
    count = 20_000
    dice = (torch.arange(count) + 0.5) / count
    chosen = Counter(draw(LOGITS.expand(count, -1), dice, Sampling(temperature, top_p=top_p)).tolist())
    warped = TopPLogitsWarper(top_p)(None, LOGITS[None] / temperature) if top_p < 1 else LOGITS[None] / temperature
    expected = torch.softmax(warped, dim=-1)[0]
    assert [chosen[i] / count for i in range(len(LOGITS))] == pytest.approx(expected.tolist(), abs=2 / count)


def test_the_ends_of_the_unit_interval_are_tokens_too() -> None:
    dice = torch.tensor([0.0, 1 - 2**-24])
    assert draw(LOGITS.expand(2, -1), dice, Sampling(1.0)).tolist() == [0, 7]
    padded = torch.cat([torch.tensor([-200.0]), LOGITS, torch.full((40,), -200.0)])  # 2^-24 from 1, yet never drawn
    assert draw(padded.expand(2, -1), dice, Sampling(1.0)).tolist() == [1, 8]
    assert draw(LOGITS.expand(2, -1), dice, Sampling(1.0, top_p=0.5)).tolist() == [0, 2]


def test_dice_belong_to_seed_question_and_draw() -> None:
    drawn = Sampling(1.0, n=2, seed=3)
    first = dice_for(drawn, "a", 0, 100)
    assert torch.equal(first, dice_for(drawn, "a", 0, 100))
    others = [dice_for(drawn, "a", 1, 100), dice_for(drawn, "b", 0, 100), dice_for(Sampling(1.0, seed=4), "a", 0, 100)]
    assert not any(torch.equal(first, other) for other in others)
    assert dice_for(Sampling(), "a", 0, 100) is None
    assert float(dice_for(drawn, "a", 0, 20_000).mean()) == pytest.approx(0.5, abs=0.01)


def test_rows_and_heads_are_themselves_and_not_their_content() -> None:
    """Equal rows are still two completions."""
    head = Head((1,), picture(8, 8))
    assert len({Row(head, (1,), 1), Row(head, (1,), 1)}) == 2
