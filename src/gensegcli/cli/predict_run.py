"""What `genseg predict` does once its arguments are read: plan, run, report."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

import gensegcli
from gensegcli.batch import Batch
from gensegcli.cli import console
from gensegcli.cli.outcomes import formatter
from gensegcli.cli.progress import progress
from gensegcli.cli.tables import table, terminal_width
from gensegcli.config import digest, is_unicode
from gensegcli.download import is_url, public_form
from gensegcli.errors import ExitCode, GensegError
from gensegcli.exports import Exporter, discard_outputs
from gensegcli.exports.names import picture_stem
from gensegcli.files.text import read_text
from gensegcli.images import read_image
from gensegcli.loading import load_as_set
from gensegcli.manifests import READERS, STDIN
from gensegcli.policy.base import check_sampling
from gensegcli.predictions import empty_masks
from gensegcli.records import Failure
from gensegcli.requests import checked_query, expand_requests
from gensegcli.store import RunFolder, locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gensegcli.config import Resolved
    from gensegcli.pipeline import Pipeline
    from gensegcli.requests import Request

_GIGABYTES = {"M": 2e-3, "B": 2.0}
"""By unit of a parameter count, at two bytes each."""


@dataclass(frozen=True)
class Task:
    """What is asked for.

    Attributes:
        inputs: pictures, folders, globs, addresses, manifests or `-`.
        queries: asked of every picture.
        settings: resolved, with origins.
        prompt: the user's own question, if any.
        folder: where results go; None for a single picture of which no files are wanted.
        formats: of the files wanted.
        limit: only so many questions.
    """

    inputs: tuple[str, ...]
    queries: tuple[str, ...]
    settings: Resolved
    prompt: str | None
    folder: Path | None
    formats: tuple[str, ...]
    limit: int | None

    @classmethod
    def from_arguments(
        cls,
        arguments: Sequence[str],
        queries: Sequence[str],
        settings: Resolved,
        *,
        out: Path | None,
        save: str | None,
        limit: int | None,
    ) -> Task:
        """Understand the command line: without --query, the first argument is the input and the rest are queries."""
        inputs = tuple(arguments) if queries else tuple(arguments[:1])
        queries = tuple(queries or arguments[1:])
        for text in queries:
            if os.path.isfile(text):  # noqa: PTH113 (a query may hold characters that no path takes)
                raise GensegError(
                    f"{text} is a file, but stands where an expression is expected",
                    hint='several inputs go with --query: genseg predict *.jpg --query "a dog"',
                )
            checked_query(text)
        for text in inputs:
            if not is_unicode(text):
                raise GensegError(f"the input {text!r} is not valid UTF-8", hint="rename the file or folder")
        check_sampling(settings.settings.predict.sampling)
        formats = tuple(name for part in (save or "").split(",") if (name := part.strip()))
        task = cls(inputs, queries, settings, prompt_text(settings.settings.predict.prompt_file), out, formats, limit)
        if out is None and (formats or not task.single):
            name = "stdin" if inputs[0] == STDIN else picture_stem(inputs[0])
            return replace(task, folder=Path("runs", f"predict-{name}-{digest(task.identity())}"))
        return task

    @property
    def single(self) -> bool:
        """One picture, named outright."""
        if len(self.inputs) != 1 or self.inputs[0] == STDIN:
            return False
        text = self.inputs[0]
        return is_url(text) or (os.path.isfile(text) and Path(text).suffix.lower() not in READERS)  # noqa: PTH113

    def identity(self) -> dict[str, Any]:
        """What decides the results: inputs, queries and settings, not the limit, the place or the file formats."""
        return {
            "inputs": [_without_secrets(text) for text in self.inputs],
            "queries": list(self.queries),
            "prompt": self.prompt,
            **self.settings.identity(),
        }

    def requests(self, on_repeat: Callable[[Request], None] | None = None) -> Iterator[Request | Failure]:
        """The questions, in order; those that were asked before are told instead of given."""
        return islice(expand_requests(self.inputs, self.queries, on_repeat=on_repeat), self.limit)

    def count(self) -> int | None:
        """How many questions there are; None where only reading everything would tell."""
        if any(text == STDIN or text.lower().endswith(".parquet") for text in self.inputs):
            return None
        return sum(1 for _ in self.requests())

    def load(self, *, quiet: bool) -> Pipeline:
        """The pipeline that the settings describe."""
        return load_as_set(self.settings.settings, prompt=self.prompt, on_phase=None if quiet else console.say)


def run(task: Task, *, restart: bool, dry_run: bool, json: bool, quiet: bool, fail_on_no_target: bool) -> ExitCode:
    """Do it, and return the exit code."""
    n = task.settings.settings.predict.n
    counts = _Counts("question" if n == 1 else "answer")
    requests = task.requests(
        counts.repeat
    )  # whatever is wrong with the inputs shows here, before anything is loaded or written
    if quiet:
        console.hush()
    if dry_run:
        _show_plan(task, json=json)
        return ExitCode.DONE
    if task.single and not is_url(task.inputs[0]):
        read_image(task.inputs[0])
    exporter = Exporter(task.folder, task.formats) if task.folder is not None and task.formats else None
    with ExitStack() as stack:
        folder = None if task.folder is None else stack.enter_context(_open(task, task.folder, restart=restart))

        def load() -> Pipeline:
            pipeline = stack.enter_context(task.load(quiet=quiet))
            _pin(folder, pipeline)
            for note in () if quiet else pipeline.notes:
                console.say(f"note: {note}")
            return pipeline

        data = stack.enter_context(console.data_stream())
        text = formatter(json=json, width=terminal_width(data))
        questions = task.count()
        total = None if questions is None else questions * n
        bar = stack.enter_context(progress(total, f"{counts.unit}s", quiet=quiet))
        for outcome in Batch(requests, folder, exporter, n=n).run(load):
            counts.add(outcome.value, recorded=outcome.recorded)
            if isinstance(outcome.value, Failure):
                console.failed(outcome.value.error, outcome.value.hint)
            else:
                bar.write(data, text(outcome.value))
            bar.step(failed=isinstance(outcome.value, Failure))
    if not quiet:
        console.say(counts.summary(task.folder))
    return counts.exit_code(fail_on_no_target=fail_on_no_target)


class _Counts:
    """What came out, counted."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.found = self.no_target = self.refused = self.failed = self.recorded = self.repeated = 0
        self.empty = 0
        self.code = ExitCode.DONE

    def add(self, value: Any, *, recorded: bool) -> None:
        self.recorded += recorded
        if isinstance(value, Failure):
            self.failed += 1
            self.code = ExitCode(value.code)
        elif value.refusal is not None:
            self.refused += 1
        elif value.no_target:
            self.no_target += 1
        else:
            self.found += 1
            self.empty += empty_masks(value) > 0

    def repeat(self, _: Request) -> None:
        self.repeated += 1

    @property
    def total(self) -> int:
        return self.found + self.no_target + self.refused + self.failed

    def summary(self, folder: Path | None) -> str:
        empty = f" ({self.empty} with an empty mask)" if self.empty else ""
        parts = [f"{self.found} found{empty}", f"{self.no_target} no target"]
        parts += [f"{n} {what}" for n, what in ((self.refused, "refused"), (self.failed, "failed")) if n]
        if self.recorded:
            parts.append(f"{self.recorded} of them from before")
        if self.repeated:
            parts.append(f"{self.repeated} asked before {'was' if self.repeated == 1 else 'were'} left out")
        return f"{self.total} {self.unit}{'' if self.total == 1 else 's'}: {', '.join(parts)}" + (
            f"; in {folder}" if folder else ""
        )

    def exit_code(self, *, fail_on_no_target: bool) -> ExitCode:
        if self.failed:
            return self.code if self.total == 1 else ExitCode.SOME_FAILED
        return ExitCode.NO_TARGET if fail_on_no_target and self.no_target else ExitCode.DONE


