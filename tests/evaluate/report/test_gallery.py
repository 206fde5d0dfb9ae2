"""Galleries hold the samples they are named for, and pictures that a browser can show."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gensegcli.evaluate.report import gallery
from gensegcli.evaluate.report.gallery import Budget, card, choose
from gensegcli.evaluate.results import EvalRun, read_run
from gensegcli.metrics.records import SampleScore
from gensegcli.records import RefusalKind
from tests.evaluate.report.runs import made_run

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> EvalRun:
    return read_run(made_run(tmp_path_factory.mktemp("runs") / "a", 40, quality=0.99))


def _score(number: int, kind: str, iou: float) -> SampleScore:
    absent, silent = kind in ("hallucinated", "right"), kind in ("missed", "right")
    return SampleScore(
        id=f"{number:03}", image="", ref=None, no_target=absent, abstained=silent,
        refusal=RefusalKind.BAD_JSON if kind == "refused" else None,
        true_instances=0 if absent else 1, predicted_instances=1 if kind in ("found", "hallucinated") else 0,
        size_class=None, intersection=0, union=1, true_area=number, predicted_area=number, iou=iou, box_iou=None,
        enclosing_box_iou=None, true_boxes=(), predicted_boxes=(), box_scores=(), think=False, tokens=0,
    )  # fmt: skip


KINDS = ("found", "found", "found", "hallucinated", "missed", "refused", "right")


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0]))), st.integers(0, 8))
def test_no_sample_is_in_two_galleries_and_each_is_what_its_gallery_says(
    rows: list[tuple[str, float]], count: int
) -> None:
    scores = [_score(number, kind, iou) for number, (kind, iou) in enumerate(rows)]
    by_id = {score.id: (kind, iou) for score, (kind, iou) in zip(scores, rows, strict=True)}
    chosen = choose(scores, count).ids
    shown = [id_ for ids in chosen.values() for id_ in ids]
    assert len(shown) == len(set(shown))
    assert all(0 < len(ids) <= count for ids in chosen.values())
    for name, ids in chosen.items():
        expected = "found" if name in ("best", "median", "worst") else name
        assert {by_id[id_][0] for id_ in ids} == {expected}
    found = [iou for kind, iou in rows if kind == "found"]
    if found and count:
        assert max(by_id[id_][1] for id_ in (*chosen.get("best", ()), *chosen.get("worst", ()))) == max(found)
        ious = {name: [by_id[id_][1] for id_ in chosen.get(name, ())] for name in ("worst", "median", "best")}
        assert ious["worst"] == sorted(ious["worst"])
        assert all(iou < gallery.GOOD for iou in ious["worst"])
        shown_ious = [*ious["worst"], *ious["median"], *ious["best"][::-1]]
        assert shown_ious == sorted(shown_ious)
    for kind in ("hallucinated", "missed", "refused"):
        assert len(chosen.get(kind, ())) == min(count, sum(found == kind for found, _ in rows))


def test_the_largest_hallucinations_and_misses_come_first() -> None:
    scores = [_score(number, kind, 0.0) for number, kind in enumerate(["hallucinated", "missed"] * 5)]
    chosen = choose(scores, 2).ids
    assert chosen["hallucinated"] == ["008", "006"]
    assert chosen["missed"] == ["009", "007"]


def test_the_middle_is_around_the_median() -> None:
    scores = [_score(number, "found", number / 100) for number in range(101)]
    assert choose(scores, 3).ids["median"] == ["049", "050", "051"]


def _shown(source: str) -> Image.Image:
    head, _, data = source.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def _row(run: EvalRun, wanted: Callable[[SampleScore], bool]) -> gallery.Row:
    result = run.results[0]
    name = next(score.id for score in run.scores(result) if wanted(score))
    (row,) = run.rows(result, {name})
    return row


def test_prediction_and_truth_are_pictures_of_the_sample_s_shape(run: EvalRun) -> None:
    row = _row(run, lambda score: not score.no_target and score.predicted_instances > 0)
    found = card(row, Budget(10**6))
    assert found.predicted is not None
    assert found.true is not None
    for source in (found.predicted, found.true):
        picture = _shown(source)
        assert max(picture.size) == gallery.SIDE
        assert picture.width / picture.height == pytest.approx(row.sample.size.width / row.sample.size.height, rel=0.02)
    assert found.predicted != found.true


def test_where_nothing_was_found_only_the_truth_is_shown_and_the_other_way_round(run: EvalRun) -> None:
    missed = card(_row(run, lambda score: score.abstained and not score.no_target), Budget(10**6))
    assert (missed.predicted, missed.problem) == (None, None)
    assert missed.true is not None
    invented = card(_row(run, lambda score: score.no_target and score.predicted_instances > 0), Budget(10**6))
    assert invented.true is None
    assert invented.predicted is not None


def test_pictures_end_where_the_budget_does(run: EvalRun) -> None:
    row = _row(run, lambda score: not score.no_target and score.predicted_instances > 0)
    budget = Budget(10**6)
    whole = card(row, budget)
    spent = 10**6 - budget.left
    assert spent == len(whole.predicted or "") + len(whole.true or "")
    assert card(row, Budget(spent)) == whole
    left_out = card(row, Budget(spent - 1))
    assert (left_out.predicted, left_out.true) == (None, None)
    assert "too large" in (left_out.problem or "")


def test_a_damaged_picture_leaves_a_card_that_says_so(run: EvalRun) -> None:
    row = _row(run, lambda score: score.abstained)
    found = card(row._replace(sample=replace(row.sample, image=b"no picture")), Budget(10**6))
    assert (found.predicted, found.true) == (None, None)
    assert "picture" in (found.problem or "")
