"""From what the user names (a recipe, a folder, a Parquet file, a hub id) to prepared samples; prepares what is not yet."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gensegcli.config import digest
from gensegcli.errors import ExitCode, GensegError, unknown_name
from gensegcli.evaluate.data import EvalSet, open_set
from gensegcli.exports.names import picture_stem
from gensegcli.prep.inputs import Inputs, read_raw
from gensegcli.prep.recipe import About, Hub, Recipe, Select, names, of_card, resolve
from gensegcli.prep.store import file_digest
from gensegcli.sources.hub import PICTURES, hub_base, hub_files, parquet_files, prepared_on_hub
from gensegcli.sources.parquet import opened
from gensegcli.sources.prepared import CARD, COLUMNS, SHARDS, no_such_folder, read_card
from gensegcli.sources.splits import ALL, choose
from gensegcli.store import differences

if TYPE_CHECKING:
    from collections.abc import Callable

    from gensegcli.sources.raw import RawSet

    Prepare = Callable[[Recipe, RawSet, Path], object]

PREPARED = Path("data/prepared")
"""Where `genseg prep` writes unless told otherwise."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SPLIT_KINDS = {"refer", "reasonseg", "foreground"}


def find_set(
    what: str,
    *,
    prepare: Prepare,
    split: str | None = None,
    every_sentence: bool = False,
    root: Path = Path("data/raw"),
) -> EvalSet:
    """The prepared samples behind a name.

    Args:
        what: name of a recipe or path of one (TOML); prepared folder; Parquet file or folder of such, of ours or in a
            form that `genseg prep` reads; hub id.
        prepare: called with recipe, raw set and folder when there is no prepared folder yet.
        split: of the set; None takes the recipe's own, if that is one to evaluate on.
        every_sentence: every sentence of every reference is a sample, whatever the recipe selects.
        root: folder of raw data.

    Raises:
        GensegError: nothing of that name; raw data is missing (what was looked for, and how to get it); the folder
            holds another split.
    """
    path = Path(what)
    if os.path.isfile(path / CARD) or os.path.isdir(path / SHARDS):  # noqa: PTH112, PTH113 -- as below
        return _of_split(open_set(path), split, every_sentence=every_sentence)
    if what.endswith(".toml") or what in names():
        return _of_recipe(what, split, every_sentence=every_sentence, root=root, prepare=prepare)
    if os.path.exists(path):  # noqa: PTH110 -- also false for names that no file can have
        return _of_files(path, prepare, split, every_sentence=every_sentence)
    if _HUB_ID.fullmatch(what) and not path.parent.is_dir():
        return _of_hub(what, split, every_sentence=every_sentence, root=root, prepare=prepare)
    if path.suffix or len(path.parts) > 1:
        raise no_such_folder(path)
    raise unknown_name("data set", what, names(), hint="a folder, a Parquet file or a hub id is taken too")


def _of_split(data: EvalSet, split: str | None, *, every_sentence: bool) -> EvalSet:
    """A folder named outright holds what it holds: options that ask for something else are mistakes."""
    card = read_card(data.path)
    if split not in (None, card["split"]):
        raise GensegError(f"{data.path}: holds {card['name']} {card['split']}, not {split}", hint="leave --split away")
    if every_sentence and not data.every_sentence:
        raise GensegError(
            f"{data.path}: holds one sentence of each reference",
            hint=f"genseg eval {card['name']} --split {card['split']} --every-sentence prepares all of them",
        )
    return data


def _of_recipe(name: str, split: str | None, *, every_sentence: bool, root: Path, prepare: Prepare) -> EvalSet:
    changes = {"select.per": "sentence", "select.first": 0} if every_sentence else {}
    recipe = resolve(name, split=split, purpose="eval", changes=changes)
    if split is None and recipe.split == "train" and recipe.source.kind in _SPLIT_KINDS:
        known = sorted({row.split for row in recipe.published} | set(getattr(recipe.source, "folders", ())) - {"train"})
        raise GensegError(
            f"{name}: which split? Its own is train",
            hint=f"name it with --split; published: {', '.join(part for part in known if part != 'train') or 'none'}",
        )
    out = PREPARED / f"{recipe.name}-{recipe.split}{'-sentences' if every_sentence else ''}"
    if not (out / CARD).is_file():
        _prepare(recipe, Inputs(root), out, prepare)
    data = open_set(out)
    found = of_card(read_card(out), out / CARD)
    changed = [] if found.digest == recipe.digest else list(differences(found.identity(), recipe.identity()))
    return data.noted(f"{out} was prepared otherwise than the recipe says: {'; '.join(changed[:3])}" if changed else "")


def _prepare(recipe: Recipe, inputs: Inputs, out: Path, prepare: Prepare) -> None:
    try:
        raw = read_raw(recipe, inputs)
    except GensegError as error:
        if error.code != ExitCode.NOT_FOUND:
            raise
        command = prep_command(recipe)
        hint = f"{error.hint}; `{command}` has more options" if error.hint and command else error.hint or command
        message = f"{out}: not prepared yet, and {error.message}"
        raise GensegError(message, hint=hint, code=error.code) from error
    prepare(recipe, raw, out)


def prep_command(recipe: Recipe) -> str:
    """The command that prepares the set of a named recipe for evaluation; empty for any other recipe."""
    return f"genseg prep {recipe.name} --split {recipe.split} --for eval" if recipe.name in names() else ""


# ---------------------------------------------------------------- Parquet that no recipe knows


