from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from gensegcli.dialects import get_dialect
from gensegcli.errors import GensegError
from gensegcli.families import policy_entry
from gensegcli.geometry.masks import union
from gensegcli.policy.frame import frame_for
from gensegcli.records import Answer, FinishReason, PromptMode, Refusal, RefusalKind, Size
from gensegcli.rewards.compose import DISTANCE, IN_THE_LOOP, Reward
from gensegcli.rewards.rollout import answer_part
from gensegcli.rewards.score import Scorer
from gensegcli.segmenter.boxfill import BoxFill
from gensegcli.segmenter.prompts import prompts_for
from tests.rewards.samples import DIALECT, corner, honest, instance, rectangle, sample
from tests.rewards.scoring import QWEN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gensegcli.records import MaskPrompt, Sample, SegmentedMask

ONE, BENT = sample(rectangle(20, 20, 60, 60), name="one"), sample(corner(20, 20, 60), name="bent")
EMPTY = sample(name="empty")


class Counting(BoxFill):
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, list[list[MaskPrompt]]]] = []

    def segment(
        self, images: Sequence[np.ndarray], prompts: Sequence[Sequence[MaskPrompt]]
    ) -> list[list[SegmentedMask]]:
        self.calls.append((len(images), [list(own) for own in prompts]))
        return super().segment(images, prompts)


def _texts(truth: Sample) -> list[str]:
    """Eight rollouts: three of them say the same, one abstains, one cannot be read."""
    first = honest(truth)
    moved = [
        Answer((instance((100 + 10 * i, 200, 600, 600), ((300, 300), (500, 500))),) * (1 + i % 2)) for i in range(3)
    ]
    return [*[DIALECT.render(first)] * 3, *map(DIALECT.render, moved), DIALECT.render(Answer()), "nonsense"]


def test_one_call_for_all_rollouts_with_each_picture_once_and_each_prompt_once() -> None:
    segmenter = Counting()
    samples = [truth for truth in (ONE, BENT) for _ in range(8)]
    Scorer(Reward(IN_THE_LOOP), DIALECT, QWEN, segmenter).score(samples, [*_texts(ONE), *_texts(BENT)])
    ((pictures, prompts),) = segmenter.calls
    assert pictures == 2
    assert [len(own) for own in prompts] == [4, 4], "the honest one, and three that differ"


def test_every_rollout_gets_the_masks_of_its_own_prompts() -> None:
    samples, texts = [BENT] * 8 + [ONE] * 8, [*_texts(BENT), *_texts(ONE)]
    for scored, truth in zip(
        Scorer(Reward(IN_THE_LOOP), DIALECT, QWEN, BoxFill()).score(samples, texts), samples, strict=True
    ):
        answer = scored.rollout.answer
        if isinstance(answer, Refusal):
            assert scored.iou == 0
            continue
        ((made),) = BoxFill().segment([np.zeros((100, 100, 3), np.uint8)], [prompts_for(answer.instances, truth.size)])
        expected = union([one.mask for one in made], truth.size)
        assert len(scored.rollout.masks) == len(answer.instances)
        assert (scored.rollout.mask == expected).all()
        assert scored.iou == pytest.approx(
            (expected & scored.rollout.truth.mask).sum() / (expected | scored.rollout.truth.mask).sum()
        )


def test_a_reward_without_mask_terms_never_calls_the_segmenter() -> None:
    segmenter = Counting()
    scored = Scorer(Reward(DISTANCE), DIALECT, QWEN, segmenter).score([ONE, EMPTY], [_texts(ONE)[0], "x"])
    assert segmenter.calls == []
    assert [one.iou for one in scored] == [None, None]


def test_rollouts_that_say_nothing_ask_for_no_mask() -> None:
    segmenter = Counting()
    scored = Scorer(Reward(IN_THE_LOOP), DIALECT, QWEN, segmenter).score([EMPTY] * 2, [DIALECT.render(Answer()), "x"])
    assert segmenter.calls == [(0, [])]
    assert [one.iou for one in scored] == [1, 0]


