"""From a recipe and raw data to a prepared set: plan, build, make up for what failed, account for everything."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from typing import TYPE_CHECKING, Any

import orjson

from gensegcli import __version__
from gensegcli.atomic import own_folder, replacing, saving
from gensegcli.errors import ExitCode, GensegError
from gensegcli.files.text import read_json_object
from gensegcli.prep.card import write_readme
from gensegcli.prep.select import Draw, Skip, Work, by_picture, candidates, shortage
from gensegcli.prep.show import write_gallery
from gensegcli.prep.store import SHARD_SAMPLES, Account, Tally, file_digest, read_account, remove_drafts
from gensegcli.prep.workers import Shard, build_shards
from gensegcli.sources.prepared import CARD, SHARDS
from gensegcli.store import differences, locked, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from gensegcli.prep.build import Filter
    from gensegcli.prep.recipe import Recipe
    from gensegcli.sources.raw import RawSet

FORMAT = 4
"""Version of the shards' layout and of what is computed into them."""
SKIPPED, IDENTITY = "skipped.jsonl", ".identity.json"
_DECISIVE = ("numpy", "opencv-python-headless", "pillow", "pyarrow", "pycocotools", "scipy")
"""Packages that have a say in the bytes of a shard."""


@dataclass(frozen=True)
class Progress:
    """How far a preparation is."""

    done: int
    planned: int
    """Samples."""


@dataclass(frozen=True)
class Report:
    """What a preparation came to."""

    folder: Path
    tally: Tally
    skips: tuple[Skip, ...]
    filtered: int
    skipped_share: float
    built_now: int
    """Samples of shards that were not there before."""
    card: Mapping[str, Any]


def prepare(
    recipe: Recipe,
    raw: RawSet,
    out: Path,
    *,
    workers: int = 1,
    restart: bool = False,
    max_skipped: float = 0.01,
    wanted: Filter | None = None,
    wanted_name: str = "",
    tell: Callable[[Progress], None] = lambda _progress: None,
) -> Report:
    """Write a prepared set, or go on with one.

    Args:
        recipe: resolved.
        raw: the split it speaks of.
        out: folder of the set; made if it is not there.
        workers: processes; the result does not depend on it.
        restart: forget what is in the folder.
        max_skipped: the largest share of unusable samples that is no error.
        wanted: a filter on built samples.
        wanted_name: what the filter is, for the identity of the set.
        tell: called as the work proceeds.

    Raises:
        GensegError: the folder holds another set; fewer samples than the recipe counts on; the disk is full; too many
            samples were skipped (raised last, when everything usable is written).
    """
    works, skips = candidates(raw.refs, recipe)
    if not works:
        raise _nothing_left(skips, ())
    rounds = _Rounds(works, recipe)
    shard_folder = out / SHARDS
    new = not out.exists()
    with saving(out, hint="choose another folder with --out"):
        own_folder(out, SHARDS)
    with locked(out):
        _refuse_foreign(out)
        if restart:
            _clear(out)
        remove_drafts(shard_folder)
        identity = _identity(recipe, raw, wanted_name)
        _check_identity(out, identity)
        accounts: dict[str, Account] = {}
        built_now = 0
        for batch in rounds:
            shards = _cut(batch, shard_folder, recipe.split, len(accounts), _digest(identity))
            finished, missing = _sort(shards)
            accounts.update(finished)
            if missing:  # a set that was whole is not, until the card is written again
                (out / CARD).unlink(missing_ok=True)
            planned = rounds.planned
            tell(Progress(_samples(accounts), planned))
            for shard, account in build_shards(missing, recipe, workers=workers, wanted=wanted):
                accounts[shard.path.name] = account
                built_now += account.tally.samples
                tell(Progress(_samples(accounts), planned))
            rounds.learn(chain.from_iterable(account.skips + account.filtered for account in accounts.values()))
        ordered = dict(sorted(accounts.items()))
        unbuilt = list(chain.from_iterable(account.skips for account in ordered.values()))
        filtered = tuple(chain.from_iterable(account.filtered for account in ordered.values()))
        # Of the split for what is known from the annotations, of the samples tried for what building brought to light.
        share = max(_share(len(skips), len(skips) + len(works)), _share(len(unbuilt), rounds.planned))
        skips += unbuilt
        empty = not _samples(accounts)
        if empty:
            _clear(out)
        else:
            report = _finish(out, recipe, raw, identity, ordered, skips, filtered, share, built_now)
    if empty:
        if new:
            shutil.rmtree(out)
        raise _nothing_left(skips, filtered)
    if share > max_skipped:
        raise GensegError(
            f"{_samples_of(skips)} could not be used ({share:.1%}, more than {max_skipped:.1%}): {_reasons(skips)}",
            hint=f"{out / SKIPPED} lists them; what could be used is written. --max-skipped allows more; once the raw "
            "files are mended, --restart builds all of it anew",
            code=ExitCode.SOME_FAILED,
        )
    return report


