"""The nouns of the system: frozen values that flow from raw data to a report.

Coordinates carry their frame in the type. *Grid* is [0, 1000] on both axes whatever the aspect ratio; *pixel* is the
original picture. Boxes are half-open: x1 <= x < x2. Nothing here needs torch, and nothing here computes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from gensegcli.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from PIL.Image import Image

GRID = 1000
"""Length of both axes of the grid on which models answer and data sets are stored."""


class GridPoint(NamedTuple):
    """A point on the grid."""

    x: float
    y: float


class GridBox(NamedTuple):
    """A half-open box on the grid, x1 < x2 and y1 < y2."""

    x1: float
    y1: float
    x2: float
    y2: float


class PixelPoint(NamedTuple):
    """A point in pixels of the original picture."""

    x: float
    y: float


class PixelBox(NamedTuple):
    """A half-open box in pixels of the original picture."""

    x1: float
    y1: float
    x2: float
    y2: float


class Size(NamedTuple):
    """Width and height of a picture in pixels."""

    width: int
    height: int


class Rle(NamedTuple):
    """A mask in COCO's compressed run-length form: column-major runs, LEB128-like `counts` in ASCII."""

    size: Size
    counts: str


# ---------------------------------------------------------------- answers


@dataclass(frozen=True, slots=True)
class Instance:
    """One object of an answer: a box, up to two interior points, and optionally background points inside the box."""

    box: GridBox
    points: tuple[GridPoint, ...] = ()
    negatives: tuple[GridPoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a completion says: the matching objects, or (no instances) that nothing matches."""

    instances: tuple[Instance, ...] = ()
    think: str | None = None
    dropped: Mapping[str, int] = field(default_factory=dict, hash=False)
    """How many `instances`, `points` and `negatives` of the text a tolerant reader could not use."""
    clipped: int = 0
    """How many boxes and points it moved to the edge of the picture."""

    @property
    def no_target(self) -> bool:
        return not self.instances


class RefusalKind(StrEnum):
    """Why a completion could not be read."""

    EMPTY = "empty"  # no text at all
    NO_ANSWER = "no-answer"  # text, but nothing in it looks like an answer
    BAD_FORM = "bad-form"  # strict reading only: the whole is not exactly think + answer
    BAD_JSON = "bad-json"  # an answer part that is not JSON
    WRONG_KEYS = "wrong-keys"  # JSON, but not of the dialect's shape
    OUT_OF_RANGE = "out-of-range"  # NaN, infinite, outside the picture, or x1 >= x2
    FRACTIONS = "fractions"  # boxes from 0 to 1 where units of the grid or pixels are expected
    EMPTY_LIST = "empty-list"  # `[]`: neither an object nor the agreed abstention
    TRUNCATED = "truncated"  # cut off by the token limit before one whole instance


@dataclass(frozen=True, slots=True)
class Refusal:
    """A completion that could not be read: a value, never an exception and never silently "nothing there"."""

    kind: RefusalKind
    detail: str = ""
    think: str | None = None


class FinishReason(StrEnum):
    """Why generation ended."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Question:
    """One turn for the policy: an RGB picture and the dialect's prompt text with the expression filled in.

    The last three name the question for policies that look answers up (`policy/scripted.py`); engines ignore them.
    """

    image: Image
    text: str
    id: str = ""
    source: str = ""
    query: str = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn. Temperature 0 is greedy and then `n` must be 1."""

    temperature: float = 0.0
    top_p: float = 1.0
    n: int = 1
    max_tokens: int = 1500
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """One generated text, special tokens removed.

    `prompt_tokens` counts text and picture tokens; it is 0 where a server does not say.
    """

    text: str
    finish: FinishReason = FinishReason.STOP
    tokens: int = 0
    prompt_tokens: int = 0


# ---------------------------------------------------------------- masks


class PromptMode(StrEnum):
    """Which parts of an instance prompt the segmenter."""

    BOX = "box"
    BOX_1 = "box+1"
    BOX_2 = "box+2"
    BOX_2_NEG = "box+2+neg"


@dataclass(frozen=True, slots=True)
class MaskPrompt:
    """Box and points of one object in pixels, already reduced to what the prompt mode uses."""

    box: PixelBox
    points: tuple[PixelPoint, ...] = ()
    negatives: tuple[PixelPoint, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class SegmentedMask:
    """A bool mask (h w) at the original resolution and the segmenter's own estimate of its IoU, None if it has none."""

    mask: np.ndarray
    score: float | None = None


# ---------------------------------------------------------------- samples and predictions


@dataclass(frozen=True, slots=True)
class Target:
    """One true object. The mask is at the resolution of the stored picture.

    It is None where a data set gives boxes and points only (VisionReasoner-7K and its kind).
    """

    box: GridBox
    points: tuple[GridPoint, ...]
    mask: Rle | None
    negatives: tuple[GridPoint, ...] = ()
    ann_id: int | None = None
    category_id: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One (picture, expression) pair with its truth. No targets means that nothing in the picture matches."""

    id: str
    query: str
    image: bytes
    """The encoded picture (JPEG or PNG)."""
    size: Size
    targets: tuple[Target, ...]
    sentences: tuple[str, ...] = ()
    provenance: Mapping[str, str | int] = field(default_factory=dict)
    original_size: Size | None = None
    """Of the picture before it was resized for storage; None if it was not."""
    ignore: Rle | None = None
    """Pixels that count neither as object nor as background (ReasonSeg)."""
    think: str | None = None
    """A demonstrated think text, where the data set has one (FCoT)."""

    @property
    def no_target(self) -> bool:
        return not self.targets


@dataclass(frozen=True, slots=True)
class PredictedInstance:
    """One object found: what the policy said on the grid, the same in pixels, and the segmenter's mask."""

    instance: Instance
    prompt: MaskPrompt
    mask: Rle
    score: float | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """Everything known about one answered query. Serialised by `predictions.to_json`, read by `from_json`."""

    id: str
    image: str
    query: str
    size: Size
    no_target: bool
    instances: tuple[PredictedInstance, ...]
    think: str | None
    raw: str
    refusal: Refusal | None
    finish: FinishReason
    tokens: int
    timings: Mapping[str, float]
    model: str
    model_revision: str | None
    segmenter: str
    segmenter_revision: str | None
    prompt_mode: PromptMode
    dialect: str
    prompt_digest: str
    dropped: Mapping[str, int] = field(default_factory=dict)
    """See `Answer`: parts of the answer that could not be used."""
    clipped: int = 0
    """See `Answer`."""

    @property
    def dropped_total(self) -> int:
        """How many parts of the answer could not be used."""
        return sum(self.dropped.values())


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that could not be answered (picture missing, damaged, …); one line, kept in `failed.jsonl`."""

    id: str
    image: str
    query: str
    error: str
    hint: str = ""
    code: ExitCode = ExitCode.SOME_FAILED
    """The exit code of a run that asked nothing else."""
