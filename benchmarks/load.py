"""Long jobs: time, processor time and peak memory of prediction, evaluation and audit, and a server that keeps failing.

    python benchmarks/load.py [--scale 1.0] [--jobs predict,eval,audit,server] [--out DIR] [--json]

- predict: 20,000 lines of a manifest, answers from a file, boxes filled; then the same command again, which has nothing
  to do but to find that out.
- eval: 20,040 given predictions of generated scenes.
- audit: 100,000 picture ids against 100,000, with expressions.
- server: 600 questions to a server that answers 15 % of the requests with 429 and 15 % with 500, and hangs up on 6 %.
  The command is run until nothing is left; every question must have its own answer then.

Each command is a process of its own, measured as the system counts. `--scale 0.01` does a hundredth. Exits with 1 if an
answer is missing or is another question's.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import pyarrow.parquet as pq
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GENSEG = [sys.executable, "-m", "gensegcli"]
ANSWER = '<think>.</think><answer>[{{"bbox_2d": [{0}, 100, 600, 700], "point_1": [300, 200], "point_2": [400, 500]}}]</answer>'
PICTURES = 100
MANY = 20
"""Runs after which the server's job is given up."""


class Spent(NamedTuple):
    """What a command took."""

    job: str
    number: int
    """Of the things it did."""
    seconds: float
    processor: float
    """Seconds, of all its processes."""
    megabytes: float
    """At the peak, of its largest process."""


def run(job: str, number: int, *arguments: str, codes: tuple[int, ...] = (0,)) -> Spent:
    """Run a command of genseg and measure it.

    Raises:
        RuntimeError: it left with another code than these.
    """
    started = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([*GENSEG, *arguments], stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)  # for the object, which has not waited itself
        if process.returncode not in codes:
            said.seek(0)
            raise RuntimeError(f"{job}: {process.returncode}: {said.read()[-2000:].decode()}")
    kilobytes = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return Spent(job, number, time.perf_counter() - started, usage.ru_utime + usage.ru_stime, kilobytes / 1024)