def _of_files(
    path: Path, prepare: Prepare, split: str | None, *, every_sentence: bool, name: str | None = None
) -> EvalSet:
    """Samples in Parquet files: as they are if they have our columns, else prepared from a form that is known."""
    files = [str(file) for file in parquet_files(path)]
    if not files:
        raise GensegError(
            f"{path}: no prepared set and no Parquet file",
            hint="`genseg prep` makes prepared sets from raw data, `genseg prep ls` lists those it knows",
            code=ExitCode.NOT_FOUND,
        )
    if _columns(files[0]) >= COLUMNS.keys():
        return _of_shards(open_set(path), split, every_sentence=every_sentence)
    base = path if path.is_dir() else path.parent
    chosen = choose(files, split, base=str(base), name=str(path)).files
    recipe = _recipe(name or path.stem, split or ALL, _form(chosen[0]), every_sentence=every_sentence)
    contents = digest([file_digest(Path(file)) for file in chosen])
    parts = (recipe.name, split or "", "sentences" if every_sentence else "", contents)
    out = PREPARED / "-".join(part for part in parts if part)
    if not (out / CARD).is_file():
        _prepare(recipe, Inputs(path, files=path), out, prepare)
    return open_set(out)


def _of_shards(data: EvalSet, split: str | None, *, every_sentence: bool) -> EvalSet:
    """Prepared samples without a card: each row says its split."""
    if every_sentence:
        raise GensegError(
            f"{data.path}: these samples are prepared, and sentences cannot be added",
            hint="leave --every-sentence away",
        )
    told = {shard: _told_splits(shard) for shard in data.shards}
    there = sorted(frozenset().union(*told.values()))
    if split is None and len(there) > 1:
        raise GensegError(
            f"{data.path}: holds several splits: {', '.join(there)}", hint="name one of them with --split"
        )
    if split is None or there == [split]:
        return data
    mixed = [shard for shard, splits in told.items() if split in splits and splits != {split}]
    if mixed:
        raise GensegError(f"{mixed[0]}: holds samples of {split} and of other splits")
    shards = tuple(shard for shard, splits in told.items() if splits == {split})
    if not shards:
        raise GensegError(
            f"{data.path}: holds {', '.join(there) or 'samples of no split'}, not {split}",
            hint="leave --split away" if len(there) < 2 else "name one of them with --split",
            code=ExitCode.NOT_FOUND,
        )
    contents = digest([file_digest(shard) for shard in shards])
    return replace(data, name=f"{data.name}-{split}", shards=shards, digest=contents)


def _told_splits(shard: Path) -> frozenset[str]:
    with opened(str(shard)) as parquet:
        rows = parquet.read(columns=["provenance.split"]).column("provenance").to_pylist()
    return frozenset(row["split"] for row in rows if row and isinstance(row["split"], str))


def _of_hub(name: str, split: str | None, *, every_sentence: bool, root: Path, prepare: Prepare) -> EvalSet:
    known = next((recipe for recipe in names() if _hub_id(recipe) == name), None)
    if known is not None:
        return _of_recipe(known, split, every_sentence=every_sentence, root=root, prepare=prepare)
    here = root / "hub" / name.replace("/", "__")
    if here.is_dir():
        return _of_files(here, prepare, split, every_sentence=every_sentence, name=name)
    ours = prepared_on_hub(name)
    if ours is not None:
        return _of_split(open_set(ours), split, every_sentence=every_sentence)
    files = hub_files(name, [here])
    first = choose(files, split, base=hub_base(files[0]), name=name).files[0]
    recipe = _recipe(name, split or ALL, _form(first), every_sentence=every_sentence)
    out = PREPARED / f"{recipe.name}-{recipe.split}{'-sentences' if every_sentence else ''}"
    if not (out / CARD).is_file():
        _prepare(recipe, Inputs(root), out, prepare)
    return open_set(out)


def _hub_id(recipe: str) -> str | None:
    return getattr(resolve(recipe).source, "id", None)


def _recipe(name: str, split: str, form: str, *, every_sentence: bool) -> Recipe:
    return Recipe(
        name=picture_stem(name.replace("/", "-") + ".parquet"),
        split=split,
        purpose="eval",
        source=Hub(kind="hub", id=name, form=form),
        select=Select(per="sentence" if every_sentence else "ref"),
        about=About(title=name, description=f"Parquet rows of {name}.", licence="see where it comes from"),
    )


def _columns(file: str) -> frozenset[str]:
    with opened(file) as parquet:
        return frozenset(parquet.schema_arrow.names)


def _form(file: str) -> str:
    """How the columns of somebody else's file are to be read: a key of `sources.hub.FORMS`.

    Raises:
        GensegError: no form has these columns.
    """
    found = _columns(file)
    pictures = found & set(PICTURES)
    if pictures and found >= {"text", "mask"}:
        return "mask-rows"
    if pictures and found >= {"answer", "segmentation"}:
        return "flat-polygon"
    if pictures and found >= {"problem", "solution"}:
        with opened(file) as parquet:
            first = next(parquet.iter_batches(batch_size=1, columns=["solution"]), None)
        text = str(first["solution"][0]) if first is not None and len(first) else ""
        tags = {"<box>": "solution-tags", "<bbox>": "solution-labels"}
        return next((form for tag, form in tags.items() if tag in text), "solution-json")
    raise GensegError(
        f"{file}: columns {', '.join(sorted(found)[:8])} are of no form that is known",
        hint="image, text, mask; or those of a prepared set (docs/data.md). `genseg prep coco` takes COCO annotations",
    )
