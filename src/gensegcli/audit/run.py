"""An audit from names to numbers: read the sets, look at pictures where that is needed, compare, write the lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import orjson

from gensegcli.atomic import replacing, saving
from gensegcli.audit.hashes import RADIUS
from gensegcli.audit.overlap import Method, Overlap, SharedSplits, compare, shared_splits
from gensegcli.audit.pictures import look_at
from gensegcli.audit.sets import PictureSet, Places, read_set
from gensegcli.errors import ExitCode, GensegError, unknown_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from gensegcli.audit.pictures import Look

CLEAN, UNVERIFIED, OVERLAP, PAIRS = "clean.ids", "unverified.ids", "overlap.ids", "pairs.jsonl"


class Unreadable(NamedTuple):
    """A picture that could not be compared by content."""

    dataset: str
    problem: str


@dataclass(frozen=True, slots=True)
class Finding:
    """All that an audit brings to light."""

    overlap: Overlap
    splits: tuple[SharedSplits, ...]
    unreadable: tuple[Unreadable, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """Sets that were read, and how their pictures will be compared."""

    training: tuple[PictureSet, ...]
    evaluation: PictureSet
    methods: tuple[Method, ...]
    notes: tuple[str, ...]

    @property
    def pictures(self) -> int:
        """How many pictures will be read."""
        return sum(len(found.pictures) for found in self._sets) if set(self.methods) - {Method.ID} else 0

    @property
    def _sets(self) -> tuple[PictureSet, ...]:
        return *self.training, self.evaluation

    def run(
        self,
        *,
        radius: int = RADIUS,
        workers: int | None = None,
        tell: Callable[[Look], None] = lambda _look: None,
    ) -> Finding:
        """Compare.

        Args:
            radius: bits by which the hashes of one picture may differ.
            workers: threads that decode; None: one a core.
            tell: called with each picture that was read.
        """
        looks: list[list[Look]] = []
        unreadable = []
        for found in self._sets if self.pictures else ():
            looks.append([])
            for look in look_at(found.pictures, hashes=Method.HASH in self.methods, workers=workers):
                looks[-1].append(look)
                tell(look)
                if look.problem:
                    unreadable.append(Unreadable(found.name, look.problem))
        overlap = compare(self.training, self.evaluation, methods=self.methods, looks=looks, radius=radius)
        return Finding(overlap, shared_splits(self._sets), tuple(unreadable))


def open_audit(training: Sequence[str], evaluation: str, places: Places, methods: Sequence[str] | None = None) -> Audit:
    """Read the sets and settle how to compare their pictures.

    Args:
        training: names of the sets that a model was trained on; see `sets`.
        evaluation: name of the set it is scored on.
        places: where raw data, pictures and annotations are.
        methods: id, digest, hash. None: by COCO's number, and by content as well if a folder of pictures is named, or
            if a picture has no number.

    Raises:
        GensegError: no such set, an empty one, one that is on both sides; an unknown method; pictures that are to be
            compared by content and are not at hand; no way to compare at all.
    """
    if evaluation in training:
        raise GensegError(
            f"{evaluation}: is trained on and evaluated", hint="the last set is evaluated, those before are trained on"
        )
    trained = tuple(read_set(name, places) for name in training)
    asked = read_set(evaluation, places, evaluated=True)
    sets = (*trained, asked)
    for other in trained:
        if other.name == asked.name:
            raise GensegError(f"{evaluation} and {asked.name} are the same set", hint="name a split: grefcoco:val")
    notes = [note for found in sets for note in found.notes]
    if methods is not None:
        return Audit(trained, asked, _known(methods, sets), tuple(notes))
    chosen, more = _fitting(sets, by_content=places.images is not None)
    return Audit(trained, asked, chosen, (*notes, *more))


def _known(names: Sequence[str], sets: Iterable[PictureSet]) -> tuple[Method, ...]:
    """The methods of these names, in the order of their certainty."""
    for name in names:
        if name not in set(Method):
            raise unknown_name("way to compare pictures", name, set(Method))
    methods = tuple(method for method in Method if method in names)
    for found in sets:
        if set(methods) - {Method.ID} and not any(picture.source for picture in found.pictures):
            raise _not_at_hand(found, f"needed for {', '.join(m for m in methods if m != Method.ID)}")
        if methods == (Method.ID,) and not any(picture.image_id is not None for picture in found.pictures):
            raise GensegError(
                f"{found.name}: its pictures have no COCO number", hint="compare them by content: --by digest,hash"
            )
    return methods


def _fitting(sets: Sequence[PictureSet], *, by_content: bool) -> tuple[tuple[Method, ...], list[str]]:
    """By number where there are numbers, and by content where that is wanted or numbers are missing."""
    nameless = {found.name: sum(p.image_id is None for p in found.pictures) for found in sets}
    if not by_content and not any(nameless.values()):
        return (Method.ID,), []
    out_of_sight = [found for found in sets if not any(picture.source for picture in found.pictures)]
    if not out_of_sight:
        return tuple(Method), []
    for found in sets:
        if by_content or nameless[found.name] == len(found.pictures):
            raise _not_at_hand(out_of_sight[0], f"needed, since {found.name} can only be compared by content")
    told = ", ".join(f"{number:,} of {name}" for name, number in nameless.items() if number)
    missing = out_of_sight[0].name
    note = (
        f"not compared, having no COCO number: {told}; by content if --images-root leads to the pictures of {missing}"
    )
    return (Method.ID,), [note]


def _not_at_hand(found: PictureSet, why: str) -> GensegError:
    return GensegError(
        f"{found.name}: its pictures are not at hand, and {why}",
        hint="name their folder with --images-root DIR, or the folder above everything with --root DIR",
        code=ExitCode.NOT_FOUND,
    )


def write_lists(folder: Path, overlap: Overlap) -> None:
    """Write `clean.ids` and `overlap.ids`, one sample id a line, and `pairs.jsonl`, one shared picture a line.

    Where training pictures could not be compared there is no `clean.ids`, of an earlier audit neither: the same ids are
    in `unverified.ids`.

    Raises:
        GensegError: the disk is full, or the folder cannot be written.
    """
    clean, other = (CLEAN, UNVERIFIED) if overlap.verified else (UNVERIFIED, CLEAN)
    with saving(folder / other, hint="choose another folder with --write-ids"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / other).unlink(missing_ok=True)
    texts = {
        clean: "".join(f"{name}\n" for name in overlap.clean).encode(),
        OVERLAP: "".join(f"{name}\n" for name in overlap.overlap).encode(),
        PAIRS: b"".join(orjson.dumps(pair._asdict(), option=orjson.OPT_APPEND_NEWLINE) for pair in overlap.matches),
    }
    for name, content in texts.items():
        with saving(folder / name, hint="choose another folder with --write-ids"), replacing(folder / name) as stream:
            stream.write(content)
