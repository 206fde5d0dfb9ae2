"""From what stands on the command line to a stream of requests: one picture, one expression, one stable id."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gensegcli.dialects.expressions import normalise_expression
from gensegcli.download import is_url
from gensegcli.errors import ExitCode, GensegError
from gensegcli.images import SUFFIXES, image_name
from gensegcli.manifests import FIELDS, READERS, STDIN, Row, read_rows, reading
from gensegcli.records import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gensegcli.images import ImageSource

MAX_QUERY_CHARS = 2000
"""Longest expression, after normalisation: ten times the longest of the public sets, and a fraction of a prompt."""

_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Request:
    """One question to answer. `query` is normalised; `image` is a path, an address, or (Parquet) encoded bytes."""

    id: str
    image: ImageSource
    query: str


def request_id(image: ImageSource, query: str) -> str:
    """The id of a question that was given none: 16 hex digits of the SHA-256 of picture name and normalised query.

    >>> request_id("photos/a.jpg", "the dog")
    'a5453de99b663849'
    """
    # A NUL stands in no path and in no expression, so no two pairs run into one text.
    return hashlib.sha256(f"{image_name(image)}\0{query}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def checked_query(query: str) -> str:
    """The normalised expression.

    Raises:
        GensegError: nothing is left of it, it is longer than `MAX_QUERY_CHARS`, or it is not valid Unicode.
    """
    if not _is_unicode(query):
        raise GensegError("the expression is not valid UTF-8")
    text = normalise_expression(query)
    if not text:
        raise GensegError(f"the expression {query[:40]!r} is empty", hint='say what to find, for example "the red cup"')
    if len(text) > MAX_QUERY_CHARS:
        raise GensegError(
            f"the expression has {len(text)} characters, at most {MAX_QUERY_CHARS} are taken (it begins {text[:40]!r})"
        )
    return text


def expand_requests(
    inputs: Sequence[str],
    queries: Sequence[str],
    *,
    stdin: BinaryIO | None = None,
    on_repeat: Callable[[Request], None] | None = None,
) -> Iterator[Request | Failure]:
    """Every question that the inputs ask, in order, lazily; the pictures themselves are not opened.

    Args:
        inputs: each a file, a folder (the pictures directly in it), a glob (`**` goes deeper), an http(s) address,
            a manifest (JSONL, CSV, TSV, Parquet; relative pictures are relative to it) or `-` (JSONL on standard
            input; relative to the working directory).
        queries: asked of every picture, and of the manifest rows that bring no query of their own.
        stdin: what `-` reads; default is standard input.
        on_repeat: called with each request that was asked before (same id, picture and query) and is not asked again.

    Yields:
        Requests picture by picture. A manifest row that cannot be used is a `Failure` whose id is its place
        (`pairs.jsonl:17`), and so is one that gives an id already taken by another question.

    Raises:
        GensegError: at once, for an input that does not exist or names no picture, an unusable expression or manifest.
    """
    asked = tuple(dict.fromkeys(checked_query(query) for query in queries))
    if not inputs:
        raise GensegError("no picture was given")
    if list(inputs).count(STDIN) > 1:
        raise GensegError("standard input (-) was given twice")
    for text in inputs:
        _check_input(text, asked)
    return _unique((item for text in inputs for item in _expand(text, asked, stdin)), on_repeat)


# ---------------------------------------------------------------- inputs


def _check_input(text: str, asked: Sequence[str]) -> None:
    """Meet all that is wrong with an input before any model is loaded: look at its first picture or row."""
    if text == STDIN:
        return
    if _is_manifest(text):
        next(read_rows(text), None)
        return
    first = next(_files(text), None)
    if first is None:
        raise _nothing_found(text)
    if not asked and not _is_manifest(first):
        raise GensegError(
            f"{image_name(text)}: no expression was given", hint='say what to find, for example "the red cup"'
        )


def _expand(text: str, asked: Sequence[str], stdin: BinaryIO | None) -> Iterator[Request | Failure]:
    if text == STDIN:
        yield from _from_rows(read_rows(STDIN, stdin=stdin), Path(), asked)
        return
    for name in _files(text):
        if _is_manifest(name):
            yield from _from_rows(read_rows(name), Path(name).parent, asked)
        else:
            yield from (_request(name, name, query, None) for query in asked)


def _is_manifest(text: str) -> bool:
    # `os.path`, here and below: for a name that no file system takes `Path.is_file` raises, and this says no.
    return not is_url(text) and Path(text).suffix.lower() in READERS and os.path.isfile(text)  # noqa: PTH113


def _files(text: str) -> Iterator[str]:
    """Pictures and manifests that one input names, in a stable order. A folder contributes its pictures only."""
    if is_url(text) or os.path.isfile(text):  # noqa: PTH113
        yield text
    elif os.path.isdir(text):  # noqa: PTH112
        with reading(text), os.scandir(text) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file())
        yield from (str(Path(text, name)) for name in names if Path(name).suffix.lower() in SUFFIXES)
    elif _GLOB.search(text):
        known = SUFFIXES | READERS.keys()
        names = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 (absolute patterns are welcome)
        yield from (name for name in names if Path(name).suffix.lower() in known and os.path.isfile(name))  # noqa: PTH113


def _nothing_found(text: str) -> GensegError:
    path = Path(text)
    if os.path.isdir(path):  # noqa: PTH112
        return GensegError(
            f"{text}: no pictures directly in this folder",
            hint=f"'{path / '**' / '*.jpg'}' takes those further down; known endings: {', '.join(sorted(SUFFIXES))}",
            code=ExitCode.NOT_FOUND,
        )
    if _GLOB.search(text):
        return GensegError(f"{text}: matches no picture and no manifest", code=ExitCode.NOT_FOUND)
    try:
        siblings = os.listdir(path.parent)  # noqa: PTH208 (nothing but names)
    except (OSError, ValueError):  # no such folder either, or one that may not be listed: nothing to suggest
        siblings = []
    near = get_close_matches(path.name, siblings, n=1)
    hint = f"did you mean {path.parent / near[0]}?" if near else ""
    return GensegError(f"{text}: no such file or folder", hint=hint, code=ExitCode.NOT_FOUND)


# ---------------------------------------------------------------- rows


def _from_rows(rows: Iterable[Row], folder: Path, asked: Sequence[str]) -> Iterator[Request | Failure]:
    for row in rows:
        problem = row.problem or _row_problem(row, asked)
        if problem:
            name, query = row.values.get("image"), row.values.get("query")
            yield Failure(
                id=row.place,
                image=image_name(name) if isinstance(name, str) and _is_unicode(name) else "",
                query=query[:MAX_QUERY_CHARS] if isinstance(query, str) and _is_unicode(query) else "",
                error=f"{row.place}: {problem}",
            )
            continue
        image = _row_image(row.values["image"], folder)
        own = row.values.get("query")
        for query in (own,) if isinstance(own, str) else asked:
            given = row.values.get("id")
            yield _request(row.place, image, query, None if given is None else str(given))


def _row_problem(row: Row, asked: Sequence[str]) -> str:
    image, query, given = (row.values.get(name) for name in FIELDS)
    found = f"found {', '.join(map(str, row.values)) or 'nothing'}"
    if image is None:
        return f"no image, {found}"
    if not _row_image(image, Path()):
        return f"image is {_shown(image)}, expected a path or an address"
    if query is None and not asked:
        return f"no query, {found}"
    if not isinstance(query, str | None):
        return f"query is {_shown(query)}, expected a text"
    if isinstance(given, bool) or not isinstance(given, str | int | None):
        return f"id is {_shown(given)}, expected a text or a whole number"
    if given is not None and query is None and len(asked) > 1:
        return f"one id ({given}) for {len(asked)} expressions"
    return ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _row_image(value: object, folder: Path) -> str | bytes:
    """A path made relative to the manifest, an address, or bytes (also in the {bytes, path} of `datasets`); else empty."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str) and value and not is_url(value):
        return os.path.normpath(folder / value)
    return value if isinstance(value, str | bytes) else ""


