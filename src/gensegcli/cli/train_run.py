"""What `genseg train` does once its arguments are read: resolve, plan or train, and tell about it."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import orjson

from gensegcli.cli import console
from gensegcli.cli.launch import REPORTS, Reporting, launch, leave_word
from gensegcli.cli.tables import table, terminal_width
from gensegcli.config import digest, resolve
from gensegcli.doctor import TRAIN_CURE, missing_for_training
from gensegcli.errors import ExitCode, GensegError
from gensegcli.exports.names import picture_stem
from gensegcli.files.text import excerpt, read_json_object

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from gensegcli.config import Resolved
    from gensegcli.train.memory import Memory
    from gensegcli.train.plan import Plan, Setup

    Tell = Callable[[Mapping[str, Any]], object]

DEFAULT_PRESET, SFT_PRESET = "genseg-r1-4b", "cold-start"


@dataclass(frozen=True)
class Task:
    """What is asked for.

    Attributes:
        settings: resolved, with origins.
        name: of the run's folder: the preset, or what was begun with.
        folder: of the run; None for `runs/train-<name>-<digest>`.
        limit: only so many samples.
    """

    settings: Resolved
    name: str
    folder: Path | None
    limit: int | None

    @classmethod
    def from_arguments(
        cls,
        *,
        preset: str | None,
        config: Path | None,
        assignments: Iterable[str],
        flags: Mapping[str, Any],
        out: Path | None,
        limit: int | None,
        resume: Path | None,
    ) -> Task:
        """Understand the command line: what resumes a run begins with the settings in its folder."""
        if resume is not None:
            saved, saved_limit = read_run(resume)
            settings = resolve(
                base=(str(resume), saved), preset=preset, file=config, assignments=assignments, flags=flags
            )
            return cls(settings, resume.name, out or resume, limit or saved_limit)
        if preset is None and config is None:
            preset = _preset_for(flags)
        settings = resolve(preset=preset, file=config, assignments=assignments, flags=flags)
        return cls(settings, preset or picture_stem(str(config)), out, limit)

    def place(self, plan: Plan) -> Path:
        """The folder of the run."""
        return self.folder or Path("runs", f"train-{self.name}-{digest(plan.identity())}")


@dataclass(frozen=True)
class Processes:
    """How many of them train together.

    Attributes:
        nproc: on each machine.
        nodes: machines.
        rdzv: host and port where several machines meet.
    """

    nproc: int
    nodes: int
    rdzv: str | None

    @property
    def total(self) -> int:
        return self.nproc * self.nodes


def _preset_for(flags: Mapping[str, Any]) -> str:
    if flags.get("model.name") == "demo":
        return "demo"
    return SFT_PRESET if flags.get("train.stage") == "sft" else DEFAULT_PRESET


def read_run(folder: Path) -> tuple[dict[str, Any], int | None]:
    """The settings that a run was begun with, and its limit.

    Raises:
        GensegError: the folder is no training run.
    """
    path = folder / "run.json"
    run = read_json_object(path, hint=_RUN_DAMAGED) if path.is_file() else {}
    if run.get("verb") != "train":
        raise GensegError(
            f"{folder}: no training run (no run.json of `genseg train` in it)",
            hint="--resume takes the folder that `genseg train` wrote",
            code=ExitCode.NOT_FOUND,
        )
    settings, identity = (_object(run, key, path) for key in ("settings", "identity"))
    values = {key: _object(settings, key, path) for key in settings}
    lacking = next((key for key, row in values.items() if "value" not in row), None)
    if lacking is not None:
        raise GensegError(f"{path}: settings: {lacking} has no value", hint=_RUN_DAMAGED)
    limit = identity.get("limit")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise GensegError(f"{path}: limit: a number of samples expected, {excerpt(limit)} found", hint=_RUN_DAMAGED)
    return {key: row["value"] for key, row in values.items()}, limit


_RUN_DAMAGED = "run the command that began this run again: it writes run.json anew, in another folder (--out)"


def _object(values: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    found = values.get(key)
    if not isinstance(found, dict):
        raise GensegError(f"{path}: {key}: an object expected, {excerpt(found)} found", hint=_RUN_DAMAGED)
    return found


def run(task: Task, where: Processes, *, restart: bool, dry_run: bool, json: bool, quiet: bool) -> ExitCode:
    """Do it, and return the exit code."""
    _require_packages()
    console.hush()
    from gensegcli.train.plan import Plan, look_up

    setup = look_up(task.settings)
    try:
        plan = Plan.on_data(setup, limit=task.limit)
    except GensegError:
        if dry_run and not json:
            _show_setup(setup, processes=where.total)  # what is known without the data
        raise
    folder = task.place(plan)
    if dry_run:
        return _dry_run(plan, folder, processes=where.total, json=json)
    if where.total > 1 and "RANK" not in os.environ:
        plan.passes(where.total)  # told once, and before anything is started
        return launch(sys.argv[1:], nproc=where.nproc, nodes=where.nodes, rdzv=where.rdzv)
    with Reporting():
        return _train(plan, folder, restart=restart, json=json, quiet=quiet)


def _train(plan: Plan, folder: Path, *, restart: bool, json: bool, quiet: bool) -> ExitCode:
    from gensegcli.train.run import train
    from gensegcli.train.runs import METRICS, read_steps

    first = int(os.environ.get("RANK", "0")) == 0
    say = console.say if first and not quiet else _silent
    with _steps_shown(quiet=quiet or not first) as tell, console.data_stream() as data:
        outcome = train(plan, folder, restart=restart, on_phase=say, on_step=tell)
        if first and json:
            row = {"run": str(folder), "model": str(outcome.model), "step": outcome.step, "steps": outcome.steps}
            data.write(orjson.dumps({**row, "interrupted": outcome.interrupted}).decode() + "\n")
    if first and not quiet:
        for words in came_to(read_steps(folder / METRICS)):
            say(words)
    if outcome.interrupted:
        say(f"interrupted after step {outcome.step} of {outcome.steps}, saved: genseg train --resume {folder}")
        leave_word(ExitCode.INTERRUPTED)
        # A launcher takes any other code for a failure, and ends the processes that are still at it.
        return ExitCode.DONE if REPORTS in os.environ else ExitCode.INTERRUPTED
    say(f"{outcome.step} steps; curves and completions: genseg report {folder} -o training.html")
    say(f'next: genseg predict picture.jpg "…" --model {folder}')
    return ExitCode.DONE


def _silent(_: object) -> None:
    """Tell nobody."""


def _require_packages() -> None:
    missing = missing_for_training()
    if missing:
        raise GensegError(
            f"training needs {', '.join(missing)}, not installed",
            hint=TRAIN_CURE,
            code=ExitCode.ENVIRONMENT,
        )


# ---------------------------------------------------------------- display

_SHOWN = {
    "reward": "reward {:.2f}",
    "mask_iou": "mask IoU {:.3f}",
    "format": "format {:.0%}",
    "no_target_accuracy": "no-target {:.0%}",
    "loss": "loss {:.4f}",
    "kl": "KL {:.4f}",
    "entropy": "entropy {:.2f}",
    "length": "length {:.0f}",
    "mixed_groups": "mixed groups {:.0%}",
    "refusals": "refusals {:.0%}",
    "token_accuracy": "tokens right {:.1%}",
    "tokens_per_second": "{:.0f} tokens/s",
}


def line(row: Mapping[str, Any]) -> str:
    """What one step measured, in one line."""
    parts = [text.format(row[name]) for name, text in _SHOWN.items() if row.get(name) is not None]
    return ", ".join([*parts, f"{row['seconds']:.1f} s"])


_CAME_TO = ("reward", "mask_iou", "loss", "token_accuracy", "held_out_mask_iou")


def came_to(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where a run began and where it has come to, in one line: rewards, or the loss where true answers were taught.

    >>> came_to([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5}, {"step": 3, "loss": 1.25}])
    ['loss 2.0000 at step 1, 1.2500 at step 3']
    >>> came_to([])
    []
    """
    rewarded = any(row.get("reward") is not None for row in rows)
    parts = []
    for name in _CAME_TO:
        known = [row for row in rows if row.get(name) is not None]
        if not known or (name == "loss" and rewarded):  # GRPO's is near 0 by construction
            continue
        text = _SHOWN.get(name, "held-out mask IoU {:.3f}")
        told = f"{text.format(known[0][name])} at step {known[0]['step']}"
        if len(known) > 1:
            number = text[text.index("{") :].split()[0]
            told += f", {number.format(known[-1][name])} at step {known[-1]['step']}"
        parts.append(told)
    return ["; ".join(parts)] if parts else []


