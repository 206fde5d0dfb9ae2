"""Only what compares stands in one table, and everything in it can be told apart."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from gensegcli.evaluate.report.published import published_tables
from gensegcli.evaluate.report.sections import apart, sections
from gensegcli.evaluate.report.tables import comparison, composition, groups, matches, metrics, refusals, speed
from gensegcli.evaluate.results import EvalRun, Result, read_run
from gensegcli.metrics.records import Estimate
from gensegcli.records import PromptMode
from tests.evaluate.report.runs import Texts, made_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> EvalRun:
    return read_run(made_run(tmp_path_factory.mktemp("runs") / "a", 20))


def _with(run: EvalRun, folder: str = "a", **changes: Any) -> EvalRun:
    """The run in another folder, its only result changed."""
    (result,) = run.results
    return replace(run, folder=run.folder.parent / folder, results=(result.model_copy(update=changes),))


def _other_data(run: EvalRun, **changes: Any) -> EvalRun:
    return _with(run, "b", data=run.results[0].data.model_copy(update=changes))


def _other_protocol(run: EvalRun, **changes: Any) -> EvalRun:
    return _with(run, "b", protocol={**run.results[0].protocol, **changes})


def test_the_same_samples_under_the_same_protocol_stand_together(run: EvalRun) -> None:
    (section,) = sections([run, _with(run, "b")])
    assert [entry.name for entry in section.entries] == ["a", "b"]
    assert apart([section]) is None


@pytest.mark.parametrize("changes", [{"digest": "other"}, {"limit": 10}, {"chosen": "0f"}])
def test_other_samples_stand_apart(run: EvalRun, changes: dict[str, Any]) -> None:
    found = sections([run, _other_data(run, **changes)])
    assert [len(section.entries) for section in found] == [1, 1]
    assert "do not compare" in (apart(found) or "")


@pytest.mark.parametrize("changes", [{"name": "gres"}, {"smoothing": 1e-5}, {"box_score": "segmenter"}])
def test_another_convention_stands_apart_whatever_the_protocol_is_called(run: EvalRun, changes: dict[str, Any]) -> None:
    found = sections([run, _other_protocol(run, **changes)])
    assert [len(section.entries) for section in found] == [1, 1]
    assert apart(found)


def test_a_changed_convention_is_told(run: EvalRun) -> None:
    (section,) = sections([_other_protocol(run, smoothing=1e-5)])
    assert section.notes() == ("differs from protocol genseg as named: smoothing was 0.0, is 0.00001",)
    (section,) = sections([_other_protocol(run, name="theirs")])
    assert "protocol theirs is none of this version" in section.notes()[0]


def test_missing_predictions_and_notes_are_told(run: EvalRun) -> None:
    (section,) = sections([_with(run, missing=3, notes=("two ids were unknown",))])
    assert section.notes() == (
        "qwen3-vl-tuned: 3 samples without a prediction count as empty answers",
        "qwen3-vl-tuned: two ids were unknown",
    )


def test_entries_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    ablation = read_run(made_run(tmp_path / "a", 4, modes=(PromptMode.BOX, PromptMode.BOX_1)))
    (section,) = sections([ablation])
    assert [entry.name for entry in section.entries] == ["box", "box+1"]
    assert section.common() == "model qwen3-vl-tuned · segmenter boxfill"
    other = read_run(made_run(tmp_path / "b", 4, texts=Texts(model="qwen3-vl-base")))
    (section,) = sections([ablation, other])
    assert [entry.name for entry in section.entries] == [
        "qwen3-vl-tuned · box", "qwen3-vl-tuned · box+1", "qwen3-vl-base · box+2",
    ]  # fmt: skip


def test_twins_are_numbered_and_given_masks_named_by_their_file(run: EvalRun) -> None:
    (section,) = sections([run, run])
    assert len({entry.name for entry in section.entries}) == 2
    given = _with(run, model=None, segmenter=None, mode=None, given="somewhere/theirs.json")
    (section,) = sections([given])
    assert section.entries[0].name == "theirs.json"


def test_the_choice_of_samples_is_put_into_words(run: EvalRun) -> None:
    (section,) = sections([run])
    assert section.choice() == "all samples"
    (section,) = sections([_other_data(run, samples=5000, limit=20, subset="lists/clean.ids")])
    assert section.choice() == "20 of 5,000 samples, the first 20 refs, those listed in clean.ids"


def test_tables_hold_the_summaries_numbers(run: EvalRun) -> None:
    (section,) = sections([run])
    (entry,) = section.entries
    summary = entry.result.summary
    assert section.headline == ("cIoU", "mIoU", "P@0.5")
    assert section.further == ("tokens",)
    assert metrics(section, ("mIoU", "AP"), "t").rows[0].cells == (summary.metrics["mIoU"], None)
    by_kind = groups(section, entry)
    assert by_kind is not None
    assert [row.name for row in by_kind.rows] == ["all", "single", "no-target"]
    assert by_kind.rows[0].cells[:2] == (20, "100.0%")
    counts = summary.composition
    assert composition(section).rows[0].cells[:3] == (counts.samples, counts.targets, counts.no_target)
    assert refusals(section).head == ("run", "refused", "no-answer", "no prediction")
    assert refusals(section).rows[0].cells == (4, 4, 0)
    shown = speed(section)
    assert shown is not None
    assert shown.rows[0].cells == ("2.5", "40", "900")
    assert speed(sections([_with(run, speed={})])[0]) is None


def _published(title: str):
    (found,) = [table for table in published_tables() if table.title == title]
    return found


def test_published_numbers_stand_below_ours_with_what_sets_them_apart(run: EvalRun) -> None:
    table = _published("masks on RefCOCOg val (umd)")
    (section,) = sections([_other_data(run, name="refcocog-val")])
    assert matches(section, table)
    found = comparison(section, table)
    assert not found.rows[0].published
    assert found.rows[0].cells[0] == run.results[0].summary.metrics["cIoU"]
    assert found.rows[0].cells[3] is None, "a metric that was not measured is no number"
    assert found.rows[1].published
    assert found.rows[1].cells == (0.7127, 0.7382, 0.8232, 0.7314, 0.3545)
    notes = " ".join(found.notes)
    assert "arXiv 2602.09701" in notes
    assert "Different samples: theirs are 2,573, these 20" in notes
    assert "Different protocols" not in notes


def test_another_protocol_is_told_beside_published_numbers(run: EvalRun) -> None:
    result: Result = run.results[0]
    means = {"gIoU": Estimate(0.5, 0.4, 0.6, 20)}
    summary = replace(result.summary, metrics=means)
    renamed = _with(run, data=result.data.model_copy(update={"name": "reasonseg-test"}), summary=summary)
    (section,) = sections([renamed])
    found = comparison(section, _published("ReasonSeg test"))
    assert any(note.startswith("Different protocols: theirs is nearest to lisa") for note in found.notes)
    assert found.rows[0].cells == (means["gIoU"], None)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("refcocog-val", True),
        ("refcocog-test", False),
        ("refcocog-lmms-hub-val", False),
        ("refcocog-val-hub-test", True),
    ],
)
def test_a_published_table_is_matched_by_set_and_split(run: EvalRun, name: str, wanted: bool) -> None:
    (section,) = sections([_other_data(run, name=name)])
    assert matches(section, _published("masks on RefCOCOg val (umd)")) is wanted


def test_numbers_of_a_group_are_compared_with_that_group(run: EvalRun) -> None:
    result = run.results[0]
    clean = replace(result.summary, groups={})
    summary = replace(result.summary, groups={"clean": clean})
    (section,) = sections([_with(run, summary=summary, data=result.data.model_copy(update={"name": "refcocog-val"}))])
    table = _published("Table 8: RefCOCOg val with and without the pictures of gRefCOCO train")
    assert comparison(section, table).rows[0].cells == (clean.metrics["cIoU"], clean.metrics["cIoU"], None)
