"""The entries of a tolerantly read answer: one for each object, in the dialect's own keys, whatever holds them together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gensegcli.dialects.coordinates import is_box
from gensegcli.dialects.grammar import Braces, ReadingError, braces, excerpt
from gensegcli.dialects.json_text import MAX_DEPTH, Repeated, parse
from gensegcli.records import RefusalKind

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_TARGET = "no_target"

_BETWEEN_OBJECTS = re.compile(r"[\s,\uff0c\u3001]*")


@dataclass(frozen=True, slots=True)
class Keys:
    """How one instance is written.

    Attributes:
        box: key of `[x1, y1, x2, y2]`.
        points: keys of one `[x, y]` each.
        negatives: key of the optional list of background points; None where the dialect has none.
        aliases: other spellings that tolerant reading takes.
        single: the answer is one object instead of a list.
        empty_abstains: "nothing there" is written as an empty list.
    """

    box: str
    points: tuple[str, ...]
    negatives: str | None
    aliases: dict[str, str]
    single: bool = False
    empty_abstains: bool = False


def entries(value: Any, keys: Keys) -> list[Any]:
    """The entries that a value holds, in the dialect's own keys.

    These are understood, each of which has one reading only: one object instead of a list; a bare box
    `[x1, y1, x2, y2]`, or a list of such; objects in an object (`{"objects": [...]}`, `{"object_1": {...}}`); several
    boxes under the key of one (`{"bbox_2d": [[...], [...]]}`); `Repeated` objects. What is no entry stays in its place,
    for whoever reads it to say so.

    Raises:
        ReadingError: EMPTY_LIST for an object whose list of objects is empty.
    """
    if isinstance(value, list) and not isinstance(value, Repeated) and not is_box(value):
        return [entry for one in value for entry in _entries_of(one, keys)]
    return _entries_of(value, keys)


def abstains(found: list[Any], keys: Keys) -> bool:
    """Whether the entries are one abstention and nothing else.

    Raises:
        ReadingError: WRONG_KEYS for one that stands beside an object.
    """
    if not any(isinstance(one, dict) and one.get(NO_TARGET) is True for one in found):
        return False
    if len(found) > 1 or keys.box in found[0] or any(_is_object(one, keys) for one in _values(found[0])):
        raise not_alone(found)
    return True


def _values(said: dict[str, Any]) -> list[Any]:
    """The values of an object, those of its lists one by one."""
    return [one for value in said.values() for one in (value if isinstance(value, list) else [value])]


def not_alone(found: list[Any]) -> ReadingError:
    """The error for an abstention beside something else."""
    return ReadingError(RefusalKind.WRONG_KEYS, f"{NO_TARGET} does not stand alone: {excerpt(found)}")


def object_runs(text: str, marks: tuple[str, ...]) -> list[list[Any]]:
    """The objects in a text that name one of the marks, in runs: neighbours that only white space and commas separate.

    What cannot be read stands as its `ReadingError`. Of braces in braces the outer ones count if they can be read.

    >>> object_runs('[{"a": 1}, {"a": 2}] or {"a": {"b": 3}} {"a"', ("a",))
    [[{'a': 1}, {'a': 2}], [{'a': {'b': 3}}]]
    """
    runs: list[list[Any]] = []
    end = 0
    for pair in _marked(text, marks):
        if pair.start < end or pair.height > MAX_DEPTH:
            continue
        try:
            value: Any = parse(text[pair.start : pair.end], strict=False)
        except ReadingError as why:
            if pair.height > 1:
                continue
            value = why
        if not runs or not _BETWEEN_OBJECTS.fullmatch(text, end, pair.start):
            runs.append([])
        runs[-1].append(value)
        end = pair.end
    return runs


def _marked(text: str, marks: tuple[str, ...]) -> Iterator[Braces]:
    """The pairs of braces that hold a mark."""
    places = (found.start() for found in re.finditer("|".join(map(re.escape, marks)), text))
    place = next(places, None)
    for pair in () if place is None else braces(text):
        while place is not None and place < pair.start:
            place = next(places, None)
        if place is None:
            return
        if place < pair.end:
            yield pair


def _entries_of(value: Any, keys: Keys) -> list[Any]:
    """The entries of one item of a list."""
    if isinstance(value, Repeated):
        return [entry for one in value for entry in _entries_of(one, keys)]
    if is_box(value):
        return [{keys.box: value}]
    if not isinstance(value, dict):
        return [value]
    found = _named(value, keys)
    held = _held(found, keys)
    if held is not None:
        return [entry for one in held for entry in _entries_of(one, keys)]
    box = found.get(keys.box)
    if not isinstance(box, list) or not box or not all(map(is_box, box)):
        return [found]
    if len(box) == 1:
        return [{**found, keys.box: box[0]}]
    # Nobody can say to which of the boxes a point belongs.
    points = found.keys() & {*keys.points, keys.negatives}
    return [found] if points else [{keys.box: one} for one in box]


def _named(found: dict[str, Any], keys: Keys) -> dict[str, Any]:
    """An object in the dialect's own keys. Two spellings of a key with two values leave neither."""
    named: dict[str, Any] = {}
    for key, value in found.items():
        own = keys.aliases.get(key, key)
        if own in named and named[own] != value:
            value = f"two values, as {own} and as another spelling of it"
        named[own] = value
    return named


def _held(found: dict[str, Any], keys: Keys) -> list[Any] | None:
    """The objects that an object without a box of its own holds: in one list, or under one key each.

    Bare boxes count where the key of the list says that they are boxes.

    Raises:
        ReadingError: EMPTY_LIST.
    """
    if keys.box in found or found.get(NO_TARGET) is True:
        return None
    lists = {key: value for key, value in found.items() if isinstance(value, list)}
    held = [
        value
        for key, value in lists.items()
        if any(_is_object(one, keys) for one in value) or (value and "box" in key.lower() and all(map(is_box, value)))
    ]
    if len(held) == 1:
        return held[0]
    if list(lists.values()) == [[]]:
        raise ReadingError(RefusalKind.EMPTY_LIST, f"an empty list of objects: {excerpt(found)}")
    objects = [value for value in found.values() if _is_object(value, keys)]
    return objects if objects and not lists else None


def _is_object(value: Any, keys: Keys) -> bool:
    """Whether a value is an object that has a box, or several such in one pair of braces."""
    if isinstance(value, Repeated):
        return any(_is_object(one, keys) for one in value)
    return isinstance(value, dict) and any(keys.aliases.get(key, key) == keys.box for key in value)
