"""From a recipe's source to its raw data: one table of readers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

from gensegcli.errors import GensegError
from gensegcli.sources.coco import read_own
from gensegcli.sources.foreground import read_foreground
from gensegcli.sources.generated import read_scenes
from gensegcli.sources.hub import read_hub
from gensegcli.sources.reasonseg import read_reasonseg
from gensegcli.sources.refer import read_refer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gensegcli.prep.recipe import Recipe
    from gensegcli.sources.raw import RawSet


@dataclass(frozen=True)
class Inputs:
    """What the user says about where raw data is; None: the usual places."""

    root: Path
    images: Path | None = None
    annotations: Path | None = None
    expressions: Path | None = None
    files: Path | None = None

    def refuse_unread(self, kind: str) -> None:
        """Refuse what a kind of source would not look at: whoever names it means something else.

        Raises:
            GensegError: an input is given that this kind does not read.
        """
        given = [name for name in ("images", "annotations", "expressions", "files") if getattr(self, name) is not None]
        unread = [name for name in given if name not in READ.get(kind, ())]
        if unread:
            takes = ", ".join(f"--{name}" for name in READ.get(kind, ())) or "--root only"
            raise GensegError(f"--{unread[0]}: not read for this recipe (raw form: {kind})", hint=f"it takes {takes}")


def read_raw(recipe: Recipe, inputs: Inputs) -> RawSet:
    """The raw split that a recipe speaks of.

    Raises:
        GensegError: its files are missing or damaged (what was looked for and how to get it is said).
    """
    inputs.refuse_unread(recipe.source.kind)
    return READERS[recipe.source.kind](recipe, inputs)


def _refer(recipe: Recipe, inputs: Inputs) -> RawSet:
    source: Any = recipe.source
    return read_refer(inputs.root, folder=source.folder, by=source.by, split=recipe.split, images=inputs.images)


def _reasonseg(recipe: Recipe, inputs: Inputs) -> RawSet:
    return read_reasonseg(inputs.root, split=recipe.split)


def _foreground(recipe: Recipe, inputs: Inputs) -> RawSet:
    source: Any = recipe.source
    return read_foreground(
        inputs.root,
        dataset=recipe.name,
        split=recipe.split,
        folders=source.folders,
        query=source.query,
        leave_out=source.leave_out,
        hint=recipe.about.get,
    )


def _hub(recipe: Recipe, inputs: Inputs) -> RawSet:
    source: Any = recipe.source
    return read_hub(
        inputs.root, name=source.id, form=source.form, split=recipe.split, frame=source.frame, files=inputs.files
    )


def _own(recipe: Recipe, inputs: Inputs) -> RawSet:
    given = {"--annotations": inputs.annotations, "--images": inputs.images, "--expressions": inputs.expressions}
    missing = [option for option, value in given.items() if value is None]
    if missing or inputs.annotations is None or inputs.images is None or inputs.expressions is None:
        raise GensegError(
            f"your own data needs {', '.join(missing)}",
            hint="genseg prep coco --annotations A.json --images DIR --expressions E.jsonl; see docs/data.md",
        )
    return read_own(inputs.annotations, inputs.images, inputs.expressions, split=recipe.split)


def _scenes(recipe: Recipe, _inputs: Inputs) -> RawSet:
    source: Any = recipe.source
    # Another split is another stream: what is evaluated on must not have been trained on.
    stream = 0 if recipe.split == "train" else crc32(recipe.split.encode())
    return read_scenes(n=source.n, seed=recipe.select.seed + (stream << 32))


READERS: dict[str, Callable[[Recipe, Inputs], RawSet]] = {
    "refer": _refer,
    "reasonseg": _reasonseg,
    "foreground": _foreground,
    "hub": _hub,
    "coco": _own,
    "scenes": _scenes,
}
READ = {"refer": ("images",), "hub": ("files",), "coco": ("annotations", "images", "expressions")}
"""Which inputs beside the root each kind looks at; the others look at none."""
