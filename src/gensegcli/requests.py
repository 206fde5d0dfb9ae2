"""From what stands on the command line to a stream of requests: one picture, one expression, one stable id."""

from __future__ import annotations

import codecs
import hashlib
import os
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gensegcli.dialects.expressions import normalise_expression
from gensegcli.download import is_url
from gensegcli.errors import ExitCode, GensegError
from gensegcli.images import image_name, readable_suffixes
from gensegcli.listing import LeftOut, is_pattern, listed
from gensegcli.manifests import FIELDS, MANIFESTS, READERS, Row, jsonl_rows, read_rows
from gensegcli.records import Failure
from gensegcli.standard_input import NAME as STDIN
from gensegcli.standard_input import Form, StandardInput, no_question

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gensegcli.images import ImageSource

MAX_QUERY_CHARS = 2000
"""Longest expression, after normalisation: ten times the longest of the public sets, and a fraction of a prompt."""

_SLIPS = {
    ".json": "one object on each line: jq -c '.[]' pairs.json > pairs.jsonl",
    ".jsonlines": "rename it to .jsonl",
    ".txt": 'a list of paths goes to standard input: genseg predict - --query "a dog" < list.txt',
    ".xlsx": "save the sheet as CSV",
    ".xls": "save the sheet as CSV",
    ".ods": "save the sheet as CSV",
    ".gz": "unpack it first",
    ".zip": "unpack it first",
    ".arrow": "write it as Parquet",
    ".feather": "write it as Parquet",
}
"""Endings of what is given in place of a manifest, and what to do."""


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
        GensegError: it is no text, nothing is left of it, it is longer than `MAX_QUERY_CHARS`, or it is not valid Unicode.
    """
    if not isinstance(query, str):
        raise GensegError(
            f"the expression is {type(query).__name__}, expected a text",
            hint="one call asks one question; predict_many takes a list of requests",
        )
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
    stdin: StandardInput | BinaryIO | None = None,
    on_repeat: Callable[[Request], None] | None = None,
    recursive: bool = False,
    left_out: LeftOut | None = None,
) -> Iterator[Request | Failure]:
    """Every question that the inputs ask, in order, lazily; the pictures themselves are not opened.

    Args:
        inputs: each a file, a folder (the pictures directly in it), a glob (`**` goes deeper), an http(s) address,
            a manifest (JSONL, CSV, TSV, Parquet; relative pictures are relative to it) or `-`: JSONL, paths one a line,
            or one picture on standard input; relative to the working directory.
        queries: asked of every picture, and of the manifest rows that bring no query of their own.
        stdin: what `-` reads; default is standard input.
        on_repeat: called with each request that was asked before (same id, picture and query) and is not asked again.
        recursive: go into the folders of a folder too.
        left_out: where the files and folders are counted that folders and globs hold beside pictures.

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
    source = stdin if isinstance(stdin, StandardInput) else StandardInput(stdin)
    for text in inputs:
        if text == STDIN:
            _check_standard_input(source, asked)
        else:
            _check_input(text, asked, recursive=recursive)

    def expanded(text: str) -> Iterator[Request | Failure]:
        if text == STDIN:
            return _from_standard_input(source, asked)
        return _from_names(listed(text, recursive=recursive, left_out=left_out), asked)

    return _unique((item for text in inputs for item in expanded(text)), on_repeat)


# ---------------------------------------------------------------- inputs


def _check_input(text: str, asked: Sequence[str], *, recursive: bool) -> None:
    """Meet all that is wrong with an input before any model is loaded: look at its first picture or row."""
    if _is_manifest(text):
        next(read_rows(text), None)
        return
    _check_not_a_slip(text, asked)
    left_out = LeftOut()
    first = next(listed(text, recursive=recursive, left_out=left_out), None)
    if first is None:
        raise _nothing_found(text, left_out)
    if not asked and not _is_manifest(first):
        raise GensegError(
            f"{image_name(text)}: no expression was given", hint='say what to find, for example "the red cup"'
        )


def _check_not_a_slip(text: str, asked: Sequence[str]) -> None:
    """Name a list of questions in a form that is not read as what it is, instead of a picture that is none."""
    suffix = Path(text).suffix.lower()
    if is_url(text) or suffix not in _SLIPS or (asked and suffix == ".txt") or not os.path.isfile(text):  # noqa: PTH113
        return
    raise GensegError(
        f"{text}: neither a picture nor a manifest that is read: manifests are {MANIFESTS}", hint=_SLIPS[suffix]
    )


