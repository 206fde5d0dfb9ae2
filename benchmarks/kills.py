"""Kill prep, predict, eval and train again and again, go on with the same command, and compare with a run left alone.

Each round starts one of the jobs in a fresh folder, sends SIGKILL, SIGTERM or SIGINT at random moments (to the process
alone, or to its whole group), runs the command to its end, and compares what lies there with the reference: shards and
weights byte by byte, records without the times taken. Exits with 1 if anything differs.

    python benchmarks/kills.py --kills 25 --out ~/kills [--jobs prep,predict,eval,train] [--seed 0]

A folder that holds finished rounds of the same seed is gone on with.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

GENSEG = [sys.executable, "-m", "gensegcli"]
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
KILLS_IN_A_ROUND = 5
# How a batch is cut may change the last bits of a model's sums: one image at a time.
EXACT = ("--set", "model.batch_size=1", "--set", "segmenter.batch_size=1")
VARYING = frozenset({"timings", "speed", "seconds", "started", "written", "versions", "phases", "memory", "command"})
"""Keys that hold times, or facts of one process."""


@dataclass(frozen=True)
class Job:
    """A command, with `{out}` where its folder goes, and how its folder is compared."""

    name: str
    command: tuple[str, ...]
    contents: Callable[[Path], dict[str, Any]]


def prepared(folder: Path) -> dict[str, Any]:
    """Every file of a prepared set, byte by byte."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def recorded(folder: Path) -> dict[str, Any]:
    """Records by file without the times taken, in the order of their ids; pictures and masks byte by byte."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or path.name.startswith(".") or name == "run.json":
            continue
        if path.suffix == ".jsonl":
            rows = [without_times(orjson.loads(line)) for line in path.read_bytes().splitlines()]
            found[name] = {str(row.get("id", row.get("sample_id", number))): row for number, row in enumerate(rows)}
        elif path.suffix == ".json":
            found[name] = without_times(orjson.loads(path.read_bytes()))
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def trained(folder: Path) -> dict[str, Any]:
    """Metrics, rollouts and the weights of the final model."""
    rows = {
        name: [without_times(orjson.loads(line)) for line in (folder / name).read_bytes().splitlines()]
        for name in ("metrics.jsonl", "rollouts.jsonl")
    }
    weights = hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()
    return {**rows, "model": weights}


def without_times(value: Any) -> Any:
    """A JSON value without the keys that differ between any two runs."""
    if isinstance(value, dict):
        return {key: without_times(part) for key, part in value.items() if not _varies(key)}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def _varies(key: str) -> bool:
    return key in VARYING or key.startswith(("seconds", "memory", "phase")) or key.endswith(("_seconds", "per_second"))


def jobs(data: Path) -> dict[str, Job]:
    """The four commands, on generated scenes in `data`."""
    scenes, pairs = str(data / "scenes"), str(data / "pairs.jsonl")
    return {
        job.name: job
        for job in (
            Job("prep", ("prep", "scenes", "--n", "1500", "-o", "{out}", "-q"), prepared),
            Job(
                "predict",
                ("predict", pairs, "--model", "demo", "-o", "{out}", "--save", "png,coco", "-q", *EXACT),
                recorded,
            ),
            Job("eval", ("eval", scenes, "--model", "demo", "-o", "{out}", "-q", *EXACT), recorded),
            Job(
                "train",
                (
                    "train",
                    "--preset",
                    "demo",
                    "--data",
                    scenes,
                    "-o",
                    "{out}",
                    "--set",
                    "train.steps=5",
                    "--set",
                    "train.save_steps=1",
                    "--set",
                    "train.num_generations=2",
                    "--set",
                    "train.micro_batch=4",
                    "--set",
                    "train.prompts_per_step=2",
                ),
                trained,
            ),
        )
    }


def make_data(data: Path) -> None:
    """Scenes, and a manifest of their images."""
    if (data / "pairs.jsonl").is_file():
        return
    data.mkdir(parents=True, exist_ok=True)
    subprocess.run([*GENSEG, "prep", "scenes", "--n", "40", "-o", str(data / "scenes"), "-q"], check=True)
    from gensegcli.sources.prepared import read_prepared

    lines = []
    for sample in read_prepared(data / "scenes"):
        image = data / "images" / f"{sample.id}.png"
        image.parent.mkdir(exist_ok=True)
        image.write_bytes(sample.image)
        lines.append(json.dumps({"image": str(image), "query": sample.query, "id": sample.id}) + "\n")
    (data / "pairs.jsonl").write_text("".join(lines))


def run(job: Job, out: Path, log: Path) -> float:
    """Run a job to its end; the seconds it took."""
    begin = time.monotonic()
    with log.open("ab") as stream:
        code = subprocess.run(_command(job, out), stdout=stream, stderr=stream, check=False).returncode
    if code not in (0, 5, 7):
        raise SystemExit(f"{job.name} ended with {code}: see {log}")
    return time.monotonic() - begin


def kill_once(job: Job, out: Path, log: Path, moment: float, how: signal.Signals, *, group: bool) -> bool:
    """Start a job and send it a signal after `moment` seconds; whether it was still running."""
    with log.open("ab") as stream:
        process = subprocess.Popen(_command(job, out), stdout=stream, stderr=stream, start_new_session=True)
        try:
            process.wait(moment)
            return False
        except subprocess.TimeoutExpired:
            (os.killpg if group else os.kill)(process.pid, how)
        process.wait(120)
    return process.returncode in (-how, 128 + how, 130)


def _command(job: Job, out: Path) -> list[str]:
    return [*GENSEG, *(part.replace("{out}", str(out)) for part in job.command)]


def torment(job: Job, folder: Path, kills: int, draw: random.Random) -> dict[str, Any]:
    """Rounds of one job until it was killed so many times; counts of signals, rounds and differences."""
    log, reference = folder / f"{job.name}.log", folder / f"{job.name}-reference"
    longest = run(job, reference, log)
    expected = job.contents(reference)
    done: Counter[str] = Counter()
    rounds, different = 0, []
    while done.total() < kills:
        out = folder / f"{job.name}-round"
        shutil.rmtree(out, ignore_errors=True)
        for _ in range(KILLS_IN_A_ROUND):
            how, group, moment = draw.choice(SIGNALS), draw.random() < 0.5, draw.uniform(0.15, 1.0) * longest
            done[how.name] += kill_once(job, out, log, moment, how, group=group)
        run(job, out, log)
        rounds += 1
        if job.contents(out) != expected:
            different.append(rounds)
            shutil.move(out, folder / f"{job.name}-different-{rounds}")
    return {
        "job": job.name,
        "seconds": round(longest, 1),
        "kills": dict(done),
        "rounds": rounds,
        "different": different,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=25, help="of each job")
    parser.add_argument("--jobs", default="prep,predict,eval,train")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    make_data(options.out / "data")
    known = jobs(options.out / "data")
    different = 0
    for name in options.jobs.split(","):
        kept = options.out / f"{name}-{options.seed}.json"
        if not kept.is_file():
            draw = random.Random(f"{options.seed} {name}")
            kept.write_text(json.dumps(torment(known[name], options.out, options.kills, draw)))
        row = json.loads(kept.read_text())
        different += len(row["different"])
        signals = ", ".join(f"{count} {how}" for how, count in sorted(row["kills"].items()) if count)
        print(f"| {name} | {signals} | {row['rounds']} | {row['rounds'] - len(row['different'])} |")
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