@contextmanager
def _steps_shown(*, quiet: bool) -> Generator[Tell]:
    """A bar with the last step's numbers on a terminal, a line a step elsewhere."""
    if quiet:
        yield _silent
    elif sys.stderr.isatty():
        with _bar() as tell:
            yield tell
    else:
        yield _lines()


def _lines() -> Tell:
    began, first = monotonic(), None

    def tell(row: Mapping[str, Any]) -> None:
        nonlocal first
        first = row["step"] if first is None else first
        done = row["step"] - first + 1
        left = (monotonic() - began) / done * (row["steps"] - row["step"])
        console.say(f"step {row['step']}/{row['steps']}: {line(row)}, {left:.0f} s to go")

    return tell


@contextmanager
def _bar() -> Generator[Tell]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    bar = Progress(TextColumn("steps"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    task = bar.add_task("steps", total=None)
    with Live(bar, console=Console(file=console.screen()), transient=True, redirect_stdout=False) as live:

        def tell(row: Mapping[str, Any]) -> None:
            bar.update(task, total=row["steps"], completed=row["step"])
            live.update(Group(Text(line(row)), bar))

        with console.shown_stderr():  # by now one that writes above the bar
            yield tell


def _dry_run(plan: Plan, folder: Path, *, processes: int, json: bool) -> ExitCode:
    """Show what would be done; samples that would stop it are told as they would be then."""
    from gensegcli.train.rows import admitted
    from gensegcli.train.run import look_at_rows

    plan.passes(processes)
    console.say(f"checking {len(plan.asked_for)} samples")
    found = look_at_rows(plan)
    skip = plan.settings.settings.train.bad_rows == "skip"
    left_out = frozenset(row.number for row in found)
    kept = replace(plan, left_out=left_out) if len(left_out) < len(plan.asked_for) else plan
    _show_plan(kept, folder, [row.record() for row in found], processes=processes, json=json)
    if plan.policy.path is None:
        console.say(f"note: {plan.policy.id} is not cached: how long prompts are cannot be said before it is")
    admitted(found, len(plan.asked_for), skip=skip, tell=lambda words: console.say(f"note: {words}"))
    return ExitCode.DONE


def _show_plan(plan: Plan, folder: Path, bad: list[dict[str, Any]], *, processes: int, json: bool) -> None:
    from gensegcli.train.memory import estimate

    facts, memory = plan.facts(processes), estimate(plan, processes)
    rows = plan.settings.rows()
    if json:
        settings = {key: {"value": value, "from": origin} for key, value, origin in rows}
        whole = {**facts, "bad_rows": bad, "out": str(folder), "memory": memory.as_json(), "settings": settings}
        sys.stdout.buffer.write(orjson.dumps(whole, option=orjson.OPT_APPEND_NEWLINE))
        return
    sys.stdout.write(
        table(
            ("plan", ""),
            [*((key.replace("_", " "), value) for key, value in facts.items()), ("out", folder)],
            width=terminal_width(sys.stdout),
        )
    )
    sys.stdout.write("\n")
    _show_memory(memory)
    sys.stdout.write("\n" + table(("setting", "value", "from"), rows, width=terminal_width(sys.stdout)))


def _show_setup(setup: Setup, *, processes: int) -> None:
    from gensegcli.train.memory import estimate

    _show_memory(estimate(setup, processes))
    sys.stdout.write(
        "\n" + table(("setting", "value", "from"), setup.settings.rows(), width=terminal_width(sys.stdout))
    )


def _show_memory(memory: Memory) -> None:
    sys.stdout.write(table(("memory of each process", ""), memory.rows(), width=terminal_width(sys.stdout)))
    for note in memory.notes:
        console.say(f"note: {note}")