def _request(place: str, image: ImageSource, query: str, given: str | None) -> Request | Failure:
    name = image_name(image)
    try:
        if not _is_unicode(name) or not _is_unicode(given or ""):
            raise GensegError("the name of the picture is not valid UTF-8", hint="rename the file")
        text = checked_query(query)
    except GensegError as error:
        safe = name.encode("utf-8", "replace").decode()
        shown = query.encode("utf-8", "replace").decode()[:MAX_QUERY_CHARS]
        place = place.encode("utf-8", "replace").decode()
        return Failure(place, safe, shown, f"{place}: {error.message}", error.hint)
    return Request(given or request_id(image, text), image, text)


def _unique(
    items: Iterable[Request | Failure], on_repeat: Callable[[Request], None] | None
) -> Iterator[Request | Failure]:
    """Pass each question once. An id that two different questions claim belongs to the first."""
    seen: dict[str, str] = {}
    for number, item in enumerate(items, start=1):
        if isinstance(item, Failure):
            yield item
            continue
        digest = request_id(item.image, item.query)
        first = seen.get(item.id)
        if first is None:
            seen[item.id] = digest
            yield item
        elif first != digest:
            name = image_name(item.image)
            error = f"id {item.id!r} (request {number}, {name}) was given to another question before"
            yield Failure(f"{item.id}#{number}", name, item.query, error, "ids must be unique")
        elif on_repeat is not None:
            on_repeat(item)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
