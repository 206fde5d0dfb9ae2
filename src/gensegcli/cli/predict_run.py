"""What `genseg predict` does once its arguments are read: plan, run, report."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
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
from gensegcli.listing import LeftOut
from gensegcli.loading import load_as_set
from gensegcli.manifests import READERS
from gensegcli.policy.base import check_sampling
from gensegcli.predictions import empty_masks
from gensegcli.records import Failure
from gensegcli.requests import checked_query, expand_requests
from gensegcli.standard_input import NAME as STDIN
from gensegcli.standard_input import Form, StandardInput
from gensegcli.store import RunFolder, locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gensegcli.config import Resolved
    from gensegcli.pipeline import Pipeline
    from gensegcli.requests import Request

_COUNTED_BYTES = 64 << 20
"""A longer manifest is not read twice to know how many questions it holds."""

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
        images_root: what `file_name` in `coco.json` is relative to.
        copy_images: whether pictures go into the YOLO data set.
        recursive: whether folders of folders are gone into.
        stdin: what `-` reads.
    """

    inputs: tuple[str, ...]
    queries: tuple[str, ...]
    settings: Resolved
    prompt: str | None
    folder: Path | None
    formats: tuple[str, ...]
    limit: int | None
    images_root: Path | None = None
    copy_images: bool = False
    recursive: bool = False
    stdin: StandardInput | None = field(default=None, compare=False)

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
        images_root: Path | None = None,
        copy_images: bool = False,
        recursive: bool = False,
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
        task = cls(
            inputs,
            queries,
            settings,
            prompt_text(settings.settings.predict.prompt_file),
            out,
            formats,
            limit,
            images_root,
            copy_images,
            recursive,
            StandardInput() if STDIN in inputs else None,
        )
        if out is None and (formats or not task.single):
            name = "stdin" if inputs[0] == STDIN else picture_stem(inputs[0])
            task = replace(task, folder=Path("runs", f"predict-{name}-{digest(task.asked())}"))
        task.exporter()  # a format that does not exist shows before anything else is done
        return task

    @property
    def single(self) -> bool:
        """One picture, named outright."""
        if len(self.inputs) != 1:
            return False
        text = self.inputs[0]
        if text == STDIN:
            # Nobody types a picture, and whoever types must not be waited for.
            return self.stdin is not None and not self.stdin.typed and self.stdin.form is Form.PICTURE
        return is_url(text) or (os.path.isfile(text) and Path(text).suffix.lower() not in READERS)  # noqa: PTH113

    def identity(self) -> dict[str, Any]:
        """What decides the answer to a question: the settings. A folder takes any questions that are asked under them."""
        return {"prompt": self.prompt, **self.settings.identity()}

    def asked(self) -> dict[str, Any]:
        """What tells this command's own folder from those of others: inputs and queries too."""
        return {
            "inputs": [_without_secrets(text) for text in self.inputs],
            "queries": list(self.queries),
            **self.identity(),
        }

    def exporter(self) -> Exporter | None:
        """What writes the files that are wanted, if any are.

        Raises:
            GensegError: unknown format, or an option of a format that was not asked for.
        """
        if self.folder is None or not self.formats:
            for option, given in (("--images-root", self.images_root is not None), ("--copy-images", self.copy_images)):
                if given:
                    raise GensegError(f"{option} is of files that are saved, and none were asked for", hint=_SAVE_HINT)
            return None
        return Exporter(self.folder, self.formats, images_root=self.images_root, copy_images=self.copy_images)

    def requests(
        self, on_repeat: Callable[[Request], None] | None = None, left_out: LeftOut | None = None
    ) -> Iterator[Request | Failure]:
        """The questions, in order; those that were asked before are told instead of given."""
        requests = expand_requests(
            self.inputs,
            self.queries,
            stdin=self.stdin,
            on_repeat=on_repeat,
            recursive=self.recursive,
            left_out=left_out,
        )
        return islice(requests, self.limit)

    def count(self) -> int | None:
        """How many questions there are; None where only reading everything would tell."""
        if any(_is_long(text) for text in self.inputs):
            return len(self.queries) if self.single else None
        return sum(1 for _ in self.requests())

    def load(self, on_phase: Callable[[str], object]) -> Pipeline:
        """The pipeline that the settings describe."""
        return load_as_set(self.settings.settings, prompt=self.prompt, on_phase=on_phase)


def run(task: Task, *, restart: bool, dry_run: bool, json: bool, quiet: bool, fail_on_no_target: bool) -> ExitCode:
    """Do it, and return the exit code."""
    n = task.settings.settings.predict.n
    counts = _Counts("question" if n == 1 else "answer")
    left_out = LeftOut()
    # Whatever is wrong with the inputs shows here, before anything is loaded or written.
    requests = task.requests(counts.repeat, left_out)
    if quiet:
        console.hush()
    if dry_run:
        _show_plan(task, json=json)
        return ExitCode.DONE
    if task.single and not is_url(task.inputs[0]):
        read_image(task.inputs[0] if task.stdin is None else task.stdin.picture())
    exporter = task.exporter()
    with ExitStack() as stack:
        folder = None if task.folder is None else stack.enter_context(_open(task, task.folder, restart=restart))

        def load() -> Pipeline:
            pipeline = stack.enter_context(task.load(bar.phase))
            _pin(folder, pipeline)
            for note in () if quiet else pipeline.notes:
                console.say(f"note: {note}")
            return pipeline

        failed: tuple[str, str] | None = None
        data = stack.enter_context(console.data_stream())
        text = formatter(json=json, width=terminal_width(data))
        questions = task.count()
        total = None if questions is None else questions * n
        bar = stack.enter_context(progress(total, f"{counts.unit}s", quiet=quiet))
        for outcome in Batch(requests, folder, exporter, n=n).run(load):
            counts.add(outcome.value, recorded=outcome.recorded)
            if isinstance(outcome.value, Failure):
                # A picture that cannot be read fails every question about it, and is told once.
                if (told := (outcome.value.image, outcome.value.error)) != failed:
                    console.failed(outcome.value.error, outcome.value.hint)
                failed = told
            else:
                bar.write(data, text(outcome.value))
            bar.step(failed=isinstance(outcome.value, Failure))
    if not quiet:
        for note in (
            *([f"left out: {_with_cure(left_out)}"] if left_out.kinds else []),
            *(exporter.notes if exporter else ()),
        ):
            console.say(f"note: {note}")
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


_SAVE_HINT = "--save coco or --save yolo"


def _with_cure(left_out: LeftOut) -> str:
    return f"{left_out} ({left_out.cure})" if left_out.cure else str(left_out)


def _is_long(text: str) -> bool:
    """Whether only reading everything would tell how many questions an input holds."""
    if text == STDIN or text.lower().endswith(".parquet"):
        return True
    return Path(text).suffix.lower() in READERS and not is_url(text) and Path(text).stat().st_size > _COUNTED_BYTES


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


_USED = frozenset({"model", "segmenter", "predict"})
"""Sections of the settings that predicting uses."""


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
    rows = [row for row in task.settings.rows() if row[0].partition(".")[0] in _USED]
    if json:
        settings = {key: {"value": value, "from": origin} for key, value, origin in rows}
        sys.stdout.buffer.write(orjson.dumps({**plan, "settings": settings}, option=orjson.OPT_APPEND_NEWLINE))
        return
    width = terminal_width(sys.stdout)
    sys.stdout.write(
        table(("plan", ""), [(name.replace("_", " "), value) for name, value in plan.items()], width=width)
    )
    sys.stdout.write("\n" + table(("setting", "value", "from"), rows, width=width))
