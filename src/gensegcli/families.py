"""What must be known about a model to use it rightly: coordinate convention, pixel budget, dialect, segmenter.

`models.py` holds the table of names; this module the form of its rows, and the families that a checkpoint's own
config.json names.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gensegcli.records import Size

DEFAULT_SEGMENTER = "sam2-large"

BUNDLED = Path(__file__).parent / "miniature"
"""Package data: the two miniature models behind the alias `demo`."""


class Coordinates(StrEnum):
    """The units in which a family of models writes its boxes and points."""

    GRID = "grid"  # [0, 1000] on both axes
    RESIZED_PIXELS = "resized-pixels"  # pixels of the picture as the processor resized it


@dataclass(frozen=True, slots=True)
class Family:
    """What `model_type` in a checkpoint's config.json settles.

    `factor` is patch size × merge size: both sides of a resized picture are multiples of it, and one picture token
    covers a factor × factor square. The pixel budget bounds the area of the resized picture.
    """

    model_type: str
    coordinates: Coordinates
    dialect: str
    factor: int
    min_pixels: int
    max_pixels: int


def _family(model_type: str, coordinates: Coordinates, dialect: str, factor: int, min_pixels: int) -> Family:
    # 1280 picture tokens leave room for question and answer in the 2048 prompt tokens of the training setting.
    return Family(model_type, coordinates, dialect, factor, min_pixels, max_pixels=1280 * factor * factor)


# The lower bounds are those of the published preprocessor_config.json files.
FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        _family("qwen3_vl", Coordinates.GRID, "genseg", 32, min_pixels=65536),
        _family("qwen3_vl_moe", Coordinates.GRID, "genseg", 32, min_pixels=65536),
        _family("qwen2_5_vl", Coordinates.RESIZED_PIXELS, "genseg-pixels", 28, min_pixels=3136),
    )
}

SEGMENTER_TYPES: frozenset[str] = frozenset({"sam2", "sam2_video"})
"""`model_type` of segmenter checkpoints: the published SAM 2 folders call themselves `sam2_video`."""


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """A vision-language model and everything that must match it.

    Attributes:
        alias: the short name, or the name as given where the model is not in the table.
        source: hub id, or folder of a bundled or local model.
        dialect: name of the question and the reader.
        coordinates: units of its answers.
        family: `model_type` of its config.json.
        parameters: size for people, for example "4.4B".
        factor: see `Family`.
        min_pixels: least area of the resized picture.
        max_pixels: greatest area of the resized picture.
        squash: size to which every picture is stretched before anything else; None keeps the aspect ratio.
        segmenter: alias of the segmenter it is used with by default.
        max_tokens: more than any right answer of it has; None where nobody knows. A longer completion is cut there.
    """

    alias: str
    source: str
    dialect: str
    coordinates: Coordinates
    family: str
    parameters: str
    factor: int
    min_pixels: int
    max_pixels: int
    squash: Size | None = None
    segmenter: str = DEFAULT_SEGMENTER
    max_tokens: int | None = None

    @property
    def bundled(self) -> bool:
        return self.source == str(BUNDLED / "policy")


@dataclass(frozen=True, slots=True)
class SegmenterEntry:
    """A promptable segmenter: `backend` is the name in the segmenter registry, `source` None where it has no weights."""

    alias: str
    source: str | None
    backend: str
    parameters: str

    @property
    def bundled(self) -> bool:
        return self.source == str(BUNDLED / "segmenter")


def policy_entry(
    alias: str,
    source: str,
    family: str,
    *,
    dialect: str | None = None,
    parameters: str = "",
    squash: Size | None = None,
    segmenter: str = DEFAULT_SEGMENTER,
    max_tokens: int | None = None,
) -> PolicyEntry:
    """An entry with the conventions of its family, a key of `FAMILIES`."""
    known = FAMILIES[family]
    return PolicyEntry(
        alias=alias,
        source=source,
        dialect=dialect or known.dialect,
        coordinates=known.coordinates,
        family=family,
        parameters=parameters,
        factor=known.factor,
        min_pixels=known.min_pixels,
        max_pixels=known.max_pixels,
        squash=squash,
        segmenter=segmenter,
        max_tokens=max_tokens,
    )
