"""The line of stages, with answers from a file and filled boxes: everything but the engines is the real thing."""

from __future__ import annotations

import json
import threading
import time
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from gensegcli.dialects import get_dialect
from gensegcli.errors import ExitCode, GensegError
from gensegcli.families import policy_entry
from gensegcli.geometry import rle
from gensegcli.pipeline import Pipeline
from gensegcli.policy.base import QuestionsFailedError, all_or_raise
from gensegcli.policy.scripted import ScriptedPolicy
from gensegcli.records import (
    Answer,
    Completion,
    Failure,
    FinishReason,
    GridBox,
    GridPoint,
    Instance,
    Prediction,
    PromptMode,
    RefusalKind,
    Sampling,
    Size,
)
from gensegcli.requests import Request, request_id
from gensegcli.segmenter.boxfill import BoxFill

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gensegcli.records import MaskPrompt, Question, SegmentedMask

ENTRY = policy_entry("qwen3-vl-4b", "Qwen/Qwen3-VL-4B-Instruct", "qwen3_vl")
DIALECT = get_dialect("genseg")
FOUND = Answer(
    (Instance(GridBox(100, 200, 500, 600), (GridPoint(200, 300), GridPoint(400, 500))),), think="there it is"
)
TEXTS = {
    "dog": DIALECT.render(FOUND),
    "two dogs": DIALECT.render(
        Answer((*FOUND.instances, Instance(GridBox(600, 600, 900, 900), (GridPoint(700, 700), GridPoint(800, 800)))))
    ),
    "unicorn": DIALECT.render(Answer(think="no horn anywhere")),
    "chatter": "I would rather talk about the weather.",
}


class Recorder:
    """A policy and a segmenter that note what they are given before the real ones answer."""

    def __init__(self, policy: ScriptedPolicy) -> None:
        self.policy, self.boxfill = policy, BoxFill()
        self.id, self.revision = policy.id, policy.revision
        self.batches: list[list[str]] = []
        self.encoded: list[list[int]] = []
        self.prompts: list[list[int]] = []
        self.closed = False

    def generate(self, questions: Sequence[Question], sampling: Sampling) -> list[list[Completion]]:
        self.batches.append([question.query for question in questions])
        return self.policy.generate(questions, sampling)

    def segment(
        self, images: Sequence[np.ndarray], prompts: Sequence[Sequence[MaskPrompt]]
    ) -> list[list[SegmentedMask]]:
        self.encoded.append([id(image) for image in images])
        self.prompts.append([len(asked) for asked in prompts])
        return self.boxfill.segment(images, prompts)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps({"query": query, "text": text}) + "\n" for query, text in TEXTS.items()))
    return Recorder(ScriptedPolicy(path))


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    paths = [tmp_path / f"{number}.png" for number in range(12)]
    for number, path in enumerate(paths):
        Image.new("RGB", (100 + number, 50), (number, 0, 0)).save(path)
    return [str(path) for path in paths]


def _pipeline(recorder: Recorder, **settings: object) -> Pipeline:
    return Pipeline(recorder, DIALECT, recorder, ENTRY, **settings)  # type: ignore[arg-type]


def _requests(images: Sequence[str], *queries: str) -> list[Request]:
    pairs = [(image, query) for image in images for query in queries]
    return [Request(f"r{number}", image, query) for number, (image, query) in enumerate(pairs)]


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("genseg-")]


def _no_threads_left() -> bool:
    deadline = time.monotonic() + 10
    while _threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not _threads()


# ---------------------------------------------------------------- one


def test_a_prediction_holds_everything_known(recorder: Recorder, photos: list[str]) -> None:
    prediction = _pipeline(recorder).predict(photos[0], ' "DOG." ')
    (found,) = prediction.instances
    assert prediction.query == "dog"
    assert prediction.image == photos[0]
    assert prediction.size == Size(100, 50)
    assert not prediction.no_target
    assert prediction.refusal is None
    assert prediction.think == "there it is"
    assert prediction.raw == TEXTS["dog"]
    assert found.instance == FOUND.instances[0]
    assert found.prompt.box == (10, 10, 50, 30)
    assert found.prompt.points == ((20, 15), (40, 25))
    expected = np.zeros((50, 100), dtype=bool)
    expected[10:30, 10:50] = True
    assert np.array_equal(rle.decode(found.mask), expected)
    assert (prediction.model, prediction.model_revision) == (recorder.id, recorder.revision)
    assert (prediction.dialect, prediction.prompt_digest) == ("genseg", DIALECT.digest)
    assert prediction.timings.keys() == {"decode", "policy", "segmenter"}
    assert all(seconds >= 0 for seconds in prediction.timings.values())


