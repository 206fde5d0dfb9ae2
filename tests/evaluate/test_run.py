"""Whole evaluations: each stage kept and taken up again on its own, every sample in the score, exact where it must be."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import py_sod_metrics as sod
import pytest

import gensegcli
from gensegcli.config import resolve
from gensegcli.errors import GensegError
from gensegcli.evaluate import run as run_module
from gensegcli.evaluate.data import EvalSet, choose, open_set
from gensegcli.evaluate.results import read_run, to_json
from gensegcli.evaluate.run import Evaluation, evaluate_policy
from gensegcli.geometry import rle
from gensegcli.metrics.protocols import get_protocol
from gensegcli.pipeline import Pipeline
from gensegcli.policy.scripted import ScriptedPolicy
from gensegcli.records import PromptMode
from gensegcli.segmenter.boxfill import BoxFill
from gensegcli.sources.prepared import read_prepared
from tests.evaluate.conftest import prepared, write_answers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gensegcli.evaluate.results import Result


def scripted(data: Path | EvalSet, answers: Path | None, out: Path, *modes: PromptMode, **changes: Any) -> Evaluation:
    """An evaluation with answers from a file, filled boxes, and no bootstrap."""
    data = data if isinstance(data, EvalSet) else open_set(data)
    flags = {"model.name": "qwen3-vl-4b", "model.backend": "scripted", "model.answers": answers}
    settings = resolve(flags={**flags, "segmenter.name": "boxfill", "eval.resamples": 20})
    choice = changes.pop("choice", None) or choose(data)
    protocol = get_protocol(changes.pop("protocol", "genseg"))
    return Evaluation(data, choice, settings, modes or (PromptMode.BOX_2,), protocol, out=out, **changes)


def timeless(results: Sequence[Result]) -> Any:
    """Everything but how fast it went."""
    return [{**value, "speed": None} for value in to_json(results)]


class Calls:
    """What was asked and what was segmented, since the last look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.segmented = 0
        answer, segment = ScriptedPolicy.generate, BoxFill.segment

        def generate(policy: ScriptedPolicy, questions: Any, sampling: Any) -> Any:
            self.asked += [question.id for question in questions]
            return answer(policy, questions, sampling)

        def fill(segmenter: BoxFill, images: Any, prompts: Any) -> Any:
            self.segmented += sum(map(len, prompts))
            return segment(segmenter, images, prompts)

        monkeypatch.setattr(ScriptedPolicy, "generate", generate)
        monkeypatch.setattr(BoxFill, "segment", fill)

    def look(self) -> tuple[int, int]:
        """Questions asked and prompts segmented."""
        seen = len(self.asked), self.segmented
        self.asked, self.segmented = [], 0
        return seen


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


def value(result: Result, name: str) -> float:
    return result.summary.metrics[name].value


# ---------------------------------------------------------------- exact where it must be


def test_true_answers_on_generated_scenes(scenes: Path, answers: Path, tmp_path: Path) -> None:
    (result,) = scripted(scenes, answers, tmp_path / "run").run()
    assert result.summary.composition.samples == 12
    assert (result.summary.composition.targets, result.summary.composition.no_target) == (8, 4)
    for name in ("box mIoU", "AP", "AP50", "AP75", "N-acc", "T-acc", "Acc@0.5", "think"):
        assert value(result, name) == pytest.approx(1.0, abs=1e-9), name
    assert value(result, "FNR") == 0
    assert 0.4 < value(result, "mIoU") < 1, "a filled box is not the object"
    assert result.missing == 0
    assert result.summary.refusals == {}


