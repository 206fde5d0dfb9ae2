"""The page of training runs: learning curves, and rollouts that the reward told apart."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from gensegcli.errors import ExitCode, GensegError
from gensegcli.evaluate.report import layout
from gensegcli.evaluate.report.markup import Markup, element
from gensegcli.evaluate.report.plots import Series, axis_over, curves
from gensegcli.evaluate.report.tables import Row, Table
from gensegcli.evaluate.results import read_lines
from gensegcli.files.text import invalid, json_type, read_json_object
from gensegcli.harmless import csv_row
from gensegcli.train.runs import METRICS, ROLLOUTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from gensegcli.evaluate.report.markup import Child

TITLES = {
    "reward": "Reward",
    "mask_iou": "Mask IoU, where there is a target",
    "no_target_accuracy": "No-target accuracy",
    "false_negatives": "Abstained although there is a target",
    "mixed_groups": "Share of groups whose rewards differ",
    "reward_spread": "Spread of the reward within a step",
    "format": "Share of rollouts in the exact form",
    "think": "Share of rollouts with a think part",
    "refusals": "Share of rollouts that cannot be read",
    "cut": "Share of rollouts cut off by the token limit",
    "length": "Tokens of a rollout",
    "kl": "KL to the reference",
    "entropy": "Entropy",
    "loss": "Loss",
    "lr": "Learning rate",
    "grad_norm": "Norm of the gradient",
    "clipped": "Share of tokens whose ratio is clipped",
    "token_accuracy": "Share of tokens foretold",
    "engine_difference": "Difference of log-probabilities between the engines",
    "seconds": "Seconds of a step",
    "tokens_per_second": "Tokens a second",
}
"""Names of `metrics.jsonl` in the order of their plots; names that are not here follow as they are."""

BY_STAGE = ("loss",)
"""Numbers of which each stage has its own kind."""

TERMS = "terms"
POINTS = 400
"""A curve has at most so many points; beyond, neighbours are averaged."""
SMOOTHED = 20
"""From so many steps on a curve is drawn smoothed, over its own points."""
MOMENTS = 4
"""Steps whose rollouts are shown, spread over the run."""


class Rollout(BaseModel):
    """One row of `rollouts.jsonl`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    step: int
    id: str
    query: str
    text: str
    terms: dict[str, float]
    reward: float


@dataclass(frozen=True)
class TrainingRun:
    """A run of `genseg train`, ended or under way."""

    folder: Path
    run: dict[str, Any]
    steps: tuple[dict[str, Any], ...]
    """Rows of `metrics.jsonl`."""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def stage(self) -> str:
        """Grpo or sft; empty where run.json does not say."""
        identity = self.run.get("identity")
        return str(identity.get("train.stage", "")) if isinstance(identity, dict) else ""

    def values(self, name: str) -> list[tuple[float, float]]:
        """(step, value) wherever the step has a number of that name; `terms.accuracy` is one of the reward's terms."""
        group, _, key = name.rpartition(".")
        found = ((row["step"], (row.get(group) or {} if group else row).get(key)) for row in self.steps)
        return [(step, float(value)) for step, value in found if _is_number(value)]

    def names(self) -> list[str]:
        """Everything that was measured and is a number, in the order of `TITLES`."""
        flat = dict.fromkeys(name for row in self.steps for name, value in row.items() if _is_number(value))
        measured = [name for name in flat if name not in ("step", "steps")]
        return [*(name for name in TITLES if name in measured), *(name for name in measured if name not in TITLES)]

    def terms(self) -> list[str]:
        """The terms of the reward."""
        return list(dict.fromkeys(name for row in self.steps for name in row.get(TERMS) or {}))

    def rollouts(self, steps: Iterable[int]) -> list[Rollout]:
        """The rollouts of some steps, in the order in which they were written.

        Raises:
            GensegError: a row is not of its form.
        """
        path, wanted = self.folder / ROLLOUTS, frozenset(steps)
        if not path.is_file():
            return []
        try:
            return [Rollout.model_validate(row) for row in read_lines(path) if _step(row) in wanted]
        except ValidationError as error:
            raise invalid(error, str(path)) from None


def is_training(folder: Path) -> bool:
    """Whether `genseg train` wrote the folder."""
    return (folder / METRICS).is_file()