def test_arrays_pillow_pictures_and_bytes_answer_alike(recorder: Recorder, photos: list[str], tmp_path: Path) -> None:
    pipeline = _pipeline(recorder)
    with Image.open(photos[3]) as picture:
        picture.load()
    sources = [photos[3], picture, np.asarray(picture), (tmp_path / "3.png").read_bytes()]
    masks = {pipeline.predict(source, "dog").instances[0].mask for source in sources}
    assert len(masks) == 1


def test_nothing_there_and_refusals_are_told_apart_and_cost_no_segmenter(recorder: Recorder, photos: list[str]) -> None:
    pipeline = _pipeline(recorder)
    absent, refused = pipeline.predict(photos[0], "unicorn"), pipeline.predict(photos[0], "chatter")
    assert (absent.no_target, absent.refusal, absent.instances) == (True, None, ())
    assert absent.think == "no horn anywhere"
    assert refused.refusal is not None
    assert (refused.no_target, refused.refusal.kind, refused.instances) == (False, RefusalKind.NO_ANSWER, ())
    assert recorder.encoded == []


def test_a_cut_off_completion_is_a_truncated_refusal(tmp_path: Path, photos: list[str]) -> None:
    path = tmp_path / "cut.jsonl"
    path.write_text(json.dumps({"text": TEXTS["dog"][:60], "finish": "length"}))
    pipeline = Pipeline(ScriptedPolicy(path), DIALECT, BoxFill(), ENTRY)
    prediction = pipeline.predict(photos[0], "dog")
    assert prediction.refusal is not None
    assert prediction.refusal.kind is RefusalKind.TRUNCATED
    assert prediction.finish is FinishReason.LENGTH


@pytest.mark.parametrize("mode", list(PromptMode))
def test_the_mode_decides_what_prompts_the_segmenter(recorder: Recorder, photos: list[str], mode: PromptMode) -> None:
    prompt = _pipeline(recorder, mode=mode).predict(photos[0], "dog").instances[0].prompt
    assert len(prompt.points) == {"box": 0, "box+1": 1}.get(mode, 2)


# What each family counts in. Qwen2.5-VL: multiples of 28 nearest to the picture's sides, brought within the least and
# most pixels (3136 and 1 003 520) at the same aspect ratio; worked out by hand from its processor's rule.
@pytest.mark.parametrize(
    ("family", "size", "seen"),
    [
        *(("qwen3_vl", size, Size(1000, 1000)) for size in (Size(640, 427), Size(333, 1000), Size(2000, 300))),
        ("qwen2_5_vl", Size(640, 427), Size(644, 420)),  # 22.86 -> 23 and 15.25 -> 15 times 28
        ("qwen2_5_vl", Size(333, 1000), Size(336, 1008)),  # 11.89 -> 12 and 35.71 -> 36
        ("qwen2_5_vl", Size(2000, 300), Size(1988, 308)),  # 71.43 -> 71 and 10.71 -> 11
    ],
)
def test_an_object_comes_back_where_it_is_for_each_convention(
    tmp_path: Path, family: str, size: Size, seen: Size
) -> None:
    """The answer is written in the family's own units; the mask must cover the object in the original picture."""
    entry = policy_entry("x", "a/b", family)
    dialect = get_dialect(entry.dialect)
    x1, y1, x2, y2 = size.width // 5, size.height // 4, size.width // 2, size.height * 3 // 4
    scale = np.array([seen.width / size.width, seen.height / size.height] * 2)
    box = [round(value) for value in np.array([x1, y1, x2, y2]) * scale]
    middle = [(box[0] + box[2]) // 2, (box[1] + box[3]) // 2]
    answer = json.dumps([{"bbox_2d": box, "point_1": middle, "point_2": [middle[0] + 1, middle[1]]}])
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps({"text": f"<think>.</think><answer>{answer}</answer>"}))
    prediction = Pipeline(ScriptedPolicy(path), dialect, BoxFill(), entry).predict(Image.new("RGB", size), "it")
    truth = np.zeros((size.height, size.width), dtype=bool)
    truth[y1:y2, x1:x2] = True
    mask = rle.decode(prediction.instances[0].mask)
    # Answers are whole units: an edge may be off by half a unit on each side, and by one pixel of rounding.
    tolerance = 0.5 / scale[:2] + 1
    ys, xs = np.nonzero(mask)
    assert np.abs(np.array([xs.min() - x1, xs.max() + 1 - x2])).max() <= tolerance[0]
    assert np.abs(np.array([ys.min() - y1, ys.max() + 1 - y2])).max() <= tolerance[1]
    assert (mask & truth).sum() / (mask | truth).sum() > 0.85


