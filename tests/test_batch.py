from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from gensegcli import Pipeline, load
from gensegcli.batch import Batch
from gensegcli.errors import GensegError
from gensegcli.exports import Exporter
from gensegcli.records import Failure, Prediction
from gensegcli.requests import Request, expand_requests
from gensegcli.store import RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ANSWER = (
    '<think>.</think><answer>[{"bbox_2d": [100, 100, 600, 700], "point_1": [200, 200], "point_2": [400, 500]}]</answer>'
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(6):
        Image.new("RGB", (40 + number, 30), (0, 0, number)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def loader(tmp_path: Path) -> Callable[[], Pipeline]:
    answers = tmp_path / "answers.jsonl"
    answers.write_text(json.dumps({"query": "dog", "text": ANSWER}) + "\n")
    return lambda: load(backend="scripted", answers=answers, segmenter="boxfill", batch_size=2)


def _never() -> Pipeline:
    raise AssertionError("nothing was left to ask")


def test_a_second_attempt_takes_what_is_there_in_the_order_of_the_requests(
    tmp_path: Path, photos: Path, loader: Callable[[], Pipeline]
) -> None:
    requests = list(expand_requests([str(photos)], ["dog"]))
    with RunFolder(tmp_path / "run", {}) as folder:
        list(Batch(requests[1:3], folder).run(loader))
    with RunFolder(tmp_path / "run", {}) as folder:
        outcomes = list(Batch(requests, folder).run(loader))
        assert len(folder.records) == 6
    assert [outcome.value.id for outcome in outcomes] == [request.id for request in requests]
    assert [outcome.recorded for outcome in outcomes] == [False, True, True, False, False, False]
    with RunFolder(tmp_path / "run", {}) as folder:
        again = list(Batch(requests, folder).run(_never))
    assert [outcome.value for outcome in again] == [outcome.value for outcome in outcomes]
    assert all(outcome.recorded for outcome in again)


def test_failures_are_kept_and_tried_again(tmp_path: Path, photos: Path, loader: Callable[[], Pipeline]) -> None:
    whole = (photos / "2.png").read_bytes()
    (photos / "2.png").write_bytes(whole[:50])
    with RunFolder(tmp_path / "run", {}) as folder:
        outcomes = list(Batch(expand_requests([str(photos)], ["dog"]), folder).run(loader))
    assert [type(outcome.value) for outcome in outcomes].count(Failure) == 1
    (line,) = (tmp_path / "run" / "failed.jsonl").read_text().splitlines()
    assert json.loads(line).keys() == {"id", "image", "query", "error", "hint", "code"}
    assert "2.png" in json.loads(line)["error"]
    (photos / "2.png").write_bytes(whole)
    with RunFolder(tmp_path / "run", {}) as folder:
        outcomes = list(Batch(expand_requests([str(photos)], ["dog"]), folder).run(loader))
    assert [outcome.recorded for outcome in outcomes] == [True, True, False, True, True, True]
    assert not (tmp_path / "run" / "failed.jsonl").exists()


def test_an_id_that_means_something_else_now_is_refused(
    tmp_path: Path, photos: Path, loader: Callable[[], Pipeline]
) -> None:
    with RunFolder(tmp_path / "run", {}) as folder:
        list(Batch([Request("1", str(photos / "0.png"), "dog")], folder).run(loader))
        with pytest.raises(GensegError, match="id '1' is 'dog' on"):
            list(Batch([Request("1", str(photos / "1.png"), "dog")], folder).run(loader))


def test_files_asked_for_later_are_made_of_what_is_recorded(
    tmp_path: Path, photos: Path, loader: Callable[[], Pipeline]
) -> None:
    requests = list(expand_requests([str(photos)], ["dog"]))
    run = tmp_path / "run"
    with RunFolder(run, {}) as folder:
        list(Batch(requests, folder).run(loader))
    with RunFolder(run, {}) as folder:
        list(Batch(requests, folder, Exporter(run, ["overlay", "coco"])).run(_never))
    assert len(list((run / "overlay").iterdir())) == 6
    assert len(json.loads((run / "coco.json").read_bytes())["annotations"]) == 6


def test_a_record_means_that_its_files_are_there(tmp_path: Path, photos: Path, loader: Callable[[], Pipeline]) -> None:
    """The disk refuses a file in the middle of the batch: what is recorded before has its files, and nothing after."""
    run = tmp_path / "run"
    exporter = Exporter(run, ["png"])
    requests = list(expand_requests([str(photos)], ["dog"]))
    with RunFolder(run, {}) as folder:
        stream = Batch(requests, folder, exporter).run(loader)
        first = next(stream).value
        assert isinstance(first, Prediction)
        for path in exporter.paths(first).values():
            assert path.is_file()
        (run / "png").rename(run / "moved")
        (run / "png").write_text("in the way")
        with pytest.raises(GensegError, match="cannot be saved"):
            list(stream)
        assert folder.records.done_ids() == {first.id}


def test_encoded_pictures_are_exported_and_resumed_too(
    tmp_path: Path, photos: Path, loader: Callable[[], Pipeline]
) -> None:
    requests = [Request(str(n), (photos / f"{n}.png").read_bytes(), "dog") for n in range(3)]
    run = tmp_path / "run"
    for expected in (False, True):
        with RunFolder(run, {}) as folder:
            outcomes = list(Batch(requests, folder, Exporter(run, ["overlay"])).run(loader))
        assert [outcome.recorded for outcome in outcomes] == [expected] * 3
    assert len(list((run / "overlay").iterdir())) == 3


def test_a_picture_that_was_overwritten_is_asked_again_and_its_files_are_renewed(
    tmp_path: Path, photos: Path, loader: Callable[[], Pipeline]
) -> None:
    run, formats = tmp_path / "run", ["png", "coco"]
    requests = list(expand_requests([str(photos / "*.png")], ["dog"]))
    with RunFolder(run, {}) as folder:
        list(Batch(requests, folder, Exporter(run, formats)).run(loader))
    Image.new("RGB", (80, 60)).save(photos / "2.png")
    for expected in ([True, True, False, True, True, True], [True] * 6):
        with RunFolder(run, {}) as folder:
            exporter = Exporter(run, formats)
            outcomes = list(Batch(requests, folder, exporter).run(loader))
            assert len(folder.records) == 6
        assert [outcome.recorded for outcome in outcomes] == expected
        changed = outcomes[2].value
        assert isinstance(changed, Prediction)
        assert changed.size == (80, 60)
        with Image.open(exporter.paths(changed)["png"]) as mask:
            assert mask.size == (80, 60)
        images = json.loads((run / "coco.json").read_bytes())["images"]
        assert [image["width"] for image in images] == [40, 41, 80, 43, 44, 45]
    assert len((run / "predictions.jsonl").read_text().splitlines()) == 7


def test_the_same_relative_name_of_another_picture_is_another_question(
    tmp_path: Path, loader: Callable[[], Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, width in (("here", 50), ("there", 70)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (width, 40)).save(tmp_path / name / "frame.png")
    sizes = []
    for name in ("here", "there"):
        monkeypatch.chdir(tmp_path / name)
        with RunFolder(tmp_path / "run", {}) as folder:
            (outcome,) = Batch(expand_requests(["frame.png"], ["dog"]), folder).run(loader)
        assert isinstance(outcome.value, Prediction)
        sizes.append(outcome.value.size.width)
    assert sizes == [50, 70]


def test_an_answer_outlives_its_picture_and_only_the_overlay_fails(
    tmp_path: Path, photos: Path, loader: Callable[[], Pipeline]
) -> None:
    """The picture is gone when its overlay is asked for; masks need no picture, so they are there."""
    run = tmp_path / "run"
    request = Request("1", str(photos / "0.png"), "dog")
    with RunFolder(run, {}) as folder:
        list(Batch([request], folder).run(loader))
    (photos / "0.png").unlink()
    with RunFolder(run, {}) as folder:
        (outcome,) = Batch([request], folder, Exporter(run, ["overlay", "png"])).run(_never)
        assert isinstance(outcome.value, Failure)
        assert "no such file" in outcome.value.error
        assert folder.records.done_ids() == {"1"}
        assert folder.failed.done_ids() == {"1"}
    assert len(list((run / "png").iterdir())) == 1
    with RunFolder(run, {}) as folder:
        (outcome,) = Batch([request], folder, Exporter(run, ["png", "rle", "geojson", "coco"])).run(_never)
    assert isinstance(outcome.value, Prediction)
    assert len(list((run / "geojson").iterdir())) == 1


def test_a_picture_is_read_once_for_answer_and_overlay(
    tmp_path: Path, photos: Path, loader: Callable[[], Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture may be behind an address: it is gone from there as soon as it was fetched."""
    fetched = []

    def fetch_once(address: str, **_: object) -> bytes:
        fetched.append(address)
        return (photos / "3.png").read_bytes()

    monkeypatch.setattr("gensegcli.images.download", fetch_once)
    requests = list(expand_requests(["http://127.0.0.1:9/a.png"], ["dog"]))
    with RunFolder(tmp_path / "run", {}) as folder:
        exporter = Exporter(tmp_path / "run", ["overlay"])
        (outcome,) = Batch(requests, folder, exporter).run(loader)
    assert isinstance(outcome.value, Prediction)
    assert exporter.paths(outcome.value)["overlay"].is_file()
    assert fetched == ["http://127.0.0.1:9/a.png"]


# ---------------------------------------------------------------- several completions


@pytest.fixture
def drawing(tmp_path: Path) -> Callable[[], Pipeline]:
    """Two completions of each question: found, and not there."""
    answers = tmp_path / "several.jsonl"
    texts = (ANSWER, '<think>.</think><answer>{"no_target": true}</answer>')
    answers.write_text("".join(json.dumps({"query": "dog", "text": text}) + "\n" for text in texts))
    return lambda: load(
        backend="scripted", answers=answers, segmenter="boxfill", batch_size=2, temperature=1.0, n=len(texts)
    )


def test_a_question_is_answered_when_all_its_completions_are_on_record(
    tmp_path: Path, photos: Path, drawing: Callable[[], Pipeline]
) -> None:
    """The last record is lost, as by a kill between two completions: that question alone is asked again."""
    run = tmp_path / "run"
    requests = list(expand_requests([str(photos)], ["dog"]))
    with RunFolder(run, {}) as folder:
        first = [outcome.value for outcome in Batch(requests, folder, Exporter(run, ["png"]), n=2).run(drawing)]
    ids = [name for request in requests for name in (request.id, f"{request.id}#1")]
    assert [value.id for value in first] == ids
    assert len(list((run / "png").iterdir())) == len(ids)
    lines = (run / "predictions.jsonl").read_bytes().splitlines(keepends=True)
    (run / "predictions.jsonl").write_bytes(b"".join(lines[:-1]))
    for expected in ([True] * 10 + [False] * 2, [True] * 12):
        with RunFolder(run, {}) as folder:
            again = list(Batch(requests, folder, n=2).run(drawing))
            assert folder.records.done_ids() == set(ids)
        assert [outcome.recorded for outcome in again] == expected
        assert [outcome.value.id for outcome in again] == ids


def test_failures_stand_between_questions_with_several_completions(
    tmp_path: Path, photos: Path, drawing: Callable[[], Pipeline]
) -> None:
    (photos / "1.png").write_bytes(b"no picture")
    given = Failure("row 3", "x.png", "dog", "no such row")
    names = ["0.png", "1.png", "2.png"]
    requests = [given, *(Request(name, str(photos / name), "dog") for name in names), replace(given, id="row 4")]
    with RunFolder(tmp_path / "run", {}) as folder:
        outcomes = list(Batch(requests, folder, n=2).run(drawing))
        assert folder.records.done_ids() == {"0.png", "0.png#1", "2.png", "2.png#1"}
    assert [outcome.value.id for outcome in outcomes] == [
        "row 3",
        "0.png",
        "0.png#1",
        "1.png",
        "2.png",
        "2.png#1",
        "row 4",
    ]


def test_an_id_like_that_of_a_completion_is_refused(
    tmp_path: Path, photos: Path, drawing: Callable[[], Pipeline]
) -> None:
    requests = [Request(name, str(photos / "0.png"), "dog") for name in ("a", "a#1", "a#b")]
    outcomes = [outcome.value for outcome in Batch(requests, n=2).run(drawing)]
    assert [value.id for value in outcomes] == ["a", "a#1", "a#1", "a#b", "a#b#1"]
    (refused,) = [value for value in outcomes if isinstance(value, Failure)]
    assert refused.error == "id 'a#1' ends as the ids of further completions do (#1, #2, …)"