def read_training(folder: Path) -> TrainingRun:
    """The training run in a folder.

    Raises:
        GensegError: no step has been done yet, or a row is damaged.
    """
    path = folder / METRICS
    steps = tuple(read_lines(path))
    for number, row in enumerate(steps, start=1):
        if _step(row) is None:
            raise GensegError(f"{path}:{number}: a row with a step expected", code=ExitCode.NOT_FOUND)
        if not isinstance(row.get(TERMS), dict | None):
            found = json_type(row[TERMS])
            raise GensegError(f"{path}:{number}: {TERMS}: an object expected, {found} found", code=ExitCode.NOT_FOUND)
    if not steps:
        raise GensegError(f"{folder}: no step of the training has been done yet", code=ExitCode.NOT_FOUND)
    return TrainingRun(folder, read_json_object(folder / "run.json"), steps)


def summary(run: TrainingRun) -> Table:
    """Where each number began and where it stands: means over the first and the last tenth of the steps."""
    rows = []
    for name in (*run.names(), *(f"{TERMS}.{term}" for term in run.terms())):
        values = [value for _, value in run.values(name)]
        tenth = max(len(values) // 10, 1)
        shown = (_mean(values[:tenth]), _mean(values[-tenth:]), min(values), max(values))
        rows.append(Row(name, tuple(f"{value:.4g}" for value in shown)))
    head = ("", "first tenth", "last tenth", "lowest", "highest")
    return Table(f"{run.name}: {progress(run)}", head, tuple(rows))


def progress(run: TrainingRun) -> str:
    """How far the run is.

    >>> from pathlib import Path
    >>> progress(TrainingRun(Path("a"), {}, ({"step": 7, "steps": 80},)))
    'step 7 of 80'
    """
    last = run.steps[-1]
    return f"step {last['step']:,}" + (f" of {last['steps']:,}" if last.get("steps") else "")


def training_page(runs: Sequence[TrainingRun], *, samples: bool = True) -> str:
    """The page of some training runs: their curves in the same plots, then rollouts of each.

    Raises:
        GensegError: a row of rollouts is damaged.
    """
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} training runs"
    body: list[Child] = [
        *(_facts(run) for run in runs),
        element("h2", "Learning curves"),
        element("div", *_curves(runs), class_="figures"),
    ]
    for run in runs:
        body += [
            element("h2", element("span", run.name, dir="auto"), layout.chip(progress(run))),
            layout.table(summary(run)),
            *(_moments(run) if samples else ()),
            element("h3", "Settings"),
            layout.folded("run.json", run.run),
        ]
    return layout.page(title, "Training report", (), body)


def _facts(run: TrainingRun) -> Markup:
    seconds = math.fsum(value for _, value in run.values("seconds"))
    time = ("hours", f"{seconds / 3600:,.1f}") if seconds >= 3600 else ("minutes", f"{seconds / 60:.1f}")
    shown = {"step": progress(run).removeprefix("step "), time[0]: time[1]} if seconds else {}
    for name in ("reward", "mask_iou", "no_target_accuracy", "format", "loss"):
        values = [value for _, value in run.values(name)]
        if values:
            shown[f"{name}, last tenth"] = f"{_mean(values[-max(len(values) // 10, 1) :]):.4g}"
    return element("div", element("p", run.name, class_="run", dir="auto"), layout.facts(shown))


def _curves(runs: Sequence[TrainingRun]) -> Iterator[Markup]:
    measured = dict.fromkeys(name for run in runs for name in run.names())
    for name in (*(name for name in TITLES if name in measured), *(name for name in measured if name not in TITLES)):
        yield from _curves_of(name, runs)
    for run in runs:
        if terms := run.terms():
            named = {term: run.values(f"{TERMS}.{term}") for term in terms}
            yield _curve(f"Terms of the reward: {run.name}", named)


def _curves_of(name: str, runs: Sequence[TrainingRun]) -> Iterator[Markup]:
    """One plot of a number; one for each stage where it means another thing in each, as the loss does."""
    title, values = TITLES.get(name, name), {run.name: run.values(name) for run in runs}
    stages = dict.fromkeys(run.stage for run in runs if values[run.name])
    if name in BY_STAGE and len(stages) > 1:
        for stage in stages:
            yield _curve(f"{title} of {stage}", {r.name: values[r.name] if r.stage == stage else [] for r in runs})
    else:
        yield _curve(title, values)


