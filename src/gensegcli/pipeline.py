"""The only place that joins the stages: picture → question → completion → answer → masks → prediction.

A batch is a line of four threads with short queues between them, so that reading, decoding, the policy and the
segmenter work at the same time and memory stays bounded however long the batch is::

    requests ─▶ read ─▶ decode (a small pool) ─▶ ask (policy, batches) ─▶ segment (pictures in batches) ─▶ caller

Where policy and segmenter both run on the CPU, the last two share a thread.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from itertools import chain, groupby
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

from gensegcli.errors import ExitCode, GensegError
from gensegcli.geometry import rle
from gensegcli.images import check_source, image_name
from gensegcli.jobs import BATCH_PIXELS, Job, decode_picture, decoded, next_batch, pixels_of
from gensegcli.policy.base import QuestionsFailedError
from gensegcli.policy.frame import frame_for
from gensegcli.records import (
    Answer,
    Completion,
    Failure,
    PredictedInstance,
    Prediction,
    PromptMode,
    Question,
    Refusal,
    Sampling,
)
from gensegcli.requests import Request, checked_query, request_id
from gensegcli.segmenter.prompts import prompts_for
from gensegcli.stream import Prefetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from PIL.Image import Image

    from gensegcli.dialects.base import Dialect
    from gensegcli.families import PolicyEntry
    from gensegcli.images import ImageSource
    from gensegcli.policy.base import Policy
    from gensegcli.records import MaskPrompt, SegmentedMask
    from gensegcli.segmenter.base import Segmenter

T = TypeVar("T")

SHUTDOWN = 10.0
"""Seconds to wait for a running batch when the caller goes away in the middle of a stream."""


class Pipeline(AbstractContextManager["Pipeline", None]):
    """A policy, its dialect and a segmenter, joined. Made by `gensegcli.load`; a context manager.

    Not for use from several threads at once: the engines behind it are not.

    Attributes:
        why: which engine runs the policy, and why that one.
        engine: backend and number format that run the policy, as far as they are known.
        notes: what the user should know about this combination of models, one sentence each.
    """

    def __init__(
        self,
        policy: Policy,
        dialect: Dialect,
        segmenter: Segmenter,
        entry: PolicyEntry,
        *,
        mode: PromptMode = PromptMode.BOX_2,
        sampling: Sampling | None = None,
        batch_size: int = 16,
        segmenter_batch: int = 8,
        why: str = "",
        engine: Mapping[str, str] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """Join stages that are already loaded.

        Args:
            policy: asked in batches.
            dialect: how it is asked and read.
            segmenter: prompted with what the answers say.
            entry: coordinate convention and picture size of the policy.
            mode: which parts of an answer prompt the segmenter.
            sampling: how completions are drawn; greedy by default.
            batch_size: most questions given to the policy at a time.
            segmenter_batch: most pictures given to the segmenter at a time.
            why: see the class.
            engine: see the class.
            notes: see the class.
        """
        self.policy, self.dialect, self.segmenter, self.entry = policy, dialect, segmenter, entry
        self.mode = PromptMode(mode)
        self.sampling = sampling or Sampling()
        self.batch_size, self.segmenter_batch = batch_size, segmenter_batch
        self.why, self.engine, self.notes = why, dict(engine or {}), tuple(notes)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the engine of the policy, and let go of the segmenter. The pipeline is unusable afterwards."""
        self.policy.close()
        # A segmenter has no processes; its memory goes with the last reference to it.
        self.__dict__.pop("segmenter", None)

    # ---------------------------------------------------------------- one

    def predict(self, image: ImageSource, query: str) -> Prediction:
        """Answer one query about one picture.

        Args:
            image: path or address, encoded bytes, a Pillow picture, or an RGB array (h w 3).
            query: the expression; normalised as everywhere.

        Raises:
            GensegError: the picture cannot be read, the expression is empty, the engine cannot answer, or it draws
                several completions (`predict_all` returns them).
        """
        if self.sampling.n != 1:
            raise GensegError(
                f"predict returns one prediction, and n is {self.sampling.n}", hint="predict_all returns all of them"
            )
        return self.predict_all(image, query)[0]

    def predict_all(self, image: ImageSource, query: str) -> list[Prediction]:
        """As `predict`, with a prediction for each of the `n` completions; their ids are `id`, `id#1`, ….

        Raises:
            GensegError: the picture cannot be read, the expression is empty, or the engine cannot answer.
        """
        text = checked_query(query)
        jobs = self._ask([Job(Request(request_id(image, text), image, text), decode_picture(image))])
        predictions: list[Prediction] = []
        for outcome in self._segment(jobs, self.mode):
            if isinstance(outcome, Failure):
                raise GensegError(outcome.error, hint=outcome.hint, code=outcome.code)
            predictions.append(outcome)
        return predictions

    # ---------------------------------------------------------------- many

    def predict_many(
        self, requests: Iterable[Request | Prediction | Failure]
    ) -> Generator[Prediction | Failure, None, None]:
        """Answer a stream of requests, in order, while it is being read.

        Consecutive requests about the same picture share its decoding and its encoding. A request that cannot be
        answered gives a `Failure` and the stream goes on; what is a prediction or a failure already is passed through
        in its place. Closing the iterator stops the stages.

        Of several completions each gives a prediction, one after the other, with the ids `id`, `id#1`, …; a question is
        a single failure if one of them is.

        Args:
            requests: read in another thread, a little ahead. Ids are kept; queries are taken as normalised.

        Raises:
            GensegError: the engine as a whole cannot go on (server down, …), or something that is no request, after what
                was finished before.
            Exception: anything else is a bug in some stage and arrives here with its traceback.
        """
        with closing(self.predict_pictures(requests)) as stream:
            for outcome, _ in stream:
                yield outcome

    def predict_pictures(
        self, requests: Iterable[Request | Prediction | Failure]
    ) -> Generator[tuple[Prediction | Failure, Image | None], None, None]:
        """As `predict_many`, each outcome with its decoded picture: None where none was read."""
        return self._stream(requests, lambda jobs: _whole_questions(jobs, self._segment(jobs, self.mode)))

    def predict_modes(
        self, requests: Iterable[Request | Prediction | Failure], modes: Sequence[PromptMode]
    ) -> Generator[tuple[Prediction | Failure, ...], None, None]:
        """As `predict_many`, but each answer is segmented in several prompt modes: one outcome for each, in their order.

        A picture is encoded once for all modes as long as the segmenter keeps the pictures of one policy batch.
        """
        return self._stream(
            requests, lambda jobs: list(zip(*(self._segment(jobs, mode) for mode in modes), strict=True))
        )

    def ask_many(self, requests: Iterable[Request | Failure]) -> Generator[Job, None, None]:
        """The policy's half of `predict_many`: a job for each completion, with its reading, or a failed one. No masks."""
        return self._stream(requests, lambda jobs: jobs)

    def _stream(
        self, requests: Iterable[Request | Prediction | Failure], finish: Callable[[list[Job]], Iterable[T]]
    ) -> Generator[T, None, None]:
        """Run the stages beside each other; the last of them is `finish`, given one policy batch at a time."""
        reading = Prefetch(_typed(requests), name="read", depth=2 * self.batch_size)
        decoding = Prefetch(
            decoded(reading), name="decode", depth=self.batch_size, weigh=pixels_of, capacity=BATCH_PIXELS
        )
        asking = self._asked(decoding) if self._on_cpu else Prefetch(self._asked(decoding), name="ask", depth=1)
        segmenting = Prefetch(map(finish, asking), name="segment", depth=1)
        stages = [stage for stage in (reading, decoding, asking, segmenting) if isinstance(stage, Prefetch)]
        try:
            yield from chain.from_iterable(segmenting)
        finally:
            for stage in stages:
                stage.stop()
            # The reader may be waiting for a line on stdin that never comes; it holds no engine and no picture.
            for stage in stages[1:]:
                stage.join(SHUTDOWN)

    @property
    def _on_cpu(self) -> bool:
        """Whether both models compute on the CPU: beside each other they would only take each other's cores.

        Worse, OpenMP's threads belong to the thread that calls them. With two teams there are more threads than cores,
        and they go to sleep between operations: small models then take twice as long.
        """
        return all(str(getattr(stage, "device", "")) == "cpu" for stage in (self.policy, self.segmenter))

    def _asked(self, decoded: Prefetch[Job]) -> Iterator[list[Job]]:
        while batch := next_batch(decoded, self.batch_size):
            yield self._ask(batch)

    # ---------------------------------------------------------------- stages

    def _ask(self, jobs: Sequence[Job]) -> list[Job]:
        """A job for each completion, with what it says, in the order of the questions; what is settled stays."""
        waiting = [job for job in jobs if job.settled is None]
        if not waiting:
            return list(jobs)
        started = perf_counter()
        questions = [self._question(job) for job in waiting]
        try:
            outcomes = self.policy.generate(questions, self.sampling)
        except QuestionsFailedError as error:
            outcomes = error.outcomes
            _raise_if_all_lost(outcomes)
        share = (perf_counter() - started) / (len(waiting) * self.sampling.n)
        answered = {
            id(job): self._answered(job, outcome, share) for job, outcome in zip(waiting, outcomes, strict=True)
        }
        return [own for job in jobs for own in answered.get(id(job), [job])]

    def _answered(self, job: Job, outcome: list[Completion] | GensegError, seconds: float) -> list[Job]:
        if isinstance(outcome, GensegError):
            job.fail(outcome)
            return [job]
        assert job.picture is not None
        frame = frame_for(self.entry, job.picture.size)
        return [
            replace(
                job,
                request=replace(job.request, id=f"{job.request.id}#{number}") if number else job.request,
                number=number,
                completion=completion,
                reading=self.dialect.read(completion.text, frame=frame, finish=completion.finish),
                timings={"decode": job.picture.seconds, "policy": seconds},
            )
            for number, completion in enumerate(outcome)
        ]

    def _question(self, job: Job) -> Question:
        assert job.picture is not None
        request = job.request
        return Question(
            job.picture.image,
            self.dialect.ask(request.query),
            id=request.id,
            source=image_name(request.image),
            query=request.query,
        )

    def _segment(self, jobs: Sequence[Job], mode: PromptMode) -> list[Prediction | Failure]:
        """Masks for every answer that has instances, picture by picture; the other jobs are only written down."""
        prompts: dict[int, list[MaskPrompt]] = {
            id(job): prompts_for(job.reading.instances, job.picture.size, mode)
            for job in jobs
            if job.settled is None and job.picture is not None and isinstance(job.reading, Answer)
        }
        asking = [job for job in jobs if prompts.get(id(job))]
        groups = [list(group) for _, group in groupby(asking, key=lambda job: id(job.picture))]
        masks: dict[int, list[SegmentedMask]] = {}
        for start in range(0, len(groups), self.segmenter_batch):
            batch = groups[start : start + self.segmenter_batch]
            try:
                masks.update(self._segment_pictures(batch, prompts))
            except GensegError as error:
                masks.update(self._segment_one_by_one(batch, prompts, error))
        return [
            job.settled or self._prediction(job, mode, prompts.get(id(job), []), masks.get(id(job), [])) for job in jobs
        ]

    def _segment_one_by_one(
        self, groups: Sequence[Sequence[Job]], prompts: dict[int, list[MaskPrompt]], error: GensegError
    ) -> dict[int, list[SegmentedMask]]:
        """The same after a batch has failed: what fails alone too (a picture too large for the memory) is a failure."""
        masks: dict[int, list[SegmentedMask]] = {}
        for group in groups:
            try:
                if len(groups) == 1:
                    raise error
                masks.update(self._segment_pictures([group], prompts))
            except GensegError as own:
                for job in group:
                    job.fail(own)
        return masks

    def _segment_pictures(
        self, groups: Sequence[Sequence[Job]], prompts: dict[int, list[MaskPrompt]]
    ) -> dict[int, list[SegmentedMask]]:
        """Masks by job, of groups of jobs that share a picture: one entry per picture, all its prompts together."""
        started = perf_counter()
        found = self.segmenter.segment(
            [group[0].picture.array for group in groups if group[0].picture is not None],
            [[prompt for job in group for prompt in prompts[id(job)]] for group in groups],
        )
        share = (perf_counter() - started) / sum(map(len, groups))
        masks: dict[int, list[SegmentedMask]] = {}
        for group, of_picture in zip(groups, found, strict=True):
            rest = iter(of_picture)
            for job in group:
                masks[id(job)] = [next(rest) for _ in prompts[id(job)]]
                job.timings["segmenter"] = share
        return masks

    def _prediction(
        self, job: Job, mode: PromptMode, prompts: Sequence[MaskPrompt], masks: Sequence[SegmentedMask]
    ) -> Prediction:
        assert job.picture is not None
        reading = job.reading
        instances = reading.instances if isinstance(reading, Answer) else ()
        return Prediction(
            id=job.request.id,
            image=image_name(job.request.image),
            query=job.request.query,
            size=job.picture.size,
            no_target=isinstance(reading, Answer) and reading.no_target,
            instances=tuple(
                PredictedInstance(instance, prompt, rle.encode(found.mask), found.score)
                for instance, prompt, found in zip(instances, prompts, masks, strict=True)
            ),
            think=reading.think,
            raw=job.completion.text,
            refusal=reading if isinstance(reading, Refusal) else None,
            finish=job.completion.finish,
            tokens=job.completion.tokens,
            timings=dict(job.timings),
            model=self.policy.id,
            model_revision=self.policy.revision,
            segmenter=self.segmenter.id,
            segmenter_revision=self.segmenter.revision,
            prompt_mode=mode,
            dialect=self.dialect.name,
            prompt_digest=self.dialect.digest,
            dropped=dict(reading.dropped) if isinstance(reading, Answer) else {},
            clipped=reading.clipped if isinstance(reading, Answer) else 0,
        )


