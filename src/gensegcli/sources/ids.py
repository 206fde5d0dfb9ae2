"""Ids of pictures and objects, in the forms in which files spell them.

COCO numbers its pictures and objects. Tools that write COCO's form write other ids too: text (UUIDs), numbers as text,
whole floats (pandas), numbers beyond 63 bits. They all join annotations to pictures; the columns of a prepared set hold
those only that are numbers of at most 63 bits.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

Id = int | str
"""An id as it is compared: a number wherever it is one, however it is spelt, else text without blanks around."""

_INT64 = 1 << 63
_EXACT = 1 << 53
"""Beyond this a float is no longer exact: two ids might have become one."""
_NUMBER = re.compile(r"0|-?[1-9]\d*", re.ASCII)


def as_id(value: object) -> Id | None:
    """The id behind a value of a file; None for what is none: true, null, 1.5, a list, blank text.

    >>> as_id(785), as_id(785.0), as_id(" 785 "), as_id("9f1c-22"), as_id("007")
    (785, 785, 785, '9f1c-22', '007')
    >>> as_id(True), as_id(1.5), as_id(1e300), as_id(None), as_id("")
    (None, None, None, None, None)
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= _EXACT else None
    if isinstance(value, str):
        text = value.strip()
        return int(text) if len(text) <= 20 and _NUMBER.fullmatch(text) else text or None
    return None


def as_number(value: object) -> int | None:
    """The id as a column of 63 bits holds it; None for text and larger numbers.

    >>> as_number(785.0), as_number("785"), as_number("a"), as_number(2**63), as_number(True)
    (785, 785, None, None, None)
    """
    found = as_id(value)
    return found if isinstance(found, int) and -_INT64 <= found < _INT64 else None


def as_length(value: object) -> int | None:
    """A width or height in pixels, also spelt as text or as a whole float; None for what is none.

    >>> as_length(64), as_length("64"), as_length(64.0), as_length(0), as_length(-1), as_length("wide")
    (64, 64, 64, None, None, None)
    """
    found = as_number(value)
    return found if found is not None and 0 < found < 1 << 31 else None


def unknown_id(what: str, value: object) -> str:
    """What is wrong with a value that `as_id` or `as_number` refuses, as part of an error."""
    kind = {bool: "true or false", float: "a number", list: "a list", dict: "an object", type(None): "null"}
    shown = repr(value)
    return (
        f"{what} must be a whole number or a text, {kind.get(type(value), type(value).__name__)} found ({shown[:40]})"
    )


# ---------------------------------------------------------------- COCO's numbers of pictures

COCO_NUMBERS = 1_000_000
"""COCO's pictures have smaller numbers (the largest is 581,929), so that six of the twelve digits of a name are zero."""

_COCO_NAME = re.compile(r"(?:^|_)(\d{12})(?:_\d+)?$", re.ASCII)
_COCO_FOLDER = re.compile(r"(train|val|test)20(14|15|17)")
_WHOLE = re.compile(r"(\d+)(\.0+)?", re.ASCII)


def coco_image_id(name: str) -> int | None:
    """The COCO picture id in a file name of 2014 or 2017, None for other names.

    Twelve digits alone may be a time of day: the number is COCO's if it is in COCO's range, or if the name begins with
    COCO_ or lies in a folder of COCO's.

    >>> coco_image_id("COCO_train2014_000000000785.jpg"), coco_image_id("val2017/000000000785.jpg")
    (785, 785)
    >>> coco_image_id("COCO_train2014_000000000785_442619.jpg"), coco_image_id("785_o.jpg")
    (785, None)
    >>> coco_image_id("202311280657.jpg"), coco_image_id("cam_202311280657.jpg")
    (None, None)
    """
    path = PurePosixPath(name.strip().replace("\\", "/"))
    found = _COCO_NAME.search(path.stem)
    if found is None:
        return None
    number = int(found[1])
    in_folder = any(_COCO_FOLDER.fullmatch(part) for part in path.parts[:-1])
    return number if number < COCO_NUMBERS or "COCO_" in path.stem or in_folder else None


def coco_number(value: object) -> int | None:
    """The COCO picture id that a cell of a table names: a number (also as `785.0` or with blanks), or a file name.

    >>> coco_number(785), coco_number("785.0"), coco_number(" 785 "), coco_number("000000000785.jpg"), coco_number("a")
    (785, 785, 785, 785, None)
    >>> coco_number(202311280657), coco_number(True), coco_number(785.5)
    (None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value).strip()
    whole = _WHOLE.fullmatch(text)
    if whole is None:
        return coco_image_id(text)
    return int(whole[1]) if len(whole[1].lstrip("0")) <= 6 else None