def test_a_reward_on_masks_needs_a_segmenter() -> None:
    with pytest.raises(ValueError, match="needs a segmenter"):
        Scorer(Reward({"mask_iou": 1}), DIALECT, QWEN)


def test_the_mode_decides_what_prompts_the_segmenter() -> None:
    for mode, count in ((PromptMode.BOX, 0), (PromptMode.BOX_2, 0), (PromptMode.BOX_2_NEG, 2)):
        segmenter = Counting()
        Scorer(Reward(IN_THE_LOOP), DIALECT, QWEN, segmenter, mode=mode).score([BENT], [DIALECT.render(honest(BENT))])
        ((_, ((prompt,),)),) = segmenter.calls
        assert len(prompt.negatives) == count


def test_answers_in_pixels_are_read_in_the_frame_of_the_picture_that_the_model_saw() -> None:
    entry = policy_entry("x", "x", "qwen2_5_vl")
    dialect = get_dialect("genseg-pixels")
    _, png = cv2.imencode(".png", np.zeros((100, 200, 3), np.uint8))
    wide = replace(ONE, image=png.tobytes(), size=Size(200, 100), original_size=Size(2000, 1000))
    frame = frame_for(entry, wide.size)
    assert frame == Size(196, 112)
    (scored,) = Scorer(Reward(DISTANCE), dialect, entry).score(
        [wide], [dialect.render(honest(wide, negatives=False), frame=frame)]
    )
    assert scored.reward == 7


def test_a_completion_that_was_cut_off_is_a_truncated_refusal() -> None:
    (scored,) = Scorer(Reward(DISTANCE), DIALECT, QWEN).score([ONE], ["<think>and so"], [FinishReason.LENGTH])
    assert isinstance(scored.rollout.answer, Refusal)
    assert scored.rollout.answer.kind is RefusalKind.TRUNCATED


def test_soft_reads_what_evaluation_would_read() -> None:
    body = answer_part(DIALECT.render(honest(ONE)))
    sloppy = f"Sure!\n```json\n{body}\n```"
    strict, soft = (
        Scorer(Reward(DISTANCE, soft=way), DIALECT, QWEN).score([ONE], [sloppy])[0] for way in (False, True)
    )
    assert dict(strict.terms) == {"think_format": 0, "answer_format": 0, "accuracy": 0, "non_repetition": 1}
    assert dict(soft.terms) == {"think_format": 0, "answer_format": 0, "accuracy": 3, "non_repetition": 1}


def test_a_picture_that_is_damaged_is_told() -> None:
    with pytest.raises(GensegError, match="not a picture"):
        Scorer(Reward(IN_THE_LOOP), DIALECT, QWEN, BoxFill()).score(
            [replace(ONE, image=b"GIF but not")], [_texts(ONE)[0]]
        )


@pytest.mark.slow
def test_sam_encodes_each_picture_once_and_gives_the_masks_it_gives_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import Sam2ImageProcessor

    from gensegcli.segmenter.sam2 import Sam2Segmenter
    from tests.segmenter.tiny import tiny_sam2

    segmenter = Sam2Segmenter(tiny_sam2(), Sam2ImageProcessor(size={"height": 64, "width": 64}), id="tiny")
    encoded: list[int] = []
    encode = segmenter.model.get_image_embeddings
    monkeypatch.setattr(
        segmenter.model, "get_image_embeddings", lambda pixels: (encoded.append(len(pixels)), encode(pixels))[1]
    )
    samples, texts = [ONE] * 8 + [BENT] * 8, [*_texts(ONE), *_texts(BENT)]
    together = Scorer(Reward(IN_THE_LOOP), DIALECT, QWEN, segmenter).score(samples, texts)
    assert sum(encoded) == 2
    for one, truth, text in zip(together, samples, texts, strict=True):
        (alone,) = Scorer(Reward(IN_THE_LOOP), DIALECT, QWEN, segmenter).score([truth], [text])
        assert (alone.rollout.mask != one.rollout.mask).mean() < 0.01
        assert alone.reward == pytest.approx(one.reward, abs=0.1)