def _typed(requests: Iterable[T]) -> Iterator[T]:
    """The requests, as they come.

    Raises:
        GensegError: something else among them, or in their place.
    """
    hint = "for example [gensegcli.Request(id, image, query)]; expand_requests makes them of paths and queries"
    if not isinstance(requests, Iterable) or isinstance(requests, str | bytes):
        raise GensegError(f"requests are {type(requests).__name__}, expected a list or another iterable", hint=hint)
    with closing(requests) if isinstance(requests, Generator) else nullcontext():
        for number, item in enumerate(requests):
            if not isinstance(item, Request | Prediction | Failure):
                raise GensegError(f"requests[{number}] is {type(item).__name__}, expected a Request", hint=hint)
            if isinstance(item, Request) and not (isinstance(item.id, str) and isinstance(item.query, str)):
                raise GensegError(
                    f"requests[{number}]: id is {type(item.id).__name__} and query is {type(item.query).__name__}, "
                    "expected two texts"
                )
            if isinstance(item, Request):
                try:
                    check_source(item.image)
                except GensegError as error:
                    raise GensegError(f"requests[{number}]: {error.message}") from None
            yield item


def _whole_questions(
    jobs: Sequence[Job], outcomes: Sequence[Prediction | Failure]
) -> list[tuple[Prediction | Failure, Image | None]]:
    """The outcomes of jobs with their pictures; one failure in place of all predictions of a question that has one."""
    questions: list[list[tuple[Prediction | Failure, Image | None]]] = []
    for job, outcome in zip(jobs, outcomes, strict=True):
        if job.number == 0:
            questions.append([])
        questions[-1].append((outcome, job.picture.image if job.picture else None))
    whole = []
    for question in questions:
        failed = [outcome for outcome, _ in question if isinstance(outcome, Failure)]
        first, picture = question[0]
        whole += [(replace(failed[0], id=first.id), picture)] if failed and len(question) > 1 else question
    return whole


def _raise_if_all_lost(outcomes: Sequence[list[Completion] | GensegError]) -> None:
    """End the run when no question was answered and every error is the engine's own (server gone, key refused).

    Errors of single questions have other codes: they fail their samples, also in a batch of one.
    """
    errors = [outcome for outcome in outcomes if isinstance(outcome, GensegError)]
    if len(errors) == len(outcomes) and all(error.code == ExitCode.ENVIRONMENT for error in errors):
        raise errors[0]