def _without_secrets(text: str) -> str:
    """An input as it is stored; what an address hides is kept as a digest, so that two of them stay two."""
    shown = public_form(text) if is_url(text) else text
    return shown if shown == text else f"{shown} ({digest(text)})"


def prompt_text(path: Path | None) -> str | None:
    """The user's own question.

    Raises:
        GensegError: the file cannot be read.
    """
    return None if path is None else read_text(path)


def _open(task: Task, path: Path, *, restart: bool) -> RunFolder:
    if restart and (path / "run.json").is_file():
        with locked(path):  # before the records: a kill in between leaves a run that goes on, not foreign files
            discard_outputs(path)
    folder = RunFolder(path, task.identity(), restart=restart)
    settings = {key: {"value": value, "from": origin} for key, value, origin in task.settings.rows()}
    folder.describe({"settings": settings, "genseg": gensegcli.__version__})
    return folder


def _pin(folder: RunFolder | None, pipeline: Pipeline) -> None:
    if folder is not None:
        policy, segmenter = pipeline.policy, pipeline.segmenter
        folder.pin(
            {
                "model": policy.id,
                "model_revision": policy.revision,
                "segmenter": segmenter.id,
                "segmenter_revision": segmenter.revision,
                "prompt_digest": pipeline.dialect.digest,
                **pipeline.engine,
            }
        )


def memory_of(parameters: str) -> str:
    """What the weights of a model alone take, by the size that the table of models states ("4.4B")."""
    number, unit = parameters[:-1], parameters[-1:]
    if unit not in _GIGABYTES:
        return "not known before it is loaded"
    return f"{float(number) * _GIGABYTES[unit]:.2g} GB of weights in 16 bits, twice that in 32; activations on top"


def _show_plan(task: Task, *, json: bool) -> None:
    from gensegcli.config import engine_options
    from gensegcli.models import resolve_policy, resolve_segmenter
    from gensegcli.policy import choose_backend

    model = task.settings.settings.model
    policy = resolve_policy(model.name)
    segmenter = resolve_segmenter(task.settings.settings.segmenter.name or policy.entry.segmenter)
    why = (
        choose_backend(policy, engine_options(model.engine))[1]
        if model.backend == "auto"
        else f"{model.backend}: asked for"
    )
    count = task.count()
    plan = {
        "model": policy.id,
        "model_parameters": policy.entry.parameters,
        "model_memory": memory_of(policy.entry.parameters),
        "model_cached": policy.cached,
        "segmenter": segmenter.id,
        "segmenter_parameters": segmenter.entry.parameters,
        "segmenter_cached": segmenter.cached,
        "backend": why,
        "questions": count,
        "out": None if task.folder is None else str(task.folder),
        "save": list(task.formats),
    }
    rows = task.settings.rows()
    if json:
        settings = {key: {"value": value, "from": origin} for key, value, origin in rows}
        sys.stdout.buffer.write(orjson.dumps({**plan, "settings": settings}, option=orjson.OPT_APPEND_NEWLINE))
        return
    sys.stdout.write(table(("plan", ""), [(name.replace("_", " "), value) for name, value in plan.items()]))
    sys.stdout.write("\n" + table(("setting", "value", "from"), rows))