def _nothing_left(skips: Sequence[Skip], filtered: Sequence[Skip]) -> GensegError:
    """The error for a set without samples, which is none: nothing of it is kept."""
    if not skips and not filtered:
        return GensegError("the raw data holds no references", code=ExitCode.NOT_FOUND)
    first = skips[0] if skips else filtered[0]
    return GensegError(
        f"not one sample could be made, of {_samples_of([*skips, *filtered])}: {_reasons([*skips, *filtered])}",
        hint=f"the first, {first.id}: {first.detail}",
        code=ExitCode.SOME_FAILED,
    )


def _samples_of(skips: Sequence[Skip]) -> str:
    return f"{len(skips):,} sample{'s' if len(skips) != 1 else ''}"


def _reasons(skips: Iterable[Skip]) -> str:
    return ", ".join(f"{reason} {number}" for reason, number in Counter(s.reason for s in skips).most_common())


def _share(part: int, whole: int) -> float:
    return part / whole if part else 0.0


def _samples(accounts: Mapping[str, Account]) -> int:
    return sum(account.tally.samples for account in accounts.values())


class _Rounds:
    """The samples to build: all at once, or a draw and then, as long as some fail, a substitute for each of them."""

    def __init__(self, works: Sequence[Work], recipe: Recipe) -> None:
        self.planned = 0
        self._order = {work.id: place for place, work in enumerate(works)}
        self._failures: Counter[str] = Counter()
        self._kinds: dict[str, str] = {}
        self._draw = Draw(works, recipe.select) if recipe.select.count else None
        self._first = list(works)
        if self._draw is not None:
            quota = self._draw.quota()
            self._first = self._draw.take(quota)
            problem = shortage(quota, self._first, works)
            if problem is not None:
                raise problem

    def learn(self, failures: Iterable[Skip]) -> None:
        """Hear which samples failed, of all rounds until now."""
        self._failures = Counter(self._kinds.get(skip.id, "") for skip in failures)

    def __iter__(self) -> Iterator[list[Work]]:
        batch = self._first
        made_up: Counter[str] = Counter()
        while batch:
            self.planned += len(batch)
            if self._draw is None:
                yield batch
                return
            self._kinds |= {work.id: self._draw.kind(work) for work in batch}
            yield sorted(batch, key=lambda work: self._order[work.id])
            need = self._failures - made_up
            batch = self._draw.take(need)
            made_up.update(need)


# ---------------------------------------------------------------- shards


def _cut(works: Sequence[Work], folder: Path, split: str, first: int, identity: str) -> list[Shard]:
    """Divide the samples into shards, pictures undivided. The cut depends on nothing but the samples."""
    shards: list[Shard] = []
    current: list[Work] = []
    groups = by_picture(works)
    for place, group in enumerate(groups):
        current += group
        if len(current) >= SHARD_SAMPLES or place == len(groups) - 1:
            names = "\n".join(work.id for work in current)
            plan = sha256(f"{identity}\n{names}".encode()).hexdigest()
            shards.append(Shard(folder / f"{split}-{first + len(shards):05d}.parquet", plan, current))
            current = []
    return shards


def _sort(shards: Sequence[Shard]) -> tuple[dict[str, Account], list[Shard]]:
    """Those that a run before this one finished, and those to build."""
    finished: dict[str, Account] = {}
    missing = []
    for shard in shards:
        account = read_account(shard.path)
        if account is not None and account.plan == shard.plan:
            finished[shard.path.name] = account
        else:
            missing.append(shard)
    return finished, missing


# ---------------------------------------------------------------- identity


def versions() -> dict[str, str]:
    """Versions of genseg and of the packages that have a say in the bytes."""
    found = {"genseg": __version__, "format": str(FORMAT)}
    for name in _DECISIVE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # another build of the same package, such as opencv-python
            found[name] = "unknown"
    return found


def _identity(recipe: Recipe, raw: RawSet, wanted: str) -> dict[str, Any]:
    return {
        "recipe": recipe.identity(),
        "filter": wanted,
        "sources": {**_sources(raw.files), **raw.revisions},
        "versions": versions(),
    }


