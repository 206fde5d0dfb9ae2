"""Differences of runs over the same samples, against resampling them one by one, and in every form of a report."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gensegcli.evaluate.report import formats
from gensegcli.evaluate.report.evaluation import Options, evaluation_page
from gensegcli.evaluate.report.paired import paired
from gensegcli.evaluate.report.sections import Section, sections
from gensegcli.evaluate.results import read_run
from gensegcli.metrics.protocols import get_protocol
from gensegcli.metrics.summary import resample
from tests.evaluate.report.runs import Texts, made_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def section(tmp_path_factory: pytest.TempPathFactory) -> Section:
    folder = tmp_path_factory.mktemp("runs")
    made_run(folder / "a", 24, texts=Texts(model="good"))
    made_run(folder / "b", 24, texts=Texts(model="poor"), quality=0.9)
    (found,) = sections([read_run(folder / "a"), read_run(folder / "b")])
    return found


def test_a_difference_has_the_interval_of_paired_resamples(section: Section) -> None:
    """Worked out draw by draw: both runs are scored on the samples of one draw, and the difference is taken."""
    found = paired(section)
    assert found is not None
    assert found.to == "good"
    difference = found.runs["poor"]["mIoU"]
    ours, theirs = (
        np.array([s.iou for s in sorted(entry.run.scores(entry.result), key=lambda s: s.id) if not s.no_target])
        for entry in section.entries
    )
    assert difference.value == pytest.approx(theirs.mean() - ours.mean())
    scores = sorted(section.entries[0].run.scores(section.entries[0].result), key=lambda score: score.id)
    there = np.array([not score.no_target for score in scores])
    place = np.cumsum(there) - 1
    means = []
    for draw in np.random.default_rng(0).integers(len(scores), size=(1000, len(scores))):
        kept = place[draw[there[draw]]]
        means.append(theirs[kept].mean() - ours[kept].mean())
    assert (difference.low, difference.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))
    assert difference.told
    assert difference.high < 0


def test_a_run_against_itself_differs_in_nothing(section: Section) -> None:
    scores = section.entries[0].run.scores(section.entries[0].result)
    one = resample(scores, get_protocol("genseg"))
    for difference in one.minus(one).values():
        assert (difference.value, difference.low, difference.high, difference.told) == (0, 0, 0, False)


def test_paired_differences_tell_apart_what_overlapping_intervals_do_not(section: Section) -> None:
    """Every sample is a little worse: beyond doubt, though the two intervals overlap nearly whole."""
    scores = section.entries[0].run.scores(section.entries[0].result)
    worse = [replace(score, iou=score.iou and score.iou - 0.01) for score in scores]
    one, other = (resample(some, get_protocol("genseg")) for some in (scores, worse))
    difference = other.minus(one)["mIoU"]
    assert difference.told
    assert -0.0101 < difference.low <= difference.high < 0
    assert other.estimates()["mIoU"].high > one.estimates()["mIoU"].low


def test_every_form_has_the_differences_and_an_arrow_where_they_are_told(section: Section) -> None:
    text = formats.as_text([section])
    assert "Difference to good, 95 % intervals" in text
    assert re.search(r"^mIoU +↓ -0\.", text, re.MULTILINE)
    assert "Both runs are scored on the same resampled samples" in text
    assert "| poor | ↓ -0." in formats.as_markdown([section])
    assert r"poor & $\downarrow$ -0." in formats.as_latex([section])
    rows = list(csv.DictReader(io.StringIO(formats.as_csv([section]))))
    (row,) = [row for row in rows if row["folder"] == "difference to good" and row["metric"] == "mIoU"]
    assert row["run"] == "poor"
    assert float(row["high"]) < 0
    (told,) = json.loads(formats.as_json([section]))
    assert told["differences"]["to"] == "good"
    assert told["differences"]["runs"]["poor"]["mIoU"]["excludes_zero"] is True
    page = evaluation_page([section], Options(samples=0))
    assert "Difference to good, 95 % intervals" in page
    assert "↓ -0." in page


def test_one_run_has_nothing_to_differ_from(section: Section) -> None:
    alone = replace(section, entries=section.entries[:1])
    assert paired(alone) is None
    assert "Difference" not in formats.as_text([alone])
    assert json.loads(formats.as_json([alone]))[0]["differences"] is None


def test_scores_that_cannot_be_read_are_told_and_the_report_is_whole_otherwise(tmp_path: Path) -> None:
    for name in ("a", "b"):
        made_run(tmp_path / name, 6, texts=Texts(model=name))
    (found,) = sections([read_run(tmp_path / "a"), read_run(tmp_path / "b")])
    rows = tmp_path / "b" / found.entries[1].result.scores
    rows.write_text(rows.read_text().replace('"iou"', '"uoi"', 1))
    text = formats.as_text([found])
    assert "There are none: " in text
    assert "Headline metrics" in text


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("runs", [1, 2, 5])
def test_a_report_fits_the_terminal_and_cuts_no_number(tmp_path: Path, width: int, runs: int) -> None:
    names = [f"someone/qwen3-vl-4b-tuned-{number}" for number in range(runs)]
    for number, name in enumerate(names):
        made_run(tmp_path / str(number), 12, texts=Texts(model=name), quality=1 - number / 20, metrics=None)
    found = sections([read_run(tmp_path / str(number)) for number in range(runs)])
    text, whole = formats.as_text(found, ["all"], width=width), formats.as_text(found, ["all"])
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert set(_numbers(whole)) <= set(_numbers(text))


def _numbers(text: str) -> list[str]:
    return [word.strip("[],") for word in text.split() if any(letter.isdigit() for letter in word)]
