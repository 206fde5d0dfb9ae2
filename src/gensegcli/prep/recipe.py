"""Recipes: one TOML file for each set that `genseg prep` knows, resolved with the split, the purpose and `--set`.

A recipe begins with what holds always; each `[[variant]]` then overrides some of it `when` split, purpose or splits'
author are as it says. What comes out of that is stored with the prepared set, together with its digest.
"""

from __future__ import annotations

import os
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gensegcli.config import digest
from gensegcli.errors import ExitCode, GensegError, suggestion, unknown_name
from gensegcli.files.text import excerpt, invalid, parse_setting, read_toml

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Count = Annotated[int, Field(ge=0, le=1 << 53)]
Seed = Annotated[int, Field(ge=-(1 << 53), le=1 << 53)]
"""Whole numbers that every JSON reader reads exactly."""


# ---------------------------------------------------------------- where the raw data comes from


class Refer(_Part):
    """A set of the RefCOCO family."""

    kind: Literal["refer"]
    folder: str = Field(description="the set's folder below the root")
    by: str = Field(description="whose splits: unc, umd or google")


class ReasonSeg(_Part):
    """Pictures with polygons in JSON files beside them."""

    kind: Literal["reasonseg"]


class Foreground(_Part):
    """A folder of pictures and a folder of masks."""

    kind: Literal["foreground"]
    folders: dict[str, list[tuple[str, str]]] = Field(description="split to pairs (pictures, masks), the usual names")
    query: str = Field(description="what is asked of every picture")
    leave_out: list[str] = Field([], description="names that contain one of these are not part of the set")


class Hub(_Part):
    """Parquet files on the hub."""

    kind: Literal["hub"]
    id: str = Field(description="owner/name")
    form: str = Field(description="how the columns are read: a key of sources.hub.FORMS")
    frame: tuple[int, int] = Field((840, 840), description="width and height in whose pixels solutions are given")


class Own(_Part):
    """COCO annotations, pictures and expressions of one's own."""

    kind: Literal["coco"]


class Scenes(_Part):
    """Generated scenes."""

    kind: Literal["scenes"]
    n: int = Field(5000, ge=1, le=10_000_000, description="how many")


Source = Annotated[Refer | ReasonSeg | Foreground | Hub | Own | Scenes, Field(discriminator="kind")]


# ---------------------------------------------------------------- what becomes of it


class Shares(_Part):
    """How a draw is divided by the number of objects that an expression means; the shares add up to 1."""

    no_target: float = Field(ge=0, le=1)
    single: float = Field(ge=0, le=1)
    multi: float = Field(ge=0, le=1)


class Select(_Part):
    """What counts as one sample, and which are taken."""

    per: Literal["ref", "sentence"] = Field("ref", description="one sample for each reference, or for each sentence")
    sentence: Literal["first", "random"] = Field("first", description="which one, where a reference is one sample")
    first: Count = Field(0, description="only that many references, in the set's order; 0: all")
    count: Count = Field(0, description="draw exactly that many samples; 0: take all")
    shares: Shares | None = Field(None, description="of a draw; without shares it is drawn as it comes")
    per_picture: Count = Field(0, description="of a draw: at most that many samples of one picture; 0: no limit")
    seed: Seed = Field(0, description="of the draw, of random sentences and of generated scenes")


Side = Annotated[int, Field(ge=1, le=8192)]
"""Pixels; a mask of the largest picture has 64 MB."""


class Picture(_Part):
    """How pictures are stored."""

    size: tuple[Side, Side] | None = Field(None, description="width and height; without it the original bytes are kept")
    keep_aspect: bool = Field(False, description="fit into that size instead of filling it")
    quality: int = Field(95, ge=1, le=100, description="of the JPEG, where a picture is encoded anew")


class Points(_Part):
    """How many points are mined."""

    positives: Literal[1, 2] = Field(2, description="inside each object")
    negatives: int = Field(2, ge=0, le=100, description="in the background of each object's box")
    margin: float = Field(
        10, ge=0, le=1000, description="least distance of the background points to any object, in grid units"
    )


class About(_Part):
    """What people should know; not part of the digest."""

    title: str
    description: str
    licence: str
    homepage: str = ""
    get: str = Field("", description="how to get the raw files")
    citation: str = Field("", description="BibTeX")


class Published(_Part):
    """How large a split is by its authors."""

    split: str
    by: str = ""
    refs: Count | None = None
    pictures: Count | None = None
    sentences: Count | None = None
    note: str = ""


class Expected(_Part):
    """How many samples come out of the complete raw data."""

    split: str
    by: str = ""
    purpose: Literal["train", "eval"] | None = None
    samples: Count
    no_target: Count | None = None


class Recipe(_Part):
    """A recipe with everything decided."""

    name: str
    split: str = Field(pattern=r"^\w[\w.-]*$", description="becomes part of file names")
    purpose: Literal["train", "eval"]
    source: Source
    annotations_frame: Literal["auto", "stored", "upright"] = Field(
        "auto",
        description="which pixels the annotations of a picture with an EXIF turn refer to: as they are stored, or as "
        "viewers show them; auto: by the stated size, else stored (ReasonSeg: upright)",
    )
    select: Select = Select()
    picture: Picture = Picture()
    points: Points = Points()
    about: About
    published: list[Published] = []
    expected: list[Expected] = []

    def identity(self) -> dict[str, Any]:
        """The values that decide what comes out."""
        return self.model_dump(mode="json", exclude={"about", "published", "expected"})

    @property
    def digest(self) -> str:
        return digest(self.identity())

    @property
    def published_here(self) -> Published | None:
        """The published size of this split, if there is one."""
        by = getattr(self.source, "by", "")
        return next((row for row in self.published if row.split == self.split and row.by in ("", by)), None)

    @property
    def expected_here(self) -> Expected | None:
        """What the complete raw data gives, if the selection is the recipe's own."""
        by = getattr(self.source, "by", "")
        rows = (row for row in self.expected if row.split == self.split and row.by in ("", by))
        return next((row for row in rows if row.purpose in (None, self.purpose)), None)