def _sources(files: Sequence[Path]) -> dict[str, str]:
    """The digest of each of a few files, or one of many small ones."""
    if len({path.name for path in files}) == len(files) <= 8:
        return {path.name: file_digest(path) for path in files}
    whole = sha256()
    for path in files:
        whole.update(f"{path.name} {file_digest(path)}\n".encode())
    return {f"{len(files)} files in {files[0].parent.name}": whole.hexdigest()}


def _digest(identity: Mapping[str, Any]) -> str:
    return sha256(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _check_identity(out: Path, identity: Mapping[str, Any]) -> None:
    path = out / IDENTITY
    if not path.exists():
        write_json(path, identity)
        return
    found = read_json_object(path, hint="--restart makes the set anew")
    wanted = orjson.loads(orjson.dumps(identity))
    changed = sorted(differences(found, wanted))
    if changed:
        raise GensegError(
            f"{out}: holds a set that was made otherwise: {'; '.join(changed[:5])}",
            hint="choose another folder with --out, or make it anew with --restart",
        )


def _refuse_foreign(out: Path) -> None:
    """A folder of something else is not written over, and still less cleared."""
    if (out / IDENTITY).exists():
        return
    for path in (out / CARD, out / "README.md", *sorted((out / SHARDS).glob("*.parquet"))):
        if path.exists():
            raise GensegError(
                f"{out}: holds a {path.relative_to(out)} that is not of a preparation here",
                hint="choose another folder with --out",
            )


def _clear(out: Path) -> None:
    # The identity last: without it what is left by a kill would be taken for somebody else's.
    for path in (out / CARD, out / SKIPPED, out / "README.md", *(out / SHARDS).glob("*.parquet"), out / IDENTITY):
        path.unlink(missing_ok=True)


# ---------------------------------------------------------------- the end


def _finish(
    out: Path,
    recipe: Recipe,
    raw: RawSet,
    identity: Mapping[str, Any],
    accounts: Mapping[str, Account],
    skips: Sequence[Skip],
    filtered: Sequence[Skip],
    share: float,
    built_now: int,
) -> Report:
    """Write what is said about the set: skipped.jsonl, README.md, and dataset.json last, whose presence means done."""
    for path in (out / SHARDS).glob("*.parquet"):
        if path.name not in accounts:  # of an earlier run on raw files that held more
            path.unlink()
    tally = Tally.total(account.tally for account in accounts.values())
    shards = [
        {
            "file": f"{SHARDS}/{name}",
            "samples": account.tally.samples,
            "bytes": (out / SHARDS / name).stat().st_size,
            "sha256": file_digest(out / SHARDS / name),
        }
        for name, account in accounts.items()
    ]
    tally.bytes = sum((out / SHARDS / name).stat().st_size for name in accounts)
    card = {
        "name": recipe.name,
        "split": recipe.split,
        "purpose": recipe.purpose,
        "recipe_digest": recipe.digest,
        "recipe": recipe.model_dump(mode="json"),
        **{key: value for key, value in identity.items() if key != "recipe"},
        "counts": {**tally.counts(), "bytes": tally.bytes},
        "raw": {"split": raw.counts._asdict(), "splits": {name: c._asdict() for name, c in sorted(raw.splits.items())}},
        "notes": [*raw.notes, *_dropped(tally), *_turned(tally)],
        "skipped": dict(sorted(Counter(skip.reason for skip in skips).items())),
        "filtered": dict(sorted(Counter(skip.reason for skip in filtered).items())),
        "shards": shards,
    }
    _write_lines(out / SKIPPED, [*skips, *filtered])
    gallery = write_gallery(out, [out / SHARDS / name for name in accounts])
    write_readme(out, recipe, card, gallery)
    write_json(out / CARD, card)
    return Report(out, tally, tuple(skips), len(filtered), share, built_now, card)


def _dropped(tally: Tally) -> list[str]:
    number = tally.dropped_parts
    return [f"polygons without three corners, left out of masks that have others: {number:,}"] if number else []


def _turned(tally: Tally) -> list[str]:
    """What the card says about pictures with an EXIF turn."""
    words = {
        "stored": "annotations of the pixels as stored, turned with them",
        "upright": "annotations as viewers show it",
    }
    parts = [f"{words.get(frame, frame)} {number:,}" for frame, number in sorted(tally.turned.items())]
    return [f"pictures with an EXIF turn: {'; '.join(parts)}"] if parts else []


def _write_lines(path: Path, skips: Sequence[Skip]) -> None:
    if not skips:
        path.unlink(missing_ok=True)
        return
    with saving(path), replacing(path) as stream:
        stream.writelines(orjson.dumps(skip._asdict(), option=orjson.OPT_APPEND_NEWLINE) for skip in skips)