def _from_names(names: Iterable[str], asked: Sequence[str]) -> Iterator[Request | Failure]:
    for name in names:
        if _is_manifest(name):
            yield from _from_rows(read_rows(name), Path(name).parent, asked)
        else:
            yield from (_request(name, name, query, None) for query in asked)


def _is_manifest(text: str) -> bool:
    # `os.path`, here and below: for a name that no file system takes `Path.is_file` raises, and this says no.
    return not is_url(text) and Path(text).suffix.lower() in READERS and os.path.isfile(text)  # noqa: PTH113


def _nothing_found(text: str, left_out: LeftOut) -> GensegError:
    path = Path(text)
    rest = f" ({left_out} left out)" if left_out.kinds else ""
    if os.path.isdir(path):  # noqa: PTH112
        return GensegError(
            f"{text}: no pictures directly in this folder{rest}",
            hint=left_out.cure or f"known endings: {', '.join(sorted(readable_suffixes()))}",
            code=ExitCode.NOT_FOUND,
        )
    if is_pattern(text):
        message = f"{text}: matches no picture and no manifest{rest}"
        return GensegError(message, hint=left_out.cure, code=ExitCode.NOT_FOUND)
    try:
        siblings = os.listdir(path.parent)  # noqa: PTH208 (nothing but names)
    except (OSError, ValueError):  # no such folder either, or one that may not be listed: nothing to suggest
        siblings = []
    near = get_close_matches(path.name, siblings, n=1)
    hint = f"did you mean {path.parent / near[0]}?" if near else ""
    return GensegError(f"{text}: no such file or folder", hint=hint, code=ExitCode.NOT_FOUND)


# ---------------------------------------------------------------- standard input


def _check_standard_input(stdin: StandardInput, asked: Sequence[str]) -> None:
    """Wait for the first line, and meet what is wrong with it."""
    if stdin.form is Form.PICTURE and not asked:
        raise no_question("a picture")
    if stdin.form is Form.PATHS:
        first = stdin.first
        if not is_url(first) and not os.path.exists(first):  # noqa: PTH110
            raise GensegError(
                f"standard input: {shown(first)}: neither a JSON object nor a picture that is there",
                hint='one {"image": …, "query": …} or one path on each line; paths are relative to the working folder',
                code=ExitCode.NOT_FOUND,
            )
        if not asked:
            raise no_question("paths")


def _from_standard_input(stdin: StandardInput, asked: Sequence[str]) -> Iterator[Request | Failure]:
    if stdin.form is Form.PICTURE:
        picture = stdin.picture()
        yield from (_request(STDIN, picture, query, None) for query in asked)
    elif stdin.form is Form.PATHS:
        for number, line in enumerate(stdin.lines(), start=1):
            # As the operating system gives names: undecodable bytes are kept, and refused for this line alone.
            name = os.fsdecode(line.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n"))
            if name.strip():
                yield from (_request(f"{STDIN}:{number}", name, query, None) for query in asked)
    else:
        yield from _from_rows(jsonl_rows(STDIN, stdin.lines()), Path(), asked)


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
            yield _request(row.place, image, query, _row_id(row.values.get("id")))


def _row_problem(row: Row, asked: Sequence[str]) -> str:
    image, query, given = (row.values.get(name) for name in FIELDS)
    found = f"found {', '.join(map(str, row.values)) or 'nothing'}"
    if image is None:
        return f"no image, {found}"
    if not _row_image(image, Path()):
        return f"image is {shown(image)}, expected a path or an address"
    if query is None and not asked:
        return f"no query, {found}"
    if not isinstance(query, str | None):
        return f"query is {shown(query)}, expected a text"
    if given is not None and _row_id(given) is None:
        return f"id is {shown(given)}, expected a text or a whole number"
    if given is not None and query is None and len(asked) > 1:
        return f"one id ({given}) for {len(asked)} expressions"
    return ""


def _row_id(given: object) -> str | None:
    """An id as text; whole numbers may be floats, as pandas writes them. None for what is no id."""
    if isinstance(given, float) and given.is_integer():
        given = int(given)
    return str(given) if isinstance(given, str | int) and not isinstance(given, bool) else None


def shown(value: object) -> str:
    """A value as a message shows it, cut to 40 characters."""
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
