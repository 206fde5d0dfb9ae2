"""Truth and guess from samples and predictions; scores and summaries to JSON and back."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gensegcli.errors import GensegError
from gensegcli.geometry import rle
from gensegcli.metrics.protocols import PROTOCOLS
from gensegcli.metrics.records import (
    SampleScore,
    guess_of,
    score_from_json,
    score_to_json,
    summary_from_json,
    summary_to_json,
    truth_of,
)
from gensegcli.metrics.score import score_sample
from gensegcli.metrics.summary import summarise
from gensegcli.records import GridBox, PixelBox, Refusal, RefusalKind, Sample, Size, Target
from tests.made import made_prediction
from tests.metrics.cases import cases
from tests.metrics.oracle import Case


def through_json(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))


@settings(max_examples=30)
@given(st.lists(cases(), min_size=1, max_size=5), st.sampled_from(sorted(PROTOCOLS)), st.booleans())
def test_scores_and_summaries_survive_json(some: list[Case], name: str, foreground: bool) -> None:
    protocol = PROTOCOLS[name]
    scores = [
        score_sample(case.truth(f"a{number}", ref=number), case.guess(f"a{number}"), protocol, foreground=foreground)
        for number, case in enumerate(some)
    ]
    summary = summarise(scores, protocol, resamples=5, named={"clean": ["a0"]})

    assert [score_from_json(through_json(score_to_json(score))) for score in scores] == scores
    assert summary_from_json(through_json(summary_to_json(summary))) == summary
    assert list(score_to_json(scores[0])) == [field.name for field in dataclasses.fields(SampleScore)]


def test_a_damaged_row_is_an_error_that_names_the_field() -> None:
    case = Case((2, 2), [np.ones((2, 2), bool)], [], [PixelBox(0, 0, 2, 2)], [])
    row = score_to_json(score_sample(case.truth("a"), case.guess("a"), PROTOCOLS["genseg"]))

    with pytest.raises(GensegError, match="score: iou: Input should be a valid number"):
        score_from_json(row | {"iou": "much"})
    with pytest.raises(GensegError, match="score: union: Field required"):
        score_from_json({key: value for key, value in row.items() if key != "union"})
    with pytest.raises(GensegError, match="summary: metrics: Field required"):
        summary_from_json({"refusals": {}})


def sample(**changes: Any) -> Sample:
    mask = rle.encode(np.eye(4, 8, dtype=bool))
    values: dict[str, Any] = {
        "id": "g-1-0",
        "query": "the dog",
        "image": b"",
        "size": Size(8, 4),
        "targets": (Target(GridBox(0, 0, 500, 1000), (), mask), Target(GridBox(250, 500, 1000, 1000), (), mask)),
        "provenance": {"image_id": 17, "file_name": "a.jpg", "ref_id": 5},
    }
    return Sample(**values | changes)


def test_the_truth_of_a_sample_is_in_pixels_of_the_stored_picture() -> None:
    found = truth_of(sample(original_size=Size(16, 8)))

    assert found.boxes == (PixelBox(0, 0, 4, 4), PixelBox(2, 2, 8, 4))
    assert found.masks == tuple(target.mask for target in sample().targets)
    assert (found.image, found.ref, found.size, found.original_size) == ("17", 5, Size(8, 4), Size(16, 8))
    assert not found.no_target


def test_pictures_are_told_apart_by_what_there_is() -> None:
    assert truth_of(sample(provenance={"file_name": "a.jpg"})).image == "a.jpg"
    assert truth_of(sample(provenance={"image_id": 0, "file_name": "a.jpg"})).image == "0"
    assert truth_of(sample(provenance={})).image == "g-1-0"
    assert truth_of(sample(provenance={})).original_size == Size(8, 4)


def test_a_sample_without_masks_has_boxes_and_one_without_objects_has_neither() -> None:
    boxes_only = truth_of(sample(targets=(Target(GridBox(0, 0, 1000, 1000), (), None),)))
    nothing = truth_of(sample(targets=()))

    assert boxes_only.masks is None
    assert boxes_only.boxes == (PixelBox(0, 0, 8, 4),)
    assert nothing.masks == nothing.boxes == ()
    assert nothing.no_target


def test_the_guess_of_a_prediction() -> None:
    mask = np.zeros((48, 64), bool)
    mask[5:20, 10:30] = True
    found = guess_of(made_prediction([mask, ~mask]))
    refused = made_prediction([], no_target=False, think=None, refusal=Refusal(RefusalKind.BAD_JSON, think="hm"))

    assert found.masks == (rle.encode(mask), rle.encode(~mask))
    assert found.boxes[0] == PixelBox(10, 5, 30, 20)
    assert (found.scores, found.think, found.tokens) == ((0.97, 0.87), True, 7)
    assert not found.abstained
    assert found.refusal is None
    assert guess_of(made_prediction([])).abstained
    assert guess_of(refused).refusal is RefusalKind.BAD_JSON
    assert guess_of(refused).think
    assert not guess_of(refused).abstained
