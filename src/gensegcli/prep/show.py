"""A prepared sample for people: its picture with box, points and mask of every object, and the expression above."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from gensegcli.atomic import replacing, saving
from gensegcli.draw import overlay
from gensegcli.errors import ExitCode, GensegError, unknown_name
from gensegcli.geometry.boxes import grid_to_pixel
from gensegcli.geometry.rle import merge
from gensegcli.images import read_image
from gensegcli.records import (
    FinishReason,
    Instance,
    MaskPrompt,
    PredictedInstance,
    Prediction,
    PromptMode,
    Sample,
    Target,
)
from gensegcli.sources.prepared import read_card, read_shard

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from PIL.Image import Image

GALLERY = "samples"


def draw_sample(sample: Sample, *, source: str = "") -> Image:
    """The picture as it is stored, with its truth drawn as a prediction would be: positives as plus, negatives as minus."""
    return overlay(read_image(sample.image), _as_prediction(sample, source))


def find(folder: Path, *, id: str | None = None, index: int = 0) -> Sample:  # noqa: A002
    """A sample of a prepared set, by id or by number.

    Raises:
        GensegError: no such sample, or no prepared set.
    """
    return _by_number(folder, index) if id is None else _by_id(folder, id)


def _by_number(folder: Path, index: int) -> Sample:
    first = 0
    for shard in read_card(folder)["shards"]:
        if index < first + shard["samples"]:
            found = next(islice(read_shard(folder / shard["file"]), index - first, None), None)
            if found is None:
                raise GensegError(f"{folder / shard['file']}: fewer samples than its card counts")
            return found
        first += shard["samples"]
    raise GensegError(f"{folder}: has {first:,} samples, number {index} asked for", code=ExitCode.NOT_FOUND)


def _by_id(folder: Path, name: str) -> Sample:
    seen: list[str] = []
    for shard in read_card(folder)["shards"]:
        path = folder / shard["file"]
        names = [sample.id for sample in read_shard(path, pictures=False)]
        if name in names:
            return next(read_shard(path, ids={name}))
        seen += names
    raise unknown_name("sample", name, seen[:5], hint=f"the first of {len(seen):,} are listed")


def write_gallery(out: Path, shards: Iterable[Path]) -> list[str]:
    """Draw one sample of each kind (several objects, one, none) of the first shard; the files, relative to `out`."""
    first = next(iter(shards), None)
    if first is None:
        return []
    found: dict[str, Sample] = {}
    for sample in read_shard(first):
        found.setdefault(("none", "one", "several")[min(len(sample.targets), 2)], sample)
        if len(found) == 3:
            break
    files = []
    for kind, sample in sorted(found.items()):
        name = f"{GALLERY}/{kind}.jpg"
        with saving(out / name), replacing(out / name) as stream:
            draw_sample(sample, source=sample.id).save(stream, "JPEG", quality=88)
        files.append(name)
    return files


def _as_prediction(sample: Sample, source: str) -> Prediction:
    return Prediction(
        id=sample.id,
        image=str(sample.provenance.get("file_name", "")),
        query=sample.query,
        size=sample.size,
        no_target=sample.no_target,
        instances=tuple(_as_instance(target, sample) for target in sample.targets),
        think=None,
        raw="",
        refusal=None,
        finish=FinishReason.STOP,
        tokens=0,
        timings={},
        model="truth",
        model_revision=None,
        segmenter=source or str(sample.provenance.get("dataset", "")),
        segmenter_revision=None,
        prompt_mode=PromptMode.BOX_2_NEG,
        dialect="",
        prompt_digest="",
    )


def _as_instance(target: Target, sample: Sample) -> PredictedInstance:
    size = sample.size
    prompt = MaskPrompt(
        grid_to_pixel(target.box, size),
        tuple(grid_to_pixel(point, size) for point in target.points),
        tuple(grid_to_pixel(point, size) for point in target.negatives),
    )
    mask = target.mask or merge((), size)
    return PredictedInstance(Instance(target.box, target.points, target.negatives), prompt, mask, None)