def write_lines(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    """A JSONL file."""
    with path.open("wb") as stream:
        stream.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def draw_pictures(folder: Path) -> list[str]:
    """Photos' worth of pixels in a few files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.jpg" for number in range(PICTURES)]
    for number, path in enumerate(paths):
        Image.radial_gradient("L").resize((640, 480)).point(lambda value, n=number: (value + n) % 256).save(path)
    return [str(path) for path in paths]


# ---------------------------------------------------------------- jobs


def predict(folder: Path, scale: float) -> list[Spent]:
    """A manifest with answers from a file, twice."""
    number = round(20_000 * scale)
    pictures = draw_pictures(folder / "pictures")
    questions = [(pictures[i * PICTURES // number], f"thing {i}") for i in range(number)]
    write_lines(folder / "rows.jsonl", ({"image": image, "query": query} for image, query in questions))
    write_lines(
        folder / "answers.jsonl",
        ({"query": query, "text": ANSWER.format(i % 500)} for i, (_, query) in enumerate(questions)),
    )
    command = [
        "predict",
        str(folder / "rows.jsonl"),
        "--backend",
        "scripted",
        "--answers",
        str(folder / "answers.jsonl"),
    ]
    command += ["--segmenter", "boxfill", "-o", str(folder / "out"), "--quiet"]
    spent = [run(name, number, *command) for name in ("predict", "predict, again")]
    _check(folder / "out" / "predictions.jsonl", {query for _, query in questions})
    return spent


def evaluate(folder: Path, scale: float) -> list[Spent]:
    """Given predictions: the true masks of every other sample, nothing for the rest."""
    number = round(20_040 * scale)
    data = folder / "data"
    prepared = run(
        "prep", number, "prep", "make", "scenes", "--n", str(number), "--for", "eval", "-o", str(data), "--quiet"
    )
    write_lines(folder / "given.jsonl", _given(data))
    command = ["eval", str(data), "--predictions", str(folder / "given.jsonl"), "-o", str(folder / "out"), "--quiet"]
    return [prepared, run("eval", number, *command)]


def _given(data: Path) -> Iterator[dict[str, Any]]:
    for shard in sorted((data / "data").glob("*.parquet")):
        for batch in pq.ParquetFile(shard).iter_batches(columns=["id", "targets"]):
            for i, row in enumerate(batch.to_pylist()):
                masks = [target["mask"] for target in row["targets"] if target.get("mask")]
                found = {"masks": masks} if masks and i % 2 else {"no_target": True}
                yield {"id": row["id"], **found}


def audit(folder: Path, scale: float) -> list[Spent]:
    """Two lists of ids, a tenth of which they share."""
    number = round(100_000 * scale)
    for name, first in (("trained", 0), ("evaluated", number * 9 // 10)):
        rows = "".join(f"{first + i},thing {i % 1000} on the left,{name}{i}\n" for i in range(number))
        (folder / f"{name}.csv").write_text(f"image,query,id\n{rows}")
    command = ["overlap-audit", str(folder / "trained.csv"), str(folder / "evaluated.csv"), "--by", "id"]
    return [run("audit", number, *command, "--write-ids", str(folder / "ids"), "--quiet")]


def server(folder: Path, scale: float) -> list[Spent]:
    """A server that fails in three ways, asked until nothing is left."""
    number = round(600 * scale)
    pictures = draw_pictures(folder / "pictures")
    queries = [f"thing {i}" for i in range(number)]
    rows = ({"image": pictures[i % PICTURES], "query": query} for i, query in enumerate(queries))
    write_lines(folder / "rows.jsonl", rows)
    spent: list[Spent] = []
    with failing_server() as url:
        command = ["predict", str(folder / "rows.jsonl"), "--base-url", url, "--segmenter", "boxfill"]
        command += ["-o", str(folder / "out"), "--quiet"]
        records = folder / "out" / "predictions.jsonl"
        while not spent or (_recorded(records) < number and len(spent) < MANY):
            spent.append(run(f"server, run {len(spent) + 1}", number - _recorded(records), *command, codes=(0, 5)))
    _check(records, set(queries))
    return spent


@contextmanager
def failing_server(*, seconds: float = 0.02, seed: int = 0) -> Iterator[str]:
    """The address of a server that answers every question with the question's own number, if it answers."""
    draw, lock = random.Random(seed), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the signature of the library)
            pass

        def do_GET(self) -> None:
            self._send(200, {"object": "list", "data": [{"id": "Qwen/Qwen3-VL-4B-Instruct", "owned_by": "x"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(seconds)
            with lock:
                luck = draw.random()
            if luck < 0.06:
                self.close_connection = True
            elif luck < 0.36:
                self._send(429 if luck < 0.21 else 500, {"error": {"message": "no luck"}})
            else:
                asked = body["messages"][0]["content"][1]["text"]
                thing = int(asked.partition("thing ")[2].split()[0].strip("\".,'“”<>"))
                message = {"role": "assistant", "content": ANSWER.format(thing % 500)}
                self._send(200, {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]})

        def _send(self, status: int, value: dict[str, Any]) -> None:
            raw = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/v1"
        running.shutdown()
        thread.join()


def _recorded(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _check(path: Path, queries: set[str]) -> None:
    """That every question has a record, and one that answers it.

    Raises:
        AssertionError: a record is missing, or is another question's.
    """
    found = {}
    for line in path.read_bytes().splitlines():
        record = orjson.loads(line)
        found[record["query"]] = record["raw"]
    if found.keys() != queries:
        raise AssertionError(f"{path}: {len(queries - found.keys())} questions have no record")
    for query, text in found.items():
        if text != ANSWER.format(int(query.split()[-1]) % 500):
            raise AssertionError(f"{path}: {query} has another question's answer")


JOBS: dict[str, Callable[[Path, float], list[Spent]]] = {
    "predict": predict,
    "eval": evaluate,
    "audit": audit,
    "server": server,
}


def main() -> int:
    """Run the jobs and print what each command took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--out", type=Path, help="keep the files here; by default they are removed")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = options.out or Path(temporary)
        spent: list[Spent] = []
        for name in options.jobs.split(","):
            folder = place.resolve() / name
            folder.mkdir(parents=True)
            done = JOBS[name](folder, options.scale)
            spent += done
            for row in [] if options.json else done:
                print(
                    f"{row.job:16} {row.number:8,} in {row.seconds:7.1f} s  {row.processor:7.1f} s of processor  "
                    f"{row.megabytes:6.0f} MB at the peak",
                    flush=True,
                )
    if options.json:
        print(json.dumps([row._asdict() for row in spent]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
