"""What a source yields: references to pictures and objects as the raw files have them, nothing decoded yet.

A source reads annotation files only. Pictures and masks are named by small picklable values that know how to read
themselves, so that a worker process can do the reading.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from gensegcli.errors import GensegError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from gensegcli.records import GridBox, GridPoint, Size


class PictureSource(Protocol):
    """Where the encoded bytes of a picture are."""

    @property
    def key(self) -> str:
        """Equal for equal pictures of one set; references with one key are built from one decoding."""
        ...

    @property
    def name(self) -> str:
        """The key without what differs between machines: draws are decided by it."""
        ...

    def read(self) -> bytes:
        """The encoded picture.

        Raises:
            OSError: it is not there, or cannot be read.
        """
        ...


class MaskSource(Protocol):
    """Where the mask of an object is."""

    def read(self, size: Size) -> np.ndarray:
        """The mask, bool (h w), in the frame that the annotation is in, where the picture has `size`.

        Raises:
            GensegError: the annotation is damaged or belongs to a picture of another size.
            OSError: its file is not there, or cannot be read.
        """
        ...


AnnotationFrame = Literal["stored", "upright"]
"""What annotations of a picture with an EXIF turn refer to: its pixels as they are stored, as COCO's own tools read
them, or the picture as viewers show it."""


class UnreachableError(GensegError):
    """Data that is there and cannot be had now: a reason to stop and go on later, not to do without a sample."""


class SizeMismatchError(GensegError):
    """An annotation that was made for a picture of another size."""


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture in a file."""

    path: Path

    @property
    def key(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        return self.path.name

    def read(self) -> bytes:
        return self.path.read_bytes()


@dataclass(frozen=True, slots=True)
class RawTarget:
    """One object of a reference.

    Either with a mask, from which box and points are taken, or (hub copies without masks) with the box and points that
    the data set gives.
    """

    mask: MaskSource | None
    box: GridBox | None = None
    points: tuple[GridPoint, ...] = ()
    negatives: tuple[GridPoint, ...] = ()
    ann_id: int | None = None
    category_id: int | None = None


class Sentence(NamedTuple):
    """One expression as the data set spells it, and its number if it has one."""

    text: str
    id: int | None = None


@dataclass(frozen=True, slots=True)
class RawRef:
    """One reference: a picture, the objects meant (none: nothing matches), and one or more sentences that mean them."""

    id: str
    """Unique in its split unless the raw file repeats itself."""
    picture: PictureSource | None
    """None if the annotation files do not lead to a picture that is there; `problem` says why."""
    sentences: tuple[Sentence, ...]
    targets: tuple[RawTarget, ...]
    ignore: MaskSource | None = None
    """Pixels that count neither as object nor as background."""
    annotated_size: Size | None = None
    """Size of the picture by the annotation file, where it says."""
    frame: AnnotationFrame = "stored"
    """Where masks, boxes and points lie if the picture has an EXIF turn and no size decides; see `AnnotationFrame`."""
    original_size: Size | None = None
    """Size of the picture before whoever distributes the set resized it, where that is known."""
    provenance: Mapping[str, str | int] = field(default_factory=dict)
    problem: Problem | None = None
    """Why this reference cannot be used, if that is known already."""


class Problem(NamedTuple):
    """A reason, the same words for all cases of its kind, and what exactly was found."""

    reason: str
    detail: str


class Counts(NamedTuple):
    """How large a split is, in the three units that papers use."""

    refs: int
    pictures: int
    sentences: int

    @classmethod
    def of(cls, refs: Sequence[RawRef], pictures: int) -> Counts:
        """Counts of a split with that many distinct pictures."""
        return cls(len(refs), pictures, sum(len(ref.sentences) for ref in refs))


@dataclass(frozen=True, slots=True)
class RawSet:
    """One split of a data set, in the set's own order (by reference id where there is one)."""

    refs: Sequence[RawRef]
    counts: Counts
    files: tuple[Path, ...]
    """Annotation files that were read; their digests go into the prepared set's identity."""
    splits: Mapping[str, Counts] = field(default_factory=dict)
    """The sizes of all splits the files hold."""
    notes: tuple[str, ...] = ()
    """Things about the raw data that a reader of the card should know."""
    revisions: Mapping[str, str] = field(default_factory=dict)
    """The same for what is not on this machine: name on the hub, commit."""
