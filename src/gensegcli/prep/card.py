"""The README of a prepared set: what it is, how large it is beside what its authors say, how it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from gensegcli.atomic import replacing, saving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from gensegcli.prep.recipe import Recipe

UNITS = ("refs", "pictures", "sentences")


def compared(recipe: Recipe, card: Mapping[str, Any]) -> list[tuple[str, int, int | None]]:
    """Unit, count found in the raw files, published count (None: not published)."""
    published = recipe.published_here
    return [(unit, card["raw"]["split"][unit], getattr(published, unit, None)) for unit in UNITS]


def differences(recipe: Recipe, card: Mapping[str, Any]) -> list[str]:
    """Where the raw data or the result is not what was published or expected, in a few lines."""
    other = [(unit, n, told) for unit, n, told in compared(recipe, card) if told is not None and told != n]
    if not other:
        return unexpected(recipe, card)
    here = ", ".join(f"{number:,} {unit}" for unit, number, _ in other)
    told = ", ".join(f"{published:,}" for _, _, published in other)
    return [f"{here} in the raw files, {told} published", *unexpected(recipe, card)]


def unexpected(recipe: Recipe, card: Mapping[str, Any]) -> list[str]:
    """Where the result is not what complete raw data gives; one line each."""
    found = []
    expected = recipe.expected_here
    counts = card["counts"]
    if expected is not None and counts["samples"] != expected.samples:
        found.append(f"{counts['samples']:,} samples, {expected.samples:,} expected of complete raw data")
    if expected is not None and expected.no_target is not None and counts["no_target"] != expected.no_target:
        found.append(f"{counts['no_target']:,} samples without target, {expected.no_target:,} expected")
    return found


def write_readme(out: Path, recipe: Recipe, card: Mapping[str, Any], pictures: Sequence[str] = ()) -> None:
    """Write README.md, with the header that lets `datasets.load_dataset(folder)` find the shards."""
    text = "\n".join(_lines(recipe, card, pictures)) + "\n"
    with saving(out / "README.md"), replacing(out / "README.md") as stream:
        stream.write(text.encode())


def _lines(recipe: Recipe, card: Mapping[str, Any], pictures: Sequence[str]) -> Iterator[str]:
    about = recipe.about
    yield from _header(recipe)
    yield f"# {about.title}, {recipe.split} ({recipe.purpose}), prepared by genseg"
    yield ""
    yield about.description
    yield ""
    for picture in pictures:
        yield from (f"![a sample: {picture}]({picture})", "")
    yield from _counts(recipe, card)
    yield from _making(recipe, card)
    yield "## Licence and source"
    yield ""
    yield f"{about.licence}. {about.homepage}".strip()
    if about.citation.strip():
        yield from ("", "```bibtex", about.citation.strip(), "```")


def _header(recipe: Recipe) -> Iterator[str]:
    yield from (
        "---",
        f"pretty_name: {orjson.dumps(recipe.about.title).decode()}",
        "configs:",
        "- config_name: default",
    )
    yield from ("  data_files:", f"  - split: {recipe.split}", f"    path: data/{recipe.split}-*.parquet", "---", "")


def _counts(recipe: Recipe, card: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## Counts", "", "| raw split | found | published |", "|---|---:|---:|")
    for unit, number, published in compared(recipe, card):
        yield f"| {unit} | {number:,} | {'–' if published is None else f'{published:,}'} |"
    note = recipe.published_here.note if recipe.published_here else ""
    if note:
        yield from ("", f"Published counts: {note}.")
    counts = card["counts"]
    yield from ("", "| prepared | samples |", "|---|---:|")
    for name in ("samples", "no_target", "single_target", "multi_target"):
        yield f"| {name.replace('_', ' ')} | {counts[name]:,} |"
    yield f"| objects | {counts['objects']:,} |"
    for points, number in counts["objects_by_negative_points"].items():
        yield f"| objects with {points} negative points | {number:,} |"
    yield ""
    for key in ("skipped", "filtered"):
        if card[key]:
            yield f"{key.capitalize()}: {', '.join(f'{reason} {number:,}' for reason, number in card[key].items())}."
            yield ""
    for line in (*differences(recipe, card), *card["notes"]):
        yield f"- {line}"
    if card["notes"] or differences(recipe, card):
        yield ""


def _making(recipe: Recipe, card: Mapping[str, Any]) -> Iterator[str]:
    size = recipe.picture.size
    if size is None:
        picture = "the original bytes"
    else:
        picture = f"{size[0]}x{size[1]} pixels, {'aspect kept' if recipe.picture.keep_aspect else 'aspect not kept'}"
    yield from ("## Making", "")
    yield f"- recipe `{recipe.name}`, digest `{card['recipe_digest']}`; all of it is in `dataset.json`"
    yield f"- pictures: {picture}; boxes and points on the grid [0, 1000]; masks at the stored picture's size"
    yield f"- one sample a {recipe.select.per}{_selection(recipe)}"
    yield f"- versions: {_joined(card['versions'])}"
    yield from ("", "```python", "from datasets import load_dataset", "")
    yield f'rows = load_dataset("parquet", data_files="data/{recipe.split}-*.parquet", split="train")'
    yield from ("```", "")


def _selection(recipe: Recipe) -> str:
    select = recipe.select
    parts = []
    if select.per == "ref":
        parts.append(f"its {select.sentence} sentence")
    if select.first:
        parts.append(f"the first {select.first:,} references")
    if select.count:
        shares = select.shares
        parts.append(f"a draw of {select.count:,}, seed {select.seed}")
        if shares:
            parts.append(f"{shares.no_target:.0%} no target, {shares.single:.0%} one, {shares.multi:.0%} several")
    return "".join(f", {part}" for part in parts)


def _joined(values: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
