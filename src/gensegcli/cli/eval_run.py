"""What `genseg eval` does once its options are read: find the data, run the stages, print the result."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from gensegcli.atomic import saving
from gensegcli.cli import console
from gensegcli.cli.predict_run import memory_of, prompt_text
from gensegcli.cli.prep_run import cores, telling
from gensegcli.cli.progress import progress
from gensegcli.cli.tables import table, terminal_width
from gensegcli.errors import ExitCode, GensegError, unknown_name
from gensegcli.evaluate.data import choose, read_ids
from gensegcli.evaluate.find import find_set, prep_command
from gensegcli.evaluate.report.formats import as_text
from gensegcli.evaluate.report.sections import sections
from gensegcli.evaluate.report.tables import per_second
from gensegcli.evaluate.results import read_run, to_json
from gensegcli.evaluate.run import Evaluation
from gensegcli.metrics.protocols import chosen_protocol
from gensegcli.metrics.summary import GROUPS
from gensegcli.models import resolve_policy
from gensegcli.prep.run import prepare
from gensegcli.records import PromptMode

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from gensegcli.config import Resolved
    from gensegcli.evaluate.data import EvalSet
    from gensegcli.evaluate.results import Result
    from gensegcli.prep.recipe import Recipe
    from gensegcli.records import Failure
    from gensegcli.sources.raw import RawSet


@dataclass(frozen=True)
class Request:
    """Everything the command was asked; see the options of `cli.eval`."""

    data: str
    settings: Resolved
    split: str | None
    every_sentence: bool
    limit: int | None
    subset: Path | None
    groups: tuple[Path, ...]
    modes: str | None
    predictions: Path | None
    root: Path | None
    out: Path | None


def run(request: Request, *, restart: bool, dry_run: bool, json: bool, quiet: bool) -> ExitCode:
    """Evaluate, and return the exit code."""
    say: Callable[[str], None] = (lambda _text: None) if quiet else console.say
    if quiet:
        console.hush()
    # Mistakes in the options show before a set is prepared or a model loaded.
    protocol, modes = chosen_protocol(request.settings.settings.eval), _modes(request)
    groups = _groups(request)
    data = _find(request, say, quiet=quiet, dry_run=dry_run)
    choice = choose(data, limit=request.limit, subset=request.subset)
    for name, ids in groups.items():
        if ids.isdisjoint(choice.ids):
            raise GensegError(
                f"group {name}: none of its {len(ids)} ids is among the {len(choice.ids)} samples to be scored",
                hint=f"its first is {min(ids)!r}, those of the set are like {choice.ids[0]!r}",
            )
    evaluation = Evaluation(
        data,
        choice,
        request.settings,
        modes,
        protocol,
        prompt=prompt_text(request.settings.settings.predict.prompt_file),
        limit=request.limit,
        subset=request.subset,
        groups=groups,
        given=request.predictions,
        out=request.out,
    )
    if dry_run:
        _show_plan(evaluation, json=json)
        return ExitCode.DONE
    watch = _Watch(quiet=quiet)
    with console.data_stream() as stream:
        results = evaluation.run(restart=restart, stage=watch.stage, say=say)
        stream.write(_dumped(to_json(results)) if json else _shown(evaluation.folder, results, terminal_width(stream)))
    missing = max(result.missing for result in results)
    if missing and not quiet:
        console.say(f"{missing:,} samples without a prediction count as empty answers; none is left out")
    rates = [f"{name} {per_second(rate)}" for name, rate in results[0].speed.items()]
    say(f"{', '.join(rates)} samples/s; in {evaluation.folder}" if rates else f"in {evaluation.folder}")
    return ExitCode.SOME_FAILED if watch.failed else ExitCode.DONE


def _groups(request: Request) -> dict[str, frozenset[str]]:
    """The ids of each group, by the names of their files."""
    found: dict[str, frozenset[str]] = {}
    for path in request.groups:
        if path.stem in found or path.stem in GROUPS:
            taken = "of every result" if path.stem in GROUPS else "of another --group"
            raise GensegError(
                f"{path}: {path.stem} is the name {taken}", hint="rename the file: groups are named by it"
            )
        found[path.stem] = read_ids(path)
    return found


def _modes(request: Request) -> tuple[PromptMode, ...]:
    if request.modes is None:
        return (request.settings.settings.predict.mode,)
    known = [mode.value for mode in PromptMode]
    asked = [part.strip() for part in request.modes.split(",")]
    for name in asked:
        if name not in known:
            raise unknown_name("prompt mode", name, known)
    return tuple(dict.fromkeys(map(PromptMode, asked)))


def _find(request: Request, say: Callable[[str], None], *, quiet: bool, dry_run: bool) -> EvalSet:
    def make(recipe: Recipe, raw: RawSet, out: Path) -> None:
        if dry_run:
            itself = "without --dry-run it is prepared first"
            command = prep_command(recipe)
            raise GensegError(
                f"{recipe.name} {recipe.split}: not prepared yet, and --dry-run writes nothing",
                hint=f"{command}; {itself}" if command else itself,
                code=ExitCode.NOT_FOUND,
            )
        say(f"preparing {recipe.name} {recipe.split} in {out}")
        with saving(out):
            out.mkdir(parents=True, exist_ok=True)
        with telling(quiet=quiet) as tell:
            prepare(recipe, raw, out, workers=cores(), tell=tell)

    return find_set(
        request.data,
        prepare=make,
        split=request.split,
        every_sentence=request.every_sentence,
        root=request.root or Path(os.environ.get("GENSEG_DATA") or "data/raw"),
    )


class _Watch:
    """Progress of the stages, and the failures they meet."""

    def __init__(self, *, quiet: bool) -> None:
        self.failed = 0
        self._quiet = quiet

    @contextmanager
    def stage(self, name: str, samples: int) -> Generator[Callable[[Failure | None], None]]:
        """See `evaluate.stages.Stage`."""
        with progress(samples, name, quiet=self._quiet) as bar:

            def step(failure: Failure | None) -> None:
                if failure is not None:
                    self.failed += 1
                    console.failed(f"{failure.id}: {failure.error}", failure.hint)
                bar.step(failed=failure is not None)

            yield step


def _shown(folder: Path, results: Sequence[Result], width: int | None) -> str:
    """The results of this command, in the same tables as `genseg report` prints."""
    found = replace(read_run(folder), results=tuple(results))
    return as_text(sections([found]), width=width)


def _dumped(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def _show_plan(evaluation: Evaluation, *, json: bool) -> None:
    data, chosen = evaluation.data, evaluation.choice.ids
    plan: dict[str, Any] = {"data": data.name, "from": str(data.path), "samples": len(chosen)}
    plan |= {"protocol": evaluation.protocol.name, **evaluation.protocol.changes, "out": str(evaluation.folder)}
    if evaluation.given is not None:
        plan["predictions"] = str(evaluation.given)
    else:
        policy, segmenter = resolve_policy(evaluation.settings.settings.model.name), evaluation.segmenter
        plan |= {
            "model": policy.id,
            "model memory": memory_of(policy.entry.parameters),
            "model cached": policy.cached,
            "segmenter": segmenter.id,
            "segmenter cached": segmenter.cached,
            "prompt modes": [mode.value for mode in evaluation.modes],
            **{f"to do: {stage}": number for stage, number in evaluation.outstanding().items()},
        }
    plan["notes"] = [*data.notes, *evaluation.choice.notes]
    rows = evaluation.settings.rows()
    with console.data_stream() as stream:
        if json:
            settings = {key: {"value": value, "from": origin} for key, value, origin in rows}
            stream.write(_dumped({**plan, "settings": settings}))
        else:
            width = terminal_width(stream)
            stream.write(table(("plan", ""), list(plan.items()), width=width))
            stream.write("\n" + table(("setting", "value", "from"), rows, width=width))