def _curve(title: str, named: Mapping[str, Sequence[tuple[float, float]]]) -> Markup:
    series = []
    for place, (name, points) in enumerate(named.items()):
        if not points:
            continue
        thin = thinned(points, POINTS)
        smooth = smoothed(thin) if len(thin) >= SMOOTHED else thin
        series.append(Series(name, smooth, thin if smooth is not thin else (), place))
    points = [point for line in series for point in (*line.points, *line.faint)]
    x = axis_over("step", [step for step, _ in points], from_zero=True, whole=True)
    return curves(title, series, x, axis_over("", [value for _, value in points]), named=len(named) > 1)


def thinned(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most so many points, each the mean of its neighbours.

    >>> thinned([(1, 0.0), (2, 1.0), (3, 2.0), (4, 4.0)], 2)
    [(1.5, 0.5), (3.5, 3.0)]
    """
    width = math.ceil(len(points) / most)
    if width <= 1:
        return list(points)
    parts = (points[start : start + width] for start in range(0, len(points), width))
    return [(_mean([x for x, _ in part]), _mean([y for _, y in part])) for part in parts]


def smoothed(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The mean of each point and those before it, over a tenth of the curve: what was not yet known is not used.

    >>> smoothed([(step, step % 2) for step in range(20)])[-1]
    (19, 0.5)
    """
    width = max(len(points) // 10, 2)
    return [
        (x, _mean([y for _, y in points[max(index + 1 - width, 0) : index + 1]])) for index, (x, _) in enumerate(points)
    ]


def as_csv(runs: Sequence[TrainingRun]) -> str:
    """One line for each number of each step of each run."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("run", "step", "name", "value"))
    for run in runs:
        for name in (*run.names(), *(f"{TERMS}.{term}" for term in run.terms())):
            writer.writerows(csv_row((run.name, step, name, value)) for step, value in run.values(name))
    return stream.getvalue()


def as_json(runs: Sequence[TrainingRun]) -> str:
    """Settings and every step of every run."""
    value = [{"folder": str(run.folder), "run": run.run, "steps": run.steps} for run in runs]
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


# ---------------------------------------------------------------- rollouts


def moments(run: TrainingRun) -> list[int]:
    """Steps spread over the run, the first and the last among them."""
    steps = [row["step"] for row in run.steps]
    last = len(steps) - 1
    return [steps[index] for index in dict.fromkeys(round(last * part / (MOMENTS - 1)) for part in range(MOMENTS))]


def contrasts(rollouts: Sequence[Rollout]) -> tuple[Rollout, Rollout] | None:
    """Of the group whose rewards differ most, the best and the worst: what the update of the step is made of."""
    groups: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        groups.setdefault(rollout.id, []).append(rollout)
    pairs = [
        (max(group, key=lambda rollout: rollout.reward), min(group, key=lambda rollout: rollout.reward))
        for group in groups.values()
    ]
    return max(pairs, key=lambda pair: pair[0].reward - pair[1].reward, default=None)


def _moments(run: TrainingRun) -> Iterator[Markup]:
    steps = moments(run)
    rollouts = run.rollouts(steps)
    if rollouts:
        yield element("h3", "Rollouts that the reward told apart most")
    for step in steps:
        pair = contrasts([rollout for rollout in rollouts if rollout.step == step])
        if pair is not None:
            yield element("h4", f"Step {step:,}: ", element("span", pair[0].query, dir="auto"))
            yield element("div", *map(_card, pair), class_="cards wide")


def _card(rollout: Rollout) -> Markup:
    cut = len(rollout.text) - layout.LONGEST
    text = rollout.text if cut <= 0 else f"{rollout.text[: layout.LONGEST]} … ({cut:,} more characters)"
    terms = ", ".join(f"{name} {value:.3g}" for name, value in rollout.terms.items())
    return element(
        "article",
        element("p", element("b", f"reward {rollout.reward:.3f}"), element("span", terms), class_="verdict"),
        element("p", text, class_="completion", dir="auto"),
        element("p", rollout.id, class_="id", dir="auto"),
        class_="card",
    )


def _step(row: object) -> int | None:
    step = row.get("step") if isinstance(row, dict) else None
    return step if isinstance(step, int) else None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
