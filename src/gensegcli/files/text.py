r"""The one reader of text, JSON, JSONL and TOML.

Whatever the file holds, the caller gets plain values or one `GensegError` that names the file, the place and what was
expected there: no other exception leaves this module.

- UTF-8, with or without a byte order mark. UTF-16, which Windows PowerShell writes, is named as such.
- Lines end at `\n` or `\r\n` only: U+2028 and U+0085 are ordinary characters inside a JSON string.
- `NaN` and `Infinity`, which Python's `json` writes, are read as floats: a file is not refused for the NaN of a field
  that nobody needs. Whoever uses a number checks that it is finite.
- Integers beyond 64 bits become floats, and lone surrogates are refused: what was read can be written again.
"""

from __future__ import annotations

import codecs
import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from gensegcli.errors import ExitCode, GensegError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic import ValidationError

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_INT64 = 1 << 63


class Line(NamedTuple):
    """One line of a JSONL file."""

    place: str
    """File and line number from 1: `pairs.jsonl:17`."""
    value: Any
    problem: GensegError | None = None
    """Why there is no value."""


def is_folder(path: Path) -> bool:
    """Whether a path is a folder.

    Raises:
        GensegError: it is no path that could exist: a name that is too long, for example.
    """
    try:
        return path.is_dir()
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        GensegError: it is not there, or cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise unreadable(path, error) from None


def unreadable(path: Path | str, error: OSError | ValueError) -> GensegError:
    """What the operating system says about a file that cannot be read, as one line."""
    reason = error.strerror if isinstance(error, OSError) else error
    return GensegError(f"{path}: cannot be read ({reason or error})", code=ExitCode.NOT_FOUND)


def read_text(path: Path) -> str:
    """The content of a UTF-8 file, without byte order mark.

    Raises:
        GensegError: it is not there, cannot be read, or is not UTF-8.
    """
    return decode(read_bytes(path), str(path))


def decode(content: bytes, place: str) -> str:
    """The text of UTF-8 bytes, without byte order mark.

    Raises:
        GensegError: they are not UTF-8; the message says where.
    """
    if content.startswith(_UTF16):
        raise GensegError(f"{place}: UTF-16, expected UTF-8", hint="save it again as UTF-8")
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise GensegError(
            f"{place}: not UTF-8 (byte 0x{content[error.start]:02x} in line {line})", hint="save it again as UTF-8"
        ) from None


def read_names(path: Path) -> list[str]:
    """The lines of a text file that are not blank, stripped: a list of ids, of paths, of classes.

    Raises:
        GensegError: as `read_text`.
    """
    return [line.strip() for line in read_text(path).split("\n") if line.strip()]


def read_json(path: Path, *, hint: str = "", unique: bool = False) -> Any:
    """The value of a JSON file.

    Args:
        path: the file.
        hint: said beside the error if it is not JSON.
        unique: as in `parse_json`.

    Raises:
        GensegError: it is not there, cannot be read, or is not JSON.
    """
    return parse_json(read_bytes(path), str(path), hint=hint, unique=unique)


def read_json_object(path: Path, *, hint: str = "", unique: bool = False) -> dict[str, Any]:
    """The value of a JSON file that holds one object.

    Raises:
        GensegError: as `read_json`, or it holds something else.
    """
    value = read_json(path, hint=hint, unique=unique)
    if not isinstance(value, dict):
        raise GensegError(f"{path}: a JSON object expected, {json_type(value)} found", hint=hint)
    return value


def parse_json(content: bytes | str, place: str, *, hint: str = "", unique: bool = False) -> Any:
    """The value of a JSON text.

    Args:
        content: the text; bytes are UTF-8.
        place: how errors call it.
        hint: said beside the error if it is not JSON.
        unique: refuse an object in which a key stands twice; otherwise the last one counts. For what people write by
            hand: the check reads the text a second time.

    Raises:
        GensegError: not JSON, a key that stands twice, brackets that nest too deeply, or text that is not Unicode.
    """
    if isinstance(content, bytes):
        content = content.removeprefix(codecs.BOM_UTF8)
        if content.startswith(_UTF16):
            raise GensegError(f"{place}: UTF-16, expected UTF-8", hint="save it again as UTF-8")
    try:
        value = orjson.loads(content)
        if unique:
            json.loads(content, parse_int=float, object_pairs_hook=_unique)
        return value
    except orjson.JSONDecodeError as error:
        return _parse_leniently(content, place, error, hint=hint, unique=unique)
    except _DuplicateKeyError as error:
        raise GensegError(f"{place}: the key {error.args[0]!r} stands twice in one object", hint=hint) from None
    except RecursionError:
        raise _too_deep(place, hint) from None


def parse_json_object(content: bytes | str, place: str, *, hint: str = "", unique: bool = False) -> dict[str, Any]:
    """The value of a JSON text that is one object.

    Raises:
        GensegError: as `parse_json`, or it is something else.
    """
    value = parse_json(content, place, hint=hint, unique=unique)
    if not isinstance(value, dict):
        raise GensegError(f"{place}: a JSON object expected, {json_type(value)} found", hint=hint)
    return value