# ---------------------------------------------------------------- finding and resolving


def recipe_folder() -> Path:
    """The folder of recipes: inside the installed package, or beside `src` in a checkout."""
    packaged = Path(str(files("gensegcli"))) / "data_recipes"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[3] / "data_recipes"


def names() -> list[str]:
    """The recipes that come with genseg."""
    return sorted(path.stem for path in recipe_folder().glob("*.toml"))


def read(name: str) -> dict[str, Any]:
    """The content of a recipe, by its name or by the path of a TOML file of one's own.

    Raises:
        GensegError: no such recipe, or not TOML.
    """
    path = Path(name) if name.endswith(".toml") else recipe_folder() / f"{name}.toml"
    if not os.path.isfile(path):  # noqa: PTH113 -- also false for names that no file can have
        if name.endswith(".toml"):
            raise GensegError(f"{path}: no such file", code=ExitCode.NOT_FOUND)
        raise unknown_name("recipe", name, names(), hint="a recipe of your own is named by its path, ending in .toml")
    return {"name": path.stem, **read_toml(path)}


def of_card(card: Mapping[str, Any], place: Path) -> Recipe:
    """The recipe that a prepared set was made by, as its card has it.

    Raises:
        GensegError: it is no recipe; `place` is how the error calls the card.
    """
    try:
        return Recipe.model_validate(card["recipe"])
    except ValidationError as error:
        raise invalid(
            error, f"{place}: recipe", hint="run the same `genseg prep` again, or get the set again"
        ) from None


def resolve(
    name: str,
    *,
    split: str | None = None,
    purpose: str | None = None,
    by: str | None = None,
    limit: int | None = None,
    assignments: Iterable[str] = (),
    changes: Mapping[str, Any] | None = None,
) -> Recipe:
    """A recipe for one split and purpose.

    Args:
        name: of a recipe, or the path of one.
        split: None takes the recipe's own.
        purpose: train or eval; None: train for a split whose name begins with it, eval for others.
        by: whose splits, where the source has that choice.
        limit: at most that many references or, of a draw, samples.
        assignments: `select.seed=1` and the like.
        changes: the same by dotted key, already parsed; laid over all others.

    Raises:
        GensegError: unknown recipe, unknown key, or a value out of its range.
    """
    content = read(name)
    variants = content.pop("variant", [])
    content["split"] = _text(name, "split", split or content.get("split", "train"))
    content["purpose"] = _text(name, "purpose", purpose or content.get("purpose") or _usual_purpose(content["split"]))
    source = content.setdefault("source", {})
    if not isinstance(source, dict):
        raise GensegError(f"recipe {name}: source must be a table, {excerpt(source)} found")
    if by is not None:
        if "by" not in source:
            raise GensegError(f"{name}: has no choice of splits' authors", hint="leave --by away")
        source["by"] = by
    facts = {"split": content["split"], "purpose": content["purpose"], "by": source.get("by", "")}
    for when, variant in _variants(name, variants):
        if all(facts[key] == value for key, value in when.items()):
            _merge(content, variant)
    selection = deepcopy((content["source"], content.get("select")))
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise GensegError(f"--set {text}: expected key=value", hint="for example --set select.seed=1")
        _put(content, key.strip(), parse_setting(value))
    for key, value in (changes or {}).items():
        _put(content, key, value)
    if limit is not None:
        part = _validated(name, content).select
        key = "count" if part.count else "first"
        _put(content, f"select.{key}", min(limit, getattr(part, key) or limit))
    if (content["source"], content.get("select")) != selection:
        content["expected"] = []  # another selection gives other numbers
    return _validated(name, content)


_WHEN = ("split", "purpose", "by")


def _variants(name: str, found: object) -> Iterable[tuple[Mapping[str, str], Mapping[str, Any]]]:
    """The conditions and the content of each `[[variant]]`."""
    if not isinstance(found, list):
        raise GensegError(
            f"recipe {name}: variant must be a list of tables, {excerpt(found)} found", hint="[[variant]]"
        )
    for place, variant in enumerate(found):
        where = f"recipe {name}: variant number {place}"
        when = variant.get("when") if isinstance(variant, dict) else None
        if not isinstance(when, dict) or not when:
            raise GensegError(
                f"{where}: a table `when` is missing", hint='for example when = { purpose = "train" }: when it counts'
            )
        for key, value in when.items():
            if key not in _WHEN:
                raise GensegError(f"{where}: when.{key}: no such condition", hint=suggestion(key, _WHEN))
            _text(name, f"variant number {place}: when.{key}", value)
        yield when, {key: value for key, value in variant.items() if key != "when"}


def _text(name: str, key: str, value: object) -> str:
    if not isinstance(value, str):
        raise GensegError(f"recipe {name}: {key} must be a text, {excerpt(value)} found")
    return value


def _validated(name: str, content: Mapping[str, Any]) -> Recipe:
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise _invalid(name, error) from None


def _usual_purpose(split: str) -> str:
    return "train" if split.startswith("train") else "eval"


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _put(content: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise GensegError(f"--set {dotted}: {parent} has no parts")
    content[last] = value


def _invalid(name: str, error: ValidationError) -> GensegError:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    message = "no such setting" if first["type"] == "extra_forbidden" else first["msg"][:1].lower() + first["msg"][1:]
    return GensegError(f"recipe {name}: {key}: {message}", hint=f"`genseg prep show {name}` shows what can be set")