def test_one_picture_that_fails_raises(recorder: Recorder, tmp_path: Path) -> None:
    with pytest.raises(GensegError) as caught:
        _pipeline(recorder).predict(tmp_path / "none.png", "dog")
    assert caught.value.code == ExitCode.NOT_FOUND
    with pytest.raises(GensegError, match="empty"):
        _pipeline(recorder).predict(Image.new("RGB", (9, 9)), " ?! ")
    with pytest.raises(GensegError, match="0 of 1 answers"):
        _pipeline(recorder).predict(Image.new("RGB", (9, 9)), "something nobody scripted")


def test_the_context_manager_closes_the_policy(recorder: Recorder) -> None:
    with _pipeline(recorder):
        assert not recorder.closed
    assert recorder.closed


def test_close_lets_go_of_the_segmenter(recorder: Recorder) -> None:
    segmenter = BoxFill()
    gone = weakref.ref(segmenter)
    pipeline = Pipeline(recorder, DIALECT, segmenter, ENTRY)
    del segmenter
    pipeline.close()
    pipeline.close()
    assert gone() is None


# ---------------------------------------------------------------- several completions


@pytest.fixture
def drawing(recorder: Recorder, tmp_path: Path) -> Recorder:
    """Three answers to each question: found, not there, found; the fourth is chatter."""
    path = tmp_path / "several.jsonl"
    drawn = [(query, TEXTS[said]) for query in ("dog", "cat") for said in ("dog", "unicorn", "two dogs", "chatter")]
    path.write_text("".join(json.dumps({"query": query, "text": text}) + "\n" for query, text in drawn))
    return Recorder(ScriptedPolicy(path))


SEVERAL = Sampling(temperature=1.0, n=3)


def test_each_completion_is_a_prediction(drawing: Recorder, photos: list[str]) -> None:
    pipeline = _pipeline(drawing, sampling=SEVERAL)
    predictions = pipeline.predict_all(photos[0], "dog")
    name = request_id(photos[0], "dog")
    assert [prediction.id for prediction in predictions] == [name, f"{name}#1", f"{name}#2"]
    assert [len(prediction.instances) for prediction in predictions] == [1, 0, 2]
    assert [prediction.no_target for prediction in predictions] == [False, True, False]
    assert drawing.prompts == [[1 + 2]], "one encoding for all completions"
    with pytest.raises(GensegError, match="n is 3") as caught:
        pipeline.predict(photos[0], "dog")
    assert "predict_all" in caught.value.hint


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_completions_stand_together_in_a_batch(drawing: Recorder, photos: list[str], batch_size: int) -> None:
    requests = _requests(photos[:4], "dog", "cat")
    known = _pipeline(drawing).predict(photos[0], "dog")
    outcomes = list(_pipeline(drawing, sampling=SEVERAL, batch_size=batch_size).predict_many([*requests, known]))
    assert [outcome.id for outcome in outcomes[:-1]] == [
        f"{request.id}{ending}" for request in requests for ending in ("", "#1", "#2")
    ]
    assert outcomes[-1] is known


def test_a_question_fails_as_a_whole(drawing: Recorder, photos: list[str]) -> None:
    """Of three completions two cannot be segmented, and the third needs no mask: one failure."""

    class Small(BoxFill):
        def segment(
            self, images: Sequence[np.ndarray], prompts: Sequence[Sequence[MaskPrompt]]
        ) -> list[list[SegmentedMask]]:
            if any(image.shape[1] == 101 for image in images):
                raise GensegError("too large")
            return super().segment(images, prompts)

    pipeline = Pipeline(drawing, DIALECT, Small(), ENTRY, sampling=SEVERAL, batch_size=4)
    outcomes = list(pipeline.predict_many(_requests(photos[:3], "dog", "nobody")))
    assert [(type(outcome), outcome.id) for outcome in outcomes] == [
        *((Prediction, "r0"), (Prediction, "r0#1"), (Prediction, "r0#2"), (Failure, "r1")),
        *((Failure, "r2"), (Failure, "r3")),
        *((Prediction, "r4"), (Prediction, "r4#1"), (Prediction, "r4#2"), (Failure, "r5")),
    ]