def test_the_answers_of_a_run_can_be_given_to_another(scenes: Path, answers: Path, tmp_path: Path) -> None:
    """Also where a think text holds characters that end a line elsewhere: U+2028, U+0085, form feed."""
    answers.write_text(answers.read_text().replace("seen", r"seen\u2028there\u0085\f\nhere"))
    (first,) = scripted(scenes, answers, tmp_path / "first").run()
    (second,) = scripted(scenes, tmp_path / "first" / "answers.jsonl", tmp_path / "second").run()

    assert second.summary == first.summary
    assert second.missing == 0
    thoughts = {row.prediction.think for row in read_run(tmp_path / "second").rows(second) if row.prediction}
    assert thoughts == {"seen\u2028there\u0085\f\nhere"}


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        *product(["refcocog", "grefcoco", "reasonseg"], ["genseg", "gres", "lisa", "res"]),
        ("refcocog", "seg-zero"),  # the others have ignored pixels and 0/0, which count against it there
    ],
)
def test_the_true_masks_of_the_mini_sets_score_one(
    mini: dict[str, Path], tmp_path: Path, name: str, protocol: str
) -> None:
    samples = list(read_prepared(mini[name]))
    given = tmp_path / "truth.jsonl"
    lines = [
        {"id": s.id, "masks": [rle.to_coco(t.mask) for t in s.targets if t.mask]}
        if s.targets
        else {"id": s.id, "no_target": True}
        for s in samples
    ]
    given.write_text("".join(json.dumps(line) + "\n" for line in lines))
    evaluation = scripted(mini[name], None, tmp_path / "run", protocol=protocol, given=given)
    (result,) = evaluation.run()
    assert len(samples) == {"refcocog": 10, "grefcoco": 9, "reasonseg": 2}[name]
    assert result.summary.composition.samples == len(samples)
    mean = evaluation.protocol.mean_name
    perfect = {"cIoU", mean, "target cIoU", "target mIoU", "P@0.5", "P@0.9", "box mIoU", "AP", "AP50", "AP75", "T-acc"}
    perfect |= {"N-acc"} if name == "grefcoco" else set()
    assert {m: value(result, m) for m in perfect} == pytest.approx(dict.fromkeys(perfect, 1.0), abs=1e-4)
    if evaluation.protocol.smoothing == 0:
        assert value(result, "cIoU") == 1.0, "exactly, not nearly"
    assert (result.model, result.mode, result.given) == (None, None, str(given))


@pytest.mark.parametrize("name", ["refcocog", "grefcoco", "reasonseg"])
def test_true_answers_on_the_mini_sets(mini: dict[str, Path], tmp_path: Path, name: str) -> None:
    answers = write_answers(tmp_path / "answers.jsonl", read_prepared(mini[name]))
    (result,) = scripted(mini[name], answers, tmp_path / "run").run()
    for metric in ("box mIoU", "AP", "T-acc"):
        assert value(result, metric) == pytest.approx(1.0, abs=1e-6), metric
    assert result.summary.composition.samples == len(read_run(tmp_path / "run").scores(result))


