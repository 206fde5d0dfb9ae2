"""From what the user names (a recipe, a folder, a Parquet file, a hub id) to prepared samples; prepares what is not yet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from gensegcli.config import digest
from gensegcli.errors import ExitCode, GensegError, unknown_name
from gensegcli.evaluate.data import EvalSet, open_set
from gensegcli.exports.names import picture_stem
from gensegcli.prep.inputs import Inputs, read_raw
from gensegcli.prep.recipe import About, Hub, Recipe, names, resolve
from gensegcli.prep.store import file_digest
from gensegcli.sources.hub import hub_files, prepared_on_hub
from gensegcli.sources.parquet import opened
from gensegcli.sources.prepared import CARD, COLUMNS, SHARDS, read_card
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
    if (path / CARD).is_file() or (path / SHARDS).is_dir():
        return _of_split(open_set(path), split, every_sentence=every_sentence)
    if what.endswith(".toml") or what in names():
        return _of_recipe(what, split, every_sentence=every_sentence, root=root, prepare=prepare)
    if path.is_file() or path.is_dir():
        return _of_files(path, prepare)
    if _HUB_ID.fullmatch(what) and not path.parent.is_dir():
        return _of_hub(what, split, every_sentence=every_sentence, root=root, prepare=prepare)
    if path.suffix or len(path.parts) > 1:
        raise GensegError(f"{what}: no such file or folder", code=ExitCode.NOT_FOUND)
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
    found = Recipe.model_validate(read_card(out)["recipe"])
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


def _of_files(path: Path, prepare: Prepare, *, name: str | None = None) -> EvalSet:
    """Samples in Parquet files: as they are if they have our columns, else prepared from a form that is known."""
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    if not files or files[0].suffix != ".parquet":
        raise GensegError(
            f"{path}: no prepared set and no Parquet file",
            hint="`genseg prep` makes prepared sets from raw data, `genseg prep ls` lists those it knows",
            code=ExitCode.NOT_FOUND,
        )
    if _columns(str(files[0])) >= COLUMNS.keys():
        return open_set(path)
    title = name or path.stem
    contents = digest([file_digest(file) for file in files])
    recipe = _recipe(title, "all", _form(str(files[0])))
    out = PREPARED / f"{recipe.name}-{contents}"
    if not (out / CARD).is_file():
        _prepare(recipe, Inputs(path, files=path), out, prepare)
    return open_set(out)


def _of_hub(name: str, split: str | None, *, every_sentence: bool, root: Path, prepare: Prepare) -> EvalSet:
    known = next((recipe for recipe in names() if _hub_id(recipe) == name), None)
    if known is not None:
        return _of_recipe(known, split, every_sentence=every_sentence, root=root, prepare=prepare)
    here = root / "hub" / name.replace("/", "__")
    if here.is_dir():
        return _of_files(here, prepare, name=name)
    ours = prepared_on_hub(name)
    if ours is not None:
        return _of_split(open_set(ours), split, every_sentence=every_sentence)
    recipe = _recipe(name, split or "all", _form(hub_files(name, [here])[0]))
    out = PREPARED / f"{recipe.name}-{recipe.split}"
    if not (out / CARD).is_file():
        _prepare(recipe, Inputs(root), out, prepare)
    return open_set(out)


def _hub_id(recipe: str) -> str | None:
    return getattr(resolve(recipe).source, "id", None)


def _recipe(name: str, split: str, form: str) -> Recipe:
    return Recipe(
        name=picture_stem(name.replace("/", "-") + ".parquet"),
        split=split,
        purpose="eval",
        source=Hub(kind="hub", id=name, form=form),
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
    if found >= {"image", "text", "mask"}:
        return "mask-rows"
    if found >= {"image", "answer", "segmentation"}:
        return "flat-polygon"
    if found >= {"image", "problem", "solution"}:
        with opened(file) as parquet:
            first = next(parquet.iter_batches(batch_size=1, columns=["solution"]), None)
        text = str(first["solution"][0]) if first is not None and len(first) else ""
        tags = {"<box>": "solution-tags", "<bbox>": "solution-labels"}
        return next((form for tag, form in tags.items() if tag in text), "solution-json")
    raise GensegError(
        f"{file}: columns {', '.join(sorted(found)[:8])} are of no form that is known",
        hint="image, text, mask; or those of a prepared set (docs/data.md). `genseg prep coco` takes COCO annotations",
    )
