"""What an evaluation set shares with the sets a model was trained on, and which of its samples are clean."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gensegcli.audit.hashes import RADIUS
from gensegcli.audit.nearest import find_nearest
from gensegcli.audit.pictures import Look

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from gensegcli.audit.sets import Picture, PictureSet


class Method(StrEnum):
    """How two pictures are recognised as the same."""

    ID = "id"  # COCO's number
    DIGEST = "digest"  # the same bytes
    HASH = "hash"  # perceptual hashes within the radius


class Match(NamedTuple):
    """A picture of the evaluation set that was trained on."""

    picture: str
    trained: str
    """The picture of a training set that it was found to be: by id, else by digest, else the nearest hash."""
    trained_set: str
    by: tuple[Method, ...]
    """Every way in which it was recognised."""
    distance: int | None
    """Bits to the nearest hash of the training sets, if one is within the radius."""


class Verbatim(NamedTuple):
    """How many expressions of the evaluation set stand in the training sets, letter by letter once normalised."""

    expressions: int
    anywhere: int
    same_picture: int


class SharedSplits(NamedTuple):
    """Pictures that two splits of one set have in common."""

    dataset: str
    splits: tuple[str, str]
    image_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Overlap:
    """What was found.

    Attributes:
        methods: what was compared.
        radius: bits by which hashes may differ.
        trained_pictures: distinct pictures of all training sets together.
        found_trained: those of them that are in the evaluation set.
        pictures: distinct pictures of the evaluation set.
        shared: those of them that are in a training set.
        shared_by: the same by method; a picture may count for several.
        matches: one for each picture of the evaluation set that is shared.
        asked: the expressions asked, one a sample.
        sentences: all expressions of the references.
        clean: ids of the samples whose picture was not trained on, in the set's order.
        overlap: ids of those whose picture was.
        unknown: ids of those whose picture could not be compared: nothing that it is recognised by is known of it.
        clean_refs: references of the clean samples.
        overlap_refs: references of the overlapping ones.
        plain: pictures of all sets that are too plain to have a hash.
        uncompared: training pictures that nothing compares with every picture of the evaluation set, and training
            samples that could not be read at all. Unless there are none, "clean" is only "not found".
    """

    methods: tuple[Method, ...]
    radius: int
    trained_pictures: int
    found_trained: int
    pictures: int
    shared: int
    shared_by: dict[Method, int]
    matches: tuple[Match, ...]
    asked: Verbatim
    sentences: Verbatim
    clean: tuple[str, ...]
    overlap: tuple[str, ...]
    unknown: tuple[str, ...]
    clean_refs: int
    overlap_refs: int
    plain: int
    uncompared: int = 0

    @property
    def verified(self) -> bool:
        """Whether all that was trained on was compared."""
        return not self.uncompared


class _Side:
    """The pictures of one side with all that they are recognised by."""

    def __init__(self, sets: Sequence[PictureSet], looks: Sequence[Sequence[Look]], methods: Sequence[Method]) -> None:
        self.pictures: list[Picture] = [picture for found in sets for picture in found.pictures]
        self.owners = [found.name for found in sets for _ in found.pictures]
        seen = list(chain.from_iterable(looks)) or [Look()] * len(self.pictures)
        nothing = [None] * len(self.pictures)
        self.ids = [picture.image_id for picture in self.pictures] if Method.ID in methods else nothing
        self.digests = [look.digest for look in seen] if Method.DIGEST in methods else nothing
        self.hashes = [look.hash for look in seen] if Method.HASH in methods else nothing
        self.hashed = [place for place, value in enumerate(self.hashes) if value is not None]
        by_content = set(methods) - {Method.ID}
        self.decoded = [bool(by_content) and look.digest is not None and not look.problem for look in seen]
        self.plain = sum(look.digest is not None and look.hash is None and not look.problem for look in seen)

    def is_known(self, place: int) -> bool:
        """Whether there is anything to recognise the picture by."""
        return any(keys[place] is not None for keys in (self.ids, self.digests, self.hashes))

    def keys(self, place: int) -> frozenset[str]:
        """By what the picture is recognised wherever it is: its number, its content if it could be decoded."""
        keys = {"number": self.ids[place] is not None, "content": self.decoded[place]}
        return frozenset(key for key, there in keys.items() if there)

    def hash_array(self) -> np.ndarray:
        return np.array([self.hashes[place] for place in self.hashed], np.uint64)

    def distinct(self, places: Iterable[int]) -> int:
        """How many different pictures these are: by number, else by content, else each its own."""
        names: set[Hashable] = set()
        for place in places:
            number, digest = self.pictures[place].image_id, self.digests[place]
            names.add(number if number is not None else digest if digest is not None else ("place", place))
        return len(names)


def compare(
    training: Sequence[PictureSet],
    evaluation: PictureSet,
    *,
    methods: Sequence[Method] = (Method.ID,),
    looks: Sequence[Sequence[Look]] = (),
    radius: int = RADIUS,
) -> Overlap:
    """Hold an evaluation set against training sets.

    Args:
        training: one or more sets.
        evaluation: the set whose samples are divided.
        methods: what pictures are recognised by.
        looks: for the methods that need them: those of each training set's pictures, then of the evaluation set's.
        radius: bits by which the hashes of one picture may differ.
    """
    trained, asked = _Side(training, looks[:-1], methods), _Side([evaluation], looks[-1:], methods)
    found = _recognise(trained, asked, radius)
    taught = _taught(training)
    of_refs: dict[str, set[tuple[int, str]]] = defaultdict(set)
    for entry in evaluation.entries:
        of_refs[entry.ref].update((entry.picture, text) for text in entry.sentences)

    def verbatim(expressions: Iterable[tuple[int, str]]) -> Verbatim:
        counts = Counter()
        for place, text in expressions:
            known = taught.get(text, ())
            counts["all"] += 1
            counts["anywhere"] += bool(known)
            counts["here"] += place in found.partners and any(_same(asked, place, trained, k, radius) for k in known)
        return Verbatim(counts["all"], counts["anywhere"], counts["here"])

    overlap = [entry for entry in evaluation.entries if entry.picture in found.partners]
    others = [entry for entry in evaluation.entries if entry.picture not in found.partners]
    clean = [entry for entry in others if asked.is_known(entry.picture)]
    by_method = {method: [place for place, by in found.partners.items() if method in by] for method in methods}
    return Overlap(
        methods=tuple(methods),
        radius=radius,
        trained_pictures=trained.distinct(range(len(trained.pictures))),
        found_trained=trained.distinct(found.trained),
        pictures=asked.distinct(range(len(asked.pictures))),
        shared=asked.distinct(found.partners),
        shared_by={method: asked.distinct(places) for method, places in by_method.items()},
        matches=tuple(_match(place, found, trained, asked) for place in sorted(found.partners)),
        asked=verbatim((entry.picture, entry.query) for entry in evaluation.entries if entry.query),
        sentences=verbatim(chain.from_iterable(of_refs.values())),
        clean=tuple(entry.id for entry in clean),
        overlap=tuple(entry.id for entry in overlap),
        unknown=tuple(entry.id for entry in others if not asked.is_known(entry.picture)),
        clean_refs=len({entry.ref for entry in clean}),
        overlap_refs=len({entry.ref for entry in overlap}),
        plain=trained.plain + asked.plain,
        uncompared=_uncompared(trained, asked) + sum(found.lost for found in training),
    )


def _uncompared(trained: _Side, asked: _Side) -> int:
    """Training pictures that have nothing in common with some picture that counts as clean or not by what it has."""
    wanted = {keys for place in range(len(asked.pictures)) if (keys := asked.keys(place))}
    held = Counter(trained.keys(place) for place in range(len(trained.pictures)))
    return sum(number for keys, number in held.items() if not all(keys & other for other in wanted) or not keys)


class _Found(NamedTuple):
    """What was recognised, by place in the pictures of either side."""

    partners: dict[int, dict[Method, int]]
    """For each shared picture of the evaluation set: by which methods, and one training picture each."""
    distances: dict[int, int]
    """Bits to the nearest hash."""
    trained: set[int]
    """Every training picture that was recognised."""


def _recognise(trained: _Side, asked: _Side, radius: int) -> _Found:
    found = _Found(defaultdict(dict), {}, set())
    for method, theirs, ours in (
        (Method.ID, trained.ids, asked.ids),
        (Method.DIGEST, trained.digests, asked.digests),
    ):
        places: dict[Hashable, list[int]] = defaultdict(list)
        for place, key in enumerate(theirs):
            if key is not None:
                places[key].append(place)
        for place, key in enumerate(ours):
            if key in places:
                found.partners[place][method] = places[key][0]
                found.trained.update(places[key])
    nearest = find_nearest(asked.hash_array(), trained.hash_array(), radius)
    for place, near, distance in zip(asked.hashed, nearest.place.tolist(), nearest.distance.tolist(), strict=True):
        if near >= 0:
            found.partners[place][Method.HASH] = trained.hashed[near]
            found.distances[place] = distance
    found.trained.update(place for place, near in zip(trained.hashed, nearest.found.tolist(), strict=True) if near)
    return found


def _same(asked: _Side, place: int, trained: _Side, other: int, radius: int) -> bool:
    """Whether two pictures are the same by any of the methods."""
    if asked.ids[place] is not None and asked.ids[place] == trained.ids[other]:
        return True
    if asked.digests[place] is not None and asked.digests[place] == trained.digests[other]:
        return True
    ours, theirs = asked.hashes[place], trained.hashes[other]
    return ours is not None and theirs is not None and (ours ^ theirs).bit_count() <= radius


def _taught(training: Sequence[PictureSet]) -> dict[str, list[int]]:
    """The training pictures on which an expression was learned, as places in all sets' pictures."""
    taught: dict[str, list[int]] = defaultdict(list)
    before = 0
    for found in training:
        for entry in found.entries:
            for text in entry.sentences:
                taught[text].append(before + entry.picture)
        before += len(found.pictures)
    return taught


def _match(place: int, found: _Found, trained: _Side, asked: _Side) -> Match:
    by = found.partners[place]
    partner = next(iter(by.values()))  # methods are tried from the surest on
    return Match(
        asked.pictures[place].name,
        trained.pictures[partner].name,
        trained.owners[partner],
        tuple(by),
        found.distances.get(place),
    )


def shared_splits(sets: Iterable[PictureSet]) -> tuple[SharedSplits, ...]:
    """Pictures that splits of one set share, for every set whose raw file holds several; each pair of splits once."""
    shared = {}
    for found in sets:
        dataset = found.name.partition(":")[0]
        for one, other in combinations(found.splits, 2):
            both = found.splits[one] & found.splits[other]
            if both:
                shared[dataset, one, other] = SharedSplits(dataset, (one, other), tuple(sorted(both)))
    return tuple(shared.values())