def test_foreground_sets_have_their_own_measures(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for folder in ("im", "gt"):
        (tmp_path / "raw" / "DIS5K" / "DIS-TE1" / folder).mkdir(parents=True)
    for number in range(3):
        mask = np.zeros((48, 64), np.uint8)
        cv2.circle(mask, (20 + 8 * number, 24), 12, 255, -1)
        base = tmp_path / "raw" / "DIS5K" / "DIS-TE1"
        cv2.imwrite(str(base / "im" / f"{number}.png"), rng.integers(0, 255, (48, 64, 3), np.uint8))
        cv2.imwrite(str(base / "gt" / f"{number}.png"), mask)
    out = prepared(tmp_path / "set", "dis5k", tmp_path / "raw", split="test1")
    assert open_set(out).foreground
    given = tmp_path / "given"
    given.mkdir()
    for sample in read_prepared(out):
        assert sample.targets[0].mask is not None
        cv2.imwrite(str(given / f"{sample.id}.png"), rle.decode(sample.targets[0].mask).astype(np.uint8) * 255)
    (result,) = scripted(out, None, tmp_path / "run", given=given).run()
    assert result.data.foreground
    assert value(result, "MAE") == 0
    for name in ("S-measure", "F-measure max", "weighted F"):
        assert value(result, name) == pytest.approx(1.0, abs=1e-6), name
    assert value(result, "E-measure max") == pytest.approx(1.0, abs=1e-3), "the reference divides by pixels - 1"


def test_grey_level_maps_are_scored_as_pysodmetrics_scores_their_files(tmp_path: Path) -> None:
    """Four pairs, one without foreground, one map dark; again under another protocol, and after a restart."""
    rng = np.random.default_rng(3)
    base, given = tmp_path / "raw" / "DIS5K" / "DIS-TE1", tmp_path / "given"
    for folder in (base / "im", base / "gt", given):
        folder.mkdir(parents=True)
    for number in range(4):
        mask = np.zeros((48, 64), np.uint8)
        if number != 3:
            cv2.circle(mask, (20 + 8 * number, 24), 12, 255, -1)
        cv2.imwrite(str(base / "im" / f"{number}.png"), rng.integers(0, 255, (48, 64, 3), np.uint8))
        cv2.imwrite(str(base / "gt" / f"{number}.png"), mask)
        soft = cv2.GaussianBlur(np.roll(mask, 5, axis=1), (15, 15), 4) * (0.3 if number == 1 else 0.9)
        cv2.imwrite(str(given / f"{number}.png"), (soft + rng.uniform(0, 9, mask.shape)).astype(np.uint8))
    out = prepared(tmp_path / "set", "dis5k", tmp_path / "raw", split="test1")
    measures = {
        "S-measure": sod.Smeasure(),
        "weighted F": sod.WeightedFmeasure(),
        "MAE": sod.MAE(),
        "E": sod.Emeasure(),
    }
    for number in range(4):
        pair = [cv2.imread(str(folder / f"{number}.png"), cv2.IMREAD_GRAYSCALE) for folder in (given, base / "gt")]
        for measure in measures.values():
            measure.step(*pair)
    found = {name: measure.get_results() for name, measure in measures.items()}
    expected = {
        "S-measure": found["S-measure"]["sm"],
        "weighted F": found["weighted F"]["wfm"],
        "MAE": found["MAE"]["mae"],
        "E-measure max": found["E"]["em"]["curve"].max(),
        "E-measure mean": found["E"]["em"]["curve"].mean(),
        "E-measure adaptive": found["E"]["em"]["adp"],
    }
    for protocol in ("genseg", "gres"):
        (result,) = scripted(out, None, tmp_path / "run", given=given, protocol=protocol).run()
        assert {name: value(result, name) for name in expected} == pytest.approx(expected, abs=1e-9)
        assert result.summary.composition.no_target == 1
        assert result.notes[-1] == (
            "4 predictions are grey-level maps: their masks are what is above 127 of 255 (the first: 0.png); "
            "S, E, F, weighted F and MAE score the maps as they are"
        )


# ---------------------------------------------------------------- stages


def test_another_mode_segmenter_or_protocol_never_asks_again(
    scenes: Path, answers: Path, tmp_path: Path, calls: Calls
) -> None:
    out = tmp_path / "run"
    scripted(scenes, answers, out).run()
    assert calls.look() == (12, 8)
    assert scripted(scenes, answers, out).run()[0].mode is PromptMode.BOX_2
    assert calls.look() == (0, 0), "the same again does nothing"
    answers.unlink()  # the policy cannot even be loaded any more
    modes = (PromptMode.BOX, PromptMode.BOX_1, PromptMode.BOX_2)
    results = scripted(scenes, answers, out, *modes).run()
    assert [result.mode for result in results] == list(modes)
    assert calls.look() == (0, 16), "two modes are new"
    (gres,) = scripted(scenes, answers, out, protocol="gres").run()
    assert calls.look() == (0, 0)
    assert gres.protocol["name"] == "gres"
    assert gres.summary.metrics["gIoU"].value > 0
    single = scripted(scenes, answers, out)
    single = replace(single, settings=resolve(flags={**_flags(single), "segmenter.multimask": False}))
    single.run()
    assert calls.look() == (0, 8), "the same segmenter with other settings has its own masks"
    names = [result.name for result in read_run(out).results]
    assert names[:4] == ["boxfill-box+2/genseg", "boxfill-box/genseg", "boxfill-box+1/genseg", "boxfill-box+2/gres"]
    assert len(names) == 5


def test_no_name_of_a_set_leads_out_of_the_folder_of_runs(scenes: Path, answers: Path) -> None:
    """A set from the hub says itself what it is called."""
    for name in ("../../elsewhere", "/etc/x", "..\\x"):
        named = replace(scripted(replace(open_set(scenes), name=name), answers, scenes), out=None)
        assert named.folder.parent == Path("runs")
        assert "\\" not in named.folder.name


def _flags(evaluation: Evaluation) -> dict[str, Any]:
    return {key: found for key, found, origin in evaluation.settings.rows() if origin == "flag"}


def test_a_limit_and_a_subset_share_the_answers(scenes: Path, answers: Path, tmp_path: Path, calls: Calls) -> None:
    data, out = open_set(scenes), tmp_path / "run"
    names = [place.id for place in data.index()]
    (few,) = scripted(data, answers, out, choice=choose(data, limit=3), limit=3).run()
    assert calls.look()[0] == 3
    assert (few.data.limit, few.summary.composition.samples) == (3, 3)
    scripted(data, answers, out).run()
    assert calls.look()[0] == 9
    subset = tmp_path / "clean.ids"
    subset.write_text("\n".join(names[4:8]))
    choice = choose(data, subset=subset)
    groups = {"clean": names[4:6]}
    (part,) = scripted(data, answers, out, choice=choice, subset=subset, groups=groups).run()
    assert calls.look() == (0, 0)
    run = read_run(out)
    assert [result.summary.composition.samples for result in run.results] == [3, 12, 4]
    assert [score.id for score in run.scores(part)] == names[4:8]
    assert part.summary.groups["clean"].composition.samples == 2


def test_the_pictures_are_encoded_once_for_all_modes(
    scenes: Path, answers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the bundled SAM 2: three modes, one pass over the picture encoder."""
    pytest.importorskip("torch")
    from gensegcli.segmenter.sam2 import Sam2Segmenter

    encoded = []
    encode = Sam2Segmenter._encode_batch
    monkeypatch.setattr(
        Sam2Segmenter, "_encode_batch", lambda self, images: (encoded.append(len(images)), encode(self, images))[1]
    )
    together = scripted(scenes, answers, tmp_path / "run", PromptMode.BOX, PromptMode.BOX_1, PromptMode.BOX_2)
    together = replace(together, settings=resolve(flags={**_flags(together), "segmenter.name": "demo"}))
    results = together.run()
    assert sum(encoded) == 8
    assert [result.segmenter.id for result in results if result.segmenter] == ["demo"] * 3
    for result in results:
        alone = replace(together, modes=(PromptMode(result.mode),), out=tmp_path / str(result.mode))
        (again,) = alone.run()
        assert again.summary.metrics["mIoU"].value == pytest.approx(value(result, "mIoU"), abs=1e-3)
        assert value(result, "mIoU") > 0.7


# ---------------------------------------------------------------- what goes wrong


def test_a_damaged_picture_fails_and_still_counts(
    scenes: Path, answers: Path, tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out, failures = open_set(scenes), tmp_path / "run", []
    sick = next(sample.id for sample in data.samples() if sample.no_target)
    whole = EvalSet.samples

    def damaged(self: EvalSet, ids: Any = None, *, pictures: bool = True) -> Any:
        for sample in whole(self, ids, pictures=pictures):
            yield replace(sample, image=b"\x89PNG cut off") if sample.id == sick and pictures else sample

    def stage(name: str, samples: int) -> Any:
        from contextlib import nullcontext

        return nullcontext(lambda failure: failures.append(failure) if failure else None)

    with monkeypatch.context() as patched:
        patched.setattr(EvalSet, "samples", damaged)
        (result,) = scripted(data, answers, out).run(stage=stage)
    assert [failure.id for failure in failures] == [sick]
    assert json.loads((out / "failed.jsonl").read_text())["id"] == sick
    assert result.missing == 1
    assert result.summary.composition.samples == 12, "N in = N out"
    assert value(result, "N-acc") == 0.75, "no answer is no correct abstention"
    assert result.summary.refusals == {"empty": 1}
    assert read_run(out).predictions(result, [sick]) == {}
    calls.look()
    (mended,) = scripted(data, answers, out).run()
    assert calls.look()[0] == 1, "only what failed is tried again"
    assert (mended.missing, value(mended, "N-acc")) == (0, 1.0)
    assert not (out / "failed.jsonl").exists()
    fresh = scripted(data, answers, tmp_path / "fresh").run()
    assert timeless([mended]) == timeless(fresh)
    order = [score.id for score in read_run(out).scores(mended)]
    assert order == [place.id for place in data.index()]


def test_when_nothing_can_be_asked_everything_is_missing(scenes: Path, tmp_path: Path) -> None:
    empty = tmp_path / "answers.jsonl"
    empty.write_text("")
    (result,) = scripted(scenes, empty, tmp_path / "run").run()
    assert (result.missing, result.summary.composition.samples) == (12, 12)
    assert value(result, "mIoU") == 0
    assert result.segmenter is not None
    assert result.segmenter.id == "boxfill"


def test_refusals_are_counted_by_kind(scenes: Path, tmp_path: Path) -> None:
    texts = ["Nice weather.", "<think>x</think><answer>[]</answer>", "<think>x</think><answer>[{]</answer>"]
    answers = tmp_path / "answers.jsonl"
    lines = [{"id": s.id, "text": texts[n % 3]} for n, s in enumerate(read_prepared(scenes))]
    answers.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (result,) = scripted(scenes, answers, tmp_path / "run").run()
    assert result.summary.refusals == {"bad-json": 4, "empty-list": 4, "no-answer": 4}
    assert (value(result, "N-acc"), value(result, "T-acc")) == (0.0, 1.0)


def test_another_model_or_question_is_another_run(scenes: Path, answers: Path, tmp_path: Path) -> None:
    first = scripted(scenes, answers, tmp_path / "run")
    first.run()
    other = replace(first, settings=resolve(flags={**_flags(first), "predict.max_tokens": 9}))
    with pytest.raises(GensegError, match=r"begun with other settings: predict\.max_tokens was 1500, is 9"):
        other.run()
    with pytest.raises(GensegError, match='prompt was null, is "Where is '):
        replace(first, prompt="Where is {query}?").run()
    folders = {replace(one, out=None).folder for one in (first, other, replace(first, protocol=get_protocol("gres")))}
    assert len(folders) == 2, "scoring does not decide the folder"
    (result,) = other.run(restart=True)
    assert result.missing == 0
    assert len(read_run(tmp_path / "run").results) == 1


def test_versions_settings_and_conventions_are_recorded(scenes: Path, answers: Path, tmp_path: Path) -> None:
    scripted(scenes, answers, tmp_path / "run").run()
    run = read_run(tmp_path / "run")
    (result,) = run.results
    assert set(result.versions) == {"answers", "masks", "scores"}
    assert {"genseg", "python", "numpy", "pycocotools"} <= result.versions["scores"].keys()
    assert result.protocol == get_protocol("genseg").to_json()
    assert run.run["settings"]["model.backend"] == {"value": "scripted", "from": "flag"}
    assert run.run["pinned"]["model_revision"].startswith("sha256:")
    assert result.data.digest == open_set(scenes).digest
    assert result.speed.keys() == {"answers", "masks", "scores"}


# ---------------------------------------------------------------- predictions given


def test_given_predictions_are_read_once_and_scored_again(scenes: Path, answers: Path, tmp_path: Path) -> None:
    (ours,) = scripted(scenes, answers, tmp_path / "run").run()
    given = tmp_path / "run" / ours.predictions
    lines = given.read_bytes().splitlines(keepends=True)
    given = tmp_path / "given.jsonl"
    given.write_bytes(b"".join(lines[:10]))
    (result,) = scripted(scenes, None, tmp_path / "again", given=given).run()
    assert result.missing == 2
    assert result.summary.composition.samples == 12
    rescored = scripted(scenes, None, tmp_path / "again", given=given, protocol="gres").run()
    assert rescored[0].missing == 2
    given.write_bytes(b"".join(lines))
    with pytest.raises(GensegError, match=r"was begun with other settings: given\.digest was"):
        scripted(scenes, None, tmp_path / "again", given=given).run()
    (whole,) = scripted(scenes, None, tmp_path / "again", given=given).run(restart=True)
    assert whole.missing == 0
    for name in ("mIoU", "cIoU", "box mIoU", "AP", "N-acc"):
        assert whole.summary.metrics[name] == ours.summary.metrics[name]


def test_an_empty_mask_that_is_stated_to_be_no_abstention(scenes: Path, tmp_path: Path) -> None:
    """ReLA's evaluator on the same: gIoU 0, N-acc 0, T-acc 1, since no flag is set; without the field all abstain."""
    samples = list(read_prepared(scenes))
    empty = {s.id: rle.to_coco(rle.encode(np.zeros((s.size.height, s.size.width), bool))) for s in samples}
    found = {}
    for stated in ({"no_target": False}, {}):
        given = tmp_path / f"{len(stated)}.jsonl"
        given.write_text("".join(json.dumps({"id": s.id, "masks": [empty[s.id]], **stated}) + "\n" for s in samples))
        (result,) = scripted(scenes, None, tmp_path / f"run{len(stated)}", given=given, protocol="gres").run()
        found[len(stated)] = tuple(value(result, name) for name in ("gIoU", "N-acc", "T-acc"))
    assert found[1] == (0, 0, 1)
    assert found[0] == (4 / 12, 1, 0)


def test_boxes_alone_have_box_metrics_alone(scenes: Path, tmp_path: Path) -> None:
    given = tmp_path / "boxes.jsonl"
    lines = []
    for sample in read_prepared(scenes):
        width, height = sample.size
        found = [
            [x1 * width / 1000, y1 * height / 1000, x2 * width / 1000, y2 * height / 1000]
            for (x1, y1, x2, y2) in (t.box for t in sample.targets)
        ]
        lines.append({"id": sample.id, "boxes": found} if found else {"id": sample.id, "no_target": True})
    given.write_text("".join(json.dumps(line) + "\n" for line in lines[:-1]))
    (result,) = scripted(scenes, None, tmp_path / "run", given=given).run()
    assert "mIoU" not in result.summary.metrics
    assert "cIoU" not in result.summary.metrics
    assert value(result, "box mIoU") == pytest.approx(1.0 if not read_last(scenes).targets else 7 / 8)
    assert "boxes only: there are no mask metrics" in result.notes


def read_last(folder: Path) -> Any:
    return list(read_prepared(folder))[-1]


# ---------------------------------------------------------------- what a reader of the folder gets


def test_rows_join_sample_prediction_and_score(scenes: Path, answers: Path, tmp_path: Path) -> None:
    scripted(scenes, answers, tmp_path / "run").run()
    run = read_run(tmp_path / "run")
    (result,) = run.results
    rows = list(run.rows(result))
    assert [row.sample for row in rows] == list(read_prepared(scenes))
    assert all(row.prediction and row.prediction.id == row.sample.id == row.score.id for row in rows)
    assert rows[0].prediction is not None
    assert rows[0].prediction.query == rows[0].sample.query
    one = rows[5].sample.id
    assert [row.sample.id for row in run.rows(result, [one, "nobody"])] == [one]
    with pytest.raises(GensegError, match="no evaluation"):
        read_run(tmp_path)
    (tmp_path / "run" / "results.json").unlink()
    with pytest.raises(GensegError, match="an evaluation that did not end"):
        read_run(tmp_path / "run")
    (tmp_path / "run" / "results.json").write_text('[{"mode": 3}]')
    with pytest.raises(GensegError, match=r"results\.json: 0\.protocol: field required"):
        read_run(tmp_path / "run")


# ---------------------------------------------------------------- for training


def test_evaluating_a_pipeline_in_memory_agrees_with_the_run(scenes: Path, answers: Path, tmp_path: Path) -> None:
    (result,) = scripted(scenes, answers, tmp_path / "run").run()
    with gensegcli.load("qwen3-vl-4b", backend="scripted", answers=answers, segmenter="boxfill") as pipeline:
        summary = evaluate_policy(pipeline, read_prepared(scenes))
        assert isinstance(pipeline, Pipeline)
    values = {name: found.value for name, found in summary.metrics.items()}
    assert values == {name: found.value for name, found in result.summary.metrics.items()}
    assert summary.composition == result.summary.composition


def test_a_failure_counts_as_an_empty_answer_in_memory_too(scenes: Path, answers: Path) -> None:
    samples = list(read_prepared(scenes))
    samples[0] = replace(samples[0], image=b"no picture")
    failed: list[Any] = []
    with gensegcli.load("qwen3-vl-4b", backend="scripted", answers=answers, segmenter="boxfill") as pipeline:
        summary = evaluate_policy(pipeline, samples, "gres", on_failure=failed.append)
    assert summary.composition.samples == 12
    assert [failure.id for failure in failed] == [samples[0].id]
    assert summary.refusals == {"empty": 1}


def test_every_package_whose_version_is_recorded_exists() -> None:
    assert set(run_module._PACKAGES) == {"answers", "masks", "scores"}
    assert "genseg" in run_module.versions("answers")
