"""Protocols: the conventions behind a published number, each one a named setting, bundled under a name.

One table, and nothing elsewhere asks for a protocol's name. docs/metrics.md shows it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from gensegcli.errors import unknown_name
from gensegcli.files.text import invalid
from gensegcli.metrics.overlap import IgnoreRule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gensegcli.config import EvalSettings


class Sentences(StrEnum):
    """Which sentences of a reference are samples."""

    FIRST = "first"  # one sample for each reference: its first sentence
    EVERY = "every"  # one sample for each sentence


class NoTarget(StrEnum):
    """How samples without a target enter the overlap metrics."""

    APART = "apart"  # not at all: they have metrics of their own
    BY_FLAG = "by-flag"  # IoU 1 if abstained, else 0; a hallucinated mask joins ΣU; P@τ leaves them out
    BY_PIXELS = "by-pixels"  # as any other sample with an empty true mask


class BoxScore(StrEnum):
    """The confidence by which AP ranks boxes."""

    CONSTANT = "constant"  # a language model gives none: all alike
    SEGMENTER = "segmenter"  # the segmenter's estimate of the mask's IoU, or the score that given predictions have


@dataclass(frozen=True, slots=True)
class Protocol:
    """Everything that decides what a score means. `dataclasses.replace` makes variants; all of it is recorded."""

    name: str
    about: str
    sentences: Sentences
    no_target: NoTarget
    headline: tuple[str, ...]
    """The metrics that a table shows first, in their order."""
    ignore: IgnoreRule = IgnoreRule.EXCLUDED
    zero_over_zero: float = 1.0
    """IoU where both masks are empty. A refusal has 0 there: what could not be read is never right."""
    smoothing: float = 0.0
    """Added to the denominators of IoU and cIoU."""
    mean_name: str = "mIoU"
    thresholds: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)
    """Of P@τ, which counts IoU ≥ τ."""
    tiny_area: int = 0
    """Second reading of abstention: a mask of fewer pixels counts as none. 0: not reported."""
    inclusive_boxes: bool = False
    """Both corners belong to a box, as in Seg-Zero's rewards; ours are half-open."""
    box_score: BoxScore = BoxScore.CONSTANT

    @property
    def changes(self) -> dict[str, Any]:
        """The conventions in which it differs from the protocol of its name."""
        named = PROTOCOLS[self.name].to_json() if self.name in PROTOCOLS else {}
        return {key: value for key, value in self.to_json().items() if value != named.get(key)}

    def to_json(self) -> dict[str, Any]:
        """Every convention as plain JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


_PAPER = ("cIoU", "mIoU", "P@0.5", "P@0.7", "P@0.9", "box mIoU", "AP", "AP50", "AP75", "N-acc", "FNR")

_ALL = (
    Protocol(
        name="genseg",
        about="the tables of GenSeg-R1: one sentence for each reference, samples without a target apart",
        sentences=Sentences.FIRST,
        no_target=NoTarget.APART,
        headline=_PAPER,
    ),
    Protocol(
        name="gres",
        about="gRefCOCO's official evaluator",
        sentences=Sentences.EVERY,
        no_target=NoTarget.BY_FLAG,
        headline=("gIoU", "cIoU", "P@0.7", "P@0.8", "P@0.9", "N-acc", "T-acc"),
        mean_name="gIoU",
    ),
    Protocol(
        name="lisa",
        about="LISA's evaluation of ReasonSeg",
        sentences=Sentences.EVERY,
        no_target=NoTarget.BY_PIXELS,
        headline=("gIoU", "cIoU"),
        smoothing=1e-5,
        mean_name="gIoU",
    ),
    Protocol(
        name="seg-zero",
        about="Seg-Zero's and VisionReasoner's evaluation on their hub copies, where ignored pixels are foreground",
        sentences=Sentences.FIRST,
        no_target=NoTarget.BY_PIXELS,
        headline=("gIoU", "cIoU"),
        ignore=IgnoreRule.FOREGROUND,
        zero_over_zero=0.0,
        mean_name="gIoU",
    ),
    Protocol(
        name="res",
        about="the RefCOCO family at the level of expressions (LENS, MLLMSeg)",
        sentences=Sentences.EVERY,
        no_target=NoTarget.BY_PIXELS,
        headline=("cIoU", "mIoU", "P@0.5", "P@0.6", "P@0.7", "P@0.8", "P@0.9"),
    ),
)

PROTOCOLS: Mapping[str, Protocol] = {protocol.name: protocol for protocol in _ALL}
DEFAULT = "genseg"


def chosen_protocol(settings: EvalSettings) -> Protocol:
    """The protocol that the settings mean: one with a name, and what they change in it.

    Raises:
        GensegError: as `get_protocol`.
    """
    changes = {
        "box_score": settings.box_score and BoxScore(settings.box_score),
        "tiny_area": settings.tiny_area,
        "inclusive_boxes": settings.inclusive_boxes,
    }
    return replace(
        get_protocol(settings.protocol), **{key: value for key, value in changes.items() if value is not None}
    )


def protocol_from_json(value: Mapping[str, Any]) -> Protocol:
    """The protocol that `Protocol.to_json` wrote.

    Raises:
        GensegError: a convention is missing, or has a value that this version does not know.
    """
    try:
        return TypeAdapter(Protocol).validate_python(value)
    except ValidationError as error:
        raise invalid(error, "protocol") from None


def get_protocol(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        GensegError: unknown name; the hint has the nearest one and all others.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
