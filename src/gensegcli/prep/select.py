"""Which sentences of which references become samples, and a draw of exactly so many of them.

No random number generator is involved: what is drawn first is decided by a keyed hash of names, so the same recipe
gives the same draw on every machine, in every version of Python and in whatever order the raw file lists things.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from gensegcli.dialects.expressions import normalise_expression
from gensegcli.errors import ExitCode, GensegError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gensegcli.prep.recipe import Recipe, Select, Shares
    from gensegcli.sources.raw import RawRef

STRATA = ("no_target", "single", "multi")


class Work(NamedTuple):
    """One sample to be built: a reference and one of its sentences."""

    id: str
    ref: RawRef
    sentence: int

    @property
    def picture_key(self) -> str:
        assert self.ref.picture is not None, "references without a picture are skipped before they become work"
        return self.ref.picture.key

    @property
    def picture_name(self) -> str:
        assert self.ref.picture is not None, "references without a picture are skipped before they become work"
        return self.ref.picture.name


class Skip(NamedTuple):
    """A sample that cannot be built, and why."""

    id: str
    reason: str
    detail: str


def stratum(ref: RawRef) -> str:
    """By the number of objects: no_target, single or multi."""
    return STRATA[min(len(ref.targets), 2)]


def candidates(refs: Sequence[RawRef], recipe: Recipe) -> tuple[list[Work], list[Skip]]:
    """The samples that the selection means, in the set's order, and those of them that are known to be unusable.

    The first N references are counted before anything is left out: "the first 1,000" are the same on every machine.
    """
    select = recipe.select
    works: list[Work] = []
    skips: list[Skip] = []
    seen: set[str] = set()
    for ref in refs[: select.first or None]:
        for number in _sentences(ref, select):
            name = sample_id(recipe, ref, number)
            problem = _problem(ref, number)
            if problem is None and name in seen:
                problem = ("duplicate", "an earlier reference has the same ids")
            if problem is None:
                seen.add(name)
                works.append(Work(name, ref, number))
            else:
                skips.append(Skip(name, *problem))
    return works, skips


def _problem(ref: RawRef, number: int) -> tuple[str, str] | None:
    if ref.problem is not None:
        return ref.problem
    if ref.picture is None:
        return ("picture missing", "the annotations lead to no picture")
    if not ref.sentences:
        return ("empty expression", "the reference has no sentences")
    text = ref.sentences[number].text
    if not normalise_expression(text):
        return ("empty expression", f"nothing is left of {text!r}")
    return None


def _sentences(ref: RawRef, select: Select) -> Iterable[int]:
    if select.per == "sentence":
        return range(len(ref.sentences)) or (0,)
    if select.sentence == "random" and ref.sentences:
        return (_rank(select.seed, "sentence", ref.id) % len(ref.sentences),)
    return (0,)


def sample_id(recipe: Recipe, ref: RawRef, number: int) -> str:
    """`refcocog-umd-val-12-34`: recipe, whose splits, split, reference, sentence (its own number if it has one)."""
    own = ref.sentences[number].id if number < len(ref.sentences) else None
    by = getattr(recipe.source, "by", "")
    parts = (recipe.name, by, recipe.split, ref.id, str(number if own is None else own))
    return "-".join(part for part in parts if part)


class Draw:
    """A draw without replacement that can go on: first the quota, later a substitute for each sample that failed.

    Every sample is taken from the picture that has given the fewest so far (ties by hash), so that no picture
    dominates; within a picture the order is by hash.
    """

    def __init__(self, works: Sequence[Work], select: Select) -> None:
        self._select = select
        self._given: dict[str, int] = defaultdict(int)
        self._waiting: dict[str, dict[str, list[Work]]] = {name: defaultdict(list) for name in STRATA}
        for work in works:
            self._waiting[self.kind(work)][work.picture_name].append(work)
        for pictures in self._waiting.values():
            for waiting in pictures.values():
                waiting.sort(key=lambda work: (_rank(select.seed, "sample", work.id), work.id), reverse=True)

    def kind(self, work: Work) -> str:
        """The stratum from which a sample is drawn; without shares there is but one."""
        return stratum(work.ref) if self._select.shares else STRATA[0]

    def quota(self) -> dict[str, int]:
        """How many of each stratum the recipe asks for."""
        return (
            quotas(self._select.count, self._select.shares) if self._select.shares else {STRATA[0]: self._select.count}
        )

    def take(self, quota: Mapping[str, int]) -> list[Work]:
        """The next samples of each stratum; fewer where no more are left. Rare kinds choose their pictures first."""
        taken = []
        for kind in sorted(quota, key=lambda kind: (len(self._waiting[kind]), kind)):
            taken += self._take(kind, quota[kind])
        return taken

    def _take(self, kind: str, wanted: int) -> list[Work]:
        pictures = self._waiting[kind]
        seed, limit = self._select.seed, self._select.per_picture
        queue = [(self._given[key], _rank(seed, kind, key), key) for key, waiting in pictures.items() if waiting]
        heapq.heapify(queue)
        taken: list[Work] = []
        while queue and len(taken) < wanted:
            given, rank, key = heapq.heappop(queue)
            if limit and given >= limit:
                continue
            taken.append(pictures[key].pop())
            self._given[key] = given + 1
            if pictures[key]:
                heapq.heappush(queue, (given + 1, rank, key))
        return taken


def quotas(count: int, shares: Shares) -> dict[str, int]:
    """Whole numbers that add up to `count`, as near to the shares as that allows (largest remainders).

    Raises:
        GensegError: the shares do not add up to 1.
    """
    wanted = {kind: getattr(shares, kind) for kind in STRATA}
    if abs(sum(wanted.values()) - 1) > 1e-9:
        raise GensegError(f"select.shares add up to {sum(wanted.values()):g}, not to 1")
    exact = {kind: round(share * count, 6) for kind, share in wanted.items()}
    whole = {kind: int(value) for kind, value in exact.items()}
    by_remainder = sorted(STRATA, key=lambda kind: (whole[kind] - exact[kind], STRATA.index(kind)))
    for kind in by_remainder[: count - sum(whole.values())]:
        whole[kind] += 1
    return whole


def shortage(quota: Mapping[str, int], taken: Sequence[Work], works: Sequence[Work]) -> GensegError | None:
    """The error for a draw that the raw data cannot give, or None."""
    wanted = sum(quota.values())
    if len(taken) == wanted:
        return None
    found: dict[str, int] = dict.fromkeys(STRATA, 0)
    for work in works:
        found[stratum(work.ref)] += 1
    there = ", ".join(f"{number:,} {kind}" for kind, number in found.items())
    asked = ", ".join(f"{number:,} {kind}" for kind, number in quota.items()) if len(quota) > 1 else f"{wanted:,}"
    return GensegError(
        f"{asked} samples asked for, only {len(taken):,} can be drawn: the raw data holds {there}",
        hint="is the raw data complete? --set select.count=N asks for fewer, --set select.count=0 takes everything",
        code=ExitCode.NOT_FOUND,
    )


def by_picture(works: Sequence[Work]) -> list[list[Work]]:
    """The same samples, those of one picture together, pictures in the order in which they first occur."""
    groups: dict[str, list[Work]] = defaultdict(list)
    for work in works:
        groups[work.picture_key].append(work)
    return list(groups.values())


def _rank(seed: int, *names: str) -> int:
    return int.from_bytes(blake2b("\0".join((str(seed), *names)).encode(), digest_size=8).digest())
