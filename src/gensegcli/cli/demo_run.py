"""What `genseg demo` does: draw, ask, save, compare with the truth."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from PIL import Image

import gensegcli
from gensegcli.atomic import replacing, saving
from gensegcli.cli import console
from gensegcli.cli.outcomes import formatter, verdict
from gensegcli.cli.tables import table, terminal_width
from gensegcli.demo import RIGHT, demo_task, measured, overlap
from gensegcli.errors import GensegError
from gensegcli.exports import Exporter
from gensegcli.records import Failure
from gensegcli.requests import Request

if TYPE_CHECKING:
    from pathlib import Path

ABOUT = (
    "The bundled miniature: Qwen3-VL and SAM 2 architectures of a few million parameters, trained on generated scenes of "
    "coloured shapes only. It shows the system at work; it cannot read photographs."
)


def run(out: Path, *, seed: int, json: bool, quiet: bool) -> None:
    """Answer the demo's questions about its scene; overlays and the picture itself go to `out`."""
    if quiet:
        console.hush()
    tell = (lambda _: None) if quiet else console.say
    tell(ABOUT)
    scene, references = demo_task(seed)
    picture = Image.fromarray(scene.image)
    path = out / "scene.png"
    with saving(path), replacing(path) as stream:
        picture.save(stream, format="PNG")
    exporter = Exporter(out, ["overlay"])
    rows: list[tuple[object, ...]] = []
    right = 0
    started = perf_counter()
    text = formatter(json=True)
    with console.data_stream() as data, gensegcli.load("demo", max_tokens=512, on_phase=tell) as pipeline:
        loaded = perf_counter()
        requests = [Request(f"demo-{seed}-{n}", str(path), r.expression) for n, r in enumerate(references)]
        for reference, prediction in zip(references, pipeline.predict_many(requests), strict=True):
            if isinstance(prediction, Failure):
                raise GensegError(prediction.error, hint=prediction.hint, code=prediction.code)
            exporter.write(prediction, picture)
            if json:
                data.write(text(prediction))
            truth = f"{len(reference.matches)} there" if reference.matches else "not there"
            iou = overlap(prediction, scene, reference)
            right += iou >= RIGHT
            rows.append((prediction.query, verdict(prediction), truth, f"{iou:.2f}"))
        done = perf_counter()
        if not json:
            data.write(table(("query", "answer", "truth", "IoU"), rows, width=terminal_width(data)))
    tell(f"{right} of {len(rows)} answers are right (IoU of at least {RIGHT}); {measured()}")
    tell(f"loaded in {loaded - started:.1f} s, answered in {done - loaded:.1f} s; overlays in {out / 'overlay'}")