def read_jsonl(source: Path | Iterable[bytes], *, name: str = "", unique: bool = False) -> Iterator[Line]:
    """The lines of a JSONL file that are not blank, each with its value or with what is wrong with it.

    A damaged line does not hide the others: raise its `problem` where every line is needed, or count it.

    Args:
        source: the file, or lines of bytes such as those of standard input.
        name: how errors call a stream.
        unique: as in `parse_json`.

    Raises:
        GensegError: the file is not there, or cannot be read.
    """
    name = name or str(source)
    if isinstance(source, Path):
        try:
            with source.open("rb") as lines:
                yield from _lines(lines, name, unique=unique)
        except (OSError, ValueError) as error:
            raise unreadable(source, error) from None
    else:
        yield from _lines(source, name, unique=unique)


def read_objects(path: Path, *, unique: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """The lines of a JSONL file in which every line has to be an object: (`file:line`, object).

    Raises:
        GensegError: as `read_jsonl`, or a line is damaged or no object.
    """
    for line in read_jsonl(path, unique=unique):
        if line.problem is not None:
            raise line.problem
        if not isinstance(line.value, dict):
            raise GensegError(f"{line.place}: a JSON object expected, {json_type(line.value)} found")
        yield line.place, line.value


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        GensegError: it is not there, cannot be read, or is not TOML.
    """
    return parse_toml(read_text(path), str(path))


def parse_toml(text: str, place: str) -> dict[str, Any]:
    """The content of a TOML text.

    Raises:
        GensegError: not TOML.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise _too_deep(place) from None
    except ValueError as error:  # TOMLDecodeError is one, as is the refusal of integers of thousands of digits
        raise GensegError(f"{place}: not TOML ({_first_line(error)})") from None


def parse_setting(text: str) -> Any:
    """The value of `--set key=VALUE`: a TOML value, or the text as it stands.

    >>> parse_setting("3"), parse_setting("[1, 2]"), parse_setting("bf16")
    (3, [1, 2], 'bf16')
    """
    try:
        found = parse_toml(f"value = {text}", "")
    except GensegError:
        return text
    return found["value"] if found.keys() == {"value"} else text  # a line break in the text is no second setting


def invalid(error: ValidationError, place: str, *, hint: str = "", code: ExitCode = ExitCode.USAGE) -> GensegError:
    """The first thing that pydantic found wrong, as one line: place, key, what is wrong, and what was found."""
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    found = "" if first["type"] == "missing" else f", {excerpt(first['input'])} found"
    return GensegError(f"{place}: {key}: {message}{found}", hint=hint, code=code)


def excerpt(value: Any, length: int = 60) -> str:
    """A value as an error shows it, cut to a length."""
    try:
        shown = repr(value[: length + 1] if isinstance(value, str | bytes | list) else value)
    except (RecursionError, ValueError):  # nested too deeply, or a number of thousands of digits
        shown = json_type(value)
    return shown if len(shown) <= length else f"{shown[:length]}…"


def json_type(value: Any) -> str:
    """What JSON calls the type of a value.

    >>> json_type(True), json_type(1), json_type(1.5), json_type(None), json_type([]), json_type({}), json_type("")
    ('true or false', 'a number', 'a number', 'null', 'a list', 'an object', 'a text')
    """
    names = ((bool, "true or false"), (int | float, "a number"), (str, "a text"), (list, "a list"), (dict, "an object"))
    return next((name for kind, name in names if isinstance(value, kind)), "null")


# ---------------------------------------------------------------- what orjson refuses


class _DuplicateKeyError(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _DuplicateKeyError(key)
        found[key] = value
    return found


def _integer(digits: str) -> int | float:
    value = int(digits) if len(digits) <= 20 else float(digits)
    return value if -_INT64 <= value < 2 * _INT64 else float(value)


def _parse_leniently(content: bytes | str, place: str, refused: ValueError, *, hint: str, unique: bool) -> Any:
    """Python's parser, for what orjson refuses: NaN and Infinity."""
    try:
        value = json.loads(content, parse_int=_integer, object_pairs_hook=_unique if unique else None)
        orjson.dumps(value)
    except _DuplicateKeyError as error:
        raise GensegError(f"{place}: the key {error.args[0]!r} stands twice in one object", hint=hint) from None
    except RecursionError:
        raise _too_deep(place, hint) from None
    except TypeError as error:
        if "ecursion" in str(error):
            raise _too_deep(place, hint) from None
        raise GensegError(f"{place}: holds text that is not Unicode (a lone surrogate)", hint=hint) from None
    except ValueError:  # not JSON by either parser; orjson's words say where
        raise GensegError(f"{place}: not JSON ({_first_line(refused)})", hint=hint) from None
    return value


def _lines(lines: Iterable[bytes], name: str, *, unique: bool) -> Iterator[Line]:
    for number, line in enumerate(lines, start=1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        text = line.strip(b" \t\r\n")
        if not text:
            continue
        place = f"{name}:{number}"
        try:
            yield Line(place, parse_json(text, place, unique=unique))
        except GensegError as problem:
            yield Line(place, None, problem)


def _too_deep(place: str, hint: str = "") -> GensegError:
    return GensegError(f"{place}: brackets nest too deeply", hint=hint)


def _first_line(error: ValueError) -> str:
    return str(error).partition("\n")[0]