# ---------------------------------------------------------------- many


def test_a_batch_keeps_the_order_and_answers_as_one_by_one(recorder: Recorder, photos: list[str]) -> None:
    pipeline = _pipeline(recorder, batch_size=5, segmenter_batch=2)
    requests = _requests(photos, "dog", "unicorn", "two dogs", "chatter")
    many = list(pipeline.predict_many(requests))
    assert [prediction.id for prediction in many] == [request.id for request in requests]
    for request, prediction in zip(requests, many, strict=True):
        alone = pipeline.predict(request.image, request.query)
        assert replace(alone, id=prediction.id, timings={}) == replace(prediction, timings={})
    assert [len(batch) for batch in recorder.batches[: len(requests) // 5]] == [5] * 9
    assert max(map(len, recorder.encoded)) == 2
    assert _no_threads_left()


def test_eight_expressions_about_one_picture_are_one_encoding(recorder: Recorder, photos: list[str]) -> None:
    requests = _requests(photos[:1], "dog", "two dogs", "unicorn", "dog", "two dogs", "dog", "dog", "dog")
    list(_pipeline(recorder, batch_size=8).predict_many(requests))
    assert recorder.prompts == [[1 + 2 + 1 + 2 + 1 + 1 + 1]]
    list(_pipeline(recorder, batch_size=4).predict_many(requests))
    assert len({image for images in recorder.encoded[1:] for image in images}) == 1, "the same array across batches"


def test_failures_take_their_place_and_end_nothing(recorder: Recorder, photos: list[str], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes((tmp_path / "1.png").read_bytes()[:40])
    given = Failure("row 7", "x.png", "dog", "no such row")
    requests = [*_requests([photos[0], str(broken), photos[2]], "dog", "nobody knows"), given]
    known = _pipeline(recorder).predict(photos[5], "dog")
    outcomes = list(_pipeline(recorder, batch_size=4).predict_many([known, *requests]))
    assert outcomes[0] is known
    assert outcomes[-1] is given
    assert [type(outcome) for outcome in outcomes[1:]] == [
        *(Prediction, Failure),
        *(Failure, Failure),
        *(Prediction, Failure, Failure),
    ]
    damaged, unanswered = outcomes[3], outcomes[2]
    assert isinstance(damaged, Failure)
    assert isinstance(unanswered, Failure)
    assert "broken.png" in damaged.error
    assert damaged.id == "r2"
    assert "0 of 1 answers for query 'nobody knows'" in unanswered.error


def test_a_bug_in_the_segmenter_arrives_after_what_was_finished(recorder: Recorder, photos: list[str]) -> None:
    class Broken(BoxFill):
        def segment(
            self, images: Sequence[np.ndarray], prompts: Sequence[Sequence[MaskPrompt]]
        ) -> list[list[SegmentedMask]]:
            if images[0].shape[1] >= 104:
                raise IndexError("a bug")
            return super().segment(images, prompts)

    pipeline = Pipeline(recorder, DIALECT, Broken(), ENTRY, batch_size=2)
    done = []
    with pytest.raises(IndexError, match="a bug") as caught:
        done.extend(iter(pipeline.predict_many(_requests(photos, "dog"))))
    stream = pipeline.predict_many(_requests(photos, "dog"))
    done = [next(stream) for _ in range(4)]
    with pytest.raises(IndexError):
        next(stream)
    assert [outcome.id for outcome in done] == ["r0", "r1", "r2", "r3"]
    assert "segment" in [entry.name for entry in caught.traceback], "the traceback leads into the stage"
    assert _no_threads_left()


def test_an_engine_that_is_gone_ends_the_batch_and_one_bad_question_does_not(
    recorder: Recorder, photos: list[str]
) -> None:
    class Failing(Recorder):
        code = ExitCode.ENVIRONMENT

        def generate(self, questions: Sequence[Question], sampling: Sampling) -> list[list[Completion]]:
            super().generate(questions, sampling)
            raise QuestionsFailedError([GensegError("refused", code=self.code) for _ in questions])

    failing = Failing(recorder.policy)
    with pytest.raises(GensegError, match="refused") as caught:
        list(_pipeline(failing).predict_many(_requests(photos, "dog")))
    assert caught.value.code == ExitCode.ENVIRONMENT
    failing.code = ExitCode.SOME_FAILED
    assert all(isinstance(outcome, Failure) for outcome in _pipeline(failing).predict_many(_requests(photos, "dog")))
    assert _no_threads_left()


@pytest.mark.parametrize("batch_size", [1, 16])
def test_a_refused_question_is_a_failure_in_a_batch_of_any_size(
    recorder: Recorder, photos: list[str], batch_size: int
) -> None:
    """And a server that goes away afterwards ends the run only after everything that was answered."""

    class Server(Recorder):
        def generate(self, questions: Sequence[Question], sampling: Sampling) -> list[list[Completion]]:
            known = {"bad": ExitCode.SOME_FAILED, "gone": ExitCode.ENVIRONMENT}
            outcomes = [
                GensegError(question.query, code=known[question.query])
                if question.query in known
                else self.policy.generate([question], sampling)[0]
                for question in questions
            ]
            return all_or_raise(outcomes)

    requests = [
        Request(f"r{n}", photos[n], query) for n, query in enumerate(["bad", "dog", "bad", "unicorn", "bad", "dog"])
    ]
    outcomes = list(_pipeline(Server(recorder.policy), batch_size=batch_size).predict_many(requests))
    assert [type(outcome) for outcome in outcomes] == [Failure, Prediction] * 3
    assert isinstance(outcomes[0], Failure)
    assert outcomes[0].code == ExitCode.SOME_FAILED

    gone = [Request(f"g{n}", photos[n], "gone") for n in range(10)]
    done: list[str] = []

    def consume() -> None:
        for outcome in _pipeline(Server(recorder.policy), batch_size=2).predict_many([*requests, *gone]):
            done.append(outcome.id)  # noqa: PERF401 - what came before the error is the point

    with pytest.raises(GensegError, match="gone"):
        consume()
    assert done == [request.id for request in requests]
    assert _no_threads_left()


def test_a_picture_that_the_segmenter_cannot_do_fails_alone(recorder: Recorder, photos: list[str]) -> None:
    class Small(BoxFill):
        """Memory for every picture but the one that is 104 pixels wide."""

        def segment(
            self, images: Sequence[np.ndarray], prompts: Sequence[Sequence[MaskPrompt]]
        ) -> list[list[SegmentedMask]]:
            if any(image.shape[1] == 104 for image in images):
                raise GensegError("out of memory", hint="a smaller one", code=ExitCode.ENVIRONMENT)
            return super().segment(images, prompts)

    pipeline = Pipeline(recorder, DIALECT, Small(), ENTRY, batch_size=16, segmenter_batch=8)
    requests = _requests(photos, "dog", "unicorn")
    outcomes = list(pipeline.predict_many(requests))
    assert [outcome.id for outcome in outcomes] == [request.id for request in requests]
    (failure,) = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert (failure.id, failure.error, failure.hint) == ("r8", "out of memory", "a smaller one")
    whole = [outcome for outcome in _pipeline(recorder).predict_many(requests) if outcome.id != "r8"]
    for outcome, other in zip((o for o in outcomes if o.id != "r8"), whole, strict=True):
        assert isinstance(outcome, Prediction)
        assert isinstance(other, Prediction)
        assert outcome.instances == other.instances
    with pytest.raises(GensegError, match="out of memory"):
        pipeline.predict(photos[4], "dog")


def test_an_error_in_the_requests_comes_after_what_was_finished(recorder: Recorder, photos: list[str]) -> None:
    """Back-pressure lets at most some twenty requests be under way: the others are answered when the error comes."""

    def requests() -> Iterator[Request]:
        yield from _requests(photos * 5, "dog")
        raise GensegError("pairs.jsonl: vanished", code=ExitCode.NOT_FOUND)

    done: list[str] = []

    def consume() -> None:
        for outcome in _pipeline(recorder, batch_size=2).predict_many(requests()):
            done.append(outcome.id)  # noqa: PERF401 - what came before the error is the point

    with pytest.raises(GensegError, match="vanished"):
        consume()
    assert done == [f"r{number}" for number in range(len(done))]
    assert len(done) >= 60 - 24


def test_memory_is_bounded_the_reader_does_not_run_ahead(recorder: Recorder, photos: list[str]) -> None:
    read = 0

    def endless() -> Iterator[Request]:
        nonlocal read
        while True:
            yield Request(f"r{read}", photos[read % len(photos)], "dog")
            read += 1

    stream = _pipeline(recorder, batch_size=4).predict_many(endless())
    for _ in range(20):
        next(stream)
    time.sleep(0.2)  # whatever the stages can still take in, they have
    # Read ahead 8, in the pool 4 and 1, decoded 4, a batch in each of ask, its queue, segment, its queue and the caller.
    assert read <= 20 + 8 + 5 + 4 + 5 * 4
    stream.close()
    assert _no_threads_left()


def test_a_slow_producer_gets_its_answers_before_the_end(
    recorder: Recorder, photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gensegcli.jobs.LINGER", 0.05)
    answered = threading.Event()

    def typed() -> Iterator[Request]:
        yield from _requests(photos[:1], "dog")
        assert answered.wait(30), "the next line is typed only after the first answer"
        yield from _requests(photos[1:2], "dog")

    outcomes = []
    for outcome in _pipeline(recorder, batch_size=16).predict_many(typed()):
        outcomes.append(outcome)
        answered.set()
    assert len(outcomes) == 2


def test_the_policy_works_on_while_the_segmenter_does(recorder: Recorder, photos: list[str]) -> None:
    """The segmenter's first call returns only once the policy has begun its second: apart in time, this would hang."""
    second = threading.Event()

    class Noting(Recorder):
        def generate(self, questions: Sequence[Question], sampling: Sampling) -> list[list[Completion]]:
            if self.batches:
                second.set()
            return super().generate(questions, sampling)

        def segment(
            self, images: Sequence[np.ndarray], prompts: Sequence[Sequence[MaskPrompt]]
        ) -> list[list[SegmentedMask]]:
            assert second.wait(30)
            return super().segment(images, prompts)

    outcomes = list(_pipeline(Noting(recorder.policy), batch_size=2).predict_many(_requests(photos, "dog")))
    assert len(outcomes) == len(photos)


@pytest.mark.parametrize(("device", "threads"), [("cpu", 1), ("cuda", 2), (None, 2)])
def test_on_the_cpu_policy_and_segmenter_share_a_thread(
    recorder: Recorder, photos: list[str], device: str | None, threads: int
) -> None:
    used: set[int] = set()

    class Noting(Recorder):
        def generate(self, questions: Sequence[Question], sampling: Sampling) -> list[list[Completion]]:
            used.add(threading.get_ident())
            return super().generate(questions, sampling)

        def segment(
            self, images: Sequence[np.ndarray], prompts: Sequence[Sequence[MaskPrompt]]
        ) -> list[list[SegmentedMask]]:
            used.add(threading.get_ident())
            return super().segment(images, prompts)

    noting = Noting(recorder.policy)
    if device is not None:
        noting.device = device  # type: ignore[attr-defined]
    outcomes = list(_pipeline(noting, batch_size=2).predict_many(_requests(photos, "dog")))
    assert len(outcomes) == len(photos)
    assert len(used) == threads
    assert _no_threads_left()


def test_leaving_the_loop_stops_every_stage(recorder: Recorder, photos: list[str]) -> None:
    stream = _pipeline(recorder, batch_size=1).predict_many(_requests(photos * 50, "dog"))
    assert [next(stream).id for _ in range(3)] == ["r0", "r1", "r2"]
    assert _threads()
    stream.close()
    assert _no_threads_left()


# ---------------------------------------------------------------- half of it, or more


def test_several_modes_from_one_pass_equal_a_pass_for_each(recorder: Recorder, photos: list[str]) -> None:
    modes = (PromptMode.BOX, PromptMode.BOX_2)
    requests = _requests([*photos[:3], "gone.png"], "dog", "unicorn")
    together = list(_pipeline(recorder, batch_size=4).predict_modes(requests, modes))
    assert sum(map(len, recorder.batches)) == 6, "the policy is asked once for all modes"
    for number, mode in enumerate(modes):
        alone = list(_pipeline(recorder, mode=mode).predict_many(requests))
        shared = [outcomes[number] for outcomes in together]
        assert [replace(o, timings={}) if isinstance(o, Prediction) else o for o in shared] == [
            replace(o, timings={}) if isinstance(o, Prediction) else o for o in alone
        ]
    assert [len(o.instances[0].prompt.points) for o in together[0] if isinstance(o, Prediction)] == [0, 2]
    assert _no_threads_left()


def test_asking_alone_gives_texts_and_failures_and_no_masks(recorder: Recorder, photos: list[str]) -> None:
    requests = _requests([photos[0], "gone.png", photos[1]], "dog")
    first, failed, last = _pipeline(recorder).ask_many(requests)
    assert [job.completion.text for job in (first, last)] == [TEXTS["dog"]] * 2
    assert first.reading == FOUND
    assert isinstance(failed.settled, Failure)
    assert recorder.prompts == []
    assert _no_threads_left()
